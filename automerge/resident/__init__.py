"""The weights of all sources where merging can reach them, what is known of them, and how a merged tensor is made."""

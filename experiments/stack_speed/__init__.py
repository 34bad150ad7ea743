"""What a stack costs before its first forward pass, and what keeping hidden states of shared prefixes could save."""

"""The model of the landscape: what a merge that was not tried would score, and how sure that is."""

"""Study: what random search and evolution find with the same number of evaluated items."""

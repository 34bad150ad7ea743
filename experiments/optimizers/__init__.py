"""Study: what the optimizers find with the same number of evaluated items, on merges of the embedded zoo."""

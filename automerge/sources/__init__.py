"""Sources: weights to merge from."""

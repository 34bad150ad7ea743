"""Tasks: sets of items with a way to score a model on each."""

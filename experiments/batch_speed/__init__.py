"""Study: what the choice of a batch of merges costs with three objectives."""

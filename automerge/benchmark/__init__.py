"""Surrogate benchmarks: what a log teaches about the landscape of merges, as LightGBM models in plain text."""

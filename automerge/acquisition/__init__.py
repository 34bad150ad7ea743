"""Acquisition: which of many merges to evaluate next, given a model of the landscape."""

"""Optimizers: propose what to evaluate next."""

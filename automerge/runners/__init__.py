"""Runners: have queries evaluated somewhere."""

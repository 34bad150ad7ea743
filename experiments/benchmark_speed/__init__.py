"""Seconds that an exported benchmark takes to load and to answer."""

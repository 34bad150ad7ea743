"""Studies of automerge, one folder each, run as `python -m experiments.NAME`."""

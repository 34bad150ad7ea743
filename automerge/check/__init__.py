"""What a run is told before it starts: faults of its settings, prompts and sources, and what it will cost."""

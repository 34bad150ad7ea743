"""Whether searched stacks with scales are, exported, the same models: per logit and per item."""

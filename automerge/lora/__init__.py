"""What a PEFT LoRA folder says, and which tensors of a base it changes."""

"""What is done to single tensors: formulas and the kernels that run them, tables of magnitudes, masks, angles."""

"""Study: how long optimizers think, at many trials and dimensions."""

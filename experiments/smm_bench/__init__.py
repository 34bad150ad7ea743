"""Study: benchmarks of merges of the embedded zoo, and SMM-Bench's comparison of optimizers on one of them."""

"""A benchmark as other libraries and benchmarks want to be asked, one a file."""

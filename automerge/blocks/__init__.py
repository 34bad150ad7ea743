"""Stacks of blocks: what a genotype of depth-wise integration says about the order of layers, as arrays of codes.

A position is a group of consecutive layers of the sources, a block what one source, or a fusion of all, has there. The
blocks of n stacks are an integer array of shape (n, n_free, max_blocks): for every free position the codes of its
blocks in order, 0 for none, k + 1 for source k, n_sources + 1 for the position's fusion.
"""

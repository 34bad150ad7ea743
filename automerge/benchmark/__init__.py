"""Surrogate benchmarks: what logs teach about the landscape of merges, as LightGBM models in plain text."""

from automerge.benchmark.benchmark import Answers, Benchmark, MeasuredReference, load

__all__ = ["Answers", "Benchmark", "MeasuredReference", "load"]

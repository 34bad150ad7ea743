"""Surrogate benchmarks: what logs teach about the landscape of merges, as LightGBM models in plain text."""

from automerge.benchmark.answers import Answers
from automerge.benchmark.benchmark import Benchmark, load
from automerge.benchmark.measured_reference import MeasuredReference

__all__ = ["Answers", "Benchmark", "MeasuredReference", "load"]

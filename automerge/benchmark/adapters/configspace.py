"""A benchmark behind ConfigSpace: its space with conditions, asked by Configuration.

::

    space = configspace(benchmark)
    query(benchmark, space.sample_configuration(10), n_items=50).values
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automerge.benchmark.answers import Answers
from automerge.benchmark.benchmark import Benchmark

if TYPE_CHECKING:
    from ConfigSpace import Configuration


def configspace(benchmark: Benchmark) -> Any:
    """The benchmark's space as a `ConfigSpace.ConfigurationSpace`, choices by name. Raises ImportError without it."""
    try:
        return benchmark.space.to_configspace()
    except ImportError as fault:
        raise ImportError(f"it needs ConfigSpace: pip install ConfigSpace ({fault})") from fault


def query(benchmark: Benchmark, configurations: Configuration | Sequence[Configuration], **options: Any) -> Answers:
    """The answers of `Benchmark.query`, whose options it takes, to one configuration or several.

    Parameters that are not active are at their defaults.
    """
    several = configurations if isinstance(configurations, Sequence) else [configurations]
    return benchmark.query([dict(configuration) for configuration in several], **options)

"""Which combinations of the suites are left to `make test-slow`."""

from __future__ import annotations

import pytest

QUICK = ("evolution", "random_search")
"""Optimizers that run on every problem in the fast tests; the others run there on the first and the last."""

DEAR = ("qnehvi", "smac", "smac, flat", "bayes_evolution, raw and whole")
"""Optimizers that think for seconds and have tests of their own, and variants: they run in the slow tests only."""

FURTHER = {"bayes_evolution": ("dis, prune", "smm_dfs")}
"""Problems by optimizer that the fast tests leave out; for those not named here, all but the first and the last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow what the fast tests leave out."""
    for item in items:
        if item.path.name != "test_optimizers.py" or item.path.parent.name != "conformance":
            continue
        values = getattr(item, "callspec", None)
        parameters = {} if values is None else values.params
        optimizer = parameters.get("build", parameters.get("optimizer"))
        problem = parameters.get("problem", parameters.get("name"))
        if optimizer in QUICK or optimizer is None:
            continue
        left_out = problem in FURTHER.get(optimizer, ("dis", "dis, prune", "smm_dfs"))
        if optimizer in DEAR or left_out:
            item.add_marker(pytest.mark.slow)

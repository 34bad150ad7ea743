"""Stacks as runs of layers."""

from __future__ import annotations

from dataclasses import replace

from automerge.recipe import Fusion, Input, Recipe
from automerge.report.runs import Run, runs
from tests.report.recipes import OUTER, copied, mixed, pruned_fusions, scaled_stack, stacked


def test_layers_in_order_are_one_run() -> None:
    recipe = stacked([("math", 0), ("math", 1), ("math", 1), ("math", 2), ("code", 3), ("math", 4)])
    assert [(run.outputs, run.reads) for run in runs(recipe)] == [
        ("0-1", ("math 0-1",)),
        ("2-3", ("math 1-2",)),
        ("4", ("code 3",)),
        ("5", ("math 4",)),
    ]


def test_a_change_of_scale_or_gain_ends_a_run() -> None:
    """The residual stream is scaled by .5 after layer 2 and by 1.6 after layer 5: gains of 2 and 1.25."""
    assert [(run.outputs, run.scale, run.gain) for run in runs(scaled_stack())] == [
        ("0-1", "1", "1"),
        ("2", "0.5", "1"),
        ("3-4", "1", "2"),
        ("5", "1.6", "2"),
        ("6", "1", "1.25"),
        ("7", "1", "1.25"),
        ("8", "1", "1.25"),
    ]


def test_fusions_tell_methods_weights_and_parameters() -> None:
    assert [run.reads for run in runs(pruned_fusions())] == [
        ("math 0",),
        ("linear: math 1 (3), code 1 (1)",),
        ("ties: math 4 (0.5), code 4 (0.4), chat 4 (0.6), sum 1.5, density 0.5",),
        ("code 5",),
        ("math 7",),
    ]
    both = Recipe((mixed("ties", 2, math=1, code=0.5), mixed("ties", 3, math=1, code=0.5)), OUTER)
    assert runs(both) == [Run("0-1", ("ties: math 2-3 (1), code 2-3 (0.5), sum 1.5, density 0.5",), "1", "1")]


def test_components_that_read_other_layers_are_told_apart() -> None:
    layer = copied("math", 4)
    other = Fusion("passthrough", (Input("code", 2),))
    split = replace(layer, components=(layer.components[0], ("mlp", other), layer.components[2]))
    assert runs(Recipe((split,), OUTER))[0].reads == ("attention, other: math 4", "mlp: code 2")


def test_scaled_mlp_branches_are_named() -> None:
    recipe = Recipe((copied("math", 0, 1.0), copied("math", 1, 0.5)), OUTER, "branch_mlp")
    assert [(run.scale, run.gain) for run in runs(recipe)] == [("1", "1"), ("0.5", "mlp 0.5")]

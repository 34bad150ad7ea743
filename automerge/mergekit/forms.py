"""How mergekit's configuration writes each method of automerge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Number(NamedTuple):
    """A parameter of a method: its name in mergekit, mergekit's default, and whether all inputs share it there."""

    name: str
    default: float
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """How mergekit writes a method.

    `weights`: each input has one, and 0 leaves it out; or two inputs are mixed by `t`; or two by weights; or all count
    alike. `based` methods measure from `base_model`. `numbers` are the parameters by automerge's names. `normalize`
    and `rescale` are mergekit's defaults of these options, None where there are none; methods that `elect` signs
    normalize entry by entry. Options in `fixed` have only this value in automerge. `n_inputs` are the least and the
    largest number of inputs, the base of task vectors not counted.
    """

    weights: Literal["each", "t", "pair", "equal"]
    based: bool = True
    numbers: Mapping[str, Number] = field(default_factory=dict)
    normalize: bool | None = None
    elects: bool = False
    rescale: bool | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    n_inputs: tuple[int, int | None] = (1, None)

    def count_fault(self, n: int) -> str | None:
        """What is wrong with this number of inputs, None if nothing is."""
        least, most = self.n_inputs
        if n >= least and (most is None or n <= most):
            return None
        return f"takes {least}{' or more' if most is None else ''} inputs, got {n}"


DENSITY = {"density": Number("density", 1.0)}

FORMS: Mapping[str, Form] = {
    "linear": Form("each", based=False),
    "slerp": Form("t", based=False, n_inputs=(2, 2)),
    "karcher": Form("equal", based=False, fixed={"max_iter": 10, "tol": 1e-5}),
    "passthrough": Form("equal", based=False, n_inputs=(1, 1)),
    "nuslerp": Form("pair", fixed={"nuslerp_flatten": True, "nuslerp_row_wise": False}, n_inputs=(2, 2)),
    "model_stock": Form("equal", fixed={"filter_wise": False}, n_inputs=(2, None)),
    "sce": Form("equal", numbers={"density": Number("select_topk", 1.0, shared=True)}),
    "task_arithmetic": Form("each", normalize=False),
    "ties": Form("each", numbers=DENSITY, normalize=True, elects=True, fixed={"rescale": False}),
    "breadcrumbs": Form(
        "each", numbers={**DENSITY, "gamma": Number("gamma", 0.01)}, normalize=False, fixed={"rescale": False}
    ),
    "dare_linear": Form("each", numbers=DENSITY, normalize=False, rescale=True),
    "dare_ties": Form("each", numbers=DENSITY, normalize=False, elects=True, rescale=True),
    "della": Form(
        "each",
        numbers={**DENSITY, "epsilon": Number("epsilon", 0.15)},
        normalize=True,
        elects=True,
        rescale=True,
    ),
}
"""The methods that both know, by the name that both use."""

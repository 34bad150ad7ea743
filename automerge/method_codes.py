"""The methods of a space as the codes of a gene, with what sets them apart as arrays by code.

So whole columns of genotypes are asked at once::

    methods = MethodCodes(("linear", "ties"), sources=("math", "code"))
    methods.sparse[X[:, 0].astype(int)]   # in which rows the method drops entries

Methods are given by name, or as they are by readers that only ask for traits: the modules of the methods import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from automerge import methods as methods_folder
from automerge.protocols import Elementwise, Method, Parameter, WeightedSum


class MethodCodes:
    """The methods that say something of their own about these sources, in order; the codes are their positions.

    `known` and `parameters` hold the methods and their parameters by name, `codes` the codes. `plain` is the method by
    which a source as it is is written, `vector` that of the base as it is, None without a method that starts from the
    base; `flagged` are those of which a landscape model has to know that they are used.

    Arrays of shape (n_methods,) tell of each method whether only the `ratio` of its weights counts, whether they count
    not at all (`equal`), whether it joins `pairs`, whether it can drop entries (`sparse`), and which parameters it
    `takes`, by name.
    """

    def __init__(self, methods: Sequence[str | Method], *, sources: Sequence[str]) -> None:
        """Raises ValueError for an unknown method, and where none of them is left for the one source."""
        known = {method_name(each): methods_folder.load(each) if isinstance(each, str) else each for each in methods}
        if len(sources) == 1:
            # Of one source, all that join several by angle or ratio are the source itself.
            known = {name: method for name, method in known.items() if is_strong(method) or name == "linear"}
        if not known:
            named = ", ".join(map(method_name, methods))
            raise ValueError(
                f"the methods {named} join several sources, but there is only {sources[0]}; add linear or "
                "task_arithmetic to space.methods"
            )
        self.known: Mapping[str, Method] = known
        self.codes: Mapping[str, int] = {name: code for code, name in enumerate(known)}
        self.parameters: Mapping[str, Parameter] = {p.name: p for method in known.values() for p in method.parameters}
        self.ratio = self._which(lambda method: not is_strong(method))
        self.equal = self._which(lambda method: method.weighting == "equal")
        self.pairs = self._which(lambda method: method.max_inputs == 2)
        self.takes: Mapping[str, NDArray[np.bool_]] = {name: self._taking(name) for name in self.parameters}
        self.sparse = self._taking("density")
        # A source as it is has one form: by a method that drops nothing, if there is one.
        self.plain = next((name for name, code in self.codes.items() if not self.sparse[code]), next(iter(known)))
        self.vector = next((name for name, method in known.items() if is_strong(method)), None)
        # Weights alone tell what plain sums do.
        self.flagged = tuple(
            name for name, method in known.items() if method.parameters or (method.vectors and not is_strong(method))
        )

    def _which(self, has: Callable[[Method], bool]) -> NDArray[np.bool_]:
        return np.array([has(method) for method in self.known.values()])

    def _taking(self, parameter: str) -> NDArray[np.bool_]:
        return self._which(lambda method: parameter in {p.name for p in method.parameters})


def method_name(method: str | Method) -> str:
    """The name of a method that is given by it, or as it is."""
    return method.name if isinstance(method, WeightedSum | Elementwise) else method


def is_strong(method: Method) -> bool:
    """Whether each weight counts by itself: the method adds task vectors to the base."""
    return method.weighting == "strength"

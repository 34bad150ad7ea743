"""What a benchmark is asked about, in any form, as canonical genotypes, with every fault of it told.

A model is a mapping from the names of genes to values, choices by name, or a genotype, a number per gene.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge.protocols import Genotypes, Space

Config = Mapping[str, Any]
"""A model by the names of genes; genes without a value are at their defaults."""

Configs = Config | Sequence[Config] | NDArray[np.float64]
"""One model or several: mappings, or genotypes of shape (n_genes,) or (n, n_genes)."""

LISTED = 3
"""Most faults, and names, that a message lists."""

SLACK = 1e-9
"""How far a number may lie outside its bounds: rounding, no more."""


class ConfigReader:
    """Reads configurations of a space; `choices` are the names of codes by gene, empty for a real gene."""

    def __init__(self, space: Space, choices: Mapping[str, Sequence[str] | None]) -> None:
        """Raises ValueError if there are not as many names as codes."""
        self._space = space
        self._genes = {gene.name: gene for gene in space.genes}
        self.choices = {name: tuple(choices.get(name) or ()) for name in self._genes}
        odd = [gene.name for gene in space.genes if len(self.choices[gene.name]) != gene.n_choices]
        if odd:
            raise ValueError(f"expected a name for every choice of {', '.join(odd[:LISTED])}; export the runs again")
        self._lower = np.array([gene.lower for gene in space.genes]) - SLACK
        self._upper = np.array([gene.upper for gene in space.genes]) + SLACK
        self._is_code = np.array([gene.n_choices > 0 for gene in space.genes])

    def genotypes(self, configs: Configs) -> Genotypes:
        """The canonical genotypes, shape (n, n_genes).

        Raises ValueError for unknown names and choices, values out of range and arrays of another shape.
        """
        if isinstance(configs, np.ndarray):
            return self._space.repair(self._checked(configs))
        rows: list[Any] = [configs]
        if isinstance(configs, Iterable) and not isinstance(configs, Mapping):
            rows = list(configs)
        return np.array([self._genotype(row) for row in rows]).reshape(len(rows), len(self._genes))

    def named(self, genotype: NDArray[np.float64]) -> dict[str, Any]:
        """The configuration of a genotype of shape (n_genes,): every gene by name, choices by name."""
        return {
            name: self.choices[name][int(value)] if self.choices[name] else float(value)
            for name, value in zip(self._genes, genotype, strict=True)
        }

    def _checked(self, X: NDArray[Any]) -> Genotypes:
        """Genotypes of shape (n, n_genes) within bounds."""
        n_genes = len(self._genes)
        if X.ndim not in (1, 2) or X.shape[-1] != n_genes or X.dtype.kind not in "fiu":
            raise ValueError(
                f"expected genotypes of shape ({n_genes},) or (n, {n_genes}), or mappings by the names of genes, got "
                f"an array of shape {X.shape} and type {X.dtype}"
            )
        X = np.atleast_2d(np.asarray(X, dtype=np.float64))
        # Written so that NaN is wrong too.
        right = (self._lower <= X) & (self._upper >= X)
        if self._is_code.any():
            codes = X[:, self._is_code]
            right[:, self._is_code] &= codes == np.floor(codes)
        if not right.all():
            names = list(self._genes)
            places = zip(*np.nonzero(~right), strict=True)
            self._refuse([self._fault(names[gene], float(X[row, gene])) for row, gene in places])
        return X

    def _genotype(self, config: Config) -> NDArray[np.float64]:
        if not isinstance(config, Mapping):
            raise ValueError(
                f"expected a mapping by the names of genes, or an array of genotypes, got {type(config).__name__}; "
                "make several genotypes one array"
            )
        unknown = [name for name in config if name not in self._genes]
        found = [f"unknown gene {name!r}, names look like {', '.join([*self._genes][:LISTED])}" for name in unknown]
        found += [self._fault(name, value) for name, value in config.items() if self._is_wrong(name, value)]
        self._refuse(found)
        return self._space.genotype(config)

    def _is_wrong(self, name: str, value: Any) -> bool:
        if name not in self._genes:
            return False
        if self.choices[name]:
            return value not in self.choices[name]
        gene = self._genes[name]
        return not (isinstance(value, Real) and gene.lower - SLACK <= float(value) <= gene.upper + SLACK)

    def _fault(self, name: str, value: Any) -> str:
        gene, choices = self._genes[name], self.choices[name]
        if not gene.n_choices:
            return f"{name}: expected a number in [{gene.lower:g}, {gene.upper:g}], got {value!r}"
        codes = isinstance(value, Real) and not math.isnan(float(value))
        names = ", ".join(f"{code} {choice}" if codes else choice for code, choice in enumerate(choices))
        return f"{name}: expected one of {names}, got {value!r}"

    def _refuse(self, found: Sequence[str]) -> None:
        """Raises ValueError with some of the faults, if there are any."""
        if found:
            more = f"; and {len(found) - LISTED} more" if len(found) > LISTED else ""
            raise ValueError("; ".join(found[:LISTED]) + more)

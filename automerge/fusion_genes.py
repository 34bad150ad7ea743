"""The genes that say how one part of a model is fused: a method, one weight per source, the methods' parameters.

Spaces differ in what their parts are; a part fused from several sources has these genes in all of them::

    part = FusionGenes(sources=("math", "code"), methods=("linear", "ties"), max_weight=1.5)
    genes = [*part.genes("0.mlp", 0, "mlp"), *part.genes("outer", -1, "outer")]
    X = np.r_[part.sample(rng), part.sample(rng)][None]
    for first in (0, part.size):
        part.repair(X, first)
    part.fusion(X[0], first=part.size, layer=None)   # Fusion("ties", (Input("math", None, 0.7), ...), ...)

Values are canonical after `repair`: genes that do not act are at their defaults, weights that only act by their ratio
add up to 1, so equal fusions have equal genes, but for those that two methods make of the same numbers: linear and task
arithmetic with weights that add up to 1, say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from automerge import methods as methods_folder
from automerge.encoding import PASSTHROUGH, FusionReader, Setting
from automerge.method_codes import MethodCodes, is_strong, method_name
from automerge.options import list_faults, number_faults, strength_faults
from automerge.protocols import Gene, Genotypes, Method
from automerge.recipe import BASE, Fusion, Input

DECIMALS = 4
"""Real genes are rounded to this many decimals; finer differences do not change what a model can do."""

JOINS = 0.5
"""Where weights do not count, the sources take part whose weight is at least this share of the largest."""

ROWS = 16384
"""Rows that are repaired together: their genes stay in the processor's cache."""

ABSENT = {"density": 1.0}
"""What features say of a parameter under a method that has none: nothing is dropped. Other parameters are 0 then."""


def option_faults(
    *, sources: Sequence[str], methods: Sequence[str | Method], max_weight: float, strengths: Sequence[float] = ()
) -> list[str]:
    """Every fault of a space's options for its fused parts, as messages; empty if there is none.

    `strengths` are the weights of uniform merges.
    """
    faults = list_faults(methods=methods)
    named = () if faults else tuple(map(method_name, methods))
    if not sources or not (faults or named):
        faults.append("a space needs at least one source besides the base, and one method")
    known = tuple(name for name in methods_folder.names() if name != PASSTHROUGH)
    unknown = [method for method in named if method in methods and method not in known]
    faults += [f"unknown method {method!r}, known are {known}" for method in unknown]
    if any(named.count(method) > 1 for method in named):
        faults.append(f"each method can be named once, got {list(named)}")
    wrong = number_faults(max_weight=max_weight) + strength_faults(strengths)
    if not wrong and max([1.0, *strengths]) > max_weight:
        wrong.append(
            "max_weight must be >= 1, so that every source is a model of the space, and strengths must lie in "
            f"(0, max_weight], got max_weight {max_weight} and strengths {list(strengths)}"
        )
    return faults + wrong


class ConfigSpaceParts(NamedTuple):
    """What a `ConfigSpace.ConfigurationSpace` is made of.

    `free` are hyperparameters that always exist, the method and the weights; `dependent` are the parameters and the
    conditions by which each exists only under methods that have it.
    """

    free: list[Any]
    dependent: list[Any]


class FusionGenes:
    """The genes of one fused part, as operations on the `size` columns of genotypes from `first` on.

    All parts of a space have equally many genes, so that a part is the position of its first gene. The order is the
    method, the weights of the sources, the parameters that any of the methods has.

    `sources` and `methods` are those in use: of one source, methods that join several sources are left out. `known` and
    `parameters` hold the methods and their parameters by name, `codes` the value of the method's gene. `plain` is the
    method by which a source as it is is written, `vector` that of the base as it is, None without a method that starts
    from the base.
    """

    def __init__(self, *, sources: Sequence[str], methods: Sequence[str | Method], max_weight: float) -> None:
        """Raises ValueError listing every fault of the arguments."""
        faults = option_faults(sources=sources, methods=methods, max_weight=max_weight)
        if faults:
            raise ValueError("fused parts cannot have these genes: " + "; ".join(faults))
        self._table = MethodCodes(methods, sources=sources)
        self.sources = tuple(sources)
        self.max_weight = max_weight
        self.methods = tuple(self._table.known)
        self.known, self.codes, self.parameters = self._table.known, self._table.codes, self._table.parameters
        self.plain, self.vector = self._table.plain, self._table.vector
        self._weights = slice(1, 1 + len(sources))
        self._positions = {name: 1 + len(sources) + k for k, name in enumerate(self.parameters)}
        self._genes = self._prototypes()
        self._lower = np.array([gene.lower for gene in self._genes], dtype=np.float64)
        self._upper = np.array([gene.upper for gene in self._genes], dtype=np.float64)
        self._default = np.array([gene.default for gene in self._genes])

    @property
    def size(self) -> int:
        """Number of genes of a part."""
        return len(self._genes)

    def genes(self, prefix: str, depth: int, component: str) -> list[Gene]:
        """The genes of a part, named `PREFIX.method`, `PREFIX.SOURCE` and `PREFIX.PARAMETER`."""
        return [replace(gene, name=f"{prefix}.{gene.name}", depth=depth, component=component) for gene in self._genes]

    def sample(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random values of shape (size,), uniform within bounds; not repaired."""
        values = rng.uniform(self._lower, self._upper)
        values[0] = rng.integers(len(self.methods))
        return values

    def repair(self, X: Genotypes, first: int) -> None:
        """Makes the part canonical in every row of X, in place; a second time changes nothing."""
        for start in range(0, len(X), ROWS):
            self._repair(X[start : start + ROWS, first : first + self.size])

    def active(self, X: Genotypes, first: int) -> NDArray[np.bool_]:
        """Which genes of the part act in canonical genotypes, shape (n, size): some other value gives another fusion.

        Every value of a gene that does not act is repaired to the one that it has.
        """
        genes = X[:, first : first + self.size].T
        codes, table = _codes(genes), self._table
        source, base = self._is_source(genes), self._is_base(genes)
        dropping = table.sparse & ~table.ratio
        found = np.ones(genes.shape, dtype=bool)
        # All methods make the same of one source, and those that start from the base of no weights.
        found[0] = np.where(base, table.ratio.any(), ~source)
        if len(self.sources) == 1:
            found[self._weights] = ~table.ratio[codes]
        for name, position in self._positions.items():
            found[position] = table.takes[name][codes] & ~base & ~source
        if dropping.any():
            # But for those that leave entries of a source out, unless its density is 1.
            density = self._positions["density"]
            found[0] |= source & (genes[density] < 1)
            found[density] |= source & dropping[codes]
        found[0] &= len(self.methods) > 1
        return found.T

    def fusion(self, x: NDArray[np.float64], first: int, layer: int | None) -> Fusion:
        """The fusion of a part that reads this layer of the sources, of one canonical genotype of shape (n_genes,).

        It is a passthrough where the part is one source, or the base, as it is.
        """
        part = x[first : first + self.size]
        method = self.methods[int(part[0])]
        inputs = tuple(
            Input(source, layer, float(weight))
            for source, weight in zip(self.sources, part[self._weights], strict=True)
            if weight > 0
        )
        if not inputs:
            return Fusion(PASSTHROUGH, (Input(BASE, layer),))
        if len(inputs) == 1 and inputs[0].weight == 1 and not self._drops(part[:, None])[0]:
            return Fusion(PASSTHROUGH, (Input(inputs[0].source, layer),))
        taken = [(name, at) for name, at in self._positions.items() if self._table.takes[name][int(part[0])]]
        return Fusion(method, inputs, tuple((name, float(part[at])) for name, at in taken))

    def reader(self) -> FusionReader:
        """A reader, without faults so far, that gives fusions as settings for `write`."""
        return FusionReader(
            sources=self.sources,
            methods=self.known,
            bounds={name: (parameter.lower, parameter.upper) for name, parameter in self.parameters.items()},
            max_weight=self.max_weight,
            decimals=DECIMALS,
            has_base=self.vector is not None,
        )

    def write(self, x: NDArray[np.float64], first: int, setting: Setting) -> None:
        """Writes a setting into the part of a genotype of shape (n_genes,), in place, which is then to be repaired.

        Parameters that the setting does not name keep their values.
        """
        part = x[first : first + self.size]
        method, parameters = setting.method, dict(setting.parameters)
        if method == PASSTHROUGH:
            method = self.plain if any(setting.weights) or self.vector is None else self.vector
            parameters = {"density": 1.0} if "density" in self._positions else {}
        part[0] = self.codes[method]
        part[self._weights] = setting.weights
        for name, value in parameters.items():
            part[self._positions[name]] = value

    def source(self, k: int) -> NDArray[np.float64]:
        """The canonical values, shape (size,), of the source at position k as it is."""
        return self._values(PASSTHROUGH, np.eye(len(self.sources))[k])

    def base(self) -> NDArray[np.float64] | None:
        """The canonical values, shape (size,), of the base as it is; None without a method that starts from it."""
        return None if self.vector is None else self._values(PASSTHROUGH, np.zeros(len(self.sources)))

    def uniform(self, strengths: Sequence[float]) -> Mapping[str, NDArray[np.float64]]:
        """The canonical values, shape (size,), of merges with one weight for all sources, by the name of the reference.

        Methods by whose weights only the ratio counts come first, as `METHOD`, then the others as `METHOD STRENGTH`.
        """
        n = len(self.sources)
        found = {
            name: self._values(name, np.full(n, 1 / n))
            for name, method in self.known.items()
            if not is_strong(method) and n > 1 and (method.max_inputs != 2 or n == 2)
        }
        for name, method in self.known.items():
            if is_strong(method):
                found |= {f"{name} {strength:g}": self._values(name, np.full(n, strength)) for strength in strengths}
        return found

    def feature_names(self, prefix: str) -> tuple[str, ...]:
        """Names of the columns of `features`: weights by source, parameters, and a flag for methods that need one."""
        return tuple(f"{prefix}.{name}" for name in (*self.sources, *self.parameters, *self._table.flagged))

    def features(self, X: Genotypes, first: int) -> NDArray[np.float64]:
        """Effective weights instead of codes, of canonical genotypes; shape (n, n_features).

        A density of 1 means that nothing is dropped.
        """
        genes = X[:, first : first + self.size].T
        codes = _codes(genes)
        n = len(self.sources)
        found = np.empty((len(X), n + len(self._positions) + len(self._table.flagged)))
        found[:, :n] = genes[self._weights].T
        for column, (name, position) in enumerate(self._positions.items(), start=n):
            found[:, column] = np.where(self._table.takes[name][codes], genes[position], ABSENT.get(name, 0.0))
        for column, name in enumerate(self._table.flagged, start=n + len(self._positions)):
            found[:, column] = codes == self.codes[name]
        return found

    def configspace_parts(self, prefix: str) -> ConfigSpaceParts:
        """What these genes add to a `ConfigSpace.ConfigurationSpace`.

        Where the caller puts conditions on the method and the weights, the parameters go with their method.
        """
        from ConfigSpace import Categorical, Float, InCondition  # noqa: PLC0415 (optional consumer)

        method = Categorical(f"{prefix}.method", self.methods, default=self.methods[0])
        reals = [
            Float(f"{prefix}.{gene.name}", (gene.lower, gene.upper), default=gene.default) for gene in self._genes[1:]
        ]
        n = len(self.sources)
        conditions = [
            InCondition(parameter, method, [name for name, code in self.codes.items() if takes[code]])
            for takes, parameter in zip(self._table.takes.values(), reals[n:], strict=True)
        ]
        return ConfigSpaceParts([method, *reals[:n]], [*reals[n:], *conditions])

    def _prototypes(self) -> list[Gene]:
        last_code = len(self.methods) - 1
        genes = [Gene("method", 0, "", "method", 0, last_code, len(self.methods))]
        share = 1 / len(self.sources)
        genes += [Gene(name, 0, "", f"weight:{name}", 0.0, self.max_weight, 0, share) for name in self.sources]
        return genes + [Gene(p.name, 0, "", p.name, p.lower, p.upper, 0, p.default) for p in self.parameters.values()]

    def _repair(self, part: Genotypes) -> None:
        """Makes genes of shape (n, size) canonical, in place."""
        genes = np.array(part.T, order="C")  # gene by gene: sums over a few numbers, row by row, are slow
        np.clip(genes, self._lower[:, None], self._upper[:, None], out=genes)
        genes[0] = np.round(genes[0])
        genes[1:] = np.round(genes[1:], DECIMALS)
        genes += 0.0  # makes -0.0, of other bytes, 0.0
        weights = genes[self._weights]
        self._repair_weights(weights, _codes(genes))
        # One source alone, by ratio or as its whole task vector, is that source whatever the method says.
        source, base = self._is_source(genes), self._is_base(genes)
        np.copyto(weights, weights > 0, where=source)
        genes[0, source] = self.codes[self.plain]
        if self.vector is not None:
            genes[0, base] = self.codes[self.vector]
        codes = _codes(genes)
        for name, position in self._positions.items():
            inactive = ~self._table.takes[name][codes] | base | source
            genes[position, inactive] = self._default[position]
        if "density" in self._positions:
            # Under a method that drops entries, only a density of 1 gives the source whole.
            genes[self._positions["density"], source & self._table.sparse[codes]] = 1.0
        part[:] = genes.T

    def _repair_weights(self, weights: NDArray[np.float64], codes: NDArray[np.int64]) -> None:
        """Makes weights of shape (n_sources, n) canonical, in place."""
        ratio = self._table.ratio[codes]
        weights[:, ratio & (weights.sum(axis=0) == 0)] = round(1 / len(self.sources), DECIMALS)
        if self._table.equal.any():
            joins = weights >= JOINS * weights.max(axis=0)
            np.copyto(weights, joins, where=self._table.equal[codes])
        if self._table.pairs.any():
            # Methods that join two sources take those of the largest weights.
            rows = np.flatnonzero(self._table.pairs[codes])
            order = np.argsort(-weights[:, rows], axis=0, kind="stable")
            weights[order[2:], rows] = 0.0
        # Weights that add up to 1 but for rounding stay as they are, so that repairing twice changes nothing.
        total = weights.sum(axis=0)
        off = ratio & (np.abs(total - 1) > 0.51 * len(self.sources) * 10.0**-DECIMALS)
        weights[:, off] = np.round(weights[:, off] / total[off], DECIMALS)

    def _is_source(self, genes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether one source as it is comes out, of genes of shape (size, n) with canonical weights; shape (n,)."""
        weights = genes[self._weights]
        alone = np.count_nonzero(weights, axis=0) == 1
        whole = (weights.max(axis=0) == 1) & ~self._drops(genes)
        return np.asarray(alone & (self._table.ratio[_codes(genes)] | whole))

    def _is_base(self, genes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the base as it is comes out, of genes of shape (size, n); shape (n,)."""
        return ~self._table.ratio[_codes(genes)] & ~genes[self._weights].any(axis=0)

    def _drops(self, genes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether entries of task vectors are left out, of genes of shape (size, n); shape (n,)."""
        sparse = self._table.sparse[_codes(genes)]
        return sparse & (genes[self._positions["density"]] < 1) if self._table.sparse.any() else sparse

    def _values(self, method: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        x = self._default.copy()
        self.write(x, 0, Setting(method, tuple(weights)))
        self.repair(x[None], 0)
        return x


def _codes(genes: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.asarray(genes[0].astype(np.int64))

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automerge import methods as methods_folder
from automerge.encoding import PASSTHROUGH, FusionReader, Setting
from automerge.method_codes import MethodCodes, is_strong
from automerge.options import list_faults, number_faults, strength_faults
from automerge.protocols import Gene, Genotypes
from automerge.recipe import BASE, Fusion, Input

DECIMALS = 4
"""Real genes are rounded to this many decimals; finer differences do not change what a model can do."""

JOINS = 0.5
"""Where weights do not count, the sources take part whose weight is at least this share of the largest."""

ABSENT = {"density": 1.0}
"""What features say of a parameter under a method that has none: nothing is dropped. Other parameters are 0 then."""


def option_faults(
    *, sources: Sequence[str], methods: Sequence[str], max_weight: float, strengths: Sequence[float] = ()
) -> list[str]:
    """Every fault of a space's options for its fused parts, as messages; empty if there is none.

    `strengths` are the weights of uniform merges.
    """
    faults = list_faults(methods=methods)
    named = () if faults else tuple(methods)
    if not sources or not (faults or named):
        faults.append("a space needs at least one source besides the base, and one method")
    known = tuple(name for name in methods_folder.names() if name != PASSTHROUGH)
    faults += [f"unknown method {method!r}, known are {known}" for method in named if method not in known]
    if any(named.count(method) > 1 for method in named):
        faults.append(f"each method can be named once, got {list(named)}")
    wrong = number_faults(max_weight=max_weight) + strength_faults(strengths)
    if not wrong and max([1.0, *strengths]) > max_weight:
        wrong.append(
            "max_weight must be >= 1, so that every source is a model of the space, and strengths must lie in "
            f"(0, max_weight], got max_weight {max_weight} and strengths {list(strengths)}"
        )
    return faults + wrong


class FusionGenes:
    """The genes of one fused part, as operations on the `size` columns of genotypes from `first` on.

    All parts of a space have equally many genes, so that a part is the position of its first gene. The order is the
    method, the weights of the sources, the parameters that any of the methods has.

    `sources` and `methods` are those in use: of one source, methods that join several sources are left out. `known` and
    `parameters` hold the methods and their parameters by name, `codes` the value of the method's gene. `plain` is the
    method by which a source as it is is written, `vector` that of the base as it is, None without a method that starts
    from the base.
    """

    def __init__(self, *, sources: Sequence[str], methods: Sequence[str], max_weight: float) -> None:
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
        part = X[:, first : first + self.size]
        part[:] = np.clip(part, self._lower, self._upper)
        part[:, 0] = np.round(part[:, 0])
        part[:, 1:] = np.round(part[:, 1:], DECIMALS)
        part += 0.0  # makes -0.0, of other bytes, 0.0
        weights = part[:, self._weights]
        codes = _codes(part)
        ratio = self._table.ratio[codes]
        self._repair_weights(weights, codes)
        # One source alone, by ratio or as its whole task vector, is that source whatever the method says.
        alone = (weights > 0).sum(axis=1) == 1
        whole = alone & (weights.max(axis=1) == 1) & ~self._drops(part)
        source = (alone & ratio) | whole
        weights[source] = weights[source] > 0
        part[source, 0] = self.codes[self.plain]
        base = ~ratio & (weights.max(axis=1) == 0)
        if self.vector is not None:
            part[base, 0] = self.codes[self.vector]
        codes = _codes(part)
        for name, position in self._positions.items():
            inactive = ~self._table.takes[name][codes] | base | source
            part[inactive, position] = self._default[position]
        if "density" in self._positions:
            # Under a method that drops entries, only a density of 1 gives the source whole.
            part[source & self._table.sparse[codes], self._positions["density"]] = 1.0

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
        if len(inputs) == 1 and inputs[0].weight == 1 and not self._drops(part[None])[0]:
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
        part = X[:, first : first + self.size]
        codes = _codes(part)
        columns = [part[:, self._weights]]
        for name, position in self._positions.items():
            columns.append(np.where(self._table.takes[name][codes], part[:, position], ABSENT.get(name, 0.0))[:, None])
        columns.extend((codes == self.codes[name]).astype(np.float64)[:, None] for name in self._table.flagged)
        return np.concatenate(columns, axis=1)

    def add_to_configspace(self, space: Any, prefix: str) -> list[Any]:
        """Adds the genes to a `ConfigSpace.ConfigurationSpace`; a parameter exists only under methods that have it.

        Returns those added without a condition, the method and the weights: where the caller puts conditions on them,
        the parameters go with their method.
        """
        from ConfigSpace import Categorical, Float, InCondition  # noqa: PLC0415 (optional consumer)

        method = Categorical(f"{prefix}.method", self.methods, default=self.methods[0])
        reals = [
            Float(f"{prefix}.{gene.name}", (gene.lower, gene.upper), default=gene.default) for gene in self._genes[1:]
        ]
        space.add(method, *reals)
        n = len(self.sources)
        for takes, parameter in zip(self._table.takes.values(), reals[n:], strict=True):
            space.add(InCondition(parameter, method, [name for name, code in self.codes.items() if takes[code]]))
        return [method, *reals[:n]]

    def _prototypes(self) -> list[Gene]:
        last_code = len(self.methods) - 1
        genes = [Gene("method", 0, "", "method", 0, last_code, len(self.methods))]
        share = 1 / len(self.sources)
        genes += [Gene(name, 0, "", f"weight:{name}", 0.0, self.max_weight, 0, share) for name in self.sources]
        return genes + [Gene(p.name, 0, "", p.name, p.lower, p.upper, 0, p.default) for p in self.parameters.values()]

    def _repair_weights(self, weights: NDArray[np.float64], codes: NDArray[np.int64]) -> None:
        ratio = self._table.ratio[codes]
        weights[ratio & (weights.sum(axis=1) == 0)] = round(1 / len(self.sources), DECIMALS)
        joins = weights >= JOINS * weights.max(axis=1, keepdims=True)
        weights[:] = np.where(self._table.equal[codes][:, None], joins, weights)
        # Methods that join two sources take those of the largest weights.
        dropped = np.zeros_like(weights, dtype=bool)
        order = np.argsort(-weights, axis=1, kind="stable")
        np.put_along_axis(dropped, order[:, 2:], values=True, axis=1)
        weights[dropped & self._table.pairs[codes][:, None]] = 0.0
        # Weights that add up to 1 but for rounding stay as they are, so that repairing twice changes nothing.
        total = weights.sum(axis=1)
        off = ratio & (np.abs(total - 1) > 0.51 * len(self.sources) * 10.0**-DECIMALS)
        weights[off] = np.round(weights[off] / total[off, None], DECIMALS)

    def _drops(self, part: Genotypes) -> NDArray[np.bool_]:
        """Whether entries of task vectors are left out, in every row."""
        sparse = self._table.sparse[_codes(part)]
        return sparse & (part[:, self._positions["density"]] < 1) if self._table.sparse.any() else sparse

    def _values(self, method: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        x = self._default.copy()
        self.write(x, 0, Setting(method, tuple(weights)))
        self.repair(x[None], 0)
        return x


def _codes(part: Genotypes) -> NDArray[np.int64]:
    return part[:, 0].astype(np.int64)

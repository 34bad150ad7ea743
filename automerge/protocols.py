"""The six seams of automerge, each the contract of one folder: Source, Space, Method, Task, Optimizer, Runner.

A part is named in a configuration by its import path in `_target_`; to add one, write a class that satisfies the
protocol. The conformance suites in `tests/conformance/` say what every member must do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import Recipe
from automerge.records import Evaluation, Proposal, Query, Split, Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from automerge.tensors.formulas import Constants, Formula
    from automerge.tensors.magnitudes import Magnitudes
    from automerge.tensors.masks import Mask

Genotypes = NDArray[np.float64]
"""A matrix of genotypes, one a row: shape (n, n_genes)."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """A tensor as the base's plus a product: base + scale * up @ down, with the product in the base's shape.

    `up` has shape (n_out, r) and `down` (r, n_in), float32. A tensor that equals the base's has rank 0, whatever its
    shape: it counts as the matrix of its first dimension by all others, so that a vector of length n gives factors
    (n, 0) and (0, 1).
    """

    up: Tensor
    down: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """The common size r of the factors."""
        return int(self.up.shape[1])

    @property
    def is_base(self) -> bool:
        """Whether the tensor equals the base's."""
        return self.rank == 0


class Source(Protocol):
    """Weights to merge from: named tensors that can be read one by one."""

    @property
    def name(self) -> str:
        """The name that recipes use."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name, read without loading weights."""

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """What `tensor` returns for every name, read without loading weights."""

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name in the dtype that `dtypes` tells, on the CPU. Raises KeyError for an unknown name."""

    def low_rank(self, name: str) -> LowRank | None:
        """The tensor of that name by its difference from the base; None if it is stored whole.

        Raises KeyError for an unknown name.
        """


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a method beyond the weights of its inputs, with the range in which it is searched."""

    name: str
    lower: float
    upper: float
    default: float


class Statistics(Protocol):
    """What can be known of one tensor's inputs before the candidate; made at first use and kept."""

    def inner_products(self) -> NDArray[np.float64]:
        """Inner products of the base and the n task vectors, shape (1 + n, 1 + n)."""

    def magnitudes(self) -> Sequence[Magnitudes]:
        """For every input the distribution of its task vector's magnitudes."""

    def variances(self) -> Magnitudes:
        """The distribution of the entries' variances over the task vectors, with sums of each vector's squares."""


Weighting = Literal["ratio", "strength", "equal"]
"""What the weights of a method's inputs do: only their ratio counts, each counts by itself, or they do not count."""


@dataclass(frozen=True)
class WeightedSum:
    """A method whose result is a sum of the base and the inputs with one coefficient each.

    `coefficients(weights, statistics)` gives the base's coefficient and then those of the inputs; with `same` they do
    not depend on the tensor, with `vectors` the inputs act by their differences from the base. Raises ValueError for
    weights that the method cannot take.
    """

    name: str
    coefficients: Callable[[Sequence[float], Statistics], Sequence[float]]
    weighting: Weighting
    same: bool
    vectors: bool
    max_inputs: int | None = None
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True)
class Elementwise:
    """A method whose result at every entry depends on the base's and the inputs' entries there.

    `constants(weights, statistics, **parameters)` gives the numbers that the formula needs of one tensor;
    `formula(base, tensors, masks, constants)` gives the merged entries in float32 from pieces of any dtype of shape
    (n_rows, PATTERN) or (1, n). `masks` names the bytes that it takes of every input; they come kind by kind.
    `options` are keywords of `constants` beyond the searched parameters, with their defaults; under
    `normalize` the formula is `averaging`.
    """

    name: str
    constants: Callable[..., Constants]
    formula: Formula
    weighting: Weighting
    parameters: tuple[Parameter, ...] = ()
    masks: tuple[Mask, ...] = ()
    averaging: Formula | None = None
    options: tuple[str, ...] = ()
    max_inputs: int | None = None
    vectors: Literal[True] = True


Method = WeightedSum | Elementwise
"""A merging method: pure functions from numbers and tensors to a tensor."""


@dataclass(frozen=True, slots=True)
class Gene:
    """One entry of a genotype.

    `n_choices` is 0 for a real gene in [lower, upper], else the number of codes 0..n_choices-1. `depth` is the
    layer group (-1 outside the layers), `component` the part of the layer, `role` what the gene sets there: operators
    act on the same role over a block of depth.
    """

    name: str
    depth: int
    component: str
    role: str
    lower: float = 0.0
    upper: float = 1.0
    n_choices: int = 0
    default: float = 0.0


ReferenceKind = Literal["source", "uniform", "given"]
"""`source` includes the base; `given` are the recipes that a search is told to start from."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A known model: the base or a source as it is, a uniform merge of the sources, or a given recipe.

    It is a genotype, or a recipe that the space cannot hold, which is evaluated and reported beside the space's own
    models and never told to an optimizer; exactly one of the two is given. One that is not `eligible` breaks the
    bounds of the space, such as its depth: it is compared with, never recommended.
    """

    genotype: NDArray[np.float64] | None
    kind: ReferenceKind
    recipe: Recipe | None = None
    eligible: bool = True

    def __post_init__(self) -> None:
        """Refuses a reference that is both or neither."""
        if (self.genotype is None) == (self.recipe is None):
            raise ValueError("a reference is either a genotype of the space or a recipe outside it")


@dataclass(frozen=True)
class Measures:
    """What the weights of the sources tell a space, by layer, None for the part outside the layers.

    `norms` are those of the task vectors by layer and component, relative to the base's, shape (n_sources,) in the
    order of the space's sources; `parameters` are numbers of parameters.
    """

    norms: Mapping[tuple[int | None, str], NDArray[np.float64]]
    parameters: Mapping[int | None, int]


class Space(Protocol):
    """A set of recipes with its encoding as vectors, as operations on whole matrices of genotypes."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes in order."""

    @property
    def methods(self) -> Sequence[str]:
        """Names of the merging methods that its recipes may use."""

    @property
    def max_layers(self) -> int:
        """The most layers that one of its recipes has."""

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n random genotypes in canonical form, shape (n, n_genes)."""

    def repair(self, X: Genotypes) -> Genotypes:
        """The canonical genotypes of the same models: within bounds, inactive genes at their defaults.

        Equal genotypes are equal recipes; two methods may still make one model of other numbers.
        """

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,)."""

    def encode(self, recipe: Recipe) -> NDArray[np.float64]:
        """The canonical genotype of a recipe's model, its numbers rounded as the space rounds; undoes `decode`.

        Raises ValueError listing everything that the space cannot hold, with the remedies.
        """

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """What a model of the landscape should see of each genotype, shape (n, n_features)."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""

    def measured(self, measures: Measures) -> Space:
        """The same space, told of the sources' weights: a copy whose features and costs make use of them.

        Columns of `features` that hold the weight of a source are multiplied by the relative norm of its task vector
        there, over the mean of all slots and sources and clipped to [0.3, 3]: how far a weight moves the model.
        """

    def active(self, X: Genotypes) -> NDArray[np.bool_]:
        """Which genes act in canonical genotypes, shape (n, n_genes): others are repaired to the value they have."""

    def costs(self, X: Genotypes) -> Mapping[str, NDArray[np.float64]]:
        """Exact costs of the models of canonical genotypes by name, each of shape (n,).

        `layers` always, `parameters` once the space is measured.
        """

    def references(self) -> Mapping[str, Reference]:
        """Known models by name: `base` and every source first, then uniform merges, also those outside the space."""

    def genotype(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """The canonical genotype of values by the names of the genes, such as a ConfigSpace configuration.

        Genes without a value are at their defaults. Raises ValueError for a name that is no gene of this space.
        """

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace` with real conditions, its choices in the order of codes."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Log-probability of a continuation, its number of tokens, and whether greedy decoding would yield it."""

    log_probability: float
    n_tokens: int
    greedy: bool


class LanguageModel(Protocol):
    """What tasks may ask of a model."""

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """For each (prompt, continuation) the likelihood of the continuation after the prompt."""

    def generate(self, prompts: Sequence[str], *, stop: Sequence[str], max_new_tokens: int) -> list[str]:
        """For each prompt the greedy continuation, cut before the first stop string."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one item has a model read: a prompt, and after it each of the continuations or `n_new_tokens` of its own."""

    prompt: str
    continuations: tuple[str, ...] = ()
    n_new_tokens: int = 0


class Task(Protocol):
    """A set of items with a way to score a model on each."""

    @property
    def name(self) -> str:
        """The name that objectives, slices and reports use."""

    @property
    def chance(self) -> float:
        """Expected score of guessing."""

    @property
    def fingerprint(self) -> str:
        """A hash of all items as the model sees them, by which a log knows its data."""

    def size(self, split: Split) -> int:
        """Number of items of that split."""

    def requests(self, split: Split) -> list[Request]:
        """What scoring has a model read, for every item of that split in the order of the rows."""

    def score(self, model: LanguageModel, split: Split, items: Sequence[int]) -> list[float]:
        """Scores in [0, 1] of the items with these row numbers, in their order."""

    def check(self) -> list[str]:
        """Every fault of the task's data that would spoil a search, as messages; empty if there is none."""


class Optimizer(Protocol):
    """Proposes what to evaluate next. Holds state: the trials it was told of.

    What `ask` returns is a function of the seed, the options, and the calls of `ask` and `tell` so far.
    """

    def ask(self) -> Proposal:
        """The next proposal: a new genotype in canonical form, or the promotion of a known trial.

        May be called again before the last proposal was told of.
        """

    def tell(self, trial: Trial) -> None:
        """Takes the state of a trial after an evaluation; replaces what was told of the same id before."""

    def promising(self, n: int) -> list[int]:
        """Ids of at most n trials not yet evaluated on all items that most likely belong on the front, best first.

        At the end of a search they are evaluated on all items, so that the front is judged at one fidelity.
        """


@runtime_checkable
class HypervolumeOptimizer(Optimizer, Protocol):
    """An optimizer that has to know from where hypervolume is counted."""

    def count_above(self, reference_point: NDArray[np.float64]) -> None:
        """Takes the point above which hypervolume is counted, shape (n_objectives,), larger is better.

        A search tells it once, before the first `ask`: the sources that it comes from may lie outside the space, and
        then no trial tells of them.
        """


@runtime_checkable
class BlindStart(Protocol):
    """An optimizer that begins with models which no score has a say in."""

    n_initial: int
    """How many these are."""


class Runner(Protocol):
    """Has queries evaluated somewhere."""

    @property
    def n_workers(self) -> int:
        """How many queries can be in flight at once."""

    def submit(self, query: Query) -> int:
        """Takes a query and returns its ticket; nothing is evaluated before the next `collect`."""

    def collect(self) -> tuple[int, Evaluation]:
        """Waits for any submitted query and returns its ticket and evaluation.

        Raises RuntimeError if nothing was submitted.
        """

    def settle(self, ticket: int, wall: float) -> None:
        """Takes back a query whose answer a log has, from a run where it came `wall` seconds after the one before.

        Raises ValueError for a ticket that is not in flight.
        """

    def clock(self) -> float:
        """Seconds on the clock by which evaluations end; only differences mean something."""

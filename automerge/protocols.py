"""The six seams of automerge, each the contract of one folder: Source, Space, Method, Task, Optimizer, Runner.

A part is named in a configuration by its import path in `_target_`; to add one, write a class that satisfies the
protocol. The conformance suites in `tests/conformance/` say what every member must do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from automerge.recipe import Recipe
from automerge.records import Evaluation, Proposal, Query, Split, Trial

if TYPE_CHECKING:
    from torch import Tensor

Genotypes = NDArray[np.float64]
"""A matrix of genotypes, one a row: shape (n, n_genes)."""


class Source(Protocol):
    """Weights to merge from: named tensors that can be read one by one."""

    @property
    def name(self) -> str:
        """The name that recipes use."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor by name, read without loading weights."""

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name in its stored dtype, on the CPU. Raises KeyError for an unknown name."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a method beyond the weights of its inputs, with the range in which it is searched."""

    name: str
    lower: float
    upper: float
    default: float


class Method(Protocol):
    """A merging method: a pure function from tensors to a tensor."""

    name: str
    needs_base: bool
    parameters: tuple[Parameter, ...]

    def prepare(self, tensor: Tensor, base: Tensor | None, *, key: tuple[str, ...]) -> Tensor | None:
        """What of one input tensor does not depend on the candidate, computed once; None if nothing.

        `key` identifies the tensor (source, tensor name) and seeds whatever is drawn at random.
        """

    def __call__(
        self,
        tensors: Sequence[Tensor],
        weights: Sequence[float],
        *,
        base: Tensor | None,
        prepared: Sequence[Tensor | None],
        **parameters: float,
    ) -> Tensor:
        """The merged tensor in float32, of the inputs' common shape."""


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


@dataclass(frozen=True, slots=True)
class Reference:
    """A known model as a genotype: the base or a source as it is, or a uniform merge of the sources."""

    genotype: NDArray[np.float64]
    kind: Literal["source", "uniform"]


class Space(Protocol):
    """A set of recipes with its encoding as vectors, as operations on whole matrices of genotypes."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The genes in order."""

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """n random genotypes in canonical form, shape (n, n_genes)."""

    def repair(self, X: Genotypes) -> Genotypes:
        """The canonical genotypes of the same models: within bounds, inactive genes at their defaults."""

    def decode(self, x: NDArray[np.float64]) -> Recipe:
        """The recipe of one canonical genotype of shape (n_genes,)."""

    def features(self, X: Genotypes) -> NDArray[np.float64]:
        """What a model of the landscape should see of each genotype, shape (n, n_features)."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""

    def references(self) -> Mapping[str, Reference]:
        """Known models by name: `base` and every source first, then uniform merges."""

    def to_configspace(self) -> Any:
        """The space as a `ConfigSpace.ConfigurationSpace` with real conditions."""


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


class Runner(Protocol):
    """Has queries evaluated somewhere."""

    @property
    def n_workers(self) -> int:
        """How many queries can be in flight at once."""

    def submit(self, query: Query) -> int:
        """Takes a query and returns its ticket."""

    def collect(self) -> tuple[int, Evaluation]:
        """Waits for any submitted query and returns its ticket and evaluation.

        Raises RuntimeError if nothing was submitted.
        """

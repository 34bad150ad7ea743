"""A benchmark that was exported, to be asked: what would this merge score, on so many items, in so much time?

::

    from automerge.benchmark import load

    b = load("DIR")
    answers = b.query(b.space.sample(100, np.random.default_rng(0)), n_items=50)
    answers.values         # (100, n_objectives), larger is better
    answers.scores["math"] # shares of right answers, with the noise of 50 items

It reads with numpy and lightgbm alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automerge.benchmark import folder as files
from automerge.benchmark.answers import Answers, Models, Seconds
from automerge.benchmark.configs import ConfigReader, Configs
from automerge.benchmark.encoder import build_space
from automerge.benchmark.ensemble import Ensemble
from automerge.benchmark.measured_reference import MeasuredReference
from automerge.benchmark.nearness import Nearness
from automerge.benchmark.responses import Responses, keys, started, text_key, uniforms
from automerge.benchmark.worlds import Worlds
from automerge.protocols import Genotypes, Space
from automerge.records import Objective, Split

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[np.float64]

REMEMBERED = 4096
"""Most numbers of genotypes that are recognized when they are asked about again."""


class Benchmark:
    """A surrogate benchmark. Holds its models in memory; answers are a function of the arguments alone.

    Wherever `configs` are taken they are one model or several, as mappings from the names of genes to values, choices
    by name, or as genotypes of shape (n_genes,) or (n, n_genes). Predictions take `threads` threads.
    """

    def __init__(self, path: Path | str, *, verify: bool = False, threads: int = 1) -> None:
        """Raises FileNotFoundError for a missing file, ValueError for a damaged one or one of another version.

        With `verify` all files are compared with their checksums.
        """
        self.folder = Path(path).expanduser()
        self.metadata = files.read_metadata(self.folder)
        if verify:
            files.check_sums(self.folder)
        content = self.metadata
        self.name: str = content["name"]
        self.objectives = tuple(Objective.from_settings(objective) for objective in content["objectives"])
        # The objectives have the order of the tasks, also where a tool has sorted the keys of the file.
        named = [task for objective in self.objectives for task, _ in objective.shares]
        self.tasks: tuple[str, ...] = tuple(dict.fromkeys([*named, *content["tasks"]]))
        self.n_items: Mapping[str, Mapping[Split, int]] = {
            task: {split: int(content["tasks"][task]["sizes"][split]) for split in files.SPLITS} for task in self.tasks
        }
        self.space: Space = build_space(files.read_json(self.folder, files.ENCODER))
        self._break_key = text_key(self.name, files.BROKEN)
        self.n_features = len(self.space.feature_names)
        genes = files.read_json(self.folder, files.SPACE)["genes"]
        self._reader = ConfigReader(self.space, {gene["name"]: gene["choices"] for gene in genes})
        self._ensembles = {
            target: self._load(file, threads=threads) for target, file in sorted(content["models"].items())
        }
        if content.get("nearness") is not None:
            files.find(self.folder, content["nearness"])
        self._worlds = Worlds(self.folder, self.name, self.n_items)
        self._last: tuple[tuple[tuple[int, ...], bytes], Models] | None = None

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that `query` answers: those with a model for every task."""
        return files.answered(self.metadata)

    @cached_property
    def nearness(self) -> Nearness:
        """How near models are to those that were measured; read when asked for.

        Raises ValueError if the runs measured too few models to tell.
        """
        if "nearness" in self.metadata and self.metadata["nearness"] is None:
            raise ValueError(
                f"{self.folder} cannot tell how far models are from the measured ones: its runs measured fewer than "
                "two different ones in the space; export it from more trials"
            )
        return Nearness.load(self.folder / files.NEARNESS)

    @cached_property
    def reference_configs(self) -> tuple[MeasuredReference, ...]:
        """The known models, the base and the sources first, with what was measured of them."""
        return tuple(MeasuredReference.of(told, self._reader.named) for told in self.metadata["references"])

    def genotypes(self, configs: Configs) -> Genotypes:
        """The canonical genotypes of configurations, shape (n, n_genes).

        Raises ValueError for unknown names and choices, values out of range and arrays of another shape.
        """
        return self._reader.genotypes(configs)

    def choices(self, gene: str) -> tuple[str, ...]:
        """The names of the choices of a gene in the order of their codes; empty for a real gene.

        Raises ValueError for an unknown gene.
        """
        if gene not in self._reader.choices:
            raise ValueError(f"unknown gene {gene!r}, known are {', '.join(list(self._reader.choices)[:5])}, ...")
        return self._reader.choices[gene]

    def config(self, genotype: Values) -> dict[str, Any]:
        """The configuration of a genotype of shape (n_genes,): every gene by name, choices by name.

        Raises ValueError for several.
        """
        found = self.genotypes(genotype)
        if np.ndim(genotype) != 1:
            raise ValueError(f"expected one genotype of shape (n_genes,), got shape {np.shape(genotype)}; take a row")
        return self._reader.named(found[0])

    def query(
        self,
        configs: Configs,
        n_items: int | None = None,
        seed: int = 0,
        split: Split = "search",
        *,
        noise: bool = True,
        strict: bool = False,
    ) -> Answers:
        """What the models score on the first `n_items` items of every task, all of them by default.

        A task with fewer items is asked for all that it has. Items come in an order of the seed's own; the same model
        answers the same item alike under a seed, whatever it is asked with, so more items repeat the answers on fewer.
        A mean over a subset has the subset's difficulty, the same for all models; over many seeds it is the expected
        score. Without noise scores are the expected ones
        over all items, whatever `n_items`, and what breaks more often than not is broken.

        Raises ValueError for configurations that the space does not have, for an unknown split or one without models,
        for items that no task has, and, if `strict`, for models that are far from all that were measured.
        """
        models = self._seen(configs)
        numbers = self._numbers(n_items, split)
        broken = self._broken(models, seed) if noise else self._breaks(models) > 0.5
        k: dict[str, Values] = {}
        scores: dict[str, Values] = {}
        for task, n in numbers.items():
            p = self._predicted(models, files.score_target(task, split))
            if noise:
                order = self._worlds.order(task, split, self._seed(seed))
                right = self._worlds[task, split].count(p, models.hashes, order[:n], seed=self._seed(seed))
                k[task], shares = np.where(broken, 0.0, right), right / n
            else:
                k[task], shares = np.where(broken, 0.0, n * p), p
            scores[task] = np.where(broken, np.nan, shares)
        answers = Answers(
            scores=scores,
            k=k,
            n=numbers,
            broken=broken,
            _benchmark=self,
            _models=models,
            _split=split,
        )
        if strict and answers.is_outside.any():
            raise ValueError(
                f"{int(answers.is_outside.sum())} of {len(broken)} models are up to {answers.distance.max():.2g} times "
                "as far from all measured models as the surrogate can be trusted; leave strict out to take the answers"
            )
        return answers

    def mean(self, configs: Configs, split: Split = "search") -> dict[str, Values]:
        """By task the expected scores over all items, if the models do not break, shape (n,).

        Raises ValueError as `query` does.
        """
        models = self._seen(configs)
        return {
            task: self._predicted(models, files.score_target(task, split)).copy() for task in self._numbers(None, split)
        }

    def trajectory(
        self, config: Configs, n_items: Sequence[int], seed: int = 0, split: Split = "search", *, noise: bool = True
    ) -> dict[int, Answers]:
        """The answers by number of items, each on the items of those before and more. Raises ValueError as `query`."""
        return {n: self.query(config, n, seed, split, noise=noise) for n in n_items}

    def respond(
        self, genotypes: Configs, task: str, split: Split, rows: Sequence[int] | NDArray[np.int64], seed: int
    ) -> NDArray[np.uint8]:
        """The answers item by item of models that do not break, on items by row, shape (n, len(rows)).

        Those of `query` are on the rows of `order` with its seed. Raises ValueError for an unknown task, split or row.
        """
        models = self._seen(genotypes)
        self._numbers(None, split)
        world = self.world(task, split)
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < world.n_items:
            raise ValueError(
                f"expected rows of {task!r} from 0 to {world.n_items - 1}, got {wanted.min()} to {wanted.max()}"
            )
        p = self._predicted(models, files.score_target(task, split))
        return world.respond(p, models.hashes, wanted, seed=self._seed(seed))

    def world(self, task: str, split: Split) -> Responses:
        """The answers on the items of a task's split, for models of any expected score.

        Raises ValueError for an unknown task or split.
        """
        self._refuse_unknown(task, split)
        return self._worlds[task, split]

    def order(self, task: str, split: Split = "search", seed: int = 0) -> NDArray[np.int64]:
        """The rows of a task's items in the order in which `query` with this seed asks for them, shape (n_items,).

        Raises ValueError for an unknown task or split.
        """
        self._refuse_unknown(task, split)
        return self._worlds.order(task, split, self._seed(seed)).copy()

    def chance_broken(self, genotypes: Configs) -> Values:
        """The probabilities that models are broken, shape (n,); 0 if none of the runs' models was."""
        return self._breaks(self._seen(genotypes)).copy()

    def is_broken(self, genotypes: Configs, seed: int) -> NDArray[np.bool_]:
        """Which models are broken in the world of this seed, as `query` says, shape (n,)."""
        return self._broken(self._seen(genotypes), seed)

    def seconds(self, genotypes: Configs) -> Seconds:
        """What models take to merge and to evaluate an item; NaN if no run told."""
        return Seconds(*(each.copy() for each in self._seconds(self._seen(genotypes))))

    def table(self) -> pd.DataFrame:
        """All that was measured, a row per trial and run. Raises ImportError without pandas and pyarrow."""
        try:
            import pandas as pd  # noqa: PLC0415 (reading a benchmark needs it for nothing else)

            return pd.read_parquet(self.folder / files.EVALUATIONS)
        except ImportError as fault:
            raise ImportError(f"the table needs pandas and pyarrow: pip install pandas pyarrow ({fault})") from fault

    def ensemble(self, target: str) -> Ensemble:
        """The models of a target, such as `TASK.search` or `broken`. Raises ValueError naming the known ones."""
        if target not in self._ensembles:
            known = ", ".join(self._ensembles) or "none: its runs had too few trials"
            raise ValueError(f"{self.folder} has no model of {target!r}, known are {known}")
        return self._ensembles[target]

    def _load(self, file: str, *, threads: int) -> Ensemble:
        ensemble = Ensemble.load(self.folder / file, threads=threads)
        expected = self.n_features + len(self.space.genes)
        if ensemble.n_features != expected:
            raise ValueError(
                f"expected models of {expected} features, got {ensemble.n_features} in {file}; export the runs again"
            )
        return ensemble

    def _refuse_unknown(self, task: str | None, split: str) -> None:
        if task is not None and task not in self.tasks:
            raise ValueError(f"unknown task {task!r}, known are {', '.join(self.tasks)}")
        if split not in files.SPLITS:
            raise ValueError(f"unknown split {split!r}, known are {', '.join(files.SPLITS)}")

    def _lacking(self, split: str) -> list[str]:
        return [task for task in self.tasks if files.score_target(task, split) not in self._ensembles]

    def _seen(self, configs: Configs) -> Models:
        """The models of configurations, with what is known of them if they are those that were last asked about.

        A search asks of a model whether it breaks, how long it takes, and its scores, on more and more items.
        """
        given = (configs.shape, configs.tobytes()) if isinstance(configs, np.ndarray) and _is_short(configs) else None
        if given is not None and self._last is not None and self._last[0] == given:
            return self._last[1]
        X = self.genotypes(configs)
        inputs = np.concatenate([self.space.features(X), X], axis=1)
        models = Models(X, inputs, keys(X), {})
        if given is not None:
            self._last = (given, models)
        return models

    def _predicted(self, models: Models, target: str) -> Values:
        if target not in models.predictions:
            models.predictions[target] = self.ensemble(target).mean(models.inputs)
        return models.predictions[target]

    def _numbers(self, n_items: int | None, split: Split) -> dict[str, int]:
        """By task how many items are asked for. Raises ValueError if there are none or no models."""
        self._refuse_unknown(None, split)
        lacking = self._lacking(split)
        if lacking:
            known = ", ".join(self.splits) or "none"
            raise ValueError(
                f"{self.folder} cannot answer on split {split!r}: it has no model of {', '.join(lacking)} there; "
                f"splits with models are {known}"
            )
        sizes = {task: self.n_items[task][split] for task in self.tasks}
        if n_items is None:
            return sizes
        if not _is_whole(n_items) or not 1 <= n_items <= max(sizes.values()):
            listed = ", ".join(f"{n} of {task}" for task, n in sizes.items())
            raise ValueError(f"expected n_items from 1 to what the tasks have ({listed}), got {n_items!r}")
        return {task: min(int(n_items), size) for task, size in sizes.items()}

    def _breaks(self, models: Models) -> Values:
        if files.BROKEN not in self._ensembles:
            return np.zeros(len(models.inputs))
        return self._predicted(models, files.BROKEN)

    def _seconds(self, models: Models) -> Seconds:
        unknown = np.full(len(models.inputs), np.nan)
        return Seconds(
            *(
                self._predicted(models, target) if target in self._ensembles else unknown
                for target in (files.MERGE_SECONDS, files.ITEM_SECONDS)
            )
        )

    def _broken(self, models: Models, seed: int) -> NDArray[np.bool_]:
        """Which models are broken, shape (n,): those whose luck, uniform in [0, 1), is below the probability."""
        seed = self._seed(seed)
        if files.BROKEN not in self._ensembles:
            return np.zeros(len(models.inputs), dtype=bool)
        states = started(models.hashes, self._break_key, seed)
        return np.asarray(self._breaks(models) > uniforms(states, np.zeros(1, dtype=np.int64))[:, 0])

    def _seed(self, seed: int) -> int:
        if not _is_whole(seed) or not 0 <= seed < 1 << 64:
            raise ValueError(f"expected a seed that is a whole number from 0, got {seed!r}")
        return int(seed)


def _is_whole(value: object) -> bool:
    """Whether it is a whole number, of whatever type: optimizers give budgets as floats."""
    return isinstance(value, Real) and not isinstance(value, bool) and float(value).is_integer()


def _is_short(genotypes: NDArray[Any]) -> bool:
    """Whether the array is worth to be recognized: numbers of another type may have the same bytes."""
    return genotypes.dtype == np.float64 and genotypes.size <= REMEMBERED


def load(path: Path | str, *, verify: bool = False, threads: int = 1) -> Benchmark:
    """The benchmark in a folder that `automerge benchmark export` wrote; predictions take `threads` threads.

    With `verify` all files are compared with their checksums. Raises FileNotFoundError for a missing file, ValueError
    for a damaged one or one of another version.
    """
    return Benchmark(path, verify=verify, threads=threads)

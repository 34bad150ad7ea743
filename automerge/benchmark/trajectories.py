"""Real searches beside the same searches on the benchmark: does it rank optimizers as reality does?

A curve is the hypervolume of a search over the items that it evaluated. Simulated ones are counted above the reference
point of the real run with the same seed, so that both measure the same volume. Their logs lie in a folder that may be
kept: what is finished there is not searched again, and what was stopped goes on.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from automerge.benchmark.processes import each_done
from automerge.benchmark.simulation import assemble, fingerprint
from automerge.check.settings import GIVEN
from automerge.components import faults
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.parts import search, versions

N_POINTS = 21
"""Points of a mean curve, from no items to all."""

LEAST_OPTIMIZERS = 3
"""Fewest optimizers that are ranked."""

LEAST_SEEDS = 2
"""Fewest runs of an optimizer that is compared: one has no standard error."""

NOTHING = dict.fromkeys(GIVEN)
"""In place of what a run gives its optimizer, where only names count."""

CURVE = "curve.json"
"""Name of the file in a repeated search's folder that holds its curve, and of which benchmark and settings it is."""

FAULT = "fault.txt"
"""Name of the file in the folder of a search that raised, with its traceback."""

RUNNER = {"_target_": "automerge.runners.virtual.VirtualRunner", "n_workers": 1}


@dataclass(frozen=True)
class Curve:
    """How a search of one optimizer and seed went: `hypervolume` after `items`, both of shape (n_evaluations,)."""

    optimizer: str
    seed: int
    items: NDArray[np.int64]
    hypervolume: NDArray[np.float64]

    @staticmethod
    def of(history: History, *, optimizer: str, seed: int) -> Curve:
        """The curve of a history, above its own reference point, its verification included."""
        return Curve.through(history.trajectory(), optimizer=optimizer, seed=seed)

    @staticmethod
    def through(points: Sequence[tuple[int, float]], *, optimizer: str, seed: int) -> Curve:
        """The curve through pairs of a number of items and the hypervolume after them."""
        return Curve(
            optimizer,
            seed,
            np.array([n_items for n_items, _ in points], dtype=np.int64),
            np.array([volume for _, volume in points]),
        )

    @property
    def final(self) -> float:
        """The hypervolume at the end."""
        return float(self.hypervolume[-1])

    def at(self, items: NDArray[np.float64]) -> NDArray[np.float64]:
        """The hypervolume after these numbers of items; a curve holds a value until the next evaluation ends."""
        last = np.searchsorted(self.items, items, side="right") - 1
        return np.where(last >= 0, self.hypervolume[np.maximum(last, 0)], 0.0)


def chosen(runs: Sequence[Mapping[str, Any]], optimizers: Sequence[str] | None = None) -> list[Mapping[str, Any]]:
    """The comparable runs of the named optimizers, or of all.

    Raises ValueError for an optimizer without such runs.
    """
    found = comparable(runs)
    names = sorted({run["optimizer"] for run in found})
    if unknown := sorted(set(optimizers or ()).difference(names)):
        known = f"those with {LEAST_SEEDS} comparable runs, {', '.join(names)}" if names else "none, as no runs compare"
        raise ValueError(f"optimizers: expected {known}; got {', '.join(unknown)}")
    return [run for run in found if optimizers is None or run["optimizer"] in optimizers]


def refuse_others(folder: Path, runs: Sequence[Mapping[str, Any]], searches: Path) -> None:
    """Raises ValueError if the folder `searches` holds other searches than those of the runs on this benchmark."""
    if searches.exists() and not searches.is_dir():
        raise ValueError(f"expected a folder for the repeated searches, but {searches} is a file; name a new folder")
    found = [run["name"] for run in runs if _kept(searches / run["name"], _identity(folder, run)) is None]
    if found:
        raise ValueError(
            f"{searches} holds searches of another benchmark, with other settings or of other versions of automerge or "
            f"its packages, such as {found[0]}; name a new folder"
        )


def measure(
    folder: Path,
    runs: Sequence[Mapping[str, Any]],
    real: pd.DataFrame,
    searches: Path,
    *,
    jobs: int = 1,
) -> dict[str, Any]:
    """The figures of `compared` for these runs, all comparable, repeated on the benchmark in this folder.

    `real` holds their own trajectories. `scale` tells in words the fidelities and budget that they had; `left_out` by
    optimizer why it cannot be built here, such as for a package that is not there. Without runs the result is empty.
    The repeated searches go into the folder `searches`, `jobs` at once. Raises RuntimeError for a search that raises,
    also because its folder holds another.
    """
    if not runs:
        return {}
    found = {run["optimizer"]: "; ".join(faults("optimizer", run["settings"]["optimizer"], **NOTHING)) for run in runs}
    left_out = {name: why for name, why in sorted(found.items()) if why}
    repeated = [run for run in runs if run["optimizer"] not in left_out]
    done = {run["name"]: curve for run, curve in each_done(partial(_simulated, folder, searches), repeated, jobs)}
    simulated = [done[run["name"]] for run in repeated]
    settings = runs[0]["settings"]
    scale = (f"{key} {value}" for part in ("budget", "fidelity") for key, value in settings[part].items() if value)
    return {
        "scale": ", ".join(scale),
        "left_out": left_out,
        **compared([_measured(run, real) for run in repeated], simulated),
    }


def comparable(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The runs, as the metadata of a benchmark tell them, that can be compared with each other.

    These are of one scale, fidelities and budget: the one with most optimizers of LEAST_SEEDS runs, then with most
    runs. A run that was given recipes is left out, which a benchmark need not know.
    """
    by_scale: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        settings = run["settings"]
        if not settings["start"]:
            scale = json.dumps([settings["fidelity"], settings["budget"]], sort_keys=True)
            by_scale.setdefault(scale, []).append(run)
    found = []
    for alike in by_scale.values():
        counts = pd.Series([run["optimizer"] for run in alike]).value_counts()
        kept = [run for run in alike if counts[run["optimizer"]] >= LEAST_SEEDS]
        found.append((len({run["optimizer"] for run in kept}), kept))
    return max(found, key=lambda each: (each[0], len(each[1])), default=(0, []))[1]


def simulate(folder: Path, run: Mapping[str, Any], to: Path) -> Curve:
    """The curve of a run, as the metadata of a benchmark tell it, repeated on the benchmark in this folder.

    Its log lies in the folder `to`, from which it is gone on with. Raises ValueError if what lies there is the search
    of another benchmark, with other settings or of other versions.
    """
    identity = _identity(folder, run)
    points = _kept(to, identity)
    if points is None:
        raise ValueError(
            f"{to} holds a search of another benchmark, with other settings or versions; name a new folder"
        )
    if not points:
        # What is begun is told apart from other searches too.
        to.mkdir(parents=True, exist_ok=True)
        _keep(to, identity, [])
        settings = _settings(folder, run)
        with RunLog(to / LOG) as log:
            for _ in search(settings, assemble(settings), log):
                pass
            history = replace(History.of(log), reference_point=np.array(run["reference_point"]))
        points = history.trajectory()
        _keep(to, identity, points)
    return Curve.through(points, optimizer=run["optimizer"], seed=run["seed"])


def _settings(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    given = run["settings"]
    return {
        "seed": run["seed"],
        "benchmark": {"path": str(folder), "seed": 0},
        "optimizer": given["optimizer"],
        "fidelity": given["fidelity"],
        "budget": given["budget"],
        "report": {**given["report"], "baseline": None, "test_trials": "recommended"},
        "runner": RUNNER,
        **dict.fromkeys(("costs", "weights", "constraints")),
    }


def _identity(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a repeated search what it is, ready for JSON; the benchmark is known by its content."""
    settings = {**_settings(folder, run), "benchmark": fingerprint(folder)}
    content = {"settings": settings, "reference_point": list(run["reference_point"]), "versions": versions()}
    return dict(json.loads(json.dumps(content)))


def _kept(to: Path, identity: Mapping[str, Any]) -> list[tuple[int, float]] | None:
    """The points of the curve in a folder, none if the search is not finished; None for a search that is another.

    Versions are those of packages: a change of automerge's own code is not seen until its version changes.
    """
    if not (to / CURVE).is_file():
        # A log alone is that of another run, such as a real one.
        return None if (to / LOG).exists() else []
    content = json.loads((to / CURVE).read_text(encoding="utf-8"))
    return content["points"] if content["of"] == identity else None


def _keep(to: Path, identity: Mapping[str, Any], points: Sequence[tuple[int, float]]) -> None:
    draft = to / f"{CURVE}.part"
    draft.write_text(json.dumps({"of": identity, "points": points}) + "\n", encoding="utf-8")
    draft.replace(to / CURVE)


def _simulated(folder: Path, searches: Path, run: Mapping[str, Any]) -> Curve:
    to = searches / run["name"]
    to.mkdir(parents=True, exist_ok=True)
    try:
        found = simulate(folder, run, to)
    except Exception as fault:
        # Not every exception passes between processes, and none of them tells which search it ended.
        (to / FAULT).write_text(traceback.format_exc(), encoding="utf-8")
        raise RuntimeError(
            f"the search of {run['name']} could not be repeated ({type(fault).__name__}: {fault}); name a folder for "
            f"the searches to find its traceback there, in {FAULT}, or repeat those of other optimizers only"
        ) from fault
    (to / FAULT).unlink(missing_ok=True)
    return found


def _measured(run: Mapping[str, Any], trajectories: pd.DataFrame) -> Curve:
    rows = trajectories[trajectories["run"] == run["name"]]
    return Curve(run["optimizer"], run["seed"], rows["items"].to_numpy(), rows["hypervolume"].to_numpy())


def compared(real: Sequence[Curve], simulated: Sequence[Curve]) -> dict[str, Any]:
    """Figures of real and simulated curves, ready for JSON.

    By optimizer that both have, `optimizers` tells the mean final hypervolumes with their standard errors (None for one
    seed) and numbers of seeds, the `gap` simulated minus real and its size in standard errors of the difference, and
    the mean curves over items. `rank_correlation` (Spearman) and `tau` compare the orders of the optimizers by mean;
    they are None for fewer than LEAST_OPTIMIZERS. `within_two_errors` is the share of gaps of at most two standard
    errors.
    """
    names = sorted({curve.optimizer for curve in real} & {curve.optimizer for curve in simulated})
    found = {
        name: _pair(*([c for c in curves if c.optimizer == name] for curves in (real, simulated))) for name in names
    }
    means = np.array([[each["real"], each["simulated"]] for each in found.values()]).reshape(-1, 2)
    gaps = [each["gap_in_errors"] for each in found.values() if each["gap_in_errors"] is not None]
    return {
        "optimizers": found,
        "rank_correlation": _agreement(spearmanr, means),
        "tau": _agreement(kendalltau, means),
        "within_two_errors": float(np.mean(np.abs(gaps) <= 2)) if gaps else None,
    }


def _pair(real: Sequence[Curve], simulated: Sequence[Curve]) -> dict[str, Any]:
    sides = {"real": real, "simulated": simulated}
    finals = {side: np.array([curve.final for curve in curves]) for side, curves in sides.items()}
    gap = float(finals["simulated"].mean() - finals["real"].mean())
    errors = [_standard_error(values) for values in finals.values()]
    error = None if None in errors else float(np.hypot(*errors))  # type: ignore[arg-type]
    end = min(int(curve.items[-1]) for curves in sides.values() for curve in curves)
    grid = np.linspace(0, end, N_POINTS)
    return {
        **{side: float(values.mean()) for side, values in finals.items()},
        **{f"{side}_error": _standard_error(values) for side, values in finals.items()},
        **{f"{side}_seeds": len(values) for side, values in finals.items()},
        "gap": gap,
        "gap_in_errors": gap / error if error else None,
        "curve": {
            "items": grid.tolist(),
            **{side: np.mean([curve.at(grid) for curve in curves], axis=0).tolist() for side, curves in sides.items()},
        },
    }


def _standard_error(values: NDArray[np.float64]) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _agreement(correlation: Any, means: NDArray[np.float64]) -> float | None:
    """A rank correlation of two columns, None for too few rows or a constant column."""
    if len(means) < LEAST_OPTIMIZERS or (np.ptp(means, axis=0) == 0).any():
        return None
    return float(correlation(means[:, 0], means[:, 1]).statistic)

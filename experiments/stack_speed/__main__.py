"""Times the way from a recipe to the model's first forward pass, and counts the layers that prefixes share.

The first part writes random stacks of the zoo's fine-tunes into the live model. The second reads logs of searches: how
many of all layer passes would be saved if the hidden states after every prefix ever seen were kept, which is the most
that prefix reuse can give. The last line of output is one JSON object.

    python -m experiments.stack_speed
    python -m experiments.stack_speed --runs runs/spaces/dis-0 runs/spaces/dis-1
"""

from __future__ import annotations

import argparse
import json
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from automerge.components import build
from automerge.family import open_family
from automerge.history import History
from automerge.log import LOG, EvaluationRow, RunLog
from automerge.merge import ResidentSources
from automerge.model import ResidentModel, load_causal_lm
from automerge.recipe import Recipe
from automerge.scaling import gains
from automerge.zoo import path as zoo
from experiments.machine import describe

SOURCES = {"sort": "models/sort", "reverse": "models/reverse"}
KEPT = 16
"""Evaluations whose hidden states after every layer would be kept under a bound on memory: about the parents of the
evolution."""

WARM = 100
"""Stacks written before the clock runs: by then every source layer has been referred to."""


def main() -> None:
    """Measures and prints; the last line is the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of searches in space dis")
    parser.add_argument("--out", type=Path, help="file for the JSON object")
    options = parser.parse_args()
    silence: Any = logging.disable_progress_bar
    silence()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "milliseconds": {
            "unscaled": times(options.stacks, options.device, scaling=None),
            "scaled": times(options.stacks, options.device, scaling="residual"),
        },
        "prefixes": {run.name: shared(run) for run in options.runs},
        "device": options.device,
        "machine": describe(),
    }
    for name, found in result["milliseconds"].items():
        print(name, found)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def times(n: int, device: str, *, scaling: str | None) -> dict[str, float]:
    """Milliseconds from a recipe to a model that can be asked, over random stacks that follow each other."""
    models = {name: zoo(path) for name, path in SOURCES.items()}
    family = open_family({"base": zoo("models/base"), "models": models}, trust_remote_code=False)
    live = ResidentModel(
        load_causal_lm(family.base, device=device),
        ResidentSources(family.sources, device=device, model_type=family.model_type),
    )
    space = build(
        {"_target_": "automerge.spaces.dis.DepthIntegration", "scaling": scaling},
        sources=list(SOURCES),
        n_layers=live.sources.alignment.n_layers,
    )
    recipes = [space.decode(x) for x in space.sample(WARM + n, np.random.default_rng(0))]
    outer = recipes[0].outer
    found = []
    for recipe in recipes:
        # The part outside the layers is merged as in any space; here only the stack is timed.
        stack = Recipe(recipe.layers, outer, recipe.scaling)
        start = time.perf_counter()
        live.write(stack)
        if device != "cpu":
            torch.cuda.synchronize()
        found.append(1000 * (time.perf_counter() - start))
    middle, late, longest = np.percentile(found[WARM:], [50, 95, 100])
    depth = np.mean([len(recipe.layers) for recipe in recipes])
    return {"median": float(middle), "p95": float(late), "longest": float(longest), "mean layers": float(depth)}


def shared(folder: Path) -> dict[str, float]:
    """The share of a search's layer passes whose input was computed before: prefix and items both seen.

    Once with everything kept, once with the hidden states of the KEPT evaluations that were last of use.
    """
    with RunLog(folder / LOG, read_only=True) as log:
        history = History.of(log)
    rows = [row for row in history.evaluations if row.phase in {"search", "verify"}]
    searched = [row for row in rows if row.phase == "search"]
    forward = sum(row.evaluation.seconds["forward"] for row in searched)
    return {
        "layer passes saved at most": _saved(rows, history, keep=None),
        f"with {KEPT} evaluations kept": _saved(rows, history, keep=KEPT),
        "forward share of the search phase": forward / sum(row.wall for row in searched),
    }


def _saved(rows: Sequence[EvaluationRow], history: History, *, keep: int | None) -> float:
    kept: OrderedDict[tuple[Any, ...], set[int]] = OrderedDict()
    n_passes = n_saved = 0
    for row in rows:
        prefixes = list(_prefixes(history.trials[row.trial].recipe))
        for part in row.slices:
            items = (part.task, part.split, part.start, part.stop)
            n_items = part.stop - part.start
            best, saved = None, 0
            for key, known in kept.items():
                # Whoever knows the hidden states after a prefix needs none of its layers.
                depth = max((k for k, prefix in enumerate(prefixes, 1) if prefix in known), default=0)
                if key[0] == items and depth > saved:
                    best, saved = key, depth
            if best is not None:
                kept.move_to_end(best)
            n_passes += len(prefixes) * n_items
            n_saved += saved * n_items
            kept[items, row.trial] = set(prefixes)
            if keep is not None and len(kept) > keep * len(row.slices):
                kept.popitem(last=False)
    return n_saved / n_passes


def _prefixes(recipe: Recipe) -> Iterator[int]:
    """Yields what determines the hidden states after each layer, as a hash."""
    state = hash(recipe.outer)
    for layer, gain in zip(recipe.layers, gains(recipe), strict=True):
        state = hash((state, layer.components, gain))
        yield state


if __name__ == "__main__":
    main()

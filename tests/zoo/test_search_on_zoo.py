"""The whole way on trained models: search the zoo, export, load afresh with plain transformers, score every item."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from automerge import run, zoo
from automerge.composition import composed
from automerge.export.model import export_run
from automerge.history import History
from automerge.log import LOG, RunLog
from automerge.zoo.measure import records

pytestmark = pytest.mark.slow

OVERRIDES = (
    "experiment=smoke",
    "task=[zoo_sort,zoo_sort_reverse,zoo_recall]",
    "budget.trials=25",
    "report.test_items=120",
    "fidelity.max=120",
    "model.threads=1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, History]:
    """A short finished search of the zoo on three kinds of tasks."""
    folder = tmp_path_factory.mktemp("zoo")
    settings = composed(OVERRIDES)
    with RunLog(folder / LOG) as log:
        for _ in run.search(settings, run.assemble(settings), log):
            pass
        return folder, History.of(log)


def test_exported_models_score_item_by_item_as_logged(finished: tuple[Path, History], tmp_path: Path) -> None:
    folder, history = finished
    merged = [k for k, trial in enumerate(history.recommended, 1) if len(history.trials[trial].recipe.sources) > 1]
    assert merged
    export_run(folder, tmp_path / "model", point=merged[0])
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    n_compared = 0
    for row in history.evaluations:
        if row.trial == history.recommended[merged[0] - 1] and row.phase == "test":
            for part in row.evaluation.scores:
                items = records(Path(zoo.path(f"tasks/{part.slice.task}/test.jsonl")))
                expected = tuple(plain_score(model, tokenizer, items[item]) for item in part.items)
                assert part.values == expected, part.slice.task
                n_compared += len(expected)
    assert n_compared == 3 * 120


def plain_score(model: Any, tokenizer: Any, item: dict[str, Any]) -> float:
    """One item by `transformers`' own generate, or the logits after the prompt, without any batching."""
    ids = tokenizer(item["prompt"], return_tensors="pt")["input_ids"]
    if "choices" in item:
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, -1]
        values = [float(logits[tokenizer.convert_tokens_to_ids(choice)]) for choice in item["choices"]]
        return float(values.index(max(values)) == item["label"])
    mask = torch.ones_like(ids)
    out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=40, do_sample=False)
    line, stop, _ = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).partition("\n")
    if "solution" in item:
        return float(";" in line and line.rpartition(";")[2] == item["answer"])
    return float(bool(stop) and line == item["answer"])


def test_a_search_of_the_zoo_killed_at_random_moments_ends_as_an_uninterrupted_one(
    finished: tuple[Path, History], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "automerge.cli", "search", *OVERRIDES, f"hydra.run.dir={tmp_path / 'killed'}"]
    moments = random.Random(1)
    n_kills = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        before = n_evaluations(tmp_path / "killed")
        deadline = time.monotonic() + 120
        while n_evaluations(tmp_path / "killed") <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(moments.uniform(0.0, 2.0))
        process.send_signal(signal.SIGKILL)
        n_kills += process.wait() == -signal.SIGKILL
        assert n_evaluations(tmp_path / "killed") >= before
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert n_kills >= 2
    _, whole = finished
    with RunLog(tmp_path / "killed" / LOG, read_only=True) as log:
        killed = History.of(log)
    assert killed.recommended == whole.recommended
    assert [(e.trial, e.phase, e.evaluation.scores) for e in killed.evaluations] == [
        (e.trial, e.phase, e.evaluation.scores) for e in whole.evaluations
    ]


def n_evaluations(folder: Path) -> int:
    """Number of evaluations in the run's log, 0 as long as there is none."""
    try:
        with RunLog(folder / LOG, read_only=True) as log:
            return len(log.evaluations())
    except (FileNotFoundError, ValueError):
        return 0

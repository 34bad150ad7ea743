"""What the embedded zoo ships, and that it scores as its table says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from automerge import zoo
from automerge.model import load_causal_lm
from automerge.tasks.exact_continuation import ExactContinuation
from automerge.tasks.generation import Generation

ROOT = Path(zoo.path("models")).parent
MODELS = ("base", "sort", "reverse", "calc")
TASKS = ("sort", "reverse", "recall", "calc", "sort_reverse")
SHAPE = json.loads((ROOT / "SHAPE.json").read_text())


def rows(task: str, split: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (ROOT / "tasks" / task / f"{split}.jsonl").read_text().splitlines()]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


@pytest.mark.parametrize("model", MODELS)
def test_models_are_small_llamas_in_bf16_of_eight_layers(model: str) -> None:
    folder = ROOT / "models" / model
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["num_hidden_layers"] >= 8
    assert size(folder) <= 2.5e6
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118


def test_the_whole_zoo_is_small() -> None:
    assert size(ROOT) <= 12e6


@pytest.mark.parametrize("task", TASKS)
def test_tasks_have_a_thousand_search_items_and_a_thousand_others_for_the_test(task: str) -> None:
    search, test = ([row["prompt"] for row in rows(task, split)] for split in ("search", "test"))
    assert len(search) == len(test) == 1000
    assert len({*search, *test}) == 2000


def test_nothing_shipped_names_a_folder_of_the_machine_that_made_it() -> None:
    for path in ROOT.rglob("*.json"):
        assert "/home" not in path.read_text()
        assert "/tmp" not in path.read_text()  # noqa: S108


def test_adapters_are_in_peft_format_on_the_base() -> None:
    from peft import PeftModel

    folders = sorted((ROOT / "adapters").iterdir())
    assert len(folders) == 2
    for folder in folders:
        base = load_causal_lm(zoo.path("models/base")).model
        adapted = PeftModel.from_pretrained(base, folder)
        assert adapted.peft_config["default"].base_model_name_or_path == "base"


@pytest.mark.parametrize(("model", "task"), [("sort", "sort"), ("base", "reverse"), ("calc", "calc")])
def test_scores_of_the_resident_model_are_those_of_the_table(model: str, task: str) -> None:
    """The table was measured with plain transformers."""
    search, test = ({"path": str(ROOT / "tasks" / task / f"{split}.jsonl")} for split in ("search", "test"))
    judge: ExactContinuation | Generation = ExactContinuation(
        name=task, search=search, test=test, prompt="{{ prompt }}", answer="{{ answer }}"
    )
    if task == "calc":
        judge = Generation(
            name=task,
            search=search,
            test=test,
            prompt="{{ prompt }}",
            answer="{{ answer }}",
            max_new_tokens=40,
            extract=".*;(.*)",
        )
    scores = judge.score(load_causal_lm(zoo.path(f"models/{model}")), "test", range(1000))
    assert sum(scores) / 1000 == pytest.approx(SHAPE[f"models/{model}"][task], abs=0.002)


def test_paths_that_are_not_shipped_are_refused_with_what_is() -> None:
    with pytest.raises(FileNotFoundError, match="models"):
        zoo.path("nothing")

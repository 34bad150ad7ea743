"""The card of a benchmark: what it is, how good it is and how to use it, as Markdown for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TITLES = {
    "interpolation": "Interpolation: models between those that were measured, out of fold",
    "leave_one_out": "Leaving out all rows of one optimizer",
    "extrapolation": "Fitted on the first part of every run, judged on the rest",
    "random_only": "Fitted on samples that no score steered, judged on all else",
    "coverage": "Intervals",
    "broken": "Broken models",
    "ablation": "What the models see",
    "trajectories": "Searches: real against simulated",
}
"""Parts of the validation in the order in which the card tells them."""

COVERAGE = (
    "Intervals of 90 % for what models that were held out measure. With the noise of items alone they hold the share "
    "`noise_only`, with the spread of the bags besides `inside`; this spread is no standard error. `factor` is what it "
    "has to be multiplied by to explain the errors beyond the noise, by one half of these models; with it, intervals "
    "hold the share `calibrated` of the other half."
)

IN_SAMPLE = (
    "In sample: these are the searches that the benchmark was made of, so it knows what they measured, and new "
    "searches may agree less."
)
OUT_OF_SAMPLE = (
    "These searches were named for the validation; the benchmark knows only those that are listed as its data."
)

DIGITS = 3


def card_text(metadata: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The card that tells these metadata and this report, which may have no `validation`."""
    parts = [
        _head(metadata),
        _use(metadata),
        _problem(metadata),
        _quality(report),
        _validation(report),
        _limits(metadata),
        _licence(metadata),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; numbers have DIGITS digits, None is a dash, bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _head(metadata: Mapping[str, Any]) -> str:
    runs = metadata["runs"]
    return (
        f"# {metadata['name']} {metadata['version']}\n\n"
        f"A surrogate benchmark of merging {', '.join(metadata['layout']['sources'])}: what a merged model scores, "
        f"from {metadata['n_trials']} trials in {len(runs)} {'run' if len(runs) == 1 else 'runs'} of automerge. "
        "Optimizers are developed on it without models and without a GPU."
    )


def _use(metadata: Mapping[str, Any]) -> str:
    largest = max((told["sizes"]["search"] for told in metadata["tasks"].values()), default=1)
    return (
        "## Use\n\n```python\nimport numpy as np\n\nfrom automerge.benchmark import load\n\n"
        'b = load("THIS FOLDER")\n'
        "X = b.space.sample(5, np.random.default_rng(0))\n"
        f"b.query(X, n_items={min(50, largest)}, seed=0).scores  # with the noise of so many items\n"
        "b.mean(X)  # the expected scores\n```\n\n"
        "    automerge search problem=benchmark benchmark.path=THIS_FOLDER optimizer=evolution\n"
        "    automerge benchmark compare THIS_FOLDER optimizers=[evolution,tpe] seeds=10 --to RESULTS"
    )


def _problem(metadata: Mapping[str, Any]) -> str:
    tasks = table(
        ["task", "search items", "test items", "chance", "right or wrong"],
        [
            [name, told["sizes"]["search"], told["sizes"]["test"], told["chance"], "yes" if told["binary"] else "no"]
            for name, told in metadata["tasks"].items()
        ],
    )
    runs = table(
        ["run", "optimizer", "seed", "trials", "items"],
        [[run["name"], run["optimizer"], run["seed"], run["n_trials"], run["items"]] for run in metadata["runs"]],
    )
    known = table(
        ["known model", "kind", *(f"{task} ({split})" for task in metadata["tasks"] for split in ("search", "test"))],
        [
            [
                each["name"],
                each["kind"],
                *(_rate(each["results"][task][split]) for task in metadata["tasks"] for split in ("search", "test")),
            ]
            for each in metadata["references"]
        ],
    )
    best = table(["objective", "best measured"], list(metadata["best"].items()))
    space = metadata["space"]["_target_"].rpartition(".")[2]
    text = f"## Problem\n\nSpace: `{space}` over {metadata['layout']['n_layers']} layers."
    return "\n\n".join([text, tasks, best, known, "## Data", runs])


def _quality(report: Mapping[str, Any]) -> str:
    rows = [
        [task, split, figures["n_models"], figures["rows"], *(figures.get(k) for k in ("r2", "ceiling", "rmse", "tau"))]
        for task, splits in report["tasks"].items()
        for split, figures in splits.items()
    ]
    parts = [
        "## Quality\n\nOut of fold over all measurements, of whatever number of items. The ceiling is the R2 that "
        "binomial noise allows if every model had items of its own; they are shared, so R2 may exceed it. Where there "
        "is a dash, too few models were measured and the benchmark has no model.",
        table(["task", "items", "models", "measurements", "R2", "ceiling", "RMSE", "Kendall tau"], rows),
    ]
    if report.get("broken"):
        parts.append(
            f"Of {_cell(report['broken']['rows'])} trials {_cell(report['broken'].get('broken'))} broke; area under "
            f"the curve of the predicted probability: {_cell(report['broken'].get('auc'))}."
        )
    for name, figures in report.get("seconds", {}).items():
        parts.append(
            f"`{name}`: median {_cell(figures.get('median'))} s, median error of its logarithm "
            f"{_cell(figures.get('median_log_error'))}."
        )
    return "\n\n".join(parts)


def _validation(report: Mapping[str, Any]) -> str:
    found = report.get("validation")
    if not found:
        return ""
    parts = [f"### {title}\n\n{_part(key, found[key])}" for key, title in TITLES.items() if found.get(key)]
    return "\n\n".join(["## Validation", *parts])


def _part(key: str, content: Mapping[str, Any]) -> str:
    if key == "coverage":
        return f"{COVERAGE}\n\n{_flat(content)}"
    if key != "trajectories":
        return _flat(content)
    figures = dict(content)
    words = [IN_SAMPLE if figures.pop("in_sample", True) else OUT_OF_SAMPLE]
    words += [f"{name} was left out: {reason}." for name, reason in figures.pop("left_out", {}).items()]
    if others := figures.pop("not_chosen", []):
        words.append(f"Only some optimizers were chosen to be repeated, not {', '.join(others)}.")
    return f"{' '.join(words)}\n\n{_flat(figures)}"


def _flat(content: Mapping[str, Any]) -> str:
    """Nested figures as one table: a row per innermost mapping, a column per figure; lists are left out."""
    leaves = list(_leaves(content, ()))
    depth = max(len(path) for path, _ in leaves)
    names = list(dict.fromkeys(name for _, figures in leaves for name in figures))
    rows = [[*path, *[""] * (depth - len(path)), *(figures.get(name) for name in names)] for path, figures in leaves]
    return table([*[""] * depth, *names], rows)


def _leaves(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], dict[str, Any]]]:
    own = {key: value for key, value in content.items() if not isinstance(value, Mapping | list | tuple)}
    if own:
        yield path, own
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(key)))


def _limits(metadata: Mapping[str, Any]) -> str:
    lines = [
        "Trees do not extrapolate: nothing is predicted much better than the best that was measured. "
        "`Answers.distance` tells how far a model is from all that were measured, `strict=True` refuses what is too "
        "far.",
    ]
    lines += [
        f"{name} has scores between right and wrong; its simulated items are right or wrong, which is an upper bound "
        "of its noise."
        for name, told in metadata["tasks"].items()
        if not told["binary"]
    ]
    lines += [
        f"{name} has no model of scores on {split} items."
        for name, told in metadata["tasks"].items()
        for split in ("search", "test")
        if split not in told["splits"]
    ]
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _licence(metadata: Mapping[str, Any]) -> str:
    return (
        f"## Licence\n\nData and models: {metadata['data_licence']}. The code that reads them: "
        f"{metadata['code_licence']}. What the source models' licences say of figures measured on them comes first."
    )


def _rate(sums: Sequence[float] | None) -> float | None:
    return None if sums is None else sums[0] / sums[1]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.{DIGITS}g}"
    return str(value).replace("|", "\\|").replace("\n", " ")

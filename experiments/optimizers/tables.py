"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automerge.benchmark.ranking import Paired, paired
from experiments.optimizers.checkpoints import GRID, SHARES
from experiments.optimizers.comparison import reached
from experiments.optimizers.problems import PROBLEMS
from experiments.optimizers.results import Results, standard_error


def gains(results: Results) -> str:
    """By problem and optimizer the gain on test items over the budget, and at the end."""
    shares = [f"{share:.0%}".replace("%", " %") for share in SHARES[1:]]
    rows = []
    for problem in results.problems:
        for optimizer in results.optimizers:
            curves = results.curves(problem, optimizer, "gain")
            if len(curves):
                finals = np.array(list(results.finals(problem, optimizer).values()))
                error = _number(standard_error(finals[:, None])[0]) if len(finals) > 1 else "-"
                final = f"{_number(finals.mean())} ({error})"
                cells = [_number(value) for value in curves.mean(axis=0)[1:]]
                rows.append([problem, optimizer, str(len(curves)), *cells, final])
    return _table(["problem", "optimizer", "seeds", *shares, "final (se)"], rows)


def costs(results: Results) -> str:
    """By problem and optimizer what a run takes: trials, items with and without nested fidelities, seconds."""
    rows = []
    for problem in results.problems:
        for optimizer in results.optimizers:
            runs = results.of(problem, optimizer)
            if runs:

                def mean(key: str, runs: Sequence[dict[str, float]] = runs) -> float:
                    return float(np.mean([run[key] for run in runs]))

                lost = 1 - sum(run["statuses"].get("ok", 0) for run in runs) / sum(run["n_trials"] for run in runs)
                rows.append(
                    [
                        problem,
                        optimizer,
                        f"{mean('n_trials'):.0f}",
                        f"{100 * lost:.1f}",
                        f"{mean('n_evaluations'):.0f}",
                        f"{mean('items_nested'):.0f}",
                        f"{mean('items_verified'):.0f}",
                        f"{mean('items_full') / mean('items_nested'):.2f}",
                        f"{mean('ask_seconds'):.1f}",
                        f"{1000 * np.median([run['ask_median'] for run in runs]):.1f}",
                        f"{max(run['ask_worst'] for run in runs):.2f}",
                        f"{mean('tell_seconds'):.1f}",
                        f"{mean('seconds'):.0f}",
                    ]
                )
    header = [
        "problem",
        "optimizer",
        "trials",
        "not ok, %",
        "evaluations",
        "items",
        "verified",
        "full/nested",
        "ask, s",
        "median ask, ms",
    ]
    return _table([*header, "worst ask, s", "tell, s", "run, s"], rows)


def differences(results: Results, focus: str) -> str:
    """By problem the paired differences of final gains, the focus minus each other optimizer."""
    rows = []
    for optimizer in results.optimizers:
        found = [
            paired(results.finals(problem, focus), results.finals(problem, optimizer)) for problem in results.problems
        ]
        if optimizer != focus and any(found):
            rows.append([optimizer, *(_difference(each) for each in found)])
    return _table([f"{focus} minus", *results.problems], rows)


def reaching(results: Results, focus: str) -> str:
    """By problem the best rival, the ratio of gains, and where the focus has what the best rival has at the end.

    The best rival is the one that the focus leads least on the seeds that both have, and these are compared.
    """
    rows = []
    for problem in results.problems:
        own = results.finals(problem, focus)
        leads = {
            name: pair.mean
            for name in results.optimizers
            if name != focus and (pair := paired(own, results.finals(problem, name))) is not None
        }
        if not leads:
            continue
        best = min(leads, key=leads.__getitem__)
        seeds = own.keys() & results.finals(problem, best).keys()
        common = results.with_seeds(seeds)

        def final(name: str, problem: str = problem, common: Results = common) -> float:
            return float(np.mean(list(common.finals(problem, name).values())))

        ratio = final(focus) / final(best) if final(best) > 0 else np.nan
        tested = common.curves(problem, focus, "gain").mean(axis=0)
        # The rival with its verification, the focus without: no one can say that the clock was stopped early.
        target = final(best)
        rivals = [name for name in leads if len(common.of(problem, name)) == len(seeds)]
        goal = max(common.trajectory(problem, name)[-1] for name in rivals)
        rows.append(
            [
                problem,
                best,
                str(len(seeds)),
                _number(final(best)),
                _number(final(focus)),
                f"{ratio:.2f}" if np.isfinite(ratio) else "-",
                _share(reached(SHARES, tested.tolist(), target)),
                _share(reached(GRID.tolist(), common.trajectory(problem, focus).tolist(), goal, steps=True)),
            ]
        )
    header = ["problem", "best rival", "seeds", "its gain", f"gain of {focus}", "ratio"]
    return _table([*header, "reached, test items", "reached, search items"], rows)


def ranks(results: Results) -> str:
    """Mean ranks over blocks of (problem, seed) in a table, with what the tests say and who is not ranked below."""
    found = results.ranking()
    if found is None:
        return (
            "No ranking: it takes three optimizers with half of all blocks (problem, seed), and two blocks that all of "
            "them have finished."
        )
    others = [name for name in results.optimizers if name not in found.ranks]
    rows = [[name, f"{rank:.2f}"] for name, rank in sorted(found.ranks.items(), key=lambda pair: pair[1])]
    table = _table(["optimizer", "mean rank"], rows)
    n_blocks = len({(run["problem"], run["seed"]) for run in results.runs})
    return (
        f"{table}\n\n{found.n_blocks} of {n_blocks} blocks (problem, seed) are whole; "
        f"Friedman p = {found.p_value:.2g}; Nemenyi critical distance {found.distance:.2f} at 5 %."
        + (f" Not ranked, with less than half of the blocks: {', '.join(others)}." if others else "")
    )


def problems(results: Results) -> str:
    """What the problems are, with hypervolumes of sources and references on test items over all seeds."""
    rows = []
    for problem in results.problems:
        seeds = {run["seed"]: run for run in results.runs if run["problem"] == problem}
        sources, references = (np.mean([run[key] for run in seeds.values()]) for key in ("sources", "references"))
        budget = next(iter(seeds.values()))["budget"]
        rows.append([problem, PROBLEMS[problem].about, str(budget), _number(sources), _number(references)])
    return _table(["problem", "what", "items", "sources", "+ uniform merges"], rows)


def _difference(found: Paired | None) -> str:
    if found is None:
        return "-"
    if not np.isfinite(found.low):
        return f"{_number(found.mean, sign=True)} (n = 1)"
    interval = f"[{_number(found.low, sign=True)}, {_number(found.high, sign=True)}]"
    return f"{_number(found.mean, sign=True)} {interval} {found.wins}/{found.n}"


def _number(value: float, *, sign: bool = False) -> str:
    """Four digits after the point, without the nought before it."""
    text = f"{value:+.4f}" if sign else f"{value:.4f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _share(share: float | None) -> str:
    return "not reached" if share is None else f"{100 * share:.0f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

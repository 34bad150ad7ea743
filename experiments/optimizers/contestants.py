"""The optimizers of the study, as overrides of automerge's configuration, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

FOCUS = "bayes_evolution"
"""The optimizer that the others are compared with, unless another is named."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """An optimizer: Hydra overrides, colour and line in figures; an `ablation` is the focus with one option changed."""

    overrides: tuple[str, ...]
    colour: str
    line: str = "-"
    ablation: bool = False

    def at(self, first_rung: int) -> tuple[str, ...]:
        """Its overrides where the lowest rung is this one.

        The focus would choose its first rung by measured seconds, which here depend on what other runs have stored.
        """
        chooses = self.overrides[0] == f"optimizer={FOCUS}" and "optimizer.rungs=false" not in self.overrides
        return (*self.overrides, f"optimizer.first_rung={first_rung}") if chooses else self.overrides


def _named(name: str, colour: str, line: str = "-", *options: str) -> Contestant:
    return Contestant((f"optimizer={name}", *(f"optimizer.{option}" for option in options)), colour, line)


def _changed(option: str, colour: str) -> Contestant:
    return Contestant((f"optimizer={FOCUS}", f"optimizer.{option}"), colour, "-", ablation=True)


CONTESTANTS = {
    FOCUS: _named(FOCUS, "#d62728"),
    "evolution": _named("evolution", "#1f77b4"),
    "random_search": _named("random_search", "#7f7f7f"),
    "random_search_tied": _named("random_search", "#7f7f7f", "--", "tied=true"),
    "uniform_grid": _named("uniform_grid", "#bcbd22", "--"),
    "smac": _named("smac", "#2ca02c"),
    "smac_flat": _named("smac", "#2ca02c", "--", "flat=true"),
    "tpe": _named("tpe", "#9467bd"),
    "optuna_nsga2": _named("optuna_nsga2", "#9467bd", "--"),
    "sep_cma": _named("sep_cma", "#8c564b"),
    "catcma": _named("catcma", "#8c564b", "--"),
    "pymoo_de": _named("pymoo_de", "#17becf"),
    "pymoo_cma_es": _named("pymoo_cma_es", "#17becf", "--"),
    "pymoo_nsga2": _named("pymoo_nsga2", "#17becf", ":"),
    "qnehvi": _named("qnehvi", "#ff7f0e"),
    f"{FOCUS}_no_features": _changed("features=false", "#1f77b4"),
    f"{FOCUS}_no_block_operators": _changed("block_operators=false", "#2ca02c"),
    f"{FOCUS}_no_rungs": _changed("rungs=false", "#9467bd"),
    f"{FOCUS}_no_correlations": _changed("correlations=false", "#e377c2"),
    f"{FOCUS}_racing": _changed("racing=true", "#ff7f0e"),
    f"{FOCUS}_batch_1": _changed("batch=1", "#8c564b"),
}

RIVALS = tuple(name for name, contestant in CONTESTANTS.items() if not contestant.ablation)
ABLATIONS = tuple(name for name, contestant in CONTESTANTS.items() if contestant.ablation)

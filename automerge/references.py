"""Known models as recipes, for spaces that cannot hold them: the base, the sources, uniform merges of whole models.

They are what a search is compared with, whatever it searches::

    outside(["math", "code"], n_layers=32, strengths=[0.5])
    # base, math, code, linear, task_arithmetic 0.5: the names and the recipes of layer-wise fusion
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from automerge.encoding import PASSTHROUGH
from automerge.fusion_genes import FusionGenes
from automerge.protocols import Genotypes, Method, Reference, Space
from automerge.recipe import BASE, Fusion, Input, uniform


def outside(
    sources: Sequence[str],
    n_layers: int,
    strengths: Sequence[float],
    methods: Sequence[str | Method] = ("linear", "task_arithmetic"),
) -> dict[str, Reference]:
    """`base`, every source, and the uniform merges `METHOD` or `METHOD STRENGTH`, by name, all as recipes.

    Methods by whose weights only the ratio counts join several sources alike; others are repeated for every strength,
    the common weight. Raises ValueError for unknown methods, and for none that takes so few sources.
    """
    part = FusionGenes(sources=sources, methods=methods, max_weight=max([1.0, *strengths]))
    known = {name: Fusion(PASSTHROUGH, (Input(name, None),)) for name in (BASE, *sources)}
    merges = {name: part.fusion(values, 0, None) for name, values in part.uniform(strengths).items()}
    return {name: Reference(None, "source", uniform(fusion, n_layers)) for name, fusion in known.items()} | {
        name: Reference(None, "uniform", uniform(fusion, n_layers)) for name, fusion in merges.items()
    }


def inside(known: Mapping[str, Reference], space: Space, candidates: Genotypes) -> dict[str, Reference]:
    """The references in order, by genotype instead of recipe where one of these canonical genotypes decodes to it."""
    genotypes = {space.decode(x).id: x for x in candidates}
    return {
        name: Reference(genotypes[each.recipe.id], each.kind) if each.recipe and each.recipe.id in genotypes else each
        for name, each in known.items()
    }

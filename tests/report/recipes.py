"""Hand-made recipes that a report has to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from automerge.recipe import BASE, COMPONENTS, Fusion, Input, OutputLayer, Recipe

OUTER = Fusion("passthrough", (Input(BASE, None),))


def whole(fusion: Fusion, scale: float = 1.0) -> OutputLayer:
    """An output layer all of whose components are one fusion."""
    return OutputLayer(tuple((component, fusion) for component in COMPONENTS), scale)


def copied(source: str, layer: int, scale: float = 1.0) -> OutputLayer:
    """An output layer that is a layer of a source."""
    return whole(Fusion("passthrough", (Input(source, layer),)), scale)


def mixed(method: str, layer: int, scale: float = 1.0, /, **weights: float) -> OutputLayer:
    """An output layer that fuses one layer of several sources."""
    parameters = (("density", 0.5),) if method == "ties" else ()
    inputs = tuple(Input(source, layer, weight) for source, weight in weights.items())
    return whole(Fusion(method, inputs, parameters), scale)


def stacked(places: Iterable[tuple[str, int]]) -> Recipe:
    """A stack of copied layers."""
    return Recipe(tuple(copied(source, layer) for source, layer in places), OUTER)


def scaled_stack() -> Recipe:
    """A stack of 8 layers of three sources: a repeat, a skip, a swap, and scales before and after it."""
    places = [("math", 0), ("math", 1), ("math", 2), ("math", 1), ("math", 2), ("code", 3), ("code", 6), ("chat", 5)]
    scales = [1.0, 1.0, 0.5, 1.0, 1.0, 1.6, 1.0, 1.0]
    layers = (copied(source, layer, scale) for (source, layer), scale in zip(places, scales, strict=True))
    return Recipe((*layers, copied("math", 7)), OUTER)


def pruned_fusions() -> Recipe:
    """Five of eight layers, two of which are fused."""
    return Recipe(
        (
            copied("math", 0),
            mixed("linear", 1, math=3, code=1),
            mixed("ties", 4, math=0.5, code=0.4, chat=0.6),
            copied("code", 5),
            copied("math", 7),
        ),
        OUTER,
    )


def fused(
    n_layers: int, sources: Sequence[str], methods: Sequence[str], *, granularity: int = 1, seed: int = 0
) -> Recipe:
    """A recipe that keeps all layers in their places and fuses every component by drawn settings."""
    rng = np.random.default_rng(seed)

    def fusion(layer: int | None) -> Fusion:
        weights = rng.dirichlet(np.ones(len(sources))).round(4)
        inputs = [Input(name, layer, float(w)) for name, w in zip(sources, weights, strict=True) if w > 0.1]
        method = str(rng.choice(methods))
        return Fusion(method, tuple(inputs), (("density", 0.5),) if method == "ties" else ())

    layers: list[OutputLayer] = []
    for depth in range(n_layers):
        if depth % granularity == 0:
            first = {component: fusion(depth) for component in COMPONENTS}
        at_depth = [
            (name, Fusion(f.method, tuple(Input(i.source, depth, i.weight) for i in f.inputs), f.parameters))
            for name, f in first.items()
        ]
        layers.append(OutputLayer(tuple(at_depth)))
    return Recipe(tuple(layers), fusion(None))


def deep_stack(n_layers: int, n_source_layers: int, *, seed: int = 0) -> Recipe:
    """A long stack of three sources in blocks that repeat, skip and swap, a few of them fused and scaled."""
    rng = np.random.default_rng(seed)
    layers: list[OutputLayer] = []
    while len(layers) < n_layers:
        source = str(rng.choice(["math", "code", "chat"]))
        start = min(max(0, len(layers) * n_source_layers // n_layers + int(rng.integers(-6, 7))), n_source_layers - 8)
        for k in range(int(rng.integers(1, 9))):
            if rng.random() < 0.1:
                layers.append(mixed("linear", start + k, math=0.5, code=0.3, chat=0.2))
            else:
                layers.append(copied(source, start + k, float(rng.choice([1, 1, 1, 1, 0.7, 1.5]))))
    return Recipe(tuple(layers[:n_layers]), OUTER)

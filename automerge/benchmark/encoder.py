"""A space as a file, and the file as the same space again, without torch.

The methods' modules import torch, which reading does without: the file holds what a space asks of its methods, and the
space that is read back holds methods of the same traits that cannot merge::

    content = encoder_content(space, settings["config"]["space"], settings["layout"], measures)
    build_space(json.loads(json.dumps(content))).features(X)   # the same numbers as space.features(X)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any, cast

import numpy as np

import automerge
from automerge import methods as methods_folder
from automerge.components import build
from automerge.measures import from_settings, to_settings
from automerge.protocols import Elementwise, Measures, Method, Parameter, Space, WeightedSum

N_GOLDEN = 8
"""Genotypes whose features the file tells, so that a reader knows that it sees the same."""

TOLERANCE = 1e-9
"""How far features may be from the golden ones: rounding, no more."""


def encoder_content(
    space: Space, spec: Mapping[str, Any], layout: Mapping[str, Any], measures: Measures | None
) -> dict[str, Any]:
    """What `build_space` needs of a space, ready for JSON.

    `spec` are the settings that the space was built from, `layout` has its `sources` and `n_layers`. The golden
    features are those of the space told of the measures, if there are any.
    """
    told = space if measures is None else space.measured(measures)
    golden = told.sample(N_GOLDEN, np.random.default_rng(0))
    return {
        "automerge": automerge.__version__,
        "target": spec["_target_"],
        "options": {key: value for key, value in spec.items() if key not in ("_target_", "methods")},
        "sources": list(layout["sources"]),
        "n_layers": int(layout["n_layers"]),
        "methods": [_traits(methods_folder.load(name)) for name in _method_names(space, spec)],
        "measures": None if measures is None else to_settings(measures),
        "features": list(told.feature_names),
        "golden": {"genotypes": golden.tolist(), "features": told.features(golden).tolist()},
    }


def build_space(content: Mapping[str, Any]) -> Space:
    """The space of `encoder_content`. It does all that spaces do; only its methods cannot merge.

    Raises ValueError if the content is damaged, or if this automerge describes genotypes by other features.
    """
    try:
        spec = {"_target_": content["target"], **content["options"]}
        if content["methods"]:
            spec["methods"] = [_method(traits) for traits in content["methods"]]
        space: Space = build(spec, sources=content["sources"], n_layers=content["n_layers"])
        if content["measures"]:
            space = space.measured(from_settings({"measures": content["measures"]}))
        names, golden = list(content["features"]), content["golden"]
        genotypes = np.array(golden["genotypes"], dtype=np.float64).reshape(-1, len(space.genes))
        expected = np.array(golden["features"], dtype=np.float64).reshape(-1, len(names))
    except (KeyError, TypeError, AttributeError, ValueError) as fault:
        raise ValueError(
            f"the encoder gives no space under automerge {automerge.__version__} ({type(fault).__name__}: {fault}); it "
            f"was written by automerge {_version(content)}: use that one, or export the runs again"
        ) from fault
    found = space.features(genotypes) if list(space.feature_names) == names else None
    if (
        found is None
        or np.abs(space.repair(genotypes) - genotypes).max(initial=0) > TOLERANCE
        or np.abs(found - expected).max(initial=0) > TOLERANCE
    ):
        raise ValueError(
            f"automerge {automerge.__version__} describes genotypes by other features than automerge "
            f"{_version(content)}, which wrote this benchmark, so its models would be wrong; use that one, or export "
            "the runs again"
        )
    return space


def _version(content: Mapping[str, Any]) -> str:
    return str(content.get("automerge", "of an unknown version"))


def _method_names(space: Space, spec: Mapping[str, Any]) -> Sequence[str]:
    """The methods that the space is built with, empty if it is not to be told any."""
    parameters = inspect.signature(type(space)).parameters
    return cast("Sequence[str]", spec.get("methods", parameters["methods"].default)) if "methods" in parameters else ()


def _traits(method: Method) -> dict[str, Any]:
    """What a space asks of a method, ready for JSON."""
    return {
        "kind": type(method).__name__,
        "name": method.name,
        "weighting": method.weighting,
        "vectors": method.vectors,
        "same": isinstance(method, WeightedSum) and method.same,
        "max_inputs": method.max_inputs,
        "parameters": [list(astuple(parameter)) for parameter in method.parameters],
    }


def _method(traits: Mapping[str, Any]) -> Method:
    """A method of these traits that cannot merge."""
    name, weighting, most = traits["name"], traits["weighting"], traits["max_inputs"]
    parameters = tuple(Parameter(*values) for values in traits["parameters"])
    if traits["kind"] == "Elementwise":
        return Elementwise(name, _cannot_merge, _cannot_merge, weighting, parameters, max_inputs=most)
    return WeightedSum(name, _cannot_merge, weighting, traits["same"], traits["vectors"], most, parameters)


def _cannot_merge(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a benchmark answers without merging; decode the genotype and merge its recipe with automerge")

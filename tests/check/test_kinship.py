"""Which sources are fine-tunes of the base, on models made to be and not to be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from automerge.check.kinship import ALIKE, FAR, UNRELATED, kinship_faults, kinship_warnings, layer_distances
from automerge.merge import ResidentSources
from automerge.sources.checkpoint import CheckpointSource
from automerge.task_vectors import TaskVectors, task_vectors
from tests import toy


def measure(**folders: Path) -> TaskVectors:
    return task_vectors(ResidentSources([CheckpointSource(name, str(folder)) for name, folder in folders.items()]))


def made(*products: tuple[tuple[float, ...], ...]) -> TaskVectors:
    """Task vectors with these inner products, a layer each, all in the mlp."""
    names = tuple(f"source{k}" for k in range(len(products[0]) - 1))
    return TaskVectors(names, {(layer, "mlp"): found for layer, found in enumerate(products)})


def lone(*distances: float) -> TaskVectors:
    """One source with these relative distances by layer."""
    return made(*(((1.0, 0.0), (0.0, distance**2)) for distance in distances))


def test_fine_tunes_raise_no_word(llama: dict[str, Path]) -> None:
    vectors = measure(**llama)
    assert kinship_faults(vectors) == []
    assert kinship_warnings(vectors) == []


def test_another_initialisation_is_refused_with_its_distances_by_layer(llama: dict[str, Path], tmp_path: Path) -> None:
    stranger = toy.make_model(tmp_path / "stranger", seed=9)
    vectors = measure(base=llama["base"], left=llama["left"], stranger=stranger)
    (fault,) = kinship_faults(vectors)
    distances = layer_distances(vectors)[:, 1]
    assert "source 'stranger' does not look like a fine-tune of this base" in fault
    assert f"by layer {' '.join(f'{distance:.2f}' for distance in distances)};" in fault
    np.testing.assert_allclose(distances, 2**0.5, atol=0.07)


def test_norms_do_not_hide_that_a_model_is_unrelated(llama: dict[str, Path], tmp_path: Path) -> None:
    """In this tiny model the norms, which are all 1, outweigh the matrices of a layer."""
    stranger = toy.make_model(tmp_path / "stranger", seed=9)
    vectors = measure(base=llama["base"], stranger=stranger)
    assert vectors.layer(0).norms[0] < FAR < UNRELATED < layer_distances(vectors)[0, 0]


def test_a_copy_of_the_base_is_refused_by_name(llama: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(llama["base"], tmp_path / "copy")
    vectors = measure(base=llama["base"], left=llama["left"], copy=tmp_path / "copy")
    (fault,) = kinship_faults(vectors)
    assert fault.startswith("source 'copy' equals the base in every weight; leave it out")
    assert kinship_warnings(vectors) == []


def test_two_equal_sources_are_warned_of(llama: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(llama["left"], tmp_path / "again")
    (warning,) = kinship_warnings(measure(**llama, again=tmp_path / "again"))
    assert "sources 'left' and 'again' are the same" in warning


@pytest.mark.parametrize(("distance", "alike"), [(0.5 * ALIKE, True), (2 * ALIKE, False)])
def test_sources_are_alike_up_to_a_bound(distance: float, alike: bool) -> None:
    """The second task vector is the first and a bit at a right angle to it."""
    vectors = made(((100.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.0, 1.0, 1 + distance**2)))
    assert ["are the same" in warning for warning in kinship_warnings(vectors)] == [True] * alike


def test_most_layers_decide() -> None:
    assert kinship_faults(lone(1.4, 0.1, 0.1)) == []
    assert len(kinship_faults(lone(1.4, 1.4, 0.1))) == 1
    assert kinship_warnings(lone(0.6, 0.6, 0.1))[0].startswith("source 'source0' is far from the base")
    assert "0.60 0.60 0.10" in kinship_warnings(lone(0.6, 0.6, 0.1))[0]
    assert kinship_warnings(lone(1.4, 1.4, 0.1)) == []

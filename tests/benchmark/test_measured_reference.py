"""Known models of a benchmark; the folder is made by hand, so that the truth is known."""

from __future__ import annotations

from automerge.benchmark import Benchmark


def test_references_are_told_as_measured(b: Benchmark) -> None:
    assert [known.name for known in b.reference_configs][:3] == ["base", "left", "right"]
    left = b.reference_configs[1]
    assert left.genotype is not None
    assert left.config is not None
    assert (b.genotypes(left.config)[0] == left.genotype).all()
    assert left.recipe == b.space.decode(left.genotype)
    assert left.measured["code"] == {"search": (10.0, 50), "test": (9.0, 40)}
    assert left.measured["math"]["test"] is None
    assert left.status == "ok"

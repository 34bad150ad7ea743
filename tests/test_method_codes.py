"""Methods as codes, with their traits by code."""

from dataclasses import replace

import pytest

from automerge.fusion_genes import option_faults
from automerge.method_codes import MethodCodes
from automerge.methods import load

METHODS = ("ties", "slerp", "task_arithmetic", "karcher", "model_stock", "della")


def test_traits_are_told_by_code() -> None:
    table = MethodCodes(METHODS, sources=("a", "b"))
    assert list(table.codes.items()) == [(name, code) for code, name in enumerate(METHODS)]

    def those(trait: object) -> set[str]:
        return {name for name, has in zip(METHODS, trait, strict=True) if has}  # type: ignore[call-overload]

    assert those(table.ratio) == {"slerp", "karcher", "model_stock"}
    assert those(table.equal) == {"model_stock"}
    assert those(table.pairs) == {"slerp"}
    assert those(table.sparse) == {"ties", "della"}
    assert {name: those(takes) for name, takes in table.takes.items()} == {
        "density": {"ties", "della"},
        "epsilon": {"della"},
    }


@pytest.mark.parametrize(
    ("methods", "plain", "vector"),
    [
        (METHODS, "slerp", "ties"),
        (("sce", "ties"), "sce", "ties"),
        (("sce", "linear"), "linear", None),
        (("dare_ties", "task_arithmetic"), "task_arithmetic", "dare_ties"),
    ],
)
def test_a_source_is_written_by_what_drops_nothing_and_the_base_by_what_starts_from_it(
    methods: tuple[str, ...], plain: str, vector: str | None
) -> None:
    table = MethodCodes(methods, sources=("a", "b"))
    assert (table.plain, table.vector) == (plain, vector)


def test_of_one_source_only_methods_that_do_not_join_are_kept() -> None:
    names = ("karcher", "ties", "linear", "sce", "task_arithmetic")
    table = MethodCodes(names, sources=("a",))
    assert tuple(table.known) == ("ties", "linear", "task_arithmetic")
    assert tuple(MethodCodes(names, sources=("a", "b")).known) == names
    with pytest.raises(ValueError, match=r"karcher, sce join .* only a; add linear or task_arithmetic"):
        MethodCodes(("karcher", "sce"), sources=("a",))


def test_plain_sums_need_no_flag() -> None:
    """Their weights say all; vectors that are joined, and methods with parameters, do something else."""
    table = MethodCodes((*METHODS, "linear", "nuslerp"), sources=("a", "b"))
    assert table.flagged == ("ties", "model_stock", "della", "nuslerp")


def test_methods_are_told_by_name_or_as_they_are() -> None:
    known = load("ties")
    table = MethodCodes(("linear", known), sources=("a", "b"))
    named = MethodCodes(("linear", "ties"), sources=("a", "b"))
    assert table.known == named.known
    assert (table.sparse == named.sparse).all()
    other = replace(known, name="ours", parameters=())
    assert [*MethodCodes((other,), sources=("a",)).known] == ["ours"]
    assert option_faults(sources=("a",), methods=(other,), max_weight=1.0) == []
    assert option_faults(sources=("a",), methods=(known, "ties"), max_weight=1.0) == [
        "each method can be named once, got ['ties', 'ties']"
    ]

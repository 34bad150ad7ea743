from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor

from automerge import methods
from automerge.methods import dare_ties, ties
from automerge.protocols import Elementwise
from automerge.tensors.formulas import Formula, weighted_sum
from automerge.tensors.kernels import PIECE, SMALL, Kernels
from automerge.tensors.magnitudes import PATTERN

GENERATOR = torch.Generator().manual_seed(0)


def numbers(n: int, k: int = 1) -> list[Tensor]:
    return [torch.randn(n, generator=GENERATOR).bfloat16() for _ in range(k)]


def bytes_(n: int, k: int) -> list[Tensor]:
    return [torch.randint(0, 256, (n,), generator=GENERATOR, dtype=torch.uint8) for _ in range(k)]


def tiled(constant: Tensor, n: int, start: int = 0) -> Tensor:
    """Rows of thresholds laid over n entries from that position on, without any trick."""
    if constant.shape[-1] != PATTERN:
        return constant
    return constant[..., (torch.arange(n) + start) % PATTERN]


THRESHOLDS = torch.rand(3, PATTERN, generator=GENERATOR)
WEIGHTS = torch.tensor([[0.5], [0.7], [-0.2]])


@pytest.mark.parametrize("n", [1, 900, PATTERN, 5 * PATTERN + 3, PIECE["cpu"] + 700])
@pytest.mark.parametrize("start", [0, 300, PATTERN])
def test_pieces_and_tails_give_what_the_formula_gives_on_the_whole(n: int, start: int) -> None:
    base, tensors = numbers(n)[0], numbers(n, 3)
    out = torch.empty(n)
    Kernels().run(ties.formula, base, tensors, [], [WEIGHTS, THRESHOLDS], out=out, start=start)
    expected = ties.formula(base, tensors, [], [WEIGHTS, tiled(THRESHOLDS, n, start)])
    assert torch.equal(out, expected)


def test_results_are_rounded_to_the_dtype_of_their_place() -> None:
    tensors = numbers(2_000, 2)
    out = torch.empty(2_000, dtype=torch.bfloat16)
    Kernels().run(weighted_sum, tensors[0], tensors, [], [WEIGHTS[:2]], out=out)
    assert torch.equal(out, (0.5 * tensors[0].float() + 0.7 * tensors[1].float()).bfloat16())


@pytest.mark.parametrize(("formula", "n_masks"), [(weighted_sum, 0), (ties.formula, 0), (dare_ties.formula, 1)])
def test_a_kernel_for_more_inputs_gives_the_same_for_fewer(
    formula: Formula, n_masks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    kernels, n = Kernels(), SMALL + 10
    constants = {
        weighted_sum: [WEIGHTS],
        ties.formula: [WEIGHTS, THRESHOLDS],
        dare_ties.formula: [WEIGHTS, torch.tensor([100.0]), WEIGHTS],
    }[formula]
    kernels.make(formula, numbers(SMALL)[0], numbers(SMALL, 3), bytes_(SMALL, 3 * n_masks), constants)
    assert kernels.why_eager is None
    base, tensors, masks = numbers(n)[0], numbers(n, 2), bytes_(n, 2 * n_masks)
    fewer = [constant[:2] if constant.dim() == 2 else constant for constant in constants]
    found, expected = torch.empty(n, dtype=torch.bfloat16), torch.empty(n, dtype=torch.bfloat16)
    kernels.run(formula, base, tensors, masks, fewer, out=found)
    Kernels().run(formula, base, tensors, masks, fewer, out=expected)
    assert torch.equal(found, expected)


def test_without_a_compiler_everything_stays_eager_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> object:
        def kernel(*_: object) -> None:
            raise RuntimeError("No working C++ compiler found\nand more")

        return kernel

    monkeypatch.setattr(torch, "compile", fail)
    kernels = Kernels()
    kernels.make(weighted_sum, numbers(SMALL)[0], numbers(SMALL, 2), [], [WEIGHTS[:2]])
    assert kernels.why_eager == "compiling failed (No working C++ compiler found)"
    out, tensors = torch.empty(SMALL), numbers(SMALL, 2)
    kernels.run(weighted_sum, tensors[0], tensors, [], [WEIGHTS[:2]], out=out)
    assert torch.equal(out, 0.5 * tensors[0].float() + 0.7 * tensors[1].float())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None and importlib.util.find_spec("triton") is None, reason="no compiler")
def test_compiled_kernels_equal_eager_pieces_bit_for_bit() -> None:
    from automerge.merge import ResidentSources
    from automerge.recipe import BASE, Fusion, Input
    from automerge.sources.memory import MemorySource

    shape = (300, 1024)
    base = torch.randn(shape, generator=GENERATOR).bfloat16()
    tuned = [(base.float() + 0.1 * torch.randn(shape, generator=GENERATOR)).bfloat16() for _ in range(3)]
    weights = {
        name: {"layers.0.mlp.w": tensor} for name, tensor in zip((BASE, "a", "b", "c"), [base, *tuned], strict=True)
    }
    sources = [MemorySource(name, tensors) for name, tensors in weights.items()]
    names = [name for name in methods.names() if name != "passthrough"]
    fused, eager = ResidentSources(sources), ResidentSources(sources)
    fused.compile("always", names)
    assert not [note for note in fused.notes if "eager" in note]
    for name in names:
        method = methods.load(name)
        inputs = tuple(Input(s, 0, w) for s, w in zip("abc", (0.3, 0.8, 0.5), strict=True))[: method.max_inputs or 3]
        for chosen in (inputs, inputs[:2]):
            if isinstance(method, Elementwise) or name != "model_stock":
                fusion = Fusion(name, chosen, tuple((p.name, p.default) for p in method.parameters))
                (one,), (other,) = ([t for _, t in each.merge(fusion, "mlp")] for each in (fused, eager))
                assert torch.equal(one, other), name
                assert np.isfinite(one.float().numpy()).all()

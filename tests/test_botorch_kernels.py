"""BoTorch compiles nothing once it was told not to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from botorch.acquisition.multi_objective import logei
from botorch.models import SingleTaskGP
from torch.utils import cpp_extension

from automerge.botorch_kernels import disable_compilation


class CompilationError(Exception):
    """Raised by the compiler of these tests."""


def build() -> None:
    """Builds the acquisition function at which BoTorch compiles its kernel."""
    X = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    model = SingleTaskGP(X, torch.cat([X, 1 - X], dim=1))
    logei.qLogNoisyExpectedHypervolumeImprovement(model, ref_point=[0.0, 0.0], X_baseline=X)


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what was compiled, in a BoTorch that has not tried yet."""
    found = []

    def load(name: str, **settings: Any) -> None:
        found.append(name)
        raise CompilationError

    monkeypatch.setattr(logei, "_load_attempted", False)
    monkeypatch.setattr(cpp_extension, "load", load)
    return found


def test_nothing_is_compiled(compilations: list[str]) -> None:
    disable_compilation()
    build()
    assert compilations == []


@pytest.mark.filterwarnings("ignore:Failed to compile")
def test_botorch_would_compile_by_itself(compilations: list[str]) -> None:
    """If this fails, this version of BoTorch compiles nothing or elsewhere: look whether the switch is still needed."""
    build()
    assert len(compilations) == 1

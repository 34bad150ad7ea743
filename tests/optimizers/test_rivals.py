"""The optimizers of the extra `rivals` where what they need is missing."""

import sys

import pytest

from automerge import components


@pytest.mark.parametrize(
    ("module", "name", "package"),
    [
        ("tpe", "Tpe", "optuna"),
        ("optuna_nsga2", "OptunaNsga2", "optuna"),
        ("sep_cma", "SepCma", "cmaes"),
        ("catcma", "CatCma", "cmaes"),
        ("pymoo_de", "PymooDe", "pymoo.algorithms.moo.gde3"),
    ],
)
def test_without_the_package_the_fault_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, package: str
) -> None:
    target = f"automerge.optimizers.{module}"
    for loaded in (target, "automerge.optuna_study"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    (fault,) = components.faults("optimizer", {"_target_": f"{target}.{name}"})
    assert fault.startswith(f"optimizer: {name} cannot be used: it needs ")
    assert f"pip install {package}" in fault or "pip install --upgrade pymoo" in fault

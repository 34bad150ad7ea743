import numpy as np

from automerge.landscape.survival import MINIMUM, Survival


def cliff(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).random((n, 4))
    return X, X[:, 1] < 0.7


def test_a_cliff_is_learned_from_broken_models() -> None:
    X, works = cliff(200)
    survival = Survival(X[:120], works[:120], seed=0)
    chances = survival.predict(X[120:])
    assert chances[works[120:]].mean() > 0.85
    assert chances[~works[120:]].mean() < 0.3
    assert ((chances > 0) & (chances < 1)).all()


def test_few_broken_models_say_nothing() -> None:
    X, _ = cliff(50)
    works = np.ones(50, dtype=bool)
    works[: MINIMUM - 1] = False
    assert (Survival(X, works, seed=0).predict(X) == 1).all()
    works[:MINIMUM] = False
    assert (Survival(X, works, seed=0).predict(X) < 1).any()

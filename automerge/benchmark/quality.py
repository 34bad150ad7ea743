"""How well predicted scores agree with measured ones, beside what the noise of measuring allows.

Measured shares are k right of n items, so the best prediction of all leaves the binomial noise unexplained.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, norm, rankdata

Values = NDArray[np.float64]

LEAST = 10
"""Fewest rows of which figures are given."""

TOP = 0.9
"""Quantile of the measured scores from which on a model counts as one of the best."""

LEVEL = 0.9
"""Share of measured scores that intervals are to hold."""

Figures = dict[str, float | None]
"""Figures by name, as JSON holds them: None where there is none."""


def quality(measured: Values, predicted: Values, n: Values) -> Figures:
    """Figures of predictions of shares that were measured on n items each, all of shape (n_rows,).

    `rows`; `r2`, `rmse`; Kendall's `tau` (b), and `tau_sparse` with both rounded to multiples of one item's share, so
    that differences that cannot be measured do not count; `ceiling`, the R2 that noise allows, and `of_ceiling`, the
    part of it that is reached, which may exceed 1 where models share their items; `tau_top` within the best tenth by
    measurement; `regret`, how much less than the best the model that is predicted to be the best was measured. All but
    `rows` are None for fewer than LEAST rows or equal measurements. The sparse tau is that of NAS-Bench-301 (Zela et
    al. 2022).
    """
    names = ("r2", "rmse", "tau", "tau_sparse", "ceiling", "of_ceiling", "tau_top", "regret")
    figures: Figures = {"rows": float(len(measured)), **dict.fromkeys(names)}
    if len(measured) < LEAST or np.ptp(measured) == 0:
        return figures
    r2 = 1 - np.sum((measured - predicted) ** 2) / np.sum((measured - measured.mean()) ** 2)
    ceiling = noise_ceiling(measured, n)
    step = 1 / n.max()
    best = measured >= np.quantile(measured, TOP)
    figures |= {
        "r2": float(r2),
        "rmse": float(np.sqrt(np.mean((measured - predicted) ** 2))),
        "tau": _tau(measured, predicted),
        "tau_sparse": _tau(np.round(measured / step), np.round(predicted / step)),
        "ceiling": ceiling,
        "of_ceiling": float(r2 / ceiling) if ceiling > 0 else None,
        "tau_top": _tau(measured[best], predicted[best]) if best.sum() >= LEAST else None,
        "regret": float(measured.max() - measured[predicted.argmax()]),
    }
    return figures


def noise_ceiling(measured: Values, n: Values) -> float:
    """The R2 of the true scores for measured shares: 1 - mean(p (1 - p) / n) / var(measured).

    The measured share stands for p. All shares must not be equal.
    """
    return float(1 - np.mean(measured * (1 - measured) / n) / measured.var())


def coverage(measured: Values, predicted: Values, spread: Values, n: Values, fitted: NDArray[np.bool_]) -> Figures:
    """The share of measurements inside predicted intervals of LEVEL, and the mean `width` of these.

    `inside` takes the spread of the bags for the standard error of the predictions and adds the binomial noise of n
    items; `noise_only` leaves the spread out. `factor`, 0 or more, is what the spread has to be multiplied by to
    explain the squared errors of the `fitted` rows that noise does not, and `calibrated` is the share of the other rows
    that is inside with it. All arguments have shape (n_rows,). Figures of fewer than LEAST rows are None, and so is the
    factor without any spread.
    """
    names = ("inside", "width", "noise_only", "factor", "calibrated")
    figures: Figures = {"rows": float(len(measured)), **dict.fromkeys(names)}
    if len(measured) < LEAST:
        return figures
    z = float(norm.ppf((1 + LEVEL) / 2))
    noise = predicted * (1 - predicted) / n
    missed = np.abs(measured - predicted)
    half = z * np.sqrt(spread**2 + noise)
    figures |= {
        "inside": float(np.mean(missed <= half)),
        "width": float(2 * half.mean()),
        "noise_only": float(np.mean(missed <= z * np.sqrt(noise))),
    }
    explained = float(np.sum(spread[fitted] ** 2))
    if fitted.sum() >= LEAST and explained > 0:
        excess = float(np.sum((missed**2 - noise)[fitted]))
        factor = np.sqrt(max(0.0, excess / explained))
        figures["factor"] = float(factor)
        if (~fitted).sum() >= LEAST:
            inside = missed <= z * np.sqrt((factor * spread) ** 2 + noise)
            figures["calibrated"] = float(np.mean(inside[~fitted]))
    return figures


def area_under_curve(is_positive: NDArray[np.bool_], predicted: Values) -> float | None:
    """The probability that a positive row is predicted higher than another one, ties counted half.

    None if there are no rows of one of the two kinds.
    """
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_negative:
        return None
    above = rankdata(predicted)[is_positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * n_negative))


def _tau(first: Values, second: Values) -> float | None:
    """Kendall's tau-b, None where one of the two is constant."""
    found = float(kendalltau(first, second).statistic)
    return found if np.isfinite(found) else None

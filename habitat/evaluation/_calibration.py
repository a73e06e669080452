"""Whether probabilities are what they say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from scipy.special import expit, logit

from habitat.evaluation._metrics import LEVEL, wilson
from habitat.selection import midranks

Floats = npt.NDArray[np.float64]

LEAST = 1e-6  # probabilities nearer to 0 or 1 count as this where logits are needed
SPAN = 0.75  # of the cases around a point that the smooth curve looks at
GROUPS = 10
BINS = 20  # of the histogram of probabilities


class Calibration(NamedTuple):
    """Agreement of probabilities with outcomes (METHODS 8.6)."""

    intercept: float  # calibration in the large: 0 is right, above 0 risks are too low
    intercept_interval: tuple[float, float]
    slope: float  # 1 is right, below 1 risks are too extreme
    slope_interval: tuple[float, float]
    oe: float  # observed over expected events
    oe_interval: tuple[float, float]
    ici: float  # mean distance from the smooth curve
    e50: float  # median distance
    e90: float  # its 90th percentile
    spiegelhalter_z: float
    spiegelhalter_p: float
    hosmer_lemeshow: float  # chi-squared of ten groups
    hosmer_lemeshow_df: int
    hosmer_lemeshow_p: float


def calibration(y: npt.ArrayLike, p: npt.ArrayLike) -> Calibration:
    """Measure the calibration of two classes.

    Parameters
    ----------
    y : (n,) array of 0 and 1
    p : (n,) array
        Probabilities of 1, of cases that the model did not learn from.

    Notes
    -----
    Intercept: ``logit(y) = a + offset(logit p)``; slope: ``logit(y) = a + b logit p``;
    Wald intervals. ICI, E50, E90 (Austin and Steyerberg, Stat Med 2019;38:4051) from a
    local linear regression with tricube weights over 3/4 of the cases. Hosmer and
    Lemeshow's groups are ten of equal size by p, cases of equal p in one of them; with
    p from outside, df = groups. It has little power: report it, but do not rely on it.
    Probabilities nearer than 1e-6 to 0 or 1 count as that.
    """
    truth = np.asarray(y, dtype=np.float64)
    given = np.asarray(p, dtype=np.float64)
    z = logit(np.clip(given, LEAST, 1 - LEAST))
    half = float(stats.norm.ppf(0.5 + LEVEL / 2))
    (a,), cov = _logistic(np.ones((truth.size, 1)), truth, z)
    spread_a = half * float(np.sqrt(cov[0, 0]))
    coefficients, cov = _logistic(np.column_stack([np.ones_like(z), z]), truth)
    b, spread_b = float(coefficients[1]), half * float(np.sqrt(cov[1, 1]))
    gap = np.abs(smooth(given, truth, given) - given)
    expected = float(given.sum())
    events = float(truth.sum())
    spread = half * np.sqrt(max(1 - events / truth.size, 0.0) / max(events, 1e-12))
    oe = events / expected if expected else np.nan
    chi2, df = _hosmer_lemeshow(truth, given)
    zs = _spiegelhalter(truth, given)
    return Calibration(
        float(a),
        (float(a) - spread_a, float(a) + spread_a),
        b,
        (b - spread_b, b + spread_b),
        oe,
        (oe * float(np.exp(-spread)), oe * float(np.exp(spread))),
        float(gap.mean()),
        float(np.median(gap)),
        float(np.quantile(gap, 0.9)),
        zs,
        float(2 * stats.norm.sf(abs(zs))),
        chi2,
        df,
        float(stats.chi2.sf(chi2, df)),
    )


def _logistic(
    X: Floats, y: Floats, offset: Floats | float = 0.0
) -> tuple[Floats, Floats]:
    """Plain logistic regression by Newton's method: coefficients and covariance.

    Where classes can be told apart completely the coefficients have no finite value:
    they are then NaN.
    """
    b = np.zeros(X.shape[1])
    for _ in range(100):
        p = expit(X @ b + offset)
        hessian = X.T @ (X * (p * (1 - p))[:, None])
        if np.linalg.cond(hessian) > 1e12 or np.abs(b).max() > 50:
            break
        step = np.linalg.solve(hessian, X.T @ (y - p))
        b = b + step
        if np.abs(step).max() < 1e-10:
            return b, np.linalg.inv(hessian)
    none = np.full((b.size, b.size), np.nan)
    return none[0], none


def _spiegelhalter(y: Floats, p: Floats) -> float:
    """Spiegelhalter, Stat Med 1986;5:421."""
    variance = float(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    return float(((y - p) * (1 - 2 * p)).sum()) / np.sqrt(variance) if variance else 0.0


def _groups(p: Floats) -> list[npt.NDArray[np.intp]]:
    """Ten groups by p of nearly equal size; equal p are never torn apart."""
    group = (GROUPS * (midranks(p) - 0.5) / p.size).astype(int)
    return [np.flatnonzero(group == g) for g in np.unique(group)]


def _hosmer_lemeshow(y: Floats, p: Floats) -> tuple[float, int]:
    chi2 = 0.0
    parts = _groups(p)
    for part in parts:
        mean = float(np.clip(p[part].mean(), LEAST, 1 - LEAST))
        gap = float(y[part].sum()) - part.size * mean
        chi2 += gap**2 / (part.size * mean * (1 - mean))
    return chi2, len(parts)


def smooth(p: Floats, y: Floats, at: Floats, span: float = SPAN) -> Floats:
    """Share of events near each point: local lines, tricube weights, within [0, 1]."""
    width = min(max(2, int(np.ceil(span * p.size))), p.size)
    out = np.empty(at.size)
    for i, x in enumerate(at):
        distance = np.abs(p - x)
        reach = np.partition(distance, width - 1)[width - 1]
        reach = reach if reach > 0 else 1.0  # so many are equal
        w = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        if not w.any():
            w = (distance <= reach).astype(np.float64)
        center = w @ p / w.sum()
        moment = w @ (p - center) ** 2
        slope = w @ ((p - center) * y) / moment if moment > 1e-12 * w.sum() else 0.0
        out[i] = w @ y / w.sum() + slope * (x - center)
    return np.clip(out, 0.0, 1.0)


def calibration_curve(y: npt.ArrayLike, p: npt.ArrayLike) -> pd.DataFrame:
    """Observed share of events against probability.

    Returns
    -------
    DataFrame
        Rows of kind "smooth" (p, observed) along the range of p, of kind "group" (ten
        groups of nearly equal size: mean p, observed, low, high by Wilson, n), and of
        kind "bin" (histogram: middle p, n).
    """
    truth, given = np.asarray(y, dtype=np.float64), np.asarray(p, dtype=np.float64)
    at = np.linspace(given.min(), given.max(), 101)
    line = pd.DataFrame({"kind": "smooth", "p": at})
    line["observed"] = smooth(given, truth, at)
    rows = []
    for part in _groups(given):
        k, n = float(truth[part].sum()), part.size
        rows.append(("group", given[part].mean(), k / n, *wilson(k, n), n))
    counts, edges = np.histogram(given, BINS, (0.0, 1.0))
    for middle, n in zip((edges[1:] + edges[:-1]) / 2, counts.tolist(), strict=True):
        rows.append(("bin", middle, np.nan, np.nan, np.nan, n))
    names = ["kind", "p", "observed", "low", "high", "n"]
    return pd.concat([line, pd.DataFrame(rows, columns=names)], ignore_index=True)

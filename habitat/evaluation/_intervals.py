"""Intervals of what was measured on resampled patients or folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from habitat.evaluation._metrics import LEVEL, Difference

Floats = npt.NDArray[np.float64]


def corrected_t(
    values: npt.ArrayLike, n_train: float, n_test: float, level: float = LEVEL
) -> Difference:
    """Mean over repeated folds, its interval, and p for a mean of 0.

    Parameters
    ----------
    values : (folds * repeats,) array
        One value per fold, such as a difference of two AUCs.
    n_train, n_test : float
        Cases in the two parts of a fold.

    Notes
    -----
    Training parts overlap, so the plain variance of the mean is too small: it is
    multiplied by ``1/J + n_test/n_train`` in place of ``1/J`` (Nadeau and Bengio, Mach
    Learn 2003;52:239), with J - 1 degrees of freedom. One value has no interval, nor
    have values that are all alike, but for zeros.

    Examples
    --------
    >>> found = corrected_t([0.1, 0.2, 0.15, 0.05, 0.1], 80, 20)
    >>> round(found.value, 2), round(found.low, 3), round(found.high, 3)
    (0.12, 0.014, 0.226)
    """
    given = np.asarray(values, dtype=np.float64)
    n = given.size
    mean = float(given.mean())
    if n < 2:
        return Difference(mean, np.nan, np.nan, np.nan)
    se = float(np.sqrt(given.var(ddof=1) * (1 / n + n_test / n_train)))
    if se == 0 and mean == 0:
        return Difference(0.0, 0.0, 0.0, 1.0)
    if se == 0:
        return Difference(mean, np.nan, np.nan, np.nan)
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * se
    p = float(2 * stats.t.sf(abs(mean) / se, n - 1))
    return Difference(mean, mean - half, mean + half, p)


def bootstrap(
    function: Callable[[Any, Any], float],
    y: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    *,
    n: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile interval over patients drawn again within each class.

    Parameters
    ----------
    function : callable
        ``function(y, scores)`` of drawn cases.
    y, scores : arrays with one row per case
    n : int
        Number of draws.
    seed : int
    """
    rng = np.random.default_rng(seed)
    of_class = [np.flatnonzero(y == c) for c in np.unique(y)]
    found = np.empty(n)
    for i in range(n):
        drawn = np.concatenate([rng.choice(own, own.size) for own in of_class])
        found[i] = function(y[drawn], scores[drawn])
    alpha = (1 - level) / 2
    low, high = np.nanquantile(found, [alpha, 1 - alpha])
    return float(low), float(high)

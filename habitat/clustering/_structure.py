"""Simulations: the gap statistic, and a test for any structure at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from habitat.clustering._order import canonical_order, evenly
from habitat.kernels.scores import split_path
from habitat.kernels.unimodal import dip

__all__ = [
    "gap",
    "gap_rule",
    "independent_rows",
    "structure_p",
    "structure_rows",
]

_F64 = npt.NDArray[np.float64]
_ROWS = 5000
_TRIES, _ITERATIONS, _GAIN = 8, 15, 1e-3  # of `split_path`


def _log_within(X: npt.NDArray[Any], kmax: int) -> _F64:
    """Log of the within-cluster sum of squares for k = 1..kmax."""
    within = np.empty(kmax)
    columns = np.ascontiguousarray(np.asarray(X, dtype=np.float64).T)
    split_path(columns, _TRIES, _ITERATIONS, _GAIN, within)
    with np.errstate(divide="ignore"):
        out: _F64 = np.log(within)
    return out


def gap(
    X: npt.NDArray[Any], kmax: int, references: int, rng: np.random.Generator
) -> tuple[_F64, _F64]:
    """Gap statistic and its standard error s_k, for k = 1..kmax.

    Tibshirani, Walther & Hastie (J R Stat Soc B 2001;63:411): the mean over reference
    data of ln W_k, minus ln W_k of the data. References are uniform in the box of the
    data along its principal axes, and clustered as the data are: by K-means that gets
    one center more at a time (`kernels.scores.split_path`). At most 5,000 rows.
    """
    rows = np.asarray(X[evenly(len(X), min(len(X), _ROWS))], dtype=np.float64)
    centered = rows - rows.mean(axis=0)
    turned = centered @ np.linalg.eigh(centered.T @ centered)[1]  # W_k stays the same
    low, high = turned.min(axis=0), turned.max(axis=0)
    data = _log_within(rows, kmax)
    boxes = (rng.uniform(low, high, rows.shape) for _ in range(references))
    drawn = np.stack([_log_within(box, kmax) for box in boxes])
    return drawn.mean(axis=0) - data, drawn.std(axis=0) * math.sqrt(1 + 1 / references)


def gap_rule(ks: Sequence[int], gaps: _F64, errors: _F64) -> int | None:
    """Smallest k of `ks` whose gap is within one standard error of the largest.

    Arrays start at k=1. The rule of Dudoit & Fridlyand (Genome Biol 2002;3:0036).
    Tibshirani's own, the smallest k with Gap(k) >= Gap(k + 1) - s_(k + 1), stops at 1
    for five clusters 50 standard deviations apart: cut in two, they look less clustered
    than a box.
    """
    best = int(np.argmax(gaps))
    enough = gaps >= gaps[best] - errors[best]
    return next((k for k in ks if enough[k - 1]), None)


def independent_rows(n: int, volume_mm3: float, fwhm_mm: float) -> float:
    """How many independent values n voxels of an image with Gaussian blur are worth.

    Parameters
    ----------
    n : int
        Voxels.
    volume_mm3 : float
        Their volume.
    fwhm_mm : float
        Full width at half maximum of the blur.

    Returns
    -------
    float
        min(n, V / V_corr), where V_corr = (4 pi)^(3/2) s^3, s = FWHM / 2.355, is the
        integral of the autocorrelation of noise filtered by the blur.

    Examples
    --------
    >>> round(independent_rows(5000, 34_000, 6.0))
    46
    """
    sd = fwhm_mm / math.sqrt(8 * math.log(2))
    return (
        min(float(n), volume_mm3 / ((4 * math.pi) ** 1.5 * sd**3)) if sd else float(n)
    )


def structure_rows(n_eff: float | None) -> int:
    """Rows for `structure_p`: 5,000 independent ones, or four for each of `n_eff`.

    More rows of a smooth field repeat each other, and its few bumps then look like
    clusters: with all voxels of 2 mm the test rejected 40 to 53 % of Gaussian fields of
    6 mm FWHM, with four an independent voxel 3 to 8 %, at a limit of 5 %.
    """
    return 5000 if n_eff is None else min(5000, max(20, int(4 * n_eff)))


def structure_p(
    X: npt.NDArray[Any],
    ks: Sequence[int],
    *,
    draws: int = 99,
    rows: int = _ROWS,
    n_eff: float | None = None,
    random_state: int | np.random.Generator = 0,
) -> float:
    """P-value of the hypothesis that rows are one continuous cloud.

    Parameters
    ----------
    X : (n, d) array
        Rows, finite.
    ks : sequence of int
        Numbers of clusters looked at; those below 2 are left out.
    draws : int
        Draws of the hypothesis; the least p-value is 2 / (draws + 1).
    rows : int
        At most so many rows are used, at equal steps in canonical order.
    n_eff : float, optional
        How many independent rows they are worth; all of them if it is not given.
    random_state : int or numpy.random.Generator
        Source of the draws.

    Returns
    -------
    float
        Small if the rows are more clustered than one cloud; NaN if there is nothing to
        test.

    Notes
    -----
    A cloud has one mode in each channel, and no clusters beyond what its channels show
    one by one. Either may fail, so p is twice the smaller of two p-values:

    - Of the channels' dips (distance of the distribution function from the nearest with
      one mode, Hartigan & Hartigan, Ann Stat 1985;13:70) the largest is compared with
      that of as many uniform channels of `n_eff` rows, the least favorable of all.
    - Draws with exactly the data's margins and the correlation of their normal scores
      (a Gaussian copula) are clustered as the data are, by K-means that gets one center
      more at a time. With L_k = ln(W_k / W_1), t_k is how many standard deviations L_k
      lies below the mean of data and draws together, and T the largest t_k;
      p = (1 + #{T_draw >= T}) / (draws + 1): one maximum over k in place of one test
      for each k with a Bonferroni limit, which 99 draws could never pass for nine.

    Skewness, heavy tails and correlation alone are no clusters for either. The second
    test alone would take four quadrants of two channels that each have two modes for
    one cloud, since its draws have those quadrants too.

    Examples
    --------
    >>> import numpy as np
    >>> cloud = np.random.default_rng(0).normal(size=(500, 2))
    >>> split = cloud + 8 * (np.arange(500) % 2)[:, None]
    >>> structure_p(cloud, range(2, 6)) > 0.05, structure_p(split, range(2, 6))
    (True, 0.02)
    """
    rng = np.random.default_rng(random_state)
    sample = np.asarray(X, dtype=np.float64)
    sample = sample[:, sample.min(axis=0) < sample.max(axis=0)]
    size = min(len(sample), rows, structure_rows(n_eff))
    wanted = np.array([k for k in ks if 2 <= k < size]) - 1
    if wanted.size == 0 or sample.shape[1] == 0:
        return math.nan
    sample = sample[canonical_order(sample)]
    worth = int(min(len(sample), rows, n_eff or len(sample)))
    modes = _modes_p(sample[evenly(len(X), min(len(X), rows))], worth, draws, rng)
    joint = _joint_p(sample[evenly(len(X), size)], wanted, draws, rng)
    return min(1.0, 2 * min(modes, joint))


def _modes_p(X: _F64, worth: int, draws: int, rng: np.random.Generator) -> float:
    """P-value of the largest dip of the channels."""
    found = max(_dip(np.sort(column)) for column in X.T)
    drawn = np.sort(rng.random((draws, X.shape[1], max(worth, 4))), axis=2)
    null = [max(map(_dip, channels)) for channels in drawn]
    return float(1 + (np.array(null) >= found).sum()) / (draws + 1)


def _dip(x: _F64) -> float:
    """Dip of sorted values; equal ones count as spread to the middle of their step."""
    values, count = np.unique(x, return_counts=True)
    return float(dip(values, (np.cumsum(count) - count / 2) / len(x)))


def _joint_p(
    X: _F64, wanted: npt.NDArray[np.intp], draws: int, rng: np.random.Generator
) -> float:
    """P-value of W_k / W_1 against draws with the same margins and correlation."""
    null = _Copula(X)
    kmax = int(wanted.max()) + 1
    logs = np.stack(
        [_log_within(X, kmax)]
        + [_log_within(null.draw(rng), kmax) for _ in range(draws)]
    )
    logs = np.maximum(logs[:, wanted] - logs[:, :1], -700.0)  # W_k may be 0
    sd = logs.std(axis=0)
    off = logs.mean(axis=0) - logs
    most = np.divide(off, sd, out=np.zeros_like(off), where=sd > 0).max(axis=1)
    return float(1 + (most[1:] >= most[0]).sum()) / (draws + 1)


class _Copula:
    """Draws with the margins of rows and the correlation of their normal scores."""

    def __init__(self, X: _F64) -> None:
        self.margins = np.sort(X, axis=0)
        scores = np.empty_like(X)
        for f, margin in enumerate(self.margins.T):
            ranks = np.searchsorted(margin, X[:, f], "left").astype(np.float64)
            ranks += np.searchsorted(margin, X[:, f], "right")
            scores[:, f] = ndtri((ranks + 1) / (2 * len(X) + 2))  # ties: their middle
        values, axes = np.linalg.eigh(np.atleast_2d(np.corrcoef(scores.T)))
        self.mix: _F64 = (axes * np.sqrt(np.maximum(values, 0))).T

    def draw(self, rng: np.random.Generator) -> _F64:
        normal: _F64 = rng.standard_normal(self.margins.shape) @ self.mix
        out = np.empty_like(normal)
        for f, margin in enumerate(self.margins.T):
            out[np.argsort(normal[:, f]), f] = margin
        return out

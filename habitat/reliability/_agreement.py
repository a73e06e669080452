"""Agreement of repeated measurements and of two maps of the same voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import fdtri

from habitat.agreement import contingency
from habitat.errors import InputError
from habitat.geometry import Floats


class Interval(NamedTuple):
    """A number and the limits around it."""

    value: float
    low: float
    high: float


_UNKNOWN = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class ICC:
    """Intraclass correlations of single ratings, each with its own interval.

    Attributes
    ----------
    agreement : Interval
        ICC(A,1), absolute agreement: a rater who always gives more lowers it.
    consistency : Interval
        ICC(C,1): constant differences between raters do not count.
    subjects, raters : int
        What it rests on.
    """

    agreement: Interval
    consistency: Interval
    subjects: int
    raters: int


def icc(
    ratings: npt.ArrayLike, *, confidence: float = 0.95, n_eff: float | None = None
) -> ICC:
    """Intraclass correlation of n subjects rated by the same k raters.

    Parameters
    ----------
    ratings : array of shape (n subjects, k raters)
        Subjects are patients, raters are scans, perturbations or readers. The habitats
        of one patient are not subjects: they differ by construction.
    confidence : float
        Of the intervals, 0 to 1.
    n_eff : float, optional
        How many independent subjects the rows are worth where they are alike, as voxels
        of one image are. The intervals then are those of so many subjects; they are NaN
        below 2.

    Returns
    -------
    ICC
        ICC(A,1) and ICC(C,1). Subjects with a NaN are left out. All is NaN with fewer
        than two subjects or raters, or where all ratings are equal. An estimate may be
        negative: subjects then differ less than their ratings.

    Raises
    ------
    InputError
        If `ratings` does not have two axes.

    Notes
    -----
    Two-way analysis of variance; McGraw & Wong, Psychol Methods 1996;1:30, their
    ICC(A,1) and ICC(C,1) (ICC(2,1) and ICC(3,1) of Shrout & Fleiss 1979) with the exact
    interval for consistency and the one by Satterthwaite's degrees of freedom for
    agreement (taken at 0 where the estimate is negative). Usual words (Koo & Li 2016):
    below 0.5 poor, to 0.75 moderate, to 0.9 good.

    Examples
    --------
    >>> from habitat.reliability import icc
    >>> found = icc([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6]])
    >>> round(found.agreement.value, 2), round(found.consistency.value, 2)
    (0.26, 0.64)
    """
    Y = np.asarray(ratings, dtype=np.float64)
    if Y.ndim != 2:
        what = f"must have shape (subjects, raters), got {Y.shape}"
        raise InputError(what, "`ratings`")
    Y = Y[np.isfinite(Y).all(axis=1)]
    n, k = Y.shape
    if n < 2 or k < 2 or np.ptp(Y) == 0:
        return ICC(_UNKNOWN, _UNKNOWN, n, k)
    Y = Y - Y.mean()
    subject, rater = Y.mean(axis=1), Y.mean(axis=0)
    between = float(k * (subject**2).sum() / (n - 1))
    bias = float(n * (rater**2).sum() / (k - 1))
    residual = Y - subject[:, None] - rater
    error = float((residual**2).sum() / ((n - 1) * (k - 1)))
    q = (1 + confidence) / 2
    agreement = _agreement(between, bias, error, n, k, q)
    consistency = _consistency(between, error, n, k, q)
    if n_eff is not None:
        m = min(n, n_eff)
        # the mean of a rater, of fewer values than rows, is so much further off
        fewer = (
            _agreement(between, bias * m / n, error, m, k, q) if m >= 2 else _UNKNOWN
        )
        agreement = fewer._replace(value=agreement.value)
        fewer = _consistency(between, error, m, k, q) if m >= 2 else _UNKNOWN
        consistency = fewer._replace(value=consistency.value)
    return ICC(agreement, consistency, n, k)


def _consistency(between: float, error: float, n: float, k: int, q: float) -> Interval:
    total = between + (k - 1) * error
    if total == 0:  # nothing but differences between raters
        return _UNKNOWN
    rest = (n - 1) * (k - 1)
    f1, f2 = fdtri(n - 1, rest, q), fdtri(rest, n - 1, q)
    return Interval(
        (between - error) / total,
        float((between - f1 * error) / (between + (k - 1) * f1 * error)),
        float((f2 * between - error) / (f2 * between + (k - 1) * error)),
    )


def _agreement(
    between: float, bias: float, error: float, n: float, k: int, q: float
) -> Interval:
    total = between + (k - 1) * error + k / n * (bias - error)
    if total <= 0:
        return _UNKNOWN
    value = (between - error) / total
    if bias == error == 0:
        return Interval(value, value, value)
    share = max(value, 0.0)  # a negative one would make the degrees of freedom any
    # Satterthwaite's, both terms times n (1 - share)
    a, b = k * share * bias, (n + n * (k - 1) * share - k * share) * error
    if a + b == 0:  # all subjects alike, raters differ
        return Interval(value, math.nan, math.nan)
    freedom = (a + b) ** 2 / (a**2 / (k - 1) + b**2 / ((n - 1) * (k - 1)))
    f1 = fdtri(n - 1, freedom, q)
    f2 = fdtri(freedom, n - 1, q)
    rest = k * bias + (k * n - k - n) * error
    low = n * (between - f1 * error) / (f1 * rest + n * between)
    high = n * (f2 * between - error) / (rest + n * f2 * between)
    return Interval(value, float(low), float(high))


@dataclass(frozen=True)
class Repeatability:
    """How much a measurement of one subject changes when it is repeated.

    Attributes
    ----------
    within_sd : float
        s_w, square root of the mean within-subject variance.
    coefficient : float
        RC = 1.96 sqrt(2) s_w: two measurements of one subject differ by less in 95 %.
    wcv : float
        s_w over the mean of all subjects; NaN where that is 0.
    """

    within_sd: float
    coefficient: float
    wcv: float


def repeatability(measurements: npt.ArrayLike) -> Repeatability:
    """Repeatability coefficient and within-subject coefficient of variation.

    Parameters
    ----------
    measurements : array of shape (subjects, repeats)
        NaN where one is missing; a subject needs two of them, else it is left out.

    Returns
    -------
    Repeatability
        NaN if no subject is left.

    Examples
    --------
    >>> from habitat.reliability import repeatability
    >>> found = repeatability([[10.0, 12.0], [20.0, 18.0]])
    >>> round(found.within_sd, 3), round(found.coefficient, 2), round(found.wcv, 3)
    (1.414, 3.92, 0.094)
    """
    Y = np.atleast_2d(np.asarray(measurements, dtype=np.float64))
    Y = Y[np.isfinite(Y).sum(axis=1) >= 2]
    if len(Y) == 0:
        return Repeatability(math.nan, math.nan, math.nan)
    sd = math.sqrt(float(np.nanvar(Y, axis=1, ddof=1).mean()))
    mean = float(np.nanmean(Y, axis=1).mean())
    wcv = sd / mean if mean else math.nan
    return Repeatability(sd, 1.96 * math.sqrt(2) * sd, wcv)


def bland_altman(first: npt.ArrayLike, second: npt.ArrayLike) -> Interval:
    """Mean of ``second - first`` and its 95 % limits of agreement.

    Parameters
    ----------
    first, second : array of shape (n,)
        Two measurements of each subject; pairs with a NaN are left out.

    Returns
    -------
    Interval
        Bias, and bias -+ 1.96 standard deviations of the differences (Bland & Altman,
        Lancet 1986); limits are NaN for fewer than two pairs.

    Examples
    --------
    >>> from habitat.reliability import bland_altman
    >>> [round(v, 2) for v in bland_altman([1, 2, 3], [2, 2, 5])]
    [1.0, -0.96, 2.96]
    """
    d = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    d = d[np.isfinite(d)]
    if d.size == 0:
        return _UNKNOWN
    bias = float(d.mean())
    half = 1.96 * float(d.std(ddof=1)) if d.size > 1 else math.nan
    return Interval(bias, bias - half, bias + half)


def match(
    a: npt.NDArray[Any], b: npt.NDArray[Any], k: int, *, numbered: bool = False
) -> tuple[npt.NDArray[np.intp], Floats]:
    """Pair the habitats of two maps of the same voxels, and their Dice.

    Parameters
    ----------
    a, b : array of int, one shape
        Habitats 1 to k of the same voxels; 0 counts as outside.
    k : int
        Number of habitats.
    numbered : bool
        Keep the numbers (maps of one model) instead of looking for the best pairs.

    Returns
    -------
    partner : (k,) array of int
        Habitat of `b` that goes with habitat 1 to k of `a`: those pairs that overlap
        most in all (Hungarian method); of equal ones, those with the largest Dice.
    dice : (k,) array of float64
        2 |A and B| / (|A| + |B|) of each pair; NaN where both are empty.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.reliability import match
    >>> partner, dice = match(np.array([1, 1, 2, 2]), np.array([2, 2, 1, 2]), 2)
    >>> partner.tolist(), dice.round(2).tolist()
    ([2, 1], [0.8, 0.67])
    """
    table = contingency(a.ravel(), b.ravel(), k + 1)
    sizes = table.sum(axis=1)[1:, None] + table.sum(axis=0)[1:]
    overlap = table[1:, 1:]
    dice = np.where(sizes > 0, 2 * overlap / np.maximum(sizes, 1), np.nan)
    rows = columns = np.arange(k)
    if not numbered:
        # less than one voxel in all, so that Dice decides between equal overlaps only
        tie = np.nan_to_num(dice) / (k + 1)
        rows, columns = linear_sum_assignment(overlap + tie, maximize=True)
    return columns + 1, dice[rows, columns]

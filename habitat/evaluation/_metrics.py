"""Numbers of how well scores and probabilities tell classes apart."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import expit, logit

from habitat.errors import InputError
from habitat.selection import midranks

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

LEVEL = 0.95
EXACT = "exact for a share of 0 or 1"


def auc(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive case scores higher.

    Parameters
    ----------
    y : (n,) array of bool or 0 and 1
        Positive cases.
    score : (n,) array
        Larger for positive cases; of two equal scores each counts one half.

    Returns
    -------
    float
        NaN if all cases are of one class.

    Examples
    --------
    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    positive = np.asarray(y, dtype=bool)
    m = int(positive.sum())
    n = positive.size - m
    if not m or not n:
        return float("nan")
    ranks = midranks(np.asarray(score, dtype=np.float64))
    return float((ranks[positive].sum() - m * (m + 1) / 2) / (m * n))


def delong(y: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Floats, Floats]:
    """AUCs of several scores of the same cases, and their covariance.

    Parameters
    ----------
    y : (n,) array of bool or 0 and 1
        At least two cases of each class.
    scores : (m, n) array
        One row per model.

    Returns
    -------
    aucs : (m,) array
    covariance : (m, m) array

    Notes
    -----
    DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837, by midranks (Sun and Xu,
    IEEE Signal Process Lett 2014;21:1389). For a fixed test set: scores of several
    models of a cross-validation are not independent of each other.

    Examples
    --------
    >>> aucs, covariance = delong([0, 0, 1, 1], [[0.1, 0.4, 0.35, 0.8]])
    >>> float(aucs[0]), float(covariance[0, 0])
    (0.75, 0.125)
    """
    positive = np.asarray(y, dtype=bool)
    given = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        what = f"needs two cases of each class, found {m} positive and {n} negative"
        raise InputError(what, "`y`", "use resampling, or a larger test set")
    whole = midranks(given.T)
    above = (whole[positive] - midranks(given[:, positive].T)) / n  # V10
    below = 1 - (whole[~positive] - midranks(given[:, ~positive].T)) / m  # V01
    covariance = np.atleast_2d(np.cov(above.T)) / m + np.atleast_2d(np.cov(below.T)) / n
    areas: Floats = above.mean(axis=0)
    return areas, covariance


class Interval(NamedTuple):
    """Ends of an interval and what they are."""

    low: float
    high: float
    how: str


def delong_interval(
    area: float, variance: float, n_pairs: int, level: float = LEVEL
) -> Interval:
    """Interval of an AUC on the logit scale.

    An AUC of 0 or 1 has no variance; its other end is then the exact one of a share of
    0 or 1 (Clopper and Pearson) of as many cases as the smaller class has. Scores that
    are all alike have no interval.

    Parameters
    ----------
    area, variance : float
        Of `delong`.
    n_pairs : int
        Cases of the smaller class.
    """
    alpha = 1 - level
    if area in (0.0, 1.0):
        edge = (alpha / 2) ** (1 / n_pairs)
        low, high = (0.0, 1 - edge) if area < 0.5 else (edge, 1.0)
        return Interval(low, high, EXACT)
    if variance <= 0:
        return Interval(np.nan, np.nan, "scores do not vary")
    z = stats.norm.ppf(1 - alpha / 2)
    half = z * np.sqrt(variance) / (area * (1 - area))
    ends = expit(logit(area) + np.array([-half, half]))
    return Interval(float(ends[0]), float(ends[1]), "DeLong, logit scale")


class Difference(NamedTuple):
    """A difference, its interval and the probability of one at least as large."""

    value: float
    low: float
    high: float
    p: float


def delong_test(
    y: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike, level: float = LEVEL
) -> Difference:
    """AUC of `a` less that of `b`, the same cases of a fixed test set."""
    areas, covariance = delong(y, np.array([a, b], dtype=np.float64))
    value = float(areas[0] - areas[1])
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= 1e-15:  # one orders the cases as the other does
        unknown = (np.nan, np.nan, np.nan)
        return Difference(value, *((0.0, 0.0, 1.0) if value == 0 else unknown))
    se = float(np.sqrt(variance))
    half = float(stats.norm.ppf(0.5 + level / 2)) * se
    p = float(2 * stats.norm.sf(abs(value) / se))
    return Difference(value, value - half, value + half, p)


def average_precision(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Area under precision against recall, by steps."""
    positive = np.asarray(y, dtype=bool)
    given = np.asarray(score, dtype=np.float64)
    order = np.argsort(-given, kind="stable")
    last = np.append(np.diff(given[order]) != 0, True)  # of equal scores
    hits = np.cumsum(positive[order])[last]
    called = np.flatnonzero(last) + 1
    if not hits[-1]:
        return float("nan")
    return float((np.diff(hits, prepend=0) / hits[-1]) @ (hits / called))


def brier(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """Mean squared difference of probability and outcome."""
    gap = np.asarray(p, dtype=np.float64) - np.asarray(y, dtype=np.float64)
    return float(np.mean(gap**2))


def scaled_brier(y: npt.ArrayLike, p: npt.ArrayLike) -> float:
    """One less the Brier score as a share of that of the prevalence; NaN of one class.

    1 is perfect, 0 as good as saying the prevalence, below worse.
    """
    share = float(np.mean(np.asarray(y, dtype=np.float64)))
    if share in (0.0, 1.0):
        return float("nan")
    return 1 - brier(y, p) / (share * (1 - share))


def wilson(k: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the share k of n.

    Wilson, J Am Stat Assoc 1927;22:209.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    z2 = float(stats.norm.ppf(0.5 + level / 2)) ** 2
    share = k / n
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) + z2 / (4 * n)) / n) / (1 + z2 / n)
    return max(0.0, float(center - half)), min(1.0, float(center + half))


class Confusion(NamedTuple):
    """Counts and shares at a threshold; NaN where there is no such case."""

    tp: float
    fp: float
    fn: float
    tn: float

    @classmethod
    def of(cls, y: npt.ArrayLike, positive: npt.ArrayLike) -> Confusion:
        """Count cases by class and by what was said of them."""
        truth, said = np.asarray(y, dtype=bool), np.asarray(positive, dtype=bool)
        pairs = ((truth, said), (~truth, said), (truth, ~said), (~truth, ~said))
        return cls(*(float((a & b).sum()) for a, b in pairs))

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Numerator and denominator of each share."""
        tp, fp, fn, tn = self
        return {
            "sensitivity": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "ppv": (tp, tp + fp),
            "npv": (tn, tn + fn),
            "accuracy": (tp + tn, sum(self)),
        }

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity."""
        tp, fp, fn, tn = self
        return 0.5 * (_ratio(tp, tp + fn) + _ratio(tn, tn + fp))

    @property
    def mcc(self) -> float:
        """Correlation of the two-by-two table (Matthews); NaN if a margin is empty."""
        tp, fp, fn, tn = self
        margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return _ratio(tp * tn - fp * fn, float(np.sqrt(margins)))


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def one_vs_rest(y: npt.ArrayLike, P: npt.ArrayLike) -> Floats:
    """AUC of each class against all others, (c,).

    Parameters
    ----------
    y : (n,) array of int
        Classes from 0.
    P : (n, c) array
        Probabilities.
    """
    codes, p = np.asarray(y), np.asarray(P, dtype=np.float64)
    return np.array([auc(codes == i, p[:, i]) for i in range(p.shape[1])])


def hand_till(y: npt.ArrayLike, P: npt.ArrayLike) -> float:
    """AUC of several classes: mean over all pairs of classes, both ways.

    Hand and Till, Mach Learn 2001;45:171: M of equation 7. It does not depend on how
    frequent the classes are.
    """
    codes, p = np.asarray(y), np.asarray(P, dtype=np.float64)
    found = []
    for i, j in combinations(range(p.shape[1]), 2):
        both = (codes == i) | (codes == j)
        found += [auc(codes[both] == i, p[both, i]), auc(codes[both] == j, p[both, j])]
    return float(np.mean(found))


def weighted_kappa(y: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Agreement of ordered classes beyond chance, with quadratic weights.

    Cohen, Psychol Bull 1968;70:213. NaN if all are of one class in both.
    """
    a, b = np.asarray(y, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    gap = np.mean((a - b) ** 2)
    chance = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(1 - gap / chance) if chance else float("nan")


def ordinal_c(y: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Mean AUC over all pairs of ordered classes of one score.

    Van Calster et al., Stat Med 2012;31:1928 (ordinal c statistic).
    """
    codes, s = np.asarray(y), np.asarray(score, dtype=np.float64)
    found = []
    for i, j in combinations(np.unique(codes), 2):
        both = (codes == i) | (codes == j)
        found.append(auc(codes[both] == j, s[both]))
    return float(np.mean(found))

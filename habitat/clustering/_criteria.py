"""Criteria for the number of clusters, on arrays.

Rows are scaled and in canonical order (see `canonical_order`), so that nothing here can
depend on the order of the voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat.agreement import adjusted_rand, contingency
from habitat.clustering._clusters import Clustering
from habitat.clustering._gmm import GMMOptions, Mixture, gmm, information_criteria
from habitat.clustering._kmeans import KMeansOptions, kmeans, nearest
from habitat.clustering._order import evenly
from habitat.clustering._scores import scores, silhouettes, simplified_silhouette
from habitat.clustering._structure import structure_p
from habitat.errors import ConfigError

__all__ = [
    "ALPHA",
    "CRITERIA",
    "ONE_CLOUD",
    "Criterion",
    "best",
    "blocks",
    "criteria_values",
    "decide",
    "halves",
    "information",
    "knee",
    "largest",
    "prediction_strength",
    "ranked",
    "stability",
    "strength",
    "structure_p",
]

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
ONE_CLOUD = (
    "not to be told from one continuous cloud: "
    "habitats are a convenient cut, not separate tissues"
)
_STRONG = 0.8  # prediction strength and stability of a k that can be trusted
ALPHA = 0.05
_ROWS = 5000  # for what needs no more

Function: TypeAlias = Callable[
    [npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], float
]
Criterion: TypeAlias = tuple[Function, str]


def _score(name: str) -> Function:
    def value(
        X: npt.NDArray[Any], labels: npt.NDArray[Any], _: npt.NDArray[Any]
    ) -> float:
        return scores(X, labels)[name]

    return value


def _silhouette_euclidean(
    X: npt.NDArray[Any], labels: npt.NDArray[Any], _: npt.NDArray[Any]
) -> float:
    return float(silhouettes(X, labels).mean())


CRITERIA: dict[str, Criterion] = {
    "calinski_harabasz": (_score("calinski_harabasz"), "max"),
    "davies_bouldin": (_score("davies_bouldin"), "min"),
    "silhouette": (_score("silhouette"), "max"),
    "silhouette_simplified": (simplified_silhouette, "max"),
    "silhouette_euclidean": (_silhouette_euclidean, "max"),
}
"""Name to ``(f(X, labels, centers) -> float, "max" or "min")``: how well labels 0..k-1
separate the rows of X (n, d), and which values are good. A pair like this may be given
in place of a name."""

_TOGETHER = {  # three numbers of one call
    CRITERIA[name][0]: name
    for name in ("calinski_harabasz", "davies_bouldin", "silhouette")
}


def criteria_values(
    criteria: dict[str, Criterion], X: npt.NDArray[Any], found: Clustering
) -> dict[str, float]:
    """Evaluate criteria of one clustering; those of `scores` in one call."""
    functions = [f for f, _ in criteria.values()]
    shared = scores(X, found.labels) if any(f in _TOGETHER for f in functions) else {}
    return {
        name: shared[_TOGETHER[f]]
        if f in _TOGETHER
        else float(f(X, found.labels, found.centers))
        for name, (f, _) in criteria.items()
    }


# --- elbow ----------------------------------------------------------------------------


def knee(ks: Sequence[int], within: _F64) -> int | None:
    """Kneedle's elbow of a falling curve; None if it has none.

    Satopaa et al. (ICDCS Workshops 2011) with S = 1: both axes are brought to 0..1; of
    the places where the curve is farthest below its chord, the deepest that is followed
    by a drop of more than one mean step before the next one.
    """
    k, w = np.asarray(ks, float), np.asarray(within, float)
    if len(k) < 3 or not np.isfinite(w).all() or w.max() == w.min():
        return None
    x = (k - k[0]) / (k[-1] - k[0])
    apart = (w.max() - w) / (w.max() - w.min()) - x
    inner = range(1, len(k) - 1)
    peaks = [i for i in inner if apart[i - 1] <= apart[i] > apart[i + 1]]
    found = []
    for i, after in zip(peaks, [*peaks, len(k)][1:], strict=True):
        if (apart[i + 1 : after] < apart[i] - np.diff(x).mean() + 1e-12).any():
            found.append(i)
    return ks[max(found, key=lambda i: apart[i])] if found else None


# --- likelihood -----------------------------------------------------------------------


def information(
    X: npt.NDArray[Any], found: Clustering, n_eff: float | None
) -> dict[str, float]:
    """BIC, AIC and ICL of a full-covariance mixture started at a K-means solution.

    With `n_eff` also "bic_eff", "aic_eff" and "icl_eff", of as many independent rows.
    All are NaN where a component of the mixture collapses.
    """
    k = len(found.centers)
    try:
        fit = gmm(X, k, options=GMMOptions(), init=_mixture(X, found))
    except ConfigError:
        out = dict.fromkeys(("bic", "aic", "icl"), math.nan)
        return out if n_eff is None else out | {f"{c}_eff": math.nan for c in out}
    rule = fit.rule
    assert isinstance(rule, Mixture)
    entropy, p = float(rule.entropy(X).sum()), rule.n_parameters()
    out = information_criteria(fit.objective, p, len(X), entropy=entropy)
    if n_eff is not None:
        few = information_criteria(
            fit.objective, p, len(X), entropy=entropy, n_eff=n_eff
        )
        out |= {f"{name}_eff": value for name, value in few.items()}
    return out


def _mixture(X: npt.NDArray[Any], found: Clustering) -> Mixture:
    """Shares, means and covariances of the clusters."""
    d = X.shape[1]
    covariances = np.empty((len(found.centers), d, d))
    counts = np.bincount(found.labels, minlength=len(found.centers))
    for j, center in enumerate(found.centers):
        off = X[found.labels == j] - center
        covariances[j] = off.T @ off / counts[j] + GMMOptions().reg * np.eye(d)
    return Mixture(counts / len(X), found.centers, covariances)


# --- agreement of fits ----------------------------------------------------------------


def strength(table: _F64) -> float:
    """Prediction strength from a table of test clusters by labels from elsewhere.

    The least share, over test clusters, of the pairs of their rows that the other
    clustering keeps together: sum_l c_jl (c_jl - 1) / (n_j (n_j - 1)) (Tibshirani &
    Walther, J Comput Graph Stat 2005;14:511). A cluster of one row has no pair: 0.
    """
    n = table.sum(axis=1)
    together = (table * (table - 1)).sum(axis=1)
    return float((together / np.maximum(n * (n - 1), 1)).min())


def prediction_strength(
    parts: Sequence[npt.NDArray[Any]], k: int, options: KMeansOptions, seed: int
) -> float:
    """Prediction strength of K-means: mean of both directions of two halves.

    A direction is 0 if one half has no row in some cluster of the other: halves that
    differ (other patients, another part of the tumor) may fall into one cluster as a
    whole, which keeps all pairs together and confirms nothing.
    """
    if k == 1:
        return 1.0
    first, second = (kmeans(h, k, options=options, random_state=seed) for h in parts)
    tables = (
        contingency(second.labels, nearest(parts[1], first.centers), k),
        contingency(first.labels, nearest(parts[0], second.centers), k),
    )
    return sum(strength(t) if t.any(axis=0).all() else 0.0 for t in tables) / 2


def stability(
    X: npt.NDArray[Any],
    k: int,
    units: _Ints | None,
    resamples: int,
    rng: np.random.Generator,
) -> float:
    """Mean adjusted Rand index between K-means fits on bootstrap resamples.

    Each fit is on units (cases, blocks of voxels; rows if None) drawn with replacement,
    and labels all rows; at most 5,000 rows.
    """
    if k == 1:
        return 1.0
    at = evenly(len(X), min(len(X), _ROWS))
    rows = X[at]
    unit = np.arange(len(at)) if units is None else units[at]
    count = int(unit.max()) + 1
    labels = []
    for _ in range(resamples):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        drawn = rows[np.repeat(np.arange(len(rows)), times[unit])]
        try:
            fit = kmeans(drawn, k, options=KMeansOptions(n_init=1), random_state=rng)
        except ConfigError:  # fewer than k distinct rows were drawn
            continue
        labels.append(nearest(rows, fit.centers))
    pairs = [adjusted_rand(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    return float(np.mean(pairs)) if pairs else math.nan


# --- decisions ------------------------------------------------------------------------


def best(column: dict[int, float], good: str) -> int | None:
    """The k with the largest ("max") or least value, the first of several."""
    finite = {k: v for k, v in column.items() if math.isfinite(v)}
    sign = 1 if good == "max" else -1
    return max(finite, key=lambda k: (sign * finite[k], -k)) if finite else None


def largest(column: dict[int, float]) -> int | None:
    """Largest k with a value of at least .8."""
    return max((k for k, v in column.items() if v >= _STRONG), default=None)


def decide(
    ks: list[int], values: dict[str, dict[int, float]], p: float
) -> tuple[int, list[str]]:
    """Apply the rule of `habitat.choose_k`: the choice and the reasons."""
    split = {k: v for k, v in values["calinski_harabasz"].items() if math.isfinite(v)}
    if not split:
        return ks[0], ["there is nothing to choose from"]
    notes = []
    if not p <= ALPHA:
        notes.append(f"{ONE_CLOUD} (p = {p:.2g})")
        if 1 in ks:
            return 1, notes
    strengths = {k: v for k, v in values["prediction_strength"].items() if k in split}
    if not strengths:
        k = max(split, key=lambda k: split[k])
        return k, [*notes, f"k={k} has the largest Calinski-Harabasz index, unchecked"]
    strong = [k for k, v in strengths.items() if v >= _STRONG]
    if strong:
        k = max(strong, key=lambda k: split[k])
        why = f"k={k}: largest Calinski-Harabasz index of those that come back in"
        return k, [*notes, f"{why} other data (prediction strength >= {_STRONG:g})"]
    k = max(strengths, key=lambda k: strengths[k])
    why = "no split comes back in other data: the largest prediction strength is "
    notes.append(f"{why}{strengths[k]:.2f} (k={k})")
    return (1 if 1 in ks else k), notes


# --- where rows are from --------------------------------------------------------------


def _cubes(positions: _F64, edge: float) -> tuple[_Ints, _F64]:
    """Cube of each row, counted from the centroid, and its side on each axis.

    Side is -1 or 1, 0 for rows on a plane through the centroid: they belong to no cube.
    """
    off = np.round((positions - positions.mean(axis=0)) / edge, 6)
    return np.floor(np.abs(off)).astype(np.int64), np.sign(off)


def halves(
    X: _F64, positions: _F64 | None, groups: _Ints | None, edge: float, seed: int
) -> tuple[list[_F64], str]:
    """Split rows in two halves in canonical order, at most 5,000 each, or say why not.

    By cases; else by a checkerboard of cubes around the centroid, which flips of the
    image at most swap; else at random.
    """
    rng = np.random.default_rng(seed)
    if groups is not None:
        count = int(groups.max()) + 1
        half = (rng.permutation(count) < count // 2)[groups].astype(int)
    elif positions is not None and edge > 0:
        cube, side = _cubes(positions, edge)
        half = (cube.sum(axis=1) + (side > 0).sum(axis=1)) % 2
        half[(side == 0).any(axis=1)] = -1
    else:
        half = (rng.permutation(len(X)) < len(X) // 2).astype(int)
    parts = [X[half == i] for i in (0, 1)]
    least = min(map(len, parts))
    if least < max(10, 0.1 * len(X)):
        return [], f"prediction strength: only {least} of {len(X)} rows in one half"
    return [p[evenly(len(p), min(len(p), _ROWS))] for p in parts], ""


def blocks(
    X: _F64, positions: _F64 | None, groups: _Ints | None, edge: float
) -> _Ints | None:
    """Number of the case or cube of each row; None if rows are independent."""
    if groups is not None or positions is None or edge <= 0:
        return groups
    cube, side = _cubes(positions, edge)
    cells = np.hstack([cube, side])
    number = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    return ranked(number, X)


def ranked(groups: _Ints, X: _F64) -> _Ints:
    """Renumber groups in the order of their mean rows, whatever their numbers were."""
    counts = np.bincount(groups)
    means = np.stack([np.bincount(groups, x) for x in X.T]) / counts
    out: _Ints = np.argsort(np.lexsort(means[::-1]))[groups]
    return out

"""K-means on rows of channel values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from habitat._check import integer, keep
from habitat.clustering._clusters import Clustering
from habitat.clustering._order import evenly
from habitat.errors import ConfigError, InputError
from habitat.kernels._jit import threads
from habitat.kernels.kmeans import BLOCK, arrange, assign, kmeans_plusplus, lloyd_step

__all__ = ["KMeansOptions", "Nearest", "kmeans", "nearest"]

_SHORT = 15  # iterations of a start before it is compared with the others
_FINAL = 3  # starts that then run to the end
_SWAPS = 16  # places tried for a center of the best run, and as many again
_PASSES = 5  # while that helps, at most so often
_SAME = 1e-10  # relative difference between runs that may be rounding
_SERIAL = 400_000  # values below which threads cost more than they save
_SAMPLE = 1 << 19  # rows for the starts where there are more than twice as many
_CHUNK = 1 << 17  # rows labeled at a time
_F64 = npt.NDArray[np.float64]
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, eq=False)
class Nearest:
    """The rule of K-means: a row belongs to the nearest center, the first of several.

    Parameters
    ----------
    centers : (k, d) array
        Cluster centers; one that is NaN is nobody's.
    variance : float
        Mean squared distance of the fitted rows from their centers, a channel.
    """

    centers: _F64
    variance: float

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.centers)

    def labels(self, X: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Cluster 0..k-1 of each row of X (n, d), finite."""
        return nearest(X, self.centers)

    def costs(self, X: npt.NDArray[Any]) -> _F64:
        """Minus the log-density of equal spherical clusters, up to a constant; (n, k).

        Infinite for a center that is NaN; where all fitted rows were on their centers,
        0 for the nearest and infinite for the others.
        """
        rows = np.asarray(X, dtype=np.float64)
        out = np.empty((len(rows), self.k))
        for j, center in enumerate(self.centers):
            out[:, j] = ((rows - center) ** 2).sum(axis=1)
        out[:, np.isnan(self.centers).any(axis=1)] = np.inf
        if self.variance == 0.0:  # the limit: the nearest center's cost is 0
            return np.where(out == out.min(axis=1, keepdims=True), 0.0, np.inf)
        return out / (2 * self.variance)

    def take(self, order: npt.NDArray[np.intp]) -> Nearest:
        """Return the rule with its clusters renumbered: the new j is old order[j]."""
        return Nearest(self.centers[order], self.variance)


@dataclass(frozen=True)
class KMeansOptions:
    """Options of K-means; called with ``(X, k, rng)`` it is the method itself.

    Parameters
    ----------
    n_init : int, 1 to 1000
        Starts. Each runs at most 15 iterations, the best three run to the end, and
        the best of these is refined by moving one center at a time.
    max_iter : int, 1 to 1000000
        Iterations of a run.

    Examples
    --------
    >>> KMeansOptions(n_init=20)
    KMeansOptions(n_init=20, max_iter=300)
    """

    n_init: int = 10
    max_iter: int = 300

    def __post_init__(self) -> None:
        keep(self, n_init=integer("n_init", self.n_init, 1, 1000))
        keep(self, max_iter=integer("max_iter", self.max_iter, 1, 1_000_000))

    def __call__(
        self, X: npt.NDArray[Any], k: int, rng: np.random.Generator
    ) -> Clustering:
        return kmeans(X, k, options=self, random_state=rng)


def kmeans(
    X: npt.NDArray[Any],
    k: int,
    *,
    options: KMeansOptions = KMeansOptions(),
    random_state: int | np.random.Generator = 0,
    init: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> Clustering:
    """Split rows into k clusters with the least sum of squared distances found.

    Parameters
    ----------
    X : (n, d) array
        Rows to cluster, finite. float32 is clustered in float32, all else in float64.
    k : int, 1 to 255
        Number of clusters.
    options : KMeansOptions
        Number of starts and of iterations.
    random_state : int or numpy.random.Generator
        Source of the starts. All draws are made up front, so that the result is the
        same for any number of threads.
    init : (k, d) array, optional
        Centers to start from, in place of the drawn starts.
    sample_weight : (n,) array, optional
        Weights of the rows, finite, at least 0, not all 0. A row of weight 2 is two
        equal rows side by side; a row of weight 0 gets a label and has no say.

    Returns
    -------
    Clustering
        Labels are those of the nearest center, the first of several. Clusters are in
        the order of their start; none is empty. The objective is weighted.

    Raises
    ------
    InputError
        If X is not two-dimensional or not finite, or the weights do not fit.
    ConfigError
        If X has fewer than k distinct rows (of positive weight) or `init` does not fit.

    Notes
    -----
    Starts are drawn by greedy k-means++ (Arthur & Vassilvitskii 2007) and iterated as
    in Lloyd (IEEE Trans Inf Theory 1982;28:129) until no label changes. Centers of the
    best run are then moved, one at a time, to rows drawn by squared distance and
    iterated again, as long as that lowers the objective (random swap, Franti, J Big
    Data 2018;5:13): it finds small distinct habitats that ten starts miss. An empty
    cluster gets the row farthest from its center.

    Of more than 2^20 (about a million) rows all this is done on 2^19 of them, evenly
    spaced by weight, and a last run from the centers found there goes over all rows:
    its iterations are reported. Memory beside the rows is then about that of a copy of
    them, and that of a copy of the weights twice.

    Rows that lie together in feature space are assigned together where a test on their
    bounding box allows it (Kanungo et al., IEEE TPAMI 2002;24:881), which changes no
    label. Sums run in the order of the rows: sort them by `canonical_order` first, and
    the result cannot depend on voxel order.

    Examples
    --------
    >>> import numpy as np
    >>> found = kmeans(np.array([[0.0], [1.0], [10.0], [11.0]]), 2)
    >>> sorted(found.centers[:, 0].tolist()), found.objective
    ([0.5, 10.5], 1.0)
    """
    rows = _rows(X)
    _check_squares(rows)
    integer("k", k, 1, 255)
    weight = _weights(sample_weight, len(rows))
    used = _Rows(rows, weight)
    if weight.size and not weight.all():
        used = _Rows(rows[weight > 0], weight[weight > 0])
    best = _find(used, k, options, random_state, init)
    labels, objective = _label(rows, weight, best.centers)
    mass = float(weight.sum()) if weight.size else len(rows)
    rule = Nearest(best.centers, objective / (mass * rows.shape[1]))
    return Clustering(
        labels, best.centers, objective, best.n_iter, best.converged, rule
    )


def nearest(X: npt.NDArray[Any], centers: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Label each row by its nearest center, the first of several.

    Parameters
    ----------
    X : (n, d) array
        Rows, finite.
    centers : (k, d) array
        Centers; one that is NaN is nobody's.

    Returns
    -------
    (n,) array of uint8
        Number of the center, 0..k-1.

    Examples
    --------
    >>> import numpy as np
    >>> nearest(np.array([[1.0], [9.0]]), [[0.0], [10.0]]).tolist()
    [0, 1]
    """
    points = np.asarray(centers, dtype=np.float64)
    used = np.flatnonzero(np.isfinite(points).all(axis=1))
    labels, _ = _label(_rows(X), np.empty(0), points[used])
    return used.astype(np.uint8)[labels]


def _rows(X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (n, d), contiguous, float32 or float64; a copy only if X is not."""
    rows = np.asarray(X)
    if rows.ndim != 2 or 0 in rows.shape:
        what = f"must be rows of channel values, got shape {rows.shape}"
        raise InputError(what, "`X`")
    dtype = np.float32 if rows.dtype == np.float32 else np.float64
    rows = np.ascontiguousarray(rows, dtype=dtype)
    finite = np.isfinite(rows)
    if not finite.all():
        bad = int((~finite).any(axis=1).sum())
        raise InputError(f"{bad} rows are not finite", "`X`", "drop them first")
    return rows


def _check_squares(rows: npt.NDArray[Any]) -> None:
    """Refuse values whose squares are infinite, or zero though they are not."""
    large = float(max(rows.max(), -rows.min()))
    limit = 1e17 if rows.dtype == np.float32 else 1e150
    if large > limit or 0 < large < 1 / limit:
        what = f"has values up to {large:.3g}, beyond {1 / limit:g} to {limit:g}"
        raise InputError(what, "`X`", "change the unit")


def _weights(sample_weight: npt.ArrayLike | None, n: int) -> _F64:
    """Return the weights, none at all where all rows count alike."""
    if sample_weight is None:
        return np.empty(0)
    weight = np.asarray(sample_weight, dtype=np.float64)
    where = "`sample_weight`"
    if weight.shape != (n,):
        what = f"must be one weight for each of {n} rows, got shape {weight.shape}"
        raise InputError(what, where)
    bad = int((~np.isfinite(weight) | (weight < 0)).sum())
    if bad:
        raise InputError(f"{bad} weights are not finite or below zero", where)
    if not weight.any():
        raise InputError("all weights are zero", where, "weigh some row above zero")
    return weight


def _check_init(init: npt.ArrayLike, k: int, d: int) -> _F64:
    centers = np.array(init, dtype=np.float64, order="C")
    if centers.shape != (k, d) or not np.isfinite(centers).all():
        what = f"must be {k} finite rows of {d} values, got shape {centers.shape}"
        raise ConfigError(what, "`init`")
    return centers


def _too_few(found: int, k: int) -> ConfigError:
    what = f"must be at most the {found} distinct rows, got {k}"
    return ConfigError(what, "`k`", "use a smaller k")


def _assign(
    columns: npt.NDArray[Any], centers: _F64
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    labels = np.empty(columns.shape[1], np.uint8)
    distances = np.empty(columns.shape[1], columns.dtype)
    assign(columns, centers, labels, distances)
    return labels, distances


def _label(
    rows: npt.NDArray[Any], weight: _F64, centers: _F64
) -> tuple[npt.NDArray[np.uint8], float]:
    """Label each row; sum up the (weighted) squared distances."""
    labels, objective = np.empty(len(rows), np.uint8), 0.0
    for first in range(0, len(rows), _CHUNK):
        part = slice(first, first + _CHUNK)
        labels[part], distances = _assign(np.ascontiguousarray(rows[part].T), centers)
        if weight.size:
            distances = distances * weight[part]
        objective += float(distances.sum(dtype=np.float64))
    return labels, objective


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows (n, d) and their positive weights (n,), or none (0,)."""

    X: npt.NDArray[Any]
    weight: _F64

    def sample(self, size: int) -> _Rows:
        """Rows evenly spaced by weight, which count alike."""
        n = len(self.X)
        if n <= 2 * size:
            return self
        if self.weight.size:
            running = np.cumsum(self.weight)
            places = (np.arange(size) + 0.5) * (running[-1] / size)
            chosen = np.searchsorted(running, places, "right")
        else:
            chosen = evenly(n, size)
        return _Rows(self.X[chosen], np.empty(0))

    def scaled(self) -> npt.NDArray[Any]:
        """Weights in the type of X, the largest just below 1, none 0, no digit lost."""
        if not self.weight.size:
            return self.weight.astype(self.X.dtype)
        exponent = int(np.frexp(self.weight.max())[1])
        scaled: npt.NDArray[Any] = np.ldexp(self.weight, -exponent)
        scaled = scaled.astype(self.X.dtype, copy=False)
        np.maximum(scaled, np.finfo(self.X.dtype).tiny, out=scaled)
        return scaled


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Rows as columns sorted into compact blocks, see `kernels.kmeans.arrange`."""

    X: npt.NDArray[Any]
    weight: npt.NDArray[Any]
    middle: _F64
    half: _F64
    total: _F64

    @staticmethod
    def of(rows: npt.NDArray[Any], weight: npt.NDArray[Any]) -> _Blocks:
        n, d = rows.shape
        count = -(-n // BLOCK)
        X, share = np.empty((d, n), rows.dtype), np.empty_like(weight)
        middle, half = np.empty((d, count)), np.empty((d, count))
        total = np.empty((d + 1, count))
        arrange(rows, weight, X, share, middle, half, total)
        return _Blocks(X, share, middle, half, total)


@dataclass(frozen=True, eq=False)
class _Run:
    """One start and how far it got."""

    centers: _F64
    n_iter: int = 0
    converged: bool = False
    between: float = 0.0  # sum over rows of squared distances of centers from the mean


def _advance(blocks: _Blocks, run: _Run, max_iter: int) -> _Run:
    """Iterate until nothing changes or `max_iter` iterations are done in all."""
    if run.converged or run.n_iter >= max_iter:
        return run
    centers, n_iter, converged = run.centers, run.n_iter, False
    d = len(blocks.X)
    boxes = blocks.middle, blocks.half, blocks.total
    sums = np.empty((len(centers), d + 1))
    while not converged and n_iter < max_iter:
        lloyd_step(blocks.X, blocks.weight, *boxes, centers, sums)
        if sums[:, d].min() == 0:
            _relocate(blocks, centers, sums)
        old, centers = centers, sums[:, :d] / sums[:, d:]
        converged = np.array_equal(old, centers)
        n_iter += 1
    *mean, mass = blocks.total.sum(axis=1)
    between = float(sums[:, d] @ ((centers - np.array(mean) / mass) ** 2).sum(axis=1))
    return _Run(centers, n_iter, converged, between)


def _relocate(blocks: _Blocks, centers: _F64, sums: _F64) -> None:
    """Move the columns farthest from their centers into the empty clusters.

    Equal columns move together; the last of a cluster stay.
    """
    labels, distances = _assign(blocks.X, centers)
    left = np.bincount(labels, minlength=len(centers))
    for j in np.flatnonzero(left == 0):
        while True:
            column = int(distances.argmax())
            if distances[column] == 0:  # every column is on its center
                raise _too_few(int((left > 0).sum()), len(centers))
            moved, old = blocks.X[:, column], labels[column]
            same = (moved == blocks.X.T).all(axis=1)
            distances[same] = 0
            left[j] = same.sum()
            if left[old] > left[j]:
                break
            left[j] = 0
        mass = blocks.weight[same].sum() if blocks.weight.size else left[j]
        left[old] -= left[j]
        sums[j] = np.append(moved, 1.0) * mass
        sums[old] -= sums[j]


def _find(
    rows: _Rows,
    k: int,
    options: KMeansOptions,
    random_state: int | np.random.Generator,
    init: npt.ArrayLike | None,
) -> _Run:
    """Find the centers of the best run."""
    if init is None:
        sample = rows.sample(_SAMPLE)
        rng = np.random.default_rng(random_state)
        best = _best_run(sample, k, options, rng)
        if sample is rows:
            return best
        start = best.centers
    else:
        start = _check_init(init, k, rows.X.shape[1])
    blocks = _Blocks.of(rows.X, rows.scaled())
    return _advance(blocks, _Run(start), options.max_iter)


def _best_run(
    rows: _Rows, k: int, options: KMeansOptions, rng: np.random.Generator
) -> _Run:
    weight, columns = rows.scaled(), np.ascontiguousarray(rows.X.T)
    blocks = _Blocks.of(rows.X, weight)
    trials = 2 + int(np.log(k))
    draws = rng.random((options.n_init, k, trials))

    def start(uniform: _F64) -> _Run:
        centers = np.empty((k, len(columns)))
        found = kmeans_plusplus(columns, weight, uniform, centers)
        if found < k:
            raise _too_few(found, k)
        return _advance(blocks, _Run(centers), min(_SHORT, options.max_iter))

    def finish(run: _Run) -> _Run:
        return _advance(blocks, run, options.max_iter)

    def swap(run: _Run, uniform: _F64) -> _Run:
        """Move one center at a time to a column drawn by distance: the best try."""
        distances = _assign(columns, run.centers)[1].astype(np.float64)
        running = np.cumsum(distances * weight if weight.size else distances)
        if running[-1] == 0:
            return run
        places = np.searchsorted(running, uniform * running[-1], "right")

        def attempt(i: int) -> _Run:
            centers = run.centers.copy()
            centers[i % k] = columns[:, places[i]]
            return _advance(blocks, _Run(centers), min(_SHORT, options.max_iter))

        runs = _each(attempt, range(len(places)), columns.size)
        return _best(runs, 1)[0]

    runs = _each(start, list(draws), columns.size)
    (best,) = _best(_each(finish, _best(runs, _FINAL), columns.size), 1)
    for uniform in rng.random((_PASSES, max(_SWAPS, k))):
        swapped = swap(best, uniform)
        if swapped.between <= best.between * (1 + _SAME):
            break
        best = finish(swapped)
    return best


def _best(runs: list[_Run], count: int) -> list[_Run]:
    """Return the best runs; of those that differ by rounding the first."""
    left = list(runs)
    out: list[_Run] = []
    while left and len(out) < count:
        least = max(run.between for run in left) * (1 - _SAME)
        first = next(i for i, run in enumerate(left) if not run.between < least)
        out.append(left.pop(first))
    return out


def _each(function: Callable[[_T], _R], items: Sequence[_T], size: int) -> list[_R]:
    workers = min(threads(), len(items)) if size >= _SERIAL else 1
    if workers == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))

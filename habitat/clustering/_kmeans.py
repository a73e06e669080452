"""K-means on rows of channel values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from habitat._check import integer
from habitat.clustering._clusters import Clustering
from habitat.errors import ConfigError, InputError
from habitat.kernels._jit import threads
from habitat.kernels.kmeans import BLOCK, arrange, assign, kmeans_plusplus, lloyd_step

__all__ = ["KMeansOptions", "Nearest", "kmeans", "nearest"]

_SHORT = 15  # iterations of a start before it is compared with the others
_FINAL = 3  # starts that then run to the end
_SWAPS = 16  # places tried for a center of the best run, and as many again
_PASSES = 5  # while that helps, at most so often
_SERIAL = 400_000  # values below which threads cost more than they save
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

        Infinite for a center that is NaN.
        """
        rows = np.asarray(X, dtype=np.float64)
        out = np.empty((len(rows), self.k))
        for j, center in enumerate(self.centers):
            out[:, j] = ((rows - center) ** 2).sum(axis=1) / (2 * self.variance)
        out[:, np.isnan(self.centers).any(axis=1)] = np.inf
        return out

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
        integer("n_init", self.n_init, 1, 1000)
        integer("max_iter", self.max_iter, 1, 1_000_000)

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

    Returns
    -------
    Clustering
        Labels are those of the nearest center, the first of several. Clusters are in
        the order of their start; none is empty.

    Raises
    ------
    InputError
        If X is not two-dimensional or not finite.
    ConfigError
        If X has fewer than k distinct rows or `init` does not fit.

    Notes
    -----
    Starts are drawn by greedy k-means++ (Arthur & Vassilvitskii 2007) and iterated as
    in Lloyd (IEEE Trans Inf Theory 1982;28:129) until no label changes. Centers of the
    best run are then moved, one at a time, to rows drawn by squared distance and
    iterated again, as long as that lowers the objective (random swap, Franti, J Big
    Data 2018;5:13): it finds small distinct habitats that ten starts miss. An empty
    cluster gets the row farthest from its center.

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
    columns = _columns(X)
    integer("k", k, 1, 255)
    blocks = _Blocks.of(columns)
    if init is None:
        best = _best_run(blocks, k, options, np.random.default_rng(random_state))
    else:
        start = _Run(_check_init(init, k, columns.shape[0]))
        best = _advance(blocks, start, options.max_iter)
    labels, distances = _assign(columns, best.centers)
    objective = float(distances.sum(dtype=np.float64))
    rule = Nearest(best.centers, objective / columns.size)
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
    labels, _ = _assign(_columns(X), points[used])
    return used.astype(np.uint8)[labels]


def _columns(X: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (d, n), contiguous, float32 or float64."""
    rows = np.asarray(X)
    if rows.ndim != 2 or 0 in rows.shape:
        what = f"must be rows of channel values, got shape {rows.shape}"
        raise InputError(what, "`X`")
    dtype = np.float32 if rows.dtype == np.float32 else np.float64
    columns = np.ascontiguousarray(rows.T, dtype=dtype)
    if not np.isfinite(columns).all():
        bad = int((~np.isfinite(columns)).any(axis=0).sum())
        raise InputError(f"{bad} rows are not finite", "`X`", "drop them first")
    return columns


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


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Columns sorted into compact blocks, see `kernels.kmeans.arrange`."""

    X: npt.NDArray[Any]
    middle: _F64
    half: _F64
    total: _F64

    @staticmethod
    def of(columns: npt.NDArray[Any]) -> _Blocks:
        d, n = columns.shape
        count = -(-n // BLOCK)
        packed = np.empty_like(columns)
        middle, half = np.empty((d, count)), np.empty((d, count))
        total = np.empty((d + 1, count))
        arrange(columns, packed, middle, half, total)
        return _Blocks(packed, middle, half, total)


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
    X, centers, n_iter, converged = blocks.X, run.centers, run.n_iter, False
    d, n = X.shape
    sums = np.empty((len(centers), d + 1))
    while not converged and n_iter < max_iter:
        lloyd_step(X, blocks.middle, blocks.half, blocks.total, centers, sums)
        if sums[:, d].min() == 0:
            _relocate(X, centers, sums)
        old, centers = centers, sums[:, :d] / sums[:, d:]
        converged = np.array_equal(old, centers)
        n_iter += 1
    mean = blocks.total[:d].sum(axis=1) / n
    between = float(sums[:, d] @ ((centers - mean) ** 2).sum(axis=1))
    return _Run(centers, n_iter, converged, between)


def _relocate(X: npt.NDArray[Any], centers: _F64, sums: _F64) -> None:
    """Move the columns farthest from their centers into the empty clusters."""
    labels, distances = _assign(X, centers)
    distinct = int((sums[:, -1] > 0).sum())  # if no column is off its center
    far = iter(np.argsort(-distances, kind="stable"))
    for j in np.flatnonzero(sums[:, -1] == 0):
        column = next((c for c in far if sums[labels[c], -1] > 1), None)
        if column is None or distances[column] == 0:
            raise _too_few(distinct, len(centers))
        moved = np.append(X[:, column], 1.0)
        sums[labels[column]] -= moved
        sums[j] = moved


def _best_run(
    blocks: _Blocks, k: int, options: KMeansOptions, rng: np.random.Generator
) -> _Run:
    trials = 2 + int(np.log(k))
    draws = rng.random((options.n_init, k, trials))

    def start(uniform: _F64) -> _Run:
        centers = np.empty((k, blocks.X.shape[0]))
        found = kmeans_plusplus(blocks.X, uniform, centers)
        if found < k:
            raise _too_few(found, k)
        return _advance(blocks, _Run(centers), min(_SHORT, options.max_iter))

    def finish(run: _Run) -> _Run:
        return _advance(blocks, run, options.max_iter)

    runs = _each(start, list(draws), blocks.X.size)
    runs = sorted(runs, key=lambda run: -run.between)[:_FINAL]  # ties: the first start
    best = max(_each(finish, runs, blocks.X.size), key=lambda run: run.between)
    for uniform in rng.random((_PASSES, max(_SWAPS, k))):
        swapped = _swap(blocks, best, uniform, options.max_iter)
        if swapped.between <= best.between * (1 + 1e-12):
            break
        best = finish(swapped)
    return best


def _swap(blocks: _Blocks, run: _Run, uniform: _F64, max_iter: int) -> _Run:
    """Move one center at a time to a column drawn by squared distance: the best try."""
    _, distances = _assign(blocks.X, run.centers)
    weight = np.cumsum(distances, dtype=np.float64)
    if weight[-1] == 0:
        return run
    columns = np.searchsorted(weight, uniform * weight[-1], "right")

    def attempt(i: int) -> _Run:
        centers = run.centers.copy()
        centers[i % len(centers)] = blocks.X[:, columns[i]]
        return _advance(blocks, _Run(centers), min(_SHORT, max_iter))

    runs = _each(attempt, range(len(columns)), blocks.X.size)
    return max(runs, key=lambda run: run.between)


def _each(function: Callable[[_T], _R], items: Sequence[_T], size: int) -> list[_R]:
    workers = min(threads(), len(items)) if size >= _SERIAL else 1
    if workers == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))

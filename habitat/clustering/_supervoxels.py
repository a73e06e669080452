"""Supervoxels: small compact patches of a tumor, and their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, integer, keep, one_of
from habitat.clustering._clusters import Clustering
from habitat.clustering._gmm import GMMOptions, gmm
from habitat.clustering._kmeans import KMeansOptions, kmeans
from habitat.clustering._order import canonical_order
from habitat.clustering._potts import neighborhood
from habitat.errors import ConfigError
from habitat.kernels.components import join
from habitat.kernels.kmeans import kmeans_plusplus

__all__ = ["SupervoxelOptions", "describe", "feature_names", "supervoxels"]

_ITERATIONS = KMeansOptions(max_iter=20)  # more changes next to nothing
_SMALL = 0.25  # of the mean size: smaller fragments are merged
_STATISTICS = ("mean", "sd", "p10", "p50", "p90")
_F64 = npt.NDArray[np.float64]
_I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SupervoxelOptions:
    """Options of two-level habitats: supervoxels, whose features are then clustered.

    Called with ``(X, k, rng)`` it clusters the features X of supervoxels.

    Parameters
    ----------
    n : int, 2 to 255, optional
        About how many supervoxels a tumor gets. By default as in Wu et al. (Radiology
        2018;288:26) 30 below 1,000 voxels, 50 below 10,000, 60 below 100,000, else 80.
    compactness : float
        Weight of position against value: a distance of one supervoxel's width counts
        as much as this difference of the scaled channels. 0 for values alone.
    method : {"kmeans", "gmm"}
        How supervoxels are clustered; mixtures are axis-parallel ("diag").

    Examples
    --------
    >>> SupervoxelOptions().count(5000)
    50
    """

    n: int | None = None
    compactness: float = 1.0
    method: str = "kmeans"

    def __post_init__(self) -> None:
        if self.n is not None:
            keep(self, n=integer("n", self.n, 2, 255))
        keep(self, compactness=at_least("compactness", self.compactness, 0.0))
        one_of("method", self.method, ("kmeans", "gmm"))

    def __call__(
        self,
        X: npt.NDArray[Any],
        k: int,
        rng: np.random.Generator,
        sample_weight: npt.ArrayLike | None = None,
    ) -> Clustering:
        if self.method == "kmeans":
            return kmeans(X, k, random_state=rng, sample_weight=sample_weight)
        options = GMMOptions("diag")
        needed = 2 * k * X.shape[1] + k - 1
        if len(X) < needed:
            what = f"{len(X)} supervoxels cannot fit a mixture of {needed} parameters"
            fix = "use a larger n, method='kmeans' or the cases of a HabitatModel"
            raise ConfigError(what, "SupervoxelOptions", fix)
        return gmm(X, k, options=options, random_state=rng, sample_weight=sample_weight)

    def count(self, voxels: int) -> int:
        """How many supervoxels a tumor of so many voxels is to get."""
        if self.n is not None:
            return self.n
        for below, n in ((1_000, 30), (10_000, 50), (100_000, 60)):
            if voxels < below:
                return n
        return 80


def supervoxels(
    Z: npt.NDArray[Any],
    index: npt.NDArray[Any],
    spacing: npt.ArrayLike,
    options: SupervoxelOptions,
    rng: np.random.Generator,
) -> _I64:
    """Split a tumor into compact, spatially connected patches of like voxels.

    Parameters
    ----------
    Z : (n, channels) array
        Scaled channel values, finite.
    index : (n, 3) array of int, zyx
        Where the voxels are on their grid.
    spacing : 3 numbers, mm, zyx
        Voxel size.
    options : SupervoxelOptions
        How many, how compact.
    rng : numpy.random.Generator
        Source of the start.

    Returns
    -------
    (n,) array of int64
        Supervoxel 0..m-1 of each voxel; every number is used. They are in the order of
        their mean values, first channel first.

    Notes
    -----
    K-means on the channels and the position, which is divided by the width S = (volume
    / n)^(1/3) of a supervoxel and multiplied by the compactness: the distance of SLIC
    (Achanta et al., IEEE TPAMI 2012;34:2274), searched everywhere and started from the
    data instead of a grid, 20 iterations. Each cluster is then split into its connected
    components (26 neighbors), and those of less than a quarter of the mean size go to
    the neighbor nearest in value. So m is near the number asked for, not equal to it.
    A supervoxel never bridges separate parts of a tumor; a part may be one, however
    small. Voxel order, flips and permutations of the axes change nothing, except
    where voxels are equal in all channels.
    """
    rows = np.asarray(Z, dtype=np.float64)
    size = np.asarray(spacing, dtype=np.float64)
    middle = (index.min(axis=0) + index.max(axis=0)) / 2
    position = (index - middle) * size
    far = np.sort(position**2, axis=1).sum(axis=1)
    order = canonical_order(np.column_stack([rows, far]))
    n = options.count(len(rows))
    width = (len(rows) * np.sort(size).prod() / n) ** (1 / 3)
    rows, place = rows[order], position[order] * (options.compactness / width)
    labels = _cluster(np.column_stack([rows, place]), n, rng)
    parts = _connected(labels, index[order], rows, _SMALL * len(rows) / n)
    means = _means(rows, parts)
    rank = np.argsort(np.lexsort(means.T[::-1]))
    out = np.empty(len(rows), np.int64)
    out[order] = rank[parts]
    return out


def describe(Z: npt.NDArray[Any], parts: npt.NDArray[Any], m: int) -> _F64:
    """Features of supervoxels: mean, sd and three percentiles of each channel.

    Parameters
    ----------
    Z : (n, channels) array
        Scaled channel values, finite.
    parts : (n,) array of int
        Supervoxel 0..m-1 of each voxel.
    m : int
        Number of supervoxels.

    Returns
    -------
    (m, 5 * channels) array
        In the order of `feature_names`; sd divides by the number of voxels, percentiles
        are interpolated linearly. NaN for a number that no voxel has.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.array([[0.0], [10.0], [5.0]])
    >>> describe(Z, np.array([0, 0, 1]), 2).tolist()
    [[5.0, 5.0, 1.0, 5.0, 9.0], [5.0, 0.0, 5.0, 5.0, 5.0]]
    """
    count = np.bincount(parts, minlength=m)
    used = np.flatnonzero(count)
    start = (np.cumsum(count) - count)[used]
    out = np.full((m, Z.shape[1], len(_STATISTICS)), np.nan)
    for c, column in enumerate(np.asarray(Z, dtype=np.float64).T):
        # sums run over sorted values, so that the order of the voxels does not matter
        order = np.lexsort((column, parts))
        x = column[order]
        mean = np.add.reduceat(x, start) / count[used]
        apart = (x - np.repeat(mean, count[used])) ** 2
        sd = np.sqrt(np.add.reduceat(apart, start) / count[used])
        at = [_percentile(x, start, count[used], q) for q in (0.1, 0.5, 0.9)]
        out[used, c] = np.stack([mean, sd, *at], axis=1)
    return out.reshape(m, -1)


def feature_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of `describe`.

    Parameters
    ----------
    channels : sequence of str
        Names of the channels.

    Examples
    --------
    >>> feature_names(["HU"])
    ('mean_HU', 'sd_HU', 'p10_HU', 'p50_HU', 'p90_HU')
    """
    return tuple(f"{s}_{c}" for c in channels for s in _STATISTICS)


def _percentile(x: _F64, start: _I64, count: _I64, q: float) -> _F64:
    """Percentile of each run of sorted values, interpolated linearly."""
    at = q * (count - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, count - 1)
    low, high = x[start + below], x[start + above]
    out: _F64 = low + (at - below) * (high - low)
    return out


def _cluster(X: _F64, n: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """K-means started from rows of X in their order, which no flip changes."""
    columns = np.ascontiguousarray(X.T)
    centers = np.empty((n, X.shape[1]))
    uniform = rng.random((n, 2 + int(np.log(n))))
    found = kmeans_plusplus(columns, np.empty(0), uniform, centers)
    return kmeans(X, found, options=_ITERATIONS, init=centers[:found]).labels


def _connected(
    labels: npt.NDArray[np.uint8], index: npt.NDArray[Any], Z: _F64, least: float
) -> _I64:
    """Connected components of the labels; those below `least` voxels are merged."""
    where, place, steps, _ = neighborhood(index, 26)
    root = np.arange(len(labels))
    borders = []
    for step in steps[: len(steps) // 2]:  # each pair once
        other = where[place + step]
        here = np.flatnonzero(other >= 0)
        there = other[here].astype(np.int64)
        same = labels[here] == labels[there]
        join(here[same], there[same], root)
        borders.append(np.stack([here[~same], there[~same]]))
    parts = _numbered(root)
    return _merge(parts, parts[np.concatenate(borders, axis=1)], Z, least)


def _merge(parts: _I64, ends: _I64, Z: _F64, least: float) -> _I64:
    """Merge small parts into neighbors near in value, into large ones if there are.

    `ends` (2, pairs) are the parts on both sides of borders.
    """
    a, b = np.concatenate([ends, ends[::-1]], axis=1)
    while True:
        size = np.bincount(parts)
        m = len(size)
        mine = (size[a] < least) & (a != b)
        if not mine.any():
            return parts
        pairs = np.sort(a[mine] * m + b[mine])
        a, b = np.divmod(pairs[np.append(True, np.diff(pairs) > 0)], m)
        large = size[b] >= least
        beside_large = np.zeros(m, np.bool_)
        beside_large[a[large]] = True
        best = large | ~beside_large[a]
        x, y = a[best], b[best]
        means = _means(Z, parts)
        apart = ((means[x] - means[y]) ** 2).sum(axis=1)
        start = np.flatnonzero(np.append(True, np.diff(x) > 0))
        lowest = np.repeat(
            np.minimum.reduceat(apart, start), np.diff(np.append(start, len(x)))
        )
        x, y = x[apart == lowest], y[apart == lowest]
        first = np.append(True, np.diff(x) > 0)  # of neighbors equally near
        root = np.arange(m)
        join(x[first], y[first], root)
        number = _numbered(root)
        parts, a, b = number[parts], number[a], number[b]


def _numbered(root: _I64) -> _I64:
    """Components 0, 1, ... in the order of their lowest members."""
    number = np.cumsum(root == np.arange(len(root))) - 1
    out: _I64 = number[root]
    return out


def _means(Z: _F64, parts: _I64) -> _F64:
    sums = [np.bincount(parts, weights=column) for column in Z.T]
    return np.stack(sums, axis=1) / np.bincount(parts)[:, None]

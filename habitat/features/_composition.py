"""What a tumor is made of: shares, statistics, contrasts and diversity of its habitats.

Diversity is that of ecology: Hill numbers (Ecology 1973;54:427) and Rao's quadratic
entropy (Theor Popul Biol 1982;21:24).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat.geometry import Floats

Labels: TypeAlias = npt.NDArray[Any]  # whole numbers (z, y, x), 0 outside, regions 1..k
Spacing: TypeAlias = Sequence[float]  # voxel size (z, y, x), mm

STATISTICS = ("mean", "sd", "min", "p10", "p50", "p90", "max")


def counts(labels: Labels, k: int) -> npt.NDArray[np.int64]:
    """Voxels of regions 1..k."""
    return np.bincount(labels.ravel(), minlength=k + 1)[1 : k + 1].astype(np.int64)


def centroids(labels: Labels, k: int, spacing: Spacing) -> Floats:
    """Centers (k, 3) of regions 1..k, zyx, mm from voxel (0, 0, 0); NaN if absent."""
    where = np.nonzero(labels)
    own = labels[where]
    sums = [np.bincount(own, at, k + 1)[1 : k + 1] for at in where]
    n = counts(labels, k)
    means = np.stack(sums, axis=1) / np.where(n, n, np.nan)[:, None]
    out: Floats = means * np.asarray(spacing)
    return out


def composition(labels: Labels, k: int, spacing: Spacing) -> dict[str, Floats]:
    """Volume and share of each region.

    Parameters
    ----------
    labels : integer array of shape (z, y, x)
        0 outside, regions 1..k.
    k : int
        Number of regions, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    dict of str to array of shape (k,)
        "volume_ml", "fraction" of all regions together, "present" (0 or 1).

    Examples
    --------
    >>> labels = np.array([[[0, 1, 1, 1, 3]]])
    >>> composition(labels, 3, (1, 1, 1))["fraction"]
    array([0.75, 0.  , 0.25])
    """
    n = counts(labels, k)
    volume: Floats = n.astype(np.float64) * (math.prod(spacing) / 1000)
    return {
        "volume_ml": volume,
        "fraction": n / max(int(n.sum()), 1),
        "present": (n > 0).astype(np.float64),
    }


def statistics(values: Floats, labels: Labels, k: int) -> dict[str, Floats]:
    """Mean, standard deviation and percentiles of one channel in each region.

    Parameters
    ----------
    values : float array of shape (z, y, x)
        The channel; voxels without a finite value are left out.
    labels : integer array of shape (z, y, x)
        0 outside, regions 1..k.
    k : int
        Number of regions, absent ones included.

    Returns
    -------
    dict of str to array of shape (k,)
        "mean", "sd" (of the voxels, dividing by n), "min", "p10", "p50", "p90", "max".

    Examples
    --------
    >>> values = np.array([[[1.0, 3.0, 7.0]]])
    >>> statistics(values, np.array([[[1, 1, 2]]]), 2)["mean"]
    array([2., 7.])
    """
    table = np.full((k, len(STATISTICS)), np.nan)
    for row, x in zip(table, _split(values, labels, k), strict=True):
        if x.size:
            quantiles = np.percentile(x, (0, 10, 50, 90, 100))
            row[:] = (x.mean(), x.std(), *quantiles)
    return dict(zip(STATISTICS, table.T.copy(), strict=True))


def contrasts(values: Floats, labels: Labels, k: int) -> dict[str, float]:
    """How far apart the means of two habitats are, in standard deviations.

    Parameters
    ----------
    values : float array of shape (z, y, x)
        One channel; voxels without a finite value are left out.
    labels : integer array of shape (z, y, x)
        0 outside, habitats 1..k.
    k : int
        Number of habitats, absent ones included.

    Returns
    -------
    dict of str to float
        "contrast_1_2" ...: mean of 1 minus mean of 2, divided by their pooled standard
        deviation (that of samples, n - 1; Cohen's d). NaN where that is 0.

    Examples
    --------
    >>> values = np.array([[[1.0, 3.0, 7.0, 9.0]]])
    >>> round(contrasts(values, np.array([[[1, 1, 2, 2]]]), 2)["contrast_1_2"], 3)
    -4.243
    """
    parts = _split(values, labels, k)
    out = {}
    for i, j in combinations(range(k), 2):
        a, b = parts[i], parts[j]
        known = a.size > 0 and b.size > 0 and (np.ptp(a) > 0 or np.ptp(b) > 0)
        value = np.nan
        if known:
            squares = a.var() * a.size + b.var() * b.size
            value = (a.mean() - b.mean()) / np.sqrt(squares / (a.size + b.size - 2))
        out[f"contrast_{i + 1}_{j + 1}"] = float(value)
    return out


def centroid_distances(labels: Labels, k: int, spacing: Spacing) -> dict[str, float]:
    """Distances between the centers of habitats in space.

    Parameters
    ----------
    labels : integer array of shape (z, y, x)
        0 outside, habitats 1..k.
    k : int
        Number of habitats, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    dict of str to float
        "centroid_distance_1_2" ..., mm.

    Examples
    --------
    >>> centroid_distances(np.array([[[1, 1, 2]]]), 2, (1, 1, 2))
    {'centroid_distance_1_2': 3.0}
    """
    at = centroids(labels, k, spacing)
    return {
        f"centroid_distance_{i + 1}_{j + 1}": float(np.linalg.norm(at[i] - at[j]))
        for i, j in combinations(range(k), 2)
    }


def diversity(
    labels: Labels, k: int, channels: Sequence[Floats] = ()
) -> dict[str, float]:
    """Ecological diversity of the habitats.

    Parameters
    ----------
    labels : integer array of shape (z, y, x)
        0 outside, habitats 1..k; habitats that are absent count for nothing.
    k : int
        Number of habitats, absent ones included.
    channels : sequence of float arrays of shape (z, y, x)
        What the habitats differ in, for Rao's Q; NaN is no value.

    Returns
    -------
    dict of str to float
        Of the shares p of the S habitats present: "shannon" ``H = -sum p ln p``,
        "pielou" ``H / ln S`` (NaN for one habitat), "simpson" ``1 - sum p^2``,
        "inverse_simpson" (the Hill number of order 2), "berger_parker" ``max p``,
        "hill_0" (S) and "hill_1" (``exp H``). "rao_q" is the mean distance of two
        voxels drawn at random, as that of the centers of their habitats with each
        channel in standard deviations of the tumor; "rao_q_relative" is rao_q divided
        by the largest distance. Channels without contrast do not count.

    Examples
    --------
    >>> labels = np.array([[[1, 1, 2, 2]]])
    >>> round(diversity(labels, 2)["shannon"], 4)
    0.6931
    >>> diversity(labels, 2, [np.array([[[0.0, 0.0, 1.0, 1.0]]])])["rao_q"]
    1.0
    """
    n = counts(labels, k)
    n = n[n > 0]
    p = n / max(int(n.sum()), 1)
    simpson = float((p * p).sum()) if p.size else np.nan
    shannon = float(-(p * np.log(p)).sum()) + 0.0 if p.size else np.nan  # not -0.0
    return {
        "shannon": shannon,
        "pielou": shannon / float(np.log(p.size)) if p.size > 1 else np.nan,
        "simpson": 1 - simpson,
        "inverse_simpson": 1 / simpson,
        "berger_parker": float(p.max()) if p.size else np.nan,
        "hill_0": float(p.size),
        "hill_1": float(np.exp(shannon)),
        **_rao(labels, k, channels),
    }


def _rao(labels: Labels, k: int, channels: Sequence[Floats]) -> dict[str, float]:
    n = counts(labels, k)
    p, present = n / max(int(n.sum()), 1), n > 0
    squared = np.zeros((k, k))
    contrast = False
    for values in channels:
        inside = values[(labels > 0) & np.isfinite(values)]
        if inside.size and np.ptp(inside) > 0:
            contrast = True
            at = statistics(values, labels, k)["mean"] / inside.std()
            squared += (at[:, None] - at) ** 2
    if not contrast:
        return {"rao_q": np.nan, "rao_q_relative": np.nan}
    distance = np.sqrt(squared[np.ix_(present, present)])
    q, most = float(p[present] @ distance @ p[present]), float(distance.max())
    return {"rao_q": q, "rao_q_relative": q / most if most > 0 else np.nan}


def _split(values: Floats, labels: Labels, k: int) -> list[Floats]:
    """Finite values of each region."""
    finite = np.isfinite(values)
    return [values[finite & (labels == i)] for i in range(1, k + 1)]

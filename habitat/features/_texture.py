"""First-order and texture features of all regions of a label map at once.

Names, definitions and values are those of pyradiomics 3.1.4 (van Griethuysen et al.,
Cancer Res 2017; 77:e104), with ``ibsi=True`` those of the IBSI reference manual
(Zwanenburg et al., Radiology 2020; 295:328), under pyradiomics' names.

Where pyradiomics returns a rounding error, the exact value is given:

- Imc2 and MCC of a direction whose levels are independent are 0; pyradiomics gives
  0, up to 1e-7, or leaves the direction out where the square of its value comes out
  negative.
- Skewness and Kurtosis of equal values are 0, as their Variance and deviations.
- Busyness is 0 where all i * p_i are equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from habitat.errors import ConfigError, InputError
from habitat.features._matrices import FORMULAS, Matrices, entropy
from habitat.geometry import bounding_box
from habitat.kernels.regions import count
from habitat.kernels.texture import FIRSTORDER
from habitat.kernels.texture_pairs import ANGLES, GLCM
from habitat.kernels.texture_runs import GLRLM
from habitat.kernels.texture_zones import GLDM, GLSZM, NGTDM

__all__ = ["CLASSES", "discretize", "first_order", "texture"]

_NAMES = {"glcm": GLCM, "glrlm": GLRLM, "glszm": GLSZM, "gldm": GLDM, "ngtdm": NGTDM}
CLASSES = tuple(_NAMES)
_ROUNDING = 1e-12  # relative
_MOST_LEVELS = 4096  # co-occurrence matrices of 0.9 GB
_BLOCK = 1 << 24  # entries of matrices to count at once
_IBSI_GLDM = (
    "GrayLevelNonUniformityNormalized",
    "DependencePercentage",
    "DependenceCountEnergy",
)
_F64 = npt.NDArray[np.float64]
_I64 = npt.NDArray[np.int64]
_Int = npt.NDArray[np.integer[Any]]
_Angles = tuple[tuple[int, ...], ...]
Features = dict[str, _F64]


# --- gray levels ----------------------------------------------------------------------


def discretize(
    values: _F64,
    labels: _Int,
    n: int,
    *,
    bin_width: float | None = None,
    bin_count: int | None = None,
    bin_from: float | None = None,
) -> tuple[npt.NDArray[np.int32], _I64]:
    """Gray levels of each region, from 1.

    Parameters
    ----------
    values : (z, y, x) float64
        Image; finite in the regions.
    labels : (z, y, x) int
        0 outside, regions 1 to `n`.
    n : int
        Number of regions; some may be absent.
    bin_width : float, optional
        Width of the levels. The lowest begins at the multiple of it at or below the
        region's lowest value, or at `bin_from`.
    bin_count : int, optional
        Number of levels between the region's lowest and highest value; this or
        `bin_width` must be given.
    bin_from : float, optional
        Lower edge of level 1 in all regions (IBSI: fixed bin size).

    Returns
    -------
    levels : (z, y, x) int32
        0 outside the regions.
    bins : (n,) int
        Highest minus lowest level of each region, plus 1; 0 for an absent one.

    Raises
    ------
    InputError
        If values are below `bin_from`.
    ConfigError
        If there are more than 4,096 levels.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[[-3.0, 20.0, 60.0, 101.0]]])
    >>> labels = np.array([[[1, 1, 2, 2]]])
    >>> levels, bins = discretize(values, labels, 2, bin_width=25)
    >>> levels.tolist(), bins.tolist()
    ([[[1, 2, 1, 3]]], [2, 3])
    """
    levels = np.zeros(labels.shape, np.int32)
    bins = np.zeros(n, np.int64)
    for r, inside in _inside(labels, n):
        x = values.ravel()[inside]
        if is_flat(x):
            x = np.full_like(x, x.min())
        edges = _edges(x, bin_width, bin_count, bin_from)
        found = np.digitize(x, edges)
        levels.ravel()[inside] = found
        bins[r] = found.max() - found.min() + 1
    return levels, bins


def is_flat(x: _F64) -> bool:
    """Whether values are equal but for the rounding of an interpolation."""
    low, high = float(x.min()), float(x.max())
    return high - low <= _ROUNDING * max(abs(low), abs(high))


def _inside(labels: _Int, n: int) -> Iterator[tuple[int, _I64]]:
    """Number from 0 and positions, ascending, of each region that is there."""
    where = np.flatnonzero(labels)
    own = labels.ravel()[where]
    order = where[np.argsort(own, kind="stable")]
    ends = np.cumsum(np.bincount(own, minlength=n + 1))
    for r in np.flatnonzero(np.diff(ends)):
        yield int(r), order[ends[r] : ends[r + 1]]


def _edges(x: _F64, width: float | None, number: int | None, low: float | None) -> _F64:
    """Lower edges of the levels, and one above, as pyradiomics' `getBinEdges`."""
    if number is not None:
        edges = np.histogram_bin_edges(x, number)
        edges[-1] += 1  # the highest value belongs to the last level
        return edges
    if width is None:
        raise ConfigError("one of them must be given", "`bin_width`, `bin_count`")
    lowest, highest = float(x.min()), float(x.max())
    if low is not None and lowest < low:
        below = np.count_nonzero(x < low)
        raise InputError(
            f"{below} of {x.size} values are below {low:g}, the lowest is {lowest:g}",
            "`bin_from`",
            "re-segment the regions to the range, or choose a lower edge",
        )
    first = lowest - lowest % width if low is None else low
    if (highest - first) / width >= _MOST_LEVELS:
        raise ConfigError(
            f"{width:g} makes {(highest - first) / width:.3g} gray levels of "
            f"[{lowest:g}, {highest:g}], at most {_MOST_LEVELS} can be used",
            "`bin_width`",
            "choose a larger one",
        )
    return np.arange(first, highest + 2 * width, width)


# --- first order ----------------------------------------------------------------------


def first_order(
    values: _F64,
    levels: _Int,
    labels: _Int,
    n: int,
    spacing: Sequence[float],
    *,
    shift: float = 0.0,
    ibsi: bool = False,
) -> Features:
    """First-order features of each region.

    Parameters
    ----------
    values, labels, n
        As in `discretize`.
    levels : (z, y, x) int
        Gray levels, of which Entropy and Uniformity are.
    spacing : (z, y, x) float
        Size of a voxel, mm.
    shift : float, optional
        Added to the values in Energy, TotalEnergy and RootMeanSquared.
    ibsi : bool, optional
        Whether Kurtosis is that in excess of a normal distribution's (0 for it).

    Returns
    -------
    dict of str to (n,) float64
        18 features, "firstorder_Mean", ...; NaN where a region is absent.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[[1.0, 2.0, 3.0, 8.0]]])
    >>> labels = np.array([[[1, 1, 1, 2]]])
    >>> found = first_order(values, values.astype(int), labels, 3, (1, 1, 1))
    >>> found["firstorder_Mean"].tolist()
    [2.0, 8.0, nan]
    """
    out = np.full((n, len(FIRSTORDER)), np.nan)
    for r, inside in _inside(labels, n):
        x = values.ravel()[inside]
        counts = np.bincount(levels.ravel()[inside])
        found = _statistics(x, shift, 3.0 if ibsi else 0.0)
        share = counts / x.size
        found["TotalEnergy"] = found["Energy"] * float(np.prod(spacing))
        found["Entropy"] = float(entropy(share, 0))
        found["Uniformity"] = float(share @ share)
        out[r] = [found[name] for name in FIRSTORDER]
    return _named("firstorder", FIRSTORDER, out)


def _statistics(x: _F64, shift: float, normal: float) -> dict[str, float]:
    x = np.sort(x)
    p10, p25, p50, p75, p90 = _percentiles(x, np.array([0.1, 0.25, 0.5, 0.75, 0.9]))
    low, high = x[0], x[-1]
    mean = x.mean() if low < high else low  # without the rounding of equal values
    apart = x - mean
    square = apart * apart
    m2 = square.mean()
    core = x[np.searchsorted(x, p10) : np.searchsorted(x, p90, "right")]
    around = core.mean() if core.size and low < high else low
    shifted = x + shift if shift else x
    energy = shifted @ shifted
    return {
        "Energy": energy,
        "Minimum": low,
        "10Percentile": p10,
        "90Percentile": p90,
        "Maximum": high,
        "Mean": mean,
        "Median": p50,
        "InterquartileRange": p75 - p25,
        "Range": high - low,
        "MeanAbsoluteDeviation": np.abs(apart).mean(),
        "RobustMeanAbsoluteDeviation": (
            np.abs(core - around).mean() if core.size else np.nan
        ),
        "RootMeanSquared": np.sqrt(energy / x.size),
        "Skewness": (square @ apart) / x.size / m2**1.5 if m2 > 0 else 0.0,
        "Kurtosis": (square @ square) / x.size / m2**2 - normal if m2 > 0 else 0.0,
        "Variance": m2,
    }


def _percentiles(x: _F64, q: _F64) -> _F64:
    """Percentiles of sorted values, rounded as by NumPy: the core depends on it."""
    at = (x.size - 1) * q
    below = np.floor(at).astype(np.int64)
    part = at - below
    low, high = x[below], x[np.minimum(below + 1, x.size - 1)]
    step = high - low
    return np.where(part < 0.5, low + step * part, high - step * (1 - part))


# --- texture --------------------------------------------------------------------------


def texture(
    levels: _Int,
    labels: _Int,
    n: int,
    *,
    classes: Sequence[str] = CLASSES,
    dims: str = "3d",
    merge: bool = False,
    ibsi: bool = False,
) -> Features:
    """Texture features of each region; voxels of other regions do not count.

    Parameters
    ----------
    levels : (z, y, x) int
        Gray levels of the regions, from 1 (see `discretize`).
    labels, n
        As in `discretize`.
    classes : sequence of str, optional
        Of "glcm", "glrlm", "glszm", "gldm" and "ngtdm".
    dims : {"3d", "2.5d", "2d"}, optional
        Neighbors in space; in the slice (pyradiomics: ``force2D``); in the slice, and
        features are averaged over slices.
    merge : bool, optional
        Whether the GLCM and GLRLM of all directions are added up; by default their
        features are averaged.
    ibsi : bool, optional
        Whether IBSI is followed where pyradiomics is not: voxels without neighbors do
        not count in the NGTDM, directions without two voxels on a line do in the
        GLRLM, and the GLDM has its three redundant features.

    Returns
    -------
    dict of str to (n,) float64
        "glcm_Contrast", ...; NaN where a region is absent or has no value.

    Examples
    --------
    >>> import numpy as np
    >>> levels = np.array([[[1, 2, 2, 3]]])
    >>> found = texture(levels, np.ones_like(levels), 1, classes=["glrlm"])
    >>> found["glrlm_RunPercentage"].tolist()
    [0.75]
    """
    voxels = _voxels(levels, labels, dims)
    angles = ANGLES if dims == "3d" else tuple(a for a in ANGLES if a[0] == 0)
    names = dict(_NAMES)
    if ibsi:
        names["gldm"] += _IBSI_GLDM
    sums = {kind: np.zeros((n, len(names[kind]))) for kind in classes}
    counts = {kind: np.zeros((n, len(names[kind]))) for kind in classes}
    for part in _parts(voxels, len(angles)):
        found = _count(part, angles, merge, ibsi)
        for kind in classes:
            values = FORMULAS[kind](found)
            if not ibsi:  # pyradiomics computes nothing for a voxel alone
                values[found.spans == 0] = np.nan
            np.add.at(sums[kind], part.owner, np.nansum(values, axis=1))
            np.add.at(counts[kind], part.owner, (~np.isnan(values)).sum(axis=1))
    out: Features = {}
    for kind in classes:
        with np.errstate(invalid="ignore"):
            out |= _named(kind, names[kind], sums[kind] / counts[kind])
    return out


class _Voxels(NamedTuple):
    """Voxels of the regions, in raster order."""

    position: _I64  # in the padded volume
    region: _I64  # from 0; of a slice of its own where slices are averaged
    level: _I64
    owner: _I64  # (regions,) label - 1 of each region
    highest: _I64  # (regions,) highest level of the label
    shape: tuple[int, ...]  # of the padded volume


def _voxels(levels: _Int, labels: _Int, dims: str) -> _Voxels:
    """Collect the voxels of the regions; the volume ends one voxel beyond them."""
    there = labels > 0
    box = bounding_box(there) if there.any() else (slice(0),) * 3
    inside = np.pad(labels[box], 1)
    position = np.flatnonzero(inside)
    region = inside.ravel()[position].astype(np.int64) - 1
    level = levels[box][there[box]].astype(np.int64)  # in the same order
    most = int(level.max(initial=0)) + 1
    present = np.bincount(region * most + level) > 0
    present = np.pad(present, (0, -present.size % most)).reshape(-1, most)
    highest = (present * np.arange(most)).max(axis=1, initial=0)
    slices = inside.shape[0] if dims == "2d" else 1
    if dims == "2d":
        region = region * slices + position // inside[0].size
    found = np.flatnonzero(np.bincount(region))
    number = np.zeros(found.max(initial=-1) + 1, np.int64)
    number[found] = np.arange(found.size)
    owner = found // slices
    return _Voxels(position, number[region], level, owner, highest[owner], inside.shape)


def _parts(voxels: _Voxels, angles: int) -> Iterator[_Voxels]:
    """Split regions so that their matrices fit into memory."""
    regions = voxels.owner.size
    most = int(voxels.highest.max(initial=1))
    size = max(1, _BLOCK // (angles * most * most))
    if 0 < regions <= size:
        yield voxels
        return
    for first in range(0, regions, size):
        part = slice(first, first + size)
        mine = voxels.region // size == first // size
        yield _Voxels(
            voxels.position[mine],
            voxels.region[mine] - first,
            voxels.level[mine],
            voxels.owner[part],
            voxels.highest[part],
            voxels.shape,
        )


def _count(voxels: _Voxels, angles: _Angles, merge: bool, ibsi: bool) -> Matrices:
    position, region, level = voxels.position, voxels.region, voxels.level
    regions = voxels.owner.size
    most = int(level.max()) + 1
    present = np.bincount(region * most + level, minlength=regions * most) > 0
    present = present.reshape(regions, most)
    order = np.cumsum(present, axis=1) - 1
    ranks = int(order[:, -1].max()) + 1
    gray = np.zeros((regions, ranks))
    at = np.nonzero(present)
    gray[at[0], order[at]] = at[1]
    row = region * ranks + order[region, level]
    rows = np.full(int(np.prod(voxels.shape)), -1, np.int32)
    rows[position] = row
    steps = np.array(angles) @ [voxels.shape[1] * voxels.shape[2], voxels.shape[2], 1]
    shape = regions, ranks, len(angles)
    pairs = np.zeros((*shape, ranks), np.int32)
    runs = np.zeros((*shape, max(voxels.shape)), np.int32)
    alike, near = np.zeros((2, regions, ranks, 2 * len(angles) + 1), np.int32)
    apart = np.zeros(near.shape, np.int64)
    zone = np.zeros(rows.size, np.int32)
    count(
        rows,
        position,
        gray.ravel().astype(np.int32),
        steps,
        pairs,
        runs,
        alike,
        near,
        apart,
        zone,
    )
    pairs, runs = pairs.swapaxes(1, 2), runs.swapaxes(1, 2)
    first = np.flatnonzero(zone)
    zones = rows[first], zone[first]
    highest = voxels.highest.astype(float)
    lines, spans = _lines(voxels, angles, pairs)
    return Matrices(
        gray,
        highest,
        pairs,
        runs,
        alike,
        near,
        apart,
        zones,
        lines,
        spans,
        merge,
        ibsi,
    )


def _lines(
    voxels: _Voxels, angles: _Angles, pairs: _Int
) -> tuple[npt.NDArray[np.bool_], _I64]:
    """Tell which directions have a line with two voxels, if apart; count their spans.

    A direction spans a region if the region's box is longer than a voxel along it.
    """
    lines = np.asarray(pairs.any(axis=(2, 3)))
    spans = np.full(len(lines), len(angles))
    for r in np.flatnonzero(~lines.all(axis=1)):
        where = np.unravel_index(voxels.position[voxels.region == r], voxels.shape)
        at = np.stack(where, axis=1)
        wide = np.ptp(at, axis=0) > 0
        spans[r] = (wide | (np.array(angles) == 0)).all(axis=1).sum()
        for k in np.flatnonzero(~lines[r]):
            angle = np.array(angles[k])
            axis = np.flatnonzero(angle)[0]  # where the direction is 1
            start = at - at[:, axis, None] * angle
            lines[r, k] = len(np.unique(start, axis=0)) < len(at)
    return lines, spans


def _named(kind: str, names: Sequence[str], values: _F64) -> Features:
    """Columns by name."""
    return {f"{kind}_{f}": values[:, k] for k, f in enumerate(names)}

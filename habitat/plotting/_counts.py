"""What the figures of distributions show, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from habitat.errors import InputError

Floats = npt.NDArray[np.float64]

_TAIL = 0.25  # percent of the voxels left out at each end of an axis
_BINS = (12, 60)  # fewest and most along an axis
_HELD = (0.95, 0.75, 0.5, 0.25)  # shares of the voxels within the lines


@dataclass(frozen=True, eq=False)
class Density:
    """Voxels of two channels in bins."""

    x: Floats  # edges of the bins, (nx + 1,)
    y: Floats  # (ny + 1,)
    density: Floats  # (ny, nx), smoothed, sums to 1
    habitat: npt.NDArray[np.int64]  # (ny, nx), the most frequent one, 0: no voxel
    levels: Floats  # rising; densities above them hold 95, 75, 50, 25 % of the voxels


def density(x: npt.ArrayLike, y: npt.ArrayLike, labels: npt.ArrayLike) -> Density:
    """Count voxels of two channels.

    Parameters
    ----------
    x, y, labels : arrays of one shape
        Values and habitat numbers; voxels of habitat 0 or without a value are left out.

    Raises
    ------
    InputError
        If the shapes differ or no voxel is left.
    """
    values, habitats = _known({"x": x, "y": y}, labels)
    x, y = values
    bins = int(np.clip(np.sqrt(habitats.size) / 1.5, *_BINS))
    edges = [_edges(v, bins) for v in values]
    k = int(habitats.max())
    counts = np.array(
        [
            np.histogram2d(y[habitats == h], x[habitats == h], edges[::-1])[0]
            for h in range(1, k + 1)
        ]
    )
    total = counts.sum(axis=0)
    smooth = gaussian_filter(total, 1.0)
    smooth /= smooth.sum()
    falling = np.sort(smooth, axis=None)[::-1]
    held = np.cumsum(falling)
    levels = np.unique([falling[np.searchsorted(held, s)] for s in _HELD])
    habitat = np.where(total > 0, counts.argmax(axis=0) + 1, 0)
    return Density(edges[0], edges[1], smooth, habitat, levels)


def histogram(
    values: npt.ArrayLike, labels: npt.ArrayLike, k: int
) -> tuple[Floats, Floats]:
    """Edges (bins + 1,) and counts (k, bins) of a channel by habitat.

    Values beyond the outermost edges count in the outermost bins.
    """
    (known,), habitats = _known({"values": values}, labels)
    bins = int(np.clip(np.sqrt(habitats.size), *_BINS))
    edges = _edges(known, bins)
    inside = np.clip(known, edges[0], edges[-1])
    numbers = range(1, k + 1)
    counts = [np.histogram(inside[habitats == h], edges)[0] for h in numbers]
    return edges, np.array(counts, dtype=np.float64)


def _known(
    channels: dict[str, npt.ArrayLike], labels: npt.ArrayLike
) -> tuple[list[Floats], npt.NDArray[np.int64]]:
    habitats = np.asarray(labels)
    values = [np.asarray(v, dtype=np.float64) for v in channels.values()]
    for name, array in zip(channels, values, strict=True):
        if array.shape != habitats.shape:
            what = f"has shape {array.shape}, the labels {habitats.shape}"
            raise InputError(what, f"`{name}`")
    keep = (habitats > 0) & np.all([np.isfinite(v) for v in values], axis=0)
    if not keep.any():
        raise InputError("no voxel has a habitat and values", "`labels`")
    return [v[keep] for v in values], habitats[keep].astype(np.int64)


def _edges(values: Floats, bins: int) -> Floats:
    low, high = (float(v) for v in np.percentile(values, (_TAIL, 100 - _TAIL)))
    edges: Floats
    if np.array_equal(values, np.rint(values)):  # as many whole numbers in each bin
        step = max(1.0, np.ceil((high - low) / bins))
        edges = np.arange(np.floor(low) - step, high + 2.5 * step, step) - 0.5
    else:
        margin = 0.02 * (high - low) or 0.5
        edges = np.linspace(low - margin, high + margin, bins + 1)
    return edges

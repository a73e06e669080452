"""What the phantoms share: grids, the irregular tumor, what a CT scanner does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat.errors import ConfigError
from habitat.geometry import Floats, Geometry

CT_MM = (3.27, 0.98, 0.98)  # z, y, x
SLABS = 3  # fine slices in one CT slice
SIGMA = 1 / math.sqrt(8 * math.log(2))  # standard deviation of a Gaussian of FWHM 1
IRREGULAR = 0.08  # radii vary by this share of the mean
BEND = 4.0  # radius of the borders between habitats, in tumor radii
_CT_FWHM, _CT_NOISE = 1.2, 15.0
_MIN_SHARE = 0.12

Labels = npt.NDArray[np.uint8]


def checked_shares(shares: Sequence[float]) -> Floats:
    """Return the volume shares of four habitats as an array, or raise."""
    parts = np.array(shares, dtype=np.float64)
    good = parts.shape == (4,) and math.isclose(parts.sum(), 1, abs_tol=1e-6)
    if not good or parts.min() < _MIN_SHARE - 1e-9:
        what = f"must be four numbers >= {_MIN_SHARE} that add to 1, got {shares}"
        raise ConfigError(what, "`shares`")
    return parts


def fine_axes(half: float) -> tuple[tuple[Floats, ...], Floats]:
    """Coordinates (mm from the tumor) and spacing of the grid all is painted on."""
    spacing = np.array(CT_MM) / (SLABS, 1, 1)
    counts = [math.ceil(2 * half / s) for s in spacing]
    counts[0] = SLABS * math.ceil(counts[0] / SLABS)
    ends = [(n - 1) / 2 * s for n, s in zip(counts, spacing, strict=True)]
    axes = [np.linspace(-e, e, n) for e, n in zip(ends, counts, strict=True)]
    return tuple(axes), spacing


def mesh(axes: tuple[Floats, ...]) -> tuple[npt.NDArray[np.float32], ...]:
    """Coordinates z, y and x (mm from the tumor) of all fine voxels."""
    return tuple(np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij"))


def distance_and_outline(
    z: Any, y: Any, x: Any, radius: float, rng: np.random.Generator
) -> tuple[Any, Any]:
    """Distance from the tumor's center, and the tumor's radius in that direction."""
    distance = np.sqrt(z * z + y * y + x * x) + 1e-6
    waves = _waves(z / distance, y / distance, x / distance, rng)
    return distance, radius * (1 + IRREGULAR * waves)


def _waves(z: Any, y: Any, x: Any, rng: np.random.Generator) -> Any:
    """Sum of zonal harmonics of degree 2 to 4 about random axes, scaled to -1..1."""
    total = 0.0
    for degree, size in ((2, 1.0), (3, 0.8), (4, 0.6)):
        axis = unit(rng).astype(np.float32)
        cosine = z * axis[0] + y * axis[1] + x * axis[2]
        height = size * rng.uniform(0.5, 1)
        total = total + height * np.polynomial.Legendre.basis(degree)(cosine)
    low, high = np.min(total), np.max(total)
    return (total - (low + high) / 2) / ((high - low) / 2)


def behind_each_other(
    points: Sequence[Any], radius: float, shares: Floats, rng: np.random.Generator
) -> Any:
    """Number points (z, y, x) from 0 by slightly bent layers that hold `shares`."""
    pole = -BEND * radius * unit(rng)
    depth = np.sqrt(sum((c - p) ** 2 for c, p in zip(points, pole, strict=True)))
    borders = np.quantile(depth, np.cumsum(shares)[:-1])
    return np.searchsorted(borders, depth)


def unit(rng: np.random.Generator) -> Floats:
    """Random direction."""
    vector = rng.standard_normal(3)
    out: Floats = vector / np.linalg.norm(vector)
    return out


def ct_grid(axes: tuple[Floats, ...], center: Sequence[float]) -> Geometry:
    """Grid of the CT around a tumor whose center (LPS) is given."""
    z, y, x = axes
    shape = (len(z) // SLABS, len(y), len(x))
    first = np.array([x[0], y[0], z[SLABS // 2]])
    return Geometry.from_spacing(shape, CT_MM, (np.array(center) + first).tolist())


def blurred(
    tissue: Labels, values: Sequence[float], fwhm: float, fine: Floats
) -> npt.NDArray[np.float32]:
    """Values of tissues 1, 2, ..., blurred by the scanner (mm)."""
    table = np.array([0.0, *values], dtype=np.float32)
    out: npt.NDArray[np.float32] = ndimage.gaussian_filter(
        table[tissue], fwhm * SIGMA / fine, truncate=3
    )
    return out


def sharp_ct(
    tissue: Labels, values: Sequence[float], fine: Floats
) -> npt.NDArray[np.float32]:
    """HU on the fine grid as the detector's blur leaves them."""
    return blurred(tissue, values, _CT_FWHM, fine)


def scanned(
    sharp: npt.NDArray[np.float32], noise: float, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Mean over the slice thickness, white noise, whole numbers."""
    slices = sharp.reshape(-1, SLABS, *sharp.shape[1:]).mean(axis=1)
    grain = _CT_NOISE * noise * rng.standard_normal(slices.shape)
    out: npt.NDArray[np.int16] = np.round(slices + grain).astype(np.int16)
    return out

"""A digital PET/CT tumor with known habitats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat._check import at_least
from habitat.errors import ConfigError, InputError
from habitat.geometry import Floats, Geometry
from habitat.image import Image

NAMES = ("core", "middle", "dense", "rim")  # habitats 1 to 4, in order of SUV
CENTERS = ((2.0, 10.0), (5.0, 40.0), (6.0, 130.0), (9.0, 60.0))  # SUVbw, HU
SHARES = (0.15, 0.31, 0.38, 0.16)  # each 10.5 to 13 mm thick at 23 mm radius
COLLAPSED, LUNG = (2.0, 60.0), (0.5, -800.0)  # around the tumor: SUVbw, HU

_PET_MM, _CT_MM = (3.27, 4.7, 4.7), (3.27, 0.98, 0.98)  # z, y, x
_PET_FWHM, _CT_FWHM, _PET_NOISE, _CT_NOISE = 6.0, 1.2, 0.10, 15.0
_SIGMA = 1 / math.sqrt(8 * math.log(2))  # standard deviation of a Gaussian of FWHM 1
_SLABS = 3  # fine slices in one CT slice
_CENTER = (-60.0, 10.0, 120.0)  # LPS of the tumor: right lung
_IRREGULAR = 0.08  # radii vary by this share of the mean
_BEND = 4.0  # radius of the borders between habitats, in tumor radii
_COLLAPSE_MM = 12.0  # thickness of the tissue around the tumor
_MIN_SHARE = 0.12

Labels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A digital PET/CT tumor and its true habitats.

    Parameters
    ----------
    pet : Image, float32, SUVbw
        PET on a grid of 3.27 x 4.7 x 4.7 mm (z, y, x).
    ct : Image, int16, HU
        CT on a grid of 3.27 x 0.98 x 0.98 mm.
    mask : Image, bool
        True in the tumor, on the grid of the CT.
    truth : Image, uint8
        True habitat 1 (core), 2 (middle), 3 (dense) or 4 (rim), 0 outside the tumor,
        on the grid of the CT. Numbered by SUV, as `segment` numbers its habitats.
    """

    pet: Image
    ct: Image
    mask: Image
    truth: Image


def phantom(
    *,
    noise: float = 1.0,
    radius_mm: float = 23.0,
    shares: Sequence[float] = SHARES,
    margin_mm: float = 30.0,
    random_state: int = 0,
) -> Phantom:
    """Make a digital PET/CT tumor with four known habitats.

    Parameters
    ----------
    noise : float
        Multiplies the noise of both images; 0 for none.
    radius_mm : float, mm
        Mean radius; the smooth irregular outline varies by 8 % around it.
    shares : sequence of 4 float
        Share of the tumor volume of core, middle, dense and rim, at least 0.12 each.
    margin_mm : float, mm
        What the images show around the tumor, at least 15.
    random_state : int
        Seed of the outline, the position of the habitats, the grids and the noise.

    Returns
    -------
    Phantom
        With the images `pet`, `ct`, `mask` and `truth`.

    Raises
    ------
    ConfigError
        If an argument is outside its range.

    Notes
    -----
    SUV and HU are 2 and 10 in the core, 5 and 40 in the middle, 6 and 130 in the dense
    part, 9 and 60 in the rim. The four lie behind each other in this order, with
    slightly bent borders. A shell of 12 mm like collapsed lung (2 and 60) surrounds the
    tumor, then aerated lung (0.5 and -800). PET: Gaussian blur of 6 mm FWHM, noise of
    10 % of the local mean, correlated by the same Gaussian, negative values set to 0.
    CT: Gaussian blur of 1.2 mm FWHM, mean over the slice thickness, white noise of
    15 HU, rounded. The two grids have different origins. All is generated; no patient
    is behind it.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom(noise=0, margin_mm=15)
    >>> p.ct
    Image 25x82x82 voxels of 3.27x0.98x0.98 mm (z, y, x), HU, int16
    >>> [int((p.truth.array == h).sum()) > 1000 for h in (1, 2, 3, 4)]
    [True, True, True, True]
    """
    noise = at_least("noise", noise, 0)
    radius = at_least("radius_mm", radius_mm, 5)
    half = radius * (1 + _IRREGULAR) + at_least("margin_mm", margin_mm, 15)
    parts = _checked(shares)
    rng = np.random.default_rng(random_state)
    axes, fine = _fine_axes(half)
    tissue = _tissue(axes, radius, parts, rng)
    meta = {"generated_by": "habitat.phantom", "random_state": random_state}
    ct_grid = _ct_grid(axes)
    ct = _ct(tissue, fine, noise, rng)
    labels = tissue[_SLABS // 2 :: _SLABS].copy()
    labels[labels > len(CENTERS)] = 0
    pet_grid = _pet_grid(half, rng)
    pet = _pet(tissue, _shifted(pet_grid, axes, fine), fine, noise, rng)
    return Phantom(
        pet=Image(pet, pet_grid, unit="SUVbw", meta=meta),
        ct=Image(ct, ct_grid, unit="HU", meta=meta),
        mask=Image(labels > 0, ct_grid, meta=meta),
        truth=Image(labels, ct_grid, unit="habitat", meta=meta),
    )


def oracle(X: npt.ArrayLike, truth: npt.ArrayLike) -> Ints:
    """Assign voxels to the nearest true center: what knowing the centers can give.

    Blur mixes habitats at their borders, so that no clustering of voxel values reaches
    the truth. This is the bar: channels scaled to unit standard deviation, centers the
    true habitats' means in the images. Nearest *generated* centers (`CENTERS`) do
    worse, since the images hold blurred ones.

    Parameters
    ----------
    X : array of shape (n, channels)
        Voxels of the tumor on any grid, natural units.
    truth : array of int, shape (n,)
        Their true habitats.

    Returns
    -------
    array of int, shape (n,)
        The habitat whose center is nearest.

    Raises
    ------
    InputError
        If the lengths differ.

    Examples
    --------
    >>> from habitat.phantoms import oracle
    >>> oracle([[1.0, 5], [2, 5], [8, 9], [9, 8]], [1, 1, 2, 2])
    array([1, 1, 2, 2])
    """
    values, habitats = np.asarray(X, dtype=np.float64), np.asarray(truth)
    if values.ndim != 2 or habitats.shape != values.shape[:1]:
        what = f"X has shape {values.shape} and truth {habitats.shape}"
        raise InputError(what, "oracle", "give (n, channels) and (n,)")
    scaled = values / values.std(axis=0)
    numbers = np.unique(habitats)
    centers = np.array([scaled[habitats == h].mean(axis=0) for h in numbers])
    distance = ((scaled[:, None] - centers) ** 2).sum(axis=-1)
    nearest: Ints = numbers[distance.argmin(axis=1)]
    return nearest


def _checked(shares: Sequence[float]) -> Floats:
    parts = np.array(shares, dtype=np.float64)
    good = parts.shape == (len(CENTERS),) and math.isclose(parts.sum(), 1, abs_tol=1e-6)
    if not good or parts.min() < _MIN_SHARE - 1e-9:
        what = f"must be four numbers >= {_MIN_SHARE} that add to 1, got {shares}"
        raise ConfigError(what, "`shares`")
    return parts


def _fine_axes(half: float) -> tuple[tuple[Floats, ...], Floats]:
    """Coordinates (mm from the tumor) and spacing of the grid all is painted on."""
    spacing = np.array(_CT_MM) / (_SLABS, 1, 1)
    counts = [math.ceil(2 * half / s) for s in spacing]
    counts[0] = _SLABS * math.ceil(counts[0] / _SLABS)
    ends = [(n - 1) / 2 * s for n, s in zip(counts, spacing, strict=True)]
    axes = [np.linspace(-e, e, n) for e, n in zip(ends, counts, strict=True)]
    return tuple(axes), spacing


def _tissue(
    axes: tuple[Floats, ...], radius: float, shares: Floats, rng: np.random.Generator
) -> Labels:
    """Paint habitats 1 to 4, collapsed lung 5 and lung 6 on the fine grid."""
    z, y, x = np.meshgrid(*(a.astype(np.float32) for a in axes), indexing="ij")
    distance = np.sqrt(z * z + y * y + x * x) + 1e-6
    outline = radius * (
        1 + _IRREGULAR * _waves(z / distance, y / distance, x / distance, rng)
    )
    tissue = np.where(distance < outline + _COLLAPSE_MM, 5, 6).astype(np.uint8)
    tumor = distance < outline
    pole = -_BEND * radius * _unit(rng)
    depth = np.sqrt(
        sum((c[tumor] - p) ** 2 for c, p in zip((z, y, x), pole, strict=True))
    )
    borders = np.quantile(depth, np.cumsum(shares)[:-1])
    tissue[tumor] = 1 + np.searchsorted(borders, depth)
    return tissue


def _waves(z: Any, y: Any, x: Any, rng: np.random.Generator) -> Any:
    """Sum of zonal harmonics of degree 2 to 4 about random axes, scaled to -1..1."""
    total = 0.0
    for degree, size in ((2, 1.0), (3, 0.8), (4, 0.6)):
        axis = _unit(rng).astype(np.float32)
        cosine = z * axis[0] + y * axis[1] + x * axis[2]
        height = size * rng.uniform(0.5, 1)
        total = total + height * np.polynomial.Legendre.basis(degree)(cosine)
    low, high = np.min(total), np.max(total)
    return (total - (low + high) / 2) / ((high - low) / 2)


def _unit(rng: np.random.Generator) -> Floats:
    vector = rng.standard_normal(3)
    out: Floats = vector / np.linalg.norm(vector)
    return out


def _ct_grid(axes: tuple[Floats, ...]) -> Geometry:
    z, y, x = axes
    shape = (len(z) // _SLABS, len(y), len(x))
    first = np.array([x[0], y[0], z[_SLABS // 2]])
    return Geometry.from_spacing(shape, _CT_MM, (np.array(_CENTER) + first).tolist())


def _pet_grid(half: float, rng: np.random.Generator) -> Geometry:
    """Return the PET grid: inside the CT, moved by part of a voxel."""
    spacing = np.array(_PET_MM)
    shape = np.floor(2 * half / spacing).astype(int) - 1
    first = -(shape - 1) / 2 * spacing + rng.uniform(-0.5, 0.5, 3) * spacing
    origin = (np.array(_CENTER) + first[::-1]).tolist()
    return Geometry.from_spacing(shape.tolist(), _PET_MM, origin)


def _shifted(grid: Geometry, axes: tuple[Floats, ...], fine: Floats) -> Floats:
    """Continuous fine-grid indices of a grid's voxels, shape (3, z, y, x)."""
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    world = grid.world(voxels) - np.array(_CENTER)
    first = np.array([a[0] for a in axes])
    index: Floats = np.moveaxis((world[..., ::-1] - first) / fine, -1, 0)
    return index


def _blurred(tissue: Labels, column: int, fwhm: float, fine: Floats) -> Any:
    values = [center[column] for center in (*CENTERS, COLLAPSED, LUNG)]
    table = np.array([0.0, *values], dtype=np.float32)
    return ndimage.gaussian_filter(table[tissue], fwhm * _SIGMA / fine, truncate=3)


def _ct(tissue: Labels, fine: Floats, noise: float, rng: np.random.Generator) -> Any:
    sharp = _blurred(tissue, 1, _CT_FWHM, fine)
    slices = sharp.reshape(-1, _SLABS, *sharp.shape[1:]).mean(axis=1)
    grain = _CT_NOISE * noise * rng.standard_normal(slices.shape)
    return np.round(slices + grain).astype(np.int16)


def _pet(
    tissue: Labels, index: Floats, fine: Floats, noise: float, rng: np.random.Generator
) -> Any:
    uptake = _blurred(tissue, 0, _PET_FWHM, fine)
    sampled = ndimage.map_coordinates(uptake, index, order=1)
    half_steps = [2 * n for n in sampled.shape]  # finer, so that the kernel is smooth
    sigma = _PET_FWHM * _SIGMA / (np.array(_PET_MM) / 2)
    grain = ndimage.gaussian_filter(rng.standard_normal(half_steps), sigma)
    grain = grain[::2, ::2, ::2] / grain.std()
    return np.maximum(sampled * (1 + _PET_NOISE * noise * grain), 0).astype(np.float32)

"""A digital PET/CT tumor with known habitats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from habitat._check import at_least
from habitat.geometry import Floats, Geometry
from habitat.image import Image
from habitat.phantoms import _scene as scene

NAMES = ("core", "middle", "dense", "rim")  # habitats 1 to 4, in order of SUV
CENTERS = ((2.0, 10.0), (5.0, 40.0), (6.0, 130.0), (9.0, 60.0))  # SUVbw, HU
SHARES = (0.15, 0.31, 0.38, 0.16)  # each 10.5 to 13 mm thick at 23 mm radius
COLLAPSED, LUNG = (2.0, 60.0), (0.5, -800.0)  # around the tumor: SUVbw, HU

_PET_MM = (3.27, 4.7, 4.7)  # z, y, x
_PET_FWHM, _PET_NOISE = 6.0, 0.10
_CENTER = (-60.0, 10.0, 120.0)  # LPS of the tumor: right lung
_COLLAPSE_MM = 12.0  # thickness of the tissue around the tumor


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


def pet_ct(
    noise: float,
    radius_mm: float,
    shares: Sequence[float] | None,
    margin_mm: float,
    random_state: int,
) -> Phantom:
    """Make the PET/CT tumor that `phantom` describes."""
    noise = at_least("noise", noise, 0)
    radius = at_least("radius_mm", radius_mm, 5)
    half = radius * (1 + scene.IRREGULAR) + at_least("margin_mm", margin_mm, 15)
    parts = scene.checked_shares(SHARES if shares is None else shares)
    rng = np.random.default_rng(random_state)
    axes, fine = scene.fine_axes(half)
    tissue = _tissue(axes, radius, parts, rng)
    meta = {"generated_by": "habitat.phantom", "random_state": random_state}
    ct_grid = scene.ct_grid(axes, _CENTER)
    ct = scene.scanned(scene.sharp_ct(tissue, _values(1), fine), noise, rng)
    labels = tissue[scene.SLABS // 2 :: scene.SLABS].copy()
    labels[labels > len(CENTERS)] = 0
    pet_grid = _pet_grid(half, rng)
    pet = _pet(tissue, _shifted(pet_grid, axes, fine), fine, noise, rng)
    return Phantom(
        pet=Image(pet, pet_grid, unit="SUVbw", meta=meta),
        ct=Image(ct, ct_grid, unit="HU", meta=meta),
        mask=Image(labels > 0, ct_grid, meta=meta),
        truth=Image(labels, ct_grid, unit="habitat", meta=meta),
    )


def _values(column: int) -> list[float]:
    return [center[column] for center in (*CENTERS, COLLAPSED, LUNG)]


def _tissue(
    axes: tuple[Floats, ...], radius: float, shares: Floats, rng: np.random.Generator
) -> scene.Labels:
    """Paint habitats 1 to 4, collapsed lung 5 and lung 6 on the fine grid."""
    z, y, x = scene.mesh(axes)
    distance, outline = scene.distance_and_outline(z, y, x, radius, rng)
    tissue = np.where(distance < outline + _COLLAPSE_MM, 5, 6).astype(np.uint8)
    tumor = distance < outline
    points = [c[tumor] for c in (z, y, x)]
    tissue[tumor] = 1 + scene.behind_each_other(points, radius, shares, rng)
    return tissue


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


def _pet(
    tissue: scene.Labels,
    index: Floats,
    fine: Floats,
    noise: float,
    rng: np.random.Generator,
) -> Any:
    uptake = scene.blurred(tissue, _values(0), _PET_FWHM, fine)
    sampled = ndimage.map_coordinates(uptake, index, order=1)
    half_steps = [2 * n for n in sampled.shape]  # finer, so that the kernel is smooth
    sigma = _PET_FWHM * scene.SIGMA / (np.array(_PET_MM) / 2)
    grain = ndimage.gaussian_filter(rng.standard_normal(half_steps), sigma)
    grain = grain[::2, ::2, ::2] / grain.std()
    return np.maximum(sampled * (1 + _PET_NOISE * noise * grain), 0).astype(np.float32)

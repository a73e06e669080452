"""Sampling an image through a transform (SimpleITK)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from habitat.geometry import Floats, Geometry
from habitat.image import Image
from habitat.io._files import to_simpleitk
from habitat.io._grids import antialias, fill, index_map, interpolation_of


def warp(
    image: Image,
    transform: sitk.Transform,
    grid: Geometry,
    interpolation: str | None = None,
) -> Image:
    """Sample an image once through a transform; NaN where it does not reach."""
    if image.array.dtype == bool:
        share = _sampled(image.array * 1.0, image.geometry, transform, grid, "linear")
        return image.replace(np.nan_to_num(share) >= 0.5 - 1e-6, grid)
    name = interpolation or interpolation_of(image)
    if name == "nearest" and image.array.dtype.kind in "iu":
        out = _sampled(image.array, image.geometry, transform, grid, name)
        return image.replace(np.nan_to_num(out).astype(image.array.dtype), grid)
    finite = np.isfinite(image.array)
    values = without_gaps(image).array.astype(np.float64)
    if name != "nearest":
        sigma = antialias(index_map(image.geometry, grid))
        values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    out = _sampled(values, image.geometry, transform, grid, name)
    if image.unit == "HU" and not image.is_map:
        out = np.rint(out)
    if not finite.all():
        bad = _sampled(~finite * 1.0, image.geometry, transform, grid, "linear")
        out[bad > 0.05] = np.nan
    return image.replace(out.astype(np.float32), grid)


_INTERPOLATORS = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "cubic": sitk.sitkBSpline,
}


def _sampled(
    values: npt.NDArray[Any],
    geometry: Geometry,
    transform: sitk.Transform,
    grid: Geometry,
    interpolation: str,
) -> Floats:
    source = to_simpleitk(Image(values, geometry))
    lattice = to_simpleitk(Image(np.empty((1, 1, 1), np.uint8), grid.crop(_FIRST)))
    filtered = sitk.Resample(
        source,
        grid.shape[::-1],
        transform,
        _INTERPOLATORS[interpolation],
        lattice.GetOrigin(),
        lattice.GetSpacing(),
        lattice.GetDirection(),
        math.nan,
        sitk.sitkFloat64,
    )
    out: Floats = sitk.GetArrayFromImage(filtered)
    return out


_FIRST = (slice(0, 1), slice(0, 1), slice(0, 1))


def without_gaps(image: Image) -> Image:
    """The image with its NaN filled by their nearest good voxels."""
    finite = np.isfinite(image.array)
    if finite.all():
        return image
    return image.replace(fill(image.array.astype(np.float64), finite))


def itk_mask(image: Image) -> sitk.Image:
    """A mask of 0 and 1 for SimpleITK."""
    return to_simpleitk(image.replace(image.array.astype(np.uint8)))


def itk_image(image: Image) -> sitk.Image:
    """An image of float32 for SimpleITK."""
    return to_simpleitk(image.replace(image.array.astype(np.float32)))

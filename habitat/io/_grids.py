"""Bringing images and masks onto one grid (IBSI manual, section interpolation)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat._check import one_of
from habitat.errors import GeometryError
from habitat.geometry import Box, Floats, Geometry, bounding_box, grow
from habitat.image import Image
from habitat.io._sources import ImageLike, read

Grid: TypeAlias = "Geometry | Image | float | Sequence[float]"
ORDERS = {"nearest": 0, "linear": 1, "cubic": 3}
_MISSING = 0.05  # share of bad source voxels that makes a new voxel NaN
_MISSING_MAP = 0.75  # of a map: it ends at the tumor, whose edge voxels are half out
_UNSMOOTHED = (0.0, 0.0, 0.0)
_SPLINE_REACH = 12  # voxels after which a cubic B-spline prefilter has died out (1e-7)


def resample(
    image: ImageLike, grid: Grid, *, interpolation: str | None = None
) -> Image:
    """Bring an image onto another grid.

    Where the new voxels are larger the image is smoothed first by a Gaussian of
    ``max(0, (ratio - 1) / 2)`` old voxels (standard deviation, per axis), so that noise
    does not alias. Points outside the image take the nearest value. Points to which NaN
    or infinite voxels contribute more than 5 % are NaN (in maps of `habitat.maps`, that
    end at the tumor, 75 %).

    Parameters
    ----------
    image : path, SimpleITK.Image or Image
        The image; an Image with a boolean array is a mask.
    grid : Geometry, Image, float or sequence of float
        The new grid, or a voxel size in mm (one number, or z, y, x) over the same field
        of view with grid centers aligned (IBSI).
    interpolation : {"linear", "cubic", "nearest"}, optional
        By default by content: a mask by area fraction >= 0.5, unit "HU" by cubic
        B-spline then rounded to integers, unit "habitat" nearest, all else (maps of
        `habitat.maps` whatever their unit) linear.

    Returns
    -------
    Image
        Same unit; float32 (mask: bool; nearest: the stored type).

    Raises
    ------
    GeometryError
        If the two do not overlap.
    ConfigError
        If `interpolation` is not one of the names.

    Notes
    -----
    Source: IBSI reference manual, section "Image interpolation" (alignment by grid
    centers, rounding of CT); smoothing width as in scikit-image's ``rescale``.

    Examples
    --------
    >>> import habitat
    >>> case = habitat.phantom()
    >>> habitat.resample(case.ct, case.pet).geometry.shape == case.pet.geometry.shape
    True
    """
    image = read(image)
    target = as_geometry(grid, image.geometry)
    if image.geometry.box_around(target) is None:
        raise GeometryError("the image and the new grid do not overlap", "resample")
    if image.array.dtype == bool and interpolation is None:
        return image.replace(coverage(image, target) >= 0.5 - 1e-9, target)
    name = interpolation or interpolation_of(image)
    sampled = sample(image, target, one_of("interpolation", name, ORDERS))
    return image.replace(sampled.array, target)


def as_geometry(grid: Grid, base: Geometry) -> Geometry:
    """Turn the `grid` argument of `resample` into a Geometry."""
    if isinstance(grid, Geometry):
        return grid
    if isinstance(grid, Image):
        return grid.geometry
    sizes = (grid, grid, grid) if isinstance(grid, Real) else grid
    return base.resampled(tuple(map(float, sizes)))  # type: ignore[arg-type]


def default_interpolation(unit: str | None) -> str:
    """Interpolation that fits a unit."""
    return {"HU": "cubic", "habitat": "nearest"}.get(unit or "", "linear")


def interpolation_of(image: Image) -> str:
    """Interpolation that fits an image: linear for maps, else by unit."""
    return "linear" if image.is_map else default_interpolation(image.unit)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Values of an image on another grid, and what was done to get them."""

    array: npt.NDArray[Any]  # NaN where NaN or infinite voxels weigh more than 5 %
    inside: npt.NDArray[np.bool_] | None  # the field of view; None: all of the grid
    interpolation: str  # "none" where the grids are one
    smoothing_mm: tuple[float, float, float]  # sd along the source's (z, y, x)


def sample(
    image: Image, target: Geometry, interpolation: str, tumor: Image | None = None
) -> Sampled:
    """Values of `image` at the voxel centers of `target`.

    Only the part of the image that `target` needs is worked on. NaN and infinite voxels
    take their nearest good neighbor's value; where they weigh more than 5 % of a new
    voxel, that is NaN. In a map they have no weight; a new voxel is NaN where they
    weigh more than half of what lies in the `tumor`, or 75 % if none is given.
    """
    image = needed(image, target, interpolation)
    if image.geometry.same_as(target):
        return Sampled(image.array, None, "none", _UNSMOOTHED)
    order = ORDERS[interpolation]
    matrix = index_map(image.geometry, target)
    seen = inside(image.geometry, target)
    if order == 0:
        out = _interpolate(image.array, matrix, target.shape, 0)
        return Sampled(out, seen, interpolation, _UNSMOOTHED)
    sigma = antialias(matrix)
    finite = np.isfinite(image.array)
    z, y, x = (round(float(s), 6) for s in sigma * image.geometry.spacing)
    if image.is_map and order == 1:
        out = _sample_map(image, sigma, matrix, target.shape, tumor)
        return Sampled(out.astype(np.float32), seen, interpolation, (z, y, x))
    values = image.array.astype(np.float64)
    if not finite.all():
        values = fill(values, finite)
    values = ndimage.gaussian_filter(values, sigma, mode="nearest")
    out = _interpolate(values, matrix, target.shape, order)
    if image.unit == "HU" and not image.is_map:
        out = np.rint(out)
    if not finite.all():
        bad = (~finite).astype(np.float64)
        bad = ndimage.gaussian_filter(bad, sigma, mode="nearest")
        out[_interpolate(bad, matrix, target.shape, 1) > _MISSING] = np.nan
    return Sampled(out.astype(np.float32), seen, interpolation, (z, y, x))


def _sample_map(
    image: Image,
    sigma: Floats,
    matrix: Floats,
    shape: Sequence[int],
    tumor: Image | None,
) -> Floats:
    """Mean of the values there are, NaN where too few of them are."""
    finite = np.isfinite(image.array)

    def weight(array: npt.NDArray[Any]) -> Floats:
        smooth = ndimage.gaussian_filter(array.astype(float), sigma, mode="nearest")
        return np.asarray(_interpolate(smooth, matrix, shape, 1))

    there = weight(finite)
    out = weight(np.where(finite, image.array, 0)) / np.maximum(there, 1e-9)
    if tumor is None:
        out[there < 1 - _MISSING_MAP] = np.nan
        return out
    own = coverage(tumor, image.geometry) >= 0.5 - 1e-9
    whole = weight(own)
    out[(weight(finite & own) < 0.5 * whole) | (whole < 1e-6)] = np.nan
    return out


def clip_hu(image: Image) -> tuple[Image, list[str]]:
    """Bring padding and metal of a CT into [-1024, 3071] HU; say how many voxels."""
    if image.unit != "HU" or image.is_map:
        return image, []
    finite = np.isfinite(image.array)
    low = int(np.count_nonzero((image.array < -1024) & finite))
    high = int(np.count_nonzero((image.array > 3071) & finite))
    if not low and not high:
        return image, []
    text = (
        f"HU clipped to [-1024, 3071] near the tumor: {low} voxels below, {high} above"
    )
    clipped = np.where(finite, np.clip(image.array, -1024, 3071), np.nan)
    return image.replace(clipped), [text]


def needed(image: Image, target: Geometry, interpolation: str) -> Image:
    """Crop an image to what `sample` needs for `target` (exactly it where aligned)."""
    box = _box_of(image.geometry, target)
    if box is not None:
        return image.crop(box)
    matrix, shape = index_map(image.geometry, target), image.array.shape
    order = ORDERS[interpolation]
    smooth = np.ceil(4 * antialias(matrix)) if order else np.zeros(3)
    reach = smooth + (_SPLINE_REACH if order == 3 else 2)
    return image.crop(grow(_source_box(matrix, target.shape, shape), reach, shape))


def _box_of(source: Geometry, target: Geometry) -> Box | None:
    """Box of `source` that is exactly `target`, or None."""
    start = np.rint(source.index(target.affine[:3, 3])).astype(int)
    stop = start + target.shape
    if (start < 0).any() or (stop > source.shape).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return (z, y, x) if source.crop((z, y, x)).same_as(target) else None


def antialias(matrix: Floats) -> Floats:
    """Gaussian sd in source voxels along each source axis (scikit-image's rule)."""
    ratio = np.linalg.norm(matrix[:3, :3], axis=1)
    out: Floats = np.maximum(0.0, (ratio - 1) / 2)
    return out


def inside(source: Geometry, target: Geometry) -> npt.NDArray[np.bool_] | None:
    """Which voxel centers of `target` lie in the field of view of `source`.

    Returns None when all do.
    """
    matrix = index_map(source, target)
    low, high = _reach(matrix, target.shape)
    edge = np.array(source.shape) - 0.5
    if (low >= -0.5 - 1e-6).all() and (high <= edge + 1e-6).all():
        return None
    axes = np.ogrid[tuple(slice(n) for n in target.shape)]
    keep = np.ones(target.shape, dtype=bool)
    for row, stop in zip(matrix[:3], edge, strict=True):
        where = sum(a * r for a, r in zip(axes, row[:3], strict=True)) + row[3]
        keep &= (where >= -0.5 - 1e-6) & (where <= stop + 1e-6)
    return keep


def coverage(mask: Image, target: Geometry) -> Floats:
    """Share of each voxel of `target` that is covered by a mask.

    Exact where the axes of both grids are parallel, else by 5 x 5 x 5 or more points in
    each voxel.
    """
    same = _box_of(mask.geometry, target)
    if same is not None:
        return mask.array[same].astype(np.float64)
    out = np.zeros(target.shape)
    if not mask.array.any():
        return out
    box = bounding_box(mask.array)
    part = mask.crop(box)
    own = _box_of(target, part.geometry)
    if own is not None:
        out[own] = part.array
        return out
    where = target.box_around(part.geometry)
    if where is None:
        return out
    matrix = index_map(part.geometry, target.crop(where))
    shape = out[where].shape
    array, straight = _straighten(part.array, matrix)
    if straight is not None:
        out[where] = _overlap(array, straight, shape)
    else:
        out[where] = _supersample(part.array, matrix, shape)
    return out


def index_map(source: Geometry, target: Geometry) -> Floats:
    """Affine (4, 4) from target indices to source indices."""
    matrix = np.asarray(np.linalg.solve(source.affine, target.affine), np.float64)
    matrix[np.abs(matrix) < 1e-9] = 0.0
    return matrix


def _reach(matrix: Floats, shape: Sequence[int]) -> tuple[Floats, Floats]:
    """Lowest and highest source index that the target's voxel centers map to."""
    steps = matrix[:3, :3] * (np.array(shape) - 1)
    low: Floats = matrix[:3, 3] + np.minimum(steps, 0).sum(1)
    high: Floats = matrix[:3, 3] + np.maximum(steps, 0).sum(1)
    return low, high


def _source_box(matrix: Floats, target: Sequence[int], source: Sequence[int]) -> Box:
    low, high = _reach(matrix, target)
    start = np.clip(np.floor(low), 0, np.array(source) - 1).astype(int)
    stop = np.clip(np.ceil(high) + 1, start + 1, source).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def _straighten(
    array: npt.NDArray[Any], matrix: Floats
) -> tuple[npt.NDArray[Any], Floats | None]:
    """Reorder the source's axes so that the map is a scale and a shift per axis.

    Returns the array (a view) and rows (scale, shift), or None for the rows if the two
    grids are oblique to each other.
    """
    axes = np.abs(matrix[:3, :3]).argmax(axis=0)  # source axis along each target axis
    if sorted(axes) != [0, 1, 2]:
        return array, None
    ordered = matrix[axes]
    rest = ordered[:, :3] - np.diag(np.diag(ordered[:, :3]))
    if np.abs(rest * array.shape).max() > 1e-3:
        return array, None
    return array.transpose(axes), np.stack([np.diag(ordered[:, :3]), ordered[:, 3]], 1)


def _interpolate(
    values: npt.NDArray[Any], matrix: Floats, shape: Sequence[int], order: int
) -> npt.NDArray[Any]:
    linear, shift, shape = matrix[:3, :3], matrix[:3, 3], tuple(shape)
    out: npt.NDArray[Any] = ndimage.affine_transform(
        values, linear, shift, shape, order=order, mode="nearest"
    )
    return out


def fill(values: Floats, finite: npt.NDArray[np.bool_]) -> Floats:
    """Replace bad voxels by their nearest good one, so that filters stay finite."""
    if not finite.any():
        return np.zeros_like(values)
    nearest = ndimage.distance_transform_edt(
        ~finite, return_distances=False, return_indices=True
    )
    out: Floats = values[tuple(nearest)]
    return out


def _overlap(
    mask: npt.NDArray[np.bool_], straight: Floats, shape: Sequence[int]
) -> Floats:
    """Coverage for parallel axes: one matrix of overlap lengths per axis."""
    out = mask.astype(np.float64)
    for axis, (scale, shift) in enumerate(straight):
        center = shift + scale * np.arange(shape[axis])[:, None]
        half = abs(scale) / 2
        voxel = np.arange(mask.shape[axis])
        low = np.maximum(center - half, voxel - 0.5)
        high = np.minimum(center + half, voxel + 0.5)
        weight = np.maximum(high - low, 0.0) / abs(scale)
        out = np.moveaxis(np.tensordot(weight, out, (1, axis)), 0, axis)
    return out


def _supersample(
    mask: npt.NDArray[np.bool_], matrix: Floats, shape: Sequence[int]
) -> Floats:
    """Coverage for oblique axes: share of regular points that fall in the mask."""
    steps = np.linalg.norm(matrix[:3, :3], axis=0)  # source voxels per target voxel
    counts = [min(max(5, math.ceil(2 * s)), 12) for s in steps]
    offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    padded = np.pad(mask, 1)
    top = np.array(padded.shape) - 1
    axes = np.indices(shape).reshape(3, -1)
    base = matrix[:3, :3] @ axes + matrix[:3, 3:] + 1.5  # + 1 for the pad, 0.5 to round
    hits = np.zeros(base.shape[1])
    for shift in np.stack(np.meshgrid(*offsets, indexing="ij"), -1).reshape(-1, 3):
        index = np.floor(base + (matrix[:3, :3] @ shift)[:, None])
        z, y, x = np.clip(index.T, 0, top).T.astype(np.intp)
        hits += padded[z, y, x]
    share: Floats = hits.reshape(tuple(shape)) / math.prod(counts)
    return share

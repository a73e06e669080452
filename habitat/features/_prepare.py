"""Images and regions on the grid that radiomics are computed on.

Sources: IBSI reference manual (doi:10.1148/radiol.2020191145), sections
"Image interpolation" and "Re-segmentation"; for alignment by corners and the cubic
B-spline's mirrored border ``radiomics.imageoperations.resampleImage`` 3.1.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat.errors import GeometryError, MaskError
from habitat.features._filters import Plain, as_filter, needed
from habitat.features._pet import PEAK_MM
from habitat.features._settings import RadiomicsSettings
from habitat.geometry import Box, Floats, Geometry, bounding_box, grow
from habitat.image import Image
from habitat.io._grids import ORDERS, fill, index_map, inside

Labels = npt.NDArray[np.uint8]


class Computed(NamedTuple):
    """Features of all regions of one layer on one image, as an engine yields them."""

    image_type: str  # "original", "wavelet-LLH", ...
    layer: int
    voxels: npt.NDArray[np.int64]  # (n,) that were used
    bins: npt.NDArray[np.int64]  # (n,) gray levels from the lowest to the highest
    features: dict[str, Floats]  # "glcm_Contrast" -> (n,)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image and regions on one grid, cropped to the regions and what filters need.

    Attributes
    ----------
    image : Image
        float64.
    layers : tuple of (z, y, x) uint8 arrays
        Regions 1..n of each layer, on the grid of `image`.
    inner : tuple of three slices
        Box of the regions in them.
    counts : tuple of (n,) arrays
        Voxels of each region there.
    peak : float
        Largest absolute value of the whole image (see `filtered`).
    how : dict
        Plain JSON facts: grid, interpolation, what was left out.
    notes : tuple of str
        What a reader must know.
    """

    image: Image
    layers: tuple[Labels, ...]
    inner: Box
    counts: tuple[npt.NDArray[np.int64], ...]
    peak: float
    how: dict[str, Any]
    notes: tuple[str, ...]


_REACH = 18  # voxels after which a cubic B-spline's prefilter has died out (1e-10)
_SCALED = ("square", "squareroot", "logarithm", "exponential")  # by the whole image
_TIE = 1e-6  # voxels by which rounding of coordinates may be off
_COARSE_CT_MM = 2.5
_ANISOTROPIC = 1.5


def prepare(
    image: Image,
    layers: Sequence[Image],
    settings: RadiomicsSettings,
    kept: dict[Any, Any] | None = None,
) -> Prepared:
    """Bring an image and regions to the grid for radiomics.

    Parameters
    ----------
    image : Image
        As it was acquired, whole.
    layers : sequence of Image
        Regions 1..n of each, 0 outside, on any grid; the first one's is the grid where
        `settings.spacing` is None.
    settings : RadiomicsSettings
        After `for_channel`.
    kept : dict, optional
        Where resampled values are kept for the next call with the same image.

    Returns
    -------
    Prepared
        The grid is that of the whole image, but only what regions and filters need of
        it is interpolated. Nothing is smoothed. Voxels half or more of which come from
        NaN or infinite ones are NaN and belong to no region.

    Raises
    ------
    GeometryError
        If a layer does not overlap the image.
    MaskError
        If no voxel is left of the regions.
    """
    grid = _grid(image.geometry, layers, settings)
    box, regions = _regions(grid, layers, settings)
    inner = _shifted(bounding_box(np.any(regions, axis=0)), box, 1)
    crop = needed(inner, grid.shape, settings.filters, grid.spacing)
    if settings.ibsi:  # peaks look at the sphere around a voxel
        crop = _both(
            crop, grow(inner, PEAK_MM / np.array(grid.spacing) + 1, grid.shape)
        )
    part = grid.crop(crop)
    kept = {} if kept is None else kept
    key = (image, settings, *((s.start, s.stop) for s in crop))
    if key not in kept:
        kept[key] = _values(image, part, settings)
    values, how = kept[key]
    bad = np.isnan(values)
    placed = [_placed(r, box, crop) for r in regions]
    left_out = int(np.count_nonzero(bad & (np.max(placed, axis=0) > 0)))
    notes = _notes(image, layers, settings, grid)
    if left_out:
        notes.append(f"{left_out} voxels of the regions left out: their value is NaN")
        placed = [np.where(bad, np.uint8(0), r) for r in placed]
    counts = tuple(_count(p, layer) for p, layer in zip(placed, layers, strict=True))
    if not sum(int(c.sum()) for c in counts):
        raise MaskError(
            "no voxel is left of the regions", "radiomics", "check `images`"
        )
    return Prepared(
        image=image.replace(values, part),
        layers=tuple(placed),
        inner=_shifted(inner, crop, -1),
        counts=counts,
        peak=_peak(image, values, settings, how),
        how={"shape": list(grid.shape), "nan_voxels": left_out, **how},
        notes=tuple(notes),
    )


def intensity_layers(prepared: Prepared, settings: RadiomicsSettings) -> list[Labels]:
    """Layers without the voxels that `resegment` and `outliers` leave out.

    Values are those of the original image for all filters; mean and standard deviation
    are those of each region before anything is left out. Shape takes the layers as they
    are.
    """
    values = prepared.image.array
    keep = np.ones(values.shape, bool)
    if settings.resegment is not None:
        low, high = settings.resegment
        keep = (values >= low) & (values <= high)
    out = []
    for labels, counts in zip(prepared.layers, prepared.counts, strict=True):
        kept = keep
        if settings.outliers is not None:
            kept = keep & _usual(values, labels, len(counts), settings.outliers)
        out.append(np.where(kept, labels, np.uint8(0)))
    return out


def _usual(values: Floats, labels: Labels, n: int, limit: float) -> npt.NDArray[Any]:
    """Voxels not further than `limit` standard deviations from their region's mean."""
    near = np.zeros(values.shape, bool)
    for region in range(1, n + 1):
        own = labels == region
        if own.any():
            mean, sd = values[own].mean(), values[own].std()
            near |= own & (np.abs(values - mean) <= limit * sd)
    return near


def _count(labels: Labels, layer: Image) -> npt.NDArray[np.int64]:
    n = int(layer.array.max())
    return np.bincount(labels.ravel(), minlength=n + 1)[1:].astype(np.int64)


def _grid(
    image: Geometry, layers: Sequence[Image], settings: RadiomicsSettings
) -> Geometry:
    """Return the grid of radiomics over the whole image."""
    if settings.spacing is None:
        return _extended(layers[0].geometry, image)
    wanted: Any = settings.spacing  # `for_channel` made it three numbers
    sizes = [s or own for s, own in zip(wanted, image.spacing, strict=True)]
    if np.allclose(sizes, image.spacing, rtol=1e-6, atol=0):
        return image
    if settings.alignment == "center":
        return image.resampled(sizes)
    return _cornered(image, np.array(sizes))


def _cornered(image: Geometry, new: Floats) -> Geometry:
    """Return the grid that shares the outer corner of the first voxel."""
    old = np.array(image.spacing)
    z, y, x = np.ceil(np.array(image.shape) * old / new - 1e-6).astype(int).tolist()
    affine = image.affine.copy()
    affine[:3, :3] = image.directions * new
    affine[:3, 3] += image.directions @ ((new - old) / 2)
    return Geometry((z, y, x), affine)


def _extended(labels: Geometry, image: Geometry) -> Geometry:
    """Return the grid of the labels over the field of view of the image."""
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in image.shape])).reshape(3, -1)
    index = labels.index(image.world(ends.T))
    start = np.ceil(index.min(0) - 1e-6).astype(int)
    stop = np.floor(index.max(0) + 1e-6).astype(int) + 1
    if (stop <= start).any():
        raise GeometryError("labels and image do not overlap", "radiomics")
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return labels.crop((z, y, x))


def _regions(
    grid: Geometry, layers: Sequence[Image], settings: RadiomicsSettings
) -> tuple[Box, list[Labels]]:
    """Return a box of the grid that holds all regions, and the layers in it."""
    boxes = []
    for layer in layers:
        if not layer.array.any():
            continue
        own = layer.crop(bounding_box(layer.array != 0))
        if (found := grid.box_around(own.geometry)) is not None:
            boxes.append(found)
    if not boxes:
        raise GeometryError("the regions lie outside the image", "radiomics")
    z, y, x = (
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*boxes, strict=True)
    )
    target = grid.crop((z, y, x))
    how, corner = settings.mask_interpolation, settings.alignment == "corner"
    regions = [labels_on(layer, target, how, corner=corner) for layer in layers]
    if not np.any(regions):
        raise MaskError(
            "no voxel is left of the regions", "radiomics", "check `images`"
        )
    return (z, y, x), regions


def labels_on(
    layer: Image, target: Geometry, interpolation: str, *, corner: bool = False
) -> Labels:
    """Return labels on a part of the grid."""
    seen = inside(layer.geometry, target)
    box = layer.geometry.box_around(target)
    if box is None:
        return np.zeros(target.shape, np.uint8)
    labels = layer.crop(grow(box, (2, 2, 2), layer.array.shape))
    labels = labels.replace(labels.array.astype(np.uint8))
    if interpolation == "nearest" or labels.geometry.same_as(target):
        out = _nearest(labels, target, corner)
    else:
        share = np.full(target.shape, 0.5 - 1e-6)
        out = np.zeros(target.shape, np.uint8)
        for region in np.unique(labels.array[labels.array > 0]):
            own = (labels.array == region).astype(np.float64)
            part = _interpolated(own, index_map(labels.geometry, target), target, 1)
            out[part > share] = region
            share = np.maximum(share, part)
    return np.asarray(out if seen is None else np.where(seen, out, 0), np.uint8)


def _nearest(labels: Image, target: Geometry, corner: bool) -> npt.NDArray[Any]:
    """Labels by nearest neighbor.

    A point halfway goes to the higher x, y and z in the patient, however the images are
    stored; as in pyradiomics to the higher index where `corner` is aligned.
    """
    matrix = index_map(labels.geometry, target)
    toward = np.sign(labels.geometry.affine[:3, :3].sum(axis=0))
    matrix[:3, 3] += _TIE * (1.0 if corner else toward)
    if _oblique(matrix, target):
        z, y, x = target.shape
        grid = np.indices((z, y, x)).reshape(3, -1)
        at = matrix[:3, :3] @ grid + matrix[:3, 3:]
        where = tuple(_whole(a, n) for a, n in zip(at, labels.array.shape, strict=True))
        return labels.array[where].reshape(z, y, x)
    axes = zip(matrix, target.shape, labels.array.shape, strict=False)
    return labels.array[
        np.ix_(
            *[
                _whole(row[3] + row[i] * np.arange(n), most)
                for i, (row, n, most) in enumerate(axes)
            ]
        )
    ]


def _whole(at: Floats, n: int) -> npt.NDArray[np.intp]:
    return np.clip(np.floor(at + 0.5), 0, n - 1).astype(np.intp)


def _oblique(matrix: Floats, target: Geometry) -> bool:
    """Whether axes of two grids are not parallel, or in another order."""
    rest = matrix[:3, :3] - np.diag(np.diag(matrix[:3, :3]))
    return bool(np.abs(rest * target.shape).max() > 1e-3)


def _values(
    image: Image, target: Geometry, settings: RadiomicsSettings
) -> tuple[Floats, dict[str, Any]]:
    """Return the image on a part of the grid, NaN where it has no value; and how."""
    box = image.geometry.box_around(target)
    if box is None:
        raise GeometryError("the regions lie outside the image", "radiomics")
    part = image.crop(grow(box, (_REACH,) * 3, image.array.shape))
    values = part.array.astype(np.float64)
    how: dict[str, Any] = {"interpolation": settings.interpolation, "rounded": False}
    finite = np.isfinite(values)
    bad = np.zeros(target.shape, bool)
    matrix = index_map(part.geometry, target)
    if not finite.all():
        bad = _interpolated((~finite).astype(float), matrix, target, 1) >= 0.5
        values = fill(values, finite)
    if settings.normalize is not None:
        mean, sd = _moments(image)
        values = (values - mean) * (settings.normalize / sd)
        how["normalize"] = [mean, sd]
    start = np.rint(matrix[:3, 3]).astype(int)
    same = np.abs(matrix - np.eye(4))[:3, :3].max() < 1e-6
    if same and np.abs(matrix[:3, 3] - start).max() < 1e-3:
        z, y, x = (
            slice(a, a + n) for a, n in zip(start.tolist(), target.shape, strict=True)
        )
        values, how["interpolation"] = values[z, y, x].copy(), "none"
    else:
        order = ORDERS[settings.interpolation]
        values = _interpolated(values, matrix, target, order)
        whole = image.array.dtype.kind in "iu" and settings.normalize is None
        if settings.alignment == "corner":  # pyradiomics cuts off whole numbers
            values, how["rounded"] = (
                (np.trunc(values), "cut") if whole else (values, False)
            )
        elif image.unit == "HU" and not image.is_map and settings.normalize is None:
            values, how["rounded"] = np.rint(values), True
    values[bad] = np.nan
    return values, how


def _interpolated(
    values: Floats, matrix: Floats, target: Geometry, order: int
) -> Floats:
    """Interpolate at the voxels of a grid."""
    steps = np.diag(matrix[:3, :3])
    if order == 3:
        values = ndimage.spline_filter(values, 3, mode="mirror")
    if _oblique(matrix, target):
        mode = "mirror" if order == 3 else "nearest"
        out: Floats = ndimage.affine_transform(
            values,
            matrix[:3, :3],
            matrix[:3, 3],
            target.shape,
            order=order,
            mode=mode,
            prefilter=False,
        )
        return out
    growth = np.array(target.shape) / values.shape
    for axis in np.argsort(growth).tolist():  # what shrinks first: fewer products
        at = matrix[axis, 3] + steps[axis] * np.arange(target.shape[axis])
        weights = _weights(at, values.shape[axis], order)
        values = np.moveaxis(np.tensordot(weights, values, (1, axis)), 0, axis)
    return np.ascontiguousarray(values)


def _weights(at: Floats, n: int, order: int) -> Floats:
    """Return the weight of each of n samples (columns) for each position (rows)."""
    if order < 3:
        at = np.clip(at, 0, n - 1)
    first = np.floor(at + (0.5 + _TIE if order == 0 else 0.0)).astype(int)
    t = at - first
    if order == 0:
        taps = [(0, np.ones_like(t))]
    elif order == 1:
        taps = [(0, 1 - t), (1, t)]
    else:
        taps = [
            (-1, (1 - t) ** 3 / 6),
            (0, (4 - 6 * t**2 + 3 * t**3) / 6),
            (1, (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6),
            (2, t**3 / 6),
        ]
    out = np.zeros((len(at), n))
    period = max(2 * (n - 1), 1)
    for offset, weight in taps:
        where = np.abs(first + offset) % period
        where = np.minimum(where, period - where) if n > 1 else 0 * where
        np.add.at(out, (np.arange(len(at)), where), weight)
    return out


def _moments(image: Image) -> tuple[float, float]:
    """Return mean and standard deviation (n - 1) of the whole image, slice by slice."""
    slices = [part[np.isfinite(part)] for part in image.array]
    n = sum(part.size for part in slices)
    mean = math.fsum(float(part.sum(dtype=np.float64)) for part in slices) / n
    squares = math.fsum(float(((part - mean) ** 2).sum()) for part in slices)
    return mean, math.sqrt(squares / max(n - 1, 1)) or 1.0


def _peak(
    image: Image, values: Floats, settings: RadiomicsSettings, how: dict[str, Any]
) -> float:
    """Return the largest absolute value of the whole image, where a filter needs it."""
    used = {f.name for f in map(as_filter, settings.filters) if isinstance(f, Plain)}
    finite = values[np.isfinite(values)]
    peak = float(np.abs(finite).max(initial=0.0))
    if not used.intersection(_SCALED):
        return peak
    array = image.array
    whole = array if np.isfinite(array).all() else array[np.isfinite(array)]
    ends = np.array([whole.min(), whole.max()], np.float64)
    if "normalize" in how:
        mean, sd = how["normalize"]
        ends = (ends - mean) * (settings.normalize / sd)
    return max(peak, float(np.abs(ends).max()))


def _placed(labels: Labels, box: Box, crop: Box) -> Labels:
    """Return labels of one box of the grid in another."""
    shape = [c.stop - c.start for c in crop]
    out = np.zeros(shape, np.uint8)
    both = [
        (max(b.start, c.start), min(b.stop, c.stop))
        for b, c in zip(box, crop, strict=True)
    ]
    to = tuple(
        slice(a - c.start, e - c.start) for (a, e), c in zip(both, crop, strict=True)
    )
    of = tuple(
        slice(a - b.start, e - b.start) for (a, e), b in zip(both, box, strict=True)
    )
    out[to] = labels[of]
    return out


def _both(a: Box, b: Box) -> Box:
    """Smallest box that holds two."""
    z, y, x = (
        slice(min(i.start, j.start), max(i.stop, j.stop))
        for i, j in zip(a, b, strict=True)
    )
    return z, y, x


def _shifted(box: Box, by: Box, sign: int) -> Box:
    z, y, x = (
        slice(s.start + sign * b.start, s.stop + sign * b.start)
        for s, b in zip(box, by, strict=True)
    )
    return z, y, x


def _notes(
    image: Image, layers: Sequence[Image], settings: RadiomicsSettings, grid: Geometry
) -> list[str]:
    notes = []
    outside = 0
    for layer in layers:
        seen = inside(image.geometry, layer.geometry)
        if seen is not None:
            outside += int(np.count_nonzero((layer.array > 0) & ~seen))
    if outside:
        notes.append(f"{outside} voxels of the regions lie outside the image")
    if settings.spacing is not None:
        return notes
    sizes = "x".join(f"{s:.3g}" for s in grid.spacing)
    if image.unit == "HU" and max(grid.spacing) > _COARSE_CT_MM:
        notes.append(
            f"radiomics of CT on the labels' grid of {sizes} mm, coarser than"
            f" {_COARSE_CT_MM:g} mm: fine texture is lost"
        )
    if max(grid.spacing) > _ANISOTROPIC * min(grid.spacing):
        notes.append(
            f"radiomics on the labels' grid of {sizes} mm: in 3-D, neighbors along the"
            " axes are not equally far"
        )
    return notes

"""From images and a mask to one grid, a voxel matrix (n, channels), and scaling."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat._check import at_least, one_of, warn
from habitat.errors import ConfigError, HabitatError, InputError, MaskError
from habitat.geometry import Box, Floats, Geometry, bounding_box, grow
from habitat.image import Image
from habitat.io._grids import (
    as_geometry,
    clip_hu,
    coverage,
    interpolation_of,
    needed,
    sample,
)
from habitat.io._memory import check_memory
from habitat.kernels.distance import surface_distance

Transform: TypeAlias = Callable[[Floats], Floats]
Fit: TypeAlias = Callable[[Floats, Sequence["str | None"]], Transform]

GridChoice: TypeAlias = "str | float | Sequence[float]"

GRIDS = ("coarsest", "mask")  # names of grids, beside those of the channels
MARGIN_MM = 10.0  # kept around the tumor in a result
MOST_MISSING = 0.5  # share of the tumor that may have no value in some map
FINEST = 4.0  # a grid may oversample the coarsest channel so many times without a note


@dataclass(frozen=True, eq=False)
class OnGrid:
    """Everything on one grid, cropped to the tumor and its margin."""

    geometry: Geometry  # the whole grid
    box: Box
    tumor: npt.NDArray[np.bool_]  # on box
    images: dict[str, Image]  # float32 on box, NaN where there is no value
    valid: npt.NDArray[np.bool_]  # on box: a value in every channel
    done: dict[str, Any]  # what was resampled, and how
    hashes: dict[str, str]  # of the parts used
    notes: list[str]


def bring_together(
    channels: Mapping[str, Image], mask: Image, mask_grid: Geometry, grid: GridChoice
) -> OnGrid:
    """Bring all channels and the mask onto one grid, cropped to the tumor.

    Parameters
    ----------
    channels : mapping of str to Image
        Each on its own grid; only what the tumor's box needs is touched.
    mask : Image
        The tumor, bool, cropped to it.
    mask_grid : Geometry
        The mask's whole grid.
    grid : str, float or sequence of float
        "coarsest", "mask", a channel's name, or voxel size in mm.
    """
    geometry, notes = _choose_grid(grid, channels, mask_grid)
    box, tumor = tumor_on(mask, geometry)
    crop = geometry.crop(box)
    notes += _lost_parts(mask, crop, tumor)
    images, done, hashes = {}, {}, {}
    for name, image in channels.items():
        how = interpolation_of(image)
        part, clipped = clip_hu(needed(image, crop, how))
        sampled = sample(part, crop, how, mask)
        array = np.array(sampled.array, dtype=np.float32)
        if sampled.inside is not None:
            array[~sampled.inside] = np.nan
        made = {"map": image.meta["map"]} if image.is_map else {}
        images[name] = Image(array, crop, unit=image.unit, meta=made)
        notes += [f"{name}: {text}" for text in clipped]
        done[name] = {
            "unit": image.unit,
            "spacing_mm": image.geometry.spacing,
            "interpolation": sampled.interpolation,
            "smoothing_sd_mm": sampled.smoothing_mm,
            "rounded": how == "cubic" and sampled.interpolation != "none",
            **made,
        }
        hashes[name] = _hash(part.array)
    valid = np.all([np.isfinite(i.array) for i in images.values()], axis=0)
    hashes["mask"] = _hash(mask.array[bounding_box(mask.array)])
    return OnGrid(geometry, box, tumor, images, valid, done, hashes, notes)


def _choose_grid(
    grid: GridChoice, channels: Mapping[str, Image], mask_grid: Geometry
) -> tuple[Geometry, list[str]]:
    """Geometry of the `grid` argument, and a note if it oversamples the channels."""
    grids = {name: image.geometry for name, image in channels.items()}
    coarsest = max(grids.values(), key=lambda g: round(g.voxel_ml, 9))
    if isinstance(grid, str):
        grids |= {"coarsest": coarsest, "mask": mask_grid}
        chosen = grids[one_of("grid", grid, grids)]
    else:
        chosen = as_geometry(grid, coarsest)
    finer = coarsest.voxel_ml / chosen.voxel_ml
    if finer <= FINEST:
        return chosen, []
    text = f"the grid has {finer:.0f} voxels for each voxel of the coarsest channel"
    return chosen, [f"{text}: its detail is interpolated"]


def tumor_on(mask: Image, geometry: Geometry) -> tuple[Box, npt.NDArray[np.bool_]]:
    """Box of the tumor and its margin on a grid, and the tumor in it."""
    around = mask.geometry.crop(bounding_box(mask.array))
    region = geometry.box_around(around, MARGIN_MM + max(geometry.spacing))
    if region is None:
        raise MaskError("does not lie on the grid that was chosen", "mask")
    crop = geometry.crop(region)
    check_memory(math.prod(geometry.shape) + 100 * math.prod(crop.shape), "`grid`")
    tumor = coverage(mask, crop) >= 0.5 - 1e-9
    if not tumor.any():
        what = "covers no voxel of the grid by half: the tumor is smaller than a voxel"
        raise MaskError(what, "mask", "choose a finer grid, such as grid='mask'")
    margin = np.ceil(MARGIN_MM / np.array(geometry.spacing))
    inner = grow(bounding_box(tumor), margin, tumor.shape)
    z, y, x = (
        slice(r.start + i.start, r.start + i.stop)
        for r, i in zip(region, inner, strict=True)
    )
    return (z, y, x), tumor[inner]


def _lost_parts(mask: Image, crop: Geometry, tumor: npt.NDArray[np.bool_]) -> list[str]:
    """What a coarser grid did to the mask: parts without a voxel, change of volume."""
    if _one_grid(mask.geometry, crop):
        return []
    before = np.count_nonzero(mask.array) * mask.geometry.voxel_ml
    after = np.count_nonzero(tumor) * crop.voxel_ml
    notes = []
    if abs(after / before - 1) > 0.1:
        text = f"the tumor has {before:.3g} ml in its mask, {after:.3g} ml on the grid"
        notes.append(warn(text))
    box = bounding_box(mask.array)
    parts, count = ndimage.label(mask.array[box], np.ones((3, 3, 3)))
    if count < 2:
        return notes
    voxels = np.argwhere(parts)
    number = parts[tuple(voxels.T)]
    points = mask.geometry.crop(box).world(voxels)
    index = np.rint(crop.index(points)).astype(int)
    index = np.clip(index, 0, np.array(tumor.shape) - 1)
    kept = np.bincount(number, weights=tumor[tuple(index.T)])[1:] > 0
    if not kept.all():
        ml = np.bincount(number)[1:][~kept].sum() * mask.geometry.voxel_ml
        text = (
            f"{(~kept).sum()} of {count} parts of the mask ({ml:.2g} ml) have no voxel"
        )
        notes.append(warn(f"{text} on the grid and are left out"))
    return notes


def _one_grid(a: Geometry, b: Geometry) -> bool:
    """Whether the voxels of two grids have the same size, axes and centers."""
    if not np.allclose(a.affine[:3, :3], b.affine[:3, :3], atol=1e-6):
        return False
    start = a.index(b.world((0, 0, 0)))
    return bool(np.abs(start - np.rint(start)).max() < 1e-3)


def missing_values(on: OnGrid) -> tuple[list[HabitatError], list[str]]:
    """NaN and infinite voxels: up to 1 % of the tumor may be left out.

    In maps, where NaN is no damage, half of the tumor may be without a value.
    """
    problems: list[HabitatError] = []
    notes = []
    total = int(on.tumor.sum())
    for name, image in on.images.items():
        bad = ~np.isfinite(image.array)
        count = int((bad & on.tumor).sum())
        if image.is_map:
            if count > MOST_MISSING * total:
                what = f"{count} of {total} tumor voxels have no value"
                problems.append(InputError(what, name, "leave this map out"))
            elif count:
                notes.append(f"{name}: {count} of {total} tumor voxels have no value")
        elif count > 0.01 * total:
            first = np.argwhere(bad & on.tumor)[0] + [s.start for s in on.box]
            what = (
                f"{count} of {total} tumor voxels have no finite value, the first at "
            )
            what += f"(z, y, x) = {tuple(first.tolist())}"
            fix = "crop them; of a map that was read from a file, say that it is one: "
            fix += "habitat.Image(image.array, image.geometry, meta={'map': {}})"
            problems.append(InputError(what, name, fix))
        elif count:
            text = f"{name}: {count} of {total} tumor voxels have no finite value"
            notes.append(warn(f"{text}: left out"))
        elif bad.any():
            count = int(bad.sum())
            notes.append(f"{name}: {count} voxels near the tumor have no finite value")
    return problems, notes


def _hash(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def grid_choice(grid: Any, channels: Iterable[str]) -> GridChoice:
    """Return a name, one number or three numbers, as plain Python values."""
    if isinstance(grid, str):
        return one_of("grid", grid, (*GRIDS, *channels))
    sizes = grid if isinstance(grid, (tuple, list, np.ndarray)) else (grid,)
    numbers = [s for s in sizes if isinstance(s, Real) and not isinstance(s, bool)]
    if len(numbers) == len(sizes) and len(sizes) in (1, 3):
        plain = tuple(at_least("grid", s, 0.0) for s in numbers)
        return plain if len(plain) == 3 else plain[0]
    raise ConfigError(f"must be a name, mm or (z, y, x) mm, got {grid!r}", "`grid`")


def shape_notes(on: OnGrid) -> list[str]:
    """What is odd about the tumor's shape: flat, in parts, small for PET."""
    notes = []
    tumor = on.tumor[bounding_box(on.tumor)]
    if min(tumor.shape) == 1:
        text = "the tumor is one voxel thick: features of three dimensions are NaN"
        notes.append(warn(text))
    parts, count = ndimage.label(tumor, np.ones((3, 3, 3)))
    ml = on.geometry.voxel_ml
    volumes = np.sort(np.bincount(parts.ravel())[1:])[::-1] * ml
    if count > 1:
        shown = ", ".join(f"{v:.3g}" for v in volumes[:5])
        more = ", ..." if count > 5 else ""
        notes.append(warn(f"the mask has {count} separate parts ({shown}{more} ml)"))
    diameter = 2 * (3 * volumes.sum() * 1000 / (4 * math.pi)) ** (1 / 3)
    if diameter < 20 and any(
        (i.unit or "").startswith("SUV") for i in on.images.values()
    ):
        text = (
            f"a sphere of this volume is {diameter:.0f} mm wide: below 20 mm PET blur"
        )
        notes.append(f"{text} (about 6 mm) shapes the habitats")
    return notes


def depth_mm(mask: npt.NDArray[np.bool_], spacing: Sequence[float]) -> Floats:
    """Distance of mask voxels to the mask's surface, mm (voxel center to face).

    Parameters
    ----------
    mask : bool array of shape (z, y, x)
        What lies beyond the array's edge is outside.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    float array of shape (z, y, x), mm
        0 outside the mask.

    Examples
    --------
    >>> depth_mm(np.ones((1, 5, 5), bool), (9, 1, 1))[0, 2]
    array([0.5, 1.5, 2.5, 1.5, 0.5])
    """
    out = np.zeros(mask.shape)
    if mask.any():
        box = bounding_box(mask)
        inside = np.empty(mask[box].shape)
        size = np.asarray(spacing, dtype=np.float64)
        surface_distance(np.ascontiguousarray(mask[box]), size, inside)
        out[box] = inside
    return out


# --- scaling --------------------------------------------------------------------------

# As in the code of Wu et al. (Radiology 2018;288:26): CT level -600, width 1500
WINDOWS = {"HU": (-1350.0, 150.0), "SUVbw": (0.01, 15.0)}


@dataclass(frozen=True, eq=False)
class Shifted:
    """``(x - shift) / width`` of each channel."""

    shift: Floats
    width: Floats

    def __call__(self, X: Floats) -> Floats:
        """Scale rows (n, channels)."""
        return np.asarray((X - self.shift) / self.width)


@dataclass(frozen=True, eq=False)
class Logged:
    """As `Shifted`, after ``sign(x) log(1 + |x|)`` of some channels."""

    shift: Floats
    width: Floats
    log: npt.NDArray[np.bool_]  # (channels,)

    def __call__(self, X: Floats) -> Floats:
        """Scale rows (n, channels)."""
        return np.asarray((logged(X, self.log) - self.shift) / self.width)


def logged(X: Floats, log: npt.NDArray[np.bool_]) -> Floats:
    """``sign(x) log(1 + |x|)`` of the channels in `log`, the others as they are."""
    return np.where(log, np.sign(X) * np.log1p(np.abs(X)), X)


@dataclass(frozen=True, eq=False)
class Windowed:
    """Share of the way from `low` to `high`, 0 below and 1 above."""

    low: Floats
    high: Floats

    def __call__(self, X: Floats) -> Floats:
        """Scale rows (n, channels)."""
        return np.clip((X - self.low) / (self.high - self.low), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Mid-rank of each value among the fitted ones, 0 to 1."""

    columns: Floats  # (channels, m) sorted

    def __call__(self, X: Floats) -> Floats:
        """Scale rows (n, channels)."""
        out = np.empty(X.shape)
        for j, column in enumerate(self.columns):
            below = np.searchsorted(column, X[:, j], "left")
            upto = np.searchsorted(column, X[:, j], "right")
            out[:, j] = (below + upto) / (2 * len(column))
        return out


def _zscore(X: Floats, units: Sequence[str | None]) -> Transform:
    columns = np.ascontiguousarray(X.T)  # four times as fast as along the rows
    return Shifted(columns.mean(axis=1), columns.std(axis=1))


def _log(X: Floats, units: Sequence[str | None]) -> Transform:
    suv = np.array([(unit or "").startswith("SUV") for unit in units])
    if not suv.any():
        what = f"no channel has a unit of SUV, got {', '.join(map(str, units))}"
        raise ConfigError(what, "`scaling`='log'", "use 'zscore'")
    columns = np.ascontiguousarray(logged(X, suv).T)
    return Logged(columns.mean(axis=1), columns.std(axis=1), suv)


def _robust(X: Floats, units: Sequence[str | None]) -> Transform:
    low, middle, high = np.percentile(X, (25, 50, 75), axis=0)
    return Shifted(middle, np.where(high > low, high - low, X.std(axis=0)))


def _window(X: Floats, units: Sequence[str | None]) -> Transform:
    known = [one_of("channel unit for scaling='window'", u, WINDOWS) for u in units]
    low, high = np.array([WINDOWS[u] for u in known]).T
    return Windowed(low, high)


def _rank(X: Floats, units: Sequence[str | None]) -> Transform:
    return Ranked(np.sort(X, axis=0).T)


def _none(X: Floats, units: Sequence[str | None]) -> Transform:
    return Shifted(np.zeros(X.shape[1]), np.ones(X.shape[1]))


#: Scalings by name. A callable may be given instead: f(X, units) -> transform, where X
#: is (n, channels) in natural units, units are those of the channels, and
#: transform(Y) -> scaled Y of the same shape.
SCALINGS: Mapping[str, Fit] = {
    "zscore": _zscore,
    "log": _log,
    "robust": _robust,
    "window": _window,
    "rank": _rank,
    "none": _none,
}


def fit_scaling(
    scaling: str | Fit, X: Floats, units: Sequence[str | None]
) -> Transform:
    """Learn a scaling from the rows of X (n, channels), in natural units.

    Parameters
    ----------
    scaling : {"zscore", "log", "robust", "window", "rank", "none"} or callable
        A name of `SCALINGS`, or a callable like its values.
    X : array of shape (n, channels)
        Voxel values in natural units.
    units : sequence of str or None
        Unit of each channel.

    Returns
    -------
    callable
        Takes (m, channels) in natural units to the scaled values.

    Notes
    -----
    "zscore" is the default everywhere: unscaled, the numbers of HU are so much larger
    than those of SUV that PET has no say. With two channels scaled to unit variance, it
    is still their variances, not biology, that weigh them. "log" is the z-score after
    log(1 + SUV), other channels as they are: SUV is skewed, and a factor between two
    scans becomes a shift.
    """
    if callable(scaling):
        transform = scaling(X, units)
        if not callable(transform) or np.shape(transform(X)) != X.shape:
            what = "must return a function that keeps the shape of its rows"
            raise ConfigError(what, "`scaling`", "see habitat.voxels.SCALINGS")
        return transform
    return SCALINGS[one_of("scaling", scaling, SCALINGS)](X, units)

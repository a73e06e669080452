"""Texture maps: radiomic features of the window around each voxel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, collector, integer, one_of, warn
from habitat.case import SUV_UNITS, load_inputs
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.geometry import Floats, bounding_box
from habitat.image import Image
from habitat.kernels import texture, texture_pairs, texture_runs, texture_zones
from habitat.kernels._jit import threads as all_threads
from habitat.maps._common import Mask, as_map
from habitat.voxels import OnGrid, bring_together, missing_values

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

FEATURES = {
    "firstorder": texture.FIRSTORDER,
    "glcm": texture_pairs.GLCM,
    "glrlm": texture_runs.GLRLM,
    "glszm": texture_zones.GLSZM,
    "gldm": texture_zones.GLDM,
    "ngtdm": texture_zones.NGTDM,
}
_BY_NAME_ONLY = ("MCC",)  # takes longer than all others of its class
_IN_UNIT = ("Minimum", "10Percentile", "90Percentile", "Maximum", "Mean", "Median")
_MOST_LEVELS = 65_535
_EDGE = 4 * float(np.finfo(np.float32).eps)
_BLOCK = 2048  # voxels that a thread does at a time
_Kernel = Callable[[npt.NDArray[np.int64], Floats], None]  # of (centers, out)


def texture_maps(
    image: ChannelLike,
    mask: MaskLike,
    *,
    features: str | Sequence[str] = ("firstorder", "glcm"),
    radius: int = 1,
    bin_width: float | None = None,
    bin_count: int | None = None,
    spacing: str | float | Sequence[float] | None = "modality",
    name: str | None = None,
    label: int | str | None = None,
    threads: int | None = None,
) -> dict[str, Image]:
    """Compute radiomic features of the window around each voxel of the tumor.

    Parameters
    ----------
    image : image-like
        One image, of any unit.
    mask : mask-like
        The tumor. A window ends at it: nothing outside of it counts.
    features : str or sequence of str
        Classes ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm") and single
        features ("glcm_Contrast"). "glcm" is all of its class but the slow MCC, which
        "glcm_MCC" adds.
    radius : int
        Of the window, 1 to 3 voxels of the maps' grid: 3 to 7 voxels wide.
    bin_width : float, unit of the image, optional
        Width of a gray level; 25 for HU and 0.25 for SUV by default. The lowest level
        starts at a multiple of it.
    bin_count : int, optional
        Number of gray levels from the lowest to the highest value in the tumor, in
        place of `bin_width`; 32 by default for images of other units.
    spacing : "modality", float, sequence of float (z, y, x) or None, mm
        Voxels of the maps. By default cubes, so that a window is a cube: of 1 mm for
        HU, of 3 mm for SUV, else as wide as the image's pixels. None keeps the image's
        own grid.
    name : str, optional
        Prefix of the names of the maps; the unit, or "image" if there is none.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.
    threads : int, optional
        By default HABITAT_NUM_THREADS, or as many as there are cores. Results are the
        same for any number of threads.

    Returns
    -------
    dict of str to Image
        Float32 maps on one grid, named such as "HU_firstorder_Mean". NaN outside the
        tumor and where the window has no value (its only voxel has no neighbor).

    Raises
    ------
    ConfigError
        If an argument is outside of its range or a feature is not known.
    HabitatError
        If image or mask cannot be read or do not fit together.

    Warns
    -----
    HabitatWarning
        If windows are not cubes because `spacing` is None.

    Notes
    -----
    Names and values are those of pyradiomics' voxel mode (``maskedKernel``, gray levels
    from the whole tumor, GLCM at distance 1 and symmetric, no weights), with five
    exceptions where pyradiomics' own value depends on rounding or on other voxels:

    - A value that is an edge between gray levels but for its rounding to float32 (an
      image in steps of 0.1, say) belongs to the level above.
    - MCC has a value also where the window has no pair in some direction; pyradiomics
      then fails for all voxels unless it is run voxel by voxel.
    - Skewness and Kurtosis of equal values are 0; pyradiomics gives 1 or -1 where the
      mean of the values is off by a rounding.
    - Busyness is 0 where it would be divided by 0; pyradiomics gives 0 or more than
      1e14, by rounding.
    - Imc2 of a direction with independent levels is 0; pyradiomics gives 0, 1e-8 or
      leaves out the direction, by the sign of a rounding error.

    ``meta["map"]`` holds all settings and the number of gray levels.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> maps = habitat.maps.texture_maps(p.pet, p.mask, features=["glcm_Contrast"])
    >>> list(maps)
    ['SUVbw_glcm_Contrast']
    """
    problems: list[HabitatError] = []
    check = collector(problems)
    wanted = check(_wanted, features)
    radius = check(integer, "radius", radius, 1, 3)
    check(_bins_given, bin_width, bin_count)
    grid = check(_spacing, spacing)
    workers = check(
        integer, "threads", all_threads() if threads is None else threads, 1, 1024
    )
    raise_all(problems)

    inputs = load_inputs({"image": image}, mask, label, {})
    read = inputs.images["image"]
    assumed = ["spacing"] if grid == "modality" else []
    if grid == "modality":
        grid = _cubes(read)
    on = bring_together(
        inputs.images, inputs.mask, inputs.mask_geometry, grid or "image"
    )
    problems, notes = missing_values(on)
    raise_all(problems)
    notes = [*inputs.notes, *on.notes, *notes, *_window_notes(on, radius, grid)]
    if bin_width is None and bin_count is None:
        assumed.append("bins")
        bin_width, bin_count = _default_bins(read.unit)
    tumor = on.tumor & on.valid
    bins = _levels(on.images["image"].array, tumor, bin_width, bin_count)
    notes.append(f"{bins.count} gray levels from {bins.lowest:g}")
    how = {
        "function": "texture_maps",
        "radius": radius,
        "bin_width": bin_width,
        "bin_count": bin_count,
        "levels": bins.count,
        "lowest": bins.lowest,
        "spacing_mm": on.geometry.spacing,
        "assumed": assumed,
        "grid": on.done,
        "sources": {
            key: dict(it.source or {"path": "", "sha256": on.hashes[key]})
            for key, it in {"image": read, "mask": inputs.mask}.items()
        },
    }
    values = _compute(on, tumor, bins.levels, wanted, radius, workers)
    prefix = name or read.unit or "image"
    return {
        f"{prefix}_{key}": _map(key, array, on, tumor, read.unit, how, notes)
        for key, array in values.items()
    }


# --- arguments ------------------------------------------------------------------------


def _wanted(features: object) -> dict[str, tuple[str, ...]]:
    """Features by class, each once, in the order of the class."""
    names = (features,) if isinstance(features, str) else features
    if not isinstance(names, Sequence) or not names:
        what = f"must be a sequence of names, got {features!r:.60}"
        raise ConfigError(what, "`features`", f"classes are {', '.join(FEATURES)}")
    found: dict[str, set[str]] = {}
    problems: list[HabitatError] = []
    check = collector(problems)
    for entry in names:
        kind, _, one = str(entry).partition("_")
        kind = check(one_of, "features", kind, FEATURES)
        if kind is not None and one:
            one = check(one_of, f"features: {kind}_...", one, FEATURES[kind])
        elif kind is not None:
            found.setdefault(kind, set()).update(
                f for f in FEATURES[kind] if f not in _BY_NAME_ONLY
            )
        if kind is not None and one:
            found.setdefault(kind, set()).add(one)
    raise_all(problems)
    return {k: tuple(f for f in FEATURES[k] if f in found[k]) for k in found}


def _bins_given(width: object, count: object) -> None:
    if width is not None and count is not None:
        what = f"give one of them, got both ({width!r} and {count!r})"
        raise ConfigError(what, "`bin_width`, `bin_count`")
    if width is not None:
        at_least("bin_width", width, 1e-9)
    if count is not None:
        integer("bin_count", count, 1, _MOST_LEVELS)


def _spacing(spacing: object) -> str | float | tuple[float, ...] | None:
    if spacing is None or isinstance(spacing, str):
        return None if spacing is None else one_of("spacing", spacing, ["modality"])
    sizes = spacing if isinstance(spacing, (tuple, list, np.ndarray)) else (spacing,)
    if len(sizes) not in (1, 3):
        raise ConfigError(f"must be one or (z, y, x) mm, got {spacing!r}", "`spacing`")
    plain = tuple(at_least("spacing", size, 0.01) for size in sizes)
    return plain if len(plain) == 3 else plain[0]


def _default_bins(unit: str | None) -> tuple[float | None, int | None]:
    """Width and count of gray levels that fit a unit."""
    if unit == "HU":
        return 25.0, None
    return (0.25, None) if unit in SUV_UNITS else (None, 32)


def _cubes(image: Image) -> float:
    """Edge of the voxels that fit an image, mm."""
    if image.unit == "HU":
        return 1.0
    return 3.0 if image.unit in SUV_UNITS else min(image.geometry.spacing[1:])


def _window_notes(on: OnGrid, radius: int, grid: object) -> list[str]:
    """Size of the window, with a warning if it just came out as it is."""
    edges = (2 * radius + 1) * np.array(on.geometry.spacing)
    text = f"windows of {' x '.join(f'{e:.3g}' for e in edges)} mm (z, y, x)"
    if grid is not None or edges.max() < 1.01 * edges.min():
        return [text]
    return [warn(f"{text} are not cubes; leave out `spacing` for cubes")]


# --- gray levels ----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Bins:
    """Gray levels of the tumor."""

    levels: npt.NDArray[np.int32]  # on the box of the image; 0 outside the tumor
    count: int  # the highest level
    lowest: float  # edge of the first


def _levels(
    array: npt.NDArray[Any], tumor: Mask, width: float | None, count: int | None
) -> _Bins:
    """Gray levels as pyradiomics makes them: half-open bins, from all of the tumor."""
    values = array[tumor].astype(np.float64)
    low, high = values.min(), values.max()
    levels = np.zeros(array.shape, np.int32)
    if width is None:
        edges = np.histogram_bin_edges(values, count or 1)
        edges[-1] += 1  # the highest value belongs to the last bin
        levels[tumor] = np.digitize(values, edges)
        lowest = float(edges[0])
    else:
        if (high - low) / width >= _MOST_LEVELS - 1:
            what = f"{width:g} makes {(high - low) / width:.3g} gray levels of"
            what = f"{what} [{low:g}, {high:g}], at most {_MOST_LEVELS} can be used"
            raise ConfigError(what, "`bin_width`", "choose a larger one")
        near = _EDGE * max(abs(low), abs(high)) / width  # the rounding of float32
        first = np.floor(low / width + near)
        levels[tumor] = np.floor(values / width - first + near) + 1
        lowest = float(first * width)
    return _Bins(levels, int(levels.max()), lowest)


# --- windows --------------------------------------------------------------------------


def _compute(
    on: OnGrid,
    tumor: Mask,
    levels: npt.NDArray[np.int32],
    wanted: Mapping[str, Sequence[str]],
    radius: int,
    workers: int,
) -> dict[str, npt.NDArray[np.float32]]:
    """Maps on the box of the image, by "class_feature"."""
    box = bounding_box(tumor)
    values = np.pad(on.images["image"].array[box].astype(np.float64), radius)
    volume = 1000 * on.geometry.voxel_ml
    padded = np.pad(levels[box], radius)
    mcc = "MCC" in wanted.get("glcm", ())
    kernels = {k: _kernel(k, values, padded, radius, volume, mcc) for k in wanted}
    centers = np.flatnonzero(padded)
    places = np.flatnonzero(tumor)  # the same voxels in the same order
    names = [f"{k}_{f}" for k, features in wanted.items() for f in features]
    maps: dict[str, npt.NDArray[np.float32]] = {}

    def block(start: int) -> None:
        part = slice(start, start + _BLOCK)
        for kind, kernel in kernels.items():
            out = np.empty((centers[part].size, len(FEATURES[kind])))
            kernel(centers[part], out)
            for f in wanted[kind]:
                column = out[:, FEATURES[kind].index(f)]
                maps[f"{kind}_{f}"].reshape(-1)[places[part]] = column

    with ThreadPoolExecutor(workers) as pool:
        empty = pool.map(lambda _: np.full(tumor.shape, np.nan, np.float32), names)
        maps.update(zip(names, empty, strict=True))
        list(pool.map(block, range(0, centers.size, _BLOCK)))
    return maps


def _kernel(
    kind: str,
    values: Floats,
    levels: npt.NDArray[np.int32],
    radius: int,
    volume: float,
    mcc: bool,
) -> _Kernel:
    """Kernel of a class for a padded image, all but the centers filled in."""
    edge = np.arange(-radius, radius + 1)
    _, rows, columns = levels.shape
    window = ((edge[:, None, None] * rows + edge[:, None]) * columns + edge).reshape(-1)
    mask, flat, highest = levels > 0, levels.reshape(-1), int(levels.max())
    if kind == "firstorder":
        spots = texture.firstorder_tables(radius)
        image = values.reshape(-1)
        return lambda centers, out: texture.firstorder(
            image, flat, centers, window, *spots, volume, highest, out
        )
    if kind == "glcm":
        pairs = texture_pairs.glcm_tables(radius, highest)
        angles = np.array([_neighbors(mask, a) for a in texture_pairs.ANGLES])
        one_level = bool((levels[mask] == highest).all())
        return lambda centers, out: texture_pairs.glcm(
            flat, centers, window, *pairs, angles, one_level, mcc, out
        )
    kernel, make = _ZONES[kind]
    tables = make(radius)
    return lambda centers, out: kernel(flat, centers, window, *tables, highest, out)


def _neighbors(mask: Mask, angle: Sequence[int]) -> bool:
    """Whether two voxels of a padded mask are neighbors along an angle."""
    return bool((mask & np.roll(mask, angle, axis=(0, 1, 2))).any())


_ZONES: dict[str, tuple[Callable[..., None], Callable[[int], tuple[Any, ...]]]] = {
    "glrlm": (texture_runs.glrlm, texture_runs.glrlm_tables),
    "glszm": (texture_zones.glszm, texture_zones.glszm_tables),
    "gldm": (texture_zones.gldm, texture_zones.gldm_tables),
    "ngtdm": (texture_zones.ngtdm, texture_zones.ngtdm_tables),
}


def _map(
    key: str,
    array: npt.NDArray[np.float32],
    on: OnGrid,
    tumor: Mask,
    unit: str | None,
    how: Mapping[str, Any],
    notes: Sequence[str],
) -> Image:
    inside = int(np.count_nonzero(tumor))
    missing = inside - int(np.count_nonzero(np.isfinite(array)))
    own = [f"{missing} of {inside} tumor voxels have no value"]
    record = json.loads(json.dumps({**how, "feature": key}))  # lists, no tuples
    unit = unit if key.partition("_")[2] in _IN_UNIT else None
    geometry = on.geometry.crop(on.box)
    notes = (*notes, *own) if missing else notes
    return as_map(array, geometry, record, unit=unit, notes=notes)

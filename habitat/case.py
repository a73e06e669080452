"""Inputs of one case: read everything, say everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat._check import warn
from habitat.errors import (
    ConfigError,
    GeometryError,
    HabitatError,
    InputError,
    MaskError,
    ModalityError,
    SUVError,
    raise_all,
)
from habitat.geometry import Floats, Geometry, bounding_box, grow
from habitat.image import Image
from habitat.io import read_mask
from habitat.io._grids import coverage
from habitat.io._sources import read_any

Values: TypeAlias = npt.NDArray[Any]  # of one channel, inside the mask

SUV_UNITS = ("SUVbw", "SUVlbm", "SUVbsa")
UNITS = (*SUV_UNITS, "HU", "Bq/mL")
_MODALITY = {"HU": "CT", "SUVbw": "PT"}  # of a DICOM folder that holds several series


@dataclass(frozen=True, eq=False)
class Case:
    """Images and tumor mask of one scan set; nothing is read before it is needed.

    Parameters
    ----------
    case_id : str
        Name of the case, without meaning for the patient.
    images : mapping of str to image-like
        Channels: "pet" and "ct" as in `segment`, or any names as in
        `segment_channels`, to path, SimpleITK.Image or Image.
    mask : mask-like
        The tumor.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.
    group : str, optional
        Patient, where one has several cases; the case itself if it is not given.
    site : str, optional
        Hospital or scanner.
    split : str, optional
        "train", "test" or a name of your own.
    clinical, outcome : mapping, optional
        What is known of the patient, such as ``{"age": 71.0}``, and what is to be
        predicted, such as ``{"pdl1_tps": 60.0}``.

    Raises
    ------
    ConfigError
        If `case_id` is empty or `images` is not a mapping.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> habitat.Case("a", {"pet": p.pet, "ct": p.ct}, p.mask)
    Case('a': pet, ct)
    """

    case_id: str
    images: Mapping[str, Any]
    mask: Any
    label: int | str | None = None
    group: str | None = None
    site: str | None = None
    split: str | None = None
    clinical: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.case_id, str) or not self.case_id:
            raise ConfigError(f"must be a text, got {self.case_id!r}", "`case_id`")
        if not isinstance(self.images, Mapping) or not self.images:
            what = "must be a mapping of channel name to image"
            raise ConfigError(f"{what}, got {self.images!r:.60}", "`images`")
        for name in ("group", "site", "split"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"must be a text, got {value!r}", f"`{name}`")

    def __repr__(self) -> str:
        return f"Case({self.case_id!r}: {', '.join(self.images)})"


@dataclass(frozen=True, eq=False)
class Inputs:
    """What was read for one case."""

    images: dict[str, Image]  # channel -> image, own grids
    mask: Image  # bool, cropped to the tumor
    mask_geometry: Geometry  # the whole grid of the mask
    compared: Mapping[str, str] | None  # source of the second mask of a pair
    guessed: frozenset[str]  # channels whose unit no file or Image said
    notes: tuple[str, ...]


def load_inputs(
    channels: Mapping[str, Any],
    mask: Any,
    label: int | str | None,
    units: Mapping[str, str],
) -> Inputs:
    """Read all channels and the mask; raise all problems found, at once.

    Parameters
    ----------
    channels : mapping of str to image-like
        Channel name to path, SimpleITK.Image, Image or array.
    mask : mask-like, or a pair of them
        Of a pair the first is used and the second compared with it.
    label : int, str or None
        Value or name of the structure in the mask.
    units : mapping of str to str
        Unit to assume for a channel that does not say its own.
    """
    first, second = _mask_pair(mask)
    sources = {**channels, "mask": first}
    notes: list[str] = []
    arrays = [name for name, s in sources.items() if isinstance(s, np.ndarray)]
    if arrays:
        sources = _wrap_arrays(sources)
        notes.append(
            warn("arrays carry no spacing: voxels of 1 x 1 x 1 mm are assumed")
        )
    problems: list[HabitatError] = []
    images = {}
    for name in channels:
        try:
            images[name] = read_any(sources[name], _MODALITY.get(units.get(name, "")))
        except HabitatError as error:
            problems.append(_named(error, name))
    masks = []
    for source in [sources["mask"], second][: 1 + (second is not None)]:
        try:
            reference = list(images.values())
            masks.append(read_mask(source, label=label, reference=reference))
        except HabitatError as error:
            problems.append(_named(error, "mask"))
    raise_all(problems or _same_image(images))
    guessed = frozenset(c for c, i in images.items() if i.unit is None and c in units)
    images |= {c: images[c].replace(images[c].array, unit=units[c]) for c in guessed}
    problems = [p for c, i in images.items() for p in _grid_problems(c, i, masks[0])]
    raise_all(problems)
    if len(masks) == 2:
        notes += _compare_masks(masks[0], masks[1])
    notes += _mask_notes(masks[0])
    for name, image in images.items():
        notes += [*image.notes, *_unit_notes(name, image)]
        notes += _shift_notes(name, image, masks[0])
        notes += _outside_notes(name, image, masks[0])
    compared = masks[1].source if len(masks) == 2 else None
    notes += masks[0].notes
    tumor = masks[0].crop(bounding_box(masks[0].array))
    grid = masks[0].geometry
    return Inputs(images, tumor, grid, compared, guessed, tuple(notes))


def _mask_pair(mask: Any) -> tuple[Any, Any]:
    if not isinstance(mask, (tuple, list)):
        return mask, None
    if len(mask) == 2:
        return mask[0], mask[1]
    what = f"a pair has two masks, got {len(mask)}"
    raise InputError(what, "mask", "give one mask, or (mask, other)")


def _same_image(images: Mapping[str, Image]) -> list[HabitatError]:
    """Two channels that are one image: a slip of copy and paste."""
    problems: list[HabitatError] = []
    for (a, one), (b, other) in combinations(images.items(), 2):
        if one.source:
            same = other.source and one.source["sha256"] == other.source["sha256"]
        else:
            same = np.shares_memory(one.array, other.array)
        if same:
            what, fix = f"{a} and {b} are the same image", "give each its own"
            problems.append(ModalityError(what, "channels", fix))
    return problems


def _unit_notes(name: str, image: Image) -> list[str]:
    if image.unit is not None or image.is_map:
        return []
    text = f"channel {name!r} has no unit: linear interpolation, no check of its values"
    text += "; of a CT say it: habitat.read(path, unit='HU')"
    if name.casefold() not in ("pet", "ct", "suv", "hu", "suvbw"):
        return [text]
    return [warn(f"{text}; name it 'SUVbw' or 'HU', or read(path, unit=...)")]


def _wrap_arrays(sources: dict[str, Any]) -> dict[str, Any]:
    shapes = {
        n: s.shape if isinstance(s, np.ndarray) else None for n, s in sources.items()
    }
    if len(set(shapes.values())) > 1:
        what = f"arrays must all have one shape (z, y, x), got {shapes}"
        if None in shapes.values():
            named = ", ".join(n for n, shape in shapes.items() if shape)
            what = f"{named}: a bare array cannot be placed on the grid of the others"
        fix = "wrap each with its grid: habitat.Image(array, spacing=(z, y, x))"
        raise InputError(what, "segment", fix)
    return {n: Image(s, spacing=(1, 1, 1)) for n, s in sources.items()}


def _named(error: HabitatError, name: str) -> HabitatError:
    where = f"{name} {error.where}" if error.where else name
    return type(error)(error.what, where, error.fix)


# --- grids ----------------------------------------------------------------------------


def _outside(image: Image, mask: Image) -> tuple[int, int]:
    """Mask voxels with their center outside the image, and all mask voxels."""
    box = bounding_box(mask.array)
    ends = np.array([(s.start, s.stop - 1) for s in box], dtype=np.float64)
    corners = np.array(np.meshgrid(*ends)).reshape(3, -1).T
    total = int(np.count_nonzero(mask.array[box]))
    if _within(image, mask, corners).all():
        return 0, total
    points = np.argwhere(mask.array[box]) + ends[:, 0]
    return total - int(_within(image, mask, points).sum()), total


def _within(image: Image, mask: Image, points: Floats) -> npt.NDArray[np.bool_]:
    index = image.geometry.index(mask.geometry.world(points))
    edge = np.array(image.geometry.shape) - 0.5
    within = (index > -0.5 - 1e-6) & (index < edge + 1e-6)
    return np.asarray(within.all(axis=1))


def _grid_problems(name: str, image: Image, mask: Image) -> list[HabitatError]:
    lost, total = _outside(image, mask)
    if lost <= 0.01 * total:
        return []
    what = f"{100 * (1 - lost / total):.0f}% of the mask lies in the {name} image"
    fix = "check that both belong to the same scan and patient position"
    return [GeometryError(what, name, fix)]


def _outside_notes(name: str, image: Image, mask: Image) -> list[str]:
    lost, total = _outside(image, mask)
    if not lost:
        return []
    text = (
        f"{lost} of {total} mask voxels lie outside the {name} image and are left out"
    )
    return [warn(text)]


def _shift_notes(name: str, image: Image, mask: Image) -> list[str]:
    a, b = image.geometry, mask.geometry
    alike = a.shape == b.shape and np.allclose(
        a.affine[:3, :3], b.affine[:3, :3], atol=1e-4
    )
    shift = b.affine[:3, 3] - a.affine[:3, 3]
    if not alike or not shift.any():
        return []
    if a.same_as(b):
        return [
            f"{name}: grid origin {np.abs(shift).max():.2g} mm off the mask's, snapped"
        ]
    voxels = np.abs(np.linalg.solve(a.affine[:3, :3], shift))
    if voxels.max() > 3:
        return []
    mm = ", ".join(f"{s:.2f}" for s in shift)
    text = (
        f"{name} and mask have the same size and spacing but origins differ by "
        f"({mm}) mm, up to {voxels.max():.2f} voxels: shifted header?"
    )
    return [warn(text)]


# --- masks ----------------------------------------------------------------------------


def _mask_notes(mask: Image) -> list[str]:
    share = np.count_nonzero(mask.array) / mask.array.size
    if share <= 0.5:
        return []
    return [warn(f"mask covers {100 * share:.0f}% of its image: is it the tumor?")]


def _compare_masks(mask: Image, other: Image) -> list[str]:
    """Dice and centroid shift of two masks of one lesion (BAD_INPUTS 44)."""
    a, b = mask.array, coverage(other, mask.geometry) >= 0.5 - 1e-9
    if not b.any():
        raise MaskError(
            "the two masks do not overlap", "mask", "give masks of one lesion"
        )
    dice = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
    centers = [m.geometry.world(np.argwhere(m.array).mean(0)) for m in (mask, other)]
    shift = centers[1] - centers[0]
    x, y, z = shift
    text = (
        f"the two masks agree with Dice {dice:.3f}, centroids "
        f"{np.linalg.norm(shift):.1f} mm apart (x {x:.1f}, y {y:.1f}, z {z:.1f})"
    )
    if dice < 0.9:
        text = warn(f"{text}: PET and CT may be misregistered")
    return [text]


def flip_notes(
    pet: Image, inputs: Inputs, tumor: npt.NDArray[np.bool_], hot: Floats
) -> list[str]:
    """Warn when the mask is not hot but its mirror image fits a hot spot.

    `tumor` and `hot` (SUV) are the mask and the PET on the tumor's box.
    """
    around = hot[~tumor & np.isfinite(hot)]
    if around.size == 0 or np.nanmean(hot[tumor]) >= 1.5 * around.mean():
        return []
    notes = []
    for axis, letters in enumerate(inputs.mask_geometry.letters):
        mirror = _mirror(inputs, axis)
        cover = coverage(mirror, pet.geometry) >= 0.5 - 1e-9
        if not cover.any():
            continue
        margin = np.ceil(10 / np.array(pet.geometry.spacing)).astype(int)
        box = grow(bounding_box(cover), margin.tolist(), cover.shape)
        values = np.nan_to_num(pet.array[box])
        dice = _dice(cover[box], values >= 0.41 * values.max())
        if dice > 0.5:
            name = {"L": "x", "R": "x", "A": "y", "P": "y"}.get(letters[0], "z")
            text = f"mask may be flipped in {name}: mirrored, it fits the PET"
            notes.append(warn(f"{text} (Dice {dice:.2f})"))
    return notes


def _mirror(inputs: Inputs, axis: int) -> Image:
    """The mask as if its whole grid had been flipped along an axis."""
    grid, mask = inputs.mask_geometry, inputs.mask
    start = np.rint(grid.index(mask.geometry.world((0, 0, 0)))).astype(int)
    start[axis] = grid.shape[axis] - start[axis] - mask.array.shape[axis]
    z, y, x = (
        slice(int(a), int(a) + n) for a, n in zip(start, mask.array.shape, strict=True)
    )
    return Image(np.flip(mask.array, axis), grid.crop((z, y, x)))


def _dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    return float(
        2 * np.count_nonzero(a & b) / max(np.count_nonzero(a) + np.count_nonzero(b), 1)
    )


# --- modalities -----------------------------------------------------------------------


def modality_problems(
    images: Mapping[str, Image], inside: Mapping[str, Values], guessed: frozenset[str]
) -> list[HabitatError]:
    """Images that do not look like their unit (only where the unit was guessed)."""
    problems: list[HabitatError] = []
    pets = [c for c in images if images[c].unit in SUV_UNITS and c in guessed]
    cts = [c for c in images if images[c].unit == "HU" and c in guessed]
    for name in pets:
        problems += _pet_problems(name, images[name], inside[name])
    for name in cts:
        swapped = any(_lowest(images[p]) < -20 for p in pets)
        problems += _ct_problems(name, images[name], inside[name], swapped)
    return problems


def modality_notes(
    images: Mapping[str, Image], inside: Mapping[str, Values]
) -> list[str]:
    """What a reader must know of the values, although they can be used."""
    notes = []
    for name, image in images.items():
        if image.is_map:
            continue
        if image.unit in SUV_UNITS:
            low, top = _lowest(image), float(inside[name].max())
            if low < -0.5:
                count = int(np.count_nonzero(image.array < -0.5))
                notes.append(f"{name}: {count} voxels below -0.5, lowest {low:.2f}")
            if top > 60:
                text = (
                    f"{name}: maximum {top:.1f} inside the mask: counts or SUV x 100?"
                )
                notes.append(warn(text))
        if image.unit == "HU" and _lowest(image) >= -200:
            notes.append(f"{name}: 0 voxels below -200 HU: no air or lung in the image")
    return notes


def _pet_problems(name: str, image: Image, inside: Values) -> list[HabitatError]:
    problems: list[HabitatError] = []
    low = float(np.percentile(_finite(thin(image.array)), 0.1))
    if low < -100:
        what = f"0.1st percentile is {low:.0f}: looks like HU, not SUV"
        problems.append(ModalityError(what, name, SWAPPED))
    median = float(np.median(inside))
    if median > 200:
        what = f"median inside the mask is {median:.0f}: values look like Bq/ml"
        fix = "read the DICOM folder (habitat.read_dicom converts to SUV)"
        problems.append(SUVError(what, name, fix))
    return problems


def _ct_problems(
    name: str, image: Image, inside: Values, swapped: bool
) -> list[HabitatError]:
    if _lowest(image) < 0:
        return []
    border = _finite(np.concatenate([thin(image.array[:, i]).ravel() for i in (0, -1)]))
    empty = np.count_nonzero(border <= 50) > 0.5 * border.size
    if empty and np.median(inside) > 800:
        what = f"no voxel below 0, median inside the mask {np.median(inside):.0f}"
        fix = "subtract 1024 to get HU"
        what = f"{what}: stored without its intercept of -1024?"
        return [ModalityError(what, name, fix)]
    if swapped:
        return [ModalityError("no voxel is below 0: not HU", name, SWAPPED)]
    return []


SWAPPED = "are PET and CT swapped? (habitat.Image(array, ..., unit=...) overrides this)"


def _finite(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(array[np.isfinite(array)])


def _lowest(image: Image) -> float:
    """Smallest finite value of an image, infinity if it has none."""
    low = float(np.fmin.reduce(image.array, axis=None))
    return low if np.isfinite(low) else float(_finite(image.array).min(initial=np.inf))


def thin(array: npt.NDArray[Any], most: int = 200_000) -> npt.NDArray[Any]:
    """Every n-th voxel along each axis, at most about `most` of them."""
    step = max(1, int(np.ceil((array.size / most) ** (1 / array.ndim))))
    return array[tuple(slice(None, None, step) for _ in range(array.ndim))]

"""What the families see: habitats, channels on their grid, native images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat._check import collector, warn
from habitat.case import (
    SUV_UNITS,
    UNITS,
    load_inputs,
    modality_notes,
    modality_problems,
)
from habitat.errors import ConfigError, HabitatError, InputError, MaskError, raise_all
from habitat.geometry import Box, Floats, Geometry, bounding_box, grow
from habitat.image import Image
from habitat.io._grids import clip_hu, interpolation_of, needed, sample
from habitat.io._sources import name_of, read_any
from habitat.voxels import OnGrid, depth_mm, missing_values

Labels: TypeAlias = npt.NDArray[np.uint8]

MARGIN_MM = 10.0
_SAME_SD = 0.5  # of the tumor's values that an image may be off and be the same
MOST_HABITATS = 255
_MASKS = ("mask", "other_mask")  # among the sources of a result
_UNITS = {"pet": "SUVbw", "ct": "HU"}
_MODALITY = {"HU": "CT", **dict.fromkeys(SUV_UNITS, "PT")}


@dataclass(frozen=True, eq=False)
class Subject:
    """One tumor.

    Attributes
    ----------
    labels : Image
        Habitats 1..k, uint8, 0 outside, cropped to the tumor and 10 mm around it.
    k : int
        Number of habitats, empty ones included; 0 of a plain mask.
    depth : float array of shape (z, y, x), mm
        Distance to the surface of the tumor, on the grid of `labels`.
    channels : dict of str to Image
        On the grid of `labels`; NaN is no value.
    natives : dict of str to Image
        As they were acquired; read when first asked for.
    notes : tuple of str
        What a reader must know.
    """

    labels: Image
    k: int
    depth: Floats
    channels: Mapping[str, Image]
    sources: Mapping[str, Any]  # channel -> image-like, or why there is none
    recorded: Mapping[str, str]  # channel -> sha256 that its source must have
    notes: tuple[str, ...]
    whole: bool = True  # False: radiomics and shape of the habitats only
    kept: dict[Any, Any] = field(default_factory=dict)  # between divisions of a tumor
    _read: dict[str, Image] = field(default_factory=dict)

    def with_labels(self, labels: Labels, k: int) -> Subject:
        """Divide the same tumor in another way; what has no need of it is left out."""
        same = np.array_equal(labels > 0, self.labels.array > 0)
        assert same, "the tumor is another"
        return replace(self, labels=self.labels.replace(labels), k=k, whole=False)

    @property
    def tumor(self) -> Image:
        """The whole tumor as a region of its own: 1 inside."""
        inside = (self.labels.array > 0).astype(np.uint8)
        return Image(inside, self.labels.geometry, unit="habitat")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) of `labels`, mm."""
        return self.labels.geometry.spacing

    @cached_property
    def natives(self) -> dict[str, Image]:
        """Images on their own grids."""
        problems: list[HabitatError] = []
        read = collector(problems)
        found = {name: read(self.native, name) for name in self.sources}
        raise_all(problems)
        return found

    def native(self, name: str) -> Image:
        """Image of a channel on its own grid."""
        if name not in self._read:
            self._read[name] = self._native(name, self.sources[name])
        return self._read[name]

    def _native(self, name: str, source: Any) -> Image:
        unit = self.channels[name].unit
        if isinstance(source, HabitatError):
            raise source
        try:
            image = read_any(source, _MODALITY.get(unit or ""))
        except HabitatError as error:
            fix = f"{error.fix}, or pass it: extract(..., images={{{name!r}: image}})"
            raise type(error)(error.what, error.where, fix) from error
        known = (image.source or {}).get("sha256")
        if name in self.recorded and known != self.recorded[name]:
            what = "was changed since it was segmented (its sha256 is another)"
            fix = "segment it again, or pass the image in `images`"
            raise InputError(what, name_of(source), fix)
        return image if image.unit else image.replace(image.array, unit=unit)

    def values(self, channel: str) -> Floats:
        """Values of a channel on the grid of `labels`."""
        return self.channels[channel].array.astype(np.float64)


def of_result(result: Any, images: Mapping[str, Any] | None) -> Subject:
    """Open a result; its native images are those given, else where it read them."""
    labels = Image(result.labels, result.geometry, unit="habitat").crop(result.box)
    channels, deep = dict(result.images), result.depth_mm
    sources, recorded = _recorded(result)
    if images is not None:
        given = by_channel(images, channels, "`images`")
        units = {name: str(channels[name].unit) for name in given}
        mask = labels.replace(labels.array > 0)
        natives = load_inputs(given, mask, None, units).images
        raise_all(
            [
                problem
                for name, image in natives.items()
                if (image.source or {}).get("sha256") != recorded.get(name, "")
                for problem in _another(name, image, channels[name], mask)
            ]
        )
        sources |= natives
        recorded = {name: h for name, h in recorded.items() if name not in natives}
    return Subject(labels, result.k, deep, channels, sources, recorded, ())


def _recorded(result: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Where a result has its channels from, and the sha256 of those files."""
    done = result.params.get("channels", {})
    origins = [s for name, s in result.sources.items() if name not in _MASKS]
    sources: dict[str, Any] = {}
    recorded = {}
    for (name, image), origin, how in zip(
        result.images.items(), origins, done.values(), strict=True
    ):
        if origin["path"]:
            sources[name], recorded[name] = origin["path"], origin["sha256"]
        elif how.get("interpolation") == "none":
            sources[name] = image  # the native voxels themselves
        else:
            sources[name] = _not_given(name)
    return sources, recorded


def by_channel(
    given: Any, channels: Mapping[str, Image], argument: str
) -> dict[str, Any]:
    """Something for each channel under its name; "pet" and "ct" mean SUV and HU."""
    known = isinstance(given, Mapping) and set(given) <= set(channels)
    named = dict(given) if known else _named(given, argument)
    extra = [name for name in named if name not in channels]
    if extra:
        what = f"has {', '.join(extra)}; the channels are {', '.join(channels)}"
        raise ConfigError(what, argument, "name the channels as the result does")
    return named


def _another(name: str, image: Image, own: Image, tumor: Image) -> list[HabitatError]:
    """An image that is not the one that was segmented."""
    how = interpolation_of(image)
    near, _ = clip_hu(needed(image, own.geometry, how))
    values = sample(near, own.geometry, how, tumor).array
    both = tumor.array & np.isfinite(values) & np.isfinite(own.array)
    if not both.any():
        return []
    apart = float(np.median(np.abs(values[both] - own.array[both])))
    if apart <= _SAME_SD * float(own.array[both].std()):
        return []
    what = "is not the image that was segmented: in the tumor they differ by "
    fix = "give each channel its own image"
    return [InputError(f"{what}{apart:.3g} (median)", name, fix)]


def _not_given(name: str) -> InputError:
    what = "the native image is not known: it was given in memory, not as a file"
    fix = f"pass images={{{name!r}: image}}, or leave out radiomics, pet and rings"
    return InputError(what, name, fix)


def of_labels(labels: Any, images: Mapping[str, Any] | None) -> Subject:
    """Open a label map and images that lie on grids of their own."""
    given = _named(images or {}, "`images`")
    plain = isinstance(labels, np.ndarray)
    raw = labels if plain else _read_labels(labels)
    array = _checked(np.asarray(raw if plain else raw.array))
    mask: Any = array > 0
    if not plain:
        mask = raw.replace(mask)
    units = {name: name for name in given if name in UNITS}
    geometry, natives, guessed, notes = _read(given, mask, units)
    margin = np.ceil(MARGIN_MM / np.array(geometry.spacing))
    box = grow(bounding_box(array > 0), margin, array.shape)
    part = Image(array, geometry, unit="habitat").crop(box)
    part = part.replace(part.array.astype(np.uint8))
    tumor = part.replace(part.array > 0)
    channels = {}
    for name, image in natives.items():
        how = interpolation_of(image)
        near, clipped = clip_hu(needed(image, part.geometry, how))
        notes += clipped
        values = sample(near, part.geometry, how, tumor).array
        channels[name] = near.replace(values, part.geometry)
    notes += _check_values(natives, channels, guessed, tumor.array, geometry, box)
    k = 0 if array.dtype == bool else int(array.max())
    deep = depth_mm(tumor.array, part.geometry.spacing)
    return Subject(part, k, deep, channels, natives, {}, tuple(notes))


def _check_values(
    natives: Mapping[str, Image],
    channels: dict[str, Image],
    guessed: frozenset[str],
    tumor: npt.NDArray[np.bool_],
    geometry: Geometry,
    box: Box,
) -> list[str]:
    """Look for missing values and for images that are not in their unit."""
    valid = np.ones(tumor.shape, bool)
    on = OnGrid(geometry, box, tumor, channels, valid, {}, {}, [])
    problems, notes = missing_values(on)
    inside = {c: i.array[tumor & np.isfinite(i.array)] for c, i in channels.items()}
    if all(values.size for values in inside.values()):
        problems += modality_problems(natives, inside, guessed)
        raise_all(problems)
        return notes + modality_notes(natives, inside)
    raise_all(problems)
    return notes


def _read(
    given: Mapping[str, Any], mask: Any, units: Mapping[str, str]
) -> tuple[Geometry, dict[str, Image], frozenset[str], list[str]]:
    if given:
        inputs = load_inputs(given, mask, None, units)
        return inputs.mask_geometry, inputs.images, inputs.guessed, list(inputs.notes)
    if isinstance(mask, Image):
        return mask.geometry, {}, frozenset(), list(mask.notes)
    note = warn("arrays carry no spacing: voxels of 1 x 1 x 1 mm are assumed")
    return Geometry.from_spacing(mask.shape, (1, 1, 1)), {}, frozenset(), [note]


def _read_labels(source: Any) -> Image:
    try:
        return read_any(source)
    except HabitatError as error:
        fix = "a contour or mask file: habitat.read_mask(path, reference=image); "
        fix += "a saved result: habitat.HabitatResult.load(folder)"
        raise type(error)(error.what, error.where, fix) from error


def _named(given: Any, argument: str) -> dict[str, Any]:
    """Name "pet" and "ct" by their unit, as results do."""
    if not isinstance(given, Mapping):
        what = f"must be a mapping of channel name, got {given!r:.60}"
        raise ConfigError(what, argument, "{'pet': ..., 'ct': ...}")
    out = {}
    for name, one in given.items():
        unit = getattr(one, "unit", None)
        out[unit or _UNITS[name] if name in _UNITS else name] = one
    if len(out) < len(given):
        raise ConfigError(f"names a channel twice: {', '.join(given)}", argument)
    return out


def _checked(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Check that an array holds labels; return it as bool or whole numbers."""
    if labels.ndim != 3:
        what = f"must have three axes (z, y, x), got shape {labels.shape}"
        raise MaskError(what, "`labels`")
    whole = labels
    if labels.dtype.kind not in "biu":
        finite = bool(np.isfinite(labels).all())
        whole = labels.astype(np.int64) if finite else labels
        if not finite or (whole != labels).any():
            what = "must be whole numbers, 0 outside the tumor"
            raise MaskError(what, "`labels`", "give a label map or a binary mask")
    if whole.min() < 0 or whole.max() > MOST_HABITATS:
        what = f"must be 0 to {MOST_HABITATS}, got {whole.min()} to {whole.max()}"
        raise MaskError(what, "`labels`", "0 is outside, habitats count from 1")
    if not whole.any():
        raise MaskError("no voxel is > 0", "`labels`", "check the file")
    return whole

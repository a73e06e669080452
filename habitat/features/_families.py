"""The families of features: what each says of the tumor, its habitats and its rings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat._check import warn
from habitat.case import SUV_UNITS
from habitat.errors import GeometryError, HabitatError
from habitat.features._composition import (
    centroid_distances,
    composition,
    contrasts,
    diversity,
    statistics,
)
from habitat.features._pattern import (
    autocorrelation,
    hotspot_offset,
    pair_correlation,
    position,
)
from habitat.features._pet import UNITS as PET_UNITS
from habitat.features._pet import blur_notes, pet
from habitat.features._prepare import labels_on, prepare
from habitat.features._relations import relations
from habitat.features._settings import RadiomicsSettings
from habitat.features._subject import Subject
from habitat.features._table import Row
from habitat.geometry import bounding_box
from habitat.image import Image
from habitat.io._grids import needed, sample

if TYPE_CHECKING:
    from habitat.features._rings import Rings

_PEAK_MM = 12.0  # around the labels: a sphere of SUVpeak and its voxels
Found: TypeAlias = Mapping[str, npt.NDArray[np.float64]]  # feature -> (regions,)


@dataclass(frozen=True, eq=False)
class Options:
    """How features are computed."""

    settings: Mapping[str, RadiomicsSettings]  # of each channel, as given
    spacing: Any  # mm, "auto" or None
    engine: str
    min_voxels: int
    rings: Rings | None
    notes: list[str] = field(default_factory=list)  # grows: what a reader must know
    used: dict[str, Any] = field(default_factory=dict)  # grows: settings of a channel


@dataclass(frozen=True, eq=False)
class Layer:
    """Regions that do not overlap, on one grid."""

    labels: Image
    names: tuple[str, ...]

    @property
    def n(self) -> int:
        """Number of regions, absent ones included."""
        return len(self.names)


def layers(subject: Subject) -> list[Layer]:
    """The tumor, then its habitats if it has any."""
    found = [Layer(subject.tumor, ("tumor",))]
    if subject.k:
        names = tuple(f"h{i}" for i in range(1, subject.k + 1))
        found.append(Layer(subject.labels, names))
    return found


def ring_layers(rings: Rings) -> list[Layer]:
    """Rings as layers: one of all, or one of each where they are cumulative."""
    shells = rings.labels.array
    if all(len(band) == 1 for band in rings.bands.values()):
        return [Layer(rings.labels, rings.names)]
    return [
        Layer(rings.labels.replace(np.isin(shells, band).astype(np.uint8)), (name,))
        for name, band in rings.bands.items()
    ]


def _groups(subject: Subject, options: Options) -> list[list[Layer]]:
    """Layers on one grid each: tumor and habitats, then rings if any is left."""
    own = layers(subject)[0 if subject.whole else 1 :]
    if options.rings is None or not options.rings.labels.array.any():
        return [own]
    return [own, ring_layers(options.rings)]


def _rows(
    names: Iterable[str], found: Found, channel: str = "", units: str = ""
) -> Iterator[Row]:
    """Rows of values per region: all features of one region, then of the next."""
    for i, region in enumerate(names):
        for feature, values in found.items():
            yield Row(region, channel, feature, float(values[i]), _unit(feature, units))


def _of_tumor(found: Mapping[str, float], channel: str = "") -> Iterator[Row]:
    for feature, value in found.items():
        yield Row("tumor", channel, feature, float(value), _unit(feature))


#: Units of features by how their names begin; all others are plain numbers.
_UNITS = {
    "volume_ml": "ml",
    "centroid_distance": "mm",
    "mean_depth_mm": "mm",
    "interaction_share": "",
    "border_share": "",
    "border_area": "mm2",
    "edge_density": "1/mm",
    "surface_to_volume": "1/mm",
    "shape_MeshVolume": "mm3",
    "shape_VoxelVolume": "mm3",
    "shape_SurfaceArea": "mm2",
    "shape_SurfaceVolumeRatio": "1/mm",
    "shape_Maximum": "mm",
    "shape_MajorAxis": "mm",
    "shape_MinorAxis": "mm",
    "shape_LeastAxis": "mm",
}
#: Those of pairs of habitats are volumes: counts of neighbors times that of a voxel.
_VOLUMES = re.compile(r"(interaction|border)(_\d+)+$")


def _unit(feature: str, default: str = "") -> str:
    if _VOLUMES.match(feature):
        return "mm3"
    return next((u for part, u in _UNITS.items() if feature.startswith(part)), default)


def _composition(subject: Subject, options: Options) -> Iterator[Row]:
    for layer in layers(subject):
        found = composition(layer.labels.array, layer.n, subject.spacing)
        yield from _rows(layer.names, found)
    yield from _of_tumor(
        centroid_distances(subject.labels.array, subject.k, subject.spacing)
    )


def _intensity(subject: Subject, options: Options) -> Iterator[Row]:
    for channel, image in subject.channels.items():
        values = subject.values(channel)
        for layer in layers(subject):
            found = statistics(values, layer.labels.array, layer.n)
            yield from _rows(layer.names, found, channel, image.unit or "")
        between = contrasts(values, subject.labels.array, subject.k)
        yield from _of_tumor(between, channel)


def _spatial(subject: Subject, options: Options) -> Iterator[Row]:
    labels, k, spacing = subject.labels.array, subject.k, subject.spacing
    habitats = [f"h{i}" for i in range(1, k + 1)]
    if k:
        tumor, each = relations(labels, k, spacing)
        yield from _of_tumor(tumor)
        yield from _of_tumor(pair_correlation(labels, k, spacing))
        yield from _rows(habitats, each | position(labels, k, spacing, subject.depth))
    for channel in subject.channels:
        values = subject.values(channel)
        for layer in layers(subject):
            own = layer.labels.array
            found = autocorrelation(values, own, layer.n, spacing)
            found |= hotspot_offset(values, own, layer.n, spacing)
            yield from _rows(layer.names, found, channel)


def _diversity(subject: Subject, options: Options) -> Iterator[Row]:
    if subject.k:
        channels = [subject.values(name) for name in subject.channels]
        yield from _of_tumor(diversity(subject.labels.array, subject.k, channels))


def _radiomics(subject: Subject, options: Options) -> Iterator[Row]:
    for channel, image in subject.natives.items():
        try:
            settings = _settings(channel, image, options)
            for group in _groups(subject, options):
                kept = None if subject.whole else subject.kept
                yield from _computed(image, group, settings, options, channel, kept)
        except HabitatError as error:
            where = f"{channel}, {error.where}".removesuffix(", ")
            raise type(error)(error.what, where, error.fix) from error


def _settings(channel: str, image: Image, options: Options) -> RadiomicsSettings:
    settings = options.settings[channel].for_channel(
        image.unit, image.is_map, image.geometry.spacing
    )
    sizes = settings.spacing
    if 1 in image.geometry.shape and isinstance(sizes, tuple):  # one slice stays
        own = zip(image.geometry.shape, sizes, strict=True)
        settings = replace(settings, spacing=[s if n > 1 else 0.0 for n, s in own])
    options.used[channel] = settings.to_json()
    return settings


#: Shape features that a tumor of one slice has, and its plane by the axis it lacks.
_FLAT = {f"shape_{n}" for n in ("VoxelVolume", "MajorAxisLength", "MinorAxisLength")}
_FLAT |= {"shape_Elongation"}
_PLANES = [f"shape_Maximum2DDiameter{n}" for n in ("Slice", "Column", "Row")]


def _shape(subject: Subject, options: Options) -> Iterator[Row]:
    """Shape on the grid of the labels, or on one of the spacing asked for."""
    sizes = 0.0 if options.spacing in ("auto", None) else options.spacing
    settings = RadiomicsSettings(features=("shape",), spacing=sizes, bin_count=1)
    settings = settings.for_channel(None, False, subject.spacing)
    tumor = subject.labels.array > 0
    edges = tumor[bounding_box(tumor)].shape
    known = None
    if 1 in edges:
        known = _FLAT | {_PLANES[edges.index(1)]}
        text = "the tumor is one voxel thick: features of three dimensions are NaN"
        options.notes.append(warn(text))
    for group in _groups(subject, options):
        grid = group[0].labels.geometry
        whole = Image(np.ones(grid.shape), grid)
        for row in _computed(whole, group, settings, options, ""):
            name = row.feature.removeprefix("original_")
            row = row._replace(feature=name, unit=_unit(name))
            if known and row.feature not in known:
                row = row._replace(value=np.nan, note="the tumor is one voxel thick")
            yield row


def _computed(
    image: Image,
    group: Sequence[Layer],
    settings: RadiomicsSettings,
    options: Options,
    channel: str,
    kept: dict[Any, Any] | None = None,
) -> Iterator[Row]:
    """Rows of what the engine finds."""
    prepared = prepare(image, [one.labels for one in group], settings, kept)
    for text in prepared.notes:
        text = f"{channel}: {text}" if channel else text
        options.notes.append(text if image.is_map else warn(text))
    engine = import_module(f"habitat.features.{_ENGINES[options.engine]}").run
    for one in engine(prepared, settings, options.min_voxels):
        layer = group[one.layer]
        for i, region in enumerate(layer.names):
            used = int(one.voxels[i]) if i < len(one.voxels) else 0
            bins = int(one.bins[i]) if used else 0
            for name, values in one.features.items():
                value = float(values[i]) if i < len(values) else np.nan
                note = "" if value == value else _why(name, used, bins, options)
                full = f"{one.image_type}_{name}"
                yield Row(region, channel, full, value, "", note, 0, used, bins)


def _pet(subject: Subject, options: Options) -> Iterator[Row]:
    """Uptake on the native PET grid, labels by nearest neighbor."""
    for channel, on_labels in subject.channels.items():
        if on_labels.unit not in SUV_UNITS or on_labels.is_map:
            continue
        image = subject.native(channel)
        box = image.geometry.box_around(subject.labels.geometry, _PEAK_MM)
        if box is None:
            raise GeometryError("the habitats lie outside the image", channel)
        image = image.crop(box)
        suv = image.array.astype(np.float64)
        spacing, top = image.geometry.spacing, None
        for layer in layers(subject):
            labels = labels_on(layer.labels, image.geometry, "nearest")
            found = pet(suv, labels, layer.n, spacing, lesion_max=top)
            top = float(found["suv_max"][0]) if top is None else top
            there = np.isfinite(found["suv_max"])
            for row in _rows(layer.names, found, channel):
                note = ""
                if not there[layer.names.index(row.region)]:
                    note = "no voxel on the grid of the PET"
                elif np.isnan(row.value) and "peak" in row.feature:
                    note = "the sphere leaves the image"
                yield row._replace(unit=PET_UNITS[row.feature], note=note)
        habitats = labels_on(subject.labels, image.geometry, "nearest")
        for text in blur_notes(habitats, 1, spacing):  # of the tumor
            warn(f"{channel}: {text}")
        thin = blur_notes(habitats, subject.k, spacing)
        options.notes.extend(f"{channel}: {text}" for text in thin)


def _rings(subject: Subject, options: Options) -> Iterator[Row]:
    """Volume and kept share of rings, and each channel's statistics in them."""
    rings = options.rings
    assert rings is not None  # `extract` makes them
    options.notes.extend(rings.notes)
    for layer in ring_layers(rings):
        labels, grid = layer.labels.array, layer.labels.geometry
        found = composition(labels, layer.n, grid.spacing)
        size = {"volume_ml": found["volume_ml"]}
        size["kept_fraction"] = np.array([rings.kept[name] for name in layer.names])
        yield from _rows(layer.names, size)
        for channel in subject.channels:
            image = subject.native(channel)
            values = sample(needed(image, grid, "linear"), grid, "linear").array
            found = statistics(values.astype(np.float64), labels, layer.n)
            yield from _rows(layer.names, found, channel, image.unit or "")


def _why(name: str, voxels: int, bins: int, options: Options) -> str:
    """Why a feature has no value."""
    if not voxels:
        return "no voxel"
    if voxels < options.min_voxels and not name.startswith(("firstorder", "shape")):
        return f"{voxels} voxels, fewer than min_voxels={options.min_voxels}"
    return "1 gray level" if bins == 1 else "not defined"


_ENGINES = {"numba": "_radiomics", "pyradiomics": "_pyradiomics"}

Family: TypeAlias = Callable[[Subject, Options], Iterable[Row]]
#: Families by name. A callable may be given instead: f(subject, options) -> rows, where
#: subject has labels (Image), k, depth, channels (on the labels' grid) and natives, and
#: a row is `habitat.features.Row`(region, channel, feature, value).
FAMILIES: Mapping[str, Family] = {
    "composition": _composition,
    "intensity": _intensity,
    "radiomics": _radiomics,
    "shape": _shape,
    "spatial": _spatial,
    "diversity": _diversity,
    "pet": _pet,
    "rings": _rings,
}

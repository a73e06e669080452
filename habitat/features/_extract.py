"""extract(): every feature of every habitat, in one long table."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from habitat._check import instance, integer, one_of
from habitat.case import SUV_UNITS
from habitat.errors import ConfigError
from habitat.features._composition import counts
from habitat.features._families import (
    FAMILIES,
    Family,
    Options,
    layers,
    ring_layers,
)
from habitat.features._rings import KEPT_LEAST, Rings, ring
from habitat.features._settings import RadiomicsSettings
from habitat.features._subject import Subject, by_channel, of_labels, of_result
from habitat.features._table import Row, long

if TYPE_CHECKING:
    import pandas as pd

    from habitat.io._sources import ImageLike
    from habitat.result import HabitatResult

Settings: TypeAlias = "RadiomicsSettings | str | os.PathLike[str]"

ENGINES = ("numba", "pyradiomics")


def extract(
    habitats: HabitatResult | ImageLike,
    images: Mapping[str, Any] | None = None,
    *,
    families: Sequence[str | Family] | None = None,
    spacing: float | Sequence[float] | str | None = "auto",
    settings: Settings | Mapping[str, Settings] | None = None,
    engine: str = "numba",
    min_voxels: int = 64,
    rings: Rings | None = None,
    case_id: str = "case",
) -> pd.DataFrame:
    """Extract features of a tumor, its habitats and the rings around it.

    Parameters
    ----------
    habitats : HabitatResult, path, SimpleITK.Image, Image or array of shape (z, y, x)
        A result of `segment`, or any map of whole numbers: 0 outside the tumor,
        habitats 1..k. A boolean array has a tumor and no habitats.
    images : mapping of str to image-like, optional
        The native images by channel ("pet" and "ct" mean SUVbw and HU), on grids of
        their own. A result reads them from the files that it was made of, and refuses
        them if they were changed since. Pass what was given in memory.
    families : sequence of str or callable, optional
        Names of `FAMILIES`, or callables like its values. By default all but "rings",
        and "pet" only where a channel is in SUV.

        - "composition": volume, fraction, presence, distances of centroids;
        - "intensity": statistics of each channel on the grid of the labels, contrasts;
        - "radiomics": first order and texture, as pyradiomics (`settings`);
        - "shape": the 14 shape features of pyradiomics;
        - "spatial": interactions and borders between habitats, components, depth,
          autocorrelation, pair correlation;
        - "diversity": Shannon, Simpson, Hill numbers, Rao's Q;
        - "pet": SUVpeak, metabolic volumes and glycolysis, on the native PET;
        - "rings": the surroundings, see `ring`.
    spacing : float, sequence of float, None or "auto"
        Voxel size, mm (one number, or z, y, x), that images are resampled to for
        radiomics; labels follow by nearest neighbor. "auto": that of `settings`, where
        it is 1 mm for CT, 3 mm for PET, else the in-plane voxel size. None: the grid of
        the labels, with a warning where that is too coarse.
    settings : RadiomicsSettings, path or mapping of str to either, optional
        How radiomics are computed, for all channels or by channel. A path is a
        parameter file of pyradiomics (YAML).
    engine : {"numba", "pyradiomics"}
        What computes radiomics and shape; "pyradiomics" is the library itself, 100
        times slower, for comparison.
    min_voxels : int
        Texture of regions with fewer voxels is NaN, with a note.
    rings : Rings, optional
        The rings to describe in place of those of ``ring(tumor, ct)``; implies the
        family "rings".
    case_id : str
        First column of the table.

    Returns
    -------
    DataFrame
        One row per feature. Columns: case_id, region ("tumor", "h1".."hk", rings such
        as "ring_0_3"), channel ("" where none matters), family, feature, value, unit,
        note (why there is no value), voxels (of the region on its own grid),
        voxels_used (after resampling and re-segmentation) and bins (gray levels from
        lowest to highest). Features of pairs belong to region "tumor"
        (``interaction_1_2``). ``attrs["notes"]`` and ``attrs["settings"]`` hold what a
        reader must know and the settings used for each channel.

    Raises
    ------
    HabitatError
        One of its kinds; the message names all problems found.

    Notes
    -----
    An absent habitat has volume 0, fraction 0, ``present`` 0 and NaN for all else.
    Without a population model the habitats of two patients are only ordered alike: use
    `HabitatModel` before comparing ``h1`` of one with ``h1`` of another.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
    >>> result = habitat.segment(p.pet, p.ct, p.mask, k=2)
    >>> images = {"pet": p.pet, "ct": p.ct}
    >>> table = habitat.extract(result, images, families=("radiomics", "shape"))
    >>> list(table["region"].unique())
    ['tumor', 'h1', 'h2']
    """
    if rings is not None:
        instance("rings", rings, Rings, "rings=habitat.ring(mask, ct, edges=(0, 3, 5))")
    if isinstance(habitats, Subject):  # one that was opened before
        subject = habitats
    else:
        opened = of_result if hasattr(habitats, "mask_geometry") else of_labels
        subject = opened(habitats, images)
    options = Options(
        settings=_settings(settings, spacing, subject),
        spacing=spacing,
        engine=one_of("engine", engine, ENGINES),
        min_voxels=integer("min_voxels", min_voxels, 1, 10**9),
        rings=rings,
        notes=list(subject.notes),
    )
    chosen = _chosen(families, subject, rings is not None)
    if rings is None and any(name == "rings" for name, _ in chosen):
        ct = next((c for c, i in subject.channels.items() if i.unit == "HU"), None)
        inside = subject.tumor.replace(subject.labels.array > 0)
        made = ring(inside, None if ct is None else subject.native(ct))
        options = replace(options, rings=made)
    sizes = _sizes(subject, options.rings)
    found = [
        (name, _explained(row, sizes, options.rings))
        for name, family in chosen
        for row in _rows_of(name, family(subject, options))
    ]
    table = long(str(case_id), found)
    table.attrs["notes"] = list(dict.fromkeys(options.notes))
    table.attrs["settings"] = options.used
    return table


def _rows_of(name: str, found: Any) -> Iterator[Row]:
    """Rows of a family, of one's own too."""
    for row in found if isinstance(found, Iterable) else [found]:
        if not isinstance(row, Row):
            what = f"must yield habitat.features.Row, got {row!r:.60}"
            raise ConfigError(what, f"`families`, {name}")
        yield row


def _sizes(subject: Subject, rings: Rings | None) -> dict[str, int]:
    """Voxels of each region on its own grid."""
    every = layers(subject) + ([] if rings is None else ring_layers(rings))
    return {
        name: int(size)
        for layer in every
        for name, size in zip(
            layer.names, counts(layer.labels.array, layer.n), strict=True
        )
    }


def _explained(row: Row, sizes: Mapping[str, int], rings: Rings | None) -> Row:
    """Say how large a region is and why a value is missing; drop a lost ring's."""
    size = sizes.get(row.region, 0)
    row = row._replace(voxels=size)
    kept = 1.0 if rings is None else rings.kept.get(row.region, 1.0)
    if kept < KEPT_LEAST and row.feature not in ("volume_ml", "kept_fraction"):
        return row._replace(value=math.nan, note=f"{kept:.0%} of the ring is left")
    if math.isnan(row.value) and not row.note:
        return row._replace(note="not defined" if size else "no voxel")
    return row


def _settings(
    given: Settings | Mapping[str, Settings] | None,
    spacing: float | Sequence[float] | str | None,
    subject: Subject,
) -> dict[str, RadiomicsSettings]:
    """Settings of each channel, as given."""
    channels = subject.channels
    by_name: Mapping[str, Any]
    if isinstance(given, Mapping):
        by_name = by_channel(given, channels, "`settings`")
    else:
        by_name = dict.fromkeys(channels, _read(given))
    own = {name: _read(by_name.get(name)) for name in channels}
    if isinstance(spacing, str) and spacing == "auto":
        return own
    return {name: replace(one, spacing=spacing) for name, one in own.items()}


def _read(settings: Settings | None) -> RadiomicsSettings:
    if settings is None:
        return RadiomicsSettings()
    if isinstance(settings, RadiomicsSettings):
        return settings
    if isinstance(settings, (str, os.PathLike)):
        return RadiomicsSettings.from_yaml(settings)
    what = f"must be RadiomicsSettings or a path, got {type(settings).__name__}"
    raise ConfigError(what, "`settings`")


def _chosen(
    families: Sequence[str | Family] | None, subject: Subject, with_rings: bool
) -> list[tuple[str, Family]]:
    suv = any(i.unit in SUV_UNITS and not i.is_map for i in subject.channels.values())
    if families is None:
        left_out = {"rings", *(() if suv else ("pet",))}
        families = [name for name in FAMILIES if name not in left_out]
    elif isinstance(families, str) or not families:
        what = f"must be a sequence of names, got {families!r}"
        raise ConfigError(what, "`families`", "for example ('composition', 'shape')")
    elif "pet" in families and not suv:
        raise ConfigError("'pet' needs a channel in SUV", "`families`")
    if with_rings and "rings" not in families:
        families = [*families, "rings"]
    chosen = [
        (getattr(f, "__name__", "custom"), f)
        if callable(f)
        else (one_of("families", f, FAMILIES), FAMILIES[f])
        for f in families
    ]
    named = [f for f in families if isinstance(f, str)]
    if len(set(named)) < len(named):
        raise ConfigError(f"names one twice: {', '.join(named)}", "`families`")
    return chosen

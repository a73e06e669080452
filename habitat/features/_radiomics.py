"""Radiomics of prepared images, all regions of a layer in one pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from habitat.features._filters import filtered
from habitat.features._ibsi import ibsi_profile
from habitat.features._prepare import Computed, Labels, Prepared, intensity_layers
from habitat.features._settings import RadiomicsSettings
from habitat.features._shape import shape
from habitat.features._texture import discretize, first_order, texture
from habitat.geometry import Floats

TEXTURE = ("glcm", "glrlm", "glszm", "gldm", "ngtdm")


def run(
    prepared: Prepared, settings: RadiomicsSettings, min_voxels: int = 64
) -> Iterator[Computed]:
    """Compute the features of all regions on all images.

    Parameters
    ----------
    prepared : Prepared
        Image and regions on one grid.
    settings : RadiomicsSettings
        Of this channel (`RadiomicsSettings.for_channel`).
    min_voxels : int
        Texture of regions with fewer voxels is NaN.

    Yields
    ------
    Computed
        For each image the features of each layer; shape first, if it is asked for,
        or what IBSI has beyond pyradiomics.
    """
    spacing, box = prepared.image.geometry.spacing, prepared.inner
    if settings.ibsi:
        yield from ibsi_profile(prepared, settings, min_voxels)
    elif settings.names("shape"):
        for layer, labels in enumerate(prepared.layers):
            voxels = prepared.counts[layer]
            found = _wanted(shape(labels[box], len(voxels), spacing), settings)
            yield Computed("original", layer, voxels, np.zeros_like(voxels), found)
    if not any(settings.names(kind) for kind in ("firstorder", *TEXTURE)):
        return
    used = [labels[box] for labels in intensity_layers(prepared, settings)]
    for one in settings.filters:
        bins = settings.bins(one)
        images = filtered(prepared.image.array, spacing, [one], box, peak=prepared.peak)
        for name, values in images:
            for layer, labels in enumerate(used):
                n = len(prepared.counts[layer])
                levels, spans = discretize(values, labels, n, **bins._asdict())
                found = _features(values, levels, labels, n, spacing, settings)
                voxels = np.bincount(labels.ravel(), minlength=n + 1)[1:]
                for key, column in found.items():
                    if not key.startswith("firstorder"):
                        column[voxels < min_voxels] = np.nan
                yield Computed(name, layer, voxels, spans, _wanted(found, settings))


def _features(
    values: Floats,
    levels: npt.NDArray[np.int32],
    labels: Labels,
    n: int,
    spacing: tuple[float, float, float],
    settings: RadiomicsSettings,
) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    if settings.names("firstorder"):
        found |= first_order(
            values,
            levels,
            labels,
            n,
            spacing,
            shift=settings.voxel_shift,
            ibsi=settings.ibsi,
        )
    classes = tuple(kind for kind in TEXTURE if settings.names(kind))
    if classes:
        found |= texture(
            levels,
            labels,
            n,
            classes=classes,
            dims=settings.dims,
            merge=bool(settings.merge),
            ibsi=settings.ibsi,
        )
    return found


def _wanted(found: dict[str, Floats], settings: RadiomicsSettings) -> dict[str, Floats]:
    """Leave out single features that were not asked for."""
    keep = set(settings.features)
    return {
        name: column
        for name, column in found.items()
        if name in keep or name.split("_")[0] in keep
    }

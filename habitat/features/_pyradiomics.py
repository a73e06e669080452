"""Radiomics by the library pyradiomics itself, as the reference for our own.

Each label is cropped and its values discretized and described by the library's classes;
images are filtered once for all labels by ``radiomics.imageoperations``, on the same
crop as ours. Source: van Griethuysen 2017, doi:10.1158/0008-5472.CAN-17-0339.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from radiomics import getFeatureClasses, imageoperations

from habitat.errors import ConfigError, InputError
from habitat.features._filters import LBP2D, Filter, LoG, Plain, Wavelet, as_filter
from habitat.features._prepare import (
    Computed,
    Labels,
    Prepared,
    intensity_layers,
)
from habitat.features._settings import CLASSES, RadiomicsSettings
from habitat.features._texture import is_flat
from habitat.geometry import Floats, bounding_box

_SCALED = ("square", "squareroot", "logarithm", "exponential")  # by the whole image
_IMAGINARY = 1e-6  # rounding of a square root of what should be 0


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
        For each image the features of each layer, shape apart as of the first image.

    Raises
    ------
    ConfigError
        If the settings ask for what the library does not have.
    InputError
        If a filter meets NaN or has too few voxels, values lie below `bin_from`, or the
        library returns a complex number.
    """
    if settings.ibsi or settings.dims == "2d":
        what = f"pyradiomics has no ibsi={settings.ibsi} with dims={settings.dims!r}"
        raise ConfigError(what, "`engine`", "take engine='numba'")
    wanted = {kind: settings.names(kind) for kind in CLASSES}
    shape, others = {"shape": wanted.pop("shape")}, wanted
    if shape["shape"]:
        for layer, labels in enumerate(prepared.layers):
            image = prepared.image.array
            yield _described("original", image, layer, labels, prepared, shape, {}, 1)
    if not any(others.values()):
        return
    used = intensity_layers(prepared, settings)
    for one in map(as_filter, settings.filters):
        options = _options(settings, one)
        with _quiet():
            images = list(_images(prepared, one))
        for name, values in images:
            for layer, labels in enumerate(used):
                yield _described(
                    name, values, layer, labels, prepared, others, options, min_voxels
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's log and warnings (division by 0, ...) to itself."""
    logger = logging.getLogger("radiomics")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _options(settings: RadiomicsSettings, one: Filter) -> dict[str, Any]:
    """Settings of the feature classes in the library's words."""
    width, count, low = settings.bins(one)
    bins = {"binCount": count} if width is None else {"binWidth": width}
    return {
        **bins,
        "binFrom": low,  # ours, see `_FromEdge`
        "force2D": settings.dims == "2.5d",
        "force2Ddimension": 0,
        "voxelArrayShift": settings.voxel_shift,
        "weightingNorm": "no_weighting" if settings.merge else None,
    }


def _described(
    name: str,
    values: Floats,
    layer: int,
    labels: Labels,
    prepared: Prepared,
    wanted: dict[str, tuple[str, ...]],
    options: dict[str, Any],
    min_voxels: int,
) -> Computed:
    """Features of all regions of a layer."""
    n = len(prepared.counts[layer])
    voxels = np.bincount(labels.ravel(), minlength=n + 1)[1:].astype(np.int64)
    bins = np.zeros(n, np.int64)
    found = {
        f"{kind}_{key}": np.full(n, np.nan) for kind in wanted for key in wanted[kind]
    }
    for i in np.flatnonzero(voxels):
        own = labels == i + 1
        box = bounding_box(own)
        image = _simpleitk(values[box], prepared.image.geometry.spacing)
        mask = _simpleitk(own[box].astype(np.uint8), prepared.image.geometry.spacing)
        for kind, names in wanted.items():
            texture = kind not in ("shape", "firstorder")
            if not names or (texture and voxels[i] < min_voxels):
                continue
            with _quiet():
                made = _made(kind, image, mask, options, is_flat(values[own]))
                results = _results(made, names)
            for key, value in results.items():
                found[f"{kind}_{key}"][i] = value
        if options:
            bins[i] = _levels(values[box], own[box], options)
    return Computed(name, layer, voxels, bins, found)


def _made(kind: str, image: Any, mask: Any, options: dict[str, Any], flat: bool) -> Any:
    """Return an object of one of the library's feature classes."""
    base = getFeatureClasses()[kind]
    if options and (flat or options["binFrom"] is not None):
        base = type(kind, (_FromEdge, base), {"__module__": base.__module__})
    return base(image, mask, **options)


class _FromEdge:
    """Bins the library does not have: from a fixed edge, and of rounding alone."""

    maskArray: npt.NDArray[np.bool_]  # noqa: N815 (the library's name)
    settings: dict[str, Any]
    coefficients: dict[str, Any]

    def _applyBinning(self, matrix: Floats) -> npt.NDArray[np.int64]:  # noqa: N802
        levels = _binned(matrix, self.maskArray, self.settings)
        self.coefficients["grayLevels"] = np.unique(levels[self.maskArray])
        self.coefficients["Ng"] = int(levels.max())
        return levels


def _binned(
    values: Floats, own: npt.NDArray[np.bool_], options: dict[str, Any]
) -> npt.NDArray[np.int64]:
    """Gray levels of a region, 0 outside."""
    low, width = options["binFrom"], options.get("binWidth")
    if is_flat(values[own]):
        values = np.where(own, values[own].min(), values)
    if low is None:
        levels = imageoperations.binImage(values, own, **options)[0]
        return np.asarray(levels, np.int64)
    below = int(np.count_nonzero(values[own] < low))
    if below:
        what = f"{below} values lie below {low:g}, the lowest {values[own].min():g}"
        raise InputError(what, "`bin_from`", "lower it, or leave them out: `resegment`")
    edges = low + width * np.arange((values[own].max() - low) // width + 2)
    levels = np.zeros(values.shape, np.int64)
    levels[own] = np.digitize(values[own], edges)
    return levels


def _levels(values: Floats, own: npt.NDArray[np.bool_], options: dict[str, Any]) -> int:
    levels = _binned(values, own, options)[own]
    return int(levels.max() - levels.min()) + 1


def _results(made: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return plain numbers; NaN where the library finds none."""
    for name in names:
        made.enableFeatureByName(name)
    try:
        values = made.execute()
    except RuntimeError as error:  # a lone voxel, a column in 2.5-D: no neighbors
        if "angle count" not in str(error):
            raise
        return {}
    return {name: _plain(name, value) for name, value in values.items()}


def _plain(name: str, value: Any) -> float:
    """Return a float of a number that may be an array, or complex without need."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biufc":
        raise InputError(f"{name} is {value!r:.60}, not a number", "pyradiomics")
    number = complex(array.item())
    if abs(number.imag) > _IMAGINARY * max(1.0, abs(number.real)):
        fix = "take engine='numba'"
        raise InputError(f"{name} is the complex number {number}", "pyradiomics", fix)
    return number.real


def _images(prepared: Prepared, one: Filter) -> Iterator[tuple[str, Floats]]:
    """Filter the crop by the library."""
    values = prepared.image.array
    name, options = _named(one)
    if name == "Original":
        yield "original", values
        return
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        what = f"{bad} of {values.size} voxels around the regions are NaN or infinite"
        fix = "maps that end at the tumor cannot be filtered: take 'original' only"
        raise InputError(what, type(one).__name__, fix)
    scaled = name.lower() in _SCALED
    if scaled:  # by a last slice that holds the largest value of the whole image
        last = np.full((1, *values.shape[1:]), prepared.peak)
        values = np.concatenate([values, last])
    image = _simpleitk(values, prepared.image.geometry.spacing)
    made = getattr(imageoperations, f"get{name}Image")(image, None, **options)
    count = 0
    for filtered, image_type, _ in made:
        array = sitk.GetArrayFromImage(filtered).astype(np.float64)
        yield image_type, array[:-1] if scaled else array
        count += 1
    if not count:
        size = "x".join(map(str, values.shape))
        what = f"pyradiomics makes no image of {size} voxels"
        raise InputError(what, type(one).__name__)


def _named(one: Filter) -> tuple[str, dict[str, Any]]:
    """Return the library's name of a filter, and its settings."""
    if isinstance(one, LoG):
        return "LoG", {"sigma": list(one.sigma_mm)}
    if isinstance(one, Wavelet):
        options = {"wavelet": one.name, "level": one.level}
        flat = {"force2D": one.in_plane, "force2Ddimension": 0}
        return "Wavelet", {**options, "start_level": one.start_level, **flat}
    if isinstance(one, LBP2D):
        options = {"lbp2DRadius": one.radius, "lbp2DSamples": one.samples}
        return "LBP2D", {**options, "lbp2DMethod": one.method}
    assert isinstance(one, Plain)
    return {"squareroot": "SquareRoot"}.get(one.name, one.name.title()), {}


def _simpleitk(array: npt.NDArray[Any], spacing: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    return image

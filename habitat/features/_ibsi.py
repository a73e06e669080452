"""IBSI-1 features that pyradiomics does not have.

Intensity histogram, intensity-volume histogram, local intensity peaks and distance
zones as the Image Biomarker Standardisation Initiative defines them (reference
manual arXiv:1612.07003; Zwanenburg et al. 2020, doi 10.1148/radiol.2020191145).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.measure import label

from habitat.case import SUV_UNITS
from habitat.features._pattern import autocorrelation
from habitat.features._pet import peaks
from habitat.features._prepare import Computed, Prepared, intensity_layers
from habitat.features._settings import RadiomicsSettings
from habitat.features._shape import ibsi_shape, shape
from habitat.features._texture import discretize, first_order
from habitat.geometry import Floats

Ints = npt.NDArray[np.integer[Any]]
Row = dict[str, float]


class VolumeBins(NamedTuple):
    """Gray levels of the intensity-volume histogram.

    Without width and number the values are discrete already (whole HU) and stand for
    themselves; with `width` the centers of bins from `low` on do (SUV); with `number`
    the numbers of as many bins between the extremes of a region (arbitrary units).
    `low` and `high` are the ends of the axis where re-segmentation fixed them.
    """

    low: float | None = None
    high: float | None = None
    width: float | None = None
    number: int | None = None


_AS_THEY_ARE = VolumeBins()
_SUV_STEP = 0.1
_STEPS = 1000  # of the volume histogram of arbitrary units


def ibsi_profile(
    prepared: Prepared,
    settings: RadiomicsSettings,
    min_voxels: int = 64,
    *,
    volume_bins: VolumeBins | None = None,
) -> Iterator[Computed]:
    """Compute what `RadiomicsSettings(ibsi=True)` adds on the original image.

    Parameters
    ----------
    prepared : Prepared
        Image and regions on one grid, with 6.2 mm of the image around them.
    settings : RadiomicsSettings
        Of this channel (`RadiomicsSettings.for_channel`).
    min_voxels : int
        Distance zones of regions with fewer voxels are NaN.
    volume_bins : VolumeBins, optional
        By default whole HU within the range of re-segmentation, 0.1 SUV, or 1000
        levels for all else.

    Yields
    ------
    Computed
        For each layer `ibsi_features`, the local intensity peaks and all of IBSI's
        morphology.
    """
    spacing, box = prepared.image.geometry.spacing, prepared.inner
    values = prepared.image.array[box]
    volume_bins = volume_bins or _default_bins(prepared, settings)
    bins = settings.bins("original")._asdict()
    for layer, used in enumerate(intensity_layers(prepared, settings)):
        labels, n = prepared.layers[layer][box], len(prepared.counts[layer])
        kept = used[box]
        levels, spans = discretize(values, kept, n, **bins)
        found = ibsi_features(
            values,
            kept,
            labels,
            levels,
            n,
            spacing,
            dims=settings.dims,
            volume_bins=volume_bins,
        )
        # spheres reach beyond the box
        highest = peaks(prepared.image.array, used, n, spacing, whole=False)
        found["local_LocalPeak"] = highest["suv_peak_local"]
        found["local_GlobalPeak"] = highest["suv_peak_global"]
        found |= _morphology(labels, kept, values, n, spacing)
        voxels = np.bincount(kept.ravel(), minlength=n + 1)[1:]
        for name, column in found.items():
            if name.startswith("gldzm"):
                column[voxels < min_voxels] = np.nan
        yield Computed("original", layer, voxels, spans, found)


def _morphology(
    labels: Ints,
    kept: Ints,
    values: Floats,
    n: int,
    spacing: tuple[float, float, float],
) -> dict[str, Floats]:
    found = shape(labels, n, spacing) | ibsi_shape(labels, n, spacing, values, kept)
    relations = autocorrelation(values, kept, n, spacing)
    found["shape_MoranI"] = relations["moran_i"]
    found["shape_GearyC"] = relations["geary_c"]
    return found


def _default_bins(prepared: Prepared, settings: RadiomicsSettings) -> VolumeBins:
    image = prepared.image
    physical = not image.is_map and settings.normalize is None
    low, high = settings.resegment or (None, np.inf)
    ends = (low, high if np.isfinite(high) else None)
    if physical and image.unit == "HU":
        return VolumeBins(*ends)
    if physical and image.unit in SUV_UNITS:
        return VolumeBins(*ends, width=_SUV_STEP)
    return VolumeBins(number=_STEPS)


def ibsi_features(
    values: Floats,
    intensity_labels: Ints,
    labels: Ints,
    levels: Ints,
    n: int,
    spacing: tuple[float, float, float],
    *,
    dims: str = "3d",
    volume_bins: VolumeBins = _AS_THEY_ARE,
) -> dict[str, Floats]:
    """Compute what IBSI-1 defines beyond the features of pyradiomics.

    Parameters
    ----------
    values : (z, y, x) array
        Intensities on the radiomics grid.
    intensity_labels : (z, y, x) array of int
        Regions after re-segmentation, 1..n, 0 outside.
    labels : (z, y, x) array of int
        Regions before it (the morphological masks): zones lie at a distance from
        their borders.
    levels : (z, y, x) array of int
        Gray levels from 1 on, 0 outside `intensity_labels`.
    n : int
        Number of regions; an absent one has NaN everywhere.
    spacing : (z, y, x)
        Voxel size in mm.
    dims : "3d", "2.5d" or "2d"
        Distance zones in space; in slices, one matrix of all; or in slices, the
        features averaged over them.
    volume_bins : VolumeBins
        Gray levels of the intensity-volume histogram.

    Returns
    -------
    dict
        Feature name ("firstorder_CoefficientOfVariation", "histogram_Mode",
        "ivh_VolumeAt10", "gldzm_ZonePercentage", ...) to (n,) float64.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[[1.0, 1, 2, 4]]])
    >>> region = np.ones(values.shape, int)
    >>> found = ibsi_features(values, region, region, values.astype(int), 1, (5, 5, 5))
    >>> found["histogram_Mode"], found["ivh_VolumeAt10"]
    (array([1.]), array([0.5]))
    """
    names = _one_region(np.zeros(1), np.ones(1, int), volume_bins)
    found = {name: np.full(n, np.nan) for name in names}
    for number in range(1, n + 1):
        inside = intensity_labels == number
        if inside.any():
            one = _one_region(values[inside], levels[inside], volume_bins)
            for name, value in one.items():
                found[name][number - 1] = value
    gray = first_order(
        levels.astype(float), levels, intensity_labels, n, spacing, ibsi=True
    )
    found |= {f"histogram_{name}": gray[f"firstorder_{name}"] for name in _SHARED}
    return found | distance_zones(levels, intensity_labels, labels, n, dims=dims)


#: Features that levels have as values have them.
_SHARED = (
    "Mean",
    "Variance",
    "Skewness",
    "Kurtosis",
    "Median",
    "Minimum",
    "10Percentile",
    "90Percentile",
    "Maximum",
    "InterquartileRange",
    "Range",
    "MeanAbsoluteDeviation",
    "RobustMeanAbsoluteDeviation",
    "Entropy",
    "Uniformity",
)


def _one_region(x: Floats, gray: Ints, bins: VolumeBins) -> Row:
    return {
        **_dispersion("firstorder", x),
        **_dispersion("histogram", gray.astype(float)),
        **_counts(gray),
        **_volume_histogram(x, bins),
    }


def _dispersion(kind: str, x: Floats) -> Row:
    p25, median, p75 = np.percentile(x, (25, 50, 75))
    mean, sums = x.mean(), p75 + p25
    return {
        f"{kind}_MedianAbsoluteDeviation": np.mean(np.abs(x - median)),
        f"{kind}_CoefficientOfVariation": x.std() / mean if mean else np.nan,
        f"{kind}_QuartileDispersion": (p75 - p25) / sums if sums else np.nan,
    }


def _counts(gray: Ints) -> Row:
    """Mode of the gray levels and gradients of the counts of levels 1..highest."""
    count = np.bincount(gray)[1:]
    top = np.flatnonzero(count == count.max()) + 1
    gradient = np.gradient(count.astype(float)) if len(count) > 1 else np.zeros(1)
    return {
        # the manual settles ties by the distance from the mean
        "histogram_Mode": float(top[np.argmin(np.abs(top - gray.mean()))]),
        "histogram_MaximumGradient": float(gradient.max()),
        "histogram_MaximumGradientLevel": float(gradient.argmax() + 1),
        "histogram_MinimumGradient": float(gradient.min()),
        "histogram_MinimumGradientLevel": float(gradient.argmin() + 1),
    }


def _volume_histogram(x: Floats, bins: VolumeBins) -> Row:
    """Share of voxels at or above a level, and levels reached by a share."""
    x, axis = _axis(x, bins)
    ordered = np.sort(x)
    # one level more: no voxel reaches it, so every share has its level
    more = np.append(axis, 2 * axis[-1] - axis[-2] if len(axis) > 1 else axis[-1] + 1)
    volume = 1 - np.searchsorted(ordered, more) / len(x)

    def volume_at(fraction: float) -> float:
        # 1e-9: 0.1 * 70 is a little above 7
        return float(volume[int(np.ceil(fraction * (len(axis) - 1) - 1e-9))])

    def intensity_at(fraction: float) -> float:
        return float(more[np.argmax(volume <= fraction + 1e-12)])

    v10, v90, i10, i90 = (f(p) for f in (volume_at, intensity_at) for p in (0.1, 0.9))
    return {
        "ivh_VolumeAt10": v10,
        "ivh_VolumeAt90": v90,
        "ivh_IntensityAt10": i10,
        "ivh_IntensityAt90": i90,
        "ivh_VolumeDifference": v10 - v90,
        "ivh_IntensityDifference": i10 - i90,
    }


def _axis(x: Floats, bins: VolumeBins) -> tuple[Floats, Floats]:
    """Values as levels of the intensity axis, and all levels."""
    low = x.min() if bins.low is None else bins.low
    high = x.max() if bins.high is None else bins.high
    if bins.number is not None:
        width = (high - low) / bins.number or 1.0
        index = np.minimum((x - low) // width, bins.number - 1)
        return index + 1, np.arange(1.0, bins.number + 1)
    if bins.width is None:
        return x, np.arange(low, high + 0.5)
    index = (x - low) // bins.width
    if bins.high is None:
        size = int(index.max()) + 1
    else:
        size = round((high - low) / bins.width)
    centers = np.asarray(low + (np.arange(size) + 0.5) * bins.width, np.float64)
    return centers[np.minimum(index, size - 1).astype(int)], centers


def distance_zones(
    levels: Ints, intensity_labels: Ints, labels: Ints, n: int, *, dims: str = "3d"
) -> dict[str, Floats]:
    """Compute the features of the gray level distance zone matrix (IBSI VMDZ).

    A zone (connected voxels of one level) lies as deep as its voxel nearest to the
    border of the morphological mask, in steps across faces; the arguments are those
    of `ibsi_features`.
    """
    inside = intensity_labels > 0
    slices = len(levels) if dims == "2d" else 1
    z = np.nonzero(inside)[0] if dims == "2d" else 0
    region = intensity_labels.astype(np.int64)  # 8 bits are too few for what follows
    group = (region[inside] - 1) * slices + z
    key = np.where(inside, levels + region * (levels.max() + 1), 0)
    zone = _zones(key, dims)[inside]
    depth = _border_distance(labels, n, dims)[inside]

    _, first = np.unique(zone, return_index=True)  # zones are numbered from 1
    nearest = np.full(len(first), np.iinfo(np.int64).max)
    np.minimum.at(nearest, zone - 1, depth)
    found = _zone_features(
        group[first],
        levels[inside][first].astype(np.int64),
        nearest,
        np.bincount(group, minlength=n * slices),
    )
    return {k: _mean_of_known(v.reshape(n, slices)) for k, v in found.items()}


def _mean_of_known(x: Floats) -> Floats:
    known = np.isfinite(x)
    count = known.sum(1)
    out = np.full(len(x), np.nan)
    np.divide(np.where(known, x, 0.0).sum(1), count, out=out, where=count > 0)
    return out


def _zones(key: Ints, dims: str) -> Ints:
    """Number of the zone of one region and level that each voxel belongs to."""
    step = 1 if dims == "3d" else 2  # empty slices between keep zones in their plane
    apart = np.zeros((step * len(key), *key.shape[1:]), key.dtype)
    apart[::step] = key
    found = label(apart, connectivity=3)  # type: ignore[no-untyped-call]
    return np.asarray(found[::step], np.int64)


def _border_distance(labels: Ints, n: int, dims: str) -> npt.NDArray[np.int64]:
    """Steps across faces from a voxel of a region to the first one outside."""
    steps = ndimage.generate_binary_structure(3, 1)
    if dims != "3d":
        steps[[0, 2]] = False
    out = np.zeros(labels.shape, np.int64)
    for number, box in enumerate(ndimage.find_objects(labels, n), 1):
        if box is not None:
            region = labels[box] == number
            # the border of the image is a border of the region
            deep = ndimage.distance_transform_cdt(np.pad(region, 1), metric=steps)
            out[box][region] = deep[1:-1, 1:-1, 1:-1][region]
    return out


def _zone_features(
    group: Ints, level: Ints, distance: Ints, voxels: Ints
) -> dict[str, Floats]:
    """Features per group; one entry a zone, `voxels` per group."""
    groups = len(voxels)
    zones = np.bincount(group, minlength=groups).astype(float)
    known = zones > 0

    def total(of: Ints, weight: Floats) -> Floats:
        return np.asarray(np.bincount(of, weight, groups), np.float64)

    def mean(weight: Floats) -> Floats:
        out = np.full(groups, np.nan)
        np.divide(total(group, weight), zones, out=out, where=known)
        return out

    def counts(*axes: Ints) -> tuple[Ints, Floats]:
        cells, count = np.unique(np.stack((group, *axes)), axis=1, return_counts=True)
        return cells[0], count.astype(float)

    def uniformity(axis: Ints) -> Floats:
        of, count = counts(axis)
        return total(of, count**2)

    def variance(x: Floats) -> Floats:
        return mean((x - mean(x)[group]) ** 2)

    of, count = counts(level, distance)
    share = count / zones[of]
    i, d = level.astype(float), distance.astype(float)
    gray, deep = uniformity(level), uniformity(distance)
    with np.errstate(invalid="ignore"):  # groups without voxels: 0 / 0
        found = {
            "SmallDistanceEmphasis": mean(d**-2),
            "LargeDistanceEmphasis": mean(d**2),
            "LowGrayLevelZoneEmphasis": mean(i**-2),
            "HighGrayLevelZoneEmphasis": mean(i**2),
            "SmallDistanceLowGrayLevelEmphasis": mean((d * i) ** -2),
            "SmallDistanceHighGrayLevelEmphasis": mean((i / d) ** 2),
            "LargeDistanceLowGrayLevelEmphasis": mean((d / i) ** 2),
            "LargeDistanceHighGrayLevelEmphasis": mean((d * i) ** 2),
            "GrayLevelNonUniformity": gray / zones,
            "GrayLevelNonUniformityNormalized": gray / zones**2,
            "ZoneDistanceNonUniformity": deep / zones,
            "ZoneDistanceNonUniformityNormalized": deep / zones**2,
            "ZonePercentage": zones / voxels,
            "GrayLevelVariance": variance(i),
            "ZoneDistanceVariance": variance(d),
            "ZoneDistanceEntropy": np.where(
                known, total(of, -share * np.log2(share)), np.nan
            ),
        }
    return {f"gldzm_{name}": value for name, value in found.items()}

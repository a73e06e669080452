"""How radiomics are computed, checked as a whole and filled in by modality."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np

from habitat._check import at_least, collector, integer, keep, one_of
from habitat.case import SUV_UNITS
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.features._filters import Filter, FilterLike, LoG, Plain, as_filter
from habitat.io._grids import ORDERS, default_interpolation
from habitat.kernels import texture, texture_pairs, texture_runs, texture_zones

SHAPE = (
    "MeshVolume",
    "VoxelVolume",
    "SurfaceArea",
    "SurfaceVolumeRatio",
    "Sphericity",
    "Maximum3DDiameter",
    "Maximum2DDiameterSlice",
    "Maximum2DDiameterColumn",
    "Maximum2DDiameterRow",
    "MajorAxisLength",
    "MinorAxisLength",
    "LeastAxisLength",
    "Elongation",
    "Flatness",
)
CLASSES: dict[str, tuple[str, ...]] = {
    "shape": SHAPE,
    "firstorder": texture.FIRSTORDER,
    "glcm": texture_pairs.GLCM,
    "glrlm": texture_runs.GLRLM,
    "glszm": texture_zones.GLSZM,
    "gldm": texture_zones.GLDM,
    "ngtdm": texture_zones.NGTDM,
}
_INTENSITY = tuple(CLASSES)[1:]
_MOST_BINS = 4096  # co-occurrence matrices of 0.9 GB


class Bins(NamedTuple):
    """How the values of one image become gray levels."""

    bin_width: float | None
    bin_count: int | None
    bin_from: float | None  # lower edge of the first bin


@dataclass(frozen=True, kw_only=True)
class RadiomicsSettings:
    """How radiomics are computed.

    Parameters
    ----------
    features : sequence of str
        Classes ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm", "shape") and
        single features ("glcm_Contrast").
    filters : sequence of str or options
        Images to compute them of: "original", "wavelet", "square", "squareroot",
        "logarithm", "exponential", "gradient", "lbp-2d", or `LoG`, `Wavelet`, `LBP2D`,
        `Plain` objects.
    bin_width, bin_count : number, optional
        Gray levels of a fixed width, or a fixed number of them. By default 25 HU, 0.25
        SUV from 0, and 32 levels for all else.
    bin_from : float, optional
        Lower edge of the first bin of the original image (IBSI's fixed bin size). By
        default the largest multiple of the width that is not above any value
        (pyradiomics).
    spacing : "auto", None, float or sequence of float, mm
        Voxel size, one number or (z, y, x), to resample to; 0 keeps the image's own.
        "auto" is 1 mm for HU, 3 mm for SUV, else the in-plane voxel size in all three
        directions. None is the grid of the labels.
    interpolation : {"auto", "linear", "cubic", "nearest"}
        "auto" is cubic B-spline for HU, else linear. HU are rounded to integers; where
        corners are aligned whole numbers are cut off, as pyradiomics does.
    alignment : {"center", "corner"}
        What the old and new grid have in common: their center (IBSI) or the corner of
        the first voxel (pyradiomics).
    mask_interpolation : {"auto", "nearest", "linear"}
        How regions come to the grid; "linear" takes voxels of which a region has half
        or more. "auto" is linear for IBSI, else nearest.
    resegment : sequence of two floats, optional
        Leave voxels outside of this range out of all but shape; the upper end may be
        ``inf``. By default SUV from 0 on where the bins are those by default, else
        all voxels stay.
    outliers : float, optional
        Leave voxels out that are further than so many standard deviations (IBSI: 3)
        from the mean of their region.
    normalize : float, optional
        Bring the whole image to mean 0 and this standard deviation first.
    voxel_shift : float
        Added to values in first-order Energy, TotalEnergy and RootMeanSquared.
    dims : {"3d", "2.5d", "2d"}
        Neighbors of texture: all 26; those in the slice (pyradiomics' ``force2D``); or
        texture of every slice, then averaged.
    merge : bool, optional
        Sum the matrices of all directions and compute features once (IBSI "merged"), in
        place of the mean of the features of each. By default with `ibsi`.
    ibsi : bool
        Follow IBSI where pyradiomics departs from it (kurtosis, coarse matrices without
        neighbors, ...). A fixed width then needs `bin_from` or `resegment`.

    Raises
    ------
    ConfigError
        Names all that is wrong.

    Examples
    --------
    >>> settings = RadiomicsSettings(bin_width=10, resegment=(-500, 400))
    >>> settings.for_channel("HU", False, (3, 0.9, 0.9)).spacing
    (1.0, 1.0, 1.0)
    """

    features: Sequence[str] = _INTENSITY
    filters: Sequence[FilterLike] = ("original",)
    bin_width: float | None = None
    bin_count: int | None = None
    bin_from: float | None = None
    spacing: str | float | Sequence[float] | None = "auto"
    interpolation: str = "auto"
    alignment: str = "center"
    mask_interpolation: str = "auto"
    resegment: Sequence[float] | None = None
    outliers: float | None = None
    normalize: float | None = None
    voxel_shift: float = 0.0
    dims: str = "3d"
    merge: bool | None = None
    ibsi: bool = False

    def __post_init__(self) -> None:
        problems: list[HabitatError] = []
        check = collector(problems)
        checked: dict[str, Any] = {
            "features": check(_features, self.features),
            "filters": check(_filters, self.filters),
            "spacing": check(_spacing, self.spacing),
            "resegment": check(_range, self.resegment),
            "voxel_shift": check(_number, "voxel_shift", self.voxel_shift),
        }
        for name in ("bin_width", "outliers", "normalize"):
            checked[name] = check(_optional, _positive, name, getattr(self, name))
        checked["bin_from"] = check(_optional, _number, "bin_from", self.bin_from)
        checked["bin_count"] = check(_optional, _count, "bin_count", self.bin_count)
        for name, allowed in _CHOICES.items():
            check(one_of, name, getattr(self, name), allowed)
        checked["ibsi"] = check(_flag, "ibsi", self.ibsi)
        checked["merge"] = check(_optional, _flag, "merge", self.merge)
        check(self._together)
        raise_all(problems)
        keep(self, **checked)

    def _together(self) -> None:
        if self.bin_width is not None and self.bin_count is not None:
            what = f"got bin_width={self.bin_width} and bin_count={self.bin_count}"
            raise ConfigError(what, "RadiomicsSettings", "give one of the two")
        if self.bin_from is not None and self.bin_count is not None:
            what = "`bin_from` is the edge of bins of a fixed width, got `bin_count`"
            raise ConfigError(what, "RadiomicsSettings", "leave one of them out")
        if self.ibsi and self.alignment != "center":
            what = "IBSI aligns grids by their centers, got alignment='corner'"
            raise ConfigError(what, "RadiomicsSettings", "leave `alignment` out")

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> RadiomicsSettings:
        """Read a parameter file of pyradiomics (YAML or JSON).

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        RadiomicsSettings
            What pyradiomics would do with the file, its defaults included; images
            without ``resampledPixelSpacing`` keep their grid. Filters see as much of
            the image as they need, where pyradiomics cuts it at ``padDistance``: its
            LoG of large width then differs.

        Raises
        ------
        InputError
            If the file cannot be read.
        ConfigError
            If it holds keys or values that have no counterpart here; names all.

        Warns
        -----
        HabitatWarning
            Names the keys that have no effect here (``label``, ``padDistance``, ...).
        """
        from habitat.features._parameters import read_parameters

        return cls(**read_parameters(path))

    def for_channel(
        self, unit: str | None, is_map: bool, spacing: Sequence[float]
    ) -> RadiomicsSettings:
        """Fill in what depends on the modality.

        Parameters
        ----------
        unit : str or None
            Of the image: "HU", "SUVbw", ....
        is_map : bool
            Whether it was computed by `habitat.maps`.
        spacing : sequence of 3 floats, mm
            The image's own voxel size (z, y, x).

        Returns
        -------
        RadiomicsSettings
            Without "auto"; either `bin_width` or `bin_count` is a number.

        Raises
        ------
        ConfigError
            If `ibsi` is set and bins of a fixed width have no lower edge.
        """
        kind = "" if is_map else unit or ""
        out = self
        if self.bin_width is None and self.bin_count is None:
            out = replace(out, **_default_bins(self, kind))
        if out.spacing == "auto":
            own = {"HU": 1.0, **dict.fromkeys(SUV_UNITS, 3.0)}
            out = replace(out, spacing=own.get(kind, sorted(spacing)[1]))
        if out.interpolation == "auto":
            out = replace(out, interpolation=default_interpolation(kind))
        if out.mask_interpolation == "auto":
            how = "linear" if self.ibsi else "nearest"
            out = replace(out, mask_interpolation=how)
        if out.merge is None:
            out = replace(out, merge=self.ibsi)
        return out._with_ibsi_edge() if self.ibsi else out

    def _with_ibsi_edge(self) -> RadiomicsSettings:
        if self.bin_width is None or self.bin_from is not None:
            return self
        if self.resegment is None:
            what = "IBSI needs a lower edge for bins of a fixed width"
            fix = "give `bin_from`, `resegment` or `bin_count`"
            raise ConfigError(what, "RadiomicsSettings", fix)
        return replace(self, bin_from=self.resegment[0])

    def bins(self, image: FilterLike) -> Bins:
        """Return how the image of a filter becomes gray levels.

        `bin_from` holds for the original image only: filtered values have no zero
        of their own.
        """
        one = as_filter(image)
        if one.bin_width is not None or one.bin_count is not None:
            return Bins(one.bin_width, one.bin_count, None)
        original = isinstance(one, Plain) and one.name == "original"
        edge = self.bin_from if original else None
        return Bins(self.bin_width, self.bin_count, edge)

    def names(self, kind: str) -> tuple[str, ...]:
        """Names of the features of a class that are wanted, without the class."""
        if kind in self.features:
            return CLASSES[kind]
        return tuple(n for n in CLASSES[kind] if f"{kind}_{n}" in self.features)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; an infinite end of a range is None."""
        out = asdict(self)
        out["features"] = list(self.features)
        out["filters"] = [_filter_json(as_filter(f)) for f in self.filters]
        if self.resegment is not None:
            out["resegment"] = [v if math.isfinite(v) else None for v in self.resegment]
        if isinstance(self.spacing, tuple):
            out["spacing"] = list(self.spacing)
        return out


_CHOICES = {
    "interpolation": ("auto", *ORDERS),
    "alignment": ("center", "corner"),
    "mask_interpolation": ("auto", "nearest", "linear"),
    "dims": ("3d", "2.5d", "2d"),
}


def _default_bins(settings: RadiomicsSettings, kind: str) -> dict[str, Any]:
    if kind == "HU":
        return {"bin_width": 25.0}
    if kind not in SUV_UNITS:
        if settings.bin_from is not None:
            what = f"`bin_from` needs `bin_width` for unit {kind or None!r}"
            raise ConfigError(what, "RadiomicsSettings")
        return {"bin_count": 32}
    start = 0.0 if settings.bin_from is None else settings.bin_from
    kept = settings.resegment or (start, math.inf)
    return {"bin_width": 0.25, "bin_from": start, "resegment": kept}


def _features(given: Sequence[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else _sequence("features", given)
    if not names:
        fix = "leave it out for all of them"
        raise ConfigError("names no feature", "`features`", fix)
    for name in names:
        kind, _, single = str(name).partition("_")
        one_of("features", kind, CLASSES)
        if single:
            one_of(f"features: {kind}", single, CLASSES[kind])
    return names


def _sequence(name: str, given: Any) -> tuple[Any, ...]:
    if not isinstance(given, Iterable):
        raise ConfigError(f"must be a sequence, got {given!r}", f"`{name}`")
    return tuple(given)


def _filters(given: Sequence[FilterLike]) -> tuple[Filter, ...]:
    each = (given,) if isinstance(given, str | Filter) else given
    filters = tuple(as_filter(one) for one in each)
    if not filters:
        raise ConfigError("names no image", "`filters`", "give ('original',)")
    images = [key for one in filters for key in _images(one)]
    twice = sorted({key for key in images if images.count(key) > 1})
    if twice:
        what = f"makes images of one name twice: {', '.join(twice)}"
        raise ConfigError(what, "`filters`", "compute them one by one")
    return filters


def _images(one: Filter) -> list[str]:
    """What tells the images of a filter from those of others."""
    if isinstance(one, LoG):
        return [f"LoG {sigma:g} mm" for sigma in one.sigma_mm]
    return [one.name if isinstance(one, Plain) else type(one).__name__]


def _filter_json(one: Filter) -> dict[str, Any]:
    set_values = {k: v for k, v in asdict(one).items() if v is not None}
    return {"filter": type(one).__name__, **set_values}


def _spacing(given: Any) -> str | tuple[float, ...] | None:
    if given is None or (isinstance(given, str) and given == "auto"):
        return given
    sizes = (given,) * 3 if isinstance(given, Real | str) else tuple(given)
    if len(sizes) != 3:
        what = f"must be one number or three (z, y, x) in mm, got {given!r}"
        raise ConfigError(what, "`spacing`")
    return tuple(at_least("spacing", s, 0.0) for s in sizes)


def _range(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    ends = tuple(given) if isinstance(given, Sequence) else (given,)
    real = all(isinstance(v, Real) for v in ends)
    if len(ends) != 2 or not real or not ends[0] < ends[1] or math.isinf(ends[0]):
        what = f"must be (low, high) with low < high, got {given!r}"
        raise ConfigError(what, "`resegment`", "high may be math.inf")
    return float(ends[0]), float(ends[1])


def _optional(check: Callable[[str, Any], Any], name: str, given: Any) -> Any:
    return None if given is None else check(name, given)


def _flag(name: str, given: Any) -> bool:
    if not isinstance(given, bool | np.bool_):
        raise ConfigError(f"must be True or False, got {given!r}", f"`{name}`")
    return bool(given)


def _number(name: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, Real):
        raise ConfigError(f"must be a number, got {given!r}", f"`{name}`")
    if not math.isfinite(given):
        raise ConfigError(f"must be finite, got {given!r}", f"`{name}`")
    return float(given)


def _positive(name: str, given: Any) -> float:
    number = _number(name, given)
    if number <= 0:
        raise ConfigError(f"must be > 0, got {given!r}", f"`{name}`")
    return number


def _count(name: str, given: Any) -> int:
    return integer(name, given, 1, _MOST_BINS)

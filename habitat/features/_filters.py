"""Filtered images as pyradiomics makes them, from no more voxels than they need.

pyradiomics filters the whole image. Here the regions' box is filtered with so much
around it that its voxels come out the same. Source: ``radiomics.imageoperations`` 3.1.4
(van Griethuysen 2017, doi:10.1158/0008-5472.CAN-17-0339); the wavelets are stationary
transforms by PyWavelets, the local binary patterns scikit-image's.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import pywt
from skimage import feature

from habitat._check import at_least, integer, keep, one_of
from habitat.errors import ConfigError, InputError
from habitat.geometry import Box, Floats
from habitat.io._filters import gradient_magnitude, laplacian_of_gaussian

__all__ = [
    "LBP2D",
    "Filter",
    "LoG",
    "Plain",
    "Wavelet",
    "as_filter",
    "filtered",
    "margin",
    "needed",
]

FilterLike: TypeAlias = "Filter | str"
_LOG_REACH = 16.0  # standard deviations; at 12 values near 0 are off by up to 4e-4
_LOG_LEAST = 4  # voxels along each axis that the recursion needs
_SAMPLES = 24  # of a circle in an LBP
_METHODS = ("uniform", "default", "ror", "nri_uniform")  # "var" has no gray levels


@dataclass(frozen=True, kw_only=True)
class Filter(ABC):
    """What all filters take: bins of their own.

    Parameters
    ----------
    bin_width, bin_count : number, optional
        Gray levels of the filtered image, where they are not to be those of the
        settings; at most one of the two.
    """

    bin_width: float | None = None
    bin_count: int | None = None
    wraps: ClassVar[bool] = False  # the image's last voxel is its first one's neighbor

    def __post_init__(self) -> None:
        if self.bin_width is not None and self.bin_count is not None:
            what = f"has bin_width={self.bin_width!r} and bin_count={self.bin_count!r}"
            raise ConfigError(what, type(self).__name__, "give one of the two")
        if self.bin_width is not None:
            keep(self, bin_width=_positive("bin_width", self.bin_width))
        if self.bin_count is not None:
            keep(self, bin_count=integer("bin_count", self.bin_count, 1, 2**16))

    @abstractmethod
    def reach(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Voxels (z, y, x) around a voxel on which its filtered value depends."""

    @abstractmethod
    def images(
        self, values: Floats, spacing: Sequence[float], box: Box, peak: float
    ) -> Iterator[tuple[str, Floats]]:
        """Name and values in the box of each image the filter makes."""


@dataclass(frozen=True)
class Plain(Filter):
    """A filter without settings: its name, and its own bins if it has any.

    Parameters
    ----------
    name : {"original", "square", "squareroot", "logarithm", "exponential", "gradient"}
        As pyradiomics calls the image.
    bin_width, bin_count : number, optional
        See `Filter`.

    Notes
    -----
    "square" to "exponential" bring values back to the range of the image by the largest
    absolute value of the whole of it: what is far from the tumor (a couch, the bladder
    on PET) changes their features.

    Examples
    --------
    >>> Plain("gradient", bin_width=5)
    Plain(bin_width=5.0, bin_count=None, name='gradient')
    """

    name: str

    def __post_init__(self) -> None:
        one_of("name", self.name, (*_POINTWISE, "gradient"))
        super().__post_init__()

    def reach(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Nearest neighbors for the gradient, none for the others."""
        return (1, 1, 1) if self.name == "gradient" else (0, 0, 0)

    def images(
        self, values: Floats, spacing: Sequence[float], box: Box, peak: float
    ) -> Iterator[tuple[str, Floats]]:
        """One image, called as the filter."""
        if self.name in _POINTWISE:
            yield self.name, _POINTWISE[self.name](values[box], peak)
            return
        part, inner = _part(self, values, spacing, box)
        yield self.name, gradient_magnitude(part, spacing)[inner]


@dataclass(frozen=True)
class LoG(Filter):
    """Laplacian of Gaussian, one image for each width.

    Parameters
    ----------
    sigma_mm : sequence of float, mm
        Standard deviations of the Gaussian.
    bin_width, bin_count : number, optional
        See `Filter`.

    Notes
    -----
    The values are scaled by sigma^2; divided by it they are IBSI 2's filter (test 3.B:
    17 of 18 statistics within tolerance, the maximum 1 % high). The recursion works in
    single precision: a turned image gives values that differ by 1e-4 of their range.

    Examples
    --------
    >>> LoG((1, 3)).sigma_mm
    (1.0, 3.0)
    """

    sigma_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        widths = np.atleast_1d(self.sigma_mm).tolist()
        if not widths:
            raise ConfigError("must hold a width", "`sigma_mm`", "such as (1, 3)")
        keep(self, sigma_mm=tuple(_positive("sigma_mm", s) for s in widths))
        super().__post_init__()

    def reach(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """16 standard deviations of the widest, 4 voxels at least."""
        far = _LOG_REACH * max(self.sigma_mm)
        z, y, x = (max(math.ceil(far / s), _LOG_LEAST) for s in spacing)
        return z, y, x

    def images(
        self, values: Floats, spacing: Sequence[float], box: Box, peak: float
    ) -> Iterator[tuple[str, Floats]]:
        """One image for each width: "log-sigma-1-0-mm-3D"."""
        for sigma in self.sigma_mm:
            part, inner = _part(LoG((sigma,)), values, spacing, box)
            least = [max(_LOG_LEAST, math.ceil(sigma / s) + 1) for s in spacing]
            if any(n < m for n, m in zip(part.shape, least, strict=True)):
                what = f"of {sigma:g} mm needs {least} voxels (z, y, x) at least, "
                fix = "leave LoG out or take finer voxels (`spacing`)"
                raise InputError(f"{what}the image has {[*part.shape]}", "LoG", fix)
            name = f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D"
            yield name, laplacian_of_gaussian(part, spacing, sigma)[inner]


@dataclass(frozen=True)
class Wavelet(Filter):
    """Stationary wavelet transform: an image for each way of low and high pass.

    Parameters
    ----------
    name : str
        A discrete wavelet of PyWavelets ("coif1", "haar", "db2", ...).
    level : int
        Number of levels that give images.
    start_level : int
        Levels before those that give none.
    in_plane : bool
        Filter along y and x only, as pyradiomics does with ``force2D``.
    bin_width, bin_count : number, optional
        See `Filter`.

    Notes
    -----
    Every level filters the low pass of the one before without widening the filter, as
    pyradiomics does. The image wraps: near its border, values come from the far side.
    No filter is its own mirror image: features of flipped or turned images differ.

    Examples
    --------
    >>> Wavelet().reach((1, 1, 1))
    (3, 3, 3)
    """

    name: str = "coif1"
    level: int = 1
    start_level: int = 0
    in_plane: bool = False
    wraps: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of("name", self.name, pywt.wavelist(kind="discrete"))
        start = integer("start_level", self.start_level, 0, 8)
        keep(self, level=integer("level", self.level, 1, 8), start_level=start)
        super().__post_init__()

    def reach(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """Half the filter's length for each level."""
        half = (self.start_level + self.level) * (pywt.Wavelet(self.name).dec_len // 2)
        return 0 if self.in_plane else half, half, half

    def images(
        self, values: Floats, spacing: Sequence[float], box: Box, peak: float
    ) -> Iterator[tuple[str, Floats]]:
        """Images "wavelet-LLH" (x, y, z), then "wavelet2-LLH", ...; low pass last."""
        data, inner = _part(self, values, spacing, box)
        odd = [(0, n % 2) for n in data.shape]
        data = np.pad(data, odd, "wrap")  # the transform takes even lengths only
        axes = (2, 1) if self.in_plane else (2, 1, 0)
        low = "a" * len(axes)
        for level in range(1 - self.start_level, self.level + 1):
            bands = pywt.swtn(data, self.name, level=1, axes=axes)[0]
            data = bands.pop(low)
            prefix = "wavelet-" if level == 1 else f"wavelet{level}-"
            for band, image in bands.items() if level > 0 else ():
                yield prefix + _letters(band), image[inner]
        yield prefix + _letters(low), data[inner]


@dataclass(frozen=True)
class LBP2D(Filter):
    """Local binary patterns of every slice.

    Parameters
    ----------
    radius : float, voxels
        Of the circle.
    samples : int
        Points on it.
    method : {"uniform", "default", "ror", "nri_uniform"}
        Which patterns are told apart, as scikit-image names them.
    bin_width, bin_count : number, optional
        See `Filter`.

    Notes
    -----
    Patterns are few: a `bin_width` of 1 keeps them apart. pyradiomics' patterns in 3-D
    are not offered: it makes none itself with SciPy >= 1.17 (``sph_harm`` is gone).
    Source: Ojala 2002, doi:10.1109/TPAMI.2002.1017623.

    Examples
    --------
    >>> LBP2D(bin_width=1).method
    'uniform'
    """

    radius: float = 1.0
    samples: int = 8
    method: str = "uniform"

    def __post_init__(self) -> None:
        samples = integer("samples", self.samples, 1, _SAMPLES)
        keep(self, radius=_positive("radius", self.radius), samples=samples)
        one_of("method", self.method, _METHODS)
        super().__post_init__()

    def reach(self, spacing: Sequence[float]) -> tuple[int, int, int]:
        """The radius, in plane."""
        return 0, math.ceil(self.radius), math.ceil(self.radius)

    def images(
        self, values: Floats, spacing: Sequence[float], box: Box, peak: float
    ) -> Iterator[tuple[str, Floats]]:
        """One image "lbp-2D" of pattern numbers."""
        pattern: Any = feature.local_binary_pattern
        part, inner = _part(self, values, spacing, box)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Applying `local_binary_pattern`")
            made = [
                pattern(s, self.samples, self.radius, self.method) for s in part.copy()
            ]
        yield "lbp-2D", np.stack(made)[inner]


_NAMED: dict[str, Callable[[], Filter]] = {"wavelet": Wavelet, "lbp-2d": LBP2D}


def as_filter(given: FilterLike) -> Filter:
    """Return the filter of a name, or the filter given.

    Parameters
    ----------
    given : str or Filter
        "original", "wavelet", "square", "squareroot", "logarithm", "exponential",
        "gradient", "lbp-2d" (in any case), or options such as ``LoG((1, 3))``.

    Raises
    ------
    ConfigError
        If there is no filter of that name, or one that needs settings.

    Examples
    --------
    >>> as_filter("wavelet").name
    'coif1'
    """
    if isinstance(given, Filter):
        return given
    name = given.lower() if isinstance(given, str) else given
    if name == "log":
        fix = "give LoG(sigma_mm=(1, 3))"
        raise ConfigError("'log' needs widths in mm", "`filters`", fix)
    if name == "lbp-3d":
        what = "'lbp-3d' is not offered: pyradiomics makes none with SciPy >= 1.17"
        raise ConfigError(what, "`filters`", "take 'lbp-2d'")
    name = one_of("filters", name, (*_POINTWISE, "gradient", *_NAMED))
    return _NAMED[name]() if name in _NAMED else Plain(name)


def margin(
    filters: Iterable[FilterLike], spacing: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels (z, y, x) around the regions that all the filters need.

    Examples
    --------
    >>> margin(["original", "wavelet", LoG((1,))], (5, 1, 1))
    (4, 16, 16)
    """
    reach = [as_filter(each).reach(spacing) for each in filters]
    z, y, x = np.max([(0, 0, 0), *reach], axis=0).tolist()
    return z, y, x


def needed(
    box: Box,
    shape: Sequence[int],
    filters: Iterable[FilterLike],
    spacing: Sequence[float],
) -> Box:
    """Part of an image to hand to `filtered`, so that the box comes out exactly.

    Parameters
    ----------
    box : tuple of three slices
        Of the regions.
    shape : 3 integers, zyx
        Of the whole image.
    filters, spacing
        As for `filtered`.

    Returns
    -------
    tuple of three slices
        The box and the margin, cut at the image's border; a whole axis where a wavelet
        comes to the border, as it goes on at the other side.

    Examples
    --------
    >>> box = (slice(4, 6), slice(40, 60), slice(2, 9))
    >>> needed(box, (9, 99, 99), ["wavelet"], (1, 1, 1))
    (slice(1, 9, None), slice(37, 63, None), slice(0, 99, None))
    """
    low = [s.start for s in box]
    high = [s.stop for s in box]
    for each in map(as_filter, filters):
        for axis, (far, n) in enumerate(zip(each.reach(spacing), shape, strict=True)):
            start, stop = box[axis].start - far, box[axis].stop + far
            if each.wraps and far and (start < 0 or stop > n):
                start, stop = 0, n
            low[axis] = min(low[axis], max(start, 0))
            high[axis] = max(high[axis], min(stop, int(n)))
    z, y, x = map(slice, low, high)
    return z, y, x


def filtered(
    values: Floats,
    spacing: Sequence[float],
    filters: Iterable[FilterLike],
    box: Box,
    *,
    peak: float | None = None,
) -> Iterator[tuple[str, Floats]]:
    """Filter an image and yield what comes out in a box.

    Parameters
    ----------
    values : (z, y, x) array of float64
        The whole image, or the part of it that `needed` names.
    spacing : 3 numbers, mm, zyx
        Voxel size.
    filters : iterable of str or Filter
        Applied one by one to `values`.
    box : tuple of three slices
        Where values are wanted, in `values`.
    peak : float, optional
        Largest absolute value of the whole image, to which "square", "squareroot",
        "logarithm" and "exponential" scale; by default that of `values`.

    Yields
    ------
    str
        Name of the image as in pyradiomics: "original", "wavelet-LLH", "square",
        "log-sigma-1-0-mm-3D", "lbp-2D", ....
    (z, y, x) array of float64
        The filtered image in the box.

    Raises
    ------
    InputError
        If voxels that a filter looks at are NaN or infinite, or too few for LoG.

    Examples
    --------
    >>> image = np.random.default_rng(0).normal(size=(20, 20, 20))
    >>> box = (slice(8, 12),) * 3
    >>> [name for name, _ in filtered(image, (1, 1, 1), ["square", LoG((1,))], box)]
    ['square', 'log-sigma-1-0-mm-3D']
    """
    if peak is None:
        peak = float(np.abs(values).max())
    for each in map(as_filter, filters):
        yield from each.images(values, spacing, box, peak)


def _part(
    each: Filter, values: Floats, spacing: Sequence[float], box: Box
) -> tuple[Floats, Box]:
    """What one filter needs of the values, all finite, and the box in it."""
    around = needed(box, values.shape, [each], spacing)
    part = values[around]
    if bad := part.size - np.count_nonzero(np.isfinite(part)):
        what = f"{bad} of {part.size} voxels around the regions are NaN or infinite"
        fix = "maps that end at the tumor cannot be filtered: take 'original' only"
        raise InputError(what, type(each).__name__, fix)
    z, y, x = (
        slice(b.start - a.start, b.stop - a.start)
        for b, a in zip(box, around, strict=True)
    )
    return part, (z, y, x)


def _original(x: Floats, peak: float) -> Floats:
    return x


def _square(x: Floats, peak: float) -> Floats:
    scale = 1 / math.sqrt(peak) if peak else 0.0
    return np.square(scale * x)


def _squareroot(x: Floats, peak: float) -> Floats:
    return np.copysign(np.sqrt(np.abs(x) * peak), x)


def _logarithm(x: Floats, peak: float) -> Floats:
    scale = peak / math.log(peak + 1) if peak else 0.0
    image: Floats = scale * np.copysign(np.log(np.abs(x) + 1), x)
    return image


def _exponential(x: Floats, peak: float) -> Floats:
    rate = math.log(peak) / peak if peak else 0.0
    image: Floats = np.exp(rate * x)
    return image


_POINTWISE: dict[str, Callable[[Floats, float], Floats]] = {
    "original": _original,
    "square": _square,
    "squareroot": _squareroot,
    "logarithm": _logarithm,
    "exponential": _exponential,
}


def _letters(band: str) -> str:
    return band.replace("a", "L").replace("d", "H")


def _positive(name: str, value: object) -> float:
    number = at_least(name, value, 0.0)
    if number == 0:
        raise ConfigError(f"must be > 0, got {value!r}", f"`{name}`")
    return number

"""A series of frames: the curve of each voxel of the tumor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, integer, keep, warn
from habitat.case import UNITS, load_inputs
from habitat.errors import (
    ConfigError,
    GeometryError,
    HabitatError,
    InputError,
    ModalityError,
)
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io import read
from habitat.io._grids import sample
from habitat.io._memory import check_memory
from habitat.kernels import tofts as kernels
from habitat.maps._common import Mask, around_tumor

if TYPE_CHECKING:
    from habitat.io._sources import ImageLike, MaskLike

Floats = npt.NDArray[np.float64]

MARGIN_MM = 40.0  # kept around the tumor for registration


@dataclass(frozen=True)
class SignalModel:
    """Spoiled gradient echo: what turns signal into concentration.

    Parameters
    ----------
    tr_ms : float, milliseconds
        Repetition time.
    flip_deg : float, degrees
        Flip angle, above 0 to 90.
    t10_ms : float or image-like, milliseconds
        T1 of the tissue before contrast: one number, or a map on any grid.
    r1 : float, 1/s per mM
        Relaxivity of the contrast agent; the default is that of common agents at 1.5 T.
    baseline_frames : int, optional
        Frames before the bolus. By default found on the tumor's mean curve: the best
        level line with a parabola after it, up to half its height.

    Raises
    ------
    ConfigError
        If a number is not possible, such as seconds given for milliseconds.

    Examples
    --------
    >>> from habitat.maps import SignalModel
    >>> SignalModel(tr_ms=5, flip_deg=15, t10_ms=1400)
    SignalModel(tr_ms=5.0, flip_deg=15.0, t10_ms=1400.0, r1=4.5, baseline_frames=None)
    """

    tr_ms: float
    flip_deg: float
    t10_ms: float | ImageLike
    r1: float = 4.5
    baseline_frames: int | None = None

    def __post_init__(self) -> None:
        keep(self, tr_ms=_within("tr_ms", self.tr_ms, 0.5, 1000))
        keep(self, flip_deg=_within("flip_deg", self.flip_deg, 0.01, 90))
        keep(self, r1=_within("r1", self.r1, 0.1, 100))
        if self.baseline_frames is not None:
            count = integer("baseline_frames", self.baseline_frames, 1, 10_000)
            keep(self, baseline_frames=count)
        if isinstance(self.t10_ms, Real):
            keep(self, t10_ms=_within("t10_ms", self.t10_ms, 10, 20_000))


def _within(name: str, value: object, low: float, high: float) -> float:
    number = at_least(name, value, low)
    if number > high:
        raise ConfigError(f"must be {low:g} to {high:g}, got {value!r}", f"`{name}`")
    return number


@dataclass(frozen=True, eq=False)
class Series:
    """Curves of the tumor's voxels."""

    geometry: Geometry  # of the maps: the tumor and 10 mm around it
    tumor: Mask  # on it
    curves: Floats  # (t, voxels of the tumor)
    unit: str  # "signal" where no file says it
    notes: tuple[str, ...]
    registration: list[Any]  # a report for each frame


def read_series(
    sources: Sequence[Any], mask: MaskLike, label: int | str | None, register: str
) -> Series:
    """Read frames on one grid, register them if asked, and take the tumor's curves.

    Raises
    ------
    HabitatError
        If a frame or the mask cannot be used, or more than 1 % of the tumor has a frame
        without a finite value.
    """
    inputs = load_inputs({"frame 1": sources[0]}, mask, label, {"frame 1": "signal"})
    first = inputs.images["frame 1"]
    if first.unit in UNITS:
        what = f"unit is {first.unit!r}, not MR signal or mM"
        raise ModalityError(what, "series", "give the frames of a DCE-MRI")
    geometry, tumor = around_tumor(inputs.mask, first.geometry)
    check_memory(24 * len(sources) * int(tumor.sum()), "series")
    notes = list(inputs.notes)
    reports: list[Any] = []
    frames = _frames(sources, first)
    if register == "none":
        notes.append("frames were not registered: they are taken to be in one position")
    else:
        frames, reports = _registered(frames, inputs.mask, register)
        notes.append(f"each frame was registered ({register}) to the mean of all")
    curves = np.empty((len(sources), int(tumor.sum())))
    for row, frame in zip(curves, frames, strict=True):
        row[:] = sample(frame, geometry, "linear").array[tumor]
    notes += _missing(curves)
    return Series(
        geometry, tumor, curves, str(first.unit), tuple(dict.fromkeys(notes)), reports
    )


def _missing(curves: Floats) -> list[str]:
    """NaN and infinite values: up to 1 % of the voxels may be left out."""
    bad = ~np.isfinite(curves)
    lost, total = int(bad.any(axis=0).sum()), curves.shape[1]
    if not lost:
        return []
    counts = bad.sum(axis=1)
    worst = int(counts.argmax())
    text = f"{counts[worst]} of {total} tumor voxels have no finite value"
    if lost > counts[worst]:
        text += f", {lost} in one frame or another"
    if lost > 0.01 * total:
        fix = "fill them, or leave this frame and its time out"
        raise InputError(text, f"frame {worst + 1}", fix)
    return [warn(f"frame {worst + 1}: {text}: left out")]


def _frames(sources: Sequence[Any], first: Image) -> Iterator[Image]:
    yield first
    for number, source in enumerate(sources[1:], 2):
        where = f"frame {number}"
        try:
            if isinstance(source, np.ndarray):
                image = Image(source, first.geometry, unit=first.unit)
            else:
                image = read(source)
        except HabitatError as error:
            raise _of_frame(error, number) from None
        if not image.geometry.same_as(first.geometry):
            fix = "resample all frames onto one grid: habitat.resample(frame, first)"
            raise GeometryError("lies on another grid than frame 1", where, fix)
        if (image.unit or "signal") != first.unit:
            what = f"unit is {image.unit!r}, of frame 1 {first.unit!r}"
            raise InputError(what, where, "give all frames in one unit")
        yield image


def _registered(
    frames: Iterator[Image], mask: Image, transform: str
) -> tuple[Iterator[Image], list[Any]]:
    """Bring each frame onto the mean of all, around the tumor."""
    from habitat.io._register import register

    box = None
    parts = []
    for frame in frames:
        box = box or frame.geometry.box_around(mask.geometry, MARGIN_MM)
        assert box is not None  # the mask was found on the grid
        parts.append(frame.crop(box))
    mean = parts[0].replace(np.mean([p.array for p in parts], 0, dtype=np.float64))
    found = []
    for number, part in enumerate(parts, 1):
        try:
            found.append(register(part, mean, mask, transform=transform))
        except HabitatError as error:
            raise _of_frame(error, number) from None
    return iter([f.image for f in found]), [f.report for f in found]


def _of_frame(error: HabitatError, number: int) -> HabitatError:
    where = f"frame {number} {error.where}".strip()
    return type(error)(error.what, where, error.fix)


def arrival(times: Floats, curve: Floats) -> int:
    """Count the frames before the bolus on a mean curve; at least one.

    Of all curves that stay level up to a frame and then rise as a parabola, fitted up
    to half the height, the best (after Cheong et al., Phys Med Biol 2003;48:N83).
    """
    half = 0.5 * (curve[0] + curve.max())
    top = int(np.argmax(curve >= half)) + 1
    losses = []
    for bend in range(max(top - 1, 1)):
        rise = np.maximum(times[:top] - times[bend], 0.0)
        terms = np.column_stack([np.ones(top), rise, rise**2])
        fitted = terms @ np.linalg.lstsq(terms, curve[:top], rcond=None)[0]
        losses.append(float(np.sum((curve[:top] - fitted) ** 2)))
    tie = min(losses) * (1 + 1e-9) + 1e-20 * half**2
    return 1 + max(bend for bend, loss in enumerate(losses) if loss <= tie)


def conversion(
    seen: Series, signal: SignalModel | None, times: Floats
) -> tuple[Callable[[slice], Floats], float, dict[str, Any]]:
    """How curves become concentration, when the bolus comes (s), and the record."""
    given = seen.unit == "mM"
    if given and signal is not None:
        what = "the frames are concentrations (mM) already"
        raise ConfigError(what, "`signal`", "leave it out")
    record: dict[str, Any] = {"concentration": "given" if given else "(S - S0) / S0"}
    t10 = np.empty(0)
    before = 0
    if signal is not None:
        record = _record(signal)
        t10 = _t10(seen, signal)
        before = signal.baseline_frames or 0
    if before >= times.size:
        what = f"{before} of {times.size} frames leave none after the bolus"
        raise ConfigError(what, "`baseline_frames`")
    level = before or arrival(times, mean_curve([seen.curves]))
    record["baseline"] = "given" if before else "found"
    # contrast may be arriving in the last of those that were found
    before = before or (level - 1 if level > 2 else level)
    record["baseline_frames"] = before

    def convert(part: slice) -> Floats:
        curves = np.ascontiguousarray(seen.curves[:, part])
        if not given:
            level = curves[:before].mean(axis=0)
            level[~(level > 0)] = np.nan
            if signal is None:
                curves = curves / level - 1.0
            else:
                angle = math.cos(math.radians(signal.flip_deg))
                out = np.empty_like(curves)
                kernels.concentration(
                    curves, level, t10[part], signal.tr_ms / 1e3, angle, signal.r1, out
                )
                curves = out
        curves[:, ~np.isfinite(curves).all(axis=0)] = np.nan
        return curves

    return convert, float(times[level - 1]), record


def _record(signal: SignalModel) -> dict[str, Any]:
    fixed = isinstance(signal.t10_ms, float)
    return {
        "concentration": "spoiled gradient echo",
        "tr_ms": signal.tr_ms,
        "flip_deg": signal.flip_deg,
        "t10_ms": signal.t10_ms if fixed else "map",
        "r1": signal.r1,
    }


def _t10(seen: Series, signal: SignalModel) -> Floats:
    """T1 before contrast of each voxel, seconds."""
    if isinstance(signal.t10_ms, float):
        return np.full(seen.curves.shape[1], signal.t10_ms / 1e3)
    found = sample(read(signal.t10_ms), seen.geometry, "linear")
    t10 = found.array[seen.tumor].astype(np.float64)
    if found.inside is not None:
        t10[~found.inside[seen.tumor]] = np.nan
    t10[~(t10 > 0)] = np.nan
    middle = float(np.median(t10[np.isfinite(t10)])) if np.isfinite(t10).any() else 0.0
    if middle < 10:
        what = f"median in the tumor is {middle:g}"
        raise InputError(what, "t10_ms", "give milliseconds, positive, on the tumor")
    return t10 / 1e3


def mean_curve(curves: Sequence[Floats]) -> Floats:
    """Mean curve of the voxels that have a value in every frame."""
    good = [c[:, np.isfinite(c).all(axis=0)] for c in curves]
    count = sum(c.shape[1] for c in good)
    if count == 0:
        what = "no voxel of the tumor has a value in every frame"
        fix = "check the frames; with `signal`, TR and flip angle and T1 in ms"
        raise InputError(what, "series", fix)
    return np.asarray(sum(c.sum(axis=1) for c in good) / count)


def model_free(
    t: Floats, start: float
) -> tuple[Callable[[Floats], dict[str, Floats]], list[str]]:
    """Peak, slopes and areas of curves; areas and the late slope are weighted sums."""
    notes, weights = [], {}
    for seconds in (60, 90):
        if t[-1] < start + seconds - 1e-6:
            text = f"iauc{seconds} is left out: the series ends {t[-1] - start:g} s"
            notes.append(f"{text} after the last baseline frame")
        else:
            weights[f"iauc{seconds}"] = _area(t, start, start + seconds)
    late = t >= 0.5 * (start + t[-1])
    late[-2:] = True
    off = np.where(late, t - t[late].mean(), 0.0)
    weights["wash_out"] = off / (off @ off)
    first = int(np.searchsorted(t, start, side="right"))

    def free(curves: Floats) -> dict[str, Floats]:
        after = curves[first:]
        at = after.argmax(axis=0)
        peak = np.take_along_axis(after, at[None], 0)[0]
        wait = np.where(np.isnan(peak), np.nan, t[first:][at] - start)
        found = {"peak": peak, "time_to_peak": wait, "wash_in": peak / wait}
        return {**found, **{name: w @ curves for name, w in weights.items()}}

    return free, notes


def _area(t: Floats, start: float, stop: float) -> Floats:
    """Weights of the frames in the area of a polygon from start to stop."""
    points = np.unique(np.concatenate([[start, stop], t[(t > start) & (t < stop)]]))
    width = np.diff(points)
    trapezoids = 0.5 * (np.append(width, 0.0) + np.append(0.0, width))
    hats = np.array([np.interp(points, t, row) for row in np.eye(t.size)])
    return np.asarray(hats @ trapezoids)

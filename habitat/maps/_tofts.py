"""Tofts maps: what tissue takes up and gives back in dynamic contrast-enhanced MR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from habitat._check import at_least, collector, instance, integer, one_of, warn
from habitat.errors import ConfigError, HabitatError, InputError, raise_all
from habitat.image import Image
from habitat.kernels import tofts as kernels
from habitat.kernels._jit import threads as default_threads
from habitat.maps._aif import AIF, Floats, Plasma, numbers, plasma
from habitat.maps._common import as_map
from habitat.maps._series import (
    SignalModel,
    conversion,
    mean_curve,
    model_free,
    read_series,
)

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

FRAMES = {"tofts": 3, "extended": 4}  # at least
FITS = ("linear", "bounded")
REGISTER = ("none", "rigid", "affine", "bspline")
HIGHEST = 5.0  # Ktrans, 1/min
SLOWEST = 1e-3  # kep of the bounded fit, 1/min
RATE_STEP = 0.06  # of the logarithm of kep
LONGEST = 4 * 3600.0  # seconds of a series
LATEST = 300.0  # seconds: no bolus takes longer
EARLIEST = -5  # seconds: the bolus of a population may start before the first frame
SEARCH = 31  # delays tried voxel by voxel, 1 s apart
LEAST_F = 5.0  # of uptake against noise: about p = 0.01
EARLY = 0.01  # of the AIF's area before the first frame
COARSE = 8.0  # seconds between frames
CHUNK = 2048  # voxels
NAMES: tuple[str, ...] = (
    "ktrans",
    "kep",
    "ve",
    "vp",
    "delay",
    "iauc60",
    "iauc90",
    "peak",
)
NAMES += ("time_to_peak", "wash_in", "wash_out")


def tofts_maps(
    series: Sequence[ChannelLike] | npt.NDArray[Any],
    mask: MaskLike,
    *,
    times: Sequence[float] | Floats,
    aif: str | AIF = "parker",
    model: str = "tofts",
    fit: str = "linear",
    signal: SignalModel | None = None,
    hct: float = 0.42,
    delay: str | float | None = None,
    register: str = "none",
    label: int | str | None = None,
    threads: int | None = None,
) -> dict[str, Image]:
    """Fit a Tofts model to the curve of every voxel of the tumor.

    Parameters
    ----------
    series : sequence of image-like
        One three-dimensional image for each frame, all on one grid. Of a 4-D
        SimpleITK image `s`: ``[s[..., i] for i in range(s.GetSize()[3])]``. Frames of
        unit "mM" are concentrations, all others signal.
    mask : mask-like
        The tumor.
    times : sequence of float, seconds
        When each frame was taken, ascending.
    aif : {"parker", "georgiou"} or AIF
        Arterial input: a population's, or a measured one.
    model : {"tofts", "extended"}
        Without or with a plasma volume vp. 3 and 4 frames at least.
    fit : {"linear", "bounded"}
        Linear least squares (Murase 2004), or least squares of the curve itself with
        Ktrans 0 to 5 /min, ve and vp 0 to 1.
    signal : SignalModel, optional
        How signal becomes concentration. Without it signal becomes (S - S0) / S0, S0
        its mean before the bolus: Ktrans, ve and vp then have an unknown scale, which
        a warning says.
    hct : float
        Hematocrit, for blood curves only: a population's, or ``AIF(..., "blood")``.
    delay : {"global", "voxel"} or float, seconds, optional
        How much later than `aif` the bolus reaches the tumor; a population's `aif`
        starts with the first frame. "global" (default for populations) takes the delay
        that fits the tumor's mean curve best; "voxel" the best of 31 for each voxel, 1
        s apart: from 0 for an AIF, around the global delay for populations. The default
        for an AIF is 0.
    register : {"none", "rigid", "affine", "bspline"}
        Bring each frame onto the mean of all first (see `habitat.register`). By default
        frames are taken as they are: registration takes seconds a frame.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.
    threads : int, optional
        Threads to use; HABITAT_NUM_THREADS or the cores by default. Results are the
        same for any number.

    Returns
    -------
    dict of str to Image
        float32 maps on the frames' grid, cropped to the tumor and 10 mm around it, NaN
        outside the tumor and where there is no value: "ktrans", "kep" (1/min), "ve",
        "vp" (extended), "delay" (s, with ``delay="voxel"``). Free of a model: "peak"
        (mM), "time_to_peak" after the last baseline frame (s), "wash_in" (peak over
        that time, mM/s), "wash_out" (slope of a straight line through the second half
        of the frames after that, mM/s; negative: contrast leaves), "iauc60" and
        "iauc90" (area over the first 60 and 90 s, mM s; left out where the series ends
        before, with a note).

    Raises
    ------
    HabitatError
        If an image, the mask, the times or an option cannot be used; all problems of
        the options at once. If more than 1 % of the tumor has a frame without a finite
        value, or of the area of an AIF lies before the first frame with ``"linear"``.

    Notes
    -----
    Tofts: C(t) = vp Cp(t) + Ktrans integral of Cp(u) exp(-kep (t - u)) du, kep =
    Ktrans / ve. Nothing is clipped. A voxel with an unusable frame (NaN, or signal that
    no T1 explains) is NaN in all maps. "kep" and "ve" are NaN where the fit explains
    no more than noise would (F below 5), kep is not positive or faster than half a
    frame can show, or ve is outside 0 to 1; "ktrans" above 5 /min and "vp" above 1 are
    NaN; negative values of both stay, they are noise around 0. The notes count all.
    Sources: Tofts et al., JMRI 1999;10:223; Murase, MRM 2004;51:858.

    Cluster on maps that have values where nothing is taken up, such as "ktrans",
    "iauc60" and "wash_out": a core without uptake has no "kep" and "ve", and voxels
    without a value do not take part in finding habitats.

    On the generated series of QIBA (version 6) the largest error of Ktrans is 0.2 %
    bounded; linear 0.5 % where ve is 0.05 or more but 4 % at 0.01, where rounding of
    the signal weighs most. In generated tumors with a delay of 10 s "ktrans" is off by
    up to 40 % (Tofts) and 310 % (extended) without a shift, by 2 % with the default.
    Frames far apart cost the linear fit's trapezoids accuracy, which a note says above
    8 s: extended, "ktrans" is off by up to 13 % at 10 s and 96 % at 20 s (Tofts 0.1 and
    4 %), bounded by 0.1 %, each with the delay known.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat import Image
    >>> from habitat.maps import AIF, tofts_maps
    >>> t = np.arange(0, 300, 2.0)
    >>> cp = np.where(t < 20, 0, 5 * np.exp(-(t - 20) / 200))
    >>> minutes = 1 / 30  # between frames
    >>> ct = 0.2 * minutes * np.convolve(cp, np.exp(-0.5 * t / 60))[: t.size]
    >>> grid = {"spacing": (3, 2, 2)}
    >>> frames = [Image(np.full((3, 4, 4), c), unit="mM", **grid) for c in ct]
    >>> tumor = Image(np.indices((3, 4, 4))[2] < 2, **grid)
    >>> maps = tofts_maps(frames, tumor, times=t, aif=AIF(t, cp, "plasma"))
    >>> maps["ktrans"].array[1, 1].astype(float).round(1)
    array([0.2, 0.2, nan, nan])
    """
    frames, t, blood = _check(series, times, aif, hct, model, fit, delay, register)
    if signal is not None:
        instance("signal", signal, SignalModel, "SignalModel(tr_ms, flip_deg, t10_ms)")
    if threads is not None:
        integer("threads", threads, 1, 512)
    notes = _time_notes(t, fit)
    seen = read_series(frames, mask, label, register)
    notes += seen.notes
    convert, start, how_signal = conversion(seen, signal, t)
    relative = "S0" in how_signal["concentration"]
    problem = _Problem.of(t, blood, model, fit, relative)
    parts = [slice(i, i + CHUNK) for i in range(0, seen.curves.shape[1], CHUNK)]
    with ThreadPoolExecutor(threads or default_threads()) as pool:
        curves = list(pool.map(convert, parts))
        delays, told = _delays(problem, delay, isinstance(aif, AIF), mean_curve(curves))
        notes += told
        rates = problem.rates if problem.bounded else problem.rates[:0]
        inputs = [problem.shifted(d, rates) for d in delays]
        if isinstance(aif, AIF) or _mode(delay, aif) == "given":
            notes += _early(inputs[0], fit, how_signal["concentration"] == "given")
        free, told = model_free(t, start)
        notes += told
        done = pool.map(lambda c: {**_best(problem, inputs, c), **free(c)}, curves)
        values = _joined(list(done))
    notes += _judge(values, problem, relative)
    if len(delays) == 1:
        del values["delay"]
        notes.append(f"the AIF was shifted by {delays[0]:.1f} s ({_mode(delay, aif)})")
    how = {
        "function": "tofts_maps",
        "times_s": t.tolist(),
        **blood.record,
        "model": model,
        "fit": fit,
        "delay": _mode(delay, aif),
        "delays_s": [round(float(d), 3) for d in delays],
        **how_signal,
        "register": register,
        "registration": seen.registration,
    }
    units = _units(relative)
    maps = {}
    for name in sorted(values, key=NAMES.index):
        array = np.full(seen.geometry.shape, np.nan, np.float32)
        array[seen.tumor] = values[name]
        unit = units.get(name)
        maps[name] = as_map(array, seen.geometry, how, unit=unit, notes=notes)
    return maps


# --- arguments ------------------------------------------------------------------------


def _check(
    series: Any,
    times: Any,
    aif: Any,
    hct: Any,
    model: Any,
    fit: Any,
    delay: Any,
    register: Any,
) -> tuple[list[Any], Floats, Plasma]:
    problems: list[HabitatError] = []
    check = collector(problems)
    check(one_of, "model", model, FRAMES)
    check(one_of, "fit", fit, FITS)
    check(one_of, "register", register, REGISTER)
    if isinstance(delay, Real):
        check(at_least, "delay", delay, -1e6 if isinstance(aif, AIF) else -3600)
    elif delay is not None:
        check(one_of, "delay", delay, ("global", "voxel"))
    frames = check(_frames, series, FRAMES.get(str(model), 3))
    t = check(_times, times, frames) if frames else None
    blood = check(plasma, aif, t, hct) if t is not None else None
    raise_all(problems)
    assert t is not None  # else there was a problem
    assert blood is not None
    return frames, t, blood


def _frames(series: Any, least: int) -> list[Any]:
    many = isinstance(series, Sequence) and not isinstance(series, str)
    if not many and not (isinstance(series, np.ndarray) and series.ndim == 4):
        what = f"must be one image for each frame, got {type(series).__name__}"
        raise InputError(what, "series", "split a 4-D image into its frames")
    if len(series) < least:
        what = f"{least} frames at least, got {len(series)}"
        raise InputError(what, "series")
    return list(series)


def _times(times: Any, frames: Sequence[Any]) -> Floats:
    t = numbers("times", times)
    if t.shape != (len(frames),):
        what = f"one time for each of the {len(frames)} frames, got {t.shape}"
        raise ConfigError(what, "`times`")
    if not (np.isfinite(t).all() and (np.diff(t) > 0).all()):
        raise ConfigError("must be finite and ascend", "`times`", "give seconds")
    if t[-1] - t[0] > LONGEST:
        what = f"the series would take {(t[-1] - t[0]) / 3600:.3g} hours"
        raise ConfigError(what, "`times`", "give seconds")
    return t


def _time_notes(t: Floats, fit: str) -> list[str]:
    notes = []
    if t[-1] - t[0] < 20:
        text = f"the series takes {t[-1] - t[0]:g} s: are `times` in seconds?"
        notes.append(warn(text))
    step = float(np.median(np.diff(t)))
    if fit == "linear" and step > COARSE:
        text = f"frames are {step:.3g} s apart (median): above {COARSE:g} s the"
        text += ' trapezoids of fit="linear" cost accuracy, fit="bounded" has none'
        notes.append(text)
    return notes


# --- fits -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Input:
    """Plasma as the frames see it, after a delay."""

    delay: float
    plasma: Floats  # (t,) mM
    dose: Floats  # (t,) its integral, mM min
    response: Floats  # (k, t) its convolutions with the rates


@dataclass(frozen=True, eq=False)
class _Problem:
    """What the fits of all voxels share."""

    minutes: Floats  # (t,)
    blood: Plasma
    extended: bool
    bounded: bool
    rates: Floats  # (k,) of kep, 1/min; the last is the fastest that frames can show
    most: Floats  # (3,) largest Ktrans, ve, vp

    @classmethod
    def of(
        cls, t: Floats, blood: Plasma, model: str, fit: str, relative: bool
    ) -> _Problem:
        minutes = t / 60
        fastest = max(2.0 / float(np.median(np.diff(minutes))), 2 * SLOWEST)
        count = math.ceil(math.log(fastest / SLOWEST) / RATE_STEP)
        rates = np.geomspace(SLOWEST, fastest, max(count, 5))
        # a relative signal has no scale, so that bounds other than 0 mean nothing
        most = np.full(3, 1e6) if relative else np.array([HIGHEST, 1.0, 1.0])
        extended = model == "extended"
        most[2] *= extended
        return cls(minutes, blood, extended, fit == "bounded", rates, most)

    def shifted(self, delay: float, rates: Floats) -> _Input:
        grid, course, at = self.blood.shifted(delay)
        steps = np.diff(grid) * (course[1:] + course[:-1]) / 120
        dose = np.concatenate([[0.0], np.cumsum(steps)])[at]
        response = np.empty((rates.size, at.size))
        kernels.convolve(grid / 60, course, rates, at, response)
        return _Input(delay, course[at], dose, response)

    def fit(self, curves: Floats, given: _Input) -> Floats:
        """Ktrans, kep, vp and loss of each column."""
        out = np.empty((4, curves.shape[1]))
        if self.bounded:
            kernels.bounded(
                curves, given.plasma, given.response, self.rates, self.most, out
            )
        else:
            kernels.linear(
                curves, self.minutes, given.plasma, given.dose, self.extended, out
            )
        return out


def _best(
    problem: _Problem, inputs: Sequence[_Input], curves: Floats
) -> dict[str, Floats]:
    """Fit of the delay that leaves the smallest residual, voxel by voxel."""
    best = problem.fit(curves, inputs[0])
    delay = np.full(curves.shape[1], inputs[0].delay)
    for given in inputs[1:]:
        rival = problem.fit(curves, given)
        better = (rival[3] < best[3]) | (np.isnan(best[3]) & ~np.isnan(rival[3]))
        best[:, better] = rival[:, better]
        delay[better] = given.delay
    found = {"ktrans": best[0], "kep": best[1], "delay": delay, "loss": best[3]}
    found["power"] = np.einsum("ij,ij->j", curves, curves)
    return {**found, "vp": best[2]} if problem.extended else found


def _mode(delay: str | float | None, aif: object) -> str:
    if delay is None:
        return "none" if isinstance(aif, AIF) else "global"
    return delay if isinstance(delay, str) else "given"


def _delays(
    problem: _Problem, delay: str | float | None, measured: bool, mean: Floats
) -> tuple[list[float], list[str]]:
    """Delays to try, seconds, and notes."""
    if delay is None and measured:
        return [0.0], []
    if delay is not None and not isinstance(delay, str):
        return [float(delay)], []
    if delay == "voxel" and measured:
        return [float(s) for s in range(SEARCH)], []
    best, notes = _global_delay(problem, mean)
    if delay == "voxel":
        return [best + s - SEARCH // 2 for s in range(SEARCH)], notes
    return [best], notes


def _early(given: _Input, fit: str, known: bool) -> list[str]:
    """Refuse, or tell of, contrast before the first frame."""
    share = abs(given.dose[0] / given.dose[-1]) if given.dose[-1] else 0.0
    if share <= EARLY:
        return []
    what = f"{share:.1%} of the AIF's area lies before the first frame"
    if fit == "linear":
        what += ", where the linear fit has no integral of the tissue's curve"
        raise ConfigError(what, "`fit`", 'use fit="bounded"')
    if known:
        return [what]
    return [warn(f"{what}: its signal S0 is not one before contrast")]


def _global_delay(problem: _Problem, mean: Floats) -> tuple[float, list[str]]:
    """Delay of a mean curve, to 0.1 s.

    The mean of voxels that differ is no Tofts curve but a sum of them, so that the
    delay is that of the sum with the smallest residual (all parts at least 0). The
    bolus comes before the curve has reached half its height.
    """
    top = float(mean.max())
    if not top > 0:
        what = f"the tumor's mean curve does not rise (highest {top:g})"
        fix = "check the order of frames and `times`, or give `delay` in seconds"
        raise InputError(what, "series", fix)
    minutes = problem.minutes
    latest = min(60 * (minutes[np.argmax(mean >= top / 2)] - minutes[0]), LATEST)

    def loss(delay: float) -> float:
        given = problem.shifted(delay, problem.rates[::10])
        parts = [*given.response, given.plasma][: None if problem.extended else -1]
        sizes = [max(float(np.linalg.norm(p)), 1e-300) for p in parts]
        columns = [p / size for p, size in zip(parts, sizes, strict=True)]
        return float(nnls(np.column_stack(columns), mean)[1])

    best = min(np.arange(EARLIEST, math.ceil(latest) + 1.0), key=loss)
    notes = []
    if best == EARLIEST:
        text = "the bolus reaches the tumor before it can by the AIF"
        text += ": are `times` those since injection? give `delay` in seconds"
        notes.append(warn(text))
    return float(min(best + np.arange(-9, 10) / 10, key=loss)), notes


# --- results --------------------------------------------------------------------------


def _joined(parts: Sequence[dict[str, Floats]]) -> dict[str, Floats]:
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def _judge(values: dict[str, Floats], problem: _Problem, relative: bool) -> list[str]:
    """Add ve, make what cannot be NaN, and count it."""
    ktrans, kep = values["ktrans"], values["kep"]
    total = ktrans.size
    lost = np.isnan(values["peak"])
    values["delay"][lost] = np.nan
    ve = np.divide(ktrans, kep, out=np.full(total, np.nan), where=kep > 0)
    fastest = problem.rates[-1]
    loss, numbers_fitted = values.pop("loss"), 3 if problem.extended else 2
    explained = (values.pop("power") - loss) / numbers_fitted
    noise = loss / (problem.minutes.size - numbers_fitted)
    none = ~lost & (np.isnan(kep) | (ktrans == 0) | (explained < LEAST_F * noise))
    back = ~lost & ~none & (kep <= 0)
    fast = ~lost & ~none & (kep >= fastest * (1 - 1e-6))
    clear = ~(lost | none | back | fast)
    wide = clear & (ve > 1 + 1e-6) & (not relative)
    low = clear & (ve < 0)
    counts = {
        "have a frame without concentration: NaN in all maps": lost,
        f"show no uptake above noise (F < {LEAST_F:g}): kep and ve NaN": none,
        "have kep <= 0: kep and ve NaN": back,
        f"have kep > {fastest:.3g} /min, faster than frames show: kep, ve NaN": fast,
        "have ve < 0: kep and ve NaN": low,
        "have ve > 1: kep and ve NaN": wide,
    }
    if not relative:
        counts[f"have Ktrans > {HIGHEST:g} /min: Ktrans NaN"] = ktrans > HIGHEST
        ktrans[ktrans > HIGHEST] = np.nan
    counts["have Ktrans < 0: kept"] = ktrans < 0
    kep[~clear | low | wide] = np.nan
    ve[~clear | low | wide] = np.nan
    values["ve"] = ve
    if "vp" in values:
        vp = values["vp"]
        counts["have vp < 0: kept"] = vp < 0
        if not relative:
            counts["have vp > 1: vp NaN"] = vp > 1
            vp[vp > 1] = np.nan
    notes = [
        f"{int(where.sum())} of {total} voxels {text}"
        for text, where in counts.items()
        if where.any()
    ]
    if relative:
        text = "signal was taken as (S - S0) / S0, not mM: Ktrans, ve and vp have an"
        notes.append(warn(f"{text} unknown scale; give `signal` to make them absolute"))
    return notes


def _units(relative: bool) -> dict[str, str]:
    amount = "(S - S0) / S0" if relative else "mM"
    scale = "relative " if relative else ""
    return {
        "ktrans": f"{scale}1/min",
        "kep": "1/min",
        "delay": "s",
        "peak": amount,
        "time_to_peak": "s",
        "wash_in": f"{amount}/s",
        "wash_out": f"{amount}/s",
        "iauc60": f"{amount} s",
        "iauc90": f"{amount} s",
    }

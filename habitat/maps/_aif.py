"""Arterial input functions: two of populations, and the user's own."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, one_of
from habitat.errors import ConfigError

Floats = npt.NDArray[np.float64]

STEP_S = 0.5  # of the polygon that stands for a population's curve


def parker(times: npt.ArrayLike) -> Floats:
    """Arterial blood concentration of Parker's population, 0 before time 0.

    Parameters
    ----------
    times : array
        Seconds since injection.

    Returns
    -------
    array
        Whole blood, mM (0.1 mmol/kg of gadolinium chelate).

    Notes
    -----
    Source: Parker et al., MRM 2006;56:993, table 1.

    Examples
    --------
    >>> from habitat.maps import parker
    >>> parker([-1, 10, 60]).round(3)
    array([0.   , 6.042, 0.887])
    """
    t = np.maximum(np.asarray(times, dtype=np.float64), 0.0) / 60
    blood = 1.050 * np.exp(-0.1685 * t) / (1 + np.exp(-38.078 * (t - 0.483)))
    for area, width, center in ((0.809, 0.0563, 0.17046), (0.330, 0.132, 0.365)):
        z = (t - center) / width
        blood += area / (width * math.sqrt(2 * math.pi)) * np.exp(-0.5 * z * z)
    return np.where(np.asarray(times) < 0, 0.0, blood)


def georgiou(times: npt.ArrayLike) -> Floats:
    """Arterial blood concentration of Georgiou's population, 0 before time 0.

    Parameters
    ----------
    times : array
        Seconds since arrival of the bolus.

    Returns
    -------
    array
        Whole blood, mM (0.1 mmol/kg of gadolinium chelate).

    Notes
    -----
    Source: Georgiou et al., MRM 2019;81:1964: three exponentials times the recirculated
    bolus, a sum of gamma variates. The parameters are rounded as printed there, which
    is 1.2 % at the peak.

    Examples
    --------
    >>> from habitat.maps import georgiou
    >>> georgiou([-1, 6, 60]).round(3)
    array([0.   , 7.858, 1.269])
    """
    t = np.maximum(np.asarray(times, dtype=np.float64), 0.0) / 60
    fall = 0.37 * np.exp(-0.11 * t) + 0.33 * np.exp(-1.17 * t)
    fall += 10.06 * np.exp(-16.02 * t)
    alpha, beta, tau = 5.26, 0.032, 0.129
    bolus = np.zeros_like(t)
    for j in range(int(t.max(initial=0.0) / tau) + 1):
        power = (j + 1) * alpha + j
        x = np.maximum(t - j * tau, 1e-300) / beta
        bolus += np.exp(power * np.log(x) - x - math.lgamma(power + 1)) / beta
    return fall * bolus


POPULATIONS: dict[str, Callable[[npt.ArrayLike], Floats]] = {
    "parker": parker,
    "georgiou": georgiou,
}


def numbers(name: str, values: Any) -> Floats:
    """Return a copy as float64, else raise."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"must be numbers, got {values!r:.60}", f"`{name}`") from None


@dataclass(frozen=True, eq=False)
class AIF:
    """A measured arterial input function, straight lines between its points.

    Parameters
    ----------
    times : array of shape (n,)
        Seconds on the clock of the series, ascending. Before the first there is none.
    values : array of shape (n,)
        Concentration, mM.
    kind : {"blood", "plasma"}
        What `values` are. Blood is divided by 1 - hematocrit, once; plasma is not.

    Raises
    ------
    ConfigError
        If the points are not two or more finite pairs in ascending order of time.

    Examples
    --------
    >>> from habitat.maps import AIF
    >>> AIF([0, 10, 20, 300], [0, 0, 6, 0.5], "plasma")
    AIF(4 points, 0 to 300 s, peak 6 mM, plasma)
    """

    times: npt.ArrayLike
    values: npt.ArrayLike
    kind: str

    def __post_init__(self) -> None:
        one_of("kind", self.kind, ("blood", "plasma"))
        t, c = numbers("times", self.times), numbers("values", self.values)
        if t.ndim != 1 or t.shape != c.shape or t.size < 2:
            what = "needs as many times as values, two or more"
            raise ConfigError(f"{what}, got {t.shape} and {c.shape}", "AIF")
        good = np.isfinite(t).all() and np.isfinite(c).all() and (np.diff(t) > 0).all()
        if not good:
            raise ConfigError("times must ascend, all numbers be finite", "AIF")
        object.__setattr__(self, "times", t)
        object.__setattr__(self, "values", c)

    def __repr__(self) -> str:
        t, c = np.asarray(self.times), np.asarray(self.values)
        span = f"{t[0]:g} to {t[-1]:g} s, peak {c.max():g} mM"
        return f"AIF({t.size} points, {span}, {self.kind})"


@dataclass(frozen=True, eq=False)
class Plasma:
    """Plasma concentration that can be shifted; `hct` has been applied already."""

    times: Floats  # (t,) seconds of the frames
    points: Floats | None  # seconds where the curve bends; None: it is smooth
    curve: Callable[[Floats], Floats]  # seconds to mM
    record: dict[str, Any]

    def shifted(self, delay: float) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
        """Polygon of the curve some seconds later (s, mM), and where frames are.

        It starts where the curve does, if that is before the first frame.
        """
        if self.points is None:
            ends = np.unique([self.times[0] + min(delay, 0.0), *self.times])
            pieces = np.ceil(np.diff(ends) / STEP_S - 1e-9).astype(int)
            spans = zip(ends[:-1], ends[1:], pieces, strict=True)
            parts = [np.linspace(a, b, n, endpoint=False) for a, b, n in spans]
            grid = np.concatenate([*parts, ends[-1:]])
        else:
            bends = self.points + delay
            grid = np.union1d(self.times, bends[bends < self.times[-1]])
        return grid, self.curve(grid - delay), np.searchsorted(grid, self.times)


def plasma(aif: str | AIF, times: Floats, hct: float) -> Plasma:
    """Turn the `aif` argument of `tofts_maps` into a plasma curve.

    Raises
    ------
    ConfigError
        If `aif` is neither a name nor an AIF, ends before the frames, or `hct` is not
        at least 0 and below 1.
    """
    if not at_least("hct", hct, 0.0) < 1.0:
        fix = "give a fraction, such as 0.42"
        raise ConfigError(f"must be below 1, got {hct!r}", "`hct`", fix)
    blood = 1.0 - float(hct)
    if not isinstance(aif, AIF):
        if not isinstance(aif, str):
            what = f"must be a name or an AIF, got {type(aif).__name__}"
            fix = 'habitat.maps.AIF(times, values, "blood" or "plasma")'
            raise ConfigError(what, "`aif`", fix)
        population = POPULATIONS[one_of("aif", aif, POPULATIONS)]
        start = times[0]
        record = {"aif": aif, "kind": "blood", "hct": float(hct)}
        return Plasma(times, None, lambda t: population(t - start) / blood, record)
    known, values = np.asarray(aif.times), np.asarray(aif.values)
    if known[-1] < times[-1] - 1e-6:
        what = f"ends at {known[-1]:g} s, the frames at {times[-1]:g} s"
        raise ConfigError(what, "`aif`", "give it up to the last frame, in seconds")
    if aif.kind == "blood":
        values = values / blood
    record = {
        "aif": repr(aif),
        "sha256": hashlib.sha256(known.tobytes() + values.tobytes()).hexdigest(),
        "kind": aif.kind,
        "hct": float(hct) if aif.kind == "blood" else None,
    }
    return Plasma(times, known, lambda t: np.interp(t, known, values, left=0.0), record)

"""Formulas of enhancement maps: names, what they need, their values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from habitat.errors import ConfigError, HabitatError
from habitat.geometry import Floats

PHASES = ("unenhanced", "arterial", "venous", "delayed", "delayed2")  # in time
PEAK = "peak"  # largest value of the phases after contrast, voxel by voxel


@dataclass(frozen=True)
class Formula:
    """One map: ``factor * top / bottom`` of phases, or an index over all of them.

    `top` and `bottom` are a phase, ``"a-b"`` of two phases or ``"a+number"``; `bottom`
    is also "" (no division), "seconds" (between the phases of `top`) or "aorta" (`top`
    in the aorta). `unit` holds ``{}`` for the unit of the phases.
    """

    top: str
    bottom: str = ""
    factor: float = 1.0
    unit: str = "{}"
    hu: bool | None = None  # for HU only, for all but HU, or for both

    @property
    def text(self) -> str:
        """The formula for readers."""
        if self.top in _INDICES:
            return _INDICES[self.top]
        factor = "" if self.factor == 1 else f"{self.factor:g} * "
        return f"{factor}({self.top})" + (f" / ({self.bottom})" if self.bottom else "")

    @property
    def is_ratio(self) -> bool:
        """Whether voxels are divided by voxels: noise can make it meaningless."""
        return self.bottom not in ("", "seconds", "aorta")


_INDICES = {
    "auc": "area under (phase - unenhanced) by trapezoids over the times",
    "ttp_index": "number, from 0, of the brightest of the phases; the first of equals",
}

#: Maps by name. Beside these: a phase, "a-b" of two phases, "slope_a-b",
#: "relative_<phase>", "pe_<phase>" and "normalized_<phase>"; "peak" is a phase there.
MAPS: Mapping[str, Formula] = {
    "aef": Formula("arterial-unenhanced", "venous-unenhanced", 100, "%"),
    "relative_wash_out": Formula("arterial-venous", "arterial-unenhanced", 100, "%"),
    "rpw": Formula("arterial-venous", "arterial", 100, "%"),
    "apw": Formula("venous-delayed", "venous-unenhanced", 100, "%"),
    "rpw_delayed": Formula("venous-delayed", "venous", 100, "%"),
    "ser": Formula("arterial-unenhanced", "delayed-unenhanced", 1, "ratio"),
    "wash_in": Formula("arterial-unenhanced", "seconds", unit="{}/s"),
    "auc": Formula("auc", unit="{} s"),
    "ttp_index": Formula("ttp_index", unit="phase"),
}

_KINDS = {
    "relative": ("unenhanced+1000", 100, "%", True),
    "pe": ("unenhanced", 100, "%", False),
    "normalized": ("aorta", 1, "ratio", None),
}


def formula(name: str) -> Formula:
    """Return the formula of a map.

    Raises
    ------
    ConfigError
        If there is no map of this name.
    """
    if name in MAPS:
        return MAPS[name]
    known = (*PHASES, PEAK)
    kind, _, rest = name.partition("_")
    if kind in _KINDS and rest in known[1:]:
        bottom, factor, unit, hu = _KINDS[kind]
        return Formula(f"{rest}-unenhanced", bottom, factor, unit, hu)
    pair = rest if kind == "slope" else name
    first, _, second = pair.partition("-")
    if first == second or not {first, second} <= {*known, ""} or not first:
        raise _unknown(name)
    if kind == "slope":
        if not second or PEAK in (first, second):
            raise _unknown(name)
        return Formula(pair, "seconds", unit="{}/s")
    return Formula(pair)


def _unknown(name: str) -> ConfigError:
    pairs = [f"{a}-{b}" for b in PHASES for a in (*PHASES, PEAK) if a != b]
    patterns = [f"{kind}_{p}" for kind in _KINDS for p in (*PHASES[1:], PEAK)]
    every = [*MAPS, *PHASES, *pairs, *patterns, *(f"slope_{p}" for p in pairs)]
    near = difflib.get_close_matches(name.lower(), every, n=1)
    what = f"no map is named {name!r}; there are {', '.join(MAPS)}, each phase, 'a-b' "
    what += "of two, slope_a-b, relative_<phase>, pe_<phase>, normalized_<phase>"
    return ConfigError(what, "`maps`", f"did you mean {near[0]!r}?" if near else "")


def default_maps(
    phases: Sequence[str], timed: bool = False, aorta: bool = False
) -> tuple[str, ...]:
    """Name the differences that phases allow, in time: enhancement, then its change.

    Without an unenhanced phase the first one stands for itself. With times their
    slopes and the area too, with an aorta enhancement as a share of its.
    """
    contrast = [p for p in phases if p != "unenhanced"]
    changes = [f"{b}-{a}" for a, b in pairwise(contrast)]
    slopes = [f"slope_{b}-{a}" for a, b in pairwise(phases)] if timed else []
    if "unenhanced" not in phases:
        return (contrast[0], *changes, *slopes)
    shares = [f"normalized_{p}" for p in contrast] if aorta else []
    area = ["auc"] if timed else []
    return (*(f"{p}-unenhanced" for p in contrast), *changes, *slopes, *area, *shares)


def unused(
    formulas: Mapping[str, Formula], timed: bool, aorta: bool, noise: bool
) -> list[str]:
    """Say which arguments no map that was asked for makes use of."""
    wanted = formulas.values()
    notes = []
    if timed and not any(it.bottom == "seconds" or it.top == "auc" for it in wanted):
        notes.append("`times` were not used: no map asked for needs them")
    if aorta and not any(it.bottom == "aorta" or it.is_ratio for it in wanted):
        notes.append("`aorta` was not used: no map asked for needs it")
    if noise and not any(it.is_ratio for it in wanted):
        notes.append("`noise` was not used: no map asked for needs it")
    return notes


def named(term: str) -> list[str]:
    """Phases of a term, "peak" among them."""
    return term.partition("+")[0].split("-")


def problems_of(
    name: str, it: Formula, phases: Sequence[str], times: Mapping[str, float] | None
) -> list[HabitatError]:
    """What a map lacks of phases and times (None: of phases only)."""
    asked = phases if it.top in _INDICES else named(it.top)
    if it.is_ratio:
        asked = [*asked, *named(it.bottom)]
    if it.top == "auc":
        asked = ["unenhanced", *asked]
    missing = [p for p in PHASES if p in asked and p not in phases]
    if PEAK in asked and len({*phases} - {"unenhanced"}) < 2:
        missing.append("a second phase after contrast")
    problems: list[HabitatError] = []
    if missing:
        what = f"{name!r} = {it.text} needs {_listed(missing)}"
        what += f", given are {', '.join(phases)}"
        fix = "give the missing phase, or leave the map out"
        problems.append(ConfigError(what, "`phases`", fix))
    if times is not None and (it.bottom == "seconds" or it.top == "auc"):
        timeless = [p for p in PHASES if p in asked and p not in times]
        if timeless:
            what = f"{name!r} needs the time of {_listed(timeless)}"
            fix = "give seconds for each phase: times={'unenhanced': 0, ...}"
            problems.append(ConfigError(what, "`times`", fix))
    return problems


def _listed(names: Sequence[str]) -> str:
    return " and ".join(map(repr, names))


@dataclass(frozen=True, eq=False)
class Series:
    """Phases on one grid, in time, with all that formulas need."""

    values: Mapping[str, Floats]  # phase -> (z, y, x)
    times: Mapping[str, float]  # phase -> s
    noise: Mapping[str, float]  # phase -> sd; none where it is not known
    aorta: Mapping[str, float]  # phase -> mean in the aorta
    gate_sd: float

    def limit(self, term: str) -> float:
        """Smallest value of a term that is not noise."""
        sds = [self.noise.get(p, 0.0) for p in named(term)]
        return self.gate_sd * math.hypot(*sds)


def valued(it: Formula, series: Series) -> Floats:
    """Values of a map, NaN where a phase has none or noise would decide."""
    if it.top == "auc":
        return _auc(series)
    if it.top == "ttp_index":
        return _ttp_index(series)
    top = it.factor * term(it.top, series.values)
    if it.bottom == "":
        return top
    if it.bottom == "seconds":
        later, earlier = (series.times[p] for p in named(it.top))
        return top / (later - earlier)
    if it.bottom == "aorta":
        return np.asarray(top / term(it.top, series.aorta))
    bottom = term(it.bottom, series.values)
    good = (bottom > 0) & (bottom >= series.limit(it.bottom))
    out = np.full(bottom.shape, np.nan)
    np.divide(top, bottom, out=out, where=good)
    return out


def term(text: str, values: Mapping[str, npt.ArrayLike]) -> Floats:
    """Value of a phase, ``"a-b"`` or ``"a+number"``."""
    base, _, offset = text.partition("+")
    parts = [_phase(p, values) for p in base.split("-")]
    value = parts[0] - parts[1] if len(parts) == 2 else parts[0] + float(offset or 0)
    return np.asarray(value)


def _phase(name: str, values: Mapping[str, npt.ArrayLike]) -> Floats:
    if name != PEAK:
        return np.asarray(values[name], dtype=np.float64)
    contrast = [np.asarray(v) for p, v in values.items() if p != "unenhanced"]
    return np.asarray(np.max(np.stack(contrast), axis=0))


def _auc(series: Series) -> Floats:
    start = series.values["unenhanced"]
    total = np.zeros(start.shape)
    for a, b in pairwise(series.values):
        height = (series.values[a] + series.values[b]) / 2 - start
        total += height * (series.times[b] - series.times[a])
    return total


def _ttp_index(series: Series) -> Floats:
    stack = np.stack(list(series.values.values()))
    return np.where(np.isfinite(stack).all(axis=0), stack.argmax(axis=0), np.nan)

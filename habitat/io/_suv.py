"""From PET headers to one factor a slice that takes rescaled pixels to SUV.

Rules and their order follow the SUV manual of OncoRay/IBSI, whose 17 digital reference
objects are tests. ``SUV = (slope * stored + intercept) * factor``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from habitat._check import warn
from habitat.errors import SUVError, raise_all
from habitat.io import _header as h

Floats = npt.NDArray[np.float64]

HOUR = 3600.0
DAY = 24 * HOUR
MAX_REFERENCE_SPREAD = 60.0  # s between slices, 0.6 % of F-18 activity
UPTAKE_FDG = (45.0, 90.0)  # min, outside of it SUV are not comparable (QIBA, EANM)
# name, mass number, half-life in s; F-18 and Ga-68 as in the SUV manual, others NNDC
NUCLIDES = (
    ("C", 11, 1221.8),
    ("N", 13, 597.9),
    ("O", 15, 122.24),
    ("F", 18, 6586.2),
    ("Cu|Copper", 64, 45_723.0),
    ("Ga", 68, 4057.7),
    ("Rb|Rubidium", 82, 76.4),
    ("Zr|Zirconium", 89, 282_276.0),
    ("I", 124, 360_806.0),
)
_CONSTANT = (
    "Units",
    "SUVType",
    "DecayCorrection",
    "CorrectedImage",
    "PatientWeight",
)
PHILIPS_SUV, PHILIPS_BQML = (0x7053, 0x1000), (0x7053, 0x1009)
GE_REFERENCE = (0x0009, 0x100D)  # decay reference as date and time


# what a SUV Type of DICOM needs to know of the patient
NEEDS = {
    "BW": {"weight"},
    "LBM": {"weight", "height", "sex"},
    "LBMJAMES128": {"weight", "height", "sex"},
    "LBMJANMA": {"weight", "height", "sex"},
    "IBW": {"height", "sex"},
    "BSA": {"weight", "height"},
}
# unit asked for -> kind: a SUV Type, or "activity" for Bq/mL
UNITS = {"SUVbw": "BW", "SUVlbm": "LBMJANMA", "SUVbsa": "BSA", "Bq/mL": "activity"}


class SUVScale(NamedTuple):
    """One factor a slice, the plain facts behind them, and what to know about them."""

    factors: Floats
    facts: dict[str, Any]
    notes: list[str]


def suv_scale(headers: Sequence[Dataset], unit: str, where: str) -> SUVScale:
    """Factors that take rescaled PET pixels to `unit`, a key of `UNITS`.

    Only what the conversion needs is demanded of the headers; all that is wrong with
    them is raised at once as SUVError.
    """
    log = _Log(where)
    first = headers[0]
    drug = (h.items(first, "RadiopharmaceuticalInformationSequence") or [Dataset()])[0]
    _check_headers(headers, log)
    kind, stored = _stored(headers, log)
    needs = _needs(kind, UNITS[unit])
    decay = h.text(first, "DecayCorrection").upper()
    timed = "dose" in needs and decay != "ADMIN"
    body = _Body(
        _weight(first, log.if_("weight" in needs)),
        _height(first, log.if_("height" in needs)),
        _sex(first, log.if_("sex" in needs)),
    )
    dose = _dose(drug, log.if_("dose" in needs))
    half_life = _half_life(drug, log.if_(timed))
    if timed and decay not in ("START", "NONE"):
        log.bad(f"DecayCorrection must be START, ADMIN or NONE, is {decay or 'absent'}")
    elapsed = _elapsed(headers, drug, half_life, decay, log.if_(timed))
    if unit == "Bq/mL" and kind not in ("activity", ""):
        log.bad("values are stored as SUV, not as activity", "ask for SUVbw")
    raise_all(log.problems)
    factors = stored * _ratio(kind, UNITS[unit], body, where)
    if "dose" in needs:
        factors = factors / (dose * _left(headers, half_life, elapsed, decay))
    uptake = _uptake(elapsed, drug, log)
    facts = {
        "units": h.text(first, "Units").upper(),
        "suv_type": None if kind == "activity" else kind,  # what is in the pixels
        "decay_correction": decay or None,
        "weight_kg": body.kg,
        "height_m": body.m,
        "sex": body.sex,
        "dose_bq": None if math.isnan(dose) else dose,
        "half_life_s": None if math.isnan(half_life) else half_life,
        "uptake_s": uptake,
        "factors": [float(factors.min()), float(factors.max())],
    }
    return SUVScale(factors, facts, [warn(note) for note in log.notes])


class _Log:
    """Problems and notes found on the way."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.problems: list[SUVError] = []
        self.notes: list[str] = []

    def bad(self, what: str, fix: str = "") -> None:
        self.problems.append(SUVError(what, self.where, fix))

    def if_(self, wanted: bool) -> _Log:
        """Return this log, or one that is thrown away."""
        return self if wanted else _Log(self.where)


class _Body(NamedTuple):
    kg: float | None
    m: float | None
    sex: str | None


def _needs(kind: str, target: str) -> Set[str]:
    """Facts needed to go from `kind` to `target`: weight, height, sex, dose."""
    if kind == target or not kind or target == "activity":
        return set()
    return NEEDS[target] | NEEDS.get(kind, {"dose"})


def normalizer(kind: str, kg: float, cm: float, sex: str) -> float:
    """Factor of uptake per dose: g, or cm2 for BSA; sex is M, F or O (mean of both)."""
    if sex == "O":
        return sum(normalizer(kind, kg, cm, one) for one in "MF") / 2
    male = sex == "M"
    if kind == "BW":
        return 1000 * kg
    if kind == "BSA":  # Du Bois
        return 71.84 * math.pow(cm, 0.725) * math.pow(kg, 0.425)
    if kind == "IBW":
        return 1000 * (48.0 + 1.06 * (cm - 152) if male else 45.5 + 0.91 * (cm - 152))
    if kind == "LBMJANMA":  # Janmahasatian 2005
        bmi = kg / (cm / 100) ** 2
        return 9.27e6 * kg / (6680 + 216 * bmi if male else 8780 + 244 * bmi)
    if male:  # Morgan or James
        return 1000 * (1.10 * kg - (120 if kind == "LBM" else 128) * (kg / cm) ** 2)
    return 1000 * (1.07 * kg - 148 * (kg / cm) ** 2)


def _ratio(kind: str, target: str, body: _Body, where: str) -> float:
    """Return the normalizer of the unit asked for over that of the pixels."""
    out = {"activity": 1.0}
    if kind == target:
        return 1.0
    for one in {kind, target} - {"activity"}:
        kg, cm = body.kg or math.nan, 100 * (body.m or math.nan)
        out[one] = normalizer(one, kg, cm, body.sex or "")
        if out[one] <= 0:
            found = f"{out[one] / 1000:.3g} kg for {kg:g} kg and {cm:g} cm"
            raise SUVError(f"the formula of {one} gives {found}", where, "use SUVbw")
    return out[target] / out[kind]


# --- the header as a whole ------------------------------------------------------------


def _check_headers(headers: Sequence[Dataset], log: _Log) -> None:
    for keyword in _CONSTANT:
        found = sorted({h.text(header, keyword) for header in headers})
        if len(found) > 1:
            log.bad(f"{keyword} differs between slices: {', '.join(map(repr, found))}")
    first = headers[0]
    corrected = h.text(first, "CorrectedImage").upper().split("\\")
    if "ATTN" not in corrected:
        found_text = ", ".join(corrected) or "absent"
        what = f"not attenuation corrected: CorrectedImage ({found_text}) lacks ATTN"
        log.bad(what, "use the attenuation corrected series")
    if "DECY" not in corrected and h.text(first, "DecayCorrection").upper() != "NONE":
        decay = h.text(first, "DecayCorrection") or "absent"
        what = f"CorrectedImage lacks DECY, but DecayCorrection is {decay}"
        log.bad(what, "use the decay corrected series")
    slopes = [h.number(header, "RescaleSlope") for header in headers]
    broken = sum(slope is None or slope <= 0 for slope in slopes)
    if broken:
        log.bad(f"RescaleSlope is not positive in {broken} of {len(slopes)} slices")
    for header in headers:
        offset = h.text(header, "RescaleIntercept")
        if offset and h.number(header, "RescaleIntercept") != 0:
            log.bad(f"RescaleIntercept of PET must be 0, is {offset}")
            break


def _stored(headers: Sequence[Dataset], log: _Log) -> tuple[str, Floats]:
    """Kind of the rescaled pixels, and a factor a slice that takes them to it.

    The kind is "activity" (Bq/mL), a SUV Type, or "" if it cannot be told.
    """
    ones = np.ones(len(headers))
    units = h.text(headers[0], "Units").upper()
    kind = h.text(headers[0], "SUVType").upper()
    if units == "BQML":
        return "activity", ones
    if units == "GML" and (kind or "BW") in set(NEEDS) - {"BSA"}:
        return kind or "BW", ones
    if units == "CM2ML" and kind in ("", "BSA"):
        return "BSA", ones
    if units == "CNTS":
        for tag, meaning in ((PHILIPS_SUV, "BW"), (PHILIPS_BQML, "activity")):
            found = [h.number(header, tag) or 0.0 for header in headers]
            if 0 < min(found) <= max(found) < 1e12:
                return meaning, np.array(found)
        what = "Units are CNTS without the factors of Philips (7053,1000), (7053,1009)"
        log.bad(what, "export the series in BQML")
    elif units in ("GML", "CM2ML"):
        log.bad(f"Units {units} with SUVType {kind!r} are not supported")
    else:
        what = f"Units are {units or 'absent'}, not BQML, GML, CM2ML or CNTS"
        log.bad(what, "export the series in BQML")
    return "", ones


# --- patient and dose -----------------------------------------------------------------


def _weight(header: Dataset, log: _Log) -> float | None:
    kg = h.number(header, "PatientWeight") or 0.0
    if kg > 1000:
        log.notes.append(f"PatientWeight {kg:g} was read as grams: {kg / 1000:g} kg")
        kg /= 1000
    if 2 <= kg <= 400:
        return kg
    found = f"is {kg:g} kg, outside 2 to 400" if kg else "is missing or 0"
    log.bad(f"PatientWeight {found}", "enter the weight in the header")
    return None


def _height(header: Dataset, log: _Log) -> float | None:
    m = h.number(header, "PatientSize") or 0.0
    if m > 3:
        log.notes.append(f"PatientSize {m:g} was read as cm: {m / 100:g} m")
        m /= 100
    if 0.3 <= m <= 2.5:
        return m
    found = f"is {m:g} m, outside 0.3 to 2.5" if m else "is missing or 0"
    log.bad(f"PatientSize {found}", "enter the height in the header or ask for SUVbw")
    return None


def _sex(header: Dataset, log: _Log) -> str | None:
    sex = h.text(header, "PatientSex").upper()
    if sex in ("M", "F", "O"):
        return sex
    log.bad(f"PatientSex must be M, F or O, is {sex or 'missing'}", "ask for SUVbw")
    return None


def _dose(drug: Dataset, log: _Log) -> float:
    """Injected activity in Bq, NaN if unusable."""
    bq = h.number(drug, "RadionuclideTotalDose") or 0.0
    if 1 <= bq < 1e5:
        log.notes.append(f"RadionuclideTotalDose {bq:g} was read as MBq")
        bq *= 1e6
    if 1e5 <= bq <= 2e10:
        return bq
    found = f"is {bq:g} Bq, outside 1e5 to 2e10" if bq else "is missing or 0"
    log.bad(f"RadionuclideTotalDose {found}", "enter the injected dose in the header")
    return math.nan


def _half_life(drug: Dataset, log: _Log) -> float:
    """Half-life in s from the header, or of the named nuclide; NaN if neither."""
    found = h.number(drug, "RadionuclideHalfLife") or 0.0
    known = _named_half_life(drug)
    if not 60 <= found <= 1e8:
        what = "RadionuclideHalfLife is missing or not in s"
        if math.isnan(known):
            log.bad(f"{what}, and no known nuclide is named")
        else:
            log.notes.append(f"{what}: {known:g} s of the nuclide named was used")
        return known
    off = 100 * (found / known - 1)
    if abs(off) > 2:
        what = f"RadionuclideHalfLife {found:g} s is {off:+.1f} % off the {known:g} s"
        log.notes.append(f"{what} of the nuclide named beside it; the header was used")
    return found


def _named_half_life(drug: Dataset) -> float:
    """Half-life in s of "18F", "^18^Fluorine" or "F-18"; NaN if no nuclide is named."""
    codes = h.items(drug, "RadionuclideCodeSequence")
    names = [h.text(code, "CodeMeaning") for code in codes]
    text = " ".join([*names, h.text(drug, "Radiopharmaceutical")])
    for name, mass, half_life in NUCLIDES:
        after, before = rf"\b({name})[a-z]*\W*{mass}\b", rf"\b{mass}\W*({name})"
        if re.search(f"{after}|{before}", text, re.IGNORECASE):
            return half_life
    return math.nan


# --- times ----------------------------------------------------------------------------


_NO_DATE = datetime(2000, 1, 1)
_NO_ZONE = "has a UTC offset, but TimezoneOffsetFromUTC is missing"


class _Moment(NamedTuple):
    when: datetime
    dated: bool  # else only the time of day is known


def _elapsed(
    headers: Sequence[Dataset], drug: Dataset, half_life: float, decay: str, log: _Log
) -> list[float]:
    """Seconds from injection to what the pixels of every slice refer to."""
    zone = h.utc_offset(headers[0], "TimezoneOffsetFromUTC")
    given = _injection(drug, zone, log)
    if decay == "START":
        scans = _reference(headers, zone, half_life, log)
    else:
        scans = [_time_of(header, "Acquisition") for header in headers]
    known = [scan for scan in scans if scan]
    if len(known) < len(scans):
        log.bad(f"AcquisitionTime is missing in {len(scans) - len(known)} slices")
    if decay == "NONE" and any(_frame_s(header) is None for header in headers):
        log.bad("DecayCorrection is NONE, and a slice has no ActualFrameDuration")
    if decay == "NONE" and "DECY" in h.text(headers[0], "CorrectedImage").upper():
        what = "the header contradicts itself (DecayCorrection NONE, CorrectedImage "
        log.notes.append(f"{what}with DECY): DecayCorrection was followed")
    if given is None or len(known) < len(scans):
        return []
    out = [_between(given, scan) for scan in known]
    scan = min(known, key=attrgetter("dated"))  # one without a date, if any
    return out if _plausible(out, given, scan, half_life, log) else []


def _between(given: _Moment, scan: _Moment) -> float:
    """Seconds from injection to scan; by the clock alone if a date is missing."""
    seconds = (scan.when - given.when).total_seconds()
    return seconds if given.dated and scan.dated else seconds % DAY


def _plausible(
    elapsed: list[float], given: _Moment, scan: _Moment, half_life: float, log: _Log
) -> bool:
    """Whether the scan is after the injection and not too late after it."""
    long_lived = half_life >= 3 * HOUR
    limit = 10 * half_life if long_lived else min(8 * HOUR, 10 * half_life)
    times = f"injection at {given.when:%H:%M:%S}, scan at {scan.when:%H:%M:%S}"
    dated = given.dated and scan.dated
    late = not dated and given.when.time() > scan.when.time()
    fix = "correct the times in the header"
    if min(elapsed) < 0:
        what = f"injection is {-min(elapsed) / 60:.1f} min after the scan ({times})"
        log.bad(what, fix)
    elif not dated and long_lived:
        what = "injection or scan has no date, and at a half-life of "
        what += f"{half_life / HOUR:.0f} h days may lie before the scan"
        log.bad(what, "enter the date in the header")
    elif max(elapsed) > limit:
        what = f"{max(elapsed) / HOUR:.1f} h from injection to scan ({times})"
        what = f"injection is after the scan, or {what}" if late else what
        log.bad(f"{what}, more than {limit / HOUR:.1f} h", fix)
    else:
        if late:
            log.notes.append(f"{times}: the injection was taken to be the day before")
        return True
    return False


def _injection(drug: Dataset, zone: timedelta | None, log: _Log) -> _Moment | None:
    long, short = "RadiopharmaceuticalStartDateTime", "RadiopharmaceuticalStartTime"
    full, clock = h.moment(drug, long, zone), h.clock(drug, short)
    if full is None and clock is None:
        log.bad(f"{long} and {short} are missing", "enter the time in the header")
        return None
    by_clock = _Moment(_NO_DATE + (clock or timedelta()), False)
    if full is None:
        return by_clock
    gap = 0.0 if clock is None else (full - by_clock.when).total_seconds()
    differ = (gap + 30) % DAY > 60
    if zone is None and h.utc_offset(drug, long) is not None:
        if differ:
            log.notes.append(f"{long} {_NO_ZONE}: {short} was used")
            return by_clock
        if clock is None:
            log.notes.append(f"{long} {_NO_ZONE}: it was read as local time")
    elif differ:
        log.notes.append(f"{long} and {short} disagree; the former was used")
    return _Moment(full, True)


def _time_of(header: Dataset, what: str) -> _Moment | None:
    """Date and time of "Acquisition" or "Series"."""
    clock, day = h.clock(header, f"{what}Time"), h.day(header, f"{what}Date")
    if clock is None:  # midnight is a clock that is false
        return None
    return _Moment((day or _NO_DATE) + clock, day is not None)


def _comparable(moments: Sequence[_Moment]) -> list[float]:
    """Seconds on one scale: of the day if only some of the dates are known."""
    out = [(moment.when - _NO_DATE).total_seconds() for moment in moments]
    mixed = len({moment.dated for moment in moments}) > 1
    return [seconds % DAY for seconds in out] if mixed else out


def _reference(
    headers: Sequence[Dataset], zone: timedelta | None, half_life: float, log: _Log
) -> list[_Moment | None]:
    """Start of the scan, to which START corrects: one moment a slice."""
    private = [h.moment(header, GE_REFERENCE, zone) for header in headers]
    if all(private):
        if zone is None and h.utc_offset(headers[0], GE_REFERENCE) is not None:
            log.notes.append(f"decay reference {_NO_ZONE}: it was read as local time")
        return [_Moment(when, True) for when in private if when]
    found = [_scan_start(header, half_life) for header in headers]
    times = _comparable([moment for moment in found if moment])
    if len(times) == len(headers):
        spread = max(times) - min(times)
        if spread <= MAX_REFERENCE_SPREAD:
            return list(found)
        why = f"frame reference times disagree by {spread:.0f} s"
    else:
        why = "frame reference time or duration is missing"
    series = _time_of(headers[0], "Series")
    scans = [series, *(_time_of(header, "Acquisition") for header in headers)]
    starts = [start for start in scans if start]
    if not starts:
        return [None] * len(headers)
    _, first = min(zip(_comparable(starts), starts, strict=True), key=itemgetter(0))
    name = "series time" if first is series else "earliest acquisition time"
    log.notes.append(f"{why}: decay was corrected to the {name}")
    return [first] * len(headers)


def _scan_start(header: Dataset, half_life: float) -> _Moment | None:
    """Acquisition time + time of average activity in the frame - its reference time."""
    acquired = _time_of(header, "Acquisition")
    reference = h.number(header, "FrameReferenceTime")  # ms
    length = _frame_s(header)
    if acquired is None or reference is None or length is None or abs(reference) > 1e9:
        return None
    average = length / 2
    if not math.isnan(half_life):
        x = math.log(2) / half_life * length
        average = math.log(x / -math.expm1(-x)) / x * length
    start = acquired.when + timedelta(seconds=average - reference / 1000)
    return _Moment(start, acquired.dated)


def _frame_s(header: Dataset) -> float | None:
    length = h.number(header, "ActualFrameDuration")  # ms
    return length / 1000 if length and 1 <= length <= 1e9 else None


def _left(
    headers: Sequence[Dataset], half_life: float, elapsed: list[float], decay: str
) -> Floats:
    """Share of the dose that the pixels of every slice refer to."""
    if decay == "ADMIN":
        return np.ones(len(headers))
    rate = math.log(2) / half_life
    left: Floats = np.exp(-rate * np.array(elapsed))
    if decay == "NONE":  # mean activity over the frame
        x = rate * np.array([_frame_s(header) or math.nan for header in headers])
        left = left * -np.expm1(-x) / x
    return left


def _uptake(elapsed: list[float], drug: Dataset, log: _Log) -> float | None:
    """Seconds from injection to the scan, with a note if they are unusual for FDG."""
    if not elapsed:
        return None
    codes = h.items(drug, "RadiopharmaceuticalCodeSequence")
    names = [h.text(code, "CodeMeaning") for code in codes]
    name = " ".join([h.text(drug, "Radiopharmaceutical"), *names]).lower()
    minutes, (low, high) = min(elapsed) / 60, UPTAKE_FDG
    if ("fdg" in name or "deoxyglucose" in name) and not low <= minutes <= high:
        what = f"FDG uptake time is {minutes:.0f} min, outside {low:.0f} to {high:.0f}"
        log.notes.append(f"{what}: compare SUV with other patients with care")
    return min(elapsed)

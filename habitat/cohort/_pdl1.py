"""PD-L1 columns of a cohort: tumor proportion score, assay, days to the scan.

TPS is the share of viable tumor cells that stain, 0 to 100 percent. The usual cut-offs
are 1 % and 50 %.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

from habitat.cohort._problems import Problem
from habitat.cohort._sheet import warning
from habitat.errors import CohortError

ASSAYS = ("22C3", "28-8", "SP263", "SP142", "E1L3N")
CUT_OFFS = (1, 50)
MOST_DAYS = 30
FEW = 10  # cases in a class

_SIGNS = str.maketrans(
    {
        **{i: chr(i - 0xFEE0) for i in range(0xFF01, 0xFF5F)},  # full width, as in ％
        **dict.fromkeys(map(ord, "‐‑‒–—−"), "-"),
        **dict.fromkeys(map(ord, "≥⩾≧"), ">="),
        **dict.fromkeys(map(ord, "≤⩽≦"), "<="),
    }
)
_PERCENT = r"([0-9]{1,6}(?:[.,][0-9]{1,9})?)\s*%?"
_VALUE = re.compile(rf"(<=|>=|<|>)?\s*{_PERCENT}")
_RANGE = re.compile(rf"{_PERCENT}\s*(?:-|~|to)\s*{_PERCENT}")
_VENDORS = re.compile(r"dako|agilent|ventana|roche|pharmdx|[^a-z0-9]")


class Score(NamedTuple):
    """What a cell says of the TPS; `low` and `high` are equal but for a range."""

    text: str
    low: float
    high: float


def score(text: str) -> Score:
    """Read a TPS such as "60", "60 %", "60,5", "<1", "≥50%" or "1-49".

    An open end is the nearest float, so that "<1" is below a cut-off of 1.
    """
    plain = text.translate(_SIGNS).strip().casefold()
    if match := _RANGE.fullmatch(plain):
        low, high = (float(n.replace(",", ".")) for n in match.groups())
    elif match := _VALUE.fullmatch(plain):
        low, high = _ends(match[1] or "", float(match[2].replace(",", ".")))
    else:
        low, high = math.nan, math.nan
    if not 0 <= low <= high <= 100:
        what = f"must be 0 to 100 percent, as 60, <1 or 1-49, got {text!r:.40}"
        if high > 100:
            what += ", a CPS?"
        fix = "leave it empty where TPS is not known; other scores go to out:<name>"
        raise CohortError(what, "", fix)
    return Score(text, low, high)


def _ends(sign: str, value: float) -> tuple[float, float]:
    below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    ends = {
        "": (value, value),
        "<": (0.0, below),
        "<=": (0.0, value),
        ">": (above, 100.0),
        ">=": (value, 100.0),
    }
    return ends[sign]


def assay(text: str) -> str:
    """Spell the name of an assay as in `ASSAYS`."""
    plain = _VENDORS.sub("", text.translate(_SIGNS).casefold())
    for name in ASSAYS:
        if plain == _VENDORS.sub("", name.casefold()):
            return name
    what = f"must be one of {', '.join(ASSAYS)}, got {text!r:.40}"
    fix = "Excel makes a date of 28-8 unless the column is text"
    raise CohortError(what, "", fix)


def day(text: str) -> date:
    """Read a date: 2024-12-31, 20241231, 31.12.2024 or a day number of Excel.

    Errors show the form of the text and not its digits: dates are not kept.
    """
    plain = text.translate(_SIGNS).strip()
    plain = re.sub(r"[T ][0-9:.Z+]+$", "", plain)  # time of day
    try:
        if re.fullmatch(r"[2-7][0-9]{4}([.,][0-9]+)?", plain):  # 1954 to 2119
            return date(1899, 12, 30) + timedelta(days=int(plain[:5]))
        if match := re.fullmatch(
            r"([0-9]{4})([-/.]?)([0-9]{1,2})\2([0-9]{1,2})", plain
        ):
            return date(int(match[1]), int(match[3]), int(match[4]))
        if match := re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})", plain):
            return date(int(match[3]), int(match[2]), int(match[1]))
    except ValueError:
        pass
    form = re.sub(r"\d", "9", plain)
    what = f"cannot be read as a date, its form is {form!r:.40}"
    if re.fullmatch(r"9{1,2}[/-]9{1,2}[/-]9{4}", form):
        what = f"is ambiguous, its form is {form!r}: day or month first?"
    raise CohortError(what, "", "write dates as 2024-12-31")


def day_problems(line: int, days: float | None) -> list[Problem]:
    """Warn of a tissue sample taken long before or after the scan."""
    if days is None or abs(days) <= MOST_DAYS:
        return []
    when = "before" if days < 0 else "after"
    what = f"tissue was taken {abs(days):.0f} days {when} the scan"
    fix = f"more than {MOST_DAYS} days: PD-L1 may have changed; see what it does"
    return [warning(what, fix, line, "pdl1_date")]


def score_problems(scores: Mapping[int, Score]) -> list[Problem]:
    """Warn of scores that look like fractions, of ranges and of small classes.

    Parameters
    ----------
    scores : mapping of int to Score
        Row of the table to what it says, for all cases that can be used.
    """
    found = []
    exact = [s for s in scores.values() if s.low == s.high and "%" not in s.text]
    if any(s.low % 1 for s in exact) and all(s.low <= 1 for s in exact):
        what = f"{len(exact)} values are all between 0 and 1: they look like fractions"
        found.append((what, "give percent: 60, not 0.6"))
    # within "<1" lies none of the cut-offs in use
    ranges = [n for n, s in scores.items() if s.high - s.low >= 1]
    if ranges:
        first = scores[ranges[0]].text
        what = (
            f"{len(ranges)} values are ranges, such as {first!r:.20} in row {ranges[0]}"
        )
        found.append((what, "only cut-offs outside a range give such a case a class"))
    for cut in CUT_OFFS if scores else ():
        high = sum(s.low >= cut for s in scores.values())
        low = sum(s.high < cut for s in scores.values())
        what = f"{high} cases with TPS >= {cut} %, {low} below"
        if not high or not low:
            found.append(
                (what, "with one class nothing can be learned at this cut-off")
            )
        elif min(high, low) < FEW:
            fix = f"fewer than {FEW} in a class are too few to learn from"
            found.append((what, fix))
    return [warning(what, fix, column="pdl1_tps") for what, fix in found]


def assay_problems(assays: Mapping[int, str]) -> list[Problem]:
    """Warn where scores come from several assays."""
    counts = Counter(assays.values()).most_common()
    if len(counts) < 2:
        return []
    what = f"assays are mixed: {', '.join(f'{name} {n}' for name, n in counts)}"
    if "SP142" in dict(counts):
        what += " (SP142 stains fewer tumor cells, its scores are lower)"
    fix = "compare results within one assay, too"
    return [warning(what, fix, column="pdl1_assay")]

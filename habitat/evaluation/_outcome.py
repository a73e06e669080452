"""From PD-L1 in percent, or any column, to classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from habitat._check import warn
from habitat.case import Case
from habitat.errors import CohortError, ConfigError
from habitat.selection._inner import FEW

TPS = "pdl1_tps"
_SHOWN = 5  # ids in a sentence


@dataclass(frozen=True, eq=False)
class Outcome:
    """Classes of cases.

    Attributes
    ----------
    y : array of shape (n_cases,)
        Code of the class of each case, -1 where it cannot be told.
    classes : tuple of str
        Names in order, such as ``("TPS < 1", "TPS >= 1")``.
    usable : array of bool
        Which cases have a class.
    notes : tuple of str
        How many cases have none, and why.
    """

    y: npt.NDArray[np.intp]
    classes: tuple[str, ...]
    usable: npt.NDArray[np.bool_]
    notes: tuple[str, ...]

    @property
    def values(self) -> pd.Categorical:
        """Class of each usable case, for `evaluate`."""
        names = pd.CategoricalDtype(list(self.classes), ordered=True)
        return pd.Categorical.from_codes(self.y[self.usable], dtype=names)


def outcome_of(
    data: pd.DataFrame | Sequence[Case],
    column: str = TPS,
    cutoffs: Sequence[float] | None = None,
) -> Outcome:
    """Classes of cases from one of their outcomes.

    Parameters
    ----------
    data : DataFrame or sequence of Case
        A wide table, or cases with an `outcome`.
    column : str
        Its name, such as "pdl1_tps" (percent) or "out:response" (the prefix may be left
        out).
    cutoffs : sequence of float, optional
        Rising; a value equal to one belongs to the class above. By default (1,) for
        pdl1_tps; (1, 50) gives three classes. Without cut-offs the values themselves
        are the classes.

    Returns
    -------
    Outcome
        A range ("1-49", as pdl1_tps to pdl1_tps_high) has a class if no cut-off lies
        within it.

    Raises
    ------
    CohortError
        If there is no such column, or fewer than two classes are there.

    Examples
    --------
    >>> table = pd.DataFrame({"pdl1_tps": [0.0, 1.0, 60.0] * 10})
    >>> found = outcome_of(table, cutoffs=(1, 50))
    >>> found.classes, found.y[:3].tolist()
    (('TPS < 1', 'TPS 1 to < 50', 'TPS >= 50'), [0, 1, 2])
    """
    if isinstance(cutoffs, (int, float)):
        cutoffs = (cutoffs,)
    table = data if isinstance(data, pd.DataFrame) else _table(data)
    ids = table["case_id"].astype(str).tolist() if "case_id" in table else None
    ids = ids or [str(i) for i in table.index]
    name = _column(table, column)
    cutoffs = (1.0,) if cutoffs is None and name == TPS else cutoffs
    if cutoffs is None:
        codes, classes, notes = _as_given(table[name])
    else:
        codes, classes, notes = _cut(table, name, _checked(cutoffs), ids)
    missing = [i for i, v in zip(ids, table[name], strict=True) if pd.isna(v)]
    if missing:
        notes.append(f"{_some(missing)} without {name}.")
    counts = np.bincount(codes[codes >= 0], minlength=len(classes))
    if (counts > 0).sum() < 2:
        found = ", ".join(f"{n} of {c}" for n, c in zip(counts, classes, strict=True))
        what = f"must have two classes or more, found {found or 'none'}"
        raise CohortError(what, name, "check the column and the cut-offs")
    empty = [c for n, c in zip(counts, classes, strict=True) if n == 0]
    if empty:
        raise CohortError(f"has no case of {', '.join(empty)}", name, "other cut-offs")
    few = [f"{n} of {c}" for n, c in zip(counts, classes, strict=True) if n < FEW]
    if few:
        notes.append(warn(f"Fewer than {FEW} cases of a class: {', '.join(few)}."))
    return Outcome(codes, tuple(classes), codes >= 0, tuple(notes))


def _table(cases: Sequence[Case]) -> pd.DataFrame:
    rows = [{"case_id": case.case_id, **case.outcome} for case in cases]
    return pd.DataFrame(rows)


def _column(table: pd.DataFrame, column: str) -> str:
    for name in (column, f"out:{column}"):
        if name in table:
            return name
    known = [c for c in map(str, table.columns) if c == TPS or c.startswith("out:")]
    what = f"is not there; outcomes found: {', '.join(known) or 'none'}"
    raise CohortError(what, column, "name one of these columns")


def _checked(cutoffs: Sequence[float]) -> list[float]:
    found = [float(c) for c in cutoffs]
    if not found or any(b <= a for a, b in itertools.pairwise(found)):
        raise ConfigError(f"must rise, got {found}", "`cutoffs`", "such as 1 and 50")
    return found


def _as_given(values: Any) -> tuple[npt.NDArray[np.intp], list[str], list[str]]:
    """Each value is a class; whole numbers are written without a point."""
    there = values.dropna()
    classes = sorted(set(there))
    if len(classes) > 10:
        what = f"has {len(classes)} different values"
        fix = "give cut-offs to turn numbers into classes"
        raise CohortError(what, str(values.name), fix)
    place = {value: i for i, value in enumerate(classes)}
    codes = np.array([place.get(v, -1) for v in values], dtype=np.intp)
    whole = [int(c) if isinstance(c, float) and c.is_integer() else c for c in classes]
    return codes, [str(c) for c in whole], []


def _cut(
    table: pd.DataFrame, name: str, cutoffs: list[float], ids: list[str]
) -> tuple[npt.NDArray[np.intp], list[str], list[str]]:
    low = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
    text = table[name].notna().to_numpy() & np.isnan(low)
    if text.any():
        first = table[name][text].iloc[0]
        what = f"{int(text.sum())} values are no numbers, first {first!r}"
        raise CohortError(what, name, "leave the cut-offs out, or mend the column")
    high = low
    if f"{name}_high" in table:
        ends = pd.to_numeric(table[f"{name}_high"], errors="coerce").to_numpy(float)
        high = np.where(np.isnan(ends), low, ends)
    codes = np.searchsorted(cutoffs, low, side="right").astype(np.intp)
    above = np.searchsorted(cutoffs, high, side="right")
    straddles = (codes != above) & ~np.isnan(low)
    codes[np.isnan(low) | straddles] = -1
    notes = []
    if straddles.any():
        names = [i for i, bad in zip(ids, straddles, strict=True) if bad]
        notes.append(f"{_some(names)} with a range of {name} across a cut-off.")
    word = "TPS" if name == TPS else name.removeprefix("out:")
    at = [f"{c:g}" for c in cutoffs]
    between = [f"{word} {a} to < {b}" for a, b in itertools.pairwise(at)]
    return codes, [f"{word} < {at[0]}", *between, f"{word} >= {at[-1]}"], notes


def _some(ids: list[str]) -> str:
    more = ", ..." if len(ids) > _SHOWN else ""
    return f"{len(ids)} cases are left out ({', '.join(ids[:_SHOWN])}{more})"

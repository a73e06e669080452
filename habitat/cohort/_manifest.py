"""read_cohort(): a table of cases, and everything that is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

from habitat._check import warn
from habitat.case import Case
from habitat.cohort import _pdl1
from habitat.cohort._clashes import CLASHES, Drafts
from habitat.cohort._problems import ERROR, WARNING, Problem
from habitat.cohort._sheet import Record, Sheet, folder_path, read_sheet, typed, warning
from habitat.errors import CohortError

_Value = TypeVar("_Value")

COLUMNS = (
    *("case_id", "pet", "ct", "mask", "label", "group", "site", "split"),
    *("pdl1_tps", "pdl1_assay", "pdl1_specimen", "pdl1_date", "scan_date"),
    *("tracer", "registered"),
)
IMAGE, CLINICAL, OUTCOME = PREFIXES = ("image:", "clin:", "out:")
SPLITS = ("train", "test")
_TAKEN = {*COLUMNS, "status", "pdl1_tps_high", "pdl1_days"}  # in tables we write
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Row(NamedTuple):
    """One row of the table, whether it can be used or not."""

    line: int  # as a spreadsheet counts, the header is row 1
    case_id: str  # "row 7" where the table has none
    usable: bool


@dataclass(frozen=True, eq=False)
class Cohort(Sequence[Case]):
    """Cases of a table, as a sequence, and what is wrong with the table.

    Attributes
    ----------
    cases : tuple of Case
        Rows that can be used, in the table's order.
    problems : tuple of Problem
        row (as a spreadsheet counts, 0 for the whole table), case_id, column, level
        ("error": the row is left out, or "warning"), kind, message, fix.
        ``pandas.DataFrame(cohort.problems)`` makes a table of them.
    path : pathlib.Path
        The table.
    rows : tuple of Row
        Every row: line, case_id, usable.
    """

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    path: Path
    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.cases)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Case, ...]: ...
    def __getitem__(self, index: int | slice) -> Case | tuple[Case, ...]:
        return self.cases[index]

    def __repr__(self) -> str:
        out = len(self.rows) - len(self.cases)
        left = f", {out} rows left out" if out else ""
        return f"Cohort({self.path.name!r}: {len(self.cases)} cases{left})"

    @cached_property
    def _errors(self) -> Mapping[int, list[Problem]]:
        errors = defaultdict(list)
        for problem in self.problems:
            if problem.level == ERROR:
                errors[problem.row].append(problem)
        return errors

    def problems_of(self, row: Row) -> list[Problem]:
        """Why a row cannot be used; nothing if it can."""
        return self._errors.get(row.line, [])

    @property
    def unusable(self) -> list[tuple[str, list[Problem]]]:
        """Case ids that cannot be used, each with the reasons."""
        return [(r.case_id, self.problems_of(r)) for r in self.rows if not r.usable]


def read_cohort(path: str | os.PathLike[str]) -> Cohort:
    r"""Read a table of cases; rows with an error are left out and named.

    Parameters
    ----------
    path : path
        A table of text, with one row for each case and the columns

        - ``case_id``: name of the case, different in each row;
        - ``pet`` and ``ct``, or ``image:<name>`` for any other channel: an image file
          or DICOM folder, absolute, from ``~`` or relative to the table (the first
          channel orders the habitats: pet, ct, then the others as in the table);
        - ``mask``, and ``label`` where the file holds several structures (their value
          or name);
        - ``group`` (patient, where one has several cases), ``site``, ``split``
          ("train", "test" or a name of your own);
        - ``pdl1_tps``: tumor proportion score, 0 to 100 percent, also "<1" or "1-49";
          ``pdl1_assay`` (22C3, 28-8, SP263, SP142, E1L3N), ``pdl1_specimen``, and
          ``pdl1_date`` and ``scan_date``, of which only the difference is kept;
        - ``tracer``, ``registered`` (true or false: whether the images fit together);
        - ``clin:<name>``, ``out:<name>``: anything else that is known of the patient,
          or is to be predicted; numbers if all values of the column are.

        Only case_id, one image and mask are needed. Encoding (UTF-8, UTF-16, else
        Windows-1252), separator (comma, semicolon, tab, bar) and, but for commas as
        separators, decimal commas are recognized. Empty cells and NA are missing
        values, but NA may be a case_id.

    Returns
    -------
    Cohort
        A sequence of `Case`. `Case.outcome` has pdl1_tps and pdl1_tps_high, which are
        the ends of a range or equal, pdl1_assay, pdl1_specimen, pdl1_days (tissue after
        scan), tracer, registered and all of ``out:``, as far as the table has them.

    Raises
    ------
    CohortError
        If the file cannot be read, lacks a column, or no row can be used.

    Warns
    -----
    HabitatWarning
        With the number of rows that are left out and the first reason; and with the
        number of other problems. `Cohort.problems` lists all of them.

    Notes
    -----
    Rows are left out that share a case_id (also if only upper and lower case differ),
    that name a file which another patient has, or whose patient is in several splits.
    Files are not opened: `check_cohort` looks at their headers.

    Examples
    --------
    >>> import habitat, pathlib, tempfile
    >>> table = pathlib.Path(tempfile.mkdtemp(), "cohort.csv")
    >>> rows = "case_id,pet,ct,mask,clin:age\nP1,p.nii,c.nii,m.nii,71"
    >>> _ = table.write_text(rows)
    >>> cohort = habitat.read_cohort(table)
    >>> cohort[0], cohort[0].clinical
    (Case('P1': pet, ct), {'age': 71.0})
    """
    cohort = read_rows(path)
    errors = [p for p in cohort.problems if p.level == ERROR]
    others = [p for p in cohort.problems if p.level == WARNING]
    left = len(cohort.rows) - len(cohort)
    count = f"{left} of {len(cohort.rows)} rows"
    if not cohort.cases:
        what = f"no row can be used, the first because of {in_words(errors[0])}"
        fix = "`habitat check` lists all problems"
        raise CohortError(what, str(cohort.path), fix)
    if errors:
        warn(f"{cohort.path.name}: {count} left out, the first: {in_words(errors[0])}")
    if others:
        number = f"{len(others)} warnings, the first: " if len(others) > 1 else ""
        warn(f"{cohort.path.name}: {number}{in_words(others[0])}")
    return cohort


def in_words(problem: Problem) -> str:
    """A problem as one sentence."""
    row = f"row {problem.row}" if problem.row else ""
    if problem.case_id != row:
        row += f" ({problem.case_id})"
    where = " ".join(filter(None, (row, problem.column)))
    head = f"{where}: {problem.message}" if where else problem.message
    return f"{head}; {problem.fix}" if problem.fix else head


def read_rows(path: str | os.PathLike[str]) -> Cohort:
    """Do what `read_cohort` does, in silence and even if no row can be used."""
    path = folder_path(os.fspath(path), Path())
    sheet = read_sheet(path, "case_id", _name_of)
    channels = _channels(sheet, path)
    problems = [*sheet.problems, *_column_problems(sheet)]
    values = {}
    for column in sheet.columns:
        if column.startswith((CLINICAL, OUTCOME)):
            values[column], found = typed(sheet, column)
            problems += found
    folder = path.absolute().parent
    drafts = {}
    for record in sheet.records:
        draft = _draft(record, channels, folder, problems)
        for column, by_line in values.items():
            if record.line in by_line:
                prefix, _, name = column.partition(":")
                part = "clinical" if prefix == "clin" else "outcome"
                draft[part][name] = by_line[record.line]
        drafts[record.line] = draft
    for rule in CLASHES:
        problems += rule(drafts)
    bad = {p.row for p in problems if p.level == ERROR}
    usable = {line: draft for line, draft in drafts.items() if line not in bad}
    problems += _pdl1_problems(usable, sheet)
    rows = [Row(n, d["case_id"] or f"row {n}", n in usable) for n, d in drafts.items()]
    ids = {row.line: row.case_id for row in rows}
    named = [p._replace(case_id=ids.get(p.row, "")) for p in problems]
    named.sort(key=lambda p: p.row)
    cases = tuple(Case(**draft) for draft in usable.values())
    return Cohort(cases, tuple(named), path, tuple(rows))


# --- columns --------------------------------------------------------------------------


def _name_of(header: str) -> str:
    """Name of a column whatever its case: "PET" is pet, "image:ct" is ct."""
    folded = header.casefold()
    if folded in COLUMNS:
        return folded
    for prefix in PREFIXES:
        rest = header[len(prefix) :].strip()
        if folded.startswith(prefix) and not rest:
            return prefix.rstrip(":")
        if folded.startswith(prefix):
            shared = prefix == IMAGE and rest.casefold() in ("pet", "ct", "mask")
            return rest.casefold() if shared else f"{prefix}{rest}"
    return header


def _channels(sheet: Sheet, path: Path) -> dict[str, str]:
    """Column of each channel by the channel's name; raise where columns lack."""
    first = [column for column in ("pet", "ct") if column in sheet.columns]
    others = [column for column in sheet.columns if column.startswith(IMAGE)]
    channels = {column.removeprefix(IMAGE): column for column in (*first, *others)}
    some = [r for r in sheet.records if "case_id" in r.cells]
    lacking = [] if some else ["case_id"]
    lacking += [] if "mask" in sheet.columns else ["mask"]
    lacking += [] if channels else ["pet and ct, or image:<name>"]
    if lacking:
        what = f"has no column {', '.join(lacking)} with a value in it"
        found = ", ".join(sheet.columns)
        raise CohortError(f"{what}, only {found!r:.200}", str(path), "add it")
    taken = [c for c in sheet.columns if c.removeprefix(OUTCOME) in _TAKEN - {c}]
    if taken:
        what = f"the name of column {', '.join(taken)} is in use for something else"
        raise CohortError(what, str(path), "give it another name")
    return channels


def _column_problems(sheet: Sheet) -> list[Problem]:
    """Name the columns that are not used."""
    found = []
    for column in sheet.columns:
        if column in COLUMNS or column.startswith(PREFIXES):
            continue
        near = difflib.get_close_matches(column.casefold(), COLUMNS, n=1, cutoff=0.7)
        fix = f"to keep it name it clin:{column} or out:{column}"
        if "cps" in column.casefold():
            fix = f"CPS is not TPS; {fix}"
        elif near:
            fix = f"did you mean {near[0]!r}? {fix}"
        found.append(warning("the column is not used", fix, column=column))
    lonely = [c for c in ("pdl1_date", "scan_date") if c in sheet.columns]
    if len(lonely) == 1:
        fix = "give both pdl1_date and scan_date"
        found.append(warning("the column is not used alone", fix, column=lonely[0]))
    return found


# --- one row --------------------------------------------------------------------------


def _draft(
    record: Record, channels: Mapping[str, str], folder: Path, problems: list[Problem]
) -> dict[str, Any]:
    """Arguments of `Case` as far as a row has them."""
    cells, line = record.cells, record.line
    for column in ("case_id", *channels.values(), "mask"):
        if column not in cells:
            fix = "give each case a name" if column == "case_id" else "name the file"
            error = CohortError("is empty", "", fix)
            problems.append(Problem.of(error, line, column=column))
    paths = {
        column: folder_path(cells[column], folder)
        for column in (*channels.values(), "mask")
        if column in cells
    }
    return {
        "case_id": cells.get("case_id", ""),
        "images": {
            n: paths[column] for n, column in channels.items() if column in paths
        },
        "mask": paths.get("mask"),
        "label": _label(cells.get("label")),
        "group": cells.get("group"),
        "site": cells.get("site"),
        "split": _split(record, problems),
        "clinical": {},
        "outcome": _outcome(record, problems),
    }


def _label(text: str | None) -> int | str | None:
    plain = text and re.fullmatch(r"([0-9]{1,9})(\.0*)?", text)
    return int(plain[1]) if plain else text


def _split(record: Record, problems: list[Problem]) -> str | None:
    text = record.cells.get("split")
    if text is None:
        return None
    if text.casefold() in SPLITS:
        return text.casefold()
    near = difflib.get_close_matches(text.casefold(), SPLITS, n=1, cutoff=0.7)
    if near:
        what = f"{text!r:.40} is kept as a split of its own"
        fix = f"did you mean {near[0]!r}?"
        problems.append(warning(what, fix, record.line, "split"))
    return text


def _outcome(record: Record, problems: list[Problem]) -> dict[str, Any]:
    """PD-L1 and the rest that is neither image nor patient."""

    def parse(column: str, parser: Callable[[str], _Value]) -> _Value | None:
        if column not in record.cells:
            return None
        try:
            return parser(record.cells[column])
        except CohortError as error:
            problems.append(Problem.of(error, record.line, column=column))
            return None

    score = parse("pdl1_tps", _pdl1.score)
    taken, scan = parse("pdl1_date", _pdl1.day), parse("scan_date", _pdl1.day)
    days = float((taken - scan).days) if taken and scan else None
    problems += _pdl1.day_problems(record.line, days)
    registered = parse("registered", _truth)
    if registered is False:
        what, fix = "the images are not registered", "see habitat.register"
        problems.append(warning(what, fix, record.line, "registered"))
    out = {
        "pdl1_tps": score and score.low,
        "pdl1_tps_high": score and score.high,
        "pdl1_assay": parse("pdl1_assay", _pdl1.assay),
        "pdl1_specimen": record.cells.get("pdl1_specimen"),
        "pdl1_days": days,
        "tracer": record.cells.get("tracer"),
        "registered": registered,
    }
    return {name: value for name, value in out.items() if value is not None}


def _truth(text: str) -> bool:
    if text.casefold() in _TRUTH:
        return _TRUTH[text.casefold()]
    raise CohortError(f"must be true or false, got {text!r:.40}", "", "")


# --- rows together --------------------------------------------------------------------


def _pdl1_problems(usable: Drafts, sheet: Sheet) -> list[Problem]:
    outcomes = {line: draft["outcome"] for line, draft in usable.items()}
    texts = {r.line: r.cells.get("pdl1_tps", "") for r in sheet.records}
    scores = {
        n: _pdl1.Score(texts[n], o["pdl1_tps"], o["pdl1_tps_high"])
        for n, o in outcomes.items()
        if "pdl1_tps" in o
    }
    assays = {n: o["pdl1_assay"] for n, o in outcomes.items() if "pdl1_assay" in o}
    return [*_pdl1.score_problems(scores), *_pdl1.assay_problems(assays)]

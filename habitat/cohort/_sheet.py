"""A table as spreadsheets write it, as text; nothing in it is guessed or lost."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from habitat.cohort._problems import WARNING, Problem
from habitat.errors import CohortError
from habitat.saving import unguarded

_MOST_BYTES = 500_000_000
_MISSING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "-"))
_BROKEN = frozenset(("#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!"))
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_SEPARATORS = (",", ";", "\t", "|")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_OTHER_FORMATS = {
    b"PK\x03\x04": "is an Excel workbook or a zip file",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook",
    b"\x1f\x8b": "is compressed",
}
SAVE_AS = "save it as 'CSV UTF-8'"


class Record(NamedTuple):
    """One row; cells that are empty or say "NA" are left out, but for the id."""

    line: int  # row as a spreadsheet counts it, the header is row 1
    cells: Mapping[str, str]


class Sheet(NamedTuple):
    """What a file holds, and what is wrong with its form."""

    columns: tuple[str, ...]  # those with a value in any row
    records: tuple[Record, ...]
    decimal_comma: bool  # whether 1,5 may be a number
    problems: tuple[Problem, ...]


def read_sheet(path: Path, key: str, rename: Callable[[str], str]) -> Sheet:
    """Read a table of text in any encoding, with any separator.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    key : str
        Column that tells the rows apart: "NA" is a value there.
    rename : callable
        Gives a column its final name.

    Raises
    ------
    CohortError
        If it is not a table, two columns have one name or there is no row.
    """
    text, problems = _decode(path)
    separator, lines = _split(text, path, key)
    line, head = next(((n, h) for n, h in lines if any(h)), (0, []))
    columns = [rename(name) for name in head]
    named = [name for name in columns if name]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        what = f"columns are there more than once: {', '.join(twice)}"
        raise CohortError(what, str(path), "give each another name")
    records = []
    for n, cells in lines:
        if n > line and any(cells):
            problems += _row_problems(n, cells, columns)
            records.append(Record(n, _cells(columns, cells, key)))
    if not records:
        raise CohortError("holds no case", str(path), "write one row for each case")
    used = {name for record in records for name in record.cells} | {key}
    columns = [name for name in named if name in used]
    return Sheet(tuple(columns), tuple(records), separator != ",", tuple(problems))


def warning(what: str, fix: str, line: int = 0, column: str = "") -> Problem:
    """Something to know that keeps no case from being used."""
    return Problem(line, "", column, WARNING, "CohortError", what, fix)


def _decode(path: Path) -> tuple[str, list[Problem]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            size = path.stat().st_size // 10**6
            raise CohortError(f"is no table of cases: {size} MB", str(path))
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        raise CohortError(f"cannot be read: {error}", str(path)) from error
    for start, what in _OTHER_FORMATS.items():
        if raw.startswith(start):
            raise CohortError(what, str(path), SAVE_AS)
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))  # "Unicode text" of Excel
    tried = ("utf-16",) if wide else ("utf-8-sig", "cp1252")
    for encoding in tried:
        try:
            text = raw.decode(encoding).replace("\0", _UNREADABLE)
            break
        except UnicodeDecodeError:
            continue
    else:
        raise CohortError("is no text in UTF-8", str(path), SAVE_AS)
    if encoding != "cp1252":
        return text, []
    what = f"{path.name} is not UTF-8, it is read as Windows-1252"
    fix = f"{SAVE_AS} if names look odd"
    return text, [warning(what, fix)]


def _split(text: str, path: Path, key: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """Cells of all lines, by the separator that makes `key` a column."""
    said = re.match(r"sep=([,;|\t])\r?\n?", text)  # first line, for Excel only
    separators: Iterable[str] = said.group(1) if said else _SEPARATORS
    text = text[said.end() :] if said else text
    heads = {}
    for separator in separators:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            head = next((row for row in reader if any(c.strip() for c in row)), [])
        except csv.Error:
            continue
        found = key in (c.strip().casefold() for c in head)
        heads[separator] = (found, len(head))
    separator = max(heads, key=lambda s: heads[s], default=",")
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=separator, strict=True)
    lines = []
    try:
        for n, row in enumerate(reader, 1):
            lines.append((n, [_cell(c) for c in row]))
    except csv.Error as error:
        what = f"broken at row {len(lines) + 1}: {error}"
        fix = 'a quote " that is not closed? save it anew from a spreadsheet'
        raise CohortError(what, str(path), fix) from error
    return separator, lines


def _cell(text: str) -> str:
    """Text of a cell without blanks and without the guard against formulas."""
    return str(unguarded(text.strip())).strip()


def _row_problems(line: int, cells: list[str], columns: list[str]) -> list[Problem]:
    """What is wrong with the form of a row."""
    found = []
    count = max((i + 1 for i, c in enumerate(cells) if c), default=0)
    least = max((i + 1 for i, name in enumerate(columns) if name), default=0)
    if count > len(columns) or len(cells) < least:
        what = f"the row has {len(cells)} cells, the table {len(columns)} columns"
        fix = "put quotes around cells that hold the separator; keep empty cells"
        found.append(("", CohortError(what, "", fix)))
    for name, cell in zip(columns, cells, strict=False):
        if _UNREADABLE in cell:
            what = "holds characters that cannot be read (NUL or a broken encoding)"
            found.append((name, CohortError(what, "", SAVE_AS)))
        elif cell.casefold() in _BROKEN:
            what = f"holds {cell}, an error of the spreadsheet"
            found.append((name, CohortError(what, "", "correct or empty the cell")))
        elif cell and not name:
            what = f"{cell!r:.40} stands in a column without a name"
            found.append(("", CohortError(what, "", "give the column a name")))
    return [Problem.of(error, line, column=name) for name, error in found]


def _cells(columns: list[str], cells: list[str], key: str) -> dict[str, str]:
    return {
        name: cell
        for name, cell in zip(columns, cells, strict=False)
        if name and cell and (name == key or cell.casefold() not in _MISSING)
    }


def typed(sheet: Sheet, column: str) -> tuple[Mapping[int, float | str], list[Problem]]:
    """Values of a column by line: numbers if all of them are, else text."""
    texts = {r.line: r.cells[column] for r in sheet.records if column in r.cells}
    sign = "." if not sheet.decimal_comma else _sign(texts.values())
    numbers = {line: number(text, sign) for line, text in texts.items()}
    wrong = [line for line, value in numbers.items() if value is None]
    if not wrong:
        return {n: v for n, v in numbers.items() if v is not None}, []
    if all(number(text, ",") is not None for text in texts.values()):
        what = f"values such as {texts[wrong[0]]!r:.40} are kept as text"
        fix = "write 1.5, or separate the columns by semicolons"
        return texts, [warning(f"{what}: decimal commas?", fix, column=column)]
    if len(wrong) > len(texts) / 2:
        return texts, []
    what = f"{len(wrong)} of {len(texts)} values are no numbers, the first "
    what += f"{texts[wrong[0]]!r:.40} in row {wrong[0]}: all are kept as text"
    fix = "leave cells empty where the value is unknown"
    return texts, [warning(what, fix, column=column)]


def _sign(texts: Iterable[str]) -> str:
    return "," if any("," in text for text in texts) else "."


def number(text: str, sign: str = ".") -> float | None:
    """Read a finite number with this decimal sign, None if it is not one."""
    if sign != ".":
        if "." in text:
            return None
        text = text.replace(sign, ".")
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def folder_path(text: str, folder: Path) -> Path:
    """A path as a cell names it: absolute, from ``~`` or from the table's folder."""
    return folder / os.path.expanduser(text)  # noqa: PTH111  pathlib's raises

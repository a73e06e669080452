"""Tables of a cohort, streamed from the folders of its cases."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from numbers import Number
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

from habitat.case import Case
from habitat.cohort._names import safe_name
from habitat.cohort._work import Failure
from habitat.errors import InputError
from habitat.saving import guarded, texts_mapped, unguarded, whole_file

if TYPE_CHECKING:
    import pandas as pd

FEATURES, WIDE = "features.csv", "features_wide.csv"
TRACEBACKS = "tracebacks"
DONE, FAILED, NOT_RUN = "done", "failed", "not run"
_FIXED = ("case_id", "status", "group", "site", "split")
_USED = ("region", "channel", "feature", "value", "voxels")
_NAMED = re.compile(r"pdl1_(tps|tps_high|assay|specimen|days)|tracer|registered")
_HABITAT = re.compile(r"h([0-9]+)")
_RING = re.compile(r"(ring|rim|border)_([0-9.]+)_([0-9.]+)")

Key: TypeAlias = tuple[str, str, str]  # region, channel and feature of a row


class Listed(NamedTuple):
    """A row of the cohort."""

    case: Case | None  # None if the row could not be used
    case_id: str
    status: str  # "done", "failed" or "not run"
    name: str  # of its folder


class Failed(NamedTuple):
    """A case without a result, and why."""

    case_id: str
    failure: Failure


@contextmanager
def _text_file(path: Path) -> Generator[IO[str]]:
    """Write text, all of it or nothing; broken characters as their codes."""
    with (
        whole_file(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


# --- features -------------------------------------------------------------------------


def write_features(
    out: Path, cases: Sequence[Listed], folder_of: Callable[[Listed], Path]
) -> None:
    """Join the features of all cases in a long and a wide table.

    Parameters
    ----------
    out : Path
        Gets ``features.csv`` and ``features_wide.csv``.
    cases : sequence of Listed
        All of the cohort, in its order; those that are "done" have a folder.
    folder_of : callable
        Folder of a case.

    Raises
    ------
    InputError
        If a file cannot be read or written, the files have not the same columns, or two
        features of a case have one name.

    Notes
    -----
    One case is in memory at a time. Columns of the wide table do not depend on the
    order of the cases: regions (tumor, h1, h2, ..., rings from the inside out), and
    within a region the order of the long tables.
    """
    files = [folder_of(case) / FEATURES for case in cases if case.status == DONE]
    layouts: dict[tuple[Key, ...], int] = {}  # what rows a case has: mostly one for all
    with (
        _text_file(out / WIDE) as wide,
        # has no name, so that nothing is left of it if the process is killed
        tempfile.TemporaryFile("w+", dir=out, encoding="utf-8", newline="\n") as values,
    ):
        with whole_file(out / FEATURES) as part, part.open("wb") as long:
            for keys, found in _joined(files, long):
                layout = layouts.setdefault(keys, len(layouts))
                values.write(f"{layout},{','.join(found)}\n")
        values.seek(0)
        _spread(csv.writer(wide), cases, list(layouts), values)


def _joined(
    files: Iterable[Path], long: IO[bytes]
) -> Generator[tuple[tuple[Key, ...], list[str]]]:
    """Copy the long tables one after the other; yield what each holds."""
    from habitat.features._table import COLUMNS

    header = b""
    for path in files:
        raw = path.read_bytes()
        head, end, body = raw.partition(b"\n")
        if head.rstrip().decode() != ",".join(COLUMNS) or raw[-1:] != end:
            what = f"has the columns {head[:200]!r} or ends early"
            raise InputError(what, str(path), "delete the folder and run again")
        if not header:
            header = head + end
            long.write(header)
        long.write(body)
        yield _parsed(raw.decode("utf-8"))
    if not header:
        long.write(",".join(COLUMNS).encode() + b"\n")


def _parsed(text: str) -> tuple[tuple[Key, ...], list[str]]:
    """Key of each row and its value as text; whether a habitat is there, besides."""
    # csv of Python 3.10 reads no NUL
    header, *rows = csv.reader(io.StringIO(text.replace("\0", ""), newline=""))
    r, c, f, v, n = map(header.index, _USED)
    keys = [(row[r], row[c], row[f]) for row in rows]
    values = [row[v] for row in rows]
    sizes = {row[r]: row[n] for row in rows if row[r][:1] == "h"}
    known = set(keys)
    for region, size in sizes.items():
        key = (region, "", "present")
        if _HABITAT.fullmatch(region) and key not in known:
            keys.append(key)
            values.append("1.0" if int(size) else "0.0")
    return tuple(keys), values


def _spread(
    writer: Any,
    cases: Sequence[Listed],
    layouts: Sequence[tuple[Key, ...]],
    values: IO[str],
) -> None:
    """Write the wide table: a row for each case, done or not."""
    named = [_names(keys) for keys in layouts]
    columns = _columns(layouts, named)
    places = [{name: i for i, name in enumerate(names)} for names in named]
    picked = [[place.get(name, -1) for name in columns] for place in places]
    facts = sorted({key for case in cases for key in _facts(case)})
    heads = _heads(facts, columns)
    writer.writerow(map(guarded, ["case_id", "status", *heads, *columns]))
    for case in cases:
        known = _facts(case)
        row = [case.case_id, case.status, *(known.get(key) for key in facts)]
        found = [""] * len(columns)
        if case.status == DONE:
            layout, *own = next(values).rstrip("\n").split(",")
            own.append("")  # what -1 picks
            found = [own[i] for i in picked[int(layout)]]
        writer.writerow([*map(_cell, row), *found])


def _names(keys: Sequence[Key]) -> list[str]:
    """Column of the wide table for each row."""
    names = ["_".join(filter(None, map(unguarded, key))) for key in keys]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        what = f"a case has the feature {twice!r} twice"
        raise InputError(what, WIDE, "give regions, channels and features other names")
    return names


def _columns(
    layouts: Sequence[Sequence[Key]], named: Sequence[Sequence[str]]
) -> list[str]:
    """Columns of the wide table, in an order that no order of the cases changes."""
    last: dict[str, tuple[tuple[Any, ...], int]] = {}
    for keys, names in zip(layouts, named, strict=True):
        count: Counter[str] = Counter()
        for (region, _, _), name in zip(keys, names, strict=True):
            # the case with the most features says where those of others stand
            place = (_rank(unguarded(region)), count[region])
            last[name] = max(last.get(name, place), place)
            count[region] += 1
    return sorted(last, key=lambda name: (*last[name], name))


def _rank(region: str) -> tuple[Any, ...]:
    """The tumor, its habitats, rings from the inside out, others."""
    if region == "tumor":
        return (0,)
    if found := _HABITAT.fullmatch(region):
        return (1, int(found[1]))
    if found := _RING.fullmatch(region):
        a, b = float(found[2]), float(found[3])
        return (2, *{"rim": (-b, -a), "border": (-a, b), "ring": (a, b)}[found[1]])
    return (3, region)


# --- what the table of the cohort says ------------------------------------------------


def _facts(case: Listed) -> dict[tuple[int, str], Any]:
    """What is known of a case: of the scan, of the patient, what is to be predicted."""
    if case.case is None:
        return {}
    own = {(0, name): getattr(case.case, name) for name in _FIXED[2:]}
    found = {key: value for key, value in own.items() if value is not None}
    found |= {(1, f"clin:{name}"): v for name, v in case.case.clinical.items()}
    return found | {(2, str(name)): v for name, v in case.case.outcome.items()}


def _heads(facts: Sequence[tuple[int, str]], columns: Sequence[str]) -> list[str]:
    """Names of their columns; outcomes without a fixed name get "out:".

    So no classifier takes an outcome for a feature, and no name is there twice.
    """
    taken = {*columns, *(name for kind, name in facts if kind < 2)}
    plain = {name for kind, name in facts if _NAMED.fullmatch(name)} - taken
    return [f"out:{n}" if kind == 2 and n not in plain else n for kind, n in facts]


def _cell(value: Any) -> Any:
    """A value as a cell: numbers as they are, nothing for NaN, other things as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, Number) else guarded(str(value))


# --- failures and the record of the run -----------------------------------------------


def write_failures(path: Path, failed: Iterable[Failed]) -> None:
    """Write what failed and why, with one file of the traceback for each.

    Parameters
    ----------
    path : Path
        The table; tracebacks are put into the folder "tracebacks" beside it, and those
        of an earlier run are taken away.
    failed : iterable of Failed
        In the order of the cohort.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    folder = path.parent / TRACEBACKS
    written = set()
    with _text_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "kind", "message", "fix", "traceback"])
        for case_id, failure in failed:
            name = ""
            if failure.traceback:
                folder.mkdir(exist_ok=True)
                name = f"{TRACEBACKS}/{safe_name(case_id)}.txt"
                with _text_file(path.parent / name) as trace:
                    trace.write(failure.traceback)
                written.add(path.parent / name)
            row = (case_id, failure.kind, failure.message, failure.fix, name)
            writer.writerow(map(guarded, row))
        if folder.is_dir():
            for old in set(folder.iterdir()) - written:
                old.unlink()
            if not written:
                folder.rmdir()


def write_notes(
    path: Path, done: Iterable[Listed], folder_of: Callable[[Listed], Path]
) -> int:
    """Write what must be known of each case; return how many have something."""
    count = 0
    with _text_file(path) as text:
        writer = csv.writer(text)
        writer.writerow(["case_id", "note"])
        for case in done:
            record = (folder_of(case) / "case.json").read_text(encoding="utf-8")
            notes = json.loads(record)["notes"]
            count += bool(notes)
            writer.writerows((guarded(case.case_id), guarded(note)) for note in notes)
    return count


def write_run(path: Path, data: Mapping[str, Any]) -> None:
    """Write the record of a run."""
    with _text_file(path) as file:
        json.dump(data, file, indent=1, allow_nan=False, ensure_ascii=False)


def read_table(path: Path, numbers: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one of these tables; columns not in `numbers` are texts as they were.

    Without `numbers` the types are guessed, but for names of cases, groups and sites.
    """
    import pandas as pd

    if numbers is None:
        kinds = dict.fromkeys(("case_id", "status", "group", "site", "split"), str)
        table = pd.read_csv(
            path, dtype=kinds, keep_default_na=False, na_values=[""], low_memory=False
        )
    else:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name in numbers:
            table[name] = pd.to_numeric(table[name])
    out: pd.DataFrame = texts_mapped(table, unguarded).rename(columns=unguarded)
    return out

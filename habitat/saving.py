"""Folders of open formats, written whole or not at all, read only if unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Generator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from habitat.errors import HabitatError, InputError
from habitat.io._files import file_hash

if TYPE_CHECKING:
    import pandas as pd


PART, OLD = ".part-", ".old-"  # what a killed process may leave beside a final path


def write_folder(
    folder: str | os.PathLike[str], write: Callable[[Path], None], own: Set[str]
) -> Path:
    """Let `write` fill a folder beside the final one, then move it into place.

    A folder that holds anything but files named in `own` is refused: it would be lost.
    """
    final = Path(folder).expanduser().absolute()
    check_folder(final, own)
    part = _aside(final)
    try:
        part.mkdir(parents=True)
        write(part)
        for path in filter(Path.is_file, part.rglob("*")):
            _sync(path)
        _swap(part, final)
    except OSError as error:
        raise InputError(f"cannot be written: {error}", str(final)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


_CLUTTER = re.compile(
    r"\.DS_Store|\._.*|\.nfs.*|\.~lock.*|~\$.*|Thumbs\.db|desktop\.ini"
)


def is_clutter(name: str) -> bool:
    """Whether a file is one that systems and programs leave wherever they look."""
    return bool(_CLUTTER.fullmatch(name))


def check_folder(folder: Path, own: Set[str]) -> None:
    """Raise InputError if a folder holds anything but files named in `own`."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError("is a file, not a folder", str(folder), "name another folder")
    names = {path.name for path in folder.iterdir()} - own
    others = sorted(name for name in names if not is_clutter(name))
    if others:
        what = f"holds files that habitat did not write there: {', '.join(others[:3])}"
        raise InputError(what, str(folder), "name a new folder")


def _aside(final: Path) -> Path:
    """A name beside the final one that no other process on any machine uses."""
    return final.with_name(f"{PART}{uuid.uuid4().hex[:12]}")


def _sync(path: Path) -> None:
    """Have the disk hold a file before its name says that it is there."""
    with path.open("rb+") as file:  # Windows wants to be able to write
        os.fsync(file.fileno())


def _swap(part: Path, final: Path) -> None:
    """Move a finished folder into place; an earlier one goes only after that."""
    old = part.with_name(part.name.replace(PART, OLD))
    if final.exists():
        final.rename(old)
    try:
        part.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Give a name to write to; the file is at `path` when all of it is on the disk.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    part = _aside(path)
    try:
        yield part
        _sync(part)
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error}", str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV whose texts no spreadsheet takes for formulas."""
    with whole_file(path) as part:
        write_csv(part, table)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Do what `write_table` does within a folder that is not final yet."""
    texts_mapped(table, guarded).to_csv(
        path,
        index=False,
        encoding="utf-8",
        errors="backslashreplace",
        lineterminator="\r\n",  # a bare \r in a text is quoted only then
    )


def texts_mapped(table: pd.DataFrame, function: Callable[[Any], Any]) -> pd.DataFrame:
    """A table with every column of texts mapped; itself where that changes nothing."""
    out = table
    for name in table:
        if table[name].dtype.kind in "biufc":
            continue
        texts = [t for t in table[name].unique().tolist() if isinstance(t, str)]
        if any(function(text) != text for text in texts):
            out = out.assign(**{str(name): table[name].map(function)})
    return out


def write_text(path: Path, text: str) -> None:
    """Write a text file; all of it or nothing."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")


def guarded(cell: Any) -> Any:
    """A text with a quote before it if a spreadsheet would run it as a formula."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def unguarded(cell: Any) -> Any:
    """What `guarded` was given."""
    quoted = isinstance(cell, str) and cell[:1] == "'" and _FORMULA.match(cell)
    return cell[1:] if quoted else cell


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a compressed .npz; the same arrays give the same bytes."""
    np.savez_compressed(path, allow_pickle=False, **arrays)


def write_json(path: Path, data: Mapping[str, Any], files: tuple[str, ...]) -> None:
    """Write data with the sha256 of the files beside it, and of itself."""
    hashes = {name: file_hash(path.with_name(name)) for name in files}
    whole = {**data, "files": hashes}
    whole["sha256"] = hash_json(whole)
    text = json.dumps(whole, indent=1, allow_nan=False)
    path.write_text(text, encoding="utf-8")


def hash_json(data: Mapping[str, Any]) -> str:
    """Sha256 of all that a JSON file holds but its own "sha256"."""
    rest = {name: value for name, value in data.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(
    path: Path, form: str, files: tuple[str, ...], kind: type[HabitatError]
) -> dict[str, Any]:
    """Read what `write_json` wrote; raise `kind` if anything was changed since."""
    folder = str(path.parent)
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found, sha256, hashes = data["format"], data["sha256"], data["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        noun = form.split("/")[0].split(".")[-1]
        raise kind(f"is not a saved {noun} ({error})", folder) from error
    if found != form:
        what = f"has format {found!r}, this version reads {form!r}"
        raise kind(what, folder, "update habitat")
    changed = [
        name
        for name in files
        if not path.with_name(name).is_file()
        or file_hash(path.with_name(name)) != hashes.get(name)
    ]
    if hash_json(data) != sha256:
        changed.append(path.name)
    if changed:
        what = f"{', '.join(changed)}: missing or changed after saving"
        raise kind(what, folder, "make and save it again")
    return data

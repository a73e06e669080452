"""Folders of open formats, written whole or not at all, read only if unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from habitat.errors import HabitatError, InputError
from habitat.io._files import file_hash

if TYPE_CHECKING:
    import pandas as pd


def write_folder(
    folder: str | os.PathLike[str], write: Callable[[Path], None], own: Set[str]
) -> Path:
    """Let `write` fill a folder beside the final one, then move it into place.

    A folder that holds anything but files named in `own` is refused: it would be lost.
    """
    final = Path(folder).expanduser().absolute()
    _check_folder(final, own)
    part = final.with_name(f".part-{os.getpid()}-{final.name}")
    try:
        part.mkdir(parents=True)
        write(part)
        _swap(part, final)
    except OSError as error:
        raise InputError(f"cannot be written: {error}", str(final)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return final


def _check_folder(folder: Path, own: Set[str]) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError("is a file, not a folder", str(folder), "name another folder")
    others = sorted({path.name for path in folder.iterdir()} - own)
    if others:
        what = f"holds files that habitat did not write there: {', '.join(others[:3])}"
        raise InputError(what, str(folder), "name a new folder")


def _swap(part: Path, final: Path) -> None:
    """Move a finished folder into place; an earlier one goes only after that."""
    old = part.with_name(f".old-{part.name}")
    if final.exists():
        final.rename(old)
    try:
        part.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV; all of it or nothing."""
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        table.to_csv(part, index=False, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error}", str(path)) from error
    finally:
        part.unlink(missing_ok=True)


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

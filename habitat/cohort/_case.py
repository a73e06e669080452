"""One case of a batch: segment it, extract its features, write its folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from habitat import errors
from habitat.case import Case
from habitat.cohort._headers import MODALITIES, examine
from habitat.cohort._plan import Plan
from habitat.cohort._problems import ERROR
from habitat.cohort._work import NeedsRoom
from habitat.errors import ConfigError, HabitatError, InputError, raise_all
from habitat.features import extract
from habitat.features._table import names_of
from habitat.io._digest import mask_hash, source_hash
from habitat.io._sources import read_any
from habitat.result import FEATURES, WRITTEN, HabitatResult
from habitat.saving import hash_json, read_json, write_csv, write_folder, write_json
from habitat.segmentation import segment_channels

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "habitat.case/1"
RECORD = "case.json"
MASK = "mask"  # begins the names of masks among the sources
DONE, UNCHANGED = "done", "unchanged"


class Finished(NamedTuple):
    """What the parent needs to know of a case that was done."""

    status: str  # "done" or "unchanged"
    sources: Mapping[str, str]  # channel or mask -> sha256


def run_case(
    case: Case, folder: Path, plan: Plan, resume: bool, room: int | None
) -> Finished:
    """Do one case, unless its folder holds just that already.

    Parameters
    ----------
    case : Case
        Images and mask.
    folder : Path
        Final folder of the case; all of it is written, or nothing.
    plan : Plan
        What to do.
    resume : bool
        Whether a folder with the same inputs, parameters and version is left alone.
    room : int, optional
        Bytes of memory that may be used.

    Raises
    ------
    NeedsRoom
        If the headers say that it needs more than `room`.
    HabitatError
        If the case cannot be used.
    """
    hashes = _hashes(case)
    used = hash_json(plan.to_json())
    own = {"case_id": case.case_id, "label": case.label, "sources": [*hashes.items()]}
    key = hash_json({"plan": used, **own})  # the order of channels is that of habitats
    record = record_of(folder) if resume else None
    if record and record["key"] == key:
        return Finished(UNCHANGED, hashes)
    checked = examine(case)
    if room is not None and checked.n_bytes > room:
        raise NeedsRoom(checked.n_bytes)
    found = [p for p in checked.problems if p.level == ERROR]
    raise_all([getattr(errors, p.kind)(p.message, "", p.fix) for p in found])
    images = {name: _opened(name, source) for name, source in case.images.items()}
    result = _segmented(case, images, plan)
    table = extract(result, images, case_id=case.case_id, **plan.extraction)

    _check_names(table)

    def write(part: Path) -> None:
        result.write_into(part)
        write_csv(part / FEATURES, table)
        about = {
            "format": FORMAT,
            "case_id": case.case_id,
            "plan": used,
            "key": key,
            "sources": hashes,
            "notes": [*result.notes, *table.attrs["notes"]],
        }
        files = tuple(sorted(path.name for path in part.iterdir()))
        write_json(part / RECORD, about, files)

    write_folder(folder, write, {*WRITTEN, RECORD})
    return Finished(DONE, hashes)


def _segmented(case: Case, images: Mapping[str, Any], plan: Plan) -> HabitatResult:
    return segment_channels(
        images, case.mask, label=case.label, model=plan.model, **plan.segmentation
    )


def _check_names(table: pd.DataFrame) -> None:
    """Families of one's own may use a name that is taken."""
    counts = Counter(names_of(table))
    twice = [name for name, n in counts.items() if n > 1]
    if twice:
        what = f"give {len(twice)} features twice, first {twice[0]!r}"
        raise ConfigError(what, "`families`", "give them other names")


def _hashes(case: Case) -> dict[str, str]:
    """Sha256 of each input; that of one that cannot be read is its error."""
    masks = case.mask if isinstance(case.mask, (tuple, list)) else [case.mask]
    images = case.images.items()
    hashed = [(n, partial(source_hash, s, MODALITIES.get(n))) for n, s in images]
    hashed += [(f"{MASK} {i}", partial(mask_hash, m)) for i, m in enumerate(masks, 1)]
    found = {}
    for name, compute in hashed:
        try:
            found[name] = compute()
        except (HabitatError, OSError) as error:
            found[name] = str(error)
    return found


def _opened(name: str, source: Any) -> Any:
    """Read an image once for both steps; one that cannot be is left to `segment`."""
    try:
        return read_any(source, MODALITIES.get(name))
    except HabitatError:
        return source


def record_of(folder: Path) -> dict[str, Any] | None:
    """What a finished case says of itself; None if it is not there or was changed."""
    try:
        files = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        return read_json(folder / RECORD, FORMAT, tuple(files), InputError)
    except (InputError, OSError, ValueError, KeyError, TypeError):
        return None

"""What two rows of a cohort's table cannot both be."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from habitat.cohort._problems import Problem
from habitat.cohort._sheet import warning
from habitat.errors import CohortError, ModalityError

Drafts: TypeAlias = Mapping[int, Mapping[str, Any]]  # row to arguments of `Case`


def same_names(drafts: Drafts) -> list[Problem]:
    """Name cases that have one name, also on disks that know no upper case."""
    users: dict[str, dict[int, str]] = defaultdict(dict)
    for line, draft in drafts.items():
        if draft["case_id"]:
            name = unicodedata.normalize("NFC", draft["case_id"]).casefold()
            users[name][line] = str(line)
    found = []
    for tags in users.values():
        several = len({drafts[n]["case_id"] for n in tags}) > 1
        hint = " (upper and lower case count as one)" if several else ""
        for line, rows in _others(tags):
            what = f"{drafts[line]['case_id']!r:.80} is also in {rows}{hint}"
            error = CohortError(what, "", "give each case its own name")
            found.append(Problem.of(error, line, column="case_id"))
    return found


def same_twice(drafts: Drafts) -> list[Problem]:
    """Name a file that a row has twice."""
    found = []
    for line, draft in drafts.items():
        seen: dict[str, str] = {}
        for column, path in _files(draft).items():
            first = seen.setdefault(_key(path), column)
            if first != column:
                what = f"is the same file as {first}"
                error = ModalityError(what, "", "give each its own")
                found.append(Problem.of(error, line, column=column))
    return found


def same_files(drafts: Drafts) -> list[Problem]:
    """Name files that two patients have: one row names the wrong one."""
    users: dict[str, dict[int, str]] = defaultdict(dict)
    columns = {}
    for line, draft in drafts.items():
        for column, path in _files(draft).items():
            key = _key(path)
            users[key][line] = draft["group"] or draft["case_id"]
            columns[key, line] = column
    found = []
    for key, tags in users.items():
        for line, rows in _others(tags):
            what = f"is the same file as in {rows}, of another patient"
            fix = "correct the path, or give cases of one patient the same `group`"
            error = CohortError(what, "", fix)
            found.append(Problem.of(error, line, column=columns[key, line]))
    return found


def same_lesion(drafts: Drafts) -> list[Problem]:
    """Warn of a patient's cases that are one case with two names."""
    first: dict[Any, int] = {}
    found = []
    for line, draft in drafts.items():
        files = tuple((c, _key(path)) for c, path in _files(draft).items())
        earlier = first.setdefault((files, draft["label"], draft["group"]), line)
        if earlier != line and files and draft["group"]:
            what = f"images, mask and label are those of row {earlier}"
            fix = "one lesion twice? remove a row"
            found.append(warning(what, fix, line, "mask"))
    return found


def _files(draft: Mapping[str, Any]) -> dict[str, Path]:
    return {**draft["images"], **({"mask": draft["mask"]} if draft["mask"] else {})}


def several_splits(drafts: Drafts) -> list[Problem]:
    """Name patients of whom one case trains and another tests."""
    members: dict[str, dict[int, str]] = defaultdict(dict)
    for line, draft in drafts.items():
        if draft["group"] and draft["split"]:
            members[draft["group"]][line] = draft["split"]
    found = []
    for group, splits in members.items():
        for line, rows in _others(splits):
            what = (
                f"{group!r:.80} is in split {splits[line]!r:.40} here but not in {rows}"
            )
            error = CohortError(what, "", "keep all cases of a patient in one split")
            found.append(Problem.of(error, line, column="group"))
    return found


def _others(tags: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """Each row beside some rows of other tags, in words; nothing if all are alike."""
    first: dict[str, int] = {}
    for line, tag in tags.items():
        first.setdefault(tag, line)
    few = list(first.items())[:4]
    for line, tag in tags.items() if len(first) > 1 else ():
        lines = [n for other, n in few if other != tag]
        plural = "s" if len(lines) > 1 else ""
        yield line, f"row{plural} {', '.join(map(str, lines))}"


def _key(path: Path) -> str:
    """Same text for the same path, however it is written."""
    return os.path.normcase(os.path.normpath(path))


CLASHES = (same_names, same_twice, same_files, same_lesion, several_splits)

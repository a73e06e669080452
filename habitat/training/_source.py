"""What a classifier is trained on or used on: a cohort, or results of a batch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from habitat.case import Case
from habitat.cohort import Cohort, read_cohort
from habitat.cohort._batch import broken_rows, check_cases, table_notes
from habitat.cohort._run import NOTES, RUN
from habitat.cohort._tables import WIDE, read_table
from habitat.errors import CohortError

DONE = "done"


@dataclass(frozen=True, eq=False)
class Source:
    """Either cases with images, or a wide table of features."""

    ids: tuple[str, ...]  # of all rows, also of those that are left out
    cases: tuple[Case, ...]
    table: pd.DataFrame | None
    left_out: tuple[tuple[str, str], ...]  # case_id and why
    path: Path | None  # the file
    plan: Mapping[str, Any] | None = None  # what the batch did to each case
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Sequence[Case]) -> Source:
        """Open a cohort CSV, a folder of `batch`, its features_wide.csv, or cases.

        Raises
        ------
        CohortError
            If it is none of these, no case is there, or two have one name.
        """
        if not isinstance(source, (str, os.PathLike)):
            return _of_cases(source, None)
        path = Path(source).expanduser().absolute()
        if path.is_dir():
            path = path / WIDE
            if not path.is_file():
                fix = "give a cohort CSV, or the output folder of habitat batch"
                raise CohortError(f"holds no {WIDE}", str(path.parent), fix)
        if not path.is_file():
            raise CohortError("is not there", str(path), "check the path")
        if path.name == WIDE:
            return _of_table(path)
        return _of_cases(read_cohort(path), path)

    @property
    def name(self) -> str:
        """The file, without the folders of this machine."""
        return "cases" if self.path is None else self.path.name


def case_notes(folder: Path) -> dict[str, str]:
    """What a batch says of each case."""
    path = folder / NOTES
    if not path.is_file():
        return {}
    texts = read_table(path, ()).groupby("case_id", sort=False)["note"].agg("; ".join)
    return {str(name): str(text) for name, text in texts.items()}


def _of_cases(given: Sequence[Case], path: Path | None) -> Source:
    cases = tuple(check_cases(given))
    ids = tuple(case.case_id for case in cases)
    if isinstance(given, Cohort):
        ids = tuple(row.case_id for row in given.rows)
    left = tuple((one.case_id, one.failure.message) for one in broken_rows(given))
    return Source(ids, cases, None, left, path, notes=tuple(table_notes(given)))


def _of_table(path: Path) -> Source:
    table = read_table(path)
    if "case_id" not in table:
        raise CohortError("has no column case_id", str(path), "name the cases")
    if "status" not in table:
        table.insert(1, "status", DONE)
    twice = sorted(set(table["case_id"][table["case_id"].duplicated()].astype(str)))
    if twice:
        what = f"holds {len(twice)} cases more than once, first {twice[0]}"
        raise CohortError(what, str(path), "give each case one row")
    bad = table[table["status"] != DONE]
    left = [
        (str(i), f"status {status}")
        for i, status in zip(bad["case_id"], bad["status"], strict=True)
    ]
    if len(bad) == len(table):
        raise CohortError("holds no case that is done", str(path), "see failures.csv")
    done = table[table["status"] == DONE].reset_index(drop=True)
    ids = tuple(table["case_id"].astype(str))
    return Source(ids, (), done, tuple(left), path, _plan(path.with_name(RUN)))


def _plan(path: Path) -> Mapping[str, Any] | None:
    """Model, segmentation and extraction of a batch; None if that is not known."""
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["plan"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {name: plan.get(name) for name in ("model", "segmentation", "extraction")}

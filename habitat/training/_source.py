"""What a classifier is trained on or used on: a cohort, or results of a batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from habitat.case import Case
from habitat.cohort import Cohort, read_cohort
from habitat.cohort._tables import WIDE, read_table
from habitat.errors import CohortError

DONE = "done"


@dataclass(frozen=True, eq=False)
class Source:
    """Either cases with images, or a wide table of features."""

    cases: tuple[Case, ...]
    table: pd.DataFrame | None
    left_out: tuple[tuple[str, str], ...]  # case_id and why
    path: str

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Sequence[Case]) -> Source:
        """Open a cohort CSV, a folder of `batch`, its features_wide.csv, or cases.

        Raises
        ------
        CohortError
            If it is none of these, or no case is there.
        """
        if not isinstance(source, (str, os.PathLike)):
            return _of_cases(source, "cases")
        path = Path(source).expanduser()
        if path.is_dir():
            path = path / WIDE
            if not path.is_file():
                fix = "give a cohort CSV, or the output folder of habitat batch"
                raise CohortError(f"holds no {WIDE}", str(path.parent), fix)
        if not path.is_file():
            raise CohortError("is not there", str(path), "check the path")
        if path.name == WIDE:
            return _of_table(read_table(path), str(path))
        return _of_cases(read_cohort(path), str(path))


def _of_cases(cases: Sequence[Case], path: str) -> Source:
    left = []
    if isinstance(cases, Cohort):
        bad = {r.line: r.case_id for r in cases.rows if not r.usable}
        left = [
            (bad[p.row] or f"row {p.row}", p.message)
            for p in cases.problems
            if p.row in bad
        ]
    found = tuple(cases)
    if not found or not all(isinstance(case, Case) for case in found):
        raise CohortError("must be cases", "`source`", "give a path or a list of Case")
    return Source(found, None, tuple(left), path)


def _of_table(table: pd.DataFrame, path: str) -> Source:
    done = table["status"] == DONE
    left = [
        (str(i), f"status {status}")
        for i, status in zip(
            table["case_id"][~done], table["status"][~done], strict=True
        )
    ]
    if not done.any():
        raise CohortError("holds no case that is done", path, "see failures.csv")
    return Source((), table[done].reset_index(drop=True), tuple(left), path)

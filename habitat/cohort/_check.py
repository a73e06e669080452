"""Everything that can be said against a cohort before a pixel is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from habitat._progress import progress
from habitat.cohort._headers import check_case, check_files
from habitat.cohort._manifest import read_rows
from habitat.cohort._problems import ERROR, table_of

if TYPE_CHECKING:
    import pandas as pd


def check_cohort(path: str | os.PathLike[str]) -> pd.DataFrame:
    """List every problem of a cohort's table and of the files it names.

    Parameters
    ----------
    path : path
        The table, see `read_cohort`.

    Returns
    -------
    DataFrame
        One row per problem: row (line of the file, 0 for the whole table), case_id,
        column, level ("error": the case cannot be used; "warning"), kind, message, fix.

    Raises
    ------
    CohortError
        If the table itself cannot be read.

    Notes
    -----
    Only headers are read, and the bytes of files of the same size, to find one image
    under two names. What only voxels can tell, such as an empty mask, `batch` says.

    Examples
    --------
    >>> from habitat.demo import samples_folder
    >>> import habitat
    >>> problems = habitat.check_cohort(samples_folder() / "cohort.csv")
    >>> sorted(set(problems["level"])), sorted(set(problems["column"]))
    (['warning'], ['pdl1_assay', 'pdl1_tps'])
    """
    cohort = read_rows(path)
    rows = {row.case_id: row.line for row in cohort.rows}
    problems = list(cohort.problems)
    with progress(len(cohort), "Checking case") as advance:
        for case in cohort:
            found = check_case(case)
            problems += [p._replace(case_id=case.case_id) for p in found]
            advance(case.case_id, any(p.level == ERROR for p in found))
    problems += check_files(cohort.cases)
    placed = [p if p.row else p._replace(row=rows.get(p.case_id, 0)) for p in problems]
    return table_of(placed)

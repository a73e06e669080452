"""batch(): the same steps for every case of a cohort, whatever happens to one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from habitat.case import Case
from habitat.cohort._lock import locked
from habitat.cohort._manifest import Cohort, in_words
from habitat.cohort._names import safe_name
from habitat.cohort._plan import make_plan
from habitat.cohort._pool import LocalRunner
from habitat.cohort._problems import WARNING, Problem
from habitat.cohort._run import CASES, FAILURES, NOTES, RUN, Run
from habitat.cohort._tables import (
    DONE,
    FEATURES,
    NOT_RUN,
    TRACEBACKS,
    WIDE,
    Failed,
    Listed,
    read_table,
)
from habitat.cohort._work import Failure
from habitat.errors import CohortError, ConfigError, HabitatError, InputError, raise_all
from habitat.saving import OLD, PART, is_clutter

if TYPE_CHECKING:
    import pandas as pd

    from habitat.features._families import Family
    from habitat.population import HabitatModel

WRITTEN = {CASES, TRACEBACKS, RUN, FEATURES, WIDE, FAILURES, NOTES, ".lock"}


@dataclass(frozen=True, eq=False)
class BatchResult:
    """Where the results of a batch are, and what failed.

    Attributes
    ----------
    out : pathlib.Path
        The output folder.
    status : dict of str to str
        Of every case of the cohort, in its order: "done", "failed" or "not run".
    notes : tuple of str
        What a reader of the tables must know.
    exit_code : int
        0 if all cases are done, 1 if some failed, 3 if none is done.
    """

    out: Path
    status: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        done = sum(status == DONE for status in self.status.values())
        if done == len(self.status):
            return 0
        return 1 if done else 3

    @property
    def features(self) -> pd.DataFrame:
        """The long table of all cases (see `habitat.extract`), read from its file."""
        counts = ("value", "voxels", "voxels_used", "bins")
        return read_table(self.out / FEATURES, counts)

    @property
    def wide(self) -> pd.DataFrame:
        """One row per case, read from its file."""
        return read_table(self.out / WIDE)

    @property
    def failures(self) -> pd.DataFrame:
        """Cases that failed: case_id, kind, message, fix, traceback (a file)."""
        return read_table(self.out / FAILURES, ())

    def __repr__(self) -> str:
        done = sum(status == DONE for status in self.status.values())
        return (
            f"BatchResult({str(self.out)!r}: {done} of {len(self.status)} cases done)"
        )


def batch(
    cases: Sequence[Case],
    out: str | os.PathLike[str],
    *,
    model: HabitatModel | None = None,
    k: int | str = 4,
    families: Sequence[str | Family] | None = None,
    segmentation: Mapping[str, Any] | None = None,
    extraction: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    resume: bool = True,
    timeout: float | None = None,
    client: Any = None,
) -> BatchResult:
    """Segment every case of a cohort and extract its features; survive anything.

    A case that cannot be used, takes too long or kills its process costs no other case:
    it is listed with the reason. A run that was stopped, by Ctrl-C, a full disk or a
    power cut, goes on where it was when it is started again.

    Parameters
    ----------
    cases : sequence of Case
        For example ``habitat.read_cohort("cohort.csv")``, whose unusable rows are then
        listed among the failures.
    out : path
        Folder to write to, see Notes.
    model : HabitatModel, optional
        One definition of habitats for all cases. Without it every case is clustered by
        itself, and its habitats are only ordered like those of the others.
    k : int, 2 to 20, or "auto"
        Number of habitats; leave it out with a model.
    families : sequence of str or callable, optional
        Which features, see `habitat.extract`.
    segmentation : mapping, optional
        More arguments of `segment_channels`, such as ``{"method": "gmm"}``.
    extraction : mapping, optional
        More arguments of `extract`, such as ``{"min_voxels": 100}``.
    jobs : int, optional
        Worker processes, one thread each; as many as cores if not given.
    resume : bool
        Whether cases are left alone whose folder holds the result of the same inputs,
        parameters and version. False makes all anew, also with other parameters. A
        function of your own counts by its name and its source, not by what it calls.
    timeout : float, seconds, optional
        Most that a case may take; of the first of each worker the start of Python and,
        where kernels were never compiled, of the compiler are a part: seconds to half a
        minute.
    client : distributed.Client or str, optional
        A Dask cluster (or its address) to run on in place of processes of this machine;
        its workers must see the same files under the same paths.

    Returns
    -------
    BatchResult
        Folder, status of each case, tables.

    Raises
    ------
    ConfigError
        If an argument is wrong; no case is touched then.
    CohortError
        If another run is writing to `out`, or it holds results of other parameters.

    Notes
    -----
    `out` gets

    - ``cases/<name>/`` for each case that is done, what `HabitatResult.save` writes,
      ``features.csv`` and ``case.json``, complete or not there at all. The name is the
      case id where that is a safe file name, else a part of it and a hash. An earlier
      result of a case that now fails stays there, but is in no table;
    - ``features.csv``, all of them (long), and ``features_wide.csv``, one row for each
      case in the order of the cohort, with what its table said of it;
    - ``notes.csv``: what must be known of each case (case_id, note);
    - ``failures.csv``: case_id, kind (class of the error, "crashed", "timeout"),
      message, fix, and a file under ``tracebacks/``;
    - ``run.json``: parameters, versions, times, memory: all that may differ between two
      runs with the same inputs. Everything else has the same bytes.

    Examples
    --------
    >>> import habitat, tempfile
    >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
    >>> case = habitat.Case("a", {"pet": p.pet, "ct": p.ct}, p.mask)
    >>> done = habitat.batch([case], tempfile.mkdtemp(), k=2, families=("shape",))
    >>> done.status
    {'a': 'done'}
    """
    if not isinstance(resume, bool):
        raise ConfigError(f"must be True or False, got {resume!r}", "`resume`")
    given = check_cases(cases)
    listed, failures = _listed(cases, given)
    channels = list(dict.fromkeys(name for case in given for name in case.images))
    plan = make_plan(channels, model, k, families, segmentation, extraction)
    folder = _folder(out, cases)
    with locked(folder) as kept, runner_for(jobs, timeout, client, kept) as runner:
        run = Run(folder, plan, listed, failures, notes=table_notes(cases))
        run.start(resume)
        try:
            run.go(runner, resume)
        finally:
            run.finish()
    status = {case.case_id: case.status for case in run.listed}
    return BatchResult(folder, status, tuple(run.notes))


# --- what was asked for ---------------------------------------------------------------


def check_cases(cases: Any) -> list[Case]:
    """A list of at least one `Case`, all of other names."""
    if isinstance(cases, (str, os.PathLike)):
        what = f"must be cases, got the path {os.fspath(cases)!r}"
        raise ConfigError(what, "`cases`", "read it: habitat.read_cohort(path)")
    given = list(cases)
    bad = next((c for c in given if not isinstance(c, Case)), None)
    if bad is not None or not given:
        what = f"must be a sequence of habitat.Case, got {bad!r:.60}"
        raise ConfigError(what, "`cases`", "habitat.read_cohort(path)")
    counts = Counter(safe_name(case.case_id).casefold() for case in given)
    twice = [c.case_id for c in given if counts[safe_name(c.case_id).casefold()] > 1]
    if twice:
        what = f"names must differ, and not in upper and lower case only: {twice[:5]}"
        raise CohortError(what, "`cases`")
    return given


def table_notes(cases: Sequence[Case]) -> list[str]:
    """What the table of a cohort gives reason to doubt."""
    if not isinstance(cases, Cohort):
        return []
    return [in_words(p) for p in cases.problems if p.level == WARNING]


def _listed(
    cases: Sequence[Case], given: list[Case]
) -> tuple[list[Listed], dict[int, Failure]]:
    """All cases in order, and why the table itself ruled some of them out."""
    if isinstance(cases, Cohort):
        return _of_table(cases)
    return [Listed(c, c.case_id, NOT_RUN, safe_name(c.case_id)) for c in given], {}


def _of_table(cohort: Cohort) -> tuple[list[Listed], dict[int, Failure]]:
    """Every row of a table; those that cannot be used are failures."""
    usable = iter(cohort.cases)
    listed, failures = [], {}
    for place, row in enumerate(cohort.rows):
        case = next(usable) if row.usable else None
        listed.append(Listed(case, row.case_id, NOT_RUN, safe_name(row.case_id)))
        if case is None:
            failures[place] = _failure(cohort.problems_of(row))
    return listed, failures


def broken_rows(cases: Sequence[Case]) -> list[Failed]:
    """Rows that the table itself ruled out."""
    unusable = cases.unusable if isinstance(cases, Cohort) else []
    return [Failed(case_id, _failure(problems)) for case_id, problems in unusable]


def _failure(problems: Sequence[Problem]) -> Failure:
    """Several problems of one row as one failure."""
    kinds = {p.kind for p in problems}
    texts = [f"{p.column}: {p.message}".removeprefix(": ") for p in problems]
    fixes = dict.fromkeys(p.fix for p in problems if p.fix)
    kind = kinds.pop() if len(kinds) == 1 else "HabitatError"
    return Failure(kind, "; ".join(texts), "; ".join(fixes))


def _folder(out: str | os.PathLike[str], cases: Sequence[Case]) -> Path:
    """The output folder, made if it is not there; not one that holds other things."""
    folder = Path(out).expanduser().absolute()
    if isinstance(cases, Cohort) and cases.path.absolute().is_relative_to(folder):
        what = f"holds the table {cases.path.name}"
        raise CohortError(what, str(folder), "name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise InputError(f"cannot be used: {error}", str(folder)) from error
    names = {n for n in names - WRITTEN if not n.startswith((PART, OLD))}
    others = sorted(name for name in names if not is_clutter(name))
    if others:
        what = f"holds files that habitat did not write there: {', '.join(others[:3])}"
        raise CohortError(what, str(folder), "name a new folder")
    return folder


def runner_for(
    jobs: int | None, timeout: float | None, client: Any, kept: tuple[int, ...]
) -> Any:
    """Processes of this machine, which hold the lock too, or a Dask cluster."""
    if client is None:
        return LocalRunner(jobs, timeout, keep=kept)
    problems: list[HabitatError] = []
    given = {"jobs": jobs, "timeout": timeout}
    for name in (n for n, value in given.items() if value is not None):
        what = f"{given[name]!r} has no effect on a Dask cluster"
        problems.append(ConfigError(what, f"`{name}`", "leave it out"))
    raise_all(problems)
    from habitat.cohort._dask import DaskRunner

    return DaskRunner(client)

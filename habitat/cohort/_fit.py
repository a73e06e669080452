"""fit_cohort(): habitats learned over the training cases of a cohort."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from habitat import errors
from habitat._progress import progress
from habitat.case import Case
from habitat.choice import KChoice
from habitat.cohort._batch import broken_rows, check_cases, runner_for, table_notes
from habitat.cohort._headers import estimate
from habitat.cohort._tables import Failed, read_table, write_failures
from habitat.cohort._work import Failure, NeedsRoom, Runner, Task
from habitat.errors import CohortError, ConfigError
from habitat.fitting import Settings, known, plain
from habitat.geometry import Floats
from habitat.saving import check_folder, write_folder, write_table
from habitat.segmentation import versions

if TYPE_CHECKING:
    import pandas as pd

    from habitat.clustering import Method, Potts
    from habitat.population import HabitatModel
    from habitat.population._learn import Facts, Store
    from habitat.voxels import Fit as Scaling
    from habitat.voxels import GridChoice

TRAIN = "train"
FAILURES = "failures.csv"
_PARTS = 4  # of the cohort for each worker in a pass over it


@dataclass(frozen=True, eq=False)
class FitResult:
    """A model, where it was written, and which cases are not in it.

    Attributes
    ----------
    model : HabitatModel
        The fitted model; ``HabitatModel.load(out)`` reads it again.
    out : pathlib.Path
        The folder.
    notes : tuple of str
        What a reader of the model must know.
    exit_code : int
        0 if all training cases are in it, 1 if some case could not be used.
    """

    model: HabitatModel
    out: Path
    notes: tuple[str, ...]
    exit_code: int

    @property
    def failures(self) -> pd.DataFrame:
        """Cases that could not be used, read from their file."""
        return read_table(self.out / FAILURES, ())


def fit_cohort(
    cases: Sequence[Case],
    out: str | os.PathLike[str],
    k: int | str = 4,
    *,
    method: str | Method = "kmeans",
    scaling: str | Scaling = "zscore",
    grid: GridChoice = "coarsest",
    smoothness: float | Potts = 0.0,
    rim_mm: float = 0.0,
    patient_shift: bool = False,
    random_state: int = 0,
    jobs: int | None = None,
    client: Any = None,
) -> FitResult:
    """Learn one definition of habitats from the training cases of a cohort.

    Only cases of split "train" are used; all of them where no case has a split. Cases
    whose files cannot be used are left out and listed, as are all rows that the table
    ruled out; a lack of memory or room and a crash end the fit.

    Parameters
    ----------
    cases : sequence of Case
        For example ``habitat.read_cohort("cohort.csv")``.
    out : path
        Folder of the model; an earlier one in it is replaced.
    k, method, scaling, grid, smoothness, rim_mm, patient_shift, random_state
        As of `HabitatModel`.
    jobs : int, optional
        Worker processes; as many as cores if not given.
    client : distributed.Client or str, optional
        A Dask cluster (or its address) to run on instead.

    Returns
    -------
    FitResult
        The model and what was left out.

    Raises
    ------
    CohortError
        If no training case can be used, or their channels differ.
    ConfigError
        If an argument is wrong.

    Notes
    -----
    The model is that of `HabitatModel.fit` with the same cases, bit for bit: workers
    keep the voxels of a case and send sums back, which are added exactly. This process
    holds a sample of 200,000 voxels (20 a case where that is more) and no image.

    Voxels wait in the temporary folder (TMPDIR; 40 bytes each with two channels), which
    a kill leaves behind as ``habitat-*``.

    `out` gets model.json and arrays.npz, centres.csv (centers in natural and in scaled
    units, mean share of a tumor) and centres.png, for ``k="auto"`` k_curve.csv and
    k_curve.png, failures.csv, and fit.json: arguments, versions, times.

    Examples
    --------
    >>> import habitat, tempfile
    >>> ps = [habitat.phantom(radius_mm=12, random_state=s) for s in range(2)]
    >>> images = [{"pet": p.pet, "ct": p.ct} for p in ps]
    >>> cases = [habitat.Case(f"p{i}", images[i], ps[i].mask) for i in range(2)]
    >>> fitted = habitat.fit_cohort(cases, tempfile.mkdtemp() + "/model", k=3, jobs=1)
    >>> fitted.model.k_, fitted.exit_code
    (3, 0)
    """
    from habitat.population import HabitatModel
    from habitat.population._saving import WRITTEN, write_into

    began = time.time()
    folder = Path(out).expanduser().absolute()
    check_folder(folder, WRITTEN)
    train, notes = _training(cases)
    notes = [*table_notes(cases), *notes]
    model = HabitatModel(
        k,
        method=method,
        scaling=scaling,
        grid=grid,
        smoothness=smoothness,
        rim_mm=rim_mm,
        patient_shift=patient_shift,
        random_state=random_state,
    )
    own = [n for n in ("method", "scaling") if not known(getattr(model, n))]
    if own:
        what = "is code of your own, which no model file can hold"
        raise ConfigError(what, f"`{own[0]}`", "use HabitatModel.fit, or a name")
    kinds = Counter(tuple(case.images) for case in train)
    settings = model.settings_for(list(kinds.most_common(1)[0][0]))
    with (
        tempfile.TemporaryDirectory(prefix="habitat-") as voxels,
        runner_for(jobs, None, client, ()) as runner,
    ):
        store = _store(runner, client, train, settings, Path(voxels))
        if not store.facts:
            first = store.failures[0].failure
            what = f"none of {len(train)} cases can be used, the first: {first.message}"
            raise CohortError(what, "`cases`", first.fix)
        _check_failures(store.failures)
        failures = [*broken_rows(cases), *store.failures]
        small = [one for one in store.facts if one.small]
        notes += [f"case {one.case_id} {one.notes[-1]}" for one in small]
        said = {one.case_id: one.notes for one in store.facts if one.notes}
        if said:
            notes.append(
                f"{len(said)} of {len(store.facts)} cases have notes: fit.json"
            )
        model.fit_store(store, settings)
        shares = _shares(model, store, settings)
    seconds = round(time.time() - began, 1)

    def write(part: Path) -> None:
        write_into(model, part)
        _write_centers(model, shares, part)
        if model.choice_ is not None:
            _write_choice(model.choice_, part)
        write_failures(part / FAILURES, failures)
        about = {"arguments": _arguments(model), "notes": notes, "seconds": seconds}
        about["case_notes"] = said
        about |= {"cases": len(store.facts), "versions": versions()}
        text = json.dumps(about, indent=1, allow_nan=False)
        (part / "fit.json").write_text(text, encoding="utf-8")

    write_folder(folder, write, WRITTEN)
    return FitResult(model, folder, tuple(notes), 1 if failures else 0)


def _training(cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """Cases to learn from, and what must be said of it."""
    given = check_cases(cases)
    splits = [case.split for case in given]
    if not any(splits):
        return given, []
    train = [c for c in given if c.split and c.split.casefold() == TRAIN]
    if not train:
        named = ", ".join(sorted({split for split in splits if split}))
        what = f"no case is of split {TRAIN!r}, only of {named}"
        raise CohortError(what, "`cases`", "name the training cases in column split")
    text = f"{len(train)} of {len(given)} cases are for training; others are not used"
    return train, [text] if len(train) < len(given) else []


def _check_failures(failed: Sequence[Failed]) -> None:
    """A case may be left out for what it is, not for what a machine lacks."""
    for case_id, failure in failed:
        if failure.kind not in errors.__all__:
            what = f"{failure.kind}: {failure.message}"
            fix = "give it memory and room (TMPDIR) and fit again: the cases of a model"
            fix += " must not depend on the machine"
            raise CohortError(what, f"case {case_id}", fix)


class PoolStore:
    """Voxels in files of a folder that worker processes write and read."""

    def __init__(
        self, runner: Runner, cases: Sequence[Case], settings: Settings, folder: Path
    ) -> None:
        from habitat.population._learn import odd_ones, sample_rows

        rows = sample_rows(len(cases))
        found: dict[int, Facts] = {}
        failed: dict[int, Failure] = {}
        tasks = (
            Task(i, case.case_id, store_case, (case, settings, rows, _file(folder, i)))
            for i, case in enumerate(cases)
        )
        with progress(len(cases), "Reading case") as advance:
            for done in runner.run(tasks):
                if done.failure is None:
                    found[done.key] = done.value
                else:
                    failed[done.key] = done.failure
                advance(cases[done.key].case_id, done.failure is not None)
        for place, error in odd_ones(found).items():
            del found[place]
            failed[place] = Failure.of(error)
        self._runner, self._folder, self._cases = runner, folder, cases
        self._places = sorted(found)
        self.facts: Sequence[Facts] = [found[i] for i in self._places]
        self.failures = [Failed(cases[i].case_id, failed[i]) for i in sorted(failed)]

    def each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Apply a function to the voxels of each case."""
        found: dict[int, list[Any]] = {}
        for done in self._runner.run(self._tasks(function, columns)):
            if done.failure is not None:
                failure, name = done.failure, self._cases[done.key].case_id
                raise CohortError(failure.message, f"from case {name}", failure.fix)
            found[done.key] = done.value
        return [value for _, part in sorted(found.items()) for value in part]

    def _tasks(
        self, function: Callable[..., Any], columns: Sequence[Sequence[Any]]
    ) -> Iterator[Task]:
        """Some cases at a time: to send a task takes as long as its work on one."""
        size = math.ceil(len(self._places) / (_PARTS * self._runner.workers))
        for start in range(0, len(self._places), size):
            own = slice(start, start + size)
            paths = [_file(self._folder, place) for place in self._places[own]]
            args = (function, paths, [c[own] for c in columns])
            place = self._places[start]
            yield Task(place, self._cases[place].case_id, apply_to_cases, args)


def _file(folder: Path, place: int) -> Path:
    return folder / f"{place}.npz"


def store_case(
    case: Case, settings: Settings, rows: int, path: Path, room: int | None
) -> Facts:
    """Read a case in a worker, keep its voxels in a file and return the rest."""
    from habitat.population._learn import read_voxels

    needed = estimate(case)
    if room is not None and needed > room:
        raise NeedsRoom(needed)
    facts, voxels = read_voxels(case, settings, rows)
    voxels.save(path)
    return facts


def apply_to_cases(
    function: Callable[..., Any],
    paths: Sequence[Path],
    columns: Sequence[Sequence[Any]],
    room: int | None,
) -> list[Any]:
    """Apply a function to the voxels of one case after the other in a worker."""
    from habitat.population._learn import Voxels

    return [
        function(Voxels.load(path), *(column[i] for column in columns))
        for i, path in enumerate(paths)
    ]


def _store(
    runner: Any,  # the one that fits the client
    client: Any,
    cases: Sequence[Case],
    settings: Settings,
    folder: Path,
) -> Any:
    if client is None:
        return PoolStore(runner, cases, settings, folder)
    from habitat.cohort._dask import DaskStore

    return DaskStore(runner, cases, settings)


def _shares(model: HabitatModel, store: Store, settings: Settings) -> Floats:
    """Mean share of each habitat in a tumor."""
    from habitat.population._learn import case_sums, exact_mean

    known = model.definition_
    own = partial(case_sums, scaling=known.scaling, rule=known.rule, settings=settings)
    return exact_mean(store.each(own))[:, -1]


def _arguments(model: HabitatModel) -> dict[str, Any]:
    return {n: plain(value) for n, value in model.get_params(deep=False).items()}


def _write_centers(model: HabitatModel, shares: Floats, folder: Path) -> None:
    import pandas as pd

    from habitat.plotting import plot_centers

    scaled = model.definition_.scaling(model.centers_)
    columns: dict[str, Any] = {
        "habitat": np.arange(1, model.k_ + 1),
        "name": [term.strip() for term in model.definition_.terms],
    }
    for i, channel in enumerate(model.channels_):
        columns[channel] = model.centers_[:, i]
    if scaled.shape == model.centers_.shape:
        for i, channel in enumerate(model.channels_):
            columns[f"{channel}_scaled"] = scaled[:, i]
    table = pd.DataFrame({**columns, "share": shares})
    write_table(folder / "centres.csv", table)
    figure = plot_centers(
        model.centers_,
        model.medians_,
        model.sds_,
        shares,
        [f"{c}, {u}" if u and u != c else c for c, u in _units(model)],
        [f"H{h} {name}".strip() for h, name in enumerate(table["name"], start=1)],
    )
    figure.savefig(folder / "centres.png", dpi=200, metadata={"Software": None})


def _units(model: HabitatModel) -> list[tuple[str, str | None]]:
    return list(zip(model.channels_, model.units_, strict=True))


def _write_choice(choice: Mapping[str, Any], folder: Path) -> None:
    nan = float("nan")
    values = {
        name: np.array([nan if v is None else v for v in column], dtype=np.float64)
        for name, column in choice["values"].items()
    }
    p = choice["structure_p"]
    found = KChoice(
        choice["k"],
        tuple(choice["ks"]),
        values,
        choice["picks"],
        nan if p is None else p,
        tuple(choice["notes"]),
    )
    table = found.table.reset_index()
    table["chosen"] = table["k"] == found.k
    write_table(folder / "k_curve.csv", table)
    found.plot().savefig(folder / "k_curve.png", dpi=200, metadata={"Software": None})

"""Features of cases whose habitats are learned anew in each fold."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from habitat._progress import progress
from habitat.case import Case
from habitat.clustering import evenly
from habitat.cohort._batch import check_cases
from habitat.cohort._case import _hashes, _opened
from habitat.cohort._fit import PoolStore, _file, apply_to_cases
from habitat.cohort._headers import estimate
from habitat.cohort._plan import Plan, make_plan
from habitat.cohort._pool import LocalRunner
from habitat.cohort._tables import Key, Listed, _columns, _facts, _heads, _names
from habitat.cohort._work import Failure, NeedsRoom, Task
from habitat.errors import CohortError, HabitatWarning, raise_all
from habitat.evaluation._surrogate import Surrogates
from habitat.features import extract
from habitat.features._subject import Subject, of_result
from habitat.fitting import Settings
from habitat.geometry import Floats
from habitat.population import HabitatModel
from habitat.population._learn import Facts, Voxels, case_sums, exact_mean, sample_rows
from habitat.saving import hash_json, whole_file
from habitat.segmentation import versions
from habitat.tumor import Tumor

_HABITAT = re.compile(r"h[0-9]+$")
_SLOW = ("radiomics", "shape")  # families that describe tumor and habitats apart
_RINGS = "rings"


class Learned(NamedTuple):
    """Habitats of one training set."""

    model: HabitatModel
    shares: Floats  # (k,) mean over the training cases
    notes: tuple[str, ...]


class Wanted(NamedTuple):
    """What is made of a case with one model."""

    model: HabitatModel
    shares: Floats
    draws: tuple[tuple[int, int], ...]  # fold and number of each surrogate


class Described(NamedTuple):
    """Features of a case: of the model's habitats, then of its surrogates."""

    keys: tuple[Key, ...]
    values: Floats  # (maps, keys)


class CaseSource:
    """Features of cases for each fold, with habitats learned on its training cases.

    Each case is read once for all folds. What habitats cannot change, radiomics and
    shape of the whole tumor and its rings, is computed once; all else for each model
    and each surrogate map.

    Parameters
    ----------
    cases : sequence of Case
        All of the cohort, in the order of the rows.
    habitats : HabitatModel
        How habitats are learned; not fitted, and left as it is.
    extraction : mapping
        Arguments of `extract`: families, spacing, settings, engine, min_voxels.
    jobs : int, optional
        Worker processes; as many as cores if not given.
    cache : path, optional
        Folder where the features of each case and model are kept for the next run.
    random_state : int
        Seed of the surrogate maps.

    Raises
    ------
    HabitatError
        If there is no case, two have one name, or an argument is wrong.

    Examples
    --------
    >>> import habitat
    >>> from habitat.evaluation._cases import CaseSource
    >>> ps = [habitat.phantom(radius_mm=10, random_state=s) for s in range(3)]
    >>> cases = [
    ...     habitat.Case(f"p{i}", {"pet": p.pet, "ct": p.ct}, p.mask)
    ...     for i, p in enumerate(ps)
    ... ]
    >>> how = {"families": ("composition",)}
    >>> source = CaseSource(cases, habitat.HabitatModel(k=2), how, jobs=1)
    >>> source.prepare([[0, 1]], draws=1)
    >>> source.fold(0)[["case_id", "h1_present"]].shape
    (3, 2)
    """

    def __init__(
        self,
        cases: Sequence[Case],
        habitats: HabitatModel,
        extraction: Mapping[str, Any],
        *,
        jobs: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        random_state: int = 0,
    ) -> None:
        self.cases = check_cases(cases)
        self.habitats = habitats
        channels = list(self.cases[0].images)
        self._settings = habitats.settings_for(channels)
        options = dict(extraction)
        families = options.pop("families", None)
        self._plan = make_plan(channels, None, 4, families, None, options)
        self.jobs = jobs
        self.cache = None if cache is None else Path(cache).expanduser().absolute()
        self.random_state = random_state
        self.notes: tuple[str, ...] = ()
        self.models: list[HabitatModel] = []  # of each fold
        # by fold and surrogate map, -1 for none: columns and a row for each case
        self._tables: dict[tuple[int, int], tuple[list[str], Floats]] = {}

    def prepare(self, trains: Sequence[npt.ArrayLike], draws: int = 0) -> None:
        """Learn the habitats of each fold and describe all cases with them.

        Parameters
        ----------
        trains : sequence of integer arrays
            Positions of the training cases of each fold. Folds with the same training
            cases share a model.
        draws : int
            Surrogate maps for each fold and case.

        Raises
        ------
        CohortError
            Naming every case that cannot be used: none is left out in silence.
        """
        sets = [tuple(sorted(map(int, np.asarray(train)))) for train in trains]
        distinct = list(dict.fromkeys(sets))
        number = [distinct.index(one) for one in sets]
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
        with (
            LocalRunner(self.jobs) as runner,
            tempfile.TemporaryDirectory(prefix="habitat-") as folder,
        ):
            learned, large = self._learn(runner, distinct, Path(folder))
            wanted = []
            for m, one in enumerate(learned):
                folds = [i for i, own in enumerate(number) if own == m]
                pairs = tuple((i, draw) for i in folds for draw in range(draws))
                wanted.append(Wanted(one.model, one.shares, pairs))
            found = self._describe(runner, wanted, large)
        self.models = [learned[m].model for m in number]
        self._keep(number, wanted, found)

    def fold(self, i: int) -> pd.DataFrame:
        """Wide table of all cases, habitats learned on the training cases of a fold.

        Parameters
        ----------
        i : int
            Number of the fold in `prepare`.

        Returns
        -------
        DataFrame
            Columns as in features_wide.csv of a batch, a row per case in their order.
        """
        return self._wide(i, -1)

    def surrogate(self, i: int, draw: int) -> pd.DataFrame:
        """`fold`, but habitats are those of surrogate maps.

        Parameters
        ----------
        i : int
            Number of the fold.
        draw : int
            Number of the surrogate map, less than `draws`.
        """
        return self._wide(i, draw)

    def _learn(
        self, runner: LocalRunner, sets: Sequence[tuple[int, ...]], folder: Path
    ) -> tuple[list[Learned], list[int]]:
        """Read all cases and fit a model to each training set; large cases first."""
        settings = self._settings
        store = PoolStore(runner, self.cases, settings, folder)
        self._check({f.case_id: f.failure for f in store.failures})
        tasks = []
        for m, places in enumerate(sets):
            facts = [store.facts[place] for place in places]
            paths = [_file(folder, place) for place in places]
            model = clone(self.habitats)
            tasks.append(
                Task(m, f"fold {m + 1}", learn_fold, (model, settings, facts, paths))
            )
        learned: list[Learned] = self._run(runner, tasks, "Learning habitats")
        size = [-one.n_eff for one in store.facts]
        self.notes = _notes(store.facts, learned)
        return learned, np.argsort(size, kind="stable").tolist()

    def _describe(
        self, runner: LocalRunner, wanted: Sequence[Wanted], order: Sequence[int]
    ) -> list[list[Described]]:
        args = (wanted, self._plan, self.random_state, self.cache)
        cases = self.cases
        tasks = [
            Task(i, cases[i].case_id, describe_case, (cases[i], *args)) for i in order
        ]
        found: list[list[Described]] = self._run(runner, tasks, "Describing case")
        return found

    def _run(self, runner: LocalRunner, tasks: Sequence[Task], doing: str) -> list[Any]:
        """Values of all tasks in order; an error names all that failed."""
        values: list[Any] = [None] * len(tasks)
        failed: dict[int, Failure] = {}
        names = {task.key: task.name for task in tasks}
        with progress(len(tasks), doing) as advance:
            for done in runner.run(tasks):
                values[done.key] = done.value
                if done.failure is not None:
                    failed[done.key] = done.failure
                advance(names[done.key], done.failure is not None)
        self._check({names[key]: failed[key] for key in sorted(failed)})
        return values

    def _check(self, failed: Mapping[str, Failure]) -> None:
        raise_all([CohortError(f.message, name, f.fix) for name, f in failed.items()])

    def _keep(
        self,
        number: Sequence[int],
        wanted: Sequence[Wanted],
        found: Sequence[Sequence[Described]],
    ) -> None:
        """Join the cases in one matrix for each fold and surrogate map."""
        self._tables = {}
        for m, one in enumerate(wanted):
            columns, values = _joined([case[m] for case in found])
            for i in (i for i, other in enumerate(number) if other == m):
                self._tables[i, -1] = columns, values[0]
            for place, pair in enumerate(one.draws, start=1):
                self._tables[pair] = columns, values[place]

    def _wide(self, i: int, draw: int) -> pd.DataFrame:
        columns, values = self._tables[i, draw]
        listed = [Listed(c, c.case_id, "done", "") for c in self.cases]
        known = [_facts(one) for one in listed]
        facts = sorted({key for row in known for key in row})
        heads = _heads(facts, columns)
        about: dict[str, list[Any]] = {"case_id": [c.case_id for c in self.cases]}
        about["status"] = ["done"] * len(self.cases)
        for key, head in zip(facts, heads, strict=True):
            about[head] = [row.get(key) for row in known]
        parts = [pd.DataFrame(about), pd.DataFrame(values, columns=columns)]
        table: pd.DataFrame = pd.concat(parts, axis=1)
        return table


def _joined(cases: Sequence[Described]) -> tuple[list[str], Floats]:
    """Names of columns, and values of shape (maps, cases, columns)."""
    named = {keys: _names(keys) for keys in {case.keys: None for case in cases}}
    columns = _columns(list(named), list(named.values()))
    where = {name: i for i, name in enumerate(columns)}
    places = {keys: [where[name] for name in own] for keys, own in named.items()}
    values = np.full((len(cases[0].values), len(cases), len(columns)), np.nan)
    for i, case in enumerate(cases):
        values[:, i, places[case.keys]] = case.values
    return columns, values


def _notes(facts: Sequence[Facts], learned: Sequence[Learned]) -> tuple[str, ...]:
    """What must be known of the cases and of the fits."""
    notes = [note for one in learned for note in one.notes]
    said = [one for one in facts if one.notes]
    if said:
        first = f"{said[0].case_id}: {said[0].notes[0]}"
        notes.append(f"{len(said)} of {len(facts)} cases have notes, first {first}")
    return tuple(dict.fromkeys(notes))


# --- in the workers -------------------------------------------------------------------


class _Part:
    """Voxels of some cases, in files."""

    def __init__(self, facts: Sequence[Facts], paths: Sequence[Path]) -> None:
        self.facts, self._paths = facts, paths

    def each(self, function: Any, *columns: Sequence[Any]) -> list[Any]:
        """Apply a function to the voxels of each case."""
        return apply_to_cases(function, self._paths, columns, None)


def learn_fold(
    model: HabitatModel,
    settings: Settings,
    facts: Sequence[Facts],
    paths: Sequence[Path],
    room: int | None,  # noqa: ARG001  one case is in memory at a time
) -> Learned:
    """Fit a model to the training cases of a fold."""
    store = _Part(facts, paths)
    samples = store.each(partial(_sample, rows=sample_rows(len(facts))))
    store.facts = [
        replace(one, sample=sample) for one, sample in zip(facts, samples, strict=True)
    ]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", HabitatWarning)
        model.fit_store(store, settings)
    known = model.definition_
    own = partial(case_sums, scaling=known.scaling, rule=known.rule, settings=settings)
    shares = exact_mean(store.each(own))[:, -1]
    said = [one.message for one in heard if issubclass(one.category, HabitatWarning)]
    return Learned(model, shares, tuple(map(str, said)))


def _sample(voxels: Voxels, rows: int) -> Floats:
    """What `HabitatModel.fit` takes of a case, among as many as in this fold."""
    return voxels.X[evenly(len(voxels.X), rows)]


def describe_case(
    case: Case,
    wanted: Sequence[Wanted],
    plan: Plan,
    seed: int,
    cache: Path | None,
    room: int | None,
) -> list[Described]:
    """Describe a case with the habitats of all models and their surrogates."""
    files = [] if cache is None else _files(case, wanted, plan, seed, cache)
    found = {i: kept for i, file in enumerate(files) if (kept := _loaded(file))}
    if len(found) < len(wanted):
        needed = estimate(case)
        if room is not None and needed > room:
            raise NeedsRoom(needed)
        one = _Case(case, plan.extraction, seed)
        for i in (i for i in range(len(wanted)) if i not in found):
            found[i] = one.described(wanted[i])
            if files:
                _save(files[i], found[i])
    # equal keys as one object: thousands of texts for each model are much to send
    known: dict[tuple[Key, ...], tuple[Key, ...]] = {}
    return [
        Described(known.setdefault(one.keys, one.keys), one.values)
        for _, one in sorted(found.items())
    ]


class _Case:
    """A case whose images are read once and whose tumor is described once."""

    def __init__(self, case: Case, extraction: Mapping[str, Any], seed: int) -> None:
        images = {name: _opened(name, source) for name, source in case.images.items()}
        self._case = Case(case.case_id, images, case.mask, case.label)
        self._extraction = dict(extraction)
        self._seed = seed
        self._tumor: tuple[Tumor, Settings] | None = None  # the same for all models
        self._subject: Subject | None = None
        self._same: dict[Key, float] = {}  # whatever the habitats are
        self._order: dict[Key, float] = {}  # of the columns

    def described(self, wanted: Wanted) -> Described:
        """Features of the habitats of a model, and of maps at random."""
        if self._tumor is None:
            self._tumor = wanted.model.tumor_of(self._case)
        result = wanted.model.segment_tumor(*self._tumor)
        labels = result.labels[result.box]
        if self._subject is None:
            self._subject = of_result(result, self._case.images)
            rows = [self._first(self._subject)]
        else:
            rows = [self._again(labels, result.k)]
        if wanted.draws:
            made = Surrogates(labels, result.geometry.spacing, wanted.shares)
        for fold, draw in wanted.draws:
            rng = _rng(self._seed, self._case.case_id, fold, draw)
            rows.append(self._again(made.draw(rng), result.k))
        keys = tuple(dict.fromkeys(key for row in rows for key in row))
        nan = float("nan")
        return Described(keys, np.array([[r.get(k, nan) for k in keys] for r in rows]))

    def _first(self, subject: Subject) -> dict[Key, float]:
        table = extract(subject, **self._extraction)
        alone = [
            family == _RINGS or (family in _SLOW and not _HABITAT.match(region))
            for family, region in zip(table["family"], table["region"], strict=True)
        ]
        self._same = _values(table[alone])
        families = self._extraction.get("families")
        if families is not None:
            self._extraction["families"] = [f for f in families if f != _RINGS]
        self._order = _values(table)
        return self._order

    def _again(self, labels: Any, k: int) -> dict[Key, float]:
        assert self._subject is not None
        table = extract(self._subject.with_labels(labels, k), **self._extraction)
        found = {**self._same, **_values(table)}
        return {key: found[key] for key in (*self._order, *found) if key in found}


def _values(table: pd.DataFrame) -> dict[Key, float]:
    """Value of each feature, and which habitats are there."""
    keys = zip(table["region"], table["channel"], table["feature"], strict=True)
    found = dict(zip(keys, table["value"].tolist(), strict=True))
    sizes = zip(table["region"], table["voxels"], strict=True)
    for region, size in dict(sizes).items():
        if _HABITAT.match(region):
            found.setdefault((region, "", "present"), float(size > 0))
    return found


def _rng(seed: int, *names: object) -> np.random.Generator:
    digest = hashlib.sha256(repr((seed, *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


# --- the cache ------------------------------------------------------------------------


def _files(
    case: Case, wanted: Sequence[Wanted], plan: Plan, seed: int, cache: Path
) -> list[Path]:
    """File of each model: its name tells all that its numbers depend on."""
    own: dict[str, Any] = {
        "case_id": case.case_id,
        "label": case.label,
        "sources": list(_hashes(case).items()),
        "extraction": plan.to_json()["extraction"],
        "versions": versions(),
    }
    return [cache / f"{hash_json({**own, **_made(one, seed)})}.npz" for one in wanted]


def _made(one: Wanted, seed: int) -> dict[str, Any]:
    drawn = {"shares": one.shares.tolist(), "draws": one.draws, "seed": seed}
    return {"model": one.model.sha256, **(drawn if one.draws else {})}


def _save(file: Path, found: Described) -> None:
    with whole_file(file) as part, part.open("wb") as stream:
        np.savez_compressed(stream, keys=np.array(found.keys, str), values=found.values)


def _loaded(file: Path) -> Described | None:
    """What was kept; None if it is not there or cannot be read."""
    try:
        with np.load(file) as arrays:
            keys = tuple(map(tuple, arrays["keys"].tolist()))
            return Described(keys, arrays["values"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None

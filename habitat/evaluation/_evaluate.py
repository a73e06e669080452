"""evaluate(): how well a model predicts new patients, and whether to believe it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from habitat._progress import track
from habitat.case import Case
from habitat.classifiers import HabitatClassifier
from habitat.errors import CohortError, ConfigError, HabitatWarning, InputError
from habitat.evaluation._arms import (
    BESIDE,
    MODEL,
    Arm,
    Model,
    Source,
    check_model,
    make_arms,
    shuffled,
    take,
)
from habitat.evaluation._cases import CaseSource
from habitat.evaluation._curves import curves_of
from habitat.evaluation._folds import Fold, Indices, Plan, Texts, make_plan
from habitat.evaluation._result import Evaluation
from habitat.evaluation._subgroups import subgroups_of
from habitat.evaluation._summary import Judge, Prediction, table_of
from habitat.evaluation._warnings import Facts, warnings_of
from habitat.mil import Bags
from habitat.population import HabitatModel
from habitat.selection import encoded, features_of

SURROGATES = 10  # at least so many maps that know nothing of the images


@dataclass(frozen=True)
class Habitats:
    """How the habitats of cases are made, anew in every fold.

    Parameters
    ----------
    model : HabitatModel
        Not fitted; it is learned on the training cases of each fold.
    extraction : mapping
        Arguments of `extract`, such as ``{"families": ("composition", "radiomics")}``.
    cache : path, optional
        Folder that keeps the features of each case and model, for the next run.
    """

    model: HabitatModel
    extraction: Mapping[str, Any]
    cache: str | None = None


class _Given:
    """Features that were made before, the same in every fold."""

    def __init__(self, data: pd.DataFrame | Bags) -> None:
        self._data = data

    def fold(self, i: int) -> pd.DataFrame | Bags:  # noqa: ARG002
        return self._data

    def surrogate(self, i: int, draw: int) -> pd.DataFrame:
        raise NotImplementedError


class _Made:
    """Features made in each fold, clinical texts as columns of 0 and 1."""

    def __init__(self, source: CaseSource) -> None:
        self._source = source

    def fold(self, i: int) -> pd.DataFrame:
        return encoded(self._source.fold(i))

    def surrogate(self, i: int, draw: int) -> pd.DataFrame:
        return encoded(self._source.surrogate(i, draw))

    @property
    def notes(self) -> list[str]:
        return list(self._source.notes)


def evaluate(
    model: Model,
    data: pd.DataFrame | Bags | Sequence[Case],
    y: npt.ArrayLike,
    *,
    table: pd.DataFrame | None = None,
    groups: npt.ArrayLike | None = None,
    sites: npt.ArrayLike | None = None,
    cv: tuple[int, int] | str | Iterable[tuple[Any, Any]] = (5, 10),
    beside: Sequence[str] = BESIDE,
    habitats: Habitats | None = None,
    jobs: int | None = None,
    random_state: int = 0,
) -> Evaluation:
    """Evaluate a classifier on patients it was not learned on.

    Every step that learns (habitats, filling of gaps, harmonization, selection,
    strength of the penalty, threshold) is learned anew on the training part of each
    fold.

    Parameters
    ----------
    model : HabitatClassifier or MILClassifier
        Not fitted; it is cloned.
    data : DataFrame, Bags or sequence of Case
        A wide table of features (`habitat.features.wide` or features_wide.csv of a
        batch), bags, or cases whose habitats and features are made in each fold.
    y : array-like of shape (n_cases,)
        Class of each case, two or more, in the order of ``numpy.unique``; of a
        ``pandas.Categorical`` (`outcome_of(...).values`) in that of its categories.
    table : DataFrame, optional
        For bags: a wide table of the same cases in the same order, for the simple
        models beside and the subgroups.
    groups, sites : array-like of shape (n_cases,), optional
        Patient and hospital of each case. Taken from the columns ``group`` and
        ``site``, or from the cases, if they are not given.
    cv : (folds, repeats), "leave-one-site-out", "split" or iterable of (train, test)
        Stratified folds that keep the cases of a patient together; or the column
        ``split``, whose "train" is learned on and whose other names are test sets.
    beside : sequence of str
        What runs beside the model. Simple models: "volume only", "SUVmax only",
        "clinical only", "whole tumor" (the same classifier without habitats). Controls:
        "surrogate habitats" (smooth random division of each tumor with the lengths of
        its own map and the mean shares of the training cases, at least 10 draws; cases
        only), "permuted habitats" (columns of habitats exchanged between patients),
        "permuted outcome".
    habitats : Habitats, optional
        For cases: the model of habitats and the features; by default K-means with
        ``k=4`` and all features but rings.
    jobs : int, optional
        Processes for cases; by default one per core.
    random_state : int
        Seed of folds and permutations.

    Returns
    -------
    Evaluation

    Raises
    ------
    HabitatError
        One of its kinds: classes that are too small, patients on both sides, cases that
        cannot be read (all are named).

    Notes
    -----
    The AUC is computed within each test fold and averaged with the number of pairs as
    weight, then over repeats; its interval is the corrected resampled t of Nadeau and
    Bengio (2003). Only where a fold holds fewer than two of a class are scores pooled,
    after centering the logits of each fold, with a note. On a fixed test set the
    interval is that of DeLong (1988). Thresholds are those of Youden on out-of-fold
    predictions of the training part.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from habitat.classifiers import HabitatClassifier
    >>> from habitat.evaluation import evaluate
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 40)
    >>> table = pd.DataFrame({"h1_fraction": rng.random(80) + 0.5 * y})
    >>> found = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=())
    >>> bool(found.value("habitats") > 0.7)
    True
    """
    model = check_model(model)
    classes, codes = _classes(y)
    given = _Cohort.of(data, table, groups, sites, len(codes))
    _check_leak(given, codes)
    plan = make_plan(
        cv,
        codes,
        groups=given.groups,
        sites=given.sites,
        split=given.split,
        random_state=random_state,
    )
    draws = -(-SURROGATES // plan.repeats) if given.cases else 0
    draws = draws if "surrogate habitats" in beside else 0
    source = _source(given, habitats, plan, draws, jobs, random_state)
    arms, unable = make_arms(model, source, given.table, beside, draws, random_state)
    run = _Run(plan, classes, codes, given, random_state)
    doing = track(arms, "Evaluating")
    found = {arm.name: list(run.predictions(arm)) for arm in doing}
    judge = Judge(plan, codes, classes)
    metrics = table_of([r for name, p in found.items() for r in judge.rows(name, p)])
    differences = _differences(judge, found)
    subgroups = subgroups_of(judge, found[MODEL], given.about)
    selected = _selected(run.kept)
    params = _params(model, plan, given, classes, codes, random_state)
    kept = int(np.median([len(names) for names in run.kept]))
    about = given.about
    facts = Facts(metrics, differences, codes, classes, params, run.events, about, kept)
    notes = [*warnings_of(facts), *plan.notes, *unable, *run.notes]
    notes += getattr(source, "notes", [])
    return Evaluation(
        metrics,
        differences,
        _predictions(found, given.ids, classes, codes),
        selected,
        subgroups,
        curves_of(judge, found[MODEL]) if len(classes) == 2 else {},
        tuple(dict.fromkeys(notes)),
        params,
    )


def _classes(y: npt.ArrayLike) -> tuple[list[Any], Indices]:
    if isinstance(y, pd.Categorical):
        y = y.remove_unused_categories()
        values = np.asarray(y, dtype=object)
    else:
        values = np.asarray(y)
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"must have one value per case, got {values.shape}", "`y`")
    missing = pd.isna(values)
    if missing.any():
        what = f"{int(missing.sum())} of {len(values)} cases have no outcome"
        raise InputError(what, "`y`", "leave them out")
    if isinstance(y, pd.Categorical):
        names, codes = y.categories.to_numpy(), y.codes
    else:
        names, codes = np.unique(values, return_inverse=True)
    if len(names) < 2 or len(names) > 20:
        what = f"must have 2 to 20 classes, found {len(names)}"
        raise InputError(what, "`y`", "cut numbers into classes: habitat.outcome_of")
    return names.tolist(), codes.astype(np.intp)


@dataclass(frozen=True)
class _Cohort:
    """The cases, whatever form they were given in."""

    ids: list[str]
    about: pd.DataFrame  # columns of kind "about" and clinical ones
    data: pd.DataFrame | Bags | None
    table: pd.DataFrame | None
    cases: list[Case]
    groups: Texts | None
    sites: Texts | None
    split: Texts | None

    @classmethod
    def of(
        cls,
        data: Any,
        table: pd.DataFrame | None,
        groups: npt.ArrayLike | None,
        sites: npt.ArrayLike | None,
        n: int,
    ) -> _Cohort:
        """Check that everything has one row per case."""
        cases: list[Case] = []
        if isinstance(data, pd.DataFrame):
            _check_status(data)
            data = about = encoded(_named(data, "`data`"))
        elif isinstance(data, Bags):
            table = None if table is None else encoded(_named(table, "`table`"))
            about = pd.DataFrame(index=range(len(data))) if table is None else table
        else:
            cases = _checked(data)
            about = _about(cases)
            data = None
        lengths = {"`data`": len(cases) if data is None else len(data)}
        lengths["`table`"] = n if table is None else len(table)
        for name, length in lengths.items():
            if length != n:
                raise InputError(f"has {length} cases, `y` has {n}", name)
        column = "case_id" if "case_id" in about else None
        ids = about[column].astype(str) if column else map(str, about.index)
        if isinstance(data, Bags):
            ids = map(str, data.bag_ids)
        return cls(
            list(ids),
            about,
            data,
            table,
            cases,
            _labels("groups", groups, about.get("group"), n, own=True),
            _labels("sites", sites, about.get("site"), n),
            _labels("split", None, about.get("split"), n),
        )


def _named(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Columns with names as text, each case once."""
    out = table.rename(columns=str)
    double = sorted(set(out.columns[out.columns.duplicated()]))
    if double:
        raise InputError(f"columns that are there twice: {', '.join(double)}", where)
    if "case_id" in out:
        ids = out["case_id"].astype(str)
        twice = sorted(set(ids[ids.duplicated()]))
        if twice:
            what = f"holds {len(twice)} cases more than once, first {twice[0]}"
            fix = "give each case one row; several of a patient share a `group`"
            raise CohortError(what, where, fix)
    return out


def _check_leak(given: _Cohort, y: Indices) -> None:
    """A column that is the outcome itself is no feature."""
    tables = [t for t in (given.data, given.table) if isinstance(t, pd.DataFrame)]
    for table in tables:
        for name in features_of(table):
            values = table[name].to_numpy(dtype=np.float64)
            own = [np.unique(values[y == c]) for c in range(int(y.max()) + 1)]
            told = [v.size == 1 and bool(np.isfinite(v[0])) for v in own]
            if all(told) and len({float(v[0]) for v in own}) == len(own):
                what = f"has a column {name!r} that is the outcome itself"
                fix = f"leave it out, or name it 'out:{name}'"
                raise InputError(what, "`data`", fix)


def _check_status(table: pd.DataFrame) -> None:
    """A batch lists its failed cases too."""
    if "status" in table and (table["status"] != "done").any():
        bad = table[table["status"] != "done"]
        first = bad["case_id"].iloc[0] if "case_id" in bad else bad.index[0]
        what = f"{len(bad)} of {len(table)} cases have no features, first {first}"
        fix = 'leave them out: table[table["status"] == "done"]'
        raise InputError(what, "`data`", fix)


def _checked(cases: Any) -> list[Case]:
    given = list(cases) if np.iterable(cases) else [cases]
    if not given or not all(isinstance(case, Case) for case in given):
        what = "must be a DataFrame, Bags or a list of habitat.Case"
        raise ConfigError(f"{what}, got {type(cases).__name__}", "`data`")
    return given


def _about(cases: Sequence[Case]) -> pd.DataFrame:
    rows = [
        {
            "case_id": case.case_id,
            "group": case.group,
            "site": case.site,
            "split": case.split,
            **{f"clin:{k}": v for k, v in case.clinical.items()},
            **case.outcome,
        }
        for case in cases
    ]
    return pd.DataFrame(rows)


def _labels(
    name: str, given: Any, column: Any, n: int, own: bool = False
) -> Texts | None:
    """Texts of all cases; a case without a patient is a patient of its own."""
    values = column if given is None else given
    if values is None or pd.isna(np.asarray(values, dtype=object)).all():
        return None
    texts = np.asarray(values, dtype=object)
    if texts.shape != (n,):
        raise InputError(f"has shape {texts.shape}, `y` has {n} cases", f"`{name}`")
    missing = pd.isna(texts)
    if missing.any() and own:
        texts = np.where(missing, [f"\0case {i}" for i in range(n)], texts)
    elif missing.any():
        texts = np.where(missing, "unknown", texts)
    return texts.astype(str)


def _source(
    given: _Cohort,
    habitats: Habitats | None,
    plan: Plan,
    draws: int,
    jobs: int | None,
    random_state: int,
) -> Source:
    if given.data is not None:
        if habitats is not None:
            what = "is for cases; the habitats of a table were made before"
            raise ConfigError(what, "`habitats`", "give `data` as a list of Case")
        return _Given(given.data)
    how = habitats or Habitats(HabitatModel(k=4), {})
    source = CaseSource(
        given.cases,
        how.model,
        dict(how.extraction),
        jobs=jobs,
        cache=how.cache,
        random_state=random_state,
    )
    source.prepare([fold.train for fold in plan.folds], draws)
    return _Made(source)


class _Run:
    """Fit and predict in every fold; keep what must be told of it."""

    def __init__(
        self,
        plan: Plan,
        classes: Sequence[Any],
        y: Indices,
        given: _Cohort,
        random_state: int,
    ) -> None:
        self.plan, self.classes, self.y, self.given = plan, classes, y, given
        self.random_state = random_state
        self.kept: list[tuple[str, ...]] = []  # by the model, in each fold
        self.events: list[float] = []  # per feature
        self._said: Counter[str] = Counter()  # in how many folds

    @property
    def notes(self) -> list[str]:
        """What the model said of itself, and in how many folds."""
        n = len(self.plan.folds)
        return [f"In {k} of {n} folds: {text}" for text, k in self._said.items()]

    def predictions(self, arm: Arm) -> Iterator[Prediction]:
        """What a model says of the test cases of each fold."""
        for i, fold in enumerate(self.plan.folds):
            y = self.y if arm.outcome else shuffled(self.y, fold, self.random_state)
            for draw in range(arm.draws):
                data = arm.data(i, fold, draw)
                fitted = self._fit(arm, data, y, fold)
                yield self._predict(fitted, data, fold, draw)

    def _fit(self, arm: Arm, data: Any, y: Indices, fold: Fold) -> Model:
        given = self.given
        train, part = take(data, fold.train), y[fold.train]
        fitted = clone(arm.model)
        groups = None if given.groups is None else given.groups[fold.train]
        sites = {}
        if isinstance(fitted, HabitatClassifier) and given.sites is not None:
            sites = {"sites": given.sites[fold.train]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HabitatWarning)  # they come as notes
            fitted.fit(train, part, groups=groups, **sites)
        if arm.name == MODEL:
            self.kept.append(tuple(getattr(fitted, "selected_", ())))
            self.events.append(float(getattr(fitted, "events_per_feature_", np.nan)))
            self._said.update(sorted(set(fitted.notes_)))
        return fitted

    def _predict(self, fitted: Model, data: Any, fold: Fold, draw: int) -> Prediction:
        test: Any = take(data, fold.test)
        sites = {}
        if isinstance(fitted, HabitatClassifier) and self.given.sites is not None:
            sites = {"sites": self.given.sites[fold.test]}
        p = fitted.predict_proba(test, **sites)  # of the kind that the model takes
        if p.shape[1] == 2:
            positive = (p[:, 1] >= fitted.threshold_).astype(np.intp)
        else:
            positive = p.argmax(axis=1)
        return Prediction(fold, draw, p, positive)


def _differences(
    judge: Judge, found: Mapping[str, Sequence[Prediction]]
) -> pd.DataFrame:
    rows = [
        (name, *row)
        for name in found
        if name != MODEL
        for row in judge.difference(found[MODEL], found[name])
    ]
    columns = ["model", "part", "value", "low", "high", "p", "how"]
    return pd.DataFrame(rows, columns=columns)


def _predictions(
    found: Mapping[str, Sequence[Prediction]],
    ids: Sequence[str],
    classes: Sequence[Any],
    y: Indices,
) -> pd.DataFrame:
    names = np.asarray(ids, dtype=object)
    of_class = np.asarray(classes)
    parts = []
    for model, predictions in found.items():
        for p in predictions:
            test = p.fold.test
            part = pd.DataFrame({"case_id": names[test]})
            part["model"], part["draw"] = model, p.draw
            part["repeat"], part["fold"] = p.fold.repeat, p.fold.number
            part["part"] = p.fold.name
            part["y"], part["predicted"] = of_class[y[test]], of_class[p.positive]
            for j, name in enumerate(classes):
                part[f"p_{name}"] = p.p[:, j]
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _selected(kept: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """How often each feature was kept."""
    names = pd.Series([name for fold in kept for name in fold], dtype=object)
    shares = names.value_counts(sort=False) / max(len(kept), 1)
    table = pd.DataFrame({"feature": shares.index, "share": shares.to_numpy(float)})
    by = ["share", "feature"]
    return table.sort_values(by, ascending=[False, True], ignore_index=True)


def _params(
    model: Model,
    plan: Plan,
    given: _Cohort,
    classes: Sequence[Any],
    y: Indices,
    random_state: int,
) -> dict[str, Any]:
    """Plain description of a run, for files."""
    options = {
        name: value
        if isinstance(value, (int, float, str, bool, type(None)))
        else list(value)
        if isinstance(value, tuple)
        else repr(value)
        for name, value in model.get_params(deep=False).items()
    }
    form = "cases" if given.cases else type(given.data).__name__
    return {
        "model": type(model).__name__,
        "options": options,
        "data": form,
        "metric": "auc" if len(classes) == 2 else "hand_till",
        "n_cases": len(y),
        "classes": [str(c) for c in classes],
        "counts": np.bincount(y).tolist(),
        "n_patients": len(y) if given.groups is None else len(set(given.groups)),
        "sites": [] if given.sites is None else sorted(set(given.sites)),
        "cv": plan.kind,
        "repeats": plan.repeats,
        "folds": len(plan.folds) // plan.repeats,
        "random_state": random_state,
    }

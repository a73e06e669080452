"""train(): evaluate a classifier, fit it on all cases, write everything down."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

import habitat
from habitat._check import warn
from habitat.case import Case
from habitat.classifiers import HabitatClassifier
from habitat.errors import CohortError, ConfigError, HabitatWarning, ModelError
from habitat.evaluation import Evaluation, Habitats, Outcome, evaluate, outcome_of
from habitat.evaluation._arms import BESIDE
from habitat.evaluation._cases import CaseSource
from habitat.evaluation._result import WRITTEN as EVALUATED
from habitat.io._files import file_hash
from habitat.mil import Bags, MILClassifier
from habitat.population import HabitatModel
from habitat.saving import check_folder, write_csv, write_folder, write_json
from habitat.selection import encoded
from habitat.training._extraction import as_json, from_json
from habitat.training._figures import FIGURES, TABLES, write_figures, write_tables
from habitat.training._reporting import REPORTING, Run, write_reporting
from habitat.training._source import Source

FORMAT = "habitat.training/1"
JSON, CLASSIFIER, HABITATS = "train.json", "classifier", "habitats"
EXCLUDED, FEATURES = "excluded.csv", "features_wide.csv"
WRITTEN = {JSON, CLASSIFIER, HABITATS, EXCLUDED, FEATURES, FIGURES, REPORTING} | TABLES
WRITTEN |= {"report.html"}  # of the command line


@dataclass(frozen=True, eq=False)
class Trained:
    """A classifier, how well it does, and where both were written.

    Attributes
    ----------
    model : HabitatClassifier or MILClassifier
        Fitted on all cases (of a split on those of "train").
    habitats : HabitatModel or None
        Fitted on the same cases; None if features came from a batch.
    evaluation : Evaluation
        Of the same procedure, in folds.
    excluded : DataFrame
        Columns case_id, reason.
    out : pathlib.Path
        The folder.
    exit_code : int
        0 if all cases were used, 1 if some were left out.
    """

    model: HabitatClassifier | MILClassifier
    habitats: HabitatModel | None
    evaluation: Evaluation
    excluded: pd.DataFrame
    out: Path

    @property
    def exit_code(self) -> int:
        return int(len(self.excluded) > 0)


def train(
    source: str | os.PathLike[str] | Sequence[Case],
    out: str | os.PathLike[str],
    *,
    outcome: str = "pdl1_tps",
    cutoffs: Sequence[float] | None = None,
    model: HabitatClassifier | MILClassifier | None = None,
    habitats: Habitats | None = None,
    cv: tuple[int, int] | str | Iterable[tuple[Any, Any]] = (5, 10),
    beside: Sequence[str] = BESIDE,
    jobs: int | None = None,
    random_state: int = 0,
) -> Trained:
    """Evaluate a classifier on a cohort, fit it on all of it and write it down.

    Parameters
    ----------
    source : path or sequence of Case
        A cohort CSV or cases: habitats are learned anew in each fold. Or the folder
        of a `batch`: its features as they are, which the notes say.
    out : path
        Folder for model, evaluation.json, tables, figures and reporting.json, written
        whole or not at all. It may hold an earlier training, which is replaced.
        `predict` needs train.json, classifier/ and habitats/ of it; the tables hold
        data of patients.
    outcome, cutoffs
        See `outcome_of`: by default PD-L1 positive from 1 percent.
    model : HabitatClassifier or MILClassifier, optional
        Not fitted; by default ``HabitatClassifier()``.
    habitats : Habitats, optional
        For cases, see `evaluate`.
    cv, beside, jobs, random_state
        See `evaluate`.

    Returns
    -------
    Trained

    Raises
    ------
    HabitatError
        One of its kinds; before any work where arguments are wrong, or where the model
        holds code of your own, which no file can.
    """
    given = Source.of(source)
    _check_place(Path(out).expanduser().absolute(), given)
    kind = HabitatClassifier() if model is None else model
    _check_kind(kind)
    if habitats is not None and not given.cases:
        what = "says how habitats are made, but those of a batch are made already"
        raise ConfigError(what, "`habitats`", "leave it out, or give the cohort CSV")
    how = habitats or Habitats(HabitatModel(k=4, random_state=random_state), {})
    extraction = (given.plan or {}).get("extraction") or {}
    if given.cases:
        extraction = as_json(list(given.cases[0].images), how)
        how = replace(how, extraction=from_json(extraction))
    found = outcome_of(_data(given), outcome, cutoffs)
    used = _Used.of(given, found, cv)
    _check_sites(kind, used)
    evaluation = evaluate(
        kind,
        used.data,
        found.values,
        cv=cv,
        beside=beside,
        habitats=how if used.cases else None,
        jobs=jobs,
        random_state=random_state,
    )
    rows = used.training(cv)
    fitted_habitats, table = _features(used, how, rows, jobs, random_state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)  # evaluate said it
        fitted = _fit(kind, table, np.asarray(found.values, dtype=str), rows)
    excluded = _excluded(given, found)
    notes = [*evaluation.notes, *used.notes, *found.notes, *given.notes]
    evaluation = replace(evaluation, notes=tuple(dict.fromkeys(notes)))
    about = {
        "outcome": outcome,
        "cutoffs": None if cutoffs is None else np.ravel(cutoffs).tolist(),
        "extraction": extraction,
        **_record(given, found, evaluation),
    }

    def write(part: Path) -> None:
        evaluation.write_into(part)
        fitted.save(part / CLASSIFIER)
        if fitted_habitats is not None:
            fitted_habitats.save(part / HABITATS)
        write_csv(part / FEATURES, table)
        write_csv(part / EXCLUDED, excluded)
        write_figures(part / FIGURES, evaluation, fitted)
        write_tables(part, fitted)
        models = [n for n in (CLASSIFIER, HABITATS) if (part / n).is_dir()]
        parts = {name: file_hash(part / name / "model.json") for name in models}
        write_json(part / JSON, {**about, "parts": parts}, ())
        write_reporting(part, Run(evaluation, fitted, table, excluded, about))

    folder = write_folder(out, write, WRITTEN | EVALUATED)
    return Trained(fitted, fitted_habitats, evaluation, excluded, folder)


@dataclass(frozen=True, eq=False)
class _Used:
    """Cases or rows that have an outcome."""

    cases: list[Case]
    table: pd.DataFrame | None
    split: Any
    notes: tuple[str, ...]

    @classmethod
    def of(cls, given: Source, found: Outcome, cv: Any) -> _Used:
        """Leave out what has no outcome."""
        if given.table is not None:
            table = given.table[found.usable].reset_index(drop=True)
            split = table.get("split", pd.Series([None] * len(table)))
            return cls([], table, split, (_made_before(given), *_ignored(split, cv)))
        cases = [c for c, ok in zip(given.cases, found.usable, strict=True) if ok]
        split = pd.Series([case.split for case in cases], dtype=object)
        return cls(cases, None, split, tuple(_ignored(split, cv)))

    @property
    def sites(self) -> pd.Series:
        """Site of each by its case id."""
        if self.table is None:
            ids = [case.case_id for case in self.cases]
            return pd.Series([case.site for case in self.cases], ids, dtype=object)
        n = len(self.table)
        site = self.table.get("site", pd.Series([None] * n)).to_numpy(dtype=object)
        return pd.Series(site, self.table["case_id"])

    @property
    def data(self) -> Any:
        return self.cases if self.table is None else self.table

    def training(self, cv: Any) -> Any:
        """Rows that the final model learns from."""
        n = len(self.data)
        if isinstance(cv, str) and cv == "split":
            return np.flatnonzero(np.asarray(self.split, dtype=object) == "train")
        return np.arange(n)


def _made_before(given: Source) -> str:
    how = "Habitats and features were made before, on all cases together"
    if given.plan is not None and given.plan["model"] is None:
        how = (
            "Each case was clustered by itself, so that its habitats are only ordered "
            "like those of the others, and features were made before"
        )
    return f"{how}; only what the classifier learns is learned in folds."


def _ignored(split: Any, cv: Any) -> list[str]:
    """A test set that is learned on."""
    named = split[split.notna() & (split != "train")]
    if (isinstance(cv, str) and cv == "split") or (split != "train").all():
        return []
    if named.empty:
        return []
    text = f"{len(named)} cases are of split {', '.join(sorted(set(named)))}, but are"
    return [warn(f"{text} learned on too: cv='split' keeps them apart.")]


def _check_place(folder: Path, given: Source) -> None:
    """Nothing of the source may be replaced by results."""
    if given.path is not None and given.path.is_relative_to(folder):
        what = f"holds the source {given.path.name}"
        raise ConfigError(what, str(folder), "name another folder")
    check_folder(folder, WRITTEN | EVALUATED)


def _check_kind(kind: Any) -> None:
    """What cannot be saved in the end is refused at the start."""
    if isinstance(kind, MILClassifier):
        own = [pool for pool in kind.pools if not isinstance(pool, str)]
    elif isinstance(kind, HabitatClassifier):
        own = [kind.model] if not isinstance(kind.model, str) else []
    else:
        what = f"must be a HabitatClassifier or MILClassifier, got {kind!r:.60}"
        raise ConfigError(what, "`model`")
    if own:
        what = f"{own[0]!r:.60} is code of your own, which no model file can hold"
        raise ModelError(what, "`model`", "use a name, or evaluate() alone")


def _check_sites(kind: HabitatClassifier | MILClassifier, used: _Used) -> None:
    if getattr(kind, "harmonize", None) is None:
        return
    sites = used.sites
    lacking = sites.index[sites.isna()].astype(str).tolist()
    if lacking:
        what = f"{len(lacking)} of {len(sites)} cases have none, first {lacking[0]}"
        raise CohortError(what, "site", "name the site of each, or do not harmonize")


def _data(given: Source) -> Any:
    return list(given.cases) if given.table is None else given.table


def _features(
    used: _Used, how: Habitats, rows: Any, jobs: int | None, random_state: int
) -> tuple[HabitatModel | None, pd.DataFrame]:
    """Habitats of the final model, and the features of all cases."""
    if used.table is not None:
        return None, used.table
    source = CaseSource(
        used.cases,
        how.model,
        dict(how.extraction),
        jobs=jobs,
        cache=how.cache,
        random_state=random_state,
    )
    source.prepare([rows], 0)
    return source.models[0], source.fold(0)


def _fit(
    model: HabitatClassifier | MILClassifier, table: pd.DataFrame, y: Any, rows: Any
) -> HabitatClassifier | MILClassifier:
    train_rows = encoded(table).iloc[rows]
    groups = None
    if "group" in table and table["group"].notna().any():  # the others are on their own
        alone = pd.Series([f"\0case {i}" for i in range(len(table))])
        groups = table["group"].where(table["group"].notna(), alone).to_numpy()[rows]
    fitted = clone(model)
    if isinstance(fitted, MILClassifier):
        return fitted.fit(Bags.from_table(train_rows), y[rows], groups=groups)
    return fitted.fit(train_rows, y[rows], groups=groups)


def _excluded(given: Source, found: Outcome) -> pd.DataFrame:
    """Cases that are not in the model, each with the reason."""
    if given.table is not None:
        ids = given.table["case_id"].astype(str).tolist()
    else:
        ids = [case.case_id for case in given.cases]
    rows = list(given.left_out)
    rows += [
        (i, "no class of the outcome")
        for i, usable in zip(ids, found.usable, strict=True)
        if not usable
    ]
    return pd.DataFrame(rows, columns=["case_id", "reason"])


def _record(given: Source, found: Outcome, evaluation: Evaluation) -> Mapping[str, Any]:
    """What a reader and `predict` must know."""
    return {
        "format": FORMAT,
        "version": habitat.__version__,
        "source": given.name,
        "classes": list(found.classes),
        "made": given.table is None,
        "batch": given.plan,
        "notes": list(evaluation.notes),
        "evaluation": dict(evaluation.params),
    }

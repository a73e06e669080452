"""train(): evaluate a classifier, fit it on all cases, write everything down."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

import habitat
from habitat.case import Case
from habitat.classifiers import HabitatClassifier
from habitat.errors import HabitatWarning
from habitat.evaluation import Evaluation, Habitats, Outcome, evaluate, outcome_of
from habitat.evaluation._arms import BESIDE
from habitat.evaluation._cases import CaseSource
from habitat.evaluation._result import WRITTEN as EVALUATED
from habitat.fitting import plain
from habitat.mil import Bags, MILClassifier
from habitat.population import HabitatModel
from habitat.saving import check_folder, write_csv, write_folder, write_json
from habitat.selection import encoded
from habitat.training._figures import FIGURES, write_figures
from habitat.training._reporting import REPORTING, write_reporting
from habitat.training._source import Source

FORMAT = "habitat.training/1"
JSON, CLASSIFIER, HABITATS = "train.json", "classifier", "habitats"
EXCLUDED, FEATURES = "excluded.csv", "features_wide.csv"
WRITTEN = {JSON, CLASSIFIER, HABITATS, EXCLUDED, FEATURES, FIGURES, REPORTING}


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
        One of its kinds; before any work where arguments are wrong.
    """
    check_folder(Path(out).expanduser().absolute(), WRITTEN | EVALUATED)
    given = Source.of(source)
    found = outcome_of(_data(given), outcome, cutoffs)
    used = _Used.of(given, found)
    how = habitats or Habitats(HabitatModel(k=4), {})
    kind = HabitatClassifier() if model is None else model
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
    notes = [*found.notes, *used.notes]

    def write(part: Path) -> None:
        evaluation.write_into(part)
        fitted.save(part / CLASSIFIER)
        if fitted_habitats is not None:
            fitted_habitats.save(part / HABITATS)
        write_csv(part / FEATURES, table)
        write_csv(part / EXCLUDED, excluded)
        write_figures(part / FIGURES, evaluation, fitted, found.classes)
        data = _record(given, found, evaluation, how if used.cases else None, notes)
        write_json(part / JSON, data, (FEATURES, EXCLUDED))
        write_reporting(part, evaluation, fitted, data)

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
    def of(cls, given: Source, found: Outcome) -> _Used:
        """Leave out what has no outcome."""
        if given.table is not None:
            table = given.table[found.usable].reset_index(drop=True)
            note = (
                "Habitats and features were made before, on all cases together; only "
                "what the classifier learns is learned in folds."
            )
            return cls([], table, table.get("split"), (note,))
        cases = [c for c, ok in zip(given.cases, found.usable, strict=True) if ok]
        return cls(cases, None, [case.split for case in cases], ())

    @property
    def data(self) -> Any:
        return self.cases if self.table is None else self.table

    def training(self, cv: Any) -> Any:
        """Rows that the final model learns from."""
        n = len(self.data)
        if isinstance(cv, str) and cv == "split":
            return np.flatnonzero(np.asarray(self.split, dtype=object) == "train")
        return np.arange(n)


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
    if "group" in table and table["group"].notna().all():
        groups = table["group"].to_numpy()[rows]
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


def _record(
    given: Source,
    found: Outcome,
    evaluation: Evaluation,
    how: Habitats | None,
    notes: Sequence[str],
) -> Mapping[str, Any]:
    """What a reader and `predict` must know."""
    extraction = {} if how is None else {k: plain(v) for k, v in how.extraction.items()}
    return {
        "format": FORMAT,
        "version": habitat.__version__,
        "source": Path(given.path).name,
        "classes": list(found.classes),
        "extraction": extraction,
        "made": how is not None,
        "notes": list(dict.fromkeys([*notes, *evaluation.notes])),
        "evaluation": dict(evaluation.params),
    }

"""predict(): what a trained classifier says of new cases."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from habitat.case import Case
from habitat.classifiers import HabitatClassifier
from habitat.cohort import batch
from habitat.errors import ConfigError, ModelError
from habitat.fitting import from_plain
from habitat.mil import Bags, MILClassifier
from habitat.population import HabitatModel
from habitat.saving import read_json, write_table
from habitat.training._source import DONE, Source
from habitat.training._train import (
    CLASSIFIER,
    EXCLUDED,
    FEATURES,
    FORMAT,
    HABITATS,
    JSON,
)

_KINDS: dict[str, Any] = {
    "habitat.classifier": HabitatClassifier,
    "habitat.mil": MILClassifier,
}
_SHOWN = 5  # features outside the training range


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions and where they were written.

    Attributes
    ----------
    table : DataFrame
        A row per case. Columns: case_id, status ("done" or why there is no
        prediction), p_<class>, predicted (of two classes by the threshold of the
        training), n_outside (features of the model beyond the range of the training
        cases), outside (their names).
    out : pathlib.Path
        The CSV.
    """

    table: pd.DataFrame
    out: Path

    @property
    def exit_code(self) -> int:
        """0 if every case has a prediction, 1 if some have, 3 if none has."""
        done = int((self.table["status"] == DONE).sum())
        if done == len(self.table):
            return 0
        return 1 if done else 3


def predict(
    source: str | os.PathLike[str] | Sequence[Case],
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    jobs: int | None = None,
) -> Predicted:
    """Predict the classes of cases with a model that `train` wrote.

    Parameters
    ----------
    source : path or sequence of Case
        A cohort CSV or cases, whose habitats and features are made as in training; or,
        if the model was trained on a batch, the output folder of a batch that was made
        with the same habitat model and options.
    model : path
        Folder of `train`.
    out : path
        CSV to write.
    jobs : int, optional
        Worker processes.

    Returns
    -------
    Predicted

    Raises
    ------
    ModelError
        If the model was changed, is of a newer version, or needs features or sites
        that the cases do not have.

    Notes
    -----
    For research only. A case beyond the range of the training cases is told, not
    refused: the model has seen nothing like it.
    """
    folder = Path(model).expanduser()
    about = read_json(folder / JSON, FORMAT, (FEATURES, EXCLUDED), ModelError)
    classifier = _classifier(folder / CLASSIFIER)
    given = Source.of(source)
    table, left = _table(given, about, folder, jobs)
    found = _predictions(classifier, table) if len(table) else pd.DataFrame()
    missing = pd.DataFrame(left, columns=["case_id", "status"])
    whole = pd.concat([found, missing], ignore_index=True)
    if "n_outside" in whole:
        whole["n_outside"] = whole["n_outside"].astype("Int64")
    path = Path(out).expanduser().absolute()
    write_table(path, whole)
    return Predicted(whole, path)


def _classifier(folder: Path) -> HabitatClassifier | MILClassifier:
    import json

    try:
        form = json.loads((folder / "model.json").read_text(encoding="utf-8"))["format"]
        kind = _KINDS[form.partition("/")[0]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"is not a saved classifier ({error})", str(folder)) from error
    return kind.load(folder)


def _table(
    given: Source, about: Mapping[str, Any], folder: Path, jobs: int | None
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Features of the cases, and the cases that have none."""
    left = list(given.left_out)
    if given.table is not None:
        if about["made"]:
            what = "was trained on cases, whose habitats it makes itself"
            fix = "give the cohort CSV, not results of a batch"
            raise ConfigError(what, str(folder), fix)
        return given.table, left
    if not about["made"]:
        what = "was trained on results of a batch"
        fix = "run habitat batch with the same model and options, give its folder"
        raise ConfigError(what, str(folder), fix)
    habitats = HabitatModel.load(folder / HABITATS)
    extraction = {k: from_plain(v) for k, v in about["extraction"].items()}
    families = extraction.pop("families", None)
    with tempfile.TemporaryDirectory(prefix="habitat-") as place:
        done = batch(
            given.cases,
            Path(place) / "batch",
            model=habitats,
            families=families,
            extraction=extraction,
            jobs=jobs,
        )
        table, failures = done.wide, done.failures
    left += list(zip(failures["case_id"], failures["message"], strict=True))
    return table[table["status"] == DONE].reset_index(drop=True), left


def _predictions(
    classifier: HabitatClassifier | MILClassifier, table: pd.DataFrame
) -> pd.DataFrame:
    out = pd.DataFrame({"case_id": table["case_id"], "status": DONE})
    data: Any = table
    if isinstance(classifier, MILClassifier):
        data = Bags.from_table(table)
    p = classifier.predict_proba(data)
    for name, column in zip(classifier.classes_, p.T, strict=True):
        out[f"p_{name}"] = column
    out["predicted"] = _classes(classifier, p)
    if isinstance(classifier, HabitatClassifier):
        outside = classifier.outside(table)
        out["n_outside"] = outside.sum(axis=1).to_numpy()
        names = np.array(outside.columns, dtype=object)
        out["outside"] = [_names(names[row]) for row in outside.to_numpy()]
    return out


def _classes(classifier: HabitatClassifier | MILClassifier, p: Any) -> Any:
    if p.shape[1] == 2:
        return classifier.classes_[(p[:, 1] >= classifier.threshold_).astype(int)]
    return classifier.classes_[p.argmax(axis=1)]


def _names(names: Any) -> str:
    more = f", ... {len(names)} in all" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

"""predict(): what a trained classifier says of new cases."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from habitat.case import Case
from habitat.classifiers import HabitatClassifier
from habitat.cohort import batch
from habitat.errors import ConfigError, HabitatError, ModelError
from habitat.io._files import file_hash
from habitat.mil import Bags, MILClassifier
from habitat.population import HabitatModel
from habitat.saving import read_json, write_table
from habitat.selection import with_columns
from habitat.training._extraction import from_json
from habitat.training._source import DONE, Source, case_notes
from habitat.training._train import CLASSIFIER, FORMAT, HABITATS, JSON

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
        A row per case, in their order. Columns: case_id, status ("done" or why there is
        no prediction), p_<class>, predicted (of two classes by the threshold of the
        training), n_outside (features of the model beyond the range of the training
        cases), outside (their names), n_missing (features without a value, for which
        the training median stands), notes (of the images).
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
        If the model was changed, is of a newer version, or needs features that the
        cases do not have; if no case is of a site that it knows; if the batch was made
        otherwise than that of the training.
    ConfigError
        If `out` is no CSV or is the source.

    Notes
    -----
    For research only. A case beyond the range of the training cases is told, not
    refused: the model has seen nothing like it. A case that the model cannot predict,
    such as one of a site that ComBat was not trained on, costs no other case.
    """
    folder = Path(model).expanduser()
    about = read_json(folder / JSON, FORMAT, (), ModelError)
    _check_parts(folder, about["parts"])
    classifier = _classifier(folder / CLASSIFIER)
    given = Source.of(source)
    path = _checked(Path(out).expanduser().absolute(), given)
    table, left, notes = _table(given, about, folder, jobs)
    if len(table):
        table, more = _usable(classifier, table)
        left += more
    found = _predictions(classifier, table) if len(table) else pd.DataFrame()
    missing = pd.DataFrame(left, columns=["case_id", "status"])
    whole = pd.concat([found, missing], ignore_index=True)
    for name in {"n_outside", "n_missing"} & set(whole):
        whole[name] = whole[name].astype("Int64")
    whole["notes"] = whole["case_id"].map(notes)
    place = {case_id: i for i, case_id in enumerate(given.ids)}
    whole = whole.sort_values(
        "case_id", key=lambda ids: ids.map(place), kind="stable", ignore_index=True
    )
    write_table(path, whole)
    return Predicted(whole, path)


def _checked(path: Path, given: Source) -> Path:
    """Find out before any work that the CSV cannot be written."""
    if path.suffix != ".csv":
        raise ConfigError(f"must end in .csv, got {path.name}", "`out`")
    if path == given.path:
        raise ConfigError("is the source itself", "`out`", "name another file")
    if not path.parent.is_dir():
        raise ConfigError("is not there", str(path.parent), "make the folder")
    return path


def _check_parts(folder: Path, parts: Mapping[str, str]) -> None:
    """Each part is whole by its own hash; it must also be the one of this training."""
    for name, sha256 in parts.items():
        path = folder / name / "model.json"
        if not path.is_file() or file_hash(path) != sha256:
            what = f"{name}/model.json: missing, or not of this training"
            raise ModelError(what, str(folder), "train again, or copy the folder whole")


def _classifier(folder: Path) -> HabitatClassifier | MILClassifier:
    try:
        form = json.loads((folder / "model.json").read_text(encoding="utf-8"))["format"]
        kind = _KINDS[form.partition("/")[0]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"is not a saved classifier ({error})", str(folder)) from error
    return kind.load(folder)


def _table(
    given: Source, about: Mapping[str, Any], folder: Path, jobs: int | None
) -> tuple[pd.DataFrame, list[tuple[str, str]], dict[str, str]]:
    """Features of the cases, the cases that have none, and notes on cases."""
    left = list(given.left_out)
    if given.table is not None:
        if about["made"]:
            what = "was trained on cases, whose habitats it makes itself"
            fix = "give the cohort CSV, not results of a batch"
            raise ConfigError(what, str(folder), fix)
        _check_plan(given, about["batch"])
        notes = case_notes(given.path.parent) if given.path else {}
        return given.table, left, notes
    if not about["made"]:
        what = "was trained on results of a batch"
        fix = "run habitat batch with the same model and options, give its folder"
        raise ConfigError(what, str(folder), fix)
    habitats = HabitatModel.load(folder / HABITATS)
    extraction = from_json(about["extraction"])
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
        table, failures, notes = done.wide, done.failures, case_notes(done.out)
    left += list(zip(failures["case_id"], failures["message"], strict=True))
    return table[table["status"] == DONE].reset_index(drop=True), left, notes


def _check_plan(given: Source, trained: Mapping[str, Any] | None) -> None:
    """Habitats and features of two batches mean the same only if made the same way."""
    if given.plan is None or trained is None:
        return
    other = [n for n, value in trained.items() if given.plan[n] != value]
    if other:
        what = (
            f"was made with another {', '.join(other)} than the batch of the training"
        )
        fix = "run habitat batch with the model and options of the training"
        raise ModelError(what, str(given.path), fix)


def _usable(
    classifier: HabitatClassifier | MILClassifier, table: pd.DataFrame
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Cases that can be predicted, and why the others cannot."""
    try:
        _probabilities(classifier, table)
    except HabitatError as error:
        first = error
    else:
        return table, []
    left = {}
    for i in range(len(table)):
        try:
            _probabilities(classifier, table.iloc[[i]])
        except HabitatError as error:
            left[i] = str(error)
    if len(left) == len(table):
        raise first
    rows = [(str(table["case_id"].iloc[i]), why) for i, why in left.items()]
    return table.drop(index=list(left)).reset_index(drop=True), rows


def _probabilities(
    classifier: HabitatClassifier | MILClassifier, table: pd.DataFrame
) -> npt.NDArray[np.float64]:
    if isinstance(classifier, MILClassifier):
        return classifier.predict_proba(Bags.from_table(table))
    return classifier.predict_proba(table)


def _predictions(
    classifier: HabitatClassifier | MILClassifier, table: pd.DataFrame
) -> pd.DataFrame:
    out = pd.DataFrame({"case_id": table["case_id"], "status": DONE})
    p = _probabilities(classifier, table)
    for name, column in zip(classifier.classes_, p.T, strict=True):
        out[f"p_{name}"] = column
    out["predicted"] = _classes(classifier, p)
    if isinstance(classifier, MILClassifier):
        outside = classifier.outside(Bags.from_table(table))
    else:
        outside = classifier.outside(table)
        names = list(classifier.selected_)
        missing = with_columns(table, names)[names].isna()
        out["n_missing"] = missing.sum(axis=1).to_numpy()
    marks = outside.to_numpy()
    out["n_outside"] = marks.sum(axis=1)
    columns = np.array(outside.columns, dtype=object)
    out["outside"] = [_names(columns[row]) for row in marks]
    return out


def _classes(classifier: HabitatClassifier | MILClassifier, p: Any) -> Any:
    if p.shape[1] == 2:
        return classifier.classes_[(p[:, 1] >= classifier.threshold_).astype(int)]
    return classifier.classes_[p.argmax(axis=1)]


def _names(names: Any) -> str:
    more = f", ... {len(names)} in all" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

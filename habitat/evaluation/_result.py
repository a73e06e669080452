"""Evaluation: what a cross-validation found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from habitat.cohort._tables import read_table
from habitat.errors import InputError
from habitat.saving import read_json, write_csv, write_folder, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = "habitat.evaluation/1"
JSON = "evaluation.json"
_TABLES = ("metrics", "differences", "predictions", "selected", "subgroups")
_CURVES = ("roc", "calibration", "decision")
_TEXTS = {
    "metrics": ("model", "part", "metric", "how"),
    "differences": ("model", "part", "how"),
    "predictions": ("case_id", "model", "part", "y", "predicted"),
    "selected": ("feature",),
    "subgroups": ("column", "value", "note"),
    "calibration": ("kind",),
}
WRITTEN = frozenset((JSON, *(f"{t}.csv" for t in (*_TABLES, *_CURVES))))


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well a model predicts, beside simple models and controls; see `evaluate`.

    Attributes
    ----------
    metrics : DataFrame
        One row per number. Columns: model ("habitats", baselines and controls by name),
        part (name of a fixed test set, else empty), metric, value, low, high (95 %
        interval), how (what the interval is).
    differences : DataFrame
        AUC of "habitats" less that of each other model, paired by fold or patient.
        Columns: model, part, value, low, high, p, how.
    predictions : DataFrame
        Columns: case_id, model, draw, repeat, fold, y (class), threshold class
        ("predicted"), p_<class>.
    selected : DataFrame
        Columns: feature, share (of the folds in which the model kept it).
    subgroups : DataFrame
        AUC within sites, assays and specimens. Columns: column, value, n, n_<class>,
        auc, low, high, note.
    curves : mapping of str to DataFrame
        "roc", "calibration" and "decision" of "habitats" (two classes only).
    notes : tuple of str
        What a reader must know, worst first.
    params : mapping
        Plain description of what was run.
    """

    metrics: pd.DataFrame
    differences: pd.DataFrame
    predictions: pd.DataFrame
    selected: pd.DataFrame
    subgroups: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]
    notes: tuple[str, ...]
    params: Mapping[str, Any]

    def value(self, model: str, metric: str | None = None) -> float:
        """One number, of the first test set; the AUC if no metric is named."""
        metric = self.params["metric"] if metric is None else metric
        table = self.metrics
        rows = table[(table["model"] == model) & (table["metric"] == metric)]
        if rows.empty:
            raise KeyError(f"{model!r}, {metric!r}")
        return float(rows["value"].iloc[0])

    def __repr__(self) -> str:
        metric = self.params["metric"]
        rows = self.metrics[self.metrics["metric"] == metric]
        lines = [
            f"  {r.model + (f', {r.part}' if r.part else ''):24} {r.value:.3f}"
            f" ({r.low:.3f} to {r.high:.3f})"
            for r in rows.itertuples()
        ]
        head = f"Evaluation: {self.params['n_cases']} cases, {metric} (95 % interval)"
        return "\n".join([head, *lines, *(f"- {note}" for note in self.notes)])

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write evaluation.json and all tables as CSV, whole or not at all.

        Parameters
        ----------
        folder : path
            Made if it does not exist; an earlier evaluation in it is replaced.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        InputError
            If the folder holds other files or cannot be written.
        """
        return write_folder(folder, self.write_into, set(WRITTEN))

    def write_into(self, part: Path) -> None:
        """Write all files into a folder that is not final yet."""
        tables = {name: getattr(self, name) for name in _TABLES}
        tables |= dict(self.curves)
        for name, table in tables.items():
            write_csv(part / f"{name}.csv", table)
        data = {
            "format": FORMAT,
            "params": dict(self.params),
            "notes": list(self.notes),
            "metrics": _records(self.metrics),
            "differences": _records(self.differences),
            "subgroups": _records(self.subgroups),
        }
        write_json(part / JSON, data, tuple(sorted(f"{t}.csv" for t in tables)))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Evaluation:
        """Read what `save` or `train` wrote.

        Raises
        ------
        InputError
            If the folder holds no evaluation, or one that was changed since.
        """
        path = Path(folder).expanduser().absolute() / JSON
        tables = tuple(sorted(f"{t}.csv" for t in _TABLES))
        data = read_json(path, FORMAT, tables, InputError)
        curves = tuple(c for c in _CURVES if f"{c}.csv" in data["files"])
        read_json(path, FORMAT, tuple(f"{c}.csv" for c in curves), InputError)
        return cls(
            **{name: _read(path.parent, name) for name in _TABLES},
            curves={name: _read(path.parent, name) for name in curves},
            notes=tuple(data["notes"]),
            params=data["params"],
        )

    def plot(self) -> Figure:
        """AUC of all models and, of two classes, ROC, calibration and decision curve.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from habitat.plotting._performance import plot_evaluation

        areas = self.areas
        return plot_evaluation(areas, self.metric_name, self.curves, self.labels)

    @property
    def areas(self) -> pd.DataFrame:
        """AUC of each model on the first test set: model, value, low, high."""
        table = self.metrics
        rows = table[table["metric"] == self.params["metric"]]
        first = rows[rows["part"] == rows["part"].iloc[0]]
        return first[["model", "value", "low", "high"]].reset_index(drop=True)

    @property
    def metric_name(self) -> str:
        """Words for the area."""
        names = {"auc": "AUC", "hand_till": "AUC of Hand and Till"}
        return names[self.params["metric"]]

    @property
    def labels(self) -> dict[str, str]:
        """Words for the curves."""
        area = self.areas.iloc[0]
        found = {
            "roc": f"AUC {area['value']:.2f} ({area['low']:.2f}-{area['high']:.2f})"
        }
        if self.curves:
            slope = self.value("habitats", "calibration_slope")
            start = self.value("habitats", "calibration_intercept")
            found["calibration"] = f"slope {slope:.2f}, intercept {start:.2f}"
        return found


def _read(folder: Path, name: str) -> pd.DataFrame:
    """A table as it was written; what names something stays text."""
    path = folder / f"{name}.csv"
    columns = pd.read_csv(path, nrows=0).columns
    return read_table(path, [c for c in columns if c not in _TEXTS.get(name, ())])


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table; None for what is not a number."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]

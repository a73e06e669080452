"""Figures of a trained classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from habitat.classifiers import HabitatClassifier, nomogram
from habitat.plotting._performance import (
    plot_areas,
    plot_calibration,
    plot_decision,
    plot_importance,
    plot_roc,
)
from habitat.saving import write_csv

if TYPE_CHECKING:
    from habitat.evaluation import Evaluation

FIGURES = "figures"
COEFFICIENTS = "coefficients.csv"
POINTS, TOTAL = "nomogram_points.csv", "nomogram_total.csv"
TABLES = {COEFFICIENTS, POINTS, TOTAL}


def write_tables(folder: Path, fitted: Any) -> None:
    """Write coefficients and points of a logistic model."""
    if isinstance(fitted, HabitatClassifier) and fitted.model == "logistic":
        write_csv(folder / COEFFICIENTS, fitted.coefficients_)
    if has_nomogram(fitted):
        found = nomogram(fitted)
        write_csv(folder / POINTS, found.points)
        write_csv(folder / TOTAL, found.probabilities)


def has_nomogram(fitted: Any) -> bool:
    """Whether a classifier can be read by hand."""
    return (
        isinstance(fitted, HabitatClassifier)
        and fitted.model == "logistic"
        and len(fitted.classes_) == 2
        and fitted.harmonize is None
    )


def write_figures(folder: Path, evaluation: Evaluation, fitted: Any) -> None:
    """Write a PNG of each; what two classes or a logistic model need only there."""
    folder.mkdir()
    made = {"auc": plot_areas(evaluation.areas, evaluation.metric_name)}
    if len(evaluation.selected):
        made["features"] = plot_importance(evaluation.selected)
    if evaluation.curves:
        labels = evaluation.labels
        made["roc"] = plot_roc(evaluation.curves["roc"], labels["roc"])
        curve = evaluation.curves["calibration"]
        made["calibration"] = plot_calibration(curve, labels["calibration"])
        made["decision"] = plot_decision(evaluation.curves["decision"])
    if has_nomogram(fitted):
        made["nomogram"] = nomogram(fitted).plot()
    for name, figure in made.items():
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})

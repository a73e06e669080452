"""Figures of a trained classifier."""

from __future__ import annotations

from collections.abc import Sequence
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

if TYPE_CHECKING:
    from habitat.evaluation import Evaluation

FIGURES = "figures"


def write_figures(
    folder: Path, evaluation: Evaluation, fitted: Any, classes: Sequence[str]
) -> None:
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
    logistic = isinstance(fitted, HabitatClassifier) and fitted.model == "logistic"
    if logistic and len(classes) == 2:
        made["nomogram"] = nomogram(fitted).plot()
    for name, figure in made.items():
        figure.savefig(folder / f"{name}.png", metadata={"Software": None})

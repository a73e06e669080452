"""Whether a model does as well at every site, for every assay and specimen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from habitat.evaluation._folds import SPLIT
from habitat.evaluation._intervals import bootstrap
from habitat.evaluation._summary import (
    Judge,
    Prediction,
    centered,
    discrimination,
    mean_of,
)

COLUMNS = ("site", "pdl1_assay", "pdl1_specimen", "tracer")
LEAST = 5  # cases of each class, below which no AUC is given


def subgroups_of(
    judge: Judge, predictions: Sequence[Prediction], about: pd.DataFrame
) -> pd.DataFrame:
    """AUC of a model within groups of cases, from scores centered in each fold."""
    n = len(judge.y)
    tested = mean_of(predictions, n)[1]
    if judge.plan.kind == SPLIT:
        scores = np.full((n, len(judge.classes)), np.nan)
        scores[tested] = mean_of(predictions, n)[0]
    else:
        scores = centered(predictions, n)
    rows = []
    for column in COLUMNS:
        if column not in about or about[column].nunique() < 2:
            continue
        texts = about[column].astype(object).where(about[column].notna(), "unknown")
        texts = texts.astype(str).to_numpy()
        for value in sorted(set(texts[tested])):
            inside = tested[texts[tested] == value]
            rows.append((column, value, *_row(judge, scores, inside)))
    counts = [f"n_{name}" for name in judge.classes]
    columns = ["column", "value", "n", *counts, "auc", "low", "high", "note"]
    return pd.DataFrame(rows, columns=columns)


def _row(judge: Judge, scores: np.ndarray, inside: np.ndarray) -> tuple[object, ...]:
    y, s = judge.y[inside], scores[inside]
    counts = np.bincount(y, minlength=len(judge.classes)).tolist()
    if min(counts) < LEAST:
        note = f"fewer than {LEAST} cases of a class"
        return (len(y), *counts, np.nan, np.nan, np.nan, note)
    low, high = bootstrap(discrimination, y, s, n=1000, seed=0)
    return (len(y), *counts, discrimination(y, s), low, high, "")

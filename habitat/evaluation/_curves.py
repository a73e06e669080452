"""Curves of a model of two classes, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from habitat.evaluation._calibration import calibration_curve
from habitat.evaluation._decision import net_benefit
from habitat.evaluation._folds import SPLIT
from habitat.evaluation._summary import Judge, Prediction, centered, mean_of

THRESHOLDS = np.arange(1, 100) / 100
RATES = np.linspace(0, 1, 101)
DRAWS = 500


def curves_of(
    judge: Judge, predictions: Sequence[Prediction]
) -> dict[str, pd.DataFrame]:
    """ROC, calibration and decision curve of the (first) test set.

    Calibration and net benefit are of the mean probability of each case over repeats.
    The ROC curve is the mean of those of the folds at each false-positive rate, or
    where folds are too small that of the scores centered in each fold.
    """
    _name, found = judge.parts(predictions)[0]
    p, tested = mean_of(found, len(judge.y))
    y, p = judge.y[tested], p[:, 1]
    if len(np.unique(y)) < 2:
        return {}
    decision = net_benefit(y, p, THRESHOLDS)
    decision["low"], decision["high"] = _band(y, p)
    return {
        "roc": _roc(judge, found, y, tested),
        "calibration": calibration_curve(y, p),
        "decision": decision,
    }


def _roc(
    judge: Judge, found: Sequence[Prediction], y: np.ndarray, tested: np.ndarray
) -> pd.DataFrame:
    if judge.plan.kind == SPLIT or judge.pooled:
        scores = centered(found, len(judge.y))[tested, 1]
        rates = _sensitivity(y, scores)
    else:
        each = [_sensitivity(judge.y[p.fold.test], p.p[:, 1]) for p in found]
        rates = np.mean(each, axis=0)
    return pd.DataFrame({"false_positive_rate": RATES, "sensitivity": rates})


def _sensitivity(y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Sensitivity at each false-positive rate; ties are straight lines."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)
    hits = np.cumsum(y[order])[ends] / y.sum()
    alarms = np.cumsum(1 - y[order])[ends] / (1 - y).sum()
    x, s = np.append(0.0, alarms), np.append(0.0, hits)
    out = np.interp(RATES, x, s)  # of a vertical part the upper end:
    last = np.searchsorted(x, RATES, side="right") - 1
    at = x[last] == RATES
    out[at] = s[last[at]]
    return out


def _band(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % of the net benefits of resampled patients."""
    rng = np.random.default_rng(0)
    n = len(y)
    weight = THRESHOLDS / (1 - THRESHOLDS)
    positive = p[:, None] >= THRESHOLDS
    gain = np.where(y[:, None] == 1, positive, -weight * positive)
    times = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    low, high = np.percentile(times @ gain / n, [2.5, 97.5], axis=0)
    return low, high

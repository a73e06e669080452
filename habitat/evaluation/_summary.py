"""From predictions in folds to numbers with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import logit

from habitat.evaluation import _calibration, _metrics
from habitat.evaluation._folds import SPLIT, Fold, Indices, Plan
from habitat.evaluation._intervals import bootstrap, corrected_t

Floats = npt.NDArray[np.float64]

LEAST = 2  # cases of each class in a test part, for an AUC of its own
WITHIN = "mean over test folds, corrected resampled t, within 0 and 1"
PAIRED = "mean over test folds, corrected resampled t"
POOLED = "pooled over folds after centering, patients resampled, the models fixed"
DELONG = "test set, DeLong"
RESAMPLED = "test set, patients resampled"
WILSON = "mean counts over repeats, Wilson"


class Prediction(NamedTuple):
    """What a model said of the test cases of one fold."""

    fold: Fold
    draw: int
    p: Floats  # (n_test, n_classes)
    positive: Indices  # class of each case at the threshold of the training part


class Row(NamedTuple):
    """One number of one model."""

    model: str
    part: str  # name of a fixed test set
    metric: str
    value: float
    low: float = np.nan
    high: float = np.nan
    how: str = ""


def discrimination(y: Indices, p: Floats) -> float:
    """AUC, or for three and more classes that of Hand and Till."""
    if p.shape[1] == 2:
        return float(_metrics.auc(y, p[:, 1]))
    return float(_metrics.hand_till(y, p))


def is_pooled(plan: Plan, y: Indices) -> bool:
    """Whether some test fold is too small for an AUC of its own."""
    if plan.kind == SPLIT:
        return False
    counts = [np.bincount(y[f.test], minlength=y.max() + 1).min() for f in plan.folds]
    return min(counts) < LEAST


def centered(predictions: Sequence[Prediction], n: int) -> Floats:
    """Logits of all cases (mean over draws and repeats), each fold about its mean."""
    total = np.zeros((n, predictions[0].p.shape[1]))
    times = np.zeros(n)
    for found in predictions:
        z = logit(np.clip(found.p, 1e-9, 1 - 1e-9))
        total[found.fold.test] += z - z.mean(axis=0)
        times[found.fold.test] += 1
    return total / np.maximum(times, 1)[:, None]


def mean_of(predictions: Sequence[Prediction], n: int) -> tuple[Floats, Indices]:
    """Mean probability of each case, and which cases were tested."""
    total = np.zeros((n, predictions[0].p.shape[1]))
    times = np.zeros(n, int)
    for found in predictions:
        total[found.fold.test] += found.p
        times[found.fold.test] += 1
    tested = np.flatnonzero(times)
    return total[tested] / times[tested, None], tested


class Judge:
    """Turn the predictions of all models into tables."""

    def __init__(self, plan: Plan, y: Indices, classes: Sequence[Any]) -> None:
        self.plan, self.y, self.classes = plan, y, list(classes)
        self.pooled = is_pooled(plan, y)
        folds = plan.folds
        self.n_train = float(np.mean([len(f.train) for f in folds]))
        self.n_test = float(np.mean([len(f.test) for f in folds]))
        self.main = "auc" if len(self.classes) == 2 else "hand_till"

    # --- one model --------------------------------------------------------------------

    def rows(self, model: str, predictions: Sequence[Prediction]) -> Iterator[Row]:
        """Every number of one model."""
        for part, found in self.parts(predictions):
            yield Row(model, part, self.main, *self._auc(found))
            if len(self.classes) == 2:
                yield from self._binary(model, part, found)
            else:
                yield from self._several(model, part, found)

    def parts(
        self, predictions: Sequence[Prediction]
    ) -> list[tuple[str, list[Prediction]]]:
        """All folds together, or each fixed test set."""
        if self.plan.kind != SPLIT:
            return [("", list(predictions))]
        names = [fold.name for fold in self.plan.folds]
        return [(n, [p for p in predictions if p.fold.name == n]) for n in names]

    def values(
        self, found: Sequence[Prediction], metric: Callable[[Indices, Floats], float]
    ) -> Floats:
        """A metric of each fold (mean over draws), in order of the folds."""
        by_fold: dict[tuple[int, int], list[float]] = {}
        for p in found:
            key = (p.fold.repeat, p.fold.number)
            by_fold.setdefault(key, []).append(metric(self.y[p.fold.test], p.p))
        return np.array([np.mean(by_fold[key]) for key in sorted(by_fold)])

    def _weights(self) -> Floats:
        """Pairs of different classes in each fold."""
        pairs = []
        for fold in sorted(self.plan.folds, key=lambda f: (f.repeat, f.number)):
            n = np.bincount(self.y[fold.test], minlength=len(self.classes))
            pairs.append((n.sum() ** 2 - (n**2).sum()) / 2)
        return np.array(pairs, float)

    def _auc(self, found: Sequence[Prediction]) -> tuple[float, float, float, str]:
        y = self.y
        if self.plan.kind == SPLIT:
            p, tested = mean_of(found, len(y))
            return self._of_test_set(y[tested], p)
        if self.pooled:
            z = centered(found, len(y))
            tested = mean_of(found, len(y))[1]
            return (*_resampled(discrimination, y[tested], z[tested]), POOLED)
        values = self.values(found, discrimination)
        if (values == 1).all() or (values == 0).all():
            least = int(np.bincount(y).min())
            return (values[0], *_metrics.delong_interval(values[0], 0.0, least))
        return (*self._over_folds(values, self._weights()), WITHIN)

    def _of_test_set(self, y: Indices, p: Floats) -> tuple[float, float, float, str]:
        if len(np.unique(y)) < len(self.classes):
            return np.nan, np.nan, np.nan, "the test set lacks a class"
        if len(self.classes) > 2 or np.bincount(y).min() < LEAST:
            return (*_resampled(discrimination, y, p), RESAMPLED)
        areas, covariance = _metrics.delong(y, p[:, 1][None])
        area, variance = float(areas[0]), float(np.atleast_2d(covariance)[0, 0])
        least = int(np.bincount(y).min())
        low, high, _ = _metrics.delong_interval(area, variance, least)
        return area, low, high, DELONG

    def _over_folds(
        self, values: Floats, weights: Floats
    ) -> tuple[float, float, float]:
        """Weighted mean of the folds; its interval ends at 0 and 1."""
        mean, low, high, _ = corrected_t(values, self.n_train, self.n_test)
        value = float(np.average(values, weights=weights))
        low, high = value + low - mean, value + high - mean
        return value, max(low, 0.0), min(high, 1.0)

    def _binary(
        self, model: str, part: str, found: Sequence[Prediction]
    ) -> Iterator[Row]:
        """Threshold and calibration of two classes."""
        for name, metric in (
            ("average_precision", _metrics.average_precision),
            ("brier", _metrics.brier),
        ):
            yield Row(model, part, name, *self._mean(found, _of_positive(metric)))
        p, tested = mean_of(found, len(self.y))
        scaled = _metrics.scaled_brier(self.y[tested], p[:, 1])
        how = "mean probability of each case"
        yield Row(model, part, "scaled_brier", scaled, how=how)
        yield from self._at_threshold(model, part, found)
        yield from self._calibrated(model, part, found, 1, "")

    def _calibrated(
        self, model: str, part: str, found: Sequence[Prediction], i: int, rest: str
    ) -> Iterator[Row]:
        """Calibration of the probability of one class."""
        per_repeat = [self._calibration(p, i) for p in self._by_repeat(found)]
        for name, column in (
            ("calibration_intercept", "intercept"),
            ("calibration_slope", "slope"),
            ("observed_to_expected", "oe"),
            ("ici", "ici"),
        ):
            value = float(np.mean([getattr(c, column) for c in per_repeat]))
            ends = [getattr(c, f"{column}_interval", (np.nan,) * 2) for c in per_repeat]
            low, high = np.mean(ends, axis=0)
            how = "mean over repeats, whole cohort each"
            yield Row(model, part, name + rest, value, float(low), float(high), how)

    def _several(
        self, model: str, part: str, found: Sequence[Prediction]
    ) -> Iterator[Row]:
        """One class against the rest, and agreement in order."""
        for i, name in enumerate(self.classes):

            def one(y: Indices, p: Floats, i: int = i) -> float:
                return float(_metrics.auc(y == i, p[:, i]))

            if self.pooled or self.plan.kind == SPLIT:
                p, tested = mean_of(found, len(self.y))
                z = centered(found, len(self.y))[tested] if self.pooled else p
                how = POOLED if self.pooled else RESAMPLED
                ends = (*_resampled(one, self.y[tested], z), how)
            else:
                ends = (
                    *self._over_folds(self.values(found, one), self._weights()),
                    WITHIN,
                )
            yield Row(model, part, f"auc {name} against the rest", *ends)
            rest = f" {name} against the rest"
            yield from self._calibrated(model, part, found, i, rest)
        p, tested = mean_of(found, len(self.y))
        y = self.y[tested]
        how = "mean probability of each case, patients resampled"
        yield Row(model, part, "weighted_kappa", *_resampled(_kappa, y, p), how)
        yield Row(model, part, "ordinal_c", *self._mean(found, _ordinal))
        right = int((p.argmax(axis=1) == y).sum())
        low, high = _metrics.wilson(right, len(y))
        yield Row(model, part, "accuracy", right / len(y), low, high, "Wilson")

    def _mean(
        self, found: Sequence[Prediction], metric: Callable[[Indices, Floats], float]
    ) -> tuple[float, float, float, str]:
        """A metric that every fold has, or of the test set."""
        if self.plan.kind == SPLIT or self.pooled:
            p, tested = mean_of(found, len(self.y))
            how = RESAMPLED if self.plan.kind == SPLIT else "patients resampled"
            return (*_resampled(metric, self.y[tested], p), how)
        values = self.values(found, metric)
        sizes = np.array([len(f.test) for f in self.plan.folds], float)
        return (*self._over_folds(values, sizes), WITHIN)

    def _by_repeat(self, found: Sequence[Prediction]) -> list[list[Prediction]]:
        keys = sorted({(p.fold.repeat, p.draw) for p in found})
        return [[p for p in found if (p.fold.repeat, p.draw) == k] for k in keys]

    def _at_threshold(
        self, model: str, part: str, found: Sequence[Prediction]
    ) -> Iterator[Row]:
        """Sensitivity and its like at the threshold of the training part."""
        tables = []
        for repeat in self._by_repeat(found):
            y = np.concatenate([self.y[p.fold.test] for p in repeat])
            said = np.concatenate([p.positive for p in repeat])
            tables.append(_metrics.Confusion.of(y, said))
        table = _metrics.Confusion(*np.mean(tables, axis=0).tolist())
        for name, (k, n) in table.shares.items():
            if n == 0:
                yield Row(model, part, name, np.nan, how="no such case")
                continue
            low, high = _metrics.wilson(k, n)
            yield Row(model, part, name, k / n, low, high, WILSON)
        for name in ("balanced_accuracy", "mcc"):
            value = float(getattr(table, name))
            yield Row(model, part, name, value, how="mean counts over repeats")

    def _calibration(self, repeat: Sequence[Prediction], i: int) -> Any:
        p, tested = mean_of(repeat, len(self.y))
        return _calibration.calibration(self.y[tested] == i, p[:, i])

    # --- two models -------------------------------------------------------------------

    def difference(
        self, a: Sequence[Prediction], b: Sequence[Prediction]
    ) -> Iterator[tuple[str, float, float, float, float, str]]:
        """How much larger the AUC of the first is: part, value, low, high, p, how."""
        for (part, one), (_, two) in zip(self.parts(a), self.parts(b), strict=True):
            if self.plan.kind == SPLIT or self.pooled:
                yield (part, *self._paired(one, two))
                continue
            gap = self.values(one, discrimination) - self.values(two, discrimination)
            mean, low, high, p = corrected_t(gap, self.n_train, self.n_test)
            yield part, float(mean), float(low), float(high), float(p), PAIRED

    def _paired(
        self, a: Sequence[Prediction], b: Sequence[Prediction]
    ) -> tuple[float, float, float, float, str]:
        n, c = len(self.y), len(self.classes)
        tested = mean_of(a, n)[1]
        y = self.y[tested]
        if len(np.unique(y)) < c:
            return np.nan, np.nan, np.nan, np.nan, "the test set lacks a class"
        if self.pooled:
            both = [centered(x, n)[tested] for x in (a, b)]
        else:
            both = [mean_of(x, n)[0] for x in (a, b)]
        if c == 2 and not self.pooled and np.bincount(y).min() >= LEAST:
            found = _metrics.delong_test(y, both[0][:, 1], both[1][:, 1])
            return (*map(float, found), DELONG)  # type: ignore[return-value]

        def gap(y: Indices, joined: Floats) -> float:
            one, two = (
                discrimination(y, joined[:, :c]),
                discrimination(y, joined[:, c:]),
            )
            return one - two

        how = POOLED if self.pooled else RESAMPLED
        return (*_resampled(gap, y, np.hstack(both)), np.nan, how)


def _kappa(y: Indices, p: Floats) -> float:
    return float(_metrics.weighted_kappa(y, p.argmax(axis=1)))


def _ordinal(y: Indices, p: Floats) -> float:
    """Of the expected class."""
    return float(_metrics.ordinal_c(y, p @ np.arange(p.shape[1])))


def _of_positive(
    metric: Callable[[Indices, Floats], float],
) -> Callable[[Indices, Floats], float]:
    return lambda y, p: float(metric(y, p[:, 1]))


def _resampled(
    metric: Callable[[Indices, Floats], float], y: Indices, scores: Floats
) -> tuple[float, float, float]:
    """Value and percentile interval over patients."""
    low, high = bootstrap(metric, y, scores, n=1000, seed=0)
    return float(metric(y, scores)), float(low), float(high)


def table_of(rows: Sequence[Row]) -> pd.DataFrame:
    """Numbers as a table."""
    return pd.DataFrame(rows, columns=list(Row._fields))

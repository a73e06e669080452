"""Nomogram of a logistic model, and the importance of its features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.inspection import permutation_importance as _permuted
from sklearn.metrics import roc_auc_score

from habitat.classifiers._habitat import HabitatClassifier
from habitat.classifiers._inputs import values_of
from habitat.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_F64 = npt.NDArray[np.float64]

PROBABILITIES = (0.01, 0.05, *(n / 10 for n in range(1, 10)), 0.95, 0.99)


@dataclass(frozen=True, eq=False, repr=False)
class Nomogram:
    """Points that add up to a probability, to be read by hand.

    Attributes
    ----------
    points : DataFrame
        feature, value, points: round values over the training range of each feature.
    probabilities : DataFrame
        total, probability: what a sum of points means.
    scale : DataFrame
        feature, reference, per_unit: ``points = per_unit * (value - reference)``.
    logit : (float, float)
        Level and slope: ``logit(probability) = level + slope * total``.
    outcome : str
        Name of the class whose probability it is.
    """

    points: pd.DataFrame
    probabilities: pd.DataFrame
    scale: pd.DataFrame
    logit: tuple[float, float]
    outcome: str

    def __repr__(self) -> str:
        return f"Nomogram of {len(self.scale)} features, probability of {self.outcome}"

    def total(self, X: pd.DataFrame) -> _F64:
        """Sum of points of cases, (n,); a value that is missing makes it NaN."""
        values = X[self.scale["feature"].tolist()].to_numpy(dtype=np.float64)
        per_unit = self.scale["per_unit"].to_numpy()
        points: _F64 = (values - self.scale["reference"].to_numpy()) * per_unit
        return np.asarray(points.sum(axis=1))

    def probability(self, total: npt.ArrayLike) -> _F64:
        """Probability of sums of points, like `total`."""
        level, slope = self.logit
        return 1.0 / (1.0 + np.exp(-(level + slope * np.asarray(total))))

    def plot(self) -> Figure:
        """Draw it.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from habitat.plotting._nomogram import plot_nomogram

        features = {
            str(name): (part["value"].to_numpy(), part["points"].to_numpy())
            for name, part in self.points.groupby("feature", sort=False)
        }
        total, p = (self.probabilities[c].to_numpy() for c in self.probabilities)
        return plot_nomogram(features, total, p, self.outcome)


def nomogram(classifier: HabitatClassifier) -> Nomogram:
    """Make the nomogram of a fitted logistic model of two classes.

    The feature with the largest effect over its training range has 0 to 100 points; the
    reference of each feature is the end of its range with the lower probability.

    Parameters
    ----------
    classifier : HabitatClassifier
        Fitted, ``model="logistic"``, two classes, without ComBat.

    Returns
    -------
    Nomogram

    Raises
    ------
    ConfigError
        If the model is another one, or uses no feature.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from habitat.classifiers import HabitatClassifier, nomogram
    >>> table = pd.DataFrame({"h1_HU_mean": np.arange(40.0)})
    >>> found = nomogram(HabitatClassifier().fit(table, np.arange(40) > 19))
    >>> found.points["points"].iloc[[0, -1]].round().tolist()
    [0.0, 100.0]
    """
    _check(classifier)
    table = classifier.coefficients_.set_index("feature")["natural"]
    ranges = classifier.ranges_.set_index("feature")
    b = table.drop("(intercept)")
    b = b[b != 0.0]
    low, high = ranges.loc[b.index, "low"], ranges.loc[b.index, "high"]
    if b.empty:
        raise ConfigError("uses no feature: nothing has points", "`classifier`")
    unit = float((b.abs() * (high - low)).max()) / 100.0  # logit of one point
    reference = low.where(b > 0, high)
    names = {"reference": reference, "per_unit": b / unit}
    scale = pd.DataFrame(names).rename_axis("feature").reset_index()
    level = float(table["(intercept)"] + (b * reference).sum())
    rows = [
        (row.feature, value, row.per_unit * (value - row.reference))
        for row in scale.itertuples(index=False)
        for value in _marks(row.feature, low[row.feature], high[row.feature])
    ]
    p = np.array(PROBABILITIES)
    total = (np.log(p / (1.0 - p)) - level) / unit
    most = float((b.abs() * (high - low)).sum()) / unit
    seen = (total >= 0.0) & (total <= most)
    return Nomogram(
        pd.DataFrame(rows, columns=["feature", "value", "points"]),
        pd.DataFrame({"total": total[seen], "probability": p[seen]}),
        scale,
        (level, unit),
        str(classifier.classes_[1]),
    )


def _marks(feature: str, low: float, high: float) -> list[float]:
    """Values that have a mark; a category is there or not."""
    from habitat.plotting._nomogram import round_values

    return [low, high] if "=" in feature else round_values(low, high)


def _check(classifier: HabitatClassifier) -> None:
    problem = ""
    if not hasattr(classifier, "coefficients_"):
        problem = f"is no fitted logistic model, but {classifier.model!r}"
    elif len(classifier.classes_) != 2:
        problem = f"has {len(classifier.classes_)} classes"
    elif classifier.harmonize is not None:
        problem = "harmonizes values before it uses them: they cannot be read by hand"
    if problem:
        fix = "a nomogram is for model='logistic', two classes, harmonize=None"
        raise ConfigError(problem, "`classifier`", fix)


def permutation_importance(
    classifier: HabitatClassifier,
    X: pd.DataFrame,
    y: npt.ArrayLike,
    *,
    sites: npt.ArrayLike | None = None,
    repeats: int = 30,
    random_state: int = 0,
) -> pd.DataFrame:
    """How much the AUC falls when a feature is exchanged between cases.

    Parameters
    ----------
    classifier : HabitatClassifier
        Fitted.
    X, y : DataFrame, array-like
        Cases, best ones that the model has not seen, and their classes.
    sites : array-like, optional
        As in `HabitatClassifier.predict_proba`.
    repeats : int
        Exchanges of each feature.
    random_state : int

    Returns
    -------
    DataFrame
        feature, mean, sd (over the exchanges), largest mean first. For three and more
        classes of the mean AUC of one class against the rest.
    """
    names = list(classifier.selected_)
    values = values_of(classifier, X)
    if sites is None and classifier.harmonize is not None:
        sites = X["site"]

    def auc(model: HabitatClassifier, rows: Any, truth: Any) -> float:
        p = model.predict_proba(pd.DataFrame(rows, columns=names), sites=sites)
        two = p.shape[1] == 2
        return float(roc_auc_score(truth, p[:, 1] if two else p, multi_class="ovr"))

    how = {"scoring": auc, "n_repeats": repeats, "random_state": random_state}
    found = _permuted(classifier, values, np.asarray(y), **how)
    columns = {"mean": found.importances_mean, "sd": found.importances_std}
    table = pd.DataFrame({"feature": names, **columns})
    best = np.argsort(-table["mean"].to_numpy(), kind="stable")
    ordered: pd.DataFrame = table.iloc[best].reset_index(drop=True)
    return ordered

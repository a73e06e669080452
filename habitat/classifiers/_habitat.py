"""HabitatClassifier: from a table of features to calibrated probabilities."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from habitat._check import warn
from habitat.classifiers._inputs import (
    check_options,
    checked_outcome,
    fit_values,
    options_of,
    sites_of,
    values_of,
)
from habitat.classifiers._saving import read_classifier, write_classifier
from habitat.classifiers._tuning import Learned, Training, learn
from habitat.selection._inner import FEW, inner_folds, smallest_class, youden
from habitat.selection._linear import Linear

_F64 = npt.NDArray[np.float64]


class HabitatClassifier(ClassifierMixin, BaseEstimator):
    """Classify patients by features of tumor, habitats, rings and clinical ones.

    Everything is learned in `fit`, on the rows given there: medians that fill gaps,
    ComBat, the features that vary, are reliable, are not the volume in disguise and not
    alike, mRMR, and an elastic net whose strength is chosen by inner cross-validation,
    in which all of these steps are learned anew in each fold. Probabilities are
    calibrated, and the threshold is set, on the out-of-fold predictions of the inner
    folds.

    Parameters
    ----------
    model : {"logistic", "forest", "extra_trees", "svm", "boosting"} or classifier
        What is fitted to the features that the elastic net keeps; "logistic" is the
        elastic net itself. A classifier of scikit-learn's interface can be given; it
        cannot be saved.
    n_features : int, "auto" or None
        Most features that mRMR leaves; "auto": one for ten cases of the smallest class;
        None: all.
    max_correlation : float or None
        Of features with a larger absolute correlation only one stays.
    l1_ratio : float or None
        Share of absolute values in the penalty: 1 LASSO, 0 ridge; None: no selection by
        a penalty, "logistic" has a ridge of strength 1 (scikit-learn's C).
    precision : FeaturePrecision, DataFrame or sequence of str, optional
        Features that are reliable: the result of `habitat.feature_precision`, a table
        with columns ``feature`` and ``a1_low``, or names. Others are left out, but for
        clinical ones. It must come from other images than those of the test cases, or
        at least not from their outcome.
    min_icc : float
        Least lower limit of the ICC, where `precision` has limits.
    drop_volume_proxies : float, optional
        Features whose absolute Spearman correlation with ``tumor_volume_ml`` is larger
        are left out, and so is the volume.
    harmonize : {"combat"}, optional
        Take differences between sites out; then `fit` and `predict_proba` need sites.
    class_weight : "balanced", None or dict
        Weights of the classes. Probabilities are brought back to the class shares.
    inner : int
        Inner folds, 2 and more; less where the smallest class has fewer patients.
    random_state : int
        Seed of inner folds and models.

    Attributes
    ----------
    classes_ : (C,) array
    n_features_in_, feature_names_in_ : int, array of str
        Features seen in `fit`; columns about the case (outcome, site) are none.
    selected_ : tuple of str
        Features that the model uses.
    coefficients_ : DataFrame
        Logistic models: feature ("(intercept)" last), for three and more classes the
        class, mean and sd that standardize, coefficient of the standardized feature,
        and ``natural``, that of the feature in its own units.
    strength_ : float or None
        Chosen strength of the penalty, 1 / (n C) of scikit-learn's C.
    oof_ : (n, C) array
        Out-of-fold probabilities of the inner folds.
    threshold_ : float
        Two classes: probability of the second class from which a case is positive; the
        largest Youden index on `oof_`.
    ranges_ : DataFrame
        Training range of each selected feature: feature, low, high.
    n_candidates_ : int
        Features with at least two values, before any choice.
    events_per_feature_ : float
        Patients in the smallest class for each selected feature.
    notes_ : tuple of str
        What a reader must know.

    Notes
    -----
    The strength is that with the least mean log loss over the inner folds (one standard
    error sparser has the same AUC, but calibration slopes near 2). Inner folds keep the
    rows of a group together. A feature without any value at `predict_proba` gets its
    training median.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from habitat.classifiers import HabitatClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 40)
    >>> table = pd.DataFrame(rng.normal(size=(80, 3)), columns=["h1_a", "h1_b", "h2_a"])
    >>> table["h2_a"] += 2 * y
    >>> "h2_a" in HabitatClassifier().fit(table, y).selected_
    True
    """

    def __init__(
        self,
        model: Any = "logistic",
        *,
        n_features: int | str | None = "auto",
        max_correlation: float | None = 0.9,
        l1_ratio: float | None = 1.0,
        precision: Any = None,
        min_icc: float = 0.75,
        drop_volume_proxies: float | None = None,
        harmonize: str | None = None,
        class_weight: Any = "balanced",
        inner: int = 5,
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.n_features = n_features
        self.max_correlation = max_correlation
        self.l1_ratio = l1_ratio
        self.precision = precision
        self.min_icc = min_icc
        self.drop_volume_proxies = drop_volume_proxies
        self.harmonize = harmonize
        self.class_weight = class_weight
        self.inner = inner
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sites: npt.ArrayLike | None = None,
        groups: npt.ArrayLike | None = None,
    ) -> HabitatClassifier:
        """Learn from cases.

        Parameters
        ----------
        X : DataFrame or (n, p) array
            A wide table of features, one row per case, or numbers. NaN: no value.
        y : (n,) array
            Classes.
        sites : (n,) array, optional
            For ``harmonize="combat"``; by default the column ``site`` of a DataFrame.
        groups : (n,) array, optional
            Patients; rows of one patient stay in one inner fold.

        Returns
        -------
        HabitatClassifier
            The model itself.

        Raises
        ------
        InputError, CohortError, ConfigError
            Input that cannot be used, with numbers; fewer than two patients in a class.
        """
        check_options(self)
        values, names = fit_values(self, X)
        self.classes_, codes = checked_outcome(y, len(values))
        at = None if self.harmonize is None else sites_of(X, sites, len(values))
        smallest = smallest_class(codes, groups)
        options, notes = options_of(self, names, smallest)
        folds, more = inner_folds(codes, groups, self.inner, self.random_state)
        notes += more
        counts = np.bincount(codes)
        if counts.min() < FEW:
            name = self.classes_[counts.argmin()]
            text = f"class {name} has {counts.min()} cases, fewer than {FEW}"
            notes += (warn(f"{text}: the model and its numbers are not reliable"),)
        weight = self.class_weight
        if isinstance(weight, dict):
            weight = [weight.get(name, 1.0) for name in self.classes_.tolist()]
        training = Training(
            values,
            codes,
            at,
            options,
            self.model,
            self.l1_ratio,
            weight,
            int(self.random_state),
        )
        learned = learn(training, folds)
        self._keep(learned, names)
        self.notes_ = (*notes, *learned.notes)
        self.threshold_ = np.nan
        if len(counts) == 2:
            self.threshold_ = youden(codes, self.oof_[:, 1])
        with_values = np.isfinite(values)
        low = np.where(with_values, values, np.inf).min(axis=0)
        high = np.where(with_values, values, -np.inf).max(axis=0)
        kept = learned.steps.kept
        ranges = {"feature": self.selected_, "low": low[kept], "high": high[kept]}
        self.ranges_ = pd.DataFrame(ranges)
        self.n_candidates_ = int((low < high).sum())
        self.events_per_feature_ = smallest / max(len(self.selected_), 1)
        return self

    def _keep(self, learned: Learned, names: tuple[str, ...]) -> None:
        self._learned = learned
        self.selected_ = tuple(names[i] for i in learned.steps.kept)
        self.oof_, self.strength_ = learned.oof, learned.strength

    @property
    def coefficients_(self) -> pd.DataFrame:
        """Coefficients of a logistic model."""
        learned: Learned = self._learned
        if not isinstance(learned.model, Linear):
            raise AttributeError(f"{self.model!r} has no coefficients")
        means, sds = learned.steps.means, learned.steps.sds
        parts = []
        rows = zip(learned.model.coefficients, learned.model.intercepts, strict=True)
        for k, (b, a) in enumerate(rows):
            part = {
                "feature": [*self.selected_, "(intercept)"],
                "mean": np.append(means, 0.0),
                "sd": np.append(sds, 1.0),
                "coefficient": np.append(b, a),
                "natural": np.append(b / sds, a - (b * means / sds).sum()),
            }
            parts.append(pd.DataFrame(part))
            if len(self.classes_) > 2:
                parts[-1].insert(1, "class", self.classes_[k])
        table: pd.DataFrame = pd.concat(parts, ignore_index=True)
        return table

    def predict_proba(self, X: Any, *, sites: npt.ArrayLike | None = None) -> _F64:
        """Calibrated probabilities of the classes.

        Parameters
        ----------
        X : DataFrame or (n, p) array
            A DataFrame needs the selected features, in any order; an array all columns
            of `fit`.
        sites : (n,) array, optional
            For ``harmonize="combat"``; by default the column ``site``.

        Returns
        -------
        (n, C) array
            In the order of `classes_`.

        Raises
        ------
        ModelError
            If features are missing, or a site was not there in `fit`.
        """
        check_is_fitted(self, "classes_")
        values = values_of(self, X)
        combat = self._learned.steps.combat is not None
        at = sites_of(X, sites, len(values)) if combat else None
        return self._learned.probabilities(values, at)

    def predict(self, X: Any, *, sites: npt.ArrayLike | None = None) -> Any:
        """Classes: for two by `threshold_`, for more the most probable one."""
        p = self.predict_proba(X, sites=sites)
        if p.shape[1] == 2:
            return self.classes_[(p[:, 1] >= self.threshold_).astype(np.intp)]
        return self.classes_[p.argmax(axis=1)]

    def outside(self, X: Any) -> pd.DataFrame:
        """Which values lie outside the training range.

        Returns
        -------
        DataFrame of bool
            One row per case, one column per selected feature; False where there is no
            value.
        """
        check_is_fitted(self, "classes_")
        values = values_of(self, X)
        low, high = self.ranges_["low"].to_numpy(), self.ranges_["high"].to_numpy()
        index = X.index if isinstance(X, pd.DataFrame) else None
        beyond = (values < low) | (values > high)
        columns = list(self.selected_)
        table: pd.DataFrame = pd.DataFrame(beyond, index=index, columns=columns)
        return table

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``model.json`` and ``arrays.npz`` into a folder.

        Raises
        ------
        ModelError
            If the model is a classifier of your own.
        """
        check_is_fitted(self, "classes_")
        return write_classifier(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> HabitatClassifier:
        """Read what `save` wrote; it predicts the same to the last bit.

        Raises
        ------
        ModelError
            If a file was changed, is of a newer version, or holds NaN.
        """
        model: HabitatClassifier = read_classifier(cls, Path(folder))
        return model

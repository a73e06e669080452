"""A classifier of bags."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from habitat._check import at_least, instance, integer, one_of, warn
from habitat.errors import CohortError, ConfigError, ModelError
from habitat.mil._bags import Bags, Instances, arranged
from habitat.mil._methods import METHODS, Model, options_of
from habitat.mil._pools import Pool, check_pools
from habitat.mil._saving import read_classifier, write_classifier
from habitat.selection._inner import inner_folds, offsets, shifted, youden
from habitat.selection._linear import fit_logistic, softmax

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

FEW = 10  # cases in the smallest class


class MILClassifier(ClassifierMixin, BaseEstimator):
    """Classify patients by sets of instances.

    Parameters
    ----------
    method : str
        "embedding": ridge logistic regression (or an SVM) of pooled features;
        "mi_svm", "MI_svm": maximum margin of instances or of one witness for each
        positive bag; "miles": LASSO on the likeness to training instances;
        "noisy_or", "lse": a logistic model of instances fitted through the pooling;
        "plh_bow": histograms and words of out-of-fold instance probabilities;
        "attention": gated attention.
        Three classes and more: "embedding", "plh_bow" and "attention".
    pools : sequence of str or function
        For "embedding": names out of `POOLS`, or functions of the (n_i, p) instances
        and their weights that give a row.
    C : float, optional
        Inverse strength of the penalty, by default one for each method. Features are
        scaled so that it need not change with their number.
    class_weight : "balanced" or None
        Whether classes count the same however many cases they have.
    inner : int
        Folds for the out-of-fold scores, from which calibration and threshold come.
    random_state : int
        Seed.
    options : mapping, optional
        Of the method. "embedding": head ("logistic", "svm"), kernel; "mi_svm",
        "MI_svm": kernel ("rbf", "linear"), max_iter; "miles": gamma; "lse": r;
        "plh_bow": bins, soft, external (instances are probabilities already: one
        column, or one for each of three classes); "attention": hidden, units, seeds,
        max_iter.

    Attributes
    ----------
    classes_ : (K,) array
        The classes, sorted.
    n_features_in_, feature_names_in_ : int, array
        Columns of the bags.
    oof_ : (n, K) array
        Calibrated probabilities of the training bags, out of inner folds.
    threshold_ : float
        Of two classes: the second from this probability on (Youden on `oof_`).
    slope_, offsets_ : float, (K,) array
        Calibration of the scores.
    ranges_ : (2, p) array
        Smallest and largest training value of each feature.
    medians_ : (p,) array
        What stands for a missing value.
    model_ : object
        The fitted method.
    notes_ : tuple of str
        What was done differently, in words.

    Notes
    -----
    The order of instances in a bag never changes a score, not even its last bit.
    Probabilities are calibrated so that their out-of-fold mean is the share of each
    class, also where classes are weighted.

    References
    ----------
    Andrews et al., NIPS 2002 (mi-SVM, MI-SVM); Chen et al., IEEE TPAMI 2006;28:1931
    (MILES); Ilse et al., ICML 2018 (attention); Amores, Artif Intell 2013;201:81.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.mil import Bags, MILClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1], 20)
    >>> bags = Bags.from_list([rng.normal(2.0 * c, 1.0, (3, 2)) for c in y])
    >>> model = MILClassifier().fit(bags, y)
    >>> bool((model.predict(bags) == y).mean() > 0.9)
    True
    """

    def __init__(
        self,
        method: str = "embedding",
        *,
        pools: Sequence[str | Pool] = ("mean", "min", "max"),
        C: float | None = None,
        class_weight: str | None = "balanced",
        inner: int = 5,
        random_state: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.pools = pools
        self.C = C
        self.class_weight = class_weight
        self.inner = inner
        self.random_state = random_state
        self.options = options

    def fit(
        self, bags: Bags, y: npt.ArrayLike, *, groups: npt.ArrayLike | None = None
    ) -> MILClassifier:
        """Learn from bags and their classes.

        Parameters
        ----------
        bags : Bags
            Training bags.
        y : (n_bags,) array
            Their classes.
        groups : (n_bags,) array, optional
            Bags of one group are never on both sides of an inner fold.

        Raises
        ------
        CohortError
            If a bag has no class, there is one class only, or one of a single bag.
        ConfigError
            If a parameter is wrong or the method is for two classes only.
        """
        instance("bags", bags, Bags, "make them with Bags.from_table or from_list")
        settings = self._settings()
        self.classes_, codes = _coded(y, len(bags))
        self._check_classes()
        notes = _few(codes, self.classes_)
        parts = arranged(bags, range(bags.X.shape[1]))
        notes += _holes(parts.X, bags.feature_names)
        folds, fewer = inner_folds(
            codes,
            None if groups is None else np.asarray(groups),
            integer("inner", self.inner, 2, 1000),
            integer("random_state", self.random_state, 0, 2**32 - 1),
        )
        K = len(self.classes_)
        scores = np.empty((len(codes),) if K == 2 else (len(codes), K))
        for train, test in folds:
            medians, model = self._learn(parts.take(train), codes[train], settings)
            scores[test] = model.scores(_filled(parts.take(test), medians))
        self.medians_, self.model_ = self._learn(parts, codes, settings)
        self.slope_ = _slope(scores, codes) if self.model_.margins else 1.0
        raw = softmax(scores * self.slope_)
        self.offsets_ = offsets(raw, codes)
        self.oof_ = shifted(raw, self.offsets_)
        self.threshold_ = youden(codes, self.oof_[:, 1]) if K == 2 else float("nan")
        self.ranges_ = _ranges(bags.X)
        self.n_features_in_ = bags.X.shape[1]
        self.feature_names_in_ = np.array(bags.feature_names, dtype=object)
        self.notes_ = (*notes, *fewer, *getattr(self.model_, "notes", ()))
        return self

    def _learn(
        self, parts: Instances, codes: _Ints, settings: dict[str, Any]
    ) -> tuple[_F64, Model]:
        medians = _medians(parts.X)
        fit = METHODS[self.method].fit
        return medians, fit(_filled(parts, medians), codes, **settings)

    def _settings(self) -> dict[str, Any]:
        """Checked arguments of the method."""
        method = METHODS[one_of("method", self.method, METHODS)]
        settings = options_of(self.method, self.options)
        if self.class_weight is not None:
            one_of("class_weight", self.class_weight, ("balanced",))
        settings["class_weight"] = self.class_weight
        settings["C"] = at_least("C", method.C if self.C is None else self.C, 1e-9)
        if method.random:
            settings["seed"] = self.random_state
        if self.method == "embedding":
            settings["pools"] = check_pools(self.pools)
        return settings

    def _check_classes(self) -> None:
        many = len(self.classes_) > 2
        svm = dict(self.options or {}).get("head") == "svm"
        if many and (not METHODS[self.method].classes or svm):
            able = [name for name, method in METHODS.items() if method.classes]
            what = f"{self.method!r} is for two classes, found {len(self.classes_)}"
            raise ConfigError(what, "`method`", f"use {', '.join(able)}")

    def _arranged(self, bags: Bags) -> Instances:
        check_is_fitted(self)
        instance("bags", bags, Bags, "make them with Bags.from_table or from_list")
        place = {name: i for i, name in enumerate(bags.feature_names)}
        names = self.feature_names_in_.tolist()
        missing = [name for name in names if name not in place]
        if missing:
            what = f"{len(missing)} features of the model are missing"
            found = f"{what}: {', '.join(missing[:10])}"
            raise ModelError(found, "`bags`", "make them as for training")
        return _filled(arranged(bags, [place[n] for n in names]), self.medians_)

    def predict_proba(self, bags: Bags) -> _F64:
        """Probabilities of the classes, (n_bags, K)."""
        parts = self._arranged(bags)
        scores = self.model_.scores(parts)
        return shifted(softmax(scores * self.slope_), self.offsets_)

    def predict(self, bags: Bags) -> npt.NDArray[Any]:
        """Classes: of two the second from `threshold_` on, else the most probable."""
        p = self.predict_proba(bags)
        if p.shape[1] == 2:
            chosen = (p[:, 1] >= self.threshold_).astype(np.intp)
        else:
            chosen = p.argmax(axis=1)
        result: npt.NDArray[Any] = self.classes_[chosen]
        return result

    def instance_scores(self, bags: Bags) -> _F64:
        """One number for each row of ``bags.X``, for maps.

        What it means depends on the method. "embedding", "miles": the score that a bag
        of this instance alone would get (a logit; of more classes their mean place, 0
        to 1). "mi_svm", "MI_svm": margin, positive for the second class. "noisy_or",
        "lse": logit of the instance. "plh_bow": its probability of the second class.
        "attention": share of the bag's attention, whatever the class.
        """
        parts = self._arranged(bags)
        out = np.empty(len(parts.X))
        out[parts.order] = self.model_.instances(parts)
        return out

    def outside(self, bags: Bags) -> pd.DataFrame:
        """Which features of a bag have an instance beyond the training range."""
        parts = self._arranged(bags)
        low, high = self.ranges_
        marks = (low > parts.X) | (high < parts.X)
        beyond = parts.maxima(marks.astype(np.float64)) > 0.5
        names = list(map(str, self.feature_names_in_))
        table: pd.DataFrame = pd.DataFrame(beyond, list(bags.bag_ids), names)
        return table

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model as JSON and arrays, without pickle.

        Raises
        ------
        ModelError
            If a pool is a function of your own.
        """
        check_is_fitted(self)
        return write_classifier(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> MILClassifier:
        """Read what `save` wrote; it gives the same numbers, to the last bit.

        Raises
        ------
        ModelError
            If files are missing, changed since, of a newer version or hold NaN.
        """
        model: MILClassifier = read_classifier(cls, Path(folder))
        return model


def _coded(y: npt.ArrayLike, n: int) -> tuple[npt.NDArray[Any], _Ints]:
    """Classes and the class of each bag."""
    given = np.asarray(y)
    if given.shape != (n,):
        what = f"must hold the class of each of the {n} bags, has shape {given.shape}"
        raise ConfigError(what, "`y`")
    missing = np.flatnonzero(pd.isna(given))
    if missing.size:
        what = f"{missing.size} of {n} bags have no class, the first is {missing[0]}"
        raise CohortError(what, "`y`", "leave these cases out")
    try:
        classes, codes = np.unique(given, return_inverse=True)
    except TypeError as error:
        raise CohortError(f"mixes kinds of values ({error})", "`y`") from error
    if len(classes) < 2:
        what = f"needs two classes or more, found one class: {classes.tolist()[0]!r}"
        raise CohortError(what, "`y`")
    if given.dtype.kind == "f" and len(classes) > max(10, n // 2):
        what = f"holds {len(classes)} different numbers, no classes"
        raise CohortError(what, "`y`", "divide them at a cutoff")
    return classes, codes


def _few(codes: _Ints, classes: npt.NDArray[Any]) -> tuple[str, ...]:
    counts = np.bincount(codes)
    if counts.min() >= FEW:
        return ()
    name = classes.tolist()[counts.argmin()]
    return (warn(f"class {name!r} has {counts.min()} cases only, fewer than {FEW}"),)


def _holes(X: _F64, names: Sequence[str]) -> tuple[str, ...]:
    where = np.flatnonzero(np.isnan(X).any(axis=0)).tolist()
    if not where:
        return ()
    which = ", ".join(names[i] for i in where[:10])
    count = f"{len(where)} of {len(names)} features"
    return (f"missing values of {count} became medians: {which}",)


def _medians(X: _F64) -> _F64:
    """Medians of what is not missing; 0 where all is."""
    missing = np.isnan(X)
    if not missing.any():
        return np.asarray(np.median(X, axis=0))
    kept = np.where(missing.all(axis=0), 0.0, X)
    return np.asarray(np.nanmedian(kept, axis=0))


def _filled(parts: Instances, medians: _F64) -> Instances:
    return parts._replace(X=np.where(np.isnan(parts.X), medians, parts.X))


def _ranges(X: _F64) -> _F64:
    """(2, p) smallest and largest values; none known becomes an empty range."""
    low = np.where(np.isnan(X), np.inf, X).min(axis=0)
    high = np.where(np.isnan(X), -np.inf, X).max(axis=0)
    return np.stack([low, high])


def _slope(scores: _F64, codes: _Ints) -> float:
    """Slope of a sigmoid of margins; never negative."""
    spread = float(scores.std()) or 1.0
    found = fit_logistic((scores / spread)[:, None], codes, 10.0, 0.0, None)
    return max(float(found.coefficients[0, 0]), 0.0) / spread

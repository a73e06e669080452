"""Models as flat arrays: scikit-learn fits them, the code here predicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.svm import SVC

from habitat.selection._linear import Linear, class_weights, fit_logistic, softmax

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]
_Arrays = dict[str, npt.NDArray[Any]]

N_TREES, LEAF = 100, 3  # of forests: trees, and least cases in a leaf
BOOSTING = {"n_estimators": 100, "learning_rate": 0.05, "max_depth": 2}
NAMES = ("logistic", "forest", "extra_trees", "svm", "boosting")


class Model(Protocol):
    """What predicts from standardized features."""

    def probabilities(self, X: _F64) -> _F64:
        """Probabilities of the classes, (n, classes)."""
        ...


class _Flat:
    """A dataclass of arrays, as a file holds them."""

    def arrays(self) -> _Arrays:
        """What a file must hold."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
        """The model that gave these arrays."""
        return cls(**{f.name: arrays[f.name] for f in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Trees(_Flat):
    """Trees, one after the other in flat arrays.

    Parameters
    ----------
    roots : (trees,) array of int
        Place of the root of each tree.
    left, right : (nodes,) arrays of int
        Place of the next node; of a leaf its own.
    feature : (nodes,) array of int
    threshold : (nodes,) array
        To the left if the value, rounded to 32 bits as in scikit-learn, is not larger.
    value : (nodes, outputs) array
    """

    roots: _Ints
    left: _Ints
    right: _Ints
    feature: _Ints
    threshold: _F64
    value: _F64

    @classmethod
    def of(cls, trees: Iterable[Any]) -> Any:
        """Flatten fitted trees of scikit-learn."""
        each = [tree.tree_ for tree in trees]
        sizes = np.array([tree.node_count for tree in each])
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        base = np.repeat(starts, sizes)
        leaf = np.concatenate([t.children_left for t in each]) < 0
        own = np.arange(len(base))

        def flat(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(t, name) for t in each])

        return cls(
            starts,
            np.where(leaf, own, flat("children_left") + base),
            np.where(leaf, own, flat("children_right") + base),
            np.where(leaf, 0, flat("feature")).astype(np.intp),
            np.where(leaf, 0.0, flat("threshold")),
            flat("value")[:, 0, :],
        )

    def leaves(self, X: _F64) -> _F64:
        """Values of the leaves of each row, (n, trees, outputs)."""
        small = X.astype(np.float32)
        rows = np.arange(len(X))[:, None]
        node = np.broadcast_to(self.roots, (len(X), len(self.roots)))
        while True:
            left = small[rows, self.feature[node]] <= self.threshold[node]
            after = np.where(left, self.left[node], self.right[node])
            if (after == node).all():
                result: _F64 = self.value[node]
                return result
            node = after


class Forest(Trees):
    """Mean of the class shares in the leaves."""

    def probabilities(self, X: _F64) -> _F64:
        """Probabilities of the classes, (n, classes)."""
        p = self.leaves(X).mean(axis=1)
        result: _F64 = p / p.sum(axis=1, keepdims=True)
        return result


@dataclass(frozen=True, eq=False)
class Boosting(_Flat):
    """A start and a sum of regression trees for each logit.

    Parameters
    ----------
    start : (K,) array
        Logits before the first tree; one for two classes.
    rate : (1,) array
        Factor of each tree.
    roots, left, right, feature, threshold, value
        As in `Trees`, those of the first round first.
    """

    start: _F64
    rate: _F64
    roots: _Ints
    left: _Ints
    right: _Ints
    feature: _Ints
    threshold: _F64
    value: _F64

    @classmethod
    def of(cls, model: GradientBoostingClassifier, X: _F64) -> Boosting:
        """Flatten a fitted model; any row of X tells its start."""
        trees = Trees.of(model.estimators_.ravel()).arrays()
        rate = np.array([model.learning_rate], dtype=np.float64)
        none = np.zeros(model.estimators_.shape[1])
        made = cls(start=none, rate=rate, **trees)
        start = (
            np.atleast_1d(model.decision_function(X[:1])[0]) - made._logits(X[:1])[0]
        )
        return replace(made, start=start)

    def _logits(self, X: _F64) -> _F64:
        trees = Trees(**{f.name: getattr(self, f.name) for f in fields(Trees)})
        each = trees.leaves(X)[..., 0].reshape(len(X), -1, len(self.start))
        result: _F64 = self.start + self.rate * each.sum(axis=1)
        return result

    def probabilities(self, X: _F64) -> _F64:
        """Probabilities of the classes, (n, classes)."""
        logits = self._logits(X)
        return softmax(logits[:, 0] if len(self.start) == 1 else logits)


@dataclass(frozen=True, eq=False)
class Kernel(_Flat):
    """Support vectors with a Gaussian kernel; of more than two classes one to the rest.

    Parameters
    ----------
    vectors : (m, p) array
    weights : (m, K) array
        Zero where a row is no support vector of that logit.
    intercepts, slopes, levels : (K,) arrays
        The logit is ``level + slope * decision``.
    gamma : (1,) array
    """

    vectors: _F64
    weights: _F64
    intercepts: _F64
    slopes: _F64
    levels: _F64
    gamma: _F64

    @classmethod
    def of(cls, X: _F64, models: Iterable[SVC]) -> Kernel:
        """Collect the support vectors of fitted models on the same rows."""
        models = list(models)
        weights = np.zeros((len(X), len(models)))
        for k, model in enumerate(models):
            weights[model.support_, k] = model.dual_coef_[0]
        used = (weights != 0.0).any(axis=1)
        intercepts = np.array([model.intercept_[0] for model in models])
        one, zero = np.ones(len(models)), np.zeros(len(models))
        gamma = np.array([models[0]._gamma])
        return cls(X[used], weights[used], intercepts, one, zero, gamma)

    def scores(self, X: _F64) -> _F64:
        """Decision values, (n, K)."""
        apart = X[:, None, :] - self.vectors
        near = np.exp(-self.gamma * np.einsum("ijk,ijk->ij", apart, apart))
        result: _F64 = np.einsum("ij,jk->ik", near, self.weights) + self.intercepts
        return result

    def probabilities(self, X: _F64) -> _F64:
        """Sigmoids of the decision values, of three and more classes normalized."""
        return self.sigmoids(self.scores(X))

    def sigmoids(self, decisions: _F64) -> _F64:
        """Probabilities (n, classes) of decision values."""
        logits = self.levels + self.slopes * decisions
        if logits.shape[1] == 1:
            return softmax(logits[:, 0])
        # by logs, so that a case far from all classes has no 0 / 0
        return softmax(-np.logaddexp(0.0, -logits))

    def calibrated(self, decisions: _F64, codes: _Ints) -> Kernel:
        """Sigmoids of decision values on cases not seen; a slope is never negative."""
        slopes, levels = [], []
        for k, decision in enumerate(decisions.T):
            y = (codes == (k if decisions.shape[1] > 1 else 1)).astype(np.intp)
            spread = max(float(decision.std()), 1e-12)
            line = fit_logistic(decision[:, None] / spread, y, class_weight=None)
            slope, level = float(line.coefficients[0, 0]), float(line.intercepts[0])
            if slope < 0:
                slope, level = 0.0, float(np.log(y.mean() / (1 - y.mean())))
            slopes.append(slope / spread)
            levels.append(level)
        return replace(self, slopes=np.array(slopes), levels=np.array(levels))


@dataclass(frozen=True, eq=False)
class Own:
    """A fitted classifier of somebody else."""

    classifier: Any

    def probabilities(self, X: _F64) -> _F64:
        """Probabilities of the classes, (n, classes)."""
        result: _F64 = self.classifier.predict_proba(X)
        return result


KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in (Linear, Forest, Boosting, Kernel)
}


def fit_model(
    model: Any, X: _F64, codes: _Ints, class_weight: Any, random_state: int
) -> Any:
    """Fit a named model, or a classifier of scikit-learn.

    Parameters
    ----------
    model : str or classifier
        One of `NAMES` but "logistic".
    X : (n, p) array
        Standardized features.
    codes : (n,) array of int
        Classes, 0 to C - 1.
    class_weight : "balanced", None or sequence of float
        For named models.
    random_state : int
    """
    if not isinstance(model, str):
        own = clone(model)
        if "random_state" in own.get_params(deep=False):
            own.set_params(random_state=random_state)
        return Own(own.fit(X, codes))
    weight = class_weights(codes, class_weight)
    if model in ("forest", "extra_trees"):
        kind = RandomForestClassifier if model == "forest" else ExtraTreesClassifier
        trees = kind(N_TREES, min_samples_leaf=LEAF, random_state=random_state)
        return Forest.of(trees.fit(X, codes, weight).estimators_)
    if model == "boosting":
        boosting = GradientBoostingClassifier(**BOOSTING, random_state=random_state)
        return Boosting.of(boosting.fit(X, codes, weight), X)
    classes = [1] if codes.max() == 1 else range(codes.max() + 1)
    each = [SVC().fit(X, codes == k, weight) for k in classes]
    return Kernel.of(X, each)

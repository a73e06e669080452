"""Logistic regression whose predictions are our own code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels.logistic import logistic_path

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

TOLERANCE = 1e-12  # squared change of the logits
WEAKEST = 1e-3  # of the strength at which all coefficients are zero
RIDGE = 0.05  # a smaller share of absolute values counts as this for that strength


@dataclass(frozen=True, eq=False)
class Linear:
    """Logits that are linear in the features.

    Parameters
    ----------
    coefficients : (K, p) array
        One row for two classes (the logit of the second), else one per class.
    intercepts : (K,) array
    """

    coefficients: _F64
    intercepts: _F64

    def scores(self, X: _F64) -> _F64:
        """Logits: (n,) for two classes, else (n, classes)."""
        # not BLAS: a row gives the same bits alone and among others
        eta = np.einsum("ij,kj->ik", X, self.coefficients) + self.intercepts
        result: _F64 = eta[:, 0] if len(self.intercepts) == 1 else eta
        return result

    def probabilities(self, X: _F64) -> _F64:
        """Probabilities of the classes, (n, classes)."""
        return softmax(self.scores(X))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file must hold."""
        return {"coefficients": self.coefficients, "intercepts": self.intercepts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Linear:
        """The model that gave these arrays."""
        return cls(arrays["coefficients"], arrays["intercepts"])


def softmax(scores: _F64) -> _F64:
    """Probabilities (n, classes) of logits; a 1-D array has those of the second class.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([0.0])).tolist()
    [[0.5, 0.5]]
    """
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: _F64 = e / e.sum(axis=1, keepdims=True)
    return result


def class_weights(codes: _Ints, class_weight: Any) -> _F64:
    """Weight of each row, mean 1.

    Parameters
    ----------
    codes : (n,) array of int
        Classes, 0 to C - 1.
    class_weight : "balanced", None or sequence of float
        n / (C n_c), or 1, or the weight of each class.
    """
    counts = np.bincount(codes)
    if class_weight is None:
        return np.ones(len(codes))
    per = 1.0 / counts if isinstance(class_weight, str) else np.asarray(class_weight)
    each = np.asarray(per, dtype=np.float64)[codes]
    result: _F64 = each / each.mean()
    return result


def strongest(X: _F64, codes: _Ints, l1_ratio: float, weight: _F64) -> float:
    """The least strength at which an elastic net keeps no feature."""
    Y = indicators(codes)
    w = weight / weight.sum()
    gradient = ((Y - (Y @ w)[:, None]) * w) @ X
    top = float(np.abs(gradient).max(initial=0.0))
    return top / max(l1_ratio, RIDGE)


def indicators(codes: _Ints) -> _F64:
    """(K, n) indicators: of the second of two classes, or of each of more."""
    Y = np.eye(int(codes.max()) + 1)[codes].T
    return np.ascontiguousarray(Y[1:] if len(Y) == 2 else Y)


def fit_path(
    X: _F64, codes: _Ints, strengths: _F64, l1_ratio: float, weight: _F64
) -> list[Linear]:
    """One model per strength of the penalty.

    Parameters
    ----------
    X : (n, p) array
        Features, on comparable scales.
    codes : (n,) array of int
        Classes, 0 to C - 1, all of them there.
    strengths : (s,) array
        From strong to weak: ``sum(w * loss) / sum(w) + strength * (l1_ratio |b|_1 +
        (1 - l1_ratio) / 2 |b|^2)``; intercepts are free.
    l1_ratio : float
        Share of the absolute values: 1 LASSO, 0 ridge.
    weight : (n,) array
        Weights of the rows.
    """
    Y = indicators(codes)
    coefficients = np.empty((len(strengths), len(Y), X.shape[1]))
    intercepts = np.empty((len(strengths), len(Y)))
    logistic_path(
        np.ascontiguousarray(X.T, dtype=np.float64),
        Y,
        weight / weight.sum(),
        np.asarray(strengths, dtype=np.float64),
        float(l1_ratio),
        TOLERANCE,
        coefficients,
        intercepts,
    )
    return [Linear(b, a) for b, a in zip(coefficients, intercepts, strict=True)]


def fit_logistic(
    X: _F64,
    codes: _Ints,
    C: float = 1.0,
    l1_ratio: float = 0.0,
    class_weight: Any = "balanced",
) -> Linear:
    """Fit one logistic regression with an elastic net.

    Parameters
    ----------
    X : (n, p) array
        Features, on comparable scales.
    codes : (n,) array of int
        Classes, 0 to C - 1, all of them there.
    C : float
        Inverse strength as in scikit-learn: C times the sum of the losses.
    l1_ratio : float
        1: LASSO, 0: ridge.
    class_weight : "balanced", None or sequence of float
        As in `class_weights`.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = fit_logistic(X, np.array([0, 0, 1, 1]))
    >>> model.probabilities(X)[:, 1].round(2).tolist()
    [0.19, 0.38, 0.62, 0.81]
    """
    weight = class_weights(codes, class_weight)
    strength = np.array([1.0 / (C * weight.sum())])
    return fit_path(X, codes, strength, l1_ratio, weight)[0]

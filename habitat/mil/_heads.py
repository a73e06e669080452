"""What is fitted to fixed features: scaling, ridge logistic regression, an SVM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.svm import SVC

from habitat.selection._linear import Linear, fit_path

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

ROUND_OFF = 1e-12
KERNELS = ("rbf", "linear")


@dataclass(frozen=True, eq=False)
class Scale:
    """Center columns and bring rows to a mean square length of 1.

    So a strength of penalty or a width of kernel means the same for any number of
    features. Constant columns become zeros.
    """

    mean: _F64
    factor: _F64

    @classmethod
    def fit(cls, X: _F64) -> Scale:
        """Learn from training rows."""
        mean, sd = X.mean(axis=0), X.std(axis=0)
        varies = sd > ROUND_OFF * np.abs(X).max(axis=0)
        size = np.sqrt(max(varies.sum(), 1))
        return cls(mean, np.where(varies, 1.0 / np.where(varies, sd * size, 1.0), 0.0))

    def of(self, X: _F64) -> _F64:
        """Scaled rows."""
        result: _F64 = (X - self.mean) * self.factor
        return result


def ridge(X: _F64, codes: _Ints, C: float, weight: _F64) -> Linear:
    """Logistic regression with a squared penalty.

    Parameters
    ----------
    X : (n, p) array
        Scaled features.
    codes : (n,) array of int
        Classes.
    C : float
        Inverse strength: C times the sum of the losses.
    weight : (n,) array
        Weights of the rows.
    """
    # along the principal axes the columns do not correlate, and are n at most
    axes = principal(X)
    strength = np.array([1.0 / (C * weight.sum())])
    found = fit_path(X @ axes, codes, strength, 0.0, weight)[0]
    return Linear(found.coefficients @ axes.T, found.intercepts)


def principal(X: _F64) -> _F64:
    """Orthonormal (p, r) basis of the rows of X, its principal axes."""
    wide = X.shape[0] < X.shape[1]
    values, vectors = np.linalg.eigh(X @ X.T if wide else X.T @ X)
    kept = values > ROUND_OFF * max(values[-1], ROUND_OFF)
    axes: _F64 = vectors[:, kept]
    return X.T @ (axes / np.sqrt(values[kept])) if wide else axes


def squares(A: _F64, B: _F64) -> _F64:
    """Squared distances of the rows of A from those of B."""
    d = (A**2).sum(axis=1)[:, None] + (B**2).sum(axis=1) - 2.0 * A @ B.T
    result: _F64 = np.maximum(d, 0.0)
    return result


def gram(A: _F64, B: _F64, gamma: float) -> _F64:
    """Kernel between rows: ``exp(-gamma d^2)``, or products where gamma is 0."""
    result: _F64 = np.exp(-gamma * squares(A, B)) if gamma else A @ B.T
    return result


@dataclass(frozen=True, eq=False)
class Machine:
    """A support vector machine of two classes."""

    vectors: _F64
    dual: _F64
    intercept: float
    gamma: float

    def scores(self, X: _F64) -> _F64:
        """Signed margins, positive for the second class."""
        result: _F64 = gram(X, self.vectors, self.gamma) @ self.dual + self.intercept
        return result


def machine(
    X: _F64, codes: _Ints, C: float, gamma: float, class_weight: Any, K: _F64
) -> Machine:
    """Fit a support vector machine to rows whose kernel is known."""
    svc = SVC(kernel="precomputed", C=C, class_weight=class_weight, cache_size=100)
    svc.fit(K, codes)
    return Machine(
        X[svc.support_], svc.dual_coef_[0].copy(), float(svc.intercept_[0]), gamma
    )

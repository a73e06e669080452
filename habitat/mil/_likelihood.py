"""An instance model fitted through the pooling: noisy-or and log-sum-exp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from habitat._check import at_least
from habitat.mil._bags import Instances
from habitat.mil._heads import Scale, ridge
from habitat.selection._linear import class_weights

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]
# logits of bags, and of each instance the derivative of its bag's logit
Pooling: TypeAlias = Callable[[Instances, _F64], tuple[_F64, _F64]]

TINY = 1e-12


def noisy_or(bags: Instances, f: _F64) -> tuple[_F64, _F64]:
    """Logit of ``1 - prod(1 - p_i)``, and its derivatives by the logits f of p."""
    q = np.maximum(bags.sums(np.logaddexp(0.0, f)), TINY)  # -log(1 - P)
    logit = q + np.log(-np.expm1(-q))
    slope = expit(f) / -np.expm1(-q)[bags.bag]
    return logit, slope


def log_sum_exp(bags: Instances, f: _F64, r: float) -> tuple[_F64, _F64]:
    """Logit of ``log(mean(exp(r p_i))) / r``, and its derivatives by f."""
    p = expit(f)
    e = np.exp(r * (p - 1.0))
    total = bags.sums(e)
    P = np.clip(1.0 + np.log(total / bags.sizes) / r, TINY, 1.0 - TINY)
    slope = e / total[bags.bag] * p * (1.0 - p)
    return np.log(P) - np.log1p(-P), slope / (P * (1.0 - P))[bags.bag]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """A logistic model of instances; the bag's probability is pooled from theirs.

    The score of an instance is its logit.
    """

    scale: Scale
    coefficients: _F64
    intercept: float
    r: float  # of log-sum-exp; 0 for noisy-or
    margins = False

    def scores(self, bags: Instances) -> _F64:
        """Score of each bag."""
        return pooling(self.r)(bags, self.instances(bags))[0]

    def instances(self, bags: Instances) -> _F64:
        """Score of each instance."""
        return _affine(self.scale.of(bags.X), self.coefficients, self.intercept)


def _affine(Z: _F64, b: _F64, a: float) -> _F64:
    result: _F64 = np.einsum("ij,j->i", Z, b) + a
    return result


def pooling(r: float) -> Pooling:
    """The pooling function."""
    if r == 0.0:
        return noisy_or
    return lambda bags, f: log_sum_exp(bags, f, r)


def objective(
    theta: _F64,
    bags: Instances,
    y: _F64,
    weight: _F64,
    C: float,
    pool: Pooling,
) -> tuple[float, _F64]:
    """Penalized loss of the bags and its gradient.

    Parameters
    ----------
    theta : (p + 1,) array
        Coefficients and intercept.
    bags : Instances
        With scaled features.
    y : (n_bags,) array
        0 and 1.
    weight : (n_bags,) array
        Weights of the bags.
    C : float
        Inverse strength of the penalty.
    pool : function
        `noisy_or` or `log_sum_exp`.
    """
    b = theta[:-1]
    logit, slope = pool(bags, bags.X @ b + theta[-1])
    loss = weight @ (np.logaddexp(0.0, logit) - y * logit) + b @ b / (2.0 * C)
    each = (weight * (expit(logit) - y))[bags.bag] * slope
    return float(loss), np.append(bags.X.T @ each + b / C, each.sum())


def fit_likelihood(
    bags: Instances, codes: _Ints, *, C: float, class_weight: Any, r: float
) -> Likelihood:
    """Fit the instance model by the likelihood of the bags."""
    r = at_least("r", r, 0.0)
    scale = Scale.fit(bags.X)
    scaled = bags._replace(X=scale.of(bags.X))
    weight = class_weights(codes, class_weight)
    first = ridge(scaled.sums(scaled.X) / scaled.sizes[:, None], codes, C, weight)
    theta = np.append(first.coefficients[0], first.intercepts[0])
    arguments = (scaled, codes.astype(float), weight, C, pooling(r))
    found = minimize(
        objective, theta, arguments, "L-BFGS-B", jac=True, options={"maxiter": 500}
    ).x
    return Likelihood(scale, found[:-1], float(found[-1]), r)


def fit_noisy_or(
    bags: Instances, codes: _Ints, *, C: float, class_weight: Any
) -> Likelihood:
    """Noisy-or."""
    return fit_likelihood(bags, codes, C=C, class_weight=class_weight, r=0.0)

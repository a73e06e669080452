"""One iteration of K-means or EM over rows that come in parts, each with a shift."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat.clustering._gmm import GMMOptions, Mixture, Moments, moments, update
from habitat.clustering._kmeans import KMeansOptions, Nearest

__all__ = ["best_shift", "better_rule", "shifted", "step_of", "sums_of"]

_F64 = npt.NDArray[np.float64]
Refinable: TypeAlias = Nearest | Mixture
_TOL = 1e-6  # of a shift, in scaled units
_MAX_ITER = 200


def sums_of(X: _F64, rule: Refinable) -> Moments:
    """Moments of rows about the centers of a rule; the rows weigh 1 together.

    Of K-means: "responsibilities" are 0 and 1, `log_likelihood` is minus the mean
    squared distance from the nearest center, and `square` is not filled.
    """
    if isinstance(rule, Mixture):
        return moments(X, rule, np.full(len(X), 1 / len(X)))
    labels = rule.labels(X)
    t = X - rule.centers[labels]
    k, d = rule.centers.shape
    count = np.bincount(labels, minlength=k) / len(X)
    shift = [np.bincount(labels, weights=column, minlength=k) for column in t.T]
    loss = float((t**2).sum(axis=1).mean())
    return Moments(count, np.stack(shift, 1) / len(X), np.zeros((k, d, d)), -loss)


def better_rule(
    rule: Refinable, found: Moments, options: KMeansOptions | GMMOptions
) -> Refinable:
    """Rule of the next iteration; centers without rows stay where they are."""
    if isinstance(rule, Mixture) and isinstance(options, GMMOptions):
        return update(rule, found, options.covariance, options.reg)
    assert isinstance(rule, Nearest)
    count = np.where(found.count > 0, found.count, 1.0)
    centers = rule.centers + found.shift / count[:, None]
    return Nearest(centers, -found.log_likelihood / centers.shape[1])


def step_of(found: Moments, rule: Refinable) -> _F64:
    """Shift of all rows that fits them best, responsibilities as they are; (d,).

    The M-step for a displacement that all clusters share: the mean distance from the
    centers, of a mixture weighted by the precisions of its components.
    """
    if isinstance(rule, Nearest):
        return np.asarray(found.shift.sum(axis=0) / found.count.sum())
    precisions = np.linalg.inv(rule.covariances)
    weight = np.einsum("k,kij->ij", found.count, precisions)
    pull = np.einsum("kij,kj->i", precisions, found.shift)
    return np.linalg.solve(weight, pull)


def shifted(found: Moments, step: _F64) -> Moments:
    """Moments of the same rows moved by minus `step`, responsibilities as they are."""
    n, first = found.count[:, None, None], found.shift[:, :, None]
    cross = first * step
    square = found.square - cross - cross.transpose(0, 2, 1)
    square = square + n * (step[:, None] * step)
    shift = found.shift - found.count[:, None] * step
    return Moments(found.count, shift, square, found.log_likelihood)


def best_shift(X: npt.NDArray[Any], rule: Refinable) -> _F64:
    """Shift of rows after which a rule fits them best; the search starts from none.

    Parameters
    ----------
    X : (n, d) array
        Scaled rows of one tumor.
    rule : Nearest or Mixture
        What the shifted rows ``X - shift`` are to fit.

    Returns
    -------
    (d,) array
        A local optimum: assignment and shift in turn, as in iterated closest points
        (Besl & McKay, IEEE TPAMI 1992;14:239).

    Examples
    --------
    >>> import numpy as np
    >>> rule = Nearest(np.array([[0.0], [10.0]]), 1.0)
    >>> best_shift(np.array([[1.0], [3.0], [11.0], [13.0]]), rule).tolist()
    [2.0]
    """
    total = np.zeros(X.shape[1])
    for _ in range(_MAX_ITER):
        step = step_of(sums_of(X - total, rule), rule)
        total += step
        if np.abs(step).max() < _TOL:
            break
    return total

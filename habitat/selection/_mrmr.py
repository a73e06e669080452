"""Features that tell much and repeat little (mRMR)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from habitat._check import integer, one_of
from habitat.errors import CohortError
from habitat.selection._filters import _Filter, midranks, unit_columns

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

SCHEMES = ("fcq", "mid", "miq")
LEAST = 1e-12  # a divisor below counts as this, so that quotients stay finite


def f_values(X: _F64, codes: _Ints) -> _F64:
    """F statistic of the one-way analysis of variance of each column.

    A constant column has 0. Without any spread within the classes it is 1e12 and more.
    """
    units = unit_columns(X)  # total sum of squares 1, or 0 of a constant column
    counts = np.bincount(codes)
    sums = np.eye(len(counts))[codes].T @ units
    between = (sums**2 / counts[:, None]).sum(axis=0)
    degrees = max(len(X) - len(counts), 1) / (len(counts) - 1)
    values: _F64 = between / np.maximum(1.0 - between, LEAST) * degrees
    return values


def binned(X: _F64) -> tuple[_Ints, int]:
    """Cut each column at its quantiles; equal values share a bin.

    Returns
    -------
    bins : (n, p) array of int
        Bin of each value, from 0.
    k : int
        Number of bins, the cube root of n rounded, at least 2.
    """
    n = len(X)
    k = max(2, round(n ** (1.0 / 3.0)))
    return ((midranks(X) - 0.5) * (k / n)).astype(np.intp), k


def information(one_hot: _F64, entropies: _F64, codes: _Ints, k: int) -> _F64:
    """Mutual information (nats) of each binned column with one binned variable.

    Parameters
    ----------
    one_hot : (n, p * k) array
        Indicators of the bins of each column, columns outermost.
    entropies : (p,) array
        Entropy of each column.
    codes : (n,) array of int
        The other variable.
    k : int
        Bins of a column.
    """
    other = np.eye(codes.max() + 1)[codes]
    joint = (other.T @ one_hot).reshape(other.shape[1], -1, k)
    together = entropy(np.moveaxis(joint, 0, 1).reshape(len(entropies), -1))
    result: _F64 = entropies + entropy(other.sum(axis=0)) - together
    return np.maximum(result, 0.0)


def entropy(counts: _F64) -> _F64:
    """Entropy (nats) of counts along the last axis."""
    share = counts / counts.sum(axis=-1, keepdims=True)
    result: _F64 = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=-1)
    return result


class _Correlation:
    """Relevance F, redundancy the absolute Pearson correlation."""

    def __init__(self, X: _F64, codes: _Ints) -> None:
        self.units = unit_columns(X)
        self.relevance = f_values(X, codes)

    def redundancy(self, column: int) -> _F64:
        return np.abs(self.units[:, column] @ self.units)


class _Information:
    """Relevance and redundancy the mutual information of quantile bins."""

    def __init__(self, X: _F64, codes: _Ints) -> None:
        self.bins, self.k = binned(X)
        self.one_hot = np.eye(self.k)[self.bins].reshape(len(X), -1)
        counts = self.one_hot.sum(axis=0).reshape(-1, self.k)
        self.entropies = entropy(counts)
        self.relevance = self._with(codes)

    def _with(self, codes: _Ints) -> _F64:
        return information(self.one_hot, self.entropies, codes, self.k)

    def redundancy(self, column: int) -> _F64:
        return self._with(self.bins[:, column])


def mrmr(X: _F64, codes: _Ints, n_features: int, scheme: str = "fcq") -> _Ints:
    """Choose columns one after the other, each with the best score given those before.

    Parameters
    ----------
    X : (n, p) array
        Training rows, no NaN.
    codes : (n,) array of int
        Their classes, 0 to C - 1, C >= 2.
    n_features : int
        How many to choose, at most p are.
    scheme : {"fcq", "mid", "miq"}
        The score, see `MRMR`.

    Returns
    -------
    array of int
        The columns in the order of choice. Equals go to the earlier column.
    """
    measure = (_Correlation if scheme == "fcq" else _Information)(X, codes)
    score = measure.relevance
    total = np.zeros(X.shape[1])
    free = np.ones(X.shape[1], dtype=np.bool_)
    order: list[int] = []
    while len(order) < min(n_features, X.shape[1]):
        top = score[free].max()
        best = int(np.argmax(free & (score >= top - LEAST * abs(top))))
        order.append(best)
        free[best] = False
        total += measure.redundancy(best)
        mean = total / len(order)
        if scheme == "mid":
            score = measure.relevance - mean
        else:
            score = measure.relevance / np.maximum(mean, LEAST)
    return np.array(order, dtype=np.intp)


class MRMR(_Filter):
    """Minimum redundancy, maximum relevance: a few features that differ.

    The first column has the largest relevance; each further one the largest score of
    its relevance to the classes and its mean redundancy with those chosen before.

    Parameters
    ----------
    n_features : int
        How many to keep; all, if there are not more.
    scheme : {"fcq", "mid", "miq"}
        "fcq": F statistic divided by the mean absolute Pearson correlation; "mid" and
        "miq": mutual information with the classes minus, or divided by, the mean mutual
        information with those chosen.

    Attributes
    ----------
    ranking_ : (n_features,) array of int
        The columns in the order of choice.
    support_ : (p,) array of bool
        The columns that are kept.

    Notes
    -----
    The mutual information is that of quantile bins (as many as the cube root of n): it
    does not change when a feature is transformed monotonically, has no random part and
    costs one product of matrices. ``feature_engine`` estimates it from neighbors with
    noise added, so that only "fcq" agrees with it.

    References
    ----------
    Ding and Peng, J Bioinform Comput Biol 2005;3:185. doi:10.1142/S0219720005001004
    Zhao et al., IEEE DSAA 2019:442 (FCQ). doi:10.1109/DSAA.2019.00059

    Examples
    --------
    >>> from habitat.selection import MRMR
    >>> X = [[0, 0, 3], [1, 1, 0], [2, 3, 1], [3, 2, 2], [4, 4, 4], [5, 5, 1]]
    >>> MRMR(2).fit(X, [0, 0, 0, 1, 1, 1]).ranking_.tolist()  # not the likeness of 0
    [0, 2]
    """

    def __init__(self, n_features: int = 10, scheme: str = "fcq") -> None:
        self.n_features = n_features
        self.scheme = scheme

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def fit(self, X: Any, y: Any) -> MRMR:
        """Choose the columns.

        Parameters
        ----------
        X : (n, p) array
            Training rows, no NaN.
        y : (n,) array
            Their classes.
        """
        n_features = integer("n_features", self.n_features, 1, 10**9)
        scheme = one_of("scheme", self.scheme, SCHEMES)
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        names, codes = np.unique(y, return_inverse=True)
        if len(names) < 2:
            what = f"needs two classes or more, found one class: {names.tolist()[0]!r}"
            raise CohortError(what, "`y`")
        self.ranking_ = mrmr(X, codes, n_features, scheme)
        self.support_ = np.zeros(X.shape[1], dtype=np.bool_)
        self.support_[self.ranking_] = True
        return self

"""Filters of features that are learned on training rows: constant, alike, volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from habitat._check import at_least, integer

_F64 = npt.NDArray[np.float64]
_Bools = npt.NDArray[np.bool_]

ROUND_OFF = 1e-12  # of the largest value of a column: a spread below is no spread


def midranks(X: npt.ArrayLike) -> _F64:
    """Rank each column from 1, equal values by the mean of their ranks.

    Parameters
    ----------
    X : (n,) or (n, p) array
        Finite numbers.

    Returns
    -------
    array of float64, like X

    Examples
    --------
    >>> from habitat.selection import midranks
    >>> midranks([7.0, 1.0, 7.0]).tolist()
    [2.5, 1.0, 2.5]
    """
    # by rows in memory: ten times faster than down the columns
    rows = np.ascontiguousarray(np.asarray(X).T)
    order = np.argsort(rows, axis=-1)
    ordered = np.take_along_axis(rows, order, axis=-1)
    last = np.ones(rows.shape, dtype=np.bool_)
    last[..., :-1] = ordered[..., 1:] != ordered[..., :-1]
    first = np.roll(last, 1, axis=-1)  # behind the last of a tie comes a first
    place = np.broadcast_to(np.arange(rows.shape[-1]), rows.shape)
    low = np.maximum.accumulate(np.where(first, place, 0), axis=-1)
    turned = np.where(last, place, rows.shape[-1])[..., ::-1]
    high = np.minimum.accumulate(turned, axis=-1)[..., ::-1]
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, (low + high) / 2.0 + 1.0, axis=-1)
    return np.ascontiguousarray(ranks.T)


def unit_columns(X: _F64) -> _F64:
    """Center each column and give it length 1; a constant one becomes zeros.

    The product of two such columns is their Pearson correlation.
    """
    centered = X - X.mean(axis=0)
    length = np.sqrt(np.einsum("ij,ij->j", centered, centered))
    constant = length <= ROUND_OFF * np.sqrt(len(X)) * np.abs(X).max(axis=0)
    result: _F64 = centered * np.where(constant, 0.0, 1.0 / (length + constant))
    return result


def separation(X: _F64, y: npt.ArrayLike) -> _F64:
    """How well each column alone tells the classes apart: ``abs(2 AUC - 1)``.

    For more than two classes the best of the comparisons of one class with the rest.
    Exact for equal separations, so that ties are ties.

    Examples
    --------
    >>> separation(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]), [0, 1, 1]).tolist()
    [1.0, 0.0]
    """
    names, codes = np.unique(np.asarray(y), return_inverse=True)
    if len(names) < 2:
        return np.zeros(X.shape[1])
    ones = codes == np.arange(1 if len(names) == 2 else 0, len(names))[:, None]
    n1 = ones.sum(axis=1)[:, None]
    n0 = len(codes) - n1
    wins = ones.astype(np.float64) @ midranks(X) - n1 * (n1 + 1) / 2.0
    best: _F64 = (np.abs(2.0 * wins - n1 * n0) / (n1 * n0)).max(axis=0)
    return best


def varying(X: _F64, min_variance: float) -> _Bools:
    """Mark the columns that `VarianceFilter` keeps."""
    square = np.einsum("ij,ij->j", X, X) / len(X)
    kept: _Bools = X.var(axis=0) > min_variance * np.minimum(square, 1.0)
    return kept


def uncorrelated(X: _F64, y: npt.ArrayLike | None, limit: float) -> _Bools:
    """Mark the columns that `CorrelationFilter` keeps."""
    units = unit_columns(X)
    r = units.T @ units
    np.abs(r, out=r)
    # a rounded mean, so that copies of a column tie
    worth = -r.mean(axis=0).round(10) if y is None else separation(X, y)
    alike = r > limit
    kept = np.zeros(len(r), dtype=np.bool_)
    free = np.ones(len(r), dtype=np.bool_)
    for column in np.argsort(-worth, kind="stable"):
        if free[column]:
            kept[column] = True
            free &= ~alike[column]
    return kept


def apart_from(X: _F64, volume: int, limit: float) -> _Bools:
    """Mark the columns that `VolumeFilter` keeps."""
    units = unit_columns(midranks(X))
    kept: _Bools = np.abs(units[:, volume] @ units) <= limit
    kept[volume] = False
    return kept


class _Filter(SelectorMixin, BaseEstimator):
    """Columns chosen once in `fit`: the mask `support_`."""

    def _get_support_mask(self) -> _Bools:
        check_is_fitted(self)
        support: _Bools = self.support_
        return support


class VarianceFilter(_Filter):
    """Keep the columns that vary.

    Parameters
    ----------
    min_variance : float
        A column is kept if its variance (of the population) is larger than this, or,
        where its mean square is below 1, larger than this times the mean square: what
        is measured in small units (mm2/s) is not constant for that.

    Attributes
    ----------
    support_ : (p,) array of bool
        The columns that are kept.

    Examples
    --------
    >>> from habitat.selection import VarianceFilter
    >>> VarianceFilter().fit_transform([[1.0, 0.001], [1.0, 0.002]]).tolist()
    [[0.001], [0.002]]
    """

    def __init__(self, min_variance: float = 1e-8) -> None:
        self.min_variance = min_variance

    def fit(self, X: Any, y: Any = None) -> VarianceFilter:
        """Find the columns that vary.

        Parameters
        ----------
        X : (n, p) array
            Training rows, no NaN.
        y : None
            Not used.
        """
        least = at_least("min_variance", self.min_variance, 0.0)
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.support_ = varying(X, least)
        return self


class CorrelationFilter(_Filter):
    """Of columns that say the same keep one.

    Of two columns with an absolute Pearson correlation above the limit, the one that
    alone tells the classes better apart stays (larger AUC or 1 - AUC; of more than two
    classes the best of one against the rest); without classes, the one with the lower
    mean correlation with all columns. Equals go to the earlier column. A column that
    was dropped drops no other.

    Parameters
    ----------
    limit : float
        Largest correlation that may stay.

    Attributes
    ----------
    support_ : (p,) array of bool
        The columns that are kept.

    Examples
    --------
    >>> from habitat.selection import CorrelationFilter
    >>> X = [[1.0, 1.1, 5.0], [2.0, 2.0, 1.0], [3.0, 3.2, 4.0], [4.0, 2.9, 2.0]]
    >>> CorrelationFilter(0.7).fit(X, [0, 0, 1, 1]).get_support().tolist()
    [True, False, True]
    """

    def __init__(self, limit: float = 0.9) -> None:
        self.limit = limit

    def fit(self, X: Any, y: Any = None) -> CorrelationFilter:
        """Find the columns to keep.

        Parameters
        ----------
        X : (n, p) array
            Training rows, no NaN.
        y : (n,) array, optional
            Their classes.
        """
        limit = at_least("limit", self.limit, 0.0)
        given = {} if y is None else {"y": y}
        checked = validate_data(
            self, X, **given, dtype=np.float64, ensure_min_samples=2
        )
        X, y = (checked, None) if y is None else checked
        if y is not None:
            check_classification_targets(y)
        self.support_ = uncorrelated(X, y, limit)
        return self


class VolumeFilter(_Filter):
    """Drop the columns that are volume in disguise, and the volume.

    Parameters
    ----------
    limit : float
        Largest absolute Spearman correlation with the volume that may stay.
    volume : int
        Place of the column with the volume.

    Attributes
    ----------
    support_ : (p,) array of bool
        The columns that are kept.

    Examples
    --------
    >>> from habitat.selection import VolumeFilter
    >>> X = [[1.0, 1.0, 2.0], [2.0, 4.0, 1.0], [3.0, 9.0, 3.0]]
    >>> VolumeFilter(0.9, volume=0).fit(X).get_support().tolist()
    [False, False, True]
    """

    def __init__(self, limit: float = 0.9, volume: int = 0) -> None:
        self.limit = limit
        self.volume = volume

    def fit(self, X: Any, y: Any = None) -> VolumeFilter:
        """Find the columns to keep.

        Parameters
        ----------
        X : (n, p) array
            Training rows, no NaN.
        y : None
            Not used.
        """
        limit = at_least("limit", self.limit, 0.0)
        X = validate_data(
            self, X, dtype=np.float64, ensure_min_samples=2, ensure_min_features=2
        )
        volume = integer("volume", self.volume, 0, X.shape[1] - 1)
        self.support_ = apart_from(X, volume, limit)
        return self

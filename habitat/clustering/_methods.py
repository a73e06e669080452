"""Clustering methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat._check import one_of
from habitat.clustering._clusters import Clustering
from habitat.clustering._gmm import GMMOptions
from habitat.clustering._kmeans import KMeansOptions
from habitat.clustering._otsu import OtsuOptions
from habitat.clustering._supervoxels import SupervoxelOptions
from habitat.errors import ConfigError

__all__ = ["METHODS", "Method", "find_method", "fit_method"]

Method: TypeAlias = Callable[
    [npt.NDArray[Any], int, np.random.Generator], Clustering | npt.ArrayLike
]

METHODS: dict[str, Method] = {
    "kmeans": KMeansOptions(),
    "gmm": GMMOptions(),
    "otsu": OtsuOptions(),
    "supervoxel": SupervoxelOptions(),
}
"""Name to ``f(X, k, rng)``, which returns labels 0..k-1 of the rows of X (n, d), or a
`Clustering`. Options of a method are such a function too, so ``method=`` takes the
name, the options object or a function of your own."""


_OWN = tuple(map(type, METHODS.values()))


def find_method(method: str | Method) -> Method:
    """Turn the name of a method into the method; raise ConfigError if it is none."""
    if isinstance(method, str):
        return METHODS[one_of("method", method, METHODS)]
    if callable(method) and not isinstance(method, type):
        return method
    names = ", ".join(map(repr, METHODS))
    what = f"must be one of {names}, options or a function, got {method!r}"
    raise ConfigError(what, "`method`")


def fit_method(
    method: str | Method, X: npt.NDArray[Any], k: int, random_state: int = 0
) -> Clustering:
    """Cluster rows by a method given as name, options object or function.

    Parameters
    ----------
    method : str or callable
        Key of `METHODS`, or ``f(X, k, rng)``, see there.
    X : (n, d) array
        Rows to cluster.
    k : int
        Number of clusters.
    random_state : int
        Seed of the generator that the method gets.

    Returns
    -------
    Clustering
        Where the method returned labels only, centers are the means and the objective
        is the sum of squared distances from them; the center of an unused label is NaN.

    Raises
    ------
    ConfigError
        If the method is unknown or returns labels that are not 0..k-1, one a row.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> fit_method(lambda X, k, rng: X[:, 0] > 5, X, 2).centers.tolist()
    [[0.5], [10.5]]
    """
    function = find_method(method)
    rows = X if type(function) in _OWN else X.copy()  # a function may write into it
    found = function(rows, k, np.random.default_rng(random_state))
    return found if isinstance(found, Clustering) else _from_labels(X, k, found)


def _from_labels(X: npt.NDArray[Any], k: int, found: npt.ArrayLike) -> Clustering:
    labels = np.asarray(found)
    where, fix = "`method`", "return one label 0..k-1 for each row of X"
    if labels.shape != (len(X),) or labels.dtype.kind not in "bui":
        what = f"returned labels of shape {labels.shape} and type {labels.dtype}"
        raise ConfigError(f"{what} for {len(X)} rows", where, fix)
    if labels.min() < 0 or labels.max() >= k:
        what = f"returned labels {labels.min()} to {labels.max()} for k={k}"
        raise ConfigError(what, where, fix)
    labels = labels.astype(np.uint8)
    centers = np.full((k, X.shape[1]), np.nan)
    for j in np.unique(labels):
        centers[j] = X[labels == j].mean(axis=0, dtype=np.float64)
    objective = float(((X - centers[labels]) ** 2).sum())
    return Clustering(labels, centers, objective, n_iter=0, converged=True)

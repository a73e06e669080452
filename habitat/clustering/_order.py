"""An order of voxels that depends on their values only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["canonical_order", "distinct_rows", "evenly"]


def canonical_order(X: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Order that sorts rows by the first channel, ties by the second, and so on.

    What is computed from ``X[canonical_order(X)]`` cannot depend on the order of the
    voxels: not on flips or permutations of the axes of their image. Equal rows come in
    any order, -0.0 equals 0.0.

    Parameters
    ----------
    X : (n, d) array
        Channel values, at least one channel, no NaN.

    Returns
    -------
    (n,) array of int
        As ``numpy.lexsort(X.T[::-1])``, but several times faster where ties are few.

    Examples
    --------
    >>> import numpy as np
    >>> canonical_order(np.array([[2.0, 1.0], [1.0, 5.0], [1.0, 3.0]])).tolist()
    [2, 1, 0]
    """
    first = np.ascontiguousarray(X[:, 0])
    order = np.argsort(first)
    if X.shape[1] == 1:
        return order
    values = first[order]
    same = values[1:] == values[:-1]
    if not same.any():
        return order
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    rows = order[tied]
    inner = canonical_order(X[rows, 1:])
    group = np.cumsum(~np.append(False, same))[tied][inner]
    outer = np.argsort(group * group.size + np.arange(group.size))  # a stable sort
    order[tied] = rows[inner[outer]]
    return order


def distinct_rows(X: npt.NDArray[Any]) -> int:
    """Count the distinct rows of an array whose rows are sorted.

    Parameters
    ----------
    X : (n, d) array
        Equal rows stand together, as after `canonical_order`.

    Examples
    --------
    >>> import numpy as np
    >>> distinct_rows(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]]))
    2
    """
    if not len(X):
        return 0
    return 1 + int((X[1:] != X[:-1]).any(axis=1).sum())


def evenly(n: int, m: int) -> npt.NDArray[np.intp]:
    """Positions of m rows at even steps through n rows, the same row again if m > n.

    Examples
    --------
    >>> evenly(6, 3).tolist(), evenly(2, 4).tolist()
    ([1, 3, 5], [0, 0, 1, 1])
    """
    return (2 * np.arange(m) + 1) * n // (2 * m)

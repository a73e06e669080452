"""How well two labelings of the same voxels agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.errors import InputError


def contingency(
    a: npt.NDArray[Any], b: npt.NDArray[Any], k: int
) -> npt.NDArray[np.float64]:
    """Count rows with label i in `a` and j in `b`, labels 0..k-1; (k, k)."""
    pairs = np.asarray(a, dtype=np.int64) * k + b
    return np.bincount(pairs, minlength=k * k).reshape(k, k).astype(np.float64)


def adjusted_rand(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the adjusted Rand index of two labelings (Hubert & Arabie 1985).

    Parameters
    ----------
    a, b : array of int, shape (n,)
        Labels; their numbering does not matter.

    Returns
    -------
    float
        1 for the same partition, 0 in the mean for unrelated ones.

    Raises
    ------
    InputError
        If the lengths differ or are zero.

    Examples
    --------
    >>> from habitat.agreement import adjusted_rand
    >>> adjusted_rand([1, 1, 2, 2], [7, 7, 3, 3])
    1.0
    """
    first, second = np.ravel(a), np.ravel(b)
    if first.size != second.size or first.size == 0:
        what = f"labelings have {first.size} and {second.size} voxels"
        raise InputError(what, "adjusted_rand", "give the same voxels twice")
    rows = np.unique(first, return_inverse=True)[1].ravel()
    columns = np.unique(second, return_inverse=True)[1].ravel()
    table = contingency(rows, columns, int(max(rows.max(), columns.max())) + 1)
    n = first.size
    together, in_a, in_b = (
        float((c * (c - 1) / 2).sum()) for c in (table, table.sum(1), table.sum(0))
    )
    chance, most = in_a * in_b / max(n * (n - 1) / 2, 1), (in_a + in_b) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)

"""Connected components of a graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["join"]

_I64 = npt.NDArray[np.int64]


@jit
def join(
    first: _I64,  # IN (edges,)
    second: _I64,  # IN (edges,)
    root: _I64,  # IN/OUT (n,) lowest member of each node's component
) -> None:
    """Join the components of the two ends of each edge (union-find)."""
    for e in range(first.size):
        a, b = first[e], second[e]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        root[max(a, b)] = min(a, b)
    for i in range(root.size):  # roots are lower than their members
        root[i] = root[root[i]]

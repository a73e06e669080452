"""What a clustering returns, whatever method made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Clustering", "Rule"]

_F64 = npt.NDArray[np.float64]


class Rule(Protocol):
    """What a fit has learned: how a row gets its cluster.

    Rules are frozen dataclasses whose fields are arrays, so that they can be saved.
    """

    @property
    def k(self) -> int:
        """Number of clusters."""

    def labels(self, X: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Cluster 0..k-1 of each row of X (n, d), finite."""

    def take(self, order: npt.NDArray[np.intp]) -> Rule:
        """Return the rule with its clusters renumbered: the new j is old order[j]."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Clusters of rows.

    Parameters
    ----------
    labels : (n,) array of uint8
        Cluster of each row, 0..k-1.
    centers : (k, d) array of float64
        Cluster centers; NaN for a number that no row has.
    objective : float
        Sum of squared distances of the rows from their centers; of a mixture the
        log-likelihood.
    n_iter : int
        Iterations of the run that was kept.
    converged : bool
        Whether another iteration would change nothing.
    rule : Rule or None
        Gives other rows their cluster, and these rows these labels; None where a
        method of your own returned labels only.
    """

    labels: npt.NDArray[np.uint8]
    centers: _F64
    objective: float
    n_iter: int
    converged: bool
    rule: Rule | None = None

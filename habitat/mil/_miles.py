"""MILES: bags by their likeness to each training instance (Chen 2006)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least
from habitat.mil._bags import Instances
from habitat.mil._heads import Scale, gram
from habitat.selection._linear import Linear, fit_logistic

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Miles:
    """Logits linear in the likeness to a few training instances.

    The score of an instance is what a bag of it alone would get.
    """

    scale: Scale
    prototypes: _F64
    head: Linear
    gamma: float
    margins = False

    def scores(self, bags: Instances) -> _F64:
        """Score of each bag."""
        like = gram(self.scale.of(bags.X), self.prototypes, self.gamma)
        return self.head.scores(bags.maxima(like))

    def instances(self, bags: Instances) -> _F64:
        """Score of each instance."""
        return self.scores(bags.each())


def fit_miles(
    bags: Instances,
    codes: _Ints,
    *,
    C: float,
    class_weight: Any,
    gamma: float,
) -> Miles:
    """Fit a LASSO to the likeness of bags to all instances."""
    gamma = at_least("gamma", gamma, 1e-9)
    scale = Scale.fit(bags.X)
    Z = scale.of(bags.X)
    like = bags.maxima(gram(Z, Z, gamma))
    found = fit_logistic(like, codes, C, 1.0, class_weight)
    kept = found.coefficients[0] != 0
    return Miles(
        scale, Z[kept], Linear(found.coefficients[:, kept], found.intercepts), gamma
    )

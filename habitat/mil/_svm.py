"""Maximum margins over bags: mi-SVM and MI-SVM (Andrews 2003)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import integer, one_of
from habitat.mil._bags import Instances
from habitat.mil._heads import KERNELS, Machine, Scale, gram, machine, ridge
from habitat.selection._linear import class_weights

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

START = 5.0  # C of the logistic regression that MI-SVM starts from


@dataclass(frozen=True, eq=False)
class MarginModel:
    """A support vector machine of instances; a bag has the score of its highest one.

    The score of an instance is its margin, positive for the second class.
    """

    scale: Scale
    head: Machine
    notes: tuple[str, ...] = ()
    margins = True

    def scores(self, bags: Instances) -> _F64:
        """Score of each bag."""
        return bags.maxima(self.instances(bags))

    def instances(self, bags: Instances) -> _F64:
        """Score of each instance."""
        return self.head.scores(self.scale.of(bags.X))


def fit_mi_svm(
    bags: Instances,
    codes: _Ints,
    *,
    C: float,
    class_weight: Any,
    kernel: str,
    max_iter: int,
) -> MarginModel:
    """mi-SVM: instances of positive bags get labels of their own, one is positive."""
    scale, Z, gamma = _prepared(bags, kernel)
    K = gram(Z, Z, gamma)
    labels = codes[bags.bag]
    positive = codes == 1

    def relabel(f: _F64) -> _Ints:
        top = np.zeros(len(f), dtype=bool)
        top[highest(bags, f)] = True
        none = bags.maxima(f) <= 0
        return np.where(
            positive[bags.bag] & ((f > 0) | (top & none[bags.bag])), 1, 0
        ).astype(np.intp)

    for _ in range(integer("max_iter", max_iter, 1, 10_000)):
        model = machine(Z, labels, C, gamma, class_weight, K)
        now = relabel(model.scores(Z))
        if (now == labels).all():
            return MarginModel(scale, model)
        labels = now
    return MarginModel(scale, model, (_NOTE.format(max_iter),))


def fit_max_svm(
    bags: Instances,
    codes: _Ints,
    *,
    C: float,
    class_weight: Any,
    kernel: str,
    max_iter: int,
) -> MarginModel:
    """MI-SVM: each positive bag is one instance, the highest.

    The first ones are those of a logistic regression of bag means: means in place of
    instances (Andrews 2003) lie so close together that a kernel of radial functions
    learns their spread, and never gets to the witnesses.
    """
    scale, Z, gamma = _prepared(bags, kernel)
    K = gram(Z, Z, gamma)
    positive = np.flatnonzero(codes == 1)
    negative = np.flatnonzero(codes[bags.bag] == 0)
    means = bags.sums(Z) / bags.sizes[:, None]
    first = ridge(means, codes, START, class_weights(codes, class_weight))
    witnesses = highest(bags, first.scores(Z))[positive]
    labels = np.repeat([0, 1], [len(negative), len(positive)])
    for _ in range(integer("max_iter", max_iter, 1, 10_000)):
        rows = np.concatenate([negative, witnesses])
        model = machine(Z[rows], labels, C, gamma, class_weight, K[np.ix_(rows, rows)])
        now = highest(bags, model.scores(Z))[positive]
        if (now == witnesses).all():
            return MarginModel(scale, model)
        witnesses = now
    return MarginModel(scale, model, (_NOTE.format(max_iter),))


_NOTE = "witnesses still changed after {} rounds"


def _prepared(bags: Instances, kernel: str) -> tuple[Scale, _F64, float]:
    scale = Scale.fit(bags.X)
    gamma = 1.0 if one_of("kernel", kernel, KERNELS) == "rbf" else 0.0
    return scale, scale.of(bags.X), gamma


def highest(bags: Instances, f: _F64) -> _Ints:
    """The row of the highest value of each bag; of equal ones the first."""
    return np.array(
        [a + f[a:b].argmax() for a, b in zip(bags.start, bags.start[1:], strict=False)]
    )

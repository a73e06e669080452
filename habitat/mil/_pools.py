"""Embeddings: one row of features for each bag."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat._check import one_of
from habitat.errors import ConfigError
from habitat.mil._bags import Instances
from habitat.mil._heads import KERNELS, Machine, Scale, gram, machine, ridge
from habitat.selection._linear import Linear, class_weights, softmax

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]
Pool: TypeAlias = Callable[[_F64, "_F64 | None"], _F64]

HEADS = ("logistic", "svm")


def _quantile(q: float) -> Pool:
    return lambda X, _: np.quantile(X, q, axis=-2)


def _weighted_mean(X: _F64, weights: _F64 | None) -> _F64:
    if weights is None:
        what = "'weighted_mean' needs weights of the instances"
        raise ConfigError(what, "`pools`", "give Bags `weights`, such as volumes")
    share = weights / weights.sum(axis=-1, keepdims=True)
    result: _F64 = (X * share[..., None]).sum(axis=-2)
    return result


# (..., n_i, p) instances and their (..., n_i) weights -> (..., p)
POOLS: dict[str, Pool] = {
    "mean": lambda X, _: X.mean(axis=-2),
    "min": lambda X, _: X.min(axis=-2),
    "max": lambda X, _: X.max(axis=-2),
    "sd": lambda X, _: X.std(axis=-2),
    **{f"q{q}": _quantile(q / 100.0) for q in (10, 25, 50, 75, 90)},
    "weighted_mean": _weighted_mean,
}


def check_pools(pools: Sequence[str | Pool]) -> tuple[str | Pool, ...]:
    """Raise ConfigError unless these are names out of `POOLS` or functions."""
    if isinstance(pools, str) or not len(pools):
        what = f"must be a sequence of pools, got {pools!r}"
        raise ConfigError(what, "`pools`", "such as ('mean', 'max')")
    return tuple(p if callable(p) else one_of("pools", p, POOLS) for p in pools)


def pooled(bags: Instances, pools: Sequence[str | Pool]) -> _F64:
    """Embed bags: the results of all pools side by side, (n_bags, n_pools * p)."""
    out = np.empty((len(bags.sizes), len(pools), bags.X.shape[1]))
    for size in np.unique(bags.sizes):  # bags of one size at once
        which = np.flatnonzero(bags.sizes == size)
        rows = bags.start[which][:, None] + np.arange(size)
        weights = None if bags.weights is None else bags.weights[rows]
        for i, pool in enumerate(pools):
            if isinstance(pool, str):
                out[which, i] = POOLS[pool](bags.X[rows], weights)
            else:
                for b, r in zip(which, rows, strict=True):
                    out[b, i] = pool(
                        bags.X[r], None if bags.weights is None else bags.weights[r]
                    )
    return out.reshape(len(out), -1)


@dataclass(frozen=True, eq=False)
class Embedding:
    """A classifier of pooled features.

    The score of an instance is what a bag of it alone would get.
    """

    pools: tuple[str | Pool, ...]
    scale: Scale
    head: Linear | Machine

    @property
    def margins(self) -> bool:
        """Whether scores are margins, no logits."""
        return isinstance(self.head, Machine)

    def scores(self, bags: Instances) -> _F64:
        """Score of each bag."""
        return self.head.scores(self.scale.of(pooled(bags, self.pools)))

    def instances(self, bags: Instances) -> _F64:
        """Score of each instance."""
        return as_one(self.scores(bags.each()))


def as_one(scores: _F64) -> _F64:
    """One number for each row: the logit, or of more classes their mean place, 0-1."""
    if scores.ndim == 1:
        return scores
    places = np.linspace(0.0, 1.0, scores.shape[1])
    result: _F64 = (softmax(scores) * places).sum(axis=1)
    return result


def fit_embedding(
    bags: Instances,
    codes: _Ints,
    *,
    C: float,
    class_weight: Any,
    pools: tuple[str | Pool, ...],
    head: str,
    kernel: str,
) -> Embedding:
    """Pool the instances, fit the head."""
    E = pooled(bags, pools)
    scale = Scale.fit(E)
    Z = scale.of(E)
    if one_of("head", head, HEADS) == "svm":
        gamma = 1.0 if one_of("kernel", kernel, KERNELS) == "rbf" else 0.0
        svm = machine(Z, codes, C, gamma, class_weight, gram(Z, Z, gamma))
        return Embedding(pools, scale, svm)
    return Embedding(
        pools, scale, ridge(Z, codes, C, class_weights(codes, class_weight))
    )

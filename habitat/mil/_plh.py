"""Histograms and words of instance probabilities (PLH, BoW)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from habitat._check import at_least, integer
from habitat.errors import ConfigError
from habitat.mil._bags import Instances
from habitat.mil._heads import Scale, ridge
from habitat.mil._pools import as_one
from habitat.selection._inner import inner_folds
from habitat.selection._linear import Linear, class_weights, softmax

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

QUANTILES = (0.25, 0.5, 0.75)


def plh_bow(
    probabilities: npt.ArrayLike,
    bag: npt.ArrayLike,
    *,
    bins: int = 20,
    soft: float = 0.0,
    weights: npt.ArrayLike | None = None,
    idf: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """Turn instance probabilities, from whatever model, into features of bags.

    Use probabilities of instances that the model was **not** trained on, also for the
    training bags: those of its own training are too good and teach nothing.

    Parameters
    ----------
    probabilities : (n,) array
        Probability of the positive class for each instance.
    bag : (n,) array of int
        Bag of each instance, 0 to the number of bags - 1.
    bins : int
        Equal bins on [0, 1], the same for all bags.
    soft : float
        Standard deviation in probability by which an instance is spread over the bins;
        0 puts it in one.
    weights : (n,) array, optional
        For the weighted mean, such as volumes.
    idf : (bins,) array, optional
        Rarity of each bin among the training bags; by default learned from these bags
        and given as ``.attrs["idf"]``.

    Returns
    -------
    DataFrame
        One row for each bag: shares of instances in each bin (``plh_0``...), words
        (``bow_0``..., TF-IDF of the bins, rows of length 1), ``positive`` (share of
        0.5 and more), ``mean``, ``max``, ``min``, ``top`` (mean of the highest
        quarter), quartiles, ``noisy_or`` and, with weights, ``weighted_mean``.

    Examples
    --------
    >>> from habitat.mil import plh_bow
    >>> made = plh_bow([0.1, 0.9, 0.2], [0, 0, 1], bins=2)
    >>> made[["plh_0", "plh_1", "max"]].to_numpy().tolist()
    [[0.5, 0.5, 0.9], [1.0, 0.0, 0.2]]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    which = np.asarray(bag)
    if p.ndim != 1 or p.shape != which.shape or not p.size:
        what = f"has shape {p.shape}, `bag` {which.shape}"
        raise ConfigError(what, "`probabilities`", "one of each for every instance")
    counts = np.bincount(which)
    if not counts.all():
        what = f"{(counts == 0).sum()} of {len(counts)} bags have no instance"
        raise ConfigError(what, "`bag`", "number the bags from 0 without gaps")
    w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.lexsort((w, p, which))
    start = np.concatenate([[0], np.cumsum(counts)])
    bags = Instances(
        p[order][:, None], start, None if weights is None else w[order], order
    )
    given = None if idf is None else np.asarray(idf, dtype=np.float64)
    table, learned = described(bags, bins, soft, given)
    table.attrs["idf"] = learned
    return table


def described(
    bags: Instances, bins: int, soft: float, idf: _F64 | None
) -> tuple[pd.DataFrame, _F64]:
    """Features of bags whose instances are one probability each; the idf."""
    p = bags.X[:, 0]
    if not ((p >= 0) & (p <= 1)).all():
        raise ConfigError("must be in [0, 1]", "probabilities")
    bins, soft = integer("bins", bins, 2, 1000), at_least("soft", soft, 0.0)
    counts = bags.sums(_binned(p, bins, soft))
    if idf is None:
        df = (counts > 1e-6).sum(axis=0)
        idf = np.log((1.0 + len(counts)) / (1.0 + df)) + 1.0
    words = counts * idf
    words /= np.sqrt((words**2).sum(axis=1, keepdims=True))
    size = bags.sizes
    made = {f"plh_{i}": counts[:, i] / size for i in range(bins)}
    made |= {f"bow_{i}": words[:, i] for i in range(bins)}
    made["positive"] = bags.sums((p >= 0.5).astype(float)) / size
    made["mean"] = bags.sums(p) / size
    made["max"] = bags.maxima(p)
    made["min"] = -bags.maxima(-p)
    parts = [np.sort(p[a:b]) for a, b in zip(bags.start, bags.start[1:], strict=False)]
    made["top"] = np.array([part[-max(1, len(part) // 4) :].mean() for part in parts])
    for q in QUANTILES:
        made[f"q{q * 100:.0f}"] = np.array([np.quantile(part, q) for part in parts])
    with np.errstate(divide="ignore"):
        made["noisy_or"] = -np.expm1(bags.sums(np.log1p(-p)))
    if bags.weights is not None:
        made["weighted_mean"] = bags.sums(p * bags.weights) / bags.sums(bags.weights)
    return pd.DataFrame(made), idf


def _binned(p: _F64, bins: int, soft: float) -> _F64:
    """(n, bins) shares of each instance."""
    if soft == 0.0:
        return np.eye(bins)[np.minimum((p * bins).astype(np.intp), bins - 1)]
    centers = (np.arange(bins) + 0.5) / bins
    share = np.exp(-0.5 * ((p[:, None] - centers) / soft) ** 2) + 1e-300
    result: _F64 = share / share.sum(axis=1, keepdims=True)
    return result


@dataclass(frozen=True, eq=False)
class Histograms:
    """An instance model and a classifier of the histograms of its probabilities.

    The score of an instance is the probability of the second class (of more classes
    their mean place, 0 to 1).
    """

    scale: Scale | None  # None: instances are probabilities already
    instance: Linear | None
    bag_scale: Scale
    head: Linear
    idf: _F64  # (outputs, bins)
    soft: float
    margins = False

    def _probabilities(self, bags: Instances) -> _F64:
        if self.scale is None or self.instance is None:
            return bags.X
        return _outputs(self.instance.scores(self.scale.of(bags.X)))

    def scores(self, bags: Instances) -> _F64:
        """Score of each bag."""
        E, _ = _features(bags, self._probabilities(bags), self.soft, self.idf)
        return self.head.scores(self.bag_scale.of(E))

    def instances(self, bags: Instances) -> _F64:
        """Score of each instance."""
        if self.instance is None or self.scale is None:
            P = bags.X
        else:
            P = softmax(self.instance.scores(self.scale.of(bags.X)))
        if P.shape[1] <= 2:
            return P[:, -1]
        return as_one(np.log(np.maximum(P, 1e-300)))


def _outputs(scores: _F64) -> _F64:
    """Probabilities of the second class, or of each of more."""
    P = softmax(scores)
    return P[:, 1:] if P.shape[1] == 2 else P


def _features(
    bags: Instances, P: _F64, soft: float, idf: _F64 | int
) -> tuple[_F64, _F64]:
    """Features for each column of probabilities; `idf`: their number where unknown."""
    made = []
    for i, p in enumerate(P.T):
        known = None if isinstance(idf, int) else idf[i]
        bins = idf if isinstance(idf, int) else idf.shape[1]
        order = np.lexsort((p, bags.bag))  # canonical, whatever the features were
        weights = None if bags.weights is None else bags.weights[order]
        one = bags._replace(X=p[order][:, None], weights=weights)
        made.append(described(one, bins, soft, known))
    return (
        np.concatenate([table.to_numpy() for table, _ in made], axis=1),
        np.array([learned for _, learned in made]),
    )


def fit_histograms(
    bags: Instances,
    codes: _Ints,
    *,
    C: float,
    class_weight: Any,
    seed: int,
    bins: int,
    soft: float,
    external: bool,
) -> Histograms:
    """Fit to out-of-fold instance probabilities of the training bags."""
    scale = model = None
    if external:
        P = bags.X
    else:
        P, scale, model = _out_of_fold(bags, codes, C, class_weight, seed)
    E, idf = _features(bags, P, soft, integer("bins", bins, 2, 1000))
    bag_scale = Scale.fit(E)
    head = ridge(bag_scale.of(E), codes, C, class_weights(codes, class_weight))
    return Histograms(scale, model, bag_scale, head, idf, float(soft))


def _out_of_fold(
    bags: Instances, codes: _Ints, C: float, class_weight: Any, seed: int
) -> tuple[_F64, Scale, Linear]:
    """Probabilities by models that did not see the bag, and the model of all bags."""

    def fit(part: Instances, y: _Ints) -> tuple[Scale, Linear]:
        scale = Scale.fit(part.X)
        each = class_weights(y, class_weight)[part.bag] / part.sizes[part.bag]
        return scale, ridge(scale.of(part.X), y[part.bag], C, each)

    folds, _ = inner_folds(codes, None, 5, seed)
    P = np.empty((len(bags.X), 1 if codes.max() == 1 else int(codes.max()) + 1))
    for train, test in folds:
        scale, model = fit(bags.take(train), codes[train])
        held = bags.take(test)
        P[np.isin(bags.bag, test)] = _outputs(model.scores(scale.of(held.X)))
    return P, *fit(bags, codes)

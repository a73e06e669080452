"""Inner cross-validation: the strength of the penalty and out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from habitat.classifiers._models import Kernel, fit_model
from habitat.classifiers._steps import Options, Steps, learn_steps
from habitat.selection._inner import Folds, offsets, shifted
from habitat.selection._linear import (
    WEAKEST,
    Linear,
    class_weights,
    fit_logistic,
    fit_path,
    strongest,
)

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

N_STRENGTHS = 20


@dataclass(frozen=True, eq=False)
class Training:
    """Training rows and what the model shall be."""

    X: _F64
    codes: _Ints
    sites: Any
    options: Options
    model: Any
    l1_ratio: float | None
    class_weight: Any
    random_state: int

    def weight(self) -> _F64:
        """Weights of the rows."""
        return class_weights(self.codes, self.class_weight)

    def part(self, rows: _Ints) -> tuple[Steps, _F64]:
        """Steps learned on some rows, and all rows after them."""
        sites = None if self.sites is None else self.sites[rows]
        steps = learn_steps(self.X[rows], self.codes[rows], sites, self.options)
        return steps, steps.apply(self.X[:, steps.kept], self.sites, leave_unseen=True)

    def path(self, Z: _F64, rows: _Ints, strengths: _F64) -> list[Linear]:
        """Logistic regressions on some rows, one per strength."""
        ratio = float(self.l1_ratio or 0.0)
        weight = self.weight()[rows]
        return fit_path(Z[rows], self.codes[rows], strengths, ratio, weight)

    def losses(self, models: list[Linear], Z: _F64, rows: _Ints) -> _F64:
        """Weighted mean log loss of each model on rows that it has not seen."""
        y, weight = self.codes[rows], self.weight()[rows]
        own = [model.probabilities(Z)[np.arange(len(y)), y] for model in models]
        logs = -np.log(np.maximum(own, 1e-300))
        result: _F64 = logs @ (weight / weight.sum())
        return result

    def fitted(self, Z: _F64, rows: _Ints, net: Linear | None) -> tuple[_Ints, Any]:
        """The columns that the penalty leaves and the model on them."""
        every = np.arange(Z.shape[1])
        if net is not None:
            every = np.flatnonzero((net.coefficients != 0.0).any(axis=0))
        if net is not None and (self.model == "logistic" or every.size == 0):
            return every, Linear(net.coefficients[:, every], net.intercepts)
        Z, y = Z[rows][:, every], self.codes[rows]
        if isinstance(self.model, str) and self.model == "logistic":
            return every, fit_logistic(Z, y, class_weight=self.class_weight)
        how = (self.class_weight, self.random_state)
        return every, fit_model(self.model, Z, y, *how)


@dataclass(frozen=True, eq=False)
class Learned:
    """Everything that predicts, and what is told of it."""

    steps: Steps
    model: Any
    offsets: _F64  # of the logits of the classes
    oof: _F64  # (n, C) calibrated out-of-fold probabilities
    strength: float | None
    notes: tuple[str, ...]

    def probabilities(self, X: _F64, sites: Any) -> _F64:
        """Calibrated probabilities of rows of the columns kept."""
        p = self.model.probabilities(self.steps.apply(X, sites))
        return shifted(p, self.offsets) if self.offsets.any() else p


def learn(training: Training, folds: Folds) -> Learned:
    """Choose the strength of the penalty, fit, calibrate.

    Parameters
    ----------
    training : Training
    folds : list of (train, test)
        Inner folds: in each, every step is learned anew on its training part.
    """
    t = training
    every = np.arange(len(t.X))
    steps, Z = t.part(every)
    inner = [t.part(train)[1] for train, _ in folds]
    if Z.shape[1] == 0:
        return _constant(t, steps)
    tuned = _tuned(t, Z, inner, folds)
    kept, model = t.fitted(Z, every, tuned.whole)
    oof = np.empty((len(t.X), int(t.codes.max()) + 1))
    decisions = np.zeros((len(t.X), 1 if oof.shape[1] == 2 else oof.shape[1]))
    for z, (train, test), net in zip(inner, folds, tuned.inner, strict=True):
        columns, one = t.fitted(z, train, net)
        oof[test] = one.probabilities(z[test][:, columns])
        if isinstance(one, Kernel):
            decisions[test] = one.scores(z[test][:, columns])
    if isinstance(model, Kernel):
        model = model.calibrated(decisions, t.codes)
        oof = model.sigmoids(decisions)
    offset = offsets(oof, t.codes)
    oof = shifted(oof, offset)
    if isinstance(model, Linear):  # they are a part of its intercepts
        more = offset[1:] if len(model.intercepts) == 1 else offset
        model, offset = Linear(model.coefficients, model.intercepts + more), 0 * offset
    return Learned(steps.take(kept), model, offset, oof, tuned.strength, tuned.notes)


class _Tuned(NamedTuple):
    """Logistic regressions at the chosen strength; None where nothing is penalized."""

    whole: Linear | None
    inner: Sequence[Linear | None]
    strength: float | None = None
    notes: tuple[str, ...] = ()


def _tuned(t: Training, Z: _F64, inner: list[_F64], folds: Folds) -> _Tuned:
    """Choose the strength by the log loss over the inner folds."""
    if t.l1_ratio is None:
        return _Tuned(None, [None] * len(folds))
    top = strongest(Z, t.codes, t.l1_ratio, t.weight())
    strengths = max(top, 1e-12) * np.geomspace(1.0, WEAKEST, N_STRENGTHS)
    paths, losses = [], []
    for z, (train, test) in zip(inner, folds, strict=True):
        paths.append(t.path(z, train, strengths))
        losses.append(t.losses(paths[-1], z[test], test))
    # not one standard error sparser: that leaves probabilities too near the shares
    at = int(np.mean(losses, axis=0).argmin())  # of equal ones the sparsest
    notes: tuple[str, ...] = ()
    if at == 0 and t.l1_ratio > 0:
        notes = ("the inner folds keep no feature: the strongest one is kept",)
        at = 1
    whole = t.path(Z, np.arange(len(Z)), strengths[: at + 1])[at]
    return _Tuned(whole, [path[at] for path in paths], float(strengths[at]), notes)


def _constant(t: Training, steps: Steps) -> Learned:
    """The shares of the classes for everybody."""
    share = np.bincount(t.codes) / len(t.codes)
    logits = np.log(share / share[0])[1 if len(share) == 2 else 0 :]
    model = Linear(np.zeros((len(logits), 0)), logits)
    note = "no feature is left: every case gets the shares of the classes"
    oof = np.tile(share, (len(t.codes), 1))
    return Learned(steps, model, np.zeros(len(share)), oof, None, (note,))

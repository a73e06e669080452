"""What is learned between features and a model: gaps, sites, scales, choice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.selection import ComBat
from habitat.selection._filters import apart_from, uncorrelated, varying
from habitat.selection._mrmr import mrmr

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

MIN_VARIANCE = 1e-8


@dataclass(frozen=True)
class Options:
    """Settings of the steps, checked.

    Parameters
    ----------
    n_features : int or None
        Most features that mRMR leaves; None: no mRMR.
    max_correlation, max_volume : float or None
        Largest correlation with another feature and with the volume.
    reliable : (p,) array of bool or None
        Features whose ICC is high enough.
    volume : int or None
        Column of the volume.
    harmonize : bool
        Whether ComBat runs.
    """

    n_features: int | None
    max_correlation: float | None
    max_volume: float | None
    reliable: npt.NDArray[np.bool_] | None
    volume: int | None
    harmonize: bool


@dataclass(frozen=True, eq=False)
class Steps:
    """Learned steps.

    Parameters
    ----------
    kept : (m,) array of int
        Columns that are left.
    medians, means, sds : (m,) arrays
        Of these columns: what fills gaps, and the scale.
    combat : ComBat or None
        For these columns.
    """

    kept: _Ints
    medians: _F64
    means: _F64
    sds: _F64
    combat: ComBat | None

    def apply(self, X: _F64, sites: Any = None, *, leave_unseen: bool = False) -> _F64:
        """Standardize rows of the columns that are left, (n, m) to (n, m).

        `leave_unseen`: what an inner fold does with a site that its training part
        lacks: its rows stay as they are.
        """
        X = filled(X, self.medians)
        if self.combat is not None and X.shape[1]:
            seen = np.isin(sites, self.combat.site_names_) | (not leave_unseen)
            X[seen] = self.combat.transform(X[seen], np.asarray(sites)[seen])
        result: _F64 = (X - self.means) / self.sds
        return result

    def take(self, columns: _Ints) -> Steps:
        """The same for some of the columns that are left."""
        combat = None if self.combat is None else part_of(self.combat, columns)
        return replace(
            self,
            kept=self.kept[columns],
            medians=self.medians[columns],
            means=self.means[columns],
            sds=self.sds[columns],
            combat=combat,
        )


def learn_steps(X: _F64, codes: _Ints, sites: Any, options: Options) -> Steps:
    """Learn all steps on training rows.

    Parameters
    ----------
    X : (n, p) array
        Features as given; NaN where there is no value.
    codes : (n,) array of int
        Classes, 0 to C - 1.
    sites : (n,) array or None
        Their sites, if ComBat runs.
    options : Options
    """
    middle = medians(X)
    X = filled(X, middle)
    combat = None
    if options.harmonize:
        combat = ComBat().fit(X, sites)
        X = combat.transform(X, sites)
    kept = np.flatnonzero(_allowed(X, options))
    if options.max_correlation is not None and kept.size:
        kept = kept[uncorrelated(X[:, kept], codes, options.max_correlation)]
    if options.n_features is not None and kept.size > options.n_features:
        kept = kept[np.sort(mrmr(X[:, kept], codes, options.n_features))]
    X = X[:, kept]
    combat = None if combat is None else part_of(combat, kept)
    return Steps(kept, middle[kept], X.mean(axis=0), X.std(axis=0), combat)


def _allowed(X: _F64, options: Options) -> npt.NDArray[np.bool_]:
    """Features that vary, are measured reliably and are no volume in disguise."""
    kept = varying(X, MIN_VARIANCE)
    if options.reliable is not None:
        kept &= options.reliable
    if options.max_volume is not None and options.volume is not None:
        kept &= apart_from(X, options.volume, options.max_volume)
    return kept


def medians(X: _F64) -> _F64:
    """Median of the values of each column that are there; 0 where there is none."""
    ordered = np.sort(X, axis=0)  # NaN last
    count = np.isfinite(X).sum(axis=0)
    column = np.arange(X.shape[1])
    low = ordered[np.maximum(count - 1, 0) // 2, column]
    high = ordered[np.minimum(count // 2, len(X) - 1), column]
    return np.where(count > 0, low + (high - low) / 2.0, 0.0)


def filled(X: _F64, values: _F64) -> _F64:
    """X with the value of its column in place of NaN."""
    return np.where(np.isnan(X), values, X)


def part_of(combat: ComBat, columns: _Ints) -> ComBat:
    """A fitted ComBat for some of its columns."""
    return make_combat(
        combat.site_names_,
        combat.grand_mean_[columns],
        combat.pooled_sd_[columns],
        combat.gamma_[:, columns],
        combat.delta_[:, columns],
    )


def make_combat(
    site_names: npt.NDArray[np.str_],
    grand_mean: _F64,
    pooled_sd: _F64,
    gamma: _F64,
    delta: _F64,
) -> ComBat:
    """A fitted ComBat out of its arrays."""
    made = ComBat()
    made.site_names_, made.grand_mean_, made.pooled_sd_ = (
        site_names,
        grand_mean,
        pooled_sd,
    )
    made.gamma_, made.delta_ = gamma, delta
    made.n_features_in_ = len(grand_mean)
    return made

"""ComBat: bring features of several sites to a common mean and spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from habitat.errors import CohortError, ConfigError, HabitatError, ModelError
from habitat.selection._filters import ROUND_OFF

_F64 = npt.NDArray[np.float64]

FEW = 10  # cases: a site with fewer is shifted, not scaled
TOLERANCE, MAX_ITER = 1e-12, 1000


class ComBat(OneToOneFeatureMixin, BaseEstimator):
    """Remove the shift and the scale that each site gives to a feature.

    Each feature is standardized over all training cases, the shift and the variance of
    each site are shrunk towards those that the site has over all features (empirical
    Bayes), and taken out. The outcome is never looked at, nor are other covariates.

    Parameters
    ----------
    mean_only : "auto" or bool
        True: only shifts are removed; False: shifts and scales, of every site with two
        cases; "auto": of sites with fewer than 10 cases only the shift.

    Attributes
    ----------
    site_names_ : (s,) array of str
        The sites, sorted.
    grand_mean_ : (p,) array
        Mean of each feature.
    pooled_sd_ : (p,) array
        Standard deviation within the sites; 1 for a feature that has none.
    gamma_ : (s, p) array
        Shifts of the sites, in `pooled_sd_`.
    delta_ : (s, p) array
        Variances of the sites, in ``pooled_sd_**2``.
    notes_ : tuple of str
        What was done differently, in words.
    n_features_in_, feature_names_in_ : int, array
        Number of features seen in `fit`; their names, if X has names.

    Notes
    -----
    The parametric model of Johnson, Li and Rabinovic: a site has one prior for the
    shifts and one for the variances of all its features. (combatlearn 2.3 instead has
    one prior for each feature over the sites.) The equations are solved to 1e-12, where
    other programs stop at 1e-4. Where only the shift is removed, it is shrunk as a mean
    of n cases of variance 1. A feature constant within every site is shifted by the
    difference of its means, unshrunk; with a single feature nothing is shrunk.

    References
    ----------
    Johnson et al., Biostatistics 2007;8:118. doi:10.1093/biostatistics/kxj037

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.selection import ComBat
    >>> X = np.random.default_rng(0).normal(size=(40, 6))
    >>> sites = np.repeat(["here", "there"], 20)
    >>> X[sites == "there"] += 5.0
    >>> Y = ComBat().fit(X, sites).transform(X, sites)
    >>> bool(abs(Y[:20].mean() - Y[20:].mean()) < 0.1)
    True
    """

    def __init__(self, mean_only: Any = "auto") -> None:
        self.mean_only = mean_only

    def fit(self, X: Any, sites: Any) -> ComBat:
        """Learn the shifts and the scales.

        Parameters
        ----------
        X : (n, p) array
            Training rows, no NaN.
        sites : (n,) array
            The site (scanner, center) of each row.

        Raises
        ------
        CohortError
            If a row has no site.
        """
        few = _few(self.mean_only)
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        names = _names(sites, len(X), CohortError)
        self.site_names_, index = np.unique(names, return_inverse=True)
        counts = np.bincount(index)
        scaled = (counts >= few) & (len(counts) > 1)
        self.notes_ = _notes(self.site_names_, counts, scaled)

        means = np.array([X[index == site].mean(axis=0) for site in range(len(counts))])
        left = X - means[index]
        within = np.sqrt(np.mean(left**2, axis=0))
        varies = within > ROUND_OFF * np.abs(X).max(axis=0)
        self.grand_mean_ = X.mean(axis=0)
        self.pooled_sd_ = np.where(varies, within, 1.0)
        self.gamma_ = (means - self.grand_mean_) / self.pooled_sd_
        self.delta_ = np.ones(self.gamma_.shape)
        for site in range(len(counts)):
            z = (left[index == site] / self.pooled_sd_)[:, varies]
            shrunk = _shrunk(self.gamma_[site, varies], z, bool(scaled[site]))
            self.gamma_[site, varies], self.delta_[site, varies] = shrunk
        return self

    def transform(self, X: Any, sites: Any) -> _F64:
        """Take the shifts and scales of the sites out.

        Parameters
        ----------
        X : (n, p) array
            Rows, no NaN.
        sites : (n,) array
            The site of each row.

        Returns
        -------
        (n, p) array
            With one training site, the rows as they are.

        Raises
        ------
        ModelError
            If a row has no site or one that was not there in `fit`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        names = _names(sites, len(X), ModelError)
        trained = self.site_names_.tolist()
        unseen = sorted(set(names.tolist()).difference(trained))
        if unseen:
            known = ", ".join(map(repr, trained))
            what = (
                f"sites that were not there in training: {', '.join(map(repr, unseen))}"
            )
            fix = (
                f"ComBat knows {known}; train with cases of these sites, or without it"
            )
            raise ModelError(what, "`sites`", fix)
        if len(trained) == 1:
            return np.array(X)
        index = np.searchsorted(self.site_names_, names)
        shift = self.gamma_[index] * self.pooled_sd_
        scale = np.sqrt(self.delta_[index])
        result: _F64 = (X - self.grand_mean_ - shift) / scale + self.grand_mean_
        return result


def _few(mean_only: Any) -> float:
    """Smallest number of cases of a site that is scaled."""
    if isinstance(mean_only, str) and mean_only == "auto":
        return FEW
    if isinstance(mean_only, (bool, np.bool_)):
        return np.inf if mean_only else 2
    what = f"must be 'auto', True or False, got {mean_only!r}"
    raise ConfigError(what, "`mean_only`")


def _names(sites: Any, n: int, kind: type[HabitatError]) -> npt.NDArray[np.str_]:
    given = np.asarray(sites, dtype=object)
    if given.shape != (n,):
        what = f"must hold the site of each of the {n} rows, has shape {given.shape}"
        raise ConfigError(what, "`sites`")
    missing = np.flatnonzero(pd.isna(given) | (given == ""))
    if missing.size:
        what = f"{missing.size} of {n} rows have no site, the first is row {missing[0]}"
        raise kind(what, "`sites`", "name the site of each case, or leave ComBat out")
    return given.astype(np.str_)


def _notes(
    names: npt.NDArray[np.str_],
    counts: npt.NDArray[np.intp],
    scaled: npt.NDArray[np.bool_],
) -> tuple[str, ...]:
    if len(names) == 1:
        return (
            f"ComBat changed nothing: all cases are of one site, {names.tolist()[0]!r}",
        )
    shifted = [
        f"{name!r} ({count})"
        for name, count, both in zip(names.tolist(), counts, scaled, strict=True)
        if not both
    ]
    if not shifted:
        return ()
    return (f"ComBat removed only the shift, not the scale, of {', '.join(shifted)}",)


def _shrunk(shift: _F64, z: _F64, scaled: bool) -> tuple[_F64, _F64]:
    """Shrink a site's shifts and variances towards those of all its features.

    Parameters
    ----------
    shift : (p,) array
        Standardized mean of each feature at the site.
    z : (n, p) array
        Standardized rows of the site less these means.
    scaled : bool
        Whether the variances count; if not they are 1.

    Returns
    -------
    gamma, delta : (p,) arrays
    """
    n, p = z.shape
    squares = np.einsum("ij,ij->j", z, z)
    variance = squares / (n - 1) if scaled else np.ones(p)
    scaled = scaled and variance.mean() > ROUND_OFF  # else rows that are all the same
    if not scaled:
        variance = np.ones(p)
    if p < 2:
        return shift, variance
    center, spread = shift.mean(), shift.var(ddof=1)

    def gamma(delta: _F64) -> _F64:
        result: _F64 = (spread * n * shift + delta * center) / (spread * n + delta)
        return result

    if not scaled:
        return gamma(variance), variance
    # the inverse gamma prior with this mean and variance, multiplied by the variance,
    # so that features of one and the same variance are no division by 0
    mean, of = variance.mean(), variance.var(ddof=1)

    def delta(gamma: _F64) -> _F64:
        both = squares + n * (shift - gamma) ** 2
        top = of * (both / 2.0 + mean) + mean**3
        result: _F64 = top / (of * (n / 2.0 + 1.0) + mean**2)
        return result

    new = np.where(variance > 0, variance, mean)
    for _ in range(MAX_ITER):
        old, new = new, delta(gamma(new))
        if np.max(np.abs(new - old) / old) < TOLERANCE:
            break
    return gamma(new), new

"""Gaussian mixtures on rows of channel values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, integer, keep, one_of
from habitat.clustering._clusters import Clustering
from habitat.clustering._kmeans import _each, _rows, _weights, kmeans, nearest
from habitat.errors import ConfigError, InputError
from habitat.kernels.gmm import densities, em_step
from habitat.kernels.kmeans import kmeans_plusplus

__all__ = [
    "COVARIANCES",
    "GMMOptions",
    "Mixture",
    "Moments",
    "gmm",
    "information_criteria",
    "moments",
    "update",
]

COVARIANCES = ("full", "tied", "diag", "spherical")
_PART = 1 << 16  # rows that are summed by one thread, whatever the number of threads
_EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
_LARGEST = 1e150  # squares are finite
_ROWS_PER_PARAMETER = 5  # fewer independent rows than this carry no criterion
_F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mixture:
    """The rule of a Gaussian mixture: a row belongs to its most probable component.

    Parameters
    ----------
    weights : (k,) array
        Shares of the components, positive; they sum to 1.
    means : (k, d) array
        Means of the components.
    covariances : (k, d, d) array
        Covariances of the components, positive definite; full matrices for every type.
    """

    weights: _F64
    means: _F64
    covariances: _F64

    @property
    def k(self) -> int:
        """Number of components."""
        return len(self.weights)

    def labels(self, X: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Most probable component 0..k-1 of each row of X (n, d), the first of several.

        Outliers too get the component they are least improbable in.
        """
        rows = self._rows(X)
        parts = [
            self._log_densities(rows[i : i + _PART]).argmax(axis=0).astype(np.uint8)
            for i in range(0, len(rows), _PART)
        ]
        return np.concatenate(parts)

    def costs(self, X: npt.NDArray[Any]) -> _F64:
        """Minus the log of share times density of each component; (n, k), in nats.

        The differences between components are the log-odds that a spatial prior weighs.
        """
        out: _F64 = -self._log_densities(self._rows(X)).T
        return out

    def posterior(self, X: npt.NDArray[Any]) -> _F64:
        """Probability of each component given the row; (n, k), rows sum to 1."""
        logs = self._log_densities(self._rows(X))
        logs -= logs.max(axis=0)
        out: _F64 = np.exp(logs, out=logs).T
        out /= logs.sum(axis=0)[:, None]
        return out

    def entropy(self, X: npt.NDArray[Any]) -> _F64:
        """Uncertainty of each row's component: 0 to ln k, in nats; (n,)."""
        p = self.posterior(X)
        out: _F64 = np.abs((p * np.log(np.maximum(p, _TINY))).sum(axis=1))
        return out

    def log_likelihood(self, X: npt.NDArray[Any]) -> float:
        """Sum over rows of the log-density of the mixture."""
        return moments(X, self).log_likelihood

    def n_parameters(self, covariance: str = "full") -> int:
        """Count the free parameters of a mixture with covariances of this type."""
        k, d = self.means.shape
        one = d * (d + 1) // 2
        counts = (k * one, one, k * d, k)
        free = counts[COVARIANCES.index(one_of("covariance", covariance, COVARIANCES))]
        return int(k - 1 + k * d + free)

    def take(self, order: npt.NDArray[np.intp]) -> Mixture:
        """Return the rule with its components renumbered: the new j is old order[j]."""
        return Mixture(self.weights[order], self.means[order], self.covariances[order])

    def _rows(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return X, finite rows of as many channels as the mixture has."""
        rows, d = _rows(X), self.means.shape[1]
        if rows.shape[1] != d:
            what = f"must have the {d} channels of the mixture, got {rows.shape[1]}"
            raise InputError(what, "`X`")
        return rows

    def _log_densities(self, rows: npt.NDArray[Any]) -> _F64:
        """(k, n)."""
        out = np.empty((self.k, len(rows)))
        columns = np.ascontiguousarray(rows.T, dtype=np.float64)
        densities(columns, *_factorize(self), out)
        return out


@dataclass(frozen=True, eq=False)
class Moments:
    """What an EM iteration needs to know about rows; adds up over parts of them.

    Parameters
    ----------
    count : (k,) array
        Sum of the responsibilities r_j, times the weights of the rows.
    shift : (k, d) array
        Sum of r_j t, where t = x - mean_j.
    square : (k, d, d) array
        Sum of r_j t t'.
    log_likelihood : float
        Of the rows, under the mixture about whose means the moments are.
    """

    count: _F64
    shift: _F64
    square: _F64
    log_likelihood: float

    def __add__(self, other: Moments) -> Moments:
        both = zip(vars(self).values(), vars(other).values(), strict=True)
        return Moments(*(one + two for one, two in both))


@dataclass(frozen=True)
class GMMOptions:
    """Options of a Gaussian mixture; called with ``(X, k, rng)`` it is the method.

    Parameters
    ----------
    covariance : {"full", "tied", "diag", "spherical"}
        Each component its own covariance; one for all; axis-parallel; round.
    n_init : int, 1 to 1000
        Starts. The first is the best K-means, the others are k-means++ draws; the run
        of the largest likelihood is kept.
    reg : float, at least 0
        Added to the variances, in squared units of the data: scale channels first, or
        it hides small ones. With 0 the likelihood never falls, but a component that
        collapses onto one value is refused.
    max_iter : int, 1 to 1000000
        Iterations of a run.
    tol : float, at least 0
        A run ends when the mean log-likelihood changes by less. The default is that of
        scikit-learn; voxels between habitats may still move (2 to 57 % of
        them down to 1e-9 on eight generated tumors), so lower it with `max_iter` raised
        where maps are compared voxel by voxel.

    Examples
    --------
    >>> GMMOptions(covariance="diag").reg
    1e-06
    """

    covariance: str = "full"
    n_init: int = 1
    reg: float = 1e-6
    max_iter: int = 100
    tol: float = 1e-3

    def __post_init__(self) -> None:
        one_of("covariance", self.covariance, COVARIANCES)
        keep(self, n_init=integer("n_init", self.n_init, 1, 1000))
        keep(self, reg=at_least("reg", self.reg, 0.0))
        keep(self, max_iter=integer("max_iter", self.max_iter, 1, 1_000_000))
        keep(self, tol=at_least("tol", self.tol, 0.0))

    def __call__(
        self, X: npt.NDArray[Any], k: int, rng: np.random.Generator
    ) -> Clustering:
        return gmm(X, k, options=self, random_state=rng)


def gmm(
    X: npt.NDArray[Any],
    k: int,
    *,
    options: GMMOptions = GMMOptions(),
    random_state: int | np.random.Generator = 0,
    sample_weight: npt.ArrayLike | None = None,
    init: Mixture | None = None,
) -> Clustering:
    """Fit a mixture of k Gaussians by expectation-maximization.

    Parameters
    ----------
    X : (n, d) array
        Rows to cluster, finite; computed in float64.
    k : int, 1 to 255
        Number of components.
    options : GMMOptions
        Type of covariance, starts, regularization, when to stop.
    random_state : int or numpy.random.Generator
        Source of the starts. All draws are made up front.
    sample_weight : (n,) array, optional
        Weights of the rows, finite, at least 0, not all 0. A row of weight 2 is two
        equal rows side by side; a row of weight 0 gets a label and has no say.
    init : Mixture, optional
        Mixture to start from, in place of the drawn starts.

    Returns
    -------
    Clustering
        Labels are those of the most probable component. A component may be nobody's
        most probable one: its center is then NaN, its mean is in the rule. The
        objective is the log-likelihood, the rule the `Mixture`.

    Raises
    ------
    InputError
        If X is not two-dimensional, not finite or beyond 1e150, or the weights do not
        fit.
    ConfigError
        If X has fewer than k distinct rows, `init` does not fit, or a covariance is
        singular, as with ``reg=0`` on a constant channel.

    Notes
    -----
    Dempster, Laird & Rubin (J R Stat Soc B 1977;39:1). Starts, steps and stop are those
    of scikit-learn's ``GaussianMixture``: from the same `init` both give the same
    labels in as many iterations. The result does not depend on the number of threads.
    Sums run in the order of the rows: sort them by `canonical_order` first.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> found = gmm(X, 2)
    >>> sorted(found.centers[:, 0].round(6).tolist())
    [0.5, 10.5]
    """
    rows = _rows(X)
    integer("k", k, 1, 255)
    weight = _weights(sample_weight, len(rows))
    columns = np.ascontiguousarray(rows.T, dtype=np.float64)
    if max(columns.max(), -columns.min()) > _LARGEST:
        raise InputError(f"has values beyond {_LARGEST:g}", "`X`", "change the unit")
    if init is None:
        rng = np.random.default_rng(random_state)
        starts = _starts(columns, weight, k, options, rng)
    else:
        starts = [_check_init(init, k, len(columns))]
    runs = [_run(columns, weight, start, options) for start in starts]
    _, rule, n_iter, converged = max(runs, key=lambda run: run[0])  # ties: the first
    labels = rule.labels(rows)
    centers = rule.means.copy()
    centers[np.bincount(labels, minlength=k) == 0] = np.nan
    objective = _moments(columns, weight, rule).log_likelihood
    return Clustering(labels, centers, objective, n_iter, converged, rule)


def moments(
    X: npt.NDArray[Any], mixture: Mixture, sample_weight: npt.ArrayLike | None = None
) -> Moments:
    """Sum what `update` needs over rows: the E-step.

    Parameters
    ----------
    X : (n, d) array
        Rows, finite.
    mixture : Mixture
        Gives the responsibilities, and the means that the moments are about.
    sample_weight : (n,) array, optional
        Weights of the rows, at least 0.

    Returns
    -------
    Moments
        Those of parts of the rows about the same mixture add up.

    Examples
    --------
    >>> import numpy as np
    >>> one = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
    >>> found = moments(np.array([[1.0], [3.0]]), one)
    >>> found.count.tolist(), found.shift.tolist(), found.square.tolist()
    ([2.0], [[4.0]], [[[10.0]]])
    """
    columns = np.ascontiguousarray(mixture._rows(X).T, dtype=np.float64)
    weight = _weights(sample_weight, columns.shape[1])
    return _moments(columns, weight, mixture)


def update(
    mixture: Mixture, found: Moments, covariance: str = "full", reg: float = 1e-6
) -> Mixture:
    """Mixture of the largest likelihood, given the responsibilities: the M-step.

    Parameters
    ----------
    mixture : Mixture
        The mixture that the moments are about.
    found : Moments
        Moments of all rows.
    covariance : {"full", "tied", "diag", "spherical"}
        Type of the covariances.
    reg : float
        Added to the variances.

    Returns
    -------
    Mixture
        A component without rows stays where it is, as round as `reg` says.

    Examples
    --------
    >>> import numpy as np
    >>> one = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
    >>> found = moments(np.array([[1.0], [3.0]]), one)
    >>> better = update(one, found, reg=0.0)
    >>> better.means.tolist(), better.covariances.tolist()
    ([[2.0]], [[[1.0]]])
    """
    count = np.maximum(found.count, _EPS * found.count.sum())
    weights = count / count.sum()
    shift = found.shift / count[:, None]
    scatter = found.square / count[:, None, None]
    scatter -= shift[:, :, None] * shift[:, None, :]
    d = shift.shape[1]
    unit = np.eye(d)
    one_of("covariance", covariance, COVARIANCES)
    if covariance == "tied":
        scatter[:] = np.tensordot(weights, scatter, 1)
    elif covariance == "diag":
        scatter *= unit
    elif covariance == "spherical":
        scatter = np.trace(scatter, axis1=1, axis2=2)[:, None, None] / d * unit
    return Mixture(weights, mixture.means + shift, scatter + reg * unit)


def information_criteria(
    log_likelihood: float,
    n_parameters: int,
    n: int,
    *,
    entropy: float,
    n_eff: float | None = None,
) -> dict[str, float]:
    """BIC, AIC and ICL of a mixture; small is good.

    Parameters
    ----------
    log_likelihood : float
        Of all rows.
    n_parameters : int
        Free parameters, see `Mixture.n_parameters`.
    n : int
        Number of rows.
    entropy : float
        Sum over rows of the posterior's entropy, see `Mixture.entropy`.
    n_eff : float, optional
        How many independent rows the n correlated ones are worth; at most n. It
        replaces n in the penalty and scales log-likelihood and entropy by n_eff / n.

    Returns
    -------
    dict
        "bic", "aic", "icl"; NaN where `n_eff` is below five rows a parameter.

    Notes
    -----
    BIC = -2 ln L + p ln n (Schwarz, Ann Stat 1978;6:461), AIC = -2 ln L + 2 p (Akaike,
    IEEE Trans Autom Control 1974;19:716), ICL = BIC + 2 entropy (Biernacki et al., IEEE
    TPAMI 2000;22:719, with soft assignments).

    Examples
    --------
    >>> information_criteria(-100.0, 5, 1000, entropy=2.0)["aic"]
    210.0
    """
    used = float(n) if n_eff is None else min(float(n_eff), float(n))
    if n_eff is not None and used < _ROWS_PER_PARAMETER * n_parameters:
        return dict.fromkeys(("bic", "aic", "icl"), math.nan)
    fit = -2.0 * log_likelihood * used / n
    bic = fit + n_parameters * math.log(used)
    return {
        "bic": bic,
        "aic": fit + 2.0 * n_parameters,
        "icl": bic + 2.0 * entropy * used / n,
    }


def _run(
    columns: _F64, weight: _F64, start: Mixture, options: GMMOptions
) -> tuple[float, Mixture, int, bool]:
    """Iterate from a start; return the log-likelihood of the last E-step first."""
    total = float(weight.sum()) if weight.size else columns.shape[1]
    mixture, before = start, -math.inf
    n_iter, converged = 0, False
    while not converged and n_iter < options.max_iter:
        found = _moments(columns, weight, mixture)
        mixture = update(mixture, found, options.covariance, options.reg)
        converged = abs(found.log_likelihood / total - before) < options.tol
        before = found.log_likelihood / total
        n_iter += 1
    return before, mixture, n_iter, converged


def _moments(columns: _F64, weight: _F64, mixture: Mixture) -> Moments:
    k, d = mixture.means.shape
    n = columns.shape[1]
    parameters = _factorize(mixture)

    def part(first: int) -> Moments:
        out = np.empty(k), np.empty((k, d)), np.empty((k, d, d))
        last = min(first + _PART, n)
        return Moments(*out, em_step(columns, weight, first, last, *parameters, *out))

    return reduce(Moments.__add__, _each(part, range(0, n, _PART), columns.size))


def _factorize(mixture: Mixture) -> tuple[_F64, _F64, _F64]:
    """Return what the kernels take: base, means, factors; see `kernels.gmm`."""
    d = mixture.means.shape[1]
    diagonal = np.arange(d)
    try:
        lower = np.linalg.cholesky(mixture.covariances)
    except np.linalg.LinAlgError:
        raise _collapsed() from None
    scale = lower[:, diagonal, diagonal]
    variance = mixture.covariances[:, diagonal, diagonal]
    if not (scale**2 > 16 * _EPS * variance).all():
        raise _collapsed()
    factors = -lower / scale[:, :, None]
    factors[:, diagonal, diagonal] = math.sqrt(0.5 / math.log(2.0)) / scale
    base = np.log2(mixture.weights) - np.log2(scale).sum(axis=1)
    base -= 0.5 * d * math.log2(2.0 * math.pi)
    return base, np.ascontiguousarray(mixture.means), factors


def _collapsed() -> ConfigError:
    what = "the covariance of a component is singular: it collapsed onto fewer values"
    fix = "raise reg, or use fewer components or another covariance"
    return ConfigError(what, "`reg`", fix)


def _starts(
    columns: _F64, weight: _F64, k: int, options: GMMOptions, rng: np.random.Generator
) -> list[Mixture]:
    """Return the best K-means and single k-means++ draws, as mixtures."""
    draws = rng.random((options.n_init - 1, k, 2 + int(np.log(k))))
    weights = weight if weight.size else None
    centers = [kmeans(columns.T, k, random_state=rng, sample_weight=weights).centers]
    used = np.flatnonzero(weight) if weight.size else slice(None)
    for uniform in draws:
        centers.append(np.empty((k, len(columns))))
        kmeans_plusplus(columns[:, used], weight[used], uniform, centers[-1])
    return [_hard(columns, weight, c, options) for c in centers]


def _hard(columns: _F64, weight: _F64, centers: _F64, options: GMMOptions) -> Mixture:
    """Return the mixture whose responsibilities are nearest centers: 0 or 1."""
    k, d = centers.shape
    labels = nearest(columns.T, centers)
    count, shift, square = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
    for j in range(k):
        own = labels == j
        w = weight[own] if weight.size else np.ones(int(own.sum()))
        t = columns[:, own] - centers[j][:, None]
        count[j], shift[j], square[j] = w.sum(), t @ w, (t * w) @ t.T
    start = Mixture(np.full(k, 1 / k), centers, square)  # only its means are used
    hard = Moments(count, shift, square, 0.0)
    return update(start, hard, options.covariance, options.reg)


def _check_init(init: Mixture, k: int, d: int) -> Mixture:
    arrays = init.weights, init.means, init.covariances
    shapes = tuple(a.shape for a in arrays)
    if shapes != ((k,), (k, d), (k, d, d)):
        what = f"must be {k} components of {d} channels, got shapes {shapes}"
        raise ConfigError(what, "`init`")
    if not all(np.isfinite(a).all() for a in arrays) or not (init.weights > 0).all():
        raise ConfigError("must be finite, with weights above 0", "`init`")
    return init

"""Estimators with scikit-learn's API on the functions of this package."""

from __future__ import annotations

import dataclasses
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from habitat.clustering._gmm import COVARIANCES, GMMOptions, Mixture, _hard, gmm
from habitat.clustering._kmeans import KMeansOptions, _label, _weights, kmeans, nearest
from habitat.clustering._order import canonical_order, distinct_rows

__all__ = ["GaussianMixture", "KMeans"]

_F64 = npt.NDArray[np.float64]
_FLOATS = [np.float64, np.float32]


class KMeans(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator
):
    """K-means with the API of scikit-learn and the speed of `habitat`.

    Parameters
    ----------
    n_clusters : int, 1 to 255
        Number of clusters.
    init : "k-means++" or array-like (n_clusters, n_features)
        How to start: greedy k-means++ draws, or these centers.
    n_init : "auto" or int
        Starts; "auto" is 10. The best is refined, see `habitat.clustering.kmeans`.
        Given centers are one start.
    max_iter : int
        Iterations of a run.
    random_state : int, numpy.random.RandomState or None
        Source of the starts.

    Attributes
    ----------
    cluster_centers_ : (n_clusters, n_features) array
        Centers, in the type of X.
    labels_ : (n_samples,) array of int32
        Cluster of each row of X.
    inertia_ : float
        Weighted sum of squared distances of the rows from their centers.
    n_iter_ : int
        Iterations of the run that was kept.
    n_features_in_, feature_names_in_ : int, array
        Number of features seen in `fit`; their names, if X has names.

    Notes
    -----
    Differences from ``sklearn.cluster.KMeans``: rows are sorted by value first, so that
    neither their order nor the number of threads matters; runs end when no label
    changes (there is no ``tol``); there is one algorithm, which changes no label
    (no ``algorithm``), X is never written to (no ``copy_x``), and nothing is printed
    (no ``verbose``). float32 stays float32. Sparse matrices are not accepted.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.clustering import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> sorted(model.cluster_centers_.tolist()), model.inertia_
    ([[1.0, 2.0], [10.0, 2.0]], 16.0)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, 255, closed="both")],
        "init": [StrOptions({"k-means++"}), "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, 1000, closed="both")],
        "max_iter": [Interval(Integral, 1, 1_000_000, closed="both")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: int = 300,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: None = None, sample_weight: Any = None) -> KMeans:
        """Find the centers.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows to cluster.
        y : None
            Ignored.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows, at least 0: a row of weight 2 is two equal rows.

        Returns
        -------
        KMeans
            The estimator itself.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If there are fewer distinct rows than clusters. The centers are then these
            rows, the last of them several times.
        """
        self._validate_params()
        X = validate_data(self, X, dtype=_FLOATS)
        if len(X) < self.n_clusters:
            what = f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}."
            raise ValueError(what)
        order, weight = _canonical(X, sample_weight)
        rows = X[order]
        init = None if isinstance(self.init, str) else self.init
        n_init = 10 if isinstance(self.n_init, str) else self.n_init
        distinct = distinct_rows(rows if weight is None else rows[weight > 0])
        if distinct < self.n_clusters:
            init = None
            what = (
                f"Number of distinct clusters ({distinct}) found smaller than "
                f"n_clusters ({self.n_clusters}). Possibly due to duplicate points in X"
            )
            warnings.warn(what, ConvergenceWarning, stacklevel=2)
        found = kmeans(
            rows,
            min(self.n_clusters, distinct),
            options=KMeansOptions(n_init, self.max_iter),
            random_state=_seed(self.random_state),
            init=init,
            sample_weight=weight,
        )
        used = np.minimum(np.arange(self.n_clusters), len(found.centers) - 1)
        self._n_features_out = self.n_clusters  # for get_feature_names_out
        self.cluster_centers_ = found.centers[used].astype(X.dtype)
        self.labels_ = np.empty(len(X), np.int32)
        self.labels_[order] = found.labels
        self.inertia_ = found.objective
        self.n_iter_ = found.n_iter
        return self

    def predict(self, X: Any) -> npt.NDArray[np.int32]:
        """Label each row of X by its nearest center, the first of several."""
        return nearest(_read(self, X), self.cluster_centers_).astype(np.int32)

    def transform(self, X: Any) -> npt.NDArray[Any]:
        """Distance of each row of X from each center, (n_samples, n_clusters)."""
        X = _read(self, X)
        out = np.empty((len(X), len(self.cluster_centers_)), X.dtype)
        for j, center in enumerate(self.cluster_centers_.astype(X.dtype)):
            out[:, j] = np.sqrt(((X - center) ** 2).sum(axis=1))
        return out

    def score(self, X: Any, y: None = None, sample_weight: Any = None) -> float:
        """Minus the weighted sum of squared distances from the nearest centers."""
        X = _read(self, X)
        weight = _weights(sample_weight, len(X))
        return -_label(X, weight, self.cluster_centers_.astype(np.float64))[1]


class GaussianMixture(DensityMixin, BaseEstimator):
    """Gaussian mixture with the API of scikit-learn and the speed of `habitat`.

    Parameters
    ----------
    n_components : int, 1 to 255
        Number of components.
    covariance_type : {"full", "tied", "diag", "spherical"}
        Each component its own covariance; one for all; axis-parallel; round.
    tol : float
        A run ends when the mean log-likelihood changes by less.
    reg_covar : float
        Added to the variances.
    max_iter : int
        Iterations of a run.
    n_init : int
        Starts. The first is the best K-means, the others are k-means++ draws.
    weights_init : array-like (n_components,), optional
        Shares to start from. Where this or one of the next two is given there is one
        start, and the others are those of K-means.
    means_init : array-like (n_components, n_features), optional
        Means to start from.
    precisions_init : array-like, optional
        Inverse covariances to start from, in the shape of `precisions_`.
    random_state : int, numpy.random.RandomState or None
        Source of the starts and of `sample`.

    Attributes
    ----------
    weights_ : (n_components,) array
        Shares of the components.
    means_ : (n_components, n_features) array
        Means.
    covariances_ : array
        By covariance type (n_components, n_features, n_features), (n_features,
        n_features), (n_components, n_features) or (n_components,).
    precisions_ : array
        Inverses of the covariances, same shape.
    precisions_cholesky_ : array
        Upper triangular U with ``precisions_ = U @ U.T``, same shape; square roots for
        the last two types.
    converged_, n_iter_ : bool, int
        Whether the run that was kept ended by `tol`; its iterations.
    lower_bound_ : float
        Mean log-likelihood of the rows under the fitted mixture.
    n_features_in_, feature_names_in_ : int, array
        Number of features seen in `fit`; their names, if X has names.

    Notes
    -----
    Differences from ``sklearn.mixture.GaussianMixture``: rows are sorted by value
    first, so that their order does not matter; rows may have weights; all is computed
    in float64; `lower_bound_` is that of the final parameters, not of those an
    iteration before. There are no ``init_params`` (K-means), ``warm_start`` and
    ``verbose``.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.clustering import GaussianMixture
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = GaussianMixture(n_components=2, random_state=0).fit(X)
    >>> sorted(model.means_.round(6).tolist())
    [[1.0, 2.0], [10.0, 2.0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, 255, closed="both")],
        "covariance_type": [StrOptions(set(COVARIANCES))],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "reg_covar": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, 1_000_000, closed="both")],
        "n_init": [Interval(Integral, 1, 1000, closed="both")],
        "weights_init": ["array-like", None],
        "means_init": ["array-like", None],
        "precisions_init": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        tol: float = 1e-3,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.weights_init = weights_init
        self.means_init = means_init
        self.precisions_init = precisions_init
        self.random_state = random_state

    def fit(self, X: Any, y: None = None, sample_weight: Any = None) -> GaussianMixture:
        """Find the mixture.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows, at least two.
        y : None
            Ignored.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows, at least 0: a row of weight 2 is two equal rows.

        Returns
        -------
        GaussianMixture
            The estimator itself.

        Raises
        ------
        ValueError
            If X has fewer distinct rows than components.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `max_iter` iterations were not enough.
        """
        self._validate_params()
        X = validate_data(self, X, dtype=_FLOATS, ensure_min_samples=2)
        if len(X) < self.n_components:
            what = (
                "Expected n_samples >= n_components but got n_components = "
                f"{self.n_components}, n_samples = {len(X)}"
            )
            raise ValueError(what)
        order, weight = _canonical(X, sample_weight)
        rows = X[order]
        found = gmm(
            rows,
            self.n_components,
            options=self._options(),
            random_state=_seed(self.random_state),
            sample_weight=weight,
            init=self._init(rows, weight),
        )
        if not found.converged:
            warnings.warn(
                "Best performing initialization did not converge. Try different init "
                "parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=2,
            )
        self._keep(cast(Mixture, found.rule))
        self.converged_ = found.converged
        self.n_iter_ = found.n_iter
        mass = len(X) if weight is None else weight.sum()
        self.lower_bound_ = found.objective / mass
        return self

    def fit_predict(
        self, X: Any, y: None = None, sample_weight: Any = None
    ) -> npt.NDArray[np.int64]:
        """Fit, and return the most probable component of each row of X."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Most probable component of each row of X."""
        return self._mixture().labels(_read(self, X)).astype(np.int64)

    def predict_proba(self, X: Any) -> _F64:
        """Probability of each component given the row, (n_samples, n_components)."""
        return self._mixture().posterior(_read(self, X))

    def score_samples(self, X: Any) -> _F64:
        """Log-density of the mixture at each row of X."""
        costs = self._mixture().costs(_read(self, X))
        return cast(_F64, logsumexp(-costs, axis=1))

    def score(self, X: Any, y: None = None) -> float:
        """Mean log-density of the mixture at the rows of X."""
        return float(self.score_samples(X).mean())

    def bic(self, X: Any) -> float:
        """Bayesian information criterion (Schwarz 1978) on X; small is good."""
        logs = self.score_samples(X)
        count = self._mixture().n_parameters(self.covariance_type)
        return float(-2 * logs.sum() + count * np.log(len(logs)))

    def aic(self, X: Any) -> float:
        """Akaike information criterion (1974) on X; small is good."""
        count = self._mixture().n_parameters(self.covariance_type)
        return float(-2 * self.score_samples(X).sum() + 2 * count)

    def sample(self, n_samples: int = 1) -> tuple[_F64, npt.NDArray[np.int64]]:
        """Draw rows from the mixture, component by component; and their components."""
        mixture = self._mixture()
        if n_samples < 1:
            raise ValueError(f"n_samples={n_samples} should be >= 1.")
        rng = check_random_state(self.random_state)
        counts = rng.multinomial(n_samples, mixture.weights)
        y = np.repeat(np.arange(mixture.k), counts)
        lower = np.linalg.cholesky(mixture.covariances)[y]
        normal = rng.standard_normal((n_samples, mixture.means.shape[1]))
        return mixture.means[y] + np.einsum("nij,nj->ni", lower, normal), y

    def _options(self) -> GMMOptions:
        rest = self.n_init, self.reg_covar, self.max_iter, self.tol
        return GMMOptions(self.covariance_type, *rest)

    def _init(self, rows: npt.NDArray[Any], weight: _F64 | None) -> Mixture | None:
        """Return the start given to the constructor, filled up by K-means."""
        shape = (self.n_components, rows.shape[1])
        given: dict[str, _F64] = {}
        if self.weights_init is not None:
            given["weights"] = _shaped(self.weights_init, shape[:1], "weights")
            if abs(given["weights"].sum() - 1) > 1e-6:
                what = f"should be normalized, but got {given['weights']}"
                raise ValueError(f"The parameter 'weights' {what}")
        if self.means_init is not None:
            given["means"] = _shaped(self.means_init, shape, "means")
        if self.precisions_init is not None:
            given["covariances"] = self._invert(shape)
        if not given or len(given) == 3:
            return Mixture(**given) if given else None
        seed = _seed(self.random_state)
        found = kmeans(rows, shape[0], random_state=seed, sample_weight=weight)
        columns = np.ascontiguousarray(rows.T, dtype=np.float64)
        none = np.empty(0) if weight is None else weight
        start = _hard(columns, none, found.centers, self._options())
        return dataclasses.replace(start, **given)

    def _invert(self, shape: tuple[int, int]) -> _F64:
        name = f"{self.covariance_type} precision"
        expected = _pack(np.empty((*shape, shape[1])), self.covariance_type).shape
        precisions = _shaped(self.precisions_init, expected, name)
        full = _unpack(precisions, self.covariance_type, shape)
        symmetric = np.allclose(full, full.swapaxes(1, 2))
        if not symmetric or not (np.linalg.eigvalsh(full) > 0).all():
            raise ValueError(f"'{name}' should be symmetric, positive-definite")
        return cast(_F64, np.linalg.inv(full))

    def _keep(self, mixture: Mixture) -> None:
        """Set what was learned, in scikit-learn's shapes."""
        self.weights_ = mixture.weights
        self.means_ = mixture.means
        upper = np.linalg.inv(np.linalg.cholesky(mixture.covariances)).swapaxes(1, 2)
        self.covariances_ = _pack(mixture.covariances, self.covariance_type)
        self.precisions_cholesky_ = _pack(upper, self.covariance_type)
        self.precisions_ = _pack(upper @ upper.swapaxes(1, 2), self.covariance_type)

    def _mixture(self) -> Mixture:
        check_is_fitted(self)
        full = _unpack(self.covariances_, self.covariance_type, self.means_.shape)
        return Mixture(self.weights_, self.means_, full)


def _read(estimator: KMeans | GaussianMixture, X: Any) -> npt.NDArray[Any]:
    """Return X as rows of the features that the estimator was fitted to."""
    check_is_fitted(estimator)
    rows: npt.NDArray[Any] = validate_data(estimator, X, reset=False, dtype=_FLOATS)
    return rows


def _seed(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _canonical(
    X: npt.NDArray[Any], sample_weight: Any
) -> tuple[npt.NDArray[np.intp], _F64 | None]:
    """Return an order that depends on values and weights only; the weights in it."""
    weight = _weights(sample_weight, len(X))
    if not weight.size:
        return canonical_order(X), None
    order = canonical_order(np.column_stack([X, weight]))
    return order, weight[order]


def _shaped(value: Any, shape: tuple[int, ...], name: str) -> _F64:
    array: _F64 = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        what = f"The parameter '{name}' should have the shape of {shape}, but got"
        raise ValueError(f"{what} {array.shape}")
    return array


def _pack(full: _F64, covariance: str) -> _F64:
    """Turn matrices (k, d, d) into what scikit-learn keeps of them."""
    if covariance == "full":
        return full
    if covariance == "tied":
        return cast(_F64, full[0])
    diagonal: _F64 = np.diagonal(full, axis1=1, axis2=2).copy()
    return diagonal if covariance == "diag" else diagonal[:, 0]


def _unpack(packed: _F64, covariance: str, shape: tuple[int, ...]) -> _F64:
    """Turn what scikit-learn keeps into matrices (k, d, d)."""
    k, d = shape
    if covariance == "full":
        return packed
    if covariance == "tied":
        full: _F64 = np.repeat(packed[None], k, axis=0)
    else:
        values = packed if covariance == "diag" else packed[:, None]
        full = values[:, :, None] * np.eye(d)
    return full

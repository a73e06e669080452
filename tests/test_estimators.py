"""KMeans and GaussianMixture as users of scikit-learn call them."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
import sklearn.mixture
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from habitat.clustering import KMeansOptions, canonical_order, kmeans
from habitat.clustering._estimators import GaussianMixture, KMeans
from tests.oracles import tumor

COVARIANCES = ("full", "tied", "diag", "spherical")
ESTIMATORS = [KMeans(3, random_state=0), GaussianMixture(3, random_state=0)]


@pytest.fixture(params=ESTIMATORS, ids=lambda e: type(e).__name__)
def estimator(request):
    return clone(request.param)


# four distinct rows and eight clusters are among the checks
@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
@parametrize_with_checks(
    [
        KMeans(),
        KMeans(3),
        GaussianMixture(),
        *(GaussianMixture(2, covariance_type=name) for name in COVARIANCES),
    ]
)
def test_scikit_learn_accepts(estimator, check):
    check(estimator)


# --- both -----------------------------------------------------------------------------


def test_neither_row_order_nor_equal_rows_side_by_side_matter(estimator):
    X = tumor(2000)
    X[100:200] = X[:100]
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    shuffle = np.random.default_rng(1).permutation(len(X))
    want = estimator.fit_predict(X, sample_weight=weight)
    same = estimator.fit_predict(X[shuffle], sample_weight=weight[shuffle])
    np.testing.assert_array_equal(want[shuffle], same)
    many = np.repeat(X, weight, axis=0)
    np.testing.assert_array_equal(
        np.repeat(want, weight), clone(estimator).fit_predict(many)
    )


def test_fitted_estimators_pickle_and_clone(estimator):
    X = tumor(500)
    want = estimator.fit(X).predict(X)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(estimator)).predict(X), want
    )
    fresh = clone(estimator)
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    assert fresh.get_params() == estimator.get_params()
    assert fresh.set_params(max_iter=7).get_params()["max_iter"] == 7


def test_in_a_pipeline(estimator):
    X = tumor(1000) * [3.0, 400.0]
    labels = make_pipeline(StandardScaler(), estimator).fit_predict(X)
    want = clone(estimator).fit_predict(StandardScaler().fit_transform(X))
    np.testing.assert_array_equal(labels, want)


def test_names_of_a_table_are_kept_and_checked(estimator):
    table = pd.DataFrame(tumor(200), columns=["SUV", "HU"])
    estimator.fit(table)
    assert estimator.feature_names_in_.tolist() == ["SUV", "HU"]
    assert estimator.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(table[["HU", "SUV"]])


def test_seeds_may_be_generators_of_numpy_or_absent(estimator):
    X = tumor(300)
    want = estimator.fit_predict(X)
    same = estimator.set_params(random_state=np.random.RandomState(0)).fit_predict(X)
    np.testing.assert_array_equal(want, same)
    assert estimator.set_params(random_state=None).fit_predict(X).shape == (300,)


@pytest.mark.parametrize("bad", [0, 256, 2.0])
def test_number_of_clusters_is_checked(estimator, bad):
    name = "n_clusters" if isinstance(estimator, KMeans) else "n_components"
    estimator.set_params(**{name: bad})
    text = rf"'{name}' parameter of \w+ must be an int in the range \[1, 255\]"
    with pytest.raises(ValueError, match=text):
        estimator.fit(tumor(300))


def test_fewer_rows_than_clusters(estimator):
    with pytest.raises(ValueError, match=r"n_samples.*>= n_(clusters|components)"):
        estimator.fit(tumor(2))


def test_a_constant_channel_is_no_hindrance(estimator):
    X = tumor(800)
    flat = np.column_stack([X, np.full(800, 7.0)])
    same = clone(estimator).fit_predict(flat)
    np.testing.assert_array_equal(estimator.fit_predict(X), same)


# --- KMeans ---------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_kmeans_equals_scikit_learns_from_the_same_centers(k, weighted):
    X = tumor(3000)
    weight = np.random.default_rng(0).lognormal(size=3000) if weighted else None
    ours = KMeans(k, init=X[:k]).fit(X, sample_weight=weight)
    ref = sklearn.cluster.KMeans(k, init=X[:k], n_init=1, tol=0)
    ref.fit(X, sample_weight=weight)
    np.testing.assert_array_equal(ours.labels_, ref.labels_)
    np.testing.assert_allclose(ours.cluster_centers_, ref.cluster_centers_, rtol=1e-9)
    assert ours.inertia_ == pytest.approx(ref.inertia_, rel=1e-9)
    assert ours.n_iter_ == ref.n_iter_
    new = tumor(500, seed=1)
    np.testing.assert_array_equal(ours.predict(new), ref.predict(new))
    np.testing.assert_allclose(ours.transform(new), ref.transform(new), rtol=1e-6)
    assert ours.score(new) == pytest.approx(ref.score(new), rel=1e-9)
    w = None if weight is None else weight[:500]
    assert ours.score(new, sample_weight=w) == pytest.approx(
        ref.score(new, sample_weight=w), rel=1e-9
    )
    assert list(ours.get_feature_names_out()) == list(ref.get_feature_names_out())


def test_kmeans_is_the_function_on_sorted_rows():
    X = tumor(1000)
    order = canonical_order(X)
    model = KMeans(4, n_init=3, max_iter=50, random_state=5).fit(X)
    seed = np.random.RandomState(5).randint(np.iinfo(np.int32).max)
    options = KMeansOptions(n_init=3, max_iter=50)
    found = kmeans(X[order], 4, options=options, random_state=seed)
    np.testing.assert_array_equal(model.labels_[order], found.labels)
    assert model.inertia_ == found.objective


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kmeans_keeps_the_type(dtype):
    X = tumor(2000).astype(dtype)
    model = KMeans(4, random_state=0).fit(X)
    assert model.cluster_centers_.dtype == model.transform(X).dtype == dtype
    assert model.labels_.dtype == model.predict(X).dtype == np.int32
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    want = KMeans(4, random_state=0).fit(X.astype(np.float64))
    assert model.inertia_ == pytest.approx(want.inertia_, rel=1e-5)


def test_kmeans_of_fewer_distinct_rows_than_clusters_warns_as_scikit_learn_does():
    X = np.repeat([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], 5, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"clusters \(3\) found smaller"):
        model = KMeans(5, init=X[:5]).fit(X)
    assert model.cluster_centers_.shape == (5, 2)
    assert sorted(np.bincount(model.labels_)) == [5, 5, 5]
    assert model.inertia_ == 0.0
    weight = np.repeat([1.0, 2.0, 0.0], 5)
    with pytest.warns(ConvergenceWarning, match=r"clusters \(2\) found smaller"):
        KMeans(3).fit(X, sample_weight=weight)


def test_kmeans_of_as_many_distinct_rows_as_clusters():
    X = np.repeat(np.arange(14.0).reshape(7, 2), 3, axis=0)
    model = KMeans(7).fit(X)
    assert sorted(np.bincount(model.labels_)) == [3] * 7
    assert model.inertia_ == 0.0


def test_kmeans_checks_given_centers():
    with pytest.raises(ValueError, match="`init`: must be 3 finite rows of 2 values"):
        KMeans(3, init=np.zeros((2, 2))).fit(tumor(50))


# --- GaussianMixture ------------------------------------------------------------------


def start(X, k, covariance):
    """Scikit-learn's start of a mixture at the labels of K-means."""
    labels = kmeans(X[canonical_order(X)], k).rule.labels(X)
    one = sklearn.mixture.GaussianMixture(
        k, covariance_type=covariance, max_iter=1, tol=1e9, means_init=X[:k]
    )
    one._initialize(X, np.eye(k)[labels])
    return {
        "weights_init": one.weights_,
        "means_init": np.array([X[labels == j].mean(axis=0) for j in range(k)]),
        "precisions_init": precisions(one.precisions_cholesky_, covariance),
    }


def precisions(cholesky, covariance):
    if covariance == "full":
        return cholesky @ cholesky.swapaxes(1, 2)
    return cholesky @ cholesky.T if covariance == "tied" else cholesky**2


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_mixture_equals_scikit_learns_from_the_same_start(covariance):
    X = tumor(3000)
    options = {"covariance_type": covariance, "tol": 1e-6, "max_iter": 500}
    options |= start(X, 3, covariance)
    ours = GaussianMixture(3, **options).fit(X)
    ref = sklearn.mixture.GaussianMixture(3, **options).fit(X)
    assert (ours.n_iter_, ours.converged_) == (ref.n_iter_, ref.converged_)
    for name in ("weights", "means", "covariances", "precisions"):
        got, want = getattr(ours, f"{name}_"), getattr(ref, f"{name}_")
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(
        ours.precisions_cholesky_, ref.precisions_cholesky_, rtol=1e-6, atol=1e-9
    )
    new = tumor(500, seed=1)
    np.testing.assert_array_equal(ours.predict(new), ref.predict(new))
    np.testing.assert_allclose(
        ours.predict_proba(new), ref.predict_proba(new), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        ours.score_samples(new), ref.score_samples(new), rtol=1e-7
    )
    for name in ("score", "bic", "aic"):
        want = getattr(ref, name)(X)
        assert getattr(ours, name)(X) == pytest.approx(want, rel=1e-9), name
    assert ours.lower_bound_ == pytest.approx(ours.score(X), rel=1e-12)
    assert ours.lower_bound_ == pytest.approx(ref.lower_bound_, abs=1e-5)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("name", ["weights_init", "means_init", "precisions_init"])
def test_what_is_not_given_comes_from_kmeans(covariance, name):
    X = tumor(1000)
    given = {name: start(X, 3, covariance)[name]}
    model = GaussianMixture(3, covariance_type=covariance, **given, random_state=0)
    want = GaussianMixture(3, covariance_type=covariance, random_state=0).fit(X)
    assert model.fit(X).lower_bound_ == pytest.approx(want.lower_bound_, abs=0.05)
    assert model.get_params()[name] is given[name]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights_init": [0.5, 0.6]}, "'weights' should be normalized"),
        ({"weights_init": [1.0]}, r"'weights' should have the shape of \(2,\)"),
        (
            {"means_init": np.zeros((2, 3))},
            r"'means' should have the shape of \(2, 2\)",
        ),
        ({"precisions_init": np.eye(2)}, r"'full precision' should have the shape"),
        ({"precisions_init": -np.ones((2, 2, 2))}, "symmetric, positive-definite"),
    ],
)
def test_a_given_start_is_checked(given, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2, **given).fit(tumor(50))


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_samples_have_the_moments_of_the_mixture(covariance):
    X = tumor(3000)
    model = GaussianMixture(2, covariance_type=covariance, random_state=0).fit(X)
    rows, labels = model.sample(40_000)
    assert rows.shape == (40_000, 2)
    np.testing.assert_allclose(np.bincount(labels) / 4e4, model.weights_, atol=0.01)
    one = rows[labels == 0]
    np.testing.assert_allclose(one.mean(axis=0), model.means_[0], atol=0.04)
    want = model._mixture().covariances[0]
    np.testing.assert_allclose(np.cov(one.T), want, atol=0.06)
    with pytest.raises(ValueError, match="n_samples=0 should be >= 1"):
        model.sample(0)


def test_mixture_that_did_not_converge_says_so():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model = GaussianMixture(3, max_iter=2, tol=0.0, random_state=0).fit(tumor(500))
    assert (model.converged_, model.n_iter_) == (False, 2)


def test_mixture_of_fewer_distinct_rows_than_components():
    X = np.repeat([[0.0, 1.0], [2.0, 3.0]], 9, axis=0)
    with pytest.raises(ValueError, match="at most the 2 distinct rows, got 3"):
        GaussianMixture(3).fit(X)

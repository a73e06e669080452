"""Criteria of one clustering against scikit-learn, and the kernels behind them."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from habitat.clustering import kmeans
from habitat.clustering._criteria import CRITERIA, criteria_values
from habitat.clustering._scores import silhouettes, simplified_silhouette
from habitat.kernels.scores import distance_sums, split_path
from tests import naive_scores
from tests.oracles import tumor


def sqeuclidean(X, labels):
    return sklearn.metrics.silhouette_score(X, labels, metric="sqeuclidean")


ORACLES = {
    "calinski_harabasz": sklearn.metrics.calinski_harabasz_score,
    "davies_bouldin": sklearn.metrics.davies_bouldin_score,
    "silhouette": sqeuclidean,
    "silhouette_euclidean": sklearn.metrics.silhouette_score,
}


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("n", "d", "k"), [(7, 1, 2), (300, 2, 4), (1000, 5, 9)])
def test_criteria_equal_those_of_scikit_learn(name, n, d, k):
    rng = np.random.default_rng(n)
    X = rng.normal(size=(n, d)) * 10 + 3
    labels = np.arange(n) % k
    centers = np.stack([X[labels == j].mean(axis=0) for j in range(k)])
    value = CRITERIA[name][0](X, labels, centers)
    assert value == pytest.approx(ORACLES[name](X, labels), rel=1e-10, abs=1e-10)


def test_euclidean_silhouette_of_each_row_equals_scikit_learn():
    X = tumor(3000)
    labels = kmeans(X, 4).labels
    want = sklearn.metrics.silhouette_samples(X, labels)
    np.testing.assert_allclose(silhouettes(X, labels), want, rtol=0, atol=1e-10)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(4, 60),
    st.integers(1, 4),
    st.sampled_from([1e-150, 1e-3, 1.0, 1e150]),
)
def test_euclidean_silhouette_on_any_scale(seed, n, d, scale):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (n, d)) * scale  # many equal rows
    labels = np.append([0, 1], rng.integers(0, 3, n - 2)) * 7
    ours = silhouettes(X, labels)
    want = sklearn.metrics.silhouette_samples(
        cdist(X / scale, X / scale), labels, metric="precomputed"
    )
    np.testing.assert_allclose(ours, want, atol=1e-10)
    order = rng.permutation(n)
    again = silhouettes(X[order], (labels[order] + 3) % 256)
    np.testing.assert_allclose(again, ours[order], atol=1e-12)


def test_silhouettes_need_two_clusters_that_are_not_single_rows():
    X = tumor(20)
    assert np.isnan(silhouettes(X, np.zeros(20, int))).all()
    assert np.isnan(silhouettes(X, np.arange(20))).all()


def test_simplified_silhouette_by_hand():
    X = np.array([[0.0], [2.0], [10.0], [14.0]])
    labels, centers = np.array([0, 0, 1, 1]), np.array([[1.0], [np.nan], [12.0]])
    want = np.mean([11 / 12, 9 / 10, 7 / 9, 11 / 13])
    labels[2:] = 2
    assert simplified_silhouette(X, labels, centers) == pytest.approx(want)


def test_own_criteria_stand_beside_ours():
    found = kmeans(tumor(300), 3)
    own = (lambda X, labels, centers: float(len(centers)), "max")
    got = criteria_values(
        {"own": own, "silhouette": CRITERIA["silhouette"]}, tumor(300), found
    )
    assert got["own"] == 3
    assert got["silhouette"] == pytest.approx(sqeuclidean(tumor(300), found.labels))


# --- kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize(
    "starts", [[0, 1], [0, 3, 3, 4, 600, 613], [0, 256, 512, 1025]]
)
def test_distance_sums_equal_their_twin(d, starts):
    X = np.random.default_rng(d).uniform(-1, 1, (d, starts[-1]))
    X[:, ::7] = X[:, :1]
    got, want = (np.full((len(starts) - 1, X.shape[1]), np.nan) for _ in range(2))
    distance_sums(X, np.array(starts), got)
    naive_scores.distance_sums(X, np.array(starts), want)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [1, 5, 1000])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_split_path_equals_its_twin(n, d):
    X = np.random.default_rng(n).lognormal(size=(d, n))
    got, want = np.full(6, np.nan), np.full(6, np.nan)
    split_path(X, 8, 15, 1e-3, got)
    naive_scores.split_path(X, 8, 15, 1e-3, want)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    assert (np.diff(got) <= 1e-9).all()


def test_split_path_is_nearly_as_good_as_kmeans():
    X = tumor(3000)
    within = np.empty(8)
    split_path(np.ascontiguousarray(X.T), 8, 15, 1e-3, within)
    best = [kmeans(X, k).objective for k in range(1, 9)]
    assert (within < 1.03 * np.array(best)).all()

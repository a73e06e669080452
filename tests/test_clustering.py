"""K-means as users call it, against scikit-learn and itself."""

import math

import numpy as np
import pytest
import sklearn.cluster
import sklearn.metrics
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from habitat.clustering import (
    METHODS,
    KMeansOptions,
    canonical_order,
    distinct_rows,
    fit_method,
    kmeans,
    nearest,
    scores,
)
from habitat.errors import ConfigError, InputError
from tests.oracles import ORACLES, tumor

sklearn_kmeans = ORACLES[kmeans]
SEEDS = st.integers(0, 2**32 - 1)


def cloud(seed, n, d):
    """Skewed, correlated rows, some of them far out."""
    rng = np.random.default_rng(seed)
    rows = rng.lognormal(sigma=rng.uniform(0.1, 1.5), size=(n, d)) @ rng.normal(
        size=(d, d)
    )
    return rows + rng.normal(size=d) * 10


# --- against scikit-learn -------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(50, 3000), st.integers(1, 5), st.integers(1, 12))
def test_labels_equal_those_of_scikit_learn(seed, n, d, k):
    X = cloud(seed, n, d)
    init = X[np.random.default_rng(seed).choice(n, k, replace=False)]
    ours = kmeans(X, k, init=init)
    ref = sklearn_kmeans(X, k, init)
    np.testing.assert_array_equal(ours.labels, ref.labels)
    assert ours.objective == pytest.approx(ref.objective, rel=1e-9)
    np.testing.assert_allclose(ours.centers, ref.centers, rtol=1e-6, atol=1e-9)
    assert (ours.n_iter, ours.converged) == (ref.n_iter, ref.converged)


def test_sums_depend_on_labels_alone():
    """Whether the box test or the search found a block's label, to the last bit."""
    for seed in range(437, 460):  # 437 once took an iteration more than scikit-learn
        X = cloud(seed, 390, 5)
        init = X[np.random.default_rng(seed).choice(390, 4, replace=False)]
        assert kmeans(X, 4, init=init).n_iter == sklearn_kmeans(X, 4, init).n_iter


def test_single_precision_agrees_with_scikit_learn():
    X = tumor(20_000)
    init = X[:4]
    ours = kmeans(X.astype(np.float32), 4, init=init)
    ref = sklearn_kmeans(X, 4, init)
    assert (ours.labels == ref.labels).mean() > 0.999
    assert ours.objective == pytest.approx(ref.objective, rel=1e-5)


def test_empty_cluster_gets_the_farthest_row_like_in_scikit_learn():
    X = cloud(3, 500, 2)
    init = np.vstack([X[:3], [1e4, 1e4]])
    ours, ref = kmeans(X, 4, init=init), sklearn_kmeans(X, 4, init)
    np.testing.assert_array_equal(ours.labels, ref.labels)
    assert len(np.unique(ours.labels)) == 4


def test_several_empty_clusters_are_all_filled():
    X = cloud(4, 500, 2)
    init = np.vstack([X[:1], np.full((5, 2), 1e5)])
    ours, ref = kmeans(X, 6, init=init), sklearn_kmeans(X, 6, init)
    assert len(np.unique(ours.labels)) == 6
    assert ours.objective == pytest.approx(ref.objective, rel=0.05)


def test_a_cluster_of_one_is_not_robbed():
    X = np.array([[0.0], [0.1], [0.2], [9.0]])
    found = kmeans(X, 3, init=[[0.1], [5.0], [1e6]])
    assert sorted(np.bincount(found.labels)) == [1, 1, 2]


@pytest.mark.parametrize("k", [2, 4, 8])
def test_ten_starts_are_as_good_as_ten_full_runs_of_scikit_learn(k):
    X = tumor(4000, seed=k)
    ref = sklearn.cluster.KMeans(k, n_init=10, tol=0, random_state=0).fit(X)
    assert kmeans(X, k).objective <= ref.inertia_ * 1.005


# --- against itself -------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 3), st.integers(2, 6))
def test_result_is_a_fixed_point(seed, d, k):
    X = cloud(seed, 400, d)
    found = kmeans(X, k, options=KMeansOptions(n_init=2), random_state=seed)
    assert found.converged
    np.testing.assert_array_equal(found.labels, nearest(X, found.centers))
    means = [X[found.labels == j].mean(axis=0) for j in range(k)]
    np.testing.assert_allclose(found.centers, means, rtol=1e-9, atol=1e-9)
    apart = ((X - found.centers[found.labels]) ** 2).sum()
    assert found.objective == pytest.approx(apart, rel=1e-9)


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.integers(1, 3), st.integers(1, 8))
def test_inertia_never_rises(seed, d, k):
    X = cloud(seed, 300, d)
    losses = [
        kmeans(X, k, init=X[:k], options=KMeansOptions(max_iter=m)).objective
        for m in range(1, 12)
    ]
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()


def test_objective_never_rises():
    X, init = tumor(3000), tumor(5, seed=1)
    runs = [
        kmeans(X, 5, init=init, options=KMeansOptions(max_iter=m)) for m in range(1, 40)
    ]
    losses = [run.objective for run in runs]
    assert (np.diff(losses) <= 1e-9 * losses[0]).all()
    assert [run.n_iter for run in runs] == [
        min(m, runs[-1].n_iter) for m in range(1, 40)
    ]
    assert not runs[0].converged


def test_labels_do_not_depend_on_voxel_order():
    X = tumor(3000)
    X[100:200] = X[:100]  # equal rows too
    shuffle = np.random.default_rng(0).permutation(len(X))
    labels = []
    for rows in (X, X[shuffle]):
        order = canonical_order(rows)
        out = np.empty(len(X), np.uint8)
        out[order] = kmeans(rows[order], 4).labels
        labels.append(out)
    np.testing.assert_array_equal(labels[0][shuffle], labels[1])


def test_labels_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr("habitat.clustering._kmeans._SERIAL", 0)
    X = tumor(6000)
    found = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("HABITAT_NUM_THREADS", count)
        found.append(kmeans(X, 4, random_state=3))
    assert len({run.labels.tobytes() for run in found}) == 1
    assert len({run.centers.tobytes() for run in found}) == 1


def test_labels_do_not_depend_on_a_shift_or_a_common_unit():
    X = tumor(3000)
    want = kmeans(X, 4).labels
    for changed in (X * 1000, np.array([50.0, -1000.0]) + X):
        same = sklearn.metrics.adjusted_rand_score(kmeans(changed, 4).labels, want)
        assert same > 0.999


def test_seed_decides():
    X = np.random.default_rng(0).random((500, 2))  # no structure: many optima
    one, same = kmeans(X, 9, random_state=1), kmeans(X, 9, random_state=1)
    np.testing.assert_array_equal(one.labels, same.labels)
    others = [kmeans(X, 9, random_state=s).centers for s in range(2, 6)]
    assert any(not np.array_equal(one.centers, c) for c in others)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_as_many_clusters_as_rows(dtype):
    X = np.arange(14, dtype=dtype).reshape(7, 2)
    found = kmeans(X, 7)
    assert sorted(found.labels) == list(range(7))
    assert found.objective == 0.0


def test_one_cluster_is_the_mean():
    X = tumor(100)
    np.testing.assert_allclose(kmeans(X, 1).centers, [X.mean(axis=0)], atol=1e-12)


def test_large_k_and_many_channels():
    found = kmeans(np.random.default_rng(0).normal(size=(2000, 12)), 20)
    assert len(np.unique(found.labels)) == 20


# --- weights --------------------------------------------------------------------------


@settings(max_examples=20)
@given(SEEDS, st.integers(20, 300), st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_a_weight_is_a_number_of_equal_rows(seed, n, d, k, drawn):
    rng = np.random.default_rng(seed)
    X = np.unique(cloud(seed, n, d), axis=0)
    weight = rng.integers(0, 4, len(X))
    assume((weight > 0).sum() >= k)
    init = None if drawn else X[rng.choice(np.flatnonzero(weight), k, replace=False)]
    want = kmeans(np.repeat(X, weight, axis=0), k, init=init, random_state=seed)
    found = kmeans(X, k, init=init, random_state=seed, sample_weight=weight)
    np.testing.assert_array_equal(np.repeat(found.labels, weight), want.labels)
    np.testing.assert_allclose(found.centers, want.centers, rtol=1e-9, atol=1e-9)
    assert found.objective == pytest.approx(want.objective, rel=1e-12, abs=1e-12)
    assert found.rule.variance == pytest.approx(want.rule.variance, rel=1e-12)
    np.testing.assert_array_equal(found.labels, nearest(X, found.centers))


@settings(max_examples=20)
@given(SEEDS, st.integers(50, 2000), st.integers(1, 4), st.integers(1, 8))
def test_weighted_labels_equal_those_of_scikit_learn(seed, n, d, k):
    X = cloud(seed, n, d)
    rng = np.random.default_rng(seed)
    weight, init = rng.lognormal(size=n), X[rng.choice(n, k, replace=False)]
    model = sklearn.cluster.KMeans(k, init=init, n_init=1, tol=0)
    model.fit(X, sample_weight=weight)
    found = kmeans(X, k, init=init, sample_weight=weight)
    np.testing.assert_array_equal(found.labels, model.labels_)
    assert found.objective == pytest.approx(model.inertia_, rel=1e-9)


def test_an_empty_cluster_gets_equal_rows_together():
    X = np.array([[0.0], [1.0], [2.0], [50.0]])
    init, weight = [[1.0], [1e6], [2e6]], [3, 2, 5, 4]
    found = kmeans(X, 3, init=init, sample_weight=weight)
    want = kmeans(np.repeat(X, weight, axis=0), 3, init=init)
    np.testing.assert_array_equal(np.repeat(found.labels, weight), want.labels)
    np.testing.assert_allclose(found.centers, want.centers, rtol=1e-12)
    assert found.n_iter == want.n_iter


@pytest.mark.parametrize("unit", [1e-300, 1 / 3, 1e300])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_unit_of_weights_does_not_matter(unit, dtype):
    X = tumor(2000).astype(dtype)
    want = kmeans(X, 3)
    found = kmeans(X, 3, sample_weight=np.full(len(X), unit))
    np.testing.assert_array_equal(found.labels, want.labels)
    assert found.objective / unit == pytest.approx(want.objective, rel=1e-6)


def test_rows_without_weight_have_no_say():
    X = tumor(1000)
    X[500:] *= 100
    weight = np.repeat([1.0, 0.0], 500)
    found, want = kmeans(X, 3, sample_weight=weight), kmeans(X[:500], 3)
    np.testing.assert_allclose(found.centers, want.centers, rtol=1e-12)
    np.testing.assert_array_equal(found.labels, nearest(X, want.centers))
    with pytest.raises(ConfigError, match="at most the 1 distinct rows, got 2"):
        kmeans(X, 2, sample_weight=np.arange(1000) == 7)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(49), "one weight for each of 50 rows, got shape"),
        (np.ones((50, 1)), "one weight for each of 50 rows, got shape"),
        ([-1.0] * 2 + [1.0] * 48, "2 weights are not finite or below zero"),
        ([np.nan] + [1.0] * 49, "1 weights are not finite or below zero"),
        (np.zeros(50), "all weights are zero"),
    ],
)
def test_weights_are_checked(weight, message):
    with pytest.raises(InputError, match=f"`sample_weight`: .*{message}"):
        kmeans(tumor(50), 2, sample_weight=weight)


# --- many rows ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
def test_starts_on_a_sample_end_as_well(monkeypatch, dtype, weighted):
    X = tumor(30_000).astype(dtype)
    X = X[canonical_order(X)]
    weight = np.random.default_rng(0).integers(1, 4, len(X)) if weighted else None
    want = kmeans(X, 4, sample_weight=weight)
    monkeypatch.setattr("habitat.clustering._kmeans._SAMPLE", 3000)
    monkeypatch.setattr("habitat.clustering._kmeans._CHUNK", 7000)
    found = kmeans(X, 4, sample_weight=weight)
    assert found.converged
    assert found.objective == pytest.approx(want.objective, rel=1e-4)
    np.testing.assert_array_equal(found.labels, nearest(X, found.centers))
    if weighted:
        want = kmeans(np.repeat(X, weight, axis=0), 4)
        same = (np.repeat(found.labels, weight) == want.labels).mean()
        assert same == 1 if dtype == np.float64 else same > 0.999


def test_rows_of_any_layout_and_type():
    X = np.rint(tumor(3000) * 20)
    want = kmeans(X, 3).labels
    for same in (np.asfortranarray(X), X[:, [0, 0, 1]][:, ::2], X.astype(np.int16)):
        np.testing.assert_array_equal(kmeans(same, 3).labels, want)


# --- the rule -------------------------------------------------------------------------


def test_costs_without_variance_are_those_of_the_nearest_center():
    X = np.repeat([[0.0, 1.0], [5.0, 1.0]], 3, axis=0)
    found = kmeans(X, 2)
    assert found.rule.variance == 0.0
    costs = found.rule.costs(np.vstack([X, [[1.0, 1.0]]]))
    own = np.append(found.labels, found.labels[0])
    assert (costs[np.arange(7), own] == 0.0).all()
    assert (costs[np.arange(7), 1 - own] == np.inf).all()


# --- refusals -------------------------------------------------------------------------


def test_too_few_distinct_rows():
    X = np.repeat([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], 50, axis=0)
    with pytest.raises(ConfigError, match="`k`: must be at most the 3 distinct rows"):
        kmeans(X, 4)
    with pytest.raises(ConfigError, match="`k`: must be at most the 3 distinct rows"):
        kmeans(X, 4, init=np.zeros((4, 2)))
    with pytest.raises(ConfigError, match="`k`: must be at most the 2 distinct rows"):
        kmeans(np.array([[1.0], [2.0]]), 4, init=[[1.0], [2.0], [8.0], [9.0]])
    assert len(np.unique(kmeans(X, 3).labels)) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_must_be_finite(bad):
    X = tumor(50)
    X[3, 1] = bad
    with pytest.raises(InputError, match="`X`: 1 rows are not finite"):
        kmeans(X, 2)


@pytest.mark.parametrize("shape", [(5,), (0, 2), (5, 0), (2, 2, 2)])
def test_rows_must_be_a_matrix(shape):
    with pytest.raises(InputError, match="must be rows of channel values"):
        kmeans(np.zeros(shape), 2)


@pytest.mark.parametrize("k", [0, 256, 2.5, True, "4"])
def test_k_must_be_a_whole_number(k):
    with pytest.raises(ConfigError, match="`k`: must be an integer 1 to 255"):
        kmeans(tumor(50), k)


@pytest.mark.parametrize(
    "init", [np.zeros((3, 2)), np.zeros((2, 3)), [[0, np.nan]] * 2]
)
def test_init_must_fit(init):
    with pytest.raises(ConfigError, match="`init`: must be 2 finite rows of 2 values"):
        kmeans(tumor(50), 2, init=init)


@pytest.mark.parametrize("options", [{"n_init": 0}, {"max_iter": 0}, {"n_init": 1.5}])
def test_options_are_checked(options):
    with pytest.raises(ConfigError, match="must be an integer 1 to"):
        KMeansOptions(**options)


def test_what_did_not_converge_says_so():
    found = kmeans(tumor(3000), 6, options=KMeansOptions(max_iter=2))
    assert (found.converged, found.n_iter) == (False, 2)


# --- methods --------------------------------------------------------------------------


def test_name_options_and_function_are_all_methods():
    X = tumor(500)
    want = kmeans(X, 3, random_state=7)
    for method in ("kmeans", KMeansOptions(), METHODS["kmeans"]):
        found = fit_method(method, X, 3, 7)
        np.testing.assert_array_equal(found.labels, want.labels)


def test_a_function_may_return_labels_only():
    X = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]])
    found = fit_method(lambda X, k, rng: [0, 0, 2], X, 3)
    np.testing.assert_array_equal(found.centers, [[1, 0], [np.nan] * 2, [9, 9]])
    assert (found.objective, found.converged) == (2.0, True)


@pytest.mark.parametrize(
    "labels", [[0, 1], [0.0, 1.0, 2.0], [[0, 1, 2]], [0, 1, 3], [-1, 0, 1]]
)
def test_labels_of_a_function_are_checked(labels):
    with pytest.raises(ConfigError, match="`method`: returned labels"):
        fit_method(lambda X, k, rng: labels, tumor(3), 3)


@pytest.mark.parametrize("method", ["kmean", 3, None])
def test_unknown_method(method):
    with pytest.raises(ConfigError, match="`method`: must be one of 'kmeans'"):
        fit_method(method, tumor(30), 3)


def test_a_center_that_is_nan_is_nobodys():
    centers = [[np.nan, 0.0], [1.0, 1.0], [5.0, 5.0]]
    assert nearest(np.array([[0.0, 0.0], [6.0, 6.0]]), centers).tolist() == [1, 2]


# --- order ----------------------------------------------------------------------------


ROWS = arrays(
    float,
    st.tuples(st.integers(0, 40), st.integers(1, 4)),
    elements=st.sampled_from([-2.5, -0.0, 0.0, 1.0, 1e300]),
)


@given(ROWS)
def test_canonical_order_sorts_rows(X):
    ordered = X[canonical_order(X)]
    assert ordered.tolist() == sorted(X.tolist())  # -0.0 == 0.0
    assert distinct_rows(ordered) == len({tuple(row) for row in X.tolist()})


@pytest.mark.parametrize("first", [0, 1])
def test_canonical_order_of_a_tumor(first):
    X = tumor(20_000)[:, [first, 1 - first]].astype(np.float32)
    np.testing.assert_array_equal(X[canonical_order(X)], X[np.lexsort(X.T[::-1])])


# --- scores ---------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(10, 300), st.integers(1, 4), st.integers(2, 8))
@example(0, 10, 1, 8)
def test_scores_equal_those_of_scikit_learn(seed, n, d, k):
    X = cloud(seed, n, d)
    labels = np.random.default_rng(seed).integers(0, k, n) * 3  # gaps in the numbers
    assume(1 < len(np.unique(labels)) < n)
    found = scores(X, labels)
    metrics = sklearn.metrics
    want = metrics.silhouette_score(X, labels, metric="sqeuclidean")
    assert found["silhouette"] == pytest.approx(want, rel=1e-10, abs=1e-10)
    want = metrics.calinski_harabasz_score(X, labels)
    assert found["calinski_harabasz"] == pytest.approx(want, rel=1e-10)
    within = sum(
        ((X[labels == j] - X[labels == j].mean(0)) ** 2).sum()
        for j in np.unique(labels)
    )
    total = ((X - X.mean(axis=0)) ** 2).sum()
    assert found["explained_variance"] == pytest.approx(1 - within / total, abs=1e-10)
    assert found["davies_bouldin"] == pytest.approx(davies_bouldin(X, labels), rel=1e-9)


def davies_bouldin(X, labels):
    """The formula; scikit-learn loses digits where centers almost coincide."""
    groups = [X[labels == j] for j in np.unique(labels)]
    radius = [np.linalg.norm(g - g.mean(axis=0), axis=1).mean() for g in groups]
    means = [g.mean(axis=0) for g in groups]
    pairs = [
        [
            (radius[i] + radius[j]) / np.linalg.norm(means[i] - means[j])
            for j in range(len(groups))
            if j != i
        ]
        for i in range(len(groups))
    ]
    return np.mean([max(row) for row in pairs])


def test_davies_bouldin_equals_that_of_scikit_learn():
    X = tumor(2000)
    labels = kmeans(X, 4).labels
    want = sklearn.metrics.davies_bouldin_score(X, labels)
    assert scores(X, labels)["davies_bouldin"] == pytest.approx(want, rel=1e-10)


def test_scores_without_clusters_are_nan():
    found = scores(tumor(20), np.zeros(20, int))
    assert found["explained_variance"] == pytest.approx(0.0, abs=1e-12)
    names = ("calinski_harabasz", "davies_bouldin", "silhouette")
    assert all(math.isnan(found[name]) for name in names)


def test_scores_of_points_without_spread():
    X = np.repeat([[0.0, 1.0], [5.0, 1.0]], 5, axis=0)
    found = scores(X, np.repeat([0, 1], 5))
    assert found["calinski_harabasz"] == 1.0  # as scikit-learn says
    assert found["davies_bouldin"] == 0.0
    assert found["silhouette"] == 1.0
    assert found["explained_variance"] == 1.0

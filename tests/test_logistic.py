"""Elastic net logistic regression: kernel, twin, scikit-learn; inner folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from habitat.errors import CohortError
from habitat.kernels import logistic
from habitat.selection._inner import inner_folds, offsets, shifted, youden
from habitat.selection._linear import (
    Linear,
    class_weights,
    fit_logistic,
    fit_path,
    strongest,
)
from tests import naive_logistic


def table(classes, n=60, p=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    X[:, 1] += 0.7 * X[:, 0]
    y = np.arange(n) % classes
    X[:, 0] += y
    return X, y


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.0])
def test_the_path_equals_its_twin(classes, ratio):
    X, y = table(classes)
    w = class_weights(y, "balanced")
    Y = np.eye(classes)[y].T[int(classes == 2) :]
    strengths = strongest(X, y, 1.0, w) * np.array([1.001, 0.5, 0.05])
    found = []
    for f in (logistic.logistic_path, naive_logistic.logistic_path):
        b, a = np.empty((3, len(Y), 5)), np.empty((3, len(Y)))
        f(X.T.copy(), Y.copy(), w / w.sum(), strengths, ratio, 1e-16, b, a)
        found.append((b, a - a.mean(axis=1, keepdims=True) * (classes > 2)))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=2e-7)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=2e-7)


@pytest.mark.parametrize("K", [1, 3])
def test_the_parts_equal_their_twins(K):
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(4, 30)), np.eye(3)[np.arange(30) % 3].T[:K].copy()
    w, eta = np.full(30, 1 / 30), rng.normal(size=(K, 30))
    p, q = np.empty(30), np.empty(30)
    for k in range(K):
        one = logistic._terms(Y, w, eta, k, p)
        assert one == pytest.approx(naive_logistic._terms(Y, w, eta, k, q), rel=1e-12)
        np.testing.assert_allclose(p, q, rtol=1e-12)
    left, b = rng.normal(size=30) / 30, np.array([0.1, 0.0, 0.0, -0.2])
    results = []
    for module in (logistic, naive_logistic):
        mine, c = left.copy(), b.copy()
        shift = module._descend(X, w, mine, 0.01, 0.1, c, 1e-24)
        results.append(np.concatenate([[shift], c, mine]))
    np.testing.assert_allclose(*results, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [0.05, 1.0, 20.0])
def test_ridge_equals_scikit_learn(classes, C):
    X, y = table(classes)
    y[:10] = 0
    ours = fit_logistic(X, y, C)
    theirs = LogisticRegression(
        C=C, class_weight="balanced", tol=1e-10, max_iter=10_000
    )
    want = theirs.fit(X, y).predict_proba(X)
    np.testing.assert_allclose(ours.probabilities(X), want, atol=2e-6)


@pytest.mark.parametrize("C", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_elastic_net_equals_scikit_learn(C, ratio):
    X, y = table(2)
    how = {"solver": "saga", "tol": 1e-10, "max_iter": 100_000, "C": C}
    try:
        theirs = LogisticRegression(l1_ratio=ratio, **how).fit(X, y)
    except FutureWarning:  # below 1.8 it must be named
        theirs = LogisticRegression(penalty="elasticnet", l1_ratio=ratio, **how)
        theirs.fit(X, y)
    ours = fit_logistic(X, y, C, ratio)
    np.testing.assert_allclose(ours.coefficients, theirs.coef_, atol=1e-6)


def test_an_elastic_net_numbers():
    # scikit-learn 1.9.1: LogisticRegression(C=1, l1_ratio=1,
    # solver="saga", tol=1e-12, max_iter=10**6).fit(X, y)
    X = np.array(
        [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0], [2.0, 0.0], [0.0, 3.0]]
    )
    found = fit_logistic(X, np.array([0, 0, 1, 1, 1, 0]), 1.0, 1.0)
    np.testing.assert_allclose(found.coefficients, [[1.4110728867, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found.intercepts, [-1.8820049682], atol=1e-6)


def test_at_the_strongest_nothing_is_kept_and_just_below_one_is():
    for classes in (2, 3):
        X, y = table(classes)
        w = class_weights(y, "balanced")
        top = strongest(X, y, 1.0, w)
        none, some = fit_path(X, y, np.array([top * 1.0001, top * 0.98]), 1.0, w)
        assert (none.coefficients == 0).all()
        assert (some.coefficients != 0).any(axis=0).tolist() == [True] + [False] * 4


def test_a_class_that_is_set_apart_is_no_trouble():
    X = np.arange(20.0)[:, None]
    found = fit_logistic(X, (X[:, 0] > 9).astype(int), C=1e4)
    assert np.isfinite(found.coefficients).all()
    assert (found.probabilities(X).argmax(axis=1) == (X[:, 0] > 9)).all()


def test_a_row_has_the_same_bits_alone():
    X, y = table(3)
    found = fit_logistic(X, y)
    assert (found.probabilities(X)[7] == found.probabilities(X[7:8])[0]).all()
    again = Linear.from_arrays(found.arrays())
    assert (again.scores(X) == found.scores(X)).all()


def test_inner_folds_hold_all_classes_and_keep_groups_together():
    y = np.arange(40) // 20
    groups = np.arange(40) // 4
    folds, notes = inner_folds(y, groups, 5, 0)
    assert len(folds) == 5
    assert notes == ()
    for train, test in folds:
        assert set(y[train]) == {0, 1}
        assert not set(groups[train]) & set(groups[test])
    np.testing.assert_array_equal(
        np.sort(np.concatenate([t for _, t in folds])), np.arange(40)
    )


def test_small_classes_have_fewer_inner_folds():
    y = np.array([0] * 12 + [1] * 3)
    folds, notes = inner_folds(y, None, 5, 0)
    assert len(folds) == 3
    assert notes == ("3 inner folds, not 5: the smallest class has 3 cases",)
    with pytest.raises(CohortError, match="the smallest class has 1 cases"):
        inner_folds(y[:13], None, 5, 0)
    with pytest.raises(CohortError, match="the smallest class has 1 patients"):
        inner_folds(y, np.r_[np.arange(12), 99, 99, 99], 5, 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=4, max_size=40))
def test_youden_is_the_best_of_the_roc_curve(rows):
    y = np.array([a for a, _ in rows] + [True, False])
    p = np.array([b for _, b in rows] + [3, 4]) / 10
    t = youden(y, p)
    false, true, _ = roc_curve(y, p)
    positive = p >= t
    assert positive[y].mean() - positive[~y].mean() == pytest.approx(
        (true - false).max()
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 3))
def test_offsets_bring_means_to_shares_and_keep_ranks(seed, classes):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.5), 50)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, 50 - classes)])
    q = shifted(p, offsets(p, y))
    np.testing.assert_allclose(q.mean(axis=0), np.bincount(y) / 50, atol=1e-9)
    if classes == 2:
        order = np.argsort(p[:, 1])
        assert (np.diff(q[order, 1]) >= 0).all()

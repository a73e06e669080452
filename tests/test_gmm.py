"""Gaussian mixtures: kernels against their twins, `gmm` against scikit-learn."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from habitat.clustering import canonical_order
from habitat.clustering._gmm import (
    COVARIANCES,
    GMMOptions,
    Mixture,
    gmm,
    information_criteria,
    moments,
    update,
)
from habitat.errors import ConfigError, InputError
from habitat.kernels import gmm as kernels
from tests import naive_gmm
from tests.oracles import tumor

SEEDS = st.integers(0, 2**32 - 1)
TYPES = st.sampled_from(COVARIANCES)


def cloud(seed, n, d):
    """Three overlapping clouds, each stretched in its own direction."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.normal(size=(n // 3, d)) @ rng.normal(size=(d, d)) + 3 * rng.normal(size=d)
        for _ in range(3)
    ]
    return np.concatenate(parts)


def some_mixture(X, k, seed=0):
    """A start of unequal shares, means on rows, axis-parallel covariances."""
    rng = np.random.default_rng(seed)
    means = X[rng.choice(len(X), k, replace=False)]
    covariances = np.tile(np.diag(X.var(axis=0)), (k, 1, 1))
    return Mixture(rng.dirichlet(np.full(k, 5.0)), means, covariances)


def sklearn_gmm(X, k, start, options):
    """scikit-learn's EM from the same mixture; the start's variances all agree."""
    variance = np.diag(start.covariances[0])
    precisions = {
        "full": np.tile(np.diag(1 / variance), (k, 1, 1)),
        "tied": np.diag(1 / variance),
        "diag": np.tile(1 / variance, (k, 1)),
        "spherical": np.full(k, 1 / variance[0]),
    }
    model = GaussianMixture(
        k,
        covariance_type=options.covariance,
        tol=options.tol,
        max_iter=options.max_iter,
        reg_covar=options.reg,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=precisions[options.covariance],
    )
    with warnings.catch_warnings(), threadpool_limits(1):  # threads spin for others
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X)


def as_full(covariances, covariance, k, d):
    """scikit-learn's covariances as (k, d, d)."""
    if covariance == "spherical":
        return covariances[:, None, None] * np.eye(d)
    if covariance == "diag":
        return covariances[:, :, None] * np.eye(d)
    return np.broadcast_to(covariances, (k, d, d))


# --- kernels --------------------------------------------------------------------------


def kernel_arguments(n, d, k, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(d, n)) * rng.uniform(0.1, 10, (d, 1))
    factors = np.tril(rng.normal(size=(k, d, d)), -1)
    factors[:, np.arange(d), np.arange(d)] = rng.uniform(0.1, 2, (k, d))
    return X, rng.normal(size=k), rng.normal(size=(k, d)), factors


@pytest.mark.parametrize("n", [1, 63, 600])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 4), (3, 2), (5, 3)])
def test_densities(n, d, k):
    arguments = kernel_arguments(n, d, k)
    ours, twin = np.empty((k, n)), np.empty((k, n))
    kernels.densities(*arguments, ours)
    naive_gmm.densities(*arguments, twin)
    np.testing.assert_allclose(ours, twin, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n", "first", "last"), [(1, 0, 1), (600, 0, 600), (90, 7, 80)]
)
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 4), (3, 2), (2, 255)])
def test_em_step(n, first, last, d, k, weighted):
    if k == 255 and n == 600:
        n, last = 100, 100  # where kernels run uncompiled
    X, *parameters = kernel_arguments(n, d, k)
    weight = np.random.default_rng(1).random(n if weighted else 0)
    ours = np.empty(k), np.empty((k, d)), np.empty((k, d, d))
    twin = np.empty(k), np.empty((k, d)), np.empty((k, d, d))
    found = kernels.em_step(X, weight, first, last, *parameters, *ours)
    want = naive_gmm.em_step(X, weight, first, last, *parameters, *twin)
    assert found == pytest.approx(want, rel=1e-12)
    for got, expected in zip(ours, twin, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_the_exponential_is_good_to_the_last_bits():
    logs = -np.random.default_rng(0).exponential(30.0, kernels.BLOCK)
    rows, work = np.stack([np.zeros_like(logs), logs]), np.empty((2, logs.size))
    kernels._powers(logs.size, rows, *work)
    np.testing.assert_allclose(rows[1], np.exp2(logs), rtol=4e-16)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_numbers_of_a_row_do_not_depend_on_its_place(d):
    X = cloud(d, 1200, d)
    rule = some_mixture(X, 4)
    costs = rule.costs(X)
    for part in (slice(0, 1), slice(5, 18), slice(1, 700), slice(None, None, -1)):
        np.testing.assert_array_equal(rule.costs(X[part]), costs[part])


def test_a_column_too_far_for_its_square_has_finite_densities():
    rule = some_mixture(tumor(100), 3)
    far = np.array([[1e200, 0.0], [1e200, -1e250], [0.0, 0.0]])
    with np.errstate(over="ignore"):
        assert np.isfinite(rule.costs(far)).all()
        assert np.isfinite(rule.log_likelihood(far))
        np.testing.assert_allclose(rule.posterior(far)[0], 1 / 3)
        assert rule.labels(far)[0] == 0


# --- against scikit-learn -------------------------------------------------------------


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize(("d", "k"), [(1, 3), (2, 1), (2, 4), (3, 2), (8, 3)])
def test_same_start_same_fit_as_scikit_learn(covariance, d, k):
    X = cloud(10 * d + k, 600, d)
    start = some_mixture(X, k)
    if covariance == "spherical":
        start = Mixture(start.weights, start.means, np.tile(2 * np.eye(d), (k, 1, 1)))
    options = GMMOptions(covariance)
    ours, ref = (
        gmm(X, k, options=options, init=start),
        sklearn_gmm(X, k, start, options),
    )
    np.testing.assert_array_equal(ours.labels, ref.predict(X))
    assert (ours.n_iter, ours.converged) == (ref.n_iter_, ref.converged_)
    assert ours.objective == pytest.approx(ref.score(X) * len(X), rel=1e-9)
    np.testing.assert_allclose(ours.rule.weights, ref.weights_, rtol=1e-7)
    np.testing.assert_allclose(ours.rule.means, ref.means_, rtol=1e-7, atol=1e-9)
    want = as_full(ref.covariances_, covariance, k, d)
    np.testing.assert_allclose(ours.rule.covariances, want, rtol=1e-7, atol=1e-9)
    posterior = ref.predict_proba(X)
    np.testing.assert_allclose(ours.rule.posterior(X), posterior, atol=1e-9)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_bic_and_aic_are_those_of_scikit_learn(covariance):
    X = tumor(400)
    start = Mixture(np.full(3, 1 / 3), X[:3], np.tile(np.eye(2), (3, 1, 1)))
    options = GMMOptions(covariance)
    rule = gmm(X, 3, options=options, init=start).rule
    ref = sklearn_gmm(X, 3, start, options)
    likelihood, entropy = rule.log_likelihood(X), rule.entropy(X).sum()
    p = rule.n_parameters(covariance)
    found = information_criteria(likelihood, p, len(X), entropy=entropy)
    assert p == ref._n_parameters()
    assert found["bic"] == pytest.approx(ref.bic(X), rel=1e-10)
    assert found["aic"] == pytest.approx(ref.aic(X), rel=1e-10)
    tau = ref.predict_proba(X)
    penalty = -2 * (tau * np.log(tau)).sum()
    assert found["icl"] == pytest.approx(ref.bic(X) + penalty, rel=1e-9)


def test_default_start_is_as_good_as_that_of_scikit_learn():
    X = tumor(600)
    with threadpool_limits(1):
        ref = GaussianMixture(4, n_init=2, random_state=0).fit(X)
    assert gmm(X, 4).objective >= len(X) * ref.score(X) - 0.01 * len(X)


def test_more_starts_are_never_worse():
    X = cloud(5, 900, 2)
    runs = [gmm(X, 5, options=GMMOptions(n_init=n)).objective for n in (1, 4)]
    assert runs[1] >= runs[0] - 1e-3 * len(X)  # compared before the last M-step


# --- one step against the textbook ----------------------------------------------------


@settings(max_examples=30)
@given(SEEDS, TYPES, st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_a_step_is_that_of_the_textbook(seed, covariance, d, k, weighted):
    X = cloud(seed, 90, d)
    start = some_mixture(X, k, seed)
    weight = np.random.default_rng(seed).random(len(X)) if weighted else None
    found = moments(X, start, weight)
    ours = update(start, found, covariance, 1e-3)
    plain = start.weights, start.means, start.covariances
    *twin, likelihood = naive_gmm.em(X, *plain, covariance, 1e-3, weight)
    assert found.log_likelihood == pytest.approx(likelihood, rel=1e-9)
    for got, want in zip(vars(ours).values(), twin, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)
    logs = naive_gmm.log_densities(X, *plain)
    np.testing.assert_allclose(start.costs(X), -logs, rtol=1e-9, atol=1e-9)
    posterior = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(start.posterior(X), posterior, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(start.labels(X), logs.argmax(axis=1))
    entropy = -(posterior * np.log(posterior)).sum(axis=1)
    np.testing.assert_allclose(start.entropy(X), entropy, rtol=1e-7, atol=1e-9)


# --- properties -----------------------------------------------------------------------


@settings(max_examples=30)
@given(SEEDS, TYPES, st.integers(1, 3), st.integers(1, 4))
def test_plain_likelihood_never_falls(seed, covariance, d, k):
    X = cloud(seed, 120, d)
    mixture = some_mixture(X, k, seed)
    if covariance == "spherical":  # the first step may only fall for want of this type
        mixture = Mixture(
            mixture.weights, mixture.means, np.tile(9.0 * np.eye(d), (k, 1, 1))
        )
    before = -math.inf
    for _ in range(12):
        found = moments(X, mixture)
        assert found.log_likelihood >= before - 1e-9 * abs(found.log_likelihood)
        before = found.log_likelihood
        mixture = update(mixture, found, covariance, 0.0)


@settings(max_examples=20)
@given(SEEDS, TYPES, st.permutations(range(4)))
def test_a_permuted_start_gives_the_permuted_result(seed, covariance, order):
    X, order = cloud(seed, 150, 2), np.array(order)
    start, options = some_mixture(X, 4, seed), GMMOptions(covariance, max_iter=10)
    one = gmm(X, 4, options=options, init=start)
    other = gmm(X, 4, options=options, init=start.take(order))
    np.testing.assert_array_equal(order[other.labels], one.labels)
    np.testing.assert_allclose(other.rule.means, one.rule.means[order], atol=1e-6)
    assert other.objective == pytest.approx(one.objective, rel=1e-9)


@settings(max_examples=20)
@given(SEEDS, TYPES)
def test_a_weight_is_a_repetition(seed, covariance):
    X = cloud(seed, 150, 2)
    times = np.random.default_rng(seed).integers(0, 4, len(X))
    start, options = some_mixture(X, 3, seed), GMMOptions(covariance, max_iter=10)
    one = gmm(X, 3, options=options, init=start, sample_weight=times)
    other = gmm(np.repeat(X, times, axis=0), 3, options=options, init=start)
    assert one.objective == pytest.approx(other.objective, rel=1e-9)
    assert one.n_iter == other.n_iter
    for got, want in zip(
        vars(one.rule).values(), vars(other.rule).values(), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)


def test_a_weight_is_a_repetition_for_the_start_too():
    X = cloud(3, 300, 2)
    X = X[canonical_order(X)]
    times = np.random.default_rng(0).integers(0, 3, len(X))
    options = GMMOptions(n_init=2)
    one = gmm(X, 3, options=options, sample_weight=times)
    other = gmm(np.repeat(X, times, axis=0), 3, options=options)
    agree = adjusted_rand_score(np.repeat(one.labels, times), other.labels)
    assert agree == 1.0


@settings(max_examples=20)
@given(SEEDS, st.sampled_from([1e-8, 1e-3, 1e8]), st.sampled_from([0.0, -1e3, 1e6]))
def test_a_shift_and_a_unit_change_nothing(seed, unit, shift):
    X = cloud(seed, 150, 2)
    start, options = some_mixture(X, 3, seed), GMMOptions(reg=0.0, max_iter=8, tol=0.0)
    moved = Mixture(
        start.weights, (start.means + shift) * unit, start.covariances * unit**2
    )
    one = gmm(X, 3, options=options, init=start)
    other = gmm((X + shift) * unit, 3, options=options, init=moved)
    np.testing.assert_allclose(other.rule.weights, one.rule.weights, atol=1e-6)
    back = other.rule.means / unit - shift
    np.testing.assert_allclose(back, one.rule.means, atol=1e-5)
    np.testing.assert_allclose(
        other.rule.covariances / unit**2, one.rule.covariances, rtol=1e-4, atol=1e-5
    )
    expected = one.objective - 2 * len(X) * math.log(unit)
    assert other.objective == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20)
@given(SEEDS, st.lists(st.integers(1, 299), max_size=4))
def test_moments_of_parts_add_up(seed, cuts):
    X = cloud(seed, 300, 2)
    rule = some_mixture(X, 3, seed)
    parts = np.split(X, sorted(set(cuts)))
    total = moments(parts[0], rule)
    for part in parts[1:]:
        total = total + moments(part, rule)
    for got, want in zip(
        vars(total).values(), vars(moments(X, rule)).values(), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_result_does_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr("habitat.clustering._kmeans._SERIAL", 0)
    monkeypatch.setattr("habitat.clustering._gmm._PART", 256)
    X, found = tumor(600), []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("HABITAT_NUM_THREADS", count)
        found.append(gmm(X, 4, options=GMMOptions(n_init=2), random_state=3))
    assert len({run.labels.tobytes() for run in found}) == 1
    assert len({run.rule.covariances.tobytes() for run in found}) == 1


def test_result_is_that_of_its_rule():
    X = tumor(700)
    found = gmm(X, 4)
    np.testing.assert_array_equal(found.labels, found.rule.labels(X))
    np.testing.assert_array_equal(found.labels, found.rule.posterior(X).argmax(axis=1))
    np.testing.assert_array_equal(found.centers, found.rule.means)
    assert found.objective == found.rule.log_likelihood(X)
    assert found.converged
    order = np.argsort(found.centers[:, 0])
    np.testing.assert_array_equal(order[found.rule.take(order).labels(X)], found.labels)
    assert GMMOptions()(X, 4, np.random.default_rng(0)).objective == found.objective


def test_single_precision_is_computed_in_double():
    X = tumor(500).astype(np.float32)
    one, other = gmm(X, 3), gmm(X.astype(np.float64), 3)
    assert one.objective == other.objective
    np.testing.assert_array_equal(one.labels, other.labels)


# --- recovery -------------------------------------------------------------------------


def ellipse(angle, long, short):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([long**2, short**2]) @ turn.T


UNEQUAL = {
    "tight inside wide": [([0, 0], ellipse(0, 4, 4)), ([1, 0], ellipse(0, 0.2, 0.2))],
    "tight beside wide": [([0, 0], ellipse(0, 6, 6)), ([7, 0], ellipse(0, 0.3, 0.3))],
    "elongated": [([0, 0], ellipse(0, 5, 0.3)), ([5, 2], ellipse(0, 5, 0.3))],
    "wide, tight and elongated": [
        ([0, 0], ellipse(0, 5, 5)),
        ([2, 1], ellipse(0, 0.2, 0.2)),
        ([-4, 6], ellipse(0.8, 0.9, 0.1)),
    ],
}


@pytest.mark.parametrize("name", UNEQUAL)
@pytest.mark.parametrize("seed", range(2))
def test_unequal_spreads_are_recovered_where_nearest_means_fail(name, seed):
    rng = np.random.default_rng(seed)
    parts, n = UNEQUAL[name], 200
    X = np.concatenate([rng.multivariate_normal(m, c, n) for m, c in parts])
    truth = np.repeat(range(len(parts)), n)
    means = np.array([m for m, _ in parts])
    nearest = ((X[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert adjusted_rand_score(truth, nearest) < 0.7
    assert adjusted_rand_score(truth, gmm(X, len(parts)).labels) >= 0.9


# --- criteria -------------------------------------------------------------------------


def test_correlated_rows_count_less():
    found = information_criteria(-800.0, 5, 1000, entropy=30.0, n_eff=50.0)
    assert found["bic"] == pytest.approx(1600 / 20 + 5 * math.log(50))
    assert found["aic"] == pytest.approx(1600 / 20 + 10)
    assert found["icl"] == pytest.approx(found["bic"] + 60 / 20)
    plain = information_criteria(-800.0, 5, 1000, entropy=30.0)
    assert plain == information_criteria(-800.0, 5, 1000, entropy=30.0, n_eff=9e9)


def test_too_few_independent_rows_carry_no_criterion():
    found = information_criteria(-800.0, 23, 10_000, entropy=0.0, n_eff=46.0)
    assert set(found) == {"bic", "aic", "icl"}
    assert all(math.isnan(value) for value in found.values())


# --- degenerate data and refusals -----------------------------------------------------


ODD = {
    "duplicates": (np.repeat(tumor(5), 20, axis=0), 5),
    "constant channel": (np.column_stack([tumor(80)[:, 0], np.ones(80)]), 3),
    "one row many times": (np.ones((30, 2)), 1),
    "k = n": (tumor(12), 12),
    "copied channel": (tumor(80)[:, [0, 0]], 2),
    "one row far out": (np.vstack([tumor(80), [[50.0, 50.0]]]), 3),
}


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("name", ODD)
def test_odd_data_give_finite_results_or_a_clear_error(name, covariance):
    X, k = ODD[name]
    rule = gmm(X, k, options=GMMOptions(covariance)).rule
    values = *vars(rule).values(), rule.costs(X), rule.posterior(X), rule.entropy(X)
    assert all(np.isfinite(value).all() for value in values)
    if name in ("duplicates", "one row many times", "k = n"):
        assert len(np.unique(rule.labels(X))) == k
        with pytest.raises(
            ConfigError, match="`reg`: the covariance of a component is"
        ):
            gmm(X, k, options=GMMOptions(covariance, reg=0.0))


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("unit", [1e-8, 1e8, 1e100])
def test_extreme_units(covariance, unit):
    X = tumor(300)
    options = GMMOptions(covariance, reg=0.0)
    want = gmm(X, 3, options=options).labels
    found = gmm(X * unit, 3, options=options).labels
    assert adjusted_rand_score(found, want) > 0.99


def test_a_component_that_nobody_belongs_to_has_no_center():
    X = tumor(200)
    far = Mixture(
        np.full(2, 0.5),
        np.array([[0.0, 0.0], [1e4, 1e4]]),
        np.tile(np.eye(2), (2, 1, 1)),
    )
    found = gmm(X, 2, init=far)
    assert np.isnan(found.centers[1]).all()
    np.testing.assert_array_equal(found.rule.means[1], far.means[1])
    assert all(np.isfinite(v).all() for v in vars(found.rule).values())


def test_as_many_components_as_labels():
    X = tumor(300)
    options = GMMOptions(max_iter=2)
    found = gmm(X, 255, options=options)
    assert np.isfinite(found.objective)
    assert found.labels.max() == 254


def test_what_did_not_converge_says_so():
    found = gmm(tumor(500), 4, options=GMMOptions(max_iter=2))
    assert (found.converged, found.n_iter) == (False, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_must_be_finite(bad):
    X = tumor(50)
    rule = gmm(X, 2).rule
    X[3, 1] = bad
    for use in (
        lambda X: gmm(X, 2),
        rule.labels,
        rule.costs,
        lambda X: moments(X, rule),
    ):
        with pytest.raises(InputError, match="`X`: 1 rows are not finite"):
            use(X)


def test_values_must_have_squares():
    with pytest.raises(InputError, match="`X`: has values beyond 1e\\+150"):
        gmm(tumor(50) * 1e200, 2)


def test_channels_must_be_those_of_the_rule():
    rule = gmm(tumor(50), 2).rule
    with pytest.raises(
        InputError, match="`X`: must have the 2 channels of the mixture"
    ):
        rule.labels(np.zeros((5, 3)))


def test_too_few_distinct_rows():
    X = np.repeat(tumor(3), 9, axis=0)
    with pytest.raises(ConfigError, match="`k`: must be at most the 3 distinct rows"):
        gmm(X, 4)


@pytest.mark.parametrize("k", [0, 256, 2.5, "4"])
def test_k_must_be_a_whole_number(k):
    with pytest.raises(ConfigError, match="`k`: must be an integer 1 to 255"):
        gmm(tumor(50), k)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance": "ful"}, "`covariance`: .*did you mean 'full'"),
        ({"n_init": 0}, "`n_init`: must be an integer"),
        ({"reg": -1.0}, "`reg`: must be a number >= 0"),
        ({"max_iter": 0}, "`max_iter`: must be an integer"),
        ({"tol": math.nan}, "`tol`: must be a number >= 0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        GMMOptions(**options)


@pytest.mark.parametrize(
    ("weights", "means"),
    [
        (np.ones(3) / 3, np.zeros((2, 2))),
        ([0.0, 1.0], np.zeros((2, 2))),
        (np.ones(2) / 2, np.full((2, 2), np.nan)),
    ],
)
def test_init_must_fit(weights, means):
    init = Mixture(np.array(weights), means, np.tile(np.eye(2), (2, 1, 1)))
    with pytest.raises(ConfigError, match="`init`: must be"):
        gmm(tumor(50), 2, init=init)


@pytest.mark.parametrize("weight", [np.ones(49), np.zeros(50), np.full(50, np.nan)])
def test_weights_must_fit(weight):
    with pytest.raises(InputError, match="`sample_weight`"):
        gmm(tumor(50), 2, sample_weight=weight)

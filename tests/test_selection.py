"""Filters, mRMR and ComBat: against other programs, and what a user relies on."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from sklearn.base import clone
from sklearn.feature_selection import f_classif
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from habitat.errors import CohortError, ConfigError, ModelError
from habitat.reliability import icc
from habitat.selection import (
    MRMR,
    ComBat,
    CorrelationFilter,
    VarianceFilter,
    VolumeFilter,
    midranks,
)
from habitat.selection._filters import separation, unit_columns
from habitat.selection._mrmr import binned, f_values, mrmr

FILTERS = [VarianceFilter(), CorrelationFilter(), VolumeFilter()]
RANKERS = [MRMR(scheme=scheme) for scheme in ("fcq", "mid", "miq")]


@pytest.mark.filterwarnings("ignore:No features were selected")
@parametrize_with_checks([*FILTERS, *RANKERS[:2]])
def test_scikit_learn_accepts(estimator, check):
    check(estimator)


def waves(n: int = 40, p: int = 6) -> np.ndarray:
    """Columns that look like noise and are the same on every machine."""
    i, j = np.arange(n)[:, None], np.arange(p)
    return np.sin(7.3 * (i + 1) * (j + 1.7)) + 0.5 * np.cos(3.1 * i + j)


def cohort(seed: int, n: int = 60, p: int = 12, classes: int = 2):
    """Correlated columns, some of which tell the classes apart."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + rng.normal(size=(n, 1))
    X[:, ::3] += rng.uniform(0, 2, size=X[:, ::3].shape[1]) * y[:, None]
    return X, y


@pytest.mark.parametrize("estimator", [*FILTERS, MRMR(2)], ids=repr)
def test_names_of_the_columns_that_are_kept_are_told(estimator) -> None:
    X, y = cohort(0)
    table = pd.DataFrame(X, columns=[f"h1_f{i}" for i in range(X.shape[1])])
    model = clone(estimator).fit(table, y)
    kept = table.columns[model.get_support()]
    assert model.get_feature_names_out().tolist() == kept.tolist()
    np.testing.assert_array_equal(model.transform(table), table[kept])


@pytest.mark.parametrize("estimator", [*FILTERS, *RANKERS], ids=repr)
def test_the_order_of_the_rows_does_not_matter(estimator) -> None:
    X, y = cohort(1)
    turn = np.random.default_rng(0).permutation(len(y))
    want = clone(estimator).fit(X, y).get_support()
    np.testing.assert_array_equal(clone(estimator).fit(X[turn], y[turn]).support_, want)


@pytest.mark.parametrize(
    "estimator",
    [VarianceFilter(-1.0), CorrelationFilter(np.nan), VolumeFilter(volume=12), MRMR(0)],
    ids=repr,
)
def test_an_impossible_argument_is_named(estimator) -> None:
    with pytest.raises(ConfigError, match="min_variance|limit|volume|n_features"):
        estimator.fit(*cohort(0))


# --- filters --------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30))
def test_midranks_are_those_of_scipy(values) -> None:
    np.testing.assert_array_equal(midranks(values), rankdata(values))
    two = np.array([values, values[::-1]]).T
    np.testing.assert_array_equal(midranks(two), rankdata(two, axis=0))


def test_separation_is_the_area_under_the_curve() -> None:
    X, y = cohort(2)
    X = X.round(0)  # ties
    want = [abs(2 * roc_auc_score(y, column) - 1) for column in X.T]
    np.testing.assert_allclose(separation(X, y), want, atol=1e-12)
    X, y = cohort(2, classes=3)
    each = [[abs(2 * roc_auc_score(y == c, x) - 1) for x in X.T] for c in range(3)]
    np.testing.assert_allclose(separation(X, y), np.max(each, axis=0), atol=1e-12)


def test_constant_columns_go_whatever_their_value_or_unit() -> None:
    rng = np.random.default_rng(0)
    diffusion = rng.normal(1e-3, 2e-5, size=50)  # mm2/s: variance 4e-10
    coarseness = rng.normal(1e-6, 1e-7, size=50)
    X = np.column_stack([np.full(50, 0.1), diffusion, np.full(50, 1e9), coarseness])
    X = np.column_stack([X, np.zeros(50), 1000 + 1e-5 * rng.normal(size=50)])
    kept = VarianceFilter().fit(X).get_support()
    assert kept.tolist() == [False, True, False, True, False, False]


def test_of_two_alike_the_one_that_tells_the_classes_better_stays() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    better = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    worse = np.array([1.0, 2.0, 4.0, 3.0, 5.0, 6.0])
    other = np.array([1.0, -1.0, 0.5, -0.5, 1.0, -1.0])
    X = np.column_stack([worse, other, better])
    assert CorrelationFilter().fit(X, y).support_.tolist() == [False, True, True]
    # one that falls with the class tells as much
    falling = np.column_stack([worse, other, -better])
    assert CorrelationFilter().fit(falling, y).support_.tolist() == [False, True, True]
    assert CorrelationFilter(0.99).fit(X, y).support_.all()


def test_of_equals_the_earlier_column_stays() -> None:
    X, y = cohort(3, p=4)
    twice = np.column_stack([X, -3.0 * X + 1.0])
    for classes in (y, None):
        kept = CorrelationFilter(0.9999).fit(twice, classes).support_
        assert kept.tolist() == [True] * 4 + [False] * 4


def test_without_classes_the_column_less_like_all_others_stays() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400))
    hub = a + 0.4 * b  # like the first, and something like the last
    X = np.column_stack([hub, a, b])
    assert CorrelationFilter().fit(X).support_.tolist() == [False, True, True]


def test_a_column_that_was_dropped_drops_no_other() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    chain = np.column_stack([a, a + 0.4 * b, a + 0.9 * b])  # 1 ~ 2 ~ 3, 1 not ~ 3
    y = (a > 0).astype(int)
    r = np.abs(np.corrcoef(chain.T))
    assert min(r[0, 1], r[1, 2]) > 0.85 > r[0, 2]
    kept = CorrelationFilter(0.85).fit(chain, y).support_
    assert kept.tolist() == [True, False, True]


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.9]), st.integers(2, 3))
def test_correlation_filter_is_what_it_says(seed, limit, classes) -> None:
    X, y = cohort(seed, classes=classes)
    kept = CorrelationFilter(limit).fit(X, y).support_
    r = np.abs(np.corrcoef(X.T))
    auc = separation(X, y)
    among = r[np.ix_(kept, kept)]
    assert (among[~np.eye(len(among), dtype=bool)] <= limit).all()
    for column in np.flatnonzero(~kept):
        alike = kept & (r[column] > limit)
        assert auc[alike].max() >= auc[column]


def test_a_constant_column_is_like_no_other() -> None:
    X, y = cohort(4, p=3)
    X[:, 1] = 0.1
    np.testing.assert_array_equal(unit_columns(X)[:, 1], 0.0)
    assert CorrelationFilter(0.0).fit(X, y).support_[1]
    assert VolumeFilter(0.0).fit(X).support_.tolist() == [False, True, False]


def test_volume_in_disguise_goes() -> None:
    X, _ = cohort(5, p=20)
    X[:, 4] = np.exp(-X[:, 7])  # any monotone function of it
    for limit in (0.2, 0.4, 0.8):
        rho = np.abs(spearmanr(X).statistic[7])
        kept = VolumeFilter(limit, volume=7).fit(X).support_
        np.testing.assert_array_equal(kept, rho <= limit)
        assert not kept[[4, 7]].any()


# --- mRMR -----------------------------------------------------------------------------

# What steps() below has been to feature_engine 1.9.4: the columns in
# selection.MRMR(method="FCQ", max_features=m) for m = 2, and what each larger m added
CHOSEN = [{4, 5}, {1}, {0}, {3}, {2}]


def steps():
    y = np.arange(40) % 2
    X = waves()
    X[:, 3] += X[:, 5]
    return X + np.linspace(0.1, 0.6, 6) * y[:, None], y


def test_fcq_chooses_as_feature_engine_did() -> None:
    X, y = steps()
    order = MRMR(6).fit(X, y).ranking_.tolist()
    assert [set(order[:2]), *({column} for column in order[2:])] == CHOSEN


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("m", [2, 3, 7])
def test_fcq_chooses_as_feature_engine_does(seed, m) -> None:
    oracle = pytest.importorskip("feature_engine.selection")
    X, y = cohort(seed, p=25, classes=2 + seed % 2)
    table = pd.DataFrame(X, columns=[f"f{i}" for i in range(25)])
    theirs = oracle.MRMR(method="FCQ", max_features=m).fit(table, pd.Series(y))
    ours = MRMR(m).fit(table, y)
    assert set(ours.get_feature_names_out()) == set(table) - set(
        theirs.features_to_drop_
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_f_is_that_of_scikit_learn(classes) -> None:
    X, y = cohort(6, classes=classes)
    np.testing.assert_allclose(f_values(X, y), f_classif(X, y)[0], rtol=1e-10)


@pytest.mark.parametrize("scheme", ["mid", "miq"])
def test_information_is_that_of_the_bins(scheme) -> None:
    X, y = cohort(7)
    bins, k = binned(X)
    assert np.bincount(bins[:, 0]).tolist() == [15] * k == [15] * 4
    relevance = np.array([mutual_info_score(y, b) for b in bins.T])
    order = [int(np.argmax(relevance))]
    while len(order) < 5:
        both = [[mutual_info_score(bins[:, s], b) for s in order] for b in bins.T]
        mean = np.mean(both, axis=1)
        score = relevance - mean if scheme == "mid" else relevance / mean
        score[order] = -np.inf
        order.append(int(np.argmax(score)))
    assert mrmr(X, y, 5, scheme).tolist() == order


@pytest.mark.parametrize("scheme", ["fcq", "mid", "miq"])
def test_a_copy_is_not_chosen_beside_its_original(scheme) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    first = y + rng.normal(0, 0.6, 200)
    second = y + rng.normal(0, 1.0, 200)
    X = np.column_stack(
        [rng.normal(size=200), second, first, first + 0.01 * rng.normal(size=200)]
    )
    chosen = set(MRMR(2, scheme).fit(X, y).ranking_.tolist())
    assert chosen in ({1, 2}, {1, 3})


@pytest.mark.parametrize("scheme", ["fcq", "mid", "miq"])
def test_of_equal_scores_the_earlier_column_is_chosen(scheme) -> None:
    X, y = cohort(8, p=7)
    twice = np.column_stack([X, 5.0 - X / 3.0, X])
    assert mrmr(twice, y, 1, scheme) < 7
    np.testing.assert_array_equal(
        mrmr(twice[:, :14], y, 1, scheme), mrmr(X, y, 1, scheme)
    )


def test_two_rows_are_enough() -> None:
    for scheme in ("fcq", "mid", "miq"):
        X = np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
        assert mrmr(X, np.array([0, 1]), 2, scheme)[0] == 1


@pytest.mark.parametrize("scheme", ["mid", "miq"])
def test_information_is_blind_to_monotone_changes(scheme) -> None:
    X, y = cohort(8)
    want = mrmr(X, y, 6, scheme)
    np.testing.assert_array_equal(mrmr(np.exp(X / 10), y, 6, scheme), want)


@pytest.mark.parametrize("scheme", ["fcq", "mid", "miq"])
def test_constant_and_perfect_columns(scheme) -> None:
    X, y = cohort(9, p=4)
    X[:, 0] = 0.1
    X[:, 2] = y
    model = MRMR(9, scheme).fit(X, np.array(["low", "high"])[y])
    assert model.ranking_[0] == 2
    assert sorted(model.ranking_.tolist()) == [0, 1, 2, 3]
    assert model.support_.all()


def test_classes_that_mrmr_cannot_use() -> None:
    X, y = cohort(0)
    with pytest.raises(CohortError, match="one class: 'high'"):
        MRMR().fit(X, ["high"] * len(y))
    with pytest.raises(ValueError, match="NaN"):
        MRMR().fit(X, np.where(y == 1, np.nan, 0.0))
    with pytest.raises(ConfigError, match="did you mean 'fcq'"):
        MRMR(scheme="FCQ").fit(X, y)


# --- ComBat ---------------------------------------------------------------------------

# Waves of three sites; neuroCombat 0.2.12, neuroCombat(X.T, site, "site") with the
# stop `conv` of its it_sol set to 1e-13; columns 0 and 5, rows 0, 20 and 39
GAMMA = [
    [-0.5684174560191998, 0.08484093931764955],
    [2.7426586171959197, 1.108266033137577],
    [-2.0433955617519866, -1.190811810410595],
]
DELTA = [
    [0.7638912372839625, 0.6930153484665285],
    [2.3230275670656715, 2.297137438603255],
    [0.26743066471811283, 0.4423891019363077],
]
ADJUSTED = [
    [0.0008192601461245021, -134.02440768878859],
    [-2.3196704028679606e-06, -33.458466399028204],
    [-0.0011928368350006579, 212.86087061720352],
]
SITES = np.repeat(["a", "b", "c"], [16, 12, 12])


def scanners() -> np.ndarray:
    """Six features of very different size that three sites shift and scale."""
    j, site = np.arange(6), np.repeat([0, 1, 2], [16, 12, 12])[:, None]
    X = waves() * np.array([1.0, 1.6, 0.7])[site] * (1 + 0.1 * j)
    X = X + np.array([0.0, 1.0, -2.0])[site] * (1 + 0.2 * np.sin(j))
    return 10.0 ** (j - 3.0) * X + 5.0 * j


def test_combat_equals_neurocombat() -> None:
    X = scanners()
    model = ComBat().fit(X, SITES)
    assert model.site_names_.tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(model.gamma_[:, [0, 5]], GAMMA, rtol=1e-8)
    np.testing.assert_allclose(model.delta_[:, [0, 5]], DELTA, rtol=1e-8)
    found = model.transform(X, SITES)[np.ix_([0, 20, 39], [0, 5])]
    np.testing.assert_allclose(found, ADJUSTED, rtol=1e-8)
    assert model.notes_ == ()


def test_combat_solves_the_equations_of_combatlearn() -> None:
    """combatlearn 2.3 has priors per feature over sites; turned, they are Johnson's."""
    core = pytest.importorskip("combatlearn.core")
    X = scanners()
    ours = ComBat().fit(X, SITES)
    theirs = core.ComBatModel(method="johnson", eps=1e-300).fit(X, batch=SITES)
    sd = np.sqrt(theirs._pooled_var.to_numpy())
    np.testing.assert_allclose(ours.grand_mean_, theirs._grand_mean, rtol=1e-12)
    np.testing.assert_allclose(ours.pooled_sd_, sd, rtol=1e-12)
    z = [(X[name == SITES] - ours.grand_mean_) / sd for name in "abc"]
    shift = np.array([part.mean(axis=0) for part in z])
    scale = np.array([part.var(axis=0, ddof=1) for part in z])
    for site, part in enumerate(z):
        gamma, delta = theirs._shrink_gamma_delta(
            shift.T, scale.T, np.full(6, len(part)), parametric=True, tol=1e-13
        )
        np.testing.assert_allclose(ours.gamma_[site], gamma[:, site], atol=1e-8)
        np.testing.assert_allclose(ours.delta_[site], delta[:, site], atol=1e-8)
    theirs._gamma_star, theirs._delta_star = ours.gamma_, ours.delta_
    want = theirs.transform(X, batch=SITES).to_numpy()
    found = ours.transform(X, SITES)
    np.testing.assert_allclose(found / sd, want / sd, atol=1e-8)


def test_one_feature_is_not_shrunk_as_in_combatlearn() -> None:
    core = pytest.importorskip("combatlearn.core")
    X = scanners()[:, :1]
    theirs = core.ComBatModel(method="johnson", eps=1e-300)
    with pytest.warns(UserWarning, match="Only one feature"):
        theirs.fit(X, batch=SITES)
    found = ComBat().fit(X, SITES).transform(X, SITES)
    np.testing.assert_allclose(
        found, theirs.transform(X, batch=SITES), rtol=1e-8, atol=1e-12
    )


def test_a_row_is_harmonized_alone_as_with_the_others() -> None:
    X = scanners()
    model = ComBat().fit(X[::2], SITES[::2])
    together = model.transform(X, SITES)
    alone = [model.transform(X[[i]], SITES[[i]])[0] for i in range(len(X))]
    np.testing.assert_array_equal(alone, together)


def test_neither_units_nor_the_order_of_rows_and_columns_matter() -> None:
    X = scanners()
    want = ComBat().fit(X, SITES).transform(X, SITES)
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(40), rng.permutation(6)
    turned = 1e-6 * X[np.ix_(rows, columns)] - 3.0
    found = ComBat().fit(turned, SITES[rows]).transform(turned, SITES[rows])
    span = X.std(axis=0)[columns]
    back = (found + 3.0) / 1e-6
    np.testing.assert_allclose(
        back / span, want[np.ix_(rows, columns)] / span, atol=1e-6
    )


def test_planted_sites_are_brought_together_and_the_signal_stays() -> None:
    rng = np.random.default_rng(0)
    sites = np.repeat(["x", "y", "z"], 80)
    y = np.tile([0, 1], 120)
    truth = rng.normal(size=(240, 30))
    truth[:, 0] += 1.5 * y
    code = np.repeat([0, 1, 2], 80)
    X = truth * np.array([1.0, 2.0, 0.5])[code, None]
    X = X + rng.normal(0, 2, size=(3, 30))[code]
    found = ComBat().fit(X, sites).transform(X, sites)
    means = np.array([found[sites == s].mean(axis=0) for s in "xyz"])
    spreads = np.array([found[sites == s].std(axis=0) for s in "xyz"])
    assert np.ptp(means, axis=0).max() < 0.1
    assert (spreads.max(axis=0) / spreads.min(axis=0)).max() < 1.3
    raw, ours, best = (roc_auc_score(y, part[:, 0]) for part in (X, found, truth))
    assert raw + 0.04 < ours
    assert ours == pytest.approx(best, abs=0.01)


def test_the_outcome_is_no_argument() -> None:
    """In a pipeline y would come as the sites: it fails and does not leak."""
    X, y = cohort(0)
    with pytest.raises(TypeError, match="sites"):
        make_pipeline(ComBat(), MRMR(2)).fit(X, y)


def test_small_sites_are_only_shifted() -> None:
    X = scanners()
    sites = np.repeat(["a", "b", "c", "d"], [16, 15, 8, 1])
    model = ComBat().fit(X, sites)
    (note,) = model.notes_
    assert note.endswith("only the shift, not the scale, of 'c' (8), 'd' (1)")
    np.testing.assert_array_equal(model.delta_[2:], 1.0)
    assert (model.delta_[:2] != 1.0).all()
    # the posterior mean of n cases of variance 1 with the site's own prior
    z = (X - model.grand_mean_) / model.pooled_sd_
    for site, n in (("c", 8), ("d", 1)):
        mean = z[sites == site].mean(axis=0)
        weight = n * mean.var(ddof=1)
        want = (weight * mean + mean.mean()) / (weight + 1)
        np.testing.assert_allclose(model.gamma_["abcd".index(site)], want, rtol=1e-10)


def test_mean_only_for_all_or_for_none() -> None:
    X = scanners()
    sites = np.repeat(["a", "b", "c", "d"], [16, 15, 8, 1])
    shifted = ComBat(mean_only=True).fit(X, sites)
    np.testing.assert_array_equal(shifted.delta_, 1.0)
    assert "'a' (16)" in shifted.notes_[0]
    scaled = ComBat(mean_only=False).fit(X, sites)
    assert (scaled.delta_[:3] != 1.0).all()
    assert scaled.notes_[0].endswith("of 'd' (1)")
    with pytest.raises(ConfigError, match="mean_only"):
        ComBat(mean_only="no").fit(X, sites)


def test_one_site_changes_nothing() -> None:
    X = scanners()
    model = ComBat().fit(X, ["here"] * 40)
    np.testing.assert_array_equal(model.transform(X, ["here"] * 40), X)
    assert "one site, 'here'" in model.notes_[0]
    assert model.gamma_.shape == model.delta_.shape == (1, 6)


def test_constant_columns_and_copied_rows_are_safe() -> None:
    X = scanners()
    plain = ComBat().fit(X, SITES).transform(X, SITES)
    more = np.column_stack(
        [X, np.full(40, 0.1), np.repeat([1.0, 2.0, 4.0], [16, 12, 12])]
    )
    model = ComBat().fit(more, SITES)
    found = model.transform(more, SITES)
    np.testing.assert_array_equal(found[:, :6], plain)  # they shift no prior
    np.testing.assert_allclose(found[:, 6], 0.1)
    np.testing.assert_allclose(found[:, 7], more[:, 7].mean())
    once = X.copy()
    once[SITES == "b", 2] = 7.0  # constant at one site
    assert np.isfinite(ComBat().fit(once, SITES).transform(once, SITES)).all()
    once[SITES == "b"] = once[16]  # a site of one case, copied
    model = ComBat().fit(once, SITES)
    np.testing.assert_array_equal(model.delta_[1], 1.0)
    assert np.isfinite(model.transform(once, SITES)).all()
    twins = np.column_stack([X[:, 0], X[:, 0]])  # no spread over the features
    assert np.isfinite(ComBat().fit(twins, SITES).transform(twins, SITES)).all()


def test_a_site_unknown_in_training_is_refused() -> None:
    """BAD_INPUTS row 48."""
    X = scanners()
    model = ComBat().fit(X, SITES)
    with pytest.raises(ModelError, match=r"training: 'd', 'e'; ComBat knows 'a', 'b'"):
        model.transform(X[:3], ["a", "e", "d"])
    with pytest.raises(
        ModelError, match="2 of 3 rows have no site, the first is row 1"
    ):
        model.transform(X[:3], ["a", None, ""])
    with pytest.raises(CohortError, match="1 of 40 rows have no site"):
        ComBat().fit(X, pd.Series(SITES).where(np.arange(40) != 3))
    with pytest.raises(ConfigError, match=r"each of the 40 rows, has shape \(39,\)"):
        ComBat().fit(X, SITES[1:])
    with pytest.raises(ValueError, match="NaN"):
        ComBat().fit(np.where(X > 5, np.nan, X), SITES)
    with pytest.raises(ValueError, match="features"):
        model.transform(X[:, :3], SITES)


def test_numbers_may_name_sites_and_arrays_are_all_there_is() -> None:
    X = scanners()
    numbers = np.repeat([3, 1, 2], [16, 12, 12])
    model = ComBat().fit(X, numbers)
    assert model.site_names_.tolist() == ["1", "2", "3"]
    again = ComBat()
    for name in ("site_names_", "grand_mean_", "pooled_sd_", "gamma_", "delta_"):
        setattr(again, name, getattr(model, name).copy())
    again.n_features_in_ = 6
    np.testing.assert_array_equal(
        again.transform(X, numbers), model.transform(X, numbers)
    )


# --- the ICC that features are filtered by --------------------------------------------


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0])
def test_icc_is_that_of_pingouin(noise) -> None:
    pingouin = pytest.importorskip("pingouin")
    rng = np.random.default_rng(0)
    ratings = rng.normal(size=(15, 1)) + noise * rng.normal(size=(15, 4))
    subject, rater = np.indices(ratings.shape).reshape(2, -1)
    long = pd.DataFrame({"subject": subject, "rater": rater, "value": ratings.ravel()})
    table = pingouin.intraclass_corr(
        long, targets="subject", raters="rater", ratings="value"
    ).set_index("Type")
    found = icc(ratings)
    assert found.agreement.value == pytest.approx(table.ICC["ICC(A,1)"], abs=1e-8)
    assert found.consistency.value == pytest.approx(table.ICC["ICC(C,1)"], abs=1e-8)

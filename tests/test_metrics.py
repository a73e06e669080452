"""Numbers of a classifier against independent implementations and known values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from habitat.errors import ConfigError, InputError
from habitat.evaluation import (
    _calibration,
    _decision,
    _intervals,
    _metrics,
    _sample_size,
)
from habitat.plotting import _performance

seeds = st.integers(0, 10_000)
few = settings(max_examples=30)  # scikit-learn takes most of the time

# For numbers that the oracles gave, where they are not installed.
Y = [0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 1]
A = [0.1, 0.2, 0.35, 0.3, 0.4, 0.45, 0.55, 0.6, 0.7, 0.75, 0.8, 0.9]
B = [0.3, 0.1, 0.5, 0.2, 0.6, 0.4, 0.45, 0.7, 0.35, 0.55, 0.65, 0.8]


def two_classes(seed, n=60, ties=False):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(int)
    y[:4] = [0, 0, 1, 1]
    s = rng.normal(size=n) + y
    return y, np.round(s, 1) if ties else s


@few
@given(seeds, st.booleans())
def test_areas_are_those_of_scikit_learn(seed, ties):
    y, s = two_classes(seed, ties=ties)
    assert _metrics.auc(y, s) == pytest.approx(oracle.roc_auc_score(y, s), abs=1e-12)
    expected = oracle.average_precision_score(y, s)
    assert _metrics.average_precision(y, s) == pytest.approx(expected, abs=1e-12)


@few
@given(seeds)
def test_several_classes_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[0, 0, 1, 1, 2, 2, rng.integers(0, 3, 50)]
    P = rng.dirichlet([1, 1, 1], len(y))
    P[:, 1] += 0.3 * (y == 1)
    P /= P.sum(axis=1, keepdims=True)
    expected = oracle.roc_auc_score(y, P, multi_class="ovo")
    assert _metrics.hand_till(y, P) == pytest.approx(expected, abs=1e-12)
    expected = oracle.roc_auc_score(y, P, multi_class="ovr")
    assert _metrics.one_vs_rest(y, P).mean() == pytest.approx(expected, abs=1e-12)
    said = P.argmax(axis=1)
    expected = oracle.cohen_kappa_score(y, said, weights="quadratic")
    assert _metrics.weighted_kappa(y, said) == pytest.approx(expected, abs=1e-12)


@few
@given(seeds)
def test_the_ordinal_c_is_the_mean_over_pairs(seed):
    rng = np.random.default_rng(seed)
    y = np.r_[0, 1, 2, rng.integers(0, 3, 40)]
    s = rng.normal(size=len(y)) + y
    pairs = [(0, 1), (0, 2), (1, 2)]
    each = [
        oracle.roc_auc_score(y[np.isin(y, p)] == p[1], s[np.isin(y, p)]) for p in pairs
    ]
    assert _metrics.ordinal_c(y, s) == pytest.approx(np.mean(each), abs=1e-12)


@few
@given(seeds)
def test_tables_are_those_of_scikit_learn(seed):
    y, s = two_classes(seed)
    said = s > 0.5
    found = _metrics.Confusion.of(y, said)
    shares = {k: a / b for k, (a, b) in found.shares.items() if b}
    assert shares["sensitivity"] == oracle.recall_score(y, said)
    if said.any():
        assert shares["ppv"] == oracle.precision_score(y, said)
    expected = oracle.balanced_accuracy_score(y, said)
    assert found.balanced_accuracy == pytest.approx(expected)
    if 0 < said.sum() < len(y):
        assert found.mcc == pytest.approx(oracle.matthews_corrcoef(y, said))


def test_shares_of_no_case_are_nan():
    found = _metrics.Confusion.of([0, 0], [False, False])
    assert found.shares["ppv"] == (0, 0)
    assert np.isnan(found.mcc)
    assert np.isnan(_metrics.auc([1, 1], [0.2, 0.3]))
    assert np.isnan(_metrics.average_precision([0, 0], [0.2, 0.3]))
    assert np.isnan(_metrics.scaled_brier([1, 1], [0.2, 0.3]))


def test_brier_and_its_scale():
    y, s = two_classes(0)
    p = 1 / (1 + np.exp(-s))
    assert _metrics.brier(y, p) == pytest.approx(oracle.brier_score_loss(y, p))
    assert _metrics.scaled_brier(y, np.full(len(y), y.mean())) == pytest.approx(0)
    assert _metrics.scaled_brier(y, y) == 1


# --- intervals ------------------------------------------------------------------------


@given(seeds, st.booleans())
def test_delong_is_that_of_the_definition(seed, ties):
    y, a = two_classes(seed, 40, ties)
    b = a + np.random.default_rng(seed + 1).normal(size=40)
    areas, covariance = _metrics.delong(y, [a, b])
    wins = [
        (s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])
        for s in (a, b)
    ]
    np.testing.assert_allclose(areas, [w.mean() for w in wins], atol=1e-12)
    v10 = np.cov([w.mean(axis=1) for w in wins]) / (y == 1).sum()
    v01 = np.cov([w.mean(axis=0) for w in wins]) / (y == 0).sum()
    np.testing.assert_allclose(covariance, v10 + v01, atol=1e-12)


def test_delong_is_that_of_mlstatkit():
    # MLstatkit 0.1.91, Delong_test(Y, B, A): p and var_diff
    found = _metrics.delong_test(Y, B, A)
    assert found.value == pytest.approx(23 / 36 - 28 / 36)
    assert found.p == pytest.approx(0.2775096944866512, abs=1e-12)
    se = (found.high - found.low) / 2 / stats.norm.ppf(0.975)
    assert se**2 == pytest.approx(0.016358024691358025, abs=1e-12)
    delong_test = pytest.importorskip("MLstatkit").Delong_test
    for seed in range(5):
        y, a = two_classes(seed, 80)
        b = a + np.random.default_rng(seed + 1).normal(size=80)
        found = _metrics.delong_test(y, a, b)
        result = delong_test(y, a, b)
        z, p = result[0], result[1]
        assert found.p == pytest.approx(p, abs=1e-8)
        se = (found.high - found.low) / 2 / stats.norm.ppf(0.975)
        assert abs(found.value / se) == pytest.approx(abs(z), abs=1e-8)


def test_an_interval_stays_within_0_and_1():
    low, high, how = _metrics.delong_interval(0.95, 0.002, 20)
    assert 0 < low < 0.95 < high < 1
    assert how == "DeLong, logit scale"
    low, high, how = _metrics.delong_interval(1.0, 0.0, 20)
    # (alpha / 2)^(1 / n), Clopper and Pearson of 20 of 20
    assert (low, high) == (pytest.approx(0.8316, abs=1e-4), 1.0)
    assert "exact" in how
    assert np.isnan(_metrics.delong_interval(0.5, 0.0, 20)[:2]).all()


def test_equal_scores_do_not_differ():
    y, a = two_classes(0)
    assert _metrics.delong_test(y, a, 2 * a) == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(InputError, match="found 1 positive and 2 negative"):
        _metrics.delong([0, 0, 1], [[1, 2, 3]])


@pytest.mark.parametrize(("k", "n"), [(0, 10), (8, 10), (81, 263), (20, 20)])
def test_wilson_is_that_of_statsmodels(k, n):
    # statsmodels 0.15.0, proportion_confint(k, n, method="wilson"); 81 of 263 is the
    # example of Newcombe, Stat Med 1998;17:857
    golden = {
        (0, 10): (0.0, 0.2775),
        (8, 10): (0.4902, 0.9433),
        (81, 263): (0.2553, 0.3662),
        (20, 20): (0.8389, 1.0),
    }
    assert _metrics.wilson(k, n) == pytest.approx(golden[k, n], abs=1e-4)
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    expected = proportion.proportion_confint(k, n, method="wilson")
    assert _metrics.wilson(k, n) == pytest.approx(expected, abs=1e-8)


def test_the_corrected_t_is_wider_than_the_plain_one():
    rng = np.random.default_rng(0)
    values = rng.normal(0.1, 0.05, 50)
    found = _intervals.corrected_t(values, 80, 20)
    plain = stats.ttest_1samp(values, 0).confidence_interval()
    ratio = np.sqrt((1 / 50 + 20 / 80) / (1 / 50))
    width = (plain.high - plain.low) * ratio
    assert found.high - found.low == pytest.approx(width)
    assert found.value == pytest.approx(values.mean())
    assert np.isnan(_intervals.corrected_t([0.3], 80, 20).low)
    assert np.isnan(_intervals.corrected_t([0.3, 0.3], 80, 20)[1:]).all()
    assert _intervals.corrected_t([0.0, 0.0], 80, 20) == (0, 0, 0, 1)


def test_the_bootstrap_covers_what_delong_covers():
    y, s = two_classes(3, 200)
    low, high = _intervals.bootstrap(_metrics.auc, y, s, n=1000)
    area, variance = (v.ravel()[0] for v in _metrics.delong(y, s))
    half = 1.96 * np.sqrt(variance)
    assert low == pytest.approx(area - half, abs=0.015)
    assert high == pytest.approx(area + half, abs=0.015)


# --- probabilities --------------------------------------------------------------------


def test_calibration_is_that_of_logistic_regression_in_statsmodels():
    # statsmodels 0.15.0, GLM(Y, ..., Binomial()).fit(tol=1e-12): params, conf_int
    found = _calibration.calibration(Y, A)
    assert found.intercept == pytest.approx(-0.04328305, abs=1e-8)
    assert found.intercept_interval == pytest.approx((-1.33268599, 1.2461199), abs=1e-6)
    assert found.slope == pytest.approx(1.07330915, abs=1e-8)
    assert found.slope_interval == pytest.approx((-0.3006022, 2.4472205), abs=1e-6)
    sm = pytest.importorskip("statsmodels.api")
    for seed in range(4):
        y, s = two_classes(seed, 120)
        p = 1 / (1 + np.exp(-1.7 * s + 0.4))
        z = np.log(p / (1 - p))
        found = _calibration.calibration(y, p)
        binomial = sm.families.Binomial()
        large = sm.GLM(y, np.ones((120, 1)), family=binomial, offset=z).fit(tol=1e-12)
        assert found.intercept == pytest.approx(large.params[0], abs=1e-8)
        ends = large.conf_int()[0]
        assert found.intercept_interval == pytest.approx(ends, abs=1e-6)
        slope = sm.GLM(y, sm.add_constant(z), family=binomial).fit(tol=1e-12)
        assert found.slope == pytest.approx(slope.params[1], abs=1e-8)
        assert found.slope_interval == pytest.approx(slope.conf_int()[1], abs=1e-6)


def test_calibration_of_right_probabilities():
    rng = np.random.default_rng(0)
    p = rng.beta(2, 3, 20_000)
    y = (rng.random(20_000) < p).astype(int)
    part = slice(0, 2_000)
    found = _calibration.calibration(y[part], p[part])
    assert abs(found.intercept) < 0.15
    assert found.slope == pytest.approx(1, abs=0.2)
    assert found.oe == pytest.approx(1, abs=0.1)
    assert found.ici < 0.04
    assert found.spiegelhalter_p > 0.01
    assert found.hosmer_lemeshow_p > 0.01
    extreme = 1 / (1 + np.exp(-3 * np.log(p / (1 - p))))
    assert _calibration.calibration(y[part], extreme[part]).slope < 0.5


def test_calibration_of_classes_that_are_told_apart_has_no_slope():
    found = _calibration.calibration([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert np.isnan(found.slope)
    assert np.isfinite(found.ici)


def test_calibration_of_next_to_nothing():
    assert np.isnan(_calibration.calibration([0, 1], [0.0, 0.0]).oe)
    assert np.isnan(_calibration.calibration([1], [0.5]).slope)


def test_the_curve_has_all_cases_in_its_groups():
    y, s = two_classes(0, 100)
    p = 1 / (1 + np.exp(-s))
    table = _calibration.calibration_curve(y, p)
    groups = table[table["kind"] == "group"]
    assert groups["n"].tolist() == [10] * 10
    assert (groups["observed"] * groups["n"]).sum() == pytest.approx(y.sum())
    bins = table[table["kind"] == "bin"]
    assert bins["n"].tolist() == np.histogram(p, 20, (0, 1))[0].tolist()
    assert table.loc[table["kind"] != "bin", "observed"].between(0, 1).all()


@given(seeds)
def test_calibration_does_not_depend_on_the_order_of_cases(seed):
    rng = np.random.default_rng(seed)
    p = rng.choice([0.1, 0.2, 0.4, 0.6, 0.9], 57)  # a forest gives many equal ones
    y = (rng.random(57) < p).astype(int)
    order = rng.permutation(57)
    once, again = (_calibration.calibration(y[o], p[o]) for o in (slice(None), order))
    for a, b in zip(once, again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)
    curve = _calibration.calibration_curve(y[order], p[order])
    groups = curve[curve["kind"] == "group"]
    assert groups["p"].tolist() == pytest.approx(np.unique(p))
    assert once.hosmer_lemeshow_df == len(np.unique(p))


def test_net_benefit_by_hand():
    found = _decision.net_benefit([0, 0, 1, 1], [0.2, 0.6, 0.7, 0.9], [0.25, 0.65])
    # at .25: 2 hits, 1 alarm of 4: 2/4 - 1/4 / 3; at .65: 2 hits, no alarm
    assert found["model"].tolist() == pytest.approx([2 / 4 - 1 / 12, 0.5])
    assert found["all"].tolist() == pytest.approx([0.5 - 0.5 / 3, 0.5 - 0.5 * 65 / 35])
    assert found["avoided"][0] == pytest.approx(100 * (1 / 4 - 0))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        _decision.net_benefit([0, 1], [0.2, 0.8], [0.0, 0.5])


def test_net_benefit_is_that_of_dcurves():
    # dcurves 1.1.7, dca(..., thresholds=[0.25, 0.5, 0.65]) of Y and A
    found = _decision.net_benefit(Y, A, [0.25, 0.5, 0.65])
    assert found["model"].tolist() == pytest.approx([7 / 18, 1 / 6, 2 / 21])
    assert found["all"].tolist() == pytest.approx([1 / 3, 0, -3 / 7])
    pd = pytest.importorskip("pandas")
    dca = pytest.importorskip("dcurves").dca
    y, s = two_classes(1, 150)
    p = 1 / (1 + np.exp(-s))
    t = np.arange(0.05, 0.8, 0.05)
    expected = dca(
        data=pd.DataFrame({"y": y, "m": p}), outcome="y", modelnames=["m"], thresholds=t
    )
    found = _decision.net_benefit(y, p, t)
    for ours, theirs in (("model", "m"), ("all", "all")):
        rows = expected[expected["model"] == theirs].sort_values("threshold")
        np.testing.assert_allclose(found[ours], rows["net_benefit"], atol=1e-8)


def test_sample_size_is_that_of_pmsampsize():
    # first example of the manual of pmsampsize (Ensor, Martin and Riley): type = "b",
    # csrsquared = 0.288, parameters = 24, prevalence = 0.174; the numbers are those
    # that the tests of its Python port expect
    found = _sample_size.sample_size(24, 0.174, r2=0.288)
    assert found == (623, 662, 221)
    assert found.n == 662
    assert _sample_size.sample_size(1, 0.5).n < _sample_size.sample_size(10, 0.5).n


# --- figures --------------------------------------------------------------------------


def test_figures_show_what_they_are_given():
    pd = pytest.importorskip("pandas")
    curve = _calibration.calibration_curve(Y, A)
    figure = _performance.plot_calibration(curve, "slope 1.07")
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    bins = curve.loc[curve["kind"] == "bin", "n"]
    np.testing.assert_allclose(np.array(heights) / max(heights), bins / bins.max())
    assert "slope 1.07" in [text.get_text() for text in axes.texts]

    table = _decision.net_benefit(Y, A, [0.1, 0.3, 0.5, 0.9])
    table["low"], table["high"] = table["model"] - 0.1, table["model"] + 0.4
    (axes,) = _performance.plot_decision(table).axes
    assert axes.get_ylim()[1] > table["high"][:3].max()  # the band is not cut off
    assert max(line.get_xdata()[-1] for line in axes.lines) <= 1

    names = [f"f{i}" for i in range(25)]
    kept = pd.DataFrame({"feature": names, "share": np.linspace(1, 0.1, 25)})
    (axes,) = _performance.plot_importance(kept).axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == names[:20][::-1]

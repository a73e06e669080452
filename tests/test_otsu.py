"""Threshold habitats: exact cuts, fixed numbers, the user's thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.filters import threshold_multiotsu, threshold_otsu

from habitat.clustering import kmeans
from habitat.clustering._otsu import OtsuOptions, Thresholds, otsu
from habitat.errors import ConfigError, HabitatError, InputError
from habitat.kernels.otsu import otsu_cuts
from tests import naive_spatial

NAMES = ("PET", "CT")


def tumor(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    part = rng.integers(0, 4, n)
    pet = np.take([2.0, 5.0, 6.0, 9.0], part) * np.exp(0.15 * rng.standard_normal(n))
    ct = np.take([10, 40, 130, 60], part) + 15 * rng.standard_normal(n)
    return np.stack([pet, np.rint(ct)], axis=1)


def brute(values, levels, weight=None):
    """Cuts by the twin, halfway between neighboring distinct values."""
    x = np.unique(values).astype(float)
    w = np.array([(values == v).sum() if weight is None else weight[values == v].sum()
                  for v in x], float)  # fmt: skip
    below = np.empty(levels - 1, int)
    naive_spatial.otsu_cuts(x - np.float64(np.average(x, weights=w)), w, below)
    return (x[below - 1] + x[below]) / 2


@pytest.mark.parametrize("levels", [2, 3, 4, 5])
@pytest.mark.parametrize("m", [5, 6, 11])
def test_kernel_equals_twin(m, levels):
    rng = np.random.default_rng(m)
    x = np.sort(rng.normal(size=m))
    weight = rng.integers(1, 9, m).astype(float)
    x -= (weight * x).sum() / weight.sum()
    got, want = np.empty(levels - 1, int), np.empty(levels - 1, int)
    found = otsu_cuts(x, weight, got)
    assert found == pytest.approx(naive_spatial.otsu_cuts(x, weight, want), rel=1e-12)
    np.testing.assert_array_equal(got, want)


@given(
    st.lists(st.integers(-30, 30), min_size=5, max_size=40).map(np.array),
    st.integers(2, 5),
)
def test_cuts_are_the_optimum_ties_the_lowest(values, levels):
    found = np.unique(values)
    if len(found) < levels:
        with pytest.raises(ConfigError, match=f"{len(found)} distinct values"):
            otsu(values, levels)
    elif len(found) <= 12:
        np.testing.assert_array_equal(otsu(values, levels), brute(values, levels))


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_no_kmeans_start_finds_less_variance_within(seed, levels):
    x = np.random.default_rng(seed).gamma(2, size=(60, 1))
    cut = OtsuOptions(levels).fit(x, ["x"])
    assert cut.objective <= kmeans(x, levels).objective * (1 + 1e-12)
    assert np.bincount(cut.labels, minlength=levels).min() > 0


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_image_on_whole_numbers(seed):
    x = tumor(seed=seed)[:, 1].astype(int)
    x -= x.min()
    assert np.floor(otsu(x)[0]) == threshold_otsu(x, nbins=256)
    ours, theirs = (
        OtsuOptions(3, {"x": cuts} if cuts is not None else None).fit(x[:, None], ["x"])
        for cuts in (None, threshold_multiotsu(x.astype(np.uint8), 3) + 0.5)
    )
    assert (ours.labels == theirs.labels).mean() > 0.998  # it sums in float32
    assert ours.objective <= theirs.objective * (1 + 1e-12)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1, 1e6), (1e-8, 0), (1e-8, 1e-2), (1e300, 0), (1e-310, 0)]
)
def test_far_off_and_extreme_scales_cut_alike(scale, offset):
    x = tumor()[:, 1]
    for levels in (2, 5):
        want = x[:, None] > otsu(x, levels)
        y = x * scale + offset
        np.testing.assert_array_equal(y[:, None] > otsu(y, levels), want)


def test_neighboring_floats_are_told_apart():
    a = 1.0
    b = np.nextafter(a, 2)
    assert otsu([a, b])[0] == a
    assert (np.array([-1.7e308, 1.7e308]) > otsu([-1.7e308, 1.7e308])).tolist() == [
        False,
        True,
    ]


def test_weights_count_like_repeated_values_and_in_any_order():
    rng = np.random.default_rng(3)
    x, w = rng.integers(0, 9, 50).astype(float), rng.integers(0, 4, 50)
    for levels in (2, 3, 4):
        want = otsu(np.repeat(x, w), levels)
        np.testing.assert_array_equal(otsu(x, levels, sample_weight=w), want)
    share = rng.random(50)
    turn = rng.permutation(50)
    for levels in (2, 3):
        want = otsu(x, levels, sample_weight=share)
        again = otsu(x[turn], levels, sample_weight=share[turn])
        np.testing.assert_array_equal(again, want)
    whole = OtsuOptions().fit(np.repeat(x, w)[:, None], ["x"])
    weighted = OtsuOptions().fit(x[:, None], ["x"], sample_weight=w)
    np.testing.assert_allclose(weighted.centers, whole.centers, rtol=1e-12)
    assert weighted.objective == pytest.approx(whole.objective, rel=1e-12)


def test_quadrants_have_fixed_numbers():
    X = tumor()
    found = OtsuOptions().fit(X, NAMES)
    (t_pet,), (t_ct,) = found.rule.cuts
    want = 2 * (X[:, 0] > t_pet) + (X[:, 1] > t_ct)  # METHODS 1.4, from 0
    np.testing.assert_array_equal(found.labels, want)
    assert found.rule.terms(NAMES)[1] == "PETlow-CThigh"
    for j in range(4):
        np.testing.assert_allclose(found.centers[j], X[want == j].mean(axis=0))
    own = ((X - found.centers[want]) ** 2).sum()
    assert found.objective == pytest.approx(own, rel=1e-12)


def test_a_quadrant_without_voxels_keeps_its_number():
    X = np.array([[1.0, 10], [1.2, 11], [8, 90], [8.1, 91]])
    found = OtsuOptions().fit(X, NAMES)
    assert found.labels.tolist() == [0, 0, 3, 3]
    assert np.isnan(found.centers[1:3]).all()
    assert np.isfinite(found.objective)


def test_numbers_do_not_follow_the_centers():
    """PETlow-CThigh stays second although its mean SUV is the lowest."""
    X = np.repeat([[3.0, 10.0], [1.0, 90.0], [9.0, 10.0], [8.0, 90.0]], 25, axis=0)
    found = OtsuOptions().fit(X, NAMES)
    assert found.centers[:, 0].tolist() == [3, 1, 9, 8]


def test_users_thresholds_and_levels_for_each_channel():
    X = tumor()
    options = OtsuOptions((2, 3), thresholds={"PET": [2.5, 4]})
    assert options.channel_levels(NAMES) == (3, 3)
    found = options.fit(X, NAMES)
    np.testing.assert_array_equal(found.rule.cuts[0], [2.5, 4.0])
    np.testing.assert_array_equal(found.rule.cuts[1], otsu(X[:, 1], 3))
    assert found.rule.k == 9
    assert found.rule.terms(NAMES)[5] == "PETmid-CThigh"
    assert Thresholds((np.arange(3.0),)).terms(["HU"])[3] == "HU4"


def test_the_rule_labels_new_rows_and_keeps_its_order():
    X = tumor()
    rule = OtsuOptions(3).fit(X, NAMES).rule
    np.testing.assert_array_equal(
        rule.labels(X[::-1]), OtsuOptions(3).fit(X, NAMES).labels[::-1]
    )
    assert rule.take(np.arange(9)) is rule
    with pytest.raises(ConfigError, match="renumbered"):
        rule.take(np.arange(9)[::-1])


def test_as_a_method_it_checks_k():
    X, rng = tumor(), np.random.default_rng(0)
    assert OtsuOptions()(X, 4, rng).rule.k == 4
    with pytest.raises(ConfigError) as error:
        OtsuOptions()(X, 3, rng)
    assert "method 'otsu' with 2 levels in 2 channels gives 4 habitats, got k=3" in str(
        error.value
    )
    with pytest.raises(ConfigError, match="2 x 3 levels in 2 channels gives 6"):
        OtsuOptions((2, 3))(X, 4, rng)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OtsuOptions(1),
        lambda: OtsuOptions((2, 6)),
        lambda: OtsuOptions(2.0),
        lambda: OtsuOptions(thresholds={"PET": []}),
        lambda: OtsuOptions(thresholds={"PET": [4, 2]}),
        lambda: OtsuOptions(thresholds={"PET": [1, np.nan]}),
        lambda: OtsuOptions(thresholds={"PET": "high"}),
        lambda: OtsuOptions(thresholds=[4.0]),
        lambda: OtsuOptions(thresholds={"SUV": 4}).fit(tumor(), NAMES),
        lambda: OtsuOptions((2, 2, 2)).fit(tumor(), NAMES),
        lambda: OtsuOptions(5).check(5**4, [*"abcd"]),
        lambda: otsu([1.0, 2.0], 6),
    ],
)
def test_options_that_cannot_be_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_bad_values_are_refused():
    with pytest.raises(ConfigError, match="0 distinct values"):
        otsu([])
    with pytest.raises(InputError, match="1 values are not finite"):
        otsu([1.0, np.nan, 2.0])
    for weight in ([1.0], [1.0, -1.0], [1.0, np.inf]):
        with pytest.raises(InputError, match="sample_weight"):
            otsu([1.0, 2.0], sample_weight=weight)
    flat = np.column_stack([np.ones(9), np.arange(9) % 2])
    with pytest.raises(HabitatError) as error:
        OtsuOptions(3).fit(flat, NAMES)
    assert "channel 0 (PET): 1 distinct" in str(error.value)
    assert "channel 1 (CT): 2 distinct" in str(error.value)

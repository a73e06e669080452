"""choose_k: what each criterion says of data whose answer is known."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import habitat
from habitat.agreement import contingency
from habitat.choice import NAMES, choose_k, choose_rows
from habitat.clustering._criteria import (
    ONE_CLOUD,
    knee,
    strength,
)
from habitat.clustering._structure import (
    gap,
    gap_rule,
    independent_rows,
    structure_p,
)
from habitat.errors import ConfigError, HabitatError, InputError
from habitat.kernels.unimodal import dip
from tests import naive_scores, naive_unimodal

FEW = {"criteria": [], "draws": 39}


def scaled(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


def blobs(k, n, seed):
    """Equal round blobs on a ring; neighbors are five standard deviations apart."""
    angle = 2 * np.pi * np.arange(k) / k
    centers = 2.5 / np.sin(np.pi / k) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    noise = np.random.default_rng(seed).normal(size=(n, 2))
    return scaled(centers[np.arange(n) % k] + noise)


CLOUDS = {
    "isotropic": lambda n, rng: rng.normal(size=(n, 2)),
    "correlated": lambda n, rng: rng.multivariate_normal(
        [0, 0], [[1, 0.6], [0.6, 1]], n
    ),
    "skewed": lambda n, rng: np.stack(
        [rng.lognormal(0, 0.6, n), rng.normal(size=n)], axis=1
    ),
}


def cloud(kind, n, seed):
    return scaled(CLOUDS[kind](n, np.random.default_rng(1000 + seed)))


@pytest.fixture(scope="module")
def result():
    case = habitat.phantom()
    return habitat.segment(case.pet, case.ct, case.mask)


# --- known answers --------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("n", [5000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_separated_blobs_are_counted(k, n):
    chosen = choose_k(blobs(k, n, seed=k), range(1, 8), criteria=["gap", "bic"])
    assert chosen.k == k
    assert chosen.picks["gap"] == chosen.picks["bic"] == k
    assert chosen.structure_p == 0.02


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 5])
def test_blobs_are_counted_on_many_seeds(k):
    for seed in range(10):
        chosen = choose_k(blobs(k, 5000, seed), criteria=["gap", "bic"])
        assert (chosen.k, chosen.picks["gap"], chosen.picks["bic"]) == (k, k, k)


@pytest.mark.parametrize("kind", CLOUDS)
def test_one_cloud_is_left_whole(kind):
    chosen = choose_k(cloud(kind, 3000, seed=0), range(1, 6), **FEW)
    assert chosen.k == 1
    assert ONE_CLOUD in chosen.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLOUDS)
def test_one_cloud_is_left_whole_on_nine_of_ten_seeds(kind):
    p = [
        structure_p(cloud(kind, 5000, seed), range(2, 11), random_state=seed)
        for seed in range(50)
    ]
    assert np.mean(np.array(p) > 0.05) >= 0.9


@pytest.mark.slow
def test_structure_of_a_smooth_field_is_not_found():
    from scipy.ndimage import gaussian_filter

    found = 0
    grid = np.indices((24, 24, 24)) - 11.5
    inside = (grid**2).sum(axis=0) < 100  # a sphere of 20 mm radius, voxels of 2 mm
    n_eff = independent_rows(int(inside.sum()), inside.sum() * 8.0, 6.0)
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(size=(2, *inside.shape))
        X = scaled(
            np.stack([gaussian_filter(f, 6 / 2.355 / 2)[inside] for f in noise], 1)
        )
        found += structure_p(X, range(2, 11), n_eff=n_eff) <= 0.05
    assert found <= 6


def quadrants(n, apart, seed):
    """Two modes in each of two channels that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    return apart * rng.integers(0, 2, (n, 2)) + rng.normal(size=(n, 2))


def test_quadrants_are_no_cloud_although_their_channels_say_it_all():
    chosen = choose_k(quadrants(4000, 5.0, 0), range(1, 7), **FEW)
    assert chosen.structure_p == 0.05
    assert chosen.k == 4


@pytest.mark.parametrize("n_eff", [None, 60.0])
def test_quadrants_are_found_in_images_too(n_eff):
    found = [
        structure_p(quadrants(2000, 6.0, s), [2, 3, 4], draws=39, n_eff=n_eff)
        for s in range(5)
    ]
    assert max(found) <= 0.05


@pytest.mark.parametrize(
    "draw", ["normal", "lognormal", "uniform", "exponential", "standard_t"]
)
def test_one_mode_has_a_small_dip(draw):
    rng = np.random.default_rng(0)
    made = getattr(rng, draw)
    X = made(3, (2000, 2)) if draw == "standard_t" else made(size=(2000, 2))
    assert structure_p(X, [2], draws=39) > 0.05


@pytest.mark.parametrize("n", [2, 3, 4, 9, 20])
def test_dip_equals_its_twin(n):
    rng = np.random.default_rng(n)
    for _ in range(4):
        x, y = np.sort(rng.normal(size=(2, n)), axis=1)
        want = naive_unimodal.dip(x, y)
        assert dip(x, y) == pytest.approx(want, abs=1e-12)


def test_dip_by_hand():
    y = np.array([0.25, 0.75])
    assert dip(np.array([0.0, 1.0]), y) == 0  # one step may always be one mode
    x = np.array([0.0, 1.0, 9.0, 10.0])
    assert dip(x, (np.arange(4) + 0.5) / 4) == pytest.approx(4 / 9 - 1 / 4)


def test_structure_is_cheap_to_ask_for_one_k():
    p = structure_p(blobs(3, 5000, 0), [4], draws=39, rows=2000)
    assert p == 2 / 40
    assert structure_p(cloud("skewed", 5000, 0), [4], draws=39, rows=2000) > 0.05


def test_structure_is_not_tested_without_anything_to_test():
    assert np.isnan(structure_p(np.ones((50, 2)), [2, 3]))
    assert np.isnan(structure_p(np.arange(50.0)[:, None], [1]))
    one = np.column_stack([blobs(3, 500, 0), np.ones(500)])
    assert structure_p(one, [3], draws=39) == structure_p(one[:, :2], [3], draws=39)


def test_phantom_table_says_what_every_criterion_says(result):
    names = [n for n in NAMES if n != "stability"]
    chosen = choose_k(result, range(1, 8), criteria=names)
    assert set(chosen.table) == {*names, "bic_eff", "aic_eff", "icl_eff"}
    assert list(chosen.table.index) == list(range(1, 8))
    assert len({chosen.picks[n] for n in names}) > 1  # nobody forces an answer
    few = independent_rows(669, 669 * result.geometry.voxel_ml * 1000, 6.0)
    full = chosen.table.loc[2, "bic"]
    assert np.isfinite(chosen.table.loc[2, "bic_eff"])
    assert few < 100 < full
    assert np.isnan(chosen.table.loc[4, "bic_eff"])  # 23 parameters
    assert any("fewer than 5 a parameter from k=3" in n for n in chosen.notes)


# --- what the pieces mean -------------------------------------------------------------


def test_gap_does_not_always_pick_the_largest_k():
    rng = np.random.default_rng(0)
    one = gap(cloud("correlated", 2000, 0), 8, 20, rng)
    three = gap(blobs(3, 2000, 0), 8, 20, rng)
    assert gap_rule(range(1, 9), *one) == 1
    assert gap_rule(range(1, 9), *three) == 3


def test_gap_counts_five_blobs_that_look_whole_when_cut_in_two():
    centers = 50 * np.array([[0, 0], [6, 1], [2, 7], [12, 3], [9, 9]])
    X = centers[np.arange(2000) % 5] + np.random.default_rng(0).normal(size=(2000, 2))
    gaps, errors = gap(X, 8, 20, np.random.default_rng(0))
    assert gaps[0] > gaps[1]  # where Tibshirani's rule stops
    assert gap_rule(range(1, 9), gaps, errors) == 5


def test_knee():
    ks = range(1, 9)
    assert knee(ks, np.array([100, 60, 20, 18, 16, 15, 14, 13.5])) == 3
    assert knee(ks, np.linspace(8, 1, 8)) is None
    assert knee([1, 2], np.array([2.0, 1.0])) is None


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 5))
def test_prediction_strength_counts_pairs(seed, n, k):
    rng = np.random.default_rng(seed)
    test = np.append(np.arange(k), rng.integers(0, k, n))
    predicted = rng.integers(0, k, n + k)
    got = strength(contingency(test, predicted, k))
    assert got == pytest.approx(naive_scores.prediction_strength(test, predicted))
    turn = rng.permutation(k)
    assert strength(contingency(turn[test], turn[predicted], k)) == pytest.approx(got)


def test_independent_rows():
    # a tumor of 34 ml and FWHM 6 mm has about 46 independent voxels (METHODS 4)
    assert independent_rows(10_000, 34_000, 6.0) == pytest.approx(46.2, abs=0.1)
    assert independent_rows(40, 34_000, 6.0) == 40
    assert independent_rows(40, 34_000, 0.0) == 40


def test_white_noise_after_the_blur_has_as_many_independent_rows():
    """Variance of the mean of a smooth field is its variance over n_eff."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    fields = [
        gaussian_filter(rng.normal(size=(20, 20, 20)), 6 / 2.355 / 3, mode="wrap")
        for _ in range(400)
    ]
    n_eff = np.var(fields) / np.var([f.mean() for f in fields])
    assert n_eff == pytest.approx(independent_rows(20**3, 60.0**3, 6.0), rel=0.25)


# --- what must not matter -------------------------------------------------------------


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_does_not_matter(seed):
    X = np.round(blobs(3, 400, 1), 1)  # with ties
    names = ["gap", "bic", "stability", "silhouette"]
    one = choose_k(X, [1, 2, 3], criteria=names, draws=39)
    shuffled = np.random.default_rng(seed).permutation(X)
    other = choose_k(shuffled, [1, 2, 3], criteria=names, draws=39)
    assert one.k == other.k
    assert one.structure_p == other.structure_p
    for name, column in one.values.items():
        np.testing.assert_array_equal(column, other.values[name])


@pytest.mark.parametrize("size", [(9, 9, 9), (8, 11, 6)])
def test_flips_and_axes_do_not_matter(size):
    where = np.argwhere(np.ones(size, bool)) * 6.0
    rng = np.random.default_rng(0)
    X = (where // 18).sum(axis=1, keepdims=True) + rng.normal(size=(len(where), 2))
    keys = {"criteria": ["stability"], "draws": 39}
    one = choose_rows(X, [2, 3], positions=where, **keys)
    turned = where[:, [2, 0, 1]] * [-1, 1, -1] + 100
    other = choose_rows(X[::-1], [2, 3], positions=turned[::-1], **keys)
    for name, column in one.values.items():
        np.testing.assert_allclose(other.values[name], column, atol=1e-12)


def test_voxels_are_not_split_at_random():
    """Neighbors that repeat each other must not vouch for each other."""
    rng = np.random.default_rng(3)
    cubes = np.indices((6, 6, 6)).reshape(3, -1).T
    values = rng.normal(size=(len(cubes), 2))  # one value a cube, many voxels
    inner = np.indices((3, 3, 3)).reshape(3, -1).T
    where = (cubes[:, None] * 12.0 + inner * 4.0).reshape(-1, 3)
    X = np.repeat(values, len(inner), axis=0)
    ks = range(2, 7)
    random = choose_k(X, ks, **FEW).values["prediction_strength"]
    apart = choose_rows(X, ks, positions=where, **FEW).values["prediction_strength"]
    assert random.mean() > apart.mean() + 0.1


# --- cohorts --------------------------------------------------------------------------


def test_cohort_gives_every_case_the_same_weight():
    rng = np.random.default_rng(0)
    parts = [rng.normal(c, 0.1, (n, 1)) for c, n in [(0, 4000), (1, 50), (2, 100)]]
    cases = [np.concatenate(parts[:2]), np.concatenate(parts[::2])] * 2
    one = choose_k(cases, [2, 3], criteria=["elbow"], draws=39)
    other = choose_k(
        [cases[1], cases[0], cases[3], cases[2]], [2, 3], criteria=["elbow"], draws=39
    )
    for name, column in one.values.items():
        np.testing.assert_allclose(column, other.values[name], rtol=1e-12)


def test_cohort_is_split_by_cases():
    """Clusters that are single patients do not come back in the other patients."""
    rng = np.random.default_rng(1)
    cases = [rng.normal(10 * i, 1, (300, 2)) for i in range(4)]
    chosen = choose_k(cases, [1, 2, 3, 4], **FEW)
    assert chosen.structure_p == 0.05
    assert (chosen.values["prediction_strength"][2:] < 0.8).all()
    assert chosen.picks["calinski_harabasz"] == 4
    assert chosen.k < 3


def test_numbers_of_cases_do_not_matter():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(600, 2)), np.repeat(np.arange(6), 100)
    one = choose_rows(X, [2, 3], groups=groups, draws=39)
    other = choose_rows(
        X, [2, 3], groups=np.array([3, 1, 0, 5, 2, 4])[groups], draws=39
    )
    for name, column in one.values.items():
        np.testing.assert_array_equal(other.values[name], column)


def test_cohort_of_results(result):
    chosen = choose_k([result, result], [1, 2, 4], criteria=["bic"], draws=39)
    assert np.isfinite(chosen.values["bic_eff"][:2]).all()


# --- degenerate data and arguments ----------------------------------------------------


def test_few_distinct_rows():
    X = np.repeat([[0.0, 1.0], [5.0, 1.0], [9.0, 1.0]], 20, axis=0)
    chosen = choose_k(X, range(1, 6), criteria=["bic", "gap", "elbow"], draws=39)
    assert np.isnan(chosen.values["calinski_harabasz"][[0, 3, 4]]).all()
    assert any("3 distinct rows" in note for note in chosen.notes)
    with pytest.raises(InputError, match="3 distinct rows for k from 4"):
        choose_k(X, [4, 5])


def test_choice_without_one_still_says_that_there_is_one_cloud():
    chosen = choose_k(cloud("isotropic", 1000, 1), [2, 3, 4], **FEW)
    assert chosen.k > 1
    assert ONE_CLOUD in chosen.notes[0]


def test_all_problems_at_once():
    X = np.ones((10, 2))
    X[3, 1] = np.nan
    with pytest.raises(HabitatError) as caught:
        choose_k(X, [0, 2], criteria=["silhouete"], draws=5, fwhm_mm=-1)
    text = str(caught.value)
    for part in (
        "`ks`",
        "did you mean 'silhouette'?",
        "`draws`",
        "`fwhm_mm`",
        "1 of 10",
    ):
        assert part in text


@pytest.mark.parametrize("ks", [[], 4, "auto"])
def test_ks_must_be_numbers(ks):
    with pytest.raises(ConfigError, match="`ks`"):
        choose_k(blobs(3, 50, 0), ks)


def test_cases_must_fit_together(result):
    with pytest.raises(InputError, match="1 arrays and 1 results"):
        choose_k([np.ones((9, 2)), result])
    with pytest.raises(InputError, match=r"\[1, 2\] channels"):
        choose_k([np.ones((9, 2)), np.ones((9, 1))])
    with pytest.raises(InputError, match="has no case"):
        choose_k([])


def test_own_criterion():
    def smallest(X, labels, centers):
        return float(np.bincount(labels).min())

    chosen = choose_k(blobs(3, 300, 0), [2, 3], criteria=[(smallest, "max")], draws=39)
    two, three = chosen.values["smallest"]
    assert two > 95
    assert 95 < three <= 100
    assert chosen.picks["smallest"] in (2, 3)


def test_choice_is_shown():
    chosen = choose_k(blobs(3, 500, 0), [1, 2, 3, 4], criteria=["bic"], draws=39)
    assert len(chosen.plot().axes) == 3
    assert "<table" in chosen._repr_html_()
    assert repr(chosen).startswith(
        "KChoice: k=3 (structure p=0.05; calinski_harabasz 3"
    )


def test_choosing_needs_no_pandas():
    code = (
        "import sys, numpy as np; from habitat.choice import choose_rows;"
        "choose_rows(np.random.default_rng(0).normal(size=(60, 2)), [1, 2], draws=39);"
        "assert not {'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_small_cases_of_a_cohort_are_not_taken_for_many_rows():
    rng = np.random.default_rng(0)
    cohorts = [[rng.normal(size=(100, 2)) for _ in range(10)] for _ in range(10)]
    found = [choose_k(c, range(1, 5), **FEW).structure_p for c in cohorts]
    assert np.mean(np.array(found) <= 0.05) <= 0.2


def test_values_beyond_arithmetic_are_refused():
    X = np.random.default_rng(0).normal(size=(60, 2))
    for unit in (1e200, 1e-170):
        with pytest.raises(InputError, match="change the unit"):
            choose_k(X * unit, range(1, 4), **FEW)


def test_a_result_of_a_scaling_of_ones_own_is_refused():
    case = habitat.phantom()

    def own(X, units):
        return lambda Y: Y / X.std(axis=0)

    result = habitat.segment(case.pet, case.ct, case.mask, scaling=own)
    with pytest.raises(InputError, match="was scaled by a function"):
        choose_k(result)

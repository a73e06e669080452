"""Shares, statistics, contrasts and diversity of habitats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage, stats
from scipy.spatial.distance import pdist, squareform

import habitat
from habitat.features._composition import (
    centroid_distances,
    composition,
    contrasts,
    diversity,
    statistics,
)
from habitat.features._pattern import position
from habitat.voxels import depth_mm

# Shares of 1/2, 1/4, 1/8, 1/8 and an absent habitat between them
LABELS = np.repeat([0, 1, 2, 4, 5], [3, 8, 4, 2, 2]).reshape(1, 1, -1)


@st.composite
def cases(draw, k=3):
    """Fragmented label maps that touch the border, some regions absent; values."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    labels = draw(arrays(np.uint8, shape, elements=st.integers(0, k)))
    values = draw(arrays(float, shape, elements=st.integers(-90, 90).map(float)))
    return labels, values, draw(st.tuples(*[st.floats(0.5, 6)] * 3))


def test_volume_share_and_presence():
    found = composition(LABELS, 5, (5, 4, 2))
    np.testing.assert_allclose(found["volume_ml"], [0.32, 0.16, 0, 0.08, 0.08])
    np.testing.assert_array_equal(found["fraction"], [0.5, 0.25, 0, 0.125, 0.125])
    np.testing.assert_array_equal(found["present"], [1, 1, 0, 1, 1])


def test_diversity_by_hand():
    found = diversity(LABELS, 5)
    assert found["shannon"] == pytest.approx(1.75 * np.log(2))  # 1.75 bits
    assert found["pielou"] == pytest.approx(1.75 / 2)
    assert found["simpson"] == pytest.approx(1 - 11 / 32)
    assert found["inverse_simpson"] == pytest.approx(32 / 11)
    assert found["berger_parker"] == 0.5
    assert found["hill_0"] == 4
    assert found["hill_1"] == pytest.approx(2**1.75)


@given(arrays(np.uint8, (1, 1, 20), elements=st.integers(1, 5)))
def test_diversity_equals_scipy_and_hill_numbers_fall(labels):
    found = diversity(labels, 5)
    share = np.unique(labels, return_counts=True)[1] / labels.size
    assert found["shannon"] == pytest.approx(stats.entropy(share), abs=1e-12)
    assert found["hill_0"] >= found["hill_1"] - 1e-9
    assert found["hill_1"] >= found["inverse_simpson"] - 1e-9
    assert found["inverse_simpson"] >= 1 / found["berger_parker"] - 1e-9


def test_diversity_of_one_habitat():
    found = diversity(np.ones((2, 2, 2), int), 4, [np.arange(8.0).reshape(2, 2, 2)])
    assert (found["shannon"], found["simpson"], found["rao_q"]) == (0, 0, 0)
    assert (found["hill_1"], found["inverse_simpson"]) == (1, 1)
    assert np.isnan(found["pielou"])
    assert np.isnan(found["rao_q_relative"])


def test_rao_is_the_mean_distance_of_two_voxels_at_the_centers_of_their_habitats():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], (5, 6, 7)).astype(np.uint8)
    suv = rng.gamma(3, 2, labels.shape) + labels
    hu = rng.normal(30, 20, labels.shape) - 5 * labels
    flat = np.full(labels.shape, 3.0)  # does not count
    found = diversity(labels, 4, [suv, hu, flat])
    scaled = np.stack([a[labels > 0] / a[labels > 0].std() for a in (suv, hu)], axis=1)
    own = labels[labels > 0]
    centers = {i: scaled[own == i].mean(0) for i in (1, 2, 4)}
    apart = squareform(pdist(np.array([centers[i] for i in own])))
    assert found["rao_q"] == pytest.approx(apart.mean())
    assert found["rao_q_relative"] == pytest.approx(apart.mean() / apart.max())
    assert np.isnan(diversity(labels, 4, [flat])["rao_q"])


def test_rao_ignores_units_and_offsets():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, (5, 6, 7))
    values = rng.normal(size=labels.shape) + labels
    assert diversity(labels, 3, [values])["rao_q"] == pytest.approx(
        diversity(labels, 3, [1000 * values + 7])["rao_q"]
    )


def test_statistics_equal_scipy():
    rng = np.random.default_rng(2)
    labels = rng.choice([0, 1, 3], (6, 5, 4))
    values = rng.normal(3, 2, labels.shape)
    values[0, 0, :2] = np.nan, np.inf
    found = statistics(values, labels, 3)
    assert all(np.isnan(column[1]) for column in found.values())
    for i in (1, 3):
        x = values[(labels == i) & np.isfinite(values)]
        known = stats.describe(x, ddof=0)
        assert found["mean"][i - 1] == pytest.approx(known.mean)
        assert found["sd"][i - 1] == pytest.approx(np.sqrt(known.variance))
        assert (found["min"][i - 1], found["max"][i - 1]) == known.minmax
        for q in (10, 50, 90):
            want = stats.scoreatpercentile(x, q)
            assert found[f"p{q}"][i - 1] == pytest.approx(want)


def test_contrast_is_the_t_statistic_per_pair_of_voxels():
    rng = np.random.default_rng(3)
    labels = np.repeat([1, 3], [30, 50]).reshape(1, 8, 10)
    values = rng.normal(10 * labels, 3.0)
    found = contrasts(values, labels, 3)
    t = stats.ttest_ind(values[labels == 1], values[labels == 3]).statistic
    assert found["contrast_1_3"] == pytest.approx(t * np.sqrt(1 / 30 + 1 / 50))
    assert found["contrast_1_3"] < 0
    assert np.isnan([found["contrast_1_2"], found["contrast_2_3"]]).all()


def test_contrast_without_spread_is_nan():
    labels = np.array([[[1, 2]]])
    assert np.isnan(contrasts(labels * 3.3, labels, 2)["contrast_1_2"])


def test_centroid_distances_equal_scipy():
    rng = np.random.default_rng(4)
    labels = rng.choice([0, 1, 3, 4], (6, 9, 12))
    spacing = np.array([3.27, 0.98, 2.0])
    found = centroid_distances(labels, 4, spacing)
    centers = np.array(ndimage.center_of_mass(labels > 0, labels, [1, 3, 4])) * spacing
    gap = pdist(centers)
    assert [found[f"centroid_distance_{p}"] for p in ("1_3", "1_4", "3_4")] == (
        pytest.approx(list(gap))
    )
    assert np.isnan(found["centroid_distance_1_2"])


def everything(labels, values, k, spacing):
    return {
        **composition(labels, k, spacing),
        **statistics(values, labels, k),
        **contrasts(values, labels, k),
        **centroid_distances(labels, k, spacing),
        **diversity(labels, k, [values]),
    }


def assert_same(a, b):
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_empty_map_is_undefined_without_warnings():
    labels = np.zeros((3, 3, 3), dtype=np.uint8)
    for name, found in everything(labels, labels * 1.0, 2, (1, 1, 1)).items():
        if name in ("volume_ml", "fraction", "present", "hill_0"):
            assert not np.any(found), name
        else:
            assert np.isnan(found).all(), name


@given(cases())
def test_turning_flipping_and_padding_change_nothing(case):
    labels, values, spacing = case
    before = everything(labels, values, 3, spacing)
    turned = [np.transpose(a, (2, 0, 1))[::-1, :, ::-1] for a in (labels, values)]
    assert_same(before, everything(*turned, 3, [spacing[i] for i in (2, 0, 1)]))
    width = ((3, 0), (1, 2), (0, 5))
    padded = [np.pad(a, width, constant_values=0) for a in (labels, values)]
    assert_same(before, everything(*padded, 3, spacing))


@given(cases(), st.permutations([1, 2, 3]))
def test_relabelling_permutes(case, new):
    labels, values, spacing = case
    before = everything(labels, values, 3, spacing)
    after = everything(np.array([0, *new])[labels], values, 3, spacing)
    for name, value in before.items():
        sign = 1
        if np.ndim(value):
            want = after[name][np.array(new) - 1]
        elif name.startswith(("contrast_", "centroid_")):
            stem, i, j = name.rsplit("_", 2)
            i, j = new[int(i) - 1], new[int(j) - 1]
            want = after[f"{stem}_{min(i, j)}_{max(i, j)}"]
            sign = -1 if stem == "contrast" and i > j else 1
        else:
            want = after[name]
        np.testing.assert_allclose(
            value, sign * want, rtol=1e-9, atol=1e-9, err_msg=name
        )


def test_agrees_with_the_table_of_a_result():
    p = habitat.phantom(radius_mm=12, margin_mm=15)
    result = habitat.segment(p.pet, p.ct, p.mask, k=3)
    labels, spacing = result.labels[result.box], result.geometry.spacing
    table = result.table
    found = composition(labels, 3, spacing)
    deep = depth_mm(labels > 0, spacing)
    found |= position(labels, 3, spacing, deep)
    names = ["volume_ml", "fraction", "rim_fraction", "mean_depth_mm"]
    for channel, image in result.images.items():
        each = statistics(image.array.astype(float), labels, 3)
        found |= {f"{name}_{channel}": x for name, x in each.items()}
        names += [f"{name}_{channel}" for name in each]
    for name in names:
        np.testing.assert_allclose(found[name], table[name], rtol=1e-9, err_msg=name)

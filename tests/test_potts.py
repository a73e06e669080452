"""Potts smoothing: a local minimum that no order of voxels or axes changes."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from habitat.clustering._potts import Potts, neighborhood, smooth
from habitat.errors import ConfigError, InputError
from habitat.kernels.potts import icm_sweep
from tests import naive_spatial

SPACING = (3.27, 0.98, 0.98)


def noisy(seed, shape=(4, 5, 6), k=3, tied=False):
    """Costs, places and labels of least cost in an irregular mask."""
    rng = np.random.default_rng(seed)
    index = np.argwhere(rng.random(shape) < 0.8) + 7
    size = (len(index), k)
    costs = rng.integers(0, 3, size).astype(float) if tied else rng.gamma(1, size=size)
    return costs, index, costs.argmin(axis=1)


def sweeps(costs, index, labels, potts, spacing=SPACING, sweep=icm_sweep):
    """Labels after each sweep, and whole-number costs and weights."""
    where, place, steps, offsets = neighborhood(index, potts.neighbors)
    distance = np.sqrt(((offsets * spacing) ** 2).sum(axis=1))
    weights = np.rint(2**20 * potts.beta * min(spacing) / distance).astype(np.int64)
    whole = np.rint(2**20 * costs).astype(np.int64)
    n = len(labels)
    volume = np.full(where.size, 255, np.uint8)
    volume[place] = labels
    state = (volume, np.ones(n, np.uint8), np.zeros(n, np.uint8), np.zeros(n, int))
    out = [np.array(labels)]
    while sweep(whole, where, place, steps, weights, *state):
        out.append(volume[place])
    return out


@pytest.mark.parametrize("neighbors", [6, 26])
@pytest.mark.parametrize("tied", [False, True])
def test_each_sweep_equals_the_twin(neighbors, tied):
    costs, index, labels = noisy(1, tied=tied)
    potts = Potts(1.0, neighbors)
    ours = sweeps(costs, index, labels, potts)
    twins = sweeps(costs, index, labels, potts, sweep=naive_spatial.icm_sweep)
    assert len(ours) > 2
    np.testing.assert_array_equal(ours, twins)


@settings(max_examples=40)
@given(
    st.integers(0, 10**6),
    st.sampled_from([6, 26]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0, 3.0, 10.0]),
    st.booleans(),
)
def test_the_objective_falls_with_each_sweep(seed, neighbors, beta, tied):
    costs, index, _ = noisy(seed, (3, 4, 4), tied=tied)
    labels = np.random.default_rng(seed).integers(0, 3, len(index))
    spacing = (1.0, 1.0, 1.0) if tied else SPACING
    found = sweeps(costs, index, labels, Potts(beta, neighbors), spacing)
    values = [
        naive_spatial.objective(costs, index, spacing, x, beta, neighbors)
        for x in found
    ]
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("neighbors", [6, 26])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_no_single_switch_lowers_the_objective(seed, neighbors, tied):
    costs, index, labels = noisy(seed, (3, 3, 4), tied=tied)
    potts = Potts(0.5, neighbors)
    spacing = (1.0, 1.0, 1.0) if tied else SPACING
    found, value, _ = smooth(costs, index, spacing, labels, potts)

    def objective(x):
        return naive_spatial.objective(costs, index, spacing, x, 0.5, neighbors)

    assert value == pytest.approx(objective(found), rel=1e-12)
    for i in range(len(index)):
        for label in range(3):
            other = found.copy()
            other[i] = label
            assert objective(other) >= value - 1e-8


def test_a_checkerboard_of_ties_does_not_block():
    index = np.argwhere(np.ones((4, 4, 4)))
    labels = index.sum(axis=1) % 2
    found, value, _ = smooth(np.zeros((64, 2)), index, (1, 1, 1), labels, Potts(1.0))
    assert value == 0
    assert len(np.unique(found)) == 1
    pair = smooth(np.zeros((2, 2)), index[:2], (1, 1, 1), labels[:2], Potts(1.0))
    assert (pair[0].tolist(), *pair[1:]) == ([0, 0], 0.0, 1)


@given(st.integers(0, 10**6), st.sampled_from([6, 26]), st.booleans())
def test_flips_axes_and_voxel_order_permute_the_result(seed, neighbors, tied):
    costs, index, labels = noisy(seed, tied=tied)
    rng = np.random.default_rng(seed)
    spacing = np.array([2.5, 0.7, 0.7000001])
    want, value, n_iter = smooth(costs, index, spacing, labels, Potts(0.7, neighbors))
    for axes in permutations(range(3)):
        turned = (index * rng.choice([-1, 1], 3))[:, axes] + rng.integers(-99, 99, 3)
        order = rng.permutation(len(index))
        got = smooth(
            costs[order],
            turned[order],
            spacing[list(axes)],
            labels[order],
            Potts(0.7, neighbors),
        )
        np.testing.assert_array_equal(got[0], want[order])
        assert got[1:] == (value, n_iter)


def test_without_prior_every_voxel_has_its_least_cost():
    costs, index, labels = noisy(0)
    kept, value, n_iter = smooth(costs, index, SPACING, labels, Potts(0.0))
    np.testing.assert_array_equal(kept, labels)
    assert n_iter == 0
    assert value == pytest.approx(costs.min(axis=1).sum(), rel=1e-14)
    found, *_ = smooth(costs, index, SPACING, np.zeros_like(labels), Potts(0))
    np.testing.assert_array_equal(found, labels)


def test_noise_in_two_halves_is_removed():
    rng = np.random.default_rng(0)
    index = np.argwhere(np.ones((10, 10, 10)))
    truth = (index[:, 2] >= 5).astype(int)
    x = truth + rng.normal(size=1000) * 0.7
    costs = np.stack([x**2, (x - 1) ** 2], axis=1) / (2 * 0.7**2)
    labels = costs.argmin(axis=1)
    found, *_ = smooth(costs, index, (1, 1, 1), labels, Potts(1.0))
    assert (labels == truth).mean() < 0.8
    assert (found == truth).mean() > 0.97


@pytest.mark.parametrize("beta", [0.0, 0.5, 10.0])
def test_infinite_costs_are_never_chosen(beta):
    costs, index, labels = noisy(2, k=4)
    dead = np.column_stack([costs[:, :2], np.full(len(costs), np.inf), costs[:, 2:]])
    dead[5, :3] = np.inf
    start = labels + (labels >= 2)
    found, value, _ = smooth(dead, index, SPACING, start, Potts(beta, 26))
    assert not (found == 2).any()
    assert np.isfinite(value)
    assert found[5] in (3, 4)


def test_huge_costs_do_not_overflow():
    costs, index, labels = noisy(2)
    found, *_ = smooth(1e300 * costs, index, SPACING, labels, Potts(10.0, 26))
    np.testing.assert_array_equal(found, labels)
    costs[:, 1:] = 1e308
    found, *_ = smooth(costs, index, SPACING, labels, Potts(10.0, 26))
    assert not found.any()


def test_separate_parts_do_not_see_each_other():
    costs, index, labels = noisy(4)
    twice = np.concatenate([index, index + 40])
    one, value, _ = smooth(costs, index, SPACING, labels, Potts(1.0, 26))
    both, double, _ = smooth(
        np.tile(costs, (2, 1)), twice, SPACING, np.tile(labels, 2), Potts(1.0, 26)
    )
    np.testing.assert_array_equal(both, np.tile(one, 2))
    assert double == pytest.approx(2 * value)


def test_all_labels_up_to_255_and_one_voxel():
    costs = np.ones((1, 255))
    costs[0, 254] = 0
    found, value, _ = smooth(costs, np.zeros((1, 3), int), SPACING, [0], Potts(1.0))
    assert found.tolist() == [254]
    assert value == 0


def test_bad_options_and_costs_are_refused():
    for beta in (-0.1, 10.1, np.nan, "1"):
        with pytest.raises(ConfigError, match="beta"):
            Potts(beta)
    with pytest.raises(ConfigError, match="neighbors"):
        Potts(1.0, 18)
    costs, index, labels = noisy(0)
    for bad in (np.nan, np.inf):
        costs[3] = bad
        with pytest.raises(InputError, match="1 voxels"):
            smooth(costs, index, SPACING, labels, Potts(1.0))

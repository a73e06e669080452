"""Supervoxels: connected, compact, the same for any orientation."""

from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from habitat.clustering._supervoxels import (
    SupervoxelOptions,
    describe,
    feature_names,
    supervoxels,
)
from habitat.errors import ConfigError
from habitat.kernels.components import join
from tests import naive_spatial

SPACING = (3.27, 0.98, 0.98)
CUBE = np.ones((3, 3, 3))


def ball(radius=9, seed=0):
    """Scaled channels, places and three true layers of a noisy ball."""
    rng = np.random.default_rng(seed)
    index = np.argwhere(
        (np.indices((2 * radius + 1,) * 3) - radius).__pow__(2).sum(axis=0) <= radius**2
    )
    truth = np.digitize(index[:, 2], [radius - 2, radius + 4])
    means = np.array([[-1.2, 0.0], [0.0, 1.3], [1.2, -1.0]])
    return means[truth] + 0.35 * rng.standard_normal((len(index), 2)), index, truth


def split(Z, index, spacing=(1.0, 1.0, 1.0), **options):
    rng = np.random.default_rng(0)
    return supervoxels(Z, index, spacing, SupervoxelOptions(**options), rng)


def pieces(index, mask):
    volume = np.zeros(np.ptp(index, axis=0) + 1, bool)
    volume[tuple((index[mask] - index.min(axis=0)).T)] = True
    return ndimage.label(volume, CUBE)[1]


@pytest.mark.parametrize("compactness", [0.0, 0.3, 1.0, 5.0])
def test_every_supervoxel_is_connected_and_none_is_tiny(compactness):
    Z, index, _ = ball()
    parts = split(Z, index, n=40, compactness=compactness)
    sizes = np.bincount(parts)
    assert sizes.min() >= 0.25 * len(Z) / 40
    assert all(pieces(index, parts == j) == 1 for j in range(len(sizes)))
    if compactness:
        assert 32 <= len(sizes) <= 48


def test_supervoxels_keep_to_the_borders_of_the_truth():
    Z, index, truth = ball()
    parts = split(Z, index)
    table = np.zeros((parts.max() + 1, 3))
    np.add.at(table, (parts, truth), 1)
    assert table.max(axis=1).sum() / len(Z) > 0.95
    place = np.stack([np.bincount(parts, x) for x in index.T], 1)
    place /= np.bincount(parts)[:, None]
    spread = np.sqrt(((index - place[parts]) ** 2).sum(axis=1).mean())
    assert spread < (len(Z) / 50) ** (1 / 3)  # compact: within one width


def test_flips_axes_and_voxel_order_change_nothing():
    Z, index, _ = ball()
    rng = np.random.default_rng(1)
    want = split(Z, index, SPACING)
    for axes in permutations(range(3)):
        turned = (index * rng.choice([-1, 1], 3))[:, axes] + rng.integers(-99, 99, 3)
        order = rng.permutation(len(Z))
        spacing = np.array(SPACING)[list(axes)]
        got = split(Z[order], turned[order], spacing)
        np.testing.assert_array_equal(got, want[order])


def test_numbers_follow_the_mean_of_the_first_channel():
    Z, index, _ = ball()
    parts = split(Z, index)
    means = np.bincount(parts, Z[:, 0]) / np.bincount(parts)
    assert (np.diff(means) > 0).all()


def test_separate_parts_are_never_bridged():
    Z, index, _ = ball(5)
    speck = np.array([[0, 0, 40], [0, 1, 41]])  # touch at an edge
    index = np.concatenate([index, index + np.array([0, 0, 12]), speck])
    Z = np.concatenate([Z, Z, Z[:2]])
    parts = split(Z, index, n=30)
    lesion = np.repeat([0, 1, 2], [len(Z) // 2 - 1, len(Z) // 2 - 1, 2])
    for j in range(parts.max() + 1):
        assert len(np.unique(lesion[parts == j])) == 1
    assert len(np.unique(parts[-2:])) == 1  # smaller than a fragment, yet kept


def test_voxel_size_counts():
    """Isotropic in mm: slices four times as thick, a quarter as many in a patch."""
    index = np.argwhere(np.ones((8, 32, 32)))
    rng = np.random.default_rng(0)
    parts = split(rng.normal(size=(len(index), 1)), index, (4, 1, 1), n=32,
                  compactness=20.0)  # fmt: skip
    width = [
        np.mean([np.ptp(index[parts == j, a]) + 1 for j in range(parts.max() + 1)])
        for a in range(3)
    ]
    assert width[0] * 4 == pytest.approx(width[1], rel=0.35)
    assert width[1] == pytest.approx(width[2], rel=0.2)


def test_few_voxels_and_equal_values():
    index = np.argwhere(np.ones((1, 2, 3)))
    parts = split(np.arange(6.0)[:, None], index)
    assert sorted(parts) == list(range(6))
    assert not split(np.ones((6, 2)), index, compactness=0.0).any()
    assert split(np.ones((6, 2)), index, n=2).max() == 1
    assert split(np.ones((1, 2)), index[:1]).tolist() == [0]


def test_how_many():
    counts = [SupervoxelOptions().count(n) for n in (999, 1000, 10_000, 100_000)]
    assert counts == [30, 50, 60, 80]  # Wu et al., Radiology 2018;288:26
    assert SupervoxelOptions(7).count(10**6) == 7
    for bad in ({"n": 1}, {"n": 256}, {"compactness": -1}, {"compactness": np.nan}):
        with pytest.raises(ConfigError):
            SupervoxelOptions(**bad)


def test_features_equal_twin_in_any_order():
    Z, index, _ = ball(5)
    parts = split(Z, index)
    m = parts.max() + 1
    got = describe(Z, parts, m)
    np.testing.assert_allclose(
        got, naive_spatial.describe(Z, parts, m), rtol=1e-12, atol=1e-12
    )
    order = np.random.default_rng(0).permutation(len(Z))
    np.testing.assert_array_equal(describe(Z[order], parts[order], m), got)
    names = feature_names(["SUVbw", "HU"])
    assert len(names) == got.shape[1]
    np.testing.assert_array_equal(
        got[:, names.index("p50_HU")],
        [np.median(Z[parts == j, 1]) for j in range(m)],
    )


def test_features_of_an_unused_number_are_missing():
    found = describe(np.array([[1.0], [3.0]]), np.array([2, 0]), 4)
    assert np.isnan(found[[1, 3]]).all()
    assert found[[0, 2], 0].tolist() == [3, 1]


@pytest.mark.parametrize("seed", range(5))
def test_join_equals_twin(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 50, (2, 40))
    roots = [np.arange(50), np.arange(50)]
    for f, root in zip((join, naive_spatial.join), roots, strict=True):
        f(first, second, root)
    np.testing.assert_array_equal(*roots)

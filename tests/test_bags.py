"""Bags: what an instance is, and that their order means nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from habitat import phantom, segment
from habitat.errors import CohortError, ConfigError, InputError
from habitat.mil import Bags, components
from habitat.mil._bags import arranged

NAN = float("nan")
TABLE = pd.DataFrame(
    {
        "case_id": ["P1", "P2", "P3"],
        "tumor_volume_ml": [10.0, 20.0, 30.0],
        "h1_volume_ml": [4.0, 20.0, 10.0],
        "h1_fraction": [0.4, 1.0, 1 / 3],
        "h1_present": [1, 1, 1],
        "h1_HU_mean": [30.0, 40.0, 50.0],
        "h1_note": ["a", "b", "c"],
        "h2_volume_ml": [6.0, 0.0, 20.0],
        "h2_fraction": [0.6, 0.0, 2 / 3],
        "h2_present": [1, 0, 1],
        "h2_HU_mean": [60.0, NAN, NAN],
        "h2_HU_sd": [1.0, 2.0, 3.0],
    }
)


def test_habitats_that_are_there_are_the_instances():
    bags = Bags.from_table(TABLE)
    assert bags.feature_names == ("volume_ml", "fraction", "HU_mean")
    assert bags.bag.tolist() == [0, 0, 1, 2, 2]  # P2 has no second habitat
    assert bags.instance_names == ("P1:h1", "P1:h2", "P2:h1", "P3:h1", "P3:h2")
    np.testing.assert_array_equal(bags.weights, [4, 6, 20, 10, 20])
    np.testing.assert_array_equal(bags.X[:, 2], [30, 60, 40, 50, NAN])
    chosen = Bags.from_table(TABLE, features=["HU_mean"])
    assert chosen.X.shape == (5, 1)
    with pytest.raises(ConfigError, match="HU_sd"):
        Bags.from_table(TABLE, features=["HU_sd"])


def test_a_case_without_habitats_is_named():
    table = TABLE.assign(h1_present=[1, 0, 1])
    with pytest.raises(CohortError, match=r"1 of 3 bags are empty: P2"):
        Bags.from_table(table)
    with pytest.raises(ConfigError, match="no column that describes a habitat"):
        Bags.from_table(TABLE[["case_id", "tumor_volume_ml"]])


def test_ten_habitats_are_in_the_order_of_their_numbers():
    table = pd.DataFrame({f"h{i}_HU_mean": [float(i)] for i in (10, 2, 1)})
    assert Bags.from_table(table).X[:, 0].tolist() == [1.0, 2.0, 10.0]


def test_bags_of_lists():
    bags = Bags.from_list([[[1.0, 2.0]], np.zeros((3, 2))], weights=[[2.0], [1, 1, 4]])
    assert len(bags) == 2
    assert bags.bag_ids == ("0", "1")
    assert bags.feature_names == ("x0", "x1")
    assert bags.weights.tolist() == [2, 1, 1, 4]
    with pytest.raises(CohortError, match="1 of 2 bags are empty: b"):
        Bags.from_list([np.ones((2, 3)), np.ones((0, 3))], ids=["a", "b"])
    with pytest.raises(ConfigError, match="same p"):
        Bags.from_list([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ConfigError, match="1 names for 2 bags"):
        Bags.from_list([np.ones((2, 3)), np.ones((2, 3))], ids=["a"])


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"bag_ids": ["a", "a"]}, CohortError, "given twice: a"),
        ({"bag_ids": ["a", "b", "c"]}, CohortError, "1 of 3 bags are empty: c"),
        ({"bag": [0, 1, 2]}, ConfigError, "there are 2 bags"),
        ({"bag": [0.0, 1.0, 1.0]}, ConfigError, "must be integers"),
        ({"bag": [0, 1]}, ConfigError, r"shape \(2,\), must be \(3,\)"),
        ({"X": [1.0, 2.0, 3.0]}, ConfigError, "instances x features"),
        ({"X": [[1.0], [np.inf], [3.0]]}, ConfigError, "infinite"),
        ({"weights": [1.0, 0.0, 1.0]}, ConfigError, "positive"),
        ({"feature_names": ["a", "b"]}, ConfigError, "feature_names"),
    ],
)
def test_what_is_no_bag(change, kind, match):
    good = {"X": [[1.0], [2.0], [3.0]], "bag": [0, 1, 1], "bag_ids": ["a", "b"]}
    Bags(**good)
    with pytest.raises(kind, match=match):
        Bags(**{**good, **change})


def test_bags_cannot_be_changed():
    bags = Bags.from_list([[[1.0]], [[2.0]]])
    for array in (bags.X, bags.bag):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5


def test_take():
    bags = Bags.from_table(TABLE)
    few = bags.take([2, 0])
    assert few.bag_ids == ("P3", "P1")
    assert few.instance_names == ("P3:h1", "P3:h2", "P1:h1", "P1:h2")
    assert few.weights.tolist() == [10, 20, 4, 6]
    assert bags.take(np.array([False, True, False])).bag_ids == ("P2",)
    with pytest.raises(ConfigError, match="more than once"):
        bags.take([0, 0])


def test_canonical_order():
    rng = np.random.default_rng(3)
    X = rng.integers(-1, 2, (30, 3)).astype(float)
    bag = np.concatenate([np.arange(5), rng.integers(0, 5, 25)])
    weights = rng.integers(1, 3, 30)
    order = rng.permutation(30)
    one = Bags(X, bag, list("abcde"), weights=weights)
    other = Bags(X[order], bag[order], list("abcde"), weights=weights[order])
    first, second = arranged(one, [2, 0]), arranged(other, [2, 0])
    np.testing.assert_array_equal(first.X, second.X)
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.bag, np.sort(bag))
    np.testing.assert_array_equal(X[first.order][:, [2, 0]], first.X)
    part = first.take(np.array([3, 1]))
    np.testing.assert_array_equal(part.X[: (bag == 3).sum()], first.X[first.bag == 3])
    np.testing.assert_allclose(
        first.sums(first.X), [X[bag == b][:, [2, 0]].sum(axis=0) for b in range(5)]
    )


# --- connected pieces -----------------------------------------------------------------


def result_of(labels):
    p = phantom(radius_mm=15, margin_mm=15)
    made = segment(p.pet, p.ct, p.mask, k=2)
    whole = np.zeros_like(made.labels)
    whole[tuple(map(slice, labels.shape))] = labels
    return replace(made, labels=whole)


def test_pieces_of_habitats_are_the_largest_first():
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:4, 1:4, 1:4] = 1  # 27
    labels[6:8, 6:8, 6:8] = 1  # 8
    labels[8, 8, 8] = 1  # joined by a corner
    labels[1:5, 6:10, 1:5] = 2  # 64
    labels[10, 1, 1] = 2
    found = components(result_of(labels), min_voxels=5)
    assert np.bincount(found.array.ravel())[1:].tolist() == [64, 27, 9]
    assert found.array[1, 6, 1] == 1
    assert found.array[10, 1, 1] == 0
    with pytest.raises(InputError, match="0 connected pieces of at least 100"):
        components(result_of(labels), min_voxels=100)

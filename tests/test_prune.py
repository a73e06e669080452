"""Pruning of correlated maps, against scipy's Spearman correlation."""

import json
import warnings

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import habitat
from habitat import Image
from habitat.errors import ConfigError, InputError
from habitat.maps import prune_maps
from habitat.maps._common import as_map
from habitat.maps._prune import rank_correlations

SHAPE = (5, 16, 16)
TUMOR = np.zeros(SHAPE, bool)
TUMOR[1:4, 3:12, 3:12] = True
MASK = Image(TUMOR, spacing=(3, 2, 2))
N = int(TUMOR.sum())


def made(rows, how=None):
    """A map for each row of values in the tumor, by name."""
    maps = {}
    for name, row in rows.items():
        array = np.full(SHAPE, np.nan)
        array[TUMOR] = row
        maps[name] = as_map(array, MASK.geometry, how or {"function": name})
    return maps


def spearman(x, y):
    both = np.isfinite(x) & np.isfinite(y)
    return scipy.stats.spearmanr(x[both], y[both]).statistic


@pytest.fixture
def rows():
    """Correlations of 2a + b: about 0.9 with a and 0.4 with b."""
    a, b, c = np.random.default_rng(0).normal(size=(3, N))
    return {"a": a, "-a**3": -(a**3), "b": b, "2a+b": 2 * a + b, "c": c}


def test_keeps_the_first_of_those_that_say_the_same(rows):
    maps = made(rows)
    kept = prune_maps(maps, MASK, threshold=0.7)
    assert list(kept) == ["a", "b", "c"]
    assert list(prune_maps(maps, MASK, threshold=0.95)) == ["a", "b", "2a+b", "c"]
    for name, map_ in kept.items():
        np.testing.assert_array_equal(map_.array, maps[name].array)
        assert map_.is_map
        assert map_.meta["map"]["function"] == name


def test_the_order_says_what_is_preferred(rows):
    maps = made(rows)
    turned = dict(reversed(maps.items()))
    assert list(prune_maps(turned, MASK)) == ["c", "2a+b", "b"]


def test_nothing_is_dropped_in_silence(rows):
    maps = made({**rows, "flat": np.full(N, 3.0), "few": np.full(N, np.nan)})
    kept = prune_maps(maps, MASK, threshold=0.95)
    assert list(kept) == ["a", "b", "2a+b", "c"]
    record = kept["a"].meta["map"]["pruned"]
    assert record["threshold"] == 0.95
    assert record["dropped"] == {"-a**3": pytest.approx(-1)}
    assert record["useless"] == {
        "flat": "one value only",
        "few": f"no value in {N} of {N} tumor voxels",
    }
    assert json.loads(json.dumps(kept["a"].meta)) == kept["a"].meta
    notes = kept["a"].notes
    assert "a also stands for (rank correlation): -a**3 (-1.00)" in notes
    assert "'flat' was dropped: it has one value only" in notes
    assert f"4 of 7 maps kept: |rank correlation| below 0.95 in {N} tumor voxels" in (
        notes
    )
    assert kept["c"].meta["map"]["pruned"]["dropped"] == {}
    assert "'flat' was dropped: it has one value only" in kept["c"].notes


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_maps_without_values_in_half_of_the_tumor_go(rows, share):
    rows["c"][: int(share * N)] = np.nan
    assert ("c" in prune_maps(made(rows), MASK)) == (share < 0.5)


values = st.one_of(
    st.integers(-3, 3).map(float), st.floats(-1e3, 1e3), st.just(float("nan"))
)


@given(hnp.arrays(float, st.tuples(st.integers(1, 5), st.just(25)), elements=values))
def test_correlations_are_scipys(X):
    ours = rank_correlations(X)
    np.testing.assert_array_equal(ours, ours.T)
    for i, x in enumerate(X):
        for j, y in enumerate(X):
            both = np.isfinite(x) & np.isfinite(y)
            if both.sum() < 10:
                assert np.isnan(ours[i, j])
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
                expected = spearman(x, y)
            np.testing.assert_allclose(ours[i, j], expected, atol=1e-12)


@given(st.integers(0, 10_000), st.floats(0.05, 1))
def test_no_kept_pair_reaches_the_threshold_and_every_dropped_has_a_partner(seed, t):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(6, 3)) * rng.choice([0, 1], (6, 3), p=[0.4, 0.6])
    X = mix @ rng.normal(size=(3, N)) + 0.2 * rng.normal(size=(6, N))
    X[rng.random(X.shape) < 0.1] = np.nan
    rows = {f"m{i}": np.float32(x) for i, x in enumerate(X)}
    kept = prune_maps(made(rows), MASK, threshold=t)
    assert next(iter(kept)) == "m0"
    for n in kept:
        for o in kept:
            assert n == o or abs(spearman(rows[n], rows[o])) < t
    dropped = {}
    for n, map_ in kept.items():
        for o, rho in map_.meta["map"]["pruned"]["dropped"].items():
            assert abs(rho) >= t - 1e-9
            np.testing.assert_allclose(rho, spearman(rows[n], rows[o]), atol=1e-9)
            dropped[o] = n
    assert set(dropped) == set(rows) - set(kept)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_do_not_matter(rows, axis):
    maps = made(rows)
    flipped = {
        n: as_map(np.flip(m.array, axis), m.geometry, {"function": n})
        for n, m in maps.items()
    }
    other = prune_maps(flipped, Image(np.flip(TUMOR, axis), spacing=(3, 2, 2)))
    assert list(other) == list(prune_maps(maps, MASK))


def test_images_and_other_grids_keep_their_own(rows):
    """A finer image is compared on the coarsest grid, and returned as it is."""
    a = np.zeros(SHAPE)
    a[TUMOR] = rows["a"]
    fine = np.repeat(np.repeat(np.repeat(a, 2, 0), 2, 1), 2, 2)
    geometry = MASK.geometry.resampled((1.5, 1, 1))
    maps = {"b": made(rows)["b"], "HU": Image(fine, geometry, unit="HU")}
    kept = prune_maps(maps, MASK)
    assert list(kept) == ["b", "HU"]
    assert kept["HU"].array.shape == fine.shape
    assert not kept["HU"].is_map
    assert kept["HU"].meta["pruned"]["dropped"] == {}


def test_maps_with_few_voxels_in_common_are_kept_and_said(rows):
    a, b = rows["a"].copy(), rows["a"].copy()
    a[: N // 2 - 2], b[N // 2 + 2 :] = np.nan, np.nan
    kept = prune_maps(made({"a": a, "b": b}), MASK)
    assert list(kept) == ["a", "b"]
    note = "'a' and 'b' were not compared: too few voxels in common"
    assert note in kept["b"].notes


def test_pruned_maps_segment(rows):
    kept = prune_maps(made(rows), MASK)
    result = habitat.segment_channels(kept, MASK, k=2, grid="mask")
    assert any("a also stands for (rank correlation)" in note for note in result.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": []}, "`maps`: must be a mapping"),
        ({"maps": {}}, "`maps`: must be a mapping"),
        ({"threshold": 0}, "`threshold`: must be above 0, at most 1, got 0"),
        ({"threshold": 1.1}, "got 1.1"),
        ({"threshold": "0.7"}, "got '0.7'"),
        ({"threshold": float("nan")}, "got nan"),
    ],
)
def test_options_that_are_refused(rows, change, message):
    options = {"maps": made(rows), **change}
    with pytest.raises(ConfigError) as error:
        prune_maps(options.pop("maps"), MASK, **options)
    assert message in str(error.value)


def test_no_map_left():
    with pytest.raises(InputError, match="no map is left: 'flat' has one value only"):
        prune_maps(made({"flat": np.ones(N)}), MASK)

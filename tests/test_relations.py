"""How habitats lie to each other: interactions, borders, joins, parts, landscape."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from scipy.spatial.transform import Rotation
from skimage.measure import euler_number

from habitat.errors import ConfigError
from habitat.features._borders import HALF, _crofton, borders, forward, pad, pairs
from habitat.features._relations import (
    _OCTANTS,
    interaction,
    joins,
    landscape,
    parts,
    relations,
)
from habitat.kernels import neighbors as kernels
from tests import naive_neighbors as naive

CUBE = (1.0, 1.0, 1.0)
CT = (3.27, 0.977, 0.977)
PET = (3.27, 4.0, 4.0)
FULL = np.ones((3, 3, 3))

maps = arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 3))
tumors = maps.filter(np.any)


def random_map(seed=0, k=4, shape=(9, 14, 12), coarse=1.5):
    """Labels of a generated tumor with all habitats, touching the border."""
    rng = np.random.default_rng(seed)
    field, edge = (
        ndimage.gaussian_filter(rng.normal(size=shape), coarse) for _ in "ab"
    )
    cuts = np.quantile(field, np.arange(1, k) / k)
    return np.where(edge > -0.02, 1 + np.searchsorted(cuts, field), 0).astype(np.uint8)


def grid(radius, spacing):
    """Places (z, y, x, 3) in mm on a grid that holds a ball."""
    half = [int(radius / s) + 2 for s in spacing]
    axes = (np.arange(-h, h + 1) * s for h, s in zip(half, spacing, strict=True))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def phantom(rotation, spacing=CUBE, radius=40.0):
    """An ellipsoid with a core off its center, a cap and a slanted half."""
    p = rotation.apply(grid(radius, spacing).reshape(-1, 3), inverse=True)
    inside = (p / (0.95 * radius * np.array([1, 0.7, 0.6]))) ** 2
    labels = np.where(p @ [0.3, 1.0, 0.2] > 3, 2, 1)
    labels[p[:, 0] > 0.45 * radius] = 4
    labels[((p - [5, 3, -4]) ** 2).sum(axis=1) < (0.35 * radius) ** 2] = 3
    labels[inside.sum(axis=1) > 1] = 0
    return labels.reshape(grid(radius, spacing).shape[:3]).astype(np.uint8)


def assert_same(a, b, but=()):
    assert a.keys() == b.keys()
    for name in a.keys() - set(but):
        np.testing.assert_allclose(a[name], b[name], 1e-9, 1e-12, err_msg=name)


# Kernels


@given(tumors)
def test_kernels_equal_their_twins(labels):
    padded = pad(labels, 1)
    steps = forward(padded, HALF)
    layer, row, _ = padded.strides
    for name, arguments, out in (
        ("pair_counts", (steps,), np.zeros((13, 4, 4), np.int64)),
        ("component_sizes", (steps,), np.zeros(padded.size, np.int32)),
        ("component_sizes", (steps[[1, 2, 7, 8]],), np.zeros(padded.size, np.int32)),
        ("euler_octants", (row, layer, _OCTANTS), np.zeros(4, np.int64)),
    ):
        want = out.copy()
        getattr(kernels, name)(padded.ravel(), *arguments, out)
        getattr(naive, name)(padded.ravel(), *arguments, want)
        np.testing.assert_array_equal(out, want, err_msg=name)


# Interaction matrix


@pytest.mark.parametrize(("k", "count"), [(3, 22), (4, 32), (8, 92)])
def test_interaction_has_the_features_of_the_reference(k, count):
    labels = random_map(k=k)
    got = interaction(pairs(labels, k), PET)
    assert len(got) == count
    names = ["contrast", "homogeneity", "correlation", "energy"]
    names = [f"interaction_{name}" for name in names]
    for kind in ("", "_share"):
        names += [f"interaction{kind}_{i}_{i}" for i in range(1, k + 1)]
        names += [f"border{kind}_{i}" for i in range(1, k + 1)]
        inner = [(i, j) for i in range(1, k + 1) for j in range(i + 1, k + 1)]
        names += [f"interaction{kind}_{i}_{j}" for i, j in inner]
    want = naive.msi(labels, k, PET)
    np.testing.assert_allclose([got[name] for name in names], want, rtol=1e-12)


@given(tumors)
def test_interaction_equals_the_reference_on_any_map(labels):
    got = interaction(pairs(labels, 3), PET)
    with np.errstate(invalid="ignore"):
        want = naive.msi(labels, 3, PET)
    np.testing.assert_allclose(sorted(got.values()), sorted(want), 1e-9, 1e-12)
    assert 0 < got["interaction_energy"] <= 1
    assert 0 < got["interaction_homogeneity"] <= 1


def test_other_neighbors_of_the_interaction_have_their_own_names():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 1
    labels[2, 1, 1] = labels[2, 2, 1] = 2
    counts = pairs(labels, 2)
    faces = interaction(counts, CUBE, neighbors="3d6")
    assert (faces["interaction_3d6_1_2"], faces["border_3d6_1"]) == (1, 5)
    near = interaction(counts, (2.0, 1.0, 1.0), neighbors="3d26")
    weights = 1 / 2 + 1 / np.sqrt(5)  # smallest spacing / distance
    assert near["interaction_3d26_1_2"] == pytest.approx(2 * weights)
    assert faces.keys().isdisjoint(near)


def test_unknown_neighbors_are_refused():
    with pytest.raises(ConfigError, match="2d8"):
        relations(random_map(), 4, CUBE, neighbors="2d4")


def turned(axis, degrees):
    return Rotation.from_euler("xyz"[axis], degrees, degrees=True)  # axes are z, y, x


@pytest.mark.parametrize(
    ("neighbors", "axis"), [("2d8", 0), ("3d6", 0), ("3d26", 0), ("3d26", 2)]
)
def test_interaction_of_a_tumor_turned_by_45_degrees(neighbors, axis):
    # HABIT 3.0.0: homogeneity 1.8 -> 8.4, energy 1.1 -> 57 for a turned rod
    straight, turn = (
        interaction(pairs(phantom(turned(axis, a)), 4), CUBE, neighbors=neighbors)
        for a in (0, 45)
    )
    tag = "" if neighbors == "2d8" else f"_{neighbors}"
    for name in ("homogeneity", "energy"):
        value = turn[f"interaction{tag}_{name}"]
        assert value == pytest.approx(straight[f"interaction{tag}_{name}"], rel=0.05)
        assert value <= 1


def test_raw_counts_of_pairs_depend_on_the_orientation():
    straight, turn = (
        interaction(pairs(phantom(turned(0, a)), 4), CUBE, neighbors="3d6")
        for a in (0, 45)
    )
    name = "interaction_3d6_1_2"
    assert abs(turn[name] / straight[name] - 1) > 0.1


# Borders


def plate(rotation, spacing, half):
    """A flat plate of label 2 in label 1, and its surface in mm²."""
    places = grid(1.7 * half, spacing) - 0.37 * np.array(spacing)
    p = np.abs(rotation.apply(places.reshape(-1, 3), inverse=True))
    inside = (p < [half / 5, half, half]).all(axis=1)
    return (1 + inside).reshape(places.shape[:3]).astype(np.uint8), 11.2 * half**2


ANGLES = [Rotation.identity(), turned(0, 45), turned(2, 45), *Rotation.random(9, 7)]


@pytest.mark.parametrize(("spacing", "half"), [(CUBE, 30), (PET, 60), (CT, 30)])
def test_border_area_of_a_plate_at_any_angle(spacing, half):
    ratios = []
    for rotation in ANGLES:
        labels, area = plate(rotation, spacing, half)
        ratios.append(borders(labels, 2, spacing)[0]["border_area_1_2"] / area)
    assert np.abs(np.array(ratios) - 1).max() < 0.1
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


@given(st.floats(0.3, 6), st.floats(0.3, 6), st.permutations(range(3)))
def test_border_area_of_planes(across, along, axes):
    """What endless planes are worth per mm², without edges and whole voxels."""
    spacing = tuple(np.array([across, along, along])[axes].tolist())
    steps, weights = _crofton(spacing)
    per_mm2 = np.abs(NORMALS @ (steps * spacing).T) / np.prod(spacing)  # pairs
    area = per_mm2 @ weights
    assert 0.893 < area.min() < area.max() < 1.07
    assert area.mean() == pytest.approx(1, abs=0.005)


NORMALS = np.random.default_rng(1).normal(size=(20000, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1)[:, None]


@pytest.mark.parametrize("spacing", [CUBE, PET, CT, (1.5, 1.0, 2.0)], ids=str)
@pytest.mark.parametrize("radius", [15.0, 25.0])
def test_border_area_of_spheres(spacing, radius):
    places = grid(40.0, spacing) - 0.3  # off the middle of a voxel
    r = np.linalg.norm(places, axis=-1)
    labels = (r < 38).astype(np.uint8) + (r < radius)
    tumor, habitats = borders(labels, 2, spacing)
    assert tumor["border_area_1_2"] == pytest.approx(4 * np.pi * radius**2, rel=0.03)
    assert tumor["border_area_1_outside"] == pytest.approx(4 * np.pi * 38**2, rel=0.02)
    density = tumor["border_area_1_2"] / ((labels > 0).sum() * np.prod(spacing))
    assert tumor["edge_density"] == pytest.approx(density)
    assert habitats["surface_to_volume"][1] == pytest.approx(3 / radius, rel=0.04)


def test_habitats_apart_have_no_border():
    labels = np.ones((9, 9, 9), np.uint8)
    labels[:, :, 4], labels[:, :, 5:] = 2, 3
    tumor, _ = borders(labels, 3, CUBE)
    assert tumor["border_area_1_3"] == 0
    assert tumor["border_area_1_2"] == pytest.approx(tumor["border_area_2_3"])


# Join counts


@given(tumors, st.sampled_from(["3d6", "3d26"]))
def test_join_counts_are_pairs_of_neighbors(labels, neighbors):
    got = joins(labels, pairs(labels, 3), neighbors=neighbors)
    want = naive.joins(labels, 3, faces=neighbors == "3d6")
    for i, j in zip(*np.triu_indices(3), strict=True):
        assert got[f"joins_{i + 1}_{j + 1}"] == want[i, j]


@pytest.mark.parametrize("neighbors", ["2d8", "3d6", "3d26"])
def test_chance_of_join_counts_is_that_of_all_permutations(neighbors):
    labels = np.array([[[1, 1, 2], [0, 2, 3]], [[1, 0, 0], [0, 3, 0]]], np.uint8)
    inside = labels > 0
    got = joins(labels, pairs(labels, 3), neighbors=neighbors)
    names = [f"joins_{i}_{j}" for i in range(1, 4) for j in range(i, 4)]
    seen = []
    for order in set(permutations(labels[inside].tolist())):
        labels[inside] = order
        each = joins(labels, pairs(labels, 3), neighbors=neighbors)
        seen.append([each[name] for name in names])
    mean, sd = np.mean(seen, axis=0), np.std(seen, axis=0)
    for name, m, s in zip(names, mean, sd, strict=True):
        expected, z = (
            got[name.replace("joins", f"joins_{w}")] for w in ("expected", "z")
        )
        assert expected == pytest.approx(m)
        assert z == pytest.approx((got[name] - m) / s)


def test_join_counts_of_a_mixed_and_of_a_sorted_tumor():
    rng = np.random.default_rng(3)
    mixed = rng.integers(1, 3, (12, 12, 12)).astype(np.uint8)
    by_chance = joins(mixed, pairs(mixed, 2))
    assert by_chance["joins_ratio_1_2"] == pytest.approx(1, abs=0.03)
    assert abs(by_chance["joins_z_1_2"]) < 3
    apart = np.sort(mixed.ravel()).reshape(mixed.shape)
    grouped = joins(apart, pairs(apart, 2))
    assert grouped["joins_z_1_2"] < -30
    assert grouped["joins_z_1_1"] > 30


def test_join_counts_without_chance_have_no_z():
    one = joins(np.ones((2, 2, 2), np.uint8), pairs(np.ones((2, 2, 2), np.uint8), 2))
    assert one["joins_1_1"] == one["joins_expected_1_1"] == 28
    assert np.isnan([one["joins_z_1_1"], one["joins_ratio_1_2"]]).all()


# Parts


@given(tumors)
def test_parts_equal_scipy_and_skimage(labels):
    _, got = parts(labels, 3)
    for i in range(3):
        own = np.pad(labels == i + 1, 1)
        number, total = ndimage.label(own, FULL)[1], own.sum()
        assert got["components"][i] == number
        assert got["euler_number"][i] == euler_number(own, connectivity=3)
        if number == 0:
            assert np.isnan([got["largest_component"][i], got["dispersion"][i]]).all()
            continue
        largest = np.bincount(ndimage.label(own, FULL)[0].ravel())[1:].max()
        assert got["largest_component"][i] == pytest.approx(largest / total)
        assert got["dispersion"][i] == pytest.approx(1 - largest / number / total)


def test_parts_of_a_large_map():
    labels = random_map(5, shape=(30, 40, 40), coarse=0.7)
    _, got = parts(labels, 4)
    for i in range(4):
        own = np.pad(labels == i + 1, 1)
        assert got["components"][i] == ndimage.label(own, FULL)[1]
        assert got["euler_number"][i] == euler_number(own, connectivity=3)


def test_euler_number_of_known_bodies():
    r = np.linalg.norm(grid(9.0, CUBE), axis=-1)
    hollow = ((r < 8) & (r > 4)).astype(np.uint8)
    assert parts(hollow, 1)[1]["euler_number"] == 2  # a part and a cavity
    hollow[:, 8:13, 8:13] = 0
    assert parts(hollow, 1)[1]["euler_number"] == 0  # a part and a tunnel


@given(tumors)
def test_ith_score_equals_the_published_program(labels):
    got, _ = parts(labels, 3)
    area = (labels > 0).sum(axis=(1, 2))
    largest = labels[area == area.max()]
    flat = [naive.ith(s, np.ones((3, 3))) for s in largest]
    assert got["ith_score"] == pytest.approx(np.mean(flat), abs=1e-12)
    assert got["ith_score_3d"] == pytest.approx(naive.ith(labels, FULL), abs=1e-12)


def test_ith_score_of_known_maps():
    labels = np.zeros((3, 4, 6), np.uint8)
    labels[1] = 1
    labels[1, :, 3:] = 2
    assert parts(labels, 2)[0] == {"ith_score": 0, "ith_score_3d": 0}
    labels[1, 0, 0] = 3  # one pixel: no part, but a pixel of the tumor
    assert parts(labels, 3)[0]["ith_score"] == pytest.approx(1 - (11 + 12) / 24)
    labels[1, :, 2] = 4
    labels[1, 1:3, 5] = 4  # two parts, 4 and 2 pixels
    score = 1 - (4 / 2 + 7 + 10) / 24
    assert parts(labels, 4)[0]["ith_score"] == pytest.approx(score)
    labels[0] = np.arange(24).reshape(4, 6) % 2 * 4  # a smaller slice is not seen
    assert parts(labels, 4)[0]["ith_score"] == pytest.approx(score)


# Landscape


@given(tumors.filter(lambda labels: len(np.unique(labels[labels > 0])) > 1))
def test_contagion_is_that_of_fragstats(labels):
    got = landscape(pairs(labels, 3))[0]["contagion"]
    assert got == pytest.approx(naive.contagion(labels, 3))


def test_aggregation_is_one_for_the_most_compact_bodies():
    for n, most in enumerate(naive.most_contacts(6), start=1):
        row = np.ones((1, 1, n), np.uint8)
        got = landscape(pairs(row, 1))[1]["aggregation"]
        np.testing.assert_allclose(got, (n - 1) / most if most else np.nan)
    for shape in ((3, 3, 3), (4, 3, 3), (5, 4, 4), (7, 7, 7)):
        labels = np.ones(shape, np.uint8)
        assert landscape(pairs(labels, 1))[1]["aggregation"] == 1
        bump = np.pad(labels, 1)
        bump[0, 2:4, 2:4] = 1  # 4 more voxels with 8 contacts
        assert landscape(pairs(bump, 1))[1]["aggregation"] == 1


def test_landscape_of_one_habitat():
    tumor, habitats = landscape(pairs(np.ones((2, 1, 1), np.uint8), 2))
    assert np.isnan(tumor["contagion"])
    np.testing.assert_array_equal(habitats["aggregation"], [1, np.nan])


# All


@pytest.mark.parametrize("spacing", [CUBE, (3.0, 1.5, 2.0)], ids=str)
def test_flips_and_turns_by_90_degrees_change_nothing(spacing):
    labels = random_map()
    tumor, habitats = relations(labels, 4, spacing, neighbors="3d26")
    for axes, flips in product(permutations(range(3)), ((), (0,), (1, 2), (0, 1, 2))):
        other = np.flip(labels.transpose(axes), flips)
        lengths = tuple(spacing[a] for a in axes)
        more, each = relations(other, 4, lengths, neighbors="3d26")
        assert_same(more, tumor, () if axes[0] == 0 else ["ith_score"])
        assert_same(each, habitats)
        if axes[0] == 0:  # in the slice
            flat, same = (
                interaction(pairs(a, 4), s)
                for a, s in ((labels, spacing), (other, lengths))
            )
            assert_same(flat, same)


@given(tumors, st.tuples(*[st.tuples(*[st.integers(0, 2)] * 2)] * 3))
def test_padding_changes_nothing(labels, width):
    for got, want in zip(
        relations(np.pad(labels, width), 3, PET), relations(labels, 3, PET), strict=True
    ):
        assert_same(got, want)


def test_other_numbers_of_the_habitats_only_permute():
    labels, new = random_map(), np.array([0, 3, 1, 4, 2])
    tumor, habitats = relations(labels, 4, CT)
    more, each = relations(new[labels], 4, CT)
    for name, values in habitats.items():
        np.testing.assert_allclose(each[name][new[1:] - 1], values, err_msg=name)
    ordered = {f"interaction_{n}" for n in ("contrast", "homogeneity", "correlation")}
    for name in tumor.keys() - ordered:  # these depend on the order by definition
        words = name.split("_")
        own = sorted(new[int(w)] for w in words if w.isdigit())
        words = [w for w in words if not w.isdigit()]
        outside = words.pop() if words[-1] == "outside" else ""
        same = "_".join([*words, *map(str, own), *([outside] if outside else [])])
        assert more[same] == pytest.approx(tumor[name], rel=1e-9), name


@given(maps)
def test_any_map_has_all_features(labels):
    tumor, habitats = relations(labels, 5, PET)
    full, each = relations(random_map(k=5), 5, PET)
    assert (tumor.keys(), habitats.keys()) == (full.keys(), each.keys())
    assert {type(value) for value in tumor.values()} == {float}
    absent = ~np.isin(np.arange(1, 6), labels)
    for name, values in habitats.items():
        assert values.shape == (5,)
        counted = name in ("components", "euler_number")
        empty = values[absent] == 0 if counted else np.isnan(values[absent])
        assert empty.all(), name

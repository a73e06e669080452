"""Texture maps: values of pyradiomics, and what a user may ask for."""

from itertools import pairwise

import numpy as np
import pytest

import habitat
from habitat import Image
from habitat.errors import ConfigError, HabitatWarning
from habitat.kernels import texture, texture_pairs
from habitat.maps import texture_maps
from habitat.maps._texture import FEATURES
from tests import naive_texture
from tests.make_texture_golden import (
    CLASSES,
    GOLDEN,
    RADII,
    WIDTHS,
    generated,
    patient,
    reference,
)

EVERYTHING = (*FEATURES, "glcm_MCC")
# Where the exact value is 0 (symmetric windows, independent levels), pyradiomics gives
# the rounding of its sums, and of MCC the square root of it.
ROUNDING = {"glcm_MCC": 1e-7, "glcm_ClusterShade": 1e-8, "glcm_ClusterProminence": 1e-8}


def compare(got, want, keys=None):
    for key in keys or want:
        np.testing.assert_allclose(
            got[key], want[key], rtol=1e-6, atol=ROUNDING.get(key, 1e-9), err_msg=key
        )


def maps_of(array, mask, spacing, width, radius, features=EVERYTHING):
    """Values in the mask of all maps on the grid of the array."""
    image = Image(array, spacing=spacing, unit="HU")
    with pytest.warns(HabitatWarning):
        maps = texture_maps(
            image,
            Image(mask, image.geometry),
            features=features,
            radius=radius,
            bin_width=width,
            spacing=None,
        )
    box = next(iter(maps.values())).geometry
    assert box.shape == mask.shape  # small enough to be kept whole
    return {key[3:]: it.array[mask].astype(float) for key, it in maps.items()}


# --- pyradiomics ----------------------------------------------------------------------


def golden_case(case, shared):
    with np.load(GOLDEN / f"texture_{case.lower()}.npz") as file:
        kept = {name: file[name] for name in file.files}
    if case == "generated":
        return kept, (kept["image"], kept["mask"], tuple(kept["spacing"]))
    return kept, patient(shared, case)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("case", WIDTHS)
def test_all_maps_equal_pyradiomics(case, radius, request):
    shared = None if case == "generated" else request.getfixturevalue("shared")
    kept, (array, mask, spacing) = golden_case(case, shared)
    got = maps_of(array, mask, spacing, WIDTHS[case], radius)
    assert sorted(got) == sorted(kept["names"])
    inside = [
        np.flatnonzero((np.argwhere(mask) == v).all(1))[0] for v in kept["voxels"]
    ]
    want = dict(zip(kept["names"], kept[f"radius{radius}"].T, strict=True))
    compare({key: v[inside] for key, v in got.items()}, want)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("modality", ["CT", "PET"])
def test_all_voxels_of_a_patient_equal_pyradiomics(modality, radius, kind, shared):
    array, mask, spacing = patient(shared, modality)
    width = WIDTHS[modality]
    got = maps_of(array, mask, spacing, width, radius, [kind])
    want = reference(array, mask, spacing, radius, kind, binWidth=width, mcc=False)
    assert sorted(got) == sorted(f"{kind}_{name}" for name in want)
    compare(got, {f"{kind}_{name}": v for name, v in want.items()})


def edge_cases():
    rng = np.random.default_rng(2)
    shape = (5, 6, 7)
    image = np.rint(60 * rng.standard_normal(shape))
    slab, lone, ring = (np.zeros(shape, bool) for _ in range(3))
    slab[2] = rng.random(shape[1:]) < 0.7
    lone[::2, ::2, ::2] = True
    ring[:] = True
    ring[1:4, 1:5, 1:6] = False
    some = lone.copy()
    some[:2, :2, :2] = True
    whole = np.ones(shape, bool)
    patch = np.where(np.arange(7) < 4, 10.0, image)
    return {
        "one slice": (image, slab),
        "lone voxels": (image, lone),
        "some lone voxels": (image, some),
        "a shell": (image, ring),
        "constant": (np.full(shape, 7.0), whole),
        "constant, lone voxels": (np.full(shape, 7.0), lone),
        "constant, some lone voxels": (np.full(shape, 7.0), some),
        "a constant patch": (patch, whole),
    }


@pytest.mark.parametrize("kind", ["firstorder", "glcm"])
@pytest.mark.parametrize("case", edge_cases())
def test_masks_at_their_limits_are_defined_as_in_pyradiomics(case, kind):
    image, mask = edge_cases()[case]
    asked = [kind, "glcm_MCC"] if kind == "glcm" else [kind]
    got = maps_of(image, mask, (2, 1, 1), 25.0, 1, asked)
    want = reference(image, mask, (2, 1, 1), 1, kind, binWidth=25.0)
    compare(got, {f"{kind}_{name}": v for name, v in want.items()})


def test_bin_count_is_that_of_pyradiomics():
    image, mask, spacing = generated()
    unitless = Image(image, spacing=(1, 1, 1))
    with pytest.warns(HabitatWarning, match="mask covers 68%"):
        maps = texture_maps(
            unitless, Image(mask, unitless.geometry), features="glcm", bin_count=9
        )
    want = reference(image, mask, (1, 1, 1), 1, "glcm", binCount=9)
    got = {k[6:]: m.array[mask] for k, m in maps.items()}
    del want["MCC"]
    compare(got, {f"glcm_{name}": v for name, v in want.items()})
    assert next(iter(maps.values())).meta["map"]["levels"] == 9


def test_skewness_of_equal_values_is_0_where_pyradiomics_gives_a_rounding_error():
    array, mask = np.full((3, 3, 3), 0.1), np.ones((3, 3, 3), bool)
    want = reference(array, mask, (1, 1, 1), 1, "firstorder", binWidth=25.0)
    assert np.abs(want["Skewness"]).max() == pytest.approx(1)
    with pytest.warns(HabitatWarning, match="mask covers 100%"):
        got = texture_maps(
            Image(array, spacing=(1, 1, 1)),
            Image(mask, spacing=(1, 1, 1)),
            features=["firstorder_Skewness", "firstorder_Kurtosis"],
        )
    for it in got.values():
        assert (it.array == 0).all()


# --- kernels and their twins ----------------------------------------------------------


def window_case(radius, highest, density):
    """Values, levels, some centers and the window's offsets of a small image."""
    rng = np.random.default_rng(radius)
    levels = rng.integers(1, highest + 1, (5, 5, 6))
    levels[2, 2, 2] = highest
    levels[rng.random(levels.shape) > density] = 0
    levels = np.pad(levels, radius).astype(np.int32)
    steps = np.array([levels[0].size, levels.shape[2], 1])
    cube = np.indices((2 * radius + 1,) * 3).reshape(3, -1).T - radius
    values = rng.normal(0, 40, levels.size)
    return values, levels, np.flatnonzero(levels)[::5], cube @ steps


@pytest.mark.parametrize(("highest", "density"), [(6, 0.9), (1, 0.9), (4, 0.1)])
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_kernels_equal_their_twins(radius, highest, density):
    values, levels, centers, offsets = window_case(radius, highest, density)
    n, flat = int(levels.max()), highest == 1
    got, want = np.empty((2, len(centers), len(texture.FIRSTORDER)))
    tables = texture.firstorder_tables(radius)
    for function, out in ((texture.firstorder, got), (naive_texture.firstorder, want)):
        function(values, levels.ravel(), centers, offsets, *tables, 3.0, n, out)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    got, want = np.empty((2, len(centers), len(texture_pairs.GLCM)))
    pairs = texture_pairs.glcm_tables(radius, n)
    mask = levels > 0
    angles = np.array(
        [(mask & np.roll(mask, a, (0, 1, 2))).any() for a in texture_pairs.ANGLES]
    )
    for mcc in (False, True):
        for function, out in ((texture_pairs.glcm, got), (naive_texture.glcm, want)):
            function(levels.ravel(), centers, offsets, *pairs, angles, flat, mcc, out)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_moments_survive_levels_far_from_0_and_far_apart():
    """Central moments of levels 1 and 60,000 +- 1: no digits cancel."""
    levels = np.zeros((5, 5, 5), np.int32)
    rng = np.random.default_rng(0)
    levels[1:4, 1:4, 1:4] = 60_000 + rng.integers(-1, 2, (3, 3, 3))
    low = np.where(levels > 0, levels - 59_998, 0)
    levels[2, 2, 2], low[2, 2, 2] = 1, 0
    centers, found = np.array([31 * 2]), {}
    cube = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    for name, array in (("far", levels), ("near", low)):
        out = np.empty((1, 24))
        pairs = texture_pairs.glcm_tables(1, int(array.max()))
        # without the odd voxel the two differ by a shift only
        array = np.where(levels == 1, 0, array).astype(np.int32).reshape(-1)
        texture_pairs.glcm(
            array,
            centers,
            cube @ [25, 5, 1],
            *pairs,
            np.ones(13, bool),
            False,
            True,
            out,
        )
        found[name] = dict(zip(texture_pairs.GLCM, out[0], strict=True))
    for feature in ("ClusterProminence", "ClusterShade", "Correlation", "SumSquares"):
        assert found["far"][feature] == pytest.approx(found["near"][feature], rel=1e-12)


# --- what a user asks for -------------------------------------------------------------


@pytest.fixture(scope="module")
def phantom():
    return habitat.phantom()


def test_defaults_fit_the_modality(phantom):
    for image, unit, edge, width in (
        (phantom.ct, "HU", 1, 25),
        (phantom.pet, "SUVbw", 3, 0.25),
    ):
        maps = texture_maps(image, phantom.mask, features="glcm_Contrast")
        (key, it), *others = maps.items()
        assert not others
        assert key == f"{unit}_glcm_Contrast"
        assert it.array.dtype == np.float32
        assert it.is_map
        np.testing.assert_allclose(it.geometry.spacing, edge)
        how = it.meta["map"]
        assert how["bin_width"] == width
        assert how["assumed"] == ["spacing", "bins"]
        assert any(f"{how['levels']} gray levels" in note for note in it.notes)
        assert np.isnan(it.array).any()  # around the tumor


def test_an_image_of_another_unit_has_32_levels_and_cubes_of_its_pixels(phantom):
    image = Image(phantom.ct.array, phantom.ct.geometry, unit="1/s")
    maps = texture_maps(image, phantom.mask, features=["gldm"], name="flow")
    assert list(maps) == [f"flow_gldm_{f}" for f in FEATURES["gldm"]]
    one = next(iter(maps.values()))
    assert one.meta["map"]["bin_count"] == one.meta["map"]["levels"] == 32
    np.testing.assert_allclose(one.geometry.spacing, phantom.ct.geometry.spacing[2])


def test_every_feature_asked_for_is_there_once_and_in_order(phantom):
    asked = ["glcm_MCC", "ngtdm", "firstorder_Mean", "glcm", "glcm_Contrast"]
    maps = texture_maps(phantom.pet, phantom.mask, features=asked, name="x")
    want = [f"x_glcm_{f}" for f in FEATURES["glcm"]]
    want += [f"x_ngtdm_{f}" for f in FEATURES["ngtdm"]]
    assert list(maps) == [*want, "x_firstorder_Mean"]
    assert maps["x_firstorder_Mean"].unit == "SUVbw"
    without = texture_maps(phantom.pet, phantom.mask, features="glcm")
    assert "SUVbw_glcm_MCC" not in without


def test_the_number_of_threads_changes_nothing(phantom):
    one, two = (
        texture_maps(
            phantom.pet, phantom.mask, features=EVERYTHING, spacing=2, threads=n
        )
        for n in (1, 2)
    )
    for key, it in one.items():
        np.testing.assert_array_equal(it.array, two[key].array)


def test_flipping_the_image_flips_the_maps():
    image, mask, spacing = generated()
    here = maps_of(image, mask, spacing, 25.0, 1)
    there = maps_of(image[::-1, :, ::-1], mask[::-1, :, ::-1], spacing, 25.0, 1)
    back = np.zeros(mask.shape)
    for key, values in there.items():
        back[mask[::-1, :, ::-1]] = values
        np.testing.assert_allclose(
            back[::-1, :, ::-1][mask], here[key], rtol=1e-6, atol=1e-9, err_msg=key
        )


def test_spacing_may_be_given_in_mm(phantom):
    for spacing in (4, (4, 3, 3), np.array([4.0, 3.0, 3.0])):
        maps = texture_maps(
            phantom.pet, phantom.mask, features="gldm", spacing=spacing, bin_count=8
        )
        one = next(iter(maps.values()))
        np.testing.assert_allclose(one.geometry.spacing, np.ones(3) * spacing)
        assert one.meta["map"]["assumed"] == []


def test_windows_that_are_not_cubes_are_told_in_mm(phantom):
    grid = phantom.pet.geometry.spacing
    image = Image(phantom.pet.array, spacing=(2 * grid[0], *grid[1:]), unit="SUVbw")
    mask = Image(image.array > 3, image.geometry)
    with pytest.warns(HabitatWarning, match=r"windows of .* mm .* are not cubes"):
        maps = texture_maps(image, mask, features="firstorder_Mean", spacing=None)
    (it,) = maps.values()
    assert any("not cubes" in note for note in it.notes)
    np.testing.assert_allclose(it.geometry.spacing, image.geometry.spacing)


def test_a_wider_window_is_smoother(phantom):
    noise = []
    for radius in (1, 2, 3):
        maps = texture_maps(
            phantom.pet, phantom.mask, features="firstorder_Mean", radius=radius
        )
        (it,) = maps.values()
        noise.append(np.nanstd(np.diff(it.array, axis=0)))
    assert all(a > b for a, b in pairwise(noise))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"features": ["glcmm"]}, "did you mean 'glcm'"),
        ({"features": ["glcm_Contrst"]}, "did you mean 'Contrast'"),
        ({"features": []}, "sequence of names"),
        ({"radius": 4}, "integer 1 to 3"),
        ({"bin_width": 25, "bin_count": 32}, "one of them"),
        ({"bin_width": 0}, "must be a number"),
        ({"bin_width": 1e-6}, "gray levels"),
        ({"bin_count": 0}, "integer"),
        ({"spacing": "modalty"}, "did you mean 'modality'"),
        ({"spacing": (1, 1)}, "`spacing`: must be one or"),
        ({"spacing": (1, 1, 0)}, "`spacing`: must be a number"),
        ({"threads": -1}, "integer"),
        ({"radius": 0, "features": ["x"], "bin_count": 0}, "3 problems"),
    ],
)
def test_wrong_arguments_are_told(phantom, wrong, match):
    with pytest.raises(ConfigError, match=match):
        texture_maps(phantom.pet, phantom.mask, **wrong)


def test_maps_can_be_clustered(phantom):
    maps = texture_maps(
        phantom.pet,
        phantom.mask,
        features=["firstorder_Mean", "glcm_Contrast", "glcm_JointAverage"],
    )
    result = habitat.segment_channels(maps, phantom.mask, k=3)
    assert result.k == 3


@pytest.mark.parametrize("width", [0.1, 0.2, 0.25])
def test_values_on_a_decimal_lattice_get_the_level_above_the_edge(width):
    tenths = np.arange(7, 34).reshape(3, 3, 3)
    image = Image((tenths / 10).astype(np.float32), spacing=(1, 1, 1), unit="mg/mL")
    tumor = Image(np.ones((3, 3, 3), bool), spacing=(1, 1, 1))
    with pytest.warns(HabitatWarning):
        maps = texture_maps(
            image, tumor, features="glcm_JointAverage", bin_width=width, spacing=None
        )
    how = maps["mg/mL_glcm_JointAverage"].meta["map"]
    exact = (100 * tenths) // round(1000 * width)  # in whole numbers
    assert how["levels"] == exact.max() - exact.min() + 1
    assert how["lowest"] == pytest.approx(exact.min() * width)

"""Shape of regions: values of pyradiomics 3.1.4, IBSI's morphology, plain twins."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from radiomics import shape as reference

import habitat
from habitat.features._prepare import intensity_layers, prepare
from habitat.features._settings import RadiomicsSettings
from habitat.features._shape import ibsi_shape, shape
from habitat.kernels import mesh
from tests import naive_mesh

# pyradiomics takes roots of rounding errors where a region is flat or straight.
ROOTS = {"MinorAxisLength", "LeastAxisLength", "Elongation", "Flatness"}
CASES = ["lung1", "brain1", "breast1"]


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("radiomics").setLevel(logging.ERROR)


def pyradiomics(labels, label, spacing):
    """Features of one label by the library, on its box as its extractor crops it."""
    where = np.argwhere(labels == label)
    box = tuple(
        slice(a, b + 1) for a, b in zip(where.min(0), where.max(0), strict=True)
    )
    mask = sitk.GetImageFromArray((labels[box] == label).astype(np.uint8))
    mask.SetSpacing(tuple(float(s) for s in spacing[::-1]))
    with np.errstate(invalid="ignore"):
        found = reference.RadiomicsShape(sitk.Cast(mask, sitk.sitkFloat64), mask)
        found.enableAllFeatures()
        values = found.execute()
    return {name: complex(value).real for name, value in values.items()}


# its mesh encloses nothing: pyradiomics 3.1 rounds to 0, another order to 3e-17
EMPTY_MESH = np.zeros((4, 5, 3), np.uint8)
EMPTY_MESH[0, 3, 2] = EMPTY_MESH[3, 3, 2] = EMPTY_MESH[3, 4, 1] = 2


def test_a_mesh_that_encloses_nothing_has_no_ratio():
    assert_as_pyradiomics(EMPTY_MESH, 3, (0.5, 0.5, 0.9765625))


def assert_as_pyradiomics(labels, n, spacing):
    ours = shape(labels, n, spacing)
    assert len(ours) == 14
    for label in range(1, n + 1):
        if not (labels == label).any():
            assert all(np.isnan(v[label - 1]) for v in ours.values())
            continue
        expected = pyradiomics(labels, label, spacing)
        assert {f"shape_{name}" for name in expected} == set(ours)
        if abs(expected["MeshVolume"]) < 1e-12 * np.prod(spacing):  # rounding of 0
            assert ours["shape_MeshVolume"][label - 1] == 0
            assert np.isnan(ours["shape_SurfaceVolumeRatio"][label - 1])
            for name in ("MeshVolume", "SurfaceVolumeRatio", "Sphericity"):
                del expected[name]
        for name, value in expected.items():
            got = ours[f"shape_{name}"][label - 1]
            absent = name in ROOTS and np.isnan(value) and (labels == label).sum() > 1
            if absent:  # the root of a negative rounding error
                value = 0.0
            atol = 1e-6 if name in ROOTS else 0.0
            np.testing.assert_allclose(got, value, rtol=1e-6, atol=atol, err_msg=name)


@st.composite
def label_maps(draw):
    size = draw(st.tuples(*[st.integers(1, 12)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "sparse", "full"]))
    odds = {"noise": [0.4, 0.3, 0.2, 0.1], "sparse": [0.97, 0.02, 0.01, 0.0]}
    labels = rng.choice(4, size, p=odds.get(kind, [0.0, 0.5, 0.5, 0.0]))
    spacing = draw(st.tuples(*[st.sampled_from([0.5, 0.9765625, 1.0, 3.27])] * 3))
    return labels.astype(np.uint8), spacing


# --- pyradiomics ----------------------------------------------------------------------


@given(label_maps())
def test_any_label_map_has_the_features_of_pyradiomics(drawn):
    labels, spacing = drawn
    assert_as_pyradiomics(labels, 3, spacing)


@pytest.mark.parametrize("case", CASES)
def test_real_regions_have_the_features_of_pyradiomics(shared, case):
    folder = shared / "data" / "pyradiomics_cases"
    image = sitk.ReadImage(str(next(folder.rglob(f"{case}_label.nrrd"))))
    mask = sitk.GetArrayFromImage(image) > 0
    spacing = image.GetSpacing()[::-1]
    quarters = np.digitize(np.cumsum(mask).reshape(mask.shape) / mask.sum(), [0.3, 0.7])
    assert_as_pyradiomics(mask.astype(np.uint8), 1, spacing)
    assert_as_pyradiomics(np.where(mask, quarters + 1, 0).astype(np.uint8), 3, spacing)


def test_every_cube_has_the_features_of_pyradiomics():
    for pattern in range(1, 256):
        corners = np.array([bool(pattern >> bit & 1) for bit in range(8)], np.uint8)
        assert_as_pyradiomics(corners.reshape(2, 2, 2), 1, (3, 2, 1))


def test_single_voxel_has_lengths_0_and_no_proportions():
    one = shape(np.ones((1, 1, 1), np.uint8), 1, (2.0, 1.0, 1.0))
    assert one["shape_MajorAxisLength"][0] == one["shape_LeastAxisLength"][0] == 0
    assert np.isnan(one["shape_Elongation"][0])
    assert np.isnan(one["shape_Flatness"][0])
    assert one["shape_Maximum3DDiameter"][0] == 2


def test_oblique_flat_region_has_a_least_axis_of_0():
    labels = np.zeros((9, 9, 9), np.uint8)
    for z, y in np.ndindex(9, 9):
        labels[z, y, z] = 1
    flat = shape(labels, 1, (1.3, 0.7, 0.9))
    assert flat["shape_LeastAxisLength"][0] == flat["shape_Flatness"][0] == 0
    assert all(v.dtype == np.float64 for v in flat.values())


def test_a_mesh_whose_gaps_take_all_volume_has_no_ratio_to_it():
    labels = np.zeros((4, 3, 2), np.uint8)  # found by hypothesis
    labels[0, 2, 1] = labels[3, 1, 1] = labels[3, 2, 0] = 1
    found = shape(labels, 1, (0.5, 0.9765625, 0.9765625))
    assert found["shape_MeshVolume"][0] == 0
    assert np.isnan(found["shape_SurfaceVolumeRatio"][0])
    assert found["shape_Sphericity"][0] == 0
    more = ibsi_shape(labels, 1, (0.5, 0.9765625, 0.9765625))
    assert np.isnan(more["shape_Asphericity"][0])


# --- what must not matter -------------------------------------------------------------


def ellipsoid(size=(14, 18, 22)):
    places = np.meshgrid(*(np.linspace(-1, 1, s) for s in size), indexing="ij")
    return (sum(p**2 for p in places) <= 1).astype(np.uint8)


def both(labels, n, spacing):
    return shape(labels, n, spacing) | ibsi_shape(labels, n, spacing)


@given(label_maps(), st.integers(1, 5))
def test_padding_changes_nothing(drawn, width):
    labels, spacing = drawn
    a = both(labels, 3, spacing)
    b = both(np.pad(labels, width), 3, spacing)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("axis", range(3))
def test_flips_and_turns_change_only_what_names_an_axis(axis):
    labels, spacing = ellipsoid(), (3.0, 2.0, 1.0)
    labels[2:5, 8, 6:9] = 0  # a cavity
    plain = both(labels, 1, spacing)
    mirrored = both(np.flip(labels, axis), 1, spacing)
    order = np.roll(range(3), axis)
    turned = both(labels.transpose(order), 1, tuple(np.take(spacing, order)))
    for name, value in plain.items():
        np.testing.assert_allclose(mirrored[name], value, rtol=1e-9, err_msg=name)
        if "2DDiameter" not in name:
            np.testing.assert_allclose(turned[name], value, rtol=1e-9, err_msg=name)


def test_mesh_volume_of_scattered_voxels_changes_with_a_flip_as_in_pyradiomics():
    """Its mesh has gaps where voxels meet at an edge only: the one exception above."""
    labels = (np.random.default_rng(1).random((9, 9, 9)) < 0.5).astype(np.uint8)
    both_ways = [shape(a, 1, (1, 1, 1)) for a in (labels, labels[::-1])]
    a, b = (found["shape_MeshVolume"][0] for found in both_ways)
    assert abs(a / b - 1) > 0.01
    assert b == pytest.approx(pyradiomics(labels[::-1], 1, (1, 1, 1))["MeshVolume"])
    for name in ("VoxelVolume", "Maximum3DDiameter", "MajorAxisLength", "Flatness"):
        a, b = (found[f"shape_{name}"][0] for found in both_ways)
        assert a == pytest.approx(b, rel=1e-9)


def test_renumbering_regions_permutes_columns():
    labels = np.random.default_rng(0).integers(0, 4, (7, 8, 9))
    renumbered = np.array([0, 3, 1, 2])[labels]
    a, b = (both(found, 3, (1, 1, 2)) for found in (labels, renumbered))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name][[2, 0, 1]])


# --- IBSI -----------------------------------------------------------------------------

# Tags of ibsi1_phantoms.csv; Moran's I and Geary's C are tested with the patterns, the
# initiative has no values for the oriented box and the minimum volume ellipsoid.
TAGS = {
    "volume": "MeshVolume",
    "vol_approx": "VoxelVolume",
    "area_mesh": "SurfaceArea",
    "av": "SurfaceVolumeRatio",
    "comp_1": "Compactness1",
    "comp_2": "Compactness2",
    "sph_dispr": "SphericalDisproportion",
    "sphericity": "Sphericity",
    "asphericity": "Asphericity",
    "com": "CenterOfMassShift",
    "diam": "Maximum3DDiameter",
    "pca_maj_axis": "MajorAxisLength",
    "pca_min_axis": "MinorAxisLength",
    "pca_least_axis": "LeastAxisLength",
    "pca_elongation": "Elongation",
    "pca_flatness": "Flatness",
    "vol_dens_aabb": "VolumeDensityAABB",
    "area_dens_aabb": "AreaDensityAABB",
    "vol_dens_aee": "VolumeDensityAEE",
    "area_dens_aee": "AreaDensityAEE",
    "vol_dens_conv_hull": "VolumeDensityConvexHull",
    "area_dens_conv_hull": "AreaDensityConvexHull",
    "integ_int": "IntegratedIntensity",
}


SETTINGS = {
    "digital_phantom": RadiomicsSettings(spacing=None, bin_count=6),
    "chest_config_c": RadiomicsSettings(
        spacing=2, interpolation="linear", resegment=(-1000, 400), bin_width=25
    ),
    "chest_config_d": RadiomicsSettings(
        spacing=2, interpolation="linear", outliers=3, bin_count=32
    ),
    "chest_config_e": RadiomicsSettings(
        spacing=2,
        interpolation="cubic",
        resegment=(-1000, 400),
        outliers=3,
        bin_count=32,
    ),
}


def morphology(folder, unit, settings):
    image = habitat.read(folder[0], unit=unit)
    own = replace(settings, ibsi=True)
    own = own.for_channel(unit, False, image.geometry.spacing)
    ready = prepare(image, [habitat.read_mask(folder[1])], own)
    labels, spacing = ready.layers[0], ready.image.geometry.spacing
    values, (kept,) = ready.image.array, intensity_layers(ready, own)
    return shape(labels, 1, spacing) | ibsi_shape(labels, 1, spacing, values, kept)


@pytest.mark.parametrize("name", SETTINGS)
def test_phantoms_have_the_morphology_of_ibsi(shared, name):
    kind = "digital_phantom" if name == "digital_phantom" else "ct_phantom"
    folder = shared / "data" / "ibsi1" / kind / "nifti"
    paths = folder / "image" / "phantom.nii.gz", folder / "mask" / "mask.nii.gz"
    ours = morphology(paths, "HU", SETTINGS[name])
    rows = pd.read_csv(shared / "reference" / "ibsi1_phantoms.csv")
    rows = rows[(rows.data_set == name) & rows.reference_value.notna()].set_index("tag")
    for tag, feature in TAGS.items():
        value, tolerance = rows.loc[f"morph_{tag}", ["reference_value", "tolerance"]]
        assert ours[f"shape_{feature}"][0] == pytest.approx(value, abs=tolerance), tag
    tested = {f"morph_{t}" for t in TAGS}
    left = {t for t in rows.index if rows.family[t] == "Morphology"} - tested
    assert left == {"morph_moran_i", "morph_geary_c"}


def test_ball_is_compact_and_shift_follows_a_gradient():
    z, y, x = np.indices((31, 31, 31)) - 15.0
    labels = (z**2 + y**2 + x**2 <= 14.2**2).astype(np.uint8)
    found = ibsi_shape(labels, 1, (1.0, 1.0, 2.0), np.ones(labels.shape))
    semi_axis = 2 / np.sqrt(5)  # of IBSI's ellipsoid, in radii of a ball
    density = found["shape_VolumeDensityAEE"][0]
    assert density == pytest.approx(semi_axis**-3, rel=0.02)
    assert found["shape_VolumeDensityConvexHull"][0] == pytest.approx(1, rel=0.06)
    assert found["shape_CenterOfMassShift"][0] == pytest.approx(0, abs=1e-9)
    volume = shape(labels, 1, (1.0, 1.0, 2.0))["shape_MeshVolume"]
    np.testing.assert_allclose(found["shape_IntegratedIntensity"], volume)
    slope = ibsi_shape(labels, 1, (1.0, 1.0, 2.0), 100 + x)
    expected = 2 * (x[labels > 0] ** 2).mean() / 100  # mm
    assert slope["shape_CenterOfMassShift"][0] == pytest.approx(expected)


def test_region_without_intensities_left_keeps_its_densities():
    labels = ellipsoid()
    found = ibsi_shape(labels, 1, (1, 1, 1), labels * 1.0, np.zeros_like(labels))
    assert np.isnan(found["shape_CenterOfMassShift"][0])
    assert np.isnan(found["shape_IntegratedIntensity"][0])
    assert found["shape_VolumeDensityAABB"][0] < 1


def test_flat_region_has_no_ellipsoid():
    found = ibsi_shape(np.ones((1, 5, 6), np.uint8), 1, (1, 1, 1))
    assert np.isnan(found["shape_VolumeDensityAEE"][0])
    assert found["shape_VolumeDensityConvexHull"][0] == pytest.approx(1)


# --- kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_kernels_agree_with_plain_code(seed):
    rng = np.random.default_rng(seed)
    size = rng.integers(1, 8, 3)
    inner = rng.random(size) < rng.uniform(0.1, 1)
    inner.flat[0] = True
    mask, spacing = np.pad(inner, 1), rng.uniform(0.5, 3, 3)
    z, y, x = mask.shape
    results = []
    for module in (mesh, naive_mesh):
        cubes, moments = np.zeros((256, 4), np.int64), np.zeros(10, np.int64)
        along_x = np.empty((2, 2 * z, 2 * y), np.int32)
        along_z = np.empty((2, 2 * y, 2 * x), np.int32)
        module.march(mask, cubes, moments, along_x, along_z)
        out = np.empty(4)
        points = module.diameters(along_x, along_z, spacing, out)
        results.append((cubes, moments, along_x, along_z, out))
        box = (points.min(0), points.max(0))
        results[-1] += box
    for ours, plain in zip(*results, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-12)

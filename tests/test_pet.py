"""PET: peaks of the IBSI, thresholds by hand, blur by convolution."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import habitat
from habitat.features._pet import PEAK_MM, UNITS, blur_notes, peaks, pet, recovery


def reference(shared, data_set):
    """Values and tolerances that the IBSI agreed on."""
    with (shared / "reference/ibsi1_phantoms.csv").open(newline="") as file:
        rows = [r for r in csv.reader(file) if r[0] == data_set and "peak" in r[3]]
    return {r[3]: (float(r[1]), float(r[2])) for r in rows}


@pytest.mark.parametrize(
    ("folder", "data_set", "low", "high"),
    [
        ("digital_phantom", "digital_phantom", -np.inf, np.inf),
        ("ct_phantom", "chest_config_a", -500, 400),
    ],
)
def test_peaks_are_those_of_the_ibsi(shared, folder, data_set, low, high):
    path = shared / "data/ibsi1" / folder / "nifti"
    image = habitat.read(path / "image/phantom.nii.gz")
    values = image.array.astype(np.float64)
    mask = habitat.read_mask(path / "mask/mask.nii.gz").array
    inside = (mask & (values >= low) & (values <= high)).astype(int)
    found = peaks(values, inside, 1, image.geometry.spacing, whole=False)
    expected = reference(shared, data_set)
    for name, tag in (("local", "loc"), ("global", "glob")):
        value, tolerance = expected[f"loc_peak_{tag}"]
        known = found[f"suv_peak_{name}"][0]
        assert known == pytest.approx(value, abs=max(tolerance, 0.05))
    if folder == "digital_phantom":  # 8 x 10 x 8 mm: every sphere leaves it
        assert np.isnan(pet(values, inside, 1, (2, 2, 2))["suv_peak_local"][0])


def brute_peaks(suv, inside, spacing):
    """Local and global peak by the definition; NaN for spheres that leave the image."""
    points = np.indices(suv.shape).reshape(3, -1).T * np.array(spacing)
    reach = [math.floor(PEAK_MM / s) for s in spacing]
    means = {}
    for at in np.argwhere(inside):
        near = np.linalg.norm(points - at * spacing, axis=1) <= PEAK_MM
        left = any(
            a < r or a + r >= n for a, r, n in zip(at, reach, suv.shape, strict=True)
        )
        means[tuple(at)] = (suv.ravel()[near].mean(), left)
    top = [means[tuple(a)] for a in np.argwhere(inside & (suv == suv[inside].max()))]
    found = []
    for several in (top, list(means.values())):
        mean, left = max(several)
        found.append(np.nan if left else mean)
    return found


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(4, 4, 4), (3, 2.5, 2.5), (5, 2, 4), (7, 7, 7)]),
    st.floats(0.05, 1),
)
def test_peaks_by_brute_force(seed, spacing, share):
    rng = np.random.default_rng(seed)
    suv = rng.gamma(2, 2, (7, 8, 9))
    labels = rng.integers(1, 3, suv.shape) * (rng.random(suv.shape) < share)
    labels[:2] = 0
    found = peaks(suv, labels, 3, spacing)
    for i in range(2):
        expected = [np.nan, np.nan]
        if (labels == i + 1).any():
            expected = brute_peaks(suv, labels == i + 1, spacing)
        both = [found["suv_peak_local"][i], found["suv_peak_global"][i]]
        np.testing.assert_allclose(both, expected, rtol=1e-10)
    assert np.isnan(found["suv_peak_global"][2])


def test_of_several_hottest_voxels_the_highest_peak_counts():
    suv = np.zeros((5, 5, 15))
    suv[2, 2, [3, 11]] = 8
    suv[2, 2, 12] = 4
    found = peaks(suv, (suv == 8).astype(int), 1, (5, 5, 5))
    assert found["suv_peak_local"][0] == pytest.approx(12 / 7)  # center and 6 faces


def test_a_uniform_image_has_its_value_as_peak_wherever_a_sphere_fits():
    suv, labels = np.full((9, 9, 9), 2.5), np.ones((9, 9, 9), int)
    found = peaks(suv, labels, 1, (3, 3, 3))
    assert found["suv_peak_global"][0] == pytest.approx(2.5)
    labels[1:] = 0  # the outermost slice only
    assert np.isnan(peaks(suv, labels, 1, (3, 3, 3))["suv_peak_global"][0])
    suv[4, 4, 4] = np.nan
    labels[:] = 0
    labels[4, 4, 5] = 1
    assert np.isnan(peaks(suv, labels, 1, (3, 3, 3))["suv_peak_local"][0])


def lesion():
    """A row of SUV with two hot spots; voxels of 1 ml."""
    suv = np.array([[[1.0, 4.0, 10.0, 6.0, 1.0, 7.0, 2.0, 0.0]]])
    labels = np.array([[[1, 1, 1, 1, 2, 2, 2, 0]]])
    return suv, labels, (10.0, 10.0, 10.0)


def test_thresholds_by_hand():
    suv, labels, spacing = lesion()
    whole = pet(suv, (labels > 0).astype(int), 1, spacing)
    expected = {
        "suv_max": 10,
        "suv_mean": 31 / 7,
        "mtv_41": 2,  # 10 and 6: the 7 does not touch them
        "tlg_41": 16,
        "mtv_50": 2,
        "mtv_2_5": 4,  # 4, 10, 6, 7: at a fixed threshold all parts count
        "tlg_2_5": 27,
        "mtv_4_0": 4,  # 4.0 is not below 4.0
        "mtv_share_4_0": 4 / 7,
        "tlg": 31,
    }
    for name, value in expected.items():
        assert whole[name][0] == pytest.approx(value), name
    assert whole["suv_cov"][0] == pytest.approx(
        np.std(suv[labels > 0]) / np.mean(suv[labels > 0])
    )


def test_habitats_use_the_maximum_of_the_lesion():
    suv, labels, spacing = lesion()
    found = pet(suv, labels, 3, spacing, lesion_max=10.0)
    np.testing.assert_allclose(found["mtv_41"], [2, 1, np.nan])
    np.testing.assert_allclose(found["tlg_50"], [16, 7, np.nan])
    np.testing.assert_allclose(found["tlg"], [21, 10, np.nan])
    assert all(np.isnan(v[2]) for v in found.values())  # absent
    own = pet(suv, labels, 2, spacing)
    np.testing.assert_allclose(own["mtv_41"], [2, 1])  # 0.41 * 7 = 2.87


def test_all_features_have_a_unit():
    suv, labels, spacing = lesion()
    assert list(pet(suv, labels, 2, spacing)) == list(UNITS)


def test_no_uptake_has_no_relative_volume():
    found = pet(np.zeros((3, 3, 3)), np.ones((3, 3, 3), int), 1, (2, 2, 2))
    for name in ("suv_cov", "mtv_41", "mtv_share_50", "tlg_41"):
        assert np.isnan(found[name][0])
    assert found["mtv_2_5"][0] == found["tlg_2_5"][0] == 0


def test_voxels_without_a_value_are_left_out():
    suv, labels, spacing = lesion()
    suv[0, 0, 1] = np.nan
    found = pet(suv, (labels > 0).astype(int), 1, spacing)
    assert found["tlg"][0] == pytest.approx(27)
    suv[:] = np.nan
    assert np.isnan(pet(suv, labels, 2, spacing)["suv_max"]).all()


def scene(seed=0):
    rng = np.random.default_rng(seed)
    suv = ndimage.gaussian_filter(rng.gamma(1, 5, (20, 24, 28)), 1.5)
    labels = np.zeros(suv.shape, int)
    labels[7:13, 8:16, 9:20] = rng.integers(0, 4, (6, 8, 11))
    return suv, labels, (4.0, 3.0, 3.0)


def test_values_do_not_depend_on_orientation_crop_or_numbering():
    suv, labels, spacing = scene()
    found = pet(suv, labels, 3, spacing, lesion_max=suv.max())
    turned = pet(
        suv[::-1].swapaxes(1, 2), labels[::-1].swapaxes(1, 2), 3, spacing,
        lesion_max=suv.max(),
    )  # fmt: skip
    box = np.s_[5:15, 5:19, 6:23]  # 6.3 mm around
    cropped = pet(suv[box], labels[box], 3, spacing, lesion_max=suv.max())
    other = np.array([0, 3, 1, 2])[labels]
    renamed = pet(suv, other, 3, spacing, lesion_max=suv.max())
    for name, values in found.items():
        np.testing.assert_allclose(turned[name], values, rtol=1e-9)
        np.testing.assert_allclose(cropped[name], values, rtol=1e-9)
        np.testing.assert_allclose(renamed[name], values[[1, 2, 0]], rtol=1e-9)


def test_peaks_of_a_patient(shared):
    folder = shared / "data/sts_petct/STS_006"
    image = habitat.read(folder / "PET_image.nii.gz")
    mask = habitat.read_mask(folder / "PET_mask.nii.gz").array
    found = pet(
        image.array.astype(float), mask.astype(int), 1, image.geometry.spacing
    )  # fmt: skip
    one = {name: values[0] for name, values in found.items()}
    assert one["suv_mean"] < one["suv_peak_local"] <= one["suv_peak_global"]
    assert one["suv_peak_global"] < one["suv_max"]
    assert one["mtv_50"] < one["mtv_41"] < mask.sum() * image.geometry.voxel_ml
    assert one["tlg_41"] < one["tlg"]


def test_recovery_is_that_of_a_blurred_ball():
    sd = 6 / math.sqrt(8 * math.log(2))
    axes = np.indices((81, 81, 81)) - 40  # voxels of 0.5 mm
    for diameter in (8, 10, 15):
        ball = (0.5 * np.sqrt((axes**2).sum(0)) <= diameter / 2).astype(float)
        ball *= (4 / 3 * np.pi * (diameter / 2) ** 3) / (ball.sum() / 8)
        center = ndimage.gaussian_filter(ball, sd / 0.5)[40, 40, 40]
        assert recovery(diameter) == pytest.approx(center, abs=0.01)


def test_small_tumors_and_thin_habitats_are_told():
    labels = np.zeros((30, 30, 30), int)
    labels[5:25, 5:25, 5:25] = 1
    labels[5:25, 5:25, 5:9] = 2  # 4 voxels of 2 mm: 8 mm
    labels[5:25, 5:25, 23:25] = 3  # 2 voxels: 4 mm
    (note,) = blur_notes(labels, 3, (2, 2, 2))
    assert "h3 (4.0 mm)" in note
    assert "h2" not in note
    small, thin = blur_notes(labels, 3, (0.8, 0.8, 0.8))
    width = (6 * (20 * 0.8) ** 3 / math.pi) ** (1 / 3)
    assert f"{width:.0f} mm wide, below 20 mm" in small
    assert f"{100 * recovery(width):.0f}%" in small
    assert "h2 (3.2 mm)" in thin
    assert "below 30 mm" in blur_notes(labels, 1, (1, 1, 1), fwhm_mm=10)[0]
    assert blur_notes(labels, 1, (2, 2, 2)) == []
    assert blur_notes(np.zeros((3, 3, 3), int), 2, (2, 2, 2)) == []

"""Resampling: known functions, an independent library, and invariances."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

import habitat
from habitat import Geometry, Image, resample
from habitat.errors import ConfigError, GeometryError
from habitat.io._files import to_simpleitk
from habitat.io._grids import coverage, inside, needed, sample


def smooth(grid, f=lambda x, y, z: 3 + 0.05 * x - 0.02 * y + 0.1 * z):
    points = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return f(*np.moveaxis(points, -1, 0))


def turned(grid, angles, shift=(0.0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    middle = grid.world((np.array(grid.shape) - 1) / 2)
    affine[:3, 3] = middle - affine[:3, :3] @ middle + shift
    return Geometry(grid.shape, affine @ grid.affine)


COARSE = Geometry.from_spacing((12, 10, 9), (4.0, 5.0, 5.0), (10.0, -20.0, 30.0))


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (5, -8, 12)])
def test_a_linear_function_is_reproduced_upward(interpolation, angles):
    grid = Geometry.from_spacing((30, 30, 30), COARSE.spacing, (10.0, -20.0, 30.0))
    image = Image(smooth(grid), grid)
    inner = grid.crop((slice(12, 18),) * 3).resampled((1, 1, 2))
    target = turned(inner, angles)
    out = resample(image, target, interpolation=interpolation)
    np.testing.assert_allclose(out.array, smooth(target), atol=2e-3)


def test_linear_and_cubic_equal_simpleitk():
    rng = np.random.default_rng(3)
    grid = Geometry.from_spacing((40, 40, 40), COARSE.spacing)
    image = Image(rng.normal(size=grid.shape), grid)
    target = turned(grid.crop((slice(15, 25),) * 3).resampled((2, 2, 2)), (3, 2, 5))
    oracles = {"linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline3}
    for name, oracle in oracles.items():
        ours = resample(image, target, interpolation=name).array
        grid = to_simpleitk(Image(np.zeros(target.shape), target))
        theirs = sitk.Resample(to_simpleitk(image), grid, sitk.Transform(), oracle)
        theirs = sitk.GetArrayFromImage(theirs)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_smoothing_before_downsampling_removes_noise_as_it_should():
    rng = np.random.default_rng(4)
    fine = Geometry.from_spacing((40, 80, 80), (1.0, 1.0, 1.0))
    noise = Image(rng.normal(size=fine.shape), fine)
    out = sample(noise, fine.resampled((4, 4, 4)), "linear")
    assert out.smoothing_mm == (1.5, 1.5, 1.5)  # (ratio - 1) / 2 voxels
    # white noise through a Gaussian of sd s per axis: sd (4 pi s^2)^(-3/4); then the
    # linear weights at half-voxel points leave about sqrt(1/2) of what is uncorrelated
    expected = (4 * np.pi * 1.5**2) ** -0.75
    assert out.array.std() == pytest.approx(expected, rel=0.15)


def test_hu_is_cubic_and_rounded_and_nothing_else_is():
    rng = np.random.default_rng(5)
    values = rng.normal(50, 20, COARSE.shape)
    target = COARSE.resampled((3, 3, 3))
    hu = resample(Image(values, COARSE, unit="HU"), target).array
    suv = resample(Image(values, COARSE, unit="SUVbw"), target).array
    np.testing.assert_array_equal(hu, np.rint(hu))
    assert suv.min() >= values.min() - 1e-4
    assert suv.max() <= values.max() + 1e-4
    assert np.any(suv != np.rint(suv))


def test_the_same_grid_changes_nothing_and_rounds_nothing():
    image = Image(smooth(COARSE), COARSE, unit="HU")
    out = sample(image, COARSE, "cubic")
    assert out.interpolation == "none"
    np.testing.assert_array_equal(out.array, image.array)
    box = (slice(2, 6), slice(1, 5), slice(3, 4))
    np.testing.assert_array_equal(
        sample(image, COARSE.crop(box), "cubic").array, image.array[box]
    )


def test_only_the_part_that_is_needed_is_touched():
    image = Image(np.zeros((60, 200, 200), np.int16), spacing=(1, 1, 1))
    target = image.geometry.crop((slice(30, 32), slice(90, 92), slice(90, 92)))
    target = target.resampled((0.7, 0.7, 0.7))
    assert needed(image, target, "cubic").array.size < 30**3
    whole = sample(image, target, "cubic").array
    np.testing.assert_array_equal(whole, 0)


@given(st.integers(0, 10**6), st.sampled_from(["linear", "cubic"]))
def test_cropping_first_changes_nothing(seed, interpolation):
    rng = np.random.default_rng(seed)
    image = Image(rng.normal(size=(50, 50, 50)), spacing=(1, 1, 1))
    grid = Geometry.from_spacing((4, 5, 6), (1.5, 2.5, 0.8), rng.uniform(18, 22, 3))
    crop = sample(image, grid, interpolation).array
    wide = needed(image, grid, interpolation)
    assert wide.array.size < image.array.size
    padded = Image(np.array(image.array), image.geometry)
    full = resample(padded, grid, interpolation=interpolation).array
    np.testing.assert_allclose(crop, full, atol=1e-5)


def test_nan_makes_only_its_neighborhood_nan():
    values = smooth(COARSE)
    values[6, 5, 4] = np.nan
    out = resample(Image(values, COARSE), COARSE.resampled((2, 2, 2)))
    assert 0 < np.isnan(out.array).sum() < 200
    clean = resample(Image(smooth(COARSE), COARSE), COARSE.resampled((2, 2, 2)))
    good = np.isfinite(out.array)
    assert np.abs(out.array - clean.array)[good].max() < 0.05
    nothing = resample(Image(np.full(COARSE.shape, np.nan), COARSE), 2.0)
    assert np.isnan(nothing.array).all()


def test_one_nan_of_a_fine_image_weighs_little_in_a_coarse_one():
    fine = Geometry.from_spacing((30, 60, 60), (3, 1, 1))
    values = np.ones(fine.shape)
    values[15, 30, 30] = np.nan
    out = resample(Image(values, fine), (3, 5, 5))
    assert np.isnan(out.array).sum() <= 1
    np.testing.assert_allclose(out.array[np.isfinite(out.array)], 1)


def test_an_empty_mask_stays_empty():
    mask = Image(np.zeros(COARSE.shape, bool), COARSE)
    assert not resample(mask, 3.0).array.any()


def test_points_outside_the_field_of_view_are_not_valid():
    assert inside(COARSE, COARSE) is None
    moved = turned(COARSE, (0, 0, 0), (12, 0, 0))  # 2.4 voxels along x
    keep = inside(COARSE, moved)
    assert keep[:, :, :7].all()
    assert not keep[:, :, 7:].any()
    far = turned(COARSE, (0, 0, 0), (500, 0, 0))
    with pytest.raises(GeometryError, match="do not overlap"):
        resample(Image(smooth(COARSE), COARSE), far)


def test_coverage_is_the_exact_overlap_for_parallel_grids():
    mask = np.zeros((4, 8, 8), dtype=bool)
    mask[1:3, 2:6, 2:6] = True
    image = Image(mask, spacing=(2, 1, 1))
    target = Geometry.from_spacing((2, 3, 3), (3, 3, 3), (0.5, 0.5, 0.5))
    # volumes of box intersections, from the corners of both boxes
    low, high = np.array([1.0, 1.5, 1.5]), np.array([5.0, 5.5, 5.5])
    expected = np.zeros((2, 3, 3))
    for i in np.ndindex(2, 3, 3):
        center = 0.5 + 3 * np.array(i)
        sides = np.minimum(center + 1.5, high) - np.maximum(center - 1.5, low)
        expected[i] = np.prod(np.maximum(sides, 0)) / 27
    np.testing.assert_allclose(coverage(image, target), expected, atol=1e-12)


@given(st.integers(0, 10**6))
def test_coverage_keeps_the_volume(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 7, 8)) < 0.3
    mask[3, 3, 3] = True
    image = Image(mask, turned(Geometry.from_spacing((6, 7, 8), (3, 2, 1)), (0, 0, 0)))
    target = Geometry.from_spacing((30, 30, 30), (1.3, 1.7, 1.1), (-8, -8, -8))
    volume = coverage(image, target).sum() * target.voxel_ml
    assert volume == pytest.approx(mask.sum() * image.geometry.voxel_ml, rel=1e-9)


def test_coverage_of_oblique_grids_is_close_to_that_of_parallel_ones():
    grid = Geometry.from_spacing((30, 30, 30), (1, 1, 1))
    ball = ((np.indices(grid.shape) - 14.5) ** 2).sum(0) < 11**2
    target = grid.resampled((3, 3, 3))
    straight = coverage(Image(ball, grid), target)
    oblique = coverage(Image(ball, turned(grid, (0.5, 0.5, 0.5))), target)
    assert np.abs(straight - oblique).max() < 0.35
    assert oblique.sum() == pytest.approx(straight.sum(), rel=0.01)


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 0, 2), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, -1), (-1, 1, 1), (-1, -1, -1)])
def test_storing_the_same_image_in_another_order_changes_nothing(axes, flips):
    rng = np.random.default_rng(6)
    case = Image(rng.normal(size=COARSE.shape), COARSE, unit="SUVbw")
    mask = Image(case.array > 0.5, COARSE)
    flip = tuple(slice(None, None, f) for f in flips)
    columns = COARSE.affine[:3, list(axes)] * flips
    corner = np.zeros(3)
    for axis, way in zip(axes, flips, strict=True):
        corner[axis] = 0 if way > 0 else COARSE.shape[axis] - 1
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, COARSE.world(corner)
    shape = tuple(COARSE.shape[a] for a in axes)
    other = Geometry(shape, affine)
    target = COARSE.resampled((6, 4, 3))
    for image in (case, mask):
        again = Image(image.array.transpose(axes)[flip], other, unit=image.unit)
        expected = resample(image, target).array
        found = resample(again, target).array
        if image is mask:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_unknown_interpolation_is_named():
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        resample(Image(smooth(COARSE), COARSE), 2.0, interpolation="liner")


def test_labels_on_the_pet_grid_of_real_patients(shared):
    """Mask of the CT grid on the PET grid agrees with the one drawn there."""
    dice = []
    for name in ("STS_006", "STS_018", "STS_036"):
        folder = shared / "data" / "sts_petct" / name
        ct, pet = (habitat.read(folder / f"{m}_mask.nii.gz") for m in ("CT", "PET"))
        moved = resample(Image(ct.array > 0, ct.geometry), pet).array
        both = np.count_nonzero(moved & (pet.array > 0))
        dice.append(2 * both / (moved.sum() + (pet.array > 0).sum()))
    assert min(dice) >= 0.97

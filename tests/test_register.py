import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from habitat import Geometry, Image
from habitat.errors import ConfigError, GeometryError, HabitatWarning, InputError
from habitat.io._register import register
from habitat.phantoms import PhasePhantom, phantom

CENTER = np.array([60.0, 10.0, 120.0, 1.0])


@pytest.fixture(scope="module")
def case() -> PhasePhantom:
    return phantom("ct_phases", radius_mm=15, margin_mm=25, motion=(3, 2))


def off(found, planted) -> tuple[float, float]:
    """Error of an affine at the tumor's center (mm) and of its turn (degrees)."""
    matrix = np.array(found.report["transform"]["matrix"])
    turn = matrix[:3, :3] @ planted[:3, :3].T
    angle = np.degrees(np.arccos(min(1.0, (np.trace(turn) - 1) / 2)))
    return float(np.linalg.norm((matrix - planted) @ CENTER)), float(angle)


@pytest.mark.parametrize("name", ["unenhanced", "arterial", "delayed"])
def test_rigid_recovers_a_planted_motion(case, name) -> None:
    found = register(case.phases[name], case.phases["venous"], case.mask)
    mm, degrees = off(found, case.motion[name])
    assert mm < 0.3
    assert degrees < 0.3
    report = found.report
    assert report["kept"] == "rigid"
    assert report["ncc_after"] > max(0.98, report["ncc_before"])
    assert report["metric_after"] < report["metric_before"]
    assert report["shift_mm"] == pytest.approx(3, abs=0.3)
    assert report["jacobian"] == [1, 1]
    assert json.loads(json.dumps(report)) == report
    assert found.image.unit == "HU"
    assert found.image.geometry.same_as(case.phases["venous"].geometry)
    assert any("rigid" in note for note in found.image.notes)
    seen = np.isfinite(found.image.array)
    assert 0.8 < seen.mean() < 1  # NaN where the moving image does not reach
    assert seen[case.mask.array].all()


def test_an_image_stays_on_itself(case) -> None:
    venous = case.phases["venous"]
    found = register(venous, venous, case.mask)
    assert found.report["shift_mm"] < 0.05
    np.testing.assert_allclose(found.image.array, venous.array, atol=1)


def test_same_result_on_any_number_of_threads(case) -> None:
    pair = (case.phases["arterial"], case.phases["venous"], case.mask)
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    reports = []
    try:
        for threads in (1, 4):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            reports.append(register(*pair).report)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert reports[0] == reports[1]


def test_affine_is_kept_only_where_it_is_better_than_rigid(case) -> None:
    pair = (case.phases["arterial"], case.phases["venous"], case.mask)
    rigid = register(*pair).report
    affine = register(*pair, transform="affine").report
    assert affine["metric_after"] <= rigid["metric_after"]
    assert affine["kept"] in ("rigid", "affine")


def test_affine_recovers_a_planted_stretch(case) -> None:
    venous = case.phases["venous"]
    planted = np.eye(4)
    planted[:3, :3] = np.diag([1.05, 0.96, 1.0])
    planted[:3, 3] = CENTER[:3] - planted[:3, :3] @ CENTER[:3] + (1, -2, 1)
    moved = warped(
        venous, lambda points: (points - planted[:3, 3]) / np.diag(planted)[:3]
    )
    found = register(moved, venous, case.mask, transform="affine")
    matrix = np.array(found.report["transform"]["matrix"])
    np.testing.assert_allclose(matrix[:3, :3], planted[:3, :3], atol=0.01)
    assert np.linalg.norm((matrix - planted) @ CENTER) < 0.3
    assert found.report["jacobian"][0] == pytest.approx(1.05 * 0.96, abs=0.01)


@pytest.mark.slow
def test_bspline_undoes_most_of_a_planted_bend(case) -> None:
    venous = case.phases["venous"]

    def bend(points):
        out = points.copy()
        out[..., 0] += 3 * np.sin((points[..., 2] - 120) / 20)
        return out

    moved = warped(venous, bend)
    rigid = register(moved, venous, case.mask)
    bent = register(moved, venous, case.mask, transform="bspline")
    assert 1 - bent.report["ncc_after"] < 0.6 * (1 - rigid.report["ncc_after"])
    low, high = bent.report["jacobian"]
    assert 0.5 < low < 1 < high < 2
    assert json.loads(json.dumps(bent.report)) == bent.report


def warped(image: Image, back) -> Image:
    """An image whose value at a point is the given one's at `back(point)`."""
    grid = image.geometry
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    index = np.moveaxis(grid.index(back(grid.world(voxels))), -1, 0)
    values = image.array.astype(np.float32)
    out = ndimage.map_coordinates(values, index, order=1, mode="nearest")
    return image.replace(out)


def test_grids_may_be_flipped_and_permuted(case) -> None:
    arterial, venous = case.phases["arterial"], case.phases["venous"]
    grid = arterial.geometry
    affine = grid.affine.copy()
    affine[:3, 3] = grid.world((0, grid.shape[1] - 1, 0))
    affine[:3, 1] *= -1
    affine = affine[:, [2, 1, 0, 3]]
    turned = np.flip(arterial.array, 1).transpose(2, 1, 0)
    other = Image(turned, Geometry(turned.shape, affine), unit="HU")
    found = register(other, venous, case.mask)
    mm, degrees = off(found, case.motion["arterial"])
    assert (mm < 0.3, degrees < 0.3) == (True, True)


def test_masks_and_other_images_follow_and_dice_is_told(case) -> None:
    name, venous = "arterial", case.phases["venous"]
    planted = case.motion[name]
    inverse = np.linalg.inv(planted)
    there = warped(
        Image(case.mask.array * 1.0, venous.geometry),
        lambda p: p @ inverse[:3, :3].T + inverse[:3, 3],
    )
    second = Image(there.array >= 0.5, venous.geometry)
    found = register(case.phases[name], venous, case.mask, moving_mask=second)
    assert found.report["dice_before"] < 0.92
    assert found.report["dice_after"] > 0.96
    back = found.apply(second)
    assert back.array.dtype == bool
    again = found.apply(case.phases[name]).array
    np.testing.assert_array_equal(again, found.image.array)


def test_what_cannot_be_registered_is_refused(case) -> None:
    venous, mask = case.phases["venous"], case.mask
    flat = venous.replace(np.zeros_like(venous.array))
    with pytest.raises(InputError, match="moving: is constant"):
        register(flat, venous, mask)
    affine = venous.geometry.affine.copy()
    affine[0, 3] += 500
    away = Image(venous.array, Geometry(venous.array.shape, affine), unit="HU")
    with pytest.raises(GeometryError, match="0 % of the tumor lies in the moving"):
        register(away, venous, mask)
    with pytest.raises(ConfigError, match="transform"):
        register(venous, venous, mask, transform="demons")
    with pytest.raises(ConfigError, match="margin_mm"):
        register(venous, venous, mask, margin_mm=-1)


def test_a_transform_that_shrinks_tissue_by_half_is_refused(case, monkeypatch) -> None:
    monkeypatch.setattr("habitat.io._register.JACOBIAN", (1.001, 2.0))
    with pytest.raises(GeometryError, match="Jacobian determinant is 1 to 1"):
        register(case.phases["arterial"], case.phases["venous"], case.mask)


def test_missing_values_stay_missing(case) -> None:
    arterial = case.phases["arterial"].array.astype(np.float32)
    arterial[:4, :, :] = np.nan
    moving = case.phases["arterial"].replace(arterial)
    found = register(moving, case.phases["venous"], case.mask)
    assert np.isnan(found.image.array[:2]).all()
    assert off(found, case.motion["arterial"])[0] < 0.5


@pytest.mark.parametrize("value", [-3024, -1024, 30000])
def test_padding_and_metal_hold_nothing_in_place(case, value) -> None:
    arterial, venous = case.phases["arterial"], case.phases["venous"]
    grid = venous.geometry
    far = np.zeros(grid.shape, bool)  # fixed to the scanner, not to the patient
    if value < 0:
        points = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
        far = np.hypot(*(points - CENTER[:3])[..., :2].transpose(3, 0, 1, 2)) > 34
    else:
        far[3, 10, 10] = True
    pair = [i.replace(np.where(far, value, i.array)) for i in (arterial, venous)]
    found = register(*pair, case.mask)
    mm, degrees = off(found, case.motion["arterial"])
    assert (mm < 0.3, degrees < 0.3) == (True, True)
    assert any("clipped" in note for note in found.image.notes) == (value != -1024)


def test_labels_follow_by_the_nearest_voxel(case) -> None:
    found = register(case.phases["arterial"], case.phases["venous"], case.mask)
    labels = case.truth.replace(case.truth.array, unit="labels")
    again = found.apply(labels, interpolation="nearest").array
    assert again.dtype == np.uint8
    assert set(np.unique(again)) == {0, 1, 2, 3, 4}
    with pytest.raises(ConfigError, match="nearest"):
        found.apply(labels, interpolation="nearst")


def test_an_image_that_fits_nowhere_is_told(case) -> None:
    venous = case.phases["venous"]
    rng = np.random.default_rng(0)
    noise = venous.replace(rng.normal(0, 50, venous.array.shape))
    with pytest.warns(HabitatWarning, match="NCC"):
        register(noise, venous, case.mask)

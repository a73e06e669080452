"""Rows of the table of bad inputs that `segment` itself answers for.

Rows 2-5, 25, 26 and 53 are in test_files, 10-14 in test_masks, 32-40 and 43 in
test_dicom and test_suv, 41 and 42 in test_rtstruct.
"""

import numpy as np
import pytest
from scipy import ndimage

import habitat
from habitat import Geometry, Image
from habitat.errors import (
    ConfigError,
    GeometryError,
    HabitatError,
    HabitatWarning,
    InputError,
    MaskError,
    ModalityError,
    SUVError,
)
from habitat.io._files import write

GRID = Geometry.from_spacing((24, 32, 32), (3.0, 2.0, 2.0))


def ball(radius=9.0, center=(12, 16, 16), grid=GRID):
    apart = (np.indices(grid.shape).T - center).T * np.reshape(
        grid.spacing, (3, 1, 1, 1)
    )
    return (apart**2).sum(0) <= radius**2


def scene(seed=0, unit=False):
    """PET and CT of a ball in lung with a hot side, on one grid."""
    rng = np.random.default_rng(seed)
    mask = ball(16)
    hot = np.indices(GRID.shape)[2] > 16
    pet = np.where(mask, np.where(hot, 9.0, 3.0), 0.5)
    pet = np.abs(pet + rng.normal(0, 0.3, GRID.shape))
    ct = np.where(mask, np.where(np.indices(GRID.shape)[1] > 16, 80.0, 20.0), -800.0)
    ct = np.rint(ct + rng.normal(0, 15, GRID.shape))
    units = ("SUVbw", "HU") if unit else (None, None)
    pet, ct = (Image(a, GRID, unit=u) for a, u in zip((pet, ct), units, strict=True))
    return pet, ct, Image(mask.astype(np.uint8), GRID)


def changed(image, where, value):
    array = np.array(image.array, dtype=float)
    array[where] = value
    return Image(array, image.geometry, unit=image.unit)


def segment(pet, ct, mask, k=2, **options):
    return habitat.segment(pet, ct, mask, k, **options)


def test_the_scene_itself_is_fine():
    result = segment(*scene(), k=4)
    assert len(result.table) == 4
    assert result.notes == ()


def test_row_1_missing_files_are_all_named_at_once(tmp_path):
    pet, ct, mask = scene()
    write(ct, tmp_path / "ct.nii.gz")
    with pytest.raises(HabitatError) as caught:
        segment(tmp_path / "pet.nii", tmp_path / "ct.nii.gz", tmp_path / "mask.nii")
    text = str(caught.value)
    assert "2 problems" in text
    assert f"pet {tmp_path / 'pet.nii'}: not found" in text
    assert f"mask {tmp_path / 'mask.nii'}: mask not found" in text


def test_row_6_a_single_slice_is_accepted_with_a_warning():
    pet, ct, mask = scene()
    slab = [
        i.crop((slice(12, 13), slice(0, 32), slice(0, 32))) for i in (pet, ct, mask)
    ]
    with pytest.warns(HabitatWarning, match="one voxel thick"):
        result = segment(*slab)
    assert result.labels.shape == (1, 32, 32)
    assert result.labels.max() == 2


def test_row_7_few_missing_values_are_left_out_and_counted():
    pet, ct, mask = scene()
    total = int(mask.array.sum())
    holes = tuple(np.argwhere(mask.array)[: total // 200].T)
    with pytest.warns(HabitatWarning, match=rf"ct: {total // 200} of {total} tumor"):
        result = segment(pet, changed(ct, holes, np.nan), mask)
    assert (result.labels[holes] == 0).all()
    assert np.count_nonzero(result.labels) == total - total // 200
    many = tuple(np.argwhere(mask.array)[: total // 50].T)
    first = tuple(int(h[0]) for h in many)
    with pytest.raises(InputError) as caught:
        segment(pet, changed(ct, many, np.inf), mask)
    assert f"{total // 50} of {total} tumor voxels" in str(caught.value)
    assert str(first) in str(caught.value)


def test_row_8_missing_values_outside_are_noted():
    pet, ct, mask = scene()
    result = segment(changed(pet, (slice(0, 12), 3, 3), np.nan), ct, mask)
    assert any("voxels near the tumor have no finite value" in n for n in result.notes)
    assert np.count_nonzero(result.labels) == mask.array.sum()


def test_row_9_no_contrast():
    pet, ct, mask = scene()
    flat = changed(ct, mask.array > 0, 40)
    with pytest.raises(InputError, match="no contrast in channel ct: 1 distinct value"):
        segment(pet, flat, mask)


def test_row_15_a_mask_of_the_whole_image():
    pet, ct, mask = scene()
    with pytest.warns(HabitatWarning, match="covers 100% of its image"):
        segment(pet, ct, changed(mask, ..., 1))


def test_row_16_too_few_voxels():
    pet, ct, mask = scene()
    small = Image((ball(4.0)).astype(np.uint8), GRID)
    n = int(small.array.sum())
    with pytest.raises(MaskError, match=rf"{n} voxels cannot give 4 .*smaller k"):
        segment(pet, ct, small, k=4)


def test_row_17_more_habitats_than_values():
    pet, ct, mask = scene()
    two = changed(pet, ..., np.where(np.indices(GRID.shape)[2] > 16, 9.0, 3.0))
    plain = changed(ct, mask.array > 0, np.where(two.array[mask.array > 0] > 5, 80, 20))
    with pytest.raises(ConfigError, match=r"`k`.* 2 distinct voxel values, got 3"):
        segment(two, plain, mask, k=3)


@pytest.mark.parametrize("k", [0, 1, 21, 2.5, True, "four"])
def test_k_outside_its_range(k):
    with pytest.raises(ConfigError, match="`k`: must be an integer 2 to 20"):
        segment(*scene(), k=k)


def test_row_18_separate_parts_are_counted():
    pet, ct, mask = scene()
    array = np.array(mask.array)
    array[1:3, 1:4, 1:4] = 1
    with pytest.warns(HabitatWarning, match=r"2 separate parts \(.* 0\.216 ml\)"):
        segment(pet, ct, Image(array, GRID))


def shifted(image, mm, unit=None):
    affine = image.geometry.affine.copy()
    affine[:3, 3] += mm
    return Image(image.array, Geometry(image.geometry.shape, affine), unit=unit)


def test_row_19_tiny_origin_differences_are_snapped():
    pet, ct, mask = scene()
    result = segment(pet, shifted(ct, (0, 5e-4, 0)), mask)
    assert any("snapped" in n for n in result.notes)
    assert result.params["channels"]["ct"]["interpolation"] == "none"


def test_row_20_shifted_header():
    pet, ct, mask = scene()
    with pytest.warns(
        HabitatWarning, match=r"ct.*\(-2\.00, 0\.00, 0\.00\) mm, up to 1"
    ):
        segment(pet, shifted(ct, (2.0, 0, 0)), mask)


def test_row_21_different_grids_are_the_normal_case():
    case = habitat.phantom()
    result = segment(case.pet, case.ct, case.mask, k=4)
    assert result.geometry.same_as(case.pet.geometry)
    ct = result.params["channels"]["ct"]
    assert ct["interpolation"] == "cubic"
    assert ct["rounded"]
    assert ct["smoothing_sd_mm"][1] > 1


def test_row_22_mask_outside_the_image():
    pet, ct, mask = scene()
    with pytest.raises(GeometryError, match="0% of the mask lies in the pet image"):
        segment(shifted(pet, (500, 0, 0)), ct, mask)


def test_row_23_mask_partly_outside_an_image():
    pet, ct, mask = scene()
    y0 = int(np.flatnonzero(mask.array.any((0, 2)))[0])
    lost = int(mask.array[:, y0].sum())
    total = int(mask.array.sum())
    inner = (slice(0, 24), slice(y0 + 1, 32), slice(0, 32))
    assert lost < 0.01 * total
    with pytest.warns(HabitatWarning) as caught:
        result = segment(pet, ct.crop(inner), mask)
    text = f"{lost} of {total} mask voxels lie outside the ct image"
    assert any(text in str(w.message) for w in caught)
    assert any(text in n for n in result.notes)
    half = (slice(12, 24), slice(0, 32), slice(0, 32))
    with pytest.raises(GeometryError, match=r"5\d% of the mask lies in the ct image"):
        segment(pet, ct.crop(half), mask)


def test_row_24_a_mirrored_mask():
    rng = np.random.default_rng(0)
    here, there = ball(10, (12, 16, 6)), ball(10, (12, 16, 25))
    pet = Image(np.where(here, 8.0, 1.0) + rng.random(GRID.shape), GRID)
    ct = Image(np.where(here, 40.0, -800.0) + rng.normal(0, 9, GRID.shape), GRID)
    with pytest.warns(HabitatWarning, match="may be flipped in x"):
        segment(pet, ct, Image(there.astype(np.uint8), GRID))
    notes = segment(pet, ct, Image(here.astype(np.uint8), GRID)).notes
    assert not any("flipped" in n for n in notes)


def test_row_27_pet_and_ct_swapped():
    pet, ct, mask = scene()
    with pytest.raises(HabitatError) as caught:
        segment(ct, pet, mask)
    assert "looks like HU, not SUV" in str(caught.value)
    assert "are PET and CT swapped?" in str(caught.value)
    named = (Image(i.array, GRID, unit=u) for i, u in ((ct, "SUVbw"), (pet, "HU")))
    with pytest.warns(HabitatWarning, match="maximum 1"):
        assert segment(*named, mask).k == 2  # stating the units overrides the guess
    with pytest.raises(ModalityError, match="must have unit 'HU', has 'SUVbw'"):
        segment(pet, Image(ct.array, GRID, unit="SUVbw"), mask)


def test_row_27_odd_but_possible_values_are_noted():
    pet, ct, mask = scene()
    result = segment(changed(pet, (0, 0, slice(0, 5)), -3.0), ct, mask)
    assert any("pet: 5 voxels below -0.5, lowest -3.00" in n for n in result.notes)
    body = changed(ct, ct.array < -200, -50.0)
    assert any("0 voxels below -200 HU" in n for n in segment(pet, body, mask).notes)


def test_row_28_becquerel_given_as_suv():
    pet, ct, mask = scene()
    raw = changed(pet, ..., pet.array * 4000)
    with pytest.raises(SUVError, match=r"median inside the mask is \d+: .*like Bq/ml"):
        segment(raw, ct, mask)
    stated = Image(raw.array, GRID, unit="Bq/mL")
    with pytest.raises(SUVError, match="Bq/mL, not SUV"):
        segment(stated, ct, mask)


def test_row_29_very_high_suv():
    pet, ct, mask = scene()
    with pytest.warns(HabitatWarning, match=r"maximum 9\d\.\d inside the mask"):
        segment(changed(pet, ..., pet.array * 9.8), ct, mask)


def test_row_30_ct_without_its_intercept():
    pet, ct, mask = scene()
    stored = changed(ct, ..., np.maximum(ct.array + 1024, 0))
    stored = changed(stored, (slice(None), slice(0, 6)), 0.0)
    stored = changed(stored, (slice(None), slice(-6, None)), 0.0)
    with pytest.raises(ModalityError, match="without its intercept of -1024"):
        segment(pet, stored, mask)


def test_row_31_metal_and_padding_are_clipped_and_counted():
    pet, ct, mask = scene()
    odd = changed(ct, (12, 16, 16), 9000.0)
    odd = changed(odd, (12, 3, slice(3, 10)), -3024.0)
    result = segment(pet, odd, mask)
    text = "ct: HU clipped to [-1024, 3071] near the tumor: 7 voxels below, 1 above"
    assert text in result.notes
    assert result.images["HU"].array.max() <= 3071


def test_row_44_two_masks_that_disagree():
    pet, ct, mask = scene()
    moved = Image(ndimage.shift(mask.array, (0, 0, 5), order=0), GRID)
    text = r"Dice 0\.\d+, centroids 10\.0 mm apart \(x 10\.0, y 0\.0, z 0\.0\)"
    with pytest.warns(HabitatWarning, match=text):
        result = segment(pet, ct, (mask, moved))
    assert any("misregistered" in n for n in result.notes)
    same = segment(pet, ct, (mask, mask))
    assert any("agree with Dice 1.000" in n for n in same.notes)


def test_row_44_the_real_case(shared):
    folder = shared / "data" / "sts_petct" / "STS_019"
    masks = tuple(folder / f"{m}_mask.nii.gz" for m in ("PET", "CT"))
    with pytest.warns(HabitatWarning, match=r"Dice 0\.6\d+, centroids"):
        segment(folder / "PET_image.nii.gz", folder / "CT_image.nii.gz", masks, k=4)


def test_arrays_of_one_shape_are_taken_with_a_warning():
    pet, ct, mask = (i.array for i in scene())
    with pytest.warns(HabitatWarning, match="voxels of 1 x 1 x 1 mm are assumed"):
        result = segment(pet, ct, mask)
    assert result.geometry.spacing == (1.0, 1.0, 1.0)
    with pytest.raises(InputError, match="arrays must all have one shape"):
        segment(pet, ct[:-1], mask)
    with pytest.raises(InputError, match="pet, ct: a bare array cannot be placed"):
        segment(pet, ct, scene()[2])


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"scaling": "zscor"}, "did you mean 'zscore'"),
        ({"method": "kmean"}, "did you mean 'kmeans'"),
        ({"grid": "coarset"}, "did you mean 'coarsest'"),
        ({"grid": (1.0, 2.0)}, "`grid`: must be a name, mm or"),
        ({"rim_mm": -1}, "`rim_mm`: must be a number >= 0"),
        ({"rim_mm": 15.0}, "leaves .* voxels to fit"),
        ({"random_state": -1}, "`random_state`: must be an integer"),
    ],
)
def test_wrong_options_name_the_right_ones(option, text):
    with pytest.raises(ConfigError, match=text):
        segment(*scene(), **option)


def test_a_tumor_smaller_than_a_voxel_of_the_grid():
    pet, ct, mask = scene()
    with pytest.raises(MaskError, match="covers no voxel of the grid by half"):
        segment(pet, ct, mask, grid=200.0)


# --- traps that a review found --------------------------------------------------------


def test_a_nan_does_not_hide_that_pet_and_ct_are_swapped():
    pet, ct, mask = scene()
    with pytest.raises(HabitatError, match="are PET and CT swapped"):
        segment(changed(ct, (0, 0, 0), np.nan), changed(pet, (0, 0, 0), np.nan), mask)


def test_a_ct_cropped_to_soft_tissue_given_as_pet():
    pet, ct, mask = scene()
    soft = changed(ct, ..., np.maximum(ct.array, -90) / 3)  # fat is the lowest
    with pytest.raises(ModalityError, match="no voxel is below 0: not HU"):
        segment(soft, pet, mask)


def test_units_that_contradict_channel_names():
    pet, ct, mask = scene(unit=True)
    with pytest.raises(ModalityError, match="2 problems"):
        habitat.segment_channels({"SUVbw": ct, "HU": pet}, mask, k=2)


@pytest.mark.parametrize("name", ["mask", "coarsest", 3])
def test_reserved_channel_names(name):
    pet, _, mask = scene()
    with pytest.raises(ConfigError, match="`channels`: names must be texts other than"):
        habitat.segment_channels({name: pet}, mask, k=2)


def test_small_parts_lost_on_a_coarse_grid_are_counted():
    fine = Geometry.from_spacing((60, 80, 80), (0.5, 0.5, 0.5))
    mask = ball(9.0, (30, 40, 40), fine)
    mask[2:5, 2:5, 2:5] = mask[50:53, 70:73, 70:73] = True
    rng = np.random.default_rng(0)
    coarse = Geometry.from_spacing((15, 20, 20), (2, 2, 2), (0.75, 0.75, 0.75))
    pet = Image(rng.gamma(4, 1, coarse.shape), coarse, unit="SUVbw")
    ct = Image(np.rint(rng.normal(0, 300, coarse.shape)), coarse, unit="HU")
    with pytest.warns(HabitatWarning, match="2 of 3 parts of the mask"):
        segment(pet, ct, Image(mask.astype(np.uint8), fine))


def test_no_contrast_inside_the_rim():
    pet, ct, mask = scene(unit=True)
    inner = ball(10)
    with pytest.raises(InputError, match="HU: no contrast inside a rim of 8 mm"):
        habitat.segment_channels(
            {"SUVbw": pet, "HU": changed(ct, inner, 40)}, mask, k=2, rim_mm=8
        )


def test_a_rim_thinner_than_a_voxel_says_that_nothing_was_left_out():
    result = segment(*scene(), rim_mm=0.5)
    assert any(n.startswith("0 rim voxels were left out") for n in result.notes)


def test_a_voxel_without_a_value_is_no_surface():
    pet, ct, mask = scene()
    clean = segment(pet, ct, mask).table.rim_fraction
    with pytest.warns(HabitatWarning, match="1 of "):
        holed = segment(pet, changed(ct, (12, 16, 14), np.nan), mask).table.rim_fraction
    np.testing.assert_allclose(holed, clean, atol=0.002)


def test_numpy_numbers_are_taken_as_numbers(tmp_path):
    pet, ct, mask = scene()
    result = segment(
        pet,
        ct,
        mask,
        k=np.int64(2),
        label=np.int64(1),
        grid=np.array([3.0, 2.5, 2.5]),
        rim_mm=np.float32(1),
    )
    folder = result.save(tmp_path / "out")
    assert habitat.HabitatResult.load(folder).params == result.params
    assert segment(pet, ct, mask, grid=np.int64(3)).geometry.spacing == (3.0, 3.0, 3.0)


def test_a_grid_too_fine_for_memory():
    with pytest.raises(InputError, match="`grid`: needs .* GB of memory"):
        segment(*scene(), grid=0.01)


@pytest.mark.parametrize("grid", [None, True, ("a", "b", "c"), 0, (1, 2)])
def test_grids_that_are_none(grid):
    with pytest.raises(HabitatError):
        segment(*scene(), grid=grid)


def test_one_image_given_twice(tmp_path):
    pet, ct, mask = scene()
    with pytest.raises(ModalityError, match="pet and ct are the same image"):
        segment(pet, pet, mask)
    write(pet, tmp_path / "pet.nii.gz")
    with pytest.raises(ModalityError, match="are the same image"):
        segment(tmp_path / "pet.nii.gz", tmp_path / "pet.nii.gz", mask)


def test_a_channel_without_unit_is_said():
    pet, ct, mask = scene()
    with pytest.warns(HabitatWarning, match="channel 'ct' has no unit.*name it"):
        habitat.segment_channels({"HU": ct, "ct": pet}, mask, k=2)
    result = habitat.segment_channels({"HU": ct, "Ktrans": pet}, mask, k=2)
    assert any("'Ktrans' has no unit" in n for n in result.notes)


def test_other_units_name_the_right_ones():
    pet, ct, mask = scene()
    with pytest.raises(ModalityError, match="unit of SUVbw, SUVlbm, SUVbsa, has 'SUV'"):
        segment(Image(pet.array, GRID, unit="SUV"), ct, mask)


def test_all_wrong_options_are_named_before_any_file_is_read():
    with pytest.raises(ConfigError) as caught:
        habitat.segment("no", "no", "no", 1, scaling="zscor", rim_mm=-1, grid="cta")
    text = str(caught.value)
    assert text.startswith("4 problems")
    for name in ("`k`", "`scaling`", "`rim_mm`", "`grid`"):
        assert name in text


@pytest.mark.parametrize("mask", [None, 3, ("a",), ("a", "b", "c")])
def test_masks_that_are_none(mask):
    pet, ct, _ = scene()
    with pytest.raises(HabitatError, match="mask"):
        segment(pet, ct, mask)


@pytest.mark.parametrize(
    "scaling", [lambda X, units: X, lambda X, units: lambda Y: Y[:3]]
)
def test_scalings_that_do_not_keep_the_rows(scaling):
    with pytest.raises(ConfigError, match="`scaling`: must return a function"):
        segment(*scene(), scaling=scaling)

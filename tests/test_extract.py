"""extract(): one table of everything, from results and from label maps."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest

import habitat
from habitat import Geometry, Image
from habitat.errors import (
    ConfigError,
    DicomError,
    HabitatWarning,
    InputError,
    MaskError,
    ModalityError,
    SUVError,
)
from habitat.features import (
    FAMILIES,
    LoG,
    RadiomicsSettings,
    Row,
    extract,
    ring,
    wide,
)

COLUMNS = ["case_id", "region", "channel", "family", "feature", "value", "unit", "note"]
COLUMNS += ["voxels", "voxels_used", "bins"]


@pytest.fixture(scope="module")
def scan():
    return habitat.phantom(radius_mm=14, margin_mm=16)


@pytest.fixture(scope="module")
def images(scan):
    return {"pet": scan.pet, "ct": scan.ct}


@pytest.fixture(scope="module")
def result(scan):
    return habitat.segment(scan.pet, scan.ct, scan.mask, k=3)


@pytest.fixture(scope="module")
def table(result, images):
    return extract(result, images, families=tuple(FAMILIES))


def value(table, region, channel, feature):
    own = table[
        (table["region"] == region)
        & (table["channel"] == channel)
        & (table["feature"] == feature)
    ]
    return own["value"].item()


# --- the table ------------------------------------------------------------------------


def test_columns_and_regions(table) -> None:
    assert list(table.columns) == COLUMNS
    rings = ["ring_0_3", "ring_3_5", "ring_5_10"]
    assert list(table["region"].unique()) == ["tumor", "h1", "h2", "h3", *rings]
    assert set(table["family"]) == set(FAMILIES)
    assert set(table["channel"]) == {"", "SUVbw", "HU"}
    assert table["value"].dtype == np.float64
    assert (table["case_id"] == "case").all()


def test_no_feature_stands_there_twice(table) -> None:
    assert not table.duplicated(["region", "channel", "feature"]).any()


def test_a_value_is_missing_only_with_a_reason(table) -> None:
    assert (table.loc[table["value"].isna(), "note"] != "").all()
    assert (table["voxels"] > 0).all()


def test_habitats_are_those_of_the_result(table, result) -> None:
    for _, row in result.table.iterrows():
        region = f"h{row['habitat']}"
        assert value(table, region, "", "volume_ml") == pytest.approx(row["volume_ml"])
        assert value(table, region, "", "fraction") == pytest.approx(row["fraction"])
        for name in ("mean", "sd", "p10", "max"):
            mine = value(table, region, "HU", name)
            assert mine == pytest.approx(row[f"{name}_HU"], rel=1e-6)
        assert value(table, region, "", "mean_depth_mm") == pytest.approx(
            row["mean_depth_mm"]
        )


def test_every_radiomics_class_and_all_names(table) -> None:
    own = table[(table["family"] == "radiomics") & (table["region"] == "h1")]
    classes = own["feature"].str.split("_").str[1]
    for channel in ("SUVbw", "HU"):
        counts = classes[own["channel"] == channel].value_counts().to_dict()
        assert counts == {
            "firstorder": 18,
            "glcm": 24,
            "glrlm": 16,
            "glszm": 16,
            "gldm": 14,
            "ngtdm": 5,
        }
    shape = table[(table["family"] == "shape") & (table["region"] == "h1")]
    assert len(shape) == 14
    assert set(shape["feature"].str.split("_").str[0]) == {"shape"}


def test_voxels_before_and_after_resampling(table, scan) -> None:
    own = table[(table["family"] == "radiomics") & (table["region"] == "tumor")]
    ct, pet = (own[own["channel"] == c].iloc[0] for c in ("HU", "SUVbw"))
    volume = np.prod(scan.pet.geometry.spacing)
    assert ct["voxels"] == pet["voxels"]
    assert ct["voxels_used"] == pytest.approx(ct["voxels"] * volume, rel=0.02)  # 1 mm
    assert pet["voxels_used"] == pytest.approx(ct["voxels"] * volume / 27, rel=0.1)
    assert ct["bins"] > 1
    assert table.attrs["settings"]["HU"]["spacing"] == [1.0, 1.0, 1.0]
    assert table.attrs["settings"]["SUVbw"]["spacing"] == [3.0, 3.0, 3.0]
    json.dumps(table.attrs)


def test_wide_has_a_row_per_case(table) -> None:
    other = table.assign(case_id="other")
    found = wide(pd.concat([other, table]))
    assert list(found["case_id"]) == ["other", "case"]
    assert found.shape[1] == len(table) + 1
    assert found.loc[0, "h1_present"] == 1
    expected = value(table, "h2", "HU", "original_glcm_Contrast")
    assert found.loc[1, "h2_HU_original_glcm_Contrast"] == expected
    assert "tumor_interaction_1_2" in found


def test_wide_of_cases_with_other_habitats(table) -> None:
    few = table[table["region"] != "h3"].assign(case_id="few")
    found = wide(pd.concat([table, few], ignore_index=True))
    assert np.isnan(found.loc[1, "h3_volume_ml"])
    assert found.loc[0, "h3_volume_ml"] > 0


def test_wide_refuses_what_it_cannot_place(table) -> None:
    with pytest.raises(InputError, match="twice.*another case_id"):
        wide(pd.concat([table, table]))
    with pytest.raises(InputError, match="lacks the columns case_id"):
        wide(table.drop(columns="case_id"))


# --- from where -----------------------------------------------------------------------


def test_a_result_reads_its_files_again(tmp_path, scan, images, table) -> None:
    paths = {"pet": tmp_path / "pet.nii.gz", "ct": tmp_path / "ct.nii.gz"}
    for name, path in paths.items():
        habitat.write(images[name], path)
    pet = habitat.read(paths["pet"], unit="SUVbw")
    ct = habitat.read(paths["ct"], unit="HU")
    made = habitat.segment(pet, ct, scan.mask, k=3)
    made.save(tmp_path / "result")
    loaded = habitat.HabitatResult.load(tmp_path / "result")
    families = ("radiomics", "pet")
    found = loaded.extract(families=families)
    own = table[table["family"].isin(families) & ~table["region"].str.contains("ring")]
    pd.testing.assert_frame_equal(
        found, own.reset_index(drop=True), check_exact=False, rtol=1e-5
    )
    habitat.write(ct.replace(ct.array + 1), paths["ct"])
    with pytest.raises(InputError, match=r"ct\.nii\.gz.*changed since"):
        loaded.extract(families=families)


def test_native_images_given_in_memory_must_be_given_again(result) -> None:
    with pytest.raises(InputError, match=r"HU: .*in memory.*images=\{'HU': image\}"):
        result.extract(families=("radiomics",))
    assert len(result.extract(families=("composition", "spatial", "diversity")))


def test_a_native_image_on_the_grid_of_the_habitats_is_known(scan) -> None:
    one = habitat.segment_channels({"SUVbw": scan.pet}, scan.mask, k=2)
    found = one.extract(families=("radiomics", "pet"))
    again = one.extract({"pet": scan.pet}, families=("pet",))
    pet = found[found["family"] == "pet"].reset_index(drop=True)
    pd.testing.assert_frame_equal(pet, again)


def test_a_label_map_gives_what_the_result_gives(scan, images, result, table) -> None:
    labels = Image(result.labels, result.geometry, unit="habitat")
    found = extract(labels, images)
    own = table[~table["region"].str.startswith("ring")]
    merged = own.merge(found, on=["region", "channel", "feature"])
    assert len(merged) == len(own) == len(found)
    np.testing.assert_allclose(
        merged["value_x"], merged["value_y"], rtol=1e-6, equal_nan=True
    )


def test_a_plain_mask_has_a_tumor_and_no_habitats(scan) -> None:
    found = extract(scan.mask, {"pet": scan.pet})
    assert set(found["region"]) == {"tumor"}
    assert "radiomics" in set(found["family"])


def test_arrays_are_taken_as_1_mm(scan) -> None:
    labels = np.zeros((8, 9, 10), int)
    labels[2:6, 2:7, 2:8] = 1
    labels[4:6] *= 2
    values = np.random.default_rng(0).normal(size=labels.shape)
    with pytest.warns(HabitatWarning, match="1 x 1 x 1 mm"):
        found = extract(labels, {"x": values}, families=("composition", "intensity"))
    assert value(found, "tumor", "", "volume_ml") == pytest.approx(0.120)
    expected = values[labels == 2].mean()
    assert value(found, "h2", "x", "mean") == pytest.approx(expected)


def test_features_of_labels_alone(scan, result) -> None:
    labels = Image(result.labels, result.geometry)
    found = extract(labels, families=("composition", "shape", "spatial", "diversity"))
    assert set(found["channel"]) == {""}


def test_absent_habitats_are_said_to_be_absent(scan, images, result) -> None:
    labels = np.where(result.labels == 3, 5, result.labels)
    found = extract(Image(labels, result.geometry), images)
    one = wide(found).iloc[0]
    for region in ("h3", "h4"):
        assert one[f"{region}_present"] == one[f"{region}_volume_ml"] == 0
        own = found[(found["region"] == region)]
        known = own[own["value"].notna()]["feature"]
        allowed = {"present", "volume_ml", "fraction", "components", "euler_number"}
        assert set(known) <= allowed
    assert one["h5_present"] == 1
    values = found[found["feature"].str.startswith("original")]
    again = values[values["region"] == "h5"]["value"].to_numpy()
    same = extract(result, images, families=("radiomics",))
    expected = same[same["region"] == "h3"]["value"].to_numpy()
    np.testing.assert_array_equal(again, expected)


def test_habitats_with_few_voxels_have_no_texture(scan, images, result) -> None:
    found = extract(result, images, families=("radiomics",), min_voxels=10**6)
    texture = ~found["feature"].str.contains("firstorder")
    assert found.loc[texture, "value"].isna().all()
    assert found.loc[texture, "note"].str.contains("fewer than min_voxels").all()
    assert found.loc[~texture, "value"].notna().all()


def test_constant_images_have_no_texture_but_a_reason() -> None:
    """BAD_INPUTS row 9."""
    grid = Geometry.from_spacing((10, 10, 10), (1, 1, 1))
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:8, 2:8, 2:8] = 1
    flat = Image(np.full(grid.shape, 40.0), grid, unit="HU")
    air = np.full(grid.shape, 40.0)
    air[0] = -1000
    found = extract(
        Image(labels, grid),
        {"HU": flat.replace(air)},
        families=("intensity", "radiomics"),
    )
    missing = found[found["value"].isna() & (found["family"] == "radiomics")]
    assert (missing["note"] == "1 gray level").all()
    assert value(found, "tumor", "HU", "original_firstorder_Mean") == 40


@pytest.mark.parametrize("spacing", ["auto", None])
def test_a_single_slice_has_features(spacing) -> None:
    """BAD_INPUTS row 6."""
    rng = np.random.default_rng(0)
    grid = Geometry.from_spacing((1, 20, 20), (1.4, 1, 1))
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 4:16, 4:16] = rng.integers(1, 3, (1, 12, 12))
    image = Image(rng.normal(40, 30, grid.shape), grid, unit="HU")
    families = ("composition", "intensity", "radiomics", "shape", "spatial")
    with pytest.warns(HabitatWarning, match="one voxel thick"):
        found = extract(
            Image(labels, grid), {"HU": image}, spacing=spacing, families=families
        )
    own = found[(found["family"] == "radiomics") & (found["region"] == "tumor")]
    assert (own["voxels_used"] == 144).all()  # no slices are made up
    assert own["value"].notna().all()
    assert np.isfinite(value(found, "tumor", "", "interaction_energy"))
    shape = found[(found["family"] == "shape") & (found["region"] == "tumor")]
    known = shape[shape["value"].notna()]
    assert len(known) == 5
    assert set(shape["note"]) == {"", "the tumor is one voxel thick"}


# --- options --------------------------------------------------------------------------


def test_spacing_none_uses_the_grid_of_the_labels(scan, images, result) -> None:
    with pytest.warns(HabitatWarning, match="HU: .*fine texture is lost"):
        found = extract(result, images, families=("radiomics",), spacing=None)
    assert (found["voxels"] == found["voxels_used"]).all()
    assert any("fine texture" in note for note in found.attrs["notes"])


def test_spacing_goes_for_shape_too(result, images) -> None:
    coarse, fine = (
        extract(result, images, families=("shape",), spacing=mm) for mm in (None, 1)
    )
    assert (coarse["voxels_used"] == coarse["voxels"]).all()
    size = np.prod(result.geometry.spacing)
    tumor = fine[fine["region"] == "tumor"].iloc[0]
    assert tumor["voxels_used"] == pytest.approx(tumor["voxels"] * size, rel=0.02)


def test_settings_by_channel(result, images) -> None:
    settings = {"HU": RadiomicsSettings(bin_width=10, features=("glcm_Contrast",))}
    found = extract(result, images, families=("radiomics",), settings=settings)
    own = found[found["channel"] == "HU"]
    assert set(own["feature"]) == {"original_glcm_Contrast"}
    assert found.attrs["settings"]["HU"]["bin_width"] == 10
    assert len(found[found["channel"] == "SUVbw"]) == 93 * 4


def test_a_parameter_file_of_pyradiomics(tmp_path, result, images) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        "imageType:\n  Original: {}\n  LoG: {sigma: [3.0]}\n"
        "featureClass:\n  firstorder: [Mean]\n  glcm: [Contrast]\n"
        "setting:\n  binWidth: 20\n  resampledPixelSpacing: [2, 2, 2]\n"
    )
    found = extract(result, images, families=("radiomics",), settings={"HU": path})
    own = found[found["channel"] == "HU"]
    assert set(own["feature"]) == {
        "original_firstorder_Mean",
        "original_glcm_Contrast",
        "log-sigma-3-0-mm-3D_firstorder_Mean",
        "log-sigma-3-0-mm-3D_glcm_Contrast",
    }


def test_a_family_of_ones_own(result) -> None:
    def halves(subject, options):
        """Share of the tumor in its upper half."""
        inside = subject.labels.array > 0
        middle = inside.shape[0] // 2
        yield Row("tumor", "", "upper", inside[middle:].sum() / inside.sum())

    found = result.extract(families=("composition", halves))
    assert list(found["family"].unique()) == ["composition", "halves"]
    assert 0 < value(found, "tumor", "", "upper") < 1


def test_rings_are_regions_like_others(scan, images, result) -> None:
    rings = ring(scan.mask, scan.ct, edges=(0, 5))
    found = extract(result, images, families=("radiomics", "shape"), rings=rings)
    own = found[found["region"] == "ring_0_5"]
    assert {"radiomics", "shape", "rings"} == set(own["family"])
    assert value(found, "ring_0_5", "HU", "original_firstorder_Mean") < value(
        found, "tumor", "HU", "original_firstorder_Mean"
    )


def test_habitats_of_a_ring(scan) -> None:
    rings = ring(scan.mask, scan.ct, edges=(0, 5))
    around = habitat.segment(scan.pet, scan.ct, rings.mask("ring_0_5"), k=2)
    assert around.k == 2


def test_cumulative_rings(scan, images, result) -> None:
    rings = ring(scan.mask, scan.ct, edges=(0, 3, 6), cumulative=True)
    found = extract(result, images, families=("rings",), rings=rings)
    inner = value(found, "ring_0_3", "", "volume_ml")
    assert value(found, "ring_0_6", "", "volume_ml") > inner


def test_a_ring_of_which_little_is_left_has_no_features(scan, images, result) -> None:
    grid = scan.ct.geometry
    upper = np.zeros(grid.shape, bool)
    upper[: grid.shape[0] // 3] = True
    with pytest.warns(HabitatWarning, match="of it is kept|% is kept|kept"):
        rings = ring(scan.mask, scan.ct, edges=(0, 5), inside=Image(upper, grid))
    found = extract(result, images, families=("rings",), rings=rings)
    assert value(found, "ring_0_5", "", "kept_fraction") < 0.25
    own = found[found["channel"] == "HU"]
    assert own["value"].isna().all()
    assert own["note"].str.contains("% of the ring is left").all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"families": ("radiomcs",)}, "did you mean 'radiomics'"),
        ({"families": "radiomics"}, "must be a sequence of names"),
        ({"families": ()}, "must be a sequence of names"),
        ({"engine": "numpy"}, "must be one of 'numba', 'pyradiomics'"),
        ({"min_voxels": 0}, "`min_voxels`: must be an integer 1"),
        ({"settings": {"CT": RadiomicsSettings()}}, "has CT; the channels are"),
        ({"min_voxels": 2.5}, "`min_voxels`: must be an integer"),
        ({"rings": (0, 3, 5)}, "`rings`: must be a Rings.*habitat.ring"),
        ({"families": ("shape", "shape")}, "names one twice"),
        ({"families": (lambda s, o: None,)}, "must yield habitat.features.Row"),
        ({"families": (lambda s, o: [("tumor", 1)],)}, "must yield habitat.feat"),
        ({"settings": 5}, "must be RadiomicsSettings or a path"),
        ({"spacing": -1}, "`spacing`"),
        ({"spacing": (1, 1)}, "`spacing`"),
    ],
)
def test_wrong_options_are_refused(result, images, arguments, words) -> None:
    with pytest.raises(ConfigError, match=words):
        extract(result, images, **arguments)


def test_wrong_images_are_refused(scan, result) -> None:
    with pytest.raises(ConfigError, match="has MR; the channels are SUVbw, HU"):
        extract(result, {"MR": scan.ct})
    with pytest.raises(ConfigError, match="`images`: must be a mapping"):
        extract(result, scan.pet)
    with pytest.raises(ConfigError, match="names a channel twice"):
        extract(result, {"pet": scan.pet, "SUVbw": scan.pet})


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros((3, 4, 5), int), "no voxel is > 0"),
        (np.full((3, 4, 5), 0.5), "whole numbers"),
        (np.full((3, 4, 5), np.nan), "whole numbers"),
        (np.full((3, 4, 5), -1), "must be 0 to 255"),
        (np.full((3, 4, 5), 300), "must be 0 to 255"),
        (np.ones((4, 5), int), "three axes"),
    ],
)
def test_wrong_labels_are_refused(labels, words) -> None:
    with pytest.raises(MaskError, match=words):
        extract(labels)


def test_pet_needs_suv(scan) -> None:
    with pytest.raises(ConfigError, match="'pet' needs a channel in SUV"):
        extract(scan.mask, {"ct": scan.ct}, families=("pet",))


# --- both engines ---------------------------------------------------------------------


def test_engines_agree(result, images) -> None:
    settings = RadiomicsSettings(filters=("original", "wavelet", LoG((2,))))
    ours, theirs = (
        extract(
            result,
            images,
            families=("radiomics", "shape"),
            settings=settings,
            engine=engine,
        )
        for engine in ("numba", "pyradiomics")
    )
    both = ours.merge(theirs, on=["region", "channel", "feature"], how="outer")
    assert len(both) == len(ours) == len(theirs)
    np.testing.assert_allclose(
        both["value_x"], both["value_y"], rtol=1e-6, atol=1e-12, equal_nan=True
    )


def test_channels_keep_the_names_of_the_result(scan) -> None:
    alone = habitat.segment_channels({"ct": scan.ct}, scan.mask, k=2, grid=4)
    found = alone.extract({"ct": scan.ct}, families=("radiomics",))
    assert set(found["channel"]) == set(alone.images)


# --- what a review found --------------------------------------------------------------


def test_shape_of_rings_is_that_of_the_rings(scan, images, result) -> None:
    rings = ring(scan.mask, scan.ct, edges=(0, 2, 14))
    found = extract(result, images, families=("shape",), rings=rings)
    for name in rings.names:
        volume = value(found, name, "", "volume_ml")
        voxels = value(found, name, "", "shape_VoxelVolume")
        assert voxels == pytest.approx(1000 * volume)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_one_however_it_is_stored(axis) -> None:
    rng = np.random.default_rng(0)
    flat = rng.integers(1, 3, (20, 24)) * (np.hypot(*np.ogrid[-10:10, -12:12]) < 8)
    image = np.rint(rng.normal(40, 30, flat.shape))
    spacing = np.insert([0.8, 0.8], axis, 5.0)
    grid = Geometry.from_spacing(np.expand_dims(flat, axis).shape, spacing)
    labels = Image(np.expand_dims(flat, axis).astype(np.uint8), grid)
    ct = Image(np.expand_dims(image, axis), grid, unit="HU")
    with pytest.warns(HabitatWarning, match="one voxel thick"):
        found = extract(labels, {"HU": ct}, families=("radiomics", "shape"))
    size = found[found["feature"] == "original_firstorder_Energy"].set_index("region")
    volume = 5 * 0.64 * size["voxels"]
    assert size["voxels_used"].to_numpy() == pytest.approx(volume / 5, rel=0.1)
    shape = found[(found["family"] == "shape") & (found["region"] == "tumor")]
    planes = ("Slice", "Column", "Row")
    known = {f"shape_Maximum2DDiameter{planes[axis]}", "shape_VoxelVolume"}
    known |= {f"shape_{n}" for n in ("MajorAxisLength", "MinorAxisLength")}
    known |= {"shape_Elongation"}
    assert set(shape.loc[shape["value"].notna(), "feature"]) == known


def test_images_that_are_not_what_they_are_called(scan, result) -> None:
    """BAD_INPUTS rows 7, 27, 28, 29."""
    labels = Image(result.labels, result.geometry)

    def plain(image, factor=1):
        return Image(image.array * factor, image.geometry)

    with pytest.raises(ModalityError, match="swapped"):
        extract(labels, {"pet": plain(scan.ct), "ct": plain(scan.pet)})
    with pytest.raises(SUVError, match="Bq/ml"):
        extract(labels, {"pet": plain(scan.pet, 5000), "ct": scan.ct})
    with pytest.warns(HabitatWarning, match="SUV x 100"):
        extract(labels, {"SUVbw": plain(scan.pet, 10)}, families=("intensity",))
    holes = scan.ct.array.astype(float)
    holes[holes.shape[0] // 2] = np.nan
    with pytest.raises(InputError, match="HU: .*no finite value"):
        extract(labels, {"ct": Image(holes, scan.ct.geometry, unit="HU")})


def test_patterns_alone(result, images) -> None:
    settings = RadiomicsSettings(filters=("lbp-2d",), features=("firstorder",))
    found = extract(result, images, families=("radiomics",), settings=settings)
    assert set(found["feature"].str.split("_").str[0]) == {"lbp-2D"}


@pytest.mark.parametrize("engine", ["numba", "pyradiomics"])
def test_values_that_are_constant_but_for_rounding(engine) -> None:
    rng = np.random.default_rng(0)
    grid = Geometry.from_spacing((12, 30, 30), (2, 0.7, 0.7))
    labels = np.zeros(grid.shape, np.uint8)
    labels[4:8, 10:20, 10:20] = 1
    values = rng.normal(10, 3, grid.shape)
    values[2:10, 5:25, 5:25] = 7.3  # interpolated: not exactly so any more
    found = extract(
        Image(labels, grid),
        {"MR": Image(values, grid, unit="a.u.")},
        families=("radiomics",),
        engine=engine,
    )
    assert (found["bins"] == 1).all()
    assert value(found, "tumor", "MR", "original_firstorder_Entropy") == pytest.approx(
        0, abs=1e-12
    )


def test_rings_of_which_nothing_is_left(scan, images, result) -> None:
    everywhere = Image(np.ones(scan.ct.array.shape, bool), scan.ct.geometry)
    with pytest.warns(HabitatWarning):
        rings = ring(scan.mask, scan.ct, edges=(0, 3), exclude=everywhere)
    found = extract(result, images, families=("radiomics", "shape"), rings=rings)
    own = found[found["region"] == "ring_0_3"]
    assert value(found, "ring_0_3", "", "kept_fraction") == 0
    assert own["note"].isin(("", "0% of the ring is left")).all()


def test_a_large_map_of_labels_is_not_copied(scan) -> None:
    labels = np.zeros((300, 400, 400), np.uint8)
    labels[100:110, 100:120, 100:120] = 1
    image = Image(labels, spacing=(1, 1, 1))
    extract(image, families=("composition",))
    tracemalloc.start()
    extract(image, families=("composition",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * labels.nbytes  # a mask, and a little


def test_images_of_another_patient_or_channel_are_refused(scan, result) -> None:
    swapped = {
        "SUVbw": scan.ct.replace(scan.ct.array, unit="SUVbw"),
        "HU": scan.pet.replace(scan.pet.array, unit="HU"),
    }
    with pytest.raises(InputError, match="is not the image that was segmented"):
        result.extract(swapped, families=("radiomics",))


def test_images_complete_the_files_of_a_result(tmp_path, scan) -> None:
    habitat.write(scan.pet, tmp_path / "pet.nii.gz")
    pet = habitat.read(tmp_path / "pet.nii.gz", unit="SUVbw")
    made = habitat.segment(pet, scan.ct, scan.mask, k=2)
    found = made.extract({"ct": scan.ct}, families=("radiomics",))
    assert set(found["channel"]) == {"SUVbw", "HU"}
    (tmp_path / "pet.nii.gz").rename(tmp_path / "moved.nii.gz")
    with pytest.raises(InputError, match=r"not found.*images=\{'SUVbw': image\}"):
        made.extract({"ct": scan.ct}, families=("radiomics",))


def test_a_table_read_from_csv_can_be_made_wide(tmp_path, table) -> None:
    table.to_csv(tmp_path / "features.csv", index=False)
    expected = wide(table)
    pd.testing.assert_frame_equal(
        wide(pd.read_csv(tmp_path / "features.csv")), expected
    )
    with pytest.raises(InputError, match="pandas.concat"):
        wide([table, table])


def test_units(table) -> None:
    units = table.drop_duplicates("feature").set_index("feature")["unit"]
    assert units["interaction_1_2"] == units["border_1"] == "mm3"
    assert units["interaction_energy"] == units["interaction_share_1_2"] == ""
    assert units["border_area_1_2"] == units["shape_SurfaceArea"] == "mm2"
    assert units["mtv_41"] == units["volume_ml"] == "ml"
    assert units["tlg"] == "g"


def test_settings_take_the_short_names_of_channels(result, images) -> None:
    settings = {"pet": RadiomicsSettings(bin_width=0.5, bin_from=0)}
    found = extract(result, images, families=("radiomics",), settings=settings)
    assert found.attrs["settings"]["SUVbw"]["bin_width"] == 0.5


def test_errors_name_the_channel(result, images) -> None:
    settings = RadiomicsSettings(ibsi=True, bin_width=25)
    with pytest.raises(ConfigError, match="^SUVbw, RadiomicsSettings: IBSI needs"):
        extract(result, images, families=("radiomics",), settings=settings)


def test_other_files_are_told_how_to_be_read(shared) -> None:
    folder = shared / "data" / "sts_petct_dicom" / "STS_006" / "PET" / "mask"
    file = next(folder.glob("*.dcm"))
    with pytest.raises(DicomError, match="habitat.read_mask"):
        extract(file)


def test_submodules_are_there_at_once() -> None:
    code = "import habitat; habitat.features.wide; habitat.maps.parker"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ibsi_adds_what_pyradiomics_has_not(result, images) -> None:
    settings = RadiomicsSettings(ibsi=True, bin_width=25, bin_from=-1100)
    found = extract(
        result,
        images,
        families=("radiomics",),
        settings={"HU": settings},
    )
    own = found[(found["channel"] == "HU") & (found["region"] == "h1")]
    names = set(own["feature"])
    assert {"original_gldzm_ZoneDistanceEntropy", "original_local_LocalPeak"} <= names
    assert {"original_shape_MoranI", "original_histogram_Mode"} <= names
    assert len(own) == len(names)

"""extract(): one table of everything, from results and from label maps."""

import json

import numpy as np
import pandas as pd
import pytest

import habitat
from habitat import Geometry, Image
from habitat.errors import (
    ConfigError,
    HabitatWarning,
    InputError,
    MaskError,
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
    missing = table[table["value"].isna()]
    radiomics = missing[missing["family"].isin(("radiomics", "shape"))]
    assert (radiomics["note"] != "").all()


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
        ({"min_voxels": 0}, "`min_voxels`: must be a number >= 1"),
        ({"settings": {"CT": RadiomicsSettings()}}, "names CT; the channels are"),
        ({"settings": 5}, "must be RadiomicsSettings or a path"),
        ({"spacing": -1}, "`spacing`"),
        ({"spacing": (1, 1)}, "`spacing`"),
    ],
)
def test_wrong_options_are_refused(result, images, arguments, words) -> None:
    with pytest.raises(ConfigError, match=words):
        extract(result, images, **arguments)


def test_wrong_images_are_refused(scan, result) -> None:
    with pytest.raises(ConfigError, match="has MR; the habitats have SUVbw, HU"):
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

"""RadiomicsSettings: what is refused, filled in by modality, and read from files."""

import json
import math

import pytest

from habitat.errors import ConfigError, HabitatWarning, InputError
from habitat.features._filters import LBP2D, LoG, Plain, Wavelet
from habitat.features._settings import CLASSES, RadiomicsSettings

FINE = (3.0, 0.9, 0.9)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        RadiomicsSettings(
            features=("glcm_Contrst",),
            filters=("wavlet",),
            bin_width=-1,
            bin_count=2.5,
            spacing=(1, 2),
            resegment=(3, 1),
            outliers=math.nan,
            dims="4d",
        )
    text = str(caught.value)
    assert "did you mean 'Contrast'?" in text
    assert "did you mean 'wavelet'?" in text
    for name in ("bin_width", "bin_count", "spacing", "resegment", "outliers", "dims"):
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    "given",
    [
        {"bin_width": 1, "bin_count": 2},
        {"bin_from": 0, "bin_count": 2},
        {"ibsi": True, "alignment": "corner"},
        {"filters": ("wavelet", Wavelet("haar"))},
        {"filters": (LoG((1, 3)), LoG((3,), bin_width=1))},
        {"filters": ()},
        {"features": ()},
    ],
)
def test_contradictions_are_refused(given):
    with pytest.raises(ConfigError):
        RadiomicsSettings(**given)


def test_bins_and_grid_follow_the_modality():
    default = RadiomicsSettings()
    ct = default.for_channel("HU", False, FINE)
    assert (ct.bin_width, ct.bin_from, ct.spacing) == (25, None, (1, 1, 1))
    assert ct.interpolation == "cubic"
    pet = default.for_channel("SUVbw", False, (3.3, 4, 4))
    assert (pet.bin_width, pet.bin_from, pet.spacing) == (0.25, 0, (3, 3, 3))
    assert (pet.interpolation, pet.resegment) == ("linear", (0, math.inf))
    # the in-plane size of axial, coronal and sagittal slices
    for own in ((5, 0.9, 0.9), (0.9, 5, 0.9), (0.9, 0.9, 5), (0.5, 0.9, 0.9)):
        mr = default.for_channel(None, False, own)
        assert (mr.bin_count, mr.spacing) == (32, (0.9, 0.9, 0.9))
    ecv = default.for_channel("HU", True, FINE)  # a map in HU is no CT
    assert (ecv.bin_count, ecv.interpolation) == (32, "linear")


def test_what_is_given_stays():
    given = RadiomicsSettings(bin_width=0.5, spacing=2, interpolation="linear")
    pet = given.for_channel("SUVbw", False, FINE)
    assert (pet.bin_width, pet.bin_from, pet.resegment) == (0.5, None, None)
    assert pet.spacing == (2, 2, 2)
    assert (
        RadiomicsSettings(spacing=None).for_channel("HU", False, FINE).spacing is None
    )


def test_ibsi_needs_a_lower_edge():
    with pytest.raises(ConfigError, match="lower edge"):
        RadiomicsSettings(ibsi=True).for_channel("HU", False, FINE)
    ibsi = RadiomicsSettings(ibsi=True, bin_width=10, resegment=(-500, 400))
    ct = ibsi.for_channel("HU", False, FINE)
    assert (ct.bin_from, ct.merge, ct.mask_interpolation) == (-500, True, "linear")
    averaged = RadiomicsSettings(ibsi=True, bin_count=32, merge=False)
    assert averaged.for_channel("HU", False, FINE).merge is False


def test_an_edge_needs_a_width():
    given = RadiomicsSettings(bin_from=0)
    assert given.for_channel("HU", False, FINE).bin_width == 25
    with pytest.raises(ConfigError, match="needs `bin_width`"):
        given.for_channel(None, False, FINE)


def test_filtered_images_have_bins_of_their_own_and_no_fixed_edge():
    log = LoG((1,), bin_width=5)
    given = RadiomicsSettings(bin_width=0.25, bin_from=0, filters=("wavelet", log))
    assert given.bins("original") == (0.25, None, 0)
    assert given.bins("wavelet") == (0.25, None, None)
    assert given.bins(log) == (5, None, None)


def test_record_is_plain_json():
    given = RadiomicsSettings(
        filters=("original", LoG((1, 3))), resegment=(0, math.inf)
    )
    record = json.loads(json.dumps(given.to_json(), allow_nan=False))
    assert record["resegment"] == [0, None]
    assert record["filters"][1] == {"filter": "LoG", "sigma_mm": [1, 3]}


# --- parameter files ------------------------------------------------------------------


def read(tmp_path, text):
    path = tmp_path / "Params.yaml"
    path.write_text(text)
    return RadiomicsSettings.from_yaml(path)


def test_an_empty_file_is_what_pyradiomics_does_by_default(tmp_path):
    got = read(tmp_path, "{}")
    assert set(got.features) == set(CLASSES)
    assert got.filters == (Plain("original"),)
    assert (got.bin_width, got.spacing, got.alignment) == (25, (0, 0, 0), "corner")


def test_a_whole_file(tmp_path):
    text = """
setting:
  binWidth: 25
  interpolator: 'sitkLinear'
  resampledPixelSpacing: [1, 2, 0]
  voxelArrayShift: 1000
  normalize: true
  normalizeScale: 100
  resegmentRange: [-3, 3]
  resegmentMode: sigma
  weightingNorm: no_weighting
  force2D: true
  force2Ddimension: 0
  sigma: [1.0, 3.0]
imageType:
  Original: {}
  LoG: {binWidth: 10}
  Wavelet: {wavelet: haar, level: 2}
  SquareRoot: {binCount: 8}
  LBP2D: {lbp2DSamples: 9, lbp2DMethod: uniform}
featureClass:
  firstorder:
  glcm: [Contrast, Idm]
"""
    got = read(tmp_path, text)
    assert got == RadiomicsSettings(
        features=("firstorder", "glcm_Contrast", "glcm_Idm"),
        filters=(
            "original",
            LoG((1, 3), bin_width=10),
            Wavelet("haar", level=2, in_plane=True),
            Plain("squareroot", bin_count=8),
            LBP2D(samples=9),
        ),
        bin_width=25,
        interpolation="linear",
        spacing=(0, 2, 1),
        alignment="corner",
        voxel_shift=1000,
        normalize=100,
        outliers=3,
        merge=True,
        dims="2.5d",
    )


def test_keys_without_effect_are_told(tmp_path):
    with pytest.warns(HabitatWarning, match="label, padDistance have no effect"):
        got = read(tmp_path, "setting: {label: 2, padDistance: 10, binCount: 64}")
    assert (got.bin_count, got.bin_width) == (64, None)


def test_what_is_not_offered_is_named_as_a_whole(tmp_path):
    text = """
setting:
  distances: [1, 2]
  binwidth: 3
  weightingNorm: euclidean
  resegmentRange: [0.5]
  resegmentMode: relative
imageType:
  LBP3D: {}
  LoG: {padDistance: 3}
featureClass:
  shape2D:
"""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    text = str(caught.value)
    for name in ("distances", "binwidth", "euclidean", "relative", "LBP3D", "shape2D"):
        assert name in text
    assert "imageType LoG" in text


@pytest.mark.parametrize(
    "text", ["settings: {}", "- 1", "setting: [1]", "imageType: {LoG: {}}"]
)
def test_other_structures_are_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        read(tmp_path, text)


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="not valid YAML"):
        read(tmp_path, "setting: {")
    with pytest.raises(InputError, match="cannot be read"):
        RadiomicsSettings.from_yaml(tmp_path / "none.yaml")


def test_the_schema_of_the_library_is_covered():
    """Every key of the library is used, without effect (and told), or fixed."""
    from pathlib import Path

    import radiomics
    from ruamel.yaml import YAML

    from habitat.features import _parameters as p

    schema = Path(radiomics.__file__).parent / "schemas" / "paramSchema.yaml"
    mapping = YAML(typ="safe", pure=True).load(schema)["mapping"]
    names = {*mapping["setting"]["mapping"], *mapping["voxelSetting"]["mapping"]}
    known = {*p._USED, *p._NO_EFFECT, *p._ONE_VALUE}
    known |= {key for keys in p._FILTER_KEYS.values() for key in keys}
    lbp_3d = {name for name in names if name.startswith("lbp3D")}
    assert names - lbp_3d == known

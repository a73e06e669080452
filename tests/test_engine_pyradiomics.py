"""The reference engine: what the library's own extractor says, end to end."""

import logging
import math

import numpy as np
import pytest
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor

from habitat import Image, read
from habitat.errors import ConfigError, InputError
from habitat.features import extract
from habitat.features._filters import LBP2D, LoG, Wavelet
from habitat.features._prepare import prepare
from habitat.features._pyradiomics import _plain, run
from habitat.features._settings import CLASSES, RadiomicsSettings

SCALED = ("square", "squareroot", "logarithm", "exponential")
FILTERS = ("original", "wavelet", LoG((1, 3)), *SCALED, "gradient")
IMAGE_TYPES = {
    "Original": {},
    "Wavelet": {},
    "LoG": {"sigma": [1.0, 3.0]},
    "Square": {},
    "SquareRoot": {},
    "Logarithm": {},
    "Exponential": {},
    "Gradient": {},
}
# settings of the library, and the same in our words; spacings are such that no voxel
# center of the new grid falls halfway between two of the mask (see `prepare`)
DEFAULT = {}, {"spacing": 0, "bin_width": 25}
RESAMPLED = (
    {
        "resampledPixelSpacing": [1.9, 1.9, 3.3],
        "interpolator": "sitkBSpline",
        "padDistance": 1000,  # filters see the whole image, as ours do
        "binWidth": 20,
    },
    {"spacing": (3.3, 1.9, 1.9), "interpolation": "cubic", "bin_width": 20},
)
COUNT = (
    {"binCount": 16, "force2D": True, "voxelArrayShift": 100},
    {"spacing": 0, "bin_count": 16, "dims": "2.5d", "voxel_shift": 100},
)
OUTLIERS = (
    {
        "binWidth": 0.2,
        "normalize": True,
        "resegmentRange": [-2, 2],
        "resegmentMode": "sigma",
        "weightingNorm": "no_weighting",
    },
    {"spacing": 0, "bin_width": 0.2, "normalize": 1, "outliers": 2, "merge": True},
)


@pytest.fixture(autouse=True)
def silent():
    """The extractor's log; not the engine's, which keeps it to itself."""
    logger = logging.getLogger("radiomics")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def load(shared, case):
    folder = shared / "data/pyradiomics_cases"
    image = sitk.ReadImage(str(folder / f"{case}_image.nrrd"), sitk.sitkFloat64)
    return image, sitk.ReadImage(str(folder / f"{case}_label.nrrd"))


def library(image, mask, options, types):
    extractor = RadiomicsFeatureExtractor(**options)
    extractor.settings["additionalInfo"] = False
    extractor.enabledImagetypes = types
    found = extractor.execute(image, mask)
    return {name: complex(value).real for name, value in found.items()}


def engine(image, layers, *, min_voxels=1, **given):
    given = {"features": tuple(CLASSES), "alignment": "corner", **given}
    settings = RadiomicsSettings(**given).for_channel(
        image.unit, image.is_map, image.geometry.spacing
    )
    return list(run(prepare(image, layers, settings), settings, min_voxels))


def by_name(computed, layer=0, region=1):
    return {
        f"{one.image_type}_{name}": values[region - 1]
        for one in computed
        if one.layer == layer
        for name, values in one.features.items()
    }


def compare(got, want, leave_out=()):
    assert set(got) == set(want)
    names = [n for n in want if not n.startswith(tuple(leave_out))]
    for name in names:
        np.testing.assert_allclose(
            got[name], want[name], rtol=1e-6, atol=1e-9, err_msg=name
        )
    return len(names)


def check(shared, case, pair, types, filters, leave_out=()):
    image, mask = load(shared, case)
    theirs, ours = pair
    want = library(image, mask, theirs, types)
    got = by_name(engine(read(image), [read(mask)], filters=filters, **ours))
    return compare(got, want, leave_out)


ORIGINAL = ({"Original": {}}, ("original",))
SLOW = pytest.param("lung1", marks=pytest.mark.slow)


@pytest.mark.parametrize("case", ["brain1", "breast1", SLOW])
def test_all_images_of_the_default(case, shared):
    assert check(shared, case, DEFAULT, IMAGE_TYPES, FILTERS) == 1502


@pytest.mark.parametrize("case", ["brain1", "breast1", SLOW])
def test_all_images_resampled(case, shared):
    """The library scales by the largest value of what it resampled, we by the image's.

    It also takes 0 for points of the new grid outside of the image, which a LoG of 3 mm
    sees in breast1 (30 mm wide); ours are mirrored.
    """
    leave_out = (*SCALED, "log-sigma-3") if case == "breast1" else SCALED
    check(shared, case, RESAMPLED, IMAGE_TYPES, FILTERS, leave_out)


@pytest.mark.parametrize("case", ["lung1", "brain1", "breast1"])
def test_fixed_count_in_plane(case, shared):
    assert check(shared, case, COUNT, *ORIGINAL) == 107


@pytest.mark.parametrize("case", ["brain1", "breast1", SLOW])
def test_outliers_and_merged_directions(case, shared):
    """The library cuts the mask for shape by the box of what re-segmentation left."""
    assert check(shared, case, OUTLIERS, *ORIGINAL, ["original_shape"]) == 93


def test_other_filters(shared):
    types = {
        "Wavelet": {"wavelet": "haar", "level": 2, "binWidth": 10},
        "LBP2D": {"binWidth": 1, "lbp2DMethod": "uniform", "lbp2DSamples": 8},
    }
    filters = (Wavelet("haar", level=2, bin_width=10), LBP2D(bin_width=1))
    image, mask = load(shared, "breast1")
    with pytest.warns(UserWarning, match="local_binary_pattern"):
        want = library(image, mask, {}, types)
    got = engine(read(image), [read(mask)], filters=filters, bin_width=25, spacing=0)
    compare(by_name(got), want)


@pytest.mark.filterwarnings("ignore:the load_module")  # pykwalify's
def test_a_yaml_file_does_what_the_library_does_with_it(shared, tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        "setting: {binWidth: 15, resampledPixelSpacing: [0.91, 0.87, 0],"
        " interpolator: sitkLinear, resegmentRange: [0, 900]}\n"
        "imageType: {Original: {}, Gradient: {binCount: 12}}\n"
        "featureClass: {firstorder: [Mean, Energy], glszm: }\n"
    )
    image, mask = load(shared, "brain1")
    extractor = RadiomicsFeatureExtractor(str(path))
    extractor.settings["additionalInfo"] = False
    want = {k: float(v) for k, v in extractor.execute(image, mask).items()}
    settings = RadiomicsSettings.from_yaml(path).for_channel(None, False, (1, 1, 1))
    prepared = prepare(read(image), [read(mask)], settings)
    assert compare(by_name(run(prepared, settings, 1)), want) == 36


# --- several regions, and their limits ------------------------------------------------


@pytest.fixture
def scene():
    rng = np.random.default_rng(7)
    image = Image(rng.normal(0, 50, (8, 9, 10)).round(), spacing=(2, 1, 1))
    labels = np.zeros(image.array.shape, np.uint8)
    labels[2:7, 2:8, 2:9] = 1 + (rng.random((5, 6, 7)) < 0.4)
    labels[0, 0, 0] = 4
    return image, Image(labels, image.geometry)


def test_each_region_of_each_layer_is_a_mask_of_its_own(scene):
    image, labels = scene
    tumor = labels.replace((labels.array > 0).astype(np.uint8))
    got = engine(image, [tumor, labels], spacing=0, bin_width=25)
    for layer, region in ((0, 1), (1, 1), (1, 2)):
        source = (tumor, labels)[layer]
        mask = sitk.GetImageFromArray((source.array == region).astype(np.uint8))
        given = sitk.GetImageFromArray(image.array)
        for one in (mask, given):
            one.SetSpacing((1, 1, 2))
        want = library(given, mask, {}, {"Original": {}})
        compare(by_name(got, layer, region), want)


def test_absent_small_and_lone_regions(scene):
    image, labels = scene
    shape, habitats = engine(image, [labels], spacing=0, bin_width=25, min_voxels=64)
    assert shape.voxels.tolist() == habitats.voxels.tolist()
    assert shape.voxels[2:].tolist() == [0, 1]
    assert habitats.bins[2:].tolist() == [0, 1]
    assert habitats.features["firstorder_Mean"][3] == image.array[0, 0, 0]
    assert math.isnan(habitats.features["firstorder_Mean"][2])
    assert math.isnan(habitats.features["glcm_Contrast"][3])
    (lone,) = engine(
        image, [labels], spacing=0, bin_width=25, features=("glcm", "ngtdm")
    )  # the library raises
    assert all(math.isnan(values[3]) for values in lone.features.values())


def test_bins_from_a_fixed_edge(scene):
    """Levels count from the edge: one lower by whole widths shifts them only."""
    image, labels = scene
    given = {"spacing": 0, "bin_width": 25, "features": ("firstorder", "glcm")}
    (plain,) = engine(image, [labels], **given)
    (fixed,) = engine(image, [labels], bin_from=-1000, **given)
    assert plain.bins.tolist() == fixed.bins.tolist()
    for name in ("glcm_Contrast", "glcm_JointEntropy", "firstorder_Entropy"):
        np.testing.assert_allclose(plain.features[name], fixed.features[name])
    lowest = np.floor(min(image.array[labels.array == 1]) / 25)
    shift = fixed.features["glcm_JointAverage"] - plain.features["glcm_JointAverage"]
    assert shift[0] == pytest.approx(40 + lowest)
    with pytest.raises(InputError, match="values lie below 0"):
        engine(image, [labels], bin_from=0, **given)


def test_what_the_library_lacks_is_refused(scene):
    image, labels = scene
    for given in ({"ibsi": True, "alignment": "center"}, {"dims": "2d"}):
        with pytest.raises(ConfigError, match="numba"):
            engine(image, [labels], spacing=0, bin_count=8, **given)
    small = Image(image.array[:3], spacing=(1, 1, 1))
    part = Image(labels.array[:3], small.geometry)
    with pytest.raises(InputError, match="no image of"):
        engine(small, [part], spacing=0, bin_count=8, filters=(LoG((1,)),))
    holes = image.array.copy()
    holes[1, 1, 1] = np.nan
    with pytest.raises(InputError, match="1 of"):
        engine(
            Image(holes, image.geometry),
            [labels],
            spacing=0,
            bin_count=8,
            filters=("original", "wavelet"),
        )


def test_the_log_and_the_warnings_of_the_library_stay_inside(scene, caplog, recwarn):
    image, labels = scene
    logging.getLogger("radiomics").setLevel(logging.DEBUG)
    engine(image, [labels], spacing=0, bin_width=25, bin_from=-1000)
    assert not caplog.records
    assert not recwarn.list


def test_complex_values_are_converted_or_refused():
    """BAD_INPUTS 54: eigenvalues are complex under numpy >= 2.5."""
    assert _plain("Flatness", np.complex128(0.5 + 0j)) == 0.5
    assert type(_plain("Flatness", np.array([0.25 + 1e-12j]))) is float
    assert math.isnan(_plain("MCC", np.array(np.nan)))
    with pytest.raises(InputError, match="complex"):
        _plain("Flatness", 0.5 + 0.1j)
    with pytest.raises(InputError, match="not a number"):
        _plain("Flatness", np.array([1.0, 2.0]))


@pytest.mark.filterwarnings("ignore:the load_module")  # pykwalify's
@pytest.mark.parametrize(("case", "unit"), [("lung1", "HU"), ("brain1", None)])
def test_stored_integers_are_resampled_as_the_library_does(
    shared, tmp_path, case, unit
):
    path = tmp_path / "params.yaml"
    path.write_text(
        "setting: {binWidth: 25, resampledPixelSpacing: [1.9, 1.9, 3.3],"
        " interpolator: sitkBSpline}\n"
        "imageType: {Original: {}}\nfeatureClass: {firstorder: , glcm: }\n"
    )
    folder = shared / "data/pyradiomics_cases"
    files = [str(folder / f"{case}_{what}.nrrd") for what in ("image", "label")]
    image = sitk.ReadImage(files[0])
    assert "integer" in image.GetPixelIDTypeAsString()
    extractor = RadiomicsFeatureExtractor(str(path))
    want = extractor.execute(image, sitk.ReadImage(files[1]))
    want = {k: float(v) for k, v in want.items() if k.startswith("original")}
    native = read(files[0], unit=unit) if unit else read(files[0])
    found = extract(
        read(files[1]), {"x": native}, families=("radiomics",), settings=path
    )
    own = found[found["region"] == "tumor"]
    assert compare(dict(zip(own["feature"], own["value"], strict=True)), want) == 42

"""Images and regions on the grid of radiomics: IBSI's and pyradiomics' numbers."""

import csv
import gzip
import math

import numpy as np
import pytest
import SimpleITK as sitk

from habitat import Image, read
from habitat.errors import GeometryError, MaskError
from habitat.features._filters import LoG
from habitat.features._prepare import intensity_layers, prepare
from habitat.features._settings import RadiomicsSettings

CASES = ("lung1", "brain1", "breast1")
RANGE = (-500, 400)
# IBSI reference manual, table "Image processing configurations" of the CT phantom
CONFIGURATIONS = {
    "a": {"spacing": 0, "dims": "2d", "resegment": RANGE, "bin_width": 25},
    "b": {
        "spacing": (0, 2, 2),
        "interpolation": "linear",
        "dims": "2d",
        "resegment": RANGE,
        "bin_count": 32,
    },
    "c": {
        "spacing": 2,
        "interpolation": "linear",
        "resegment": (-1000, 400),
        "bin_width": 25,
    },
    "d": {"spacing": 2, "interpolation": "linear", "outliers": 3, "bin_count": 32},
    "e": {
        "spacing": 2,
        "interpolation": "cubic",
        "resegment": (-1000, 400),
        "outliers": 3,
        "bin_count": 32,
    },
}


def ready(image, layers, **given):
    settings = RadiomicsSettings(**given).for_channel(
        image.unit, image.is_map, image.geometry.spacing
    )
    return prepare(image, layers, settings), settings


def diagnostics(image, layers, **given):
    """Tags of IBSI's diagnostic features."""
    prepared, settings = ready(image, layers, **given)
    values = prepared.image.array
    out = {
        f"img_dim_{axis}_interp_img": n
        for axis, n in zip("zyx", prepared.how["shape"], strict=True)
    }
    masks = {"interp": prepared.layers, "reseg": intensity_layers(prepared, settings)}
    for stage, (labels,) in masks.items():
        own = values[labels > 0]
        name = f"int_mask_{{}}_{stage}_roi"
        out[name.format("vox_count")] = own.size
        for part in ("mean", "min", "max"):
            out[name.format(f"{part}_int")] = getattr(own, part)()
    return out


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_ct_phantom_of_ibsi(name, shared):
    """All diagnostics to the digits printed, far within their tolerance."""
    folder = shared / "data/ibsi1/ct_phantom/nifti"
    image = read(folder / "image/phantom.nii.gz", unit="HU")
    mask = read(folder / "mask/mask.nii.gz")
    got = diagnostics(image, [mask], ibsi=True, **CONFIGURATIONS[name])
    with (shared / "reference/ibsi1_phantoms.csv").open() as file:
        rows = [
            r for r in csv.DictReader(file) if r["data_set"] == f"chest_config_{name}"
        ]
    want = {r["tag"]: r["reference_value"] for r in rows}
    for tag, value in got.items():
        assert value == pytest.approx(float(want[tag]), abs=0.051), tag


def consensus(shared, patient, modality):
    with gzip.open(shared / "reference/ibsi1_sts_consensus.csv.gz", "rt") as file:
        return {
            r["tag"]: float(r["consensus_value"])
            for r in csv.DictReader(file)
            if r["id"] == patient and r["modality"] == modality
        }


def check_patient(shared, patient):
    """CT and PET by the processing of the consensus; returns the number of values."""
    count = 0
    given = {
        "CT": ("HU", {"resegment": (-200, 200), "bin_width": 10}),
        "PET": ("SUVbw", {"interpolation": "cubic", "resegment": (0, math.inf)}),
    }
    for modality, (unit, options) in given.items():
        folder = shared / "data/sts_petct" / patient
        image = read(folder / f"{modality}_image.nii.gz", unit=unit)
        mask = read(folder / f"{modality}_mask.nii.gz")
        got = diagnostics(image, [mask], ibsi=True, **options)
        want = consensus(shared, patient, modality)
        for tag in got.keys() & want.keys():
            assert got[tag] == pytest.approx(want[tag], rel=1e-3), (modality, tag)
            count += 1
    return count


def test_a_patient_of_the_ibsi_consensus(shared):
    assert check_patient(shared, "STS_036") > 10


@pytest.mark.slow
def test_all_patients_of_the_ibsi_consensus(shared):
    patients = sorted(p.parent.name for p in shared.glob("data/sts_petct/*/CT_mask*"))
    assert len(patients) == 17
    assert sum(check_patient(shared, patient) for patient in patients) > 250


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sizes", [(2.3, 1.9, 1.9), (1, 1, 1), (0, 0.87, 0.71)])
@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_corner_alignment_is_resampling_by_pyradiomics(case, sizes, order, shared):
    """Cubic is ITK's B-spline.

    Two things differ: the library cuts the values of integer images to integers, and a
    mask's voxel whose center falls halfway between two goes either way in it.
    """
    from radiomics import imageoperations

    folder = shared / "data/pyradiomics_cases"
    raw = sitk.ReadImage(str(folder / f"{case}_image.nrrd"), sitk.sitkFloat64)
    mask = sitk.ReadImage(str(folder / f"{case}_label.nrrd"))
    names = {"nearest": "NearestNeighbor", "linear": "Linear", "cubic": "BSpline"}
    options = {"resampledPixelSpacing": list(sizes)[::-1], "padDistance": 3}
    options["interpolator"] = f"sitk{names[order]}"
    made = imageoperations.resampleImage(raw, mask, label=1, **options)
    want, inside = map(sitk.GetArrayFromImage, made)
    got, _ = ready(
        read(raw), [read(mask)], spacing=sizes, interpolation=order, alignment="corner"
    )
    values = got.image.array[got.layers[0] == 1]
    np.testing.assert_allclose(values, want[inside == 1], rtol=1e-6)


# --- properties -----------------------------------------------------------------------


def ball(shape, radius):
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    far = sum((a - (n - 1) / 2) ** 2 for a, n in zip(axes, shape, strict=True))
    return (far <= radius**2).astype(np.uint8)


@pytest.fixture
def scene():
    rng = np.random.default_rng(4)
    image = Image(rng.normal(40, 30, (24, 40, 50)), spacing=(3, 1.5, 1.2), unit="HU")
    labels = ball(image.array.shape, 8)
    labels[labels.astype(bool) & (rng.random(labels.shape) < 0.3)] = 2
    return image, Image(labels, image.geometry)


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("alignment", ["center", "corner"])
def test_cropped_labels_and_filters_change_no_value(scene, order, alignment):
    image, labels = scene
    given = {"interpolation": order, "alignment": alignment, "bin_width": 25}
    part = labels.crop((slice(3, 21), slice(10, 31), slice(14, 36)))
    small, _ = ready(image, [part], spacing=2, **given)
    large, _ = ready(image, [labels], spacing=2, filters=(LoG((1,)),), **given)
    assert large.image.array.shape > small.image.array.shape
    assert small.image.array.shape == small.layers[0].shape
    for got in (small, large):
        assert [c.tolist() for c in got.counts] == [c.tolist() for c in small.counts]
    np.testing.assert_array_equal(
        large.layers[0][large.inner], small.layers[0][small.inner]
    )
    np.testing.assert_allclose(
        large.image.array[large.inner], small.image.array[small.inner], atol=1e-6
    )


def test_own_grid_is_not_touched(scene):
    image, labels = scene
    got, _ = ready(image, [labels], spacing=0, bin_width=25)
    inside = got.layers[0] > 0
    np.testing.assert_array_equal(
        got.image.array[inside], image.array[labels.array > 0]
    )
    assert got.how["interpolation"] == "none"
    assert not got.how["rounded"]


def test_ct_is_rounded_and_maps_are_not(scene):
    image, labels = scene
    ct, _ = ready(image, [labels], spacing=2)
    assert ct.how["rounded"]
    np.testing.assert_array_equal(ct.image.array, np.rint(ct.image.array))
    as_map = Image(image.array, image.geometry, unit="HU", meta={"map": "ecv"})
    other, _ = ready(as_map, [labels], spacing=2)
    assert not other.how["rounded"]


def test_grid_of_the_labels_is_kept_and_told(scene):
    image, labels = scene
    coarse = Image(ball((12, 12, 12), 3), spacing=(5, 4, 4))
    got, _ = ready(image, [coarse], spacing=None)
    assert got.image.geometry.spacing == (5, 4, 4)
    assert got.counts[0].tolist() == [int(coarse.array.sum())]
    assert any("coarser than 2.5 mm" in note for note in got.notes)
    same, _ = ready(image, [labels], spacing=None)
    assert same.how["interpolation"] == "none"
    assert any("not equally far" in note for note in same.notes)


def test_oblique_labels(scene):
    image, labels = scene
    angle = math.radians(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [
        [math.cos(angle), -math.sin(angle)],
        [math.sin(angle), math.cos(angle)],
    ]
    middle = image.geometry.world((11.5, 19.5, 24.5))
    affine = np.diag([1.0, 1, 1, 1])
    affine[:3, :3] = turn[:3, :3][::-1] * 2.0
    affine[:3, 3] = middle - affine[:3, :3] @ (7.5, 7.5, 7.5)
    from habitat import Geometry

    oblique = Image(ball((16, 16, 16), 5), Geometry((16, 16, 16), affine))
    ramp = image.replace(
        image.geometry.world(np.moveaxis(np.indices(image.array.shape), 0, -1))
        @ (1, 2, 3)
    )
    for order in ("linear", "cubic"):
        got, _ = ready(
            Image(ramp.array, image.geometry, unit="a.u."),
            [oblique],
            spacing=None,
            interpolation=order,
        )
        inside = got.layers[0] > 0
        where = got.image.geometry.world(np.argwhere(inside))
        np.testing.assert_allclose(got.image.array[inside], where @ (1, 2, 3), atol=0.5)
        assert got.counts[0][0] == oblique.array.sum()


def test_voxels_without_value_leave_the_regions(scene):
    image, labels = scene
    values = image.array.copy()
    values[:12] = np.nan
    given = Image(values, image.geometry, unit="a.u.", meta={"map": "x"})
    got, _ = ready(given, [labels], spacing=0)
    assert sum(got.counts[0]) == np.count_nonzero(labels.array[12:])
    assert got.how["nan_voxels"] == np.count_nonzero(labels.array[:12])
    assert any("left out" in note for note in got.notes)
    assert np.isfinite(got.image.array[got.layers[0] > 0]).all()


def test_linear_regions_do_not_overlap_and_fill_the_volume(scene):
    image, _ = scene
    halves = ball(image.array.shape, 8)
    halves[:, :, 25:] *= 2
    labels = Image(halves, image.geometry)
    got, _ = ready(image, [labels], spacing=1, mask_interpolation="linear")
    ml = got.counts[0] * got.image.geometry.voxel_ml
    before = np.bincount(halves.ravel())[1:] * image.geometry.voxel_ml
    np.testing.assert_allclose(ml, before, rtol=0.03)


def test_normalized_by_the_whole_image(scene):
    image, labels = scene
    got, _ = ready(image, [labels], spacing=0, normalize=100, bin_width=5)
    sitk_image = sitk.GetImageFromArray(image.array)
    want = 100 * sitk.GetArrayFromImage(sitk.Normalize(sitk_image))
    inside = got.layers[0] > 0
    np.testing.assert_allclose(
        got.image.array[inside], want[labels.array > 0], rtol=1e-9
    )


def test_outliers_are_those_of_each_region(scene):
    image, labels = scene
    got, settings = ready(image, [labels], spacing=0, outliers=2, resegment=(0, 60))
    (kept,) = intensity_layers(got, settings)
    for region in (1, 2):
        own = image.array[labels.array == region]
        low, high = own.mean() - 2 * own.std(), own.mean() + 2 * own.std()
        want = (own >= max(low, 0)) & (own <= min(high, 60))
        assert np.count_nonzero(kept == region) == want.sum()


def test_an_absent_region_counts_zero(scene):
    image, labels = scene
    odd = labels.replace(np.where(labels.array == 2, 3, labels.array))
    got, _ = ready(image, [odd], spacing=0)
    assert got.counts[0][1] == 0
    assert len(got.counts[0]) == 3


def test_regions_elsewhere_are_refused(scene):
    image, labels = scene
    far = image.geometry.affine.copy()
    far[:3, 3] += 1000
    from habitat import Geometry

    moved = Image(labels.array, Geometry(labels.array.shape, far))
    with pytest.raises(GeometryError):
        ready(image, [moved])
    with pytest.raises(GeometryError):
        ready(image, [moved], spacing=None)
    nothing = image.replace(np.full(image.array.shape, np.nan))
    with pytest.raises(MaskError):
        ready(nothing, [labels], spacing=0)

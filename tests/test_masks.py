"""Label images, .seg.nrrd and DICOM SEG as masks, and label maps for 3D Slicer."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import generate_uid

from habitat.errors import (
    ConfigError,
    DicomError,
    HabitatError,
    InputError,
    MaskError,
)
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io._masks import read_mask
from habitat.io._segmentations import write_seg_nrrd
from tests.dicom_factory import Written, write_series

SHAPE = (5, 6, 7)
NAMES = ["H1 SUV 2.0 HU 30", "Läsion 2"]
COLORS = [(1.0, 0.5, 0.0), (0.25, 0.125, 1.0)]


def labels(*values: float, dtype: Any = np.uint8) -> np.ndarray:
    """One slice of each value, from the second slice on."""
    array = np.zeros(SHAPE, dtype)
    for z, value in enumerate(values, 1):
        array[z, 2:4, 1:5] = value
    return array


def oblique(shape: tuple[int, int, int] = SHAPE) -> Geometry:
    q = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = q * np.array([3.0, 2.0, 1.5])
    affine[:3, 3] = (-10.123456789, 20.5, -333.25)
    return Geometry(shape, affine)


def image(array: Any) -> Image:
    return Image(array, spacing=(3.0, 2.0, 1.5))


def write(path: Path, array: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


# --- label images ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "u2", "i2", "i4", "u8", "i8", "f4", "f8"]
)
def test_plain_mask_of_any_type(dtype):
    mask = read_mask(image(labels(1, 1, dtype=dtype)))
    assert mask.array.dtype == bool
    assert (mask.array == (labels(1, 1) == 1)).all()
    assert mask.notes == ()


def test_bool_mask_and_simpleitk_image():
    want = labels(1, 1) == 1
    assert (read_mask(image(want)).array == want).all()
    itk = sitk.GetImageFromArray(labels(1, 1))
    itk.SetSpacing((1.5, 2.0, 3.0))
    mask = read_mask(itk)
    assert (mask.array == want).all()
    assert mask.geometry.spacing == (3.0, 2.0, 1.5)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_mask_file_keeps_path_and_hash(tmp_path, suffix):
    path = write(tmp_path / f"mask{suffix}", labels(1))
    mask = read_mask(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert mask.source == {"path": str(path), "sha256": digest}
    assert mask.array.sum() == 8


@pytest.mark.parametrize("dtype", ["?", "u1", "f4"])
def test_row_10_empty_mask(tmp_path, dtype):
    with pytest.raises(MaskError, match="no voxel is >0 in `mask`"):
        read_mask(image(np.zeros(SHAPE, dtype)))
    path = write(tmp_path / "mask.nii.gz", labels())
    with pytest.raises(MaskError, match=f"no voxel is >0 in {re.escape(str(path))}"):
        read_mask(path)


@pytest.mark.parametrize(("value", "dtype"), [(255, "u1"), (5, "i2"), (5, "f4")])
def test_row_11_only_label_is_taken_and_noted(value, dtype):
    mask = read_mask(image(labels(value, dtype=dtype)))
    assert mask.array.sum() == 8
    assert any(f"only label, {value}," in note for note in mask.notes)


def test_row_12_several_labels_are_listed_with_voxels():
    with pytest.raises(MaskError, match=r"\{1: 8, 2: 16\} voxels.*`label=`"):
        read_mask(image(labels(1, 2, 2)))
    with pytest.raises(MaskError, match="and 10 more"):
        read_mask(image(np.arange(31).reshape(31, 1, 1)))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "f4"])
def test_label_selects_a_value(dtype):
    mask = read_mask(image(labels(1, 2, 2, dtype=dtype)), label=2)
    assert (mask.array == (labels(1, 2, 2) == 2)).all()


@pytest.mark.parametrize("label", [3, "tumor", 0])
def test_unknown_label_lists_those_there(label):
    with pytest.raises(MaskError, match=r"no labels are .*\{1: 8, 2: 8\}"):
        read_mask(image(labels(1, 2)), label=label)


@pytest.mark.parametrize("label", [True, 1.5, [1]])
def test_label_of_wrong_type(label):
    with pytest.raises(ConfigError, match="`label`"):
        read_mask(image(labels(1, 2)), label=label)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_row_13_float_masks(dtype):
    want = labels(1) == 1
    near = labels(0.9999, 0.0003, dtype=dtype)
    mask = read_mask(image(near))
    assert (mask.array == want).all()
    assert any("rounded by up to 0.0003" in note for note in mask.notes)
    scaled = read_mask(image(labels(1 / 255, dtype=dtype)))
    assert (scaled.array == want).all()
    assert any("0.003922" in note for note in scaled.notes)
    with pytest.raises(MaskError, match="a probability map"):
        read_mask(image(labels(0.2, 0.9, dtype=dtype)))
    for bad in (np.nan, np.inf, 1e30):
        with pytest.raises(MaskError, match="no labels"):
            read_mask(image(labels(1, bad, dtype=dtype)))


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_row_14_negative_labels(dtype):
    with pytest.raises(MaskError, match=r"1 negative labels.*-1.*8 voxels"):
        read_mask(image(labels(1, -1, dtype=dtype)), label=1)
    with pytest.raises(MaskError, match="negative"):
        read_mask(image(labels(-3, dtype=dtype)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=8, max_size=8), st.integers(0, 1))
def test_label_numbers_only_name_the_regions(values, far):
    array = np.array(values).reshape(2, 2, 2)
    renumbered = array * (1 if not far else 3_000_000)
    for label in set(values) - {0}:
        one = read_mask(image(array), label=label)
        two = read_mask(image(renumbered), label=int(renumbered[array == label][0]))
        assert (one.array == two.array).all()
        assert (one.array == (array == label)).all()


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    def forbidden(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "RS.dcm").write_bytes(b"")
    monkeypatch.setattr(Path, "open", forbidden)
    for path in (tmp_path, tmp_path / "RS.dcm"):
        with pytest.raises(InputError, match="cannot be read .Permission denied"):
            read_mask(path)


def test_not_a_mask_at_all(tmp_path):
    with pytest.raises(InputError, match="wrap an array"):
        read_mask(labels(1))
    with pytest.raises(InputError, match="not found"):
        read_mask(tmp_path / "none.nii.gz")
    with pytest.raises(DicomError, match="0 DICOM SEG or RTSTRUCT"):
        read_mask(tmp_path)


# --- .seg.nrrd ------------------------------------------------------------------------


@pytest.fixture
def slicer_file(tmp_path: Path) -> Path:
    path = tmp_path / "labels.seg.nrrd"
    write_seg_nrrd(path, Image(labels(1, 2, 2), oblique()), NAMES, COLORS)
    return path


@pytest.mark.parametrize("label", [2, "Läsion 2", "läsion 2", "La\u0308sion 2"])
def test_seg_nrrd_round_trip(slicer_file, label):
    mask = read_mask(slicer_file, label=label)
    assert (mask.array == (labels(1, 2, 2) == 2)).all()
    assert np.abs(mask.geometry.affine - oblique().affine).max() < 1e-9
    assert mask.source["sha256"] == hashlib.sha256(slicer_file.read_bytes()).hexdigest()
    assert any("Läsion 2" in note for note in mask.notes)
    assert list(slicer_file.parent.iterdir()) == [slicer_file]


def test_seg_nrrd_lists_its_segments(slicer_file):
    listed = r"\{1 \(H1 SUV 2.0 HU 30\): 8, 2 \(Läsion 2\): 16\} voxels"
    for label in (None, "liver", 3):
        with pytest.raises(MaskError, match=listed):
            read_mask(slicer_file, label=label)


def test_seg_nrrd_header_is_what_slicer_writes(slicer_file):
    head = slicer_file.read_bytes().split(b"\n\n")[0].decode()
    lines = dict(re.split(r":=|: ", row, maxsplit=1) for row in head.splitlines()[3:])
    assert lines["type"] == "unsigned char"
    assert lines["encoding"] == "gzip"
    assert lines["space"] == "left-posterior-superior"
    assert lines["Segment1_Name"] == "Läsion 2"
    assert lines["Segment1_Color"] == "0.25 0.125 1"
    assert lines["Segment1_LabelValue"] == "2"
    assert lines["Segment1_Layer"] == "0"
    assert lines["Segment1_Extent"] == "0 6 0 5 0 4"
    assert lines["Segment0_ID"] == "Segment_1"
    assert lines["Segment0_Tags"].startswith("Segmentation.Status:inprogress|Termin")
    assert lines["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert lines["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"


def test_seg_nrrd_is_read_by_an_independent_reader(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    path = tmp_path / "labels.seg.nrrd"
    # pynrrd below it reads ASCII headers only
    write_seg_nrrd(path, Image(labels(1, 2, 2), oblique()), ["rim", "core"], COLORS)
    found = slicerio.read_segmentation(str(path))
    assert (labels(1, 2, 2) == found["voxels"].T).all()
    assert [s["name"] for s in found["segments"]] == ["rim", "core"]
    assert [s["labelValue"] for s in found["segments"]] == [1, 2]
    assert found["segments"][1]["color"] == list(COLORS[1])
    assert found["segments"][0]["terminology"]["type"][2] == "Mass"
    zyx_to_lps = found["ijkToLPS"][:, [2, 1, 0, 3]]
    assert np.abs(zyx_to_lps - oblique().affine).max() < 1e-9


def test_seg_nrrd_needs_a_name_for_every_label(tmp_path):
    path = tmp_path / "labels.seg.nrrd"
    with pytest.raises(InputError, match="2 labels, 1 names, 1 colors"):
        write_seg_nrrd(path, image(labels(1, 2)), NAMES[:1], COLORS[:1])
    with pytest.raises(InputError, match="cannot be written"):
        write_seg_nrrd(tmp_path / "no/x.seg.nrrd", image(labels(1, 2)), NAMES, COLORS)
    assert not list(tmp_path.iterdir())


def test_seg_nrrd_with_overlapping_segments(tmp_path):
    layers = np.stack([labels(1), labels(1, 1) + 2 * labels(0, 0, 1)], axis=-1)
    itk = sitk.GetImageFromArray(layers, isVector=True)
    for i, (name, layer, value) in enumerate([("a", 0, 1), ("b", 1, 1), ("c", 1, 2)]):
        itk.SetMetaData(f"Segment{i}_Name", name)
        itk.SetMetaData(f"Segment{i}_Layer", str(layer))
        itk.SetMetaData(f"Segment{i}_LabelValue", str(value))
    path = tmp_path / "two.seg.nrrd"
    sitk.WriteImage(itk, str(path), True)
    for name, want in (("a", labels(1)), ("b", labels(1, 1)), ("c", labels(0, 0, 1))):
        assert (read_mask(path, label=name).array == want.astype(bool)).all()
    with pytest.raises(MaskError, match="2 labels are 1"):  # of two layers
        read_mask(path, label=1)


def test_old_seg_nrrd_has_one_layer_a_segment(tmp_path):
    itk = sitk.GetImageFromArray(np.stack([labels(1), labels(0, 1)], -1), isVector=True)
    itk.SetMetaData("Segment0_Name", "a")
    itk.SetMetaData("Segment1_Name", "b")
    path = tmp_path / "old.seg.nrrd"
    sitk.WriteImage(itk, str(path), True)
    assert (read_mask(path, label="b").array == labels(0, 1).astype(bool)).all()


@pytest.mark.parametrize("key", ["Layer", "LabelValue"])
def test_seg_nrrd_with_a_bad_header(tmp_path, key):
    itk = sitk.GetImageFromArray(labels(1))
    itk.SetMetaData("Segment0_Name", "a")
    itk.SetMetaData(f"Segment0_{key}", "x7")
    path = tmp_path / "bad.seg.nrrd"
    sitk.WriteImage(itk, str(path), True)
    with pytest.raises(
        InputError, match="segment 'a' has no valid label value or layer"
    ):
        read_mask(path)


@pytest.mark.parametrize("kept", [0.99, 0.5, 0.1, 0.001])
def test_truncated_seg_nrrd(tmp_path, kept):
    path = tmp_path / "labels.seg.nrrd"
    noise = np.random.default_rng(0).integers(0, 3, (20, 30, 40)).astype(np.uint8)
    write_seg_nrrd(path, image(noise), NAMES, COLORS)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    with pytest.raises(InputError):
        read_mask(path, label=1)


def test_plain_nrrd_called_seg_nrrd(tmp_path):
    path = write(tmp_path / "x.seg.nrrd", labels(4))
    assert read_mask(path).array.sum() == 8


# --- DICOM SEG ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Written:
    grid = oblique()
    return write_series(
        tmp_path_factory.mktemp("ct"),
        np.zeros(SHAPE, np.int16),
        modality="CT",
        spacing_zyx=grid.spacing,
        origin_xyz=grid.affine[:3, 3],
        directions=grid.directions,
        PatientBirthDate="",
        PatientSex="O",
        StudyDate="",
        StudyTime="",
        StudyID="1",
        AccessionNumber="",
    )


def write_seg(path: Path, series: Written, array: np.ndarray, **options: Any) -> Path:
    """Write a SEG of segments stacked on the last axis, "rim" and "core"."""
    seg = pytest.importorskip("highdicom.seg")
    codes = pytest.importorskip("pydicom.sr.codedict").codes
    kind = options.get("segmentation_type", "BINARY")
    described = [
        seg.SegmentDescription(
            number,
            name,
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(["rim", "core"][: array.shape[-1]], 1)
    ]
    seg.Segmentation(
        source_images=[dcmread(file) for file in series.files],
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=described,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="generated",
        manufacturer_model_name="generated",
        software_versions="1",
        device_serial_number="1",
    ).save_as(path)
    return path


@pytest.mark.parametrize("label", [2, "core", "CORE"])
def test_dicom_seg_by_number_or_name(tmp_path, series, label):
    # slices 0 and 4 are empty, so the file does not hold them; the segments overlap
    both = np.stack([labels(1, 1, 1), labels(0, 1)], axis=-1)
    path = write_seg(tmp_path / "seg.dcm", series, both)
    mask = read_mask(path, label=label)
    where = mask.geometry.world(np.argwhere(mask.array))
    want = oblique().world(np.argwhere(labels(0, 1)))
    order = [np.lexsort(points.round(3).T) for points in (where, want)]
    assert np.abs(where[order[0]] - want[order[1]]).max() < 1e-6
    assert mask.meta["structure"] == "core"
    assert mask.meta["frame_of_reference_uid"] == series.frame_uid
    assert mask.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (read_mask(tmp_path, label=label).array == mask.array).all()
    for other in (None, "liver"):
        with pytest.raises(MaskError, match=r"\{1 \(rim\): 24, 2 \(core\): 8\} voxels"):
            read_mask(path, label=other)


def test_fractional_dicom_seg_is_cut_at_a_half(tmp_path, series):
    soft = labels(0.9, 0.6, 0.3, dtype=np.float32)[..., None]
    path = write_seg(tmp_path / "seg.dcm", series, soft, segmentation_type="FRACTIONAL")
    mask = read_mask(path)
    assert mask.array.sum() == 16
    assert any("cut at 0.5" in note for note in mask.notes)


def test_dicom_seg_of_one_slice(tmp_path, series):
    path = write_seg(tmp_path / "seg.dcm", series, labels(0, 1)[..., None])
    mask = read_mask(path)
    assert mask.geometry.shape == (1, *SHAPE[1:])
    assert mask.geometry.spacing == pytest.approx(oblique().spacing)
    assert mask.array.sum() == 8


def test_dicom_seg_without_highdicom(tmp_path, series, monkeypatch):
    path = write_seg(tmp_path / "seg.dcm", series, labels(1)[..., None])
    monkeypatch.setitem(sys.modules, "highdicom.seg", None)
    with pytest.raises(InputError, match=r"pip install tumor-habitat\[dicom\]"):
        read_mask(path)


def test_damaged_dicom_seg(tmp_path, series):
    path = write_seg(tmp_path / "seg.dcm", series, labels(1)[..., None])
    raw = path.read_bytes()
    for kept in (0.999, 0.9, 0.5):
        path.write_bytes(raw[: int(kept * len(raw))])
        with pytest.raises(HabitatError):
            read_mask(path)


def test_dicom_that_is_no_mask(tmp_path, series):
    with pytest.raises(DicomError, match="is a DICOM CT file, not a SEG or RTSTRUCT"):
        read_mask(series.files[0])
    with pytest.raises(DicomError, match="0 DICOM SEG or RTSTRUCT"):
        read_mask(series.folder)
    for name in ("a.dcm", "b.dcm"):
        write_seg(tmp_path / name, series, labels(1)[..., None])
        shutil.copy(tmp_path / name, tmp_path / f"copy of {name}")
    with pytest.raises(DicomError, match=r"2 DICOM SEG or RTSTRUCT.*a\.dcm, b\.dcm"):
        read_mask(tmp_path)
    for path in tmp_path.glob("*b.dcm"):
        path.unlink()
    (tmp_path / "._a.dcm").write_bytes(b"\0\5\x16\7" * 99)  # beside it on a Mac's disk
    assert read_mask(tmp_path).array.sum() == (labels(1) > 0).sum()

"""Habitats as a DICOM SEG: valid, and in place."""

import shutil
import subprocess
import warnings

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

import habitat
from habitat.errors import ConfigError, DicomError, GeometryError, HabitatWarning
from habitat.io._dicom import choose_series
from tests.dicom_factory import write_series

pytest.importorskip("highdicom")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A tumor whose CT is a DICOM series, on the grid of the CT."""
    folder = tmp_path_factory.mktemp("dicom") / "ct"
    p = habitat.phantom(radius_mm=12, margin_mm=15)
    grid = p.ct.geometry
    write_series(
        folder,
        p.ct.array.astype(np.int16),
        modality="CT",
        spacing_zyx=grid.spacing,
        origin_xyz=grid.affine[:3, 3],
        directions=grid.directions,
        PatientName="Doe^Jane",
        PatientID="42",
    )
    return habitat.segment(p.pet, folder, p.mask, k=3, grid="ct"), folder


@pytest.fixture(scope="module")
def seg(case, tmp_path_factory):
    result, folder = case
    return result.save_dicom_seg(tmp_path_factory.mktemp("seg") / "h.dcm", folder)


def frames_in_place(path, geometry, k):
    """Labels from the frames that SimpleITK decodes and the positions of the header."""
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    tail = frames.size % 8  # GDCM leaves the bits of a last part of a byte unset
    if tail:
        assert not pydicom.dcmread(path).pixel_array.ravel()[-tail:].any()
        frames.ravel()[-tail:] = 0
    header = pydicom.dcmread(path, stop_before_pixels=True)
    out = np.zeros(geometry.shape, np.uint8)
    groups = header.PerFrameFunctionalGroupsSequence
    for frame, group in zip(frames, groups, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        corner = group.PlanePositionSequence[0].ImagePositionPatient
        z, y, x = geometry.index(np.array([corner], dtype=float))[0]
        assert (y, x) == (pytest.approx(0, abs=1e-3), pytest.approx(0, abs=1e-3))
        plane = out[round(z)]
        assert not (plane[frame > 0]).any()
        plane[frame > 0] = number
    assert out.max() <= k
    return out


def check_in_place(result, folder, path):
    grid = choose_series(folder).geometry
    wanted = result.on(grid).array
    np.testing.assert_array_equal(frames_in_place(path, grid, result.k), wanted)
    for number in range(1, result.k + 1):
        found = habitat.read_mask(path, label=number)  # by highdicom
        there = habitat.resample(found, grid).array == 1
        np.testing.assert_array_equal(there, wanted == number)


def test_all_readers_find_it_in_place(case, seg):
    result, folder = case
    check_in_place(result, folder, seg)
    np.testing.assert_array_equal(
        result.on(habitat.read_dicom(folder).geometry).array, result.labels
    )


def test_names_codes_colors_and_the_patient(case, seg):
    result, folder = case
    header = pydicom.dcmread(seg)
    source = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True)
    assert [s.SegmentLabel for s in header.SegmentSequence] == list(result.names)
    codes = {
        s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in header.SegmentSequence
    }
    assert codes == {"4147007"}
    colors = {tuple(s.RecommendedDisplayCIELabValue) for s in header.SegmentSequence}
    assert len(colors) == result.k
    assert (header.PatientName, header.PatientID) == ("Doe^Jane", "42")
    for name in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert header[name].value == source[name].value
    assert "research" in header.ContentDescription


def errors_of(path):
    """What dciodvfy finds wrong, without what is wrong in the series it came from."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("needs dciodvfy (Debian package dicom3tools)")
    done = subprocess.run(
        ["dciodvfy", path], capture_output=True, text=True, check=False
    )
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]


def test_a_validator_finds_no_error(seg):
    assert errors_of(seg) == []


@pytest.mark.parametrize("image", ["CT", "PET"])
def test_a_real_series(image, shared, tmp_path):
    root = shared / "data" / "sts_petct_dicom" / "STS_006"
    if not root.is_dir():
        pytest.skip("needs STS_006 as DICOM")
    pet, ct = root / "PET" / "image", root / "CT" / "image"
    mask = next((root / "CT" / "mask").iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)
        result = habitat.segment(pet, ct, mask, k=3)
    folder = {"CT": ct, "PET": pet}[image]
    path = result.save_dicom_seg(tmp_path / "h.dcm", folder)
    check_in_place(result, folder, path)
    assert errors_of(path) == []


def test_a_habitat_without_voxels_keeps_its_number(case, tmp_path):
    result, folder = case
    labels = result.labels.copy()
    labels[labels == 2] = 1
    fewer = habitat.HabitatResult(**{**vars(result), "labels": labels})
    path = fewer.save_dicom_seg(tmp_path / "h.dcm", folder)
    header = pydicom.dcmread(path)
    numbers = {
        g.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for g in header.PerFrameFunctionalGroupsSequence
    }
    assert numbers == {1, 3}
    assert len(header.SegmentSequence) == 3
    assert errors_of(path) == []


def test_what_does_not_fit_is_refused(case, tmp_path):
    result, folder = case
    with pytest.raises(ConfigError, match=r"must end in \.dcm"):
        result.save_dicom_seg(tmp_path / "h.nii", folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DicomError, match="no DICOM image series"):
        result.save_dicom_seg(tmp_path / "h.dcm", tmp_path / "empty")
    ct = habitat.read_dicom(folder)
    half = tmp_path / "half"
    options = {
        "modality": "CT",
        "spacing_zyx": ct.geometry.spacing,
        "origin_xyz": ct.geometry.affine[:3, 3],
        "directions": ct.geometry.directions,
    }
    slices = ct.array[: len(ct.array) // 2].astype(np.int16)
    write_series(half, slices, frame_uid=ct.meta["frame_of_reference_uid"], **options)
    with pytest.raises(GeometryError, match="voxels of the tumor lie outside"):
        result.save_dicom_seg(tmp_path / "h.dcm", half)
    other = tmp_path / "other"
    write_series(other, ct.array.astype(np.int16), **options)
    with pytest.raises(GeometryError, match="another frame of reference"):
        result.save_dicom_seg(tmp_path / "h.dcm", other)
    assert not (tmp_path / "h.dcm").exists()

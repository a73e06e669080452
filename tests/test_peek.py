"""Headers alone: the grid, size, hash and errors that reading the pixels gives."""

import contextlib
import gzip
import struct
import warnings

import numpy as np
import pytest
import SimpleITK as sitk

import habitat
from habitat import Geometry, Image
from habitat.errors import DicomError, HabitatError, HabitatWarning, InputError
from habitat.io import _files, _memory, read_dicom, read_mask
from habitat.io._digest import mask_hash, source_hash
from habitat.io._files import to_simpleitk, write
from habitat.io._peek import peek, peek_mask
from habitat.io._segmentations import write_seg_nrrd
from habitat.io._sources import read_any
from tests.dicom_factory import write_series
from tests.test_geometry import oblique
from tests.test_rtstruct import drawn, write_rtstruct

SHAPE = (5, 6, 7)
VALUES = np.random.default_rng(3).integers(1, 99, SHAPE)


def example(dtype=np.int16):
    return Image(VALUES.astype(dtype), oblique(SHAPE))


def saved(path, dtype=np.int16):
    sitk.WriteImage(to_simpleitk(example(dtype)), str(path))
    return path


def change(path, at, form, *values):
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, at, *values)
    path.write_bytes(raw)
    return path


def outcome(function, *arguments):
    """Result or error, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", HabitatWarning)
        try:
            found = function(*arguments)
        except HabitatError as error:
            found = error
    return found, [str(one.message) for one in heard]


def agree(source, modality=None):
    """Assert that `peek` and `read` say the same; return what `peek` says."""
    header, heard = outcome(peek, source, modality)
    image, said = outcome(read_any, source, modality)
    assert heard == said
    if isinstance(image, HabitatError):
        assert (type(header), str(header)) == (type(image), str(image))
    else:
        same(header, image)
        assert source_hash(source, modality) == image.source["sha256"]
    return header


def same(header, image):
    assert header.geometry.same_as(image.geometry)
    assert (header.n_voxels, header.n_bytes) == (image.array.size, image.array.nbytes)
    assert header.notes == image.notes


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, float])
def test_a_file_is_told_by_its_header(tmp_path, name, dtype):
    assert agree(saved(tmp_path / name, dtype)).unit is None


def test_detached_nrrd(tmp_path):
    agree(saved(tmp_path / "a.nhdr"))


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "b.nrrd", "b.mha", "l.seg.nrrd"])
def test_truncated_nrrd_and_metaimage(tmp_path, name):
    path = tmp_path / name
    if name == "l.seg.nrrd":
        labels = Image(np.ones(SHAPE, np.uint8), oblique(SHAPE))
        write_seg_nrrd(path, labels, ["rim"], [(1, 0, 0)])
    else:
        sitk.WriteImage(to_simpleitk(example()), str(path), name[0] == "a")
    peek_mask(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError):
        read_mask(path, label=1)
    with pytest.raises(InputError, match=r"file ends after \d+% of its voxels"):
        peek_mask(path)


@pytest.mark.parametrize("line", [(1.0, -1024.0), (0.5, 0.25)])
def test_scaled_values_count_as_they_are_loaded(tmp_path, line):
    agree(change(saved(tmp_path / "a.nii"), 112, "<2f", *line))


def broken(tmp_path):
    """Rows 1 to 6, 25 and 26 of the table of bad inputs, as files."""
    flat = sitk.GetImageFromArray(VALUES.astype(np.int16))
    four = sitk.JoinSeries([flat, flat])
    vector = sitk.Compose([flat, flat])
    made = {"four.nii": four, "four.nrrd": four, "vector.nii": vector}
    made |= {
        "vector.mha": vector,
        "flat.nrrd": flat[:, :, 2],
        "flat.nii": flat[:, :, 2],
    }
    for name, image in made.items():
        sitk.WriteImage(image, str(tmp_path / name))
    yield from (tmp_path / name for name in made)
    yield tmp_path / "missing.nii.gz"
    for name, text in (
        ("web.nii.gz", b"<html>"),
        ("a.png", b"\x89PNG"),
        ("a.nrrd", b""),
    ):
        (tmp_path / name).write_bytes(text)
        yield tmp_path / name
    whole = saved(tmp_path / "whole.nii").read_bytes()
    for kept in (348, 400, len(whole) - 1):
        for name, data in (("cut.nii", whole[:kept]), ("cut.nii.gz", None)):
            path = tmp_path / f"{kept}{name}"
            path.write_bytes(data or gzip.compress(whole[:kept]))
            yield path
    squeezed = gzip.compress(whole)
    cut = tmp_path / "half.nii.gz"
    cut.write_bytes(squeezed[: len(squeezed) - 60])
    yield cut
    for at, form, value in (
        (80, "<f", 0.0),
        (84, "<f", np.nan),
        (108, "<f", np.inf),
        (70, "<h", 32),
        (280, "<f", np.nan),
        (284, "<f", 9.0),
    ):
        yield change(saved(tmp_path / f"{at}.nii"), at, form, value)


def test_errors_and_notes_are_those_of_read(tmp_path):
    found = [agree(path) for path in broken(tmp_path)]
    assert sum(isinstance(one, HabitatError) for one in found) >= len(found) - 3


def test_pixels_are_not_read(tmp_path, monkeypatch):
    paths = [saved(tmp_path / name) for name in ("a.nii.gz", "a.nrrd")]
    folder = write_series(
        tmp_path / "CT", VALUES.astype(np.int16), modality="CT"
    ).folder

    def forbidden(*_):
        raise AssertionError("pixels")

    monkeypatch.setattr(_files, "inflate", forbidden)
    monkeypatch.setattr(sitk, "GetArrayFromImage", forbidden)
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", forbidden)
    monkeypatch.setattr("habitat.io._dicom._plane", forbidden)
    for path in [*paths, folder]:
        peek(path)
        source_hash(path)


def test_row_53_a_volume_larger_than_memory(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.nii")
    monkeypatch.setattr(_memory, "available", lambda: 1000)
    with pytest.raises(InputError, match="of memory"):
        peek(path)


def test_gzip_of_several_streams_and_trailing_bytes(tmp_path):
    whole = saved(tmp_path / "a.nii").read_bytes()
    for name, end in (("two", b""), ("tail", b"\0" * 9)):
        path = tmp_path / f"{name}.nii.gz"
        parts = gzip.compress(whole[:400]), gzip.compress(whole[400:])
        path.write_bytes(b"".join(parts) + end)
        agree(path)


# --- in memory ------------------------------------------------------------------------


def test_what_is_in_memory_is_hashed_by_all_that_it_is():
    image = example()
    affine = image.geometry.affine.copy()
    affine[0, 3] += 1
    others = [
        Image(image.array, image.geometry, unit="HU"),
        Image(image.array.astype(np.int32), image.geometry),
        Image(image.array, Geometry(SHAPE, affine)),
        Image(
            np.where(image.array == image.array.max(), 0, image.array), image.geometry
        ),
        image.array,
    ]
    hashes = [source_hash(one) for one in [image, *others]]
    assert len(set(hashes)) == len(hashes)
    assert source_hash(example()) == hashes[0]
    assert mask_hash(to_simpleitk(image)) == source_hash(to_simpleitk(image))
    same(peek(image), image)
    assert peek(to_simpleitk(image)).geometry.shape == SHAPE
    with pytest.raises(InputError, match="must be a path"):
        peek(image.array)


# --- DICOM ----------------------------------------------------------------------------


@pytest.fixture
def patient(tmp_path):
    """CT and PET in one folder each, and an RTSTRUCT of two structures on the CT."""
    grid = Geometry.from_spacing(SHAPE, (3, 2, 2))
    values = VALUES.astype(np.int16)
    ct = write_series(
        tmp_path / "CT", values, modality="CT", spacing_zyx=(3, 2, 2), intercept=-1024
    )
    write_series(tmp_path / "PET", values.astype(np.uint16), slopes=np.arange(1, 6) / 7)
    square = drawn([(1, 1), (1, 4), (4, 4), (4, 1)], range(1, 4), grid)
    uids = {"frame_uid": ct.frame_uid, "series_uid": ct.series_uid}
    write_rtstruct(tmp_path / "RS" / "rs.dcm", {"GTV": square, "node": square}, **uids)
    return tmp_path


def test_series_are_told_by_their_headers(patient):
    assert agree(patient / "CT").unit == "HU"
    assert agree(patient / "PET", "PT").unit == "SUVbw"
    assert agree(next((patient / "PET").iterdir())).kind == "DICOM"


def test_dicom_faults_are_those_of_read(patient, tmp_path):
    agree(patient / "nowhere")
    agree(patient / "PET", "CT")
    agree(patient / "RS")
    (tmp_path / "both").mkdir()
    for name in ("CT", "PET"):
        for path in (patient / name).iterdir():
            (tmp_path / "both" / path.name).write_bytes(path.read_bytes())
    assert agree(tmp_path / "both", "PT").unit == "SUVbw"
    assert isinstance(agree(tmp_path / "both"), DicomError)
    sorted((patient / "CT").iterdir())[2].unlink()
    assert "1 of 5 slices missing" in str(agree(patient / "CT"))


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientWeight": None},
        {"PatientWeight": 70_000.0},
        {"RadionuclideTotalDose": 368.0},
        {"CorrectedImage": ["NORM"]},
        {"Units": "PROPCPS"},
        {"RadiopharmaceuticalStartDateTime": "20200101123000"},
        {"NumberOfFrames": 3},
    ],
)
def test_rows_32_to_43_are_told_by_the_headers(tmp_path, tags):
    agree(write_series(tmp_path / "PET", VALUES.astype(np.uint16), **tags).folder)


def test_a_slice_that_was_not_copied_whole(patient):
    path = sorted((patient / "CT").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DicomError, match="pixels cannot be read"):
        read_dicom(patient / "CT")
    large = write_series(patient / "L", np.ones((2, 90, 90), np.int16), modality="CT")
    large.files[1].write_bytes(large.files[1].read_bytes()[:9000])
    with pytest.raises(DicomError, match="pixels cannot be read: the file ends after"):
        peek(large.folder)


# --- masks ----------------------------------------------------------------------------


def masks_agree(path, label, images):
    """Assert that `peek_mask` and `read_mask` say the same; return their errors."""
    header, _ = outcome(peek_mask, path, label, [peek(one) for one in images])
    references = [habitat.read(one) for one in images]
    mask, _ = outcome(lambda: read_mask(path, label=label, reference=references))
    if isinstance(mask, HabitatError):
        assert type(header) is type(mask)
        return str(header), str(mask)
    assert header.geometry.same_as(mask.geometry)
    assert header.n_bytes == mask.array.nbytes
    assert mask_hash(path) == mask.source["sha256"]
    return None


@pytest.mark.parametrize("label", ["GTV", 2, None, "heart"])
def test_rtstruct_with_the_names_of_its_structures(patient, label):
    said = masks_agree(patient / "RS", label, [patient / "CT", patient / "PET"])
    assert (said is None) == (label in ("GTV", 2))
    assert said is None or said[0] == said[1]


def test_row_41_rtstruct_of_another_frame_of_reference(patient, tmp_path):
    grid = Geometry.from_spacing(SHAPE, (3, 2, 2))
    square = drawn([(1, 1), (1, 4), (4, 4), (4, 1)], [2], grid)
    path = tmp_path / "other" / "deep" / "rs.dcm"
    write_rtstruct(path, {"GTV": square}, frame_uid="1.2.3", series_uid="1.2.4")
    said = masks_agree(path, None, [patient / "CT"])
    assert said[0] == said[1]
    assert "frame of reference" in said[0]


def test_seg_nrrd_names_its_segments(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    labels = Image(VALUES % 3, oblique(SHAPE)).replace((VALUES % 3).astype(np.uint8))
    write_seg_nrrd(path, labels, ["rim", "core"], [(1, 0, 0), (0, 1, 0)])
    assert masks_agree(path, "core", []) is None
    header, _ = masks_agree(path, None, [])
    assert "has 2 labels: {1 (rim), 2 (core)}" in header


def test_label_images(tmp_path):
    path = tmp_path / "a.nii.gz"
    write(Image(np.ones(SHAPE, np.uint8), oblique(SHAPE)), path)
    assert masks_agree(path, None, []) is None
    assert masks_agree(path, "tumor", []) is not None
    assert masks_agree(tmp_path / "none.nii", None, []) is not None


def test_a_real_structure_on_its_series(shared):
    folder = shared / "data/sts_petct_dicom/STS_006/CT"
    header, mask = peek(folder / "image"), peek_mask(folder / "mask")
    assert header.geometry.same_as(mask.geometry)
    assert mask.kind == "RTSTRUCT"


def test_damaged_headers_give_no_other_error(tmp_path):
    whole = saved(tmp_path / "a.nii").read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b.nii"
    for _ in range(60):
        raw = bytearray(whole)
        for at in rng.integers(0, 352, 6):
            raw[at] = rng.integers(256)
        path.write_bytes(raw)
        with warnings.catch_warnings(), contextlib.suppress(HabitatError):
            warnings.simplefilter("ignore", HabitatWarning)
            peek(path)

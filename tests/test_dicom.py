"""DICOM series to images: grid, values, and the ways a folder can be wrong."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEGLSLossless, RLELossless

from habitat.errors import (
    ConfigError,
    DicomError,
    HabitatError,
    HabitatWarning,
    InputError,
)
from habitat.io import _memory, read_dicom
from habitat.io._dicom import find_series
from tests.dicom_factory import write_series

RNG = np.random.default_rng(7)
CT = RNG.integers(-1000, 1000, (12, 5, 4)).astype(np.int16)


def tilted(angle_deg=20.0):
    """Columns z, y, x of axes turned about x, as `Geometry.directions`."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    x, y = np.array([1.0, 0, 0]), np.array([0, c, s])
    return np.stack([np.cross(x, y), y, x], axis=1)


# --- values and grid ------------------------------------------------------------------


def test_ct_has_its_values_grid_and_unit(tmp_path):
    written = write_series(
        tmp_path,
        CT,
        modality="CT",
        spacing_zyx=(3, 2, 1.5),
        origin_xyz=(-10, 20, 30),
        intercept=-24,
        Manufacturer="ACME",
        KVP=120,
    )
    image = read_dicom(str(tmp_path))
    np.testing.assert_array_equal(image.array, CT.astype(int) - 24)
    assert image.array.dtype == np.int32  # -32768 - 24 does not fit in int16
    assert image.unit == "HU"
    assert image.geometry.spacing == (3, 2, 1.5)
    np.testing.assert_allclose(image.geometry.world((1, 1, 1)), (-8.5, 22, 33))
    assert image.meta["series_uid"] == written.series_uid
    assert image.meta["frame_of_reference_uid"] == written.frame_uid
    assert image.meta["manufacturer"] == "ACME"
    assert image.meta["kvp"] == 120
    json.dumps(image.meta)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in written.files))
    assert image.source == {"path": str(tmp_path), "sha256": digest.hexdigest()}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, np.int16),
        ({"BitsStored": 12, "HighBit": 11, "intercept": -1024}, np.int16),
        ({"slopes": 2}, np.int32),
        ({"intercept": 0.5}, np.float32),
    ],
)
def test_ct_keeps_the_smallest_exact_type(tmp_path, tags, expected):
    write_series(tmp_path, CT, modality="CT", **tags)
    image = read_dicom(tmp_path)
    assert image.array.dtype == expected
    line = CT * float(tags.get("slopes", 1)) + tags.get("intercept", 0)
    np.testing.assert_array_equal(image.array, line.astype(np.float32))


def test_oblique_stack_in_any_file_order(tmp_path):
    axes = tilted()
    written = write_series(tmp_path, CT, modality="CT", directions=axes)
    for i, path in enumerate(written.files):  # names that say nothing of the order
        path.rename(path.with_name(f"{(i * 7) % 12:03d}.ima"))
    image = read_dicom(tmp_path)
    np.testing.assert_array_equal(image.array, CT)
    np.testing.assert_allclose(image.geometry.directions, axes, atol=1e-9)


def test_slices_run_along_their_normal_whatever_the_direction_written(tmp_path):
    down = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # z axis to the feet
    write_series(tmp_path, CT, modality="CT", directions=down)
    image = read_dicom(tmp_path)
    np.testing.assert_array_equal(image.array, CT[::-1])
    np.testing.assert_allclose(image.geometry.affine[:3, 3], (0, 0, -44))


def test_the_grid_is_that_of_simpleitk(tmp_path):
    axes = tilted(-35)
    write_series(tmp_path, CT, modality="CT", directions=axes, origin_xyz=(5, -6, 7))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    itk = sitk.ReadImage(names, sitk.sitkInt32)
    image = read_dicom(tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(itk), image.array)
    for z, y, x in ((0, 0, 0), (11, 4, 3), (3, 1, 2)):
        point = itk.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(image.geometry.world((z, y, x)), point, atol=1e-4)


def test_positions_rounded_by_the_scanner_are_fine(tmp_path):
    places = [(0, 0, round(3.27 * z, 1)) for z in range(12)]
    write_series(tmp_path, CT, modality="CT", positions=places)
    assert read_dicom(tmp_path).geometry.spacing[0] == pytest.approx(3.27, abs=0.005)


def test_mr_has_no_unit(tmp_path):
    write_series(tmp_path, CT.clip(0), modality="MR", slopes=0.5, EchoTime=3.2)
    image = read_dicom(tmp_path)
    assert image.unit is None
    assert image.meta["echo_time_ms"] == 3.2
    np.testing.assert_array_equal(image.array, CT.clip(0) / 2)


def test_one_file_stands_for_its_series(tmp_path):
    one = write_series(tmp_path, CT, modality="CT")
    write_series(tmp_path, CT + 1, modality="CT")
    np.testing.assert_array_equal(read_dicom(one.files[4]).array, CT)


def test_single_slice_takes_its_thickness(tmp_path):
    write_series(tmp_path / "a", CT[:1], modality="CT", spacing_zyx=(5, 2, 2))
    assert read_dicom(tmp_path / "a").geometry.spacing == (5, 2, 2)
    write_series(tmp_path / "b", CT[:1], modality="CT", SliceThickness=None)
    with pytest.warns(HabitatWarning, match="without thickness, taken as 1 mm"):
        image = read_dicom(tmp_path / "b")
    assert image.geometry.spacing[0] == 1
    assert "taken as 1 mm" in image.notes[0]


# --- PET slopes: the trap of readers that take the first slice's type -----------------


def test_slope_per_slice_survives_where_a_series_reader_destroys_it(tmp_path):
    stored = np.full((3, 2, 2), 10_000, np.int16)
    slopes = [1.0, 0.37, 12.345]  # the first, an integer, makes ITK choose int16
    write_series(tmp_path, stored, slopes=slopes)
    truth = 10_000 * np.array(slopes)
    image = read_dicom(tmp_path, suv="Bq/mL")
    np.testing.assert_allclose(image.array[:, 0, 0], truth, rtol=1e-7)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    destroyed = sitk.GetArrayFromImage(sitk.ReadImage(names))[:, 0, 0]
    assert destroyed.dtype == np.int16
    assert not np.allclose(destroyed, truth, rtol=0.1)


# --- compressed pixels ----------------------------------------------------------------


def compress(written, uid):
    for path in written.files:
        ds = pydicom.dcmread(path)
        ds.compress(uid, generate_instance_uid=False)
        ds.save_as(path)


@pytest.mark.parametrize("uid", [JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_compressed_slices_equal_plain_ones(tmp_path, uid, modality):
    stored = np.linspace(-32768, 32767, 3600).astype(np.int16).reshape(3, 30, 40)
    plain, packed = (
        write_series(
            tmp_path / name, stored, modality=modality, slopes=[3.0, 0.37, 1.0]
        )
        for name in ("plain", "packed")
    )
    compress(packed, uid)
    expected, got = read_dicom(plain.folder), read_dicom(packed.folder)
    np.testing.assert_array_equal(got.array, expected.array)
    assert got.array.dtype == expected.array.dtype


def test_jpeg_2000_is_decoded(tmp_path):
    image = sitk.GetImageFromArray(np.arange(4096, dtype=np.int16).reshape(64, 64))
    writer = sitk.ImageFileWriter()
    for key, value in {
        "0008|0060": "CT",
        "0020|000e": "1.2.3",
        "0020|0032": "0\\0\\0",
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0028|1052": "-1024",
        "0028|1053": "1",
    }.items():
        image.SetMetaData(key, value)
    (tmp_path / "j2k").mkdir()
    writer.SetFileName(str(tmp_path / "j2k" / "a.dcm"))
    writer.SetImageIO("GDCMImageIO")
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG2000")
    writer.KeepOriginalImageUIDOn()
    writer.Execute(image)
    header = pydicom.dcmread(tmp_path / "j2k" / "a.dcm")
    assert "JPEG 2000" in header.file_meta.TransferSyntaxUID.name
    with pytest.warns(HabitatWarning, match="taken as 1 mm"):
        values = read_dicom(tmp_path / "j2k").array
    np.testing.assert_array_equal(values.ravel(), np.arange(4096))


def test_undecodable_pixels_name_the_transfer_syntax(tmp_path):
    written = write_series(tmp_path, CT, modality="CT")
    ds = pydicom.dcmread(written.files[3])
    ds.PixelData = pydicom.encaps.encapsulate([b"\0" * 10])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.57"
    ds.save_as(written.files[3])
    with pytest.raises(DicomError, match="JPEG Lossless, Non-Hierarchical") as caught:
        read_dicom(tmp_path)
    assert written.files[3].name in caught.value.where


# --- choosing a series ----------------------------------------------------------------


def test_several_series_are_listed_and_chosen(tmp_path):
    ct = write_series(
        tmp_path, CT, modality="CT", SeriesDescription="Thorax", SeriesNumber=2
    )
    pet = write_series(
        tmp_path, CT[:3] + 2000, SeriesDescription="PET AC", SeriesNumber=3
    )
    with pytest.raises(DicomError, match="2 series, one is needed") as caught:
        read_dicom(tmp_path)
    assert f"{ct.series_uid} (CT 'Thorax', number 2, 12 slices)" in str(caught.value)
    assert f"{pet.series_uid} (PT 'PET AC', number 3, 3 slices)" in str(caught.value)
    assert "choose with `habitat.read_dicom(folder, series=...)`" in str(caught.value)
    for name in (ct.series_uid, "Thorax", 2, "2", "CT"):
        np.testing.assert_array_equal(read_dicom(tmp_path, series=name).array, CT)
    with pytest.raises(DicomError, match="0 series named 'Abdomen'"):
        read_dicom(tmp_path, series="Abdomen")


def test_other_objects_and_files_are_passed_over(tmp_path):
    written = write_series(tmp_path / "image", CT, modality="CT")
    for modality, number in (("RTSTRUCT", "481.3"), ("SEG", "66.4"), ("DIR", "3")):
        ds = pydicom.dcmread(written.files[0])
        ds.Modality, ds.SeriesInstanceUID = modality, f"1.2.{len(modality)}"
        ds.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{number}"
        if modality == "DIR":
            del ds.Rows
        ds.save_as(tmp_path / "image" / f"{modality}.dcm")
    (tmp_path / "image" / "notes.txt").write_text("no image")
    (tmp_path / "image" / "preview.jpg").write_bytes(b"\xff\xd8" + bytes(300))
    (tmp_path / "image" / "._IM1.dcm").write_bytes(b"\0\5\x16\7" * 99)  # macOS
    assert list(find_series(tmp_path)) == [written.series_uid]  # one level below
    np.testing.assert_array_equal(read_dicom(tmp_path).array, CT)
    with pytest.raises(DicomError, match=r"is not an image slice \(RTSTRUCT\)"):
        read_dicom(tmp_path / "image" / "RTSTRUCT.dcm")
    for path in written.files:
        path.unlink()
    with pytest.raises(
        DicomError, match="no DICOM image series, only DIR, RTSTRUCT, S"
    ):
        read_dicom(tmp_path / "image")


def test_a_bad_series_does_not_hide_a_good_one(tmp_path):
    bad = write_series(tmp_path, CT, modality="CT")
    bad.files[5].unlink()
    good = write_series(tmp_path, CT, modality="CT")
    found = find_series(tmp_path)
    assert found[good.series_uid].geometry.shape == CT.shape
    assert found[good.series_uid].frame_uid == good.frame_uid
    with pytest.raises(DicomError, match="1 of 12 slices missing"):
        _ = found[bad.series_uid].geometry


def test_nothing_there(tmp_path):
    with pytest.raises(DicomError, match="holds no DICOM image series"):
        read_dicom(tmp_path)
    with pytest.raises(InputError, match="folder not found"):
        read_dicom(tmp_path / "absent")
    with pytest.raises(ConfigError, match="did you mean 'SUVbw'"):
        read_dicom(tmp_path, suv="SUVBW")


@pytest.mark.parametrize("below", ["DICOM/PA0/ST0/SE0", "study/series"])
def test_series_in_nested_folders(tmp_path, below):
    written = write_series(tmp_path / below, CT, modality="CT")
    (tmp_path / "DICOMDIR").write_text("no image")
    np.testing.assert_array_equal(read_dicom(tmp_path).array, CT)
    (tmp_path / below / "loop").symlink_to(tmp_path)
    assert list(find_series(tmp_path)) == [written.series_uid]
    with pytest.raises(DicomError, match="holds no DICOM image series"):
        read_dicom(write_text(tmp_path / "other" / "notes.txt").parent)


def write_text(path):
    path.parent.mkdir(parents=True)
    path.write_text("no image")
    return path


@pytest.mark.parametrize("bare", ["meta", "explicit", "implicit"])
def test_files_without_a_preamble(tmp_path, bare):
    for path in write_series(tmp_path, CT, modality="CT").files:
        ds = pydicom.dcmread(path)
        if bare == "meta":
            path.write_bytes(path.read_bytes()[132:])
            continue
        plain = pydicom.Dataset({tag: ds[tag] for tag in ds.keys()})  # noqa: SIM118
        plain.save_as(path, implicit_vr=bare == "implicit", little_endian=True)
    np.testing.assert_array_equal(read_dicom(tmp_path).array, CT)


@pytest.mark.parametrize("how", ["beside", "in two folders", "folder linked twice"])
def test_copies_of_files_count_once(tmp_path, how):
    written = write_series(tmp_path / "a", CT, modality="CT")
    if how == "beside":
        for path in written.files:
            shutil.copy(path, path.with_name(f"{path.stem} (1).dcm"))
    elif how == "in two folders":
        shutil.copytree(tmp_path / "a", tmp_path / "b")
    else:
        (tmp_path / "b").symlink_to(tmp_path / "a")
    image = read_dicom(tmp_path)
    np.testing.assert_array_equal(image.array, CT)
    assert any("12 files are copies of others" in note for note in image.notes)


def test_localizers_do_not_hide_the_series(tmp_path):
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    written = write_series(tmp_path, CT, modality="CT")
    own = write_series(
        tmp_path, CT[:2], modality="CT", positions=[(0, 0, 0), (9, 0, 0)], **scout
    )
    turned = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    inside = write_series(
        tmp_path / "scout",
        np.zeros((1, 9, 9), np.int16),
        modality="CT",
        series_uid=written.series_uid,
        origin_xyz=(0, 0, 500),
        **scout,
        **turned,
    )
    inside.files[0].rename(tmp_path / "scout.dcm")
    image = read_dicom(tmp_path)
    np.testing.assert_array_equal(image.array, CT)
    assert any("3 localizer images passed over" in note for note in image.notes)
    with pytest.raises(DicomError, match=r"not an image slice \(CT localizer\)"):
        read_dicom(own.files[0])


def test_projections_are_warned_about(tmp_path):
    write_series(
        tmp_path, CT, modality="CT", ImageType=["DERIVED", "SECONDARY", "AXIAL", "MIP"]
    )
    with pytest.warns(HabitatWarning, match="maximum intensity projections"):
        read_dicom(tmp_path)


# --- folders that are wrong -----------------------------------------------------------


def broken(tmp_path, match, **kwargs):
    write_series(tmp_path, CT, modality="CT", **kwargs)
    with pytest.raises(DicomError, match=match) as caught:
        read_dicom(tmp_path)
    return str(caught.value)


def test_missing_slices_are_counted_and_placed(tmp_path):
    written = write_series(tmp_path, CT, modality="CT", spacing_zyx=(3, 1, 1))
    written.files[4].unlink()
    written.files[5].unlink()
    with pytest.raises(DicomError, match="2 of 12 slices missing near z=12"):
        read_dicom(tmp_path)


def test_slices_missing_at_the_end_are_told_by_the_header(tmp_path):
    written = write_series(tmp_path, CT, modality="CT", NumberOfSlices=12)
    written.files[11].unlink()
    with pytest.warns(HabitatWarning, match="11 slices found, the header announces 12"):
        read_dicom(tmp_path)


def other_version(path, to):
    """Write the same instance with other pixels."""
    ds = pydicom.dcmread(path)
    ds.PixelData = bytes(len(ds.PixelData))
    ds.save_as(to)


def test_double_slices_name_their_files(tmp_path):
    written = write_series(tmp_path, CT, modality="CT")
    other_version(written.files[2], tmp_path / "copy.dcm")
    with pytest.raises(DicomError, match=r"1 slices are double, .* z=8 ") as caught:
        read_dicom(tmp_path)
    assert "copy.dcm" in str(caught.value)
    assert written.files[2].name in str(caught.value)


def test_double_and_missing_are_told_together(tmp_path):
    written = write_series(tmp_path, CT, modality="CT")
    other_version(written.files[2], tmp_path / "copy.dcm")
    written.files[7].unlink()
    with pytest.raises(
        DicomError, match=r"double.*\n.*1 of 12 slices missing near z=28"
    ):
        read_dicom(tmp_path)


def test_all_slices_in_one_place(tmp_path):
    places = [(0, 0, 0)] * 12
    broken(tmp_path, "11 slices are double", positions=places)


def test_color_is_no_image(tmp_path):
    written = write_series(tmp_path, CT, modality="CT")
    ds = pydicom.dcmread(written.files[0])
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 3, "RGB"
    ds.PlanarConfiguration = 0
    ds.PixelData *= 3
    ds.save_as(written.files[0])
    with pytest.raises(DicomError, match="pixels are colors, not gray values"):
        read_dicom(tmp_path)


def test_two_time_points_in_one_series(tmp_path):
    write_series(tmp_path, CT, modality="CT", series_uid="1.2.3", frame_uid="1.2")
    for i, path in enumerate(sorted(tmp_path.iterdir())):
        path.rename(tmp_path / f"first{i}.dcm")
    write_series(tmp_path, CT, modality="CT", series_uid="1.2.3", frame_uid="1.2")
    with pytest.raises(DicomError, match=r"12 slices are double.*time points"):
        read_dicom(tmp_path)


@pytest.mark.parametrize(
    ("key", "values", "text"),
    [
        (
            "FrameReferenceTime",
            [1000, 2000, 10000],
            " with FrameReferenceTime 1000.0, 2000.0, 10000.0",
        ),
        ("AcquisitionNumber", [1, 2, 3], " with AcquisitionNumber 1, 2, 3"),
        ("AcquisitionNumber", [1, 2, 2], ": 8 slices are double"),
    ],
)
@pytest.mark.parametrize("kind", ["DYNAMIC", "GATED", None])
def test_volumes_in_one_series_are_counted(tmp_path, kind, key, values, text):
    write_series(
        tmp_path,
        CT + 2000,
        positions=[(0, 0, 4 * z) for z in range(4)] * 3,
        SeriesType=kind and [kind, "IMAGE"],
        per_slice={key: np.repeat(values, 4).tolist()},
    )
    with pytest.raises(DicomError) as caught:
        read_dicom(tmp_path)
    assert f"3 images at each of 4 positions{text}" in caught.value.what
    said = f"{kind} PET, 3 time points: ".lower() in caught.value.what.lower()
    assert said == (kind is not None)


def test_the_odd_slice_is_named(tmp_path):
    sizes = [[1, 1], *[[2, 2]] * 11]
    text = broken(tmp_path, "PixelSpacing", per_slice={"PixelSpacing": sizes})
    assert "2 2 in 11 of them, 1 1 in" in text
    assert "_0000.dcm" in text


def test_gantry_tilt(tmp_path):
    places = [(0, 0.5 * z, 4.0 * z) for z in range(12)]
    broken(tmp_path, "sheared by 7.13 degrees .gantry tilt.; convert", positions=places)


def test_uneven_slices(tmp_path):
    places = [(0, 0, 4.0 * z + (z > 5)) for z in range(12)]
    broken(tmp_path, "vary from 4.000 to 5.000 mm", positions=places)


def test_mixed_orientations_sizes_and_frames(tmp_path):
    sagittal = [[0, 1, 0, 0, 0, -1]] + [[1, 0, 0, 0, 1, 0]] * 11
    text = broken(
        tmp_path / "a",
        "ImageOrientationPatient differs between slices",
        per_slice={"ImageOrientationPatient": sagittal},
    )
    assert "localizer" in text
    broken(
        tmp_path / "b",
        "PixelSpacing differs between slices: 1 1 in 8 of them, 2 2 in",
        per_slice={"PixelSpacing": [[1, 1]] * 8 + [[2, 2]] * 4},
    )
    broken(tmp_path / "c", "Rows differs", per_slice={"Rows": [5] * 11 + [4]})
    broken(
        tmp_path / "d",
        "of 2 frames of reference",
        per_slice={"FrameOfReferenceUID": ["1.2"] * 6 + ["1.3"] * 6},
    )


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"ImageOrientationPatient": None}, "ImageOrientationPatient is missing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not two perpendicular"),
        ({"PixelSpacing": None}, "PixelSpacing is missing"),
        ({"PixelSpacing": [0, 1]}, "5 x 4 pixels of 0 x 1 mm"),
        ({"Rows": 7}, "pixels cannot be read .transfer syntax Explicit VR Little"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "are colors, not gray"),
        ({"SamplesPerPixel": 3}, "cannot be read"),
        # bits that pydicom would take from the wrong end
        ({"BitsStored": 12, "HighBit": 15}, "HighBit is 15, not BitsStored - 1 = 11"),
        ({"slopes": 0}, "RescaleSlope is 0"),
    ],
)
def test_bad_slices(tmp_path, tags, message):
    broken(tmp_path, message, **tags)


def test_garbage_for_a_slope_is_not_taken_as_one(tmp_path):
    written = write_series(tmp_path, CT, modality="CT", slopes=1.25)
    data = written.files[6].read_bytes()
    written.files[6].write_bytes(data.replace(b"1.25", b"x.25"))
    with pytest.raises(DicomError, match="RescaleSlope is not a number below 1e12"):
        read_dicom(tmp_path)


def test_truncated_pixels(tmp_path):
    written = write_series(tmp_path, CT, modality="CT")
    data = written.files[6].read_bytes()
    written.files[6].write_bytes(data[:-10])
    with pytest.raises(DicomError, match=r"less than expected .30 vs 40") as caught:
        read_dicom(tmp_path)
    assert "copy or export it again" in str(caught.value)
    written.files[6].write_bytes(data[:-48])  # not even the element is left
    with pytest.raises(DicomError, match="pixels cannot be read"):
        read_dicom(tmp_path)
    written.files[6].write_bytes(data[:-60])  # nor the last of the header
    with pytest.raises(DicomError, match="RescaleSlope is missing in 1 of 12 slices"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("keep", [0, 140, 700])
def test_damaged_headers_are_warned_about(tmp_path, keep):
    written = write_series(tmp_path, CT, modality="CT")
    data = written.files[-1].read_bytes()
    written.files[-1].write_bytes(data[:keep])
    with pytest.warns(HabitatWarning, match="1 DICOM files are damaged") as caught:
        image = read_dicom(tmp_path)
    assert written.files[-1].name in str(caught[0].message)
    assert image.array.shape[0] == 11
    assert str(caught[0].message) in image.notes


def test_files_cut_to_nothing_or_forbidden_are_not_overlooked(tmp_path, monkeypatch):
    written = write_series(tmp_path, CT, modality="CT")
    for i, path in enumerate(written.files):
        path.rename(tmp_path / f"IM{i:02d}")
    (tmp_path / "IM11").write_bytes(b"")
    with pytest.warns(HabitatWarning, match="1 DICOM files are damaged.*: IM11"):
        assert len(read_dicom(tmp_path).array) == 11
    really = Path.open

    def forbidden(path, *args, **kwargs):
        if path.name == "IM10":
            raise PermissionError(13, "Permission denied")
        return really(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.warns(HabitatWarning, match="2 DICOM files are .*: IM10, IM11"):
        assert len(read_dicom(tmp_path).array) == 10


@pytest.mark.parametrize(
    "tags", [{"NumberOfFrames": 12}, {"SharedFunctionalGroupsSequence": []}]
)
def test_multi_frame_is_not_supported(tmp_path, tags):
    write_series(tmp_path, CT[:1] + 2000, **tags)
    with pytest.raises(DicomError, match=r"multi-frame PT is not supp.*dcm2niix"):
        read_dicom(tmp_path)


def test_memory_is_checked_before_pixels_are_read(tmp_path, monkeypatch):
    write_series(tmp_path, CT, modality="CT", Rows=60_000, Columns=60_000)
    monkeypatch.setattr(_memory, "available", lambda: 8_000_000_000)
    with pytest.raises(InputError, match=r"needs 172.8 GB of memory, 8.0 GB are free"):
        read_dicom(tmp_path)


def test_memory_is_not_checked_where_it_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(_memory, "_MEMINFO", tmp_path / "absent")
    assert _memory.available() is None
    _memory.check_memory(10**18, "anything")


def test_remarks_of_pydicom_are_not_passed_on(tmp_path):
    write_series(tmp_path, CT, modality="CT", StudyID="longer than is allowed for SH")
    read_dicom(tmp_path)  # every warning is an error here


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_raise_only_habitat_errors(tmp_path):
    rng = np.random.default_rng(1)
    written = write_series(tmp_path, CT[:1] + 2000)
    whole = written.files[0].read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(132, len(data), rng.integers(1, 6)):
            data[at] = rng.choice([0, 32, 45, 46, 57, 92, 255])
        written.files[0].write_bytes(data)
        with contextlib.suppress(HabitatError):
            read_dicom(tmp_path)


# --- a real series, and the NIfTI version of it ---------------------------------------


@pytest.mark.parametrize(("name", "unit"), [("PET", "SUVbw"), ("CT", "HU")])
def test_real_series_equals_its_nifti(shared, name, unit):
    folder = shared / "data/sts_petct_dicom/STS_006" / name / "image"
    if name == "PET":
        with pytest.warns(HabitatWarning, match="uptake time is 93 min"):
            image = read_dicom(folder)
    else:
        image = read_dicom(folder)
    path = shared / f"data/sts_petct/STS_006/{name}_image.nii.gz"
    nifti = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(nifti)
    origin = image.geometry.index(nifti.GetOrigin())  # zyx, where the crop starts
    start = np.rint(origin).astype(int)
    np.testing.assert_allclose(origin, start, atol=1e-3)
    np.testing.assert_allclose(
        nifti.GetSpacing()[::-1], image.geometry.spacing, rtol=1e-5
    )
    z, y, x = (slice(a, a + n) for a, n in zip(start, values.shape, strict=True))
    np.testing.assert_allclose(image.array[z, y, x], values, rtol=1e-6, atol=1e-6)
    assert image.unit == unit

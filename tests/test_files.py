"""NIfTI, NRRD and MetaImage files: right values, right place, clear refusals."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

import habitat
from habitat import Image
from habitat.errors import GeometryError, HabitatWarning, InputError
from habitat.io import _memory
from habitat.io._files import to_simpleitk, write
from tests.test_geometry import oblique


def example(dtype=np.int16, shape=(5, 6, 7)):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, shape).astype(dtype)
    return Image(values, oblique(shape))


def change(path, at, form, *values):
    raw = bytearray(path.read_bytes())
    struct.pack_into(form, raw, at, *values)
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, float])
def test_reads_what_simpleitk_wrote(tmp_path, name, dtype):
    image = example(dtype)
    sitk.WriteImage(to_simpleitk(image), str(tmp_path / name))
    back = habitat.read(tmp_path / name)
    np.testing.assert_array_equal(back.array, image.array)
    assert back.array.dtype == dtype
    np.testing.assert_allclose(back.geometry.affine, image.geometry.affine, atol=1e-4)
    assert len(back.source["sha256"]) == 64
    assert back.unit is None


def test_slope_and_intercept_of_a_nifti_are_applied(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    change(path, 112, "<2f", 1.0, -1024.0)
    back = habitat.read(path)
    np.testing.assert_array_equal(back.array, example().array.astype(int) - 1024)
    assert back.array.dtype.kind == "i"
    change(path, 112, "<2f", 0.5, 0.25)
    oracle = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_allclose(habitat.read(path).array, oracle, rtol=1e-6)


def test_big_endian_nifti(tmp_path):
    nib_like = example()
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(nib_like), str(path))
    raw = path.read_bytes()
    swapped = bytearray(raw)
    layout = "i10s18sihcc8h3f4h8f3fhcc4f2i80s24s2h6f12f16s4s"
    fields = struct.unpack_from("<" + layout, raw)
    struct.pack_into(">" + layout, swapped, 0, *fields)
    swapped[352:] = np.frombuffer(raw[352:], "<i2").astype(">i2").tobytes()
    path.write_bytes(swapped)
    np.testing.assert_array_equal(habitat.read(path).array, nib_like.array)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_nifti_is_refused_although_itk_reads_zeros(tmp_path, name):
    path = tmp_path / name
    sitk.WriteImage(to_simpleitk(example(np.float64, (20, 20, 20))), str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.51)])
    itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert (itk[-1] == 0).all()  # the trap
    with pytest.raises(InputError, match=r"file ends after \d+% of its voxels; copy"):
        habitat.read(path)


def test_share_of_a_truncated_file_is_right(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example(np.float64, (20, 20, 20))), str(path))
    path.write_bytes(path.read_bytes()[: 352 + 8 * 8000 * 51 // 100])
    with pytest.raises(InputError, match="file ends after 51% of its voxels"):
        habitat.read(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_truncated_nrrd_and_metaimage_are_refused(tmp_path, name):
    path = tmp_path / name
    sitk.WriteImage(to_simpleitk(example()), str(path), True)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot be read"):
        habitat.read(path)


def test_damaged_gzip_is_refused(tmp_path):
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(to_simpleitk(example(np.float64, (20, 20, 20))), str(path))
    raw = bytearray(path.read_bytes())
    raw[-1000:-500] = bytes(500)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="damaged|file ends"):
        habitat.read(path)


def test_web_page_named_nifti(tmp_path):
    for name in ("a.nii.gz", "a.nii"):
        path = tmp_path / name
        path.write_text("<html><body>404 not found</body></html>")
        with pytest.raises(InputError, match=r"not a NIfTI \(first bytes '<htm'\)"):
            habitat.read(path)


def test_missing_and_unknown_files(tmp_path):
    with pytest.raises(InputError, match=r"no\.nii: not found"):
        habitat.read(tmp_path / "no.nii")
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG....")
    with pytest.raises(InputError, match="neither NIfTI, NRRD, MetaImage nor DICOM"):
        habitat.read(path)
    with pytest.raises(InputError, match=r"habitat\.Image\(array, spacing="):
        habitat.read(np.zeros((2, 2, 2)))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
def test_four_dimensional_image(tmp_path, name):
    image = sitk.GetImageFromArray(np.zeros((5, 4, 3, 2), np.float32), isVector=False)
    sitk.WriteImage(image, str(tmp_path / name))
    with pytest.raises(InputError, match=r"4-D image \(5 volumes\).*one.*per channel"):
        habitat.read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd", "a.mha"])
def test_vector_and_color_images(tmp_path, name):
    for dtype in (np.uint8, np.float32):
        image = sitk.GetImageFromArray(np.zeros((4, 3, 2, 3), dtype), isVector=True)
        sitk.WriteImage(image, str(tmp_path / name))
        with pytest.raises(InputError, match=r"values in each voxel|RGB|volumes"):
            habitat.read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nrrd"])
def test_two_dimensional_file_becomes_one_slice_with_a_warning(tmp_path, name):
    image = sitk.GetImageFromArray(np.ones((4, 3), np.float32))
    image.SetSpacing((2.0, 3.0))
    sitk.WriteImage(image, str(tmp_path / name))
    with pytest.warns(HabitatWarning, match="single slice"):
        back = habitat.read(tmp_path / name)
    assert back.array.shape == (1, 4, 3)
    assert back.geometry.spacing == (1.0, 3.0, 2.0)
    assert back.notes


@pytest.mark.parametrize("pixdim", [0.0, -2.0, float("nan")])
def test_zero_negative_and_nan_spacing(tmp_path, pixdim):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    change(path, 80, "<f", pixdim)
    with pytest.raises(GeometryError, match="spacing must be positive"):
        habitat.read(path)


def test_sheared_and_nan_affine(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    change(path, 252, "<h", 0)  # no quaternion: the rows decide
    change(path, 280, "<12f", -1.5, 1, 0, 0, 0, -(3**0.5), 0, 0, 0, 0, 3, 0)
    with pytest.raises(GeometryError, match=r"a\.nii.*sheared.*resample"):
        habitat.read(path)
    change(path, 280, "<f", float("nan"))
    with pytest.raises(GeometryError, match="NaN"):
        habitat.read(path)


def test_a_volume_larger_than_memory_is_refused_from_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example(np.float32)), str(path))
    change(path, 40, "<8h", 3, 1000, 1000, 1000, 1, 1, 1, 1)
    monkeypatch.setattr(_memory, "available", lambda: 4_000_000_000)
    with pytest.raises(InputError, match=r"needs 8\.0 GB of memory, 4\.0 GB are free"):
        habitat.read(path)
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"8\.0 GB"):
        habitat.read(packed)


def test_units_are_stated_once(tmp_path):
    write(example(), tmp_path / "a.nii.gz")
    assert habitat.read(tmp_path / "a.nii.gz", unit="HU").unit == "HU"
    with pytest.raises(InputError, match="unit 'HU' already"):
        habitat.read(habitat.read(tmp_path / "a.nii.gz", unit="HU"), unit="SUVbw")


def test_writing_leaves_no_partial_file(tmp_path):
    write(example(), tmp_path / "a.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    with pytest.raises(InputError, match="cannot be written"):
        write(example(), tmp_path / "no_such_folder" / "a.nii.gz")
    with pytest.raises(InputError, match="cannot be written"):
        write(example(), tmp_path / "a.unknown")
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_large_slopes_do_not_wrap_around(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    for slope, intercept in [(1e5, 0), (1e10, 0), (1, 3e9), (100000, -7)]:
        change(path, 112, "<2f", slope, intercept)
        truth = example().array.astype(float) * np.float32(slope)
        truth += float(np.float32(intercept))
        np.testing.assert_allclose(habitat.read(path).array, truth, rtol=1e-6)


def test_unsigned_values_do_not_wrap_around(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example(np.uint32)), str(path))
    change(path, 112, "<2f", 1.0, -1024.0)
    truth = example().array.astype(int) - 1024
    np.testing.assert_array_equal(habitat.read(path).array, truth)


def test_spacings_that_contradict_each_other_are_refused(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    change(path, 252, "<h", 0)
    change(path, 76, "<4f", 1, 4, 4, 4)
    with pytest.raises(GeometryError, match=r"pixdim \(4.* and sform \(1\.5"):
        habitat.read(path)


def test_a_header_without_orientation_is_said(tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    change(path, 252, "<2h", 0, 0)
    with pytest.warns(HabitatWarning, match="no orientation: check the sides"):
        assert habitat.read(path).notes


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -1.0])
def test_odd_voxel_offsets_are_refused(tmp_path, offset):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_simpleitk(example()), str(path))
    change(path, 108, "<f", offset)
    with pytest.raises(InputError, match="voxels start at byte"):
        habitat.read(path)


def test_other_nifti_kinds_say_what_to_do(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(struct.pack("<i", 540) + bytes(400))
    with pytest.raises(InputError, match="is NIfTI-2; convert it"):
        habitat.read(path)
    sitk.WriteImage(to_simpleitk(example()), str(path))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"gzip-compressed; rename it to \.nii\.gz"):
        habitat.read(path)


def test_the_hash_of_a_detached_header_covers_its_voxels(tmp_path):
    hashes = set()
    for add in (0, 1):
        image = example()
        path = tmp_path / "a.mhd"
        sitk.WriteImage(to_simpleitk(image.replace(image.array + add)), str(path))
        hashes.add(habitat.read(path).source["sha256"])
    assert len(hashes) == 2

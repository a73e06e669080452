"""A disk that is full: what is written is whole, or an error says that it is not.

No file can grow beyond the limit of its process (RLIMIT_FSIZE): the system then takes a
part of what is written, as a full disk does. SimpleITK says nothing of that for NIfTI
and, near the end of the file, for NRRD. With root's rights a real disk is full too.
"""

import gzip
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import SimpleITK as sitk

from habitat import Image, read, write
from habitat.errors import InputError
from habitat.saving import write_arrays, write_folder, write_json, write_text

resource = pytest.importorskip("resource")  # not on Windows
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".vtk")
READABLE = ENDINGS[:-1]  # by habitat
RNG = np.random.default_rng(0)
NOISE = Image(RNG.integers(0, 256, (8, 32, 32), dtype=np.uint8), spacing=(1, 1, 1))
EMPTY = NOISE.replace(np.zeros_like(NOISE.array))  # ITK reads lost voxels as 0


@contextmanager
def largest_file(n_bytes):
    """Let no file of this process grow larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def written(image, folder, ending):
    """Sizes of the files of an image that was written whole."""
    folder.mkdir(exist_ok=True)
    write(image, folder / f"x{ending}")
    return [path.stat().st_size for path in folder.iterdir()]


@pytest.mark.parametrize("image", [NOISE, EMPTY], ids=["noise", "zeros"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_no_byte_of_an_image_is_lost_in_silence(tmp_path, ending, image):
    size = max(written(image, tmp_path / "whole", ending))
    path = tmp_path / f"x{ending}"
    lost = {*range(1, 20), 40, 100, 352, 400, size // 2, size - 1, size}
    if ending == ".mhd":
        lost.remove(1)  # perhaps the end of its header's last line
    for missing in sorted(n for n in lost if n <= size):
        with largest_file(size - missing), pytest.raises(InputError, match="written"):
            write(image, path)
        assert list(tmp_path.iterdir()) == [tmp_path / "whole"], "nothing stays behind"
    with largest_file(size):
        write(image, path)
    again = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(again, image.array)


def test_an_earlier_file_stays_when_the_new_one_cannot_be_written(tmp_path):
    path = tmp_path / "x.nii.gz"
    write(EMPTY, path)
    before = path.read_bytes()
    with largest_file(4096), pytest.raises(InputError, match="cannot be written"):
        write(NOISE, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", READABLE)
def test_images_of_any_type_come_back(tmp_path, ending):
    for kind in ("u1", "i2", "u2", "i4", "f4", "f8"):
        image = NOISE.replace(NOISE.array.astype(kind))
        write(image, tmp_path / f"{kind}{ending}")
        again = read(tmp_path / f"{kind}{ending}", unit=None)
        np.testing.assert_array_equal(again.array, image.array)
        assert again.array.dtype == image.array.dtype


def test_files_of_two_parts_name_each_other(tmp_path):
    write(NOISE, tmp_path / "x.mhd")
    assert {p.name for p in tmp_path.iterdir()} == {"x.mhd", "x.zraw"}
    assert "ElementDataFile = x.zraw" in (tmp_path / "x.mhd").read_text()


def test_written_gzip_is_whole(tmp_path):
    write(NOISE, tmp_path / "x.nii.gz")
    assert len(gzip.decompress((tmp_path / "x.nii.gz").read_bytes())) == 352 + 8192


def write_all(folder):
    """Write one file of each kind that a case has."""
    write(NOISE, folder / "x.nii.gz")
    write_arrays(folder / "x.npz", {"a": NOISE.array})
    write_text(folder / "x.csv", "a,b\n" * 2000)
    write_json(folder / "x.json", {"a": "b" * 4000}, ("x.nii.gz", "x.npz"))


def test_a_folder_is_whole_or_not_there(tmp_path):
    whole = write_folder(tmp_path / "whole", write_all, frozenset())
    sizes = {p.name: p.stat().st_size for p in whole.iterdir()}
    for limit in {1, *(size - 1 for size in sizes.values())}:
        with largest_file(limit), pytest.raises(InputError, match="cannot be written"):
            write_folder(tmp_path / "new", write_all, frozenset())
        assert list(tmp_path.iterdir()) == [whole]


@contextmanager
def small_disk(place, size):
    """Mount a disk of a limited size, where that is allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk (Linux)")
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this system does not let root mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("free", [0, 4096, 8192, 12288, 20480, 24576])
def test_a_disk_that_is_full_costs_no_final_file(tmp_path, free):
    with small_disk(tmp_path / "disk", 64 * 1024) as disk:
        (disk / "rest").write_bytes(b"x" * (64 * 1024 - free))
        with pytest.raises(InputError, match=r"cannot be written|No space"):
            write_folder(disk / "case", write_all, frozenset())
        assert [p.name for p in disk.iterdir()] == ["rest"]
        (disk / "rest").unlink()
        write_folder(disk / "case", write_all, frozenset())
        np.testing.assert_array_equal(
            read(disk / "case" / "x.nii.gz", unit=None).array, NOISE.array
        )

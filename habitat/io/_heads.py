"""Headers of files without their pixels, and whether the files are whole."""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import NamedTuple

import SimpleITK as sitk

from habitat.geometry import Geometry
from habitat.io import _files as f


class Headed(NamedTuple):
    """What the header of a file says of the image in it."""

    geometry: Geometry
    n_bytes: int  # as it is loaded
    reading: int  # bytes needed while it is read
    notes: list[str]


def head_file(path: Path) -> Headed:
    """Read the header of such a file only, with the same errors and notes.

    A NIfTI that ends too early is told by its size, or by inflating it.
    """
    size = path.stat().st_size if path.is_file() else 0
    if not f.is_nifti(path):
        reader = f.itk_header(path)
        geometry, notes = f.checked(reader, str(path))
        n_bytes = check_itk_length(reader)
        return Headed(geometry, n_bytes, size + 2 * n_bytes, notes)
    header, zipped = f.nifti_header(path)
    need = header.offset + header.n_bytes
    f.check_length(_nifti_length(path, need, zipped), header, str(path))
    geometry = f.nifti_geometry(path)
    n = math.prod(header.shape)
    n_bytes, scaling = (header.n_bytes, 0) if header.is_plain else (4 * n, 24 * n)
    reading = size + 2 * header.n_bytes + scaling
    return Headed(geometry, n_bytes, reading, f.nifti_notes(header, str(path)))


def _nifti_length(path: Path, need: int, zipped: bool) -> int:
    """Bytes that a file holds when it is inflated, as far as they are needed."""
    size = path.stat().st_size
    if not zipped:
        return size
    with path.open("rb") as file:
        file.seek(max(size - 4, 0))
        if file.read(4) == struct.pack("<I", need % 2**32):  # gzip says its length
            return need
        file.seek(0)
        return sum(map(len, f.inflate(file, need, str(path))))


# where the voxels begin in one file with their header, and whether they are compressed
_LOCAL = re.compile(rb"\r?\n\r?\n|ElementDataFile *= *LOCAL\r?\n")
_ZIPPED = re.compile(rb"encoding: *gz|CompressedData *= *True", re.IGNORECASE)
_PLAIN = re.compile(rb"encoding: *raw|BinaryData *= *True", re.IGNORECASE)


def check_itk_length(reader: sitk.ImageFileReader) -> int:
    """Bytes of the voxels; raises if the file ends before them."""
    one = sitk.Image(
        [1] * reader.GetDimension(), reader.GetPixelID(), reader.GetNumberOfComponents()
    )
    voxel = sitk.GetArrayViewFromImage(one).nbytes
    size: int = voxel * math.prod(reader.GetSize())
    path = Path(reader.GetFileName())
    head = f.first_bytes(path, 1 << 20)
    start = _LOCAL.search(head)
    if start is None or b"data file:" in head[: start.start()]:
        return size
    zipped = bool(_ZIPPED.search(head, 0, start.end()))
    if not zipped and not _PLAIN.search(head, 0, start.end()):
        return size
    with path.open("rb") as file:
        file.seek(start.end())
        found = path.stat().st_size - start.end()
        if zipped:
            found = sum(map(len, f.inflate(file, size, str(path))))
    f.check_share(found, size, str(path))
    return size

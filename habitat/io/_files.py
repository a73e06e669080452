"""NIfTI, NRRD and MetaImage files in and out, and SimpleITK images."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import shutil
import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from habitat._check import warn
from habitat.errors import GeometryError, InputError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io._memory import check_memory

# NIfTI-1 header: dim, datatype, pixdim, vox_offset and scl, qform and sform code, srow
_NIFTI = (("8h", 40), ("h", 70), ("8f", 76), ("3f", 108), ("2h", 252), ("12f", 280))
_NIFTI_HEAD = 352  # bytes before the voxels, as SimpleITK writes it
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2"}
_DTYPES |= {768: "u4", 1024: "i8", 1280: "u8"}
_KINDS = {32: "complex", 128: "RGB", 1792: "complex", 2304: "RGBA"}


def read_file(path: Path) -> Image:
    """Read a NIfTI, NRRD or MetaImage file in its stored type; no unit is assumed."""
    return _read_nifti(path) if is_nifti(path) else _read_itk(path)


def is_nifti(path: Path) -> bool:
    """Whether it is NIfTI, else NRRD or MetaImage; raises InputError if neither."""
    if not path.is_file():
        raise InputError("not found", str(path), "check the path")
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return True
    head = first_bytes(path, 4)
    if head == b"NRRD" or name.endswith((".mha", ".mhd")):
        return False
    what = f"is neither NIfTI, NRRD, MetaImage nor DICOM (first bytes {_show(head)})"
    raise InputError(what, str(path), "convert it to NIfTI (.nii.gz)")


def from_simpleitk(image: sitk.Image, where: str = "SimpleITK.Image") -> Image:
    """Turn a SimpleITK image into an `Image` (array copied, no unit)."""
    geometry, notes = checked(image, where)
    array = sitk.GetArrayFromImage(image)
    return Image(array.reshape(geometry.shape), geometry, notes=notes)


def checked(header: Any, where: str) -> tuple[Geometry, list[str]]:
    """Geometry of a SimpleITK image or header of one volume of single values."""
    if header.GetDimension() == 4:
        raise InputError(_volumes(header.GetSize()[3]), where, _ONE_EACH)
    is_image = isinstance(header, sitk.Image)
    count = (
        header.GetNumberOfComponentsPerPixel()
        if is_image
        else header.GetNumberOfComponents()
    )
    if count > 1:
        what = f"has {count} values in each voxel (vector or color image)"
        raise InputError(what, where, "give one single-valued image per channel")
    notes = [_flat(where)] if header.GetDimension() == 2 else []
    return itk_geometry(header, where), notes


def to_simpleitk(image: Image) -> sitk.Image:
    """Turn an `Image` into a SimpleITK image on the same LPS grid."""
    values = image.array
    out = sitk.GetImageFromArray(values.view("u1") if values.dtype == bool else values)
    geometry = image.geometry
    out.SetSpacing(geometry.spacing[::-1])
    out.SetOrigin(geometry.affine[:3, 3].tolist())
    out.SetDirection(geometry.directions[:, ::-1].ravel().tolist())
    return out


def write(image: Image, path: str | os.PathLike[str]) -> None:
    """Write an image to a file; all of it or nothing.

    Parameters
    ----------
    image : Image
        Any image; a boolean array is written as uint8.
    path : path
        File that ends in .nii.gz, .nii, .nrrd, .mha or another ending SimpleITK knows;
        an earlier file is replaced.

    Raises
    ------
    InputError
        If it cannot be written.

    Examples
    --------
    >>> import habitat, tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "ct.nii.gz"
    >>> habitat.write(habitat.phantom().ct, path)
    >>> habitat.read(path, unit="HU").array.dtype
    dtype('int16')
    """
    write_itk(to_simpleitk(image), Path(path).expanduser())


def write_itk(image: sitk.Image, path: Path) -> None:
    """Write a SimpleITK image with its metadata, aside first, then into place."""
    aside = path.with_name(f".part-{uuid.uuid4().hex[:12]}")
    try:
        aside.mkdir()
        sitk.WriteImage(image, str(aside / path.name), True)
        _check_written(image, aside / path.name)
        # a header that names another file comes last
        for part in sorted(aside.iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.with_name(part.name))
    except (RuntimeError, OSError) as error:
        raise InputError(f"cannot be written: {error}", str(path)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check_written(image: sitk.Image, path: Path) -> None:
    """Raise unless a file is whole: SimpleITK does not notice a full disk."""
    for part in path.parent.iterdir():
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz", ".nrrd")):
        whole = sitk.Hash(sitk.ReadImage(str(path))) == sitk.Hash(image)
    else:
        need = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
        need *= image.GetSizeOfPixelComponent()
        whole = _voxel_bytes(path) == need
    if not whole:
        raise OSError("the disk holds less than was written: is it full?")


def _voxel_bytes(path: Path) -> int:
    """Bytes of the voxels in a NIfTI or compressed NRRD file; -1 if it is cut off."""
    name = path.name.lower()
    if name.endswith(".nii"):
        return path.stat().st_size - _NIFTI_HEAD
    with path.open("rb") as file:
        while name.endswith(".nrrd") and file.readline().strip():
            pass  # an empty line ends the header
        try:
            with gzip.open(file) as data:
                found = sum(map(len, iter(lambda: data.read(1 << 20), b"")))
        except EOFError:
            return -1
    return found if name.endswith(".nrrd") else found - _NIFTI_HEAD


def file_hash(path: Path) -> str:
    """Sha256 of a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def itk_geometry(header: Any, where: str) -> Geometry:
    """Geometry of a SimpleITK image or of an ImageFileReader's header."""
    n = min(header.GetDimension(), 3)  # a single slice gets a thickness of 1 mm
    size, spacing, origin, directions = [1, 1, 1], np.ones(3), np.zeros(3), np.eye(3)
    size[:n] = header.GetSize()[:n]
    spacing[:n] = header.GetSpacing()[:n]
    origin[:n] = header.GetOrigin()[:n]
    full = np.array(header.GetDirection()).reshape(header.GetDimension(), -1)
    directions[:n, :n] = full[:n, :n]
    affine = np.eye(4)
    affine[:3, :3] = (directions * spacing)[:, ::-1]
    affine[:3, 3] = origin
    try:
        return Geometry((size[2], size[1], size[0]), affine)
    except GeometryError as error:
        raise GeometryError(error.what, where, error.fix) from error


# --- NIfTI: pixels are read here, because ITK reads truncated files as zeros ----------

_ONE_EACH = "give one three-dimensional volume per channel"


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, int, int]  # zyx
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    oriented: bool

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_plain(self) -> bool:
        return self.slope == 1 and self.intercept == 0


def nifti_header(path: Path) -> tuple[_Header, bool]:
    """Header of a NIfTI file, and whether the file is compressed."""
    head = first_bytes(path, 4)
    zipped = head[:2] == b"\x1f\x8b"
    if zipped and not path.name.lower().endswith(".gz"):
        raise InputError("is gzip-compressed", str(path), "rename it to .nii.gz")
    return _parse_nifti(first_bytes(path, 348, zipped), head, str(path)), zipped


def _read_nifti(path: Path) -> Image:
    where = str(path)
    header, zipped = nifti_header(path)
    check_memory(2 * header.n_bytes, where)
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if zipped:
        need = header.offset + header.n_bytes
        data = b"".join(inflate(BytesIO(data), need, where))
    check_length(len(data), header, where)
    array = np.frombuffer(data, header.dtype, math.prod(header.shape), header.offset)
    array = _rescale(array, header).reshape(header.shape)
    source = {"path": where, "sha256": sha256}
    geometry = nifti_geometry(path)
    return Image(array, geometry, source=source, notes=nifti_notes(header, where))


def nifti_notes(header: _Header, where: str) -> list[str]:
    notes = [_flat(where)] if header.shape[0] == 1 else []
    if not header.oriented:
        notes.append(warn(f"{where}: the header has no orientation: check the sides"))
    return notes


def _parse_nifti(raw: bytes, head: bytes, where: str) -> _Header:
    sizes_of = {o: struct.unpack(o + "i", raw[:4].ljust(4))[0] for o in "<>"}
    order = next((o for o, size in sizes_of.items() if size == 348), None)
    if order is None or len(raw) < 348:
        if 540 in sizes_of.values():
            raise InputError("is NIfTI-2", where, "convert it to NIfTI-1")
        what = f"not a NIfTI (first bytes {_show(head)})"
        raise InputError(what, where, "download or export it again")
    fields = (struct.unpack_from(order + form, raw, at) for form, at in _NIFTI)
    dim, (code,), pixdim, (offset, slope, intercept), (qform, sform), rows = fields
    _check_pixels(dim, code, where)
    ndim = min(dim[0], 3)
    _check_scale(pixdim[1 : 1 + ndim], rows, sform > 0 and qform == 0, where)
    if not 0 <= offset < 2**31:
        raise InputError(f"voxels start at byte {offset}", where, "export it again")
    if slope == 0 or not math.isfinite(slope):  # "no scaling" by the NIfTI standard
        slope, intercept = 1.0, 0.0
    x, y, z = [*dim[1 : 1 + ndim], 1, 1][:3]
    return _Header(
        shape=(z, y, x),
        dtype=np.dtype(order + _DTYPES[code]),
        offset=max(int(offset), 352),  # some writers leave it 0
        slope=float(slope),
        intercept=float(intercept),
        oriented=qform > 0 or sform > 0,
    )


def _check_pixels(dim: tuple[int, ...], code: int, where: str) -> None:
    sizes = dim[1 : dim[0] + 1]
    if not 2 <= dim[0] <= 7 or min(sizes) < 1:
        raise InputError(f"has no valid size: {dim}", where, "export it again")
    if math.prod(sizes[3:]) > 1:
        raise InputError(_volumes(math.prod(sizes[3:])), where, _ONE_EACH)
    if code not in _DTYPES:
        kind = _KINDS.get(code, f"type {code}")
        raise InputError(f"{kind} voxels are not supported", where, "give real numbers")


def _check_scale(
    pixdim: tuple[float, ...], rows: tuple[float, ...], by_rows: bool, where: str
) -> None:
    """Refuse spacings that are no spacings or contradict the affine in use."""
    if not all(math.isfinite(p) and p > 0 for p in pixdim):
        what = f"spacing must be positive, got {pixdim} mm (x, y, z)"
        raise GeometryError(what, where, "export it again")
    if not all(map(math.isfinite, rows)):
        what = "affine has NaN or infinite entries"
        raise GeometryError(what, where, "export it again")
    columns = np.linalg.norm(np.reshape(rows, (3, 4)), axis=0)[: len(pixdim)]
    if by_rows and not np.allclose(columns, pixdim, rtol=1e-3):
        what = f"pixdim {pixdim} and sform {tuple(columns.round(4).tolist())} mm differ"
        fix = "one is wrong: find out which, and write the file again"
        raise GeometryError(f"spacings disagree: {what} (x, y, z)", where, fix)


_AUTO = 47  # zlib's number for gzip or zlib, whichever it is


def inflate(file: BinaryIO, need: int, where: str) -> Iterator[bytes]:
    """Decompress at most `need` bytes, checking the checksum where that is the end."""
    stream, raw, found = zlib.decompressobj(_AUTO), b"", 0
    while found <= need:
        if stream.eof:  # gzip files may hold several streams
            if found == need:
                return
            stream, raw = zlib.decompressobj(_AUTO), stream.unused_data
        raw = raw or file.read(1 << 20)
        if not raw:
            return
        try:
            part = stream.decompress(raw, need - found + 1)
        except zlib.error as error:
            raise InputError(f"is damaged ({error})", where, "copy it again") from error
        raw = b""
        found += len(part)
        yield part


def check_length(found: int, header: _Header, where: str) -> None:
    check_share(found - header.offset, header.n_bytes, where)


def check_share(found: int, need: int, where: str) -> None:
    share = found / max(need, 1)
    if share < 1:
        what = f"file ends after {max(0, math.floor(100 * share))}% of its voxels"
        raise InputError(what, where, "copy it again")


def _rescale(array: npt.NDArray[Any], header: _Header) -> npt.NDArray[Any]:
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if header.is_plain:
        return native
    slope, intercept = header.slope, header.intercept
    if native.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        a, b = int(slope), int(intercept)
        if max(abs(int(v) * a + b) for v in (native.min(), native.max())) < 2**31:
            return (native.astype(np.int64) * a + b).astype(np.int32)
    return (native.astype(np.float64) * slope + intercept).astype(np.float32)


def nifti_geometry(path: Path) -> Geometry:
    """Grid of a NIfTI file; SimpleITK is slow to open one, so it is asked once."""
    zipped = first_bytes(path, 2) == b"\x1f\x8b"
    return _geometry_of(first_bytes(path, 348, zipped), path)


@lru_cache(maxsize=64)
def _geometry_of(header: bytes, path: Path) -> Geometry:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            what, fix = "axes are sheared", "resample it to a rectangular grid first"
            raise GeometryError(what, str(path), fix) from error
        raise InputError(f"cannot be read: {_last_line(error)}", str(path)) from error
    return itk_geometry(reader, str(path))


def itk_header(path: Path) -> sitk.ImageFileReader:
    """Reader of a file that SimpleITK knows, with the header read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    return reader


def itk_image(reader: sitk.ImageFileReader) -> sitk.Image:
    """Image of such a reader."""
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise _unreadable(Path(reader.GetFileName()), error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    what = f"cannot be read: {_last_line(error)}"
    return InputError(what, str(path), "copy or export it again")


def _read_itk(path: Path) -> Image:
    reader = itk_header(path)
    check_memory(
        8 * math.prod(reader.GetSize()) * reader.GetNumberOfComponents(), str(path)
    )
    image = from_simpleitk(itk_image(reader), str(path))
    digest = hashlib.sha256(path.read_bytes())
    if is_detached(path):
        digest.update(np.ascontiguousarray(image.array).data)
    source = {"path": str(path), "sha256": digest.hexdigest()}
    return Image(image.array, image.geometry, source=source, notes=image.notes)


def is_detached(path: Path) -> bool:
    """Whether the voxels are in another file."""
    return path.suffix.lower() in (".mhd", ".nhdr")


def first_bytes(path: Path, count: int, unzip: bool = False) -> bytes:
    with path.open("rb") as file:
        if not unzip:
            return file.read(count)
        try:
            return zlib.decompressobj(31).decompress(file.read(8192), count)
        except zlib.error:
            return b""


def _show(head: bytes) -> str:
    return repr(head.decode("latin-1"))


def _volumes(count: int) -> str:
    return f"4-D image ({count} volumes)"


def _flat(where: str) -> str:
    return warn(f"{where}: a single slice; features that need three dimensions are NaN")


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]

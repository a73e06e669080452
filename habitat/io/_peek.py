"""What headers say of an image or a mask: its grid, size and faults, no pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from habitat.errors import DicomError, MaskError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io._heads import head_file
from habitat.io._masks import _dicom_kind, _mask_file
from habitat.io._memory import check_memory
from habitat.io._segmentations import has_segments, head_dicom_seg, head_seg_nrrd
from habitat.io._sources import is_dicom, name_of, read_any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from habitat.io._dicom import Series
    from habitat.io._sources import ImageLike


class Header(NamedTuple):
    """What is known of an image before its pixels are read."""

    geometry: Geometry
    n_voxels: int
    n_bytes: int  # as `read` loads it
    reading: int  # bytes needed while it is read, its own included
    kind: str  # "memory", "file", "DICOM", "RTSTRUCT", "SEG" or ".seg.nrrd"
    unit: str | None = None
    notes: tuple[str, ...] = ()
    frame_uid: str = ""  # of DICOM: frame of reference and series
    series_uid: str = ""


def peek(source: ImageLike, modality: str | None = None) -> Header:
    """Read what the headers of an image say, raising what `read` would raise of them.

    Parameters
    ----------
    source : path, SimpleITK.Image or Image
        As in `read`.
    modality : str, optional
        "CT" or "PT", of a DICOM folder that holds several series.

    Raises
    ------
    HabitatError
        With the kinds and words of `read`, for all that shows without pixels.

    Examples
    --------
    >>> import habitat
    >>> from habitat.io._peek import peek
    >>> peek(habitat.phantom().pet).unit
    'SUVbw'
    """
    header = look(source, modality)
    check_memory(header.reading, name_of(source))
    return header


def look(source: ImageLike, modality: str | None = None) -> Header:
    """As `peek`, without asking whether it fits in memory now."""
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        return _of_image(read_any(source))
    path = Path(source).expanduser()
    if not is_dicom(path):
        return _of_file(path)
    from habitat.io._dicom import head_dicom

    head = head_dicom(path, series=modality if path.is_dir() else None)
    _check_sizes(head.series)
    geometry = head.series.geometry
    return Header(
        geometry,
        math.prod(geometry.shape),
        head.n_bytes,
        head.reading,
        "DICOM",
        head.unit,
        tuple(head.notes),
        head.series.frame_uid,
        head.series.uid,
    )


def peek_mask(
    source: ImageLike,
    label: int | str | None = None,
    reference: Sequence[Header] = (),
) -> Header:
    """Read what the headers of a mask say, raising what `read_mask` would raise.

    Parameters
    ----------
    source : path, SimpleITK.Image or Image
        As in `read_mask`.
    label : int or str, optional
        As in `read_mask`; of a plain label image only its voxels can tell.
    reference : sequence of Header
        Headers of the images, on one of which an RTSTRUCT may have been drawn.

    Raises
    ------
    HabitatError
        With the kinds and words of `read_mask`, for all that shows without pixels.
    """
    header = look_mask(source, label, reference)
    check_memory(header.reading, name_of(source))
    return header


def look_mask(
    source: ImageLike, label: int | str | None, reference: Sequence[Header]
) -> Header:
    """As `peek_mask`, without asking whether it fits in memory now."""
    if not isinstance(source, (str, os.PathLike)):
        return _labeled(look(source), label, "`mask`")
    path = _mask_file(Path(source))
    size = path.stat().st_size
    if path.name.lower().endswith(".nrrd") and has_segments(path):
        return _of_grid(head_seg_nrrd(path, label), ".seg.nrrd", size)
    kind = _dicom_kind(path)
    if not kind:
        return _labeled(_of_file(path), label, str(path))
    if kind == "SEG":
        return _of_grid(head_dicom_seg(path, label), kind, size)
    if kind == "RTSTRUCT":
        return _of_rtstruct(path, label, reference)
    what = f"is a DICOM {kind} file, not a SEG or RTSTRUCT"
    raise DicomError(what, str(path), "give the file that holds the delineation")


def _of_image(image: Image) -> Header:
    n, size = image.array.size, image.array.nbytes
    meta = image.meta
    uids = [meta.get(k) or "" for k in ("frame_of_reference_uid", "series_uid")]
    return Header(
        image.geometry, n, size, size, "memory", image.unit, image.notes, *uids
    )


def _of_file(path: Path) -> Header:
    head = head_file(path)
    n = math.prod(head.geometry.shape)
    notes = tuple(head.notes)
    return Header(head.geometry, n, head.n_bytes, head.reading, "file", None, notes)


def _of_grid(geometry: Geometry, kind: str, file_bytes: int) -> Header:
    """Header of a mask that is told by name."""
    n = math.prod(geometry.shape)
    return Header(geometry, n, n, 2 * n + file_bytes, kind)


def _of_rtstruct(
    path: Path, label: int | str | None, reference: Sequence[Header]
) -> Header:
    from habitat.io._rtstruct import Grid, head_rtstruct

    images = [Grid(one.geometry, one.frame_uid, one.series_uid) for one in reference]
    _, grid, notes = head_rtstruct(path, label, images)
    header = _of_grid(grid.geometry, "RTSTRUCT", path.stat().st_size)
    return header._replace(notes=tuple(notes), frame_uid=grid.frame_uid)


def _labeled(header: Header, label: int | str | None, where: str) -> Header:
    """Header of a plain label image, as whose mask it is loaded."""
    if isinstance(label, str):
        what = f"no labels are {label!r}; those of a label image have no names"
        raise MaskError(what, where, "give a number as `label=`")
    extra = 2 * header.n_voxels + header.n_bytes
    return header._replace(n_bytes=header.n_voxels, reading=header.reading + extra)


def _check_sizes(series: Series) -> None:
    """Refuse files of uncompressed slices that are shorter than their pixels."""
    for path, header in zip(series.files, series.headers, strict=True):
        found, need = path.stat().st_size, _plain_bytes(header)
        if found < need:
            what = f"the file ends after {found} bytes, its pixels have {need}"
            raise DicomError(
                f"pixels cannot be read: {what}", str(path), "copy or export it again"
            )


def _plain_bytes(header: Dataset) -> int:
    """Bytes of a slice's pixels where they are not compressed, else 0."""
    from habitat.io import _header as h

    uid = (
        header.file_meta.get("TransferSyntaxUID")
        if hasattr(header, "file_meta")
        else None
    )
    keywords = ("Rows", "Columns", "BitsAllocated")
    numbers = [h.number(header, keyword) or 0 for keyword in keywords]
    plain = uid is None or not (uid.is_compressed or uid.is_deflated)
    return int(math.prod(numbers) / 8) if plain else 0

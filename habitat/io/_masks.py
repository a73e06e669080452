"""Masks from label images, .seg.nrrd, DICOM SEG and RTSTRUCT."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from habitat.errors import ConfigError, DicomError, InputError, MaskError
from habitat.image import Image
from habitat.io._files import file_hash, from_simpleitk, read_file
from habitat.io._segmentations import (
    has_segments,
    pick,
    read_dicom_seg,
    read_seg_nrrd,
)

if TYPE_CHECKING:
    from habitat.io._rtstruct import Reference

_NEAR = 1e-3  # a float this close to a whole number is that label
_BLOCK = 1 << 20  # voxels counted at once
_NONE = type(None)


def read_mask(
    mask: str | os.PathLike[str] | sitk.Image | Image,
    *,
    label: int | str | None = None,
    reference: Reference = None,
) -> Image:
    """Read a mask on its own grid.

    Parameters
    ----------
    mask : path, SimpleITK.Image or Image
        A NIfTI, NRRD, MetaImage or ``.seg.nrrd`` file, a DICOM SEG (needs the extra
        ``dicom``) or RTSTRUCT file, or a folder that holds one of these two.
    label : int or str, optional
        Label value, segment or ROI number, or name of the structure (matched exactly,
        else without regard to case). Not needed where there is only one.
    reference : Image, Geometry, path, or sequence of these, optional
        Where the series that an RTSTRUCT was drawn on may be found: images, or DICOM
        folders or files. Without it the RTSTRUCT's folder and the folders beside it are
        searched. If only other images are given, the first one's grid is taken.

    Returns
    -------
    Image
        Bool array of shape (z, y, x), with file, hash and notes on all that was done.

    Raises
    ------
    MaskError
        If the mask is empty, has several labels and none was asked for, has negative
        or fractional values, or has no such label.
    DicomError
        If a DICOM file is damaged or of another kind, an RTSTRUCT has no such
        structure, its series is missing or has another frame of reference, or more
        than 5% of the contours are unusable.
    GeometryError
        If more than 1% of an RTSTRUCT's structure lies outside its series.
    InputError
        If a file is missing, damaged or of unknown format.

    Notes
    -----
    RTSTRUCT contours fill the voxels whose center they hold, by the even-odd rule over
    all closed contours of a slice, so that holes work both as inner contours and as
    keyholes. A center on an outline belongs to the structure that lies behind it,
    towards higher x (higher y where the outline runs along x): adjacent structures do
    not overlap. Contours more than 0.1 slice off a slice are skipped and counted;
    slices without a contour stay empty.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat import Image
    >>> from habitat.io import read_mask
    >>> labels = Image(np.arange(3)[:, None, None], spacing=(3, 2, 2))
    >>> read_mask(labels, label=2).array.ravel()
    array([False, False,  True])
    """
    if isinstance(label, bool) or not isinstance(label, (int, np.integer, str, _NONE)):
        what = f"must be a label number or a name, got {label!r}"
        raise ConfigError(what, "`label`")
    if isinstance(mask, Image):
        where = (mask.source or {}).get("path", "`mask`")
        return _label_image(mask, label, where)
    if isinstance(mask, sitk.Image):
        return _label_image(from_simpleitk(mask, "`mask`"), label, "`mask`")
    if not isinstance(mask, (str, os.PathLike)):
        what = f"must be a path, SimpleITK.Image or Image, got {type(mask).__name__}"
        raise InputError(what, "`mask`", "wrap an array as Image(array, spacing=...)")
    path = _mask_file(Path(mask))
    image = _read_named(path, label, reference)
    if image is None:
        return _label_image(read_file(path), label, str(path))
    if not image.array.any():
        raise _empty(str(path))
    return image


def _mask_file(path: Path) -> Path:
    """`path`, or the one DICOM SEG or RTSTRUCT file of that folder."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError("mask not found", str(path), "check the path")
    files = sorted(p for p in path.iterdir() if p.is_file())
    files = [p for p in files if not p.name.startswith(".")]  # macOS: ._RS.dcm
    found = [p for p in files if _dicom_kind(p) in ("SEG", "RTSTRUCT")]
    if len(found) > 1:  # a file and its copies are one
        found = list({file_hash(p): p for p in found[::-1]}.values())[::-1]
    if len(found) == 1:
        return found[0]
    names = ", ".join(p.name for p in found[:10])
    what = f"folder has {len(found)} DICOM SEG or RTSTRUCT files, not one"
    what += f": {names}" if names else ""
    raise DicomError(what, str(path), "give the file itself")


# --- files that name their structures -------------------------------------------------


def _read_named(
    path: Path, label: int | str | None, reference: Reference
) -> Image | None:
    """Mask of one named structure; None if the file is a plain label image."""
    if path.name.lower().endswith(".nrrd") and has_segments(path):
        return read_seg_nrrd(path, label)
    kind = _dicom_kind(path)
    if not kind:
        return None
    from habitat.io._rtstruct import read_rtstruct  # pydicom costs 0.2 s to import

    if kind == "SEG":
        return read_dicom_seg(path, label)
    if kind == "RTSTRUCT":
        return read_rtstruct(path, label, reference)
    what = f"is a DICOM {kind} file, not a SEG or RTSTRUCT"
    raise DicomError(what, str(path), "give the file that holds the delineation")


def _dicom_kind(path: Path) -> str:
    """Modality of a DICOM file; "" for another file."""
    try:
        with path.open("rb") as file:
            marked = file.read(132)[128:] == b"DICM"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise InputError(what, str(path), "check its permissions") from error
    if not marked and path.suffix.lower() not in (".dcm", ".dicom"):
        return ""
    from pydicom import dcmread

    from habitat.io import _header as h

    with h.readable(str(path)):
        tags = ["Modality"]
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
        return h.text(header, "Modality") or "of unknown modality"


# --- label images ---------------------------------------------------------------------


def _label_image(image: Image, label: int | str | None, where: str) -> Image:
    """Turn a label image into the mask of one label."""
    values = image.array
    if values.dtype.kind == "f":
        values, notes = _whole(values, where)
    else:
        notes = []
    counts = _counts(values[values != 0])
    if not counts:
        raise _empty(where)
    if min(counts) < 0:
        negative = {value: n for value, n in counts.items() if value < 0}
        what = f"{len(negative)} negative labels, the lowest is {min(counts)}"
        what += f" ({sum(negative.values())} voxels)"
        raise MaskError(what, where, "give a mask of 0 and positive labels")
    items = [(value, "") for value in counts]
    value = items[pick(items, label, lambda: list(counts.values()), where)][0]
    if value != 1 and label is None:
        notes.append(f"{where}: its only label, {value}, is the mask")
    return image.replace(values == value, notes=notes)


def _whole(values: npt.NDArray[Any], where: str) -> tuple[npt.NDArray[Any], list[str]]:
    """Labels of a float image, and notes on what was done to get them."""
    inside = values[values != 0]
    if inside.size == 0:
        raise _empty(where)
    low, high = float(inside.min()), float(inside.max())
    if not -(2**53) <= low <= high <= 2**53:  # NaN fails every comparison
        what = f"values from {low:.4g} to {high:.4g} are no labels"
        raise MaskError(what, where, "give a mask of whole numbers")
    worst = float(np.abs(inside - np.rint(inside)).max())
    if worst <= _NEAR:
        notes = [f"{where}: labels rounded by up to {worst:.2g}"] if worst else []
        return np.rint(values), notes
    if low == high:
        return values != 0, [f"{where}: its only value, {low:.4g}, is taken as 1"]
    what = f"values from {low:.4g} to {high:.4g} that are not whole numbers"
    fix = "a probability map? give a binary mask"
    raise MaskError(what, where, fix)


def _counts(labels: npt.NDArray[Any]) -> dict[int, int]:
    """Voxels of each label, in a list of labels without 0."""
    if labels.size == 0:
        return {}
    low, high = int(labels.min()), int(labels.max())
    if low == high:
        return {low: labels.size}
    if low < 0 or high >= _BLOCK:
        found, counts = np.unique(labels, return_counts=True)
        return dict(zip(map(int, found), counts.tolist(), strict=True))
    total = np.zeros(high + 1, dtype=np.int64)
    for at in range(0, labels.size, _BLOCK):
        part = labels[at : at + _BLOCK].astype(np.intp, copy=False)
        total += np.bincount(part, minlength=high + 1)
    present = np.flatnonzero(total)
    return dict(zip(present.tolist(), total[present].tolist(), strict=True))


def _empty(where: str) -> MaskError:
    return MaskError(
        f"no voxel is >0 in {where}", "`mask`", "give another file or label"
    )

"""Segmentations with named segments: .seg.nrrd in and out, DICOM SEG in."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from habitat.errors import HabitatError, InputError, MaskError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io._files import (
    file_hash,
    itk_geometry,
    itk_header,
    itk_image,
    to_simpleitk,
    write_itk,
)
from habitat.io._heads import check_itk_length
from habitat.io._memory import check_memory

Items = Sequence[tuple[int, str]]  # number and name of every segment

_SHOWN = 20  # segments named in an error
_KEY = re.compile(r"^Segment(\d+)_(\w+)$")
_TAGS = (  # the terminology entry is that of a mass, from Slicer's default list
    "Segmentation.Status:inprogress|TerminologyEntry:"
    "Segmentation category and type - 3D Slicer General Anatomy list"
    "~SCT^49755003^Morphologically Altered Structure~SCT^4147007^Mass~^^"
    "~Anatomic codes - DICOM master list~^^~^^|"
)


def pick(
    items: Items,
    label: int | str | None,
    sizes: Callable[[], Sequence[int]] | None,
    where: str,
    *,
    unit: str = "voxels",
    error: type[HabitatError] = MaskError,
) -> int:
    """Position in `items` of the one that `label` means; `sizes` are for the error."""
    if label is None:
        found = list(range(len(items)))
    elif isinstance(label, str):
        found = [i for i, (_, name) in enumerate(items) if name == label]
        names = [_folded(name) for _, name in items]
        found = found or [i for i, name in enumerate(names) if name == _folded(label)]
    else:
        found = [i for i, (number, _) in enumerate(items) if number == label]
    if len(found) == 1:
        return found[0]
    listed = f"{_listing(items, sizes())} {unit}" if sizes else _listing(items)
    if label is None:
        fix = "say which is meant with `label=`"
        raise MaskError(f"has {len(items)} labels: {listed}", where, fix)
    what = f"{len(found) or 'no'} labels are {label!r}; there are {listed}"
    raise error(what, where, "give one of these as `label=`")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _listing(items: Items, sizes: Sequence[int] = ()) -> str:
    """Format as {1 (tumor): 520, 2 (node): 31}, or without the sizes."""
    texts = [f"{n} ({name})" if name else f"{n}" for n, name in items[:_SHOWN]]
    if sizes:
        texts = [f"{text}: {s}" for text, s in zip(texts, sizes, strict=False)]
    if len(items) > _SHOWN:
        texts.append(f"and {len(items) - _SHOWN} more")
    return "{" + ", ".join(texts) + "}"


# --- .seg.nrrd ------------------------------------------------------------------------


def has_segments(path: Path) -> bool:
    """Whether a NRRD file's header names segments."""
    with path.open("rb") as file:
        head = file.read(1 << 20)
    text = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    return head[:4] == b"NRRD" and b"\nSegment0_" in text


def read_seg_nrrd(path: Path, label: int | str | None) -> Image:
    """Read one segment of a 3D Slicer segmentation file."""
    where = str(path)
    reader, segments = _seg_nrrd_header(path)
    check_memory(
        2 * math.prod(reader.GetSize()) * reader.GetNumberOfComponents(), where
    )
    itk = itk_image(reader)
    array = sitk.GetArrayViewFromImage(itk)
    array = array.reshape(*array.shape[:3], -1)  # (z, y, x, layer)

    def voxels(segment: tuple[int, str, int]) -> npt.NDArray[np.bool_]:
        value, _, layer = segment
        out: npt.NDArray[np.bool_] = array[..., layer] == value
        return out

    def sizes() -> list[int]:
        return [int(np.count_nonzero(voxels(segment))) for segment in segments]

    items = [(value, name) for value, name, _ in segments]
    at = pick(items, label, sizes, where)
    return Image(
        voxels(segments[at]),
        itk_geometry(itk, where),
        source={"path": where, "sha256": file_hash(path)},
        notes=[_taken(where, *items[at])],
        meta={"structure": items[at][1]},
    )


def head_seg_nrrd(path: Path, label: int | str | None) -> Geometry:
    """Grid of such a file, with the errors that its header shows."""
    reader, segments = _seg_nrrd_header(path)
    check_itk_length(reader)
    pick([(value, name) for value, name, _ in segments], label, None, str(path))
    return itk_geometry(reader, str(path))


def _seg_nrrd_header(
    path: Path,
) -> tuple[sitk.ImageFileReader, list[tuple[int, str, int]]]:
    """Reader, and (label value, name, layer) of every segment."""
    reader, where = itk_header(path), str(path)
    if reader.GetDimension() != 3:
        raise InputError(f"has {reader.GetDimension()} dimensions, not three", where)
    keys = reader.GetMetaDataKeys()
    segments = _segments({key: reader.GetMetaData(key) for key in keys})
    _check_layers(segments, reader.GetNumberOfComponents(), where)
    return reader, segments


def _taken(where: str, value: int, name: str) -> str:
    return f"{where}: segment {value} ({name}) is the mask"


def _segments(keys: Mapping[str, str]) -> list[tuple[int, str, int]]:
    """(label value, name, layer) of every segment of a header."""
    fields: dict[int, dict[str, str]] = {}
    for key, text in keys.items():
        if match := _KEY.match(key):
            fields.setdefault(int(match[1]), {})[match[2]] = text
    out = []
    for number, own in sorted(fields.items()):
        # Before Slicer 4.11 every segment was a layer of its own with value 1.
        shared = "LabelValue" in own
        value = _whole(own.get("LabelValue", "1"))
        layer = _whole(own.get("Layer", "0" if shared else str(number)))
        out.append((value, own.get("Name", own.get("ID", "")), layer))
    return out


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*\d{1,9}\s*", text) else -1


def _check_layers(
    segments: Sequence[tuple[int, str, int]], layers: int, where: str
) -> None:
    for value, name, layer in segments:
        if value < 1 or not 0 <= layer < layers:
            what = f"segment {name!r} has no valid label value or layer in the header"
            raise InputError(what, where, "export it again")


def write_seg_nrrd(
    path: Path,
    labels: Image,
    names: Sequence[str],
    colors: Sequence[tuple[float, float, float]],
) -> None:
    """Write a label image as a segmentation that 3D Slicer opens.

    Parameters
    ----------
    path : Path
        File to write, ending in ``.seg.nrrd``; never left half written.
    labels : Image, uint8
        Values 0 (outside) and 1 to ``len(names)``.
    names : sequence of str
        Name of each label, the first for value 1.
    colors : sequence of (red, green, blue)
        Color of each label, 0 to 1.

    Raises
    ------
    InputError
        If names, colors and labels do not fit together, or the file cannot be written.
    """
    if len(names) != len(colors) or labels.array.max(initial=0) > len(names):
        found = f"{labels.array.max(initial=0)} labels, {len(names)} names"
        what = f"every label needs a name and a color: {found}, {len(colors)} colors"
        raise InputError(what, str(path))
    itk = to_simpleitk(labels)
    extent = " ".join(f"0 {n - 1}" for n in labels.geometry.shape[::-1])
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        own = {
            "ID": f"Segment_{i + 1}",
            "Name": " ".join(name.split()),  # a line end would end the header's line
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{c:.6g}" for c in color),
            "ColorAutoGenerated": "0",
            "LabelValue": str(i + 1),
            "Layer": "0",
            "Extent": extent,  # of the whole layer: older Slicers crop to it
            "Tags": _TAGS,
        }
        for key, value in own.items():
            itk.SetMetaData(f"Segment{i}_{key}", value)
    itk.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    itk.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    itk.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    itk.SetMetaData(
        "Segmentation_ConversionParameters", "Collapse labelmaps|1|Share labelmaps&"
    )
    write_itk(itk, path)


# --- DICOM SEG ------------------------------------------------------------------------


def read_dicom_seg(path: Path, label: int | str | None) -> Image:
    """Read one segment of a DICOM SEG file on the file's own grid."""
    from habitat.io import _header as h  # pydicom costs 0.2 s to import

    where = str(path)
    seg, items = _dicom_seg_header(path)

    def voxels(number: int) -> tuple[npt.NDArray[np.bool_], Any]:
        with h.readable(where):
            volume = seg.get_volume(segment_numbers=[number])
        return volume.array[..., 0] >= 0.5, volume.affine

    def sizes() -> list[int]:
        return [int(np.count_nonzero(voxels(number)[0])) for number, _ in items]

    at = pick(items, label, sizes, where)
    number, name = items[at]
    array, affine = voxels(number)
    notes = [_taken(where, number, name)]
    if str(seg.SegmentationType) == "FRACTIONAL":
        notes.append(f"{where}: fractional segment cut at 0.5")
    return Image(
        array,
        Geometry(array.shape, affine),
        source={"path": where, "sha256": file_hash(path)},
        notes=notes,
        meta={"structure": name, "frame_of_reference_uid": seg.FrameOfReferenceUID},
    )


def head_dicom_seg(path: Path, label: int | str | None) -> Geometry:
    """Grid of such a file, with the errors that its header shows."""
    from habitat.io import _header as h

    seg, items = _dicom_seg_header(path)
    pick(items, label, None, str(path))
    with h.readable(str(path)):
        found = seg.get_volume_geometry()
        if found is None:
            raise ValueError("its frames are no volume")
        return Geometry(found.spatial_shape, found.affine)


def _dicom_seg_header(path: Path) -> tuple[Any, list[tuple[int, str]]]:
    """File with its frames not decoded, number and name of every segment."""
    try:
        from highdicom.seg import segread
    except ImportError as error:
        what = "reading a DICOM SEG needs highdicom"
        raise InputError(what, str(path), "pip install tumor-habitat[dicom]") from error
    from habitat.io import _header as h

    with h.readable(str(path)):
        seg = segread(path)
        described = [seg.get_segment_description(n) for n in seg.segment_numbers]
        return seg, [(int(d.segment_number), str(d.segment_label)) for d in described]

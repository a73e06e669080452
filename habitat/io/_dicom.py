"""DICOM image series: which ones a folder holds, their grid, their voxels."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from habitat._check import one_of, warn
from habitat.errors import DicomError, InputError, raise_all
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io import _header as h
from habitat.io._files import file_hash
from habitat.io._memory import check_memory
from habitat.io._stack import Stack, is_multiframe, stack_geometry, thickness
from habitat.io._suv import UNITS, suv_scale

Floats = npt.NDArray[np.float64]
Slices = list[tuple[Path, Dataset]]

_DEPTH = 5  # levels: an exported disc has DICOM/PA0/ST0/SE0
# first tag of a file without the preamble: (0002,0000) or one of group 0008
_BARE = {b"\2\0\0\0", *(bytes([8, 0, element, 0]) for element in (0, 5, 8, 22))}
_NOT_IMAGES = {"SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "SR", "PR", "REG", "KO"}
_SLICE_CLASSES = {  # CT, MR, PET Image Storage
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.128",
}
_COLORS = {"RGB", "YBR_FULL", "YBR_FULL_422", "PALETTE COLOR"}
_FACTS = {
    "SliceThickness": "slice_thickness_mm",
    "KVP": "kvp",
    "RepetitionTime": "repetition_time_ms",
    "EchoTime": "echo_time_ms",
    "FlipAngle": "flip_angle_deg",
}
_TEXTS = {
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "convolution_kernel",
    "ReconstructionMethod": "reconstruction_method",
}


@dataclass(frozen=True, eq=False, repr=False)
class Series:
    """Headers of one image series, slices in order along their normal.

    `geometry` is worked out when it is asked for and raises DicomError then if the
    slices do not make a volume, so that a bad series does not hide a good one.
    """

    folder: Path
    uid: str
    modality: str
    description: str
    frame_uid: str
    files: tuple[Path, ...]
    headers: tuple[Dataset, ...]
    notes: tuple[str, ...] = ()  # on the folder

    @cached_property
    def geometry(self) -> Geometry:
        with h.quiet():
            return stack_geometry(Stack(self.folder, self.files, self.headers))

    def __repr__(self) -> str:
        head = f"{self.uid} ({self.modality} {self.description!r}"
        return f"{head}, number {_number(self) or '-'}, {len(self.files)} slices)"


def read_dicom(
    folder: str | os.PathLike[str],
    *,
    series: str | int | None = None,
    suv: str = "SUVbw",
) -> Image:
    """Read a DICOM series of CT, PET or MR slices with its geometry and unit.

    PET is converted to SUV with the rules of the OncoRay/IBSI SUV manual, slice by
    slice, and is refused where the header does not allow it.

    Parameters
    ----------
    folder : path
        Folder of the series (where it has none itself, its nearest subfolders that
        have one are looked at), or one file of it.
    series : str or int, optional
        SeriesInstanceUID, or a description, number or modality ("CT", "PT", "MR") that
        only one series has. Needed when there are several.
    suv : {"SUVbw", "SUVlbm", "SUVbsa", "Bq/mL"}
        Unit of a PET image. SUVlbm uses the lean body mass of Janmahasatian (2005).

    Returns
    -------
    Image
        Array (z, y, x), z along the slice normal. Unit `suv` for PET (float32), "HU"
        for CT (int16 or int32 where that is exact), None for others. `source` has the
        sha256 of the files' bytes in slice order; `meta` has facts on acquisition and,
        under "suv", on the conversion, but nothing that names the patient or a date.

    Raises
    ------
    DicomError
        If there is no series, or several and none is named; if slices are missing,
        double, of several orientations or sizes, tilted, multi-frame or damaged.
    SUVError
        If PET cannot be brought to `suv`; all reasons at once.
    InputError
        If the path does not exist or the volume does not fit in memory.

    Notes
    -----
    Localizers, and second copies of the same file, are passed over and noted.
    Every slice is rescaled in float64 with its own slope. Image readers that take the
    type of the volume from its first slice destroy PET with a slope per slice.

    Examples
    --------
    >>> import habitat
    >>> pet = habitat.read_dicom("P01/PET")  # doctest: +SKIP
    >>> pet.unit, pet.meta["suv"]["uptake_s"]  # doctest: +SKIP
    ('SUVbw', 3600.0)
    """
    where = os.fspath(folder)
    head = head_dicom(folder, series=series, suv=suv)
    check_memory(head.reading, where)
    with h.quiet():
        array, sha256 = _voxels(head.series, head.lines, head.factors, head.dtype)
    source = {"path": where, "sha256": sha256}
    geometry = head.series.geometry
    return Image(
        array, geometry, unit=head.unit, source=source, notes=head.notes, meta=head.meta
    )


class HeadedSeries(NamedTuple):
    """What the headers of a series say of the volume."""

    series: Series
    lines: list[tuple[float, float]]  # slope and intercept of each slice
    factors: Floats  # to the unit, of each slice
    dtype: np.dtype[Any]
    unit: str | None
    notes: list[str]
    meta: dict[str, Any]

    @property
    def n_bytes(self) -> int:
        """Bytes of the volume as it is loaded."""
        return math.prod(self.series.geometry.shape) * self.dtype.itemsize

    @property
    def reading(self) -> int:
        """Bytes of it and of one slice as file, stored and float64 values."""
        return self.n_bytes + math.prod(self.series.geometry.shape[1:]) * 24


def head_dicom(
    folder: str | os.PathLike[str],
    *,
    series: str | int | None = None,
    suv: str = "SUVbw",
) -> HeadedSeries:
    """Read the headers of a series only, with the same errors and notes."""
    one_of("suv", suv, UNITS)
    where = os.fspath(folder)
    with h.quiet():
        chosen = choose_series(Path(folder), series)
        _ = chosen.geometry  # raises what is wrong with the stack
        lines = [_rescale(header, where) for header in chosen.headers]
        _check_stored(chosen)
        factors = np.ones(len(lines))
        dtype, unit, meta = _dtype(chosen.headers[0], lines), None, _meta(chosen)
        notes = _notes(chosen)
        if chosen.modality == "CT":
            unit = "HU"
        elif chosen.modality == "PT":
            dtype, unit = np.dtype(np.float32), suv
            factors, meta["suv"], more = suv_scale(chosen.headers, suv, where)
            notes += more
    return HeadedSeries(chosen, lines, factors, dtype, unit, notes, meta)


# --- which series there are -----------------------------------------------------------


def find_series(folder: Path) -> dict[str, Series]:
    """Image series of a folder, or if it has none of its nearest subfolders, by UID.

    Structures, segmentations, doses, DICOMDIR, localizers, second copies of a file and
    files that are not DICOM are passed over; damaged image files are warned about.
    """
    if not folder.is_dir():
        raise InputError("folder not found", str(folder), "check the path")
    with h.quiet():
        level, found, notes = [folder], Slices(), list[str]()
        for _ in range(_DEPTH):
            below = list(chain.from_iterable(map(listing, level)))
            found, more = _headers([path for path in below if path.is_file()])
            notes += more
            level = [path for path in below if path.is_dir()]
            if found:
                break
        found, more = _distinct(found, str(folder))
        groups: dict[str, Slices] = {}
        for path, header in found:
            uid = h.text(header, "SeriesInstanceUID")
            groups.setdefault(uid, []).append((path, header))
        notes += more
        return {uid: _series(uid, group, notes) for uid, group in groups.items()}


def listing(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing if it may not be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _headers(files: Sequence[Path]) -> tuple[Slices, list[str]]:
    """Headers of the image slices, and notes on files that should be such."""
    out, damaged = [], []
    for path in files:
        header = _header(path)
        if header is None:
            continue
        if _is_image(header):
            out.append((path, header))
        elif _class(header) in _SLICE_CLASSES | {""}:
            damaged.append(path.name)
    if not damaged:
        return out, []
    names = ", ".join(damaged[:5]) + (", ..." if len(damaged) > 5 else "")
    what = f"{len(damaged)} DICOM files are damaged, unreadable or without position"
    return out, [warn(f"{files[0].parent}: {what}: {names}")]


def _header(path: Path) -> Dataset | None:
    """Header of a DICOM file, empty if it is damaged; None of another file."""
    if path.name.startswith("."):  # .DS_Store, and ._x.dcm that macOS puts beside x.dcm
        return None
    try:
        with path.open("rb") as file:
            head = file.read(132)
            bare = head[:4] in _BARE
            known = bare or head[128:] == b"DICM" or path.suffix.lower() == ".dcm"
            if head and not known:
                return None
            file.seek(0)
            return pydicom.dcmread(file, stop_before_pixels=True, force=bare)
    except (OSError, *h.BROKEN):
        return Dataset()


def _class(header: Dataset) -> str:
    meta = h.text(getattr(header, "file_meta", header), "MediaStorageSOPClassUID")
    return meta or h.text(header, "SOPClassUID")


def _distinct(found: Slices, where: str) -> tuple[Slices, list[str]]:
    """Leave out localizers beside other images, and files that are there twice."""
    kinds = [h.text(header, "ImageType").upper().split("\\") for _, header in found]
    kept = [
        one for one, kind in zip(found, kinds, strict=True) if "LOCALIZER" not in kind
    ]
    kept = kept or found
    n = len(found) - len(kept)
    notes = [f"{where}: {n} localizer images passed over"] if n else []
    times = Counter(h.text(header, "SOPInstanceUID") for _, header in kept)
    out: dict[tuple[str, str], tuple[Path, Dataset]] = {}
    for path, header in kept:
        uid = h.text(header, "SOPInstanceUID")
        key = uid, (file_hash(path) if times[uid] > 1 else "")
        out.setdefault(key, (path, header))
    if n := len(kept) - len(out):
        notes.append(f"{where}: {n} files are copies of others, used once")
    return list(out.values()), notes


def _is_image(header: Dataset) -> bool:
    placed = "ImagePositionPatient" in header or is_multiframe(header)
    listed = h.text(header, "SeriesInstanceUID") != "" and "Rows" in header
    return placed and listed and h.text(header, "Modality") not in _NOT_IMAGES


def _series(uid: str, group: Slices, notes: Sequence[str]) -> Series:
    first = group[0][1]
    axes = h.numbers(first, "ImageOrientationPatient", 6) or [0.0] * 6
    normal = np.cross(axes[:3], axes[3:])

    def along(member: tuple[Path, Dataset]) -> tuple[float, Path]:
        place = h.numbers(member[1], "ImagePositionPatient", 3) or [0.0] * 3
        return float(normal @ place), member[0]

    files, headers = zip(*sorted(group, key=along), strict=True)
    return Series(
        folder=files[0].parent,
        uid=uid,
        modality=h.text(first, "Modality"),
        description=h.text(first, "SeriesDescription"),
        frame_uid=h.text(first, "FrameOfReferenceUID"),
        files=files,
        headers=headers,
        notes=tuple(notes),
    )


def choose_series(path: Path, series: str | int | None = None) -> Series:
    """Return the one series of a folder, the one that is named, or that of a file."""
    where = str(path)
    if path.is_file():
        header = _header(path)
        kind = "not DICOM" if header is None else h.text(header, "Modality")
        if header is not None and _is_image(header):
            uid = h.text(header, "SeriesInstanceUID")
            if own := find_series(path.parent).get(uid):
                return own
            kind = f"{kind} localizer"
        what = f"is not an image slice ({kind or 'damaged, or without modality'})"
        raise DicomError(what, where, "give the folder of an image series")
    found = find_series(path)
    if not found:
        headers = map(_header, filter(Path.is_file, listing(path)))
        kinds = {h.text(header, "Modality") for header in headers if header}
        only = f", only {', '.join(sorted(kinds))}" if kinds else ""
        fix = "check the path, and that its files may be read"
        raise DicomError(f"holds no DICOM image series{only}", where, fix)
    wanted = str(series)
    fits = [one for one in found.values() if series is None or wanted in _names(one)]
    if len(fits) == 1:
        return fits[0]
    listed = "".join(f"\n  {one}" for one in found.values())
    name = "" if series is None else f" named {wanted!r}"
    what = f"{len(fits)} series{name}, one is needed; the folder holds:{listed}\n"
    fix = "choose with `habitat.read_dicom(folder, series=...)` (UID, description, "
    raise DicomError(what, where, fix + "number or modality), or give one of its files")


def _names(series: Series) -> tuple[str, ...]:
    return series.uid, series.description, _number(series), series.modality


def _number(series: Series) -> str:
    return h.text(series.headers[0], "SeriesNumber")


def _notes(series: Series) -> list[str]:
    """Warn of what the headers leave open."""
    out, n = [], len(series.files)
    kind = h.text(series.headers[0], "ImageType")
    if "MIP" in kind.upper().split("\\"):
        out.append(f"{series.folder}: maximum intensity projections ({kind})")
    if n == 1 and not thickness(series.headers):
        out.append(f"{series.folder}: a single slice without thickness, taken as 1 mm")
    announced = h.number(series.headers[0], "NumberOfSlices") or 0
    if announced > n:
        what = f"{n} slices found, the header announces {announced:g}"
        out.append(f"{series.folder}: {what}: cropped, or not copied in full?")
    return [*series.notes, *(warn(note) for note in out)]


# --- voxels ---------------------------------------------------------------------------


def _rescale(header: Dataset, where: str) -> tuple[float, float]:
    out = []
    for keyword, absent in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        found = h.number(header, keyword) if h.given(header, keyword) else absent
        if found is None or abs(found) > 1e12:  # float32 must hold the values
            what = f"{keyword} is not a number below 1e12"
            raise DicomError(what, where, "export it again")
        out.append(found)
    return out[0], out[1]


def _check_stored(series: Series) -> None:
    """Refuse what would give values without an error, but not the right ones."""
    out = []
    # PET's slopes are checked with all else that forbids an SUV
    headers = () if series.modality == "PT" else series.headers
    n, sloped = len(headers), sum(h.given(one, "RescaleSlope") for one in headers)
    if 0 < sloped < n:
        out.append(f"RescaleSlope is missing in {n - sloped} of {n} slices")
    elif any(h.number(header, "RescaleSlope") == 0 for header in headers):
        out.append("RescaleSlope is 0")
    if any(
        h.text(one, "PhotometricInterpretation") in _COLORS for one in series.headers
    ):
        out.append("pixels are colors, not gray values")
    for header in series.headers:
        bits, high = (h.number(header, key) for key in ("BitsStored", "HighBit"))
        if bits and high is not None and high != bits - 1:
            out.append(f"HighBit is {high:g}, not BitsStored - 1 = {bits - 1:g}")
            break
    fix = "copy or export it again"
    raise_all([DicomError(what, str(series.folder), fix) for what in out])


def _dtype(header: Dataset, lines: Sequence[tuple[float, float]]) -> np.dtype[Any]:
    """Smallest type that holds every rescaled value exactly; else float32."""
    if not all(m.is_integer() and b.is_integer() for m, b in lines):
        return np.dtype(np.float32)
    bits = int(min(h.number(header, "BitsStored") or 16, 32))
    low = -(2 ** (bits - 1)) if h.number(header, "PixelRepresentation") else 0
    ends = [m * v + b for m, b in lines for v in (low, low + 2**bits - 1)]
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float64)


def _voxels(
    series: Series,
    lines: Sequence[tuple[float, float]],
    factors: Floats,
    dtype: np.dtype[Any],
) -> tuple[npt.NDArray[Any], str]:
    """Decode, rescale and stack the slices; sha256 of the bytes they came from."""
    out = np.empty(series.geometry.shape, dtype)
    digest = hashlib.sha256()
    for z, (path, line) in enumerate(zip(series.files, lines, strict=True)):
        data = path.read_bytes()
        digest.update(data)
        values = _plane(path, data, line) * factors[z]
        if values.shape != out.shape[1:]:
            what = f"pixels have shape {values.shape}, not {out.shape[1:]}"
            raise DicomError(what, str(path), "give gray-value slices")
        out[z] = values
        if dtype.kind == "i" and not np.array_equal(out[z], values):
            what = "pixels exceed their BitsStored"
            raise DicomError(what, str(path), "export it again")
    return out, digest.hexdigest()


def _plane(path: Path, data: bytes, line: tuple[float, float]) -> Floats:
    """Rescaled values of one file, in float64."""
    syntax = "unknown"
    try:
        slice_ = pydicom.dcmread(BytesIO(data), force=True)
        uid = slice_.file_meta.get("TransferSyntaxUID")
        if uid is None:  # a bare data set; pydicom has seen which of the two it is
            implicit = slice_.original_encoding[0]
            uid = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            slice_.file_meta.TransferSyntaxUID = uid
        syntax = uid.name
        if uid.is_compressed and uid != RLELossless:
            # GDCM, which rescales; one file at a time, so with the slice's own slope
            image = sitk.ReadImage(str(path), sitk.sitkFloat64, imageIO="GDCMImageIO")
            decoded: Floats = sitk.GetArrayFromImage(image)
            return decoded[0] if decoded.ndim == 3 else decoded
        stored = np.asarray(slice_.pixel_array, dtype=np.float64)
    except h.BROKEN as error:
        reason = " ".join(str(error).split())[-200:]
        what = f"pixels cannot be read (transfer syntax {syntax}): {reason}"
        raise DicomError(what, str(path), "copy or export it again") from error
    out: Floats = stored * line[0] + line[1]
    return out


def series_hash(series: Series) -> str:
    """Sha256 of the files' bytes in slice order."""
    digest = hashlib.sha256()
    for path in series.files:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _meta(series: Series) -> dict[str, Any]:
    header = series.headers[0]
    out: dict[str, Any] = {
        "modality": series.modality,
        "series_uid": series.uid,
        "frame_of_reference_uid": series.frame_uid or None,
    }
    for keyword, name in _TEXTS.items():
        out[name] = h.text(header, keyword) or None
    for keyword, name in _FACTS.items():
        out[name] = h.number(header, keyword)
    return {name: value for name, value in out.items() if value is not None}

"""The grid of a stack of DICOM slices, refused where they do not make a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from habitat.errors import DicomError, GeometryError, raise_all
from habitat.geometry import Geometry
from habitat.io import _header as h

Floats = npt.NDArray[np.float64]

SAME_PLACE = 0.01  # mm, slices closer than this are double
MAX_TILT = 0.05  # degrees, less than Geometry's limit of shear
MAX_OFF = 0.2  # mm, positions are often rounded to 0.1

_APART = (  # what volumes of one series differ in
    "TemporalPositionIdentifier",
    "FrameReferenceTime",
    "TriggerTime",
    "EchoTime",
    "DiffusionBValue",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ImageType",
)


class Stack(NamedTuple):
    """Slices in order along their normal."""

    folder: Path
    files: Sequence[Path]
    headers: Sequence[Dataset]


def stack_geometry(stack: Stack) -> Geometry:
    """Grid of the slices; DicomError where they do not make a volume."""
    where = str(stack.folder)
    if any(map(is_multiframe, stack.headers)):
        modality = h.text(stack.headers[0], "Modality")
        what = f"enhanced or multi-frame {modality} is not supported"
        raise DicomError(what, where, "convert with dcm2niix")
    frames = {h.text(header, "FrameOfReferenceUID") for header in stack.headers}
    if len(frames) > 1:
        what = f"slices are of {len(frames)} frames of reference"
        raise DicomError(what, where, "keep one of them in the folder")
    rows, columns = (int(_common(stack, key, 1, 0)[0]) for key in ("Rows", "Columns"))
    dy, dx = _common(stack, "PixelSpacing", 2, 1e-3)
    if min(rows, columns) < 1 or min(dy, dx) <= 0:
        what = f"has {rows} x {columns} pixels of {dy:g} x {dx:g} mm"
        raise DicomError(what, where, "export it again")
    axes = _common(stack, "ImageOrientationPatient", 6, 1e-3)
    x, y = axes[:3], axes[3:]
    if np.abs([x @ x - 1, y @ y - 1, x @ y]).max() > 0.01:
        what = f"ImageOrientationPatient is not two perpendicular directions: {axes}"
        raise DicomError(what, where, "export it again")
    places = _vectors(stack, "ImagePositionPatient", 3)
    normal = np.cross(x, y)
    affine = np.eye(4)
    affine[:3, 0] = _slice_step(stack, places, normal / np.linalg.norm(normal))
    affine[:3, 1] = y / np.linalg.norm(y) * dy
    affine[:3, 2] = x / np.linalg.norm(x) * dx
    affine[:3, 3] = places[0]
    try:
        return Geometry((len(places), rows, columns), affine)
    except GeometryError as error:
        raise DicomError(error.what, where, error.fix) from error


def _vectors(stack: Stack, keyword: str, count: int) -> Floats:
    """Numbers of an attribute in every slice, shape (slices, count)."""
    out = []
    for file, header in zip(stack.files, stack.headers, strict=True):
        found = h.numbers(header, keyword, count)
        if found is None:
            what = f"{keyword} is missing or not {count} numbers"
            raise DicomError(what, str(file), "export it again")
        out.append(found)
    return np.array(out)


def _common(stack: Stack, keyword: str, count: int, tolerance: float) -> Floats:
    """Numbers of an attribute that all slices must share."""
    every = _vectors(stack, keyword, count)
    other = np.abs(every - every[0]).max(axis=1) > tolerance
    if other.any():
        main, odd = 0, int(np.argmax(other))
        if other.sum() > len(other) / 2:
            main, odd, other = odd, main, ~other
        one, two = (" ".join(f"{v:g}" for v in every[i]) for i in (main, odd))
        what = f"{keyword} differs between slices: {one} in {(~other).sum()} of them"
        kind = h.text(stack.headers[odd], "ImageType")
        what = f"{what}, {two} in {stack.files[odd].name}" + (kind and f" ({kind})")
        fix = "several series or a localizer in one? Keep one of them"
        raise DicomError(what, str(stack.folder), fix)
    first: Floats = every[0]
    return first


def _slice_step(stack: Stack, places: Floats, normal: Floats) -> Floats:
    """Vector in mm from one slice to the next, of slices checked to be regular."""
    where = str(stack.folder)
    if len(places) == 1:
        return normal * (thickness(stack.headers) or 1.0)
    raise_all(_stack_problems(stack, places, places @ normal, normal))
    step: Floats = (places[-1] - places[0]) / (len(places) - 1)
    length = float(step @ normal)
    aside = float(np.linalg.norm(step - length * normal))
    tilt = math.degrees(math.atan2(aside, length))
    if tilt > MAX_TILT:
        what = f"slices are sheared by {tilt:.2f} degrees (gantry tilt)"
        raise DicomError(what, where, "convert with dcm2niix, which corrects the tilt")
    even = places[0] + np.outer(range(len(places)), step)
    off = np.linalg.norm(places - even, axis=1)
    if off.max() > min(0.2 * length, MAX_OFF):
        gaps = np.diff(places @ normal)
        what = f"slice distances vary from {gaps.min():.3f} to {gaps.max():.3f} mm"
        raise DicomError(what, where, "resample to even slices or export them again")
    return step


def _stack_problems(
    stack: Stack, places: Floats, height: Floats, normal: Floats
) -> list[DicomError]:
    """Slices that are double or missing, told by their `height` along the normal."""
    where, axis = str(stack.folder), int(np.argmax(np.abs(normal)))
    gaps = np.diff(height)
    double = np.flatnonzero(gaps < SAME_PLACE)
    out = []
    if len(double):
        i = int(double[0])
        near = f"{'xyz'[axis]}={places[i, axis]:.4g}"
        names = f"{stack.files[i].name}, {stack.files[i + 1].name}"
        what = f"{len(double)} slices are double, the first near {near} ({names})"
        fix = "several phases, time points or copies in one series? Keep one of them"
        if volumes := _volumes(stack, gaps):
            what = f"{volumes}: {what}"
        out.append(DicomError(what, where, fix))
    if len(double) == len(gaps):
        return out
    unit = np.median(gaps[gaps >= SAME_PLACE])
    lost = np.maximum(np.rint(gaps / unit) - 1, 0)
    if lost.any():
        holes = np.flatnonzero(lost)
        first = places[holes] + np.diff(places, axis=0)[holes] / (lost[holes, None] + 1)
        near = ", ".join(f"{'xyz'[axis]}={v:.4g}" for v in first[:5, axis])
        total = len(places) - len(double) + lost.sum()
        what = f"{lost.sum():.0f} of {total:.0f} slices missing near {near}"
        out.append(DicomError(what, where, "copy or export the series again"))
    return out


def _volumes(stack: Stack, gaps: Floats) -> str:
    """Say how many images there are at every position, if they are equally many."""
    starts = np.flatnonzero(np.r_[True, gaps >= SAME_PLACE, True])
    counts = np.diff(starts)
    n = int(counts[0])
    if (counts != n).any():
        return ""
    text = f"{n} images at each of {len(counts)} positions"
    series_type = h.text(stack.headers[0], "SeriesType")
    if series_type.startswith(("DYNAMIC", "GATED")):
        text = f"{series_type.split(chr(92))[0].lower()} PET, {n} time points: {text}"
    for keyword in _APART:
        found = {h.text(header, keyword) for header in stack.headers}
        values = sorted(found, key=lambda text: (len(text), text))
        if len(values) == n:
            return f"{text} with {keyword} {', '.join(values[:10])}"
    return text


def thickness(headers: Sequence[Dataset]) -> float:
    """Return SliceThickness in mm, 0 if there is none."""
    found = h.number(headers[0], "SliceThickness") or 0.0
    return max(found, 0.0)


def is_multiframe(header: Dataset) -> bool:
    """Whether one file holds several slices (enhanced or legacy converted)."""
    frames = h.number(header, "NumberOfFrames") or 1
    return frames > 1 or "SharedFunctionalGroupsSequence" in header

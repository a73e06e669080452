"""RTSTRUCT: contours of one structure to a mask on an image series' grid."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from habitat._check import warn
from habitat.errors import DicomError, GeometryError
from habitat.geometry import Floats, Geometry
from habitat.image import Image
from habitat.io import _header as h
from habitat.io._dicom import Series, choose_series, find_series, listing
from habitat.io._files import file_hash, read_file
from habitat.io._segmentations import pick
from habitat.io._sources import is_dicom

Polygon = tuple[int, Floats]  # slice index, (n, 2) continuous (y, x) index

OFF_SLICE = 0.1  # slices by which a point may miss its slice's plane
SNAP = 6  # decimals of a voxel kept: noise of decimal text is below
MAX_BAD = 0.05  # share of contours that may be skipped
MAX_OUTSIDE = 0.01  # share of voxels that may lie outside the grid

_CONTOUR_DATA = 0x30060050
_REACH_MM = 1e6  # no scanner's coordinates go there
_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")


@dataclass(frozen=True)
class Structure:
    """One structure of an RTSTRUCT file."""

    number: int
    name: str
    frame_uid: str  # "" where the file does not say
    contours: Sequence[Dataset]


@dataclass(frozen=True)
class Grid:
    """What is used of a Series, for a reference that is not one."""

    geometry: Geometry
    frame_uid: str = ""
    uid: str = ""


Source = Image | Geometry | Grid | str | os.PathLike[str]
Reference = Source | Sequence[Source] | None


def read_rtstruct(
    path: Path, label: int | str | None, reference: Reference = None
) -> Image:
    """Rasterize one structure on the grid of the series that it was drawn on."""
    where = str(path)
    structure, grid, notes = head_rtstruct(path, label, reference)
    with h.readable(where):
        polygons, skipped = _polygons(structure.contours, grid.geometry)
    subject = f"{where}: structure {structure.name!r}"
    notes += _check_skipped(skipped, len(structure.contours), subject)
    mask, outside = rasterize(polygons, grid.geometry.shape)
    notes += _check_outside(int(np.count_nonzero(mask)), outside, subject)
    notes += _gaps([z for z, _ in polygons], subject)
    notes += _cancelled(polygons, mask, subject)
    notes.append(f"{subject}: {len(polygons)} contours rasterized")
    meta = {
        "structure": structure.name,
        "series_uid": grid.uid,
        "frame_of_reference_uid": grid.frame_uid or structure.frame_uid,
    }
    source = {"path": where, "sha256": file_hash(path)}
    return Image(mask, grid.geometry, source=source, notes=notes, meta=meta)


def head_rtstruct(
    path: Path, label: int | str | None, reference: Reference
) -> tuple[Structure, Grid | Series, list[str]]:
    """Structure, its grid and notes, with the errors that show before rasterizing."""
    where = str(path)
    with h.readable(where):
        file = pydicom.dcmread(path, force=True)
        structures = _structures(file)
        wanted = _wanted(file)
    structure = _choose(structures, label, where)
    grid, notes = _find_grid(path, wanted, structure, reference)
    _check_frame(structure, grid, structures, where)
    return structure, grid, notes


# --- the file -------------------------------------------------------------------------


def _structures(file: Dataset) -> list[Structure]:
    contours: dict[int, list[Dataset]] = {}
    for item in h.items(file, "ROIContourSequence"):
        if (number := h.number(item, "ReferencedROINumber")) is not None:
            contours.setdefault(int(number), []).extend(
                h.items(item, "ContourSequence")
            )
    named = [
        Structure(
            int(number),
            h.text(item, "ROIName"),
            h.text(item, "ReferencedFrameOfReferenceUID"),
            contours.get(int(number), []),
        )
        for item in h.items(file, "StructureSetROISequence")
        if (number := h.number(item, "ROINumber")) is not None
    ]
    nameless = contours.keys() - {s.number for s in named}
    return named + [Structure(n, "", "", contours[n]) for n in sorted(nameless)]


def _wanted(file: Dataset) -> list[tuple[str, str]]:
    """(frame of reference, series) UIDs that the structures were drawn on."""
    return [
        (h.text(frame, "FrameOfReferenceUID"), uid)
        for frame in h.items(file, "ReferencedFrameOfReferenceSequence")
        for study in h.items(frame, "RTReferencedStudySequence")
        for series in h.items(study, "RTReferencedSeriesSequence")
        if (uid := h.text(series, "SeriesInstanceUID"))
    ]


def _choose(
    structures: Sequence[Structure], label: int | str | None, where: str
) -> Structure:
    drawn = [s for s in structures if s.contours]
    shared = [n for n, times in Counter(s.number for s in drawn).items() if times > 1]
    if shared:
        names = ", ".join(repr(s.name) for s in drawn if s.number == shared[0])
        what = f"structures {names} share ROI number {shared[0]} and so their contours"
        raise DicomError(what, where, "export it again")
    if not drawn:
        names = ", ".join(repr(s.name) for s in structures) or "none at all"
        what = f"no structure has contours (structures: {names})"
        raise DicomError(what, where, "export it again")
    items = [(s.number, s.name) for s in drawn]
    sizes = [len(s.contours) for s in drawn]
    unit = "contours"
    return drawn[pick(items, label, lambda: sizes, where, unit=unit, error=DicomError)]


# --- the grid -------------------------------------------------------------------------


def _find_grid(
    path: Path,
    wanted: Sequence[tuple[str, str]],
    structure: Structure,
    reference: Reference,
) -> tuple[Grid | Series, list[str]]:
    own = [series for frame, series in wanted if frame == structure.frame_uid]
    uids = own or [series for _, series in wanted]
    given = list(_given(reference))
    for grid in given:
        if grid.uid in uids:
            return grid, []
    if near := _search(path.resolve().parent, uids):
        return near, []
    names = " or ".join(uids) or "(not named in the file)"
    for grid in given:
        if grid.frame_uid in ("", structure.frame_uid):
            what = "rasterized on the reference image's grid, as the series it was "
            return grid, [f"{path}: {what}drawn on is not there: {names}"]
    if given:
        return given[0], []  # of another frame of reference, refused by _check_frame
    what = f"the series it was drawn on is not found: SeriesInstanceUID {names}"
    fix = "put that series' folder beside it or pass it as `reference=`"
    raise DicomError(what, str(path), fix)


def _given(reference: Reference) -> Iterator[Grid | Series]:
    if reference is None:
        return
    if isinstance(reference, Grid):
        yield reference
    elif isinstance(reference, Geometry):
        yield Grid(reference)
    elif isinstance(reference, Image):
        meta = reference.meta
        uids = [meta.get(k) or "" for k in ("frame_of_reference_uid", "series_uid")]
        yield Grid(reference.geometry, *uids)
    elif isinstance(reference, (str, os.PathLike)):
        path = Path(reference)
        if path.is_dir():
            yield from find_series(path).values()
        elif is_dicom(path):
            yield choose_series(path)
        else:
            yield Grid(read_file(path).geometry)
    else:
        for one in reference:
            yield from _given(one)


def _search(here: Path, uids: Sequence[str]) -> Series | None:
    """Look for a series in the file's folder, those in it and those beside it."""
    folders = [p for p in (*listing(here), *listing(here.parent)) if p.is_dir()]
    for folder in dict.fromkeys([here, *folders]):
        if any(_series_uid(path) in uids for path in listing(folder) if path.is_file()):
            found = find_series(folder)
            for uid in uids:
                if uid in found:
                    return found[uid]
    return None


def _series_uid(path: Path) -> str:
    tags = ["SeriesInstanceUID"]
    try:
        with h.readable(str(path)):
            file = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    except DicomError:
        return ""
    return h.text(file, "SeriesInstanceUID")


def _check_frame(
    structure: Structure,
    grid: Grid | Series,
    structures: Sequence[Structure],
    where: str,
) -> None:
    frames = structure.frame_uid, grid.frame_uid
    if all(frames) and frames[0] != frames[1]:
        names = ", ".join(repr(s.name) for s in structures)
        what = f"structure {structure.name!r} is drawn in frame of reference "
        what += f"{frames[0]} but the image has {frames[1]} (structures: {names})"
        raise DicomError(what, where, "give the series that it was drawn on")


# --- the contours ---------------------------------------------------------------------


def _polygons(
    contours: Sequence[Dataset], grid: Geometry
) -> tuple[list[Polygon], Counter[str]]:
    """Polygons on the grid's slices, and why how many contours were skipped."""
    polygons: dict[tuple[int, bytes], Polygon] = {}
    skipped: Counter[str] = Counter()
    for contour in contours:
        points = _points(contour)
        reason = _reason(contour, points)
        if not reason:
            index = grid.index(points)
            reason = _misplaced(index, grid.shape)
        if reason:
            skipped[reason] += 1
            continue
        z, outline = round(float(np.median(index[:, 0]))), index[:, 1:]
        if polygons.setdefault((z, _key(outline)), (z, outline))[1] is not outline:
            skipped["given twice"] += 1  # even-odd would cancel the pair
    return list(polygons.values()), skipped


def _key(outline: Floats) -> bytes:
    """Its edges in order: the same for any start, direction or repeated point."""
    low, high = _edges(outline)
    edges: Floats = np.hstack([low, high])[(low != high).any(axis=1)] + 0.0  # no -0.0
    return edges[np.lexsort(edges.T)].tobytes()


def _points(contour: Dataset) -> Floats:
    """LPS points (n, 3); without any where the data are not triples of numbers."""
    element: Any = contour.get_item(_CONTOUR_DATA) if _CONTOUR_DATA in contour else None
    value = element.value if element is not None else b""
    if isinstance(value, bytes):  # not parsed yet: pydicom's decimals are slow
        value = value.strip(b"\0 ").split(b"\\")
    try:
        numbers = np.array(value, dtype=np.float64).ravel()
        return numbers.reshape(-1, 3)
    except ValueError:
        return np.empty((0, 3))


def _reason(contour: Dataset, points: Floats) -> str:
    if h.text(contour, "ContourGeometricType") not in _CLOSED:
        return "not closed"
    if len(points) == 0 or not (np.abs(points) < _REACH_MM).all():  # NaN fails too
        return "unreadable"
    return "of fewer than 3 points" if len(points) < 3 else ""


def _misplaced(index: Floats, shape: Sequence[int]) -> str:
    low, high = index.min(axis=0), index.max(axis=0)
    n = np.array(shape)
    if (low < -n - 1).any() or (high > 2 * n).any():
        return "far outside the image"
    if high[0] - low[0] > 2 * OFF_SLICE:
        return "not in the plane of the slices"
    middle = float(np.median(index[:, 0]))
    return "between two slices" if abs(middle - round(middle)) > OFF_SLICE else ""


def _check_skipped(skipped: Counter[str], total: int, subject: str) -> list[str]:
    copies = skipped.pop("given twice", 0)
    notes = [f"{subject}: {copies} contours given twice, used once"] if copies else []
    count = skipped.total()
    if not count:
        return notes
    reasons = ", ".join(f"{n} {reason}" for reason, n in skipped.most_common())
    what = f"{count} of {total} contours cannot be used: {reasons}"
    if count > MAX_BAD * total:
        fix = "check that the image is the series it was drawn on, or export it again"
        raise DicomError(what, subject, fix)
    return [*notes, warn(f"{subject}: {what}; they were skipped")]


def _check_outside(inside: int, outside: int, subject: str) -> list[str]:
    if not outside:
        return []
    total = inside + outside
    what = f"{outside} of its {total} voxels lie outside the image"
    if outside > MAX_OUTSIDE * total:
        what = f"{100 * inside / total:.3g}% of the mask lies in the image: {what}"
        raise GeometryError(what, subject, "give the whole series as `reference=`")
    return [warn(f"{subject}: {what}")]


def _gaps(slices: Sequence[int], subject: str) -> list[str]:
    drawn = len(set(slices))
    empty = max(slices) - min(slices) + 1 - drawn
    if not empty:
        return []
    text = f"{subject}: {empty} slices without a contour between {drawn} with one; "
    text += "they stay empty"
    # Most slices empty is the sign of contours drawn on a series of thicker slices.
    return [warn(text) if empty >= drawn - 1 else text]


def _cancelled(
    polygons: Sequence[Polygon], mask: npt.NDArray[np.bool_], subject: str
) -> list[str]:
    """Note slices on which the even-odd rule may not give what was meant."""
    slices: dict[int, list[Floats]] = {}
    for z, outline in polygons:
        if 0 <= z < len(mask):
            slices.setdefault(z, []).append(outline)
    lost = sum(
        not mask[z].any() and any(np.ptp(one, axis=0).min() >= 2 for one in outlines)
        for z, outlines in slices.items()
    )
    crossed = sum(map(_cross, slices.values()))
    notes = [f"{lost} slices whose contours fill no voxel"] if lost else []
    if crossed:
        what = f"contours cross on {crossed} slices"
        notes.append(f"{what}: voxels inside an even number of them are left out")
    return [f"{subject}: {note}" for note in notes]


def _cross(outlines: Sequence[Floats]) -> bool:
    """Whether two contours of a slice share voxels, but neither holds the other."""
    if len(outlines) < 2:
        return False
    points = np.concatenate(outlines)
    low = np.floor(points.min(axis=0))
    ny, nx = (np.ceil(points.max(axis=0)) - low).astype(int) + 1
    masks = [rasterize([(0, one - low)], (1, ny, nx))[0] for one in outlines]
    owner = np.zeros((1, ny, nx), np.int64)  # the smallest contour around a voxel
    for number, mask in enumerate(sorted(masks, key=np.sum, reverse=True), 1):
        around = owner[mask]
        if (around != around[:1]).any():
            return True
        owner[mask] = number
    return False


def rasterize(
    polygons: Sequence[Polygon], shape: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], int]:
    """Mask of the voxels whose center is inside an odd number of polygons.

    A center on an outline (to 1e-6 voxel) belongs to the polygon that lies behind
    it, towards higher x (higher y where the outline runs along x), so that two
    structures with a common border neither overlap nor leave a gap.

    Parameters
    ----------
    polygons : sequence of (int, array of shape (n, 2))
        Slice, and the vertices of a closed polygon as continuous (y, x) index.
    shape : sequence of int
        Voxels of the grid along (z, y, x).

    Returns
    -------
    mask : bool array of shape (z, y, x)
    outside : int
        Voxels of the same spacing that the polygons cover outside the grid.
    """
    mask = np.zeros(tuple(shape), dtype=bool)
    z, y, x = _crossings(polygons)
    order = np.lexsort((x, y, z))
    # The crossings of a line, sorted, are pairs: first voxel of a run, first after it.
    z, y = z[order][::2], y[order][::2]
    start, stop = x[order][::2], x[order][1::2]
    total = int((stop - start).sum())
    start, stop = np.clip(start, 0, shape[2]), np.clip(stop, 0, shape[2])
    hit = (start < stop) & (z >= 0) & (z < shape[0]) & (y >= 0) & (y < shape[1])
    runs = (a[hit].tolist() for a in (z, y, start, stop))
    for plane, row, first, last in zip(*runs, strict=True):
        mask[plane, row, first:last] = True
    return mask, total - int((stop - start)[hit].sum())


def _crossings(polygons: Sequence[Polygon]) -> tuple[npt.NDArray[np.int64], ...]:
    """Where edges cross lines of voxel centers: (z, y, first x at or behind)."""
    slices = np.repeat([z for z, _ in polygons], [len(p) for _, p in polygons])
    edges = [_edges(p) for _, p in polygons]
    low, high = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    first = np.ceil(low[:, 0]).astype(np.int64)
    count = np.ceil(high[:, 0]).astype(np.int64) - first  # lines in [low, high)
    edge = np.repeat(np.arange(len(low)), count)
    y = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (y0, x0), (y1, x1) = low[edge].T, high[edge].T
    x = np.ceil((x0 + (y - y0) * (x1 - x0) / (y1 - y0)).round(SNAP))
    return slices[edge], y, x.astype(np.int64)


def _edges(outline: Floats) -> tuple[Floats, Floats]:
    """Edges from low to high, so that one run both ways crosses at one place."""
    a = outline.round(SNAP)
    b = np.roll(a, -1, axis=0)
    swap = (a[:, :1] > b[:, :1]) | ((a[:, :1] == b[:, :1]) & (a[:, 1:] > b[:, 1:]))
    return np.where(swap, b, a), np.where(swap, a, b)

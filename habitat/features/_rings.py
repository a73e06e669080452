"""Rings around a tumor, and rims inside it, by distance in millimeters.

Distances are those of the Euclidean distance transform between voxel centers, in mm.
(To the faces of voxels they would be shorter: a ring of 3 mm around a ball of 1 mm
voxels is then 24 % too large, between centers 5 % too small.)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from habitat._check import collector, one_of, warn
from habitat.case import load_inputs, modality_problems
from habitat.errors import (
    ConfigError,
    HabitatError,
    InputError,
    MaskError,
    ModalityError,
    raise_all,
)
from habitat.geometry import Box, Geometry, bounding_box, grow
from habitat.image import Image
from habitat.io._grids import coverage, needed
from habitat.io._masks import read_mask
from habitat.io._memory import check_memory
from habitat.voxels import tumor_on

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

Mask: TypeAlias = npt.NDArray[np.bool_]
Shells: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

KEPT_LEAST = 0.25  # a ring that keeps less of itself says little about its distance
VESSEL_MM = 6.0  # thinner than this is a vessel, thicker an organ or the chest wall
MOST_EDGES = 100
_TIE_MM = 1e-6
_BEYOND = "beyond the field of view"


@dataclass(frozen=True, eq=False)
class Rings:
    """Rings around a tumor.

    Attributes
    ----------
    labels : Image
        Shells 1.. between neighboring edges from the inside out, uint8, 0 elsewhere,
        on the part of the grid that holds them; what was left out is 0.
    bands : mapping of str to tuple of int
        Name of each ring ("ring_0_3") and the shells it is made of: one, or several
        where rings are cumulative.
    kept : mapping of str to float
        Share of each ring that is left, of its whole volume: with what lies beyond the
        field of view.
    params : mapping
        Edges and thresholds.
    notes : tuple of str
        What was left out of each ring, and what else a reader must know.
    """

    labels: Image
    bands: Mapping[str, tuple[int, ...]]
    kept: Mapping[str, float]
    params: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rings from the inside out."""
        return tuple(self.bands)

    def mask(self, name: str) -> Image:
        """One ring as a mask, for `habitat.segment` or any other function.

        Parameters
        ----------
        name : str
            One of `names`.

        Raises
        ------
        ConfigError
            If there is no such ring.
        MaskError
            If nothing is left of it.

        Examples
        --------
        >>> import habitat
        >>> p = habitat.phantom(radius_mm=12, margin_mm=20)
        >>> rings = habitat.ring(p.mask, p.ct, edges=(0, 10))
        >>> result = habitat.segment(p.pet, p.ct, rings.mask("ring_0_10"), k=2)
        >>> result.k
        2
        """
        inside = np.isin(
            self.labels.array, self.bands[one_of("name", name, self.bands)]
        )
        if not inside.any():
            what = f"{name} has no voxel ({self.kept[name]:.0%} of it are left)"
            raise MaskError(what, "mask", "see the notes of these rings for the reason")
        return Image(inside, self.labels.geometry)


def ring(
    mask: MaskLike,
    ct: ChannelLike | None = None,
    *,
    edges: Sequence[float] = (0, 3, 5, 10),
    cumulative: bool = False,
    inside: ChannelLike | None = None,
    exclude: ChannelLike | Sequence[ChannelLike] = (),
    bone_hu: float | None = 200.0,
    air_hu: float | None = -950.0,
    vessel_hu: float | None = None,
    label: int | str | None = None,
) -> Rings:
    """Rings around a tumor, by distance in mm.

    Parameters
    ----------
    mask : path, SimpleITK.Image, Image or array, RTSTRUCT, DICOM SEG, .seg.nrrd
        The tumor.
    ct : path, SimpleITK.Image, Image or array, HU, optional
        Gives the grid of the rings and what is bone, air and vessels. Without it the
        grid is that of the mask, and nothing is left out by its density.
    edges : sequence of float, mm, increasing
        Each neighboring pair bounds a ring, the outer edge included: by default
        (0, 3], (3, 5], (5, 10]. Negative edges lie inside the tumor: ``(-3, 0)`` is its
        outermost 3 mm.
    cumulative : bool
        All rings begin at the first edge: (0, 3], (0, 5], (0, 10].
    inside : as `mask`, optional
        Keep only what lies in here, such as the lung of this side. Give it filled:
        vessels that it leaves out are left out of the rings.
    exclude : as `mask`, or a list of such
        What is left out, always the other lesions.
    bone_hu : float or None, HU
        Voxels above are bone (or vessels full of contrast medium) and left out.
    air_hu : float or None, HU
        Voxels below are air (outside the body, in airways, in bullae) and left out,
        but for specks of noise: parts that hold no plus of five voxels in a slice.
    vessel_hu : float or None, HU
        Soft tissue above, such as -300 in the lung, is left out where it is thinner
        than 6 mm: vessels, and with them septa and spicules of the tumor. None keeps
        them.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.

    Returns
    -------
    Rings
        ``names`` such as "ring_0_3"; "rim_0_3" lies 0 to 3 mm below the surface and
        "border_3_5" goes from 3 mm inside to 5 mm outside.

    Raises
    ------
    HabitatError
        One of its kinds; the message names all problems found.

    Warns
    -----
    HabitatWarning
        If a ring leaves the field of view (a tight mask without a CT cannot be
        extended) or if less than 25% of it is kept.

    Notes
    -----
    Distances are Euclidean, in mm, from the center of a voxel to that of the nearest
    one of the tumor (inside it: of its surroundings), so that voxels need not be cubes;
    a slice of 5 mm next to the tumor lies at 5 mm. The parts of a tumor in several
    parts have common rings. Nothing is left out inside the tumor.

    Literature uses rings of 3 to 30 mm; no width is best for all tumors.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
    >>> rings = habitat.ring(p.mask, p.ct, edges=(-3, 0, 3, 6))
    >>> rings.names
    ('rim_0_3', 'ring_0_3', 'ring_3_6')
    """
    thresholds = {"bone_hu": bone_hu, "air_hu": air_hu, "vessel_hu": vessel_hu}
    params = _checked(edges, cumulative, thresholds)
    tumor = _open(mask, ct, label)
    shells, at = _shells(tumor, params["edges"])
    seen, box = _in_view(at, shells.shape, tumor.grid.shape)
    total = _counts(shells)
    shells = shells[seen].copy()
    lost = {_BEYOND: total - _counts(shells)}
    for reason, out in _left_out(tumor, box, inside, exclude, thresholds):
        gone = out & (shells > 0) & ~tumor.on(box)
        if gone.any():
            lost[reason] = _counts(np.where(gone, shells, 0))
            shells[gone] = 0
    bands = _bands(params["edges"], cumulative)
    kept, notes = _account(bands, total, lost)
    labels = Image(shells, tumor.grid.crop(box), unit="habitat")
    return Rings(labels, bands, kept, params, (*tumor.notes, *notes))


def _checked(
    edges: Any, cumulative: Any, thresholds: Mapping[str, Any]
) -> dict[str, Any]:
    """Check the options; return them as plain values."""
    problems: list[HabitatError] = []
    numbers = list(edges) if isinstance(edges, (Sequence, np.ndarray)) else []
    plain = [float(e) for e in numbers if _is_number(e)]
    if len(plain) != len(numbers) or not 2 <= len(plain) <= MOST_EDGES:
        what = f"must be 2 to {MOST_EDGES} numbers in mm, got {edges!r:.60}"
        problems.append(ConfigError(what, "`edges`"))
    elif any(a >= b for a, b in itertools.pairwise(plain)):
        what = f"must increase, got {plain}"
        problems.append(ConfigError(what, "`edges`", "such as (0, 3, 5, 10)"))
    if not isinstance(cumulative, bool):
        what = f"must be True or False, got {cumulative!r:.60}"
        problems.append(ConfigError(what, "`cumulative`"))
    for name, value in thresholds.items():
        if value is not None and not _is_number(value):
            what = f"must be a number (HU) or None, got {value!r:.60}"
            problems.append(ConfigError(what, f"`{name}`"))
    raise_all(problems)
    hu = {n: None if v is None else float(v) for n, v in thresholds.items()}
    return {"edges": plain, "cumulative": cumulative, **hu}


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    )


# --- the tumor on the grid ------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Tumor:
    """The tumor on the grid of its rings."""

    mask: Image
    mask_grid: Geometry  # all of the mask's own
    ct: Image | None
    notes: tuple[str, ...]

    @property
    def grid(self) -> Geometry:
        return self.ct.geometry if self.ct else self.mask_grid

    def on(self, box: Box) -> Mask:
        return _on(self.mask, self.grid.crop(box))


def _open(mask: Any, ct: Any, label: int | str | None) -> _Tumor:
    images = {} if ct is None else {"ct": ct}
    inputs = load_inputs(images, mask, label, {"ct": "HU"})
    image = inputs.images.get("ct")
    if image is not None:
        if image.unit != "HU":
            what = f"must have unit 'HU', has {image.unit!r}"
            raise ModalityError(what, "ct", "give the CT")
        within = needed(image, inputs.mask.geometry, "nearest").array
        values = within[np.isfinite(within)]
        if values.size:
            found = modality_problems(inputs.images, {"ct": values}, inputs.guessed)
            raise_all(found)
    return _Tumor(inputs.mask, inputs.mask_geometry, image, inputs.notes)


def _on(mask: Image, grid: Geometry) -> Mask:
    """Voxels of a grid that a mask covers by half."""
    return np.asarray(coverage(mask, grid) >= 0.5 - 1e-9)


def _shells(tumor: _Tumor, edges: list[float]) -> tuple[Shells, Ints]:
    """Shell of each voxel of a box, and where in the grid the box begins.

    The box holds all shells: it may reach beyond the grid.
    """
    around, mask = tumor_on(tumor.mask, tumor.grid)
    box = bounding_box(mask)
    mask, spacing = mask[box], np.array(tumor.grid.spacing)
    pad = np.ceil(max(edges[-1], 0) / spacing).astype(np.int64) + 1
    bytes_needed = 60 * math.prod((mask.shape + 2 * pad).tolist())
    check_memory(bytes_needed, f"`edges` up to {edges[-1]:g} mm")
    mask = np.pad(mask, [(p, p) for p in pad])
    far = ndimage.distance_transform_edt(~mask, spacing)
    if edges[0] < 0:
        far -= ndimage.distance_transform_edt(mask, spacing)  # one of the two is 0
    # The edge farther from the tumor belongs to a shell, the nearer one does not; the
    # same inside it.
    shells = np.searchsorted(edges, far - np.sign(far) * _TIE_MM)
    shells[shells == len(edges)] = 0
    start = np.array([a.start + b.start for a, b in zip(around, box, strict=True)])
    return shells.astype(np.uint8), start - pad


def _in_view(start: Ints, shape: Sequence[int], grid: Sequence[int]) -> tuple[Box, Box]:
    """Part of a box that lies on the grid: within the box, and on the grid."""
    low = np.maximum(start, 0)
    high = np.minimum(start + shape, grid)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    w, v, u = (
        slice(int(a), int(b)) for a, b in zip(low - start, high - start, strict=True)
    )
    return (w, v, u), (z, y, x)


def _counts(shells: Shells) -> Ints:
    return np.bincount(shells.ravel(), minlength=MOST_EDGES)


# --- what is left out -----------------------------------------------------------------


def _left_out(
    tumor: _Tumor,
    box: Box,
    inside: Any,
    exclude: Any,
    thresholds: Mapping[str, float | None],
) -> Iterator[tuple[str, Mask]]:
    """Reason and voxels of the box; a voxel counts for the first reason it has."""
    several = isinstance(exclude, (list, tuple))
    given = {
        f"exclude[{i}]" if several else "exclude": source
        for i, source in enumerate(exclude if several else [exclude])
        if source is not None
    }
    if inside is not None:
        given["inside"] = inside
    problems: list[HabitatError] = []
    check = collector(problems)
    masks = {name: check(_region, s, name, tumor) for name, s in given.items()}
    raise_all(problems)
    for name, mask in masks.items():
        here = _on(mask, tumor.grid.crop(box))
        yield (f"outside `{name}`", ~here) if name == "inside" else (f"`{name}`", here)
    if tumor.ct is not None:
        yield from _by_density(tumor, tumor.ct, box, thresholds)


def _region(source: Any, name: str, tumor: _Tumor) -> Image:
    """Read a mask; an array lies on the grid of the tumor's mask."""
    if isinstance(source, np.ndarray):
        if source.shape != tumor.mask_grid.shape:
            shape = tumor.mask_grid.shape
            what = f"array has shape {source.shape}, the mask {shape}"
            fix = "wrap it with its grid: habitat.Image(array, spacing=(z, y, x))"
            raise InputError(what, f"`{name}`", fix)
        source = Image(source, tumor.mask_grid)
    try:
        return read_mask(source, reference=tumor.ct)
    except HabitatError as error:
        where = f"`{name}` {error.where.replace('`mask`', '')}".strip()
        fix = error.fix.replace("`label=`", "habitat.read_mask(mask, label=...)")
        raise type(error)(error.what, where, fix) from error


def _by_density(
    tumor: _Tumor, ct: Image, box: Box, thresholds: Mapping[str, float | None]
) -> Iterator[tuple[str, Mask]]:
    reach = np.ceil(VESSEL_MM / np.array(ct.geometry.spacing)) + 2
    wide = grow(box, reach, ct.geometry.shape)
    z, y, x = (
        slice(b.start - w.start, b.stop - w.start)
        for b, w in zip(box, wide, strict=True)
    )
    hu = ct.array[wide]
    yield "without a value", ~np.isfinite(hu[z, y, x])
    bone, air, vessel = (thresholds[f"{n}_hu"] for n in ("bone", "air", "vessel"))
    if bone is not None:
        yield f"bone (> {bone:g} HU)", hu[z, y, x] > bone
    if air is not None:
        cross = ndimage.generate_binary_structure(2, 1)[None]
        thin = np.pad(hu < air, 1, "edge")
        core = ndimage.binary_erosion(thin, cross)
        whole = ndimage.binary_propagation(core, mask=thin)
        yield f"air (< {air:g} HU)", whole[1:-1, 1:-1, 1:-1][z, y, x]
    if vessel is not None:
        soft = (hu > vessel) | tumor.on(wide)
        thick = _thick(soft, ct.geometry.spacing)
        yield f"vessels (> {vessel:g} HU, thin)", (soft & ~thick)[z, y, x]


def _thick(soft: Mask, spacing: Sequence[float]) -> Mask:
    """Opening of a mask by a ball of VESSEL_MM."""
    if soft.all() or not soft.any():
        return soft
    core: Mask = ndimage.distance_transform_edt(soft, spacing) > VESSEL_MM / 2
    if not core.any():
        return core
    near: Mask = ndimage.distance_transform_edt(~core, spacing) <= VESSEL_MM / 2
    return near


# --- what is said of it ---------------------------------------------------------------


def _bands(edges: list[float], cumulative: bool) -> dict[str, tuple[int, ...]]:
    """Name and shells of each ring."""
    shells = range(1, len(edges))
    if cumulative:
        return {_name(edges[0], edges[i]): tuple(range(1, i + 1)) for i in shells}
    return {_name(edges[i - 1], edges[i]): (i,) for i in shells}


def _name(low: float, high: float) -> str:
    if low >= 0:
        return f"ring_{low:g}_{high:g}"
    if high <= 0:
        return f"rim_{abs(high):g}_{-low:g}"
    return f"border_{-low:g}_{high:g}"


def _account(
    bands: Mapping[str, tuple[int, ...]],
    total: Ints,
    lost: Mapping[str, Ints],
) -> tuple[dict[str, float], list[str]]:
    """Share that is left of each ring, and a sentence on what is not."""
    kept, notes = {}, []
    for name, codes in bands.items():
        whole = int(total[list(codes)].sum())
        gone = {why: int(n[list(codes)].sum()) for why, n in lost.items()}
        left = whole - sum(gone.values())
        kept[name] = left / whole if whole else 0.0
        told = ", ".join(f"{n} {why}" for why, n in gone.items() if n)
        if not whole:
            notes.append(warn(f"{name} has no voxel: the grid is too coarse for it"))
        elif told:
            text = f"{name}: {left} of {whole} voxels kept; left out {told}"
            serious = gone[_BEYOND] or kept[name] < KEPT_LEAST
            notes.append(warn(text) if serious else text)
    return kept, notes

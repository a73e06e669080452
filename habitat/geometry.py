"""Where voxels are: array shape (z, y, x) and an affine to LPS millimetres."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from habitat.errors import GeometryError

Box = tuple[slice, slice, slice]
Floats = npt.NDArray[np.float64]

SAME_MM = 1e-3  # two grids whose corners are this close are one grid
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))  # + and - end of each LPS axis


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in space.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along (z, y, x).
    affine : array of shape (4, 4), mm
        Takes (z, y, x, 1), voxel centers at integers, to LPS (x, y, z, 1) in mm.

    Raises
    ------
    GeometryError
        If a spacing is zero or not finite, or the axes are not perpendicular.

    Examples
    --------
    >>> from habitat import Geometry
    >>> grid = Geometry.from_spacing((10, 20, 30), (3.0, 2.0, 2.0))
    >>> grid.spacing
    (3.0, 2.0, 2.0)
    >>> round(grid.voxel_ml, 3)
    0.012
    """

    shape: tuple[int, int, int]
    affine: Floats

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            what = f"must have three axes of at least one voxel, got {self.shape}"
            raise GeometryError(what, "shape")
        if affine.shape != (4, 4):
            raise GeometryError(f"must have shape (4, 4), got {affine.shape}", "affine")
        _check_affine(affine)
        affine.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.affine.flags.writeable = False

    @classmethod
    def from_spacing(
        cls,
        shape: Sequence[int],
        spacing: Sequence[float],
        origin: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> Geometry:
        """Make an axis-aligned grid.

        Parameters
        ----------
        shape : sequence of int
            Voxels along (z, y, x).
        spacing : sequence of float, mm
            Voxel size along (z, y, x).
        origin : sequence of float, mm
            LPS (x, y, z) of the center of voxel (0, 0, 0).

        Raises
        ------
        GeometryError
            If a spacing is not a positive number.

        Examples
        --------
        >>> Geometry.from_spacing((4, 5, 6), (3, 2, 2)).spacing
        (3.0, 2.0, 2.0)
        """
        steps = [float(s) for s in spacing]
        if len(steps) != 3 or not all(math.isfinite(s) and s > 0 for s in steps):
            what = f"must be three positive numbers (z, y, x) in mm, got {spacing}"
            raise GeometryError(what, "spacing")
        affine = np.eye(4)
        affine[:3, :3] = np.diag(steps)[::-1]
        affine[:3, 3] = origin
        return cls((shape[0], shape[1], shape[2]), affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along (z, y, x), mm."""
        z, y, x = (round(math.hypot(*c), 9) for c in self.affine[:3, :3].T)
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel, ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def directions(self) -> Floats:
        """Unit LPS vectors of the (z, y, x) axes, as columns of a (3, 3) array."""
        steps: Floats = self.affine[:3, :3]
        out: Floats = steps / np.linalg.norm(steps, axis=0)
        return out

    @property
    def letters(self) -> tuple[tuple[str, str], ...]:
        """For each axis (z, y, x) the anatomical letters at its low and high end."""
        ends = []
        for column in self.directions.T:
            axis = int(np.argmax(np.abs(column)))
            plus, minus = _LETTERS[axis]
            ends.append((minus, plus) if column[axis] > 0 else (plus, minus))
        return tuple(ends)

    def world(self, index: npt.ArrayLike) -> Floats:
        """LPS (x, y, z) in mm of (z, y, x) indices; arrays of shape (..., 3).

        Examples
        --------
        >>> Geometry.from_spacing((4, 5, 6), (3, 2, 2)).world((1, 0, 2))
        array([4., 0., 3.])
        """
        points = np.asarray(index, dtype=np.float64)
        out: Floats = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        return out

    def index(self, world: npt.ArrayLike) -> Floats:
        """Continuous (z, y, x) index of LPS (x, y, z) points; arrays (..., 3).

        Examples
        --------
        >>> Geometry.from_spacing((4, 5, 6), (3, 2, 2)).index((4, 0, 3))
        array([1., 0., 2.])
        """
        points = np.asarray(world, dtype=np.float64) - self.affine[:3, 3]
        out: Floats = points @ np.linalg.inv(self.affine[:3, :3]).T
        return out

    def same_as(self, other: Geometry) -> bool:
        """Whether both grids have one shape and corners within 0.001 mm.

        Use this to compare grids; ``==`` asks for the same object.

        Examples
        --------
        >>> grid = Geometry.from_spacing((4, 5, 6), (3, 2, 2))
        >>> grid.same_as(Geometry.from_spacing((4, 5, 6), (3, 2, 2)))
        True
        """
        if self.shape != other.shape:
            return False
        corners = _corners(self.shape, 0.0)
        gap = np.abs(self.world(corners) - other.world(corners)).max()
        return bool(gap <= SAME_MM)

    def crop(self, box: Box) -> Geometry:
        """Return the grid of ``array[box]`` (slices with start and stop, no step).

        Examples
        --------
        >>> grid = Geometry.from_spacing((4, 5, 6), (3, 2, 2))
        >>> grid.crop((slice(1, 3), slice(0, 5), slice(2, 6))).shape
        (2, 5, 4)
        """
        start = [s.start for s in box]
        affine = self.affine.copy()
        affine[:3, 3] = self.world(start)
        z, y, x = (s.stop - s.start for s in box)
        return Geometry((z, y, x), affine)

    def box_around(self, other: Geometry, margin_mm: float = 0.0) -> Box | None:
        """Smallest box of this grid that holds `other` plus a margin.

        Returns None if the two do not overlap. The box is cut at this grid's edges.

        Examples
        --------
        >>> grid = Geometry.from_spacing((9, 9, 9), (2, 2, 2))
        >>> part = grid.crop((slice(3, 5), slice(3, 5), slice(3, 5)))
        >>> grid.box_around(part, margin_mm=2)[0]
        slice(2, 6, None)
        """
        index = self.index(other.world(_corners(other.shape, 0.5)))
        pad = margin_mm / np.array(self.spacing)
        start = np.floor(index.min(0) - pad + 0.5 + 1e-6).astype(int)
        stop = np.ceil(index.max(0) + pad + 0.5 - 1e-6).astype(int)
        low, high = np.maximum(start, 0), np.minimum(stop, self.shape)
        if (high <= low).any():
            return None
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return z, y, x

    def resampled(self, spacing: Sequence[float]) -> Geometry:
        """Return the grid of another spacing over the same field of view.

        Grid centers are aligned and the number of voxels is rounded up (IBSI manual,
        "Interpolation grid"): ``n_b = ceil(n_a s_a / s_b)``.

        Examples
        --------
        >>> Geometry.from_spacing((4, 5, 6), (3, 2, 2)).resampled((1, 1, 1)).shape
        (12, 10, 12)
        """
        new = Geometry.from_spacing(self.shape, spacing).spacing  # checks it
        old = np.array(self.spacing)
        extent = np.array(self.shape) * old
        shape = np.ceil(extent / new - 1e-6).astype(int)
        shift = (old * (np.array(self.shape) - 1) - new * (shape - 1)) / 2  # mm, zyx
        affine = self.affine.copy()
        affine[:3, :3] = self.directions * new
        affine[:3, 3] += self.directions @ shift
        z, y, x = (int(n) for n in shape)
        return Geometry((z, y, x), affine)


def bounding_box(mask: npt.NDArray[np.bool_]) -> Box:
    """Smallest box holding every True voxel of a (z, y, x) mask that has some."""
    z = _extent(mask.any(axis=(1, 2)))
    y = _extent(mask[z].any(axis=(0, 2)))
    return z, y, _extent(mask[z, y].any(axis=(0, 1)))


def _extent(hit: npt.ArrayLike) -> slice:
    where = np.flatnonzero(hit)
    return slice(int(where[0]), int(where[-1]) + 1)


def grow(box: Box, margin: Iterable[float], shape: Sequence[int]) -> Box:
    """Widen a box by `margin` voxels (z, y, x) on both sides, within `shape`."""
    z, y, x = (
        slice(max(s.start - int(m), 0), min(s.stop + int(m), int(n)))
        for s, m, n in zip(box, margin, shape, strict=True)
    )
    return z, y, x


def _corners(shape: Sequence[int], border: float) -> Floats:
    ends = [(-border, n - 1 + border) for n in shape]
    return np.array([(z, y, x) for z in ends[0] for y in ends[1] for x in ends[2]])


def _check_affine(affine: Floats) -> None:
    if not np.isfinite(affine).all():
        raise GeometryError("has NaN or infinite entries", "affine")
    if not np.allclose(affine[3], (0, 0, 0, 1), atol=1e-9, rtol=0):
        raise GeometryError(f"last row must be 0 0 0 1, got {affine[3]}", "affine")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() <= 0:
        raise GeometryError(f"has a zero spacing: {spacing} mm (z, y, x)", "affine")
    unit = affine[:3, :3] / spacing
    worst = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if worst > 1e-3:
        what = f"axes are sheared: they are {worst:.3g} (cosine) off perpendicular"
        fix = "resample the image to a rectangular grid first"
        raise GeometryError(what, "affine", fix)

"""Slices of an image as a radiologist expects them; no drawing here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.geometry import Floats, Geometry

# Upright arrays run (foot to head, front to back, right to left). Per plane: the axis
# it is cut across, whether its first row is at the bottom, and the letters at its
# left, right, top and bottom. Radiological: patient's right on the left of the page.
PLANES: dict[str, tuple[int, bool, str]] = {
    "axial": (0, False, "RLAP"),
    "coronal": (1, True, "RLSI"),
    "sagittal": (2, True, "APSI"),
}


@dataclass(frozen=True, eq=False)
class Upright:
    """How to turn arrays of a grid so that their axes run (I to S, A to P, R to L).

    An oblique grid keeps its own slices; its axes get the nearest anatomical names.
    """

    order: tuple[int, int, int]  # the array axis along each upright axis
    flipped: tuple[int, ...]  # upright axes that run backwards in the array
    spacing: tuple[float, float, float]  # mm, upright
    geometry: Geometry

    def turn(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn an array of the grid upright, without a copy."""
        return np.flip(array.transpose(self.order), self.flipped)

    def index(self, world: Sequence[float]) -> Floats:
        """Continuous upright index of an LPS point (x, y, z) in mm."""
        index = self.geometry.index(np.asarray(world, dtype=np.float64))
        upright: Floats = index[list(self.order)]
        for axis in self.flipped:
            upright[axis] = self.geometry.shape[self.order[axis]] - 1 - upright[axis]
        return upright

    def place(self, plane: str, position: int) -> str:
        """Where a slice is in the patient: letter and mm, at the slice's middle."""
        index = (np.array(self.geometry.shape, dtype=np.float64) - 1) / 2
        axis = PLANES[plane][0]
        array_axis = self.order[axis]
        last = self.geometry.shape[array_axis] - 1
        index[array_axis] = last - position if axis in self.flipped else position
        value = float(self.geometry.world(index)[2 - axis])
        return f"{('IS', 'AP', 'RL')[axis][value > 0]} {abs(value):.1f}"


def upright(geometry: Geometry) -> Upright:
    """Find the turn and flips that bring a grid upright."""
    toward = geometry.directions[::-1]  # rows S, P, L; columns: array axes

    def fit(order: tuple[int, ...]) -> float:
        return float(sum(abs(toward[row, axis]) for row, axis in enumerate(order)))

    a, b, c = max(permutations(range(3)), key=fit)
    order = (a, b, c)
    flipped = tuple(row for row in range(3) if toward[row, order[row]] < 0)
    spacing = geometry.spacing
    return Upright(order, flipped, (spacing[a], spacing[b], spacing[c]), geometry)


def cut(array: npt.NDArray[Any], plane: str, position: int) -> npt.NDArray[Any]:
    """Return one slice of an upright array, first row at the top of the page."""
    axis, bottom_up, _ = PLANES[plane]
    view = np.take(array, position, axis=axis)
    page: npt.NDArray[Any] = view[::-1] if bottom_up else view
    return page


def largest_section(inside: npt.NDArray[np.bool_], plane: str) -> int:
    """Index of the slice with most labeled voxels; of equals the one in the middle."""
    axis = PLANES[plane][0]
    others = tuple(a for a in range(3) if a != axis)
    area = inside.sum(axis=others)
    best = np.flatnonzero(area == area.max())
    return int(best[len(best) // 2])


def spread(inside: npt.NDArray[np.bool_], plane: str, n: int) -> list[int]:
    """Indices of n labeled slices in equal steps, from head, front or right; or all."""
    axis, bottom_up, _ = PLANES[plane]
    others = tuple(a for a in range(3) if a != axis)
    labeled = np.flatnonzero(inside.any(axis=others))
    n = min(n, len(labeled))
    found = [
        int(i) for i in labeled[((np.arange(n) + 0.5) * len(labeled) / n).astype(int)]
    ]
    return found if bottom_up else found[::-1]


def edges(
    mask: npt.NDArray[np.bool_], step: tuple[float, float], inset: float
) -> Floats:
    """Line segments along the border of a region, moved inwards.

    Parameters
    ----------
    mask : array of bool, shape (rows, columns)
        The region.
    step : (float, float), mm
        Size of a pixel along rows and columns.
    inset : float, mm
        How far inside the pixel edges the lines run, so that the lines of two regions
        that touch lie side by side.

    Returns
    -------
    array of shape (n, 2, 2), mm
        Both ends (x, y) of each segment; pixel (0, 0) starts at the origin, y is down.
    """
    padded = np.pad(mask, 1)
    found = []
    for down in (False, True):  # edges along columns, then the same transposed
        region = padded.T if down else padded
        along, across = (step[0], step[1]) if down else (step[1], step[0])
        for side in (-1, 1):  # the neighbor before, then after
            border = region & ~np.roll(region, side * -1, axis=0)
            row, column = np.nonzero(border)
            level = (row - 1 + (side > 0)) * across - side * inset
            outer = [~np.roll(region, shift, axis=1)[row, column] for shift in (1, -1)]
            start = (column - 1) * along + inset * outer[0]
            stop = column * along - inset * outer[1]
            ends = [(start, level), (stop, level)]
            found.append(np.array([p[::-1] if down else p for p in ends]))
    out: Floats = np.concatenate(found, axis=2).transpose(2, 0, 1)
    return out

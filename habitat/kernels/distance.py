"""Exact distance from voxel centers to the surface of a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit


@jit
def surface_distance(
    mask: npt.NDArray[np.bool_],  # IN (z, y, x)
    spacing: npt.NDArray[np.float64],  # IN (3,) mm
    out: npt.NDArray[np.float64],  # OUT (z, y, x) mm, 0 outside the mask
) -> None:
    """Distance from each mask voxel's center to the nearest voxel face outside it.

    The gap to an outside voxel that is D voxels away along an axis is
    ``max(|D| - 1/2, 0) * spacing``; the array's edge counts as outside. Squared gaps
    add over the axes, so the minimum is taken axis by axis.
    """
    nz, ny, nx = mask.shape
    sz, sy, sx = spacing
    for z in range(nz):
        for y in range(ny):
            last = -1
            for x in range(nx):
                if not mask[z, y, x]:
                    last = x
                    out[z, y, x] = 0.0
                else:
                    out[z, y, x] = (x - last - 0.5) * sx
            last = nx
            for x in range(nx - 1, -1, -1):
                if not mask[z, y, x]:
                    last = x
                else:
                    gap = min(out[z, y, x], (last - x - 0.5) * sx)
                    out[z, y, x] = gap * gap
    row = np.empty(max(ny, nz))
    for z in range(nz):
        for x in range(nx):
            for y in range(ny):
                row[y] = out[z, y, x]
            for y in range(ny):
                out[z, y, x] = _lowest(row, y, ny, sy)
    for y in range(ny):
        for x in range(nx):
            for z in range(nz):
                row[z] = out[z, y, x]
            for z in range(nz):
                out[z, y, x] = np.sqrt(_lowest(row, z, nz, sz))


@jit
def _lowest(row: npt.NDArray[np.float64], i: int, n: int, step: float) -> float:
    """Smallest row[j] + gap(|i - j|)^2, looking outward from i until it must grow."""
    best = row[i]
    for apart in range(1, n + 1):
        gap = (apart - 0.5) * step
        gap *= gap
        if gap >= best:
            break
        before, after = i - apart, i + apart
        best = min(best, gap + (row[before] if before >= 0 else 0.0))
        best = min(best, gap + (row[after] if after < n else 0.0))
    return float(best)

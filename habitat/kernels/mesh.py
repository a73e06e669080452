"""Marching cubes over one region: what its surface, volume and diameters need.

All sums are whole numbers, so the results depend neither on order nor on spacing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

Ints = npt.NDArray[np.int64]
Extremes = npt.NDArray[np.int32]

_NOWHERE = np.int32(2**30)  # the lower extreme of a line without vertices


@jit
def march(
    mask: npt.NDArray[np.bool_],  # IN (z, y, x), nothing on its border
    cubes: Ints,  # OUT (256, 4), zeros
    moments: Ints,  # OUT (10,), zeros
    along_x: Extremes,  # OUT (2, 2z, 2y)
    along_z: Extremes,  # OUT (2, 2y, 2x)
) -> None:
    """Visit every 2x2x2 cube of a mask once.

    `cubes` holds for every of the 256 patterns of corners how many cubes have it and
    the sums of their z, y, x. `moments` is the number of voxels and their sums of z,
    y, x, zz, yy, xx, zy, zx, yx.

    A mesh vertex lies halfway between two neighbors of which one is in the mask. In
    half voxels, so whole numbers, `along_x` has the lowest and highest x of the
    vertices of every (z, y), `along_z` the lowest and highest z of every (y, x).
    """
    nz, ny, nx = mask.shape
    for extremes in (along_x, along_z):
        extremes[0] = _NOWHERE
        extremes[1] = -1
    for z in range(nz - 1):
        for y in range(ny - 1):
            n = sx = sxx = 0
            # corners (z, y, x) of the bits: 0 000, 1 001, 2 011, 3 010, 4 100 ... 7 110
            left = (
                np.int64(mask[z, y, 0])
                | np.int64(mask[z, y + 1, 0]) << 3
                | np.int64(mask[z + 1, y, 0]) << 4
                | np.int64(mask[z + 1, y + 1, 0]) << 7
            )
            for x in range(nx - 1):
                right = (
                    np.int64(mask[z, y, x + 1])
                    | np.int64(mask[z, y + 1, x + 1]) << 3
                    | np.int64(mask[z + 1, y, x + 1]) << 4
                    | np.int64(mask[z + 1, y + 1, x + 1]) << 7
                )
                # bits 0, 3, 4, 7 of the next cube's left are 1, 2, 5, 6 of this one's
                c = left | (right & 17) << 1 | (right & 136) >> 1
                left = right
                inside = c >> 7
                n += inside
                sx += inside * x
                sxx += inside * x * x
                if c == 0 or c == 255:
                    continue
                cubes[c, 0] += 1
                cubes[c, 1] += z
                cubes[c, 2] += y
                cubes[c, 3] += x
                if (c >> 6 & 1) != inside:
                    _widen(along_x, along_z, 2 * z + 2, 2 * y + 2, 2 * x + 1)
                if (c >> 4 & 1) != inside:
                    _widen(along_x, along_z, 2 * z + 2, 2 * y + 1, 2 * x)
                if (c >> 3 & 1) != inside:
                    _widen(along_x, along_z, 2 * z + 1, 2 * y + 2, 2 * x)
            _add_row(moments, n, sx, sxx, z + 1, y + 1)


@jit
def _widen(along_x: Extremes, along_z: Extremes, z: int, y: int, x: int) -> None:
    along_x[0, z, y] = min(along_x[0, z, y], x)
    along_x[1, z, y] = max(along_x[1, z, y], x)
    along_z[0, y, x] = min(along_z[0, y, x], z)
    along_z[1, y, x] = max(along_z[1, y, x], z)


@jit
def _add_row(moments: Ints, n: int, sx: int, sxx: int, z: int, y: int) -> None:
    moments[0] += n
    moments[1] += n * z
    moments[2] += n * y
    moments[3] += sx
    moments[4] += n * z * z
    moments[5] += n * y * y
    moments[6] += sxx
    moments[7] += n * z * y
    moments[8] += sx * z
    moments[9] += sx * y


@jit
def diameters(
    along_x: Extremes,  # IN (2, 2z, 2y)
    along_z: Extremes,  # IN (2, 2y, 2x)
    spacing: npt.NDArray[np.float64],  # IN (3,) mm
    out: npt.NDArray[np.float64],  # OUT (4,) mm
) -> npt.NDArray[np.float64]:
    """Largest distances between vertices: in a plane of one z, y, x, and of all.

    Only vertices of a plane's convex hull can be a farthest pair of it. The hulls of
    the z planes hold those of the whole; they are returned, (m, 3) in mm.
    """
    z, y, x = 0.5 * spacing[0], 0.5 * spacing[1], 0.5 * spacing[2]
    low, high = along_x
    hulls = np.empty((2 * low.size, 3))
    n, out[0] = _planes(low, high, y, x, hulls)
    points: npt.NDArray[np.float64] = hulls[:n].copy()
    _, out[1] = _planes(low.T, high.T, z, x, hulls)
    low, high = along_z
    hulls = np.empty((2 * low.size, 3))
    _, out[2] = _planes(low.T, high.T, y, z, hulls)
    points[:, 0] *= z
    points[:, 1] *= y
    points[:, 2] *= x
    out[3] = _farthest(points)
    return points


@jit
def _planes(
    low: Extremes,  # IN (plane, line)
    high: Extremes,  # IN (plane, line)
    across: float,  # mm from line to line
    along: float,  # mm, unit of `low` and `high`
    hulls: npt.NDArray[np.float64],  # OUT (2 * low.size, 3) plane, line, place
) -> tuple[int, float]:
    """Collect the convex hull of each plane; their number, the largest distance."""
    n, best = 0, 0.0
    for a in range(low.shape[0]):
        first = n
        n = _chain(low[a], 1, a, hulls, n)
        n = _chain(high[a], -1, a, hulls, n)
        for i in range(first, n):
            for j in range(first, i):
                u = (hulls[i, 1] - hulls[j, 1]) * across
                v = (hulls[i, 2] - hulls[j, 2]) * along
                best = max(best, u * u + v * v)
    return n, float(np.sqrt(best))


@jit
def _chain(
    places: Extremes,  # IN (line,)
    side: int,
    plane: int,
    hulls: npt.NDArray[np.float64],
    start: int,
) -> int:
    """Append one side of a planar hull (Andrew's monotone chain), return its end."""
    n = start
    for b in range(places.size):
        c = places[b]
        if c < 0 or c == _NOWHERE:
            continue
        while n >= start + 2:
            u, v = hulls[n - 1, 1] - hulls[n - 2, 1], hulls[n - 1, 2] - hulls[n - 2, 2]
            turn = u * (c - hulls[n - 2, 2]) - v * (b - hulls[n - 2, 1])
            if side * turn > 0:
                break
            n -= 1
        hulls[n, 0], hulls[n, 1], hulls[n, 2] = plane, b, c
        n += 1
    return n


@jit
def _farthest(points: npt.NDArray[np.float64]) -> float:
    """Diameter of a set of points, most remote first: r_i + r_j bounds a distance."""
    n = points.shape[0]
    radius = np.zeros(n)
    for axis in range(3):
        middle = 0.5 * (points[:, axis].min() + points[:, axis].max())
        radius += (points[:, axis] - middle) ** 2
    order = np.argsort(-radius)
    p, r = points[order], np.sqrt(radius[order])
    best, diameter = 0.0, 0.0
    for i in range(n):
        if r[i] + r[0] < diameter:
            break
        for j in range(i):
            if r[i] + r[j] < diameter:
                break
            d0, d1, d2 = p[i, 0] - p[j, 0], p[i, 1] - p[j, 1], p[i, 2] - p[j, 2]
            squared = d0 * d0 + d1 * d1 + d2 * d2
            if squared > best:
                best = squared
                diameter = np.sqrt(best)
    return float(np.sqrt(best))

"""Plain twins of kernels/mesh.py."""

import numpy as np

CORNERS = [(0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0)]
CORNERS += [(1, y, x) for _, y, x in CORNERS]


def vertices(mask):
    """Points between a voxel in the mask and a neighbor outside, in half voxels."""
    out = []
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        a, b = np.delete(mask, -1, axis), np.delete(mask, 0, axis)
        out.append(2 * np.argwhere(a != b) + step)
    return np.concatenate(out)


def march(mask, cubes, moments, along_x, along_z):
    nz, ny, nx = mask.shape
    for origin in np.ndindex(nz - 1, ny - 1, nx - 1):
        corners = [mask[tuple(np.add(origin, c))] for c in CORNERS]
        pattern = sum(int(inside) << bit for bit, inside in enumerate(corners))
        if pattern not in (0, 255):
            cubes[pattern] += [1, *origin]
    p = np.argwhere(mask)
    z, y, x = p.T
    moments[0] = len(p)
    sums = (z, y, x, z * z, y * y, x * x, z * y, z * x, y * x)
    moments[1:] = [s.sum() for s in sums]
    for table in (along_x, along_z):
        table[0], table[1] = 2**30, -1
    for z, y, x in vertices(mask):
        for table, line, place in ((along_x, (z, y), x), (along_z, (y, x), z)):
            table[0][line] = min(table[0][line], place)
            table[1][line] = max(table[1][line], place)


def _points(table, first):
    """Both ends of every line, the place put before or after (`first`) the line."""
    lines = np.argwhere(table[1] >= 0)
    ends = np.concatenate([np.c_[lines, t[table[1] >= 0]] for t in table])
    return ends[:, [2, 0, 1]] if first else ends


def _largest(points):
    apart = points[:, None] - points[None]
    return np.sqrt((apart**2).sum(-1).max())


def diameters(along_x, along_z, spacing, out):
    a, b = (
        _points(t, first) * (0.5 * spacing)
        for t, first in ((along_x, False), (along_z, True))
    )
    for axis, points in ((0, a), (1, a), (2, b)):
        planes = np.unique(points[:, axis])
        out[axis] = max(_largest(points[points[:, axis] == p]) for p in planes)
    out[3] = _largest(a)
    return a

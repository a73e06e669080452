"""Plain NumPy twins of habitat.kernels.distance; imports nothing from habitat."""

import numpy as np


def surface_distance(mask, spacing, out):
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    out[...] = 0.0
    for voxel in np.argwhere(mask):
        apart = np.abs(outside - (voxel + 1))
        gaps = np.maximum(apart - 0.5, 0.0) * spacing
        out[tuple(voxel)] = np.sqrt((gaps**2).sum(1).min())

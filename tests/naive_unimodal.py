"""Plain twin of kernels.unimodal: every mode, every pair of points."""

import numpy as np


def bend(x, y):
    """Largest distance above the lower hull: the best chord below each point."""
    most = 0.0
    for i in range(1, len(x) - 1):
        chords = [
            y[a] + (y[b] - y[a]) * (x[i] - x[a]) / (x[b] - x[a])
            for a in range(i)
            for b in range(i + 1, len(x))
        ]
        most = max(most, y[i] - min(y[i], *chords))
    return most


def dip(x, y):
    least = np.inf
    for mode in range(len(x)):
        below = bend(x[: mode + 1], y[: mode + 1])
        above = bend(x[mode:], -y[mode:])
        least = min(least, max(below, above))
    return least

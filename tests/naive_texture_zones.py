"""Plain NumPy twins of habitat.kernels.texture_zones and texture_runs.

The textbook: cut the window out, fill the matrix, apply the formulas. The tables of the
kernels are not looked at. Imports nothing from habitat.
"""

import itertools

import numpy as np

DIRECTIONS = [d for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0)]
NEIGHBORS = [d for d in itertools.product((-1, 0, 1), repeat=3) if any(d)]


def windows(levels, centers, offsets):
    width = round(len(offsets) ** (1 / 3))
    for center in centers:
        yield levels[center + offsets].reshape(3 * (width,)).astype(int)


def value(window, cell):
    inside = all(0 <= c < len(window) for c in cell)
    return window[tuple(cell)] if inside else 0


def counts(pairs, n_levels):
    """Matrix of (level, size) pairs; sizes from 1."""
    P = np.zeros((n_levels, max(size for _, size in pairs)))
    for level, size in pairs:
        P[level - 1, size - 1] += 1
    return P


def features(P):
    """The 16 features of a run length or size zone matrix."""
    i, j = np.indices(P.shape) + 1.0
    p = P / P.sum()
    q = p[p > 0]
    rows, columns = P.sum(axis=1), P.sum(axis=0)
    return np.array(
        [
            (p / j**2).sum(),
            (p * j**2).sum(),
            (rows**2).sum() / P.sum(),
            (rows**2).sum() / P.sum() ** 2,
            (columns**2).sum() / P.sum(),
            (columns**2).sum() / P.sum() ** 2,
            P.sum() / (P * j).sum(),
            (p * (i - (p * i).sum()) ** 2).sum(),
            (p * (j - (p * j).sum()) ** 2).sum(),
            -(q * np.log2(q)).sum(),
            (p / i**2).sum(),
            (p * i**2).sum(),
            (p / i**2 / j**2).sum(),
            (p * i**2 / j**2).sum(),
            (p * j**2 / i**2).sum(),
            (p * i**2 * j**2).sum(),
        ]
    )


def runs(line):
    """Level and length of the runs of one line; 0 breaks them."""
    return [(level, len([*run])) for level, run in itertools.groupby(line) if level > 0]


def lines(window, direction):
    for cell in np.ndindex(window.shape):
        step = np.array(direction)
        before = cell - step
        if (before < 0).any() or (before >= len(window)).any():
            line = []
            cell = np.array(cell)
            while (cell >= 0).all() and (cell < len(window)).all():
                line.append(window[tuple(cell)])
                cell = cell + step
            yield line


def glrlm(levels, centers, offsets, shift, valid, n_levels, out):
    for f, window in zip(out, windows(levels, centers, offsets), strict=True):
        found = []
        for direction in DIRECTIONS:
            rays = [*lines(window, direction)]
            if any(np.count_nonzero(ray) > 1 for ray in rays):
                pairs = itertools.chain.from_iterable(map(runs, rays))
                found.append(features(counts([*pairs], n_levels)))
        f[:] = np.mean(found, axis=0) if found else np.nan


def zones(window):
    left = {tuple(cell) for cell in np.argwhere(window > 0)}
    while left:
        todo = [left.pop()]
        size = 0
        while todo:
            cell = todo.pop()
            size += 1
            for n in NEIGHBORS:
                near = tuple(np.add(cell, n))
                if near in left and window[near] == window[cell]:
                    left.remove(near)
                    todo.append(near)
        yield window[cell], size


def glszm(levels, centers, offsets, sides, n_levels, out):
    for f, window in zip(out, windows(levels, centers, offsets), strict=True):
        f[:] = features(counts([*zones(window)], n_levels))


def gldm(levels, centers, offsets, near, n_levels, out):
    for f, window in zip(out, windows(levels, centers, offsets), strict=True):
        pairs = []
        for cell in np.argwhere(window > 0):
            level = window[tuple(cell)]
            same = [value(window, cell + n) == level for n in NEIGHBORS]
            pairs.append((level, 1 + sum(same)))
        f[:] = np.delete(features(counts(pairs, n_levels)), [3, 6])


def ngtdm(levels, centers, offsets, place, n_levels, out):
    for f, window in zip(out, windows(levels, centers, offsets), strict=True):
        n, s = np.zeros((2, n_levels + 1))
        for cell in np.argwhere(window > 0):
            level = window[tuple(cell)]
            near = [value(window, cell + d) for d in NEIGHBORS]
            near = [v for v in near if v > 0]
            n[level] += 1
            s[level] += abs(level - np.mean(near)) if near else 0
        i = np.flatnonzero(n)
        p, s = n[i] / n.sum(), s[i]
        apart = abs(i[:, None] - i)
        both = p[:, None] + p
        spread = abs((i * n[i])[:, None] - i * n[i]).sum() / n.sum()
        pairs = len(i) * (len(i) - 1)
        contrast = (p[:, None] * p * apart**2).sum() * s.sum() / n.sum()
        f[0] = 1 / (p * s).sum() if s.any() else 1e6
        f[1] = contrast / pairs if pairs else 0
        f[2] = (p * s).sum() / spread if spread else 0
        f[3] = (apart * ((p * s)[:, None] + p * s) / both).sum() / n.sum()
        f[4] = (both * apart**2).sum() / s.sum() if s.any() else 0

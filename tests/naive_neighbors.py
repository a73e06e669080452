"""Plain twins of the kernels on neighbors, and the features from their definitions.

Imports nothing from habitat.
"""

from itertools import product

import numpy as np


def pair_counts(labels, steps, counts):
    for p in np.flatnonzero(labels):
        for s, step in enumerate(steps):
            counts[s, labels[p], labels[p + step]] += 1


def component_sizes(labels, steps, size):
    todo = set(np.flatnonzero(labels).tolist())
    while todo:
        first = min(todo)
        part, front = set(), {first}
        while front:
            part |= front
            near = {p + s * sign for p in front for s in steps for sign in (-1, 1)}
            front = {p for p in near & todo if labels[p] == labels[first]} - part
        todo -= part
        size[first] = len(part)


def euler_octants(labels, row, layer, table, total):
    steps = np.array([0, 1, row, row + 1]) + np.array([[0], [layer]])
    for p in range(-1, len(labels) - row - layer - 1):
        corners = labels[p + steps.ravel()]
        for own in set(corners.tolist()):
            total[own] += table[(corners == own) @ 2 ** np.arange(8)]


def msi(labels, k, spacing):
    """Multiregional spatial interaction as the reference's script goes, step by step.

    Wu et al., Radiology 2018;288:26; WuLabMDA/Habitat-Analysis, demoMSI.m. Returns the
    list of its features in its order.
    """
    padded = np.pad(np.asarray(labels, dtype=int), 1)
    M = np.zeros((k + 1, k + 1))
    around = [d for d in product((-1, 0, 1), repeat=2) if any(d)]
    for z, y, x in np.argwhere(padded):
        for dy, dx in around:
            M[padded[z, y, x], padded[z, y + dy, x + dx]] += 1
    M[0, 0] = 0
    M[0] = M[:, 0]
    P = M / M.sum()
    i, j = np.mgrid[1 : k + 2, 1 : k + 2]
    mi, mj = (i * P).sum(), (j * P).sum()
    si, sj = (np.sqrt((m**2 * P).sum()) for m in (i - mi, j - mj))
    second_order = [
        ((i - j) ** 2 * P).sum(),
        (P / (1 + abs(i - j))).sum(),
        ((i - mi) * (j - mj) * P).sum() / (si * sj),
        (P**2).sum(),
    ]
    A = M * np.prod(spacing)
    lower = [(r, c) for c in range(k + 1) for r in range(c + 1, k + 1)]  # column-major
    blocks = [
        [*np.diag(matrix)[1:], *(matrix[r, c] for r, c in lower)]
        for matrix in (A, A / A.sum())
    ]
    return [*second_order, *blocks[0], *blocks[1]]


def ith(slice_, structure):
    """ITH score of a map of any dimension (Li 2022), one component after another."""
    from scipy import ndimage

    score = 0.0
    for label in np.unique(slice_[slice_ > 0]):
        parts, _ = ndimage.label(slice_ == label, structure)
        sizes = [s for s in np.bincount(parts.ravel())[1:] if s > 1]
        if sizes:
            score += max(sizes) / len(sizes)
    return 1 - score / (slice_ > 0).sum()


def joins(labels, k, faces):
    """Matrix of undirected pairs of neighbors (diagonal: of one label)."""
    places = [tuple(p) for p in np.argwhere(labels)]
    inside = set(places)
    J = np.zeros((k, k))
    for p in places:
        for d in product((-1, 0, 1), repeat=3):
            q = tuple(np.add(p, d))
            if d > (0, 0, 0) and q in inside and (not faces or sum(map(abs, d)) == 1):
                a, b = sorted((labels[p] - 1, labels[q] - 1))
                J[a, b] += 1
    return J


def contagion(labels, k):
    """Contagion as in the FRAGSTATS manual, pairs counted from both sides, 0 to 1."""
    g = joins(labels, k, faces=True)
    g = g + g.T
    P = np.bincount(labels[labels > 0], minlength=k + 1)[1:] / (labels > 0).sum()
    total = 0.0
    for i in range(k):
        for j in range(k):
            if g[i, j]:
                w = P[i] * g[i, j] / g[i].sum()
                total += w * np.log(w)
    return 1 + total / (2 * np.log((P > 0).sum()))


def most_contacts(n):
    """Most pairs of face neighbors that each number of voxels 1..n can have."""
    axes = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    steps = [tuple(s * c for c in a) for a in axes for s in (-1, 1)]
    shapes, best = {frozenset([(0, 0, 0)])}, [0]
    for _ in range(n - 1):
        grown = set()
        for shape in shapes:
            for p in shape:
                for s in steps:
                    q = tuple(np.add(p, s).tolist())
                    if q not in shape:
                        both = [*shape, q]
                        low = [min(v[i] for v in both) for i in range(3)]
                        grown.add(
                            frozenset(
                                tuple(v[i] - low[i] for i in range(3)) for v in both
                            )
                        )
        shapes = grown
        best.append(
            max(
                sum(tuple(np.add(p, a).tolist()) in shape for p in shape for a in axes)
                for shape in shapes
            )
        )
    return best

"""Plain twins of the kernels for thresholds, smoothing and supervoxels.

Imports nothing from habitat.
"""

from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np


def otsu_cuts(x, weight, cuts):
    """All ways to cut, in exact fractions."""
    x, w = [Fraction(v) for v in x.tolist()], [Fraction(v) for v in weight.tolist()]
    square = sum(b * a * a for a, b in zip(x, w, strict=True))
    found = {}
    for inner in combinations(range(1, len(x)), len(cuts)):
        ends = (0, *inner, len(x))
        found[inner[::-1]] = sum(
            sum(w[i] * x[i] for i in range(a, b)) ** 2 / sum(w[a:b])
            for a, b in pairwise(ends)
        )
    enough = max(found.values()) - square / 10**12
    best = min(inner for inner, score in found.items() if score >= enough)
    cuts[:] = best[::-1]
    return float(found[best] / sum(w))


def icm_sweep(costs, where, place, steps, weights, labels, stale, wish, gain):
    n, k = costs.shape
    own = labels[place].copy()
    beside = [[where[p + s] for s in steps] for p in place]
    for i in range(n):
        energy = [
            costs[i, label]
            + sum(
                w
                for j, w in zip(beside[i], weights, strict=True)
                if j >= 0 and own[j] != label
            )
            for label in range(k)
        ]
        wish[i] = np.argmin(energy)
        gain[i] = energy[own[i]] - min(energy)
    stale[:] = 0
    switched = 0
    for i in range(n):
        rivals = [
            j
            for j in beside[i]
            if j >= 0 and own[j] != own[i] and (wish[i] == own[j] or wish[j] == own[i])
        ]
        if gain[i] and all((gain[j], own[j]) < (gain[i], own[i]) for j in rivals):
            labels[place[i]] = wish[i]
            stale[[i, *(j for j in beside[i] if j >= 0)]] = 1
            switched += 1
    return switched


def objective(costs, index, spacing, labels, beta, neighbors):
    """Costs and Potts prior, from all pairs."""
    total = costs[np.arange(len(labels)), labels].sum()
    for i in range(len(labels)):
        for j in range(i):
            step = np.abs(index[i] - index[j])
            if step.max() == 1 and (neighbors == 26 or step.sum() == 1):
                distance = np.sqrt(((step * spacing) ** 2).sum())
                total += beta * min(spacing) / distance * (labels[i] != labels[j])
    return total


def join(first, second, root):
    changed = True
    while changed:
        before = root.copy()
        for a, b in zip(first, second, strict=True):
            root[a] = root[b] = min(root[a], root[b])
        changed = (root != before).any()


def describe(Z, parts, m):
    return np.array(
        [
            [
                f
                for x in Z[parts == j].T
                for f in (x.mean(), x.std(), *np.percentile(x, (10, 50, 90)))
            ]
            for j in range(m)
        ]
    )

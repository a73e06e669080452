"""Plain twins of the kernels of scores; imports nothing from habitat."""

from itertools import pairwise

import numpy as np


def distance_sums(X, starts, sums):
    apart = np.sqrt(((X[:, :, None] - X[:, None, :]) ** 2).sum(axis=0))
    for j, (start, stop) in enumerate(pairwise(starts)):
        sums[j] = apart[:, start:stop].sum(axis=1)


def split_path(X, tries, max_iter, tol, within):
    rows = X.T
    centers = rows.mean(axis=0, keepdims=True)
    near = ((rows - centers) ** 2).sum(axis=1)
    within[:] = 0.0
    within[0] = near.sum()
    for k in range(1, within.size):
        if near.sum() == 0:
            return
        steps = (np.arange(tries) + 0.5) / tries * near.sum()
        columns = np.minimum(np.searchsorted(np.cumsum(near), steps), len(rows) - 1)
        apart = ((rows[columns, None] - rows) ** 2).sum(axis=-1)
        gain = np.maximum(near - apart, 0).sum(axis=1)
        centers = np.vstack([centers, rows[columns[gain.argmax()]]])
        last = np.inf
        for _ in range(max_iter):
            apart = ((rows[:, None] - centers) ** 2).sum(axis=-1)
            label, near = apart.argmin(axis=1), apart.min(axis=1)
            within[k] = near.sum()
            if last - within[k] <= tol * within[k]:
                break
            last = within[k]
            for j in np.unique(label):
                centers[j] = rows[label == j].mean(axis=0)


def prediction_strength(test, predicted):
    """Tibshirani & Walther's definition, pair by pair, no identity."""
    shares = []
    for j in np.unique(test):
        own = np.flatnonzero(test == j)
        pairs = [(a, b) for a in own for b in own if a != b]
        kept = sum(predicted[a] == predicted[b] for a, b in pairs)
        shares.append(kept / len(pairs) if pairs else 0.0)
    return min(shares)

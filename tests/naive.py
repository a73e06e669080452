"""Plain NumPy twins of the kernels, for truth and not for speed.

Imports nothing from habitat. The constants of `arrange` are part of what it promises.
"""

import numpy as np

BLOCK = 64
BINS = 1 << 14


def squared(X, centers):
    """Squared distances (k, n) of the columns of X (d, n) from centers (k, d)."""
    c = np.asarray(centers, dtype=X.dtype)
    return ((X[None] - c[:, :, None]) ** 2).sum(axis=1)


def ones(weight, n):
    """Weights of n columns; no weights are weights of 1."""
    return weight.astype(float) if weight.size else np.ones(n)


def arrange(rows, weight, X, share, middle, half, total):
    n, d = rows.shape
    blocks = total.shape[1]
    key, left = np.zeros(n, dtype=int), min(8 * blocks, 1 << 16)
    for f in range(d):
        slabs = left if f == d - 1 else max(1, min(left, round(blocks ** (1 / d))))
        left //= slabs
        x = rows[:, f].astype(float)
        if x.min() == x.max():
            continue
        bins = ((x - x.min()) * ((BINS - 1) / (x.max() - x.min()))).astype(int)
        count = np.bincount(bins, minlength=BINS)
        slab = ((np.cumsum(count) - count) * slabs // n)[bins]
        key = key * slabs + np.where(key % 2 == 1, slabs - 1 - slab, slab)
    order = np.argsort(key, kind="stable")
    X[:], share[:] = rows[order].T, weight[order] if weight.size else weight
    w = ones(share, n)
    for b in range(blocks):
        block = slice(b * BLOCK, (b + 1) * BLOCK)
        own = X[:, block].astype(float)
        low, high = own.min(axis=1), own.max(axis=1)
        middle[:, b], half[:, b] = (low + high) / 2, (high - low) / 2
        total[:, b] = *(own @ w[block]), w[block].sum()


def assign(X, centers, labels, distances):
    table = squared(X, centers)
    labels[:] = table.argmin(axis=0)
    distances[:] = table.min(axis=0)


def lloyd_step(X, weight, middle, half, total, centers, sums):
    nearest = squared(X, centers).argmin(axis=0)
    w = ones(weight, X.shape[1])
    for j in range(len(centers)):
        own = nearest == j
        sums[j] = *(X[:, own].astype(float) @ w[own]), w[own].sum()


def kmeans_plusplus(X, weight, uniform, centers):
    n = X.shape[1]
    k, trials = uniform.shape
    w = ones(weight, n)
    running = np.cumsum(w)
    chosen = [np.searchsorted(running, uniform[0, 0] * running[-1], side="right")]
    for j in range(1, k):
        closest = squared(X, X[:, chosen].T).min(axis=0).astype(float)
        if closest.sum() == 0:
            break
        running = np.cumsum(w * closest)
        drawn = np.searchsorted(running, uniform[j] * running[-1], side="right")
        tried = [np.minimum(closest, squared(X, X[:, [c]].T)[0]) for c in drawn]
        chosen.append(drawn[np.argmin([(w * c).sum() for c in tried])])
    centers[: len(chosen)] = X[:, chosen].T
    return len(chosen)


def separation(X, labels, counts, means, squares, lengths):
    """Silhouette from all pairs of columns, not from means."""
    k = len(counts)
    pairs = squared(X, X.T)
    member = labels == np.arange(k)[:, None]
    counts[:] = member.sum(axis=1)
    means[:] = 0
    for j in np.flatnonzero(counts):
        means[j] = X[:, member[j]].mean(axis=1)
    own = ((X - means[labels].T) ** 2).sum(axis=0)
    squares[:] = member @ own
    lengths[:] = member @ np.sqrt(own)
    total = 0.0
    for i, j in enumerate(labels):
        others = [c for c in np.flatnonzero(counts) if c != j]
        if counts[j] == 1 or not others:
            continue
        a = pairs[i, member[j]].sum() / (counts[j] - 1)
        b = min(pairs[i, member[c]].mean() for c in others)
        total += (b - a) / max(a, b) if max(a, b) > 0 else 0.0
    return total

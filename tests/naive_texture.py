"""Plain NumPy twins of habitat.kernels.texture and texture_pairs."""

import numpy as np


def firstorder(
    values, levels, centers, offsets, below, weight, log, volume, n_levels, out
):
    for row, center in zip(out, centers, strict=True):
        cells = center + offsets
        cells = cells[levels[cells] > 0]
        x = values[cells]
        p = np.bincount(levels[cells]) / len(cells)
        d = x - x.mean()
        p10, p25, p50, p75, p90 = np.percentile(x, (10, 25, 50, 75, 90))
        middle = x[(x >= p10) & (x <= p90)]
        m2, m3, m4 = ((d**k).mean() if np.ptp(x) else 0.0 for k in (2, 3, 4))
        row[:] = (
            (x**2).sum(),
            (x**2).sum() * volume,
            entropy(p),
            x.min(),
            p10,
            p90,
            x.max(),
            x.mean(),
            p50,
            p75 - p25,
            np.ptp(x),
            np.abs(d).mean(),
            np.abs(middle - middle.mean()).mean() if len(middle) else np.nan,
            np.sqrt((x**2).mean()),
            m3 / m2**1.5 if m2 else 0.0,
            m4 / m2**2 if m2 else 0.0,
            m2,
            (p**2).sum(),
        )


def glcm(
    levels, centers, offsets, first, second, start, log, near, angles, flat, mcc, out
):
    n = len(near)
    for row, center in zip(out, centers, strict=True):
        window = levels[center + offsets]
        found = []
        for a in range(13):
            pairs = slice(start[a], start[a + 1])
            i, j = window[first[pairs]], window[second[pairs]]
            both = (i > 0) & (j > 0)
            if both.any():
                P = np.zeros((n, n))
                np.add.at(P, (i[both] - 1, j[both] - 1), 1)
                found.append(of_matrix((P + P.T) / (2 * both.sum()), mcc))
        row[:] = np.mean(found, axis=0) if found else np.nan
        if len(found) < angles.sum():
            row[1] = np.nan
        if flat:
            row[23] = 1.0
            if angles.any():
                row[18] = 0.0
        if not mcc:
            row[23] = np.nan


def of_matrix(P, mcc):
    n = len(P)
    i, j = np.indices(P.shape) + 1
    p = P.sum(axis=0)
    k = np.arange(1, n + 1)
    mean = p @ k
    variance = p @ (k - mean) ** 2
    apart = np.bincount(np.abs(i - j).ravel(), P.ravel(), n)
    total = np.bincount((i + j).ravel(), P.ravel())
    d = np.arange(n)
    joint, alone = entropy(P), entropy(p)
    shared = max(2 * alone - joint, 0)
    return (
        (P * i * j).sum(),
        mean,
        (P * (i + j - 2 * mean) ** 4).sum(),
        (P * (i + j - 2 * mean) ** 3).sum(),
        (P * (i + j - 2 * mean) ** 2).sum(),
        apart @ d**2,
        (P * (i - mean) * (j - mean)).sum() / variance if variance else 1.0,
        apart @ d,
        entropy(apart),
        apart @ (d - apart @ d) ** 2,
        (P**2).sum(),
        joint,
        -shared / alone if alone else 0.0,
        np.sqrt(1 - np.exp(-2 * shared)) if shared > 1e-12 else 0.0,
        apart @ (1 / (1 + d**2)),
        apart @ (1 / (1 + (d / n) ** 2)),
        apart @ (1 / (1 + d)),
        apart @ (1 / (1 + d / n)),
        apart[1:] @ (1 / d[1:] ** 2),
        P.max(),
        total @ np.arange(2 * n + 1),
        entropy(total),
        variance,
        maximal_correlation(P) if mcc else np.nan,
    )


def entropy(p):
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


def maximal_correlation(P):
    """Second largest |eigenvalue| of D^-1/2 P D^-1/2."""
    p = P.sum(axis=0)
    P, p = P[p > 0][:, p > 0], np.sqrt(p[p > 0])
    values = np.sort(np.abs(np.linalg.eigvalsh(P / np.outer(p, p))))
    return values[-2] if len(values) > 1 else 0.0

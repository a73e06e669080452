"""Features of texture matrices, for many regions and directions at once.

Formulas of pyradiomics 3.1.4, in the order of the names of `habitat.kernels.texture*`.
Each function takes the matrices of all regions and returns (regions, directions,
features), NaN where there is no value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from habitat.kernels.texture_pairs import GLCM
from habitat.kernels.texture_runs import GLRLM

__all__ = ["FORMULAS", "Matrices", "entropy"]

_BLOCK = 1 << 20  # entries of matrices to work on at once
_INDEPENDENT = 1e-13  # bits; information below is rounding
_EPS = float(np.spacing(1))  # that pyradiomics adds to divisors
_F64 = npt.NDArray[np.float64]
_I64 = npt.NDArray[np.int64]
_Int = npt.NDArray[np.integer[Any]]
_Bool = npt.NDArray[np.bool_]


class Matrices(NamedTuple):
    """What `kernels.regions.count` counts, and the gray levels of its ranks."""

    gray: _F64  # (regions, ranks), 0 beyond those of a region
    highest: _F64  # (regions,) highest level
    pairs: _Int  # (regions, directions, ranks, ranks)
    runs: _Int  # (regions, directions, ranks, longest)
    alike: _Int  # (regions, ranks, neighbors + 1)
    near: _Int  # (regions, ranks, neighbors + 1)
    apart: _I64  # (regions, ranks, neighbors + 1)
    zones: tuple[_Int, _Int]  # of each zone: region * ranks + rank, size
    lines: _Bool  # (regions, directions) that have a line with two voxels
    spans: _I64  # (regions,) directions along which the box of the region extends
    merge: bool  # whether to add the matrices of all directions
    ibsi: bool  # whether to follow IBSI where pyradiomics does not


def entropy(p: _F64, axis: int | tuple[int, ...]) -> _F64:
    """Entropy in bits."""
    return np.asarray(entr(p).sum(axis=axis) / np.log(2))


# --- co-occurrence --------------------------------------------------------------------


def _glcm(m: Matrices) -> _F64:
    pairs = m.pairs.sum(axis=1, keepdims=True) if m.merge else m.pairs
    regions, angles, ranks = pairs.shape[:3]
    each = pairs.reshape(-1, ranks, ranks)
    out = np.full((len(each), len(GLCM)), np.nan)
    filled = np.flatnonzero(each.any(axis=(1, 2)))
    size = max(1, _BLOCK // ranks**2)
    for k in range(0, filled.size, size):
        part = filled[k : k + size]
        region = part // angles
        out[part] = _co_occurrence(each[part], m.gray[region], m.highest[region])
    found = out.reshape(regions, angles, -1)
    if not m.ibsi:
        flat = np.count_nonzero(m.gray, axis=1) == 1
        lone = _lone(m, found)
        found[lone & flat, 0, GLCM.index("InverseVariance")] = 0.0
        found[~lone & flat, :, GLCM.index("MCC")] = 1.0
    return found


def _lone(m: Matrices, found: _F64) -> _Bool:
    """Regions whose only matrix is empty: pyradiomics gives sums over nothing as 0."""
    empty = np.isnan(found[..., 0]).all(axis=1)
    return np.asarray(empty & (m.merge | (m.spans == 1)))


def _co_occurrence(pairs: _Int, gray: _F64, highest: _F64) -> _F64:
    """Features (b, 24) of matrices (b, ranks, ranks) that hold a pair."""
    P = (pairs + pairs.transpose(0, 2, 1)).astype(np.float64)
    P /= P.sum(axis=(1, 2), keepdims=True)
    px = P.sum(axis=2)
    ux = (px * gray).sum(axis=1)
    differences, sums = _diagonals(P, gray)
    k = np.arange(differences.shape[1], dtype=float)
    t = np.arange(sums.shape[1]) - 2 * ux[:, None]
    average = differences @ k
    part = k / highest[:, None]
    with np.errstate(divide="ignore"):
        inverse = np.where(k > 0, 1 / k**2, 0.0)
    squares = (px * (gray - ux[:, None]) ** 2).sum(axis=1)
    contrast, tendency = differences @ k**2, (sums * t**2).sum(axis=1)
    joint, alone = entropy(P, (1, 2)), entropy(px, 1)
    shared = 2 * alone - joint
    shared[shared < _INDEPENDENT] = 0.0
    several = squares > 0
    found = {
        "Autocorrelation": np.einsum("bi,bij,bj->b", gray, P, gray, optimize=True),
        "JointAverage": ux,
        "ClusterProminence": (sums * t**4).sum(axis=1),
        "ClusterShade": (sums * t**3).sum(axis=1),
        "ClusterTendency": tendency,
        "Contrast": contrast,
        "Correlation": _divide((tendency - contrast) / 4, squares, 1.0),
        "DifferenceAverage": average,
        "DifferenceEntropy": entropy(differences, 1),
        "DifferenceVariance": (differences * (k - average[:, None]) ** 2).sum(axis=1),
        "JointEnergy": (P * P).sum(axis=(1, 2)),
        "JointEntropy": joint,
        "Imc1": np.where(several, _divide(-shared, alone, 0.0), 0.0),
        "Imc2": np.sqrt(-np.expm1(-2 * shared)),
        "Idm": differences @ (1 / (1 + k**2)),
        "Idmn": (differences / (1 + part**2)).sum(axis=1),
        "Id": differences @ (1 / (1 + k)),
        "Idn": (differences / (1 + part)).sum(axis=1),
        "InverseVariance": differences @ inverse,
        "MaximumProbability": P.max(axis=(1, 2)),
        "SumAverage": 2 * ux,
        "SumEntropy": entropy(sums, 1),
        "SumSquares": squares,
        "MCC": _correlation(P, px),
    }
    return np.stack([found[name] for name in GLCM], axis=1)


def _diagonals(P: _F64, gray: _F64) -> tuple[_F64, _F64]:
    """Probabilities of |i - j| = 0, 1, ... and of i + j = 0, 1, ..."""
    b, most = len(P), int(gray.max()) + 1
    which, row, column = np.nonzero(P)
    p = P[which, row, column]
    i, j = (gray[which, k].astype(np.int64) for k in (row, column))
    differences = np.bincount(which * most + np.abs(i - j), p, b * most)
    sums = np.bincount(2 * which * most + i + j, p, 2 * b * most)
    return (
        differences.astype(float).reshape(b, most),
        sums.astype(float).reshape(b, 2 * most),
    )


def _correlation(P: _F64, px: _F64) -> _F64:
    """Maximal correlation coefficient: second largest |eigenvalue| of D^-1/2 P D^-1/2.

    The largest is 1. The square of this symmetric matrix is similar to the matrix Q of
    the definition. pyradiomics adds 2.2e-16 to the divisors in Q, which matters where
    levels are rare; its effect on the eigenvalue is followed to first order.
    """
    if P.shape[1] == 1:
        return np.ones(len(P))
    root = np.sqrt(np.where(px > 0, px, 1.0))
    values, vectors = np.linalg.eigh(P / (root[:, :, None] * root[:, None, :]))
    second = np.argsort(np.abs(values), axis=1)[:, -2]
    at = np.arange(len(P))
    value, v = np.abs(values[at, second]), vectors[at, :, second]
    divisor = px[:, :, None] * px[:, None, :]
    lost = _EPS / np.where(divisor > 0, divisor * (divisor + _EPS), 1.0)
    left = np.einsum("bi,bij->bj", v * root, P * lost)
    right = np.einsum("bi,bij->bj", v / root, P)
    square = value**2 - (left * right).sum(axis=1)
    return np.asarray(np.sqrt(np.clip(square, 0.0, 1.0)))


def _divide(a: _F64, b: _F64, otherwise: float) -> _F64:
    """Return a / b, and a number where b is 0."""
    out = np.full(b.shape, otherwise)
    np.divide(a, b, out=out, where=b > 0)
    return out


# --- runs, zones, dependences ---------------------------------------------------------


def _sizes(counts: _Int, gray: _F64, size: _F64) -> _F64:
    """Return the 16 features (..., 16) of matrices (..., ranks, sizes).

    `gray` is (regions, 1, ranks), `size` (sizes,).
    """
    used = counts.any(axis=tuple(range(counts.ndim - 1)))
    P, j = counts[..., used].astype(np.float64), size[used]
    rows, columns = P.sum(axis=-1), P.sum(axis=-2)
    n = np.maximum(rows.sum(axis=-1), 1.0)  # 0 has no value
    low = _divide(np.ones(gray.shape), gray**2, 0.0)
    high = gray**2
    short, long = P @ j**-2.0, P @ j**2
    pi, pj = rows / n[..., None], columns / n[..., None]
    i0, j0 = (pi * gray).sum(axis=-1, keepdims=True), (pj @ j)[..., None]
    whole = np.maximum(columns @ j, 1.0)
    squares, column_squares = (rows**2).sum(axis=-1), (columns**2).sum(axis=-1)
    out = [
        short.sum(axis=-1) / n,
        long.sum(axis=-1) / n,
        squares / n,
        squares / n**2,
        column_squares / n,
        column_squares / n**2,
        n / whole,
        (pi * (gray - i0) ** 2).sum(axis=-1),
        (pj * (j - j0) ** 2).sum(axis=-1),
        entropy(P / n[..., None, None], (-2, -1)),
        *((rows * weight).sum(axis=-1) / n for weight in (low, high)),
        *((short * weight).sum(axis=-1) / n for weight in (low, high)),
        *((long * weight).sum(axis=-1) / n for weight in (low, high)),
    ]
    return np.stack(out, axis=-1)


def _glrlm(m: Matrices) -> _F64:
    runs = m.runs
    if not m.ibsi and not m.lines.all():
        runs = runs * m.lines[..., None, None]  # pyradiomics leaves the others out
    if m.merge:
        runs = runs.sum(axis=1, keepdims=True)
    length = np.arange(1.0, runs.shape[-1] + 1)
    found = _sizes(runs, m.gray[:, None], length)
    found[~runs.any(axis=(2, 3))] = np.nan
    if not m.ibsi:
        lone = _lone(m, found)
        for name in ("RunVariance", "RunEntropy"):
            found[lone, 0, GLRLM.index(name)] = 0.0
    return found


def _glszm(m: Matrices) -> _F64:
    row, size = m.zones
    sizes, column = np.unique(size, return_inverse=True)
    cells = np.bincount(row * sizes.size + column, minlength=m.gray.size * sizes.size)
    counts = cells.reshape(*m.gray.shape, sizes.size)
    return _sizes(counts[:, None], m.gray[:, None], sizes.astype(float))


def _gldm(m: Matrices) -> _F64:
    size = np.arange(1.0, m.alike.shape[-1] + 1)
    found = _sizes(m.alike[:, None], m.gray[:, None], size)
    share = m.alike / m.alike.sum(axis=(1, 2), keepdims=True)
    energy = (share**2).sum(axis=(1, 2))
    redundant = [found[..., 3], np.ones(found.shape[:2]), energy[:, None]]
    found = np.delete(found, [3, 6], axis=-1)
    if m.ibsi:
        found = np.concatenate([found, np.stack(redundant, axis=-1)], axis=-1)
    return found


# --- differences to the neighborhood --------------------------------------------------


def _ngtdm(m: Matrices) -> _F64:
    around = np.arange(m.near.shape[-1])
    s = m.apart @ (1 / np.maximum(around, 1))  # |level - mean of the neighbors|
    counts = (m.near[..., 1:] if m.ibsi else m.near).sum(axis=-1)
    out = np.full((len(counts), 1, 5), np.nan)
    for r in range(len(counts)):
        used = counts[r] > 0
        if used.any():
            out[r, 0] = _tone(m.gray[r, used], counts[r, used], s[r, used])
    return out


def _tone(i: _F64, n: _I64, s: _F64) -> list[float]:
    """Features of levels `i`, of which there are `n` voxels and differences `s`."""
    voxels, levels = int(n.sum()), i.size
    p = n / voxels
    apart = np.abs(i[:, None] - i)
    both = p[:, None] + p
    weighted, total = float(p @ s), float(s.sum())
    spread = float(np.abs((i * n)[:, None] - i * n).sum()) / voxels
    contrast = float(p @ apart**2 @ p) * total / voxels
    return [
        1 / weighted if weighted > 0 else 1e6,
        contrast / (levels * (levels - 1)) if levels > 1 else 0.0,
        weighted / spread if spread > 0 else 0.0,
        float((apart * ((p * s)[:, None] + p * s) / both).sum()) / voxels,
        float((both * apart**2).sum()) / total if total > 0 else 0.0,
    ]


FORMULAS = {
    "glcm": _glcm,
    "glrlm": _glrlm,
    "glszm": _glszm,
    "gldm": _gldm,
    "ngtdm": _ngtdm,
}

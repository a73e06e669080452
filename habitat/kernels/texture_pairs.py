"""Co-occurrence of gray levels (GLCM) in the window around each voxel.

Definitions and values are those of pyradiomics' voxel mode (masked kernel; distance 1,
symmetric, features averaged over the 13 directions): a window ends at the mask and at
the image, and nothing outside of it counts. No Ng x Ng matrix is made: pairs are
counted in a table of the levels of one window, which is cleared by visiting the same
cells again. All moments are sums of integers about their rounded mean, so that nothing
cancels and what is 0 comes out as 0.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import inlined, jit

__all__ = ["ANGLES", "GLCM", "glcm", "glcm_tables"]

# (z, y, x), one of each pair of opposite directions
ANGLES = tuple(a for a in product((-1, 0, 1), repeat=3) if a > (0, 0, 0))
GLCM = (
    "Autocorrelation",
    "JointAverage",
    "ClusterProminence",
    "ClusterShade",
    "ClusterTendency",
    "Contrast",
    "Correlation",
    "DifferenceAverage",
    "DifferenceEntropy",
    "DifferenceVariance",
    "JointEnergy",
    "JointEntropy",
    "Imc1",
    "Imc2",
    "Idm",
    "Idmn",
    "Id",
    "Idn",
    "InverseVariance",
    "MaximumProbability",
    "SumAverage",
    "SumEntropy",
    "SumSquares",
    "MCC",
)
_NO_INFORMATION = 1e-12  # bits; the least of dependent levels in 7 x 7 x 7 is 1e-10
_TINY = 1e-15  # of a norm of 1
_TURNS = 50  # most iterations for an eigenvalue
_F64 = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]
_Counts = npt.NDArray[np.int32]
_Levels = npt.NDArray[np.integer[Any]]


def glcm_tables(radius: int, n_levels: int) -> tuple[_Int, _Int, _Int, _F64, _F64]:
    """Pairs of cells, logarithms, and weights of differences.

    First and second cell of each pair, by direction; bounds (14,) of the directions;
    log2 of 0..twice the most pairs of a direction, with 0 for 0; weights (n_levels, 5)
    of |i - j| in Idm, Idmn, Id, Idn and InverseVariance.
    """
    edge = 2 * radius + 1
    cell = np.arange(edge**3).reshape(edge, edge, edge)
    first, second, start = [], [], [0]
    for angle in ANGLES:
        here = tuple(slice(max(0, -a), edge - max(0, a)) for a in angle)
        there = tuple(slice(max(0, a), edge - max(0, -a)) for a in angle)
        first.append(cell[here].ravel())
        second.append(cell[there].ravel())
        start.append(start[-1] + first[-1].size)
    log = np.log2(np.maximum(np.arange(2 * max(f.size for f in first) + 1), 1))
    d = np.arange(n_levels)
    part = d / n_levels
    near = [1 / (1 + d**2), 1 / (1 + part**2), 1 / (1 + d), 1 / (1 + part)]
    near.append(np.where(d > 0, 1 / np.maximum(d, 1) ** 2, 0))
    pairs = np.concatenate(first), np.concatenate(second)
    return *pairs, np.array(start), log, np.stack(near, axis=1)


@jit
def glcm(
    levels: _Levels,  # IN
    centers: _Int,  # IN
    offsets: _Int,  # IN
    first: _Int,  # IN of `glcm_tables`
    second: _Int,  # IN of `glcm_tables`
    start: _Int,  # IN of `glcm_tables`
    log: _F64,  # IN of `glcm_tables`
    near: _F64,  # IN of `glcm_tables`
    angles: npt.NDArray[np.bool_],  # IN (13,) that hold a pair of voxels of the mask
    flat: bool,  # whether the whole mask has one level
    mcc: bool,  # whether the last feature is asked for; NaN otherwise
    out: _F64,  # OUT (v, 24)
) -> None:
    """Features of the gray-level co-occurrence matrix of each window.

    Directions without a pair in the window do not enter the means, but leave
    JointAverage without a value unless the whole mask has no pair along them, as in
    pyradiomics.
    """
    cells = offsets.size
    most = log.size - 1  # entries in a table
    n_levels = near.shape[0]
    rank_of = np.full(n_levels + 1, -1, np.int32)
    level, rank = np.empty(cells, np.int64), np.empty(cells, np.int64)
    pairs = np.zeros(cells * cells, np.int32)  # of ranks, row <= column
    sides = np.zeros(cells, np.int32)  # ranks
    gaps = np.zeros(n_levels, np.int32)  # differences
    sums = np.zeros(2 * n_levels + 1, np.int32)
    seen = np.empty((3, most + 1), np.int64)  # what is not 0 of pairs, gaps and sums
    size = cells if mcc else 0
    matrix, diagonal, beside = np.empty((size, size)), np.empty(size), np.empty(size)
    part = np.empty(23)
    for v in range(centers.size):
        ranks = _rank(levels, centers[v], offsets, rank_of, level, rank)
        for f in range(out.shape[1]):
            out[v, f] = 0.0
        filled = 0
        for a in range(angles.size):
            found = _count(
                first, second, start[a], start[a + 1], level, rank, pairs, seen
            )
            if found == 0:
                continue
            filled += 1
            counted = _entropies(
                found, ranks, first, second, level, rank, pairs, sides, gaps, sums,
                seen, log, part,
            )  # fmt: skip
            _moments(counted, gaps, sums, seen, log, near, part)
            for f in range(part.size):
                out[v, f] += part[f]
            if mcc:
                m = _scale(
                    found, ranks, first, second, rank, pairs, sides, seen, diagonal,
                    beside, matrix,
                )  # fmt: skip
                out[v, 23] += _second_eigenvalue(matrix, m, diagonal, beside)
            for k in range(ranks):
                sides[k] = 0
            for k in range(found):
                r, q = rank[first[seen[0, k]]], rank[second[seen[0, k]]]
                pairs[min(r, q) * cells + max(r, q)] = 0
        _average(filled, angles, flat, mcc, out[v])


@jit
def _average(
    filled: int, angles: npt.NDArray[np.bool_], flat: bool, mcc: bool, row: _F64
) -> None:
    """Turn sums over the directions that are filled into means."""
    present = 0
    for a in range(angles.size):
        present += angles[a]
    for f in range(row.size):
        row[f] /= filled  # NaN for 0 / 0
    if filled < present:
        row[1] = np.nan
    if flat:  # pyradiomics' values
        row[23] = 1.0
        if present > 0:
            row[18] = 0.0
    if not mcc:
        row[23] = np.nan


@jit
def _rank(
    levels: _Levels,  # IN
    center: int,
    offsets: _Int,  # IN
    rank_of: npt.NDArray[np.int32],  # IN (n_levels + 1,) -1, restored
    level: _Int,  # OUT (cells,)
    rank: _Int,  # OUT (cells,) number of the level in the window
) -> int:
    """Number the levels of a window by first appearance; return how many there are."""
    found = 0
    for k in range(offsets.size):
        here = levels[center + offsets[k]]
        level[k] = here
        if here > 0:
            if rank_of[here] < 0:
                rank_of[here] = found
                found += 1
            rank[k] = rank_of[here]
    for k in range(offsets.size):
        rank_of[level[k]] = -1
    return found


@inlined
def _count(
    first: _Int,  # IN (pairs,) cells
    second: _Int,  # IN (pairs,) cells
    begin: int,
    end: int,
    level: _Int,  # IN (cells,)
    rank: _Int,  # IN (cells,)
    pairs: _Counts,  # OUT counted; IN all 0
    seen: _Int,  # OUT [0] a pair of cells for each count that is not 0
) -> int:
    """Count the pairs along one direction; return how many are different."""
    cells = level.size
    found = 0
    for k in range(begin, end):
        if level[first[k]] > 0 and level[second[k]] > 0:
            r, q = rank[first[k]], rank[second[k]]
            entry = min(r, q) * cells + max(r, q)
            seen[0, found] = k
            found += pairs[entry] == 0
            pairs[entry] += 1
    return found


@inlined
def _entropies(
    found: int,
    ranks: int,
    first: _Int,  # IN
    second: _Int,  # IN
    level: _Int,  # IN
    rank: _Int,  # IN
    pairs: _Counts,  # IN of `_count`
    sides: _Counts,  # OUT counts of levels, all and of both sides; IN all 0
    gaps: _Counts,  # OUT counts of differences; IN all 0
    sums: _Counts,  # OUT counts of sums; IN all 0
    seen: _Int,  # IN [0]; OUT [1] and [2] the gaps and sums that are not 0
    log: _F64,  # IN
    part: _F64,  # OUT features of the matrix and of the levels as such
) -> tuple[int, int, int, int]:
    """Count levels, differences and sums.

    The symmetric matrix holds each pair twice, on the diagonal in one entry. Returns
    the number of pairs, the sum of all their levels, the number of gaps and of sums.
    """
    cells = level.size
    n, s1, in_gaps, in_sums, energy, highest = 0, 0, 0, 0, 0, 0
    chaos = 0.0
    for k in range(found):
        one, two = first[seen[0, k]], second[seen[0, k]]
        r, q = rank[one], rank[two]
        c = np.int64(pairs[min(r, q) * cells + max(r, q)])
        n += c
        sides[r] += c
        sides[q] += c
        d, s = abs(level[one] - level[two]), level[one] + level[two]
        s1 += c * s
        seen[1, in_gaps] = d
        in_gaps += gaps[d] == 0
        gaps[d] += c
        seen[2, in_sums] = s
        in_sums += sums[s] == 0
        sums[s] += c
        entries = 1 if d == 0 else 2
        c *= 3 - entries
        energy += entries * c * c
        chaos += entries * c * log[c]
        highest = max(highest, c)
    alone = 0.0
    several = False
    for k in range(ranks):
        c = np.int64(sides[k])
        alone += c * log[c]
        several |= 0 < c < 2 * n
    share = 0.5 / n
    joint = log[2 * n] - chaos * share
    marginal = log[2 * n] - alone * share
    shared = 2.0 * marginal - joint  # information, bits
    if shared < _NO_INFORMATION:  # independent levels: rounding, of either sign
        shared = 0.0
    part[10] = energy * share * share
    part[11] = joint if several else 0.0  # no rounding of one level
    part[12] = -shared / marginal if several else 0.0
    part[13] = math.sqrt(-math.expm1(-2.0 * shared))
    part[19] = highest * share
    return n, s1, in_gaps, in_sums


@inlined
def _moments(
    counted: tuple[int, int, int, int],  # IN what `_entropies` returns
    gaps: _Counts,  # IN of `_entropies`; OUT all 0
    sums: _Counts,  # IN of `_entropies`; OUT all 0
    seen: _Int,  # IN
    log: _F64,  # IN
    near: _F64,  # IN
    part: _F64,  # OUT features of differences and sums
) -> None:
    """Features of d = |i - j| and, with c an integer near its mean, of t = i + j - c.

    All that are polynomials of i and j follow from sums of their powers.
    """
    n, s1, in_gaps, in_sums = counted
    share = 1.0 / n
    d1, d2 = 0, 0
    chaos, idm, idmn, inverse, idn, variance = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(in_gaps):
        d = seen[1, k]
        c = np.int64(gaps[d])
        gaps[d] = 0
        d1 += c * d
        d2 += c * d * d
        chaos += c * log[c]
        idm += c * near[d, 0]
        idmn += c * near[d, 1]
        inverse += c * near[d, 2]
        idn += c * near[d, 3]
        variance += c * near[d, 4]
    part[5] = d2 * share
    part[7] = d1 * share
    part[8] = log[n] - chaos * share if in_gaps > 1 else 0.0
    part[9] = (n * d2 - d1 * d1) * share * share
    part[14] = idm * share
    part[15] = idmn * share
    part[16] = inverse * share
    part[17] = idn * share
    part[18] = variance * share
    middle = int(s1 * share)
    t1, t2 = 0, 0
    t3, t4, chaos = 0.0, 0.0, 0.0
    for k in range(in_sums):
        s = seen[2, k]
        c = np.int64(sums[s])
        sums[s] = 0
        t = s - middle
        t1 += c * t
        t2 += c * t * t
        t3 += float(c * t * t) * t
        t4 += float(c * t * t) * (t * t)
        chaos += c * log[c]
    mean = t1 * share
    m2, m3, m4 = t2 * share, t3 * share, t4 * share
    squares = n * (t2 + d2) - t1 * t1
    part[0] = (t2 + middle * (2 * t1 + n * middle) - d2) * 0.25 * share
    part[1] = 0.5 * s1 * share
    part[2] = m4 - mean * (4.0 * m3 - mean * (6.0 * m2 - 3.0 * mean * mean))
    part[3] = m3 - mean * (3.0 * m2 - 2.0 * mean * mean)
    part[4] = (n * t2 - t1 * t1) * share * share
    part[6] = (n * (t2 - d2) - t1 * t1) / squares if squares > 0 else 1.0
    part[20] = s1 * share
    part[21] = log[n] - chaos * share if in_sums > 1 else 0.0
    part[22] = squares * 0.25 * share * share


@jit
def _scale(
    found: int,
    ranks: int,
    first: _Int,  # IN
    second: _Int,  # IN
    rank: _Int,  # IN
    pairs: _Counts,  # IN of `_count`
    sides: _Counts,  # IN of `_entropies`
    seen: _Int,  # IN of `_count`
    place: _F64,  # OUT scratch
    root: _F64,  # OUT scratch
    matrix: _F64,  # OUT lower triangle of [:m, :m]
) -> int:
    """Fill D^-1/2 P D^-1/2 of the m levels that occur; return m.

    Q of the maximal correlation coefficient is similar to the square of this matrix,
    which is symmetric; its largest eigenvalue is 1.
    """
    cells = rank.size
    m = 0
    for k in range(ranks):
        if sides[k] > 0:
            place[k] = m
            root[k] = 1.0 / math.sqrt(sides[k])
            for b in range(m + 1):
                matrix[m, b] = 0.0
            m += 1
    for k in range(found):
        r, q = rank[first[seen[0, k]]], rank[second[seen[0, k]]]
        c = pairs[min(r, q) * cells + max(r, q)] * (2.0 if r == q else 1.0)
        a, b = int(place[r]), int(place[q])
        matrix[max(a, b), min(a, b)] = c * root[r] * root[q]
    return m


@jit
def _second_eigenvalue(matrix: _F64, m: int, diagonal: _F64, beside: _F64) -> float:
    """Return the second largest |eigenvalue| of [:m, :m]; 0 if m is 1."""
    _tridiagonal(matrix, m, diagonal, beside)
    _eigenvalues(diagonal, beside, m)
    largest, second = 0.0, 0.0
    for k in range(m):
        value = abs(diagonal[k])
        if value > largest:
            largest, second = value, largest
        elif value > second:
            second = value
    return min(second, 1.0)


@jit
def _tridiagonal(
    matrix: _F64,  # IN lower triangle of [:m, :m]; overwritten
    m: int,
    diagonal: _F64,  # OUT [:m]
    beside: _F64,  # OUT [: m - 1], then 0
) -> None:
    """Householder's reduction of a symmetric matrix (EISPACK tred1)."""
    for i in range(m - 1, 0, -1):
        row = matrix[i]
        diagonal[i] = row[i]
        square = 0.0
        for k in range(i - 1):
            square += row[k] * row[k]
        last = row[i - 1]
        if square == 0.0:
            beside[i] = last
            continue
        length = math.sqrt(square + last * last)
        if last > 0.0:
            length = -length
        beside[i] = length
        row[i - 1] = last - length
        scale = 1.0 / (square + last * last - last * length)
        along = 0.0
        for j in range(i):
            g = 0.0
            for k in range(j + 1):
                g += matrix[j, k] * row[k]
            for k in range(j + 1, i):
                g += matrix[k, j] * row[k]
            beside[j] = g * scale
            along += beside[j] * row[j]
        along *= 0.5 * scale
        for j in range(i):
            beside[j] -= along * row[j]
            for k in range(j + 1):
                matrix[j, k] -= row[j] * beside[k] + beside[j] * row[k]
    diagonal[0] = matrix[0, 0]
    for i in range(1, m):
        beside[i - 1] = beside[i]
    beside[m - 1] = 0.0


@jit
def _eigenvalues(
    diagonal: _F64,  # IN/OUT [:m] of a tridiagonal matrix; its eigenvalues
    beside: _F64,  # IN [:m] below the diagonal, then 0; overwritten
    m: int,
) -> None:
    """QL algorithm with implicit shifts (EISPACK imtql1), for a matrix of norm 1."""
    for low in range(m):
        for _ in range(_TURNS):
            top = low
            while top < m - 1 and abs(beside[top]) > _TINY:
                top += 1
            if top == low:
                break
            g = (diagonal[low + 1] - diagonal[low]) / (2.0 * beside[low])
            r = math.sqrt(g * g + 1.0)
            shift = beside[low] / (g + (r if g >= 0.0 else -r))
            g = diagonal[top] - diagonal[low] + shift
            sine, cosine, p = 1.0, 1.0, 0.0
            i = top - 1
            while i >= low:
                f = sine * beside[i]
                b = cosine * beside[i]
                r = math.sqrt(f * f + g * g)
                beside[i + 1] = r
                if r == 0.0:
                    diagonal[i + 1] -= p
                    break
                sine = f / r
                cosine = g / r
                g = diagonal[i + 1] - p
                r = (diagonal[i] - g) * sine + 2.0 * cosine * b
                p = sine * r
                diagonal[i + 1] = g + p
                g = cosine * r - b
                i -= 1
            if i < low:
                diagonal[low] -= p
                beside[low] = g
            beside[top] = 0.0

"""Gaussian mixtures on blocks of voxels.

`X` is (d, n), C-contiguous, float64. Inner loops run over the voxels of a block, so
that they vectorize. Logarithms are to base 2: the exponential is then a polynomial on
[-1/2, 1/2] and a shift into the exponent, without loss and without libm. Component j is
given by `base[j]` and the triangle `factors[j]`, see `densities`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["densities", "em_step"]

BLOCK = 512
_RUN = 64  # voxels a logarithm; 256**64 is still finite
_LOWEST = -1000.0  # of a power of 2 that is still a normal number
_FARTHEST = -1e300  # log-density of a column too far for its square
_BIAS = 1.5 * 2.0**52 + 1023.0  # moves a whole number into the last bits, as exponent
# 2^r = 1 + r (C1 + C2 r + ...): interpolates (2^r - 1) / r at the Chebyshev nodes of
# [-1/2, 1/2], where the relative error stays below 2e-17
_C1 = 0.6931471805599453
_C2 = 0.24022650695910097
_C3 = 0.0555041086648216
_C4 = 0.009618129107606888
_C5 = 0.0013333558146416931
_C6 = 0.0001540353044173605
_C7 = 1.5252733829840539e-05
_C8 = 1.321544258792169e-06
_C9 = 1.0178062444077174e-07
_C10 = 7.072585949269223e-09
_C11 = 4.454960855437338e-10
_F64 = npt.NDArray[np.float64]


@jit
def _density(
    X: _F64,  # IN (d, n)
    start: int,
    m: int,
    base: _F64,  # IN (k,)
    means: _F64,  # IN (k, d)
    factors: _F64,  # IN (k, d, d)
    z: _F64,  # OUT (d, BLOCK) scratch
    rows: _F64,  # OUT (k, BLOCK)
) -> None:
    """Log-densities of the columns start..start + m, see `densities`."""
    d = X.shape[0]
    for j in range(base.size):
        row = rows[j]
        b = base[j]
        for f in range(d):
            x = X[f, start : start + m]
            z_f = z[f]
            c = means[j, f]
            a = factors[j, f, f]
            if f == 0:
                for i in range(m):
                    z_f[i] = (x[i] - c) * a
                    row[i] = b - z_f[i] * z_f[i]
                continue
            z_g = z[0]
            e = factors[j, f, 0]
            for i in range(m):
                z_f[i] = (x[i] - c) * a + z_g[i] * e
            for g in range(1, f):
                z_g = z[g]
                e = factors[j, f, g]
                for i in range(m):
                    z_f[i] += z_g[i] * e
            for i in range(m):
                row[i] -= z_f[i] * z_f[i]


@jit
def _powers(
    m: int,
    rows: _F64,  # IN/OUT (k, BLOCK) log-densities; then relative to the largest
    top: _F64,  # OUT (BLOCK,) the largest
    total: _F64,  # OUT (BLOCK,) sum of the relative densities, 1 to k
) -> None:
    """Turn log-densities of m columns into densities relative to the largest."""
    k = rows.shape[0]
    row = rows[0]
    for i in range(m):
        top[i] = max(row[i], _FARTHEST)
        total[i] = 0.0
    for j in range(1, k):
        row = rows[j]
        for i in range(m):
            top[i] = max(top[i], row[i])
    for j in range(k):
        row = rows[j]
        for i in range(m):
            x = max(max(row[i], _FARTHEST) - top[i], _LOWEST)
            whole = np.floor(x + 0.5)
            r = x - whole
            p = _C10 + r * _C11
            p = _C9 + r * p
            p = _C8 + r * p
            p = _C7 + r * p
            p = _C6 + r * p
            p = _C5 + r * p
            p = _C4 + r * p
            p = _C3 + r * p
            p = _C2 + r * p
            p = _C1 + r * p
            p = 1.0 + r * p
            bits = np.int64(np.float64(whole + _BIAS).view(np.int64) << 52)
            row[i] = p * bits.view(np.float64)
            total[i] += row[i]


@jit
def em_step(
    X: _F64,  # IN (d, n)
    weight: _F64,  # IN (n,) of the columns; empty for 1
    first: int,
    last: int,
    base: _F64,  # IN (k,)
    means: _F64,  # IN (k, d)
    factors: _F64,  # IN (k, d, d)
    count: _F64,  # OUT (k,) sum of the responsibilities r_j
    shift: _F64,  # OUT (k, d) sum of r_j t, where t = x - mean_j
    square: _F64,  # OUT (k, d, d) sum of r_j t t'
) -> float:
    """Return the log-likelihood of the columns first..last, and sum their moments.

    Moments about the current means do not cancel, however far from 0 the data are.
    The logarithm is that of a product over `_RUN` columns, each factor 1 to k.
    """
    d = X.shape[0]
    k = base.size
    count[:] = 0.0
    shift[:] = 0.0
    square[:] = 0.0
    rows = np.empty((k, BLOCK))
    z = np.empty((d, BLOCK))
    top = np.empty(BLOCK)
    total = np.empty(BLOCK)
    likelihood = 0.0
    for start in range(first, last, BLOCK):
        m = min(BLOCK, last - start)
        _density(X, start, m, base, means, factors, z, rows)
        _powers(m, rows, top, total)
        if weight.size:
            w = weight[start : start + m]
            for i in range(m):
                likelihood += w[i] * (top[i] + np.log2(total[i]))
                total[i] = w[i] / total[i]
        else:
            s = 0.0
            for i in range(m):
                s += top[i]
            for run in range(0, m, _RUN):
                p = 1.0
                for i in range(run, min(run + _RUN, m)):
                    p *= total[i]
                s += np.log2(p)
            likelihood += s
            for i in range(m):
                total[i] = 1.0 / total[i]
        for j in range(k):
            row = rows[j]
            s = 0.0
            for i in range(m):
                row[i] *= total[i]
                s += row[i]
            count[j] += s
            for f in range(d):
                x = X[f, start : start + m]
                z_f = z[f]
                c = means[j, f]
                s = 0.0
                q = 0.0
                for i in range(m):
                    t = x[i] - c
                    z_f[i] = t * row[i]
                    s += z_f[i]
                    q += z_f[i] * t
                shift[j, f] += s
                square[j, f, f] += q
                for g in range(f):
                    x = X[g, start : start + m]
                    c = means[j, g]
                    s = 0.0
                    for i in range(m):
                        s += z_f[i] * (x[i] - c)
                    square[j, f, g] += s
    for j in range(k):
        for f in range(d):
            for g in range(f):
                square[j, g, f] = square[j, f, g]
    return float(likelihood * np.log(2.0))


@jit
def densities(
    X: _F64,  # IN (d, n)
    base: _F64,  # IN (k,)
    means: _F64,  # IN (k, d)
    factors: _F64,  # IN (k, d, d)
    out: _F64,  # OUT (k, n)
) -> None:
    """Log-densities log(w_j N_j(x)) of the columns.

    z_f = factors[j, f, f] (x_f - mean_f) + sum over g < f of factors[j, f, g] z_g
    and log2(w_j N_j(x)) = base[j] - |z|^2: a substitution with the Cholesky factor L
    of the covariance, whose rows are divided by L[f, f], and 1 / L[f, f] carries the
    factor sqrt(log2(e) / 2).

    The last block is padded: no loop has a remainder, whose last bits could differ, and
    the numbers of a column do not depend on its place.
    """
    d, n = X.shape
    x = np.zeros((d, BLOCK))
    z = np.empty((d, BLOCK))
    rows = np.empty((base.size, BLOCK))
    unit = np.log(2.0)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        x[:, :m] = X[:, start : start + m]
        _density(x, 0, BLOCK, base, means, factors, z, rows)
        for j in range(base.size):
            for i in range(m):
                out[j, start + i] = max(rows[j, i], _FARTHEST) * unit

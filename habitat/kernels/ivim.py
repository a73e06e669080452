"""Fits of intravoxel incoherent motion, voxel by voxel.

Signals are (n, m), a row per voxel (finite, or NaN throughout), in order of b; the
first column is the lowest b.
``S(b) / S0 = f exp(-b D*) + (1 - f) exp(-b D)``, or ``exp(-b (D* + D))`` in the first
term with `joint`. Each voxel is worked on alone: its result does not depend on others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["ivim_full", "ivim_segmented"]

_COARSE = 33  # D* of the first search, spaced by their logarithm
_GOLDEN = 0.6180339887498949
_NARROWED = 40  # golden sections: the last bracket is 1e-9 of D* wide
_STEP = 1e-9  # relative step that ends a fit
_STUCK = 1e12  # damping at which no step downhill is left
_SMALL = np.array([1e-12, 1e-9, 1e-3, 1e-9])  # changes of parameters near 0 that count
_SCAN = 12  # D and D* of the second start
_F64 = npt.NDArray[np.float64]


@jit
def _misfit(
    b: _F64, weight: _F64, y: _F64, tissue: _F64, f: float, rate: float, joint: bool
) -> float:
    """Weighted sum of squares at one D*; `tissue` is exp(-b D)."""
    total = 0.0
    for j in range(b.size):
        blood = np.exp(-b[j] * rate)
        if joint:
            blood *= tissue[j]
        r = y[j] - f * blood - (1.0 - f) * tissue[j]
        total += weight[j] * r * r
    return total


@jit
def _search(
    b: _F64,
    weight: _F64,
    y: _F64,
    tissue: _F64,  # IN (m,) exp(-b D)
    f: float,
    coarse: _F64,  # IN (_COARSE, m) exp(-b D*)
    bounds: _F64,  # IN (2,) of D*
    joint: bool,
) -> float:
    """D* of the least misfit: the best of a coarse grid, then golden sections."""
    low = np.log(bounds[0])
    step = (np.log(bounds[1]) - low) / (_COARSE - 1)
    best = np.inf
    at = 0
    for i in range(_COARSE):
        total = 0.0
        for j in range(b.size):
            blood = coarse[i, j] * tissue[j] if joint else coarse[i, j]
            r = y[j] - f * blood - (1.0 - f) * tissue[j]
            total += weight[j] * r * r
        if total < best:
            best = total
            at = i
    left = low + max(at - 1, 0) * step
    right = low + min(at + 1, _COARSE - 1) * step
    x1 = right - _GOLDEN * (right - left)
    x2 = left + _GOLDEN * (right - left)
    g1 = _misfit(b, weight, y, tissue, f, np.exp(x1), joint)
    g2 = _misfit(b, weight, y, tissue, f, np.exp(x2), joint)
    for _ in range(_NARROWED):
        if g1 <= g2:
            right, x2, g2 = x2, x1, g1
            x1 = right - _GOLDEN * (right - left)
            g1 = _misfit(b, weight, y, tissue, f, np.exp(x1), joint)
        else:
            left, x1, g1 = x1, x2, g2
            x2 = left + _GOLDEN * (right - left)
            g2 = _misfit(b, weight, y, tissue, f, np.exp(x2), joint)
    rate: float = np.exp(0.5 * (left + right))
    least = min(g1, g2)
    for bound in bounds:  # golden sections only come near an end
        if _misfit(b, weight, y, tissue, f, bound, joint) <= least:
            rate = bound
    return rate


@jit
def ivim_segmented(
    S: _F64,  # IN (n, m) signals
    b: _F64,  # IN (m,) s/mm2, ascending
    weight: _F64,  # IN (m,) images behind each column
    first: int,  # column of the first b without signal of blood
    bounds: _F64,  # IN (3, 2) of D, f, D*
    joint: bool,
    out: _F64,  # OUT (n, 4): S0, D, f, D*
) -> None:
    """Fit D and S_int to ln S from `first` on, then f = 1 - S_int / S0, then D*.

    The line is weighted by S^2 and its slope kept within the bounds of D, so signals
    not above 0 have no weight. D* is searched on a logarithmic grid, then by golden
    sections. All NaN where S0 is not above 0 or fewer than two signals are left for
    the line; D* is NaN where f is 0.
    """
    n, m = S.shape
    low = np.log(bounds[2, 0])
    step = (np.log(bounds[2, 1]) - low) / (_COARSE - 1)
    coarse = np.empty((_COARSE, m))
    for i in range(_COARSE):
        for j in range(m):
            coarse[i, j] = np.exp(-b[j] * np.exp(low + i * step))
    y = np.empty(m)
    tissue = np.empty(m)
    for v in range(n):
        s0 = S[v, 0]
        if not s0 > 0.0:
            out[v] = np.nan
            continue
        sw = sb = sl = sbb = sbl = 0.0
        good = 0
        for j in range(m):
            y[j] = S[v, j] / s0
            if j >= first and y[j] > 0.0:
                w = weight[j] * y[j] * y[j]
                logged = np.log(y[j])
                sw += w
                sb += w * b[j]
                sl += w * logged
                sbb += w * b[j] * b[j]
                sbl += w * b[j] * logged
                good += 1
        if good < 2:
            out[v] = np.nan
            continue
        slope = (sw * sbl - sb * sl) / (sw * sbb - sb * sb)
        d = min(max(-slope, bounds[0, 0]), bounds[0, 1])
        f = 1.0 - np.exp((sl + d * sb) / sw)
        f = min(max(f, bounds[1, 0]), bounds[1, 1])
        out[v, 0], out[v, 1], out[v, 2], out[v, 3] = s0, d, f, np.nan
        if not f > 0.0:
            continue
        for j in range(m):
            tissue[j] = np.exp(-b[j] * d)
        out[v, 3] = _search(b, weight, y, tissue, f, coarse, bounds[2], joint)


@jit
def _evaluate(
    b: _F64,
    weight: _F64,
    y: _F64,
    p: _F64,  # IN (4,): S0, D, f, D*
    joint: bool,
    H: _F64,  # OUT (4, 4) lower triangle: half the second derivatives
    scale: _F64,  # OUT (4,) their diagonal without curvature of the model
    g: _F64,  # OUT (4,) half the way downhill
) -> float:
    """Weighted sum of squares, and what a step of Newton's method needs."""
    H[:] = 0.0
    scale[:] = 0.0
    g[:] = 0.0
    total = 0.0
    row = np.empty(4)
    for j in range(b.size):
        tissue = np.exp(-b[j] * p[1])
        blood = np.exp(-b[j] * p[3])
        if joint:
            blood *= tissue
        shape = p[2] * blood + (1.0 - p[2]) * tissue
        with_d = shape if joint else (1.0 - p[2]) * tissue  # falls with D
        f_with_d = blood - tissue if joint else -tissue
        row[0] = shape
        row[1] = -b[j] * p[0] * with_d
        row[2] = p[0] * (blood - tissue)
        row[3] = -b[j] * p[0] * p[2] * blood
        r = y[j] - p[0] * shape
        total += weight[j] * r * r
        for i in range(4):
            g[i] += weight[j] * row[i] * r
            scale[i] += weight[j] * row[i] * row[i]
            for k in range(i + 1):
                H[i, k] += weight[j] * row[i] * row[k]
        r *= weight[j]
        rb = r * b[j]
        H[1, 0] += rb * with_d
        H[1, 1] -= rb * b[j] * p[0] * with_d
        H[2, 0] -= r * (blood - tissue)
        H[2, 1] += rb * p[0] * f_with_d
        H[3, 0] += rb * p[2] * blood
        if joint:
            H[3, 1] -= rb * b[j] * p[0] * p[2] * blood
        H[3, 2] += rb * p[0] * blood
        H[3, 3] -= rb * b[j] * p[0] * p[2] * blood
    return total


@jit
def _damped_step(
    H: _F64,
    scale: _F64,
    g: _F64,
    free: npt.NDArray[np.bool_],
    damping: float,
    step: _F64,  # OUT (4,)
) -> bool:
    """Solve (H + damping scale) step = g for the free parameters, by Cholesky.

    False where that matrix is not positive definite.
    """
    L = np.zeros((4, 4))
    for i in range(4):
        step[i] = g[i] if free[i] else 0.0
        for k in range(i):
            value = H[i, k] if free[i] and free[k] else 0.0
            for h in range(k):
                value -= L[i, h] * L[k, h]
            L[i, k] = value / L[k, k]
        pivot = H[i, i] + damping * scale[i] if free[i] else 1.0
        least = 1e-14 * (abs(H[i, i]) + damping * scale[i])
        for h in range(i):
            pivot -= L[i, h] * L[i, h]
        if not pivot > least:
            return False
        L[i, i] = np.sqrt(pivot)
    for i in range(4):
        for k in range(i):
            step[i] -= L[i, k] * step[k]
        step[i] /= L[i, i]
    for i in range(3, -1, -1):
        for k in range(i + 1, 4):
            step[i] -= L[k, i] * step[k]
        step[i] /= L[i, i]
    return True


@jit
def _descend(
    b: _F64,
    weight: _F64,
    y: _F64,
    joint: bool,
    low: _F64,  # IN (4,)
    high: _F64,  # IN (4,)
    most: int,  # iterations
    p: _F64,  # IN start, OUT (4,): S0, D, f, D*
) -> tuple[float, bool]:
    """Least sum of squares downhill from a start, and whether it was reached.

    Levenberg-Marquardt with the full second derivatives: those of Gauss and Newton take
    hundreds of steps where noise is large. A parameter at a bound stays there while
    the way downhill leaves it.
    """
    q, step = np.empty(4), np.empty(4)
    H, other_H = np.empty((4, 4)), np.empty((4, 4))
    scale, other_scale = np.empty(4), np.empty(4)
    g, other_g = np.empty(4), np.empty(4)
    free = np.empty(4, np.bool_)
    cost = _evaluate(b, weight, y, p, joint, H, scale, g)
    damping = 1e-3
    for _ in range(most):
        for i in range(4):
            below = p[i] <= low[i] and g[i] < 0.0
            above = p[i] >= high[i] and g[i] > 0.0
            free[i] = scale[i] > 0.0 and not below and not above
        better = False
        trial = cost
        while not better and damping < _STUCK:
            if not _damped_step(H, scale, g, free, damping, step):
                damping *= 10.0
                continue
            moved = 0.0
            for i in range(4):
                q[i] = min(max(p[i] + step[i], low[i]), high[i])
                moved = max(moved, abs(q[i] - p[i]) / (abs(p[i]) + _SMALL[i]))
            if moved < _STEP:
                return cost, True
            trial = _evaluate(b, weight, y, q, joint, other_H, other_scale, other_g)
            better = trial < cost
            damping = max(damping * 0.1, 1e-12) if better else damping * 10.0
        if not better:
            return cost, True
        p[:], H[:], scale[:], g[:] = q, other_H, other_scale, other_g
        cost = trial
    return cost, False


@jit
def _scan(
    y: _F64,
    weight: _F64,
    bloods: _F64,  # IN (_SCAN, _SCAN, m) exp(-b D*), by D and D*
    tissues: _F64,  # IN (_SCAN, m) exp(-b D)
    low: _F64,  # IN (4,)
    high: _F64,  # IN (4,)
    p: _F64,  # OUT (4,): S0, D, f, D*
) -> None:
    """Best point of a coarse grid of D and D*, with the best S0 and f there."""
    most = -1.0
    for i in range(_SCAN):
        for k in range(_SCAN):
            tt = tb = bb = ty = by = 0.0
            for j in range(y.size):
                t, u, w = tissues[i, j], bloods[i, k, j], weight[j]
                tt += w * t * t
                tb += w * t * u
                bb += w * u * u
                ty += w * t * y[j]
                by += w * u * y[j]
            det = tt * bb - tb * tb
            in_blood, in_tissue = by * tt - ty * tb, ty * bb - by * tb
            f = in_blood / (in_blood + in_tissue) if det > 1e-12 * tt * bb else 0.0
            for edge in range(2):  # the best f is inside, or at one of its bounds
                inside = low[2] <= f <= high[2] and in_blood + in_tissue > 0.0
                share = f if inside else (high[2] if edge else low[2])
                product = share * by + (1.0 - share) * ty
                norm = share * share * bb + (1.0 - share) * (1.0 - share) * tt
                norm += 2.0 * share * (1.0 - share) * tb
                explained = product * abs(product) / norm
                if explained > most:
                    most = explained
                    p[0] = product / norm
                    p[1] = low[1] + (high[1] - low[1]) * i / (_SCAN - 1)
                    p[2] = share
                    p[3] = low[3] * (high[3] / low[3]) ** (k / (_SCAN - 1))


@jit
def ivim_full(
    S: _F64,  # IN (n, m) signals
    b: _F64,  # IN (m,) s/mm2, ascending
    weight: _F64,  # IN (m,) images behind each column
    bounds: _F64,  # IN (3, 2) of D, f, D*
    joint: bool,
    most: int,  # iterations
    out: _F64,  # IN start, OUT (n, 4): S0, D, f, D*
) -> int:
    """Fit S0, D, f and D* within bounds; return how many voxels were not finished.

    The better of two descents, from the start given and from the best point of a coarse
    grid: noisy signals have more than one least sum of squares. NaN stays NaN; D* is
    NaN where f is 0.
    """
    n, m = S.shape
    y = np.empty(m)
    p, best = np.empty(4), np.empty(4)
    low = np.array([0.0, bounds[0, 0], bounds[1, 0], bounds[2, 0]])
    high = np.array([np.inf, bounds[0, 1], bounds[1, 1], bounds[2, 1]])
    tissues = np.empty((_SCAN, m))
    bloods = np.empty((_SCAN, _SCAN, m))
    for i in range(_SCAN):
        d = low[1] + (high[1] - low[1]) * i / (_SCAN - 1)
        tissues[i] = np.exp(-b * d)
        for k in range(_SCAN):
            rate = low[3] * (high[3] / low[3]) ** (k / (_SCAN - 1))
            bloods[i, k] = np.exp(-b * (rate + (d if joint else 0.0)))
    unfinished = 0
    for v in range(n):
        s0 = out[v, 0]
        if not s0 > 0.0:
            continue
        for j in range(m):
            y[j] = S[v, j] / s0
        best[0], best[1], best[2], best[3] = 1.0, out[v, 1], out[v, 2], out[v, 3]
        if not best[2] > 0.0:
            best[3] = np.sqrt(low[3] * high[3])
        least, done = _descend(b, weight, y, joint, low, high, most, best)
        p[:] = best
        _scan(y, weight, bloods, tissues, low, high, p)
        cost, reached = _descend(b, weight, y, joint, low, high, most, p)
        if cost < least * (1.0 - 1e-9):
            best[:], done = p, reached
        unfinished += not done
        out[v, 0], out[v, 1], out[v, 2], out[v, 3] = (
            best[0] * s0,
            best[1],
            best[2],
            best[3],
        )
        if not best[2] > 0.0:
            out[v, 3] = np.nan
    return unfinished

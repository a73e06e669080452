"""Tofts models on blocks of curves.

Curves are (t, n), one column a voxel, so that the loops over voxels become vector
instructions. Times are minutes here, as Ktrans and kep are 1/min. Each voxel is worked
on alone: its result does not depend on the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["bounded", "concentration", "convolve", "linear"]

BLOCK = 256  # voxels whose sums stay in the cache
SINGULAR = 1e-13  # share of a pivot that is left when a column repeats the others
COARSE = 4  # every so many-th rate is tried first
GOLDEN = 0.6180339887498949
_F64 = npt.NDArray[np.float64]


@jit
def concentration(
    signal: _F64,  # IN (t, n)
    before: _F64,  # IN (n,) mean signal before the bolus
    t10: _F64,  # IN (n,) seconds, T1 before the bolus
    tr: float,  # seconds
    cosine: float,  # of the flip angle
    r1: float,  # relaxivity, 1/s per mM
    out: _F64,  # OUT (t, n) mM, NaN where no T1 gives such a signal
) -> None:
    """Invert the spoiled gradient echo: S / S0 to 1/T1 to concentration."""
    frames, n = signal.shape
    for j in range(n):
        e10 = np.exp(-tr / t10[j])
        scale = np.nan
        if before[j] > 0.0:
            scale = (1.0 - e10) / (1.0 - e10 * cosine) / before[j]
        for i in range(frames):
            a = signal[i, j] * scale
            if 0.0 < a < 1.0:
                rate = -np.log((1.0 - a) / (1.0 - a * cosine)) / tr
                out[i, j] = (rate - 1.0 / t10[j]) / r1
            else:
                out[i, j] = np.nan


@jit
def linear(
    curves: _F64,  # IN (t, n) mM
    times: _F64,  # IN (t,) minutes
    plasma: _F64,  # IN (t,) mM
    dose: _F64,  # IN (t,) integral of plasma from the first frame, mM min
    extended: bool,
    out: _F64,  # OUT (4, n): Ktrans, kep, vp, sum of squared residuals
) -> None:
    """Fit C = (Ktrans + kep vp) I[Cp] - kep I[C] + vp Cp by linear least squares.

    I is the integral from the first frame, that of the curve by trapezoids (Murase,
    MRM 2004;51:858). NaN where the data do not determine the numbers, but Ktrans and
    vp of a curve of zeros are 0.
    """
    frames, n = curves.shape
    size = 3 if extended else 2
    pp = 0.0
    pc = 0.0
    cc = 0.0
    for i in range(frames):
        pp += dose[i] * dose[i]
        pc += dose[i] * plasma[i]
        cc += plasma[i] * plasma[i]
    own, own2, py, oy, cy, po, co, yy = np.empty((8, BLOCK))
    m = np.empty((3, 4))
    for start in range(0, n, BLOCK):
        count = min(BLOCK, n - start)
        for j in range(count):
            own[j] = own2[j] = py[j] = oy[j] = cy[j] = po[j] = co[j] = yy[j] = 0.0
        for i in range(frames):
            y = curves[i, start : start + count]
            x = curves[max(i - 1, 0), start : start + count]
            half = 0.5 * (times[i] - times[max(i - 1, 0)])
            for j in range(count):
                own[j] += half * (x[j] + y[j])
                own2[j] += own[j] * own[j]
                po[j] -= dose[i] * own[j]
                co[j] -= plasma[i] * own[j]
                py[j] += dose[i] * y[j]
                oy[j] -= own[j] * y[j]
                cy[j] += plasma[i] * y[j]
                yy[j] += y[j] * y[j]
        for j in range(count):
            m[0, 0] = pp
            m[0, 1] = po[j]
            m[0, 2] = pc
            m[0, 3] = py[j]
            m[1, 1] = own2[j]
            m[1, 2] = co[j]
            m[1, 3] = oy[j]
            m[2, 2] = cc
            m[2, 3] = cy[j]
            out[3, start + j] = _solve(m, size, yy[j])
            vp = m[2, 3] if extended else 0.0 * m[1, 3]
            out[0, start + j] = m[0, 3] - m[1, 3] * vp
            out[1, start + j] = m[1, 3]
            out[2, start + j] = vp
            if yy[j] == 0.0:  # nothing came, so nothing is known of its leaving
                out[0, start + j] = out[2, start + j] = out[3, start + j] = 0.0


@jit
def _solve(m: _F64, size: int, total: float) -> float:
    """Solve symmetric equations in place (Cholesky), right side in the last column.

    Only the upper triangle is read. Returns `total` less what the solution explains.
    """
    for k in range(size):
        pivot = m[k, k]
        for i in range(k):
            pivot -= m[i, k] * m[i, k]
        if not pivot > SINGULAR * m[k, k]:
            m[:, 3] = np.nan
            return np.nan
        root = np.sqrt(pivot)
        for j in range(k + 1, 4):
            if j < size or j == 3:
                value = m[k, j]
                for i in range(k):
                    value -= m[i, k] * m[i, j]
                m[k, j] = value / root
        m[k, k] = root
        total -= m[k, 3] * m[k, 3]
    for k in range(size - 1, -1, -1):
        for j in range(k + 1, size):
            m[k, 3] -= m[k, j] * m[j, 3]
        m[k, 3] /= m[k, k]
    return max(total, 0.0)


@jit
def convolve(
    grid: _F64,  # IN (g,) minutes, ascending
    plasma: _F64,  # IN (g,) mM, straight lines between the points of the grid
    rates: _F64,  # IN (k,) kep, 1/min, positive
    frames: npt.NDArray[np.int64],  # IN (t,) points of the grid
    out: _F64,  # OUT (k, t) integral of plasma(u) exp(-kep (t - u)) at the frames
) -> None:
    """Convolve a polygon with exponentials, exactly, step by step."""
    for j in range(rates.size):
        k = rates[j]
        value = 0.0
        last = -1.0
        decay = near = far = 0.0
        f = 0
        for i in range(grid.size):
            if i > 0:
                dt = grid[i] - grid[i - 1]
                if abs(dt - last) > 1e-9 * dt:
                    last = dt
                    x = k * dt
                    decay = np.exp(-x)
                    near = -np.expm1(-x) / k  # integral of the exponential
                    # integral of the ramp that goes from 0 to 1 over the step
                    far = dt * (0.5 - x / 6.0 + x * x / 24.0)
                    if x > 1e-3:
                        far = (1.0 - near / dt) / k
                value = value * decay + plasma[i - 1] * near
                value += (plasma[i] - plasma[i - 1]) * far
            while f < frames.size and frames[f] == i:
                out[j, f] = value
                f += 1


@jit
def bounded(
    curves: _F64,  # IN (t, n) mM
    plasma: _F64,  # IN (t,) mM
    response: _F64,  # IN (k, t) from `convolve`
    rates: _F64,  # IN (k,) kep, 1/min, at equal steps of the logarithm, k >= 5
    most: _F64,  # IN (3,) largest Ktrans, ve and vp (vp 0: Tofts model)
    out: _F64,  # OUT (4, n): Ktrans, kep, vp, sum of squared residuals
) -> None:
    """Fit Ktrans, kep and vp within bounds (all at least 0) by least squares.

    For a given kep the model is linear in Ktrans and vp, so that only kep is searched:
    over every fourth of `rates`, then all around the best of these, then between those
    beside the best (golden section). Between the rates each product is the quartic
    through the nearest five.
    """
    frames, n = curves.shape
    k = rates.size
    ee, ec = np.zeros(k), np.zeros(k)
    cc = 0.0
    for i in range(frames):
        cc += plasma[i] * plasma[i]
        for j in range(k):
            ee[j] += response[j, i] * response[j, i]
            ec[j] += response[j, i] * plasma[i]
    step = np.log(rates[1] / rates[0])
    y, ey = np.empty(frames), np.empty(k)
    best = np.empty(3)  # Ktrans, vp, what they explain
    for v in range(n):
        for i in range(frames):
            y[i] = curves[i, v]
        yy = 0.0
        cy = 0.0
        for i in range(frames):  # on its own: sums are the same at any stride
            yy += y[i] * y[i]
            cy += plasma[i] * y[i]
        if not 0.0 < yy < np.inf:  # no uptake at all: kep is not determined
            out[:, v] = 0.0 * yy
            out[1, v] = np.nan
            continue
        top = -1.0
        peak = 0
        for stride in (COARSE, 1):
            near = peak
            reach = COARSE if stride == 1 else k
            first = max(near - reach - 2, 0)  # the quartic needs two more
            for j in range(first, min(near + reach + 3, k), stride):
                s = 0.0
                row = response[j]
                for i in range(frames):
                    s += row[i] * y[i]
                ey[j] = s
                _amounts(ee[j], ec[j], cc, s, cy, rates[j], most, best)
                if best[2] > top and abs(j - near) <= reach:
                    top = best[2]
                    peak = j
        middle = min(max(peak, 2), k - 3)
        low = max(peak - 1, 0) - middle + 0.0
        high = min(peak + 1, k - 1) - middle + 0.0
        at = high - GOLDEN * (high - low)
        other = low + GOLDEN * (high - low)
        gain = _between(ee, ec, cc, ey, cy, rates, step, middle, at, most, best)
        rival = _between(ee, ec, cc, ey, cy, rates, step, middle, other, most, best)
        while high - low > 1e-6:
            if gain >= rival:
                high, other, rival = other, at, gain
                at = high - GOLDEN * (high - low)
                gain = _between(ee, ec, cc, ey, cy, rates, step, middle, at, most, best)
            else:
                low, at, gain = at, other, rival
                other = low + GOLDEN * (high - low)
                rival = _between(
                    ee, ec, cc, ey, cy, rates, step, middle, other, most, best
                )
        at = 0.5 * (low + high)
        gain = _between(ee, ec, cc, ey, cy, rates, step, middle, at, most, best)
        out[0, v] = best[0]
        out[1, v] = rates[middle] * np.exp(step * at)
        out[2, v] = best[1]
        out[3, v] = max(yy - gain, 0.0)


@jit
def _between(
    ee: _F64,  # IN (k,) products of the responses
    ec: _F64,  # IN (k,) of response and plasma
    cc: float,
    ey: _F64,  # IN (k,) of response and curve
    cy: float,
    rates: _F64,  # IN (k,)
    step: float,
    middle: int,
    at: float,  # in steps from the middle
    most: _F64,  # IN (3,)
    best: _F64,  # OUT (3,)
) -> float:
    """Explained sum of squares at a kep between the rates."""
    a, b, c, d = at + 2.0, at + 1.0, at - 1.0, at - 2.0
    w0 = b * at * c * d / 24.0
    w1 = -a * at * c * d / 6.0
    w2 = a * b * c * d / 4.0
    w3 = -a * b * at * d / 6.0
    w4 = a * b * at * c / 24.0
    m = middle
    p = w0 * ee[m - 2] + w1 * ee[m - 1] + w2 * ee[m] + w3 * ee[m + 1] + w4 * ee[m + 2]
    q = w0 * ec[m - 2] + w1 * ec[m - 1] + w2 * ec[m] + w3 * ec[m + 1] + w4 * ec[m + 2]
    r = w0 * ey[m - 2] + w1 * ey[m - 1] + w2 * ey[m] + w3 * ey[m + 1] + w4 * ey[m + 2]
    _amounts(p, q, cc, r, cy, rates[m] * np.exp(step * at), most, best)
    return float(best[2])


@jit
def _amounts(
    ee: float,
    ec: float,
    cc: float,
    ey: float,
    cy: float,
    kep: float,
    most: _F64,  # IN (3,) largest Ktrans, ve and vp
    best: _F64,  # OUT (3,) Ktrans, vp, explained sum of squares
) -> None:
    """Least squares in two numbers within a box: inside it, or along its edges."""
    top = min(most[0], most[1] * kep)
    full = most[2]
    det = ee * cc - ec * ec
    if full > 0.0 and det > SINGULAR * ee * cc:
        x = (ey * cc - cy * ec) / det
        v = (cy * ee - ey * ec) / det
        if 0.0 <= x <= top and 0.0 <= v <= full:
            best[0] = x
            best[1] = v
            best[2] = x * ey + v * cy
            return
    best[2] = -1.0
    for edge in range(4):
        x = 0.0
        v = 0.0
        if edge < 2:  # vp at a bound
            v = full if edge == 1 else 0.0
            x = min(max((ey - v * ec) / ee, 0.0), top) if ee > 0.0 else 0.0
        elif full > 0.0:  # Ktrans at a bound
            x = top if edge == 3 else 0.0
            v = min(max((cy - x * ec) / cc, 0.0), full) if cc > 0.0 else 0.0
        gain = 2.0 * (x * ey + v * cy) - x * x * ee - 2.0 * x * v * ec - v * v * cc
        if gain > best[2]:
            best[0] = x
            best[1] = v
            best[2] = gain

"""Plain twins of kernels.tofts: formulas as printed, general solvers."""

import numpy as np
from scipy.integrate import cumulative_trapezoid, quad
from scipy.optimize import least_squares


def concentration(signal, before, t10, tr, cosine, r1, out):
    e10 = np.exp(-tr / t10)
    a = signal / np.where(before > 0, before, np.nan) * (1 - e10) / (1 - e10 * cosine)
    a = np.where((a > 0) & (a < 1), a, np.nan)
    rate = -np.log((1 - a) / (1 - a * cosine)) / tr
    out[:] = (rate - 1 / t10) / r1


def linear(curves, times, plasma, dose, extended, out):
    for j, c in enumerate(curves.T):
        terms = [dose, -cumulative_trapezoid(c, times, initial=0)]
        terms = np.column_stack([*terms, plasma] if extended else terms)
        if not c.any():
            out[:, j] = 0, np.nan, 0, 0
        elif not np.isfinite(c).all() or np.linalg.matrix_rank(terms) < terms.shape[1]:
            out[:, j] = np.nan
        else:
            x = np.append(np.linalg.lstsq(terms, c, rcond=None)[0], 0.0)
            rest = c - terms @ x[: terms.shape[1]]
            out[:, j] = x[0] - x[1] * x[2], x[1], x[2], rest @ rest


def convolve(grid, plasma, rates, frames, out):
    """Numerical integration, from bend to bend of the polygon."""
    for j, k in enumerate(rates):
        for f, end in enumerate(frames):
            out[j, f] = sum(
                quad(
                    lambda u, k=k, end=end: (
                        np.interp(u, grid, plasma) * np.exp(-k * (grid[end] - u))
                    ),
                    *grid[i : i + 2],
                    epsabs=1e-13,
                )[0]
                for i in range(end)
            )


def bounded(curves, plasma, response, rates, most, out):
    """Trust region in Ktrans, ve and vp from several starts; a fine cubic table."""
    from scipy.interpolate import CubicSpline

    table = CubicSpline(np.log(rates), response)
    top = np.maximum(most, 1e-12)

    def model(x):
        ktrans, ve, vp = x
        kep = np.clip(ktrans / ve, rates[0], rates[-1])
        return ktrans * table(np.log(kep)) + vp * plasma

    for j, c in enumerate(curves.T):
        if not np.isfinite(c).all():
            out[:, j] = np.nan
            continue
        if not c.any():
            out[:, j] = 0, np.nan, 0, 0
            continue
        runs = [
            least_squares(
                lambda x, c=c: model(x) - c,
                np.minimum([k, v, 0.01], 0.9 * top),
                bounds=([1e-9, 1e-6, 0], top),
                x_scale=np.minimum(top, 1),
                xtol=1e-14,
                ftol=1e-14,
                gtol=1e-14,
            )
            for k in (0.05, 0.5)
            for v in (0.1, 0.6)
        ]
        best = min(runs, key=lambda run: run.cost)
        ktrans, ve, vp = best.x
        out[:, j] = ktrans, ktrans / ve, vp * (most[2] > 0), 2 * best.cost

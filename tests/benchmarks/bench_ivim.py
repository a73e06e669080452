"""Speed of IVIM fits and of pruning: ``python -m tests.benchmarks.bench_ivim``.

Prints voxels a second of both fits on one thread, 14 b-values, SNR 40, against scipy's
``curve_fit`` with the same bounds from one start; and the seconds to prune 93 maps of
80,000 voxels, against scipy's ``spearmanr`` of all of them.
"""

import os
import time

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
from scipy.optimize import curve_fit
from scipy.stats import spearmanr

from habitat.kernels.ivim import ivim_full, ivim_segmented
from habitat.maps._prune import rank_correlations

N = 80_000
B = np.array([0, 10, 20, 30, 40, 60, 80, 100, 150, 200, 400, 600, 800, 1000.0])
BOUNDS = np.array([[0, 5e-3], [0, 0.5], [5e-3, 0.2]])


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def signal(b, s0, d, f, d_star):
    return s0 * (f * np.exp(-b * d_star) + (1 - f) * np.exp(-b * d))


def fits(rng):
    d, f, d_star = rng.uniform([5e-4, 0.03, 0.01], [2e-3, 0.4, 0.1], (N, 3)).T
    S = np.stack([signal(b, 1, d, f, d_star) for b in B], axis=1)
    S += rng.normal(0, 1 / 40, S.shape)
    out, weight = np.empty((N, 4)), np.ones(B.size)

    def ours(full, rows):
        ivim_segmented(S[:rows], B, weight, 9, BOUNDS, False, out[:rows])
        if full:
            ivim_full(S[:rows], B, weight, BOUNDS, False, 200, out[:rows])

    def theirs(rows):
        low, high = [0, *BOUNDS[:, 0]], [np.inf, *BOUNDS[:, 1]]
        start = [1, 1e-3, 0.1, 0.03]
        for row in S[:rows]:
            curve_fit(signal, B, row, start, bounds=(low, high), x_scale=start)

    ours(True, 10)
    reference = 50 / seconds(lambda: theirs(50))
    for full in (False, True):
        rate = N / seconds(lambda full=full: ours(full, N))
        name = "full" if full else "segmented"
        print(f"{name:10}{rate:10.0f} voxels/s, scipy's full fit {reference:6.0f}")


def pruning(rng):
    X = rng.normal(size=(93, 20)) @ rng.normal(size=(20, N))
    ours, theirs = (
        seconds(lambda: rank_correlations(X)),
        seconds(lambda: spearmanr(X.T)),
    )
    X[:40][:, rng.random(N) < 0.1] = np.nan
    print(f"93 maps {ours:9.2f} s, scipy {theirs:6.2f} s,", end=" ")
    print(f"two patterns of NaN {seconds(lambda: rank_correlations(X)):6.2f} s")


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    fits(rng)
    pruning(rng)

"""Time of `segment`, of first calls and of imports.

``python -m tests.benchmarks.bench_segment`` prints seconds; medians of several runs.
"""

import os
import subprocess
import sys
import tempfile
import time
from statistics import median

import numpy as np

import habitat
from habitat import Image

FIRST = (
    "import time, warnings; t = time.perf_counter(); import habitat;"
    "p = habitat.phantom(); s = time.perf_counter();"
    "habitat.segment(p.pet, p.ct, p.mask, k=4);"
    "print(time.perf_counter() - s, time.perf_counter() - t)"
)


def tumor(voxels=80_000, seed=0):
    """PET, CT and mask arrays of a ball with overlapping, correlated habitats."""
    radius = (3 * voxels / (4 * np.pi)) ** (1 / 3)
    n = 2 * int(radius) + 21
    rng = np.random.default_rng(seed)
    where = np.indices((n, n, n)) - n // 2
    depth = np.sqrt((where**2).sum(0)) / radius
    mask = depth <= 1
    pet = np.where(mask, 3 + 6 * depth, 0.5) * rng.lognormal(0, 0.25, mask.shape)
    dense = where[0] > radius / 3
    ct = np.where(mask, 30 + 8 * depth + 60 * dense, -800) + rng.normal(
        0, 20, mask.shape
    )
    return pet, np.rint(ct), mask


def warm_segment(runs=15):
    pet, ct, mask = tumor()
    spacing = (2.0, 2.0, 2.0)
    images = [
        Image(pet, spacing=spacing, unit="SUVbw"),
        Image(ct, spacing=spacing, unit="HU"),
        Image(mask, spacing=spacing),
    ]
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        result = habitat.segment(*images, k=4)
        seconds.append(time.perf_counter() - start)
    n_iter = result.quality["n_iter"]
    return int(mask.sum()), n_iter, median(seconds[1:]), min(seconds)


def first_call(cache):
    """Seconds of the first segment call in a new process, and of all of it."""
    env = {**os.environ, "NUMBA_CACHE_DIR": cache}
    done = subprocess.run(
        [sys.executable, "-c", FIRST],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(map(float, done.stdout.split()))


def cpu(*command):
    before = os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def main():
    write = sys.stdout.write
    voxels, n_iter, middle, best = warm_segment()
    write(f"segment, {voxels} voxels, {n_iter} iterations, warm: ")
    write(f"median {middle:.3f} s, best {best:.3f} s\n")
    with tempfile.TemporaryDirectory() as cache:
        call, whole = first_call(cache)
        write(f"first call, cold cache: {call:.1f} s (whole process {whole:.1f} s)\n")
        call, whole = map(
            median, zip(*(first_call(cache) for _ in range(3)), strict=True)
        )
        write(f"first call, warm cache: {call:.2f} s (whole process {whole:.2f} s)\n")
    bare = median(cpu(sys.executable, "-c", "pass") for _ in range(5))
    load = median(cpu(sys.executable, "-c", "import habitat") for _ in range(5))
    shown = median(cpu(sys.executable, "-m", "habitat", "--help") for _ in range(5))
    write(
        f"import habitat: {load - bare:.3f} s CPU; habitat --help: {shown:.2f} s CPU\n"
    )


if __name__ == "__main__":
    main()

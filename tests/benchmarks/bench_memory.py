"""Memory of K-means on 10 million voxels: ``python -m tests.benchmarks.bench_memory``.

Two channels, k=4, default starts and threads, each case in a new process. Prints how
far the peak resident memory rises above what was resident before the call, which
includes the rows and the imports; the first line includes compiling all kernels. The
last column is scikit-learn's time for one start on the same rows, tol=0, its threads as
they are, over the whole time of ours. Linux only.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn.cluster

from habitat.clustering import kmeans
from tests.oracles import tumor

N, K, PARTS = 10_000_000, 4, 100
CASES = ("float64 cold", "float64", "float32", "float64 weighted")


def data(dtype):
    X = np.empty((N, 2), dtype)
    for seed, part in enumerate(np.array_split(X, PARTS)):
        part[:] = tumor(len(part), seed)
    return X


def resident():
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * resource.getpagesize()


def measure(dtype, weighted, reference):
    X = data(dtype)
    weight = np.ones(N) if weighted else None
    before = resident()
    start = time.perf_counter()
    found = kmeans(X, K, sample_weight=weight)
    ours = time.perf_counter() - start
    rise = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{rise / 1e6:8.0f} MB {ours:8.1f} s {found.n_iter:4} iterations", end="")
    if reference:
        model = sklearn.cluster.KMeans(K, n_init=1, tol=0.0, random_state=0)
        start = time.perf_counter()
        model.fit(X)
        theirs = time.perf_counter() - start
        print(f"  scikit-learn x {theirs / ours:.1f}", end="")


def main():
    print(f"{N:,} voxels, k={K}: rise of the peak above the data; time")
    with tempfile.TemporaryDirectory() as empty:
        for case in CASES:
            env = {**os.environ}
            if "cold" in case:
                env["NUMBA_CACHE_DIR"] = empty
            command = [sys.executable, "-m", "tests.benchmarks.bench_memory", case]
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, check=True
            )
            print(f"{case:18}{done.stdout}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        words = sys.argv[1].split()
        measure(words[0], "weighted" in words, len(words) == 1)
    else:
        main()

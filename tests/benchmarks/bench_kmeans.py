"""Speed of K-means: ``python -m tests.benchmarks.bench_kmeans``.

Prints ratios against scikit-learn in the same run: one thread, two channels, k=4, the
whole fit from the same centers until no label changes, time per iteration, median of 7
interleaved fits. Also the parts of a default `kmeans` call.
"""

import importlib.util
import os
import statistics
import time

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
import sklearn.cluster
from threadpoolctl import threadpool_limits

from habitat.clustering import KMeans, canonical_order, kmeans, scores
from tests.oracles import sklearn_kmeans, tumor

K, REPEATS = 4, 7


def intelex_kmeans(X, k, init):
    """Intel's K-means; its class is used by name, scikit-learn is not patched."""
    from sklearnex.cluster import KMeans

    model = KMeans(k, init=init, n_init=1, max_iter=300, tol=0.0, algorithm="lloyd")
    return model.fit(X)


def fits(X, init):
    """Name to a function without arguments that returns (labels, iterations)."""
    X32, init32 = X.astype(np.float32), init.astype(np.float32)

    def ours(rows):
        found = kmeans(rows, K, init=init)
        return found.labels, found.n_iter

    def theirs(rows, start):
        found = sklearn_kmeans(rows, K, start)
        return found.labels, found.n_iter

    def intel(rows, start):
        model = intelex_kmeans(rows, K, start)
        return model.labels_, model.n_iter_

    out = {
        "scikit-learn float64": lambda: theirs(X, init),
        "scikit-learn float32": lambda: theirs(X32, init32),
        "habitat float64": lambda: ours(X),
        "habitat float32": lambda: ours(X32),
    }
    if importlib.util.find_spec("sklearnex"):
        out["intelex float64"] = lambda: intel(X, init)
        out["intelex float32"] = lambda: intel(X32, init32)
    return out


def interleaved(functions):
    """Median seconds of each function, and its last result."""
    results = {name: f() for name, f in functions.items()}  # compile, warm up
    seconds = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, f in functions.items():
            start = time.perf_counter()
            results[name] = f()
            seconds[name].append(time.perf_counter() - start)
    return {n: statistics.median(s) for n, s in seconds.items()}, results


def compare(n):
    X = tumor(n)
    init = X[np.random.default_rng(1).choice(n, K, replace=False)]
    seconds, results = interleaved(fits(X, init))
    print(f"\n{n:,} voxels, k={K}, one thread, whole fit from the same centers")
    print(
        f"{'':22}{'ms':>9}{'n_iter':>8}{'ns/voxel/iter':>15}{'ratio':>8}  labels equal"
    )
    for name, (labels, n_iter) in results.items():
        base = name.replace("habitat", "scikit-learn").replace(
            "intelex", "scikit-learn"
        )
        per = seconds[name] / n_iter
        ratio = seconds[base] / results[base][1] / per
        equal = (labels == results["scikit-learn float64"][0]).mean()
        print(
            f"{name:22}{1e3 * seconds[name]:9.2f}{n_iter:8}{1e9 * per / n:15.2f}"
            f"{ratio:8.1f}  {100 * equal:.4f} %"
        )


def parts(n):
    X = tumor(n)
    X = X[canonical_order(X)]
    labels = kmeans(X, K).labels
    weight = np.random.default_rng(0).lognormal(size=n)
    shuffled = np.random.default_rng(0).permutation(X)
    ten = sklearn.cluster.KMeans(K, n_init=10, tol=0.0, random_state=0)
    seconds, _ = interleaved(
        {
            "canonical_order": lambda: canonical_order(shuffled),
            "numpy.lexsort": lambda: np.lexsort(shuffled.T[::-1]),
            "kmeans, 10 starts": lambda: kmeans(X, K),
            "the same, weighted": lambda: kmeans(X, K, sample_weight=weight),
            "KMeans(4).fit": lambda: KMeans(K, random_state=0).fit(shuffled),
            "scikit-learn, n_init=10": lambda: ten.fit(X),
            "scores": lambda: scores(X, labels),
        }
    )
    print(f"\n{n:,} voxels, k={K}, one thread")
    for name, s in seconds.items():
        print(f"{name:26}{1e3 * s:9.2f} ms")


if __name__ == "__main__":
    with threadpool_limits(1):
        compare(80_000)
        compare(1_000_000)
        parts(80_000)

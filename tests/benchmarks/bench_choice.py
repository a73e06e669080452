"""Speed of choosing k: ``python -m tests.benchmarks.bench_choice``.

Prints ratios against scikit-learn in the same run, one thread, 80,000 rows of two
channels: the table of `choose_k` for k = 2..10, the silhouettes, and one test for
structure. scikit-learn's table is made of its parts: KMeans with ten starts,
Calinski-Harabasz, Davies-Bouldin, GaussianMixture started at the K-means solution and
its BIC, and prediction strength with KMeans on two halves of all rows (ours: of at most
5,000 rows each). Ours also holds the test for structure and the squared silhouette.
"""

import os
import time

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
import sklearn.cluster
import sklearn.metrics
import sklearn.mixture
from threadpoolctl import threadpool_limits

from habitat.agreement import contingency
from habitat.choice import choose_k
from habitat.clustering import kmeans
from habitat.clustering._criteria import strength
from habitat.clustering._scores import scores, silhouettes
from habitat.clustering._structure import structure_p
from tests.oracles import tumor

N, KS = 80_000, range(2, 11)


def timed(function, repeats=1):
    best, value = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        value = function()
        best = min(best, time.perf_counter() - start)
    return best, value


def theirs(X, k, halves):
    """One row of the table from scikit-learn's parts."""
    fit = sklearn.cluster.KMeans(k, n_init=10, random_state=0).fit(X)
    sklearn.metrics.calinski_harabasz_score(X, fit.labels_)
    sklearn.metrics.davies_bouldin_score(X, fit.labels_)
    shares = np.bincount(fit.labels_) / len(X)
    precisions = [
        np.linalg.inv(np.cov(X[fit.labels_ == j].T, bias=True)) for j in range(k)
    ]
    mixture = sklearn.mixture.GaussianMixture(
        k,
        weights_init=shares,
        means_init=fit.cluster_centers_,
        precisions_init=precisions,
    ).fit(X)
    mixture.bic(X)
    one, two = (
        sklearn.cluster.KMeans(k, n_init=10, random_state=0).fit(h) for h in halves
    )
    there = contingency(two.labels_, one.predict(halves[1]), k)
    return strength(there) + strength(
        contingency(one.labels_, two.predict(halves[0]), k)
    )


def table(X):
    own = ["davies_bouldin", "silhouette", "bic"]
    choose_k(X[:2000], KS, criteria=own)  # compile
    order = np.random.default_rng(0).permutation(N)
    halves = X[order[: N // 2]], X[order[N // 2 :]]
    ours, chosen = timed(lambda: choose_k(X, KS, criteria=own))
    other = 0.0
    for i, k in enumerate(KS):
        other += timed(lambda k=k: theirs(X, k, halves))[0]
        if i % 4 == 3:
            ours = min(ours, timed(lambda: choose_k(X, KS, criteria=own))[0])
    print(f"table, k = 2..10{ours:12.2f} s{other:10.1f} s{other / ours:8.1f}  {chosen}")


def silhouette_lines(X):
    labels = kmeans(X, 4).labels
    few = np.arange(0, N, 20)
    silhouettes(X[few], labels[few])
    before = timed(lambda: silhouettes(X, labels), 2)[0]
    other, want = timed(lambda: sklearn.metrics.silhouette_samples(X, labels))
    after, got = timed(lambda: silhouettes(X, labels), 2)
    ours = min(before, after)
    off = np.abs(got - want).max()
    print(
        f"Euclidean{ours:19.2f} s{other:10.1f} s{other / ours:8.1f}"
        f"  differs by {off:.1e}"
    )
    squared = timed(lambda: scores(X, labels), 5)[0]
    part = slice(0, 10_000)
    slow = timed(
        lambda: sklearn.metrics.silhouette_score(
            X[part], labels[part], metric="sqeuclidean"
        )
    )[0]
    slow *= (N / 10_000) ** 2
    print(
        f"squared{squared:21.4f} s{slow:10.1f} s{slow / squared:8.0f}"
        "  (theirs from 10,000 rows)"
    )


def structure(X):
    for keys in (
        {"ks": KS},
        {"ks": (4,), "rows": 2000, "draws": 39},
        {"ks": (4,), "rows": 2000, "draws": 99},
    ):
        seconds, p = timed(lambda keys=keys: structure_p(X, **keys), 5)
        print(f"structure_p {keys}: {1e3 * seconds:.1f} ms, p = {p:.3f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        X = tumor(N)
        print(
            f"{N:,} rows, 2 channels, one thread\n{'':25}habitat  scikit-learn  ratio"
        )
        structure(X)
        silhouette_lines(X)
        table(X)

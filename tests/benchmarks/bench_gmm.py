"""Speed of Gaussian mixtures: ``python -m tests.benchmarks.bench_gmm``.

Prints ratios against scikit-learn in the same run: one thread, two channels, k=4, 20
iterations from the same mixture, time per iteration, median of 7 interleaved fits. The
target is 20 times for full covariances of 80,000 voxels. Also the parts of a default
`gmm` call.
"""

import os
import warnings

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from habitat.clustering import canonical_order, kmeans
from habitat.clustering._gmm import COVARIANCES, GMMOptions, Mixture, gmm
from tests.benchmarks.bench_kmeans import interleaved
from tests.oracles import tumor

K, ITERATIONS = 4, 20


def sklearn_fit(X, covariance, start):
    """Fit from round components of variance 1/2, which every covariance can be."""
    d = X.shape[1]
    precisions = {
        "full": np.tile(2 * np.eye(d), (K, 1, 1)),
        "tied": 2 * np.eye(d),
        "diag": np.full((K, d), 2.0),
        "spherical": np.full(K, 2.0),
    }
    model = GaussianMixture(
        K,
        covariance_type=covariance,
        tol=0.0,
        max_iter=ITERATIONS,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=precisions[covariance],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit_predict(X)


def compare(n, covariances):
    X = tumor(n)
    means = X[np.random.default_rng(1).choice(n, K, replace=False)]
    start = Mixture(np.full(K, 1 / K), means, np.tile(np.eye(2) / 2, (K, 1, 1)))
    print(f"\n{n:,} voxels, k={K}, one thread, {ITERATIONS} iterations")
    print(
        f"{'covariance':12}{'scikit-learn':>14}{'habitat':>10}  ns/voxel/iter"
        f"{'ratio':>8}  labels equal"
    )
    for covariance in covariances:
        options = GMMOptions(covariance, max_iter=ITERATIONS, tol=0.0)
        seconds, labels = interleaved(
            {
                "theirs": lambda c=covariance: sklearn_fit(X, c, start),
                "ours": lambda o=options: gmm(X, K, options=o, init=start).labels,
            }
        )
        theirs, ours = (seconds[who] for who in ("theirs", "ours"))
        unit = 1e9 / (ITERATIONS * n)
        equal = (labels["theirs"] == labels["ours"]).mean()
        print(
            f"{covariance:12}{theirs * unit:14.1f}{ours * unit:10.1f}{'':15}"
            f"{theirs / ours:8.1f}  {100 * equal:.4f} %"
        )


def parts(n):
    X = tumor(n)
    X = X[canonical_order(X)]
    found = gmm(X, K)
    seconds, _ = interleaved(
        {
            f"gmm, {found.n_iter} iterations": lambda: gmm(X, K),
            "of these, K-means start": lambda: kmeans(X, K),
            "scikit-learn, default": lambda: GaussianMixture(K, random_state=0).fit(X),
            "labels": lambda: found.rule.labels(X),
            "posterior": lambda: found.rule.posterior(X),
            "entropy": lambda: found.rule.entropy(X),
        }
    )
    print(f"\n{n:,} voxels, k={K}, one thread")
    for name, s in seconds.items():
        print(f"{name:26}{1e3 * s:9.2f} ms")


if __name__ == "__main__":
    with threadpool_limits(1):
        compare(80_000, COVARIANCES)
        compare(1_000_000, ["full"])
        parts(80_000)

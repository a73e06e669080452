"""Numbers that tell how well clusters are separated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels.scores import distance_sums, separation

__all__ = ["scores", "silhouettes", "simplified_silhouette"]


def scores(X: npt.NDArray[Any], labels: npt.NDArray[Any]) -> dict[str, float]:
    """Separation of clusters: four criteria in three passes over the rows.

    Parameters
    ----------
    X : (n, d) array
        Rows as they were clustered (scaled).
    labels : (n,) array of int, 0 to 255
        Labels need not be consecutive.

    Returns
    -------
    dict
        "calinski_harabasz" (large is good), "davies_bouldin" (small), "silhouette"
        (large; squared Euclidean distances, exact, mean over rows) and
        "explained_variance" (share of the variance between clusters). The first three
        are NaN unless there are 2 to n - 1 clusters.

    Notes
    -----
    As ``calinski_harabasz_score``, ``davies_bouldin_score`` and
    ``silhouette_score(metric="sqeuclidean")`` of scikit-learn (Calinski & Harabasz
    1974; Davies & Bouldin 1979; Rousseeuw 1987). The silhouette needs no pairs: the
    mean squared distance to a cluster is that to its mean plus its variance.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [10.0], [11.0]])
    >>> scores(X, np.array([0, 0, 1, 1]))["calinski_harabasz"]
    200.0
    """
    n, d = X.shape
    flat = np.ascontiguousarray(labels, dtype=np.uint8)
    k = int(flat.max()) + 1
    counts = np.empty(k, np.int64)
    means, squares, lengths = np.empty((k, d)), np.empty(k), np.empty(k)
    columns = np.ascontiguousarray(X.T, dtype=np.float64)
    silhouette = separation(columns, flat, counts, means, squares, lengths) / n
    used = counts > 0
    k, counts, means = int(used.sum()), counts[used], means[used]
    center = counts @ means / n
    between = float(counts @ ((means - center) ** 2).sum(axis=1))
    within = float(squares.sum())
    total = between + within
    out = {
        "calinski_harabasz": math.nan,
        "davies_bouldin": math.nan,
        "silhouette": math.nan,
        "explained_variance": between / total if total > 0 else math.nan,
    }
    if 2 <= k < n:
        ratio = between / within * (n - k) / (k - 1) if within > 0 else 1.0
        out["calinski_harabasz"] = ratio
        out["davies_bouldin"] = _davies_bouldin(means, lengths[used] / counts)
        out["silhouette"] = silhouette
    return out


def _davies_bouldin(
    means: npt.NDArray[np.float64], radius: npt.NDArray[np.float64]
) -> float:
    apart = np.sqrt(((means[:, None] - means) ** 2).sum(axis=-1))
    if not radius.any() or not apart.any():
        return 0.0
    apart[apart == 0.0] = np.inf
    np.fill_diagonal(apart, np.inf)
    worst = ((radius[:, None] + radius) / apart).max(axis=1)
    return float(worst.mean())


def silhouettes(
    X: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """Silhouette of every row for Euclidean distances, exact, over all pairs.

    Parameters
    ----------
    X : (n, d) array
        Rows as they were clustered (scaled), finite.
    labels : (n,) array of int, 0 to 255
        Labels need not be consecutive.

    Returns
    -------
    (n,) array of float64
        (b - a) / max(a, b): a is the mean distance to the other rows of the cluster, b
        the least mean distance to another cluster; 0 for the only row of its cluster.
        All NaN unless there are 2 to n - 1 clusters.

    Notes
    -----
    As ``sklearn.metrics.silhouette_samples`` (Rousseeuw, J Comput Appl Math
    1987;20:53). Time grows with the square of n, memory does not. Distances below 1e-15
    of the data's range count as 0.

    Examples
    --------
    >>> import numpy as np
    >>> found = silhouettes(np.array([[0.0], [2.0], [10.0]]), np.array([0, 0, 1]))
    >>> found.round(6).tolist()
    [0.8, 0.75, 0.0]
    """
    used, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
    n, k = len(X), len(used)
    if not 2 <= k < n:
        return np.full(n, math.nan)
    order = np.argsort(own, kind="stable")
    columns = np.zeros((max(2, X.shape[1]), n))
    columns[: X.shape[1]] = np.asarray(X, dtype=np.float64)[order].T
    columns -= (columns.min(axis=1) / 2 + columns.max(axis=1) / 2)[:, None]
    columns = np.ldexp(columns, -int(np.frexp(np.abs(columns).max())[1]))
    sums = np.empty((k, n))
    starts = np.append(0, np.cumsum(counts))
    distance_sums(columns, starts.astype(np.int64), sums)
    own, row = own[order], np.arange(n)
    a = sums[own, row] / np.maximum(counts[own] - 1, 1)
    sums /= counts[:, None]
    sums[own, row] = np.inf
    found = _silhouette(a, sums.min(axis=0), 1e-15)
    out = np.empty(n)
    out[order] = np.where(counts[own] > 1, found, 0.0)
    return out


def simplified_silhouette(
    X: npt.NDArray[Any], labels: npt.NDArray[Any], centers: npt.NDArray[Any]
) -> float:
    """Mean silhouette with distances to centers in place of those to rows.

    Parameters
    ----------
    X : (n, d) array
        Rows as they were clustered (scaled).
    labels : (n,) array of int
        Row of `centers` that each row of X belongs to.
    centers : (k, d) array
        Cluster centers; one that is NaN is nobody's.

    Returns
    -------
    float
        Not the number of `silhouettes`, but cheap; NaN for one center.

    Notes
    -----
    Hruschka et al., Inf Sci 2006;176:1898.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [2.0], [10.0]])
    >>> round(simplified_silhouette(X, np.array([0, 0, 1]), [[1.0], [10.0]]), 4)
    0.925
    """
    rows, points = np.asarray(X, np.float64), np.asarray(centers, np.float64)
    a, b = np.empty(len(rows)), np.full(len(rows), np.inf)
    for j in np.flatnonzero(np.isfinite(points).all(axis=1)):
        apart = np.sqrt(((rows - points[j]) ** 2).sum(axis=1))
        own = labels == j
        a[own] = apart[own]
        apart[own] = np.inf
        np.minimum(b, apart, out=b)
    if np.isinf(b).any():
        return math.nan
    return float(_silhouette(a, b, 0.0).mean())


def _silhouette(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], zero: float
) -> npt.NDArray[np.float64]:
    most = np.maximum(a, b)
    return np.divide(b - a, most, out=np.zeros(len(a)), where=most > zero)

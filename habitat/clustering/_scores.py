"""Numbers that tell how well clusters are separated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.kernels.scores import separation

__all__ = ["scores"]


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

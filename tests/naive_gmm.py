"""Plain NumPy twins of habitat.kernels.gmm and an EM step; imports nothing from it."""

import numpy as np


def densities(X, base, means, factors, out):
    for j in range(len(base)):
        z = np.zeros_like(X)
        for f in range(len(X)):
            below = factors[j, f, :f] @ z[:f]
            z[f] = factors[j, f, f] * (X[f] - means[j, f]) + below
        out[j] = np.log(2) * (base[j] - (z**2).sum(axis=0))


def em_step(X, weight, first, last, base, means, factors, count, shift, square):
    X = X[:, first:last]
    w = weight[first:last] if weight.size else np.ones(X.shape[1])
    logs = np.empty((len(base), X.shape[1]))
    densities(X, base, means, factors, logs)
    top = logs.max(axis=0)
    total = top + np.log(np.exp(logs - top).sum(axis=0))
    r = np.exp(logs - total) * w
    t = X[None] - means[:, :, None]
    count[:] = r.sum(axis=1)
    shift[:] = (r[:, None] * t).sum(axis=2)
    square[:] = np.einsum("jn,jfn,jgn->jfg", r, t, t)
    return (w * total).sum()


def log_densities(X, weights, means, covariances):
    """log(w_j N_j(x)) of the rows of X, (n, k), by the textbook."""
    out = np.empty((len(X), len(weights)))
    for j, (w, mean, cov) in enumerate(zip(weights, means, covariances, strict=True)):
        t = X - mean
        distance = (t @ np.linalg.inv(cov) * t).sum(axis=1)
        out[:, j] = np.log(w) - 0.5 * np.log(np.linalg.det(2 * np.pi * cov))
        out[:, j] -= 0.5 * distance
    return out


def em(X, weights, means, covariances, covariance, reg, sample_weight=None):
    """Weights, means, covariances after one EM step, and the log-likelihood before."""
    w = np.ones(len(X)) if sample_weight is None else sample_weight
    d = X.shape[1]
    p = np.exp(log_densities(X, weights, means, covariances))
    r = w[:, None] * p / p.sum(axis=1, keepdims=True)
    count = r.sum(axis=0)
    centers = r.T @ X / count[:, None]
    t = X[:, None] - centers
    scatter = np.einsum("nj,njf,njg->jfg", r, t, t) / count[:, None, None]
    if covariance == "tied":
        scatter = np.stack([np.average(scatter, axis=0, weights=count)] * len(count))
    if covariance in ("diag", "spherical"):
        scatter = scatter * np.eye(d)
    if covariance == "spherical":
        scatter = np.stack([np.trace(s) / d * np.eye(d) for s in scatter])
    likelihood = (w * np.log(p.sum(axis=1))).sum()
    return count / count.sum(), centers, scatter + reg * np.eye(d), likelihood

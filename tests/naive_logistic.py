"""Plain twins of kernels.logistic: proximal gradient steps; nothing from habitat."""

import numpy as np


def _terms(Y, weight, eta, k, p):
    with_reference = np.vstack([np.zeros((int(len(eta) == 1), eta.shape[1])), eta])
    e = np.exp(with_reference - with_reference.max(axis=0))
    shares = (e / e.sum(axis=0))[-len(eta) :]
    p[:] = shares[k]
    log_sum = np.logaddexp.reduce(with_reference, axis=0)
    return float((weight * (log_sum - (Y * eta).sum(axis=0))).sum())


def _descend(X, curvature, left, l1, l2, b, tolerance):
    """Minimize sum v (z - a - x b)^2 / 2 + l1 |b| + l2 b^2 / 2 by gradients."""
    A = np.vstack([np.ones(X.shape[1]), X])
    target = left.copy()
    start, c = np.append(0.0, b), np.append(0.0, b)
    H = (A * curvature) @ A.T
    rate = 1.0 / (np.linalg.eigvalsh(H)[-1] + l2)
    pull, push = (
        np.append(0.0, np.full(len(b), l1)),
        np.append(0.0, np.full(len(b), l2)),
    )
    for _ in range(200_000):
        gradient = A @ target - H @ (c - start) - push * c
        new = c + rate * gradient
        new = np.sign(new) * np.maximum(np.abs(new) - rate * pull, 0.0)
        done = np.abs(new - c).max() < 1e-15
        c = new
        if done:
            break
    left -= curvature * (A.T @ (c - start))
    b[:] = c[1:]
    return float(c[0])


def logistic_path(X, Y, weight, strengths, ratio, tolerance, coefficients, intercepts):
    A = np.vstack([np.ones(X.shape[1]), X])
    rate = 2.0 / np.linalg.eigvalsh((A * weight) @ A.T)[-1]
    for s, strength in enumerate(strengths):
        c = np.zeros((len(Y), len(A)))
        l1, l2 = strength * ratio, strength * (1.0 - ratio)
        step = 1.0 / (1.0 / rate + l2)
        for _ in range(200_000):
            eta = c @ A
            p = np.empty_like(eta)
            for k in range(len(Y)):
                _terms(Y, weight, eta, k, p[k])
            gradient = ((Y - p) * weight) @ A.T
            gradient[:, 1:] -= l2 * c[:, 1:]
            new = c + step * gradient
            b = new[:, 1:]
            new[:, 1:] = np.sign(b) * np.maximum(np.abs(b) - step * l1, 0.0)
            done = np.abs(new - c).max() < 1e-14
            c = new
            if done:
                break
        coefficients[s], intercepts[s] = c[:, 1:], c[:, 0]
    return 0

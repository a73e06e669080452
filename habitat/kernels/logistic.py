"""Logistic regression with an elastic net, for a row of strengths."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.kernels._jit import jit

__all__ = ["logistic_path"]

_F64 = npt.NDArray[np.float64]


@jit
def _terms(
    Y: _F64,  # IN (K, n)
    weight: _F64,  # IN (n,)
    eta: _F64,  # IN (K, n)
    k: int,
    p: _F64,  # OUT (n,) probability of class k
) -> float:
    """Fill in the probabilities of one class; return the weighted log loss."""
    K, n = eta.shape
    loss = 0.0
    for i in range(n):
        top = 0.0 if K == 1 else -np.inf  # one logit stands against a zero
        for j in range(K):
            top = max(top, eta[j, i])
        total = np.exp(-top) if K == 1 else 0.0
        own = 0.0
        for j in range(K):
            total += np.exp(eta[j, i] - top)
            own += Y[j, i] * eta[j, i]
        p[i] = np.exp(eta[k, i] - top) / total
        loss += weight[i] * (top + np.log(total) - own)
    return loss


@jit
def _descend(
    X: _F64,  # IN (p, n)
    curvature: _F64,  # IN (n,)
    left: _F64,  # IN OUT (n,) gradient of each row
    l1: float,
    l2: float,
    b: _F64,  # IN OUT (p,)
    tolerance: float,
) -> float:
    """Minimize the quadratic model of one logit by coordinates; return the shift."""
    p, n = X.shape
    square = np.zeros(p)
    for j in range(p):
        for i in range(n):
            square[j] += curvature[i] * X[j, i] ** 2
    total = curvature.sum()
    shift = 0.0
    full = True  # all columns, then only those that are in, then all again
    for _ in range(10_000):
        step = left.sum() / total
        shift += step
        for i in range(n):
            left[i] -= curvature[i] * step
        change = total * step**2
        for j in range(p):
            if (not full and b[j] == 0.0) or square[j] == 0.0:
                continue
            gradient = 0.0
            for i in range(n):
                gradient += X[j, i] * left[i]
            aim = gradient + square[j] * b[j]
            new = np.sign(aim) * max(abs(aim) - l1, 0.0) / (square[j] + l2)
            step = new - b[j]
            if step != 0.0:
                b[j] = new
                change = max(change, square[j] * step**2)
                for i in range(n):
                    left[i] -= curvature[i] * X[j, i] * step
        if change < tolerance:
            if full:
                break
            full = True
        else:
            full = False
    return shift


@jit
def logistic_path(
    X: _F64,  # IN (p, n) features in rows
    Y: _F64,  # IN (K, n) indicators of the classes; K = 1: of the second of two
    weight: _F64,  # IN (n,) sum 1
    strengths: _F64,  # IN (s,) falling
    ratio: float,  # share of the absolute values in the penalty
    tolerance: float,  # of the squared change of the logits
    coefficients: _F64,  # OUT (s, K, p)
    intercepts: _F64,  # OUT (s, K)
) -> int:
    """Minimize sum_i w_i loss_i + strength (ratio |b|_1 + (1 - ratio) / 2 |b|^2).

    One logit after the other is replaced by its quadratic model and that is minimized
    by coordinates (Friedman, Hastie and Tibshirani, J Stat Softw 2010;33:1, sections
    2.5 and 3); each strength starts where the one before ended. A step that does not
    lower the objective is done again with the largest curvature there can be, which
    always does. Returns the number of rounds.
    """
    K, n = Y.shape
    p = X.shape[0]
    B, b0, eta = np.zeros((K, p)), np.zeros(K), np.zeros((K, n))
    share, curvature, left, trial = np.empty(n), np.empty(n), np.empty(n), np.empty(p)
    row = np.empty(n)
    rounds = 0
    for s in range(strengths.size):
        l1 = strengths[s] * ratio
        l2 = strengths[s] * (1.0 - ratio)
        for _ in range(1000):
            rounds += 1
            change = 0.0
            for k in range(K):
                before = _terms(Y, weight, eta, k, share)
                before += l1 * np.abs(B[k]).sum() + l2 / 2.0 * (B[k] ** 2).sum()
                row[:] = eta[k]
                for attempt in range(2):
                    for i in range(n):
                        v = share[i] * (1.0 - share[i])
                        v = 0.25 if attempt else max(v, 1e-5)
                        curvature[i] = weight[i] * v
                        left[i] = weight[i] * (Y[k, i] - share[i])
                    trial[:] = B[k]
                    shift = _descend(X, curvature, left, l1, l2, trial, tolerance / 10)
                    eta[k] = row + shift
                    for j in range(p):
                        step = trial[j] - B[k, j]
                        if step != 0.0:
                            for i in range(n):
                                eta[k, i] += X[j, i] * step
                    if attempt:
                        break
                    after = _terms(Y, weight, eta, k, left)
                    after += l1 * np.abs(trial).sum() + l2 / 2.0 * (trial**2).sum()
                    if after <= before + 1e-12 * abs(before):
                        break
                B[k] = trial
                b0[k] += shift
                moved = 0.0
                for i in range(n):
                    moved += weight[i] * (eta[k, i] - row[i]) ** 2
                change = max(change, moved)
            if change < tolerance:
                break
        coefficients[s] = B
        intercepts[s] = b0
    return rounds

"""Plain twins of habitat.kernels.ivim: one voxel at a time, in matrix form."""

import numpy as np


def ivim_segmented(S, b, weight, first, bounds, joint, out):
    for v, row in enumerate(S):
        out[v] = np.nan
        with np.errstate(divide="ignore", invalid="ignore"):
            y = row / row[0]
        use = (np.arange(b.size) >= first) & (y > 0) & (row[0] > 0)
        if use.sum() < 2:
            continue
        w, x, z = weight[use] * y[use] ** 2, b[use], np.log(y[use])
        middle = np.average(x, weights=w)
        slope = (w * (x - middle) * z).sum() / (w * (x - middle) ** 2).sum()
        d = np.clip(-slope, *bounds[0])
        f = np.clip(1 - np.exp(np.average(z + d * x, weights=w)), *bounds[1])
        out[v, :3] = row[0], d, f
        if f > 0:
            out[v, 3] = _search(y, b, weight, d, f, bounds[2], joint)


def _search(y, b, weight, d, f, bounds, joint):
    tissue = np.exp(-b * d)

    def misfit(rate):
        blood = np.exp(-b * np.reshape(rate, (-1, 1))) * (tissue if joint else 1)
        return (weight * (y - f * blood - (1 - f) * tissue) ** 2).sum(axis=1)

    rates = np.geomspace(*bounds, 33)
    for _ in range(6):  # ever finer grids around the least
        at = np.argmin(misfit(rates))
        rates = np.geomspace(rates[max(at - 1, 0)], rates[min(at + 1, 32)], 33)
    return rates[np.argmin(misfit(rates))]


def _model(p, b, joint):
    """Signal, first (m, 4) and second (m, 4, 4) derivatives by S0, D, f, D*."""
    s, d, f, rate = p
    tissue, blood = np.exp(-b * d), np.exp(-b * rate)
    blood = blood * tissue if joint else blood
    shape = f * blood + (1 - f) * tissue
    falls = shape if joint else (1 - f) * tissue
    zero = np.zeros_like(b)
    first = [shape, -b * s * falls, s * (blood - tissue), -b * s * f * blood]
    df = -b * s * ((blood if joint else 0) - tissue)
    drate = s * b**2 * f * blood * joint
    second = [
        [zero, -b * falls, blood - tissue, -b * f * blood],
        [-b * falls, s * b**2 * falls, df, drate],
        [blood - tissue, df, zero, -s * b * blood],
        [-b * f * blood, drate, -s * b * blood, s * b**2 * f * blood],
    ]
    return s * shape, np.array(first).T, np.moveaxis(np.array(second), 2, 0)


def _descend(b, weight, y, joint, low, high, most, p):
    def state(p):
        signal, J, second = _model(p, b, joint)
        r = weight * (y - signal)
        A = J.T @ (weight[:, None] * J)
        H = A - np.tensordot(r, second, 1)
        return (r * (y - signal)).sum(), H, np.diag(A), J.T @ r

    cost, H, scale, g = state(p)
    damping = 1e-3
    for _ in range(most):
        free = (scale > 0) & ~((p <= low) & (g < 0)) & ~((p >= high) & (g > 0))
        while damping < 1e12:
            M = (H + damping * np.diag(scale))[np.ix_(free, free)]
            if free.any() and np.linalg.eigvalsh(M / _outer(M)).min() <= 1e-14:
                damping *= 10
                continue
            step = np.zeros(4)
            step[free] = np.linalg.solve(M, g[free])
            q = np.clip(p + step, low, high)
            size = abs(p) + np.array([1e-12, 1e-9, 1e-3, 1e-9])
            if (abs(q - p) / size).max() < 1e-9:
                return p, cost, True
            trial = state(q)
            if trial[0] < cost:
                break
            damping *= 10
        else:
            return p, cost, True
        p, (cost, H, scale, g) = q, trial
        damping = max(damping * 0.1, 1e-12)
    return p, cost, False


def _outer(M):
    """Scale of the elements of a matrix, so that its units do not matter."""
    size = np.sqrt(abs(np.diag(M)) + 1e-300)
    return np.outer(size, size)


def _scan(y, b, weight, low, high, joint):
    """Best of 12 x 12 values of D and D*, with the best S0 and f."""
    best = (-1.0, None)
    for d in np.linspace(low[1], high[1], 12):
        for rate in np.geomspace(low[3], high[3], 12):
            tissue = np.exp(-b * d)
            blood = np.exp(-b * rate) * (tissue if joint else 1)
            X = np.column_stack([blood, tissue])
            G, c = X.T @ (weight[:, None] * X), X.T @ (weight * y)
            shares = [low[2], high[2]]
            if np.linalg.det(G) > 1e-12 * G[0, 0] * G[1, 1]:
                one, two = np.linalg.solve(G, c)
                if one + two > 0 and low[2] <= one / (one + two) <= high[2]:
                    shares = [one / (one + two)]
            for f in shares:
                mix = np.array([f, 1 - f])
                product, norm = mix @ c, mix @ G @ mix
                if product * abs(product) / norm > best[0]:
                    start = np.array([product / norm, d, f, rate])
                    best = (product * abs(product) / norm, start)
    return best[1]


def ivim_full(S, b, weight, bounds, joint, most, out):
    low = np.array([0, *bounds[:, 0]])
    high = np.array([np.inf, *bounds[:, 1]])
    unfinished = 0
    for v, row in enumerate(S):
        s0, d, f, rate = out[v]
        if not s0 > 0:
            continue
        y = row / s0
        if not f > 0:
            rate = np.sqrt(low[3] * high[3])
        args = b, weight, y, joint, low, high, most
        start = np.array([1, d, f, rate])
        p, cost, done = _descend(*args, start)
        other = _scan(y, b, weight, low, high, joint)
        q, less, reached = _descend(*args, p if other is None else other)
        if less < cost * (1 - 1e-9):
            p, done = q, reached
        unfinished += not done
        out[v] = p * [s0, 1, 1, 1]
        if not p[2] > 0:
            out[v, 3] = np.nan
    return unfinished

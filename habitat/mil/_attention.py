"""Gated attention (Ilse 2018) with analytic gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from habitat._check import integer
from habitat.mil._bags import Instances
from habitat.mil._heads import Scale
from habitat.selection._linear import class_weights, softmax

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]


def shapes(p: int, hidden: int, units: int, outputs: int) -> list[tuple[int, ...]]:
    """Shapes of the parameters: W, b; V, U, w; c, d."""
    return [
        *((p, hidden), (hidden,)),
        *((hidden, units), (hidden, units), (units,)),
        *((hidden, outputs), (outputs,)),
    ]


def split(theta: _F64, sizes: list[tuple[int, ...]]) -> list[_F64]:
    """Views of the parameters."""
    ends = np.cumsum([np.prod(size, dtype=int) for size in sizes])
    parts = np.split(theta, ends[:-1])
    return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]


def forward(bags: Instances, parameters: list[_F64]) -> tuple[_F64, _F64, Any]:
    """Scores of bags (n_bags, outputs), attention of instances, what gradients need."""
    W, b, V, U, w, c, d = parameters
    H = np.tanh(bags.X @ W + b)
    T, G = np.tanh(H @ V), expit(H @ U)
    s = (T * G) @ w
    e = np.exp(s - bags.maxima(s)[bags.bag])
    a = e / bags.sums(e)[bags.bag]
    z = bags.sums(a[:, None] * H)
    return z @ c + d, a, (H, T, G, z)


def objective(
    theta: _F64,
    sizes: list[tuple[int, ...]],
    bags: Instances,
    Y: _F64,
    weight: _F64,
    C: float,
) -> tuple[float, _F64]:
    """Penalized loss and its gradient.

    Parameters
    ----------
    theta : (m,) array
        All parameters.
    sizes : list of tuple
        Their `shapes`.
    bags : Instances
        With scaled features.
    Y : (n_bags, K) array
        Indicators of the classes.
    weight : (n_bags,) array
        Weights of the bags.
    C : float
        Inverse strength of the penalty on all but the intercepts.
    """
    parameters = split(theta, sizes)
    _, _, V, U, w, c, _ = parameters
    S, a, (H, T, G, z) = forward(bags, parameters)
    P = softmax(S[:, 0] if S.shape[1] == 1 else S)
    loss = -weight @ np.log(np.maximum((P * Y).sum(axis=1), 1e-300))
    dS = (weight[:, None] * (P - Y))[:, -S.shape[1] :]
    dz = (dS @ c.T)[bags.bag]
    da = (H * dz).sum(axis=1)
    ds = a * (da - bags.sums(a * da)[bags.bag])
    dT = ds[:, None] * w * G * (1.0 - T**2)
    dG = ds[:, None] * w * T * G * (1.0 - G)
    dH = a[:, None] * dz + dT @ V.T + dG @ U.T
    dA = dH * (1.0 - H**2)
    gradients = [
        *(bags.X.T @ dA, dA.sum(axis=0)),
        *(H.T @ dT, H.T @ dG, (T * G).T @ ds),
        *(z.T @ dS, dS.sum(axis=0)),
    ]
    for i in (0, 2, 3, 4, 5):
        loss += (parameters[i] ** 2).sum() / (2.0 * C)
        gradients[i] = gradients[i] + parameters[i] / C
    return float(loss), np.concatenate([g.ravel() for g in gradients])


def _start(sizes: list[tuple[int, ...]], rng: np.random.Generator) -> _F64:
    """Random parameters, intercepts 0."""
    parts = [rng.normal(size=size) for size in sizes]
    for i in (1, 6):
        parts[i][...] = 0.0
    for i in (2, 3, 4, 5):  # but scaled rows have length 1
        parts[i] /= np.sqrt(sizes[i][0])
    return np.concatenate([part.ravel() for part in parts])


@dataclass(frozen=True, eq=False)
class Attention:
    """The mean of several small networks.

    The score of an instance is its attention weight (they sum to 1 in each bag): which
    instance the bag's score rests on, not for which class it speaks.
    """

    scale: Scale
    nets: _F64  # (seeds, m)
    hidden: int
    units: int
    outputs: int
    margins = False

    def _all(self, bags: Instances) -> tuple[_F64, _F64]:
        scaled = bags._replace(X=self.scale.of(bags.X))
        sizes = shapes(bags.X.shape[1], self.hidden, self.units, self.outputs)
        found = [forward(scaled, split(net, sizes))[:2] for net in self.nets]
        S, a = (np.mean(part, axis=0) for part in zip(*found, strict=True))
        return (S[:, 0] if self.outputs == 1 else S), a

    def scores(self, bags: Instances) -> _F64:
        """Score of each bag."""
        return self._all(bags)[0]

    def instances(self, bags: Instances) -> _F64:
        """Attention weight of each instance."""
        return self._all(bags)[1]


def fit_attention(
    bags: Instances,
    codes: _Ints,
    *,
    C: float,
    class_weight: Any,
    seed: int,
    hidden: int,
    units: int,
    seeds: int,
    max_iter: int,
) -> Attention:
    """Fit one network for each seed."""
    hidden = integer("hidden", hidden, 1, 1024)
    units = integer("units", units, 1, 1024)
    max_iter = integer("max_iter", max_iter, 1, 100_000)
    scale = Scale.fit(bags.X)
    scaled = bags._replace(X=scale.of(bags.X))
    Y = np.eye(int(codes.max()) + 1)[codes]
    outputs = 1 if Y.shape[1] == 2 else Y.shape[1]
    sizes = shapes(bags.X.shape[1], hidden, units, outputs)
    arguments = (sizes, scaled, Y, class_weights(codes, class_weight), C)
    nets = []
    for i in range(integer("seeds", seeds, 1, 1000)):
        theta = _start(sizes, np.random.default_rng([seed, i]))
        options = {"maxiter": max_iter}
        nets.append(
            minimize(
                objective, theta, arguments, "L-BFGS-B", jac=True, options=options
            ).x
        )
    return Attention(scale, np.array(nets), hidden, units, outputs)

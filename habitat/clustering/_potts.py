"""A spatial prior: neighbors rather belong to one habitat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, keep
from habitat.errors import ConfigError, InputError
from habitat.kernels.potts import icm_sweep

__all__ = ["Potts", "neighborhood", "smooth"]

_UNIT = 2.0**30  # of whole costs: what differs by less than 1e-9 is equal
_MOST = 10.0
_I64 = npt.NDArray[np.int64]
_U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Potts:
    """Options of the Potts prior: what two neighbors in two habitats cost.

    Parameters
    ----------
    beta : float, 0 to 10
        Cost of a pair of nearest neighbors with two labels, in units of log-density; 0
        for none. Useful are 0.5 to 2 with 6 neighbors and 0.2 to 1 with 26.
    neighbors : {6, 26}
        Voxels that share a face, or also those that share an edge or a corner. A pair
        at distance d costs beta times the smallest voxel spacing over d: on cubic
        voxels 26 neighbors smooth three times as much as 6.

    Notes
    -----
    On `habitat.phantom` any beta in these ranges brings K-means and mixtures nearer to
    the truth, more so at twice the noise. From 2 on with 26 neighbors on the PET grid
    a habitat of a mixture may vanish.

    Examples
    --------
    >>> Potts(0.5)
    Potts(beta=0.5, neighbors=6)
    """

    beta: float
    neighbors: int = 6

    def __post_init__(self) -> None:
        if at_least("beta", self.beta, 0.0) > _MOST:
            raise ConfigError(f"must be 0 to {_MOST:g}, got {self.beta!r}", "`beta`")
        if self.neighbors not in (6, 26):
            raise ConfigError(f"must be 6 or 26, got {self.neighbors!r}", "`neighbors`")
        keep(self, beta=float(self.beta), neighbors=int(self.neighbors))


def smooth(
    costs: npt.NDArray[np.float64],
    index: npt.NDArray[Any],
    spacing: npt.ArrayLike,
    labels: npt.NDArray[Any],
    potts: Potts,
) -> tuple[_U8, float, int]:
    """Lower costs plus Potts prior, one voxel at a time, until no switch lowers it.

    Parameters
    ----------
    costs : (n, k) array
        Minus the log-density of each voxel in each habitat; infinite for a habitat that
        a voxel cannot have.
    index : (n, 3) array of int, zyx
        Where the voxels are on their grid; no two are in one place.
    spacing : 3 numbers, mm, zyx
        Voxel size.
    labels : (n,) array of int
        Where to start, 0..k-1.
    potts : Potts
        Strength and neighbors.

    Returns
    -------
    labels : (n,) array of uint8
        A local minimum; with beta 0 the label of least cost.
    objective : float
        ``sum_i costs[i, labels[i]] + beta sum_{pairs i, j} w_ij [labels differ]``.
    n_iter : int
        Sweeps over the voxels.

    Raises
    ------
    InputError
        If a voxel has NaN or no finite cost.

    Notes
    -----
    Iterated conditional modes (Besag, J R Stat Soc B 1986;48:259). All voxels switch
    at a time but for conflicts, see `kernels.potts.icm_sweep`; costs are rounded to
    1e-9. So the result does not depend on the order of the voxels nor on the
    orientation of the grid, and the objective falls with each sweep.

    Examples
    --------
    >>> import numpy as np
    >>> costs = np.array([[0.0, 1.0], [0.2, 0.0], [0.0, 1.0]])
    >>> index = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]])
    >>> smooth(costs, index, (1, 1, 1), np.array([0, 1, 0]), Potts(0.5))
    (array([0, 0, 0], dtype=uint8), 0.2, 1)
    """
    lowest = np.ascontiguousarray(costs.T).min(axis=0)  # faster than along the rows
    if not np.isfinite(lowest).all():
        bad = int((~np.isfinite(lowest)).sum())
        raise InputError(f"{bad} voxels have NaN or no finite cost", "`costs`")
    where, place, steps, offsets = neighborhood(index, potts.neighbors)
    near = _weights(offsets, spacing)
    weights = np.rint(potts.beta * near * _UNIT).astype(np.int64)
    most = int(weights.sum()) + 1  # above the lowest cost by this: never chosen
    above = np.minimum(costs - lowest[:, None], most / _UNIT) * _UNIT
    whole = np.rint(above).astype(np.int64)
    n = len(costs)
    volume = np.full(where.size, 255, np.uint8)
    volume[place] = labels
    stale, wish = np.ones(n, np.uint8), np.empty(n, np.uint8)
    gain = np.empty(n, np.int64)
    n_iter = 0
    while icm_sweep(whole, where, place, steps, weights, volume, stale, wish, gain):
        n_iter += 1
    out = volume[place]
    half = len(steps) // 2  # each pair once
    unlike = [_differ(volume, place, step) for step in steps[:half]]
    pairs = math.fsum(near[:half] * unlike)  # exact: the order does not matter
    own = math.fsum(costs[np.arange(n), out].tolist())
    return out, own + potts.beta * pairs, n_iter


def neighborhood(
    index: npt.NDArray[Any], neighbors: int
) -> tuple[npt.NDArray[np.int32], _I64, _I64, _I64]:
    """Return the table that finds the neighbors of voxels.

    Parameters
    ----------
    index : (n, 3) array of int, zyx
        Places of the voxels.
    neighbors : {6, 26}
        Which voxels are neighbors.

    Returns
    -------
    where : (places,) array of int32
        Voxel at each place of the box around all voxels and a border of 1, flat, -1 for
        none.
    place : (n,) array of int64
        Place of each voxel.
    steps : (neighbors,) array of int64
        ``where[place[i] + steps[s]]`` is neighbor s of voxel i. The second half are the
        steps back, in reverse order.
    offsets : (neighbors, 3) array of int64, zyx
        The same steps along the axes.

    Examples
    --------
    >>> where, place, steps, offsets = neighborhood(np.array([[7, 7, 7], [8, 7, 7]]), 6)
    >>> where[place[0] + steps].tolist()
    [-1, -1, -1, -1, -1, 1]
    """
    columns = np.ascontiguousarray(index.T, dtype=np.int64)
    z, y, x = columns - columns.min(axis=1, keepdims=True) + 1
    deep, high, wide = (int(c.max()) + 2 for c in (z, y, x))
    place = (z * high + y) * wide + x
    where = np.full(deep * high * wide, -1, np.int32)
    where[place] = np.arange(len(place), dtype=np.int32)
    cube = np.indices((3, 3, 3)).reshape(3, 27).T - 1
    apart = np.abs(cube).sum(axis=1)
    offsets = cube[(apart > 0) & (apart <= (1 if neighbors == 6 else 3))]
    return where, place, offsets @ np.array([high * wide, wide, 1]), offsets


def _weights(offsets: _I64, spacing: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Smallest spacing over the distance, the same bits for any order of the axes."""
    size = np.asarray(spacing, dtype=np.float64)
    squares = np.sort((offsets * size) ** 2, axis=1)
    near: npt.NDArray[np.float64] = size.min() / np.sqrt(squares.sum(axis=1))
    return near


def _differ(volume: _U8, place: _I64, step: np.int64) -> int:
    """How many voxels have another label than the neighbor one step away."""
    other = volume[place + step]
    return int(np.count_nonzero((other != volume[place]) & (other != 255)))

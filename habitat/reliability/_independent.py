"""How many independent voxels a map is worth, by its own autocorrelation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from habitat.geometry import Floats


class Lags:
    """All pairs of voxels of a region, by the step from one to the other.

    Parameters
    ----------
    inside : array of bool, shape (z, y, x)
        The region.
    spacing : sequence of float, mm
        Voxel size along (z, y, x).
    """

    def __init__(
        self, inside: npt.NDArray[np.bool_], spacing: tuple[float, float, float]
    ) -> None:
        self.inside = inside
        most = [n // 2 for n in inside.shape]  # beyond, few pairs are left
        self._shape = [
            fft.next_fast_len(n + m, real=True)
            for n, m in zip(inside.shape, most, strict=True)
        ]
        pairs = np.rint(self._products(inside))
        steps = [np.fft.fftfreq(n, 1 / n) for n in self._shape]
        lags = np.meshgrid(*steps, indexing="ij", sparse=True)
        mm2: Any = sum((h * s) ** 2 for h, s in zip(lags, spacing, strict=True))
        shell = np.rint(np.sqrt(mm2) / min(spacing)).astype(np.intp)
        use = pairs > 0
        for lag, last in zip(lags, most, strict=True):
            use = use & (np.abs(lag) <= last)
        self._use = np.flatnonzero(use)
        self._pairs, self._shell = pairs.ravel()[self._use], shell.ravel()[self._use]

    def _products(self, field: npt.NDArray[Any]) -> Floats:
        """Sum of ``field[x] field[x + h]`` over x, for each step h."""
        spectrum = fft.rfftn(field.astype(np.float64), self._shape)
        power = spectrum.real**2 + spectrum.imag**2
        return np.asarray(fft.irfftn(power, self._shape), dtype=np.float64)

    def independent(self, values: Floats) -> float:
        """Return how many independent values those of the region's voxels are worth.

        Parameters
        ----------
        values : array of shape (n,)
            One of each voxel inside, in the order of ``field[inside]``.

        Returns
        -------
        float
            1 to n; n if all values are equal.

        Notes
        -----
        n^2 / sum of squared autocorrelations over all pairs of voxels: a variance of
        them has the scatter of one of so many independent values (Bayley & Hammersley,
        J R Stat Soc Suppl 1946;8:184; the same number of a correlation: Clifford et
        al., Biometrics 1989;45:123). The autocorrelation of each step is the mean over
        the pairs it has in the region; steps count up to the distance at which its mean
        over all directions first is 0 or less, at most half the region along each axis.
        """
        n, variance = len(values), float(values.var())
        if variance == 0:
            return float(n)
        field = np.zeros(self.inside.shape)
        field[self.inside] = (values - values.mean()) / np.sqrt(variance)
        products = self._products(field).ravel()[self._use]
        below = np.flatnonzero(np.bincount(self._shell, products) < 0)
        near = self._shell < (below[0] if below.size else self._shell.max() + 1)
        squares = float((products[near] ** 2 / self._pairs[near]).sum())
        return float(np.clip(n**2 / squares, 1, n))

"""Habitats that know nothing of the images: a control for every claim about habitats.

A smooth Gaussian random field on the tumor is cut at its quantiles. What is left of the
true map is how large its patches are; where they lie and which tissue they hold is
chance, and all patients have the same shares (METHODS 8.9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft, optimize
from scipy.special import ndtri

from habitat.geometry import Floats, bounding_box

Labels: TypeAlias = npt.NDArray[np.uint8]

_MOST = 500_000  # voxels of a box whose pairs are counted
_WAVES = 400  # that add up to the field
_TERMS = 400  # of the series of Hermite polynomials
_E_FOLD = math.exp(-1.0)
_WIDEST = (
    4.0  # diameters of the tumor: beyond, the field is a plane wherever it is seen
)


class Surrogates:
    """Random divisions of a tumor into patches as large as those of its own habitats.

    Parameters
    ----------
    labels : uint8 array of shape (z, y, x)
        Habitats of the tumor, 0 outside. Only its extent and the correlation length of
        the map are used.
    spacing : sequence of float, mm
        Voxel size (z, y, x).
    shares : array-like of shape (k,)
        Share of the tumor that each habitat gets, to within one voxel: the mean over
        the training cases.

    Notes
    -----
    The field is a sum of 400 plane waves of random direction, phase and length, with
    correlation ``exp(-r^2 / 4 s^2)`` at a distance of r mm. The width s is such that
    the map that is cut from it has the correlation length of the true one: the chance
    that two points of correlation rho lie in one band is a series in rho (Hermite
    polynomials), and rho is corrected for the mean of the field within the tumor, which
    cutting at the tumor's own quantiles takes out. A map that is smoother than any such
    field becomes bands across the tumor, the smoothest division there is.

    Bands are numbered from low to high in every patient: as in true maps, which are
    ordered by uptake, neighbors in number are neighbors in space. A random order in
    each patient would be noise in every column, and a control that is easier to beat.

    Examples
    --------
    >>> labels = np.ones((9, 9, 9), np.uint8)
    >>> labels[4:] = 2
    >>> made = Surrogates(labels, (1, 1, 1), (0.25, 0.75))
    >>> np.bincount(made.draw(np.random.default_rng(0)).ravel())
    array([  0, 182, 547])
    """

    def __init__(
        self, labels: Labels, spacing: Sequence[float], shares: npt.ArrayLike
    ) -> None:
        share = np.asarray(shares, np.float64)
        self._shape, self._spacing = labels.shape, spacing
        self._box = bounding_box(labels > 0)
        self._inside = labels[self._box] > 0
        n = np.count_nonzero(self._inside)
        ends = np.rint(np.cumsum(share) / share.sum() * n).astype(np.intp)
        self._sizes = np.diff(ends, prepend=0)
        length = correlation_mm(labels, spacing)
        self._width = _width(self._inside, spacing, self._sizes / n, length)

    def draw(self, rng: np.random.Generator) -> Labels:
        """Make one division.

        Parameters
        ----------
        rng : numpy.random.Generator
            Where chance comes from.

        Returns
        -------
        uint8 array of shape (z, y, x)
            Habitats 1..k, 0 outside.
        """
        field = _field(self._inside.shape, self._spacing, self._width, rng)
        values = field[self._inside]
        found = np.empty(values.size, np.uint8)
        bands = np.repeat(np.arange(1, len(self._sizes) + 1), self._sizes)
        found[np.argsort(values, kind="stable")] = bands
        out = np.zeros(self._shape, np.uint8)
        out[self._box][self._inside] = found
        return out


def correlation_mm(labels: Labels, spacing: Sequence[float]) -> float:
    """Distance at which a map has lost its memory.

    Parameters
    ----------
    labels : uint8 array of shape (z, y, x)
        Habitats, 0 outside.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    float, mm
        Where the chance that two voxels of the tumor lie in the same habitat, corrected
        for that of any two of its voxels, ``(P(r) - P) / (1 - P)``, falls to 1/e; all
        directions together. Infinite if it does not: one habitat.

    Examples
    --------
    >>> labels = np.ones((1, 1, 40), np.uint8)
    >>> labels[..., 20:] = 2
    >>> round(correlation_mm(labels, (1, 1, 1)), 1)
    9.6
    """
    part, spacing = _thinned(labels[bounding_box(labels > 0)], spacing)
    n = np.bincount(part.ravel())[1:]
    n = n[n > 0]
    chance = float((n.astype(np.float64) ** 2).sum()) / float(n.sum()) ** 2
    if len(n) < 2:
        return np.inf
    distance, every, same = _pairs(part, spacing)
    memory = (same / every - chance) / (1 - chance)
    below = np.flatnonzero(memory <= _E_FOLD)
    if not below.size:
        return np.inf
    i = int(below[0])
    before = (0.0, 1.0) if i == 0 else (float(distance[i - 1]), float(memory[i - 1]))
    step = (before[1] - _E_FOLD) / (before[1] - float(memory[i]))
    return float(before[0] + step * (float(distance[i]) - before[0]))


def _thinned(part: Labels, spacing: Sequence[float]) -> tuple[Labels, list[float]]:
    """Every second, third, ... voxel of a large box: its patches are large, too."""
    step = math.ceil((part.size / _MOST) ** (1 / 3))
    return part[::step, ::step, ::step], [step * s for s in spacing]


def _pairs(part: Labels, spacing: Sequence[float]) -> tuple[Floats, Floats, Floats]:
    """Mean distance, number of pairs, and of those in one habitat, by distance."""
    size = [fft.next_fast_len(2 * n - 1, real=True) for n in part.shape]
    power = np.zeros(1)
    for habitat in np.unique(part[part > 0]):
        power = power + np.abs(fft.rfftn(part == habitat, size)) ** 2
    whole = np.abs(fft.rfftn(part > 0, size)) ** 2
    lag = _lags(size, spacing)
    ring = np.rint(lag / min(spacing)).astype(np.intp).ravel()
    every, same = (
        np.rint(fft.irfftn(spectrum, size)).ravel() for spectrum in (whole, power)
    )
    columns = (every * lag.ravel(), every, same)
    total, n, together = (np.bincount(ring, one).astype(float) for one in columns)
    there = n > 0
    there[0] = False  # a voxel and itself
    return total[there] / n[there], n[there], together[there]


def _lags(size: Sequence[int], spacing: Sequence[float]) -> Floats:
    """Length in mm of each lag of a periodic grid."""
    axes = [fft.fftfreq(n, 1 / n) * s for n, s in zip(size, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    out: Floats = np.sqrt(z**2 + y**2 + x**2)
    return out


def _width(
    inside: npt.NDArray[np.bool_],
    spacing: Sequence[float],
    shares: Floats,
    length: float,
) -> float:
    """Width s in mm of the field whose bands have a correlation length."""
    extent = float(np.linalg.norm(np.multiply(inside.shape, spacing)))
    widest = _WIDEST * extent
    part, sizes = _thinned(inside.astype(np.uint8), spacing)
    distance, n, _ = _pairs(part, sizes)
    alone = max(float(part.sum(dtype=np.int64)), 1.0)
    goal = _field_correlation(shares)

    def beyond(width: float) -> float:
        rho = np.exp(-((distance / (2 * width)) ** 2))
        mean = (alone + float(n @ rho)) / (alone + float(n.sum()))
        at = np.exp(-((length / (2 * width)) ** 2))
        return float((at - mean) / (1 - mean)) - goal

    if not np.isfinite(length) or beyond(widest) <= 0:
        return widest
    narrow = 0.1 * min(spacing)
    if beyond(narrow) >= 0:
        return narrow
    return float(optimize.brentq(beyond, narrow, widest, xtol=1e-3 * narrow))


def _field_correlation(shares: Floats) -> float:
    """Correlation of a field at which the memory of its bands is 1/e."""
    p = shares[shares > 0]
    if len(p) < 2:
        return 0.5  # nothing is cut
    ends = ndtri(np.clip(np.cumsum(p)[:-1], 1e-12, 1 - 1e-12))
    # coefficients of each band: He_{n-1}(a) phi(a) - He_{n-1}(b) phi(b), over sqrt(n!)
    phi = np.exp(-(ends**2) / 2) / np.sqrt(2 * np.pi)
    before, now = np.zeros_like(ends), phi  # He / sqrt(n!), scaled
    weight = np.empty(_TERMS)
    for order in range(1, _TERMS + 1):
        edges = np.concatenate([[0.0], now / np.sqrt(order), [0.0]])
        weight[order - 1] = float((np.diff(edges) ** 2).sum())
        before, now = now, (ends * now - np.sqrt(order - 1) * before) / np.sqrt(order)
    goal = _E_FOLD * (1 - float((p**2).sum()))
    powers = np.arange(1, _TERMS + 1)
    return float(
        optimize.brentq(lambda rho: float(weight @ rho**powers) - goal, 1e-9, 1 - 1e-9)
    )


def _field(
    shape: Sequence[int],
    spacing: Sequence[float],
    width: float,
    rng: np.random.Generator,
) -> Floats:
    """Gaussian random field of correlation ``exp(-r^2 / 4 width^2)``."""
    waves = rng.standard_normal((3, _WAVES)) / (np.sqrt(2) * width)
    phase = np.exp(2j * np.pi * rng.random(_WAVES))
    z, y, x = (
        np.exp(1j * np.outer(np.arange(n) * s, wave))
        for n, s, wave in zip(shape, spacing, waves, strict=True)
    )
    # slice by slice: all of it at once would hold 400 times the box
    rows = np.concatenate([(((one * phase) * y) @ x.T).real for one in z])
    return rows.reshape(tuple(shape))

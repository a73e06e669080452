"""How values and habitats lie in space: autocorrelation, mixing at a distance, depth.

Moran's I (IBSI N365) and Geary's C (NPT7) weight all pairs of voxels, and the pair
correlation counts them. All are sums over pairs of a weight that depends on the lag
only, so each is a product of Fourier spectra; nothing is sampled. The edge correction
divides by the pairs that the tumor itself has at that distance (Ohser, Math
Operationsforsch Stat 1983;14:63), which is exact for any shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from habitat.features._composition import Labels, Spacing, centroids, counts
from habitat.geometry import Floats, bounding_box

Pairs: TypeAlias = Sequence[tuple[int, int]]

DISTANCES_MM = (2, 5, 10)  # of the pair correlation
RING_MM = 1.0  # least half width of its rings
RIM_MM = 3.0  # the rim is what lies within 3 mm of the surface
_BLOCK = 2**16  # frequencies of one field handled at a time, to stay in the cache
_TIE_MM = 1e-6


def autocorrelation(
    values: Floats, labels: Labels, k: int, spacing: Spacing
) -> dict[str, Floats]:
    """Moran's I and Geary's C of one channel in each region.

    Parameters
    ----------
    values : float array of shape (z, y, x)
        The channel; voxels without a finite value are left out.
    labels : integer array of shape (z, y, x)
        0 outside, regions 1..k.
    k : int
        Number of regions, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    dict of str to array of shape (k,)
        "moran_i" and "geary_c" weight all pairs of voxels by 1 / distance, as IBSI;
        "moran_i_26" and "geary_c_26" weight the 26 neighbors alike and no others. NaN
        for regions without contrast or without pairs.

    Examples
    --------
    >>> values = np.array([[[1.0, 1.0, 5.0, 5.0]]])
    >>> found = autocorrelation(values, np.ones((1, 1, 4), int), 1, (1, 1, 1))
    >>> found["moran_i_26"].round(4), found["geary_c_26"].round(4)
    (array([0.3333]), array([0.5]))
    """
    known = np.where(np.isfinite(values), labels, 0)
    table = np.full((k, 4), np.nan)
    spectra: dict[tuple[int, ...], Floats] = {}  # one: most habitats have one box
    for i, box in enumerate(ndimage.find_objects(known)):
        if box is None:
            continue
        inside = known[box] == i + 1
        size = _sizes(inside.shape, inside.shape)
        if size not in spectra:
            spectra = {size: _spectra(_inverse_and_near(size, spacing))}
        table[i] = _autocorrelation(values[box], inside, spectra[size])
    names = ("moran_i", "geary_c", "moran_i_26", "geary_c_26")
    return dict(zip(names, table.T.copy(), strict=True))


def _autocorrelation(
    values: Floats, mask: npt.NDArray[np.bool_], spectra: Floats
) -> list[float]:
    inside = values[mask]
    n = inside.size
    if np.ptp(inside) == 0:
        return [np.nan] * 4
    inside = inside - inside.mean()
    inside /= inside.std()  # neither I nor C has a scale
    fields = np.zeros((3, *mask.shape))
    for field, x in zip(fields, (1, inside, inside**2), strict=True):
        field[mask] = x
    total, cross, square = _pair_sums(fields, ((0, 0), (1, 1), (0, 2)), spectra)
    total[1] = np.rint(total[1])  # 0 if nothing has a neighbor
    total[total == 0] = np.nan
    moran = cross / total
    geary = (n - 1) / n * (square - cross) / total
    return [moran[0], geary[0], moran[1], geary[1]]


def _inverse_and_near(size: Sequence[int], spacing: Spacing) -> list[Floats]:
    """Weights of lags: 1 / mm, and 1 for the 26 neighbors."""
    lag = _lags(size, spacing)
    near = np.zeros_like(lag)
    near[:2, :2, :2] = 1
    near[0, 0, 0] = 0
    return [1 / lag, near]


def pair_correlation(labels: Labels, k: int, spacing: Spacing) -> dict[str, float]:
    """How much more often two habitats meet at a distance than if they were mixed.

    ``g_ij(r) = N_ij(r) / (p_i p_j N(r))``: pairs of a voxel of i and one of j at a
    distance within r plus or minus h, over the pairs of any two tumor voxels at that
    distance, with the shares p. Habitats mixed at random have 1; below 1 they keep
    apart, above 1 they cluster. h is 1 mm or, if larger, half the longest side of a
    voxel.

    Parameters
    ----------
    labels : integer array of shape (z, y, x)
        0 outside, habitats 1..k.
    k : int
        Number of habitats, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    dict of str to float
        "pair_correlation_2mm_1_1", "pair_correlation_2mm_1_2", ... at 2, 5 and 10 mm;
        NaN where a habitat is absent or no two tumor voxels are that far apart.

    Examples
    --------
    >>> labels = np.array([[[1, 1, 1, 1, 2, 2, 2, 2]]])
    >>> round(pair_correlation(labels, 2, (1, 1, 1))["pair_correlation_2mm_1_1"], 3)
    1.333
    """
    pairs = list(combinations_with_replacement(range(k), 2))
    n = counts(labels, k)
    g = np.full((len(pairs), len(DISTANCES_MM)), np.nan)
    if n.any():
        found = _ring_pairs(labels[bounding_box(labels > 0)], k, spacing, pairs)
        weight = np.array([1 if i == j else 2 for i, j in pairs])
        share = np.where(n, n, np.nan) / n.sum()
        expected = [share[i] * share[j] for i, j in pairs]
        every = weight @ found
        g = found / np.outer(expected, np.where(every, every, np.nan))
    return {
        f"pair_correlation_{r}mm_{i + 1}_{j + 1}": float(value)
        for r, column in zip(DISTANCES_MM, g.T, strict=True)
        for (i, j), value in zip(pairs, column, strict=True)
    }


def _ring_pairs(labels: Labels, k: int, spacing: Spacing, pairs: Pairs) -> Floats:
    """Count ordered pairs of voxels (a in i, b in j) in the ring of each distance."""
    half = max(RING_MM, max(spacing) / 2)
    reach = np.floor((max(DISTANCES_MM) + half + _TIE_MM) / np.asarray(spacing))
    size = _sizes(labels.shape, [int(m) for m in reach])
    lag = _lags(size, spacing)
    rings = [(np.abs(lag - r) <= half + _TIE_MM).astype(float) for r in DISTANCES_MM]
    fields = labels == np.arange(1, k + 1).reshape(-1, 1, 1, 1)
    return np.rint(_pair_sums(fields, pairs, _spectra(rings)))


def position(
    labels: Labels, k: int, spacing: Spacing, depth: Floats
) -> dict[str, Floats]:
    """How deep in the tumor each habitat lies, and how far off its center.

    Parameters
    ----------
    labels : integer array of shape (z, y, x)
        0 outside, habitats 1..k.
    k : int
        Number of habitats, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).
    depth : float array of shape (z, y, x), mm
        Distance to the surface of the tumor, as of `habitat.voxels.depth_mm`.

    Returns
    -------
    dict of str to array of shape (k,)
        "mean_depth_mm"; "mean_depth", as a share of the largest depth in the tumor;
        "rim_fraction" of voxels at most 3 mm deep; "centroid_offset", the distance from
        the habitat's center to the tumor's in radii of a sphere of the tumor's volume.

    Examples
    --------
    >>> labels = np.array([[[1, 1, 2, 1, 1]]])
    >>> from habitat.voxels import depth_mm
    >>> deep = depth_mm(labels > 0, (20, 20, 8))
    >>> position(labels, 2, (20, 20, 8), deep)["mean_depth_mm"]
    array([ 7., 10.])
    """
    n = counts(labels, k)
    some = np.where(n, n, np.nan)
    where = labels > 0
    own, deep = labels[where], depth[where]
    mean = np.bincount(own, deep, k + 1)[1 : k + 1] / some
    rim = np.bincount(own, deep <= RIM_MM, k + 1)[1 : k + 1] / some
    center = centroids(where.astype(np.uint8), 1, spacing)
    away = np.linalg.norm(centroids(labels, k, spacing) - center, axis=1)
    return {
        "mean_depth_mm": mean,
        "mean_depth": mean / deep.max(initial=0.0) if deep.size else mean,
        "rim_fraction": rim,
        "centroid_offset": away / _radius(n.sum(), spacing),
    }


def hotspot_offset(
    values: Floats, labels: Labels, k: int, spacing: Spacing
) -> dict[str, Floats]:
    """How far the highest value of each region lies from the region's center.

    Of the whole tumor's SUV this is the normalized distance from hot spot to centroid
    of Jimenez-Sanchez, PNAS 2021;118:e2018110118.

    Parameters
    ----------
    values : float array of shape (z, y, x)
        The channel; voxels without a finite value are no hot spot.
    labels : integer array of shape (z, y, x)
        0 outside, regions 1..k.
    k : int
        Number of regions, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    dict of str to array of shape (k,)
        "hotspot_offset", in radii of a sphere of the region's volume; the mean over
        voxels that share the highest value, NaN for regions without contrast.

    Examples
    --------
    >>> values = np.array([[[1.0, 2.0, 5.0]]])
    >>> hotspot_offset(values, np.ones((1, 1, 3), int), 1, (1, 1, 1))
    {'hotspot_offset': array([1.1176928])}
    """
    center = centroids(labels, k, spacing)
    out = np.full(k, np.nan)
    for i, n in enumerate(counts(labels, k)):
        own = np.isfinite(values) & (labels == i + 1)
        inside = values[own]
        if inside.size and np.ptp(inside) > 0:
            hot = np.argwhere(own)[inside == inside.max()] * np.asarray(spacing)
            away = np.linalg.norm(hot - center[i], axis=1).mean()
            out[i] = away / _radius(n, spacing)
    return {"hotspot_offset": out}


def _radius(voxels: float, spacing: Spacing) -> float:
    """Radius of a sphere of as many voxels, mm; NaN for none."""
    volume = voxels * math.prod(spacing)
    return float(np.cbrt(3 * volume / (4 * np.pi))) if voxels else np.nan


def _sizes(shape: Sequence[int], reach: Sequence[int]) -> tuple[int, ...]:
    """Half lengths of transforms that keep lags up to `reach` voxels from wrapping."""
    return tuple(
        fft.next_fast_len((n + min(m, n) + 1) // 2)
        for n, m in zip(shape, reach, strict=True)
    )


def _lags(size: Sequence[int], spacing: Spacing) -> Floats:
    """Length, mm, of the lags 0..size of each axis; a voxel is no pair with itself."""
    z, y, x = ((np.arange(n + 1) * s) ** 2 for n, s in zip(size, spacing, strict=True))
    out: Floats = np.sqrt(z[:, None, None] + y[:, None] + x)
    out[0, 0, 0] = np.inf
    return out


def _spectra(weights: Sequence[Floats]) -> Floats:
    """Fourier transforms (x, weights, z, y) of weights that are even in each lag."""
    spectra = np.stack([fft.dctn(w, type=1) for w in weights])
    return np.ascontiguousarray(spectra.transpose(3, 0, 1, 2))


def _pair_sums(
    fields: npt.NDArray[np.generic], pairs: Pairs, spectra: Floats
) -> Floats:
    """Sum over all voxels a, b of ``w(|a - b|) f_i(a) f_j(b)``.

    Parameters
    ----------
    fields : array of shape (fields, z, y, x)
        Real; zero beyond their edges.
    pairs : sequence of tuple of int
        The (i, j) wanted.
    spectra : float array of shape (X + 1, weights, Z + 1, Y + 1)
        Of w at lags of 0..Z, 0..Y, 0..X voxels; transforms have lengths 2 Z, 2 Y, 2 X.

    Returns
    -------
    array of shape (pairs, weights)

    Notes
    -----
    By Parseval's theorem the sum is that of ``w^ f_i^ conj(f_j^)`` over frequencies. w^
    is real and even along each axis, so products are folded onto one octant of it.
    Frequencies along x are taken in blocks: no padded array is ever whole.
    """
    x, z, y = spectra.shape[0] - 1, spectra.shape[2] - 1, spectra.shape[3] - 1
    lines = np.empty((*fields.shape[:3], x + 1), dtype=np.complex128)
    for line, field in zip(lines, fields, strict=True):
        line[:] = fft.rfft(field, 2 * x, axis=2)
    flat = spectra.reshape(*spectra.shape[:2], -1)
    sums: Floats = np.zeros((len(pairs), spectra.shape[1]))
    width = max(_BLOCK // (4 * z * y), 1)
    for start in range(0, x + 1, width):
        part = slice(start, start + width)
        F = np.ascontiguousarray(np.moveaxis(lines[..., part], 3, 0))
        F = fft.fft(fft.fft(F, 2 * y, axis=3), 2 * z, axis=2)
        re, im = F.real, F.imag
        at = np.arange(start, start + len(F))
        twice = np.where((at == 0) | (at == x), 1, 2)  # -x..-1 are like 1..x
        for row, (i, j) in zip(sums, pairs, strict=True):
            product = re[:, i] * re[:, j] + im[:, i] * im[:, j]
            octant = _folded(_folded(product, z, 1), y, 2).reshape(len(F), -1)
            row += twice @ np.einsum("xi,xwi->xw", octant, flat[part])
    sums /= 8 * z * y * x
    return sums


def _folded(a: Floats, n: int, axis: int) -> Floats:
    """Add frequencies -1..1-n of an axis of length 2 n to those of 1..n-1."""
    a = np.moveaxis(a, axis, 0)
    out = a[: n + 1].copy()
    out[1:n] += a[:n:-1]
    return np.moveaxis(out, 0, axis)

"""How habitats lie to each other: interactions, joins, parts, landscape metrics.

Everything here but `parts` is counted over pairs of neighboring voxels, and such counts
depend on how the tumor lies in the grid. Turns by 90 degrees that the neighborhood has
too (for "2d8" those within the slice) change nothing. Others change the counts, those
over a flat border by up to 12 % ("2d8", "3d26") or 73 % ("3d6"), and shares made of
them by less. Areas of borders in mm² are in `habitat.features._borders`.

Graph features of the network of components are left out: the papers that use them on
habitats (Lee et al., Sci Rep 2023, doi 10.1038/s41598-023-44353-7; GrRAiL,
arXiv:2509.19258) could not be read beyond their abstracts, so any definition here would
be our own.
"""

from __future__ import annotations

from itertools import combinations, combinations_with_replacement
from math import ceil, log, nan, sqrt

import numpy as np
import numpy.typing as npt

from habitat._check import one_of
from habitat.features._borders import (
    HALF,
    Counts,
    Floats,
    Labels,
    borders,
    forward,
    pad,
    pairs,
    ratio,
    sizes,
)
from habitat.kernels.neighbors import component_sizes, euler_octants

__all__ = ["interaction", "joins", "landscape", "parts", "relations"]

Spacing = tuple[float, float, float]
_U8 = npt.NDArray[np.uint8]

#: Which of `HALF` each neighborhood uses.
_NEIGHBORS = {
    "2d8": HALF[:, 0] == 0,
    "3d6": np.abs(HALF).sum(axis=1) == 1,
    "3d26": np.ones(13, dtype=bool),
}


def relations(
    labels: Labels, k: int, spacing: Spacing, *, neighbors: str = "2d8"
) -> tuple[dict[str, float], dict[str, Floats]]:
    """How habitats lie to each other: all features of this module and of `borders`.

    Parameters
    ----------
    labels : (z, y, x) integer array
        0 outside, habitats 1..k. Nothing depends on how far it goes beyond the tumor.
    k : int
        Number of habitats; an absent one has counts of 0, else NaN.
    spacing : tuple of 3 float, mm
        Voxel size (z, y, x).
    neighbors : {"2d8", "3d6", "3d26"}
        Of the interaction matrix, see `interaction`.

    Returns
    -------
    tumor : dict of str to float
        Features of the tumor and of pairs of habitats.
    habitats : dict of str to (k,) array
        Features of each habitat.

    Raises
    ------
    ConfigError
        If `neighbors` is not one of the names.

    Examples
    --------
    >>> labels = np.random.default_rng(0).integers(0, 4, (9, 9, 9), dtype=np.uint8)
    >>> tumor, habitats = relations(labels, 3, (1.0, 1.0, 1.0))
    >>> habitats["components"]
    array([8., 3., 1.])
    """
    counts = pairs(labels, k)
    tumor = interaction(counts, spacing, neighbors=neighbors) | joins(labels, counts)
    habitats: dict[str, Floats] = {}
    groups = (parts(labels, k), landscape(counts), borders(labels, k, spacing))
    for whole, each in groups:
        tumor |= whole
        habitats |= each
    return tumor, habitats


def interaction(
    counts: Counts, spacing: Spacing, *, neighbors: str = "2d8"
) -> dict[str, float]:
    """Multiregional spatial interaction matrix and its features (Wu et al. 2018).

    Entry (i, j) counts the neighbors with label j of the voxels with label i, so pairs
    within a habitat from both sides; label 0 is the outside.

    Parameters
    ----------
    counts : (13, k + 1, k + 1) array
        ``pairs(labels, k)``.
    spacing : tuple of 3 float, mm
        Voxel size (z, y, x).
    neighbors : {"2d8", "3d6", "3d26"}
        8 neighbors in the slice (the reference), 6 with a common face, or all 26, each
        with weight smallest spacing / distance. The last two stand in the names.

    Returns
    -------
    dict of str to float
        4 + k (k + 3) features, 22, 32 or 92 for k of 3, 4 or 8:
        ``interaction_contrast``, ``_homogeneity``, ``_correlation``, ``_energy`` of the
        matrix divided by its sum, of which all but energy depend on the order of the
        habitats; ``interaction_1_1`` (within), ``interaction_1_2`` (between) and
        ``border_1`` (to the outside), counts times voxel volume, mm³;
        ``interaction_share_1_2`` and so on, the same as shares of the matrix's sum.

    Raises
    ------
    ConfigError
        If `neighbors` is not one of the names.

    References
    ----------
    Wu J. et al., Radiology 2018;288:26; demoMSI.m of WuLabMDA/Habitat-Analysis.

    Examples
    --------
    >>> counts = pairs(np.array([[[1, 1, 2], [1, 2, 2]]], dtype=np.uint8), 2)
    >>> interaction(counts, (3.0, 1.0, 1.0))["interaction_1_2"]
    15.0
    """
    used = _NEIGHBORS[one_of("neighbors", neighbors, _NEIGHBORS)]
    weights = used.astype(np.float64)
    if neighbors == "3d26":
        weights = min(spacing) / np.linalg.norm(HALF * spacing, axis=1)
    M = np.tensordot(weights, counts, axes=1)
    M += M.T
    P = ratio(M, M.sum())
    tag = "" if neighbors == "2d8" else f"_{neighbors}"
    out = {f"interaction{tag}_{name}": v for name, v in _second_order(P).items()}
    habitats = range(1, len(M))
    for kind, matrix in (("", M * np.prod(spacing)), ("_share", P)):
        for i, j in combinations_with_replacement(habitats, 2):
            out[f"interaction{tag}{kind}_{i}_{j}"] = float(matrix[i, j])
        for i in habitats:
            out[f"border{tag}{kind}_{i}"] = float(matrix[i, 0])
    return out


def _second_order(P: Floats) -> dict[str, float]:
    """Features of a symmetric matrix of shares, as MATLAB's graycoprops has them."""
    i, j = np.indices(P.shape)
    off = i - (i * P).sum()
    variance = (off**2 * P).sum()
    return {
        "contrast": float(((i - j) ** 2 * P).sum()),
        "homogeneity": float((P / (1 + np.abs(i - j))).sum()),
        "correlation": float(ratio((off * off.T * P).sum(), variance)),
        "energy": float((P**2).sum()),
    }


def joins(
    labels: Labels, counts: Counts, *, neighbors: str = "3d26"
) -> dict[str, float]:
    """Join counts: pairs of neighbors with labels i and j, against chance.

    Chance is every arrangement of the same labels on the same voxels; mean and
    variance over all of them are exact.

    Parameters
    ----------
    labels : (z, y, x) integer array
        0 outside, habitats 1..k.
    counts : (13, k + 1, k + 1) array
        ``pairs(labels, k)``.
    neighbors : {"2d8", "3d6", "3d26"}
        As in `interaction`, but each pair counts once, with weight 1.

    Returns
    -------
    dict of str to float
        For each i <= j ``joins_1_2``, ``joins_expected_1_2``, ``joins_ratio_1_2``
        (observed / expected) and ``joins_z_1_2`` (by the standard deviation). Ratio
        and z are NaN where there is no or no other count by chance.

    References
    ----------
    Cliff A., Ord J., Spatial Processes, 1981, section 2.3 (nonfree sampling).

    Examples
    --------
    >>> labels = np.array([[[1, 1, 2, 2]]], dtype=np.uint8)
    >>> joins(labels, pairs(labels, 2))["joins_expected_1_2"]
    2.0
    """
    used = _NEIGHBORS[one_of("neighbors", neighbors, _NEIGHBORS)]
    size = _sizes(counts).tolist()
    inner = counts[used, 1:, 1:].sum(axis=0)
    J = inner + inner.T
    np.fill_diagonal(J, inner.diagonal())
    total, paths = float(inner.sum()), _paths(labels, HALF[used])
    out = {}
    for i, j in combinations_with_replacement(range(len(size)), 2):
        mean, variance = _chance(size, i, j, total, paths)
        observed = float(J[i, j])
        sd = sqrt(max(variance, 0.0))
        sd = sd if sd > 1e-6 * mean else 0.0
        pair = f"{i + 1}_{j + 1}"
        out[f"joins_{pair}"] = observed
        out[f"joins_expected_{pair}"] = mean
        out[f"joins_ratio_{pair}"] = float(ratio(observed, mean))
        out[f"joins_z_{pair}"] = float(ratio(observed - mean, sd))
    return out


def _sizes(counts: Counts) -> Counts:
    """Voxels of each habitat: each is the second of one pair in a direction."""
    return np.asarray(counts[0, :, 1:].sum(axis=0))


def _paths(labels: Labels, steps: Counts) -> float:
    """Ordered pairs of joins with a common voxel: sum of d (d - 1) over voxels."""
    mask = (pad(labels, 1) > 0).view(np.uint8)
    degree = np.zeros(mask.size, np.uint8)
    flat = mask.ravel()
    for step in forward(mask, steps):
        degree[:-step] += flat[step:]
        degree[step:] += flat[:-step]
    times = np.bincount(degree[flat > 0], minlength=27)
    d = np.arange(27)
    return float((times * d * (d - 1)).sum())


def _chance(
    size: list[int], i: int, j: int, total: float, paths: float
) -> tuple[float, float]:
    """Mean and variance of a join count over all arrangements of the labels."""
    n, a, b = sum(size), size[i], size[j]
    apart = total * (total - 1) - paths  # ordered pairs of joins without common voxel
    # Chance that one join, two with a common voxel, two without one are of this kind
    if i == j:
        chance = [_falling(a, m) / max(_falling(n, m), 1) for m in (2, 3, 4)]
    else:
        ways = (2 * a * b, a * b * (a + b - 2), 4 * _falling(a, 2) * _falling(b, 2))
        chance = [
            w / max(_falling(n, m), 1) for w, m in zip(ways, (2, 3, 4), strict=True)
        ]
    mean = total * chance[0]
    square = mean + paths * chance[1] + apart * chance[2]
    return mean, square - mean**2


def _falling(n: int, m: int) -> int:
    """Falling factorial n (n - 1) ... of m factors."""
    out = 1
    for i in range(m):
        out *= n - i
    return out


def parts(labels: Labels, k: int) -> tuple[dict[str, float], dict[str, Floats]]:
    """Connected parts of the habitats, and the ITH score of Li et al. 2022 from them.

    The score is 1 - (1 / S) * sum over habitats of (largest part / number of parts), S
    all voxels of the tumor; parts of one voxel do not count as parts. It is 0 if every
    habitat is in one piece.

    Parameters
    ----------
    labels : (z, y, x) integer array
        0 outside, habitats 1..k.
    k : int
        Number of habitats.

    Returns
    -------
    tumor : dict of str to float
        ``ith_score`` of the axial slice with the largest tumor area and 8 neighbors, as
        published (the mean of such slices if there are several), and ``ith_score_3d``,
        the same of the volume with 26 neighbors, which is our own.
    habitats : dict of str to (k,) array
        With 26 neighbors: ``components``, the number of parts; ``largest_component``,
        the share of the habitat in the largest; ``dispersion``, 1 - (largest /
        number) / size, 0 for a single part; ``euler_number``, parts - tunnels +
        cavities. An absent habitat has 0 parts, an Euler number of 0, else NaN.

    Notes
    -----
    The paper takes the map from k-means of texture in windows of 5 x 5 pixels; here
    the score is that of the given map.

    References
    ----------
    LiJiaqi96/ITHscore, ``calITHscore``.

    Examples
    --------
    >>> tumor, habitats = parts(np.array([[[1, 1, 2, 2, 1, 1]]], dtype=np.uint8), 2)
    >>> tumor["ith_score"], habitats["dispersion"]
    (0.5, array([0.75, 0.  ]))
    """
    padded = pad(labels, 1)
    owner, size = _parts(padded, HALF)
    number, largest = _summary(owner, size, k)
    total = sizes(labels, k)
    euler = np.zeros(k + 1, np.int64)
    layer, row, _ = padded.strides
    euler_octants(padded.ravel(), row, layer, _OCTANTS, euler)
    return {"ith_score": _ith_slice(labels, k), "ith_score_3d": _ith(owner, size, k)}, {
        "components": number.astype(np.float64),
        "largest_component": ratio(largest, total),
        "dispersion": 1 - ratio(largest, number * total),
        "euler_number": euler[1:] / 8,
    }


def _ith_slice(labels: Labels, k: int) -> float:
    area = (labels > 0).sum(axis=(1, 2))
    steps = HALF[_NEIGHBORS["2d8"]]
    slices = (labels[z : z + 1] for z in np.flatnonzero(area == area.max()))
    return float(np.mean([_ith(*_parts(pad(s, 1), steps), k) for s in slices]))


def _ith(owner: _U8, size: Counts, k: int) -> float:
    more = size > 1
    number, largest = _summary(owner[more], size[more], k)
    return float(1 - ratio(np.nansum(ratio(largest, number)), size.sum()))


def _octants() -> Counts:
    """8 times what the middle of a set of corners adds to the Euler number.

    Voxels are closed cubes: a vertex, edge or face is there if any voxel has it.
    """
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    cube = bits.reshape(-1, 2, 2, 2).astype(bool)
    out: Counts = 8 * cube.any(axis=(1, 2, 3)).astype(np.int64)
    for a, b in combinations((1, 2, 3), 2):
        out -= 4 * cube.any(axis=(a, b)).sum(axis=1)
    for a in (1, 2, 3):
        out += 2 * cube.any(axis=a).sum(axis=(1, 2))
    out -= cube.sum(axis=(1, 2, 3))
    return out


_OCTANTS = _octants()


def _parts(padded: _U8, steps: Counts) -> tuple[_U8, Counts]:
    """Label and size of every connected part."""
    size = np.zeros(padded.size, np.int32)
    component_sizes(padded.ravel(), forward(padded, steps), size)
    first = np.flatnonzero(size)
    return padded.ravel()[first], size[first].astype(np.int64)


def _summary(owner: _U8, size: Counts, k: int) -> tuple[Counts, Counts]:
    """Number of parts and size of the largest of each habitat."""
    largest = np.zeros(k + 1, np.int64)
    np.maximum.at(largest, owner, size)
    return np.bincount(owner, minlength=k + 1)[1:], largest[1:]


def landscape(counts: Counts) -> tuple[dict[str, float], dict[str, Floats]]:
    """Contagion and aggregation index of landscape ecology, on voxel faces.

    Parameters
    ----------
    counts : (13, k + 1, k + 1) array
        ``pairs(labels, k)``.

    Returns
    -------
    tumor : dict of str to float
        ``contagion``, 0 (evenly mixed) to 1 (few, large patches), NaN for fewer than
        two habitats.
    habitats : dict of str to (k,) array
        ``aggregation``, contacts within a habitat by the most that so many voxels can
        have; NaN below two voxels.

    Notes
    -----
    As FRAGSTATS has them, as fractions and with 6 neighbors in place of 4. The most
    contacts in three dimensions are those of the polycube of least surface (Alonso &
    Cerf, Electron J Combin 1996;3:R27).

    References
    ----------
    Li H., Reynolds J., Landsc Ecol 1993;8:155; He H. et al., Landsc Ecol 2000;15:591.

    Examples
    --------
    >>> labels = np.array([[[1, 1, 2], [1, 1, 1]]], dtype=np.uint8)
    >>> landscape(pairs(labels, 2))[1]["aggregation"]
    array([ 1., nan])
    """
    inner = counts[_NEIGHBORS["3d6"], 1:, 1:].sum(axis=0)
    both = inner + inner.T
    size = _sizes(counts)
    present = int((size > 0).sum())
    contagion = nan
    if present > 1:
        share = ratio(size[:, None] * both, size.sum() * both.sum(axis=1)[:, None])
        share = share[both > 0]
        mixing = float((share * np.log(share)).sum())
        contagion = 1 + mixing / (2 * log(present))
    most = [_most_contacts(n) for n in size.tolist()]
    return {"contagion": contagion}, {"aggregation": ratio(inner.diagonal(), most)}


def _most_contacts(n: int) -> int:
    """Most pairs of face neighbors that n voxels can have."""
    if n == 0:
        return 0
    side = int(np.cbrt(n) + 1e-9)
    edges = [side] * 3
    for axis in (0, 1):  # the largest box of nearly equal edges
        longer = edges.copy()
        longer[axis] += 1
        if longer[0] * longer[1] * longer[2] <= n:
            edges = longer
    a, b, c = edges
    rest = n - a * b * c  # lie on one side and add their perimeter
    return 3 * n - (a * b + b * c + a * c) - ceil(2 * sqrt(rest))

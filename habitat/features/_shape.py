"""Size and shape of regions.

`shape` gives the 14 features of pyradiomics 3.1.4 (van Griethuysen et al., Cancer Res
2017;77:e104), `ibsi_shape` the further ones of the morphology family of the Image
Biomarker Standardisation Initiative (HCUG; arXiv:1612.07003). Volume and area densities
by the oriented box and by the minimum volume ellipsoid are left out: the initiative
found no reference value for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

from habitat.kernels import mesh

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]

# The triangles of the first 128 patterns of a cube's corners, as hexadecimal numbers of
# the edges of their corners, and the middles (z, y, x) of the edges. Tables of
# pyradiomics (radiomics/src/cshape.c):
#
# Copyright 2017 Harvard Medical School
#
# Redistribution and use in source and binary forms, with or without modification, are
# permitted provided that the following conditions are met:
#
# 1. Redistributions of source code must retain the above copyright notice, this list of
# conditions and the following disclaimer.
#
# 2. Redistributions in binary form must reproduce the above copyright notice, this list
# of conditions and the following disclaimer in the documentation and/or other materials
# provided with the distribution.
#
# 3. Neither the name of the copyright holder nor the names of its contributors may be
# used to endorse or promote products derived from this software without specific prior
# written permission.
#
# THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY
# EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES
# OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE DISCLAIMED. IN NO EVENT
# SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT,
# INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED
# TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR
# BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN
# CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN
# ANY WAY OUT OF THE USE OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH
# DAMAGE.
_TRIANGLES = """
- 083 190 183198 12a 08312a 92a029 2832a8a98 b23 b2008b 190b23 b2119b98b 3a1ba3
a1008a8ba 9033b9ba9 98aba8 478 043473 190478 194147173 12a478 34730412a 92a902478
2a9297273479 478b23 b47b24204 190478b23 47b94bb29192 3a1ba3478 ba114b10447b
4789033b9ba9 47b4b99ba 954 954083 054015 854835315 12a954 08312a954 2a5542240
2a5325354834 954b23 b2008b954 054015b23 215258b28548 3a1ba3954 549a1008a8ba
54050ba5bb03 548a58ba8 789579 309539357 780017715 157173 78957912a 12a309395357
0288258572a5 2a5253357 579789b23 579972209b27 b23018178157 21b17b157 7895793a1ba3
5705097b0a10ba0 ba003ba50078570 ba557b 65a 08365a 19065a 18319865a 165126 165126083
965906026 598582526832 b2365a b2008b65a 190b2365a b2119b98b65a 63b653513
08b0b50515b6 63b036065059 65969bb98 47865a 04347365a 19047865a 19414717365a
478165126 043473165126 478965906026 739479329596269 b2347865a b47b2420465a
190b2347865a 47b94bb2919265a 47863b653513 51b5b610b47b04b 47863b036065059
65969b4797b9 a4964a a4964a083 01aa60640 18316886461a 149124264 149124264083 024426
832824426 b23a4964a b2008ba4964a b2301aa60640 64161a148b2118b 964369139b63
18b081b61149641 63b036640 86468b 67a78a89a 67a0a709a073 67a1a7178018 67a1a7173
126168189678 269129679309739 078706602 273267 b2367a78a89a 207b2709767a9a7
67a1a7178018b23 b2117ba61167 896678169b63136 09167b 07870603bb60 67b
"""
_EDGES = np.array(
    [
        *((0, 0, 0.5), (0, 0.5, 1), (0, 1, 0.5), (0, 0.5, 0)),
        *((1, 0, 0.5), (1, 0.5, 1), (1, 1, 0.5), (1, 0.5, 0)),
        *((0.5, 0, 0), (0.5, 0, 1), (0.5, 1, 1), (0.5, 1, 0)),
    ]
)


class _Region(NamedTuple):
    """What one region was measured to be; lengths in mm."""

    label: int
    box: Floats  # (3,) edges of its box
    voxels: int
    center: Floats  # (3,) mean of its voxels, from voxel (0, 0, 0) of the labels
    eigenvalues: Floats  # (3,) of the voxels' covariance, ascending
    area: float
    volume: float
    diameters: Floats  # (4,) in planes of one z, y, x, and of all
    points: Floats  # (m, 3) mesh vertices among which are those of the hull


def shape(
    labels: Labels, n: int, spacing: tuple[float, float, float]
) -> dict[str, Floats]:
    """Shape features of every region as pyradiomics defines them.

    Parameters
    ----------
    labels : int array of shape (z, y, x)
        0 outside, regions 1..n.
    n : int
        Number of regions.
    spacing : tuple of float, mm
        Voxel size (z, y, x).

    Returns
    -------
    dict of str to float64 array of shape (n,)
        The 14 features; NaN where a region has no voxels. Elongation and Flatness of a
        single voxel are NaN.

    Notes
    -----
    The mesh of pyradiomics has gaps where voxels meet at an edge only, so that its
    volume depends there on the origin of coordinates; as there, it is a corner of the
    region's box.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.features._shape import shape
    >>> cube = np.ones((4, 4, 4), np.uint8)
    >>> float(shape(cube, 1, (1.0, 1.0, 1.0))["shape_VoxelVolume"][0])
    64.0
    """
    voxel = math.prod(spacing)
    out = {f"shape_{name}": np.full(n, np.nan) for name in _NAMES}
    for r in _regions(labels, n, spacing):
        axes = 4 * np.sqrt(r.eigenvalues)
        relative = np.full(3, np.nan) if axes[2] == 0 else axes / axes[2]
        values = (
            *(r.volume, r.voxels * voxel, r.area, _ratio(r.area, r.volume)),
            *(_ball_area(r.volume) / r.area, r.diameters[3], *r.diameters[:3]),
            *(*axes[::-1], relative[1], relative[0]),
        )
        for column, value in zip(out.values(), values, strict=True):
            column[r.label - 1] = value
    return out


_NAMES = (
    *("MeshVolume", "VoxelVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity"),
    *("Maximum3DDiameter", "Maximum2DDiameterSlice", "Maximum2DDiameterColumn"),
    *("Maximum2DDiameterRow", "MajorAxisLength", "MinorAxisLength", "LeastAxisLength"),
    *("Elongation", "Flatness"),
)


def ibsi_shape(
    labels: Labels,
    n: int,
    spacing: tuple[float, float, float],
    values: Floats | None = None,
    intensity_labels: Labels | None = None,
) -> dict[str, Floats]:
    """Morphology of IBSI where pyradiomics has none or departs from it.

    To complete it, ``shape(...) | ibsi_shape(...)`` and Moran's I and Geary's C. The
    axis lengths replace those of pyradiomics: the values of the initiative divide the
    covariance of N voxels by N - 1.

    Parameters
    ----------
    labels : int array of shape (z, y, x)
        0 outside, regions 1..n (the morphological mask).
    n : int
        Number of regions.
    spacing : tuple of float, mm
        Voxel size (z, y, x).
    values : float64 array of shape (z, y, x), optional
        Intensities; without them CenterOfMassShift and IntegratedIntensity are absent.
    intensity_labels : int array of shape (z, y, x), optional
        Regions after re-segmentation (the intensity mask), by default `labels`.

    Returns
    -------
    dict of str to float64 array of shape (n,)
        NaN where a region has no voxels.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat.features._shape import ibsi_shape
    >>> cube = np.ones((4, 4, 4), np.uint8)
    >>> round(float(ibsi_shape(cube, 1, (1, 1, 1))["shape_VolumeDensityAABB"][0]), 3)
    0.917
    """
    out: dict[str, Floats] = {}
    for r in _regions(labels, n, spacing):
        features = _densities(r)
        if values is not None:
            inside = (
                labels if intensity_labels is None else intensity_labels
            ) == r.label
            features |= _weighted(r, values, inside, spacing)
        for name, value in features.items():
            out.setdefault(f"shape_{name}", np.full(n, np.nan))[r.label - 1] = value
    return out


def _densities(r: _Region) -> dict[str, float]:
    ball = _ball_area(r.volume)
    if r.voxels > 1:
        semi_axes = 2 * np.sqrt(r.eigenvalues[::-1] * r.voxels / (r.voxels - 1))
    else:
        semi_axes = np.zeros(3)
    ellipsoid = 4 / 3 * math.pi * math.prod(semi_axes)
    hull = spatial.ConvexHull(r.points)
    z, y, x = r.box
    return {
        "MajorAxisLength": 2 * semi_axes[0],
        "MinorAxisLength": 2 * semi_axes[1],
        "LeastAxisLength": 2 * semi_axes[2],
        "Compactness1": r.volume / math.sqrt(math.pi * r.area**3),
        "Compactness2": (ball / r.area) ** 3,
        "SphericalDisproportion": _ratio(r.area, ball),
        "Asphericity": _ratio(r.area, ball) - 1,
        "VolumeDensityAABB": r.volume / (z * y * x),
        "AreaDensityAABB": r.area / (2 * (z * y + z * x + y * x)),
        "VolumeDensityAEE": _ratio(r.volume, ellipsoid),
        "AreaDensityAEE": r.area / _ellipsoid_area(semi_axes)
        if ellipsoid
        else math.nan,
        "VolumeDensityConvexHull": r.volume / hull.volume,
        "AreaDensityConvexHull": r.area / hull.area,
    }


def _weighted(
    r: _Region,
    values: Floats,
    inside: npt.NDArray[np.bool_],
    spacing: tuple[float, ...],
) -> dict[str, float]:
    """Features that need intensities; NaN where none is left or they add up to 0."""
    weights = values[inside]
    total = weights.sum()
    shift = math.nan
    if total != 0:
        center = weights @ np.argwhere(inside) / total
        shift = float(np.linalg.norm((center * spacing) - r.center))
    mean = total / weights.size if weights.size else math.nan
    return {"CenterOfMassShift": shift, "IntegratedIntensity": mean * r.volume}


def _ratio(a: float, b: float) -> float:
    """NaN by 0: the gaps of a mesh can take all of its volume."""
    return a / b if b else math.nan


def _ball_area(volume: float) -> float:
    """Surface of a ball of this volume."""
    return float((36 * math.pi * volume**2) ** (1 / 3))


def _ellipsoid_area(semi_axes: Floats) -> float:
    """Surface by the series of Legendre polynomials, to degree 20 as IBSI does."""
    a, b, c = semi_axes
    alpha, beta = 1 - (b / a) ** 2, 1 - (c / a) ** 2  # squared eccentricities
    # q = sqrt(alpha beta)^k P_k((alpha + beta) / (2 sqrt(alpha beta))), by recurrence
    q, following, total = 1.0, (alpha + beta) / 2, 0.0
    for k in range(21):
        total += q / (1 - 4 * k * k)
        after = (2 * k + 3) * (alpha + beta) / 2 * following - (
            k + 1
        ) * alpha * beta * q
        q, following = following, after / (k + 2)
    return float(4 * math.pi * a * b * total)


def _regions(
    labels: Labels, n: int, spacing: tuple[float, float, float]
) -> Iterator[_Region]:
    """Measure the regions that have voxels."""
    steps = np.array(spacing, dtype=np.float64)
    areas, volumes, slopes = _tables(tuple(steps.tolist()))
    for label, box in enumerate(ndimage.find_objects(labels, n), start=1):
        if box is None:
            continue
        mask = np.pad(labels[box] == label, 1)
        z, y, x = mask.shape
        cubes, moments = np.zeros((256, 4), np.int64), np.zeros(10, np.int64)
        along_x = np.empty((2, 2 * z, 2 * y), np.int32)
        along_z = np.empty((2, 2 * y, 2 * x), np.int32)
        mesh.march(mask, cubes, moments, along_x, along_z)
        diameters = np.empty(4)
        points = mesh.diameters(along_x, along_z, steps, diameters)
        start = np.array([s.start - 1 for s in box])
        yield _Region(
            label,
            (np.array(mask.shape) - 2) * steps,
            int(moments[0]),
            (start + moments[1:4] / moments[0]) * steps,
            _eigenvalues(moments, steps),
            float(cubes[:, 0] @ areas),
            _enclosed(cubes, volumes, slopes),
            diameters,
            points,
        )


def _enclosed(cubes: npt.NDArray[np.int64], volumes: Floats, slopes: Floats) -> float:
    """Volume within a mesh; 0 where its gaps take all of it but for rounding."""
    far = cubes[:, 1:] * slopes
    total = float(cubes[:, 0] @ volumes + far.sum())
    size = float(cubes[:, 0] @ np.abs(volumes) + np.abs(far).sum())
    return total if abs(total) > 1e-12 * size else 0.0


def _eigenvalues(moments: npt.NDArray[np.int64], steps: Floats) -> Floats:
    """Eigenvalues of the voxels' covariance from whole sums: exact where flat."""
    n, *sums = (int(m) for m in moments)
    first, second = sums[:3], sums[3:]
    covariance = np.zeros((3, 3))
    pairs = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
    for (i, j), product in zip(pairs, second, strict=True):
        spread = (n * product - first[i] * first[j]) / (n * n)
        covariance[i, j] = covariance[j, i] = spread * steps[i] * steps[j]
    values = np.asarray(np.linalg.eigvalsh(covariance), dtype=np.float64)
    values[values < 1e-12 * values[2]] = 0.0  # rounding of a flat or straight region
    return values


@lru_cache
def _tables(spacing: tuple[float, ...]) -> tuple[Floats, Floats, Floats]:
    """Area, volume at the origin, and volume per step (z, y, x) of the 256 patterns."""
    areas, volumes, slopes = np.zeros(256), np.zeros(256), np.zeros((256, 3))
    corners = _EDGES * spacing
    for pattern, word in enumerate(_TRIANGLES.split()):
        edges = [] if word == "-" else [int(digit, 16) for digit in word]
        a, b, c = (corners[edges[k::3]] for k in range(3))
        normal = np.cross(a, b) + np.cross(b, c) + np.cross(c, a)
        other = 255 - pattern  # the same surface seen from the other side
        areas[[pattern, other]] = np.linalg.norm(normal, axis=1).sum() / 2
        volume = (np.cross(a, b) * c).sum() / 6
        volumes[[pattern, other]] = volume, -volume
        slope = normal.sum(axis=0) * spacing / 6
        slopes[[pattern, other]] = slope, -slope
    return areas, volumes, slopes

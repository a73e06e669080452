"""Uptake of regions on the native PET grid: peaks, metabolic volumes, glycolysis.

SUVpeak is the local (VJGA) and global (0F91) intensity peak of IBSI: the mean over the
voxels whose centers lie within a sphere of 1 cm3. The recovery at the center of a
sphere under a Gaussian blur is that of Kessler et al. (J Comput Assist Tomogr
1984;8:514).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage, special

from habitat.features._composition import Labels, Spacing
from habitat.geometry import Floats, bounding_box, grow
from habitat.voxels import depth_mm

PEAK_MM = 10 * (3 / (4 * math.pi)) ** (1 / 3)  # radius of a sphere of 1 cm3: 6.204
FWHM_MM = 6.0  # blur of a clinical PET where nothing better is known
SMALL_MM = 20.0  # below it a tumor's uptake is shaped by blur at any usual resolution
_TIE = 1e-9  # relative: what a product of spectra may be off

_SHARES = {"41": 0.41, "50": 0.50}  # of the lesion's SUVmax
_LEVELS = {"2_5": 2.5, "4_0": 4.0}  # SUV


def _units() -> dict[str, str]:
    suv = dict.fromkeys(("suv_max", "suv_mean", "suv_p90"), "g/mL")
    suv |= {"suv_cov": "", "suv_peak_local": "g/mL", "suv_peak_global": "g/mL"}
    volumes: dict[str, str] = {}
    for name in (*_SHARES, *_LEVELS):
        volumes |= {f"mtv_{name}": "ml", f"mtv_share_{name}": "", f"tlg_{name}": "g"}
    return suv | {"tlg": "g"} | volumes


#: Unit of each feature of `pet`, in its order (SUVbw; other SUV are numbers of g/mL of
#: their own kind).
UNITS: Mapping[str, str] = _units()


def pet(
    suv: Floats,
    labels: Labels,
    n: int,
    spacing: Spacing,
    *,
    lesion_max: float | None = None,
) -> dict[str, Floats]:
    """Uptake of each region.

    Parameters
    ----------
    suv : float array of shape (z, y, x), g/mL
        PET on its native grid: all of it, or what lies around the regions to at least
        6.3 mm wherever the image goes on that far. NaN is no value.
    labels : integer array of shape (z, y, x)
        0 outside, regions 1..n.
    n : int
        Number of regions, absent ones included.
    spacing : sequence of float, mm
        Voxel size (z, y, x).
    lesion_max : float, optional
        SUVmax of the lesion that the regions are habitats of: the relative thresholds
        are shares of it. By default each region is a lesion of its own.

    Returns
    -------
    dict of str to array of shape (n,)
        The names of `UNITS`. NaN for regions without a voxel.

        - "suv_max", "suv_mean", "suv_p90", "suv_cov" (standard deviation / mean);
        - "suv_peak_local": mean of the sphere of 1 cm3 around the hottest voxel (of
          several the one with the highest mean); "suv_peak_global": the highest such
          mean of all voxels of the region. Spheres average all voxels of the PET, those
          outside the region too; NaN if the sphere leaves the image;
        - "mtv_41", "mtv_50" (at or above a share of SUVmax), "mtv_2_5", "mtv_4_0" (at
          or above this SUV): metabolic tumor volume within the region. In a lesion
          the relative ones are what touches the hottest voxel (26 neighbors), in a
          habitat all of its voxels;
        - "mtv_share_...": these volumes over that of the region;
        - "tlg_...": volume times mean SUV within it; "tlg" is that of the region.

    Examples
    --------
    >>> suv = np.array([[[0.0, 1.0, 8.0, 4.0, 3.0]]])
    >>> found = pet(suv, np.ones((1, 1, 5), int), 1, (10, 10, 10))
    >>> found["mtv_41"], found["tlg_41"], found["mtv_2_5"]
    (array([2.]), array([12.]), array([3.]))
    """
    regions = np.where(np.isfinite(suv), labels, 0)
    voxel_ml = math.prod(spacing) / 1000
    around = peaks(suv, regions, n, spacing)
    table = np.full((n, len(UNITS)), np.nan)
    boxes = ndimage.find_objects(regions, max_label=n)
    for i, box in enumerate(boxes):
        if box is None:
            continue
        values, inside = suv[box], regions[box] == i + 1
        row = _distribution(values[inside])
        row |= {name: float(found[i]) for name, found in around.items()}
        row["tlg"] = voxel_ml * float(values[inside].sum())
        row |= _volumes(values, inside, voxel_ml, lesion_max)
        table[i] = [row[name] for name in UNITS]
    return dict(zip(UNITS, table.T.copy(), strict=True))


def _distribution(x: Floats) -> dict[str, float]:
    mean = float(x.mean())
    return {
        "suv_max": float(x.max()),
        "suv_mean": mean,
        "suv_p90": float(np.percentile(x, 90)),
        "suv_cov": float(x.std()) / mean if mean > 0 else math.nan,
    }


def _volumes(
    values: Floats,
    inside: npt.NDArray[np.bool_],
    voxel_ml: float,
    lesion_max: float | None,
) -> dict[str, float]:
    """Volume and glycolysis above each threshold; relative ones need some uptake."""
    top = float(values[inside].max()) if lesion_max is None else lesion_max
    size = np.count_nonzero(inside)
    out = {}
    levels = {name: share * top for name, share in _SHARES.items()}
    for name, level in (levels | _LEVELS).items():
        hot = inside & (values >= level)
        if name in _SHARES and lesion_max is None:
            hot = _touching(hot, values == top)
        known = name in _LEVELS or top > 0
        count = np.count_nonzero(hot) if known else math.nan
        out[f"mtv_{name}"] = voxel_ml * count
        out[f"mtv_share_{name}"] = count / size
        out[f"tlg_{name}"] = voxel_ml * float(values[hot].sum()) if known else math.nan
    return out


def _touching(
    hot: npt.NDArray[np.bool_], top: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Connected parts of `hot` that hold a voxel of `top`."""
    parts, _ = ndimage.label(hot, np.ones((3, 3, 3)))
    return np.isin(parts, np.unique(parts[hot & top]))


# --- peaks ----------------------------------------------------------------------------


def peaks(
    suv: Floats, labels: Labels, n: int, spacing: Spacing, *, whole: bool = True
) -> dict[str, Floats]:
    """Local and global SUVpeak of each region.

    Parameters
    ----------
    suv, labels, n, spacing
        As of `pet`.
    whole : bool
        Give NaN where the sphere leaves the image or holds voxels without a value.
        IBSI averages what there is.

    Returns
    -------
    dict of str to array of shape (n,)
        "suv_peak_local" and "suv_peak_global".

    Examples
    --------
    >>> suv = np.zeros((9, 9, 9))
    >>> suv[4, 4, 4] = 7
    >>> mask = (suv > 0).astype(int)
    >>> peaks(suv, mask, 1, (5, 5, 5))["suv_peak_local"]  # 7 voxels within 6.2 mm
    array([1.])
    """
    local, best = np.full(n, np.nan), np.full(n, np.nan)
    if (labels > 0).any():
        box = grow(bounding_box(labels > 0), _reach(spacing), suv.shape)
        suv, labels = suv[box], labels[box]
        mean, complete = _sphere_means(suv, spacing)
        for i in range(n):
            inside = (labels == i + 1) & np.isfinite(suv)
            if inside.any():
                x, m = suv[inside], mean[inside]
                full = complete[inside] | (not whole)
                top = x == x.max()
                local[i] = _highest(m[top], full[top])
                best[i] = _highest(m, full)
    return {"suv_peak_local": local, "suv_peak_global": best}


def _highest(means: Floats, full: npt.NDArray[np.bool_]) -> float:
    """The highest mean; NaN if only spheres that are not full have it."""
    top = float(means.max())
    full_top = float(means[full].max(initial=-np.inf))
    return full_top if full_top >= top - _TIE * abs(top) else math.nan


def _reach(spacing: Spacing) -> list[int]:
    return [math.floor(PEAK_MM / s + _TIE) for s in spacing]


def _sphere_means(
    suv: Floats, spacing: Spacing
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Mean over the sphere around each voxel, and whether all of its voxels count."""
    reach = zip(_reach(spacing), spacing, strict=True)
    axes = [np.arange(-r, r + 1) * s for r, s in reach]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    ball = (z * z + y * y + x * x <= PEAK_MM**2).astype(np.float64)
    known = np.isfinite(suv)
    count = np.rint(_convolved(known.astype(np.float64), ball))
    total = _convolved(np.where(known, suv, 0.0), ball)
    return total / np.maximum(count, 1), count == ball.sum()


def _convolved(values: Floats, ball: Floats) -> Floats:
    """Sum over the ball around each voxel (scipy.signal takes seconds to import)."""
    whole = [n + m - 1 for n, m in zip(values.shape, ball.shape, strict=True)]
    fast = [fft.next_fast_len(n, real=True) for n in whole]
    product = fft.rfftn(values, fast) * fft.rfftn(ball, fast)
    near = zip(values.shape, ball.shape, strict=True)
    inner = tuple(slice((m - 1) // 2, (m - 1) // 2 + n) for n, m in near)
    found: Floats = fft.irfftn(product, fast)[inner]
    return found


# --- blur -----------------------------------------------------------------------------


def recovery(diameter_mm: float, fwhm_mm: float = FWHM_MM) -> float:
    """Share of its uptake that a uniform sphere in a cold background shows at center.

    Parameters
    ----------
    diameter_mm : float, mm
        Of the sphere.
    fwhm_mm : float, mm
        Full width at half maximum of the PET's Gaussian blur.

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> [round(recovery(d), 2) for d in (8, 10, 15, 20)]
    [0.52, 0.72, 0.97, 1.0]
    """
    r = diameter_mm / 2 / (fwhm_mm / math.sqrt(8 * math.log(2)))
    lost = math.sqrt(2 / math.pi) * r * math.exp(-r * r / 2)
    return float(special.erf(r / math.sqrt(2))) - lost


def blur_notes(
    labels: Labels, n: int, spacing: Spacing, *, fwhm_mm: float = FWHM_MM
) -> list[str]:
    """Say what the PET's blur makes of a tumor and its habitats.

    Parameters
    ----------
    labels : integer array of shape (z, y, x)
        0 outside the tumor, habitats 1..n.
    n : int
        Number of habitats; below 2 only the tumor is looked at.
    spacing : sequence of float, mm
        Voxel size (z, y, x).
    fwhm_mm : float, mm
        Full width at half maximum of the PET's blur.

    Returns
    -------
    list of str
        A sentence for a tumor that a sphere of its volume is less than 3 FWHM or 20 mm
        wide, and one for all habitats that are nowhere as thick as one FWHM (diameter
        of the largest ball in them).

    Examples
    --------
    >>> blur_notes(np.ones((4, 4, 4), int), 1, (2, 2, 2))[0][:41]
    "a sphere of the tumor's volume is 10 mm w"
    """
    notes = []
    volume = np.count_nonzero(labels) * math.prod(spacing)
    width = (6 * volume / math.pi) ** (1 / 3)
    limit = max(3 * fwhm_mm, SMALL_MM)
    if 0 < width < limit:
        notes.append(
            f"a sphere of the tumor's volume is {width:.0f} mm wide, below {limit:g} mm"
            f": at a blur of {fwhm_mm:g} mm (FWHM) PET shows "
            f"{100 * recovery(width, fwhm_mm):.0f}% of its uptake at the center, less"
            " towards the rim"
        )
    thin = []
    for i, box in enumerate(ndimage.find_objects(labels) if n > 1 else [], 1):
        if box is not None:
            thick = _thickness(labels[box] == i, spacing, fwhm_mm)
            if thick < fwhm_mm:
                thin.append(f"h{i} ({thick:.1f} mm)")
    if thin:
        notes.append(
            f"thinner than the blur of PET ({fwhm_mm:g} mm FWHM), so that their SUV is"
            f" partly that of their neighbors: {', '.join(thin)}"
        )
    return notes


def _thickness(mask: npt.NDArray[np.bool_], spacing: Spacing, enough: float) -> float:
    """Diameter of the largest ball in a region, mm; any number from `enough` on.

    Its center is sought among the centers, edges and corners of voxels: with centers
    alone a layer of two voxels would seem to be as thin as one.
    """
    least = 2 * float(depth_mm(mask, spacing).max())
    if least >= enough:
        return least
    halves = mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    corners = ndimage.minimum_filter(np.pad(halves, 1), 2)
    depth = ndimage.distance_transform_edt(corners, np.asarray(spacing) / 2)
    return 2 * float(depth.max())

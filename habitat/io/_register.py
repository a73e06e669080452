"""Bringing an image of one tumor onto another by what they show (SimpleITK)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import SimpleITK as sitk

from habitat._check import at_least, one_of, warn
from habitat.errors import GeometryError, HabitatError, InputError, raise_all
from habitat.geometry import Geometry, bounding_box
from habitat.image import Image
from habitat.io._grids import (
    ORDERS,
    clip_hu,
    coverage,
    sample,
)
from habitat.io._masks import read_mask
from habitat.io._sources import ImageLike, MaskLike, read
from habitat.io._warp import itk_image, itk_mask, warp, without_gaps

TRANSFORMS = ("rigid", "affine", "bspline")
JACOBIAN = (0.5, 2.0)  # tissue that shrinks or grows more is not the same tissue
_OVERLAP = 0.98  # share of the tumor that must lie in both images
_WORK_MM = 2.0  # isotropic voxels on which the metric is computed
_LEVELS = ((4, 4.0), (2, 2.0), (1, 1.0))  # shrink factor, Gaussian sd in mm
_CONTROL_MM = 30.0
_SAMPLES = 40_000
_SEED = 1
_BEYOND_MM = 20.0  # of the moving image, around what is compared
_LOST = 0.9  # NCC below which an image that cannot be moved to a better place is told
_Masks: TypeAlias = "tuple[sitk.Image, sitk.Image]"  # fixed, moving; 1 where compared
_NCC_DROP = 0.02
_FEWEST = 4  # voxels along each axis that smoothing and interpolation need


@dataclass(frozen=True, eq=False)
class Registration:
    """An image in the position of another, and how it was brought there.

    Parameters
    ----------
    image : Image, float32
        The moving image on the grid of the fixed one, in its own unit; NaN outside its
        field of view.
    report : dict
        Plain JSON: `transform` (kind, matrix or parameters, LPS mm), `kept` (the kind
        that agrees best: the one asked for, "rigid", or "none" for the given position),
        `ncc_before`, `ncc_after`, `shift_mm` and `shift_xyz_mm` of the tumor,
        `dice_before` and `dice_after` (None without `moving_mask`), `jacobian` (lowest,
        highest), `metric_before`, `metric_after` (negative mutual information),
        `iterations`, `stop`, `region_mm`, `notes`.
    transform : SimpleITK.Transform
        From points of the fixed image to points of the moving one.
    """

    image: Image
    report: dict[str, Any]
    transform: sitk.Transform

    def apply(self, image: ImageLike, *, interpolation: str | None = None) -> Image:
        """Bring another image in the moving image's position onto the same grid.

        Parameters
        ----------
        image : image-like
            An Image with a boolean array is a mask (linear interpolation >= 0.5).
        interpolation : {"linear", "cubic", "nearest"}, optional
            By default by content as in `resample`; "nearest" for other labels.

        Returns
        -------
        Image
            On the fixed image's grid, NaN (labels: 0) where `image` does not reach.
        """
        if interpolation is not None:
            one_of("interpolation", interpolation, ORDERS)
        other, clipped = clip_hu(read(image))
        out = warp(other, self.transform, self.image.geometry, interpolation)
        return out.replace(out.array, notes=clipped)


def register(
    moving: ImageLike,
    fixed: ImageLike,
    mask: MaskLike,
    *,
    transform: str = "rigid",
    margin_mm: float = 30.0,
    moving_mask: MaskLike | None = None,
    label: int | str | None = None,
) -> Registration:
    """Bring an image onto another by the tumor and what lies around it.

    Parameters
    ----------
    moving, fixed : path, SimpleITK.Image or Image
        The image to move, and the one that stays. Grids may differ.
    mask : mask-like
        The tumor in the fixed image.
    transform : {"rigid", "affine", "bspline"}
        Affine and B-spline start from rigid. B-spline: control points every 30 mm.
    margin_mm : float, mm
        Only the tumor's box and this much around it are compared.
    moving_mask : mask-like, optional
        The tumor in the moving image, only to report the overlap.
    label : int or str, optional
        Value or name of the structure in the masks.

    Returns
    -------
    Registration
        With `image`, `report` and `apply`.

    Raises
    ------
    GeometryError
        If less than 98 % of the tumor lies in an image, an image has fewer than 4
        voxels along an axis there, or the transform shrinks or grows a part of the
        region by more than 2 (Jacobian determinant outside 0.5 to 2).
    InputError
        If an image is constant in the region.

    Warns
    -----
    HabitatWarning
        If the images correlate less than before, by more than 0.02, or no position is
        better than the given one, where they correlate by less than 0.9: look at them.

    Notes
    -----
    Mattes mutual information with 50 bins on 2-mm voxels, at shrink factors 4, 2 and 1,
    random samples of a fixed seed, one thread: the same images give the same numbers on
    any number of cores. Where the mutual information is not better than after rigid
    registration, or in the given position, that is kept; report and notes say so.
    Padding (HU of -1024 and less, NaN) is not compared, and values beyond the 0.1st and
    99.9th percentile count as these. One resampling (HU: clipped to [-1024, 3071],
    cubic B-spline, rounded; all else linear), after a Gaussian as `resample` uses it
    where the fixed voxels are larger.
    Source: Mattes et al., IEEE TMI 2003;22:120; margin and bounds of the Jacobian
    are those usual for multi-phase CT.

    Examples
    --------
    >>> import habitat
    >>> from habitat.io._register import register
    >>> p = habitat.phantom("ct_phases", motion=(3, 2), margin_mm=20)
    >>> found = register(p.phases["arterial"], p.phases["venous"], p.mask)
    >>> found.report["kept"], 2 < found.report["shift_mm"] < 4
    ('rigid', True)
    """
    kind = one_of("transform", transform, TRANSFORMS)
    margin = at_least("margin_mm", margin_mm, 0)
    still, other = read(fixed), read(moving)
    tumor = read_mask(mask, label=label, reference=[still])
    tumor = tumor.crop(bounding_box(tumor.array))
    part, near = _region(still, other, tumor, margin)
    matched = _match(part, near, tumor, kind)
    report = {"region_mm": _extent_mm(part.geometry), **matched.report}
    report |= _agreement(part, near, matched.transform)
    report |= _shift(tumor, matched.transform)
    report |= {"dice_before": None, "dice_after": None}
    if moving_mask is not None:
        second = read_mask(moving_mask, label=label, reference=[other])
        report["dice_before"] = _dice(tumor, second, sitk.Transform(3, 1), still)
        report["dice_after"] = _dice(tumor, second, matched.transform, still)
    notes = _notes(kind, report)
    report["notes"] = list(notes)
    other, clipped = clip_hu(other)
    out = warp(other, matched.transform, still.geometry)
    out = out.replace(out.array, notes=[*clipped, *notes])
    return Registration(out, report, matched.transform)


def _region(
    still: Image, other: Image, tumor: Image, margin: float
) -> tuple[Image, Image]:
    """Parts of both images that are compared; raise all that forbids it."""
    problems: list[HabitatError] = []
    points = tumor.geometry.world(np.argwhere(tumor.array))
    for name, image in (("fixed", still), ("moving", other)):
        index = image.geometry.index(points)
        seen = (index > -0.5) & (index < np.array(image.geometry.shape) - 0.5)
        share = float(seen.all(axis=1).mean())
        if share < _OVERLAP:
            what = f"{100 * share:.0f} % of the tumor lies in the {name} image"
            fix = "check that both show the same tumor in one frame of reference"
            problems.append(GeometryError(what, name, fix))
    raise_all(problems)
    for name, image in (("fixed", still), ("moving", other)):
        box = image.geometry.box_around(tumor.geometry, margin)
        assert box is not None  # the tumor lies in both
        part = image.crop(box)
        problems += _unusable(name, part)
        if name == "fixed":
            region = part
    raise_all(problems)
    box = other.geometry.box_around(region.geometry, _BEYOND_MM)
    assert box is not None
    return _comparable(region), _comparable(other.crop(box))


def _comparable(part: Image) -> Image:
    """Without padding (NaN) and with rare extremes clipped.

    Padding stays with the scanner and would hold the images where they are; a few
    extreme voxels would leave the others one bin of the histogram.
    """
    values = part.array.astype(np.float32)
    if part.unit == "HU":
        values[values <= -1024] = np.nan
    low, high = np.nanpercentile(values, (0.1, 99.9))
    return part.replace(np.clip(values, low, high) if low < high else values)


def _unusable(name: str, part: Image) -> list[HabitatError]:
    if min(part.geometry.shape) < _FEWEST:
        what = f"has {part.geometry.shape} voxels (z, y, x) around the tumor"
        fix = f"at least {_FEWEST} along each axis are needed: widen margin_mm"
        return [GeometryError(what, name, fix)]
    values = _comparable(part).array if np.isfinite(part.array).any() else part.array
    values = values[np.isfinite(values)]
    if values.size and values.min() < values.max():
        return []
    what = "is constant around the tumor: nothing in it says where it is"
    fix = "check the image, or leave it where it is (register='none' in maps)"
    return [InputError(what, name, fix)]


# --- matching -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Matched:
    transform: sitk.Transform
    report: dict[str, Any]


def _match(part: Image, other: Image, tumor: Image, kind: str) -> _Matched:
    """Find the transform, and what the optimizer says of it."""
    side = max(_WORK_MM, min(part.geometry.spacing))
    grid = part.geometry.resampled((side, side, side))
    filled = without_gaps(part)
    fixed = itk_image(filled.replace(sample(filled, grid, "linear").array, grid))
    seen = sample(Image(np.isfinite(part.array) * 1.0, part.geometry), grid, "linear")
    masks = (
        itk_mask(Image(seen.array > 0.5, grid)),
        itk_mask(Image(np.isfinite(other.array), other.geometry)),
    )
    moving = itk_image(without_gaps(other))
    center = tumor.geometry.world(np.argwhere(tumor.array).mean(axis=0))
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(center.tolist())
    try:
        found, method = _optimized(fixed, moving, masks, rigid, kind)
        tried = {"none": sitk.Euler3DTransform(), "rigid": rigid, kind: found}
        metric = {
            name: _method(fixed, masks, one).MetricEvaluate(fixed, moving)
            for name, one in tried.items()
        }
    except RuntimeError as error:
        what = f"the images could not be registered ({str(error).splitlines()[-1]})"
        fix = "check that they overlap and show the same part of the body"
        raise GeometryError(what, "register", fix) from error
    low, high = _jacobian(found, fixed)
    if low < JACOBIAN[0] or high > JACOBIAN[1]:
        what = f"Jacobian determinant is {low:.3g} to {high:.3g}, not in 0.5 to 2"
        raise GeometryError(what, "register", 'use transform="rigid"')
    kept = min(metric, key=metric.__getitem__)  # the simplest of equals
    if kept != kind:
        found, low, high = tried[kept], 1.0, 1.0
    report = {
        "transform": _described(found, kept),
        "kept": kept,
        "metric_before": round(metric["none"], 9),
        "metric_after": round(metric[kept], 9),
        "jacobian": [round(low, 6), round(high, 6)],
        "iterations": int(method.GetOptimizerIteration()),
        "stop": method.GetOptimizerStopConditionDescription(),
    }
    return _Matched(found, report)


def _optimized(
    fixed: sitk.Image,
    moving: sitk.Image,
    masks: _Masks,
    rigid: sitk.Euler3DTransform,
    kind: str,
) -> tuple[sitk.Transform, sitk.ImageRegistrationMethod]:
    method = _stepping(fixed, masks, rigid)
    method.Execute(fixed, moving)
    if kind == "rigid":
        return rigid, method
    if kind == "affine":
        affine = sitk.AffineTransform(3)
        affine.SetCenter(rigid.GetCenter())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        method = _stepping(fixed, masks, affine)
        method.Execute(fixed, moving)
        return affine, method
    extent = np.multiply(fixed.GetSize(), fixed.GetSpacing())
    meshes = [max(1, round(e / _CONTROL_MM)) for e in extent.tolist()]
    bending = sitk.BSplineTransformInitializer(fixed, meshes, 3)
    method = _method(fixed, masks, bending)
    method.SetMovingInitialTransform(rigid)
    method.SetShrinkFactorsPerLevel([2])  # finer adds nothing at 30 mm, and minutes
    method.SetSmoothingSigmasPerLevel([2.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-5,
        numberOfIterations=20,
        maximumNumberOfCorrections=5,
        maximumNumberOfFunctionEvaluations=30,
        costFunctionConvergenceFactor=1e10,
    )
    method.Execute(fixed, moving)
    return sitk.CompositeTransform([rigid, bending]), method  # the last acts first


def _stepping(
    fixed: sitk.Image, masks: _Masks, transform: sitk.Transform
) -> sitk.ImageRegistrationMethod:
    method = _method(fixed, masks, transform)
    _pyramid(method, fixed)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=150, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def _method(
    fixed: sitk.Image, masks: _Masks, transform: sitk.Transform
) -> sitk.ImageRegistrationMethod:
    """Mutual information at full resolution, on one thread."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    share = min(1.0, _SAMPLES / fixed.GetNumberOfPixels())
    method.SetMetricSamplingStrategy(method.RANDOM if share < 1 else method.NONE)
    method.SetMetricSamplingPercentage(share, _SEED)
    method.SetMetricFixedMask(masks[0])
    method.SetMetricMovingMask(masks[1])
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _pyramid(method: sitk.ImageRegistrationMethod, fixed: sitk.Image) -> None:
    least = min(fixed.GetSize())
    levels = [(f, s) for f, s in _LEVELS if least >= 8 * f]
    levels = levels or [_LEVELS[-1]]
    method.SetShrinkFactorsPerLevel([f for f, _ in levels])
    method.SetSmoothingSigmasPerLevel([s for _, s in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    share = min(1.0, _SAMPLES / fixed.GetNumberOfPixels())
    shares = [min(1.0, share * f**3) for f, _ in levels]
    if share < 1:
        method.SetMetricSamplingPercentagePerLevel(shares, _SEED)


def _jacobian(transform: sitk.Transform, fixed: sitk.Image) -> tuple[float, float]:
    """Lowest and highest determinant of the Jacobian in the region."""
    if isinstance(transform, sitk.CompositeTransform):
        field = sitk.TransformToDisplacementField(
            transform,
            sitk.sitkVectorFloat64,
            fixed.GetSize(),
            fixed.GetOrigin(),
            fixed.GetSpacing(),
            fixed.GetDirection(),
        )
        values = sitk.GetArrayFromImage(
            sitk.DisplacementFieldJacobianDeterminant(field)
        )
        return float(values.min()), float(values.max())
    one = float(np.linalg.det(np.reshape(transform.GetMatrix(), (3, 3))))
    return one, one


def _described(transform: sitk.Transform, kind: str) -> dict[str, Any]:
    """Describe the transform as plain JSON."""
    bending = None
    linear = transform
    if isinstance(transform, sitk.CompositeTransform):
        linear, bending = transform.GetNthTransform(0), transform.GetNthTransform(1)
    corner = np.array(linear.TransformPoint((0.0, 0.0, 0.0)))
    columns = [
        np.subtract(linear.TransformPoint(e), corner) for e in np.eye(3).tolist()
    ]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.transpose(columns), corner
    cosine = (np.trace(affine[:3, :3]) - 1) / 2
    out: dict[str, Any] = {"kind": kind, "matrix": affine.round(9).tolist()}
    if kind != "affine":
        out["turn_degrees"] = round(math.degrees(math.acos(min(cosine, 1.0))), 6)
    if bending is not None:
        out["control_grid"] = list(bending.GetFixedParameters())
        out["coefficients_mm"] = list(bending.GetParameters())
    return out


# --- report ---------------------------------------------------------------------------


def _agreement(part: Image, other: Image, transform: sitk.Transform) -> dict[str, Any]:
    """Normalized cross-correlation in the region, before and after."""
    out = {}
    for name, how in (("before", sitk.Transform(3, 1)), ("after", transform)):
        values = warp(other, how, part.geometry).array
        good = np.isfinite(values) & np.isfinite(part.array)
        ncc = np.corrcoef(values[good], part.array[good])[0, 1]
        out[f"ncc_{name}"] = round(float(ncc), 6)
    return out


def _shift(tumor: Image, transform: sitk.Transform) -> dict[str, Any]:
    """How far the tumor's centroid lies off in the moving image."""
    points = tumor.geometry.world(np.argwhere(tumor.array))
    points = points[:: max(1, len(points) // 2000)]
    moved = np.array([transform.TransformPoint(p) for p in points.tolist()])
    shift = (moved - points).mean(axis=0)
    length = round(float(np.linalg.norm(shift)), 6)
    return {"shift_mm": length, "shift_xyz_mm": shift.round(6).tolist()}


def _dice(
    tumor: Image, second: Image, transform: sitk.Transform, still: Image
) -> float:
    first = coverage(tumor, still.geometry) >= 0.5 - 1e-9
    moved = warp(second, transform, still.geometry).array
    both = int(np.count_nonzero(first & moved))
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(moved))
    return round(2 * both / max(total, 1), 6)


def _notes(kind: str, report: dict[str, Any]) -> list[str]:
    numbers = f"NCC {report['ncc_before']:.3f} to {report['ncc_after']:.3f}"
    kept = report["kept"]
    if kept == "none":
        text = "registration found no better position: the image stays where it was"
        text = f"{text} (NCC {report['ncc_before']:.3f})"
        return [warn(text) if report["ncc_before"] < _LOST else text]
    how = kind if kept == kind else f"{kept}, {kind} was no better"
    text = f"registered ({how}), tumor moved {report['shift_mm']:.2f} mm, {numbers}"
    if report["ncc_after"] < report["ncc_before"] - _NCC_DROP:
        text = warn(f"{text}: less alike than before, look at the images")
    return [text]


def _extent_mm(grid: Geometry) -> list[float]:
    extent = np.multiply(grid.shape, grid.spacing)
    return [round(float(e), 3) for e in extent]

"""Filters that SimpleITK computes, called as pyradiomics calls them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk

from habitat.geometry import Floats


def laplacian_of_gaussian(
    values: Floats, spacing: Sequence[float], sigma_mm: float
) -> Floats:
    """Scale-normalized Laplacian of Gaussian (recursive, in single precision).

    Parameters
    ----------
    values : (z, y, x) array
        At least four voxels along each axis; what lies outside is its edge repeated.
    spacing : 3 numbers, mm, zyx
        Voxel size.
    sigma_mm : float
        Standard deviation of the Gaussian.

    Returns
    -------
    (z, y, x) array
        Numbers of single precision in double.

    Notes
    -----
    Source: Deriche 1993, "Recursively implementing the Gaussian and its derivatives",
    as ITK's ``LaplacianRecursiveGaussianImageFilter`` does it.

    Examples
    --------
    >>> ramp = np.arange(8.0)[:, None, None] * np.ones((8, 8, 8))
    >>> bool(abs(laplacian_of_gaussian(ramp, (1, 1, 1), 1.0)[4, 4, 4]) < 1e-2)
    True
    """
    image = _image(values, spacing)
    return _array(
        sitk.LaplacianRecursiveGaussian(
            image, sigma=sigma_mm, normalizeAcrossScale=True
        )
    )


def gradient_magnitude(values: Floats, spacing: Sequence[float]) -> Floats:
    """Length of the gradient by central differences, per mm.

    Parameters
    ----------
    values : (z, y, x) array
        What lies outside is its edge repeated.
    spacing : 3 numbers, mm, zyx
        Voxel size.

    Returns
    -------
    (z, y, x) array
        Numbers of single precision in double.

    Notes
    -----
    Source: ITK's ``GradientMagnitudeImageFilter``.

    Examples
    --------
    >>> ramp = np.arange(8.0)[:, None, None] * np.ones((8, 8, 8))
    >>> float(gradient_magnitude(ramp, (2, 1, 1))[4, 4, 4])
    0.5
    """
    return _array(sitk.GradientMagnitude(_image(values, spacing), useImageSpacing=True))


def _image(values: Floats, spacing: Sequence[float]) -> Any:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing([float(s) for s in spacing[::-1]])
    return image


def _array(image: Any) -> Floats:
    values: Floats = sitk.GetArrayViewFromImage(image).astype(np.float64)
    return values

"""What all maps share: their part of the image around the tumor, and their making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.geometry import Geometry
from habitat.image import Image
from habitat.voxels import tumor_on

Mask = npt.NDArray[np.bool_]


def around_tumor(mask: Image, geometry: Geometry) -> tuple[Geometry, Mask]:
    """Part of a grid that holds the tumor and 10 mm around it, and the tumor in it.

    A voxel belongs to the tumor if the mask covers at least half of it.

    Raises
    ------
    MaskError
        If the mask covers no voxel of the grid.
    """
    box, tumor = tumor_on(mask, geometry)
    return geometry.crop(box), tumor


def as_map(
    values: npt.ArrayLike,
    geometry: Geometry,
    how: Mapping[str, Any],
    *,
    unit: str | None = None,
    notes: Sequence[str] = (),
) -> Image:
    """Make a map: float32, NaN where it has no value, its making in ``meta["map"]``.

    Parameters
    ----------
    values : array of shape (z, y, x)
        NaN where there is no value.
    geometry : Geometry
        Their grid.
    how : mapping
        The function and all its parameters, as plain JSON.
    unit : str, optional
        Unit of the values.
    notes : sequence of str
        What a reader of the map must know.
    """
    with np.errstate(over="ignore"):
        array = np.asarray(values, dtype=np.float32)
    if np.isinf(array).any():
        array = np.where(np.isinf(array), np.float32(np.nan), array)
    return Image(array, geometry, unit=unit, notes=notes, meta={"map": dict(how)})

"""An image: numbers on a grid, with their unit and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat.errors import GeometryError, InputError
from habitat.geometry import Box, Geometry


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Image:
    """A three-dimensional image with its geometry and unit.

    Parameters
    ----------
    array : array of shape (z, y, x)
        Voxel values; kept read-only and without a copy where possible.
    geometry : Geometry, optional
        The grid. Exactly one of `geometry` and `spacing` is given.
    spacing : sequence of float, mm, optional
        Voxel size along (z, y, x) of an axis-aligned grid at the origin.
    unit : str, optional
        "SUVbw", "SUVlbm", "SUVbsa", "Bq/mL", "HU" or any other text.
    source : mapping, optional
        ``{"path": ..., "sha256": ...}`` of the file it was read from.
    notes : sequence of str, optional
        What a reader of the numbers must know.
    meta : mapping, optional
        Plain JSON facts from the header (SUV factors, frame of reference, ...).

    Raises
    ------
    InputError
        If the array is not three-dimensional or not numeric.
    GeometryError
        If the grid is missing, given twice, or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from habitat import Image
    >>> Image(np.zeros((4, 5, 6)), spacing=(3, 2, 2), unit="SUVbw")
    Image 4x5x6 voxels of 3x2x2 mm (z, y, x), SUVbw, float64
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    unit: str | None
    source: Mapping[str, str] | None
    notes: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __init__(
        self,
        array: npt.ArrayLike,
        geometry: Geometry | None = None,
        *,
        spacing: Sequence[float] | None = None,
        unit: str | None = None,
        source: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        values = np.asarray(array).view()
        if values.ndim != 3:
            what = f"must have three axes (z, y, x), got shape {values.shape}"
            fix = "add an axis for a single slice: array[None]"
            raise InputError(what, "array", fix if values.ndim == 2 else "")
        if values.dtype.kind not in "biuf":
            raise InputError(f"must be real numbers, got {values.dtype}", "array")
        if (geometry is None) == (spacing is None):
            what = "give exactly one of `geometry` and `spacing`"
            raise GeometryError(what, "Image")
        if geometry is None:
            assert spacing is not None
            geometry = Geometry.from_spacing(values.shape, spacing)
        if geometry.shape != values.shape:
            what = f"array has shape {values.shape} but geometry {geometry.shape}"
            raise GeometryError(what, "Image")
        values.flags.writeable = False
        state = {
            "array": values,
            "geometry": geometry,
            "unit": unit,
            "source": dict(source) if source else None,
            "notes": tuple(notes),
            "meta": dict(meta or {}),
        }
        self.__setstate__(state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.array.flags.writeable = False

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.geometry.shape))
        spacing = "x".join(f"{s:g}" for s in np.round(self.geometry.spacing, 3))
        unit = self.unit or "no unit"
        head = f"Image {shape} voxels of {spacing} mm (z, y, x)"
        return f"{head}, {unit}, {self.array.dtype}"

    @property
    def is_map(self) -> bool:
        """Whether it was computed (`habitat.maps`): NaN is "no value", not damage."""
        return "map" in self.meta

    def crop(self, box: Box) -> Image:
        """Return the part inside a box of slices, without copying voxels.

        Examples
        --------
        >>> import numpy as np
        >>> image = Image(np.zeros((4, 5, 6)), spacing=(3, 2, 2))
        >>> image.crop((slice(1, 3), slice(0, 5), slice(2, 6))).array.shape
        (2, 5, 4)
        """
        return self.replace(self.array[box], self.geometry.crop(box))

    def replace(
        self,
        array: npt.ArrayLike,
        geometry: Geometry | None = None,
        *,
        unit: str | None = None,
        notes: Sequence[str] = (),
    ) -> Image:
        """Return an image of other voxels that keeps this one's source and notes.

        Parameters
        ----------
        array : array of shape (z, y, x)
            The new voxels.
        geometry : Geometry, optional
            Their grid; this image's by default.
        unit : str, optional
            Their unit; this image's by default.
        notes : sequence of str
            Notes to add.

        Examples
        --------
        >>> import numpy as np
        >>> image = Image(np.ones((4, 5, 6)), spacing=(3, 2, 2))
        >>> image.replace(image.array * 2, unit="SUVbw").unit
        'SUVbw'
        """
        return Image(
            array,
            geometry or self.geometry,
            unit=unit or self.unit,
            source=self.source,
            notes=(*self.notes, *notes),
            meta=self.meta,
        )

"""Channels and labels of a patient, upright and in colors; no drawing here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from habitat.errors import ConfigError, GeometryError, MaskError
from habitat.geometry import Box, bounding_box, grow
from habitat.image import Image
from habitat.plotting._layout import Bar, Panel, Pixels
from habitat.plotting._views import PLANES, Upright, cut, largest_section, upright

Window = tuple[float, float]

WINDOWS: dict[str, Window] = {"HU": (-160.0, 240.0)}  # soft tissue
_HOTTEST, _VEIL = 0.75, 0.7  # of the color scale "hot"; of PET over CT at the maximum
IMAGE, PET = "image", "pet"  # channels of `overlay` and `mosaic`
_STEPS, _GROUNDS = 256, 32  # of a color bar


@dataclass(frozen=True, eq=False)
class Pictures:
    """Channels and labels, cropped and upright, and where to cut them."""

    arrays: dict[str, npt.NDArray[Any]]
    images: Mapping[str, Image]
    labels: npt.NDArray[Any]
    turn: Upright
    positions: dict[str, int]

    @classmethod
    def of(
        cls,
        images: Mapping[str, Image],
        labels: Image,
        at: Sequence[float] | None,
        margin_mm: float,
    ) -> Pictures:
        """Check, crop and turn; the channel "pet" may have its own grid."""
        if not images:
            raise ConfigError("has no channel", "`images`")
        for channel, image in images.items():
            if channel != PET and not image.geometry.same_as(labels.geometry):
                what = f"grid differs from the labels': {image.geometry.shape} voxels"
                what += f" of {image.geometry.spacing} mm (z, y, x), not "
                what += f"{labels.geometry.shape} of {labels.geometry.spacing}"
                fix = "bring the labels there first: result.on(image)"
                raise GeometryError(what, f"`{channel}`", fix)
        if labels.array.min() < 0 or np.any(labels.array % 1):
            what, fix = "must be whole numbers", "bring labels by result.on(image)"
            raise MaskError(what, "`labels`", fix)
        if not (labels.array > 0).any():
            raise MaskError("no voxel is > 0", "`labels`")
        box = _around(labels, margin_mm)
        turn = upright(labels.geometry.crop(box))
        turned = turn.turn(labels.array[box])
        return cls(
            arrays={c: turn.turn(_part(i, labels, box)) for c, i in images.items()},
            images=images,
            labels=turned,
            turn=turn,
            positions=_positions(turned > 0, turn, at),
        )

    def unit(self, channel: str) -> str:
        """Unit of an acquired image: a map in HU is no CT."""
        image = self.images[channel]
        return "" if image.is_map else image.unit or ""

    def window(self, channel: str, window: Window | None) -> Window:
        """Values shown at the two ends of the gray scale."""
        unit = self.unit(channel)
        if window is None and unit in WINDOWS:
            return WINDOWS[unit]
        if window is None:
            values = self.arrays[channel][self.labels > 0].astype(np.float64)
            window = _window_from(values[np.isfinite(values)], unit.startswith("SUV"))
        low, high = (float(v) for v in window)
        if not low < high:
            raise ConfigError(f"must be (low, high), got {window}", "`window`")
        return low, high

    def scaled(self, channel: str, window: Window | None) -> Pixels:
        """Values from 0 (low end of the window) to 1."""
        low, high = self.window(channel, window)
        values = np.nan_to_num(self.arrays[channel].astype(np.float64), nan=low)
        return np.clip((values - low) / (high - low), 0, 1)

    def gray(self, channel: str, window: Window | None) -> Pixels:
        """Gray, PET dark on white; shape (z, y, x, 3)."""
        return self._in_gray(channel, self.scaled(channel, window))

    def gray_bar(self, channel: str, window: Window | None) -> Bar:
        """Color bar of `gray`."""
        pixels = self._in_gray(channel, np.linspace(0, 1, _STEPS)[None])
        return Bar(pixels, *self.window(channel, window), self.title(channel))

    def _in_gray(self, channel: str, values: Pixels) -> Pixels:
        if self.unit(channel).startswith("SUV"):
            values = 1 - values
        return np.repeat(values[..., None], 3, axis=-1)

    def washed(
        self, channel: str, hot: str, window: Window | None, hot_window: Window | None
    ) -> tuple[Pixels, Bar]:
        """Return a channel in gray under another in color, and the color bar."""
        gray = self.gray(channel, window)
        pixels = _wash(gray, self.scaled(hot, hot_window))
        ground = np.repeat(np.linspace(1, 0, _GROUNDS)[:, None, None], 3, axis=-1)
        colors = _wash(ground, np.linspace(0, 1, _STEPS)[None])
        title = f"{self.title(hot)} over {self.head(channel, window)}"
        return pixels, Bar(colors, *self.window(hot, hot_window), title)

    def pair(self) -> tuple[str, str] | None:
        """Return the CT and the PET, if both are there."""
        hot = [c for c in self.images if self.unit(c).startswith("SUV")]
        ground = [c for c in self.images if self.unit(c) == "HU"]
        return (ground[0], hot[0]) if hot and ground else None

    def title(self, channel: str) -> str:
        """Name and unit."""
        unit = self.images[channel].unit or ""
        name = channel
        if channel in (IMAGE, PET, unit):  # it has no name of its own
            name = "CT" if self.unit(channel) == "HU" else channel
            name = "PET" if self.unit(channel).startswith("SUV") else name
        return f"{name} {unit}" if unit and unit != name else name

    def head(self, channel: str, window: Window | None) -> str:
        """Name, unit and window."""
        values = "{:.3g} to {:.3g}".format(*self.window(channel, window))
        values = values.replace("-", "\N{MINUS SIGN}")
        if self.images[channel].is_map:  # their names are long
            unit = self.images[channel].unit or ""
            return f"{channel}\n{unit} {values}".replace("\n ", "\n")
        return f"{self.title(channel)} {values}"

    def panel(
        self,
        pixels: Pixels,
        plane: str,
        labeled: bool = True,
        *,
        fill: bool = False,
        noted: bool = True,
        position: int | None = None,
    ) -> Panel:
        """Cut one plane."""
        position = self.positions[plane] if position is None else position
        down, across = (
            s for i, s in enumerate(self.turn.spacing) if i != PLANES[plane][0]
        )
        section = cut(self.labels, plane, position)
        return Panel(
            pixels=cut(pixels, plane, position),
            step=(down, across),
            letters=PLANES[plane][2],
            labels=section if labeled else None,
            note=self.turn.place(plane, position) if noted else "",
            fill=fill,
        )


def _wash(gray: Pixels, values: Pixels) -> Pixels:
    """Color that covers the gray more the higher the value."""
    weight = (_VEIL * values)[..., None]
    return gray * (1 - weight) + colormaps["hot"](values * _HOTTEST)[..., :3] * weight


def _part(image: Image, labels: Image, box: Box) -> npt.NDArray[Any]:
    """Voxels in the box; of another grid by interpolation, NaN outside the image."""
    if image.geometry.same_as(labels.geometry):
        return image.array[box]
    from habitat.io._grids import inside, resample

    grid = labels.geometry.crop(box)
    moved = resample(image, grid).array
    valid = inside(image.geometry, grid)
    return moved if valid is None else np.where(valid, moved, np.nan)


def _around(labels: Image, margin_mm: float) -> Box:
    shape = labels.geometry.shape
    if math.isinf(margin_mm):
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    margin = [math.ceil(margin_mm / s) for s in labels.geometry.spacing]
    return grow(bounding_box(labels.array > 0), margin, shape)


def _positions(
    inside: npt.NDArray[np.bool_], turn: Upright, at: Sequence[float] | None
) -> dict[str, int]:
    if at is None:
        return {plane: largest_section(inside, plane) for plane in PLANES}
    index = np.rint(turn.index(at)).astype(int)
    if (index < 0).any() or (index >= inside.shape).any():
        what = f"LPS point {tuple(float(v) for v in at)} is outside the picture"
        raise GeometryError(what, "`at`", "give a point in the tumor, in mm")
    return {plane: int(index[axis]) for plane, (axis, _, _) in PLANES.items()}


def _window_from(values: npt.NDArray[np.float64], suv: bool) -> Window:
    if values.size == 0:
        return 0.0, 1.0
    if suv:
        return 0.0, max(5.0, float(np.ceil(np.percentile(values, 99.5))))
    low, high = (float(v) for v in np.percentile(values, (1, 99)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)

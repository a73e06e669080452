"""What to show of images and habitats, as pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure

from habitat._check import at_least, one_of
from habitat.errors import ConfigError, GeometryError, MaskError
from habitat.geometry import Box, bounding_box, grow
from habitat.image import Image
from habitat.plotting._colors import habitat_colors
from habitat.plotting._layout import Panel, Pixels, draw
from habitat.plotting._views import PLANES, Upright, cut, largest_section, upright

Window = tuple[float, float]

WINDOWS: dict[str, Window] = {"HU": (-160.0, 240.0)}  # soft tissue
MOST = 4  # channels side by side
_HOTTEST, _VEIL = 0.75, 0.7  # of the color scale "hot"; of PET over CT at the maximum


def overlay(
    image: Image,
    labels: Image,
    *,
    planes: Sequence[str] = ("axial", "coronal", "sagittal"),
    at: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    window: Window | None = None,
    margin_mm: float = 20.0,
) -> Figure:
    """Draw the contours of habitats over an image.

    Parameters
    ----------
    image : Image
        What to show in gray.
    labels : Image
        Habitat numbers, 0 outside, on the grid of `image` (`HabitatResult.on` brings
        them there).
    planes : sequence of {"axial", "coronal", "sagittal"}
        Planes to show, side by side; those one voxel thick are left out.
    at : sequence of float, mm, optional
        LPS point (x, y, z) the planes go through; by default each plane is where most
        of it is labeled.
    names : sequence of str, optional
        Names of habitats 1, 2, ... for the legend.
    window : (float, float), optional
        Values shown darkest and brightest (PET: brightest and darkest); by default
        from the unit: -160 to 240 HU; SUV from 0 to the 99.5th percentile in the
        labels, at least 5; else the 1st to 99th percentile in the labels.
    margin_mm : float, mm
        What is shown around the labels.

    Returns
    -------
    matplotlib.figure.Figure
        In radiological convention: the patient's right on the left of the page.

    Raises
    ------
    GeometryError
        If the grids differ or `at` is outside the image.
    MaskError
        If nothing is labeled.
    ConfigError
        If an argument is outside its range.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> figure = habitat.overlay(p.ct, p.truth, planes=["axial"])
    >>> figure.savefig("habitats.png", dpi=300)  # doctest: +SKIP
    """
    margin = at_least("margin_mm", margin_mm, 0)
    pictures = _Pictures.of({"image": image}, labels, at, margin)
    gray = pictures.gray("image", window)
    shown = _shown(planes, pictures)
    panels = [pictures.panel(gray, plane, True) for plane in shown]
    return draw([panels], [p.capitalize() for p in shown], [""], _names(names, labels))


def plot_result(
    images: Mapping[str, Image],
    labels: Image,
    *,
    names: Sequence[str] | None = None,
    windows: Mapping[str, Window] | None = None,
    at: Sequence[float] | None = None,
) -> Figure:
    """Draw channels and habitats: axial, coronal and sagittal.

    Parameters
    ----------
    images : mapping of str to Image
        Channels, all on the grid of `labels`.
    labels : Image
        Habitat numbers, 0 outside.
    names : sequence of str, optional
        Names of habitats 1, 2, ... for the legend.
    windows : mapping of str to (float, float), optional
        Values shown darkest and brightest, per channel; see `overlay`.
    at : sequence of float, mm, optional
        LPS point (x, y, z) the planes go through.

    Returns
    -------
    matplotlib.figure.Figure
        One row a plane; one column a channel (the first 4, and how many more there are
        in the last title), and a last one with the habitats' contours: PET in color
        over CT where both are there, else the first channel.

    Raises
    ------
    GeometryError
        If the grids differ or `at` is outside them.
    MaskError
        If nothing is labeled.
    ConfigError
        If there is no channel, or more names or habitats than can be shown.
    """
    more = len(images) - MOST
    images = dict(list(images.items())[:MOST])
    pictures = _Pictures.of(images, labels, at, math.inf)
    chosen = dict(windows or {})
    grays = {c: pictures.gray(c, chosen.get(c)) for c in images}
    fused, title = pictures.fused(grays, chosen)
    heads = [_head(c, i, *pictures.window(c, chosen.get(c))) for c, i in images.items()]
    shown = _shown(tuple(PLANES), pictures)
    rows = [
        [
            *(pictures.panel(g, plane, False) for g in grays.values()),
            pictures.panel(fused, plane, True),
        ]
        for plane in shown
    ]
    if more > 0:
        title += f"\n({more} more channel{'s' if more > 1 else ''})"
    sides = [plane.capitalize() for plane in shown]
    return draw(rows, [*heads, title], sides, _names(names, labels))


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Channels and labels, cropped and upright, and where to cut them."""

    arrays: dict[str, npt.NDArray[Any]]
    units: dict[str, str | None]  # of acquired images: a map in HU is no CT
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
    ) -> _Pictures:
        """Check, crop and turn."""
        if not images:
            raise ConfigError("has no channel", "`images`")
        for channel, image in images.items():
            if not image.geometry.same_as(labels.geometry):
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
            arrays={c: turn.turn(i.array[box]) for c, i in images.items()},
            units={c: None if i.is_map else i.unit for c, i in images.items()},
            labels=turned,
            turn=turn,
            positions=_positions(turned > 0, turn, at),
        )

    def window(self, channel: str, window: Window | None) -> Window:
        """Values shown at the two ends of the gray scale."""
        unit = self.units[channel] or ""
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
        values = self.scaled(channel, window)
        if (self.units[channel] or "").startswith("SUV"):
            values = 1 - values
        return np.repeat(values[..., None], 3, axis=-1)

    def fused(
        self, grays: Mapping[str, Pixels], windows: Mapping[str, Window]
    ) -> tuple[Pixels, str]:
        """PET in color over CT; the first channel where one of them is missing."""
        hot = [c for c, u in self.units.items() if (u or "").startswith("SUV")]
        ground = [c for c, u in self.units.items() if u == "HU"]
        if not (hot and ground):
            return next(iter(grays.values())), "Habitats"
        values = self.scaled(hot[0], windows.get(hot[0]))
        color = colormaps["hot"](values * _HOTTEST)[..., :3]
        weight = (_VEIL * values)[..., None]
        return grays[ground[0]] * (1 - weight) + color * weight, "Fused, habitats"

    def panel(self, pixels: Pixels, plane: str, outlined: bool) -> Panel:
        """Cut one plane."""
        position = self.positions[plane]
        down, across = (
            s for i, s in enumerate(self.turn.spacing) if i != PLANES[plane][0]
        )
        section = cut(self.labels, plane, position)
        return Panel(
            pixels=cut(pixels, plane, position),
            step=(down, across),
            letters=PLANES[plane][2],
            labels=section if outlined else None,
        )


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


def _shown(planes: Sequence[str], pictures: _Pictures) -> list[str]:
    """Keep the planes that are more than one voxel high and wide, if there are any."""
    wanted = [one_of("planes", p, PLANES) for p in planes]
    thick = [
        p
        for p in wanted
        if min(cut(pictures.labels, p, pictures.positions[p]).shape) > 1
    ]
    return thick or wanted


def _names(names: Sequence[str] | None, labels: Image) -> list[str]:
    most = int(labels.array.max())
    out = [f"H{i + 1}" for i in range(most)] if names is None else list(names)
    if len(out) < most:
        raise ConfigError(f"has {len(out)} names for {most} habitats", "`names`")
    habitat_colors(len(out))
    return out


def _head(channel: str, image: Image, low: float, high: float) -> str:
    unit = image.unit or ""
    values = f"{low:.3g} to {high:.3g}".replace("-", "\N{MINUS SIGN}")
    if image.is_map:  # their names are long
        return f"{channel}\n{unit} {values}".replace("\n ", "\n")
    name = {"SUVbw": "PET", "HU": "CT"}.get(channel, channel)
    shown = f"{name} {unit}" if unit and unit != name else name
    return f"{shown} {values}"

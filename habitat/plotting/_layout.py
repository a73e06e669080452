"""Panels laid out at one scale, in inches."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from habitat.plotting._colors import habitat_colors
from habitat.plotting._views import edges

Pixels = npt.NDArray[np.float64]
Color = tuple[float, float, float]

_PANEL_IN = 1.8  # width of the widest panel, inches
_GAP_IN, _HEAD_IN, _SIDE_IN, _LINE_IN = 0.05, 0.22, 0.2, 0.14
_FONT, _CASING_PT = 8.0, 0.6
_LINE_PT = (0.8, 1.3)  # thinnest and thickest
_BARS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200)  # mm


class HabitatFigure(Figure):
    """A Figure outside pyplot's list that notebooks still show."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture: colors of its pixels, their size, and labels to outline."""

    pixels: Pixels  # (rows, columns, 3)
    step: tuple[float, float]  # mm
    letters: str  # left, right, top, bottom
    labels: npt.NDArray[Any] | None

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, mm."""
        rows, columns = self.pixels.shape[:2]
        return columns * self.step[1], rows * self.step[0]


def draw(
    rows: Sequence[Sequence[Panel]],
    heads: Sequence[str],
    sides: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Lay all panels out at one scale, in inches, with a legend below."""
    sizes = [p.size for row in rows for p in row]
    inch = _PANEL_IN / max(max(w for w, _ in sizes), max(h for _, h in sizes) / 1.5)
    column = max(max(w for w, _ in sizes) * inch, _PANEL_IN / 1.5)
    heights = [max(max(p.size[1] for p in row) * inch, 0.5) for row in rows]
    side = _SIDE_IN if any(sides) else _GAP_IN
    width = side + len(heads) * (column + _GAP_IN)
    fitting = max(1, int(width / (0.06 * max(map(len, names)) + 0.32)))
    lines = math.ceil(len(names) / fitting)
    head = _HEAD_IN + _LINE_IN * max(text.count("\n") for text in heads)
    height = head + sum(heights) + len(rows) * _GAP_IN + lines * _LINE_IN + 0.12
    figure = HabitatFigure(figsize=(width, height), dpi=200, facecolor="white")
    FigureCanvasAgg(figure)
    colors = habitat_colors(len(names))
    for j, text in enumerate(heads):
        x = side + j * (column + _GAP_IN) + column / 2
        y = height - head / 2
        figure.text(x / width, y / height, text, ha="center", va="center", size=_FONT)
    top = height - head
    for row, tall, text in zip(rows, heights, sides, strict=True):
        figure.text(
            side / 2 / width, (top - tall / 2) / height, text,
            ha="center", va="center", size=_FONT, rotation=90,
        )  # fmt: skip
        for j, panel in enumerate(row):
            w, h = (s * inch for s in panel.size)
            left = side + j * (column + _GAP_IN) + (column - w) / 2
            bottom = top - tall + (tall - h) / 2
            place = (left / width, bottom / height, w / width, h / height)
            _fill(figure.add_axes(place), panel, inch, colors)
        top -= tall + _GAP_IN
    _legend(figure, names, colors, math.ceil(len(names) / lines))
    return figure


def _fill(
    axes: Axes,
    panel: Panel,
    inch: float,
    colors: Sequence[Color],
) -> None:
    """Draw one panel; axes are in mm from its top left corner."""
    width, height = panel.size
    axes.imshow(panel.pixels, extent=(0, width, height, 0), interpolation="bicubic")
    axes.set_axis_off()
    if panel.labels is not None:
        _outlines(axes, panel.labels, panel.step, inch, colors)
    ink = _ink(panel.pixels)
    _letters(axes, panel.letters, ink)
    _scale_bar(axes, panel, inch, ink)


def _outlines(
    axes: Axes,
    labels: npt.NDArray[Any],
    step: tuple[float, float],
    inch: float,
    colors: Sequence[Color],
) -> None:
    """Draw each habitat's border just inside it, with a dark casing below all."""
    line = float(np.clip(0.3 * min(step) * inch * 72, *_LINE_PT))
    inset = (line + _CASING_PT) / 2 / 72 / inch
    for number in np.unique(labels[labels > 0]).astype(int):
        lines = list(edges(labels == number, step, inset))
        for color, points, order in (
            ("black", line + _CASING_PT, 2),
            (colors[number - 1], line, 3),
        ):
            drawn = LineCollection(
                lines, colors=[color], linewidths=points, capstyle="projecting",
                zorder=order, label=f"H{number}" if order == 3 else "casing",
            )  # fmt: skip
            axes.add_collection(drawn, autolim=False)


def _letters(axes: Axes, letters: str, ink: dict[str, Any]) -> None:
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (x, y, ha, va) in zip(letters, places, strict=True):
        where: dict[str, Any] = {"transform": axes.transAxes, "ha": ha, "va": va}
        axes.text(x, y, letter, size=_FONT, weight="bold", **where, **ink)


def _scale_bar(axes: Axes, panel: Panel, inch: float, ink: dict[str, Any]) -> None:
    width, height = panel.size
    length = max((b for b in _BARS if b <= width / 3), default=_BARS[0])
    thick, off = 0.03 / inch, 0.06 / inch
    place = (off, height - off - thick)
    bar = Rectangle(place, length, thick, facecolor=ink["color"], zorder=4)
    bar.set(edgecolor="gray", linewidth=0.4, label="scale bar")
    axes.add_patch(bar)
    where: dict[str, Any] = {"ha": "center", "va": "bottom", "size": _FONT - 2}
    text = f"{length:g} mm"
    axes.text(off + length / 2, place[1] - thick / 2, text, **where, **ink)


def _ink(pixels: Pixels) -> dict[str, Any]:
    """Text that can be read on these pixels."""
    color, halo = ("black", "white") if pixels.mean() > 0.6 else ("white", "black")
    stroke = patheffects.withStroke(linewidth=1.2, foreground=halo)
    return {"color": color, "path_effects": [stroke], "zorder": 4}


def _legend(
    figure: Figure,
    names: Sequence[str],
    colors: Sequence[Color],
    columns: int,
) -> None:
    patches = [
        Patch(facecolor=color, edgecolor="black", linewidth=0.4, label=name)
        for color, name in zip(colors, names, strict=True)
    ]
    figure.legend(
        handles=patches, loc="lower center", ncols=columns,
        fontsize=_FONT - 0.5, frameon=False, borderaxespad=0.1, handlelength=1.2,
        columnspacing=1.2, handletextpad=0.4, labelspacing=0.3,
    )  # fmt: skip

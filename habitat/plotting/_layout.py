"""Panels laid out at one scale, in inches; axes of their own or of the caller."""

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
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from habitat.plotting._colors import habitat_colors
from habitat.plotting._views import edges

Pixels = npt.NDArray[np.float64]
Color = tuple[float, float, float]

_PANEL_IN = 1.8  # width of the widest panel, inches
_GAP_IN, _HEAD_IN, _SIDE_IN, _LINE_IN = 0.05, 0.22, 0.2, 0.14
_BAR_IN, _BAR_LONG_IN, _BAR_ROOM_IN = 0.13, 2.4, 0.48  # bar; with title and ticks
_FILL = 0.6  # opacity of filled habitats
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
    note: str = ""  # in the upper left corner
    fill: bool = False  # color the habitats instead of outlining them

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, mm."""
        rows, columns = self.pixels.shape[:2]
        return columns * self.step[1], rows * self.step[0]


@dataclass(frozen=True, eq=False)
class Bar:
    """Colors of the values from `low` to `high`, left to right.

    Colors over an image run from its darkest (bottom) to its brightest ground (top).
    """

    pixels: Pixels  # (grounds, values, 3)
    low: float
    high: float
    title: str


def blank(size: tuple[float, float]) -> Figure:
    """Return an empty figure of (width, height) inches, outside pyplot's list."""
    figure = HabitatFigure(
        figsize=size, dpi=200, facecolor="white", layout="constrained"
    )
    FigureCanvasAgg(figure)
    return figure


def one_axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return the caller's axes with their figure, or a new figure with one axes."""
    if ax is None:
        figure = blank(size)
        return figure, figure.add_subplot()
    root = ax.figure.figure  # a subfigure's is the figure
    assert isinstance(root, Figure)
    return root, ax


def below(
    axes: Axes, own: bool, names: Sequence[str], columns: int, drop_in: float = 0.42
) -> None:
    """Legend of habitats: under the figure if it is our own, else under the axes."""
    place: dict[str, Any] = {"loc": "outside lower center"}
    if not own:
        tall = axes.get_window_extent().height / axes.figure.dpi
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -drop_in / tall)}
    where = axes.figure if own else axes
    _legend(where, names, habitat_colors(len(names)), columns, **place)


def draw(
    rows: Sequence[Sequence[Panel]],
    heads: Sequence[str],
    sides: Sequence[str],
    names: Sequence[str],
    bar: Bar | None = None,
) -> Figure:
    """Lay all panels out at one scale, in inches, with bar and legend below."""
    sizes = [p.size for row in rows for p in row]
    inch = _PANEL_IN / max(max(w for w, _ in sizes), max(h for _, h in sizes) / 1.5)
    column = max(max(w for w, _ in sizes) * inch, _PANEL_IN / 1.5)
    heights = [max(max(p.size[1] for p in row) * inch, 0.5) for row in rows]
    side = _SIDE_IN if any(sides) else _GAP_IN
    width = side + len(heads) * (column + _GAP_IN)
    fitting = max(1, int(width / (0.06 * max(map(len, names)) + 0.32)))
    lines = math.ceil(len(names) / fitting)
    head = _HEAD_IN + _LINE_IN * max(text.count("\n") for text in heads)
    head = head if any(heads) else _GAP_IN
    foot = lines * _LINE_IN + 0.12
    room = _BAR_ROOM_IN if bar else 0.0
    height = head + sum(heights) + len(rows) * _GAP_IN + room + foot
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
            show(figure.add_axes(place), panel, inch, colors)
        top -= tall + _GAP_IN
    if bar:
        long = min(_BAR_LONG_IN, 0.8 * width)
        place = ((1 - long / width) / 2, (foot + 0.16) / height,
                 long / width, _BAR_IN / height)  # fmt: skip
        _draw_bar(figure.add_axes(place, label="color bar"), bar)
    _legend(figure, names, colors, math.ceil(len(names) / lines), loc="lower center")
    return figure


def _draw_bar(axes: Axes, bar: Bar) -> None:
    axes.imshow(bar.pixels, extent=(bar.low, bar.high, 0, 1), aspect="auto")
    axes.set_title(bar.title, size=_FONT - 1, pad=2)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=_FONT - 1.5, length=2, width=0.5, pad=1)
    axes.set_yticks([])
    axes.spines[:].set_linewidth(0.5)


def show(
    axes: Axes,
    panel: Panel,
    inch: float,
    colors: Sequence[Color],
) -> None:
    """Draw one panel; axes are in mm from its top left corner."""
    width, height = panel.size
    axes.imshow(panel.pixels, extent=(0, width, height, 0), interpolation="bicubic")
    axes.set_axis_off()
    if panel.labels is not None and panel.fill:
        shown = np.array([(0.0,) * 4, *((*c, _FILL) for c in colors)])
        axes.imshow(
            shown[panel.labels.astype(int)],
            extent=(0, width, height, 0),
            interpolation="nearest",  # a mixed color would be another habitat's
        )
    elif panel.labels is not None:
        _outlines(axes, panel.labels, panel.step, inch, colors)
    ink = _ink(panel.pixels)
    _letters(axes, panel.letters, ink)
    where: dict[str, Any] = {"transform": axes.transAxes, "va": "top"}
    axes.text(0.02, 0.98, panel.note, size=_FONT - 2, **where, **ink)
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
    where: dict[str, Any] = {"ha": "left", "va": "bottom", "size": _FONT - 2}
    axes.text(off, place[1] - thick / 2, f"{length:g} mm", **where, **ink)


def _ink(pixels: Pixels) -> dict[str, Any]:
    """Text that can be read on these pixels."""
    color, halo = ("black", "white") if pixels.mean() > 0.6 else ("white", "black")
    stroke = patheffects.withStroke(linewidth=1.2, foreground=halo)
    return {"color": color, "path_effects": [stroke], "zorder": 4}


def _legend(
    where: Axes | FigureBase,
    names: Sequence[str],
    colors: Sequence[Color],
    columns: int,
    **place: Any,
) -> None:
    patches = [
        Patch(facecolor=color, edgecolor="black", linewidth=0.4, label=name)
        for color, name in zip(colors, names, strict=True)
    ]
    legend = where.legend(
        handles=patches, ncols=columns, **place,
        fontsize=_FONT - 0.5, frameon=False, borderaxespad=0.1, handlelength=1.2,
        columnspacing=1.2, handletextpad=0.4, labelspacing=0.3,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)

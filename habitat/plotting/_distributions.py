"""Habitats in numbers: density of two channels, histograms, shares of the tumor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from habitat.errors import InputError
from habitat.plotting._colors import habitat_colors
from habitat.plotting._counts import density, histogram
from habitat.plotting._layout import Color, below, blank, one_axes

_FONT, _INK = 8.0, "#2a2a2a"
_HALO = [patheffects.withStroke(linewidth=2.0, foreground="white")]
_ROW_IN, _HIGHEST_IN = 0.17, 9.0  # a case; all
_THIN_IN, _LEAST_IN = 0.06, 0.09  # from which there are gaps; a name
_SAID, _TEXT_IN = 0.07, 0.14  # share, and row, from which a bar has its number


def plot_density(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    labels: npt.ArrayLike,
    centers: npt.ArrayLike,
    *,
    names: Sequence[str],
    units: Sequence[str],
    cohort_centers: npt.ArrayLike | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the voxels of a tumor by two channels, and the region of each habitat.

    Parameters
    ----------
    x, y, labels : arrays of one shape
        Values and habitat numbers; voxels of habitat 0 or without a value are left out.
    centers : array of shape (k, 2)
        x and y of the habitats' centers, numbered dots; NaN for an empty habitat.
    names : sequence of k str
        Of the habitats.
    units : sequence of 2 str
        Words of the two axes, such as ("SUVbw", "HU").
    cohort_centers : array of shape (k, 2), optional
        Centers in a cohort, numbered white diamonds.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        Color: the habitat most voxels of a bin belong to. Lines hold 95, 75, 50 and
        25 % of the voxels.

    Raises
    ------
    InputError
        If shapes differ, or no voxel has a habitat and values.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> r = habitat.segment(p.pet, p.ct, p.mask, k=3)
    >>> suv, hu = (image.array for image in r.images.values())
    >>> figure = habitat.plotting.plot_density(
    ...     suv, hu, r.labels[r.box], r.centers, names=r.names, units=["SUVbw", "HU"]
    ... )
    """
    found = density(x, y, labels)
    k = _at_least(names, int(found.habitat.max()))
    figure, axes = one_axes(ax, (4.2, 3.6 + 0.14 * ((k + 1) // 2)))
    white = (1.0, 1.0, 1.0)
    axes.pcolormesh(
        found.x, found.y, found.habitat, vmin=-0.5, vmax=k + 0.5,
        cmap=ListedColormap([white, *habitat_colors(k)]),
    )  # fmt: skip
    middles = [(edges[1:] + edges[:-1]) / 2 for edges in (found.x, found.y)]
    lines = axes.contour(
        *middles, found.density, levels=found.levels, colors=_INK, linewidths=0.6
    )
    lines.set_path_effects([patheffects.withStroke(linewidth=1.4, foreground="white")])
    for points, marker, fill, order in (
        (cohort_centers, "D", "white", 4),
        (centers, "o", _INK, 5),
    ):
        if points is not None:
            _numbered(axes, np.asarray(points, dtype=np.float64), marker, fill, order)
    axes.set_xlim(found.x[0], found.x[-1])
    axes.set_ylim(found.y[0], found.y[-1])
    axes.set_xlabel(units[0], fontsize=_FONT)
    axes.set_ylabel(units[1], fontsize=_FONT)
    _frame(axes)
    below(axes, ax is None, names, 2)
    return figure


def plot_histograms(
    values: Mapping[str, npt.ArrayLike],
    labels: npt.ArrayLike,
    *,
    names: Sequence[str],
    ax: Axes | None = None,
) -> Figure:
    """Draw the voxels of each channel, colored by habitat, stacked.

    Parameters
    ----------
    values : mapping of str to array
        Words of the axis (channel, unit) to values, all of one shape.
    labels : array of that shape
        Habitat numbers; voxels of habitat 0 or without a value are left out.
    names : sequence of k str
        Of the habitats.
    ax : matplotlib.axes.Axes, optional
        Where to draw, if there is just one channel.

    Returns
    -------
    matplotlib.figure.Figure
        The outermost bars hold all values beyond them.

    Raises
    ------
    InputError
        If shapes differ, there is no channel, `ax` is given for more than one, or no
        voxel has a habitat and a value.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> r = habitat.segment(p.pet, p.ct, p.mask, k=3)
    >>> values = {channel: image.array for channel, image in r.images.items()}
    >>> figure = habitat.plotting.plot_histograms(
    ...     values, r.labels[r.box], names=r.names
    ... )
    """
    if not values or (ax is not None and len(values) > 1):
        what = f"has {len(values)} channels; `ax` takes one"
        raise InputError(what, "`values`")
    k = _at_least(names, int(np.max(labels)))
    if ax is None:
        figure = blank((2.9 * len(values), 2.2 + 0.14 * ((k + 1) // 2)))
        every = list(figure.subplots(1, len(values), squeeze=False)[0])
    else:
        figure, every = one_axes(ax, (0.0, 0.0))[0], [ax]
    for axes, (words, array) in zip(every, values.items(), strict=True):
        edges, counts = histogram(array, labels, k)
        floor = np.zeros(counts.shape[1])
        for row, color in zip(counts, habitat_colors(k), strict=True):
            axes.stairs(floor + row, edges, baseline=floor, fill=True, color=color)
            axes.stairs(floor + row, edges, color=_INK, lw=0.4)
            floor = floor + row
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, None)
        axes.set_xlabel(words, fontsize=_FONT)
        _frame(axes)
    every[0].set_ylabel("Voxels", fontsize=_FONT)
    below(every[0], ax is None, names, 2)
    return figure


def plot_shares(
    shares: npt.ArrayLike,
    *,
    case_ids: Sequence[str],
    names: Sequence[str],
    ax: Axes | None = None,
) -> Figure:
    """Draw the share of each habitat in each tumor as stacked bars.

    Parameters
    ----------
    shares : array of shape (cases, k)
        0 to 1; NaN counts as 0.
    case_ids : sequence of str
        First to last from top to bottom.
    names : sequence of k str
        Of the habitats.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        Numbers are percent. Names of cases and numbers are left out where rows are too
        thin for them.

    Raises
    ------
    InputError
        If the shape is not (cases, k).

    Examples
    --------
    >>> from habitat.plotting import plot_shares
    >>> figure = plot_shares(
    ...     [[0.2, 0.8], [0.5, 0.5]], case_ids=["a", "b"], names=["H1", "H2"]
    ... )
    """
    table = np.nan_to_num(np.asarray(shares, dtype=np.float64), nan=0.0)
    cases, k = len(case_ids), len(names)
    if table.shape != (cases, k) or not cases:
        what = f"has shape {table.shape} for {cases} cases and {k} habitats"
        raise InputError(what, "`shares`")
    tall = min(_HIGHEST_IN, _ROW_IN * cases)
    figure, axes = one_axes(ax, (5.4, 0.75 + 0.14 * ((k + 1) // 2) + tall))
    rows, colors = np.arange(cases), habitat_colors(k)
    thick = tall / cases > _THIN_IN
    starts = np.cumsum(table, axis=1) - table
    for color, left, width in zip(colors, starts.T, table.T, strict=True):
        edge = _INK if thick else "none"
        axes.barh(rows, 100 * width, 0.86 if thick else 1.0, 100 * left, color=color,
                  edgecolor=edge, linewidth=0.3)  # fmt: skip
        if tall / cases > _TEXT_IN:
            _percent(axes, left, width, _on(color))
    named = tall / cases >= _LEAST_IN
    shown = list(case_ids) if named else []
    axes.set_yticks(rows[: len(shown)], shown, parse_math=False)
    axes.set_ylim(cases - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of the tumor, %", fontsize=_FONT)
    if not named:
        axes.set_ylabel(f"{cases} cases", fontsize=_FONT)
    _frame(axes)
    axes.tick_params(axis="y", length=0, labelsize=_FONT - 2)
    below(axes, ax is None, names, 2)
    return figure


def _percent(
    axes: Axes,
    starts: npt.NDArray[np.float64],
    widths: npt.NDArray[np.float64],
    ink: str,
) -> None:
    for row, (start, width) in enumerate(zip(starts, widths, strict=True)):
        if width >= _SAID:
            middle, percent = 100 * (start + width / 2), f"{100 * width:.0f}"
            axes.text(middle, row, percent, ha="center", va="center",
                      size=_FONT - 2.5, color=ink)  # fmt: skip


def _numbered(
    axes: Axes, points: npt.NDArray[np.float64], marker: str, fill: str, order: int
) -> None:
    text = "white" if fill == _INK else _INK
    x_all, y_all = points.T
    axes.scatter(x_all, y_all, marker=marker, s=72, c=fill, edgecolors=_INK,
                 linewidths=0.8, zorder=order, path_effects=_HALO)  # fmt: skip
    for number, (x, y) in enumerate(points, start=1):
        if np.isfinite([x, y]).all():
            axes.text(x, y, str(number), color=text, size=_FONT - 2, ha="center",
                      va="center_baseline", zorder=order, clip_on=True)  # fmt: skip


def _at_least(names: Sequence[str], most: int) -> int:
    if len(names) < most:
        raise InputError(f"has {len(names)} names for {most} habitats", "`names`")
    return len(names)


def _on(color: Color) -> str:
    """Ink that can be read on a color."""
    return "white" if np.dot(color, (0.299, 0.587, 0.114)) < 0.5 else "black"


def _frame(axes: Axes) -> None:
    axes.tick_params(labelsize=_FONT - 1, length=2, pad=2)
    axes.spines[["top", "right"]].set_visible(False)

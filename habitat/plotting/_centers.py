"""Centers of a cohort's habitats, one panel a channel."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from habitat.plotting._colors import habitat_colors
from habitat.plotting._layout import blank

_FONT = 8.0
_LINE, _BAND = "#4a4a4a", "#eceff3"
_MOST = 6  # channels
_LETTERS = 28  # of a title in each line

Floats = npt.NDArray[np.float64]


def plot_centers(
    centers: Floats,
    medians: Floats,
    sds: Floats,
    shares: Floats,
    channels: Sequence[str],
    names: Sequence[str],
) -> Figure:
    """Draw the centers of habitats and their shares.

    Parameters
    ----------
    centers : array of shape (k, channels)
        Natural units.
    medians, sds : arrays of shape (channels,)
        Of all voxels: a line, and a band of one standard deviation to each side.
    shares : array of shape (k,)
        Mean share of a tumor's voxels.
    channels : sequence of str
        With their units; the first six are drawn.
    names : sequence of str
        Of the habitats.

    Returns
    -------
    matplotlib.figure.Figure
    """
    k, shown = len(centers), min(len(channels), _MOST)
    figure = blank((1.2 + 1.7 * (shown + 1), 0.9 + 0.24 * k))
    first = figure.add_subplot(1, shown + 1, 1)
    others = [
        figure.add_subplot(1, shown + 1, i + 2, sharey=first) for i in range(shown)
    ]
    rows, colors = np.arange(k), habitat_colors(k)
    for i, axes in enumerate([first, *others[:-1]]):
        low, high = medians[i] - sds[i], medians[i] + sds[i]
        axes.axvspan(low, high, color=_BAND, lw=0)
        axes.axvline(medians[i], color=_LINE, lw=0.6, ls=":")
        axes.scatter(centers[:, i], rows, color=colors, s=28, zorder=3, lw=0)
        _frame(axes, channels[i])
    others[-1].barh(rows, 100 * shares, color=colors, height=0.6)
    _frame(others[-1], "Share of the tumor, %")
    first.set_yticks(rows, names)
    first.set_ylim(k - 0.5, -0.5)
    for axes in others:
        axes.tick_params(labelleft=False)
    return figure


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(textwrap.fill(title, _LETTERS), size=_FONT, loc="left")
    axes.tick_params(labelsize=_FONT - 1, length=2, pad=2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=_BAND, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)

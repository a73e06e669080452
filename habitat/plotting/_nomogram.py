"""Nomogram: a ruler for each feature, one for their sum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from habitat.plotting._layout import one_axes

_F64 = npt.NDArray[np.float64]

_FONT, _LINE, _RESULT = 8.0, "#4a4a4a", "#d1495b"
_TICK, _CLOSE = 0.12, 0.035  # of a row; of the width: nearer labels are left out


def round_values(low: float, high: float, most: int = 5) -> list[float]:
    """The ends of a range and round numbers between."""
    ticks = MaxNLocator(most).tick_values(low, high)
    return [low, *(float(t) for t in ticks if low < t < high), high]


def plot_nomogram(
    features: Mapping[str, tuple[_F64, _F64]],
    total: _F64,
    probability: _F64,
    outcome: str,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw a nomogram.

    Parameters
    ----------
    features : mapping of str to (values, points)
        Marks of each ruler: (m,) values in their units, (m,) points, 0 to 100.
    total, probability : (t,) arrays
        Marks of the last ruler.
    outcome : str
        Class whose probability it is.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    most = sum(float(points.max()) for _, points in features.values())
    sums = np.array(round_values(0.0, most, 10))[:-1]
    rows: list[tuple[str, _F64, _F64, str]] = []
    tens = np.arange(0.0, 101.0, 10.0)
    rows.append(("Points", tens, tens / 100.0, _LINE))
    rows += [(n, v, p / 100.0, _LINE) for n, (v, p) in features.items()]
    rows.append(("Total points", sums, sums / most, _LINE))
    rows.append((f"Probability of {outcome}", probability, total / most, _RESULT))
    figure, axes = one_axes(ax, (6.5, 0.42 * len(rows) + 0.3))
    for i, (_, values, at, color) in enumerate(rows):
        _ruler(axes, -float(i), values, at, color, whole=i in (0, len(rows) - 2))
    axes.set_yticks([-float(i) for i in range(len(rows))], [row[0] for row in rows])
    axes.tick_params(labelsize=_FONT, length=0, labelbottom=False, bottom=False)
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(0.6 - len(rows), 0.6)
    return figure


def _ruler(
    axes: Axes, y: float, values: _F64, at: _F64, color: str, *, whole: bool
) -> None:
    """A line with marks; a label too near to the last one has no place."""
    ends = (0.0, 1.0) if whole or not len(at) else (at.min(), at.max())
    axes.plot(ends, (y, y), color=color, lw=0.8)
    axes.vlines(at, y, y + _TICK, color=color, lw=0.8)
    shown: list[float] = []
    order = np.argsort(at)
    # ends first: they say the range
    for i in [*order[[0, -1]], *order[1:-1]] if len(at) else []:
        text = f"{values[i]:.3g}"
        need = _CLOSE + 0.006 * len(text)
        if all(abs(at[i] - x) > need for x in shown):
            shown.append(float(at[i]))
            axes.text(at[i], y + 1.4 * _TICK, text, ha="center", size=_FONT - 2)

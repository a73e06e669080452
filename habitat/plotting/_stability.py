"""How stable habitats are, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from habitat.plotting._colors import habitat_colors
from habitat.plotting._layout import Color, below, blank, one_axes

if TYPE_CHECKING:
    import pandas as pd

_FONT, _ROW_IN, _HEIGHT_IN = 8.0, 0.14, 2.6
_BANDS = (0.5, 0.75, 0.9)  # moderate, good, excellent (Koo & Li 2016)
_SPREAD = 0.8  # share of a perturbation's width that its habitats take


def plot_stability(
    table: pd.DataFrame, icc: pd.DataFrame, *, ax: Axes | None = None
) -> Figure:
    """Draw Dice by perturbation and habitat; beside it the ICC, if there are any.

    Parameters
    ----------
    table, icc : DataFrame
        As in `habitat.reliability.Stability`.
    ax : matplotlib.axes.Axes, optional
        Where to draw Dice; the ICC is then left out.

    Returns
    -------
    matplotlib.figure.Figure
        A dot is one draw of one case, a bar the median of a habitat. ICC: of all
        perturbations together; filled ICC(A,1) with its interval, hollow ICC(C,1).
    """
    k = int(table["habitat"].max())
    colors, habitats = habitat_colors(k), [f"H{h}" for h in range(1, k + 1)]
    names = [n for n in table["perturbation"].unique() if n != "none"]
    if ax is not None:
        _dice(ax, table, names, colors)
        below(ax, False, habitats, min(k, 10))
        return one_axes(ax, (0.0, 0.0))[0]
    widths = [max(2.4, 0.75 * len(names))]
    shown = icc
    if len(icc):
        shown = icc[icc["perturbation"] == icc["perturbation"].iloc[-1]]
        widths.append(2.6)
    height = max(_HEIGHT_IN, 0.9 + _ROW_IN * len(shown))
    figure = blank((sum(widths) + 1.2, height))
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    _dice(axes[0], table, names, colors)
    if len(icc):
        _icc(axes[1], shown, colors)
    figure.suptitle(
        "Dot: one draw of one case; bar: median",
        size=_FONT, x=0.01, ha="left",
    )  # fmt: skip
    below(axes[0], True, habitats, min(k, 10))
    return figure


def plot_precision(
    summary: pd.DataFrame,
    repeatable: Sequence[str],
    limit: float,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw the voxelwise ICC of each map under each perturbation.

    Parameters
    ----------
    summary : DataFrame
        As in `habitat.reliability.MapPrecision`.
    repeatable : sequence of str
        Maps whose names are black, all others are gray.
    limit : float
        Where a line is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        A dot is the median over cases, a line reaches to the median lower limit.
    """
    maps, names = (list(summary[c].unique()) for c in ("map", "perturbation"))
    colors = habitat_colors(len(names))
    height = max(_HEIGHT_IN, 1.0 + _ROW_IN * len(maps) * max(1.0, len(names) / 3))
    figure, axes = one_axes(ax, (5.2, height))
    step = _SPREAD / len(names)
    for i, (name, color) in enumerate(zip(names, colors, strict=True)):
        rows = summary[summary["perturbation"] == name]
        y = np.array([maps.index(m) for m in rows["map"]])
        y = y + (i - (len(names) - 1) / 2) * step
        axes.hlines(y, rows["low"], rows["icc_voxel"], color=color, lw=1.2)
        axes.scatter(
            rows["icc_voxel"], y, s=10, color=color, edgecolors="black",
            linewidths=0.3, zorder=3, label=name,
        )  # fmt: skip
    axes.axvline(limit, color="black", lw=0.7, ls="--")
    axes.set_xlim(min(0.0, max(-1.0, summary["low"].min())) - 0.02, 1.02)
    axes.set_yticks(range(len(maps)), maps)
    for text in axes.get_yticklabels():
        text.set_color("black" if text.get_text() in repeatable else "gray")
    axes.set_ylim(len(maps) - 0.4, -0.6)
    cases = int(summary["cases"].max())
    median = f"median of {cases} cases" if cases > 1 else "1 case"
    axes.set_xlabel(f"Voxelwise ICC(A,1) to its lower limit; {median}", fontsize=_FONT)
    _frame(axes)
    place: dict[str, Any] = {"loc": "outside lower center"}
    if ax is not None:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
    where = figure if ax is None else ax
    where.legend(
        *axes.get_legend_handles_labels(), **place, ncols=min(len(names), 5),
        fontsize=_FONT - 0.5, frameon=False, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _dice(
    axes: Axes, table: pd.DataFrame, names: list[str], colors: list[Color]
) -> None:
    k = len(colors)
    step = _SPREAD / k
    for i, name in enumerate(names):
        for h, color in enumerate(colors, start=1):
            rows = table[(table["perturbation"] == name) & (table["habitat"] == h)]
            dice = rows["dice"].dropna().to_numpy(dtype=np.float64)
            if dice.size == 0:
                continue
            middle = i + (h - (k + 1) / 2) * step
            x = middle + np.linspace(-step, step, dice.size + 2)[1:-1] * 0.4
            axes.scatter(x, dice, s=9, color=color, edgecolors="black", linewidths=0.3)
            median, half = float(np.median(dice)), 0.45 * step
            axes.hlines(median, middle - half, middle + half, color="black", lw=1)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.03)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(
        range(len(names)), [n.replace("misreg", "mis-\nreg") for n in names]
    )
    axes.set_ylabel("Dice with the unperturbed map", fontsize=_FONT)
    axes.grid(axis="y", lw=0.3)
    axes.set_axisbelow(True)
    _frame(axes)


def _icc(axes: Axes, icc: pd.DataFrame, colors: list[Color]) -> None:
    features = list(icc["feature"].unique())
    for row in icc.to_dict("records"):
        color = colors[row["habitat"] - 1]
        offset = (row["habitat"] - (len(colors) + 1) / 2) * _SPREAD / len(colors)
        y = features.index(row["feature"]) + offset
        axes.hlines(y, row["a1_low"], row["a1_high"], color="black", lw=2.2)
        axes.hlines(y, row["a1_low"], row["a1_high"], color=color, lw=1.4)
        style: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.4, "zorder": 3}
        axes.scatter(row["icc_a1"], y, s=14, color=color, **style)
        axes.scatter(row["icc_c1"], y, s=14, facecolors="none", **style)
    for level in _BANDS:
        axes.axvline(level, color="gray", lw=0.5, ls=":")
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1.02)
    axes.set_yticks(range(len(features)), [f.replace("_", " ") for f in features])
    axes.invert_yaxis()
    rated = f"{int(icc['subjects'].max())} cases"
    axes.set_xlabel(f"ICC(A,1), hollow ICC(C,1); {rated}", fontsize=_FONT)
    _frame(axes)


def _frame(axes: Axes) -> None:
    axes.tick_params(labelsize=_FONT - 1, length=2)
    axes.spines[["top", "right"]].set_visible(False)

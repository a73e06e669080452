"""How well a classifier does: areas, ROC, calibration, decision curve, features."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from habitat.plotting._layout import blank, one_axes

_FONT = 8.0
_MODEL, _OTHER, _LINE, _BAND = "#2b5fa8", "#8a8f98", "#4a4a4a", "#dfe6ee"
_MOST = 20  # features
_BARS = 0.15  # height of the highest bar of the histogram under a calibration curve


def plot_roc(roc: pd.DataFrame, label: str, *, ax: Axes | None = None) -> Figure:
    """Draw a ROC curve.

    Parameters
    ----------
    roc : DataFrame
        Columns: false_positive_rate, sensitivity.
    label : str
        Words of the AUC and its interval.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = one_axes(ax, (3.0, 3.0))
    _roc(axes, roc, label)
    return figure


def precision_recall(roc: pd.DataFrame, prevalence: float) -> pd.DataFrame:
    """Precision and recall at each threshold of a ROC curve.

    Parameters
    ----------
    roc : DataFrame
        Columns: false_positive_rate, sensitivity.
    prevalence : float
        Share of events among the cases of the curve.

    Returns
    -------
    DataFrame
        Columns: recall, precision; without thresholds that call nothing positive.
    """
    hits = prevalence * roc["sensitivity"]
    called = hits + (1 - prevalence) * roc["false_positive_rate"]
    table = pd.DataFrame({"recall": roc["sensitivity"], "precision": hits / called})
    kept: pd.DataFrame = table[called > 0].reset_index(drop=True)
    return kept


def plot_pr(
    roc: pd.DataFrame, prevalence: float, label: str, *, ax: Axes | None = None
) -> Figure:
    """Draw precision against recall.

    Parameters
    ----------
    roc : DataFrame
        Columns: false_positive_rate, sensitivity.
    prevalence : float
        Share of events among the cases of the curve: a line, what chance reaches.
    label : str
        Words of the average precision and its interval.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = one_axes(ax, (3.0, 3.0))
    table = precision_recall(roc, prevalence).sort_values("recall", kind="stable")
    axes.axhline(prevalence, color=_LINE, lw=0.7, ls=":")
    precision = table["precision"].to_numpy()
    # a step has the precision of the threshold that reaches its recall
    axes.step(
        np.append(0.0, table["recall"]),
        np.append(precision[:1], precision),
        where="pre",
        color=_MODEL,
        lw=1.6,
    )
    axes.set_xlabel("Recall (sensitivity)", fontsize=_FONT)
    axes.set_ylabel("Precision (positive predictive value)", fontsize=_FONT)
    axes.text(0.97, 0.04, label, ha="right", fontsize=7, transform=axes.transAxes)
    _square(axes)
    return figure


def plot_calibration(
    curve: pd.DataFrame, label: str, *, ax: Axes | None = None
) -> Figure:
    """Draw observed shares of events against probability.

    Parameters
    ----------
    curve : DataFrame
        Columns: kind ("smooth", "group" or "bin"), p, observed, low, high, n.
    label : str
        Words of slope and intercept.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = one_axes(ax, (3.0, 3.0))
    _calibration(axes, curve, label)
    return figure


def plot_decision(curve: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw net benefit against threshold.

    Parameters
    ----------
    curve : DataFrame
        Columns: threshold, model, all, and if there is a band low, high.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = one_axes(ax, (3.4, 2.8))
    _decision(axes, curve)
    return figure


def plot_importance(selected: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Draw in how many folds each feature was kept, the most frequent 20.

    Parameters
    ----------
    selected : DataFrame
        Columns: feature, share.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    rows = selected.head(_MOST).iloc[::-1]
    figure, axes = one_axes(ax, (5.2, 0.8 + 0.19 * max(len(rows), 1)))
    axes.barh(np.arange(len(rows)), 100 * rows["share"], color=_MODEL, height=0.6)
    axes.set_yticks(np.arange(len(rows)), rows["feature"].tolist(), fontsize=6.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Folds in which the model kept it (%)", fontsize=_FONT)
    _frame(axes)
    return figure


def plot_areas(areas: pd.DataFrame, metric: str, *, ax: Axes | None = None) -> Figure:
    """Draw the AUC of a model and of all that ran beside it.

    Parameters
    ----------
    areas : DataFrame
        Columns: model, value, low, high; the model first.
    metric : str
        Words for the axis.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = one_axes(ax, (4.2, 0.8 + 0.24 * len(areas)))
    _areas(axes, areas, metric)
    return figure


def plot_evaluation(
    areas: pd.DataFrame,
    metric: str,
    curves: Mapping[str, pd.DataFrame],
    labels: Mapping[str, str],
) -> Figure:
    """Draw everything in one figure; see the single plots."""
    figure = blank((7.2, 6.0) if curves else (4.2, 3.0))
    side = 2 if curves else 1
    _areas(figure.add_subplot(side, side, 1), areas, metric)
    if curves:
        _roc(figure.add_subplot(2, 2, 2), curves["roc"], labels["roc"])
        third = figure.add_subplot(2, 2, 3)
        _calibration(third, curves["calibration"], labels["calibration"])
        _decision(figure.add_subplot(2, 2, 4), curves["decision"])
    return figure


def _areas(axes: Axes, areas: pd.DataFrame, metric: str) -> None:
    y = np.arange(len(areas))[::-1]
    colors = [_MODEL] + [_OTHER] * (len(areas) - 1)
    axes.axvline(0.5, color=_LINE, lw=0.7, ls=":")
    numbers = areas[["value", "low", "high"]].to_numpy(dtype=np.float64).tolist()
    for at, (value, low, high), color in zip(y, numbers, colors, strict=True):
        axes.plot([low, high], [at, at], color=color, lw=1.4)
        axes.plot(value, at, "o", color=color, ms=4)
        axes.annotate(
            f"{value:.2f}",
            (value, at),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6,
        )
    axes.set_yticks(y, areas["model"].tolist())
    axes.set_ylim(-0.6, len(areas) - 0.3)
    least = float(np.nanmin([0.4, areas["low"].min(), areas["value"].min()]))
    axes.set_xlim(max(0.0, least - 0.02), 1.02)
    axes.set_xlabel(f"{metric} (95 % interval)", fontsize=_FONT)
    _frame(axes)


def _roc(axes: Axes, roc: pd.DataFrame, label: str) -> None:
    axes.plot([0, 1], [0, 1], color=_LINE, lw=0.7, ls=":")
    axes.plot(roc["false_positive_rate"], roc["sensitivity"], color=_MODEL, lw=1.6)
    axes.set_xlabel("1 - specificity", fontsize=_FONT)
    axes.set_ylabel("Sensitivity", fontsize=_FONT)
    axes.text(0.97, 0.04, label, ha="right", fontsize=7, transform=axes.transAxes)
    _square(axes)


def _calibration(axes: Axes, curve: pd.DataFrame, label: str) -> None:
    line = curve[curve["kind"] == "smooth"]
    groups = curve[curve["kind"] == "group"]
    bins = curve[curve["kind"] == "bin"]
    height = _BARS * bins["n"] / max(bins["n"].max(), 1)  # the numbers do not matter
    axes.bar(bins["p"], height, 0.8 / max(len(bins), 1), bottom=-0.02, color=_BAND)
    axes.plot([0, 1], [0, 1], color=_LINE, lw=0.7, ls=":")
    axes.plot(line["p"], line["observed"], color=_MODEL, lw=1.6)
    ends = [groups["observed"] - groups["low"], groups["high"] - groups["observed"]]
    axes.errorbar(
        groups["p"],
        groups["observed"],
        np.clip(ends, 0, None),
        fmt="o",
        ms=3,
        lw=0.8,
        color=_OTHER,
    )
    axes.set_xlabel("Probability", fontsize=_FONT)
    axes.set_ylabel("Observed share", fontsize=_FONT)
    axes.text(0.03, 0.9, label, fontsize=7, transform=axes.transAxes)
    _square(axes)


def _decision(axes: Axes, curve: pd.DataFrame) -> None:
    shown = curve[curve["threshold"] <= 0.8]
    t = shown["threshold"]
    if "low" in shown:
        axes.fill_between(t, shown["low"], shown["high"], color=_BAND, lw=0)
    axes.plot(t, shown["all"], color=_OTHER, lw=1, label="all")
    axes.axhline(0, color=_LINE, lw=0.7, ls=":", label="none")
    axes.plot(t, shown["model"], color=_MODEL, lw=1.6, label="model")
    drawn = shown.drop(columns=["threshold", "avoided", "low"], errors="ignore")
    top = max(float(drawn.max().max()), 0.05)
    axes.set_ylim(-0.25 * top, 1.15 * top)
    axes.set_xlim(0, 0.8)
    axes.set_xlabel("Threshold probability", fontsize=_FONT)
    axes.set_ylabel("Net benefit", fontsize=_FONT)
    axes.legend(fontsize=7, frameon=False)
    _frame(axes)


def _square(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    _frame(axes)


def _frame(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)

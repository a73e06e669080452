"""Criteria for the number of clusters, as small multiples."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from habitat.errors import ConfigError
from habitat.plotting._layout import blank, one_axes

_FONT, _COLUMNS = 8.0, 4
_LETTERS = 30  # of the title over each column
_LINE, _PICK, _CHOICE = "#4a4a4a", "#d1495b", "#dfe6ee"
_TITLES = {"elbow": "Elbow (share within)", "gap": "Gap", "bic": "BIC", "aic": "AIC"}
_TITLES |= {"icl": "ICL", "calinski_harabasz": "Calinski-Harabasz"}
_TITLES |= {"davies_bouldin": "Davies-Bouldin", "silhouette": "Silhouette, squared"}
_TITLES["silhouette_euclidean"] = "Silhouette, Euclidean"
_TITLES |= {f"{n}_eff": f"{n.upper()}, n_eff" for n in ("bic", "aic", "icl")}
_STRENGTHS = ("prediction_strength", "stability")


def plot_choice(
    ks: Sequence[int],
    values: Mapping[str, npt.NDArray[np.float64]],
    picks: Mapping[str, int | None],
    k: int,
    structure_p: float,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draw criteria over k.

    Parameters
    ----------
    ks : sequence of int
        Numbers of clusters.
    values : mapping of str to (len(ks),) array
        Criterion to its values; NaN where it has none.
    picks : mapping of str to int or None
        The k that each criterion would choose: its point is filled.
    k : int
        The choice: a band behind all panels.
    structure_p : float
        P-value of the hypothesis of one continuous cloud.
    ax : matplotlib.axes.Axes, optional
        Where to draw, if there is just one criterion.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ConfigError
        If `ax` is given for more than one criterion.
    """
    if ax is not None:
        if len(values) != 1:
            raise ConfigError(f"takes one criterion, not {len(values)}", "`ax`")
        ((name, column),) = values.items()
        _criterion(ax, ks, column, name, picks.get(name), k)
        return one_axes(ax, (0.0, 0.0))[0]
    columns = min(_COLUMNS, len(values))
    rows = math.ceil(len(values) / columns)
    figure = blank((1.75 * columns, 1.45 * rows + 0.25))
    for i, (name, column) in enumerate(values.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        _criterion(axes, ks, column, name, picks.get(name), k)
    title = (
        f"Number of clusters: {k} (band); red: what each criterion picks; "
        f"structure p = {structure_p:.2g}; prediction strength must reach 0.8"
    )
    title = textwrap.fill(title, _LETTERS * columns)
    figure.suptitle(title, size=_FONT, x=0.01, ha="left")
    return figure


def _criterion(
    axes: Axes,
    ks: Sequence[int],
    column: npt.NDArray[np.float64],
    name: str,
    pick: int | None,
    k: int,
) -> None:
    axes.axvspan(k - 0.4, k + 0.4, color=_CHOICE, lw=0)
    axes.plot(ks, column, "o-", color=_LINE, lw=0.8, ms=2.5, mfc="white", mew=0.8)
    title = _TITLES.get(name, name.replace("_", " ").capitalize())
    if pick is not None:
        at = list(ks).index(pick)
        axes.plot(pick, column[at], "o", color=_PICK, ms=5)
        title += f": {pick}"
        computed = np.asarray(ks)[np.isfinite(column)]
        if pick > 1 and pick == computed.max():
            title += " (edge)"  # it might go on
    if name in _STRENGTHS:
        axes.axhline(0.8, color=_LINE, lw=0.5, ls=":")
    axes.set_title(title, size=_FONT, loc="left")
    axes.set_xlim(min(ks) - 0.5, max(ks) + 0.5)
    axes.set_xticks([t for t in ks if len(ks) < 12 or t % 2 == 0])
    axes.tick_params(labelsize=_FONT - 2, length=2, pad=2)
    axes.yaxis.get_offset_text().set_fontsize(_FONT - 2)
    axes.spines[["top", "right"]].set_visible(False)
    if not np.isfinite(column).any():
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no value", ha="center", size=_FONT, color=_LINE,
                  transform=axes.transAxes)  # fmt: skip

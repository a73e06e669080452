"""Pictures of images and habitats: slices, mosaics, thumbnails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from habitat._check import at_least, integer, one_of
from habitat.errors import ConfigError, GeometryError
from habitat.image import Image
from habitat.plotting._colors import habitat_colors
from habitat.plotting._layout import Bar, HabitatFigure, Pixels, draw, show
from habitat.plotting._pictures import IMAGE, PET, Pictures, Window
from habitat.plotting._views import PLANES, cut, spread

MOST = 4  # channels side by side
_CERTAIN = "Reds"  # no habitat has such a color
_NEAR_MM, _DPI = 8.0, 100  # thumbnail: what is shown around the tumor


def overlay(
    image: Image,
    labels: Image,
    *,
    planes: Sequence[str] = ("axial", "coronal", "sagittal"),
    at: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    window: Window | None = None,
    margin_mm: float = 20.0,
    fill: bool = False,
    pet: Image | None = None,
    pet_window: Window | None = None,
) -> Figure:
    """Draw habitats over an image.

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
    fill : bool
        Color the habitats instead of drawing their contours.
    pet : Image, optional
        Laid over `image` in color, transparent where it is low; on any grid (linear
        interpolation).
    pet_window : (float, float), optional
        As `window`, for `pet`.

    Returns
    -------
    matplotlib.figure.Figure
        In radiological convention: the patient's right on the left of the page. Each
        slice has its place in the patient (LPS, mm: "S 34.5" is z = 34.5) in a corner.
        The color bar of PET over CT has the darkest CT at its lower edge and the
        brightest at its upper one.

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
    >>> figure = habitat.overlay(p.ct, p.truth, planes=["axial"], pet=p.pet)
    >>> figure.savefig("habitats.png", dpi=300)  # doctest: +SKIP
    """
    pictures = _pictures(image, pet, labels, at, margin_mm)
    pixels, bar = _colored(pictures, window, pet_window)
    shown = _shown(planes, pictures)
    panels = [pictures.panel(pixels, plane, fill=fill) for plane in shown]
    heads = [p.capitalize() for p in shown]
    return draw([panels], heads, [""], _names(names, labels), bar)


def mosaic(
    image: Image,
    labels: Image,
    *,
    n: int = 9,
    plane: str = "axial",
    names: Sequence[str] | None = None,
    window: Window | None = None,
    margin_mm: float = 20.0,
    fill: bool = False,
    pet: Image | None = None,
    pet_window: Window | None = None,
) -> Figure:
    """Draw slices through all of the tumor.

    Parameters
    ----------
    image, labels, names, window, margin_mm, fill, pet, pet_window
        As in `overlay`.
    n : int, 1 to 100
        Number of slices, in equal steps; fewer where fewer are labeled.
    plane : {"axial", "coronal", "sagittal"}
        Their plane.

    Returns
    -------
    matplotlib.figure.Figure
        Row by row from head to foot (coronal: front to back; sagittal: right to left).

    Raises
    ------
    GeometryError
        If the grids differ.
    MaskError
        If nothing is labeled.
    ConfigError
        If an argument is outside its range.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> figure = habitat.plotting.mosaic(p.ct, p.truth, n=4, fill=True)
    """
    count, plane = integer("n", n, 1, 100), one_of("plane", plane, PLANES)
    pictures = _pictures(image, pet, labels, None, margin_mm)
    pixels, bar = _colored(pictures, window, pet_window)
    panels = [
        pictures.panel(pixels, plane, fill=fill, position=position)
        for position in spread(pictures.labels > 0, plane, count)
    ]
    columns = math.ceil(math.sqrt(len(panels)))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    blanks = [""] * len(panels)
    return draw(rows, blanks[:columns], blanks[: len(rows)], _names(names, labels), bar)


def plot_uncertainty(
    image: Image,
    uncertainty: Image,
    labels: Image,
    *,
    planes: Sequence[str] = ("axial", "coronal", "sagittal"),
    at: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    window: Window | None = None,
    margin_mm: float = 20.0,
) -> Figure:
    """Draw how uncertain the habitat of each voxel is, over an image.

    Parameters
    ----------
    image, labels, planes, at, names, window, margin_mm
        As in `overlay`.
    uncertainty : Image
        0 (certain) to 1, on the grid of `image`: entropy divided by ln k, as
        `HabitatResult.uncertainty`. NaN is left out.

    Returns
    -------
    matplotlib.figure.Figure

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
    >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
    >>> r = habitat.segment(p.pet, p.ct, p.mask, k=2, method="gmm")
    >>> grid = r.geometry.crop(r.box)
    >>> figure = habitat.plotting.plot_uncertainty(
    ...     r.images["HU"], habitat.Image(r.uncertainty, grid), r.on(grid)
    ... )
    """
    if not uncertainty.geometry.same_as(labels.geometry):
        raise GeometryError("grid differs from the labels'", "`uncertainty`")
    margin = at_least("margin_mm", margin_mm, 0)
    images = {IMAGE: image, "uncertainty": uncertainty}
    pictures = Pictures.of(images, labels, at, margin)
    known = (pictures.labels > 0) & np.isfinite(pictures.arrays["uncertainty"])
    values = pictures.scaled("uncertainty", (0.0, 1.0))
    pixels = pictures.gray(IMAGE, window)
    pixels[known] = colormaps[_CERTAIN](values[known])[:, :3]
    colors = colormaps[_CERTAIN](np.linspace(0, 1, 256))[None, :, :3]
    title = f"Uncertainty (0: certain) over {pictures.head(IMAGE, window)}"
    shown = _shown(planes, pictures)
    panels = [pictures.panel(pixels, plane) for plane in shown]
    heads = [p.capitalize() for p in shown]
    bar = Bar(colors, 0.0, 1.0, title)
    return draw([panels], heads, [""], _names(names, labels), bar)


def plot_result(
    images: Mapping[str, Image],
    labels: Image,
    *,
    names: Sequence[str] | None = None,
    windows: Mapping[str, Window] | None = None,
    at: Sequence[float] | None = None,
    fill: bool = False,
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
    fill : bool
        Color the habitats instead of drawing their contours.

    Returns
    -------
    matplotlib.figure.Figure
        One row a plane; one column a channel (the first 4, and how many more there are
        in the last title), and a last one with the habitats: PET in color over CT, with
        a color bar, where both are there, else the first channel.

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
    pictures = Pictures.of(images, labels, at, math.inf)
    chosen = dict(windows or {})
    grays = {c: pictures.gray(c, chosen.get(c)) for c in images}
    fused, bar, title = next(iter(grays.values())), None, "Habitats"
    if pair := pictures.pair():
        fused, bar = pictures.washed(*pair, *(chosen.get(c) for c in pair))
        title = "Fused, habitats"
    shown = _shown(tuple(PLANES), pictures)
    rows = [
        [
            *(pictures.panel(g, plane, False) for g in grays.values()),
            pictures.panel(fused, plane, fill=fill),
        ]
        for plane in shown
    ]
    if more > 0:
        title += f"\n({more} more channel{'s' if more > 1 else ''})"
    heads = [*(pictures.head(c, chosen.get(c)) for c in images), title]
    sides = [plane.capitalize() for plane in shown]
    return draw(rows, heads, sides, _names(names, labels), bar)


def thumbnail(
    images: Mapping[str, Image], labels: Image, *, size_px: int = 160
) -> Figure:
    """Draw one small axial picture of a tumor, for pages of many patients.

    Parameters
    ----------
    images, labels
        As in `plot_result`: PET in color over CT, or the first channel.
    size_px : int, 64 to 2000
        Width and height at the figure's own 100 dots per inch; save with a larger
        ``dpi`` for sharper screens.

    Returns
    -------
    matplotlib.figure.Figure
        With letters and a scale bar, without title and legend.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom()
    >>> r = habitat.segment(p.pet, p.ct, p.mask)
    >>> labels = r.on(r.images["HU"])
    >>> figure = habitat.plotting.thumbnail(r.images, labels, size_px=160)
    """
    size = integer("size_px", size_px, 64, 2000) / _DPI
    pictures = Pictures.of(images, labels, None, _NEAR_MM)
    pixels: Pixels
    if pair := pictures.pair():
        pixels, _ = pictures.washed(*pair, None, None)
    else:
        pixels = pictures.gray(next(iter(images)), None)
    panel = pictures.panel(pixels, "axial", noted=False)
    inch = size / max(panel.size)
    width, height = (s * inch / size for s in panel.size)
    figure = HabitatFigure((size, size), dpi=_DPI, facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes(((1 - width) / 2, (1 - height) / 2, width, height))
    show(axes, panel, inch, habitat_colors(int(labels.array.max())))
    return figure


def _pictures(
    image: Image,
    pet: Image | None,
    labels: Image,
    at: Sequence[float] | None,
    margin_mm: float,
) -> Pictures:
    images = {IMAGE: image} | ({} if pet is None else {PET: pet})
    return Pictures.of(images, labels, at, at_least("margin_mm", margin_mm, 0))


def _colored(
    pictures: Pictures, window: Window | None, pet_window: Window | None
) -> tuple[Pixels, Bar]:
    if PET in pictures.images:
        return pictures.washed(IMAGE, PET, window, pet_window)
    return pictures.gray(IMAGE, window), pictures.gray_bar(IMAGE, window)


def _shown(planes: Sequence[str], pictures: Pictures) -> list[str]:
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

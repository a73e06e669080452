import os
import subprocess
import sys
import warnings
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from habitat.errors import ConfigError, GeometryError, MaskError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.plotting import habitat_colors, overlay, plot_result
from habitat.plotting._views import edges

ENDS = {"axial": "RLAP", "coronal": "RLSI", "sagittal": "APSI"}
TOWARD = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1)}
TOWARD |= {o: tuple(-v for v in TOWARD[n]) for n, o in zip("LPS", "RAI", strict=True)}


def grid(
    order=(0, 1, 2), flips=(), spacing=(3.0, 2.0, 1.0), turn=0.0, tilt=0.0
) -> Geometry:
    """9 x 11 x 13 voxels; array axes run along z, y, x in another order and sense."""
    directions = np.eye(3)[::-1][:, list(order)]  # columns: LPS of each array axis
    for axis in flips:
        directions[:, axis] *= -1
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    c, s = np.cos(tilt), np.sin(tilt)
    rotation = rotation @ [[1, 0, 0], [0, c, -s], [0, s, c]]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ directions * spacing
    affine[:3, 3] = (10, -20, 30)
    return Geometry((9, 11, 13), affine)


def panels(figure: Figure) -> list:
    return [a for a in figure.axes if a.images and a.get_label() != "color bar"]


def pixels(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def bars(axes) -> list:
    return [p for p in axes.patches if p.get_label() == "scale bar"]


def middle(geometry: Geometry) -> Image:
    labels = np.zeros(geometry.shape, np.uint8)
    labels[4, 5, 6] = 1
    return Image(labels, geometry, unit="habitat")


GRIDS = [
    grid(order, flips)
    for order, flips in product(
        permutations(range(3)),
        [f for n in range(4) for f in combinations(range(3), n)],
    )
]


OBLIQUE = [
    grid(turn=0.6),
    grid(turn=np.pi / 4),
    grid((2, 0, 1), (1,), turn=-0.5, tilt=0.4),
]


def test_all_48_orientations_are_there() -> None:
    assert len({g.affine.tobytes() for g in GRIDS}) == 48


@pytest.mark.parametrize("geometry", [*GRIDS, *OBLIQUE])
def test_a_marker_lands_on_the_side_of_its_letter(geometry: Geometry) -> None:
    """A voxel toward the patient's left appears where the page says L, and so on.

    Where a voxel lies in the patient is found from the affine alone.
    """
    center, values, sides = np.array((4, 5, 6)), np.zeros(geometry.shape), {}
    for gray, (letter, toward) in enumerate(TOWARD.items(), start=1):
        step = geometry.affine[:3, :3].T @ toward / geometry.spacing
        size = np.sort(np.abs(step))
        axis = int(np.argmax(np.abs(step)))
        index = center.copy()
        index[axis] += 3 * int(np.sign(step[axis]))
        if size[2] - size[1] > 1e-9:  # at 45 degrees either name of the axis is right
            sides[letter] = gray / 10
            values[tuple(index)] = gray / 10
    image, at = Image(values, geometry), geometry.world(center)
    figure = overlay(image, middle(geometry), window=(0, 1), at=at)
    for axes, letters in zip(panels(figure), ENDS.values(), strict=True):
        written = {t.get_text(): np.array(t.get_position()) for t in axes.texts}
        for letter in set(letters) & set(sides):
            row, column, _ = np.argwhere(np.isclose(pixels(axes), sides[letter]))[0]
            height, width = pixels(axes).shape[:2]
            away = np.array([(column + 0.5) / width, 1 - (row + 0.5) / height]) - 0.5
            expected = np.sign(np.round(written[letter] - 0.5, 9))
            np.testing.assert_array_equal(np.sign(np.round(away, 9)), expected)


@pytest.mark.parametrize("geometry", GRIDS[::5])
def test_slices_say_where_they_are(geometry: Geometry) -> None:
    x, y, z = geometry.world((4, 5, 6))
    said = [
        f"{ends[int(value > 0)]} {abs(value):.1f}"
        for value, ends in ((z, "IS"), (y, "AP"), (x, "RL"))
    ]
    image = Image(np.zeros(geometry.shape), geometry)
    figure = overlay(image, middle(geometry), at=(x, y, z))
    for axes, text in zip(panels(figure), said, strict=True):
        assert text in [t.get_text() for t in axes.texts]


def test_letters_stand_at_their_ends() -> None:
    image = Image(np.zeros(grid().shape), grid())
    figure = overlay(image, middle(grid()))
    for axes, letters in zip(panels(figure), ENDS.values(), strict=True):
        at = {
            t.get_text(): t.get_position() for t in axes.texts if len(t.get_text()) == 1
        }
        left, right, top, bottom = letters
        assert at[left][0] < 0.1 < 0.9 < at[right][0]
        assert at[bottom][1] < 0.1 < 0.9 < at[top][1]


@pytest.mark.parametrize("spacing", [(3.27, 0.98, 0.98), (1, 4, 2), (10, 1, 1)])
def test_millimeters_are_square_and_of_one_scale(spacing: tuple) -> None:
    geometry = grid(spacing=spacing)
    image = Image(np.zeros(geometry.shape), geometry, unit="HU")
    figure = plot_result({"HU": image}, middle(geometry))
    figure.canvas.draw()
    scales = []
    for axes in panels(figure):
        box = axes.get_window_extent()
        width, height = (
            np.abs(np.diff(axes.get_xlim())),
            np.abs(np.diff(axes.get_ylim())),
        )
        scales += [box.width / width[0], box.height / height[0]]
        left, right, bottom, top = axes.images[0].get_extent()
        rows, columns = pixels(axes).shape[:2]
        shown = {round((right - left) / columns, 6), round((bottom - top) / rows, 6)}
        assert shown <= {float(s) for s in spacing}
    np.testing.assert_allclose(scales, scales[0], rtol=1e-6)


def test_scale_bar_is_as_long_as_it_says() -> None:
    for size in (0.2, 1, 5, 20):
        geometry = grid(spacing=(size, size, size))
        figure = overlay(Image(np.zeros(geometry.shape), geometry), middle(geometry))
        for axes in panels(figure):
            (bar,) = bars(axes)
            (said,) = [t.get_text() for t in axes.texts if "mm" in t.get_text()]
            assert f"{bar.get_width():g} mm" == said
            width = abs(np.diff(axes.get_xlim())[0])
            assert 0.08 * width < bar.get_width() < 0.8 * width


def test_planes_go_through_the_largest_section_or_the_given_point() -> None:
    geometry = grid()
    labels = np.zeros(geometry.shape, np.uint8)
    labels[2, 3:8, 3:8] = 1
    labels[6, 5, 5] = 2
    values = np.arange(9.0)[:, None, None] * np.ones(geometry.shape)
    image, label_image = Image(values, geometry), Image(labels, geometry)
    kwargs = {"planes": ["axial"], "window": (0, 8)}
    (axes,) = panels(overlay(image, label_image, **kwargs))
    assert pixels(axes)[0, 0, 0] == 2 / 8
    point = geometry.world((6, 5, 5))
    (axes,) = panels(overlay(image, label_image, at=point, **kwargs))
    assert pixels(axes)[0, 0, 0] == 6 / 8
    with pytest.raises(GeometryError, match="outside"):
        overlay(image, label_image, at=(1000, 0, 0))


def test_pet_is_dark_on_white_and_ct_bright_on_black() -> None:
    geometry = grid()
    labels = middle(geometry)
    hot = np.where(labels.array > 0, 8.0, 0.0)
    channels = {
        "SUVbw": Image(hot, geometry, unit="SUVbw"),
        "HU": Image(hot * 30, geometry, unit="HU"),
    }
    figure = plot_result(channels, labels, windows={"HU": (0, 240)})
    pet, ct, fused = panels(figure)[:3]
    np.testing.assert_allclose(pixels(pet)[5, 6], 0)
    np.testing.assert_allclose(pixels(pet)[0, 0], 1)
    np.testing.assert_allclose(pixels(ct)[5, 6], 1)
    red, _, blue = pixels(fused)[5, 6]
    assert red > blue  # PET in color
    np.testing.assert_allclose(pixels(fused)[0, 0], 0)
    titles = [t.get_text() for t in figure.texts]
    assert "PET SUVbw 0 to 8" in titles
    assert "CT HU 0 to 240" in titles


def test_colors_belong_to_numbers_even_where_a_habitat_is_missing() -> None:
    geometry = grid()
    labels = middle(geometry).array * np.uint8(3)
    figure = plot_result(
        {"HU": Image(np.zeros(geometry.shape), geometry, unit="HU")},
        Image(labels, geometry),
        names=["necrosis", "edge", "viable", "hot"],
    )
    outlined = [c for a in panels(figure) for c in a.collections]
    drawn = {
        tuple(np.round(c.get_colors()[0][:3], 6))
        for c in outlined
        if c.get_label() == "H3"
    }
    assert drawn == {tuple(np.round(habitat_colors(4)[2], 6))}
    legend = [t.get_text() for t in figure.legends[0].texts]
    assert legend == ["necrosis", "edge", "viable", "hot"]


# Machado, Oliveira & Fernandes 2009, IEEE TVCG 15:1291, table for severity 1.0.
DEUTERANOPIA = np.array(
    [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]
)
PROTANOPIA = np.array(
    [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
)


def lab(colors: list, simulate: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colors as seen through a simulation in linear light."""
    from skimage.color import rgb2lab

    rgb = np.array(colors)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ simulate.T, 0, 1)
    back = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(back)


@pytest.mark.parametrize("simulate", [np.eye(3), DEUTERANOPIA, PROTANOPIA])
@pytest.mark.parametrize(
    ("k", "least"), [(2, 30), (3, 30), (4, 20), (6, 12), (8, 8), (20, 3)]
)
def test_colors_are_distinct_to_color_blind_readers(k, least, simulate) -> None:
    """Least CIELAB distance between any two; 2.3 is just noticeable."""
    seen = lab(habitat_colors(k), simulate)
    gaps = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert gaps[~np.eye(k, dtype=bool)].min() >= least


@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 10, 20])
def test_colors_brighten_with_the_number(k: int) -> None:
    """In a gray print higher habitats are lighter."""
    lightness = lab(habitat_colors(k), np.eye(3))[:, 0]
    assert np.diff(lightness).min() > 0.2
    if k <= 4:
        assert np.diff(lightness).min() > 10


@given(st.integers(0, 2**16 - 1))
@settings(max_examples=60, deadline=None)
def test_outline_has_every_edge_of_the_region_once(bits: int) -> None:
    """With no inset the segments are the pixel edges between inside and outside."""
    mask = (bits >> np.arange(16)).reshape(4, 4) % 2 == 1
    found = {
        tuple(sorted(map(tuple, segment)))
        for segment in edges(mask, (2.0, 3.0), 0).tolist()
    }
    padded = np.pad(mask, 1)
    expected = set()
    for r, c in np.argwhere(padded):
        y, x = (r - 1) * 2.0, (c - 1) * 3.0
        for dr, dc, ends in (
            (-1, 0, ((x, y), (x + 3, y))),
            (1, 0, ((x, y + 2), (x + 3, y + 2))),
            (0, -1, ((x, y), (x, y + 2))),
            (0, 1, ((x + 3, y), (x + 3, y + 2))),
        ):
            if not padded[r + dr, c + dc]:
                expected.add(tuple(sorted(ends)))
    assert found == expected


def test_outline_lies_inside_by_the_inset() -> None:
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:5] = True
    points = edges(mask, (2.0, 3.0), 0.5).reshape(-1, 2)
    np.testing.assert_allclose(points.min(axis=0), (6.5, 2.5))
    np.testing.assert_allclose(points.max(axis=0), (14.5, 7.5))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("k", [1, 20])
def test_any_number_of_channels_and_habitats_fits_on_the_page(channels, k) -> None:
    geometry = grid()
    labels = np.zeros(geometry.shape, np.uint8)
    labels[3:6, 2:9, 3:10] = 1 + np.arange(147).reshape(3, 7, 7) % k
    images = {
        f"c{i}": Image(np.random.default_rng(i).random(geometry.shape), geometry)
        for i in range(channels)
    }
    names = [f"H{i + 1} SUV {i}.1 HU 42" for i in range(k)]
    figure = plot_result(images, Image(labels, geometry), names=names)
    assert len(panels(figure)) == 3 * (channels + 1)
    figure.canvas.draw()
    page = figure.bbox
    legend = figure.legends[0].get_window_extent()
    for box in [legend, *(t.get_window_extent() for t in figure.texts)]:
        assert box.x0 >= page.x0 - 1
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1
    lowest = min(a.get_window_extent().y0 for a in panels(figure))
    assert legend.y1 <= lowest + 1


def test_one_slice_shows_its_one_plane() -> None:
    geometry = Geometry.from_spacing((1, 9, 9), (5, 4, 4))
    labels = np.zeros(geometry.shape, np.uint8)
    labels[0, 4, 3:6] = 1
    figure = plot_result(
        {"HU": Image(labels * 1.0, geometry, unit="HU")}, Image(labels, geometry)
    )
    assert len(panels(figure)) == 2
    assert (
        len(panels(overlay(Image(labels * 1.0, geometry), Image(labels, geometry))))
        == 1
    )


def test_missing_values_and_constant_channels_are_drawn() -> None:
    geometry = grid()
    values = np.ones(geometry.shape)
    values[0] = np.nan
    figure = overlay(Image(values, geometry), middle(geometry))
    assert all(np.isfinite(pixels(a)).all() for a in panels(figure))
    everything = Image(np.full(geometry.shape, np.nan), geometry)
    assert panels(overlay(everything, middle(geometry)))


def test_unusable_input_is_named() -> None:
    geometry = grid()
    image, labels = Image(np.zeros(geometry.shape), geometry), middle(geometry)
    with pytest.raises(GeometryError, match=r"result\.on\(image\)"):
        overlay(image, middle(grid(flips=(0,))))
    with pytest.raises(MaskError, match="no voxel"):
        overlay(image, Image(np.zeros(geometry.shape), geometry))
    with pytest.raises(ConfigError, match="axial"):
        overlay(image, labels, planes=["axal"])
    with pytest.raises(ConfigError, match="names"):
        overlay(image, Image(labels.array * 3, geometry), names=["one"])
    with pytest.raises(ConfigError, match="window"):
        overlay(image, labels, window=(5, 5))
    with pytest.raises(ConfigError, match="20"):
        habitat_colors(21)
    with pytest.raises(ConfigError, match="images"):
        plot_result({}, labels)


def test_notebooks_get_a_picture_and_files_300_dpi(tmp_path) -> None:
    figure = overlay(Image(np.zeros(grid().shape), grid()), middle(grid()))
    assert figure._repr_png_().startswith(b"\x89PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("a.png", "a.pdf", "a.svg"):
            figure.savefig(tmp_path / name, dpi=300)
    assert (tmp_path / "a.pdf").stat().st_size > 1000


def test_pictures_need_no_display_and_colors_no_matplotlib() -> None:
    code = (
        "import sys\n"
        "from habitat.plotting import habitat_colors; habitat_colors(4)\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from habitat.plotting import overlay\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    headless = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")
    }
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, env=headless, cwd=root)

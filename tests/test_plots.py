"""Color bars, mosaics, thumbnails and the figures of numbers."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import habitat
from habitat import plotting
from habitat.errors import ConfigError, GeometryError, HabitatError, InputError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.plotting import habitat_colors
from habitat.plotting._counts import density, histogram
from habitat.plotting._performance import precision_recall

GRID = Geometry.from_spacing((9, 11, 13), (3.0, 2.0, 1.0), (10, -20, 30))
NAMES = ["H1 $low", "H2 $high"]


def labels() -> Image:
    """Habitat 1 on five slices, habitat 2 on the middle one."""
    array = np.zeros(GRID.shape, np.uint8)
    array[2:7, 3:8, 3:10] = 1
    array[4, 5, 6:9] = 2
    return Image(array, GRID, unit="habitat")


def ct_and_pet() -> tuple[Image, Image]:
    """Every SUV from 0 to 12 along x; every HU along y and z."""
    suv = np.broadcast_to(np.arange(13.0), GRID.shape)
    z, y, _ = np.indices(GRID.shape)
    return Image(-160.0 + 40 * y + z, GRID, unit="HU"), Image(suv, GRID, unit="SUVbw")


def panels(figure: Figure) -> list:
    return [a for a in figure.axes if a.images and a.get_label() != "color bar"]


def pixels(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def bar_of(figure: Figure):
    (bar,) = [a for a in figure.axes if a.get_label() == "color bar"]
    return bar


def note(axes) -> str:
    """Where the slice is."""
    (text,) = [t.get_text() for t in axes.texts if re.match("[SIAPRL] ", t.get_text())]
    return text


def color_at(bar, value: float, ground: float = 0.0) -> np.ndarray:
    """What the bar shows at a value, read off the page: in its ticks' units."""
    picture = pixels(bar)
    left, right, bottom, top = bar.images[0].get_extent()
    assert (bottom, top) == (0, 1)
    column = (value - left) / (right - left) * (picture.shape[1] - 1)
    row = (1 - ground) * (picture.shape[0] - 1)
    low, part = int(column), column - int(column)
    high = min(low + 1, picture.shape[1] - 1)
    line = picture[round(row)]
    return line[low] * (1 - part) + line[high] * part


# --- color bars -----------------------------------------------------------------------


def test_color_bar_gives_the_suv_and_hu_of_each_pixel() -> None:
    ct, pet = ct_and_pet()
    figure = plotting.overlay(ct, labels(), pet=pet, pet_window=(2, 10), margin_mm=99)
    bar = bar_of(figure)
    assert bar.get_title() == "PET SUVbw over CT HU \N{MINUS SIGN}160 to 240"
    figure.canvas.draw()
    ticks = [t for t in bar.get_xticks() if 2 <= t <= 10]
    words = {t.get_text() for t in bar.get_xticklabels()}
    assert len(ticks) >= 3
    assert {f"{t:g}" for t in ticks} <= words
    assert bar.get_xlim() == (2, 10)
    (axial, *_) = panels(figure)
    for suv in [*ticks, 0, 12]:
        for row in range(0, 11, 5):
            shown = pixels(axial)[row, int(suv)]
            ground = (ct.array[4, row, 0] + 160) / 400
            expected = color_at(bar, np.clip(suv, 2, 10), min(ground, 1))
            np.testing.assert_allclose(shown, expected, atol=0.02)


@pytest.mark.parametrize("unit", ["HU", "SUVbw", "1/s"])
def test_color_bar_of_gray_pictures(unit: str) -> None:
    image = Image(ct_and_pet()[1].array, GRID, unit=unit)
    figure = plotting.overlay(image, labels(), window=(0, 8), margin_mm=99)
    axial = panels(figure)[0]
    for value in (0, 3, 8, 12):
        np.testing.assert_allclose(
            pixels(axial)[5, value], color_at(bar_of(figure), min(value, 8)), atol=1e-6
        )
    dark, bright = color_at(bar_of(figure), 0)[0], color_at(bar_of(figure), 8)[0]
    assert (dark, bright) == ((1, 0) if unit == "SUVbw" else (0, 1))


def test_fused_column_of_a_result_has_its_bar() -> None:
    ct, pet = ct_and_pet()
    figure = plotting.plot_result({"SUVbw": pet, "HU": ct}, labels())
    suv = pet.array[labels().array > 0].max()
    assert bar_of(figure).get_xlim() == (0, max(5, suv))
    figure = plotting.plot_result({"HU": ct}, labels())
    assert len(figure.axes) == len(panels(figure))


def test_pet_of_another_grid_lies_where_it_is_in_the_patient() -> None:
    """The hot point of a coarse turned grid is where it is in the patient."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (-3.0, 4.0, -4.0, 1.0)
    hot_index, hot_world = (2, 2, 1), GRID.world((4, 4, 4))
    affine[:3, 3] = hot_world - affine[:3, :3] @ hot_index
    values = np.zeros((5, 5, 3))
    values[hot_index] = 10
    pet = Image(values, Geometry((5, 5, 3), affine), unit="SUVbw")
    gray = Image(np.full(GRID.shape, 40.0), GRID, unit="HU")
    figure = plotting.overlay(
        gray, labels(), pet=pet, at=hot_world, margin_mm=99, planes=["axial"]
    )
    (axes,) = panels(figure)
    red = pixels(axes)[..., 0] - pixels(axes)[..., 2]
    assert np.unravel_index(red.argmax(), red.shape) == (4, 4)
    np.testing.assert_allclose(pixels(axes)[:, -3:], 0.5)  # outside the PET: CT only
    with pytest.raises(GeometryError):
        plotting.overlay(gray, labels(), pet=Image(values, spacing=(1e-3,) * 3))


# --- mosaic, filled habitats, thumbnails, uncertainty ---------------------------------


def test_mosaic_goes_from_head_to_foot_through_all_of_the_tumor() -> None:
    image = Image(np.indices(GRID.shape)[0] / 10, GRID)
    shown = [
        [round(10 * pixels(a)[0, 0, 0]) for a in panels(figure)]
        for figure in (
            plotting.mosaic(image, labels(), n=n, window=(0, 1)) for n in (1, 3, 9)
        )
    ]
    assert shown == [[4], [6, 4, 2], [6, 5, 4, 3, 2]]
    notes = [note(a) for a in panels(plotting.mosaic(image, labels()))]
    assert notes == ["S 48.0", "S 45.0", "S 42.0", "S 39.0", "S 36.0"]


@pytest.mark.parametrize(("plane", "axis"), [("coronal", 1), ("sagittal", 2)])
def test_mosaic_of_other_planes(plane: str, axis: int) -> None:
    image = Image(np.indices(GRID.shape)[axis] / 20, GRID)
    figure = plotting.mosaic(image, labels(), plane=plane, n=4, window=(0, 1))
    shown = [round(20 * pixels(a)[0, 0, 0]) for a in panels(figure)]
    assert len(shown) == 4
    assert shown == sorted(shown)  # front to back; right to left
    with pytest.raises(ConfigError, match="plane"):
        plotting.mosaic(image, labels(), plane="oblique")


def test_filled_habitats_have_their_colors_unmixed() -> None:
    ct, pet = ct_and_pet()
    for figure in (
        plotting.overlay(ct, labels(), fill=True, planes=["axial"], names=NAMES),
        plotting.mosaic(ct, labels(), fill=True, n=1, pet=pet),
        plotting.plot_result({"HU": ct}, labels(), fill=True),
    ):
        axes = panels(figure)[-1 if len(panels(figure)) == 1 else 1]
        filled = axes.images[1]
        assert filled.get_interpolation() == "nearest"
        colors = np.asarray(filled.get_array())
        seen = {tuple(np.round(c[:3], 6)) for c in colors[colors[..., 3] > 0]}
        assert seen == {tuple(np.round(c, 6)) for c in habitat_colors(2)}
        assert not axes.collections


@pytest.mark.parametrize("size", [96, 160])
def test_thumbnail_has_its_size(size: int, tmp_path) -> None:
    from matplotlib.image import imread

    ct, pet = ct_and_pet()
    for images in ({"SUVbw": pet, "HU": ct}, {"HU": ct}):
        figure = plotting.thumbnail(images, labels(), size_px=size)
        figure.savefig(tmp_path / "a.png")
        assert imread(tmp_path / "a.png").shape[:2] == (size, size)
        assert len(figure.axes) == 1
        assert {t.get_text() for t in figure.axes[0].texts} >= set("RLAP")


def test_uncertainty_is_colored_in_the_tumor_only() -> None:
    ct, _ = ct_and_pet()
    values = np.where(labels().array == 1, 0.5, 1.0)
    values[4, 5, 7] = np.nan
    figure = plotting.plot_uncertainty(
        ct, Image(values, GRID), labels(), planes=["axial"], margin_mm=99
    )
    (axes,) = panels(figure)
    bar, seen = bar_of(figure), pixels(axes)
    assert bar.get_xlim() == (0, 1)
    np.testing.assert_allclose(seen[3, 3], color_at(bar, 0.5), atol=0.01)
    np.testing.assert_allclose(seen[5, 6], color_at(bar, 1.0))
    for row, column in ((0, 0), (5, 7)):  # outside; no value
        assert np.ptp(seen[row, column]) == 0
    with pytest.raises(GeometryError, match="uncertainty"):
        plotting.plot_uncertainty(ct, Image(values, spacing=(1, 1, 1)), labels())


# --- numbers --------------------------------------------------------------------------


def cloud() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    habitats = np.repeat([0, 1, 2], [500, 3000, 2000])
    x = rng.normal(np.array([90, 2, 8])[habitats], 0.7)
    y = rng.normal(np.array([900, 10, 60])[habitats], 8)
    return x, y, habitats


def test_density_regions_and_lines() -> None:
    x, y, habitats = cloud()
    found = density(x, y, habitats)
    assert found.density.sum() == pytest.approx(1)
    for h, (a, b) in ((1, (2, 10)), (2, (8, 60))):
        at = np.searchsorted(found.y, b) - 1, np.searchsorted(found.x, a) - 1
        assert found.habitat[at] == h
    assert found.x[-1] < 20  # voxels outside the tumor do not count
    inside = [found.density[found.density >= level].sum() for level in found.levels]
    np.testing.assert_allclose(inside, (0.95, 0.75, 0.5, 0.25), atol=0.02)


def test_histogram_counts_every_voxel_once() -> None:
    x, _, habitats = cloud()
    x[600] = np.nan
    edges, counts = histogram(x, habitats, 3)
    np.testing.assert_array_equal(counts.sum(axis=1), (2999, 2000, 0))
    assert len(edges) == counts.shape[1] + 1


def test_whole_numbers_fall_evenly_into_bins() -> None:
    """HU are integers: bins of 1.3 HU would show a comb."""
    values = np.tile(np.arange(100), 50)
    _, counts = histogram(values, np.ones(5000, int), 1)
    assert np.ptp(counts[0, 1:-1]) == 0


def test_density_and_histograms_show_centers_and_names() -> None:
    x, y, habitats = cloud()
    centers = [[2, 10], [np.nan, np.nan]]
    figure = plotting.plot_density(
        x, y, habitats, centers, names=NAMES, units=("SUVbw", "HU"),
        cohort_centers=[[3, 12], [8, 60]],
    )  # fmt: skip
    (axes,) = figure.axes
    assert sorted(t.get_text() for t in axes.texts) == ["1", "1", "2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("SUVbw", "HU")
    figure = plotting.plot_histograms({"SUVbw": x, "HU": y}, habitats, names=NAMES)
    assert [a.get_xlabel() for a in figure.axes] == ["SUVbw", "HU"]
    assert [t.get_text() for t in figure.legends[0].texts] == NAMES
    figure.canvas.draw()  # "$" is no formula


@pytest.mark.parametrize("constant", [0.0, 7.0])
def test_one_voxel_and_constant_channels_are_drawn(constant: float) -> None:
    x = np.full(3, constant)
    plotting.plot_density(
        x, x, [0, 1, 1], [[constant] * 2], names=["H1"], units=("a", "b")
    ).canvas.draw()
    plotting.plot_histograms({"a": x[:1]}, [1], names=["H1"]).canvas.draw()


def test_shares_are_drawn_to_scale() -> None:
    table = [[0.2, 0.8], [0.5, 0.5], [np.nan, 1.0]]
    figure = plotting.plot_shares(table, case_ids=["a$", "b$", "c"], names=NAMES)
    (axes,) = figure.axes
    found = [(p.get_x(), p.get_width()) for p in axes.patches]
    expected = [(0, 20), (0, 50), (0, 0), (20, 80), (50, 50), (0, 100)]
    np.testing.assert_allclose(found, expected)
    figure.canvas.draw()
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a$", "b$", "c"]
    assert axes.get_ylim() == (2.5, -0.5)  # first on top
    many = plotting.plot_shares(
        np.full((300, 2), 0.5), case_ids=[str(i) for i in range(300)], names=NAMES
    )
    assert many.get_figheight() < 11
    assert many.axes[0].get_ylabel() == "300 cases"


def test_wrong_numbers_are_named() -> None:
    x, y, habitats = cloud()
    wrong = [
        lambda: plotting.plot_shares([[1.0]], case_ids=["a"], names=NAMES),
        lambda: plotting.plot_density(x, y[1:], habitats, [], names=NAMES, units="ab"),
        lambda: plotting.plot_density(x, y, habitats, [], names=["1"], units="ab"),
        lambda: plotting.plot_histograms({}, habitats, names=NAMES),
        lambda: plotting.plot_histograms({"x": x}, 0 * habitats, names=NAMES),
    ]
    for call in wrong:
        with pytest.raises(InputError):
            call()


def test_precision_and_recall_come_from_the_roc_curve() -> None:
    """As scikit-learn's precision_recall_curve of the same scores."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    truth = rng.random(60) < 0.3
    score = np.round(truth + rng.normal(0, 0.8, 60), 1)
    fpr, tpr, _ = metrics.roc_curve(truth, score, drop_intermediate=False)
    roc = pd.DataFrame({"false_positive_rate": fpr, "sensitivity": tpr})
    found = precision_recall(roc, truth.mean())
    precision, recall, _ = metrics.precision_recall_curve(truth, score)
    np.testing.assert_allclose(found["precision"], precision[:-1][::-1])
    np.testing.assert_allclose(found["recall"], recall[:-1][::-1])


# --- axes of the caller ---------------------------------------------------------------


def one_axes_plots() -> dict:
    x, y, h = cloud()
    roc = pd.DataFrame({"false_positive_rate": [0, 0.5, 1], "sensitivity": [0, 0.8, 1]})
    curve = pd.DataFrame({"kind": ["smooth", "smooth", "group", "bin"]})
    curve = curve.assign(p=[0.1, 0.9, 0.5, 0.5], observed=0.5, low=0.4, high=0.6, n=9)
    net = pd.DataFrame({"threshold": [0.1, 0.5], "model": [0.2, 0.1], "all": [0.2, 0]})
    areas = pd.DataFrame({"model": ["a"], "value": [0.8], "low": [0.6], "high": [0.9]})
    dice = pd.DataFrame({"perturbation": ["noise"] * 2, "habitat": [1, 2], "dice": 0.9})
    icc = pd.DataFrame({"map": ["m"], "perturbation": ["noise"], "icc_voxel": [0.9]})
    icc = icc.assign(low=0.8, cases=3)
    marks = {"age": (np.array([30.0, 80.0]), np.array([0.0, 100.0]))}
    ends = np.array([0.0, 100.0]), np.array([0.1, 0.9])
    kept = pd.DataFrame({"feature": ["f"], "share": [0.5]})
    return {
        "roc": lambda ax: plotting.plot_roc(roc, "AUC", ax=ax),
        "pr": lambda ax: plotting.plot_pr(roc, 0.3, "AP", ax=ax),
        "calibration": lambda ax: plotting.plot_calibration(curve, "", ax=ax),
        "decision": lambda ax: plotting.plot_decision(net, ax=ax),
        "importance": lambda ax: plotting.plot_importance(kept, ax=ax),
        "areas": lambda ax: plotting.plot_areas(areas, "AUC", ax=ax),
        "stability": lambda ax: plotting.plot_stability(dice, dice[:0], ax=ax),
        "precision": lambda ax: plotting.plot_precision(icc, ["m"], 0.75, ax=ax),
        "nomogram": lambda ax: plotting.plot_nomogram(marks, *ends, "1", ax=ax),
        "choice": lambda ax: plotting.plot_choice(
            [2, 3], {"gap": np.array([1.0, 2.0])}, {"gap": 3}, 3, 0.01, ax=ax
        ),
        "density": lambda ax: plotting.plot_density(
            x, y, h, [[2, 10], [8, 60]], names=NAMES, units="ab", ax=ax
        ),
        "histogram": lambda ax: plotting.plot_histograms(
            {"x": x}, h, names=NAMES, ax=ax
        ),
        "shares": lambda ax: plotting.plot_shares(
            [[0.5, 0.5]], case_ids=["a"], names=NAMES, ax=ax
        ),
    }


@pytest.mark.parametrize("name", one_axes_plots())
def test_it_is_drawn_into_the_axes_given(name: str) -> None:
    call = one_axes_plots()[name]
    figure = Figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    ax, other = left.add_subplot(), right.add_subplot()
    assert call(ax) is figure
    assert figure.axes == [ax, other]
    assert ax.has_data()
    assert not other.has_data()
    assert not figure.legends + left.legends
    figure.canvas.draw()
    alone = call(None)
    alone.canvas.draw()
    assert alone is not figure
    assert len(alone.axes) == 1


def test_many_panels_need_many_axes() -> None:
    x, y, h = cloud()
    ax = Figure().add_subplot()
    with pytest.raises(HabitatError, match="ax"):
        plotting.plot_histograms({"x": x, "y": y}, h, names=NAMES, ax=ax)
    values = {"gap": np.array([1.0]), "bic": np.array([1.0])}
    with pytest.raises(HabitatError, match="ax"):
        plotting.plot_choice([2], values, {}, 2, 0.5, ax=ax)


@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
def test_contours_lie_on_the_tumor_of_a_real_patient(shared) -> None:
    """Colored voxels on the CT grid are the tumor's: same place in the patient."""
    folder = shared / "data" / "sts_petct" / "STS_006"
    pet, ct = (habitat.read(folder / f"{m}_image.nii.gz") for m in ("PET", "CT"))
    pet, ct = pet.replace(pet.array, unit="SUVbw"), ct.replace(ct.array, unit="HU")
    result = habitat.segment(pet, ct, folder / "PET_mask.nii.gz", k=2)
    figure = plotting.overlay(ct, result.on(ct), pet=pet, planes=["axial"], fill=True)
    (axes,) = panels(figure)
    filled = np.asarray(axes.images[1].get_array())[..., 3] > 0
    mask = habitat.read(folder / "CT_mask.nii.gz")
    height = float(note(axes).removeprefix("S "))
    cut = mask.array[round(float(mask.geometry.index((0, 0, height))[0]))] > 0
    step = np.array(mask.geometry.spacing[1:])
    assert filled.sum() == pytest.approx(cut.sum(), rel=0.1)
    extent = np.ptp(np.argwhere(filled), axis=0), np.ptp(np.argwhere(cut), axis=0)
    np.testing.assert_allclose(extent[0] * step, extent[1] * step, atol=6)

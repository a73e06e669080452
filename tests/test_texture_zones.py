"""Runs, zones, dependences and differences in windows against pyradiomics."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from habitat.kernels import texture_runs, texture_zones
from tests import naive_texture_zones
from tests.golden import texture_zones_make as golden

MODULES = dict.fromkeys(golden.CLASSES, texture_zones) | {"glrlm": texture_runs}
NAMES = {name: getattr(MODULES[name], name.upper()) for name in golden.CLASSES}
LEVELS = golden.generated()
FOLDER = Path(golden.__file__).parent

each_class = pytest.mark.parametrize("name", golden.CLASSES)
each_radius = pytest.mark.parametrize("radius", golden.RADII)


def run(name, levels, radius, every=1, module=None):
    """Features (voxels, features) of every so-manieth voxel, by kernel or twin."""
    kernels = MODULES[name]
    padded = np.pad(levels, radius)
    cube = np.indices(3 * (2 * radius + 1,)).reshape(3, -1) - radius
    strides = np.array(padded.strides) // padded.itemsize
    centers = np.flatnonzero(padded)[::every]
    out = np.full((centers.size, len(NAMES[name])), -7.0)
    with np.errstate(over="ignore"):  # bits are counted modulo 2**64
        getattr(module or kernels, name)(
            padded.ravel(),
            centers,
            strides @ cube,
            *getattr(kernels, f"{name}_tables")(radius),
            int(levels.max()),
            out,
        )
    return out


def by_name(name, values):
    """Columns in the order of the sorted names, as in the golden files."""
    return values[:, np.argsort(NAMES[name])]


def assert_as_pyradiomics(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-12, equal_nan=True)


@each_class
@each_radius
@pytest.mark.parametrize("case", LEVELS)
def test_kernels_do_as_their_twins(name, radius, case):
    every = 4 + 6 * radius**2
    got = run(name, LEVELS[case], radius, every)
    want = run(name, LEVELS[case], radius, every, naive_texture_zones)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@each_class
@each_radius
@pytest.mark.parametrize("case", LEVELS)
def test_generated_images_have_the_values_of_pyradiomics(name, radius, case):
    with np.load(FOLDER / "texture_zones_generated.npz") as kept:
        levels, want = kept[case], kept[f"{case}/{radius}/{name}"]
    assert_as_pyradiomics(by_name(name, run(name, levels, radius, 3)), want)


@each_class
@each_radius
@pytest.mark.parametrize("kind", golden.BIN_WIDTH)
def test_a_tumor_has_the_values_of_pyradiomics(shared, name, radius, kind):
    levels = golden.binned(*golden.crop(shared, kind), golden.BIN_WIDTH[kind])
    with np.load(FOLDER / "texture_zones_sts.npz") as kept:
        want = kept[f"{kind}/{radius}/{name}"]
    got = run(name, levels, radius, golden.EVERY)
    assert_as_pyradiomics(by_name(name, got), want)


@pytest.mark.slow
@each_class
@each_radius
@pytest.mark.parametrize("kind", golden.BIN_WIDTH)
@pytest.mark.parametrize("share", [1, 0.4])
def test_a_tumor_is_as_pyradiomics_finds_it_now(shared, name, radius, kind, share):
    image, mask = golden.crop(shared, kind)
    bin_width = golden.BIN_WIDTH[kind] * share
    found = golden.pyradiomics(image, mask, bin_width, radius, name)
    levels = golden.binned(image, mask, bin_width)
    assert set(found) == set(NAMES[name])
    want = np.column_stack([found[feature] for feature in NAMES[name]])
    assert len(want) == 2000
    assert_as_pyradiomics(run(name, levels, radius), want)


def pair(a, b, n_a, n_b):
    """Two levels in one window, and the lowest one far off."""
    levels = np.zeros((7, 3, 3), np.int32)
    levels[:3].flat[9 : 9 + n_a] = a
    levels[:3].flat[9 + n_a : 9 + n_a + n_b] = b
    levels[6, 1, 1] = 1
    return levels


@pytest.mark.parametrize("levels", [(2, 3, 3, 2), (2, 5, 5, 2), (1, 2, 4, 2)])
def test_busyness_of_equal_shares_is_zero_whatever_rounding_does(levels):
    levels = pair(*levels)
    found = golden.pyradiomics(25.0 * levels, levels > 0, 25.0, 1, "ngtdm")
    got = run("ngtdm", levels, 1)[:, NAMES["ngtdm"].index("Busyness")]
    assert 0 in got
    rounding = found["Busyness"] > 1e14  # pyradiomics divides by what should be 0
    assert_as_pyradiomics(got, np.where(rounding, 0.0, found["Busyness"]))


@each_class
def test_a_lone_voxel_has_the_values_of_pyradiomics(name):
    levels = np.zeros((5, 5, 5), np.int32)
    levels[2, 2, 2] = 1
    found = golden.pyradiomics(25.0 * levels, levels > 0, 25.0, 1, name)
    want = [[found[feature][0] for feature in NAMES[name]]]
    assert_as_pyradiomics(run(name, levels, 1), want)
    assert np.isnan(want).all() == (name == "glrlm")


def test_zones_and_runs_that_can_be_counted_by_hand():
    levels = np.zeros((1, 3, 3), np.int32)
    levels[0] = [[1, 1, 2], [2, 1, 2], [2, 2, 2]]
    center = np.flatnonzero(levels).tolist().index(4)
    zones = dict(zip(NAMES["glszm"], run("glszm", levels, 1)[center], strict=True))
    assert zones["ZonePercentage"] == pytest.approx(2 / 9)  # of 3 and of 6 voxels
    assert zones["LargeAreaEmphasis"] == pytest.approx((9 + 36) / 2)
    assert zones["ZoneEntropy"] == pytest.approx(1)
    runs = dict(zip(NAMES["glrlm"], run("glrlm", levels, 1)[center], strict=True))
    directions = [6 / 9, 5 / 9, 7 / 9, 8 / 9]  # along x, y and the two diagonals
    assert runs["RunPercentage"] == pytest.approx(np.mean(directions))


@each_class
def test_flips_and_turns_change_nothing(name):
    levels = LEVELS["patches"]
    where = np.zeros(levels.shape, int)
    where[levels > 0] = np.arange(np.count_nonzero(levels))
    want = run(name, levels, 1)
    for axes in itertools.permutations(range(3)):
        turned = np.ascontiguousarray(levels.transpose(axes)[::-1, :, ::-1])
        order = where.transpose(axes)[::-1, :, ::-1][turned > 0]
        np.testing.assert_allclose(run(name, turned, 1), want[order], rtol=1e-12)


@each_class
def test_thousands_of_levels(name):
    levels = LEVELS["many levels"] * 1500
    got, want = (run(name, levels, 1, 60, m) for m in (None, naive_texture_zones))
    np.testing.assert_allclose(got, want, rtol=1e-11)


@each_class
def test_one_window_does_not_depend_on_another(name):
    levels = LEVELS["many levels"]
    together, few = run(name, levels, 2), run(name, levels, 2, 7)
    np.testing.assert_array_equal(together[::7], few)


@pytest.mark.parametrize("radius", [4, 5])
def test_planes_fit_into_one_number(radius):
    with pytest.raises(OverflowError):
        texture_runs.glrlm_tables(radius)

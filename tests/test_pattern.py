"""Autocorrelation, pair correlation, depth and offsets of habitats."""

import csv
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

import habitat
from habitat.features._composition import composition
from habitat.features._pattern import (
    autocorrelation,
    hotspot_offset,
    pair_correlation,
    position,
)
from habitat.voxels import depth_mm

SHAPES = st.tuples(*[st.integers(1, 6)] * 3)
SPACINGS = st.tuples(*[st.floats(0.5, 6)] * 3)


def brute_autocorrelation(values, mask, spacing):
    """Moran's I and Geary's C as sums over all pairs; IBSI N365, NPT7."""
    index = np.argwhere(mask)
    x = values[mask]
    n, u = x.size, x - x.mean()
    step = index[:, None] - index
    gap = np.sqrt(((step * np.asarray(spacing)) ** 2).sum(-1))
    inverse = np.zeros_like(gap)
    inverse[gap > 0] = 1 / gap[gap > 0]
    out = []
    for w in (inverse, (np.abs(step).max(-1) == 1).astype(float)):
        total = w.sum() if w.any() else np.nan
        squares = (u**2).sum() if np.ptp(x) else np.nan
        out.append(n / total * (w * np.outer(u, u)).sum() / squares)
        apart = (w * (x[:, None] - x) ** 2).sum()
        out.append((n - 1) / (2 * total) * apart / squares)
    return out


def brute_pairs(labels, k, spacing, r):
    """Pair correlation at r, from the distances of all pairs of voxels."""
    index = np.argwhere(labels)
    own = labels[labels > 0]
    gap = np.sqrt((((index[:, None] - index) * np.asarray(spacing)) ** 2).sum(-1))
    ring = (np.abs(gap - r) <= max(1, max(spacing) / 2) + 1e-6) & (gap > 0)
    g = {}
    for i, j in combinations_with_replacement(range(1, k + 1), 2):
        a, b = own == i, own == j
        expected = a.mean() * b.mean() * ring.sum() if own.size else 0
        found = (ring & a[:, None] & b).sum()
        name = f"pair_correlation_{r}mm_{i}_{j}"
        g[name] = found / expected if expected else np.nan
    return g


@st.composite
def cases(draw, k=3):
    """Fragmented label maps that touch the border, some regions absent; values."""
    shape = draw(SHAPES)
    labels = draw(arrays(np.uint8, shape, elements=st.integers(0, k)))
    values = draw(arrays(float, shape, elements=st.integers(-90, 90).map(float)))
    return labels, values, draw(SPACINGS)


@given(cases())
def test_autocorrelation_is_the_sum_over_all_pairs(case):
    labels, values, spacing = case
    found = np.array(list(autocorrelation(values, labels, 3, spacing).values()))
    for i in (1, 2, 3):
        mask = labels == i
        want = [np.nan] * 4
        if mask.sum() > 1:
            want = brute_autocorrelation(values, mask, spacing)
        np.testing.assert_allclose(found[:, i - 1], want, rtol=1e-9, atol=1e-9)


@given(cases())
def test_pair_correlation_counts_all_pairs(case):
    labels, _, spacing = case
    found = pair_correlation(labels, 3, spacing)
    want = {}
    for r in (2, 5, 10):
        want |= brute_pairs(labels, 3, spacing, r)
    assert list(found) == list(want)
    np.testing.assert_allclose(
        list(found.values()), list(want.values()), rtol=1e-12, atol=0
    )


def test_ibsi_digital_phantom(shared):
    values, mask, spacing = ibsi(shared, "digital_phantom")
    found = autocorrelation(values, mask, 1, spacing)
    assert found["moran_i"][0] == pytest.approx(0.0397, abs=0.0003)
    assert found["geary_c"][0] == pytest.approx(0.974, abs=0.006)
    brute = brute_autocorrelation(values, mask > 0, spacing)
    np.testing.assert_allclose(
        [found["moran_i"][0], found["geary_c"][0]], brute[:2], rtol=1e-9
    )


@pytest.mark.parametrize(
    ("config", "grid", "order", "low_high", "outliers"),
    [
        ("a", None, 1, (-500, 400), False),
        ("b", (3, 2, 2), 1, (-500, 400), False),
        ("c", (2, 2, 2), 1, (-1000, 400), False),
        ("d", (2, 2, 2), 1, None, True),
        ("e", (2, 2, 2), 3, (-1000, 400), True),
    ],
)
def test_ibsi_ct_phantom(shared, config, grid, order, low_high, outliers):
    values, mask, spacing = ibsi(shared, "ct_phantom", grid, order)
    keep = mask > 0
    if low_high:
        keep &= (values >= low_high[0]) & (values <= low_high[1])
    if outliers:
        inside = values[keep]
        keep &= np.abs(values - inside.mean()) <= 3 * inside.std()
    found = autocorrelation(values, keep.astype(np.uint8), 1, spacing)
    with (shared / "reference" / "ibsi1_phantoms.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if f"config_{config}" in r["data_set"]]
    for tag, name in (("morph_moran_i", "moran_i"), ("morph_geary_c", "geary_c")):
        [row] = [r for r in rows if r["tag"] == tag]
        want, tolerance = float(row["reference_value"]), float(row["tolerance"])
        assert found[name][0] == pytest.approx(want, abs=tolerance), tag


def ibsi(shared, name, grid=None, order=1):
    """Image and mask of a phantom, brought to a spacing as the IBSI manual says."""
    folder = shared / "data" / "ibsi1" / name / "nifti"
    image = habitat.read(folder / "image" / "phantom.nii.gz")
    mask = habitat.read(folder / "mask" / "mask.nii.gz").array.astype(float)
    values = image.array.astype(float)
    geometry = image.geometry
    if grid is not None:
        geometry = image.geometry.resampled(grid)
        shape = geometry.shape
        at = np.indices(shape).reshape(3, -1).T
        at = image.geometry.index(geometry.world(at)).T
        values, mask = (
            ndimage.map_coordinates(a, at, order=o, mode="nearest").reshape(shape)
            for a, o in ((values, order), (mask, 1))
        )
        values = np.round(values)
    return values, (mask >= 0.5).astype(np.uint8), geometry.spacing


def test_random_mixing_has_pair_correlation_one():
    rng = np.random.default_rng(3)
    z, y, x = np.indices((40, 40, 40)) - 19.5
    odd = (z**2 + y**2 + x**2 < 380) & ((z + 6) ** 2 + y**2 > 60)  # a drilled ball
    labels = np.where(odd, rng.choice([1, 2, 3], odd.shape, p=[0.6, 0.3, 0.1]), 0)
    g = pair_correlation(labels, 3, (1, 1, 1))
    assert list(g.values()) == pytest.approx([1] * 18, abs=0.03)


def test_two_halves_keep_apart_at_every_distance():
    labels = np.ones((20, 20, 40), dtype=np.uint8)
    labels[:, :, 20:] = 2
    g = pair_correlation(labels, 2, (1, 1, 1))
    assert g["pair_correlation_2mm_1_2"] < 0.2 < g["pair_correlation_10mm_1_2"] < 1
    assert g["pair_correlation_2mm_1_1"] > 1.8 > g["pair_correlation_10mm_1_1"] > 1


def test_rings_widen_with_the_voxels_and_are_empty_where_no_voxel_lies():
    labels = np.ones((4, 4, 4), dtype=np.uint8)
    at = pair_correlation(labels, 1, (4, 4, 4))
    assert at["pair_correlation_2mm_1_1"] == 1  # neighbors at 4 mm: 2 + 4 / 2
    assert np.isnan(pair_correlation(labels, 1, (6, 6, 6))["pair_correlation_2mm_1_1"])


def test_moran_of_a_checkerboard_a_gradient_and_noise():
    z, y, x = np.indices((12, 12, 12))
    mask = np.ones(z.shape, dtype=np.uint8)
    noise = np.random.default_rng(0).normal(size=z.shape)
    for values, sign in ((x.astype(float), 1), (noise, 0)):
        found = autocorrelation(values, mask, 1, (1, 1, 1))
        assert found["moran_i_26"][0] == pytest.approx(0.9 * sign, abs=0.1)
        assert found["geary_c_26"][0] == pytest.approx(1 - 0.95 * sign, abs=0.05)
    row = (x[:1, :1] % 2).astype(float)
    found = autocorrelation(row, mask[:1, :1], 1, (1, 1, 1))
    assert found["moran_i_26"][0] == pytest.approx(-1)


def test_undefined_is_nan_and_never_warns():
    labels = np.zeros((5, 5, 5), dtype=np.uint8)
    labels[0, 0, 0], labels[4, :2, 4] = 1, 3  # one voxel; absent; flat
    labels[2, 2, (0, 2, 4)] = 4  # without neighbors
    values = np.arange(125.0).reshape(5, 5, 5)
    values[4, :2, 4] = 7.1
    found = autocorrelation(values, labels, 4, (1, 1, 1))
    assert np.isnan(found["moran_i"]).tolist() == [True, True, True, False]
    assert np.isnan(found["geary_c_26"]).all()
    hot = hotspot_offset(values, labels, 4, (1, 1, 1))["hotspot_offset"]
    assert np.isnan(hot).tolist() == [True, True, True, False]
    deep = depth_mm(labels > 0, (1, 1, 1))
    for name, at in position(labels, 4, (1, 1, 1), deep).items():
        assert np.isnan(at).tolist() == [False, True, False, False], name
    nothing = np.zeros_like(labels)
    assert len(pair_correlation(nothing, 0, (1, 1, 1))) == 0
    for found in everything(nothing, values, 2, (1, 1, 1)).values():
        assert np.isnan(found).all()


def test_missing_values_leave_the_region():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, (6, 7, 8)).astype(np.uint8)
    values = rng.normal(size=labels.shape)
    lost = rng.random(labels.shape) < 0.2
    holes = np.where(lost, np.nan, values)
    cut = np.where(lost, 0, labels)
    a = autocorrelation(holes, labels, 2, (1, 2, 3))
    b = autocorrelation(values, cut, 2, (1, 2, 3))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
    highest = np.nanargmax(np.where(labels == 1, holes, np.nan))
    cut_to_one = np.where(labels == 1, 1, 0)
    center = np.argwhere(cut_to_one).mean(0) * (1, 2, 3)
    at = np.array(np.unravel_index(highest, labels.shape)) * (1, 2, 3)
    radius = np.cbrt(3 * 6 * cut_to_one.sum() / (4 * np.pi))
    assert hotspot_offset(holes, labels, 2, (1, 2, 3))["hotspot_offset"][
        0
    ] == pytest.approx(np.linalg.norm(at - center) / radius)


def test_core_and_shell_of_a_ball():
    z, y, x = np.indices((61, 61, 61)) - 30
    r = np.sqrt(z**2 + y**2 + x**2)
    labels = np.where(r <= 28, np.where(r <= 14, 2, 1), 0)
    deep = depth_mm(labels > 0, (1, 1, 1))
    found = position(labels, 2, (1, 1, 1), deep)
    # Mean of R - r over a core of radius a, and over the shell, by integration. The
    # steps of the voxels reach up to sqrt(3) / 2 mm into the ball.
    core = 28 - 0.75 * 14
    shell = 28 - 0.75 * (28**4 - 14**4) / (28**3 - 14**3)
    np.testing.assert_allclose(found["mean_depth_mm"], [shell, core], atol=0.87)
    np.testing.assert_allclose(found["mean_depth"], [shell / 28, core / 28], atol=0.03)
    rim = (28**3 - 25**3) / (28**3 - 14**3)
    np.testing.assert_allclose(found["rim_fraction"], [rim, 0], atol=0.07)
    np.testing.assert_allclose(found["centroid_offset"], 0, atol=1e-12)


def test_offsets_are_in_radii_of_the_sphere_of_equal_volume():
    labels = np.ones((5, 6, 10), dtype=np.uint8)
    labels[:, :, 5:] = 2
    spacing = (2, 2, 3)
    radius = np.cbrt(3 * labels.size * 12 / (4 * np.pi))
    deep = depth_mm(labels > 0, spacing)
    found = position(labels, 2, spacing, deep)["centroid_offset"]
    np.testing.assert_allclose(found, 7.5 / radius)
    values = np.zeros(labels.shape)
    values[2, 0, 9] = values[2, 5, 9] = 8  # a tie: mean of both distances
    tumor = (labels > 0).astype(np.uint8)
    hot = hotspot_offset(values, tumor, 1, spacing)["hotspot_offset"]
    assert hot == pytest.approx(np.hypot(13.5, 5) / radius)


def everything(labels, values, k, spacing):
    deep = depth_mm(labels > 0, spacing)
    return {
        **autocorrelation(values, labels, k, spacing),
        **pair_correlation(labels, k, spacing),
        **position(labels, k, spacing, deep),
        **hotspot_offset(values, labels, k, spacing),
    }


def assert_same(a, b):
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-9, atol=1e-9, err_msg=name)


@given(cases())
def test_turning_flipping_and_padding_change_nothing(case):
    labels, values, spacing = case
    before = everything(labels, values, 3, spacing)
    order = (2, 0, 1)
    turned = [np.transpose(a, order)[::-1, :, ::-1] for a in (labels, values)]
    assert_same(before, everything(*turned, 3, [spacing[i] for i in order]))
    width = ((3, 0), (1, 2), (0, 5))
    padded = [np.pad(a, width, constant_values=0) for a in (labels, values)]
    assert_same(before, everything(*padded, 3, spacing))


@given(cases(), st.permutations([1, 2, 3]))
def test_relabelling_permutes(case, new):
    labels, values, spacing = case
    before = everything(labels, values, 3, spacing)
    after = everything(np.array([0, *new])[labels], values, 3, spacing)
    for name, value in before.items():
        if np.ndim(value):
            want = after[name][np.array(new) - 1]
        else:
            stem, i, j = name.rsplit("_", 2)
            i, j = sorted((new[int(i) - 1], new[int(j) - 1]))
            want = after[f"{stem}_{i}_{j}"]
        np.testing.assert_allclose(value, want, rtol=1e-9, atol=1e-9, err_msg=name)


def test_turning_by_45_degrees_changes_little():
    half = 34
    grid = np.indices([2 * half + 1] * 3) - half

    def phantom(angle):
        c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        z = grid[0]
        y, x = c * grid[1] - s * grid[2], s * grid[1] + c * grid[2]
        tumor = (z / 22) ** 2 + (y / 26) ** 2 + (x / 32) ** 2 <= 1
        core = (z / 10) ** 2 + (y / 14) ** 2 + ((x - 8) / 12) ** 2 <= 1
        waves = np.sin(y / 5) + np.sin(x / 6) + np.sin(z / 7)
        return np.where(tumor, np.where(core, 1, np.where(waves > 0, 2, 3)), 0)

    spacing = (1, 1, 1)
    a, b = phantom(0), phantom(45)
    shares = [composition(one, 3, spacing)["fraction"] for one in (a, b)]
    np.testing.assert_allclose(shares[1], shares[0], rtol=0.05)
    where = [position(x, 3, spacing, depth_mm(x > 0, spacing)) for x in (a, b)]
    for name in ("mean_depth_mm", "mean_depth"):
        np.testing.assert_allclose(where[1][name], where[0][name], rtol=0.05)
    g = [list(pair_correlation(one, 3, spacing).values()) for one in (a, b)]
    np.testing.assert_allclose(g[1], g[0], rtol=0.05, atol=0.005)

"""Surrogate habitats: random divisions of a tumor, as coarse as its own habitats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from habitat.evaluation import _surrogate
from habitat.evaluation._surrogate import Surrogates, correlation_mm

SPACING = (3.0, 1.5, 1.5)
SHARES = (0.4, 0.3, 0.2, 0.1)


def rng(seed=0):
    return np.random.default_rng(seed)


def ball(shape=(14, 28, 28), spacing=SPACING):
    axes = [
        (np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2)
    return radius <= min(np.multiply(shape, spacing)) / 2, radius, x


def cut(field, inside, k):
    """Habitats of equal size by the values of a field."""
    out = np.zeros(inside.shape, np.uint8)
    rank = field[inside].argsort(kind="stable").argsort()
    out[inside] = 1 + rank * k // len(rank)
    return out


def smooth(inside, mm, spacing=SPACING, seed=0):
    """A map of four habitats from noise that a Gaussian of `mm` made smooth."""
    noise = rng(seed).standard_normal(inside.shape)
    sigma = [mm / s for s in spacing]
    return cut(ndimage.gaussian_filter(noise, sigma, mode="wrap"), inside, 4)


MAPS = {
    "patches of 1.5 mm": lambda i, r, x: smooth(i, 1.5),
    "patches of 3 mm": lambda i, r, x: smooth(i, 3.0),
    "patches of 6 mm": lambda i, r, x: smooth(i, 6.0),
    "shells": lambda i, r, x: cut(r, i, 4),
    "core and rim": lambda i, r, x: cut(r, i, 2),
    "bands across": lambda i, r, x: cut(x, i, 4),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("shares", [SHARES, (0.25, 0.25, 0.25, 0.25)])
def test_patches_are_as_large_as_those_of_the_map(name, shares):
    labels = MAPS[name](*ball())
    wanted = correlation_mm(labels, SPACING)
    made = Surrogates(labels, SPACING, shares)
    found = [correlation_mm(made.draw(rng(seed)), SPACING) for seed in range(4)]
    assert np.mean(found) == pytest.approx(wanted, rel=0.25)


@settings(max_examples=30)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda s: sum(s) > 0.1),
    st.integers(0, 99),
)
def test_shares_are_exact_to_a_voxel(shares, seed):
    inside, radius, _ = ball((8, 12, 12))
    labels = cut(radius, inside, 3)
    found = Surrogates(labels, SPACING, shares).draw(rng(seed))
    np.testing.assert_array_equal(found > 0, inside)
    share = np.array(shares) / np.sum(shares)
    sizes = np.bincount(found.ravel(), minlength=len(shares) + 1)[1:]
    assert np.abs(sizes - share * inside.sum()).max() <= 1.0 + 1e-9


def test_same_seed_same_map_other_seed_another():
    labels = smooth(ball()[0], 3.0)
    made = Surrogates(labels, SPACING, SHARES)
    a, b, c = (made.draw(rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    agreement = np.mean(a[labels > 0] == c[labels > 0])
    assert agreement < 0.6


def test_knows_nothing_of_where_habitats_lie():
    """Of the true map only the length is used: each place is as likely as any other."""
    inside, radius, _ = ball()
    labels = cut(radius, inside, 4)
    made = Surrogates(labels, SPACING, SHARES)
    depth = [radius[made.draw(rng(seed)) == 4].mean() for seed in range(40)]
    error = np.std(depth) / np.sqrt(len(depth))
    assert np.mean(depth) == pytest.approx(radius[inside].mean(), abs=3.5 * error)


@pytest.mark.parametrize("axes", [(2, 1, 0), (1, 2, 0)])
def test_length_is_in_millimeters_whatever_the_axes(axes):
    labels = smooth(ball()[0], 3.0)
    turned = labels.transpose(axes)[::-1, :, ::-1]
    spacing = [SPACING[a] for a in axes]
    assert correlation_mm(turned, spacing) == pytest.approx(
        correlation_mm(labels, SPACING), rel=1e-6
    )


def test_length_does_not_depend_on_the_margin_or_the_names():
    labels = smooth(ball()[0], 3.0)
    wide = np.pad(labels, ((2, 3), (0, 5), (1, 0)))
    other = np.array([0, 3, 1, 4, 2], np.uint8)[wide]
    wanted = pytest.approx(correlation_mm(labels, SPACING), rel=1e-6)
    assert correlation_mm(wide, SPACING) == wanted
    assert correlation_mm(other, SPACING) == wanted


def test_length_against_pairs_counted_one_by_one():
    labels = np.zeros((3, 7, 8), np.uint8)
    labels[:, 1:6, 1:7] = rng(4).integers(1, 4, (3, 5, 6))
    labels[:, 1:4, 1:4] = 1
    where = np.argwhere(labels)
    own = labels[labels > 0]
    a, b = np.triu_indices(len(own), 1)
    apart = np.linalg.norm((where[a] - where[b]) * 2.0, axis=1)
    same = own[a] == own[b]
    chance = np.mean(own[:, None] == own)
    rings = np.rint(apart / 2.0).astype(int)
    at = [apart[rings == r].mean() for r in range(1, rings.max() + 1)]
    memory = [
        (same[rings == r].mean() - chance) / (1 - chance)
        for r in range(1, rings.max() + 1)
    ]
    points, values = [0.0, *at], [1.0, *memory]
    i = next(i for i, v in enumerate(values) if v <= np.exp(-1))
    expected = np.interp(
        -np.exp(-1), [-values[i - 1], -values[i]], points[i - 1 : i + 1]
    )
    assert correlation_mm(labels, (2, 2, 2)) == pytest.approx(expected, rel=1e-9)


def test_large_maps_are_thinned(monkeypatch):
    labels = smooth(ball((40, 80, 80))[0], 6.0)
    whole = correlation_mm(labels, SPACING)
    monkeypatch.setattr(_surrogate, "_MOST", 40_000)
    assert correlation_mm(labels, SPACING) == pytest.approx(whole, rel=0.1)


def test_one_habitat_has_no_length_and_gets_bands():
    inside, _, _ = ball()
    labels = inside.astype(np.uint8)
    assert correlation_mm(labels, SPACING) == np.inf
    found = Surrogates(labels, SPACING, (0.5, 0.5)).draw(rng())
    assert ndimage.label(found == 1)[1] == 1
    assert ndimage.label(found == 2)[1] == 1


def test_share_of_zero_is_an_empty_habitat():
    labels = smooth(ball()[0], 3.0)
    found = Surrogates(labels, SPACING, (0.5, 0.0, 0.5)).draw(rng())
    assert not (found == 2).any()


def test_one_voxel():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 2
    found = Surrogates(labels, SPACING, (0.2, 0.8)).draw(rng())
    assert found[1, 1, 1] == 2
    assert found.sum() == 2

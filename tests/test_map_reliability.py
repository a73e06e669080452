"""Which voxelwise maps come out alike when their images change a little."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import habitat
from habitat.case import Case
from habitat.errors import ConfigError, HabitatWarning, InputError, MaskError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.reliability import MapPrecision, icc, map_precision, stability
from habitat.reliability._features import _at
from habitat.reliability._independent import Lags
from habitat.reliability._perturb import PERTURBATIONS, Draw, OwnGrids


def gaussian_field(rng, shape, sd) -> np.ndarray:
    """Stationary field of variance 1; its autocorrelation is exp(-h^2 / (4 sd^2))."""
    pad = [int(6 * s) + 1 for s in sd]
    grain = rng.standard_normal([n + 2 * p for n, p in zip(shape, pad, strict=True)])
    inner = tuple(slice(p, p + n) for n, p in zip(shape, pad, strict=True))
    grain = ndimage.gaussian_filter(grain, sd)
    for s in sd:
        impulse = np.zeros(2 * int(6 * s) + 3)
        impulse[impulse.size // 2] = 1
        grain /= np.linalg.norm(ndimage.gaussian_filter1d(impulse, s)) if s else 1
    return grain[inner]


def ellipsoid(shape) -> np.ndarray:
    grid = np.indices(shape)
    center, half = (np.array(shape) - 1) / 2, np.array(shape) / 2
    return (
        sum(((g - c) / h) ** 2 for g, c, h in zip(grid, center, half, strict=True)) < 1
    )


# --- independent voxels ---------------------------------------------------------------


def test_white_noise_has_as_many_independent_values_as_voxels() -> None:
    inside = ellipsoid((12, 24, 24))
    values = np.random.default_rng(0).standard_normal(inside.sum())
    found = Lags(inside, (3.0, 1.0, 1.0)).independent(values)
    assert found == pytest.approx(inside.sum(), rel=0.03)


@pytest.mark.parametrize(
    ("shape", "spacing", "sd_mm"),
    [
        ((30, 44, 44), (1.0, 1.0, 1.0), 1.5),
        ((14, 50, 50), (3.0, 1.0, 1.0), 2.0),
        ((1, 90, 90), (5.0, 1.0, 1.0), 2.0),
    ],
)
def test_independent_values_of_gaussian_fields(shape, spacing, sd_mm) -> None:
    """The integral of exp(-h^2 / (2 sd^2)), over 3 or 2 dimensions, is one value's."""
    inside = ellipsoid(shape)
    lags = Lags(inside, spacing)
    sd = [sd_mm / s if n > 1 else 0 for s, n in zip(spacing, shape, strict=True)]
    rng = np.random.default_rng(1)
    found = [lags.independent(gaussian_field(rng, shape, sd)[inside]) for _ in range(8)]
    per_axis = [
        np.exp(-((np.arange(-99, 100) / s) ** 2) / 2).sum() if s else 1.0 for s in sd
    ]
    expected = inside.sum() / np.prod(per_axis)
    assert np.mean(found) == pytest.approx(expected, rel=0.25)


def test_independent_values_know_no_storage_order_and_no_unit() -> None:
    inside = ellipsoid((9, 20, 16))
    field = gaussian_field(np.random.default_rng(2), inside.shape, (1, 2, 2))
    found = Lags(inside, (2.0, 1.0, 1.0)).independent(field[inside])
    other = np.moveaxis(field[::-1, :, ::-1], 0, 2) * -300 + 5000
    inside = np.moveaxis(inside[::-1, :, ::-1], 0, 2)
    again = Lags(inside, (1.0, 1.0, 2.0)).independent(other[inside])
    assert again == pytest.approx(found, rel=1e-6)


def test_independent_values_of_degenerate_regions() -> None:
    one = np.ones((1, 1, 1), bool)
    assert Lags(one, (1.0, 1.0, 1.0)).independent(np.array([3.0])) == 1
    line = np.ones((1, 1, 40), bool)
    assert Lags(line, (1.0, 1.0, 1.0)).independent(np.full(40, 2.0)) == 40
    assert 1 <= Lags(line, (1.0, 1.0, 1.0)).independent(np.arange(40.0)) < 8


ratings = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).standard_normal((30, 1))
        * np.random.default_rng(seed).uniform(0, 3)
        + np.random.default_rng(seed + 1).standard_normal((30, 4))
    )
)


@given(ratings, st.floats(2, 30))
@settings(max_examples=60)
def test_fewer_independent_subjects_widen_the_limits_of_the_same_icc(y, n_eff) -> None:
    plain, fewer = icc(y), icc(y, n_eff=n_eff)
    for a, b in (
        (plain.agreement, fewer.agreement),
        (plain.consistency, fewer.consistency),
    ):
        assert a.value == b.value
        assert b.low <= a.low + 0.01
        assert b.high >= a.high - 0.01
        assert b.low <= b.value <= b.high
    np.testing.assert_allclose(icc(y, n_eff=30).agreement, plain.agreement)
    assert np.isnan(icc(y, n_eff=1.5).agreement[1:]).all()


def missed(rng, shape, signal, noise, truth, times) -> tuple[float, float]:
    """Share of simulations with the truth outside of the limits, and below them."""
    inside = ellipsoid(shape)
    lags = Lags(inside, (1.0, 1.0, 1.0))
    out = []
    for _ in range(times):
        s = gaussian_field(rng, shape, (signal,) * 3)[inside] * truth**0.5
        e = [gaussian_field(rng, shape, (noise,) * 3)[inside] for _ in range(4)]
        y = s[:, None] + np.stack(e, axis=1) * (1 - truth) ** 0.5
        fields = y.mean(axis=1), y[:, 1] - y[:, 0]
        _, low, high = icc(y, n_eff=min(map(lags.independent, fields))).agreement
        out.append((not low <= truth <= high, truth < low))
    either, below = np.mean(out, axis=0)
    return either, below


def test_limits_of_correlated_voxels_cover_the_truth() -> None:
    rng = np.random.default_rng(3)
    either, below = missed(rng, (14, 26, 26), 1.5, 1.0, 0.6, 60)
    assert either <= 0.12
    assert below <= 0.07
    inside = ellipsoid((14, 26, 26))  # and those of all voxels do not
    naive = []
    for _ in range(40):
        fields = [gaussian_field(rng, inside.shape, (1.5,) * 3) for _ in range(5)]
        y = np.stack(
            [(0.6**0.5 * fields[0] + 0.4**0.5 * f)[inside] for f in fields[1:]]
        )
        low, high = icc(y.T).agreement[1:]
        naive.append(low <= 0.6 <= high)
    assert np.mean(naive) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("truth", [0.3, 0.9])
@pytest.mark.parametrize("signal", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_coverage_of_the_limits(truth, signal, noise) -> None:
    rng = np.random.default_rng(4)
    either, below = missed(rng, (16, 30, 30), signal, noise, truth, 120)
    assert either <= 0.2
    assert below <= 0.1


# --- maps to try ----------------------------------------------------------------------


def make_case(name="a", *, contrast=40.0, noise=20.0, seed=0, radius=(11, 11)) -> Case:
    """A CT of 2 x 1.5 x 1.5 mm, a PET of 4 mm, a mask on the CT; generated."""
    rng = np.random.default_rng(seed)
    ct = Geometry.from_spacing((20, 38, 38), (2, 1.5, 1.5), (-28, -28, -19))
    pet = Geometry.from_spacing((13, 18, 18), (4, 4, 4), (-34, -34, -24))
    values = contrast * gaussian_field(rng, ct.shape, (2, 2.5, 2.5))
    hu = Image(values + rng.normal(0, noise, ct.shape), ct, unit="HU")
    suv = 5 + 2 * gaussian_field(rng, pet.shape, (1, 1, 1))
    world = ct.world(np.moveaxis(np.indices(ct.shape), 0, -1))
    flat = np.hypot(world[..., 0], world[..., 1]) / radius[1]
    mask = Image(np.hypot(flat, world[..., 2] / radius[0]) < 1, ct)
    return Case(name, {"ct": hu, "pet": Image(suv, pet, unit="SUVbw")}, mask)


def local_mean(image: Image, mask: Image, radius: int) -> Image:
    """Stand-in for texture: mean of a window, NaN outside the tumor."""
    tumor = habitat.resample(mask, image).array
    values = ndimage.uniform_filter(image.array.astype(np.float64), 2 * radius + 1)
    return Image(np.where(tumor, values, np.nan).astype(np.float32), image.geometry)


def means(images, mask):
    return {f"r{r}": local_mean(images["ct"], mask, r) for r in (0, 1, 3)}


def place(images, mask):
    """Millimeters from left to right: no image has a part in it."""
    grid = images["ct"].geometry
    x = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))[..., 0]
    return {"place": Image(x, grid)}


def rated(case, maps, *names, **settings) -> pd.DataFrame:
    found = map_precision(case, maps, perturbations=names, **settings)
    return found.table.set_index(["map", "perturbation"])


class Recorded:
    """A map function that keeps what it was given and what it returned."""

    def __init__(self, function) -> None:
        self.function, self.calls = function, []

    def __call__(self, images, mask):
        maps = self.function(images, mask)
        self.calls.append((images, mask, maps))
        return maps


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case()


@pytest.fixture(scope="module")
def found(case) -> MapPrecision:
    return map_precision(case, lambda i, m: {**means(i, m), **place(i, m)})


# --- what is measured -----------------------------------------------------------------


def test_a_map_that_no_perturbation_touches_has_icc_1(found) -> None:
    table = found.table.set_index(["map", "perturbation"])
    for name in ("noise", "mask", "misregistration"):
        row = table.loc[("place", name)]
        limits = row["icc_voxel"], row["low"], row["high"]
        assert limits == pytest.approx((1, 1, 1), abs=1e-9)
    for name in ("shift", "rotation"):  # linear, so interpolated without error
        assert table.loc[("place", name), "low"] > 0.99999
    assert "place" in found.repeatable()


def test_a_map_of_noise_alone_reads_one_half_and_is_not_repeatable() -> None:
    """Each draw has the image's noise and as much again: half is in common."""
    case = make_case(contrast=0)

    def own(images, mask):
        return {"own": local_mean(images["ct"], mask, 0)}

    rows = rated(case, own, "noise", repeats=8, noise={"ct": 20})
    assert rows["icc_voxel"].item() == pytest.approx(0.5, abs=0.03)
    assert rows["low"].item() < 0.5
    pair = rated(case, own, "noise", repeats=1, noise={"ct": 20})
    assert pair["icc_voxel"].item() == pytest.approx(2 / 3, abs=0.05)  # not 1/2


def test_a_wider_window_is_more_repeatable(found) -> None:
    table = found.table.set_index(["map", "perturbation"])["icc_voxel"]
    for name in ("noise", "shift"):
        assert table["r0", name] < table["r1", name] < table["r3", name]
    n_eff = found.table.groupby("map")["n_eff"].median()
    assert n_eff["r0"] > n_eff["r1"] > n_eff["r3"]


def test_more_noise_is_less_repeatable(case) -> None:
    lows = [
        rated(case, means, "noise", noise={"ct": sd}).loc[("r0", "noise"), "low"]
        for sd in (5, 30, 100)
    ]
    assert lows[0] > lows[1] > lows[2]


def test_a_bias_between_settings_lowers_agreement(case) -> None:
    def shifted(images, mask):
        maps = means(images, mask)
        return {n: m.replace(m.array + 100) for n, m in maps.items()}

    variants = {"same": means, "100 HU more": shifted}
    rows = rated(case, means, "noise", repeats=1, variants=variants)
    assert (rows.loc["r1", "same"][["icc_voxel", "low", "high"]] == 1).all()
    values = rows.loc[[(f"r{r}", "100 HU more") for r in (0, 1, 3)], "icc_voxel"]
    assert (values < 0.5).all()
    found = map_precision(
        case, means, perturbations=["mask"], variants={"100 HU more": shifted}
    )
    assert found.repeatable() == ()


def test_the_icc_is_that_of_the_voxels_with_a_value_in_all_draws(case) -> None:
    """By hand: voxels by raters, into `icc`."""
    own = Recorded(means)
    rows = rated(case, own, "noise", "mask")
    base, *draws = [maps["r1"].array for _, _, maps in own.calls]
    noisy = np.stack(draws[:3], axis=-1)[np.isfinite(base)]
    row = rows.loc["r1", "noise"]
    assert row["icc_voxel"] == pytest.approx(icc(noisy).agreement.value, rel=1e-6)
    assert row["draws"] == 3
    assert row["voxels"] == np.isfinite(base).sum() == case.mask.array.sum()
    n_eff = row["n_eff"]
    limits = icc(noisy, n_eff=n_eff).agreement[1:]
    assert (row["low"], row["high"]) == pytest.approx(limits, rel=1e-6)
    assert 2 < n_eff < 0.5 * len(noisy)  # a window of 27 voxels

    smaller = rows.loc["r1", "mask"]
    assert smaller["voxels"] == np.isfinite(draws[3]).sum() < row["voxels"]
    assert smaller["icc_voxel"] == 1  # a mean does not see the mask


def test_one_draw_of_noise_is_compared_with_the_map(case) -> None:
    own = Recorded(means)
    row = rated(case, own, "noise", repeats=1).loc["r0", "noise"]
    pair = np.stack([m["r0"].array for _, _, m in own.calls], axis=-1)
    pair = pair[np.isfinite(pair).all(axis=-1)]
    assert row["icc_voxel"] == pytest.approx(icc(pair).agreement.value, rel=1e-6)


def test_values_outside_the_tumor_do_not_count(case) -> None:
    def everywhere(images, mask):
        return {"own": images["ct"]}

    def outside(images, mask):
        tumor = habitat.resample(mask, images["ct"]).array
        values = np.where(tumor, images["ct"].array, 1e6)
        return {"own": images["ct"].replace(values)}

    one, other = (
        map_precision(case, f, perturbations=["noise"]).table
        for f in (everywhere, outside)
    )
    pd.testing.assert_frame_equal(one, other)


def test_a_map_without_contrast_or_common_voxels_is_not_repeatable(case) -> None:
    def odd(images, mask):
        one = local_mean(images["ct"], mask, 0)
        flat = np.where(np.isfinite(one.array), 7.0, np.nan)
        first = len(own.calls) == 0
        shape = one.array.shape
        half = np.arange(shape[0])[:, None, None] < shape[0] // 2
        values = np.where(half == first, one.array, np.nan)
        return {"flat": one.replace(flat), "elsewhere": one.replace(values)}

    own = Recorded(odd)
    found = map_precision(case, own, perturbations=["noise"])
    rows = found.table.set_index("map")
    assert rows.loc["elsewhere", "voxels"] == 0
    assert rows[["icc_voxel", "low", "high"]].isna().all(axis=None)
    assert found.repeatable(-0.9) == ()


# --- where images are perturbed -------------------------------------------------------


def ramp_case() -> Case:
    """Images on three grids, one of them oblique, that say where each voxel is."""
    c, s = np.cos(0.2), np.sin(0.2)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, s, c], [0, -c, s], [-1, 0, 0]]) * (4, 3, 3)
    affine[:3, 3] = (-45, 20, 44)
    grids = {
        "fine": Geometry.from_spacing((24, 50, 50), (3, 1.5, 1.5), (-36, -36, -36)),
        "fine2": Geometry.from_spacing((24, 50, 50), (3, 1.5, 1.5), (-36, -36, -36)),
        "coarse": Geometry((22, 24, 24), affine),
    }
    images = {}
    for name, grid in grids.items():
        world = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
        images[name] = Image(world @ (1.0, 2.0, 3.0), grid, unit="mm")
    grid = Geometry.from_spacing((32, 32, 32), (2, 2, 2), (-31, -31, -31))
    world = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return Case("a", images, Image(np.linalg.norm(world, axis=-1) < 12, grid))


@pytest.mark.parametrize("name", ["shift", "rotation"])
def test_what_is_at_one_place_stays_there_on_every_grid(name) -> None:
    grids = OwnGrids.of(ramp_case(), None, 20.0)
    before, own = grids.unperturbed()
    images, mask, done = grids.perturbed(name, Draw(1, np.random.default_rng(0)))
    assert list(images) == ["fine", "fine2", "coarse"]
    assert done
    for channel, image in images.items():
        grid = image.geometry
        assert not grid.same_as(before[channel].geometry)
        inner = (slice(2, -2),) * 3
        here = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1)) @ (1, 2, 3)
        np.testing.assert_allclose(image.array[inner], here[inner], atol=1e-3)
    assert images["fine"].geometry.same_as(images["fine2"].geometry)
    assert not mask.geometry.same_as(own.geometry)
    centers = [m.geometry.world(np.argwhere(m.array)).mean(axis=0) for m in (own, mask)]
    assert np.linalg.norm(centers[0] - centers[1]) < 3**0.5  # half a voxel


def test_noise_is_that_of_the_images_own_grid(case) -> None:
    grids = OwnGrids.of(case, {"ct": 15.0, "pet": 0.7}, 40.0)
    before, mask = grids.unperturbed()
    added = {"ct": [], "pet": []}
    for seed in range(6):
        draw = Draw(0, np.random.default_rng(seed))
        images, own, _ = grids.perturbed("noise", draw)
        assert own is mask
        for channel, image in images.items():
            assert image.geometry is before[channel].geometry
            change = image.array - before[channel].array.astype(np.float64)
            inside = habitat.resample(mask, image).array
            added[channel].append(change[inside])
    assert np.std(added["ct"]) == pytest.approx(15, rel=0.03)
    assert np.std(added["pet"]) == pytest.approx(0.7, rel=0.15)
    both = np.corrcoef(added["ct"][0], added["ct"][1])[0, 1]
    assert abs(both) < 0.1


def test_phases_on_one_grid_have_noise_of_their_own() -> None:
    grid = Geometry.from_spacing((10, 20, 20), (3, 2, 2))
    rng = np.random.default_rng(0)
    images = {p: Image(rng.normal(50, 5, grid.shape), grid, unit="HU") for p in "uav"}
    mask = np.zeros(grid.shape, bool)
    mask[3:7, 5:15, 5:15] = True
    grids = OwnGrids.of(
        Case("a", images, Image(mask, grid)), dict.fromkeys("uav", 5), 9
    )
    assert len(grids.scenes) == 1
    before, _ = grids.unperturbed()
    noisy, _, _ = grids.perturbed("noise", Draw(0, np.random.default_rng(1)))
    grain = [(noisy[p].array - before[p].array).ravel() for p in "uav"]
    assert np.abs(np.corrcoef(grain) - np.eye(3)).max() < 0.1


def test_misregistration_moves_the_first_channel_only(case) -> None:
    own = Recorded(lambda i, m: {"ct": local_mean(i["ct"], m, 0), "pet": i["pet"]})
    rows = rated(case, own, "misregistration")  # first is "pet", as in `segment`
    assert rows.loc[("ct", "misregistration"), "icc_voxel"] == pytest.approx(1)
    assert rows.loc[("pet", "misregistration"), "icc_voxel"] < 0.95
    assert all(mask is own.calls[0][1] for _, mask, _ in own.calls)
    alone = Case("a", {"ct": case.images["ct"]}, case.mask)
    found = map_precision(alone, means, perturbations=["misregistration", "mask"])
    assert set(found.table["perturbation"]) == {"mask"}
    assert any("one channel" in n for n in found.notes)


def test_images_are_cropped_but_to_what_registration_needs() -> None:
    grid = Geometry.from_spacing((40, 120, 120), (3, 1, 1))
    image = Image(np.random.default_rng(0).normal(0, 9, grid.shape), grid, unit="HU")
    mask = np.zeros(grid.shape, bool)
    mask[18:22, 56:64, 56:64] = True
    case = Case("a", {"ct": image}, Image(mask, grid))
    own = Recorded(lambda i, m: {"own": i["ct"]})
    map_precision(case, own, perturbations=["mask"])
    images, cropped, _ = own.calls[0]
    z, y, x = images["ct"].array.shape
    assert (4 + 2 * 14, 8 + 2 * 40) <= (z, y) < (40, 120)
    assert y == x == cropped.array.shape[2]
    assert cropped.array.sum() == mask.sum()
    wide = Recorded(own.function)
    map_precision(case, wide, perturbations=["mask"], margin_mm=500)
    assert wide.calls[0][0]["ct"].array.shape == grid.shape


def test_values_between_voxels_come_from_those_that_have_one() -> None:
    values = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    values[2, 2, 2] = np.nan
    image = Image(values, spacing=(2, 1, 1))
    index = [[1, 1, 1], [1.5, 3, 4.5], [2, 2, 2], [2, 2, 1.02], [2, 2, 1.1], [3, 4, 5]]
    index += [[3.1, 4, 5], [-0.4, 0, 0]]
    found = _at(image, image.geometry.world(index))
    expected = [37, 67.5, np.nan, values[2, 2, 1], np.nan, 119, np.nan, np.nan]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    whole = np.argwhere(np.isfinite(values))
    same = _at(image, image.geometry.world(whole) + 1e-9)
    np.testing.assert_array_equal(same, values[np.isfinite(values)])


# --- over cases -----------------------------------------------------------------------


def table_of(lows) -> MapPrecision:
    rows = [
        {"map": m, "perturbation": p, "case": str(i), "icc_voxel": 0.9, "low": low}
        for (m, p), values in lows.items()
        for i, low in enumerate(values)
    ]
    return MapPrecision(pd.DataFrame(rows), pd.DataFrame(), ())


def test_repeatable_is_the_median_case_in_every_perturbation() -> None:
    found = table_of({
        ("b", "noise"): [0.9, 0.6, 0.1], ("b", "shift"): [0.5, 0.5, 0.5],
        ("a", "noise"): [0.9, 0.9, 0.9], ("a", "shift"): [0.9, 0.4, 0.4],
        ("c", "noise"): [0.9, np.nan, np.nan], ("c", "shift"): [0.9, 0.9, 0.9],
    })  # fmt: skip
    assert found.repeatable() == ("b",)
    assert found.repeatable(0.4) == ("b", "a")
    assert found.repeatable(0.95) == ()
    row = found.summary.set_index(["map", "perturbation"]).loc[("b", "noise")]
    assert (row["cases"], row["low"], row["lowest"]) == (3, 0.6, 0.1)
    assert repr(found) == "MapPrecision of 3 cases: 1 of 3 maps repeatable"


@pytest.fixture(scope="module")
def cohort():
    return [make_case(f"c{i}", seed=i, contrast=20 + 5 * i) for i in range(10)]


def test_ten_cases_are_subjects_of_the_means(cohort) -> None:
    calls = {c.case_id: [] for c in cohort}

    def own(images, mask):
        maps = {"r1": local_mean(images["ct"], mask, 1)}
        calls[current[0]].append(maps["r1"].array)
        return maps

    current = [""]
    order = iter(cohort)

    class Named:
        """Tells `own` which case it is at: three calls a case."""

        def __init__(self) -> None:
            self.n = 0

        def __call__(self, images, mask):
            if self.n % 3 == 0:
                current[0] = next(order).case_id
            self.n += 1
            return own(images, mask)

    found = map_precision(cohort, Named(), perturbations=["noise"], repeats=2)
    by_hand = np.array(
        [[np.nanmean(m, dtype=np.float64) for m in maps[1:]] for maps in calls.values()]
    )
    (row,) = found.means.to_dict("records")
    expected = icc(by_hand)
    assert row["icc_a1"] == pytest.approx(expected.agreement.value, rel=1e-5)
    assert row["c1_low"] == pytest.approx(expected.consistency.low, rel=1e-4)
    assert (row["subjects"], row["raters"]) == (10, 2)
    assert found.notes == ()
    assert found.table["case"].tolist() == [c.case_id for c in cohort]


def test_few_cases_have_no_icc_of_means(found) -> None:
    assert found.means.empty
    assert any("10 cases" in n and "there are 1" in n for n in found.notes)


def test_same_seed_same_numbers_whatever_else_is_asked(cohort) -> None:
    def of(cases, names, seed=0):
        return map_precision(
            cases, means, perturbations=names, repeats=2, random_state=seed
        ).table

    both = of(cohort[:2], ["shift", "noise"])
    again = of([cohort[1], cohort[0]], ["noise"])
    keys = ["case", "map"]
    one = both[both["perturbation"] == "noise"].sort_values(keys, ignore_index=True)
    pd.testing.assert_frame_equal(
        one, again.sort_values(keys, ignore_index=True), check_exact=True
    )
    other = of(cohort[:2], ["noise"], seed=1)
    assert not np.array_equal(other["icc_voxel"], one["icc_voxel"])


def test_texture_maps_of_different_windows_are_rated(case) -> None:
    def texture(images, mask, radius=1):
        maps = habitat.texture_maps(
            images["ct"], mask, features=("firstorder_Mean", "firstorder_Variance"),
            radius=radius, bin_width=25, spacing=2.0, name="HU",
        )  # fmt: skip
        return {name.split("_")[-1]: m for name, m in maps.items()}

    found = map_precision(
        case, texture, perturbations=["noise", "shift"], repeats=2,
        variants={"radius 2": lambda i, m: texture(i, m, 2)},
    )  # fmt: skip
    low = found.summary.set_index(["map", "perturbation"])["low"]
    assert low["Mean", "noise"] > low["Variance", "noise"]
    assert low["Mean", "shift"] > low["Variance", "shift"]
    assert found.table["voxels"].min() > 300
    assert found.repeatable(0.99) == ()  # the window changes what a mean is


# --- stability with maps --------------------------------------------------------------


def test_stability_segments_the_maps_and_rates_them(case) -> None:
    options = {"perturbations": ["noise", "rotation"], "repeats": 2}
    found = stability(case, maps=means, **options)
    expected = map_precision(case, means, **options)
    pd.testing.assert_frame_equal(found.features.table, expected.table)
    base = found.table[found.table["perturbation"] == "none"]
    maps = means(case.images, case.mask)
    own = habitat.segment_channels(maps, case.mask).table
    np.testing.assert_allclose(base["volume_ml"], own["volume_ml"])
    np.testing.assert_allclose(base["mean_r1"], own["mean_r1"], rtol=1e-5)
    assert (found.table["perturbation"] != "none").sum() == 4 * 4
    assert found.table["dice"].between(0, 1).all()

    keep = found.features.repeatable(0.8)
    assert "r3" in keep
    assert "r0" not in keep
    chosen = {name: maps[name] for name in keep}
    assert habitat.segment_channels(chosen, case.mask).k == 4


def test_habitats_of_repeatable_maps_are_more_stable(case) -> None:
    dice = []
    for radius in (0, 3):
        found = stability(
            case, perturbations=["noise"], repeats=2,
            maps=lambda i, m, r=radius: {"mean": local_mean(i["ct"], m, r)},
        )  # fmt: skip
        dice.append(found.summary["median_dice"].median())
    assert dice[0] < dice[1] - 0.1


def test_without_maps_there_are_no_features(case) -> None:
    found = stability(case, perturbations=["rotation"], repeats=1)
    assert found.features is None


class TwoHabitats:
    """A stand-in for a model: below and above 0 HU of a local mean."""

    def segment(self, case: Case):
        return habitat.segment_channels(
            case.images, case.mask, 2, method=lambda X, k, rng: X[:, 0] > 0,
            scaling="none",
        )  # fmt: skip


def test_a_model_segments_maps_too(case) -> None:
    found = stability(
        case, maps=lambda i, m: {"r1": local_mean(i["ct"], m, 1)},
        model=TwoHabitats(), perturbations=["mask"],
    )  # fmt: skip
    assert set(found.table["habitat"]) == {1, 2}
    assert (found.table["dice"] == 1).all()


def test_a_result_has_no_original_images(case) -> None:
    result = habitat.segment(case.images["pet"], case.images["ct"], case.mask)
    for call in (stability, map_precision):
        arguments = {"maps": means}
        with pytest.raises(InputError, match="case 1.*images of a Case"):
            call(result, **arguments)


# --- what may go wrong ----------------------------------------------------------------


def after(n, then):
    """A function that is fine for n calls, then something else."""

    def function(images, mask):
        function.calls += 1
        return means(images, mask) if function.calls <= n else then(images, mask)

    function.calls = 0
    return function


def fails(images, mask):
    raise KeyError("kernel")


BROKEN = [
    (lambda i, m: None, "unperturbed, `maps`: must return a mapping.*got None"),
    (lambda i, m: {}, "must return a mapping"),
    (lambda i, m: [i["ct"]], "must return a mapping"),
    (lambda i, m: {"a": i["ct"].array}, "`maps`, 'a': must return an Image.*ndarray"),
    (after(2, lambda i, m: 5), r"noise \(pet sd .*; ct sd .*must return a mapping"),
    (after(2, place), r"noise \(pet sd .*; ct sd .*gave place; before: r0, r1, r3"),
]


@pytest.mark.parametrize(("maps", "words"), BROKEN)
def test_a_wrong_function_is_told_where_it_was_wrong(case, maps, words) -> None:
    getattr(maps, "__dict__", {}).update(calls=0)
    with pytest.raises(ConfigError, match=f"case a, .*{words}"):
        map_precision(case, maps, perturbations=["noise"])
    getattr(maps, "__dict__", {}).update(calls=0)
    with pytest.raises(ConfigError, match=f"case a, .*{words}"):
        stability(case, maps=maps, perturbations=["noise"])


def test_maps_must_be_a_function(case) -> None:
    with pytest.raises(ConfigError, match="`maps`: must be a function, got 5"):
        map_precision(case, 5)


@pytest.mark.parametrize("calls_before", [0, 1])
def test_an_error_of_the_function_itself_reaches_its_author(case, calls_before) -> None:
    with pytest.raises(KeyError, match="kernel"):
        map_precision(case, after(calls_before, fails), perturbations=["noise"])


def test_a_map_that_lies_elsewhere_is_named(case) -> None:
    def no_geometry(images, mask):
        image = images["ct"]
        grid = Geometry.from_spacing(image.array.shape, (1, 1, 1), (200, 0, 0))
        away = Image(image.array, grid)
        return {"right": image, "wrong": away}

    with pytest.raises(InputError, match="map 'wrong': has no value in the.*geometry"):
        map_precision(case, no_geometry)


def test_a_draw_without_a_tumor_is_left_out_and_noted() -> None:
    tiny = make_case(radius=(4.5, 3.5))

    def strict(images, mask):
        if mask.array.sum() < 40:
            raise MaskError(f"has {mask.array.sum()} voxels", "mask")
        return means(images, mask)

    found = map_precision(tiny, strict, perturbations=["mask", "noise"])
    assert set(found.table.query("perturbation == 'mask'")["draws"]) == {1}
    assert any("mask (1 voxel smaller) was left out" in n for n in found.notes)
    with pytest.raises(InputError, match="case a: no draw gave maps.*left out"):
        map_precision(tiny, after(1, fails_as_mask), perturbations=["noise"])


def fails_as_mask(images, mask):
    raise MaskError("too small", "mask")


def test_warnings_are_counted_not_shown(case) -> None:
    def wordy(images, mask):
        warnings.warn("3 values are negative", HabitatWarning, stacklevel=2)
        return means(images, mask)

    notes = map_precision(case, wordy, perturbations=["noise"]).notes
    assert "4 times: 3 values are negative" in notes


def test_a_tumor_that_is_lost_on_a_coarse_grid_is_named() -> None:
    case = make_case(radius=(1.8, 1.8))
    with pytest.raises(MaskError, match="case a, mask on the grid of pet: covers no"):
        map_precision(case, means)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"data": []}, InputError, "must be a"),
        ({"data": [make_case(), make_case()]}, InputError, "there twice"),
        ({"perturbations": ["nois"]}, ConfigError, "did you mean 'noise'"),
        ({"noise": {"mr": 1}}, ConfigError, "noise"),
        ({"noise": {"ct": -1}}, ConfigError, "noise"),
        ({"margin_mm": -1}, ConfigError, "margin_mm"),
        ({"repeats": 0}, ConfigError, "repeats"),
        ({"variants": {"noise": means}}, ConfigError, "'noise' is the name"),
        ({"variants": {"R3": place}}, ConfigError, "variant 'R3', `maps`: gave place"),
    ],
)
def test_wrong_arguments_are_named(case, change, kind, words) -> None:
    arguments = {"data": case, "perturbations": ["noise"], "repeats": 1, **change}
    with pytest.raises(kind, match=words):
        map_precision(arguments.pop("data"), means, **arguments)


def test_plot(found) -> None:
    figure = found.plot()
    (axes,) = figure.axes
    labels = axes.get_yticklabels()
    assert [t.get_text() for t in labels] == ["r0", "r1", "r3", "place"]
    gray = {t.get_text() for t in labels if t.get_color() == "gray"}
    assert gray == {"r0", "r1", "r3", "place"} - set(found.repeatable())
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(PERTURBATIONS)
    assert "1 case" in axes.get_xlabel()

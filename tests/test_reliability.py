import warnings
from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

import habitat
from habitat.agreement import adjusted_rand
from habitat.case import Case
from habitat.clustering import GMMOptions, OtsuOptions
from habitat.errors import ConfigError, HabitatWarning, InputError
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.reliability import (
    PERTURBATIONS,
    bland_altman,
    icc,
    match,
    noise_sd,
    repeatability,
    stability,
)
from habitat.reliability._perturb import _HIGH, Draw, Scene

# Shrout & Fleiss, Psychol Bull 1979;86:420, table 2: 6 targets, 4 judges. They give
# ICC(2,1) = .29 and ICC(3,1) = .71; digits and intervals by pingouin 0.7.0.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9]]
JUDGES += [[6, 2, 4, 7]]
AGREEMENT = (0.28976377952755916, 0.018786513375, 0.761084369649)
CONSISTENCY = (0.7148407148407154, 0.342464765034, 0.945858259955)

# No agreement at all; by pingouin 0.7.0
WORSE = [[1, 5, 3], [4, 2, 6], [3, 3, 1], [2, 6, 5]]
WORSE_AGREEMENT = -0.1284403669724772
WORSE_CONSISTENCY = (-0.11764705882352954, -0.426067568342, 0.751689534217)


def test_icc_and_both_intervals_of_published_data() -> None:
    found = icc(JUDGES)
    assert found.agreement == pytest.approx(AGREEMENT, abs=1e-11)
    assert found.consistency == pytest.approx(CONSISTENCY, abs=1e-11)
    assert (found.subjects, found.raters) == (6, 4)


def test_icc_of_raters_who_disagree_is_negative() -> None:
    found = icc(WORSE)
    assert found.agreement.value == pytest.approx(WORSE_AGREEMENT)
    assert found.agreement.low < WORSE_AGREEMENT < found.agreement.high
    assert found.consistency == pytest.approx(WORSE_CONSISTENCY, abs=1e-11)


def shifted_scan(n: int = 400, subjects=0.8674, noise=0.09, shift=1.0) -> np.ndarray:
    """Two scans whose mean squares are exactly those of the variances given."""
    u, e = np.linalg.qr(np.random.default_rng(0).standard_normal((n, 3)) - 1)[0][
        :, :2
    ].T
    basis = np.linalg.qr(np.stack([np.ones(n), u, e], axis=1))[0][:, 1:].T
    u, e = (b * np.sqrt(n - 1) for b in basis)  # mean 0, variance 1, orthogonal
    u, e = u * np.sqrt(subjects + noise / 2), e * np.sqrt(noise / 2)
    return np.stack([u + e - shift / 2, u - e + shift / 2], axis=1)


def test_a_scanner_that_reads_one_sd_more_lowers_agreement() -> None:
    """The true value is 0.595; the formula of Prior 2024 is blind to it: 0.906."""
    ratings = shifted_scan()
    n, k = ratings.shape
    found = icc(ratings)
    assert found.agreement.value == pytest.approx(0.595, abs=2e-3)
    assert found.consistency.value == pytest.approx(0.906, abs=1e-3)
    # variance components; the sample shift of 1 is exact, its noise is subtracted
    bias = 1 / 2 - 0.09 / n
    assert found.agreement.value == pytest.approx(0.8674 / (0.8674 + bias + 0.09))
    rows, columns = ratings.mean(1) - ratings.mean(), ratings.mean(0) - ratings.mean()
    between, off = k * (rows**2).sum() / (n - 1), (columns**2).sum()  # off: not times n
    blind = (between - 0.09) / (between + 0.09 + k / n * (off - 0.09))
    assert blind == pytest.approx(0.906, abs=2e-3)


def test_agreement_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(400):
        raters = rng.normal(0, 0.5**0.5, 5)
        y = rng.normal(0, 1, (15, 1)) + raters + rng.normal(0, 0.3, (15, 5))
        low, high = icc(y).agreement[1:]
        hits.append(low <= 1 / 1.59 <= high)
    assert np.mean(hits) == pytest.approx(0.95, abs=0.035)


tables = arrays(
    np.float64,
    st.tuples(st.integers(3, 8), st.integers(2, 5)),
    elements=st.integers(-50, 50).map(float),
).filter(lambda y: np.ptp(y - y.mean(0)) > 0 and np.ptp(y) > 0)


@given(tables, st.integers(0, 2**32 - 1), st.sampled_from([0.001, -3.0, 1e6]))
@settings(max_examples=60)
def test_icc_knows_no_order_and_no_unit(ratings, seed, scale) -> None:
    rng = np.random.default_rng(seed)
    other = rng.permutation(rng.permutation(ratings), axis=1) * scale + 7
    for a, b in zip(
        (icc(ratings).agreement, icc(ratings).consistency),
        (icc(other).agreement, icc(other).consistency),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        if not np.isnan(a).any():
            assert a.low <= a.value + 1e-9 <= a.high + 2e-9


@given(tables, st.floats(0.5, 50))
@settings(max_examples=60)
def test_a_constant_difference_counts_for_agreement_only(ratings, constant) -> None:
    level = ratings - ratings.mean(axis=0)
    biased = level.copy()
    biased[:, 0] += constant
    before, after = icc(level), icc(biased)
    np.testing.assert_allclose(after.consistency, before.consistency, atol=1e-8)
    if before.agreement.value > 0.01:
        assert after.agreement.value < before.agreement.value


def test_icc_of_degenerate_ratings() -> None:
    for nothing in ([[1, 2]], [[1], [2]], [[3, 3], [3, 3]], [[1, np.nan], [2, 2]]):
        assert np.isnan([*icc(nothing).agreement, *icc(nothing).consistency]).all()
    perfect = icc([[1, 1], [2, 2], [4, 4]])
    assert perfect.agreement == pytest.approx((1, 1, 1))
    assert perfect.consistency == pytest.approx((1, 1, 1))
    biased = icc([[1, 2], [2, 3], [4, 5]])
    assert biased.consistency == pytest.approx((1, 1, 1))
    assert biased.agreement.value < 0.9
    missing = icc([*JUDGES, [np.nan, 1, 2, 3]])
    assert missing.subjects == 6
    assert missing.agreement == icc(JUDGES).agreement
    only_bias = icc([[0, 1], [0, 1]])
    assert np.isnan(only_bias.consistency.value)
    assert only_bias.agreement.value == 0
    assert np.isnan(only_bias.agreement.low)
    with pytest.raises(InputError, match="subjects, raters"):
        icc([1, 2, 3])


def test_repeatability_and_limits_are_what_they_promise() -> None:
    rng = np.random.default_rng(3)
    pairs = rng.normal(50, 10, (4000, 1)) + rng.normal(0, 2, (4000, 2))
    found = repeatability(pairs)
    assert found.within_sd == pytest.approx(2, rel=0.03)
    assert found.wcv == pytest.approx(2 / 50, rel=0.04)
    inside = np.abs(pairs[:, 0] - pairs[:, 1]) < found.coefficient
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
    limits = bland_altman(pairs[:, 0], pairs[:, 1] + 3)
    assert limits.value == pytest.approx(3, abs=0.15)
    d = pairs[:, 1] + 3 - pairs[:, 0]
    assert ((d > limits.low) & (d < limits.high)).mean() == pytest.approx(
        0.95, abs=0.01
    )


def test_repeatability_with_missing_values() -> None:
    with_gap = repeatability([[1, 3, np.nan], [5, np.nan, np.nan], [2, 2, 2]])
    assert with_gap.within_sd == pytest.approx(1)  # variances 2 and 0
    assert with_gap.wcv == pytest.approx(0.5)
    assert np.isnan(repeatability([[1, np.nan]]).within_sd)
    assert np.isnan(repeatability([[-1, 1]]).wcv)
    assert np.isnan(bland_altman([1], [2]).low)
    assert np.isnan(bland_altman([np.nan], [2]).value)


# --- matching -------------------------------------------------------------------------

maps = st.integers(1, 4).flatmap(
    lambda k: st.tuples(
        st.just(k),
        arrays(np.uint8, (3, 4, 5), elements=st.integers(0, k)),
        arrays(np.uint8, (3, 4, 5), elements=st.integers(0, k)),
        st.permutations(range(1, k + 1)),
    )
)


@given(maps)
@settings(max_examples=80)
def test_matching_is_the_best_of_all_and_blind_to_numbers_and_flips(case) -> None:
    k, a, b, order = case
    partner, dice = match(a, b, k)
    assert sorted(partner) == list(range(1, k + 1))

    def overlap(pairs) -> int:
        return sum(((a == h) & (b == o)).sum() for h, o in enumerate(pairs, start=1))

    assert overlap(partner) == max(map(overlap, permutations(range(1, k + 1))))
    for h, o in enumerate(partner, start=1):
        both, sizes = ((a == h) & (b == o)).sum(), (a == h).sum() + (b == o).sum()
        assert np.isnan(dice[h - 1]) if sizes == 0 else dice[h - 1] == 2 * both / sizes
    renumbered = np.array([0, *order], dtype=np.uint8)[b]
    again = match(a[::-1, :, ::-1], renumbered[::-1, :, ::-1], k)[1]
    assert np.nansum(again) == pytest.approx(np.nansum(dice))


def test_a_map_is_its_own_match_and_a_model_keeps_its_numbers() -> None:
    a = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    swapped = np.array([0, 2, 1, 3, 4])[a]
    partner, dice = match(a, swapped, 4)
    assert partner.tolist() == [2, 1, 3, 4]
    assert (dice == 1).all()
    partner, dice = match(a, swapped, 4, numbered=True)
    assert partner.tolist() == [1, 2, 3, 4]
    assert dice.tolist() == [0, 0, 1, 1]
    assert adjusted_rand(a, swapped) == 1


# --- noise ----------------------------------------------------------------------------


def smooth(shape, sd: float = 60.0) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(shape), 8)
    return field * sd / field.std()


@pytest.mark.parametrize("sd", [5.0, 15.0, 40.0])
def test_noise_of_a_known_sd_is_found_on_a_smooth_image(sd) -> None:
    shape = (12, 60, 50)
    values = smooth(shape) + np.random.default_rng(6).normal(0, sd, shape)
    mask = np.ones(shape, bool)
    image = Image(values, spacing=(3, 1, 1), unit="HU")
    assert noise_sd(image, mask) == pytest.approx(sd, rel=0.05)
    values[3, 10:20, 5:9] = np.nan
    values[:, ~np.tri(60, 50, dtype=bool)] = -800  # lung beside the tumor
    mask = mask & (values != -800)
    assert noise_sd(image.replace(values), mask) == pytest.approx(sd, rel=0.05)


def test_the_filter_is_the_first_coiflet() -> None:
    pywt = pytest.importorskip("pywt")
    theirs = np.array(pywt.Wavelet("coif1").rec_hi)
    same = [np.abs(sign * theirs - _HIGH).max() for sign in (1, -1)]
    assert min(same) < 1e-9
    assert np.linalg.norm(_HIGH) == pytest.approx(1)
    image = np.random.default_rng(0).normal(0, 7, (64, 64))
    ((_, (_, _, hh)),) = pywt.swt2(image, "coif1", level=1, norm=False)
    found = noise_sd(
        Image(image[None], spacing=(1, 1, 1), unit="HU"), np.ones((1, 64, 64), bool)
    )
    assert found == pytest.approx(np.median(np.abs(hh)) / 0.6745, rel=0.05)


def flat_scene(spacing, unit, level=4.0, shape=(40, 40, 40), noise=None) -> Scene:
    image = Image(np.full(shape, level, np.float32), spacing=spacing, unit=unit)
    mask = Image(np.ones(shape, bool), image.geometry)
    sd = noise_sd(image, mask.array) if noise is None else noise
    return Scene({"a": image}, mask, {"a": sd})


def noisy(scene: Scene, seed: int = 0) -> np.ndarray:
    draw = Draw(0, np.random.default_rng(seed))
    (image,) = PERTURBATIONS["noise"](scene, draw)[0].values()
    return image.array - next(iter(scene.images.values())).array.astype(np.float64)


@pytest.mark.parametrize("spacing", [(3.27, 4.7, 4.7), (2.0, 2.0, 2.0), (1.5, 6.0, 1)])
def test_pet_noise_has_the_sd_and_width_asked_for(spacing) -> None:
    grain = np.stack([noisy(flat_scene(spacing, "SUVbw"), seed) for seed in range(6)])
    assert grain.std() == pytest.approx(0.4, rel=0.03)  # 10 % of the tumor mean of 4
    sigma = 6.0 / np.sqrt(8 * np.log(2))
    for axis, step in enumerate(spacing):
        moved = np.roll(grain, 1, axis=axis + 1)
        found = (grain * moved).mean() / grain.var()
        expected = np.exp(-((step / (2 * sigma)) ** 2))
        assert found == pytest.approx(expected, abs=0.03)


def test_pet_noise_grows_as_the_root_of_the_uptake_and_can_be_given() -> None:
    scene = flat_scene((4.0, 4.0, 4.0), "SUVbw", noise=1.0)
    halves = scene.images["a"].array.copy()
    halves[:20] = 1.0
    image = scene.images["a"].replace(halves)
    mask = np.zeros(halves.shape, bool)
    mask[20:] = True
    scene = Scene({"a": image}, Image(mask, image.geometry), {"a": 1.0})
    grain = np.stack([noisy(scene, seed) for seed in range(4)])
    assert grain[:, 24:36].std() == pytest.approx(1, rel=0.04)
    assert grain[:, 4:16].std() == pytest.approx(0.5, rel=0.04)  # sqrt(1 / 4)


def test_noise_of_ct_is_white() -> None:
    grain = noisy(flat_scene((3.0, 1.0, 1.0), "HU", noise=15.0))
    assert grain.std() == pytest.approx(15, rel=0.02)
    assert abs((grain * np.roll(grain, 1, axis=2)).mean()) < 5


# --- position and mask ----------------------------------------------------------------


def ramps(turn: float = 0.3) -> Scene:
    """Three channels that say where each voxel is, on an oblique grid."""
    c, s = np.cos(turn), np.sin(turn)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, s, c], [0, -c, s], [-1, 0, 0]]) * (3, 2, 2)
    affine[:3, 3] = (-50, 20, 100)
    geometry = Geometry((12, 20, 22), affine)
    world = geometry.world(np.moveaxis(np.indices(geometry.shape), 0, -1))
    images = {n: Image(world[..., i], geometry) for i, n in enumerate("xyz")}
    mask = np.zeros(geometry.shape, bool)
    mask[4:9, 6:14, 7:15] = True
    return Scene(images, Image(mask, geometry), dict.fromkeys("xyz", 0.0))


@pytest.mark.parametrize("name", ["shift", "rotation"])
@pytest.mark.parametrize("number", range(3))
def test_image_and_mask_move_together(name, number) -> None:
    scene = ramps()
    draw = Draw(number, np.random.default_rng(number))
    images, mask, _ = PERTURBATIONS[name](scene, draw)
    target = mask.geometry
    assert not target.same_as(scene.mask.geometry)
    inner = (slice(2, -2),) * 3
    here = target.world(np.moveaxis(np.indices(target.shape), 0, -1))
    for i, channel in enumerate("xyz"):  # linear, so interpolated without error
        seen = images[channel].array
        np.testing.assert_allclose(seen[inner], here[..., i][inner], atol=1e-4)
    centers = [
        m.geometry.world(np.argwhere(m.array)).mean(axis=0) for m in (scene.mask, mask)
    ]
    half = np.linalg.norm(scene.mask.geometry.spacing) / 2
    assert np.linalg.norm(centers[0] - centers[1]) < half
    before, after = (np.count_nonzero(m.array) for m in (scene.mask, mask))
    assert after == pytest.approx(before, rel=0.1)  # a block, it loses edges only


def test_rotation_is_half_a_degree_about_the_slice_axis() -> None:
    scene = ramps()
    turns = []
    for number in range(2):
        draw = Draw(number, np.random.default_rng(0))
        moved = PERTURBATIONS["rotation"](scene, draw)[1].geometry
        old, new = scene.mask.geometry.directions, moved.directions
        np.testing.assert_allclose(old[:, 0], new[:, 0])
        turns.append(np.degrees(np.arcsin(np.cross(old[:, 2], new[:, 2]) @ old[:, 0])))
    assert sorted(turns) == pytest.approx([-0.5, 0.5])


def test_misregistration_moves_the_first_channel_1_to_3_mm() -> None:
    scene = ramps()
    lengths, directions = [], []
    for seed in range(60):
        draw = Draw(0, np.random.default_rng(seed))
        images, mask, _ = PERTURBATIONS["misregistration"](scene, draw)
        assert mask is scene.mask
        assert images["y"] is scene.images["y"]
        assert images["z"] is scene.images["z"]
    for seed in range(60):
        shift = []
        for channel in "xyz":  # the same motion, seen by each ramp in turn
            first = {channel: scene.images[channel], "rest": scene.images["x"]}
            one = Scene(first, scene.mask, {})
            draw = Draw(0, np.random.default_rng(seed))
            images, _, _ = PERTURBATIONS["misregistration"](one, draw)
            moved = images[channel].array - scene.images[channel].array
            shift.append(-moved[4:-4, 4:-4, 4:-4].mean())
        lengths.append(np.linalg.norm(shift))
        directions.append(np.array(shift) / lengths[-1])
    assert min(lengths) > 1 - 1e-4
    assert max(lengths) < 3 + 1e-4
    assert np.ptp(lengths) > 1.5
    assert np.abs(np.mean(directions, axis=0)).max() < 0.25


def test_mask_loses_and_gains_one_voxel_and_a_flat_one_stays_flat() -> None:
    scene = ramps()
    masks = [
        PERTURBATIONS["mask"](scene, Draw(i, np.random.default_rng(0)))[1].array
        for i in range(2)
    ]
    assert [m.sum() for m in masks] == [3 * 6 * 6, 5 * 8 * 8 + 2 * (64 + 40 + 40)]
    flat = np.zeros_like(scene.mask.array)
    flat[6, 6:14, 7:15] = True
    scene = Scene(scene.images, scene.mask.replace(flat), {})
    masks = [
        PERTURBATIONS["mask"](scene, Draw(i, np.random.default_rng(0)))[1].array
        for i in range(2)
    ]
    assert [m.sum() for m in masks] == [6 * 6, 8 * 8 + 4 * 8]
    assert all(np.flatnonzero(m.any(axis=(1, 2))).tolist() == [6] for m in masks)


# --- stability ------------------------------------------------------------------------


def phantom_result(noise: float = 1.0, radius_mm: float = 14.0, seed=0, **settings):
    p = habitat.phantom(
        noise=noise, radius_mm=radius_mm, margin_mm=15, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)
        return habitat.segment(p.pet, p.ct, p.mask, **settings)


@pytest.fixture(scope="module")
def result():
    return phantom_result()


@pytest.fixture(scope="module")
def found(result):
    return stability(result)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 2, "rim_mm": 3.0, "scaling": "robust", "random_state": 7},
        {"k": 3, "method": GMMOptions(covariance="diag"), "smoothness": 0.5},
    ],
)
def test_no_perturbation_changes_nothing(options) -> None:
    """The settings of the result are found again: the same map comes out."""
    result = phantom_result(**options)
    off = stability(result, perturbations=["noise"], noise={"SUVbw": 0, "HU": 0})
    assert (off.table["dice"] == 1).all()
    assert (off.table["ari"] == 1).all()
    assert (off.summary[["within_sd_ml", "rc_ml", "wcv", "bias_ml"]] == 0).all(
        axis=None
    )
    own = result.table
    base = off.table[off.table["perturbation"] == "none"]
    for column in ("volume_ml", "fraction", "mean_SUVbw", "mean_HU"):
        np.testing.assert_allclose(base[column], own[column], rtol=1e-6)


def test_voxels_without_a_value_do_not_change_the_outcome() -> None:
    p = habitat.phantom(radius_mm=14, margin_mm=15)
    values = p.pet.array.copy()
    z, y, x = (
        np.argwhere(habitat.resample(p.mask, p.pet).array).mean(axis=0).astype(int)
    )
    values[z, y, x] = np.nan
    with pytest.warns(HabitatWarning, match="no finite value"):
        result = habitat.segment(p.pet.replace(values), p.ct, p.mask, rim_mm=2)
    off = stability(result, perturbations=["noise"], noise={"SUVbw": 0, "HU": 0})
    assert (off.table["dice"] == 1).all()
    assert any("3 times" in n and "no finite value" in n for n in off.notes)


def test_the_table_says_what_was_done_and_what_came_of_it(found) -> None:
    table = found.table
    drawn = table.groupby("perturbation")["draw"].nunique().to_dict()
    assert drawn == {
        "none": 1, "noise": 3, "shift": 3, "rotation": 2, "mask": 2,
        "misregistration": 3,
    }  # fmt: skip
    assert len(table) == 4 * 14
    assert table["dice"].between(0, 1).all()
    per_draw = table.groupby(["perturbation", "draw"])
    np.testing.assert_allclose(per_draw["fraction"].sum(), 1)
    smaller, larger = (
        table[(table["perturbation"] == "mask") & (table["draw"] == d)][
            "volume_ml"
        ].sum()
        for d in (0, 1)
    )
    assert smaller < table["volume_ml"][:4].sum() < larger
    settings = per_draw["setting"].first()
    assert "HU sd" in settings["noise", 0]
    assert settings["mask"].tolist() == ["1 voxel smaller", "1 voxel larger"]
    assert "13 draws" in repr(found)


def test_the_summary_is_of_the_table(found) -> None:
    table, summary = found.table, found.summary
    assert list(summary["perturbation"].unique()) == [*PERTURBATIONS, "all"]
    row = summary[(summary["perturbation"] == "shift") & (summary["habitat"] == 2)]
    (row,) = row.to_dict("records")
    rows = table[table["habitat"] == 2].set_index("perturbation")
    base, draws = rows.loc["none", "volume_ml"], rows.loc["shift", "volume_ml"]
    assert row["median_dice"] == rows.loc["shift", "dice"].median()
    sd = np.std([base, *draws], ddof=1)
    assert row["rc_ml"] == pytest.approx(1.96 * 2**0.5 * sd)
    assert row["wcv"] == pytest.approx(sd / np.mean([base, *draws]))
    assert row["bias_ml"] == pytest.approx((draws - base).mean())


def test_same_seed_same_numbers_whatever_else_is_asked(result, found) -> None:
    again = stability([result], perturbations=["misregistration", "noise"])
    for name in ("noise", "misregistration"):
        a, b = (t[t["perturbation"] == name] for t in (found.table, again.table))
        pd.testing.assert_frame_equal(
            a.reset_index(drop=True), b.reset_index(drop=True), check_exact=True
        )
    other = stability(result, perturbations=["noise"], random_state=1).table
    ours = found.table[found.table["perturbation"] == "noise"]["volume_ml"]
    theirs = other[other["perturbation"] == "noise"]["volume_ml"]
    assert not np.array_equal(ours, theirs)


@pytest.mark.parametrize(("sd", "low", "high"), [(8.0, 0.999, 1), (40.0, 0.5, 0.95)])
def test_separated_habitats_are_stable_and_overlapping_ones_are_not(sd, low, high):
    """Two slabs 100 HU apart, perturbed by the noise that is found in them."""
    values = np.random.default_rng(0).normal(0, sd, (12, 24, 24))
    values[:, 12:] += 100
    image = Image(values, spacing=(3, 1, 1), unit="HU")
    mask = np.zeros(values.shape, bool)
    mask[2:10, 3:21, 3:21] = True
    result = habitat.segment_channels({"HU": image}, Image(mask, image.geometry), 2)
    dice = stability(result, perturbations=["noise"]).summary["median_dice"]
    assert dice.between(low, high).all()


def test_more_noise_is_less_stable(result) -> None:
    medians = [
        stability(
            result, perturbations=["noise"], noise={"SUVbw": sd, "HU": 30 * sd}
        ).summary["median_dice"].mean()
        for sd in (0.05, 0.5, 3.0)
    ]  # fmt: skip
    assert medians[0] > medians[1] > medians[2]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flipped_storage_changes_nothing(result, axis) -> None:
    crop = result.geometry.crop(result.box)
    affine = crop.affine.copy()
    affine[:3, axis] *= -1
    affine[:3, 3] += crop.affine[:3, axis] * (crop.shape[axis] - 1)
    flipped = Geometry(crop.shape, affine)
    images = {
        c: Image(np.flip(i.array, axis), flipped, unit=i.unit)
        for c, i in result.images.items()
    }
    mask = Image(np.flip(result.labels[result.box] > 0, axis), flipped)
    other = habitat.segment_channels(images, mask)
    a, b = (
        stability(r, perturbations=["mask", "rotation", "misregistration"], repeats=2)
        for r in (result, other)
    )
    columns = ["perturbation", "habitat", "median_dice", "rc_ml", "bias_ml"]
    a, b = (s.summary[columns].iloc[: 3 * 4] for s in (a, b))
    pd.testing.assert_frame_equal(a, b, rtol=0.02)


def test_warnings_are_counted_not_shown() -> None:
    p = habitat.phantom(radius_mm=10, margin_mm=15)
    mask = p.mask.array.copy()
    mask[4, 10, 10] = True  # a second part of the tumor
    with pytest.warns(HabitatWarning, match="separate parts"):
        one = habitat.segment(p.pet, p.ct, p.mask.replace(mask), 2, grid="ct")
    notes = stability(one, perturbations=["noise"]).notes
    assert any(n.startswith("3 times:") and "separate parts" in n for n in notes)


def test_a_draw_that_cannot_be_segmented_is_left_out_and_noted() -> None:
    tiny = phantom_result(radius_mm=10, k=2)
    found = stability(tiny, perturbations=["mask"])
    assert found.table["setting"].unique().tolist() == ["", "1 voxel larger"]
    assert any("1 voxel smaller" in n and "was left out" in n for n in found.notes)


def test_one_channel_cannot_be_misregistered(result) -> None:
    p = habitat.phantom(radius_mm=14, margin_mm=15)
    one = habitat.segment_channels({"SUVbw": p.pet}, p.mask, 2)
    found = stability(one, perturbations=["misregistration", "rotation"])
    assert "misregistration" not in set(found.table["perturbation"])
    assert any("one channel" in n for n in found.notes)


def test_a_case_is_segmented_first() -> None:
    p = habitat.phantom(radius_mm=14, margin_mm=15)
    case = Case("a", {"pet": p.pet, "ct": p.ct}, p.mask)
    found = stability(case, perturbations=["rotation"])
    base = found.table[found.table["perturbation"] == "none"]
    own = habitat.segment(p.pet, p.ct, p.mask).table
    np.testing.assert_allclose(base["volume_ml"], own["volume_ml"])
    assert set(found.table["case"]) == {"a"}


class FixedModel:
    """A stand-in: two habitats, below and above SUV 5, in every patient."""

    def segment(self, case: Case):
        def cut(X, k, rng):
            return X[:, 0] > 5

        return habitat.segment_channels(
            case.images, case.mask, 2, method=cut, scaling="none"
        )


@pytest.fixture(scope="module")
def cohort():
    return [phantom_result(radius_mm=12 + s, seed=s) for s in range(10)]


@pytest.fixture(scope="module")
def over_cases(cohort):
    return stability(
        cohort, model=FixedModel(), perturbations=["noise", "shift"], repeats=2
    )


def test_icc_has_cases_as_subjects_and_perturbations_as_raters(over_cases) -> None:
    table, rated = over_cases.table, over_cases.icc
    assert over_cases.notes == ()
    features = ["volume_ml", "fraction", "mean_SUVbw", "mean_HU"]
    assert len(rated) == 3 * 2 * len(features)
    assert (rated["subjects"] == 10).all()
    assert rated.groupby("perturbation")["raters"].max().to_dict() == {
        "noise": 3, "shift": 3, "all": 5,
    }  # fmt: skip
    (row,) = rated[
        (rated["perturbation"] == "noise")
        & (rated["habitat"] == 2)
        & (rated["feature"] == "mean_HU")
    ].to_dict("records")
    by_hand = np.empty((10, 3))
    chosen = table[table["habitat"] == 2].set_index(["case", "perturbation", "draw"])
    raters = [("none", 0), ("noise", 0), ("noise", 1)]
    for i in range(10):
        by_hand[i] = [chosen.loc[(str(i + 1), *r), "mean_HU"] for r in raters]
    expected = icc(by_hand)
    assert (row["icc_a1"], row["a1_low"], row["a1_high"]) == pytest.approx(
        expected.agreement
    )
    assert row["icc_c1"] == pytest.approx(expected.consistency.value)


def test_tumors_of_different_size_have_reliable_volumes(over_cases) -> None:
    rated = over_cases.icc.set_index(["perturbation", "habitat", "feature"])
    assert rated.loc[("noise", 1, "volume_ml"), "icc_a1"] > 0.9
    assert (rated["a1_low"] <= rated["icc_a1"]).all()


def test_no_icc_without_subjects_or_a_model(cohort, over_cases) -> None:
    few = stability(cohort[:2], model=FixedModel(), perturbations=["rotation"])
    assert few.icc.empty
    assert any("10 cases" in n and "there are 2" in n for n in few.notes)
    alone = stability(cohort, perturbations=["rotation"], repeats=1)
    assert alone.icc.empty
    assert any("not the same tissue" in n for n in alone.notes)


def test_order_of_cases_does_not_matter(cohort) -> None:
    def of(order):
        cases = [
            Case(f"case-{i}", cohort[i].images, Image(
                cohort[i].labels[cohort[i].box] > 0,
                cohort[i].geometry.crop(cohort[i].box),
            ))
            for i in order
        ]  # fmt: skip
        table = stability(cases, perturbations=["noise"], repeats=1).table
        return table.sort_values(["case", "perturbation", "habitat"], ignore_index=True)

    pd.testing.assert_frame_equal(of([0, 1, 2]), of([2, 0, 1]), check_exact=True)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"data": "a.nii"}, InputError, "must be a HabitatResult"),
        ({"data": []}, InputError, "must be a HabitatResult"),
        ({"perturbations": "noise"}, ConfigError, "one of|list"),
        ({"perturbations": []}, ConfigError, "list"),
        ({"perturbations": ["nois"]}, ConfigError, "did you mean 'noise'"),
        ({"repeats": 0}, ConfigError, "repeats"),
        ({"noise": {"PET": 1}}, ConfigError, "noise"),
        ({"noise": {"HU": -1}}, ConfigError, "noise"),
        ({"random_state": -1}, ConfigError, "random_state"),
    ],
)
def test_wrong_arguments_are_named(result, change, kind, words) -> None:
    arguments = {"data": result, "perturbations": ["rotation"], **change}
    with pytest.raises(kind, match=words):
        stability(arguments.pop("data"), **arguments)


def test_a_result_that_cannot_be_made_again_says_what_to_do() -> None:
    own = phantom_result(k=2, method=lambda X, k, rng: X[:, 0] > 0)
    with pytest.raises(ConfigError, match="its method was a function.*model"):
        stability(own)
    own = phantom_result(k=2, scaling=lambda X, units: lambda Y: Y)
    with pytest.raises(ConfigError, match="its scaling was a function.*model"):
        stability(own)
    assert (
        len(stability(own, model=FixedModel(), perturbations=["rotation"]).table) == 6
    )


def test_a_case_twice_is_refused() -> None:
    case = Case("a", {"pet": "pet.nii", "ct": "ct.nii"}, "mask.nii")
    with pytest.raises(InputError, match="case 'a' is there twice"):
        stability([case, case])


def test_a_case_that_cannot_be_read_is_named() -> None:
    case = Case("a17", {"pet": "none.nii", "ct": "none.nii"}, "none.nii")
    with pytest.raises(habitat.errors.HabitatError, match="a17"):
        stability(case)


def test_plots(found, over_cases) -> None:
    figure = found.plot()
    assert len(figure.axes) == 1
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "H1", "H2", "H3", "H4",
    ]  # fmt: skip
    ticks = [t.get_text().replace("-\n", "") for t in figure.axes[0].get_xticklabels()]
    assert ticks == list(PERTURBATIONS)
    two = over_cases.plot()
    assert len(two.axes) == 2
    assert "10 cases" in two.axes[1].get_xlabel()
    drawn = sum(
        len(c.get_offsets()) for c in two.axes[1].collections if len(c.get_offsets())
    )
    assert drawn >= 2 * 2 * 4  # both kinds, habitats, features


def test_thresholds_keep_the_names_of_the_call():
    case = habitat.phantom()
    method = OtsuOptions(thresholds={"pet": 4.0})
    result = habitat.segment(case.pet, case.ct, case.mask, method=method)
    found = stability(result, perturbations=["rotation"])
    assert (found.table["perturbation"] == "rotation").any()


def test_one_habitat_has_no_border():
    case = habitat.phantom()
    result = habitat.segment(case.pet, case.ct, case.mask)
    params = {**result.params, "arguments": {**result.params["arguments"], "k": 1}}
    with pytest.raises(InputError, match="one habitat"):
        stability(replace(result, params=params))


def test_an_aligned_map_is_perturbed_with_its_own_k():
    ps = [habitat.phantom(random_state=s) for s in range(2)]
    cases = [
        habitat.Case(str(i), {"pet": p.pet, "ct": p.ct}, p.mask)
        for i, p in enumerate(ps)
    ]
    model = habitat.HabitatModel(4).fit(cases)
    own = habitat.segment(ps[0].pet, ps[0].ct, ps[0].mask)
    with pytest.warns(habitat.errors.HabitatWarning, match="unmatched"):
        aligned = model.align(own, max_distance=0.0)
    assert aligned.k == 8
    found = stability(aligned, perturbations=["rotation"])
    assert found.table.query("perturbation == 'rotation'")["ari"].min() > 0.9

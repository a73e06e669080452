import json

import numpy as np
import pytest
from scipy import ndimage

from habitat import Image, segment_channels
from habitat.agreement import adjusted_rand
from habitat.errors import ConfigError
from habitat.phantoms import PHASE_HU, PHASE_SHARES, PhasePhantom, oracle, phantom

PHASES = ("unenhanced", "arterial", "venous", "delayed")


@pytest.fixture(scope="module")
def case() -> PhasePhantom:
    return phantom("ct_phases")


@pytest.fixture(scope="module")
def quiet() -> PhasePhantom:
    return phantom("ct_phases", noise=0)


def smooth(image: Image) -> np.ndarray:
    """In-plane Gaussian of 1.5 mm, as METHODS asks before differences."""
    sigma = (0, 1.5 / image.geometry.spacing[1], 1.5 / image.geometry.spacing[2])
    return ndimage.gaussian_filter(image.array.astype(np.float32), sigma)


def enhancement(phases) -> dict[str, Image]:
    smoothed = {name: smooth(image) for name, image in phases.items()}
    plain = smoothed.pop("unenhanced")
    grid = phases["venous"].geometry
    return {n: Image(a - plain, grid, unit="dHU") for n, a in smoothed.items()}


def scores(channels, case) -> tuple[float, float]:
    """Adjusted Rand index of the oracle and of k-means with the truth."""
    inside = case.mask.array
    truth = case.truth.array[inside]
    X = np.stack([c.array[inside] for c in channels.values()], axis=1)
    found = segment_channels(channels, case.mask, k=4).labels[inside]
    return adjusted_rand(truth, oracle(X, truth)), adjusted_rand(truth, found)


def test_phases_are_like_a_scanner_s(case) -> None:
    assert tuple(case.phases) == PHASES == tuple(case.times) == tuple(case.motion)
    assert list(case.times.values()) == sorted(case.times.values())
    for name, image in case.phases.items():
        assert (image.unit, image.array.dtype) == ("HU", np.int16)
        assert image.geometry.spacing == (3.27, 0.98, 0.98)
        assert image.geometry.same_as(case.mask.geometry)
        assert image.meta["generated_by"] == "habitat.phantom"
        assert image.meta["phase"] == name
        assert json.loads(json.dumps(dict(image.meta))) == image.meta
        assert image.array.min() < -700
        np.testing.assert_array_equal(case.motion[name], np.eye(4))
    np.testing.assert_array_equal(case.mask.array, case.truth.array > 0)
    assert not (case.aorta.array & case.mask.array).any()


def test_shares_of_the_tissues_are_as_asked(case) -> None:
    counts = np.bincount(case.truth.array.ravel(), minlength=5)[1:]
    np.testing.assert_allclose(counts / counts.sum(), PHASE_SHARES, atol=0.01)
    other = phantom("ct_phases", shares=(0.4, 0.3, 0.15, 0.15), random_state=3)
    counts = np.bincount(other.truth.array.ravel(), minlength=5)[1:]
    np.testing.assert_allclose(counts / counts.sum(), (0.4, 0.3, 0.15, 0.15), atol=0.01)


def test_planted_values_are_in_the_images_and_two_tissues_look_alike(quiet) -> None:
    for number, name in enumerate(PHASES):
        image = quiet.phases[name].array
        planted = [tissue[number] for tissue in PHASE_HU]
        for habitat, value in enumerate(planted, 1):
            inner = ndimage.binary_erosion(quiet.truth.array == habitat, iterations=2)
            assert np.median(image[inner]) == pytest.approx(value, abs=1)
        assert len(set(planted)) < 4
        assert np.std(image[quiet.aorta.array]) < 2
    blood = [np.mean(quiet.phases[n].array[quiet.aorta.array]) for n in PHASES]
    np.testing.assert_allclose(blood, (40, 300, 160, 120), atol=1)


def test_noise_is_15_hu_white_and_its_own_in_each_phase(case, quiet) -> None:
    grains = {n: case.phases[n].array - quiet.phases[n].array * 1.0 for n in PHASES}
    double = phantom("ct_phases", noise=2).phases["venous"].array
    for grain in grains.values():
        assert np.std(grain) == pytest.approx(15, rel=0.01)
        across = np.corrcoef(grain[:, 1:].ravel(), grain[:, :-1].ravel())[0, 1]
        assert abs(across) < 0.01
    assert np.std(double - quiet.phases["venous"].array) == pytest.approx(30, rel=0.01)
    pair = np.corrcoef(grains["arterial"].ravel(), grains["venous"].ravel())[0, 1]
    assert abs(pair) < 0.01


def test_enhancement_finds_what_no_single_phase_shows() -> None:
    check_bar(range(1))


@pytest.mark.slow
def test_enhancement_finds_what_no_single_phase_shows_on_10_seeds() -> None:
    check_bar(range(10))


def check_bar(seeds: range) -> None:
    for seed in seeds:
        case = phantom("ct_phases", random_state=seed)
        best, found = scores(enhancement(case.phases), case)
        assert found >= 0.9 * best
        for image in case.phases.values():
            for values in (image.array, smooth(image)):
                one = {"phase": Image(values, image.geometry, unit="smoothed HU")}
                alone, segmented = scores(one, case)
                assert max(alone, segmented) <= found - 0.15
        moved = phantom("ct_phases", random_state=seed, motion=(3, 2))
        assert scores(enhancement(moved.phases), moved)[1] <= found - 0.1


def test_motion_is_rigid_and_leaves_the_venous_phase_and_the_truth(case) -> None:
    moved = phantom("ct_phases", motion=(3, 2))
    for name in ("mask", "truth", "aorta"):
        first, second = getattr(case, name).array, getattr(moved, name).array
        np.testing.assert_array_equal(first, second)
    venous = moved.phases["venous"].array
    np.testing.assert_array_equal(venous, case.phases["venous"].array)
    shifts = []
    center = (60.0, 10.0, 120.0)
    for name in ("unenhanced", "arterial", "delayed"):
        affine = moved.motion[name]
        turn = affine[:3, :3]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        angle = np.degrees(np.arccos((np.trace(turn) - 1) / 2))
        assert angle == pytest.approx(2)
        shifts.append(turn @ center + affine[:3, 3] - center)
        assert np.linalg.norm(shifts[-1]) == pytest.approx(3)
    assert np.linalg.norm(shifts[0] - shifts[1]) > 0.5


def test_the_image_moves_as_the_planted_affine_says() -> None:
    """The aorta's and the tumor's edges lie where the affine takes them."""
    still = phantom("ct_phases", noise=0)
    moved = phantom("ct_phases", noise=0, motion=(4, 0))
    grid = still.mask.geometry
    for name in ("arterial", "delayed"):
        shift = moved.motion[name][:3, 3]
        step = grid.index(shift) - grid.index((0, 0, 0))  # voxels, (z, y, x)
        values = still.phases[name].array.astype(np.float32)
        expected = ndimage.shift(values, step, order=1, mode="nearest")
        found = moved.phases[name].array
        inner = (slice(3, -3), slice(8, -8), slice(8, -8))
        wrong = np.abs(found[inner] - expected[inner])
        unmoved = np.abs(values[inner] - expected[inner])
        assert wrong.mean() < 0.35 * unmoved.mean()


def test_same_seed_same_phases_other_seed_others(case) -> None:
    again, other = phantom("ct_phases"), phantom("ct_phases", random_state=1)
    for name in PHASES:
        np.testing.assert_array_equal(case.phases[name].array, again.phases[name].array)
    assert not np.array_equal(case.truth.array, other.truth.array)


@pytest.mark.parametrize("radius", [5, 23, 40])
def test_aorta_lies_outside_any_tumor(radius) -> None:
    small = phantom("ct_phases", radius_mm=radius, margin_mm=20, noise=0)
    assert small.phases["arterial"].array[small.aorta.array].min() > 295
    assert small.mask.array.any()


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"kind": "ct"}, "kind"),
        ({"margin_mm": 19}, "margin_mm"),
        ({"shares": (0.5, 0.5)}, "shares"),
        ({"motion": 3}, "motion"),
        ({"motion": (-1, 2)}, "motion"),
        ({"kind": "pet_ct", "motion": (3, 2)}, "motion"),
    ],
)
def test_wrong_arguments_are_named(wrong, name) -> None:
    with pytest.raises(ConfigError, match=name):
        phantom(**{"kind": "ct_phases", **wrong})

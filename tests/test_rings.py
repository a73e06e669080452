"""Rings: distances by brute force, what is left out, and what is said of it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import habitat
from habitat.errors import (
    ConfigError,
    HabitatError,
    HabitatWarning,
    InputError,
    MaskError,
    ModalityError,
)
from habitat.features import ring
from habitat.image import Image


def brute_distance(mask, spacing):
    """Signed mm from each voxel to the nearest one of the other kind."""
    out = np.empty(mask.shape)
    padded = np.pad(mask, 1)
    inside, outside = np.argwhere(mask), np.argwhere(~padded) - 1
    for at in np.ndindex(mask.shape):
        other, sign = (outside, -1) if mask[at] else (inside, 1)
        out[at] = sign * np.sqrt((((other - at) * spacing) ** 2).sum(1)).min()
    return out


def on_grid(image, rings):
    """Shells of rings on the whole grid of an image."""
    out = np.zeros(image.geometry.shape, np.uint8)
    start = np.rint(image.geometry.index(rings.labels.geometry.world((0, 0, 0))))
    box = tuple(
        slice(int(a), int(a) + n)
        for a, n in zip(start, rings.labels.array.shape, strict=True)
    )
    out[box] = rings.labels.array
    return out


def ball(shape, spacing, radius, center=None):
    center = (np.array(shape) - 1) / 2 if center is None else center
    axes = np.indices(shape).T * spacing - np.multiply(center, spacing)
    distance = np.linalg.norm(axes, axis=-1).T
    return distance <= radius


def lung(shape=(15, 41, 41), spacing=(3, 1, 1), radius=7):
    """A soft ball in lung: mask and CT."""
    mask = ball(shape, spacing, radius)
    hu = np.where(mask, 30, -850).astype(np.int16)
    return Image(mask, spacing=spacing), Image(hu, spacing=spacing, unit="HU")


@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
@settings(max_examples=40)
@given(
    hnp.arrays(bool, (4, 5, 6)).filter(np.any),
    st.tuples(*[st.sampled_from([0.7, 1.0, 2.5, 5.0])] * 3),
    st.sampled_from([(0, 3, 5, 10), (-3, 0, 2.5), (-2, 2, 4), (1, 2)]),
)
def test_shells_are_those_of_brute_force(tumor, spacing, edges):
    mask = Image(np.pad(tumor, 4), spacing=spacing)
    rings = ring(mask, edges=edges)
    distance = brute_distance(mask.array, spacing)
    found = on_grid(mask, rings)
    for code, (low, high) in enumerate(itertools.pairwise(edges), 1):
        outer = (distance > max(low, 0) + 1e-6) & (distance <= high + 1e-6)
        inner = (distance < min(high, 0) - 1e-6) & (distance >= low - 1e-6)
        np.testing.assert_array_equal(found == code, outer | inner)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 0.7, 0.7), (1.5, 0.8, 0.8)])
def test_volumes_of_a_ball_are_those_of_geometry(spacing):
    shape = np.ceil(60 / np.array(spacing)).astype(int)
    mask = Image(ball(shape, spacing, 15), spacing=spacing)
    edges = (-4, 0, 3, 5, 10)
    rings = ring(mask, edges=edges)
    for name, (low, high) in zip(rings.names, itertools.pairwise(edges), strict=True):
        ml = rings.mask(name).array.sum() * mask.geometry.voxel_ml
        truth = 4 / 3 * np.pi * ((15 + high) ** 3 - (15 + low) ** 3) / 1000
        assert ml == pytest.approx(truth, rel=0.15)  # half a voxel of 3 mm
    assert rings.notes == ()


def test_names_and_bands():
    mask, _ = lung()
    rings = ring(mask, edges=(-3, 0, 2.5, 6))
    assert rings.names == ("rim_0_3", "ring_0_2.5", "ring_2.5_6")
    assert ring(mask, edges=(-3, 5)).names == ("border_3_5",)
    apart, nested = ring(mask), ring(mask, cumulative=True)
    assert nested.names == ("ring_0_3", "ring_0_5", "ring_0_10")
    parts = [apart.mask(name).array for name in apart.names]
    np.testing.assert_array_equal(nested.mask("ring_0_5").array, parts[0] | parts[1])
    assert sum(p.sum() for p in parts) == nested.mask("ring_0_10").array.sum()
    assert not (rings.mask("ring_0_2.5").array & rings.mask("rim_0_3").array).any()


def test_flips_turn_the_rings_only():
    rng = np.random.default_rng(0)
    tumor = np.pad(rng.random((5, 6, 7)) > 0.5, 12)
    mask = Image(tumor, spacing=(2, 1, 1.5))
    flipped = Image(tumor[::-1, :, ::-1], spacing=(2, 1, 1.5))
    one, other = (on_grid(m, ring(m, edges=(-2, 0, 4, 9))) for m in (mask, flipped))
    np.testing.assert_array_equal(one, other[::-1, :, ::-1])


def test_bone_air_and_vessels_are_left_out_with_counts():
    mask, ct = lung()
    hu = ct.array.copy()
    hu[:, :10, :] = 60  # chest wall, thicker than a vessel
    hu[:, 8, :] = 700  # a rib in it
    hu[:, 27:, 24:] = np.where(hu[:, 27:, 24:] < 0, -1000, 30)  # a bulla
    hu[7, 20, 30] = -1000  # noise
    hu[:, 20:22, 30:] = np.where(hu[:, 20:22, 30:] < -900, -1000, 20)  # vessel of 2 mm
    ct = ct.replace(hu)
    rings = ring(mask, ct, edges=(0, 12), vessel_hu=-300)
    kept = on_grid(mask, rings) == 1
    near = on_grid(mask, ring(mask, edges=(0, 12))) == 1
    vessel = np.zeros_like(kept)
    vessel[:, 20:22, 30:] = hu[:, 20:22, 30:] == 20
    left_out = {
        "bone (> 200 HU)": hu > 200,
        "air (< -950 HU)": (hu < -950) & ~vessel,
        "vessels (> -300 HU, thin)": vessel,
    }
    noise = np.zeros_like(kept)
    noise[7, 20, 30] = True
    left_out["air (< -950 HU)"] &= ~noise
    expected = near & ~np.any(list(left_out.values()), axis=0)
    np.testing.assert_array_equal(kept, expected)
    (note,) = rings.notes
    for why, out in left_out.items():
        assert f"{(out & near).sum()} {why}" in note
    assert rings.kept["ring_0_12"] == pytest.approx(expected.sum() / near.sum())
    assert rings.params["vessel_hu"] == -300
    every = ring(mask, ct, edges=(0, 12), bone_hu=None, air_hu=None)
    assert every.kept == {"ring_0_12": 1.0}


def test_no_vessels_where_all_is_soft_and_no_organ_where_all_is_thin():
    mask, ct = lung()
    liver = ct.replace(np.full(ct.array.shape, 60))
    assert set(ring(mask, liver, vessel_hu=-300).kept.values()) == {1.0}
    small, ct = lung(radius=2)  # itself as thin as a vessel: only its blurred edge goes
    hu = np.where(ball(ct.array.shape, (3, 1, 1), 4), 0, ct.array)
    (note,) = ring(small, ct.replace(hu), edges=(0, 3), vessel_hu=-300).notes
    assert "vessels" in note


def test_only_inside_the_lung_and_without_other_lesions():
    mask, ct = lung()
    half = np.zeros(mask.array.shape, bool)
    half[:, :, :20] = True
    near = on_grid(mask, ring(mask, ct)) > 0
    other = ball(half.shape, (3, 1, 1), 4, (7, 20, 32))
    rings = ring(mask, ct, inside=half, exclude=[other.astype(np.uint8), mask])
    np.testing.assert_array_equal(on_grid(mask, rings) > 0, near & half & ~other)
    assert "outside `inside`" in rings.notes[-1]
    assert "`exclude[0]`" in rings.notes[-1]
    one = ring(mask, ct, exclude=Image(other, mask.geometry))
    np.testing.assert_array_equal(on_grid(mask, one) > 0, near & ~other)


def test_nothing_is_left_out_inside_the_tumor():
    mask, ct = lung()
    hu = np.where(mask.array, -1000, ct.array)  # a cavity
    none = np.zeros(mask.array.shape, bool)
    none[0, 0, 0] = True
    with pytest.warns(HabitatWarning, match=r"ring_0_2: 0 of \d+ voxels kept"):
        rings = ring(mask, ct.replace(hu), edges=(-2, 0, 2), inside=none)
    assert rings.kept == {"rim_0_2": 1.0, "ring_0_2": 0.0}
    with pytest.raises(MaskError, match=r"ring_0_2 has no voxel \(0% of it"):
        rings.mask("ring_0_2")


def test_field_of_view_is_counted():
    mask, _ = lung()
    z, y, x = (slice(int(a), int(b)) for a, b in ((4, 11), (10, 31), (13, 28)))
    whole = ring(mask)
    tight = mask.crop((z, y, x))
    with pytest.warns(HabitatWarning) as told:
        cut = ring(tight)
    seen = on_grid(mask, whole)[z, y, x]
    np.testing.assert_array_equal(on_grid(tight, cut), seen)
    for code, name in enumerate(whole.names, 1):
        total = int((whole.labels.array == code).sum())
        left = int((seen == code).sum())
        assert cut.kept[name] == pytest.approx(left / total)
        text = f"{name}: {left} of {total} voxels kept; left out {total - left} beyond"
        assert any(text in str(w.message) for w in told) == (left < total)


def test_the_grid_is_that_of_the_ct():
    mask, ct = lung()
    fine = Image(
        np.repeat(ct.array, 3, axis=0),
        habitat.Geometry.from_spacing((45, 41, 41), (1, 1, 1), (0, 0, -1)),
        unit="HU",
    )
    rings = ring(mask, fine)
    assert rings.labels.geometry.spacing == (1, 1, 1)
    np.testing.assert_array_equal(on_grid(fine, rings) > 0, _around(mask, fine))


def _around(mask, ct):
    tumor = np.repeat(mask.array, 3, axis=0)
    return on_grid(ct, ring(Image(tumor, ct.geometry))) > 0


def test_a_ring_has_habitats():
    case = habitat.phantom(radius_mm=12, margin_mm=20)
    rings = ring(case.mask, case.ct, edges=(0, 10))
    result = habitat.segment(case.pet, case.ct, rings.mask("ring_0_10"), k=2)
    tumor = habitat.resample(case.mask, case.pet).array
    assert not (result.labels.astype(bool) & tumor).any()
    assert set(np.unique(result.labels)) == {0, 1, 2}


def test_a_grid_too_coarse_for_a_ring_is_told():
    mask = Image(ball((9, 9, 9), (9, 9, 9), 14), spacing=(9, 9, 9))
    with pytest.warns(HabitatWarning, match="ring_0_1 has no voxel: the grid is too"):
        rings = ring(mask, edges=(0, 1, 9))
    assert rings.kept == {"ring_0_1": 0.0, "ring_1_9": 1.0}


def test_bad_options_are_told_at_once():
    mask, _ = lung()
    with pytest.raises(ConfigError) as told:
        ring(mask, edges=(0, 5, 3), cumulative=1, bone_hu="high", air_hu=np.nan)
    for name in ("edges", "cumulative", "bone_hu", "air_hu"):
        assert f"`{name}`" in str(told.value)
    for edges in (3, (0,), (0, "3"), (0, np.inf), range(200), (0, 3, 3)):
        with pytest.raises(ConfigError, match="edges"):
            ring(mask, edges=edges)


def test_bad_inputs_are_told(tmp_path):
    mask, ct = lung()
    with pytest.raises(ModalityError, match="must have unit 'HU', has 'SUVbw'"):
        ring(mask, ct.replace(ct.array, unit="SUVbw"))
    with pytest.raises(HabitatError) as told:
        ring(mask, ct, inside=np.ones((2, 2, 2), bool), exclude="no/such.nii")
    assert "`inside`" in str(told.value)
    assert "`exclude`" in str(told.value)
    lungs = np.where(np.arange(41) < 20, 1, 2) * np.ones(mask.array.shape, int)
    with pytest.raises(MaskError, match=r"`inside`: has 2 labels.*read_mask\(mask"):
        ring(mask, ct, inside=lungs)
    with pytest.raises(InputError, match="mask not found"):
        ring(tmp_path / "none.nii")
    with pytest.raises(ConfigError, match="did you mean 'ring_0_3'"):
        ring(mask).mask("ring_0_4")


def test_real_tumor_of_a_patient(shared):
    folder = shared / "data/sts_petct/STS_006"
    ct = habitat.read(folder / "CT_image.nii.gz", unit="HU")
    rings = ring(folder / "CT_mask.nii.gz", ct)
    assert rings.names == ("ring_0_3", "ring_3_5", "ring_5_10")
    assert all(0.5 < share <= 1 for share in rings.kept.values())

"""Voxels without a value in some map (BAD_INPUTS 7)."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

import habitat
from habitat import Case, HabitatModel, Image
from habitat.errors import ConfigError, InputError
from habitat.maps._common import around_tumor, as_map


def maps_of(missing=0.1, seed=0, lost=0):
    """Two maps with three blobs in a ball, some voxels of "b" and all of `lost` NaN."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((20, 20, 20)) - 9.5
    mask = z * z + y * y + x * x < 64
    truth = 1 + (x > -2) + (x > 3)
    centers = np.array([[0, 0], [6, 1], [7, 8]])
    values = centers[truth - 1] + rng.normal(0, 0.7, (*mask.shape, 2))
    values[~mask] = np.nan
    inside = np.argwhere(mask)
    gone = inside[rng.permutation(len(inside))[: round(missing * len(inside))]]
    values[(*gone.T, 1)] = np.nan
    values[(*gone[:lost].T,)] = np.nan
    grid = habitat.Geometry.from_spacing(mask.shape, (2, 2, 2))
    maps = {
        name: as_map(values[..., i], grid, {"function": "test"}, unit="HU")
        for i, name in enumerate("ab")
    }
    return maps, Image(mask, grid), gone


def test_an_incomplete_voxel_goes_to_the_center_nearest_in_its_channels():
    maps, mask, gone = maps_of()
    result = habitat.segment_channels(maps, mask, k=3)
    assert ((result.labels > 0) == mask.array).all()
    a = maps["a"].array[tuple(gone.T)]
    nearest = np.abs(a[:, None] - result.centers[:, 0]).argmin(axis=1) + 1
    np.testing.assert_array_equal(result.labels[tuple(gone.T)], nearest)


def test_the_fit_does_not_see_incomplete_voxels():
    maps, mask, gone = maps_of()
    seen = mask.array.copy()
    seen[tuple(gone.T)] = False
    result = habitat.segment_channels(maps, mask, k=3)
    alone = habitat.segment_channels(maps, mask.replace(seen), k=3)
    np.testing.assert_allclose(result.centers, alone.centers, rtol=1e-12)


def test_incomplete_voxels_are_counted_in_table_and_notes():
    maps, mask, gone = maps_of()
    result = habitat.segment_channels(maps, mask, k=3)
    assert result.table["incomplete"].sum() == len(gone)
    assert any(
        f"{len(gone)} voxels" in n and "other channels" in n for n in result.notes
    )
    assert any(n.startswith(f"b: {len(gone)} of") for n in result.notes)
    means = result.table[["mean_a", "mean_b"]].to_numpy()
    assert np.isfinite(means).all()


def test_a_voxel_without_any_value_has_no_habitat():
    maps, mask, gone = maps_of(lost=7)
    result = habitat.segment_channels(maps, mask, k=3)
    assert (result.labels[tuple(gone[:7].T)] == 0).all()
    assert (result.labels[tuple(gone[7:].T)] > 0).all()
    assert "7 voxels have no value in any channel: label 0" in result.notes


def test_a_map_that_lacks_most_of_the_tumor_is_named():
    maps, mask, _ = maps_of(missing=0.6)
    with pytest.raises(InputError, match=r"b: .*tumor voxels have no value"):
        habitat.segment_channels(maps, mask, k=3)


def test_maps_that_together_lack_most_of_the_tumor_are_named():
    maps, mask, _ = maps_of(missing=0.3)
    other, _, _ = maps_of(missing=0.4, seed=1)
    maps["c"] = other["b"]
    with pytest.raises(InputError, match=r"every channel, half must.* c \d+, b \d+"):
        habitat.segment_channels(maps, mask, k=3)


def test_a_mixture_integrates_the_missing_channel_out():
    maps, mask, gone = maps_of()
    result = habitat.segment_channels(maps, mask, k=3, method="gmm", scaling="none")
    rule = result.params["learned"]["rule"]
    one = np.array(
        [
            w * multivariate_normal(m[0], c[0][0]).pdf(maps["a"].array[tuple(gone.T)])
            for w, m, c in zip(
                rule["weights"], rule["means"], rule["covariances"], strict=True
            )
        ]
    )
    one /= one.sum(axis=0)
    box = tuple(g - s.start for g, s in zip(gone.T, result.box, strict=True))
    np.testing.assert_allclose(result.posterior[(slice(None), *box)], one, atol=1e-5)


@pytest.mark.parametrize("method", ["kmeans", "gmm", "otsu", "supervoxel"])
@pytest.mark.parametrize("scaling", ["zscore", "robust", "rank"])
def test_every_method_assigns_all(method, scaling):
    if method == "otsu" and scaling != "zscore":
        return
    maps, mask, _ = maps_of()
    k = 4 if method == "otsu" else 3
    result = habitat.segment_channels(maps, mask, k=k, method=method, scaling=scaling)
    assert ((result.labels > 0) == mask.array).all()


@pytest.mark.parametrize("shift", [False, True])
def test_a_model_assigns_all(shift):
    cases = []
    for seed in range(3):
        maps, mask, _ = maps_of(seed=seed)
        cases.append(Case(str(seed), maps, mask))
    model = HabitatModel(k=3, patient_shift=shift).fit(cases)
    result = model.segment(cases[0])
    assert ((result.labels > 0) == cases[0].mask.array).all()


def test_saved_maps_are_maps_when_read(tmp_path):
    maps, mask, _ = maps_of()
    result = habitat.segment_channels(maps, mask, k=3)
    again = habitat.HabitatResult.load(result.save(tmp_path / "case"))
    assert (
        again.images["b"].meta
        == result.images["b"].meta
        == {"map": {"function": "test"}}
    )
    assert again.table.equals(result.table)


def test_a_map_on_a_finer_grid_keeps_the_rim():
    maps, mask, _ = maps_of(missing=0)
    result = habitat.segment_channels(maps, mask, k=3, grid=3.0)
    coarse = habitat.resample(mask, result.geometry).array
    assert ((result.labels > 0) == coarse).all()
    assert result.table["incomplete"].sum() == 0


def test_a_map_in_hu_is_neither_rounded_nor_clipped_nor_a_ct():
    maps, mask, _ = maps_of(missing=0)
    wide = {"a": maps["a"], "b": maps["b"].replace(maps["b"].array * 1e4)}
    result = habitat.segment_channels(wide, mask, k=3)
    assert np.nanmax(result.images["b"].array) > 4e4
    assert not any("lung" in note or "no unit" in note for note in result.notes)
    with pytest.raises(ConfigError, match="window"):
        habitat.segment_channels(wide, mask, k=3, scaling="window")


def test_damage_in_an_acquired_image_is_still_damage():
    maps, mask, _ = maps_of()
    array = np.random.default_rng(0).normal(40, 9, mask.array.shape)
    array[mask.array & (np.indices(mask.array.shape)[0] < 8)] = np.nan
    images = {**maps, "mr": Image(array, mask.geometry)}
    with pytest.raises(InputError, match="mr: .*no finite value"):
        habitat.segment_channels(images, mask, k=3)


def test_region_around_the_tumor_is_part_of_the_grid():
    case = habitat.phantom(margin_mm=20)
    grid, tumor = around_tumor(case.mask, case.ct.geometry)
    assert tumor.sum() == case.mask.array.sum()
    assert grid.shape < case.ct.geometry.shape


def test_maps_are_perturbed_as_maps():
    maps, mask, _ = maps_of()
    found = habitat.stability(habitat.segment_channels(maps, mask, k=3), repeats=1)
    assert set(found.table["perturbation"]) == {
        "none",
        "noise",
        "shift",
        "rotation",
        "mask",
        "misregistration",
    }
    assert found.table["mean_b"].notna().all()
    assert found.table["dice"].median() > 0.5


def test_a_gated_core_stays_without_value_on_a_coarser_grid():
    """A new voxel needs half of its part of the tumor, not some survivors."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices((40, 40, 40)) - 19.5
    distance = np.sqrt(z * z + y * y + x * x)
    core = (distance < 8) & (rng.random(distance.shape) < 0.8)
    values = np.where(
        (distance > 18) | core, np.nan, distance + rng.normal(0, 1, z.shape)
    )
    grid = habitat.Geometry.from_spacing(values.shape, (1, 1, 1))
    maps = {"a": as_map(values, grid, {"function": "test"})}
    maps["b"] = maps["a"].replace(np.where(distance > 18, np.nan, x))
    result = habitat.segment_channels(maps, Image(distance <= 18, grid), k=3, grid=4.0)
    inside = habitat.resample(Image(distance < 6, grid), result.geometry).array
    shown = result.images["a"].array[inside[result.box]]
    assert np.isnan(shown).mean() > 0.9
    rim = (result.labels > 0) & ~inside
    gone = np.isnan(result.images["a"].array[rim[result.box]])
    assert gone.mean() < 0.1


def test_an_overflow_is_no_value():
    grid = habitat.Geometry.from_spacing((1, 1, 2), (1, 1, 1))
    made = as_map(np.array([[[1e39, 1.0]]]), grid, {})
    assert np.isnan(made.array[0, 0, 0])


def test_names_tell_pet_and_its_texture_apart():
    maps, mask, _ = maps_of(missing=0)
    named = {
        "SUVbw_glcm_Contrast": maps["a"],
        "SUVbw": maps["b"].replace(maps["b"].array + 1, unit="SUVbw"),
    }
    result = habitat.segment_channels(named, mask, k=2)
    assert "SUVbw_glcm_Contrast" in result.names[0]

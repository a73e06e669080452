"""Maps of dual-energy CT against the formulas, by hand."""

import json

import numpy as np
import pytest

import habitat
from habitat import Image
from habitat.errors import (
    ConfigError,
    HabitatError,
    HabitatWarning,
    InputError,
    MaskError,
    ModalityError,
)
from habitat.maps._iodine import ecv_maps, iodine_maps, spectral_maps

SHAPE = (5, 20, 20)
GRID = habitat.Geometry.from_spacing(SHAPE, (3, 2, 2))
TUMOR = np.zeros(SHAPE, bool)
TUMOR[1:4, 3:9, 3:9] = True
MASK = Image(TUMOR, GRID)
LUMEN = np.zeros(SHAPE, bool)
LUMEN[1:4, 14:18, 14:18] = True
AORTA = Image(LUMEN, GRID)


def iodine(tumor, aorta, unit=None):
    """Iodine of the tumor's voxels and, on average, of the aorta."""
    array = np.full(SHAPE, 0.1)
    array[TUMOR] = tumor
    noise = np.tile([-0.5, 0.5], LUMEN.sum() // 2)
    array[LUMEN] = aorta + noise
    return Image(array, GRID, unit=unit)


@pytest.fixture
def lesion():
    return np.random.default_rng(0).uniform(0.5, 3, TUMOR.sum())


def inside(maps, name):
    array = maps[name].array
    return array[around(array)]


def around(array):
    """The tumor in its box, which begins at voxel (0, 0, 0)."""
    return TUMOR[tuple(slice(n) for n in array.shape)]


@pytest.mark.parametrize("aorta", [AORTA, LUMEN, 5.0, {"venous": AORTA}, np.int64(5)])
def test_normalized_iodine(lesion, aorta):
    maps = iodine_maps({"venous": iodine(lesion, 5)}, MASK, aorta=aorta)
    assert list(maps) == ["NIC_venous"]
    map_ = maps["NIC_venous"]
    np.testing.assert_allclose(inside(maps, "NIC_venous"), lesion / 5, rtol=1e-6)
    assert np.isnan(map_.array[~around(map_.array)]).all()
    assert map_.is_map
    assert (map_.array.dtype, map_.unit) == (np.float32, "ratio")
    record = map_.meta["map"]
    assert json.loads(json.dumps(record)) == record
    assert record["aorta"]["venous"]["mg/mL"] == pytest.approx(5)
    measured = not isinstance(aorta, (float, np.integer))
    assert record["aorta"]["venous"]["from"] == ("region" if measured else "given")
    assert record["aorta"]["venous"].get("voxels") == (48 if measured else None)


def test_extracellular_volume_of_the_equilibrium_phase(lesion):
    maps = iodine_maps(
        {"equilibrium": iodine(lesion, 4)}, MASK, aorta=AORTA, hct=np.float32(0.4)
    )
    assert list(maps) == ["NIC_equilibrium", "ECV"]
    np.testing.assert_allclose(inside(maps, "ECV"), 60 * lesion / 4, rtol=1e-6)
    assert maps["ECV"].unit == "%"
    assert maps["ECV"].meta["map"]["hct_from"] == "given"


@pytest.mark.parametrize(("sex", "hct"), [("M", 0.42), ("F", 0.39)])
def test_an_assumed_hematocrit_is_said(lesion, sex, hct):
    with pytest.warns(HabitatWarning, match=f"hematocrit {hct} is assumed"):
        maps = iodine_maps({"equilibrium": iodine(lesion, 4)}, MASK, aorta=4.0, sex=sex)
    expected = 100 * (1 - hct) * lesion / 4
    np.testing.assert_allclose(inside(maps, "ECV"), expected, rtol=1e-6)
    assert maps["ECV"].meta["map"]["hct_from"] == f"assumed for sex {sex}"
    assert any("not measured" in note for note in maps["ECV"].notes)


def test_difference_of_phases(lesion):
    phases = {"venous": iodine(lesion, 4), "arterial": iodine(lesion / 2, 10)}
    blood = {"arterial": AORTA, "venous": 4.0}
    maps = iodine_maps(phases, MASK, aorta=blood)
    assert list(maps) == ["NIC_arterial", "NIC_venous", "NIC_venous-arterial"]
    np.testing.assert_allclose(
        inside(maps, "NIC_venous-arterial"), lesion / 4 - lesion / 20, rtol=1e-5
    )
    assert "the images are taken to be in one position" in maps["NIC_venous"].notes


def test_nothing_is_clipped(lesion):
    lesion[:3], lesion[3:8] = -0.2, 9
    maps = iodine_maps({"equilibrium": iodine(lesion, 4)}, MASK, aorta=4.0, hct=0.4)
    assert inside(maps, "ECV").min() == pytest.approx(-3)
    assert "ECV: 3 tumor voxels are below 0" in maps["ECV"].notes
    assert "ECV: 5 tumor voxels are above 100 %" in maps["ECV"].notes
    assert "NIC_equilibrium: 3 tumor voxels are below 0" in (
        maps["NIC_equilibrium"].notes
    )


def test_a_voxel_without_iodine_value_has_none_in_the_map(lesion):
    lesion[7] = np.nan
    with pytest.warns(HabitatWarning, match="1 of 108 tumor voxels"):
        maps = iodine_maps({"venous": iodine(lesion, 4)}, MASK, aorta=4.0)
    assert np.isnan(inside(maps, "NIC_venous")).nonzero()[0].tolist() == [7]
    lesion[:5] = np.nan
    with pytest.raises(InputError, match="6 of 108 tumor voxels"):
        iodine_maps({"venous": iodine(lesion, 4)}, MASK, aorta=4.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iodine": AORTA}, "`iodine`: must be a mapping of phase to image"),
        ({"iodine": {}}, "`iodine`: must be a mapping"),
        ({"iodine": {"delayed": AORTA}}, "'arterial', 'venous', 'equilibrium'"),
        ({}, "`hct`: ECV needs the hematocrit; give hct of a blood test, or sex"),
        (
            {"hct": 41},
            "`hct`: must be a fraction between 0 and 1, got 41; 41 % is 0.41",
        ),
        ({"hct": "0.41"}, "got '0.41'"),
        ({"sex": "O"}, "`sex`: must be one of 'M', 'F', got 'O'"),
        ({"hct": 0.4, "aorta": 0}, "must be above 0 mg/mL"),
        ({"hct": 0.4, "aorta": -1.0}, "must be a number >= 0, got -1.0"),
        ({"hct": 0.4, "aorta": {}}, "`aorta`: must be a mapping"),
        ({"hct": 0.4, "aorta": {"venous": 4}}, "must be one of 'equilibrium'"),
    ],
)
def test_options_that_are_refused(lesion, change, message):
    options = {"iodine": {"equilibrium": iodine(lesion, 4)}, "aorta": AORTA, **change}
    with pytest.raises(ConfigError) as error:
        iodine_maps(options.pop("iodine"), MASK, **options)
    assert message in str(error.value)


def test_two_phases_need_two_aortas_and_no_hematocrit(lesion):
    phases = {"venous": iodine(lesion, 4), "arterial": iodine(lesion / 2, 10)}
    with pytest.raises(HabitatError, match=r"(?s)2 problems.*one number.*equilibrium"):
        iodine_maps(phases, MASK, aorta=4.0, hct=0.4)
    with pytest.raises(ConfigError, match="`aorta`: is missing for arterial"):
        iodine_maps(phases, MASK, aorta={"venous": 4.0})


def test_regions_that_are_not_blood(lesion):
    phases = {"venous": iodine(lesion, -1)}
    with pytest.raises(InputError, match="mean iodine is -1 mg/mL"):
        iodine_maps(phases, MASK, aorta=AORTA)
    few = np.zeros(SHAPE, bool)
    few[2, 15, 14:17] = True
    with pytest.raises(MaskError, match=r"`aorta` \(venous\): 3 voxels with a value"):
        iodine_maps(phases, MASK, aorta=Image(few, GRID))
    with pytest.raises(MaskError, match=r"`aorta` \(venous\)"):
        iodine_maps(phases, MASK, aorta=Image(few & False, GRID))


def test_hu_is_not_iodine(lesion):
    phases = {"venous": iodine(lesion, 4, "HU")}
    with pytest.raises(ModalityError, match="must be iodine in mg/mL, has unit 'HU'"):
        iodine_maps(phases, MASK, aorta=4.0)


# --- single-energy CT -----------------------------------------------------------------


def phases_of_ct(unit="HU"):
    rng = np.random.default_rng(1)
    before = np.full(SHAPE, -50.0) + rng.normal(0, 1, SHAPE)
    after = before.copy()
    after[TUMOR] += 30
    after[LUMEN] += 60
    return [Image(array, GRID, unit=unit) for array in (before, after)]


def test_extracellular_volume_of_single_energy_ct():
    before, after = phases_of_ct()
    options = {"aorta": AORTA, "register": "none", "smoothing_mm": 0}
    maps = ecv_maps(before, after, MASK, hct=0.4, **options)
    assert list(maps) == ["ECV"]
    np.testing.assert_allclose(inside(maps, "ECV"), 0.6 * 50, rtol=1e-4)
    array = maps["ECV"].array
    assert np.isnan(array[~around(array)]).all()
    assert maps["ECV"].unit == "%"
    record = maps["ECV"].meta["map"]
    assert (record["function"], record["hct"]) == ("ecv_maps", 0.4)
    with pytest.warns(HabitatWarning, match=r"0\.39 is assumed"):
        maps = ecv_maps(before, after, MASK, sex="F", **options)
    np.testing.assert_allclose(inside(maps, "ECV"), 0.61 * 50, rtol=1e-4)
    with pytest.raises(ConfigError, match="ECV needs the hematocrit"):
        ecv_maps(before, after, MASK, **options)


def test_the_aorta_is_read_where_the_equilibrium_phase_shows_it():
    p = habitat.phantom(kind="ct_phases")
    before, after = p.phases["unenhanced"], p.phases["delayed"]
    options = {"aorta": p.aorta, "hct": 0.4}
    still = ecv_maps(before, after, p.mask, register="none", **options)["ECV"]
    moved = before.replace(np.roll(before.array, 6, axis=2))  # 5.9 mm
    thinner = after.crop((slice(1, 34), slice(0, 112), slice(0, 112)))
    assert p.mask.geometry.same_as(moved.geometry)
    with pytest.warns(HabitatWarning, match="drawn in the position of delayed"):
        found = ecv_maps(moved, thinner, p.mask, **options)["ECV"]
    record = found.meta["map"]
    assert record["reference"] == "delayed"
    assert record["registration"]["unenhanced"]["shift_mm"] == pytest.approx(5.9, abs=1)
    wanted = still.meta["map"]["aorta_means"]
    assert record["aorta_means"] == pytest.approx(wanted, abs=5)
    assert np.nanmedian(found.array) == pytest.approx(np.nanmedian(still.array), abs=2)


def test_signal_of_mr_gives_no_extracellular_volume():
    before, after = phases_of_ct("signal")
    with pytest.raises(ModalityError, match="must be in HU, have unit 'signal'"):
        ecv_maps(before, after, MASK, aorta=AORTA, hct=0.4, register="none")


# --- spectral curve -------------------------------------------------------------------


def test_slope_of_the_spectral_curve(lesion):
    low = Image(np.where(TUMOR, 150.0, -80), GRID, unit="HU")
    high = Image(np.where(TUMOR, 60.0, -80), GRID, unit="HU")
    maps = spectral_maps({70: high, 40: low}, MASK)
    assert list(maps) == ["slope_40-70"]
    np.testing.assert_allclose(inside(maps, "slope_40-70"), 3)
    assert maps["slope_40-70"].unit == "HU/keV"
    assert maps["slope_40-70"].meta["map"]["keV"] == [40, 70]
    with pytest.raises(ConfigError, match="two energies"):
        spectral_maps({40: low}, MASK)
    with pytest.raises(ConfigError, match="must be a number >= 1, got '40'"):
        spectral_maps({"40": low, 70: high}, MASK)
    with pytest.raises(ModalityError, match="40 keV: must be in HU, has unit 'mg/mL'"):
        spectral_maps({40: iodine(lesion, 4, "mg/mL"), 70: high}, MASK)


def test_maps_segment_as_they_are():
    lesion = np.repeat([0.8, 2.4], TUMOR.sum() // 2)
    lesion += np.random.default_rng(2).normal(0, 0.1, lesion.size)
    maps = iodine_maps({"equilibrium": iodine(lesion, 4)}, MASK, aorta=4.0, hct=0.4)
    result = habitat.segment_channels(maps, MASK, k=2, grid="mask")
    assert (result.labels[result.labels > 0] == np.repeat([1, 2], 54)).all()

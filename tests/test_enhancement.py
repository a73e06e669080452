"""Enhancement maps: formulas by hand, gates, what is missing, breast MR, CT phantom."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

import habitat
from habitat import Geometry, Image
from habitat.agreement import adjusted_rand
from habitat.errors import (
    ConfigError,
    GeometryError,
    HabitatError,
    HabitatWarning,
    InputError,
    MaskError,
    ModalityError,
)
from habitat.maps import enhancement_maps
from habitat.maps._formulas import PHASES
from habitat.phantoms import oracle

SHAPE, SPACING = (3, 20, 24), (3.0, 1.0, 1.0)
TIMES = {"unenhanced": 0, "arterial": 30, "venous": 70, "delayed": 180}
HAND = {"unenhanced": 40, "arterial": 100, "venous": 80, "delayed": 60}


def image(values, unit="HU", spacing=SPACING):
    array = np.array(np.broadcast_to(values, SHAPE), dtype=np.float64)
    return Image(array, spacing=spacing, unit=unit)


def box(*where, shape=SHAPE):
    mask = np.zeros(shape, dtype=bool)
    mask[where] = True
    return mask


TUMOR = Image(box(slice(None), slice(4, 16), slice(4, 12)), spacing=SPACING)
AORTA = box(slice(None), slice(4, 16), slice(16, 22))


def given_phases(values=HAND, unit="HU"):
    return {phase: image(v, unit) for phase, v in values.items()}


def plain(phases, mask=TUMOR, **options):
    """Maps without registration, smoothing and assumed noise."""
    defaults = {"register": "none", "smoothing_mm": 0, "noise": 0.0}
    return enhancement_maps(phases, mask, **(defaults | options))


def on_mask(found, mask=TUMOR):
    """Values in the tumor, in the order of the mask's voxels."""
    grid = found.geometry
    index = grid.index(mask.geometry.world(np.argwhere(mask.array)))
    return found.array[tuple(np.rint(index).astype(int).T)]


# --- formulas -------------------------------------------------------------------------

BY_HAND = {  # of HAND and TIMES, the aorta enhancing by 300, 150 and 50
    "unenhanced": (40, "HU"),
    "venous": (80, "HU"),
    "arterial-unenhanced": (60, "HU"),
    "venous-arterial": (-20, "HU"),
    "venous-delayed": (20, "HU"),
    "peak-unenhanced": (60, "HU"),
    "delayed-peak": (-40, "HU"),
    "relative_arterial": (100 * 60 / 1040, "%"),
    "relative_peak": (100 * 60 / 1040, "%"),
    "normalized_arterial": (60 / 300, "ratio"),
    "normalized_venous": (40 / 150, "ratio"),
    "aef": (150, "%"),
    "ser": (3, "ratio"),
    "relative_wash_out": (100 / 3, "%"),
    "rpw": (20, "%"),
    "apw": (50, "%"),
    "rpw_delayed": (25, "%"),
    "wash_in": (2, "HU/s"),
    "slope_delayed-venous": (-20 / 110, "HU/s"),
    "auc": (30 * 60 / 2 + 40 * 100 / 2 + 110 * 60 / 2, "HU s"),
    "ttp_index": (1, "phase"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_formulas_by_hand(name):
    blood = {"unenhanced": 40, "arterial": 340, "venous": 190, "delayed": 90}
    phases = {p: image(np.where(AORTA, blood[p], HAND[p])) for p in PHASES[:4]}
    found = plain(phases, times=TIMES, aorta=AORTA, maps=[name])[name]
    value, unit = BY_HAND[name]
    np.testing.assert_allclose(on_mask(found), value, rtol=1e-6)
    assert found.unit == unit
    assert found.array.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "value", "unit"),
    [("pe_delayed", 50, "%"), ("pe_peak", 150, "%"), ("wash_in", 2, "signal/s")],
)
def test_formulas_of_signal_by_hand(name, value, unit):
    found = plain(given_phases(unit=None), times=TIMES, maps=[name])[name]
    np.testing.assert_allclose(on_mask(found), value, rtol=1e-6)
    assert found.unit == unit


@pytest.mark.parametrize(
    ("phases", "names"),
    [
        (["arterial", "unenhanced"], ["arterial-unenhanced"]),
        (["arterial", "venous"], ["arterial", "venous-arterial"]),
        (
            ["unenhanced", "arterial", "venous"],
            ["arterial-unenhanced", "venous-unenhanced", "venous-arterial"],
        ),
        (
            ["unenhanced", "arterial", "delayed", "delayed2"],
            [
                "arterial-unenhanced",
                "delayed-unenhanced",
                "delayed2-unenhanced",
                "delayed-arterial",
                "delayed2-delayed",
            ],
        ),
    ],
)
def test_default_maps_are_the_differences_that_the_phases_allow(phases, names):
    values = {p: image(10.0 * i) for i, p in enumerate(phases)}
    assert list(plain(values)) == names


def test_times_and_aorta_add_what_they_make_possible():
    values = {p: image(10.0 * i) for i, p in enumerate(PHASES[:3])}
    phases = given_phases()
    maps = plain(phases, times=TIMES, aorta=AORTA)
    assert {"slope_arterial-unenhanced", "auc", "normalized_arterial"} < set(maps)
    names = ["arterial-unenhanced"]
    notes = plain(phases, times=TIMES, aorta=AORTA, maps=names)[names[0]].notes
    assert "`times` were not used: no map asked for needs them" in notes
    assert "`aorta` was not used: no map asked for needs it" in notes
    with pytest.raises(ConfigError, match="'auc' needs the time of 'venous'"):
        plain(values, times={"unenhanced": 0, "arterial": 30})
    minutes = {"unenhanced": 0, "arterial": 0.5, "venous": 1.2}
    with pytest.warns(HabitatWarning, match="seconds"):
        plain(values, times=minutes)


def test_peak_is_taken_voxel_by_voxel_and_ties_give_the_first_index():
    rng = np.random.default_rng(0)
    values = {p: rng.integers(0, 4, SHAPE).astype(float) for p in PHASES[:4]}
    stack = np.stack([values[p][TUMOR.array] for p in PHASES[:4]])
    phases = given_phases(values)
    maps = plain(phases, maps=["peak-unenhanced", "ttp_index"])
    peak = stack[1:].max(axis=0) - stack[0]
    np.testing.assert_array_equal(on_mask(maps["peak-unenhanced"]), peak)
    np.testing.assert_array_equal(on_mask(maps["ttp_index"]), stack.argmax(axis=0))


signals = st.lists(st.integers(0, 400), min_size=4, max_size=4)


@given(signals, st.integers(-900, 900))
def test_a_constant_on_all_phases_leaves_differences(values, constant):
    named = dict(zip(PHASES, values, strict=False))
    before = plain(given_phases(named))
    after = plain(given_phases({p: v + constant for p, v in named.items()}))
    for name, found in before.items():
        np.testing.assert_array_equal(found.array, after[name].array)


@given(signals, st.floats(0.1, 50))
def test_a_factor_on_all_signals_leaves_ratios(values, factor):
    named = dict(zip(PHASES, values, strict=False))
    names = ["pe_arterial", "pe_peak", "ser", "aef", "relative_wash_out", "apw"]
    before = plain(given_phases(named, None), maps=names)
    scaled = {p: v * factor for p, v in named.items()}
    after = plain(given_phases(scaled, None), maps=names)
    for name in names:
        np.testing.assert_allclose(before[name].array, after[name].array, rtol=1e-5)


# --- gates, noise, smoothing ----------------------------------------------------------


def gated(**options):
    """AEF of columns that enhance by 0, -5, ... 85 HU in the venous phase."""
    rise = np.resize([0.0, -5.0, 21.0, 22.0, 84.0, 85.0], SHAPE[2])
    phases = {
        "unenhanced": image(40),
        "arterial": image(90),
        "venous": image(40 + rise),
    }
    found = enhancement_maps(
        phases, TUMOR, maps=["aef"], register="none", smoothing_mm=0, **options
    )["aef"]
    return found, np.broadcast_to(rise, SHAPE)[TUMOR.array]


def test_ratios_of_noise_have_no_value_and_are_counted():
    found, rise = gated(noise=5)  # 3 sqrt(5^2 + 5^2) = 21.2 HU
    wanted = np.where(rise >= 22, 100 * 50 / np.where(rise > 0, rise, 1), np.nan)
    np.testing.assert_allclose(on_mask(found), wanted, rtol=1e-6)
    assert np.nanmax(found.array) > 200  # wash-out is not clipped
    lost = int(np.isnan(wanted).sum())
    notes = " ".join(found.notes)
    assert f"{lost} of {wanted.size} tumor voxels have no value" in notes
    assert ">= 21.2 HU (3 sd of its noise, given)" in notes
    assert found.meta["map"]["noise_from"] == "given"


@pytest.mark.parametrize(("noise", "least"), [(4, 21), (6, 84), (20, 85)])
def test_noise_can_be_given(noise, least):
    found, rise = gated(noise=noise)
    np.testing.assert_array_equal(np.isnan(on_mask(found)), rise < least)
    assert found.meta["map"]["noise_sd"]["venous"] == noise


@pytest.mark.parametrize(
    ("smoothing", "sd", "text"),
    [
        (1.5, 5, ">= 21.2 HU (3 sd of its noise, assumed: 5 HU with smoothing_mm=1.5)"),
        (0, 20, ">= 84.9 HU (3 sd of its noise, assumed: 20 HU with smoothing_mm=0)"),
    ],
)
def test_assumed_noise_is_that_of_the_smoothing(smoothing, sd, text):
    for rise in (21, 22, 84, 85):
        phases = given_phases({"unenhanced": 40, "arterial": 90, "venous": 40 + rise})
        options = {"maps": ["aef"], "register": "none", "smoothing_mm": smoothing}
        found = enhancement_maps(phases, TUMOR, **options)["aef"]
        assert np.isnan(on_mask(found)).all() == (rise < 3 * np.sqrt(2) * sd)
        assert any(text in note for note in found.notes)
        record = found.meta["map"]
        assert (record["noise_from"], record["gate_sd"]) == ("assumed", 3)
        assert record["noise_sd"]["unenhanced"] == sd


def test_the_gate_can_be_set():
    found, rise = gated(gate_sd=0)
    np.testing.assert_array_equal(np.isnan(on_mask(found)), rise <= 0)


def test_noise_is_measured_in_the_aorta():
    rng = np.random.default_rng(1)
    phases = {}
    for phase, sd, level in (("unenhanced", 4, 40), ("arterial", 8, 300)):
        values = np.full(SHAPE, 50.0)
        values[AORTA] = level + sd * rng.standard_normal(AORTA.sum())
        phases[phase] = image(values)
    options = {"maps": ["normalized_arterial"], "smoothing_mm": 0, "register": "none"}
    found = enhancement_maps(phases, TUMOR, aorta=AORTA, **options)
    record = found["normalized_arterial"].meta["map"]
    assert record["noise_from"] == "aorta"
    for phase, img in phases.items():
        inside = img.array[AORTA]
        assert record["noise_sd"][phase] == pytest.approx(inside.std(ddof=1))
        assert record["aorta_means"][phase] == pytest.approx(inside.mean())


def test_of_signal_only_the_sign_is_gated():
    values = {"unenhanced": 40, "arterial": 50, "delayed": 41}
    maps = enhancement_maps(
        given_phases(values, None), TUMOR, maps=["ser", "pe_arterial"], register="none"
    )
    assert on_mask(maps["ser"])[0] == pytest.approx(10)
    said = "noise is not known: gate_sd was not applied"
    assert any(said in note for note in maps["ser"].notes)
    assert maps["ser"].meta["map"]["gate_sd"] is None
    dark = given_phases({"unenhanced": 0, "arterial": 50}, None)
    assert np.isnan(plain(dark, maps=["pe_arterial"])["pe_arterial"].array).all()


def test_a_gate_of_signal_needs_the_noise():
    phases = given_phases({"unenhanced": 40, "arterial": 50, "delayed": 41}, None)
    options = {"register": "none", "smoothing_mm": 0, "gate_sd": 2.0}
    with pytest.raises(ConfigError, match="(?s)`gate_sd`: .* for ser; give `noise`"):
        enhancement_maps(phases, TUMOR, maps=["ser"], **options)
    for known in ({"noise": 2}, {"aorta": AORTA}):  # 2 sqrt(2^2 + 2^2) = 5.7, or 0
        found = enhancement_maps(phases, TUMOR, maps=["ser"], **options, **known)["ser"]
        assert np.isnan(on_mask(found)).all() == ("noise" in known)
        assert found.meta["map"]["gate_sd"] == 2
    differences = enhancement_maps(phases, TUMOR, **options)  # have no gate
    assert np.isfinite(on_mask(differences["delayed-arterial"])).all()
    options["gate_sd"] = 0
    found = enhancement_maps(phases, TUMOR, maps=["ser"], **options)["ser"]
    np.testing.assert_allclose(on_mask(found), 10, rtol=1e-6)


def test_smoothing_is_a_gaussian_within_slices_and_within_the_tumor():
    rng = np.random.default_rng(2)
    values = rng.normal(50, 20, SHAPE)
    around = np.where(TUMOR.array, values, -800.0)
    phases = {"arterial": image(values), "venous": image(0.0)}
    options = {"maps": ["arterial"], "register": "none", "smoothing_mm": 1.2}
    found = on_mask(enhancement_maps(phases, TUMOR, **options)["arterial"])
    inside = TUMOR.array * 1.0
    top, weight = (
        np.stack([ndimage.gaussian_filter(s, 1.2, mode="constant") for s in volume])
        for volume in (inside * values, inside)
    )
    wanted = top[TUMOR.array] / weight[TUMOR.array]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    lung = enhancement_maps({**phases, "arterial": image(around)}, TUMOR, **options)
    np.testing.assert_array_equal(on_mask(lung["arterial"]), found)


def test_a_missing_voxel_stays_one_missing_voxel():
    values = np.full(SHAPE, 100.0)
    values[1, 8, 8] = np.nan
    phases = {"unenhanced": image(40), "arterial": image(values)}
    with pytest.warns(HabitatWarning, match="arterial: 1 of 288 tumor voxels"):
        found = enhancement_maps(phases, TUMOR, register="none")["arterial-unenhanced"]
    inside = on_mask(found)
    assert np.isnan(inside).sum() == 1
    np.testing.assert_allclose(inside[np.isfinite(inside)], 60, rtol=1e-6)
    values[1, 6:9, 6:9] = np.nan
    phases["arterial"] = image(values)
    with pytest.raises(InputError, match="9 of 288 tumor voxels"):
        enhancement_maps(phases, TUMOR, register="none")


# --- what is missing ------------------------------------------------------------------


def test_all_that_is_missing_is_said_at_once():
    phases = given_phases({"arterial": 100, "venous": 80})
    maps = ["aef", "apw", "slope_venous-arterial", "normalized_venous", "peak-venous"]
    with pytest.raises(ConfigError) as error:
        enhancement_maps(phases, TUMOR, maps=[*maps, "delayed_peak"], gate_sd=-1)
    text = str(error.value)
    assert "'aef' = 100 * (arterial-unenhanced) / (venous-unenhanced) needs" in text
    assert "needs 'unenhanced' and 'delayed', given are arterial, venous" in text
    assert "'slope_venous-arterial' needs the time of 'arterial' and 'venous'" in text
    assert "`aorta`: 'normalized_venous' needs it" in text
    assert "'peak-venous'" not in text
    assert "'delayed_peak'" in text
    assert "`gate_sd`" in text


def test_a_peak_needs_two_phases_after_contrast():
    phases = given_phases({"unenhanced": 40, "venous": 80})
    with pytest.raises(ConfigError, match="a second phase after contrast"):
        plain(phases, maps=["relative_peak"])


@pytest.mark.parametrize(
    ("maps", "text"),
    [
        (["aeff"], "did you mean 'aef'"),
        (["arterial-unenhance"], "did you mean 'arterial-unenhanced'"),
        (["arterial-arterial"], "no map is named"),
        (["relative_unenhanced"], "no map is named"),
        (["slope_arterial"], "no map is named"),
        ([""], "no map is named"),
        ([["aef"]], "sequence of names"),
        ("aef", "sequence of names"),
        ([], "sequence of names"),
    ],
)
def test_unknown_maps(maps, text):
    with pytest.raises(ConfigError, match=text):
        plain(given_phases(), maps=maps)


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"unenhanced": 0}, "'wash_in' needs the time of 'arterial'"),
        ({"unenhanced": 30, "arterial": 30}, "must be later than 'unenhanced' at 30 s"),
        ({"unenhanced": 0, "arterial": np.nan}, r"times\['arterial'\]"),
        ({"unenhanced": 0, "aterial": 30}, "did you mean 'arterial'"),
        ([0, 30], "must be a mapping of phase to seconds"),
        (None, "needs the time of 'unenhanced' and 'arterial'"),
    ],
)
def test_no_time_is_invented(times, text):
    with pytest.raises(ConfigError, match=text):
        plain(given_phases(), maps=["wash_in"], times=times)


def test_area_needs_all_times():
    with pytest.raises(ConfigError, match="time of 'venous' and 'delayed'"):
        plain(given_phases(), maps=["auc"], times={"unenhanced": 0, "arterial": 30})


@pytest.mark.parametrize(
    ("phases", "text"),
    [
        ({"arterial": image(1)}, "two to five are needed, got arterial"),
        ({"arterial": image(1), "portal": image(2)}, "must be one of"),
        ([image(1), image(2)], "must be a mapping of phase to image"),
    ],
)
def test_phases_that_cannot_be_used(phases, text):
    with pytest.raises(ConfigError, match=text):
        enhancement_maps(phases, TUMOR)


def test_formulas_keep_to_their_unit():
    with pytest.raises(ConfigError, match="needs HU, the phases have unit None"):
        plain(given_phases(unit=None), maps=["relative_arterial"])
    with pytest.raises(ConfigError, match="take relative_<phase>"):
        plain(given_phases(), maps=["pe_arterial"])
    mixed = {"unenhanced": image(1), "arterial": image(2, None)}
    with pytest.raises(ModalityError, match="unenhanced HU, arterial no unit"):
        plain(mixed)


def test_the_aorta_must_enhance_and_lie_in_the_image():
    options = {"maps": ["normalized_arterial"]}
    flat = given_phases({"unenhanced": 40, "arterial": 40})
    with pytest.raises(InputError, match=r"`aorta`: .* > 0 in the aorta, it is 0"):
        plain(flat, aorta=AORTA, **options)
    phases = given_phases({"unenhanced": 40, "arterial": 80})
    with pytest.raises(MaskError, match="`aorta`: 3 voxels"):
        plain(phases, aorta=box(slice(None), 3, 3), **options)
    with pytest.raises(MaskError, match="`aorta`"):
        plain(phases, aorta=np.zeros(SHAPE, dtype=bool), **options)
    with pytest.raises(HabitatError, match="`aorta`"):
        plain(phases, aorta=np.ones((2, 2, 2), dtype=bool), **options)
    far = Geometry.from_spacing((5, 5, 5), SPACING, (500, 0, 0))
    with pytest.raises(GeometryError, match="`aorta`"):
        plain(phases, aorta=Image(np.ones((5, 5, 5), dtype=bool), far), **options)


# --- grids ----------------------------------------------------------------------------


def test_phases_come_to_the_grid_that_the_mask_was_drawn_on():
    coarse = (1, 10, 12), (6.0, 2.0, 2.0)
    grid = Geometry.from_spacing(*coarse, origin=(0.5, 0.5, 2.0))
    arterial = Image(np.full(grid.shape, 100.0), grid, unit="HU")
    mask = Image(box(0, slice(3, 8), slice(2, 7), shape=grid.shape), grid)
    phases = {**given_phases({"unenhanced": 40, "venous": 80}), "arterial": arterial}
    found = plain(phases, mask)["venous-unenhanced"]
    np.testing.assert_allclose(on_mask(found, mask), 40)
    record = found.meta["map"]
    assert record["reference"] == "arterial"
    assert record["grid"]["venous"]["interpolation"] == "cubic"
    assert any(n.startswith("venous was brought to the grid") for n in found.notes)


@pytest.mark.parametrize(
    ("names", "reference"),
    [
        (PHASES, "venous"),
        (("unenhanced", "arterial", "delayed"), "arterial"),
        (("unenhanced", "delayed", "delayed2"), "delayed"),
    ],
)
def test_where_all_have_one_grid_the_reference_is_fixed(names, reference):
    phases = {p: image(10.0 * i) for i, p in enumerate(names)}
    maps = plain(phases)
    assert {m.meta["map"]["reference"] for m in maps.values()} == {reference}


def test_the_reference_can_be_chosen():
    grid = Geometry.from_spacing((1, 10, 12), (6.0, 2.0, 2.0), origin=(0.5, 0.5, 2.0))
    arterial = Image(np.full(grid.shape, 100.0), grid, unit="HU")
    mask = Image(box(0, slice(3, 8), slice(2, 7), shape=grid.shape), grid)
    phases = {**given_phases(), "arterial": arterial}
    for asked, reference, spacing in (
        (None, "arterial", grid.spacing),  # the grid of the mask
        ("arterial", "arterial", grid.spacing),
        ("delayed", "delayed", SPACING),
    ):
        found = plain(phases, mask, reference=asked)["arterial-unenhanced"]
        assert found.meta["map"]["reference"] == reference
        assert found.geometry.spacing == spacing
    for unusable in ("delayed2", "venus", 1):
        with pytest.raises(ConfigError, match="`reference`: must be one of"):
            plain(phases, reference=unusable)


def test_maps_lie_around_the_tumor_and_say_how_they_were_made():
    found = plain(given_phases(), times=TIMES)["arterial-unenhanced"]
    assert found.is_map
    assert np.isfinite(found.array).sum() == TUMOR.array.sum()
    corner = image(0).geometry.index(found.geometry.world((0, 0, 0)))
    np.testing.assert_allclose(corner, np.rint(corner), atol=1e-9)
    record = found.meta["map"]
    assert json.loads(json.dumps(record)) == record
    assert record["function"] == "enhancement_maps"
    assert record["formula"] == "(arterial-unenhanced)"
    assert record["times_s"] == TIMES
    assert set(record["sources"]) == {*HAND, "mask"}
    assert any("were not registered" in note for note in found.notes)


@pytest.mark.parametrize("kind", ["one slice", "ring", "one voxel"])
def test_thin_tumors_have_maps(kind):
    mask = TUMOR.array.copy()
    if kind == "ring":
        mask[:, 6:14, 6:10] = False
    else:
        mask[[0, 2]] = False
    if kind == "one voxel":
        mask = box(1, 8, 8)
    tumor = Image(mask, spacing=SPACING)
    found = enhancement_maps(given_phases(), tumor, register="none")
    np.testing.assert_allclose(on_mask(found["venous-arterial"], tumor), -20, rtol=1e-6)


# --- real and generated tumors --------------------------------------------------------


def test_breast_mr_has_the_providers_maps(shared):
    folder = shared / "data" / "breast_dce" / "UCSF-BR-06"
    files = {
        "unenhanced": "phase0_pre",
        "arterial": "phase1_early",
        "delayed": "phase2_late",
    }
    phases = {p: folder / f"{name}.nii.gz" for p, name in files.items()}
    mask = habitat.read_mask(folder / "mask_breast_seg.nii.gz")
    maps = enhancement_maps(
        phases, mask, maps=["pe_arterial", "ser"], register="none", smoothing_mm=0
    )
    pe, ser = (on_mask(maps[name], mask) for name in ("pe_arterial", "ser"))
    theirs = [
        habitat.read(folder / f"ref_{name}.nii.gz").array[mask.array]
        for name in ("PE1_percent", "SER")
    ]
    shown = theirs[0] > 0
    assert shown.sum() > 70_000
    np.testing.assert_array_equal(np.floor(pe[shown] + 1e-5), theirs[0][shown])
    shown = theirs[1] > 0
    assert shown.sum() > 40_000
    gap = np.abs(np.minimum(ser[shown], 3) - theirs[1][shown])  # they clip at 3
    assert gap.max() <= 0.0005 + 1e-6


@pytest.fixture(scope="module")
def ct():
    return habitat.phantom(kind="ct_phases")


def scored(case, channels, k=4):
    """ARI of habitats with the truth, and of the oracle; voxels on the maps' grid."""
    result = habitat.segment_channels(channels, case.mask, k=k)
    truth = habitat.resample(case.truth, result.geometry).array[result.box]
    labels = result.labels[result.box]
    keep = labels > 0
    X = np.stack([i.array[keep] for i in result.images.values()], axis=1)
    best = adjusted_rand(oracle(X, truth[keep]), truth[keep])
    return adjusted_rand(labels[keep], truth[keep]), best, (labels, truth)


def test_phantom_needs_all_phases(ct):
    ari, best, (labels, truth) = scored(
        ct, enhancement_maps(ct.phases, ct.mask, register="none")
    )
    assert ari >= 0.9 * best  # 0.82 of 0.84
    alone = enhancement_maps(ct.phases, ct.mask, maps=list(ct.phases), register="none")
    for phase, channel in alone.items():
        assert scored(ct, {phase: channel})[0] <= ari - 0.15, phase  # 0.25 to 0.61
    core = truth == 1  # does not enhance: 30 % of the tumor
    cold = labels == np.bincount(labels[core & (labels > 0)]).argmax()
    assert 2 * (core & cold).sum() / (core.sum() + cold.sum()) > 0.9  # 0.92


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_registration_undoes_motion(seed):
    still, moved = (
        habitat.phantom(kind="ct_phases", motion=motion, random_state=seed)
        for motion in (None, (3.0, 2.0))
    )
    wanted = scored(still, enhancement_maps(still.phases, still.mask, register="none"))
    maps = enhancement_maps(moved.phases, moved.mask)
    record = next(iter(maps.values())).meta["map"]
    assert record["register"] == "rigid"
    assert set(record["registration"]) == {"unenhanced", "arterial", "delayed"}
    notes = next(iter(maps.values())).notes
    assert any(n.startswith("arterial to venous: registered (rigid)") for n in notes)
    assert scored(moved, maps)[0] >= wanted[0] - 0.05
    blind = enhancement_maps(moved.phases, moved.mask, register="none")
    assert scored(moved, blind)[0] < wanted[0] - 0.2  # 0.4 to 0.5


def test_where_no_better_position_is_found_the_notes_say_so(ct):
    venous = ct.phases["venous"]
    negative = venous.replace(100 - venous.array)  # NCC -1, no position is better
    brighter = venous.replace(venous.array + 10)
    for other, lost in ((brighter, False), (negative, True)):
        phases = {"arterial": other, "venous": venous}
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            maps = enhancement_maps(phases, ct.mask)
        assert [w.category for w in told] == [HabitatWarning] * lost
        for found in maps.values():
            report = found.meta["map"]["registration"]["arterial"]
            assert report["kept"] == "none"
            said = "arterial to venous: registration found no better position"
            assert any(note.startswith(said) for note in found.notes)
        assert report["ncc_before"] == pytest.approx(-1 if lost else 1, abs=1e-3)


def test_a_mask_on_another_grid_than_the_reference_is_told(ct):
    venous, late = ct.phases["venous"], ct.phases["delayed"]
    part = late.crop((slice(1, 34), slice(0, 112), slice(0, 112)))
    phases = {"venous": venous, "delayed": part}
    with pytest.warns(HabitatWarning, match="taken to be drawn .* position of delayed"):
        found = enhancement_maps(phases, ct.mask, reference="delayed")
    record = found["venous"].meta["map"]
    assert ct.mask.geometry.same_as(venous.geometry)
    assert record["reference"] == "delayed"
    assert list(record["registration"]) == ["venous"]
    assert any("lies on the grid of venous" in note for note in found["venous"].notes)


def test_a_refused_registration_names_its_phase(ct, monkeypatch):
    def refuse(*images, **options):
        raise GeometryError("folds space", "register", "use 'rigid'")

    monkeypatch.setattr("habitat.maps._enhancement.registered", refuse)
    with pytest.raises(GeometryError) as error:
        enhancement_maps(ct.phases, ct.mask, register="bspline")
    assert "arterial register: folds space" in str(error.value)
    assert "delayed register: folds space" in str(error.value)

"""IVIM maps against scipy, the reference fits of OSIPI, and known tissues."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

import habitat
from habitat import Image
from habitat.errors import ConfigError, GeometryError, HabitatError, InputError
from habitat.kernels import ivim
from habitat.maps import ivim_maps
from tests import naive_ivim

B = np.array([0, 10, 20, 40, 80, 120, 200, 400, 600, 800.0])
BOUNDS = np.array([[0, 5e-3], [0, 1], [5e-3, 0.2]])
NARROW = {"f": (0, 0.5)}
TISSUES = {  # D, f, D* of OSIPI's generic.json
    "liver": (0.0015, 0.11, 0.1),
    "muscle": (0.00137, 0.1, 0.0263),
    "spleen": (0.0013, 0.2, 0.03),
    "intestine": (0.00131, 0.69, 0.029),
}


def signal(d, f, d_star, b=B, joint=False):
    b = np.asarray(b)
    blood = np.exp(-b * (d_star + (d if joint else 0)))
    return f * blood + (1 - f) * np.exp(-b * d)


def fitted(S, fit="full", b=B, weight=None, joint=False, bounds=BOUNDS):
    """S0, D, f, D* of rows of signals by the kernels."""
    S = np.ascontiguousarray(np.atleast_2d(S), dtype=float)
    weight = np.ones(b.size) if weight is None else weight
    out = np.empty((len(S), 4))
    ivim.ivim_segmented(S, b, weight, np.searchsorted(b, 200), bounds, joint, out)
    if fit == "full":
        assert ivim.ivim_full(S, b, weight, bounds, joint, 200, out) == 0
    return out


def noisy(rows, snr, seed=0):
    rows = np.asarray(rows)
    return rows + np.random.default_rng(seed).normal(0, 1 / snr, rows.shape)


def frames(curves, shape=(3, 4, 4), **kwargs):
    """An image for each b from curves (voxels, b) of a tumor inside a larger grid."""
    curves = np.broadcast_to(curves, (np.prod(shape), np.shape(curves)[-1]))
    grid = tuple(n + 6 for n in shape)
    inner = tuple(slice(3, n + 3) for n in shape)
    images = []
    for column in curves.T:
        array = np.ones(grid)
        array[inner] = column.reshape(shape)
        images.append(Image(array, spacing=(3, 2, 2), **kwargs))
    tumor = np.zeros(grid, bool)
    tumor[inner] = True
    return images, Image(tumor, spacing=(3, 2, 2))


def inside(maps, name, mask):
    """Values in the tumor; with tumors this small the map covers the whole grid."""
    return maps[name].array[mask.array]


# --- kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("snr", [15, 1e9])
def test_kernels_equal_their_plain_twins(snr, joint):
    rows = noisy([signal(*t, joint=joint) for t in TISSUES.values()] * 2, snr)
    rows = np.vstack([rows, np.zeros(10), 1 + B / 1000, np.exp(-B * 1e-3), -rows[0]])
    rows[0] = np.nan
    rows *= 100
    weight = np.array([1, 1, 2, 1, 3, 1, 1, 2, 1, 1.0])
    first = 6
    ours, plain = np.empty((len(rows), 4)), np.empty((len(rows), 4))
    ivim.ivim_segmented(rows, B, weight, first, BOUNDS, joint, ours)
    naive_ivim.ivim_segmented(rows, B, weight, first, BOUNDS, joint, plain)
    np.testing.assert_allclose(ours, plain, rtol=1e-6, atol=1e-12)
    left = [
        module.ivim_full(rows, B, weight, BOUNDS, joint, 200, out)
        for module, out in ((ivim, ours), (naive_ivim, plain))
    ]
    assert left == [0, 0]
    # where f is nearly 0, D* hangs on rounding
    loose = np.where(ours[:, 2] < 1e-6, np.nan, ours[:, 3])
    np.testing.assert_allclose(ours[:, :3], plain[:, :3], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(
        loose[loose == loose], plain[:, 3][loose == loose], rtol=1e-4
    )


@pytest.mark.parametrize("joint", [False, True])
@given(d=st.floats(3e-4, 3.5e-3), f=st.floats(0.03, 0.9), d_star=st.floats(0.01, 0.15))
def test_full_fit_recovers_any_tissue_without_noise(joint, d, f, d_star):
    found = fitted(100 * signal(d, f, d_star, joint=joint), joint=joint)[0]
    np.testing.assert_allclose(found, [100, d, f, d_star], rtol=1e-5)


@given(scale=st.floats(1e-3, 1e5), seed=st.integers(0, 99))
@pytest.mark.parametrize("fit", ["segmented", "full"])
def test_the_unit_of_the_signal_does_not_matter(fit, scale, seed):
    rows = noisy([signal(*t) for t in TISSUES.values()], 40, seed)
    one, other = fitted(rows, fit), fitted(rows * scale, fit)
    np.testing.assert_allclose(one[:, 1:3], other[:, 1:3], rtol=1e-4, atol=1e-7)


def test_segmented_fit_is_exact_where_no_blood_is_left_at_the_split():
    found = fitted(signal(1.2e-3, 0.2, 0.15), "segmented")[0]
    np.testing.assert_allclose(found, [1, 1.2e-3, 0.2, 0.15], rtol=1e-5)


def test_segmented_line_is_numpys_weighted_polyfit():
    row = noisy(signal(*TISSUES["spleen"]), 50)
    _, d, f, _ = fitted(row, "segmented")[0]
    y = row[6:] / row[0]
    slope, start = np.polyfit(B[6:], np.log(y), 1, w=y)  # w is squared there
    np.testing.assert_allclose([d, f], [-slope, 1 - np.exp(start)], rtol=1e-9)


@pytest.mark.parametrize("snr", [30, 200])
def test_full_fit_is_as_good_as_scipys_from_the_truth(snr):
    """scipy 1.11 or later: curve_fit(method="trf") within the same bounds."""
    for n, tissue in enumerate(list(TISSUES.values()) * 5):
        row = noisy(signal(*tissue), snr, n)

        def model(b, s, d, f, d_star):
            return s * signal(d, f, d_star, b)

        low, high = [0, *BOUNDS[:, 0]], [np.inf, *BOUNDS[:, 1]]
        scale = [1, 1e-3, 0.1, 0.03]
        theirs, _ = curve_fit(
            model,
            B,
            row,
            [1, *tissue],
            bounds=(low, high),
            x_scale=scale,
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
            max_nfev=5000,
        )
        ours = fitted(row)[0]
        ours[3] = np.nan_to_num(ours[3], nan=0.05)  # f is 0
        cost = ((model(B, *ours) - row) ** 2).sum()
        least = ((model(B, *theirs) - row) ** 2).sum()
        assert cost <= least * (1 + 1e-6)
        if cost > least * (1 - 1e-6):  # not a better minimum than scipy's
            np.testing.assert_allclose(ours[1:3], theirs[1:3], rtol=0.01, atol=1e-4)


def test_repeated_images_weigh_as_if_each_were_fitted():
    b = np.repeat(B, 3)
    row = noisy(signal(*TISSUES["liver"], b), 60)
    means = row.reshape(-1, 3).mean(axis=1)
    each, _ = curve_fit(
        lambda b, s, d, f, d_star: s * signal(d, f, d_star, b),
        b,
        row,
        [1, *TISSUES["liver"]],
        bounds=([0, *BOUNDS[:, 0]], [np.inf, *BOUNDS[:, 1]]),
        x_scale=[1, 1e-3, 0.1, 0.03],
        xtol=1e-14,
        ftol=1e-14,
    )
    found = fitted(means, weight=np.full(B.size, 3.0))[0]
    np.testing.assert_allclose(found, each, rtol=2e-3)


def test_a_poor_limit_of_iterations_is_counted():
    row = noisy(signal(*TISSUES["liver"])[None], 20)
    out = fitted(row, "segmented")
    assert ivim.ivim_full(row, B, np.ones(B.size), BOUNDS, False, 1, out) == 1


def test_unfinished_voxels_are_noted(monkeypatch):
    monkeypatch.setattr("habitat.maps._ivim._ITERATIONS", 1)
    images, mask = frames(noisy(signal(*TISSUES["liver"]), 20))
    maps = ivim_maps(images, mask, b_values=B, fit="full")
    assert "48 voxels did not reach a least sum of squares" in maps["D"].notes


# --- OSIPI ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def osipi(shared):
    """True tissues, b-values, and mean and sd of 19 reference fits at each SNR."""
    folder = shared / "data" / "osipi_ivim"
    tissues = json.loads((folder / "generic.json").read_text())
    b = np.array(tissues.pop("config")["bvalues"])
    reference = {}
    with (folder / "reference_output.csv").open() as file:
        for row in csv.DictReader(file):
            key = row["Region"], int(row["SNR"])
            values = [[float(row[p + end]) for end in ("_mu", "_std")] for p in _OSIPI]
            reference.setdefault(key, []).append(values)
    return tissues, b, {key: np.array(value) for key, value in reference.items()}


_OSIPI = ("D", "f", "Dp")


@pytest.mark.parametrize("snr", [100, 200])
@pytest.mark.parametrize("fit", ["segmented", "full"])
def test_within_the_spread_of_the_reference_fits(osipi, fit, snr):
    """On each of the 14 tissues, for 300 noisy curves as the references had.

    Within: the mean lies in the range of the 19 means, give or take two standard errors
    of ours (theirs are of 300 noisy curves too); the sd and the root mean square error
    are not above the largest. The tissues reach f = 0.69: f may go up to 1, as there.
    """
    tissues, b, reference = osipi
    assert len(tissues) == 14
    ratios = []
    for n, (name, t) in enumerate(tissues.items()):
        truth = np.array([t[p] for p in _OSIPI])
        rows = noisy(np.tile(signal(*truth, b), (300, 1)), snr, n)
        found = fitted(rows, fit, b)[:, 1:]
        mean, sd = np.nanmean(found, axis=0), np.nanstd(found, axis=0, ddof=1)
        rmse = np.sqrt(np.nanmean((found - truth) ** 2, axis=0))
        means, sds = np.moveaxis(reference[name, snr], 2, 0)  # (19, 3) each
        assert len(means) == 19
        errors = np.hypot(means - truth, sds)
        margin = 2 * sd / np.sqrt(300)
        assert (means.min(axis=0) - margin <= mean).all(), name
        assert (mean <= means.max(axis=0) + margin).all(), name
        assert (sd <= sds.max(axis=0)).all(), name
        assert (rmse <= errors.max(axis=0)).all(), name
        ratios.append(rmse / np.median(errors, axis=0))
    # against the median reference fit; measured 0.74-0.86 full, 1.04-1.32 segmented
    assert (np.median(ratios, axis=0) < {"full": 0.95, "segmented": 1.45}[fit]).all()


def test_maps_of_the_published_curves(osipi):
    """generic.json as voxels: near the truth; a value at a bound is counted."""
    tissues, b, _ = osipi
    truth = np.array([[t[p] for p in _OSIPI] for t in tissues.values()])
    images, mask = frames([t["data"] for t in tissues.values()], shape=(1, 2, 7))
    maps = ivim_maps(images, mask, b_values=b, fit="full")
    found = [inside(maps, name, mask) for name in ("D", "f", "D_star")]
    np.testing.assert_allclose(found, truth.T, rtol=0.07)
    maps = ivim_maps(images, mask, b_values=b, fit="full", bounds=NARROW)
    assert "f: 1 of 14 tumor voxels are at the upper bound 0.5" in maps["f"].notes


# --- maps -----------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [False, True])
def test_maps_of_known_tissues(joint):
    curves = [1000 * signal(*t, joint=joint) for t in TISSUES.values()] * 12
    images, mask = frames(curves)
    maps = ivim_maps(
        images,
        mask,
        b_values=B,
        fit="full",
        blood_includes_D=joint,
    )
    assert list(maps) == ["D", "f", "D_star", "ADC"]
    truth = np.array(list(TISSUES.values()) * 12)
    for i, name in enumerate(("D", "f", "D_star")):
        np.testing.assert_allclose(inside(maps, name, mask), truth[:, i], rtol=1e-3)
    rows = np.array(curves)
    adc = np.log(rows[:, 0] / rows[:, -1]) / 800
    np.testing.assert_allclose(inside(maps, "ADC", mask), adc, rtol=1e-5)
    for map_ in maps.values():
        assert map_.is_map
        assert map_.array.dtype == np.float32
        assert map_.geometry.same_as(mask.geometry)
        assert np.isnan(map_.array[~mask.array]).all()
    assert [m.unit for m in maps.values()] == ["mm2/s", "fraction", "mm2/s", "mm2/s"]


@pytest.mark.parametrize("fit", ["segmented", "full"])
def test_the_algorithm_is_always_named(fit):
    images, mask = frames(signal(*TISSUES["muscle"]))
    maps = ivim_maps(images, mask, b_values=B, fit=fit)
    for name in ("D", "f", "D_star"):
        assert any(n.startswith(f"{name} by algorithm {fit}") for n in maps[name].notes)
        assert maps[name].meta["map"]["algorithm"].startswith(fit)
    record = maps["D"].meta["map"]
    assert json.loads(json.dumps(record)) == record
    assert record["bounds"]["D_star"] == [0.005, 0.2]
    assert record["b_split"] == 200
    assert maps["ADC"].notes[-1] == "ADC from b = 0 and 800 s/mm2"


def test_order_of_images_and_threads_do_not_matter():
    rows = noisy([signal(*t) for t in TISSUES.values()] * 1500, 30)
    images, mask = frames(rows, shape=(15, 20, 20))  # more than one block
    one = ivim_maps(images, mask, b_values=B, threads=1)
    turned = ivim_maps(images[::-1], mask, b_values=B[::-1], threads=3)
    for name in one:
        np.testing.assert_array_equal(one[name].array, turned[name].array)


def test_images_of_one_b_are_averaged():
    images, mask = frames(signal(*TISSUES["spleen"]))
    b = [*B, 800, 800]
    more = [
        images[-1].replace(images[-1].array * 1.1),
        images[-1].replace(images[-1].array * 0.9),
    ]
    maps = ivim_maps([*images, *more], mask, b_values=b, fit="full")
    np.testing.assert_allclose(inside(maps, "f", mask), 0.2, rtol=1e-3)
    assert "averaged images: 3 of b = 800" in maps["f"].notes
    assert maps["f"].meta["map"]["images_per_b"] == [1] * 9 + [3]


def test_adc_of_two_given_b_values():
    images, mask = frames(signal(*TISSUES["liver"]))
    maps = ivim_maps(images, mask, b_values=B, adc_b=(200, 800))
    np.testing.assert_allclose(inside(maps, "ADC", mask), 0.0015, rtol=1e-3)
    assert maps["ADC"].meta["map"]["adc_b"] == [200, 800]


@pytest.mark.parametrize("fit", ["segmented", "full"])
def test_voxels_without_a_fit_are_nan_and_counted(fit):
    rows = np.tile(signal(*TISSUES["muscle"]), (48, 1))
    rows[0] = 0  # no signal
    rows[1, 0] = -1  # S0 below 0
    rows[2, 6:] = 0, 0, 0, -1  # no tissue left at high b
    rows[3] = np.exp(-B * 1e-3)  # no perfusion
    rows[4] = 1 + B / 1000  # rises with b
    images, mask = frames(rows)
    maps = ivim_maps(images, mask, b_values=B, fit=fit)
    values = {name: inside(maps, name, mask) for name in maps}
    assert np.isnan(values["D"][:3]).all()
    assert np.isfinite(values["D"][3:]).all()
    assert "D: 3 of 48 tumor voxels have no value" in maps["D"].notes
    assert values["D"][4] == 0
    assert "D: 1 of 48 tumor voxels are at the lower bound 0" in maps["D"].notes
    np.testing.assert_allclose(values["D"][3], 1e-3, rtol=1e-4)
    assert values["f"][3] == pytest.approx(0, abs=1e-5)
    assert values["f"][4] == 0
    assert np.isnan(values["D_star"][4])
    assert values["ADC"][4] < 0
    assert "ADC: 1 of 48 tumor voxels are below 0" in maps["ADC"].notes


def test_damaged_voxels():
    rows = np.tile(signal(*TISSUES["muscle"]), (192, 1))
    rows[5, 3] = np.nan
    images, mask = frames(rows, shape=(3, 8, 8))
    with pytest.warns(habitat.errors.HabitatWarning, match="1 of 192 tumor voxels"):
        maps = ivim_maps(images, mask, b_values=B)
    assert "D: 1 of 192 tumor voxels have no value" in maps["D"].notes
    rows[:5, 3] = np.inf
    images, mask = frames(rows, shape=(3, 8, 8))
    with pytest.raises(InputError, match="b=40: 6 of 192 tumor voxels have no finite"):
        ivim_maps(images, mask, b_values=B)


def test_without_b_0_the_lowest_stands_for_it():
    images, mask = frames(signal(*TISSUES["muscle"]))
    maps = ivim_maps(images[1:], mask, b_values=B[1:])
    assert any("no image at b = 0: the signal at b = 10" in n for n in maps["f"].notes)


def test_maps_segment_as_they_are():
    low, high = signal(8e-4, 0.05, 0.02), signal(2e-3, 0.25, 0.05)
    rows = noisy(np.repeat([low, high], 96, axis=0), 100)
    images, mask = frames(rows, shape=(3, 8, 8))
    maps = ivim_maps(images, mask, b_values=B)
    result = habitat.segment_channels(
        {name: maps[name] for name in ("D", "f", "ADC")}, mask, k=2, grid="mask"
    )
    labels = result.labels[result.labels > 0]
    assert (np.sort(labels) == np.repeat([1, 2], 96)).all()
    assert any("algorithm segmented" in note for note in result.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b_values": B[:-1]}, "`b_values`: must be one for each image, got 9 for 10"),
        ({"b_values": -B}, "must be a number >= 0"),
        ({"b_values": np.zeros(10)}, "at least 4 different b-values are needed, got 1"),
        ({"b_values": B / 1000}, "at least 2 b-values >= b_split = 200 are needed"),
        ({"b_values": B + 300}, "at least 2 b-values below b_split = 200 are needed"),
        ({"b_values": "0,10"}, "`b_values`: must be a sequence, got str"),
        ({"fit": "bayes"}, "`fit`: must be one of 'segmented', 'full', got 'bayes'"),
        ({"b_split": -1}, "`b_split`: must be a number >= 0"),
        ({"bounds": {"Dstar": (0, 1)}}, "did you mean 'D_star'"),
        ({"bounds": {"f": (0.5, 0.1)}}, "0 <= low < high <= 1"),
        ({"bounds": {"f": (0, 30)}}, "f as fraction"),
        ({"bounds": {"D_star": (0, 0.1)}}, "0 < low < high"),
        ({"bounds": {"D": 3}}, "must be (low, high), got 3"),
        ({"bounds": [0, 1]}, "`bounds`: must be a mapping"),
        ({"adc_b": (0, 1000)}, "`adc_b`: must be two of the b-values"),
        ({"adc_b": (800, 0)}, "the lower first"),
        ({"adc_b": 800}, "`adc_b`: must be two of the b-values"),
        ({"threads": 0}, "`threads`"),
    ],
)
def test_options_that_are_refused(change, message):
    images, mask = frames(signal(*TISSUES["muscle"]))
    with pytest.raises(ConfigError) as error:
        ivim_maps(images, mask, **{"b_values": B, **change})
    assert message in str(error.value)


def test_all_problems_at_once():
    images, mask = frames(signal(*TISSUES["muscle"]))
    with pytest.raises(HabitatError, match=r"(?s)3 problems.*fit.*threads.*b_values"):
        ivim_maps(images, mask, b_values=B[:-1], fit="x", threads=-1)
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*b-values.*b-values"):
        ivim_maps(images[:3], mask, b_values=[0, 10, 20])


def test_images_elsewhere_are_refused():
    images, mask = frames(signal(*TISSUES["muscle"]))
    away = habitat.Geometry.from_spacing(images[3].geometry.shape, (3, 2, 2))
    affine = away.affine.copy()
    affine[:3, 3] += 500
    images[3] = Image(images[3].array, habitat.Geometry(away.shape, affine))
    with pytest.raises(GeometryError, match="0% of the mask lies in the b=40 image"):
        ivim_maps(images, mask, b_values=B)

"""segment() with mixtures, thresholds, supervoxels, smoothing and k="auto"."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.filters import threshold_otsu

import habitat
from habitat import Geometry, HabitatResult, Image
from habitat.agreement import adjusted_rand
from habitat.clustering import (
    GMMOptions,
    KMeansOptions,
    OtsuOptions,
    Potts,
    SupervoxelOptions,
)
from habitat.errors import ConfigError

METHODS = {
    "gmm": {"method": "gmm"},
    "gmm smoothed": {"method": GMMOptions("diag"), "smoothness": Potts(0.5, 26)},
    "kmeans smoothed": {"smoothness": 1.0},
    "otsu": {"method": "otsu"},
    "supervoxel": {"method": "supervoxel"},
    "supervoxel gmm": {"k": 2, "method": SupervoxelOptions(80, method="gmm")},
}


@pytest.fixture(scope="module")
def case():
    return habitat.phantom(random_state=3)


@pytest.fixture(scope="module", params=METHODS)
def options(request):
    return METHODS[request.param]


def inside(result):
    """Labels and channels of the tumor's voxels."""
    labels = result.labels[result.box]
    own = labels > 0
    return labels[own], [image.array[own] for image in result.images.values()]


def turned(image, axes, flips):
    """The same image with its axes in another order and direction."""
    grid, corner, affine = image.geometry, np.zeros(3), np.eye(4)
    for axis, way in zip(axes, flips, strict=True):
        corner[axis] = 0 if way > 0 else grid.shape[axis] - 1
    affine[:3, :3] = grid.affine[:3, list(axes)] * flips
    affine[:3, 3] = grid.world(corner)
    array = image.array.transpose(axes)[tuple(slice(None, None, f) for f in flips)]
    return Image(array, Geometry(array.shape, affine), unit=image.unit)


def channels(seed=0, shape=(10, 11, 12)):
    """Two smooth channels and an egg as the tumor, on one grid."""
    rng = np.random.default_rng(seed)
    field = rng.standard_normal((2, *shape))
    pet, ct = (ndimage.gaussian_filter(f, 1.2) for f in field)
    z, y, x = np.indices(shape)
    egg = ((z - 5) / 4.4) ** 2 + ((y - 5) / 4.9) ** 2 + ((x - 6) / 5.2) ** 2 < 1
    grid = {"spacing": (2.0, 1.5, 1.5)}
    return (
        Image(5 + 20 * pet + 0.1 * field[0], **grid, unit="SUVbw"),
        Image(np.rint(40 + 300 * ct - 1000 * ~egg), **grid, unit="HU"),
        Image(egg, **grid),
    )


@settings(max_examples=4)
@given(st.permutations((0, 1, 2)), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_flips_and_axis_orders_change_no_label(options, axes, flips):
    images = channels()
    before = habitat.segment(*images, grid="pet", **options).labels
    moved = [turned(image, axes, flips) for image in images]
    after = habitat.segment(*moved, grid="pet", **options).labels
    flip = tuple(slice(None, None, f) for f in flips)
    np.testing.assert_array_equal(after, before.transpose(axes)[flip])


def test_everything_is_saved(tmp_path, case, options):
    result = habitat.segment(case.pet, case.ct, case.mask, **options)
    loaded = HabitatResult.load(result.save(tmp_path / "r"))
    assert loaded.names == result.names
    assert loaded.params == result.params
    assert loaded.quality == result.quality
    assert loaded.labels.tobytes() == result.labels.tobytes()
    for name in ("posterior", "uncertainty"):
        one, two = getattr(result, name), getattr(loaded, name)
        assert (one is None) == (two is None)
        if one is not None:
            np.testing.assert_array_equal(one, two)
    assert result._repr_html_()


def test_centers_are_the_means_of_the_labels(case, options):
    result = habitat.segment(case.pet, case.ct, case.mask, **options)
    labels, values = inside(result)
    for h in range(1, result.k + 1):
        means = [v[labels == h].astype(float).mean() for v in values]
        np.testing.assert_allclose(result.centers[h - 1], means, rtol=1e-6)


def test_posterior_and_uncertainty_belong_to_the_labels(case):
    result = habitat.segment(case.pet, case.ct, case.mask, method="gmm")
    own = result.labels[result.box] > 0
    share = result.posterior[:, own].astype(float)
    np.testing.assert_allclose(share.sum(axis=0), 1, atol=1e-6)
    assert (share.argmax(axis=0) + 1 == result.labels[result.box][own]).all()
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=0) / np.log(4)
    np.testing.assert_allclose(result.uncertainty[own], entropy, atol=1e-5)
    assert result.uncertainty.min() >= 0
    assert result.uncertainty.max() <= 1 + 1e-6
    assert not result.posterior[:, ~own].any()
    with pytest.raises(ValueError, match="read-only"):
        result.posterior[0, 0, 0, 0] = 1


def test_a_mixture_is_not_nearest_mean():
    """A tight habitat inside the spread of a wide one: the mean of either misleads."""
    rng = np.random.default_rng(0)
    shape = (12, 20, 20)
    truth = np.zeros(shape, int)
    truth[:, 10:] = 1
    pet = np.where(truth, 6 + 0.15 * rng.standard_normal(shape), 0.0)
    ct = np.where(truth, 40 + 3 * rng.standard_normal(shape), 0.0)
    pet += np.where(truth, 0, 5 + 1.5 * rng.standard_normal(shape))
    ct += np.where(truth, 0, 20 + 60 * rng.standard_normal(shape))
    images = [
        Image(pet, spacing=(2, 2, 2), unit="SUVbw"),
        Image(ct, spacing=(2, 2, 2), unit="HU"),
        Image(np.ones(shape, bool), spacing=(2, 2, 2)),
    ]
    with pytest.warns(habitat.errors.HabitatWarning, match="covers 100%"):
        mixture = habitat.segment(*images, k=2, method="gmm")
    with pytest.warns(habitat.errors.HabitatWarning, match="covers 100%"):
        nearest = habitat.segment(*images, k=2)
    assert adjusted_rand(mixture.labels, truth) >= 0.8
    assert adjusted_rand(nearest.labels, truth) < 0.3


# --- thresholds -----------------------------------------------------------------------


def test_quadrants_are_cut_where_otsu_cuts(case):
    result = habitat.segment(case.pet, case.ct, case.mask, method="otsu")
    labels, (suv, hu) = inside(result)
    low = [n.split()[1] for n in result.names]
    assert low == ["PETlow-CTlow", "PETlow-CThigh", "PEThigh-CTlow", "PEThigh-CThigh"]
    cut = hu[(labels == 1) | (labels == 3)].max()
    oracle = threshold_otsu(hu.astype(int))  # whole numbers: its histogram is exact
    assert cut <= oracle + 0.5
    assert hu[(labels == 2) | (labels == 4)].min() >= oracle
    assert suv[labels <= 2].max() < suv[labels >= 3].min()


def test_codes_survive_an_order_of_suv_that_is_not_theirs():
    """PETlow-CThigh has the lower mean SUV here: it is habitat 2 all the same."""
    rng = np.random.default_rng(1)
    shape = (8, 16, 16)
    quadrant = rng.integers(0, 4, shape)
    suv = np.array([4.0, 2.0, 12.0, 9.0])[quadrant] + 0.2 * rng.standard_normal(shape)
    hu = np.array([10.0, 90, 10, 90])[quadrant] + 3 * rng.standard_normal(shape)
    mask = np.zeros(shape, bool)
    mask[1:-1, 2:-2, 2:-2] = True
    images = (
        Image(suv, spacing=(2, 2, 2), unit="SUVbw"),
        Image(np.rint(np.where(mask, hu, -800)), spacing=(2, 2, 2), unit="HU"),
        Image(mask, spacing=(2, 2, 2)),
    )
    result = habitat.segment(*images, method="otsu")
    assert (result.labels[mask] == quadrant[mask] + 1).all()
    assert result.centers[1, 0] < result.centers[0, 0]


def test_an_empty_quadrant_keeps_its_number(case, tmp_path):
    cuts = OtsuOptions(thresholds={"ct": 2000.0})
    result = habitat.segment(case.pet, case.ct, case.mask, method=cuts)
    labels, _ = inside(result)
    assert set(labels) == {1, 3}
    assert np.isnan(result.centers[[1, 3]]).all()
    assert result.names[1] == "H2 PETlow-CThigh (empty)"
    assert "habitat 2 is empty" in result.notes
    assert result.table["voxels"].tolist()[1::2] == [0, 0]
    loaded = HabitatResult.load(result.save(tmp_path / "r"))
    assert loaded.names == result.names


def test_the_users_thresholds_are_used_and_recorded(case):
    cuts = OtsuOptions(thresholds={"pet": 4.0, "ct": [0.0, 60.0]})
    result = habitat.segment(case.pet, case.ct, case.mask, k=6, method=cuts)
    labels, (suv, hu) = inside(result)
    assert (labels == 1 + 3 * (suv > 4) + (hu > 0) + (hu > 60)).all()
    assert result.params["arguments"]["method"]["thresholds"]["ct"] == [0, 60]
    assert "PETlow-CTmid" in result.names[1]


# --- supervoxels ----------------------------------------------------------------------


def test_supervoxel_habitats_are_coarser(case):
    fine = habitat.segment(case.pet, case.ct, case.mask, grid="ct")
    coarse = habitat.segment(
        case.pet, case.ct, case.mask, grid="ct", method="supervoxel"
    )

    def parts(result):
        own = [result.labels[result.box] == h for h in range(1, 5)]
        return sum(ndimage.label(mask)[1] for mask in own)

    assert parts(coarse) < 0.2 * parts(fine)


# --- smoothing ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_smoothing_helps_where_noise_is_high(method):
    gain = []
    for seed in range(3):
        case = habitat.phantom(noise=2.0, random_state=seed)
        truth = case.truth
        found = []
        for beta in (0.0, 1.0):
            result = habitat.segment(
                case.pet, case.ct, case.mask, method=method, smoothness=beta
            )
            labels, _ = inside(result)
            planted = habitat.resample(truth, result.geometry).array[result.box]
            own = result.labels[result.box] > 0
            found.append(adjusted_rand(labels, planted[own]))
        gain.append(found[1] - found[0])
        assert any("smoothing moved" in note for note in result.notes)
    assert np.mean(gain) > 0.02


# --- k="auto" -------------------------------------------------------------------------


def test_auto_says_what_it_weighed(case):
    result = habitat.segment(case.pet, case.ct, case.mask, k="auto")
    choice = result.quality["choice"]
    assert result.k == choice["k"]
    assert len(choice["values"]["prediction_strength"]) == len(choice["ks"])
    assert any(f"k={result.k}" in note for note in result.notes)
    assert result.params["arguments"]["k"] == "auto"


def test_auto_leaves_one_cloud_whole():
    rng = np.random.default_rng(0)
    shape = (14, 26, 26)
    smooth = [ndimage.gaussian_filter(rng.standard_normal(shape), 1.3) for _ in "ab"]
    mask = np.zeros(shape, bool)
    mask[2:-2, 3:-3, 3:-3] = True
    grid = {"spacing": (3.0, 3.0, 3.0)}
    hu = np.where(mask, 40 + 200 * smooth[1], -700)
    result = habitat.segment(
        Image(5 + 15 * smooth[0], **grid, unit="SUVbw"),
        Image(np.rint(hu), **grid, unit="HU"),
        Image(mask, **grid),
        k="auto",
    )
    assert result.k == 1
    assert any("one continuous cloud" in note for note in result.notes)
    assert set(np.unique(result.labels)) == {0, 1}
    assert result.table["fraction"].tolist() == [1.0]


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "GMM"}, ["'GMM'", "did you mean 'gmm'?"]),
        ({"k": "Auto"}, ["`k`", "2 to 20", "'auto'"]),
        ({"method": "otsu", "k": 3}, ["gives 4 habitats", "k=3", "use k=4"]),
        ({"method": "otsu", "k": "auto"}, ["`k`", "levels"]),
        ({"method": "otsu", "scaling": "rank"}, ["`scaling`", "natural units"]),
        ({"method": "otsu", "smoothness": 1.0}, ["`smoothness`"]),
        ({"method": "supervoxel", "rim_mm": 2.0}, ["`rim_mm`"]),
        ({"smoothness": -1.0}, ["`smoothness`", "-1"]),
        ({"smoothness": "much"}, ["`smoothness`"]),
        ({"method": OtsuOptions(thresholds={"pett": 4})}, ["pett", "pet"]),
        ({"k": 1, "scaling": "zscor"}, ["`k`", "`scaling`", "2 problems"]),
    ],
)
def test_options_that_do_not_fit_are_refused_before_reading(options, words):
    with pytest.raises(ConfigError) as error:
        habitat.segment("no.nii", "no.nii", "no.nii", **options)
    for word in words:
        assert word in str(error.value)


def test_smoothing_needs_a_rule_with_costs(case):
    def halves(X, k, rng):
        return (X[:, 0] > 0).astype(int)

    with pytest.raises(ConfigError, match="`smoothness`"):
        habitat.segment(
            case.pet, case.ct, case.mask, k=2, method=halves, smoothness=1.0
        )


def test_options_of_kmeans_are_used(case):
    one = KMeansOptions(n_init=1, max_iter=1)
    with pytest.warns(habitat.errors.HabitatWarning, match="did not converge"):
        result = habitat.segment(case.pet, case.ct, case.mask, method=one)
    assert result.quality["n_iter"] == 1


def test_a_function_may_not_change_the_voxels(case):
    def rude(X, k, rng):
        labels = KMeansOptions()(X, k, rng).labels
        X += 100
        return labels

    def polite(X, k, rng):
        return KMeansOptions()(X, k, rng).labels

    options = {"k": 3, "rim_mm": 4.0}
    one = habitat.segment(case.pet, case.ct, case.mask, method=rude, **options)
    two = habitat.segment(case.pet, case.ct, case.mask, method=polite, **options)
    np.testing.assert_array_equal(one.labels, two.labels)


def test_what_was_learned_is_in_the_params(case):
    result = habitat.segment(case.pet, case.ct, case.mask, method="otsu")
    pet, ct = result.params["learned"]["rule"]["cuts"]
    labels, (suv, hu) = inside(result)
    assert (labels == 1 + 2 * (suv > pet[0]) + (hu > ct[0])).all()
    result = habitat.segment(case.pet, case.ct, case.mask)
    learned = result.params["learned"]
    labels, values = inside(result)
    Z = np.stack(values, axis=1).astype(float) - learned["scaling"]["shift"]
    Z /= learned["scaling"]["width"]
    centers = np.array(learned["rule"]["centers"])
    nearest = ((Z[:, None] - centers) ** 2).sum(axis=-1).argmin(axis=1)
    np.testing.assert_array_equal(nearest + 1, labels)


def test_smoothed_habitats_are_still_in_order(case):
    result = habitat.segment(case.pet, case.ct, case.mask, k=8, smoothness=3.0)
    assert (np.diff(result.centers[:, 0]) > 0).all()


def test_few_supervoxels_cannot_carry_a_mixture(case):
    method = SupervoxelOptions(30, method="gmm")
    with pytest.raises(ConfigError, match="supervoxels cannot fit a mixture of"):
        habitat.segment(case.pet, case.ct, case.mask, method=method)


def test_a_class_is_not_a_method(case):
    with pytest.raises(ConfigError, match="`method`"):
        habitat.segment(case.pet, case.ct, case.mask, method=KMeansOptions)

"""Texture of all regions at once: values of pyradiomics and of IBSI."""

import csv
import logging
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from habitat.errors import ConfigError, InputError
from habitat.features._texture import CLASSES, discretize, first_order, texture
from habitat.kernels import regions
from tests import naive_regions

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from radiomics import firstorder, glcm, gldm, glrlm, glszm, ngtdm

PYRADIOMICS = {
    "firstorder": firstorder.RadiomicsFirstOrder,
    "glcm": glcm.RadiomicsGLCM,
    "glrlm": glrlm.RadiomicsGLRLM,
    "glszm": glszm.RadiomicsGLSZM,
    "gldm": gldm.RadiomicsGLDM,
    "ngtdm": ngtdm.RadiomicsNGTDM,
}
SPACING = (3.0, 1.0, 0.5)


def boxed(mask):
    return tuple(slice(p.min(), p.max() + 1) for p in np.nonzero(mask))


def picture(array, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(map(float, spacing[::-1])))
    return image


def pyradiomics(values, labels, n, **how):
    """All features of each label, NaN where pyradiomics finds no direction."""
    out = {}
    logger = logging.getLogger("radiomics")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    for r in range(1, n + 1):
        box = boxed(labels == r)
        image = picture(values[box].astype(float))
        mask = picture((labels[box] == r).astype(np.uint8))
        for kind, its in PYRADIOMICS.items():
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = its(image, mask, **how)
                found.enableAllFeatures()
                try:
                    features = found.execute()
                except RuntimeError:  # "Error getting angle count": a voxel alone
                    features = dict.fromkeys(found.enabledFeatures, np.nan)
            for name, value in features.items():
                value = complex(value)  # of a root, from numpy 2.5
                out.setdefault(f"{kind}_{name}", []).append(value.real)
    logger.setLevel(before)
    return {name: np.array(value) for name, value in out.items()}


def habitat(values, labels, n, how, **bins):
    levels, _ = discretize(values, labels, n, **bins)
    out = first_order(values, levels, labels, n, SPACING)
    return out | texture(levels, labels, n, **how)


def independent(levels, labels, r, dims):
    """Whether some direction of a region has independent levels: a matrix of rank 1."""
    inside = np.pad(np.where(labels == r, levels, 0), 1)
    steps = [d for d in np.ndindex(3, 3, 3) if d > (1, 1, 1)]
    for step in [np.subtract(d, 1) for d in steps]:
        if dims == "2.5d" and step[0]:
            continue
        ahead = np.roll(inside, -step, (0, 1, 2))
        both = (inside > 0) & (ahead > 0)
        P = np.zeros((inside.max() + 1,) * 2, int)
        np.add.at(P, (inside[both], ahead[both]), 1)
        P += P.T
        if P.any() and (P * P.sum() == np.outer(P.sum(0), P.sum(0))).all():
            return True
    return False


def even(levels, labels, r):
    """Whether i * p_i of all levels are equal."""
    n = np.bincount(levels[labels == r])
    return len({int(i * n[i]) for i in np.flatnonzero(n)}) == 1


def assert_equal(got, want, values, labels, dims="3d", **bins):
    assert set(got) == set(want)
    levels, _ = discretize(values, labels, int(labels.max()), **bins)
    for name in want:
        absolute = {"glcm_MCC": 1e-7, "glcm_Imc2": 1e-7}.get(name, 1e-9)
        same = np.isclose(got[name], want[name], 1e-6, absolute, equal_nan=True)
        for r in np.flatnonzero(~same) + 1:
            if name in ("glcm_MCC", "glcm_Imc2"):  # the root of a rounding
                assert independent(levels, labels, r, dims), name
            elif name == "ngtdm_Busyness":  # divided by a rounding
                assert even(levels, labels, r)
                assert got[name][r - 1] == 0
            elif name in ("firstorder_Skewness", "firstorder_Kurtosis"):
                assert np.ptp(values[labels == r]) == 0, name
                assert got[name][r - 1] == 0
            else:
                pytest.fail(
                    f"{name} of {r}: {got[name][r - 1]}, not {want[name][r - 1]}"
                )


# --- pyradiomics ----------------------------------------------------------------------


@st.composite
def label_maps(draw, most=12):
    """Image, labels 1..n all there: fragmented, lone voxels, flat, up to the border."""
    shape = draw(st.tuples(*3 * [st.integers(1, most)]))
    n = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.integers(1, n + 1, shape)
    if draw(st.booleans()):  # larger pieces
        labels = 1 + (np.indices(shape).sum(0) * n // sum(shape)) % n
    density = draw(st.sampled_from([0.05, 0.4, 0.9, 1.0]))
    labels[rng.random(shape) > density] = 0
    spread = draw(st.sampled_from([0, 30, 80, 300]))
    values = draw(st.integers(-100, 100)) + spread * rng.standard_normal(shape)
    values = np.rint(values)
    if draw(st.booleans()):
        values[labels == n] = 7  # one region is flat
    present = np.unique(labels[labels > 0])
    assume(present.size)
    return values, np.searchsorted(present, labels) * (labels > 0) + (labels > 0)


HOW = {
    "default": ({}, {}),
    "in slices": ({"dims": "2.5d"}, {"force2D": True}),
    "merged": ({"merge": True}, {"weightingNorm": "no_weighting"}),
}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(label_maps(), st.sampled_from(sorted(HOW)), st.sampled_from([None, 5]))
def test_any_label_map_has_the_values_of_pyradiomics(case, how, bin_count):
    values, labels = case
    n = int(labels.max())
    ours, theirs = HOW[how]
    bins = {"bin_count": bin_count} if bin_count else {"bin_width": 25.0}
    name = {"bin_count": "binCount", "bin_width": "binWidth"}
    want = pyradiomics(
        values, labels, n, **theirs, **{name[k]: v for k, v in bins.items()}
    )
    got = habitat(values, labels, n, ours, **bins)
    assert_equal(got, want, values, labels, ours.get("dims", "3d"), **bins)


@pytest.mark.parametrize("name", ["lung1", "brain1", "breast1"])
@pytest.mark.parametrize("bins", [{"bin_width": 25.0}, {"bin_count": 32}], ids=str)
def test_real_images_have_the_values_of_pyradiomics(name, bins, shared):
    folder = shared / "data" / "pyradiomics_cases"
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}_image.nrrd")))
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}_label.nrrd")))
    box = boxed(mask == 1)
    values, mask = values[box].astype(float), mask[box] == 1
    middle = np.median(values[mask])
    labels = np.where(mask, np.where(values > middle, 2, 1), 0)
    key = "binWidth" if "bin_width" in bins else "binCount"
    want = pyradiomics(values, labels, 2, **{key: next(iter(bins.values()))})
    got = habitat(values, labels, 2, {}, **bins)
    assert_equal(got, want, values, labels, **bins)


def test_shift_is_that_of_pyradiomics():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(-50, 30, (4, 5, 6)), np.ones((4, 5, 6), int)
    want = pyradiomics(values, labels, 1, binWidth=25, voxelArrayShift=1000)
    levels, _ = discretize(values, labels, 1, bin_width=25)
    got = first_order(values, levels, labels, 1, SPACING, shift=1000)
    for name in got:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-6)


# --- IBSI -----------------------------------------------------------------------------

GLCM = """
joint_max MaximumProbability joint_avg JointAverage joint_var SumSquares
joint_entr JointEntropy diff_avg DifferenceAverage diff_var DifferenceVariance
diff_entr DifferenceEntropy sum_avg SumAverage sum_var ClusterTendency
sum_entr SumEntropy energy JointEnergy contrast Contrast
dissimilarity DifferenceAverage inv_diff Id inv_diff_norm Idn inv_diff_mom Idm
inv_diff_mom_norm Idmn inv_var InverseVariance corr Correlation
auto_corr Autocorrelation clust_tend ClusterTendency clust_shade ClusterShade
clust_prom ClusterProminence info_corr1 Imc1 info_corr2 Imc2
"""
GLRLM = """
sre ShortRunEmphasis lre LongRunEmphasis lgre LowGrayLevelRunEmphasis
hgre HighGrayLevelRunEmphasis srlge ShortRunLowGrayLevelEmphasis
srhge ShortRunHighGrayLevelEmphasis lrlge LongRunLowGrayLevelEmphasis
lrhge LongRunHighGrayLevelEmphasis glnu GrayLevelNonUniformity
glnu_norm GrayLevelNonUniformityNormalized rlnu RunLengthNonUniformity
rlnu_norm RunLengthNonUniformityNormalized r_perc RunPercentage
gl_var GrayLevelVariance rl_var RunVariance rl_entr RunEntropy
"""
GLSZM = """
sze SmallAreaEmphasis lze LargeAreaEmphasis lgze LowGrayLevelZoneEmphasis
hgze HighGrayLevelZoneEmphasis szlge SmallAreaLowGrayLevelEmphasis
szhge SmallAreaHighGrayLevelEmphasis lzlge LargeAreaLowGrayLevelEmphasis
lzhge LargeAreaHighGrayLevelEmphasis glnu GrayLevelNonUniformity
glnu_norm GrayLevelNonUniformityNormalized zsnu SizeZoneNonUniformity
zsnu_norm SizeZoneNonUniformityNormalized z_perc ZonePercentage
gl_var GrayLevelVariance zs_var ZoneVariance zs_entr ZoneEntropy
"""
GLDM = """
lde SmallDependenceEmphasis hde LargeDependenceEmphasis lgce LowGrayLevelEmphasis
hgce HighGrayLevelEmphasis ldlge SmallDependenceLowGrayLevelEmphasis
ldhge SmallDependenceHighGrayLevelEmphasis hdlge LargeDependenceLowGrayLevelEmphasis
hdhge LargeDependenceHighGrayLevelEmphasis glnu GrayLevelNonUniformity
glnu_norm GrayLevelNonUniformityNormalized dcnu DependenceNonUniformity
dcnu_norm DependenceNonUniformityNormalized dc_perc DependencePercentage
gl_var GrayLevelVariance dc_var DependenceVariance dc_entr DependenceEntropy
dc_energy DependenceCountEnergy
"""
NGTDM = """
coarseness Coarseness contrast Contrast busyness Busyness complexity Complexity
strength Strength
"""
TAGS = {
    "glcm": ("cm", GLCM),
    "glrlm": ("rlm", GLRLM),
    "glszm": ("szm", GLSZM),
    "gldm": ("ngl", GLDM),
    "ngtdm": ("ngt", NGTDM),
}


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("dims", ["3d", "2.5d", "2d"])
def test_the_digital_phantom_has_the_values_of_ibsi(dims, merge, shared):
    with (shared / "reference" / "ibsi1_phantoms.csv").open() as file:
        table = [r for r in csv.DictReader(file) if r["data_set"] == "digital_phantom"]
    want = {row["tag"]: row for row in table}
    folder = shared / "data" / "ibsi1" / "digital_phantom" / "nifti"
    image = sitk.ReadImage(str(folder / "image" / "phantom.nii.gz"))
    mask = sitk.ReadImage(str(folder / "mask" / "mask.nii.gz"))
    labels = (sitk.GetArrayFromImage(mask) > 0).astype(np.uint8)
    levels = sitk.GetArrayFromImage(image).astype(int) * labels
    got = texture(levels, labels, 1, dims=dims, merge=merge, ibsi=True)
    compared = 0
    for kind, (prefix, names) in TAGS.items():
        tags, ours = names.split()[::2], names.split()[1::2]
        tail = {"3d": "_3D", "2.5d": "_2_5D", "2d": "_2D"}[dims]
        if kind in ("glcm", "glrlm"):
            tail += "_comb" if merge else "_avg"
        for tag, name in zip(tags, ours, strict=True):
            row = want[f"{prefix}_{tag}{tail}"]
            value, published = got[f"{kind}_{name}"][0], float(row["reference_value"])
            rounded = float(f"{value:.3g}")  # as published
            assert abs(rounded - published) <= float(row["tolerance"]), name
            compared += 1
    assert compared == 79


def test_ibsi_kurtosis_is_in_excess():
    values = np.random.default_rng(0).normal(size=(3, 4, 5))
    labels, spacing = np.ones((3, 4, 5), int), (1, 1, 1)
    plain = first_order(values, labels, labels, 1, spacing)
    ibsi = first_order(values, labels, labels, 1, spacing, ibsi=True)
    key = "firstorder_Kurtosis"
    assert ibsi[key] == plain[key] - 3
    assert all(ibsi[k] == plain[k] for k in plain if k != key)


# --- what does not change -------------------------------------------------------------


def generated(shape=(9, 10, 11), n=3, seed=0):
    rng = np.random.default_rng(seed)
    values = np.rint(rng.normal(0, 60, shape))
    return values, rng.integers(0, n + 1, shape)


@pytest.mark.parametrize("ibsi", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1, ::-1],
        lambda a: np.rot90(a, 1, (1, 2)),
        lambda a: a.transpose(1, 2, 0),
        lambda a: np.pad(a, ((2, 0), (0, 5), (3, 1))),
    ],
    ids=["flipped", "turned about z", "turned by 90", "other axes", "padded"],
)
def test_flips_turns_and_padding_change_nothing(change, ibsi):
    values, labels = generated()
    want = habitat(values, labels, 3, {"ibsi": ibsi}, bin_width=25)
    got = habitat(change(values), change(labels), 3, {"ibsi": ibsi}, bin_width=25)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("dims", ["3d", "2.5d", "2d"])
def test_labels_are_independent_and_an_absent_one_has_no_values(dims):
    values, labels = generated()
    want = habitat(values, labels, 3, {"dims": dims}, bin_width=25)
    other = np.array([0, 5, 2, 4])[labels]
    got = habitat(values, other, 6, {"dims": dims}, bin_width=25)
    for name in want:
        np.testing.assert_allclose(
            got[name][[4, 1, 3]], want[name], 1e-12, err_msg=name
        )
        assert np.isnan(got[name][[0, 2, 5]]).all()


def test_nothing_is_asked_of_an_empty_map():
    labels = np.zeros((3, 4, 5), int)
    got = habitat(np.zeros(labels.shape), labels, 2, {}, bin_width=1)
    assert all(np.isnan(v).all() and v.shape == (2,) for v in got.values())


def test_only_the_classes_asked_for_are_there():
    values, labels = generated()
    levels, _ = discretize(values, labels, 3, bin_width=25)
    every = texture(levels, labels, 3)
    for kind in CLASSES:
        got = texture(levels, labels, 3, classes=[kind])
        assert list(got) == [k for k in every if k.startswith(kind)]
        assert all((got[k] == every[k]).all() for k in got)


def test_slices_without_a_pair_do_not_enter_the_means():
    """Slices of one voxel, and of two that are apart."""
    values, labels = generated(n=1)
    more = np.zeros((3, *labels.shape[1:]), int)
    more[0, 2, 2] = more[2, 4, 1] = more[2, 4, 7] = 1
    labels, values = np.vstack([labels, more]), np.vstack([values, values[:3]])
    levels, _ = discretize(values, labels, 1, bin_width=25)
    with_them, without = (
        texture(levels[:z], labels[:z], 1, dims="2d", classes=["glcm"], ibsi=True)
        for z in (12, 9)
    )
    assert with_them == without


def test_parts_of_many_regions_equal_the_whole(monkeypatch):
    values, labels = generated()
    levels, _ = discretize(values, labels, 3, bin_width=5)
    want = texture(levels, labels, 3, dims="2d")
    monkeypatch.setattr("habitat.features._texture._BLOCK", 50_000)
    monkeypatch.setattr("habitat.features._matrices._BLOCK", 5_000)
    got = texture(levels, labels, 3, dims="2d")
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-12, err_msg=name)


def test_moments_survive_levels_far_from_0():
    rng = np.random.default_rng(0)
    low = rng.integers(1, 4, (6, 7, 8))
    labels = np.ones(low.shape, int)
    near, far = (texture(low + up, labels, 1) for up in (0, 4000))
    for name in ("ClusterShade", "ClusterProminence", "SumSquares", "Correlation"):
        np.testing.assert_allclose(far[f"glcm_{name}"], near[f"glcm_{name}"], rtol=1e-8)
    for name in ("glrlm_GrayLevelVariance", "gldm_GrayLevelVariance"):
        np.testing.assert_allclose(far[name], near[name], rtol=1e-8)


# --- gray levels ----------------------------------------------------------------------


def test_a_fixed_lower_edge_is_that_of_ibsi():
    values = np.array([-10.0, -0.1, 0.0, 24.9, 25.0, 70.0]).reshape(1, 2, 3)
    labels = np.array([1, 1, 1, 2, 2, 2]).reshape(1, 2, 3)
    levels, bins = discretize(values, labels, 3, bin_width=25, bin_from=-10)
    np.testing.assert_array_equal(levels.ravel(), [1, 1, 1, 2, 2, 4])
    np.testing.assert_array_equal(bins, [1, 3, 0])
    with pytest.raises(InputError, match="2 of 3 values are below 0, the lowest is"):
        discretize(values, labels, 2, bin_width=25, bin_from=0)


def test_levels_that_cannot_be_used_are_told():
    values, labels = generated()
    with pytest.raises(ConfigError, match="at most 4096 can be used"):
        discretize(values, labels, 3, bin_width=0.01)
    with pytest.raises(ConfigError, match="one of them must be given"):
        discretize(values, labels, 3)


# --- kernel and twin ------------------------------------------------------------------


def counted(function, levels, labels, n, steps):
    most = int(levels.max()) + 1
    inside, level = np.pad(labels, 1), np.pad(levels, 1)
    rows = np.where(inside > 0, (inside - 1) * most + level, -1)
    strides = np.array(rows.strides) // rows.itemsize
    steps, longest = np.array(steps) @ strides, max(rows.shape)
    out = [np.zeros((n, most, len(steps), last), int) for last in (most, longest)]
    out += [np.zeros((n, most, 2 * len(steps) + 1), int) for _ in range(3)]
    out.append(np.zeros(rows.size, int))
    level = np.tile(np.arange(most), n)
    function(rows.ravel(), np.flatnonzero(inside), level, steps, *out)
    return out


@settings(max_examples=25)
@given(
    arrays.arrays(
        np.int64, st.tuples(*3 * [st.integers(1, 6)]), elements=st.integers(0, 3)
    ),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 1000),
)
def test_kernel_equals_twin(labels, most, plane, seed):
    levels = np.random.default_rng(seed).integers(1, most + 1, labels.shape)
    steps = [tuple(np.subtract(d, 1)) for d in np.ndindex(3, 3, 3) if d > (1, 1, 1)]
    steps = [s for s in steps if not (plane and s[0])]
    got = counted(regions.count, levels, labels, 3, steps)
    want = counted(naive_regions.count, levels, labels, 3, steps)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)

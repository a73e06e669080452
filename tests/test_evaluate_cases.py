"""Features of cases for each fold: habitats of its training cases, and surrogates."""

import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

import habitat
from habitat.cohort._plan import make_plan
from habitat.cohort._work import Done, Failure
from habitat.errors import CohortError, ConfigError, HabitatError, HabitatWarning
from habitat.evaluation import _cases
from habitat.evaluation._cases import CaseSource, Wanted, describe_case
from habitat.features import wide

FAMILIES = ("composition", "intensity", "radiomics", "shape", "spatial", "diversity")
FAMILIES += ("pet",)
TRAINS = [[0, 1, 2], [1, 2, 3], [2, 1, 0]]


class Here:
    """Runs tasks in this process: workers take seconds to start."""

    workers = 1

    def __init__(self, jobs=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, tasks):
        for task in tasks:
            with quiet():
                try:
                    yield Done(task.key, task.function(*task.args, None))
                except HabitatError as error:
                    yield Done(task.key, failure=Failure.of(error))


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(_cases, "LocalRunner", Here)


@pytest.fixture(scope="module")
def cases():
    """Four generated patients."""
    return [make_case(seed) for seed in range(4)]


def make_case(seed, **more):
    p = habitat.phantom(radius_mm=10 + seed, margin_mm=15, random_state=seed)
    more = {"group": f"g{seed}", "site": "A", "clinical": {"age": 60.0 + seed}} | more
    return habitat.Case(
        f"p{seed}", {"pet": p.pet, "ct": p.ct}, p.mask, outcome={"tps": 5.0}, **more
    )


def source(cases, model=None, families=FAMILIES, **options):
    model = model or habitat.HabitatModel(k=3)
    return CaseSource(cases, model, {"families": families}, jobs=2, **options)


@pytest.fixture(scope="module")
def prepared(cases):
    made = source(cases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cases, "LocalRunner", Here)
        made.prepare(TRAINS, draws=2)
    return made


@contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)
        yield


def plainly(case, model):
    """The same case by the public functions."""
    with quiet():
        result = model.segment(case)
        table = habitat.extract(
            result, case.images, families=FAMILIES, case_id=case.case_id
        )
    return wide(table)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_is_what_the_training_cases_alone_give(prepared, cases, fold):
    with quiet():
        model = habitat.HabitatModel(k=3).fit([cases[i] for i in TRAINS[fold]])
    found = prepared.fold(fold)
    assert list(found["case_id"]) == [case.case_id for case in cases]
    for i in (0, 3):
        expected = plainly(cases[i], model).drop(columns="case_id")
        pd.testing.assert_series_equal(
            found.loc[i, expected.columns].astype(float),
            expected.loc[0],
            check_names=False,
            rtol=1e-12,
        )


@pytest.mark.slow
def test_workers_do_the_same_and_columns_are_those_of_a_batch(
    prepared, cases, tmp_path
):
    with quiet():
        model = habitat.HabitatModel(k=3).fit(cases[:3])
        done = habitat.batch(
            cases, tmp_path / "out", model=model, families=FAMILIES, jobs=2
        )
    found = prepared.fold(0)
    pd.testing.assert_frame_equal(found, done.wide, check_dtype=False, rtol=1e-12)
    made = source(cases)
    made.prepare(TRAINS[:2], draws=1)
    pd.testing.assert_frame_equal(made.fold(1), prepared.fold(1))
    pd.testing.assert_frame_equal(made.surrogate(1, 0), prepared.surrogate(1, 0))


def test_folds_with_the_same_training_cases_share_a_model(prepared):
    pd.testing.assert_frame_equal(prepared.fold(0), prepared.fold(2))
    one, other = prepared.fold(0), prepared.fold(1)
    assert not np.allclose(one["h1_volume_ml"], other["h1_volume_ml"])


def test_surrogates_differ_in_the_habitats_only(prepared):
    real, made = prepared.fold(0), prepared.surrogate(0, 0)
    assert list(real.columns) == list(made.columns)
    whole = [c for c in real if c.startswith(("tumor_SUVbw_original", "tumor_HU_orig"))]
    about = ["case_id", "status", "group", "site", "clin:age", "out:tps"]
    same = [*about, "tumor_volume_ml", "tumor_shape_MeshVolume", *whole]
    same += ["tumor_SUVbw_suv_max", "tumor_SUVbw_mean"]
    pd.testing.assert_frame_equal(real[same], made[same])
    apart = ["h1_HU_mean", "h2_original_glcm_Contrast", "tumor_SUVbw_contrast_1_3"]
    apart = [c for c in apart if c in real] + ["tumor_ith_score"]
    for name in apart:
        assert not np.allclose(real[name], made[name])


def test_surrogates_have_the_mean_shares_of_the_training_cases(prepared):
    real, made = prepared.fold(1), prepared.surrogate(1, 0)
    for h in (1, 2, 3):
        wanted = real.loc[TRAINS[1], f"h{h}_fraction"].mean()
        voxel = real["h1_fraction"] / (real["h1_volume_ml"] / 0.0722343)
        assert ((made[f"h{h}_fraction"] - wanted).abs() <= voxel).all()


def test_surrogates_know_nothing_of_the_images(prepared):
    """Habitats of a model rise in uptake, those of chance rise and fall."""

    def rise(table):
        return table["h3_SUVbw_mean"] - table["h1_SUVbw_mean"]

    assert rise(prepared.fold(0)).min() > 2
    made = [rise(prepared.surrogate(i, d)) for i in (0, 1, 2) for d in (0, 1)]
    values = np.concatenate(made)
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))


def test_each_draw_fold_and_seed_is_another_map(prepared, cases, here):
    again = source(cases, families=("composition", "spatial"), random_state=1)
    again.prepare(TRAINS[:1], draws=1)
    name = "h1_centroid_offset"
    draws = [prepared.surrogate(*p)[name] for p in ((0, 0), (0, 1), (2, 0))]
    draws.append(again.surrogate(0, 0)[name])
    for i, one in enumerate(draws):
        for other in draws[:i]:
            assert not np.isclose(one, other).any()


def test_a_second_run_reads_the_cache(cases, tmp_path, here):
    few = {"families": ("composition", "shape"), "cache": tmp_path / "kept"}
    first = source(cases, **few)
    first.prepare(TRAINS, draws=1)
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 8  # four cases, two models
    before = [file.stat().st_mtime_ns for file in files]
    again = source(cases, **few)
    again.prepare(TRAINS, draws=1)
    assert [file.stat().st_mtime_ns for file in files] == before
    for name in ("fold", "surrogate"):
        args = (1,) if name == "fold" else (1, 0)
        one, other = (getattr(s, name)(*args) for s in (first, again))
        pd.testing.assert_frame_equal(one, other)
    files[0].write_bytes(b"cut off")
    again.prepare(TRAINS, draws=1)
    pd.testing.assert_frame_equal(first.fold(0), again.fold(0))
    assert len(list((tmp_path / "kept").iterdir())) == 8


def test_another_mask_is_not_taken_from_the_cache(cases, tmp_path, here):
    few = {"families": ("composition",), "cache": tmp_path}
    source(cases[:2], **few).prepare([[0]], draws=0)
    case = cases[1]
    half = case.mask.array.copy()
    z = np.flatnonzero(half.any((1, 2)))
    half[z[: len(z) // 2]] = 0
    other = habitat.Case("p1", case.images, case.mask.replace(half), group="g1")
    made = source([cases[0], other], **few)
    made.prepare([[0]], draws=0)
    old = source(cases[:2], families=("composition",))
    old.prepare([[0]])
    ratio = made.fold(0)["tumor_volume_ml"] / old.fold(0)["tumor_volume_ml"]
    assert ratio[0] == 1
    assert ratio[1] < 0.7


def test_columns_follow_the_k_of_the_fold(cases, here):
    """With k="auto" folds may have more and fewer habitats."""
    one, other = (habitat.HabitatModel(k=k).fit(cases[:2]) for k in (4, 2))
    few = make_plan(["pet", "ct"], None, 4, ("composition", "radiomics"), None, None)
    wanted = [
        Wanted(one, np.full(4, 0.25), ((0, 0),)),
        Wanted(other, np.full(2, 0.5), ((1, 0),)),
    ]
    with quiet():
        both = describe_case(cases[0], wanted, few, 0, None, None)
        alone = describe_case(cases[0], wanted[1:], few, 0, None, None)
    assert any(key[0] == "h4" for key in both[0].keys)
    assert set(both[1].keys) == set(alone[0].keys)
    assert not any(key[0] in ("h3", "h4") for key in both[1].keys)


def test_rings_are_made_once_and_stay(cases, here):
    made = source(cases[:2], families=("composition", "radiomics", "rings"))
    made.prepare([[0]], draws=1)
    real, surrogate = made.fold(0), made.surrogate(0, 0)
    assert list(real.columns) == list(surrogate.columns)
    rings = [c for c in real if c.startswith("ring_")]
    assert any("glcm" in c for c in rings)
    assert "ring_0_3_HU_mean" in rings
    pd.testing.assert_frame_equal(real[rings], surrogate[rings])


def test_all_cases_that_cannot_be_used_are_named(cases, tmp_path, here):
    lost = [
        habitat.Case(f"lost-{i}", {"pet": tmp_path / "a.nii", "ct": tmp_path / "b.nii"},
                     tmp_path / "m.nii") for i in range(2)
    ]  # fmt: skip
    with pytest.raises(HabitatError, match=r"(?s)lost-0.*lost-1"):
        source([*cases[:2], *lost]).prepare([[0, 1]])


def test_a_case_with_other_channels_is_named(cases, here):
    odd = habitat.Case("odd", {"ct": cases[0].images["ct"]}, cases[0].mask)
    with pytest.raises(CohortError, match="odd"):
        source([*cases[:3], odd]).prepare([[0, 1]])


def test_wrong_arguments_are_found_before_any_case_is_read(cases):
    with pytest.raises(ConfigError, match="families"):
        source(cases, families=("texture",))
    with pytest.raises(ConfigError, match="min_voxel"):
        CaseSource(cases, habitat.HabitatModel(k=3), {"min_voxel": 3})
    with pytest.raises(ConfigError, match="`k`"):
        source(cases, habitat.HabitatModel(k=1))
    with pytest.raises(CohortError, match="names"):
        source([cases[0], cases[0]])


def test_the_model_given_is_left_as_it_is(cases, here):
    model = habitat.HabitatModel(k=2)
    made = source(cases[:2], model, families=("composition",))
    made.prepare([[0, 1]])
    assert not hasattr(model, "k_")


def test_what_must_be_known_is_told(cases, here):
    mask = cases[2].mask
    half = [round(5 / size) for size in mask.geometry.spacing]
    inside = np.zeros_like(mask.array)
    middle = zip(mask.array.shape, half, strict=True)
    inside[tuple(slice(n // 2 - h, n // 2 + h) for n, h in middle)] = 1
    small = habitat.Case("small", cases[2].images, mask.replace(inside))
    made = source([*cases[:2], small], families=("composition",))
    made.prepare([[0, 2]])
    assert any("small" in note for note in made.notes)

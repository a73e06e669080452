"""HabitatModel: one definition of habitats for a cohort, and what it must not do."""

import csv
import functools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import habitat
from habitat import Case, HabitatModel
from habitat.agreement import adjusted_rand
from habitat.clustering import (
    GMMOptions,
    KMeansOptions,
    Nearest,
    OtsuOptions,
    Potts,
    SupervoxelOptions,
    best_shift,
    better_rule,
    shifted,
    step_of,
    sums_of,
)
from habitat.errors import CohortError, ConfigError, ModelError
from habitat.population._match import matched
from tests.make_data_samples import FOLDER

METHODS = (
    "kmeans",
    "gmm",
    "otsu",
    "supervoxel",
    SupervoxelOptions(60, method="gmm"),
)


@functools.cache
def cohort():
    """Cases of data_samples and their planted habitats on the CT grid."""
    cases, truth = [], []
    with (FOLDER / "cohort.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            images = {c: FOLDER / row[c] for c in ("pet", "ct")}
            name = row["case_id"]
            cases.append(Case(name, images, FOLDER / row["mask"], group=row["group"]))
            path = FOLDER / name / "truth.nii.gz"
            truth.append(habitat.read(path, unit="habitat"))
    return cases, truth


@pytest.fixture(scope="module")
def model():
    return HabitatModel(4).fit(cohort()[0])


def pooled_ari(results, truths):
    """Agreement of habitat numbers with planted ones, all patients in one table."""
    found, planted = [], []
    for result, truth in zip(results, truths, strict=True):
        own = result.labels > 0
        found.append(result.labels[own])
        planted.append(np.rint(habitat.resample(truth, result.geometry).array[own]))
    return adjusted_rand(np.concatenate(found), np.concatenate(planted))


@pytest.fixture(scope="module")
def shifted_model():
    return HabitatModel(4, scaling="log", patient_shift=True).fit(cohort()[0])


def test_numbers_mean_the_same_planted_tissue_in_every_patient(shifted_model, model):
    cases, truth = cohort()
    found = pooled_ari(shifted_model.transform(cases), truth)
    absolute = pooled_ari(model.transform(cases), truth)
    print(f"pooled ARI: shifted {found:.3f}, absolute values {absolute:.3f}")
    assert found >= 0.7  # the oracles of each patient alone have 0.74 in the mean
    assert absolute < found - 0.1  # patients differ by 15 % in SUV, by 8 HU


def test_a_new_patient_is_segmented_without_refitting():
    cases, truth = cohort()
    model = HabitatModel(4, scaling="log", patient_shift=True).fit(cases[:9])
    before = model.sha256
    assert pooled_ari(model.transform(cases[9:]), truth[9:]) >= 0.65
    assert model.sha256 == before


def test_align_undoes_any_numbering(model):
    case = cohort()[0][3]
    result = habitat.segment(*case.images.values(), case.mask)
    number = np.array([2, 0, 3, 1])
    labels = np.append(0, number + 1).astype(np.uint8)[result.labels]
    centers = np.empty_like(result.centers)
    centers[number] = result.centers
    mixed = replace(result, labels=labels, centers=centers)
    one, two = (model.align(r, max_distance=9.0) for r in (result, mixed))
    assert one.labels.tobytes() == two.labels.tobytes()
    np.testing.assert_array_equal(one.centers, two.centers)
    own = result.labels > 0
    assert adjusted_rand(one.labels[own], result.labels[own]) == 1


def test_a_habitat_that_the_model_does_not_know_is_unmatched(model):
    p = habitat.phantom()
    hot = p.pet.replace(p.pet.array * 3)
    result = habitat.segment(hot, p.ct, p.mask)
    with pytest.warns(habitat.errors.HabitatWarning, match="unmatched"):
        aligned = model.align(result)
    assert aligned.k > 4
    assert any("unmatched" in name for name in aligned.names)
    assert np.isnan(aligned.centers).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_file_is_the_same_for_any_order_of_cases(method, tmp_path):
    cases = cohort()[0][:5]
    HabitatModel(4, method=method).fit(cases).save(tmp_path / "a")
    HabitatModel(4, method=method).fit(cases[::-1]).save(tmp_path / "b")
    for name in ("model.json", "arrays.npz"):
        a, b = ((tmp_path / f / name).read_bytes() for f in "ab")
        assert a == b


@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_model_does_the_same(method, tmp_path):
    cases = cohort()[0][:4]
    model = HabitatModel(4, method=method, scaling="zscore").fit(cases[:3])
    loaded = HabitatModel.load(model.save(tmp_path / "m"))
    assert loaded.sha256 == model.sha256
    assert loaded.get_params() == model.get_params()
    one, two = model.segment(cases[3]), loaded.segment(cases[3])
    assert one.labels.tobytes() == two.labels.tobytes()
    assert one.names == two.names
    if method == "gmm":
        np.testing.assert_array_equal(one.posterior, two.posterior)


@pytest.mark.parametrize(
    "scaling", ["zscore", "log", "robust", "window", "rank", "none"]
)
def test_every_scaling_is_saved(scaling, tmp_path):
    cases = cohort()[0][:2]
    model = HabitatModel(2, scaling=scaling).fit(cases)
    loaded = HabitatModel.load(model.save(tmp_path / "m"))
    X = np.array([[1.0, -20.0], [7.5, 80.0]])
    np.testing.assert_array_equal(
        loaded.definition_.scaling(X), model.definition_.scaling(X)
    )


def test_options_objects_are_saved(tmp_path):
    method = OtsuOptions(thresholds={"pet": 4.0})
    model = HabitatModel(4, method=method, smoothness=0).fit(cohort()[0][:2])
    assert model.definition_.rule.cuts[0].tolist() == [4.0]
    assert HabitatModel.load(model.save(tmp_path / "m")).method == method
    model = HabitatModel(3, smoothness=Potts(0.5, neighbors=26)).fit(cohort()[0][:2])
    loaded = HabitatModel.load(model.save(tmp_path / "n"))
    assert loaded.smoothness == Potts(0.5, neighbors=26)


def test_streamed_kmeans_is_the_weighted_optimum():
    """Against scikit-learn with weights 1/n_i on all voxels, from the same centers."""
    from sklearn.cluster import KMeans

    cases = cohort()[0][:4]
    model = HabitatModel(4, scaling="none").fit(cases)
    X, w = [], []
    for case in cases:
        result = model.segment(case)
        own = result.labels[result.box] > 0
        values = [image.array[own].astype(float) for image in result.images.values()]
        X.append(np.stack(values, axis=1))
        w.append(np.full(len(X[-1]), 1 / len(X[-1])))
    X, w = np.concatenate(X), np.concatenate(w)
    start = model.definition_.rule.centers
    oracle = KMeans(4, init=start, n_init=1, tol=0.0).fit(X, sample_weight=w)
    np.testing.assert_allclose(oracle.cluster_centers_, start, rtol=1e-6)
    assert math.isclose(model.objective_, oracle.inertia_ / 4, rel_tol=1e-9)


def test_a_shift_is_found_and_taken_out():
    rng = np.random.default_rng(0)
    rule = Nearest(np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]), 1.0)
    X = rule.centers[rng.integers(0, 3, 900)] + 0.3 * rng.standard_normal((900, 2))
    found = best_shift(X + np.array([0.7, -0.5]), rule)
    np.testing.assert_allclose(found, [0.7, -0.5], atol=0.05)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 1000), st.booleans())
def test_each_iteration_over_cases_is_a_better_fit(seed, mixture):
    """Shifts included: K-means by its loss, mixtures by their likelihood (reg=0)."""
    rng = np.random.default_rng(seed)
    means = 3 * rng.standard_normal((3, 2))
    cases = [
        means[rng.integers(0, 3, n)] + rng.standard_normal((n, 2)) + rng.normal(size=2)
        for n in (150, 60, 240)
    ]
    pooled = np.concatenate(cases)
    options = GMMOptions(reg=0.0) if mixture else KMeansOptions()
    rule = options(pooled, 3, rng).rule
    shifts, fits = np.zeros((3, 2)), []
    for _ in range(12):
        parts = [sums_of(X - b, rule) for X, b in zip(cases, shifts, strict=True)]
        fits.append(sum(part.log_likelihood for part in parts))
        steps = [step_of(part, rule) for part in parts]
        shifts = shifts + steps
        moved = [shifted(p, b) for p, b in zip(parts, steps, strict=True)]
        rule = better_rule(rule, moved[0] + moved[1] + moved[2], options)
    assert (np.diff(fits) >= -1e-9 * np.abs(fits[0])).all()


def test_moments_of_shifted_rows_are_those_of_the_shifted_rows():
    rng = np.random.default_rng(1)
    X, step = rng.normal(size=(200, 2)), np.array([0.3, -0.2])
    rule = GMMOptions()(X, 1, rng).rule  # one component: responsibilities stay
    one, two = shifted(sums_of(X, rule), step), sums_of(X - step, rule)
    np.testing.assert_allclose(one.shift, two.shift, atol=1e-12)
    np.testing.assert_allclose(one.square, two.square, atol=1e-12)


def test_a_shift_makes_a_model_blind_to_the_scanner(shifted_model):
    case = cohort()[0][0]
    pet = habitat.read(case.images["pet"], unit="SUVbw")
    louder = pet.replace((1 + pet.array) * np.float32(1.2) - 1)  # log(1 + SUV) + .18
    images = {"pet": louder, "ct": case.images["ct"]}
    one = shifted_model.segment(case)
    two = shifted_model.segment(Case("b", images, case.mask))
    same = (one.labels == two.labels)[one.labels > 0].mean()
    assert same > 0.99


# --- scikit-learn ---------------------------------------------------------------------


def test_it_is_a_scikit_learn_estimator(model):
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "k_")
    with pytest.raises(Exception, match="not fitted"):
        fresh.segment(cohort()[0][0])
    assert "HabitatModel(k=3" in repr(HabitatModel(3, method="gmm"))


def test_a_pipeline_learns_it_anew_in_each_fold():
    cases = cohort()[0][:4]
    shares = FunctionTransformer(lambda rs: np.array([r.table["fraction"] for r in rs]))
    pipeline = make_pipeline(HabitatModel(3), shares)
    learned = []
    for train, test in KFold(2).split(cases):
        pipeline.fit([cases[i] for i in train])
        assert pipeline.transform([cases[i] for i in test]).shape == (2, 3)
        learned.append(pipeline[0].centers_)
    assert not np.allclose(*learned)


def test_k_is_chosen_on_the_training_patients():
    with pytest.warns(habitat.errors.HabitatWarning, match="found one habitat"):
        model = HabitatModel("auto").fit(cohort()[0][:6])  # patients differ too much
    assert model.k_ == len(model.centers_)
    assert model.k == "auto"


# --- what is refused ------------------------------------------------------------------


def test_segment_with_a_model_uses_the_model(model):
    case = cohort()[0][0]
    direct = model.segment(case)
    other = habitat.segment(*case.images.values(), case.mask, model=model)
    assert direct.labels.tobytes() == other.labels.tobytes()
    assert other.params["arguments"]["model"] == model.sha256
    assert other.names[0].startswith("H1 PETlow-CTlow SUV")
    assert len({name.split(" SUV")[0] for name in other.names}) == 4


def test_a_foreign_habitat_does_not_push_the_others_away():
    own, goal = np.array([[4.0], [12.0]]), np.array([[0.0], [4.0]])
    assert matched(own, goal, 2.0).tolist() == [1, -1]
    assert matched(own, goal, np.inf).tolist() == [0, 1]


def test_empty_habitats_are_not_unmatched_ones(model):
    case = cohort()[0][0]
    cuts = OtsuOptions(thresholds={"ct": 2000.0})
    own = habitat.segment(*case.images.values(), case.mask, method=cuts)
    assert np.isnan(own.centers).any(axis=1).sum() == 2
    assert model.align(own, max_distance=9.0).k == 4


def test_arguments_of_another_kind_are_named(model):
    case = cohort()[0][0]
    images = (*case.images.values(), case.mask)
    with pytest.raises(ConfigError, match=r"HabitatModel\.load"):
        habitat.segment(*images, model="folder")
    with pytest.raises(ConfigError, match="must be a HabitatResult, got Case"):
        model.align(case)
    with pytest.raises(ConfigError, match="must be a Case, got str"):
        model.segment("folder")
    with pytest.raises(habitat.errors.InputError, match="is a Case, not a result"):
        habitat.choose_k(case)
    lost = Case("lost", {"pet": "no.nii", "ct": "no.nii"}, "no.nii")
    with pytest.raises(habitat.errors.HabitatError, match="case lost"):
        model.transform([lost])


def test_options_that_a_model_would_ignore_are_refused(model):
    case = cohort()[0][0]
    with pytest.raises(ConfigError) as error:
        habitat.segment(
            *case.images.values(), case.mask, k=3, method="gmm", model=model
        )
    assert "`k`: 3 has no effect" in str(error.value)
    assert "`method`" in str(error.value)


def test_other_channels_are_refused(model):
    case = cohort()[0][0]
    with pytest.raises(ModelError, match="the model"):
        model.segment(Case("a", {"HU": case.images["ct"]}, case.mask))


def test_cases_are_checked_all_at_once():
    a, b = cohort()[0][:2]
    missing = Case("missing", {"pet": "no.nii.gz", "ct": a.images["ct"]}, a.mask)
    one = Case(b.case_id, {"HU": b.images["ct"]}, b.mask)
    with pytest.raises(CohortError) as error:
        HabitatModel(3).fit([a, b, one, missing])
    text = str(error.value)
    assert "case missing" in text
    assert "occur more than once" in text
    assert "different channels" in text
    for wrong in ([], [1], "cases"):
        with pytest.raises(CohortError, match=r"list of habitat\.Case"):
            HabitatModel(3).fit(wrong)


def test_a_method_without_a_rule_cannot_define_a_cohort():
    def halves(X, k, rng):
        return (X[:, 0] > 0).astype(int)

    with pytest.raises(ConfigError, match="rule"):
        HabitatModel(2, method=halves).fit(cohort()[0][:2])


def test_a_tiny_case_is_said_to_weigh_as_much_as_the_others():
    case = cohort()[0][0]
    mask = habitat.read_mask(case.mask)
    z, y, x = np.argwhere(mask.array).mean(axis=0).astype(int)
    few = np.zeros(mask.array.shape, bool)
    few[z - 1 : z + 2, y - 5 : y + 6, x - 5 : x + 6] = True
    tiny = Case("tiny", case.images, mask.replace(few))
    with pytest.warns(habitat.errors.HabitatWarning) as seen:
        HabitatModel(2).fit([*cohort()[0][:2], tiny])
    assert any("case tiny has" in str(w.message) for w in seen)


def test_code_of_ones_own_is_not_saved(tmp_path):
    def own(X, k, rng):
        return KMeansOptions()(X, k, rng)

    model = HabitatModel(2, method=own).fit(cohort()[0][:2])
    assert model.segment(cohort()[0][0]).k == 2
    with pytest.raises(ModelError, match="code of your own"):
        model.save(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_contradictory_options_are_refused():
    cases = cohort()[0][:2]
    for options, match in (
        ({"method": "otsu", "patient_shift": True}, "patient_shift"),
        ({"method": "otsu", "k": 3}, "gives 4"),
        ({"method": "supervoxel", "rim_mm": 2.0}, "rim_mm"),
        ({"method": "otsu", "smoothness": 1.0}, "smoothness"),
        ({"method": "otsu", "scaling": "rank"}, "scaling"),
        ({"patient_shift": 1}, "True or False"),
    ):
        with pytest.raises(ConfigError, match=match):
            HabitatModel(**{"k": 4, **options}).fit(cases)


def test_a_changed_model_file_is_not_loaded(model, tmp_path):
    folder = model.save(tmp_path / "m")
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"k": 4', '"k": 5'))
    with pytest.raises(ModelError, match="changed after saving"):
        HabitatModel.load(folder)
    (folder / "model.json").write_text(text.replace("model/1", "model/2"))
    with pytest.raises(ModelError, match="this version reads"):
        HabitatModel.load(folder)
    (folder / "model.json").write_text(text)
    (folder / "arrays.npz").write_bytes(b"no")
    with pytest.raises(ModelError, match=r"arrays\.npz"):
        HabitatModel.load(folder)
    with pytest.raises(ModelError, match="is not a saved model"):
        HabitatModel.load(tmp_path)


def test_numbers_that_are_no_numbers_are_not_loaded(model, tmp_path):
    broken = clone(model)
    for name, value in vars(model).items():
        if name.endswith("_"):
            setattr(broken, name, value)
    broken.medians_ = np.array([np.nan, 1.0])
    with pytest.raises(ModelError, match="medians: not finite"):
        HabitatModel.load(broken.save(tmp_path / "m"))


def test_gmm_population_gives_posteriors():
    cases = cohort()[0][:3]
    model = HabitatModel(3, method=GMMOptions(covariance="tied")).fit(cases)
    result = model.segment(cases[0])
    own = result.labels[result.box] > 0
    np.testing.assert_allclose(result.posterior[:, own].sum(axis=0), 1, atol=1e-6)
    assert (
        result.posterior[:, own].argmax(0) + 1 == result.labels[result.box][own]
    ).all()
    assert result.uncertainty.min() >= 0
    assert result.uncertainty.max() <= 1 + 1e-6


def test_the_file_is_plain_json(model, tmp_path):
    data = json.loads((model.save(tmp_path / "m") / "model.json").read_text())
    assert data["format"] == "habitat.model/1"
    assert data["channels"] == ["SUVbw", "HU"]
    assert "phantom-01" not in json.dumps(data)  # no case is named


# --- what a review found --------------------------------------------------------------


def test_numbers_of_numpy_are_plain_in_the_file(tmp_path):
    options = {
        "random_state": np.int64(3),
        "smoothness": np.float32(0.5),
        "method": KMeansOptions(n_init=np.int64(5)),
    }
    model = HabitatModel(np.int64(4), **options).fit(cohort()[0][:2])
    loaded = HabitatModel.load(model.save(tmp_path / "m"))
    assert loaded.segment(cohort()[0][0]).k == 4
    assert type(loaded.k) is int


def test_choosing_k_needs_patients():
    with pytest.raises(ConfigError, match="at least 4 patients, got 1"):
        HabitatModel("auto").fit(cohort()[0][:1])


def test_what_was_weighed_is_kept(tmp_path):
    with pytest.warns(habitat.errors.HabitatWarning, match="found one habitat"):
        model = HabitatModel("auto").fit(cohort()[0][:4])
    loaded = HabitatModel.load(model.save(tmp_path / "m"))
    assert loaded.choice_ == model.choice_
    assert loaded.choice_["k"] == model.k_


def test_align_to_thresholds_weighs_pet_and_ct_alike():
    cases = cohort()[0][:4]
    model = HabitatModel(4, method="otsu").fit(cases)
    own = habitat.segment(*cases[0].images.values(), cases[0].mask, method="otsu")
    assert model.align(own, max_distance=2.0).params["aligned"]["match"] == [1, 2, 3, 4]
    with pytest.raises(ConfigError, match="max_distance"):
        model.align(own, max_distance=-1.0)


def test_the_rim_has_no_say_in_the_shift():
    cases = cohort()[0][:3]
    options = {"scaling": "log", "patient_shift": True}
    model = HabitatModel(3, rim_mm=5.0, **options).fit(cases)
    result = model.segment(cases[0])
    assert any("rim voxels were left out" in note for note in result.notes)
    moved = next(note for note in result.notes if note.startswith("moved by"))
    whole = HabitatModel(3, **options).fit(cases)
    assert moved not in whole.segment(cases[0]).notes


def test_objects_that_only_look_like_options_are_not_saved(tmp_path):
    class Own:
        def __call__(self, X, k, rng):
            return KMeansOptions()(X, k, rng)

    model = HabitatModel(2, method=Own()).fit(cohort()[0][:2])
    with pytest.raises(ModelError, match="code of your own"):
        model.save(tmp_path / "m")


def test_arrays_of_cases_are_cases():
    cases = np.empty(2, dtype=object)
    cases[:] = cohort()[0][:2]
    assert HabitatModel(2).fit(cases).n_cases_ == 2

"""HabitatClassifier: what it learns, what it refuses, what a file of it holds."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from habitat.classifiers import HabitatClassifier, _models, permutation_importance
from habitat.classifiers._models import BOOSTING, NAMES, Boosting, Forest, Kernel
from habitat.classifiers._steps import medians
from habitat.errors import (
    CohortError,
    ConfigError,
    HabitatWarning,
    InputError,
    ModelError,
)
from habitat.saving import write_arrays, write_json


def cohort(n=80, p=12, classes=2, signal=1.5, seed=0):
    """Generated features: the outcome shows in h2_HU_mean."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    table = pd.DataFrame(
        rng.normal(size=(n, p)), columns=[f"h1_SUVbw_q{i}" for i in range(p)]
    )
    table.insert(0, "case_id", [f"case-{i}" for i in range(n)])
    table.insert(1, "site", np.where(rng.random(n) < 0.5, "a", "b"))
    table["pdl1_tps"] = 100.0 * y
    table["out:response"] = y
    table["clin:sex"] = np.where(rng.random(n) < 0.5, "male", "female")
    table["tumor_volume_ml"] = rng.lognormal(3, 1, n)
    table["h2_HU_mean"] = 40.0 + 10.0 * (rng.normal(size=n) + signal * y)
    return table, y


@pytest.fixture(scope="module", autouse=True)
def _few_trees():
    """Few trees do for all but the quality of forests, and take less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_models, "N_TREES", 15)
        patch.setitem(_models.BOOSTING, "n_estimators", 20)
        yield


@pytest.fixture(scope="module", params=NAMES)
def fitted(request):
    table, y = cohort()
    return HabitatClassifier(request.param).fit(table, y), table, y


@pytest.fixture(scope="module", params=NAMES)
def of_three(request):
    table, y = cohort(90, classes=3)
    return HabitatClassifier(request.param).fit(table, y), table, y


def test_the_signal_is_found(fitted):
    model, table, y = fitted
    assert "h2_HU_mean" in model.selected_
    fresh, truth = cohort(seed=1)
    assert roc_auc_score(truth, model.predict_proba(fresh)[:, 1]) > 0.75


def test_three_classes_are_found(of_three):
    model, table, y = of_three
    fresh, truth = cohort(90, classes=3, seed=1)
    p = model.predict_proba(fresh)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert roc_auc_score(truth, p, multi_class="ovr") > 0.7
    assert np.isnan(model.threshold_)
    assert (model.predict(fresh) == p.argmax(axis=1)).all()


def test_what_is_about_the_case_is_no_feature(fitted):
    model = fitted[0]
    names = set(model.feature_names_in_)
    assert not {"case_id", "site", "pdl1_tps", "out:response", "clin:sex"} & names
    assert "clin:sex=male" in names


def test_out_of_fold_probabilities_are_calibrated_in_the_large(fitted):
    model, _, y = fitted
    np.testing.assert_allclose(
        model.oof_.mean(axis=0), np.bincount(y) / len(y), atol=1e-6
    )


@pytest.mark.parametrize("weight", ["balanced", None, {0: 1.0, 1: 10.0}])
def test_rare_classes_keep_their_share(weight):
    table, y = cohort(160)
    rows = np.flatnonzero((y == 0) | (np.arange(160) % 8 == 1))
    model = HabitatClassifier(class_weight=weight).fit(table.iloc[rows], y[rows])
    p = model.predict_proba(table.iloc[rows])[:, 1]
    assert p.mean() == pytest.approx(0.2, abs=0.03)


def test_the_threshold_is_that_of_out_of_fold_predictions(fitted):
    model, table, y = fitted
    positive = model.oof_[:, 1] >= model.threshold_
    best = max(
        np.mean(model.oof_[y == 1, 1] >= t) - np.mean(model.oof_[y == 0, 1] >= t)
        for t in model.oof_[:, 1]
    )
    assert positive[y == 1].mean() - positive[y == 0].mean() == pytest.approx(best)
    want = model.predict_proba(table)[:, 1] >= model.threshold_
    assert (model.predict(table) == want).all()


def test_the_same_seed_gives_the_same_bits(fitted):
    model, table, y = fitted
    again = clone(model).fit(table, y)
    assert (again.predict_proba(table) == model.predict_proba(table)).all()
    assert again.notes_ == model.notes_


def test_one_case_has_the_same_bits_alone(fitted):
    model, table, _ = fitted
    one = model.predict_proba(table.iloc[[5]])
    assert (one[0] == model.predict_proba(table)[5]).all()


def test_out_of_fold_means_that_a_case_had_no_say():
    """Without signal out-of-fold predictions are no better than chance."""
    values = []
    for seed in range(20):
        table, y = cohort(60, p=30, signal=0.0, seed=seed)
        model = HabitatClassifier(l1_ratio=None).fit(table, y)
        values.append(roc_auc_score(y, model.oof_[:, 1]))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert np.mean(values) < 0.5 + 3.5 * error


def test_models_predict_as_scikit_learn_does():
    X, y = load_iris(return_X_y=True)
    X = X + np.random.default_rng(0).normal(size=X.shape)
    fresh = np.random.default_rng(1).normal(size=(50, 4)) * 3 + X.mean(axis=0)
    for rows in (slice(None), y > 0):
        A, b = X[rows], np.unique(y[rows], return_inverse=True)[1]
        for kind in (RandomForestClassifier, ExtraTreesClassifier):
            trees = kind(20, min_samples_leaf=3, random_state=0).fit(A, b)
            ours = Forest.of(trees.estimators_).probabilities(fresh)
            np.testing.assert_allclose(ours, trees.predict_proba(fresh), atol=1e-12)
        boosting = GradientBoostingClassifier(**BOOSTING, random_state=0).fit(A, b)
        ours = Boosting.of(boosting, A).probabilities(fresh)
        np.testing.assert_allclose(ours, boosting.predict_proba(fresh), atol=1e-12)
        svm = SVC().fit(A, b == 1)
        ours = Kernel.of(A, [svm]).scores(fresh)[:, 0]
        np.testing.assert_allclose(ours, svm.decision_function(fresh), atol=1e-12)


def test_coefficients_give_the_probabilities():
    table, y = cohort()
    model = HabitatClassifier().fit(table, y)
    natural = model.coefficients_.set_index("feature")["natural"]
    X = table[list(model.selected_)].to_numpy()
    logit = X @ natural[list(model.selected_)].to_numpy() + natural["(intercept)"]
    p = model.predict_proba(table)[:, 1]
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), p, atol=1e-12)
    assert not hasattr(HabitatClassifier("svm").fit(table, y), "coefficients_")


def test_coefficients_of_three_classes():
    table, y = cohort(90, classes=3)
    model = HabitatClassifier().fit(table, y)
    found = model.coefficients_
    logits = []
    for name in model.classes_:
        b = found[found["class"] == name].set_index("feature")["natural"]
        kept = list(model.selected_)
        logits.append(table[kept].to_numpy() @ b[kept].to_numpy() + b["(intercept)"])
    e = np.exp(np.array(logits).T)
    want = e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_proba(table), want, atol=1e-12)


def test_gaps_have_the_median_of_the_training_rows():
    X = np.array([[1.0, np.nan, 2.0], [3.0, np.nan, np.nan], [8.0, np.nan, 5.0]])
    assert medians(X).tolist() == [3.0, 0.0, 3.5]
    table, y = cohort()
    table.loc[::5, "h2_HU_mean"] = np.nan
    model = HabitatClassifier().fit(table, y)
    middle = np.nanmedian(table["h2_HU_mean"])
    filled = table.assign(h2_HU_mean=table["h2_HU_mean"].fillna(middle))
    assert (model.predict_proba(table) == model.predict_proba(filled)).all()


def test_scale_and_order_of_columns_do_not_matter():
    table, y = cohort()
    one = HabitatClassifier().fit(table, y)
    other = table.assign(h2_HU_mean=1000 * table["h2_HU_mean"] + 7)[table.columns[::-1]]
    two = HabitatClassifier().fit(other, y)
    assert set(one.selected_) == set(two.selected_)
    a, b = one.predict_proba(table), two.predict_proba(other)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_volume_in_disguise_is_left_out():
    table, y = cohort(signal=0.0)
    table["tumor_volume_ml"] = np.exp(
        3 + y + np.random.default_rng(0).normal(size=80) / 2
    )
    table["h1_volume_ml"] = table["tumor_volume_ml"] ** 2
    used = HabitatClassifier(max_correlation=None).fit(table, y).selected_
    assert {"tumor_volume_ml", "h1_volume_ml"} & set(used)
    without = HabitatClassifier(drop_volume_proxies=0.8).fit(table, y).selected_
    assert not {"tumor_volume_ml", "h1_volume_ml"} & set(without)
    lean = table.drop(columns="tumor_volume_ml")
    with pytest.raises(ConfigError, match="needs the column tumor_volume_ml"):
        HabitatClassifier(drop_volume_proxies=0.8).fit(lean, y)


def test_only_reliable_features_are_used():
    table, y = cohort()
    names = [n for n in table if n.startswith("h")]
    icc = pd.DataFrame({"feature": names, "a1_low": 0.9})
    icc.loc[icc["feature"] == "h2_HU_mean", "a1_low"] = 0.6
    for precision, limit in ((icc, 0.75), ([n for n in names if n[:2] == "h1"], 0.75)):
        model = HabitatClassifier(precision=precision, min_icc=limit).fit(table, y)
        assert not {"h2_HU_mean", "tumor_volume_ml"} & set(model.selected_)
        assert "2 of 15 features are left out: not reliable" in model.notes_
    model = HabitatClassifier(precision=icc, min_icc=0.5).fit(table, y)
    assert "h2_HU_mean" in model.selected_
    with pytest.raises(ConfigError, match="has no column a1_low"):
        HabitatClassifier(precision=icc[["feature"]]).fit(table, y)


def test_few_cases_have_few_features():
    table, y = cohort(60, p=40)
    model = HabitatClassifier(l1_ratio=None).fit(table, y)
    assert len(model.selected_) == 3
    assert model.events_per_feature_ == 10
    assert model.n_candidates_ == 43  # 40, the volume, the sex, and what tells
    every = HabitatClassifier(l1_ratio=None, n_features=None, max_correlation=None)
    assert len(every.fit(table, y).selected_) == 43


def test_sites_are_brought_together():
    table, y = cohort(120)
    there = table["site"] == "b"
    table.loc[there, "h2_HU_mean"] += 300.0
    plain = HabitatClassifier().fit(table, y)
    model = HabitatClassifier(harmonize="combat").fit(table, y)
    p = model.predict_proba(table)[:, 1]
    assert roc_auc_score(y, p) > roc_auc_score(y, plain.predict_proba(table)[:, 1])
    same = model.predict_proba(table.drop(columns="site"), sites=table["site"])[:, 1]
    assert (p == same).all()
    with pytest.raises(ModelError, match="not there in training: 'c'"):
        model.predict_proba(table.assign(site="c"))
    with pytest.raises(ConfigError, match="are needed for harmonize"):
        model.predict_proba(table.drop(columns="site"))


def test_a_site_of_one_case_is_no_trouble_in_inner_folds():
    table, y = cohort()
    table.loc[3, "site"] = "lonely"
    model = HabitatClassifier(harmonize="combat").fit(table, y)
    assert np.isfinite(model.oof_).all()


def test_cases_of_a_patient_stay_together():
    table, _ = cohort()
    patient = np.arange(80) // 4
    y = patient % 2
    model = HabitatClassifier(l1_ratio=None).fit(table, y, groups=patient)
    assert len(model.selected_) == 1  # 10 patients per class, not 40 cases


def test_no_feature_left_gives_the_shares():
    table, y = cohort(60)
    flat = pd.DataFrame({"h1_HU_mean": np.ones(60)})
    for name in NAMES:
        model = HabitatClassifier(name).fit(flat, y)
        np.testing.assert_allclose(model.predict_proba(flat), 0.5)
        assert model.selected_ == ()
        assert "no feature is left" in model.notes_[0]


def test_without_signal_one_feature_is_kept_and_that_is_said():
    notes = []
    for seed in range(10):
        table, y = cohort(60, signal=0.0, seed=seed)
        model = HabitatClassifier().fit(table, y)
        assert len(model.selected_) >= 1
        notes += model.notes_
    assert "the inner folds keep no feature: the strongest one is kept" in notes


def test_outside_the_training_range():
    table, y = cohort()
    model = HabitatClassifier().fit(table, y)
    assert not model.outside(table).to_numpy().any()
    fresh = table.iloc[:3].copy()
    fresh["h2_HU_mean"] = [500.0, 40.0, np.nan]
    found = model.outside(fresh)
    assert found["h2_HU_mean"].tolist() == [True, False, False]
    assert list(found.columns) == list(model.selected_)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_predicts_the_same_bits(name, classes, tmp_path):
    table, y = cohort(60, classes=classes)
    how = {"precision": list(table.columns[2:]), "class_weight": {0: 1.0, 1: 2.0}}
    model = HabitatClassifier(name, harmonize="combat", **how).fit(table, y)
    again = HabitatClassifier.load(model.save(tmp_path / "model"))
    fresh = cohort(60, seed=3)[0]
    assert (again.predict_proba(fresh) == model.predict_proba(fresh)).all()
    assert (again.predict(fresh) == model.predict(fresh)).all()
    assert again.selected_ == model.selected_
    assert again.notes_ == model.notes_
    assert again.get_params()["class_weight"] == {0: 1.0, 1: 2.0}
    pd.testing.assert_frame_equal(again.ranges_, model.ranges_)
    pd.testing.assert_frame_equal(again.outside(fresh), model.outside(fresh))
    assert again.save(tmp_path / "again").is_dir()


def test_a_file_keeps_classes_that_are_texts(tmp_path):
    table, y = cohort()
    model = HabitatClassifier().fit(table, np.where(y == 1, "high", "low"))
    again = HabitatClassifier.load(model.save(tmp_path / "model"))
    assert again.classes_.tolist() == ["high", "low"]
    assert (again.predict(table) == model.predict(table)).all()


def test_a_changed_file_is_refused(tmp_path):
    table, y = cohort()
    folder = HabitatClassifier().fit(table, y).save(tmp_path / "model")
    text = (folder / "model.json").read_text(encoding="utf-8")
    data = json.loads(text)
    (folder / "model.json").write_text(text.replace("h2_HU_mean", "h1_HU_mean"))
    with pytest.raises(ModelError, match="missing or changed after saving"):
        HabitatClassifier.load(folder)
    newer = {**data, "format": "habitat.classifier/2"}
    (folder / "model.json").write_text(json.dumps(newer))
    with pytest.raises(ModelError, match="update habitat"):
        HabitatClassifier.load(folder)
    with np.load(folder / "arrays.npz") as file:
        arrays = dict(file)
    arrays["model.coefficients"] = arrays["model.coefficients"] * np.nan
    write_arrays(folder / "arrays.npz", arrays)
    rest = {n: v for n, v in data.items() if n not in ("files", "sha256")}
    write_json(folder / "model.json", rest, ("arrays.npz",))
    with pytest.raises(ModelError, match="model.coefficients: not finite"):
        HabitatClassifier.load(folder)
    (folder / "model.json").unlink()
    with pytest.raises(ModelError, match="is not a saved classifier"):
        HabitatClassifier.load(folder)


def test_columns_are_found_by_name():
    table, y = cohort()
    model = HabitatClassifier().fit(table, y)
    p = model.predict_proba(table)
    assert (model.predict_proba(table[table.columns[::-1]]) == p).all()
    assert (model.predict_proba(table[list(model.selected_)]) == p).all()
    with pytest.raises(ModelError, match="missing: h2_HU_mean"):
        model.predict_proba(table.drop(columns="h2_HU_mean"))
    with pytest.raises(InputError, match="hold no numbers: h2_HU_mean"):
        model.predict_proba(table.assign(h2_HU_mean="high"))


def test_a_classifier_of_scikit_learn(tmp_path):
    table, y = cohort()
    model = HabitatClassifier(LogisticRegression()).fit(table, y)
    assert roc_auc_score(y, model.predict_proba(table)[:, 1]) > 0.8
    with pytest.raises(ModelError, match="LogisticRegression cannot be saved"):
        model.save(tmp_path / "model")


def test_arrays_serve_too():
    table, y = cohort()
    X = table.select_dtypes("number").drop(columns=["pdl1_tps", "out:response"])
    model = HabitatClassifier().fit(X.to_numpy(), y)
    assert model.selected_[-1] == f"x{X.columns.get_loc('h2_HU_mean')}"
    assert model.predict_proba(X.to_numpy()).shape == (80, 2)
    with pytest.raises(ValueError, match="X has 3 features"):
        model.predict_proba(X.to_numpy()[:, :3])
    with pytest.raises(ValueError, match="1D array"):
        HabitatClassifier().fit(X.to_numpy()[:, 0], y)


def test_outcomes_that_cannot_be_used():
    table, y = cohort()
    fit = HabitatClassifier().fit
    with pytest.raises(
        CohortError, match="1 of 80 rows have no class, the first is row 4"
    ):
        fit(table, np.where(np.arange(80) == 4, np.nan, y))
    with pytest.raises(CohortError, match="found one class: 0"):
        fit(table, np.zeros(80, dtype=int))
    with pytest.raises(CohortError, match="cut numbers into classes"):
        fit(table, np.linspace(0.5, 99.7, 80))
    with pytest.raises(CohortError, match="the smallest class has 1 cases"):
        fit(table, np.arange(80) == 3)
    with pytest.raises(InputError, match="one class for each of the 80 rows"):
        fit(table, y[:-1])
    with pytest.warns(HabitatWarning, match="class True has 4 cases, fewer than 10"):
        model = fit(table, np.arange(80) < 4)
    assert any("4 inner folds, not 5" in note for note in model.notes_)
    assert any("fewer than 10" in note for note in model.notes_)


def test_features_that_cannot_be_used():
    table, y = cohort()
    fit = HabitatClassifier().fit
    twice = pd.concat([table, table[["h2_HU_mean"]]], axis=1)
    with pytest.raises(InputError, match="there twice: h2_HU_mean"):
        fit(twice, y)
    with pytest.raises(InputError, match="infinite values in 1 columns: h2_HU_mean"):
        fit(table.assign(h2_HU_mean=np.inf), y)
    with pytest.raises(InputError, match="none of the 2 columns is a feature"):
        fit(table[["case_id", "site"]], y)


def test_wrong_arguments_are_named_at_once():
    table, y = cohort()
    wrong = HabitatClassifier("logistc", inner=1, l1_ratio=2.0, n_features="all")
    with pytest.raises(ConfigError) as error:
        wrong.fit(table, y)
    for text in ("did you mean 'logistic'?", "`inner`", "`l1_ratio`", "`n_features`"):
        assert text in str(error.value)
    with pytest.raises(ConfigError, match="must be a name or have predict_proba"):
        HabitatClassifier(3).fit(table, y)


def test_importance_is_that_of_what_tells():
    table, y = cohort()
    fresh, truth = cohort(seed=1)
    model = HabitatClassifier(l1_ratio=None, harmonize="combat").fit(table, y)
    found = permutation_importance(model, fresh, truth, repeats=5)
    assert found["feature"][0] == "h2_HU_mean"
    assert found["mean"][0] > 0.2
    assert len(found) == len(model.selected_)
    three, y3 = cohort(90, classes=3)
    found = permutation_importance(
        HabitatClassifier().fit(three, y3), three, y3, repeats=3
    )
    assert found["feature"][0] == "h2_HU_mean"


OWN_THRESHOLD = "`predict` uses the threshold of Youden, not the larger probability"


@parametrize_with_checks(
    [HabitatClassifier()],
    expected_failed_checks=lambda _: {"check_classifiers_train": OWN_THRESHOLD},
)
def test_scikit_learn_conventions(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)  # their samples are small
        check(estimator)


def test_text_among_the_features_is_told():
    table = pd.DataFrame({"h1_a": np.arange(40.0), "h1_b": "x"})
    with pytest.warns(HabitatWarning, match="`h1_b` is left out: it holds no numbers"):
        HabitatClassifier().fit(table, np.arange(40) > 19)


def test_numbers_held_as_objects_are_numbers():
    y = np.arange(40) > 19
    plain = pd.DataFrame({"h1_a": np.arange(40.0)})
    one, two = (HabitatClassifier().fit(t, y) for t in (plain, plain.astype(object)))
    expected = one.predict_proba(plain)
    np.testing.assert_array_equal(two.predict_proba(plain.astype(object)), expected)


def test_reliability_that_does_nothing_is_refused():
    table, y = pd.DataFrame({"h1_a": np.arange(40.0)}), np.arange(40) > 19
    with pytest.raises(ConfigError, match="no effect without `precision`"):
        HabitatClassifier(min_icc=0.9).fit(table, y)
    with pytest.raises(ConfigError, match="none of its 1 reliable features"):
        HabitatClassifier(precision=["h9_z"]).fit(table, y)

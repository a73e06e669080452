"""evaluate(): what it says of signals that are there, and of those that are not."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from habitat.classifiers import HabitatClassifier
from habitat.errors import CohortError, ConfigError, InputError
from habitat.evaluation import evaluate
from habitat.mil import Bags, MILClassifier


def cohort(n=120, signal=1.5, seed=0, **columns):
    """Generated features: the outcome shows in one feature of habitat 2."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    table = pd.DataFrame(
        {
            "case_id": [f"case-{i:03}" for i in range(n)],
            "site": np.where(np.arange(n) % 3 == 0, "a", "b"),
            "clin:age": rng.normal(65, 8, n),
            "clin:sex": np.where(rng.random(n) < 0.5, "male", "female"),
            "tumor_volume_ml": rng.lognormal(3, 1, n),
            "tumor_SUVbw_suv_max": rng.lognormal(2, 0.5, n),
            "tumor_HU_mean": rng.normal(30, 10, n),
            "tumor_shannon": rng.normal(size=n),
            "h1_SUVbw_mean": rng.normal(size=n),
            "h1_present": 1.0,
            "h2_SUVbw_mean": rng.normal(size=n) + signal * y,
            "h2_HU_mean": rng.normal(size=n),
            "h2_present": 1.0,
        }
    )
    return table.assign(**columns), y


@pytest.fixture(scope="module")
def found():
    table, y = cohort()
    return evaluate(HabitatClassifier(), table, y, cv=(5, 2))


def test_a_signal_of_habitats_is_found_where_it_is(found):
    assert found.value("habitats") > 0.75
    for name in ("volume only", "SUVmax only", "clinical only", "whole tumor"):
        assert abs(found.value(name) - 0.5) < 0.15
    for name in ("permuted habitats", "permuted outcome"):
        assert abs(found.value(name) - 0.5) < 0.15
    low = found.differences.set_index("model")["low"]
    assert (low > 0).all()
    assert found.selected["feature"][0] == "h2_SUVbw_mean"
    assert found.selected["share"][0] == 1.0


def test_what_could_not_run_is_said(found):
    assert any("surrogate habitats: need images" in note for note in found.notes)


def test_the_auc_is_the_weighted_mean_over_folds(found):
    own = found.predictions.query("model == 'habitats'")
    values, pairs = [], []
    for _, part in own.groupby(["repeat", "fold"]):
        values.append(roc_auc_score(part["y"], part["p_1"]))
        pairs.append((part["y"] == 1).sum() * (part["y"] == 0).sum())
    assert found.value("habitats") == pytest.approx(np.average(values, weights=pairs))


def test_every_case_is_predicted_once_in_each_repeat(found):
    own = found.predictions.query("model == 'habitats'")
    assert own.groupby(["repeat", "case_id"]).size().eq(1).all()
    assert own["repeat"].nunique() == 2
    assert own["case_id"].nunique() == 120


def test_what_is_tested_has_no_say():
    """Other outcomes and other features of test cases leave the model as it is."""
    table, y = cohort(80)
    fold = [(np.arange(60), np.arange(60, 80))]
    one = evaluate(HabitatClassifier(), table, y, cv=fold, beside=())
    with_other_y = y.copy()
    with_other_y[60:] = 1 - y[60:]
    two = evaluate(HabitatClassifier(), table, with_other_y, cv=fold, beside=())
    assert one.predictions["p_1"].equals(two.predictions["p_1"])
    changed = table.copy()
    changed.loc[70:, "h2_SUVbw_mean"] += 100
    three = evaluate(HabitatClassifier(), changed, y, cv=fold, beside=())
    assert one.predictions["p_1"][:10].equals(three.predictions["p_1"][:10])


def test_volume_in_disguise_is_named():
    table, y = cohort(signal=0.0)
    rng = np.random.default_rng(1)
    table["tumor_volume_ml"] = np.exp(3 + 0.9 * y + rng.normal(size=len(y)) / 2)
    table["h2_volume_ml"] = table["tumor_volume_ml"] * rng.uniform(0.3, 0.5, len(y))
    found = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=("volume only",))
    assert found.value("volume only") > 0.8
    assert "Tumor volume alone may explain the result" in found.notes[0]


def test_a_fixed_test_set_has_the_interval_of_delong():
    split = np.where(np.arange(120) < 80, "train", "test")
    table, y = cohort(split=split)
    found = evaluate(HabitatClassifier(), table, y, cv="split", beside=("whole tumor",))
    own = found.predictions.query("model == 'habitats'")
    row = found.metrics.query("model == 'habitats' and metric == 'auc'").iloc[0]
    assert row["part"] == "test"
    assert row["how"] == "test set, DeLong"
    assert row["value"] == pytest.approx(roc_auc_score(own["y"], own["p_1"]))
    assert row["low"] < row["value"] < row["high"]
    assert found.differences["how"].eq("test set, DeLong").all()
    assert not any("No external test set" in note for note in found.notes)


def test_several_test_sets_have_numbers_of_their_own():
    names = np.array(["train", "near", "far"])
    split = names[np.r_[np.zeros(60, int), np.ones(30, int), np.full(30, 2)]]
    table, y = cohort(split=split)
    found = evaluate(HabitatClassifier(), table, y, cv="split", beside=())
    rows = found.metrics.query("metric == 'auc'")
    assert rows["part"].tolist() == ["far", "near"]


def test_sites_are_left_out_one_by_one():
    table, y = cohort()
    found = evaluate(HabitatClassifier(), table, y, cv="leave-one-site-out", beside=())
    assert set(found.predictions["part"]) == {"a", "b"}
    assert found.value("habitats") > 0.7


def test_three_classes():
    table, _ = cohort(150)
    y = np.arange(150) % 3
    rng = np.random.default_rng(0)
    table["h2_SUVbw_mean"] = 2.0 * y + rng.normal(size=150)
    found = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=("volume only",))
    assert found.value("habitats") > 0.8
    assert found.value("habitats", "weighted_kappa") > 0.5
    assert 0.3 < found.value("volume only") < 0.7
    metrics = set(found.metrics["metric"])
    assert {f"auc {c} against the rest" for c in range(3)} < metrics
    assert found.value("habitats", "ordinal_c") > 0.9
    slopes = [f"calibration_slope {c} against the rest" for c in range(3)]
    assert all(0.3 < found.value("habitats", name) < 3 for name in slopes)


def test_bags():
    table, y = cohort(80, signal=2.0)
    bags = Bags.from_table(table)
    found = evaluate(MILClassifier(), bags, y, table=table, cv=(5, 1))
    assert found.value("habitats") > 0.7
    assert abs(found.value("volume only") - 0.5) < 0.2
    assert abs(found.value("permuted outcome") - 0.5) < 0.25


def test_a_table_serves_a_model_of_bags():
    table, y = cohort(80, signal=2.0)
    one = evaluate(MILClassifier(), table, y, cv=(5, 1), beside=())
    two = evaluate(MILClassifier(), Bags.from_table(table), y, cv=(5, 1), beside=())
    assert one.value("habitats") == two.value("habitats")


def test_a_small_cohort_is_pooled_and_says_so():
    table, y = cohort(17, signal=2.0)
    found = evaluate(HabitatClassifier(), table, y, cv=(5, 2))
    assert any("pooled" in how for how in found.metrics["how"])
    text = " ".join(found.notes)
    assert "of 10 folds: " in text
    assert "Very small sample: 9 of class 0, 8 of class 1" in text
    assert "scores were pooled over folds" in text
    assert "(Riley's criteria, R2 of 15 % of its maximum), not 17" in text


def test_cases_of_a_patient_stay_together():
    table, y = cohort(80)
    table["group"] = [f"patient-{i // 4}" for i in range(80)]
    y = (np.arange(80) // 4) % 2
    found = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=())
    folds = found.predictions.assign(
        group=table["group"]
        .to_numpy()
        .repeat(1)[found.predictions["case_id"].str[-3:].astype(int)]
    )
    assert folds.groupby("group")["fold"].nunique().eq(1).all()
    assert found.params["n_patients"] == 20


def test_subgroups_of_assay_and_site():
    assay = np.where(np.arange(120) % 4 < 2, "22C3", "SP263")
    table, y = cohort(pdl1_assay=assay, pdl1_days=np.arange(120) % 40)
    found = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=())
    groups = found.subgroups.set_index(["column", "value"])
    assert groups.loc[("pdl1_assay", "22C3"), "n"] == 60
    assert groups.loc[("site", "a"), "auc"] > 0.6
    text = " ".join(found.notes)
    assert "PD-L1 assays are mixed: 60 22C3, 60 SP263" in text
    assert "27 cases have more than 30 days between scan and biopsy" in text


def test_the_same_seed_gives_the_same_numbers(found):
    table, y = cohort()
    again = evaluate(HabitatClassifier(), table, y, cv=(5, 2))
    pd.testing.assert_frame_equal(found.metrics, again.metrics)
    assert found.notes == again.notes


def test_it_is_saved_as_plain_files(found, tmp_path):
    folder = found.save(tmp_path / "out")
    data = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert data["format"] == "habitat.evaluation/1"
    assert data["notes"] == list(found.notes)
    assert data["metrics"][0]["model"] == "habitats"
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == len(found.predictions)
    assert (folder / "roc.csv").is_file()


def test_curves_begin_and_end_where_they_must(found):
    roc = found.curves["roc"]
    assert roc["sensitivity"].iloc[-1] == 1.0
    assert roc["sensitivity"].is_monotonic_increasing
    decision = found.curves["decision"]
    assert (decision["low"] <= decision["high"]).all()


def test_wrong_arguments_are_named():
    table, y = cohort(40)
    model = HabitatClassifier()
    with pytest.raises(ConfigError, match="must be HabitatClassifier or MILClassifier"):
        evaluate("logistic", table, y)
    with pytest.raises(InputError, match="has 40 cases, `y` has 39"):
        evaluate(model, table, y[1:])
    with pytest.raises(InputError, match="1 of 40 cases have no outcome"):
        evaluate(model, table, np.where(np.arange(40) == 3, np.nan, y))
    with pytest.raises(InputError, match="2 to 20 classes, found 1"):
        evaluate(model, table, np.zeros(40))
    with pytest.raises(ConfigError, match="volume only"):
        evaluate(model, table, y, beside=("volum only",))
    with pytest.raises(ConfigError, match="list of habitat.Case"):
        evaluate(model, 3, y)


def test_an_outcome_among_the_features_is_refused():
    table, y = cohort(40, lung_metastasis=np.arange(40) % 2 + 1.0)
    with pytest.raises(InputError, match="'lung_metastasis' that is the outcome"):
        evaluate(HabitatClassifier(), table, y)
    renamed = table.rename(columns={"lung_metastasis": "out:lung_metastasis"})
    found = evaluate(HabitatClassifier(), renamed, y, cv=(3, 1), beside=())
    assert not found.selected["feature"].str.contains("metastasis").any()


def test_a_case_that_stands_twice_is_named():
    table, y = cohort(40)
    table.loc[7, "case_id"] = table.loc[3, "case_id"]
    with pytest.raises(CohortError, match="1 cases more than once, first case-003"):
        evaluate(HabitatClassifier(), table, y)


def test_names_of_columns_may_be_numbers():
    y = np.arange(40) % 2
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)))
    found = evaluate(HabitatClassifier(), table, y, cv=(3, 1), beside=())
    assert 0 <= found.value("habitats") <= 1

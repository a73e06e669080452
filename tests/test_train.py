"""From a cohort to a model on disk, and from there to predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from habitat import Case, HabitatModel, phantom
from habitat.classifiers import HabitatClassifier
from habitat.errors import (
    CohortError,
    ConfigError,
    HabitatWarning,
    InputError,
    ModelError,
)
from habitat.evaluation import Habitats, outcome_of
from habitat.mil import MILClassifier
from habitat.training import predict, train
from tests.test_evaluate import cohort

LIGHT = {"families": ("composition", "intensity")}


@pytest.fixture
def results(tmp_path):
    """What a batch leaves behind, generated."""
    table, y = cohort(80, signal=2.0)
    table.insert(1, "status", "done")
    table["pdl1_tps"] = np.where(y, 30.0, 0.0)
    table.loc[3, "status"] = "failed"
    table.loc[5, "pdl1_tps"] = np.nan
    folder = tmp_path / "batch"
    folder.mkdir()
    table.to_csv(folder / "features_wide.csv", index=False)
    return folder


def test_results_of_a_batch_become_a_model_and_predictions(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(5, 1))
    assert done.exit_code == 1
    assert done.excluded["case_id"].tolist() == ["case-003", "case-005"]
    assert done.evaluation.value("habitats") > 0.7
    assert "made before, on all cases" in (done.out / "train.json").read_text("utf-8")
    names = {path.name for path in (done.out / "figures").iterdir()}
    assert {"auc.png", "roc.png", "calibration.png", "nomogram.png"} <= names
    found = predict(results, done.out, tmp_path / "p.csv")
    assert found.exit_code == 1
    table = found.table.set_index("case_id")
    assert table.loc["case-003", "status"] == "status failed"
    p = table[["p_TPS < 1", "p_TPS >= 1"]].dropna()
    assert p.sum(axis=1).to_numpy() == pytest.approx(1)
    own = done.model.predict_proba(pd.read_csv(results / "features_wide.csv"))
    usable = table["status"] == "done"
    rows = [int(i[-3:]) for i in table.index[usable]]
    np.testing.assert_array_equal(p.to_numpy(), own[rows])


def test_the_same_training_gives_the_same_bytes(results, tmp_path):
    for name in ("one", "two"):
        train(results, tmp_path / name, cv=(3, 1), beside=())
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes(), path.name


def test_what_lies_beyond_the_training_is_told(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    table = pd.read_csv(results / "features_wide.csv")
    table["h2_SUVbw_mean"] += 100
    (tmp_path / "new").mkdir()
    table.to_csv(tmp_path / "new" / "features_wide.csv", index=False)
    found = predict(tmp_path / "new", done.out, tmp_path / "p.csv").table
    there = found[found["status"] == "done"]
    assert (there["n_outside"] >= 1).all()
    assert there["outside"].str.contains("h2_SUVbw_mean").all()


def test_a_multi_instance_model(results, tmp_path):
    done = train(results, tmp_path / "out", model=MILClassifier(), cv=(3, 1), beside=())
    found = predict(results, done.out, tmp_path / "p.csv").table
    assert found["p_TPS >= 1"].notna().sum() == 79


def test_three_classes_of_tps(results, tmp_path):
    table = pd.read_csv(results / "features_wide.csv")
    table["pdl1_tps"] = np.arange(80) % 3 * 40.0
    table.to_csv(results / "features_wide.csv", index=False)
    done = train(results, tmp_path / "out", cutoffs=(1, 50), cv=(3, 1), beside=())
    names = ["TPS < 1", "TPS 1 to < 50", "TPS >= 50"]
    assert done.evaluation.params["classes"] == names
    found = predict(results, done.out, tmp_path / "p.csv").table
    assert found[[f"p_{n}" for n in names]].dropna().sum(axis=1).eq(1).mean() > 0.4


@pytest.mark.slow
def test_images_become_a_model_and_predictions(tmp_path):
    ps = [phantom(radius_mm=10, margin_mm=15, random_state=s) for s in range(13)]
    cases = [
        Case(f"c{i}", {"pet": p.pet, "ct": p.ct}, p.mask, outcome={"out:x": i % 2})
        for i, p in enumerate(ps)
    ]
    how = Habitats(HabitatModel(k=2), LIGHT)
    with pytest.warns(HabitatWarning):
        done = train(cases[:12], tmp_path / "out", outcome="x", habitats=how, cv=(3, 1))
    assert "surrogate habitats" in set(done.evaluation.metrics["model"])
    assert (done.out / "habitats" / "model.json").is_file()
    found = predict(cases[12:], done.out, tmp_path / "p.csv")
    assert found.exit_code == 0
    assert found.table["case_id"].tolist() == ["c12"]


def test_wrong_inputs_are_named(results, tmp_path):
    with pytest.raises(CohortError, match="is not there"):
        train(tmp_path / "absent.csv", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CohortError, match=r"holds no features_wide\.csv"):
        train(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(CohortError, match="outcomes found: pdl1_tps"):
        train(results, tmp_path / "out", outcome="response")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("x")
    with pytest.raises(InputError, match=r"thesis\.docx"):
        train(results, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.docx"]


def test_a_model_that_was_changed_is_refused(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    path = done.out / "train.json"
    about = json.loads(path.read_text("utf-8"))
    about["classes"] = ["no", "yes"]
    path.write_text(json.dumps(about), "utf-8")
    with pytest.raises(ModelError, match="changed"):
        predict(results, done.out, tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_a_model_of_a_batch_takes_no_images(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    p = phantom(radius_mm=10, margin_mm=15)
    case = Case("c", {"pet": p.pet, "ct": p.ct}, p.mask)
    with pytest.raises(ConfigError, match="was trained on results of a batch"):
        predict([case], done.out, tmp_path / "p.csv")


def test_features_that_are_missing_are_named(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    table = pd.read_csv(results / "features_wide.csv").drop(columns="h2_SUVbw_mean")
    table.to_csv(results / "features_wide.csv", index=False)
    with pytest.raises(ModelError, match="h2_SUVbw_mean"):
        predict(results, done.out, tmp_path / "p.csv")


# --- outcomes -------------------------------------------------------------------------


def tps(*values, high=None):
    table = pd.DataFrame({"case_id": [f"c{i}" for i in range(len(values))]})
    table["pdl1_tps"] = values
    return table if high is None else table.assign(pdl1_tps_high=high)


def test_a_value_at_the_cut_off_is_above_it():
    found = outcome_of(tps(*[0.0, 0.99, 1.0, 49.9, 50.0] * 10), cutoffs=(1, 50))
    assert found.y[:5].tolist() == [0, 0, 1, 1, 2]


def test_a_range_has_a_class_if_no_cut_off_lies_within():
    low, high = [1.0, 0.0, 60.0, 0.0] * 10, [49.0, 0.5, 80.0, 30.0] * 10
    found = outcome_of(tps(*low, high=high))
    assert found.y[:4].tolist() == [1, 0, 1, -1]
    assert "10 cases are left out (c3, c7, c11, c15, c19, ...)" in found.notes[0]


def test_other_columns_are_classes_as_they_are():
    table = pd.DataFrame({"out:response": [1.0, 0.0, np.nan] + [0.0, 1.0] * 10})
    found = outcome_of(table, "response")
    assert found.classes == ("0", "1")
    assert found.usable.sum() == 22
    with pytest.raises(CohortError, match="found 20 of a"):
        outcome_of(pd.DataFrame({"out:x": ["a"] * 20}), "x")
    with pytest.raises(CohortError, match="20 different values"):
        outcome_of(pd.DataFrame({"out:x": np.arange(20.0)}), "x")


def test_small_classes_are_warned_of():
    with pytest.warns(HabitatWarning, match="Fewer than 10 cases of a class: 3 of"):
        outcome_of(tps(*[0.0] * 20, 5.0, 5.0, 5.0))
    with pytest.raises(CohortError, match="found 20 of TPS < 1, 0 of TPS >= 1"):
        outcome_of(tps(*[0.0] * 20))
    with pytest.raises(ConfigError, match="must rise"):
        outcome_of(tps(0.0, 5.0), cutoffs=(50, 1))
    with pytest.raises(CohortError, match="no numbers, first 'high'"):
        outcome_of(tps("high", "1"), cutoffs=(1,))


def test_a_classifier_of_ones_own_cannot_be_saved(results, tmp_path):
    from sklearn.linear_model import LogisticRegression

    own = HabitatClassifier(LogisticRegression())
    with pytest.raises(ModelError, match="LogisticRegression"):
        train(results, tmp_path / "out", model=own, cv=(3, 1), beside=())
    assert not (tmp_path / "out").exists()

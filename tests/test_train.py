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
from habitat.training._radiomics import channels_of, ibsi
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


# --- what is asked for is done, or refused before the work ----------------------------


def changed(results, folder, change):
    """The batch again, with other features."""
    table = pd.read_csv(results / "features_wide.csv")
    folder.mkdir()
    change(table).to_csv(folder / "features_wide.csv", index=False)
    return folder


def test_options_of_habitats_are_refused_where_a_batch_made_them(results, tmp_path):
    with pytest.raises(ConfigError, match="of a batch are made already"):
        train(results, tmp_path / "out", habitats=Habitats(HabitatModel(k=2), LIGHT))


def test_code_of_ones_own_is_refused_before_the_work(tmp_path):
    p = phantom(radius_mm=10)
    cases = [Case("c", {"pet": p.pet, "ct": p.ct}, p.mask, outcome={"out:x": 1})]
    own = Habitats(HabitatModel(k=2), {"families": (lambda subject: {},)})
    with pytest.raises(ConfigError, match="code of your own"):
        train(cases, tmp_path / "out", outcome="x", habitats=own)


def test_nothing_of_the_source_is_replaced(results):
    with pytest.raises(ConfigError, match=r"holds the source features_wide\.csv"):
        train(results, results)


@pytest.mark.parametrize("name", ["features_wide.csv", "p.txt", "no/p.csv"])
def test_a_place_for_predictions_that_cannot_be(results, tmp_path, name):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    with pytest.raises(ConfigError, match=r"source itself|must end|is not there"):
        predict(results, done.out, results / name)


def test_predictions_stand_in_the_order_of_the_cases(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    turned = changed(results, tmp_path / "new", lambda t: t.iloc[::-1])
    found = predict(turned, done.out, tmp_path / "p.csv").table
    assert found["case_id"].tolist() == [f"case-{i:03}" for i in range(79, -1, -1)]


def test_features_without_a_value_are_told(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    first = done.model.selected_[0]
    empty = changed(
        results,
        tmp_path / "new",
        lambda t: t.assign(**{first: t[first].where(t.index > 0)}),
    )
    found = predict(empty, done.out, tmp_path / "p.csv").table
    assert found["n_missing"].iloc[:2].tolist() == [1, 0]


def test_a_batch_made_otherwise_is_refused(results, tmp_path):
    plan = {"model": None, "segmentation": {"k": 4}, "extraction": {}}
    (results / "run.json").write_text(json.dumps({"plan": plan}), "utf-8")
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    assert "clustered by itself" in " ".join(done.evaluation.notes)
    other = changed(results, tmp_path / "new", lambda t: t)
    plan["segmentation"] = {"k": 3}
    (other / "run.json").write_text(json.dumps({"plan": plan}), "utf-8")
    with pytest.raises(ModelError, match="another segmentation"):
        predict(other, done.out, tmp_path / "p.csv")


def test_parts_of_two_trainings_do_not_mix(results, tmp_path):
    for name, l1_ratio in (("one", 1.0), ("two", 0.5)):
        kind = HabitatClassifier(l1_ratio=l1_ratio)
        train(results, tmp_path / name, model=kind, cv=(3, 1), beside=())
    part = tmp_path / "one" / "classifier"
    part.rename(tmp_path / "old")
    (tmp_path / "two" / "classifier").rename(part)
    with pytest.raises(ModelError, match="not of this training"):
        predict(results, tmp_path / "one", tmp_path / "p.csv")


def test_a_site_that_is_new_costs_only_its_cases(results, tmp_path):
    kind = HabitatClassifier(harmonize="combat")
    done = train(results, tmp_path / "out", model=kind, cv=(3, 1), beside=())
    assert not (done.out / "nomogram_points.csv").exists()
    far = changed(
        results,
        tmp_path / "new",
        lambda t: t.assign(site=t["site"].where(t["case_id"] != "case-000", "far")),
    )
    found = predict(far, done.out, tmp_path / "p.csv")
    assert found.exit_code == 1
    table = found.table.set_index("case_id")
    assert "far" in table.loc["case-000", "status"]
    assert (table["status"] == "done").sum() == 78


def test_sites_must_be_known_where_they_are_used(results, tmp_path):
    lacking = changed(results, tmp_path / "new", lambda t: t.drop(columns="site"))
    kind = HabitatClassifier(harmonize="combat")
    with pytest.raises(CohortError, match="78 of 78 cases have none"):
        train(lacking, tmp_path / "out", model=kind)


def test_points_and_coefficients_are_written(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1), beside=())
    kept = pd.read_csv(done.out / "coefficients.csv")["feature"].tolist()
    assert set(done.model.selected_) <= set(kept)
    points = pd.read_csv(done.out / "nomogram_points.csv")
    assert points["points"].max() == pytest.approx(100, abs=30)
    total = pd.read_csv(done.out / "nomogram_total.csv")
    assert total["probability"].is_monotonic_increasing


# --- reporting ------------------------------------------------------------------------


def test_every_item_of_the_guides_is_there_once(results, tmp_path):
    done = train(results, tmp_path / "out", cv=(3, 1))
    items = json.loads((done.out / "reporting.json").read_text("utf-8"))["items"]
    keys = [(item["guide"], item["item"]) for item in items]
    assert len(keys) == len(set(keys))
    for guide, n in (("CLEAR", 58), ("METRICS", 30), ("TRIPOD+AI", 27)):
        numbers = {int(number) for name, number in keys if name == guide}
        assert numbers == set(range(1, n + 1)), guide
    answers = {(i["guide"], i["item"]): i for i in items}
    assert answers["METRICS", "25"]["answer"] is True  # volume only ran beside
    assert answers["CLEAR", "45"]["answer"]["analyzed"] == 78
    assert answers["CLEAR", "15"]["status"] == "filled"
    assert answers["CLEAR", "8"]["status"] == "human"


def test_items_of_ibsi_are_those_of_the_settings():
    names = [f"h1_{c}_original_glcm_Contrast" for c in ("SUVbw", "HU")]
    how = {"spacing": [3.0, 3.0, 3.0], "families": ["radiomics"]}
    table = pd.DataFrame({"tracer": ["FDG", "FDG", None]})
    items = ibsi(channels_of(names, how), "1.2", table)
    found = {item.item: item.answer for item in items}
    assert found["3a"] == {"FDG": 2}
    assert found["51"] == {"spacing": [3.0, 3.0, 3.0]}
    assert found["56a"]["HU"]["bin_width"] == 25
    assert found["56a"]["SUVbw"]["bin_width"] == 0.25
    assert found["61"] == "habitat 1.2"

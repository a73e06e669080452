"""Habitats learned over the training cases of a cohort."""

import contextlib
import json
import os

import numpy as np
import pandas as pd
import pytest

import habitat
from habitat.cohort import _fit
from habitat.cohort._fit import PoolStore
from habitat.cohort._pool import LocalRunner
from habitat.cohort._work import Done, Failure
from habitat.errors import (
    CohortError,
    ConfigError,
    HabitatError,
    HabitatWarning,
    InputError,
)
from habitat.population._learn import FileStore, sample_rows


def small(i, unit="SUVbw", size=10, **options):
    """Two tissues, generated."""
    rng = np.random.default_rng(i)
    mask = np.zeros((14, 14, 14), bool)
    mask[2 : 2 + size, 2 : 2 + size, 2 : 2 + size] = True
    hot = np.arange(14**3).reshape(mask.shape) % 14 < 7
    pet = np.where(hot, 8.0, 2.0) * mask + 0.5 * rng.normal(size=mask.shape)
    ct = np.where(hot, 60.0, 20.0) + 8 * rng.normal(size=mask.shape)
    pet, ct = (
        habitat.Image(a, spacing=(3, 3, 3), unit=u)
        for a, u in ((pet, unit), (ct, "HU"))
    )
    mask = habitat.Image(mask, spacing=(3, 3, 3))
    return habitat.Case(f"p{i}", {"pet": pet, "ct": ct}, mask, **options)


class Here:
    """Runs tasks in this process, the last first."""

    workers = 2

    def run(self, tasks):
        for task in reversed(list(tasks)):
            try:
                yield Done(task.key, task.function(*task.args, None))
            except HabitatError as error:
                yield Done(task.key, failure=Failure.of(error))


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Starting worker processes takes seconds: but for some tests it is left out."""
    monkeypatch.setattr(_fit, "runner_for", lambda *_: contextlib.nullcontext(Here()))


@pytest.fixture(scope="module")
def runner():
    with LocalRunner(1) as runner:
        yield runner


@pytest.fixture(scope="module")
def cases():
    return [small(i) for i in range(4)]


@pytest.fixture(scope="module")
def fitted(cases, tmp_path_factory):
    """In worker processes."""
    out = tmp_path_factory.mktemp("fit") / "model"
    return habitat.fit_cohort(cases, out, "auto", jobs=2, smoothness=0.5)


def same(one, two):
    assert one.sha256 == two.sha256
    np.testing.assert_array_equal(one.centers_, two.centers_)


def test_the_model_is_that_of_a_plain_fit(fitted, cases):
    same(fitted.model, habitat.HabitatModel("auto", smoothness=0.5).fit(cases))
    same(fitted.model, habitat.HabitatModel.load(fitted.out))
    assert fitted.exit_code == 0
    assert len(fitted.failures) == 0


def test_centers_choice_and_record_are_written(fitted):
    table = pd.read_csv(fitted.out / "centres.csv")
    assert list(table["habitat"]) == list(range(1, fitted.model.k_ + 1))
    np.testing.assert_allclose(table["SUVbw"], fitted.model.centers_[:, 0])
    np.testing.assert_allclose(table["share"].sum(), 1)
    curve = pd.read_csv(fitted.out / "k_curve.csv")
    assert list(curve["k"]) == list(range(1, 11))
    assert list(curve.loc[curve["chosen"], "k"]) == [fitted.model.k_]
    for name in ("centres.png", "k_curve.png"):
        assert (fitted.out / name).stat().st_size > 10_000
    about = json.loads((fitted.out / "fit.json").read_text())
    assert about["cases"] == 4
    assert about["arguments"]["k"] == "auto"


@pytest.mark.parametrize(
    "options",
    [
        {"method": "gmm"},
        {"method": "otsu"},
        {"method": "supervoxel"},
        {"scaling": "log", "patient_shift": True},
    ],
)
def test_processes_change_no_bit(cases, options, runner, tmp_path):
    model = habitat.HabitatModel(4, **options)
    settings = model.settings_for(["pet", "ct"])
    model.fit_store(FileStore(cases[:3], settings, tmp_path), settings)
    other = habitat.HabitatModel(4, **options)
    store = PoolStore(runner, cases[:3], settings, tmp_path)
    same(other.fit_store(store, settings), model)


def test_the_same_fit_writes_the_same_bytes(cases, tmp_path):
    outs = [tmp_path / "a", tmp_path / "b"]
    for out, order in zip(outs, (1, -1), strict=True):
        habitat.fit_cohort(cases[:2][::order], out, 3)
    names = {p.name for p in outs[0].iterdir()}
    assert names == {
        *("model.json", "arrays.npz", "centres.csv", "centres.png"),
        *("failures.csv", "fit.json"),
    }
    for name in names - {"fit.json"}:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def test_only_training_cases_are_used(tmp_path):
    cases = [small(0, split="train"), small(1, split="test"), small(2, split="Train")]
    result = habitat.fit_cohort(cases, tmp_path / "m", 3)
    same(result.model, habitat.HabitatModel(3).fit([cases[0], cases[2]]))
    assert result.notes[0] == "2 of 3 cases are for training; others are not used"
    with pytest.raises(CohortError, match="no case is of split 'train', only of test"):
        habitat.fit_cohort(cases[1:2], tmp_path / "n", 3)


def test_cases_that_cannot_be_used_are_left_out_and_listed(cases, tmp_path):
    bad = habitat.Case("bad", {"pet": "nowhere.nii", "ct": "no.nii"}, "none.nii")
    result = habitat.fit_cohort([cases[0], bad, cases[1]], tmp_path / "m", 3)
    same(result.model, habitat.HabitatModel(3).fit(cases[:2]))
    assert result.exit_code == 1
    assert list(result.failures["case_id"]) == ["bad"]
    assert "nowhere.nii" in result.failures.loc[0, "message"]
    with pytest.raises(CohortError, match="none of 1 cases can be used"):
        habitat.fit_cohort([bad], tmp_path / "n", 3)
    assert not (tmp_path / "n").exists()


def test_folders_with_other_things_and_wrong_arguments_are_refused(cases, tmp_path):
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.docx"):
        habitat.fit_cohort(cases, tmp_path)
    with pytest.raises(ConfigError, match="k"):
        habitat.fit_cohort(cases, tmp_path / "m", 1)


def test_the_sample_of_a_large_cohort_stays_small():
    assert sample_rows(1) == sample_rows(100) == 2000
    assert [sample_rows(n) * n for n in (200, 2000, 10_000)] == [200_000] * 3
    assert sample_rows(100_000) == 20


def end_worker(voxels):
    os._exit(5)


@pytest.mark.slow
def test_a_worker_that_dies_while_learning_is_said(cases, runner, tmp_path):
    settings = habitat.HabitatModel(3).settings_for(["pet", "ct"])
    store = PoolStore(runner, cases[:1], settings, tmp_path)
    with pytest.raises(CohortError, match=r"case p0.*exit code 5"):
        store.each(end_worker)


def test_one_case_in_other_units_is_left_out(cases, tmp_path):
    given = [cases[0], small(4, "SUVlbm"), cases[1]]
    result = habitat.fit_cohort(given, tmp_path / "m", 3)
    same(result.model, habitat.HabitatModel(3).fit(cases[:2]))
    assert list(result.failures["case_id"]) == ["p4"]
    assert "SUVlbm" in result.failures.loc[0, "message"]
    with pytest.raises(CohortError, match="different channels or units"):
        habitat.fit_cohort(given[:2], tmp_path / "n", 3)


def test_a_tiny_case_is_said_to_weigh_as_much_as_the_others(cases, tmp_path):
    with pytest.warns(HabitatWarning, match="case p5 has"):
        result = habitat.fit_cohort([cases[0], small(5, size=2)], tmp_path / "m", 2)
    assert any("case p5 has" in note for note in result.notes)

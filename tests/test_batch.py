"""A batch over a cohort: what it writes, what it leaves alone, what it survives."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import habitat
from habitat.cohort._batch import runner_for
from habitat.cohort._pool import LocalRunner
from habitat.errors import CohortError, ConfigError, HabitatWarning
from habitat.features import RadiomicsSettings, Row, wide

ROOT = Path(habitat.__file__).parents[1]
SAMPLES = ROOT / "data_samples"
QUICK = ("composition", "shape")


def phantoms(folder, count, **options):
    """Small generated cases on disk, as rows of a table."""
    rows = []
    for i in range(count):
        p = habitat.phantom(radius_mm=12, margin_mm=15, random_state=i, **options)
        place = folder / f"p{i}"
        place.mkdir(parents=True)
        for name, image in (("pet", p.pet), ("ct", p.ct), ("mask", p.mask)):
            habitat.write(image, place / f"{name}.nii.gz")
        paths = {n: f"p{i}/{n}.nii.gz" for n in ("pet", "ct", "mask")}
        rows.append({"case_id": f"p{i}", **paths, "site": "AB"[i % 2]})
    return rows


def table(folder, rows, name="cohort.csv"):
    path = folder / name
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def digests(out):
    """Sha256 of every final file but run.json."""
    return {
        str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


@pytest.fixture(scope="module")
def worker():
    """One worker for all tests: to start it costs seconds."""
    with LocalRunner(1) as runner:
        yield runner


@pytest.fixture(autouse=True)
def one_worker(worker, monkeypatch):
    monkeypatch.setattr(
        "habitat.cohort._batch.runner_for", lambda *_: nullcontext(worker)
    )


@contextmanager
def real_processes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("habitat.cohort._batch.runner_for", runner_for)
        yield


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three small cases and their table."""
    folder = tmp_path_factory.mktemp("cohort")
    return table(folder, phantoms(folder, 3))


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("batch") / "out"
    with real_processes():
        return habitat.batch(habitat.read_cohort(cohort), out, k=2, jobs=2)


def test_each_case_has_its_result_and_all_tables_are_there(finished, cohort):
    assert finished.status == dict.fromkeys(("p0", "p1", "p2"), "done")
    assert finished.exit_code == 0
    assert {p.name for p in finished.out.iterdir()} == {
        *("cases", "features.csv", "features_wide.csv", "failures.csv"),
        *("notes.csv", "run.json"),
    }
    for case in habitat.read_cohort(cohort):
        saved = habitat.HabitatResult.load(finished.out / "cases" / case.case_id)
        direct = habitat.segment(case.images["pet"], case.images["ct"], case.mask, k=2)
        np.testing.assert_array_equal(saved.labels, direct.labels)
        assert saved.sources == direct.sources
    assert len(finished.failures) == 0
    run = json.loads((finished.out / "run.json").read_text())
    assert run["state"] == "finished"
    assert run["cases"] == {"done": 3, "failed": 0, "not run": 0}
    assert run["plan"]["segmentation"] == {"k": 2}
    assert all(one["peak_mb"] > 50 for one in run["of_cases"].values())


def test_tables_hold_what_extract_returns(finished, cohort):
    case = habitat.read_cohort(cohort)[1]
    result = habitat.segment(case.images["pet"], case.images["ct"], case.mask, k=2)
    direct = result.extract(case_id="p1")
    long = finished.features
    own = long[long["case_id"] == "p1"].reset_index(drop=True)
    # one thread in the worker, perhaps several here: the last bits may differ
    pd.testing.assert_frame_equal(own, direct, rtol=1e-9)
    rows = finished.wide
    assert list(rows["case_id"]) == ["p0", "p1", "p2"]
    assert list(rows["site"]) == ["A", "B", "A"]
    same = wide(long).set_index("case_id")
    pd.testing.assert_frame_equal(rows.set_index("case_id")[list(same)], same)


def test_a_second_run_leaves_everything_alone(finished, cohort):
    before = digests(finished.out)
    stamp = (finished.out / "cases" / "p0" / "case.json").stat().st_mtime_ns
    again = habitat.batch(habitat.read_cohort(cohort), finished.out, k=2)
    assert again.status == finished.status
    assert (finished.out / "cases" / "p0" / "case.json").stat().st_mtime_ns == stamp
    assert digests(finished.out) == before
    run = json.loads((finished.out / "run.json").read_text())
    assert all(one["unchanged"] for one in run["of_cases"].values())


def test_other_parameters_are_refused_unless_all_is_made_anew(finished, cohort):
    cases = habitat.read_cohort(cohort)
    before = digests(finished.out)
    with pytest.raises(CohortError, match=r"other parameters \(k 2, now 3\).*resume"):
        habitat.batch(cases, finished.out, k=3)
    assert digests(finished.out) == before


def test_jobs_and_order_do_not_change_a_byte(cohort, finished, tmp_path):
    rows = pd.read_csv(cohort).to_dict("records")
    other = table(cohort.parent, rows[::-1], "reversed.csv")
    again = habitat.batch(habitat.read_cohort(other), tmp_path / "o", k=2)
    one, two = digests(finished.out), digests(tmp_path / "o")
    assert {n: h for n, h in one.items() if n.startswith("cases")} == {
        n: h for n, h in two.items() if n.startswith("cases")
    }
    assert list(again.wide["case_id"]) == ["p2", "p1", "p0"]
    assert list(again.wide) == list(finished.wide)


def test_what_changed_is_made_anew_and_what_broke_is_in_no_table(tmp_path):
    rows = phantoms(tmp_path, 3)
    cases = habitat.read_cohort(table(tmp_path, rows))
    out = tmp_path / "out"
    habitat.batch(cases, out, k=2, families=QUICK)
    before = digests(out)
    ct = habitat.read(tmp_path / "p0" / "ct.nii.gz", unit="HU")
    habitat.write(ct.replace(ct.array + 1), tmp_path / "p0" / "ct.nii.gz")
    whole = (tmp_path / "p1" / "pet.nii.gz").read_bytes()
    (tmp_path / "p1" / "pet.nii.gz").write_bytes(b"<html>")
    result = habitat.batch(cases, out, k=2, families=QUICK)
    after = digests(out)
    assert result.status == {"p0": "done", "p1": "failed", "p2": "done"}
    assert result.exit_code == 1
    folders = [name for name in before if "cases" in name]
    changed = {n.split("/")[1] for n in folders if before[n] != after.get(n)}
    assert changed == {"p0"}  # p1's result stays: a disk may have been away
    failure = result.failures.iloc[0]
    assert (failure["case_id"], failure["kind"]) == ("p1", "InputError")
    assert "not a NIfTI (first bytes '<htm')" in failure["message"]
    assert "pet.nii.gz" in (out / failure["traceback"]).read_text()
    assert list(result.wide["status"]) == ["done", "failed", "done"]
    assert result.wide.loc[1].drop(["case_id", "status", "site"]).isna().all()
    assert set(result.features["case_id"]) == {"p0", "p2"}
    (tmp_path / "p1" / "pet.nii.gz").write_bytes(whole)
    stamp = (out / "cases" / "p1" / "case.json").stat().st_mtime_ns
    assert habitat.batch(cases, out, k=2, families=QUICK).exit_code == 0
    assert (out / "cases" / "p1" / "case.json").stat().st_mtime_ns == stamp


def test_a_stopped_run_says_what_it_did_not_look_at(cohort, tmp_path, monkeypatch):
    cases = habitat.read_cohort(cohort)
    habitat.batch(cases, tmp_path, k=2, families=QUICK)

    def stopped(run, runner, resume):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("habitat.cohort._run.Run.go", stopped)
        with pytest.raises(KeyboardInterrupt):
            habitat.batch(cases, tmp_path, k=2, families=QUICK)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["state"] == "stopped"
    assert run["cases"]["not run"] == 3
    assert len(list((tmp_path / "cases").iterdir())) == 3
    assert habitat.batch(cases, tmp_path, k=2, families=QUICK).exit_code == 0


def test_the_order_of_channels_counts(cohort, tmp_path):
    case = habitat.read_cohort(cohort)[0]
    ct = habitat.read(case.images["ct"], unit="HU")
    channels = {"a": case.images["pet"], "b": ct}
    for order in (["a", "b"], ["b", "a"]):
        images = {name: channels[name] for name in order}
        again = habitat.Case("x", images, case.mask)
        habitat.batch([again], tmp_path, k=2, families=("composition",))
        saved = habitat.HabitatResult.load(tmp_path / "cases" / "x")
        assert list(saved.images) == order


def one(subject, options):
    yield Row("tumor", "", "mine", 1.0)


def two(subject, options):
    yield Row("tumor", "", "mine", 2.0)


def test_a_family_of_ones_own_counts_by_what_it_is(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)[:1]
    first = habitat.batch(cases, tmp_path, k=2, families=(one,))
    assert list(first.features["value"]) == [1.0], first.failures.to_dict("records")
    with pytest.raises(
        CohortError, match=r"families .*test_batch\.one.*test_batch\.two"
    ):
        habitat.batch(cases, tmp_path, k=2, families=(two,))
    result = habitat.batch(cases, tmp_path, k=2, families=(two,), resume=False)
    assert list(result.features["value"]) == [2.0]


def test_what_the_table_gives_reason_to_doubt_is_said(cohort, tmp_path):
    rows = pd.read_csv(cohort).assign(splt="train").to_dict("records")
    path = table(cohort.parent, rows, "typo.csv")
    with pytest.warns(HabitatWarning, match="did you mean 'split'"):
        cases = habitat.read_cohort(path)
    result = habitat.batch(cases, tmp_path / "o", k=2, families=QUICK)
    assert "did you mean 'split'" in result.notes[0]
    notes = pd.read_csv(result.out / "notes.csv")
    assert set(notes["case_id"]) <= {"p0", "p1", "p2"}


def test_clutter_of_systems_is_no_obstacle(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)[:1]
    habitat.batch(cases, tmp_path, k=2, families=QUICK)
    for place in (tmp_path, tmp_path / "cases", tmp_path / "cases" / "p0"):
        (place / ".DS_Store").write_text("Finder was here")
    notes = habitat.batch(cases, tmp_path, k=2, families=QUICK).notes
    assert not any("belong to no case" in note for note in notes)
    (tmp_path / "cases" / "p0" / "thesis.docx").write_text("precious")
    result = habitat.batch(cases, tmp_path, k=2, families=QUICK, resume=False)
    assert "thesis.docx" in result.failures.loc[0, "message"]
    assert (tmp_path / "cases" / "p0" / "thesis.docx").exists()


def kill_worker(subject, options):
    """A family of features that takes its process down."""
    os.kill(os.getpid(), 9)


@pytest.mark.slow
def test_a_case_that_kills_its_worker_is_a_crash_of_its_own(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)[:1]
    with real_processes():
        result = habitat.batch(
            cases, tmp_path, k=2, families=("shape", kill_worker), jobs=1
        )
    assert list(result.failures["kind"]) == ["crashed"]
    assert "signal 9" in result.failures.loc[0, "message"]
    assert result.exit_code == 3


def test_wrong_arguments_touch_nothing(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="did you mean 'method'") as error:
        habitat.batch(cases, out, segmentation={"metod": "gmm"}, families=("shap",))
    assert "did you mean 'shape'" in str(error.value)
    with pytest.raises(ConfigError, match=r"habitat\.read_cohort"):
        habitat.batch(str(cohort), out)
    with pytest.raises(ConfigError, match="k"):
        habitat.batch(cases, out, k=1)
    for wrong, text in (
        ({"minvoxels": 3}, "did you mean 'min_voxels'"),
        ({"min_voxels": -5}, "must be an integer"),
        ({"spacing": float("nan")}, "spacing"),
        ({"settings": 3}, "RadiomicsSettings or a path"),
        ({"settings": {"pett": RadiomicsSettings()}}, "did you mean 'pet'"),
    ):
        with pytest.raises(ConfigError, match=text):
            habitat.batch(cases, out, extraction=wrong)
    with pytest.raises(ConfigError, match="is not fitted"):
        habitat.batch(cases, out, model=habitat.HabitatModel(2))
    assert not out.exists()


def test_folders_with_other_things_are_refused(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)
    with pytest.raises(CohortError, match=r"holds the table cohort\.csv"):
        habitat.batch(cases, cohort.parent)
    (tmp_path / "thesis.docx").write_text("precious")
    with pytest.raises(CohortError, match=r"did not write there: thesis\.docx"):
        habitat.batch(cases, tmp_path)


def test_settings_files_count_by_their_content(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)[:1]
    yaml = tmp_path / "params.yaml"
    yaml.write_text("setting:\n  binWidth: 25\nimageType:\n  Original: {}\n")
    options = {"families": ("radiomics",), "k": 2}
    out = tmp_path / "out"
    habitat.batch(cases, out, extraction={"settings": yaml}, **options)
    habitat.batch(cases, out, extraction={"settings": str(yaml)}, **options)
    yaml.write_text("setting:\n  binWidth: 50\nimageType:\n  Original: {}\n")
    with pytest.raises(CohortError, match="bin_width"):
        habitat.batch(cases, out, extraction={"settings": yaml}, **options)


def test_a_model_gives_all_cases_the_same_habitats(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)
    model = habitat.HabitatModel(k=3).fit(cases)
    result = habitat.batch(cases, tmp_path, model=model, families=QUICK)
    assert result.exit_code == 0
    for case in cases:
        saved = habitat.HabitatResult.load(tmp_path / "cases" / case.case_id)
        np.testing.assert_array_equal(saved.labels, model.segment(case).labels)
    with pytest.raises(ConfigError, match="no effect with a model"):
        habitat.batch(cases, tmp_path, model=model, segmentation={"grid": 2.0})


HOSTILE = (
    "../x",
    "a/b",
    "=cmd()",
    "<script>alert(1)</script>",
    "x" * 300,
    "病人一号",
    "🫁 lung",
    "CON",
    "-rf",
    "NA",
    "007",
)


def test_hostile_names_are_kept_as_text_and_stay_inside(cohort, tmp_path):
    first = pd.read_csv(cohort).iloc[0]
    source = {n: str(cohort.parent / first[n]) for n in ("pet", "ct", "mask")}
    images = {"pet": source["pet"], "ct": source["ct"]}
    cases = [  # the same tumor under many names of one patient
        habitat.Case(name, images, source["mask"], group="one") for name in HOSTILE
    ]
    out = tmp_path / "out"
    result = habitat.batch(cases, out, k=2, families=("composition",))
    assert result.status == dict.fromkeys(HOSTILE, "done")
    assert len(list((out / "cases").iterdir())) == len(HOSTILE)
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert list(result.wide["case_id"]) == list(HOSTILE)
    assert list(dict.fromkeys(result.features["case_id"])) == list(HOSTILE)
    text = (out / "features_wide.csv").read_text(encoding="utf-8")
    assert not any(line.startswith(("=", "+", "-", "@")) for line in text.splitlines())


def test_leftovers_of_a_killed_run_are_cleared(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)[:1]
    out = tmp_path / "out"
    (out / "cases" / ".part-123").mkdir(parents=True)
    (out / "cases" / ".old-123").mkdir()
    (out / ".part-9").write_text("half")
    habitat.batch(cases, out, k=2, families=QUICK)
    assert sorted(p.name for p in (out / "cases").iterdir()) == ["p0"]
    assert not list(out.glob(".*"))


def test_a_damaged_result_is_made_anew(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)[:1]
    habitat.batch(cases, tmp_path, k=2, families=QUICK)
    before = digests(tmp_path)
    (tmp_path / "cases" / "p0" / "labels.nii.gz").write_bytes(b"short")
    habitat.batch(cases, tmp_path, k=2, families=QUICK)
    assert digests(tmp_path) == before


def test_folders_of_cases_that_are_gone_are_named(cohort, tmp_path):
    cases = habitat.read_cohort(cohort)
    habitat.batch(cases[:2], tmp_path, k=2, families=QUICK)
    with pytest.warns(HabitatWarning, match="belong to no case of this cohort.*p1"):
        result = habitat.batch(cases[:1], tmp_path, k=2, families=QUICK)
    assert (tmp_path / "cases" / "p1").exists()
    assert list(result.wide["case_id"]) == ["p0"]
    assert any("p1" in note for note in result.notes)


def test_one_image_for_two_patients_is_said(cohort, tmp_path):
    one, two = habitat.read_cohort(cohort)[:2]
    copy = tmp_path / "copied.nii.gz"
    shutil.copy(one.images["pet"], copy)
    twice = habitat.Case("two", {"pet": copy, "ct": two.images["ct"]}, one.mask)
    with pytest.warns(HabitatWarning, match="cases p0 and two have the same pet"):
        habitat.batch([one, twice], tmp_path / "o", k=2, families=QUICK)


# --- the command line -----------------------------------------------------------------


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "habitat", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def break_ten(folder):
    """Twelve samples and ten broken cases, one row of BAD_INPUTS each."""
    rows = pd.read_csv(SAMPLES / "cohort.csv", dtype=str).to_dict("records")
    for row in rows:
        for name in ("pet", "ct", "mask"):
            row[name] = str(SAMPLES / row[name])
    good = {n: habitat.read(rows[0][n]) for n in ("pet", "ct", "mask")}

    def bad(number, text, **paths):
        row = {**{n: rows[0][n] for n in good}, **paths}
        wrong.append(({"case_id": f"row-{number}", "group": "patient-01", **row}, text))

    wrong = []
    raw = Path(rows[0]["ct"]).read_bytes()

    def file(name, content):
        (folder / name).write_bytes(content)
        return str(folder / name)

    def image(name, array, of="mask"):
        habitat.write(good[of].replace(array), folder / name)
        return str(folder / name)

    bad(1, "not found", pet=str(folder / "nowhere.nii.gz"))
    plain = gzip.decompress(raw)
    bad(
        2,
        "% of its voxels",
        ct=file("cut.nii", plain[: len(plain) // 2 + 100]),
    )
    bad(3, "not a NIfTI (first bytes '<htm')", pet=file("page.nii.gz", b"<html>"))
    mask = good["mask"].array
    bad(10, "no voxel is >0", mask=image("empty.nii.gz", mask * 0))
    several = mask.copy()
    several[tuple(np.argwhere(mask)[0])] = 2
    bad(12, "{1: ", mask=image("two.nii.gz", several))
    bad(
        13,
        "probability",
        mask=image(
            "soft.nii.gz",
            mask * np.float32(0.3)
            + np.linspace(0, 0.5, mask.size, dtype="f4").reshape(mask.shape),
        ),
    )
    bad(14, "negative", mask=image("minus.nii.gz", mask.astype("i2") * -1))
    few = np.zeros_like(mask)
    z, y, x = np.argwhere(mask).mean(axis=0).astype(int)
    few[z - 3 : z + 3, y - 6 : y + 6, x - 6 : x + 6] = 1
    bad(16, "cannot give 4 habitats", mask=image("few.nii.gz", few))
    bad(27, "swapped", pet=rows[0]["ct"], ct=rows[0]["pet"])
    bad(
        28,
        "look like Bq/ml",
        pet=image("bq.nii.gz", good["pet"].array * np.float32(5000), "pet"),
    )
    return rows, wrong


def test_twelve_samples_finish_beside_ten_broken_cases(tmp_path):
    rows, wrong = break_ten(tmp_path)
    path = table(
        tmp_path,
        [row for pair in zip(rows, [w for w, _ in wrong], strict=False) for row in pair]
        + rows[10:],
    )
    done = run("batch", path, "-o", tmp_path / "out", "--jobs", 2)
    assert done.returncode == 1, done.stderr
    assert "12 done" in done.stdout
    assert "10 failed" in done.stdout
    failures = pd.read_csv(tmp_path / "out" / "failures.csv", index_col="case_id")
    for row, text in wrong:
        assert text in failures.loc[row["case_id"], "message"] + str(
            failures.loc[row["case_id"], "fix"]
        ), row["case_id"]
    assert len(failures) == 10
    rows_wide = pd.read_csv(tmp_path / "out" / "features_wide.csv")
    assert (rows_wide["status"] == "done").sum() == 12
    assert len(rows_wide) == 22


@pytest.mark.slow
def test_the_real_patients_run_from_a_table(shared, tmp_path):
    folder = shared / "data" / "sts_petct"
    rows = [
        {
            "case_id": p.name,
            **{
                n: p / f
                for n, f in (
                    ("pet", "PET_image.nii.gz"),
                    ("ct", "CT_image.nii.gz"),
                    ("mask", "PET_mask.nii.gz"),
                )
            },
        }
        for p in sorted(folder.iterdir())
        if p.is_dir()
    ]
    assert len(rows) == 17
    with real_processes():
        result = habitat.batch(
            habitat.read_cohort(table(tmp_path, rows)), tmp_path / "out"
        )
    assert result.exit_code == 0, result.failures
    assert len(result.wide) == 17
    assert result.wide["h4_SUVbw_mean"].notna().all()


def test_options_from_a_file(cohort, tmp_path):
    config = tmp_path / "batch.toml"
    config.write_text(
        'k = 2\nfamilies = ["shape"]\n[segmentation]\n'
        'method = {name = "GMMOptions", covariance = "diag"}\n'
    )
    out = tmp_path / "out"
    done = run("batch", cohort, "-o", out, "--config", config, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    plan = json.loads((out / "run.json").read_text())["plan"]
    assert plan["segmentation"]["k"] == 2
    assert plan["segmentation"]["method"]["covariance"] == "diag"
    config.write_text("clsuters = 3\njbos = 2\nk = true\n")
    done = run("batch", cohort, "-o", out, "--config", config)
    assert done.returncode == 2
    assert "did you mean 'jobs'" in done.stderr
    assert "clsuters" in done.stderr
    assert "must be a whole number or a text, got True" in done.stderr


def test_check_lists_all_problems_and_says_so_in_its_exit_code(tmp_path, cohort):
    assert run("check", cohort).returncode == 0
    rows, wrong = break_ten(tmp_path)
    path = table(tmp_path, rows[:1] + [w for w, _ in wrong])
    done = run("check", path, "-o", tmp_path / "problems.json")
    assert done.returncode == 1, done.stderr
    found = json.loads((tmp_path / "problems.json").read_text())
    assert {p["case_id"] for p in found if p["level"] == "error"} >= {
        "row-1",
        "row-2",
        "row-3",
    }
    assert all(p["row"] > 1 for p in found if p["case_id"])

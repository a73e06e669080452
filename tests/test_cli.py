"""The command line, run as a user would."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import habitat
from habitat.cli import app
from tests.test_evaluate import cohort

ROOT = Path(habitat.__file__).parents[1]
CASE = ROOT / "data_samples" / "phantom-01"


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "habitat", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
    )


def inputs():
    return [CASE / f"{name}.nii.gz" for name in ("pet", "ct", "mask")]


def test_segment_writes_a_result_and_a_picture(tmp_path):
    done = run("segment", *inputs(), "-k", 3, "--rim-mm", 1.0, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "H3 SUV" in done.stdout
    assert f"Written to {tmp_path / 'out'}" in done.stdout
    assert (tmp_path / "out" / "habitats.png").stat().st_size > 10_000
    result = habitat.HabitatResult.load(tmp_path / "out")
    assert result.k == 3
    assert result.params["arguments"]["rim_mm"] == 1.0
    labels = sitk.ReadImage(str(tmp_path / "out" / "labels.nii.gz"))
    assert labels.GetSize() == result.labels.shape[::-1]
    again = run("segment", *inputs(), "-k", 3, "-o", tmp_path / "out")
    assert again.returncode == 0, again.stderr  # an earlier result is replaced


def test_features_are_written_beside_the_result(tmp_path):
    done = run("segment", *inputs(), "-k", 2, "--features", "-o", tmp_path / "p1")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "p1" / "features.csv")
    assert set(table["case_id"]) == {"p1"}
    assert {"tumor", "h1", "h2"} == set(table["region"])
    assert (table["feature"] == "original_glcm_Contrast").sum() == 6
    assert sorted(p.name for p in (tmp_path / "p1").iterdir())[0] == "features.csv"
    again = run("segment", *inputs(), "-k", 2, "-o", tmp_path / "p1")
    assert again.returncode == 0, again.stderr
    assert not (tmp_path / "p1" / "features.csv").exists()  # it was of the old map


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["-k", "1"], 2, "Error: `k`: must be an integer 2 to 20, got 1"),
        (["--scaling", "zscor"], 2, "did you mean 'zscore'?"),
        (["--label", "9"], 3, "Error: mask"),
        (["--no-such-option"], 2, "No such option"),
    ],
)
def test_wrong_use_is_one_clear_message(tmp_path, arguments, code, text):
    done = run("segment", *inputs(), *arguments, "-o", tmp_path / "out")
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_files_are_named(tmp_path):
    done = run("segment", "no_pet.nii", "no_ct.nii", "no_mask.nii", "-o", tmp_path)
    assert done.returncode == 3
    assert "3 problems" in done.stderr


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """Files of generated contrast phases, as --phase arguments, and their mask."""
    folder = tmp_path_factory.mktemp("phases")
    case = habitat.phantom("ct_phases", radius_mm=15, margin_mm=20)
    arguments = []
    for name, image in case.phases.items():
        habitat.write(image, folder / f"{name}.nii.gz")
        arguments += ["--phase", f"{name}={folder / name}.nii.gz"]
    habitat.write(case.mask, folder / "mask.nii.gz")
    return [folder / "mask.nii.gz", *arguments]


def test_segment_takes_phases_and_texture(tmp_path, phases):
    options = ["--register", "none", "--texture", "--prune", 0.7, "-k", 3]
    done = run("segment", *phases, *options, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    result = habitat.HabitatResult.load(tmp_path / "out")
    names = list(result.images)
    assert names[0] == "arterial-unenhanced"
    assert any(name.startswith("HU_glcm_") for name in names)
    assert all(image.is_map for image in result.images.values())
    assert "registered" in done.stdout  # a note says that they were not


def test_texture_of_a_single_phase(tmp_path, phases):
    done = run("segment", *phases[:3], "--texture", "-k", 3, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    names = list(habitat.HabitatResult.load(tmp_path / "out").images)
    assert all(name.startswith("HU_") for name in names)


def test_texture_of_the_ct_joins_pet_and_ct(tmp_path):
    done = run(
        "segment", *inputs(), "--texture", "--prune", 0.7, "-o", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    names = list(habitat.HabitatResult.load(tmp_path / "out").images)
    assert names[:2] == ["SUVbw", "HU"]
    assert any(name.startswith("HU_glcm_") for name in names)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--register", "none"], "--register: is of phases"),
        (["--prune", "0.7"], "--prune: is of maps"),
        (["--phase", "arterial"], "must be NAME=FILE"),
        (["--phase", "arterial=a.nii"], "MASK alone with --phase, got 3 files"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, options, text):
    done = run("segment", *inputs(), *options, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert text in " ".join(done.stderr.split())


def test_doctor_names_what_a_bug_report_needs():
    done = run("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("numba", "radiomics", "pyradiomics-bhklab", "kernel cache", "threads"):
        assert word in done.stdout


def test_train_and_predict_say_where_to_look(tmp_path):
    table, y = cohort(60, signal=2.0)
    table.insert(1, "status", "done")
    table["pdl1_tps"] = 30.0 * y
    batch, out = tmp_path / "batch", tmp_path / "out"
    batch.mkdir()
    table.to_csv(batch / "features_wide.csv", index=False)
    arguments = ["train", batch, "-o", out, "--folds", 3, "--repeats", 1]
    for _ in range(2):  # the second time in place of the first
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exit_code == 0, done.output
        assert f"Look first at {out / 'report.html'}" in done.output.splitlines()
    assert "Beside simple models and controls" in (out / "report.html").read_text(
        "utf-8"
    )
    arguments = ["predict", batch, "--model", out, "-o", tmp_path / "p.csv"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert len(pd.read_csv(tmp_path / "p.csv")) == 60


@pytest.mark.slow  # .ci/run does it before the tests
def test_demo_runs_the_road_on_generated_cases(tmp_path):
    done = run("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    page = tmp_path / "demo" / "report.html"
    assert done.stdout.splitlines()[-1] == f"Look first at {page}"
    text = page.read_text("utf-8")
    assert "Cohort of 12 cases" in text
    assert "Generated tumors: there is no patient behind any image" in text
    assert text.count("<li data-case=") == 12
    for name in ("phantom-01", "phantom-12"):
        folder = tmp_path / "demo" / "batch" / "cases" / name
        assert habitat.HabitatResult.load(folder).k == 4
    assert (tmp_path / "demo" / "training" / "evaluation.json").is_file()

"""Reports: what a reader sees, and that it is what the files say."""

import html
import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import habitat
from habitat.cli import app
from habitat.errors import ConfigError, HabitatWarning, InputError
from habitat.features import wide
from habitat.mil import MILClassifier
from habitat.reports import _view
from habitat.reports._page import Page, Section, Table, cell, render
from habitat.training import train
from tests.browser import open_page
from tests.dicom_factory import write_series
from tests.test_batch import phantoms, table

EVIL = "<script>alert(1)</script>"
LIMIT = 2_000_000  # bytes of a report on one tumor


def words(path):
    """Text of a page as it is read: no tags, styles or pictures."""
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>", " ", path.read_text("utf-8"))
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


@pytest.fixture(scope="module")
def tumor():
    p = habitat.phantom(radius_mm=15, margin_mm=15)
    return habitat.segment(p.pet, p.ct, p.mask, k=3)


@pytest.fixture(scope="module")
def saved(tumor, tmp_path_factory):
    return tumor.save(tmp_path_factory.mktemp("saved") / "P07")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A batch of ten small tumors, two of them broken, and a classifier."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = phantoms(folder, 10)
    (folder / "empty").mkdir()
    rows[8] |= {"case_id": "gone", "ct": "nowhere.nii.gz"}
    rows[9] |= {"case_id": EVIL, "pet": "empty"}
    for i, row in enumerate(rows):
        row["pdl1_tps"] = (0, 60)[i % 2]
    light = ("composition", "intensity")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)
        cases = habitat.read_cohort(table(folder, rows))
        model = habitat.HabitatModel(k=2).fit(cases[:8])
        done = habitat.batch(
            cases, folder / "batch", model=model, families=light, jobs=2
        )
        trained = train(
            done.out, folder / "training", cv=(2, 2), beside=("volume only",)
        )
    return done, trained


@pytest.fixture(scope="module")
def page(cohort, tmp_path_factory):
    """Report on the cohort, with those of its cases."""
    done, trained = cohort
    path = tmp_path_factory.mktemp("page") / "all cases.html"
    return habitat.report(
        done.out, path, model=trained.out, patients=True, about="generated tumors"
    )


def test_one_file_has_all_of_a_tumor(saved, tmp_path):
    path = habitat.report(saved, tmp_path / "p07.html")
    assert [p.name for p in tmp_path.iterdir()] == ["p07.html"]
    assert path.stat().st_size < LIMIT
    text = words(path)
    assert "For research use only" in text
    for title in (
        "Answer",
        "Images",
        "Habitats",
        "Values",
        "Certainty",
        "Input checks",
    ):
        assert f" {title} " in text
    found = habitat.HabitatResult.load(saved)
    for name, row in zip(found.names, found.table.itertuples(), strict=True):
        assert name in text
        assert f"{name} {row.voxels} {cell(row.volume_ml)}" in text
    tumor = wide(found.extract(families=("spatial",))).iloc[0]
    area = cell(tumor["tumor_border_area_1_2"] / 100)
    assert f"H1 {area} " in text
    assert "P07" in text
    assert habitat.segment.__name__ + "(PET, CT, MASK" in text
    assert found.sources["pet"]["sha256"] in text


def test_the_same_input_gives_the_same_bytes(tumor, saved, tmp_path):
    one = habitat.report(saved, tmp_path / "a.html").read_bytes()
    again = habitat.report(saved, tmp_path / "a.html").read_bytes()
    memory = habitat.report(tumor, tmp_path / "b.html", case_id="P07").read_bytes()
    method = tumor.report(tmp_path / "c.html", case_id="P07").read_bytes()
    assert one == again == memory == method


def test_a_script_as_a_name_is_text(tumor, tmp_path):
    path = habitat.report(tumor, tmp_path / "x.html", case_id=EVIL, about="<b>bold</b>")
    assert EVIL not in path.read_text("utf-8")
    found = open_page(path, tmp_path)
    assert found.console == []
    assert "<h1>&lt;script&gt;alert(1)&lt;/script&gt;</h1>" in found.dom
    assert "&lt;b&gt;bold" in found.dom


def test_pages_log_nothing_and_ask_for_nothing(page, saved, tmp_path):
    single = habitat.report(saved, tmp_path / "single.html")
    case = next(page.with_name("all cases_cases").iterdir())
    for i, path in enumerate((single, page, case)):
        scratch = tmp_path / str(i)
        scratch.mkdir()
        found = open_page(path, scratch)
        assert (found.console, found.requests) == ([], [])


def test_a_tumor_can_be_looked_through(saved, tmp_path):
    page = habitat.report(saved, tmp_path / "p 07.html", case_id=EVIL, view=True)
    view = tmp_path / "p 07_view.html"
    assert view.stat().st_size < 8_000_000
    assert 'href="p%2007_view.html"' in page.read_text("utf-8")
    assert EVIL not in view.read_text("utf-8")
    found = open_page(view, tmp_path, wait_ms=10_000)
    assert (found.console, found.requests) == ([], [])
    assert '<body data-ready="3">' in found.dom
    for name in habitat.HabitatResult.load(saved).names:
        assert f"</span>{name}</li>" in found.dom


def test_a_view_of_many_voxels_is_thinned_and_says_so(tumor, tmp_path, monkeypatch):
    viewer = Path(_view.__file__).parent / "vendor" / _view.NIIVUE
    monkeypatch.setattr(_view, "LIMIT", viewer.stat().st_size + 54_000)
    habitat.report(tumor, tmp_path / "x.html", view=True)
    text = (tmp_path / "x_view.html").read_text("utf-8")
    assert "Every voxel number 2 along each axis is shown" in text


def test_the_browser_would_tell(tmp_path):
    path = tmp_path / "bad.html"
    path.write_text(
        '<!doctype html><img src="http://127.0.0.1:9/a.png">'
        '<script>console.error("wrong")</script>',
        "utf-8",
    )
    found = open_page(path, tmp_path)
    assert any("wrong" in line for line in found.console)
    assert found.requests == ["http://127.0.0.1:9/a.png"]


def acted(path, script, scratch):
    """What a page becomes when a user has done something."""
    copy = scratch / "acted.html"
    text = path.read_text("utf-8")
    copy.write_text(
        text.replace("</body>", f"<script>{script}</script></body>"), "utf-8"
    )
    found = open_page(copy, scratch)
    assert found.console == []
    return found.dom


def test_a_click_sorts_numbers_as_numbers(tmp_path):
    rows = [["b", "10"], ["a", "9"], ["c", "\N{EN DASH}"], ["d", "\N{MINUS SIGN}1"]]
    part = Section("s", "S", [Table(["name", "value"], rows)])
    path = tmp_path / "t.html"
    path.write_text(render(Page("t", "green", [], [part])), "utf-8")
    names = re.compile(r"<tr><td>(\w)</td>")
    click = "document.querySelectorAll('thead th')[1].click();"
    assert names.findall(acted(path, click, tmp_path)) == ["d", "a", "b", "c"]
    assert names.findall(acted(path, 2 * click, tmp_path)) == ["c", "b", "a", "d"]


def test_a_page_of_a_cohort_has_the_same_bytes(page, cohort, tmp_path):
    done, trained = cohort
    options = {"model": trained.out, "about": "generated tumors"}
    one = habitat.report(done.out, tmp_path / "a.html", **options).read_bytes()
    assert habitat.report(done.out, tmp_path / "b.html", **options).read_bytes() == one


def test_ratings_are_kept_in_a_table(page, tmp_path):
    script = (
        "const first = document.querySelector('.mosaic input[value=bad]');"
        "first.click();"
        "window.Blob = class extends Blob { constructor(parts, o) { super(parts, o);"
        "document.title = parts[0]; } };"
        "document.querySelector('.save').click();"
    )
    dom = acted(page, script, tmp_path)
    title = re.search(r"(?s)<title>(.*?)</title>", dom)[1]
    head, first, *others = title.strip().split("\n")
    assert head == "case_id\trating"
    assert first.endswith("\tbad")
    assert len(others) == 7
    assert "1 of 8 rated, 1 bad" in dom


def test_the_cohort_page_says_what_the_files_say(page, cohort):
    done, trained = cohort
    text = words(page)
    assert "cases in the table 10" in text
    assert "with habitats 8" in text
    assert f"{EVIL} " in text
    assert EVIL not in page.read_text("utf-8")
    assert "nowhere.nii.gz" in text
    for message in done.failures["message"]:
        assert " ".join(message.split()) in text
    area = trained.evaluation.value("habitats")
    assert f"auc {cell(area)} " in text
    for note in trained.evaluation.notes:
        assert " ".join(note.split()) in text
    shares = pd.read_csv(done.out / "features_wide.csv")["h1_fraction"].dropna()
    assert f"h1 8 {cell(100 * shares.median())} (" in text
    assert "of class TPS &gt;= 1" in page.read_text("utf-8")
    items = json.loads((trained.out / "reporting.json").read_text("utf-8"))["items"]
    assert f"{sum(i['status'] == 'filled' for i in items)} items of CLEAR" in text


def test_tumors_stand_by_probability_and_link_to_their_pages(page, cohort):
    _, trained = cohort
    text = page.read_text("utf-8")
    found = trained.evaluation.predictions
    mean = found[found["model"] == "habitats"].groupby("case_id")["p_TPS >= 1"].mean()
    shown = re.findall(r'<li data-case="([^"]*)"', text)
    assert sorted(shown) == sorted(mean.index)
    assert (np.diff(mean[shown]) <= 0).all()
    for name in shown:
        assert f'href="all%20cases_cases/{name}.html"' in text
        assert (page.parent / "all cases_cases" / f"{name}.html").is_file()


def test_a_case_that_was_learned_from_is_told_so(page, cohort):
    _, trained = cohort
    text = words(page.parent / "all cases_cases" / "p0.html")
    found = trained.evaluation.predictions
    rows = found[(found["model"] == "habitats") & (found["case_id"] == "p0")]
    p = rows["p_TPS >= 1"].mean()
    assert f"Left out, its probability of TPS >= 1 was {p:.2f}" in text
    assert "Beside the training cohort" in text
    assert "log-odds it adds" in text


def test_contributions_add_up_to_the_prediction(cohort):
    done, trained = cohort
    classifier = trained.model
    row = pd.read_csv(done.out / "features_wide.csv").query("case_id == 'p3'")
    parts = classifier.coefficients_
    given = row[parts["feature"].iloc[:-1]].to_numpy(float)[0]
    scaled = (given - parts["mean"].iloc[:-1]) / parts["sd"].iloc[:-1]
    z = parts["coefficient"].iloc[-1] + scaled @ parts["coefficient"].iloc[:-1]
    p = classifier.predict_proba(row)[0, 1]
    assert 1 / (1 + np.exp(-z)) == pytest.approx(p)


def test_a_multi_instance_model_tells_the_score_of_each_habitat(cohort, tmp_path):
    done, _ = cohort
    kind = MILClassifier("mi_svm")
    with pytest.warns(HabitatWarning):
        trained = train(done.out, tmp_path / "mil", model=kind, cv=(2, 1), beside=())
    place = done.out / "cases" / "p2"
    path = habitat.report(place, tmp_path / "p2.html", model=trained.out)
    text = words(path)
    assert "habitat score" in text
    assert "Higher: toward the later class." in text


def test_habitats_of_another_model_are_refused(cohort, tumor, tmp_path):
    _, trained = cohort
    with pytest.raises(ConfigError, match="habitats of another model"):
        habitat.report(tumor, tmp_path / "x.html", model=trained.out)
    assert not list(tmp_path.iterdir())


def test_features_must_be_those_of_the_training(cohort, tmp_path):
    done, trained = cohort
    place = done.out / "cases" / "p1"
    result = habitat.HabitatResult.load(place)
    with pytest.raises(ConfigError, match="a map alone is not enough"):
        habitat.report(result, tmp_path / "x.html", model=trained.out)
    alone = shutil.copytree(place, tmp_path / "alone")
    with pytest.raises(ConfigError, match="made with other options"):
        habitat.report(alone, tmp_path / "x.html", model=trained.out)
    (alone / "features.csv").unlink()
    with pytest.raises(ConfigError, match="holds no features of p1"):
        habitat.report(alone, tmp_path / "x.html", model=trained.out)
    assert not (tmp_path / "x.html").exists()


def test_a_training_alone_has_a_page(cohort, tmp_path):
    _, trained = cohort
    text = words(habitat.report(trained.out, tmp_path / "t.html"))
    assert "Cohort of 8 cases" in text
    assert "All tumors" not in text
    assert "left out: " in text


def test_a_batch_alone_has_a_page(cohort, tmp_path):
    done, _ = cohort
    text = words(habitat.report(done.out, tmp_path / "b.html"))
    assert "Cohort of 10 cases" in text
    assert "How well it predicts" not in text
    assert "in the order of the table" in text


def test_wrong_arguments_are_named(cohort, saved, tmp_path):
    done, trained = cohort
    with pytest.raises(ConfigError, match="must end in .html"):
        habitat.report(saved, tmp_path / "x.pdf")
    with pytest.raises(ConfigError, match="is not there"):
        habitat.report(saved, tmp_path / "none" / "x.html")
    with pytest.raises(InputError, match="holds none of"):
        habitat.report(tmp_path, tmp_path / "x.html")
    with pytest.raises(ConfigError, match="names one tumor"):
        habitat.report(done.out, tmp_path / "x.html", case_id="a")
    with pytest.raises(ConfigError, match="is for a batch"):
        habitat.report(saved, tmp_path / "x.html", patients=True)
    with pytest.raises(ConfigError, match="is for one tumor"):
        habitat.report(done.out, tmp_path / "x.html", view=True)
    with pytest.raises(ConfigError, match="needs the maps of a batch"):
        habitat.report(trained.out, tmp_path / "x.html", patients=True)
    assert not list(tmp_path.iterdir())


def test_what_was_changed_is_refused(cohort, saved, tmp_path):
    done, trained = cohort
    shutil.copytree(saved, tmp_path / "result")
    with (tmp_path / "result" / "images.npz").open("ab") as file:
        file.write(b"0")
    with pytest.raises(InputError, match="missing or changed"):
        habitat.report(tmp_path / "result", tmp_path / "x.html")
    shutil.copytree(trained.out, tmp_path / "training")
    path = tmp_path / "training" / "metrics.csv"
    path.write_text(path.read_text().replace("auc", "AUC"))
    with pytest.raises(InputError, match="missing or changed"):
        habitat.report(done.out, tmp_path / "x.html", model=tmp_path / "training")
    shutil.copytree(done.out, tmp_path / "batch")
    run = tmp_path / "batch" / "run.json"
    run.write_text(run.read_text().replace('"finished"', '"stopped"'))
    with pytest.raises(InputError, match="not finished"):
        habitat.report(tmp_path / "batch", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_nothing_of_headers_that_names_a_patient(tmp_path):
    p = habitat.phantom(radius_mm=12, margin_mm=15)
    written = write_series(
        tmp_path / "ct",
        p.ct.array.astype(np.int16),
        modality="CT",
        spacing_zyx=p.ct.geometry.spacing,
        origin_xyz=p.ct.geometry.affine[:3, 3],
        AcquisitionDate="20190304",
        PatientBirthDate="19510607",
        InstitutionName="General Hospital",
    )
    found = habitat.segment(p.pet, tmp_path / "ct", p.mask, k=2)
    text = habitat.report(found, tmp_path / "x.html").read_text("utf-8")
    assert "Phantom" not in text
    found.save(tmp_path / "saved")
    text += habitat.report(tmp_path / "saved", tmp_path / "y.html").read_text("utf-8")
    for word in ("GENERATED", "2019", "1951", "General Hospital", written.series_uid):
        assert word not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    "channels", [("pet",), ("ct",), ("arterial", "venous"), ("pet", "ct", "more")]
)
def test_any_channels_have_a_page(channels, tmp_path):
    p = habitat.phantom(radius_mm=12, margin_mm=15)
    q = habitat.phantom(radius_mm=12, margin_mm=15, random_state=1)
    of = {"pet": p.pet, "ct": p.ct, "arterial": p.ct, "venous": q.ct, "more": q.pet}
    images = {name: of[name] for name in channels}
    found = habitat.segment_channels(images, p.mask, 2)
    path = habitat.report(found, tmp_path / "x.html")
    assert path.stat().st_size < LIMIT
    for name in channels:
        assert name in words(path) or name.upper() in words(path)


def test_a_chosen_k_shows_why(tmp_path):
    p = habitat.phantom(radius_mm=15, margin_mm=15)
    found = habitat.segment(p.pet, p.ct, p.mask, k="auto")
    assert "Choice of the number of habitats" in words(
        found.report(tmp_path / "x.html")
    )


def test_a_map_that_did_not_converge_is_red(tumor, tmp_path):
    bad = habitat.HabitatResult(**{**vars(tumor), "quality": {"converged": False}})
    path = habitat.report(bad, tmp_path / "x.html")
    assert "red : do not use" in words(path)


def test_numbers_are_short():
    assert cell(0.123456) == "0.123"
    assert cell(-2.0) == "\N{MINUS SIGN}2"
    assert cell(123456.7) == "123457"
    assert cell(float("nan")) == cell(None) == "\N{EN DASH}"
    assert cell(np.float32(1.5)) == "1.5"


def test_the_command_line_writes_it(saved, tmp_path):
    arguments = ["report", str(saved), "-o", str(tmp_path / "p.html")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"Written to {tmp_path / 'p.html'}" in done.output
    direct = habitat.report(saved, tmp_path / "q.html")
    assert direct.read_bytes() == (tmp_path / "p.html").read_bytes()

"""Names of folders, the guard against formulas, and tables streamed from cases."""

import csv
import json
import math
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import habitat
from habitat.cohort._names import safe_name
from habitat.cohort._tables import (
    Failed,
    Listed,
    _heads,
    read_table,
    write_failures,
    write_features,
    write_run,
)
from habitat.cohort._work import Failure
from habitat.errors import InputError
from habitat.features import Row, wide
from habitat.features._table import long
from habitat.saving import guarded, unguarded, write_table

# --- names ----------------------------------------------------------------------------

HOSTILE = [
    *("../x", "a/b", "a\\b", "..", ".", ".hidden", "-rf", "~", "a b", "a.", "$HOME"),
    *("CON", "con.txt", "nul", "COM1", "lpt9.log", "=cmd()", "<script>", "a:b", "a\0b"),
    *(
        "病人一号",
        "🫁",
        "é",
        "e\u0301",
        "a\n",
        "\udc80",
        "x" * 65,
        "x" * 5000,
        " a",
        "\u202eb",
    ),
]


@pytest.mark.parametrize(
    "name", ["P07", "STS_006", "a", "007", "NA", "a.b-c", "x" * 64]
)
def test_plain_names_are_kept(name):
    assert safe_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_become_safe_ones_with_a_hash(name):
    assert len(safe_name(name).rsplit("-", 1)[1]) == 12
    assert safe_name(name) != name


def test_no_two_hostile_names_share_a_folder():
    assert len({safe_name(name).casefold() for name in HOSTILE}) == len(HOSTILE)


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_a_name_is_one_folder_on_every_system(text):
    name = safe_name(text)
    assert name == safe_name(text)
    assert 0 < len(name) <= 64
    assert name.isascii()
    assert set(name) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )
    assert name[0].isalnum()
    assert name[-1] != "."
    assert name.split(".")[0].casefold() not in ("con", "prn", "aux", "nul", "com1")


# --- cells ----------------------------------------------------------------------------


@given(st.text(st.sampled_from("'=+-@\t\ra1")))
def test_the_guard_is_undone_and_nothing_guarded_is_a_formula(text):
    cell = guarded(text)
    assert unguarded(cell) == text
    assert cell[:1] not in tuple("=+-@\t\r")
    assert cell == text or cell == f"'{text}"


@pytest.mark.parametrize("number", [-1, -1.5, np.float64(-2), True, None])
def test_numbers_are_not_guarded(number):
    assert guarded(number) is number


# --- features -------------------------------------------------------------------------


def rows(k=2, seed=0, absent=(), families=("composition", "intensity")):
    """Rows as `extract` makes them, with pairs of habitats and rings."""
    rng = np.random.default_rng(seed)
    habitats = [f"h{i + 1}" for i in range(k)]
    regions = ["tumor", *habitats, "ring_0_3", "rim_0_3", "ring_10_20", "ring_3_10"]
    found = []

    def add(family, region, channel, feature, value=None):
        value = rng.lognormal(sigma=20) if value is None else value
        size = 0 if region in absent else 7
        value = value if size or feature == "present" else math.nan
        found.append((family, Row(region, channel, feature, value, voxels=size)))

    if "composition" in families:
        for region in regions:
            add("composition", region, "", "volume_ml")
            if region in habitats:
                add("composition", region, "", "present", float(region not in absent))
    if "spatial" in families:
        for i in range(1, k + 1):
            for j in range(i + 1, k + 1):
                add("spatial", "tumor", "", f"interaction_{i}_{j}")
    for channel in ("SUVbw", "HU") if "intensity" in families else ():
        for region in regions:
            for feature in ("mean", "p90"):
                add("intensity", region, channel, feature)
    return found


def cohort(out, made, **facts):
    """Folders with tables of cases, all listed in order; None is a failed case."""
    listed = []
    for case_id, found in made.items():
        name = safe_name(case_id)
        if found is not None:
            folder = out / "cases" / name
            folder.mkdir(parents=True, exist_ok=True)
            write_table(folder / "features.csv", long(case_id, found))
        case = habitat.Case(case_id, {"pet": "p"}, "m", **facts.get(case_id, {}))
        status = "failed" if found is None else "done"
        listed.append(Listed(case, case_id, status, name))
    return listed


def written(out, listed):
    write_features(out, listed, lambda case: out / "cases" / case.name)
    assert {p.name for p in out.iterdir()} <= {
        *("cases", "features.csv", "features_wide.csv")
    }
    long_bytes = (out / "features.csv").read_bytes()
    return long_bytes, (out / "features_wide.csv").read_bytes()


NUMBERS = ("value", "voxels", "voxels_used", "bins")


def test_tables_agree_with_pandas_and_floats_are_exact(tmp_path):
    made = {f"c{i}": rows(2 + i % 3, i, absent=("h2",)[: i % 2]) for i in range(5)}
    listed = cohort(tmp_path, made)
    written(tmp_path, listed)
    joined = pd.concat([long(name, found) for name, found in made.items()])
    table = read_table(tmp_path / "features.csv", NUMBERS)
    pd.testing.assert_frame_equal(
        table, joined.reset_index(drop=True), check_exact=True
    )
    own = read_table(tmp_path / "features_wide.csv").set_index("case_id")
    same = wide(joined).set_index("case_id")
    assert set(own) == {"status", *same}
    pd.testing.assert_frame_equal(own[list(same)], same, check_exact=True)
    read = wide(pd.read_csv(tmp_path / "features.csv")).set_index("case_id")
    pd.testing.assert_frame_equal(own[list(read)], read, rtol=1e-15)


def test_columns_do_not_depend_on_the_order_of_the_cases(tmp_path):
    families = ("composition", "spatial", "intensity")
    made = {f"c{k}": rows(k, k, families=families) for k in (2, 4, 3)}
    listed = cohort(tmp_path, made)
    one = written(tmp_path, listed)
    assert one == written(tmp_path, listed)
    lines = one[1].splitlines()
    for order in ((2, 1, 0), (1, 0, 2)):
        other = written(tmp_path, [listed[i] for i in order])[1].splitlines()
        assert other == [lines[0], *(lines[1 + i] for i in order)]
    columns = list(read_table(tmp_path / "features_wide.csv"))
    assert columns[2:8] == [
        "tumor_volume_ml",
        *(f"tumor_interaction_{a}_{b}" for a, b in ((1, 2), (1, 3), (1, 4), (2, 3))),
        "tumor_interaction_2_4",
    ]
    first = dict.fromkeys(c.rsplit("_SUVbw", 1)[0] for c in columns if "SUVbw" in c)
    assert list(first) == [
        *("tumor", "h1", "h2", "h3", "h4"),
        *("rim_0_3", "ring_0_3", "ring_3_10", "ring_10_20"),
    ]


def test_every_case_has_a_row_with_what_is_known_of_it(tmp_path):
    facts = {
        "a": {"site": "X", "clinical": {"age": 71.5}, "outcome": {"pdl1_tps": 60.0}},
        "b": {"group": "-g", "clinical": {"smoker": "=no", "age": math.nan}},
    }
    listed = cohort(tmp_path, {"a": rows(), "b": None, "c": rows(seed=1)}, **facts)
    listed += [Listed(None, "c", "failed", "c"), listed[0]._replace(status="not run")]
    written(tmp_path, listed)
    with (tmp_path / "features_wide.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(r["case_id"], r["status"]) for r in table] == [
        ("a", "done"), ("b", "failed"), ("c", "done"), ("c", "failed"), ("a", "not run")
    ]  # fmt: skip
    head = ["case_id", "status", "group", "site", "clin:age", "clin:smoker", "pdl1_tps"]
    assert list(table[0])[:7] == head
    assert [table[0][n] for n in head[2:]] == ["", "X", "71.5", "", "60.0"]
    assert [table[1][n] for n in head[2:]] == ["'-g", "", "", "'=no", ""]
    missing = [not any(list(r.values())[7:]) for r in table]
    assert missing == [False, True, False, True, True]


def test_presence_is_told_without_the_family_of_composition(tmp_path):
    made = {
        "a": rows(3, absent=("h2",), families=("intensity",)),
        "b": rows(2, families=("intensity",)),
    }
    written(tmp_path, cohort(tmp_path, made))
    table = read_table(tmp_path / "features_wide.csv").set_index("case_id")
    present = table[[f"h{i}_present" for i in (1, 2, 3)]]
    np.testing.assert_array_equal(present, [[1, 0, 1], [1, 1, np.nan]])
    assert table.loc["a", ["h2_SUVbw_mean", "h2_HU_p90"]].isna().all()


def test_an_outcome_does_not_hide_a_column(tmp_path):
    outcome = {"status": 1, "tumor_volume_ml": 2, "site": 3, "y": 4}
    facts = {"a": {"site": "X", "outcome": outcome}}
    written(tmp_path, cohort(tmp_path, {"a": rows()}, **facts))
    row = read_table(tmp_path / "features_wide.csv").iloc[0]
    assert row["status"] == "done"
    assert row["site"] == "X"
    assert row["out:y"] == 4
    assert [row[f"out:{n}"] for n in ("status", "tumor_volume_ml", "site")] == [1, 2, 3]


def test_hostile_names_are_text_in_all_tables(tmp_path):
    names = [
        "=cmd()",
        "+1",
        "@x",
        "'=x",
        "-2",
        'a"b,c',
        "two\nlines",
        "病人",
        "NA",
        "007",
    ]
    listed = cohort(tmp_path, dict.fromkeys(names, rows()))
    written(tmp_path, listed)
    assert list(read_table(tmp_path / "features_wide.csv")["case_id"]) == names
    table = read_table(tmp_path / "features.csv", NUMBERS)
    assert list(dict.fromkeys(table["case_id"])) == names
    for name in ("features.csv", "features_wide.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            assert not any(row[0][0] in "=+-@" for row in csv.reader(file))


def test_a_cohort_without_a_result_has_tables(tmp_path):
    written(tmp_path, cohort(tmp_path, {"a": None}))
    assert len(read_table(tmp_path / "features.csv", NUMBERS)) == 0
    table = read_table(tmp_path / "features_wide.csv")
    assert table.to_dict("records") == [{"case_id": "a", "status": "failed"}]


def test_earlier_tables_stay_where_new_ones_cannot_be_made(tmp_path):
    listed = cohort(tmp_path, {"a": rows(), "b": rows(seed=1)})
    before = written(tmp_path, listed)
    own = tmp_path / "cases" / "b" / "features.csv"
    for content in (b"case_id,value\nb,1\n", own.read_bytes()[:-1], b""):
        own.write_bytes(content)
        with pytest.raises(InputError, match=r"columns|ends early"):
            written(tmp_path, listed)
    own.unlink()
    with pytest.raises(InputError, match="features.csv"):
        written(tmp_path, listed)
    kept = [(tmp_path / n).read_bytes() for n in ("features.csv", "features_wide.csv")]
    assert kept == list(before)
    assert not list(tmp_path.glob(".*"))


def test_two_features_of_one_name_are_refused(tmp_path):
    found = [
        ("own", Row("tumor", "a", "b_c", 1.0)),
        ("own", Row("tumor", "a_b", "c", 2.0)),
    ]
    with pytest.raises(InputError, match="'tumor_a_b_c' twice"):
        written(tmp_path, cohort(tmp_path, {"a": found}))


@pytest.mark.slow
def test_two_thousand_cases_are_joined_in_little_memory_and_time(tmp_path):
    found = [("own", Row("tumor", "HU", f"f{i}", i / 7)) for i in range(1500)]
    listed = cohort(tmp_path, {"c0": found})
    source = tmp_path / "cases" / "c0"
    write_features(tmp_path, listed, lambda _: source)  # imports
    tracemalloc.start()
    write_features(tmp_path, listed * 20, lambda _: source)
    few = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    write_features(tmp_path, listed * 60, lambda _: source)
    many = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert many < few + 2**18
    start = time.process_time()
    write_features(tmp_path, listed * 2000, lambda _: source)
    assert time.process_time() - start < 30  # half of it on a busy machine


# --- failures and the record of the run -----------------------------------------------


def failure(text="why", trace="Traceback\n  line"):
    return Failure("InputError", text, "do this", trace)


def test_failures_are_listed_with_their_tracebacks(tmp_path):
    path = tmp_path / "failures.csv"
    failed = [
        Failed("../x", failure("=cmd(), two\nlines")),
        Failed("b", failure(trace="")),
        Failed("=a", failure("file \udc80.nii", "at \udc80\n")),
    ]
    write_failures(path, iter(failed))
    table = read_table(path, ())
    assert list(table) == ["case_id", "kind", "message", "fix", "traceback"]
    assert list(table["case_id"]) == ["../x", "b", "=a"]
    assert table["message"][0] == "=cmd(), two\nlines"
    assert table["message"][2] == r"file \udc80.nii"
    assert table["traceback"][1] == ""
    traces = [tmp_path / table["traceback"][i] for i in (0, 2)]
    assert [p.parent for p in traces] == [tmp_path / "tracebacks"] * 2
    assert [p.read_text() for p in traces] == ["Traceback\n  line", "at \\udc80\n"]
    assert "\n'=a," in path.read_text(encoding="utf-8")
    before = path.read_bytes()
    write_failures(path, failed)
    assert path.read_bytes() == before
    write_failures(path, failed[2:])
    assert list((tmp_path / "tracebacks").iterdir()) == [traces[1]]
    write_failures(path, [])
    assert [p.name for p in tmp_path.iterdir()] == ["failures.csv"]
    assert len(read_table(path, ())) == 0


def test_the_record_of_a_run_keeps_any_text(tmp_path):
    data = {"command": ["病人", "\udc80"], "cases": {"done": 1}}
    write_run(tmp_path / "run.json", data)
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert "病人" in text
    assert json.loads(text) == data


def test_outcomes_without_a_fixed_name_are_marked_as_such():
    facts = [(0, "site"), (1, "clin:age"), (2, "lung"), (2, "pdl1_tps"), (2, "site")]
    heads = _heads(facts, ["tumor_volume_ml"])
    assert heads == ["site", "clin:age", "out:lung", "pdl1_tps", "out:site"]

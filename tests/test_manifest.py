"""A cohort's table: what is read from it, and what is said against it."""

import datetime
import math
import pickle
import warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import habitat
from habitat.cohort import _pdl1
from habitat.cohort._manifest import Cohort, read_cohort, read_rows
from habitat.cohort._problems import table_of
from habitat.errors import CohortError, HabitatWarning

SAMPLES = Path(habitat.__file__).parents[1] / "data_samples" / "cohort.csv"
HEAD = "case_id,pet,ct,mask"


def row(name, *more):
    """A row with files of its own."""
    return ",".join((name, f"{name}p.nii", f"{name}c.nii", f"{name}m.nii", *more))


def write(folder, text, encoding="utf-8"):
    path = folder / "cohort.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


@pytest.fixture
def rows(tmp_path):
    """Read a table given as header and rows, without warnings."""

    def read(*lines, **options):
        return read_rows(write(tmp_path, "\n".join(lines), **options))

    return read


def found(cohort, level="error"):
    """(row, column) of all problems of a level."""
    return [(p.row, p.column) for p in cohort.problems if p.level == level]


def message(cohort, line, column):
    (one,) = [p for p in cohort.problems if (p.row, p.column) == (line, column)]
    return f"{one.message}; {one.fix}"


# --- what is read ---------------------------------------------------------------------


def test_every_column_finds_its_place(tmp_path):
    head = f"{HEAD},label,group,site,split,pdl1_tps,pdl1_assay,pdl1_specimen"
    head += ",pdl1_date,scan_date,tracer,registered,clin:age,clin:sex,out:os_days"
    line = "P1,pet.nii,/abs/ct,~/m.dcm,GTV 1,anna,A,Train,60%,22c3 pharmDx,biopsy"
    line += ",2024-03-05,2024-03-01,FDG,true,71,f,300"
    table = write(tmp_path, f"{head}\n{line}\n")
    with pytest.warns(HabitatWarning, match="2 warnings, the first: pdl1_tps: "):
        (case,) = habitat.read_cohort(table)
    assert case.case_id == "P1"
    assert case.images == {"pet": tmp_path / "pet.nii", "ct": Path("/abs/ct")}
    assert case.mask == Path.home() / "m.dcm"
    assert (case.label, case.group, case.site, case.split) == (
        *("GTV 1", "anna", "A"),
        "train",
    )
    assert case.clinical == {"age": 71.0, "sex": "f"}
    assert case.outcome == {
        "pdl1_tps": 60.0,
        "pdl1_tps_high": 60.0,
        "pdl1_assay": "22C3",
        "pdl1_specimen": "biopsy",
        "pdl1_days": 4.0,
        "tracer": "FDG",
        "registered": True,
        "os_days": 300.0,
    }
    assert pickle.loads(pickle.dumps(case)).outcome == case.outcome


def test_the_samples_are_read_with_a_word_on_what_they_cannot_teach():
    with pytest.warns(HabitatWarning, match="warnings, the first: pdl1_tps: .*fewer"):
        cohort = habitat.read_cohort(SAMPLES)
    assert isinstance(cohort, Cohort)
    assert len(cohort) == len(cohort.rows) == 12
    assert [r.line for r in cohort.rows] == list(range(2, 14))
    assert cohort[0].images["pet"].is_file()
    assert cohort[-1] is cohort.cases[11]
    assert cohort[:2] == cohort.cases[:2]
    assert next(reversed(cohort)).case_id == "phantom-12"
    assert repr(cohort) == "Cohort('cohort.csv': 12 cases)"
    assert not found(cohort)


def test_any_channels(rows):
    cohort = rows(
        "case_id,image:DCE 1,Image:ADC,IMAGE:ct,Mask,LABEL",
        "a,1,2,3,4,2.0",
        "b,5,6,7,8,x",
    )
    assert list(cohort[0].images) == ["ct", "DCE 1", "ADC"]
    assert [c.label for c in cohort] == [2, "x"]
    assert not cohort.problems


def test_pet_comes_first_however_columns_stand(rows):
    cohort = rows("image:x,mask,ct,pet,case_id", "1,2,3,4,a")
    assert list(cohort[0].images) == ["pet", "ct", "x"]


def test_rows_may_end_before_columns_without_a_name(rows):
    assert not rows(f"{HEAD},,", row("a"), row("b", ""), row("c", "", "", "")).problems


def test_rows_count_as_in_a_spreadsheet(rows):
    cohort = rows(
        *(f"{HEAD},clin:note", row("a", '"two\nlines"'), "", ",,,,", row("b"), ""),
        row("c", "x"),
    )
    assert [r.line for r in cohort.rows] == [2, 5, 7]
    assert cohort[0].clinical["note"] == "two\nlines"
    assert message(cohort, 5, "").startswith("the row has 4 cells, the table 5 columns")
    assert cohort.unusable == [("b", cohort.problems_of(cohort.rows[1]))]
    assert cohort.problems_of(cohort.rows[0]) == []


# --- what spreadsheets do to a table (BAD_INPUTS 46) ----------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_separators_and_line_ends(tmp_path, encoding, separator, newline):
    cells = [
        ["case_id", " pet", "ct ", "mask", "clin:größe", "", ""],
        ["病人一", "数据/甲 p.nii", "c.nii", "m.nii", "\u00a01.5 ", "", ""],
    ]
    text = newline.join(separator.join(line) for line in cells) + newline
    cohort = read_rows(write(tmp_path, text, encoding))
    assert not cohort.problems
    assert cohort[0].case_id == "病人一"
    assert cohort[0].images["pet"] == tmp_path / "数据" / "甲 p.nii"
    assert cohort[0].clinical == {"größe": 1.5}


def test_windows_text_is_read_with_a_warning(rows):
    cohort = rows(f"{HEAD},site", row("Müller", "Köln"), encoding="cp1252")
    assert (cohort[0].case_id, cohort[0].site) == ("Müller", "Köln")
    assert "Windows-1252" in message(cohort, 0, "")


def test_separator_line_of_excel(rows):
    cohort = rows("sep=;", HEAD.replace(",", ";"), row("a").replace(",", ";"))
    assert (cohort[0].case_id, cohort.rows[0].line) == ("a", 2)


def test_decimal_commas_need_another_separator(rows):
    head = f"{HEAD},clin:x,clin:y,out:z".replace(",", ";")
    lines = ["a;1;2;3;1,5;1.5;1,5", "b;4;5;6;2;2;1.5"]
    cohort = rows(head, *lines)
    assert cohort[0].clinical == {"x": 1.5, "y": 1.5}
    assert cohort[0].outcome == {"z": "1,5"}  # two signs in one column: no guess
    cohort = rows(f"{HEAD},clin:x", row("a", '"1,234"'))
    assert cohort[0].clinical == {"x": "1,234"}
    assert "'1,234' are kept as text: decimal commas?" in message(cohort, 0, "clin:x")


def test_na_is_a_name_but_no_value(rows):
    head = f"{HEAD},group,clin:age,clin:sex"
    cohort = rows(head, row("NA", "NA", "70", "N/A"), row("nan", "null", "", "m"))
    assert [c.case_id for c in cohort] == ["NA", "nan"]
    assert [c.group for c in cohort] == [None, None]
    assert [dict(c.clinical) for c in cohort] == [{"age": 70.0}, {"sex": "m"}]


def test_columns_that_are_empty_throughout_are_not_there(rows):
    cohort = rows(f"{HEAD},group,oddity,image:x,pdl1_tps", row("a", "", "NA", "", "-"))
    assert not cohort.problems
    assert list(cohort[0].images) == ["pet", "ct"]


def test_hostile_names_stay_text(rows):
    names = (
        "../x",
        "'=cmd()",
        "=1+1",
        "<script>",
        "x" * 300,
        "🫁",
        "-rf",
        "'@a",
        "007",
    )
    cohort = rows(HEAD, *map(row, names))
    guarded = {"'=cmd()": "=cmd()", "'@a": "@a"}
    assert [c.case_id for c in cohort] == [guarded.get(n, n) for n in names]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "holds no case"),
        (b"\n\n", "holds no case"),
        (HEAD.encode(), "holds no case"),
        (b"a,b\n1,2", "no column case_id, mask, pet and ct, or image:<name>"),
        (
            f"{HEAD}\nP,,,m".encode(),
            "no column pet and ct, or image:<name> with a value",
        ),
        (f"{HEAD}\n,p,c,m".encode(), "no column case_id with a value"),
        (f"{HEAD},PET\n{row('a', 'x')}".encode(), "more than once: pet"),
        (f"{HEAD},image:pet\n{row('a', 'x')}".encode(), "more than once: pet"),
        (f"{HEAD},out:status\n{row('a', 'x')}".encode(), "out:status is in use"),
        (f'{HEAD}\na,"p,c,m\nb,p,c,m'.encode(), "broken at row 2.*quote"),
        (f"{HEAD}\n{'y' * 200_000},p,c,m".encode(), "broken at row 2.*field"),
        (b"PK\x03\x04" + bytes(20), "Excel workbook.*CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0" + bytes(20), "Excel workbook"),
        (b"\x1f\x8b\x08", "is compressed"),
        (b"\xff\xfea", "no text in UTF-8"),
        (b"case_id\x81\x8d", "no text in UTF-8"),
    ],
)
def test_files_that_are_no_table(tmp_path, raw, text):
    path = write(tmp_path, raw)
    with pytest.raises(CohortError, match=rf"(?s)cohort\.csv.*{text}"):
        read_rows(path)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path, str(tmp_path / "a\0b")):
        with pytest.raises(CohortError, match="cannot be read"):
            read_rows(path)


# --- rows with errors -----------------------------------------------------------------


def test_all_problems_of_a_row_are_named_and_cost_no_other_row(tmp_path):
    head = f"{HEAD},label,pdl1_tps,pdl1_assay,pdl1_date,scan_date,registered"
    lines = [
        row("good", "", "40", "", "", "", ""),
        ",,c.nii,,,negative,28-Aug,03/04/2024,soon,maybe",
        row("NU\0L", *[""] * 6),
        row("long", *[""] * 6, "x"),
        row("short"),
        row("#REF!", *[""] * 6),
    ]
    table = write(tmp_path, "\n".join([head, *lines]))
    with pytest.warns(HabitatWarning) as seen:
        cohort = habitat.read_cohort(table)
    assert str(seen[0].message).startswith(
        "cohort.csv: 5 of 6 rows left out, the first: row 3 case_id: is empty"
    )
    assert [c.case_id for c in cohort] == ["good"]
    assert found(cohort) == [
        (3, "case_id"),
        (3, "pet"),
        (3, "mask"),
        (3, "pdl1_tps"),
        (3, "pdl1_date"),
        (3, "scan_date"),
        (3, "registered"),
        (3, "pdl1_assay"),
        (4, "case_id"),
        *((4, c) for c in ("pet", "ct", "mask")),
        (5, ""),
        (6, ""),
        (7, "case_id"),
    ]
    names = ["row 3", "NU\N{REPLACEMENT CHARACTER}L", "long", "short", "#REF!"]
    assert [name for name, _ in cohort.unusable] == names
    assert [len(why) for _, why in cohort.unusable] == [8, 4, 1, 1, 1]
    assert {p.case_id for p in cohort.problems if p.row} == set(names)
    assert repr(cohort) == "Cohort('cohort.csv': 1 cases, 5 rows left out)"
    shown = table_of(cohort.problems)
    assert list(shown["row"]) == sorted(shown["row"])
    assert set(shown["kind"]) == {"CohortError"}
    assert list(pd.DataFrame(cohort.problems)) == list(shown)
    assert not shown["message"].str.contains("2024").any()  # dates are not kept


def test_a_table_without_a_usable_row(tmp_path):
    table = write(tmp_path, f"{HEAD}\na,p,,m\n,p,c,m")
    with pytest.raises(
        CohortError, match=r"no row can be used.*row 2 \(a\) ct: is empty"
    ):
        habitat.read_cohort(table)
    assert len(read_rows(table)) == 0


# --- rows against each other (BAD_INPUTS 45) ------------------------------------------


def test_names_that_are_there_twice(rows):
    cohort = rows(HEAD, *map(row, ("a", "b", "A")), "b,1,2,3", row("c"), "b,4,5,6")
    assert [c.case_id for c in cohort] == ["c"]
    assert message(cohort, 2, "case_id").startswith("'a' is also in row 4 (upper and")
    assert message(cohort, 3, "case_id").startswith("'b' is also in rows 5, 7;")
    assert [name for name, _ in cohort.unusable] == ["a", "b", "A", "b", "b"]


def test_accents_count_once_however_they_are_stored(rows):
    assert len(rows(HEAD, row("e\u0301"), row("\u00e9"), row("e"))) == 1


def test_a_file_of_two_patients(rows):
    lines = ("a,p1,c1,m1,", "b,x/../p1,c2,m2,", "c,p3,c3,m3,", "d,p4,m3,m4,")
    cohort = rows(f"{HEAD},group", *lines)
    assert len(cohort) == 0
    assert "same file as in row 3, of another patient" in message(cohort, 2, "pet")
    assert "same file as in row 2" in message(cohort, 3, "pet")
    assert "row 5" in message(cohort, 4, "mask")
    assert "row 4" in message(cohort, 5, "ct")
    assert "same `group`" in message(cohort, 5, "ct")


def test_lesions_of_one_patient_may_share_files(rows):
    head = f"{HEAD},group,label"
    cohort = rows(head, "a,p,c,m,eva,1", "b,p,c,m,eva,2", "c,p,c,m,eva,1")
    assert len(cohort) == 3
    assert found(cohort, "warning") == [(4, "mask")]
    assert "those of row 2; one lesion twice?" in message(cohort, 4, "mask")


def test_a_row_that_names_one_file_twice(rows):
    cohort = rows(HEAD, "a,x,./x,m")
    assert cohort.problems[0].kind == "ModalityError"
    assert "same file as pet" in message(cohort, 2, "ct")


def test_a_patient_on_both_sides_of_a_split(rows):
    head = f"{HEAD},group,split"
    lines = [
        row("a", "eva", "Train"),
        row("b", "eva", "TEST"),
        row("c", "eva", "train"),
    ]
    cohort = rows(head, *lines, row("d", "tom", "test"), row("e", "tom", "test"))
    assert [c.split for c in cohort] == ["test", "test"]
    assert found(cohort) == [(2, "group"), (3, "group"), (4, "group")]
    assert "'eva' is in split 'train' here but not in row 3" in message(
        cohort, 2, "group"
    )


def test_splits_of_ones_own(rows):
    cohort = rows(
        f"{HEAD},split", row("a", "external"), row("b", "trian"), row("c", "NA")
    )
    assert [c.split for c in cohort] == ["external", "trian", None]
    assert "did you mean 'train'?" in message(cohort, 3, "split")


# --- columns --------------------------------------------------------------------------


def test_columns_that_are_not_used_are_named(rows):
    head = f"{HEAD},pdl1tps,CPS,age,clin:,pdl1_date,"
    cohort = rows(head, row("a", "60", "10", "70", "x", "2024-01-01", "stray"))
    assert "did you mean 'pdl1_tps'?" in message(cohort, 0, "pdl1tps")
    assert "CPS is not TPS" in message(cohort, 0, "CPS")
    assert "name it clin:age or out:age" in message(cohort, 0, "age")
    assert "not used" in message(cohort, 0, "clin")
    assert "give both pdl1_date and scan_date" in message(cohort, 0, "pdl1_date")
    assert "'stray' stands in a column without a name" in message(cohort, 2, "")
    assert found(cohort) == [(2, "")]


def test_numbers_with_one_text_among_them_are_text_and_said(rows):
    head = f"{HEAD},clin:age,clin:stage"
    lines = [row("a", "70", "2"), row("b", "7o", "IIIA"), row("c", "71", "IV")]
    cohort = rows(head, *lines)
    assert [c.clinical["age"] for c in cohort] == ["70", "7o", "71"]
    assert "1 of 3 values are no numbers, the first '7o' in row 3" in message(
        cohort, 0, "clin:age"
    )
    assert found(cohort, "warning") == [(0, "clin:age")]


@pytest.mark.parametrize("text", ["inf", "1e999", "1_000", "0x10", "٣", "1,5", "+-1"])
def test_what_is_no_number(rows, text):
    cohort = rows(f"{HEAD},clin:x", row("a", f'"{text}"'))
    assert cohort[0].clinical == {"x": text}


# --- PD-L1 ----------------------------------------------------------------------------

BELOW_1 = math.nextafter(1, 0)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("60", 60, 60),
        ("60%", 60, 60),
        (" 60 % ", 60, 60),
        ("60,5", 60.5, 60.5),
        ("0.5%", 0.5, 0.5),
        ("６０％", 60, 60),
        ("0", 0, 0),
        ("<1", 0, BELOW_1),
        ("< 1%", 0, BELOW_1),
        ("＜１％", 0, BELOW_1),
        (">=50", 50, 100),
        ("≥50 %", 50, 100),
        (">50", math.nextafter(50, 51), 100),
        ("<=1", 0, 1),
        ("1-49", 1, 49),
        ("1–49%", 1, 49),
        ("1% to 49%", 1, 49),
        ("1~49", 1, 49),
        ("100", 100, 100),
    ],
)
def test_scores_are_read(text, low, high):
    assert _pdl1.score(text)[1:] == (low, high)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "negative",
            "101",
            "-5",
            "49-1",
            "<0",
            ">100",
            "1.2.3",
            "60 60",
            "%",
            "<",
            "nan",
        ),
        *("50+", "1-", "5²", "½", "1-49-50", "10.05.2024", "10 CPS", "1e1"),
    ],
)
def test_scores_that_are_refused(text):
    with pytest.raises(CohortError, match="must be 0 to 100 percent"):
        _pdl1.score(text)


def test_scores_above_100_are_asked_about():
    with pytest.raises(CohortError, match="got '150', a CPS"):
        _pdl1.score("150")


def test_ranges_are_kept_as_their_ends_and_said(rows):
    cohort = rows(f"{HEAD},pdl1_tps", row("a", "1-49%"), row("b", "<1"), row("c", "60"))
    assert [c.outcome["pdl1_tps"] for c in cohort] == [1, 0, 60]
    assert [c.outcome["pdl1_tps_high"] for c in cohort] == [49, BELOW_1, 60]
    ranges, *classes = (p.message for p in cohort.problems)
    assert ranges == "1 values are ranges, such as '1-49%' in row 2"
    assert classes == [
        "2 cases with TPS >= 1 %, 1 below",
        "1 cases with TPS >= 50 %, 2 below",
    ]


def scores(*texts):
    return {i: _pdl1.score(text) for i, text in enumerate(texts, 2)}


def messages(problems):
    return [f"{p.message}; {p.fix}" for p in problems]


def test_fractions_are_suspected():
    head = messages(_pdl1.score_problems(scores("0", "0.6", "1")))[0]
    assert head.startswith("3 values are all between 0 and 1: they look like fractions")
    for texts in (("0", "1"), ("0.5", "60"), ("0.5%", "1%"), ("<1", "1")):
        assert "fractions" not in str(_pdl1.score_problems(scores(*texts)))


def test_small_classes_are_said():
    enough = ["0"] * 10 + ["20"] * 10 + ["80"] * 10
    assert _pdl1.score_problems(scores(*enough)) == []
    few = messages(_pdl1.score_problems(scores(*enough[:-1])))
    assert few == [
        "9 cases with TPS >= 50 %, 20 below; "
        "fewer than 10 in a class are too few to learn from"
    ]
    one = messages(_pdl1.score_problems(scores(*["20"] * 30)))
    assert all("with one class nothing can be learned" in text for text in one)
    assert len(one) == 2


def test_only_usable_rows_count_for_the_classes(rows):
    lines = [row(f"r{i}", "80" if i % 2 else "0") for i in range(20)]
    assert found(rows(f"{HEAD},pdl1_tps", *lines), "warning") == []
    lines[3] = "r3,,c,m,80"
    cohort = rows(f"{HEAD},pdl1_tps", *lines)
    assert "9 cases with TPS >= 1 %, 10 below" in str(cohort.problems)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("22c3", "22C3"),
        ("Dako 22C3 pharmDx", "22C3"),
        ("28-8", "28-8"),
        ("28–8", "28-8"),
        ("288", "28-8"),
        ("Ventana (SP263)", "SP263"),
        ("sp-142", "SP142"),
        ("E1L3N", "E1L3N"),
    ],
)
def test_assays_are_spelled_alike(text, name):
    assert _pdl1.assay(text) == name


@pytest.mark.parametrize("text", ["73-10", "28-Aug", "IHC", "SP263/SP142", "%"])
def test_other_assays_are_refused(text):
    with pytest.raises(CohortError, match=r"one of 22C3.*date of 28-8"):
        _pdl1.assay(text)


def test_mixed_assays_are_said(rows):
    lines = [row("a", "sp142"), row("b", "22C3"), row("c", "22c3"), row("d", "")]
    cohort = rows(f"{HEAD},pdl1_assay", *lines)
    text = message(cohort, 0, "pdl1_assay")
    assert "mixed: 22C3 2, SP142 1 (SP142 stains fewer tumor cells" in text
    assert not rows(f"{HEAD},pdl1_assay", *lines[1:]).problems


@pytest.mark.parametrize(
    "text",
    [
        *("2024-03-05", "2024/3/5", "20240305", "2024.03.05", "05.03.2024", "5.3.2024"),
        *("45356", "45356.75", "45356,5", "2024-03-05 00:00:00", "2024-03-05T10:00Z"),
    ],
)
def test_dates_are_read(text):
    assert _pdl1.day(text) == datetime.date(2024, 3, 5)


def test_dates_agree_with_pandas_on_excel_days():
    # independent source: pandas' own conversion with Excel's origin
    for serial in (20001, 36526, 45356, 79999):
        expected = pd.Timestamp("1899-12-30") + pd.Timedelta(days=serial)
        assert _pdl1.day(str(serial)) == expected.date()


@pytest.mark.parametrize("text", ["12/31/2024", "3/4/2024", "03-04-2024"])
def test_ambiguous_dates_are_refused(text):
    with pytest.raises(CohortError, match=r"ambiguous.*2024-12-31") as error:
        _pdl1.day(text)
    assert text not in str(error.value)


@pytest.mark.parametrize(
    "text", ["soon", "2024-13-01", "31.12.24", "123", "2024-1/2", "0"]
)
def test_texts_that_are_no_dates_are_refused(text):
    with pytest.raises(CohortError, match="cannot be read as a date"):
        _pdl1.day(text)


def test_days_between_tissue_and_scan(rows):
    head = f"{HEAD},pdl1_date,scan_date"
    lines = [
        row("a", "2024-01-31", "2024-01-01"),
        row("b", "45292", "01.02.2024"),
        row("c", "", "2024-01-01"),
    ]
    cohort = rows(head, *lines)
    assert [c.outcome.get("pdl1_days") for c in cohort] == [30, -31, None]
    assert found(cohort, "warning") == [(3, "pdl1_date")]
    assert "tissue was taken 31 days before the scan" in message(cohort, 3, "pdl1_date")


def test_images_that_are_not_registered_are_said(rows):
    cohort = rows(f"{HEAD},registered", row("a", "FALSE"), row("b", "1"))
    assert [c.outcome["registered"] for c in cohort] == [False, True]
    assert "habitat.register" in message(cohort, 2, "registered")


# --- anything at all ------------------------------------------------------------------

marks = st.text(alphabet="0123456789<>=≥≤-–~%,.+ to/T:٣５²eE\u2028\0'", max_size=14)


@given(marks | st.text(max_size=30))
@example("9" * 5000)
@example("99999999")
@example("1-" + "9" * 400)
def test_cells_are_read_or_refused(text):
    for parser in (_pdl1.score, _pdl1.assay, _pdl1.day):
        try:
            value = parser(text)
        except CohortError:
            continue
        if parser is _pdl1.score:
            assert 0 <= value.low <= value.high <= 100


OTHERS = ("label", "group", "split", "pdl1_tps", "pdl1_assay", "pdl1_date", "scan_date")
COLUMNS = st.sampled_from(
    (*HEAD.split(","), *OTHERS, "registered", "image:x", "clin:a", "out:b", "cps")
)
cells = st.one_of(
    st.sampled_from(["a", "A", "x", "", "NA", "~", "~nobody/x", "..", "train", "test"]),
    marks,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)
tables = st.lists(COLUMNS, min_size=4, max_size=8, unique=True).flatmap(
    lambda head: st.lists(
        st.lists(cells, min_size=len(head) - 1, max_size=len(head) + 1), max_size=5
    ).map(lambda body: [head, *body])
)


@given(
    tables,
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_tables_are_read_or_refused(
    tmp_path_factory, table, separator, encoding, quote
):
    def shown(cell):
        return '"' + cell.replace('"', '""') + '"' if quote else cell

    text = "\n".join(separator.join(map(shown, line)) for line in table)
    check_any(tmp_path_factory, text.encode(encoding))


@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
)
def test_bytes_are_read_or_refused(tmp_path_factory, raw):
    check_any(tmp_path_factory, raw)


def check_any(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(raw)
    try:
        cohort = read_rows(path)
    except CohortError:
        return
    usable = [r.case_id for r in cohort.rows if r.usable]
    assert usable == [c.case_id for c in cohort]
    assert len(set(map(str.casefold, usable))) == len(usable)
    assert all(why for _, why in cohort.unusable)
    assert len(cohort.unusable) + len(cohort) == len(cohort.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)
        if usable:
            assert read_cohort(path).problems == cohort.problems

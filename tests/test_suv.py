"""PET headers to SUV: reference objects, traps of real headers, bad headers."""

import math
import re
import zipfile

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from habitat.errors import HabitatError, HabitatWarning, SUVError
from habitat.io import read_dicom
from habitat.io._suv import _named_half_life, normalizer
from tests.dicom_factory import PET_TAGS, write_series

NOTED = {"3_0": "read as MBq", "4_2": "the day before"}
COARSE = (0.189, 0.985, 3.977)  # 2_3, whose stored integers are 5, 26, 105


def read(folder, noted=None, **options):
    if noted is None:
        return read_dicom(folder, **options)
    with pytest.warns(HabitatWarning, match=noted):
        return read_dicom(folder, **options)


def pet(folder, stored=(720, 3600, 14400), noted=None, suv="SUVbw", **tags):
    """Image of three slices of one row of stored voxels, and any other header."""
    slices = np.broadcast_to(np.array(stored, np.uint16), (3, 3))
    if np.ndim(stored) == 2:
        slices = np.array(stored, np.uint16)
    written = write_series(folder, slices[:, None, :], **tags)
    return read(written.folder, noted, suv=suv)


# --- the 17 digital reference objects of the IBSI SUV manual --------------------------

# Their headers, written here too so that they are tested anywhere:
# id -> (stored by slice or once: cold, background, hot), what differs from 0_0
USUAL = (720, 3600, 14400)
TABLE = {
    "0_0": (USUAL, {}),
    "1_0": (
        ((240, 1200, 4800), (180, 900, 3600), (240, 1200, 4800)),
        {"slopes": [3, 4, 3]},
    ),
    "2_0": ((2, 10, 40), {"Units": "GML", "SUVType": "BW", "slopes": 0.1}),
    "2_1": (
        (161, 807, 3229),
        {"Units": "GML", "SUVType": "LBMJAMES128", "slopes": 0.001},
    ),
    "2_2": (
        (99, 495, 1983),
        {"Units": "GML", "SUVType": "IBW", "PatientSex": "O", "slopes": 0.002},
    ),
    "2_3": ((5, 26, 105), {"Units": "CM2ML", "SUVType": "BSA", "slopes": 0.01}),
    "2_4": (
        (400, 2000, 8000),
        {"Units": "CNTS", "private": {(0x7053, 0x1000): ("DS", "0.0005")}},
    ),
    "2_5": (
        (1440, 7200, 28800),
        {"Units": "CNTS", "private": {(0x7053, 0x1009): ("DS", "0.5")}},
    ),
    "3_0": (USUAL, {"RadionuclideTotalDose": 368.08}),
    "3_1": ((1051, 5258, 21033), {"DecayCorrection": "ADMIN"}),
    "3_2": (
        USUAL,
        {
            "SeriesTime": "113000",
            "ActualFrameDuration": 603000,
            "per_slice": {
                "AcquisitionTime": ["110230", "110500", "110500"],
                "FrameReferenceTime": [450000, 600000, 600000],
            },
        },
    ),
    "3_3": (
        USUAL,
        {
            "AcquisitionTime": "113000",
            "private": {(0x0009, 0x100D): ("UN", b"20200101110000.00 ")},
        },
    ),
    "3_4": (
        ((697, 3488, 13952), (675, 3379, 13518), (675, 3379, 13518)),
        {
            "DecayCorrection": "NONE",
            "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "RAN"],
            "ActualFrameDuration": 603000,
            "per_slice": {"AcquisitionTime": ["110000", "110500", "110500"]},
        },
    ),
    "4_0": (USUAL, {"RadiopharmaceuticalStartTime": None}),
    "4_1": (USUAL, {"RadiopharmaceuticalStartDateTime": None}),
    "4_2": (
        USUAL,
        {
            "SeriesDate": "20200102",
            "AcquisitionDate": "20200102",
            "SeriesTime": "003000",
            "AcquisitionTime": "003000",
            "RadiopharmaceuticalStartDateTime": None,
            "RadiopharmaceuticalStartTime": "233000",
        },
    ),
    "5_0": ((568, 2843, 11372), {"RadionuclideHalfLife": 4057.7}),
}


@pytest.fixture(scope="session")
def dros(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dro")
    with zipfile.ZipFile(shared / "data/suv_dro/suv_dro_17.zip") as archive:
        archive.extractall(folder)
    return folder / "DRO"


@pytest.mark.parametrize("name", TABLE)
def test_digital_reference_objects(dros, name):
    image = read(dros / f"DRO_{name}" / "PT", NOTED.get(name))
    path = dros / f"DRO_{name}" / "mask" / "DRO_mask.nii.gz"
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(path))) > 0
    inside = image.array[mask]
    found = inside.min(), np.median(inside), inside.max()
    expected = COARSE if name == "2_3" else (0.20, 1.00, 4.00)
    np.testing.assert_allclose(found, expected, atol=0.005)
    assert image.unit == "SUVbw"
    assert len(image.notes) == (name in NOTED)


@pytest.mark.parametrize("name", TABLE)
def test_table_of_the_manual(tmp_path, name):
    stored, tags = TABLE[name]
    image = pet(tmp_path, stored, NOTED.get(name), **tags)
    expected = COARSE if name == "2_3" else (0.20, 1.00, 4.00)
    for row in image.array[:, 0]:
        np.testing.assert_allclose(row, expected, atol=0.005)


# --- what must not change, or must change in proportion -------------------------------


@pytest.fixture(scope="session")
def usual(tmp_path_factory):
    return pet(tmp_path_factory.mktemp("usual")).array


def test_twice_the_dose_is_half_the_suv(tmp_path, usual):
    half = pet(tmp_path, RadionuclideTotalDose=2 * 368.08e6)
    np.testing.assert_allclose(half.array, usual / 2, rtol=1e-6)


def test_all_clocks_a_day_later_is_the_same(tmp_path, usual):
    later = {
        "SeriesDate": "20200102",
        "AcquisitionDate": "20200102",
        "RadiopharmaceuticalStartDateTime": "20200102100000",
    }
    np.testing.assert_array_equal(pet(tmp_path, **later).array, usual)


@pytest.mark.parametrize(
    "dates",
    [
        {},
        {"SeriesDate": None, "AcquisitionDate": None},
        {"RadiopharmaceuticalStartDateTime": None},
        {"SeriesTime": "11:00:00", "SeriesDate": "2020.01.01"},
        {"RadiopharmaceuticalStartDateTime": "20200101100000.000000+0100"},
    ],
)
def test_dates_may_be_removed_or_old_fashioned(tmp_path, usual, dates):
    np.testing.assert_array_equal(pet(tmp_path, **dates).array, usual)


@pytest.mark.parametrize(
    ("injected", "zone"),
    [
        ("20200101090000+0000", "+0100"),
        ("20200101043000.00-0530", "+0000"),
        ("20191231230000-1100", "-0000"),
        ("20200101100000", "+0100"),
    ],
)
@pytest.mark.parametrize("clock", ["100000", None])
def test_injection_in_another_time_zone(tmp_path, usual, injected, zone, clock):
    tags = {
        "RadiopharmaceuticalStartDateTime": injected,
        "RadiopharmaceuticalStartTime": clock,
        "TimezoneOffsetFromUTC": zone,
    }
    image = pet(tmp_path, **tags)
    np.testing.assert_array_equal(image.array, usual)
    assert image.meta["suv"]["uptake_s"] == pytest.approx(3600, abs=1)


def test_decay_reference_in_another_time_zone(tmp_path):
    """Generated header: decay reference of GE at 10:00 UTC, scans an hour ahead."""
    tags = {
        "AcquisitionTime": "113000",
        "private": {(0x0009, 0x100D): ("UN", b"20200101100000.00+0000")},
    }
    image = pet(tmp_path / "known", TimezoneOffsetFromUTC="+0100", **tags)
    np.testing.assert_allclose(image.array[:, 0, 1], 1, atol=0.005)
    later = {"RadiopharmaceuticalStartDateTime": "20200101090000"}
    tags |= later | {"RadiopharmaceuticalStartTime": None}
    noted = "decay reference has a UTC offset, but TimezoneOffsetFromUTC is missing"
    image = pet(tmp_path / "unknown", noted=noted, **tags)
    np.testing.assert_allclose(image.array[:, 0, 1], 1, atol=0.005)


@pytest.mark.parametrize("day", ["SeriesDate", "AcquisitionDate"])
def test_dates_may_be_missing_in_some_slices(tmp_path, usual, day):
    image = pet(tmp_path, per_slice={day: ["20200101", None, None]})
    np.testing.assert_array_equal(image.array, usual)
    assert image.notes == ()


def test_over_midnight_with_full_dates_needs_no_guess(tmp_path, usual):
    tags = {
        "SeriesDate": "20200102",
        "AcquisitionDate": "20200102",
        "SeriesTime": "002000",
        "AcquisitionTime": "002000",
        "RadiopharmaceuticalStartDateTime": "20200101232000",
        "RadiopharmaceuticalStartTime": "232000",
    }
    image = pet(tmp_path, **tags)
    np.testing.assert_allclose(image.array, usual, rtol=1e-6)
    assert image.notes == ()


def test_midnight_is_a_time(tmp_path, usual):
    tags = {
        "SeriesTime": "010000",
        "AcquisitionTime": "010000",
        "RadiopharmaceuticalStartDateTime": None,
        "RadiopharmaceuticalStartTime": "000000",
    }
    np.testing.assert_allclose(pet(tmp_path, **tags).array, usual, rtol=1e-6)


def test_start_and_admin_and_none_agree_on_one_activity(tmp_path):
    """One true SUV of 1, as the three decay corrections would store it."""
    half_life, dose, wait, frame = 6586.2, 368.08e6, 3600.0, 300.0
    rate = math.log(2) / half_life
    at_injection = dose / 70_000
    at_start = at_injection * math.exp(-rate * wait)
    mean = at_start * (1 - math.exp(-rate * frame)) / (rate * frame)
    for name, value in (("ADMIN", at_injection), ("START", at_start), ("NONE", mean)):
        image = pet(
            tmp_path / name,
            (1000, 1000, 1000),
            slopes=value / 1000,
            DecayCorrection=name,
            CorrectedImage=["ATTN"] if name == "NONE" else ["ATTN", "DECY"],
        )
        np.testing.assert_allclose(image.array, 1.0, rtol=2e-4)


def test_facts_are_kept_without_dates_or_names(tmp_path):
    image = pet(tmp_path)
    facts = image.meta["suv"]
    assert facts["units"] == "BQML"
    assert facts["decay_correction"] == "START"
    assert (facts["weight_kg"], facts["height_m"], facts["sex"]) == (70.0, 1.75, "M")
    assert facts["dose_bq"] == 368.08e6
    assert facts["half_life_s"] == 6586.2
    assert facts["uptake_s"] == pytest.approx(3600, abs=1)
    # SUV 1 is 3600 Bq/mL here, the manual's own rounding
    np.testing.assert_allclose(facts["factors"], [1 / 3600] * 2, rtol=1e-3)
    everything = repr(image.meta)
    assert "Generated" not in everything
    assert "GENERATED" not in everything
    assert "2020" not in everything


# --- other units ----------------------------------------------------------------------


def test_units_asked_for_differ_by_their_normalizers(tmp_path, usual):
    written = write_series(tmp_path, np.full((2, 2, 2), 3600, np.uint16))
    got = {
        u: read_dicom(tmp_path, suv=u) for u in ("SUVbw", "SUVlbm", "SUVbsa", "Bq/mL")
    }
    assert {u: image.unit for u, image in got.items()} == {u: u for u in got}
    # 9270 * 70 / (6680 + 216 * 22.857) = 55.857 kg; Du Bois 1.8481 m2
    lean, surface = 55.857, 1.8481
    one = got["SUVbw"].array[0, 0, 0]
    assert got["SUVlbm"].array[0, 0, 0] == pytest.approx(one * lean / 70, rel=1e-4)
    assert got["SUVbsa"].array[0, 0, 0] == pytest.approx(one * surface / 7, rel=1e-4)
    assert got["Bq/mL"].array[0, 0, 0] == 3600
    assert written.folder == tmp_path


def test_stored_suv_changes_its_normalizer_without_the_dose(tmp_path):
    tags = {"Units": "GML", "SUVType": "BW", "RadionuclideTotalDose": None}
    image = pet(tmp_path, (1, 2, 4), suv="SUVlbm", **tags)
    lean = 55.857 / 70
    np.testing.assert_allclose(image.array[0, 0], [lean, 2 * lean, 4 * lean], rtol=1e-4)
    assert image.meta["suv"]["suv_type"] == "BW"


@pytest.mark.parametrize(
    ("kind", "sex", "expected"),
    [  # worked by hand for 70 kg, 175 cm
        ("BW", "F", 70_000),
        ("LBM", "M", 57_800),
        ("LBM", "F", 51_220),
        ("LBMJAMES128", "M", 56_520),
        ("LBMJAMES128", "F", 51_220),
        ("LBMJANMA", "F", 45_197),
        ("IBW", "M", 72_380),
        ("IBW", "F", 66_430),
        ("IBW", "O", 69_405),
        ("BSA", "M", 18_481),
    ],
)
def test_normalizers(kind, sex, expected):
    assert normalizer(kind, 70, 175, sex) == pytest.approx(expected, abs=1)


def test_gml_and_admin_need_no_times_and_gml_no_dose(tmp_path):
    bare = {
        key: None
        for key in PET_TAGS
        if key.startswith(("Radio", "Patient", "Acq", "Frame", "Actual"))
    }
    image = pet(tmp_path / "gml", (1, 2, 4), Units="GML", SUVType="BW", **bare)
    np.testing.assert_array_equal(image.array[0, 0], [1, 2, 4])
    dose = {"RadionuclideTotalDose": 70e6, "PatientWeight": 70}
    tags = bare | dose | {"DecayCorrection": "ADMIN"}
    image = pet(tmp_path / "admin", (1000, 2000, 4000), **tags)
    np.testing.assert_allclose(image.array[0, 0], [1, 2, 4], rtol=1e-6)


def test_suv_cannot_become_activity(tmp_path):
    with pytest.raises(SUVError, match="stored as SUV, not as activity; ask for SUVbw"):
        pet(tmp_path, suv="Bq/mL", Units="GML")


def test_james_fails_for_the_very_heavy(tmp_path):
    tags = {"SUVType": "LBMJAMES128", "PatientWeight": 300, "PatientSize": 1.5}
    with pytest.raises(SUVError, match="formula of LBMJAMES128 gives -182"):
        pet(tmp_path, Units="GML", **tags)


# --- bad headers ----------------------------------------------------------------------

LATER = {"AcquisitionTime": "093000", "SeriesTime": "093000"}
NO_DATE = {"RadiopharmaceuticalStartDateTime": None}
BAD = [  # tags, message
    ({"PatientWeight": None}, "PatientWeight is missing or 0; enter the weight"),
    ({"PatientWeight": 0}, "PatientWeight is missing or 0"),
    ({"PatientWeight": 1}, "PatientWeight is 1 kg, outside 2 to 400"),
    ({"PatientWeight": 700}, "PatientWeight is 700 kg, outside 2 to 400"),
    ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing or 0"),
    ({"RadionuclideTotalDose": 0.5}, "RadionuclideTotalDose is 0.5 Bq, outside 1e5"),
    ({"RadionuclideTotalDose": 3e10}, "is 3e[+]10 Bq, outside 1e5 to 2e10"),
    (LATER, "injection is 30.0 min after the scan .injection at 10:00:00"),
    (LATER | NO_DATE, "injection is after the scan, or 23.5 h .*more than 8.0 h"),
    (
        {"RadiopharmaceuticalStartDateTime": "20191231100000"},
        "25.0 h from injection to scan .*more than 8.0 h",
    ),
    (
        NO_DATE | {"RadionuclideHalfLife": 282276, "Radiopharmaceutical": "Zr89"},
        "no date, and at a half-life of 78 h days may lie before",
    ),
    *(  # in one slice the date of the scan is missing
        (
            {"RadionuclideHalfLife": 282276, "DecayCorrection": decay}
            | {"RadiopharmaceuticalStartDateTime": "20191229100000"}
            | {"per_slice": {"AcquisitionDate": ["20200101", None, "20200101"]}},
            "scan has no date, and at a half-life of 78 h",
        )
        for decay in ("START", "NONE")
    ),
    (
        NO_DATE | {"RadiopharmaceuticalStartTime": None},
        "RadiopharmaceuticalStartTime are missing",
    ),
    (
        {"AcquisitionTime": None, "SeriesTime": None},
        "AcquisitionTime is missing in 3 slices",
    ),
    ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
    ({"CorrectedImage": ["DECY", "NORM"]}, "lacks ATTN; use the attenuation"),
    ({"CorrectedImage": None}, "CorrectedImage .absent. lacks ATTN"),
    ({"CorrectedImage": ["ATTN"]}, "lacks DECY, but DecayCorrection is START"),
    ({"CorrectedImage": ["ATTN", "DECAY"]}, "lacks DECY"),
    ({"DecayCorrection": None}, "DecayCorrection must be START, ADMIN or NONE, is abs"),
    (
        {"DecayCorrection": "NONE", "ActualFrameDuration": None},
        "NONE, and a slice has no ActualFrameDuration",
    ),
    ({"Units": "CNTS"}, "without the factors of Philips .7053,1000., .7053,1009."),
    ({"Units": "PROPCPS"}, "Units are PROPCPS, not BQML"),
    ({"Units": None}, "Units are absent"),
    ({"Units": "GML", "SUVType": "BSA"}, "Units GML with SUVType 'BSA'"),
    ({"intercept": -3}, "RescaleIntercept of PET must be 0, is -3"),
    ({"slopes": [1, 0, 1]}, "RescaleSlope is not positive in 1 of 3 slices"),
    ({"suv": "SUVlbm", "PatientSex": None}, "PatientSex must be M, F or O, is missing"),
    ({"suv": "SUVlbm", "PatientSize": 0}, "PatientSize is missing or 0"),
    ({"per_slice": {"Units": ["BQML", "GML", "GML"]}}, "Units differs between slices"),
]


@pytest.mark.parametrize(("tags", "message"), BAD)
def test_bad_headers_are_refused(tmp_path, tags, message):
    with pytest.raises(SUVError, match=message) as caught:
        pet(tmp_path, **tags)
    assert str(tmp_path) in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path):
    tags = {"PatientWeight": 0, "RadionuclideTotalDose": 0, "AcquisitionTime": None}
    tags |= {"SeriesTime": None, "RadionuclideHalfLife": None, "CorrectedImage": ["X"]}
    with pytest.raises(SUVError, match="6 problems") as caught:
        pet(tmp_path, **tags)
    for word in ("Weight", "Dose", "HalfLife", "ATTN", "DECY", "AcquisitionTime"):
        assert word in str(caught.value)


MIXED_DATES = {
    "AcquisitionDate": ["20200101", "20200101", None],
    "AcquisitionTime": ["110000", "110500", "111000"],
}
NOTES = [  # tags, message, SUV of the background voxel
    ({"PatientWeight": 70_000}, "PatientWeight 70000 was read as grams: 70 kg", 1.0),
    ({"RadionuclideTotalDose": 368.08}, "368.08 was read as MBq", 1.0),
    ({"PatientSize": 175, "suv": "SUVlbm"}, "PatientSize 175 was read as cm", 0.798),
    ({"RadionuclideHalfLife": None, "Radiopharmaceutical": "^18^F"}, "6586.2 s of", 1),
    (
        {"RadionuclideHalfLife": 4057.7, "Radiopharmaceutical": "Fluoride F-18"},
        "4057.7 s is -38.4 % off the 6586.2 s",
        1.266,
    ),
    (
        {"FrameReferenceTime": None},
        "time or duration is missing: decay was corrected to the series time",
        1.0,
    ),
    (
        {"FrameReferenceTime": None, "SeriesTime": "113000"},
        "decay was corrected to the earliest acquisition time",
        1.0,
    ),
    (
        {"FrameReferenceTime": None, "SeriesTime": "130000", "SeriesDate": None},
        "decay was corrected to the earliest acquisition time",
        1.0,
    ),
    (
        {"FrameReferenceTime": None, "SeriesTime": "105500", "AcquisitionDate": None},
        "decay was corrected to the series time",
        0.969,  # 5 min of decay less
    ),
    (
        {"FrameReferenceTime": None} | {"SeriesTime": None, "per_slice": MIXED_DATES},
        "decay was corrected to the earliest acquisition time",
        1.0,
    ),
    (
        {"DecayCorrection": "NONE"},
        "contradicts itself .*DECY.*: DecayCorrection was followed",
        1.016,  # as not corrected: mean of a frame of 300 s
    ),
    (
        {"RadiopharmaceuticalStartDateTime": "20200101090000+0000"},
        "has a UTC offset, but TimezoneOffsetFromUTC is missing: .*StartTime was used",
        1.0,
    ),
    (
        {"RadiopharmaceuticalStartDateTime": "20200101100000+0000"}
        | {"RadiopharmaceuticalStartTime": None},
        "has a UTC offset, but TimezoneOffsetFromUTC is missing: .* as local time",
        1.0,
    ),
    (
        {"per_slice": {"FrameReferenceTime": [150000, 400000, 400000]}},
        "frame reference times disagree by 250 s",
        1.0,
    ),
    ({"RadiopharmaceuticalStartTime": "101000"}, "StartTime disagree; the former", 1.0),
    (
        {"RadiopharmaceuticalStartDateTime": "20200101084000"}
        | {"RadiopharmaceuticalStartTime": None},
        "FDG uptake time is 140 min, outside 45 to 90",
        1.657,
    ),
]


@pytest.mark.parametrize(("tags", "message", "background"), NOTES)
def test_repairs_are_warned_and_noted(tmp_path, tags, message, background):
    image = pet(tmp_path, noted=message, **tags)
    assert any(re.search(message, note) for note in image.notes)
    np.testing.assert_allclose(image.array[:, 0, 1], background, atol=0.005)


@pytest.mark.parametrize(
    ("name", "half_life"),
    [
        ("^18^Fluorine", 6586.2),
        ("PSMA-1007 F-18", 6586.2),
        ("68Ga-PSMA-11", 4057.7),
        ("^89^Zirconium", 282_276),
        ("Choline C-11", 1221.8),
        ("PSMA-11", None),
        ("FDG", None),
    ],
)
def test_nuclide_is_known_by_its_name(name, half_life):
    drug = pydicom.Dataset()
    drug.Radiopharmaceutical = name
    expected = math.nan if half_life is None else half_life
    np.testing.assert_equal(_named_half_life(drug), expected)


def test_days_between_are_right_for_long_lived_nuclides(tmp_path):
    tags = {
        "RadionuclideHalfLife": 282_276.0,
        "Radiopharmaceutical": "Zr-89 antibody",
        "RadiopharmaceuticalStartDateTime": "20191229110000",
        "RadiopharmaceuticalStartTime": "110000",
        "RadionuclideTotalDose": 70e6,
    }
    share = 0.5 ** (3 * 86400 / 282_276)
    image = pet(tmp_path, (1000, 1000, 1000), **tags)
    np.testing.assert_allclose(image.array, 1 / share, rtol=1e-4)


# --- garbage --------------------------------------------------------------------------

FUZZED = [
    *PET_TAGS,
    "RescaleSlope",
    "RescaleIntercept",
    "SUVType",
    "RadiopharmaceuticalInformationSequence",
]
GARBAGE = st.one_of(
    st.just(b""),
    st.sampled_from([b"NaN ", b"-1", b"1e300 ", b"1e-300", b"inf ", b"1\\2 ", b"O "]),
    st.sampled_from([b"240000", b"99999999", b"00000000000000", b"19991231235959.9 "]),
    st.binary(max_size=12),
)


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    stored = np.full((1, 2, 2), 3600, np.uint16)
    return write_series(tmp_path_factory.mktemp("fuzz"), stored).files[0]


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.dictionaries(st.sampled_from(FUZZED), GARBAGE, max_size=4))
@example({"RescaleSlope": b"1e300 "})
def test_garbage_in_headers_raises_only_habitat_errors(template, tmp_path, changes):
    path = tmp_path / "fuzzed.dcm"
    _with_raw(template, changes).save_as(path)
    try:
        image = read_dicom(path)
    except HabitatError:
        return
    assert np.isfinite(image.array).all()


def _with_raw(template, changes):
    """Change the raw bytes of some attributes, or (nothing) remove them."""
    ds = pydicom.dcmread(template)
    inner = ds.RadiopharmaceuticalInformationSequence[0]
    for keyword, raw in changes.items():
        tag = pydicom.datadict.tag_for_keyword(keyword)
        target = inner if tag in inner else ds
        vr = pydicom.datadict.dictionary_VR(tag)
        if raw == b"" or vr == "SQ":
            target.pop(tag, None)
            continue
        even = raw + b" " * (len(raw) % 2)
        target[tag] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(tag), vr, len(even), even, 0, False, True
        )
    return ds

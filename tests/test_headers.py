"""Cases judged by their headers, and the memory they are thought to need."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import habitat
from habitat import Geometry, Image
from habitat.case import Case
from habitat.cohort._headers import check_case, check_files, estimate
from habitat.errors import HabitatError, HabitatWarning
from habitat.io import _memory, write
from tests.dicom_factory import write_series

GRID = Geometry.from_spacing((6, 8, 8), (3, 2, 2))
VALUES = np.random.default_rng(1).integers(0, 90, GRID.shape)


def shifted(x_mm):
    affine = GRID.affine.copy()
    affine[0, 3] += x_mm
    return Geometry(GRID.shape, affine)


@pytest.fixture
def files(tmp_path):
    """Paths of a PET, a CT and a mask that are as they should be."""
    mask = np.zeros(GRID.shape, np.uint8)
    mask[2:4, 2:6, 2:6] = 1
    arrays = {"pet": VALUES / 9, "ct": VALUES.astype(np.int16), "mask": mask}
    paths = {name: tmp_path / f"{name}.nii.gz" for name in arrays}
    for name, array in arrays.items():
        write(Image(array, GRID), paths[name])
    return paths


def case(files, case_id="A", **changes):
    paths = {**files, **changes}
    options = {key: paths.pop(key) for key in ("label", "group") if key in paths}
    return Case(case_id, {n: paths[n] for n in ("pet", "ct")}, paths["mask"], **options)


def kinds(problems):
    return [(p.level, p.column, p.kind) for p in problems]


def test_a_good_case_has_no_problems(files):
    assert check_case(case(files)) == []
    assert check_case(case({n: habitat.read(p) for n, p in files.items()})) == []


def test_all_problems_of_a_case_are_told_at_once_as_segment_tells_them(files):
    files["pet"].unlink()
    files["ct"].write_bytes(b"<html>")
    bad = case(files, mask=files["mask"].with_name("none.nii"))
    found = check_case(bad)
    assert kinds(found) == [
        ("error", name, "InputError") for name in ("pet", "ct", "mask")
    ]
    assert {(p.row, p.case_id) for p in found} == {(0, "A")}
    with pytest.raises(HabitatError) as caught:
        habitat.segment(bad.images["pet"], bad.images["ct"], bad.mask)
    for problem in found:
        assert f"{problem.message}; {problem.fix}" in str(caught.value)


def test_rows_20_to_22_grids_that_are_off(files):
    write(Image(VALUES, shifted(500)), files["pet"])
    (problem,) = check_case(case(files))
    assert problem.level == "error"
    assert problem.message == "pet: 0% of the mask lies in the pet image"
    write(Image(VALUES, shifted(2)), files["pet"])
    (problem,) = check_case(case(files))
    assert problem.level == "warning"
    assert "shifted header?" in problem.message


def test_one_image_in_two_channels(files):
    copy = files["ct"].with_name("copy.nii.gz")
    copy.write_bytes(files["ct"].read_bytes())
    (problem,) = check_case(case(files, pet=copy))
    assert problem.message == "channels: pet and ct are the same image"


def test_pet_and_ct_exchanged_where_headers_tell(files, tmp_path):
    pet = write_series(tmp_path / "PET", VALUES.astype(np.uint16)).folder
    ct = write_series(tmp_path / "CT", VALUES.astype(np.int16), modality="CT").folder
    found = check_case(case(files, pet=ct, ct=pet))
    assert kinds(found)[:2] == [("error", n, "DicomError") for n in ("pet", "ct")]
    known = Image(VALUES, GRID, unit="HU")
    (problem,) = check_case(case(files, pet=known))
    assert (problem.kind, problem.column) == ("ModalityError", "pet")


def test_warnings_of_headers_and_memory_keep_no_case_from_running(files, monkeypatch):
    flat = Image(VALUES[:1], Geometry((1, 8, 8), GRID.affine))
    write(flat, files["ct"])
    monkeypatch.setattr("habitat.cohort._headers.available", lambda: 1000)
    found = check_case(case(files))
    assert {p.level for p in found} == {"warning"}
    assert any("a single slice" in p.message for p in found)
    assert any("GB of memory" in p.message for p in found)


def test_arrays_and_pairs_of_masks(files):
    arrays = {n: habitat.read(p).array for n, p in files.items()}
    assert check_case(case(arrays)) == []
    assert estimate(case(arrays)) == estimate(case(files, **arrays))
    (problem,) = check_case(case({**arrays, "pet": arrays["pet"][1:]}))
    assert "one shape" in problem.message
    (problem,) = check_case(case(files, mask=(files["mask"],)))
    assert "a pair has two masks" in problem.message
    pair = (files["mask"], files["mask"].with_name("none.nii"))
    assert kinds(check_case(case(files, mask=pair))) == [
        ("error", "mask", "InputError")
    ]


def test_row_45_one_image_in_two_cases(files, tmp_path):
    copy = tmp_path / "other.nii.gz"
    copy.write_bytes(files["pet"].read_bytes())
    other = tmp_path / "other_ct.nii.gz"
    write(Image(VALUES[::-1], GRID), other)
    two = [case(files), case(files, "B", pet=copy, ct=other)]
    (problem,) = check_files(two)
    assert (problem.case_id, problem.column, problem.level) == ("B", "pet", "error")
    assert "pet is the same image as pet of 'A'" in problem.message
    lesions = [case(files, group="P", label=1), case(files, "B", group="P", label=2)]
    assert check_files(lesions) == []
    again = [case(files, group="P"), case(files, "B", group="P")]
    assert len(check_files(again)) == 2
    assert check_files([case(files), case(files, "C", pet=other, ct=tmp_path)]) == []


# --- memory ---------------------------------------------------------------------------

_MEASURE = """
import json, resource, sys, warnings
from pathlib import Path
from habitat import extract, read
from habitat.segmentation import segment_channels
warnings.simplefilter("ignore")
images, mask, folder = json.loads(sys.argv[1])
images = {name: read(path) for name, path in images.items()}
result = segment_channels(images, mask)
extract(result, images)
result.save(Path(folder) / "result")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def measured(one, folder):
    """Most memory of a fresh process that segments, extracts and saves a case."""
    images = {name: str(path) for name, path in one.images.items()}
    text = json.dumps([images, str(one.mask), str(folder)])
    command = [sys.executable, "-c", _MEASURE, text]
    threads = dict.fromkeys(("HABITAT_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    env = os.environ | threads
    return int(subprocess.run(command, check=True, stdout=-1, env=env).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
@pytest.mark.parametrize("name", ["STS_006", "STS_018", "STS_047", "STS_009", "breast"])
def test_row_53_estimate_is_enough_and_not_far_more(shared, tmp_path, name):
    if name == "breast":
        folder = shared / "data/breast_dce/UCSF-BR-06"
        names = ("phase0_pre", "phase1_early", "phase2_late")
        images = {n: folder / f"{n}.nii.gz" for n in names}
        one = Case(name, images, folder / "mask_breast_seg.nii.gz")
    else:
        folder = shared / "data/sts_petct" / name
        images = {n: folder / f"{n.upper()}_image.nii.gz" for n in ("pet", "ct")}
        one = Case(name, images, folder / "PET_mask.nii.gz")
    used = measured(one, tmp_path)
    assert used <= estimate(one) <= 3 * used


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
def test_row_53_a_whole_body_with_the_mask_on_its_ct(tmp_path):
    rng = np.random.default_rng(0)
    ct = Geometry.from_spacing((300, 400, 400), (3, 1.2, 1.2))
    pet = Geometry.from_spacing((300, 120, 120), (3, 4, 4))
    mask = np.zeros(ct.shape, np.uint8)
    mask[140:155, 180:220, 180:220] = 1
    write(
        Image(rng.integers(-999, 999, ct.shape, np.int16), ct), tmp_path / "ct.nii.gz"
    )
    write(Image(rng.random(pet.shape, np.float32), pet), tmp_path / "pet.nii.gz")
    write(Image(mask, ct), tmp_path / "mask.nii.gz")
    images = {name: tmp_path / f"{name}.nii.gz" for name in ("pet", "ct")}
    one = Case("whole", images, tmp_path / "mask.nii.gz")
    used = measured(one, tmp_path)
    assert used <= estimate(one) <= 3 * used


def test_estimate_counts_what_can_be_read(files):
    whole = estimate(case(files))
    files["ct"].write_bytes(b"")
    assert 0 < estimate(case(files)) < whole


def test_the_estimate_does_not_ask_for_free_memory(files, monkeypatch):
    monkeypatch.setattr(_memory, "available", lambda: 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HabitatWarning)
        assert estimate(case(files)) > 1000

"""RTSTRUCT contours to masks: real files, rules at edges, bad contours."""

from __future__ import annotations

import hashlib
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from habitat.errors import (
    DicomError,
    GeometryError,
    HabitatError,
    HabitatWarning,
    MaskError,
)
from habitat.geometry import Geometry
from habitat.image import Image
from habitat.io._masks import read_mask
from habitat.io._rtstruct import rasterize
from tests.dicom_factory import Written, write_series

SHAPE = (6, 24, 30)
SPACING = (3.0, 2.0, 1.5)
SQUARE = np.array([(4.5, 5.5), (4.5, 15.5), (12.5, 15.5), (12.5, 5.5)])  # (y, x) index
HOLE = np.array([(6.5, 8.5), (6.5, 11.5), (9.5, 11.5), (9.5, 8.5)])
# the ring of both as one outline that runs in and out on the same line
KEYHOLE = np.array([*SQUARE[:1], *HOLE[[0, 3, 2, 1, 0]], *SQUARE[[0, 3, 2, 1]]])


def square_mask(slices: slice = slice(1, 4)) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[slices, 5:13, 6:16] = True
    return mask


def rotation(seed: int) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.sign(np.linalg.det(q))


def grid_of(directions: Any = None, origin: Any = (0.0, 0.0, 0.0)) -> Geometry:
    axes = np.eye(3)[:, ::-1] if directions is None else directions
    affine = np.eye(4)
    affine[:3, :3] = axes * SPACING
    affine[:3, 3] = origin
    return Geometry(SHAPE, affine)


def item(points: Any, kind: str = "CLOSED_PLANAR") -> Dataset:
    ds = Dataset()
    ds.ContourGeometricType = kind
    ds.NumberOfContourPoints = len(points)
    ds.ContourData = [f"{v:.11g}"[:16] for v in np.ravel(points)]
    return ds


def unchecked(text: str) -> Dataset:
    """A contour with any text for coordinates."""
    ds = item(np.zeros((4, 3)))
    ds.add_new(0x30060050, "UT", text)
    return ds


def drawn(
    outline: Any, slices: Any, grid: Geometry, kind: str = "CLOSED_PLANAR"
) -> Any:
    """One contour of (y, x) indices on each of the slices."""
    outline = np.asarray(outline)
    return [
        item(grid.world(np.column_stack([np.full(len(outline), z), outline])), kind)
        for z in slices
    ]


def write_rtstruct(
    path: Path,
    structures: dict[str, list[Dataset]],
    *,
    frame_uid: str = "",
    series_uid: str = "",
) -> Path:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    ds.SOPInstanceUID, ds.Modality = generate_uid(), "RTSTRUCT"
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(structures.items(), 1):
        roi, rows = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        roi.ReferencedFrameOfReferenceUID = frame_uid
        rows.ReferencedROINumber, rows.ContourSequence = number, contours
        ds.StructureSetROISequence.append(roi)
        ds.ROIContourSequence.append(rows)
    frame, study, series = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = series_uid
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = frame_uid
    frame.RTReferencedStudySequence = [study]
    ds.ReferencedFrameOfReferenceSequence = [frame]
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("patient") / "CT"
    zeros = np.zeros(SHAPE, np.int16)
    return write_series(folder, zeros, modality="CT", spacing_zyx=SPACING)


@pytest.fixture
def write(series: Written, tmp_path: Path) -> Any:
    def call(structures: Any, **uids: str) -> Path:
        known = {"frame_uid": series.frame_uid, "series_uid": series.series_uid}
        return write_rtstruct(tmp_path / "RS.dcm", structures, **{**known, **uids})

    return call


def read_on(path: Path, contours: Any, grid: Geometry | None = None) -> Image:
    """Write contours without any series and read them on a given grid."""
    write_rtstruct(path, {"GTV": contours})
    return read_mask(path, reference=grid or grid_of())


# --- real files -----------------------------------------------------------------------


def same_voxels(mask: Image, nifti: Image) -> bool:
    """Whether the masks hold the same world positions, cropped or not."""
    index = mask.geometry.index(nifti.geometry.world(np.argwhere(nifti.array)))
    assert np.abs(index - index.round()).max() < 0.001
    want = set(map(tuple, index.round().astype(int).tolist()))
    return want == set(map(tuple, np.argwhere(mask.array).tolist()))


@pytest.mark.parametrize(("modality", "voxels"), [("PET", 5197), ("CT", 83436)])
def test_patient_gives_the_masks_of_the_ibsi(shared, modality, voxels):
    path = shared / f"data/sts_petct_dicom/STS_006/{modality}/mask/RS.dcm"
    mask = read_mask(path)
    nifti = read_mask(shared / f"data/sts_petct/STS_006/{modality}_mask.nii.gz")
    assert mask.array.sum() == voxels
    assert same_voxels(mask, nifti)
    assert mask.meta["structure"] == f"GTV_Mass_{modality}"
    assert mask.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_ct_phantom_gives_the_mask_of_the_ibsi(shared):
    folder = shared / "data/ibsi1/ct_phantom"
    mask = read_mask(folder / "dicom/mask", label="gtv-1")  # the folder is enough
    nifti = read_mask(folder / "nifti/mask/mask.nii.gz")
    assert mask.array.sum() == 125256  # shared/data/README.md
    assert same_voxels(mask, nifti)


def edge_distance(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    a, b = outline, np.roll(outline, -1, axis=0)
    step = b - a
    length = np.maximum((step**2).sum(-1), 1e-30)
    t = ((points[:, None] - a) * step).sum(-1) / length
    nearest = a + np.clip(t, 0, 1)[..., None] * step
    return np.linalg.norm(points[:, None] - nearest, axis=-1).min(1)


def test_suv_reference_objects_against_matplotlib(shared, tmp_path):
    # Their NIfTI mask is the whole cylinder (18 slices of 11,289 voxels), the RTSTRUCT
    # a threshold contour in it on 16 slices: the outlines themselves are the oracle.
    with zipfile.ZipFile(shared / "data/suv_dro/suv_dro_17.zip") as archive:
        names = archive.namelist()
        mine = [n for n in names if "DRO_2_3/" in n or "/RS/" in n]
        archive.extractall(tmp_path, mine)
    paths = sorted(tmp_path.glob("DRO/*/RS/*.dcm"))
    assert len(paths) == 17
    full = read_mask(tmp_path / "DRO/DRO_2_3/RS/RS_dro_2_3.dcm")
    nifti = read_mask(tmp_path / "DRO/DRO_2_3/mask/DRO_mask.nii.gz")
    dice = 2 * (full.array & nifti.array).sum() / (full.array.sum() + nifti.array.sum())
    assert dice == pytest.approx(0.92455, abs=1e-5)
    for path in paths:
        # one series is enough, all are on one grid; frames of reference differ
        mask = read_mask(path, reference=full.geometry)
        assert (mask.array == full.array).all()
    contours = dcmread(paths[0]).ROIContourSequence[0].ContourSequence
    centers = np.argwhere(np.ones(full.array.shape[1:], bool)).astype(float)
    for contour in contours[::4]:
        index = full.geometry.index(np.reshape(contour.ContourData, (-1, 3)))
        inside = Outline(index[:, 1:]).contains_points(centers)
        plane = full.array[round(index[0, 0])].ravel()
        off = np.flatnonzero(inside != plane)
        assert (edge_distance(centers[off], index[:, 1:]) < 1e-6).all()


# --- the rule -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_hole_as_second_contour_equals_keyhole(tmp_path, kind):
    grid = grid_of()
    ring = square_mask()
    ring[1:4, 7:10, 9:12] = False
    both = [*drawn(SQUARE, (1, 2, 3), grid, kind), *drawn(HOLE, (1, 2, 3), grid, kind)]
    two = read_on(tmp_path / "two.dcm", both)
    one = read_on(tmp_path / "one.dcm", drawn(KEYHOLE, (1, 2, 3), grid))
    assert (two.array == ring).all()
    assert (one.array == ring).all()


def test_center_on_an_outline_belongs_to_one_of_two_neighbors():
    # four boxes that meet on voxel centers, and a diagonal through centers
    cut = [(a, b) for a in ((2, 8), (8, 14)) for b in ((3, 9), (9, 17))]
    boxes = [np.array([(a, c), (a, d), (b, d), (b, c)]) for (a, b), (c, d) in cut]
    split = [boxes[0][[0, 1, 2]], boxes[0][[0, 2, 3]], *boxes[1:]]
    masks = [rasterize([(0, p.astype(float))], (1, 20, 20))[0] for p in split]
    counts = np.sum(masks, axis=0)
    want = np.zeros((1, 20, 20), int)
    want[0, 2:14, 3:17] = 1  # low borders in, high borders out
    assert (counts == want).all()


def polygons(count: int = 12) -> Any:
    coordinate = st.floats(-3.0, 23.0, allow_nan=False)
    point = st.tuples(coordinate, coordinate)
    return st.lists(point, min_size=3, max_size=count).map(lambda p: np.round(p, 4))


@settings(max_examples=60, deadline=None)
@given(polygons(), st.integers(0, 11))
def test_any_polygon_against_its_definition(outline, start):
    mask, outside = rasterize([(0, outline)], (1, 20, 20))
    centers = np.argwhere(np.ones((20, 20), bool)).astype(float)
    far = edge_distance(centers, outline) > 1e-4
    # even-odd by hand (matplotlib's own rule differs on crossing outlines)
    a, b = outline, np.roll(outline, -1, axis=0)
    y, x = centers[:, :1], centers[:, 1:]
    spans = (a[:, 0] <= y) != (b[:, 0] <= y)
    rise = np.where(b[:, 0] == a[:, 0], 1.0, b[:, 0] - a[:, 0])
    left = a[:, 1] + (y - a[:, 0]) * (b[:, 1] - a[:, 1]) / rise < x
    inside = (spans & left).sum(1) % 2 == 1
    assert (mask.ravel() == inside)[far].all()
    assert outside >= 0
    # direction and starting point do not matter, not even on the outline
    for other in (outline[::-1], np.roll(outline, start, axis=0)):
        assert (rasterize([(0, other)], (1, 20, 20))[0] == mask).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_star_polygons_against_matplotlib(seed):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 40)))
    radius = rng.uniform(2, 9.5, len(angle))
    outline = np.column_stack([np.sin(angle), np.cos(angle)]) * radius[:, None] + 9.7
    mask, _ = rasterize([(0, outline)], (1, 20, 20))
    centers = np.argwhere(np.ones((20, 20), bool)).astype(float)
    far = edge_distance(centers, outline) > 1e-6
    inside = Outline(outline).contains_points(centers)
    assert (mask.ravel() == inside)[far].all()


@pytest.mark.parametrize("seed", range(4))
def test_moving_series_and_contours_together_changes_nothing(tmp_path, seed):
    rng = np.random.default_rng(seed)
    outline = np.column_stack([rng.uniform(1, 22, 40), rng.uniform(1, 28, 40)])
    corners = rng.integers(2, 20, (8, 2))  # on voxel centers: ties must not flip
    masks = []
    for directions, origin in (
        (None, (0.0, 0.0, 0.0)),
        (None, (-214.337, 81.25, -1030.5)),
        (rotation(seed), (35.1, -70.7, 412.9)),
    ):
        grid = grid_of(directions, origin)
        folder = tmp_path / f"{len(masks)}"
        zeros = np.zeros(SHAPE, np.int16)
        found = write_series(
            folder / "CT",
            zeros,
            modality="CT",
            spacing_zyx=SPACING,
            origin_xyz=origin,
            directions=directions,
        )
        contours = [*drawn(outline, (1, 2), grid), *drawn(corners, (2, 3), grid)]
        uids = {"frame_uid": found.frame_uid, "series_uid": found.series_uid}
        path = write_rtstruct(folder / "RS/RS.dcm", {"GTV": contours}, **uids)
        mask = read_mask(path)
        assert mask.meta["series_uid"] == found.series_uid
        index = grid.index(mask.geometry.world(np.argwhere(mask.array)))
        full = np.zeros(SHAPE, bool)  # the reader may order the slices otherwise
        full[tuple(index.round().astype(int).T)] = True
        masks.append(full)
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


def test_volume_of_a_sphere(tmp_path):
    grid = Geometry.from_spacing((40, 60, 60), (1.0, 0.7, 0.7), (-20.65, -20.65, -19.5))
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    contours = []
    for z in range(40):
        radius = np.sqrt(max(15.0**2 - (z - 19.5) ** 2, 0))
        circle = np.column_stack([np.cos(angle), np.sin(angle)]) * radius
        if radius:
            contours.append(item(np.column_stack([circle, np.full(200, z - 19.5)])))
    mask = read_on(tmp_path / "RS.dcm", contours, grid)
    volume = mask.array.sum() * grid.voxel_ml
    assert volume == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.005)


# --- which structure, which grid ------------------------------------------------------


def two_structures() -> dict[str, list[Dataset]]:
    grid = grid_of()
    return {
        "GTV": drawn(SQUARE, (1, 2, 3), grid),
        "Liver": drawn(HOLE, (1, 2), grid),
        "empty": [],
    }


@pytest.mark.parametrize("label", ["GTV", "gtv ", 1, np.int64(1)])
def test_structure_by_name_or_number(write, series, label):
    path = write(two_structures())
    mask = read_mask(path, label=label, reference=series.folder)
    assert (mask.array == square_mask()).all()
    assert mask.meta["structure"] == "GTV"
    assert any("3 contours" in note for note in mask.notes)


def test_several_structures_are_listed(write, series):
    path = write(two_structures())
    with pytest.raises(MaskError, match=r"\{1 \(GTV\): 3, 2 \(Liver\): 2\} contours"):
        read_mask(path, reference=series.folder)


@pytest.mark.parametrize("label", ["CTV", "empty", 9])
def test_row_41_missing_structure_lists_those_there(write, series, label):
    path = write(two_structures())
    with pytest.raises(DicomError, match=r"1 \(GTV\): 3, 2 \(Liver\)"):
        read_mask(path, label=label, reference=series.folder)


def test_row_41_other_frame_of_reference(write, series):
    path = write({"GTV": drawn(SQUARE, (1, 2), grid_of())}, frame_uid="1.2.3")
    with pytest.raises(DicomError, match=r"frame of reference 1\.2\.3.*'GTV'"):
        read_mask(path, reference=series.folder)
    other = Image(np.zeros(SHAPE), grid_of(), meta={"frame_of_reference_uid": "1.2.4"})
    path = write({"GTV": drawn(SQUARE, (1, 2), grid_of())}, series_uid="1.9")
    with pytest.raises(DicomError, match="frame of reference"):
        read_mask(path, reference=other)


def change(path, edit):
    ds = dcmread(path)
    edit(ds.StructureSetROISequence, ds.ROIContourSequence)
    ds.save_as(path)
    return path


def test_contours_of_one_number_are_joined(write, series):
    grid = grid_of()
    path = write({"GTV": drawn(SQUARE, [1], grid), "x": drawn(SQUARE, [2, 3], grid)})

    def edit(rois: Any, contours: Any) -> None:
        contours[1].ReferencedROINumber = 1

    mask = read_mask(change(path, edit), label="GTV", reference=series.folder)
    np.testing.assert_array_equal(mask.array, square_mask())


def test_structures_that_share_a_number_are_not_mixed_up(write, series):
    grid = grid_of()
    path = write({"GTV": drawn(SQUARE, [1], grid), "Lung": drawn(HOLE, [1], grid)})

    def edit(rois: Any, contours: Any) -> None:
        rois[1].ROINumber = contours[1].ReferencedROINumber = 1

    with pytest.raises(DicomError, match="'GTV', 'Lung' share ROI number 1"):
        read_mask(change(path, edit), label="GTV", reference=series.folder)


def test_contours_of_an_unlisted_structure_are_found_by_number(write, series):
    grid = grid_of()
    path = write({"GTV": drawn(HOLE, [1], grid), "x": drawn(SQUARE, [1, 2, 3], grid)})

    def edit(rois: Any, contours: Any) -> None:
        del rois[1]

    change(path, edit)
    with pytest.raises(MaskError, match=r"\{1 \(GTV\): 1, 2: 3\} contours"):
        read_mask(path, reference=series.folder)
    mask = read_mask(path, label=2, reference=series.folder)
    np.testing.assert_array_equal(mask.array, square_mask())


def test_reference_may_be_one_file_of_the_series(write, series):
    path = write({"GTV": drawn(SQUARE, [1, 2, 3], grid_of())})
    mask = read_mask(path, reference=series.files[3])
    np.testing.assert_array_equal(mask.array, square_mask())
    assert mask.meta["series_uid"] == series.series_uid


def test_what_is_wrong_with_the_series_is_said_as_it_is(tmp_path):
    places = [(0, 0, 3.0 * (z + (z > 3))) for z in range(SHAPE[0])]
    zeros = np.zeros(SHAPE, np.int16)
    ct = write_series(tmp_path / "CT", zeros, modality="CT", positions=places)
    path = write_rtstruct(
        tmp_path / "RS.dcm",
        {"GTV": drawn(SQUARE, [1], grid_of())},
        frame_uid=ct.frame_uid,
        series_uid=ct.series_uid,
    )
    with pytest.raises(DicomError, match="1 of 7 slices missing") as caught:
        read_mask(path)
    assert "cannot be read" not in str(caught.value)


def test_no_structure_has_contours(write, series):
    with pytest.raises(DicomError, match=r"no structure has contours.*'a'"):
        read_mask(write({"a": []}), reference=series.folder)


@pytest.mark.parametrize("where", ["RS.dcm", "RS/RS.dcm"])
def test_series_is_found_near_the_file(series, tmp_path, where):
    shutil.copytree(
        series.folder,
        tmp_path / ("." if "/" not in where else "CT"),
        dirs_exist_ok=True,
    )
    (tmp_path / "unrelated").mkdir()
    uids = {"frame_uid": series.frame_uid, "series_uid": series.series_uid}
    path = tmp_path / where
    write_rtstruct(path, {"GTV": drawn(SQUARE, (1, 2, 3), grid_of())}, **uids)
    assert (read_mask(path).array == square_mask()).all()
    assert (read_mask(path.parent).array == square_mask()).all()


def test_missing_series_is_named(write):
    path = write({"GTV": drawn(SQUARE, (1, 2), grid_of())}, series_uid="1.2.840.77")
    with pytest.raises(
        DicomError, match=r"SeriesInstanceUID 1\.2\.840\.77.*reference="
    ):
        read_mask(path)


def test_own_series_goes_before_other_references(write, series, tmp_path):
    path = write({"GTV": drawn(SQUARE, (1, 2, 3), grid_of())})
    coarse = Geometry.from_spacing((3, 5, 5), (6.0, 8.0, 8.0))
    meta = {"series_uid": series.series_uid}
    own = Image(np.zeros(SHAPE), grid_of(), meta=meta)
    for reference in ([coarse, own], (coarse, series.folder), [str(series.folder)]):
        mask = read_mask(path, reference=reference)
        assert (mask.array == square_mask()).all()
        assert not any("reference image's grid" in note for note in mask.notes)


def test_other_reference_is_taken_with_a_note(write):
    path = write({"GTV": drawn(SQUARE, (1, 2, 3), grid_of())}, series_uid="1.5")
    mask = read_mask(path, reference=Image(np.zeros(SHAPE), grid_of()))
    assert (mask.array == square_mask()).all()
    assert any("reference image's grid" in n and "1.5" in n for n in mask.notes)


def test_grid_of_an_image_file(write, tmp_path):
    path = write({"GTV": drawn(SQUARE, (1, 2, 3), grid_of())}, series_uid="1.5")
    itk = sitk.Image(SHAPE[::-1], sitk.sitkInt16)
    itk.SetSpacing(SPACING[::-1])
    sitk.WriteImage(itk, str(tmp_path / "ct.nii.gz"))
    mask = read_mask(path, reference=tmp_path / "ct.nii.gz")
    assert (mask.array == square_mask()).all()


def test_bad_series_in_the_folder_does_not_hide_the_good_one(series, tmp_path):
    shutil.copytree(series.folder, tmp_path, dirs_exist_ok=True)
    gap = [(0, 0, 0), (0, 0, 3), (0, 0, 12)]
    zeros = np.zeros((3, 4, 4), np.int16)
    write_series(tmp_path, zeros, modality="CT", positions=gap)
    uids = {"frame_uid": series.frame_uid, "series_uid": series.series_uid}
    contours = drawn(SQUARE, (1, 2, 3), grid_of())
    path = write_rtstruct(tmp_path / "RS.dcm", {"GTV": contours}, **uids)
    assert (read_mask(path).array == square_mask()).all()
    assert (read_mask(path, reference=tmp_path).array == square_mask()).all()


def test_file_without_a_preamble(write, series):
    path = write({"GTV": drawn(SQUARE, (1, 2, 3), grid_of())})
    raw = path.read_bytes()
    start = raw.index(b"\x08\x00\x16\x00")  # the data set after its file header
    path.write_bytes(raw[start:])
    mask = read_mask(path, reference=series.folder)
    assert (mask.array == square_mask()).all()


# --- bad contours ---------------------------------------------------------------------


def bad_contours() -> dict[str, list[Dataset]]:
    grid = grid_of()
    tilted = np.column_stack([[1, 1.4, 1.8, 1.4], SQUARE])
    return {
        "fewer than 3": [item([(1, 2, 3), (4, 5, 3)]), item([(1, 2, 3)])],
        "not closed": [
            item(np.zeros((1, 3)), "POINT"),
            *drawn(SQUARE, (1,), grid, "OPEN_PLANAR"),
            *drawn(SQUARE, (1,), grid, "OPEN_NONPLANAR"),
            Dataset(),
        ],
        "between two slices": drawn(SQUARE, (1.4,), grid),
        "not in the plane": [item(grid.world(tilted))],
        "far outside": [item(np.array([(1e5, 0, 0), (0, 1e5, 0), (0, 0, 0)]))],
        "unreadable": [
            unchecked(t) for t in ("nan\\1\\2", "1e300\\1\\2", "1\\abc\\3", "1\\2", "")
        ],
    }


@pytest.mark.parametrize("reason", bad_contours())
def test_row_42_a_few_bad_contours_are_skipped_with_a_count(tmp_path, reason):
    bad = bad_contours()[reason]
    grid = Geometry.from_spacing((100, *SHAPE[1:]), SPACING)
    good = drawn(SQUARE, range(1, 96), grid)
    path = tmp_path / "RS.dcm"
    with pytest.warns(HabitatWarning, match=f"{len(bad)} of .* {reason}"):
        mask = read_on(path, good + bad, grid)
    assert mask.array.sum() == 95 * 80
    assert any("skipped" in note for note in mask.notes)


@pytest.mark.parametrize("reason", bad_contours())
def test_row_42_many_bad_contours_are_an_error(tmp_path, reason):
    bad = bad_contours()[reason]
    with pytest.raises(DicomError, match=f"{len(bad)} of .* cannot be used.* {reason}"):
        read_on(tmp_path / "RS.dcm", drawn(SQUARE, (1, 2, 3), grid_of()) + bad)


def test_contour_near_its_slice_counts(tmp_path):
    mask = read_on(tmp_path / "RS.dcm", drawn(SQUARE, (0.95, 2.05, 3.0), grid_of()))
    assert (mask.array == square_mask()).all()


def test_contour_given_twice_does_not_vanish(tmp_path):
    mask = read_on(tmp_path / "RS.dcm", drawn(SQUARE, (1, 1, 2, 3), grid_of()))
    assert (mask.array == square_mask()).all()
    assert any("1 contours given twice" in note for note in mask.notes)


@pytest.mark.parametrize("outline", [SQUARE, KEYHOLE, "random"])
@pytest.mark.parametrize("how", ["reversed", "other start", "closed", "all of them"])
def test_same_contour_told_otherwise_does_not_vanish(tmp_path, outline, how):
    if isinstance(outline, str):
        outline = np.random.default_rng(5).uniform(2, 20, (40, 2))
    again = outline
    if how in ("reversed", "all of them"):
        again = again[::-1]
    if how in ("other start", "all of them"):
        again = np.roll(again, 3, axis=0)
    if how in ("closed", "all of them"):
        again = np.array([*again, again[0]])
    grid = grid_of()
    once = read_on(tmp_path / "once.dcm", drawn(outline, (1, 2), grid))
    both = [*drawn(outline, (1, 2), grid), *drawn(again, (1,), grid)]
    mask = read_on(tmp_path / "twice.dcm", both)
    assert (mask.array == once.array).all()
    assert any("1 contours given twice" in note for note in mask.notes)


def test_slices_that_cancel_are_counted_but_not_tiny_contours(tmp_path):
    grid = grid_of()
    tiny = np.array([(4.2, 5.2), (4.2, 5.4), (4.4, 5.4)])
    good = [*drawn(SQUARE, (1, 2), grid), *drawn(tiny, (0,), grid)]
    mask = read_on(tmp_path / "a.dcm", good)
    assert not any("fill no voxel" in note for note in mask.notes)
    near = [*drawn(SQUARE, (3,), grid), *drawn(SQUARE + 0.001, (3,), grid)]
    mask = read_on(tmp_path / "b.dcm", good + near)
    assert not mask.array[3].any()
    assert any("1 slices whose contours fill no voxel" in note for note in mask.notes)


def test_contours_that_cross_are_counted_but_not_holes(tmp_path):
    grid = grid_of()
    island = np.array([(7.5, 9.5), (7.5, 10.5), (8.5, 10.5), (8.5, 9.5)])
    apart = SQUARE + np.array([0, 11])
    fine = [
        contour
        for outline in (island, SQUARE, HOLE, apart)
        for contour in drawn(outline, (1, 2, 3), grid)
    ]
    mask = read_on(tmp_path / "a.dcm", fine)
    assert mask.array[1].sum() == 80 + 80 - 9 + 1
    assert not any("contours cross on" in note for note in mask.notes)
    mask = read_on(tmp_path / "b.dcm", fine + drawn(SQUARE + 3, (1, 3), grid))
    assert any("contours cross on 2 slices" in note for note in mask.notes)


def test_slices_between_contours_stay_empty_and_are_counted(tmp_path):
    mask = read_on(tmp_path / "a.dcm", drawn(SQUARE, (0, 1, 2, 4), grid_of()))
    assert not mask.array[3].any()
    assert any("1 slices without a contour between 4" in n for n in mask.notes)
    with pytest.warns(HabitatWarning, match="2 slices without a contour between 3"):
        read_on(tmp_path / "b.dcm", drawn(SQUARE, (0, 2, 4), grid_of()))


def test_structure_partly_outside_the_image(tmp_path):
    grid = grid_of()
    wide = np.array([(4.5, 5.5), (4.5, 15.5), (23.9, 15.5), (23.9, 5.5)])
    with pytest.raises(GeometryError, match="75% of the mask lies in the image"):
        read_on(tmp_path / "z.dcm", drawn(SQUARE, (3, 4, 5, 6), grid))
    assert read_on(tmp_path / "y.dcm", drawn(wide, (1,), grid)).array.sum() == 190
    past = [*drawn(SQUARE, range(6), grid), item(grid.world([(0, 22.5, 28.5)] * 3))]
    spike = np.array([(22.5, 27.5), (22.5, 31.5), (23.5, 31.5), (23.5, 27.5)])
    past[-1:] = drawn(spike, (5,), grid)
    with pytest.warns(HabitatWarning, match="2 of its 484 voxels lie outside"):
        assert read_on(tmp_path / "x.dcm", past).array.sum() == 482
    with pytest.raises(GeometryError, match="0% of the mask"):
        read_on(tmp_path / "o.dcm", drawn(SQUARE + 25, (1, 2), grid))


def test_structure_too_small_for_any_voxel(tmp_path):
    tiny = np.array([(4.2, 5.2), (4.2, 5.4), (4.4, 5.4)])
    with pytest.raises(MaskError, match=r"no voxel is >0 in .*RS\.dcm"):
        read_on(tmp_path / "RS.dcm", drawn(tiny, (1,), grid_of()))


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_files_raise_only_our_errors(tmp_path, data):
    path = tmp_path / "good/RS.dcm"
    if not path.exists():
        write_rtstruct(path, two_structures())
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 12))):
        raw[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(raw)] * 3 + [len(raw) // 2, len(raw) - 7]))
    bad = tmp_path / "bad/bad/RS.dcm"
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.write_bytes(raw[:end])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pydicom's remarks on the damage
        try:
            mask = read_mask(bad, label="GTV", reference=grid_of())
        except HabitatError:
            return
    assert mask.array.shape == SHAPE


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(
        st.lists(
            st.one_of(
                st.floats().map(str),
                st.integers(-(10**18), 10**18).map(str),
                st.text(st.characters(codec="ascii"), max_size=8),
            ),
            max_size=12,
        ),
        max_size=6,
    )
)
def test_garbage_coordinates_raise_only_our_errors(tmp_path_factory, texts):
    contours = [unchecked("\\".join(text)) for text in texts]
    path = tmp_path_factory.getbasetemp() / "garbage/file/RS.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            mask = read_on(path, contours)
        except HabitatError:
            return
    assert mask.array.any()

"""segment(): what must not matter, what must, and what comes back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import habitat
from habitat import Geometry, HabitatResult, Image
from habitat.agreement import adjusted_rand
from habitat.clustering import KMeansOptions
from habitat.errors import ConfigError, HabitatWarning, InputError
from habitat.io._files import to_simpleitk, write
from tests.test_bad_inputs import scene
from tests.test_grids import turned


@pytest.fixture(scope="module")
def case():
    return habitat.phantom(random_state=3)


@pytest.fixture(scope="module")
def result(case):
    return habitat.segment(case.pet, case.ct, case.mask, k=4)


# --- what must not matter: one grid, the same bytes -----------------------------------


@settings(max_examples=12)
@given(
    st.permutations((0, 1, 2)),
    st.tuples(*[st.sampled_from([1, -1])] * 3),
    st.integers(2, 6),
)
def test_flips_and_axis_orders_change_no_label(axes, flips, k):
    pet, ct, mask = scene(unit=True)
    before = habitat.segment(pet, ct, mask, k=k).labels
    flip = tuple(slice(None, None, f) for f in flips)

    def stored(image):
        grid = image.geometry
        corner = np.zeros(3)
        for axis, way in zip(axes, flips, strict=True):
            corner[axis] = 0 if way > 0 else grid.shape[axis] - 1
        affine = np.eye(4)
        affine[:3, :3] = grid.affine[:3, list(axes)] * flips
        affine[:3, 3] = grid.world(corner)
        array = image.array.transpose(axes)[flip]
        return Image(array, Geometry(array.shape, affine), unit=image.unit)

    after = habitat.segment(stored(pet), stored(ct), stored(mask), k=k).labels
    np.testing.assert_array_equal(after, before.transpose(axes)[flip])


def test_the_number_of_threads_changes_no_byte():
    code = (
        "import habitat, hashlib; p = habitat.phantom(random_state=1);"
        "from habitat.clustering import _kmeans; _kmeans._SERIAL = 0;"  # threads always
        "r = habitat.segment(p.pet, p.ct, p.mask, k=5, grid='ct');"
        "print(hashlib.sha256(r.labels.tobytes() + r.centers.tobytes()).hexdigest())"
    )
    hashes = set()
    for number in "12":
        env = {**os.environ, "HABITAT_NUM_THREADS": number}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(done.stdout.strip())
    assert len(hashes) == 1


def test_the_same_call_gives_the_same_bytes(case, result):
    again = habitat.segment(case.pet, case.ct, case.mask, k=4)
    assert again.labels.tobytes() == result.labels.tobytes()
    assert again.centers.tobytes() == result.centers.tobytes()


# --- what may matter by rounding only: 99.9 % of the voxels ---------------------------


def same(a, b):
    return np.count_nonzero(a == b) / a.size if a.shape == b.shape else 0.0


def in_tumor(a, b):
    tumor = (a > 0) | (b > 0)
    return same(a[tumor], b[tumor])


@pytest.mark.parametrize("shift", [(100.0, -50, 3), (0.123, 0.456, 0.789)])
@pytest.mark.parametrize("angles", [(0, 0, 0), (10, -20, 30)])
def test_moving_the_patient_changes_nothing(case, result, shift, angles):
    motion = np.eye(4)
    probe = turned(case.ct.geometry, angles, shift)
    motion = probe.affine @ np.linalg.inv(case.ct.geometry.affine)

    def moved(image):
        geometry = Geometry(image.geometry.shape, motion @ image.geometry.affine)
        return Image(image.array, geometry, unit=image.unit)

    after = habitat.segment(moved(case.pet), moved(case.ct), moved(case.mask), k=4)
    assert in_tumor(after.labels, result.labels) >= 0.999


@pytest.mark.parametrize(
    "change", [lambda x: x + 1000.0, lambda x: x * 1000.0, lambda x: x * 0.01 - 7]
)
def test_adding_a_constant_or_changing_a_unit_changes_nothing(case, change):
    def labels(convert):
        pet = Image(convert(case.pet.array.astype(float)), case.pet.geometry)
        channels = {"a": pet, "HU": case.ct}
        return habitat.segment_channels(channels, case.mask, k=4).labels

    assert in_tumor(labels(change), labels(lambda x: x)) >= 0.999


# --- what comes back ------------------------------------------------------------------


def test_habitats_are_ordered_by_suv_then_hu(result):
    assert (np.diff(result.centers[:, 0]) > 0).all()
    assert result.names[2].startswith("H3 SUV ")
    assert " HU " in result.names[2]
    assert sorted(np.unique(result.labels)) == [0, 1, 2, 3, 4]


def test_the_table_is_about_the_labels(result):
    table = result.table
    own = result.labels[result.box]
    for row in table.itertuples():
        inside = own == row.habitat
        assert row.voxels == inside.sum()
        assert row.volume_ml == pytest.approx(inside.sum() * 3.27 * 4.7**2 / 1000)
        values = result.images["SUVbw"].array[inside].astype(float)
        assert row.mean_SUVbw == pytest.approx(values.mean())
        assert row.p90_SUVbw == pytest.approx(np.percentile(values, 90))
        assert row.mean_SUVbw == pytest.approx(result.centers[row.habitat - 1, 0])
    assert table.fraction.sum() == pytest.approx(1)
    assert set(table.columns) >= {"rim_fraction", "mean_depth_mm", "sd_HU", "min_HU"}
    assert table.rim_fraction.between(0, 1).all()


def test_everything_is_recorded(case, result):
    arguments = result.params["arguments"]
    assert arguments["k"] == 4
    assert arguments["method"]["n_init"] == 10
    assert set(arguments) >= {"scaling", "grid", "label", "rim_mm", "random_state"}
    assert result.params["versions"]["habitat"] == habitat.__version__
    assert set(result.sources) == {"pet", "ct", "mask"}
    assert all(len(s["sha256"]) == 64 for s in result.sources.values())
    json.dumps(result.params)
    json.dumps(dict(result.quality))
    assert 0 < result.quality["silhouette"] < 1
    assert result.quality["converged"]


def test_files_and_memory_give_the_same(tmp_path, case, result):
    for name in ("pet", "ct", "mask"):
        write(getattr(case, name), tmp_path / f"{name}.nii.gz")
    paths = [tmp_path / f"{n}.nii.gz" for n in ("pet", "ct", "mask")]
    again = habitat.segment(*paths, k=4)
    np.testing.assert_array_equal(again.labels, result.labels)
    assert again.sources["pet"]["path"] == str(paths[0])
    sitk = [to_simpleitk(getattr(case, n)) for n in ("pet", "ct", "mask")]
    np.testing.assert_array_equal(habitat.segment(*sitk, k=4).labels, result.labels)


def test_a_label_is_picked_by_value(case):
    array = np.array(case.mask.array) * 7
    array[0, 0, :3] = 2
    mask = Image(array, case.mask.geometry)
    result = habitat.segment(case.pet, case.ct, mask, k=3, label=7)
    assert result.params["arguments"]["label"] == 7


@pytest.mark.parametrize("grid", ["mask", "ct", 3.0, (3.27, 2.0, 2.0)])
def test_other_grids(case, grid):
    result = habitat.segment(case.pet, case.ct, case.mask, k=4, grid=grid)
    volume = np.count_nonzero(result.labels) * result.geometry.voxel_ml
    truth = case.mask.array.sum() * case.mask.geometry.voxel_ml
    assert volume == pytest.approx(truth, rel=0.03)
    noted = any("voxels for each voxel of the coarsest" in n for n in result.notes)
    assert noted == (result.geometry.voxel_ml * 4 < case.pet.geometry.voxel_ml)


def test_a_rim_is_left_out_of_the_fit_and_then_assigned(case, result):
    again = habitat.segment(case.pet, case.ct, case.mask, k=4, rim_mm=5)
    np.testing.assert_array_equal(again.labels > 0, result.labels > 0)
    assert any("rim voxels were left out of the fit" in n for n in again.notes)
    assert not np.array_equal(again.centers, result.centers)


def test_a_habitat_of_the_edge_is_called_so():
    pet, ct, mask = scene(unit=True)
    edge = mask.array.astype(bool) & ~habitat_core(mask)
    values = np.where(edge, 30.0, pet.array)
    bright = Image(values, pet.geometry, unit="SUVbw")
    notes = habitat.segment(bright, ct, mask, k=2).notes
    assert any("mostly blur or mask edge" in n for n in notes)


def habitat_core(mask):
    from habitat.voxels import depth_mm

    return depth_mm(mask.array.astype(bool), mask.geometry.spacing) > 2.5


def test_callables_and_options_are_methods(case):
    def by_median(X, k, rng):
        assert isinstance(rng, np.random.Generator)
        return (X[:, 0] > np.median(X[:, 0])).astype(int)

    two = habitat.segment(case.pet, case.ct, case.mask, k=2, method=by_median)
    assert two.params["arguments"]["method"]["function"].endswith("by_median")
    assert two.table.fraction.tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    few = KMeansOptions(n_init=2, max_iter=1)
    with pytest.warns(HabitatWarning, match="did not converge"):
        habitat.segment(case.pet, case.ct, case.mask, k=4, method=few)
    with pytest.raises(ConfigError, match="n_init"):
        KMeansOptions(n_init=0)


@pytest.mark.parametrize("scaling", ["robust", "window", "rank", "none"])
def test_other_scalings_run_and_are_recorded(case, scaling):
    result = habitat.segment(case.pet, case.ct, case.mask, k=4, scaling=scaling)
    assert result.params["arguments"]["scaling"] == scaling
    assert (np.diff(result.centers[:, 0]) >= 0).all()


def test_without_scaling_ct_drowns_pet(case, result):
    """The peer's fault that z-scores cure: unscaled PET + CT is CT alone."""
    raw = habitat.segment(case.pet, case.ct, case.mask, k=4, scaling="none")
    truth = habitat.resample(case.truth, case.pet, interpolation="nearest").array
    keep = (result.labels > 0) & (truth > 0)
    scores = {
        name: adjusted_rand(labels[keep], truth[keep])
        for name, labels in {"z": result.labels, "raw": raw.labels}.items()
    }
    assert scores["z"] > scores["raw"] + 0.15


def test_on_another_grid(case, result):
    moved = result.on(case.ct)
    assert moved.geometry.same_as(case.ct.geometry)
    assert set(np.unique(moved.array)) == {0, 1, 2, 3, 4}
    overlap = np.count_nonzero((moved.array > 0) & (case.mask.array > 0))
    dice = 2 * overlap / ((moved.array > 0).sum() + case.mask.array.sum())
    assert dice > 0.9


def test_save_and_load_give_an_equal_result(tmp_path, result):
    folder = result.save(tmp_path / "out")
    names = {p.name for p in folder.iterdir()}
    assert names >= {"labels.nii.gz", "labels.seg.nrrd", "habitats.csv", "result.json"}
    back = HabitatResult.load(folder)
    np.testing.assert_array_equal(back.labels, result.labels)
    np.testing.assert_array_equal(back.centers, result.centers)
    np.testing.assert_array_equal(back.geometry.affine, result.geometry.affine)
    assert back.table.equals(result.table)
    assert back.names == result.names
    assert back.notes == result.notes
    assert back.params == result.params
    assert dict(back.quality) == dict(result.quality)
    for name, image in result.images.items():
        np.testing.assert_array_equal(back.images[name].array, image.array)
        assert back.images[name].unit == image.unit
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert back.save(tmp_path / "out") == folder  # replaced as a whole
    assert back.to_simpleitk().GetSize() == result.labels.shape[::-1]


def test_a_changed_or_foreign_folder_is_not_loaded(tmp_path, result):
    folder = result.save(tmp_path / "out")
    (folder / "images.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"images\.npz: missing or changed"):
        HabitatResult.load(folder)
    folder = result.save(folder)
    text = (folder / "result.json").read_text()
    (folder / "result.json").write_text(text.replace('"k": 4', '"k": 5'))
    with pytest.raises(InputError, match=r"result\.json: missing or changed"):
        HabitatResult.load(folder)
    with pytest.raises(InputError, match="is not a saved result"):
        HabitatResult.load(tmp_path)


def test_save_never_deletes_what_it_did_not_write(tmp_path, result):
    folder = result.save(tmp_path / "out")
    (folder / "my_notes.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"holds files .*my_notes\.txt"):
        result.save(folder)
    assert (folder / "my_notes.txt").read_text() == "keep me"
    with pytest.raises(InputError, match="is a file, not a folder"):
        result.save(folder / "my_notes.txt")


def test_a_failed_save_leaves_nothing(tmp_path, result, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(InputError, match="No space left"):
        result.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_second_save_keeps_the_first(tmp_path, result, monkeypatch):
    folder = result.save(tmp_path / "out")
    rename = Path.rename

    def broken(self, target):
        if self.name.startswith(".part-"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(InputError, match="No space left"):
        result.save(folder)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert HabitatResult.load(folder).names == result.names


def test_results_are_read_only(result):
    with pytest.raises(ValueError, match="read-only"):
        result.labels[0, 0, 0] = 1


def test_the_notebook_view_escapes_text(result):
    from dataclasses import replace

    view = replace(result, notes=("<script>alert(1)</script>",))._repr_html_()
    assert "<script>" not in view
    assert "data:image/png;base64," in view

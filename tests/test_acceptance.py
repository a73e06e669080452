"""What the package promises on generated tumors and on real patients.

The full studies are marked slow and print their tables (`pytest -m slow -s`).
"""

import numpy as np
import pytest

import habitat
from habitat.agreement import adjusted_rand
from habitat.clustering import kmeans
from habitat.errors import HabitatWarning
from habitat.io._grids import coverage
from habitat.phantoms import oracle


def truth_on(case, geometry):
    """The habitat that most of each voxel belongs to, 0 outside the tumor."""
    truth = case.truth
    shares = [
        coverage(truth.replace(truth.array == h), geometry)
        for h in range(1, truth.array.max() + 1)
    ]
    outside = 1 - np.sum(shares, axis=0)
    return np.argmax([outside, *shares], axis=0)


def phantom_scores(noise, seed):
    """ARI to the truth: oracle, joint, PET alone, CT alone, all on the PET grid."""
    case = habitat.phantom(noise=noise, random_state=seed)
    joint = habitat.segment(case.pet, case.ct, case.mask, k=4)
    alone = [
        habitat.segment_channels({"SUVbw": case.pet}, case.mask, k=4),
        habitat.segment(case.pet, case.ct, case.mask, k=4, method=ct_only),
    ]
    truth = truth_on(case, joint.geometry)
    keep = (joint.labels > 0) & (truth > 0)
    own = keep[joint.box]
    X = np.stack([i.array[own] for i in joint.images.values()], axis=1).astype(float)
    maps = [oracle(X, truth[keep]), *(r.labels[keep] for r in (joint, *alone))]
    return [adjusted_rand(labels, truth[keep]) for labels in maps]


def ct_only(X, k, rng):
    return kmeans(X[:, 1:], k, random_state=rng).labels


def check_phantom(rows):
    best, joint, pet, ct = np.mean(rows, axis=0)
    assert best >= 0.75
    assert joint >= 0.85 * best
    assert joint - pet >= 0.15
    assert joint - ct >= 0.15


def test_phantom_habitats_are_found():
    check_phantom([phantom_scores(1.0, seed) for seed in range(3)])


@pytest.mark.slow
def test_phantom_study_of_twenty_seeds():
    print("\nnoise  oracle  joint   PET     CT      joint/oracle (mean of 20 seeds)")
    for noise in (0.0, 1.0, 2.0):
        rows = np.array([phantom_scores(noise, seed) for seed in range(20)])
        mean, sd = rows.mean(0), rows.std(0)
        print(
            f"x{noise:.0f}    ",
            *(f"{m:.3f} " for m in mean),
            f"{mean[1] / mean[0]:.3f}",
        )
        print("   sd  ", *(f"{s:.3f} " for s in sd))
        if noise == 1.0:
            check_phantom(rows)


def real_maps(folder):
    """Maps of one patient with the mask drawn on the PET and that drawn on the CT."""
    images = [folder / f"{m}_image.nii.gz" for m in ("PET", "CT")]
    masks = [folder / f"{m}_mask.nii.gz" for m in ("PET", "CT")]
    return [habitat.segment(*images, mask, k=4) for mask in masks]


def agreement(a, b):
    both = (a.labels > 0) & (b.labels > 0)
    return adjusted_rand(a.labels[both], b.labels[both])


@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
def test_a_real_patient_with_masks_of_both_grids(shared):
    a, b = real_maps(shared / "data" / "sts_petct" / "STS_006")
    assert agreement(a, b) >= 0.85


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
def test_all_real_patients_with_masks_of_both_grids(shared):
    scores = {}
    print()
    for folder in sorted((shared / "data" / "sts_petct").glob("STS_*")):
        a, b = real_maps(folder)
        scores[folder.name] = agreement(a, b)
        edge = sum("mask edge" in n for n in a.notes)
        names = " | ".join(a.names)
        print(f"{folder.name} ARI {scores[folder.name]:.3f} edge {edge} {names}")
    apart = scores.pop("STS_019")
    print(f"median {np.median(list(scores.values())):.3f} of 16, STS_019 {apart:.3f}")
    assert len(scores) == 16
    assert np.median(list(scores.values())) >= 0.85


@pytest.mark.filterwarnings("ignore:FDG uptake time:habitat.errors.HabitatWarning")
def test_dicom_and_nifti_give_the_same_labels(shared):
    """STS_006 straight from DICOM + RTSTRUCT and from the cropped NIfTI files."""
    dicom = shared / "data" / "sts_petct_dicom" / "STS_006"
    nifti = shared / "data" / "sts_petct" / "STS_006"
    for modality in ("PET", "CT"):
        a = habitat.segment(
            dicom / "PET" / "image",
            dicom / "CT" / "image",
            dicom / modality / "mask" / "RS.dcm",
            k=4,
        )
        b = habitat.segment(
            nifti / "PET_image.nii.gz",
            nifti / "CT_image.nii.gz",
            nifti / f"{modality}_mask.nii.gz",
            k=4,
        )
        moved = a.on(b.geometry).array
        assert np.count_nonzero(moved != b.labels) == 0


def test_warnings_are_also_notes(shared):
    folder = shared / "data" / "sts_petct" / "STS_019"
    masks = tuple(folder / f"{m}_mask.nii.gz" for m in ("PET", "CT"))
    with pytest.warns(HabitatWarning) as caught:
        result = habitat.segment(
            folder / "PET_image.nii.gz", folder / "CT_image.nii.gz", masks
        )
    for warning in caught:
        assert str(warning.message) in result.notes
        assert warning.filename == __file__  # it points at the caller's line


@pytest.mark.filterwarnings("ignore:FDG uptake time:habitat.errors.HabitatWarning")
def test_one_folder_with_all_series_of_a_patient(shared, tmp_path):
    """As exported at 18:00: PET, CT and RTSTRUCT files side by side."""
    source = shared / "data" / "sts_petct_dicom" / "STS_006"
    for file in source.rglob("*/image/*.dcm"):
        (tmp_path / f"{file.parts[-3]}_{file.name}").symlink_to(file)
    (tmp_path / "RS.dcm").symlink_to(source / "PET" / "mask" / "RS.dcm")
    mixed = habitat.segment(tmp_path, tmp_path, tmp_path / "RS.dcm")
    parts = [source / "PET" / "image", source / "CT" / "image"]
    apart = habitat.segment(*parts, source / "PET" / "mask" / "RS.dcm")
    np.testing.assert_array_equal(mixed.labels, apart.labels)

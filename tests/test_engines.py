"""Our radiomics against pyradiomics itself, of every feature, region and image.

Random maps of labels (fragments, single voxels, flat, at the border) are compared in
test_region_texture.py and test_shape.py, where what may differ is named.
"""

import numpy as np
import pytest

import habitat
from habitat import Image
from habitat.features import LoG, RadiomicsSettings, extract
from habitat.features._settings import CLASSES

KEYS = ["region", "channel", "feature"]
IMAGES = ("original", "wavelet", LoG((1.0, 3.0)))
SETTINGS = {
    "default": {"spacing": 0, "bin_width": 25},
    "resampled": {"spacing": 2, "bin_width": 25, "alignment": "corner"},
    "fixed count": {"spacing": 0, "bin_count": 16},
}
PATIENTS = ("STS_006", "STS_018", "STS_047")


def compare(labels, images, min_voxels=1, **options):
    """Both engines give the same rows; return how many."""
    chosen = RadiomicsSettings(features=tuple(CLASSES), **options)
    ours, theirs = (
        extract(
            labels,
            images,
            families=("radiomics",),
            settings=chosen,
            min_voxels=min_voxels,
            engine=engine,
        )
        for engine in ("numba", "pyradiomics")
    )
    both = ours.merge(theirs, on=KEYS, how="outer", suffixes=("", "_theirs"))
    assert len(both) == len(ours) == len(theirs)
    for column in ("voxels", "voxels_used", "bins"):
        assert (both[column] == both[f"{column}_theirs"]).all()
    mine, other = both["value"].to_numpy(), both["value_theirs"].to_numpy()
    same = np.isclose(mine, other, rtol=1e-6, atol=1e-12, equal_nan=True)
    assert same.all(), both.loc[~same, [*KEYS, "value", "value_theirs"]].to_string()
    return len(both)


def thirds(image, mask):
    """Three habitats by intensity: fragmented, as habitats are."""
    inside = mask.array > 0
    edges = np.quantile(image.array[inside], (1 / 3, 2 / 3))
    labels = np.where(inside, 1 + np.digitize(image.array, edges), 0)
    return Image(labels.astype(np.uint8), mask.geometry)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("case", ["lung1", "brain1", "breast1"])
def test_public_cases(shared, case, name) -> None:
    folder = shared / "data" / "pyradiomics_cases"
    image = habitat.read(folder / f"{case}_image.nrrd")
    labels = thirds(image, habitat.read(folder / f"{case}_label.nrrd"))
    rows = compare(labels, {"x": image}, filters=IMAGES, **SETTINGS[name])
    assert rows == 4 * (14 + 93 * (1 + 8 + 2))


@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
def segmented(shared, name):
    folder = shared / "data" / "sts_petct" / name
    pet = habitat.read(folder / "PET_image.nii.gz", unit="SUVbw")
    ct = habitat.read(folder / "CT_image.nii.gz", unit="HU")
    result = habitat.segment(pet, ct, folder / "PET_mask.nii.gz", k=4)
    return result, {"SUVbw": pet, "HU": ct}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
@pytest.mark.parametrize("name", [*SETTINGS, "ours"])
@pytest.mark.parametrize("patient", PATIENTS)
def test_real_patients(shared, patient, name) -> None:
    result, images = segmented(shared, patient)
    options = SETTINGS.get(name, {})
    if name == "resampled":
        options = options | {"spacing": 3}
    channels = ("SUVbw", "HU") if name == "ours" else ("HU",)
    labels = Image(result.labels, result.geometry)
    chosen = {c: images[c] for c in channels}
    rows = compare(labels, chosen, filters=IMAGES, **options)
    assert rows == 5 * (14 + 93 * (1 + 8 + 2)) * len(channels)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::habitat.errors.HabitatWarning")
def test_habitats_of_all_patients(shared) -> None:
    folders = sorted((shared / "data" / "sts_petct").glob("STS_*"))
    assert len(folders) == 17
    for folder in folders:
        result, images = segmented(shared, folder.name)
        labels = Image(result.labels, result.geometry)
        assert compare(labels, images, spacing=3) == 5 * (14 + 93) * 2

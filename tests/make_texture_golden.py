"""Voxelwise features by pyradiomics: ``python -m tests.make_texture_golden``.

Writes tests/golden/texture_<case>.npz: some voxels of a case (z, y, x), the features of
all six classes (columns as in ``names``) for radius 1 and 2, by pyradiomics-bhklab
3.1.4 in voxel mode with ``maskedKernel``, binWidth of the case, all other settings at
their defaults. Cases: "generated" (its image and mask are in the file), "CT" and "PET"
(about 2,000 voxels of a public patient, read from the shared data). It takes minutes.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from radiomics import firstorder, glcm, gldm, glrlm, glszm, ngtdm

GOLDEN = Path(__file__).parent / "golden"
CLASSES = {
    "firstorder": firstorder.RadiomicsFirstOrder,
    "glcm": glcm.RadiomicsGLCM,
    "glrlm": glrlm.RadiomicsGLRLM,
    "glszm": glszm.RadiomicsGLSZM,
    "gldm": gldm.RadiomicsGLDM,
    "ngtdm": ngtdm.RadiomicsNGTDM,
}
BOXES = {"CT": np.s_[30:41, 75:90, 90:105], "PET": np.s_[32:46, 12:26, 16:30]}
WIDTHS = {"generated": 25.0, "CT": 25.0, "PET": 0.25}
RADII = (1, 2)
LOGGER = logging.getLogger("radiomics")


def patient(shared, modality):
    """Image, mask with holes, and spacing; the box cuts the tumor on all sides."""
    folder = shared / "data" / "sts_petct" / "STS_006"
    image = sitk.ReadImage(str(folder / f"{modality}_image.nii.gz"))
    mask = sitk.ReadImage(str(folder / f"{modality}_mask.nii.gz"))
    box = BOXES[modality]
    array = sitk.GetArrayFromImage(image)[box]
    tumor = sitk.GetArrayFromImage(mask)[box] > 0
    holes = np.random.default_rng(0).random(tumor.shape) < 0.12
    return array, tumor & ~holes, image.GetSpacing()[::-1]


def generated():
    """Values like a CT's with a constant patch and a binary one, lone voxels, holes."""
    rng = np.random.default_rng(0)
    shape = (8, 9, 10)
    z = np.arange(8)[:, None, None]
    image = np.rint(20 * z - 40 + 45 * rng.standard_normal(shape))
    image[:3, :4, :4] = 10
    image[5:, 5:, 6:] = np.where(rng.random((3, 4, 4)) < 0.5, 0, 30)
    mask = rng.random(shape) < 0.85
    mask[:, 5] = False
    mask[3, 5, 4] = True
    mask[:, :, 7] = False
    mask[:3, 7:9, 7:] = False
    mask[1, 8, 9] = True
    return image, mask, (3.0, 1.0, 1.0)


def reference(image, mask, spacing, radius, kind, only=None, mcc=True, **settings):
    """Features of a class by pyradiomics for the voxels of the mask, or of `only`.

    MCC is computed voxel by voxel: for several voxels at once pyradiomics fails if
    any of them has no pair in some direction.
    """
    picture = sitk.GetImageFromArray(np.asarray(image, dtype=float))
    picture.SetSpacing(tuple(map(float, spacing[::-1])))
    tumor = sitk.GetImageFromArray(mask.astype(np.uint8))
    tumor.CopyInformation(picture)
    where = mask if only is None else np.zeros_like(mask)
    if only is not None:
        where[tuple(only.T)] = True

    def run(batch, names):
        settings.update(voxelBased=True, kernelRadius=radius, maskedKernel=True)
        settings.update(initValue=np.nan, voxelBatch=batch)
        found = CLASSES[kind](picture, tumor, **settings)
        for name in names:
            found.enableFeatureByName(name)
        if batch == 1:
            found.labelledVoxelCoordinates = np.array(np.where(where))
        maps = found.execute()
        return {n: sitk.GetArrayFromImage(m)[where] for n, m in maps.items()}

    known = CLASSES[kind].getFeatureNames()
    names = [n for n, deprecated in known.items() if not deprecated and n != "MCC"]
    LOGGER.setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        out = run(-1, names)
        if kind == "glcm" and mcc:
            out |= run(1, ["MCC"])
    return out


def write(case, data, count, **more):
    image, mask, spacing = data
    inside = np.argwhere(mask)
    chosen = np.random.default_rng(1).choice(len(inside), count, replace=False)
    voxels = inside[np.sort(chosen)]
    arrays = {}
    for radius in RADII:
        columns = {}
        for kind in CLASSES:
            found = reference(
                image, mask, spacing, radius, kind, voxels, binWidth=WIDTHS[case]
            )
            columns |= {f"{kind}_{name}": v for name, v in sorted(found.items())}
        arrays["names"] = np.array(list(columns))
        arrays[f"radius{radius}"] = np.stack(list(columns.values()), axis=1)
    path = GOLDEN / f"texture_{case.lower()}.npz"
    np.savez_compressed(path, voxels=voxels, **arrays, **more)
    print(f"{path.name}: {len(inside)} voxels, {count} kept, {len(columns)} features")


if __name__ == "__main__":
    from tests.conftest import find_shared

    image, mask, spacing = generated()
    kept = {"image": image.astype(np.int16), "mask": mask, "spacing": spacing}
    write("generated", (image, mask, spacing), 60, **kept)
    for modality in BOXES:
        write(modality, patient(find_shared(), modality), 25)

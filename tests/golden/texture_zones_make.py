"""Golden values of the runs, zones, dependences and differences, by pyradiomics 3.1.4.

Written by ``python -m tests.golden.texture_zones_make``: voxel mode, masked kernel. The
images of texture_zones_generated.npz are generated and kept in it; those of
texture_zones_sts.npz are crops of the public CT and PET of STS_006 (of the shared data,
not kept), 2,000 voxels with holes that reach the borders of the crop.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

FOLDER = Path(__file__).parent
CLASSES = ("glrlm", "glszm", "gldm", "ngtdm")
BIN_WIDTH = {"CT": 25.0, "PET": 0.5}
EVERY = 20  # of the voxels of the crops, and 3 of the generated images
RADII = (1, 2, 3)


def generated():
    """Levels (z, y, x) by name, 0 outside the mask."""
    rng = np.random.default_rng(4)
    shape = (5, 6, 7)
    noise = rng.integers(1, 6, shape)
    holes = rng.random(shape) < 0.8
    sparse = rng.random(shape) < 0.08
    ramp = np.indices(shape).sum(axis=0) * 2 + noise
    patches = noise.copy()
    patches[:3, :4] = 2
    patches[2:, 3:, 2:5] = 4
    slab = np.zeros(shape, bool)
    slab[3] = True
    cases = {
        "noise": noise,
        "holes": noise * holes,
        "patches": patches * holes,
        "many levels": ramp * holes,
        "one slice": noise * slab,
        "sparse": noise * sparse,
        "constant": holes.astype(int),
    }
    for levels in cases.values():
        levels.flat[np.flatnonzero(levels)[0]] = 1  # the lowest bin holds a voxel
    return {name: levels.astype(np.int32) for name, levels in cases.items()}


def crop(shared, kind, n=2000):
    """Image and mask of about n voxels from the middle of the tumor of STS_006."""
    folder = shared / "data" / "sts_petct" / "STS_006"
    image, mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{kind}_{what}.nii.gz")))
        for what in ("image", "mask")
    )
    index = np.argwhere(mask)
    center = index.mean(axis=0).astype(int)
    for half in range(1, max(mask.shape)):
        low = np.maximum(center - half, 0)
        box = tuple(map(slice, low, center + half + 1))
        kept = mask[box].astype(bool)
        kept &= (np.arange(kept.size) * 7919 % 11 > 0).reshape(kept.shape)
        if kept.sum() >= n:
            break
    kept.flat[np.flatnonzero(kept)[n:]] = False
    return image[box].astype(float), kept


def binned(image, mask, bin_width):
    """Levels as pyradiomics bins them, 0 outside the mask."""
    from radiomics import imageoperations

    levels, _ = imageoperations.binImage(image.copy(), mask, binWidth=bin_width)
    return np.where(mask, levels, 0).astype(np.int32)


def pyradiomics(image, mask, bin_width, radius, name):
    """Features of a class by name: the value of each voxel of the mask."""
    import radiomics

    radiomics.setVerbosity(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = radiomics.getFeatureClasses()[name](
            sitk.GetImageFromArray(image.astype(float)),
            sitk.GetImageFromArray(mask.astype(np.uint8)),
            voxelBased=True,
            kernelRadius=radius,
            maskedKernel=True,
            binWidth=bin_width,
            initValue=np.nan,
        ).execute()
    return {key: sitk.GetArrayFromImage(v)[mask] for key, v in found.items()}


def values(image, mask, bin_width, radius, every):
    """Features by class, (some voxels, features sorted by name)."""
    out = {}
    for name in CLASSES:
        found = pyradiomics(image, mask, bin_width, radius, name)
        out[name] = np.column_stack([found[key][::every] for key in sorted(found)])
    return out


def main():
    from tests.conftest import find_shared

    kept = {}
    for case, levels in generated().items():
        kept[case] = levels
        for radius in RADII:
            found = values(25.0 * levels, levels > 0, 25.0, radius, 3)
            for name, array in found.items():
                kept[f"{case}/{radius}/{name}"] = array.astype(np.float32)
    np.savez_compressed(FOLDER / "texture_zones_generated.npz", **kept)
    kept = {}
    for kind, bin_width in BIN_WIDTH.items():
        image, mask = crop(find_shared(), kind)
        for radius in RADII:
            found = values(image, mask, bin_width, radius, EVERY)
            for name, array in found.items():
                kept[f"{kind}/{radius}/{name}"] = array.astype(np.float32)
    np.savez_compressed(FOLDER / "texture_zones_sts.npz", **kept)


if __name__ == "__main__":
    main()

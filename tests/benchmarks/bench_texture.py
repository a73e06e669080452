"""Speed of texture maps: ``python -m tests.benchmarks.bench_texture``.

CT of STS_006, gray levels of 25 HU, the image's own grid, radius 1: ours on 80,000
voxels of the tumor with all that a call does, pyradiomics' `execute` on 2,000 of them
(same gray levels), voxels per second compared, median of 5 interleaved runs on one
thread; then two threads against one. Targets: first order
and GLCM without MCC 150 times, with MCC 40 times, all six classes 60 times pyradiomics;
two threads 1.7 times one.
"""

import logging
import os
import statistics
import time
import warnings

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
import SimpleITK as sitk
from threadpoolctl import threadpool_limits

from habitat import Image
from habitat.maps import texture_maps
from tests.conftest import find_shared
from tests.make_texture_golden import CLASSES

REPEATS, MANY, FEW = 5, 80_000, 2_000
CONFIGURATIONS = {
    "first order + GLCM": (("firstorder", "glcm"), 150),
    "the same and MCC": (("firstorder", "glcm", "glcm_MCC"), 40),
    "all six classes, MCC": ((*CLASSES, "glcm_MCC"), 60),
}


def first(mask, count):
    """The first voxels of a mask in raster order."""
    out = np.zeros_like(mask)
    out.reshape(-1)[np.flatnonzero(mask)[:count]] = True
    return out


def ours(image, mask, features, threads=1):
    return texture_maps(image, mask, features=features, spacing=None, threads=threads)


def theirs(image, mask, features):
    """Return a function that computes the voxels in the middle of the mask."""
    made = []
    for kind in [f for f in features if f in CLASSES]:
        found = CLASSES[kind](
            image, mask, voxelBased=True, kernelRadius=1, maskedKernel=True, binWidth=25
        )
        found.enableAllFeatures()
        if kind == "glcm" and "glcm_MCC" not in features:
            found.enableFeatureByName("MCC", False)
        voxels = found.labelledVoxelCoordinates
        begin = (voxels.shape[1] - FEW) // 2
        found.labelledVoxelCoordinates = voxels[:, begin : begin + FEW]
        made.append(found)
    return lambda: [found.execute() for found in made]


def interleaved(functions):
    """Median seconds of each, warm, in turn."""
    seconds = {name: [] for name in functions}
    for turn in range(REPEATS + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}


def main():
    folder = find_shared() / "data" / "sts_petct" / "STS_006"
    picture = sitk.ReadImage(str(folder / "CT_image.nii.gz"))
    array = sitk.GetArrayFromImage(picture)
    tumor = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "CT_mask.nii.gz"))) > 0
    image = Image(array, spacing=picture.GetSpacing()[::-1], unit="HU")
    tumor = first(tumor, MANY)
    mask = Image(tumor, image.geometry)
    box = tuple(slice(p.min(), p.max() + 1) for p in np.nonzero(tumor))
    part = sitk.GetImageFromArray(array[box].astype(float))
    label = sitk.GetImageFromArray(tumor[box].astype(np.uint8))
    for configuration, (features, target) in CONFIGURATIONS.items():
        seconds = interleaved(
            {
                "habitat": lambda f=features: ours(image, mask, f),
                "two threads": lambda f=features: ours(image, mask, f, 2),
                "pyradiomics": theirs(part, label, features),
            }
        )
        rates = {
            n: (FEW if n == "pyradiomics" else MANY) / s for n, s in seconds.items()
        }
        maps = ours(image, mask, features)
        levels = next(iter(maps.values())).meta["map"]["levels"]
        print(f"\n{configuration}: {len(maps)} maps, {levels} gray levels")
        for name, rate in rates.items():
            print(f"  {name:12}{rate:12,.0f} voxels/s")
        ratio = rates["habitat"] / rates["pyradiomics"]
        print(f"  ratio {ratio:.0f} (target {target}), ", end="")
        print(f"two threads {rates['two threads'] / rates['habitat']:.2f} (target 1.7)")


if __name__ == "__main__":
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    with threadpool_limits(1), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        main()

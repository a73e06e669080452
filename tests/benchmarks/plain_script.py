"""The plain way, case by case: SimpleITK, scikit-learn's KMeans, pyradiomics.

``python -m tests.benchmarks.plain_script COHORT.csv OUT.csv`` reads PET, CT and mask of
each row, brings CT (smoothed against aliasing) and mask to the grid of the PET,
clusters the z-scored voxels of the tumor into four habitats, and extracts the 107
features of pyradiomics from the tumor and each habitat: CT at 1 mm with gray levels of
25 HU, PET at 3 mm with 0.25. It is what `habitat.batch` is compared with.
"""

import csv
import logging
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from sklearn.cluster import KMeans

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from radiomics.featureextractor import RadiomicsFeatureExtractor

K = 4
SETTINGS = {
    "CT": {"resampledPixelSpacing": [1, 1, 1], "binWidth": 25},
    "PET": {"resampledPixelSpacing": [3, 3, 3], "binWidth": 0.25},
}


def on_grid_of(image, reference, interpolator, fill):
    return sitk.Resample(image, reference, sitk.Transform(), interpolator, fill)


def smoothed(image, reference):
    """Take out what the coarser grid cannot hold: a Gaussian in each direction."""
    pairs = list(zip(image.GetSpacing(), reference.GetSpacing(), strict=True))
    width = 2 * math.sqrt(2 * math.log(2))
    sigma = [math.sqrt(max(b**2 - a**2, 1e-6)) / width for a, b in pairs]
    image = sitk.Cast(image, sitk.sitkFloat32)
    return sitk.SmoothingRecursiveGaussian(image, sigma)


def habitats(pet, ct, mask):
    """Labels 1..4 on the grid of the PET, 0 outside the tumor."""
    share = sitk.Cast(mask > 0, sitk.sitkFloat32)
    tumor = sitk.GetArrayFromImage(on_grid_of(share, pet, sitk.sitkLinear, 0)) >= 0.5
    coarse = on_grid_of(smoothed(ct, pet), pet, sitk.sitkLinear, -1000)
    arrays = [sitk.GetArrayFromImage(image)[tumor] for image in (pet, coarse)]
    values = np.stack(arrays, axis=1).astype(float)
    values = (values - values.mean(0)) / values.std(0)
    labels = np.zeros(tumor.shape, np.uint8)
    labels[tumor] = 1 + KMeans(K, n_init=10, random_state=0).fit_predict(values)
    image = sitk.GetImageFromArray(labels)
    image.CopyInformation(pet)
    return image


def features(case_id, images, labels):
    """Rows of case, region, channel, feature and value."""
    for channel, image in images.items():
        here = on_grid_of(labels, image, sitk.sitkNearestNeighbor, 0)
        extractor = RadiomicsFeatureExtractor(**SETTINGS[channel])
        for region in range(K + 1):
            mask = sitk.Cast(
                here > 0 if region == 0 else here == region, sitk.sitkUInt8
            )
            try:
                found = extractor.execute(image, mask)
            except ValueError:  # a habitat of too few voxels
                continue
            for name, value in found.items():
                if name.startswith("original_"):
                    value = complex(value).real
                    yield case_id, region, channel, name, value


def main(cohort, out):
    folder = Path(cohort).parent
    with Path(cohort).open() as rows, Path(out).open("w") as file:
        table = csv.writer(file)
        for row in csv.DictReader(rows):
            files = [str(folder / row[what]) for what in ("pet", "ct", "mask")]
            pet, ct, mask = map(sitk.ReadImage, files)
            labels = habitats(pet, ct, mask)
            images = {"PET": pet, "CT": ct}
            sitk.WriteImage(
                labels, str(Path(out).with_name(row["case_id"] + ".nii.gz"))
            )
            table.writerows(features(row["case_id"], images, labels))


if __name__ == "__main__":
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    main(*sys.argv[1:])

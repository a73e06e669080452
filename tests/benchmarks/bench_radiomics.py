"""Speed of radiomics per habitat: ``python -m tests.benchmarks.bench_radiomics``.

CT of STS_006, 80,000 voxels of the tumor in four habitats (its smoothed values cut at
their quartiles), gray levels of 25 HU, the image's own grid. Ours from the image and
the label map; pyradiomics as it is called by its users: its extractor on the image,
label by label. Median of 5 runs, interleaved, one thread. Then lung1 of pyradiomics,
original, wavelet and LoG of 1 and 3 mm: `extract` against the extractor.

pictologics 0.9 (Python >= 3.12; it adds up the directions before it computes features)
took 18 ms for first order, texture and shape of the whole tumor where ours took 30.
"""

import logging
import os
import statistics
import time
import warnings

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from habitat import read
from habitat.features import LoG, RadiomicsSettings, extract
from habitat.features._shape import shape
from habitat.features._texture import CLASSES, discretize, first_order, texture
from habitat.geometry import bounding_box
from tests.conftest import find_shared

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from radiomics.featureextractor import RadiomicsFeatureExtractor

REPEATS, VOXELS, HABITATS, WIDTH = 5, 80_000, 4, 25.0


def ours(values, labels, spacing):
    """All but shape, on the box of the tumor."""
    box = bounding_box(labels > 0)
    values, labels = values[box].astype(np.float64), labels[box]
    levels, _ = discretize(values, labels, HABITATS, bin_width=WIDTH)
    found = first_order(values, levels, labels, HABITATS, spacing)
    return found | texture(levels, labels, HABITATS)


def our_shape(labels, spacing):
    box = bounding_box(labels > 0)
    return shape(labels[box], HABITATS, spacing)


def theirs(image, labels, kinds):
    """Return a function that extracts these classes of all habitats."""
    extractor = RadiomicsFeatureExtractor(binWidth=WIDTH)
    extractor.disableAllFeatures()
    for kind in kinds:
        extractor.enableFeatureClassByName(kind)

    def run():
        every = [extractor.execute(image, labels, label=k + 1) for k in range(HABITATS)]
        start = "original_"
        names = [k[len(start) :] for k in every[0] if k.startswith(start)]
        return {k: np.array([float(f[start + k]) for f in every]) for k in names}

    return run


def timed(functions):
    """Median seconds and result of each, warm, in turn."""
    seconds, found = {name: [] for name in functions}, {}
    for turn in range(REPEATS + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            found[name] = function()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(s) for name, s in seconds.items()}, found


def main():
    folder = find_shared() / "data" / "sts_petct" / "STS_006"
    image = sitk.ReadImage(str(folder / "CT_image.nii.gz"))
    values = sitk.GetArrayFromImage(image)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "CT_mask.nii.gz"))) > 0
    mask.reshape(-1)[np.flatnonzero(mask)[VOXELS:]] = False
    smooth = gaussian_filter(values.astype(float), 2)[mask]
    labels = np.zeros(mask.shape, np.uint8)
    quarters = np.quantile(smooth, [0.25, 0.5, 0.75])
    labels[mask] = 1 + np.digitize(smooth, quarters)
    spacing = image.GetSpacing()[::-1]
    theirs_labels = sitk.GetImageFromArray(labels)
    theirs_labels.CopyInformation(image)
    texture_only = ("firstorder", *CLASSES)
    seconds, found = timed(
        {
            "texture": lambda: ours(values, labels, spacing),
            "shape": lambda: our_shape(labels, spacing),
            "pyradiomics texture": theirs(image, theirs_labels, texture_only),
            "pyradiomics all": theirs(image, theirs_labels, (*texture_only, "shape")),
        }
    )
    got, want = found["texture"] | found["shape"], found["pyradiomics all"]
    same = [np.allclose(got[k], want[k], rtol=1e-6, atol=1e-12) for k in want]
    print(f"{mask.sum()} voxels, {HABITATS} habitats: {len(want)} features, ", end="")
    print(f"{sum(same)} of them equal at 1e-6 in all habitats")
    for name, s in seconds.items():
        print(f"  {name:20}{1000 * s:10,.1f} ms")
    alone, whole = seconds["texture"], seconds["texture"] + seconds["shape"]
    every = seconds["pyradiomics all"]
    print(f"  all 107 features: {every / whole:.0f} x (target 80)")
    same = seconds["pyradiomics texture"] / alone
    print(f"  93 without shape: {same:.0f} x pyradiomics without shape (target 200),")
    print(f"    {every / alone:.0f} x pyradiomics with shape")
    filters()


def filters():
    folder = find_shared() / "data" / "pyradiomics_cases"
    files = [str(folder / f"lung1_{what}.nrrd") for what in ("image", "label")]
    image, mask = map(sitk.ReadImage, files)
    extractor = RadiomicsFeatureExtractor(binWidth=WIDTH)
    extractor.enableImageTypes(Original={}, Wavelet={}, LoG={"sigma": [1.0, 3.0]})
    settings = RadiomicsSettings(
        features=(*CLASSES, "firstorder", "shape"),
        filters=("original", "wavelet", LoG((1.0, 3.0))),
        spacing=0,
        bin_width=WIDTH,
    )
    images, labels = {"x": read(files[0])}, read(files[1])
    labels = labels.replace(labels.array > 0)  # one region: the tumor
    seconds, found = timed(
        {
            "ours": lambda: extract(
                labels, images, families=("radiomics",), settings=settings, min_voxels=1
            ),
            "pyradiomics": lambda: extractor.execute(image, mask),
        }
    )
    table, theirs = found["ours"].set_index("feature")["value"], found["pyradiomics"]
    same = [
        np.isclose(table[name], complex(theirs[name]).real, rtol=1e-6, atol=1e-12)
        for name in table.index
    ]
    print(f"lung1, {len(same)} features of 11 images, {sum(same)} equal at 1e-6")
    for name, s in seconds.items():
        print(f"  {name:20}{1000 * s:10,.1f} ms")
    print(f"  {seconds['pyradiomics'] / seconds['ours']:.0f} x (target 12)")


if __name__ == "__main__":
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    with threadpool_limits(1), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        main()

"""Speed of thresholds, supervoxels and smoothing.

``python -m tests.benchmarks.bench_spatial`` prints medians of 7 interleaved calls, one
thread, on a generated tumor of 80,000 voxels, and ratios against scikit-image where it
has the same.
"""

import os

os.environ["HABITAT_NUM_THREADS"] = "1"

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from skimage.segmentation import slic
from threadpoolctl import threadpool_limits

from habitat.clustering import kmeans
from habitat.clustering._otsu import otsu
from habitat.clustering._potts import Potts, smooth
from habitat.clustering._supervoxels import SupervoxelOptions, describe, supervoxels
from tests.benchmarks.bench_kmeans import interleaved

SPACING = (3.0, 1.0, 1.0)


def tumor(radius=(9, 46, 46)):
    """Scaled channels and places of a ball in mm: smooth habitats under noise."""
    rng = np.random.default_rng(0)
    shape = tuple(2 * r + 1 for r in radius)
    where = np.indices(shape).reshape(3, -1).T
    index = where[(((where - radius) / radius) ** 2).sum(axis=1) <= 1]
    field = ndimage.gaussian_filter(rng.standard_normal(shape), (2, 6, 6))
    part = np.digitize(field, np.quantile(field, [0.3, 0.6, 0.85]))[tuple(index.T)]
    means = np.array([[-1.2, -0.6], [0.0, 0.2], [0.4, 1.8], [1.6, 0.4]])
    return means[part] + 0.6 * rng.standard_normal((len(index), 2)), index


def volumes(Z, index):
    shape = index.max(axis=0) + 1
    image, mask = np.zeros((*shape, Z.shape[1])), np.zeros(shape, bool)
    image[tuple(index.T)], mask[tuple(index.T)] = Z, True
    return image, mask


def main():
    Z, index = tumor()
    image, mask = volumes(Z, index)
    fit = kmeans(Z, 4)
    costs, labels = fit.rule.costs(Z), fit.labels
    options = SupervoxelOptions()
    n = options.count(len(Z))

    def patches():
        return supervoxels(Z, index, SPACING, options, np.random.default_rng(0))

    def mask_slic():
        return slic(image, n, 0.1, spacing=SPACING, mask=mask, channel_axis=-1)

    def potts(beta, neighbors):
        return lambda: smooth(costs, index, SPACING, labels, Potts(beta, neighbors))

    parts = patches()
    functions = {
        "otsu, 2 levels": lambda: otsu(Z[:, 0]),
        "otsu, 4 levels": lambda: otsu(Z[:, 0], 4),
        "scikit-image multiotsu, 4": lambda: threshold_multiotsu(Z[:, 0], 4),
        "supervoxels": patches,
        "scikit-image maskSLIC": mask_slic,
        "describe": lambda: describe(Z, parts, int(parts.max()) + 1),
    }
    for beta, neighbors in ((0.5, 6), (2.0, 6), (0.3, 26), (1.0, 26)):
        functions[f"smooth, beta {beta}, {neighbors}"] = potts(beta, neighbors)
    seconds, results = interleaved(functions)
    print(f"\n{len(Z):,} voxels, one thread")
    for name, s in seconds.items():
        note = ""
        if name.startswith("smooth"):
            found, _, n_iter = results[name]
            changed = 100 * (found != labels).mean()
            note = f"{n_iter} sweeps, {changed:.0f} % of the labels changed"
        print(f"{name:28}{1e3 * s:9.1f} ms  {note}")
    for ours, theirs in (
        ("otsu, 4 levels", "scikit-image multiotsu, 4"),
        ("supervoxels", "scikit-image maskSLIC"),
    ):
        print(f"{ours}: {seconds[theirs] / seconds[ours]:.2f} times {theirs}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()

"""What kernels and methods are compared with, for truth and for speed."""

import numpy as np
import sklearn.cluster
from threadpoolctl import threadpool_limits

from habitat import clustering
from habitat.kernels import (
    components,
    distance,
    gmm,
    ivim,
    kmeans,
    logistic,
    mesh,
    neighbors,
    otsu,
    potts,
    regions,
    scores,
    texture,
    texture_pairs,
    texture_runs,
    texture_zones,
    tofts,
    unimodal,
)
from tests import (
    naive,
    naive_distance,
    naive_gmm,
    naive_ivim,
    naive_logistic,
    naive_mesh,
    naive_neighbors,
    naive_regions,
    naive_scores,
    naive_spatial,
    naive_texture,
    naive_texture_zones,
    naive_tofts,
    naive_unimodal,
)


def sklearn_kmeans(X, k, init, max_iter=300):
    """scikit-learn's Lloyd from the same centers, until no label changes."""
    model = sklearn.cluster.KMeans(
        k, init=init, n_init=1, max_iter=max_iter, tol=0.0, algorithm="lloyd"
    )
    with threadpool_limits(1):  # its threads spin while others wait
        model.fit(X)
    return clustering.Clustering(
        model.labels_,
        model.cluster_centers_,
        model.inertia_,
        model.n_iter_,
        model.n_iter_ < max_iter,
        clustering.Nearest(model.cluster_centers_, model.inertia_ / X.size),
    )


TWINS = {
    components.join: naive_spatial.join,
    distance.surface_distance: naive_distance.surface_distance,
    gmm.densities: naive_gmm.densities,
    gmm.em_step: naive_gmm.em_step,
    ivim.ivim_full: naive_ivim.ivim_full,
    ivim.ivim_segmented: naive_ivim.ivim_segmented,
    kmeans.arrange: naive.arrange,
    kmeans.assign: naive.assign,
    kmeans.kmeans_plusplus: naive.kmeans_plusplus,
    kmeans.lloyd_step: naive.lloyd_step,
    logistic.logistic_path: naive_logistic.logistic_path,
    mesh.diameters: naive_mesh.diameters,
    mesh.march: naive_mesh.march,
    neighbors.component_sizes: naive_neighbors.component_sizes,
    neighbors.euler_octants: naive_neighbors.euler_octants,
    neighbors.pair_counts: naive_neighbors.pair_counts,
    otsu.otsu_cuts: naive_spatial.otsu_cuts,
    potts.icm_sweep: naive_spatial.icm_sweep,
    regions.count: naive_regions.count,
    scores.distance_sums: naive_scores.distance_sums,
    scores.separation: naive.separation,
    scores.split_path: naive_scores.split_path,
    texture.firstorder: naive_texture.firstorder,
    texture_pairs.glcm: naive_texture.glcm,
    texture_runs.glrlm: naive_texture_zones.glrlm,
    texture_zones.gldm: naive_texture_zones.gldm,
    texture_zones.glszm: naive_texture_zones.glszm,
    texture_zones.ngtdm: naive_texture_zones.ngtdm,
    tofts.bounded: naive_tofts.bounded,
    tofts.concentration: naive_tofts.concentration,
    tofts.convolve: naive_tofts.convolve,
    tofts.linear: naive_tofts.linear,
    unimodal.dip: naive_unimodal.dip,
}

ORACLES = {clustering.kmeans: sklearn_kmeans}


def tumor(n, seed=0):
    """Generated voxels like a scaled tumor's: overlapping, correlated, SUV skewed."""
    rng = np.random.default_rng(seed)
    share, suv, hu = [0.3, 0.3, 0.25, 0.15], [2.0, 4.5, 8.0, 5.5], [10, 38, 60, 120]
    one, two = rng.choice(4, n, p=share), rng.choice(4, n, p=share)
    w = 0.5 * rng.beta(0.4, 0.4, n)  # partial volume
    pet = (1 - w) * np.take(suv, one) + w * np.take(suv, two)
    ct = (1 - w) * np.take(hu, one) + w * np.take(hu, two)
    pet *= np.exp(0.25 * rng.standard_normal(n))
    ct = np.rint(ct + 3 * (pet - 5) + 22 * rng.standard_normal(n))
    raw = np.stack([pet.astype(np.float32), ct], axis=1)
    return (raw - [5.0, 54.0]) / [2.6, 44.0]

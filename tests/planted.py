"""Generated cohorts whose outcome shows in one property of habitats and in no other."""

import numpy as np
from scipy import ndimage, special

from habitat import Case, Image

SIZE, SPACING = 20, (3.0, 3.0, 3.0)  # voxels a side, mm


def field(rng, sigma):
    """A Gaussian field; sigma in voxels, 0 for white noise."""
    noise = rng.standard_normal((SIZE,) * 3)
    return ndimage.gaussian_filter(noise, sigma, mode="wrap") if sigma else noise


def normal_scores(values):
    """The same order with exactly the quantiles of a normal distribution."""
    ranks = np.argsort(np.argsort(values))
    return special.ndtri((ranks + 0.5) / values.size)


def tumor(rng):
    """An ellipsoid of two to three thousand voxels."""
    axes = rng.uniform(0.8, 1.0, 3) * SIZE / 2.1
    places = np.meshgrid(*[(np.arange(SIZE) - SIZE / 2 + 0.5) / a for a in axes])
    return sum(p**2 for p in places) <= 1


def case(name, pet, ct, mask):
    grid = {"spacing": SPACING}
    images = {
        "pet": Image(pet.astype(np.float32), unit="SUVbw", **grid),
        "ct": Image(np.rint(ct).astype(np.float32), unit="HU", **grid),
    }
    return Case(name, images, Image(mask, **grid))


def texture_place(n=200, seed=0):
    """Cohort T: coarse CT texture in the hot habitat (1) or in the cold one (0).

    In every patient half of the tumor is hot, half cold; the HU of each half have the
    same quantiles, in both classes; half of the tumor has coarse texture, half fine.
    """
    y = np.arange(n) % 2
    cases = []
    for i in range(n):
        rng = np.random.default_rng([seed, i, 1])
        mask = tumor(rng)
        smooth = field(rng, 5.0)
        hot = smooth > np.median(smooth[mask])
        coarse, fine = field(rng, 1.2), field(rng, 0.0)
        ct = np.full(mask.shape, -20.0)
        for part, kind in ((hot, y[i]), (~hot, 1 - y[i])):
            inside = mask & part
            texture = coarse if kind else fine
            ct[inside] = 40 + 20 * normal_scores(texture[inside])
        pet = np.where(hot, 8.0, 3.0) + 0.4 * field(rng, 0.0)
        cases.append(case(f"t{i:03}", np.where(mask, pet, 1.0), ct, mask))
    return cases, y


def shares(n=200, seed=0):
    """Cohort S: the hot habitat has more of the tumor in class 1."""
    y = np.arange(n) % 2
    cases = []
    for i in range(n):
        rng = np.random.default_rng([seed, i, 2])
        mask = tumor(rng)
        smooth = field(rng, 5.0)
        share = np.clip(rng.normal(0.4 + 0.2 * y[i], 0.1), 0.05, 0.95)
        hot = smooth > np.quantile(smooth[mask], 1 - share)
        pet = np.where(hot, 8.0, 3.0) + 0.4 * field(rng, 0.0)
        ct = 40 + 10 * field(rng, 0.0)
        cases.append(case(f"s{i:03}", np.where(mask, pet, 1.0), ct, mask))
    return cases, y


def witnesses(n=100, seed=0, p=6):
    """Bags of four instances; in a positive bag one of them is abnormal.

    Returns
    -------
    instances : list of (4, p) arrays
    y : (n,) array
    witness : (n,) array
        Place of the abnormal instance, -1 in negative bags.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    witness = np.where(y == 1, rng.integers(0, 4, n), -1)
    instances = [rng.normal(size=(4, p)) for _ in range(n)]
    for bag, place in zip(instances, witness, strict=True):
        if place >= 0:
            bag[place, :2] += 2.5
    return instances, y, witness

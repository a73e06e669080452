"""Tumor voxels that have a value in some channels only, since a map has none there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.clustering import Mixture, Nearest, Thresholds, best_shift
from habitat.fitting import Fit, Labels, means
from habitat.geometry import Floats
from habitat.tumor import Tumor
from habitat.voxels import fit_scaling


def complete(tumor: Tumor, found: Fit) -> tuple[Labels, Floats | None, list[str]]:
    """Assign the incomplete voxels of a tumor by the channels that they have.

    A mixture integrates the others out. All else takes the center that is nearest in
    the channels there are, scaled; that this distance is of few channels (it could be
    raised by d / d_valid) is the same for all habitats, so that it changes none.

    Returns
    -------
    labels : array of uint8, shape (m,)
        0..k-1, in the order of ``tumor.partial``.
    posterior : array of shape (m, k) or None
        Of a mixture.
    notes : list of str
        How many there are.
    """
    images = tumor.on.images
    values = np.stack([i.array[tumor.partial] for i in images.values()], axis=1)
    valid, values = np.isfinite(values), values.astype(np.float64)
    labels = np.zeros(len(values), dtype=np.uint8)
    posterior = (
        None if found.posterior is None else np.zeros((len(values), len(found.centers)))
    )
    notes = _notes(tumor, valid)
    if not len(values):
        return labels, posterior, notes
    rule = found.definition.rule
    scaling = found.definition.scaling
    if isinstance(rule, Thresholds):  # it cuts natural units, which have no distance
        scaling = fit_scaling("zscore", tumor.X, tumor.modalities)
    rows = scaling(np.where(valid, values, tumor.X.mean(axis=0)))
    own = scaling(tumor.X)
    if found.definition.patient_shift:
        moved = best_shift(own[tumor.fitted], rule)  # type: ignore[arg-type]
        rows, own = rows - moved, own - moved
    centers = means(own, found.labels, len(found.centers))
    if isinstance(rule, Nearest) and found.definition.supervoxels is None:
        centers = rule.centers
    patterns, number = np.unique(valid, axis=0, return_inverse=True)
    for i, there in enumerate(patterns):
        here = number.ravel() == i
        part = rows[here][:, there]
        if isinstance(rule, Mixture):
            marginal = _marginal(rule, there)
            labels[here] = marginal.labels(part)
            if posterior is not None:
                posterior[here] = marginal.posterior(part)
        else:
            labels[here] = _nearest(part, centers[:, there])
    return labels, posterior, notes


def _marginal(rule: Mixture, there: npt.NDArray[np.bool_]) -> Mixture:
    """The mixture of some channels alone."""
    return Mixture(
        rule.weights,
        rule.means[:, there],
        rule.covariances[:, there][:, :, there],
    )


def _nearest(rows: Floats, centers: Floats) -> Labels:
    """Nearest center that is there, the first of several."""
    distance = ((rows[:, None] - centers) ** 2).sum(axis=2)
    distance[np.isnan(distance)] = np.inf
    out: Labels = distance.argmin(axis=1).astype(np.uint8)
    return out


def _notes(tumor: Tumor, valid: npt.NDArray[np.bool_]) -> list[str]:
    """How many voxels were assigned by some channels, and how many by none."""
    total = int(tumor.on.tumor.sum())
    notes = []
    if len(valid):
        share = 100 * len(valid) / total
        text = f"{len(valid)} voxels ({share:.1f}%) have no value in some map"
        notes.append(f"{text}: not in the fit, assigned by their other channels")
    lost = total - len(tumor.X) - len(valid)
    if lost and all(image.is_map for image in tumor.on.images.values()):
        notes.append(f"{lost} voxels have no value in any channel: label 0")
    return notes

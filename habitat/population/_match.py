"""Numbers of a population for the habitats of a map of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from habitat._check import warn
from habitat.geometry import Floats
from habitat.result import HabitatResult


def matched(own: Floats, goal: Floats, max_distance: float) -> npt.NDArray[np.intp]:
    """Number 0..k-1 in the model of each habitat, -1 if unmatched."""
    distance = np.sqrt(((own[:, None] - goal) ** 2).sum(axis=-1))
    far = np.where(np.isfinite(distance), distance, 0.0).max() + 1.0
    cost = np.nan_to_num(distance, nan=far)  # an empty habitat matches nothing
    cost = np.minimum(
        cost, max_distance + 1e-9 * far
    )  # all that is too far costs alike
    row, column = linear_sum_assignment(cost**2)
    close = distance[row, column] <= max_distance
    match = np.full(len(own), -1)
    match[row[close]] = column[close]
    return match


def renumbered(
    result: HabitatResult,
    match: npt.NDArray[np.intp],
    terms: tuple[str, ...],
    model: str,
) -> HabitatResult:
    """The map with the numbers of the model; unmatched habitats come after them."""
    k = len(terms)
    empty = np.isnan(result.centers).any(axis=1)
    lost = np.flatnonzero((match < 0) & ~empty)
    number = match.copy()
    number[lost] = k + np.arange(len(lost))
    centers = np.full((k + len(lost), result.centers.shape[1]), np.nan)
    centers[number[~empty]] = result.centers[~empty]
    labels = np.append(0, number + 1).astype(np.uint8)[result.labels]
    posterior = None
    if result.posterior is not None:
        posterior = np.zeros((len(centers), *result.posterior.shape[1:]), np.float32)
        posterior[number[~empty]] = result.posterior[~empty]
    notes = [
        f"habitat {h + 1} of the map is habitat {m + 1} of the model"
        for h, m in enumerate(match)
        if m >= 0
    ]
    notes += [
        warn(f"habitat {h + 1} of the map is unmatched: habitat {number[h] + 1} now")
        for h in lost
    ]
    named = [*terms, *["unmatched"] * len(lost)]
    return replace(
        result,
        labels=labels,
        centers=centers,
        posterior=posterior,
        params={
            **result.params,
            "terms": named,
            "aligned": {"model": model, "match": [int(m) + 1 for m in match]},
        },
        notes=(*result.notes, *notes),
    )

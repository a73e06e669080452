"""Clustering of rows of channel values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from habitat.clustering._clusters import Clustering, Rule
from habitat.clustering._criteria import ALPHA, CRITERIA, ONE_CLOUD
from habitat.clustering._gmm import (
    GMMOptions,
    Mixture,
    Moments,
    gmm,
    information_criteria,
    moments,
    update,
)
from habitat.clustering._kmeans import KMeansOptions, Nearest, kmeans, nearest
from habitat.clustering._methods import METHODS, Method, find_method, fit_method
from habitat.clustering._order import canonical_order, distinct_rows, evenly
from habitat.clustering._otsu import OtsuOptions, Thresholds, otsu
from habitat.clustering._potts import Potts, smooth
from habitat.clustering._scores import scores
from habitat.clustering._steps import (
    best_shift,
    better_rule,
    shifted,
    step_of,
    sums_of,
)
from habitat.clustering._structure import independent_rows, structure_p
from habitat.clustering._supervoxels import SupervoxelOptions, describe, supervoxels

if TYPE_CHECKING:
    from habitat.clustering._estimators import GaussianMixture, KMeans

__all__ = [
    "ALPHA",
    "CRITERIA",
    "METHODS",
    "ONE_CLOUD",
    "Clustering",
    "GMMOptions",
    "GaussianMixture",
    "KMeans",
    "KMeansOptions",
    "Method",
    "Mixture",
    "Moments",
    "Nearest",
    "OtsuOptions",
    "Potts",
    "Rule",
    "SupervoxelOptions",
    "Thresholds",
    "best_shift",
    "better_rule",
    "canonical_order",
    "describe",
    "distinct_rows",
    "evenly",
    "find_method",
    "fit_method",
    "gmm",
    "independent_rows",
    "information_criteria",
    "kmeans",
    "moments",
    "nearest",
    "otsu",
    "scores",
    "shifted",
    "smooth",
    "step_of",
    "structure_p",
    "sums_of",
    "supervoxels",
    "update",
]


def __getattr__(name: str) -> Any:
    """Estimators come with scikit-learn, whose import takes seconds."""
    if name in ("KMeans", "GaussianMixture"):
        from habitat.clustering import _estimators

        return getattr(_estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

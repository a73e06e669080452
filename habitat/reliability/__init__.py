"""How far habitats can be relied on: perturbed images, repeatability, agreement."""

from habitat.reliability._agreement import (
    ICC,
    Interval,
    Repeatability,
    bland_altman,
    icc,
    match,
    repeatability,
)
from habitat.reliability._extracted import FeaturePrecision, feature_precision
from habitat.reliability._features import MapPrecision, map_precision
from habitat.reliability._perturb import PERTURBATIONS, noise_sd
from habitat.reliability._stability import Stability, stability

__all__ = [
    "ICC",
    "PERTURBATIONS",
    "FeaturePrecision",
    "Interval",
    "MapPrecision",
    "Repeatability",
    "Stability",
    "bland_altman",
    "feature_precision",
    "icc",
    "map_precision",
    "match",
    "noise_sd",
    "repeatability",
    "stability",
]

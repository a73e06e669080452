"""Classifiers of patients by features of their habitats."""

from habitat.classifiers._habitat import HabitatClassifier
from habitat.classifiers._nomogram import Nomogram, nomogram, permutation_importance

__all__ = ["HabitatClassifier", "Nomogram", "nomogram", "permutation_importance"]

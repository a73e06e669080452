"""Clustering of rows of channel values."""

from habitat.clustering._clusters import Clustering, Rule
from habitat.clustering._kmeans import KMeansOptions, Nearest, kmeans, nearest
from habitat.clustering._methods import METHODS, Method, find_method, fit_method
from habitat.clustering._order import canonical_order, distinct_rows
from habitat.clustering._scores import scores

__all__ = [
    "METHODS",
    "Clustering",
    "KMeansOptions",
    "Method",
    "Nearest",
    "Rule",
    "canonical_order",
    "distinct_rows",
    "find_method",
    "fit_method",
    "kmeans",
    "nearest",
    "scores",
]

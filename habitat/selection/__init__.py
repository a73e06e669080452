"""What is learned between a table of features and a classifier, in folds."""

from habitat.selection._blocks import (
    VOLUME,
    block,
    encoded,
    features_of,
    suv_max,
    with_columns,
)
from habitat.selection._combat import ComBat
from habitat.selection._filters import (
    CorrelationFilter,
    VarianceFilter,
    VolumeFilter,
    midranks,
)
from habitat.selection._mrmr import MRMR

__all__ = [
    "MRMR",
    "VOLUME",
    "ComBat",
    "CorrelationFilter",
    "VarianceFilter",
    "VolumeFilter",
    "block",
    "encoded",
    "features_of",
    "midranks",
    "suv_max",
    "with_columns",
]

"""The last part of the road: train a classifier on a cohort, and use it."""

from habitat.training._predict import Predicted, predict
from habitat.training._train import Trained, train

__all__ = ["Predicted", "Trained", "predict", "train"]

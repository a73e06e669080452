"""How well a classifier predicts new patients, and whether to believe it."""

from habitat.evaluation._evaluate import Habitats, evaluate
from habitat.evaluation._outcome import Outcome, outcome_of
from habitat.evaluation._result import Evaluation

__all__ = ["Evaluation", "Habitats", "Outcome", "evaluate", "outcome_of"]

"""Multi-instance learning: patients as sets of habitats, lesions or patches."""

from habitat.mil._bags import Bags
from habitat.mil._classifier import MILClassifier
from habitat.mil._components import components
from habitat.mil._plh import plh_bow
from habitat.mil._pools import POOLS

__all__ = ["POOLS", "Bags", "MILClassifier", "components", "plh_bow"]

"""One definition of habitats for a cohort."""

from habitat.population._model import HabitatModel

__all__ = ["HabitatModel"]

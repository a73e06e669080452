"""The methods by name: how they are fitted, and their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from habitat._check import one_of
from habitat.mil._attention import fit_attention
from habitat.mil._bags import Instances
from habitat.mil._likelihood import fit_likelihood, fit_noisy_or
from habitat.mil._miles import fit_miles
from habitat.mil._plh import fit_histograms
from habitat.mil._pools import fit_embedding
from habitat.mil._svm import fit_max_svm, fit_mi_svm

_F64 = npt.NDArray[np.float64]


class Model(Protocol):
    """What a method gives."""

    @property
    def margins(self) -> bool:
        """Whether scores are margins, no logits."""

    def scores(self, bags: Instances) -> _F64:
        """Logits or margins of bags, (n,) of two classes or (n, classes)."""

    def instances(self, bags: Instances) -> _F64:
        """One number for each instance."""


class Method(NamedTuple):
    """How a model is fitted."""

    fit: Callable[..., Model]
    C: float
    options: Mapping[str, Any]
    classes: bool = False  # whether there may be more than two
    random: bool = False  # whether it takes a seed


METHODS = {
    "embedding": Method(
        fit_embedding, 5.0, {"head": "logistic", "kernel": "rbf"}, classes=True
    ),
    "mi_svm": Method(fit_mi_svm, 10.0, {"kernel": "rbf", "max_iter": 50}),
    "MI_svm": Method(fit_max_svm, 10.0, {"kernel": "rbf", "max_iter": 50}),
    "miles": Method(fit_miles, 5.0, {"gamma": 1.0}),
    "noisy_or": Method(fit_noisy_or, 5.0, {}),
    "lse": Method(fit_likelihood, 5.0, {"r": 5.0}),
    "plh_bow": Method(
        fit_histograms, 5.0, {"bins": 20, "soft": 0.0, "external": False}, True, True
    ),
    "attention": Method(
        fit_attention,
        20.0,
        {"hidden": 32, "units": 32, "seeds": 3, "max_iter": 60},
        *(True, True),
    ),
}


def options_of(method: str, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of a method, those given in place of the defaults."""
    known = METHODS[method].options
    given = dict(options or {})
    for name in given:
        one_of("options", name, known)
    return {**known, **given}

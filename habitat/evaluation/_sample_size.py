"""How many cases a model of some features needs."""

from __future__ import annotations

import math
from typing import NamedTuple

OPTIMISM = 0.05  # of the apparent R2 (Nagelkerke), criterion 2
PRECISION = 0.05  # of the overall risk, criterion 3
NAGELKERKE = 0.15  # that is assumed where no study tells


class SampleSize(NamedTuple):
    """Cases needed by each criterion; the largest counts."""

    shrinkage: int
    optimism: int
    risk: int

    @property
    def n(self) -> int:
        """The number needed."""
        return max(self)


def sample_size(
    n_features: int,
    prevalence: float,
    r2: float | None = None,
    shrinkage: float = 0.9,
) -> SampleSize:
    """Cases needed to fit a model of two classes without much optimism.

    Parameters
    ----------
    n_features : int
        Candidate features.
    prevalence : float
        Share of events.
    r2 : float, optional
        Cox-Snell R2 that is expected of the model; else 15 % of its maximum.
    shrinkage : float
        Smallest global shrinkage that is wanted.

    Notes
    -----
    Riley et al., Stat Med 2019;38:1276, criteria for binary outcomes, as in pmsampsize.

    Examples
    --------
    >>> sample_size(24, 0.174, r2=0.288)
    SampleSize(shrinkage=623, optimism=662, risk=221)
    """
    rest = 1 - prevalence
    most = 1 - (prevalence**prevalence * rest**rest) ** 2
    r2 = NAGELKERKE * most if r2 is None else r2
    optimism = r2 / (r2 + OPTIMISM * most)

    def needed(s: float) -> int:
        return math.ceil(n_features / ((s - 1) * math.log(1 - r2 / s)))

    risk = math.ceil((1.96 / PRECISION) ** 2 * prevalence * rest)
    return SampleSize(needed(shrinkage), needed(optimism), risk)

"""Digital tumors with known habitats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from habitat._check import one_of
from habitat.errors import ConfigError
from habitat.phantoms._ct_phases import (
    PHASE_HU,
    PHASE_NAMES,
    PHASE_SHARES,
    TIMES,
    PhasePhantom,
    ct_phases,
)
from habitat.phantoms._oracle import oracle
from habitat.phantoms._pet_ct import (
    CENTERS,
    COLLAPSED,
    LUNG,
    NAMES,
    SHARES,
    Phantom,
    pet_ct,
)

__all__ = [
    "CENTERS",
    "COLLAPSED",
    "LUNG",
    "NAMES",
    "PHASE_HU",
    "PHASE_NAMES",
    "PHASE_SHARES",
    "SHARES",
    "TIMES",
    "Phantom",
    "PhasePhantom",
    "oracle",
    "phantom",
]


@overload
def phantom(
    kind: Literal["pet_ct"] = ...,
    *,
    noise: float = ...,
    radius_mm: float = ...,
    shares: Sequence[float] | None = ...,
    margin_mm: float = ...,
    motion: None = ...,
    random_state: int = ...,
) -> Phantom: ...


@overload
def phantom(
    kind: Literal["ct_phases"],
    *,
    noise: float = ...,
    radius_mm: float = ...,
    shares: Sequence[float] | None = ...,
    margin_mm: float = ...,
    motion: tuple[float, float] | None = ...,
    random_state: int = ...,
) -> PhasePhantom: ...


def phantom(
    kind: str = "pet_ct",
    *,
    noise: float = 1.0,
    radius_mm: float = 23.0,
    shares: Sequence[float] | None = None,
    margin_mm: float = 30.0,
    motion: tuple[float, float] | None = None,
    random_state: int = 0,
) -> Phantom | PhasePhantom:
    """Make a digital tumor with four known habitats.

    Parameters
    ----------
    kind : {"pet_ct", "ct_phases"}
        PET and CT, or CT in four phases of contrast.
    noise : float
        Multiplies the noise of all images; 0 for none.
    radius_mm : float, mm
        Mean radius; the smooth irregular outline varies by 8 % around it.
    shares : sequence of 4 float, optional
        Share of the tumor volume of each habitat, at least 0.12 each. By default 0.15,
        0.31, 0.38, 0.16 (PET/CT) and 0.30, 0.23, 0.23, 0.24 (phases).
    margin_mm : float, mm
        What the images show around the tumor, at least 15 (phases: 20).
    motion : (float, float), optional
        Only phases: shift (mm) and turn (degrees, about the tumor's center) of every
        phase but the venous one, each in its own random direction.
    random_state : int
        Seed of the outline, the position of the habitats, the grids, the motion and the
        noise.

    Returns
    -------
    Phantom or PhasePhantom
        Phantom: the images `pet`, `ct`, `mask` and `truth`. PhasePhantom: `phases`,
        `mask`, `truth`, `aorta`, `times` and the planted `motion`.

    Raises
    ------
    ConfigError
        If an argument is outside its range.

    Notes
    -----
    All is generated; no patient is behind it. CT: Gaussian blur of 1.2 mm FWHM, mean
    over the slice thickness, white noise of 15 HU, rounded.

    PET/CT: SUV and HU are 2 and 10 in the core, 5 and 40 in the middle, 6 and 130 in
    the dense part, 9 and 60 in the rim. The four lie behind each other in this order,
    with slightly bent borders. A shell of 12 mm like collapsed lung (2 and 60)
    surrounds the tumor, then aerated lung (0.5 and -800). PET: Gaussian blur of 6 mm
    FWHM, noise of 10 % of the local mean, correlated by the same Gaussian, negative
    values set to 0. The two grids have different origins.

    Phases: a core without enhancement (25 HU) fills the middle; around it lie three
    tissues of 40 HU with (arterial, venous, delayed) enhancement of (20, 25, 30) weak,
    (20, 60, 80) progressive and (80, 60, 30) with wash-out, so that in each phase two
    of them look alike. Around the tumor: 6 mm of collapsed lung, aerated lung with
    vessels, the chest wall with ribs, and the aorta. Motion draws from its own stream:
    the tumor and the noise are the same with and without it.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom(noise=0, margin_mm=15)
    >>> p.ct
    Image 25x82x82 voxels of 3.27x0.98x0.98 mm (z, y, x), HU, int16
    >>> [int((p.truth.array == h).sum()) > 1000 for h in (1, 2, 3, 4)]
    [True, True, True, True]
    >>> list(habitat.phantom("ct_phases", margin_mm=20).phases)
    ['unenhanced', 'arterial', 'venous', 'delayed']
    """
    size = (noise, radius_mm, shares, margin_mm)
    if one_of("kind", kind, ("pet_ct", "ct_phases")) == "ct_phases":
        return ct_phases(*size, motion, random_state)
    if motion is not None:
        what = "only the phases of CT can be moved against each other"
        raise ConfigError(what, "`motion`", 'give kind="ct_phases" or leave it out')
    return pet_ct(*size, random_state)

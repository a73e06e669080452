"""Colors of habitats, without matplotlib so that a label file can use them too."""

from __future__ import annotations

import numpy as np

from habitat._check import integer

# Dark and cool to bright and warm. Lightness rises evenly, for prints in gray; blue to
# yellow is the axis that red-green color blindness leaves.
_STOPS = (0, 1 / 3, 1 / 2, 2 / 3, 1)
_ANCHORS = (
    (0x3A, 0x2D, 0xB0),  # indigo
    (0x32, 0x9D, 0xE6),  # blue
    (0xE2, 0x86, 0xC4),  # pink
    (0xFF, 0xA8, 0x45),  # orange
    (0xFF, 0xF3, 0x8C),  # pale yellow
)


def habitat_colors(k: int) -> list[tuple[float, float, float]]:
    """Return the colors of habitats 1 to k, from low to high SUV.

    Parameters
    ----------
    k : int
        Number of habitats, 1 to 20.

    Returns
    -------
    list of (red, green, blue)
        Each 0 to 1. Distinct for color-blind readers and, by lightness, in gray.

    Raises
    ------
    ConfigError
        If `k` is not an integer from 1 to 20.

    Examples
    --------
    >>> from habitat.plotting import habitat_colors
    >>> len(habitat_colors(4))
    4
    """
    count = integer("k", k, 1, 20)
    at = np.linspace(0, 1, count) if count > 1 else np.array([1 / 3])
    anchors = np.array(_ANCHORS) / 255
    mixed = np.stack([np.interp(at, _STOPS, a) for a in anchors.T], axis=1)
    return [(float(r), float(g), float(b)) for r, g, b in mixed]

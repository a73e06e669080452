"""The bar that a clustering of a phantom is held against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from habitat.errors import InputError

Ints = npt.NDArray[np.int64]


def oracle(X: npt.ArrayLike, truth: npt.ArrayLike) -> Ints:
    """Assign voxels to the nearest true center: what knowing the centers can give.

    Blur mixes habitats at their borders, so that no clustering of voxel values reaches
    the truth. This is the bar: channels scaled to unit standard deviation, centers the
    true habitats' means in the images. Nearest *generated* centers (`CENTERS`) do
    worse, since the images hold blurred ones.

    Parameters
    ----------
    X : array of shape (n, channels)
        Voxels of the tumor on any grid, natural units.
    truth : array of int, shape (n,)
        Their true habitats.

    Returns
    -------
    array of int, shape (n,)
        The habitat whose center is nearest.

    Raises
    ------
    InputError
        If the lengths differ.

    Examples
    --------
    >>> from habitat.phantoms import oracle
    >>> oracle([[1.0, 5], [2, 5], [8, 9], [9, 8]], [1, 1, 2, 2])
    array([1, 1, 2, 2])
    """
    values, habitats = np.asarray(X, dtype=np.float64), np.asarray(truth)
    if values.ndim != 2 or habitats.shape != values.shape[:1]:
        what = f"X has shape {values.shape} and truth {habitats.shape}"
        raise InputError(what, "oracle", "give (n, channels) and (n,)")
    scaled = values / values.std(axis=0)
    numbers = np.unique(habitats)
    centers = np.array([scaled[habitats == h].mean(axis=0) for h in numbers])
    distance = ((scaled[:, None] - centers) ** 2).sum(axis=-1)
    nearest: Ints = numbers[distance.argmin(axis=1)]
    return nearest

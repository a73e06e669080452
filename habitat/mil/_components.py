"""Connected pieces of habitats, for bags of lesion parts."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from habitat._check import instance, integer
from habitat.errors import InputError
from habitat.image import Image
from habitat.result import HabitatResult

MOST = 255  # labels that a map can hold


def components(result: HabitatResult, *, min_voxels: int = 16) -> Image:
    """Label the connected pieces of all habitats, the largest first.

    Parameters
    ----------
    result : HabitatResult
        Habitats of a tumor.
    min_voxels : int
        Smaller pieces are left out.

    Returns
    -------
    Image
        uint8, on the grid of the result: 0 or the number of the piece. Voxels of one
        habitat belong together if they share a face, an edge or a corner. Equal sizes
        stand in the order of their habitats, then of their first voxel.

    Raises
    ------
    InputError
        If no piece is large enough, or more than 255 are.

    Examples
    --------
    Pieces as the instances of a bag:

    >>> import habitat
    >>> from habitat.features import wide
    >>> from habitat.mil import Bags, components
    >>> p = habitat.phantom(radius_mm=15, margin_mm=15)
    >>> images = {"pet": p.pet, "ct": p.ct}
    >>> pieces = components(habitat.segment(p.pet, p.ct, p.mask, k=2))
    >>> table = habitat.extract(pieces, images, families=("composition", "intensity"))
    >>> bags = Bags.from_table(wide(table))
    >>> len(bags.bag) == int(pieces.array.max())
    True
    """
    instance("result", result, HabitatResult, "components(habitat.segment(...))")
    least = integer("min_voxels", min_voxels, 1, 10**9)
    labels = result.labels
    found: list[tuple[int, int, np.ndarray]] = []
    for h in range(1, result.k + 1):
        pieces, _ = ndimage.label(labels == h, np.ones((3, 3, 3)))
        sizes = np.bincount(pieces.ravel())
        found += [
            (-int(sizes[i]), h, pieces == i)
            for i in range(1, len(sizes))
            if sizes[i] >= least
        ]
    if not 1 <= len(found) <= MOST:
        what = f"has {len(found)} connected pieces of at least {least} voxels"
        raise InputError(what, "`result`", f"choose min_voxels so that 1 to {MOST} are")
    out = np.zeros(labels.shape, np.uint8)
    for number, (_, _, piece) in enumerate(sorted(found, key=lambda f: f[:2]), start=1):
        out[piece] = number
    return Image(out, result.geometry, unit="habitat")

"""segment(): from registered images and a mask to a habitat map."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy

import habitat
from habitat.case import Case
from habitat.clustering import Method, Potts
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.fitting import (
    Fit,
    Settings,
    check_settings,
    fit,
    learned,
    plain,
)
from habitat.geometry import Floats
from habitat.incomplete import complete
from habitat.result import RIM_MM, HabitatResult
from habitat.tumor import Tumor, open_case, prepare, sources
from habitat.voxels import Fit as Scaling
from habitat.voxels import GridChoice

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike
    from habitat.population import HabitatModel

BLUR_SHARE = 0.8


def segment(
    pet: ChannelLike,
    ct: ChannelLike,
    mask: MaskLike,
    k: int | str = 4,
    *,
    method: str | Method = "kmeans",
    scaling: str | Scaling = "zscore",
    grid: GridChoice = "coarsest",
    label: int | str | None = None,
    model: HabitatModel | None = None,
    smoothness: float | Potts = 0.0,
    rim_mm: float = 0.0,
    random_state: int = 0,
) -> HabitatResult:
    """Split a tumor into habitats by its PET uptake and CT density.

    Parameters
    ----------
    pet : path, SimpleITK.Image, Image or array, SUVbw (g/mL)
        File or DICOM folder (converted to SUVbw from its headers). Arrays are
        (z, y, x), all of one shape; voxels of 1 mm are then assumed, with a warning.
    ct : as `pet`, HU
        On its own grid; PET and CT must be in one patient position (registered).
    mask : as `pet`, or RTSTRUCT, DICOM SEG, .seg.nrrd
        The tumor. A pair ``(mask, other)`` uses the first and warns when the second,
        for example the same lesion drawn on the CT, disagrees.
    k : int, 2 to 20, or "auto"
        Number of habitats; "auto" chooses it by K-means (see `choose_k`), 1 where
        nothing speaks for separate habitats.
    method : {"kmeans", "gmm", "otsu", "supervoxel"}, options object or callable
        How to cluster. Options are `KMeansOptions`, `GMMOptions`, `OtsuOptions` and
        `SupervoxelOptions` of `habitat.clustering`; a callable is ``f(X, k, rng)`` and
        returns labels 0..k-1. "otsu" cuts PET and CT once each: habitats 1
        PETlow-CTlow, 2 PETlow-CThigh, 3 PEThigh-CTlow, 4 PEThigh-CThigh.
    scaling : {"zscore", "log", "robust", "window", "rank", "none"} or callable
        How channels are made comparable; unscaled, HU drowns SUV.
    grid : {"coarsest", "mask", "pet", "ct"} or float or (z, y, x), mm
        Grid that is clustered. "coarsest" is that of the channel with the largest
        voxels, so that no channel enters with noise that another cannot have.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.
    model : HabitatModel, optional
        Habitats of a cohort, in place of a fit. Leave the options of the fit out: one
        that contradicts the model is refused, unless it equals the default.
    smoothness : float or habitat.clustering.Potts
        Cost of each pair of face neighbors in different habitats (Potts prior, iterated
        conditional modes), 0.5 to 2 is sensible; `Potts` can take all 26 neighbors.
    rim_mm : float, mm
        Shell that is left out of the fit and then assigned to the nearest habitat.
    random_state : int
        Seed; the same inputs and seed give the same bytes.

    Returns
    -------
    HabitatResult
        Habitats 1..k ordered by SUV, then HU (but for "otsu" and `model`). Without a
        model, habitats of two patients are only ordered alike, not the same tissue.

    Raises
    ------
    HabitatError
        One of its kinds; the message names all problems found.

    Notes
    -----
    A voxel of the grid belongs to the tumor if the mask covers at least half of it.
    Finer channels are smoothed before they are brought to the grid (see `resample`), HU
    below -1024 or above 3071 is clipped and counted in the notes. K-means: see
    `habitat.clustering.kmeans`.

    Examples
    --------
    >>> import habitat
    >>> case = habitat.phantom()
    >>> result = habitat.segment(case.pet, case.ct, case.mask, k=4)
    >>> result.names[0].split()[0]
    'H1'
    """
    return segment_channels(
        {"pet": pet, "ct": ct},
        mask,
        k,
        method=method,
        scaling=scaling,
        grid=grid,
        label=label,
        model=model,
        smoothness=smoothness,
        rim_mm=rim_mm,
        random_state=random_state,
    )


def segment_channels(
    channels: Mapping[str, ChannelLike],
    mask: MaskLike,
    k: int | str = 4,
    *,
    method: str | Method = "kmeans",
    scaling: str | Scaling = "zscore",
    grid: GridChoice = "coarsest",
    label: int | str | None = None,
    model: HabitatModel | None = None,
    smoothness: float | Potts = 0.0,
    rim_mm: float = 0.0,
    random_state: int = 0,
) -> HabitatResult:
    """Split a tumor into habitats by any registered channels.

    Parameters
    ----------
    channels : mapping of str to image-like
        Channel name to path, SimpleITK.Image, Image or array. A channel named "SUVbw",
        "SUVlbm", "SUVbsa" or "HU" has that unit unless its Image says otherwise; "pet"
        and "ct" are those of `segment`.
        Habitats are ordered by the first channel, then the second.
    mask : mask-like
        The tumor.
    k : int, 2 to 20, or "auto"
        Number of habitats.
    method, scaling, grid, label, model, smoothness, rim_mm, random_state
        As in `segment`; `grid` may also be the name of a channel.

    Returns
    -------
    HabitatResult
        As of `segment`.

    Raises
    ------
    HabitatError
        One of its kinds; the message names all problems found.

    Examples
    --------
    >>> import habitat
    >>> case = habitat.phantom()
    >>> result = habitat.segment_channels({"HU": case.ct}, case.mask, k=2, grid=3.0)
    >>> [float(s) for s in result.geometry.spacing]
    [3.0, 3.0, 3.0]
    """
    options: dict[str, Any] = {
        "k": k,
        "method": method,
        "scaling": scaling,
        "grid": grid,
        "smoothness": smoothness,
        "rim_mm": rim_mm,
        "random_state": random_state,
    }
    return _segment(channels, mask, label, model, options)


_DEFAULTS = {"k": 4, "method": "kmeans", "scaling": "zscore", "grid": "coarsest"}
_DEFAULTS |= {"smoothness": 0.0, "rim_mm": 0.0, "random_state": 0}


def _segment(
    channels: Mapping[str, Any],
    mask: Any,
    label: Any,
    model: HabitatModel | None,
    options: dict[str, Any],
) -> HabitatResult:
    if not isinstance(channels, Mapping) or not channels:
        what = f"must be a mapping of channel name to image, got {channels!r:.60}"
        raise ConfigError(what, "`channels`")
    if model is not None:
        if not hasattr(model, "get_params"):
            what = f"must be a HabitatModel, got {model!r:.60}"
            raise ConfigError(
                what, "`model`", "read it: habitat.HabitatModel.load(path)"
            )
        raise_all(overruled(options, model))
        return model.segment(Case("case", channels, mask, label))
    settings = check_settings(list(channels), label=label, **options)
    inputs, names = open_case(channels, mask, settings.label)
    k = 1 if settings.k == "auto" else int(settings.k)
    tumor = prepare(inputs, names, settings.grid, settings.rim_mm, k)
    found = fit(tumor, settings)
    return assemble(tumor, found, settings)


def overruled(options: dict[str, Any], model: HabitatModel) -> list[HabitatError]:
    """Options that contradict the model: they would be ignored."""
    return [
        ConfigError(
            f"{value!r} has no effect with a model that has {getattr(model, name)!r}",
            f"`{name}`",
            "leave it out",
        )
        for name, value in options.items()
        if plain(value) not in (_DEFAULTS[name], plain(getattr(model, name)))
    ]


def assemble(
    tumor: Tumor, found: Fit, settings: Settings, model: str | None = None
) -> HabitatResult:
    """Put everything about the habitats of a tumor into a result."""
    on, k = tumor.on, len(found.centers)
    labels = np.zeros(tumor.keep.shape, dtype=np.uint8)
    labels[tumor.keep] = found.labels + 1
    others, other_posterior, other_notes = complete(tumor, found)
    labels[tumor.partial] = others + 1
    full = np.zeros(on.geometry.shape, dtype=np.uint8)
    full[on.box] = labels
    posterior = _posterior(tumor, found, other_posterior)
    result = HabitatResult(
        labels=full,
        geometry=on.geometry,
        box=on.box,
        images={tumor.names[c]: image for c, image in on.images.items()},
        centers=found.centers,
        posterior=None if posterior is None else posterior.astype(np.float32),
        uncertainty=_uncertainty(posterior),
        quality=found.quality,
        params=_params(tumor, found, settings, model),
        notes=(),
        sources=sources(tumor),
        mask_geometry=tumor.inputs.mask_geometry,
    )
    notes = [*tumor.notes, *found.notes, *other_notes]
    notes += [
        f"habitat {h} is empty" for h in range(1, k + 1) if not (labels == h).any()
    ]
    notes += _rim_notes(result.names, labels, tumor.deep)
    return replace(result, notes=tuple(dict.fromkeys(notes)))


def _posterior(
    tumor: Tumor, found: Fit, others: Floats | None
) -> npt.NDArray[np.float64] | None:
    """Posterior (k, *box) of all voxels, 0 outside the tumor."""
    if found.posterior is None or others is None:
        return None
    share = np.zeros((found.posterior.shape[1], *tumor.keep.shape))
    share[:, tumor.keep] = found.posterior.T
    share[:, tumor.partial] = others.T
    return share


def _uncertainty(share: Floats | None) -> npt.NDArray[np.float32] | None:
    """Entropy of a posterior (k, *box) divided by ln k."""
    if share is None:
        return None
    entropy = -xlogy(share, share).sum(axis=0) / np.log(max(len(share), 2))
    out: npt.NDArray[np.float32] = np.abs(entropy).astype(np.float32)
    return out


def _rim_notes(
    names: Sequence[str], labels: npt.NDArray[np.uint8], deep: Floats
) -> list[str]:
    notes = []
    for h, name in enumerate(names, start=1):
        own = deep[labels == h]
        share = (own <= RIM_MM).mean() if own.size else 0.0
        if share > BLUR_SHARE:
            text = f"{name}: {100 * share:.0f}% of it lies within {RIM_MM:g} mm of the"
            notes.append(f"{text} tumor surface: mostly blur or mask edge")
    return notes


# --- provenance -----------------------------------------------------------------------


def _params(
    tumor: Tumor, found: Fit, settings: Settings, model: str | None
) -> dict[str, Any]:
    inputs, on = tumor.inputs, tumor.on
    arguments = {f.name: plain(getattr(settings, f.name)) for f in fields(settings)}
    params = {
        "arguments": {**arguments, "model": model},
        "terms": found.definition.terms,
        "learned": learned(found.definition),
        "spacing_mm": on.geometry.spacing,
        "channels": on.done,
        "mask": {
            "spacing_mm": inputs.mask.geometry.spacing,
            "voxels": int(np.count_nonzero(inputs.mask.array)),
            "rule": "area fraction >= 0.5",
        },
        "headers": {c: dict(i.meta) for c, i in inputs.images.items() if i.meta},
        "sha256": {name: s["sha256"] for name, s in sources(tumor).items()},
        "versions": versions(),
    }
    out: dict[str, Any] = json.loads(json.dumps(params))  # lists, no tuples
    return out


@cache
def versions() -> dict[str, str]:
    """Versions of habitat, Python and the libraries that decide about numbers."""
    found = {"habitat": habitat.__version__, "python": platform.python_version()}
    used = ("numpy", "scipy", "numba", "SimpleITK", "pydicom")
    return found | {name: metadata.version(name) for name in used}

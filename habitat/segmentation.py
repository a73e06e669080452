"""segment(): from registered images and a mask to a habitat map."""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import habitat
from habitat._check import at_least, integer, one_of, warn
from habitat.case import (
    SUV_UNITS,
    SWAPPED,
    UNITS,
    Inputs,
    flip_notes,
    load_inputs,
    modality_notes,
    modality_problems,
)
from habitat.clustering import (
    Method,
    canonical_order,
    distinct_rows,
    find_method,
    fit_method,
    nearest,
    scores,
)
from habitat.errors import (
    ConfigError,
    HabitatError,
    InputError,
    MaskError,
    ModalityError,
    SUVError,
    raise_all,
)
from habitat.geometry import Floats
from habitat.result import RIM_MM, HabitatResult, depth
from habitat.voxels import (
    GRIDS,
    SCALINGS,
    Fit,
    GridChoice,
    OnGrid,
    bring_together,
    fit_scaling,
    grid_choice,
    missing_values,
    shape_notes,
)

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike


MIN_VOXELS = 20
BLUR_SHARE = 0.8


def segment(
    pet: ChannelLike,
    ct: ChannelLike,
    mask: MaskLike,
    k: int = 4,
    *,
    method: str | Method = "kmeans",
    scaling: str | Fit = "zscore",
    grid: GridChoice = "coarsest",
    label: int | str | None = None,
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
    k : int, 2 to 20
        Number of habitats.
    method : "kmeans", habitat.clustering.KMeansOptions or callable
        How to cluster; a callable is ``f(X, k, rng) -> labels`` 0..k-1.
    scaling : {"zscore", "robust", "window", "rank", "none"} or callable
        How channels are made comparable; unscaled, HU drowns SUV.
    grid : {"coarsest", "mask", "pet", "ct"} or float or (z, y, x), mm
        Grid that is clustered. "coarsest" is that of the channel with the largest
        voxels, so that no channel enters with noise that another cannot have.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.
    rim_mm : float, mm
        Shell that is left out of the fit and then assigned to the nearest habitat.
    random_state : int
        Seed; the same inputs and seed give the same bytes.

    Returns
    -------
    HabitatResult
        Habitats 1..k ordered by SUV, then HU. Habitats of two patients are only ordered
        alike, they are not the same tissue.

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
    channels = {"pet": pet, "ct": ct}
    settings = _settings(
        channels, k, method, scaling, grid, label, rim_mm, random_state
    )
    inputs = load_inputs(channels, mask, label, {"pet": "SUVbw", "ct": "HU"})
    raise_all(_unit_problems(inputs))
    names = {"pet": str(inputs.images["pet"].unit), "ct": "HU"}
    return _segment(inputs, names, settings)


def segment_channels(
    channels: Mapping[str, ChannelLike],
    mask: MaskLike,
    k: int = 4,
    *,
    method: str | Method = "kmeans",
    scaling: str | Fit = "zscore",
    grid: GridChoice = "coarsest",
    label: int | str | None = None,
    rim_mm: float = 0.0,
    random_state: int = 0,
) -> HabitatResult:
    """Split a tumor into habitats by any registered channels.

    Parameters
    ----------
    channels : mapping of str to image-like
        Channel name to path, SimpleITK.Image, Image or array. A channel named "SUVbw",
        "SUVlbm", "SUVbsa" or "HU" has that unit unless its Image says otherwise.
        Habitats are ordered by the first channel, then the second.
    mask : mask-like
        The tumor.
    k : int, 2 to 20
        Number of habitats.
    method, scaling, grid, label, rim_mm, random_state
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
    if not isinstance(channels, Mapping) or not channels:
        what = f"must be a mapping of channel name to image, got {channels!r:.60}"
        raise ConfigError(what, "`channels`")
    reserved = [c for c in channels if not isinstance(c, str) or c in GRIDS]
    if reserved:
        what = f"names must be texts other than {', '.join(GRIDS)}, got {reserved}"
        raise ConfigError(what, "`channels`")
    settings = _settings(
        channels, k, method, scaling, grid, label, rim_mm, random_state
    )
    known = {c: c for c in channels if c in UNITS}
    inputs = load_inputs(channels, mask, label, known)
    raise_all(
        [
            ModalityError(f"must be in {c}, has unit {inputs.images[c].unit!r}", c)
            for c in known
            if inputs.images[c].unit != c
        ]
    )
    return _segment(inputs, {c: c for c in channels}, settings)


@dataclass(frozen=True)
class _Settings:
    k: int
    method: Any
    scaling: Any
    grid: Any
    label: int | str | None
    rim_mm: float
    random_state: int


def _settings(
    channels: Iterable[str],
    k: Any,
    method: Any,
    scaling: Any,
    grid: Any,
    label: Any,
    rim_mm: Any,
    seed: Any,
) -> _Settings:
    """Check all arguments before any file is read; raise all problems at once."""
    problems: list[HabitatError] = []

    def check(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except HabitatError as error:
            problems.append(error)

    settings = _Settings(
        k=check(integer, "k", k, 2, 20),
        method=check(find_method, method) and method,
        scaling=check(_scaling_choice, scaling),
        grid=check(grid_choice, grid, channels),
        label=check(_label_choice, label),
        rim_mm=check(at_least, "rim_mm", rim_mm, 0.0),
        random_state=check(integer, "random_state", seed, 0, 2**32 - 1),
    )
    raise_all(problems)
    return settings


def _scaling_choice(scaling: Any) -> Any:
    return scaling if callable(scaling) else one_of("scaling", scaling, SCALINGS)


def _label_choice(label: Any) -> int | str | None:
    if label is None or isinstance(label, str):
        return label
    return integer("label", label, 0, 2**63)


def _unit_problems(inputs: Inputs) -> list[HabitatError]:
    problems: list[HabitatError] = []
    pet, ct = inputs.images["pet"].unit, inputs.images["ct"].unit
    if pet == "Bq/mL":
        fix = "read the DICOM folder (habitat.read_dicom converts to SUV)"
        problems.append(SUVError("is in Bq/mL, not SUV", "pet", fix))
    elif pet not in SUV_UNITS:
        what = f"must have a unit of {', '.join(SUV_UNITS)}, has {pet!r}"
        problems.append(ModalityError(what, "pet", SWAPPED if pet == "HU" else _UNIT))
    if ct != "HU":
        fix = SWAPPED if ct in SUV_UNITS else _UNIT
        problems.append(ModalityError(f"must have unit 'HU', has {ct!r}", "ct", fix))
    return problems


_UNIT = "state it: image.replace(image.array, unit=...)"


def _segment(
    inputs: Inputs, names: dict[str, str], settings: _Settings
) -> HabitatResult:
    on = bring_together(inputs.images, inputs.mask, inputs.mask_geometry, settings.grid)
    inside = {c: i.array[on.tumor & on.valid] for c, i in on.images.items()}
    notes = [*inputs.notes, *on.notes]
    notes += _check_values(inputs, on, inside, settings.k)
    keep = on.tumor & on.valid
    deep = depth(on.tumor, on.geometry.crop(on.box))
    X = np.stack(list(inside.values()), axis=1).astype(np.float64)
    fitted = deep[keep] > settings.rim_mm
    raise_all(_too_few(int(fitted.sum()), settings))
    units = [i.unit for i in on.images.values()]
    if not fitted.all():
        _check_contrast(X[fitted], inside, settings)
    fit = _cluster(X, fitted, units, settings)
    labels = np.zeros(keep.shape, dtype=np.uint8)
    labels[keep] = fit.labels + 1
    full = np.zeros(on.geometry.shape, dtype=np.uint8)
    full[on.box] = labels
    notes += fit.notes
    result = HabitatResult(
        labels=full,
        geometry=on.geometry,
        box=on.box,
        images={names[c]: image for c, image in on.images.items()},
        centers=fit.centers,
        posterior=None,
        uncertainty=None,
        quality=fit.quality,
        params=_params(inputs, on, settings),
        notes=(),
        sources=_sources(inputs, on),
        mask_geometry=inputs.mask_geometry,
    )
    notes += _rim_notes(result.names, labels, deep)
    return replace(result, notes=tuple(dict.fromkeys(notes)))


# --- checks of the values -------------------------------------------------------------


def _check_values(
    inputs: Inputs, on: OnGrid, inside: dict[str, npt.NDArray[np.float32]], k: int
) -> list[str]:
    problems, notes = missing_values(on)
    n = int((on.tumor & on.valid).sum())
    if n < max(MIN_VOXELS, 10 * k):
        what = (
            f"{n} voxels cannot give {k} habitats (at least {max(MIN_VOXELS, 10 * k)})"
        )
        problems.append(MaskError(what, "mask", "use a smaller k or a finer grid"))
    for name, values in inside.items():
        if values.size and values.min() == values.max():
            what = f"no contrast in channel {name}: 1 distinct value ({values[0]:g})"
            problems.append(InputError(what, name, "check image and mask"))
    if all(v.size for v in inside.values()):
        problems += modality_problems(inputs.images, inside, inputs.guessed)
    raise_all(problems)
    notes += modality_notes(inputs.images, inside)
    notes += shape_notes(on)
    for name, image in on.images.items():
        if image.unit in SUV_UNITS:
            pet = inputs.images[name]
            notes += flip_notes(pet, inputs, on.tumor, image.array)
            break
    return notes


def _too_few(n: int, settings: _Settings) -> list[HabitatError]:
    if n >= 10 * settings.k:
        return []
    what = (
        f"leaves {n} voxels to fit {settings.k} habitats (at least {10 * settings.k})"
    )
    return [ConfigError(what, f"`rim_mm` = {settings.rim_mm:g}", "use a thinner rim")]


# --- clustering -----------------------------------------------------------------------


def _check_contrast(X: Floats, channels: Iterable[str], settings: _Settings) -> None:
    what = f"no contrast inside a rim of {settings.rim_mm:g} mm: 1 distinct value"
    flat = X.min(axis=0) == X.max(axis=0)
    names = [c for c, one in zip(channels, flat, strict=True) if one]
    raise_all([InputError(what, c, "use a thinner rim") for c in names])


@dataclass(frozen=True, eq=False)
class _Fit:
    labels: npt.NDArray[Any]  # (n,) 0..k-1 in habitat order
    centers: Floats  # (k, channels) natural units
    quality: dict[str, Any]
    notes: list[str]


def _cluster(
    X: Floats,
    fitted: npt.NDArray[np.bool_],
    units: Sequence[str | None],
    settings: _Settings,
) -> _Fit:
    """Fit on the rows `fitted`, assign the rest, order habitats by their centers."""
    rows = np.flatnonzero(fitted)
    rows = rows[canonical_order(X[rows])]  # so that voxel order cannot matter
    raw, k = X[rows], settings.k
    distinct = distinct_rows(raw)
    if distinct < k:
        what = f"must be at most the {distinct} distinct voxel values, got {k}"
        raise ConfigError(what, "`k`", "use a smaller k")
    transform = fit_scaling(settings.scaling, raw, units)
    Z = transform(raw)
    found = fit_method(settings.method, Z, k, settings.random_state)
    centers = _means(raw, found.labels, k)
    order = np.lexsort(centers.T[::-1])
    rank = np.argsort(order)
    labels = np.empty(len(X), dtype=np.uint8)
    labels[rows] = rank[found.labels]
    rest = np.flatnonzero(~fitted)
    if rest.size:
        labels[rest] = rank[nearest(transform(X[rest]), found.centers)]
    notes = [] if found.converged else [warn(_UNCONVERGED)]
    if settings.rim_mm:
        notes.append(f"{rest.size} rim voxels were left out of the fit, then assigned")
    quality: dict[str, Any] = {
        name: value if math.isfinite(value) else None
        for name, value in scores(Z, found.labels).items()
    }
    quality |= {"objective": found.objective, "n_iter": found.n_iter}
    return _Fit(
        labels, centers[order], {**quality, "converged": found.converged}, notes
    )


_UNCONVERGED = "K-means did not converge: raise max_iter in KMeansOptions"


def _means(X: Floats, labels: npt.NDArray[np.uint8], k: int) -> Floats:
    """Mean of each label's rows, NaN for a label without rows."""
    counts = np.bincount(labels, minlength=k).astype(np.float64)
    counts[counts == 0] = np.nan
    sums = [np.bincount(labels, weights=column, minlength=k) for column in X.T]
    return np.stack(sums, axis=1) / counts[:, None]


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


def _params(inputs: Inputs, on: OnGrid, settings: _Settings) -> dict[str, Any]:
    arguments = {
        "k": settings.k,
        "method": _plain(find_method(settings.method)),
        "scaling": _plain(settings.scaling),
        "grid": _plain(settings.grid),
        "label": settings.label,
        "rim_mm": settings.rim_mm,
        "random_state": settings.random_state,
    }
    modules = ("numpy", "scipy", "numba", "SimpleITK", "pydicom")
    loaded = {m: sys.modules[m].__version__ for m in modules if m in sys.modules}
    params = {
        "arguments": arguments,
        "spacing_mm": on.geometry.spacing,
        "channels": on.done,
        "mask": {
            "spacing_mm": inputs.mask.geometry.spacing,
            "voxels": int(np.count_nonzero(inputs.mask.array)),
            "rule": "area fraction >= 0.5",
        },
        "headers": {c: dict(i.meta) for c, i in inputs.images.items() if i.meta},
        "sha256": {name: s["sha256"] for name, s in _sources(inputs, on).items()},
        "versions": {
            "habitat": habitat.__version__,
            "python": platform.python_version(),
            **loaded,
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(params))  # lists, no tuples
    return plain


def _plain(value: Any) -> Any:
    """A setting as plain JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"name": type(value).__name__, **asdict(value)}
    if callable(value):
        return getattr(value, "__qualname__", repr(value))
    return list(value) if isinstance(value, (tuple, list, np.ndarray)) else value


def _sources(inputs: Inputs, on: OnGrid) -> dict[str, dict[str, str]]:
    images = {**inputs.images, "mask": inputs.mask}
    sources = {
        name: dict(image.source or {"path": "", "sha256": on.hashes[name]})
        for name, image in images.items()
    }
    if inputs.compared:
        sources["other_mask"] = dict(inputs.compared)
    return sources

"""Pruning: of maps that say the same, keep one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, combinations_with_replacement
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from habitat.case import load_inputs
from habitat.errors import ConfigError, InputError
from habitat.geometry import Floats
from habitat.image import Image
from habitat.voxels import MOST_MISSING, bring_together

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

_LEAST = 10  # voxels that two maps must share to be compared


def prune_maps(
    maps: Mapping[str, ChannelLike],
    mask: MaskLike,
    *,
    threshold: float = 0.7,
    label: int | str | None = None,
) -> dict[str, Image]:
    """Keep maps that are not strongly correlated with one listed before them.

    Parameters
    ----------
    maps : mapping of str to image-like
        Maps in order of preference, such as ``{**enhancement_maps(...),
        **texture_maps(...)}``. They are compared on the coarsest of their grids.
    mask : mask-like
        The tumor.
    threshold : float
        A map is dropped where its rank correlation with a kept one is at least this or
        at most minus this, over the tumor voxels where both have a value.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.

    Returns
    -------
    dict of str to Image
        The maps that are kept, voxels unchanged, in the order given. Their notes name
        the maps dropped in favor of each, and ``meta["map"]["pruned"]`` (of images that
        are not maps ``meta["pruned"]``) holds the correlations and the threshold.

    Raises
    ------
    ConfigError
        If `threshold` is not within 0 and 1, or `maps` is not a mapping.
    InputError
        If no map is left.
    HabitatError
        If a map or the mask cannot be used.

    Notes
    -----
    Spearman's correlation with mean ranks of ties; 0.7 as in Prior et al. (2024). Maps
    are taken in the order given and kept unless they repeat a kept one: so the user
    says what is preferred (the simple before the derived), the choice does not hang on
    small differences of correlations, no two kept maps reach the threshold, and every
    dropped one has a kept partner. Maps with one value only, and those without a value
    in more than half of the tumor, are dropped first.

    What is kept depends on the tumor: for a cohort prune once and take the same maps
    everywhere.

    Examples
    --------
    >>> from habitat import Image
    >>> from habitat.maps import prune_maps
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 3, 8, 8))
    >>> arrays = {"a": a, "exp(a)": np.exp(a), "b": b}
    >>> maps = {name: Image(v, spacing=(3, 1, 1)) for name, v in arrays.items()}
    >>> tumor = np.zeros((3, 8, 8), bool)
    >>> tumor[1, 1:6, 1:6] = True
    >>> kept = prune_maps(maps, Image(tumor, spacing=(3, 1, 1)))
    >>> list(kept)
    ['a', 'b']
    >>> kept["a"].notes[-1]
    'a also stands for (rank correlation): exp(a) (1.00)'
    """
    if not isinstance(maps, Mapping) or not maps:
        what = f"must be a mapping of name to map, got {maps!r:.60}"
        raise ConfigError(what, "`maps`")
    if not isinstance(threshold, Real) or not 0 < float(threshold) <= 1:
        raise ConfigError(
            f"must be above 0, at most 1, got {threshold!r}", "`threshold`"
        )
    inputs = load_inputs(dict(maps), mask, label, {})
    on = bring_together(inputs.images, inputs.mask, inputs.mask_geometry, "coarsest")
    columns = {n: i.array[on.tumor] for n, i in on.images.items()}
    useless = {n: why for n, x in columns.items() if (why := _useless(x))}
    names = [n for n in columns if n not in useless]
    if not names:
        why = "; ".join(f"{n!r} has {text}" for n, text in useless.items())
        raise InputError(f"no map is left: {why}", "`maps`", "give others")
    rho = rank_correlations(np.stack([columns[n] for n in names]))
    kept = _choose(rho, float(threshold))

    voxels = int(np.count_nonzero(on.tumor))
    notes = [
        f"{len(kept)} of {len(maps)} maps kept: |rank correlation| below "
        f"{threshold:g} in {voxels} tumor voxels"
    ]
    notes += [f"{n!r} was dropped: it has {why}" for n, why in useless.items()]
    notes += [
        f"{names[i]!r} and {names[j]!r} were not compared: too few voxels in common"
        for i, j in combinations(kept, 2)
        if np.isnan(rho[i, j])
    ]
    out = {}
    for i, others in kept.items():
        dropped = {names[j]: float(rho[i, j]) for j in others}
        record = {"threshold": float(threshold), "dropped": dropped, "useless": useless}
        out[names[i]] = _noted(names[i], inputs.images[names[i]], record, notes)
    return out


def rank_correlations(X: npt.NDArray[Any]) -> Floats:
    """Spearman's correlation of each two rows, where both are finite.

    Parameters
    ----------
    X : array of shape (maps, voxels)
        NaN and infinity are left out, pair by pair.

    Returns
    -------
    array of shape (maps, maps)
        NaN where two rows share fewer than ten voxels, or one is constant on those.

    Examples
    --------
    >>> x = np.arange(12.0)
    >>> rank_correlations(np.stack([x, -(x**3)])).round(3).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    alike: dict[bytes, list[int]] = {}  # rows by where they have a value
    finite = np.isfinite(X)
    for i, row in enumerate(finite):
        alike.setdefault(row.tobytes(), []).append(i)
    orders = [np.argsort(row) for row in X]

    def ranks(rows: list[int], where: npt.NDArray[np.bool_]) -> Floats:
        return np.stack([_standard_ranks(X[i], orders[i], where) for i in rows])

    rho = np.full((len(X), len(X)), np.nan)
    for a, b in combinations_with_replacement(alike.values(), 2):
        both = finite[a[0]] & finite[b[0]]
        if np.count_nonzero(both) < _LEAST:
            continue
        one = ranks(a, both)
        other = one if a is b else ranks(b, both)
        rho[np.ix_(a, b)] = one @ other.T
        rho[np.ix_(b, a)] = rho[np.ix_(a, b)].T
    return rho


def _standard_ranks(
    row: npt.NDArray[Any],
    order: npt.NDArray[np.intp],  # that sorts all of the row
    where: npt.NDArray[np.bool_],
) -> Floats:
    """Mean ranks among some voxels, with mean 0 and length 1; 0 elsewhere.

    NaN where the row is constant.
    """
    order = order[where[order]]
    values = row[order]
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    ties = np.diff(np.append(starts, values.size))
    ranks = np.zeros(row.size)
    ranks[order] = np.repeat(starts + (ties - values.size) / 2, ties)
    length = np.sqrt(ranks @ ranks)
    return ranks / length if length > 0 else np.full(row.size, np.nan)


def _useless(column: npt.NDArray[Any]) -> str:
    """Why a map can say nothing of the tumor, "" if it can."""
    known = column[np.isfinite(column)]
    lost = column.size - known.size
    if lost > MOST_MISSING * column.size:
        return f"no value in {lost} of {column.size} tumor voxels"
    return "one value only" if known.min() == known.max() else ""


def _choose(rho: Floats, threshold: float) -> dict[int, list[int]]:
    """The maps that are kept, in order, and those dropped in favor of each."""
    kept: dict[int, list[int]] = {}
    for j in range(len(rho)):
        strength = {i: abs(rho[i, j]) for i in kept if np.isfinite(rho[i, j])}
        partner = max(strength, key=strength.__getitem__, default=j)
        if partner != j and strength[partner] >= threshold - 1e-12:
            kept[partner].append(j)
        else:
            kept[j] = []
    return kept


def _noted(name: str, image: Image, record: dict[str, Any], notes: list[str]) -> Image:
    """The same map, with what was dropped in its notes and its ``meta``."""
    others = [f"{n} ({rho:.2f})" for n, rho in record["dropped"].items()]
    more = [f"{len(others) - 3} more"] if len(others) > 3 else []
    dropped = ", ".join([*others[:3], *more])  # all are in meta
    own = [f"{name} also stands for (rank correlation): {dropped}"] if dropped else []
    meta = dict(image.meta)
    if image.is_map:
        meta["map"] = {**meta["map"], "pruned": record}
    else:
        meta["pruned"] = record
    return Image(
        image.array,
        image.geometry,
        unit=image.unit,
        source=image.source,
        notes=[*image.notes, *notes, *own],
        meta=meta,
    )

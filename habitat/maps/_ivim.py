"""IVIM maps: diffusion and perfusion from diffusion-weighted MR."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, collector, integer, one_of
from habitat.case import load_inputs
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.geometry import Floats
from habitat.image import Image
from habitat.kernels._jit import threads as default_threads
from habitat.kernels.ivim import ivim_full, ivim_segmented
from habitat.maps._common import as_map
from habitat.voxels import bring_together, missing_values

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

FITS = {
    "segmented": "segmented: log-linear D, then f, then D* by search",
    "full": "full: bounded Levenberg-Marquardt of S0, D, f, D*",
}
BOUNDS: Mapping[str, tuple[float, float]] = {
    "D": (0.0, 5e-3),
    "f": (0.0, 1.0),  # intestine has 0.69 in the reference tissues of OSIPI
    "D_star": (5e-3, 0.2),
}
_UNITS = {"D": "mm2/s", "f": "fraction", "D_star": "mm2/s", "ADC": "mm2/s"}
_BLOCK = 4096  # voxels
_ITERATIONS = 200
_LEAST = 4  # distinct b-values for S0, D, f and D*


@dataclass(frozen=True)
class _Scheme:
    """Columns of the fit: distinct b-values, and which images are behind each."""

    b: Floats  # ascending, s/mm2
    images: tuple[tuple[int, ...], ...]  # numbers of the images of each b
    first: int  # column of the first b >= b_split
    adc: tuple[int, int]  # columns of the two b-values of ADC


def ivim_maps(
    images: Sequence[ChannelLike],
    mask: MaskLike,
    *,
    b_values: Sequence[float],
    fit: str = "segmented",
    b_split: float = 200.0,
    blood_includes_D: bool = False,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    adc_b: tuple[float, float] | None = None,
    label: int | str | None = None,
    threads: int | None = None,
) -> dict[str, Image]:
    """Compute D, f, D* and ADC from diffusion-weighted images at several b-values.

    Parameters
    ----------
    images : sequence of image-like
        One image for each b-value, in one position (they are not registered). Images of
        one b-value (directions, repetitions) are averaged, and weigh by their number.
    mask : mask-like
        The tumor.
    b_values : sequence of float, s/mm2
        The b-value of each image: at least four different ones, two of them below and
        two at or above `b_split`.
    fit : {"segmented", "full"}
        The algorithm, see Notes. Values of different algorithms must not be mixed.
    b_split : float, s/mm2
        From this b-value on no signal of blood is left (segmented fit).
    blood_includes_D : bool
        Whether the blood decays with ``D* + D`` in place of D*.
    bounds : mapping of str to (low, high), optional
        Bounds of "D", "D_star" (mm2/s) and "f"; those not given are 0 to 0.005 for
        D, 0.005 to 0.2 for D* and 0 to 1 for f.
    adc_b : (float, float), s/mm2, optional
        The two b-values of ADC; by default the lowest and the highest.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.
    threads : int, optional
        Threads to use; by default ``HABITAT_NUM_THREADS``, else all cores. The maps do
        not depend on it.

    Returns
    -------
    dict of str to Image
        "D", "D_star" and "ADC" in mm2/s and "f" as a fraction, float32, on the part of
        the grid of the lowest b that holds the tumor and 10 mm around it; NaN outside
        the tumor and where there is no value.

    Raises
    ------
    ConfigError
        If the b-values do not suffice, or an option is not valid.
    InputError
        If more than 1 % of the tumor has no finite signal in an image.
    HabitatError
        If an image or the mask cannot be used.

    Notes
    -----
    ``S(b) / S0 = f exp(-b D*) + (1 - f) exp(-b D)`` (Le Bihan et al., Radiology
    1988;168:497).

    "segmented": at b >= `b_split` the line ``ln S = ln S_int - b D`` by least squares
    weighted with S^2; ``f = 1 - S_int / S0`` with S0 the signal at the lowest b; D* by
    one-dimensional search over all b with f and D kept.

    "full": all of S0, D, f, D* by non-linear least squares within the bounds, the
    better of two descents: from the segmented fit, and from a coarse grid.

    ``ADC = ln(S_1 / S_2) / (b_2 - b_1)``, without bounds.

    D* is the weakest of the four: in a study of PD-L1 it differed between groups with
    one of four algorithms only (Bortolotto et al. 2022), so the algorithm is in the
    notes and in ``meta["map"]`` of each map. Values at a bound are counted in the
    notes; D* has no value (NaN) where f is 0. Voxels without a fit (S0 <= 0, fewer than
    two signals above 0 from `b_split` on) are NaN and counted.

    Examples
    --------
    >>> from habitat import Image
    >>> from habitat.maps import ivim_maps
    >>> b = [0, 20, 50, 100, 200, 400, 800]
    >>> signal = [0.2 * np.exp(-x * 0.02) + 0.8 * np.exp(-x * 0.001) for x in b]
    >>> frames = [Image(np.full((3, 4, 4), s), spacing=(3, 2, 2)) for s in signal]
    >>> tumor = np.zeros((3, 4, 4), bool)
    >>> tumor[1, 1:3, 1:3] = True
    >>> mask = Image(tumor, spacing=(3, 2, 2))
    >>> maps = ivim_maps(frames, mask, b_values=b, fit="full")
    >>> {name: round(float(m.array[1, 1, 1]), 4) for name, m in maps.items()}
    {'D': 0.001, 'f': 0.2, 'D_star': 0.02, 'ADC': 0.0013}
    """
    problems: list[HabitatError] = []
    check = collector(problems)
    algorithm = check(one_of, "fit", fit, FITS)
    split = check(at_least, "b_split", b_split, 0)
    limits = check(_limits, bounds)
    workers = default_threads()
    if threads is not None:
        workers = check(integer, "threads", threads, 1, 512)
    scheme = None if split is None else check(_scheme, images, b_values, split, adc_b)
    raise_all(problems)
    assert scheme is not None

    names = _names(b_values)
    units = dict.fromkeys(names, "signal")
    inputs = load_inputs(dict(zip(names, images, strict=True)), mask, label, units)
    lowest = names[scheme.images[0][0]]
    on = bring_together(inputs.images, inputs.mask, inputs.mask_geometry, lowest)
    problems, missing = missing_values(on)
    raise_all(problems)
    S = _signals([on.images[name].array[on.tumor] for name in names], scheme)
    joint = bool(blood_includes_D)
    fitted, unfinished = _fitted(S, scheme, limits, algorithm, joint, workers)
    values = dict(zip(("D", "f", "D_star"), fitted.T[1:], strict=True))
    values["ADC"] = _adc(S, scheme)
    how = {
        "function": "ivim_maps",
        "fit": algorithm,
        "algorithm": FITS[algorithm],
        "b_values": scheme.b.tolist(),
        "images_per_b": [len(same) for same in scheme.images],
        "b_split": split,
        "blood_includes_D": joint,
        "bounds": {name: limits[i].tolist() for i, name in enumerate(BOUNDS)},
        "adc_b": [float(scheme.b[i]) for i in scheme.adc],
        "grid": on.done,
        "sources": {
            name: dict(image.source or {"path": "", "sha256": on.hashes[name]})
            for name, image in inputs.images.items()
        },
    }
    how = json.loads(json.dumps(how))  # lists, no tuples
    notes = [*inputs.notes, *on.notes, *missing, *_scheme_notes(scheme)]
    if unfinished:
        notes.append(f"{unfinished} voxels did not reach a least sum of squares")
    maps = {}
    for name, column in values.items():
        array = np.full(on.tumor.shape, np.nan)
        array[on.tumor] = column
        maps[name] = as_map(
            array,
            on.geometry.crop(on.box),
            {**how, "map": name},
            unit=_UNITS[name],
            notes=[*notes, *_own_notes(name, column, how)],
        )
    return maps


# --- arguments ------------------------------------------------------------------------


def _limits(bounds: object) -> Floats:
    """Bounds of D, f and D*, as (3, 2)."""
    if not isinstance(bounds, (Mapping, type(None))):
        what = f"must be a mapping of name to (low, high), got {bounds!r:.60}"
        raise ConfigError(what, "`bounds`", "such as {'f': (0, 0.5)}")
    given = {one_of("bounds", name, BOUNDS): v for name, v in (bounds or {}).items()}
    rows = []
    for name, (lowest, highest) in BOUNDS.items():
        pair = given.get(name, (lowest, highest))
        if not isinstance(pair, Sequence) or len(pair) != 2:
            what = f"must be (low, high), got {pair!r:.60}"
            raise ConfigError(what, f"`bounds`[{name!r}]")
        low, high = (at_least(f"bounds[{name!r}]", v, 0) for v in pair)
        floor = low > 0 or name != "D_star"  # searched on a logarithmic scale
        if not low < high or not floor or (name == "f" and high > 1):
            rule = {"f": "0 <= low < high <= 1", "D_star": "0 < low < high"}
            what = f"must be {rule.get(name, '0 <= low < high')}, got {pair}"
            raise ConfigError(what, f"`bounds`[{name!r}]", "D in mm2/s, f as fraction")
        rows.append((low, high))
    return np.array(rows)


def _scheme(images: object, b_values: object, split: float, adc_b: object) -> _Scheme:
    """The columns of the fit; what is missing for it."""
    count, given = len(_several("images", images)), _several("b_values", b_values)
    numbers = [at_least(f"b_values[{i}]", b, 0) for i, b in enumerate(given)]
    if len(numbers) != count:
        what = f"must be one for each image, got {len(numbers)} for {count} images"
        raise ConfigError(what, "`b_values`")
    b = np.unique(numbers)
    raise_all(_missing(b, split))
    same = [tuple(i for i, x in enumerate(numbers) if x == value) for value in b]
    first = int(np.searchsorted(b, split))
    return _Scheme(b, tuple(same), first, _adc_columns(adc_b, b))


def _several(name: str, value: Any) -> list[Any]:
    if isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, str):
        return list(value)
    what = f"must be a sequence, got {type(value).__name__}"
    raise ConfigError(what, f"`{name}`", "one image for each b-value")


def _missing(b: Floats, split: float) -> list[HabitatError]:
    got = ", ".join(f"{x:g}" for x in b)
    above, below = int((b >= split).sum()), int((b < split).sum())
    rules = [
        (b.size, _LEAST, "different b-values are needed"),
        (below, 2, f"b-values below b_split = {split:g} are needed for f and D*"),
        (above, 2, f"b-values >= b_split = {split:g} are needed for D"),
    ]
    fix = f"given are {got or 'none'} s/mm2"
    return [
        ConfigError(f"at least {least} {what}, got {n}", "`b_values`", fix)
        for n, least, what in rules
        if n < least
    ]


def _adc_columns(adc_b: Any, b: Floats) -> tuple[int, int]:
    if adc_b is None:
        return 0, b.size - 1
    pair = list(adc_b) if isinstance(adc_b, (Sequence, np.ndarray)) else []
    known = b.tolist()
    if (
        len(pair) == 2
        and all(isinstance(x, Real) and x in known for x in pair)
        and pair[0] < pair[1]
    ):
        return known.index(pair[0]), known.index(pair[1])
    what = f"must be two of the b-values, the lower first, got {adc_b!r:.60}"
    raise ConfigError(what, "`adc_b`", f"the b-values are {known}")


def _names(b_values: Sequence[float]) -> list[str]:
    """A name for each image that tells its b-value."""
    seen: Counter[float] = Counter()
    names = []
    for b in map(float, b_values):
        seen[b] += 1
        names.append(f"b={b:g}" + (f" ({seen[b]})" if seen[b] > 1 else ""))
    return names


# --- values ---------------------------------------------------------------------------


def _signals(inside: Sequence[npt.NDArray[Any]], scheme: _Scheme) -> Floats:
    """Mean signal of each b, (voxels, b); NaN where an image has no finite value."""
    means = [
        np.mean([inside[i] for i in same], axis=0, dtype=np.float64)
        for same in scheme.images
    ]
    S = np.column_stack(means)
    S[~np.isfinite(S).all(axis=1)] = np.nan
    return S


def _fitted(
    S: Floats,
    scheme: _Scheme,
    limits: Floats,
    algorithm: str,
    joint: bool,
    workers: int,
) -> tuple[Floats, int]:
    """S0, D, f, D* of each voxel (n, 4), and how many were not finished."""
    out = np.empty((len(S), 4))
    weight = np.array([len(same) for same in scheme.images], dtype=np.float64)

    def block(start: int) -> int:
        part, to = S[start : start + _BLOCK], out[start : start + _BLOCK]
        ivim_segmented(part, scheme.b, weight, scheme.first, limits, joint, to)
        if algorithm == "segmented":
            return 0
        return ivim_full(part, scheme.b, weight, limits, joint, _ITERATIONS, to)

    starts = range(0, len(S), _BLOCK)
    with ThreadPoolExecutor(min(workers, len(starts))) as pool:
        return out, sum(pool.map(block, starts))


def _adc(S: Floats, scheme: _Scheme) -> Floats:
    low, high = scheme.adc
    one, two = S[:, low], S[:, high]
    out = np.full(len(S), np.nan)
    good = (one > 0) & (two > 0)
    out[good] = np.log(one[good] / two[good]) / (scheme.b[high] - scheme.b[low])
    return out


# --- notes ----------------------------------------------------------------------------


def _scheme_notes(scheme: _Scheme) -> list[str]:
    notes = ["the images of all b-values are taken to be in one position"]
    if scheme.b[0] > 0:
        text = f"no image at b = 0: the signal at b = {scheme.b[0]:g} stands for S0"
        notes.append(f"{text} in the segmented fit, f is too low there")
    repeated = {b: len(same) for b, same in zip(scheme.b, scheme.images, strict=True)}
    averaged = [f"{n} of b = {b:g}" for b, n in repeated.items() if n > 1]
    if averaged:
        notes.append(f"averaged images: {', '.join(averaged)}")
    return notes


def _own_notes(name: str, values: Floats, how: Mapping[str, Any]) -> list[str]:
    """Algorithm of a map; voxels without a value, at a bound or below 0."""
    total = values.size
    counts = {"have no value": int(np.isnan(values).sum())}
    if name == "ADC":
        low, high = how["adc_b"]
        notes = [f"ADC from b = {low:g} and {high:g} s/mm2"]
        counts["are below 0"] = int((values < 0).sum())
    else:
        notes = [f"{name} by algorithm {how['algorithm']}"]
        low, high = how["bounds"][name]
        counts[f"are at the lower bound {low:g}"] = int((values == low).sum())
        counts[f"are at the upper bound {high:g}"] = int((values == high).sum())
    return notes + [
        f"{name}: {count} of {total} tumor voxels {what}"
        for what, count in counts.items()
        if count
    ]

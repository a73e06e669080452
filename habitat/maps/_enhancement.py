"""Enhancement maps: what contrast agent does between phases of CT or MR."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from habitat._check import at_least, collector, one_of, warn
from habitat.case import Inputs, load_inputs
from habitat.errors import (
    ConfigError,
    HabitatError,
    InputError,
    MaskError,
    ModalityError,
    raise_all,
)
from habitat.geometry import Floats
from habitat.image import Image
from habitat.io import read_mask, resample
from habitat.io._register import TRANSFORMS
from habitat.io._register import register as registered
from habitat.maps._common import as_map
from habitat.maps._formulas import (
    PHASES,
    Formula,
    Series,
    default_maps,
    formula,
    problems_of,
    term,
    unused,
    valued,
)
from habitat.voxels import OnGrid, bring_together, missing_values

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

ASSUMED_HU = 5.0  # noise of a CT phase after smoothing, where it is not known
RAW_HU = 20.0  # the same without smoothing
GATE_SD = 3.0
_LEAST = 10  # voxels in the aorta
_SHORT = 10.0  # seconds that phases of contrast never take
_REFERENCES = ("venous", "arterial", "delayed", "delayed2", "unenhanced")


def enhancement_maps(
    phases: Mapping[str, ChannelLike],
    mask: MaskLike,
    *,
    maps: Sequence[str] | None = None,
    times: Mapping[str, float] | None = None,
    aorta: ChannelLike | None = None,
    register: str = "rigid",
    reference: str | None = None,
    smoothing_mm: float = 1.5,
    noise: float | None = None,
    gate_sd: float | None = None,
    label: int | str | None = None,
) -> dict[str, Image]:
    """Compute what contrast agent does between two to five phases of CT or MR.

    Parameters
    ----------
    phases : mapping of str to image-like, HU or MR signal
        Two or more of "unenhanced", "arterial", "venous", "delayed", "delayed2", on any
        grids. Of MR, "unenhanced" is the series before contrast, the others those after
        it in order of time, "arterial" the early and "delayed" the late one. Phases of
        unit "HU" are CT (a NIfTI file does not say it:
        ``habitat.read(path, unit="HU")``), all others MR.
    mask : mask-like
        The tumor.
    maps : sequence of str, optional
        Names of maps, see Notes. By default the differences that the phases allow:
        "<phase>-unenhanced" for each phase, then "venous-arterial" and so on (without
        an unenhanced phase the first phase in their place); with `times` also the
        slopes and "auc", with `aorta` also "normalized_<phase>": the same differences
        in other units, so name the maps that are to be clustered.
    times : mapping of str to float, seconds, optional
        When each phase was taken; none is ever assumed. For "wash_in", "slope_a-b" and
        "auc".
    aorta : mask-like, optional
        A region in the aorta, on the reference phase: for "normalized_<phase>", and to
        measure the noise. Of a file with several structures: ``read_mask(path,
        label="aorta")``.
    register : {"rigid", "affine", "bspline", "none"}
        How the other phases are brought onto the reference (see `habitat.register`).
    reference : str, optional
        The phase that stays where it is, on which mask and aorta were drawn. By default
        that which shares the mask's grid; where that is not one alone, the first of
        venous, arterial, delayed, delayed2, unenhanced.
    smoothing_mm : float, mm
        Standard deviation of the Gaussian that all phases are smoothed with, within
        slices and within the tumor (what lies around has no weight); 0 for none.
    noise : float, unit of the phases, optional
        Standard deviation of the noise of one phase, after that smoothing. By default
        it is measured in `aorta`; else 5 HU is assumed, with ``smoothing_mm=0`` 20 HU,
        and none for MR.
    gate_sd : float, optional
        A ratio has no value (NaN) where its denominator is not above 0 or is less than
        so many standard deviations of its noise: by default 3; where the noise is not
        known (MR without `noise` and `aorta`) none. Ratios are not clipped.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.

    Returns
    -------
    dict of str to Image
        Maps by name, float32, on the part of the reference's grid that holds the tumor
        and 10 mm around it; NaN outside the tumor and where there is no value.

    Raises
    ------
    ConfigError
        If a map is not known, or needs a phase, a time, the aorta or a unit that is not
        given; all such problems at once. If `gate_sd` is given and the noise of MR not.
    ModalityError
        If the phases have different units.
    InputError
        If more than 1 % of the tumor has no finite value in a phase.
    HabitatError
        If an image or mask cannot be used, or a registration is refused.

    Warns
    -----
    HabitatWarning
        If the mask lies on the grid of another phase than the `reference` given, or
        registration finds no better position (see `habitat.register`).

    Notes
    -----
    U, A, V, D are the phases, P any of those after contrast or "peak" (the largest of
    them, voxel by voxel), t their times:

    ====================== ====================================================== =====
    name                   value                                                  unit
    ====================== ====================================================== =====
    "arterial"             A, after registration and smoothing; any phase         HU
    "arterial-unenhanced"  A - U, any two phases; "venous-delayed" is the         HU
                           absolute wash-out, "peak-unenhanced" the peak
    "relative_<P>"         100 (P - U) / (U + 1000); CT only                      %
    "pe_<P>"               100 (P - U) / U, percent enhancement; not for CT,      %
                           where U may be near 0; "pe_peak" the peak ratio
    "normalized_<P>"       (P - U) / (P - U in the aorta)                         ratio
    "aef"                  100 (A - U) / (V - U), arterial enhancement fraction   %
    "ser"                  (A - U) / (D - U), signal enhancement ratio            ratio
    "relative_wash_out"    100 (A - V) / (A - U)                                  %
    "rpw"                  100 (A - V) / A                                        %
    "apw"                  100 (V - D) / (V - U)                                  %
    "rpw_delayed"          100 (V - D) / V                                        %
    "slope_a-b"            (a - b) / (t_a - t_b), any two phases                  HU/s
    "wash_in"              (A - U) / (t_A - t_U)                                  HU/s
    "auc"                  area under P - U, trapezoids over all phases given     HU s
    "ttp_index"            number of the brightest phase given, from 0            phase
    ====================== ====================================================== =====

    An "aef" above 100 % is wash-out, not an error. Differences have no noise gate and
    are what to cluster on; ratios of weakly enhancing tissue are mostly noise. The
    notes of a map count the voxels without a value; ``meta["map"]`` holds all settings.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom(kind="ct_phases")
    >>> maps = habitat.enhancement_maps(p.phases, p.mask, register="none")
    >>> list(maps)[:3]
    ['arterial-unenhanced', 'venous-unenhanced', 'delayed-unenhanced']
    >>> float(np.nanmedian(maps["arterial-unenhanced"].array)) > 10
    True
    """
    problems: list[HabitatError] = []
    check = collector(problems)
    names = check(_phase_names, phases) or ()
    seconds = check(_seconds, times, names)
    formulas = check(_formulas, maps, names, seconds, aorta is not None) or {}
    transform = check(one_of, "register", register, (*TRANSFORMS, "none"))
    smoothing = check(at_least, "smoothing_mm", smoothing_mm, 0)
    for name, number in (("gate_sd", gate_sd), ("noise", noise)):
        if number is not None:
            check(at_least, name, number, 0)
    if reference is not None and names:
        check(one_of, "reference", reference, names)
    raise_all(problems)

    inputs = load_inputs({p: phases[p] for p in names}, mask, label, {})
    raise_all(_unit_problems(inputs.images, formulas))
    if noise is None and aorta is None:
        raise_all(_gate_problems(gate_sd, inputs.images, formulas))
    aligned = _align(inputs, transform, reference)
    on = bring_together(
        aligned.images, inputs.mask, inputs.mask_geometry, aligned.reference
    )
    problems, missing = missing_values(on)
    raise_all(problems)
    means, sds = _in_aorta(aorta, aligned, smoothing)
    noise_sd, noise_from = _noise(noise, sds, inputs.images, smoothing)
    gate = (GATE_SD if gate_sd is None else float(gate_sd)) if noise_sd else None
    values = _smoothed(on, smoothing)
    series = Series(values, seconds, noise_sd, means, gate or 0.0)
    raise_all(_blood_problems(formulas, series))
    how = {
        "function": "enhancement_maps",
        "phases": list(names),
        "reference": aligned.reference,
        "register": transform,
        "registration": aligned.reports,
        "smoothing_mm": smoothing,
        "noise_sd": noise_sd,
        "noise_from": noise_from,
        "gate_sd": gate,
        "times_s": seconds,
        "aorta_means": means,
        "grid": on.done,
        "sources": _sources(inputs, on),
    }
    extra = unused(formulas, bool(seconds), aorta is not None, noise is not None)
    span = max(seconds.values(), default=0.0) - min(seconds.values(), default=0.0)
    if 0 < span < _SHORT:
        extra.append(warn(f"the phases take {span:g} s: are `times` in seconds?"))
    notes = (
        *extra,
        *inputs.notes,
        *aligned.notes,
        *on.notes,
        *missing,
        *_grid_notes(on),
    )
    return {n: _map(n, it, series, on, how, notes) for n, it in formulas.items()}


# --- arguments ------------------------------------------------------------------------


def _phase_names(phases: object) -> tuple[str, ...]:
    """Names of the phases, in time."""
    if not isinstance(phases, Mapping):
        what = f"must be a mapping of phase to image, got {phases!r:.60}"
        raise ConfigError(what, "`phases`", f"the phases are {', '.join(PHASES)}")
    for name in phases:
        one_of("phases", name, PHASES)
    if len(phases) < 2:
        what = f"two to five are needed, got {', '.join(phases) or 'none'}"
        raise ConfigError(what, "`phases`", f"the phases are {', '.join(PHASES)}")
    return tuple(p for p in PHASES if p in phases)


def _seconds(times: object, phases: Sequence[str]) -> dict[str, float]:
    """Times of the phases that have one, in their order."""
    fix = "give the seconds of each phase: times={'unenhanced': 0, ...}"
    if not isinstance(times, (Mapping, type(None))):
        what = f"must be a mapping of phase to seconds, got {times!r:.60}"
        raise ConfigError(what, "`times`", fix)
    known = {one_of("times", p, PHASES): t for p, t in (times or {}).items()}
    out = {p: at_least(f"times[{p!r}]", known[p], -1e9) for p in phases if p in known}
    for a, b in pairwise(out):
        if out[b] <= out[a]:
            what = f"{b!r} at {out[b]:g} s must be later than {a!r} at {out[a]:g} s"
            raise ConfigError(what, "`times`", fix)
    return out


def _formulas(
    maps: object, phases: Sequence[str], times: Mapping[str, float] | None, aorta: bool
) -> dict[str, Formula]:
    """Formulas of the maps that were asked for; all that is missing for them.

    Phases and times that are damaged themselves (empty, None) lack nothing.
    """
    if maps is None and not phases:
        return {}
    if maps is None:
        maps = default_maps(phases, times is not None and bool(times), aorta)
    names = [] if isinstance(maps, str) or not isinstance(maps, Sequence) else maps
    if not names or not all(isinstance(name, str) for name in names):
        what = f"must be a sequence of names of maps, got {maps!r:.60}"
        raise ConfigError(what, "`maps`", "such as ['aef']")
    problems: list[HabitatError] = []
    check = collector(problems)
    found = {name: check(formula, name) for name in names}
    for name, it in found.items():
        if it is not None and phases:
            problems += problems_of(name, it, phases, times)
            if it.bottom == "aorta" and not aorta:
                fix = "give a mask of the aorta on the reference phase"
                problems.append(ConfigError(f"{name!r} needs it", "`aorta`", fix))
    raise_all(problems)
    return found


def _unit_problems(
    images: Mapping[str, Image], formulas: Mapping[str, Formula]
) -> list[HabitatError]:
    units = {p: image.unit for p, image in images.items()}
    if len(set(units.values())) > 1:
        listed = ", ".join(f"{p} {unit or 'no unit'}" for p, unit in units.items())
        fix = "state it: habitat.read(path, unit='HU')"
        return [ModalityError(f"must have one unit, have {listed}", "`phases`", fix)]
    unit = next(iter(units.values()))
    problems: list[HabitatError] = []
    for name, it in formulas.items():
        if it.hu is True and unit != "HU":
            fix = "habitat.read(path, unit='HU') states it; of MR take pe_<phase>"
            what = f"{name!r} = {it.text} needs HU, the phases have unit {unit!r}"
            problems.append(ConfigError(what, "`maps`", fix))
        if it.hu is False and unit == "HU":
            what = f"{name!r} = {it.text} has no meaning in CT, where 0 HU is water"
            problems.append(ConfigError(what, "`maps`", "take relative_<phase>"))
    return problems


def _gate_problems(
    gate_sd: float | None, images: Mapping[str, Image], formulas: Mapping[str, Formula]
) -> list[HabitatError]:
    """A gate that was asked for needs the noise, which nobody assumes for MR."""
    ratios = [name for name, it in formulas.items() if it.is_ratio]
    if not gate_sd or not ratios or next(iter(images.values())).unit == "HU":
        return []
    what = (
        f"{gate_sd:g} sd of the noise: the noise is not known for {', '.join(ratios)}"
    )
    fix = "give `noise` in the unit of the phases or `aorta`; or leave gate_sd out"
    return [ConfigError(what, "`gate_sd`", fix)]


# --- phases on one grid ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Aligned:
    """The phases in the position of the reference."""

    images: dict[str, Image]
    reference: str
    reports: dict[str, Any]  # of the registrations
    notes: tuple[str, ...]


def _align(inputs: Inputs, transform: str, asked: str | None) -> _Aligned:
    images = inputs.images
    own = [p for p in images if images[p].geometry.same_as(inputs.mask_geometry)]
    reference = asked or next(p for p in _REFERENCES if p in (own or images))
    if transform == "none":
        note = "the phases were not registered: they are taken to be in one position"
        return _Aligned(images, reference, {}, (note,))
    out, reports, notes = dict(images), {}, []
    if own and reference not in own:
        text = f"the mask lies on the grid of {', '.join(own)}: it is taken to be drawn"
        notes.append(warn(f"{text} in the position of {reference}"))
    problems: list[HabitatError] = []
    for phase in images:
        if phase == reference:
            continue
        try:
            found = registered(
                images[phase], images[reference], inputs.mask, transform=transform
            )
        except HabitatError as error:
            where = f"{phase} {error.where}".strip()
            fix = "or take the phases as they are: register='none'"
            problems.append(type(error)(error.what, where, f"{error.fix} {fix}"))
            continue
        out[phase], reports[phase] = found.image, found.report
        notes += [f"{phase} to {reference}: {n}" for n in found.report["notes"]]
    raise_all(problems)
    return _Aligned(out, reference, reports, tuple(notes))


def _smoothed(on: OnGrid, sd_mm: float) -> dict[str, Floats]:
    """Phases in the tumor after a Gaussian within slices, NaN outside.

    Voxels outside and those without a value have no weight: lung does not leak in.
    """
    sigma = (0.0, *(sd_mm / s for s in on.geometry.spacing[1:]))
    out = {}
    for phase, image in on.images.items():
        good = on.tumor & np.isfinite(image.array)
        values = np.where(good, image.array, 0.0).astype(np.float64)
        if sd_mm:
            values = ndimage.gaussian_filter(values, sigma, mode="constant")
            weight = ndimage.gaussian_filter(good * 1.0, sigma, mode="constant")
            np.divide(values, weight, out=values, where=good)
        values[~good] = np.nan
        out[phase] = values
    return out


def _grid_notes(on: OnGrid) -> list[str]:
    how = {phase: done["interpolation"] for phase, done in on.done.items()}
    text = "{} was brought to the grid of the reference ({} interpolation)"
    return [text.format(phase, name) for phase, name in how.items() if name != "none"]


# --- noise and blood ------------------------------------------------------------------


def _in_aorta(
    aorta: Any, aligned: _Aligned, smoothing: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and standard deviation of each phase in the aorta, after smoothing."""
    if aorta is None:
        return {}, {}
    geometry = aligned.images[aligned.reference].geometry
    try:
        if isinstance(aorta, np.ndarray):
            aorta = Image(aorta, geometry)
        lumen = resample(
            read_mask(aorta, reference=aligned.images[aligned.reference]), geometry
        )
        on = bring_together(aligned.images, lumen, geometry, "mask")
    except HabitatError as error:
        where = "`aorta`" if error.where == "mask" else f"`aorta` {error.where}"
        raise type(error)(error.what, where, error.fix) from error
    keep = on.tumor & on.valid
    count = int(np.count_nonzero(keep))
    if count < _LEAST:
        what = f"{count} voxels with a value in every phase, at least {_LEAST} needed"
        raise MaskError(what, "`aorta`", f"draw it on the {aligned.reference} phase")
    inside = {p: v[keep] for p, v in _smoothed(on, smoothing).items()}
    means = {p: float(v.mean()) for p, v in inside.items()}
    return means, {p: float(v.std(ddof=1)) for p, v in inside.items()}


def _noise(
    given: float | None,
    measured: dict[str, float],
    images: Mapping[str, Image],
    smoothing: float,
) -> tuple[dict[str, float], str]:
    """Standard deviation of each phase after smoothing, and where it is from."""
    if given is not None:
        return dict.fromkeys(images, float(given)), "given"
    if measured:
        return measured, "aorta"
    if next(iter(images.values())).unit == "HU":
        return dict.fromkeys(images, ASSUMED_HU if smoothing else RAW_HU), "assumed"
    return {}, "unknown"


def _blood_problems(
    formulas: Mapping[str, Formula], series: Series
) -> list[HabitatError]:
    """Blood that does not enhance cannot normalize."""
    problems: list[HabitatError] = []
    for name, it in formulas.items():
        if it.bottom == "aorta" and (rise := float(term(it.top, series.aorta))) <= 0:
            what = f"{name!r} needs {it.top} > 0 in the aorta, it is {rise:.3g}"
            fix = "is the region in the lumen, on the reference phase?"
            problems.append(InputError(what, "`aorta`", fix))
    return problems


# --- maps -----------------------------------------------------------------------------


def _map(
    name: str,
    it: Formula,
    series: Series,
    on: OnGrid,
    how: Mapping[str, Any],
    notes: Sequence[str],
) -> Image:
    values = valued(it, series)
    gated = int(np.count_nonzero(np.isnan(values) & on.tumor & on.valid))
    unit = next(iter(on.images.values())).unit or "signal"
    own = _gate_notes(name, it, series, how, unit)
    if gated:
        total = int(np.count_nonzero(on.tumor))
        own.append(f"{name}: {gated} of {total} tumor voxels have no value")
    record = {**how, "map": name, "formula": it.text}
    plain = json.loads(json.dumps(record))  # lists, no tuples
    geometry = on.geometry.crop(on.box)
    unit = it.unit.format(unit)
    return as_map(values, geometry, plain, unit=unit, notes=(*notes, *own))


def _gate_notes(
    name: str, it: Formula, series: Series, how: Mapping[str, Any], unit: str
) -> list[str]:
    """What the denominator of a ratio must exceed, and how well that is known."""
    if not it.is_ratio:
        return []
    text = f"{name} has values where {it.bottom} > 0"
    source = how["noise_from"]
    if source == "unknown":
        return [f"{text}; the noise is not known: gate_sd was not applied"]
    limit = f"{series.limit(it.bottom):.3g} {unit}"
    if source == "assumed":
        sd = next(iter(series.noise.values()))
        source = f"assumed: {sd:g} HU with smoothing_mm={how['smoothing_mm']:g}"
    sds = f"{series.gate_sd:g} sd of its noise, {source}"
    return [f"{text} and >= {limit} ({sds})"]


def _sources(inputs: Inputs, on: OnGrid) -> dict[str, dict[str, str]]:
    """Path and sha256 of phases and mask; for arrays the hash of the part used."""
    images = {**inputs.images, "mask": inputs.mask}
    return {
        name: dict(image.source or {"path": "", "sha256": on.hashes[name]})
        for name, image in images.items()
    }

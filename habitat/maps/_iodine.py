"""Maps of dual-energy CT: normalized iodine, extracellular volume, spectral slope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

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
from habitat.io import read_mask
from habitat.io._grids import coverage
from habitat.maps._common import as_map
from habitat.maps._enhancement import enhancement_maps
from habitat.voxels import OnGrid, bring_together, missing_values

if TYPE_CHECKING:
    from habitat.io._sources import ChannelLike, MaskLike

PHASES = ("arterial", "venous", "equilibrium")  # in time
HEMATOCRIT = {"M": 0.42, "F": 0.39}  # assumed where no blood test is given
_LEAST = 10  # voxels in the aorta


def iodine_maps(
    iodine: Mapping[str, ChannelLike],
    mask: MaskLike,
    *,
    aorta: MaskLike | float | Mapping[str, MaskLike | float],
    hct: float | None = None,
    sex: str | None = None,
    label: int | str | None = None,
) -> dict[str, Image]:
    """Compute normalized iodine and extracellular volume from iodine maps.

    Parameters
    ----------
    iodine : mapping of str to image-like, mg/mL
        One to three iodine maps of dual-energy CT, as the scanner made them:
        "arterial", "venous" and "equilibrium" (2 to 3 minutes or later), in one
        position (they are not registered).
    mask : mask-like
        The tumor.
    aorta : mask-like, float (mg/mL), or mapping of phase to one of these
        A region in the aorta, at least 10 voxels, or the iodine measured there. One
        number serves one phase.
    hct : float, optional
        Hematocrit of a blood test, as a fraction. Needed for "ECV".
    sex : {"M", "F"}, optional
        Where `hct` is not given: 0.42 or 0.39 is assumed, with a warning.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.

    Returns
    -------
    dict of str to Image
        "NIC_<phase>" (iodine / iodine in the aorta, ratio) of each phase; for each two
        phases "NIC_<later>-<earlier>", their difference (dNIC); with the equilibrium
        phase "ECV" in %. float32, on the part of the first map's grid that holds the
        tumor and 10 mm around it; NaN outside the tumor and where there is no value.

    Raises
    ------
    ConfigError
        If a phase is not known, or the hematocrit or the aorta of a phase is missing.
    InputError
        If the aorta holds no iodine.
    HabitatError
        If an image or mask cannot be used.

    Notes
    -----
    ``ECV = 100 (1 - hct) iodine / iodine in the aorta`` holds in the equilibrium phase
    only. Nothing is clipped: values below 0, and of ECV above 100, are counted in the
    notes.

    See Also
    --------
    ecv_maps : extracellular volume from unenhanced and equilibrium CT.
    spectral_maps : slope of the spectral curve.

    Examples
    --------
    >>> from habitat import Image
    >>> from habitat.maps import iodine_maps
    >>> iodine = Image(np.full((3, 6, 6), 1.5), spacing=(3, 1, 1), unit="mg/mL")
    >>> tumor = np.zeros((3, 6, 6), bool)
    >>> tumor[1, 2:4, 2:4] = True
    >>> mask = Image(tumor, spacing=(3, 1, 1))
    >>> maps = iodine_maps({"equilibrium": iodine}, mask, aorta=3.0, hct=0.4)
    >>> {name: round(float(m.array[1, 2, 2]), 3) for name, m in maps.items()}
    {'NIC_equilibrium': 0.5, 'ECV': 30.0}
    """
    phases = _keys("iodine", iodine, PHASES)
    problems: list[HabitatError] = []
    check = collector(problems)
    regions = check(_regions, aorta, phases)
    blood = None
    if "equilibrium" in phases:
        blood = check(_hematocrit, hct, sex)
    elif hct is not None or sex is not None:
        what = f"is for ECV, which needs the equilibrium phase, got {', '.join(phases)}"
        problems.append(ConfigError(what, "`hct`, `sex`", "leave them out"))
    raise_all(problems)

    units = dict.fromkeys(phases, "mg/mL")
    inputs = load_inputs({p: iodine[p] for p in phases}, mask, label, units)
    raise_all(_not_iodine(inputs.images))
    on, notes = _together(inputs, phases[0])
    collected = [check(_in_aorta, regions[p], inputs.images[p], p) for p in phases]
    raise_all(problems)
    inside = dict(zip(phases, collected, strict=True))
    how: dict[str, Any] = {"function": "iodine_maps", "aorta": inside}
    found = {p: on.images[p].array / inside[p]["mg/mL"] for p in phases}
    values = {f"NIC_{p}": found[p] for p in phases}
    for early, late in combinations(phases, 2):
        values[f"NIC_{late}-{early}"] = found[late] - found[early]
    if blood is not None:
        how |= blood.record
        notes += blood.notes
        values["ECV"] = 100 * (1 - blood.hct) * found["equilibrium"]
    return _maps(values, {"ECV": "%"}, "ratio", on, inputs, how, notes)


def ecv_maps(
    unenhanced: ChannelLike,
    equilibrium: ChannelLike,
    mask: MaskLike,
    *,
    aorta: MaskLike,
    hct: float | None = None,
    sex: str | None = None,
    register: str = "rigid",
    smoothing_mm: float = 1.5,
    label: int | str | None = None,
) -> dict[str, Image]:
    """Compute the extracellular volume from single-energy CT before and late.

    Parameters
    ----------
    unenhanced, equilibrium : image-like, HU
        CT before contrast, and 2 to 3 minutes after it or later.
    mask : mask-like
        The tumor, on the equilibrium phase: the unenhanced one is registered to it.
    aorta : mask-like
        A region in the aorta, on the equilibrium phase.
    hct : float, optional
        Hematocrit of a blood test, as a fraction.
    sex : {"M", "F"}, optional
        Where `hct` is not given: 0.42 or 0.39 is assumed, with a warning.
    register, smoothing_mm, label
        As in `enhancement_maps`.

    Returns
    -------
    dict of str to Image
        "ECV" in %, ``100 (1 - hct) (E - U) / (E - U in the aorta)``, as a map like
        those of `enhancement_maps` on the grid of the equilibrium phase; not clipped.

    Raises
    ------
    ConfigError
        If neither `hct` nor `sex` is given, or an option is not valid.
    ModalityError
        If the images are not in HU.
    HabitatError
        If an image or mask cannot be used, or a registration is refused.

    Examples
    --------
    >>> import habitat
    >>> from habitat.maps import ecv_maps
    >>> p = habitat.phantom(kind="ct_phases")
    >>> u, late = p.phases["unenhanced"], p.phases["delayed"]
    >>> maps = ecv_maps(u, late, p.mask, aorta=p.aorta, hct=0.41, register="none")
    >>> 0 < float(np.nanmedian(maps["ECV"].array)) < 100
    True
    """
    blood = _hematocrit(hct, sex)
    images = {"unenhanced": unenhanced, "delayed": equilibrium}
    ratio, rise = "normalized_delayed", "delayed-unenhanced"
    enhanced = enhancement_maps(
        images,
        mask,
        maps=[ratio, rise],
        aorta=aorta,
        register=register,
        reference="delayed",
        smoothing_mm=smoothing_mm,
        label=label,
    )
    if enhanced[rise].unit != "HU":
        what = f"must be in HU, have unit {enhanced[rise].unit!r}"
        fix = "habitat.read(path, unit='HU') states it"
        raise ModalityError(what, "`unenhanced`, `equilibrium`", fix)
    source = enhanced[ratio]
    how = {**source.meta["map"], "function": "ecv_maps", "map": "ECV", **blood.record}
    how["formula"] = "100 * (1 - hct) * (delayed-unenhanced) / (aorta)"
    values = 100 * (1 - blood.hct) * source.array.astype(np.float64)
    notes = [*source.notes, *blood.notes, *_odd("ECV", values)]
    return {"ECV": as_map(values, source.geometry, how, unit="%", notes=notes)}


def spectral_maps(
    images: Mapping[float, ChannelLike],
    mask: MaskLike,
    *,
    label: int | str | None = None,
) -> dict[str, Image]:
    """Compute the slope of the spectral curve between two energies.

    Parameters
    ----------
    images : mapping of float (keV) to image-like, HU
        Virtual monoenergetic images of two energies: ``{40: ..., 70: ...}``.
    mask : mask-like
        The tumor.
    label : int or str, optional
        Structure in the mask, by value or name, where it holds several.

    Returns
    -------
    dict of str to Image
        "slope_40-70" (by the energies given) in HU/keV: ``(HU40 - HU70) / 30``.

    Raises
    ------
    ConfigError
        If there are not two energies.
    ModalityError
        If an image is not in HU.
    HabitatError
        If an image or the mask cannot be used.

    Examples
    --------
    >>> from habitat import Image
    >>> from habitat.maps import spectral_maps
    >>> tumor = np.zeros((3, 6, 6), bool)
    >>> tumor[1, 2:4, 2:4] = True
    >>> mask = Image(tumor, spacing=(3, 1, 1))
    >>> a, b = (Image(np.full((3, 6, 6), hu), spacing=(3, 1, 1)) for hu in (150, 60))
    >>> maps = spectral_maps({40: a, 70: b}, mask)
    >>> float(maps["slope_40-70"].array[1, 2, 2])
    3.0
    """
    if not isinstance(images, Mapping) or len(images) != 2:
        what = f"must be a mapping of two energies to images, got {images!r:.60}"
        raise ConfigError(what, "`images`", "such as {40: path, 70: path}")
    energies = {at_least("images", e, 1): image for e, image in images.items()}
    names = [f"{e:g} keV" for e in sorted(energies)]
    sources = {f"{e:g} keV": energies[e] for e in sorted(energies)}
    inputs = load_inputs(sources, mask, label, dict.fromkeys(names, "HU"))
    raise_all(
        [
            ModalityError(f"must be in HU, has unit {image.unit!r}", name)
            for name, image in inputs.images.items()
            if image.unit != "HU"
        ]
    )
    on, notes = _together(inputs, names[0])
    low, high = sorted(energies)
    fall = on.images[names[0]].array - on.images[names[1]].array
    values = {f"slope_{low:g}-{high:g}": fall / (high - low)}
    how = {"function": "spectral_maps", "keV": [low, high]}
    return _maps(values, {}, "HU/keV", on, inputs, how, notes)


# --- arguments ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hematocrit:
    hct: float
    record: dict[str, Any]
    notes: tuple[str, ...]


def _hematocrit(hct: object, sex: object) -> _Hematocrit:
    """The hematocrit of a blood test, else that assumed for a sex."""
    if hct is not None:
        if not isinstance(hct, Real) or not 0 < float(hct) < 1:
            what = f"must be a fraction between 0 and 1, got {hct!r}"
            raise ConfigError(what, "`hct`", "41 % is 0.41")
        return _Hematocrit(float(hct), {"hct": float(hct), "hct_from": "given"}, ())
    if sex is None:
        fix = "give hct of a blood test, or sex ('M' or 'F') for an assumed one"
        raise ConfigError("ECV needs the hematocrit", "`hct`", fix)
    known = one_of("sex", sex, HEMATOCRIT)
    value = HEMATOCRIT[known]
    note = f"hematocrit {value:g} is assumed for sex {known!r}, not measured"
    record = {"hct": value, "hct_from": f"assumed for sex {known}"}
    return _Hematocrit(value, record, (warn(note),))


def _keys(name: str, value: object, allowed: tuple[str, ...]) -> tuple[str, ...]:
    fix = f"the phases are {', '.join(allowed)}"
    if not isinstance(value, Mapping) or not value:
        what = f"must be a mapping of phase to image, got {value!r:.60}"
        raise ConfigError(what, f"`{name}`", fix)
    for key in value:
        one_of(name, key, allowed)
    return tuple(p for p in allowed if p in value)


def _regions(aorta: object, phases: tuple[str, ...]) -> dict[str, Any]:
    """The aorta of each phase: a region or a number."""
    if isinstance(aorta, Mapping):
        _keys("aorta", aorta, phases)
        if lost := [p for p in phases if p not in aorta]:
            what = f"is missing for {', '.join(lost)}"
            raise ConfigError(what, "`aorta`", "give a region or mg/mL for each phase")
        regions = dict(aorta)
    else:
        regions = dict.fromkeys(phases, aorta)
        if isinstance(aorta, Real) and len(phases) > 1:
            what = f"one number cannot serve {len(phases)} phases"
            fix = "give one for each: aorta={'arterial': 9.8, ...}"
            raise ConfigError(what, "`aorta`", fix)
    for phase, region in regions.items():
        if isinstance(region, Real) and not at_least(f"aorta[{phase!r}]", region, 0):
            raise ConfigError("must be above 0 mg/mL, got 0", f"`aorta`[{phase!r}]")
    return regions


def _not_iodine(images: Mapping[str, Image]) -> list[HabitatError]:
    fix = "give the iodine map of the scanner, in mg/mL"
    return [
        ModalityError(f"must be iodine in mg/mL, has unit {image.unit!r}", phase, fix)
        for phase, image in images.items()
        if image.unit != "mg/mL"
    ]


# --- values ---------------------------------------------------------------------------


def _together(inputs: Inputs, first: str) -> tuple[OnGrid, list[str]]:
    """All images on the grid of the first; voxels without a value are noted."""
    on = bring_together(inputs.images, inputs.mask, inputs.mask_geometry, first)
    problems, missing = missing_values(on)
    raise_all(problems)
    notes = [*inputs.notes, *on.notes, *missing]
    if len(inputs.images) > 1:
        notes.append("the images are taken to be in one position")
    return on, notes


def _in_aorta(region: Any, image: Image, phase: str) -> dict[str, Any]:
    """Iodine in the aorta: the number given, or the mean in a region."""
    if isinstance(region, Real):
        return {"mg/mL": float(region), "from": "given"}
    where = f"`aorta` ({phase})"
    if isinstance(region, np.ndarray):
        region = Image(region, image.geometry)
    try:
        lumen = read_mask(region, reference=image)
    except HabitatError as error:
        raise type(error)(error.what, f"{where} {error.where}", error.fix) from error
    values = image.array[(coverage(lumen, image.geometry) >= 0.5 - 1e-9)]
    values = values[np.isfinite(values)].astype(np.float64)
    if values.size < _LEAST:
        what = f"{values.size} voxels with a value, at least {_LEAST} are needed"
        raise MaskError(what, where, f"draw it on the {phase} phase")
    mean = float(values.mean())
    if mean <= 0:
        what = f"mean iodine is {mean:.3g} mg/mL, it must be above 0"
        raise InputError(what, where, "is the region in the lumen?")
    sd = float(values.std(ddof=1))
    return {"mg/mL": mean, "from": "region", "sd": sd, "voxels": values.size}


def _maps(
    values: Mapping[str, Floats],
    units: Mapping[str, str],
    unit: str,
    on: OnGrid,
    inputs: Inputs,
    how: Mapping[str, Any],
    notes: list[str],
) -> dict[str, Image]:
    sources = {
        name: dict(image.source or {"path": "", "sha256": on.hashes[name]})
        for name, image in inputs.images.items()
    }
    record = {**how, "grid": on.done, "sources": sources}
    plain = json.loads(json.dumps(record))  # lists, no tuples
    maps = {}
    for name, array in values.items():
        inside = np.where(on.tumor & np.isfinite(array), array, np.nan)
        maps[name] = as_map(
            inside,
            on.geometry.crop(on.box),
            {**plain, "map": name},
            unit=units.get(name, unit),
            notes=[*notes, *_odd(name, inside)],
        )
    return maps


def _odd(name: str, values: Floats) -> list[str]:
    """Counts of values that no concentration or share has; differences have any."""
    if "-" in name:
        return []
    limits = [("below 0", values < 0)]
    if name == "ECV":
        limits.append(("above 100 %", values > 100))
    counts = [(what, int(odd.sum())) for what, odd in limits]
    return [f"{name}: {n} tumor voxels are {what}" for what, n in counts if n]

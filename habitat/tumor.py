"""One tumor: read, checked, on one grid, its voxels as rows of channel values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

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
from habitat.voxels import (
    GRIDS,
    MOST_MISSING,
    GridChoice,
    OnGrid,
    bring_together,
    depth_mm,
    missing_values,
    shape_notes,
)

MIN_VOXELS = 20
PET_CT = ("pet", "ct")  # channels of `segment`


@dataclass(frozen=True, eq=False)
class Tumor:
    """One tumor, ready to be clustered."""

    inputs: Inputs
    on: OnGrid
    names: Mapping[str, str]  # channel -> its name in a result
    keep: npt.NDArray[np.bool_]  # on the box: voxels with a value in every channel
    X: Floats  # (n, channels) their values in natural units
    index: npt.NDArray[np.intp]  # (n, 3) their position zyx in the box
    deep: Floats  # on the box: mm to the surface of the tumor
    fitted: npt.NDArray[np.bool_]  # (n,) not in the rim that was asked to be left out
    partial: npt.NDArray[np.bool_]  # on the box: voxels without a value in some map
    notes: tuple[str, ...]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size zyx, mm."""
        return self.on.geometry.spacing

    @property
    def units(self) -> list[str | None]:
        """Unit of each channel."""
        return [image.unit for image in self.on.images.values()]

    @property
    def modalities(self) -> list[str | None]:
        """Unit of each acquired channel, None of a map: "HU" is then that of a CT."""
        return [None if i.is_map else i.unit for i in self.on.images.values()]


def open_case(
    channels: Mapping[str, Any], mask: Any, label: int | str | None
) -> tuple[Inputs, dict[str, str]]:
    """Read images and mask; return them and the name of each channel in a result.

    Channels named "pet" and "ct" are SUV and HU, as in `segment`; all others say their
    unit themselves or bear it as their name.
    """
    if set(channels) == set(PET_CT):
        channels = {name: channels[name] for name in PET_CT}
        inputs = load_inputs(channels, mask, label, {"pet": "SUVbw", "ct": "HU"})
        raise_all(_pet_ct_problems(inputs))
        return inputs, {"pet": str(inputs.images["pet"].unit), "ct": "HU"}
    reserved = [c for c in channels if not isinstance(c, str) or c in GRIDS]
    if reserved:
        what = f"names must be texts other than {', '.join(GRIDS)}, got {reserved}"
        raise ConfigError(what, "`channels`")
    known = {c: c for c in channels if c in UNITS}
    inputs = load_inputs(channels, mask, label, known)
    raise_all(
        [
            ModalityError(f"must be in {c}, has unit {inputs.images[c].unit!r}", c)
            for c in known
            if inputs.images[c].unit != c
        ]
    )
    return inputs, {c: c for c in channels}


def _pet_ct_problems(inputs: Inputs) -> list[HabitatError]:
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


def prepare(
    inputs: Inputs, names: Mapping[str, str], grid: GridChoice, rim_mm: float, k: int
) -> Tumor:
    """Bring a case onto one grid and check that k habitats can be fitted to it.

    Parameters
    ----------
    inputs : Inputs
        What was read.
    names : mapping of str to str
        Name of each channel in a result.
    grid : str, float or sequence of float
        See `segment`.
    rim_mm : float, mm
        Shell whose voxels are not `fitted`.
    k : int
        Number of habitats to be fitted; 0 if none are.
    """
    on = bring_together(inputs.images, inputs.mask, inputs.mask_geometry, grid)
    keep = on.tumor & on.valid
    inside = {c: i.array[keep] for c, i in on.images.items()}
    notes = [*inputs.notes, *on.notes]
    notes += _check_values(inputs, on, inside, k)
    deep = depth_mm(on.tumor, on.geometry.spacing)
    X = np.stack(list(inside.values()), axis=1).astype(np.float64)
    fitted = deep[keep] > rim_mm
    if rim_mm:
        raise_all(_rim_problems(X[fitted], list(inside), rim_mm, k))
        count = int((~fitted).sum())
        notes.append(f"{count} rim voxels were left out of the fit, then assigned")
    return Tumor(
        inputs,
        on,
        names,
        keep,
        X,
        np.argwhere(keep),
        deep,
        fitted,
        _partial(on),
        tuple(notes),
    )


def _partial(on: OnGrid) -> npt.NDArray[np.bool_]:
    """Tumor voxels with a value in every image and some maps, but not in all maps."""
    some = np.zeros(on.tumor.shape, dtype=bool)
    partial = on.tumor & ~on.valid
    for image in on.images.values():
        finite = np.isfinite(image.array)
        some |= finite
        if not image.is_map:
            partial &= finite
    partial &= some
    return partial


def _check_values(
    inputs: Inputs, on: OnGrid, inside: dict[str, npt.NDArray[np.float32]], k: int
) -> list[str]:
    problems, notes = missing_values(on)
    n, total = int((on.tumor & on.valid).sum()), int(on.tumor.sum())
    if any(i.is_map for i in on.images.values()) and n < (1 - MOST_MISSING) * total:
        lacking = {
            name: int((on.tumor & ~np.isfinite(image.array)).sum())
            for name, image in on.images.items()
        }
        worst = ", ".join(
            f"{name} {count}"
            for name, count in sorted(lacking.items(), key=lambda item: -item[1])
            if count
        )
        what = f"{n} of {total} tumor voxels have a value in every channel, half must"
        fix = f"leave maps out; voxels without a value: {worst}"
        problems.append(InputError(what, "`channels`", fix))
    least = max(MIN_VOXELS, 10 * k)
    if k and n < least:
        what = f"{n} voxels cannot give {k} habitats (at least {least})"
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
        if image.unit in SUV_UNITS and not image.is_map:
            pet = inputs.images[name]
            notes += flip_notes(pet, inputs, on.tumor, image.array)
            break
    return notes


def _rim_problems(
    X: Floats, channels: list[str], rim_mm: float, k: int
) -> list[HabitatError]:
    fix = "use a thinner rim"
    if len(X) < max(10 * k, 1):
        what = f"leaves {len(X)} voxels to fit {k} habitats (at least {10 * k})"
        return [ConfigError(what, f"`rim_mm` = {rim_mm:g}", fix)]
    what = f"no contrast inside a rim of {rim_mm:g} mm: 1 distinct value"
    flat = X.min(axis=0) == X.max(axis=0)
    return [
        InputError(what, c, fix) for c, one in zip(channels, flat, strict=True) if one
    ]


def sources(tumor: Tumor) -> dict[str, dict[str, str]]:
    """Path and sha256 of each input; for arrays the hash of the part used."""
    inputs = tumor.inputs
    images = {**inputs.images, "mask": inputs.mask}
    found = {
        name: dict(image.source or {"path": "", "sha256": tumor.on.hashes[name]})
        for name, image in images.items()
    }
    if inputs.compared:
        found["other_mask"] = dict(inputs.compared)
    return found

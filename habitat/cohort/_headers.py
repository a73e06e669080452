"""One case judged by the headers of its files: faults, and the memory it needs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from habitat.case import (
    SUV_UNITS,
    Case,
    _mask_pair,
    _named,
    _shift_notes,
    _wrap_arrays,
)
from habitat.cohort._problems import WARNING, Problem
from habitat.errors import (
    CohortError,
    GeometryError,
    HabitatError,
    HabitatWarning,
    ModalityError,
)
from habitat.image import Image
from habitat.io._digest import source_hash
from habitat.io._memory import available
from habitat.io._peek import Header, look, look_mask

#: Channel names that say what of a DICOM folder with several series is meant.
MODALITIES = {"pet": "PT", "ct": "CT", "SUVbw": "PT", "HU": "CT"}

# Measured on patients with sarcoma, a breast MR and a generated whole body.
_PROGRAM = 400_000_000  # bytes: Python, libraries, compiled kernels
_PER_VOXEL = 50  # bytes a channel: maps on the grid
_PER_MM3 = 13  # bytes a channel: features at 1 mm
_PER_MASK_VOXEL = 22  # bytes: labels brought to the mask's grid
_MOST = (
    260_000_000  # bytes a channel: the largest tumor thought of and its surroundings
)


class Checked(NamedTuple):
    """What the headers of a case say."""

    problems: list[Problem]
    n_bytes: int  # memory that segmentation and features need at their peak


class _Seen(NamedTuple):
    images: dict[str, Header]
    masks: list[Header]
    errors: list[tuple[str, HabitatError]]  # with the column


def check_case(case: Case) -> list[Problem]:
    """Problems of one case that its headers show; no pixel is read.

    Parameters
    ----------
    case : Case
        Its channels and mask are looked at, with the errors `segment` would raise.

    Returns
    -------
    list of Problem
        With row 0. Errors keep the case from being used; warnings do not.
    """
    return examine(case).problems


def estimate(case: Case) -> int:
    """Bytes of memory that `segment` and `extract` need at their peak.

    From headers only, so for a tumor that fills much of the images, up to 2.5 liters;
    files that cannot be read count nothing.
    """
    return examine(case).n_bytes


def examine(case: Case) -> Checked:
    """`check_case` and `estimate` in one look at the headers."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", HabitatWarning)
        seen = _look(case)
        errors = [*seen.errors, *_grid_errors(seen), *_unit_errors(seen)]
        errors += _twice(case, seen)
        problems = [Problem.of(e, 0, case.case_id, column) for column, e in errors]
    notes = [str(one.message) for one in heard]
    n_bytes = _needed(seen)
    free = available()
    if free is not None and n_bytes > free:
        what = f"needs about {n_bytes / 1e9:.1f} GB of memory"
        notes.append(f"{what}, {free / 1e9:.1f} GB are free")
    kind = HabitatWarning.__name__
    problems += [Problem(0, case.case_id, "", WARNING, kind, note) for note in notes]
    return Checked(problems, n_bytes)


def _look(case: Case) -> _Seen:
    """Headers of all channels and masks, and what is wrong with each of them."""
    seen = _Seen({}, [], [])
    try:
        first, second = _mask_pair(case.mask)
        sources = {**case.images, "mask": first}
        if any(isinstance(source, np.ndarray) for source in sources.values()):
            sources = _wrap_arrays(sources)
    except HabitatError as error:
        seen.errors.append(("", error))
        return seen
    for name in case.images:
        try:
            seen.images[name] = look(sources[name], MODALITIES.get(name))
        except HabitatError as error:
            seen.errors.append((name, _named(error, name)))
    for source in [sources["mask"], second][: 1 + (second is not None)]:
        try:
            images = list(seen.images.values())
            seen.masks.append(look_mask(source, case.label, images))
        except HabitatError as error:
            seen.errors.append(("mask", _named(error, "mask")))
    return seen


def _grid_errors(seen: _Seen) -> Iterator[tuple[str, HabitatError]]:
    """Images whose whole grid does not touch that of the mask."""
    for mask in seen.masks[:1]:
        for name, image in seen.images.items():
            _shift_notes(name, _hollow(image), _hollow(mask))  # warns
            if image.geometry.box_around(mask.geometry) is None:
                what = f"0% of the mask lies in the {name} image"
                fix = "check that both belong to the same scan and patient position"
                yield name, GeometryError(what, name, fix)


def _hollow(header: Header) -> Image:
    """Image of a header's grid that takes no memory."""
    zero = np.broadcast_to(np.zeros((), np.uint8), header.geometry.shape)
    return Image(zero, header.geometry)


def _unit_errors(seen: _Seen) -> Iterator[tuple[str, HabitatError]]:
    """Channels whose name says another unit than their header."""
    for name, image in seen.images.items():
        said = {"PT": "SUV", "CT": "HU"}.get(MODALITIES.get(name, ""))
        is_pet = image.unit in (*SUV_UNITS, "Bq/mL")
        if (said == "SUV" and image.unit == "HU") or (said == "HU" and is_pet):
            what = f"its unit is {image.unit}, not {said}"
            yield name, ModalityError(what, name, "are PET and CT swapped?")


def _twice(case: Case, seen: _Seen) -> Iterator[tuple[str, HabitatError]]:
    """Two channels that are one image."""
    for a, b in combinations(seen.images, 2):
        one, two = case.images[a], case.images[b]
        if _size(one) == _size(two) and _hash(a, one) == _hash(b, two):
            what, fix = f"{a} and {b} are the same image", "give each its own"
            yield b, ModalityError(what, "channels", fix)


def _needed(seen: _Seen) -> int:
    loaded = sum(image.n_bytes for image in seen.images.values())
    reading = max((h.reading for h in [*seen.images.values(), *seen.masks]), default=0)
    work = sum(map(_work, seen.images.values()))
    writing = max((_PER_MASK_VOXEL * mask.n_voxels for mask in seen.masks), default=0)
    return _PROGRAM + loaded + max(reading, work, writing)


def _work(image: Header) -> int:
    mm3 = image.n_voxels * image.geometry.voxel_ml * 1000
    return min(round(max(_PER_VOXEL * image.n_voxels, _PER_MM3 * mm3)), _MOST)


# --- between cases --------------------------------------------------------------------


def check_files(cases: Iterable[Case]) -> list[Problem]:
    """Find images that are used in two cases, whatever their files are called.

    Parameters
    ----------
    cases : iterable of Case
        Only files of the same size are compared, by the sha256 of their bytes.

    Returns
    -------
    list of Problem
        One, with row 0, for each later use: an error between patients (`group`), and
        within one if the mask is the same too. A patient's lesions may share images.
    """
    sized: dict[int, list[tuple[Case, str]]] = {}
    for case in cases:
        for name, source in case.images.items():
            if size := _size(source):
                sized.setdefault(size, []).append((case, name))
    problems = []
    for alike in sized.values():
        first: dict[str, tuple[Case, str]] = {}
        for case, name in alike if len(alike) > 1 else []:
            sha256 = _hash(name, case.images[name])
            earlier, channel = first.setdefault(sha256 or f"{id(case)}", (case, name))
            if earlier is not case and not _lesions(earlier, case):
                what = f"{name} is the same image as {channel} of {earlier.case_id!r}"
                fix = "give each case its own; cases of one patient have one `group`"
                error = CohortError(what, "", fix)
                problems.append(Problem.of(error, 0, case.case_id, name))
    return problems


def _lesions(one: Case, two: Case) -> bool:
    """Whether two cases are different lesions of one patient."""
    own = (one.group or one.case_id) == (two.group or two.case_id)
    return own and (_key(one.mask) != _key(two.mask) or one.label != two.label)


def _key(mask: Any) -> Any:
    return os.fspath(mask) if isinstance(mask, (str, os.PathLike)) else id(mask)


def _size(source: Any) -> int:
    """Bytes of a file or of a folder's files; 0 if it is neither or not there."""
    if not isinstance(source, (str, os.PathLike)) or not os.fspath(source):
        return 0
    path = Path(source).expanduser()
    try:
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def _hash(name: str, source: Any) -> str | None:
    try:
        return source_hash(source, MODALITIES.get(name))
    except HabitatError:  # said by `check_case`
        return None

"""DICOM header values as plain numbers, texts and times; garbage reads as absent."""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue

from habitat.errors import DicomError, HabitatError

# what pydicom raises on values, elements and pixels that break the standard
BROKEN = (
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    InvalidDicomError,
    BytesLengthException,
)
Tag = str | tuple[int, int]  # keyword, or (group, element) of a private attribute


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Keep pydicom's remarks on attributes that do not matter here from the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)(\.|$)")
        yield


@contextmanager
def readable(where: str) -> Generator[None, None, None]:
    """Turn what pydicom raises on damaged files into a DicomError."""
    try:
        with quiet():
            yield
    except HabitatError:
        raise
    except (OSError, ArithmeticError, *BROKEN) as error:
        what = f"cannot be read as DICOM ({type(error).__name__}: {error})"
        raise DicomError(what, where, "copy or export it again") from error


def value(header: Dataset, tag: Tag) -> Any:
    """Value of an attribute; None if it is absent, empty or cannot be read."""
    try:
        found = header[tag].value
    except BROKEN:
        return None
    if isinstance(found, bytes):  # private, in a file that does not tell its type
        found = found.decode("ascii", "replace").strip("\0 ")
    return None if found is None or found == "" else found


def given(header: Dataset, tag: Tag) -> bool:
    """Whether an attribute is there and not empty, readable or not."""
    try:
        return tag in header and header[tag].value not in (None, "")
    except BROKEN:
        return True


def text(header: Dataset, tag: Tag) -> str:
    """Text of an attribute, "" if absent; several values are joined by a backslash."""
    found = value(header, tag)
    if found is None:
        return ""
    parts = found if isinstance(found, MultiValue) else [found]
    return "\\".join(str(part).strip() for part in parts)


def numbers(header: Dataset, tag: Tag, count: int) -> list[float] | None:
    """Exactly `count` finite numbers, else None."""
    found = value(header, tag)
    parts = list(found) if isinstance(found, MultiValue) else [found]
    try:
        out = [float(part) for part in parts]
    except BROKEN:
        return None
    return out if len(out) == count and all(map(math.isfinite, out)) else None


def number(header: Dataset, tag: Tag) -> float | None:
    """One finite number, else None."""
    found = numbers(header, tag, 1)
    return found[0] if found else None


def items(header: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; none if it is absent or not one."""
    found = value(header, keyword)
    try:
        return [item for item in found or [] if isinstance(item, Dataset)]
    except BROKEN:
        return []


def clock(header: Dataset, tag: Tag) -> timedelta | None:
    """Time of day of a TM attribute (also the old HH:MM:SS)."""
    digits = text(header, tag).replace(":", "")
    moment = _parse("20000101" + digits) if len(digits) >= 2 else None
    return None if moment is None else moment - datetime(2000, 1, 1)


def day(header: Dataset, tag: Tag) -> datetime | None:
    """Midnight of a DA attribute (also the old YYYY.MM.DD)."""
    digits = text(header, tag).replace(".", "")
    return _parse(digits) if len(digits) == 8 else None


def moment(header: Dataset, tag: Tag, zone: timedelta | None = None) -> datetime | None:
    """Date and time of a DT attribute that has both, by the clocks of a UTC offset.

    Its own offset is dropped if that of the clocks (`zone`) is not known.
    """
    digits = text(header, tag).split("+")[0].split("-")[0]
    found = _parse(digits) if len(digits.split(".")[0]) >= 12 else None
    own = utc_offset(header, tag)
    if found is None or own is None or zone is None:
        return found
    return found + (zone - own)


def utc_offset(header: Dataset, tag: Tag) -> timedelta | None:
    """UTC offset at the end of a DT attribute, or that is the whole value."""
    found = re.search(r"([+-])(0\d|1[0-4])([0-5]\d)$", text(header, tag))
    if found is None:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return -offset if sign == "-" else offset


def _parse(digits: str) -> datetime | None:
    whole, _, fraction = digits.partition(".")
    if not f"{whole}{fraction}".isdecimal() or len(whole) % 2:
        return None
    layout = "%Y%m%d%H%M%S"[: len(whole) - 2]
    try:
        found = datetime.strptime(whole, layout)
        part = float(f"0.{fraction}") if fraction else 0.0
    except ValueError:
        return None
    if not 1900 <= found.year <= 2200:
        return None
    return found + timedelta(seconds=part)

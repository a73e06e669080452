"""Argument checks and warnings that point at the caller's line."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Callable, Iterable
from numbers import Real
from pathlib import Path
from typing import Any, SupportsIndex

from habitat.errors import ConfigError, HabitatError, HabitatWarning

_PACKAGE = str(Path(__file__).parent)


def warn(message: str) -> str:
    """Issue a HabitatWarning at the first frame outside habitat; return the message."""
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    warnings.warn(message, HabitatWarning, stacklevel=level)
    return message


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of the allowed names, else raise with the nearest."""
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(value).lower(), lower, n=1)
    hint = f"did you mean {lower[near[0]]!r}?" if near else ""
    what = f"must be one of {', '.join(map(repr, names))}, got {value!r}"
    raise ConfigError(what, f"`{name}`", hint)


def integer(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as int if it is an integer in [low, high], else raise."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = value.__index__()
        if low <= number <= high:
            return number
    raise ConfigError(f"must be an integer {low} to {high}, got {value!r}", f"`{name}`")


def collector(problems: list[HabitatError]) -> Callable[..., Any]:
    """Return ``check(function, *arguments)``, which keeps an error and goes on."""

    def check(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except HabitatError as error:
            problems.append(error)
            return None

    return check


def instance(name: str, value: object, kind: type, fix: str) -> None:
    """Raise ConfigError unless `value` is of a kind."""
    if not isinstance(value, kind):
        what = f"must be a {kind.__name__}, got {type(value).__name__}"
        raise ConfigError(what, f"`{name}`", fix)


def keep(options: object, **values: object) -> None:
    """Store checked values in a frozen dataclass: plain numbers in place of NumPy's."""
    for name, value in values.items():
        object.__setattr__(options, name, value)


def at_least(name: str, value: object, low: float) -> float:
    """Return `value` as float if it is a finite number >= low, else raise."""
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if low <= number < float("inf"):
            return number
    raise ConfigError(f"must be a number >= {low:g}, got {value!r}", f"`{name}`")

"""Settings of a batch from a TOML file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from habitat._check import collector, one_of
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.fitting import from_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS: dict[str, tuple[type, ...]] = {
    "k": (int, str),
    "model": (str,),
    "families": (list,),
    "jobs": (int,),
    "timeout": (int, float),
    "resume": (bool,),
    "dask": (str,),
    "segmentation": (dict,),
    "extraction": (dict,),
}


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the options of ``habitat batch --config batch.toml``.

    Parameters
    ----------
    path : path
        TOML with k, model, families, jobs, timeout, resume, dask and the tables
        ``[segmentation]`` (arguments of `segment_channels`) and ``[extraction]`` (of
        `extract`). Options of a method are a table with its name:
        ``method = {name = "GMMOptions", covariance = "diag"}``. Paths are relative to
        the file.

    Returns
    -------
    dict
        Option to value.

    Raises
    ------
    ConfigError
        If it cannot be read, or for every key that is not known, with the nearest
        name; and for every value of a wrong type.
    """
    file = Path(path).expanduser()
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", str(file)) from error
    except ValueError as error:
        raise ConfigError(f"is not TOML ({error})", str(file)) from error
    problems: list[HabitatError] = []
    check = collector(problems)
    for name, value in found.items():
        if check(one_of, name, name, _KINDS) is not None:
            check(_kind, name, value)
    raise_all([ConfigError(p.what, f"{file}: {p.where}", p.fix) for p in problems])
    for name in ("segmentation", "extraction"):
        if name in found:
            found[name] = {n: _made(n, v, file) for n, v in found[name].items()}
    _beside(found, "model", file.parent)
    _beside(found.get("extraction", {}), "settings", file.parent)
    return found


def batch_options(given: Mapping[str, Any], config: Path | None) -> dict[str, Any]:
    """Arguments of `batch` from a command line, which goes before its config file."""
    options = read_config(config) if config is not None else {}
    options |= {name: value for name, value in given.items() if value is not None}
    if "model" in options:
        from habitat.population import HabitatModel

        options["model"] = HabitatModel.load(options["model"])
    if "dask" in options:
        options["client"] = options.pop("dask")
    return options


def _made(name: str, value: Any, file: Path) -> Any:
    """A value, or the options object that a table with a name stands for."""
    try:
        return from_plain(value)
    except (TypeError, ConfigError) as error:
        what = f"{value!r} is not possible ({error})"
        raise ConfigError(what, f"{file}: `{name}`") from error


def _kind(name: str, value: Any) -> None:
    allowed = _KINDS[name]
    if not isinstance(value, allowed) or (
        isinstance(value, bool) and bool not in allowed
    ):
        names = " or ".join(_WORDS[kind] for kind in allowed)
        raise ConfigError(f"must be {names}, got {value!r}", f"`{name}`")


_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def _beside(options: Any, name: str, folder: Path) -> None:
    """Make paths relative to the file absolute."""
    value = options.get(name)
    if isinstance(value, str):
        options[name] = folder / Path(value).expanduser()
    elif isinstance(value, Mapping):
        options[name] = {
            n: folder / Path(v).expanduser() if isinstance(v, str) else v
            for n, v in value.items()
        }

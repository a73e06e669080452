"""What a batch does to each case, checked before any case is touched."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any

import habitat
from habitat._check import collector, integer, one_of
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.features import FAMILIES, RadiomicsSettings, extract
from habitat.features._extract import ENGINES
from habitat.fitting import check_settings, plain
from habitat.segmentation import overruled, segment_channels

if TYPE_CHECKING:
    from habitat.features._families import Family
    from habitat.population import HabitatModel

UNIT_OF = {"pet": "SUVbw", "ct": "HU"}  # names of the two in results
# of each case, or with a parameter of its own in `batch`
_OF_THE_CASE = {"channels", "mask", "label", "model", "k"}
_OF_THE_CASE |= {"habitats", "images", "families", "case_id", "rings"}


@dataclass(frozen=True, eq=False)
class Plan:
    """What is done to each case."""

    model: HabitatModel | None
    segmentation: Mapping[str, Any]  # arguments of `segment_channels`, k among them
    extraction: Mapping[str, Any]  # arguments of `extract`

    def to_json(self) -> dict[str, Any]:
        """Everything that decides about the result, the version included."""
        used: dict[str, Any] = {
            "version": habitat.__version__,
            "model": None if self.model is None else self.model.sha256,
            "segmentation": {n: _plain(v) for n, v in self.segmentation.items()},
            "extraction": {n: _plain(v) for n, v in self.extraction.items()},
        }
        out: dict[str, Any] = json.loads(json.dumps(used))  # lists, no tuples
        return out


def make_plan(
    channels: Sequence[str],
    model: HabitatModel | None,
    k: int | str,
    families: Sequence[str | Family] | None,
    segmentation: Mapping[str, Any] | None,
    extraction: Mapping[str, Any] | None,
) -> Plan:
    """Check all arguments and raise all problems at once.

    Parameters
    ----------
    channels : sequence of str
        Channels of the cases.
    model, k, families, segmentation, extraction
        As in `batch`.
    """
    problems: list[HabitatError] = []
    check = collector(problems)
    cut = check(_known, "segmentation", segmentation, segment_channels)
    drawn = check(_known, "extraction", extraction, extract)
    check(_families, families)
    raise_all(problems)
    options = {"k": k, **cut}
    if model is None:
        check(_settings, channels, options)
    elif not hasattr(model, "fit_store"):
        what = f"must be a HabitatModel, got {model!r:.60}"
        fix = "read it: habitat.HabitatModel.load(path)"
        problems.append(ConfigError(what, "`model`", fix))
    elif not hasattr(model, "k_"):
        problems.append(ConfigError("is not fitted", "`model`", "call its fit(cases)"))
    else:
        problems += overruled(options, model)
    if "settings" in drawn:
        drawn["settings"] = check(_radiomics, drawn["settings"])
    check(_options, channels, drawn)
    raise_all(problems)
    if families is not None:
        drawn["families"] = tuple(families)
    return Plan(model, options, drawn)


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Arguments of a function that a batch may set, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.name not in _OF_THE_CASE}


def _known(
    name: str, given: Mapping[str, Any] | None, function: Callable[..., Any]
) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        what = f"must be a mapping of argument to value, got {given!r:.60}"
        raise ConfigError(what, f"`{name}`")
    allowed = defaults(function)
    problems: list[HabitatError] = []
    for argument in given or {}:
        collector(problems)(one_of, name, argument, allowed)
    raise_all(problems)
    return dict(given or {})


def _families(families: Any) -> None:
    if families is None:
        return
    if isinstance(families, str) or not families:
        what = f"must be a sequence of names, got {families!r}"
        raise ConfigError(what, "`families`", "for example ('composition', 'shape')")
    for family in families:
        if not callable(family):
            one_of("families", family, FAMILIES)


def _settings(channels: Sequence[str], options: Mapping[str, Any]) -> None:
    check_settings(channels, label=None, **{**defaults(segment_channels), **options})


def _options(channels: Sequence[str], given: Mapping[str, Any]) -> None:
    """Find at once what `extract` would say of every case."""
    one_of("engine", given.get("engine", ENGINES[0]), ENGINES)
    integer("min_voxels", given.get("min_voxels", 1), 1, 10**9)
    spacing = given.get("spacing", "auto")
    if not isinstance(spacing, str) or spacing != "auto":
        RadiomicsSettings(spacing=spacing)
    settings = given.get("settings")
    if isinstance(settings, Mapping):
        for name in settings:
            one_of(
                "settings", name, {*channels, *(UNIT_OF.get(c, c) for c in channels)}
            )


def _radiomics(settings: Any) -> Any:
    """Settings by value: a file could change while the batch runs."""
    if isinstance(settings, Mapping):
        return {channel: _radiomics(one) for channel, one in settings.items()}
    if isinstance(settings, (str, os.PathLike)):
        return RadiomicsSettings.from_yaml(settings)
    if settings is not None and not isinstance(settings, RadiomicsSettings):
        what = f"must be RadiomicsSettings or a path, got {settings!r:.60}"
        raise ConfigError(what, "`settings`")
    return settings


def _plain(value: Any) -> Any:
    """An argument of `extract` as JSON."""
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if isinstance(value, FunctionType):
        name = f"{value.__module__}.{value.__qualname__}"
        return {"function": name, "source": _source(value)}
    return value.to_json() if hasattr(value, "to_json") else plain(value)


def _source(function: FunctionType) -> str:
    """Sha256 of a function's source, so that a changed one is another."""
    try:
        text = inspect.getsource(function)
    except OSError:  # typed in, not from a file
        text = function.__code__.co_code.hex()
    return hashlib.sha256(text.encode()).hexdigest()

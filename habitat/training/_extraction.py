"""Arguments of `extract` as JSON, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from habitat.cohort._plan import make_plan
from habitat.errors import ConfigError
from habitat.evaluation import Habitats
from habitat.features import LBP2D, LoG, Plain, RadiomicsSettings, Wavelet
from habitat.fitting import known

_FILTERS = {kind.__name__: kind for kind in (LBP2D, LoG, Plain, Wavelet)}


def as_json(channels: Sequence[str], how: Habitats) -> dict[str, Any]:
    """Options of the extraction that `from_json` makes anew, parameter files by value.

    Raises
    ------
    ConfigError
        If an option is wrong, or is code of one's own: a model file holds no code.
    """
    own = [n for n in ("method", "scaling") if not known(getattr(how.model, n))]
    options = dict(how.extraction)
    families = options.pop("families", None)
    plan = make_plan(channels, None, 4, families, None, options)
    own += [repr(f) for f in plan.extraction.get("families", ()) if callable(f)]
    if own:
        what = f"{', '.join(own)}: code of your own, which no model file can hold"
        raise ConfigError(what, "`habitats`", "use names and options of habitat")
    extraction: dict[str, Any] = plan.to_json()["extraction"]
    return extraction


def from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `as_json`."""
    out = dict(data)
    for name in ("families", "spacing"):
        if isinstance(out.get(name), list):
            out[name] = tuple(out[name])
    given = out.get("settings")
    if given is not None and "filters" in given:
        out["settings"] = settings_of(given)
    elif given is not None:
        out["settings"] = {channel: settings_of(one) for channel, one in given.items()}
    return out


def settings_of(data: Mapping[str, Any]) -> RadiomicsSettings:
    """Undo `RadiomicsSettings.to_json`."""
    filters = [{k: _tuple(v) for k, v in one.items()} for one in data["filters"]]
    given = {name: _tuple(value) for name, value in data.items()}
    given["filters"] = tuple(_FILTERS[f.pop("filter")](**f) for f in filters)
    if data["resegment"] is not None:
        low, high = data["resegment"]
        low = -math.inf if low is None else low
        given["resegment"] = (low, math.inf if high is None else high)
    return RadiomicsSettings(**given)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

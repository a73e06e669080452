"""Model files: JSON and arrays, no pickle."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import habitat
from habitat.errors import HabitatError, ModelError
from habitat.fitting import plain
from habitat.mil._attention import Attention
from habitat.mil._heads import Machine, Scale
from habitat.mil._likelihood import Likelihood
from habitat.mil._miles import Miles
from habitat.mil._plh import Histograms
from habitat.mil._pools import Embedding
from habitat.mil._svm import MarginModel
from habitat.saving import read_json, write_arrays, write_folder, write_json
from habitat.selection._linear import Linear

FORMAT = "habitat.mil/1"
_FILES = ("arrays.npz",)
_PARTS: dict[str, type] = {
    c.__name__: c
    for c in (
        *(Attention, Embedding, Histograms, Likelihood, Linear),
        *(Machine, MarginModel, Miles, Scale),
    )
}
_ARRAYS = ("oof", "offsets", "ranges", "medians")
_Arrays = dict[str, npt.NDArray[Any]]


def write_classifier(model: Any, folder: str | os.PathLike[str]) -> Path:
    """Write ``model.json`` and ``arrays.npz``, both or none."""
    own = [pool for pool in model.pools if not isinstance(pool, str)]
    if own:
        what = f"{len(own)} of the pools are code of your own that cannot be saved"
        raise ModelError(what, "`pools`", "use pools that have names")
    arrays: _Arrays = {name: getattr(model, f"{name}_") for name in _ARRAYS}
    options = {name: plain(value) for name, value in dict(model.options or {}).items()}
    arguments = {n: plain(v) for n, v in model.get_params(deep=False).items()}
    data = {
        "format": FORMAT,
        "version": habitat.__version__,
        "arguments": {**arguments, "options": options if model.options else None},
        "classes": model.classes_.tolist(),
        "features": list(model.feature_names_in_),
        "threshold": model.threshold_ if len(model.classes_) == 2 else None,
        "slope": model.slope_,
        "notes": list(model.notes_),
        "model": _packed("model", model.model_, arrays),
    }

    def write(part: Path) -> None:
        write_arrays(part / _FILES[0], arrays)
        write_json(part / "model.json", data, _FILES)

    return write_folder(folder, write, {"model.json", *_FILES})


def _packed(name: str, part: Any, arrays: _Arrays) -> Any:
    """A part as JSON; its arrays go to `arrays`."""
    if is_dataclass(part):
        own = {
            f.name: _packed(f"{name}.{f.name}", getattr(part, f.name), arrays)
            for f in fields(part)
        }
        return {"kind": type(part).__name__, "fields": own}
    if isinstance(part, np.ndarray):
        arrays[name] = part
        return {"array": name}
    return list(part) if isinstance(part, tuple) else part


def _unpacked(data: Any, arrays: _Arrays) -> Any:
    if isinstance(data, dict) and "array" in data:
        return arrays[data["array"]]
    if isinstance(data, dict):
        own = {name: _unpacked(v, arrays) for name, v in data["fields"].items()}
        return _PARTS[data["kind"]](**own)
    return tuple(data) if isinstance(data, list) else data


def read_classifier(cls: Any, folder: Path) -> Any:
    """Read what `write_classifier` wrote."""
    data = read_json(folder / "model.json", FORMAT, _FILES, ModelError)
    try:
        with np.load(folder / _FILES[0], allow_pickle=False) as file:
            arrays = dict(file)
        arguments = data["arguments"]
        model = cls(**{**arguments, "pools": tuple(arguments["pools"])})
        model.model_ = _unpacked(data["model"], arrays)
        for name in _ARRAYS:
            setattr(model, f"{name}_", arrays[name])
        model.classes_ = np.array(data["classes"])
        model.feature_names_in_ = np.array(data["features"], dtype=object)
        model.n_features_in_ = len(data["features"])
        model.slope_ = float(data["slope"])
        threshold = data["threshold"]
        model.threshold_ = float("nan") if threshold is None else float(threshold)
        model.notes_ = tuple(data["notes"])
    except (HabitatError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", str(folder)) from error
    bad = [name for name, array in arrays.items() if np.isnan(array).any()]
    shape = (2, len(data["features"]))
    if bad or model.ranges_.shape != shape:
        what = f"not finite: {', '.join(bad) or 'none'}; ranges {model.ranges_.shape}"
        raise ModelError(what, str(folder), "make and save it again")
    return model

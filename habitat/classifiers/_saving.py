"""Files of classifiers: JSON and arrays, no pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import habitat
from habitat.classifiers._inputs import reliable_names
from habitat.classifiers._models import KINDS, Own
from habitat.classifiers._steps import Steps, make_combat
from habitat.classifiers._tuning import Learned
from habitat.errors import ModelError
from habitat.saving import read_json, write_arrays, write_folder, write_json

FORMAT = "habitat.classifier/1"
_FILES = ("arrays.npz",)
_COMBAT = ("site_names", "grand_mean", "pooled_sd", "gamma", "delta")
_STEPS = ("kept", "medians", "means", "sds")
_PLAIN = ("n_features_in_", "n_candidates_", "events_per_feature_")


def write_classifier(model: Any, folder: str | os.PathLike[str]) -> Path:
    """Write ``model.json`` and ``arrays.npz``, both or none."""
    learned: Learned = model._learned
    if isinstance(learned.model, Own):
        what = f"{type(learned.model.classifier).__name__} cannot be saved"
        raise ModelError(what, "`model`", "use a model that has a name")
    arrays: dict[str, npt.NDArray[Any]] = {
        "classes": np.array(model.classes_.tolist()),
        "oof": model.oof_,
        "offsets": learned.offsets,
        "threshold": np.array(model.threshold_),
        "low": model.ranges_["low"].to_numpy(),
        "high": model.ranges_["high"].to_numpy(),
    }
    arrays |= {f"steps.{n}": getattr(learned.steps, n) for n in _STEPS}
    arrays |= {f"model.{n}": a for n, a in learned.model.arrays().items()}
    if learned.steps.combat is not None:
        arrays |= {
            f"combat.{n}": getattr(learned.steps.combat, f"{n}_") for n in _COMBAT
        }
    arguments = model.get_params(deep=False)
    if model.precision is not None:
        arguments["precision"] = sorted(reliable_names(model.precision, model.min_icc))
    if isinstance(model.class_weight, dict):
        arguments["class_weight"] = [
            [_plain(name), float(value)] for name, value in model.class_weight.items()
        ]
    names = getattr(model, "feature_names_in_", None)
    data = {
        "format": FORMAT,
        "version": habitat.__version__,
        "arguments": {name: _plain(value) for name, value in arguments.items()},
        "feature_names_in": None if names is None else names.tolist(),
        "selected": list(model.selected_),
        "notes": list(model.notes_),
        "kind": type(learned.model).__name__,
        "strength": learned.strength,
        **{name: getattr(model, name) for name in _PLAIN},
    }

    def write(part: Path) -> None:
        write_arrays(part / _FILES[0], arrays)
        write_json(part / "model.json", data, _FILES)

    return write_folder(folder, write, {"model.json", *_FILES})


def _plain(value: Any) -> Any:
    """A number of NumPy as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


def read_classifier(cls: type[Any], folder: Path) -> Any:
    """Read what `write_classifier` wrote, after checking the hashes."""
    data = read_json(folder / "model.json", FORMAT, _FILES, ModelError)
    try:
        with np.load(folder / _FILES[0], allow_pickle=False) as file:
            arrays = dict(file)
        arguments = dict(data["arguments"])
        if isinstance(arguments["class_weight"], list):
            arguments["class_weight"] = dict(map(tuple, arguments["class_weight"]))
        model = cls(**arguments)
        learned = _learned(data, arrays)
        for name in _PLAIN:
            setattr(model, name, data[name])
        if data["feature_names_in"] is not None:
            model.feature_names_in_ = np.array(data["feature_names_in"], dtype=object)
        ranges = {"feature": data["selected"], "low": arrays["low"]}
        model.ranges_ = pd.DataFrame({**ranges, "high": arrays["high"]})
        model.classes_ = arrays["classes"]
        model.threshold_ = float(arrays["threshold"])
        model.selected_, model.notes_ = tuple(data["selected"]), tuple(data["notes"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", str(folder)) from error
    model._learned = learned
    model.oof_, model.strength_ = learned.oof, learned.strength
    return model


def _learned(data: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> Learned:
    """A hash proves that nothing was changed, not that it was right before."""

    def group(name: str) -> dict[str, npt.NDArray[Any]]:
        head = f"{name}."
        return {n[len(head) :]: a for n, a in arrays.items() if n.startswith(head)}

    may_be_nan = ("threshold", "low", "high")
    bad = [
        name
        for name, array in arrays.items()
        if array.dtype.kind == "f"
        and name not in may_be_nan
        and not np.isfinite(array).all()
    ]
    if bad:
        raise ValueError(f"{', '.join(bad)}: not finite")
    combat = make_combat(**group("combat")) if group("combat") else None
    steps = Steps(**group("steps"), combat=combat)
    sizes = {len(a) for a in (*group("steps").values(), data["selected"])}
    if len(sizes) != 1:
        raise ValueError("arrays and names differ in length")
    model = KINDS[data["kind"]].from_arrays(group("model"))
    oof, strength = arrays["oof"], data["strength"]
    return Learned(steps, model, arrays["offsets"], oof, strength, ())

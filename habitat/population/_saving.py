"""Model files: JSON and arrays, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import habitat
from habitat.clustering import Mixture, Nearest, Thresholds
from habitat.errors import HabitatError, ModelError
from habitat.fitting import Definition, from_plain, known, plain
from habitat.population._learn import Learned
from habitat.saving import read_json, write_arrays, write_folder, write_json
from habitat.voxels import Logged, Ranked, Shifted, Windowed

FORMAT = "habitat.model/1"
_FILES = ("arrays.npz",)
WRITTEN = {"model.json", *_FILES}
WRITTEN |= {"centres.csv", "centres.png", "k_curve.csv", "k_curve.png"}  # fit_cohort
WRITTEN |= {"fit.json", "failures.csv", "tracebacks"}
_PARTS: dict[str, type] = {
    c.__name__: c
    for c in (
        *(Mixture, Nearest, Thresholds),
        *(Logged, Ranked, Shifted, Windowed),
    )
}
_Arrays = dict[str, npt.NDArray[Any]]


def write_model(model: Any, folder: str | os.PathLike[str]) -> Path:
    """Write ``model.json`` and ``arrays.npz``, both or none."""

    def write(part: Path) -> None:
        write_into(model, part)

    return write_folder(folder, write, WRITTEN)


def write_into(model: Any, folder: Path) -> None:
    """Write the files of a model into a folder that is there already."""
    parts = (model.definition_.rule, model.definition_.scaling)
    own = [type(p).__name__ for p in parts if type(p).__name__ not in _PARTS]
    own += [n for n in ("method", "scaling") if not known(getattr(model, n))]
    if own:
        what = f"{', '.join(own)}: code of your own cannot be saved"
        raise ModelError(what, "model", "use a method and a scaling that have names")
    data, arrays = _content(model)
    write_arrays(folder / _FILES[0], arrays)
    write_json(folder / "model.json", data, _FILES)


def hash_model(model: Any) -> str:
    """Sha256 of all that is written, but for the version of the software."""
    data, arrays = _content(model)
    data.pop("version")
    found = hashlib.sha256(json.dumps(data, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _content(model: Any) -> tuple[dict[str, Any], _Arrays]:
    definition: Definition = model.definition_
    arrays = {n: getattr(model, f"{n}_") for n in ("centers", "medians", "sds")}
    arrays |= _packed("rule", definition.rule)
    arrays |= _packed("scaling", definition.scaling)
    data = {
        "format": FORMAT,
        "version": habitat.__version__,
        "arguments": {n: plain(v) for n, v in model.get_params(deep=False).items()},
        "smoothness": plain(definition.smoothness),
        "supervoxels": plain(definition.supervoxels),
        "rule": type(definition.rule).__name__,
        "scaling": type(definition.scaling).__name__,
        "terms": list(definition.terms),
    }
    data |= {name: plain(getattr(model, f"{name}_")) for name in _PLAIN}
    data["choice"] = model.choice_
    return data, arrays


_PLAIN = ("k", "channels", "units", "n_cases", "n_iter", "converged", "objective")


def _packed(name: str, part: Any) -> _Arrays:
    """Fields of a rule or scaling as arrays; those of a tuple are numbered."""
    out: _Arrays = {}
    for field in fields(part) if is_dataclass(part) else ():
        value = getattr(part, field.name)
        if isinstance(value, tuple):
            out |= {
                f"{name}.{field.name}.{i}": np.asarray(v) for i, v in enumerate(value)
            }
        else:
            out[f"{name}.{field.name}"] = np.asarray(value)
    return out


def _unpacked(name: str, kind: str, arrays: _Arrays) -> Any:
    part = _PARTS[kind]
    values: dict[str, Any] = {}
    for field in fields(part):
        key = f"{name}.{field.name}"
        if key in arrays:
            array = arrays[key]
            values[field.name] = float(array) if array.ndim == 0 else array
        else:
            names = sorted(n for n in arrays if n.startswith(f"{key}."))
            values[field.name] = tuple(arrays[n] for n in names)
    return part(**values)


def read_model(cls: Any, folder: Path) -> Any:
    """Read what `write_model` wrote."""
    data = read_json(folder / "model.json", FORMAT, _FILES, ModelError)
    try:
        with np.load(folder / _FILES[0], allow_pickle=False) as file:
            arrays = dict(file)
        model = cls(**{n: from_plain(v) for n, v in data["arguments"].items()})
        learned = Learned(
            **{
                name: data[name] for name in _PLAIN if name not in ("channels", "units")
            },
            channels=tuple(data["channels"]),
            units=tuple(data["units"]),
            centers=arrays["centers"],
            medians=arrays["medians"],
            sds=arrays["sds"],
            choice=data["choice"],
            definition=Definition(
                _unpacked("scaling", data["scaling"], arrays),
                _unpacked("rule", data["rule"], arrays),
                from_plain(data["smoothness"]),
                from_plain(data["supervoxels"]),
                data["arguments"]["patient_shift"],
                tuple(data["terms"]),
            ),
        )
    except (HabitatError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", str(folder)) from error
    _check(learned, arrays, folder)
    for field in fields(learned):
        setattr(model, f"{field.name}_", getattr(learned, field.name))
    return model


def _check(learned: Learned, arrays: _Arrays, folder: Path) -> None:
    """A hash proves that nothing was changed, not that it was right before."""
    bad = [name for name, array in arrays.items() if np.isnan(array).any()]
    shape = (learned.k, len(learned.channels))
    may_be_empty = ("centers", "rule.centers")
    bad = [name for name in bad if name not in may_be_empty]
    if bad:
        raise ModelError(f"{', '.join(bad)}: not finite", str(folder))
    if learned.centers.shape != shape or learned.definition.rule.k != learned.k:
        what = f"centers of shape {learned.centers.shape}, expected {shape}"
        raise ModelError(what, str(folder))

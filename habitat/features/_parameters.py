"""Parameter files of pyradiomics (YAML or JSON) as `RadiomicsSettings`.

Source: pyradiomics 3.1.4, "Customizing the Extraction" and ``paramSchema.yaml``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from habitat._check import collector, one_of, warn
from habitat.errors import ConfigError, HabitatError, InputError, raise_all
from habitat.features._filters import LBP2D, Filter, LoG, Plain, Wavelet

_NO_EFFECT = (  # on the values of features here: checks, log output, crops
    "additionalInfo",
    "correctMask",
    "geometryTolerance",
    "initValue",
    "kernelRadius",
    "label",
    "label_channel",
    "maskedKernel",
    "minimumROIDimensions",
    "minimumROISize",
    "padDistance",
    "preCrop",
    "voxelBatch",
)
_ONE_VALUE: dict[str, Any] = {  # what pyradiomics does by default, and alone is offered
    "distances": [1],
    "force2Ddimension": 0,
    "gldm_a": 0,
    "gradientUseSpacing": True,
    "removeOutliers": None,
    "resegmentShape": False,
    "symmetricalGLCM": True,
}
_DEFAULTS: dict[str, Any] = {"binWidth": 25, "interpolator": "sitkBSpline"}
_INTERPOLATORS = {
    "sitkNearestNeighbor": "nearest",
    "sitkLinear": "linear",
    "sitkBSpline": "cubic",
    1: "nearest",
    2: "linear",
    3: "cubic",
}
_USED = (
    "binCount",
    "binWidth",
    "force2D",
    "interpolator",
    "normalize",
    "normalizeScale",
    "resampledPixelSpacing",
    "resegmentMode",
    "resegmentRange",
    "voxelArrayShift",
    "weightingNorm",
)
_FILTER_KEYS = {
    "LoG": ("sigma",),
    "Wavelet": ("wavelet", "level", "start_level"),
    "LBP2D": ("lbp2DRadius", "lbp2DSamples", "lbp2DMethod"),
}
_PLAIN = ("Original", "Square", "SquareRoot", "Logarithm", "Exponential", "Gradient")
_SECTIONS = ("setting", "imageType", "featureClass", "voxelSetting")
_CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")


def read_parameters(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a parameter file as arguments of `RadiomicsSettings`."""
    name = Path(path).name
    sections = _sections(Path(path))
    given = {**sections["setting"], **sections["voxelSetting"]}
    problems: list[HabitatError] = []
    check = collector(problems)
    unused = sorted(key for key in given if key in _NO_EFFECT)
    every_filter_key = tuple(key for keys in _FILTER_KEYS.values() for key in keys)
    check(_known, name, given, (*_USED, *_NO_EFFECT, *_ONE_VALUE, *every_filter_key))
    settings = {**_DEFAULTS, **given}
    out: dict[str, Any] = {"alignment": "corner"}
    out |= _bins(settings)
    for part in (_grid, _voxels, _neighbors):
        out.update(check(part, name, settings) or {})
    images = sections["imageType"] or {"Original": {}}
    filters = [check(_filter, name, k, v or {}, settings) for k, v in images.items()]
    out["filters"] = [f for f in filters if f is not None]
    out["features"] = check(_features, name, sections["featureClass"])
    raise_all(problems)
    if unused:
        warn(f"{name}: {', '.join(unused)} have no effect on features here")
    return out


def _sections(path: Path) -> dict[str, dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            content = YAML(typ="safe", pure=True).load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", str(path)) from error
    except YAMLError as error:
        raise InputError(f"is not valid YAML: {error}", str(path)) from error
    content = {} if content is None else content
    if not isinstance(content, Mapping):
        what = f"must hold sections {', '.join(_SECTIONS)}"
        raise ConfigError(what, path.name, "see the documentation of pyradiomics")
    _known(path.name, content, _SECTIONS, "sections")
    sections = {key: content.get(key) or {} for key in _SECTIONS}
    wrong = [key for key, value in sections.items() if not isinstance(value, Mapping)]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)} must be a mapping of names", path.name)
    return {key: dict(value) for key, value in sections.items()}


def _known(
    where: str, given: Mapping[str, Any], allowed: tuple[str, ...], what: str = "keys"
) -> None:
    """Raise with all keys that are unknown, or have a value that is not offered."""
    extra = [str(key) for key in given if key not in allowed]
    other = [
        f"{key}={given[key]!r} (only {only!r})"
        for key, only in _ONE_VALUE.items()
        if key in given and key in allowed and given[key] != only
    ]
    if extra or other:
        text = f"holds {what} that are not offered: {', '.join(extra + other)}"
        raise ConfigError(text, where, "take them out, or use the library for them")


def _bins(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fixed count before width, as pyradiomics."""
    if given.get("binCount") is not None:
        return {"bin_count": given["binCount"]}
    return {"bin_width": given["binWidth"]}


def _grid(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Order x, y, z becomes z, y, x; without a spacing the image keeps its grid."""
    spacing = given.get("resampledPixelSpacing")
    how = given["interpolator"]
    if spacing is None or how is None:
        return {"spacing": 0.0, "interpolation": "cubic"}
    if how not in _INTERPOLATORS:
        names = ", ".join(str(name) for name in _INTERPOLATORS)
        what = f"interpolator {how!r} is not offered, only {names}"
        raise ConfigError(what, where)
    if not isinstance(spacing, list):
        raise ConfigError("resampledPixelSpacing must be a list [x, y, z]", where)
    return {"spacing": spacing[::-1], "interpolation": _INTERPOLATORS[how]}


def _voxels(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What changes values or leaves voxels out."""
    out: dict[str, Any] = {"voxel_shift": given.get("voxelArrayShift", 0)}
    if given.get("normalize"):
        out["normalize"] = given.get("normalizeScale", 1)
    ends = given.get("resegmentRange")
    if ends is None:
        return out
    mode = given.get("resegmentMode", "absolute")
    if not isinstance(ends, list) or len(ends) not in (1, 2):
        raise ConfigError(f"resegmentRange must be [low, high], got {ends!r}", where)
    if mode == "absolute":
        out["resegment"] = (*sorted(ends), float("inf"))[:2]
    elif mode == "sigma" and len(ends) == 2 and sum(ends) == 0:
        out["outliers"] = max(ends)
    else:
        what = f"resegmentMode {mode!r} with {ends} is not offered"
        fix = "only 'absolute', and 'sigma' with [-n, n]"
        raise ConfigError(what, where, fix)
    return out


def _neighbors(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    norm = given.get("weightingNorm")
    if norm not in (None, "no_weighting"):
        what = f"weightingNorm {norm!r} is not offered, only 'no_weighting'"
        raise ConfigError(what, where)
    dims = "2.5d" if given.get("force2D") else "3d"
    return {"dims": dims, "merge": norm is not None}


def _filter(
    where: str, kind: str, own: Mapping[str, Any], common: Mapping[str, Any]
) -> Filter:
    """Return an image type; its own settings come before the common ones."""
    where = f"{where}: imageType {kind}"
    one_of("imageType", kind, (*_PLAIN, *_FILTER_KEYS))
    keys = _FILTER_KEYS.get(kind, ())
    fixed = ("gradientUseSpacing",) if kind == "Gradient" else ()
    _known(where, own, ("binWidth", "binCount", *fixed, *keys))
    bins = _bins(own) if {"binWidth", "binCount"} & set(own) else {}
    values = {**common, **own}
    if kind in _PLAIN:
        return Plain(kind.lower(), **bins)
    if kind == "LoG":
        return LoG(values.get("sigma", ()), **bins)
    make: Callable[..., Filter] = {"Wavelet": Wavelet, "LBP2D": LBP2D}[kind]
    names = ("name", "level", "start_level")
    if kind == "LBP2D":
        names = ("radius", "samples", "method")
    pairs = zip(names, keys, strict=True)
    options = {name: values[key] for name, key in pairs if key in values}
    if kind == "Wavelet":
        options["in_plane"] = bool(common.get("force2D"))
    return make(**options, **bins)


def _features(where: str, classes: Mapping[str, Any]) -> list[str]:
    """Return classes and single features; all where the file names none."""
    if not classes:
        return list(_CLASSES)
    extra = [kind for kind in classes if kind not in _CLASSES]
    if extra:
        what = f"featureClass {', '.join(extra)} is not offered, only {_CLASSES}"
        raise ConfigError(what, where)
    out = []
    for kind, names in classes.items():
        out += [f"{kind}_{name}" for name in names] if names else [kind]
    return out

"""A tumor to look through in a browser: one offline file."""

from __future__ import annotations

import base64
import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from habitat.image import Image
from habitat.io import write
from habitat.plotting import habitat_colors
from habitat.reports._page import cell, template
from habitat.result import HabitatResult

NIIVUE = "niivue-0.69.0.umd.js"
LIMIT = 8_000_000  # bytes of the file
_BITS = 13  # of a float32 that are set to 0: three digits stay
_LABELS = 0.5  # opacity


def view_html(result: HabitatResult, *, case_id: str, about: str = "") -> str:
    """A page in which all channels can be looked through under the habitats.

    Parameters
    ----------
    result : HabitatResult
    case_id : str
        Title.
    about : str
        Words under the title.

    Notes
    -----
    Values are shown with three digits. Where the file would be larger than 8 MB, each
    second voxel (third, ...) of a row is shown, and the page says so.
    """
    source = resources.files("habitat.reports") / "vendor" / NIIVUE
    script = source.read_text(encoding="utf-8")
    room = LIMIT - len(script.encode()) - 50_000
    step = 1
    while True:
        volumes = [_volume(*channel, step) for channel in _channels(result)]
        volumes.append(_map(result, step))
        if sum(len(v["base64"]) for v in volumes) <= room:
            break
        step += 1
    return template("view.html").render(
        case_id=case_id,
        about=about,
        step=step,
        niivue=Markup(script),  # a file of this package
        volumes=volumes,
        data=Markup(_json(volumes)),  # all "<" are escaped
    )


def _channels(result: HabitatResult) -> list[tuple[str, Image, str, float]]:
    """CT or the first channel in gray, others over it: name, image, colors, opacity."""
    images = dict(result.images)
    ground = next((c for c, i in images.items() if i.unit == "HU"), next(iter(images)))
    out = [(ground, images.pop(ground), "gray", 1.0)]
    for place, (name, image) in enumerate(images.items()):
        out.append((name, image, "inferno", 0.5 if place == 0 else 0.0))
    return out


def _volume(
    name: str, image: Image, colors: str, opacity: float, step: int
) -> dict[str, Any]:
    low, high = _window(image)
    return {
        "name": f"{name}.nii.gz",
        "label": f"{_named(name, image.unit)}, {cell(low)} to {cell(high)}",
        "base64": _encoded(image, step),
        "colormap": colors,
        "opacity": opacity,
        "cal_min": low,
        "cal_max": high,
    }


def _named(name: str, unit: str | None) -> str:
    return name if unit in (None, name) else f"{name} {unit}"


def _window(image: Image) -> tuple[float, float]:
    """Values from black to white: soft tissue, SUV from 0, else the middle 98 %."""
    if image.unit == "HU":
        return -160.0, 240.0
    values = image.array[np.isfinite(image.array)]
    low, high = np.quantile(values, (0.01, 0.99)) if values.size else (0.0, 1.0)
    if (image.unit or "").startswith("SUV"):
        low, high = 0.0, float(values.max(initial=1.0))
    return float(low), float(max(high, low + 1e-6))


def _map(result: HabitatResult, step: int) -> dict[str, Any]:
    labels = Image(
        result.labels[result.box].astype(np.uint8), result.geometry.crop(result.box)
    )
    colors = np.rint(255 * np.array(habitat_colors(result.k))[:, :3]).astype(int)
    table = np.vstack([np.zeros((1, 3), int), colors])
    return {
        "name": "habitats.nii.gz",
        "label": "habitats",
        "base64": _encoded(labels, step),
        "opacity": _LABELS,
        "table": {
            **dict(zip("RGB", table.T.tolist(), strict=True)),
            "A": [0] + [255] * result.k,
            "I": list(range(result.k + 1)),
            "labels": ["", *result.names],
        },
    }


def _encoded(image: Image, step: int) -> str:
    array = np.ascontiguousarray(image.array[::step, ::step, ::step])
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        array = np.nan_to_num(array, nan=0.0)
        array = (array.view(np.uint32) >> _BITS << _BITS).view(np.float32)
    affine = image.geometry.affine.copy()
    affine[:3, :3] *= step
    thin = Image(array, type(image.geometry)(array.shape, affine), unit=image.unit)
    with tempfile.TemporaryDirectory(prefix="habitat-") as folder:
        path = Path(folder) / "v.nii.gz"
        write(thin, path)
        return base64.b64encode(path.read_bytes()).decode()


def _json(volumes: list[dict[str, Any]]) -> str:
    """JSON that may stand in a script element."""
    text = json.dumps(volumes, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text

"""Methods text to paste, from the parameters of a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import habitat

_SCALINGS = {
    "zscore": "scaled to mean 0 and standard deviation 1 over the voxels",
    "log": "scaled to mean 0 and standard deviation 1, SUV after taking logarithms",
    "robust": "scaled by median and interquartile range",
    "window": "scaled by fixed windows",
    "rank": "replaced by their ranks",
    "none": "used in their own units",
}
_METHODS = {
    "KMeansOptions": "K-means (Lloyd, {n_init} starts by k-means++)",
    "GMMOptions": "a Gaussian mixture ({covariance} covariance)",
    "OtsuOptions": "Otsu thresholds of each channel",
    "SupervoxelOptions": "K-means of supervoxels (SLIC)",
}
_INTERPOLATIONS = {
    "none": "kept on its grid",
    "cubic": "resampled by cubic splines",
    "linear": "resampled linearly",
    "nearest": "resampled by nearest neighbor",
}


def methods_text(params: Mapping[str, Any], k: int) -> str:
    """Describe how a map was made, in sentences for a paper.

    Parameters
    ----------
    params : mapping
        ``HabitatResult.params``.
    k : int
        Number of habitats.
    """
    arguments = params["arguments"]
    channels = params["channels"]
    spacing = " x ".join(f"{v:.3g}" for v in params["spacing_mm"])
    sentences = [
        f"Habitats were computed with habitat {params['versions']['habitat']} on a "
        f"grid of {spacing} mm (z, y, x).",
        *(_channel(name, channel) for name, channel in channels.items()),
        f"A voxel belonged to the tumor by the rule: {params['mask']['rule']}.",
        _clustering(arguments, k),
    ]
    if arguments.get("smoothness", {}).get("beta"):
        potts = arguments["smoothness"]
        sentences.append(
            f"Labels were smoothed by a Potts model (beta {potts['beta']:g}, "
            f"{potts['neighbors']} neighbors)."
        )
    if arguments.get("rim_mm"):
        rim = arguments["rim_mm"]
        sentences.append(f"Centers were learned without the outer {rim:g} mm.")
    sentences.append(f"Random state {arguments['random_state']}.")
    return " ".join(sentences)


def _channel(name: str, channel: Mapping[str, Any]) -> str:
    how = _INTERPOLATIONS.get(channel["interpolation"], channel["interpolation"])
    text = f"{name.upper() if name in ('pet', 'ct') else name}"
    if channel.get("unit"):
        text += f" ({channel['unit']})"
    text += f" was {how}"
    smoothing = [s for s in channel.get("smoothing_sd_mm", ()) if s]
    if smoothing:
        text += (
            f" after Gaussian smoothing (sd {max(smoothing):.3g} mm) against aliasing"
        )
    if channel.get("rounded"):
        text += " and rounded to whole numbers"
    return text + "."


def _clustering(arguments: Mapping[str, Any], k: int) -> str:
    method = dict(arguments["method"]) if arguments.get("method") else {}
    name = str(method.get("name", ""))
    how = _METHODS.get(name, name)
    how = how.format_map(_Known(method))
    scaling = arguments["scaling"]
    scaling = scaling if isinstance(scaling, str) else scaling.get("name", "own")
    text = f"Channels were {_SCALINGS.get(scaling, f'scaled ({scaling})')}"
    if arguments.get("model"):
        sha256 = str(arguments["model"])[:12]
        return (
            f"{text} of the training cohort, and {k} habitats were assigned by a "
            f"population model ({how}; sha256 {sha256}...), so that a number means the "
            "same in all patients."
        )
    return (
        f"{text} of this tumor, which were clustered into {k} habitats by {how}, "
        "ordered by the first channel; without a population model habitats of two "
        "patients are only ordered alike."
    )


class _Known(dict[str, Any]):
    """Options of a method; what is not there is a dash."""

    def __missing__(self, key: str) -> str:
        return "-"


def call_of(params: Mapping[str, Any], channels: Sequence[str]) -> str:
    """The Python call that repeats a map, with names for the files."""
    arguments = dict(params["arguments"])
    model = arguments.pop("model", None)
    files = [name.upper() for name in channels]
    if model:
        images = ", ".join(f"{n!r}: {f}" for n, f in zip(channels, files, strict=True))
        case = f'habitat.Case("case", {{{images}}}, MASK)'
        return (
            f"habitat.HabitatModel.load(MODEL).segment({case})  # model {model}\n"
            f"# habitat {habitat.__version__}"
        )
    given = [f"{name}={_plain(value)}" for name, value in arguments.items() if value]
    head = ", ".join([*files, "MASK"]) if set(files) == {"PET", "CT"} else ""
    if not head:
        pairs = ", ".join(f"{n!r}: {n.upper()}" for n in channels)
        return f"habitat.segment_channels({{{pairs}}}, MASK, {', '.join(given)})"
    return f"habitat.segment({head}, {', '.join(given)})"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping) and "name" in value:
        own = ", ".join(f"{k}={v!r}" for k, v in value.items() if k != "name")
        return f"{value['name']}({own})"
    return repr(value)

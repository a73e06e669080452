"""What was computed as radiomics, for reporting: IBSI's items and those of CLEAR."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from habitat.features import RadiomicsSettings
from habitat.training._extraction import from_json
from habitat.training._items import HUMAN, Item

if TYPE_CHECKING:
    import pandas as pd

_ACQUIRED = {"SUVbw": "pet", "HU": "ct"}  # in names of features, and as channels
_FEATURE = re.compile(
    r"(?:tumor|h\d+)_(.+?)_[^_]+_(firstorder|glcm|glrlm|glszm|gldm|ngtdm)_"
)
_NO_RADIOMICS = "no radiomics features"
_GRID = "rounded up to whole voxels; IBSI aligns centers, pyradiomics corners"

Channels = Mapping[str, RadiomicsSettings]


def channels_of(columns: Sequence[str], extraction: Mapping[str, Any]) -> Channels:
    """Settings for each channel of which there are radiomics, by its name in features.

    Those of PET in SUV and CT in HU are complete; "auto" of other channels depends on
    the voxels of each image.
    """
    found = filter(None, map(_FEATURE.match, columns))
    used = from_json(extraction)
    given, spacing = used.get("settings"), used.get("spacing", "auto")
    out = {}
    for name in dict.fromkeys(match[1] for match in found):
        one = given or RadiomicsSettings()
        if isinstance(one, Mapping):
            default = RadiomicsSettings()
            one = one.get(name, one.get(_ACQUIRED.get(name, name), default))
        if spacing != "auto":
            one = replace(one, spacing=spacing)
        if name in _ACQUIRED:
            one = one.for_channel(name, False, (1.0, 1.0, 1.0))
        out[name] = one
    return out


_CLEAR = (
    ("21", "preprocessing of images", ("normalize", "resegment", "outliers")),
    ("22", "resampling", ("spacing", "interpolation", "mask_interpolation")),
    ("23", "discretization", ("bin_width", "bin_count", "bin_from")),
    ("24", "image types", ("filters",)),
)


def clear(channels: Channels, known: bool) -> Iterator[Item]:
    """Items 21 to 24 of CLEAR and 11 of METRICS, if the settings are known."""
    for number, text, names in _CLEAR:
        answer = _of_each(channels, names) if channels else _NO_RADIOMICS
        item = Item("CLEAR", number, text, answer)
        if not known:
            item = item._replace(answer=None, status=HUMAN)
        yield item
        if number == "21":
            yield item._replace(guide="METRICS", item="11")


def ibsi(channels: Channels, version: str, table: pd.DataFrame) -> Iterator[Item]:
    """Items of IBSI's reporting guideline that follow from the settings."""

    def item(number: str, text: str, *names: str) -> Item:
        return Item("IBSI", number, text, _of_each(channels, names))

    def fact(number: str, text: str, answer: Any) -> Item:
        return Item("IBSI", number, text, answer)

    if "tracer" in table and table["tracer"].notna().any():
        yield fact("3a", "tracer", table["tracer"].dropna().value_counts().to_dict())
    if "SUVbw" in channels:
        yield fact("38", "normalization of SUV", "body weight")
    yield fact("41", "anti-aliasing", "none before radiomics")
    yield item("46", "normalization of intensities", "normalize")
    yield item("50a", "interpolation of images", "interpolation")
    yield item("50b", "position of the grid", "alignment")
    yield fact("50c", "size of the grid", _GRID)
    yield fact("50d", "extrapolation", "cubic: mirrored at the border, else nearest")
    yield item("51", "voxel size, mm (z, y, x)", "spacing")
    if "HU" in channels:
        how = {"center": "to the nearest integer", "corner": "cut off (pyradiomics)"}
        yield fact("52", "rounding of HU", how[channels["HU"].alignment])
    yield item("53", "interpolation of masks", "mask_interpolation")
    yield fact("54", "voxels partly in the mask", "linear: half or more, else nearest")
    yield item("55", "re-segmentation", "resegment", "outliers")
    yield item("56a", "fixed bin size or number", "bin_width", "bin_count")
    yield item("56b", "bin size, number of bins", "bin_width", "bin_count")
    yield item("56c", "lower edge of the first bin", "bin_from")
    yield item("57", "filters", "filters")
    yield item("58", "features", "features")
    yield item("59", "conventions of IBSI (else those of pyradiomics)", "ibsi")
    yield fact("61", "software", f"habitat {version}")
    yield item("62", "matrices merged before features", "merge", "dims")
    yield fact("63", "weights by distance", "none")
    yield fact("64", "co-occurrence", "symmetric")
    yield fact("65", "co-occurrence, Chebyshev distance", 1)
    yield fact("66", "zones, Chebyshev distance", 1)
    yield fact("69", "gray tone difference, Chebyshev distance", 1)
    yield fact("70", "dependence, Chebyshev distance", 1)
    yield fact("71", "dependence, coarseness", 0)


def _of_each(channels: Channels, names: Sequence[str]) -> Any:
    """Some settings of all channels; once where all have the same."""
    found = {
        channel: {n: v for n, v in one.to_json().items() if n in names}
        for channel, one in channels.items()
    }
    values = list(found.values())
    return values[0] if all(value == values[0] for value in values) else found

"""Which columns of a wide table of features belong together."""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from habitat._check import warn

ABOUT, CLINICAL, TUMOR, HABITATS, RINGS, OWN = (
    "about",
    "clinical",
    "tumor",
    "habitats",
    "rings",
    "own",
)
VOLUME = "tumor_volume_ml"

_ABOUT = frozenset(
    ("case_id", "status", "group", "site", "split", "tracer", "registered")
)
# features of the region "tumor" that are there only because it has habitats
_OF_LABELS = re.compile(
    r"(.*_)?(contrast_\d+_\d+|centroid_distance_\d+_\d+|interaction_\w+|border_\w+"
    r"|joins_\w+|ith_score(_3d)?|contagion|edge_density|pair_correlation_\w+"
    r"|shannon|pielou|simpson|inverse_simpson|berger_parker|hill_\d+|rao_q(_relative)?)"
)
_CONSTANT = ("tumor_fraction", "tumor_present")


def block(column: str) -> str:
    """Say what a column of the wide table describes.

    Returns
    -------
    {"about", "clinical", "tumor", "habitats", "rings", "own"}
        "about": the case and its outcome, no feature; "clinical": ``clin:<name>``;
        "tumor": the whole tumor without regard to habitats; "habitats": one habitat, or
        how habitats lie and differ (``tumor_interaction_1_2``); "rings": what surrounds
        the tumor; "own": a column that habitat did not make.

    Examples
    --------
    >>> [block(c) for c in ("site", "tumor_HU_mean", "tumor_shannon", "h2_fraction")]
    ['about', 'tumor', 'habitats', 'habitats']
    """
    if column in _ABOUT or column.startswith(("pdl1_", "out:")):
        return ABOUT
    if column.startswith("clin:"):
        return CLINICAL
    region, _, rest = column.partition("_")
    if re.fullmatch(r"h\d+", region):
        return HABITATS
    if region in ("ring", "rim", "border"):
        return RINGS
    if region != TUMOR:
        return OWN
    return HABITATS if _OF_LABELS.fullmatch(rest) else TUMOR


def features_of(table: pd.DataFrame) -> list[str]:
    """Columns that a classifier may use: numbers that are not "about" the case."""
    return [
        name
        for name in map(str, table.columns)
        if block(name) != ABOUT
        and name not in _CONSTANT
        and pd.api.types.is_numeric_dtype(table[name])
    ]


def suv_max(columns: Iterable[str]) -> str | None:
    """The column with the largest SUV of the tumor, if there is one."""
    names = set(columns)
    wanted = ("tumor_SUVbw_suv_max", "tumor_SUVbw_max")
    return next((name for name in wanted if name in names), None)


MOST_TEXTS = 10  # a column of more different texts is no category


def encoded(table: pd.DataFrame) -> pd.DataFrame:
    """Turn clinical texts into columns of 0 and 1, ``clin:sex=male``.

    Of two texts the later one in the alphabet has a column, of more each has one; where
    there is no text the new columns are NaN. A column of more than 10 texts is left
    out, with a warning; so is text in a column that is neither clinical nor about the
    case. Numbers held as objects become numbers.

    Examples
    --------
    >>> table = pd.DataFrame({"clin:sex": ["male", "female", None]})
    >>> encoded(table)["clin:sex=male"].tolist()
    [1.0, 0.0, nan]
    """
    made: dict[str, Any] = {}
    for name in map(str, table.columns):
        kind, given = block(name), table[name]
        column = given if kind == ABOUT else numbers_of(given)
        if column is not given:
            made[name] = column
        if kind == ABOUT or pd.api.types.is_numeric_dtype(column):
            continue
        if kind != CLINICAL:
            warn(f"`{name}` is left out: it holds no numbers")
            continue
        texts = sorted(set(column.dropna().astype(str)))
        if len(texts) > MOST_TEXTS:
            warn(f"`{name}` is left out: it holds {len(texts)} different texts")
            continue
        for text in texts[1:] if len(texts) == 2 else texts:
            made[f"{name}={text}"] = _indicator(column, text)
    out: pd.DataFrame = table.assign(**made)
    return out


def numbers_of(column: Any) -> Any:
    """A column of objects that all are numbers, as float; else the column."""
    if column.dtype != object:
        return column
    there = column.dropna()
    if all(isinstance(v, numbers.Real) for v in there):
        return column.astype("float64")
    return column


def with_columns(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Add the columns of `encoded` that a model was learned on."""
    made: dict[str, Any] = {}
    for name in names:
        source, found, text = name.rpartition("=")
        if found and name not in table and source in table:
            made[name] = _indicator(table[source], text)
    out: pd.DataFrame = table.assign(**made)
    return out


def _indicator(column: Any, text: str) -> Any:
    return (column.astype(str) == text).astype("float64").where(column.notna())

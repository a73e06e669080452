"""The long table of features, and the wide one with a row per case."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from habitat.errors import InputError

COLUMNS = (
    "case_id",
    "region",
    "channel",
    "family",
    "feature",
    "value",
    "unit",
    "note",
    "voxels",
    "voxels_used",
    "bins",
)
_KEYS = ["case_id", "region", "channel", "feature"]


class Row(NamedTuple):
    """One feature of one region; counts are 0 where they have no meaning."""

    region: str
    channel: str
    feature: str
    value: float
    unit: str = ""
    note: str = ""
    voxels: int = 0  # of the region on the grid of the labels
    voxels_used: int = 0  # after resampling and re-segmentation
    bins: int = 0


def long(case_id: str, found: Iterable[tuple[str, Row]]) -> pd.DataFrame:
    """Put the rows of all families into one table."""
    rows = [(case_id, r[0], r[1], family, *r[2:]) for family, r in found]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    counts = dict.fromkeys(("voxels", "voxels_used", "bins"), "int64")
    typed: pd.DataFrame = table.astype({"value": "float64", **counts})
    return typed


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row per case, one column per feature of a region.

    Parameters
    ----------
    table : DataFrame
        What `extract` returned, or several of them joined by ``pandas.concat``.

    Returns
    -------
    DataFrame
        Column "case_id", then ``{region}_{channel}_{feature}`` (``{region}_{feature}``
        where there is no channel) in order of first appearance; a case without a
        region or feature has NaN. Columns ``{region}_present`` tell 1 from 0 for each
        habitat (and NaN from either where a case was extracted without it). The notes
        in ``attrs`` of the tables are not in it.

    Raises
    ------
    InputError
        If the table lacks columns, or a case has a feature twice.

    Examples
    --------
    >>> import habitat
    >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
    >>> result = habitat.segment(p.pet, p.ct, p.mask, k=2)
    >>> table = result.extract(families=("composition",))
    >>> list(habitat.features.wide(table)["h1_present"])
    [1.0]
    """
    if not isinstance(table, pd.DataFrame):
        what = f"must be one table, got {type(table).__name__}"
        raise InputError(what, "`table`", "join several: pandas.concat(tables)")
    missing = [c for c in (*_KEYS, "value") if c not in table]
    if missing:
        what = f"lacks the columns {', '.join(missing)}"
        raise InputError(what, "`table`", "give what `extract` returned")
    # a table that was read from CSV has no text where it was empty
    texts = {c: table[c].fillna("").astype(str) for c in _KEYS[1:]}
    table = table.assign(**texts, value=pd.to_numeric(table["value"]))
    twice = table.duplicated(_KEYS)
    if twice.any():
        first = " ".join(map(str, table.loc[twice, _KEYS].iloc[0]))
        what = f"{int(twice.sum())} features stand there twice, first {first!r}"
        raise InputError(what, "`table`", "give every case another case_id")
    rows = {
        case: dict(zip(names_of(part), part["value"], strict=True))
        for case, part in table.groupby("case_id", sort=False)
    }
    names = dict.fromkeys(name for row in rows.values() for name in row)
    out: pd.DataFrame = pd.DataFrame(
        list(rows.values()), columns=list(names), dtype="float64"
    )
    out.insert(0, "case_id", list(rows))
    return out


def names_of(table: pd.DataFrame) -> list[str]:
    """Column of the wide table for each row."""
    parts = (table[name].tolist() for name in ("region", "channel", "feature"))
    return ["_".join(part for part in row if part) for row in zip(*parts, strict=True)]

"""Bags: patients as sets of instances."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from habitat.errors import CohortError, ConfigError, raise_all

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]

VOLUME, FRACTION, PRESENT = "volume_ml", "fraction", "present"


@dataclass(frozen=True, eq=False)
class Bags:
    """Instances of many patients; a bag holds those of one patient.

    An instance is whatever has a row of features: a habitat (`from_table`), a connected
    component, a supervoxel, a lesion, an image patch with the embedding of a network
    (`from_list`). Their order has no meaning.

    Parameters
    ----------
    X : (n, p) array
        Features of all instances. NaN where a value is missing.
    bag : (n,) array of int
        Bag of each instance, an index into `bag_ids`.
    bag_ids : sequence of str
        A name for each bag.
    instance_names : sequence of str, optional
        A name for each instance, by default its row.
    feature_names : sequence of str, optional
        A name for each column, by default ``x0``, ``x1``...
    weights : (n,) array, optional
        What an instance counts in ``weighted_mean``, such as its volume; positive.

    Raises
    ------
    CohortError
        If a bag is empty, or two bags have one name.
    ConfigError
        If the lengths do not fit.

    Examples
    --------
    >>> from habitat.mil import Bags
    >>> bags = Bags.from_list([[[1.0, 2.0]], [[0.0, 1.0], [3.0, 1.0]]], ids=["a", "b"])
    >>> len(bags), bags.bag.tolist(), bags.take([1]).bag_ids
    (2, [0, 1, 1], ('b',))
    """

    X: _F64
    bag: _Ints
    bag_ids: Sequence[str]
    instance_names: Sequence[str] = ()
    feature_names: Sequence[str] = ()
    weights: _F64 | None = None

    def __post_init__(self) -> None:
        X = np.array(self.X, dtype=np.float64)
        if X.ndim != 2 or not X.shape[1]:
            what = f"must be instances x features, has shape {X.shape}"
            raise ConfigError(what, "`X`", "one row for each instance")
        bag = np.array(self.bag)
        if bag.dtype.kind not in "iu" and bag.size:
            raise ConfigError(f"must be integers, got {bag.dtype}", "`bag`")
        ids = tuple(map(str, self.bag_ids))
        rows, columns = range(X.shape[0]), range(X.shape[1])
        names = tuple(map(str, self.instance_names)) or tuple(map(str, rows))
        features = tuple(map(str, self.feature_names)) or tuple(
            f"x{i}" for i in columns
        )
        weights = None if self.weights is None else np.array(self.weights, np.float64)
        _check_lengths(X, bag, ids, names, features, weights)
        raise_all(_problems(X, bag, ids, features, weights))
        bag = bag.astype(np.intp)
        for array in (X, bag, *(() if weights is None else (weights,))):
            array.setflags(write=False)
        for name, value in (
            ("X", X),
            ("bag", bag),
            ("bag_ids", ids),
            ("instance_names", names),
            ("feature_names", features),
            ("weights", weights),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Number of bags."""
        return len(self.bag_ids)

    def take(self, indices: npt.ArrayLike) -> Bags:
        """Some of the bags, in the order of `indices`; each at most once."""
        wanted = np.arange(len(self))[np.asarray(indices)]
        place = np.full(len(self), -1)
        place[wanted] = np.arange(len(wanted))
        if len(np.unique(wanted)) < len(wanted):
            raise ConfigError("names a bag more than once", "`indices`")
        bag = place[self.bag]
        rows = np.flatnonzero(bag >= 0)
        rows = rows[np.argsort(bag[rows], kind="stable")]
        return Bags(
            self.X[rows],
            bag[rows],
            [self.bag_ids[i] for i in wanted.tolist()],
            [self.instance_names[i] for i in rows.tolist()],
            self.feature_names,
            None if self.weights is None else self.weights[rows],
        )

    @classmethod
    def from_list(
        cls,
        arrays: Iterable[npt.ArrayLike],
        *,
        ids: Sequence[str] | None = None,
        feature_names: Sequence[str] = (),
        weights: Iterable[npt.ArrayLike] | None = None,
    ) -> Bags:
        """Make bags of one array of instances for each bag.

        Parameters
        ----------
        arrays : iterable of (n_i, p) arrays
            Instances of each bag.
        ids : sequence of str, optional
            Name of each bag, by default its place.
        feature_names : sequence of str, optional
            Name of each column.
        weights : iterable of (n_i,) arrays, optional
            What each instance counts.

        Raises
        ------
        CohortError
            If a bag is empty.
        """
        parts = [np.asarray(array, dtype=np.float64) for array in arrays]
        names = [str(i) for i in range(len(parts))] if ids is None else list(ids)
        if len(names) != len(parts):
            what = f"{len(names)} names for {len(parts)} bags"
            raise ConfigError(what, "`ids`", "give one for each bag")
        shapes = {part.shape[1:] for part in parts if len(part)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            what = f"must be (n_i, p) with the same p, rows have {sorted(shapes)}"
            raise ConfigError(what, "`arrays`")
        width = next(iter(shapes))[0]
        return cls(
            np.concatenate([part.reshape(-1, width) for part in parts]),
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            names,
            feature_names=feature_names,
            weights=None
            if weights is None
            else np.concatenate([np.asarray(w, dtype=np.float64) for w in weights]),
        )

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, features: Sequence[str] | None = None
    ) -> Bags:
        """Make bags of the habitats of a wide table (``features_wide.csv``).

        A habitat that a tumor does not have is no instance; nothing is imputed for it.

        Parameters
        ----------
        table : DataFrame
            One row for each case; columns such as ``h1_fraction``, ``h2_HU_mean``.
        features : sequence of str, optional
            Which ones to use, without the habitat (``HU_mean``); by default all numbers
            that every habitat has.

        Raises
        ------
        CohortError
            If a case has no habitat at all.
        ConfigError
            If the table has no habitats, or not the features that were asked for.
        """
        columns = _by_habitat(table)
        common = _common(columns, features)
        ids = table["case_id"] if "case_id" in table else range(len(table))
        values = np.stack(
            [
                table[[columns[h][name] for name in common]].to_numpy(np.float64)
                for h in columns
            ],
            axis=1,
        )
        there = np.stack([_present(table, columns[h]) for h in columns], axis=1)
        bag, habitat = np.nonzero(there)
        volume = [columns[h].get(VOLUME) for h in columns]
        weights = None
        if all(volume):
            weights = table[volume].to_numpy(np.float64)[bag, habitat]
        labels = list(columns)
        names = list(map(str, ids))
        return cls(
            values[bag, habitat],
            bag,
            names,
            [f"{names[b]}:{labels[h]}" for b, h in zip(bag, habitat, strict=True)],
            common,
            weights,
        )


def _check_lengths(
    X: _F64,
    bag: npt.NDArray[Any],
    ids: tuple[str, ...],
    names: tuple[str, ...],
    features: tuple[str, ...],
    weights: _F64 | None,
) -> None:
    n, p = X.shape
    found = [("bag", bag.shape, (n,)), ("instance_names", (len(names),), (n,))]
    found.append(("feature_names", (len(features),), (p,)))
    if weights is not None:
        found.append(("weights", weights.shape, (n,)))
    raise_all(
        [
            ConfigError(f"has shape {shape}, must be {wanted}", f"`{name}`")
            for name, shape, wanted in found
            if shape != wanted
        ]
    )
    if bag.size and not 0 <= bag.min() <= bag.max() < len(ids):
        what = f"holds {bag.min()} to {bag.max()}, there are {len(ids)} bags"
        raise ConfigError(what, "`bag`", "indices into `bag_ids`, from 0")


def _problems(
    X: _F64,
    bag: npt.NDArray[Any],
    ids: tuple[str, ...],
    features: tuple[str, ...],
    weights: _F64 | None,
) -> list[Any]:
    problems: list[Any] = []
    empty = np.flatnonzero(np.bincount(bag.astype(np.intp), minlength=len(ids)) == 0)
    if not ids or empty.size:
        which = ", ".join(ids[i] for i in empty[:10]) or "there is no bag"
        what = f"{empty.size} of {len(ids)} bags are empty: {which}"
        problems.append(CohortError(what, "bags", "leave these cases out"))
    for kind, where, values in (
        (CohortError, "`bag_ids`", ids),
        (ConfigError, "`feature_names`", features),
    ):
        twice = sorted({v for v, n in zip(*_counts(values), strict=True) if n > 1})
        if twice:
            problems.append(kind(f"given twice: {', '.join(twice[:10])}", where))
    if np.isinf(X).any():
        problems.append(ConfigError("holds infinite values", "`X`", "use NaN"))
    if weights is not None and not (np.isfinite(weights) & (weights > 0)).all():
        problems.append(ConfigError("must be finite and positive", "`weights`"))
    return problems


def _counts(values: tuple[str, ...]) -> tuple[list[str], list[int]]:
    names, counts = np.unique(np.array(values, dtype=object), return_counts=True)
    return names.tolist(), counts.tolist()


def _by_habitat(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Columns of each habitat: ``{"h1": {"fraction": "h1_fraction", ...}, ...}``."""
    found: dict[str, dict[str, str]] = {}
    for column in map(str, table.columns):
        match = re.fullmatch(r"(h\d+)_(.+)", column)
        if match and pd.api.types.is_numeric_dtype(table[column]):
            found.setdefault(match[1], {})[match[2]] = column
    if not found:
        what = "has no column that describes a habitat (h1_fraction, h1_HU_mean...)"
        raise ConfigError(what, "`table`", "give a wide table of features")
    return dict(sorted(found.items(), key=lambda item: int(item[0][1:])))


def _common(
    columns: dict[str, dict[str, str]], features: Sequence[str] | None
) -> list[str]:
    """Features that all habitats have, in the order of the table."""
    first, *others = columns.values()
    common = [n for n in first if n != PRESENT and all(n in rest for rest in others)]
    if features is None:
        if not common:
            raise ConfigError("no feature is there for every habitat", "`table`")
        return common
    missing = [name for name in features if name not in common]
    if missing or not features:
        what = f"not there for every habitat: {', '.join(missing) or 'nothing asked'}"
        raise ConfigError(what, "`features`", f"there are {', '.join(common[:10])}...")
    return list(features)


def _present(table: pd.DataFrame, columns: dict[str, str]) -> npt.NDArray[np.bool_]:
    """Whether each case has this habitat."""
    for name in (PRESENT, FRACTION, VOLUME):
        if name in columns:
            present: npt.NDArray[np.bool_] = table[columns[name]].to_numpy(float) > 0
            return present
    return np.asarray(table[list(columns.values())].notna().any(axis=1), dtype=np.bool_)


class Instances(NamedTuple):
    """Instances bag after bag, in an order that follows from their values alone.

    Sums over them are thus the same, to the last bit, in whichever order they came.
    """

    X: _F64  # (n, p)
    start: _Ints  # (n_bags + 1,)
    weights: _F64 | None
    order: _Ints  # row of the Bags that each instance was

    @property
    def bag(self) -> _Ints:
        """Bag of each instance."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def sizes(self) -> _Ints:
        """Number of instances of each bag."""
        return np.diff(self.start)

    def take(self, bags: _Ints) -> Instances:
        """Some of the bags."""
        rows = np.concatenate(
            [np.arange(self.start[i], self.start[i + 1]) for i in bags]
        )
        start = np.concatenate([[0], np.cumsum(self.sizes[bags])])
        weights = None if self.weights is None else self.weights[rows]
        return Instances(self.X[rows], start, weights, self.order[rows])

    def each(self) -> Instances:
        """Bags of one instance each."""
        return self._replace(start=np.arange(len(self.X) + 1))

    def sums(self, values: _F64) -> _F64:
        """Sums over the instances of each bag."""
        result: _F64 = np.add.reduceat(values, self.start[:-1], axis=0)
        return result

    def maxima(self, values: _F64) -> _F64:
        """Maxima over the instances of each bag."""
        result: _F64 = np.maximum.reduceat(values, self.start[:-1], axis=0)
        return result


def arranged(bags: Bags, columns: Sequence[int]) -> Instances:
    """Bring bags into canonical order, with some of their columns in that order."""
    X = bags.X[:, columns] + 0.0  # no negative zeros
    given = X if bags.weights is None else np.column_stack([X, bags.weights])
    rows = np.ascontiguousarray(given)
    by_value = np.argsort(rows.view(f"V{rows.dtype.itemsize * rows.shape[1]}")[:, 0])
    order = by_value[np.argsort(bags.bag[by_value], kind="stable")]
    start = np.concatenate([[0], np.cumsum(np.bincount(bags.bag))])
    weights = None if bags.weights is None else bags.weights[order]
    return Instances(X[order], start, weights, order)

"""What runs in each fold: the model, simple models beside it, and its controls."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import pandas as pd

from habitat._check import one_of
from habitat.classifiers import HabitatClassifier
from habitat.errors import ConfigError
from habitat.evaluation._folds import Fold, Indices
from habitat.mil import Bags, MILClassifier
from habitat.selection import VOLUME, block, features_of, suv_max

Model: TypeAlias = "HabitatClassifier | MILClassifier"
Data: TypeAlias = "pd.DataFrame | Bags"

MODEL = "habitats"
VOLUME_ONLY, SUV_ONLY, CLINICAL, TUMOR = (
    "volume only",
    "SUVmax only",
    "clinical only",
    "whole tumor",
)
SURROGATE, PERMUTED, OUTCOME = (
    "surrogate habitats",
    "permuted habitats",
    "permuted outcome",
)
BASELINES = (VOLUME_ONLY, SUV_ONLY, CLINICAL, TUMOR)
CONTROLS = (SURROGATE, PERMUTED, OUTCOME)
BESIDE = (*BASELINES, *CONTROLS)


_WITHOUT = dict.fromkeys(BASELINES, "the table has no such column.")
_WITHOUT[PERMUTED] = "no column describes habitats."
_WITHOUT[SURROGATE] = (
    "need images; evaluate cases instead of a table of features. Without them it is "
    "not known whether any division of the tumor would do as well."
)


class Source(Protocol):
    """Where the folds get their features."""

    def fold(self, i: int) -> Data:
        """Features of all cases, whatever is learned for them on fold `i` only."""
        ...

    def surrogate(self, i: int, draw: int) -> pd.DataFrame:
        """The same with habitats that know nothing of the images."""
        ...


class Arm(NamedTuple):
    """One model that runs in every fold."""

    name: str
    model: Model
    data: Callable[[int, Fold, int], Data]  # of all cases, by fold and draw
    draws: int = 1
    outcome: bool = True  # False: learns on an outcome that was permuted

    def __str__(self) -> str:
        return self.name


def make_arms(
    model: Model,
    source: Source,
    table: pd.DataFrame | None,
    beside: Sequence[str],
    draws: int,
    random_state: int,
) -> tuple[list[Arm], list[str]]:
    """Everything that can run, and why the rest cannot.

    Parameters
    ----------
    model : HabitatClassifier or MILClassifier
        What is evaluated.
    source : Source
        Features for each fold.
    table : DataFrame, optional
        Volume, SUV, clinical and whole-tumor columns where `source` has bags.
    beside : sequence of str
        Names out of `BESIDE`.
    draws : int
        Surrogate habitats for each fold; 0 if there are no images.
    random_state : int
        Seed of the permutations.
    """
    wanted = [one_of("beside", name, BESIDE) for name in beside]

    def plain(i: int) -> Any:
        return source.fold(i) if table is None else table

    first = plain(0)
    columns = features_of(first) if isinstance(first, pd.DataFrame) else []
    as_given = _form_of(model)

    def permuted(i: int, fold: Fold, _: int) -> Data:
        rng = _rng(random_state, PERMUTED, fold)
        return as_given(permute_habitats(source.fold(i), fold, rng))

    def surrogate(i: int, _: Fold, draw: int) -> Data:
        return as_given(source.surrogate(i, draw))

    own = Arm(MODEL, model, lambda i, _f, _d: as_given(source.fold(i)))
    arms: dict[str, Arm] = {OUTCOME: own._replace(name=OUTCOME, outcome=False)}
    if _has_habitats(source.fold(0)):
        arms[PERMUTED] = Arm(PERMUTED, model, permuted)
    if draws:
        arms[SURROGATE] = Arm(SURROGATE, model, surrogate, draws)
    for name in BASELINES:
        used = _columns(name, columns)
        if used:
            kind = _whole(model) if name == TUMOR else _simple(len(used))
            arms[name] = Arm(name, kind, _some_of(plain, used))
    notes = [f"{name}: {_WITHOUT[name]}" for name in wanted if name not in arms]
    return [own, *(arms[name] for name in wanted if name in arms)], notes


def _some_of(
    plain: Callable[[int], Any], columns: list[str]
) -> Callable[[int, Fold, int], Data]:
    return lambda i, _fold, _draw: plain(i)[columns]


def shuffled(y: Indices, fold: Fold, random_state: int) -> Indices:
    """The outcome, permuted within training and within test cases."""
    rng = _rng(random_state, OUTCOME, fold)
    out = y.copy()
    for part in (fold.train, fold.test):
        out[part] = rng.permutation(y[part])
    return out


def permute_habitats(data: Data, fold: Fold, rng: np.random.Generator) -> Data:
    """Give each case the habitats of another one of the same part of the fold."""
    n = len(data)
    order = np.arange(n)
    for part in (fold.train, fold.test):
        order[part] = rng.permutation(part)
    if isinstance(data, Bags):
        return data.take(order)
    names = [c for c in data.columns if block(str(c)) == "habitats"]
    out = data.copy()
    out[names] = data[names].iloc[order].to_numpy()
    return out


def take(data: Data, rows: Indices) -> Data:
    """Some of the cases."""
    return data.take(rows) if isinstance(data, Bags) else data.iloc[rows]


def _form_of(model: Model) -> Callable[[Data], Data]:
    """Bring features to the form that the model takes."""
    if isinstance(model, HabitatClassifier):
        return lambda data: data
    return lambda data: data if isinstance(data, Bags) else Bags.from_table(data)


def _has_habitats(data: Data) -> bool:
    if isinstance(data, Bags):
        return True
    return any(block(str(c)) == "habitats" for c in data.columns)


def _columns(name: str, columns: Sequence[str]) -> list[str]:
    if name == VOLUME_ONLY:
        return [c for c in columns if c == VOLUME]
    if name == SUV_ONLY:
        largest = suv_max(columns)
        return [largest] if largest else []
    kind = {CLINICAL: "clinical", TUMOR: "tumor"}[name]
    return [c for c in columns if block(c) == kind]


def _simple(n: int) -> HabitatClassifier:
    """Logistic regression on a few columns."""
    if n == 1:
        return HabitatClassifier(n_features=None, max_correlation=None, l1_ratio=None)
    return HabitatClassifier()


def _whole(model: Model) -> HabitatClassifier:
    """The same pipeline for the tumor as a whole; the default one for bags."""
    return model if isinstance(model, HabitatClassifier) else HabitatClassifier()


def check_model(model: Any) -> Model:
    """Raise ConfigError unless it is one of ours."""
    if isinstance(model, (HabitatClassifier, MILClassifier)):
        return model
    what = f"must be HabitatClassifier or MILClassifier, got {type(model).__name__}"
    fix = "wrap an estimator of scikit-learn: HabitatClassifier(model=estimator)"
    raise ConfigError(what, "`model`", fix)


def _rng(random_state: int, name: str, fold: Fold) -> np.random.Generator:
    key = [random_state, zlib.crc32(name.encode()), fold.repeat, fold.number]
    return np.random.default_rng(key)

"""Arguments of HabitatClassifier, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d, validate_data

from habitat._check import at_least, collector, integer, one_of
from habitat.classifiers._models import NAMES
from habitat.classifiers._steps import Options
from habitat.errors import (
    CohortError,
    ConfigError,
    HabitatError,
    InputError,
    ModelError,
    raise_all,
)
from habitat.selection import VOLUME, block, encoded, features_of, with_columns
from habitat.selection._blocks import numbers_of

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]


MIN_ICC = 0.75  # Koo and Li, J Chiropr Med 2016;15:155: "good" from here


def check_options(model: Any) -> None:
    """Raise all that is wrong with the arguments of a classifier at once."""
    problems: list[HabitatError] = []
    check = collector(problems)
    if isinstance(model.model, str):
        check(one_of, "model", model.model, NAMES)
    elif not hasattr(model.model, "predict_proba"):
        what = f"must be a name or have predict_proba, got {model.model!r}"
        problems.append(ConfigError(what, "`model`", f"names are {', '.join(NAMES)}"))
    if isinstance(model.n_features, str):
        check(one_of, "n_features", model.n_features, ["auto"])
    elif model.n_features is not None:
        check(integer, "n_features", model.n_features, 1, 10**9)
    for name in ("max_correlation", "l1_ratio", "drop_volume_proxies", "min_icc"):
        if getattr(model, name) is not None:
            check(_share, name, getattr(model, name))
    if model.harmonize is not None:
        check(one_of, "harmonize", model.harmonize, ["combat"])
    if not isinstance(model.class_weight, dict) and model.class_weight is not None:
        check(one_of, "class_weight", model.class_weight, ["balanced"])
    if model.precision is None and model.min_icc != MIN_ICC:
        what = "has no effect without `precision`"
        problems.append(ConfigError(what, "`min_icc`", "give the ICC of the features"))
    check(integer, "inner", model.inner, 2, 1000)
    check(integer, "random_state", model.random_state, 0, 2**32 - 1)
    raise_all(problems)


def _share(name: str, value: Any) -> None:
    if at_least(name, value, 0.0) > 1.0:
        raise ConfigError(f"must be 0 to 1, got {value!r}", f"`{name}`")


def checked_outcome(y: Any, n: int) -> tuple[npt.NDArray[Any], _Ints]:
    """Sorted classes and the class of each row."""
    try:
        values = column_or_1d(y, warn=True)
    except ValueError as error:
        raise InputError(str(error), "`y`") from error
    if values.shape != (n,):
        what = f"must have one class for each of the {n} rows, has shape {values.shape}"
        raise InputError(what, "`y`")
    missing = pd.isna(values)
    if missing.any():
        what = f"{int(missing.sum())} of {n} rows have no class"
        where = f"the first is row {int(np.flatnonzero(missing)[0])}"
        raise CohortError(f"{what}, {where}", "`y`", "leave these cases out")
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise CohortError("Input contains infinity", "`y`", "leave these cases out")
    try:
        check_classification_targets(values)
    except ValueError as error:
        fix = "cut numbers into classes"
        raise CohortError(f"Unknown label type: {error}", "`y`", fix) from error
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        what = f"needs two classes or more, found one class: {classes.tolist()[0]!r}"
        raise CohortError(what, "`y`")
    return classes, codes


def fit_values(model: Any, X: Any) -> tuple[_F64, tuple[str, ...]]:
    """Features of training rows (n, p) and their names; kept in the classifier."""
    if isinstance(X, pd.DataFrame):
        twice = sorted(set(map(str, X.columns[X.columns.duplicated()])))
        if twice:
            raise InputError(f"columns that are there twice: {', '.join(twice)}", "`X`")
        table = encoded(X.rename(columns=str))
        names = features_of(table)
        if not names:
            what = f"none of the {X.shape[1]} columns is a feature of numbers"
            raise InputError(what, "`X`", "give the wide table of features")
        values = table[names].to_numpy(dtype=np.float64)
        model.feature_names_in_ = np.array(names, dtype=object)
        model.n_features_in_ = len(names)
        _check_infinite(values, names)
    else:
        how = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
        values = validate_data(model, X, **how, ensure_min_samples=2)
        names = [f"x{i}" for i in range(values.shape[1])]
    return values, tuple(names)


def _check_infinite(values: _F64, names: list[str]) -> None:
    bad = [names[i] for i in np.flatnonzero(np.isinf(values).any(axis=0))]
    if bad:
        what = f"infinite values in {len(bad)} columns: {', '.join(bad[:5])}"
        raise InputError(what, "`X`", "set them to NaN: no value")


def values_of(model: Any, X: Any) -> _F64:
    """The selected features of rows to predict, (n, selected)."""
    if not isinstance(X, pd.DataFrame):
        how = {"dtype": np.float64, "ensure_all_finite": "allow-nan", "reset": False}
        values: _F64 = validate_data(model, X, **how)
        return values[:, model._learned.steps.kept]
    wanted = list(model.selected_)
    table = with_columns(X.rename(columns=str), wanted)
    missing = [name for name in wanted if name not in table]
    if missing:
        what = f"{len(missing)} features of the model are missing: "
        what += ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        fix = "extract with the same families, channels and habitats as in training"
        raise ModelError(what, "`X`", fix)
    twice = [name for name in wanted if isinstance(table[name], pd.DataFrame)]
    if twice:
        raise InputError(f"columns that are there twice: {', '.join(twice)}", "`X`")
    table = pd.DataFrame({n: numbers_of(table[n]) for n in wanted}, index=table.index)
    texts = [n for n in wanted if not pd.api.types.is_numeric_dtype(table[n])]
    texts = [name for name in texts if table[name].notna().any()]
    if texts:
        raise InputError(f"columns that hold no numbers: {', '.join(texts)}", "`X`")
    values = table.to_numpy(dtype=np.float64, na_value=np.nan)
    _check_infinite(values, wanted)
    return values


def sites_of(X: Any, sites: Any, n: int) -> npt.NDArray[Any]:
    """Sites of rows as texts."""
    if sites is None and isinstance(X, pd.DataFrame) and "site" in X:
        sites = X["site"]
    if sites is None:
        what = "are needed for harmonize='combat'"
        raise ConfigError(what, "`sites`", "give them or a column `site`")
    given = np.asarray(sites, dtype=object)
    missing = pd.isna(given)
    if given.shape != (n,) or missing.any():
        what = f"{int(missing.sum())} of {n} rows have no site"
        if given.shape != (n,):
            what = f"must hold the site of each of the {n} rows, has {given.shape}"
        raise CohortError(what, "`sites`", "name the site of each case")
    return given.astype(np.str_)


def options_of(
    model: Any, names: tuple[str, ...], smallest: int
) -> tuple[Options, tuple[str, ...]]:
    """Settings of the steps, and what is to be said of them."""
    n_features = model.n_features
    if n_features == "auto":
        n_features = max(1, smallest // 10)
    volume = None
    if model.drop_volume_proxies is not None:
        if VOLUME not in names:
            what = f"needs the column {VOLUME}"
            raise ConfigError(what, "`drop_volume_proxies`", "extract the volume")
        volume = names.index(VOLUME)
    reliable = None
    notes: tuple[str, ...] = ()
    if model.precision is not None:
        good = reliable_names(model.precision, model.min_icc)
        if not good.intersection(names):
            what = f"none of its {len(good)} reliable features is in the table"
            raise ConfigError(what, "`precision`", "give that of these features")
        reliable = np.array([n in good or block(n) == "clinical" for n in names])
        dropped = len(names) - int(reliable.sum())
        notes = (f"{dropped} of {len(names)} features are left out: not reliable",)
    options = Options(
        n_features,
        model.max_correlation,
        model.drop_volume_proxies,
        reliable,
        volume,
        model.harmonize is not None,
    )
    return options, notes


def reliable_names(precision: Any, min_icc: float) -> frozenset[str]:
    """Names of the features that may be used."""
    if hasattr(precision, "repeatable"):
        return frozenset(precision.repeatable(min_icc))
    if isinstance(precision, pd.DataFrame):
        missing = {"feature", "a1_low"}.difference(precision.columns)
        if missing:
            what = f"has no column {', '.join(sorted(missing))}"
            raise ConfigError(what, "`precision`", "give names, or feature and a1_low")
        good = (precision["a1_low"] >= min_icc).groupby(precision["feature"]).all()
        return frozenset(map(str, good.index[good]))
    return frozenset(map(str, precision))

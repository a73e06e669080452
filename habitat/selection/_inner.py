"""Inner cross-validation: folds, the threshold and the calibration they give."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from habitat.errors import CohortError
from habitat.selection._linear import softmax

_F64 = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.intp]
Folds: TypeAlias = "list[tuple[_Ints, _Ints]]"

FEW = 10  # patients of a class: with fewer no number is reliable
LEAST = 1e-6  # a probability below counts as this when it is shifted


def smallest_class(codes: _Ints, groups: Any = None) -> int:
    """Number of patients (of rows, without groups) in the smallest class."""
    if groups is None:
        return int(np.bincount(codes).min())
    each = (np.unique(np.asarray(groups)[codes == c]).size for c in np.unique(codes))
    return min(each)


def inner_folds(
    codes: _Ints, groups: Any = None, n: int = 5, seed: int = 0
) -> tuple[Folds, tuple[str, ...]]:
    """Stratified folds; all rows of a group are in one of them.

    Parameters
    ----------
    codes : (n_rows,) array of int
        Classes, 0 to C - 1.
    groups : (n_rows,) array, optional
        The patient of each row.
    n : int
        Folds; not more than patients in the smallest class are made.
    seed : int

    Returns
    -------
    folds : list of (train, test)
        Rows; every training part holds all classes.
    notes : tuple of str
        Says if there are fewer folds than asked for.

    Raises
    ------
    CohortError
        If a class has fewer than two patients, or these cannot be divided.
    """
    y = np.asarray(codes)
    least = smallest_class(y, groups)
    who = "cases" if groups is None else "patients"
    if least < 2:
        what = f"the smallest class has {least} {who}, at least 2 are needed"
        raise CohortError(what, "`y`", "merge classes or add cases")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    for k in range(min(n, least), 1, -1):
        folds = list(kind(k, shuffle=True, random_state=seed).split(y, y, groups))
        if all(np.unique(y[train]).size == y.max() + 1 for train, _ in folds):
            note = f"{k} inner folds, not {n}: the smallest class has {least} {who}"
            return folds, () if k == n else (note,)
    what = "groups cannot be divided so that every part holds all classes"
    raise CohortError(what, "`groups`", "merge classes or add cases")


def youden(y: npt.ArrayLike, p: _F64) -> float:
    """Threshold with the largest sensitivity + specificity: positive is ``p >= it``.

    It lies midway between two scores; of equally good ones it is the nearest to the
    share of positives.

    Examples
    --------
    >>> import numpy as np
    >>> round(youden([0, 0, 1, 1], np.array([0.1, 0.3, 0.5, 0.8])), 12)
    0.4
    """
    positive = np.asarray(y).astype(bool)
    values, index = np.unique(p, return_inverse=True)
    n1 = np.bincount(index, positive, len(values)).cumsum()
    n0 = np.bincount(index, ~positive, len(values)).cumsum()
    gain = np.append(0.0, (n0 / n0[-1] - n1 / n1[-1])[:-1])  # first: all are positive
    # not their mean, which may round to the lower one
    between = values[:-1] + (values[1:] - values[:-1]) / 2.0
    between = np.where(between > values[:-1], between, values[1:])
    best = np.append(values[0], between)[gain >= gain.max() - 1e-12]
    return float(best[np.abs(best - positive.mean()).argmin()])


def offsets(p: _F64, codes: _Ints) -> _F64:
    """What to add to class logits so that mean probabilities equal the class shares.

    Parameters
    ----------
    p : (n, C) array
        Probabilities of cases that the model has not seen.
    codes : (n,) array of int
        Their classes.

    Returns
    -------
    (C,) array
        0 for the first class.
    """
    share = np.bincount(codes, minlength=p.shape[1]) / len(codes)
    found = np.zeros(p.shape[1])
    for _ in range(1000):
        step = np.log(share / shifted(p, found).mean(axis=0))
        found += step
        if np.abs(step).max() < 1e-12:
            break
    result: _F64 = found - found[0]
    return result


def shifted(p: _F64, offset: _F64) -> _F64:
    """Probabilities with `offsets` added to their logits."""
    return softmax(np.log(np.maximum(p, LEAST)) + offset)

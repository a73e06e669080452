"""Which patients a model is learned on and which it is tested on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from habitat._check import integer, warn
from habitat.errors import CohortError, ConfigError

Indices: TypeAlias = npt.NDArray[np.intp]
Texts: TypeAlias = npt.NDArray[Any]

LEAVE_ONE_SITE_OUT, SPLIT = "leave-one-site-out", "split"


class Fold(NamedTuple):
    """One division of the cases."""

    repeat: int
    number: int
    train: Indices
    test: Indices
    name: str = ""  # of the site or of the test set


class Plan(NamedTuple):
    """All divisions, and what a reader must know about them."""

    folds: list[Fold]
    kind: str  # "cross-validation", "leave-one-site-out", "split" or "given"
    notes: list[str]

    @property
    def repeats(self) -> int:
        """How often every case is tested."""
        return 1 + max(fold.repeat for fold in self.folds)


def make_plan(
    cv: Any,
    y: Indices,
    *,
    groups: Texts | None,
    sites: Texts | None,
    split: Texts | None,
    random_state: int,
) -> Plan:
    """Divide the cases as `cv` says; see `evaluate`."""
    if isinstance(cv, str):
        if cv == LEAVE_ONE_SITE_OUT:
            plan = _by_site(sites)
        elif cv == SPLIT:
            plan = _by_split(split)
        else:
            what = "must be (folds, repeats), a list of (train, test), "
            what += f"{LEAVE_ONE_SITE_OUT!r} or {SPLIT!r}, got {cv!r}"
            raise ConfigError(what, "`cv`")
    elif numbers := _two_numbers(cv):
        folds, repeats = numbers
        plan = _repeated(y, groups, folds, repeats, random_state)
    else:
        plan = _given(cv, len(y))
    _check(plan, y, groups)
    return plan


def _two_numbers(cv: Any) -> tuple[Any, Any] | None:
    if isinstance(cv, Sequence) and len(cv) == 2 and all(map(np.isscalar, cv)):
        return cv[0], cv[1]
    return None


def _repeated(
    y: Indices, groups: Texts | None, n: int, repeats: int, random_state: int
) -> Plan:
    """Stratified folds, no patient in two; fewer where classes are small."""
    n = integer("cv[0]", n, 2, 1000)
    repeats = integer("cv[1]", repeats, 1, 10_000)
    patients = np.arange(len(y)) if groups is None else groups
    smallest = min(len(np.unique(patients[y == c])) for c in np.unique(y))
    notes = []
    if smallest < 2:
        what = "has one patient only, so that no fold can hold another"
        raise CohortError(f"a class {what}", "`y`", "merge classes or add patients")
    if n > smallest:
        text = f"{smallest} folds, not {n}: the smallest class has that many patients"
        notes.append(warn(text))
        n = smallest
    made = []
    for repeat in range(repeats):
        seed = int(np.random.SeedSequence([random_state, repeat]).generate_state(1)[0])
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        cut = kind(n, shuffle=True, random_state=seed).split(y, y, groups)
        made += [Fold(repeat, i, a, b) for i, (a, b) in enumerate(cut)]
    return Plan(made, "cross-validation", notes)


def _by_site(sites: Texts | None) -> Plan:
    if sites is None or len(set(sites)) < 2:
        n = 0 if sites is None else len(set(sites))
        what = f"{LEAVE_ONE_SITE_OUT!r} needs at least 2 sites, found {n}"
        raise CohortError(what, "`cv`", "give `sites` or a column `site`")
    every = np.arange(len(sites))
    folds = [
        Fold(0, i, every[sites != site], every[sites == site], str(site))
        for i, site in enumerate(sorted(set(sites)))
    ]
    return Plan(folds, LEAVE_ONE_SITE_OUT, [])


def _by_split(split: Texts | None) -> Plan:
    names = [] if split is None else sorted(set(split) - {"train"})
    if split is None or not names or "train" not in set(split):
        found = "none" if split is None else ", ".join(sorted(set(split)))
        what = f"needs cases of split 'train' and of another split, found {found}"
        raise CohortError(what, "`cv`", "fill the column `split`")
    every = np.arange(len(split))
    train = every[split == "train"]
    folds = [Fold(0, i, train, every[split == n], n) for i, n in enumerate(names)]
    return Plan(folds, SPLIT, [])


def _given(cv: Iterable[tuple[Any, Any]], n: int) -> Plan:
    """Divisions of one's own; a repeat ends when a case is tested again."""
    folds: list[Fold] = []
    repeat, number, seen = 0, 0, np.zeros(n, bool)
    for train, test in cv:
        a, b = np.asarray(train), np.asarray(test)
        for part in (a, b):
            whole = part.ndim == 1 and part.size and part.dtype.kind in "iu"
            if not whole or part.min() < 0 or part.max() >= n:
                what = f"must hold pairs of indices of cases from 0 to {n - 1}"
                raise ConfigError(what, "`cv`", "give (train, test) arrays of integers")
        if seen[b].any():
            repeat, number, seen[:] = repeat + 1, 0, False
        folds.append(Fold(repeat, number, a, b))
        number, seen[b] = number + 1, True
    if not folds:
        raise ConfigError("must not be empty", "`cv`")
    return Plan(folds, "given", [])


def _check(plan: Plan, y: Indices, groups: Texts | None) -> None:
    """No patient on both sides, and every class in every training part."""
    classes = set(y)
    for fold in plan.folds:
        name = fold.name or f"fold {fold.number} of repeat {fold.repeat}"
        parts = (fold.train, fold.test)
        a, b = (set(p if groups is None else groups[p]) for p in parts)
        both = sorted(map(str, a & b))
        if both:
            what = f"{len(both)} patients stand in training and test, first {both[0]}"
            raise CohortError(what, f"`cv`, {name}", "keep all cases of one together")
        if set(y[fold.train]) != classes:
            what = "the training part lacks a class"
            raise CohortError(
                what, f"`cv`, {name}", "divide otherwise or merge classes"
            )

"""Learning habitats over cases: one case after the other, never all voxels at once."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import warn
from habitat.case import Case
from habitat.choice import CASE_ROWS, KChoice, choose_rows
from habitat.clustering import (
    Clustering,
    GMMOptions,
    KMeansOptions,
    Mixture,
    Moments,
    Nearest,
    SupervoxelOptions,
    Thresholds,
    best_shift,
    better_rule,
    canonical_order,
    evenly,
    independent_rows,
    shifted,
    step_of,
    sums_of,
)
from habitat.errors import CohortError, ConfigError, HabitatError, raise_all
from habitat.fitting import (
    FWHM_MM,
    Definition,
    Settings,
    choice_json,
    cluster,
    display_names,
    order_of,
    rows_of,
    settings_scaling,
)
from habitat.geometry import Floats
from habitat.tumor import MIN_VOXELS, open_case, prepare
from habitat.voxels import Transform

SAMPLE = CASE_ROWS  # voxels of a case in the sample that scales and starts the fit
_PATIENTS = 4  # at least, to choose k
_TOL = 1e-8  # of K-means centers, in scaled units


@dataclass(frozen=True, eq=False)
class Learned:
    """What `HabitatModel.fit` sets, each name with an underscore behind it."""

    k: int
    channels: tuple[str, ...]
    units: tuple[str | None, ...]
    centers: Floats
    medians: Floats
    sds: Floats
    definition: Definition
    n_cases: int
    n_iter: int
    converged: bool
    objective: float
    choice: dict[str, Any] | None  # of k="auto": everything that was weighed


@dataclass(frozen=True, eq=False)
class Stored:
    """Voxels of one case, waiting in a file."""

    path: Path
    given: tuple[str, ...]  # names of the channels in the case
    names: tuple[str, ...]  # and in a result
    units: tuple[str | None, ...]
    modalities: tuple[str | None, ...]
    display: list[str]
    sample: Floats  # (SAMPLE, channels)
    group: str
    n_eff: float  # independent voxels

    def voxels(self) -> _Voxels:
        """Read them."""
        with np.load(self.path) as file:
            return _Voxels(file["X"], file["index"], tuple(file["spacing"]))


@dataclass(frozen=True, eq=False)
class _Voxels:
    """The part of a `Tumor` that is clustered."""

    X: Floats
    index: npt.NDArray[np.intp]
    spacing: tuple[float, ...]


def store_all(cases: list[Case], settings: Settings, folder: Path) -> list[Stored]:
    """Read every case and keep its voxels in a file; all problems at once."""
    stored, problems = [], []
    for i, case in enumerate(cases):
        try:
            stored.append(_store(case, settings, folder / f"{i}.npz"))
        except HabitatError as error:
            problems.append(CohortError(str(error), f"case {case.case_id}"))
    kinds = {(s.given, s.names, s.units) for s in stored}
    if len(kinds) > 1:
        what = "have different channels or units: " + "; ".join(sorted(map(str, kinds)))
        problems.append(CohortError(what, "`cases`"))
    repeated = [c for c, n in Counter(case.case_id for case in cases).items() if n > 1]
    if repeated:
        what = f"names must differ, {', '.join(repeated[:5])} occur more than once"
        problems.append(CohortError(what, "`cases`"))
    raise_all(problems)
    return stored


def _store(case: Case, settings: Settings, path: Path) -> Stored:
    inputs, names = open_case(case.images, case.mask, case.label)
    tumor = prepare(inputs, names, settings.grid, settings.rim_mm, 0)
    own = np.flatnonzero(tumor.fitted)
    own = own[canonical_order(tumor.X[own])]
    X, spacing = tumor.X[own], np.array(tumor.spacing)
    if len(X) < MIN_VOXELS:
        warn(
            f"case {case.case_id} has {len(X)} voxels and weighs as much as the others"
        )
    np.savez(path, X=X, index=tumor.index[own], spacing=spacing)
    return Stored(
        path,
        tuple(names),
        tuple(names.values()),
        tuple(tumor.units),
        tuple(tumor.modalities),
        display_names(tumor),
        X[evenly(len(X), SAMPLE)],
        case.group or case.case_id,
        independent_rows(len(X), len(X) * math.prod(tumor.spacing), FWHM_MM),
    )


def learn(stored: list[Stored], settings: Settings) -> Learned:
    """Learn scaling, number, rule and order of habitats from stored cases."""
    sample, groups = _pooled(stored)
    names, units = stored[0].names, stored[0].units
    scaling = settings_scaling(settings, sample, stored[0].modalities)
    rows, weights = scaling(sample), None
    if isinstance(settings.method, SupervoxelOptions):
        rows, weights = _supervoxels(stored, scaling, settings)
    choice = None
    if settings.k == "auto":
        choice = _choose(scaling(sample), groups, stored, settings)
    k = int(settings.k) if choice is None else choice.k
    found = cluster(rows, k, settings, stored[0].given, weights)
    if weights is None:
        found = _refined(found, stored, scaling, settings)
    if found.rule is None:
        what = "must return a Clustering with a rule, to segment other cases"
        raise ConfigError(what, "`method`")
    if not found.converged:
        warn("the fit did not converge: raise max_iter in its options")
    centers = _exact_mean(
        [_case_centers(s, scaling, found.rule, settings) for s in stored]
    )
    share = np.where(centers[:, -1:] > 0, centers[:, -1:], np.nan)
    centers = centers[:, :-1] / share
    order = order_of(centers, settings)
    medians = np.median(sample, axis=0)
    terms = _terms(centers[order], medians, stored[0].display)
    if isinstance(found.rule, Thresholds):
        terms = found.rule.terms(stored[0].display)
    return Learned(
        k=len(centers),
        channels=names,
        units=units,
        centers=centers[order],
        medians=medians,
        sds=sample.std(axis=0),
        definition=Definition(
            scaling,
            found.rule.take(order),
            settings.smoothness,
            settings.method if weights is not None else None,
            settings.patient_shift,
            terms,
        ),
        n_cases=len(stored),
        n_iter=found.n_iter,
        converged=found.converged,
        objective=found.objective,
        choice=None if choice is None else choice_json(choice),
    )


def _choose(
    rows: Floats,
    groups: npt.NDArray[np.intp],
    stored: list[Stored],
    settings: Settings,
) -> KChoice:
    """Choose k on the sample; prediction strength is between halves of the patients."""
    patients = int(groups.max()) + 1
    if patients < _PATIENTS:
        what = (
            f"'auto' compares halves of at least {_PATIENTS} patients, got {patients}"
        )
        raise ConfigError(what, "`k`", "give a number")
    n_eff = math.fsum(s.n_eff for s in stored)
    seed = settings.random_state
    choice = choose_rows(rows, groups=groups, n_eff=n_eff, random_state=seed)
    if choice.k == 1:
        warn(f"k='auto' found one habitat: {choice.notes[0]}")
    return choice


def _pooled(stored: list[Stored]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Sample of all cases, in canonical order, and the number of each row's group."""
    sample = np.concatenate([s.sample for s in stored])
    number = np.unique([s.group for s in stored], return_inverse=True)[1]
    keyed = np.column_stack([sample, np.repeat(number, SAMPLE)])
    keyed = keyed[canonical_order(keyed)]
    return keyed[:, :-1].copy(), keyed[:, -1].astype(np.intp)


def _supervoxels(
    stored: list[Stored], scaling: Transform, settings: Settings
) -> tuple[Floats, Floats]:
    """Supervoxels of all cases, and weights that add to 1 in each case."""
    found = [rows_of(s.voxels(), scaling, settings)[0] for s in stored]
    keyed = np.concatenate(
        [np.column_stack([rows, np.full(len(rows), 1 / len(rows))]) for rows in found]
    )
    keyed = keyed[canonical_order(keyed)]
    return keyed[:, :-1].copy(), keyed[:, -1].copy()


def _refined(
    found: Clustering, stored: list[Stored], scaling: Transform, settings: Settings
) -> Clustering:
    """Go on from the fit to the sample with all voxels of all cases.

    With a shift for each patient, it is moved in each iteration to where the rule
    fits best; the shifts have mean 0.
    """
    options = settings.method
    if not isinstance(options, KMeansOptions | GMMOptions):
        return found
    rule: Any = found.rule
    shifts = np.zeros((len(stored), len(scaling(stored[0].sample[:1])[0])))
    objective, n_iter, converged = -math.inf, 0, False
    while not converged and n_iter < options.max_iter:
        parts = [
            sums_of(scaling(s.voxels().X) - shift, rule)
            for s, shift in zip(stored, shifts, strict=True)
        ]
        if settings.patient_shift:
            steps = np.array([step_of(part, rule) for part in parts])
            parts = [
                shifted(part, step) for part, step in zip(parts, steps, strict=True)
            ]
            shifts += steps
        total = Moments(
            _exact_mean([part.count for part in parts]),
            _exact_mean([part.shift for part in parts]),
            _exact_mean([part.square for part in parts]),
            math.fsum(part.log_likelihood for part in parts) / len(parts),
        )
        new, old = better_rule(rule, total, options), objective
        objective = total.log_likelihood
        if isinstance(options, GMMOptions):
            converged = abs(objective - old) < options.tol
        else:
            converged = np.abs(_centers(new) - _centers(rule)).max() < _TOL
        rule, n_iter = new, n_iter + 1
        if settings.patient_shift:
            rule, shifts = _centered(rule, shifts)
    if isinstance(rule, Nearest):
        objective = -objective  # see `sums_of`
    done = bool(converged)
    return Clustering(found.labels, _centers(rule), objective, n_iter, done, rule)


def _centers(rule: Any) -> Floats:
    return np.asarray(rule.means if isinstance(rule, Mixture) else rule.centers)


def _centered(rule: Any, shifts: Floats) -> tuple[Any, Floats]:
    """Move what all shifts have in common into the rule."""
    common = _exact_mean(list(shifts))
    name = "means" if isinstance(rule, Mixture) else "centers"
    return replace(rule, **{name: _centers(rule) + common}), shifts - common


def _case_centers(
    stored: Stored, scaling: Transform, rule: Any, settings: Settings
) -> Floats:
    voxels = stored.voxels()
    rows, parts = rows_of(voxels, scaling, settings)
    if settings.patient_shift:
        rows = rows - best_shift(np.asarray(rows), rule)
    labels = rule.labels(rows)
    return _sums(voxels.X, labels if parts is None else labels[parts], rule.k)


def _sums(X: Floats, labels: npt.NDArray[Any], k: int) -> Floats:
    """Sums of the rows of each label, then their number; divided by all rows."""
    columns = [*X.T, np.ones(len(X))]
    sums = [np.bincount(labels, weights=column, minlength=k) for column in columns]
    return np.stack(sums, axis=1) / len(X)


def _exact_mean(parts: list[Floats]) -> Floats:
    """Mean of arrays, rounded once: no order of the cases can change a bit."""
    flat = [np.ravel(part).tolist() for part in parts]
    total = [math.fsum(values) for values in zip(*flat, strict=True)]
    return np.reshape(total, np.shape(parts[0])) / len(parts)


def _terms(centers: Floats, medians: Floats, display: list[str]) -> tuple[str, ...]:
    """PETlow-CThigh and so on, against the cohort's medians; nothing if not unique."""
    words = [
        "-".join(
            f"{name}{'high' if value > median else 'low'}"
            for name, value, median in zip(display, center, medians, strict=True)
        )
        for center in centers
    ]
    used = Counter(
        word
        for word, center in zip(words, centers, strict=True)
        if not np.isnan(center).any()
    )
    return tuple(word if used[word] == 1 else "" for word in words)

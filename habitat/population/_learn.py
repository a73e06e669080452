"""Learning habitats over cases: one case after the other, never all voxels at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

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
_SAMPLES = 200_000  # at most of all cases together,
_LEAST = 20  # but at least these of each
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
class Facts:
    """What is known of a case without its voxels."""

    given: tuple[str, ...]  # names of the channels in the case
    names: tuple[str, ...]  # and in a result
    units: tuple[str | None, ...]
    modalities: tuple[str | None, ...]
    display: list[str]
    sample: Floats  # (rows, channels)
    group: str
    n_eff: float  # independent voxels
    case_id: str
    notes: tuple[str, ...]  # what must be known of it
    small: bool  # so few voxels that it weighs too much


@dataclass(frozen=True, eq=False)
class Voxels:
    """The part of a `Tumor` that is clustered."""

    X: Floats
    index: npt.NDArray[np.intp]
    spacing: tuple[float, ...]

    def save(self, path: Path) -> None:
        """Write them to a file."""
        spacing = np.array(self.spacing)
        np.savez(path, X=self.X, index=self.index, spacing=spacing)

    @classmethod
    def load(cls, path: Path) -> Voxels:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(file["X"], file["index"], tuple(file["spacing"]))


class Store(Protocol):
    """Where the voxels of all cases wait while their habitats are learned."""

    facts: Sequence[Facts]

    def each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Return ``function(voxels, *values)`` of each case, in order.

        The values of a case come from `columns`. What goes in and comes out is small:
        voxels stay where they are.
        """
        ...


class FileStore:
    """Voxels in files of a folder, one case in memory at a time."""

    def __init__(self, cases: Sequence[Case], settings: Settings, folder: Path) -> None:
        rows = sample_rows(len(cases))
        found: list[Facts] = []
        problems: list[HabitatError] = []
        for case in cases:
            try:
                facts, voxels = read_voxels(case, settings, rows)
                voxels.save(folder / f"{len(found)}.npz")
                found.append(facts)
            except HabitatError as error:
                problems.append(CohortError(str(error), f"case {case.case_id}"))
        repeated = [c for c, n in Counter(c.case_id for c in cases).items() if n > 1]
        if repeated:
            what = f"names must differ, {', '.join(repeated[:5])} occur more than once"
            problems.append(CohortError(what, "`cases`"))
        raise_all([*problems, *_different(found)])
        self.facts: Sequence[Facts] = found
        self._folder = folder

    def each(self, function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
        """Apply a function to the voxels of each case."""
        return [
            function(Voxels.load(self._folder / f"{i}.npz"), *(c[i] for c in columns))
            for i in range(len(self.facts))
        ]


def sample_rows(n_cases: int) -> int:
    """Voxels of each case in the sample, so that a large cohort's stays small."""
    return max(_LEAST, min(SAMPLE, _SAMPLES // max(n_cases, 1)))


def read_voxels(case: Case, settings: Settings, rows: int) -> tuple[Facts, Voxels]:
    """Read a case; return what is known of it, with a sample of `rows`, and voxels."""
    inputs, names = open_case(case.images, case.mask, case.label)
    tumor = prepare(inputs, names, settings.grid, settings.rim_mm, 0)
    own = np.flatnonzero(tumor.fitted)
    own = own[canonical_order(tumor.X[own])]
    voxels = Voxels(tumor.X[own], tumor.index[own], tumor.spacing)
    n, notes = len(own), tumor.notes
    if n < MIN_VOXELS:
        notes += (f"has {n} voxels and weighs as much as the others",)
    facts = Facts(
        tuple(names),
        tuple(names.values()),
        tuple(tumor.units),
        tuple(tumor.modalities),
        display_names(tumor),
        voxels.X[evenly(n, rows)],
        case.group or case.case_id,
        independent_rows(n, n * math.prod(tumor.spacing), FWHM_MM),
        case.case_id,
        notes,
        n < MIN_VOXELS,
    )
    return facts, voxels


def odd_ones(found: Mapping[int, Facts]) -> dict[int, CohortError]:
    """Cases without the channels and units that more than half of them have."""
    kinds = {i: (f.given, f.names, f.units) for i, f in found.items()}
    counts = Counter(kinds.values())
    most = max(counts, key=lambda kind: counts[kind], default=None)
    if most is None or 2 * counts[most] <= len(found):
        return {}
    fix = "give all the same channels, in the same units"
    return {
        i: CohortError(f"has {kind}, most cases have {most}", "channels", fix)
        for i, kind in kinds.items()
        if kind != most
    }


def _different(found: Sequence[Facts]) -> list[HabitatError]:
    kinds = {(facts.given, facts.names, facts.units) for facts in found}
    if len(kinds) < 2:
        return []
    what = "have different channels or units: " + "; ".join(sorted(map(str, kinds)))
    return [CohortError(what, "`cases`")]


def learn(store: Store, settings: Settings) -> Learned:
    """Learn scaling, number, rule and order of habitats from stored cases."""
    raise_all(_different(store.facts))
    for one in store.facts:
        if one.small:
            warn(f"case {one.case_id} {one.notes[-1]}")
    sample, groups = _pooled(store.facts)
    first = store.facts[0]
    scaling = settings_scaling(settings, sample, first.modalities)
    rows, weights = scaling(sample), None
    if isinstance(settings.method, SupervoxelOptions):
        rows, weights = _supervoxels(store, scaling, settings)
    choice = None
    if settings.k == "auto":
        choice = _choose(scaling(sample), groups, store.facts, settings)
    k = int(settings.k) if choice is None else choice.k
    found = cluster(rows, k, settings, first.given, weights)
    if weights is None:
        found = _refined(found, store, scaling, settings)
    if found.rule is None:
        what = "must return a Clustering with a rule, to segment other cases"
        raise ConfigError(what, "`method`")
    if not found.converged:
        warn("the fit did not converge: raise max_iter in its options")
    own = partial(case_sums, scaling=scaling, rule=found.rule, settings=settings)
    centers = exact_mean(store.each(own))
    share = np.where(centers[:, -1:] > 0, centers[:, -1:], np.nan)
    centers = centers[:, :-1] / share
    order = order_of(centers, settings)
    medians = np.median(sample, axis=0)
    terms = _terms(centers[order], medians, first.display)
    if isinstance(found.rule, Thresholds):
        terms = found.rule.terms(first.display)
    return Learned(
        k=len(centers),
        channels=first.names,
        units=first.units,
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
        n_cases=len(store.facts),
        n_iter=found.n_iter,
        converged=found.converged,
        objective=found.objective,
        choice=None if choice is None else choice_json(choice),
    )


def _choose(
    rows: Floats,
    groups: npt.NDArray[np.intp],
    facts: Sequence[Facts],
    settings: Settings,
) -> KChoice:
    """Choose k on the sample; prediction strength is between halves of the patients."""
    patients = int(groups.max()) + 1
    if patients < _PATIENTS:
        what = (
            f"'auto' compares halves of at least {_PATIENTS} patients, got {patients}"
        )
        raise ConfigError(what, "`k`", "give a number")
    n_eff = math.fsum(one.n_eff for one in facts)
    seed = settings.random_state
    choice = choose_rows(rows, groups=groups, n_eff=n_eff, random_state=seed)
    if choice.k == 1:
        warn(f"k='auto' found one habitat: {choice.notes[0]}")
    return choice


def _pooled(facts: Sequence[Facts]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Sample of all cases, in canonical order, and the number of each row's group."""
    sample = np.concatenate([one.sample for one in facts])
    number = np.unique([one.group for one in facts], return_inverse=True)[1]
    keyed = np.column_stack([sample, np.repeat(number, len(facts[0].sample))])
    keyed = keyed[canonical_order(keyed)]
    return keyed[:, :-1].copy(), keyed[:, -1].astype(np.intp)


def _supervoxels(
    store: Store, scaling: Transform, settings: Settings
) -> tuple[Floats, Floats]:
    """Supervoxels of all cases, and weights that add to 1 in each case."""
    found = store.each(partial(case_rows, scaling=scaling, settings=settings))
    keyed = np.concatenate(
        [np.column_stack([rows, np.full(len(rows), 1 / len(rows))]) for rows in found]
    )
    keyed = keyed[canonical_order(keyed)]
    return keyed[:, :-1].copy(), keyed[:, -1].copy()


def case_rows(voxels: Voxels, scaling: Transform, settings: Settings) -> Floats:
    """Rows of a case that are clustered: its voxels, scaled, or its supervoxels."""
    return rows_of(voxels, scaling, settings)[0]


def _refined(
    found: Clustering, store: Store, scaling: Transform, settings: Settings
) -> Clustering:
    """Go on from the fit to the sample with all voxels of all cases.

    With a shift for each patient, it is moved in each iteration to where the rule
    fits best; the shifts have mean 0.
    """
    options = settings.method
    if not isinstance(options, KMeansOptions | GMMOptions):
        return found
    rule: Any = found.rule
    first = store.facts[0].sample[:1]
    shifts = np.zeros((len(store.facts), len(scaling(first)[0])))
    objective, n_iter, converged = -math.inf, 0, False
    while not converged and n_iter < options.max_iter:
        parts = store.each(
            partial(case_moments, scaling=scaling, rule=rule), list(shifts)
        )
        if settings.patient_shift:
            steps = np.array([step_of(part, rule) for part in parts])
            parts = [
                shifted(part, step) for part, step in zip(parts, steps, strict=True)
            ]
            shifts += steps
        total = Moments(
            exact_mean([part.count for part in parts]),
            exact_mean([part.shift for part in parts]),
            exact_mean([part.square for part in parts]),
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
    common = exact_mean(list(shifts))
    name = "means" if isinstance(rule, Mixture) else "centers"
    return replace(rule, **{name: _centers(rule) + common}), shifts - common


def case_moments(
    voxels: Voxels, shift: Floats, scaling: Transform, rule: Any
) -> Moments:
    """What a case adds to an iteration: sums, divided by its number of voxels."""
    return sums_of(scaling(voxels.X) - shift, rule)


def case_sums(
    voxels: Voxels, scaling: Transform, rule: Any, settings: Settings
) -> Floats:
    """Sums of a case's voxels and their number in each habitat; see `_sums`."""
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


def exact_mean(parts: list[Floats]) -> Floats:
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

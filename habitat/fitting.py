"""From the voxels of a tumor to habitats: what is fitted, and how voxels get theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, collector, integer, one_of, warn
from habitat.choice import KChoice, choose_rows
from habitat.clustering import (
    ALPHA,
    ONE_CLOUD,
    Clustering,
    GMMOptions,
    KMeansOptions,
    Nearest,
    OtsuOptions,
    Potts,
    Rule,
    SupervoxelOptions,
    Thresholds,
    best_shift,
    canonical_order,
    describe,
    distinct_rows,
    evenly,
    find_method,
    fit_method,
    independent_rows,
    scores,
    smooth,
    structure_p,
    supervoxels,
)
from habitat.errors import ConfigError, HabitatError, raise_all
from habitat.geometry import Floats
from habitat.tumor import Tumor
from habitat.voxels import (
    SCALINGS,
    Transform,
    fit_scaling,
    grid_choice,
)

Labels = npt.NDArray[np.uint8]
FWHM_MM = 6.0  # of PET
_LONG = 10_000  # numbers are not repeated in the params of a result
_DISPLAY = {"SUVbw": "PET", "SUVlbm": "PET", "SUVbsa": "PET", "HU": "CT"}


@dataclass(frozen=True)
class Settings:
    """Arguments of `segment` and `HabitatModel`, checked."""

    k: int | str
    method: Any  # options object or function
    scaling: Any
    grid: Any
    label: int | str | None
    rim_mm: float
    smoothness: Potts
    random_state: int
    patient_shift: bool = False  # of a population


def check_settings(
    channels: Sequence[str],
    *,
    k: Any,
    method: Any,
    scaling: Any,
    grid: Any,
    label: Any,
    rim_mm: Any,
    smoothness: Any,
    random_state: Any,
    patient_shift: Any = False,
) -> Settings:
    """Check all arguments before any file is read; raise all problems at once."""
    problems: list[HabitatError] = []

    check = collector(problems)
    settings = Settings(
        k=check(_number, k),
        method=check(find_method, method),
        scaling=check(_scaling_choice, scaling),
        grid=check(grid_choice, grid, channels),
        label=check(_label_choice, label),
        rim_mm=check(at_least, "rim_mm", rim_mm, 0.0),
        smoothness=check(_potts, smoothness),
        random_state=check(integer, "random_state", random_state, 0, 2**32 - 1),
        patient_shift=check(_flag, patient_shift),
    )
    raise_all(problems or _contradictions(settings, channels))
    if isinstance(settings.method, OtsuOptions):
        return replace(settings, scaling="none")  # it cuts natural units
    return settings


def _number(k: Any) -> int | str:
    if isinstance(k, str) and k == "auto":
        return k
    try:
        return integer("k", k, 2, 20)
    except ConfigError as error:
        raise ConfigError(error.what, error.where, "or 'auto'") from error


def _scaling_choice(scaling: Any) -> Any:
    return scaling if callable(scaling) else one_of("scaling", scaling, SCALINGS)


def _label_choice(label: Any) -> int | str | None:
    if label is None or isinstance(label, str):
        return label
    return integer("label", label, 0, 2**63)


def _flag(patient_shift: Any) -> bool:
    if isinstance(patient_shift, bool):
        return patient_shift
    what = f"must be True or False, got {patient_shift!r}"
    raise ConfigError(what, "`patient_shift`")


def _potts(smoothness: Any) -> Potts:
    if isinstance(smoothness, Potts):
        return smoothness
    return Potts(at_least("smoothness", smoothness, 0.0))


def _contradictions(settings: Settings, channels: Sequence[str]) -> list[HabitatError]:
    """Options that the chosen method has no use for."""
    method = settings.method
    problems: list[HabitatError] = []
    if isinstance(method, OtsuOptions):
        try:
            if isinstance(settings.k, str):
                raise ConfigError("follows from the levels", "`k`", "give the number")
            method.check(settings.k, channels)
        except HabitatError as error:
            problems.append(error)
        if settings.scaling not in ("zscore", "none"):
            what = "thresholds are set on natural units"
            problems.append(ConfigError(what, "`scaling`", "leave it out"))
    if isinstance(method, SupervoxelOptions) and settings.rim_mm:
        what = "a rim cannot be left out of supervoxels"
        problems.append(ConfigError(what, "`rim_mm`", "leave it out"))
    if settings.patient_shift and not isinstance(method, KMeansOptions | GMMOptions):
        what = "moves voxels to K-means or mixtures only"
        problems.append(ConfigError(what, "`patient_shift`", "leave it out"))
    if settings.smoothness.beta and isinstance(method, OtsuOptions | SupervoxelOptions):
        what = "smooths K-means and mixtures of voxels only"
        problems.append(ConfigError(what, "`smoothness`", "leave it out"))
    return problems


class Voxels(Protocol):
    """The part of a `Tumor` that is clustered."""

    @property
    def X(self) -> Floats:  # noqa: N802 - the name of the formulas
        """(n, channels) values in natural units."""

    @property
    def index(self) -> npt.NDArray[np.intp]:
        """(n, 3) position zyx."""

    @property
    def spacing(self) -> Sequence[float]:
        """Voxel size zyx, mm."""


@dataclass(frozen=True, eq=False)
class Definition:
    """What makes a voxel belong to a habitat; of one tumor or of a cohort."""

    scaling: Transform  # natural units -> what was clustered
    rule: Rule  # scaled voxels, or supervoxels, -> habitat
    smoothness: Potts
    supervoxels: SupervoxelOptions | None
    patient_shift: bool  # whether each tumor is first moved to where the rule fits best
    terms: tuple[str, ...]  # words for each habitat, such as "PETlow-CThigh"


def learned(definition: Definition) -> dict[str, Any]:
    """Rule and scaling as plain JSON; long tables (of ranks) by their shape."""
    return {
        name: {"name": type(part).__name__}
        | {f.name: _numbers(getattr(part, f.name)) for f in _fields(part)}
        for name, part in (("scaling", definition.scaling), ("rule", definition.rule))
    }


def _fields(part: Any) -> tuple[Any, ...]:
    return fields(part) if is_dataclass(part) else ()


def _numbers(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_numbers(v) for v in value]
    array = np.asarray(value)
    if array.size > _LONG:
        return {"shape": list(array.shape)}
    plain_array: npt.NDArray[Any] = array.astype(object)
    plain_array[~np.isfinite(array)] = None
    return plain_array.tolist()


@dataclass(frozen=True, eq=False)
class Fit:
    """Habitats fitted to one tumor."""

    definition: Definition
    labels: Labels  # (n,) 0..k-1
    posterior: Floats | None  # (n, k)
    centers: Floats  # (k, channels) means of the fitted voxels, natural units
    quality: dict[str, Any]
    notes: list[str]


def fit(tumor: Tumor, settings: Settings) -> Fit:
    """Fit habitats to the voxels of one tumor, numbered in the order of their centers.

    Voxels enter in canonical order, so that their order in the image cannot matter.
    Those in a rim that is left out of the fit get theirs afterwards.
    """
    own = np.flatnonzero(tumor.fitted)
    own = own[canonical_order(tumor.X[own])]
    raw = tumor.X[own]
    scaling = settings_scaling(settings, raw, tumor.modalities)
    rows, parts = rows_of(tumor, scaling, settings)
    fitted = rows[own] if parts is None else rows
    choice = None
    if settings.k == "auto":
        choice = choose(fitted, None if parts is not None else own, tumor, settings)
    k = int(settings.k) if choice is None else choice.k
    found = cluster(fitted, k, settings, list(tumor.names))
    labels = found.labels if parts is None else found.labels[parts[own]]
    order = order_of(means(raw, labels, k), settings)
    rule = Nearest(found.centers, 1.0) if found.rule is None else found.rule
    definition = Definition(
        scaling,
        rule.take(order),
        settings.smoothness,
        settings.method if parts is not None else None,
        False,
        terms_of(rule, tumor),
    )
    all_labels, posterior, notes = assign(tumor, definition, rows, parts)
    if found.rule is None:
        all_labels[own] = np.argsort(order)[found.labels]
    centers = means(raw, all_labels[own], k)
    again = order_of(centers, settings)  # smoothing may have changed it
    if not np.array_equal(again, np.arange(k)):
        definition = replace(definition, rule=definition.rule.take(again))
        all_labels, centers = (
            np.argsort(again).astype(np.uint8)[all_labels],
            centers[again],
        )
        posterior = None if posterior is None else posterior[:, again]
    if not found.converged:
        notes.append(warn("the fit did not converge: raise max_iter in its options"))
    quality = separation(comparable(raw, definition, tumor.units), all_labels[own])
    quality |= {"objective": found.objective, "n_iter": found.n_iter}
    quality["converged"] = found.converged
    otsu = isinstance(settings.method, OtsuOptions)
    if parts is None and choice is None and not otsu:
        p = _structure(fitted, k, tumor, settings)
        quality["structure_p"] = _finite(p)
        if p > ALPHA:
            notes.append(f"{ONE_CLOUD} (p = {p:.2g})")
    if choice is not None:
        quality["choice"] = choice_json(choice)
        notes += choice.notes
    return Fit(definition, all_labels, posterior, centers, quality, notes)


def choose(
    rows: Floats,
    voxels: npt.NDArray[np.intp] | None,
    tumor: Tumor,
    settings: Settings,
) -> KChoice:
    """Choose k for rows that are voxels of one tumor, or its supervoxels (None)."""
    ks, seed = range(1, min(10, len(rows) // 10) + 1), settings.random_state
    if voxels is None:
        return choose_rows(rows, ks, random_state=seed)
    return choose_rows(
        rows,
        ks,
        positions=tumor.index[voxels] * np.array(tumor.spacing),
        n_eff=_independent(len(rows), tumor),
        random_state=seed,
    )


def _independent(voxels: int, tumor: Tumor) -> float:
    return independent_rows(voxels, voxels * math.prod(tumor.spacing), FWHM_MM)


def _structure(rows: Floats, k: int, tumor: Tumor, settings: Settings) -> float:
    """Quick form of the test that `choose_k` makes: fewer rows, fewer draws."""
    n_eff = _independent(len(rows), tumor)
    few = rows[evenly(len(rows), min(len(rows), 500))]
    seed = settings.random_state
    return structure_p(few, range(2, k + 2), draws=39, n_eff=n_eff, random_state=seed)


def choice_json(choice: KChoice) -> dict[str, Any]:
    """Everything that was weighed in choosing k, as plain JSON."""
    return {
        "k": choice.k,
        "ks": list(choice.ks),
        "values": {n: list(map(_finite, v)) for n, v in choice.values.items()},
        "picks": choice.picks,
        "structure_p": _finite(choice.structure_p),
        "notes": list(choice.notes),
    }


def _finite(value: float) -> float | None:
    """NaN and infinity as null: JSON has no other way to say it."""
    return float(value) if math.isfinite(value) else None


def settings_scaling(
    settings: Settings, raw: Floats, units: Sequence[str | None]
) -> Transform:
    """Learn the scaling; thresholds are set on natural units."""
    natural = isinstance(settings.method, OtsuOptions)
    return fit_scaling("none" if natural else settings.scaling, raw, units)


def rows_of(
    tumor: Voxels, scaling: Transform, settings: Settings
) -> tuple[Floats, npt.NDArray[Any] | None]:
    """Rows that are clustered: scaled voxels; or supervoxels, and each voxel's one."""
    method = settings.method
    if not isinstance(method, SupervoxelOptions):
        return scaling(tumor.X), None
    order = canonical_order(tumor.X)
    Z = scaling(tumor.X[order])
    rng = np.random.default_rng(settings.random_state)
    found = supervoxels(Z, tumor.index[order], tumor.spacing, method, rng)
    parts = np.empty_like(found)
    parts[order] = found
    return describe(Z, found, int(found.max()) + 1), parts


def cluster(
    rows: Floats,
    k: int,
    settings: Settings,
    names: Sequence[str],
    weights: Floats | None = None,
) -> Clustering:
    """Cluster rows by the method of the settings; weights are of supervoxels."""
    method = settings.method
    if isinstance(method, OtsuOptions):
        return method.fit(rows, names)
    if isinstance(method, SupervoxelOptions):
        rng = np.random.default_rng(settings.random_state)
        return method(rows, k, rng, weights)
    distinct = distinct_rows(rows)
    if distinct < k:
        what = f"must be at most the {distinct} distinct voxel values, got {k}"
        raise ConfigError(what, "`k`", "use a smaller k")
    found = fit_method(method, rows, k, settings.random_state)
    if settings.smoothness.beta and not hasattr(found.rule, "costs"):
        what = "needs K-means, a mixture, or a method whose rule has costs"
        raise ConfigError(what, "`smoothness`", "leave it out")
    return found


def assign(
    tumor: Tumor,
    definition: Definition,
    rows: Floats,
    parts: npt.NDArray[Any] | None,
) -> tuple[Labels, Floats | None, list[str]]:
    """Give each voxel of a tumor its habitat; return labels, posterior and notes."""
    rule: Any = definition.rule
    notes = []
    if definition.patient_shift:
        moved = best_shift(rows[tumor.fitted], rule)
        rows = rows - moved
        text = ", ".join(f"{value:.2f}" for value in moved)
        notes.append(
            f"moved by ({text}) in scaled channels to fit the model's habitats"
        )
    labels = rule.labels(rows)
    posterior = rule.posterior(rows) if hasattr(rule, "posterior") else None
    if definition.smoothness.beta:
        before = labels
        costs, potts = rule.costs(rows), definition.smoothness
        labels = smooth(costs, tumor.index, tumor.spacing, before, potts)[0]
        count = int((labels != before).sum())
        text = f"smoothing moved {count} voxels ({100 * count / len(labels):.1f}%)"
        notes.append(f"{text} to the habitat of their neighbors")
    if parts is None:
        return labels, posterior, notes
    return labels[parts], None if posterior is None else posterior[parts], notes


def order_of(centers: Floats, settings: Settings) -> npt.NDArray[np.intp]:
    """Order by the first channel, ties by the second; thresholds keep their codes."""
    if isinstance(settings.method, OtsuOptions):
        return np.arange(len(centers))
    return np.lexsort(centers.T[::-1])


def means(X: Floats, labels: npt.NDArray[Any], k: int) -> Floats:
    """Mean of each label's rows, NaN for a label without rows."""
    counts = np.bincount(labels, minlength=k).astype(np.float64)
    counts[counts == 0] = np.nan
    sums = [np.bincount(labels, weights=column, minlength=k) for column in X.T]
    return np.stack(sums, axis=1) / counts[:, None]


def terms_of(rule: Rule, tumor: Tumor) -> tuple[str, ...]:
    """Words for habitats that thresholds define."""
    return rule.terms(display_names(tumor)) if isinstance(rule, Thresholds) else ()


def display_names(tumor: Tumor) -> list[str]:
    """PET, CT, or the channel's own name."""
    pairs = zip(tumor.names.values(), tumor.modalities, strict=True)
    return [_DISPLAY.get(unit or "", name) for name, unit in pairs]


def separation(rows: Floats, labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Separation of clusters as plain JSON."""
    found = scores(rows, labels)
    return {name: _finite(value) for name, value in found.items()}


def comparable(
    X: Floats, definition: Definition, units: Sequence[str | None]
) -> Floats:
    """Voxels as they were scaled; z-scored where thresholds cut natural units."""
    if isinstance(definition.rule, Thresholds):
        return fit_scaling("zscore", X, units)(X)
    return definition.scaling(X)


_OPTIONS: dict[str, type] = {
    c.__name__: c
    for c in (KMeansOptions, GMMOptions, OtsuOptions, SupervoxelOptions, Potts)
}


def plain(value: Any) -> Any:
    """A setting as plain JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"name": type(value).__name__, **asdict(value)}
    if callable(value):
        return {"function": getattr(value, "__qualname__", type(value).__qualname__)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list, np.ndarray)):
        return [plain(v) for v in value]
    return value


def known(value: Any) -> bool:
    """Whether a method or scaling is a name or an options object of habitat."""
    return isinstance(value, str) or type(value) in _OPTIONS.values()


def from_plain(value: Any) -> Any:
    """Undo `plain`: options objects are made anew; functions cannot be."""
    if isinstance(value, dict) and value.get("name") in _OPTIONS:
        rest = {name: v for name, v in value.items() if name != "name"}
        return _OPTIONS[value["name"]](**rest)
    return tuple(value) if isinstance(value, list) else value

"""choose_k(): how many habitats the data speak for, if any."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from habitat._check import at_least, collector, integer, one_of
from habitat.case import Case
from habitat.clustering import (
    Clustering,
    KMeansOptions,
    canonical_order,
    distinct_rows,
    evenly,
    kmeans,
)
from habitat.clustering._criteria import (
    CRITERIA,
    Criterion,
    best,
    blocks,
    criteria_values,
    decide,
    halves,
    information,
    knee,
    largest,
    prediction_strength,
    ranked,
    stability,
)
from habitat.clustering._structure import (
    gap,
    gap_rule,
    independent_rows,
    structure_p,
)
from habitat.errors import ConfigError, HabitatError, InputError, raise_all
from habitat.geometry import Floats
from habitat.voxels import fit_scaling

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from habitat.result import HabitatResult

__all__ = ["DEFAULT", "KChoice", "choose_k", "choose_rows"]

DEFAULT = (
    "calinski_harabasz",
    "davies_bouldin",
    "silhouette",
    "elbow",
    "gap",
    "bic",
    "prediction_strength",
)
LIKELIHOOD = ("bic", "aic", "icl")
NAMES = (*CRITERIA, "elbow", "gap", *LIKELIHOOD, "prediction_strength", "stability")
CASE_ROWS = 2000  # of each case of a cohort
_RESAMPLES = 20  # references of the gap, resamples of the stability

Data: TypeAlias = "npt.NDArray[Any] | HabitatResult"
Wanted: TypeAlias = "str | Criterion"


@dataclass(frozen=True, eq=False, repr=False)
class KChoice:
    """A number of clusters, and what each criterion has to say about it.

    Attributes
    ----------
    k : int
        The choice; 1 where nothing speaks for separate clusters.
    ks : tuple of int
        What there was to choose from.
    values : dict of str to array
        Criterion to its value for each of `ks`; NaN where it has none.
    picks : dict of str to (int or None)
        The k that each criterion alone would choose.
    structure_p : float
        P-value of the hypothesis of one continuous cloud, see
        `habitat.clustering.structure_p`; NaN if it was not tested.
    notes : tuple of str
        Why `k` was chosen, and what could not be computed.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 2)) + 6 * (np.arange(600) % 3)[:, None]
    >>> choose_k(X, range(1, 6), criteria=["bic"]).picks["bic"]
    3
    """

    k: int
    ks: tuple[int, ...]
    values: dict[str, Floats]
    picks: dict[str, int | None]
    structure_p: float
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        for column in self.values.values():
            column.flags.writeable = False

    def __repr__(self) -> str:
        picks = ", ".join(f"{name} {k}" for name, k in self.picks.items())
        return f"KChoice: k={self.k} (structure p={self.structure_p:.2g}; {picks})"

    @property
    def table(self) -> pd.DataFrame:
        """One row a k, one column a criterion."""
        import pandas as pd

        table: pd.DataFrame = pd.DataFrame(
            self.values, index=pd.Index(self.ks, name="k")
        )
        return table

    def plot(self) -> Figure:
        """Draw every criterion over k, with its own pick and the choice marked."""
        from habitat.plotting._choice import plot_choice

        figure: Figure = plot_choice(
            self.ks, self.values, self.picks, self.k, self.structure_p
        )
        return figure

    def _repr_html_(self) -> str:
        import html

        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table = self.table.T
        table.insert(0, "pick", [self.picks.get(c) for c in table.index])
        shown = table.to_html(float_format="{:.4g}".format, na_rep="")
        return f"<p>{html.escape(repr(self))}</p>{shown}<ul>{notes}</ul>"


def choose_k(
    data: Data | Sequence[Data],
    ks: Sequence[int] = range(1, 11),
    *,
    criteria: Sequence[Wanted] = DEFAULT,
    fwhm_mm: float = 6.0,
    draws: int = 99,
    random_state: int = 0,
) -> KChoice:
    """Choose the number of habitats, with all criteria in one table.

    Parameters
    ----------
    data : (n, d) array, HabitatResult, or a sequence of either
        Rows are used as they are: scale them first. Of a result the tumor's voxels
        are used, scaled anew by the scaling that its params name. A sequence is a
        cohort, with one decision: 2,000 rows a case whatever its size, results scaled
        together.
    ks : sequence of int, 1 to 20
        Numbers of clusters to choose from.
    criteria : sequence of str, or (function, "max" or "min")
        What the table holds, beside "calinski_harabasz" and "prediction_strength",
        which decide: "davies_bouldin", "silhouette" (squared Euclidean distances),
        "silhouette_simplified", "silhouette_euclidean" (all pairs), "elbow" (share of
        the variance within clusters; Kneedle), "gap", "bic", "aic", "icl" (Gaussian
        mixtures started at the K-means solutions), "stability" (bootstrap). A function
        is ``f(X, labels, centers) -> float``.
    fwhm_mm : float, mm
        Blur of the images: neighbors within it are no independent voxels.
    draws : int, 39 to 9999
        Draws of the test for any structure.
    random_state : int
        Seed; the same rows, in any order, and seed give the same choice.

    Returns
    -------
    KChoice
        The choice, the table, a plot.

    Raises
    ------
    HabitatError
        ConfigError or InputError; the message names all problems found.

    Notes
    -----
    Every k is clustered by K-means. The rule: (a) if the rows cannot be told from one
    continuous cloud (`structure_p` above .05), 1; (b) else, among k from 2 on with a
    prediction strength of at least .8, the k with the largest Calinski-Harabasz index;
    (c) 1 if there is none, since then no split comes back in other data. Where `ks` has
    no 1, (a) is said in the notes only, and (c) takes the largest prediction strength.

    Prediction strength compares two halves: cases of a cohort; in one case with
    positions, a checkerboard of cubes of two FWHM around the tumor's centroid; rows of
    an array have no positions and are taken as independent.

    Of results, likelihood criteria come twice: "bic" counts voxels, "bic_eff"
    independent ones (`independent_rows`), NaN below five a parameter. The test for
    structure uses four voxels for each independent one (`structure_rows`).

    Examples
    --------
    >>> import habitat
    >>> case = habitat.phantom()
    >>> result = habitat.segment(case.pet, case.ct, case.mask)
    >>> chosen = choose_k(result, range(1, 7), criteria=["davies_bouldin"])
    >>> list(chosen.table)
    ['calinski_harabasz', 'davies_bouldin', 'prediction_strength']
    """
    cases = list(data) if isinstance(data, (list, tuple)) else [data]
    problems: list[HabitatError] = []
    chosen = _settings(ks, criteria, fwhm_mm, draws, random_state, problems)
    problems += _case_problems(cases)
    raise_all(problems)
    rows = _cohort(cases, fwhm_mm) if len(cases) > 1 else _single(cases[0], fwhm_mm)
    return _choose(rows, chosen)


def choose_rows(
    X: Floats,
    ks: Sequence[int] = range(1, 11),
    *,
    positions: Floats | None = None,
    groups: npt.NDArray[np.int64] | None = None,
    n_eff: float | None = None,
    criteria: Sequence[Wanted] = (),
    fwhm_mm: float = 6.0,
    draws: int = 99,
    random_state: int = 0,
) -> KChoice:
    """Choose k for scaled rows (n, d), finite, of one case or of several.

    `positions` (n, 3), mm, in any axes, are those of one case; `groups` (n,) number the
    case of each row from 0; `n_eff` as from `independent_rows`; the rest as in
    `choose_k`. Rows may come in any order.
    """
    problems: list[HabitatError] = []
    chosen = _settings(ks, criteria, fwhm_mm, draws, random_state, problems)
    raise_all(problems)
    return _choose(_Rows(np.asarray(X, np.float64), positions, groups, n_eff), chosen)


# --- arguments ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Settings:
    ks: tuple[int, ...]
    tables: dict[str, Criterion]  # criteria of one clustering
    names: tuple[str, ...]  # all columns, in order
    fwhm_mm: float
    draws: int
    seed: int


def _settings(
    ks: Any,
    criteria: Any,
    fwhm_mm: Any,
    draws: Any,
    seed: Any,
    problems: list[HabitatError],
) -> _Settings:
    check = collector(problems)
    several = list(ks) if isinstance(ks, Iterable) and not isinstance(ks, str) else []
    numbers = sorted({check(integer, "ks", k, 1, 20) or 0 for k in several})
    if not several:
        what = f"must be numbers 1 to 20, got {ks!r}"
        problems.append(ConfigError(what, "`ks`", "give a range or a list"))
    if isinstance(criteria, str) or not isinstance(criteria, Iterable):
        criteria = [criteria]
    pairs = [check(_criterion, c) or ("", None) for c in criteria]
    named: dict[str, Criterion | None] = {"calinski_harabasz": None, **dict(pairs)}
    named["prediction_strength"] = None
    tables = {n: c or CRITERIA[n] for n, c in named.items() if c or n in CRITERIA}
    return _Settings(
        ks=tuple(numbers),
        tables=tables,
        names=tuple(named),
        fwhm_mm=check(at_least, "fwhm_mm", fwhm_mm, 0.0),
        draws=check(integer, "draws", draws, 39, 9999),
        seed=check(integer, "random_state", seed, 0, 2**32 - 1),
    )


def _criterion(wanted: Any) -> tuple[str, Criterion | None]:
    if isinstance(wanted, tuple) and len(wanted) == 2 and callable(wanted[0]):
        one_of("criteria: which values are good", wanted[1], ("max", "min"))
        return str(getattr(wanted[0], "__name__", "criterion")), wanted
    return one_of("criteria", wanted, NAMES), None


def _case_problems(cases: list[Any]) -> list[HabitatError]:
    if not cases:
        return [InputError("has no case", "`data`")]
    if any(isinstance(case, Case) for case in cases):
        fix = "segment it first, or fit HabitatModel(k='auto')"
        return [InputError("is a Case, not a result", "`data`", fix)]
    problems: list[HabitatError] = []
    arrays = [not hasattr(c, "images") for c in cases]
    if any(arrays) and not all(arrays):
        what = f"has {sum(arrays)} arrays and {len(cases) - sum(arrays)} results"
        problems.append(InputError(what, "`data`", "give either, not both"))
    for i, (case, array) in enumerate(zip(cases, arrays, strict=True)):
        where = f"`data[{i}]`" if len(cases) > 1 else "`data`"
        what = _array_problem(case) if array else _result_problem(case, cases[0])
        if what:
            problems.append(InputError(what, where))
    if all(arrays) and not problems:
        widths = {np.shape(c)[1] for c in cases}
        if len(widths) > 1:
            what = f"cases have {sorted(widths)} channels"
            problems.append(InputError(what, "`data`", "give the same channels"))
    return problems


def _array_problem(case: Any) -> str:
    rows = np.asarray(case)
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "buif":
        return f"must be rows of channel values, got {rows.dtype} {rows.shape}"
    bad = int((~np.isfinite(rows)).any(axis=1).sum())
    return f"{bad} of {len(rows)} rows are not finite: drop them" if bad else ""


def _result_problem(case: Any, first: Any) -> str:
    scaling = case.params["arguments"]["scaling"]
    if not isinstance(scaling, str):
        return "was scaled by a function: give its scaled rows as an array"
    if not hasattr(first, "images"):
        return ""
    other = first.params["arguments"]["scaling"]
    if list(case.images) != list(first.images) or scaling != other:
        return "has other channels or another scaling than the first case"
    return "" if (case.labels > 0).any() else "has no voxel"


# --- rows -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rows:
    """Scaled rows and where they are from."""

    X: Floats
    positions: Floats | None = None
    groups: npt.NDArray[np.int64] | None = None
    n_eff: float | None = None


def _voxels(result: HabitatResult) -> tuple[Floats, Floats, float]:
    """Values (n, channels) and positions (mm) of the tumor's voxels, and its mm3."""
    inside = result.labels[result.box] > 0
    for image in result.images.values():
        inside &= np.isfinite(image.array)
    raw = np.stack([i.array[inside] for i in result.images.values()], axis=1)
    where = result.geometry.crop(result.box).world(np.argwhere(inside))
    return raw.astype(np.float64), where, len(raw) * result.geometry.voxel_ml * 1000


def _scaled(result: HabitatResult, raw: Floats) -> Floats:
    units = [image.unit for image in result.images.values()]
    return fit_scaling(result.params["arguments"]["scaling"], raw, units)(raw)


def _single(case: Any, fwhm_mm: float) -> _Rows:
    if not hasattr(case, "images"):
        return _Rows(np.asarray(case, np.float64))
    raw, where, volume = _voxels(case)
    order = canonical_order(raw)
    raw, where = raw[order], where[order]
    X = _scaled(case, raw)
    return _Rows(X, where, None, independent_rows(len(X), volume, fwhm_mm))


def _cohort(cases: list[Any], fwhm_mm: float) -> _Rows:
    """CASE_ROWS rows of each case, at equal steps; some come twice in a small one."""
    parts, n_eff = [], 0.0
    for case in cases:
        if hasattr(case, "images"):
            raw, _, volume = _voxels(case)
            n = min(len(raw), CASE_ROWS)
            n_eff += independent_rows(n, volume, fwhm_mm)
        else:
            raw = np.asarray(case, np.float64)
            n_eff += min(len(raw), CASE_ROWS)
        parts.append(raw[canonical_order(raw)][evenly(len(raw), CASE_ROWS)])
    parts = [parts[i] for i in np.lexsort(np.mean(parts, axis=1).T[::-1])]
    X = np.concatenate(parts)
    if hasattr(cases[0], "images"):
        X = _scaled(cases[0], X)
    groups = np.repeat(np.arange(len(parts)), CASE_ROWS)
    return _Rows(X, None, groups, n_eff)


# --- the table and the decision -------------------------------------------------------


def _choose(rows: _Rows, chosen: _Settings) -> KChoice:
    order = canonical_order(rows.X)
    X, where, groups = rows.X[order], rows.positions, rows.groups
    rows = _Rows(
        X,
        None if where is None else where[order],
        None if groups is None else ranked(groups[order], X),
        rows.n_eff,
    )
    distinct = distinct_rows(rows.X)
    usable = [k for k in chosen.ks if k <= distinct]
    notes = []
    if len(usable) < len(chosen.ks):
        notes.append(f"{distinct} distinct rows: larger k have no values")
    if not usable:
        what = f"has {distinct} distinct rows for k from {chosen.ks[0]}"
        raise InputError(what, "`data`", "use a smaller k")
    found = {k: kmeans(rows.X, k, random_state=chosen.seed) for k in usable}
    values, picks = _columns(rows, found, chosen, notes)
    p = math.nan
    if max(usable) > 1:
        p = structure_p(
            rows.X,
            usable,
            draws=chosen.draws,
            n_eff=rows.n_eff,
            random_state=chosen.seed,
        )
    full = {
        n: np.array([v.get(k, math.nan) for k in chosen.ks]) for n, v in values.items()
    }
    k, why = decide(usable, values, p)
    return KChoice(k, chosen.ks, full, picks, p, (*why, *notes))


def _columns(
    rows: _Rows, found: dict[int, Clustering], chosen: _Settings, notes: list[str]
) -> tuple[dict[str, dict[int, float]], dict[str, int | None]]:
    """Every criterion as k -> value, and the k it picks."""
    ks, X, edge = list(found), rows.X, 2 * chosen.fwhm_mm
    own = {k: criteria_values(chosen.tables, X, f) for k, f in found.items() if k > 1}
    values: dict[str, dict[int, float]] = {}
    picks: dict[str, int | None] = {}
    for name in chosen.names:
        if name in chosen.tables:
            values[name] = {k: v[name] for k, v in own.items()}
            picks[name] = best(values[name], chosen.tables[name][1])
        elif name == "elbow":
            total = float(((X - X.mean(axis=0)) ** 2).sum()) or 1.0
            values[name] = {k: found[k].objective / total for k in ks}
            picks[name] = knee(ks, np.array(list(values[name].values())))
        elif name == "gap":
            rng = np.random.default_rng(chosen.seed)
            gaps, errors = gap(X, max(ks), _RESAMPLES, rng)
            values[name] = {k: float(gaps[k - 1]) for k in ks}
            picks[name] = gap_rule(ks, gaps, errors)
        elif name == "prediction_strength":
            values[name] = _strengths(rows, ks, edge, chosen.seed, notes)
            picks[name] = largest(values[name])
        elif name == "stability":
            rng = np.random.default_rng(chosen.seed)
            units = blocks(X, rows.positions, rows.groups, edge)
            values[name] = {k: stability(X, k, units, _RESAMPLES, rng) for k in ks}
            picks[name] = largest(values[name])
    wanted = [name for name in chosen.names if name in LIKELIHOOD]
    if wanted:
        columns = _likelihoods(rows, found, wanted, notes)
        picks |= {name: best(column, "min") for name, column in columns.items()}
        values |= columns
    order = [n for name in chosen.names for n in (name, f"{name}_eff") if n in values]
    return {n: values[n] for n in order}, {n: picks[n] for n in order}


def _likelihoods(
    rows: _Rows, found: dict[int, Clustering], wanted: list[str], notes: list[str]
) -> dict[str, dict[int, float]]:
    each = {k: information(rows.X, f, rows.n_eff) for k, f in found.items()}
    names = [
        n for w in wanted for n in (w, f"{w}_eff") if n in next(iter(each.values()))
    ]
    lost = [k for k, v in each.items() if math.isnan(v["bic"])]
    if lost:
        notes.append(f"k={lost[0]}: a mixture component collapses, no likelihood")
    few = [k for k, v in each.items() if math.isnan(v.get("bic_eff", 0.0))]
    if few and few != lost:
        text = f"{rows.n_eff:.0f} independent voxels are fewer than 5 a parameter"
        notes.append(f"{text} from k={min(set(few) - set(lost))}: no {wanted[0]}_eff")
    return {n: {k: v[n] for k, v in each.items()} for n in names}


def _strengths(
    rows: _Rows, ks: list[int], edge: float, seed: int, notes: list[str]
) -> dict[int, float]:
    parts, why = halves(rows.X, rows.positions, rows.groups, edge, seed)
    if why:
        notes.append(why)
        return {1: 1.0} if 1 in ks else {}
    least = min(map(distinct_rows, parts))
    options = KMeansOptions(n_init=3)
    return {k: prediction_strength(parts, k, options, seed) for k in ks if k <= least}

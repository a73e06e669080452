"""feature_precision(): which features of habitats come out alike on changed images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from habitat._check import at_least
from habitat.case import Case
from habitat.errors import ConfigError, HabitatError, InputError
from habitat.features import extract
from habitat.features._table import names_of
from habitat.image import Image
from habitat.reliability._agreement import icc
from habitat.reliability._draws import Plan, counted, named_cases, of_case, quietly
from habitat.reliability._features import MARGIN_MM, MIN_CASES
from habitat.reliability._perturb import PERTURBATIONS, OwnGrids

if TYPE_CHECKING:
    from habitat.features._extract import Settings
    from habitat.features._families import Family
    from habitat.population import HabitatModel

Row: TypeAlias = dict[str, Any]

LIMIT = 0.75  # "good" (Koo & Li 2016)
_FEW = 0.9  # of the cases that have a feature at all
_KEYS = ("case_id", "perturbation", "draw")


@dataclass(frozen=True, eq=False, repr=False)
class FeaturePrecision:
    """Which features of habitats come out alike when the images change a little.

    Attributes
    ----------
    values : DataFrame
        One row per case, perturbation and draw: case_id, perturbation, draw, then the
        columns of `habitat.features.wide`. Perturbation "none" are the images
        themselves. A draw that failed has NaN, and `notes` say why.
    icc : DataFrame
        One row per feature and perturbation: feature (its column in `values`),
        perturbation, icc_a1, a1_low, a1_high, icc_c1, c1_low, c1_high (NaN for a
        feature that is the same everywhere), cases (with a value in any draw), subjects
        (with a value in all draws: the ICC is theirs) and raters (the images themselves
        and the draws).
    notes : tuple of str
        What a reader must know.
    """

    values: pd.DataFrame
    icc: pd.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        total, cases = self.icc["feature"].nunique(), self.values["case_id"].nunique()
        head = f"FeaturePrecision of {cases} cases"
        return f"{head}: {len(self.repeatable())} of {total} features repeatable"

    def repeatable(
        self, limit: float = LIMIT, *, cases: Collection[str] | None = None
    ) -> tuple[str, ...]:
        """Names of the features that a classifier may use.

        Parameters
        ----------
        limit : float
            Least lower 95 % limit of ICC(A,1), under each perturbation.
        cases : collection of str, optional
            Names of at least 10 cases: ICC of these alone, from the values that are
            there. In a cross-validation over the same patients give the training cases
            of the fold.

        Returns
        -------
        tuple of str
            Columns of the wide table, in its order; may be empty. Left out are features
            that are the same in all cases, and those that under a perturbation have a
            value in all draws in less than 90 % of the cases that have one in any, or
            in less than 9 cases.

        Raises
        ------
        InputError
            If `cases` are fewer than 10, or one is unknown.
        """
        rated = self.icc if cases is None else _icc(_only(self.values, cases))
        enough = rated["subjects"] >= _FEW * rated["cases"].clip(lower=MIN_CASES)
        good = (rated["a1_low"] >= limit) & enough
        kept = good.groupby(rated["feature"], sort=False).all()
        return tuple(str(name) for name in kept.index[kept])


def feature_precision(
    data: Sequence[Case],
    model: HabitatModel,
    *,
    families: Sequence[str | Family] | None = None,
    settings: Settings | Mapping[str, Settings] | None = None,
    spacing: float | Sequence[float] | str | None = "auto",
    min_voxels: int = 64,
    perturbations: Sequence[str] = tuple(PERTURBATIONS),
    repeats: int = 3,
    noise: Mapping[str, float] | None = None,
    margin_mm: float = MARGIN_MM,
    random_state: int = 0,
) -> FeaturePrecision:
    """Perturb images of cases, make their habitats anew and extract features again.

    Parameters
    ----------
    data : sequence of Case
        At least 10: they are the subjects of the intraclass correlation.
    model : HabitatModel
        Segments all of them, so that a habitat is one tissue in every case.
    families, settings, spacing, min_voxels
        As in `habitat.extract`.
    perturbations, repeats, noise, random_state
        As in `stability`, but each image is perturbed on its own grid, as in
        `map_precision`.
    margin_mm : float, mm
        Images are cropped to the tumor and so much around it. LoG looks 16 sigma far;
        `normalize` and "square" to "exponential" take numbers of the whole image and
        need all of it.

    Returns
    -------
    FeaturePrecision
        With `repeatable()`, the names of the features to keep.

    Raises
    ------
    ConfigError
        If an argument is outside its values.
    InputError
        If there are fewer than 10 cases, a case is there twice or cannot be read, or no
        perturbation applies.

    Notes
    -----
    ICC(A,1) of McGraw & Wong (see `icc`) with the images themselves and the draws as
    raters and cases as subjects, perturbations after Zwanenburg et al. (Sci Rep
    2019;9:614). It compares how far noise, position, contour and registration move a
    feature with the variety of the cases given, and says nothing about scanners or
    tracers. Noise comes on top of that of the images.

    Where a habitat is absent in a draw its features have no value, and the case is no
    subject of theirs. The choice knows no outcome: best make it once, on other patients
    or scans than those a classifier is tested on, and use it in every fold.

    Examples
    --------
    >>> import habitat
    >>> cases = []
    >>> for i in range(10):
    ...     p = habitat.phantom(radius_mm=10 + i, margin_mm=15, random_state=i)
    ...     cases.append(habitat.Case(str(i), {"pet": p.pet, "ct": p.ct}, p.mask))
    >>> model = habitat.HabitatModel(k=2).fit(cases)
    >>> how = {"families": ["composition"], "perturbations": ["noise"], "repeats": 1}
    >>> habitat.feature_precision(cases, model, **how).repeatable()[0]
    'tumor_volume_ml'
    """
    plan = Plan.of(perturbations, repeats, random_state)
    margin = at_least("margin_mm", margin_mm, 0)
    if not hasattr(model, "segment"):
        what = f"must be a HabitatModel, got {model!r:.60}"
        raise ConfigError(what, "`model`", "read it: habitat.HabitatModel.load(path)")
    how = {"families": families, "settings": settings, "spacing": spacing}
    how["min_voxels"] = min_voxels
    warned: list[str] = []
    rows: list[Row] = []
    for case in _cases(data):
        with of_case(case.case_id):
            grids = quietly(OwnGrids.of, case, noise, margin, warned=warned)
            rows += _Trial(case.case_id, grids, model, how, warned).rows(plan)
    values = pd.DataFrame(rows)
    if (values["perturbation"] == "none").all():
        raise InputError(f"no draw is left: {'; '.join(counted(warned))}", "`data`")
    return FeaturePrecision(values, _icc(values), tuple(counted(warned)))


def _cases(data: Any) -> list[Case]:
    items = [one for _, one in named_cases(data)]
    cases = [one for one in items if isinstance(one, Case)]
    if len(cases) < len(items):
        what = f"holds {len(items) - len(cases)} results: they lack the native images"
        raise InputError(what, "`data`", "give habitat.Case(name, images, mask)")
    _enough(len(cases), "`data`")
    return cases


def _enough(n: int, where: str) -> None:
    if n < MIN_CASES:
        what = f"ICC needs {MIN_CASES} cases as subjects, there are {n}"
        raise InputError(what, where)


def _only(values: pd.DataFrame, cases: Collection[str]) -> pd.DataFrame:
    unknown = sorted(set(cases) - set(values["case_id"]))
    if unknown:
        raise InputError(f"there is no case {unknown[0]!r}", "`cases`")
    _enough(len(set(cases)), "`cases`")
    own: pd.DataFrame = values[values["case_id"].isin(set(cases))]
    return own


@dataclass(frozen=True, eq=False)
class _Trial:
    """One case: its images, how they become features, and what was warned of."""

    case_id: str
    grids: OwnGrids
    model: HabitatModel
    how: Mapping[str, Any]  # arguments of `extract`
    warned: list[str]

    def rows(self, plan: Plan) -> Iterator[Row]:
        """Features of the images themselves and of each draw; failed ones are noted."""
        yield self._row("none", 0) | self._features(*self.grids.unperturbed())
        for name in plan.names:
            channels = len(self.grids.channels)
            for draw in plan.draws(self.case_id, name, channels, self.warned):
                row = self._row(name, draw.number)
                images, mask, setting = self.grids.perturbed(name, draw)
                try:
                    row |= self._features(images, mask)
                except ConfigError:  # wrong use, not a tumor that became too small
                    raise
                except HabitatError as error:
                    self.warned.append(f"{name} ({setting}) was left out: {error}")
                yield row

    def _row(self, name: str, draw: int) -> Row:
        return dict(zip(_KEYS, (self.case_id, name, draw), strict=True))

    def _features(self, images: dict[str, Image], mask: Image) -> Row:
        case = Case(self.case_id, images, mask)
        result = quietly(self.model.segment, case, warned=self.warned)
        said: list[str] = []
        table = quietly(lambda: extract(result, images, **self.how), warned=said)
        self.warned.extend(dict.fromkeys([*said, *table.attrs["notes"]]))
        return dict(zip(names_of(table), table["value"], strict=True))


def _icc(values: pd.DataFrame) -> pd.DataFrame:
    """ICC of each feature under each perturbation, cases as subjects."""
    cases = values["case_id"].unique()
    features = values.columns[len(_KEYS) :]
    out: list[Row] = []
    for name in values["perturbation"].unique():
        if name == "none":
            continue
        own = values[values["perturbation"].isin(("none", name))]
        raters = [
            rows.set_index("case_id").reindex(cases)[features].to_numpy(np.float64)
            for _, rows in own.groupby(["perturbation", "draw"])
        ]
        for feature, ratings in zip(features, np.stack(raters).T, strict=True):
            found = icc(ratings)
            row = {"feature": feature, "perturbation": name}
            for short, one in (("a1", found.agreement), ("c1", found.consistency)):
                row |= {f"icc_{short}": one.value, f"{short}_low": one.low}
                row |= {f"{short}_high": one.high}
            row["cases"] = int(np.isfinite(ratings).any(axis=1).sum())
            out.append(row | {"subjects": found.subjects, "raters": found.raters})
    made: pd.DataFrame = pd.DataFrame(out)
    return made

"""feature_precision(): which features of habitats come out alike on changed images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    from habitat.population import HabitatModel

Found: TypeAlias = "pd.Series[float]"

LIMIT = 0.75  # "good" (Koo & Li 2016)
_FEW = 0.9  # a feature must have a value in so many of the cases


@dataclass(frozen=True, eq=False, repr=False)
class FeaturePrecision:
    """Which features of habitats come out alike when the images change a little.

    Attributes
    ----------
    values : DataFrame
        One row per case, perturbation and draw (perturbation "none" is the map itself),
        one column per feature as of `habitat.features.wide`.
    icc : DataFrame
        One row per feature and perturbation: feature (the column of `values`),
        perturbation, icc_a1, a1_low, a1_high, icc_c1, c1_low, c1_high, subjects
        (cases with a value in all draws) and raters.
    notes : tuple of str
        What a reader must know.
    """

    values: pd.DataFrame
    icc: pd.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        total, cases = self.icc["feature"].nunique(), self.values["case"].nunique()
        few = len(self.repeatable())
        return (
            f"FeaturePrecision of {cases} cases: {few} of {total} features repeatable"
        )

    def repeatable(self, limit: float = LIMIT) -> tuple[str, ...]:
        """Names of the features that a classifier may use.

        Parameters
        ----------
        limit : float
            Least lower 95 % limit of ICC(A,1) under each perturbation.

        Returns
        -------
        tuple of str
            Columns of the wide table, in its order. The choice knows no outcome, so it
            may be made once, outside the folds of a cross-validation, on other cases.
        """
        low = self.icc.fillna({"a1_low": -1.0}).groupby("feature", sort=False)
        least = low["a1_low"].min()
        return tuple(str(name) for name in least.index[least >= limit])


def feature_precision(
    data: Sequence[Case],
    model: HabitatModel,
    *,
    families: Sequence[Any] = ("composition", "intensity", "radiomics"),
    settings: Any = None,
    spacing: float | Sequence[float] | str | None = "auto",
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
    families, settings, spacing
        As in `habitat.extract`.
    perturbations, repeats, noise, random_state
        As in `stability`; each image is perturbed on its own grid.
    margin_mm : float, mm
        Images are cropped to the tumor and so much around it; filters of large width
        need more.

    Returns
    -------
    FeaturePrecision
        With `repeatable()`, the names of the features to keep.

    Raises
    ------
    ConfigError
        If an argument is outside its values.
    InputError
        If there are fewer than 10 cases, or a case cannot be read.

    Notes
    -----
    ICC(A,1) of McGraw & Wong with the map itself and the draws as raters, perturbations
    after Zwanenburg et al. (Sci Rep 2019;9:614). It tells how far noise, position,
    contour and registration move a feature beside the variety of the cases given; it
    says nothing about scanners or tracers. A habitat that is absent in a draw leaves
    the case out of its features' ICC; features without a value in 90 % of the cases
    count as not repeatable.

    Examples
    --------
    >>> from habitat.reliability import feature_precision
    >>> found = feature_precision(cases, model)  # doctest: +SKIP
    >>> wide[["case_id", *found.repeatable()]]  # doctest: +SKIP
    """
    plan = Plan.of(perturbations, repeats, random_state)
    margin = at_least("margin_mm", margin_mm, 0)
    cases = _cases(data)
    if not hasattr(model, "segment"):
        what = f"must be a HabitatModel, got {model!r:.60}"
        raise ConfigError(what, "`model`", "read it: habitat.HabitatModel.load(path)")
    warned: list[str] = []
    how = {"families": families, "settings": settings, "spacing": spacing}
    rows: list[tuple[dict[str, Any], Found]] = []
    for case in cases:
        with of_case(case.case_id):
            grids = OwnGrids.of(case, noise, margin)
            rows += _draws(case, grids, model, plan, how, warned)
    keys = pd.DataFrame([key for key, _ in rows])
    table = pd.concat([keys, pd.DataFrame([v for _, v in rows])], axis=1)
    return FeaturePrecision(table, _icc(table), tuple(counted(warned)))


def _cases(data: Sequence[Case]) -> list[Case]:
    cases = [one for _, one in named_cases(data) if isinstance(one, Case)]
    if len(cases) < max(len(data), MIN_CASES):
        what = f"must be {MIN_CASES} cases or more, got {len(cases)}"
        raise InputError(what, "`data`", "give habitat.Case objects, no results")
    return cases


def _draws(
    case: Case,
    grids: OwnGrids,
    model: HabitatModel,
    plan: Plan,
    how: Mapping[str, Any],
    warned: list[str],
) -> Iterator[tuple[dict[str, Any], Found]]:
    """Features of the map itself and of each draw; a draw that fails is noted."""

    def row(
        images: dict[str, Image], mask: Image, name: str, draw: int
    ) -> tuple[dict[str, Any], Found]:
        again = Case(case.case_id, images, mask)
        result = quietly(model.segment, again, warned=warned)
        table = quietly(lambda: extract(result, images, **how), warned=warned)
        found = pd.Series(table["value"].to_numpy(), index=names_of(table))
        key = {"case": case.case_id, "perturbation": name, "draw": draw}
        return key, found

    yield row(*grids.unperturbed(), "none", 0)
    for name in plan.names:
        for draw in plan.draws(case.case_id, name, len(grids.channels), warned):
            images, mask, setting = grids.perturbed(name, draw)
            try:
                yield row(images, mask, name, draw.number)
            except ConfigError:  # wrong use, not a tumor that became too small
                raise
            except HabitatError as error:
                warned.append(f"{name} ({setting}) was left out: {error}")


def _icc(table: pd.DataFrame) -> pd.DataFrame:
    """ICC of each feature under each perturbation, cases as subjects."""
    features = list(table.columns[3:])
    cases = list(dict.fromkeys(table["case"]))
    out = []
    for name in table["perturbation"].unique():
        if name == "none":
            continue
        own = table[table["perturbation"].isin(("none", name))]
        # (cases, raters, features): the map itself is the first rater
        raters = [*own.groupby(["perturbation", "draw"], sort=False)]
        cube = np.stack(
            [
                rows.set_index("case")[features].reindex(cases).to_numpy()
                for _, rows in raters
            ],
            axis=1,
        )
        for j, feature in enumerate(features):
            found = icc(cube[:, :, j])
            row = {"feature": feature, "perturbation": name}
            for short, one in (("a1", found.agreement), ("c1", found.consistency)):
                known = found.subjects >= _FEW * len(cases)
                row |= {f"icc_{short}": one.value if known else np.nan}
                row |= {f"{short}_low": one.low if known else np.nan}
                row |= {f"{short}_high": one.high if known else np.nan}
            out.append(row | {"subjects": found.subjects, "raters": found.raters})
    return pd.DataFrame(out)

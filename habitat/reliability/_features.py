"""map_precision(): which maps come out alike when their images change a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from habitat._check import at_least
from habitat.case import Case
from habitat.errors import ConfigError, HabitatError, InputError, raise_all
from habitat.geometry import Floats, Geometry, bounding_box
from habitat.image import Image
from habitat.io._grids import coverage
from habitat.reliability._agreement import icc
from habitat.reliability._draws import Plan, counted, named_cases, of_case, quietly
from habitat.reliability._independent import Lags
from habitat.reliability._perturb import PERTURBATIONS, OwnGrids

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row: TypeAlias = dict[str, Any]
Values: TypeAlias = npt.NDArray[np.float32]
#: Images (channel -> Image) and mask of a case to maps (name -> Image).
MapFunction: TypeAlias = Callable[[dict[str, Image], Image], Mapping[str, Image]]

MIN_CASES = 10
MARGIN_MM = 40.0  # 30 for a registration, 10 for windows, smoothing and splines
LIMIT = 0.5
_WEIGHT = 0.95  # of a value between voxels, from those that have one
_FIX = (
    "give a function of (images, mask) that returns {name: Image}: "
    "lambda images, mask: habitat.texture_maps(images['ct'], mask)"
)


@dataclass(frozen=True, eq=False, repr=False)
class MapPrecision:
    """Which maps come out alike when their images change a little.

    Attributes
    ----------
    table : DataFrame
        One row per map, perturbation (or variant) and case: map, perturbation, case,
        draws, icc_voxel, low, high, n_eff, voxels.
    means : DataFrame
        One row per map and perturbation, ICC of the map's mean over each tumor, with
        cases as subjects: map, perturbation, icc_a1, a1_low, a1_high, icc_c1, c1_low,
        c1_high, subjects, raters. Empty with fewer than 10 cases.
    notes : tuple of str
        What a reader must know.
    """

    table: pd.DataFrame
    means: pd.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        maps, cases = (self.table[c].nunique() for c in ("map", "case"))
        head = f"MapPrecision of {cases} case{'s' if cases > 1 else ''}"
        return f"{head}: {len(self.repeatable())} of {maps} maps repeatable"

    @property
    def summary(self) -> pd.DataFrame:
        """Over cases, per map and perturbation: cases, icc_voxel, low, lowest.

        `icc_voxel` and `low` are medians, `lowest` is the lowest `low`. A case without
        an ICC (a map without contrast or without a voxel in all draws) counts as -1.
        """
        known = self.table.fillna({"icc_voxel": -1.0, "low": -1.0})
        groups = known.groupby(["map", "perturbation"], sort=False)
        made: pd.DataFrame = groups.agg(
            cases=("case", "nunique"),
            icc_voxel=("icc_voxel", "median"),
            low=("low", "median"),
            lowest=("low", "min"),
        ).reset_index()
        return made

    def repeatable(self, limit: float = LIMIT) -> tuple[str, ...]:
        """Names of the maps that clustering can use.

        Parameters
        ----------
        limit : float
            Least lower limit of `icc_voxel`, median over cases, in each perturbation
            and variant.

        Returns
        -------
        tuple of str
            In the order of the maps; may be empty.
        """
        low = self.summary.groupby("map", sort=False)["low"].min()
        return tuple(str(name) for name in low.index[low >= limit])

    def plot(self) -> Figure:
        """Draw the ICC of each map under each perturbation.

        Returns
        -------
        matplotlib.figure.Figure
            A dot is the median over cases, a line reaches to the median lower limit.
            Maps that are not repeatable have gray names.
        """
        from habitat.plotting._stability import plot_precision

        return plot_precision(self.summary, self.repeatable(), LIMIT)


def map_precision(
    data: Case | Sequence[Case],
    maps: MapFunction,
    *,
    variants: Mapping[str, MapFunction] | None = None,
    perturbations: Sequence[str] = tuple(PERTURBATIONS),
    repeats: int = 3,
    noise: Mapping[str, float] | None = None,
    margin_mm: float = MARGIN_MM,
    random_state: int = 0,
) -> MapPrecision:
    """Perturb the images of cases, compute their maps anew and compare voxel by voxel.

    Parameters
    ----------
    data : Case or a sequence of them
        Their images as they are on file; the maps are computed from them.
    maps : callable
        ``f(images, mask) -> {name: map}``: `images` are the channels of the case as
        Image, each on its own grid, `mask` is the tumor (bool). Both are cropped, see
        `margin_mm`. Each call must give the same names.
    variants : mapping of str to callable, optional
        Other settings of the same maps (window radius, bin width), by name: their maps
        of the unperturbed images are compared with those of `maps`.
    perturbations, repeats, noise, random_state
        As in `stability`, but each image is perturbed on its own grid: a shift is by
        parts of its own voxel, noise has the sd of its own grid, the mask grows and
        shrinks by a voxel of its grid. Images on one grid move together, and what is at
        one place stays there, so that a shift or rotation misregisters nothing.
    margin_mm : float, mm
        Images and mask are cropped to the tumor and so much around it. 40 mm is enough
        for a registration (30 mm) and for windows and interpolation (10 mm); take more
        where `maps` looks farther, at an aorta for example.

    Returns
    -------
    MapPrecision
        With `repeatable()`, the names that clustering can use.

    Raises
    ------
    ConfigError
        If an argument is outside its values, or `maps` fails, returns something else,
        or gives other names in a draw.
    InputError
        If `data` holds no Case or one twice, or a map has no value in the tumor.

    Notes
    -----
    `icc_voxel` is ICC(A,1) (McGraw & Wong 1996, see `icc`): rows are the voxels of one
    case that have a value in all draws of a perturbation, raters the map and the draws.
    Draws on a moved grid come to the voxels of the map by linear interpolation, which
    costs sharp maps some agreement; a value is used if at least 95 % of its weight is
    on voxels that have one.

    Of noise the raters are the draws alone (if there are two or more): each has the
    image's noise and as much again, so that a map of nothing but noise reads 0.5. A
    second scan has noise of its own and would agree with the first by about ``2 - 1 /
    icc_voxel``: half of that is asked for by ``repeatable(0.67)``.

    Voxels are no independent subjects, so the limits are those of `n_eff` subjects,
    not of all voxels: n^2 over the sum of squared autocorrelations of all pairs, of the
    mean over the raters or of the change from one to the next, whichever is less. The
    95 % limits covered the truth in 82 to 100 % of simulated Gaussian fields, least
    where structures are as large as the tumor. `icc_voxel` compares changes with the
    variety within this tumor: it is high where that is large.

    Cases are pooled by the median. A map is repeatable if the lower limit is >= 0.5 in
    each perturbation: Prior et al. (2024) kept 26 of 91 texture maps of lung tumors so
    and raised the Dice of habitats from .532 to .601. Perturbed images that the maps or
    the mask cannot be computed of are left out, with a note.

    Examples
    --------
    >>> import habitat
    >>> from habitat.reliability import map_precision
    >>> p = habitat.phantom(radius_mm=12, margin_mm=15)
    >>> case = habitat.Case("a", {"pet": p.pet, "ct": p.ct}, p.mask)
    >>> def own(images, mask):
    ...     return {"SUV": images["pet"]}
    >>> map_precision(case, own, perturbations=["noise"], repeats=1).repeatable()
    ('SUV',)
    """
    plan = Plan.of(perturbations, repeats, random_state)
    margin = at_least("margin_mm", margin_mm, 0)
    others = dict(variants or {})
    taken = [name for name in others if name in PERTURBATIONS]
    if taken:
        raise ConfigError(f"{taken[0]!r} is the name of a perturbation", "`variants`")
    warned: list[str] = []
    ratings = Ratings()
    for case_id, one in named_cases(data):
        with of_case(case_id):
            before = len(ratings.rows)
            trial = MapTrial.start(one, maps, noise, margin, plan, warned, ratings)
            for name in plan.names:
                for _ in trial.draws(name):
                    pass  # rated as they come
            for name, other in others.items():
                trial.compare(name, other)
            if len(ratings.rows) == before:
                what = f"no draw gave maps: {'; '.join(counted(warned))}"
                raise InputError(what)
    return precision(ratings, counted(warned))


@dataclass(frozen=True)
class Ratings:
    """What is kept of all cases."""

    rows: list[Row] = field(default_factory=list)
    averages: list[Row] = field(default_factory=list)


def precision(ratings: Ratings, notes: Sequence[str]) -> MapPrecision:
    """Make tables of the rows of all cases."""
    table, averages = pd.DataFrame(ratings.rows), pd.DataFrame(ratings.averages)
    cases = len({row["case"] for row in ratings.rows})
    if cases < MIN_CASES:
        text = f"no ICC of means: it needs {MIN_CASES} cases as subjects"
        notes = [*notes, f"{text}, there are {cases}"]
        return MapPrecision(table, pd.DataFrame(), tuple(notes))
    out: list[Row] = []
    keys = ["map", "perturbation"]
    for (name, label), rows in (
        averages.groupby(keys, sort=False) if len(averages) else ()
    ):
        wide = rows.pivot_table(index="case", columns="draw", values="mean")
        found = icc(wide.to_numpy())
        row = {"map": name, "perturbation": label}
        for short, one in (("a1", found.agreement), ("c1", found.consistency)):
            row |= {f"icc_{short}": one.value, f"{short}_low": one.low}
            row |= {f"{short}_high": one.high}
        out.append(row | {"subjects": found.subjects, "raters": found.raters})
    return MapPrecision(table, pd.DataFrame(out), tuple(notes))


# --- maps of one case -----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rated:
    """The voxels of a map at which it is compared."""

    box: npt.NDArray[np.bool_]  # the voxels that are compared, on their box
    spacing: tuple[float, float, float]
    points: Floats  # (n, 3) their centers, LPS mm
    values: Values  # (n,)


@dataclass(frozen=True, eq=False)
class MapTrial:
    """The maps of one case; rates those of its perturbed images against them."""

    case: Case  # the maps in place of the images
    function: MapFunction
    grids: OwnGrids
    rated: Mapping[str, _Rated]
    plan: Plan
    warned: list[str]
    ratings: Ratings

    @classmethod
    def start(
        cls,
        case: Any,
        function: MapFunction,
        noise: Mapping[str, float] | None,
        margin_mm: float,
        plan: Plan,
        warned: list[str],
        ratings: Ratings,
    ) -> MapTrial:
        if not isinstance(case, Case):
            what = f"maps are computed from the images of a Case, got {case!r:.60}"
            raise InputError(what, "`data`", "give habitat.Case(name, images, mask)")
        grids = quietly(OwnGrids.of, case, noise, margin_mm, warned=warned)
        images, mask = grids.unperturbed()
        maps = _maps_of(function, images, mask, "unperturbed", warned)
        rated = _rated(maps, mask)
        own = Case(case.case_id, maps, mask)
        return cls(own, function, grids, rated, plan, warned, ratings)

    def draws(self, name: str) -> Iterator[tuple[int, str, Case]]:
        """Yield the maps of each draw of one perturbation; then rate them."""
        found: list[dict[str, Values]] = []
        case_id, channels = self.case.case_id, len(self.grids.channels)
        for draw in self.plan.draws(case_id, name, channels, self.warned):
            images, mask, setting = self.grids.perturbed(name, draw)
            where = f"{name} ({setting})"
            try:
                maps = self._again(self.function, images, mask, where)
            except ConfigError:  # wrong use, not a tumor that became too small
                raise
            except HabitatError as error:
                self.warned.append(f"{where} was left out: {error}")
                continue
            found.append(self._at_voxels(maps))
            yield draw.number, setting, Case(case_id, maps, mask)
        if found:
            self._rate(name, found)

    def compare(self, name: str, function: MapFunction) -> None:
        """Rate the maps of another function of the unperturbed images."""
        images, mask = self.grids.unperturbed()
        where = f"variant {name!r}"
        self._rate(name, [self._at_voxels(self._again(function, images, mask, where))])

    def _again(
        self, function: MapFunction, images: dict[str, Image], mask: Image, where: str
    ) -> dict[str, Image]:
        maps = _maps_of(function, images, mask, where, self.warned)
        if set(maps) != set(self.rated):
            what = f"gave {', '.join(maps)}; before: {', '.join(self.rated)}"
            fix = "it must give the same maps of all images"
            raise ConfigError(what, f"{where}, `maps`", fix)
        return maps

    def _at_voxels(self, maps: Mapping[str, Image]) -> dict[str, Values]:
        return {name: _at(maps[name], one.points) for name, one in self.rated.items()}

    def _rate(self, name: str, found: list[dict[str, Values]]) -> None:
        known: dict[bytes, Lags] = {}  # most maps have the same voxels
        for key, one in self.rated.items():
            # all draws hold the image's own noise: with the map, which holds no other,
            # a map of noise alone would read .57
            own = [] if name == "noise" and len(found) > 1 else [one.values]
            ratings = np.stack([*own, *(f[key] for f in found)], axis=1)
            good = np.isfinite(ratings).all(axis=1)
            ratings = ratings[good].astype(np.float64)
            inside = one.box.copy()
            inside[one.box] = good
            keys = {"map": key, "perturbation": name, "case": self.case.case_id}
            worth = 0.0
            if good.any():
                of = repr((inside.shape, one.spacing)).encode() + inside.tobytes()
                if of not in known:
                    known[of] = Lags(inside, one.spacing)
                means, change = ratings.mean(axis=1), ratings[:, 1] - ratings[:, 0]
                worth = min(map(known[of].independent, (means, change)))
                self.ratings.averages.extend(
                    {**keys, "draw": i, "mean": mean}
                    for i, mean in enumerate(ratings.mean(axis=0))
                )
            value, low, high = icc(ratings, n_eff=worth).agreement
            row = {**keys, "draws": len(found), "icc_voxel": value}
            row |= {"low": low, "high": high, "n_eff": worth, "voxels": len(ratings)}
            self.ratings.rows.append(row)


def _maps_of(
    function: MapFunction,
    images: Mapping[str, Image],
    mask: Image,
    where: str,
    warned: list[str],
) -> dict[str, Image]:
    """Call the user's function; say in which draw what it returned is wrong."""
    if not callable(function):
        raise ConfigError(f"must be a function, got {function!r:.60}", "`maps`", _FIX)
    try:
        maps: Any = quietly(function, dict(images), mask, warned=warned)
    except HabitatError as error:
        place = f"{where}, {error.where}".removesuffix(", ")
        raise type(error)(error.what, place, error.fix) from error
    if not isinstance(maps, Mapping) or not maps:
        what = f"must return a mapping of name to Image, got {maps!r:.60}"
        raise ConfigError(what, f"{where}, `maps`", _FIX)
    raise_all(
        [
            ConfigError(
                f"must return an Image for each name, got {type(m).__name__}",
                f"{where}, `maps`, {name!r}",
                "habitat.Image(values, geometry)",
            )
            for name, m in maps.items()
            if not isinstance(m, Image)
        ]
    )
    return dict(maps)


def _rated(maps: Mapping[str, Image], mask: Image) -> dict[str, _Rated]:
    out = {}
    problems: list[HabitatError] = []
    seen: list[tuple[Geometry, npt.NDArray[np.bool_]]] = []  # grids and tumor on them
    for name, image in maps.items():
        grid = image.geometry
        tumor = next((t for g, t in seen if g.same_as(grid)), None)
        if tumor is None:
            tumor = coverage(mask, grid) >= 0.5 - 1e-9
            seen.append((grid, tumor))
        inside = tumor & np.isfinite(image.array)
        if not inside.any():
            what = f"has no value in the {np.count_nonzero(tumor)} voxels of the tumor"
            fix = "a map needs the geometry of the image that it was computed from"
            problems.append(InputError(what, f"map {name!r}", fix))
            continue
        points = grid.world(np.argwhere(inside))
        values = image.array[inside].astype(np.float32)
        box = inside[bounding_box(inside)]
        out[name] = _Rated(box, grid.spacing, points, values)
    raise_all(problems)
    return out


def _at(image: Image, points: Floats) -> Values:
    """Values at points, linear; NaN where voxels without one weigh more than 5 %."""
    index = image.geometry.index(points).T
    nearest = np.rint(index)
    index = np.where(np.abs(index - nearest) < 1e-5, nearest, index)
    good = np.isfinite(image.array)
    values = np.where(good, image.array, 0).astype(np.float64)
    total, weight = (
        ndimage.map_coordinates(a, index, order=1, mode="constant", cval=0.0)
        for a in (values, good.astype(np.float64))
    )
    out = np.full(len(points), np.nan, dtype=np.float32)
    use = weight >= _WEIGHT - 1e-9
    out[use] = total[use] / weight[use]
    return out

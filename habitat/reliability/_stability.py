"""stability(): what is left of a habitat map when the images change a little."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from habitat.agreement import adjusted_rand
from habitat.case import Case
from habitat.errors import ConfigError, HabitatError, InputError
from habitat.fitting import from_plain
from habitat.geometry import Floats
from habitat.image import Image
from habitat.reliability._agreement import bland_altman, icc, match, repeatability
from habitat.reliability._draws import Plan, counted, named_cases, of_case, quietly
from habitat.reliability._features import (
    MARGIN_MM,
    MIN_CASES,
    MapFunction,
    MapPrecision,
    MapTrial,
    Ratings,
    precision,
)
from habitat.reliability._perturb import PERTURBATIONS, Scene, noise_sds
from habitat.result import HabitatResult
from habitat.segmentation import segment_channels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from habitat.population import HabitatModel

Row: TypeAlias = dict[str, Any]
Again: TypeAlias = Callable[[Case], HabitatResult]
Drawn: TypeAlias = Iterator[tuple[int, str, Case]]  # number, what was done, images

_KEYS = ("case", "perturbation", "draw", "setting", "habitat", "dice", "ari")


@dataclass(frozen=True, eq=False, repr=False)
class Stability:
    """How habitats change under perturbations of the images.

    Attributes
    ----------
    table : DataFrame
        One row per case, perturbation, draw and habitat: case, perturbation, draw,
        setting (what was done, in words), habitat, dice, ari, volume_ml, fraction and
        ``mean_<channel>``. Perturbation "none" is the map itself.
    summary : DataFrame
        One row per perturbation ("all" for all of them) and habitat: cases, draws,
        median_dice, low_dice (10th percentile), median_ari; of the volumes: volume_ml
        (mean), within_sd_ml, rc_ml (repeatability coefficient), wcv, bias_ml,
        loa_low_ml and loa_high_ml (Bland-Altman, against the map itself).
    icc : DataFrame
        One row per perturbation, habitat and feature: icc_a1, a1_low, a1_high, icc_c1,
        c1_low, c1_high, subjects (cases), raters (the map itself and the draws). Empty
        where there is none; `notes` then says why.
    notes : tuple of str
        What a reader must know.
    features : MapPrecision, optional
        Which maps are repeatable; None without `maps`.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    icc: pd.DataFrame
    notes: tuple[str, ...]
    features: MapPrecision | None = None

    def __repr__(self) -> str:
        cases = self.table["case"].nunique()
        own = self.table[self.table["perturbation"] != "none"]
        draws = len(own[["perturbation", "draw"]].drop_duplicates())
        dice, ari = own["dice"].median(), own["ari"].median()
        head = f"Stability of {cases} case{'s' if cases > 1 else ''}, {draws} draws"
        return f"{head}: median Dice {dice:.2f}, ARI {ari:.2f}"

    def plot(self) -> Figure:
        """Draw Dice per perturbation and habitat and, if there are any, the ICC.

        Returns
        -------
        matplotlib.figure.Figure
            A dot is one draw of one case, a bar their median. ICC: of all perturbations
            together; filled ICC(A,1) with its interval, hollow ICC(C,1).
        """
        from habitat.plotting._stability import plot_stability

        return plot_stability(self.table, self.icc)


def stability(
    data: HabitatResult | Case | Sequence[HabitatResult | Case],
    *,
    model: HabitatModel | None = None,
    maps: MapFunction | None = None,
    perturbations: Sequence[str] = tuple(PERTURBATIONS),
    repeats: int = 3,
    noise: Mapping[str, float] | None = None,
    random_state: int = 0,
) -> Stability:
    """Perturb the images, segment anew and compare with the map.

    Parameters
    ----------
    data : HabitatResult, Case or a sequence of them
        A result is perturbed on its own grid (tumor and 10 mm around it) and segmented
        anew with its own settings. A Case is segmented first, by `model` or with the
        defaults of `segment`.
    model : HabitatModel, optional
        Segments all, the unperturbed images too; habitats then keep their numbers.
    maps : callable, optional
        ``f(images, mask) -> {name: map}``, called with the images (channel to Image)
        and the mask of a Case: the maps are segmented in place of the images. For each
        draw the original images are perturbed and the maps computed anew. See
        `map_precision`, which does the same without segmenting.
    perturbations : sequence of str
        "noise": added to every channel, see `noise`. "shift": the grid moves by .25, .5
        or .75 voxel along all axes; "rotation": it turns by +-0.5 degrees about the
        slice axis; images and mask together. "mask": one voxel smaller, one larger.
        "misregistration": the first channel moves 1 to 3 mm, in any direction, against
        all others and the mask.
    repeats : int, 1 to 100
        Draws of each perturbation; at most 2 of rotation and mask, which have no more.
    noise : mapping of str to float, optional
        Channel to standard deviation of its noise in its unit, at the tumor mean; those
        not given are estimated, see `noise_sd`. Noise of SUV is correlated (Gaussian,
        FWHM 6 mm) and grows as the root of the local mean, all other is white.
    random_state : int
        Seed. A case gets the same draws whatever other cases and perturbations there
        are.

    Returns
    -------
    Stability
        With the tables `table`, `summary` and `icc`, and `plot()`.

    Raises
    ------
    ConfigError
        If an argument is outside its values, or a result cannot be segmented anew
        because its method or scaling was a function or its map came from a model.
    InputError
        If `data` holds nothing, something else, or a case twice.

    Notes
    -----
    The new map is brought to the voxels of the old one by nearest neighbor; Dice and
    adjusted Rand index are of the voxels in both masks, after pairing the habitats that
    overlap most (Hungarian method; not with a model). So a shift by part of a voxel
    costs Dice at every border even where nothing changed, most on a coarse grid, and a
    mask that grows or shrinks shows in the volumes (with a model in them alone: no
    other voxel changes its habitat). For comparison: Prior et al. (2024) report a
    median Dice of .532 for habitats of lung tumors by a Gaussian mixture, .601 with
    repeatable features only.

    Intraclass correlations need subjects: cases, at least 10 of them, with one model so
    that a habitat is the same tissue in each. Habitats of one patient are no subjects.

    Perturbations after Zwanenburg et al. (Sci Rep 2019;9:614), misregistration after Wu
    et al. 2016. Warnings of the segmentations are in the notes, counted.

    Examples
    --------
    >>> import habitat
    >>> from habitat.reliability import stability
    >>> case = habitat.phantom(noise=0.5)
    >>> result = habitat.segment(case.pet, case.ct, case.mask, k=4)
    >>> found = stability(result, perturbations=["rotation"])
    >>> bool(found.summary["median_dice"].min() > 0.7)
    True
    """
    if model is not None and not hasattr(model, "segment"):
        what = f"must be a HabitatModel, got {model!r:.60}"
        raise ConfigError(what, "`model`", "read it: habitat.HabitatModel.load(path)")
    plan = Plan.of(perturbations, repeats, random_state)
    rows: list[Row] = []
    warned: list[str] = []
    ratings = Ratings()
    for case_id, one in named_cases(data):
        with of_case(case_id):
            if maps is None:
                trial = _Trial.start(case_id, one, model, noise, plan, warned)
            else:
                own = MapTrial.start(one, maps, noise, MARGIN_MM, plan, warned, ratings)
                trial = _Trial.of_maps(own, model, warned)
            rows += trial.rows("none", 0, "", trial.base)
            drawn = [row for name in plan.names for row in trial.perturbed(name)]
            if not drawn:
                what = f"no draw could be segmented: {'; '.join(counted(warned))}"
                raise InputError(what)
        rows += drawn
    table = pd.DataFrame(rows)
    notes = [*counted(warned), *_missing_icc(table, model)]
    found = pd.DataFrame() if _missing_icc(table, model) else _icc_table(table)
    features = precision(ratings, ()) if maps else None
    return Stability(table, _summary(table), found, tuple(notes), features)


# --- one case -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Trial:
    """One case: its map, how to segment it anew, and what was warned of meanwhile."""

    case_id: str
    base: HabitatResult
    draws: Callable[[str], Drawn]
    again: Again
    numbered: bool  # by a model: habitats keep their numbers
    warned: list[str]

    @classmethod
    def start(
        cls,
        case_id: str,
        data: HabitatResult | Case,
        model: HabitatModel | None,
        noise: Mapping[str, float] | None,
        plan: Plan,
        warned: list[str],
    ) -> _Trial:
        again: Again = _segmented if model is None else model.segment
        if isinstance(data, Case):
            data = quietly(again, data, warned=warned)
        elif model is not None:
            case = Case(case_id, _as_given(data, data.images), _tumor(data))
            data = quietly(again, case, warned=warned)
        if model is None:
            again = partial(_segmented, **_settings(data))
        mask = _tumor(data)
        scene = Scene(data.images, mask, noise_sds(data.images, mask.array, noise))
        draws = partial(_drawn, scene, data, case_id, plan, warned)
        return cls(case_id, data, draws, again, model is not None, warned)

    @classmethod
    def of_maps(
        cls, maps: MapTrial, model: HabitatModel | None, warned: list[str]
    ) -> _Trial:
        again: Again = _segmented if model is None else model.segment
        base = quietly(again, maps.case, warned=warned)
        if model is None:
            again = partial(_segmented, **_settings(base))
        return cls(
            maps.case.case_id, base, maps.draws, again, model is not None, warned
        )

    def perturbed(self, name: str) -> Iterator[Row]:
        """Rows of all draws of one perturbation; a draw that fails is noted."""
        for number, setting, case in self.draws(name):
            try:
                result = quietly(self.again, case, warned=self.warned)
                yield from list(self.rows(name, number, setting, result))
            except HabitatError as error:
                self.warned.append(f"{name} ({setting}) was left out: {error}")

    def rows(
        self, name: str, draw: int, setting: str, result: HabitatResult
    ) -> Iterator[Row]:
        """One row per habitat of the base: how it agrees, what it measures now."""
        box = self.base.box
        old = self.base.labels[box]
        new = result.on(self.base.geometry.crop(box)).array
        both = (old > 0) & (new > 0)
        k = max(self.base.k, result.k)
        partner, dice = match(old[both], new[both], k, numbered=self.numbered)
        ari = adjusted_rand(old[both], new[both])
        measures = _measures(result, k)
        for h, other in enumerate(partner[: self.base.k]):
            keys = (self.case_id, name, draw, setting, h + 1, dice[h], ari)
            row = dict(zip(_KEYS, keys, strict=True))
            yield row | {m: v[other - 1] for m, v in measures.items()}


def _drawn(
    scene: Scene,
    base: HabitatResult,
    case_id: str,
    plan: Plan,
    warned: list[str],
    name: str,
) -> Drawn:
    for draw in plan.draws(case_id, name, len(scene.images), warned):
        images, mask, setting = PERTURBATIONS[name](scene, draw)
        yield draw.number, setting, Case(case_id, _as_given(base, images), mask)


def _tumor(result: HabitatResult) -> Image:
    """Mask on the box; not `labels > 0`: a voxel without a value is in it too."""
    return Image(result.depth_mm > 0, result.geometry.crop(result.box))


def _as_given(result: HabitatResult, images: Mapping[str, Image]) -> dict[str, Image]:
    """Images under the names of their channels in the call: "pet" is "SUVbw" after."""
    return dict(zip(result.params["channels"], images.values(), strict=True))


def _settings(result: HabitatResult) -> dict[str, Any]:
    """Arguments that segment the images of a result as it was."""
    arguments = result.params["arguments"]
    if arguments.get("model"):
        raise ConfigError("was segmented by a model", "`data`", "give it as `model`")
    names = ("method", "scaling", "rim_mm", "smoothness", "random_state")
    own = {name: from_plain(arguments[name]) for name in names}
    lost = [name for name, value in own.items() if isinstance(value, dict)]
    if lost:
        what = f"its {' and '.join(lost)} was a function, which no result keeps"
        fix = "segment with a named one, or give `model`"
        raise ConfigError(what, "`data`", fix)
    k = arguments["k"]
    own["k"] = result.quality["choice"]["k"] if k == "auto" else k
    if own["k"] == 1:
        what = "has one habitat: there is no border that could move"
        raise InputError(what, "`data`", "segment with k of 2 or more")
    return own


def _segmented(case: Case, **settings: Any) -> HabitatResult:
    return segment_channels(case.images, case.mask, label=case.label, **settings)


def _measures(result: HabitatResult, k: int) -> dict[str, Floats]:
    labels = result.labels[result.box].ravel()
    counts = np.bincount(labels, minlength=k + 1)[1:].astype(np.float64)
    out = {"volume_ml": counts * result.geometry.voxel_ml}
    out["fraction"] = counts / counts.sum()
    for channel, image in result.images.items():
        own = (labels > 0) & np.isfinite(image.array.ravel())  # a map may lack some
        counts = np.bincount(labels[own], minlength=k + 1)[1:].astype(np.float64)
        counts[counts == 0] = np.nan
        values = image.array.ravel()[own]
        sums = np.bincount(labels[own], weights=values, minlength=k + 1)[1:]
        out[f"mean_{channel}"] = sums / counts
    return out


# --- tables ---------------------------------------------------------------------------


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Rows of each perturbation, then of all, by habitat, with the map itself."""
    names = [p for p in table["perturbation"].unique() if p != "none"]
    for name in [*names, "all"] if len(names) > 1 else names:
        chosen = table
        if name != "all":
            chosen = table[table["perturbation"].isin(("none", name))]
        for habitat, rows in chosen.groupby("habitat"):
            yield name, int(str(habitat)), rows


def _wide(rows: pd.DataFrame, feature: str) -> pd.DataFrame:
    """Cases by draws; the map itself is the first column."""
    keys = rows["perturbation"].where(rows["perturbation"] != "none", "")
    wide: pd.DataFrame = rows.assign(perturbation=keys).pivot_table(
        index="case", columns=["perturbation", "draw"], values=feature
    )
    return wide


def _summary(table: pd.DataFrame) -> pd.DataFrame:
    out: list[Row] = []
    for name, habitat, rows in _groups(table):
        new = rows[rows["perturbation"] != "none"]
        wide = _wide(rows, "volume_ml").to_numpy()
        repeated = repeatability(wide)
        draws = wide[:, 1:]
        limits = bland_altman(np.repeat(wide[:, 0], draws.shape[1]), draws.ravel())
        out.append(
            {
                "perturbation": name,
                "habitat": habitat,
                "cases": new["case"].nunique(),
                "draws": len(new),
                "median_dice": new["dice"].quantile(0.5),  # median() may warn of NaN
                "low_dice": new["dice"].quantile(0.1),
                "median_ari": new["ari"].median(),
                "volume_ml": np.nanmean(wide),
                "within_sd_ml": repeated.within_sd,
                "rc_ml": repeated.coefficient,
                "wcv": repeated.wcv,
                "bias_ml": limits.value,
                "loa_low_ml": limits.low,
                "loa_high_ml": limits.high,
            }
        )
    made: pd.DataFrame = pd.DataFrame(out)
    return made


def _missing_icc(table: pd.DataFrame, model: HabitatModel | None) -> list[str]:
    """Say why there is no ICC; nothing if there is one."""
    cases = table["case"].nunique()
    if cases < MIN_CASES:
        return [f"no ICC: it needs {MIN_CASES} cases as subjects, there are {cases}"]
    if model is None:
        text = "no ICC: without a model habitats of two cases are not the same tissue"
        return [f"{text}; give `model`, a HabitatModel"]
    return []


def _icc_table(table: pd.DataFrame) -> pd.DataFrame:
    features = [c for c in table.columns if c not in _KEYS]
    out: list[Row] = []
    for name, habitat, rows in _groups(table):
        for feature in features:
            found = icc(_wide(rows, feature).to_numpy())
            row = {"perturbation": name, "habitat": habitat, "feature": feature}
            for short, one in (("a1", found.agreement), ("c1", found.consistency)):
                row |= {f"icc_{short}": one.value, f"{short}_low": one.low}
                row |= {f"{short}_high": one.high}
            out.append(row | {"subjects": found.subjects, "raters": found.raters})
    made: pd.DataFrame = pd.DataFrame(out)
    return made

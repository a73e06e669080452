"""Habitats between thresholds: Otsu's, or the user's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from habitat._check import integer, keep
from habitat.clustering._clusters import Clustering
from habitat.errors import ConfigError, HabitatError, InputError, raise_all
from habitat.kernels.otsu import otsu_cuts

__all__ = ["OtsuOptions", "Thresholds", "otsu"]

_MOST = 5  # levels of a channel
_WORDS = {2: ("low", "high"), 3: ("low", "mid", "high")}
_F64 = npt.NDArray[np.float64]
_U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The rule of threshold habitats: one number for each combination of levels.

    Numbers are fixed, the first channel counts most: with PET and CT and one cut each,
    0 is PETlow-CTlow, 1 PETlow-CThigh, 2 PEThigh-CTlow and 3 PEThigh-CThigh.

    Parameters
    ----------
    cuts : tuple of arrays
        Ascending cuts of each channel; a value above a cut is in the upper level.

    Examples
    --------
    >>> rule = Thresholds((np.array([4.0]), np.array([30.0])))
    >>> rule.labels(np.array([[4.0, 30.0], [4.0, 31.0], [9.0, 30.0]])).tolist()
    [0, 1, 2]
    >>> rule.terms(["PET", "CT"])
    ('PETlow-CTlow', 'PETlow-CThigh', 'PEThigh-CTlow', 'PEThigh-CThigh')
    """

    cuts: tuple[_F64, ...]

    @property
    def k(self) -> int:
        """Number of combinations."""
        return math.prod(len(c) + 1 for c in self.cuts)

    def labels(self, X: npt.NDArray[Any]) -> _U8:
        """Combination 0..k-1 of each row of X (n, channels), natural units."""
        code = np.zeros(len(X), np.int64)
        for column, cuts in zip(np.asarray(X).T, self.cuts, strict=True):
            code = code * (len(cuts) + 1) + np.searchsorted(cuts, column)
        return code.astype(np.uint8)

    def take(self, order: npt.NDArray[np.intp]) -> Thresholds:
        """Return the rule itself: its numbers are fixed, `order` must be 0..k-1."""
        if not np.array_equal(order, np.arange(self.k)):
            raise ConfigError("combinations of levels cannot be renumbered", "`order`")
        return self

    def terms(self, names: Sequence[str]) -> tuple[str, ...]:
        """Words for each number: low, high; low, mid, high; or 1, 2, 3, 4, ..."""
        terms = [""]
        for name, cuts in zip(names, self.cuts, strict=True):
            levels = len(cuts) + 1
            words = _WORDS.get(levels, tuple(map(str, range(1, levels + 1))))
            terms = [f"{t}-{name}{w}".lstrip("-") for t in terms for w in words]
        return tuple(terms)


@dataclass(frozen=True)
class OtsuOptions:
    """Options of threshold habitats: levels of each channel, and where they are cut.

    Called with ``(X, k, rng)`` it is the method itself; X is in natural units.

    Parameters
    ----------
    levels : int or tuple of int, 2 to 5
        Levels of every channel, or of each. Two levels of PET and CT give the four
        quadrants.
    thresholds : mapping of str to float or sequence of float, optional
        Channel name ("pet" and "ct" in `segment`) to ascending cuts, in natural units;
        it then has one level more than cuts, whatever `levels` says. A channel not
        named is cut by `otsu`.

    Examples
    --------
    >>> OtsuOptions(thresholds={"pet": 4.0})
    OtsuOptions(levels=2, thresholds={'pet': (4.0,)})
    """

    levels: int | tuple[int, ...] = 2
    thresholds: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.levels, (tuple, list)):
            each = tuple(integer("levels", level, 2, _MOST) for level in self.levels)
            keep(self, levels=each)
        else:
            keep(self, levels=integer("levels", self.levels, 2, _MOST))
        if self.thresholds is not None:
            keep(self, thresholds=_checked_cuts(self.thresholds))

    def channel_levels(self, names: Sequence[str]) -> tuple[int, ...]:
        """Levels of each channel; raise ConfigError if the options do not fit them."""
        given = self.thresholds or {}
        unknown = [c for c in given if c not in names]
        if unknown:
            what = f"names {unknown}, the channels are {list(names)}"
            raise ConfigError(what, "`thresholds`", f"use {' or '.join(names)}")
        each = self.levels
        if isinstance(each, int):
            each = (each,) * len(names)
        if len(each) != len(names):
            what = f"must be one number or one for each channel {list(names)}"
            raise ConfigError(f"{what}, got {each}", "`levels`")
        return tuple(
            len(given[c]) + 1 if c in given else level
            for c, level in zip(names, each, strict=True)
        )

    def check(self, k: int, names: Sequence[str]) -> None:
        """Raise ConfigError unless these options cut these channels into k habitats."""
        each = self.channel_levels(names)
        found = math.prod(each)
        if found != k or found > 255:
            shown = str(each[0]) if len(set(each)) == 1 else " x ".join(map(str, each))
            channels = f"{len(each)} channel{'s' if len(each) > 1 else ''}"
            what = f"method 'otsu' with {shown} levels in {channels} gives {found}"
            fix = f"use k={found}, or other levels in OtsuOptions"
            raise ConfigError(f"{what} habitats, got k={k}", "`k`", fix)

    def fit(
        self,
        X: npt.NDArray[Any],
        names: Sequence[str],
        sample_weight: npt.ArrayLike | None = None,
    ) -> Clustering:
        """Cut the channels of rows.

        Parameters
        ----------
        X : (n, channels) array
            Rows in natural units, finite.
        names : sequence of str
            Names of the channels.
        sample_weight : (n,) array, optional
            Weight of each row, for example so that all patients weigh the same.

        Returns
        -------
        Clustering
            With a `Thresholds` rule. The center of a combination that no row has is
            NaN; centers and objective are weighted.

        Raises
        ------
        ConfigError
            If a channel has fewer distinct values than levels, or the options do not
            fit the channels.
        InputError
            If X is not finite.
        """
        rows = np.asarray(X, dtype=np.float64)
        given = self.thresholds or {}
        cuts: list[_F64] = []
        problems: list[HabitatError] = []
        for j, (c, levels) in enumerate(
            zip(names, self.channel_levels(names), strict=True)
        ):
            try:
                if c in given:
                    cuts.append(np.array(given[c]))
                else:
                    where = f"channel {j} ({c})"
                    cuts.append(_cuts(rows[:, j], levels, sample_weight, where))
            except HabitatError as error:
                problems.append(error)
        raise_all(problems)
        rule = Thresholds(tuple(cuts))
        labels = rule.labels(rows)
        centers, objective = _spread(rows, labels, rule.k, sample_weight)
        return Clustering(labels, centers, objective, 0, True, rule)

    def __call__(
        self, X: npt.NDArray[Any], k: int, _rng: np.random.Generator
    ) -> Clustering:
        names = [f"channel {j}" for j in range(np.shape(X)[1])]
        self.check(k, names)
        return self.fit(X, names)


def otsu(
    x: npt.ArrayLike, levels: int = 2, *, sample_weight: npt.ArrayLike | None = None
) -> _F64:
    """Cuts with the largest variance between the levels, from the values themselves.

    Parameters
    ----------
    x : (n,) array
        Values, finite.
    levels : int, 2 to 5
        Number of levels.
    sample_weight : (n,) array, optional
        Weight of each value, not negative.

    Returns
    -------
    (levels - 1,) array
        Ascending; each lies halfway between neighboring values. A value above a cut is
        in the upper level.

    Raises
    ------
    ConfigError
        If there are fewer distinct values than levels.
    InputError
        If values or weights are not finite, or a weight is negative.

    Notes
    -----
    Otsu (IEEE Trans SMC 1979;9:62) on the sorted values, without a histogram: the
    global optimum for any number of levels, the same as that of K-means in one
    dimension. Of equal optima (to 1e-12 of the variance) the lowest last cut is taken.

    Examples
    --------
    >>> otsu([1.0, 2.0, 9.0, 10.0, 30.0], 3).tolist()
    [5.5, 20.0]
    """
    return _cuts(np.ravel(x), integer("levels", levels, 2, _MOST), sample_weight, "`x`")


def _cuts(
    x: npt.NDArray[Any], levels: int, sample_weight: npt.ArrayLike | None, where: str
) -> _F64:
    values, weight = _distinct(np.asarray(x, dtype=np.float64), sample_weight, where)
    if len(values) < levels:
        what = f"{len(values)} distinct values cannot be cut into {levels} levels"
        raise ConfigError(what, where, "use fewer levels, or thresholds")
    scaled = np.ldexp(values, -int(np.frexp(np.abs(values).max())[1]) - 1)  # exact
    scaled -= (weight * scaled).sum() / weight.sum()
    scaled /= np.abs(scaled).max()
    below = np.empty(levels - 1, np.int64)
    otsu_cuts(scaled, weight, below)
    low, high = values[below - 1], values[below]
    middle = low / 2 + high / 2
    return np.where((low <= middle) & (middle < high), middle, low)


def _distinct(
    x: _F64, sample_weight: npt.ArrayLike | None, where: str
) -> tuple[_F64, _F64]:
    """Distinct values, ascending, and their weight, for any order of the rows."""
    weight = np.ones(len(x)) if sample_weight is None else np.ravel(sample_weight)
    weight = weight.astype(np.float64, copy=False)
    if weight.shape != x.shape:
        what = f"must be {len(x)} numbers, got {len(weight)}"
        raise InputError(what, "`sample_weight`")
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise InputError(f"{bad} values are not finite", where, "drop them first")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError("must be finite and not negative", "`sample_weight`")
    if sample_weight is None:
        values, count = np.unique(x, return_counts=True)
        return values, count.astype(np.float64)
    used = weight > 0
    x, weight = x[used], weight[used]
    order = np.lexsort((weight, x))
    x, weight = x[order], weight[order]
    first = np.flatnonzero(np.append(True, x[1:] != x[:-1])[: len(x)])
    return x[first], np.add.reduceat(weight, first) if len(x) else weight


def _checked_cuts(thresholds: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Return the user's cuts as plain numbers; raise all problems at once."""
    if not isinstance(thresholds, Mapping):
        what = f"must map channel names to cuts, got {thresholds!r:.60}"
        raise ConfigError(what, "`thresholds`")
    plain, problems = {}, []
    for name, given in thresholds.items():
        try:
            cuts = np.atleast_1d(np.asarray(given, dtype=np.float64))
            good = cuts.ndim == 1 and 1 <= len(cuts) < _MOST
            good = good and bool(np.isfinite(cuts).all() and (np.diff(cuts) > 0).all())
        except (TypeError, ValueError):
            good = False
        if good:
            plain[name] = tuple(cuts.tolist())
        else:
            what = f"must be 1 to {_MOST - 1} ascending numbers, got {given!r:.60}"
            problems.append(ConfigError(what, f"`thresholds` of {name!r}"))
    raise_all(problems)
    return plain


def _spread(
    X: _F64, labels: _U8, k: int, sample_weight: npt.ArrayLike | None
) -> tuple[_F64, float]:
    """Mean of each label's rows, NaN without rows, and the squares about them."""
    weight = np.ones(len(X)) if sample_weight is None else np.ravel(sample_weight)
    total = np.bincount(labels, weight, k)
    total[total == 0] = np.nan
    sums = [np.bincount(labels, weight * column, k) for column in X.T]
    centers = np.stack(sums, axis=1) / total[:, None]
    used = weight > 0
    squares = ((X[used] - centers[labels[used]]) ** 2).sum(axis=1)
    return centers, float((weight[used] * squares).sum())

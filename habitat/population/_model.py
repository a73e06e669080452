"""HabitatModel: one definition of habitats for a cohort."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from habitat._check import at_least, instance
from habitat.case import Case
from habitat.clustering import Method, Potts, Thresholds
from habitat.errors import CohortError, HabitatError, ModelError
from habitat.fitting import (
    Fit,
    Settings,
    assign,
    check_settings,
    comparable,
    means,
    rows_of,
    separation,
)
from habitat.population._learn import FileStore, Store, learn
from habitat.population._match import matched, renumbered
from habitat.population._saving import hash_model, read_model, write_model
from habitat.result import HabitatResult
from habitat.segmentation import assemble
from habitat.tumor import Tumor, open_case, prepare
from habitat.voxels import Fit as Scaling
from habitat.voxels import GridChoice, Shifted


class HabitatModel(TransformerMixin, BaseEstimator):
    """One definition of habitats, learned over cases, for old and new patients alike.

    Every case has the same weight, whatever its volume. Habitat numbers mean the same
    in every case that the model segments; a habitat that a case does not have stays
    empty.

    Parameters
    ----------
    k : int, 2 to 20, or "auto"
        Number of habitats; "auto" chooses it on the cases of `fit`, at least four
        patients (see `choose_k`; before any patient is shifted), and may say 1.
    method : {"kmeans", "gmm", "otsu", "supervoxel"}, options object or callable
        As in `segment`. A callable must return a `habitat.clustering.Clustering` with
        a rule; it is fitted to the sample of voxels described below.
    scaling : {"zscore", "log", "robust", "window", "rank", "none"} or callable
        Learned on the cases of `fit`, not on each patient.
    grid, smoothness, rim_mm, random_state
        As in `segment`.
    patient_shift : bool
        Whether each tumor is moved as a whole, in scaled channels, to where it fits the
        habitats best, in `fit` and in `segment`. False compares absolute SUV and HU, as
        published studies do: a tumor that is cold throughout has cold habitats only.
        True takes out what differs between patients and scanners as a whole; with
        ``scaling="log"`` that is a factor of SUV.

    Attributes
    ----------
    k_ : int
        Number of habitats.
    channels_ : tuple of str
        Names of the channels, such as ``("SUVbw", "HU")``.
    units_ : tuple of str or None
        Their units.
    centers_ : array of shape (k_, channels)
        Mean of each habitat over the cases of `fit`, natural units.
    medians_, sds_ : arrays of shape (channels,)
        Median and standard deviation of each channel over the cases, natural units;
        "high" and "low" in the names of habitats refer to the median.
    n_cases_, n_iter_, converged_, objective_
        Cases, iterations over all of them, whether the last one changed next to
        nothing, and before it the mean squared distance (of a mixture the mean
        log-likelihood) of the scaled voxels, each case with the same weight; of other
        methods the objective of the fit to sample or supervoxels.
    choice_ : dict or None
        Of k="auto": every criterion, as in ``HabitatResult.quality["choice"]``.

    Notes
    -----
    K-means and mixtures see all voxels: each iteration reads one case after the other
    and adds up its sums, divided by its number of voxels, exactly (so that the order of
    the cases cannot change a bit); the voxels wait in a temporary folder. Scaling,
    start, the thresholds of Otsu's method and methods of your own are learned on a
    sample, 2,000 voxels a case at even steps through its sorted voxels (above 100 cases
    200,000 of all together, but at least 20 a case). Supervoxels of all cases are
    clustered together. Weights: sum over cases i and voxels v of
    ``|x_iv - c|^2 / n_i``.

    Everything is learned in `fit`, so a model inside a scikit-learn pipeline is
    learned anew in each fold of a cross-validation.

    Examples
    --------
    >>> import habitat
    >>> ps = [habitat.phantom(random_state=s) for s in range(3)]
    >>> cases = [
    ...     habitat.Case(f"case-{i}", {"pet": p.pet, "ct": p.ct}, p.mask)
    ...     for i, p in enumerate(ps)
    ... ]
    >>> model = habitat.HabitatModel(k=4).fit(cases[:2])
    >>> model.segment(cases[2]).k
    4
    """

    def __init__(
        self,
        k: int | str = 4,
        *,
        method: str | Method = "kmeans",
        scaling: str | Scaling = "zscore",
        grid: GridChoice = "coarsest",
        smoothness: float | Potts = 0.0,
        rim_mm: float = 0.0,
        patient_shift: bool = False,
        random_state: int = 0,
    ) -> None:
        self.k = k
        self.method = method
        self.scaling = scaling
        self.grid = grid
        self.smoothness = smoothness
        self.rim_mm = rim_mm
        self.patient_shift = patient_shift
        self.random_state = random_state

    def fit(self, cases: Sequence[Case], y: Any = None) -> HabitatModel:
        """Learn habitats from cases.

        Parameters
        ----------
        cases : sequence of Case
            All with the same channels. Their order does not matter.
        y : ignored
            For pipelines.

        Returns
        -------
        HabitatModel
            The model itself.

        Raises
        ------
        CohortError
            With the reason for each case that cannot be used.
        """
        given = _check_cases(cases)
        settings = self.settings_for(list(given[0].images))
        with tempfile.TemporaryDirectory(prefix="habitat-") as folder:
            return self.fit_store(FileStore(given, settings, Path(folder)), settings)

    def fit_store(self, store: Store, settings: Settings) -> HabitatModel:
        """Learn habitats from voxels that were read before; see `fit`."""
        learned = learn(store, settings)
        for field in fields(learned):
            setattr(self, f"{field.name}_", getattr(learned, field.name))
        return self

    def settings_for(self, channels: list[str]) -> Settings:
        """Check all arguments for the channels of the cases."""
        return check_settings(channels, label=None, **self.get_params(deep=False))

    def segment(self, case: Case) -> HabitatResult:
        """Give each voxel of a case its habitat; nothing is fitted.

        Parameters
        ----------
        case : Case
            With the channels of the model.

        Returns
        -------
        HabitatResult
            Its numbers are the model's; its centers are the means of this tumor's
            voxels, NaN for a habitat that it does not have.

        Raises
        ------
        ModelError
            If the channels or their units are not those of the model.
        """
        return self.segment_tumor(*self.tumor_of(case))

    def tumor_of(self, case: Case) -> tuple[Tumor, Settings]:
        """Read a case and bring it onto its grid; see `segment`."""
        check_is_fitted(self)
        instance("case", case, Case, "wrap its images: habitat.Case(id, images, mask)")
        settings = self.settings_for(list(case.images))
        inputs, names = open_case(case.images, case.mask, case.label)
        problem = _foreign(self, names, [inputs.images[c].unit for c in names])
        if problem:
            raise problem
        rim = settings.rim_mm if settings.patient_shift else 0.0  # it has no say
        tumor = prepare(inputs, names, settings.grid, rim, 0)
        return tumor, replace(settings, label=case.label)

    def segment_tumor(self, tumor: Tumor, settings: Settings) -> HabitatResult:
        """Give each voxel of a prepared tumor its habitat; see `segment`."""
        rows, parts = rows_of(tumor, self.definition_.scaling, settings)
        labels, posterior, notes = assign(tumor, self.definition_, rows, parts)
        units = [image.unit for image in tumor.on.images.values()]
        notes += self.choice_["notes"] if self.choice_ else []
        found = Fit(
            self.definition_,
            labels,
            posterior,
            means(tumor.X, labels, self.k_),
            separation(comparable(tumor.X, self.definition_, units), labels),
            notes,
        )
        return assemble(tumor, found, replace(settings, k=self.k_), model=self.sha256)

    def transform(self, cases: Sequence[Case]) -> list[HabitatResult]:
        """Segment each case; see `segment`. An error names the case."""
        return [self._named(case) for case in _check_cases(cases)]

    def _named(self, case: Case) -> HabitatResult:
        try:
            return self.segment(case)
        except HabitatError as error:
            where = f"case {case.case_id}, {error.where}".removesuffix(", ")
            raise type(error)(error.what, where, error.fix) from error

    def align(
        self, result: HabitatResult, *, max_distance: float | None = None
    ) -> HabitatResult:
        """Give the habitats of a map of its own the numbers of this model.

        Parameters
        ----------
        result : HabitatResult
            A map that was fitted to one tumor, with the model's channels.
        max_distance : float, in scaled units, optional
            A habitat farther than this from its match is "unmatched". Half the smallest
            distance between two of the model's centers if it is not given.

        Returns
        -------
        HabitatResult
            The same map, renumbered: 1..k_ as in the model, then the unmatched ones,
            each named in the notes.

        Raises
        ------
        ModelError
            If the channels or their units are not those of the model.

        Notes
        -----
        The matching has the least sum of squared distances between the centers, scaled
        by the model's scaling (Hungarian method). A distance beyond `max_distance`
        counts as just that, so that a foreign habitat cannot push the others away.
        """
        check_is_fitted(self)
        instance("result", result, HabitatResult, "segment the case first")
        units = [image.unit for image in result.images.values()]
        problem = _foreign(self, {c: c for c in result.images}, units)
        if problem:
            raise problem
        if max_distance is not None:
            max_distance = at_least("max_distance", max_distance, 0.0)
        scaling = self.definition_.scaling
        if isinstance(self.definition_.rule, Thresholds):
            scaling = Shifted(self.medians_, self.sds_)  # it has none of its own
        own, goal = scaling(result.centers), scaling(self.centers_)
        if max_distance is None:
            apart = pdist(goal[np.isfinite(goal).all(axis=1)])
            max_distance = 0.5 * float(apart.min()) if apart.size else np.inf
        match = matched(own, goal, max_distance)
        return renumbered(result, match, self.definition_.terms, self.sha256)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model as JSON and .npz; the same model gives the same bytes.

        Parameters
        ----------
        folder : path
            Made if it does not exist; an earlier model in it is replaced.

        Returns
        -------
        pathlib.Path
            The folder, with ``model.json`` and ``arrays.npz``.

        Raises
        ------
        ModelError
            If the model is not fitted, or its method or scaling is a function of your
            own, which no file can hold.
        InputError
            If the folder holds other files or cannot be written.
        """
        check_is_fitted(self)
        return write_model(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> HabitatModel:
        """Read a model that `save` wrote.

        Raises
        ------
        ModelError
            If the folder is not a saved model, of a newer version, or was changed.
        """
        model: HabitatModel = read_model(cls, Path(folder).expanduser())
        return model

    @property
    def sha256(self) -> str:
        """Hash of everything learned; the same for the same cases in any order."""
        return hash_model(self)


def _check_cases(cases: Any) -> list[Case]:
    given = list(cases) if np.iterable(cases) else [cases]
    if not given or not all(isinstance(case, Case) for case in given):
        found = next(
            (type(c).__name__ for c in given if not isinstance(c, Case)), "none"
        )
        raise CohortError(f"must be a list of habitat.Case, got {found}", "`cases`")
    return given


def _foreign(
    model: HabitatModel, names: Mapping[str, str], units: Sequence[str | None]
) -> ModelError | None:
    """The channels of a case must be those of the model, in its order."""
    found = dict(zip(names.values(), units, strict=True))
    learned = dict(zip(model.channels_, model.units_, strict=True))
    if list(found.items()) == list(learned.items()):
        return None
    what = f"has channels (unit) {found}, the model {learned}"
    return ModelError(what, "case", "give the channels of the model, in its order")

"""The whole road on the generated samples that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from habitat.errors import InputError

CUTOFFS = (20.0,)  # one of the twelve tumors has no PD-L1: half are below 20 percent
FOLDS = (3, 2)
ABOUT = "Generated tumors: there is no patient behind any image or number."


def samples_folder() -> Path:
    """Folder of the generated sample cases.

    Raises
    ------
    InputError
        If the samples are not part of this installation.
    """
    package = Path(str(resources.files("habitat")))
    for folder in (package / "data_samples", package.parent / "data_samples"):
        if (folder / "cohort.csv").is_file():
            return folder
    what = "data_samples/cohort.csv is not there"
    raise InputError(what, "sample cases", "install habitat again")


def run(out: Path, *, k: int = 4) -> Path:
    """Go from images to a report: fit, batch, train.

    Parameters
    ----------
    out : path
        Folder to write to: ``model``, ``batch``, ``training`` and ``report.html``. What
        an earlier demo left there is replaced.
    k : int
        Number of habitats.

    Returns
    -------
    pathlib.Path
        The report on the cohort.
    """
    from habitat.cohort import batch, fit_cohort, read_cohort
    from habitat.reports import report
    from habitat.training import train

    cases = read_cohort(samples_folder() / "cohort.csv")
    out.mkdir(parents=True, exist_ok=True)
    fitted = fit_cohort(cases, out / "model", k)
    done = batch(cases, out / "batch", model=fitted.model, resume=False)
    trained = train(done.out, out / "training", cutoffs=CUTOFFS, cv=FOLDS)
    page: Path = report(done.out, out / "report.html", model=trained.out, about=ABOUT)
    return page

"""report(): one offline HTML file of a tumor or a cohort."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from habitat._progress import track
from habitat.cohort._names import safe_name
from habitat.errors import ConfigError, InputError
from habitat.reports._cohort import Batch, cohort_page
from habitat.reports._page import Link, render
from habitat.reports._patient import patient_page, saved_case
from habitat.reports._prediction import Judge
from habitat.reports._view import view_html
from habitat.result import HabitatResult
from habitat.saving import whole_file

RESULT, BATCH, TRAINING = "result.json", "run.json", "train.json"


def report(
    source: HabitatResult | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    case_id: str | None = None,
    model: str | os.PathLike[str] | None = None,
    patients: bool = False,
    view: bool = False,
    about: str = "",
) -> Path:
    """Write a report that opens anywhere, without a network.

    Parameters
    ----------
    source : HabitatResult or path
        A tumor: a result or the folder of `HabitatResult.save`. Or a cohort: the folder
        of `batch` or `train`.
    out : path
        The HTML file; an earlier one is replaced.
    case_id : str, optional
        Title of a tumor, by default the name of its folder. Nothing from headers that
        names a patient or a date is shown.
    model : path, optional
        Folder of `train`: predictions, and what they rest on.
    patients : bool
        Of a batch: also write the report of each case, in the folder ``<out>_cases``
        beside, and link it. About two seconds a case.
    view : bool
        Of a tumor: also write ``<out>_view.html`` beside, and link it: all channels and
        the habitats to look through in any plane, without a network, at most 8 MB.
    about : str
        Words under the title, such as where the data come from.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the source is no result, or was changed since it was saved.
    ConfigError
        If `out` is no .html, or an argument does not go with the source.
    ModelError
        If the model cannot be used on this source.

    Examples
    --------
    >>> import habitat, tempfile
    >>> p = habitat.phantom(radius_mm=15, margin_mm=15)
    >>> result = habitat.segment(p.pet, p.ct, p.mask, k=2)
    >>> file = habitat.report(result, tempfile.mkdtemp() + "/p07.html", case_id="p07")
    >>> file.stat().st_size < 2_000_000
    True
    """
    path = Path(out).expanduser().absolute()
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"must end in .html, got {path.name}", "`out`")
    if not path.parent.is_dir():
        raise ConfigError("is not there", str(path.parent), "make the folder")
    if isinstance(source, HabitatResult):
        one = _Tumor(source, None, case_id or "tumor")
    else:
        folder = Path(source).expanduser().absolute()
        if (folder / BATCH).is_file() or (folder / TRAINING).is_file():
            _check_of_cohort(folder, case_id, view, patients)
            return _cohort(folder, path, _folder(model), patients, about)
        one = _Tumor.read(folder, case_id)
    if patients:
        raise ConfigError("is for a batch, the source is one tumor", "`patients`")
    training = _folder(model)
    judge = None if training is None else Judge.read(training)
    return _tumor(one, path, judge, view, about)


class _Tumor(NamedTuple):
    """A result, its folder if it has one, its name and what a batch said of it."""

    result: HabitatResult
    folder: Path | None
    case_id: str
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path, case_id: str | None) -> _Tumor:
        if not (folder / RESULT).is_file():
            what = f"holds none of {RESULT}, {BATCH}, {TRAINING}"
            fix = "give the folder of a saved result, of `batch` or of `train`"
            raise InputError(what, str(folder), fix)
        name, notes = saved_case(folder)
        return cls(HabitatResult.load(folder), folder, case_id or name, notes)


def _folder(model: str | os.PathLike[str] | None) -> Path | None:
    return None if model is None else Path(model).expanduser().absolute()


def _check_of_cohort(
    folder: Path, case_id: str | None, view: bool, patients: bool
) -> None:
    if case_id is not None:
        what = "names one tumor, but the source is a cohort"
        raise ConfigError(what, "`case_id`", "leave it out")
    if view:
        fix = "give the folder of one case, below `cases`"
        raise ConfigError("is for one tumor", "`view`", fix)
    if patients and not (folder / BATCH).is_file():
        fix = "give the folder of the batch, and this one as `model`"
        raise ConfigError("needs the maps of a batch", "`patients`", fix)


def _tumor(
    one: _Tumor, path: Path, judge: Judge | None, view: bool, about: str
) -> Path:
    said = None if judge is None else judge.judge(one.result, one.folder, one.case_id)
    page = patient_page(
        one.result, case_id=one.case_id, about=about, judged=said, notes=one.notes
    )
    if view:
        beside = path.with_name(f"{path.stem}_view.html")
        _write(beside, view_html(one.result, case_id=one.case_id, about=about))
        link = Link("look through it in a browser", quote(beside.name))
        page = replace(page, links=(link,))
    return _write(path, render(page))


def _cohort(
    folder: Path, path: Path, training: Path | None, patients: bool, about: str
) -> Path:
    pages = {}
    if patients:
        batch = Batch.read(folder)
        judge = None if training is None else Judge.read(training)
        beside = path.with_name(f"{path.stem}_cases")
        beside.mkdir(exist_ok=True)
        for name in track(batch.done, "Reporting"):
            one = _Tumor.read(batch.place(name), name)
            place = beside / f"{safe_name(name)}.html"
            pages[name] = _tumor(one, place, judge, False, about)
    page = cohort_page(folder, path, model=training, about=about, pages=pages)
    return _write(path, render(page))


def _write(path: Path, html: str) -> Path:
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")
    return path

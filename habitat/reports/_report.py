"""report(): one offline HTML file of a tumor or a cohort."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from habitat._progress import track
from habitat.cohort._names import safe_name
from habitat.errors import ConfigError, InputError
from habitat.reports._page import Link, render
from habitat.reports._patient import patient_page, saved_case
from habitat.reports._prediction import judge
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
    training = None if model is None else Path(model).expanduser().absolute()
    folder, name = None, "tumor"
    notes: tuple[str, ...] = ()
    if not isinstance(source, HabitatResult):
        folder = Path(source).expanduser().absolute()
        if (folder / BATCH).is_file() or (folder / TRAINING).is_file():
            if case_id is not None:
                what = "names one tumor, but the source is a cohort"
                raise ConfigError(what, "`case_id`", "leave it out")
            if view:
                fix = "give the folder of one case, below `cases`"
                raise ConfigError("is for one tumor", "`view`", fix)
            return _cohort(folder, path, training, patients, about)
        if not (folder / RESULT).is_file():
            what = f"holds none of {RESULT}, {BATCH}, {TRAINING}"
            fix = "give the folder of a saved result, of `batch` or of `train`"
            raise InputError(what, str(folder), fix)
        source = HabitatResult.load(folder)
        name, notes = saved_case(folder)
    if patients:
        raise ConfigError("is for a batch, the source is one tumor", "`patients`")
    name = case_id or name
    judged = None if training is None else judge(source, folder, training, name)
    page = patient_page(source, case_id=name, about=about, judged=judged, notes=notes)
    if view:
        beside = path.with_name(f"{path.stem}_view.html")
        _write(beside, view_html(source, case_id=name, about=about))
        link = Link("look through it in a browser", quote(beside.name))
        page = replace(page, links=(link,))
    return _write(path, render(page))


def _cohort(
    folder: Path, path: Path, training: Path | None, patients: bool, about: str
) -> Path:
    from habitat.reports._cohort import Batch, cohort_page

    pages = {}
    if patients:
        if not (folder / BATCH).is_file():
            fix = "give the folder of the batch, and this one as `model`"
            raise ConfigError("needs the maps of a batch", "`patients`", fix)
        batch = Batch.read(folder)
        beside = path.with_name(f"{path.stem}_cases")
        beside.mkdir(exist_ok=True)
        for name in track(batch.done, "Reporting"):
            place = beside / f"{safe_name(name)}.html"
            pages[name] = report(
                batch.place(name), place, case_id=name, model=training, about=about
            )
    page = cohort_page(folder, path, model=training, about=about, pages=pages)
    return _write(path, render(page))


def _write(path: Path, html: str) -> Path:
    with whole_file(path) as part:
        part.write_text(html, encoding="utf-8", newline="\n")
    return path

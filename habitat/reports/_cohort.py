"""The report on a cohort: from a folder of `batch`, of `train`, or both."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from habitat.cohort._names import safe_name
from habitat.cohort._tables import read_table
from habitat.errors import InputError
from habitat.image import Image
from habitat.plotting import plot_shares, thumbnail
from habitat.reports._methods import methods_text
from habitat.reports._model import Training, excluded_notes, model_sections, warnings_of
from habitat.reports._page import (
    Code,
    Facts,
    Link,
    Mosaic,
    Page,
    Section,
    Status,
    Table,
    Text,
    Tile,
    cell,
    picture,
    table,
)
from habitat.reports._patient import choice_picture
from habitat.result import HabitatResult

RUN, RESULT = "run.json", "result.json"
MOST = 400  # pictures of a page
_TILE_PX, _TILE_DPI, _QUALITY = 160, 140, 70


@dataclass(frozen=True, eq=False)
class Batch:
    """A folder of `batch`, read."""

    folder: Path
    run: Mapping[str, Any]  # run.json
    table: pd.DataFrame  # features_wide.csv
    failures: pd.DataFrame
    notes: pd.DataFrame  # case_id, note

    @classmethod
    def read(cls, folder: Path) -> Batch:
        """Read it; a stopped run is refused, as its tables may be old."""
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if run["state"] != "finished":
            what = f"is of a batch that is {run['state']}, not finished"
            raise InputError(what, str(folder), "run the batch again, it goes on")
        failures = read_table(folder / "failures.csv", ())
        notes = read_table(folder / "notes.csv", ())
        return cls(
            folder, run, read_table(folder / "features_wide.csv"), failures, notes
        )

    @property
    def done(self) -> list[str]:
        rows = self.table[self.table["status"] == "done"]
        return [str(name) for name in rows["case_id"]]

    def place(self, case_id: str) -> Path:
        """Folder of a case."""
        return self.folder / "cases" / safe_name(case_id)

    def params(self, case_id: str) -> Mapping[str, Any]:
        """Settings of a case, from its result.json."""
        text = (self.place(case_id) / RESULT).read_text(encoding="utf-8")
        found: Mapping[str, Any] = json.loads(text)["params"]
        return found


def cohort_page(
    folder: Path,
    path: Path,
    *,
    model: Path | None = None,
    about: str = "",
    pages: Mapping[str, Path] | None = None,
) -> Page:
    """Build the page of a cohort.

    Parameters
    ----------
    folder : path
        Of `batch` or `train`.
    path : path
        Of the page, for links.
    model : path, optional
        Folder of `train`, beside a batch.
    about : str
        Words under the title.
    pages : mapping of str to path, optional
        Page of each case.
    """
    batch = Batch.read(folder) if (folder / RUN).is_file() else None
    if batch is None:
        model = model or folder
    training = None if model is None else Training.read(model)
    links = _Links(path.parent, pages or {})
    parts = [Section("flow", "Flow", list(_flow(batch, training)))]
    warnings = []
    if batch is not None:
        warnings += _batch_warnings(batch)
        parts += [
            Section("problems", "Failures and notes", list(_problems(batch, links))),
            Section("data", "Data", list(_data(batch, training))),
            Section("mosaic", "All tumors", list(_mosaic(batch, training, links))),
        ]
    habitats = list(_habitats(batch, training))
    parts.append(Section("habitats", "What the habitats are", habitats))
    if training is not None:
        warnings += warnings_of(training) + _foreign(batch, training)
        parts += model_sections(training, links.cell)
    parts.append(
        Section("provenance", "Provenance", list(_provenance(batch, training)))
    )
    status: Status = "amber" if warnings else "green"
    if batch is not None and not batch.done:
        status = "red"
    unique = list(dict.fromkeys(warnings))
    return Page(_title(batch, training), status, unique, parts, about)


def _title(batch: Batch | None, training: Training | None) -> str:
    if batch is not None:
        return f"Cohort of {len(batch.table)} cases"
    assert training is not None
    return f"Cohort of {training.evaluation.params['n_cases']} cases"


@dataclass(frozen=True)
class _Links:
    """Where the page of a case is, seen from this page."""

    start: Path
    pages: Mapping[str, Path]

    def href(self, case_id: str) -> str | None:
        if case_id not in self.pages:
            return None
        relative = os.path.relpath(self.pages[case_id], self.start)
        return quote(Path(relative).as_posix())

    def cell(self, case_id: str) -> str | Link:
        href = self.href(case_id)
        return case_id if href is None else Link(case_id, href)


def _flow(batch: Batch | None, training: Training | None) -> Iterator[Any]:
    rows: list[tuple[str, Any]] = []
    if batch is not None:
        cases = batch.run["cases"]
        rows.append(("cases in the table", str(sum(cases.values()))))
        kinds = Counter(batch.failures["kind"].tolist())
        rows += [(f"failed: {kind}", str(n)) for kind, n in sorted(kinds.items())]
        if cases["not run"]:
            rows.append(("not run", str(cases["not run"])))
        rows.append(("with habitats", str(cases["done"])))
    if training is not None:
        reasons = Counter(training.excluded["reason"].tolist())
        rows += [(f"left out: {why}", str(n)) for why, n in sorted(reasons.items())]
        params = training.evaluation.params
        counts = zip(params["classes"], params["counts"], strict=True)
        rows.append(("analyzed", str(params["n_cases"])))
        rows += [(f"of class {name}", str(n)) for name, n in counts]
    yield Facts(rows)
    if training is not None:
        yield from excluded_notes(training)


def _batch_warnings(batch: Batch) -> list[str]:
    failed = len(batch.failures)
    said = [f"{failed} of the cases failed: see Failures and notes."] if failed else []
    return said + [str(note) for note in batch.run["notes"]]


def _foreign(batch: Batch | None, training: Training) -> list[str]:
    if batch is None:
        return []
    missing = set(training.probability.index) - set(map(str, batch.table["case_id"]))
    if not missing:
        return []
    return [f"{len(missing)} cases of the training are not in the batch."]


def _problems(batch: Batch, links: _Links) -> Iterator[Any]:
    if batch.failures.empty:
        yield Text("No case failed.")
    else:
        columns = ["case_id", "kind", "message", "fix"]
        rows = batch.failures[columns].to_numpy().tolist()
        yield Table(["case", "kind", "what was found", "what to do"], rows)
    if batch.notes.empty:
        yield Text("No case has a note.")
        return
    pairs = zip(batch.notes["case_id"].tolist(), batch.notes["note"], strict=True)
    rows = [[links.cell(name), note] for name, note in pairs]
    yield Table(["case", "note"], rows, "Notes of single cases.")


def _data(batch: Batch, training: Training | None) -> Iterator[Any]:
    params = {name: batch.params(name) for name in batch.done}
    done = batch.table[batch.table["status"] == "done"].set_index("case_id")
    ml = done["tumor_volume_ml"]
    rows: list[tuple[str, Any]] = [
        ("tumor volume, ml: median (range)", _range(ml)),
        ("grid of the map, mm (z, y, x)", _common(map(_spacing, params.values()))),
    ]
    for channel in _channels(params):
        found = (p["channels"].get(channel, {}) for p in params.values())
        rows.append((f"{channel}, mm", _common(map(_spacing, filter(None, found)))))
        headers = (p.get("headers", {}).get(channel, {}) for p in params.values())
        uptake = [(h.get("suv") or {}).get("uptake_s") for h in headers]
        minutes = pd.Series([s / 60 for s in uptake if s is not None], dtype=float)
        if len(minutes):
            rows.append((f"{channel}, uptake in min", _range(minutes)))
    yield Facts(rows)
    yield from _groups(done, training)


def _groups(done: pd.DataFrame, training: Training | None) -> Iterator[Table]:
    """Cases and classes by site, split, assay and specimen, where given."""
    outcome = None if training is None else training.outcome
    names = ("site", "split", "pdl1_assay", "pdl1_specimen", "tracer")
    classes = [] if training is None else training.classes
    rows = []
    for name in (n for n in names if n in done and done[n].notna().any()):
        for value, part in done.groupby(done[name].astype(str)):
            row = [name, value, str(len(part)), _range(part["tumor_volume_ml"])]
            if outcome is not None:
                counts = outcome.reindex(part.index).value_counts()
                row += [str(counts.get(c, 0)) for c in classes]
            rows.append(row)
    if rows:
        columns = ["column", "value", "cases", "volume, ml: median (range)"]
        yield Table([*columns, *(f"of class {c}" for c in classes)], rows)


def _channels(params: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(c for p in params.values() for c in p["channels"]))


def _spacing(params: Mapping[str, Any]) -> str:
    return " x ".join(f"{v:.3g}" for v in params["spacing_mm"])


def _common(texts: Any) -> str:
    """Each text with its number of cases, most frequent first."""
    counts = Counter(texts).most_common(6)
    return "; ".join(f"{text} ({n})" for text, n in counts)


def _range(values: pd.Series) -> str:
    v = values.dropna()
    if v.empty:
        return str(cell(None))
    low, mid, high = (cell(float(f)) for f in (v.min(), v.median(), v.max()))
    return f"{mid} ({low} to {high})"


def _mosaic(batch: Batch, training: Training | None, links: _Links) -> Iterator[Any]:
    names = batch.done
    order = "in the order of the table"
    p = None if training is None else training.probability
    if p is not None and training is not None:
        names = sorted(names, key=lambda name: -float(p.get(name, -1.0)))
        order = (
            f"by mean out-of-fold probability of class {training.classes[-1]}, "
            "highest first"
        )
    if len(names) > MOST:
        yield Text(f"The first {MOST} of {len(names)} tumors.")
    yield Text(
        f"One axial section each, {order}. Look whether the contours lie on the tumor; "
        "your ratings stay in this page until you save them as a table."
    )
    tiles = []
    for name in names[:MOST]:
        words = [] if p is None or name not in p else [f"p {p[name]:.2f}"]
        if training is not None and name in training.outcome:
            words.append(f"class {training.outcome[name]}")
        tiles.append(
            Tile(
                name, _thumbnail(batch.place(name)), ", ".join(words), links.href(name)
            )
        )
    yield Mosaic(tiles)


def _thumbnail(folder: Path) -> bytes:
    result = HabitatResult.load(folder)
    labels = Image(result.labels[result.box], result.geometry.crop(result.box))
    figure = thumbnail(result.images, labels, size_px=_TILE_PX)
    stream = io.BytesIO()
    options = {"quality": _QUALITY, "optimize": True}
    figure.savefig(stream, format="jpeg", dpi=_TILE_DPI, pil_kwargs=options)
    return stream.getvalue()


def _habitats(batch: Batch | None, training: Training | None) -> Iterator[Any]:
    trained = None if training is None else training.habitats
    if batch is not None:
        yield from _of_cases(batch)
    elif trained is None:
        yield Text("Made before the training: see the report of its batch.")
    if trained is not None:
        names = [f"h{i + 1}" for i in range(trained.k_)]
        data = pd.DataFrame(trained.centers_, columns=_with_units(trained))
        data.insert(0, "habitat", names)
        yield table(data, "Centers of the trained model, learned on all cases.")
        if trained.choice_:
            yield choice_picture(trained.choice_)


def _with_units(model: Any) -> list[str]:
    pairs = zip(model.channels_, model.units_, strict=True)
    return [f"{c}, {u}" if u and u != c else c for c, u in pairs]


def _of_cases(batch: Batch) -> Iterator[Any]:
    done = batch.table[batch.table["status"] == "done"]
    names = [c.removesuffix("_fraction") for c in done if _is_share(str(c))]
    if batch.run["plan"]["model"]:
        yield Text("One definition for all cases: h1 means the same in every tumor.")
    else:
        yield Text(
            "Each tumor has habitats of its own: h1 of two tumors are alike in rank, "
            "not in value. Numbers below describe ranks."
        )
    shares = done[[f"{n}_fraction" for n in names]].to_numpy(float)
    channels = [
        str(c).removeprefix("tumor_").removesuffix("_mean")
        for c in done
        if str(c).startswith("tumor_")
        and str(c).endswith("_mean")
        and f"{str(c).removesuffix('_mean')}_sd" in done
    ]
    rows = []
    for name, share in zip(names, shares.T, strict=True):
        row = [name, str(int((share > 0).sum())), _range(pd.Series(100 * share))]
        row += [_range(done[f"{name}_{channel}_mean"]) for channel in channels]
        rows.append(row)
    columns = ["habitat", "tumors with it", "%: median (range)"]
    columns += [f"mean {channel}: median (range)" for channel in channels]
    yield Table(columns, rows)
    if len(done):
        figure = plot_shares(
            shares, case_ids=done["case_id"].astype(str).tolist(), names=names
        )
        caption = "Share of each habitat in each tumor."
        yield picture(figure, caption, caption, width="min(100%, 40rem)")


def _is_share(column: str) -> bool:
    head, _, tail = column.partition("_")
    return tail == "fraction" and head[:1] == "h" and head[1:].isdigit()


def _provenance(batch: Batch | None, training: Training | None) -> Iterator[Any]:
    if batch is not None:
        yield from _of_batch(batch)
    if training is not None:
        params = dict(training.evaluation.params)
        options = json.dumps(params["options"], ensure_ascii=False)
        yield Facts([
            ("classifier", f"{params['model']} {options}"),
            ("trained on", training.about["source"]),
            ("random state", str(params["random_state"])),
            ("sha256 of train.json", training.about["sha256"]),
        ])  # fmt: skip


def _of_batch(batch: Batch) -> Iterator[Any]:
    plan = batch.run["plan"]
    if batch.done:
        first = batch.params(batch.done[0])
        k = int(first["arguments"]["k"]) if "k" in first["arguments"] else 0
        k = k or len([c for c in batch.table if _is_share(str(c))])
        text = methods_text(first, k)
        yield Code(text, "Methods of the first case, to paste")
    yield Facts([
        ("segmentation", json.dumps(plan["segmentation"], ensure_ascii=False)),
        ("features", json.dumps(plan["extraction"], ensure_ascii=False) or "default"),
        ("habitat model, sha256", plan["model"] or "none: each tumor by itself"),
        ("seconds", cell(float(batch.run["seconds"]))),
        ("versions", ", ".join(f"{n} {v}" for n, v in batch.run["versions"].items())),
    ])  # fmt: skip

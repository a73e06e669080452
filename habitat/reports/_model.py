"""The part of a cohort report on a trained classifier."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from habitat.cohort._tables import read_table
from habitat.errors import ModelError
from habitat.evaluation import Evaluation
from habitat.plotting import (
    plot_areas,
    plot_calibration,
    plot_decision,
    plot_importance,
    plot_pr,
    plot_roc,
)
from habitat.population import HabitatModel
from habitat.reports._page import (
    Facts,
    Link,
    Notes,
    Picture,
    Row,
    Section,
    Table,
    Text,
    cell,
    picture,
    table,
)
from habitat.saving import read_json
from habitat.training._items import FILLED
from habitat.training._reporting import FORMAT as REPORTING_FORMAT
from habitat.training._reporting import REPORTING
from habitat.training._train import EXCLUDED, FORMAT, HABITATS, JSON

OWN = "habitats"  # the model among the rows of an evaluation
_WORST = 20
_KEPT = 20
_NUMBERS = ["value", "low", "high", "p"]


@dataclass(frozen=True, eq=False)
class Training:
    """A folder of `train`, read."""

    folder: Path
    about: Mapping[str, Any]  # train.json
    evaluation: Evaluation
    excluded: pd.DataFrame  # case_id, reason

    @classmethod
    def read(cls, folder: Path) -> Training:
        """Read it; what was changed since is a ModelError or InputError."""
        about = read_json(folder / JSON, FORMAT, (), ModelError)
        found = Evaluation.load(folder)
        excluded = read_table(folder / EXCLUDED, ())
        return cls(folder, about, found, excluded)

    @property
    def classes(self) -> list[str]:
        return [str(c) for c in self.evaluation.params["classes"]]

    @property
    def habitats(self) -> HabitatModel | None:
        """The habitats of the final model, if `train` made them."""
        folder = self.folder / HABITATS
        return HabitatModel.load(folder) if folder.is_dir() else None

    @property
    def own(self) -> pd.DataFrame:
        """Predictions of the model for cases that it had not seen, first test set."""
        rows = self.evaluation.predictions
        rows = rows[rows["model"] == OWN]
        first: pd.DataFrame = rows[rows["part"] == rows["part"].iloc[0]]
        return first

    @property
    def probability(self) -> pd.Series:
        """Mean out-of-fold probability of the last class, by case."""
        found: pd.Series = self.own.groupby("case_id")[f"p_{self.classes[-1]}"].mean()
        return found

    @property
    def outcome(self) -> pd.Series:
        """Class by case."""
        found: pd.Series = self.own.groupby("case_id")["y"].first()
        return found


def model_sections(
    training: Training, link: Callable[[str], str | Link]
) -> list[Section]:
    """Sections on what was trained.

    Parameters
    ----------
    training : Training
    link : callable
        A case id as a link to the page of the case, if there is one.
    """
    return [
        Section("features", "Features the model keeps", list(_features(training))),
        Section("model", "How well it predicts", list(_model(training))),
        Section("beside", "Beside simple models and controls", list(_beside(training))),
        Section("subgroups", "Subgroups", list(_subgroups(training))),
        Section("errors", "Cases by error", list(_errors(training, link))),
        Section("leakage", "Leakage checks", list(_leakage(training))),
        Section("guides", "Reporting guides", list(_guides(training))),
    ]


def _features(training: Training) -> Iterator[Any]:
    options = training.evaluation.params["options"]
    if options.get("precision"):
        text = (
            "Features were kept by a reliability study, at an intraclass correlation "
            f"of at least {options['min_icc']}."
        )
    else:
        text = (
            "No reliability study was given (`precision`): nothing here says that a "
            "feature would come out alike from another mask or scan."
        )
    yield Text(text)
    how = options.get("harmonize")
    said = "were not harmonized" if not how else f"were harmonized in folds ({how})"
    yield Text(f"Sites {said}.")
    selected = training.evaluation.selected
    if selected.empty:
        yield Text("The model weighs all features that pass its filters.")
        return
    caption = "Share of the folds that kept a feature, most often kept first."
    figure = plot_importance(selected)
    yield Row([
        picture(figure, "Features by how often they were kept", caption),
        table(selected.head(_KEPT), f"First {_KEPT} of {len(selected)}.", 2),
    ])  # fmt: skip


def _model(training: Training) -> Iterator[Any]:
    found = training.evaluation
    p = found.params
    counts = ", ".join(
        f"{n} of class {c}" for c, n in zip(p["classes"], p["counts"], strict=True)
    )
    folds = f", {p['folds']} folds x {p['repeats']} repeats" if p["repeats"] else ""
    yield Text(
        f"{p['model']} of {training.about['outcome']}, {p['n_cases']} cases "
        f"({counts}); "
        f"{p['cv']}{folds}. All numbers are of cases that the model had not seen; "
        "the threshold of a class is fixed on training cases."
    )
    pictures = list(_curves(training))
    if pictures:
        yield Row(pictures)
    rows = found.metrics[found.metrics["model"] == OWN]
    columns = ["metric", "value", "low", "high", "how"]
    if len(set(rows["part"])) > 1:
        columns.insert(0, "part")
    yield table(rows[columns], "95 % intervals; how: what an interval rests on.")
    yield _confusion(training)


def _curves(training: Training) -> Iterator[Picture]:
    found = training.evaluation
    if not found.curves:
        return
    labels, roc = found.labels, found.curves["roc"]
    share = float((training.own["y"] == training.classes[1]).mean())
    precision = f"average precision {found.value(OWN, 'average_precision'):.2f}"
    made = {
        "ROC": plot_roc(roc, labels["roc"]),
        "Precision and recall": plot_pr(roc, share, precision),
        "Calibration": plot_calibration(
            found.curves["calibration"], labels["calibration"]
        ),
        "Decision curve": plot_decision(found.curves["decision"]),
    }
    for title, figure in made.items():
        yield picture(figure, title, f"{title}.")


def _confusion(training: Training) -> Table:
    own = training.own
    repeats = max(own["repeat"].nunique(), 1)
    counts = pd.crosstab(own["y"], own["predicted"])
    counts = counts.reindex(index=training.classes, columns=training.classes)
    counts = counts.fillna(0) / repeats
    rows = [
        [f"is {name}", *(cell(float(n)) for n in row)]
        for name, row in zip(training.classes, counts.to_numpy(), strict=True)
    ]
    columns = ["", *(f"called {c}" for c in training.classes)]
    return Table(columns, rows, "Cases, mean over the repeats.")


def _beside(training: Training) -> Iterator[Any]:
    found = training.evaluation
    figure = plot_areas(found.areas, found.metric_name)
    name = found.metric_name
    caption = f"{name} with 95 % interval."
    yield picture(figure, f"{name} of all models", caption, width="min(100%, 34rem)")
    if len(found.differences):
        data = found.differences.drop(columns="part")
        caption = f"{name} of the habitats model less that of each other."
        yield table(data, caption)
    yield Text(
        "Controls: habitats that know nothing of the images (surrogate), those of "
        "other patients (permuted), and outcomes of other patients (permuted outcome). "
        "If the first two do as well as the model, habitats are not what predicts; if "
        "the last one does better than chance, something leaks.",
        "small",
    )


def _subgroups(training: Training) -> Iterator[Any]:
    data = training.evaluation.subgroups
    if data.empty:
        yield Text("The table names no site, assay or specimen: nothing to compare.")
    else:
        yield table(data, "AUC within each group; few cases give wide intervals.")
    yield Text(
        "Whether it is only volume: see volume only, above, and the warnings.", "small"
    )


def _errors(training: Training, link: Callable[[str], str | Link]) -> Iterator[Any]:
    own = training.own
    of_class = [own.loc[i, f"p_{own.loc[i, 'y']}"] for i in own.index]
    data = own.assign(own=of_class).groupby("case_id")
    means = pd.DataFrame({"y": data["y"].first(), "own": data["own"].mean()})
    worst = means.sort_values("own", kind="stable").head(_WORST)
    rows = [
        [link(str(name)), row["y"], f"{row['own']:.2f}"]
        for name, row in worst.iterrows()
    ]
    caption = f"Least sure of the right class first, at most {_WORST} of {len(means)}."
    columns = ["case", "class", "mean probability of that class"]
    yield Table(columns, rows, caption)


def _leakage(training: Training) -> Iterator[Any]:
    p = training.evaluation.params
    made = p["data"] == "cases"
    yield Facts([
        ("patients", f"{p['n_patients']}, never on both sides of a fold"),
        (
            "habitats",
            "learned anew in each fold"
            if made
            else "made before, on all cases: their definition has seen test cases "
            "(images only, not outcomes)",
        ),
        ("filling, harmonizing, scaling, selection", "learned anew in each fold"),
        ("penalty, number of features", "chosen in inner folds"),
        ("threshold", "fixed on training cases"),
        ("permuted outcome", _permuted(training)),
    ])  # fmt: skip


def _permuted(training: Training) -> str:
    rows = training.evaluation.areas
    rows = rows[rows["model"] == "permuted outcome"]
    if rows.empty:
        return "not run"
    row = rows.iloc[0]
    return f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f}); chance is 0.5"


def _guides(training: Training) -> Iterator[Any]:
    items = read_json(training.folder / REPORTING, REPORTING_FORMAT, (), ModelError)
    filled = [i for i in items["items"] if i["status"] == FILLED]
    left = [i for i in items["items"] if i["status"] != FILLED]
    yield Text(
        f"{len(filled)} items of CLEAR, METRICS, TRIPOD+AI and IBSI are filled from "
        f"the run; {len(left)} are the authors' to answer. The numbers are those of "
        "the guides, the words are ours."
    )
    rows = [[i["guide"], i["item"], i["text"], _answer(i["answer"])] for i in filled]
    rows += [[i["guide"], i["item"], i["text"], "for the authors"] for i in left]
    yield Table(["guide", "item", "what", "answer"], rows)


def _answer(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Mapping) and all(
        not isinstance(v, (list, Mapping)) for v in answer.values()
    ):
        return "; ".join(f"{k}: {cell(v)}" for k, v in answer.items())
    return json.dumps(answer, ensure_ascii=False)


def warnings_of(training: Training) -> list[str]:
    """What a reader must know of the model, worst first."""
    return [str(note) for note in training.about["notes"]]


def excluded_notes(training: Training) -> list[Notes]:
    """Cases without an outcome, as one list."""
    rows = training.excluded
    if rows.empty:
        return []
    return [Notes([f"{r.case_id}: {r.reason}" for r in rows.itertuples()])]

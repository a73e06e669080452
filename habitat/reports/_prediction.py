"""What a trained classifier says of one tumor, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from habitat.classifiers import HabitatClassifier
from habitat.cohort._tables import WIDE, read_table
from habitat.errors import ConfigError, ModelError
from habitat.evaluation import Evaluation
from habitat.features import wide
from habitat.mil import Bags, MILClassifier
from habitat.population import HabitatModel
from habitat.reports._page import Notes, Table, Text, cell
from habitat.result import FEATURES as SAVED
from habitat.result import HabitatResult
from habitat.saving import read_json
from habitat.selection import block, with_columns
from habitat.training._predict import _classifier
from habitat.training._source import Source
from habitat.training._train import CLASSIFIER, FEATURES, FORMAT, HABITATS, JSON

NBSP = "\N{NO-BREAK SPACE}"
MOST = 10  # features shown
_ALWAYS = ("fraction", "SUVbw_mean", "HU_mean")


@dataclass(frozen=True)
class Judged:
    """A prediction in words and tables; empty parts where there is none."""

    answer: str
    ranks: Sequence[Any] = ()
    reasons: Sequence[Any] = ()
    warnings: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier, with what its words on a tumor rest on."""

    folder: Path  # of `train`
    about: Mapping[str, Any]  # train.json
    classifier: HabitatClassifier | MILClassifier
    cohort: pd.DataFrame  # features of the training cases
    left_out: pd.DataFrame  # predictions of the evaluation
    habitats: str | None  # sha256 of the habitat model
    batches: dict[Path, Source] = field(default_factory=dict)  # read so far

    @classmethod
    def read(cls, folder: Path) -> Judge:
        """Read a folder of `train`; ModelError if it cannot be used."""
        about = read_json(folder / JSON, FORMAT, (), ModelError)
        if about["made"]:
            sha256: str | None = HabitatModel.load(folder / HABITATS).sha256
        else:
            sha256 = (about["batch"] or {}).get("model")
        rows = Evaluation.load(folder).predictions
        return cls(
            folder,
            about,
            _classifier(folder / CLASSIFIER),
            read_table(folder / FEATURES),
            rows[rows["model"] == "habitats"],
            sha256,
        )

    def judge(self, result: HabitatResult, folder: Path | None, case_id: str) -> Judged:
        """Predict the class of a saved tumor and say why.

        Parameters
        ----------
        result : HabitatResult
        folder : path, optional
            Where it is saved with its features, of a batch or by itself.
        case_id : str
            Its name in the cohort; of a case of the training that is said.

        Raises
        ------
        ConfigError
            If the tumor was segmented with other habitats than those of the training,
            or its features are not there or were made otherwise.
        ModelError
            If the classifier needs features that are not there.
        """
        if result.params["arguments"].get("model") != self.habitats:
            what = "was trained on habitats of another model than that of this result"
            fix = "segment the tumor with the habitat model of the training"
            raise ConfigError(what, str(self.folder), fix)
        table, classifier = self._features(folder, case_id), self.classifier
        if isinstance(classifier, MILClassifier):
            bags = Bags.from_table(table)
            p, outside = classifier.predict_proba(bags)[0], classifier.outside(bags)
            reasons = [_scores(classifier, bags)]
        else:
            p, outside = classifier.predict_proba(table)[0], classifier.outside(table)
            reasons = _contributions(classifier, table)
        beyond = [str(name) for name in outside.columns if outside[name].any()]
        return Judged(
            _answer(classifier, p, beyond),
            [_ranks(table, self.cohort, getattr(classifier, "selected_", ()))],
            reasons,
            (*self._seen(case_id), *_warnings(beyond)),
        )

    def _features(self, folder: Path | None, case_id: str) -> pd.DataFrame:
        """The features of a saved tumor, if made as those of the training."""
        fix = "run habitat batch with the habitats and options of the training"
        if folder is None:
            what = "has no features, and a map alone is not enough to make them"
            raise ConfigError(what, "the result", fix)
        table, extraction = self._saved(folder, case_id)
        if table.empty:
            raise ConfigError(f"holds no features of {case_id}", str(folder), fix)
        if extraction != (self.about["extraction"] or {}):
            what = "its features were made with other options than those of the "
            raise ConfigError(what + "training", str(folder), fix)
        whole: pd.DataFrame = table.reset_index(drop=True)
        return whole

    def _saved(
        self, folder: Path, case_id: str
    ) -> tuple[pd.DataFrame, Mapping[str, Any]]:
        """Row of a batch, or else what `habitat segment --features` wrote."""
        batch = folder.parent.parent
        if (batch / WIDE).is_file():
            if batch not in self.batches:
                self.batches[batch] = Source.of(batch)
            found = self.batches[batch]
            whole = pd.DataFrame() if found.table is None else found.table
            rows: pd.DataFrame = whole[whole["case_id"] == case_id]
            return rows, (found.plan or {}).get("extraction") or {}
        if (folder / SAVED).is_file():
            own: pd.DataFrame = wide(read_table(folder / SAVED))
            return own, {}
        return pd.DataFrame(), {}

    def _seen(self, case_id: str) -> list[str]:
        """What a probability is worth for a case that the classifier learned from."""
        rows = self.left_out[self.left_out["case_id"] == case_id]
        if rows.empty:
            return []
        last = str(self.classifier.classes_[-1])
        return [
            f"A case {case_id} is among those of the evaluation: the classifier may "
            f"have learned from this tumor. Left out, its probability of {last} was "
            f"{rows[f'p_{last}'].mean():.2f} (mean over folds)."
        ]


def _answer(
    classifier: HabitatClassifier | MILClassifier, p: Any, beyond: Sequence[str]
) -> str:
    classes = classifier.classes_
    if len(classes) == 2:
        said = classes[int(p[1] >= classifier.threshold_)]
        text = (
            f"Probability of {classes[1]}: {p[1]:.2f}; at the threshold of the "
            f"training ({classifier.threshold_:.2f}) this is {said}."
        )
    else:
        parts = ", ".join(f"{c} {v:.2f}" for c, v in zip(classes, p, strict=True))
        text = f"Probabilities: {parts}."
    where = (
        f"{len(beyond)} of its features lie outside the training range."
        if beyond
        else "All features of the model lie inside the training range."
    )
    return f"{text} {where}"


def _warnings(beyond: Sequence[str]) -> tuple[str, ...]:
    said = "The prediction is of a research model that nobody validated for patients."
    if not beyond:
        return (said,)
    names = ", ".join(beyond[:5]) + (", ..." if len(beyond) > 5 else "")
    return (said, f"Outside the range of the training cases: {names}.")


def _ranks(table: pd.DataFrame, cohort: pd.DataFrame, selected: Sequence[str]) -> Table:
    """Percentile of each feature within the training cohort."""
    own = [n for n in map(str, table.columns) if _is_shown(n) and n not in selected]
    names = [n for n in (*selected, *own) if n in table and n in cohort][:MOST]
    rows = []
    for name in names:
        value = float(pd.to_numeric(table[name], errors="coerce").iloc[0])
        others = pd.to_numeric(cohort[name], errors="coerce").dropna().to_numpy()
        rank = np.nan
        if others.size and np.isfinite(value):
            rank = 100 * ((others < value).mean() + (others == value).mean() / 2)
        low, high = np.quantile(others, (0.05, 0.95)) if others.size else (np.nan,) * 2
        used = "yes" if name in selected else ""
        span = f"{cell(float(low))} to {cell(float(high))}".replace(" ", NBSP)
        percentile = cell(None) if np.isnan(rank) else f"{rank:.0f}"
        rows.append([name, cell(value), percentile, span, used])
    columns = [
        "feature",
        "value",
        "percentile",
        "5th to 95th of the cohort",
        "in model",
    ]
    return Table(columns, rows, f"Beside {len(cohort)} training cases.")


def _is_shown(name: str) -> bool:
    return name == "tumor_volume_ml" or (
        block(name) == "habitats" and name.partition("_")[2] in _ALWAYS
    )


def _contributions(classifier: HabitatClassifier, table: pd.DataFrame) -> list[Any]:
    """Coefficient times standardized value, of a logistic model of two classes."""
    if classifier.model != "logistic" or len(classifier.classes_) > 2:
        text = "Contributions of single features are given for logistic models only."
        return [Text(text, "small")]
    rows = classifier.coefficients_.iloc[:-1]
    given = with_columns(table, rows["feature"])[rows["feature"].tolist()]
    values = given.apply(pd.to_numeric, errors="coerce").to_numpy(float)[0]
    scaled = (values - rows["mean"].to_numpy()) / rows["sd"].to_numpy()
    parts = np.nan_to_num(scaled) * rows["coefficient"].to_numpy()
    order = np.argsort(-np.abs(parts), kind="stable")[:MOST]
    names = rows["feature"].tolist()
    cells = [
        [names[i], cell(values[i]), cell(scaled[i]), cell(parts[i])] for i in order
    ]
    columns = ["feature", "value", "standardized", "log-odds it adds"]
    toward = f"Positive: toward {classifier.classes_[1]}."
    blocks: list[Any] = [Table(columns, cells, toward)]
    if np.isnan(values).any():
        blocks.append(Notes(["Features without a value count as the training median."]))
    return blocks


def _scores(classifier: MILClassifier, bags: Bags) -> Table:
    scores = np.atleast_1d(classifier.instance_scores(bags))
    pairs = zip(bags.instance_names, scores.tolist(), strict=True)
    rows = [[str(name).rpartition(":")[2], cell(score)] for name, score in pairs]
    return Table(["habitat", "score"], rows, "Higher: toward the later class.")

"""What a reader of an evaluation must know, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from habitat.evaluation._arms import MODEL, PERMUTED, SURROGATE, VOLUME_ONLY
from habitat.evaluation._sample_size import sample_size
from habitat.evaluation._summary import POOLED

EVENTS = 10  # per feature, METRICS item 16
FEW = 10  # cases of a class, below which no number means much
LATE = 30  # days between scan and biopsy, METRICS item 7


class Facts(NamedTuple):
    """What the warnings are drawn from."""

    metrics: pd.DataFrame
    differences: pd.DataFrame
    y: np.ndarray
    classes: Sequence[Any]
    params: Mapping[str, Any]
    events: Sequence[float]  # per feature that the model kept, each fold
    about: pd.DataFrame
    n_features: int  # that the model kept, median over the folds; 0 if it selects none


def warnings_of(facts: Facts) -> list[str]:
    """All warnings that apply, those on the claim itself first."""
    kinds = (_no_better_than_chance, _against, _size, _pooled, _cohort)
    return [text for kind in kinds for text in kind(facts)]


def _against(facts: Facts) -> Iterator[str]:
    """Volume, surrogates and permuted habitats that do as well."""
    words = {
        VOLUME_ONLY: "Tumor volume alone may explain the result",
        SURROGATE: "The claim that habitats matter fails: divisions of the tumor that "
        "know nothing of the images are not shown to do worse",
        PERMUTED: "The claim that habitats matter fails: habitats of other patients "
        "are not shown to do worse",
    }
    own = _auc(facts, MODEL)
    for name, text in words.items():
        rows = facts.differences[facts.differences["model"] == name]
        for row in rows.itertuples():
            useless = name == VOLUME_ONLY and min(own, _auc(facts, name)) <= 0.5
            if not row.low > 0 and not useless:
                where = f", {row.part}" if row.part else ""
                yield (
                    f"{text} (AUC {_auc(facts, name):.2f} against {own:.2f}; "
                    f"difference {row.value:.2f}, {row.low:.2f} to "
                    f"{row.high:.2f}{where})."
                )


def _no_better_than_chance(facts: Facts) -> Iterator[str]:
    rows = facts.metrics[facts.metrics["metric"] == facts.params["metric"]]
    for row in rows[rows["model"] == MODEL].itertuples():
        if not row.low > 0.5:
            where = f" on {row.part}" if row.part else ""
            yield (
                f"The model is not shown to be better than chance{where}: AUC "
                f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})."
            )


def _size(facts: Facts) -> Iterator[str]:
    counts = np.bincount(facts.y, minlength=len(facts.classes))
    few = [
        f"{n} of class {name}"
        for n, name in zip(counts, facts.classes, strict=True)
        if n < FEW
    ]
    if few:
        yield f"Very small sample: {', '.join(few)}. No number here is reliable."
    events = [e for e in facts.events if np.isfinite(e)]
    if events and min(events) < EVENTS:
        yield (
            f"Too few cases for the number of features: {min(events):.1f} cases of the "
            f"smallest class per feature kept, at least {EVENTS} are advised."
        )

    if facts.n_features and len(facts.classes) == 2:
        needed = sample_size(facts.n_features, counts[1] / counts.sum()).n
        if needed > counts.sum():
            yield (
                f"A model of {_features(facts.n_features)} needs about {needed} cases "
                f"(Riley's criteria, R2 of 15 % of its maximum), not {counts.sum()}."
            )


def _features(n: int) -> str:
    return "1 feature" if n == 1 else f"{n} features"


def _pooled(facts: Facts) -> Iterator[str]:
    if (facts.metrics["how"] == POOLED).any():
        yield (
            "Some test folds hold fewer than two cases of a class: scores were pooled "
            "over folds after centering, and intervals leave out how much the models "
            "themselves vary."
        )


def _cohort(facts: Facts) -> Iterator[str]:
    about = facts.about
    if not facts.params["sites"] or len(facts.params["sites"]) < 2:
        yield "One site, or sites not given: nothing is known of other hospitals."
    if facts.params["cv"] != "split":
        yield "No external test set: cross-validation only."
    assays = Counter(about["pdl1_assay"].dropna()) if "pdl1_assay" in about else {}
    if len(assays) > 1:
        text = ", ".join(f"{n} {name}" for name, n in sorted(assays.items()))
        yield f"PD-L1 assays are mixed: {text}."
    if "pdl1_days" in about:
        days = pd.to_numeric(about["pdl1_days"], errors="coerce").abs()
        late = int((days > LATE).sum())
        if late:
            yield f"{late} cases have more than {LATE} days between scan and biopsy."


def _auc(facts: Facts, model: str) -> float:
    table = facts.metrics
    rows = (table["model"] == model) & (table["metric"] == facts.params["metric"])
    return float(table.loc[rows, "value"].iloc[0])

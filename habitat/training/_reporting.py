"""What reporting guides ask for, as far as software can answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from habitat.saving import write_json

if TYPE_CHECKING:
    from habitat.evaluation import Evaluation

REPORTING = "reporting.json"
FORMAT = "habitat.reporting/1"
FILLED, HUMAN = "filled", "human"

# items that only the authors can answer, by guide; the lists were read (CLEAR, METRICS)
# or are known (TRIPOD+AI), the words are ours
_HUMAN = {
    "CLEAR": (*range(1, 15), *range(17, 21), 36, *range(49, 55), 58),
    "METRICS": (1, 2, 3, 5, 8, 9, 28),
    "TRIPOD+AI": (1, 2, 3, 4, 8, 17, 18, 19, 24, 25, 26, 27),
}


class Item(NamedTuple):
    """One item of a guide."""

    guide: str
    item: str
    text: str
    answer: Any
    status: str = FILLED


def write_reporting(
    folder: Path, evaluation: Evaluation, fitted: Any, about: Mapping[str, Any]
) -> None:
    """Write reporting.json into a folder that is not final yet."""
    items = [item._asdict() for item in reporting(evaluation, fitted, about)]
    write_json(folder / REPORTING, {"format": FORMAT, "items": items}, ())


def reporting(
    evaluation: Evaluation, fitted: Any, about: Mapping[str, Any]
) -> list[Item]:
    """Items of CLEAR, METRICS and TRIPOD+AI, filled from a run.

    An item of status "human" is named so that no author overlooks it.
    """
    found = [*_partition(evaluation), *_features(evaluation, fitted, about)]
    found += [*_performance(evaluation), *_sharing(about)]
    found += [
        Item(guide, str(number), "for the authors", None, HUMAN)
        for guide, numbers in _HUMAN.items()
        for number in numbers
    ]
    return found


def _partition(evaluation: Evaluation) -> Iterator[Item]:
    p = evaluation.params
    how = f"{p['cv']}, {p['folds']} folds x {p['repeats']} repeats, {p['n_patients']} "
    how += "patients, no patient on both sides"
    counts = dict(zip(p["classes"], p["counts"], strict=True))
    yield Item("CLEAR", "15", "how data were split", how)
    yield Item("CLEAR", "38", "type of testing", p["cv"])
    yield Item("CLEAR", "45", "cases in the analysis", p["n_cases"])
    yield Item("METRICS", "18", "partition of the data", how)
    external = p["cv"] == "split"
    yield Item("METRICS", "26", "internal testing", not external)
    yield Item("METRICS", "27", "external testing", external)
    yield Item("TRIPOD+AI", "20", "participants by class", counts)
    yield Item("TRIPOD+AI", "21", "number of events", min(p["counts"]))
    yield Item("TRIPOD+AI", "13", "imbalance of the classes", counts)
    yield Item("CLEAR", "30", "imbalance", {"class_weight": _option(p, "class_weight")})


def _features(
    evaluation: Evaluation, fitted: Any, about: Mapping[str, Any]
) -> Iterator[Item]:
    options = evaluation.params["options"]
    yield Item("CLEAR", "25-27", "features extracted", dict(about["extraction"]))
    yield Item("CLEAR", "29", "missing data", "median of the training cases, in folds")
    yield Item("TRIPOD+AI", "11", "missing data", "median of the training cases")
    yield Item("CLEAR", "32", "scaling", "standardized on the training cases, in folds")
    reduction = {
        k: options.get(k)
        for k in ("max_correlation", "n_features", "l1_ratio", "drop_volume_proxies")
        if k in options
    }
    yield Item("CLEAR", "33", "reduction of features, all in folds", reduction)
    yield Item("METRICS", "15", "redundant features", reduction)
    kept = list(getattr(fitted, "selected_", ()))
    per = float(getattr(fitted, "events_per_feature_", 0.0)) or None
    yield Item("METRICS", "16", "cases of the smallest class per feature", per)
    yield Item("CLEAR", "34-35", "algorithm and tuning", options)
    yield Item("TRIPOD+AI", "12", "analysis", options)
    yield Item("TRIPOD+AI", "22", "the model", kept or evaluation.params["model"])
    frequency = evaluation.selected.head(20).to_dict("records")
    yield Item("CLEAR", "43", "features by how often they were selected", frequency)


def _performance(evaluation: Evaluation) -> Iterator[Item]:
    own = evaluation.metrics[evaluation.metrics["model"] == "habitats"]
    plain = own.astype(object).where(own.notna(), None).to_dict("records")
    yield Item("CLEAR", "39-40", "metrics with intervals", plain)
    yield Item("TRIPOD+AI", "23", "performance", plain)
    gaps = evaluation.differences
    others = gaps.astype(object).where(gaps.notna(), None).to_dict("records")
    yield Item("CLEAR", "41-42", "comparison with other models", others)
    names = sorted(set(evaluation.metrics["model"]) - {"habitats"})
    yield Item("METRICS", "19, 23-25", "volume, SUV, clinical, simple models", names)
    if evaluation.curves:
        yield Item("METRICS", "22", "calibration", "calibration.csv")
        yield Item("CLEAR", "42", "net benefit", "decision.csv")
    groups = evaluation.subgroups
    shown = groups.astype(object).where(groups.notna(), None).to_dict("records")
    yield Item("TRIPOD+AI", "14", "subgroups", shown)


def _sharing(about: Mapping[str, Any]) -> Iterator[Item]:
    yield Item("CLEAR", "56-57", "model and settings", "classifier/, train.json")
    yield Item("METRICS", "30", "model", f"classifier/, habitat {about['version']}")
    yield Item("CLEAR", "28", "options left at their defaults", "see train.json")


def _option(params: Mapping[str, Any], name: str) -> Any:
    return params["options"].get(name)

"""What reporting guides ask for, as far as software can answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from habitat.saving import write_json
from habitat.selection import block, features_of
from habitat.training._items import HUMAN, OF_AUTHORS, Item
from habitat.training._radiomics import channels_of, clear, ibsi

if TYPE_CHECKING:
    from habitat.evaluation import Evaluation

REPORTING = "reporting.json"
FORMAT = "habitat.reporting/1"
_OWN = "habitats"  # the model, in tables of an evaluation
_REDUCTION = (
    *("max_correlation", "n_features", "l1_ratio", "drop_volume_proxies"),
    *("precision", "min_icc", "pools"),
)


@dataclass(frozen=True, eq=False)
class Run:
    """All that the items are filled from."""

    evaluation: Evaluation
    fitted: Any
    table: pd.DataFrame
    excluded: pd.DataFrame
    about: Mapping[str, Any]  # train.json

    @property
    def params(self) -> Mapping[str, Any]:
        return self.evaluation.params

    @property
    def options(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.params["options"]
        return found


def write_reporting(folder: Path, run: Run) -> None:
    """Write reporting.json into a folder that is not final yet."""
    items = [item._asdict() for item in reporting(run)]
    write_json(folder / REPORTING, {"format": FORMAT, "items": items}, ())


def reporting(run: Run) -> list[Item]:
    """Items of CLEAR, METRICS, TRIPOD+AI and IBSI, filled from a run.

    An item of status "human" is named so that no author overlooks it.
    """
    parts = (_cohort, _images, _preparation, _model, _performance, _sharing)
    found = [item for part in parts for item in part(run)]
    given = {(item.guide, item.item) for item in found}
    return found + [
        Item(guide, number, text, None, HUMAN)
        for guide, items in OF_AUTHORS.items()
        for number, text in items.items()
        if (guide, number) not in given
    ]


def _cohort(run: Run) -> Iterator[Item]:
    p = run.params
    how = f"{p['cv']}, {p['folds']} folds x {p['repeats']} repeats, {p['n_patients']} "
    how += "patients, no patient on both sides"
    counts = dict(zip(p["classes"], p["counts"], strict=True))
    reasons = run.excluded["reason"].value_counts().to_dict()
    flow = {"analyzed": p["n_cases"], "left out": reasons}
    described = {"classes": counts, "variables": _characteristics(run.table)}
    yield Item("CLEAR", "15", "division of the data", how)
    yield Item("CLEAR", "44", "characteristics", described)
    yield Item("CLEAR", "45", "flow of patients", flow)
    yield Item("METRICS", "4", "sites", p["sites"])
    yield _interval(run.table)
    yield Item("METRICS", "18", "division of the data", how)
    yield Item("TRIPOD+AI", "16", "training and evaluation data", how)
    yield Item("TRIPOD+AI", "20", "participants", {**flow, **described})
    yield Item("TRIPOD+AI", "21", "participants and events", counts)
    # a split within one hospital is no external test: only the authors know
    inside = p["cv"] in ("cross-validation", "given")
    by_site = p["cv"] == "leave-one-site-out"
    answer = "internal" if inside else p["cv"]
    status = "filled" if inside or by_site else HUMAN
    yield Item("CLEAR", "38", "internal or external test", answer, status)
    yield Item("METRICS", "26", "internal test", inside, status)
    yield Item("METRICS", "27", "external test", by_site, status)


def _interval(table: pd.DataFrame) -> Item:
    text = "days between scan and specimen"
    if "pdl1_days" not in table or table["pdl1_days"].isna().all():
        return Item("METRICS", "7", text, None, HUMAN)
    days = pd.to_numeric(table["pdl1_days"], errors="coerce")
    return Item("METRICS", "7", text, _spread(days))


def _characteristics(table: pd.DataFrame) -> dict[str, Any]:
    """Quartiles of numbers, counts of texts."""
    names = [n for n in map(str, table.columns) if block(n) == "clinical"]
    names += [n for n in ("tumor_volume_ml", "site", "tracer") if n in table]
    names += [n for n in ("pdl1_assay", "pdl1_specimen") if n in table]
    out: dict[str, Any] = {}
    for name in names:
        column = table[name]
        if pd.api.types.is_bool_dtype(column) or column.dtype.kind not in "iuf":
            counts = column.dropna().astype(str).value_counts().sort_index().to_dict()
            out[name] = {**counts, "missing": int(column.isna().sum())}
        else:
            out[name] = _spread(column)
    return out


def _spread(column: Any) -> dict[str, Any]:
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    there = values[np.isfinite(values)]
    names = ("q1", "median", "q3")
    found = np.quantile(there, (0.25, 0.5, 0.75)).tolist() if there.size else [None] * 3
    missing = len(values) - len(there)
    return {**dict(zip(names, found, strict=True)), "missing": missing}


def _images(run: Run) -> Iterator[Item]:
    names = features_of(run.table)
    blocks = pd.Series([block(name) for name in names]).value_counts().to_dict()
    version = run.about["version"]
    extraction = dict(run.about["extraction"])
    yield Item("CLEAR", "25", "extraction", f"habitat {version}")
    yield Item("CLEAR", "26", "features by what they describe", blocks)
    yield Item("CLEAR", "27", "number of features", len(names))
    yield Item("METRICS", "12", "software for features", f"habitat {version}")
    yield Item("TRIPOD+AI", "9", "predictors", {"n": len(names), "names": names})
    known = run.about["made"] or run.about["batch"] is not None
    if known:
        text = "options; all others are defaults"
        yield Item("CLEAR", "28", text, extraction)
        yield Item("METRICS", "13", text, extraction)
    else:
        text = "options of extraction: the batch had no run.json"
        yield Item("CLEAR", "28", text, None, HUMAN)
        yield Item("METRICS", "13", text, None, HUMAN)
        yield Item("IBSI", "46-71", text, None, HUMAN)
    channels = channels_of(names, extraction) if known else {}
    yield from clear(channels, known)
    if channels:
        yield from ibsi(channels, version, run.table)


def _preparation(run: Run) -> Iterator[Item]:
    values = run.table[features_of(run.table)]
    share = round(float(values.isna().to_numpy().mean()), 4) if values.size else 0.0
    missing = {"share of values": share, "filled": "median of the training cases"}
    counts = dict(zip(run.params["classes"], run.params["counts"], strict=True))
    balance = {"classes": counts, "class_weight": run.options.get("class_weight")}
    scaling = "standardized on the training cases of each fold"
    if run.options.get("harmonize"):
        scaling += ", after ComBat learned on them"
    own = {k: run.options[k] for k in _REDUCTION if k in run.options}
    reduction = {"all learned on the training cases of each fold": own}
    reliable = run.options.get("precision") is not None
    yield Item("CLEAR", "29", "missing values", missing)
    yield Item("CLEAR", "30", "balance of classes", balance)
    yield Item("CLEAR", "31", "features filtered by reliability", reliable)
    yield Item("CLEAR", "32", "scaling", scaling)
    yield Item("CLEAR", "33", "choice of features", reduction)
    yield Item("METRICS", "14", "removal of features that are not robust", reliable)
    yield Item("METRICS", "15", "removal of redundant features", reduction)
    yield Item("TRIPOD+AI", "7", "preparation of the data", scaling)
    yield Item("TRIPOD+AI", "11", "missing values", missing)
    yield Item("TRIPOD+AI", "13", "balance of classes", balance)
    yield Item("IBSI", "60", "features filtered by reliability", reliable)
    yield Item("IBSI", "74", "correlated features", own.get("max_correlation"))


def _model(run: Run) -> Iterator[Item]:
    kind = {"model": run.params["model"], **run.options}
    tuning = "inner cross-validation on the training cases of each fold, log loss"
    kept = list(getattr(run.fitted, "selected_", ()))
    per = float(getattr(run.fitted, "events_per_feature_", np.nan))
    events = round(per, 2) if np.isfinite(per) else None
    frequency = run.evaluation.selected.head(20).to_dict("records")
    output = {"probabilities of": run.params["classes"]}
    if len(run.params["classes"]) == 2:
        output["threshold, Youden on out-of-fold"] = float(run.fitted.threshold_)
    yield Item("CLEAR", "34", "algorithm", kind)
    yield Item("CLEAR", "35", "training", {"tuning": tuning, **kind})
    yield Item("CLEAR", "37", "choice of the model", tuning)
    yield Item("CLEAR", "43", "features by how often folds kept them", frequency)
    yield Item("CLEAR", "46", "features of the final model", kept)
    yield Item("METRICS", "16", "cases of the smallest class per feature", events)
    yield Item("METRICS", "17", "end-to-end deep learning", "none")
    yield Item("TRIPOD+AI", "10", "cases of the smallest class per feature", events)
    yield Item("TRIPOD+AI", "12", "analysis", {"tuning": tuning, **kind})
    yield Item("TRIPOD+AI", "15", "output", output)
    answer = {"files": "classifier/", "features": kept}
    yield Item("TRIPOD+AI", "22", "the model", answer)


def _performance(run: Run) -> Iterator[Item]:
    metrics, gaps = run.evaluation.metrics, run.evaluation.differences
    own = _records(metrics[metrics["model"] == _OWN])
    names = sorted({row["metric"] for row in own})
    intervals = sorted({row["how"] for row in own if row["how"]})
    others = sorted(set(metrics["model"]) - {_OWN})
    yield Item("CLEAR", "39", "metrics", names)
    yield Item("CLEAR", "40", "intervals", intervals)
    yield Item("CLEAR", "41", "comparison of models", sorted(set(gaps["how"])))
    benefit = "decision.csv" if run.evaluation.curves else None
    answer = {"beside": others, "net benefit": benefit}
    yield Item("CLEAR", "42", "other models, clinical use", answer)
    yield Item("CLEAR", "47", "performance", own)
    yield Item("CLEAR", "48", "differences to other models", _records(gaps))
    beside = {
        "volume": "volume only" in others,
        "sites": [
            r for r in _records(run.evaluation.subgroups) if r["column"] == "site"
        ],
    }
    yield Item("METRICS", "19", "confounders: volume and site", beside)
    yield Item("METRICS", "20", "metrics", names)
    yield Item("METRICS", "21", "intervals", intervals)
    curve = "calibration.csv" if run.evaluation.curves else None
    yield Item("METRICS", "22", "calibration", curve)
    yield Item("METRICS", "23", "one image feature", "SUVmax only" in others)
    yield Item("METRICS", "24", "no radiomics", "clinical only" in others)
    yield Item("METRICS", "25", "simple model", "volume only" in others)
    shown = {"model": own, "subgroups": _records(run.evaluation.subgroups)}
    yield Item("TRIPOD+AI", "23", "performance", shown)
    yield Item("IBSI", "73", "beside known factors", others)


def _sharing(run: Run) -> Iterator[Item]:
    code = f"habitat {run.about['version']}"
    yield Item("CLEAR", "55", "settings", "train.json")
    yield Item("CLEAR", "56", "code", code)
    yield Item("CLEAR", "57", "model", "classifier/")
    yield Item("METRICS", "29", "code", code)
    yield Item("METRICS", "30", "model", "classifier/")
    yield Item("IBSI", "72", "modeling", "see TRIPOD+AI")
    yield Item("IBSI", "75", "model", "classifier/, train.json")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table; None for what is not a number."""
    plain = table.astype(object).where(table.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in plain.to_dict("records")]

"""Where there is no signal none may be found, by any classifier on any path."""

import warnings

import numpy as np
import pandas as pd
import pytest

from habitat.classifiers import HabitatClassifier
from habitat.errors import HabitatWarning
from habitat.evaluation import evaluate
from habitat.mil import Bags, MILClassifier
from habitat.selection._filters import separation

MIL = ("embedding", "mi_svm", "MI_svm", "miles", "noisy_or", "lse", "plh_bow")


def noise(seed, n=60, p=15):
    """Generated features of two habitats that know nothing of the outcome."""
    rng = np.random.default_rng([seed, 7])
    y = rng.permutation(np.arange(n) % 2)
    columns = {f"h{h}_HU_f{j}": rng.normal(size=n) for h in (1, 2) for j in range(p)}
    table = pd.DataFrame({"case_id": [f"c{i}" for i in range(n)], **columns})
    table["tumor_volume_ml"] = rng.lognormal(size=n)
    table["site"] = np.where(rng.random(n) < 0.5, "a", "b")
    table["group"] = [f"p{i // 2}" for i in range(n)]
    table["split"] = np.where(np.arange(n) < 2 * n // 3, "train", "test")
    for h in (1, 2):
        table[f"h{h}_present"] = 1.0
        table[f"h{h}_volume_ml"] = 1.0
    return table, y


def areas(model, seeds, data=None, **options):
    """AUC of each seed."""
    found = []
    for seed in seeds:
        table, y = noise(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HabitatWarning)
            one = evaluate(
                model,
                table.drop(columns="group") if data is None else data(table),
                y,
                **{"cv": (5, 1), "beside": (), **options},
            )
        found.append(one.value("habitats"))
    return np.array(found)


def unbiased(found):
    """Within 3.5 standard errors of one half."""
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - 0.5) < 3.5 * error, (found.mean(), error)


def test_the_default_finds_nothing_in_noise():
    unbiased(areas(HabitatClassifier(), range(25)))


def test_selection_outside_the_folds_is_a_leak():
    """What `evaluate` does not allow: the best of 300 columns chosen on all cases."""
    honest, leaking = [], []
    for seed in range(10):
        table, y = noise(seed, p=150)
        names = [c for c in table if "_HU_" in c]
        best = np.argsort(-separation(table[names].to_numpy(), y))[:5]
        for kept, out in ((names, honest), ([names[i] for i in best], leaking)):
            model = HabitatClassifier(n_features=5)
            found = evaluate(model, table[kept], y, cv=(5, 1), beside=())
            out.append(found.value("habitats"))
    assert abs(np.mean(honest) - 0.5) < 0.08
    assert np.mean(leaking) - np.mean(honest) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "seeds"),
    [
        (HabitatClassifier(), 100),
        (HabitatClassifier(l1_ratio=0.5), 100),
        (HabitatClassifier(l1_ratio=None), 100),
        (HabitatClassifier("svm"), 100),
        (HabitatClassifier("forest"), 20),
        (HabitatClassifier("extra_trees"), 20),
        (HabitatClassifier("boosting"), 20),
        (HabitatClassifier(harmonize="combat"), 100),
        (HabitatClassifier(drop_volume_proxies=0.7), 100),
    ],
    ids=lambda v: str(v)[:60],
)
def test_no_classifier_finds_a_signal_in_noise(model, seeds):
    unbiased(areas(model, range(seeds)))


@pytest.mark.slow
@pytest.mark.parametrize("method", [*MIL, "attention"])
def test_no_multi_instance_model_finds_a_signal_in_noise(method):
    unbiased(areas(MILClassifier(method), range(20), Bags.from_table))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"cv": "split"}, {"cv": "leave-one-site-out"}, {"cv": (10, 1)}, {"cv": (29, 1)}],
    ids=str,
)
def test_no_path_finds_a_signal_in_noise(options):
    unbiased(areas(HabitatClassifier(), range(100), **options))


@pytest.mark.slow
def test_cases_of_a_patient_give_nothing_away():
    found = []
    for seed in range(100):
        table, _ = noise(seed)
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.arange(30) % 2)[np.arange(60) // 2]
        for name in [c for c in table if "_HU_" in c]:
            table[name] = table[name].to_numpy()[(np.arange(60) // 2) * 2]  # twins
        one = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=())
        found.append(one.value("habitats"))
    unbiased(np.array(found))


@pytest.mark.slow
def test_three_classes_of_noise():
    found = []
    for seed in range(100):
        table, _ = noise(seed)
        y = np.random.default_rng(seed).permutation(np.arange(60) % 3)
        table = table.drop(columns="group")
        one = evaluate(HabitatClassifier(), table, y, cv=(5, 1), beside=())
        found.append(one.value("habitats"))
    unbiased(np.array(found))


@pytest.mark.slow
def test_the_interval_covers_one_half_as_often_as_it_says():
    """The default path, 200 generated data sets without signal."""
    covered, found = [], []
    for seed in range(200):
        table, y = noise(seed)
        table = table.drop(columns="group")
        one = evaluate(HabitatClassifier(), table, y, beside=())
        row = one.metrics.iloc[0]
        covered.append(row["low"] <= 0.5 <= row["high"])
        found.append(row["value"])
    print(f"covered {np.mean(covered):.3f}, mean AUC {np.mean(found):.4f}")
    unbiased(np.array(found))
    assert 0.90 <= np.mean(covered) <= 0.99

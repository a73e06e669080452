"""MUSK1 and elephant, ten-fold: beside the papers, and which default is right."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from habitat.mil import Bags, MILClassifier

pytestmark = pytest.mark.slow

SVM = {"C": 10.0, "pools": ("min", "max"), "options": {"head": "svm"}}
LINEAR = {"options": {"kernel": "linear"}}


def load(shared, name):
    data = np.loadtxt(shared / "data" / "mil" / f"{name}.csv.gz", delimiter=",")
    ids, bag = np.unique(data[:, 1], return_inverse=True)
    first = np.unique(bag, return_index=True)[1]
    return Bags(data[:, 2:], bag, ids.astype(int)), data[first, 0].astype(int)


def run(bags, y, repeats, **arguments):
    """Accuracy of each fold, mean over repeats, AUC; the threshold of inner folds."""
    folds, accuracy, areas = [], [], []
    for repeat in range(repeats):
        p, right = np.empty(len(y)), np.empty(len(y))
        splits = StratifiedKFold(10, shuffle=True, random_state=repeat)
        for train, test in splits.split(y, y):
            model = MILClassifier(random_state=repeat, **arguments)
            model.fit(bags.take(train), y[train])
            p[test] = model.predict_proba(bags.take(test))[:, 1]
            right[test] = model.predict(bags.take(test)) == y[test]
            folds.append(right[test].mean())
        accuracy.append(right.mean())
        areas.append(roc_auc_score(y, p))
    return np.array(folds), np.mean(accuracy), np.mean(areas)


@pytest.fixture(scope="module")
def embeddings(shared):
    """Of each data set: the default and the best support vector machine."""
    return {
        name: [run(*load(shared, name), 10, **kw) for kw in ({}, SVM)]
        for name in ("musk1", "elephant")
    }


def test_embeddings_reach_what_is_known(embeddings):
    # accuracies in the notes on the data: .911 (AUC .979) and .854 (.933)
    _, accuracy, area = embeddings["musk1"][1]
    assert accuracy == pytest.approx(0.911, abs=0.02)
    assert area == pytest.approx(0.979, abs=0.02)
    _, accuracy, area = embeddings["elephant"][0]
    assert accuracy == pytest.approx(0.854, abs=0.02)
    assert area == pytest.approx(0.933, abs=0.02)


@pytest.mark.parametrize("name", ["musk1", "elephant"])
def test_the_default_does_not_lose(embeddings, name):
    """Corrected t (Nadeau and Bengio) of the folds of ten repeats."""
    (default, *_), (svm, *_) = embeddings[name]
    d = default - svm
    error = np.sqrt(d.var(ddof=1) * (1.0 / len(d) + 1.0 / 9.0))
    low = d.mean() + stats.t.ppf(0.025, len(d) - 1) * error
    high = d.mean() - stats.t.ppf(0.025, len(d) - 1) * error
    assert high > 0, (low, high)


# Accuracies quoted from memory, not looked up: mi-SVM and MI-SVM in Andrews,
# Tsochantaridis and Hofmann, NIPS 2002 (elephant: linear kernel); MILES in Chen, Bi and
# Wang, TPAMI 2006;28:1931; gated attention in Ilse, Tomczak and Welling, ICML 2018.
PAPERS = [
    ("musk1", "mi_svm", {}, 0.874),
    ("musk1", "MI_svm", {}, 0.779),
    ("musk1", "miles", {}, 0.863),
    ("musk1", "attention", {}, 0.900),
    ("elephant", "mi_svm", {}, 0.822),
    ("elephant", "MI_svm", LINEAR, 0.814),
]


@pytest.mark.parametrize(("name", "method", "arguments", "printed"), PAPERS)
def test_methods_reach_their_papers(shared, name, method, arguments, printed):
    bags, y = load(shared, name)
    _, accuracy, _ = run(bags, y, 2, method=method, **arguments)
    spread = np.sqrt(printed * (1 - printed) / len(y))  # of one data set of this size
    assert accuracy > printed - 2.0 * spread

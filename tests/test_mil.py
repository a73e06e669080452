"""Classifiers of bags: their formulas, their honesty, what they find."""

import json
import warnings

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from habitat.errors import CohortError, ConfigError, HabitatWarning, ModelError
from habitat.mil import POOLS, Bags, MILClassifier, plh_bow
from habitat.mil import _attention as attention
from habitat.mil import _likelihood as likelihood
from habitat.mil._bags import arranged
from habitat.mil._heads import Scale, gram, machine
from habitat.mil._methods import METHODS
from habitat.mil._pools import pooled
from habitat.mil._svm import highest

QUICK = {"attention": {"seeds": 2, "max_iter": 30, "hidden": 4, "units": 3}}
MANY = [name for name, method in METHODS.items() if method.classes]


def model(method, **arguments):
    return MILClassifier(method, options=QUICK.get(method), **arguments)


def make(n=60, p=5, shift=1.5, seed=0, classes=2):
    """Bags of one to five instances, the class moves all of them."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    arrays = [rng.normal(shift * c, 1.0, (rng.integers(1, 6), p)) for c in y]
    weights = [rng.uniform(1, 9, len(array)) for array in arrays]
    return Bags.from_list(arrays, weights=weights), y


def shuffled(bags, seed=1):
    order = np.random.default_rng(seed).permutation(len(bags.X))
    names = [bags.instance_names[i] for i in order]
    return order, Bags(
        bags.X[order],
        bags.bag[order],
        bags.bag_ids,
        names,
        bags.feature_names,
        bags.weights[order],
    )


@pytest.mark.parametrize("method", METHODS)
def test_order_of_instances_changes_no_bit(method):
    bags, y = make()
    order, other = shuffled(bags)
    one, two = model(method).fit(bags, y), model(method).fit(other, y)
    p = one.predict_proba(bags)
    np.testing.assert_array_equal(p, one.predict_proba(other))
    np.testing.assert_array_equal(p, two.predict_proba(bags))
    np.testing.assert_array_equal(one.oof_, two.oof_)
    found = one.instance_scores(bags)
    np.testing.assert_array_equal(found[order], one.instance_scores(other))
    assert found.shape == (len(bags.X),)


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_and_is_calibrated(method):
    bags, y = make(shift=1.0)
    fitted = clone(model(method)).fit(bags, np.array(["no", "yes"])[y])
    assert fitted.classes_.tolist() == ["no", "yes"]
    assert roc_auc_score(y, fitted.oof_[:, 1]) > 0.9
    np.testing.assert_allclose(fitted.oof_.mean(axis=0), [0.5, 0.5], atol=1e-6)
    new, answer = make(shift=1.0, seed=9)
    p = fitted.predict_proba(new)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert roc_auc_score(answer, p[:, 1]) > 0.85
    np.testing.assert_array_equal(
        fitted.predict(new) == "yes", p[:, 1] >= fitted.threshold_
    )
    again = model(method).fit(bags, np.array(["no", "yes"])[y])
    np.testing.assert_array_equal(again.predict_proba(new), p)


@pytest.mark.parametrize("method", METHODS)
def test_saved_and_loaded_it_is_the_same(method, tmp_path):
    bags, y = make()
    fitted = model(method).fit(bags, y)
    fitted.save(tmp_path / "model")
    loaded = MILClassifier.load(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "arrays.npz",
        "model.json",
    ]
    for name in ("predict_proba", "instance_scores", "predict"):
        np.testing.assert_array_equal(
            getattr(loaded, name)(bags), getattr(fitted, name)(bags)
        )
    assert loaded.get_params() == fitted.get_params()
    assert (loaded.threshold_, loaded.notes_) == (fitted.threshold_, fitted.notes_)
    assert loaded.outside(bags).equals(fitted.outside(bags))


@pytest.mark.parametrize("method", METHODS)
def test_three_classes(method, tmp_path):
    bags, y = make(90, classes=3, shift=1.2)
    if method not in MANY:
        with pytest.raises(ConfigError, match="use embedding, plh_bow, attention"):
            model(method).fit(bags, y)
        return
    fitted = model(method).fit(bags, y)
    assert (fitted.predict(bags) == y).mean() > 0.75
    np.testing.assert_allclose(fitted.oof_.mean(axis=0), [1 / 3] * 3, atol=1e-6)
    assert np.isnan(fitted.threshold_)
    assert fitted.instance_scores(bags).shape == (len(bags.X),)
    fitted.save(tmp_path / "model")
    loaded = MILClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.predict_proba(bags), fitted.predict_proba(bags)
    )
    assert np.isnan(loaded.threshold_)


def test_files_that_are_not_as_written(tmp_path):
    bags, y = make()
    folder = MILClassifier().fit(bags, y).save(tmp_path / "model")
    path = folder / "model.json"
    text = path.read_text()
    path.write_text(text.replace('"threshold": 0.', '"threshold": 0.9'))
    with pytest.raises(ModelError, match="changed after saving"):
        MILClassifier.load(folder)
    path.write_text(json.dumps({**json.loads(text), "format": "habitat.mil/2"}))
    with pytest.raises(ModelError, match="update habitat"):
        MILClassifier.load(folder)
    broken = MILClassifier().fit(bags, y)
    broken.offsets_ = broken.offsets_ * np.nan
    broken.save(tmp_path / "nan")
    with pytest.raises(ModelError, match="not finite: offsets"):
        MILClassifier.load(tmp_path / "nan")
    drawn = MILClassifier("lse", C=np.float64(2), random_state=np.int64(3))
    drawn.set_params(options={"r": np.float32(4)}).fit(bags, y).save(tmp_path / "np")
    assert MILClassifier.load(tmp_path / "np").options == {"r": 4.0}
    own = MILClassifier(pools=[lambda X, _: X.mean(axis=0)]).fit(bags, y)
    with pytest.raises(ModelError, match="code of your own"):
        own.save(tmp_path / "own")


def test_features_go_by_name():
    bags, y = make()
    fitted = MILClassifier().fit(bags, y)
    turned = Bags(
        bags.X[:, ::-1],
        bags.bag,
        bags.bag_ids,
        feature_names=bags.feature_names[::-1],
        weights=bags.weights,
    )
    np.testing.assert_array_equal(
        fitted.predict_proba(bags), fitted.predict_proba(turned)
    )
    less = Bags(bags.X[:, :3], bags.bag, bags.bag_ids)
    with pytest.raises(ModelError, match="2 features of the model are missing: x3, x4"):
        fitted.predict_proba(less)
    with pytest.raises(ConfigError, match="must be a Bags"):
        fitted.predict_proba(bags.X)


def test_missing_values_become_training_medians():
    bags, y = make()
    X = bags.X.copy()
    X[::7, 2] = np.nan
    holes = Bags(X, bags.bag, bags.bag_ids)
    fitted = MILClassifier().fit(holes, y)
    assert fitted.notes_ == ("missing values of 1 of 5 features became medians: x2",)
    X[::7, 2] = np.nanmedian(X[:, 2])
    filled = Bags(X, bags.bag, bags.bag_ids)
    np.testing.assert_array_equal(
        fitted.predict_proba(holes), fitted.predict_proba(filled)
    )
    X[:, 2] = np.nan
    empty = Bags(X, bags.bag, bags.bag_ids)
    assert np.isfinite(MILClassifier().fit(empty, y).predict_proba(empty)).all()


def test_outcomes_that_cannot_be_learned():
    bags, y = make()
    for bad, match in (
        (np.zeros(60), "one class"),
        (np.where(y == 1, np.nan, 0.0), "30 of 60 bags have no class"),
        (np.linspace(0, 1, 60), "no classes"),
        (np.array([1, "a"] * 30, dtype=object), "mixes kinds"),
        (np.arange(60) == 3, "smallest class has 1"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HabitatWarning)
            with pytest.raises(CohortError, match=match):
                MILClassifier().fit(bags, bad)
    with pytest.raises(ConfigError, match="each of the 60 bags"):
        MILClassifier().fit(bags, y[:-1])
    with pytest.warns(HabitatWarning, match="class 1 has 3 cases only"):
        fitted = MILClassifier().fit(bags, (np.arange(60) < 3).astype(int))
    assert "3 inner folds, not 5" in fitted.notes_[1]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "MI_SVM"}, "did you mean 'mi_svm'|did you mean 'MI_svm'"),
        ({"pools": "mean"}, "sequence of pools"),
        ({"pools": ("median",)}, "pools"),
        ({"options": {"heads": "svm"}}, "did you mean 'head'"),
        ({"options": {"head": "forest"}}, "head"),
        ({"C": 0}, "C"),
        ({"class_weight": "even"}, "class_weight"),
        ({"inner": 1}, "inner"),
        ({"pools": ("weighted_mean",)}, "needs weights"),
    ],
)
def test_parameters_that_are_wrong(arguments, match):
    bags, y = make()
    bags = Bags(bags.X, bags.bag, bags.bag_ids)  # no weights
    with pytest.raises(ConfigError, match=match):
        MILClassifier(**arguments).fit(bags, y)


def test_groups_stay_together():
    rng = np.random.default_rng(0)
    twins = np.repeat(rng.normal(size=(30, 1, 4)), 2, axis=0)  # no signal
    y = np.repeat(rng.permutation(np.arange(30) % 2), 2)
    bags, groups = Bags.from_list(twins), np.repeat(np.arange(30), 2)
    options = {"head": "svm"}
    apart = MILClassifier(C=1000, options=options).fit(bags, y)
    together = MILClassifier(C=1000, options=options).fit(bags, y, groups=groups)
    assert roc_auc_score(y, apart.oof_[:, 1]) > 0.7  # knows each by its twin
    assert roc_auc_score(y, together.oof_[:, 1]) < 0.7


# --- formulas ---------------------------------------------------------------------


def test_pools_against_loops():
    bags, _ = make()
    parts = arranged(bags, range(5))
    own = lambda X, w: X[:, 0].max() + np.zeros(X.shape[1])  # noqa: E731
    found = pooled(parts, [*POOLS, own]).reshape(len(bags), -1, 5)
    for b in range(len(bags)):
        X, w = bags.X[bags.bag == b], bags.weights[bags.bag == b]
        expected = {
            "mean": X.mean(axis=0),
            "min": X.min(axis=0),
            "max": X.max(axis=0),
            "sd": np.sqrt(((X - X.mean(axis=0)) ** 2).mean(axis=0)),
            "weighted_mean": np.average(X, axis=0, weights=w),
            **{
                f"q{q}": np.percentile(X, q, axis=0, method="linear")
                for q in (10, 25, 50, 75, 90)
            },
        }
        for i, name in enumerate(POOLS):
            np.testing.assert_allclose(found[b, i], expected[name], rtol=1e-12)
        assert found[b, -1, 0] == X[:, 0].max()


def test_embedding_is_a_pipeline_of_scikit_learn():
    bags, y = make(shift=0.3)
    E = pooled(arranged(bags, range(5)), ("mean", "min", "max"))
    Z = StandardScaler().fit_transform(E)
    linear = LogisticRegression(C=2.0 / 15, class_weight="balanced", tol=1e-10)
    linear.fit(Z, y)
    fitted = MILClassifier(C=2.0).fit(bags, y).model_
    np.testing.assert_allclose(
        fitted.scores(arranged(bags, range(5))), linear.decision_function(Z), atol=1e-5
    )
    svc = SVC(C=2.0, gamma=1 / 15, class_weight="balanced").fit(Z, y)
    fitted = MILClassifier(C=2.0, options={"head": "svm"}).fit(bags, y).model_
    np.testing.assert_allclose(
        fitted.scores(arranged(bags, range(5))), svc.decision_function(Z), atol=1e-8
    )


def test_wide_embeddings_too():
    bags, y = make(30, p=50, shift=0.3)
    Z = StandardScaler().fit_transform(pooled(arranged(bags, range(50)), ["mean"]))
    linear = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-10).fit(Z, y)
    fitted = MILClassifier(C=5.0, pools=["mean"]).fit(bags, y).model_
    np.testing.assert_allclose(
        fitted.scores(arranged(bags, range(50))), linear.decision_function(Z), atol=1e-5
    )


@pytest.mark.parametrize("pool", [likelihood.noisy_or, likelihood.pooling(5.0)])
def test_pooled_likelihood(pool):
    bags, y = make()
    parts = arranged(bags, range(5))
    f = parts.X[:, 0]
    p = expit(f)
    if pool is likelihood.noisy_or:
        expected = [1 - np.prod(1 - p[parts.bag == b]) for b in range(60)]
    else:
        expected = [np.log(np.exp(5 * p[parts.bag == b]).mean()) / 5 for b in range(60)]
    np.testing.assert_allclose(expit(pool(parts, f)[0]), expected, rtol=1e-10)
    arguments = (parts, y.astype(float), np.linspace(0.5, 2, 60), 3.0, pool)
    theta = np.random.default_rng(0).normal(size=6)
    error = check_grad(
        lambda t: likelihood.objective(t, *arguments)[0],
        lambda t: likelihood.objective(t, *arguments)[1],
        theta,
    )
    assert error < 1e-4
    far = np.array([800.0, -800.0, *np.zeros(len(f) - 2)])
    assert np.isfinite(np.concatenate(pool(parts, far))).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_gradients_of_attention(classes):
    bags, y = make(30, classes=classes)
    parts = arranged(bags, range(5))
    outputs = 1 if classes == 2 else 3
    sizes = attention.shapes(5, 4, 3, outputs)
    theta = np.random.default_rng(0).normal(
        scale=0.7, size=sum(int(np.prod(s)) for s in sizes)
    )
    arguments = (sizes, parts, np.eye(classes)[y], np.linspace(0.5, 2, 30), 3.0)
    error = check_grad(
        lambda t: attention.objective(t, *arguments)[0],
        lambda t: attention.objective(t, *arguments)[1],
        theta,
    )
    assert error < 1e-4
    a = attention.forward(parts, attention.split(theta, sizes))[1]
    np.testing.assert_allclose(parts.sums(a), 1.0)


def test_machine_is_that_of_scikit_learn():
    bags, y = make(shift=0.5)
    X, labels = bags.X, y[bags.bag]
    svc = SVC(C=2.0, gamma=0.3, class_weight="balanced").fit(X, labels)
    ours = machine(X, labels, 2.0, 0.3, "balanced", gram(X, X, 0.3))
    np.testing.assert_allclose(ours.scores(X), svc.decision_function(X), atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_margins_of_bags_are_those_of_their_highest_instance(kernel):
    bags, y = witnesses(60)
    for method in ("mi_svm", "MI_svm"):
        fitted = MILClassifier(method, options={"kernel": kernel}).fit(bags, y)
        parts = arranged(bags, range(bags.X.shape[1]))
        f = fitted.model_.instances(parts)
        np.testing.assert_array_equal(fitted.model_.scores(parts), parts.maxima(f))
    # MI-SVM has come to rest: the machine of its own witnesses is itself
    kept = highest(parts, f)[y == 1]
    rows = np.concatenate([np.flatnonzero(y[parts.bag] == 0), kept])
    Z = Scale.fit(parts.X).of(parts.X)[rows]
    gamma = 1.0 if kernel == "rbf" else 0.0
    svm = machine(Z, y[parts.bag][rows], 10.0, gamma, "balanced", gram(Z, Z, gamma))
    np.testing.assert_allclose(svm.scores(Z), f[rows], atol=0.02)


def test_miles_is_the_likeness_to_training_instances():
    bags, y = make(shift=0.5)
    fitted = MILClassifier("miles", C=3.0, options={"gamma": 0.7}).fit(bags, y).model_
    Z = (bags.X - bags.X.mean(axis=0)) / (bags.X.std(axis=0) * np.sqrt(5))
    like = np.array(
        [
            [
                np.exp(-0.7 * ((Z[bags.bag == b] - x) ** 2).sum(axis=1)).max()
                for x in fitted.prototypes
            ]
            for b in range(60)
        ]
    )
    expected = like @ fitted.head.coefficients[0] + fitted.head.intercepts[0]
    found = fitted.scores(arranged(bags, range(5)))
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert 0 < len(fitted.prototypes) < len(bags.X)


def test_histograms_and_words():
    p = np.array([0.05, 0.95, 0.55, 0.99, 1.0, 0.0])
    bag = np.array([0, 0, 1, 1, 1, 2])
    made = plh_bow(p, bag, bins=10, weights=[1, 3, 1, 1, 2, 1])
    shares = made[[f"plh_{i}" for i in range(10)]].to_numpy()
    np.testing.assert_allclose(shares[0], [0.5, *[0] * 8, 0.5])
    np.testing.assert_allclose(shares[1], [*[0] * 5, 1 / 3, 0, 0, 0, 2 / 3])
    counts = shares * np.bincount(bag)[:, None]
    words = TfidfTransformer().fit_transform(counts).toarray()
    np.testing.assert_allclose(made[[f"bow_{i}" for i in range(10)]].to_numpy(), words)
    np.testing.assert_allclose(made["mean"], [0.5, 2.54 / 3, 0.0])
    np.testing.assert_allclose(made["noisy_or"], [1 - 0.95 * 0.05, 1.0, 0.0])
    np.testing.assert_allclose(made["weighted_mean"], [0.725, 3.54 / 4, 0.0])
    np.testing.assert_allclose(made["positive"], [0.5, 1.0, 0.0])
    np.testing.assert_allclose(made["top"], [0.95, 1.0, 0.0])
    # a new bag gets the columns and the rarities of the training bags
    new = plh_bow([0.5, 0.52], [0, 0], bins=10, idf=made.attrs["idf"])
    assert list(new) == [c for c in made if c != "weighted_mean"]
    soft = plh_bow(p, bag, bins=10, soft=0.1)
    shares = soft[[f"plh_{i}" for i in range(10)]].to_numpy()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert shares[0, 1] > 0.1
    with pytest.raises(ConfigError, match=r"\[0, 1\]"):
        plh_bow([1.2], [0])
    with pytest.raises(ConfigError, match="1 of 2 bags have no instance"):
        plh_bow([0.2], [1])


def test_probabilities_of_a_network_of_ones_own():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    bags = Bags.from_list([expit(rng.normal(c, 1.0, (7, 1))) for c in y])
    fitted = MILClassifier("plh_bow", options={"external": True}).fit(bags, y)
    assert roc_auc_score(y, fitted.oof_[:, 1]) > 0.85
    np.testing.assert_array_equal(fitted.instance_scores(bags), bags.X[:, 0])


# --- honesty ----------------------------------------------------------------------


def test_histograms_are_made_of_probabilities_out_of_fold():
    """With more features than instances a resubstituted model would be perfect."""
    rng = np.random.default_rng(0)
    bags = Bags.from_list(rng.normal(size=(40, 3, 200)))
    y = np.arange(40) % 2
    fitted = MILClassifier("plh_bow").fit(bags, y)
    assert roc_auc_score(y[bags.bag], fitted.instance_scores(bags)) > 0.95
    # the bags' model knows them as they are to strangers, and trusts them little
    known = fitted.model_.scores(arranged(bags, range(200)))
    assert roc_auc_score(y, fitted.oof_[:, 1]) < 0.75
    assert np.abs(known).max() < 20


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_found_where_nothing_is(method):
    found = []
    for seed in range(40):
        bags, y = make(80, shift=0.0, seed=seed)
        fitted = model(method).fit(bags.take(np.arange(40)), y[:40])
        p = fitted.predict_proba(bags.take(np.arange(40, 80)))[:, 1]
        found.append(
            (roc_auc_score(y[40:], p), roc_auc_score(y[:40], fitted.oof_[:, 1]))
        )
    test, _ = np.mean(found, axis=0)
    error = np.std([a for a, _ in found], ddof=1) / np.sqrt(len(found))
    assert abs(test - 0.5) < 3.5 * error


# --- what they are for ------------------------------------------------------------


def witnesses(n, seed=0):
    """Generated: four instances, of positive bags the first one is abnormal.

    Half of all instances are low in the feature in which the abnormal one is high, so
    that a mean says little; seven more features say nothing.
    """
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 4, 8))
    X[:, :, 0] -= 5.0 * (rng.random((n, 4)) < 0.5)
    X[y == 1, 0, 0] = 4.0 + rng.normal(size=n // 2)
    return Bags.from_list(X), y


def test_a_witness_is_found():
    bags, y = witnesses(200)
    new, answer = witnesses(400, seed=1)

    def auc(fitted):
        return roc_auc_score(answer, fitted.predict_proba(new)[:, 1])

    mean = auc(MILClassifier(pools=["mean"]).fit(bags, y))
    assert mean < 0.9
    for method in ("MI_svm", "attention", "noisy_or"):
        fitted = MILClassifier(method).fit(bags, y)
        assert auc(fitted) >= mean + 0.1, method
        scores = fitted.instance_scores(new).reshape(-1, 4)[answer == 1]
        assert (scores.argmax(axis=1) == 0).mean() >= 0.8, method
    assert auc(MILClassifier().fit(bags, y)) >= mean + 0.1  # it has minima and maxima

"""Nomogram: points that give the probabilities of the model."""

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

from habitat.classifiers import HabitatClassifier, nomogram
from habitat.errors import ConfigError


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    table = pd.DataFrame(rng.normal(size=(120, 3)), columns=["h1_a", "h2_a", "h3_a"])
    table["h1_a"] = 100 + 30 * (table["h1_a"] + y)
    table["h2_a"] -= y
    table["h3_a"] = 0.001 * table["h3_a"]
    return HabitatClassifier(l1_ratio=None).fit(table, y), table


def test_points_give_the_probability(fitted):
    model, table = fitted
    found = nomogram(model)
    p = found.probability(found.total(table))
    np.testing.assert_allclose(p, model.predict_proba(table)[:, 1], atol=1e-9)


def test_rulers_begin_at_zero_and_the_longest_ends_at_100(fitted):
    points = nomogram(fitted[0]).points.groupby("feature")["points"]
    np.testing.assert_allclose(points.min(), 0.0, atol=1e-9)
    assert points.max().max() == pytest.approx(100.0)


def test_a_case_read_by_hand(fitted):
    """Marks of each ruler, added up, lie on the ruler of the probability."""
    model, _ = fitted
    found = nomogram(model)
    first = found.points.groupby("feature", sort=False).first()
    case = first["value"].to_frame().T.reset_index(drop=True)
    p = model.predict_proba(case)[0, 1]
    table = found.probabilities
    read = np.interp(
        first["points"].sum(), table["total"], np.log(table["probability"].to_numpy())
    )
    assert np.exp(read) == pytest.approx(p, rel=0.1)


def test_it_is_drawn(fitted):
    figure = nomogram(fitted[0]).plot()
    assert isinstance(figure, matplotlib.figure.Figure)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [
        "Points",
        "h1_a",
        "h2_a",
        "h3_a",
        "Total points",
        "Probability of 1",
    ]


def test_other_models_have_none(fitted):
    model, table = fitted
    y = np.arange(120)
    for other, text in (
        (HabitatClassifier("svm").fit(table, y % 2), "no fitted logistic model"),
        (HabitatClassifier(), "no fitted logistic model"),
        (HabitatClassifier().fit(table, y % 3), "has 3 classes"),
        (HabitatClassifier().fit(0 * table, y % 2), "uses no feature"),
    ):
        with pytest.raises(ConfigError, match=text):
            nomogram(other)
    harmonized = HabitatClassifier(harmonize="combat")
    harmonized.fit(table, y % 2, sites=np.where(y < 60, "a", "b"))
    with pytest.raises(ConfigError, match="cannot be read by hand"):
        nomogram(harmonized)

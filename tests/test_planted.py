"""Cohorts whose outcome shows in one property of habitats: is it found, and only there.

Ten generated cohorts each, hours long: ``pytest -m slow -s tests/test_planted.py``.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from habitat import HabitatModel
from habitat.classifiers import HabitatClassifier
from habitat.evaluation import Habitats, evaluate
from tests import planted

SEEDS, CASES = 10, 200
TEXTURE = {"families": ("composition", "intensity", "radiomics"), "spacing": None}
SHARES = {"families": ("composition", "diversity")}


def areas_of(make, extraction, beside):
    """AUC of each model in each cohort, and the lower ends of its gap to others."""
    areas, gaps = [], []
    for seed in range(SEEDS):
        cases, y = make(CASES, seed)
        found = evaluate(
            HabitatClassifier(),
            cases,
            y,
            cv=(5, 1),
            beside=beside,
            habitats=Habitats(HabitatModel(k=2), extraction),
        )
        areas.append(found.areas.set_index("model")["value"])
        gaps.append(found.differences.set_index("model")["value"])
        print(seed, areas[-1].round(3).to_dict())
    return pd.DataFrame(areas), pd.DataFrame(gaps)


def lower_end(values):
    """Of the 95 % interval of the mean over cohorts."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - stats.t.ppf(0.975, len(values) - 1) * error


@pytest.mark.slow
def test_the_place_of_a_texture_is_found_by_habitats_alone():
    beside = ("whole tumor", "surrogate habitats", "permuted habitats")
    areas, gaps = areas_of(
        planted.texture_place, TEXTURE, (*beside, "permuted outcome")
    )
    mean = areas.mean()
    assert gaps["whole tumor"].mean() >= 0.15
    assert lower_end(gaps["whole tumor"]) > 0
    for control in beside[1:]:
        assert abs(mean[control] - mean["whole tumor"]) <= 0.05
    assert abs(mean["permuted outcome"] - 0.5) <= 0.05


@pytest.mark.slow
def test_shares_are_found_and_surrogates_do_not_have_them():
    areas, gaps = areas_of(planted.shares, SHARES, ("surrogate habitats",))
    assert areas["habitats"].mean() > 0.8
    assert lower_end(gaps["surrogate habitats"]) > 0.15
    assert abs(areas["surrogate habitats"].mean() - 0.5) <= 0.05


def test_the_planted_cohorts_are_what_they_say():
    cases, y = planted.texture_place(20)
    hot, spread = [], []
    for case in cases:
        mask = case.mask.array > 0
        pet, ct = (case.images[c].array for c in ("pet", "ct"))
        inside = mask & (pet > 5.5)
        hot.append(inside.sum() / mask.sum())
        spread.append([ct[inside].std(), ct[mask & ~inside].std()])
    np.testing.assert_allclose(hot, 0.5, atol=0.01)  # equal shares
    assert np.ptp(spread) < 0.5  # equal histograms
    cases, y = planted.shares(20)
    share = np.array(
        [
            (case.images["pet"].array > 5.5).sum() / (case.mask.array > 0).sum()
            for case in cases
        ]
    )
    assert share[y == 1].mean() - share[y == 0].mean() > 0.1

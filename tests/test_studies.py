"""Every published pipeline that needs no deep network, as one call on generated data.

The calls are those of the table in README. What the papers leave open (METHODS 0.1) has
our defaults. Numbers on generated data mean nothing; that the road is there does.
"""

import warnings

import numpy as np
import pytest

from habitat import Case, HabitatModel, Image, outcome_of
from habitat.classifiers import HabitatClassifier, nomogram
from habitat.errors import HabitatWarning
from habitat.evaluation import Habitats, evaluate
from habitat.mil import Bags, MILClassifier

pytestmark = pytest.mark.slow

SIZE, SPACING, CASES = 12, (3.0, 3.0, 3.0), 24
PET, CT = ("pet", "SUVbw", 6.0, 1.5), ("ct", "HU", 40.0, 15.0)
FIRST_ORDER = {"families": ("composition", "intensity")}
RADIOMICS = {"families": ("composition", "intensity", "radiomics"), "spacing": None}


def cohort(*channels, tps=(0.0, 60.0)):
    """Generated cases; the second channel statistic rises with PD-L1."""
    places = np.indices((SIZE,) * 3) - (SIZE - 1) / 2
    mask = (places**2).sum(axis=0) <= (SIZE / 2 - 1) ** 2
    cases = []
    for i in range(CASES):
        rng = np.random.default_rng(i)
        value = tps[i % len(tps)]
        images = {}
        for name, unit, mean, sd in channels:
            noise = rng.normal(size=mask.shape) + (places[0] > 0)
            array = mean + sd * (noise + 0.02 * value)
            images[name] = Image(array.astype(np.float32), spacing=SPACING, unit=unit)
        clinical = {"age": float(rng.normal(65, 8)), "sex": "mf"[i % 3 == 0]}
        outcome = {"pdl1_tps": value}
        where = Image(mask, spacing=SPACING)
        one = Case(f"c{i}", images, where, clinical=clinical, outcome=outcome)
        cases.append(one)
    return cases


def run(model, cases, habitats, cutoffs=(1,)):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HabitatWarning)
        outcome = outcome_of(cases, "pdl1_tps", cutoffs)
        return evaluate(
            model,
            cases,
            outcome.values,
            cv=(3, 1),
            beside=("whole tumor", "clinical only"),
            habitats=habitats,
            jobs=1,
        )


def test_wen_2021_plain_ct_lasso_and_clinical_data():
    found = run(HabitatClassifier(), cohort(CT), Habitats(HabitatModel(k=2), RADIOMICS))
    assert {"whole tumor", "clinical only"} < set(found.metrics["model"])


def test_liu_z_2025_arterial_ct_random_forest_three_classes():
    arterial = ("arterial", "HU", 90.0, 20.0)
    cases = cohort(arterial, tps=(0.0, 20.0, 60.0))
    model = HabitatClassifier("forest")
    how = Habitats(HabitatModel(k=2), RADIOMICS)
    found = run(model, cases, how, cutoffs=(1, 50))
    assert found.params["metric"] == "hand_till"
    assert sum("against the rest" in m for m in set(found.metrics["metric"])) == 3


def test_sun_2025_two_phases():
    phases = (("arterial", "HU", 90.0, 20.0), ("venous", "HU", 75.0, 15.0))
    found = run(
        HabitatClassifier(), cohort(*phases), Habitats(HabitatModel(k=2), RADIOMICS)
    )
    assert found.params["n_cases"] == CASES


def test_yamagata_2024_iodine_map():
    iodine = ("iodine", "mg/mL", 2.0, 0.5)
    found = run(
        HabitatClassifier(), cohort(iodine), Habitats(HabitatModel(k=2), FIRST_ORDER)
    )
    assert found.value("habitats") > 0.5


def test_huang_2025_three_subregions_of_ct_extra_trees():
    found = run(
        HabitatClassifier("extra_trees"),
        cohort(CT),
        Habitats(HabitatModel(k=3), RADIOMICS),
    )
    assert found.params["options"]["model"] == "extra_trees"


def test_huang_2025_histograms_and_words_of_slice_probabilities():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    slices = [np.clip(rng.normal(0.4 + 0.2 * v, 0.2, (7, 1)), 0, 1) for v in y]
    model = MILClassifier("plh_bow", options={"external": True})
    found = evaluate(model, Bags.from_list(slices), y, cv=(5, 1), beside=())
    assert found.value("habitats") > 0.7


def test_zhao_2023_pet_ct_lasso_and_nomogram():
    cases = cohort(PET, CT)
    how = Habitats(HabitatModel(k=2), RADIOMICS)
    found = run(HabitatClassifier(), cases, how)
    assert found.value("habitats") > 0.5
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    fitted = HabitatClassifier().fit(rng.normal(size=(60, 3)) + y[:, None], y)
    assert len(nomogram(fitted).points)


def test_ji_2025_otsu_quadrants_metabolic_features_extra_trees():
    families = ("composition", "intensity", "radiomics", "pet")
    how = {"families": families, "spacing": None}
    found = run(
        HabitatClassifier("extra_trees"),
        cohort(PET, CT),
        Habitats(HabitatModel(k=4, method="otsu"), how),
    )
    assert found.params["n_cases"] == CASES


def test_bortolotto_2022_ivim():
    maps = (
        ("D", "mm2/s", 1e-3, 2e-4),
        ("f", "%", 10.0, 3.0),
        ("D*", "mm2/s", 0.02, 0.005),
    )
    found = run(
        HabitatClassifier(), cohort(*maps), Habitats(HabitatModel(k=2), FIRST_ORDER)
    )
    assert found.params["n_cases"] == CASES


def test_yang_c_2025_dce():
    maps = (("Ktrans", "1/min", 0.2, 0.05), ("ve", "", 0.3, 0.05))
    found = run(
        HabitatClassifier(), cohort(*maps), Habitats(HabitatModel(k=2), FIRST_ORDER)
    )
    assert found.params["n_cases"] == CASES

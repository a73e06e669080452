"""feature_precision(): features of cases whose images change a little."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pandas as pd
import pytest

import habitat
from habitat import Case
from habitat.errors import ConfigError, HabitatError, InputError, MaskError
from habitat.features import Row, extract, wide
from habitat.reliability import FeaturePrecision, feature_precision, icc

# small phantoms are blurred on PET: it is told
pytestmark = pytest.mark.filterwarnings("ignore:SUVbw. (thinner|a sphere)")

# 10 cases, the images themselves and two draws
STEADY = [[3, 4, 4], [7, 6, 8], [1, 2, 1], [9, 8, 9], [5, 5, 7]]
STEADY += [[2, 4, 3], [8, 9, 9], [6, 5, 6], [4, 3, 5], [10, 9, 11]]
RANDOM = [[1, 5, 3], [4, 2, 6], [3, 3, 1], [2, 6, 5], [5, 1, 2]]
RANDOM += [[6, 4, 4], [1, 2, 6], [4, 6, 1], [3, 1, 5], [2, 4, 2]]
PLANTED = {"steady": STEADY, "random": RANDOM}
# ICC(A,1), ICC(C,1) and the interval of that, which it rounds; by pingouin 0.7.0
PINGOUIN = {
    "steady": (0.9168865435356202, 0.9345584939489019, 0.82, 0.98),
    "random": (-0.255813953488372, -0.22766884531590403, -0.39, 0.18),
}


def planted(name, ratings):
    """A family whose values are known: one in each draw of each case, in turn."""
    values = cycle(np.ravel(ratings))

    def family(subject, options):
        yield Row("tumor", "", name, float(next(values)))

    return family


def size(subject, options):
    """Nothing that a perturbation changes: the image has as many voxels."""
    yield Row("tumor", "HU", "size", float(subject.natives["HU"].array.size))


def chance(rng):
    def family(subject, options):
        yield Row("tumor", "HU", "chance", float(rng.normal()))

    return family


def scan(i: int) -> Case:
    p = habitat.phantom(radius_mm=10 + 0.5 * i, margin_mm=15, random_state=i)
    return Case(f"case{i}", {"pet": p.pet, "ct": p.ct}, p.mask)


def thin(case: Case) -> Case:
    """Two slices: nothing is left of them one voxel smaller."""
    mask = case.mask.array.copy()
    middle = np.flatnonzero(mask.any(axis=(1, 2))).mean().astype(int)
    mask[: middle - 1], mask[middle + 1 :] = False, False
    return replace(case, mask=case.mask.replace(mask))


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [scan(i) for i in range(10)]


@pytest.fixture(scope="module")
def model(cases):
    return habitat.HabitatModel(k=3).fit(cases)


@pytest.fixture(scope="module")
def found(cases, model) -> FeaturePrecision:
    families = [planted(name, ratings) for name, ratings in PLANTED.items()]
    families += [size, chance(np.random.default_rng(0))]
    return feature_precision(
        cases, model, families=families, perturbations=["noise"], repeats=2
    )


def rated(found, feature, perturbation="noise") -> pd.Series:
    return found.icc.set_index(["feature", "perturbation"]).loc[feature, perturbation]


# --- what is rated --------------------------------------------------------------------


def test_icc_is_that_of_cases_by_draws(found) -> None:
    for name, ratings in PLANTED.items():
        row, by_hand = rated(found, f"tumor_{name}"), icc(ratings)
        assert tuple(row[["icc_a1", "a1_low", "a1_high"]]) == by_hand.agreement
        assert tuple(row[["icc_c1", "c1_low", "c1_high"]]) == by_hand.consistency
        assert tuple(row[["cases", "subjects", "raters"]]) == (10, 10, 3)
        a1, c1, low, high = PINGOUIN[name]
        assert (row["icc_a1"], row["icc_c1"]) == pytest.approx((a1, c1), rel=1e-12)
        assert (row["c1_low"], row["c1_high"]) == pytest.approx((low, high), abs=0.005)


def test_values_hold_every_draw_and_the_images_themselves(found) -> None:
    keys = found.values[["case_id", "perturbation", "draw"]]
    draws = [("none", 0), ("noise", 0), ("noise", 1)]
    assert keys.to_numpy().tolist() == [
        [f"case{i}", *draw] for i in range(10) for draw in draws
    ]
    own = found.values["tumor_steady"].to_numpy().reshape(10, 3)
    assert own.tolist() == STEADY


def test_an_exact_feature_is_kept_and_noise_is_not(found) -> None:
    assert found.repeatable() == ("tumor_steady", "tumor_HU_size")
    assert found.repeatable(0.95) == ("tumor_HU_size",)
    assert set(found.repeatable(-2)) == {
        "tumor_steady",
        "tumor_random",
        "tumor_HU_size",
        "tumor_HU_chance",
    }
    assert repr(found) == "FeaturePrecision of 10 cases: 2 of 4 features repeatable"


def test_each_perturbation_must_leave_a_feature_alone(found) -> None:
    bad = found.icc.assign(perturbation="shift", a1_low=0.7)
    bad.loc[bad["feature"] == "tumor_HU_size", "a1_low"] = np.nan
    assert replace(found, icc=pd.concat([found.icc, bad])).repeatable() == ()
    good = replace(found, icc=pd.concat([found.icc, bad.assign(a1_low=0.8)]))
    assert good.repeatable() == found.repeatable()


def test_the_images_themselves_have_the_features_of_extract(cases, model) -> None:
    """All families; what is cropped away, beyond 40 mm, these images do not have."""
    found = feature_precision(cases, model, perturbations=["noise"], repeats=1)
    own = found.values[found.values["perturbation"] == "none"].reset_index(drop=True)
    for i in (0, 9):
        table = extract(model.segment(cases[i]), cases[i].images)
        one = wide(table).drop(columns="case_id")
        assert list(one.columns) == list(own.columns[3:])
        np.testing.assert_allclose(
            own.loc[i, one.columns].to_numpy(float), one.loc[0].to_numpy(), rtol=1e-9
        )
    assert len(found.icc) > 800
    assert set(found.repeatable()) < set(one.columns)
    assert "tumor_volume_ml" in found.repeatable()  # noise does not move the outline
    assert "tumor_present" not in found.repeatable()  # 1 everywhere: tells nothing
    for note in table.attrs["notes"]:
        assert any(note[:25] in told for told in found.notes)


# --- cases ----------------------------------------------------------------------------


def test_order_of_cases_does_not_matter(cases, model) -> None:
    how = {"families": ["composition", "intensity"], "perturbations": ["noise"]}
    a, b = (
        feature_precision(some, model, **how, repeats=1)
        for some in (cases, cases[5:][::-1] + cases[:5])
    )
    keys = ["case_id", "perturbation", "draw"]
    pd.testing.assert_frame_equal(
        a.values.sort_values(keys, ignore_index=True),
        b.values.sort_values(keys, ignore_index=True),
    )
    pd.testing.assert_frame_equal(a.icc, b.icc, rtol=1e-9)
    assert a.repeatable() == b.repeatable()


def test_absent_habitats_and_failed_draws(cases, model) -> None:
    """Of 12 cases one is too thin to shrink, and one lacks two habitats."""
    p = habitat.phantom(radius_mm=13, margin_mm=15, random_state=20)
    lone = Case("lone", {"pet": p.pet, "ct": p.ct}, p.mask.replace(p.truth.array == 1))
    data = [*cases, replace(thin(scan(11)), case_id="thin"), lone]
    families = ["composition", "intensity", size]
    found = feature_precision(
        data, model, families=families, perturbations=["mask"], repeats=2
    )
    assert any("mask (1 voxel smaller) was left out" in note for note in found.notes)
    values = found.values.set_index(["case_id", "perturbation", "draw"])
    assert values.loc["thin", "mask", 0].isna().all()
    assert values.loc["thin", "mask", 1]["tumor_volume_ml"] > 0
    own = values.loc["lone", "none", 0]
    assert own["h1_present"] == 1
    assert own["h3_present"] == own["h3_volume_ml"] == 0
    assert np.isnan(own["h3_HU_mean"])

    whole, absent = (
        rated(found, name, "mask") for name in ("tumor_HU_mean", "h3_HU_mean")
    )
    assert (whole["cases"], whole["subjects"]) == (12, 11)
    assert absent["cases"] >= absent["subjects"] == 10
    assert "tumor_HU_size" in found.repeatable()
    normal = [case.case_id for case in cases]
    kept = found.repeatable(cases=normal)
    assert "tumor_HU_size" in kept
    table = found.values[found.values["case_id"].isin(normal)]
    ratings = table["h1_HU_mean"].to_numpy().reshape(10, 3)
    assert ("h1_HU_mean" in kept) == (icc(ratings).agreement.low >= 0.75)


@pytest.mark.parametrize(
    ("gaps", "kept"),
    [
        ([], True),
        ([(3, 1)], True),  # 9 of 10 cases
        ([(3, 1), (4, 0)], False),
        ([(3, 0), (3, 1), (3, 2)], True),  # the case never has it
        ([(i, j) for i in (3, 4) for j in range(3)], False),  # 8 cases are too few
    ],
)
def test_a_feature_needs_values(found, gaps, kept) -> None:
    """Steady enough with any of these gaps; asked again of the values alone."""
    values = found.values.copy()
    for case, draw in gaps:
        values.loc[3 * case + draw, "tumor_steady"] = np.nan
    names = [f"case{i}" for i in range(10)]
    again = replace(found, values=values).repeatable(0.5, cases=names)
    assert ("tumor_steady" in again) == kept
    assert "tumor_HU_size" in again


def test_a_fold_rates_its_own_cases(found) -> None:
    """Two more cases, in which "random" is as steady as can be, decide."""
    values = found.values
    far = values[values["case_id"].isin(("case0", "case1"))].copy()
    far["case_id"] += "-far"
    far["tumor_random"] = 1000.0
    both = replace(found, values=pd.concat([values, far], ignore_index=True))
    training = [f"case{i}" for i in range(10)]
    assert both.repeatable(cases=training) == found.repeatable()
    assert "tumor_random" in both.repeatable(cases=[*training, "case0-far"])


# --- refusals -------------------------------------------------------------------------


def test_fewer_than_10_cases_are_refused(cases, model, found) -> None:
    for few in (cases[:9], cases[0]):
        with pytest.raises(InputError, match="10 cases as subjects"):
            feature_precision(few, model)
    with pytest.raises(InputError, match="10 cases as subjects, there are 9"):
        found.repeatable(cases=[f"case{i}" for i in range(9)] + ["case0"])
    with pytest.raises(InputError, match="no case 'b'"):
        found.repeatable(cases=["b"] * 10)


def test_what_is_no_case_or_no_model_is_refused(cases, model) -> None:
    with pytest.raises(InputError, match="1 results.*native images"):
        feature_precision([*cases, model.segment(cases[0])], model)
    with pytest.raises(InputError, match="'case0' is there twice"):
        feature_precision([*cases, cases[0]], model)
    with pytest.raises(ConfigError, match="HabitatModel"):
        feature_precision(cases, "model.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"perturbations": ["blur"]}, "blur"),
        ({"perturbations": []}, "one name or more"),
        ({"repeats": 0}, "repeats"),
        ({"margin_mm": -1}, "margin_mm"),
        ({"noise": {"mr": 1.0}}, "noise"),
        ({"families": ["colour"]}, "colour"),
        ({"settings": 3}, "RadiomicsSettings"),
        ({"min_voxels": 0}, "min_voxels"),
    ],
)
def test_wrong_arguments_are_named(cases, model, change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        feature_precision(cases, model, **change)


def test_a_case_that_cannot_be_segmented_is_named(cases, model) -> None:
    empty = replace(cases[9], mask=cases[9].mask.replace(cases[9].mask.array & False))
    with pytest.raises(MaskError, match="case9"):
        feature_precision([empty, *cases[:9]], model, families=[size])


def test_wrong_use_in_a_draw_is_no_failed_draw(cases, model) -> None:
    calls = []

    def fails(subject, options):
        calls.append(1)
        if len(calls) > 1:
            raise ConfigError("is not known", "`settings`")
        yield Row("tumor", "", "a", 1.0)

    with pytest.raises(ConfigError, match="case0"):
        feature_precision(cases, model, families=[fails], perturbations=["noise"])


def test_one_channel_cannot_be_misregistered(cases) -> None:
    single = [Case(c.case_id, {"density": c.images["ct"]}, c.mask) for c in cases]
    model = habitat.HabitatModel(k=2).fit(single)
    with pytest.raises(HabitatError, match="no draw is left.*one channel"):
        feature_precision(
            single,
            model,
            families=["composition"],
            perturbations=["misregistration"],
        )

"""Divisions of the cases: nobody on both sides, every class in training."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from habitat.errors import CohortError, ConfigError, HabitatWarning
from habitat.evaluation._folds import make_plan


def plan(cv, y, groups=None, sites=None, split=None, seed=0):
    texts = [None if t is None else np.asarray(t, str) for t in (groups, sites, split)]
    y = np.asarray(y)
    return make_plan(
        cv, y, groups=texts[0], sites=texts[1], split=texts[2], random_state=seed
    )


@given(
    n=st.integers(12, 60),
    folds=st.integers(2, 5),
    repeats=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_every_case_is_tested_once_in_each_repeat(n, folds, repeats, seed):
    y = np.arange(n) % 2
    made = plan((folds, repeats), y, seed=seed)
    for repeat in range(repeats):
        parts = [f for f in made.folds if f.repeat == repeat]
        tested = np.sort(np.concatenate([f.test for f in parts]))
        assert tested.tolist() == list(range(n))
        for f in parts:
            assert not set(f.train) & set(f.test)
            assert abs(y[f.test].mean() - 0.5) <= 1 / len(f.test)


def test_repeats_differ_and_seeds_can_be_had_again():
    y = np.arange(40) % 2
    one, two, other = plan((5, 2), y), plan((5, 2), y), plan((5, 2), y, seed=1)
    tests = [[f.test.tolist() for f in p.folds] for p in (one, two, other)]
    assert tests[0] == tests[1]
    assert tests[0] != tests[2]
    assert tests[0][:5] != tests[0][5:]


@given(seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_a_patient_is_never_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 20, 60)
    y = rng.permutation(20)[groups] % 2  # of a patient all cases have one class
    for fold in plan((4, 2), y, groups=groups).folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_fewer_folds_where_a_class_is_small():
    y = [0] * 20 + [1] * 3
    with pytest.warns(HabitatWarning, match="3 folds, not 5: the smallest class has"):
        made = plan((5, 1), y)
    assert len(made.folds) == 3
    assert "3 folds" in made.notes[0]


def test_one_patient_of_a_class_is_an_error():
    with pytest.raises(CohortError, match="one patient only"):
        plan((5, 1), [0] * 20 + [1, 1], groups=[*range(20), 20, 20])


def test_leave_one_site_out():
    sites = ["b"] * 10 + ["a"] * 6 + ["c"] * 8
    made = plan("leave-one-site-out", np.arange(24) % 2, sites=sites)
    assert [f.name for f in made.folds] == ["a", "b", "c"]
    assert [len(f.test) for f in made.folds] == [6, 10, 8]
    with pytest.raises(CohortError, match="at least 2 sites, found 1"):
        plan("leave-one-site-out", np.arange(24) % 2, sites=["a"] * 24)
    with pytest.raises(CohortError, match="lacks a class"):
        plan("leave-one-site-out", [0] * 12 + [1] * 12, sites=["a"] * 12 + ["b"] * 12)


def test_a_split_may_have_several_test_sets():
    split = ["train"] * 10 + ["test"] * 4 + ["external"] * 6
    made = plan("split", np.arange(20) % 2, split=split)
    assert [(f.name, len(f.train), len(f.test)) for f in made.folds] == [
        ("external", 10, 6),
        ("test", 10, 4),
    ]
    with pytest.raises(CohortError, match="found train"):
        plan("split", np.arange(20) % 2, split=["train"] * 20)


def test_divisions_of_ones_own():
    y = np.arange(8) % 2
    a, b = np.arange(4), np.arange(4, 8)
    made = plan([(a, b), (b, a), (a, b)], y)
    assert [(f.repeat, f.number) for f in made.folds] == [(0, 0), (0, 1), (1, 0)]
    with pytest.raises(CohortError, match="1 patients stand in training and test"):
        plan([(a, [3, 4])], y)
    with pytest.raises(ConfigError, match="indices of cases from 0 to 7"):
        plan([(a, [8])], y)
    with pytest.raises(ConfigError, match="must not be empty"):
        plan([], y)
    with pytest.raises(ConfigError, match="'leave-one-site-out' or 'split'"):
        plan("loso", y)

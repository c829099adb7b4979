"""Plans as JSON, what they say about milestones and parts of a fold, and which sets of lenses they ask for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from transferstats.lens.design import plain, plan_of
from transferstats.lens.plan import RECIPES, FitPlan

PLANS = {
    **RECIPES,
    "nothing beside": FitPlan(beside=None, curve=()),
    "input damping": FitPlan(input_damping=0.5),
    "shared anchor": FitPlan(anchor="shared", beside="ridge"),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_comes_back_from_json(name: str) -> None:
    """None where the default is something else, too: the default came back, and its lenses were fitted."""
    config = json.loads(json.dumps(plain(PLANS[name])))
    assert plan_of(FitPlan, config) == PLANS[name]


def test_none_is_written_where_the_default_is_something_else() -> None:
    assert plain(FitPlan())["beside"] == "shared"
    assert plain(FitPlan(beside=None))["beside"] is None


def test_held_out_kl_is_measured_at_every_doubling() -> None:
    assert list(FitPlan(first=4, max_steps=70).milestones()) == [4, 8, 16, 32, 64]
    assert list(FitPlan(first=4, max_steps=3).milestones()) == []
    assert list(replace(RECIPES["belrose2023"], max_steps=9).milestones()) == [4, 9]


def test_a_descent_may_end_once_it_may_have_settled_or_cannot_double() -> None:
    plan = FitPlan(first=4, settle=16, max_steps=64)
    assert [plan.may_end(steps) for steps in plan.milestones()] == [False, False, True, True, True]
    short = FitPlan(first=4, settle=256, max_steps=20)
    assert [short.may_end(steps) for steps in short.milestones()] == [False, False, True]


def test_a_part_of_the_rows_gets_its_part_of_the_steps_and_nothing_beside() -> None:
    half = FitPlan(settle=256, max_steps=1024).on_part(0.5)
    assert (half.settle, half.max_steps, half.beside, half.curve) == (128, 512, None, ())
    assert list(FitPlan(first=4, max_steps=8).on_part(0.25).milestones()) == [4]
    assert list(FitPlan(first=4, max_steps=1).on_part(0.25).milestones()) == []


def test_a_second_set_of_lenses_has_another_anchor() -> None:
    assert FitPlan().second_anchor == "shared"
    assert FitPlan(anchor="shared").second_anchor is None
    assert FitPlan(anchor="shared", beside="ridge").second_anchor == "ridge"
    assert FitPlan(beside=None).second_anchor is None
    assert FitPlan(method="ridge").second_anchor is None

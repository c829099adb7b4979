"""Which doubling of a descent is kept, its start included, and when a lens may leave it."""

from __future__ import annotations

import torch

from transferstats.lens.fit import Start, _Trace
from transferstats.lens.plan import FitPlan
from transferstats.lens.translator import Translators, moments

PLAN = FitPlan(tolerance=0.01, relative_tolerance=0.0, settle=64)
FAR = [9.0, 9.0]
"""Held-out kl of a start that everything is better than."""


def _lenses(level: float) -> Translators:
    return Translators(torch.full((2, 3, 3), level), torch.full((2, 3), level))


def _follow(path: list[tuple[int, list[float]]], start: list[float] = FAR) -> tuple[_Trace, list[list[bool]]]:
    nothing = torch.zeros(2, 4, 3)
    kl = torch.tensor(start, dtype=torch.float64)
    trace = _Trace(Start(_lenses(0.0), kl, torch.zeros_like(kl), moments(nothing, nothing)))
    maps = torch.arange(2)
    settled = [
        trace.record(maps, _lenses(float(step)), torch.tensor(kl, dtype=torch.float64), step, PLAN).tolist()
        for step, kl in path
    ]
    return trace, settled


def test_one_rise_does_not_settle_a_lens_that_falls_later() -> None:
    trace, settled = _follow([(64, [1.2, 1.0]), (128, [1.3, 1.1]), (256, [0.8, 1.2]), (512, [0.795, 1.3])])
    assert settled[0] == settled[1] == [False, False]
    assert settled[2] == [False, True], "two rises: its minimum lies behind"
    assert settled[3] == [True, True]
    assert trace.steps.tolist() == [512.0, 64.0]
    assert trace.best.weight[:, 0, 0].tolist() == [512.0, 64.0]


def test_the_start_is_kept_until_something_is_better() -> None:
    """Its kl is one of those that count: rises are rises above it. A lens on its way back down has not settled."""
    trace, settled = _follow([(4, [1.5, 1.2]), (8, [1.2, 1.3]), (16, [1.1, 0.7])], start=[1.0, 1.0])
    assert settled == [[False, False], [False, True], [False, False]]
    assert trace.steps.tolist() == [0.0, 16.0]
    assert trace.best.weight[:, 0, 0].tolist() == [0.0, 16.0]
    assert trace.best_kl.tolist() == [1.0, 0.7]
    assert trace.rises.tolist() == [3.0, 0.0]
    assert trace.last.weight[:, 0, 0].tolist() == [16.0, 16.0]


def test_a_small_rise_is_a_plateau_and_settles() -> None:
    trace, settled = _follow([(64, [1.0, 1.0]), (128, [1.005, 1.02])])
    assert settled[1] == [True, False]
    assert trace.converged.tolist() == [True, False]
    assert trace.steps.tolist() == [64.0, 64.0]


def test_a_first_kl_alone_settles_nothing() -> None:
    """It has fallen from the start by more than a plateau does; where it has not, no descent may end yet.

    Before the start was measured too, its change was not known.
    """
    trace, settled = _follow([(64, [1e-6, 0.5])])
    assert settled == [[False, False]]
    assert trace.change.tolist() == [9.0 - 1e-6, 8.5]
    assert not PLAN.may_end(PLAN.first)


def test_a_lens_that_is_not_finite_settles_but_has_not_converged() -> None:
    trace, settled = _follow([(64, [float("nan"), 0.5]), (128, [float("nan"), 0.4]), (256, [float("nan"), 0.399])])
    assert settled[-1] == [True, True]
    assert trace.converged.tolist() == [False, True]
    assert trace.best.weight[0].abs().max() == 0, "what was there before it is kept"

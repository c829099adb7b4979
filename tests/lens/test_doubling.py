"""Which doubling of a descent is kept, and when a lens may leave it."""

from __future__ import annotations

import torch

from transferstats.lens.fit import _Trace
from transferstats.lens.plan import FitPlan
from transferstats.lens.translator import Translators

PLAN = FitPlan(tolerance=0.01, relative_tolerance=0.0, settle=64)


def _lenses(level: float) -> Translators:
    return Translators(torch.full((2, 3, 3), level), torch.full((2, 3), level))


def _follow(path: list[tuple[int, list[float]]]) -> tuple[_Trace, list[list[bool]]]:
    trace = _Trace(_lenses(0.0))
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


def test_a_small_rise_is_a_plateau_and_settles() -> None:
    trace, settled = _follow([(64, [1.0, 1.0]), (128, [1.005, 1.02])])
    assert settled[1] == [True, False]
    assert trace.converged.tolist() == [True, False]
    assert trace.steps.tolist() == [64.0, 64.0]


def test_a_first_kl_alone_settles_nothing() -> None:
    """There is nothing yet that it could have fallen from: its change is not known."""
    trace, settled = _follow([(64, [1e-6, 0.5])])
    assert settled == [[False, False]]
    assert bool(trace.change.isinf().all())


def test_a_lens_that_is_not_finite_settles_but_has_not_converged() -> None:
    trace, settled = _follow([(64, [float("nan"), 0.5]), (128, [float("nan"), 0.4]), (256, [float("nan"), 0.399])])
    assert settled[-1] == [True, True]
    assert trace.converged.tolist() == [False, True]
    assert trace.best.weight[0].abs().max() == 0, "what was there before it is kept"

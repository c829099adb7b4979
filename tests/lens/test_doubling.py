"""Which doubling of a descent is kept, and when a lens may leave it."""

from __future__ import annotations

import torch

from transferstats.lens.fit import FitPlan, _Trace
from transferstats.lens.translator import Translators

PLAN = FitPlan(tolerance=0.01, relative_tolerance=0.0, settle=64)


def _lenses(level: float) -> Translators:
    return Translators(torch.full((2, 3, 3), level), torch.full((2, 3), level))


def _follow(path: list[tuple[int, list[float]]], start: list[float]) -> tuple[_Trace, list[list[bool]]]:
    trace = _Trace(_lenses(0.0), torch.tensor(start, dtype=torch.float64))
    maps = torch.arange(2)
    settled = [
        trace.record(maps, _lenses(float(step)), torch.tensor(kl, dtype=torch.float64), step, PLAN).tolist()
        for step, kl in path
    ]
    return trace, settled


def test_early_rises_do_not_settle_a_lens_that_falls_later() -> None:
    trace, settled = _follow(
        [(16, [1.2, 1.2]), (32, [1.3, 1.3]), (64, [0.8, 1.1]), (128, [0.795, 1.2])], [1.0, 1.0]
    )
    assert settled[:2] == [[False, False], [False, False]]
    assert settled[2] == [False, True], "three rises: its minimum lies behind"
    assert settled[3] == [True, True]
    assert trace.steps.tolist() == [128.0, 0.0]
    assert trace.best.weight[:, 0, 0].tolist() == [128.0, 0.0]


def test_a_lens_that_is_not_finite_settles_but_has_not_converged() -> None:
    trace, settled = _follow([(64, [float("nan"), 0.5]), (128, [float("nan"), 0.4])], [1.0, 1.0])
    assert settled[-1] == [True, False]
    assert trace.converged.tolist() == [False, False]
    assert trace.best_kl.tolist() == [1.0, 0.4]

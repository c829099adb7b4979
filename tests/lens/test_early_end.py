"""Few rows and wild rates: nothing worse than the start is kept, and only overfitting ends a descent early."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fit_cases import OPTIMUM, PLAN, fit, halves, part, steps_of_size, world

from transferstats.lens.fit import Certificate
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import mean_kl
from transferstats.lens.translator import Translators

EARLY = replace(PLAN, first=4, strengths=(1e-4,), max_steps=512)
BARE = replace(EARLY, damping=1e-2, input_damping=1e-4)  # steps that move weak directions too


def followed(rows: int, plan: FitPlan) -> tuple[Translators, Certificate, int]:
    """Lenses fitted to the first training rows, their certificate, and the steps of the longest descent."""
    head, sample = world()
    train, held_out = halves(sample)
    steps: list[int] = []
    lenses, certificate = fit(
        head,
        part(train, torch.arange(rows)),
        held_out,
        replace(plan, batch=min(rows, plan.batch)),
        progress=lambda stage, done: steps.append(done),
    )
    return lenses, certificate, len(steps)


@pytest.mark.parametrize("rows", [12, 24, 48, 96])
@pytest.mark.parametrize("size", [None, 0.5, 50.0])
def test_a_lens_that_is_worse_than_its_start_is_never_kept(
    rows: int, size: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, sample = world()
    _, held_out = halves(sample)
    if size is not None:
        steps_of_size(monkeypatch, size)
    lenses, certificate, _ = followed(rows, EARLY)
    assert torch.equal(mean_kl(head, lenses, held_out), certificate.held_out_kl)
    assert bool((certificate.held_out_kl <= certificate.start_kl).all())
    assert bool(((certificate.steps == 0) == (certificate.held_out_kl == certificate.start_kl)).all())


def test_a_lens_that_overfits_shows_it_in_its_certificate() -> None:
    """A handful of training rows: after few steps every other makes it worse, and the gap is recorded.

    The first doubling past ``settle`` was kept where this was not measured before: worse than the start by as much
    as the rows were few.
    """
    _, certificate, _ = followed(24, EARLY)
    assert bool((certificate.steps <= 8).all())
    assert bool(certificate.converged.all())
    assert bool((certificate.held_out_kl > certificate.train_kl + 0.1).all())


def test_overfitting_ends_a_descent_before_it_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three doublings after the best, held-out and training kl a tenth apart: its minimum lies behind."""
    steps_of_size(monkeypatch, 0.07)
    _, _, steps = followed(24, BARE)
    assert steps == 16
    _, certificate, steps = followed(48, BARE)
    assert steps == PLAN.settle, "they part by less, which the scatter of large steps can do too"
    assert certificate.steps.tolist() == [4.0, 0.0]


@pytest.mark.parametrize("size", [50.0, 1e5])
def test_steps_that_are_too_large_do_not(size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """They raise training kl too, and grow smaller: the descent goes on until it may end."""
    steps_of_size(monkeypatch, size)
    _, certificate, steps = followed(3000, BARE)
    assert steps >= PLAN.settle
    assert not bool(certificate.converged.any())


def test_a_lens_comes_back_from_steps_that_were_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 32 steps nothing is better than the start: three measurements or more; in the end much is."""
    steps_of_size(monkeypatch, 20.0)
    _, early, _ = followed(3000, replace(BARE, max_steps=32))
    _, late, _ = followed(3000, BARE)
    assert float(early.steps[0]) == 0
    assert float(late.held_out_kl[0]) < float(late.start_kl[0]) - 10 * OPTIMUM


def test_a_plateau_near_the_start_ends_no_descent(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a tiny size every early doubling is flat; the descent goes on until it may end."""
    steps_of_size(monkeypatch, 1e-6)
    _, certificate, steps = followed(3000, EARLY)
    assert steps == PLAN.settle
    assert bool((certificate.start_kl - certificate.held_out_kl < PLAN.tolerance).all())

"""Lenses to fit in tests: two layers whose kl is convex in the lens, their rows, and a fit by one call."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from brute_force import make_head
from torch import Tensor

from transferstats.lens import descent
from transferstats.lens import fit as fitting
from transferstats.lens.descent import Problem, Progress
from transferstats.lens.fit import Certificate, fit_lenses
from transferstats.lens.head import Head, final_targets
from transferstats.lens.pipeline import Pipeline
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.steps import StepScale
from transferstats.lens.stream import KeptRows
from transferstats.lens.translator import Translators, moments

OPTIMUM = 1e-3  # nats: how far from the minimum a lens may stop; penalties of interest are 10 to 100 times this
WIDTH, OUTPUTS, LAYERS = 8, 20, 2
PLAN = FitPlan(batch=256, max_steps=1024, first=32, tolerance=1e-4, relative_tolerance=0.0)


@cache
def world(rows: int = 4000, *, silent: int = 0, rng: int = 0) -> tuple[Head, Sample]:
    """A head without norm, so that kl is convex in the lens, and two layers that know part of the final state.

    ``silent`` directions, in general position, never move in the states.
    """
    draw = torch.Generator().manual_seed(rng)
    plain = make_head(OUTPUTS, WIDTH, rng=rng)
    head = Head(lambda z: z, plain.weight, plain.bias, None)
    final = torch.randn(rows, WIDTH, generator=draw) * torch.linspace(0.3, 1.5, WIDTH)
    noise = torch.randn(LAYERS, rows, WIDTH, generator=draw) * torch.tensor([1.0, 0.4])[:, None, None]
    mixing = torch.linalg.qr(torch.randn(LAYERS, WIDTH, WIDTH, generator=draw))[0]
    hidden = (final + noise) @ mixing + 0.5
    if silent:
        basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH - silent, generator=draw))[0]
        hidden = hidden @ basis @ basis.T
    labels = torch.randint(OUTPUTS, (rows,), generator=draw)
    return head, Sample(hidden, final[None], (final_targets(head, final, labels),))


def halves(sample: Sample) -> tuple[Sample, Sample]:
    rows = torch.arange(sample.hidden.shape[1])
    return part(sample, rows[rows % 4 != 0]), part(sample, rows[rows % 4 == 0])


def part(sample: Sample, rows: Tensor) -> Sample:
    targets = tuple(one.rows(rows) for one in sample.targets)
    return Sample(sample.hidden[:, rows], sample.final[:, rows], targets)


def fit(
    head: Head,
    train: Sample,
    held_out: Sample,
    plan: FitPlan = PLAN,
    prior: Translators | None = None,
    rng: int = 0,
    progress: Progress | None = None,
) -> tuple[Translators, Certificate]:
    n_maps, _, width = train.hidden.shape
    problem = Problem(
        head,
        train,
        held_out,
        moments(train.hidden, train.final),
        prior or Translators.identity(n_maps, width),
        plan,
    )
    return fit_lenses(problem, KeptRows(train), rng=torch.Generator().manual_seed(rng), progress=progress)


def pipeline(head: Head, train: Sample, held_out: Sample, plan: FitPlan) -> Pipeline:
    return Pipeline(head, KeptRows(train), train, held_out, moments(train.hidden, train.final), plan, 0)


def silent_basis(sample: Sample, layer: int, silent: int) -> Tensor:
    """(silent, d) directions, in the metric of the standardised inputs, in which a layer does not move."""
    h = sample.hidden[layer].double()
    centred = (h - h.mean(0)) / h.std(0, correction=0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    assert values[-silent] < 1e-3 * values[0]
    return directions[-silent:] * h.std(0, correction=0)


def steps_of_size(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Natural steps of this size, whatever the rule says, and no second try with smaller ones."""
    monkeypatch.setattr(StepScale, "size", lambda self, rows, share: torch.full_like(self.noise, size).float())
    monkeypatch.setattr(descent, "MOST", float("inf"))
    monkeypatch.setattr(fitting, "AGAIN", 0)

"""Shared, tied and own lenses of one pipeline: where they start, what they may differ in, who may be worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fit_cases import LAYERS, OPTIMUM, PLAN, WIDTH, halves, part, pipeline, silent_basis, world

from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.lens.arrays import array_subject
from transferstats.lens.descent import Problem
from transferstats.lens.fit import Fit, ridge_start
from transferstats.lens.head import Head
from transferstats.lens.pipeline import Fitted, Pipeline
from transferstats.lens.sample import Sample, mean_kl
from transferstats.lens.study import sample_of
from transferstats.lens.translator import Translators

ROUNDING = 1e-6  # the same mean kl, summed in another order


def iterative(units: int = 20) -> tuple[Head, Sample, Sample]:
    """Training and held-out rows of layers for which one lens is exactly right."""
    truth = KnownTruth("iterative", n_layers=4, width=12, n_classes=24, n_units=2 * units, tokens=20, trap_width=4)
    subject = array_subject(simulate_subject(truth, rng=np.random.default_rng(3)))
    train, held_out = (sample_of(subject, subject.capture(list(range(at, at + units)))) for at in (0, units))
    return subject.head, train, held_out


def fitted(made: Pipeline, fit: Fit) -> Fitted:
    """The lenses of one fit of a pipeline."""
    return made.fitted({"one": fit})["one"]


def test_the_shared_lens_is_one_lens_for_the_rows_of_all_layers() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    made = pipeline(head, train, held_out, replace(PLAN, max_steps=256))
    starts = made.starts()
    shared = fitted(made, made.shared(starts))
    by_layer = mean_kl(head, shared.lenses.repeat(LAYERS), held_out)
    assert abs(float(by_layer.mean() - shared.certificate.held_out_kl[0])) < 1e-6
    own = fitted(made, made.own("own", starts, made.plan.anchor, shared.lenses))
    assert bool((by_layer >= own.certificate.held_out_kl - OPTIMUM).all())  # own lenses can only be better


def test_layers_that_hold_the_same_states_have_no_shared_lens_excess() -> None:
    head, sample = world()
    same = replace(sample, hidden=sample.hidden[1:].repeat(2, 1, 1))
    train, held_out = halves(same)
    made = pipeline(head, train, held_out, PLAN)
    starts = made.starts()
    shared = fitted(made, made.shared(starts))
    own = fitted(made, made.own("own", starts, made.plan.anchor, shared.lenses))
    excess = mean_kl(head, shared.lenses.repeat(2), held_out) - own.certificate.held_out_kl
    assert excess.abs().max() < OPTIMUM


def test_own_lenses_anchored_in_the_shared_lens_stay_there_where_states_are_silent() -> None:
    head, sample = world(silent=3)
    train, held_out = halves(sample)
    made = pipeline(head, train, held_out, replace(PLAN, anchor="shared", max_steps=128))
    starts = made.starts()
    shared = fitted(made, made.shared(starts))
    own = fitted(made, made.own("own", starts, made.plan.anchor, shared.lenses))
    moved = (own.lenses.weight[0] - shared.lenses.weight[0]).double()
    basis = silent_basis(train, 0, 3)
    assert (moved @ basis.T).norm() / basis.norm() < 1e-3 * own.lenses.weight[0].norm()


def test_tied_lenses_have_one_map_and_the_biases_that_serve_it_best() -> None:
    """Between the shared lens and own lenses; states shifted by a constant a layer cost them nothing."""
    head, sample = world()
    shift = torch.tensor([0.0, 2.0])[:, None, None] * torch.linspace(-1, 1, WIDTH)
    same = replace(sample, hidden=sample.hidden[1:].repeat(2, 1, 1) + shift)
    train, held_out = halves(same)
    made = pipeline(head, train, held_out, PLAN)
    starts = made.starts()
    tied = fitted(made, made.tied())
    shared = fitted(made, made.shared(starts))
    assert torch.equal(tied.lenses.weight[0], tied.lenses.weight[1])
    assert not torch.equal(tied.lenses.bias[0], tied.lenses.bias[1])
    own = fitted(made, made.own("own", starts, "ridge")).certificate.held_out_kl
    assert (mean_kl(head, tied.lenses, held_out) - own).abs().max() < 2 * OPTIMUM
    assert float((mean_kl(head, shared.lenses.repeat(2), held_out) - own).max()) > 10 * OPTIMUM
    assert bool((tied.certificate.steps == tied.certificate.steps[0]).all())  # they stand or fall together


@pytest.mark.parametrize("rows", [24, 200, 3000])
@pytest.mark.parametrize("steps", [4, 256])
def test_no_layers_ridge_lens_is_better_everywhere_than_the_shared_lens(rows: int, steps: int) -> None:
    """On the held-out rows of all layers; with few rows and few steps too."""
    head, sample = world()
    train, held_out = halves(sample)
    made = pipeline(head, part(train, torch.arange(rows)), held_out, replace(PLAN, first=4, max_steps=steps))
    starts = made.starts()
    reached = mean_kl(head, fitted(made, made.shared(starts)).lenses.repeat(LAYERS), held_out).mean()
    for layer in range(LAYERS):
        alone = mean_kl(head, starts.lenses.map(layer).repeat(LAYERS), held_out).mean()
        assert float(reached) <= float(alone) + ROUNDING


def test_the_shared_lens_starts_from_the_layer_that_serves_all_best() -> None:
    """Where one lens is right, ridge over all layers is worse than ridge over the last one."""
    head, train, held_out = iterative()
    layers = train.hidden.shape[0]
    made = pipeline(head, train, held_out, replace(PLAN, first=4, max_steps=64))
    starts = made.starts()
    alone = [float(mean_kl(head, starts.lenses.map(one).repeat(layers), held_out).mean()) for one in range(layers)]
    together = ridge_start(
        Problem(head, train.stacked(), held_out.stacked(), made.stats.stacked(), Translators.identity(1, 12), PLAN)
    )
    shared = fitted(made, made.shared(starts))
    assert int(np.argmin(alone)) == layers - 1
    assert alone[-1] < float(together.kl[0]) - OPTIMUM
    assert abs(float(shared.certificate.start_kl[0]) - alone[-1]) < ROUNDING
    assert float(shared.certificate.held_out_kl[0]) <= alone[-1] + ROUNDING


def test_a_shared_lens_that_is_to_start_from_the_identity_does() -> None:
    head, sample = world()
    train, held_out = halves(sample)
    made = pipeline(head, train, held_out, replace(PLAN, anchor="identity", max_steps=32))
    logit_lens = mean_kl(head, Translators.identity(LAYERS, WIDTH), held_out).mean()
    certificate = fitted(made, made.shared(made.starts())).certificate
    assert abs(float(certificate.start_kl[0] - logit_lens)) < ROUNDING


def test_lenses_fitted_beside_each_other_are_those_fitted_alone() -> None:
    """The same rows in the same order, and chance of their own for each."""
    head, sample = world()
    train, held_out = halves(sample)
    made = pipeline(head, train, held_out, replace(PLAN, max_steps=64))
    beside = made.lenses(ladder=True)
    assert list(beside) == ["shared", "tied", "own", "own|anchored"]
    starts = made.starts()
    shared = fitted(made, made.shared(starts))
    for name, fit in (
        ("shared", made.shared(starts)),
        ("tied", made.tied()),
        ("own", made.own("own", starts, "ridge")),
        ("own|anchored", made.own("own|anchored", starts, "shared", shared.lenses)),
    ):
        alone = fitted(made, fit)
        assert torch.equal(beside[name].lenses.weight, alone.lenses.weight), name
        assert torch.equal(beside[name].lenses.bias, alone.lenses.bias), name


def test_a_second_set_of_own_lenses_starts_from_another_anchor() -> None:
    """The same rows, the same minimum; another start."""
    head, sample = world()
    train, held_out = halves(sample)
    made = pipeline(head, train, held_out, PLAN)
    starts = made.starts()
    shared = fitted(made, made.shared(starts))
    first = fitted(made, made.own("own", starts, "ridge"))
    second = fitted(made, made.own("own", starts, "shared", shared.lenses))
    assert torch.equal(first.certificate.start_kl, starts.kl)
    assert torch.equal(second.certificate.start_kl, mean_kl(head, shared.lenses.repeat(LAYERS), held_out))
    assert (first.certificate.held_out_kl - second.certificate.held_out_kl).abs().max() < OPTIMUM
    assert not torch.equal(first.lenses.weight, second.lenses.weight)

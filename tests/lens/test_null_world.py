"""The shared-lens null: targets whose mean is the shared lens's prediction, with the scatter that was observed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import make_head

from transferstats.errors import DesignError
from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.lens import null
from transferstats.lens.arrays import ArraySubject, array_subject
from transferstats.lens.fit import FitPlan, Sample
from transferstats.lens.head import Head, final_targets, losses
from transferstats.lens.null import match_scatter, null_sample
from transferstats.lens.splits import Split, split_units
from transferstats.lens.study import compute_world, sample_of
from transferstats.lens.translator import Translators

STANDARD_ERRORS = 5.0  # a mean over draws may miss by so many of its standard errors
EXPLAINED = 0.02  # nats: what two seeds of a tiny subject leave unexplained; rotated layers cost ten times that


def case(rows: int = 1500, layers: int = 2) -> tuple[Head, Sample]:
    head = make_head(30, 8)
    draw = torch.Generator().manual_seed(0)
    final = torch.randn(rows, 8, generator=draw)
    hidden = final + torch.tensor([0.8, 0.3])[:layers, None, None] * torch.randn(layers, rows, 8, generator=draw)
    labels = torch.randint(30, (rows,), generator=draw)
    return head, Sample(hidden, final[None], (final_targets(head, final, labels),))


def test_the_mean_of_the_targets_is_the_shared_prediction() -> None:
    """300 draws of the same world: their mean mu is W^T q, row by row."""
    head, sample = case(rows=40)
    shared = Translators.identity(1, 8)
    scatter = match_scatter(head, shared, sample)
    draw = torch.Generator().manual_seed(1)
    worlds = [null_sample(head, shared, sample.hidden, sample.final[0], scatter, draw) for _ in range(300)]
    for layer in range(2):
        mu = torch.stack([world.targets[layer].mu for world in worlds]).double()
        with torch.no_grad():
            q = torch.softmax(head.logits(head.norm(sample.hidden[layer])).double(), -1)
        weight = head.weight.double()
        one_draw = q @ weight.square() - (q @ weight).square()  # the most that a target can vary
        error = (mu.mean(0) - q @ weight) / (one_draw / len(worlds)).sqrt()
        assert error.abs().max() < STANDARD_ERRORS
        assert error.square().mean() < 1
        labels = torch.stack([world.targets[layer].labels for world in worlds])
        share = (labels == q.argmax(-1)).double().mean(0)
        expected = q.max(-1).values
        spread = (expected * (1 - expected) / len(worlds)).sqrt().clamp_min(1e-3)
        assert ((share - expected) / spread).abs().max() < STANDARD_ERRORS


def test_entropy_and_offset_belong_to_the_drawn_distribution() -> None:
    """kl against the drawn targets equals kl against p0 itself: H(p0) and p0 . b fit mu."""
    head, sample = case()
    shared = Translators.identity(1, 8)
    scatter = match_scatter(head, shared, sample)
    world = null_sample(head, shared, sample.hidden, sample.final[0], scatter, torch.Generator().manual_seed(2))
    for layer in range(2):
        targets = world.targets[layer]
        x = head.norm(sample.hidden[layer])
        kl, ce = losses(head, x, targets)
        assert float(kl.min()) > -1e-5
        log_q = torch.log_softmax(head.logits(x), -1)
        assert torch.allclose(ce, -log_q.gather(1, targets.labels[:, None]).squeeze(1), atol=1e-5)


def test_scatter_is_matched_layer_by_layer() -> None:
    """The squared scores of the drawn targets equal those of the observed ones, within each entropy bin."""
    head, sample = case()
    shared = Translators.identity(1, 8)
    scatter = match_scatter(head, shared, sample)
    assert scatter.draws.shape == (2, null.BINS)
    assert bool((scatter.draws >= 1).all())
    assert bool((scatter.draws[1] > scatter.draws[0]).all())  # the later layer predicts better: less scatter
    free = scatter.draws > 1
    assert torch.allclose(scatter.matched[free], scatter.observed[free], rtol=1e-6)


def test_draws_are_mixed_so_that_their_scatter_is_right() -> None:
    wanted = torch.full((200_000,), 2.3, dtype=torch.float64)
    mixed = null._mix_neighbours(wanted, torch.Generator().manual_seed(0))
    assert set(mixed.tolist()) == {2, 3}
    assert abs(float((1 / mixed.double()).mean()) - 1 / 2.3) < 1e-3
    whole = null._mix_neighbours(torch.full((100,), 4.0, dtype=torch.float64), torch.Generator().manual_seed(0))
    assert set(whole.tolist()) == {4}


def test_a_softcapped_head_has_no_null_and_says_so() -> None:
    head, sample = case()
    capped = replace(head, softcap=3.0)
    with pytest.raises(DesignError, match=r"softcaps.*null_replicates=0"):
        match_scatter(capped, Translators.identity(1, 8), sample)


# --- subjects whose answer is known ---

TRUTH = KnownTruth(n_layers=3, width=12, n_classes=24, n_units=90, tokens=40, trap_width=4)
PLAN = FitPlan(batch=256, max_steps=128, strengths=(1e-3, 1e-1))


def subject(kind: str, dial: float = 0.0) -> ArraySubject:
    return array_subject(simulate_subject(replace(TRUTH, kind=kind, dial=dial), rng=np.random.default_rng(4)))


def mean_penalties(made: ArraySubject, world: str, seeds: int = 2) -> tuple[float, float]:
    """(mean off-diagonal kl penalty, mean shared-lens excess) over seeds, through the code that runs a cell."""
    split = _split(made)
    penalties, excesses = [], []
    for seed in range(seeds):
        config = {
            "world": world,
            "seed": seed,
            "fit": {
                "method": PLAN.method,
                "batch": PLAN.batch,
                "max_steps": PLAN.max_steps,
                "strengths": list(PLAN.strengths),
            },
            "evaluation": {"units": 30, "tokens": 40},
        }
        output = compute_world(made, split, config, np.random.default_rng([7, seed]), lambda *_: None)
        table = output.table
        lens = table[table["readout"] == "lens"].groupby(["source", "target"])["kl"].mean().unstack()
        matrix = lens.to_numpy()
        own = np.diagonal(matrix)
        off = ~np.eye(len(matrix), dtype=bool)
        penalties.append((matrix - own)[off].mean())
        shared = table[table["readout"] == "shared"].groupby("target")["kl"].mean().to_numpy()
        excesses.append((shared - own).mean())
    return float(np.mean(penalties)), float(np.mean(excesses))


def _split(made: ArraySubject) -> Split:
    return split_units(made.clusters, n_folds=2, n_evaluation=30, rng=np.random.default_rng(0))


def test_the_posterior_of_the_known_truth_is_what_its_decoder_says() -> None:
    """Calibration: the decoder's top class is right as often as its probability says, at every layer."""
    arrays = simulate_subject(replace(TRUTH, n_units=300), rng=np.random.default_rng(1))
    for states in arrays.hidden:
        logits = states @ arrays.weight.T + arrays.bias
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        top = p.max(1)
        right = arrays.labels == p.argmax(1)
        error = abs(right.mean() - top.mean()) / np.sqrt((top * (1 - top)).mean() / len(top))
        assert error < STANDARD_ERRORS


@pytest.mark.parametrize("kind", ["iterative", "trap"])
def test_where_one_lens_is_right_the_null_explains_the_penalty(kind: str) -> None:
    """What is left is the error of lenses fitted to a fold, which the null has too."""
    made = subject(kind)
    raw, excess = mean_penalties(made, "observed")
    null_raw, null_excess = mean_penalties(made, "null")
    assert abs(raw - null_raw) < EXPLAINED
    assert abs(excess - null_excess) < EXPLAINED


def test_where_layers_are_rotated_the_null_does_not_explain_the_penalty() -> None:
    made = subject("pipeline", dial=0.6)
    raw, excess = mean_penalties(made, "observed")
    null_raw, null_excess = mean_penalties(made, "null")
    assert raw > null_raw + 5 * EXPLAINED
    assert excess > null_excess + EXPLAINED


def test_sample_of_a_subject_holds_its_own_final_distribution() -> None:
    made = subject("iterative")
    states = made.capture([0, 5, 7], max_rows=11)
    assert states.counts().tolist() == [11, 11, 11]
    sample = sample_of(made, states)
    kl, _ = losses(made.head, states.final, sample.targets[0])
    assert kl.abs().max() < 1e-5

"""Transfer losses against a loop over documents, layers and tokens, in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from brute_force import full_disagreement, full_logits, full_losses, make_head

from transferstats.lens import head as room
from transferstats.lens.head import Head, final_targets
from transferstats.lens.states import States
from transferstats.lens.transfer import baseline_losses, layer_losses, transfer_losses
from transferstats.lens.translator import Translators

LOSS_TOLERANCE = 1e-5  # nats: float32 logits of size 10
CHUNK_TOLERANCE = 1e-6  # relative: another order of summation in a matrix product

LAYERS, WIDTH, UNITS = 3, 12, ("a", "b", "c", "d")
COUNTS = (1, 7, 23, 2)  # unequal lengths

HEADS = {"plain": make_head(), "softcap": make_head(softcap=4.0)}
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


def make_states(rng: int = 0) -> States:
    draw = torch.Generator().manual_seed(rng)
    rows = sum(COUNTS)
    unit = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    order = torch.randperm(rows, generator=draw)  # rows of a unit need not be neighbours
    final = torch.randn(rows, WIDTH, generator=draw)
    hidden = final + torch.randn(LAYERS, rows, WIDTH, generator=draw)
    labels = torch.randint(53, (rows,), generator=draw)
    return States(hidden, final, labels, unit[order], UNITS)


def make_lenses(n_maps: int = LAYERS) -> Translators:
    draw = torch.Generator().manual_seed(3)
    return Translators(
        0.2 * torch.randn(n_maps, WIDTH, WIDTH, generator=draw), 0.2 * torch.randn(n_maps, WIDTH, generator=draw)
    )


def naive(
    head: Head, lenses: Translators, states: States, source: int, target: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean kl, ce and disagreement of each unit, unit by unit."""
    kl, ce, differs = np.zeros((3, len(UNITS)))
    x_final = head.norm(states.final)
    for unit in range(len(UNITS)):
        rows = [row for row in range(states.n_rows) if int(states.unit[row]) == unit]
        for row in rows:
            h = states.hidden[target, row]
            z = h + lenses.weight[source] @ h + lenses.bias[source]
            one = full_losses(head, head.norm(z)[None], x_final[row][None], states.labels[row][None])
            kl[unit] += float(one[0]) / len(rows)
            ce[unit] += float(one[1]) / len(rows)
            p = full_logits(head, x_final[row][None]).softmax(-1)
            differs[unit] += float(full_disagreement(head, head.norm(z)[None], p)) / len(rows)
    return kl, ce, differs


@each_head
def test_transfer_losses_equal_a_naive_loop(head: Head) -> None:
    states, lenses = make_states(), make_lenses()
    targets = final_targets(head, states.final, states.labels)
    scored = transfer_losses(head, lenses, states, [targets])
    assert scored.kl.shape == scored.ce.shape == (4, LAYERS, LAYERS)
    for source in range(LAYERS):
        for target in range(LAYERS):
            kl, ce, differs = naive(head, lenses, states, source, target)
            assert np.abs(scored.kl[:, source, target] - kl).max() < LOSS_TOLERANCE
            assert np.abs(scored.ce[:, source, target] - ce).max() < LOSS_TOLERANCE
            assert np.abs(scored.disagreement[:, source, target] - differs).max() < 1e-9


@each_head
def test_chunks_do_not_change_transfer_losses(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    states, lenses = make_states(), make_lenses()
    targets = final_targets(head, states.final, states.labels)
    whole = transfer_losses(head, lenses, states, [targets])
    monkeypatch.setattr(room, "CHUNK_BYTES_CPU", 1)
    monkeypatch.setattr(room, "FEWEST_ROWS", 16)
    parts = transfer_losses(head, lenses, states, [targets])
    assert np.allclose(whole.kl, parts.kl, rtol=CHUNK_TOLERANCE, atol=CHUNK_TOLERANCE)
    assert np.allclose(whole.ce, parts.ce, rtol=CHUNK_TOLERANCE, atol=CHUNK_TOLERANCE)
    assert np.array_equal(whole.disagreement, parts.disagreement)


def test_the_diagonal_is_the_own_loss_and_progress_is_told() -> None:
    head, states, lenses = HEADS["plain"], make_states(), make_lenses()
    targets = final_targets(head, states.final, states.labels)
    told: list[int] = []
    scored = transfer_losses(head, lenses, states, [targets], advance=told.append)
    own = layer_losses(head, lenses, states, [targets])
    assert np.array_equal(np.diagonal(scored.kl, axis1=1, axis2=2), own.kl)
    assert np.array_equal(np.diagonal(scored.ce, axis1=1, axis2=2), own.ce)
    assert np.array_equal(np.diagonal(scored.disagreement, axis1=1, axis2=2), own.disagreement)
    assert sum(told) == states.n_rows * LAYERS**2


def test_one_lens_serves_all_layers_and_each_layer_may_have_its_targets() -> None:
    head, states, lens = HEADS["plain"], make_states(), make_lenses(1)
    targets = [final_targets(head, states.hidden[layer], states.labels) for layer in range(LAYERS)]
    shared = layer_losses(head, lens, states, targets)
    for layer in range(LAYERS):
        alone = States(states.hidden[layer : layer + 1], states.hidden[layer], states.labels, states.unit, UNITS)
        wanted = layer_losses(head, lens, alone, [targets[layer]])
        assert np.array_equal(shared.kl[:, layer], wanted.kl[:, 0])


def test_a_perfect_lens_has_no_kl_and_the_models_ce() -> None:
    head, states = HEADS["plain"], make_states()
    perfect = States(states.final[None], states.final, states.labels, states.unit, UNITS)
    targets = final_targets(head, states.final, states.labels)
    scored = transfer_losses(head, Translators.identity(1, WIDTH), perfect, [targets])
    base = baseline_losses(head, states, torch.full((53,), -np.log(53)))
    assert np.abs(scored.kl).max() < LOSS_TOLERANCE
    assert not scored.disagreement.any()
    assert np.abs(scored.ce[:, 0, 0] - base["final_ce"]).max() < LOSS_TOLERANCE


@each_head
def test_baselines_are_what_they_say(head: Head) -> None:
    states = make_states()
    prior = torch.log_softmax(torch.randn(53, generator=torch.Generator().manual_seed(2)), 0)
    base = baseline_losses(head, states, prior)
    x = head.norm(states.final)
    log_p = torch.log_softmax(_float64_logits(head, x), -1)
    kl = (log_p.exp() * (log_p - prior.double())).sum(-1)
    for unit in range(len(UNITS)):
        rows = states.unit == unit
        labels = states.labels[rows]
        assert abs(base["prior_kl"][unit] - float(kl[rows].mean())) < LOSS_TOLERANCE
        assert abs(base["prior_ce"][unit] + float(prior[labels].double().mean())) < LOSS_TOLERANCE
        wanted = -log_p[rows].gather(1, labels[:, None]).mean()
        assert abs(base["final_ce"][unit] - float(wanted)) < LOSS_TOLERANCE
        differs = (log_p[rows].argmax(-1) != prior.argmax()).double().mean()
        assert abs(base["prior_disagreement"][unit] - float(differs)) < 1e-9


def test_targets_without_a_most_likely_output_leave_disagreement_open() -> None:
    head, states, lenses = HEADS["plain"], make_states(), make_lenses()
    unknown = replace(final_targets(head, states.final, states.labels), top=None)
    assert np.isnan(transfer_losses(head, lenses, states, [unknown]).disagreement).all()


def _float64_logits(head: Head, x: torch.Tensor) -> torch.Tensor:
    raw = x.double() @ head.weight.double().T + head.bias.double()
    return raw if head.softcap is None else head.softcap * torch.tanh(raw / head.softcap)


def test_sums_over_a_long_unit_do_not_lose_digits() -> None:
    """300,000 equal losses in float32 would drift by 1e-3; the mean of a unit is kept in float64."""
    from transferstats.lens.transfer import _unit_means

    rows = 300_000
    value = torch.full((rows,), 0.1)
    states = States(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1), torch.zeros(rows).long(), ("one",))
    assert abs(float(_unit_means(value, states)[0]) - float(value[0])) < 1e-9

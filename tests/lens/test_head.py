"""Losses through the log-sum-exp identity against full logits in float64; slopes against autograd."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
import torch
from brute_force import draw_case, full_disagreement, full_logits, full_losses, make_head
from torch import Tensor

from transferstats.lens import head as room
from transferstats.lens.descent import kl_slope
from transferstats.lens.head import Head, Targets, concatenate, final_targets, kl_gradient, losses

LOSS_TOLERANCE = 1e-5  # nats: float32 sums of a few dozen terms of size 10 against float64
SLOPE_TOLERANCE = 1e-5  # the same, in nats per unit of the normed state
CHUNK_TOLERANCE = 1e-6  # a matrix product may choose another order of summation for another number of rows

HEADS = {
    "plain": make_head(),
    "no bias": make_head(bias=False),
    "softcap": make_head(softcap=4.0),
    "large vocabulary": make_head(n_outputs=3000, width=24),
    "large logits": make_head(n_outputs=300, width=16, rng=3),
}
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


@each_head
def test_losses_equal_full_logits(head: Head) -> None:
    x, x_final, labels, targets = draw_case(head)
    found = losses(head, x, targets)
    wanted_kl, wanted_ce = full_losses(head, x, x_final, labels)
    assert (found.kl - wanted_kl).abs().max() < LOSS_TOLERANCE
    assert (found.ce - wanted_ce).abs().max() < LOSS_TOLERANCE
    assert wanted_kl.min() > 0.01  # the case is not trivial


@each_head
def test_disagreement_is_that_of_the_most_likely_outputs(head: Head) -> None:
    x, x_final, _, targets = draw_case(head, rows=200)
    p = torch.softmax(full_logits(head, x_final), dim=-1)
    found = losses(head, x, targets).disagreement
    assert found is not None
    assert targets.top is not None
    assert torch.equal(targets.top, p.argmax(-1))
    assert torch.equal(found, full_disagreement(head, x, p))
    assert 0.1 < float(found.mean()) < 0.95  # the case is not trivial


def test_targets_without_a_most_likely_output_have_no_disagreement() -> None:
    head = make_head()
    x, _, _, targets = draw_case(head)
    assert losses(head, x, replace(targets, top=None)).disagreement is None


@each_head
def test_gradient_equals_autograd_on_full_logits(head: Head) -> None:
    x, x_final, labels, targets = draw_case(head)
    wanted = _slope(x.double(), lambda value: full_losses(head, value, x_final, labels)[0].sum())
    assert (kl_gradient(head, x, targets) - wanted).abs().max() < SLOPE_TOLERANCE


@each_head
def test_slope_through_the_norm_equals_autograd(head: Head) -> None:
    """What training really takes: the slope in the predicted final state, before the norm."""
    _, x_final, labels, targets = draw_case(head)
    z = torch.randn(len(labels), x_final.shape[1], generator=torch.Generator().manual_seed(4))
    wanted = _slope(z, lambda value: full_losses(head, head.norm(value), x_final, labels)[0].sum())
    assert (kl_slope(head, z, targets) - wanted).abs().max() < SLOPE_TOLERANCE


@each_head
def test_bfloat16_gradient_is_the_gradient_up_to_its_rounding(head: Head) -> None:
    """bfloat16 keeps 8 binary digits: entries scatter by 2^-8 of the terms that cancel, W^T q and mu."""
    x, _, _, targets = draw_case(head)
    wanted = kl_gradient(head, x, targets)
    found = kl_gradient(head, x, targets, precision="bfloat16")
    assert found.dtype == torch.float32
    if head.softcap is not None:
        assert torch.equal(found, wanted)  # fits refuse to get here
        return
    size = (targets.mu.norm(dim=1) + (wanted + targets.mu).norm(dim=1)).mean()
    assert 0 < (found - wanted).norm(dim=1).mean() < 4 * 2**-8 * size


def _slope(value: Tensor, loss: object) -> Tensor:
    value = value.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(value), value)  # type: ignore[operator]
    return slope


@each_head
def test_chunks_do_not_change_results(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 rows in one chunk, and in chunks of 16, 16 and 8."""
    x, _, labels, targets = draw_case(head)
    whole = (*astuple(losses(head, x, targets)), targets.mu, targets.entropy, kl_gradient(head, x, targets))
    final = torch.randn(40, head.weight.shape[1], generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(room, "CHUNK_BYTES_CPU", 1)
    monkeypatch.setattr(room, "FEWEST_ROWS", 16)
    assert [part.stop for part in head.chunks(40)] == [16, 32, 40]
    again = final_targets(head, final, labels)
    parts = (*astuple(losses(head, x, again)), again.mu, again.entropy, kl_gradient(head, x, again))
    for one, other in zip(whole, parts, strict=True):
        assert (one - other).abs().max() < CHUNK_TOLERANCE * max(1.0, float(one.abs().max()))


@each_head
def test_final_targets_are_what_they_say(head: Head) -> None:
    _, x_final, labels, targets = draw_case(head)
    p = torch.softmax(full_logits(head, x_final), dim=-1)
    assert (targets.mu - p @ head.weight.double()).abs().max() < LOSS_TOLERANCE
    assert (targets.offset - p @ head.bias.double()).abs().max() < LOSS_TOLERANCE
    assert (targets.entropy + (p * p.log()).sum(-1)).abs().max() < LOSS_TOLERANCE
    assert torch.equal(targets.labels, labels)


@each_head
def test_the_final_state_itself_has_no_kl(head: Head) -> None:
    _, x_final, labels, targets = draw_case(head)
    found = losses(head, x_final, targets)
    assert found.kl.abs().max() < LOSS_TOLERANCE
    assert (found.ce - full_losses(head, x_final, x_final, labels)[1]).abs().max() < LOSS_TOLERANCE
    assert found.disagreement is not None
    assert not found.disagreement.any()


def test_a_certain_final_distribution_has_finite_losses() -> None:
    """p = one-hot to float32: H(p) = 0, and no 0 log 0 spoils it."""
    head = make_head()
    sharp = Head(head.norm, head.weight * 60, head.bias, None)
    x, x_final, labels, targets = draw_case(sharp)
    found = losses(sharp, x, targets)
    wanted_kl, wanted_ce = full_losses(sharp, x, x_final, labels)
    assert torch.isfinite(found.kl).all()
    assert float(targets.entropy.min()) >= 0
    # Logits of several hundred cost three digits of float32.
    assert (found.kl - wanted_kl).abs().max() < 1e-6 * float(wanted_ce.max()) * 60
    assert (found.ce - wanted_ce).abs().max() < 1e-6 * float(wanted_ce.max()) * 60


def test_logits_far_from_zero_keep_small_kl_exact() -> None:
    """Some families have logits around -100; late layers have kl around 1e-3. Cancellation must not show."""
    head = make_head(n_outputs=5000, width=16)
    shifted = Head(head.norm, head.weight, head.bias - 100.0, None)
    _, x_final, labels, targets = draw_case(shifted)
    x = x_final + 0.01 * torch.randn(x_final.shape, generator=torch.Generator().manual_seed(9))
    kl = losses(shifted, x, targets).kl
    wanted, _ = full_losses(shifted, x, x_final, labels)
    assert 1e-4 < float(wanted.mean()) < 1e-2
    # One unit in the last place of -100 is 8e-6; half of it a token is noise, more would be a bias.
    assert (kl - wanted).mean().abs() < LOSS_TOLERANCE


def test_rows_and_concatenation_of_targets() -> None:
    head = make_head(softcap=4.0)
    _, _, _, targets = draw_case(head)
    joined = concatenate([targets.rows(slice(0, 10)), targets.rows(torch.arange(10, 40))])
    for name in ("mu", "offset", "entropy", "labels", "x_final", "top"):
        assert torch.equal(getattr(joined, name), getattr(targets, name)), name


def test_targets_are_a_value() -> None:
    _, _, _, targets = draw_case(make_head())
    assert isinstance(targets.rows(slice(0, 2)), Targets)
    with pytest.raises(AttributeError):
        targets.mu = targets.mu  # type: ignore[misc]

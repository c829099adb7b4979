"""Lens losses as a textbook writes them: float64 and full logits, no identity, no chunks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from transferstats.lens.head import Head, Targets, final_targets


def make_head(
    n_outputs: int = 53, width: int = 12, *, softcap: float | None = None, bias: bool = True, rng: int = 0
) -> Head:
    """A head with a trained-looking layer norm."""
    draw = torch.Generator().manual_seed(rng)
    norm = nn.LayerNorm(width).requires_grad_(False)
    norm.weight.copy_(1 + 0.3 * torch.randn(width, generator=draw))
    norm.bias.copy_(0.3 * torch.randn(width, generator=draw))
    weight = torch.randn(n_outputs, width, generator=draw)
    offset = torch.randn(n_outputs, generator=draw) if bias else torch.zeros(n_outputs)
    return Head(norm, weight, offset, softcap)


def full_logits(head: Head, x: Tensor) -> Tensor:
    """(n, V) float64 logits of normed states."""
    raw = x.double() @ head.weight.double().T + head.bias.double()
    return raw if head.softcap is None else head.softcap * torch.tanh(raw / head.softcap)


def full_losses(head: Head, x: Tensor, x_final: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(kl, ce) in float64 of normed lens outputs x against normed final states."""
    log_q = torch.log_softmax(full_logits(head, x), dim=-1)
    log_p = torch.log_softmax(full_logits(head, x_final), dim=-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    return kl, -log_q.gather(1, labels[:, None]).squeeze(1)


def full_disagreement(head: Head, x: Tensor, p: Tensor) -> Tensor:
    """(n,) 1 where the largest logit of normed lens outputs x is not the largest entry of p (n, V), else 0."""
    return (full_logits(head, x).argmax(-1) != p.argmax(-1)).float()


def draw_case(head: Head, rows: int = 40, rng: int = 1) -> tuple[Tensor, Tensor, Tensor, Targets]:
    """(normed lens outputs, normed final states, labels, targets) for some rows."""
    draw = torch.Generator().manual_seed(rng)
    width = head.weight.shape[1]
    final = torch.randn(rows, width, generator=draw)
    x = head.norm(final + 0.5 * torch.randn(rows, width, generator=draw))
    labels = torch.randint(head.n_outputs, (rows,), generator=draw)
    return x, head.norm(final), labels, final_targets(head, final, labels)

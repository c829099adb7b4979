"""The shared-lens null: a world with the same states in which one lens is exactly right for every layer.

If the lens W* is right everywhere, its prediction q_t = softmax(decode(W*(H_t))) is what the final distribution
is on average, and the final distribution scatters around it. So every target is replaced by the average of m
one-hot draws from q_t: its mean is exactly q_t, and m sets the scatter. m is matched per layer and per quintile
of the entropy of q_t, mixing two neighbouring m, so that the mean KL(p0 || q_t) equals the observed mean
KL(p || q_t) of that bin on held-out units.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from transferstats.lens.fit import Sample
from transferstats.lens.head import Head, Targets, losses
from transferstats.lens.translator import Translators

BINS = 5
ROWS_A_BIN = 200  # held-out rows that calibrate m; the mean of a bin is then known to about 1 %
MOST_DRAWS = 4096
GRID: tuple[int, ...] = tuple(sorted({round(2 ** (k / 2)) for k in range(0, 25)}))


@dataclass(frozen=True, slots=True)
class Scatter:
    """How strongly final distributions scatter around the shared lens's predictions.

    Attributes
    ----------
    edges: (L, BINS - 1) entropies of q_t, nats, that separate the bins of a layer.
    draws: (L, BINS) number of draws m, a real number: floor and floor + 1 are mixed.
    observed: (L, BINS) mean KL(p || q_t) on held-out units, nats. matched: (L, BINS) what m gives.
    """

    edges: Tensor
    draws: Tensor
    observed: Tensor
    matched: Tensor


def match_scatter(head: Head, shared: Translators, held_out: Sample, rng: torch.Generator) -> Scatter:
    """Match m on held-out states and targets, per layer and entropy bin."""
    layers = [
        _match_layer(head, shared.apply(hidden[None])[0], held_out.targets[0], rng) for hidden in held_out.hidden
    ]
    edges, draws, observed, matched = (torch.stack(part) for part in zip(*layers, strict=True))
    return Scatter(edges, draws, observed, matched)


def _match_layer(
    head: Head, z: Tensor, targets: Targets, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.no_grad():
        x = head.norm(z)
    entropy = entropies(head, x)
    kl, _ = losses(head, x, targets)
    edges = torch.quantile(
        entropy.double(), torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1].to(x.device)
    )
    bin_of = torch.bucketize(entropy.double(), edges)
    draws, observed, matched = torch.zeros(BINS), torch.zeros(BINS), torch.zeros(BINS)
    for index in range(BINS):
        rows = torch.nonzero(bin_of == index).squeeze(1)
        observed[index] = kl[rows].double().mean()
        sample = rows[torch.randperm(len(rows), generator=rng)[:ROWS_A_BIN].to(rows.device)]
        curve = scatter_curve(head, x[sample], float(observed[index]), rng)
        draws[index], matched[index] = solve_draws(curve, float(observed[index]))
    return edges.cpu(), draws, observed, matched


def entropies(head: Head, x: Tensor) -> Tensor:
    """(n,) entropy of softmax(logits) for normed states (n, d), nats."""
    value = torch.empty_like(x[:, 0])
    with torch.no_grad():
        for rows in head.chunks(len(x)):
            log_q = torch.log_softmax(head.logits(x[rows]), dim=-1)
            value[rows] = -(log_q.exp() * log_q).sum(-1)
    return value


def scatter_curve(head: Head, x: Tensor, enough: float, rng: torch.Generator) -> list[tuple[int, float]]:
    """Mean KL(p0 || q) over rows for growing m, by nested draws, until it falls below ``enough``."""
    with torch.no_grad():
        log_q = torch.log_softmax(head.logits(x), dim=-1).cpu()
    q, counts = log_q.exp(), torch.zeros_like(log_q)
    curve: list[tuple[int, float]] = []
    drawn = 0
    for m in GRID:
        fresh = torch.multinomial(q, m - drawn, replacement=True, generator=rng)
        counts.scatter_add_(1, fresh, torch.ones_like(fresh, dtype=counts.dtype))
        drawn = m
        p0 = counts / m
        kl = float((torch.xlogy(p0, p0) - p0 * log_q).sum(-1).double().mean())
        curve.append((m, kl))
        if kl < enough:
            break
    return curve


def solve_draws(curve: list[tuple[int, float]], observed: float) -> tuple[float, float]:
    """(m, KL at m): real m whose mixture of floor and ceiling gives the observed scatter.

    Scatter beyond one draw cannot be matched (m = 1 is the most); below the last m it falls as 1 / m.
    """
    if observed >= curve[0][1]:
        return 1.0, curve[0][1]
    for (m0, kl0), (m1, kl1) in pairwise(curve):
        if kl1 <= observed <= kl0:
            m = _between(m0, kl0, m1, kl1, observed)
            low = int(m)
            at_low, at_high = (_value(m0, kl0, m1, kl1, value) for value in (low, low + 1))
            return low + (at_low - observed) / (at_low - at_high), observed
    last, kl = curve[-1]
    return min(last * kl / observed, float(MOST_DRAWS)), max(observed, kl * last / MOST_DRAWS)


def _slope(m0: float, kl0: float, m1: float, kl1: float) -> float:
    return float(torch.tensor(kl1 / kl0).log() / torch.tensor(m1 / m0).log())


def _between(m0: float, kl0: float, m1: float, kl1: float, observed: float) -> float:
    power: float = m0 * (observed / kl0) ** (1 / _slope(m0, kl0, m1, kl1))
    return power


def _value(m0: float, kl0: float, m1: float, kl1: float, m: float) -> float:
    power: float = kl0 * (m / m0) ** _slope(m0, kl0, m1, kl1)
    return power


def null_sample(
    head: Head, shared: Translators, hidden: Tensor, final: Tensor, scatter: Scatter, rng: torch.Generator
) -> Sample:
    """The same states (L, n, d) with targets drawn around the shared lens, and matching final states.

    Final states, which only start the ridge, are W*(H_t) plus the permuted residuals of the observed ones.
    """
    finals, targets = [], []
    for layer, states in enumerate(hidden):
        z = shared.apply(states[None])[0]
        order = torch.randperm(len(z), generator=rng).to(z.device)
        finals.append(z + (final - z)[order])
        targets.append(_draw_targets(head, z, scatter, layer, rng))
    return Sample(hidden, torch.stack(finals), tuple(targets))


def _draw_targets(head: Head, z: Tensor, scatter: Scatter, layer: int, rng: torch.Generator) -> Targets:
    with torch.no_grad():
        x = head.norm(z)
    bin_of = torch.bucketize(entropies(head, x).double().cpu(), scatter.edges[layer])
    wanted = scatter.draws[layer][bin_of].clamp_min(1.0)
    draws = (wanted + torch.rand(len(wanted), generator=rng)).floor().long()
    mu, offset = torch.empty_like(x), torch.empty_like(x[:, 0])
    entropy, labels = torch.empty_like(offset), torch.empty(len(x), dtype=torch.int64, device=x.device)
    # Rows with similar m share a chunk, so that few draws are made in vain.
    order = torch.argsort(draws, stable=True)
    for part in head.chunks(len(x)):
        rows = order[part].to(x.device)
        p0, label = _draw_rows(head, x[rows], draws[order[part]], rng)
        mu[rows], offset[rows] = p0 @ head.weight, p0 @ head.bias
        entropy[rows] = -torch.xlogy(p0, p0).sum(-1)
        labels[rows] = label
    return Targets(mu, offset, entropy, labels)


def _draw_rows(head: Head, x: Tensor, draws: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(rows, V) averages of one-hot draws from q, and one more draw a row as its label."""
    with torch.no_grad():
        q = torch.softmax(head.logits(x), dim=-1).cpu()
    most = int(draws.max())
    drawn = torch.multinomial(q, most + 1, replacement=True, generator=rng)
    share = (torch.arange(most)[None] < draws[:, None]).to(q.dtype) / draws[:, None]
    p0 = torch.zeros_like(q).scatter_add_(1, drawn[:, :most], share)
    return p0.to(x.device), drawn[:, most].to(x.device)

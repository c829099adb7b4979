"""The shared-lens null: a world with the same states in which one lens is exactly right for every layer.

If the lens W* is right everywhere, its prediction q_t = softmax(decode(W*(H_t))) is what the final distribution
is on average, and the final distribution scatters around it. So every target is replaced by the average of m
one-hot draws from q_t: its mean is exactly q_t, and m sets the scatter.

What scatter does to a lens goes through the score, W^T (p - q): the noise of a fitted lens is its covariance in
units of the Fisher information. So m is matched per layer and per quintile of the entropy of q_t such that

    E |W^T (p0 - q)|^2 = tr Cov_q(W) / m    equals the observed mean of    |W^T (p - q)|^2

on held-out units, both in the metric of the layer's inverse Fisher information. Matching KL(p0 || q) instead
spends scatter on directions that the unembedding does not see, where there are more effective classes than
dimensions, and null lenses then err less than real ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens.fit import Sample
from transferstats.lens.head import Head, Targets
from transferstats.lens.translator import Translators

BINS = 5
MOST_DRAWS = 4096


@dataclass(frozen=True, slots=True)
class Scatter:
    """How strongly final distributions scatter around the shared lens's predictions.

    Attributes
    ----------
    edges: (L, BINS - 1) entropies of q_t, nats, that separate the bins of a layer.
    draws: (L, BINS) number of draws m, a real number: floor and floor + 1 are mixed.
    observed: (L, BINS) mean squared score on held-out units, in units of the Fisher information.
    matched: (L, BINS) what m gives; differs where even one draw scatters too little.
    """

    edges: Tensor
    draws: Tensor
    observed: Tensor
    matched: Tensor


def match_scatter(head: Head, shared: Translators, held_out: Sample) -> Scatter:
    """Match m on held-out states and targets, per layer and entropy bin.

    Raises
    ------
    DesignError: a softcapped head, for which the mean of W^T p0 does not determine the loss.
    """
    if head.softcap is not None:
        raise DesignError(
            "the shared-lens null is not available for a model that softcaps its logits: plan the study with "
            "null_replicates=0"
        )
    layers = [_match_layer(head, shared.apply(hidden[None])[0], held_out.targets[0]) for hidden in held_out.hidden]
    edges, draws, observed, matched = (torch.stack(part) for part in zip(*layers, strict=True))
    return Scatter(edges, draws, observed, matched)


def _match_layer(head: Head, z: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with torch.no_grad():
        x = head.norm(z)
    mean, entropy = _predicted(head, x)
    metric = _inverse_fisher_root(head, x, mean)
    one_draw = _spread(head, x, mean, metric)
    score = ((targets.mu - mean).double() @ metric).square().sum(1)
    steps = torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=x.device)[1:-1]
    edges = torch.quantile(entropy.double(), steps)
    bin_of = torch.bucketize(entropy.double(), edges)
    bins = [bin_of == index for index in range(BINS)]
    single = torch.stack([one_draw[rows].mean() for rows in bins])
    observed = torch.stack([score[rows].mean() for rows in bins])
    draws = (single / observed.clamp_min(1e-12)).clamp(1.0, float(MOST_DRAWS))
    return edges.cpu(), draws.cpu(), observed.cpu(), (single / draws).cpu()


def _predicted(head: Head, x: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d) means W^T q and (n,) entropies of q = softmax(logits), for normed states (n, d)."""
    mean, entropy = torch.empty_like(x), torch.empty_like(x[:, 0])
    with torch.no_grad():
        for rows in head.chunks(len(x)):
            log_q = torch.log_softmax(head.logits(x[rows]), dim=-1)
            q = log_q.exp()
            mean[rows] = q @ head.weight
            entropy[rows] = -(q * log_q).sum(-1)
    return mean, entropy


def _inverse_fisher_root(head: Head, x: Tensor, mean: Tensor) -> Tensor:
    """(d, d) float64 root R of the inverse Fisher information of a layer: R R^T = (mean of Cov_q(W))^-1."""
    average = torch.zeros(head.n_outputs, dtype=torch.float64, device=x.device)
    with torch.no_grad():
        for rows in head.chunks(len(x)):
            average += torch.softmax(head.logits(x[rows]), dim=-1).double().sum(0)
    weight, centre = head.weight.double(), mean.double()
    fisher = (weight.T * (average / len(x))) @ weight - centre.T @ centre / len(x)
    values, vectors = torch.linalg.eigh(fisher)
    root: Tensor = vectors / values.clamp_min(1e-6 * float(values.max())).sqrt()
    return root


def _spread(head: Head, x: Tensor, mean: Tensor, metric: Tensor) -> Tensor:
    """(n,) trace of Cov_q(W) in the metric: the mean squared score of a single draw."""
    lengths = (head.weight.double() @ metric).square().sum(1).to(x.dtype)
    second = torch.empty_like(x[:, 0])
    with torch.no_grad():
        for rows in head.chunks(len(x)):
            second[rows] = torch.softmax(head.logits(x[rows]), dim=-1) @ lengths
    return second.double() - (mean.double() @ metric).square().sum(1)


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
    bin_of = torch.bucketize(_predicted(head, x)[1].double().cpu(), scatter.edges[layer])
    wanted = scatter.draws[layer][bin_of]
    draws = _mix_neighbours(wanted, rng)
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


def _mix_neighbours(wanted: Tensor, rng: torch.Generator) -> Tensor:
    """Whole numbers of draws such that 1 / m has the mean 1 / wanted, because scatter goes as 1 / m."""
    low = wanted.floor()
    chance_of_low = low * (low + 1 - wanted) / wanted
    drawn = torch.rand(len(wanted), generator=rng, dtype=wanted.dtype)
    return (low + (drawn >= chance_of_low)).long()


def _draw_rows(head: Head, x: Tensor, draws: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(rows, V) averages of one-hot draws from q, and one more draw a row as its label."""
    with torch.no_grad():
        q = torch.softmax(head.logits(x), dim=-1).cpu()
    most = int(draws.max())
    drawn = torch.multinomial(q, most + 1, replacement=True, generator=rng)
    share = (torch.arange(most)[None] < draws[:, None]).to(q.dtype) / draws[:, None]
    p0 = torch.zeros_like(q).scatter_add_(1, drawn[:, :most], share)
    return p0.to(x.device), drawn[:, most].to(x.device)

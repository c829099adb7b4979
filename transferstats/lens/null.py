"""The shared-lens null: a world with the same states in which one lens is exactly right for every layer.

If the lens W* is right everywhere, its prediction q_t = softmax(decode(W*(H_t))) is what the final distribution
p is on average, and p scatters around it. So the null world keeps the states and gives every layer a target

    p0_t = q_t + sign (p - r_t)        sign = +1 or -1, one a cluster of units, the same at every layer

with r_t the prediction of the layer's own lens. Its mean given the states is exactly q_t, and its scatter is the
observed one: token by token, direction by direction, with the dependence between the tokens of a document, between
the documents of a cluster, and between the layers, which all share one p. This is the wild cluster bootstrap of
the score (Wu 1986, doi 10.1214/aos/1176350142; Kline & Santos 2012, doi 10.1515/2156-6674.1006). Residuals are
taken from the own lenses, because where layers differ p - q_t also holds what an own lens corrects, and that is no
scatter. Half of the clusters keep their sign: residuals of a fitted lens sum to 0 over its clusters, and signs
that sum to 0 make up for the variance that this takes.

p0 need not be a distribution. A lens meets it only through mu0 = W^T p0 (see lens/head.py), which is linear in p0.
The final states, which only start the ridge, stay as they are: lenses of both worlds start from the same place, as
far from the right answer. A null whose ridge start is right already has lenses that need no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens.head import Head, Room, Targets, draw_outputs, expectation
from transferstats.lens.sample import Sample
from transferstats.lens.translator import Translators


@dataclass(frozen=True, slots=True)
class NullLenses:
    """What the null is made from: W* (``shared``, one map), and ``own`` (L maps), whose residuals scatter."""

    shared: Translators
    own: Translators


def null_samples(
    head: Head,
    lenses: NullLenses,
    samples: Sequence[Sample],
    clusters: Sequence[Tensor],
    *,
    rng: torch.Generator,
    precision: str = "float32",
) -> list[Sample]:
    """The same states with targets scattered around the predictions of a shared lens.

    Parameters
    ----------
    samples: states (L, n, d) with the final states (1, n, d) and targets of the network, or of another null world.
        The last one is scored: it alone is given labels and most likely outputs, because kl, on which lenses are
        fitted, knows none.
    clusters: (n,) int64 a sample, cluster of each row; any labels.
    rng: CPU generator; draws the signs and the labels.
    precision: of the targets that lenses are fitted to, as in ``FitPlan``; those scored against are float32.

    Returns
    -------
    Samples with the same states, and targets of its own for each layer.

    Raises
    ------
    DesignError: a softcapped head, for which W^T p0 does not determine the loss.
    """
    if head.softcap is not None:
        raise DesignError(
            "the shared-lens null is not available for a model that softcaps its logits: plan the study with "
            "null_replicates=0"
        )
    made = []
    for index, (sample, member) in enumerate(zip(samples, clusters, strict=True)):
        scored = index == len(samples) - 1
        sign = balanced_signs(member, rng=rng).to(sample.hidden)[:, None]
        targets = []
        for layer, states in enumerate(sample.hidden):
            # Random numbers are drawn either way: what follows does not depend on which sample is scored.
            uniform = torch.rand(states.shape[0], generator=rng).to(states.device)
            weight = head.weight if scored else head.weight.to(getattr(torch, precision))
            shared = _predict(head, weight, lenses.shared, states, uniform if scored else None)
            own = _predict(head, weight, lenses.own.map(layer), states)
            parent = sample.targets[layer % len(sample.targets)]
            made_here = _targets(shared, shared.mean + sign * (parent.mu - own.mean), parent)
            if scored:
                table = _table(head, shared, own, sign, parent.table or _final_table(head, sample.final[0]))
                made_here = replace(made_here, top=_most_likely(head, table, len(states)), table=table)
            targets.append(made_here)
        made.append(Sample(sample.hidden, sample.final, tuple(targets)))
    return made


@dataclass(frozen=True, slots=True)
class _Prediction:
    """What a lens predicts: x (n, d) normed outputs, mean (n, d) W^T q, labels (n,) drawn from q or zeros."""

    x: Tensor
    mean: Tensor
    labels: Tensor


def _predict(
    head: Head, weight: Tensor, lens: Translators, states: Tensor, uniform: Tensor | None = None
) -> _Prediction:
    """Predictions from states (n, d); labels are drawn where there are random numbers (n,) for them."""
    with torch.no_grad():
        x = head.norm(lens.apply(states[None])[0])
        mean, labels = torch.empty_like(x), torch.zeros(len(x), dtype=torch.int64, device=x.device)
        room = Room()

        def compute(rows: slice) -> None:
            q, mean[rows] = expectation(head, x[rows], weight, room)
            if uniform is not None:
                labels[rows] = draw_outputs(q, uniform[rows])

        head.by_chunks(len(x), compute)
    return _Prediction(x, mean, labels)


Table = Callable[[slice], Tensor]
"""rows -> (r, V): distributions of one chunk of tokens."""


def _final_table(head: Head, final: Tensor) -> Table:
    return lambda rows: torch.softmax(head.decode(final[rows]), dim=-1)


def _table(head: Head, shared: _Prediction, own: _Prediction, sign: Tensor, observed: Table) -> Table:
    """p0 = q + sign (p - r) itself, of which training needs the mean of the unembedding only."""

    def table(rows: slice) -> Tensor:
        q, r = (torch.softmax(head.logits(one.x[rows]), dim=-1) for one in (shared, own))
        return q + sign[rows] * (observed(rows) - r)

    return table


def _most_likely(head: Head, table: Table, n_rows: int) -> Tensor:
    """(n,) int64: the largest entry of each row."""
    top = torch.empty(n_rows, dtype=torch.int64, device=head.weight.device)

    def compute(rows: slice) -> None:
        top[rows] = table(rows).argmax(-1)

    with torch.no_grad():
        head.by_chunks(n_rows, compute)
    return top


def balanced_signs(clusters: Tensor, *, rng: torch.Generator) -> Tensor:
    """(n,) float32, +1 or -1, one sign a cluster: half of the clusters each, an odd one by chance."""
    names, member = torch.unique(clusters.cpu(), return_inverse=True)
    side = torch.arange(len(names)) + torch.randint(2, (1,), generator=rng)
    return (1.0 - 2.0 * (side % 2))[torch.randperm(len(names), generator=rng)][member]


def _targets(shared: _Prediction, mu: Tensor, observed: Targets) -> Targets:
    """Targets with W^T p0 = mu (n, d) where the shared lens predicts ``shared``.

    p0 has no entropy of its own; it is given the one for which the shared lens keeps the kl that it has against p,
    so that losses of both worlds are on one scale. Labels are drawn from q: no single draw scatters otherwise.
    """
    entropy = observed.entropy - ((mu - observed.mu) * shared.x).sum(-1)
    return Targets(mu, observed.offset, entropy, shared.labels)

"""The shared-lens null: a world with the same states in which one lens is exactly right for every layer.

If the lens W* is right everywhere, its prediction q_t = softmax(decode(W*(H_t))) is what the final distribution
p is on average, and p scatters around it. So the null world keeps the states and gives every layer a target

    p0_t = q_t + sign * scatter_t      sign = +1 or -1, one a cluster of units, the same at every layer

whose mean given the states is exactly q_t, and whose scatter is the observed one: token by token, direction by
direction, with the dependence between the tokens of a document and between the layers, which all share one p.
This is the wild cluster bootstrap of the score (Wu 1986, doi 10.1214/aos/1176350142; Kline & Santos 2012,
doi 10.1515/2156-6674.1006).

Where layers do differ, p - q_t also holds what an own lens would correct, and that must not pass for scatter. Its
linear part, the regression of the score W^T (p - q_t) on the states, is taken out; and half of the clusters keep
their sign, so that what they have in common cancels.

p0 need not be a distribution. A lens meets it only through mu0 = W^T p0 (see lens/head.py), which is linear in p0.
The final states, which only start the ridge, stay as they are: lenses of both worlds start from the same place, as
far from the right answer. A null whose ridge start is right already has lenses that need no training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens.head import Head, Targets, draw_outputs
from transferstats.lens.sample import Sample
from transferstats.lens.translator import Translators, moments, ridge

STRENGTH = 1e-4  # of the ridge that keeps the regression on the states defined where they are silent


def null_samples(
    head: Head, shared: Translators, samples: Sequence[Sample], clusters: Sequence[Tensor], *, rng: torch.Generator
) -> list[Sample]:
    """The same states with targets scattered around the predictions of a shared lens.

    Parameters
    ----------
    shared: W*, a single map. samples: states (L, n, d) with the final states (1, n, d) and targets of the network;
        the first is the training sample, on which the regression of the score is estimated.
    clusters: (n,) int64 a sample, cluster of each row; any labels.
    rng: CPU generator; draws the signs and the labels.

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
    predictions = [[_predict(head, shared, states) for states in sample.hidden] for sample in samples]
    misfits = [
        _misfit(states, samples[0].targets[0].mu - mean)
        for states, (_, mean) in zip(samples[0].hidden, predictions[0], strict=True)
    ]
    made = []
    for sample, predicted, member in zip(samples, predictions, clusters, strict=True):
        sign = balanced_signs(member, rng=rng).to(sample.hidden)[:, None]
        targets = []
        for states, misfit, (x, mean) in zip(sample.hidden, misfits, predicted, strict=True):
            scatter = sample.targets[0].mu - mean - misfit.apply(states[None])[0]
            targets.append(_targets(head, x, mean + sign * scatter, sample.targets[0], rng))
        made.append(Sample(sample.hidden, sample.final, tuple(targets)))
    return made


def _predict(head: Head, shared: Translators, states: Tensor) -> tuple[Tensor, Tensor]:
    """(n, d) normed outputs x of the shared lens, and the means W^T q of its predictions."""
    with torch.no_grad():
        x = head.norm(shared.apply(states[None])[0])
        mean = torch.empty_like(x)
        for rows in head.chunks(len(x)):
            mean[rows] = torch.softmax(head.logits(x[rows]), dim=-1) @ head.weight
    return x, mean


def _misfit(states: Tensor, score: Tensor) -> Translators:
    """The regression of the score (n, d) on the states (n, d) of one layer, as a map."""
    nothing = Translators(-torch.eye(states.shape[1]).to(states)[None], torch.zeros_like(states[:1]))
    return ridge(moments(states[None], score[None], nothing), nothing, STRENGTH)


def balanced_signs(clusters: Tensor, *, rng: torch.Generator) -> Tensor:
    """(n,) float32, +1 or -1, one sign a cluster: half of the clusters each, an odd one by chance."""
    names, member = torch.unique(clusters.cpu(), return_inverse=True)
    side = torch.arange(len(names)) + torch.randint(2, (1,), generator=rng)
    return (1.0 - 2.0 * (side % 2))[torch.randperm(len(names), generator=rng)][member]


def _targets(head: Head, x: Tensor, mu: Tensor, observed: Targets, rng: torch.Generator) -> Targets:
    """Targets with W^T p0 = mu where the shared lens has the normed outputs x (n, d).

    p0 has no entropy of its own; it is given the one for which the shared lens keeps the kl that it has against p,
    so that losses of both worlds are on one scale. Labels are drawn from q: no single draw scatters otherwise.
    """
    entropy = observed.entropy - ((mu - observed.mu) * x).sum(-1)
    labels = torch.empty_like(observed.labels)
    with torch.no_grad():
        for rows in head.chunks(len(x)):
            labels[rows] = draw_outputs(torch.softmax(head.logits(x[rows]), dim=-1), rng)
    return Targets(mu, observed.offset, entropy, labels)

"""Transfer evaluation: every lens on every layer, scored per unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from transferstats.lens.head import Head, Targets, losses
from transferstats.lens.states import States
from transferstats.lens.translator import Translators

FloatArray = npt.NDArray[np.float64]
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class UnitLosses:
    """Mean losses per unit, nats per token: kl and ce, each (n_units, ...)."""

    kl: FloatArray
    ce: FloatArray


def transfer_losses(
    head: Head,
    lenses: Translators,
    states: States,
    targets: Sequence[Targets],
    *,
    advance: Advance | None = None,
) -> UnitLosses:
    """Score L lenses on L layers: kl and ce of shape (n_units, L sources, L targets).

    ``targets``: one for all layers, or one a layer. Only a forward log-sum-exp a (token, source, target) is
    needed; sums per unit are kept in float64.
    """
    n_layers = states.n_layers
    shape = (len(states.units), n_layers, n_layers)
    kl, ce = np.zeros(shape), np.zeros(shape)
    for target in range(n_layers):
        goal = targets[target % len(targets)]
        for source in range(n_layers):
            scored = readout_losses(head, lenses.map(source), states.hidden[target], states, goal)
            kl[:, source, target], ce[:, source, target] = scored.kl, scored.ce
            if advance is not None:
                advance(states.n_rows)
    return UnitLosses(kl, ce)


def layer_losses(head: Head, lenses: Translators, states: States, targets: Sequence[Targets]) -> UnitLosses:
    """Score one lens a layer (or one for all), each on its own layer: kl and ce of shape (n_units, L)."""
    scored = [
        readout_losses(
            head,
            lenses.map(layer % len(lenses)),
            states.hidden[layer],
            states,
            targets[layer % len(targets)],
        )
        for layer in range(states.n_layers)
    ]
    return UnitLosses(np.stack([s.kl for s in scored], axis=1), np.stack([s.ce for s in scored], axis=1))


def readout_losses(head: Head, lens: Translators, state: Tensor, states: States, targets: Targets) -> UnitLosses:
    """Score one lens on the states (n, d) of one layer: kl and ce of shape (n_units,)."""
    with torch.no_grad():
        normed = head.norm(lens.apply(state[None]))[0]
        kl, ce = losses(head, normed, targets)
    return UnitLosses(_unit_means(kl, states), _unit_means(ce, states))


def baseline_losses(head: Head, states: States, log_prior: Tensor) -> dict[str, FloatArray]:
    """Losses without a lens, (n_units,) each: the final model's ce, and the prior's kl and ce."""
    final_ce = torch.empty(states.n_rows, device=states.final.device)
    prior_kl = torch.empty_like(final_ce)
    with torch.no_grad():
        x = head.norm(states.final)

        def compute(rows: slice) -> None:
            log_p = torch.log_softmax(head.logits(x[rows]), dim=-1)
            final_ce[rows] = -log_p.gather(1, states.labels[rows, None]).squeeze(1)
            prior_kl[rows] = (log_p.exp() * (log_p - log_prior)).sum(-1)

        head.by_chunks(states.n_rows, compute)
    prior_ce = -log_prior[states.labels]
    return {
        "final_ce": _unit_means(final_ce, states),
        "prior_kl": _unit_means(prior_kl, states),
        "prior_ce": _unit_means(prior_ce, states),
    }


def _unit_means(values: Tensor, states: States) -> FloatArray:
    sums = torch.zeros(len(states.units), dtype=torch.float64, device=values.device)
    sums.index_add_(0, states.unit, values.double())
    means: FloatArray = (sums / states.counts()).cpu().numpy()
    return means

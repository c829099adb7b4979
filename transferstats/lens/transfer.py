"""Transfer evaluation: every lens on every layer, scored per unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from transferstats.arrays import FloatArray
from transferstats.lens.head import Head, Targets, losses
from transferstats.lens.states import States
from transferstats.lens.translator import Translators

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class UnitLosses:
    """Mean losses per unit, each (n_units, ...).

    kl, ce: nats per token. disagreement: share of tokens on which the most likely output is not the network's; NaN
    for what has no output of its own.
    """

    kl: FloatArray
    ce: FloatArray
    disagreement: FloatArray

    @staticmethod
    def stacked(parts: Sequence[UnitLosses]) -> UnitLosses:
        """(n_units, ...) each -> (n_units, parts, ...)."""
        return UnitLosses(*(np.stack([getattr(one, name) for one in parts], axis=1) for name in NAMES))


NAMES: tuple[str, ...] = tuple(one.name for one in fields(UnitLosses))
"""Losses of a unit."""


def transfer_losses(
    head: Head,
    lenses: Translators,
    states: States,
    targets: Sequence[Targets],
    *,
    advance: Advance | None = None,
) -> UnitLosses:
    """Score L lenses on L layers: losses of shape (n_units, L sources, L targets).

    ``targets``: one for all layers, or one a layer. Only a forward log-sum-exp a (token, source, target) is
    needed; sums per unit are kept in float64.
    """

    def scored(source: int, target: int) -> UnitLosses:
        goal = targets[target % len(targets)]
        found = readout_losses(head, lenses.map(source), states.hidden[target], states, goal)
        if advance is not None:
            advance(states.n_rows)
        return found

    layers = range(states.n_layers)
    by_target = [UnitLosses.stacked([scored(source, target) for source in layers]) for target in layers]
    transposed = UnitLosses.stacked(by_target)
    return UnitLosses(*(getattr(transposed, name).swapaxes(1, 2).copy() for name in NAMES))


def layer_losses(head: Head, lenses: Translators, states: States, targets: Sequence[Targets]) -> UnitLosses:
    """Score one lens a layer (or one for all), each on its own layer: losses of shape (n_units, L)."""
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
    return UnitLosses.stacked(scored)


def readout_losses(head: Head, lens: Translators, state: Tensor, states: States, targets: Targets) -> UnitLosses:
    """Score one lens on the states (n, d) of one layer: losses of shape (n_units,)."""
    with torch.no_grad():
        found = losses(head, head.norm(lens.apply(state[None]))[0], targets)
    differs = torch.full_like(found.kl, torch.nan) if found.disagreement is None else found.disagreement
    return UnitLosses(*(_unit_means(one, states) for one in (found.kl, found.ce, differs)))


def baseline_losses(head: Head, states: States, log_prior: Tensor) -> dict[str, FloatArray]:
    """Losses without a lens, (n_units,) each: the final model's ce, and the prior's kl, ce and disagreement."""
    final_ce = torch.empty(states.n_rows, device=states.final.device)
    prior_kl, prior_differs = torch.empty_like(final_ce), torch.empty_like(final_ce)
    most_frequent = log_prior.argmax()
    with torch.no_grad():
        x = head.norm(states.final)

        def compute(rows: slice) -> None:
            log_p = torch.log_softmax(head.logits(x[rows]), dim=-1)
            final_ce[rows] = -log_p.gather(1, states.labels[rows, None]).squeeze(1)
            prior_differs[rows] = (log_p.argmax(-1) != most_frequent).to(prior_differs)
            prior_kl[rows] = (log_p.exp() * (log_p - log_prior)).sum(-1)

        head.by_chunks(states.n_rows, compute)
    prior_ce = -log_prior[states.labels]
    return {
        "final_ce": _unit_means(final_ce, states),
        "prior_kl": _unit_means(prior_kl, states),
        "prior_ce": _unit_means(prior_ce, states),
        "prior_disagreement": _unit_means(prior_differs, states),
    }


def _unit_means(values: Tensor, states: States) -> FloatArray:
    sums = torch.zeros(len(states.units), dtype=torch.float64, device=values.device)
    sums.index_add_(0, states.unit, values.double())
    means: FloatArray = (sums / states.counts()).cpu().numpy()
    return means

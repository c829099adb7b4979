"""States: what a subject's layers hold at every scored position, with the targets of the lenses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from transferstats.errors import DataError
from transferstats.lens.head import Head


@dataclass(frozen=True, slots=True)
class States:
    """States of some units.

    Attributes
    ----------
    hidden: (L, n, d) float32, input of block l at each scored position.
    final: (n, d) float32, input of the final norm.
    labels: (n,) int64, the true next token (or class).
    unit: (n,) int64, position in ``units`` of the unit that each row belongs to.
    units: names of the units captured, in order.
    """

    hidden: Tensor
    final: Tensor
    labels: Tensor
    unit: Tensor
    units: tuple[str, ...]

    @property
    def n_layers(self) -> int:
        """Number of layers L."""
        return self.hidden.shape[0]

    @property
    def n_rows(self) -> int:
        """Number of scored positions n."""
        return self.hidden.shape[1]

    def counts(self) -> Tensor:
        """(n_units,) scored positions of each unit."""
        return torch.bincount(self.unit, minlength=len(self.units))


class Subject(Protocol):
    """A network together with its units; what the fitting code asks of any kind of network."""

    @property
    def name(self) -> str:
        """Name for people."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the L layers in order of depth."""

    @property
    def unit(self) -> str:
        """Unit of its losses, such as nats/token."""

    @property
    def head(self) -> Head:
        """Decoder from final state to logits."""

    @property
    def units(self) -> tuple[str, ...]:
        """Names of all units."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Cluster of each unit."""

    def capture(self, indices: Sequence[int], *, max_rows: int | None = None) -> States:
        """States of some units, at most ``max_rows`` scored positions each."""

    def log_prior(self, indices: Sequence[int]) -> Tensor:
        """(V,) log probabilities of the outputs without any state, from the labels of some units."""


def check_states(states: States) -> States:
    """Refuse states that are not finite: one infinite activation would poison every moment."""
    for layer in range(states.n_layers):
        if not torch.isfinite(states.hidden[layer]).all():
            raise DataError(
                f"the states of layer {layer} are not finite; load the model in float32 (half precision "
                "overflows on outlier dimensions)"
            )
    if not torch.isfinite(states.final).all():
        raise DataError("the final states are not finite; load the model in float32")
    return states

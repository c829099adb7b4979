"""Training rows: where lenses take their steps from. All lenses of a cell see the same rows in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from transferstats.lens.head import Targets
from transferstats.lens.sample import Sample


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one step.

    hidden: (L, r, d), every layer at the same positions. targets: one for all layers, or one each.
    """

    hidden: Tensor
    targets: tuple[Targets, ...]


class TrainingRows(Protocol):
    """The training rows of a fold."""

    def batches(self, size: int, rng: torch.Generator) -> Iterator[Batch]:
        """Batch after batch of ``size`` rows, without end, in an order that the CPU generator ``rng`` decides."""


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Rows held in memory, in random order, pass after pass."""

    sample: Sample

    def batches(self, size: int, rng: torch.Generator) -> Iterator[Batch]:
        """At most all rows at once; what is left of a pass begins the next batch."""
        hidden, targets = self.sample.hidden, self.sample.targets
        count = hidden.shape[1]
        size, order = min(size, count), torch.empty(0, dtype=torch.int64)
        while True:
            if len(order) < size:
                order = torch.cat([order, torch.randperm(count, generator=rng)])
            rows, order = order[:size].to(hidden.device), order[size:]
            # Layer by layer: index_select along the second dimension took ten times as long as the step itself.
            taken = torch.stack([layer.index_select(0, rows) for layer in hidden])
            yield Batch(taken, tuple(one.rows(rows) for one in targets))

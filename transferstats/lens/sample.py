"""Samples: inputs and targets that lenses are fitted to and judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transferstats.lens.head import Head, Targets, concatenate, losses
from transferstats.lens.translator import Translators


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs and targets of a fit: row j of ``hidden`` belongs to row ``j % n`` of the n final states or targets.

    m = n for own lenses. For the shared lens G = 1 and the layers are stacked along the rows, m = L n; its targets
    are stacked too where each layer has its own.

    Attributes
    ----------
    hidden: (G, m, d). final: (1, n, d). targets: one for all maps, or one a map.
    """

    hidden: Tensor
    final: Tensor
    targets: tuple[Targets, ...]

    def batch(self, maps: Tensor, rows: Tensor) -> tuple[Tensor, Targets]:
        """(g, r, d) inputs of some maps, each with its own of the rows (g, r), and the targets of these."""
        inputs, taken = [], []
        for one, chosen in zip(maps.tolist(), rows, strict=True):
            targets = self.targets[one % len(self.targets)]
            inputs.append(self.hidden[one].index_select(0, chosen))
            taken.append(targets.rows(chosen % len(targets.labels)))
        return torch.stack(inputs), concatenate(taken)

    def part(self, rows: Tensor) -> Sample:
        """Some rows (r,) of every layer, before any are stacked."""
        return Sample(
            self.hidden.index_select(1, rows),
            self.final.index_select(1, rows),
            tuple(one.rows(rows) for one in self.targets),
        )

    def stacked(self) -> Sample:
        """All layers as the rows of one map: what a shared lens is fitted to."""
        _, _, width = self.hidden.shape
        return Sample(self.hidden.reshape(1, -1, width), self.final, (concatenate(self.targets),))


def mean_kl(
    head: Head, lenses: Translators, sample: Sample, *, maps: Tensor | None = None, max_rows: int = 4096
) -> Tensor:
    """(g,) mean kl of each lens on its rows, at most ``max_rows`` evenly spaced ones; float64 sums.

    ``maps``: which maps of the sample the lenses are for; all of them unless given.
    """
    n_rows = sample.hidden.shape[1]
    step = max(1, -(-n_rows // max_rows))
    rows = torch.arange(0, n_rows, step, device=sample.hidden.device)
    if maps is None:
        maps = torch.arange(len(lenses), device=sample.hidden.device)
    hidden, targets = sample.batch(maps, rows.expand(len(maps), -1))
    with torch.no_grad():
        normed = head.norm(lenses.apply(hidden)).flatten(0, 1)
        kl = losses(head, normed, replace(targets, top=None)).kl
    return kl.reshape(len(maps), -1).double().mean(1)

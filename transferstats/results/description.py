"""What a grid holds, and what it cannot support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimates import Estimates


@dataclass(frozen=True, slots=True)
class Description(Result):
    """A grid at a glance: its size, the usual means with whatever intervals they have, and its limits.

    Attributes
    ----------
    subject, layers, loss, unit: of the grid. datasets: (name, seeds K, units N, clusters) each.
    matrix: (L, L) mean penalty, averaged over datasets, zero diagonal, in ``unit``.
    summary: one :class:`Estimates` a statistic (mean, forward, backward, asymmetry, slope), limits NaN where
        the grid supports no interval.
    caveats: what the reader of the file did to its numbers, and what the file does not say.
    unsupported: (what, why) of everything that this grid cannot support.
    """

    subject: str
    layers: tuple[str, ...]
    loss: str
    unit: str
    datasets: tuple[tuple[str, int, int, int], ...]
    matrix: FloatArray
    summary: tuple[Estimates, ...]
    caveats: tuple[str, ...]
    unsupported: tuple[tuple[str, str], ...]

    kind: ClassVar[str] = "description"

    def tidy(self) -> pd.DataFrame:
        """One row a statistic and dataset, the average over datasets last."""
        return tidy_frame(row for estimates in self.summary for row in estimates.rows())

    def glance(self) -> pd.DataFrame:
        """One row: size of the grid, and how much it cannot support."""
        row = {
            "subject": self.subject,
            "loss": self.loss,
            "unit": self.unit,
            "n_layers": len(self.layers),
            "n_datasets": len(self.datasets),
            "n_seeds": min(size[1] for size in self.datasets),
            "n_units": sum(size[2] for size in self.datasets),
            "n_unsupported": len(self.unsupported),
        }
        return pd.DataFrame([row])

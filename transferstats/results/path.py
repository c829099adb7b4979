"""The path of lenses along their training: penalty against held-out kl, from several starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate

KEPT = "lenses of the study"
"""Term of the lenses that the claims of the study rest on."""


@dataclass(frozen=True, slots=True)
class TrainingPath(Result):
    """Mean penalty of own lenses of one fold at M moments of their training.

    Attributes
    ----------
    dataset: name. anchor: where the lenses of the study itself start.
    anchors: M, where the lenses of each moment started. steps: (M,), 0 at the start.
    held_out_kl: (M,) of the layers' own lenses, mean over layers, nats.
    own_loss: (M,) mean loss of own lenses on the scored units, in the unit of the penalty.
    penalty: M terms, the mean over pairs of layers. Its interval is for new units, conditional on this one fold.
    kept: the same for the lenses that the study kept on this fold, None where the grid does not have them.
    kept_kl: their held-out kl, mean over layers, or NaN.
    """

    dataset: str
    anchor: str
    anchors: tuple[str, ...]
    steps: FloatArray
    held_out_kl: FloatArray
    own_loss: FloatArray
    penalty: Estimate
    kept: Estimate | None = None
    kept_kl: float = float("nan")

    kind: ClassVar[str] = "training_path"

    @property
    def starts(self) -> tuple[str, ...]:
        """The different starts, in order."""
        return tuple(dict.fromkeys(self.anchors))

    def moments(self, anchor: str) -> list[int]:
        """Indices of the moments of one start, by steps."""
        found = [index for index, one in enumerate(self.anchors) if one == anchor]
        return sorted(found, key=lambda index: float(self.steps[index]))

    def best(self, anchor: str) -> int:
        """Index of the moment of least held-out kl of one start."""
        return min(self.moments(anchor), key=lambda index: float(self.held_out_kl[index]))

    def _rows(self) -> Iterator[dict[str, Any]]:
        for index, row in enumerate(self.penalty.rows()):
            yield {
                **row,
                "anchor": self.anchors[index],
                "steps": float(self.steps[index]),
                "held_out_kl": float(self.held_out_kl[index]),
                "own_loss": float(self.own_loss[index]),
            }
        if self.kept is not None:
            row = next(self.kept.rows())
            yield {**row, "term": KEPT, "anchor": self.anchor, "held_out_kl": self.kept_kl}

    def tidy(self) -> pd.DataFrame:
        """One row a moment, last the lenses that were kept; extra columns anchor, steps, held_out_kl, own_loss."""
        return tidy_frame(self._rows())

    def glance(self) -> pd.DataFrame:
        """One row: the starts, the most steps, and held-out kl and penalty of the lenses that were kept."""
        row = {
            "dataset": self.dataset,
            "anchor": self.anchor,
            "n_starts": len(self.starts),
            "max_steps": float(self.steps.max()),
            "least_held_out_kl": float(self.held_out_kl.min()),
            "kept_held_out_kl": self.kept_kl,
            "kept_penalty": np.nan if self.kept is None else float(self.kept.estimate),
            "n_units": self.penalty.n_units,
            "conf_level": self.penalty.conf_level,
            "unit": self.penalty.unit,
            "note": self.penalty.note,
        }
        return pd.DataFrame([row])

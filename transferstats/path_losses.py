"""The path of lenses along their training, as a store holds it: losses at every doubling of the steps.

The lens room follows lenses of one fold from several starts; readers put what it found beside the grid's losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DataError

PATH = "path"
"""World of the cells that follow lenses along their training."""


@dataclass(frozen=True, slots=True)
class PathLosses:
    """Own lenses of one fold at M moments of their training, each scored on every layer of the same N units.

    Attributes
    ----------
    seed: label of the fold. anchor: where the lenses of the study itself start.
    anchors: M, where the lenses started ("identity", "ridge", "shared"). steps: (M,), 0 at the start.
    held_out_kl: (M, L) of each layer's own lens, on the held-out rows of the fold, nats.
    own: loss -> (M, N), mean over layers of the loss of the layer's own lens, in the unit of the grid.
    penalty: loss -> (M, N), mean over the L(L-1) pairs of layers. Units are in the order of the dataset.
    """

    seed: str
    anchor: str
    anchors: tuple[str, ...]
    steps: FloatArray
    held_out_kl: FloatArray
    own: Mapping[str, FloatArray]
    penalty: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        count = len(self.anchors)
        if not count or self.steps.shape != (count,) or len(self.held_out_kl) != count:
            raise DataError("a path needs anchor, steps and held-out kl of every moment")
        for name, values in (*self.own.items(), *self.penalty.items()):
            if values.ndim != 2 or len(values) != count or not np.isfinite(values).all():
                raise DataError(f"path, {name}: expected finite values ({count}, units), got {values.shape}")

    def check_units(self, dataset: str, n_units: int) -> None:
        """Refuse a path that was scored on other units than the losses of its dataset."""
        for values in (*self.own.values(), *self.penalty.values()):
            if values.shape[1] != n_units:
                raise DataError(
                    f"dataset {dataset!r}: the path has {values.shape[1]} units, the losses have {n_units}"
                )

    def scored(self, kind: str, loss: str) -> FloatArray:
        """(M, N) "own" losses or "penalty" in one loss; DataError that lists the losses there are."""
        values = self.own if kind == "own" else self.penalty
        if loss not in values:
            raise DataError(f"the path has no loss {loss!r}; it has: {', '.join(values)}")
        return values[loss]

"""Simulated grids with the loss that is counted beside kl and ce, as stores have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

import transferstats as ts
from transferstats.grid import DISAGREEMENT, DatasetLosses, TransferGrid

Losses = Mapping[str, npt.NDArray[np.float64]]

PER_NAT = 0.12
"""Disagreement of a nat of kl; nothing exceeds 1."""


def disagreeing(unit: str = "nats/token", **options: object) -> TransferGrid:
    """A grid of kl and ce with disagreement beside them, in losses, readouts, prior and null."""
    chosen = {"n_seeds": 3, "n_units": 20, "n_null": 3, "rng": 4, **options}
    grid = ts.simulate_grid(**chosen).grid  # type: ignore[arg-type]
    return replace(grid, datasets=tuple(map(_counted, grid.datasets)), unit=unit)


def _counted(data: DatasetLosses) -> DatasetLosses:
    prior = {f"prior_{DISAGREEMENT}": PER_NAT * data.baselines["prior_kl"]} if data.baselines else {}
    return replace(
        data,
        losses=_with(data.losses),
        readouts={name: _with(losses) for name, losses in data.readouts.items()},
        baselines={**data.baselines, **prior},
        null=None if data.null is None else _counted(data.null),
    )


def _with(losses: Losses) -> Losses:
    return {**losses, DISAGREEMENT: np.clip(PER_NAT * losses["kl"], 0, 1)}

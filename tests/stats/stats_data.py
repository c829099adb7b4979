"""Losses for the statistics tests."""

from __future__ import annotations

import numpy as np

from transferstats.arrays import FloatArray


def make_losses(
    n_seeds: int = 4, n_units: int = 12, n_layers: int = 4, *, rng: int = 0, level: float = 1.0
) -> FloatArray:
    """(K, N, L, L) losses with seed, unit and residual effects that differ between cells."""
    draw = np.random.default_rng(rng)
    distance = np.abs(np.subtract.outer(np.arange(n_layers), np.arange(n_layers)))
    losses = 2.0 + 0.3 * distance + 0.1 * np.triu(np.ones((n_layers, n_layers)), 1)
    losses = losses + 0.15 * draw.normal(size=(n_seeds, 1, n_layers, n_layers))
    losses = losses + 0.3 * draw.normal(size=(1, n_units, n_layers, n_layers))
    losses = losses + 0.2 * draw.normal(size=(n_seeds, n_units, n_layers, n_layers))
    return level * losses

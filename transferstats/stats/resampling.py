"""Pigeonhole resampling of seeds and units, as matrix products (Owen 2007, doi 10.1214/07-AOAS122).

A replicate draws K seeds and N units with replacement and weighs cell (k, i) by w_k u_i. Replicates are drawn
in tiles of fixed size, each with its own random stream and its own matrix product, so that a replicate is the
same number whatever the memory budget, and the first thousand of ten thousand are the thousand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.stats.influence import ROUNDING, check_losses, check_weights, mean_penalty, penalties
from transferstats.stats.statistics import LinearStatistic, Statistic, StatisticLike, as_statistic

TILE = 256
"""Replicates per random stream and per matrix product; part of the definition of the numbers."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Deviations from the mean penalty, ready to be resampled.

    Attributes
    ----------
    statistic: the statistic, resolved.
    centre: (L, L) mean penalty.
    estimate: (m,) statistic at ``centre``.
    deviations: (K, N, F): <G, p - M> for linear statistics (F = m), p - M otherwise (F = L * L).
    weights: (N,) weights of the units with mean 1.
    """

    statistic: Statistic
    centre: FloatArray
    estimate: FloatArray
    deviations: FloatArray
    weights: FloatArray

    @property
    def bytes_per_tile(self) -> int:
        """Memory that one tile needs for its weights and its per-seed means."""
        n_seeds, n_units, n_features = self.deviations.shape
        return int(8 * TILE * (2 * n_units + (n_seeds + 6) * n_features))

    def influences(self) -> FloatArray:
        """(m, K, N) influence tables of the statistic, weights included."""
        features = self.deviations
        if not self.statistic.linear:
            gradient = self.statistic.gradient(self.centre)
            features = features @ gradient.reshape(len(gradient), -1).T
        return np.asarray(features.transpose(2, 0, 1) * self.weights)

    def values(self, shift: FloatArray) -> FloatArray:
        """(B, F) resampled deviations -> (B, m) statistics."""
        if self.statistic.linear:
            return self.estimate + shift
        return self.statistic.batch(self.centre + shift.reshape(-1, *self.centre.shape))


@dataclass(frozen=True, slots=True)
class Replicates:
    """Bootstrap replicates of a statistic with m terms.

    Attributes
    ----------
    both: (B, m), seeds and units resampled.
    seeds, units: (B, m), only seeds, only units resampled, with the same draws as in ``both``.
    seed_weights, unit_weights: (B, K), (B, N) weights of each replicate, rows sum to 1; empty unless kept.
    """

    both: FloatArray
    seeds: FloatArray
    units: FloatArray
    seed_weights: FloatArray
    unit_weights: FloatArray


def prepare_sample(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
) -> Sample:
    """Check losses (K, N, L, L) and turn them into deviations of the statistic's features."""
    values = check_losses(loss)
    weight = check_weights(weights, values.shape[1])
    chosen = as_statistic(statistic, distance=distance)
    penalty = penalties(values)
    centre = mean_penalty(penalty, weight)
    largest = np.abs(values).max(axis=(0, 1))
    deviations = penalty - centre
    noise = np.abs(deviations).max(axis=(0, 1)) <= ROUNDING * (largest + np.diagonal(largest))
    deviations[..., noise] = 0.0
    flat = deviations.reshape(*values.shape[:2], -1)
    if isinstance(chosen, LinearStatistic):
        gradient = chosen.gradient(centre)
        flat = flat @ gradient.reshape(len(gradient), -1).T
    return Sample(
        statistic=chosen,
        centre=centre,
        estimate=chosen.batch(centre[None])[0],
        deviations=flat,
        weights=np.ones(values.shape[1]) if weight is None else weight,
    )


def resample(
    sample: Sample, replicates: int, rng: np.random.Generator, *, memory: int, keep_weights: bool = False
) -> Replicates:
    """Draw ``replicates`` pigeonhole replicates; ``memory`` (bytes) bounds the work space, not the numbers."""
    tiles = -(-replicates // TILE)
    streams = rng.spawn(tiles)
    per_pass = int(np.clip(memory // sample.bytes_per_tile, 1, tiles))
    passes = [
        _one_pass(sample, streams[first : first + per_pass], keep_weights) for first in range(0, tiles, per_pass)
    ]
    both, seeds, units, seed_weights, unit_weights = (
        np.concatenate(parts)[:replicates] for parts in zip(*passes, strict=True)
    )
    return Replicates(both, seeds, units, seed_weights, unit_weights)


def _one_pass(sample: Sample, streams: list[np.random.Generator], keep_weights: bool) -> tuple[FloatArray, ...]:
    n_seeds, n_units, n_features = sample.deviations.shape
    seed_weights = np.stack([draw_weights(stream, np.ones(n_seeds)) for stream in streams])
    unit_weights = np.stack([draw_weights(stream, sample.weights) for stream in streams])
    by_unit = sample.deviations.transpose(1, 0, 2).reshape(n_units, n_seeds * n_features)
    # A stacked product: one (TILE, N) @ (N, K F) per tile, whatever the number of tiles.
    per_seed = (unit_weights @ by_unit).reshape(len(streams), TILE, n_seeds, n_features)
    all_units = np.tensordot(sample.weights / n_units, sample.deviations, axes=(0, 1))
    shifts = (
        np.einsum("btk,btkf->btf", seed_weights, per_seed),
        seed_weights @ all_units,
        per_seed.mean(axis=2),
    )
    values = tuple(np.concatenate([sample.values(tile) for tile in shift]) for shift in shifts)
    if not keep_weights:
        return *values, np.empty((0, n_seeds)), np.empty((0, n_units))
    return *values, seed_weights.reshape(-1, n_seeds), unit_weights.reshape(-1, n_units)


def draw_weights(rng: np.random.Generator, weights: FloatArray) -> FloatArray:
    """(TILE, n) weights of one tile: counts of n draws with replacement, times ``weights``, rows sum to 1."""
    size = len(weights)
    drawn = rng.integers(size, size=(TILE, size))
    drawn += size * np.arange(TILE)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=TILE * size).reshape(TILE, size)
    weighted = counts * weights
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))


def plain_variances(table: FloatArray, seed_weights: FloatArray, unit_weights: FloatArray) -> FloatArray:
    """(B, m) A + B of weighted samples; the residual stays in both parts.

    ``table``: (m, K, N) influences before token weights; weights (B, K) and (B, N) with rows that sum to 1.
    """
    n_seeds, n_units = table.shape[1:]
    columns = []
    for z in table:
        by_seed, by_unit = unit_weights @ z.T, seed_weights @ z
        centre = (seed_weights * by_seed).sum(axis=1, keepdims=True)
        variance = (seed_weights * (by_seed - centre) ** 2).sum(axis=1) / max(n_seeds - 1, 1)
        variance += (unit_weights * (by_unit - centre) ** 2).sum(axis=1) / max(n_units - 1, 1)
        columns.append(variance)
    return np.stack(columns, axis=1)

"""The share of a statistic that its null explains, with limits that agree with the test of the excess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats
from scipy.optimize import brentq

from transferstats.arrays import FloatArray
from transferstats.stats.crossed import VarianceParts, variance_parts

REACH = 60
"""Doublings of the first step before the search for a limit gives up: a factor of 1e18."""


def fieller_limits(
    numerator: float, denominator: float, half_width: Callable[[float], float]
) -> tuple[float, float]:
    """Limits of numerator / denominator: all r with |numerator - r denominator| <= half_width(r).

    (Fieller 1954, doi 10.1111/j.2517-6161.1954.tb00159.x). NaN where that set is unbounded, which is where the
    denominator is not clearly different from 0.
    """
    if not denominator or not np.isfinite([numerator, denominator]).all():
        return np.nan, np.nan
    ratio = numerator / denominator

    def outside(value: float) -> float:
        return abs(numerator - value * denominator) - half_width(value)

    first = half_width(ratio) / abs(denominator)
    if not first > 0:
        return np.nan, np.nan
    limits = []
    for sign in (-1.0, 1.0):
        steps = (sign * first * 2.0**power for power in range(-1, REACH))
        reached = next((ratio + step for step in steps if outside(ratio + step) > 0), None)
        if reached is None:
            return np.nan, np.nan
        limits.append(float(brentq(outside, ratio, reached, xtol=1e-13 * abs(reached - ratio))))
    return limits[0], limits[1]


@dataclass(frozen=True, slots=True)
class ShareParts:
    """Variance of T0 - r T as a function of r, for paired tables of m terms.

    Attributes
    ----------
    seeds, replicates: (m,) seed part of T, replicate part of T0. observed, null, cross: (m,) variances over
        units of both and their covariance, residuals included. residual, null_residual: (m,).
    dfs: (3,) of replicates, seeds, units.
    """

    seeds: FloatArray
    replicates: FloatArray
    observed: FloatArray
    null: FloatArray
    cross: FloatArray
    residual: FloatArray
    null_residual: FloatArray
    dfs: FloatArray

    def at(self, ratio: FloatArray | float) -> FloatArray:
        """(3, m) variance parts of T0 - r T: replicates, seeds, units."""
        unit = (
            self.null
            - 2 * ratio * self.cross
            + ratio**2 * self.observed
            - self.null_residual
            - ratio**2 * self.residual
        )
        return np.stack([self.replicates, ratio**2 * self.seeds, np.maximum(unit, 0.0)])

    def only(self, term: int) -> ShareParts:
        """The same for one term."""
        chosen = slice(term, term + 1)
        return ShareParts(
            self.seeds[chosen],
            self.replicates[chosen],
            self.observed[chosen],
            self.null[chosen],
            self.cross[chosen],
            self.residual[chosen],
            self.null_residual[chosen],
            self.dfs,
        )


def share_parts(observed: FloatArray, null: FloatArray) -> ShareParts:
    """From influence tables (m, K, N) and (m, R, N) on the same units; needs R >= 2 and N >= 2."""
    n_seeds, n_null, n_units = observed.shape[1], null.shape[1], observed.shape[2]
    one, other = variance_parts(observed), variance_parts(null)
    by_unit, null_by_unit = observed.mean(axis=1), null.mean(axis=1)

    def over_units(left: FloatArray, right: FloatArray) -> FloatArray:
        return np.asarray((left * right).sum(axis=1) / (n_units * (n_units - 1)))

    return ShareParts(
        seeds=one.variances[0] if n_seeds > 1 else np.zeros(len(observed)),
        replicates=other.variances[0],
        observed=over_units(by_unit, by_unit),
        null=over_units(null_by_unit, null_by_unit),
        cross=over_units(by_unit, null_by_unit),
        residual=np.nan_to_num(one.residual),
        null_residual=other.residual,
        dfs=np.array([n_null - 1.0, max(n_seeds - 1.0, 1.0), n_units - 1.0]),
    )


def share_limits(
    observed: FloatArray, null: FloatArray, parts: Sequence[ShareParts], conf_level: float
) -> tuple[FloatArray, FloatArray, VarianceParts]:
    """Limits of T0 / T for m terms averaged over independent datasets, and delta-method variance parts.

    ``observed``, ``null``: (m,) averages T and T0; ``parts``: one a dataset.
    """
    weight = len(parts) ** -2
    dfs = np.concatenate([one.dfs for one in parts])
    quantiles = np.asarray(scipy_stats.t.isf((1 - conf_level) / 2, dfs))

    def half_width(term: int) -> Callable[[float], float]:
        own = [one.only(term) for one in parts]

        def at(ratio: float) -> float:
            variance = weight * np.concatenate([one.at(ratio)[:, 0] for one in own])
            return float(np.sqrt(quantiles**2 @ variance))

        return at

    limits = np.array(
        [
            fieller_limits(float(null[term]), float(observed[term]), half_width(term))
            for term in range(len(observed))
        ]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = weight * np.concatenate([one.at(null / observed) for one in parts]) / observed**2
    # A statistic that is exactly 0, such as the penalty of lenses that never left the shared one, has no share.
    variance = np.where(np.isfinite(variance), variance, np.nan)
    names = ("null replicates", "seeds", "units") * len(parts)
    residual = np.full(observed.shape, np.nan)
    return limits[:, 0], limits[:, 1], VarianceParts(variance, dfs, names, residual)

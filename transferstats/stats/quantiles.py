"""Intervals read off a bootstrap distribution, and the p-values that invert them.

Each kind is a distribution (the replicates, or their reflection) and a map from the nominal one-sided level
alpha to the fraction of that distribution below the limit.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from scipy import stats as scipy_stats

from transferstats.arrays import FloatArray

UNDEFINED = (float("nan"), float("nan"), float("nan"))

FEWEST_VALID = 100
"""Below this many valid replicates quantiles are not worth printing."""


@dataclass(frozen=True, slots=True)
class LevelMap:
    """Maps between nominal level and fraction of the distribution, both increasing, in (0, 1)."""

    to_fraction: Callable[[float], float]
    to_level: Callable[[float], float]


def _same(level: float) -> float:
    return level


PLAIN = LevelMap(_same, _same)
"""Percentile, basic and studentized intervals: the fraction is the level."""


def expanded_levels(df: float) -> LevelMap:
    """Percentiles widened to what a t interval with ``df`` needs (Hesterberg 2015)."""
    stretch = float(np.sqrt((df + 1) / df))
    return LevelMap(
        lambda level: float(scipy_stats.norm.cdf(stretch * scipy_stats.t.ppf(level, df))),
        lambda fraction: float(scipy_stats.t.cdf(scipy_stats.norm.ppf(fraction) / stretch, df)),
    )


def bca_levels(below: float, acceleration: float) -> LevelMap:
    """Bias-corrected and accelerated percentiles; ``below`` = share of replicates below the estimate."""
    bias = float(scipy_stats.norm.ppf(below))

    def to_fraction(level: float) -> float:
        shifted = bias + float(scipy_stats.norm.ppf(level))
        return float(scipy_stats.norm.cdf(bias + shifted / (1 - acceleration * shifted)))

    def to_level(fraction: float) -> float:
        shifted = float(scipy_stats.norm.ppf(fraction)) - bias
        return float(scipy_stats.norm.cdf(shifted / (1 + acceleration * shifted) - bias))

    return LevelMap(to_fraction, to_level)


def quantile_interval(distribution: FloatArray, levels: LevelMap, conf_level: float) -> tuple[float, float, float]:
    """(low, high, two-sided p against 0) from one term's (B,) distribution; NaN replicates are left out."""
    valid = distribution[np.isfinite(distribution)]
    if len(valid) < FEWEST_VALID or np.ptp(valid) == 0:
        return UNDEFINED
    alpha = (1 - conf_level) / 2
    low, high = np.quantile(valid, [levels.to_fraction(alpha), levels.to_fraction(1 - alpha)])
    count = len(valid) + 1
    from_below = levels.to_level((1 + np.count_nonzero(valid <= 0)) / (count + 1))
    from_above = 1 - levels.to_level(1 - (1 + np.count_nonzero(valid >= 0)) / (count + 1))
    return float(low), float(high), min(1.0, 2 * min(from_below, from_above))


@cache
def _published() -> dict[str, dict[int, float]]:
    """Kind -> number of seeds -> coverage of 95 % intervals, as the coverage study measured it."""
    lines = files("transferstats.stats").joinpath("bootstrap_coverage.csv").read_text(encoding="utf-8")
    table: dict[str, dict[int, float]] = {}
    for row in csv.DictReader(lines.splitlines()):
        table.setdefault(row["kind"], {})[int(row["n_seeds"])] = float(row["coverage"])
    return table


def measured_coverage(kind: str, n_seeds: int) -> str:
    """How often 95 % intervals of this kind held the truth in the coverage study, in words.

    The figure is for the mean penalty where seeds dominate, with the largest number of seeds studied that does
    not exceed ``n_seeds``; empty below 2 seeds.
    """
    studied = _published().get(kind, {})
    known = [count for count in studied if count <= n_seeds]
    if not known:
        return ""
    count = max(known)
    return (
        f"95 % {kind} intervals held the truth in {100 * studied[count]:.0f} % of simulated studies with {count} "
        "seeds that dominate"
    )

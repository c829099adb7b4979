"""A fixed-seed coverage check: fast, and sharp enough to notice a variance term that is dropped.

The full study is ``analyses/validation/coverage.py``. Here 3000 data sets give coverage a Monte-Carlo error of
0.4 points, so a bound at nominal - 1.5 points fails by chance about once in 5000 seeds; the seed is fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

from transferstats.simulation import Regime, random_fields, simulate_penalties, true_penalty
from transferstats.stats.crossed import (
    VarianceParts,
    crossed_estimate,
    interval_from_parts,
    p_greater,
    variance_parts,
)
from transferstats.stats.paired import paired_parts
from transferstats.stats.statistics import named_statistic

SETS = 3000
NOMINAL = 0.95
LOWEST, HIGHEST = NOMINAL - 0.015, 0.995
TRUTH = true_penalty(4, asymmetry=1.3)
TARGETS = ("mean", "slope", "asymmetry")


def simulated(regime: Regime, n_seeds: int, n_units: int, rng: int) -> np.ndarray:
    return simulate_penalties(TRUTH, n_seeds=n_seeds, n_units=n_units, regime=regime, n_sets=SETS, rng=rng)


def tables(penalty: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    weights = named_statistic(name).gradient(TRUTH)[0]
    table = np.tensordot(penalty, weights, axes=2)
    centre = table.mean(axis=(1, 2))
    return centre, table - centre[:, None, None], float((weights * TRUTH).sum())


def coverage(centre: np.ndarray, truth: float, parts: VarianceParts, keep: tuple[int, ...]) -> float:
    chosen = list(keep)
    low, high = interval_from_parts(centre, parts.variances[chosen], parts.dfs[chosen], conf_level=NOMINAL)
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize(
    ("regime", "n_seeds", "n_units"),
    [
        (Regime("seed", 0.95), 3, 20),
        (Regime("balanced", 0.49), 5, 20),
        (Regime("unit", 0.05), 3, 20),
        (Regime("residual", 0.3, residual_share=0.4), 4, 12),
    ],
)
def test_intervals_cover_the_truth(regime: Regime, n_seeds: int, n_units: int) -> None:
    penalty = simulated(regime, n_seeds, n_units, rng=11)
    for name in TARGETS:
        centre, table, truth = tables(penalty, name)
        assert LOWEST <= coverage(centre, truth, variance_parts(table), (0, 1)) <= HIGHEST


@pytest.mark.parametrize(("dropped", "regime"), [(0, Regime("seed", 0.6)), (1, Regime("unit", 0.2))])
def test_the_check_notices_a_dropped_term(dropped: int, regime: Regime) -> None:
    """The check itself is tested: without seeds, or without units, it would fail."""
    centre, table, truth = tables(simulated(regime, 5, 20, rng=12), "mean")
    parts = variance_parts(table)
    assert coverage(centre, truth, parts, (0, 1)) >= LOWEST
    assert coverage(centre, truth, parts, (1 - dropped,)) < LOWEST


def test_one_sided_tests_keep_their_level() -> None:
    for regime in (Regime("seed", 0.95), Regime("balanced", 0.49)):
        centre, table, truth = tables(simulated(regime, 3, 20, rng=13), "slope")
        parts = variance_parts(table)
        for sign in (1, -1):
            p_values = p_greater(sign * (centre - truth), parts.variances, parts.dfs)
            assert (p_values < 0.05).mean() <= 0.065


def test_the_null_test_keeps_its_level_and_needs_every_part() -> None:
    """True excess 0, units shared by both worlds; each of the three parts matters somewhere."""
    rng = np.random.default_rng(14)
    for regime, needed in ((Regime("seed", 0.9), (0, 1)), (Regime("unit", 0.05), (2,))):
        fields, other = (random_fields((SETS, 20), 4, rng) for _ in range(2))
        worlds = [
            simulate_penalties(
                TRUTH, n_seeds=rows, n_units=20, regime=regime, n_sets=SETS, rng=rng, unit_fields=units
            )
            for rows, units in ((3, fields), (5, 0.6 * fields + 0.8 * other))
        ]
        (left, table, _), (right, null_table, _) = (tables(world, "mean") for world in worlds)
        parts = paired_parts(table, null_table, second_name="null replicates")
        assert coverage(left - right, 0.0, parts, (0, 1, 2)) >= LOWEST
        for part in needed:
            assert coverage(left - right, 0.0, parts, tuple({0, 1, 2} - {part})) < LOWEST


def test_the_vectorised_pieces_are_the_public_door() -> None:
    penalty = simulated(Regime("balanced", 0.49), 4, 20, rng=15)
    for name in TARGETS:
        centre, table, _ = tables(penalty[:3], name)
        parts = variance_parts(table)
        low, _ = interval_from_parts(centre, parts.variances, parts.dfs, conf_level=NOMINAL)
        for index in range(3):
            found = crossed_estimate(penalty[index], name)
            assert float(found.conf_low) == pytest.approx(float(low[index]), rel=1e-9)

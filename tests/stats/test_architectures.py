"""Normalised penalties of different networks, and of kinds of network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

import transferstats as ts
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.architectures import compare_instances, compare_shares, instance_shares
from transferstats.stats.depth import penalty_share


def network(scale: float, rng: int, **options: object) -> TransferGrid:
    truth = scale * true_penalty(5, level=0.3)
    return replace(simulate_grid(truth, n_seeds=4, n_units=40, rng=rng, **options).grid, subject=f"n{rng}")  # type: ignore[arg-type]


def test_the_difference_adds_the_variances_of_both() -> None:
    first, second = network(2.0, 1), replace(network(1.0, 2), unit="nats/image")
    found = compare_shares(first, second)
    sides = [penalty_share(grid).headline for grid in (first, second)]
    assert float(found.estimate) == pytest.approx(float(sides[0].estimate - sides[1].estimate))
    reach = sum(
        float(part) * scipy_stats.t.isf(0.025, df) ** 2
        for one in sides
        for part, df in zip(np.ravel(one.parts), one.dfs, strict=True)
    )
    assert float(found.conf_high - found.estimate) == pytest.approx(np.sqrt(reach))
    assert float(found.conf_low) > 0


def test_the_network_is_the_unit_of_a_claim_about_kinds() -> None:
    kinds = [[network(scale, 10 * kind + i) for i in range(3)] for kind, scale in enumerate((2.0, 1.0))]
    found = compare_instances(*kinds)
    values = [instance_shares(grids) for grids in kinds]
    assert float(found.estimate) == pytest.approx(values[0].mean() - values[1].mean())
    reach = sum(one.var(ddof=1) / 3 for one in values) * scipy_stats.t.isf(0.025, 2) ** 2
    assert float(found.conf_high - found.estimate) == pytest.approx(np.sqrt(reach))
    assert "networks are what is sampled" in found.note


def test_intervals_for_new_networks_cover() -> None:
    """Networks whose true penalties scatter: 60 comparisons of equal kinds, 95 % intervals."""
    draw = np.random.default_rng(0)
    missed = 0
    for study in range(60):
        kinds = [
            [
                network(float(np.exp(0.3 * draw.standard_normal())), 1000 + 10 * study + 3 * kind + i)
                for i in range(3)
            ]
            for kind in range(2)
        ]
        found = compare_instances(*kinds)
        missed += int(not found.conf_low <= 0 <= found.conf_high)
    assert missed <= 9  # binomial(60, .05): P(> 9) < .001


def test_one_network_says_nothing_about_its_kind() -> None:
    with pytest.raises(DesignError, match=r"compare_shares\(a, b\)"):
        compare_instances([network(1.0, 1)], [network(1.0, 2), network(1.0, 3)])
    without = replace(
        network(1.0, 1), datasets=tuple(replace(data, baselines={}) for data in network(1.0, 1).datasets)
    )
    with pytest.raises(DesignError, match="no prior losses"):
        ts.compare_shares(without, network(1.0, 2))

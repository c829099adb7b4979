"""Plans: recovered components, expected widths that come true, power that comes true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results import COLUMNS
from transferstats.simulation import Regime, simulate_grid, simulate_penalties, true_penalty
from transferstats.stats.crossed import crossed_estimate, interval_from_parts, variance_parts
from transferstats.stats.planning import Components, _one, plan_study, size_study


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return simulate_grid(n_seeds=4, n_units=60, rng=3).grid


def test_the_pilot_predicts_itself(grid: TransferGrid) -> None:
    """Planned at its own size, the expected parts are the pilot's parts."""
    found = plan_study(grid, seeds=[4], units=[60], smallest=0.05)
    data = grid.datasets[0]
    pilot = crossed_estimate(data.losses["kl"], "mean", weights=data.tokens)
    assert float(found.estimate.conf_low) == pytest.approx(float(pilot.conf_low), rel=1e-12)
    assert found.share_seeds[0] == pytest.approx(float(pilot.shares[0]), rel=1e-9)
    half = float(pilot.conf_high - pilot.estimate)
    # E sqrt(chi2) < sqrt E chi2: the expected half-width is a little below the one at the expected parts.
    assert 0.85 * half < found.half_width[0] < half


def test_expected_width_and_power_come_true() -> None:
    """Components known exactly; 4000 simulated studies of another size."""
    truth = true_penalty(4)
    regime = Regime("known", 0.5)
    penalty = simulate_penalties(truth, n_seeds=5, n_units=40, regime=regime, n_sets=4000, rng=1)
    table = penalty.sum(axis=(-2, -1)) / 12
    centre = table.mean(axis=(1, 2))
    parts = variance_parts(table - centre[:, None, None])
    low, high = interval_from_parts(centre, parts.variances, parts.dfs, conf_level=0.95)
    seed, unit = parts.variances.mean(axis=1)
    residual = float(parts.residual.mean())
    known = Components(5 * (seed - residual), 40 * unit, 200 * residual)
    mean = float(truth.sum() / 12)
    half, exceeds, _, _ = _one([known], (5, 40), mean, (-0.8 * mean, 0.8 * mean), 0.95)
    assert half == pytest.approx(float((high - low).mean() / 2), rel=0.02)
    assert exceeds == pytest.approx(float((low > 0.8 * mean).mean()), abs=0.03)


def test_more_is_better_and_doubling_is_reported(grid: TransferGrid) -> None:
    found = plan_study(grid, seeds=[3, 6, 12], units=[50, 500], smallest=0.05, effect=0.1)
    width = found.half_width.reshape(3, 2)
    assert (np.diff(width, axis=0) < 0).all()
    assert (np.diff(width, axis=1) < 0).all()
    assert (np.diff(found.power_exceeds.reshape(3, 2), axis=0) >= 0).all()
    doubled = plan_study(grid, seeds=[4, 8], units=[60], smallest=0.05)
    assert found.gain_seeds == pytest.approx(doubled.half_width[1] / doubled.half_width[0], rel=1e-12)
    assert "4 seeds" in found.note
    frame = found.tidy()
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert list(frame["n_seeds"]) == [3, 3, 6, 6, 12, 12]
    assert found.glance().loc[0, "pilot_units"] == 60


def test_two_datasets_are_planned_together() -> None:
    both = simulate_grid(n_seeds=4, n_units=60, datasets=("a", "b"), rng=3).grid
    one = plan_study(both.with_datasets(["a"]), seeds=[4], units=[60], smallest=0.05)
    two = plan_study(both, seeds=[4], units=[60], smallest=0.05)
    assert two.half_width[0] < one.half_width[0]
    assert two.estimate.dataset == "average"


def test_pilots_that_teach_nothing(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    single = replace(data, seeds=data.seeds[:1], losses={"kl": data.losses["kl"][:1]}, readouts={})
    with pytest.raises(DesignError, match="at least 2 seeds and 2 units"):
        plan_study(replace(grid, datasets=(single,)), seeds=[3], units=[10], smallest=0.1)
    with pytest.raises(DesignError, match="one number"):
        plan_study(grid, seeds=[3], units=[10], smallest=0.1, statistic="cells")
    with pytest.raises(DesignError, match="none below 2"):
        plan_study(grid, seeds=[1], units=[10], smallest=0.1)
    with pytest.raises(DesignError, match="smallest must be"):
        plan_study(grid, seeds=[3], units=[10], smallest=0)


def test_the_size_of_a_study_is_the_smallest_that_suffices(grid: TransferGrid) -> None:
    """Checked against the plan of that size, and of one unit less."""
    size = size_study(grid, half_width=0.03, seeds=[20, 2, 4, 8])
    assert size.seeds.tolist() == [2, 4, 8, 20]
    reached = np.isfinite(size.units)
    assert not reached[0]
    assert reached[-1]
    assert (np.diff(size.units[reached]) <= 0).all()
    assert (size.floor[~reached] > 0.03).all()
    for seeds, units in zip(size.seeds[reached], size.units[reached], strict=True):
        plan = plan_study(grid, seeds=[int(seeds)], units=[int(units) - 1, int(units)])
        assert plan.half_width[0] > 0.03 >= plan.half_width[1]
    assert list(size.tidy().columns[: len(COLUMNS)]) == list(COLUMNS)
    assert size.glance()["fewest_units"][0] == size.units[-1]


def test_a_plan_without_a_smallest_has_no_power(grid: TransferGrid) -> None:
    with_power = plan_study(grid, seeds=[3], units=[50], smallest=0.05)
    without = plan_study(grid, seeds=[3], units=[50])
    assert without.half_width[0] == with_power.half_width[0]
    assert np.isnan(without.power_exceeds[0])
    assert np.isnan(without.power_within[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"half_width": 0.0}, "half_width must be a positive number"),
        ({"half_width": float("nan")}, "half_width must be a positive number"),
        ({"half_width": 0.1, "seeds": [1]}, "none below 2"),
        ({"half_width": 0.1, "seeds": []}, "none below 2"),
        ({"half_width": 0.1, "statistic": "cells"}, "choose a scalar statistic"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(grid: TransferGrid, options: dict[str, Any], words: str) -> None:
    with pytest.raises(DesignError, match=words):
        size_study(grid, **options)


def flat(grid: TransferGrid) -> TransferGrid:
    """The grid with a second dataset in which nothing ever varies."""
    data = grid.datasets[0]
    same = {name: np.ones_like(values) for name, values in data.losses.items()}
    return replace(grid, datasets=(data, replace(data, name="flat", losses=same)))


def test_a_dataset_without_variation_is_named_where_others_can_be_planned_from(grid: TransferGrid) -> None:
    whole = plan_study(flat(grid), seeds=[3], units=[50])
    assert "dataset 'flat' varies over neither seeds nor units" in whole.note
    assert whole.half_width[0] == pytest.approx(
        plan_study(grid, seeds=[3], units=[50]).half_width[0] / 2, rel=1e-3
    )
    assert "varies over" not in plan_study(grid, seeds=[3], units=[50]).note


def test_a_dataset_that_leaves_no_interval_is_named(grid: TransferGrid) -> None:
    for plan in (plan_study, size_study):
        options = {"units": [50]} if plan is plan_study else {"half_width": 0.1}
        with pytest.raises(DesignError, match=r"dataset 'flat'; plan from others with grid\.with_datasets"):
            plan(flat(grid), seeds=[3], statistic="ratio", **options)  # type: ignore[operator]

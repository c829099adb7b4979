"""Learning curves: what is exact where penalties fall like one over the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import transferstats as ts
from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.learning_curve import shares_of

ROWS = {"1/4": 250.0, "1/2": 500.0, "": 1000.0}
SLOPE = 40.0  # nats times rows


def grid_with_curve(rows: dict[str, float] = ROWS, *, power: float = 1.0) -> TransferGrid:
    """A simulated grid whose off-diagonal losses have c / n^power added, by lenses of n rows."""
    base = ts.simulate_grid(n_seeds=4, n_units=30, rng=3).grid
    return replace(base, datasets=tuple(_with_curve(data, rows, power) for data in base.datasets))


def _with_curve(data: DatasetLosses, rows: dict[str, float], power: float) -> DatasetLosses:
    off = ~np.eye(data.n_layers, dtype=bool)
    made = {
        name: replace(
            data,
            null=None,
            losses={loss: values + SLOPE / count**power * off for loss, values in data.losses.items()},
            readouts={"shared": {"kl": data.readouts["shared"]["kl"] + SLOPE / count**power}},
            training_rows=(count,) * len(data.seeds),
        )
        for name, count in rows.items()
    }
    return replace(made.pop(""), sets=made)


def test_what_falls_like_one_over_the_rows_is_taken_off_exactly() -> None:
    grid = grid_with_curve()
    truth = ts.simulate_grid(n_seeds=4, n_units=30, rng=3).grid
    found = ts.learning_curve(grid, "slope")
    wanted = ts.estimate(truth, "slope")
    assert found.shares == ("1/4", "1/2", "1")
    for one, other in zip(found.unlimited, wanted, strict=True):
        assert float(one.estimate) == pytest.approx(float(other.estimate), abs=1e-12)
        assert float(one.conf_low) == pytest.approx(float(other.conf_low), abs=1e-12)
    mean = ts.learning_curve(grid, "mean")
    assert float(mean.unlimited.headline.estimate) == pytest.approx(
        float(ts.estimate(truth, "mean").headline.estimate), abs=1e-12
    )
    assert float(mean.doubled.headline.estimate) == pytest.approx(SLOPE / 2000, abs=1e-12)
    assert mean.departure is not None
    assert float(mean.departure.headline.estimate) == pytest.approx(0, abs=1e-12)


def test_numbers_of_rows_need_not_be_halves() -> None:
    grid = grid_with_curve({"1/4": 210.0, "1/2": 530.0, "": 1000.0})
    found = ts.learning_curve(grid, "mean")
    truth = float(ts.estimate(ts.simulate_grid(n_seeds=4, n_units=30, rng=3).grid, "mean").headline.estimate)
    assert float(found.unlimited.headline.estimate) == pytest.approx(truth, abs=1e-12)
    assert found.departure is not None
    assert float(found.departure.headline.estimate) == pytest.approx(0, abs=1e-12)


def test_the_interval_is_the_crossed_one_of_the_combined_losses() -> None:
    grid = grid_with_curve(power=0.5)
    data = grid.datasets[0]
    combined = 2 * data.losses["kl"] - data.sets["1/2"].losses["kl"]
    wanted = crossed_estimate(combined, "mean", weights=data.tokens)
    found = ts.learning_curve(grid, "mean").unlimited[0]
    assert float(found.estimate) == pytest.approx(float(wanted.estimate), abs=1e-12)
    assert float(found.conf_high) == pytest.approx(float(wanted.conf_high), abs=1e-12)


def test_a_slower_fall_departs_from_one_over_the_rows() -> None:
    """With n^-1/2 the early rows brought less, relative to the late ones, than c / n makes of them."""
    grid = grid_with_curve(power=0.5)
    data, rng = grid.datasets[0], np.random.default_rng(1)
    noisy = {
        name: replace(one, losses={"kl": one.losses["kl"] + 1e-3 * rng.standard_normal(one.losses["kl"].shape)})
        for name, one in data.sets.items()
    }
    found = ts.learning_curve(replace(grid, datasets=(replace(data, sets=noisy),)), "mean")
    assert found.departure is not None
    assert float(found.departure.headline.estimate) < -0.1
    assert found.follows() is False
    assert "do not follow" in ts.sentence(found)


def test_the_shared_excess_has_a_curve_by_layer() -> None:
    grid = grid_with_curve()
    found = ts.learning_curve(grid, readout="shared")
    truth = ts.simulate_grid(n_seeds=4, n_units=30, rng=3).grid
    wanted = ts.shared_lens_test(truth, 0.05).excess.headline
    assert np.allclose(found.unlimited.headline.estimate, wanted.estimate, atol=1e-12)
    assert found.unlimited.headline.terms == wanted.terms


def test_two_shares_cannot_tell_and_say_so() -> None:
    found = ts.learning_curve(grid_with_curve({"1/2": 500.0, "": 1000.0}), "mean")
    assert found.departure is None
    assert found.follows() is None
    assert "these points cannot tell" in ts.sentence(found)


def test_a_part_of_as_many_rows_adds_nothing() -> None:
    assert shares_of(grid_with_curve({"1/4": 500.0, "1/2": 500.0, "": 1000.0})) == ("1/4",)
    assert shares_of(grid_with_curve({"1/2": 1000.0, "": 1000.0})) == ()


def test_without_lenses_of_parts_it_says_what_to_do() -> None:
    with pytest.raises(DesignError, match=r"FitPlan\(curve="):
        ts.learning_curve(ts.simulate_grid(n_seeds=3, n_units=10, rng=1).grid)


def test_every_row_of_the_table_says_its_share_and_rows() -> None:
    frame = ts.learning_curve(grid_with_curve(), "mean").tidy()
    last = frame[frame["dataset"] == "average"] if "average" in set(frame["dataset"]) else frame
    assert list(last["share"]) == [
        "1/4",
        "1/2",
        "1",
        "unlimited",
        "fall with twice the rows",
        "departure from 1/n",
    ]
    assert list(last["training_rows"][:3]) == [250.0, 500.0, 1000.0]

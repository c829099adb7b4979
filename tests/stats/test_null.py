"""The shared-lens null: formulas, invariants, and the share it explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from stats_data import make_losses

from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results import COLUMNS
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.fieller import fieller_limits, share_parts
from transferstats.stats.influence import influence_table
from transferstats.stats.null import (
    matched_value,
    null_test,
    paired_null_estimate,
    shared_lens_test,
)
from transferstats.stats.paired import paired_parts
from transferstats.stats.relevance import relevance_test


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return simulate_grid(true_penalty(4), n_seeds=3, n_units=30, n_null=5, datasets=("a", "b"), rng=2).grid


def unit_means(data: np.ndarray) -> np.ndarray:
    n_layers = data.shape[-1]
    penalty = data - np.diagonal(data, axis1=2, axis2=3)[:, :, None, :]
    return penalty.sum(axis=(2, 3)) / (n_layers * (n_layers - 1))


def crossed_pieces(table: np.ndarray) -> tuple[float, float]:
    n, m = table.shape
    z = table - table.mean()
    rest = z - z.mean(axis=1, keepdims=True) - z.mean(axis=0)
    return (z.mean(axis=1) ** 2).sum() / (n * (n - 1)), (rest**2).sum() / (n * m * (n - 1) * (m - 1))


def test_formula_written_out() -> None:
    observed, null = make_losses(3, 15, rng=1), make_losses(5, 15, rng=2)
    found = paired_null_estimate(observed, null, "mean")
    y, y0 = unit_means(observed), unit_means(null)
    (a, e), (a0, e0) = crossed_pieces(y), crossed_pieces(y0)
    unit = max((y.mean(axis=0) - y0.mean(axis=0)).var(ddof=1) / 15 - e - e0, 0)
    t = [scipy_stats.t.isf(0.025, df) for df in (2, 4, 14)]
    half = np.sqrt(t[0] ** 2 * a + t[1] ** 2 * a0 + t[2] ** 2 * unit)
    assert found.part_names == ("seeds", "null replicates", "units")
    assert float(found.estimate) == pytest.approx(y.mean() - y0.mean(), rel=1e-10)
    assert float(found.conf_high - found.estimate) == pytest.approx(half, rel=1e-10)


def test_what_units_share_cancels() -> None:
    """A difficulty that each unit brings to both worlds changes neither estimate nor interval."""
    observed, null = make_losses(3, 15, rng=1), make_losses(5, 15, rng=2)
    shift = np.random.default_rng(3).normal(size=(1, 15, 1, 1)) * (1 - np.eye(4))
    shift -= shift.mean(axis=1, keepdims=True)
    plain = paired_null_estimate(observed, null, "mean")
    shifted = paired_null_estimate(observed + shift, null + shift, "mean")
    assert float(plain.conf_low) == pytest.approx(float(shifted.conf_low), rel=1e-9)
    alone = crossed_estimate(observed + shift, "mean")
    assert float(alone.unit_variance) > 3 * float(crossed_estimate(observed, "mean").unit_variance)


def test_order_of_replicates_changes_nothing() -> None:
    observed, null = make_losses(3, 15, rng=1), make_losses(6, 15, rng=2)
    for statistic in ("slope", lambda matrix: matrix.max()):
        one = paired_null_estimate(observed, null, statistic)
        other = paired_null_estimate(observed[::-1], null[[3, 1, 5, 0, 2, 4]], statistic)
        assert float(one.conf_low) == pytest.approx(float(other.conf_low), rel=1e-9)


def test_one_seed_is_conditional_and_keeps_the_null_part() -> None:
    found = paired_null_estimate(make_losses(1, 15), make_losses(5, 15, rng=2), "mean")
    assert found.part_names == ("null replicates", "units")
    assert "conditional on this lens set" in found.note


def test_nonlinear_statistics_use_equally_many_lenses() -> None:
    """The largest cell of a mean over few lenses is too large; both sides get the same excess."""
    data = make_losses(6, 15, rng=4)

    def largest(matrix: np.ndarray) -> float:
        return float(matrix.max())

    pairs = [
        largest(crossed_penalty(data[list(pair)])) for pair in [(i, j) for i in range(6) for j in range(i + 1, 6)]
    ]
    assert matched_value(data, largest, 2)[0] == pytest.approx(np.mean(pairs), rel=1e-12)
    found = paired_null_estimate(data[:2], data, largest)
    assert float(found.estimate) == pytest.approx(largest(crossed_penalty(data[:2])) - np.mean(pairs), rel=1e-10)
    assert "sets of 2 lenses" in found.note
    same = paired_null_estimate(data[:3], data[3:], largest)
    assert "sets of" not in same.note


def crossed_penalty(data: np.ndarray) -> np.ndarray:
    mean = data.mean(axis=(0, 1))
    return mean - np.diagonal(mean)


def test_grid_level(grid: TransferGrid) -> None:
    found = null_test(grid, "distance")
    data = grid.datasets[0]
    direct = paired_null_estimate(data.losses["kl"], data.null.losses["kl"], "distance", weights=data.tokens)
    np.testing.assert_allclose(found.excess["a"].conf_low, direct.conf_low, rtol=1e-12)
    np.testing.assert_allclose(
        found.excess["average"].estimate,
        found.observed["average"].estimate - found.null["average"].estimate,
        rtol=1e-12,
    )
    assert found.seed_values[0].shape == (3, 3)
    assert found.null_values[1].shape == (5, 3)
    assert found.n_null == 5
    frame = found.tidy()
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert ((frame["p_greater"] < 0.5) == (frame["estimate"] > 0)).all()
    assert {"p_greater", "observed", "null", "share_explained", "n_null"} <= set(frame.columns)
    np.testing.assert_allclose(frame["p_value"], 2 * np.minimum(frame["p_greater"], 1 - frame["p_greater"]))
    assert relevance_test(found, smallest=0.05).verdict.shape == (3,)


def test_null_is_required(grid: TransferGrid) -> None:
    bare = replace(grid, datasets=tuple(replace(data, null=None) for data in grid.datasets))
    with pytest.raises(DesignError, match="no null replicates"):
        null_test(bare)


def test_share_agrees_with_the_test(grid: TransferGrid) -> None:
    """A share of 1 lies outside its limits exactly when the excess is significant."""
    found = null_test(grid, "cells")
    for excess, share in zip(found.excess, found.share, strict=True):
        outside = (share.conf_low > 1) | (share.conf_high < 1)
        np.testing.assert_array_equal(outside, excess.p_value < 0.05)
        assert ((share.conf_low < share.estimate) & (share.estimate < share.conf_high)).all()


@pytest.mark.parametrize("ratio", [-0.7, 0.2, 1.0, 3.0])
def test_share_parts_are_those_of_the_scaled_difference(ratio: float) -> None:
    tables = [influence_table(make_losses(rows, 15, rng=rows), "distance").table for rows in (3, 5)]
    found = share_parts(tables[0], tables[1]).at(ratio)
    expected = paired_parts(tables[1], ratio * tables[0], second_name="other")
    np.testing.assert_allclose(found, expected.variances, rtol=1e-10)


def test_fieller_against_the_closed_form() -> None:
    """Independent numerator and denominator with one t quantile: a quadratic."""
    a, b, va, vb, t = 2.0, 5.0, 0.3, 0.2, 2.2
    g = t**2 * vb / b**2
    middle, reach = a / b / (1 - g), t / b * np.sqrt(va * (1 - g) + vb * (a / b) ** 2) / (1 - g)
    low, high = fieller_limits(a, b, lambda r: t * float(np.sqrt(va + r**2 * vb)))
    assert (low, high) == pytest.approx((middle - reach, middle + reach), rel=1e-9)
    assert np.isnan(fieller_limits(2.0, 0.5, lambda r: t * float(np.sqrt(va + r**2 * vb)))).all()


def test_share_without_bounds_is_nan_with_its_reason(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    noise = np.random.default_rng(0).normal(size=data.losses["kl"].shape)
    unclear = replace(data, losses={"kl": noise})
    found = null_test(replace(grid, datasets=(unclear,)))
    assert np.isnan([found.share.headline.conf_low, found.share.headline.conf_high]).all()
    assert "no bounds" in found.share.headline.note


def test_shared_lens_over_null(grid: TransferGrid) -> None:
    found = shared_lens_test(grid, 0.5)
    assert found.over_null
    assert found.verdict == "within"
    assert shared_lens_test(grid, 0.001).verdict == "exceeds"
    data = grid.datasets[0]
    own = np.diagonal(data.losses["kl"], axis1=2, axis2=3)
    expected = np.average((data.readouts["shared"]["kl"] - own).mean(axis=0), axis=0, weights=data.tokens)
    np.testing.assert_allclose(found.excess["a"].estimate, expected, rtol=1e-10)
    frame = found.tidy()
    assert {"excess", "verdict", "p_within"} <= set(frame.columns)
    assert found.glance().loc[0, "verdict"] == "within"


def test_shared_lens_is_simultaneous_by_holm(grid: TransferGrid) -> None:
    raw = relevance_test(shared_lens_test(grid, 0.06).test.estimates[-1], smallest=0.06).verdicts[0]
    adjusted = shared_lens_test(grid, 0.06).test.verdicts[-1]
    order = np.argsort(raw.p_within)
    stepwise = np.maximum.accumulate(raw.p_within[order] * np.arange(4, 0, -1)).clip(max=1)
    np.testing.assert_allclose(adjusted.p_within[order], stepwise, rtol=1e-12)


def test_shared_lens_without_null_is_raw(grid: TransferGrid) -> None:
    bare = replace(grid, datasets=tuple(replace(data, null=None) for data in grid.datasets))
    found = shared_lens_test(bare, 0.5)
    assert not found.over_null
    np.testing.assert_array_equal(found.test.estimates[0].estimate, found.excess["a"].estimate)
    with pytest.raises(DesignError, match="no kl of readout 'probe'"):
        shared_lens_test(bare, 0.5, readout="probe")

"""Bootstrap plans: against the exact bootstrap variances, other implementations, and themselves in chunks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats
from stats_data import make_losses

from transferstats.errors import UncertaintyWarning
from transferstats.stats.bootstrap import KINDS, Bootstrap, bootstrap_estimate
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.quantiles import bca_levels, expanded_levels
from transferstats.stats.resampling import TILE, draw_weights, prepare_sample, resample
from transferstats.stats.statistics import named_statistic

REPLICATES = 20_000
# A variance from 20,000 replicates has a relative standard error of 1 %; four of them.
MONTE_CARLO = 0.04


@pytest.mark.parametrize("name", ["mean", "slope", "cells"])
def test_two_term_parts_are_the_crossed_parts(name: str) -> None:
    """For linear statistics the three resamplings estimate exactly A, B - E and E."""
    data = make_losses(5, 12)
    exact = crossed_estimate(data, name)
    found = bootstrap_estimate(data, name, Bootstrap(REPLICATES, rng=1))
    np.testing.assert_allclose(found.parts[0], exact.parts[0], rtol=MONTE_CARLO)
    np.testing.assert_allclose(found.residual, exact.residual, rtol=MONTE_CARLO)
    total = exact.parts.sum(axis=0)
    np.testing.assert_allclose(found.parts[1] / total, exact.parts[1] / total, atol=MONTE_CARLO)
    np.testing.assert_allclose(found.conf_low, exact.conf_low, atol=float(0.05 * exact.std_error.max()))


def test_pigeonhole_weights_against_full_enumeration() -> None:
    """2 seeds, 2 units: all 16 resamples, each with probability 1/16."""
    data = make_losses(2, 2, 3)
    table = prepare_sample(data, "mean").deviations[..., 0]
    values = [
        table[np.ix_(seeds, units)].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for units in itertools.product(range(2), repeat=2)
    ]
    found = bootstrap_estimate(data, "mean", Bootstrap(REPLICATES, "percentile", rng=2))
    deviations = found.replicates - found.estimate
    assert np.unique(np.round(deviations, 12)).size == np.unique(np.round(values, 12)).size
    assert deviations.var() == pytest.approx(np.var(values), rel=MONTE_CARLO)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("statistic", ["slope", "ratio"])
def test_memory_changes_no_digit(kind: str, statistic: str) -> None:
    data = make_losses(4, 30)
    large = bootstrap_estimate(data, statistic, Bootstrap(3 * TILE + 10, kind, rng=5))
    small = bootstrap_estimate(data, statistic, Bootstrap(3 * TILE + 10, kind, rng=5, memory=1))
    assert np.array_equal(large.replicates, small.replicates, equal_nan=True)
    assert (large.conf_low, large.conf_high, large.p_value) == (small.conf_low, small.conf_high, small.p_value)


def test_more_replicates_begin_with_the_same_ones() -> None:
    data = make_losses()
    few = bootstrap_estimate(data, "cells", Bootstrap(300, rng=7)).replicates
    many = bootstrap_estimate(data, "cells", Bootstrap(900, rng=7)).replicates
    assert np.array_equal(many[:300], few)
    assert not np.array_equal(many[300:600], few)


def test_matrix_products_equal_a_loop() -> None:
    """Replicates against direct resampling of the losses with the same counts, token weights included."""
    data, weights = make_losses(3, 8), np.arange(1.0, 9.0)
    sample = prepare_sample(data, named_statistic("ratio"), weights=weights)
    drawn = resample(sample, 20, np.random.default_rng(3), memory=2**20, keep_weights=True)
    penalty = data - np.diagonal(data, axis1=2, axis2=3)[:, :, None, :]
    for index in range(20):
        mean = np.einsum("k,i,kist->st", drawn.seed_weights[index], drawn.unit_weights[index], penalty)
        ratio = named_statistic("backward")(mean) / named_statistic("forward")(mean)
        assert drawn.both[index, 0] == pytest.approx(float(ratio), rel=1e-10)
        counts = drawn.unit_weights[index] / weights
        counts = counts / counts[counts > 0].min()
        np.testing.assert_allclose(drawn.unit_weights[index].sum(), 1)


def test_weights_are_multinomial_counts() -> None:
    drawn = draw_weights(np.random.default_rng(0), np.ones(7)) * 7
    np.testing.assert_allclose(drawn, np.round(drawn), atol=1e-12)
    np.testing.assert_allclose(drawn.sum(axis=1), 7)
    # Variance of a multinomial count is (1 - 1/7); 256 x 7 of them.
    assert drawn.var() == pytest.approx(6 / 7, rel=0.15)


def test_one_way_percentile_basic_and_bca_agree_with_scipy() -> None:
    """With one seed the pigeonhole bootstrap is the ordinary bootstrap of units."""
    data = make_losses(1, 40) ** 2
    values = crossed_values(data)
    for kind, method in (("percentile", "percentile"), ("basic", "basic"), ("bca", "BCa")):
        ours = bootstrap_estimate(data, "mean", Bootstrap(REPLICATES, kind, rng=1))
        theirs = scipy_stats.bootstrap(
            (values,), np.mean, n_resamples=REPLICATES, method=method, rng=np.random.default_rng(2)
        ).confidence_interval
        tolerance = 0.05 * (theirs.high - theirs.low)
        assert float(ours.conf_low) == pytest.approx(theirs.low, abs=tolerance)
        assert float(ours.conf_high) == pytest.approx(theirs.high, abs=tolerance)


@pytest.mark.parametrize("scale", ["identity", "log"])
def test_basic_is_the_reflected_percentile(scale: str) -> None:
    data = make_losses(3, 12)
    percentile, basic = (
        bootstrap_estimate(data, "distance", Bootstrap(1000, kind, rng=1), scale=scale)
        for kind in ("percentile", "basic")
    )
    if scale == "log":
        np.testing.assert_allclose(basic.conf_low * percentile.conf_high, basic.estimate**2, rtol=1e-10)
    else:
        np.testing.assert_allclose(basic.conf_low + percentile.conf_high, 2 * basic.estimate, rtol=1e-10)


def test_studentized_with_one_seed_is_the_bootstrap_t() -> None:
    data = make_losses(1, 40) ** 2
    values = crossed_values(data)
    ours = bootstrap_estimate(data, "mean", Bootstrap(REPLICATES, "studentized", rng=1))
    rng = np.random.default_rng(3)
    drawn = values[rng.integers(40, size=(REPLICATES, 40))]
    pivots = (drawn.mean(axis=1) - values.mean()) / (drawn.std(axis=1, ddof=1) / np.sqrt(40))
    low, high = values.mean() - np.quantile(pivots, [0.975, 0.025]) * values.std(ddof=1) / np.sqrt(40)
    assert float(ours.conf_low) == pytest.approx(low, abs=0.05 * (high - low))
    assert float(ours.conf_high) == pytest.approx(high, abs=0.05 * (high - low))


def test_level_maps_are_inverse() -> None:
    for levels in (expanded_levels(3.7), bca_levels(0.42, 0.08)):
        for level in (0.003, 0.025, 0.4, 0.9, 0.99):
            assert levels.to_level(levels.to_fraction(level)) == pytest.approx(level, rel=1e-9)
    # Hesterberg's table: n = 10 needs the 0.9 % percentile for a 2.5 % limit.
    assert expanded_levels(9.0).to_fraction(0.025) == pytest.approx(0.0086, abs=5e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_p_value_agrees_with_the_interval(kind: str) -> None:
    for shift in (0.0, 0.1, 0.2, 0.3, 0.45):
        data = make_losses(5, 12)
        data -= shift * (1 - np.eye(4))
        found = bootstrap_estimate(data, "mean", Bootstrap(2000, kind, rng=4))
        excluded = bool(found.conf_low > 0 or found.conf_high < 0)
        # The p-value counts its own sample (+1), so it may lag the limit by a few replicates.
        if abs(float(found.p_value) - 0.05) > 0.005:
            assert excluded == (found.p_value < 0.05)


def test_statistic_without_gradient() -> None:
    """A rank correlation: flat almost everywhere, so only resampling can give it an interval."""
    data = make_losses(5, 12, 5)
    off = ~np.eye(5, dtype=bool)
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))[off]

    def spearman(matrix: np.ndarray) -> float:
        return float(scipy_stats.spearmanr(distance, matrix[off]).statistic)

    found = bootstrap_estimate(data, spearman, Bootstrap(500, rng=1))
    assert np.shape(found.estimate) == ()
    assert 0 < float(found.std_error) < 0.5
    assert float(found.conf_low) < float(found.estimate) < float(found.conf_high)
    assert found.replicates.shape == (500,)


def test_failures_are_counted_and_announced() -> None:
    data = make_losses(4, 12)
    centre = float(crossed_estimate(data, "cells").estimate[0])

    def partial(threshold: float):
        def statistic(matrix: np.ndarray) -> float:
            return matrix[0, 1] if matrix[0, 1] < threshold else np.nan

        return statistic

    spread = float(crossed_estimate(data, "cells").std_error[0])
    found = bootstrap_estimate(data, partial(centre + 3 * spread), Bootstrap(2000, rng=1))
    failed = int(np.isnan(found.replicates).sum())
    assert 0 < failed < 100
    assert f"undefined in {failed} of 2000 replicates" in found.note
    with pytest.warns(UncertaintyWarning, match="the others only"):
        bootstrap_estimate(data, partial(centre + spread), Bootstrap(2000, rng=1))


def test_log_scale_keeps_limits_positive() -> None:
    data = make_losses(3, 6)
    for kind in KINDS:
        found = bootstrap_estimate(data, "mean", Bootstrap(1000, kind, rng=1), scale="log")
        assert 0 < float(found.conf_low) < float(found.estimate) < float(found.conf_high)
        assert np.isnan(found.p_value)


def test_rng_is_explicit() -> None:
    data = make_losses()
    plan = Bootstrap(300, rng=11)
    assert np.array_equal(
        bootstrap_estimate(data, "mean", plan).replicates, bootstrap_estimate(data, "mean", plan).replicates
    )
    generator = Bootstrap(300, rng=np.random.default_rng(11))
    first, second = (bootstrap_estimate(data, "mean", generator).replicates for _ in range(2))
    assert not np.array_equal(first, second)


def crossed_values(data: np.ndarray) -> np.ndarray:
    """(N,) mean penalty of each unit of a one-seed sample."""
    penalty = data[0] - np.diagonal(data[0], axis1=1, axis2=2)[:, None, :]
    return penalty.sum(axis=(1, 2)) / 12

"""Intervals from parts, and p-values that invert them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from transferstats.errors import DataError, DesignError
from transferstats.stats.intervals import (
    effective_df,
    interval_from_parts,
    p_greater,
    p_two_sided,
)

# The p-value is bisected in log(alpha) to 14 digits; the t quantile itself is good to about 11.
P_TOLERANCE = 1e-10

variances = arrays(np.float64, 3, elements=st.floats(1e-12, 1e6))
degrees = arrays(np.float64, 3, elements=st.floats(1, 500))


@given(variances, degrees, st.floats(0.01, 0.999))
def test_p_at_the_limit_is_alpha(parts: np.ndarray, dfs: np.ndarray, level: float) -> None:
    """The invariant of the design: the one-sided p of the half-width is (1 - level) / 2."""
    half = interval_from_parts(0.0, parts, dfs, conf_level=level).half_width
    assert p_greater(half, parts, dfs) == pytest.approx((1 - level) / 2, rel=P_TOLERANCE)
    assert p_two_sided(-half, parts, dfs) == pytest.approx(1 - level, rel=P_TOLERANCE)


@given(variances, degrees, st.floats(-5, 5))
def test_p_of_both_directions_sum_to_one(parts: np.ndarray, dfs: np.ndarray, gap: float) -> None:
    assert p_greater(gap, parts, dfs) + p_greater(-gap, parts, dfs) == pytest.approx(1, abs=1e-12)


@given(st.floats(0.1, 40), st.floats(1, 300))
def test_one_part_is_the_t_distribution(standardised: float, df: float) -> None:
    p_value = p_greater(3 * standardised, [9.0, 0.0], [df, 2.0])
    assert p_value == pytest.approx(scipy_stats.t.sf(standardised, df), rel=P_TOLERANCE)


def test_parts_add_their_own_quantiles() -> None:
    low, high = interval_from_parts(1.0, [0.5, 0.2], [2, 30], conf_level=0.95)
    half = np.sqrt(0.5 * scipy_stats.t.isf(0.025, 2) ** 2 + 0.2 * scipy_stats.t.isf(0.025, 30) ** 2)
    assert (low, high) == pytest.approx((1 - half, 1 + half), rel=1e-12)


def test_infinite_df_is_the_normal_distribution() -> None:
    assert interval_from_parts(0.0, [4.0], [np.inf], conf_level=0.9).half_width == pytest.approx(
        2 * scipy_stats.norm.isf(0.05)
    )


def test_vectors_equal_their_scalars() -> None:
    rng = np.random.default_rng(0)
    gap, parts = rng.normal(size=(2, 3)), rng.uniform(0, 1, size=(2, 2, 3))
    together = p_greater(gap, parts, [2, 40])
    for index in np.ndindex(gap.shape):
        alone = p_greater(gap[index], parts[(slice(None), *index)], [2, 40])
        assert together[index] == pytest.approx(float(alone), rel=1e-12)


def test_p_is_monotone_and_tiny_where_it_should_be() -> None:
    gaps = np.array([0.0, 0.1, 1.0, 10.0, 1e3, 1e6])
    p_values = p_greater(gaps, [[0.5] * 6, [0.1] * 6], [3, 40])
    assert p_values[0] == 0.5
    assert (np.diff(p_values) < 0).all()
    assert 0 < p_values[-1] < 1e-15


def test_no_variation_is_no_evidence() -> None:
    low, high = interval_from_parts(0.3, [0.0, 0.0], [3, 20], conf_level=0.95)
    assert np.isnan([low, high, p_greater(0.3, [0.0, 0.0], [3, 20])]).all()
    assert np.isnan(p_greater(0.3, [np.nan, 1.0], [3, 20]))


def test_effective_df_is_satterthwaite() -> None:
    assert effective_df([2.0, 1.0], [4, 10]) == pytest.approx(9 / (4 / 4 + 1 / 10))
    assert effective_df([2e-200, 1e-200], [4, 10]) == pytest.approx(9 / (4 / 4 + 1 / 10))
    assert np.isnan(effective_df([0.0, 0.0], [4, 10]))


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95, float("nan")])
def test_impossible_levels_are_refused(level: float) -> None:
    with pytest.raises(DesignError, match="between 0 and 1"):
        interval_from_parts(0.0, [1.0], [3], conf_level=level)


def test_malformed_parts_are_refused() -> None:
    with pytest.raises(DataError, match="not negative"):
        interval_from_parts(0.0, [1.0, -0.1], [3, 4], conf_level=0.95)
    with pytest.raises(DataError, match="n_parts"):
        interval_from_parts(0.0, [1.0, 0.1], [3], conf_level=0.95)
    with pytest.raises(DesignError, match="degrees of freedom"):
        p_greater(1.0, [1.0], [0])
    with pytest.raises(DataError, match="must match"):
        p_greater(np.zeros(3), np.ones((2, 4)), [3, 4])

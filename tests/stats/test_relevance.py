"""Verdicts: agreement with intervals, with textbook TOST, and of text with numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from stats_data import make_losses
from statsmodels.stats.weightstats import DescrStatsW

from transferstats.errors import DesignError
from transferstats.results import COLUMNS
from transferstats.stats.bootstrap import Bootstrap, bootstrap_estimate
from transferstats.stats.crossed import crossed_estimate, interval_from_parts, p_greater
from transferstats.stats.relevance import relevance_test, verdict

PARTS, DFS = [0.0004, 0.0001], [4, 60]


@given(st.floats(-0.3, 0.3), st.floats(0.01, 0.2), st.floats(0.6, 0.99))
def test_verdict_is_read_off_one_family_of_intervals(centre: float, smallest: float, level: float) -> None:
    found = verdict(centre, PARTS, DFS, smallest=smallest, conf_level=level)
    low, high = interval_from_parts(centre, PARTS, DFS, conf_level=level)
    inner = interval_from_parts(centre, PARTS, DFS, conf_level=2 * level - 1)
    edge = min(
        abs(low - smallest), abs(high + smallest), abs(inner.conf_high - smallest), abs(inner.conf_low + smallest)
    )
    if edge < 1e-9:
        return
    if low > smallest or high < -smallest:
        expected = "exceeds"
    elif inner.conf_low > -smallest and inner.conf_high < smallest:
        expected = "within"
    else:
        expected = "inconclusive"
    assert found.verdict == expected
    assert (found.conf_low, found.conf_high) == (low, high)
    assert (found.within_low, found.within_high) == (inner.conf_low, inner.conf_high)


def test_p_values_are_the_one_sided_tests() -> None:
    found = verdict(0.08, PARTS, DFS, smallest=0.05)
    assert found.p_exceeds == p_greater(0.03, PARTS, DFS)
    assert found.p_within == p_greater(-0.03, PARTS, DFS)
    assert found.p_below == p_greater(-0.13, PARTS, DFS)


def test_exceeds_needs_the_printed_interval_not_the_narrower_one() -> None:
    """One-sided p of 4 %: the 95 % interval still holds the bound, so the verdict may not say "exceeds"."""
    low = interval_from_parts(0.2, PARTS, DFS, conf_level=0.92).conf_low
    found = verdict(0.2, PARTS, DFS, smallest=float(low))
    assert found.p_exceeds == pytest.approx(0.04, rel=1e-9)
    assert found.conf_low < found.high
    assert found.verdict == "inconclusive"


def test_within_is_the_test_at_5_percent() -> None:
    """Equivalence rests on the 90 % interval: one-sided p of 4 % is enough."""
    high = interval_from_parts(0.0, PARTS, DFS, conf_level=0.92).conf_high
    found = verdict(0.0, PARTS, DFS, smallest=float(high))
    assert found.p_within == pytest.approx(0.04, rel=1e-9)
    assert found.verdict == "within"


def test_one_part_is_the_textbook_tost() -> None:
    values = np.random.default_rng(0).normal(0.01, 0.1, size=25)
    p_theirs = DescrStatsW(values).ttost_mean(-0.05, 0.05)[0]
    ours = verdict(values.mean(), [values.var(ddof=1) / 25], [24], smallest=0.05)
    assert ours.p_within == pytest.approx(p_theirs, rel=1e-9)
    p_above = scipy_stats.ttest_1samp(values, 0.05, alternative="greater").pvalue
    assert ours.p_exceeds == pytest.approx(p_above, rel=1e-9)


@pytest.mark.parametrize(
    ("centre", "expected", "direction"),
    [(0.3, "exceeds", 1), (-0.3, "exceeds", -1), (0.0, "within", 0), (0.06, "inconclusive", 0)],
)
def test_directions(centre: float, expected: str, direction: int) -> None:
    found = verdict(centre, PARTS, DFS, smallest=0.05)
    assert (found.verdict, found.direction) == (expected, direction)


def test_asymmetric_bounds() -> None:
    assert verdict(-0.1, [1e-6], [30], smallest=(-0.2, 0.05)).verdict == "within"
    assert verdict(-0.1, [1e-6], [30], smallest=0.05).verdict == "exceeds"


def test_unknown_uncertainty_has_no_verdict() -> None:
    found = verdict([0.1, 0.3], [[0.0, 1e-6]], [3], smallest=0.2)
    assert list(found.verdict) == ["undefined", "exceeds"]


def test_levels_below_a_half_have_no_equivalence_interval() -> None:
    found = verdict(0.01, PARTS, DFS, smallest=0.05, conf_level=0.4)
    assert np.isnan(found.within_low)


def test_relevance_test_of_estimates() -> None:
    found = crossed_estimate(make_losses(6, 40), "distance")
    result = relevance_test(found, smallest=0.2)
    frame = result.tidy()
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert list(frame["verdict"]) == list(result.verdict)
    assert {"smallest_low", "p_exceeds", "p_within"} <= set(frame.columns)
    assert result.glance().loc[0, "n_terms"] == 3
    strict = relevance_test(found, smallest=0.2, conf_level=0.999)
    assert (strict.verdicts[0].conf_low < result.verdicts[0].conf_low).all()
    with pytest.raises(DesignError, match="no estimate"):
        relevance_test([], smallest=0.2)


def test_log_scale_verdicts_stay_positive() -> None:
    found = crossed_estimate(make_losses(6, 40), "mean", scale="log")
    result = relevance_test(found, smallest=float(found.conf_low) * 0.99)
    assert result.verdict == "exceeds"
    assert float(result.verdicts[0].conf_low) == pytest.approx(float(found.conf_low), rel=1e-12)
    assert relevance_test(found, smallest=float(found.conf_high) * 1.01).verdict == "within"
    around = (float(found.conf_low) * 0.99, float(found.conf_high) * 1.01)
    assert relevance_test(found, smallest=around).verdict == "within"
    with pytest.raises(DesignError, match="0 < low < high"):
        relevance_test(found, smallest=(-0.1, 0.1))


def test_percentile_intervals_have_no_verdict() -> None:
    losses = make_losses(5, 20)
    with pytest.raises(DesignError, match="not made of variance parts"):
        relevance_test(bootstrap_estimate(losses, "mean", Bootstrap(500, "percentile", rng=0)), smallest=0.1)
    two_term = bootstrap_estimate(losses, "mean", Bootstrap(500, rng=0))
    assert relevance_test(two_term, smallest=0.01).verdict == "exceeds"

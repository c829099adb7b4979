"""Rounding: digits follow the interval, p-values are exact, nothing turns into a false zero."""

from __future__ import annotations

import math

import pytest

from transferstats.reporting import formats


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.46, "p = 0.46"),
        (0.0999, "p = 0.100"),
        (0.031, "p = 0.031"),
        (0.00042, "p = 0.0004"),
        (0.0001, "p = 0.0001"),
        (0.00009, "p < 0.0001"),
        (0.0, "p < 0.0001"),
        (0.995, "p > 0.99"),
        (float("nan"), "p not available"),
    ],
)
def test_p_values_are_exact_down_to_one_in_ten_thousand(p: float, shown: str) -> None:
    assert formats.p_value(p) == shown


@pytest.mark.parametrize("p", [0.04996, 0.050004, 0.0496, 0.0504])
def test_rounding_never_puts_p_on_the_other_side_of_five_percent(p: float) -> None:
    shown = float(formats.p_number(p))
    assert (shown < 0.05) == (p < 0.05)
    assert shown != 0.05


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.03142, 0.02371, 0.03913, ("0.031", "[0.024, 0.039]")),
        (0.2163, 0.1953, 0.2373, ("0.216", "[0.195, 0.237]")),
        (-1.5, -3.0, 0.2, (f"{formats.MINUS}1.5", f"[{formats.MINUS}3.0, 0.2]")),
        (1234.5, 1100.0, 1400.0, ("1234", "[1100, 1400]")),
        (0.5, math.nan, math.nan, ("0.500", "[not available]")),
    ],
)
def test_decimals_follow_the_interval(value: float, low: float, high: float, expected: tuple[str, str]) -> None:
    assert formats.with_interval(value, low, high) == expected


def test_a_limit_that_is_not_zero_never_reads_as_zero() -> None:
    shown = formats.with_interval(0.03, 0.0004, 0.06)[1]
    low = shown.strip("[]").split(", ")[0]
    assert float(low) > 0


def test_minus_zero_is_zero() -> None:
    assert formats.fixed(-0.0001, 2) == "0.00"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.01234, "0.0123"), (1e-9, f"1.00\u00d710^{formats.MINUS}9"), (12345.6, "12,346")],
)
def test_numbers_without_interval_have_three_digits(value: float, shown: str) -> None:
    assert formats.number(value) == shown


def test_shares_never_round_to_nothing() -> None:
    assert formats.percent(0.001) == "<\u00a01\u00a0%"
    assert formats.percent(0.999) == ">\u00a099\u00a0%"
    assert formats.percent(0.0) == "0\u00a0%"


def test_foreign_text_is_made_visible() -> None:
    assert formats.legible("a\r\nb\tc\x00\u202ed") == "a\u21b5b\u2192c<U+0000><U+202E>d"
    assert formats.legible("x" * 300, 20) == "x" * 19 + "\u2026"
    assert formats.legible("\ud800") == "<U+D800>"

"""How numbers and foreign text are written: the only place in the package where anything is rounded.

A number is shown with as many decimals as its interval supports (one or two digits of the half-width).
Text that comes from data is made legible here (control and direction-override characters become visible);
making it inert is the business of each renderer, which knows its own syntax.
"""

from __future__ import annotations

import math
import unicodedata

MINUS = "\u2212"
EN_DASH = "\u2013"

SMALLEST_P = 1e-4
"""Smaller p-values are stated as "p < 0.0001": more digits would pretend to a tail that nobody has checked."""

MAX_DECIMALS = 6
"""Beyond these decimals a number is written as a power of ten."""

OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")
"""Characters that reorder or hide the text around them."""


def legible(text: object, limit: int | None = None) -> str:
    """Foreign text on one line, with nothing invisible in it, shortened to ``limit`` characters if given.

    Newlines become "\u21b5", tabs "\u2192", other control characters and direction overrides "<U+202E>".
    """
    shown = "".join(_visible(character) for character in str(text).replace("\r\n", "\n"))
    if limit is not None and len(shown) > limit:
        return shown[: limit - 1].rstrip() + "\u2026"
    return shown


def _visible(character: str) -> str:
    if character in "\n\r\u2028\u2029\x0b\x0c\x85":
        return "\u21b5"
    if character == "\t":
        return "\u2192"
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co")
    if hidden or character in OVERRIDES:
        return f"<U+{ord(character):04X}>"
    return character


def decimals_for(half_width: float) -> int:
    """Decimals that a half-width supports, by the rule of the Particle Data Group.

    Two digits of it where they begin with 100 to 354, one where 355 to 949; never fewer than 0 decimals.
    """
    if not math.isfinite(half_width) or half_width <= 0:
        return 3
    exponent = math.floor(math.log10(half_width))
    leading = half_width / 10.0**exponent
    if leading >= 9.495:
        leading, exponent = 1.0, exponent + 1
    return max(0, (1 if leading < 3.545 else 0) - exponent)


def fixed(value: float, decimals: int) -> str:
    """A number with that many decimals and a real minus sign; never "-0.00"; NaN as "not available"."""
    if math.isnan(value):
        return "not available"
    if math.isinf(value):
        return "\u221e" if value > 0 else f"{MINUS}\u221e"
    if decimals > MAX_DECIMALS:
        return scientific(value)
    text = f"{value:,.{decimals}f}" if abs(value) >= 10_000 else f"{value:.{decimals}f}"
    if not any(digit in "123456789" for digit in text):
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def scientific(value: float, digits: int = 1) -> str:
    """A number as a power of ten: "1.2 \u00d7 10^-9"."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}\u00d710^{int(exponent)}".replace("-", MINUS)


def number(value: float, significant: int = 3) -> str:
    """A number without an interval: ``significant`` digits."""
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else fixed(value, 0)
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 6:
        return scientific(value, significant - 1)
    return fixed(value, max(0, significant - 1 - size))


def trimmed(value: float) -> str:
    """A number that somebody chose (a bound, a level): as short as it can be written exactly."""
    return f"{value:.12g}".replace("-", MINUS)


def with_interval(value: float, low: float, high: float) -> tuple[str, str]:
    """An estimate and its interval in brackets, with equal decimals."""
    decimals = _shared_decimals(value, low, high)
    if decimals is None:
        return number(value), "[not available]"
    return fixed(value, decimals), f"[{fixed(low, decimals)}, {fixed(high, decimals)}]"


def _shared_decimals(value: float, low: float, high: float) -> int | None:
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    decimals = decimals_for((high - low) / 2)
    # A limit that is not 0 must not look like 0: whether an interval reaches 0 is what readers look for.
    for _ in range(3):
        if any(limit != 0 and round(limit, decimals) == 0 for limit in (low, high)):
            decimals += 1
    return decimals


def interval(low: float, high: float) -> str:
    """An interval in brackets."""
    return with_interval((low + high) / 2, low, high)[1]


def level(conf_level: float) -> str:
    """Confidence level: "95 %"."""
    return f"{100 * conf_level:.6g}\u00a0%"


def p_number(p: float) -> str:
    """A p-value as a number: "0.46", "0.031", "0.0004", "< 0.0001", "> 0.99", "not available"."""
    if math.isnan(p):
        return "not available"
    if p < SMALLEST_P:
        return "< 0.0001"
    if p > 0.99:
        return "> 0.99"
    decimals = 2 if p >= 0.1 else 3 if p >= 0.001 else 4
    # Rounding must not move a p-value onto the threshold that readers compare it with.
    while decimals < 6 and round(p, decimals) == 0.05 and abs(p - 0.05) > 1e-9:
        decimals += 1
    return f"{p:.{decimals}f}"


def p_value(p: float, symbol: str = "p") -> str:
    """A p-value with its symbol: "p = 0.031", "p < 0.0001", "p not available"."""
    text = p_number(p)
    if text == "not available":
        return f"{symbol} {text}"
    return f"{symbol} {text}" if text[0] in "<>" else f"{symbol} = {text}"


def degrees(df: float) -> str:
    """Degrees of freedom: one decimal below 100, none above."""
    if not math.isfinite(df):
        return "not available" if math.isnan(df) else "\u221e"
    if df == round(df) or df >= 100:
        return f"{df:.0f}"
    return f"{df:.1f}"


def t_statistic(statistic: float, df: float) -> str:
    """A t value with its degrees of freedom: "t(6.2) = 4.31"; empty where there is none."""
    if not math.isfinite(statistic):
        return ""
    shown = fixed(statistic, 2) if abs(statistic) < 1000 else number(statistic)
    return f"t({degrees(df)}) = {shown}" if math.isfinite(df) else f"t = {shown}"


def percent(share: float) -> str:
    """A share as a whole percentage, with "< 1 %" rather than a rounded 0."""
    if math.isnan(share):
        return "not available"
    if 0 < share < 0.005:
        return "<\u00a01\u00a0%"
    if 0.995 < share < 1:
        return ">\u00a099\u00a0%"
    return f"{100 * share:.0f}\u00a0%"


def count(value: float) -> str:
    """A count with thin-space groups: "36 864"."""
    return f"{value:,.0f}".replace(",", "\u202f") if math.isfinite(value) else "not available"


def plural(how_many: int, noun: str) -> str:
    """A count with its noun: "1 seed", "5 seeds"."""
    return f"{count(how_many)} {noun if how_many == 1 else noun + 's'}"


def joined(parts: list[str], last: str = " and ") -> str:
    """Words in a row: "a, b and c"."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + last + parts[-1] if parts else ""

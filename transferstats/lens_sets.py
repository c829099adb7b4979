"""Sets of lenses that one cell holds beside the lenses of its plan, and what their readouts are called in a store.

The lens room fits them and writes "own|1/2"; readers find them again as the set "1/2" of a dataset.
"""

from __future__ import annotations

from fractions import Fraction

BESIDE = "anchored"
"""Own lenses of another anchor than the plan's, fitted to the same rows."""

SEPARATOR = "|"


def share_name(share: float) -> str:
    """Name of the lenses of a share of the training rows: "1/2", "3/10", "0.123" where no plain fraction fits."""
    fraction = Fraction(share).limit_denominator(64)
    return str(fraction) if abs(float(fraction) - share) < 1e-9 else f"{share:g}"


def stored_name(readout: str, lens_set: str) -> str:
    """Name of a readout of a set of lenses in a store."""
    return f"{readout}{SEPARATOR}{lens_set}"


def split_name(stored: str) -> tuple[str, str]:
    """(readout, set of lenses), "" for the lenses of the plan."""
    readout, _, lens_set = stored.partition(SEPARATOR)
    return readout, lens_set

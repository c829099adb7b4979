"""What foreign numbers are, and what makes losses of them: units of information, and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DataError
from transferstats.grid import SCORED

LN2 = float(np.log(2.0))
PER_BYTE = "bits/byte"

UNITS: Mapping[str, tuple[float, str]] = MappingProxyType(
    {
        "nats": (1.0, "nats/token"),
        "bits": (LN2, "nats/token"),
        "nats/token": (1.0, "nats/token"),
        "bits/token": (LN2, "nats/token"),
        "nats/image": (1.0, "nats/image"),
        "bits/image": (LN2, "nats/image"),
        PER_BYTE: (1.0, PER_BYTE),
    }
)
"""Unit of a foreign loss -> (factor, unit of the grid). Bits per byte stay what they are unless converted."""

KEPT_PER_BYTE = (
    "losses are in bits per byte; give bytes_per_token to have nats per token (1 bit/byte is "
    "0.693 x bytes_per_token nats/token), and state the smallest penalty of interest in the unit of the losses"
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """How foreign numbers become losses.

    Attributes
    ----------
    loss_unit: key of :data:`UNITS`, or None where the reader knows it; of a score, whatever it is measured in.
    bytes_per_token: mean length of a token in bytes, for losses in bits per byte.
    score: name of a score (accuracy, AUC, d', a correlation; larger is better) to be turned into the loss
        ``1 - score``, whose penalties are the score that is lost; None where the numbers are losses.
    """

    loss_unit: str | None = None
    bytes_per_token: float | None = None
    score: str | None = None

    def __post_init__(self) -> None:
        if self.score is None and self.loss_unit is not None and self.loss_unit not in UNITS:
            raise DataError(f"unknown loss_unit {self.loss_unit!r}: use one of {', '.join(UNITS)}")
        size = self.bytes_per_token
        if size is not None and not (np.isfinite(size) and size > 0):
            raise DataError(f"bytes_per_token must be a positive number of bytes, got {size!r}")

    def with_unit(self, unit: str) -> Conversion:
        """The same for a reader that knows the unit of its files; DataError where another one was stated."""
        if self.loss_unit not in (None, unit):
            raise DataError(f"this file is in {unit}: leave loss_unit={self.loss_unit!r} away")
        return Conversion(unit, self.bytes_per_token, self.score)

    def factor(self) -> tuple[float, str]:
        """(factor to multiply losses by, unit of the product). DataError: bytes_per_token without use."""
        factor, unit = UNITS[self.loss_unit or "nats"]
        if self.bytes_per_token is None:
            return factor, unit
        if unit != PER_BYTE:
            raise DataError(f"bytes_per_token is for losses in bits per byte: say loss_unit={PER_BYTE!r}")
        return LN2 * self.bytes_per_token, "nats/token"

    def caveats(self) -> list[str]:
        """What was done to the numbers, in words."""
        if self.score is not None:
            own = f"{self.score} was taken as a score of any size, in {self.loss_unit}, of which more is better"
            stated = [] if self.loss_unit is None else [own]
            return [
                *stated,
                f"the loss {SCORED!r} is 1 - {self.score}, made on request; a difference of scores is not a "
                f"difference of information, so smallest is in points of {self.score} too",
            ]
        factor, unit = self.factor()
        if unit == PER_BYTE:
            return [KEPT_PER_BYTE]
        if self.bytes_per_token is not None:
            return [
                f"losses were converted from bits per byte with {self.bytes_per_token:g} bytes a token for all "
                "units alike"
            ]
        return [f"losses were converted from {self.loss_unit}"] if factor != 1 else []


def error_of(values: FloatArray, conversion: Conversion) -> tuple[FloatArray, str, list[str]]:
    """The loss ``1 - score`` of any shape, its unit, and remarks.

    Between 0 and 1 a score is a proportion. Below 0 it can be none, nor a percentage: it is a score of its own
    unit. Beyond 1 alone it may be either.

    Raises
    ------
    DataError: scores beyond 1 and none below 0, where nobody stated a unit; proportions in nats or bits.
    """
    score, stated = str(conversion.score), conversion.loss_unit
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if stated in UNITS and low >= 0 and high <= 1:
        raise DataError(
            f"{score!r} lies between 0 and 1 and so has no loss_unit: 1 - score is a loss in the unit of the score"
        )
    unit = stated or score
    if stated is None and low >= 0 and high > 1:
        raise DataError(
            f"{int((known > 1).sum())} values of {score!r} lie beyond 1, such as {known[known > 1][0]:g}: divide "
            "percentages by 100; for a score of another size, of which more is better, state what it is measured "
            f"in, such as loss_unit={score!r}"
        )
    remarks = conversion.caveats()
    if stated is None and low < 0:
        remarks = [
            f"{score} has values below 0, so it is no proportion: it was taken as a score of its own unit, of "
            "which more is better",
            *remarks,
        ]
    return np.asarray(1.0 - values), unit, remarks

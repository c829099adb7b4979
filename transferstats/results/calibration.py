"""Is the shared-lens null right here? Its excess over a null of its own must be 0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimates import Estimates


@dataclass(frozen=True, slots=True)
class NullCalibration(Result):
    """A statistic of the null replicates against the null of another one, treated as if it had been observed.

    In a null replicate one lens is right at every layer, so the excess is known to be 0 there: it is what the null
    errs by on this network, with these layers and this amount of data.

    Attributes
    ----------
    excess: T(P0) - T(P00), one member a dataset and last their average. null: T(P0) alone.
    """

    excess: Estimates
    null: Estimates

    kind: ClassVar[str] = "null_calibration"

    def calibrated(self, member: int | str = -1) -> bool | None:
        """Whether the interval of a scalar excess includes 0; None where there is no interval."""
        one = self.excess[member]
        if not np.isfinite(one.conf_low).all():
            return None
        return bool(((one.conf_low <= 0) & (one.conf_high >= 0)).all())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the excess, with the null and the share of it that the excess is."""
        for excess, null in zip(self.excess, self.null, strict=True):
            values = np.atleast_1d(null.estimate)
            for index, row in enumerate(excess.rows()):
                value = float(values[index])
                share = row["estimate"] / value if value else float("nan")
                yield {**row, "null": value, "share_of_null": share}

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and term: the excess; extra columns null and share_of_null."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: the headline's, and whether its interval includes 0."""
        return self.excess.glance().assign(calibrated=self.calibrated())

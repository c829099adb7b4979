"""How a statistic depends on the amount of training data of the lenses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimates import Estimates

UNLIMITED = "unlimited"
"""What the statistic would be with unlimited training data, where it follows c / n."""

DOUBLED = "fall with twice the rows"
DEPARTURE = "departure from 1/n"


@dataclass(frozen=True, slots=True)
class LearningCurve(Result):
    """A statistic of lenses fitted to nested parts of each fold, scored on the same units.

    Attributes
    ----------
    statistic: its name. shares: names of the parts of a fold, smallest first, the whole fold ("1") last.
    points: one :class:`Estimates` a share. rows_of: dataset -> training rows behind each share, harmonic mean over
        seeds.
    unlimited: the statistic at unlimited data, if it falls like c / n: (n P(n) - m P(m)) / (n - m) for the last
        two numbers of rows m < n; linear in the losses, so its crossed interval is exact where c / n holds.
    doubled: by how much twice the rows would lower it.
    departure: P(l) - P(m) less what c / n makes of P(m) - P(n), for the last three; above 0 where early rows
        brought more than that. None with two shares.
    """

    statistic: str
    shares: tuple[str, ...]
    points: tuple[Estimates, ...]
    rows_of: Mapping[str, tuple[float, ...]]
    unlimited: Estimates
    doubled: Estimates
    departure: Estimates | None

    kind: ClassVar[str] = "learning_curve"

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a dataset, share and term; then what follows from them."""
        for share, estimates in zip(self.shares, self.points, strict=True):
            part = "all rows" if share == self.shares[-1] else f"{share} of the rows"
            for row in estimates.rows():
                known = {"share": share, "training_rows": self._rows(row["dataset"], share)}
                yield {**row, "term": f"{row['term']}, {part}", **known}
        derived = {UNLIMITED: self.unlimited, DOUBLED: self.doubled, DEPARTURE: self.departure}
        for name, found in derived.items():
            for row in found.rows() if found is not None else ():
                yield {**row, "term": f"{row['term']}, {name}", "share": name, "training_rows": float("nan")}

    def _rows(self, dataset: str, share: str) -> float:
        """Training rows of a dataset, or the mean of all datasets."""
        index = self.shares.index(share)
        if dataset in self.rows_of:
            return self.rows_of[dataset][index]
        return float(np.mean([rows[index] for rows in self.rows_of.values()]))

    def follows(self, member: int = -1) -> bool | None:
        """Whether the three points agree with c / n (Bonferroni over terms); None with two, or no interval."""
        if self.departure is None or not np.isfinite(self.departure[member].p_value).all():
            return None
        one = self.departure[member]
        return bool((one.p_value >= (1 - one.conf_level) / len(one.terms)).all())

    def tidy(self) -> pd.DataFrame:
        """One row a dataset, share and term; extra columns: share and training_rows."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: that of the statistic at unlimited data, with the number of shares."""
        row = self.unlimited.glance()
        row.insert(0, "n_shares", len(self.shares))
        row.insert(0, "statistic", self.statistic)
        return row

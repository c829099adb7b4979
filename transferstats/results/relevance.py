"""Verdicts against a smallest effect of interest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Verdict:
    """Three-way verdict on estimates of shape S: ``"exceeds"``, ``"within"`` or ``"inconclusive"``.

    With alpha = 1 - conf_level: exceeds = the conf_level interval lies outside the region of interest
    (``p_exceeds`` or ``p_below`` < alpha / 2); within = both one-sided tests at alpha reject, which is the
    1 - 2 alpha interval lying inside (``p_within`` < alpha). Both come from one family of intervals.

    Attributes
    ----------
    verdict: S, text ("undefined" where there is no interval).
    direction: S, +1 where the estimate exceeds above, -1 below, 0 otherwise.
    p_exceeds, p_below: S, one-sided p of effect > high, of effect < low.
    p_within: S, the larger of the two one-sided p-values of the equivalence test.
    conf_low, conf_high: S, limits at ``conf_level``.
    within_low, within_high: S, limits at 1 - 2 alpha; NaN where conf_level <= 0.5.
    low, high: the region too small to matter, in the unit of the estimate.
    """

    verdict: npt.NDArray[np.str_]
    direction: npt.NDArray[np.int64]
    p_exceeds: FloatArray
    p_below: FloatArray
    p_within: FloatArray
    conf_low: FloatArray
    conf_high: FloatArray
    within_low: FloatArray
    within_high: FloatArray
    low: float
    high: float
    conf_level: float


@dataclass(frozen=True, slots=True)
class RelevanceTest(Result):
    """Estimates judged against a smallest effect of interest.

    Attributes
    ----------
    estimates: what was judged; the last is the headline (average over datasets, or the only one).
    verdicts: one :class:`Verdict` per estimate, same shapes.
    smallest: (low, high), the region too small to matter, in the unit of the estimate.
    """

    estimates: tuple[Estimate, ...]
    verdicts: tuple[Verdict, ...]
    smallest: tuple[float, float]

    kind: ClassVar[str] = "relevance_test"

    @property
    def verdict(self) -> Any:
        """Headline verdict: text for a scalar statistic, an array of texts for a vector."""
        return self.verdicts[-1].verdict

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the estimates, with the verdict and its p-values."""
        for estimate, verdict in zip(self.estimates, self.verdicts, strict=True):
            for index, row in enumerate(estimate.rows()):
                row.update(
                    verdict=str(np.atleast_1d(verdict.verdict)[index]),
                    smallest_low=self.smallest[0],
                    smallest_high=self.smallest[1],
                )
                for name in ("p_exceeds", "p_below", "p_within", "within_low", "within_high"):
                    row[name] = float(np.atleast_1d(getattr(verdict, name))[index])
                yield row

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and term; extra columns verdict, smallest_low/high, p_exceeds, p_within, ..."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: how many terms of the headline exceed, are within, or are inconclusive."""
        texts = np.atleast_1d(self.verdicts[-1].verdict)
        row: dict[str, Any] = {
            "n_terms": texts.size,
            "n_exceeds": int((texts == "exceeds").sum()),
            "n_within": int((texts == "within").sum()),
            "n_inconclusive": int((texts == "inconclusive").sum()),
            "smallest_low": self.smallest[0],
            "smallest_high": self.smallest[1],
            "conf_level": self.estimates[-1].conf_level,
            "unit": self.estimates[-1].unit,
            "dataset": self.estimates[-1].dataset,
        }
        return pd.DataFrame([row])

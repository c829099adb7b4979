"""Several subjects side by side, and the differences between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.results.evidence import VERDICTS, Claim


@dataclass(frozen=True, slots=True)
class SubjectSummary:
    """One subject of a comparison.

    Attributes
    ----------
    subject, layers: name and layers. sizes: (dataset, seeds K, units N, clusters, tokens) of every dataset
        that is compared.
    matrix: (L, L) mean penalty averaged over these datasets, zero diagonal.
    statistics: name -> :class:`Estimates`, one a dataset and their average last; slopes are over the whole depth.
    distances: mean penalty at each layer distance, averaged over datasets.
    depth: own-lens loss by layer, averaged over datasets.
    """

    subject: str
    layers: tuple[str, ...]
    sizes: tuple[tuple[str, int, int, int, float], ...]
    matrix: FloatArray
    statistics: Mapping[str, Estimates]
    distances: Estimate
    depth: Estimate


@dataclass(frozen=True, slots=True)
class SubjectComparison(Result):
    """Several subjects on the same datasets, and every difference between two of them with a verdict.

    Attributes
    ----------
    subjects: one :class:`SubjectSummary` each. loss, unit: of all of them.
    smallest: smallest difference of interest, in ``unit``. conf_level: of every interval.
    claims: one :class:`Claim` a pair, statistic and dataset; the estimate is first minus second.
    provenance: subject -> provenance of its grid.
    """

    subjects: tuple[SubjectSummary, ...]
    loss: str
    unit: str
    smallest: float
    conf_level: float
    claims: tuple[Claim, ...]
    provenance: Mapping[str, Any]

    kind: ClassVar[str] = "subject_comparison"

    def tidy(self) -> pd.DataFrame:
        """One row a difference and dataset, with its verdict."""
        return tidy_frame(claim.row() for claim in self.claims)

    def statistics(self) -> pd.DataFrame:
        """One row a subject, statistic and dataset."""
        return tidy_frame(
            {**row, "subject": one.subject}
            for one in self.subjects
            for estimates in one.statistics.values()
            for row in estimates.rows()
        )

    def glance(self) -> pd.DataFrame:
        """One row: how many subjects, and how many differences got which verdict."""
        row: dict[str, Any] = {
            "n_subjects": len(self.subjects),
            "loss": self.loss,
            "unit": self.unit,
            "smallest": self.smallest,
            "conf_level": self.conf_level,
        }
        for verdict in VERDICTS:
            row[verdict.replace(" ", "_")] = sum(claim.verdict == verdict for claim in self.claims)
        return pd.DataFrame([row])

"""Frozen results: numbers only, one class a kind of answer. Views of them live in ``report``."""

from __future__ import annotations

from transferstats.results.base import COLUMNS, FloatArray, Result, tidy_frame, to_r_csv
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import AVERAGE, Estimates
from transferstats.results.evidence import VERDICTS, Claim, DatasetEvidence, Evidence
from transferstats.results.multiplicity import AdjustedTests
from transferstats.results.null import NullTest, SharedLensTest
from transferstats.results.relevance import RelevanceTest, Verdict

__all__ = [
    "AVERAGE",
    "COLUMNS",
    "VERDICTS",
    "AdjustedTests",
    "Claim",
    "DatasetEvidence",
    "Estimate",
    "Estimates",
    "Evidence",
    "FloatArray",
    "NullTest",
    "RelevanceTest",
    "Result",
    "SharedLensTest",
    "Verdict",
    "tidy_frame",
    "to_r_csv",
]

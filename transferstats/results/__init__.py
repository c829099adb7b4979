"""Frozen results: numbers only, one class a kind of answer. Views of them live in ``report``."""

from __future__ import annotations

from transferstats.results.base import COLUMNS, FloatArray, Result, tidy_frame, to_r_csv
from transferstats.results.estimate import Estimate
from transferstats.results.evidence import VERDICTS, Claim, DatasetEvidence, Evidence

__all__ = [
    "COLUMNS",
    "VERDICTS",
    "Claim",
    "DatasetEvidence",
    "Estimate",
    "Evidence",
    "FloatArray",
    "Result",
    "tidy_frame",
    "to_r_csv",
]

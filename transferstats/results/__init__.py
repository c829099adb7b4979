"""Frozen results: numbers only, one class a kind of answer. Views of them live in ``report``."""

from __future__ import annotations

from transferstats.results.base import COLUMNS, FloatArray, Result, tidy_frame, to_r_csv
from transferstats.results.estimate import Estimate

__all__ = ["COLUMNS", "Estimate", "FloatArray", "Result", "tidy_frame", "to_r_csv"]

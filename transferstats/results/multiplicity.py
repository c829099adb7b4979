"""A family of tests, corrected for their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame


@dataclass(frozen=True, slots=True)
class AdjustedTests(Result):
    """p-values of a named family, adjusted.

    Attributes
    ----------
    family: what the tests have in common, in words. terms: m names.
    p_values, p_adjusted: (m,), NaN where a test is undefined. reject: (m,) at ``1 - conf_level``.
    n_tests, n_dropped: tests counted, and tests left out because they are NaN.
    """

    family: str
    terms: tuple[str, ...]
    p_values: FloatArray
    p_adjusted: FloatArray
    reject: npt.NDArray[np.bool_]
    n_tests: int
    n_dropped: int
    method: str
    conf_level: float
    unit: str = ""

    kind: ClassVar[str] = "adjusted_tests"

    def tidy(self) -> pd.DataFrame:
        """One row a test; extra columns p_adjusted, reject, family."""
        note = f"{self.n_dropped} undefined tests left out" if self.n_dropped else ""
        return tidy_frame(
            {
                "term": term,
                "p_value": float(self.p_values[index]),
                "conf_level": self.conf_level,
                "unit": self.unit,
                "method": self.method,
                "note": note,
                "p_adjusted": float(self.p_adjusted[index]),
                "reject": bool(self.reject[index]),
                "family": self.family,
            }
            for index, term in enumerate(self.terms)
        )

    def glance(self) -> pd.DataFrame:
        """One row: the family, how many tests, how many rejected."""
        row = {
            "family": self.family,
            "method": self.method,
            "n_tests": self.n_tests,
            "n_dropped": self.n_dropped,
            "n_rejected": int(self.reject.sum()),
            "conf_level": self.conf_level,
        }
        return pd.DataFrame([row])

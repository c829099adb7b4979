"""Two subjects compared, and several subjects combined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates


@dataclass(frozen=True, slots=True)
class Comparison(Result):
    """The same statistic on two subjects, and their difference (or ratio).

    Attributes
    ----------
    difference: first - second, or first / second on the log scale; one member a dataset, their average last.
        The p-value is against 0, on the log scale against a ratio of 1.
    first, second: the two sides, members as in ``difference``.
    subjects: names of the two.
    """

    difference: Estimates
    first: Estimates
    second: Estimates
    subjects: tuple[str, str]

    kind: ClassVar[str] = "comparison"

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the difference, with both sides."""
        for difference, first, second in zip(self.difference, self.first, self.second, strict=True):
            for index, row in enumerate(difference.rows()):
                row.update(
                    first=self.subjects[0],
                    second=self.subjects[1],
                    first_estimate=float(np.atleast_1d(first.estimate)[index]),
                    second_estimate=float(np.atleast_1d(second.estimate)[index]),
                )
                yield row

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and term; extra columns first, second, first_estimate, second_estimate."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: the headline's, with the names of the subjects."""
        row = self.difference.glance()
        row.insert(0, "first", self.subjects[0])
        row.insert(1, "second", self.subjects[1])
        return row


@dataclass(frozen=True, slots=True)
class MetaAnalysis(Result):
    """Several subjects combined.

    Attributes
    ----------
    members: one scalar estimate a subject. subjects: their names.
    estimate, std_error, conf_low, conf_high, p_value: (2,), random effects (Hartung-Knapp-Sidik-Jonkman) and
        common effect. df: (2,) degrees of freedom (infinite for the common effect).
    weights: (2, k) relative weights of the subjects.
    tau2: variance between subjects. q, q_p: heterogeneity test. i2: share of variance between subjects.
    """

    members: tuple[Estimate, ...]
    subjects: tuple[str, ...]
    estimate: FloatArray
    std_error: FloatArray
    df: FloatArray
    p_value: FloatArray
    conf_low: FloatArray
    conf_high: FloatArray
    conf_level: float
    weights: FloatArray
    tau2: float
    i2: float
    q: float
    q_p: float
    note: str = ""

    kind: ClassVar[str] = "meta_analysis"
    models: ClassVar[tuple[str, str]] = ("random effects (HKSJ)", "common effect")

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row a subject, then the two combinations."""
        for index, (subject, member) in enumerate(zip(self.subjects, self.members, strict=True)):
            row = next(member.rows())
            row = {name: value for name, value in row.items() if not name.startswith("share_")}
            yield {**row, "term": subject, "weight_random": float(self.weights[0, index]), "tau2": np.nan}
        for index, model in enumerate(self.models):
            yield {
                "term": model,
                "estimate": float(self.estimate[index]),
                "std_error": float(self.std_error[index]),
                "statistic": float(self.estimate[index] / self.std_error[index]),
                "df": float(self.df[index]),
                "p_value": float(self.p_value[index]),
                "conf_low": float(self.conf_low[index]),
                "conf_high": float(self.conf_high[index]),
                "conf_level": self.conf_level,
                "unit": self.members[0].unit,
                "method": "meta-analysis over subjects",
                "note": self.note,
                "dataset": "",
                "weight_random": np.nan,
                "tau2": self.tau2,
            }

    def tidy(self) -> pd.DataFrame:
        """One row a subject, then random effects and common effect."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: heterogeneity."""
        row = {
            "n_subjects": len(self.subjects),
            "tau2": self.tau2,
            "i2": self.i2,
            "q": self.q,
            "q_p": self.q_p,
            "note": self.note,
        }
        return pd.DataFrame([row])

"""Result of a permutation test on layer-by-layer matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame

QUESTION = "tied to layer order beyond layer idiosyncrasy (not: grows with distance for new seeds and units)"
"""What relabelling layers can answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QapResult(Result):
    """Quadratic assignment test: is y tied to each predictor more than under relabelled layers?

    Attributes
    ----------
    terms: names of the m predictors.
    estimate: (m,) OLS coefficient over off-diagonal cells (method "mantel": the correlation).
    statistic: (m,) its t value, NaN for a perfect fit; partial_correlation: (m,), monotone in it.
    p_value: (m,) share of relabellings at least as extreme; (b + 1) / (m + 1) when they are drawn at random.
    floor: (m,) the smallest p-value that any y could have reached with these predictors: relabellings that
        leave the predictor as it is (or flip its sign, two-sided) always count. |s - t| is unchanged when the
        order of layers is reversed, which makes the floor 2/L!.
    null: (m, n_permutations) partial correlations under relabelling.
    exact: all L! relabellings (the identity among them) rather than a random sample.
    """

    terms: tuple[str, ...]
    estimate: FloatArray
    statistic: FloatArray
    partial_correlation: FloatArray
    p_value: FloatArray
    floor: FloatArray
    null: FloatArray
    exact: bool
    n_layers: int
    df: int
    method: str
    alternative: str
    question: str = QUESTION
    dataset: str = ""
    notes: tuple[str, ...] = field(default=())

    kind: ClassVar[str] = "qap"

    @property
    def n_permutations(self) -> int:
        """Relabellings evaluated (with the identity when exact)."""
        return int(self.null.shape[1])

    def verdicts(self, alpha: float = 0.05) -> tuple[str, ...]:
        """One verdict a term: "tied to layer order", "not shown", or "cannot tell" (floor above alpha)."""
        return tuple(
            f"cannot tell: the smallest p-value that {self.n_layers} layers allow is {floor:.3g}, above {alpha:g}"
            if floor > alpha
            else "tied to layer order"
            if p <= alpha
            else "not shown"
            for p, floor in zip(self.p_value, self.floor, strict=True)
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a term."""
        for index, term in enumerate(self.terms):
            yield {
                "term": term,
                "estimate": float(self.estimate[index]),
                "statistic": float(self.statistic[index]),
                "df": self.df,
                "p_value": float(self.p_value[index]),
                "method": self.method,
                "note": "; ".join([f"p cannot fall below {self.floor[index]:.3g}", *self.notes]),
                "dataset": self.dataset,
                "partial_correlation": float(self.partial_correlation[index]),
                "floor": float(self.floor[index]),
            }

    def tidy(self) -> pd.DataFrame:
        """One row a predictor; extra columns: dataset, partial_correlation, floor."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: how the test was done and which question it answers."""
        return pd.DataFrame(
            [
                {
                    "method": self.method,
                    "alternative": self.alternative,
                    "n_layers": self.n_layers,
                    "n_permutations": self.n_permutations,
                    "exact": self.exact,
                    "floor": float(np.max(self.floor)),
                    "question": self.question,
                    "dataset": self.dataset,
                }
            ]
        )

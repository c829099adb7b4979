"""Result of a regression of mean penalties on properties of the cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate


@dataclass(frozen=True, slots=True)
class RegressionFit(Result):
    """Least squares over the off-diagonal cells of each dataset, with crossed intervals.

    Attributes
    ----------
    formula: as given. estimates: one :class:`Estimate` a dataset (terms = columns of the model matrix), and
        last, with several datasets, their equal-weight average. Coefficients in nats per unit of the column.
    r_squared: share of the variation between mean cells that the formula describes, one a dataset; descriptive.
    n_cells, n_columns: rows and columns of the model matrix.
    """

    formula: str
    estimates: tuple[Estimate, ...]
    r_squared: tuple[float, ...]
    n_cells: int
    n_columns: int

    kind: ClassVar[str] = "regression"
    response: ClassVar[str] = "penalty"

    @property
    def headline(self) -> Estimate:
        """The average over datasets, or the only dataset."""
        return self.estimates[-1]

    def __getitem__(self, dataset: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.dataset == dataset:
                return estimate
        known = ", ".join(estimate.dataset for estimate in self.estimates)
        raise KeyError(f"no dataset {dataset!r}; there are: {known}")

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a dataset and term."""
        for estimate in self.estimates:
            yield from estimate.rows()

    def tidy(self) -> pd.DataFrame:
        """One row a dataset and term."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: formula, sizes and the mean R squared over datasets."""
        first = self.estimates[0]
        return pd.DataFrame(
            [
                {
                    "formula": self.formula,
                    "r_squared": sum(self.r_squared) / len(self.r_squared),
                    "n_cells": self.n_cells,
                    "n_columns": self.n_columns,
                    "n_datasets": len(self.r_squared),
                    "n_seeds": first.n_seeds,
                    "n_units": first.n_units,
                    "conf_level": first.conf_level,
                    "unit": first.unit,
                    "method": first.method,
                }
            ]
        )

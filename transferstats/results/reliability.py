"""Reliability of a penalty matrix, and cross-checks of an estimate by other people's methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One reliability coefficient: 1 = the same matrix every time, 0 = nothing in common.

    Attributes
    ----------
    term: name. estimate: value. conf_low, conf_high: limits, NaN where the method has none.
    conf_level: of those limits. statistic, df, p_value: of its F test where it has one.
    method, note: how it was made, and what to know.
    """

    term: str
    estimate: float
    conf_low: float = float("nan")
    conf_high: float = float("nan")
    conf_level: float = float("nan")
    statistic: float = float("nan")
    df: float = float("nan")
    p_value: float = float("nan")
    method: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reliability(Result):
    """How far seeds, and units, agree about the pattern of off-diagonal cells in one dataset.

    Attributes
    ----------
    coefficients: ICC over seeds (A,1; C,1; C,k), split half over units and over seeds.
    cells: (K, L (L - 1)) mean penalty of each cell under each seed, nats, the table behind the ICC.
    """

    coefficients: tuple[Coefficient, ...]
    cells: FloatArray
    dataset: str
    n_seeds: int
    n_units: int

    kind: ClassVar[str] = "reliability"

    def __getitem__(self, term: str) -> Coefficient:
        for one in self.coefficients:
            if one.term == term:
                return one
        raise KeyError(f"no coefficient {term!r}; there are: {', '.join(one.term for one in self.coefficients)}")

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a coefficient."""
        for one in self.coefficients:
            yield {
                "term": one.term,
                "estimate": one.estimate,
                "statistic": one.statistic,
                "df": one.df,
                "p_value": one.p_value,
                "conf_low": one.conf_low,
                "conf_high": one.conf_high,
                "conf_level": one.conf_level,
                "n_seeds": self.n_seeds,
                "n_units": self.n_units,
                "unit": "",
                "method": one.method,
                "note": one.note,
                "dataset": self.dataset,
            }

    def tidy(self) -> pd.DataFrame:
        """One row a coefficient; extra column: dataset."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: the ICC of one seed, sizes."""
        return pd.DataFrame(
            [
                {
                    "dataset": self.dataset,
                    "icc": self.coefficients[0].estimate,
                    "n_cells": self.cells.shape[1],
                    "n_seeds": self.n_seeds,
                    "n_units": self.n_units,
                }
            ]
        )


@dataclass(frozen=True, slots=True)
class MixedSlope(Result):
    """Distance slope by a mixed model with crossed random slopes: a sensitivity row, not the result.

    Attributes
    ----------
    estimate, std_error: slope, nats per unit of distance. statistic, df, p_value, conf_low, conf_high: t with
        K - 1 df (the model itself offers only normal quantiles). NaN where the fit failed.
    seed_variance, unit_variance, residual_variance: of the slope of one (seed, block of units).
    converged: what the optimiser said. messages: every warning of the fit.
    n_blocks: rows a seed, each the mean over a block of units.
    """

    estimate: float
    std_error: float
    statistic: float
    df: float
    p_value: float
    conf_low: float
    conf_high: float
    conf_level: float
    seed_variance: float
    unit_variance: float
    residual_variance: float
    converged: bool
    messages: tuple[str, ...]
    n_seeds: int
    n_units: int
    n_blocks: int
    unit: str
    dataset: str = ""
    method: str = field(
        default="REML, crossed random slopes (statsmodels MixedLM), blocks of units equal, t with K - 1 df"
    )

    kind: ClassVar[str] = "mixed_slope"

    def tidy(self) -> pd.DataFrame:
        """One row; extra columns: dataset, variances, converged."""
        names = ("estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high", "conf_level")
        row: dict[str, Any] = {"term": "slope", **{name: getattr(self, name) for name in names}}
        row.update(n_seeds=self.n_seeds, n_units=self.n_units, unit=self.unit, method=self.method)
        row.update(note="; ".join(self.messages), dataset=self.dataset, converged=self.converged)
        for name in ("seed_variance", "unit_variance", "residual_variance"):
            row[name] = getattr(self, name)
        return tidy_frame([row])

    def glance(self) -> pd.DataFrame:
        """One row: sizes and convergence."""
        names = ("dataset", "n_seeds", "n_units", "n_blocks", "converged", "method")
        return pd.DataFrame([{name: getattr(self, name) for name in names}])

"""Results about penalty against layer distance: fitted curves, their parameters, and which family to prefer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate


@dataclass(frozen=True, slots=True)
class CurveFit:
    """One least-squares curve through n points; no uncertainty (points of one study are not independent).

    Attributes
    ----------
    family, label: name and formula. parameters: value by name (empty for isotonic, which has levels only).
    x: (n,) distances. fitted: (n,) curve at x, unit of y.
    rss: weighted residual sum of squares. n: number of points. n_parameters: what AICc counts, without sigma.
    aicc: small-sample Akaike criterion of Gaussian errors (Hurvich & Tsai 1989, doi
        10.1093/biomet/76.2.297), comparable with R's AIC; NaN with a flag where undefined.
    on_bound: the nonlinear parameter sits on the end of its range.
    flags: what a reader must know before using the parameters.
    """

    family: str
    label: str
    parameters: Mapping[str, float]
    x: FloatArray
    fitted: FloatArray
    rss: float
    aicc: float
    n: int
    n_parameters: int
    on_bound: bool = False
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecayCurve:
    """Observed mean penalties and a fitted curve over distance, for one direction of one dataset.

    Attributes
    ----------
    direction: ``"both"``, ``"forward"`` or ``"backward"``.
    observed: mean penalty at each distinct distance (m terms), crossed intervals.
    observed_distance: (m,) those distances; n_cells: (m,) cells behind each.
    distance: (g,) fine grid. fitted: g terms, the curve there with pointwise crossed intervals.
    """

    direction: str
    observed_distance: FloatArray
    n_cells: FloatArray
    observed: Estimate
    distance: FloatArray
    fitted: Estimate

    def frame(self) -> pd.DataFrame:
        """Plot-ready rows: part (observed, fitted), direction, distance, estimate, conf_low, conf_high."""
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "part": part,
                        "direction": self.direction,
                        "distance": x,
                        "estimate": estimate.estimate,
                        "conf_low": estimate.conf_low,
                        "conf_high": estimate.conf_high,
                    }
                )
                for part, x, estimate in (
                    ("observed", self.observed_distance, self.observed),
                    ("fitted", self.distance, self.fitted),
                )
            ],
            ignore_index=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecayFit(Result):
    """Penalty against distance in one dataset: a family fitted to cell means, with crossed intervals.

    Attributes
    ----------
    family, label: name and formula. direction: ``"both"`` (one curve) or ``"separate"`` (forward, backward).
    distance: name of the distance ("index", "depth", "custom").
    estimates: one scalar :class:`Estimate` a term: parameters first, then derived quantities (half-distance,
        initial slope, ratios of directions). Units: nats for ``a``, distance for ``tau`` and ``c``.
    curves: observed means, fitted curve and band, one a direction.
    rss: residual sum of squares over cells, nats squared; aicc: with n = cells (both directions together).
    n_cells, n_distances, n_parameters: sizes. flags: what a reader must know before using the parameters.
    """

    family: str
    label: str
    direction: str
    distance: str
    dataset: str
    estimates: tuple[Estimate, ...]
    curves: tuple[DecayCurve, ...]
    rss: float
    aicc: float
    n_cells: int
    n_distances: int
    n_parameters: int
    conf_level: float
    unit: str
    flags: tuple[str, ...] = ()

    kind: ClassVar[str] = "decay"
    response: ClassVar[str] = "penalty"

    @property
    def parameters(self) -> dict[str, float]:
        """Value by term, parameters and derived quantities."""
        return {estimate.terms[0]: float(estimate.estimate) for estimate in self.estimates}

    def __getitem__(self, term: str) -> Estimate:
        for estimate in self.estimates:
            if estimate.terms[0] == term:
                return estimate
        raise KeyError(f"no term {term!r}; this fit has: {', '.join(self.parameters)}")

    def rows(self) -> Iterator[dict[str, Any]]:
        """One mapping a term."""
        for estimate in self.estimates:
            for row in estimate.rows():
                yield {**row, "family": self.family, "direction": self.direction}

    def tidy(self) -> pd.DataFrame:
        """One row a term; extra columns: dataset, shares, family, direction."""
        return tidy_frame(self.rows())

    def glance(self) -> pd.DataFrame:
        """One row: fit and sizes."""
        some = self.curves[0].observed
        return pd.DataFrame(
            [
                {
                    "dataset": self.dataset,
                    "family": self.family,
                    "direction": self.direction,
                    "distance": self.distance,
                    "rss": self.rss,
                    "sigma": _sigma(self.rss, self.n_cells - self.n_parameters),
                    "aicc": self.aicc,
                    "n_parameters": self.n_parameters,
                    "n_cells": self.n_cells,
                    "n_distances": self.n_distances,
                    "n_seeds": some.n_seeds,
                    "n_units": some.n_units,
                    "conf_level": self.conf_level,
                    "unit": self.unit,
                    "note": "; ".join(self.flags),
                }
            ]
        )

    def frame(self) -> pd.DataFrame:
        """Plot-ready rows of all curves, with the dataset and the family."""
        rows = pd.concat([curve.frame() for curve in self.curves], ignore_index=True)
        return rows.assign(dataset=self.dataset, family=self.family, unit=self.unit)


def _sigma(rss: float, df: int) -> float:
    return float(np.sqrt(rss / df)) if df > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class DecayFits(Result):
    """One :class:`DecayFit` a dataset, and the equal-weight average over datasets.

    Attributes
    ----------
    fits: one a dataset, in the order of the grid.
    average: scalar estimates of the average of each term over datasets (geometric where the interval is on
        the log scale); empty with one dataset.
    """

    fits: tuple[DecayFit, ...]
    average: tuple[Estimate, ...] = ()

    kind: ClassVar[str] = "decay"
    response: ClassVar[str] = "penalty"

    def __len__(self) -> int:
        return len(self.fits)

    def __iter__(self) -> Iterator[DecayFit]:
        return iter(self.fits)

    def __getitem__(self, dataset: str | int) -> DecayFit:
        if isinstance(dataset, int):
            return self.fits[dataset]
        for fit in self.fits:
            if fit.dataset == dataset:
                return fit
        raise KeyError(f"no dataset {dataset!r}; there are: {', '.join(fit.dataset for fit in self.fits)}")

    def tidy(self) -> pd.DataFrame:
        """One row a (dataset, term), then the averages over datasets."""
        rows = [row for fit in self.fits for row in fit.rows()]
        first = self.fits[0]
        for estimate in self.average:
            rows += [{**row, "family": first.family, "direction": first.direction} for row in estimate.rows()]
        return tidy_frame(rows)

    def glance(self) -> pd.DataFrame:
        """One row for the whole fit; per-dataset rows are ``fits[i].glance()``."""
        tables = [fit.glance() for fit in self.fits]
        row = tables[0].iloc[0].to_dict()
        if len(tables) > 1:
            row["dataset"] = ", ".join(fit.dataset for fit in self.fits)
            row["rss"] = float(sum(fit.rss for fit in self.fits))
            row["sigma"] = float("nan")
            row["aicc"] = float(sum(fit.aicc for fit in self.fits))
            row["n_cells"] = sum(fit.n_cells for fit in self.fits)
            row["n_parameters"] = sum(fit.n_parameters for fit in self.fits)
            row["n_units"] = sum(int(table["n_units"].iloc[0]) for table in tables)
            row["note"] = "; ".join(dict.fromkeys(flag for fit in self.fits for flag in fit.flags))
        return pd.DataFrame([row])

    def frame(self) -> pd.DataFrame:
        """Plot-ready rows of all curves of all datasets."""
        return pd.concat([fit.frame() for fit in self.fits], ignore_index=True)


@dataclass(frozen=True, slots=True)
class DecayComparison(Result):
    """Families compared on one dataset.

    Attributes
    ----------
    families: names, in the order compared. rss (nats squared), aicc, delta_aicc, cv_error (root mean squared
        leave-one-layer-out error, nats), n_parameters: (n_families,), NaN where undefined.
    selection: (n_families,) share of bootstrap replicates in which the family has the smallest AICc; NaN
        without replicates. n_replicates: how many there were; n_failed: how many had no valid AICc.
    dataset, direction, distance: what was compared. n_cells, n_distances: sizes.
    conclusion: one careful sentence. notes: (n_families,) flags of each fit.
    """

    families: tuple[str, ...]
    rss: FloatArray
    aicc: FloatArray
    delta_aicc: FloatArray
    cv_error: FloatArray
    selection: FloatArray
    n_parameters: FloatArray
    n_replicates: int
    n_failed: int
    dataset: str
    direction: str
    distance: str
    n_cells: int
    n_distances: int
    n_seeds: int
    n_units: int
    unit: str
    conclusion: str
    notes: tuple[str, ...] = field(default=())

    kind: ClassVar[str] = "decay_comparison"

    def tidy(self) -> pd.DataFrame:
        """One row a family: ``estimate`` is delta AICc; extra columns rss, aicc, cv_error, selection, dataset."""
        return tidy_frame(
            {
                "term": family,
                "estimate": float(self.delta_aicc[index]),
                "n_seeds": self.n_seeds,
                "n_units": self.n_units,
                "unit": "AICc",
                "method": "delta AICc, n = cells",
                "note": self.notes[index] if self.notes else "",
                "dataset": self.dataset,
                "rss": float(self.rss[index]),
                "aicc": float(self.aicc[index]),
                "cv_error": float(self.cv_error[index]),
                "selection": float(self.selection[index]),
                "n_parameters": int(self.n_parameters[index]),
            }
            for index, family in enumerate(self.families)
        )

    def glance(self) -> pd.DataFrame:
        """One row: sizes and the conclusion."""
        return pd.DataFrame(
            [
                {
                    "dataset": self.dataset,
                    "direction": self.direction,
                    "distance": self.distance,
                    "n_families": len(self.families),
                    "n_cells": self.n_cells,
                    "n_distances": self.n_distances,
                    "n_replicates": self.n_replicates,
                    "n_failed": self.n_failed,
                    "conclusion": self.conclusion,
                }
            ]
        )


@dataclass(frozen=True, slots=True)
class DecayComparisons(Result):
    """One :class:`DecayComparison` a dataset."""

    comparisons: tuple[DecayComparison, ...]

    kind: ClassVar[str] = "decay_comparison"

    def __len__(self) -> int:
        return len(self.comparisons)

    def __iter__(self) -> Iterator[DecayComparison]:
        return iter(self.comparisons)

    def __getitem__(self, index: int) -> DecayComparison:
        return self.comparisons[index]

    @property
    def conclusion(self) -> str:
        """The conclusions of all datasets, each with its name where there are several."""
        if len(self.comparisons) == 1:
            return self.comparisons[0].conclusion
        return " ".join(f"{one.dataset}: {one.conclusion}" for one in self.comparisons)

    def tidy(self) -> pd.DataFrame:
        """One row a (dataset, family)."""
        return pd.concat([one.tidy() for one in self.comparisons], ignore_index=True)

    def glance(self) -> pd.DataFrame:
        """One row: how many datasets and families, and the conclusions."""
        first = self.comparisons[0].glance().iloc[0].to_dict()
        first["dataset"] = ", ".join(one.dataset for one in self.comparisons)
        first["conclusion"] = self.conclusion
        return pd.DataFrame([first])

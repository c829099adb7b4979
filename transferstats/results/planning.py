"""What a larger study would show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.results.base import Result, tidy_frame
from transferstats.results.estimate import Estimate


@dataclass(frozen=True, slots=True)
class StudyPlan(Result):
    """Expected intervals and power of studies with other numbers of seeds and units.

    Attributes
    ----------
    estimate: the pilot's estimate (average over datasets, or the only one).
    effect: true value assumed for ``power_exceeds``. smallest: bounds of the region too small to matter.
    seeds, units: (n,) numbers per dataset of each planned study.
    half_width: (n,) expected half-width of the interval, in the unit of the estimate.
    power_exceeds: (n,) probability of the verdict "exceeds" if the true value is ``effect``.
    power_within: (n,) probability of the verdict "within" if the true value is 0.
    share_seeds: (n,) share of the variance that seeds cause.
    gain_seeds, gain_units: factor on the pilot's expected half-width when its seeds, its units are doubled.
    pilot_seeds, pilot_units: size of the pilot, per dataset.
    """

    estimate: Estimate
    effect: float
    smallest: tuple[float, float]
    seeds: FloatArray
    units: FloatArray
    half_width: FloatArray
    power_exceeds: FloatArray
    power_within: FloatArray
    share_seeds: FloatArray
    gain_seeds: float
    gain_units: float
    pilot_seeds: int
    pilot_units: int
    note: str = ""

    kind: ClassVar[str] = "study_plan"

    def tidy(self) -> pd.DataFrame:
        """One row a planned study; extra columns half_width, power_exceeds, power_within, share_seeds."""
        return tidy_frame(self._row(index) for index in range(len(self.seeds)))

    def _row(self, index: int) -> dict[str, Any]:
        seeds, units = int(self.seeds[index]), int(self.units[index])
        return {
            "term": f"{self.estimate.terms[0]}, {seeds} seeds, {units} units",
            "estimate": self.effect,
            "conf_low": self.effect - float(self.half_width[index]),
            "conf_high": self.effect + float(self.half_width[index]),
            "conf_level": self.estimate.conf_level,
            "n_seeds": seeds,
            "n_units": units,
            "unit": self.estimate.unit,
            "method": "plan from estimated variance components",
            "note": self.note,
            "half_width": float(self.half_width[index]),
            "power_exceeds": float(self.power_exceeds[index]),
            "power_within": float(self.power_within[index]),
            "share_seeds": float(self.share_seeds[index]),
            "smallest_low": self.smallest[0],
            "smallest_high": self.smallest[1],
        }

    def glance(self) -> pd.DataFrame:
        """One row: the pilot, and what doubling its seeds or its units would do to the half-width."""
        row = {
            "pilot_seeds": self.pilot_seeds,
            "pilot_units": self.pilot_units,
            "pilot_half_width": float(
                (np.asarray(self.estimate.conf_high) - np.asarray(self.estimate.conf_low)) / 2
            ),
            "gain_seeds": self.gain_seeds,
            "gain_units": self.gain_units,
            "unit": self.estimate.unit,
            "note": self.note,
        }
        return pd.DataFrame([row])


@dataclass(frozen=True, slots=True)
class StudySize(Result):
    """How many units each number of seeds needs for a wanted half-width.

    Attributes
    ----------
    estimate: the pilot's estimate (average over datasets, or the only one).
    target: wanted expected half-width of the interval, in the unit of the estimate.
    seeds: (n,) numbers of seeds per dataset. units: (n,) fewest units per dataset, NaN where no number suffices.
    half_width: (n,) expected half-width with these units, NaN where none suffice.
    floor: (n,) expected half-width with endlessly many units: what seeds alone leave.
    pilot_seeds, pilot_units: size of the pilot, per dataset.
    """

    estimate: Estimate
    target: float
    seeds: FloatArray
    units: FloatArray
    half_width: FloatArray
    floor: FloatArray
    pilot_seeds: int
    pilot_units: int
    note: str = ""

    kind: ClassVar[str] = "study_size"

    def tidy(self) -> pd.DataFrame:
        """One row a number of seeds; extra columns target, half_width, floor. ``n_units`` is NaN where none do."""
        return tidy_frame(
            {
                "term": f"{self.estimate.terms[0]}, {int(seeds)} seeds",
                "estimate": float(units),
                "conf_level": self.estimate.conf_level,
                "n_seeds": int(seeds),
                "n_units": float(units),
                "unit": "units a dataset",
                "method": "size from estimated variance components",
                "note": self.note,
                "target": self.target,
                "half_width": float(reached),
                "floor": float(floor),
                "half_width_unit": self.estimate.unit,
            }
            for seeds, units, reached, floor in zip(
                self.seeds, self.units, self.half_width, self.floor, strict=True
            )
        )

    def glance(self) -> pd.DataFrame:
        """One row: the target, and the fewest units with which any of the numbers of seeds reaches it."""
        reached = np.isfinite(self.units)
        row = {
            "target": self.target,
            "unit": self.estimate.unit,
            "n_options": int(reached.sum()),
            "fewest_units": float(np.nanmin(self.units)) if reached.any() else np.nan,
            "pilot_seeds": self.pilot_seeds,
            "pilot_units": self.pilot_units,
            "note": self.note,
        }
        return pd.DataFrame([row])

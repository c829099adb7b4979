"""Where a verdict over the shared-lens null is not given: the null errs on this network, and that could be why.

The null of a null replicate (see ``calibration``) shows what the null finds where nothing is to be found. Where
its excess lies above 0, the null of this study is too small, where it lies below 0, too large. A verdict is given
only if it would stand with the far limit of that excess taken off, or added. A null that is short by a share of
what it replaces is shorter in the study than in its own world, by the ratio of penalty to null: the excess of a
scalar is taken times that ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.grid import TransferGrid
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import AVERAGE
from transferstats.stats.calibration import has_null_of_null, null_calibration
from transferstats.stats.estimation import estimate
from transferstats.stats.intervals import interval_from_parts

Judge = Callable[[Estimate], str]
"""An estimate -> its verdict, direction included."""


@dataclass(frozen=True, slots=True)
class Miscalibration:
    """What the null of a study may err by, for m terms.

    Attributes
    ----------
    too_small: (m,) by how much the null may be too small; 0 where its own null gives no sign of it.
    too_large: (m,) the other way round.
    """

    too_small: FloatArray
    too_large: FloatArray

    def shifted(self, one: Estimate) -> tuple[Estimate, Estimate]:
        """The excess of a study with what its null may be too small by taken off, and the other way round."""
        return _moved(one, -self.too_small), _moved(one, self.too_large)

    def stands(self, one: Estimate, judge: Judge) -> bool:
        """Whether the verdict on an excess is the same whatever the null errs by."""
        return all(judge(moved) == judge(one) for moved in self.shifted(one))


def _moved(one: Estimate, by: FloatArray) -> Estimate:
    step = by.reshape(np.shape(one.estimate))
    return replace(one, estimate=one.estimate + step, conf_low=one.conf_low + step, conf_high=one.conf_high + step)


@dataclass(frozen=True, slots=True)
class Gate:
    """What the nulls of null replicates of a study find.

    Attributes
    ----------
    checks: dataset (or "average", where every dataset has one) -> excess of the null over its own null.
    ratios: the same -> penalty over null, at least 1; 1 for vectors.
    """

    checks: Mapping[str, Estimate]
    ratios: Mapping[str, float]

    def error(self, name: str, *, seen: bool = True) -> Miscalibration:
        """What the null may err by.

        ``seen``: only where its own null is clearly away from 0; otherwise all that its interval does not exclude.
        An average errs by no less than the average of its datasets, one of which may be seen to err alone.
        """
        own = _limits(self.checks[name], self.ratios[name], seen=seen)
        members = [one for one in self.checks if one != AVERAGE]
        if name != AVERAGE or not seen:
            return own
        parts = [_limits(self.checks[one], self.ratios[one], seen=True) for one in members]
        return Miscalibration(
            np.maximum(own.too_small, np.mean([one.too_small for one in parts], axis=0)),
            np.maximum(own.too_large, np.mean([one.too_large for one in parts], axis=0)),
        )

    def worst(self, name: str) -> Estimate:
        """The term whose null errs most."""
        check, error = self.checks[name], self.error(name)
        size = np.maximum(error.too_small, error.too_large)
        return check.pick(int(np.argmax(size if size.any() else np.nan_to_num(np.abs(check.estimate)))))


def _limits(check: Estimate, ratio: float, *, seen: bool) -> Miscalibration:
    """Limits are simultaneous over the terms (Bonferroni). A term without an interval gives no sign either way."""
    level = 1 - (1 - check.conf_level) / len(check.terms)
    low, high = interval_from_parts(check.estimate, check.parts, check.dfs, conf_level=level)
    low, high = np.nan_to_num(np.atleast_1d(low)), np.nan_to_num(np.atleast_1d(high))
    small, large = np.maximum(high, 0.0) * ratio, np.maximum(-low, 0.0)
    if seen:
        small, large = np.where(low > 0, small, 0.0), np.where(high < 0, large, 0.0)
    return Miscalibration(small, large)


def gate(grid: TransferGrid, *, conf_level: float, readout: str | None = None) -> Gate:
    """The gate of a grid for the mean penalty, or for the excess of a readout by layer."""
    checks: dict[str, Estimate] = {}
    ratios: dict[str, float] = {}
    names = [data.name for data in grid.datasets]
    parts = {name: grid.with_datasets([name]) for name in names}
    if len(names) > 1:
        parts[AVERAGE] = grid
    for name, part in parts.items():
        if not has_null_of_null(part):
            continue
        found = null_calibration(part, "mean", readout=readout, conf_level=conf_level)
        checks[name] = found.excess.headline
        ratios[name] = 1.0 if readout is not None else _ratio(part, found.null.headline)
    return Gate(checks, ratios)


def _ratio(grid: TransferGrid, null: Estimate) -> float:
    """Mean penalty over its null, at least 1; 1 where the null is not above 0."""
    below = float(null.estimate)
    return max(1.0, float(estimate(grid, "mean").headline.estimate) / below) if below > 0 else 1.0

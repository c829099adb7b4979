"""Where a verdict over the shared-lens null is not given: the null errs on this network, and that could be why.

The null of a null replicate (see ``calibration``) shows what the null finds where nothing is to be found. Where
its excess lies above 0, the null of this study is too small, where it lies below 0, too large. A verdict is given
only if it would stand with the far limit of that excess taken off, or added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from transferstats.results.estimate import Estimate
from transferstats.stats.influence import FloatArray
from transferstats.stats.intervals import interval_from_parts


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


def _moved(one: Estimate, by: FloatArray) -> Estimate:
    step = by.reshape(np.shape(one.estimate))
    return replace(one, estimate=one.estimate + step, conf_low=one.conf_low + step, conf_high=one.conf_high + step)


def miscalibration(check: Estimate) -> Miscalibration:
    """From the excess of null replicates over a null of one of them.

    Limits are simultaneous over the terms (Bonferroni). A term without an interval gives no sign either way.
    """
    count = len(check.terms)
    level = 1 - (1 - check.conf_level) / count
    low, high = interval_from_parts(check.estimate, check.parts, check.dfs, conf_level=level)
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    return Miscalibration(
        too_small=np.where(low > 0, high, 0.0),
        too_large=np.where(high < 0, -low, 0.0),
    )

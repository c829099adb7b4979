"""One result of every class, from one simulated grid: what tests of views and of R go through."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

import transferstats as ts
from transferstats.grid import TransferGrid
from transferstats.results import Result
from transferstats.stats.comparison import combine
from transferstats.stats.mixed import mixed_slope
from transferstats.stats.multiplicity import adjust
from transferstats.stats.permutation import order_test
from transferstats.stats.reliability import measure_reliability

# Names that break CSV, quoting or R's guesses about types, in what comes from users.
DATASETS = ('T, "quoted"', "\u00e9t\u00e9 \u2192 1")


@cache
def grid(rng: int = 11) -> TransferGrid:
    """Two datasets, null replicates, a shared lens."""
    return ts.simulate_grid(n_seeds=3, n_units=20, n_null=3, datasets=DATASETS, rng=rng).grid


def every_result() -> dict[str, Result]:
    """Results by the name of their class."""
    data, other = grid(), grid(12)
    mean, decay = ts.estimate(data, "mean"), ts.fit_decay(data, "saturating", direction="separate")
    families = ts.compare_decay(data, ("linear", "saturating"))
    evidence = ts.evaluate(data, 0.05)
    null = ts.null_test(data, "mean")
    found: list[Result] = [
        adjust(np.array([0.01, np.nan, 0.2]), "three tests", terms=("a", "b", "c")),
        evidence.claims[0],
        ts.compare(data, other),
        families,
        families[0],
        decay,
        decay[0],
        mean.headline,
        mean,
        evidence,
        combine([mean.headline, ts.estimate(other, "mean").headline], subjects=["one", "two"]),
        mixed_slope(data)[0],
        null,
        order_test(data)[0],
        ts.regress("penalty ~ distance * direction", data),
        ts.relevance_test(null, smallest=0.05),
        measure_reliability(data, rng=1)[0],
        ts.shared_lens_test(data, 0.05),
        ts.plan_study(data, seeds=[3, 5], units=[50], smallest=0.05),
        ts.size_study(data, half_width=0.1, seeds=[3, 5]),
        ts.describe(data),
        ts.compare_subjects([data, replace(other, subject="another")], smallest=0.05),
    ]
    return {type(one).__name__: one for one in found}

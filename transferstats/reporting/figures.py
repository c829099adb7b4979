"""Results as figures: one function of any result."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.reporting.figures_claims import draw_bars, draw_forest, draw_terms
from transferstats.reporting.figures_curves import draw_distance
from transferstats.reporting.figures_matrix import cells_matrix, draw_matrix, includes_zero
from transferstats.reporting.figures_null import draw_null
from transferstats.reporting.figures_path import draw_path
from transferstats.reporting.figures_plan import draw_plan, draw_size
from transferstats.reporting.tables import ordered_claims
from transferstats.results import (
    Claim,
    DatasetEvidence,
    DecayComparison,
    DecayFit,
    DecayFits,
    Description,
    Estimate,
    Estimates,
    Evidence,
    NullTest,
    RegressionFit,
    RelevanceTest,
    SharedLensTest,
    StudyPlan,
    StudySize,
    TrainingPath,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@singledispatch
def figure(x: object) -> Figure:
    """A result as a matplotlib figure (outside of pyplot; save it with ``figure.savefig``).

    Parameters
    ----------
    x: Estimate (forest of its terms), DecayFit (curve with band), DatasetEvidence (penalty matrix),
        Evidence (forest of its claims), ...

    Raises
    ------
    TypeError: x has no figure.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> len(ts.figure(ts.estimate(grid, "distance")).axes)
    1
    """
    raise TypeError(f"no figure for {type(x).__name__}; pass a result of transferstats")


@figure.register(Estimate)
def _estimate(x: Estimate) -> Figure:
    return draw_terms(x)


@figure.register(Estimates)
def _estimates(x: Estimates) -> Figure:
    return draw_terms(x.headline)


@figure.register(RelevanceTest)
def _relevance(x: RelevanceTest) -> Figure:
    return draw_terms(x.estimates[-1])


@figure.register(Claim)
def _claim(x: Claim) -> Figure:
    return draw_forest([x])


@figure.register(Evidence)
def _evidence(x: Evidence) -> Figure:
    return draw_forest(ordered_claims(x.claims))


@figure.register(DatasetEvidence)
def _dataset(x: DatasetEvidence) -> Figure:
    size = len(x.matrix)
    unsure = includes_zero(np.atleast_1d(x.cells.conf_low), np.atleast_1d(x.cells.conf_high), size)
    layers = tuple(str(index) for index in range(size))
    values = cells_matrix(x.cells, x.matrix)
    return draw_matrix(values, unsure, layers, label=f"mean penalty, {formats.legible(x.cells.unit)}")


@figure.register(Description)
def _description(x: Description) -> Figure:
    nothing = np.zeros(x.matrix.shape, dtype=bool)
    return draw_matrix(x.matrix, nothing, x.layers, label=f"mean penalty, {formats.legible(x.unit)}")


@figure.register(DecayFit)
def _decay_fit(x: DecayFit) -> Figure:
    label = f"penalty, {formats.legible(x.unit)}"
    return draw_distance(None, None, {x.family: x}, layers=(), label=label, banded=x.family)


@figure.register(DecayFits)
def _decay_fits(x: DecayFits) -> Figure:
    return figure(x.fits[0])


@figure.register(DecayComparison)
def _comparison(x: DecayComparison) -> Figure:
    return draw_bars(x.families, x.delta_aicc, label="AICc above the best family")


@figure.register(NullTest)
def _null_test(x: NullTest) -> Figure:
    term = wording.term_name(x.observed.headline.terms[0])
    return draw_null(x, label=f"{term}, {formats.legible(x.observed.headline.unit)}")


@figure.register(StudyPlan)
def _plan(x: StudyPlan) -> Figure:
    return draw_plan(x)


@figure.register(StudySize)
def _size(x: StudySize) -> Figure:
    return draw_size(x)


@figure.register(TrainingPath)
def _path(x: TrainingPath) -> Figure:
    return draw_path(x)


@figure.register(RegressionFit)
def _regression(x: RegressionFit) -> Figure:
    return draw_terms(x.headline)


@figure.register(SharedLensTest)
def _shared_lens(x: SharedLensTest) -> Figure:
    return draw_terms(x.test.estimates[-1])

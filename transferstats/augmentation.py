"""Observed, fitted and left over: what a fitted model says about every cell of the grid it was fitted to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

import numpy as np
import numpy.typing as npt
import pandas as pd
from formulaic import Formula

from transferstats.distance import Distance
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results import DecayFit, DecayFits, RegressionFit
from transferstats.stats.curves import fitted_values
from transferstats.stats.decay import mean_cells
from transferstats.stats.decay_terms import DecayStatistic
from transferstats.stats.families import find_family
from transferstats.stats.regression import cell_columns, model_matrix

SAME_FIT = 1e-6
"""Relative difference below which two fits are the same: far above rounding, far below any error bar."""


@singledispatch
def augment(
    x: object, grid: TransferGrid, *, loss: str | None = None, distance: Distance | None = None
) -> pd.DataFrame:
    """The cells behind a fitted model, each with its fitted value and residual.

    Parameters
    ----------
    x: DecayFit, DecayFits or RegressionFit.
    grid: the grid it was fitted to. loss, distance: as they were passed to the fit, where they were.

    Returns
    -------
    One row a dataset and off-diagonal cell (row-major): dataset, every column that a formula may use (source,
    target, distance, direction, depth, similarities, ...), and penalty, fitted, resid in the unit of the losses.
    Residuals describe the misfit; cells share seeds and units, so they make no standard errors.

    Raises
    ------
    TypeError: x is no fitted model. DesignError: x was fitted to another grid, loss or distance.
    """
    raise TypeError(
        f"nothing to augment in {type(x).__name__}: only fitted models (DecayFit, DecayFits, RegressionFit) have "
        "fitted values; tidy() gives its estimates"
    )


@augment.register
def _decay_fits(
    x: DecayFits, grid: TransferGrid, *, loss: str | None = None, distance: Distance | None = None
) -> pd.DataFrame:
    frames = [augment(fit, grid, loss=loss, distance=distance) for fit in x]
    return pd.concat(frames, ignore_index=True)


@augment.register
def _decay_fit(
    x: DecayFit, grid: TransferGrid, *, loss: str | None = None, distance: Distance | None = None
) -> pd.DataFrame:
    if distance is None and x.distance == "custom":
        raise DesignError("this fit used a distance matrix of its own: pass it again with distance=")
    lengths = grid.scale(x.distance if distance is None else distance)
    single = _single(grid, x.dataset, loss)
    centre = mean_cells(single, 0)
    statistic = DecayStatistic(x.family, x.direction, lengths)
    fitted = np.full(centre.size, np.nan)
    sides = statistic.sides(grid.n_layers)
    for side, fit, curve in zip(sides, statistic.fits(centre[None]), x.curves, strict=True):
        # A curve depends on the data through these means alone, so equal means are an equal fit.
        _require_same(side.points.x, curve.observed_distance, x.dataset)
        _require_same(side.means(centre[None])[0], curve.observed.estimate, x.dataset)
        fitted[side.cells] = fitted_values(find_family(x.family), fit, side.points.x)[0][side.points.index]
    columns = cell_columns(single, single.datasets[0], loss=single.loss, distance=lengths)
    cells = np.concatenate([side.cells for side in sides])
    return _augmented(columns, fitted[np.sort(cells)], x.dataset)


@augment.register
def _regression(
    x: RegressionFit, grid: TransferGrid, *, loss: str | None = None, distance: Distance | None = None
) -> pd.DataFrame:
    frames = list(_regressions(x, grid, loss, "index" if distance is None else distance))
    return pd.concat(frames, ignore_index=True)


def _regressions(
    x: RegressionFit, grid: TransferGrid, loss: str | None, distance: Distance
) -> Iterator[pd.DataFrame]:
    for one in x.estimates[: len(x.r_squared)]:  # the average over datasets, where there is one, has no cells
        single = _single(grid, one.dataset, loss)
        columns = cell_columns(single, single.datasets[0], loss=single.loss, distance=distance)
        design, _ = model_matrix(Formula(x.formula).rhs, columns)
        fitted = design @ one.estimate
        # Least squares leaves residuals at right angles to every column; other data do not.
        _require_same(design.T @ fitted, design.T @ columns["penalty"].to_numpy(), one.dataset)
        yield _augmented(columns, fitted, one.dataset)


def _single(grid: TransferGrid, dataset: str, loss: str | None) -> TransferGrid:
    return grid.with_datasets([dataset]).with_loss(loss or grid.loss)


def _require_same(here: npt.ArrayLike, there: npt.ArrayLike, dataset: str) -> None:
    one, other = np.atleast_1d(here), np.atleast_1d(there)
    if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=SAME_FIT * np.abs(other).max()):
        raise DesignError(
            f"dataset {dataset!r}: this fit was made from other numbers than this grid's; pass the grid, loss and "
            "distance that it was fitted with"
        )


def _augmented(columns: pd.DataFrame, fitted: npt.NDArray[np.float64], dataset: str) -> pd.DataFrame:
    """Observed, fitted and residual last, in broom's order."""
    penalty = columns["penalty"]
    rest = columns.drop(columns="penalty")
    rest.insert(0, "dataset", dataset)
    return rest.assign(penalty=penalty, fitted=fitted, resid=penalty.to_numpy() - fitted)

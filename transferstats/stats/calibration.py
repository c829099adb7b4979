"""The null's own null: does the shared-lens null find nothing where nothing is?

Another null replicate, on the fold of the first, is treated as observed: its targets, for which one lens is right
at every layer, are replaced by those of a null of its own, and lenses are fitted to these. The excess of the null
replicates over that run is 0 if the null is right on this network. One run has no scatter of its own; it is given
that of the R null replicates, whose pipeline it shares:

    half-width^2 = t_{R-1}^2 s^2 (1 / R + 1) + t_{N-1}^2 max(var(d_i) / N - (1 + R) E, 0)

with s^2 the variance of T(P0) between replicates, d_i the influence of unit i on the mean of the replicates less
that on the single run, and E the residual variance of the mean of the replicates.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results.calibration import NullCalibration
from transferstats.stats.crossed import Piece, VarianceParts, labels_of, variance_parts
from transferstats.stats.estimation import with_average
from transferstats.stats.influence import Influence, excess_influence, influence_table
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.samples import LossSample, excess_sample, layer_terms, loss_sample, null_sample
from transferstats.stats.statistics import StatisticLike

METHOD = "paired null of a null replicate"


def has_null_of_null(grid: TransferGrid) -> bool:
    """Whether every dataset has one."""
    return all(data.null is not None and data.null.null is not None for data in grid.datasets)


def null_calibration(
    grid: TransferGrid,
    statistic: StatisticLike = "mean",
    *,
    readout: str | None = None,
    loss: str | None = None,
    conf_level: float = 0.95,
    cluster: bool = True,
    distance: Distance | None = None,
) -> NullCalibration:
    """The excess of the null replicates over the null of another one: 0 if the null is right here.

    Parameters as in ``null_test``; ``readout``: "shared" for S0 - S00 by layer.

    Raises
    ------
    DesignError: a dataset without null replicates, or without the null of one.
    """
    level = check_conf_level(conf_level)
    name = loss or grid.loss
    excess, null = [], []
    for data in grid.datasets:
        above, below = _samples(data, name, readout, cluster)

        def influence(sample: LossSample) -> Influence:
            if readout is not None:
                terms = layer_terms(grid)
                return excess_influence(
                    sample.losses, weights=sample.weights, unit=grid.unit_of(loss), layers=terms
                )
            return influence_table(
                sample.losses,
                statistic,
                weights=sample.weights,
                distance=grid.scale(distance),
                unit=grid.unit_of(loss),
            )

        one, other = influence(above), influence(below)
        labels = labels_of(one, above.note, method=METHOD, dataset=data.name)
        excess.append(Piece(one.estimate - other.estimate, _parts(one.table, other.table), labels))
        null.append(Piece(one.estimate, variance_parts(one.table), labels))
    return NullCalibration(with_average(excess, conf_level=level), with_average(null, conf_level=level))


def _samples(data: DatasetLosses, loss: str, readout: str | None, cluster: bool) -> tuple[LossSample, LossSample]:
    if data.null is None or data.null.null is None:
        raise DesignError(
            f"dataset {data.name!r} has no null of a null replicate: plan the study with null replicates, and "
            "sweep it with this version"
        )
    null_sample(data.null, loss, cluster=cluster)  # the same units, clusters and tokens
    worlds = (data.null, data.null.null)
    if readout is not None:
        first, second = (excess_sample(one, loss, readout, cluster=cluster) for one in worlds)
    else:
        first, second = (loss_sample(one, loss, cluster=cluster) for one in worlds)
    return first, replace(second, name=data.name)


def _parts(replicates: FloatArray, single: FloatArray) -> VarianceParts:
    """Variance parts of (mean of (m, R, N) replicates) - (one run (m, 1, N))."""
    n_runs, n_units = replicates.shape[1:]
    undefined = np.full(len(replicates), np.nan)
    if n_runs == 1 or n_units == 1:
        return VarianceParts(undefined[None], np.array([1.0]), ("units",), undefined)
    between = replicates.mean(axis=2).var(axis=1, ddof=1)
    residual = variance_parts(replicates).residual
    difference = replicates.mean(axis=1) - single.mean(axis=1)
    units = np.maximum(difference.var(axis=1, ddof=1) / n_units - (1 + n_runs) * residual, 0.0)
    return VarianceParts(
        np.stack([between * (1 / n_runs + 1), units]),
        np.array([n_runs - 1.0, n_units - 1.0]),
        ("null replicates", "units"),
        np.asarray(residual),
    )

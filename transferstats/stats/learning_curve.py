"""Penalties and shared-lens excess against the number of training rows, and what unlimited rows would leave.

An affine lens of p parameters fitted to n rows has an excess loss of about p / (2 n) times its noise, so
penalties that are made by few rows fall like c / n, and (n P(n) - m P(m)) / (n - m), which is 2 P(n) - P(n/2) for
half the rows, is free of it: Richardson's extrapolation. It is linear in the losses of lenses that were scored on
the same units, so seeds and units enter its interval as they do everywhere. Penalties from directions in which a
layer is silent do not fall with n; the null and the shared anchor are for those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.lens_sets import BESIDE
from transferstats.results.estimates import Estimates
from transferstats.results.learning_curve import LearningCurve
from transferstats.stats.crossed import Labels, Piece, labels_of, variance_parts
from transferstats.stats.estimation import piece_of, with_average
from transferstats.stats.influence import excess_influence
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.samples import LossSample, excess_sample, layer_terms, loss_sample
from transferstats.stats.statistics import StatisticLike, as_statistic

MOST = 0.9
"""A part with more of the rows of the next larger one than this tells nothing about the number of rows."""

WHOLE = "1"
"""Name of the whole fold among its shares."""


@dataclass(frozen=True, slots=True)
class _Curve:
    """One dataset: a sample a share, smallest first, and the training rows behind each."""

    samples: tuple[LossSample, ...]
    rows: tuple[float, ...]

    def combined(self, weights: tuple[float, ...]) -> LossSample:
        """A weighted sum of the losses of the last samples."""
        last = self.samples[-len(weights) :]
        values = sum(weight * one.losses for weight, one in zip(weights, last, strict=True))
        return replace(last[-1], losses=np.asarray(values))


def shares_of(grid: TransferGrid) -> tuple[str, ...]:
    """Names of the parts of a fold, less than the whole, that have lenses of their own, fewest rows first.

    A part with nearly as many rows as the next larger one, in any dataset, adds nothing, and is left out.
    """
    if not all(data.training_rows for data in grid.datasets):
        return ()
    rows = {
        name: np.array([np.mean(data.sets[name].training_rows) for data in grid.datasets])
        for name in grid.lens_sets
        if name != BESIDE
    }
    whole = np.array([np.mean(data.training_rows) for data in grid.datasets])
    kept: list[str] = []
    for name in sorted(rows, key=lambda one: float(rows[one].sum()), reverse=True):
        above = rows[kept[-1]] if kept else whole
        if (rows[name] <= MOST * above).all():
            kept.append(name)
    return tuple(reversed(kept))


def learning_curve(
    grid: TransferGrid,
    statistic: StatisticLike = "mean",
    *,
    readout: str | None = None,
    loss: str | None = None,
    conf_level: float = 0.95,
    cluster: bool = True,
) -> LearningCurve:
    """How a statistic of the penalty, or the excess of a readout, depends on the number of training rows.

    Parameters
    ----------
    grid: losses with lenses of parts of each fold (``FitPlan.curve``).
    statistic: as in ``estimate``. readout: "shared" for the shared-lens excess by layer, in the place of a
        statistic of the penalty. loss, conf_level, cluster: as in ``estimate``.

    Returns
    -------
    LearningCurve: the statistic at each number of rows, at unlimited data, what twice the rows would bring, and
    the test of whether c / n holds.

    Raises
    ------
    DesignError: no lenses of parts of a fold.
    """
    level = check_conf_level(conf_level)
    shares = shares_of(grid)
    if not shares:
        raise DesignError(
            "a learning curve needs lenses of parts of each fold: plan the study with FitPlan(curve=(0.5, 0.25))"
        )
    name, unit = loss or grid.loss, grid.unit_of(loss)
    curves = [_curve(data, shares, name, readout, cluster) for data in grid.datasets]

    def piece(sample: LossSample) -> Piece:
        if readout is None:
            return piece_of(sample, statistic, distance=grid.scale(), unit=unit)
        found = excess_influence(sample.losses, weights=sample.weights, unit=unit, layers=layer_terms(grid))
        labels: Labels = labels_of(found, sample.note, dataset=sample.name)
        return Piece(found.estimate, variance_parts(found.table), labels)

    def estimates(weights: list[tuple[float, ...]]) -> Estimates:
        pieces = [piece(one.combined(w)) for one, w in zip(curves, weights, strict=True)]
        return with_average(pieces, conf_level=level)

    points = [
        with_average([piece(one.samples[k]) for one in curves], conf_level=level) for k in range(len(shares) + 1)
    ]
    return LearningCurve(
        statistic=as_statistic(statistic).name if readout is None else f"{readout} excess",
        shares=(*shares, WHOLE),
        points=tuple(points),
        rows_of={one.samples[0].name: one.rows for one in curves},
        unlimited=estimates([_unlimited(one.rows) for one in curves]),
        doubled=estimates([_doubled(one.rows) for one in curves]),
        departure=estimates([_departure(one.rows) for one in curves]) if len(shares) > 1 else None,
    )


def _curve(data: DatasetLosses, shares: tuple[str, ...], loss: str, readout: str | None, cluster: bool) -> _Curve:
    parts = [data.sets[share] for share in shares] + [data]
    samples = [
        loss_sample(one, loss, cluster=cluster)
        if readout is None
        else excess_sample(one, loss, readout, cluster=cluster)
        for one in parts
    ]
    # What falls like c / n averages over seeds like 1 / n, so their numbers of rows do.
    return _Curve(tuple(samples), tuple(float(1 / np.mean(1 / np.asarray(one.training_rows))) for one in parts))


def _unlimited(rows: tuple[float, ...]) -> tuple[float, ...]:
    fewer, most = rows[-2:]
    return (-fewer / (most - fewer), most / (most - fewer))


def _doubled(rows: tuple[float, ...]) -> tuple[float, ...]:
    """Weights of P(n) - P(2n) = c / (2n) in terms of P(m) and P(n)."""
    fewer, most = rows[-2:]
    share = (1 / (2 * most)) / (1 / fewer - 1 / most)
    return (share, -share)


def _departure(rows: tuple[float, ...]) -> tuple[float, ...]:
    fewest, fewer, most = rows[-3:]
    ratio = (1 / fewest - 1 / fewer) / (1 / fewer - 1 / most)
    return (1.0, -1.0 - ratio, ratio)

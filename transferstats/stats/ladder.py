"""The ladder of readouts: how much of the gap between logit lens and own lens do simpler lenses close?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import stats as scipy_stats

from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.stats.crossed import Piece, labels_of, variance_parts
from transferstats.stats.fieller import fieller_limits
from transferstats.stats.influence import Influence, excess_influence
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.samples import excess_sample, layer_terms

BOTTOM = "logit"
RUNGS: tuple[str, ...] = ("shared", "tied")
"""Readouts between the logit lens and the own lens: one lens for all layers; one linear map, a bias a layer."""

UNBOUNDED = "logit lens and own lens do not clearly differ there, so a share of their gap has no bounds"


def rungs_of(data: DatasetLosses, loss: str) -> tuple[str, ...]:
    """The rungs that a dataset has between its logit lens and its own lenses; none without a logit lens."""
    if loss not in data.readouts.get(BOTTOM, {}):
        return ()
    return tuple(rung for rung in RUNGS if loss in data.readouts.get(rung, {}))


def gap_closed(
    grid: TransferGrid,
    readout: str = "shared",
    *,
    loss: str | None = None,
    conf_level: float = 0.95,
    cluster: bool = True,
) -> Estimates:
    """Share of the gap between logit lens and own lens that a simpler readout closes, by layer and dataset.

    share = (loss of the logit lens - loss of the readout) / (loss of the logit lens - loss of the own lens), of
    mean losses: 0 for the logit lens, 1 for the own lens, below 0 for a readout worse than no lens at all.

    Parameters
    ----------
    readout: "shared" (one lens for all layers) or "tied" (one linear map, a bias a layer). Others as in
        ``estimate``.

    Returns
    -------
    Estimates with the layers as terms, one member a dataset; without a unit. Limits by Fieller's method from the
    crossed variance of numerator and denominator; NaN where the gap itself may be 0.

    Raises
    ------
    DesignError: a dataset without a logit lens, or without this readout.
    """
    level = check_conf_level(conf_level)
    return Estimates(
        tuple(_gaps(grid, data, readout, loss or grid.loss, level, cluster) for data in grid.datasets)
    )


def _gaps(
    grid: TransferGrid, data: DatasetLosses, readout: str, loss: str, level: float, cluster: bool
) -> Estimate:
    sample = excess_sample(data, loss, BOTTOM, cluster=cluster)
    # Excesses over the own lens: logit - rung = (logit - own) - (rung - own).
    closed = sample.losses - excess_sample(data, loss, readout, cluster=cluster).losses
    top = excess_influence(closed, weights=sample.weights, unit="", layers=layer_terms(grid))
    bottom = excess_influence(sample.losses, weights=sample.weights, unit="", layers=layer_terms(grid))
    return _ratio(top, bottom, data.name, sample.note, level)


def _ratio(top: Influence, bottom: Influence, dataset: str, note: str, level: float) -> Estimate:
    """Ratios of (m,) means with Fieller limits."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bottom.estimate == 0, np.nan, top.estimate / bottom.estimate)
    scale = np.where(bottom.estimate == 0, np.nan, bottom.estimate)[:, None, None]
    linearised = (top.table - ratio[:, None, None] * bottom.table) / scale
    limits = np.array(
        [
            fieller_limits(
                float(top.estimate[term]), float(bottom.estimate[term]), _half_width(top, bottom, term, level)
            )
            for term in range(len(ratio))
        ]
    )
    notes = [note] if note else []
    if np.isnan(limits).any():
        missing = ", ".join(np.asarray(top.terms)[np.isnan(limits).any(axis=1)])
        notes.append(f"{missing}: {UNBOUNDED}")
    labels = labels_of(top, "; ".join(notes), method="crossed two-term t, Fieller interval", dataset=dataset)
    plain = Piece(ratio, variance_parts(linearised), labels).interval(conf_level=level)
    undefined = np.full(ratio.shape, np.nan)
    return replace(plain, conf_low=limits[:, 0], conf_high=limits[:, 1], p_value=undefined, statistic=undefined)


def _half_width(top: Influence, bottom: Influence, term: int, level: float) -> Callable[[float], float]:
    """Half-width of the crossed interval of numerator - r denominator, as a function of r."""

    def at(ratio: float) -> float:
        parts = variance_parts(top.table[term] - ratio * bottom.table[term])
        quantiles = scipy_stats.t.isf((1 - level) / 2, parts.dfs)
        return float(np.sqrt(np.square(quantiles) @ parts.variances))

    return at

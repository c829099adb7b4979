"""Losses by depth, and penalties as a share of what lenses gain: crossed estimates beside the penalties."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.distance import off_diagonal
from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.results.gain import worse_than_prior
from transferstats.stats.crossed import Piece, labels_of, variance_parts
from transferstats.stats.estimation import with_average
from transferstats.stats.influence import Influence, excess_influence
from transferstats.stats.samples import collapse_clusters, layer_terms, loss_sample


def depth_profile(
    grid: TransferGrid, *, loss: str | None = None, conf_level: float = 0.95, cluster: bool = True
) -> Estimates:
    """Own-lens loss of every layer (terms: the layers), per dataset and averaged over datasets.

    Parameters as in ``estimate``; in the unit of the losses.
    """
    pieces = [_piece(grid, data, loss or grid.loss, cluster, trend=False) for data in grid.datasets]
    return with_average(pieces, conf_level=conf_level)


def depth_trend(
    grid: TransferGrid, *, loss: str | None = None, conf_level: float = 0.95, cluster: bool = True
) -> Estimates:
    """OLS slope of the own-lens loss on the layers' own numbers; negative where the loss falls with depth."""
    pieces = [_piece(grid, data, loss or grid.loss, cluster, trend=True) for data in grid.datasets]
    return with_average(pieces, conf_level=conf_level)


def _piece(grid: TransferGrid, data: DatasetLosses, loss: str, cluster: bool, *, trend: bool) -> Piece:
    sample, unit = loss_sample(data, loss, cluster=cluster), grid.unit_of(loss)
    own = np.diagonal(sample.losses, axis1=2, axis2=3)
    if not trend:
        influence = excess_influence(own, weights=sample.weights, unit=unit, layers=layer_terms(grid))
        return _of(influence, data.name, sample.note)
    depth = np.asarray(grid.positions) - np.mean(grid.positions)
    slope = (own @ (depth / np.square(depth).sum()))[:, :, None]
    influence = excess_influence(slope, weights=sample.weights, unit=f"{unit} per layer")
    return _of(replace(influence, terms=("own-lens loss per layer",), scalar=True), data.name, sample.note)


def _of(influence: Influence, dataset: str, note: str) -> Piece:
    labels = labels_of(influence, note, dataset=dataset)
    return Piece(influence.estimate, variance_parts(influence.table), labels)


def penalty_share(
    grid: TransferGrid, *, loss: str | None = None, conf_level: float = 0.95, cluster: bool = True
) -> Estimates:
    """Share of the own lenses' gain over the prior that transfer loses: mean penalty / mean gain.

    The gain of a layer is the prior's loss minus its own lens's loss. The share has no unit, so it can be
    compared between a language model and an image model; 1 means that transfer loses all that lenses gain, and
    beyond 1 the note says that the prior is better.

    Raises
    ------
    DesignError: a dataset without prior losses, or whose lenses gain nothing over the prior.
    """
    pieces = [_share_piece(data, loss or grid.loss, cluster) for data in grid.datasets]
    return Estimates(tuple(map(_capped, with_average(pieces, conf_level=conf_level))))


def _capped(share: Estimate) -> Estimate:
    return replace(share, note="; ".join(filter(None, (share.note, worse_than_prior(share)))))


def gains_over_prior(data: DatasetLosses, loss: str) -> bool:
    """Whether own lenses gain anything over the prior, so that a share of that gain is defined."""
    if f"prior_{loss}" not in data.baselines:
        return False
    return bool(np.average(_gain(data, loss).mean(axis=0), weights=data.tokens) > 0)


def _gain(data: DatasetLosses, loss: str) -> FloatArray:
    """(K, N) the prior's loss minus the own lenses', mean over layers."""
    own = np.diagonal(data.loss(loss), axis1=2, axis2=3).mean(axis=2)
    return np.asarray(data.baselines[f"prior_{loss}"] - own)


def _share_piece(data: DatasetLosses, loss: str, cluster: bool) -> Piece:
    if f"prior_{loss}" not in data.baselines:
        raise DesignError(f"dataset {data.name!r} has no prior losses, so lens gains are unknown")
    penalty = data.penalty(loss)[:, :, off_diagonal(data.n_layers)].mean(axis=2)
    pairs = np.stack([penalty, _gain(data, loss)], axis=2)
    weights, note = data.tokens, ""
    if cluster and len(set(data.clusters)) < len(data.units):
        pairs, weights, _ = collapse_clusters(pairs, data.clusters, weights)
        note = loss_sample(data, loss).note
    return _ratio_piece(pairs, weights, data.name, note)


def _ratio_piece(pairs: FloatArray, weights: FloatArray, dataset: str, note: str) -> Piece:
    """Ratio of two crossed means by linearisation: z = (numerator - ratio * denominator) / mean denominator."""
    means = np.tensordot(weights, pairs.mean(axis=0), axes=1) / weights.sum()
    if not means[1] > 0:
        raise DesignError(f"dataset {dataset!r}: own lenses gain nothing over the prior, so no share is defined")
    ratio = means[0] / means[1]
    residual = (pairs[:, :, 0] - ratio * pairs[:, :, 1]) / means[1]
    influence = excess_influence(residual[:, :, None], weights=weights, unit="share of gain")
    named = replace(influence, terms=("penalty / gain",), scalar=True, linear=False, estimate=np.array([ratio]))
    return _of(named, dataset, note)

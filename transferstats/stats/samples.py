"""From a grid to the arrays that the inference needs: losses of one dataset, clusters collapsed, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DataError, DesignError
from transferstats.grid import DatasetLosses, TransferGrid

OWN_LENSES = "each unit has lenses of its own, so the interval is for new units with newly trained lenses"
"""Note of a sample without seeds whose interval is nevertheless about new trainings."""


@dataclass(frozen=True, slots=True)
class LossSample:
    """Losses of one dataset on N sampling units (units or clusters).

    Attributes
    ----------
    name: the dataset. losses: (K, N, L, L), nats. weights: (N,) tokens. units: N labels.
    note: what was collapsed, in words; empty where nothing was.
    """

    name: str
    losses: FloatArray
    weights: FloatArray
    units: tuple[str, ...]
    note: str = ""


def collapse_clusters(
    values: FloatArray, clusters: Sequence[str], weights: FloatArray
) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Token-weighted means of the units of each cluster, so that clusters can be treated as units.

    Parameters
    ----------
    values: (K, N, ...) any losses. clusters: N labels. weights: (N,) positive tokens.

    Returns
    -------
    (K, C, ...) means, (C,) tokens, C labels in order of first appearance. The token-weighted mean over all
    units is unchanged.
    """
    if len(clusters) != values.shape[1] or weights.shape != (values.shape[1],):
        raise DataError(
            f"{values.shape[1]} units need as many cluster labels ({len(clusters)}) and weights {weights.shape}"
        )
    labels = tuple(dict.fromkeys(clusters))
    position = {label: index for index, label in enumerate(labels)}
    member = np.array([position[label] for label in clusters])
    tokens = np.bincount(member, weights=weights, minlength=len(labels))
    share = np.zeros((len(labels), len(member)))
    share[member, np.arange(len(member))] = weights / tokens[member]
    collapsed = np.moveaxis(np.tensordot(share, values, axes=(1, 1)), 0, 1)
    return np.ascontiguousarray(collapsed), np.asarray(tokens, dtype=np.float64), labels


def loss_sample(data: DatasetLosses, loss: str, *, cluster: bool = True) -> LossSample:
    """Losses of one dataset by name; units that share a cluster label are collapsed where asked for."""
    return _sampled(data, data.loss(loss), cluster)


def _sampled(data: DatasetLosses, values: FloatArray, cluster: bool) -> LossSample:
    n_clusters = len(set(data.clusters))
    own = OWN_LENSES if data.own_lenses else ""
    if not cluster or n_clusters == len(data.units):
        return LossSample(data.name, values, data.tokens, data.units, own)
    collapsed, tokens, labels = collapse_clusters(values, data.clusters, data.tokens)
    note = f"{len(data.units)} units in {n_clusters} clusters; clusters are what is sampled"
    return LossSample(data.name, collapsed, tokens, labels, "; ".join(text for text in (note, own) if text))


def null_sample(data: DatasetLosses, loss: str, *, cluster: bool = True) -> LossSample:
    """Null losses (R, N, L, L) of one dataset on the same units as its losses."""
    if data.null is None:
        raise DesignError(
            f"dataset {data.name!r} has no null replicates; run the study with null_replicates=5 or more"
        )
    if data.null.clusters != data.clusters or not np.array_equal(data.null.tokens, data.tokens):
        raise DataError(f"dataset {data.name!r}: null and observed losses differ in clusters or tokens")
    return loss_sample(data.null, loss, cluster=cluster)


def excess_sample(data: DatasetLosses, loss: str, readout: str, *, cluster: bool = True) -> LossSample:
    """Excess of a readout over the own lens on every layer, (K, N, L), in place of losses."""
    if readout not in data.readouts or loss not in data.readouts[readout]:
        raise DesignError(
            f"dataset {data.name!r} has no {loss} of readout {readout!r}; it has: "
            f"{', '.join(data.readouts) or 'none'}"
        )
    own = np.diagonal(data.loss(loss), axis1=2, axis2=3)
    excess = data.readouts[readout][loss] - own
    if not np.isfinite(excess).all():
        raise DataError(f"dataset {data.name!r}: losses of readout {readout!r} are NaN or infinite")
    return _sampled(data, excess, cluster)


def samples_of(grid: TransferGrid, loss: str | None, *, cluster: bool = True) -> list[LossSample]:
    """One sample a dataset, in the grid's loss unless another is named."""
    return [loss_sample(data, loss or grid.loss, cluster=cluster) for data in grid.datasets]


def layer_terms(grid: TransferGrid) -> tuple[str, ...]:
    """What estimates call the layers: their names, a plain number as "layer 4"."""
    return tuple(f"layer {name}" if name.isdecimal() else name for name in grid.layers)

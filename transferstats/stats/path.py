"""The path of lenses along their training: penalties with intervals for new units, beside held-out kl."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.path_losses import PathLosses
from transferstats.results.estimate import Estimate
from transferstats.results.path import TrainingPath
from transferstats.stats.crossed import Piece, labels_of, variance_parts
from transferstats.stats.estimation import piece_of
from transferstats.stats.influence import excess_influence
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.samples import collapse_clusters, loss_sample


def training_path(
    grid: TransferGrid,
    dataset: str | None = None,
    *,
    loss: str | None = None,
    conf_level: float = 0.95,
    cluster: bool = True,
) -> TrainingPath:
    """Mean penalty along the training of lenses that start from the identity, from ridge and from the shared lens.

    Parameters
    ----------
    grid: of a study that was planned ``with_path``. dataset: by default the only one that has a path.
    loss, conf_level, cluster: as in ``estimate``.

    Returns
    -------
    TrainingPath. A path is that of one fold: its intervals are for new units, conditional on this fold's lenses.

    Raises
    ------
    DesignError: the study followed no path, or several and none is named. DataError: no such dataset or loss.
    """
    check_conf_level(conf_level)
    if dataset is None and len(grid.paths) > 1:
        raise DesignError(f"several datasets have a path, name one of them: {', '.join(grid.paths)}")
    data = grid.dataset(next(iter(grid.paths), grid.datasets[0].name) if dataset is None else dataset)
    if data.name not in grid.paths:
        raise DesignError(f"dataset {data.name!r} has no path: plan the study again with_path, or with --path")
    path, chosen = grid.paths[data.name], loss or grid.loss
    kept, kept_kl = _kept(grid, data, path.seed, chosen, conf_level=conf_level, cluster=cluster)
    weights = data.tokens / data.tokens.sum()
    return TrainingPath(
        dataset=data.name,
        anchor=path.anchor,
        anchors=path.anchors,
        steps=path.steps,
        held_out_kl=path.held_out_kl.mean(axis=1),
        own_loss=path.scored("own", chosen) @ weights,
        penalty=_penalty(grid, data, path, chosen, cluster).interval(conf_level=conf_level),
        kept=kept,
        kept_kl=kept_kl,
    )


def _penalty(grid: TransferGrid, data: DatasetLosses, path: PathLosses, loss: str, cluster: bool) -> Piece:
    values: FloatArray = path.scored("penalty", loss).T[None]
    weights, note = data.tokens, ""
    if cluster and len(set(data.clusters)) < len(data.units):
        values, weights, _ = collapse_clusters(values, data.clusters, weights)
        note = loss_sample(data, loss).note
    terms = tuple(f"{one}, {int(steps)} steps" for one, steps in zip(path.anchors, path.steps, strict=True))
    influence = excess_influence(values, weights=weights, unit=grid.unit_of(loss), layers=terms)
    return Piece(
        influence.estimate, variance_parts(influence.table), labels_of(influence, note, dataset=data.name)
    )


def _kept(
    grid: TransferGrid, data: DatasetLosses, seed: str, loss: str, *, conf_level: float, cluster: bool
) -> tuple[Estimate | None, float]:
    """Mean penalty and held-out kl of the lenses that the study kept on the fold of a path."""
    table = grid.certificates
    if seed not in data.seeds or not len(table):
        return None, float("nan")
    sample = loss_sample(data, loss, cluster=cluster)
    index = data.seeds.index(seed)
    piece = piece_of(replace(sample, losses=sample.losses[index : index + 1]), "mean", unit=grid.unit_of(loss))
    mine = (table["dataset"] == data.name) & (table["world"] == "observed") & (table["readout"] == "own")
    kl = table.loc[mine & (table["seed"].astype(str) == seed), "held_out_kl"]
    return piece.interval(conf_level=conf_level), float(np.mean(kl))

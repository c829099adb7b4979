"""What is in a grid and what it cannot support: the first thing to ask of somebody else's file."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transferstats.distance import off_diagonal, resolve_distance
from transferstats.grid import SIMILARITY, TransferGrid
from transferstats.results.description import Description
from transferstats.stats.calibration import has_null_of_null
from transferstats.stats.estimation import estimate
from transferstats.stats.influence import mean_penalty
from transferstats.stats.learning_curve import shares_of

SUMMARY: tuple[str, ...] = ("mean", "forward", "backward", "asymmetry", "slope")
"""Scalars that sum up the penalties of a dataset; the last one needs two distances."""

FEWEST_DISTANCES = 4
"""Below this a curve cannot be told from a line."""


def describe(grid: TransferGrid, *, conf_level: float = 0.95) -> Description:
    """What a grid holds, the usual means, and everything that it cannot support, with the reason.

    Nothing is refused here: a grid of bare means has means, and no intervals.

    Parameters
    ----------
    grid: losses of one subject, read or simulated. conf_level: of the intervals that there are.

    Returns
    -------
    Description, whose ``sentence``, ``table`` and ``figure`` (mean penalty matrix) are views like any other.

    Examples
    --------
    >>> import pandas as pd, transferstats as ts
    >>> means = pd.DataFrame({"source": [0, 0, 1, 1], "target": [0, 1, 0, 1], "ce": [3.0, 2.5, 3.4, 2.0]})
    >>> found = ts.describe(ts.read_grid(means))
    >>> [float(one.headline.estimate.round(2)) for one in found.summary if one.headline.terms == ("mean",)]
    [0.45]
    >>> found.unsupported[0][0]
    'any interval, test or verdict'
    """
    names = SUMMARY if grid.n_layers > 2 else SUMMARY[:-1]
    matrices = [mean_penalty(one.penalty(grid.loss), one.tokens / one.tokens.mean()) for one in grid.datasets]
    return Description(
        subject=grid.subject,
        layers=grid.layers,
        loss=grid.loss,
        unit=grid.loss_unit,
        datasets=tuple(
            (data.name, len(data.seeds), len(data.units), len(set(data.clusters))) for data in grid.datasets
        ),
        matrix=np.mean(matrices, axis=0),
        summary=tuple(estimate(grid, name, conf_level=conf_level) for name in names),
        caveats=grid.caveats,
        unsupported=tuple(unsupported(grid)),
    )


def unsupported(grid: TransferGrid) -> Iterator[tuple[str, str]]:
    """(what, why) of everything that a grid cannot support, the most basic first."""
    yield from _of_design(grid)
    yield from _of_parts(grid)
    if grid.n_layers < 3:
        yield "growth with distance (C5)", "two layers have only one distance"
    elif grid.n_layers <= FEWEST_DISTANCES:
        distances = np.unique(resolve_distance(grid.n_layers, grid.scale())[off_diagonal(grid.n_layers)])
        yield "the shape of growth with distance", f"{grid.n_layers} layers have {len(distances)} distances"


def _of_design(grid: TransferGrid) -> Iterator[tuple[str, str]]:
    """What too few units or seeds rule out."""
    if any(len(set(one.clusters)) < 2 for one in grid.datasets):
        yield (
            "any interval, test or verdict",
            "there is one unit (or cluster), so nothing says how means would vary",
        )
    if any(one.own_lenses for one in grid.datasets):
        yield (
            "shares of variance of seeds and units, and the claims of evaluate",
            "each unit has lenses of its own; estimate, fit_decay and relevance_test give intervals for new units",
        )
    elif any(len(one.seeds) < 2 for one in grid.datasets):
        yield (
            "anything about newly trained lenses, and the claims of evaluate",
            "there is one set of lenses (1 seed); intervals over units are conditional on it",
        )


def _of_parts(grid: TransferGrid) -> Iterator[tuple[str, str]]:
    """What parts that are not in the grid rule out."""
    data = grid.datasets
    if any(one.null is None for one in data):
        yield "penalties beyond a shared-lens null (C3)", "there are no null replicates"
    elif not has_null_of_null(grid):
        yield (
            "verdicts over the shared-lens null (C3, C4, C7)",
            "no null was made of a null replicate, which tells whether it is right here",
        )
    if any("shared" not in one.readouts for one in data):
        yield "whether one lens serves every layer (C7)", "no lens was trained on all layers at once"
    if any(SIMILARITY not in grid.similarities.get(one.name, {}) for one in data):
        yield "distance beyond layer similarity (C8)", f"no {SIMILARITY} similarity of layers was recorded"
    if any(f"prior_{grid.loss}" not in one.baselines for one in data):
        yield "penalties as a share of what lenses gain over a prior", "the loss of a prior was not recorded"
    if not shares_of(grid):
        yield "how penalties depend on the amount of training data", "no lenses of parts of the training data"
    if not len(grid.certificates):
        yield "whether the lenses had finished training", "they carry no convergence certificate"

"""Networks compared whose losses have different units, or whose architecture is the claim.

Penalties of a language model (nats/token) and of an image model (nats/image) are compared as a share of what their
own lenses gain over the prior. A claim about an architecture is a claim about new networks of that kind: there the
independently trained network is what is sampled, and however many documents or images were scored, one network
says nothing about the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results.estimate import Estimate
from transferstats.stats.crossed import Labels, Piece, VarianceParts
from transferstats.stats.depth import penalty_share
from transferstats.stats.intervals import check_conf_level

UNIT = "share of gain"
TERM = "penalty / gain, difference"


def compare_shares(
    first: TransferGrid, second: TransferGrid, *, loss: str | None = None, conf_level: float = 0.95
) -> Estimate:
    """Difference of normalised penalties of two subjects, averaged over the datasets of each.

    For new seeds and new units of both, these networks and these layers. The variance terms of both sides add up;
    units that both were scored on are not paired, which makes the interval wider than need be where hard units are
    hard for both.

    Raises
    ------
    DesignError: a dataset without prior losses, or whose lenses gain nothing over the prior.
    """
    level = check_conf_level(conf_level)
    sides = [penalty_share(grid, loss=loss, conf_level=level).headline for grid in (first, second)]
    parts = VarianceParts(
        np.concatenate([np.reshape(one.parts, (-1, 1)) for one in sides]),
        np.concatenate([one.dfs for one in sides]),
        tuple(
            f"{name} of {grid.subject}"
            for grid, one in zip((first, second), sides, strict=True)
            for name in one.part_names
        ),
        np.array([np.nan]),
    )
    labels = Labels(
        terms=(TERM,),
        scalar=True,
        n_seeds=min(one.n_seeds for one in sides),
        n_units=sum(one.n_units for one in sides),
        unit=UNIT,
        method="crossed t, subjects compared",
        note="; ".join(
            f"{grid.subject}: {one.note}" for grid, one in zip((first, second), sides, strict=True) if one.note
        ),
    )
    difference = np.array([float(sides[0].estimate) - float(sides[1].estimate)])
    return Piece(difference, parts, labels).interval(conf_level=level)


def compare_instances(
    first: Sequence[TransferGrid],
    second: Sequence[TransferGrid],
    *,
    loss: str | None = None,
    conf_level: float = 0.95,
) -> Estimate:
    """Difference of normalised penalties between two kinds of network, for new networks of both kinds.

    Parameters
    ----------
    first, second: one grid an independently trained network, at least 2 of each kind.

    Returns
    -------
    Estimate: difference of the means over networks; half-width^2 = t_{n-1}^2 var / n of one kind plus that of the
    other. What seeds and units add to the scatter of the networks is in it.

    Raises
    ------
    DesignError: fewer than 2 networks of a kind; see also ``compare_shares``.
    """
    level = check_conf_level(conf_level)
    values = [instance_shares(grids, loss=loss) for grids in (first, second)]
    if min(len(one) for one in values) < 2:
        raise DesignError(
            f"{len(values[0])} and {len(values[1])} networks: a claim about a kind of network needs at least 2 of "
            "each, better 5; compare_shares(a, b) is about two networks"
        )
    parts = VarianceParts(
        np.array([[float(np.var(one, ddof=1)) / len(one)] for one in values]),
        np.array([len(one) - 1.0 for one in values]),
        ("networks of the first kind", "networks of the second kind"),
        np.array([np.nan]),
    )
    counts = f"{len(values[0])} and {len(values[1])} networks are what is sampled"
    units = sum(len(data.units) for grids in (first, second) for grid in grids for data in grid.datasets)
    labels = Labels(
        terms=(TERM,),
        scalar=True,
        n_seeds=min(len(one) for one in values),
        n_units=units,
        unit=UNIT,
        method="two-sample t over networks",
        note=counts,
    )
    difference = np.array([float(np.mean(values[0]) - np.mean(values[1]))])
    return Piece(difference, parts, labels).interval(conf_level=level)


def instance_shares(
    grids: Sequence[TransferGrid], *, loss: str | None = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(n,) normalised penalty of each network."""
    return np.array([float(penalty_share(grid, loss=loss).headline.estimate) for grid in grids])

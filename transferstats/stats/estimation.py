"""Estimates of a grid: one per dataset, and their equal-weight average over datasets as fixed strata."""

from __future__ import annotations

from dataclasses import replace

from transferstats.distance import Distance
from transferstats.grid import TransferGrid
from transferstats.results.estimates import Estimates
from transferstats.stats.bootstrap import Bootstrap, draw, finish, sample_labels
from transferstats.stats.crossed import Labels, Piece, average_labels, average_pieces, crossed_piece
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.resampling import prepare_sample
from transferstats.stats.samples import LossSample, samples_of
from transferstats.stats.statistics import StatisticLike


def estimate(
    grid: TransferGrid,
    statistic: StatisticLike = "mean",
    *,
    loss: str | None = None,
    method: Bootstrap | None = None,
    conf_level: float = 0.95,
    scale: str = "identity",
    cluster: bool = True,
    distance: Distance | None = None,
) -> Estimates:
    """Estimate a statistic of the mean penalty matrix on every dataset, and averaged over datasets.

    Parameters
    ----------
    grid: losses of one subject; units are weighted by their tokens.
    statistic: a name (mean, forward, backward, asymmetry, ratio, slope, distance, cells, source, target), a
        statistic object, or a function of the (L, L) mean penalty.
    loss: "kl", "ce" or "disagreement"; the grid's own unless given.
    method: None for the crossed interval, or a :class:`Bootstrap` plan.
    conf_level: nominal coverage. scale: "identity", or "log" for positive parameters.
    cluster: treat units with equal cluster labels as one (they are dependent); without effect where every
        unit is its own cluster.
    distance: "depth" or (L, L) distances, in place of the differences of the layers' own numbers.

    Returns
    -------
    Estimates: one per dataset; with more than one, last their average, whose variance parts are those of the
    datasets divided by their number squared (datasets are fixed strata, trained and sampled separately).

    Raises
    ------
    DataError, DesignError: see ``crossed_estimate``.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> one = ts.estimate(grid, "mean").headline
    >>> bool(one.conf_low < one.estimate < one.conf_high)
    True
    >>> one.part_names
    ('seeds', 'units')
    """
    check_conf_level(conf_level)
    samples, unit, distance = samples_of(grid, loss, cluster=cluster), grid.unit_of(loss), grid.scale(distance)
    if method is None:
        pieces = [piece_of(sample, statistic, distance=distance, unit=unit) for sample in samples]
        return with_average(pieces, conf_level=conf_level, scale=scale)
    # One generator for all datasets: equal draws in each would correlate strata that are independent.
    rng = method.generator()
    prepared = [prepare_sample(one.losses, statistic, weights=one.weights, distance=distance) for one in samples]
    labels = [_labelled(sample_labels(ready, unit), one) for ready, one in zip(prepared, samples, strict=True)]
    draws = [draw(ready, method, rng) for ready in prepared]
    members = [
        finish([one], label, method, conf_level=conf_level, scale=scale)
        for one, label in zip(draws, labels, strict=True)
    ]
    if len(draws) > 1:
        members.append(finish(draws, average_labels(labels), method, conf_level=conf_level, scale=scale))
    return Estimates(tuple(members))


def piece_of(
    sample: LossSample, statistic: StatisticLike, *, distance: Distance | None = None, unit: str
) -> Piece:
    """Crossed estimate of one dataset, before its interval."""
    piece = crossed_piece(sample.losses, statistic, weights=sample.weights, distance=distance, unit=unit)
    return replace(piece, labels=_labelled(piece.labels, sample))


def with_average(pieces: list[Piece], *, conf_level: float, scale: str = "identity") -> Estimates:
    """Intervals of every dataset's piece and, with more than one, of their average."""
    everything = [*pieces, average_pieces(pieces)] if len(pieces) > 1 else pieces
    return Estimates(tuple(piece.interval(conf_level=conf_level, scale=scale) for piece in everything))


def _labelled(labels: Labels, sample: LossSample) -> Labels:
    note = "; ".join(text for text in (sample.note, labels.note) if text)
    return replace(labels, dataset=sample.name, note=note)

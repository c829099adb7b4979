"""Penalty against layer distance: fitted parameters with crossed intervals.

The curve is fitted to the mean penalty of each off-diagonal cell, every cell with weight 1. The interval never
uses the residual sigma of that fit: cells share seeds and units, so it comes from the influence of every seed
and unit on the fitted parameters (implicit derivative of the least-squares fit, then the two-term t).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.distance import Distance, distance_name
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results.decay import CurveFit, DecayCurve, DecayFit, DecayFits
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.stats.bootstrap import Bootstrap
from transferstats.stats.curves import (
    PERFECT_FIT,
    count_parameters,
    curve_flags,
    fit_curve,
    fitted_values,
    information_criterion,
)
from transferstats.stats.decay_terms import (
    DISTANCE_UNITS,
    CurveStatistic,
    DecayStatistic,
    Side,
    Term,
)
from transferstats.stats.estimation import estimate
from transferstats.stats.families import Family, find_family
from transferstats.stats.influence import check_weights, mean_penalty, penalties
from transferstats.stats.projection import BatchFit
from transferstats.stats.statistics import StatisticLike, linear_statistic

__all__ = ["CurveFit", "DecayStatistic", "fit_curve", "fit_decay"]


BAND_POINTS = 61
"""Distances at which the fitted curve and its band are tabulated."""


def fit_decay(
    grid: TransferGrid,
    family: str = "saturating",
    *,
    direction: str = "both",
    distance: Distance = "index",
    loss: str | None = None,
    method: Bootstrap | None = None,
    conf_level: float = 0.95,
    scale: str = "log",
) -> DecayFits:
    """Fit a curve of penalty against layer distance, in every dataset.

    Parameters
    ----------
    grid: losses of one subject.
    family: constant, linear (a + b d), log (a + b log d), power (a d^b), saturating (a (1 - exp(-d/tau))),
        michaelis_menten (a d / (c + d)) or isotonic.
    direction: ``"both"``, or ``"separate"`` for own forward and backward parameters and their contrasts.
    distance: ``"index"`` (layers), ``"depth"`` (fraction of the whole depth) or an (L, L) matrix.
    loss: "kl", "ce" or "disagreement"; the grid's own by default.
    method: None for crossed intervals, or a :class:`Bootstrap` plan. conf_level: nominal coverage in (0, 1).
    scale: ``"log"`` for intervals of positive parameters on the log scale, or ``"identity"``.

    Returns
    -------
    :class:`DecayFits`, one :class:`DecayFit` a dataset. A parameter on a bound has a NaN interval and a flag.

    Raises
    ------
    DesignError: unknown names, or fewer distinct distances than parameters + 1.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> fit = ts.fit_decay(grid, family="saturating")[0]
    >>> [one.terms[0] for one in fit.estimates]
    ['a', 'tau', 'half_distance', 'initial_slope']
    """
    if scale not in ("log", "identity"):
        raise DesignError(f"unknown scale {scale!r}: use 'log' or 'identity'")
    statistic = DecayStatistic(find_family(family).name, direction, grid.scale(distance))
    chosen = grid if loss is None else grid.with_loss(loss)
    ask = Question(chosen, method, conf_level)
    terms, average = _term_estimates(ask, statistic, scale)
    curves = [_curves(ask, statistic, index) for index in range(len(statistic.sides(grid.n_layers)))]
    fits = [
        _assemble(chosen, index, statistic, terms[index], tuple(side[index] for side in curves))
        for index in range(len(chosen.datasets))
    ]
    return DecayFits(tuple(replace(fit, conf_level=conf_level) for fit in fits), average)


@dataclass(frozen=True, slots=True)
class Question:
    """What every estimate of one fit has in common."""

    grid: TransferGrid
    method: Bootstrap | None
    conf_level: float

    def answer(self, statistic: StatisticLike) -> Estimates:
        """Estimates of a statistic, one a dataset and their average."""
        return estimate(self.grid, statistic, method=self.method, conf_level=self.conf_level)


def mean_cells(grid: TransferGrid, index: int) -> FloatArray:
    """(L, L) token-weighted mean penalty of one dataset."""
    data = grid.datasets[index]
    losses = data.loss(grid.loss)
    return mean_penalty(penalties(losses), check_weights(data.tokens, losses.shape[1]))


def _assemble(
    grid: TransferGrid,
    index: int,
    statistic: DecayStatistic,
    estimates: tuple[Estimate, ...],
    curves: tuple[DecayCurve, ...],
) -> DecayFit:
    family, centre = find_family(statistic.family), mean_cells(grid, index)
    sides = statistic.sides(grid.n_layers)
    rss, n_parameters, flags = summarise(family, sides, statistic.fits(centre[None]), centre)
    n_cells = sum(len(side.cells) for side in sides)
    return DecayFit(
        family=family.name,
        label=family.label,
        direction=statistic.direction,
        distance=distance_name(statistic.distance),
        dataset=grid.datasets[index].name,
        estimates=tuple(_explained(one, flags) for one in estimates),
        curves=curves,
        rss=rss,
        aicc=information_criterion(rss, n_cells, n_parameters),
        n_cells=n_cells,
        n_distances=len(np.unique(np.concatenate([side.points.x for side in sides]))),
        n_parameters=n_parameters,
        conf_level=estimates[0].conf_level,
        unit=grid.loss_unit,
        flags=flags,
    )


def _explained(one: Estimate, flags: tuple[str, ...]) -> Estimate:
    """The estimate, with the reason where a bound left it without an interval."""
    if np.isfinite(one.conf_low):
        return one
    reasons = [flag for flag in flags if " bound: " in flag]
    return replace(one, note="; ".join([*reasons, one.note]))


def summarise(
    family: Family, sides: tuple[Side, ...], fits: tuple[BatchFit, ...], penalty: FloatArray
) -> tuple[float, int, tuple[str, ...]]:
    """Residual sum of squares over cells (0 where only rounding is left), parameters that AICc counts, flags."""
    rss, total, n_parameters = 0.0, 0.0, 0
    flags: list[str] = []
    for side, fit in zip(sides, fits, strict=True):
        cells = penalty.reshape(-1)[side.cells]
        fitted = fitted_values(family, fit, side.points.x)[0]
        rss += float(((cells - fitted[side.points.index]) ** 2).sum())
        total += float((cells**2).sum())
        n_parameters += count_parameters(family, fit.parameters[0])
        prefix = "" if side.label == "both" else f"{side.label}: "
        means = side.points.averaging @ cells
        flags += [prefix + flag for flag in curve_flags(family, fit, side.points.x, means)]
    if rss <= PERFECT_FIT * total:
        rss = 0.0
        flags.append("the curve fits every cell exactly, so AICc is undefined")
    return rss, n_parameters, tuple(flags)


def _term_estimates(
    ask: Question, statistic: DecayStatistic, scale: str
) -> tuple[list[tuple[Estimate, ...]], tuple[Estimate, ...]]:
    """Scalar estimates in the order of the terms, per dataset and for the average (empty with one dataset).

    A positive term is estimated on the log scale, unless it is not positive in some dataset.
    """
    n_datasets = len(ask.grid.datasets)
    terms = statistic.chosen(ask.grid.n_layers)
    values = statistic.batch(np.stack([mean_cells(ask.grid, index) for index in range(n_datasets)]))
    done: dict[str, list[Estimate]] = {}
    for on_log in (True, False):
        wanted = [
            term
            for term, value in zip(terms, values.T, strict=True)
            if (scale == "log" and term.monomial and bool((value > 0).all())) == on_log
        ]
        if not wanted:
            continue
        joint = ask.answer(statistic.only(*(term.name for term in wanted), log=on_log))
        for index, term in enumerate(wanted):
            note = "not positive, so its interval is on the identity scale"
            note = note if scale == "log" and term.monomial and not on_log else ""
            unit = term.unit(ask.grid.loss_unit, DISTANCE_UNITS[distance_name(statistic.distance)])
            done[term.name] = [split_term(one, index, term, unit=unit, note=note) for one in joint]
            if on_log:
                done[term.name] = [from_log(one, term) for one in done[term.name]]
    members = [tuple(done[term.name][member] for term in terms) for member in range(len(done[terms[0].name]))]
    return members[:n_datasets], members[n_datasets] if len(members) > n_datasets else ()


def split_term(joint: Estimate, index: int, term: Term, *, unit: str, note: str = "") -> Estimate:
    """One term of a vector estimate as a scalar estimate."""
    names = ("estimate", "std_error", "statistic", "df", "p_value", "conf_low", "conf_high", "parts", "residual")
    changes: dict[str, Any] = {
        name: np.asarray(getattr(joint, name)[..., index] if joint.estimate.ndim else getattr(joint, name))
        for name in names
    }
    if joint.replicates.size:
        changes["replicates"] = joint.replicates.reshape(len(joint.replicates), -1)[:, index]
    notes = "; ".join(text for text in (joint.note, note) if text)
    return replace(joint, terms=(term.name,), unit=unit, note=notes, **changes)


def from_log(one: Estimate, term: Term) -> Estimate:
    """A scalar estimate of a logarithm, transformed back; ratios keep their test, against a ratio of 1."""
    value = np.exp(one.estimate)
    changes: dict[str, Any] = {"estimate": value, "std_error": value * one.std_error}
    if term.name.endswith("_ratio"):
        extra = "p_value against a ratio of 1"
    else:
        extra = "no test against 0 on the log scale"
        changes.update(statistic=np.asarray(np.nan), p_value=np.asarray(np.nan))
    return replace(
        one,
        conf_low=np.exp(one.conf_low),
        conf_high=np.exp(one.conf_high),
        replicates=np.exp(one.replicates),
        scale="log",
        note="; ".join(text for text in (one.note, extra) if text),
        **changes,
    )


def _curves(ask: Question, statistic: DecayStatistic, index: int) -> list[DecayCurve]:
    """The curve of one side in every dataset."""
    n_layers = ask.grid.n_layers
    side = statistic.sides(n_layers)[index]
    family = find_family(statistic.family)
    x = side.points.x
    levels_only = family.basis is None and not family.separable
    at = x if levels_only else np.linspace(float(x[0]), float(x[-1]), BAND_POINTS)
    names = tuple(f"distance {value:.12g}" for value in x)
    averages = linear_statistic(side.spread(np.eye(len(x))), name="distance", terms=names)
    observed, fitted = ask.answer(averages), ask.answer(CurveStatistic(statistic, index, at))
    return [
        DecayCurve(
            direction=side.label,
            observed_distance=x,
            n_cells=side.points.weights,
            observed=observed[member],
            distance=at,
            fitted=fitted[member],
        )
        for member in range(len(ask.grid.datasets))
    ]

"""Penalty against layer distance: fitted parameters with crossed intervals.

The curve is fitted to the mean penalty of each off-diagonal cell, every cell with weight 1. The interval never
uses the residual sigma of that fit: cells share seeds and units, so it comes from the influence of every seed
and unit on the fitted parameters (implicit derivative of the least-squares fit, then the two-term t).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from transferstats.errors import DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results.decay import CurveFit, DecayCurve, DecayFit, DecayFits
from transferstats.results.estimate import Estimate
from transferstats.stats.crossed import crossed_estimate
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
    resolve_distance,
)
from transferstats.stats.families import Family, find_family
from transferstats.stats.influence import check_weights, mean_penalty, penalties
from transferstats.stats.projection import BatchFit
from transferstats.stats.statistics import linear_statistic

__all__ = ["CurveFit", "DecayStatistic", "fit_curve", "fit_decay"]

FloatArray = npt.NDArray[np.float64]

DIRECTION_PREFIXES = ("forward: ", "backward: ")
BAND_POINTS = 61
"""Distances at which the fitted curve and its band are tabulated."""


def fit_decay(
    grid: TransferGrid,
    family: str = "saturating",
    *,
    direction: str = "both",
    distance: str | npt.ArrayLike = "index",
    loss: str | None = None,
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
    loss: "kl" or "ce"; the grid's own by default. conf_level: nominal coverage in (0, 1).
    scale: ``"log"`` for intervals of positive parameters on the log scale, or ``"identity"``.

    Returns
    -------
    :class:`DecayFits`, one :class:`DecayFit` a dataset. A parameter on a bound has a NaN interval and a flag.

    Raises
    ------
    DesignError: unknown names, or fewer distinct distances than parameters + 1.
    """
    if scale not in ("log", "identity"):
        raise DesignError(f"unknown scale {scale!r}: use 'log' or 'identity'")
    resolved = distance if isinstance(distance, str) else resolve_distance(grid.n_layers, distance)
    statistic = DecayStatistic(find_family(family).name, direction, resolved)
    statistic.chosen(grid.n_layers)
    fits = tuple(
        _fit_dataset(data, statistic, loss=loss or grid.loss, unit=grid.unit, conf_level=conf_level, scale=scale)
        for data in grid.datasets
    )
    return DecayFits(fits, average_terms(fits))


def _fit_dataset(
    data: DatasetLosses, statistic: DecayStatistic, *, loss: str, unit: str, conf_level: float, scale: str
) -> DecayFit:
    family = find_family(statistic.family)
    losses, weights = data.loss(loss), data.tokens
    centre = mean_penalty(penalties(losses), check_weights(weights, losses.shape[1]))
    fits, sides = statistic.fits(centre[None]), statistic.sides(data.n_layers)
    rss, n_parameters, flags = summarise(family, sides, fits, centre)
    n_cells = sum(len(side.cells) for side in sides)
    estimates = _term_estimates(losses, statistic, weights, unit, conf_level, scale)
    curves = tuple(
        _curve(losses, statistic, index, weights=weights, unit=unit, conf_level=conf_level)
        for index in range(len(sides))
    )
    return DecayFit(
        family=family.name,
        label=family.label,
        direction=statistic.direction,
        distance=_distance_name(statistic),
        dataset=data.name,
        estimates=tuple(_labelled(estimate, data.name, flags) for estimate in estimates),
        curves=curves,
        rss=rss,
        aicc=information_criterion(rss, n_cells, n_parameters),
        n_cells=n_cells,
        n_distances=len(np.unique(np.concatenate([side.points.x for side in sides]))),
        n_parameters=n_parameters,
        conf_level=conf_level,
        unit=unit,
        flags=flags,
    )


def _labelled(estimate: Estimate, dataset: str, flags: tuple[str, ...]) -> Estimate:
    """The estimate with its dataset, and with the reason where a bound left it without an interval."""
    side = estimate.terms[0].rpartition("_")[2]
    reasons = [
        flag for flag in flags if " bound: " in flag and (side in flag or not flag.startswith(DIRECTION_PREFIXES))
    ]
    if np.isfinite(estimate.conf_low) or not reasons:
        return replace(estimate, dataset=dataset)
    return replace(estimate, dataset=dataset, note="; ".join([*reasons, estimate.note]))


def _distance_name(statistic: DecayStatistic) -> str:
    return statistic.distance if isinstance(statistic.distance, str) else "custom"


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
    losses: FloatArray,
    statistic: DecayStatistic,
    weights: FloatArray | None,
    unit: str,
    conf_level: float,
    scale: str,
) -> list[Estimate]:
    """One scalar estimate a term, positive terms on the log scale, in the order of the terms."""
    n_layers = losses.shape[-1]
    terms = statistic.chosen(n_layers)
    centre = mean_penalty(penalties(losses), check_weights(weights, losses.shape[1]))
    values = dict(zip((term.name for term in terms), statistic.batch(centre[None])[0], strict=True))
    done: dict[str, Estimate] = {}
    for on_log in (True, False):
        wanted = [term for term in terms if (scale == "log" and term.monomial and values[term.name] > 0) == on_log]
        if not wanted:
            continue
        part = statistic.only(*(term.name for term in wanted), log=on_log)
        joint = crossed_estimate(losses, part, conf_level=conf_level, weights=weights, unit=unit)
        for index, term in enumerate(wanted):
            named = term.unit(unit, DISTANCE_UNITS[_distance_name(statistic)])
            done[term.name] = split_term(joint, index, term, unit=named, on_log=on_log, log_wanted=scale == "log")
    return [done[term.name] for term in terms]


def split_term(joint: Estimate, index: int, term: Term, *, unit: str, on_log: bool, log_wanted: bool) -> Estimate:
    """One term of a vector estimate as a scalar; values made on the log scale are transformed back."""

    def pick(values: FloatArray) -> FloatArray:
        return np.asarray(values[..., index] if joint.estimate.ndim else values)

    fields = {
        name: pick(getattr(joint, name))
        for name in (
            "estimate",
            "std_error",
            "statistic",
            "df",
            "p_value",
            "conf_low",
            "conf_high",
            "parts",
            "residual",
        )
    }
    notes = [joint.note] if joint.note else []
    ratio = term.name.endswith("_ratio")
    if on_log:
        value = np.exp(fields["estimate"])
        fields["std_error"] = value * fields["std_error"]
        fields.update(estimate=value, conf_low=np.exp(fields["conf_low"]), conf_high=np.exp(fields["conf_high"]))
        if ratio:
            notes.append("p_value against a ratio of 1")
        else:
            fields.update(statistic=np.asarray(np.nan), p_value=np.asarray(np.nan))
            notes.append("no test against 0 on the log scale")
    elif term.monomial and log_wanted:
        notes.append("not positive, so the interval is on the identity scale")
    return replace(
        joint,
        terms=(term.name,),
        unit=unit,
        scale="log" if on_log else "identity",
        note="; ".join(notes),
        **fields,
    )


def _curve(
    losses: FloatArray,
    statistic: DecayStatistic,
    index: int,
    *,
    weights: FloatArray | None,
    unit: str,
    conf_level: float,
) -> DecayCurve:
    n_layers = losses.shape[-1]
    side = statistic.sides(n_layers)[index]
    family = find_family(statistic.family)
    x = side.points.x
    levels_only = family.basis is None and not family.separable
    at = x if levels_only else np.linspace(float(x[0]), float(x[-1]), BAND_POINTS)
    averages = linear_statistic(
        side.spread(np.eye(len(x)), n_layers),
        name="distance",
        terms=tuple(f"distance {value:.12g}" for value in x),
    )
    observed = crossed_estimate(losses, averages, conf_level=conf_level, weights=weights, unit=unit)
    fitted = crossed_estimate(
        losses, CurveStatistic(statistic, index, at), conf_level=conf_level, weights=weights, unit=unit
    )
    return DecayCurve(
        direction=side.label,
        observed_distance=x,
        n_cells=side.points.weights,
        observed=observed,
        distance=at,
        fitted=fitted,
    )


def average_terms(fits: tuple[DecayFit, ...]) -> tuple[Estimate, ...]:
    """Equal-weight averages over datasets, of terms whose interval exists and has one scale everywhere."""
    if len(fits) < 2 or fits[0].family == "isotonic":
        return ()
    averages = []
    for position in range(len(fits[0].estimates)):
        terms = [fit.estimates[position] for fit in fits]
        if len({term.scale for term in terms}) == 1 and all(np.isfinite(term.conf_low) for term in terms):
            averages.append(terms[0])
    return tuple(averages)

"""Several claims at once. The family is always named, because the correction is meaningless without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import false_discovery_control

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError
from transferstats.results.estimate import Estimate
from transferstats.results.multiplicity import AdjustedTests
from transferstats.stats.bootstrap import Bootstrap, studentized_deviations
from transferstats.stats.crossed import crossed_piece
from transferstats.stats.intervals import check_conf_level
from transferstats.stats.statistics import StatisticLike

METHODS: tuple[str, ...] = ("holm", "bonferroni", "bh", "by")
"""Holm (default) and Bonferroni bound the family-wise error, BH and BY the false discovery rate."""

FEWEST_SEEDS = 5
"""Below this many seeds a bootstrap of seeds cannot show its own tails, and no band is offered."""


def adjusted_p(p_values: npt.ArrayLike, method: str = "holm") -> FloatArray:
    """Adjusted p-values in the shape given; NaN stays NaN and is not counted as a test."""
    if method not in METHODS:
        raise DesignError(f"unknown correction {method!r}: use one of {', '.join(METHODS)}")
    values = np.asarray(p_values, dtype=np.float64)
    valid = ~np.isnan(values)
    if ((values[valid] < 0) | (values[valid] > 1)).any():
        raise DesignError("p-values must lie between 0 and 1")
    adjusted = np.full(values.shape, np.nan)
    if valid.any():
        adjusted[valid] = _correct(values[valid], method)
    return adjusted


def _correct(values: FloatArray, method: str) -> FloatArray:
    """Adjusted p-values of (m,) valid ones.

    Not by ``statsmodels.multipletests``: that collects all garbage of the process on every call, which takes
    longer than everything else in a verdict. The tests compare the two.
    """
    if method == "bh":
        return np.asarray(false_discovery_control(values, method="bh"))
    if method == "by":
        return np.asarray(false_discovery_control(values, method="by"))
    if method == "bonferroni":
        return np.minimum(values * len(values), 1.0)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def adjust(
    tests: Estimate | Sequence[Estimate] | npt.ArrayLike,
    family: str,
    *,
    method: str = "holm",
    conf_level: float = 0.95,
    terms: Sequence[str] = (),
) -> AdjustedTests:
    """Correct a named family of tests for their number.

    Parameters
    ----------
    tests: Estimates (their two-sided p-values against 0, all terms) or p-values.
    family: what the family is, in words ("the 30 cells", "mean, slope and asymmetry"); it is reported.
    method: "holm" (Holm 1979, default), "bonferroni", "bh" (Benjamini & Hochberg 1995,
        doi 10.1111/j.2517-6161.1995.tb02031.x) or "by" (doi 10.1214/aos/1013699998) for screening.
    terms: names of the p-values.

    Raises
    ------
    DesignError: no family named, an unknown method, p-values outside 0..1, no valid p-value.
    """
    if not family.strip():
        raise DesignError("name the family of tests, such as family='all cells'")
    level = check_conf_level(conf_level)
    values, names, unit = _collect(tests)
    names = tuple(terms) or names
    if len(names) != len(values):
        raise DesignError(f"{len(values)} p-values but {len(names)} names")
    valid = ~np.isnan(values)
    if not valid.any():
        raise DesignError(f"family {family!r}: all p-values are NaN, there is nothing to correct")
    adjusted = adjusted_p(values, method)
    return AdjustedTests(
        family=family,
        terms=names,
        p_values=values,
        p_adjusted=adjusted,
        reject=adjusted < 1 - level,
        n_tests=int(valid.sum()),
        n_dropped=int((~valid).sum()),
        method=method,
        conf_level=level,
        unit=unit,
    )


def _collect(tests: Estimate | Sequence[Estimate] | npt.ArrayLike) -> tuple[FloatArray, tuple[str, ...], str]:
    several = [tests] if isinstance(tests, Estimate) else tests
    if isinstance(several, Sequence) and several and all(isinstance(one, Estimate) for one in several):
        estimates = [one for one in several if isinstance(one, Estimate)]
        values = np.concatenate([np.atleast_1d(one.p_value) for one in estimates])
        return values, tuple(term for one in estimates for term in one.terms), estimates[0].unit
    values = np.asarray(tests, dtype=np.float64).reshape(-1)
    return values, tuple(f"test {index + 1}" for index in range(len(values))), ""


def supt_band(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    plan: Bootstrap,
    *,
    conf_level: float = 0.95,
    weights: npt.ArrayLike | None = None,
    distance: npt.ArrayLike | None = None,
    unit: str = "nats/token",
) -> Estimate:
    """Simultaneous band for all terms of a vector statistic: theta_j +- c s_j, c from max_j |t*_j|.

    Bootstrap-t sup-t band (Montiel Olea & Plagborg-Moller 2019, doi 10.1002/jae.2656). Parameters as in
    ``bootstrap_estimate``; the p-values are adjusted in the same way. DesignError below 5 seeds, where the
    bootstrap cannot show the tails that the band needs.
    """
    level = check_conf_level(conf_level)
    piece = crossed_piece(loss, statistic, weights=weights, distance=distance, unit=unit)
    if piece.labels.n_seeds < FEWEST_SEEDS:
        raise DesignError(
            f"a sup-t band needs at least {FEWEST_SEEDS} seeds, got {piece.labels.n_seeds}; use "
            "adjust(..., method='holm') on the crossed p-values"
        )
    deviations, scale = studentized_deviations(loss, statistic, plan, weights=weights, distance=distance)
    # A replicate without variance in some term (one seed drawn K times) would be infinitely far out there.
    largest = np.abs(deviations).max(axis=1, where=np.isfinite(deviations), initial=0.0)
    reach = float(np.quantile(largest, level)) * scale
    result = piece.interval(conf_level=level)
    scores = np.abs(piece.estimate) / scale
    p_value = (1 + (largest[:, None] >= scores).sum(axis=0)) / (len(largest) + 1)
    return replace(
        result,
        conf_low=np.asarray(result.estimate - _shaped(reach, result)),
        conf_high=np.asarray(result.estimate + _shaped(reach, result)),
        p_value=_shaped(p_value, result),
        method="sup-t band, bootstrap-t",
        replicates=deviations,
    )


def _shaped(values: FloatArray, like: Estimate) -> FloatArray:
    return np.asarray(values).reshape(np.shape(like.estimate))

"""Enough to matter? Minimum-effect test and equivalence test read off one family of intervals.

Equivalence by two one-sided tests (Schuirmann 1987, doi 10.1007/BF01068419); the three-way reading follows
Lakens, Scheel & Isager 2018 (doi 10.1177/2515245918770963). The smallest effect of interest has no default:
it is a scientific statement, made before looking.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import Estimates
from transferstats.results.relevance import RelevanceTest, Verdict
from transferstats.stats.intervals import check_conf_level, interval_from_parts, p_greater

Smallest = float | tuple[float, float]


class _HasExcess(Protocol):
    """A test whose estimand is an excess over a null, such as :class:`NullTest`."""

    @property
    def excess(self) -> Estimates: ...


def check_smallest(smallest: Smallest) -> tuple[float, float]:
    """(low, high) bounds of the region too small to matter; DesignError unless low < 0 < high, finite.

    One positive number means (-smallest, smallest).
    """
    if isinstance(smallest, tuple):
        if len(smallest) != 2:
            raise DesignError(f"smallest is one number or (low, high), got {len(smallest)} numbers")
        low, high = (float(bound) for bound in smallest)
    else:
        low, high = -float(smallest), float(smallest)
    if not (math.isfinite(low) and math.isfinite(high) and low < 0 < high):
        raise DesignError(
            f"smallest must be a positive number (the smallest penalty of interest, in the unit of the "
            f"estimate), or bounds (low, high) with low < 0 < high; got {smallest!r}"
        )
    return low, high


def verdict(
    estimate: npt.ArrayLike,
    parts: npt.ArrayLike,
    dfs: npt.ArrayLike,
    *,
    smallest: Smallest,
    conf_level: float = 0.95,
) -> Verdict:
    """Judge estimates of shape S against the smallest effect of interest.

    Parameters
    ----------
    estimate, parts, dfs: as in :func:`transferstats.stats.crossed.interval_from_parts`.
    smallest: positive, in the unit of the estimate, for the region +-smallest; or (low, high).
    conf_level: level of the interval; the equivalence interval is at 1 - 2 (1 - conf_level).

    Raises
    ------
    DesignError: smallest missing its sign (<= 0), NaN, or conf_level outside (0, 1).
    """
    low, high = check_smallest(smallest)
    return _judge(np.asarray(estimate, dtype=np.float64), parts, dfs, (low, high), conf_level)


def _judge(
    centre: FloatArray,
    parts: npt.ArrayLike,
    dfs: npt.ArrayLike,
    bounds: tuple[float, float],
    conf_level: float,
) -> Verdict:
    level = check_conf_level(conf_level)
    alpha = 1 - level
    low, high = bounds
    interval = interval_from_parts(centre, parts, dfs, conf_level=level)
    p_exceeds = p_greater(centre - high, parts, dfs)
    p_below = p_greater(low - centre, parts, dfs)
    not_above = p_greater(high - centre, parts, dfs)
    not_below = p_greater(centre - low, parts, dfs)
    p_within = np.fmax(not_above, not_below)
    # Decided by p-values alone, so that text and numbers cannot disagree in the last digit.
    above, below = p_exceeds < alpha / 2, p_below < alpha / 2
    inside = p_within < alpha
    text = np.select(
        [np.isnan(p_exceeds), above | below, inside],
        ["undefined", "exceeds", "within"],
        default="inconclusive",
    )
    undefined = np.full(np.shape(p_within), np.nan)[()]
    narrow = (undefined, undefined)
    if 1 - 2 * alpha > 0:
        narrow = tuple(interval_from_parts(centre, parts, dfs, conf_level=1 - 2 * alpha))  # type: ignore[assignment]
    return Verdict(
        verdict=text[()],
        direction=(above.astype(np.int64) - below.astype(np.int64))[()],
        p_exceeds=p_exceeds,
        p_below=p_below,
        p_within=p_within,
        conf_low=interval.conf_low,
        conf_high=interval.conf_high,
        within_low=narrow[0],
        within_high=narrow[1],
        low=low,
        high=high,
        conf_level=level,
    )


Judgeable = Estimate | Estimates | _HasExcess | Iterable[Estimate]

AGREEMENT = 1e-6
"""Relative difference up to which limits rebuilt from the parts count as the limits of the estimate."""


def relevance_test(estimate: Judgeable, *, smallest: Smallest, conf_level: float | None = None) -> RelevanceTest:
    """Judge estimates, or the excess of a null test, against the smallest effect of interest.

    Parameters
    ----------
    estimate: an Estimate, Estimates, a NullTest (its excess is judged), or several Estimates.
    smallest: the smallest effect that matters, in the unit of the estimate: one positive number for the region
        +-smallest, or (low, high) with low < 0 < high. For an estimate on the log scale (a positive
        parameter): the region 0..smallest, or (low, high) with 0 < low < high.
    conf_level: level of the interval; each estimate's own unless given.

    Raises
    ------
    DesignError: no usable ``smallest``, or an interval that is not made of variance parts (percentile-type
        bootstraps), because verdict and interval could then disagree.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> str(ts.relevance_test(ts.estimate(grid, "mean"), smallest=0.05).verdict)
    'exceeds'
    >>> str(ts.relevance_test(ts.estimate(grid, "mean"), smallest=1.0).verdict)
    'within'
    """
    members = tuple(_members(estimate))
    if not members:
        raise DesignError("there is no estimate to judge")
    verdicts = tuple(
        _verdict_of(member, smallest, member.conf_level if conf_level is None else conf_level)
        for member in members
    )
    return RelevanceTest(members, verdicts, (verdicts[-1].low, verdicts[-1].high))


def _members(estimate: Judgeable) -> Iterable[Estimate]:
    if isinstance(estimate, Estimate):
        return (estimate,)
    if isinstance(estimate, Estimates):
        return estimate.members
    if hasattr(estimate, "excess"):
        return estimate.excess.members
    return estimate


def _verdict_of(estimate: Estimate, smallest: Smallest, conf_level: float) -> Verdict:
    _refuse_foreign_interval(estimate)
    if estimate.scale == "identity":
        return _judge(estimate.estimate, estimate.parts, estimate.dfs, check_smallest(smallest), conf_level)
    low, high = _positive_bounds(smallest)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.log(estimate.estimate)
        judged = _judge(centre, estimate.parts, estimate.dfs, (np.log(low), np.log(high)), conf_level)
    limits = {
        name: np.exp(getattr(judged, name)) for name in ("conf_low", "conf_high", "within_low", "within_high")
    }
    return replace(judged, low=low, high=high, **limits)


def _positive_bounds(smallest: Smallest) -> tuple[float, float]:
    """Bounds for a positive parameter: (0, smallest), or 0 < low < high as given."""
    if not isinstance(smallest, tuple):
        return 0.0, check_smallest(smallest)[1]
    low, high = (float(bound) for bound in smallest)
    if not 0 < low < high < math.inf:
        raise DesignError(f"bounds for a positive parameter need 0 < low < high, got {smallest!r}")
    return low, high


def _refuse_foreign_interval(estimate: Estimate) -> None:
    centre = np.asarray(estimate.estimate)
    positive = estimate.scale == "log"
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.log(centre) if positive else centre
        high = interval_from_parts(middle, estimate.parts, estimate.dfs, conf_level=estimate.conf_level).conf_high
    rebuilt = np.exp(high) if positive else high
    same = np.isclose(rebuilt, estimate.conf_high, rtol=AGREEMENT, atol=0.0, equal_nan=True)
    if not same.all():
        raise DesignError(
            f"the interval of {', '.join(estimate.terms[:3])} ({estimate.method}) is not made of variance "
            "parts, so a verdict could contradict it; use method=None (crossed) or Bootstrap(kind='two_term')"
        )

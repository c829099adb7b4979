"""Intervals and p-values from several independent variance parts, each with its own degrees of freedom.

For Gaussian data the interval estimate +- sqrt(sum_j t_j^2 part_j) is conservative whatever the true parts
are, because P(Z^2 <= x) is concave in x. The p-values invert that same interval, so the two never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from transferstats.arrays import FloatArray
from transferstats.errors import DataError, DesignError

FEW_SEEDS = 5
"""With fewer seeds intervals are valid but wide: what seeds cause is known to a factor of two at best."""

HALVINGS = 200
"""Upper bound on bisection steps; 60 to 80 reach machine precision in log(alpha)."""

TOLERANCE = 1e-14
"""Bisection stops when no bracket of log(alpha) is wider: p is then exact to about 14 digits."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval; unpacks as ``low, high = interval``.

    Attributes
    ----------
    conf_low, conf_high: limits, in the shape and unit of the estimate; NaN where undefined.
    half_width: sqrt(sum_j t_j^2 part_j).
    conf_level: nominal coverage.
    """

    conf_low: FloatArray
    conf_high: FloatArray
    half_width: FloatArray
    conf_level: float

    def __iter__(self) -> Iterator[FloatArray]:
        return iter((self.conf_low, self.conf_high))


def check_conf_level(conf_level: float) -> float:
    """The level as a float; DesignError outside (0, 1)."""
    level = float(conf_level)
    if not 0 < level < 1:
        raise DesignError(f"conf_level must lie strictly between 0 and 1 (such as 0.95), got {conf_level!r}")
    return level


def interval_from_parts(
    estimate: npt.ArrayLike, parts: npt.ArrayLike, dfs: npt.ArrayLike, *, conf_level: float
) -> Interval:
    """Two-sided interval estimate +- sqrt(sum_j t_{df_j}^2 part_j).

    Parameters
    ----------
    estimate: shape S (any).
    parts: (n_parts, *S) variances of the estimate, in its unit squared, none negative.
    dfs: (n_parts,) positive degrees of freedom; infinite for a known variance.
    conf_level: nominal coverage in (0, 1).

    Limits are NaN where all parts are 0 or any is NaN: no observed variation is no evidence of precision.

    Raises
    ------
    DesignError: conf_level outside (0, 1). DataError: negative parts, shapes that do not match.
    """
    level = check_conf_level(conf_level)
    centre, variances, degrees = check_parts(estimate, parts, dfs)
    quantile = t_quantile((1 - level) / 2, degrees)
    half = np.sqrt(_combine(quantile, variances))
    half = np.where((variances > 0).any(axis=0), half, np.nan)
    return Interval((centre - half)[()], (centre + half)[()], half[()], level)


def p_greater(difference: npt.ArrayLike, parts: npt.ArrayLike, dfs: npt.ArrayLike) -> FloatArray:
    """One-sided p-value of ``difference`` > 0 by inverting the interval.

    The p-value is the alpha at which difference = sqrt(sum_j t_{df_j, 1-alpha}^2 part_j), found by bisection.
    Shapes as in :func:`interval_from_parts`; NaN where all parts are 0 or any is NaN.
    """
    gap, variances, degrees = check_parts(difference, parts, dfs)
    defined = (variances > 0).any(axis=0) & np.isfinite(variances).all(axis=0) & np.isfinite(gap)
    upper = np.full(gap.shape, np.nan)
    if defined.any():
        upper[defined] = _upper_tail(np.abs(gap[defined]), variances[:, defined], degrees)
    certain = np.isinf(gap) & (variances > 0).any(axis=0)
    upper = np.where(certain, 0.0, upper)
    return np.asarray(np.where(gap < 0, 1 - upper, upper))[()]


def p_two_sided(difference: npt.ArrayLike, parts: npt.ArrayLike, dfs: npt.ArrayLike) -> FloatArray:
    """Two-sided p-value against 0: the alpha at which the 1 - alpha interval just touches 0."""
    return np.asarray(2 * p_greater(np.abs(np.asarray(difference, dtype=np.float64)), parts, dfs))[()]


def effective_df(parts: npt.ArrayLike, dfs: npt.ArrayLike) -> FloatArray:
    """Satterthwaite degrees of freedom of the summed parts, for display: (sum v)^2 / sum(v^2 / df).

    The interval does not use it. NaN where all parts are 0. (Satterthwaite 1946, doi 10.2307/3002019)
    """
    variances = np.asarray(parts, dtype=np.float64)
    degrees = np.asarray(dfs, dtype=np.float64).reshape(-1, *(1,) * (variances.ndim - 1))
    total = variances.sum(axis=0)
    # Shares first: squares of tiny variances (1e-12 nats) would underflow.
    shares = variances / np.where(total > 0, total, np.nan)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / (shares**2 / degrees).sum(axis=0))[()]


def t_quantile(tail: FloatArray | float, df: FloatArray) -> FloatArray:
    """Upper quantile of t, like ``scipy.stats.t.isf`` without its overhead of a tenth of a millisecond."""
    return np.asarray(-special.stdtrit(df, tail))


def t_tail(value: FloatArray, df: FloatArray) -> FloatArray:
    """Upper tail probability of t, like ``scipy.stats.t.sf``."""
    return np.asarray(special.stdtr(df, -value))


def check_parts(
    estimate: npt.ArrayLike, parts: npt.ArrayLike, dfs: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The three arrays with matching shapes: S, (n_parts, *S), (n_parts,)."""
    variances = np.asarray(parts, dtype=np.float64)
    degrees = np.asarray(dfs, dtype=np.float64)
    if degrees.ndim != 1 or variances.ndim < 1 or len(variances) != len(degrees) or not len(degrees):
        raise DataError(
            f"parts must be (n_parts, ...) and dfs (n_parts,), got shapes {variances.shape} and {degrees.shape}"
        )
    if not (degrees > 0).all():
        raise DesignError(f"degrees of freedom must be positive, got {degrees.tolist()}")
    if (variances < 0).any() or np.isinf(variances).any():
        raise DataError("variance parts must be finite and not negative; truncate differences at 0 first")
    centre = np.asarray(estimate, dtype=np.float64)
    try:
        shape = np.broadcast_shapes(centre.shape, variances.shape[1:])
    except ValueError as error:
        raise DataError(
            f"estimate has shape {centre.shape}, its parts {variances.shape[1:]}: they must match"
        ) from error
    spread = variances.reshape(len(degrees), *(1,) * (len(shape) - variances.ndim + 1), *variances.shape[1:])
    return (
        np.broadcast_to(centre, shape),
        np.broadcast_to(spread, (len(degrees), *shape)),
        degrees,
    )


def _combine(quantile: FloatArray, variances: FloatArray) -> FloatArray:
    """sum_j t_j^2 v_j with 0 for parts that are 0, whatever their quantile."""
    squares = np.square(quantile).reshape(quantile.shape + (1,) * (variances.ndim - quantile.ndim))
    return np.asarray(np.where(variances == 0, 0.0, squares * variances).sum(axis=0))


def _upper_tail(gap: FloatArray, variances: FloatArray, degrees: FloatArray) -> FloatArray:
    """Alpha in (0, 1/2] with sqrt(sum t^2 v) = gap; ``gap`` (n,) >= 0, ``variances`` (n_parts, n)."""
    standard = gap / np.sqrt(variances.sum(axis=0))
    # The smallest and the largest df bracket the answer, because t quantiles fall with df.
    tails = t_tail(standard, degrees[:, None])
    tails = np.where(variances > 0, tails, np.nan)
    tiny = np.finfo(np.float64).tiny
    low = np.log(np.maximum(np.nanmin(tails, axis=0), tiny))
    high = np.log(np.maximum(np.nanmax(tails, axis=0), tiny))
    for _ in range(HALVINGS):
        if (high - low <= TOLERANCE * np.maximum(1.0, np.abs(low))).all():
            break
        middle = (low + high) / 2
        quantile = t_quantile(np.exp(middle), degrees[:, None])
        with np.errstate(over="ignore"):  # of a t with 1 df far out; infinite is too far as well
            reach = np.where(variances > 0, quantile**2 * variances, 0.0).sum(axis=0)
        too_far = reach > gap**2
        low = np.where(too_far, middle, low)
        high = np.where(too_far, high, middle)
    return np.asarray(np.exp((low + high) / 2))

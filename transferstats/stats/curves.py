"""One curve through points: least squares for any family, without start values and without a covariance.

Points of one study share seeds and units, so a residual sigma says nothing about the uncertainty of a fit;
intervals come from the crossed layer (``fit_decay``). Here is the arithmetic, checked against certified values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.errors import DataError
from transferstats.results.decay import CurveFit
from transferstats.stats.families import Family, find_family, predict
from transferstats.stats.projection import BatchFit, reduce_points, require_distances, solve

FEW_DISTANCES = 4
"""Below this many distinct distances every family fits; the flag says so."""
LARGE_ASYMPTOTE = 2.0
"""An asymptote beyond this many times the largest mean is extrapolation."""
PERFECT_FIT = 1e-26
"""Residual share of the total sum of squares that is nothing but rounding: AICc would be -infinity there."""


def fit_curve(
    x: npt.ArrayLike, y: npt.ArrayLike, family: str, *, weights: npt.ArrayLike | None = None
) -> CurveFit:
    """Weighted least-squares curve through n points.

    Parameters
    ----------
    x: (n,) positive distances, any unit. y: (n,) values, any sign and scale.
    family: constant, linear (a + b d), log (a + b log d), power (a d^b), saturating (a (1 - exp(-d/tau))),
        michaelis_menten (a d / (c + d)) or isotonic (non-decreasing).
    weights: (n,) positive; 1 each by default.

    Returns
    -------
    :class:`CurveFit` with the global minimum of the weighted residual sum of squares.

    Raises
    ------
    DataError: not finite, not positive where needed, different lengths. DesignError: unknown family, or fewer
    distinct distances than parameters + 1.
    """
    chosen = find_family(family)
    distance, values, weight = _check_points(x, y, weights)
    require_distances(chosen, distance)
    points = reduce_points(distance, weight)
    means = points.averaging @ values
    fit = solve(chosen, points.x, means[None], points.weights)
    fitted = fitted_values(chosen, fit, points.x)[0]
    residual = values - fitted[points.index]
    rss = float(weight @ residual**2)
    n_parameters = count_parameters(chosen, fit.parameters[0])
    perfect = rss <= PERFECT_FIT * float(weight @ values**2)
    aicc = float("nan") if perfect else information_criterion(rss, len(values), n_parameters, weight)
    flags = curve_flags(chosen, fit, points.x, means)
    if perfect:
        flags = (*flags, "the curve fits every point exactly, so AICc is undefined")
    elif math.isnan(aicc):
        flags = (*flags, f"{len(values)} points are too few for the AICc of {n_parameters} parameters")
    return CurveFit(
        family=chosen.name,
        label=chosen.label,
        parameters=dict(zip(chosen.parameters, map(float, fit.parameters[0]), strict=False)),
        x=distance,
        fitted=fitted[points.index],
        rss=rss,
        aicc=aicc,
        n=len(values),
        n_parameters=n_parameters,
        on_bound=bool(fit.on_bound[0]),
        flags=flags,
    )


def _check_points(
    x: npt.ArrayLike, y: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    distance, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weight = np.ones(distance.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if distance.ndim != 1 or values.shape != distance.shape or weight.shape != distance.shape:
        raise DataError(
            f"x, y and weights must be vectors of one length, got shapes {distance.shape}, {values.shape} and "
            f"{weight.shape}"
        )
    if not len(distance):
        raise DataError("there are no points to fit")
    if not np.isfinite(values).all():
        raise DataError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are NaN or infinite")
    for name, array in (("distances", distance), ("weights", weight)):
        if not np.isfinite(array).all() or (array <= 0).any():
            raise DataError(f"{name} must be finite and positive; the smallest is {array.min()}")
    return distance, values, weight


def fitted_values(family: Family, fit: BatchFit, x: FloatArray) -> FloatArray:
    """(B, n) curve values at the n distinct distances that were fitted."""
    if family.basis is None and not family.separable:
        return fit.parameters
    return predict(family, fit.parameters, x)


def count_parameters(family: Family, parameters: FloatArray) -> int:
    """Parameters that AICc counts; isotonic: its levels (Meyer & Woodroofe 2000, doi 10.1214/aos/1015956708)."""
    return family.n_parameters or len(np.unique(parameters))


def information_criterion(
    rss: float, n_points: int, n_parameters: int, weights: FloatArray | None = None
) -> float:
    """AICc of Gaussian errors with unknown sigma, on the scale of R's ``AIC``; NaN where undefined."""
    if n_points - n_parameters - 2 <= 0 or rss <= 0:
        return float("nan")
    constant = n_points * (1 + math.log(2 * math.pi))
    if weights is not None:
        constant -= float(np.log(weights).sum())
    counted = n_parameters + 1
    correction = 2 * counted * (counted + 1) / (n_points - counted - 1)
    return n_points * math.log(rss / n_points) + constant + 2 * counted + correction


def curve_flags(family: Family, fit: BatchFit, x: FloatArray, means: FloatArray) -> tuple[str, ...]:
    """What a reader must know before using the parameters of one curve. x, means: (n,) distinct distances."""
    flags: list[str] = []
    largest = float(np.abs(means).max())
    if family.separable:
        amplitude, second = (float(value) for value in fit.parameters[0])
        if amplitude <= 0:
            flags.append(
                f"a is not positive ({amplitude:.3g}): penalties do not grow with distance as this family says"
            )
        if fit.on_bound[0]:
            flags.append(_bound_flag(family, second, x))
        elif family.log_coordinate and abs(amplitude) > LARGE_ASYMPTOTE * largest:
            flags.append(
                f"the asymptote a is {abs(amplitude) / largest:.1f} times the largest mean penalty: "
                "it lies beyond the data"
            )
    if len(x) < FEW_DISTANCES:
        flags.append(f"only {len(x)} distinct distances: most families fit equally well")
    return tuple(flags)


def _bound_flag(family: Family, second: float, x: FloatArray) -> str:
    name = family.parameters[1]
    upper = bool(second > 0 if not family.log_coordinate else second > float(x.max()))
    meaning: Sequence[str] = (
        ("the curve is a step up before the first distance, so its rate is not identified")
        if family.log_coordinate
        else "only the smallest distance differs from 0",
        "the curve is a straight line through 0, so only its slope is identified"
        if family.log_coordinate
        else "only the largest distance differs from 0",
    )
    return f"{name} is on its {'upper' if upper else 'lower'} bound: {meaning[upper]}"

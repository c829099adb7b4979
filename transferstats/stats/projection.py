"""Weighted least squares for every decay family, for a whole batch of curves at once.

Variable projection (Golub & Pereyra 1973, doi 10.1137/0710036; Golub & Pereyra 2003, doi
10.1088/0266-5611/19/2/201): the linear parameter is solved exactly, the one nonlinear coordinate is searched on
a dense grid (so there is no start value and no local minimum to fall into) and polished by Newton steps on the
stationarity condition, kept inside a bracket. The grid is shared by all curves, so its cost is one matrix
product; 10,000 curves take a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from transferstats.arrays import BoolArray, FloatArray
from transferstats.errors import DesignError
from transferstats.stats.families import Family

GRID_STEP = 0.05
"""Largest step of the coordinate grid, where curves change shape over steps of order 1 (log tau, log c, or the
exponent times the log range of distances). Quartering it changed none of 105,000 fits, most of them of noise."""
NEWTON_TOLERANCE = 4e-15
"""Relative bisection step at which polishing stops: a few units in the last place."""
NEWTON_DONE = 1e-9
"""Relative Newton step after which there is nothing left to gain: the error after it is of the order of its
square, below the rounding of the sums that the next step would be made of."""
NEWTON_STEPS = 80
"""More than bisection alone needs to shrink one grid step to the last place."""
AT_END = 1e-6
"""A coordinate this close to the end of its range is at the end."""
CHUNK_VALUES = 4_000_000
"""Values held at once in the grid search (32 MB), whatever the size of the batch."""

NARROW = 32
"""Up to this many distances the products are so thin that a threaded BLAS loses more by waking its threads than
it gains; on a busy machine that was a factor of ten."""


@dataclass(frozen=True, slots=True)
class BatchFit:
    """Least-squares fits of one family to B curves.

    Attributes
    ----------
    parameters: (B, p), in the order of ``Family.parameters``; p = number of distances for isotonic levels.
    on_bound: (B,), the nonlinear parameter sits on the end of its range (its own value is then arbitrary).
    """

    parameters: FloatArray
    on_bound: BoolArray


def solve(family: Family, x: FloatArray, y: FloatArray, weights: FloatArray) -> BatchFit:
    """Fit one family to a batch of curves.

    Parameters
    ----------
    family: what to fit.
    x: (n,) distinct positive distances, ascending.
    y: (B, n) values, nats; weights: (n,) positive.
    """
    if family.basis is not None:
        return BatchFit(_linear(family.basis(x), y, weights), np.zeros(len(y), dtype=bool))
    if not family.separable:
        return BatchFit(_isotonic(y, weights), np.zeros(len(y), dtype=bool))
    # A common unit of distance and of value keeps x^b and the squares inside floating range at any scale.
    unit = np.exp(np.average(np.log(x), weights=weights))
    size = np.abs(y).max(axis=1, keepdims=True)
    size[size == 0] = 1.0
    rows = max(1, CHUNK_VALUES // max(len(x), _grid_size(family, x / unit)))
    parts = [
        _separable(family, x / unit, (y / size)[start : start + rows], weights) for start in range(0, len(y), rows)
    ]
    amplitude = np.concatenate([part[0] for part in parts]) * size[:, 0]
    coordinate = np.concatenate([part[1] for part in parts])
    on_bound = np.concatenate([part[2] for part in parts])
    if family.log_coordinate:
        second = np.exp(coordinate) * unit
    else:
        second = coordinate
        amplitude = amplitude * unit**-coordinate
    return BatchFit(np.column_stack([amplitude, second]), on_bound)


def _linear(basis: FloatArray, y: FloatArray, weights: FloatArray) -> FloatArray:
    root = np.sqrt(weights)
    q, r = np.linalg.qr(basis * root[:, None])
    return np.asarray(np.linalg.solve(r, q.T @ (y * root).T).T)


def _isotonic(y: FloatArray, weights: FloatArray) -> FloatArray:
    return np.stack([isotonic_regression(curve, weights=weights).x for curve in y])


def _grid_size(family: Family, x: FloatArray) -> int:
    assert family.bounds is not None
    low, high = family.bounds(x)
    natural = 1.0 if family.log_coordinate else 1 / np.log(x[-1] / x[0])
    return max(64, int(np.ceil((high - low) / (GRID_STEP * natural))) + 1)


def _separable(
    family: Family, x: FloatArray, y: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Amplitude (B,), coordinate (B,), on_bound (B,) of a * g(x; u)."""
    assert family.bounds is not None
    assert family.shape is not None
    low, high = family.bounds(x)
    grid = np.linspace(low, high, _grid_size(family, x))
    shapes = family.shape(x, grid[:, None])[0] * np.sqrt(weights)
    shapes /= np.sqrt((shapes**2).sum(axis=1, keepdims=True))
    explained = np.square(_products(y * np.sqrt(weights), shapes))
    best = explained.argmax(axis=1)
    left, right = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, len(grid) - 1)]
    slope_left = _stationarity(family, x, y, weights, np.full(len(y), low))[0]
    slope_right = _stationarity(family, x, y, weights, np.full(len(y), high))[0]
    on_bound = ((best == 0) & (slope_left >= 0)) | ((best == len(grid) - 1) & (slope_right <= 0))
    coordinate = grid[best].copy()
    free = np.flatnonzero(~on_bound)
    if len(free):
        polished = _polish(family, x, y[free], weights, (left[free], coordinate[free], right[free]))
        # On a plateau flat to the last digit the grid's best may be one step off; then search everywhere.
        stuck = np.isclose(polished, left[free], rtol=0, atol=1e-12) | np.isclose(
            polished, right[free], rtol=0, atol=1e-12
        )
        if stuck.any():
            ends = np.full(int(stuck.sum()), low), polished[stuck], np.full(int(stuck.sum()), high)
            polished[stuck] = _polish(family, x, y[free][stuck], weights, ends)
        coordinate[free] = polished
        on_bound |= (coordinate <= low + AT_END) | (coordinate >= high - AT_END)
    value = family.shape(x, coordinate[:, None])[0]
    amplitude = (y * value) @ weights / ((value**2) @ weights)
    return amplitude, coordinate, on_bound


def _products(rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Inner products of rows (B, n) with columns (g, n), (B, g)."""
    if rows.shape[1] <= NARROW:
        return np.asarray(np.einsum("nb,ng->bg", rows.T.copy(), columns.T.copy()))
    return np.asarray(rows @ columns.T)


def _stationarity(
    family: Family, x: FloatArray, y: FloatArray, weights: FloatArray, u: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Half the derivative of the profiled sum of squares in u, and its own derivative; both (B,)."""
    assert family.shape is not None
    g, g1, g2 = family.shape(x, u[:, None])
    norm = (g**2) @ weights
    a = (y * g) @ weights / norm
    residual = y - a[:, None] * g
    score = (residual * g1) @ weights
    cross = (g * g1) @ weights
    a1 = (score - a * cross) / norm
    score1 = (residual * g2) @ weights - a1 * cross - a * ((g1**2) @ weights)
    return -a * score, -(a1 * score + a * score1)


def _polish(
    family: Family,
    x: FloatArray,
    y: FloatArray,
    weights: FloatArray,
    bracket: tuple[FloatArray, FloatArray, FloatArray],
) -> FloatArray:
    """Newton on the stationarity condition, by bisection wherever a step would leave the bracket."""
    low, u, high = (side.copy() for side in bracket)
    active = np.arange(len(y))
    for _ in range(NEWTON_STEPS):
        at = u[active]
        slope, curvature = _stationarity(family, x, y[active], weights, at)
        rising = slope > 0
        high[active] = np.where(rising, at, high[active])
        low[active] = np.where(rising, low[active], at)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(curvature > 0, at - slope / curvature, np.nan)
        inside = (step > low[active]) & (step < high[active])
        middle = 0.5 * (low[active] + high[active])
        new = np.where(slope == 0, at, np.where(inside, step, middle))
        u[active] = new
        tolerance = np.where(inside, NEWTON_DONE, NEWTON_TOLERANCE)
        moving = np.abs(new - at) > tolerance * np.maximum(1.0, np.abs(new))
        active = active[moving]
        if not len(active):
            break
    return u


def parameter_gradient(
    family: Family, x: FloatArray, y: FloatArray, weights: FloatArray, parameters: FloatArray
) -> FloatArray:
    """Exact derivative of the fitted parameters in the data, by the implicit function theorem.

    Parameters
    ----------
    x, y, weights: (n,), distinct distances; parameters: (p,), the fit of y, not on a bound.

    Returns
    -------
    (p, n): d parameter / d y; NaN where the fit is no strict minimum. For isotonic levels, the averaging
    within blocks, which is the derivative wherever no two neighbouring blocks tie.
    """
    if family.basis is not None:
        return _linear(family.basis(x), np.eye(len(x)), weights).T
    if not family.separable:
        same = parameters[:, None] == parameters[None, :]
        return np.asarray(same * weights / (same @ weights)[:, None])
    assert family.shape is not None
    unit = float(np.exp(np.average(np.log(x), weights=weights)))
    inner = parameters.copy()
    if family.log_coordinate:
        inner[1] = parameters[1] / unit
    else:
        inner[0] = parameters[0] * unit ** parameters[1]
    g, g1, g2 = family.shape(x / unit, family.coordinate(inner[1:]))
    a = float(inner[0])
    undefined = np.full((2, len(x)), np.nan)
    if a == 0 or not np.isfinite(inner).all():
        return undefined
    residual = y - a * g
    # In (log a, u) both directions of the Hessian have the size of the fit, whatever the scale of the data.
    first = np.stack([a * g, a * g1])
    second = np.empty((2, 2))
    second[0, 0] = (weights * residual) @ (a * g)
    second[0, 1] = second[1, 0] = (weights * residual) @ (a * g1)
    second[1, 1] = (weights * residual) @ (a * g2)
    hessian = (first * weights) @ first.T - second
    if not np.isfinite(hessian).all() or np.linalg.det(hessian) <= 0:
        return undefined
    log_gradient = np.linalg.solve(hessian, first * weights)
    if family.log_coordinate:
        return np.asarray(log_gradient * parameters[:, None])
    return np.stack([parameters[0] * (log_gradient[0] - np.log(unit) * log_gradient[1]), log_gradient[1]])


@dataclass(frozen=True, slots=True)
class Reduction:
    """Points with equal distance folded into one weighted mean; least squares is unchanged by it.

    Attributes
    ----------
    x: (m,) distinct distances, ascending. weights: (m,) summed weights. index: (n,) point -> distance.
    averaging: (m, n), rows sum to 1.
    """

    x: FloatArray
    weights: FloatArray
    index: npt.NDArray[np.intp]
    averaging: FloatArray


def reduce_points(x: FloatArray, weights: FloatArray) -> Reduction:
    """Fold points of equal distance together. x, weights: (n,)."""
    distinct, index = np.unique(x, return_inverse=True)
    total = np.asarray(np.bincount(index, weights=weights), dtype=np.float64)
    averaging = np.zeros((len(distinct), len(x)))
    averaging[index, np.arange(len(x))] = weights / total[index]
    return Reduction(distinct, total, index, averaging)


def require_distances(family: Family, x: FloatArray) -> None:
    """DesignError when there are fewer distinct distances than parameters + 1."""
    distinct, needed = len(np.unique(x)), max(family.n_parameters, 1) + 1
    if distinct < needed:
        raise DesignError(
            f"the {family.name} family has {max(family.n_parameters, 1)} parameters and needs at least {needed} "
            f"distinct distances; there are {distinct}. Use more layers or a simpler family."
        )

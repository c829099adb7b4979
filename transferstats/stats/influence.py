"""From losses to influence tables: what each seed and each unit contributes to a statistic.

For a smooth statistic theta = f(M) with gradient G the table is z[k,i] = sum_st G[s,t] (p[k,i,s,t] - M[s,t]),
whose mean is 0. Every interval of the package is made of row and column means of such tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.errors import DataError
from transferstats.stats.statistics import Statistic, StatisticLike, as_statistic

ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""Influences below this fraction of the losses that they come from are rounding noise, and set to 0."""


@dataclass(frozen=True, slots=True)
class Influence:
    """Influence tables of a statistic with m terms on K seeds and N units.

    Attributes
    ----------
    terms: m names.
    scalar: whether the statistic is one number rather than a vector.
    linear: whether the tables are exact rather than a first-order expansion.
    estimate: (m,) value of the statistic at the mean penalty.
    table: (m, K, N) influences, in the unit of the estimate; each table has mean 0.
    unit: unit of the estimate.
    """

    terms: tuple[str, ...]
    scalar: bool
    linear: bool
    estimate: FloatArray
    table: FloatArray
    unit: str

    def shaped(self, values: FloatArray) -> FloatArray:
        """(..., m) values -> (...) for a scalar statistic, unchanged for a vector."""
        return values[..., 0] if self.scalar else values


def check_losses(loss: npt.ArrayLike, name: str = "loss") -> FloatArray:
    """The losses as float64 (K, N, L, L); DataError that names what to fix."""
    values = np.asarray(loss, dtype=np.float64)
    if values.ndim != 4:
        raise DataError(
            f"{name} must have 4 axes (seeds, units, sources, targets), got shape {values.shape}; add the "
            "missing axes with [None] or numpy.stack"
        )
    if values.shape[2] != values.shape[3]:
        raise DataError(
            f"{name} is not square: {values.shape[2]} sources, {values.shape[3]} targets; keep the layers that "
            "are both"
        )
    if values.shape[2] < 2 or 0 in values.shape:
        raise DataError(f"{name} needs at least 1 seed, 1 unit and 2 layers, got shape {values.shape}")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        seed, unit, source, target = (int(index) for index in bad[0])
        raise DataError(
            f"{name}: {len(bad)} losses are NaN or infinite, the first at seed {seed}, unit {unit}, source "
            f"{source}, target {target}; drop those units under every seed, or refit that lens"
        )
    return values


def check_weights(weights: npt.ArrayLike | None, n_units: int) -> FloatArray | None:
    """(N,) positive weights scaled to mean 1, or None for equal weights; DataError otherwise."""
    if weights is None:
        return None
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n_units,):
        raise DataError(f"weights must be one number a unit, shape ({n_units},), got {values.shape}")
    if not np.isfinite(values).all() or (values <= 0).any():
        worst = int(np.argmax(~(np.isfinite(values) & (values > 0))))
        raise DataError(
            f"weights must be positive and finite (tokens per unit); unit {worst} has {values[worst]}. Drop "
            "units without tokens"
        )
    return np.asarray(values / values.mean())


def penalties(loss: FloatArray) -> FloatArray:
    """(..., L, L) losses -> penalties loss(s on t) - loss(t on t), zero on the diagonal."""
    own = np.diagonal(loss, axis1=-2, axis2=-1)
    return np.asarray(loss - own[..., None, :])


def mean_penalty(penalty: FloatArray, weights: FloatArray | None) -> FloatArray:
    """(K, N, L, L) penalties -> (L, L) mean over seeds and (weighted) units; ``weights`` have mean 1."""
    if weights is None:
        return np.asarray(penalty.mean(axis=(0, 1)))
    return np.asarray(np.tensordot(weights, penalty.mean(axis=0), axes=1) / len(weights))


def influence_table(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    *,
    weights: npt.ArrayLike | None = None,
    distance: Distance | None = None,
    unit: str = "nats/token",
) -> Influence:
    """Influence tables of ``statistic`` on raw losses.

    Parameters
    ----------
    loss: (K, N, L, L) loss of lens s on layer t; the penalty is taken here.
    statistic: a name, a statistic object, or a function of the (L, L) mean penalty.
    weights: (N,) tokens a unit; the mean is then a ratio estimator with z = N w_i / sum(w) <G, p - M>.
    distance: (L, L) distances for the statistics that use them.
    unit: unit of the losses.

    Raises
    ------
    DataError: losses or weights that cannot be analysed, a statistic that returns no flat vector.
    """
    values = check_losses(loss)
    weight = check_weights(weights, values.shape[1])
    chosen = as_statistic(statistic, distance=distance)
    penalty = penalties(values)
    centre = mean_penalty(penalty, weight)
    estimate = chosen.batch(centre[None])[0]
    gradient = chosen.gradient(centre)
    if len(gradient) != len(estimate):
        raise DataError(
            f"statistic {chosen.name!r} has {len(estimate)} values but {len(gradient)} gradients; it must "
            "always return the same number of values"
        )
    table = _project(penalty, centre, gradient)
    table[_noise(values, gradient, table)] = 0.0
    if weight is not None:
        table *= weight
    return Influence(
        terms=chosen.terms(len(centre), len(estimate)),
        scalar=is_scalar(chosen, centre),
        linear=chosen.linear,
        estimate=estimate,
        table=table,
        unit=chosen.unit(unit),
    )


def excess_influence(
    excess: npt.ArrayLike,
    *,
    weights: npt.ArrayLike | None = None,
    unit: str = "nats/token",
    layers: tuple[str, ...] | None = None,
) -> Influence:
    """Influence tables of the mean of (K, N, L) values, one term a layer: ``layers``, or "layer 0", ..."""
    values = np.asarray(excess, dtype=np.float64)
    if values.ndim != 3 or 0 in values.shape:
        raise DataError(f"excess must have 3 axes (seeds, units, layers), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise DataError("excess losses are NaN or infinite in places; drop those units or refit that lens")
    weight = check_weights(weights, values.shape[1])
    weight = np.ones(values.shape[1]) if weight is None else weight
    centre = np.tensordot(weight, values.mean(axis=0), axes=1) / len(weight)
    table = (values - centre).transpose(2, 0, 1)
    table[np.abs(table).max(axis=(1, 2)) <= ROUNDING * np.abs(values).max(axis=(0, 1))] = 0.0
    terms = layers or tuple(f"layer {layer}" for layer in range(values.shape[2]))
    return Influence(terms, False, True, centre, table * weight, unit)


def _project(penalty: FloatArray, centre: FloatArray, gradient: FloatArray) -> FloatArray:
    """(m, K, N): <G_j, p[k,i] - M>."""
    n_seeds, n_units = penalty.shape[:2]
    flat = penalty.reshape(n_seeds * n_units, -1) - centre.reshape(-1)
    table = gradient.reshape(len(gradient), -1) @ flat.T
    return np.asarray(table.reshape(len(gradient), n_seeds, n_units))


def _noise(loss: FloatArray, gradient: FloatArray, table: FloatArray) -> npt.NDArray[np.bool_]:
    """(m,) tables that are no more than the rounding error of the losses behind them."""
    largest = np.abs(loss).max(axis=(0, 1))
    scale = np.abs(gradient) * (largest + np.diagonal(largest))
    return np.asarray(np.abs(table).max(axis=(1, 2)) <= ROUNDING * scale.sum(axis=(1, 2)))


def is_scalar(statistic: Statistic, centre: FloatArray) -> bool:
    """Whether the statistic is one number; a function that does not say so is called once at ``centre``."""
    if statistic.scalar is not None:
        return statistic.scalar
    function = getattr(statistic, "function", None)
    return function is None or np.ndim(function(centre.copy())) == 0

"""Statistics of a penalty matrix: names for the usual ones, a wrapper for anybody's function.

Every statistic maps M, the (L, L) mean penalty matrix (rows sources, columns targets, diagonal 0), to one
number or to a vector. Linear ones know their weights exactly, so their influence tables, jackknives and
bootstraps are matrix products; all others get a gradient, exact where they offer one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance, distance_name, forward_mask, off_diagonal, resolve_distance
from transferstats.errors import DataError, DesignError

STEP = float(np.cbrt(np.finfo(np.float64).eps))
"""Relative step of central differences: the cube root of machine epsilon balances truncation and rounding."""

SMALLEST_STEP_SCALE = 1e-2
"""A cell near 0 is stepped as if it were this fraction of the largest cell."""


@runtime_checkable
class Statistic(Protocol):
    """What the inference needs to know about a statistic with m terms."""

    @property
    def name(self) -> str:
        """Name used in results."""

    @property
    def scalar(self) -> bool | None:
        """True for one number, False for a vector, None when only a call can tell."""

    @property
    def linear(self) -> bool:
        """True when the statistic is linear in M (then A equals the jackknife)."""

    def terms(self, n_layers: int, n_terms: int | None = None) -> tuple[str, ...]:
        """Names of the m terms."""

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) matrices -> (B, m) values."""

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(L, L) matrix -> (m, L, L) derivatives; the diagonal is 0."""

    def unit(self, base: str) -> str:
        """Unit of the value, when losses are in ``base``."""


StatisticLike = str | Statistic | Callable[[FloatArray], Any]


@dataclass(frozen=True, slots=True, eq=False)
class LinearStatistic:
    """A statistic sum_st G[s,t] M[s,t], scalar or vector.

    Attributes
    ----------
    name: its name in results.
    build: L -> (names of the m terms, (m, L, L) weights G with zero diagonal).
    scalar: whether the result is one number rather than a vector.
    per: what the unit is divided by, e.g. ``"layer"`` for a slope.
    """

    name: str
    build: Callable[[int], tuple[tuple[str, ...], FloatArray]]
    scalar: bool = True
    per: str = ""

    linear = True

    def terms(self, n_layers: int, n_terms: int | None = None) -> tuple[str, ...]:
        """Names of the m terms for L layers."""
        return self.build(n_layers)[0]

    def weights(self, n_layers: int) -> FloatArray:
        """(m, L, L) exact weights G, zero on the diagonal."""
        return self.build(n_layers)[1]

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(m, L, L): the weights, wherever they are asked for."""
        return self.weights(penalty.shape[-1])

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) matrices -> (B, m) values."""
        weights = self.weights(penalty.shape[-1])
        return penalty.reshape(len(penalty), -1) @ weights.reshape(len(weights), -1).T

    def unit(self, base: str) -> str:
        """Unit of the value."""
        return f"{base} per {self.per}" if self.per else base

    def __call__(self, penalty: FloatArray) -> FloatArray:
        """One (L, L) matrix -> a number () or a vector (m,)."""
        values = self.batch(penalty[None])[0]
        return np.asarray(values[0] if self.scalar else values)


@dataclass(frozen=True, slots=True, eq=False)
class SmoothStatistic:
    """Any function M -> number or vector; ``function`` may offer gradient(M), batch(M), terms and unit.

    Without ``gradient`` the derivative is taken by central differences over the off-diagonal cells.
    """

    function: Callable[[FloatArray], Any]
    name: str

    linear = False

    @property
    def scalar(self) -> bool | None:
        """What ``function`` says about itself, None when only a call can tell."""
        scalar = getattr(self.function, "scalar", None)
        return None if scalar is None else bool(scalar)

    def terms(self, n_layers: int, n_terms: int | None = None) -> tuple[str, ...]:
        """Names of the terms: what the function offers, otherwise its name with a number."""
        offered = getattr(self.function, "terms", None)
        if callable(offered):
            offered = offered(n_layers)
        if offered is not None:
            return tuple(offered)
        if n_terms is None or n_terms == 1:
            return (self.name,)
        return tuple(f"{self.name} {index + 1}" for index in range(n_terms))

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) matrices -> (B, m) values; a Python loop unless the function offers ``batch``."""
        offered = getattr(self.function, "batch", None)
        if offered is not None:
            values = np.asarray(offered(penalty), dtype=np.float64)
            return values.reshape(len(penalty), -1)
        rows = [as_vector(self.function(matrix.copy()), self.name) for matrix in penalty]
        if len({row.size for row in rows}) > 1:
            sizes = sorted({row.size for row in rows})
            raise DataError(
                f"statistic {self.name!r} returned {sizes} values at neighbouring matrices; it must always "
                "return the same number of values (NaN where one is undefined)"
            )
        return np.stack(rows)

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(m, L, L) derivatives at one (L, L) matrix, exact where the function offers them."""
        offered = getattr(self.function, "gradient", None)
        if offered is not None:
            values = np.asarray(offered(penalty.copy()), dtype=np.float64).reshape(-1, *penalty.shape)
            return values * off_diagonal(len(penalty))
        return self._central_differences(penalty)

    def _central_differences(self, penalty: FloatArray) -> FloatArray:
        rows, columns = np.nonzero(off_diagonal(len(penalty)))
        largest = float(np.abs(penalty).max()) or 1.0
        steps = STEP * np.maximum(np.abs(penalty[rows, columns]), SMALLEST_STEP_SCALE * largest)
        cell = np.arange(len(rows))
        shifted = np.broadcast_to(penalty, (2, len(rows), *penalty.shape)).copy()
        shifted[0, cell, rows, columns] += steps
        shifted[1, cell, rows, columns] -= steps
        # The step that was really taken, after rounding.
        taken = shifted[0, cell, rows, columns] - shifted[1, cell, rows, columns]
        values = self.batch(shifted.reshape(-1, *penalty.shape)).reshape(2, len(rows), -1)
        gradient = np.zeros((values.shape[-1], *penalty.shape))
        gradient[:, rows, columns] = ((values[0] - values[1]) / taken[:, None]).T
        return gradient

    def unit(self, base: str) -> str:
        """What the function says, otherwise the unit of the losses."""
        offered = getattr(self.function, "unit", None)
        if offered is None:
            return base
        return str(offered(base) if callable(offered) else offered)


@dataclass(frozen=True, slots=True, eq=False)
class Ratio:
    """Ratio of two scalar linear statistics, with its exact gradient; no unit."""

    name: str
    above: LinearStatistic
    below: LinearStatistic

    scalar = True
    unit = ""

    def terms(self, n_layers: int) -> tuple[str, ...]:
        """One term, the name."""
        return (self.name,)

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) -> (B, 1)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.above.batch(penalty) / self.below.batch(penalty)

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(1, L, L): (G_above - ratio G_below) / below."""
        below = float(self.below(penalty))
        ratio = float(self(penalty))
        size = penalty.shape[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self.above.weights(size) - ratio * self.below.weights(size)) / below)

    def __call__(self, penalty: FloatArray) -> FloatArray:
        """One (L, L) matrix -> the ratio; NaN or infinite where the denominator is 0."""
        return np.asarray(self.batch(penalty[None])[0, 0])


def as_vector(value: Any, name: str) -> FloatArray:
    """A statistic's value as a float64 vector; DataError when it is not a number or a flat vector."""
    try:
        vector = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"statistic {name!r} returned {type(value).__name__}, not numbers") from error
    if vector.ndim > 1 or vector.size == 0:
        raise DataError(f"statistic {name!r} returned shape {vector.shape}; return a number or a vector")
    return vector.reshape(-1)


def named_statistic(name: str, *, distance: Distance | None = None) -> Statistic:
    """A statistic by name, optionally with another distance than |s - t|: "depth" or an (L, L) matrix.

    Names: mean, forward, backward, asymmetry (forward - backward), ratio (backward / forward), slope (OLS
    slope of off-diagonal cell means on distance), distance (mean at each distance), cells, source, target
    (mean per source or per target layer). DesignError for any other name.
    """
    if name == "ratio":
        return SmoothStatistic(
            Ratio("ratio", LinearStatistic("backward", _backward), LinearStatistic("forward", _forward)),
            "ratio",
        )
    if name == "slope":
        return LinearStatistic("slope", lambda size: _slope(size, distance), per=_per(distance))
    if name == "distance":
        return LinearStatistic("distance", lambda size: _by_distance(size, distance), scalar=False)
    builders: dict[str, tuple[Callable[[int], tuple[tuple[str, ...], FloatArray]], bool]] = {
        "mean": (_mean, True),
        "forward": (_forward, True),
        "backward": (_backward, True),
        "asymmetry": (_asymmetry, True),
        "cells": (_cells, False),
        "source": (_source, False),
        "target": (_target, False),
    }
    if name not in builders:
        raise DesignError(
            f"unknown statistic {name!r}: use one of {', '.join(NAMES)}, or pass a function of the (L, L) "
            "mean penalty matrix"
        )
    build, scalar = builders[name]
    return LinearStatistic(name, build, scalar=scalar)


NAMES: tuple[str, ...] = (
    "mean",
    "forward",
    "backward",
    "asymmetry",
    "ratio",
    "slope",
    "distance",
    "cells",
    "source",
    "target",
)
"""Names that :func:`named_statistic` knows."""


def as_statistic(statistic: StatisticLike, *, distance: Distance | None = None) -> Statistic:
    """Turn a name, a statistic object or a function M -> number or vector into a :class:`Statistic`."""
    if isinstance(statistic, str):
        return named_statistic(statistic, distance=distance)
    if isinstance(statistic, LinearStatistic | SmoothStatistic):
        return statistic
    if not callable(statistic):
        raise DesignError(
            f"a statistic is a name or a function of the penalty matrix, not {type(statistic).__name__}"
        )
    name = getattr(statistic, "name", None) or getattr(statistic, "__name__", type(statistic).__name__)
    return SmoothStatistic(statistic, "statistic" if name == "<lambda>" else str(name))


def linear_statistic(
    weights: npt.ArrayLike, *, name: str = "contrast", terms: tuple[str, ...] = ()
) -> LinearStatistic:
    """A statistic from its own weights G, (L, L) for a scalar or (m, L, L) for a vector; diagonals are dropped."""
    matrix = np.asarray(weights, dtype=np.float64)
    if matrix.ndim not in (2, 3) or matrix.shape[-1] != matrix.shape[-2] or not np.isfinite(matrix).all():
        raise DesignError(f"weights must be finite and of shape (L, L) or (m, L, L), not {matrix.shape}")
    stack = matrix.reshape(-1, *matrix.shape[-2:]) * off_diagonal(matrix.shape[-1])
    names = terms or ((name,) if matrix.ndim == 2 else tuple(f"{name} {j + 1}" for j in range(len(stack))))
    if len(names) != len(stack):
        raise DesignError(f"{len(stack)} weight matrices but {len(names)} term names")

    def build(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
        if n_layers != stack.shape[-1]:
            raise DesignError(f"these weights are for {stack.shape[-1]} layers, the losses have {n_layers}")
        return tuple(names), stack

    return LinearStatistic(name, build, scalar=matrix.ndim == 2)


def _average(mask: npt.NDArray[np.bool_]) -> FloatArray:
    return np.asarray(mask / mask.sum(), dtype=np.float64)


def _mean(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    return ("mean",), _average(off_diagonal(n_layers))[None]


def _forward(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    return ("forward",), _average(forward_mask(n_layers))[None]


def _backward(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    return ("backward",), _average(forward_mask(n_layers).T)[None]


def _asymmetry(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    return ("asymmetry",), _forward(n_layers)[1] - _backward(n_layers)[1]


def _cells(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    rows, columns = np.nonzero(off_diagonal(n_layers))
    weights = np.zeros((len(rows), n_layers, n_layers))
    weights[np.arange(len(rows)), rows, columns] = 1.0
    return tuple(f"{s}->{t}" for s, t in zip(rows, columns, strict=True)), weights


def _source(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    weights = np.zeros((n_layers, n_layers, n_layers))
    for layer in range(n_layers):
        weights[layer, layer] = 1.0 / (n_layers - 1)
    return tuple(f"source {layer}" for layer in range(n_layers)), weights * off_diagonal(n_layers)


def _target(n_layers: int) -> tuple[tuple[str, ...], FloatArray]:
    weights = _source(n_layers)[1].transpose(0, 2, 1)
    return tuple(f"target {layer}" for layer in range(n_layers)), weights


def _distances(n_layers: int, distance: Distance | None) -> FloatArray:
    return resolve_distance(n_layers, "index" if distance is None else distance)


def _per(distance: Distance | None) -> str:
    name = distance_name(distance)
    return {"index": "layer", "custom": "distance"}.get(name, name)


def _by_distance(n_layers: int, distance: Distance | None) -> tuple[tuple[str, ...], FloatArray]:
    matrix = _distances(n_layers, distance)
    mask = off_diagonal(n_layers)
    values = np.unique(matrix[mask])
    weights = np.stack([_average(mask & (matrix == value)) for value in values])
    return tuple(f"distance {value:.12g}" for value in values), weights


def _slope(n_layers: int, distance: Distance | None) -> tuple[tuple[str, ...], FloatArray]:
    matrix = _distances(n_layers, distance)
    mask = off_diagonal(n_layers)
    centred = np.where(mask, matrix - matrix[mask].mean(), 0.0)
    total = float((centred**2).sum())
    if np.ptp(matrix[mask]) <= 0:
        raise DesignError(
            f"a slope needs at least 2 different distances; {n_layers} layers with this distance have one"
        )
    return ("slope",), (centred / total)[None]

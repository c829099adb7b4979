"""Parameters of a decay curve as statistics of the penalty matrix, with exact gradients.

A :class:`DecayStatistic` maps M, the (L, L) mean penalty, to fitted parameters and quantities derived from
them. It goes wherever a statistic goes: ``crossed_estimate``, ``bootstrap_estimate``, ``paired_null_estimate``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance, LayerScale, forward_mask, off_diagonal, resolve_distance
from transferstats.errors import DesignError
from transferstats.stats.families import Family, find_family, jacobian, predict
from transferstats.stats.projection import (
    BatchFit,
    Reduction,
    parameter_gradient,
    reduce_points,
    require_distances,
    solve,
)

DIRECTIONS: tuple[str, ...] = ("both", "separate")
DISTANCE_UNITS = {"index": "layers", "depth": "depth", "custom": "distance"}


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The cells that one curve is fitted to.

    Attributes
    ----------
    label: "both", "forward" or "backward". cells: (n,) flat indices into an (L, L) matrix.
    points: their distances folded together. averaging: (m, L * L), matrix -> mean at each distinct distance.
    """

    label: str
    cells: npt.NDArray[np.intp]
    points: Reduction
    averaging: FloatArray

    def means(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) -> (B, m) mean penalty at each distinct distance."""
        return np.asarray(penalty.reshape(len(penalty), -1) @ self.averaging.T)

    def spread(self, gradient: FloatArray) -> FloatArray:
        """Derivatives in the means (k, m) -> derivatives in the matrix (k, L, L)."""
        size = math.isqrt(self.averaging.shape[1])
        return np.asarray(gradient @ self.averaging).reshape(-1, size, size)


@dataclass(frozen=True, slots=True)
class Term:
    """A monomial or a linear combination of the parameters of all sides.

    Attributes
    ----------
    name: as in results. weights: exponents or coefficients, one a parameter. multiplier: in front of it.
    monomial: product of powers (interval on the log scale) rather than a sum.
    nats, distance: exponents of the units.
    """

    name: str
    weights: tuple[float, ...]
    monomial: bool
    multiplier: float = 1.0
    nats: int = 1
    distance: int = 0

    def unit(self, base: str, length: str) -> str:
        """Unit of the term, such as "nats/token per layers"."""
        if self.nats and self.distance:
            return f"{base} per {length}"
        return base if self.nats else length if self.distance else ""


def decay_sides(n_layers: int, direction: str, distance: Distance) -> tuple[Side, ...]:
    """The sides of a fit: one for ``"both"``, forward and backward for ``"separate"``."""
    if direction not in DIRECTIONS:
        raise DesignError(f"unknown direction {direction!r}: use 'both' or 'separate'")
    if isinstance(distance, str | LayerScale):
        return _named_sides(n_layers, direction, distance)
    return _sides(n_layers, direction, resolve_distance(n_layers, distance))


@lru_cache(maxsize=64)
def _named_sides(n_layers: int, direction: str, distance: str | LayerScale) -> tuple[Side, ...]:
    """Kept, because a bootstrap asks for the same sides hundreds of times."""
    return _sides(n_layers, direction, resolve_distance(n_layers, distance))


def _sides(n_layers: int, direction: str, matrix: FloatArray) -> tuple[Side, ...]:
    forward = forward_mask(n_layers)
    masks = (
        {"both": off_diagonal(n_layers)} if direction == "both" else {"forward": forward, "backward": forward.T}
    )
    sides = []
    for label, mask in masks.items():
        cells = np.flatnonzero(mask)
        points = reduce_points(matrix.reshape(-1)[cells], np.ones(len(cells)))
        averaging = np.zeros((len(points.x), n_layers * n_layers))
        averaging[:, cells] = points.averaging
        side = Side(label, cells, points, averaging)
        for array in (cells, averaging, points.x, points.weights, points.index, points.averaging):
            array.flags.writeable = False
        sides.append(side)
    return tuple(sides)


@dataclass(frozen=True, slots=True, eq=False)
class DecayStatistic:
    """Fitted decay parameters as a statistic of M (L, L); a vector unless one term is selected.

    Attributes
    ----------
    family: name of a family. direction: ``"both"`` or ``"separate"`` (terms end in _forward and _backward, and
        contrasts backward/forward or backward - forward follow). distance: "index", "depth", a scale of known
        places, or an (L, L) matrix.
    select: names of the terms wanted; all by default.
    log: values on the natural log scale (every selected term must be a positive one).

    Where the nonlinear parameter is on a bound, or the amplitude is 0, the gradient is NaN: such a fit
    has no interval.
    """

    family: str
    direction: str = "both"
    distance: Distance = "index"
    select: tuple[str, ...] | None = None
    log: bool = False

    @property
    def name(self) -> str:
        """Name in results."""
        return f"{self.family} decay"

    @property
    def scalar(self) -> bool:
        """True when exactly one term is selected."""
        return self.select is not None and len(self.select) == 1

    def only(self, *names: str, log: bool = False) -> DecayStatistic:
        """The same statistic, restricted to some terms."""
        return replace(self, select=names, log=log)

    def terms(self, n_layers: int) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(term.name for term in self.chosen(n_layers))

    def chosen(self, n_layers: int) -> tuple[Term, ...]:
        """The selected terms; DesignError for a name that this family does not have."""
        family = find_family(self.family)
        everything = {term.name: term for term in _all_terms(family, self.sides(n_layers))}
        if self.select is None:
            return tuple(everything.values())
        unknown = [name for name in self.select if name not in everything]
        if unknown:
            raise DesignError(
                f"the {family.name} family has no term {unknown[0]!r}; it has: {', '.join(everything)}"
            )
        return tuple(everything[name] for name in self.select)

    def sides(self, n_layers: int) -> tuple[Side, ...]:
        """The cells behind each curve; DesignError where there are too few distances."""
        sides = decay_sides(n_layers, self.direction, self.distance)
        for side in sides:
            require_distances(find_family(self.family), side.points.x)
        return sides

    def fits(self, penalty: FloatArray) -> tuple[BatchFit, ...]:
        """(B, L, L) -> one batch of fits a side."""
        family = find_family(self.family)
        return tuple(
            solve(family, side.points.x, side.means(penalty), side.points.weights)
            for side in self.sides(penalty.shape[-1])
        )

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) -> (B, m) values; on a bound, the value of the bound."""
        parameters = np.concatenate([fit.parameters for fit in self.fits(penalty)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.column_stack([_value(term, parameters) for term in self.chosen(penalty.shape[-1])])
            return np.log(values) if self.log else values

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(L, L) -> (m, L, L) exact derivatives of the values, 0 on the diagonal; NaN on a bound."""
        n_layers = len(penalty)
        parameters, gradient = self._parameter_gradients(penalty)
        terms = self.chosen(n_layers)
        # An amplitude of 0 is on a bound, where the gradient is NaN anyway.
        with np.errstate(divide="ignore", invalid="ignore"):
            rates = np.stack([_rate(term, parameters, self.log) for term in terms])
            return np.asarray(np.einsum("tp,pij->tij", rates, gradient))

    def __call__(self, penalty: FloatArray) -> FloatArray:
        """(L, L) -> (m,) values, or () when one term is selected."""
        values = self.batch(np.asarray(penalty, dtype=np.float64)[None])[0]
        return np.asarray(values[0] if self.scalar else values)

    def _parameter_gradients(self, penalty: FloatArray) -> tuple[FloatArray, FloatArray]:
        """All parameters (p,) and their derivatives in the matrix (p, L, L)."""
        family, n_layers = find_family(self.family), len(penalty)
        blocks = []
        fits = self.fits(penalty[None])
        for side, fit in zip(self.sides(n_layers), fits, strict=True):
            blocks.append(side.spread(side_gradient(family, side, fit, penalty)))
        return np.concatenate([fit.parameters[0] for fit in fits]), np.concatenate(blocks)


@dataclass(frozen=True, slots=True, eq=False)
class CurveStatistic:
    """Height of the fitted curve at given distances, as a statistic of M; one side of a decay fit.

    Attributes
    ----------
    decay: the fit. side: which of its sides. at: (g,) distances (isotonic: its own distinct distances).
    """

    decay: DecayStatistic
    side: int
    at: FloatArray

    scalar = False

    @property
    def name(self) -> str:
        """Name in results."""
        return f"{self.decay.family} curve"

    def terms(self, n_layers: int) -> tuple[str, ...]:
        """One term a distance."""
        return tuple(f"distance {value:.12g}" for value in self.at)

    def batch(self, penalty: FloatArray) -> FloatArray:
        """(B, L, L) -> (B, g)."""
        family, fit = find_family(self.decay.family), self.decay.fits(penalty)[self.side]
        if family.basis is None and not family.separable:
            return fit.parameters
        return predict(family, fit.parameters, self.at)

    def gradient(self, penalty: FloatArray) -> FloatArray:
        """(L, L) -> (g, L, L); NaN on a bound."""
        family, n_layers = find_family(self.decay.family), len(penalty)
        side = self.decay.sides(n_layers)[self.side]
        fit = self.decay.fits(penalty[None])[self.side]
        gradient = side_gradient(family, side, fit, penalty)
        if family.basis is not None or family.separable:
            gradient = jacobian(family, fit.parameters[0], self.at) @ gradient
        return side.spread(gradient)

    def __call__(self, penalty: FloatArray) -> FloatArray:
        """(L, L) -> (g,)."""
        return np.asarray(self.batch(np.asarray(penalty, dtype=np.float64)[None])[0])


def side_gradient(family: Family, side: Side, fit: BatchFit, penalty: FloatArray) -> FloatArray:
    """Derivative of one side's parameters in its mean penalties, (p, m); NaN where the fit has none."""
    parameters = fit.parameters[0]
    points = side.points
    if fit.on_bound[0]:
        return np.full((len(parameters), len(points.x)), np.nan)
    return parameter_gradient(family, points.x, side.means(penalty[None])[0], points.weights, parameters)


def _value(term: Term, parameters: FloatArray) -> FloatArray:
    weights = np.asarray(term.weights)
    if term.monomial:
        used = weights != 0
        return np.asarray(term.multiplier * np.prod(parameters[:, used] ** weights[used], axis=1))
    return np.asarray(term.multiplier * (parameters @ weights))


def _rate(term: Term, parameters: FloatArray, log: bool) -> FloatArray:
    """Derivative of the term (or of its log) in each parameter, (p,)."""
    weights = np.asarray(term.weights)
    if not term.monomial:
        return np.asarray(term.multiplier * weights)
    relative = np.divide(weights, parameters, out=np.zeros(len(weights)), where=weights != 0)
    return np.asarray(relative if log else relative * float(_value(term, parameters[None])[0]))


def _all_terms(family: Family, sides: tuple[Side, ...]) -> Iterator[Term]:
    sizes = [family.n_parameters or len(side.points.x) for side in sides]
    for index, side in enumerate(sides):
        suffix = "" if side.label == "both" else f"_{side.label}"
        for term in _side_terms(family, side):
            padded = (0.0,) * sum(sizes[:index]) + term.weights + (0.0,) * sum(sizes[index + 1 :])
            yield replace(term, name=term.name + suffix, weights=padded)
    if len(sides) == 2 and family.n_parameters:
        yield from _contrasts(family)


def _side_terms(family: Family, side: Side) -> Iterator[Term]:
    if not family.n_parameters:
        for index, value in enumerate(side.points.x):
            unit = tuple(float(index == other) for other in range(len(side.points.x)))
            yield Term(f"level_{value:.12g}", unit, monomial=False)
        return
    for index, name in enumerate(family.parameters):
        unit = tuple(float(index == other) for other in range(family.n_parameters))
        nats, distance = _dimension(family, name)
        yield Term(name, unit, monomial=name in family.positive, nats=nats, distance=distance)
    for name, (multiplier, first, second) in family.derived.items():
        yield Term(name, (float(first), float(second)), True, multiplier, nats=int(first), distance=int(second))


def _contrasts(family: Family) -> Iterator[Term]:
    """Backward against forward: ratios of positive parameters, differences of the others."""
    for index, name in enumerate(family.parameters):
        unit = np.eye(family.n_parameters)[index]
        weights = tuple(map(float, np.concatenate([-unit, unit])))
        nats, distance = _dimension(family, name)
        if name in family.positive:
            yield Term(f"{name}_ratio", weights, monomial=True, nats=0)
        else:
            yield Term(f"{name}_difference", weights, monomial=False, nats=nats, distance=distance)


def _dimension(family: Family, name: str) -> tuple[int, int]:
    """Exponents of (nats, distance)."""
    if name in ("tau", "c"):
        return 0, 1
    if name == "b":
        return {"linear": (1, -1), "log": (1, 0)}.get(family.name, (0, 0))
    return 1, 0

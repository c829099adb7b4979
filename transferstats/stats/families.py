"""Shapes that a penalty can take as a function of layer distance, with their exact derivatives.

Two kinds. A *linear* family is a basis times coefficients. A *separable* family is ``a * g(x; u)`` with one
nonlinear coordinate ``u`` (log tau, log c, or the exponent b), so least squares needs a search in ``u`` only:
given ``u``, ``a`` is a division (variable projection; Golub & Pereyra 1973, doi 10.1137/0710036). The isotonic
family has no shape parameter at all.

Distances are positive numbers in any unit; penalties are in nats and may be negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError

# Where the nonlinear coordinate stops. Past these the curve equals its limit (a constant, a line through the
# origin, a jump at the largest distance) more closely than any data can tell, and only the product or the
# quotient of the two parameters is identified; the fit is then flagged "on a bound".
SATURATING_SMALLEST = 1 / 20  # tau in units of the smallest distance: exp(-20) = 2e-9 from a constant
SATURATING_LARGEST = 1e3  # tau in units of the largest distance: 0.05 % from a line
MICHAELIS_SMALLEST = 1e-4  # c in units of the smallest distance: 0.01 % from a constant
MICHAELIS_LARGEST = 1e3  # c in units of the largest distance: 0.1 % from a line
POWER_LARGEST_SPAN = 50.0  # |b| log(largest / smallest): the curve spans 21 decades

Shape = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]]
Bounds = Callable[[FloatArray], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Family:
    """One family of curves.

    Attributes
    ----------
    name, parameters: names, parameters in order (linear families: intercept ``a``, slope ``b``).
    label: the formula, for tables.
    positive: parameters whose interval is formed on the log scale (when the estimate is positive).
    basis: linear families, x (n,) -> (n, p).
    shape: separable families, (x, u) broadcast -> g, dg/du, d2g/du2.
    bounds: separable families, x (n,) -> smallest and largest u.
    log_coordinate: u is the log of the second parameter (otherwise u is that parameter).
    """

    name: str
    parameters: tuple[str, ...]
    label: str
    positive: frozenset[str] = frozenset()
    basis: Callable[[FloatArray], FloatArray] | None = None
    shape: Shape | None = None
    bounds: Bounds | None = None
    log_coordinate: bool = True
    derived: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def separable(self) -> bool:
        """True for ``a * g(x; u)``."""
        return self.shape is not None

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the curve (the isotonic family counts its distinct levels instead)."""
        return len(self.parameters)

    def coordinate(self, parameter: FloatArray) -> FloatArray:
        """The nonlinear coordinate u of the second parameter."""
        return np.log(parameter) if self.log_coordinate else parameter

    def parameter(self, coordinate: FloatArray) -> FloatArray:
        """The second parameter at the nonlinear coordinate u."""
        return np.exp(coordinate) if self.log_coordinate else coordinate


def _saturating(x: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    z = x * np.exp(-u)
    tail = z * np.exp(-z)
    return -np.expm1(-z), -tail, tail * (1 - z)


def _michaelis_menten(x: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    c = np.exp(u)
    share = x / (c + x)
    rest = c / (c + x)
    return share, -share * rest, share * rest * (rest - share)


def _power(x: FloatArray, u: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    log_x = np.log(x)
    value = np.exp(u * log_x)
    return value, value * log_x, value * log_x**2


def _scaled_bounds(smallest: float, largest: float) -> Bounds:
    def bounds(x: FloatArray) -> tuple[float, float]:
        return math.log(smallest * float(x.min())), math.log(largest * float(x.max()))

    return bounds


def _power_bounds(x: FloatArray) -> tuple[float, float]:
    limit = POWER_LARGEST_SPAN / math.log(float(x.max()) / float(x.min()))
    return -limit, limit


def _constant_basis(x: FloatArray) -> FloatArray:
    return np.ones((len(x), 1))


def _linear_basis(x: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(x)), x])


def _log_basis(x: FloatArray) -> FloatArray:
    return np.column_stack([np.ones(len(x)), np.log(x)])


# A derived quantity is multiplier * a^i * second^j, so its logarithm is linear in the logs of the parameters.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("constant", ("a",), "a", basis=_constant_basis),
        Family("linear", ("a", "b"), "a + b d", basis=_linear_basis),
        Family("log", ("a", "b"), "a + b log d", basis=_log_basis),
        Family(
            "power",
            ("a", "b"),
            "a d^b",
            positive=frozenset({"a"}),
            shape=_power,
            bounds=_power_bounds,
            log_coordinate=False,
        ),
        Family(
            "saturating",
            ("a", "tau"),
            "a (1 - exp(-d/tau))",
            positive=frozenset({"a", "tau"}),
            shape=_saturating,
            bounds=_scaled_bounds(SATURATING_SMALLEST, SATURATING_LARGEST),
            derived={"half_distance": (math.log(2), 0, 1), "initial_slope": (1.0, 1, -1)},
        ),
        Family(
            "michaelis_menten",
            ("a", "c"),
            "a d / (c + d)",
            positive=frozenset({"a", "c"}),
            shape=_michaelis_menten,
            bounds=_scaled_bounds(MICHAELIS_SMALLEST, MICHAELIS_LARGEST),
            derived={"half_distance": (1.0, 0, 1), "initial_slope": (1.0, 1, -1)},
        ),
        Family("isotonic", (), "non-decreasing in d"),
    )
}
"""Family name -> :class:`Family`. ``half_distance`` is the distance at which half the asymptote is reached."""


def find_family(name: str) -> Family:
    """A family by name; DesignError that lists the names there are."""
    if name not in FAMILIES:
        raise DesignError(f"unknown decay family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def predict(family: Family, parameters: FloatArray, x: FloatArray) -> FloatArray:
    """Curve values. parameters (..., p), x (n,) -> (..., n). Not for the isotonic family."""
    if family.basis is not None:
        return np.asarray(parameters @ family.basis(x).T)
    assert family.shape is not None
    u = family.coordinate(parameters[..., 1])
    return np.asarray(parameters[..., :1] * family.shape(x, u[..., None])[0])


def jacobian(family: Family, parameters: FloatArray, x: FloatArray) -> FloatArray:
    """Derivative of the curve in its parameters. parameters (p,), x (n,) -> (n, p)."""
    if family.basis is not None:
        return family.basis(x)
    assert family.shape is not None
    value, first, _ = family.shape(x, family.coordinate(parameters[1:]))
    return np.column_stack([value, parameters[0] * first * _coordinate_rate(family, parameters)])


def _coordinate_rate(family: Family, parameters: FloatArray) -> float:
    """Du / d(second parameter)."""
    return 1.0 / float(parameters[1]) if family.log_coordinate else 1.0

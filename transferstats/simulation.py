"""Transfer grids with a known truth: for tests, for planning, for teaching, and for the coverage study.

A simulated penalty is M + a_k + b_i + e_ki: a mean matrix M of a chosen decay family, and random fields of
seeds, units and their interaction. Each field is a mixture of patterns (all cells together, growing with
distance, forward against backward, by source, by target, cell by cell), because an error that only moves
single cells would average out of every summary and make few seeds look harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.distance import forward_mask, layer_distance, off_diagonal
from transferstats.errors import DesignError
from transferstats.grid import SIMILARITY, DatasetLosses, TransferGrid

PATTERNS: Mapping[str, float] = {
    "common": 0.4,
    "distance": 0.2,
    "direction": 0.1,
    "source": 0.1,
    "target": 0.1,
    "cell": 0.1,
}
"""Shares of the variance of a random field, summing to 1: mostly common to all cells, as lens quality is."""

SHAPES: tuple[str, ...] = ("normal", "heavy", "skewed")
"""Distributions of effects, all with mean 0 and variance 1: Gaussian, t with 3 df, shifted log-normal/gamma."""

LOGNORMAL_SIGMA = 1.0
"""Skewed units: log-normal with skewness about 6, a long right tail of hard documents."""

STEP_SIGMA = 0.5
"""How unevenly states change from layer to layer: log-normal steps, two in three within a factor of 1.6."""

GAMMA_SHAPE = 2.0
"""Skewed seeds: gamma with skewness 1.4; one bad training run among good ones."""


@dataclass(frozen=True, slots=True)
class Regime:
    """Where the uncertainty of a study comes from.

    Attributes
    ----------
    name: its name.
    seed_share: share of the variance of a mean over the study that seeds cause (at the study's own K and N).
    residual_share: share caused by the seed-by-unit residual; units cause the rest.
    relative_error: standard error of the mean penalty, as a fraction of the mean penalty.
    seed_shape, unit_shape: "normal", "heavy" (t, 3 df) or "skewed".
    """

    name: str
    seed_share: float
    residual_share: float = 0.02
    relative_error: float = 0.08
    seed_shape: str = "normal"
    unit_shape: str = "normal"

    def __post_init__(self) -> None:
        shares = (self.seed_share, self.residual_share, 1 - self.seed_share - self.residual_share)
        if min(shares) < -1e-12 or self.relative_error <= 0:
            raise DesignError(f"regime {self.name!r}: shares must be 0..1 and sum to at most 1, got {shares}")
        for shape in (self.seed_shape, self.unit_shape):
            if shape not in SHAPES:
                raise DesignError(f"unknown shape {shape!r}: use one of {', '.join(SHAPES)}")

    def spreads(self, mean: float, n_seeds: int, n_units: int) -> tuple[float, float, float]:
        """Standard deviations of seed, unit and residual effects that make these shares at K and N."""
        variance = (self.relative_error * mean) ** 2
        unit_share = max(1 - self.seed_share - self.residual_share, 0.0)
        return (
            float(np.sqrt(variance * self.seed_share * n_seeds)),
            float(np.sqrt(variance * unit_share * n_units)),
            float(np.sqrt(variance * self.residual_share * n_seeds * n_units)),
        )


REGIMES: Mapping[str, Regime] = {
    regime.name: regime
    for regime in (
        Regime("seed", 0.95),
        Regime("unit", 0.02),
        Regime("balanced", 0.49),
        Regime("heavy", 0.3, unit_shape="heavy"),
        Regime("skewed", 0.5, seed_shape="skewed", unit_shape="skewed"),
    )
}
"""Named regimes: seeds, units or both dominate; heavy-tailed units; skewed units and seeds."""


def find_regime(regime: str | Regime) -> Regime:
    """A regime by name; DesignError that lists the names there are."""
    if isinstance(regime, Regime):
        return regime
    if regime not in REGIMES:
        raise DesignError(f"unknown regime {regime!r}: use one of {', '.join(REGIMES)}, or a Regime")
    return REGIMES[regime]


CURVES: Mapping[str, Callable[[FloatArray, float, float], FloatArray]] = {
    "constant": lambda d, a, b: np.full_like(d, a),
    "linear": lambda d, a, b: a * d,
    "log": lambda d, a, b: a * np.log1p(d),
    "power": lambda d, a, b: a * d**b,
    "saturating": lambda d, a, b: a * (1 - np.exp(-d / b)),
    "michaelis": lambda d, a, b: a * d / (b + d),
}
"""Decay families for the truth: distance, level a, shape b (exponent, tau or half-distance) -> penalty."""


def true_penalty(
    n_layers: int,
    *,
    family: str = "saturating",
    level: float = 0.3,
    shape: float = 2.0,
    asymmetry: float = 1.0,
    layer_effect: float = 0.0,
    rng: int | np.random.Generator | None = 0,
) -> FloatArray:
    """(L, L) mean penalty matrix, nats, zero on the diagonal.

    Parameters
    ----------
    family: constant, linear, log, power, saturating or michaelis; ``level`` is a, ``shape`` is tau, b or c.
    asymmetry: forward penalties are multiplied by this.
    layer_effect: standard deviation of fixed source and target effects, as a fraction of the mean penalty.
    rng: used for the layer effects only.
    """
    if family not in CURVES:
        raise DesignError(f"unknown family {family!r}: use one of {', '.join(CURVES)}")
    distance = layer_distance(n_layers)
    off = off_diagonal(n_layers)
    matrix = np.zeros((n_layers, n_layers))
    matrix[off] = CURVES[family](distance[off], level, shape)
    matrix[forward_mask(n_layers)] *= asymmetry
    if layer_effect:
        generator = np.random.default_rng(rng)
        size = layer_effect * matrix[off].mean() * generator.normal(size=(2, n_layers))
        matrix += (size[0][:, None] + size[1][None, :]) * off
    return matrix


def random_fields(
    count: tuple[int, ...], n_layers: int, rng: np.random.Generator, *, shape: str = "normal", skew: str = "seed"
) -> FloatArray:
    """(*count, L, L) random fields with unit variance on average over cells, zero on the diagonal.

    ``shape`` is the distribution of every coefficient; ``skew`` picks gamma ("seed") or log-normal ("unit").
    """
    off = off_diagonal(n_layers)
    distance = layer_distance(n_layers)
    slope = np.where(off, (distance - distance[off].mean()) / (distance[off].std() or 1.0), 0.0)
    direction = np.where(forward_mask(n_layers), 1.0, -1.0) * off
    draw = _drawing(shape, skew, rng)
    amplitude = {name: np.sqrt(share) for name, share in PATTERNS.items()}
    # A mixture with independent coefficients: each pattern has mean square 1 over the cells.
    field = amplitude["common"] * draw((*count, 1, 1)) * off
    field = field + amplitude["distance"] * draw((*count, 1, 1)) * slope
    field += amplitude["direction"] * draw((*count, 1, 1)) * direction
    field += amplitude["source"] * draw((*count, n_layers, 1)) * off
    field += amplitude["target"] * draw((*count, 1, n_layers)) * off
    field += amplitude["cell"] * draw((*count, n_layers, n_layers)) * off
    return np.asarray(field)


def _drawing(shape: str, skew: str, rng: np.random.Generator) -> Callable[[tuple[int, ...]], FloatArray]:
    """A function size -> draws with mean 0 and variance 1."""
    if shape == "normal":
        return lambda size: rng.normal(size=size)
    if shape == "heavy":
        return lambda size: rng.standard_t(3, size=size) / np.sqrt(3)
    if skew == "seed":
        return lambda size: (rng.gamma(GAMMA_SHAPE, size=size) - GAMMA_SHAPE) / np.sqrt(GAMMA_SHAPE)
    centre = np.exp(LOGNORMAL_SIGMA**2 / 2)
    spread = centre * np.sqrt(np.expm1(LOGNORMAL_SIGMA**2))
    return lambda size: (rng.lognormal(sigma=LOGNORMAL_SIGMA, size=size) - centre) / spread


def simulate_penalties(
    truth: FloatArray,
    *,
    n_seeds: int,
    n_units: int,
    regime: str | Regime = "balanced",
    n_sets: int = 1,
    rng: int | np.random.Generator | None = None,
    unit_fields: FloatArray | None = None,
) -> FloatArray:
    """(n_sets, K, N, L, L) penalties with mean ``truth``, for many data sets at once.

    ``unit_fields``: (n_sets, N, L, L) standardised unit effects to use instead of new ones, so that two samples
    share their units.
    """
    generator = np.random.default_rng(rng)
    chosen = find_regime(regime)
    n_layers = len(truth)
    scale = float(np.abs(truth[off_diagonal(n_layers)]).mean())
    if not scale > 0:
        raise DesignError("the true penalty is 0 everywhere: effects scaled by it would be 0 too")
    seed_sd, unit_sd, residual_sd = chosen.spreads(scale, n_seeds, n_units)
    seeds = random_fields((n_sets, n_seeds, 1), n_layers, generator, shape=chosen.seed_shape)
    if unit_fields is None:
        unit_fields = random_fields((n_sets, n_units), n_layers, generator, shape=chosen.unit_shape, skew="unit")
    penalty = residual_sd * generator.normal(size=(n_sets, n_seeds, n_units, n_layers, n_layers))
    penalty *= off_diagonal(n_layers)
    penalty += truth + seed_sd * seeds
    penalty += unit_sd * unit_fields[:, None]
    return np.asarray(penalty)


@dataclass(frozen=True, slots=True)
class Simulation:
    """A simulated grid with what is true about it.

    Attributes
    ----------
    grid: losses, readouts "shared" and "logit", baselines, and null replicates where asked for.
    penalty: (L, L) true mean penalty. null_penalty: (L, L) true mean penalty of the null.
    shared_excess: (L,) true mean shared-lens excess S; that of the null, S0, is null_share times it.
    regime: where the uncertainty comes from.
    """

    grid: TransferGrid
    penalty: FloatArray
    null_penalty: FloatArray
    shared_excess: FloatArray
    regime: Regime


UNIT_CORRELATION = 0.7
"""Correlation of what a unit does to the observed and to the null penalties: hard units are hard in both."""


def simulate_grid(
    truth: FloatArray | None = None,
    *,
    n_seeds: int = 4,
    n_units: int = 100,
    regime: str | Regime = "balanced",
    n_null: int = 0,
    null_share: float = 0.3,
    datasets: Sequence[str] = ("simulated",),
    rng: int | np.random.Generator | None = None,
) -> Simulation:
    """Simulate a whole grid whose true penalty is known.

    Parameters
    ----------
    truth: (L, L) mean penalty, nats/token; ``true_penalty(6)`` unless given.
    n_seeds, n_units: K and N of every dataset. n_null: R null replicates, none by default.
    regime: a name or a :class:`Regime`.
    null_share: true null penalty as a share of the penalty (1: one lens is exactly right).
    datasets: names; all have the same truth and their own draws.
    rng: seed or generator.
    """
    penalty = true_penalty(6) if truth is None else np.asarray(truth, dtype=np.float64)
    if penalty.ndim != 2 or penalty.shape[0] != penalty.shape[1] or len(penalty) < 2:
        raise DesignError(f"truth must be (L, L) with L >= 2, got shape {penalty.shape}")
    if n_seeds < 1 or n_units < 1 or n_null < 0:
        raise DesignError("a simulation needs at least 1 seed and 1 unit, and no fewer than 0 null replicates")
    generator = np.random.default_rng(rng)
    n_layers = len(penalty)
    chosen = find_regime(regime)
    excess = penalty.sum(axis=0) / (n_layers - 1) / 4
    worlds = _Worlds(penalty, null_share * penalty, excess, null_share * excess, chosen, n_null)
    made = tuple(_simulate_dataset(name, worlds, n_seeds, n_units, generator) for name in datasets)
    # Drawn last, from a stream of its own: losses are what they were before layers had a similarity.
    (child,) = generator.spawn(1)
    grid = TransferGrid(
        subject="simulated",
        layers=tuple(f"layer {layer}" for layer in range(n_layers)),
        datasets=made,
        similarities={name: {SIMILARITY: layer_similarity(n_layers, child)} for name in datasets},
        provenance={"simulation": f"regime {chosen.name}, {n_seeds} seeds, {n_units} units"},
    )
    return Simulation(grid, penalty, null_share * penalty, excess, chosen)


def layer_similarity(n_layers: int, rng: np.random.Generator) -> FloatArray:
    """(L, L) similarity of layers, 1 on the diagonal: some steps change the states more than others.

    So it falls with distance without being a function of it: what distance adds to it can be asked.
    """
    place = np.cumsum(rng.lognormal(sigma=STEP_SIGMA, size=n_layers)) / n_layers
    return np.asarray(np.exp(-np.abs(place[:, None] - place[None, :])))


@dataclass(frozen=True, slots=True)
class _Worlds:
    penalty: FloatArray
    null_penalty: FloatArray
    excess: FloatArray
    null_excess: FloatArray
    regime: Regime
    n_null: int


def _simulate_dataset(
    name: str, worlds: _Worlds, n_seeds: int, n_units: int, rng: np.random.Generator
) -> DatasetLosses:
    n_layers = len(worlds.penalty)
    fields = random_fields((1, n_units), n_layers, rng, shape=worlds.regime.unit_shape, skew="unit")
    other = random_fields((1, n_units), n_layers, rng, shape=worlds.regime.unit_shape, skew="unit")
    null_fields = UNIT_CORRELATION * fields + np.sqrt(1 - UNIT_CORRELATION**2) * other
    tokens = np.ceil(200 * rng.lognormal(sigma=0.4, size=n_units))
    difficulty = rng.lognormal(sigma=0.3, size=n_units)
    final = 3.0 * difficulty
    observed = _losses(worlds.penalty, worlds.excess, worlds.regime, (n_seeds, difficulty, final), fields, rng)
    units = tuple(f"unit {index:04d}" for index in range(n_units))
    null = None
    if worlds.n_null:
        losses, readouts = _losses(
            worlds.null_penalty,
            worlds.null_excess,
            worlds.regime,
            (worlds.n_null, difficulty, final),
            null_fields,
            rng,
        )
        replicates = tuple(f"replicate {index}" for index in range(worlds.n_null))
        null = DatasetLosses(name, replicates, units, units, tokens, losses, readouts)
        # From a stream of its own: what follows is what it was before a null had one.
        child = rng.spawn(1)[0]
        losses, readouts = _losses(
            worlds.null_penalty, worlds.null_excess, worlds.regime, (1, difficulty, final), null_fields, child
        )
        null = replace(null, null=DatasetLosses(name, replicates[:1], units, units, tokens, losses, readouts))
    baselines = {"final_ce": final, "prior_ce": final + 3.0, "prior_kl": 3.0 * difficulty}
    seeds = tuple(f"seed {index}" for index in range(n_seeds))
    return DatasetLosses(name, seeds, units, units, tokens, *observed, baselines, null)


def _losses(
    penalty: FloatArray,
    excess: FloatArray,
    regime: Regime,
    design: tuple[int, FloatArray, FloatArray],
    fields: FloatArray,
    rng: np.random.Generator,
) -> tuple[dict[str, FloatArray], dict[str, dict[str, FloatArray]]]:
    """Losses and readouts of one world; ``design``: seeds, difficulty (N,) and final loss (N,) of the units."""
    n_seeds, difficulty, final = design
    n_units, n_layers = len(difficulty), len(penalty)
    penalties = simulate_penalties(
        penalty, n_seeds=n_seeds, n_units=n_units, regime=regime, rng=rng, unit_fields=fields
    )[0]
    depth = np.linspace(0, 1, n_layers)
    own = (0.1 + 1.5 * np.exp(-2 * depth)) * difficulty[:, None]
    own = own * (1 + 0.01 * rng.normal(size=(n_seeds, 1, n_layers)))
    kl = own[:, :, None, :] + penalties
    # ce follows kl up to the noise of the drawn tokens, so that a ce penalty can be negative.
    noise = 0.05 * rng.normal(size=(1, n_units, 1, 1)) * rng.normal(size=(1, 1, n_layers, n_layers))
    shared = own + excess * (1 + 0.2 * rng.normal(size=(1, n_units, 1)) + 0.1 * rng.normal(size=(n_seeds, 1, 1)))
    readouts = {"shared": shared, "logit": own * 2.5}
    above = final[:, None]
    return (
        {"kl": kl, "ce": kl + final[:, None, None] + noise},
        {name: {"kl": values, "ce": values + above} for name, values in readouts.items()},
    )

"""How large should the next study be? Expected half-width and power from a pilot's variance components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats as scipy_stats

from transferstats.arrays import FloatArray
from transferstats.errors import DesignError
from transferstats.grid import TransferGrid
from transferstats.results.estimate import Estimate
from transferstats.results.planning import StudyPlan, StudySize
from transferstats.stats.crossed import Piece
from transferstats.stats.estimation import piece_of, with_average
from transferstats.stats.intervals import FEW_SEEDS, check_conf_level
from transferstats.stats.relevance import Smallest, check_smallest
from transferstats.stats.samples import samples_of
from transferstats.stats.statistics import StatisticLike

STUDIES = 20_000
"""Simulated studies per plan; the Monte-Carlo error of a power is then at most 0.35 points."""

MOST_UNITS = 10_000_000
"""As good as endlessly many: the part of the units is then gone."""


@dataclass(frozen=True, slots=True)
class Components:
    """Variances of one seed, one unit and one seed-by-unit residual, in the unit of the estimate squared."""

    seed: float
    unit: float
    residual: float

    def parts(self, n_seeds: int, n_units: int) -> tuple[float, float]:
        """Expected variance parts of a study with K seeds and N units."""
        return self.seed / n_seeds + self.residual / (n_seeds * n_units), self.unit / n_units


def components_of(piece: Piece) -> Components:
    """Components of a scalar statistic from its parts A, B' and E; needs at least 2 seeds and 2 units."""
    n_seeds, n_units = piece.labels.n_seeds, piece.labels.n_units
    if n_seeds < 2 or n_units < 2:
        raise DesignError(
            f"planning needs a pilot with at least 2 seeds and 2 units; dataset {piece.labels.dataset!r} has "
            f"{n_seeds} and {n_units}"
        )
    seed, unit = piece.parts.variances[:, 0]
    residual = float(piece.parts.residual[0])
    return Components(
        n_seeds * max(float(seed) - residual, 0.0), n_units * float(unit), n_seeds * n_units * residual
    )


def plan_study(
    grid: TransferGrid,
    *,
    seeds: Sequence[int],
    units: Sequence[int],
    smallest: Smallest | None = None,
    statistic: StatisticLike = "mean",
    effect: float | None = None,
    loss: str | None = None,
    conf_level: float = 0.95,
) -> StudyPlan:
    """Expected half-width and power of studies with other numbers of seeds and units.

    Parameters
    ----------
    grid: the pilot, with at least 2 seeds and 2 units in every dataset.
    seeds, units: numbers per dataset to consider; all combinations are planned.
    smallest: smallest effect of interest, in the unit of the statistic; without it there is no power.
    statistic: a scalar statistic. effect: true value assumed for the power of "exceeds"; the pilot's estimate
        unless given. loss: "kl", "ce" or "disagreement".

    Returns
    -------
    StudyPlan. The average over datasets is planned where there are several, each with these seeds and units.

    Raises
    ------
    DesignError: a pilot without seeds or units to learn from, a vector statistic, no usable ``smallest``.

    Examples
    --------
    >>> import transferstats as ts
    >>> pilot = ts.simulate_grid(n_seeds=5, n_units=40, rng=2).grid
    >>> plan = ts.plan_study(pilot, seeds=[3, 10], units=[100], smallest=0.05)
    >>> bool(plan.half_width[1] < plan.half_width[0])
    True
    """
    level = check_conf_level(conf_level)
    bounds = (float("nan"), float("nan")) if smallest is None else check_smallest(smallest)
    if not len(seeds) or not len(units) or min(seeds) < 2 or min(units) < 2:
        raise DesignError("seeds and units must each list at least one number, and none below 2")
    pieces, pilot = _pilot(grid, statistic, loss, level)
    components = [components_of(piece) for piece in pieces]
    truth = float(pilot.estimate) if effect is None else float(effect)
    sizes = list(product(map(int, seeds), map(int, units)))
    rows = np.array([_one(components, size, truth, bounds, level) for size in sizes])
    now = (min(p.labels.n_seeds for p in pieces), min(p.labels.n_units for p in pieces))
    widths = [
        _one(components, size, truth, bounds, level)[0]
        for size in (now, (2 * now[0], now[1]), (now[0], 2 * now[1]))
    ]
    weak = f"the pilot has {now[0]} seeds, so the seed component is itself uncertain" if now[0] < FEW_SEEDS else ""
    note = "; ".join(filter(None, (weak, *_without_variation(pieces))))
    return StudyPlan(
        estimate=pilot,
        effect=truth,
        smallest=bounds,
        seeds=np.array([size[0] for size in sizes], dtype=np.float64),
        units=np.array([size[1] for size in sizes], dtype=np.float64),
        half_width=rows[:, 0],
        power_exceeds=rows[:, 1],
        power_within=rows[:, 2],
        share_seeds=rows[:, 3],
        gain_seeds=widths[1] / widths[0],
        gain_units=widths[2] / widths[0],
        pilot_seeds=now[0],
        pilot_units=now[1],
        note=note,
    )


def _pilot(
    grid: TransferGrid, statistic: StatisticLike, loss: str | None, level: float
) -> tuple[list[Piece], Estimate]:
    """Every dataset's piece of the pilot, and its headline; DesignError where nothing can be planned from it."""
    unit = grid.unit_of(loss)
    pieces = [piece_of(one, statistic, distance=grid.scale(), unit=unit) for one in samples_of(grid, loss)]
    if not pieces[0].labels.scalar:
        raise DesignError("a plan is about one number: choose a scalar statistic such as 'mean' or 'slope'")
    for piece in pieces:
        components_of(piece)
    pilot = with_average(pieces, conf_level=level).headline
    if not np.isfinite(pilot.conf_low):
        bare = [one.dataset for one in with_average(pieces, conf_level=level) if not np.isfinite(one.conf_low)]
        where = f" (dataset {bare[0]!r}; plan from others with grid.with_datasets)" if len(pieces) > 1 else ""
        raise DesignError(f"the pilot has no interval to plan from{where}: {pilot.note}")
    return pieces, pilot


def _without_variation(pieces: Sequence[Piece]) -> Iterator[str]:
    """What to say of datasets whose losses never vary: nothing tells what they would do in a new study."""
    for piece in pieces:
        if not np.any(piece.parts.variances[:, 0] > 0):
            yield (
                f"dataset {piece.labels.dataset!r} varies over neither seeds nor units, and counts here as if it "
                "never would"
            )


def size_study(
    grid: TransferGrid,
    *,
    half_width: float,
    seeds: Sequence[int] = (2, 3, 5, 10, 20),
    statistic: StatisticLike = "mean",
    loss: str | None = None,
    conf_level: float = 0.95,
) -> StudySize:
    """How many units each number of seeds needs for a wanted half-width of the interval.

    Parameters
    ----------
    grid: the pilot, with at least 2 seeds and 2 units in every dataset. half_width: wanted expected half-width,
        in the unit of the statistic. seeds: numbers of seeds per dataset to consider.
    statistic: a scalar statistic. loss: "kl", "ce" or "disagreement".

    Returns
    -------
    StudySize. Some numbers of seeds reach the target with no number of units: their units are NaN, and
    ``floor`` says how narrow the interval can get with them.

    Raises
    ------
    DesignError: see :func:`plan_study`; a half-width that is not positive.

    Examples
    --------
    >>> import transferstats as ts
    >>> pilot = ts.simulate_grid(n_seeds=5, n_units=40, rng=2).grid
    >>> size = ts.size_study(pilot, half_width=0.03, seeds=[3, 10])
    >>> bool(size.units[1] <= size.units[0] or size.units[0] != size.units[0])
    True
    """
    level = check_conf_level(conf_level)
    if not (np.isfinite(half_width) and half_width > 0):
        raise DesignError(f"half_width must be a positive number in the unit of the statistic, got {half_width!r}")
    if not len(seeds) or min(seeds) < 2:
        raise DesignError("seeds must list at least one number, and none below 2")
    pieces, pilot = _pilot(grid, statistic, loss, level)
    components = [components_of(piece) for piece in pieces]
    chosen = sorted({int(k) for k in seeds})
    found = [_units_needed(components, k, half_width, level) for k in chosen]
    now = (min(p.labels.n_seeds for p in pieces), min(p.labels.n_units for p in pieces))
    return StudySize(
        estimate=pilot,
        target=float(half_width),
        seeds=np.array(chosen, dtype=np.float64),
        units=np.array([units for units, _, _ in found]),
        half_width=np.array([reached for _, reached, _ in found]),
        floor=np.array([floor for _, _, floor in found]),
        pilot_seeds=now[0],
        pilot_units=now[1],
        note=f"the pilot has {now[0]} seeds, so the seed component is itself uncertain"
        if now[0] < FEW_SEEDS
        else "",
    )


def _units_needed(
    components: Sequence[Components], n_seeds: int, target: float, level: float
) -> tuple[float, float, float]:
    """(fewest units, half-width with them, half-width with endlessly many); units NaN where none suffice."""

    def width(n_units: int) -> float:
        return _one(components, (n_seeds, n_units), 0.0, (np.nan, np.nan), level)[0]

    floor = width(MOST_UNITS)
    if floor > target:
        return float("nan"), float("nan"), floor
    low, high = 1, 2  # low never suffices, high may
    while width(high) > target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if width(middle) <= target else (middle, high)
    return float(high), width(high), floor


def _one(
    components: Sequence[Components],
    size: tuple[int, int],
    effect: float,
    bounds: tuple[float, float],
    level: float,
) -> tuple[float, float, float, float]:
    """(expected half-width, power of "exceeds" at effect, power of "within" at 0, seed share)."""
    n_seeds, n_units = size
    weight = len(components) ** -2
    parts = np.array([one.parts(n_seeds, n_units) for one in components]).reshape(-1) * weight
    dfs = np.tile([n_seeds - 1.0, n_units - 1.0], len(components))
    # The same draws for every plan: differences between plans are then free of Monte-Carlo noise.
    rng = np.random.default_rng(0)
    error = np.sqrt(parts.sum()) * rng.normal(size=STUDIES)
    estimated = parts * rng.chisquare(dfs, size=(STUDIES, len(dfs))) / dfs
    half, narrow = (_half_width(estimated, dfs, at) for at in (level, 2 * level - 1))
    known = bool(np.isfinite(bounds).all())
    exceeds = (effect + error - half > bounds[1]) | (effect + error + half < bounds[0])
    within = (error - narrow > bounds[0]) & (error + narrow < bounds[1])
    total = parts.sum()
    return (
        float(half.mean()),
        float(exceeds.mean()) if known else float("nan"),
        float(within.mean()) if known else float("nan"),
        float(parts[::2].sum() / total) if total > 0 else float("nan"),
    )


def _half_width(parts: FloatArray, dfs: FloatArray, level: float) -> FloatArray:
    if level <= 0:
        return np.full(len(parts), np.inf)
    return np.asarray(np.sqrt(parts @ scipy_stats.t.isf((1 - level) / 2, dfs) ** 2))

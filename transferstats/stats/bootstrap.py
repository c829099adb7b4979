"""Bootstrap intervals for crossed seeds and units.

The default, ``two_term``, estimates variance parts from three resamplings (seeds only, units only, both), with
the corrections K/(K-1), N/(N-1) and the removal of the doubly counted residual of two-factor bootstraps
(Schuett et al. 2023, doi 10.7554/eLife.82566), and combines them with their own t quantiles as the crossed
interval does. The other kinds read quantiles off the pigeonhole bootstrap (Owen 2007, doi 10.1214/07-AOAS122);
they are offered because people ask for them, and under-cover when a few seeds dominate.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.distance import Distance
from transferstats.errors import DesignError, UncertaintyWarning
from transferstats.results.estimate import Estimate
from transferstats.stats.crossed import Labels, VarianceParts, assemble
from transferstats.stats.influence import is_scalar
from transferstats.stats.intervals import check_conf_level, effective_df
from transferstats.stats.quantiles import (
    PLAIN,
    LevelMap,
    bca_levels,
    expanded_levels,
    measured_coverage,
    quantile_interval,
)
from transferstats.stats.resampling import Replicates, Sample, plain_variances, prepare_sample, resample
from transferstats.stats.statistics import StatisticLike

KINDS: tuple[str, ...] = ("two_term", "percentile", "basic", "bca", "studentized", "expanded")

FEWEST = 200
"""Fewest replicates accepted: a 95 % limit rests on the outer 2.5 % of them."""

FAILED_SHARE = 0.05
"""Share of failed replicates from which a warning is given: failures are rarely at random."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Plan of a bootstrap: a value, passed as ``method=``.

    Attributes
    ----------
    replicates: number of replicates, at least 200.
    kind: ``"two_term"`` (default, calibrated for few seeds), or the pigeonhole intervals ``"percentile"``,
        ``"basic"``, ``"bca"`` (Efron 1987, doi 10.1080/01621459.1987.10478410), ``"studentized"``,
        ``"expanded"`` (Hesterberg 2015, doi 10.1080/00031305.2015.1089789).
    rng: seed or generator; None draws fresh entropy, so that numbers change from call to call.
    memory: bytes of work space; it never changes a number.
    """

    replicates: int = 10_000
    kind: str = "two_term"
    rng: int | np.random.Generator | None = None
    memory: int = 2**28

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DesignError(f"unknown bootstrap kind {self.kind!r}: use one of {', '.join(KINDS)}")
        if self.replicates < FEWEST:
            raise DesignError(f"a bootstrap interval needs at least {FEWEST} replicates, got {self.replicates}")

    def generator(self) -> np.random.Generator:
        """A generator from ``rng``; the same one where ``rng`` is a generator."""
        return np.random.default_rng(self.rng)


DEFAULT_PLAN = Bootstrap(replicates=2000, rng=0)
"""Of results that only a bootstrap gives: enough for limits, and the same numbers on every call."""


@dataclass(frozen=True, slots=True)
class Draws:
    """One bootstrapped statistic with m terms, before an interval is formed; all on the identity scale.

    Attributes
    ----------
    estimate: (m,). replicates: the three resamplings, (B, m) each, NaN where the statistic failed.
    n_seeds, n_units: K and N.
    cubes, squares: (m,) sums of cubed and squared influences of seeds and of units, for the acceleration;
        zeros unless the kind is bca.
    variances: (B + 1, m) variance A + B of each replicate and, last, of the sample; empty unless the kind is
        studentized.
    """

    estimate: FloatArray
    replicates: Replicates
    n_seeds: int
    n_units: int
    cubes: FloatArray
    squares: FloatArray
    variances: FloatArray


def bootstrap_estimate(
    loss: npt.ArrayLike,
    statistic: StatisticLike,
    plan: Bootstrap,
    *,
    conf_level: float = 0.95,
    weights: npt.ArrayLike | None = None,
    scale: str = "identity",
    distance: Distance | None = None,
    unit: str = "nats/token",
) -> Estimate:
    """Bootstrap a statistic of the mean penalty over seeds and units; the result keeps its replicates.

    Parameters
    ----------
    loss: (K, N, L, L) raw losses. statistic: a name, an object (its ``batch`` is used) or a function; no
        gradient is needed. plan: :class:`Bootstrap`. The others as in ``crossed_estimate``.

    Raises
    ------
    DataError, DesignError: input that cannot be analysed. Replicates in which the statistic is NaN are left
    out and counted in ``note``; more than 5 % of them raise an UncertaintyWarning.
    """
    check_conf_level(conf_level)
    sample = prepare_sample(loss, statistic, weights=weights, distance=distance)
    labels = sample_labels(sample, unit)
    return finish([draw(sample, plan, plan.generator())], labels, plan, conf_level=conf_level, scale=scale)


def sample_labels(sample: Sample, unit: str) -> Labels:
    """Labels of an estimate made from one sample."""
    n_seeds, n_units = sample.deviations.shape[:2]
    return Labels(
        terms=sample.statistic.terms(len(sample.centre), len(sample.estimate)),
        scalar=is_scalar(sample.statistic, sample.centre),
        n_seeds=n_seeds,
        n_units=n_units,
        unit=sample.statistic.unit(unit),
    )


def draw(sample: Sample, plan: Bootstrap, rng: np.random.Generator) -> Draws:
    """Replicates of one sample, with whatever else the kind of interval needs."""
    studentized = plan.kind == "studentized"
    replicates = resample(sample, plan.replicates, rng, memory=plan.memory, keep_weights=studentized)
    n_seeds, n_units = sample.deviations.shape[:2]
    cubes = squares = np.zeros(len(sample.estimate))
    variances = np.empty((0, len(sample.estimate)))
    if plan.kind == "bca":
        table = sample.influences()
        by_seed, by_unit = table.mean(axis=2) / n_seeds, table.mean(axis=1) / n_units
        cubes = (by_seed**3).sum(axis=1) + (by_unit**3).sum(axis=1)
        squares = (by_seed**2).sum(axis=1) + (by_unit**2).sum(axis=1)
    if studentized:
        variances = plain_variances(
            sample.influences() / sample.weights,
            np.concatenate([replicates.seed_weights, np.full((1, n_seeds), 1 / n_seeds)]),
            np.concatenate([replicates.unit_weights, sample.weights[None] / n_units]),
        )
    return Draws(sample.estimate, replicates, n_seeds, n_units, cubes, squares, variances)


def finish(draws: Sequence[Draws], labels: Labels, plan: Bootstrap, *, conf_level: float, scale: str) -> Estimate:
    """Interval of the equal-weight average of independently bootstrapped estimates (usually one)."""
    mean = np.mean([one.estimate for one in draws], axis=0)
    both = sum((one.replicates.both - one.estimate for one in draws), np.zeros(1)) / len(draws) + mean
    parts = _merge([three_resamplings(one, mean, len(draws), scale) for one in draws])
    method = "two-term bootstrap" if plan.kind == "two_term" else f"pigeonhole {plan.kind} bootstrap"
    quoted = "" if plan.kind == "two_term" else measured_coverage(plan.kind, labels.n_seeds)
    note = "; ".join(text for text in (labels.note, _failures(both, plan), quoted) if text)
    result = assemble(mean, parts, replace(labels, method=method, note=note), conf_level=conf_level, scale=scale)
    result = replace(result, replicates=both[:, 0] if labels.scalar else both)
    if plan.kind == "two_term" or np.isnan(parts.variances).all():
        return result
    return _with_quantiles(result, _distributions(draws, both, mean, parts, plan.kind, scale), labels.scalar)


def three_resamplings(one: Draws, mean: FloatArray, share: int, scale: str) -> VarianceParts:
    """Variance parts of ``mean`` due to one of ``share`` averaged samples, from its three resamplings.

    Resampling n things understates their variance by (n-1)/n; the interaction of the two resamplings isolates
    the residual, which the seed part and the unit part both contain. On the log scale the variances are those
    of the log of the replicates, returned as if on the identity scale (times mean^2).
    """

    def deviations(values: FloatArray) -> FloatArray:
        shifted = mean + (values - one.estimate) / share
        if scale != "log":
            return shifted - mean
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(shifted > 0, np.log(shifted / mean), np.nan) * mean

    n_seeds, n_units = one.n_seeds, one.n_units
    seeds, units, both = (
        deviations(values) for values in (one.replicates.seeds, one.replicates.units, one.replicates.both)
    )
    failed = np.isnan(seeds) | np.isnan(units) | np.isnan(both)
    undefined = np.full(mean.shape, np.nan)
    if n_units == 1:
        return VarianceParts(undefined[None], np.array([1.0]), ("units",), undefined)
    unit = _variance(units, failed) * n_units / (n_units - 1)
    if n_seeds == 1:
        return VarianceParts(unit[None], np.array([n_units - 1.0]), ("units",), undefined)
    seed = _variance(seeds, failed) * n_seeds / (n_seeds - 1)
    residual = _variance(both - seeds - units, failed)
    residual = residual * (n_seeds * n_units) / ((n_seeds - 1) * (n_units - 1))
    return VarianceParts(
        np.stack([seed, np.maximum(unit - residual, 0.0)]),
        np.array([n_seeds - 1.0, n_units - 1.0]),
        ("seeds", "units"),
        residual,
    )


def _variance(values: FloatArray, failed: npt.NDArray[np.bool_]) -> FloatArray:
    """(m,) variance over the replicates that did not fail; NaN where fewer than 2 are left."""
    count = (~failed).sum(axis=0)
    safe = np.where(failed, 0.0, values)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = safe.sum(axis=0) / count
        squares = np.where(failed, 0.0, (safe - centre) ** 2).sum(axis=0)
        return np.asarray(np.where(count > 1, squares / (count - 1), np.nan))


def _merge(parts: Sequence[VarianceParts]) -> VarianceParts:
    return VarianceParts(
        np.concatenate([one.variances for one in parts]),
        np.concatenate([one.dfs for one in parts]),
        tuple(name for one in parts for name in one.names),
        np.asarray(sum(one.residual for one in parts)),
    )


def _failures(both: FloatArray, plan: Bootstrap) -> str:
    failed = int(np.isnan(both).any(axis=1).sum())
    if not failed:
        return ""
    text = f"the statistic was undefined in {failed} of {plan.replicates} replicates, which were left out"
    if failed > FAILED_SHARE * plan.replicates:
        warnings.warn(f"{text}: the interval is about the others only", UncertaintyWarning, stacklevel=3)
    return text


def _with_quantiles(
    result: Estimate, distributions: Sequence[tuple[FloatArray, LevelMap]], scalar: bool
) -> Estimate:
    """The estimate with limits and p-value from the quantiles of its bootstrap distribution."""
    found = np.array([quantile_interval(values, levels, result.conf_level) for values, levels in distributions])
    low, high, p_value = (column[0] if scalar else column for column in found.T)
    if result.scale == "log":
        low, high, p_value = np.exp(low), np.exp(high), np.full(np.shape(low), np.nan)
    return replace(result, conf_low=np.asarray(low), conf_high=np.asarray(high), p_value=np.asarray(p_value))


def _distributions(
    draws: Sequence[Draws], both: FloatArray, mean: FloatArray, parts: VarianceParts, kind: str, scale: str
) -> list[tuple[FloatArray, LevelMap]]:
    """Per term: the distribution whose quantiles are the limits, on the working scale, and its level map."""
    centre, values = mean, both
    if scale == "log":
        with np.errstate(invalid="ignore", divide="ignore"):
            centre, values = np.log(mean), np.log(np.where(both > 0, both, np.nan))
    if kind == "basic":
        values = 2 * centre - values
    if kind == "studentized":
        values = _studentized(draws, centre, values, both, scale)
    levels = [PLAIN] * len(mean)
    if kind == "expanded":
        levels = [expanded_levels(float(df)) for df in np.atleast_1d(effective_df(parts.variances, parts.dfs))]
    if kind == "bca":
        acceleration = _acceleration(draws)
        levels = [
            bca_levels(_share_below(column, middle), float(a))
            for column, middle, a in zip(values.T, centre, acceleration, strict=True)
        ]
    return list(zip(values.T, levels, strict=True))


def _studentized(
    draws: Sequence[Draws], centre: FloatArray, values: FloatArray, both: FloatArray, scale: str
) -> FloatArray:
    """centre - (s / s*) (theta* - theta): the reflected, studentized distribution of each term."""
    variance = np.asarray(sum(one.variances for one in draws))
    observed, replicated = variance[-1], variance[:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        if scale == "log":
            observed, replicated = observed / np.exp(2 * centre), replicated / both**2
        # A replicate of one seed drawn K times has no seed variance and can have none at all.
        stretch = np.sqrt(observed / np.where(replicated > 0, replicated, np.nan))
    return np.asarray(centre - stretch * (values - centre))


def _acceleration(draws: Sequence[Draws]) -> FloatArray:
    """(m,) acceleration sum l^3 / (6 (sum l^2)^1.5) over the influences l of all seeds and units."""
    cubes = np.asarray(sum(one.cubes for one in draws))
    squares = np.asarray(sum(one.squares for one in draws))
    return np.asarray(cubes / (6 * np.where(squares > 0, squares, 1.0) ** 1.5))


def _share_below(values: FloatArray, middle: float) -> float:
    """Share of replicates below the estimate, ties halved, kept off 0 and 1 by half a replicate."""
    valid = values[np.isfinite(values)]
    if not len(valid):
        return 0.5
    below = np.count_nonzero(valid < middle) + 0.5 * np.count_nonzero(valid == middle)
    return float(np.clip(below / len(valid), 0.5 / len(valid), 1 - 0.5 / len(valid)))

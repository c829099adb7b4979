"""Simulate one setting many times and count how often each method's interval contains the truth.

Everything is vectorised over data sets; the intervals themselves are those of the package
(``variance_parts``, ``paired_parts``, ``interval_from_parts``, ``draw``/``finish``).
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats
from settings import Setting
from tally import (
    BOOTSTRAP_REPLICATES,
    LEVEL,
    LINEAR,
    N_LAYERS,
    SUMMARIES,
    FloatArray,
    Tally,
    batches,
    simulated,
    stream,
    tables,
    truth_matrix,
    weights_of,
)

from transferstats.distance import off_diagonal
from transferstats.simulation import UNIT_CORRELATION, find_regime, random_fields, simulate_penalties
from transferstats.stats.bootstrap import KINDS, Bootstrap, draw, finish, sample_labels
from transferstats.stats.crossed import variance_parts
from transferstats.stats.decay_terms import DecayStatistic
from transferstats.stats.fieller import share_limits, share_parts
from transferstats.stats.intervals import interval_from_parts, p_two_sided
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.paired import Pairing, paired_parts
from transferstats.stats.relevance import verdict
from transferstats.stats.resampling import prepare_sample
from transferstats.stats.statistics import linear_statistic, named_statistic


def measure(setting: Setting) -> pd.DataFrame:
    """The rows of one setting."""
    studies = {
        "targets": measure_targets,
        "bootstrap": measure_bootstrap,
        "slope_null": measure_slope_null,
        "null_test": measure_null,
        "family": measure_family,
        "relevance": measure_relevance,
        "comparison": measure_comparison,
        "weights": measure_weights,
    }
    tally = Tally(setting)
    studies[setting.study](setting, tally)
    return tally.frame()


def add_crossed(tally: Tally, target: str, estimate: FloatArray, table: FloatArray, truth: float) -> None:
    """Two-sided 95 % interval, and both one-sided 5 % tests (from the 90 % interval)."""
    parts = variance_parts(table)
    for method, level in (("crossed", LEVEL), ("crossed, one-sided 5 %", 2 * LEVEL - 1)):
        low, high = interval_from_parts(estimate, parts.variances, parts.dfs, conf_level=level)
        tally.add(method, target, estimate, low, high, truth)


def measure_targets(setting: Setting, tally: Tally) -> None:
    """Crossed intervals of every target of the design."""
    truth, rng = truth_matrix(setting), stream(setting)
    names = (*LINEAR, "forward", "backward")
    weights = weights_of(names)
    true_values = np.tensordot(weights, truth, axes=2)
    decays = [
        (DecayStatistic("saturating").only("a", "tau", log=True), ("log a", "log tau")),
        (DecayStatistic("power").only("b"), ("power b",)),
    ]
    for size in batches(setting):
        penalty = simulated(setting, rng, size)
        estimates, table = tables(penalty, weights)
        for index in range(len(LINEAR)):
            add_crossed(tally, names[index], estimates[index], table[index], float(true_values[index]))
        forward, backward = estimates[5], estimates[6]
        ratio = np.log(backward / forward)
        influence = table[6] / backward[:, None, None] - table[5] / forward[:, None, None]
        add_crossed(tally, "log ratio", ratio, influence, float(np.log(true_values[6] / true_values[5])))
        for statistic, labels in decays:
            values, influences = fitted_tables(penalty, statistic)
            target = np.atleast_1d(statistic(truth))
            for index, label in enumerate(labels):
                add_crossed(tally, label, values[:, index], influences[:, index], float(target[index]))


def fitted_tables(penalty: FloatArray, statistic: DecayStatistic) -> tuple[FloatArray, FloatArray]:
    """Values (S, m) and influence tables (S, m, K, N) of a fitted curve in every data set."""
    centre = penalty.mean(axis=(1, 2))
    values = statistic.batch(centre)
    influences = np.empty((*values.shape, *penalty.shape[1:3]))
    for index, matrix in enumerate(centre):
        gradient = statistic.gradient(matrix)
        deviation = penalty[index] - matrix
        influences[index] = np.tensordot(gradient, deviation, axes=((1, 2), (2, 3)))
    return values, influences


def measure_bootstrap(setting: Setting, tally: Tally) -> None:
    """Every bootstrap kind, and the negative controls, on three linear targets."""
    truth, rng = truth_matrix(setting), stream(setting)
    weights = weights_of(SUMMARIES)
    true_values = np.tensordot(weights, truth, axes=2)
    statistic = linear_statistic(weights, name="summaries", terms=SUMMARIES)
    resampling = stream(setting, "bootstrap")
    for size in batches(setting):
        penalty = simulated(setting, rng, size)
        estimates, table = tables(penalty, weights)
        for index, target in enumerate(SUMMARIES):
            add_crossed(tally, target, estimates[index], table[index], float(true_values[index]))
            add_controls(tally, target, estimates[index], table[index], float(true_values[index]), resampling)
        for one in penalty:
            add_bootstraps(tally, one, statistic, true_values, resampling)


def add_bootstraps(tally: Tally, losses: FloatArray, statistic, truth: FloatArray, rng) -> None:  # type: ignore[no-untyped-def]
    """All kinds from the same replicates of one data set."""
    sample = prepare_sample(losses, statistic)
    plan = Bootstrap(BOOTSTRAP_REPLICATES, kind="studentized", rng=rng)
    draws = draw(sample, plan, rng)
    table = sample.influences()
    by_seed = table.mean(axis=2) / table.shape[1]
    by_unit = table.mean(axis=1) / table.shape[2]
    draws = replace(
        draws,
        cubes=(by_seed**3).sum(axis=1) + (by_unit**3).sum(axis=1),
        squares=(by_seed**2).sum(axis=1) + (by_unit**2).sum(axis=1),
    )
    labels = sample_labels(sample, "nats/token")
    for kind in KINDS:
        result = finish([draws], labels, replace(plan, kind=kind), conf_level=LEVEL, scale="identity")
        for index, target in enumerate(SUMMARIES):
            tally.add(
                f"bootstrap {kind}",
                target,
                result.estimate[index],
                result.conf_low[index],
                result.conf_high[index],
                float(truth[index]),
            )


def add_controls(
    tally: Tally, target: str, estimate: FloatArray, table: FloatArray, truth: float, rng: np.random.Generator
) -> None:
    """What people do: pool everything, resample units only, take percentiles over seeds."""
    n_seeds, n_units = table.shape[1:]
    pooled = np.sqrt(np.square(table).sum(axis=(1, 2)) / (n_seeds * n_units * (n_seeds * n_units - 1)))
    half = scipy_stats.t.isf((1 - LEVEL) / 2, n_seeds * n_units - 1) * pooled
    tally.add("naive (pooled)", target, estimate, estimate - half, estimate + half, truth)
    units = np.sqrt(np.square(table.mean(axis=1)).sum(axis=1) / (n_units * (n_units - 1)))
    half = scipy_stats.t.isf((1 - LEVEL) / 2, n_units - 1) * units
    tally.add("units only", target, estimate, estimate - half, estimate + half, truth)
    counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=BOOTSTRAP_REPLICATES) / n_seeds
    replicates = estimate[:, None] + table.mean(axis=2) @ counts.T
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    tally.add("seed percentile", target, estimate, low, high, truth)


def measure_slope_null(setting: Setting, tally: Tally) -> None:
    """Tests of "grows with distance" where it does not: crossed, OLS on cells, OLS on cells x seeds, QAP."""
    rng = stream(setting)
    weights = weights_of(("slope",))
    off = off_diagonal(N_LAYERS)
    index = np.arange(N_LAYERS)
    distance = np.abs(index[:, None] - index[None, :]).astype(float)
    permuted = np.stack([distance[np.ix_(p, p)][off] for p in map(list, itertools.permutations(range(N_LAYERS)))])
    permuted -= permuted.mean(axis=1, keepdims=True)
    for size in batches(setting):
        penalty = simulated(setting, rng, size)
        estimates, table = tables(penalty, weights)
        parts = variance_parts(table[0])
        tally.count("crossed", "slope", p_two_sided(estimates[0], parts.variances, parts.dfs) < 1 - LEVEL)
        cells = penalty.mean(axis=2)[:, :, off]
        for method, values in (("OLS on cells", cells.mean(axis=1)), ("OLS on cells x seeds", cells)):
            tally.count(method, "slope", ols_p(values.reshape(size, -1), distance[off]) < 1 - LEVEL)
        scores = np.abs(cells.mean(axis=1) @ permuted.T)
        # The identity permutation is among them, so the exact p-value cannot be 0.
        ranks = (scores >= scores[:, :1] * (1 - 1e-12)).mean(axis=1)
        tally.count("QAP (exact)", "slope", ranks < 1 - LEVEL)


def ols_p(values: FloatArray, distance: FloatArray) -> FloatArray:
    """Two-sided p of the OLS slope of (S, n) values on distance, repeated over seeds."""
    x = np.tile(distance - distance.mean(), values.shape[1] // len(distance))
    centred = values - values.mean(axis=1, keepdims=True)
    slope = centred @ x / (x @ x)
    residual = centred - slope[:, None] * x
    df = values.shape[1] - 2
    error = np.sqrt(np.square(residual).sum(axis=1) / df / (x @ x))
    return 2 * scipy_stats.t.sf(np.abs(slope / error), df)


def paired_worlds(
    setting: Setting, rng: np.random.Generator, size: int, rows: int
) -> tuple[FloatArray, FloatArray]:
    """Two samples (size, K or rows, N, L, L) with the same truth and correlated unit effects."""
    shape = find_regime(setting.regime).unit_shape
    count = (size, setting.n_units)
    fields = random_fields(count, N_LAYERS, rng, shape=shape, skew="unit")
    other = random_fields(count, N_LAYERS, rng, shape=shape, skew="unit")
    mixed = UNIT_CORRELATION * fields + np.sqrt(1 - UNIT_CORRELATION**2) * other
    samples = [
        simulate_penalties(
            truth_matrix(setting),
            n_seeds=n_seeds,
            n_units=setting.n_units,
            regime=setting.regime,
            n_sets=size,
            rng=rng,
            unit_fields=field,
        )
        for n_seeds, field in ((setting.n_seeds, fields), (rows, mixed))
    ]
    return samples[0], samples[1]


def measure_null(setting: Setting, tally: Tally) -> None:
    """The paired null test where the null is true, and the share explained where it is exactly 1."""
    rng = stream(setting)
    weights = weights_of(SUMMARIES)
    for size in batches(setting):
        observed, null = paired_worlds(setting, rng, size, setting.n_null)
        left, right = tables(observed, weights), tables(null, weights)
        for index, target in enumerate(SUMMARIES):
            parts = paired_parts(left[1][index], right[1][index], second_name="null replicates")
            excess = left[0][index] - right[0][index]
            for method, level in (("null test", LEVEL), ("null test, one-sided 5 %", 2 * LEVEL - 1)):
                low, high = interval_from_parts(excess, parts.variances, parts.dfs, conf_level=level)
                tally.add(method, target, excess, low, high, 0.0)
            if target == "mean":
                add_shares(tally, left[0][index], right[0][index], left[1][index], right[1][index])


def add_shares(
    tally: Tally, observed: FloatArray, null: FloatArray, table: FloatArray, null_table: FloatArray
) -> None:
    """Fieller limits of T(P0) / T(P), true value 1; ``observed``, ``null``: (S,)."""
    low, high, _ = share_limits(observed, null, [share_parts(table, null_table)], LEVEL)
    tally.add("share explained (Fieller)", "mean", null / observed, low, high, 1.0)


def measure_family(setting: Setting, tally: Tally) -> None:
    """Family-wise error over all cells at the truth: Holm and Bonferroni."""
    truth, rng = truth_matrix(setting), stream(setting)
    weights = named_statistic("cells").gradient(truth)
    for size in batches(setting):
        penalty = simulated(setting, rng, size)
        estimates, table = tables(penalty, weights)
        errors = estimates - np.tensordot(weights, truth, axes=2)[:, None]
        parts = variance_parts(table)
        p_values = p_two_sided(errors, parts.variances, parts.dfs).T
        for method in ("holm", "bonferroni"):
            rejected = np.array([(adjusted_p(p, method) < 1 - LEVEL).any() for p in p_values])
            tally.count(f"cells, {method}", "family-wise", rejected)


def measure_relevance(setting: Setting, tally: Tally) -> None:
    """Verdicts where the true mean lies exactly on the bound: how often "exceeds", how often "within"."""
    truth, rng = truth_matrix(setting), stream(setting)
    weights = weights_of(("mean",))
    smallest = float(np.tensordot(weights, truth, axes=2)[0])
    for size in batches(setting):
        estimates, table = tables(simulated(setting, rng, size), weights)
        parts = variance_parts(table[0])
        judged = verdict(estimates[0], parts.variances, parts.dfs, smallest=smallest, conf_level=LEVEL)
        for text in ("exceeds", "within"):
            tally.count(f"verdict {text}", "mean", judged.verdict == text)


def measure_comparison(setting: Setting, tally: Tally) -> None:
    """Difference of two subjects: all units shared, half of them shared, none shared; and two datasets."""
    rng = stream(setting)
    weights = weights_of(SUMMARIES)
    n_units = setting.n_units
    half = np.arange(n_units // 2)
    pairings = {
        "compare, all units shared": Pairing(np.arange(n_units), np.arange(n_units)),
        "compare, half shared": Pairing(half, half),
    }
    for size in batches(setting, setting.n_sets):
        first, second = paired_worlds(setting, rng, size, setting.n_seeds)
        fresh = simulated(setting, rng, size)
        mixed = np.concatenate([second[:, :, : len(half)], fresh[:, :, len(half) :]], axis=2)
        others = {"compare, all units shared": second, "compare, half shared": mixed}
        for method, other in others.items():
            add_difference(tally, method, tables(first, weights), tables(other, weights), pairings[method])
        nothing = np.empty(0, dtype=np.intp)
        add_difference(
            tally,
            "compare, none shared",
            tables(first, weights),
            tables(fresh, weights),
            Pairing(nothing, nothing),
        )


def add_difference(tally: Tally, method: str, left, right, pairing: Pairing) -> None:  # type: ignore[no-untyped-def]
    """Intervals of differences whose true value is 0."""
    for index, target in enumerate(SUMMARIES):
        parts = paired_parts(left[1][index], right[1][index], pairing=pairing)
        difference = left[0][index] - right[0][index]
        low, high = interval_from_parts(difference, parts.variances, parts.dfs, conf_level=LEVEL)
        tally.add(method, target, difference, low, high, 0.0)


def measure_weights(setting: Setting, tally: Tally) -> None:
    """Units of unequal length (ratio estimator), and the average over two datasets as strata."""
    truth, rng = truth_matrix(setting), stream(setting)
    weights = weights_of(SUMMARIES)
    true_values = np.tensordot(weights, truth, axes=2)
    for size in batches(setting):
        penalty, second = simulated(setting, rng, size), simulated(setting, rng, size)
        tokens = rng.lognormal(sigma=0.7, size=(size, 1, setting.n_units))
        share = tokens / tokens.mean(axis=2, keepdims=True)
        left, right = tables(penalty, weights), tables(second, weights)
        for index, target in enumerate(SUMMARIES):
            raw = left[1][index] + left[0][index][:, None, None]
            estimate = (raw * share).mean(axis=(1, 2))
            table = (raw - estimate[:, None, None]) * share
            parts = variance_parts(table)
            low, high = interval_from_parts(estimate, parts.variances, parts.dfs, conf_level=LEVEL)
            tally.add("crossed, token weights", target, estimate, low, high, float(true_values[index]))
            pieces = [variance_parts(side[1][index]) for side in (left, right)]
            values = np.concatenate([piece.variances for piece in pieces]) / 4
            dfs = np.concatenate([piece.dfs for piece in pieces])
            average = (left[0][index] + right[0][index]) / 2
            low, high = interval_from_parts(average, values, dfs, conf_level=LEVEL)
            tally.add("crossed, two datasets", target, average, low, high, float(true_values[index]))

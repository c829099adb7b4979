"""Statistics against their peers, side by side in one run; writes reports/speed/statistics.md and .csv.

    python analyses/speed/resampling.py [--quick]

Every contender gets the same losses. Contenders take turns within a round, rounds are repeated, and ratios are
ratios of medians, so that a busy machine slows all of them. One thread each. `arch` is optional: without it its
rows are left out. The peers' own bootstraps resample one factor (units), which is less work than seeds x units.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from pages import filled, machine_text, out_folder, table
from scipy import stats
from scipy.optimize import curve_fit
from threadpoolctl import threadpool_limits

from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.bootstrap import Bootstrap, bootstrap_estimate
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.decay_terms import DecayStatistic
from transferstats.stats.influence import mean_penalty, penalties
from transferstats.stats.statistics import named_statistic

ARCH = ("arch",) if importlib.util.find_spec("arch") else ()
LIBRARIES = ("numpy", "scipy", "pandas", *ARCH)
SEEDS, UNITS, LAYERS, REPLICATES = 5, 500, 12, 10_000
LOOP = 200
"""Replicates of the slow loops; times are compared per replicate."""
LOOP_TARGET = 50
OURS, CROSSED = "transferstats, two-term bootstrap", "transferstats, crossed interval"
EVERYTHING = "means by distance + slope + saturating"
SATURATING = DecayStatistic("saturating").only("a", "tau", log=True)
DISTANCE = np.abs(np.subtract.outer(np.arange(LAYERS), np.arange(LAYERS)))
OFF = ~np.eye(LAYERS, dtype=bool)


def losses_of(n_seeds: int, n_units: int, n_layers: int) -> np.ndarray:
    """(K, N, L, L) simulated losses."""
    truth = true_penalty(n_layers, shape=n_layers / 4)
    return simulate_grid(truth, n_seeds=n_seeds, n_units=n_units, rng=1).grid.datasets[0].losses["kl"]


def saturating(x: np.ndarray, a: float, tau: float) -> np.ndarray:
    """The curve, as a user of curve_fit writes it."""
    return a * (1 - np.exp(-x / tau))


def fit_loop(matrices: list[np.ndarray]) -> int:
    """curve_fit on each matrix from a good start; how many fits failed."""
    failed = 0
    for matrix in matrices:
        try:
            curve_fit(saturating, DISTANCE[OFF], matrix[OFF], p0=(matrix[OFF].max(), LAYERS / 4))
        except RuntimeError:
            failed += 1
    return failed


def pigeonhole(penalty: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(L, L) mean of one replicate of seeds and units."""
    seeds, units = rng.integers(SEEDS, size=SEEDS), rng.integers(UNITS, size=UNITS)
    return np.asarray(penalty[seeds][:, units].mean(axis=(0, 1)))


def fit_seeds_and_units(penalty: np.ndarray) -> int:
    """Resample seeds and units, curve_fit each replicate."""
    rng = np.random.default_rng(1)
    return fit_loop([pigeonhole(penalty, rng) for _ in range(LOOP)])


def fit_units(per_unit: np.ndarray) -> int:
    """Resample units, curve_fit each replicate."""
    rng = np.random.default_rng(1)
    return fit_loop([per_unit[rng.integers(UNITS, size=UNITS)].mean(axis=0) for _ in range(LOOP)])


def everything(penalty: np.ndarray) -> np.ndarray:
    """Resample seeds and units; means by distance, slope and fit, as a user of scipy would write them."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(LOOP):
        matrix = pigeonhole(penalty, rng)
        means = [matrix[d == DISTANCE].mean() for d in range(1, LAYERS)]
        line = stats.linregress(DISTANCE[OFF], matrix[OFF])
        start = (matrix[OFF].max(), LAYERS / 4)
        fitted, _ = curve_fit(saturating, DISTANCE[OFF], matrix[OFF], p0=start)
        rows.append([*means, line.slope, *fitted])
    return np.std(rows, axis=0)


def scipy_slope(slopes: np.ndarray, replicates: int, method: str) -> object:
    """Bootstrap the mean of one slope a unit, vectorised."""
    generator = np.random.default_rng(1)
    return stats.bootstrap((slopes,), np.mean, n_resamples=replicates, method=method, rng=generator)


def arch_slope(slopes: np.ndarray, replicates: int) -> object:
    """The same in arch."""
    from arch.bootstrap import IIDBootstrap

    resampling = IIDBootstrap(slopes, seed=np.random.default_rng(1))
    return resampling.conf_int(np.mean, reps=replicates, method="percentile")


def arch_fit(per_unit: np.ndarray) -> object:
    """curve_fit of each of arch's replicates."""
    from arch.bootstrap import IIDBootstrap

    def fitted(sample: np.ndarray) -> np.ndarray:
        matrix = sample.mean(axis=0)
        start = (matrix[OFF].max(), LAYERS / 4)
        return np.asarray(curve_fit(saturating, DISTANCE[OFF], matrix[OFF], p0=start)[0])

    resampling = IIDBootstrap(per_unit, seed=np.random.default_rng(1))
    return resampling.conf_int(fitted, reps=LOOP, method="percentile")


@dataclass(frozen=True)
class Contender:
    """Who runs what, on how many replicates (0: an interval without replicates)."""

    task: str
    name: str
    replicates: int
    run: Callable[[], object]


def contenders(losses: np.ndarray, replicates: int) -> list[Contender]:
    """Everybody, ours first."""
    penalty = penalties(losses)
    per_unit = penalty.mean(axis=0)
    slopes = np.einsum("st,nst->n", named_statistic("slope").gradient(penalty[0, 0])[0], per_unit)
    plan = Bootstrap(replicates=replicates, rng=1)

    def ours(*names: object) -> Callable[[], object]:
        return lambda: [bootstrap_estimate(losses, name, plan) for name in names]

    runs = [
        Contender("slope", OURS, replicates, ours("slope")),
        Contender("saturating", OURS, replicates, ours(SATURATING)),
        Contender(EVERYTHING, OURS, replicates, ours("distance", "slope", SATURATING)),
        Contender("slope", CROSSED, 0, partial(crossed_estimate, losses, "slope")),
        Contender("saturating", CROSSED, 0, partial(crossed_estimate, losses, SATURATING)),
        Contender(
            "slope",
            "scipy.stats.bootstrap, units",
            replicates,
            partial(scipy_slope, slopes, replicates, "percentile"),
        ),
        Contender(
            "slope",
            "scipy.stats.bootstrap, units, BCa",
            replicates,
            partial(scipy_slope, slopes, replicates, "BCa"),
        ),
        Contender("saturating", "loop: units, curve_fit", LOOP, partial(fit_units, per_unit)),
        Contender("saturating", "loop: seeds x units, curve_fit", LOOP, partial(fit_seeds_and_units, penalty)),
        Contender(EVERYTHING, "loop: seeds x units, linregress, curve_fit", LOOP, partial(everything, penalty)),
    ]
    if ARCH:
        runs += [
            Contender("slope", "arch IIDBootstrap, units", replicates, partial(arch_slope, slopes, replicates)),
            Contender("saturating", "arch IIDBootstrap, units, curve_fit", LOOP, partial(arch_fit, per_unit)),
        ]
    return runs


def clock(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def side_by_side(rounds: int, replicates: int) -> pd.DataFrame:
    """Median seconds of every contender, in turns."""
    runs = contenders(losses_of(SEEDS, UNITS, LAYERS), replicates)
    times = np.array([[clock(one.run) for one in runs] for _ in range(rounds)])
    frame = pd.DataFrame(
        {
            "task": [one.task for one in runs],
            "contender": [one.name for one in runs],
            "replicates": [one.replicates for one in runs],
            "seconds": np.median(times, axis=0),
            "fastest": times.min(axis=0),
            "slowest": times.max(axis=0),
        }
    )
    frame["us_per_replicate"] = 1e6 * frame["seconds"] / frame["replicates"].where(frame["replicates"] > 0)
    ours = frame[frame["contender"] == OURS].set_index("task")["us_per_replicate"]
    frame["ratio_to_ours"] = frame["us_per_replicate"] / frame["task"].map(ours)
    return frame.sort_values(["task", "seconds"], kind="stable").reset_index(drop=True)


def growth(rounds: int, replicates: int) -> pd.DataFrame:
    """Median seconds of our crossed and bootstrap intervals as one size grows."""
    base = {"B": replicates, "N": UNITS, "K": SEEDS, "L": LAYERS}
    grown = {"B": (1000, 3000, 10_000, 30_000), "N": (100, 500, 2500), "K": (3, 5, 10, 20), "L": (6, 12, 24)}
    rows = []
    for size, values in grown.items():
        for value in values:
            now = {**base, size: value}
            losses = losses_of(now["K"], now["N"], now["L"])
            plan = Bootstrap(replicates=now["B"], rng=1)
            row: dict[str, object] = {"grows": size, "value": value}
            for name, statistic in (("slope", "slope"), ("saturating", SATURATING)):
                crossed = partial(crossed_estimate, losses, statistic)
                resampled = partial(bootstrap_estimate, losses, statistic, plan)
                row[f"crossed_{name}"] = float(np.median([clock(crossed) for _ in range(rounds)]))
                row[f"bootstrap_{name}"] = float(np.median([clock(resampled) for _ in range(rounds)]))
            rows.append(row)
    return pd.DataFrame(rows)


def same_answers() -> str:
    """Do the contenders estimate the same thing? A sentence with the numbers."""
    losses = losses_of(SEEDS, UNITS, LAYERS)
    matrix = mean_penalty(penalties(losses), None)
    theirs = curve_fit(saturating, DISTANCE[OFF], matrix[OFF], p0=(matrix[OFF].max(), LAYERS / 4))[0]
    ours = np.exp(SATURATING(matrix))
    gap = float(np.abs(ours / theirs - 1).max())
    slope = crossed_estimate(losses, "slope")
    gradient = named_statistic("slope").gradient(matrix)[0]
    slopes = np.einsum("st,nst->n", gradient, penalties(losses).mean(axis=0))
    one = stats.bootstrap((slopes,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1))
    width = float(one.confidence_interval.high - one.confidence_interval.low)
    return (
        f"On the mean matrix curve_fit (good start) and variable projection agree to {gap:.0e} in a and tau.\n"
        f"The intervals are not the same: units alone give the slope a width of {width:.5f}, seeds and units\n"
        f"{float(slope.conf_high - slope.conf_low):.5f} nats/token per layer; the first ignores the {SEEDS} seeds."
    )


def reached(ratio: float) -> str:
    """In words."""
    return "met" if ratio >= LOOP_TARGET else "not met"


def write(compared: pd.DataFrame, grown: pd.DataFrame, rounds: int, quick: bool) -> None:
    """The report and its numbers."""
    out = out_folder(quick)
    pd.concat([compared.assign(part="side by side"), grown.assign(part="growth")]).to_csv(
        out / "statistics.csv", index=False
    )
    whole = compared[compared["task"] == EVERYTHING].set_index("contender")
    target = whole.loc[OURS, "seconds"]
    loop = whole.loc[whole.index.str.startswith("loop"), "ratio_to_ours"].iloc[0]
    goal = f"{reached(loop)} per replicate and {reached(3 * loop)}"
    text = f"""# Speed of the statistics, side by side

Written by `analyses/speed/resampling.py`{" --quick" if quick else ""}; nothing here is written by hand.
{filled(machine_text(LIBRARIES, threads=1), f"Medians of {rounds} rounds in turns.")}

Data: K = {SEEDS} seeds, N = {UNITS} units, L = {LAYERS} layers, simulated, the same for all.

**{REPLICATES if not quick else 1000:,} two-term replicates of means by distance, slope and saturating fit take
{target:.2f} s** (target for 10,000: under 2 s). **A loop over scipy takes {loop:.0f} times as long per replicate,
{3 * loop:.0f} times as long per refit** (target: at least 50, {goal} per
refit): a two-term replicate is three refits (seeds, units, both), the loop's is one.

{table(compared, digits=3)}

`ratio_to_ours` is per replicate, against the two-term bootstrap of the same task. A crossed interval has no
replicates. A vectorised `scipy.stats.bootstrap` of one scalar per unit is the fairest peer for the slope: it
resamples {UNITS} numbers over one factor, ours {SEEDS} x {UNITS} cells over two.

{same_answers()}

## Growth

Seconds; B = {REPLICATES if not quick else 1000}, N = {UNITS}, K = {SEEDS}, L = {LAYERS} unless grown.

{table(grown, digits=3)}
"""
    (out / "statistics.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and replicates")
    quick = parser.parse_args().quick
    rounds, replicates = (2, 1000) if quick else (5, REPLICATES)
    with threadpool_limits(1):
        compared = side_by_side(rounds, replicates)
        print(compared.to_string())
        grown = growth(2 if quick else 3, replicates)
        print(grown.to_string())
    write(compared, grown, rounds, quick)


if __name__ == "__main__":
    main()

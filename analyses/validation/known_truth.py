"""Known-truth study: how often does the toolkit call a subject non-iterative whose answer is known?

Subjects (transferstats.known_truth): "iterative" and "trap", where one lens is exactly right at every layer,
and the "pipeline", whose layers are rotated by the dial. Every study trains K own-lens sets and R null
replicates and asks the null test, the shared-lens test over the null, and the naive question (is zero outside
the interval of the raw penalty?).

    python analyses/validation/known_truth.py --studies 100 --jobs 2    # resumable; 286 an hour on two cores
    python analyses/validation/known_truth.py --quick                   # two studies a point, report in runs/

Every study is a small JSON file in the store; those that the published table holds already are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from known_truth_report import write_report

from transferstats.engine import local_pool
from transferstats.grid import TransferGrid
from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.provenance import canonical_json, content_key
from transferstats.results import Estimate
from transferstats.stats.estimation import estimate
from transferstats.stats.intervals import p_greater
from transferstats.stats.multiplicity import adjusted_p
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.relevance import relevance_test

SMALLEST = 0.01  # nats; the smallest penalty of interest in this study
N_SEEDS, N_NULL, N_UNITS, UNIT_TOKENS = 4, 4, 60, 40
TOKENS = 200  # rows of a document, of which a fold has 75
FIT = {"batch": 256, "learning_rate": 0.015, "max_steps": 512}
POINTS: tuple[tuple[str, float], ...] = (
    ("iterative", 0.0),
    ("trap", 0.0),
    ("pipeline", math.inf),
    ("pipeline", 0.08),
    ("pipeline", 0.1),
    ("pipeline", 0.06),
)
FIRST_ALGORITHM = 5  # of the studies that do not say which version of the lens room computed them
TABLE = "known_truth_studies.csv"


class Task(NamedTuple):
    """One study: which subject, how its own lenses are anchored, and which repetition."""

    kind: str
    dial: float
    anchor: str
    index: int

    @property
    def name(self) -> str:
        """Name of its file, and its key in the table."""
        return f"{self.kind}-{self.dial:g}-{self.anchor}-{self.index}"


def run_study(task: Task) -> dict[str, Any]:
    """One simulated study: estimates, p-values and verdicts as JSON values."""
    import torch

    from transferstats.lens.arrays import array_subject
    from transferstats.lens.plan import FitPlan
    from transferstats.lens.splits import split_units
    from transferstats.lens.study import ALGORITHM, compute_world

    torch.set_num_threads(1)
    stream = np.random.SeedSequence(int(content_key(task.name), 16))
    rng = np.random.default_rng(stream)
    truth = KnownTruth(task.kind, task.dial, tokens=TOKENS)
    subject = array_subject(simulate_subject(truth, rng=rng))
    split = split_units(subject.clusters, n_folds=max(N_SEEDS, N_NULL), n_evaluation=N_UNITS, rng=rng)
    fit = asdict(FitPlan(anchor=task.anchor, **FIT))
    config = {"fit": fit, "evaluation": {"tokens": UNIT_TOKENS}}
    worlds = [("observed", seed) for seed in range(N_SEEDS)] + [("null", seed) for seed in range(N_NULL)]
    outputs = {
        (world, seed): compute_world(
            subject,
            split,
            {**config, "world": world, "seed": seed},
            np.random.default_rng(child),
            lambda stage, done, total: None,
        )
        for (world, seed), child in zip(worlds, stream.spawn(len(worlds)), strict=True)
    }
    row = {"study": task.name, **task._asdict(), "dial": f"{task.dial:g}"}  # JSON has no infinity
    return {**row, "algorithm": ALGORITHM, **summarise(outputs, subject.layers)}


def summarise(outputs: dict[tuple[str, int], Any], layers: tuple[str, ...]) -> dict[str, Any]:
    """Verdicts of one study from the outputs of its cells."""
    from transferstats.readers import dataset_from_outputs

    grid = TransferGrid("known truth", layers, (dataset_from_outputs("known truth", outputs),))
    raw = estimate(grid, "mean")
    test, slope = null_test(grid, "mean"), null_test(grid, "slope")
    shared = shared_lens_test(grid, SMALLEST)
    beyond = shared.test.estimates[-1]
    certificates = [
        row for one in outputs.values() for row in one.record["certificates"] if row["readout"] != "tied"
    ]
    return {
        **interval("penalty", raw.headline),
        **interval("null_penalty", test.null.headline),
        **interval("excess", test.excess.headline),
        "p_excess": float(test.p_greater[-1]),
        "p_slope": float(slope.p_greater[-1]),
        "verdict": str(relevance_test(test, smallest=SMALLEST).verdict),
        "naive_verdict": str(relevance_test(raw, smallest=SMALLEST).verdict),
        "share": float(test.share.headline.estimate),
        "shared_raw": [float(value) for value in shared.excess.headline.estimate],
        "shared_excess": [float(value) for value in beyond.estimate],
        "p_shared": float(np.nanmin(adjusted_p(p_greater(beyond.estimate, beyond.parts, beyond.dfs)))),
        "shared_verdict": shared.verdict,
        "converged": float(np.mean([row["converged"] for row in certificates])),
    }


def interval(name: str, one: Estimate) -> dict[str, float]:
    """An estimate with its limits as JSON values."""
    values = {"": one.estimate, "_low": one.conf_low, "_high": one.conf_high}
    return {name + ending: float(value) for ending, value in values.items()}


def run_to_file(task: Task, path: Path) -> str:
    """Run a study unless the store has it; its file appears whole or not at all."""
    if not path.exists():
        temporary = path.with_suffix(".tmp")
        temporary.write_text(canonical_json(run_study(task)) + "\n", encoding="utf-8")
        temporary.replace(path)
    return path.stem


def sweep(tasks: list[Task], store: Path, pool: Executor) -> None:
    """Run studies into the store."""
    store.mkdir(parents=True, exist_ok=True)
    futures = [pool.submit(run_to_file, task, store / f"{task.name}.json") for task in tasks]
    for done, future in enumerate(futures, 1):
        print(f"{done}/{len(futures)} {future.result()}", flush=True)


def point_name(point: tuple[str, float]) -> str:
    """A point on the command line: trap, pipeline:0.1."""
    kind, dial = point
    return f"{kind}:{dial:g}" if kind == "pipeline" else kind


def plan(studies: int, anchors: list[str], points: list[str]) -> Iterator[Task]:
    """The first study of every point before the second of any."""
    chosen = [point for point in POINTS if point_name(point) in points]
    for index, anchor, (kind, dial) in itertools.product(range(studies), anchors, chosen):
        yield Task(kind, dial, anchor, index)


def collect(store: Path, published: Path) -> pd.DataFrame:
    """One row a study, from the published table and from the store."""
    known = pd.read_csv(published).to_dict("records") if published.exists() else []
    known = [{"algorithm": FIRST_ALGORITHM, **row} for row in known]
    stored = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob("*.json"))]
    for row in stored:
        row.setdefault("algorithm", FIRST_ALGORITHM)
        for name in ("shared_raw", "shared_excess"):
            row |= {f"{name}_{layer}": value for layer, value in enumerate(row.pop(name))}
    rows = {row["study"]: row for row in [*known, *stored]}
    return pd.DataFrame(list(rows.values()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="studies a point")
    parser.add_argument("--anchors", nargs="+", default=["ridge"], choices=["ridge", "shared"])
    names = [point_name(point) for point in POINTS]
    parser.add_argument("--points", nargs="+", default=names, choices=names)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs/known_truth"))
    parser.add_argument("--out", type=Path, help="folder of the report")
    parser.add_argument("--quick", action="store_true", help="two studies a point")
    parser.add_argument("--report-only", action="store_true", help="no computing, only the report")
    options = parser.parse_args()
    out = options.out or Path("runs/known_truth_quick" if options.quick else "reports/validation")
    done = set(collect(options.store, out / TABLE).get("study", ()))
    planned = plan(2 if options.quick else options.studies, options.anchors, options.points)
    tasks = [task for task in planned if task.name not in done]
    if not options.report_only and tasks:
        with local_pool(options.jobs) as pool:
            sweep(tasks, options.store, pool)
    frame = collect(options.store, out / TABLE)
    if frame.empty:
        parser.error(f"no study in {options.store} yet: run without --report-only")
    print(write_report(frame, out, table=TABLE, smallest=SMALLEST).to_string())


if __name__ == "__main__":
    main()

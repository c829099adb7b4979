"""Known-truth study: how often does the toolkit call a subject non-iterative whose answer is known?

Subjects (transferstats.known_truth): "iterative" and "trap", where one lens is exactly right at every layer,
and the "pipeline", whose layers are rotated by the dial. Every study trains K own-lens sets and R null
replicates and asks the null test, the shared-lens test over the null, and the naive question (is zero outside
the raw interval?).

    python analyses/validation/known_truth.py --studies 100 --jobs 2    # resumable; hours on two cores
    python analyses/validation/known_truth.py --quick                   # two studies a point

Each study is one small JSON file in --store; the report is made from whatever is there and says how many that is.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from transferstats.engine import local_pool
from transferstats.grid import TransferGrid
from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.provenance import canonical_json, content_key, library_versions

SMALLEST = 0.01  # nats; the smallest penalty of interest in this study
N_SEEDS, N_NULL, N_UNITS = 4, 4, 60
POINTS: tuple[tuple[str, float], ...] = (
    ("iterative", 0.0),
    ("trap", 0.0),
    ("pipeline", 0.03),
    ("pipeline", 0.06),
    ("pipeline", 0.1),
    ("pipeline", 0.3),
)


def run_study(kind: str, dial: float, anchor: str, index: int) -> dict[str, Any]:
    """One simulated study: estimates, p-values and verdicts as JSON values."""
    import torch

    from transferstats.lens.arrays import array_subject
    from transferstats.lens.fit import FitPlan
    from transferstats.lens.splits import split_units
    from transferstats.lens.study import compute_world

    torch.set_num_threads(1)
    rng = np.random.default_rng([index, int(1000 * dial), len(kind)])
    truth = KnownTruth(kind, dial, tokens=400)
    subject = array_subject(simulate_subject(truth, rng=rng))
    split = split_units(subject.clusters, n_folds=max(N_SEEDS, N_NULL), n_evaluation=N_UNITS, rng=rng)
    # Converged by a strict rule: what is compared is the lenses' minimum, not where training stopped.
    fit = replace(FitPlan(), anchor=anchor, tolerance=0.001, relative_tolerance=0.0)
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(fit).items()}
    config = {"fit": plain, "evaluation": {"tokens": 40}}
    outputs = {
        (world, seed): compute_world(
            subject,
            split,
            {**config, "world": world, "seed": seed},
            np.random.default_rng([index, seed, world == "null"]),
            lambda stage, done, total: None,
        )
        for world, count in (("observed", N_SEEDS), ("null", N_NULL))
        for seed in range(count)
    }
    return {"truth": asdict(truth), "anchor": anchor, **summarise(outputs, subject.layers)}


def summarise(outputs: dict[tuple[str, int], Any], layers: tuple[str, ...]) -> dict[str, Any]:
    """Verdicts of one study from the outputs of its cells."""
    from transferstats.readers import dataset_from_outputs
    from transferstats.stats.estimation import estimate
    from transferstats.stats.null import null_test, shared_lens_test
    from transferstats.stats.relevance import relevance_test

    data = dataset_from_outputs("known truth", outputs)
    grid = TransferGrid("known truth", layers, (data,))
    raw = estimate(grid, "mean").headline
    test = null_test(grid, "mean")
    shared = shared_lens_test(grid, SMALLEST)
    return {
        "penalty": float(raw.estimate),
        "naive_exceeds_zero": bool(raw.conf_low > 0),
        "null_penalty": float(test.null.headline.estimate),
        "excess": float(test.excess.headline.estimate),
        "p_excess": float(test.p_greater[-1]),
        "verdict": str(relevance_test(test, smallest=SMALLEST).verdicts[-1].verdict),
        "shared_excess": [float(value) for value in excess_values(shared)],
        "shared_verdict": shared.verdict,
        "converged": float(
            np.mean([c["converged"] for one in outputs.values() for c in one.record["certificates"]])
        ),
    }


def _share_converged(outputs: dict[tuple[str, int], Any]) -> float:
    rows = [row for output in outputs.values() for row in output.record["certificates"]]
    return float(np.mean([row["converged"] for row in rows]))


def excess_values(shared: Any) -> Any:
    """S - S0 by layer."""
    return np.atleast_1d(shared.test.estimates[-1].estimate)


def _run_to_file(task: tuple[str, float, str, int], path: str) -> str:
    result = run_study(*task)
    temporary = Path(path).with_suffix(".tmp")
    temporary.write_text(canonical_json(result) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def sweep(store: Path, studies: int, anchors: list[str], pool: Executor) -> None:
    """Run the studies that the store lacks, the first of every point before the second of any."""
    store.mkdir(parents=True, exist_ok=True)
    futures = []
    for index in range(studies):
        for kind, dial in POINTS:
            for anchor in anchors:
                task = (kind, dial, anchor, index)
                path = store / f"{kind}-{dial:g}-{anchor}-{index}-{content_key(list(task))[:8]}.json"
                if not path.exists():
                    futures.append(pool.submit(_run_to_file, task, str(path)))
    for done, future in enumerate(futures, 1):
        print(f"{done}/{len(futures)} {Path(future.result()).name}", flush=True)


def report(store: Path, out: Path) -> pd.DataFrame:
    """One row a point: how often each question was answered yes, with Clopper-Pearson limits in the CSV."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(store.glob("*.json"))]
    frame = pd.DataFrame([{**row, **row["truth"]} for row in rows])
    table = []
    for (kind, dial, anchor), group in frame.groupby(["kind", "dial", "anchor"]):
        row = {
            "subject": kind,
            "dial": dial,
            "anchor": anchor,
            "studies": len(group),
            "penalty": group["penalty"].mean(),
            "null_penalty": group["null_penalty"].mean(),
            "converged": group["converged"].mean(),
        }
        for name, hits in (
            ("naive_exceeds_zero", group["naive_exceeds_zero"]),
            ("p_below_.05", group["p_excess"] < 0.05),
            ("exceeds", group["verdict"] == "exceeds"),
            ("shared_exceeds", group["shared_verdict"] == "exceeds"),
        ):
            row |= rate(name, int(hits.sum()), len(group))
        table.append(row)
    out.mkdir(parents=True, exist_ok=True)
    result = pd.DataFrame(table)
    result.to_csv(out / "known_truth.csv", index=False)
    (out / "known_truth.md").write_text(_markdown(result), encoding="utf-8")
    return result


def rate(name: str, hits: int, count: int) -> dict[str, float]:
    """Rate with its exact 95 % limits."""
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, count - hits + 1))
    high = 1.0 if hits == count else float(beta.ppf(0.975, hits + 1, count - hits))
    return {name: hits / count, f"{name}_low": low, f"{name}_high": high}


def _markdown(table: pd.DataFrame) -> str:
    head = [
        "# Subjects with known answers",
        "",
        "Made by `python analyses/validation/known_truth.py` from the studies finished so far; the table says how "
        f"many. {N_SEEDS} seeds, {N_NULL} null replicates, {N_UNITS} documents; smallest penalty of interest "
        f"{SMALLEST} nats. Rates with exact 95 % limits; penalties in nats. On *iterative* and *trap* one lens is "
        "exactly right at every layer, so every yes is an error; *pipeline* rotates each layer by the dial.",
        "",
        "| subject | anchor | studies | penalty | null penalty | converged | naive: above 0 | p < .05 over null "
        "| exceeds | S - S0 exceeds |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        name = row["subject"] + (f" {row['dial']:g}" if row["subject"] == "pipeline" else "")
        rates = " | ".join(
            f"{row[key]:.2f} [{row[f'{key}_low']:.2f}, {row[f'{key}_high']:.2f}]"
            for key in ("naive_exceeds_zero", "p_below_.05", "exceeds", "shared_exceeds")
        )
        head.append(
            f"| {name} | {row['anchor']} | {row['studies']} | {row['penalty']:.4f} | {row['null_penalty']:.4f} | "
            f"{row['converged']:.2f} | {rates} |"
        )
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return "\n".join([*head, "", f"Versions: {versions}.", ""])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=100, help="studies a point")
    parser.add_argument("--anchors", nargs="+", default=["ridge"], choices=["ridge", "shared"])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs/known_truth"))
    parser.add_argument("--out", type=Path, default=Path("reports/validation"))
    parser.add_argument("--quick", action="store_true", help="two studies a point")
    parser.add_argument("--report-only", action="store_true", help="no computing, only the report")
    arguments = parser.parse_args()
    if not arguments.report_only:
        with local_pool(arguments.jobs) as pool:
            sweep(arguments.store, 2 if arguments.quick else arguments.studies, arguments.anchors, pool)
    print(report(arguments.store, arguments.out).to_string())


if __name__ == "__main__":
    main()

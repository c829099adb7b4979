"""Known-truth study: how often does the toolkit call a subject non-iterative whose answer is known?

Subjects (transferstats.known_truth): "iterative" and "trap", where one lens is exactly right at every layer,
and the "pipeline", whose layers are rotated by the dial; of two widths d, with training folds of n rows between
n / d^2 = .1 and 5. Every study trains K sets of lenses, R null replicates and the null of one of them, and asks
what a report asks. Both anchors of own lenses are fitted to the same rows.

    python analyses/validation/known_truth.py --studies 40 --jobs 2    # resumable
    python analyses/validation/known_truth.py --quick                  # one study a point, report in runs/

Every study leaves its losses in the store, from which its row of the table is made; studies that the published
table holds already are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from known_truth_report import write_report
from known_truth_summary import SMALLEST, summarise

from transferstats.engine import local_pool
from transferstats.grid import DatasetLosses
from transferstats.known_truth import KnownTruth, simulate_subject
from transferstats.provenance import content_key

N_SEEDS, N_NULL, N_UNITS, UNIT_TOKENS = 3, 3, 60, 40
FOLD_UNITS, HELD_OUT = 75, 0.2
FIT = {"max_steps": 1024}
SUBJECTS: tuple[tuple[str, float], ...] = (
    ("iterative", 0.0),
    ("trap", 0.0),
    ("pipeline", math.inf),
    ("pipeline", 0.1),
)
WIDTHS: tuple[int, ...] = (48, 128)
RATIOS: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Training rows of a fold over width squared."""
TABLE = "known_truth_studies.csv"
FIRST_ALGORITHM = 11  # the version of the lens room that answers these questions; studies of earlier ones are left


class Task(NamedTuple):
    """One study: which subject, how wide, how many rows, and which repetition."""

    kind: str
    dial: float
    width: int
    ratio: float
    index: int

    @property
    def name(self) -> str:
        """Name of its file, and its key in the table."""
        return f"{self.kind}-{self.dial:g}-{self.width}-{self.ratio:g}-{self.index}"

    @property
    def truth(self) -> KnownTruth:
        """The subject: documents are as long as the number of rows asks."""
        tokens = max(1, round(self.ratio * self.width**2 / (FOLD_UNITS * (1 - HELD_OUT))))
        n_units = N_UNITS + FOLD_UNITS * max(N_SEEDS, N_NULL)
        return KnownTruth(self.kind, self.dial, width=self.width, n_units=n_units, tokens=tokens)


def compute(task: Task) -> tuple[DatasetLosses, list[dict[str, Any]]]:
    """Losses of one study, and the certificates of its lenses."""
    import torch

    from transferstats.lens.arrays import array_subject
    from transferstats.lens.plan import FitPlan
    from transferstats.lens.splits import split_units
    from transferstats.lens.study import ALGORITHM, compute_world
    from transferstats.readers import dataset_from_outputs

    torch.set_num_threads(1)
    stream = np.random.SeedSequence(int(content_key([task.name, ALGORITHM]), 16))
    rng = np.random.default_rng(stream)
    subject = array_subject(simulate_subject(task.truth, rng=rng))
    folds = max(N_SEEDS, N_NULL)
    split = split_units(subject.clusters, n_folds=folds, n_evaluation=N_UNITS, held_out=HELD_OUT, rng=rng)
    config = {"fit": asdict(FitPlan(**FIT)), "evaluation": {"tokens": UNIT_TOKENS}}
    worlds = [("observed", seed) for seed in range(N_SEEDS)] + [("null", seed) for seed in range(N_NULL)]
    worlds.append(("null of null", 0))
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
    certificates = [
        {"world": world, "seed": seed, **row}
        for (world, seed), one in outputs.items()
        for row in one.record["certificates"]
    ]
    return dataset_from_outputs("known truth", outputs), certificates


def pack(data: DatasetLosses, prefix: str = "") -> dict[str, Any]:
    """The kl of a dataset, its sets of lenses and its nulls as flat arrays."""
    found: dict[str, Any] = {
        f"{prefix}kl": data.losses["kl"].astype(np.float32),
        f"{prefix}rows": np.asarray(data.training_rows),
    }
    found |= {f"{prefix}readout {name}": one["kl"].astype(np.float32) for name, one in data.readouts.items()}
    for name, one in data.sets.items():
        found |= pack(replace(one, null=None), f"{prefix}set {name} ")
    if data.null is not None:
        found |= pack(data.null, f"{prefix}null ")
    return found


def unpack(arrays: Mapping[str, Any], prefix: str = "") -> DatasetLosses:
    """The dataset that ``pack`` was given, with losses to the digits of float32."""
    kl = np.asarray(arrays[f"{prefix}kl"], dtype=np.float64)
    units = tuple(str(index) for index in range(kl.shape[1]))
    readouts = {
        name.removeprefix(f"{prefix}readout "): {"kl": np.asarray(values, dtype=np.float64)}
        for name, values in arrays.items()
        if name.startswith(f"{prefix}readout ")
    }
    sets = {
        name.removeprefix(f"{prefix}set ").removesuffix(" kl")
        for name in arrays
        if name.startswith(f"{prefix}set ") and name.endswith(" kl")
    }
    null = unpack(arrays, f"{prefix}null ") if f"{prefix}null kl" in arrays else None
    main = DatasetLosses(
        name="known truth",
        seeds=tuple(str(seed) for seed in range(len(kl))),
        units=units,
        clusters=units,
        tokens=np.asarray(arrays["tokens"], dtype=np.float64),
        losses={"kl": kl},
        readouts=readouts,
        null=null,
        training_rows=tuple(float(one) for one in arrays[f"{prefix}rows"]),
    )
    made = {name: unpack(arrays, f"{prefix}set {name} ") for name in sorted(sets)}
    if null is not None:
        made = {name: replace(one, null=null.sets.get(name)) for name, one in made.items()}
    return replace(main, sets=made)


def run_to_file(task: Task, path: Path) -> str:
    """Run a study unless the store has it; its files appear whole or not at all."""
    from transferstats.lens.study import ALGORITHM

    if not path.exists():
        data, certificates = compute(task)
        temporary = path.with_suffix(".tmp.npz")
        made = {**pack(data), "tokens": data.tokens, "algorithm": ALGORITHM}
        np.savez_compressed(temporary, **made, certificates=json.dumps(certificates))
        temporary.replace(path)
    return path.stem


def sweep(tasks: list[Task], store: Path, pool: Executor) -> None:
    """Run studies into the store."""
    store.mkdir(parents=True, exist_ok=True)
    futures = [pool.submit(run_to_file, task, store / f"{task.name}.npz") for task in tasks]
    for done, future in enumerate(futures, 1):
        print(f"{done}/{len(futures)} {future.result()}", flush=True)


def plan(studies: int, widths: list[int], ratios: list[float]) -> Iterator[Task]:
    """The first study of every point before the second of any."""
    for index, width, ratio, (kind, dial) in itertools.product(range(studies), widths, ratios, SUBJECTS):
        yield Task(kind, dial, width, ratio, index)


def collect(store: Path, published: Path) -> pd.DataFrame:
    """Rows of the published table, and those of studies in the store that it does not hold.

    Versions of the lens room are not mixed: the first study of this one puts those of earlier ones aside.
    """
    everything = pd.read_csv(published) if published.exists() else pd.DataFrame({"study": [], "algorithm": []})
    known = everything[everything["algorithm"] >= FIRST_ALGORITHM]
    rows = []
    for path in sorted(store.glob("*.npz")):
        if path.name.endswith(".tmp.npz") or path.stem in set(known["study"]):
            continue
        with np.load(path) as arrays:
            content = dict(arrays)
        certificates = json.loads(str(content.pop("certificates")))
        algorithm = int(content.pop("algorithm"))
        kind, dial, width, ratio, index = path.stem.rsplit("-", 4)
        about = {"study": path.stem, "kind": kind, "dial": dial, "width": width, "ratio": ratio, "index": index}
        summaries = summarise(unpack(content), certificates)
        rows += [{**about, "algorithm": algorithm, **row} for row in summaries]
    made = pd.DataFrame(rows)
    if len(known) + len(made) == 0:
        return everything  # of an earlier lens room: a page that says so, until there is one study of this one
    return pd.concat([one for one in (known, made) if len(one)], ignore_index=True)


def finished(frame: pd.DataFrame) -> set[str]:
    """Names of the studies that need not be run again."""
    return set(frame.loc[frame["algorithm"] >= FIRST_ALGORITHM, "study"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=40, help="studies a point")
    parser.add_argument("--widths", nargs="+", type=int, default=list(WIDTHS))
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS), help="training rows / width^2")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs/known_truth"))
    parser.add_argument("--out", type=Path, help="folder of the report")
    parser.add_argument("--quick", action="store_true", help="one study a point of width 48 and few rows")
    parser.add_argument("--report-only", action="store_true", help="no computing, only the report")
    options = parser.parse_args()
    out = options.out or Path("runs/known_truth_quick" if options.quick else "reports/validation")
    if options.quick:
        options.studies, options.widths, options.ratios = 1, [48], [0.1, 0.5]
    done = finished(collect(options.store, out / TABLE))
    planned = plan(options.studies, options.widths, options.ratios)
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

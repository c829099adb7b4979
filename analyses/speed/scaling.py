"""What a sweep costs: growth with seeds, units, layers and vocabulary; engines side by side; overhead; memory.

python analyses/speed/scaling.py             writes reports/speed/scaling.md and scaling.csv
python analyses/speed/scaling.py --quick     less of everything; writes into runs/speed_quick

Cells are real ones of the shipped model with few kl steps, each on one thread. Engines compute the same cells into
stores of their own, whose files are then compared byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pages import filled, machine_text, out_folder, table

import transferstats as ts
from transferstats.engine import CellOutput, Report
from transferstats.engine.cluster import open_cluster

HERE = Path(__file__).resolve().parent
FIT = ts.FitPlan(max_steps=32, settle=16, beside=None, curve=())  # one set of lenses, as published figures had
ENCODING = ts.Encoding(max_tokens=128)
UNITS = 50
PROCESSES = 2
MEMORY = """
import sys, torch
from pathlib import Path
from transferstats.lens.head import Head, final_targets, kl_gradient, losses

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

outputs, rows = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
rng = torch.Generator().manual_seed(0)
weight = torch.randn(outputs, 576, generator=rng) / 24  # logits of unit scale: no probability is denormal
head = Head(torch.nn.Identity(), weight, torch.zeros(outputs))
x = torch.randn(rows, 576, generator=rng)
labels = torch.zeros(rows, dtype=torch.int64)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from what is held now
had = status("VmRSS")
targets = final_targets(head, x, labels)
losses(head, x, targets), kl_gradient(head, x, targets)
print(status("VmHWM") - had)
"""
"""Peak memory in MiB of targets, losses and gradients beyond the head and its inputs, in a process of its own."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    units: tuple[int, ...] = (25, 50, 100, 200)
    every: tuple[int, ...] = (4, 2, 1)
    seeds: tuple[int, ...] = (1, 2, 4)
    rounds: int = 1
    turns: int = 3
    empty: int = 100
    outputs: tuple[int, ...] = (2048, 8192, 49152, 131072)
    rows: tuple[int, ...] = (1024, 4096)


QUICK = Sizes((10,), (4,), (1,), 1, 1, 20, (2048,), (256,))


def plan(*, seeds: int = 2, units: int = UNITS, every: int = 1) -> list[ts.Cell]:
    """Cells of one study on the shipped model; the folds are those of 8 seeds, so that cells stay comparable."""
    cells = ts.cells(
        ts.LanguageSource("embedded", every),
        ["kjv"],
        seeds=8,
        fit=FIT,
        encoding=ENCODING,
        evaluation=ts.EvaluationPlan(units=units),
    )
    return [cell for cell in cells if cell.config["seed"] < seeds]


def empty(count: int) -> list[ts.Cell]:
    """Cells that compute nothing, for what everything else costs."""
    shared = {"algorithm": 1, "subject": {"name": "nothing"}, "dataset": {"name": "nothing", "fingerprint": ""}}
    return [
        ts.Cell({**shared, "seed": seed, "world": "observed"}, "scaling:nothing", {}, f"empty {seed}")
        for seed in range(count)
    ]


def nothing(cell: ts.Cell, report: Report) -> CellOutput:
    """Runner of empty cells: a table as small as may be."""
    return CellOutput(pd.DataFrame({"unit": ["u"], "kl": [cell.rng().normal()]}), {"layers": []})


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """A connection to a running scheduler."""
    with open_cluster(address, lambda message: None) as executor:
        yield executor


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Address of a scheduler with two workers of one thread each, as processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=PROCESSES,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=str(folder),
    ) as one:
        yield str(one.scheduler_address)


Engines = dict[str, Callable[[], AbstractContextManager[Executor | None]]]


def engines(address: str) -> Engines:
    """Where cells can be computed."""
    return {
        "serial": nullcontext,
        f"{PROCESSES} processes": partial(ts.local_pool, PROCESSES),
        f"Dask, {PROCESSES} workers": partial(dask, address),
    }


def swept(cells: Sequence[ts.Cell], executor: Executor | None) -> tuple[float, str]:
    """(seconds of the sweep, hash of all its cell files)."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        outcome = ts.sweep(cells, folder, executor=executor)
        seconds = time.perf_counter() - began
        if outcome.failures:
            raise SystemExit(outcome.failures[0].reason)
        digest = hashlib.sha256()
        for path in sorted(Path(folder, "cells").iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
    return seconds, digest.hexdigest()


def growth(sizes: Sizes) -> pd.DataFrame:
    """Serial seconds a cell as units and layers grow, and of a sweep as seeds grow."""
    swept(plan(seeds=1), None)  # the model stays loaded, as in any sweep
    cases = [
        *((("units", units), plan(seeds=1, units=units)) for units in sizes.units),
        *((("layers", len(range(0, 8, every))), plan(seeds=1, every=every)) for every in sizes.every),
        *((("seeds", seeds), plan(seeds=seeds)) for seeds in sizes.seeds),
    ]
    rows = []
    for (what, value), cells in cases:
        seconds = float(np.median([swept(cells, None)[0] for _ in range(sizes.rounds)]))
        rows.append({"grows": what, "value": value, "cells": len(cells), "seconds": seconds})
    return pd.DataFrame(rows)


def beside(sizes: Sizes, address: str) -> pd.DataFrame:
    """The same cells, and empty ones, on every engine in turns, round after round: disturbances of the machine
    meet all of them. Every process has computed a cell before the clock."""
    real, hollow = plan(seeds=PROCESSES), empty(sizes.empty)
    rows = []
    with ExitStack() as stack:
        opened = {name: stack.enter_context(engine()) for name, engine in engines(address).items()}
        for executor in opened.values():
            swept(plan(seeds=PROCESSES, units=UNITS // 2, every=4), executor)
        for turn in range(sizes.turns):
            for name, executor in opened.items():
                seconds, digest = swept(real, executor)
                idle = swept(hollow, executor)[0]
                rows.append((turn, name, seconds, 1e3 * idle / len(hollow), digest[:12]))
    turns = pd.DataFrame(rows, columns=["turn", "engine", "seconds", "ms_per_empty_cell", "bytes"])
    serial = turns["turn"].map(turns[turns["engine"] == "serial"].set_index("turn")["seconds"])
    turns["times_serial"] = serial / turns["seconds"]
    medians = turns.groupby("engine", sort=False)[["seconds", "times_serial", "ms_per_empty_cell"]].median()
    found = turns.groupby("engine", sort=False)["bytes"].agg(lambda hashes: " ".join(sorted(set(hashes))))
    return medians.assign(bytes=found).reset_index()


def memory(sizes: Sizes) -> pd.DataFrame:
    """Peak memory of losses and gradients beyond what they are given."""
    rows = []
    for outputs in sizes.outputs:
        for count in sizes.rows:
            arguments = [sys.executable, "-c", MEMORY, str(outputs), str(count)]
            done = subprocess.run(arguments, capture_output=True, text=True, check=True)
            whole = outputs * count * 4 / 2**20
            rows.append(
                {"outputs": outputs, "rows": count, "peak_mib": float(done.stdout), "one_table_mib": whole}
            )
    return pd.DataFrame(rows)


def page(grown: pd.DataFrame, engine: pd.DataFrame, peak: pd.DataFrame, turns: int, quick: bool) -> str:
    """The report."""
    same = "the same bytes" if len(set(engine["bytes"])) == 1 else "**NOT the same bytes**"
    caveat = ["**Quick: less of everything. These figures are no result.**"] if quick else []
    head = filled(
        machine_text(["torch"], threads=1),
        *caveat,
        f"""Cells of the shipped model, domain kjv, {UNITS} documents scored unless grown, {FIT.max_steps} kl steps
        a lens; seconds of one sweep each. One thread a cell.""",
    )
    return f"""# What a sweep costs

Written by `analyses/speed/scaling.py{" --quick" if quick else ""}`; nothing here is written by hand.

{head}

## Growth, in one process

{table(grown)}

A cell fits L lenses once and scores L x L pairs on its units, so scoring grows with the square of the layers.

## Engines

{table(engine)}

{PROCESSES} cells, medians of {turns} turns in which the engines alternate. All engines left {same}. An empty
cell computes nothing: its time is that of the store (two files, each synced) and of the engine.

## Memory

Peak of targets, losses and gradients of a head of width 576 beyond the head and its inputs; *one_table_mib* is
what a single table of rows x outputs would take, which is never made.

{table(peak)}
"""


def told(part: pd.DataFrame) -> pd.DataFrame:
    """Print what was measured as soon as it is: a run takes minutes, and may be cut off."""
    print(table(part), flush=True)
    return part


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    quick = parser.parse_args().quick
    sizes = QUICK if quick else Sizes()
    # Workers import the runner of empty cells by name.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    peak = told(memory(sizes))
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as address:
        engine = told(beside(sizes, address))
    grown = told(growth(sizes))
    text = page(grown, engine, peak, sizes.turns, quick)
    out = out_folder(quick)
    parts = {"growth": grown, "engines": engine, "memory": peak}
    pd.concat(parts, names=["part"]).reset_index(0).to_csv(out / "scaling.csv", index=False)
    (out / "scaling.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""How lenses transfer on image classifiers, with and without skip connections, and beside a language model.

    python analyses/studies/vision/study.py --data FOLDER      # IDX files of Fashion-MNIST; see train.py

Sweeps the shipped networks, and the shipped language model for comparison, into runs/vision, and writes
reports/residual from what is stored. Finished cells are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from study_report import Run, write_report
from train import DATA, TRAINED_ON

import transferstats as ts
from transferstats.engine import Cell, local_pool
from transferstats.lens.images import read_images
from transferstats.lens.plan import IMAGES
from transferstats.lens.small_networks import NETWORKS, instances

SEEDS = 3
ALIGNED: tuple[str, ...] = ("inception", "resnet", "plain")
"""Networks whose layers differ in width."""
SCORED = 2000
MOST_STEPS = 2048


class Study(NamedTuple):
    """One network under one alignment, its own lenses starting from one anchor."""

    name: str
    instance: int
    alignment: str
    anchor: str

    @property
    def store(self) -> str:
        """Folder of its cells."""
        tail = "" if self.anchor == "ridge" else f"-{self.anchor}"
        return f"{self.name}-{self.instance}-{self.alignment}{tail}"

    @property
    def null_replicates(self) -> int:
        """The first instance of each network has its null; the others serve the comparison of architectures."""
        return SEEDS if self.instance == 0 and self.alignment != "pad" and self.anchor == "ridge" else 0


def studies() -> Iterator[Study]:
    """All studies: the alignment reported, padding beside it, and lenses that start from the shared one."""
    for name in NETWORKS:
        for instance in range(instances(name)):
            alignments = ("procrustes", "pad") if name in ALIGNED else ("none",)
            for alignment in alignments:
                yield Study(name, instance, alignment, "ridge")
            yield Study(name, instance, alignments[0], "shared")


def unseen_images(data: Path, store: Path) -> Path:
    """The training images that no network was trained on, as a file of their own."""
    path = store / "fashion-mnist.npz"
    if not path.exists():
        store.mkdir(parents=True, exist_ok=True)
        everything = read_images(data / "train-images-idx3-ubyte.gz")
        partial = path.with_suffix(".part.npz")
        np.savez(partial, images=everything.images[TRAINED_ON:], labels=everything.labels[TRAINED_ON:])
        partial.replace(path)
    return path


def cells_of(study: Study, images: Path) -> list[Cell]:
    """The cells of one network."""
    return ts.vision_cells(
        f"embedded:{study.name}-{study.instance}",
        [images],
        seeds=SEEDS,
        null_replicates=study.null_replicates,
        alignment=study.alignment,
        fit=replace(IMAGES, max_steps=MOST_STEPS, anchor=study.anchor),
        evaluation=ts.EvaluationPlan(units=SCORED),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the IDX files")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("runs/vision"))
    parser.add_argument("--language", type=Path, help="store of the language model, where there is one already")
    parser.add_argument("--out", type=Path, default=Path("reports/residual"))
    options = parser.parse_args()
    images = unseen_images(options.data, options.store)
    planned = {study: cells_of(study, images) for study in studies()}
    language = options.language or options.store / "language"
    work = [(cells, options.store / study.store) for study, cells in planned.items()]
    if options.language is None:
        work.insert(0, (ts.cells("embedded", ["python", "kjv"], seeds=SEEDS), language))  # its cells take longest
    # Several stores at once: three cells would leave one of two processes idle at the end of each.
    with local_pool(options.jobs) as pool, ThreadPoolExecutor(options.jobs) as stores:
        for swept in [stores.submit(sweep, cells, store, pool) for cells, store in work]:
            swept.result()
    runs = [Run(*study, ts.read_grid(options.store / study.store)) for study in planned]
    print(write_report(runs, ts.read_grid(language), options.out))


def sweep(cells: list[Cell], store: Path, pool: Executor) -> None:
    """Compute what a store lacks; the first failure ends the study."""
    outcome = ts.sweep(cells, store, executor=pool)
    if outcome.failures:
        raise SystemExit(f"{outcome.failures[0].label}: {outcome.failures[0].reason}")
    print(f"{store.name}: {len(outcome.computed)} cells computed, {len(outcome.reused)} reused", flush=True)


if __name__ == "__main__":
    main()

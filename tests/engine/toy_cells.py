"""Cells that take milliseconds: a real runner that real worker processes import by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from transferstats.engine import Cell, CellOutput, Report

RUNNER = "toy_cells:run"
ROWS = 50


def make_cells(count: int = 4, **options: Any) -> list[Cell]:
    """Cells of one study; ``options`` are shared by all and part of its identity."""
    shared = {"algorithm": 1, "options": {"alpha": 0.5, **options}}
    dataset = {"name": "toy", "fingerprint": "f"}
    return [
        Cell({**shared, "dataset": dataset, "seed": seed, "world": "observed"}, RUNNER, {}, f"toy seed {seed}")
        for seed in range(count)
    ]


def run(cell: Cell, report: Report) -> CellOutput:
    """A table drawn from the cell's own stream; ``location["do"]`` makes it misbehave."""
    report("states", 1, 1)
    _misbehave(cell.location.get("do", ""), cell)
    rng = cell.rng()
    values = rng.normal(size=ROWS)
    if cell.location.get("do") == "nan":
        values[7] = np.nan
    table = pd.DataFrame({"unit": [f"u{index}" for index in range(ROWS)], "kl": values, "n": np.arange(ROWS)})
    record: dict[str, Any] = {"mean": float(np.nan if cell.location.get("do") == "nan record" else values.mean())}
    return CellOutput(table, record)


def _misbehave(what: str, cell: Cell) -> None:
    if what == "data error":
        from transferstats.errors import DataError

        raise DataError("these losses are no good")
    if what == "crash":
        raise RuntimeError("a bug, or out of memory")
    if what == "die":
        os._exit(9)
    if what.startswith("mark "):
        Path(what.removeprefix("mark "), str(cell.config["seed"])).touch()
        time.sleep(0.02)
    if what.startswith("wait for "):
        _wait(Path(what.removeprefix("wait for ")), cell)


def _wait(folder: Path, cell: Cell) -> None:
    """Say that the cell runs, and wait until the folder says go."""
    (folder / f"running {os.getpid()} {cell.config['seed']}").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)

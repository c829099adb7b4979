"""The coverage study itself: resumable, and the same numbers in any order and any number of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]


def run(store: Path, out: Path, *options: str) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / "analyses" / "validation" / "coverage.py")]
    command += ["--quick", "--sets", "20", "--study", "slope_null", "weights", "--store", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(out), *options], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_study_is_resumable_and_independent_of_order(tmp_path: Path) -> None:
    run(tmp_path / "one", tmp_path / "report one")
    results = sorted((tmp_path / "one").iterdir())
    assert all(path.suffix == ".csv" for path in results)
    stamps = {path: path.stat().st_mtime_ns for path in results}
    results[0].unlink()
    run(tmp_path / "one", tmp_path / "report again", "--jobs", "2")
    again = sorted((tmp_path / "one").iterdir())
    assert again == results
    assert [path for path in again if path.stat().st_mtime_ns != stamps[path]] == results[:1]
    first, second = ((tmp_path / name / "coverage.csv").read_bytes() for name in ("report one", "report again"))
    assert first == second
    frame = pd.read_csv(tmp_path / "report one" / "coverage.csv")
    assert set(frame["study"]) == {"slope_null", "weights"}
    assert (frame["n_sets"] == 20).all()

"""Sweeps of the command line that are killed and interrupted end with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from processes import alive, children, content

import transferstats as ts
from transferstats.engine import Store, sweep
from transferstats.lens.plan import RECIPES

PATIENCE = 120.0  # seconds until a test gives up waiting; nothing depends on how long it really took
SEEDS, UNITS, TOKENS, STEPS = 3, 16, 48, 1
RECIPE = "belrose2023"  # one set of lenses, so that cells are short

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")


class Sweep:
    """``transferstats sweep`` on the small documents, in a process group of its own."""

    def __init__(self, files: list[Path], store: Path, jobs: int) -> None:
        self.store = store
        command = [sys.executable, "-m", "transferstats.cli", "sweep", "--store", str(store), "--jobs", str(jobs)]
        command += [part for file in files for part in ("--dataset", str(file))]
        command += f"--seeds {SEEDS} --units {UNITS} --unit-tokens {TOKENS} --max-steps {STEPS}".split()
        command += ["--null-replicates", "0", "--recipe", RECIPE]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A test run in the background of a shell script ignores Ctrl-C; the sweep under test must not.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Until it holds, or the sweep has ended by itself."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and not condition():
            assert time.monotonic() < end, "gave up waiting"
            time.sleep(0.01)

    def wait_for_cells(self, count: int) -> None:
        """Until so many cells are finished."""
        self.wait_until(lambda: self.finished_cells() >= count)

    def finished_cells(self) -> int:
        return len(Store(self.store).keys())

    def descendants(self) -> set[int]:
        """Process ids of everything that the sweep has started."""
        found, fresh = set(), {self.process.pid}
        while fresh:
            fresh = {child for parent in fresh for child in children(parent)} - found
            found |= fresh
        return found

    def end(self, signal_number: int | None = None) -> tuple[int, str, str]:
        """Send a signal to the whole group, as a terminal does, and wait: exit code, output, errors."""
        if signal_number is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal_number)
        out, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, errors


def check_that_nothing_survives(running: Sweep) -> None:
    """Kill the parent alone: workers and helpers must notice by themselves."""
    family = running.descendants()
    assert len(family) >= 2
    running.process.kill()
    running.process.wait(timeout=PATIENCE)
    end = time.monotonic() + PATIENCE / 4
    try:
        while any(alive(one) for one in family):
            left = [Path(f"/proc/{one}/cmdline").read_text().replace("\0", " ") for one in family if alive(one)]
            assert time.monotonic() < end, left
            time.sleep(0.05)
    finally:
        for one in family:
            if alive(one):
                os.kill(one, signal.SIGKILL)
        running.process.communicate(timeout=PATIENCE)


def test_kills_and_interrupts_leave_no_trace(document_files: list[Path], tmp_path: Path) -> None:
    store, draw = tmp_path / "store", np.random.default_rng(20230314)
    hits = 0

    running = Sweep(document_files, store, jobs=2)
    running.wait_until(lambda: len(running.descendants()) >= 3 and (store / "study.json").exists())
    time.sleep(float(draw.uniform(0, 3)))
    check_that_nothing_survives(running)

    for _ in range(2):
        before = running.finished_cells()
        running = Sweep(document_files, store, jobs=1)
        running.wait_for_cells(before + 1)
        time.sleep(float(draw.uniform(0, 0.8)))
        hits += running.process.poll() is None
        code, _, errors = running.end(signal.SIGKILL)
        assert code in (-signal.SIGKILL, 0), errors
        assert Store(store).verify() == []

    running = Sweep(document_files, store, jobs=2)
    before = running.finished_cells()
    running.wait_for_cells(min(before + 1, 5))
    interrupted = running.process.poll() is None
    code, _, errors = running.end(signal.SIGINT)
    if interrupted:
        assert code == 130, errors
        assert "interrupted; finished cells are kept, run the same command again" in errors
        assert "Traceback" not in errors
    assert hits + interrupted >= 1  # something was cut off

    code, out, errors = Sweep(document_files, store, jobs=1).end()
    assert code == 0, errors
    assert f"in {store}" in out
    cells = ts.cells(
        "embedded",
        document_files,
        seeds=SEEDS,
        null_replicates=0,
        fit=replace(RECIPES[RECIPE], max_steps=STEPS),
        evaluation=ts.EvaluationPlan(units=UNITS, tokens=TOKENS),
    )
    assert not sweep(cells, tmp_path / "undisturbed").failures
    assert content(store) == content(tmp_path / "undisturbed")

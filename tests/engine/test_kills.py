"""A sweep that is killed twenty times at random moments ends with the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from processes import PATIENCE, content, start
from toy_cells import make_cells

from transferstats.engine import Store, cell_states, sweep

KILLS, CELLS = 20, 150
POOL_EVERY = 5  # kills hit a sweep with workers, the others one in a single process
SERIAL_SECONDS, POOL_SECONDS = 0.15, 1.5  # the moments are drawn between 0 and this; a pool takes a while to start


def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    """Whatever the moment: nothing is torn, nothing finished is lost, and nobody seems to be at work."""
    draw = np.random.default_rng(20230314)
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    hit, finished = 0, 0
    for number in range(KILLS):
        jobs = 2 if number % POOL_EVERY == POOL_EVERY - 1 else 0
        process = start(tmp_path, store, count=CELLS, jobs=jobs, do=f"mark {marks}")
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        time.sleep(float(draw.uniform(0, POOL_SECONDS if jobs else SERIAL_SECONDS)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        hit += process.returncode == -signal.SIGKILL
        before, finished = finished, len(Store(store).keys())
        assert finished >= before
        assert Store(store).verify() == []
        if (store / "plan.json").exists():
            assert {one.state for one in cell_states(store)} <= {"done", "missing"}
    assert hit == KILLS  # each found it at work
    assert 0 < finished < CELLS
    outcome = sweep(make_cells(CELLS), store)
    assert len(outcome.computed) == CELLS - finished
    sweep(make_cells(CELLS), tmp_path / "undisturbed")
    assert content(store) == content(tmp_path / "undisturbed")

"""Sweeps: one failing cell, dying workers, two sweeps at once, shards; in process and over processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from processes import PATIENCE, alive, content, running, start, wait_until
from toy_cells import make_cells

from transferstats.engine import Cell, Report, Store, cell_states, local_pool, run_cell, sweep
from transferstats.errors import StoreError


def doing(cells: list[Cell], **what: str) -> list[Cell]:
    """The same cells, some of which misbehave: s2="crash" is the third."""
    return [
        replace(cell, location={"do": what[name]}) if (name := f"s{cell.config['seed']}") in what else cell
        for cell in cells
    ]


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    """Two real worker processes."""
    with local_pool(2) as made:
        yield made


@pytest.fixture(params=["serial", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param == "serial":
        yield None
    elif request.param == "threads":
        with ThreadPoolExecutor(2) as made:
            yield made
    else:
        yield request.getfixturevalue("pool")


def test_any_executor_leaves_the_same_bytes(executor: Executor | None, tmp_path: Path) -> None:
    sweep(make_cells(), tmp_path / "serial")
    outcome = sweep(make_cells(), tmp_path / "other", executor=executor)
    assert set(outcome.computed) == {cell.key for cell in make_cells()}
    assert content(tmp_path / "serial") == content(tmp_path / "other")


@pytest.mark.parametrize("fault", ["data error", "crash", "nan", "nan record"])
def test_a_failing_cell_does_not_stop_the_others(executor: Executor | None, tmp_path: Path, fault: str) -> None:
    outcome = sweep(doing(make_cells(), s1=fault), tmp_path, executor=executor)
    assert len(outcome.computed) == 3
    (failure,) = outcome.failures
    assert failure.label == "toy seed 1"
    words = {
        "data error": "DataError: these losses are no good",
        "crash": "RuntimeError: a bug, or out of memory",
        "nan": "DataError: cell toy seed 1: 1 values of 'kl' are NaN",
        "nan record": "DataError: cell toy seed 1: its record holds NaN",
    }
    assert failure.reason.startswith(words[fault])
    assert [one.label for one in cell_states(tmp_path) if one.state == "failed"] == ["toy seed 1"]
    assert len(sweep(make_cells(), tmp_path).computed) == 1  # the cause removed, the rest is computed
    assert Store(tmp_path).verify() == []


def test_a_worker_that_dies_costs_only_what_it_was_computing(tmp_path: Path) -> None:
    with local_pool(1) as made:
        outcome = sweep(doing(make_cells(), s2="die"), tmp_path, executor=made)
    assert outcome.failures
    assert all("terminated abruptly" in failure.reason for failure in outcome.failures)
    assert len(outcome.computed) + len(outcome.failures) == 4
    assert Store(tmp_path).verify() == []
    assert len(sweep(make_cells(), tmp_path).computed) == len(outcome.failures)


def test_finished_cells_are_not_computed_again(tmp_path: Path) -> None:
    sweep(make_cells(2), tmp_path)
    outcome = sweep(doing(make_cells(), s0="crash", s1="crash"), tmp_path)
    assert not outcome.failures
    assert (len(outcome.computed), len(outcome.reused)) == (2, 2)


def test_an_interrupt_stops_and_the_next_sweep_goes_on(tmp_path: Path) -> None:
    def watch(_cell: Cell, index: int, _count: int) -> Report:
        if index == 2:
            raise KeyboardInterrupt
        return lambda _stage, _done, _total: None

    with pytest.raises(KeyboardInterrupt):
        sweep(make_cells(), tmp_path / "store", watch=watch)
    assert len(Store(tmp_path / "store").keys()) == 2
    assert len(sweep(make_cells(), tmp_path / "store").computed) == 2
    sweep(make_cells(), tmp_path / "undisturbed")
    assert content(tmp_path / "store") == content(tmp_path / "undisturbed")


def test_a_store_that_cannot_be_written_stops_the_sweep_and_cancels_the_rest(tmp_path: Path) -> None:
    """The folder of the cells is a file: no cell can be kept, so none should be computed in vain."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cells").write_text("in the way", encoding="utf-8")
    marks = tmp_path / "marks"
    marks.mkdir()
    cells = [replace(cell, location={"do": f"mark {marks}"}) for cell in make_cells(40)]
    with ThreadPoolExecutor(1) as made, pytest.raises(StoreError, match="could not write"):
        sweep(cells, tmp_path / "store", executor=made)
    assert len(list(marks.iterdir())) < 40


def test_shards_are_disjoint_and_complete(tmp_path: Path) -> None:
    cells = make_cells(7)
    done = [sweep(cells, tmp_path, shard=(index, 3)).computed for index in range(3)]
    assert [len(keys) for keys in done] == [3, 2, 2]
    assert len({key for keys in done for key in keys}) == 7
    with pytest.raises(StoreError, match="shard 3/3: the first number counts from 0"):
        sweep(cells, tmp_path, shard=(3, 3))


def test_every_cell_is_watched(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    told: list[tuple[str, int, int]] = []

    def watch(cell: Cell, index: int, count: int) -> Report:
        seen.append((cell.label, index, count))
        return lambda *report: told.append(report)

    sweep(make_cells(3), tmp_path, watch=watch)
    assert seen == [(f"toy seed {index}", index, 3) for index in range(3)]
    assert told == [("states", 1, 1)] * 3


def test_a_runner_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    cells = [replace(cell, runner="toy_cells:nothing") for cell in make_cells(1)]
    with pytest.raises(StoreError, match="cell toy seed 0: cannot import its runner 'toy_cells:nothing'"):
        run_cell(cells[0])
    assert len(sweep(cells, tmp_path).failures) == 1


# --- several processes on one store ------------------------------------------------------------------------------


def test_two_sweeps_at_once_on_one_store(tmp_path: Path) -> None:
    """The same cells, and cells of which the other knows nothing; both start from nothing, together."""
    signs = tmp_path / "signs"
    signs.mkdir()
    root, do = tmp_path / "store", f"wait for {signs}"
    sweeps = [start(tmp_path, root, part=part, do=do) for part in ("0:6", "2:8")]
    wait_until(lambda: len(running(signs)) == 2)
    (signs / "go").touch()
    for process in sweeps:
        out, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
        assert out.split()[-1] == "0"
    assert Store(root).verify() == []
    sweep(make_cells(8), tmp_path / "undisturbed")
    assert content(root) == content(tmp_path / "undisturbed")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    signs = tmp_path / "signs"
    signs.mkdir()
    parent = start(tmp_path, tmp_path / "store", jobs=2, do=f"wait for {signs}")
    try:
        wait_until(lambda: len(running(signs)) == 2)
        workers = running(signs)
        assert parent.pid not in workers
        parent.kill()
        parent.communicate(timeout=PATIENCE)
        wait_until(lambda: not any(alive(worker) for worker in workers))
    finally:
        (signs / "go").touch()
        for worker in running(signs):
            if alive(worker):
                os.kill(worker, signal.SIGKILL)
    assert len(sweep(make_cells(8), tmp_path / "store").computed) == 8


def test_progress_of_a_worker_crosses_to_the_parent(pool: Executor, tmp_path: Path) -> None:
    """Cells report from their own process while they run."""
    import multiprocessing

    from transferstats.progress import SweepProgress

    with multiprocessing.get_context("spawn").Manager() as manager:
        with SweepProgress(manager.Queue(), 3) as progress:
            sweep(make_cells(3), tmp_path, executor=pool, watch=progress.watch)
            wait_until(lambda: len(progress._share) == 3)
        assert not progress._thread.is_alive()
    assert threading.active_count() < 20

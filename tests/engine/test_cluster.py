"""A real Dask cluster: the same bytes as in this process, dying workers, a dying scheduler, wrong usage."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import required
from processes import PATIENCE, TOYS, content, running, wait_until
from toy_cells import make_cells

from transferstats.engine import Cell, QueueReport, cell_states, local_pool, sweep
from transferstats.errors import EngineError
from transferstats.progress import SweepProgress

required.module("distributed")

from transferstats.engine.cluster import ClusterExecutor, open_cluster  # noqa: E402


def waiting_for(folder: Path, count: int) -> list[Cell]:
    """Cells that say that they run, and wait until the folder says go."""
    folder.mkdir(exist_ok=True)
    return [replace(cell, location={"do": f"wait for {folder}"}) for cell in make_cells(count)]


@dataclass
class Cluster:
    """A scheduler and two workers as processes of their own, as somebody would start them in shells."""

    folder: Path
    address: str
    scheduler: subprocess.Popen[str]
    workers: list[subprocess.Popen[str]]

    def start_worker(self, *options: str) -> None:
        self.workers.append(_dask(self.folder, "worker", self.address, "--no-dashboard", *options))

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=PATIENCE)


def _dask(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command of Dask in a process group of its own; it finds the toy cells."""
    path = os.pathsep.join([str(TOYS), *filter(None, [os.environ.get("PYTHONPATH")])])
    log = (folder / f"dask {arguments[0]} {time.monotonic_ns()}.log").open("w", encoding="utf-8")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            stdout=log,
            stderr=log,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def started(folder: Path, *options: str, workers: int = 2) -> Iterator[Cluster]:
    address = f"tcp://127.0.0.1:{_free_port()}"
    port = address.rsplit(":", 1)[1]
    scheduler = _dask(folder, "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
    cluster = Cluster(folder, address, scheduler, [])
    try:
        for _ in range(workers):
            cluster.start_worker(*(options or ("--nthreads", "1")))
        _wait_for(cluster, workers)
        yield cluster
    finally:
        cluster.end()


def _wait_for(cluster: Cluster, workers: int) -> None:
    from distributed import Client

    end = time.monotonic() + PATIENCE
    while True:
        try:
            with Client(cluster.address, timeout=PATIENCE, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=PATIENCE)
                return
        except OSError:
            assert time.monotonic() < end, "no scheduler"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers that every test leaves as they were."""
    with started(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest.fixture
def executor(cluster: Cluster) -> Iterator[ClusterExecutor]:
    with open_cluster(cluster.address, lambda _: None) as made:
        yield made


def test_serial_pool_and_cluster_leave_the_same_bytes(executor: ClusterExecutor, tmp_path: Path) -> None:
    cells = make_cells(6)
    sweep(cells, tmp_path / "serial")
    with local_pool(2) as pool:
        sweep(cells, tmp_path / "pool", executor=pool)
    outcome = sweep(cells, tmp_path / "cluster", executor=executor)
    assert set(outcome.computed) == {cell.key for cell in cells}
    assert content(tmp_path / "serial") == content(tmp_path / "pool") == content(tmp_path / "cluster")


@pytest.mark.parametrize("fault", ["data error", "crash", "nan"])
def test_a_failing_cell_does_not_stop_the_others(executor: ClusterExecutor, tmp_path: Path, fault: str) -> None:
    """And a second sweep computes it, rather than being told by Dask what it knows."""
    cells = make_cells()
    cells[1] = replace(cells[1], location={"do": fault})
    outcome = sweep(cells, tmp_path, executor=executor)
    assert (len(outcome.computed), len(outcome.failures)) == (3, 1)
    (state,) = (one for one in cell_states(tmp_path) if one.state == "failed")
    assert (state.label, state.detail) == ("toy seed 1", outcome.failures[0].reason)
    assert len(sweep(make_cells(), tmp_path, executor=executor).computed) == 1


def test_cells_say_that_they_run_and_how_far_they_are(cluster: Cluster, tmp_path: Path) -> None:
    """Four cells on two workers: two run, two wait, and the states say so while they do."""
    messages: queue.Queue[object] = queue.Queue()
    cells = waiting_for(tmp_path / "signs", 4)
    with SweepProgress(messages, 4) as progress, open_cluster(cluster.address, messages.put) as executor:
        progress.sink = executor.sink
        options = {"executor": executor, "watch": progress.watch}
        thread = threading.Thread(target=sweep, args=(cells, tmp_path / "store"), kwargs=options)
        thread.start()
        wait_until(lambda: len(running(tmp_path / "signs")) == 2)

        def states() -> list[str]:
            return sorted(one.state for one in cell_states(tmp_path / "store"))

        wait_until(lambda: states() == ["running", "running", "waiting", "waiting"])
        (tmp_path / "signs" / "go").touch()
        thread.join(PATIENCE)
        wait_until(lambda: len(progress._share) == 4)
    assert states() == ["done"] * 4


def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    """SIGKILL in the middle of a cell: another worker computes it, and nothing shows that it happened."""
    cells = waiting_for(tmp_path / "signs", 6)
    with (
        started(tmp_path) as cluster,
        open_cluster(cluster.address, lambda _: None) as executor,
        ThreadPoolExecutor(1) as background,
    ):
        future = background.submit(sweep, cells, tmp_path / "store", executor=executor)
        wait_until(lambda: len(running(tmp_path / "signs")) == 2)
        os.kill(running(tmp_path / "signs")[0], signal.SIGKILL)
        (tmp_path / "signs" / "go").touch()
        outcome = future.result(timeout=PATIENCE)
    assert not outcome.failures
    assert len(outcome.computed) == 6
    sweep(make_cells(6), tmp_path / "undisturbed")
    assert content(tmp_path / "store") == content(tmp_path / "undisturbed")


def test_a_killed_scheduler_is_told_and_a_second_sweep_finishes(cluster: Cluster, tmp_path: Path) -> None:
    store = tmp_path / "store"
    sweep(make_cells(6)[:1], store)  # something is finished, and must be kept
    cells = waiting_for(tmp_path / "signs", 6)
    with started(tmp_path) as mortal:

        def begin() -> None:
            with open_cluster(mortal.address, lambda _: None) as executor:
                sweep(cells, store, executor=executor)

        with ThreadPoolExecutor(1) as background:
            future = background.submit(begin)
            wait_until(lambda: len(running(tmp_path / "signs")) == 2)
            os.killpg(mortal.scheduler.pid, signal.SIGKILL)
            with pytest.raises(EngineError, match=r"the workers are gone .* finished cells are kept: start them"):
                future.result(timeout=PATIENCE)
        assert {one.state for one in cell_states(store)} == {"done", "missing"}  # nobody claims them any longer
    with open_cluster(cluster.address, lambda _: None) as executor:
        outcome = sweep(make_cells(6), store, executor=executor)
    assert (len(outcome.computed), len(outcome.reused)) == (5, 1)
    sweep(make_cells(6), tmp_path / "undisturbed")
    assert content(store) == content(tmp_path / "undisturbed")


def test_workers_with_several_threads_are_refused(tmp_path: Path) -> None:
    """Two cells in one process would set each other's number of torch threads."""
    with (
        started(tmp_path, "--nthreads", "2", workers=1) as crowded,
        pytest.raises(EngineError, match="start workers with --nthreads 1"),
        open_cluster(crowded.address, lambda _: None),
    ):
        pass


def test_cells_for_accelerators_go_to_workers_that_offer_one(tmp_path: Path) -> None:
    """One worker of two offers the resource; all cells run there."""
    (tmp_path / "signs").mkdir()
    (tmp_path / "signs" / "go").touch()
    with started(tmp_path) as cluster:
        cluster.start_worker("--nthreads", "1", "--resources", "GPU=1")
        _wait_for(cluster, 3)
        with open_cluster(cluster.address, lambda _: None, gpu=True) as executor:
            outcome = sweep(waiting_for(tmp_path / "signs", 5), tmp_path / "store", executor=executor)
    assert len(outcome.computed) == 5
    assert len(running(tmp_path / "signs")) == 1


def test_a_worker_with_other_libraries_is_refused() -> None:
    """What the store records must be what computed the numbers."""
    from transferstats.engine.run import run_elsewhere
    from transferstats.provenance import library_versions

    cell = make_cells(1)[0]
    assert len(run_elsewhere(cell, None, library_versions()).table) > 0
    with pytest.raises(EngineError, match=r"this worker has numpy \S+ instead of 1\.0: its numbers would be"):
        run_elsewhere(cell, None, {**library_versions(), "numpy": "1.0"})


def test_a_report_travels(executor: ClusterExecutor) -> None:
    """What is sent to a worker is small and needs no connection of its own."""
    import pickle

    report = pickle.loads(pickle.dumps(QueueReport(executor.sink, "toy")))
    assert report.queue == executor.sink

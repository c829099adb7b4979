"""What a store says about its cells: running where a live sweep has them, failed with the reason, else missing."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from processes import PATIENCE, content, running, start, wait_until
from toy_cells import make_cells

from transferstats.engine import cell_states, journal, local_pool, sweep
from transferstats.engine.journal import SILENT_SECONDS, live_notes, remove_dead_notes


def states(root: Path) -> list[str]:
    return [one.state for one in cell_states(root)]


def test_a_failure_keeps_its_reason_until_the_cell_is_finished(tmp_path: Path) -> None:
    cells = make_cells()
    cells[2] = replace(cells[2], location={"do": "data error"})
    sweep(cells, tmp_path / "store")
    assert states(tmp_path / "store") == ["done", "done", "failed", "done"]
    failed = cell_states(tmp_path / "store")[2]
    assert failed.detail == "DataError: these losses are no good"
    (file,) = (tmp_path / "store" / "failures").iterdir()
    trace = json.loads(file.read_text(encoding="utf-8"))["traceback"]
    assert "toy_cells.py" in trace  # where it happened, for whoever mends it
    sweep(make_cells(), tmp_path / "store")
    assert states(tmp_path / "store") == ["done"] * 4
    sweep(make_cells(), tmp_path / "undisturbed")
    assert content(tmp_path / "store") == content(tmp_path / "undisturbed")


def test_the_traceback_of_a_worker_is_kept(tmp_path: Path) -> None:
    cells = [replace(cell, location={"do": "crash"}) for cell in make_cells(1)]
    with local_pool(1) as pool:
        sweep(cells, tmp_path, executor=pool)
    (file,) = (tmp_path / "failures").iterdir()
    assert "_misbehave" in json.loads(file.read_text(encoding="utf-8"))["traceback"]


def test_a_failure_that_another_sweep_mended_is_forgotten(tmp_path: Path) -> None:
    """The reason lies there, the cell is finished: the next sweep that finds it so clears it away."""
    sweep(make_cells(1), tmp_path)
    journal.record_failure(tmp_path, make_cells(1)[0].key, "toy seed 0", "old", "")
    assert states(tmp_path) == ["done"]
    sweep(make_cells(1), tmp_path)
    assert not list((tmp_path / "failures").iterdir())


def test_a_torn_reason_is_no_obstacle(tmp_path: Path) -> None:
    cells = [replace(make_cells(1)[0], location={"do": "crash"})]
    sweep(cells, tmp_path)
    (file,) = (tmp_path / "failures").iterdir()
    file.write_text("{", encoding="utf-8")
    assert "its reason cannot be read" in cell_states(tmp_path)[0].detail


@pytest.mark.parametrize("jobs", [0, 2])
def test_running_cells_are_named_with_their_process_and_end_with_it(tmp_path: Path, jobs: int) -> None:
    """In one process one cell runs and seven wait; a killed sweep has no running cells."""
    signs, store = tmp_path / "signs", tmp_path / "store"
    signs.mkdir()
    process = start(tmp_path, store, jobs=jobs, do=f"wait for {signs}")
    wait_until(lambda: len(running(signs)) == max(1, jobs))
    wait_until(lambda: states(store).count("running") >= max(1, jobs))
    found = cell_states(store)
    assert {one.state for one in found} == {"running", "waiting"}
    assert {one.detail for one in found} == {f"process {process.pid} on {socket.gethostname()}"}
    if not jobs:
        assert states(store).count("running") == 1
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert states(store) == ["missing"] * 8
    assert list((store / "sweeps").glob("*.json"))  # the dead sweep's note is still there
    sweep(make_cells(8), store)
    assert not list((store / "sweeps").iterdir())


def _foreign_note(root: Path, *, host: str, process: int, born: str, silent: float) -> Path:
    """The note of a sweep elsewhere, last touched a while ago."""
    cells = {make_cells(1)[0].key: "running"}
    path = root / "sweeps" / f"{host}.{process}.json"
    path.parent.mkdir(exist_ok=True)
    text = json.dumps({"host": host, "process": process, "born": born, "cells": cells})
    path.write_text(text, encoding="utf-8")
    past = time.time() - silent
    os.utime(path, (past, past))
    return path


def _unfinished(root: Path) -> Path:
    sweep([replace(make_cells(1)[0], location={"do": "crash"})], root)
    return root


def test_a_sweep_on_another_host_lives_while_it_touches_its_note(tmp_path: Path) -> None:
    root = _unfinished(tmp_path)
    path = _foreign_note(root, host="elsewhere", process=1, born="1", silent=SILENT_SECONDS - 20)
    assert states(root) == ["running"]
    assert cell_states(root)[0].detail == "process 1 on elsewhere"
    remove_dead_notes(root)
    assert path.exists()
    _foreign_note(root, host="elsewhere", process=1, born="1", silent=SILENT_SECONDS + 20)
    assert states(root) == ["failed"]
    remove_dead_notes(root)
    assert not path.exists()


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    root = _unfinished(tmp_path)
    _foreign_note(root, host=socket.gethostname(), process=os.getpid(), born="another birth", silent=0)
    assert live_notes(root) == []


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _list(path: Path) -> None:
    path.write_text("[1]", encoding="utf-8")


@pytest.mark.parametrize("spoil", [_empty, _list])
def test_a_torn_note_is_nobodys(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    root = _unfinished(tmp_path)
    spoil(_foreign_note(root, host="elsewhere", process=1, born="1", silent=0))
    assert states(root) == ["failed"]
    assert len(sweep(make_cells(1), root).computed) == 1


def test_a_note_that_somebody_removed_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine with this host's name may take it for dead."""
    monkeypatch.setattr(journal, "BEAT_SECONDS", 0.01)
    with journal.Claim(tmp_path, ["a", "b"]) as claim:
        (path,) = (tmp_path / "sweeps").iterdir()
        path.unlink()
        wait_until(path.exists)
        claim.follow("a", lambda: True)
        wait_until(
            lambda: [dict(note.cells) for note in live_notes(tmp_path)] == [{"a": "running", "b": "waiting"}]
        )
        claim.finish("a")
        wait_until(lambda: [dict(note.cells) for note in live_notes(tmp_path)] == [{"b": "waiting"}])
    assert not path.exists()

"""The store: nothing half-written, nothing altered unnoticed, nothing mixed up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_cells import make_cells

import transferstats
from transferstats.engine import Cell, CellOutput, Store, cell_states, run_cell, sweep
from transferstats.engine.store import LEFTOVER_SECONDS
from transferstats.errors import DataError, StoreError

HERE = Path(__file__).parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four finished cells."""
    root = tmp_path / "store"
    assert not sweep(make_cells(), root).failures
    return Store(root)


def content(root: Path) -> dict[str, bytes]:
    """Every file of a store and its bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_cells_read_back_as_they_were_computed(store: Store) -> None:
    for cell in make_cells():
        output, kept = run_cell(cell), store.read(cell.key)
        assert kept.config == cell.config
        assert kept.record == output.record
        assert kept.versions["numpy"] == np.__version__
        pd.testing.assert_frame_equal(kept.table, output.table)
    assert len(store.keys()) == 4


def test_two_runs_leave_the_same_bytes(store: Store, tmp_path: Path) -> None:
    sweep(make_cells(), tmp_path / "again")
    assert content(store.root) == content(tmp_path / "again")


def test_the_key_is_the_configuration_whatever_its_order_and_process() -> None:
    cell = make_cells(1)[0]
    backwards = Cell(dict(reversed(list(cell.config.items()))), cell.runner)
    assert backwards.key == cell.key
    code = "from toy_cells import make_cells; print(make_cells(1)[0].key)"
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE)}
        out = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True
        )
        assert out.stdout.strip() == cell.key


def test_the_key_leaves_out_where_things_are_and_what_they_are_called() -> None:
    cell = make_cells(1)[0]
    assert Cell(cell.config, "another:runner", {"subject": "elsewhere"}, "another label").key == cell.key
    assert make_cells(1, alpha=0.6)[0].key != cell.key


def test_random_streams_follow_the_key() -> None:
    first, second = make_cells(2)
    assert first.rng().random() == Cell(first.config, first.runner).rng().random()
    assert first.rng().random() != second.rng().random()


# --- torn and altered files -------------------------------------------------------------------------------------


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    """One bit of a digit or byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _other_json(path: Path) -> None:
    path.write_text("[1, 2]", encoding="utf-8")


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "truncated table": ("parquet", _truncate),
    "empty table": ("parquet", _empty),
    "bit of a table": ("parquet", _flip),
    "no table": ("parquet", Path.unlink),
    "truncated record": ("json", _truncate),
    "empty record": ("json", _empty),
    "bit of a record": ("json", _flip),
    "another record": ("json", _other_json),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_refused_and_recomputed_to_the_same_bytes(store: Store, kind: str) -> None:
    before = content(store.root)
    cells = make_cells()
    victim = cells[2].key
    suffix, spoil = DAMAGE[kind]
    spoil(store.root / "cells" / f"{victim}.{suffix}")
    with pytest.raises(StoreError, match=f"{victim[:12]}.*transferstats verify --discard"):
        store.read(victim)
    with pytest.raises(StoreError, match=victim[:12]):
        sweep(cells, store.root)
    problems = store.verify()
    assert [problem.key for problem in problems] == [victim]
    assert content(store.root).keys() >= before.keys() - {
        f"cells/{victim}.{suffix}"
    }  # nothing was removed unasked
    store.discard(victim)
    assert [one.state for one in cell_states(store.root)].count("missing") == 1
    outcome = sweep(cells, store.root)
    assert outcome.computed == (victim,)
    assert content(store.root) == before


def test_a_lost_record_only_means_that_the_cell_is_missing(store: Store) -> None:
    """A sweep killed between the two files of a cell leaves this."""
    before = content(store.root)
    victim = make_cells()[1].key
    (store.root / "cells" / f"{victim}.json").unlink()
    assert store.verify() == []
    assert sweep(make_cells(), store.root).computed == (victim,)
    assert content(store.root) == before


def test_swapped_files_are_noticed(store: Store) -> None:
    one, two = (store.root / "cells" / f"{cell.key}" for cell in make_cells(2))
    for suffix in (".json", ".parquet"):
        shutil.copy(one.with_suffix(suffix), store.root / "kept")
        shutil.copy(two.with_suffix(suffix), one.with_suffix(suffix))
        shutil.copy(store.root / "kept", two.with_suffix(suffix))
    problems = store.verify()
    assert {problem.key for problem in problems} == {one.name, two.name}
    assert all("belongs to another cell" in problem.reason for problem in problems)


def test_a_swapped_table_is_noticed(store: Store) -> None:
    one, two = (store.root / "cells" / f"{cell.key}.parquet" for cell in make_cells(2))
    shutil.copy(two, one)
    assert [problem.key for problem in store.verify()] == [one.stem]


def test_a_forged_record_is_noticed(store: Store) -> None:
    """Changed by hand, valid JSON, old hash."""
    path = store.root / "cells" / f"{make_cells()[0].key}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["record"]["mean"] += 0.01
    path.write_text(json.dumps(record), encoding="utf-8")
    assert "was altered" in store.verify()[0].reason


@pytest.mark.parametrize("spoil", [_truncate, _empty, _flip, _other_json, Path.unlink])
def test_a_torn_plan_is_restored_by_the_next_sweep(store: Store, spoil: Callable[[Path], None]) -> None:
    before = content(store.root)
    spoil(store.root / "plan.json")
    with pytest.raises(StoreError, match=r"plan\.json"):
        cell_states(store.root)
    assert not sweep(make_cells(), store.root).computed
    assert content(store.root) == before


@pytest.mark.parametrize("spoil", [_truncate, _empty, _flip, _other_json])
def test_a_torn_study_file_is_named_and_can_be_restored_as_told(
    store: Store, spoil: Callable[[Path], None]
) -> None:
    before = content(store.root)
    spoil(store.root / "study.json")
    with pytest.raises(StoreError, match=r"study\.json.*remove it and sweep again"):
        sweep(make_cells(), store.root)
    (store.root / "study.json").unlink()
    with pytest.raises(StoreError, match="holds another study"):
        sweep(make_cells(alpha=0.7), store.root)
    assert not sweep(make_cells(), store.root).computed
    assert content(store.root) == before


# --- other studies ----------------------------------------------------------------------------------------------


def test_a_store_of_another_study_names_the_option(store: Store) -> None:
    before = content(store.root)
    with pytest.raises(
        StoreError, match=r"differs in: options\.alpha is 0\.5 there and 0\.6 here.*Use another store"
    ):
        sweep(make_cells(alpha=0.6), store.root)
    with pytest.raises(StoreError, match=r"options\.beta is None there and 3 here"):
        sweep(make_cells(beta=3), store.root)
    assert content(store.root) == before


def test_cells_of_two_studies_do_not_share_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="2 studies; a store holds one"):
        sweep([*make_cells(1), *make_cells(1, alpha=0.6)], tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_study_can_grow(store: Store) -> None:
    outcome = sweep(make_cells(6), store.root)
    assert (len(outcome.computed), len(outcome.reused)) == (2, 4)
    assert len(cell_states(store.root)) == 6


def test_a_store_of_a_later_format_is_refused(store: Store) -> None:
    path = store.root / "study.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"format":1', '"format":9'), encoding="utf-8")
    with pytest.raises(StoreError, match="format 9, this version reads 1"):
        store.study()


@pytest.mark.parametrize("ask", [cell_states, lambda root: Store(root).study(), transferstats.read_grid])
def test_a_folder_that_is_no_store_is_refused(tmp_path: Path, ask: Callable[[Path], object]) -> None:
    with pytest.raises(StoreError, match="is not a transferstats store"):
        ask(tmp_path)


# --- writing ----------------------------------------------------------------------------------------------------


def test_nothing_that_is_not_a_number_is_kept(tmp_path: Path) -> None:
    """NaN or infinite losses are the cell's failure, told where, and leave nothing in the store."""
    store, cell = Store(tmp_path), make_cells(1)[0]
    table = run_cell(cell).table
    for bad in (np.nan, np.inf):
        table.loc[3, "kl"] = bad
        with pytest.raises(
            DataError, match=r"toy seed 0: 1 values of 'kl' are NaN or infinite; the first row is .*'u3'"
        ):
            store.write(cell, CellOutput(table, {}))
    with pytest.raises(DataError, match="a lens diverged"):
        store.write(cell, CellOutput(run_cell(cell).table, {"deep": [{"kl": float("inf")}]}))
    assert content(tmp_path) == {}


def test_stored_files_are_for_everybody_that_the_umask_allows(tmp_path: Path) -> None:
    """Temporary files are made for their owner only; a store is shared."""
    before = os.umask(0o022)
    try:
        sweep(make_cells(1), tmp_path / "store")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_leftovers_of_a_killed_write_are_removed_when_old(store: Store) -> None:
    old, young = store.root / "cells" / ".a.json.1.tmp", store.root / "cells" / ".b.json.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    past = time.time() - LEFTOVER_SECONDS - 1
    os.utime(old, (past, past))
    assert len(store.keys()) == 4
    sweep(make_cells(), store.root)
    assert not old.exists()
    assert young.exists()  # somebody may be writing it


FULL = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from toy_cells import make_cells
from transferstats.engine import Store, run_cell
from transferstats.errors import StoreError
cell = make_cells(1)[0]
output = run_cell(cell)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write past the limit fails like one on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    Store({root!r}).write(cell, output)
except StoreError as error:
    print("refused:", error)
"""


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_write_that_fails_leaves_the_old_file(store: Store) -> None:
    """The file may not grow beyond 1000 bytes: the write stops in the middle."""
    before = content(store.root)
    assert len(before[f"cells/{make_cells(1)[0].key}.parquet"]) > 1000
    out = _python(FULL.format(here=str(HERE), root=str(store.root)))
    assert out.startswith("refused: could not write")
    assert "sweep again, finished cells are kept" in out
    assert content(store.root) == before


def _fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb") as stream:
        while True:
            stream.write(b"x" * 4096)
            stream.flush()


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A file system of 64 kB; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system here; the test with a file size limit covers the same code")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_keeps_what_is_there_and_the_sweep_goes_on_later(small_disk: Path) -> None:
    root = small_disk / "store"
    first = make_cells(2)
    sweep(first, root)
    before = content(root)
    filler = small_disk / "filler"
    _fill(filler)
    with pytest.raises(
        StoreError, match="the disk is full: free some space and sweep again, finished cells are kept"
    ):
        sweep(make_cells(), root)
    after = content(root)
    assert {name: after[name] for name in before if name != "plan.json"} == {
        name: before[name] for name in before if name != "plan.json"
    }
    assert not list(root.rglob("*.tmp"))
    filler.unlink()
    assert len(sweep(make_cells(), root).computed) == 2
    assert Store(root).verify() == []


def test_a_read_only_store_is_read_and_not_written(store: Store) -> None:
    """As root, permissions stop nobody: a process without privileges tries."""
    code = f"""
    import os, sys
    sys.path.insert(0, {str(HERE)!r})
    from toy_cells import make_cells
    from transferstats.engine import Store, sweep
    from transferstats.errors import StoreError
    if os.getuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
    assert not sweep(make_cells(), {str(store.root)!r}).computed
    try:
        sweep(make_cells(5), {str(store.root)!r})
    except StoreError as error:
        print("refused:", error)
    """
    before = content(store.root)
    _open_up(store.root)
    for folder in (store.root, store.root / "cells"):
        folder.chmod(0o555)
    try:
        out = _python(code)
    finally:
        for folder in (store.root, store.root / "cells"):
            folder.chmod(0o755)
    assert out.startswith("refused: could not write")
    assert "check that the folder is writable" in out
    assert content(store.root) == before


def _open_up(path: Path) -> None:
    """Let other users reach a folder below pytest's private ones."""
    for parent in path.parents:
        if (
            parent.stat().st_uid == os.getuid()
            and parent.stat().st_mode & 0o777 == 0o700
            and "pytest" in str(parent)
        ):
            parent.chmod(0o711)

"""Run many cells: in this process, or on any ``concurrent.futures`` executor. Finished cells are reused."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import closing
from dataclasses import dataclass

from transferstats.engine.cell import Cell, CellOutput, Report, run_cell
from transferstats.engine.store import Store
from transferstats.errors import DataError, StoreError


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell that failed and why."""

    key: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class SweepReport:
    """Outcome of a sweep: keys computed, keys found finished, failures."""

    computed: tuple[str, ...]
    reused: tuple[str, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class CellStatus:
    """State of one cell of a study: "done" or "missing"."""

    key: str
    label: str
    state: str


Watch = Callable[[Cell, int, int], Report]
"""Asked for a progress reporter when a cell starts: (cell, its index, number of cells to compute)."""


Outcomes = Generator[tuple[Cell, CellOutput | Exception], None, None]


def cell_states(store: str | os.PathLike[str]) -> list[CellStatus]:
    """State of every planned cell of a store, without reading tables."""
    target = Store(store)
    done = set(target.keys())
    return [
        CellStatus(key, label, "done" if key in done else "missing") for key, label in target.planned().items()
    ]


def sweep(
    cells: Sequence[Cell],
    store: str | os.PathLike[str],
    *,
    executor: Executor | None = None,
    shard: tuple[int, int] | None = None,
    watch: Watch | None = None,
) -> SweepReport:
    """Compute the cells that the store lacks and keep each as soon as it is finished.

    Parameters
    ----------
    cells: cells of one study. store: folder of the store.
    executor: any ``concurrent.futures.Executor``; None computes in this process, with progress.
    shard: (i, n) computes only every n-th cell, for job arrays; i counts from 0.
    watch: makes a progress reporter for each cell; with an executor it must survive pickling.

    Returns
    -------
    What was computed, reused and failed. A failed cell does not stop the others; an interrupt does, and
    a second call computes the rest.

    Raises
    ------
    StoreError: the store belongs to another study, holds torn files, or cannot be written.
    """
    target = Store(store)
    target.claim(cells)
    chosen = list(cells) if shard is None else _shard(cells, shard)
    target.plan(cells)
    reused = [cell for cell in chosen if target.has(cell)]
    finished = {cell.key for cell in reused}
    todo = [cell for cell in chosen if cell.key not in finished]
    outcomes = _serial(todo, watch) if executor is None else _submitted(todo, executor, watch)
    computed, failures = [], []
    with closing(outcomes):
        for cell, outcome in outcomes:
            problem = _keep(target, cell, outcome) if isinstance(outcome, CellOutput) else outcome
            if problem is None:
                computed.append(cell.key)
            else:
                failures.append(Failure(cell.key, cell.label, f"{type(problem).__name__}: {problem}"))
    target.plan(cells)  # a sweep that began at the same time may have replaced the plan by its own
    return SweepReport(tuple(computed), tuple(cell.key for cell in reused), tuple(failures))


def _keep(store: Store, cell: Cell, output: CellOutput) -> DataError | None:
    """Write a finished cell; numbers that cannot be kept are the cell's failure, a full disk is the sweep's."""
    try:
        store.write(cell, output)
    except DataError as error:
        return error
    return None


def _shard(cells: Sequence[Cell], shard: tuple[int, int]) -> list[Cell]:
    index, count = shard
    if not 0 <= index < count:
        raise StoreError(f"shard {index}/{count}: the first number counts from 0 and must be below the second")
    return list(cells)[index::count]


def _serial(todo: Sequence[Cell], watch: Watch | None) -> Outcomes:
    for index, cell in enumerate(todo):
        try:
            yield cell, run_cell(cell, watch(cell, index, len(todo)) if watch else None)
        except Exception as error:  # whatever stops this cell, the others go on
            yield cell, error


def _submitted(todo: Sequence[Cell], executor: Executor, watch: Watch | None) -> Outcomes:
    futures: dict[Future[CellOutput], Cell] = {
        executor.submit(run_cell, cell, watch(cell, index, len(todo)) if watch else None): cell
        for index, cell in enumerate(todo)
    }
    try:
        for future in as_completed(futures):
            cell = futures.pop(future)  # so that a finished table is held no longer than needed
            yield cell, _outcome(future)
    finally:
        for future in futures:
            future.cancel()


def _outcome(future: Future[CellOutput]) -> CellOutput | Exception:
    try:
        return future.result()
    except Exception as error:  # a worker may die in any way; the other cells go on
        return error

"""Run many cells: in this process, or on any ``concurrent.futures`` executor. Finished cells are reused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass

from transferstats.engine.cell import Cell, CellOutput, Report, run_cell
from transferstats.engine.store import Store
from transferstats.errors import StoreError, TransferstatsError


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
    for cell, outcome in outcomes:
        if isinstance(outcome, CellOutput):
            target.write(cell, outcome)
            computed.append(cell.key)
        else:
            failures.append(Failure(cell.key, cell.label, f"{type(outcome).__name__}: {outcome}"))
    return SweepReport(tuple(computed), tuple(cell.key for cell in reused), tuple(failures))


def _shard(cells: Sequence[Cell], shard: tuple[int, int]) -> list[Cell]:
    index, count = shard
    if not 0 <= index < count:
        raise StoreError(f"shard {index}/{count}: the first number counts from 0 and must be below the second")
    return list(cells)[index::count]


def _serial(todo: Sequence[Cell], watch: Watch | None) -> Iterator[tuple[Cell, CellOutput | Exception]]:
    for index, cell in enumerate(todo):
        try:
            yield cell, run_cell(cell, watch(cell, index, len(todo)) if watch else None)
        except TransferstatsError as error:
            yield cell, error


def _submitted(
    todo: Sequence[Cell], executor: Executor, watch: Watch | None
) -> Iterator[tuple[Cell, CellOutput | Exception]]:
    futures: dict[Future[CellOutput], Cell] = {
        executor.submit(run_cell, cell, watch(cell, index, len(todo)) if watch else None): cell
        for index, cell in enumerate(todo)
    }
    for future in as_completed(futures):
        try:
            yield futures[future], future.result()
        except Exception as error:  # a worker may die in any way; the other cells go on
            yield futures[future], error

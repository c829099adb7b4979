"""Run many cells: in this process, or on any ``concurrent.futures`` executor. Finished cells are reused."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, as_completed
from contextlib import closing
from dataclasses import dataclass

from transferstats.engine.allocator import reuse_freed_memory
from transferstats.engine.cell import Cell, CellOutput, Report, run_cell
from transferstats.engine.journal import Claim, forget_failure, live_notes, read_failures, record_failure
from transferstats.engine.store import Store
from transferstats.errors import DataError, EngineError, StoreError
from transferstats.provenance import library_versions


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStatus:
    """State of one cell of a study.

    Attributes
    ----------
    state: "done"; "running" or "waiting" in a sweep that is at work now; "failed" when it was last computed; or
        "missing". detail: which sweep, or why it failed.
    """

    key: str
    label: str
    state: str
    detail: str = ""


Watch = Callable[[Cell, int, int], Report]
"""Asked for a progress reporter when a cell starts: (cell, its index, number of cells to compute)."""


Outcomes = Generator[tuple[Cell, CellOutput | Exception], None, None]


def cell_states(store: str | os.PathLike[str]) -> list[CellStatus]:
    """State of every planned cell of a store, without reading tables."""
    target = Store(store)
    planned = target.planned()
    states = dict.fromkeys(planned, ("missing", ""))
    states.update({key: ("failed", reason) for key, reason in read_failures(target.root).items()})
    for note in live_notes(target.root):
        states.update({key: (state, note.who) for key, state in note.cells.items()})
    states.update(dict.fromkeys(target.keys(), ("done", "")))
    return [
        CellStatus(key=key, label=label, state=state, detail=detail)
        for (key, label), (state, detail) in ((one, states[one[0]]) for one in planned.items())
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
    EngineError: the executor went away, such as a cluster whose scheduler died.
    """
    target = Store(store)
    target.claim(cells)
    chosen = list(cells) if shard is None else _shard(cells, shard)
    target.plan(cells)
    reused = [cell for cell in chosen if target.has(cell)]
    finished = {cell.key for cell in reused}
    todo = [cell for cell in chosen if cell.key not in finished]
    for cell in reused:
        forget_failure(target.root, cell.key)
    computed, failures = [], []
    with Claim(target.root, [cell.key for cell in todo]) as claim:
        outcomes = _serial(todo, watch, claim) if executor is None else _submitted(todo, executor, watch, claim)
        with closing(outcomes):
            for cell, outcome in outcomes:
                failure = _settle(target, cell, outcome)
                claim.finish(cell.key)
                if failure is None:
                    computed.append(cell.key)
                else:
                    failures.append(failure)
    target.plan(cells)  # a sweep that began at the same time may have replaced the plan by its own
    return SweepReport(tuple(computed), tuple(cell.key for cell in reused), tuple(failures))


def _settle(store: Store, cell: Cell, outcome: CellOutput | Exception) -> Failure | None:
    """Keep a finished cell, or why it failed; numbers that cannot be kept are the cell's failure."""
    problem = _keep(store, cell, outcome) if isinstance(outcome, CellOutput) else outcome
    if problem is None:
        forget_failure(store.root, cell.key)
        return None
    failure = Failure(cell.key, cell.label, f"{type(problem).__name__}: {problem}")
    trace = "".join(traceback.format_exception(problem))
    record_failure(store.root, cell.key, cell.label, failure.reason, trace)
    return failure


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


def _serial(todo: Sequence[Cell], watch: Watch | None, claim: Claim) -> Outcomes:
    for index, cell in enumerate(todo):
        claim.follow(cell.key, lambda: True)
        try:
            yield cell, run_cell(cell, watch(cell, index, len(todo)) if watch else None)
        except Exception as error:  # whatever stops this cell, the others go on
            yield cell, error


def _submitted(todo: Sequence[Cell], executor: Executor, watch: Watch | None, claim: Claim) -> Outcomes:
    versions = library_versions()
    futures: dict[Future[CellOutput], Cell] = {}
    try:
        for index, cell in enumerate(todo):
            report = watch(cell, index, len(todo)) if watch else None
            future = executor.submit(run_elsewhere, cell, report, versions)
            futures[future] = cell
            claim.follow(cell.key, future.running)
        for future in as_completed(futures):
            cell = futures.pop(future)  # so that a finished table is held no longer than needed
            yield cell, _outcome(future)
    finally:
        for future in futures:
            future.cancel()


def run_elsewhere(cell: Cell, report: Report | None, versions: Mapping[str, str]) -> CellOutput:
    """Run a cell in a worker, which must have the libraries whose versions the store will record.

    Raises
    ------
    EngineError: this worker has others; they are named.
    """
    here = library_versions()
    others = [
        f"{name} {here.get(name, 'is missing')} instead of {versions.get(name, 'none')}"
        for name in sorted({*here, *versions})
        if here.get(name) != versions.get(name)
    ]
    if others:
        raise EngineError(
            f"this worker has {', '.join(others)}: its numbers would be recorded under wrong versions; install "
            "the same on every worker"
        )
    reuse_freed_memory()
    return run_cell(cell, report)


def _outcome(future: Future[CellOutput]) -> CellOutput | Exception:
    try:
        return future.result()
    except CancelledError as error:  # only a lost executor cancels what the sweep still waits for
        raise EngineError(
            "the workers are gone (the scheduler died or the connection to it was lost); finished cells are kept: "
            "start them again and run the same sweep"
        ) from error
    except Exception as error:  # a worker may die in any way; the other cells go on
        return error

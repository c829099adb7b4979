"""Cells, their store, and running many of them on any executor. Knows no torch and no statistics."""

from transferstats.engine.cell import Cell, CellOutput, Report, run_cell
from transferstats.engine.pool import QueueReport, Sink, local_manager, local_pool
from transferstats.engine.run import CellStatus, Failure, SweepReport, cell_states, sweep
from transferstats.engine.store import Problem, Store, StoredCell

__all__ = [
    "Cell",
    "CellOutput",
    "CellStatus",
    "Failure",
    "Problem",
    "QueueReport",
    "Report",
    "Sink",
    "Store",
    "StoredCell",
    "SweepReport",
    "cell_states",
    "local_manager",
    "local_pool",
    "run_cell",
    "sweep",
]

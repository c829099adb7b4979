"""Progress of a sweep on the terminal: cells done, ETA, stage and rate of every running cell."""

from __future__ import annotations

import sys
import threading
import time
from queue import Queue
from types import TracebackType
from typing import Any

from tqdm import tqdm

from transferstats.engine import Cell, QueueReport, Report, Sink

STAGE_SHARE = {"states": (0.0, 0.1), "shared": (0.1, 0.3), "kl": (0.3, 0.8), "transfer": (0.8, 1.0)}
"""Where a cell stands, as shares of its time, when a stage begins and ends; only the ETA depends on it."""


class SweepProgress:
    """One bar over all cells; make it before a sweep, pass ``watch``, close it after.

    Parameters
    ----------
    queue: carries the workers' reports; a plain ``queue.Queue`` for a sweep in this process.
    total: cells to compute.

    Attributes
    ----------
    sink: where reporters put what ``queue`` gives: the queue itself, unless a cluster brings its own way.
    """

    def __init__(self, queue: Queue[Any], total: int) -> None:
        self.queue = queue
        self.sink: Sink = queue
        interactive = sys.stderr.isatty()
        self.bar = tqdm(
            total=total,
            unit="cell",
            desc="sweep",
            bar_format="{desc} {n:.1f}/{total:.0f} cells [{elapsed}<{remaining}] {postfix}",
            mininterval=0.2 if interactive else 10.0,
            file=sys.stderr,
        )
        self._share: dict[str, float] = {}
        self._work: dict[tuple[str, str], tuple[int, float]] = {}
        self._text: dict[str, str] = {}
        self._thread = threading.Thread(target=self._drain, daemon=True)

    def __enter__(self) -> SweepProgress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.queue.put(None)
        self._thread.join(timeout=2)
        self.bar.close()

    def watch(self, cell: Cell, _index: int, _count: int) -> Report:
        """The reporter of one cell, for ``sweep(watch=...)``."""
        return QueueReport(self.sink, cell.label or cell.key[:8])

    def _drain(self) -> None:
        while (message := self.queue.get()) is not None:
            self._update(*message)

    def _update(self, label: str, stage: str, done: int, total: int) -> None:
        first, last = STAGE_SHARE.get(stage, (0.0, 0.0))
        # The first report of a stage starts its clock, so that work done before it does not inflate the rate.
        work, started = self._work.setdefault((label, stage), (-done, time.monotonic()))
        work += done
        self._work[label, stage] = (work, started)
        share = first + (last - first) * min(1.0, work / total if total else 0.0)
        self._share[label] = max(share, self._share.get(label, 0.0))
        rate = work / max(1e-3, time.monotonic() - started)
        self._text = {name: text for name, text in self._text.items() if self._share.get(name, 0.0) < 0.98}
        self._text[label] = f"{label}: {stage} {rate / 1000:.1f}k tokens/s" if rate > 1 else f"{label}: {stage}"
        self.bar.n = min(float(self.bar.total), sum(self._share.values()))
        self.bar.set_postfix_str("; ".join(list(self._text.values())[-4:]), refresh=False)
        self.bar.update(0)

"""Worker processes on this machine that die with their parent, and progress that crosses process borders."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.managers import SyncManager
from typing import Any, Protocol

SECONDS_BETWEEN_REPORTS = 0.25


def local_pool(jobs: int) -> ProcessPoolExecutor:
    """A pool of ``jobs`` processes. They are spawned, because forked processes inherit broken thread pools."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_prepare_worker)


def local_manager() -> SyncManager:
    """A started manager, whose queues carry progress between processes; it too dies with its parent."""
    manager = SyncManager(ctx=multiprocessing.get_context("spawn"))
    manager.start(_watch_parent)
    return manager


def _prepare_worker() -> None:
    # Ctrl-C ends a worker at once and silently; what it was computing is computed again by the next sweep. A sweep
    # in the background of a shell script ignores Ctrl-C, and so must its workers.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _watch_parent()


def _watch_parent() -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Workers and managers wait for work for ever when their parent was killed; this ends them instead."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Sink(Protocol):
    """Takes messages: a queue, or the way from a cluster's worker to its client."""

    def put(self, message: Any, /) -> Any:
        """Take one."""


@dataclass(slots=True)
class QueueReport:
    """A progress reporter that can be sent to a worker: puts (label, stage, done, total) on a queue."""

    queue: Sink
    label: str
    _pending: dict[str, int] = field(default_factory=dict)
    _sent: float = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Add ``done`` units of work; sent at most a few times a second."""
        self._pending[stage] = self._pending.get(stage, 0) + done
        now = time.monotonic()
        if now - self._sent >= SECONDS_BETWEEN_REPORTS:
            self.queue.put((self.label, stage, self._pending.pop(stage), total))
            self._sent = now

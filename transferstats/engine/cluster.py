"""Cells on a Dask cluster: an executor whose futures know when a cell has begun, and progress from its workers.

Needs the extra ``cluster``; nothing imports this module before a cluster is asked for.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transferstats.errors import DependencyError, EngineError

try:
    from distributed import Client, get_worker
except ModuleNotFoundError as missing:
    raise DependencyError("a cluster needs Dask: pip install 'transferstats[cluster]'") from missing

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer: when a sweep begins, and after its connection was lost."""

GPU = "GPU"
"""Resource of which every worker with an accelerator offers 1."""

Receive = Callable[[Any], None]
"""Takes a message that a worker has put into a :class:`TopicSink`."""


@dataclass(frozen=True, slots=True)
class TopicSink:
    """Takes messages in a worker and sends them to the client that listens to ``topic``; it travels with cells."""

    topic: str

    def put(self, message: Any) -> None:
        """Send and go on: a worker never waits for those who only watch it."""
        get_worker().log_event(self.topic, {"message": message})


class ClusterExecutor(Executor):
    """``Client.get_executor()`` with futures that know whether their task has begun.

    Parameters
    ----------
    client: connected. receive: takes what workers put into ``sink``. options: of ``Client.get_executor``.
    """

    def __init__(self, client: Client, receive: Receive, **options: Any) -> None:
        # Not pure: a cell that failed in another client's sweep must be computed, not looked up.
        self._executor = client.get_executor(pure=False, **options)
        self._receive = receive
        self._begun: set[str] = set()
        self.sink = TopicSink(f"transferstats-{secrets.token_hex(8)}")
        client.subscribe_topic(self.sink.topic, self._handle)

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Submit a call; ``options`` are arguments of the function."""
        token = secrets.token_hex(8)
        future: Future[Any] = self._executor.submit(_say_and_run, self.sink, token, function, arguments, options)
        # Dask leaves a future pending until its task is over; whether it runs is known only here.
        future.running = lambda: token in self._begun  # type: ignore[method-assign]
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End; without ``wait``, tasks that have not finished are cancelled."""
        self._executor.shutdown(wait=wait and not cancel_futures)

    def _handle(self, event: tuple[Any, Mapping[str, Any]]) -> None:
        _, content = event
        if "begun" in content:
            self._begun.add(content["begun"])
        else:
            self._receive(content["message"])


def _say_and_run(
    sink: TopicSink,
    token: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: Mapping[str, Any],
) -> Any:
    """What a worker runs: tells the client that it has begun, and begins."""
    get_worker().log_event(sink.topic, {"begun": token})
    return function(*arguments, **options)


@contextmanager
def open_cluster(address: str, receive: Receive, *, gpu: bool = False) -> Iterator[ClusterExecutor]:
    """An executor on the workers of a Dask scheduler.

    Parameters
    ----------
    address: of the scheduler, such as ``tcp://host:8786``. receive: takes progress reports of workers.
    gpu: cells go to workers that were started with ``--resources GPU=1``, one at a time to each.

    Raises
    ------
    EngineError: nobody answers at this address, or workers would run several cells in one process.
    """
    logger = logging.getLogger("distributed")
    level = logger.level
    # A lost scheduler is told by the sweep, in words that say what to do; Dask would add its own tracebacks.
    logger.setLevel(logging.CRITICAL)
    try:
        with _connect(address) as client:
            _check_workers(client)
            executor = ClusterExecutor(client, receive, **({"resources": {GPU: 1}} if gpu else {}))
            try:
                yield executor
            finally:
                executor.shutdown(wait=False)
    finally:
        logger.setLevel(level)


def _connect(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EngineError(
            f"no Dask scheduler answers at {address} ({error}): start one with 'dask scheduler', and workers with "
            "'dask worker ADDRESS --nthreads 1'"
        ) from error


def _check_workers(client: Client) -> None:
    """Cells set the number of torch threads of their process, so each needs a process of its own."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    crowded = [name for name, worker in workers.items() if worker["nthreads"] > 1]
    if crowded:
        raise EngineError(
            f"{len(crowded)} workers run several cells in one process ({crowded[0]}, ...): start workers with "
            "--nthreads 1, and as many of them as cells side by side"
        )

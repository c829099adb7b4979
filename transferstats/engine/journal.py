"""What a store knows beside its finished cells: which sweeps are at work on which cells, and why cells failed.

Notes of running sweeps lie in ``sweeps``, reasons of failures in ``failures``. Neither is part of the study: a
note goes when its sweep ends, or when it is found dead; a reason goes when its cell is finished. So a store that
was disturbed ends with the bytes of one that was not.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from transferstats.engine.store import write_atomically
from transferstats.errors import StoreError
from transferstats.provenance import canonical_json

BEAT_SECONDS = 2.0
SILENT_SECONDS = 120.0
"""A sweep of another host that has not touched its note for so long is dead. On this host its process is asked."""

RUNNING, WAITING = "running", "waiting"


@dataclass(frozen=True, slots=True)
class Note:
    """A live sweep's note: its host and process, and whether each of its cells is running or waiting."""

    host: str
    process: int
    cells: Mapping[str, str]

    @property
    def who(self) -> str:
        """For people."""
        return f"process {self.process} on {self.host}"


class Claim:
    """Says which cells a sweep has taken on, for as long as it lives; a context manager.

    Parameters
    ----------
    root: folder of the store. keys: cells to compute; without any, nothing is written.
    """

    def __init__(self, root: Path, keys: Iterable[str]) -> None:
        name = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}.json"
        self._root, self._path = root, root / "sweeps" / name
        self._begun: dict[str, Callable[[], bool]] = dict.fromkeys(keys, _not_yet)
        self._lock = threading.Lock()
        self._written: dict[str, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claim:
        remove_dead_notes(self._root)
        if self._begun:
            self._write()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def follow(self, key: str, begun: Callable[[], bool]) -> None:
        """Learn how to ask whether a cell has begun."""
        with self._lock:
            self._begun[key] = begun

    def finish(self, key: str) -> None:
        """A cell is no longer this sweep's."""
        with self._lock:
            self._begun.pop(key, None)

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            # A full disk is told by the next cell that is written; a note alone stops nothing.
            with contextlib.suppress(OSError):
                if self._states() == self._written and self._path.exists():
                    os.utime(self._path)
                else:
                    self._write()

    def _states(self) -> dict[str, str]:
        with self._lock:
            return {key: RUNNING if begun() else WAITING for key, begun in self._begun.items()}

    def _write(self) -> None:
        states = self._states()
        born = _born(os.getpid())
        content = {"host": socket.gethostname(), "process": os.getpid(), "born": born, "cells": states}
        write_atomically(self._path, canonical_json(content).encode())
        self._written = states


def _not_yet() -> bool:
    return False


def live_notes(root: Path) -> list[Note]:
    """Notes of the sweeps that are at work on a store."""
    return [note for path in _notes(root) if (note := _read_note(path)) is not None]


def remove_dead_notes(root: Path) -> None:
    """Remove the notes of sweeps that were killed."""
    for path in _notes(root):
        if _read_note(path) is None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _notes(root: Path) -> list[Path]:
    return sorted((root / "sweeps").glob("*.json"))


def _read_note(path: Path) -> Note | None:
    """The note of a live sweep; None where the sweep is dead, or the note torn."""
    try:
        silent = time.time() - path.stat().st_mtime
        content = json.loads(path.read_text(encoding="utf-8"))
        note = Note(str(content["host"]), int(content["process"]), dict(content["cells"]))
        born = content["born"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if note.host == socket.gethostname():
        return note if _alive(note.process, born) else None
    return note if silent < SILENT_SECONDS else None


def _alive(process: int, born: str) -> bool:
    """Whether this very process lives; its number may have been given to another since."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's process
    return _born(process) == born


def _born(process: int) -> str:
    """When a process started, in the kernel's words; nothing where there is no /proc."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return text.rsplit(")", 1)[1].split()[19]


def record_failure(root: Path, key: str, label: str, reason: str, trace: str) -> None:
    """Keep why a cell failed, until it is finished."""
    content: dict[str, Any] = {"label": label, "reason": reason, "traceback": trace}
    write_atomically(_failure_path(root, key), (canonical_json(content) + "\n").encode())


def forget_failure(root: Path, key: str) -> None:
    """The cell is finished: its failure is history."""
    path = _failure_path(root, key)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"could not remove {path}: {error.strerror}; check that the folder is writable"
        ) from error


def read_failures(root: Path) -> dict[str, str]:
    """Key -> reason of every cell that failed when it was last computed."""
    found = {}
    for path in sorted((root / "failures").glob("*.json")):
        try:
            found[path.stem] = str(json.loads(path.read_text(encoding="utf-8"))["reason"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            found[path.stem] = f"its reason cannot be read from {path.name} ({error!r})"
    return found


def _failure_path(root: Path, key: str) -> Path:
    return root / "failures" / f"{key}.json"

"""Sweeps and workers in processes of their own: start them, watch them, see what they leave."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

TOYS = Path(__file__).parent / "engine"  # where toy_cells lies
PATIENCE = 90.0  # seconds until a test gives up waiting; nothing depends on how long it really took


def content(root: Path) -> dict[str, bytes]:
    """Every file of a store but what a killed write may have left behind, and its bytes."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


SWEEP = """
import sys
sys.path.insert(0, {here!r})
from dataclasses import replace
from transferstats.engine import local_pool, sweep
from toy_cells import make_cells

if __name__ == "__main__":
    print("begins", flush=True)
    cells = [replace(cell, location={{"do": {do!r}}}) for cell in make_cells({count})[{part}]]
    if {jobs}:
        with local_pool({jobs}) as pool:
            outcome = sweep(cells, {root!r}, executor=pool)
    else:
        outcome = sweep(cells, {root!r})
    print(len(outcome.computed), len(outcome.reused), len(outcome.failures))
"""


def start(
    folder: Path, root: Path, *, count: int = 8, part: str = ":", jobs: int = 0, do: str = ""
) -> subprocess.Popen:
    """A sweep in a process of its own, in its own process group."""
    script = folder / f"sweep_{len(list(folder.glob('*.py')))}.py"
    script.write_text(
        textwrap.dedent(SWEEP).format(here=str(TOYS), root=str(root), count=count, part=part, jobs=jobs, do=do),
        encoding="utf-8",
    )
    return subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "gave up waiting"
        time.sleep(0.02)


def running(folder: Path) -> list[int]:
    """Process ids of the workers that have begun a cell."""
    return sorted({int(path.name.split()[1]) for path in folder.glob("running *")})


def alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(process: int) -> set[int]:
    """Process ids of what a process has started."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return set()
    return {int(child) for child in text.split()}

"""What the pages about speed share: where they are written, tables, and the machine that gave the figures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

OUT = Path(__file__).resolve().parents[2] / "reports" / "speed"
QUICK_OUT = Path("runs/speed_quick")


def out_folder(quick: bool) -> Path:
    """Where a page is written: what was measured quickly does not replace a report."""
    out = QUICK_OUT if quick else OUT
    out.mkdir(parents=True, exist_ok=True)
    return out


def table(frame: pd.DataFrame, digits: int = 4) -> str:
    """A Markdown table; floats with this many significant digits."""

    def spell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.{digits}g}"
        return str(value)

    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(spell(value) for value in row) + " |" for row in frame.itertuples(index=False)]
    return "\n".join(lines)


def filled(*paragraphs: str) -> str:
    """Paragraphs of lines of one length."""
    return "\n\n".join(textwrap.fill(" ".join(one.split()), 115) for one in paragraphs)


def machine_text(libraries: Sequence[str], threads: int, device: str = "cpu") -> str:
    """Versions, processor, cores, load and device."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transferstats", *libraries))
    return (
        f"{versions}, Python {platform.python_version()}; {_processor()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} at the end; {threads} thread(s), device {device}."
    )


def _processor() -> str:
    """Its name where the kernel tells it (Linux), else its architecture."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

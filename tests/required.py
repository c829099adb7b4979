"""What tests run for real and may lack: absent, a test skips with the reason, or fails in the full run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

REQUIRE_ALL = "TRANSFERSTATS_REQUIRE_ALL"


def program(*names: str) -> str:
    """Path of the first of these programs that is installed."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        _absent(f"{names[0]} is not installed")
    return str(found)


def module(name: str) -> None:
    """A Python package that only an extra brings."""
    if importlib.util.find_spec(name) is None:
        _absent(f"the Python package {name} is not installed")


def file(path: Path, bringer: str) -> None:
    """A file that ``bringer`` installs."""
    if not path.exists():
        _absent(f"{bringer} is not installed")


def latex_package(name: str) -> None:
    """A style that pdflatex must find."""
    if not _answers(program("kpsewhich"), f"{name}.sty"):
        _absent(f"the LaTeX package {name} is not installed")


def r_packages(*names: str) -> str:
    """Path of Rscript, once these R packages are installed."""
    rscript = program("Rscript")
    for name in names:
        if not _answers(rscript, "-e", f"if (!requireNamespace('{name}', quietly = TRUE)) quit(status = 1)"):
            _absent(f"the R package {name} is not installed")
    return rscript


@cache
def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _absent(reason: str) -> None:
    if os.environ.get(REQUIRE_ALL) == "1":
        pytest.fail(f"{REQUIRE_ALL}=1, but {reason}")
    pytest.skip(reason)

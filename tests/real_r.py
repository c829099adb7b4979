"""R in a process of its own: warnings are errors, and the ``transferstats`` command is that of these tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import required

import transferstats

STRICT = "options(warn = 2)\n"


def run_r(
    script: str | Path, *arguments: object, folder: Path, changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script (its text or its path) in a folder; ``changes`` are to the environment."""
    if isinstance(script, str):
        path = folder / "script.R"
        path.write_text(script, encoding="utf-8")
    else:
        path = script
    profile = folder / "strict.Rprofile"
    profile.write_text(STRICT, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "RETICULATE_PYTHON"}
    environment |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(Path(transferstats.__file__).parents[1]),
        "R_PROFILE_USER": str(profile),
        "LC_ALL": "C.UTF-8",
        **(changes or {}),
    }
    return subprocess.run(
        [required.r_packages(), str(path), *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def library_without(folder: Path, *names: str) -> dict[str, str]:
    """The environment of an R that has every package of this one but some."""
    listed = subprocess.run(
        [required.r_packages(), "-e", "cat(.libPaths(), sep = '\\n')"], capture_output=True, text=True, check=True
    )
    library = folder / "library"
    library.mkdir()
    for installed in (package for path in listed.stdout.splitlines() for package in Path(path).iterdir()):
        link = library / installed.name
        if installed.name not in names and not link.exists():
            link.symlink_to(installed)
    return {"R_LIBS_SITE": str(library), "R_LIBS_USER": str(library), "R_LIBS": ""}

"""The job array of ``analyses/cluster``: its tasks together compute a study, whatever their order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from transferstats.engine import Store, cell_states

SCRIPT = Path(__file__).parents[2] / "analyses" / "cluster" / "sweep.sbatch"
SIZE = ("--seeds", "2", "--null-replicates", "0", "--units", "16", "--unit-tokens", "48", "--max-steps", "1")
STUDY = (*SIZE, "--recipe", "belrose2023")  # one set of lenses, so that cells are short


def task(index: int, count: int, *options: str, first: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the script as SLURM runs one task of an array."""
    slurm = {"TASK_ID": index, "TASK_COUNT": count, "TASK_MIN": first}
    return subprocess.run(
        ["bash", str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **{f"SLURM_ARRAY_{name}": str(value) for name, value in slurm.items()},
        },
    )


def test_the_tasks_of_an_array_share_a_study(document_files: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    options = ("--dataset", str(document_files[0]), "--store", str(store), *STUDY)
    done = task(1, 2, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 cells computed, 0 reused")
    assert [one.state for one in cell_states(store)] == ["missing", "done"]
    assert task(0, 2, *options).returncode == 0
    assert [one.state for one in cell_states(store)] == ["done", "done"]
    assert Store(store).verify() == []


def test_an_array_that_does_not_start_at_0_is_refused() -> None:
    done = task(1, 2, first=1)
    assert done.returncode == 2
    assert "shards count from 0" in done.stderr

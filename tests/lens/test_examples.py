"""Subjects whose answer is known, as cells that anybody can sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import transferstats as ts
from transferstats.cli import main
from transferstats.errors import DesignError

QUICK = ts.FitPlan(max_steps=16, settle=16, batch=64, beside=None, curve=())
SMALL = ts.EvaluationPlan(units=12, tokens=24)


def test_a_known_subject_is_swept_and_read_like_any_other(tmp_path: Path) -> None:
    cells = ts.known_truth_cells("pipeline", np.inf, seeds=2, null_replicates=0, fit=QUICK, evaluation=SMALL)
    assert not ts.sweep(cells, tmp_path / "store").failures
    grid = ts.read_grid(tmp_path / "store")
    assert grid.subject == "pipeline inf"
    # Every layer has its own rotation, so a lens is useless elsewhere: nats, whatever the lenses' training.
    assert float(ts.estimate(grid, "mean").headline.conf_low) > 1


def test_one_subject_for_all_cells_of_a_study_and_another_for_another_seed() -> None:
    first, second, other = (
        {cell.config["subject"]["fingerprint"] for cell in ts.known_truth_cells(kind, seeds=3, rng=rng)}
        for kind, rng in (("trap", 0), ("trap", 0), ("trap", 1))
    )
    assert first == second
    assert len(first) == 1
    assert first != other


def test_the_command_line_knows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ["--store", str(tmp_path / "store")]
    size = ["--seeds", "2", "--null-replicates", "0", "--units", "12", "--unit-tokens", "24", "--max-steps", "16"]
    assert main(["sweep", "--subject", "known:pipeline:0.1", *size, *store, "--jobs", "1"]) == 0
    assert ts.read_grid(tmp_path / "store").subject == "pipeline 0.1"
    assert main(["sweep", "--subject", "known:trap", "--dataset", "kjv", *size, *store]) != 0
    assert "leave --dataset out" in capsys.readouterr().err
    assert main(["sweep", "--subject", "known:pipeline:x", *size, *store]) != 0
    assert "angle in radians" in capsys.readouterr().err


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(DesignError, match="unknown kind 'straight'"):
        ts.known_truth_cells("straight")
    with pytest.raises(DesignError, match="at least 2 seeds"):
        ts.known_truth_cells("trap", seeds=1)

"""What the package says about the coverage of its bootstrap kinds is what the committed study measured."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from stats_data import make_losses

from transferstats.stats.bootstrap import KINDS, Bootstrap, bootstrap_estimate
from transferstats.stats.quantiles import measured_coverage

STUDY = Path(__file__).parents[2] / "reports" / "validation"


@pytest.fixture(scope="module")
def study() -> pd.DataFrame:
    frame = pd.read_csv(STUDY / "coverage.csv")
    return frame[(frame["study"] == "bootstrap") & (frame["regime"] == "seed") & (frame["target"] == "mean")]


def test_quoted_figures_are_the_committed_ones(study: pd.DataFrame) -> None:
    with files("transferstats.stats").joinpath("bootstrap_coverage.csv").open(encoding="utf-8") as file:
        quoted = pd.read_csv(file).set_index(["kind", "n_seeds"])["coverage"]
    measured = study[study["method"].str.startswith("bootstrap ")]
    measured = measured.assign(kind=measured["method"].str.removeprefix("bootstrap "))
    measured = measured.set_index(["kind", "n_seeds"])["coverage"]
    assert set(quoted.index) == set(measured.index)
    assert {kind for kind, _ in quoted.index} == set(KINDS)
    np.testing.assert_allclose(quoted, measured.loc[quoted.index], atol=5e-5)


def test_every_promise_of_the_committed_study_is_kept() -> None:
    checks = pd.read_csv(STUDY / "checks.csv")
    assert len(checks) >= 30
    assert checks["holds"].all(), checks.loc[~checks["holds"], "name"].tolist()


def test_notes_quote_the_nearest_smaller_study() -> None:
    assert measured_coverage("percentile", 4) == measured_coverage("percentile", 3)
    assert "with 3 seeds" in measured_coverage("percentile", 4)
    assert "with 10 seeds" in measured_coverage("percentile", 50)
    assert measured_coverage("percentile", 1) == ""
    percentile = bootstrap_estimate(make_losses(3), "mean", Bootstrap(200, "percentile", rng=0))
    two_term = bootstrap_estimate(make_losses(3), "mean", Bootstrap(200, rng=0))
    assert "% of simulated studies with 3 seeds that dominate" in percentile.note
    assert "simulated studies" not in two_term.note

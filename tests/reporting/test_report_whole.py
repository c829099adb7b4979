"""From simulated losses through evaluate to the folder: what the page shows belongs together."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from transferstats.evidence import evaluate
from transferstats.reporting.documents import report_files
from transferstats.results import Evidence
from transferstats.simulation import simulate_grid, true_penalty


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    grid = simulate_grid(true_penalty(5), n_seeds=5, n_units=30, n_null=5, datasets=("a",), rng=4).grid
    return evaluate(grid, 0.05)


@pytest.fixture(scope="module")
def files(evidence: Evidence) -> Mapping[str, bytes]:
    return report_files(evidence)


def column(files: Mapping[str, bytes], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return pd.read_csv(io.BytesIO(files[f"tables/figure-{name}.csv"]))["estimate"].to_numpy()


def test_observed_is_null_plus_excess(files: Mapping[str, bytes]) -> None:
    observed, null, excess = (column(files, f"{kind}-matrix-1-a") for kind in ("penalty", "null", "excess"))
    assert np.allclose(observed, null + excess, rtol=0, atol=1e-10)


def test_every_verdict_reaches_the_page(evidence: Evidence, files: Mapping[str, bytes]) -> None:
    page = files["index.html"].decode()
    for claim in evidence.claims:
        assert claim.title in page
        assert f'class="chip {claim.verdict.replace(" ", "-")}"' in page


def test_the_slope_of_the_summary_is_per_layer(files: Mapping[str, bytes]) -> None:
    assert b"nats/token per layer" in files["numbers.tex"]

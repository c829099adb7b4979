"""What a report says of the data behind its lenses: learning curves, the null's own null, certificates."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import transferstats as ts
from transferstats.grid import TransferGrid
from transferstats.reporting.content import content
from transferstats.results import Evidence

ROWS = {"1/4": 240.0, "1/2": 480.0}


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    """A simulated study with lenses of parts of each fold, of a second anchor, and certificates."""
    base = ts.simulate_grid(n_seeds=3, n_units=20, n_null=3, rng=4).grid
    data = replace(base.datasets[0], training_rows=(960.0,) * 3)
    parts = {
        name: replace(
            data,
            null=None,
            training_rows=(rows,) * 3,
            losses={loss: 1.2 * values for loss, values in data.losses.items()},
        )
        for name, rows in ROWS.items()
    }
    data = replace(data, sets={"anchored": data, **parts})
    lenses = pd.DataFrame(
        {
            "dataset": data.name,
            "world": "observed",
            "seed": 0,
            "readout": ["own", "own", "own|anchored", "own|1/2", "shared"],
            "layer": ["0", "1", "0", "0", "all"],
            "start_kl": 2.0,
            "held_out_kl": 1.0,
            "train_kl": [0.5, 0.9, 0.95, 0.4, 0.9],
            "change": 0.0,
            "steps": 256,
            "converged": [True, False, True, True, True],
            "rows": 960,
            "parameters": 2352,
            "dimension": 40.0,
            "gap": [0.5, 0.1, 0.05, 0.6, 0.1],
            "limited": [True, False, False, True, False],
            "rows_per_parameter": 960 / 2352,
        }
    )
    return replace(base, datasets=(data,), certificates=lenses)


@pytest.fixture(scope="module")
def evidence(grid: TransferGrid) -> Evidence:
    return ts.evaluate(grid, 0.05)


def test_the_head_counts_what_has_converged_and_what_its_data_limit(evidence: Evidence) -> None:
    facts = dict(content(evidence).facts)
    assert facts["converged"] == "2 of 3", "the lenses behind the claims: own and shared, of the plan's anchor"
    assert facts["limited by data"] == "1 of 3"


def test_claims_of_both_anchors_rest_on_their_own_certificates(evidence: Evidence) -> None:
    keys = [claim.key for claim in evidence.claims]
    assert keys == [*(f"C{number}" for number in range(1, 9)), *(f"C{number}s" for number in range(2, 7))]
    caveats = {claim.key: " ".join(claim.caveats) for claim in evidence.claims}
    assert "1 of 3 lenses were limited by their data" in caveats["C2"]
    assert "1 of 3 lenses had not converged" in caveats["C2"]
    assert "limited" not in caveats["C2s"]
    assert "converged" not in caveats["C2s"]


def test_curve_and_check_have_figure_table_and_words(evidence: Evidence, tmp_path: Path) -> None:
    told = content(evidence)
    names = [table.name for section, table in told.tables if section == "data"]
    assert names == ["learning-curve-1-simulated", "shared-curve-1-simulated", "null-calibration-1-simulated"]
    assert [one.name for one in told.pictures if one.section == "data"] == ["learning-curve-1-simulated"]
    words = dict(told.design)
    assert "Twice the rows would lower it by about" in words["Training data, simulated"]
    assert "The null was calibrated here" in words["The null's own null, simulated"]
    ts.report(evidence, tmp_path)
    frame = pd.read_csv(tmp_path / "tables" / "learning-curve-1-simulated.csv")
    assert list(frame["share"][:3]) == ["1/4", "1/2", "1"]
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "How much data the lenses had" in page
    assert "limited by data" in page


def test_certificates_tell_rows_dimension_and_gap(evidence: Evidence) -> None:
    summary = {table.name: table for _, table in content(evidence).tables}["certificates-readouts"]
    for heading in ("Training rows", "Rows a parameter", "Effective dimension", "Gap to training, share"):
        assert heading in summary.headings
    own = next(row for row in summary.rows if row[0].text == "own")
    assert own[-1].text == "1 of 2"


def test_a_study_without_them_says_so() -> None:
    evidence = ts.evaluate(ts.simulate_grid(n_seeds=3, n_units=10, rng=1).grid, 0.05)
    told = content(evidence)
    assert not [table for section, table in told.tables if section == "data"]
    chapter = next(one for one in told.chapters if one.anchor == "data")
    assert "No lenses of parts of the training data" in chapter.absent


def test_the_figure_of_a_curve_can_be_asked_for(grid: TransferGrid) -> None:
    figure = ts.figure(ts.learning_curve(grid))
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels[-1] == "\u221e"
    assert len(labels) == 4
    assert "matplotlib" in sys.modules


def test_a_refused_verdict_keeps_its_number_and_says_why_once(grid: TransferGrid) -> None:
    """In the table the reason is a footnote, in words it follows the verdict; p is of no test, and not printed."""
    data = grid.datasets[0]
    assert data.null is not None
    unchecked = replace(grid, datasets=(replace(data, sets={}, null=replace(data.null, null=None)),))
    evidence = ts.evaluate(unchecked, 0.05)
    claim = next(one for one in evidence.claims if one.key == "C3")
    words = ts.sentence(claim)
    assert "CI [0" in words
    assert words.count("sweep the study with this version") == 1
    assert "Holm" not in words
    footnotes = " ".join(text for _, text in ts.table(evidence).footnotes)
    assert "sweep the study with this version" in footnotes
    told = content(evidence)
    assert told.sentences[-1].startswith("For all of these:"), "what weakens every tested claim is said once"

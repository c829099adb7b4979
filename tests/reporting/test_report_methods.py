"""The appendix: what other methods say of a study, in tables that no verdict rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import transferstats as ts
from transferstats.grid import TransferGrid
from transferstats.reporting.content import content
from transferstats.reporting.tables import Table
from transferstats.results import Evidence
from transferstats.simulation import simulate_grid, true_penalty

CHECKS = ("reliability", "order_test", "mixed_slope")


def study(n_layers: int = 5) -> TransferGrid:
    return simulate_grid(true_penalty(n_layers), n_seeds=3, n_units=24, datasets=("one", "two"), rng=4).grid


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return ts.evaluate(study(), 0.05)


def appendix(evidence: Evidence) -> Mapping[str, Table]:
    return {shown.name: shown for section, shown in content(evidence).tables if section == "appendix"}


def test_the_appendix_says_of_every_dataset_what_the_doors_say(evidence: Evidence) -> None:
    found, grid = appendix(evidence), study()
    kinds = ("reliability", "order-test", "mixed-slope")
    assert list(found) == [f"{kind}-{tail}" for tail in ("1-one", "2-two") for kind in kinds]
    for position, name in enumerate(("one", "two"), 1):
        tail = f"{position}-{name}"
        assert found[f"reliability-{tail}"].data.equals(ts.reliability(grid, name).tidy())
        assert found[f"order-test-{tail}"].data.equals(ts.order_test(grid, name).tidy())
        slopes = found[f"mixed-slope-{tail}"].data
        assert slopes["estimate"].iloc[1] == ts.mixed_slope(grid, name).estimate
        assert slopes["estimate"].iloc[0] == evidence.datasets[position - 1].summary.pick("slope").estimate


def test_its_tables_are_read_without_a_manual(evidence: Evidence) -> None:
    found = appendix(evidence)
    agreement = found["reliability-1-one"]
    assert agreement.title == "Reliability of the penalty matrix, one"
    assert [row[0].text for row in agreement.rows][:3] == [
        "ICC(A,1), one seed",
        "ICC(C,1), one seed up to shifts",
        "ICC(C,k), mean over seeds",
    ]
    order = found["order-test-1-one"]
    assert [row[0].text for row in order.rows] == ["distance", "forward"]
    assert "all 120 relabellings" in order.note
    assert "not: grows with distance for new seeds and units" in order.note
    slopes = found["mixed-slope-1-one"]
    assert slopes.headings[1] == "Estimate [95\u00a0% interval], nats/token per layer"
    assert slopes.rows[0][0].text == "crossed two-term t"
    assert "Verdicts rest on the crossed interval" in slopes.note


def test_no_verdict_rests_on_it(evidence: Evidence) -> None:
    without = [
        replace(
            data,
            extras={k: v for k, v in data.extras.items() if k not in ("reliability", "order_test", "mixed_slope")},
        )
        for data in evidence.datasets
    ]
    bare = replace(evidence, datasets=tuple(without))
    assert not appendix(bare)
    assert bare.csv() == evidence.csv()
    assert ts.sentence(bare) == ts.sentence(evidence)


def test_methods_of_the_appendix_are_cited(evidence: Evidence) -> None:
    for key in ("mcgraw1996", "vallat2018", "seabold2010", "dekker2007"):
        assert f"{{{key}," in ts.cite(evidence)


def test_two_layers_leave_nothing_to_check(tmp_path: Path) -> None:
    ts.report(ts.evaluate(study(n_layers=2), 0.05), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Two layers, or penalties that are the same everywhere, leave nothing to check." in page


def test_more_layers_than_can_be_relabelled_in_every_way_are_drawn_the_same_every_time() -> None:
    grid = study(n_layers=9)
    first, second = (appendix(ts.evaluate(grid, 0.05))["order-test-1-one"] for _ in range(2))
    assert "9999 drawn" in first.note
    assert np.array_equal(first.data["p_value"], second.data["p_value"])

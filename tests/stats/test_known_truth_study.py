"""The known-truth study: what its store keeps, what a row of its table says, and how its page counts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import transferstats as ts
from transferstats.grid import DatasetLosses, TransferGrid

VALIDATION = Path(__file__).parents[2] / "analyses" / "validation"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(VALIDATION), *sys.path])


def study(rng: int = 4) -> DatasetLosses:
    """A simulated study with the sets of lenses that a cell has."""
    data = ts.simulate_grid(n_seeds=3, n_units=20, n_null=3, rng=rng).grid.datasets[0]
    assert data.null is not None
    assert data.null.null is not None
    data = replace(
        data, clusters=data.units, training_rows=(960.0,) * 3, losses={"kl": data.losses["kl"]}, baselines={}
    )
    deepest = replace(data.null.null, training_rows=(960.0,))
    null = replace(data.null, null=deepest, training_rows=(960.0,) * 3)
    null = replace(null, null=replace(deepest, sets={"anchored": deepest}), sets={"anchored": null})
    parts = {
        name: replace(data, null=None, training_rows=(rows,) * 3, losses={"kl": 1.1 * data.losses["kl"]})
        for name, rows in (("1/2", 480.0), ("1/4", 240.0))
    }
    return replace(data, null=null, sets={"anchored": replace(data, null=null.sets["anchored"]), **parts})


CERTIFICATES = [
    {"world": "observed", "readout": readout, "train_kl": 0.8, "held_out_kl": 1.0, "converged": True}
    for readout in ("own", "own|anchored", "shared")
]


def test_what_is_stored_gives_the_same_statistics() -> None:
    from known_truth import pack, unpack

    data = study()
    again = unpack({**pack(data), "tokens": data.tokens})
    assert sorted(again.sets) == sorted(data.sets)
    for set_name in (None, "anchored"):
        found = []
        for one in (data, again):
            grid = TransferGrid("known", tuple("012345"), (one,))
            grid = grid if set_name is None else grid.with_set(set_name)
            found.append(
                [
                    float(ts.null_test(grid).excess.headline.conf_low),
                    float(ts.null_calibration(grid).excess.headline.conf_high),
                    float(ts.shared_lens_test(grid, 0.01).largest.conf_high),
                ]
            )
        assert np.allclose(*found, atol=1e-5)
    curves = [ts.learning_curve(TransferGrid("known", tuple("012345"), (one,))).tidy() for one in (data, again)]
    assert np.allclose(curves[0]["estimate"], curves[1]["estimate"], atol=1e-5)


def test_a_study_is_a_row_an_anchor_and_the_page_counts_them(tmp_path: Path) -> None:
    from known_truth_report import write_report
    from known_truth_summary import SMALLEST, summarise

    about = {"kind": "iterative", "dial": "0", "width": "48", "ratio": "0.5", "algorithm": 11}
    rows = []
    for index in range(3):
        summaries = summarise(study(index), CERTIFICATES)
        assert [one["anchor"] for one in summaries] == ["ridge", "shared"]
        rows += [
            {**about, "study": f"iterative-0-48-0.5-{index}", "index": str(index), **one} for one in summaries
        ]
    frame = pd.DataFrame(rows)
    frame.loc[0, ["c4", "c7"]] = "not tested"
    rates = write_report(frame, tmp_path, table="studies.csv", smallest=SMALLEST)
    ridge = rates[rates["anchor"] == "ridge"].iloc[0]
    assert ridge["studies"] == 3
    assert ridge["refused"] == pytest.approx(1 / 3)
    assert ridge["exceeds"] == 1.0, "of the two studies that give a verdict"
    page = (tmp_path / "known_truth.md").read_text(encoding="utf-8")
    assert "| ridge | C4 exceeds, where one lens is right | at most 0.05 | 2 of 2: 1.00 [0.16, 1.00] |" in page
    assert "| iterative | 0.5 | 3 |" in page
    assert (tmp_path / "known_truth.svg").stat().st_size > 5000


def test_published_studies_are_not_run_again(tmp_path: Path) -> None:
    from known_truth import TABLE, Task, collect, finished

    name = Task("trap", 0.0, 48, 0.5, 2).name
    for versions, kept in (([11], [11]), ([10], [10]), ([10, 11], [11])):
        names = [name if version == 11 else f"{name}0" for version in versions]
        pd.DataFrame({"study": names, "algorithm": versions, "c7": "inconclusive"}).to_csv(
            tmp_path / TABLE, index=False
        )
        found = collect(tmp_path / "nothing", tmp_path / TABLE)
        assert list(found["algorithm"]) == kept, "an old page can be made again, but versions are not mixed"
        assert finished(found) == ({name} if 11 in kept else set())


def test_rows_follow_from_width_and_ratio() -> None:
    from known_truth import FOLD_UNITS, HELD_OUT, Task

    for width, ratio in ((48, 0.1), (48, 5.0), (128, 0.25)):
        rows = Task("iterative", 0.0, width, ratio, 0).truth.tokens * FOLD_UNITS * (1 - HELD_OUT)
        assert rows == pytest.approx(ratio * width**2, rel=0.15)

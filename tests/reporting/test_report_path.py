"""The path of lenses along their training in results and reports: interval, figure, table, words, files."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import every_result
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import transferstats as ts
from transferstats.errors import DataError, DesignError
from transferstats.grid import TransferGrid
from transferstats.reporting import bridge
from transferstats.reporting.documents import report_files
from transferstats.results import COLUMNS, Evidence, TrainingPath
from transferstats.results.path import KEPT

NAME = every_result.DATASETS[0]


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    """Two datasets with paths, and certificates of the lenses of the study."""
    plain = every_result.with_paths(every_result.grid())
    rows = [
        {"dataset": data.name, "world": "observed", "seed": int(seed), "readout": "own", "layer": layer}
        for data in plain.datasets
        for seed in range(len(data.seeds))
        for layer in plain.layers
    ]
    certificates = pd.DataFrame(rows).assign(held_out_kl=np.arange(len(rows), dtype=float), converged=True)
    datasets = tuple(replace(data, seeds=("0", "1", "2")) for data in plain.datasets)
    paths = {name: replace(path, seed="0") for name, path in plain.paths.items()}
    return replace(plain, datasets=datasets, certificates=certificates, paths=paths)


@pytest.fixture(scope="module")
def path(grid: TransferGrid) -> TrainingPath:
    return ts.training_path(grid, NAME)


@pytest.fixture(scope="module")
def evidence(grid: TransferGrid) -> Evidence:
    return ts.evaluate(grid, 0.05)


def test_the_interval_is_a_t_interval_over_units(grid: TransferGrid, path: TrainingPath) -> None:
    """One fold: the spread of token-weighted unit means, by hand."""
    data, moment = grid.dataset(NAME), 5
    values, share = grid.paths[NAME].penalty["kl"][moment], data.tokens / data.tokens.sum()
    n = len(values)
    mean = float(share @ values)
    error = np.sqrt(np.sum((n * share * (values - mean)) ** 2) / (n * (n - 1)))
    assert path.penalty.estimate[moment] == pytest.approx(mean, rel=1e-12)
    assert path.penalty.std_error[moment] == pytest.approx(error, rel=1e-10)
    half = stats.t.ppf(0.975, n - 1) * error
    assert path.penalty.conf_high[moment] - mean == pytest.approx(half, rel=1e-9)
    assert "conditional on this lens set" in path.penalty.note


def test_dependent_units_count_as_one(grid: TransferGrid, path: TrainingPath) -> None:
    data = grid.dataset(NAME)
    clusters = tuple(f"cluster {index // 2}" for index in range(len(data.units)))
    null = None if data.null is None else replace(data.null, clusters=clusters)
    tied = replace(grid, datasets=(replace(data, clusters=clusters, null=null), grid.datasets[1]))
    clustered = ts.training_path(tied, NAME)
    assert clustered.penalty.n_units == 10
    np.testing.assert_allclose(clustered.penalty.estimate, path.penalty.estimate, atol=1e-12)
    assert "10 clusters of documents" in ts.sentence(clustered)
    assert ts.training_path(tied, NAME, cluster=False).penalty.n_units == 20


def test_one_lens_for_all_layers_has_no_interval(path: TrainingPath) -> None:
    for anchor in ("identity", "shared"):
        start = path.penalty.pick(path.moments(anchor)[0])
        assert float(start.estimate) == 0
        assert np.isnan(start.conf_low)


def test_the_lenses_of_the_study_are_those_of_the_same_fold(grid: TransferGrid, path: TrainingPath) -> None:
    alone = ts.estimate(grid.with_datasets([NAME]).with_seeds(["0"], None)).headline
    assert path.kept is not None
    assert float(path.kept.estimate) == pytest.approx(float(alone.estimate), rel=1e-12)
    assert float(path.kept.conf_low) == pytest.approx(float(alone.conf_low), rel=1e-12)
    assert path.kept_kl == np.arange(len(grid.layers)).mean()
    assert ts.training_path(replace(grid, certificates=pd.DataFrame()), NAME).kept is None
    assert ts.training_path(grid.with_seeds(["1", "2"]), NAME).kept is None


def test_moments_and_starts(path: TrainingPath) -> None:
    assert path.starts == ("identity", "ridge", "shared")
    assert [path.steps[index] for index in path.moments("ridge")] == [0, 4, 8, 16]
    assert path.steps[path.best("shared")] == 16
    frame = path.tidy()
    assert tuple(frame)[: len(COLUMNS)] == COLUMNS
    assert frame["term"].iloc[-1] == KEPT
    assert len(frame) == 13
    one = path.glance()
    assert (len(one), one["n_starts"].item(), one["max_steps"].item()) == (1, 3, 16)
    assert one["kept_penalty"].item() == pytest.approx(frame["estimate"].iloc[-1])


def test_what_cannot_be_followed_is_refused(grid: TransferGrid) -> None:
    with pytest.raises(DesignError, match="several datasets have a path"):
        ts.training_path(grid)
    with pytest.raises(DesignError, match="plan the study again with_path"):
        ts.training_path(every_result.grid())
    with pytest.raises(DataError, match="no dataset 'nothing'"):
        ts.training_path(grid, "nothing")
    with pytest.raises(DataError, match="no loss 'error'; it has: kl, ce"):
        ts.training_path(grid, NAME, loss="error")


def test_the_sentence_says_where_the_claims_stand(path: TrainingPath) -> None:
    text = ts.sentence(path)
    assert "from the identity (logit lens), held-out kl went from 6.00 to 5.20 in 16 steps" in text
    assert "The claims stand on lenses from ridge to the final state" in text
    assert "at a mean held-out kl of" in text
    assert ts.sentence(replace(path, kept=None)).endswith("each after the steps at which it was kept.")


def test_the_figure_falls_to_the_right(path: TrainingPath) -> None:
    (axes,) = ts.figure(path).axes
    left, right = axes.get_xlim()
    assert left > 6 > 1.2 > right
    assert axes.get_xscale() == "log"
    near = replace(path, held_out_kl=2 + path.held_out_kl / 100, kept_kl=2.0)
    (axes,) = ts.figure(near).axes
    assert axes.get_xscale() == "linear"
    assert axes.xaxis_inverted()


def test_a_report_shows_the_path_of_every_dataset(grid: TransferGrid, evidence: Evidence) -> None:
    files = report_files(evidence)
    figures = [name for name in files if name.startswith("figures/path-") and name.endswith(".svg")]
    assert len(figures) == 2
    page = files["report.md"].decode()
    assert "## Along the training" in page
    assert "The claims stand on lenses from ridge" in page
    assert "from the shared lens, held-out kl 2.00 to 1.20 and penalty 0 to" in page
    (table, *_) = (name for name in files if name.startswith("tables/path-1") and name.endswith(".csv"))
    read = pd.read_csv(io.BytesIO(files[table]), na_values=["NA"])
    drawn = pd.read_csv(io.BytesIO(files[table.replace("tables/", "tables/figure-")]), na_values=["NA"])
    pd.testing.assert_frame_equal(read, drawn)
    np.testing.assert_array_equal(read["estimate"], ts.training_path(grid, NAME).tidy()["estimate"])
    assert read["steps"].isna().sum() == 1
    assert {"anchor", "held_out_kl", "own_loss", "conf_low"} <= set(read)
    assert table in json.loads(files["manifest.json"])["files"]


def test_a_report_without_a_path_has_no_chapter_for_it(evidence: Evidence) -> None:
    without = [
        replace(one, extras={k: v for k, v in one.extras.items() if k != "path"}) for one in evidence.datasets
    ]
    files = report_files(replace(evidence, datasets=tuple(without)))
    assert "Along the training" not in files["report.md"].decode()
    assert not [name for name in files if "/path-" in name]


def test_r_gets_the_numbers_behind_the_figure(evidence: Evidence, path: TrainingPath) -> None:
    behind = bridge.plot_csv(evidence)
    (name, *_) = (one for one in behind if one.startswith("path-1"))
    assert behind[name] == path.csv()


def test_a_store_with_a_path_reports_it(tmp_path: Path) -> None:
    fit = ts.FitPlan(first=4, max_steps=8, settle=8, batch=64, strengths=(1.0,), beside=None, curve=())
    scored = ts.EvaluationPlan(units=12, tokens=24)
    cells = ts.known_truth_cells("iterative", seeds=2, null_replicates=0, fit=fit, evaluation=scored)
    assert not ts.sweep(ts.with_path(cells), tmp_path / "store").failures
    found = ts.training_path(ts.read_grid(tmp_path / "store"))
    assert [found.steps[index] for index in found.moments("ridge")] == [0, 4, 8]
    assert found.kept is not None
    # Each lens is kept where it does best, so together they are no worse than any moment of their line.
    assert found.kept_kl <= found.held_out_kl[found.best("ridge")] + 1e-9
    ts.report(ts.evaluate(ts.read_grid(tmp_path / "store"), 0.01), tmp_path / "report")
    assert (tmp_path / "report" / "figures" / "path-1-simulated.svg").is_file()

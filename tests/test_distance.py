"""Distances and masks: rows are sources, columns are targets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import transferstats as ts
from transferstats.distance import check_distance, forward_mask, layer_distance, layer_numbers, off_diagonal
from transferstats.errors import DataError, DesignError
from transferstats.grid import TransferGrid
from transferstats.reporting.figures_curves import draw_distance
from transferstats.simulation import true_penalty
from transferstats.stats.depth import depth_trend
from transferstats.stats.mixed import mixed_slope
from transferstats.stats.regression import cell_columns


def test_index_and_depth() -> None:
    assert layer_distance(3).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert layer_distance(3, "depth").tolist() == [[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]
    with pytest.raises(DesignError, match="at least 2 layers"):
        layer_distance(1)
    with pytest.raises(DesignError, match="unknown distance scale 'blocks': use 'index', 'depth', or pass"):
        layer_distance(3, "blocks")


def test_forward_means_that_the_target_lies_after_the_source() -> None:
    mask = forward_mask(4)
    assert mask[0, 3]
    assert not mask[3, 0]
    assert not mask.diagonal().any()
    assert (mask | mask.T)[off_diagonal(4)].all()


def test_a_users_matrix_need_not_be_symmetric_but_must_be_a_distance() -> None:
    matrix = np.array([[0, 1.5, 2], [1, np.nan, 1], [2, 1, -3]])
    assert np.array_equal(check_distance(matrix, 3), matrix, equal_nan=True)  # the diagonal is never used
    with pytest.raises(DataError, match=r"has shape \(3, 3\); this grid needs \(4, 4\)"):
        check_distance(matrix, 4)
    for bad in (0.0, -1.0, np.nan, np.inf):
        matrix[0, 1] = bad
        with pytest.raises(DataError, match="finite and positive"):
            check_distance(matrix, 3)


# --- distances are those of the layers' own numbers ---


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("0", "4", "8"), (0, 4, 8)),
        (("1", "2", "3"), (1, 2, 3)),
        (("-3", "-2", "-1"), (-3, -2, -1)),
        (("layer_2", "layer_10"), (2, 10)),
        (("layer_02", "layer_10"), (2, 10)),
        (("blocks.3", "blocks.5"), (3, 5)),
        (("blocks.3.hook_resid_post", "blocks.5.hook_resid_post"), (3, 5)),
        (("encoder.1.3", "encoder.1.7"), (3, 7)),
        (("layer 3 of 12", "layer 6 of 12"), (3, 6)),
        (("0", "0"), None),
        (("embed", "0", "1"), None),
        (("stage 1 block 0", "stage 2 block 1"), None),
        (("0.1", "0.25"), None),
        (("t=0.1", "t=0.25"), None),
        (("t=1.5", "t=2.5"), None),
        (("early", "late"), None),
    ],
)
def test_layers_are_numbered_by_the_one_number_in_which_their_names_differ(
    names: tuple[str, ...], numbers: tuple[float, ...] | None
) -> None:
    assert layer_numbers(names) == numbers


def numbered(*layers: str) -> TransferGrid:
    """Losses of as many layers, whatever these are called, with all that a claim about distance needs."""
    grid = ts.simulate_grid(true_penalty(len(layers)), n_seeds=4, n_units=30, rng=5).grid
    similar = {grid.datasets[0].name: {"covariance": np.random.default_rng(1).uniform(size=(len(layers),) * 2)}}
    return replace(grid, layers=layers, similarities=similar)


def slope_of(grid: TransferGrid, places: list[float]) -> float:
    """Least squares of the mean cells on |difference of places|."""
    data, off = grid.datasets[0], off_diagonal(grid.n_layers)
    matrix = np.average(data.penalty(grid.loss).mean(axis=0), axis=0, weights=data.tokens)
    apart = np.abs(np.subtract.outer(places, places))
    return float(np.polyfit(apart[off], matrix[off], 1)[0])


UNEVEN = ("0", "1", "5", "7", "11")
PLACES = [0.0, 1.0, 5.0, 7.0, 11.0]


def test_a_slope_is_per_layer_of_the_network_and_not_per_layer_used() -> None:
    every = ts.estimate(numbered("0", "2", "4", "6", "8"), "slope").headline
    full = ts.estimate(numbered("0", "1", "2", "3", "4"), "slope").headline
    assert float(every.estimate) == pytest.approx(float(full.estimate) / 2, rel=1e-12)
    assert float(every.conf_high) == pytest.approx(float(full.conf_high) / 2, rel=1e-12)
    assert every.unit == "nats/token per layer"
    uneven = ts.estimate(numbered(*UNEVEN), "slope").headline
    assert float(uneven.estimate) == pytest.approx(slope_of(numbered(*UNEVEN), PLACES), rel=1e-9)


@pytest.mark.parametrize("prefix", ["layer_", "blocks."])
def test_every_result_about_distance_uses_the_numbers_of_the_layers(prefix: str) -> None:
    grid = numbered(*(prefix + name for name in UNEVEN))
    right = slope_of(grid, PLACES)
    claims = {claim.key: claim for claim in ts.evaluate(grid, 0.05).claims}
    assert claims["C5"].estimate is not None
    assert float(claims["C5"].estimate.estimate) == pytest.approx(right, rel=1e-9)
    assert float(ts.fit_decay(grid, "linear")[0].estimates[1].estimate) == pytest.approx(right, rel=1e-9)
    assert ts.regress("penalty ~ distance", grid).headline.estimate[1] == pytest.approx(right, rel=1e-9)
    assert mixed_slope(grid).estimate == pytest.approx(right, rel=0.2)  # REML weighs seeds, not cells
    assert ts.augment(ts.fit_decay(grid, "linear"), grid)["distance"].max() == 11
    assert ts.compare(grid, numbered(*UNEVEN), statistic="slope").difference.headline.estimate == pytest.approx(
        0, abs=1e-15
    )
    distances = ts.estimate(grid, "distance").headline
    assert [float(term.split()[1]) for term in distances.terms] == [1, 2, 4, 5, 6, 7, 10, 11]
    own = np.diagonal(grid.datasets[0].loss("kl"), axis1=2, axis2=3).mean(axis=0)
    trend = np.polyfit(PLACES, np.average(own, axis=0, weights=grid.datasets[0].tokens), 1)[0]
    assert float(depth_trend(grid).headline.estimate) == pytest.approx(trend, rel=1e-9)
    assert claims["C1"].estimate is not None
    assert float(claims["C1"].estimate.estimate) == pytest.approx(trend, rel=1e-9)


def test_a_c8_and_plans_use_the_numbers_of_the_layers() -> None:
    wide, full = numbered("0", "3", "6", "9"), numbered("0", "1", "2", "3")
    for grid, scale in ((wide, 3), (full, 1)):
        c8 = next(claim for claim in ts.evaluate(grid, 0.05).claims if claim.key == "C8").estimate
        plan = ts.plan_study(grid, seeds=[4], units=[30], statistic="slope").tidy()
        assert c8 is not None
        found = (float(c8.estimate) * scale, float(plan["half_width"].iloc[0]) * scale)
        if grid is wide:
            first = found
    assert found == pytest.approx(first, rel=1e-9)


def test_relative_depth_is_a_share_of_the_way_between_first_and_last_number() -> None:
    grid = numbered(*UNEVEN)
    slope = ts.estimate(grid, "slope", distance="depth").headline
    assert float(slope.estimate) == pytest.approx(11 * slope_of(grid, PLACES), rel=1e-9)
    columns = cell_columns(grid, grid.datasets[0], loss="kl")
    first = columns[(columns["source"] == 0) & (columns["target"] == 2)].iloc[0]
    assert (first["distance"], first["depth"]) == (5, pytest.approx(2.5 / 11))


def test_layers_taken_out_of_a_grid_keep_their_distances() -> None:
    whole = numbered(*map(str, range(8)))
    some = whole.with_layers(["0", "3", "7"])
    assert [one.split()[1] for one in ts.estimate(some, "distance").headline.terms] == ["3", "4", "7"]


def test_a_distance_that_does_not_count_a_complete_list_is_said_to() -> None:
    def said(*names: str) -> str:
        return " ".join(ts.describe(numbered(*names)).caveats)

    assert said("0", "1", "2") == said("1", "2", "3") == said("layer_4", "layer_5", "layer_6") == ""
    assert "differences of the layers' own numbers (0, 4, 8)" in said("0", "4", "8")
    assert "(0, 1, 2, 3, ..., 9)" in said("0", "1", "2", "3", "4", "5", "9")
    assert "distances count steps in the order of the layers" in said("early", "middle", "late")
    assert "distances count steps of 0.1" in said("0.1", "0.2", "0.3")


def test_the_report_draws_means_and_cells_at_their_distances(tmp_path: Path) -> None:
    grid = numbered(*UNEVEN)
    evidence = ts.evaluate(grid, 0.05)
    page = ts.report(evidence, tmp_path).read_text(encoding="utf-8")
    assert "Layer distances are differences of the layers" in page
    data = evidence.datasets[0]
    figure = draw_distance(data.cells, data.distances, data.fits, layers=grid.layers, label="penalty")
    axes = figure.axes[0]
    means = next(one for one in axes.containers if "mean at a distance" in str(one.get_label()))
    assert means[0].get_xdata().tolist() == [1, 2, 4, 5, 6, 7, 10, 11]
    forward = next(line for line in axes.lines if line.get_label() == "cell, forward")
    assert forward.get_xdata()[:4] == pytest.approx([0.87, 4.87, 6.87, 10.87])


def test_a_comparison_draws_subjects_at_their_relative_depth(tmp_path: Path) -> None:
    grids = [replace(numbered(*UNEVEN), subject=name) for name in ("one", "other")]
    ts.report(ts.compare_subjects(grids, smallest=0.1), tmp_path)
    frames = [pd.read_csv(path) for path in (tmp_path / "tables").glob("*.csv")]
    depths = [frame["relative_depth"].unique().tolist() for frame in frames if "relative_depth" in frame]
    shares = [[one / 11 for one in places] for places in ([1, 2, 4, 5, 6, 7, 10, 11], [0, 1, 5, 7, 11])]
    assert sorted(depths, key=len, reverse=True) == [pytest.approx(one) for one in shares]

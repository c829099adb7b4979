"""Estimates of grids: datasets as strata, tokens as weights, clusters as units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from transferstats.errors import DataError, DesignError
from transferstats.grid import TransferGrid
from transferstats.results import COLUMNS
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.bootstrap import KINDS, Bootstrap
from transferstats.stats.crossed import crossed_estimate, interval_from_parts
from transferstats.stats.estimation import estimate


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return simulate_grid(n_seeds=3, n_units=20, datasets=("code", "prose"), rng=1).grid


def test_members_are_the_array_door_with_tokens(grid: TransferGrid) -> None:
    found = estimate(grid, "distance")
    for data in grid.datasets:
        direct = crossed_estimate(data.losses["kl"], "distance", weights=data.tokens)
        np.testing.assert_array_equal(found[data.name].conf_low, direct.conf_low)
    assert found.datasets == ("code", "prose", "average")
    assert found.headline is found["average"]
    with pytest.raises(KeyError, match="no dataset 'news'"):
        found["news"]


def test_average_adds_parts_as_strata(grid: TransferGrid) -> None:
    code, prose, average = estimate(grid, "distance")
    np.testing.assert_allclose(average.estimate, (code.estimate + prose.estimate) / 2, rtol=1e-14)
    parts = np.concatenate([code.parts, prose.parts]) / 4
    low, high = interval_from_parts(average.estimate, parts, [2, 19, 2, 19], conf_level=0.95)
    np.testing.assert_allclose(average.conf_low, low, rtol=1e-12)
    np.testing.assert_allclose(average.conf_high, high, rtol=1e-12)
    np.testing.assert_allclose(average.seed_variance, (code.seed_variance + prose.seed_variance) / 4)
    assert average.terms == code.terms
    assert average.n_units == 40
    assert "fixed strata" in average.note


def test_tidy_has_the_shared_columns_first(grid: TransferGrid) -> None:
    frame = estimate(grid, "distance").tidy()
    assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS
    assert len(frame) == 15
    assert list(frame["dataset"].unique()) == ["code", "prose", "average"]
    shares = frame["share_seeds"] + frame["share_units"]
    np.testing.assert_allclose(shares, 1)
    assert estimate(grid).glance().loc[0, "n_datasets"] == 2


def test_one_dataset_has_no_average(grid: TransferGrid) -> None:
    found = estimate(grid.with_datasets(["code"]))
    assert found.datasets == ("code",)
    assert len(found.tidy()) == 1


def test_loss_is_chosen_by_name(grid: TransferGrid) -> None:
    assert estimate(grid, loss="ce").headline.estimate == estimate(grid.with_loss("ce")).headline.estimate
    assert estimate(grid, loss="ce").headline.estimate != estimate(grid).headline.estimate
    with pytest.raises(DataError, match="no loss 'mse'"):
        estimate(grid, loss="mse")


def test_clusters_are_units_unless_switched_off(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    clustered = replace(data, clusters=tuple(f"play {index // 4}" for index in range(20)))
    one = replace(grid, datasets=(clustered,))
    found, ignored = estimate(one).headline, estimate(one, cluster=False).headline
    assert (found.n_units, ignored.n_units) == (5, 20)
    assert float(found.estimate) == pytest.approx(float(ignored.estimate), rel=1e-12)
    assert "20 units in 5 clusters" in found.note
    assert found.dfs[1] == 4


@pytest.mark.parametrize("kind", KINDS)
def test_bootstrap_of_a_grid(grid: TransferGrid, kind: str) -> None:
    found = estimate(grid, "slope", method=Bootstrap(2000, kind, rng=3))
    exact = estimate(grid, "slope")
    assert found.datasets == exact.datasets
    for ours, crossed in zip(found, exact, strict=True):
        assert float(ours.estimate) == pytest.approx(float(crossed.estimate), rel=1e-12)
        # Replicate variances of 2000 replicates are good to 3 %, standard errors to half of that.
        assert float(ours.std_error) == pytest.approx(float(crossed.std_error), rel=0.07)
        assert ours.replicates.shape == (2000,)
        assert float(ours.conf_low) < float(ours.estimate) < float(ours.conf_high)


def test_bootstraps_of_two_datasets_are_independent(grid: TransferGrid) -> None:
    """Equal draws in both would double the variance of an average of equal datasets."""
    data = grid.datasets[0]
    twins = replace(grid, datasets=(data, replace(data, name="twin")))
    found = estimate(twins, "mean", method=Bootstrap(4000, "percentile", rng=3))
    correlation = np.corrcoef(found["code"].replicates, found["twin"].replicates)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(4000)
    ratio = found["average"].replicates.std() / found["code"].replicates.std()
    assert ratio == pytest.approx(1 / np.sqrt(2), rel=0.05)


def test_log_scale_of_an_average(grid: TransferGrid) -> None:
    for method in (None, Bootstrap(2000, rng=1)):
        found = estimate(grid, "ratio", scale="log", method=method).headline
        assert 0 < float(found.conf_low) < float(found.estimate) < float(found.conf_high)
        centre = float(np.sqrt(found.conf_low * found.conf_high))
        assert centre == pytest.approx(float(found.estimate), rel=1e-9)


def test_datasets_with_other_terms_have_no_average() -> None:
    grid = simulate_grid(true_penalty(4), datasets=("a", "b"), rng=0).grid

    class Odd:
        name = "odd"
        count = 0

        def __call__(self, matrix: np.ndarray) -> np.ndarray:
            return matrix[0, 1:3]

        def terms(self, n_layers: int) -> tuple[str, ...]:
            Odd.count += 1
            return (f"first {Odd.count}", "second")

    with pytest.raises(DesignError, match="no average"):
        estimate(grid, Odd())

"""Reliability, the mixed-model check, and the rank correlation with similarity."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import spearmanr

from transferstats.errors import DataError, DependencyError, DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results import COLUMNS, Result
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.bootstrap import Bootstrap
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.influence import penalties
from transferstats.stats.mixed import blockwise, mixed_slope
from transferstats.stats.permutation import order_test
from transferstats.stats.reliability import (
    RankCorrelation,
    correlate_similarity,
    full_precision,
    intraclass,
    reliability,
    spearman_brown,
)

# pingouin goes through a statsmodels ANOVA; the mean squares agree to rounding.
ANOVA = 1e-8
# REML of a balanced crossed layout has a closed form; statsmodels' optimiser stops about here.
REML = 2e-3


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return simulate_grid(true_penalty(6), n_seeds=4, n_units=40, rng=2, datasets=("wiki", "code")).grid


def mean_squares(table: np.ndarray) -> tuple[float, float, float]:
    """Between cells, between seeds, residual; table (K, C)."""
    k, c = table.shape
    cells, seeds = table.mean(axis=0), table.mean(axis=1)
    residual = table - cells - seeds[:, None] + table.mean()
    return (
        k * np.square(cells - table.mean()).sum() / (c - 1),
        c * np.square(seeds - table.mean()).sum() / (k - 1),
        np.square(residual).sum() / ((k - 1) * (c - 1)),
    )


@pytest.mark.parametrize("scale", [1.0, 0.004, 1e-12, 1e6])
def test_icc_by_hand_at_any_scale(scale: float) -> None:
    """Penalties of 0.004 nats are where display rounding does its damage."""
    rng = np.random.default_rng(1)
    table = scale * (1 + 0.3 * rng.standard_normal(30) + 0.1 * rng.standard_normal((4, 30)))
    between, shift, error = mean_squares(table)
    agreement, consistency, mean = intraclass(table)
    k, c = 4, 30
    assert consistency.estimate == pytest.approx((between - error) / (between + (k - 1) * error), rel=ANOVA)
    expected = (between - error) / (between + (k - 1) * error + k * (shift - error) / c)
    assert agreement.estimate == pytest.approx(expected, rel=ANOVA)
    assert mean.estimate == pytest.approx((between - error) / between, rel=ANOVA)
    ratio = between / error
    low = ratio / f_distribution.ppf(0.975, c - 1, (c - 1) * (k - 1))
    # Rounded to 2 decimals (pingouin's default) this fails.
    assert consistency.conf_low == pytest.approx((low - 1) / (low + k - 1), rel=ANOVA)


def test_rounding_is_switched_off_and_put_back() -> None:
    import pingouin

    before = dict(pingouin.options)
    assert before["round.column.CI95"] == 2
    with full_precision() as inside:
        assert inside.options["round"] is None
        assert "round.column.CI95" not in inside.options
    assert dict(pingouin.options) == before
    with pytest.raises(RuntimeError, match="on purpose"), full_precision():
        raise RuntimeError("on purpose")
    assert dict(pingouin.options) == before


def test_without_pingouin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pingouin", None)
    with pytest.raises(DependencyError, match="pip install pingouin"):
        intraclass(np.random.default_rng(0).standard_normal((3, 10)))


def test_icc_that_does_not_exist() -> None:
    cells = np.random.default_rng(0).standard_normal(12)
    for table, word in (
        (cells[None], "1 seed"),
        (np.stack([cells, cells + 1]), "no error variance"),
        (np.zeros((3, 12)), "no error variance"),
    ):
        found = intraclass(table)
        assert all(np.isnan(one.estimate) and word in one.note for one in found)
    with pytest.raises(DataError, match="finite"):
        intraclass(np.full((3, 4), np.nan))


def test_reliability_of_a_grid(grid: TransferGrid) -> None:
    found = reliability(grid, "wiki")
    assert (found.dataset, reliability(grid, "code").dataset) == ("wiki", "code")
    table = found.tidy()
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert list(table["term"]) == [
        "icc_agreement",
        "icc_consistency",
        "icc_mean",
        "split_half_units",
        "split_half_seeds",
    ]
    assert (table["estimate"] <= 1).all()
    assert len(found.glance()) == 1
    data = grid.datasets[0]
    expected = np.average(penalties(data.losses["kl"]), axis=1, weights=data.tokens)[:, ~np.eye(6, dtype=bool)]
    np.testing.assert_allclose(found.cells, expected, rtol=1e-12)
    assert reliability(grid, "wiki")["split_half_units"] == found["split_half_units"]
    with pytest.raises(KeyError, match="no coefficient"):
        found["alpha"]


@pytest.mark.parametrize("asked", [reliability, mixed_slope, order_test])
def test_one_of_several_datasets_has_to_be_named(grid: TransferGrid, asked: Callable[..., Result]) -> None:
    with pytest.raises(DesignError, match="name one of the datasets: wiki, code"):
        asked(grid)
    with pytest.raises(DataError, match="no dataset 'kjv'; this grid has: wiki, code"):
        asked(grid, "kjv")
    alone = asked(grid.with_datasets(["code"]))
    assert alone.csv() == asked(grid, "code").csv()


def test_split_half_recovers_a_known_reliability() -> None:
    """Cells with true variance 1 and seed noise of variance 4 / K: reliability of the mean is 1 / (1 + noise)."""
    rng = np.random.default_rng(3)
    size, k, n = 30, 6, 20
    truth = rng.standard_normal((size, size))
    losses = truth + 2 * rng.standard_normal((k, 1, size, size)) + 1e-3 * rng.standard_normal((k, n, size, size))
    losses[:, :, np.arange(size), np.arange(size)] = 0
    units = tuple(map(str, range(n)))
    data = DatasetLosses("d", tuple(map(str, range(k))), units, units, np.ones(n), {"kl": losses})
    result = reliability(TransferGrid("s", tuple(map(str, range(size))), (data,)))
    expected = 1 / (1 + 4 / k)
    # 870 cells: the standard error of the estimated reliability is about .015.
    assert result["split_half_seeds"].estimate == pytest.approx(expected, abs=0.06)
    assert result["icc_mean"].estimate == pytest.approx(expected, abs=0.06)
    assert result["split_half_units"].estimate > 0.9999


def test_spearman_brown() -> None:
    assert spearman_brown(np.array(0.5), 2.0) == pytest.approx(2 / 3)
    assert spearman_brown(np.array(0.5), 1.0) == pytest.approx(0.5)


def test_reliability_refuses_and_flags(grid: TransferGrid) -> None:
    units = ("0", "1")
    small = DatasetLosses("d", ("0",), units, units, np.ones(2), {"kl": np.ones((1, 2, 2, 2))})
    with pytest.raises(DesignError, match="3 layers"):
        reliability(TransferGrid("s", ("0", "1"), (small,)))
    data = grid.datasets[0]
    one_seed = replace(data, seeds=("0",), losses={"kl": data.losses["kl"][:1]}, readouts={})
    result = reliability(replace(grid, datasets=(one_seed,)))
    assert np.isnan(result["split_half_seeds"].estimate)
    assert "1 seed" in result["split_half_seeds"].note
    constant = replace(data, losses={"kl": np.ones_like(data.losses["kl"])}, readouts={})
    flagged = reliability(replace(grid, datasets=(constant,)))
    assert all(np.isnan(one.estimate) and one.note for one in flagged.coefficients)


def test_mixed_model_against_balanced_anova() -> None:
    """With all variance components positive, REML of a balanced crossed layout is the ANOVA estimator."""
    rng = np.random.default_rng(4)
    k, n, size = 5, 20, 5
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    slope = 0.05 + 0.02 * rng.standard_normal((k, 1)) + 0.03 * rng.standard_normal((1, n))
    slope = slope + 0.02 * rng.standard_normal((k, n))
    losses = 1 + slope[:, :, None, None] * distance
    units = tuple(map(str, range(n)))
    data = DatasetLosses("d", tuple(map(str, range(k))), units, units, np.ones(n), {"kl": losses})
    grid = TransferGrid("s", tuple(map(str, range(size))), (data,))
    row = mixed_slope(grid)
    crossed = crossed_estimate(losses, "slope")
    assert row.converged
    assert row.estimate == pytest.approx(float(crossed.estimate), rel=1e-9)
    unit_mean_square = n * np.square(slope.mean(axis=1) - slope.mean()).sum() / (k - 1)
    seed_mean_square = k * np.square(slope.mean(axis=0) - slope.mean()).sum() / (n - 1)
    rest = slope - slope.mean(axis=1, keepdims=True) - slope.mean(axis=0) + slope.mean()
    error = np.square(rest).sum() / ((k - 1) * (n - 1))
    expected = (unit_mean_square + seed_mean_square - error) / (k * n)
    assert row.std_error == pytest.approx(np.sqrt(expected), rel=REML)
    assert row.residual_variance == pytest.approx(error, rel=REML)
    assert row.std_error == pytest.approx(float(crossed.std_error), rel=REML)
    assert row.df == 4


def test_mixed_model_reports_trouble(grid: TransferGrid) -> None:
    row = mixed_slope(grid, "wiki")
    assert row.unit == "nats/token per layer"
    assert row.n_blocks == 40
    table = row.tidy()
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert len(row.glance()) == 1
    # Seeds whose means agree better than chance allows: REML ends on the boundary and must say so.
    data = grid.datasets[0]
    distance = np.abs(np.subtract.outer(np.arange(6), np.arange(6))).astype(float)
    noise = np.random.default_rng(0).standard_normal((4, 40))
    noise -= noise.mean(axis=1, keepdims=True)
    even = 1 + (0.1 + 0.01 * noise)[:, :, None, None] * distance
    stuck = mixed_slope(replace(grid, datasets=(replace(data, losses={"kl": even}, readouts={}),)))
    assert stuck.seed_variance < 0.02 * stuck.residual_variance
    assert any("boundary" in text for text in stuck.messages)
    assert "boundary" in stuck.tidy()["note"][0]
    constant = replace(data, losses={"kl": np.ones_like(data.losses["kl"])}, readouts={})
    empty = mixed_slope(replace(grid, datasets=(constant,)))
    assert np.isnan(empty.estimate)
    assert "no variation" in empty.messages[0]


def test_blocks_are_equal() -> None:
    table = np.arange(2 * 90.0).reshape(2, 90)
    blocks = blockwise(table, np.ones(90), 40)
    assert blocks.shape == (2, 30)
    np.testing.assert_allclose(blocks.mean(axis=1), table.mean(axis=1))
    with pytest.raises(DesignError, match="2 seeds"):
        blockwise(table[:1], np.ones(90), 40)


def test_rank_correlation() -> None:
    rng = np.random.default_rng(0)
    similarity, matrices = rng.standard_normal((5, 5)), rng.standard_normal((7, 5, 5))
    off = ~np.eye(5, dtype=bool)
    statistic = RankCorrelation(similarity, "cka")
    expected = [spearmanr(matrix[off], similarity[off])[0] for matrix in matrices]
    np.testing.assert_allclose(statistic.batch(matrices)[:, 0], expected, rtol=1e-12)
    assert statistic(matrices[0]) == pytest.approx(expected[0])
    assert np.isnan(statistic(np.zeros((5, 5))))
    assert np.isnan(statistic.gradient(matrices[0])).all()


def test_correlation_with_similarity(grid: TransferGrid) -> None:
    found = correlate_similarity(grid, "covariance", method=Bootstrap(replicates=300, rng=1))
    assert found.datasets == ("wiki", "code", "average")
    assert found["wiki"].conf_low < found["wiki"].estimate < found["wiki"].conf_high
    average = (found["wiki"].estimate + found["code"].estimate) / 2
    assert found["average"].estimate == pytest.approx(float(average))
    assert found["wiki"].estimate < -0.5


def test_correlation_refuses(grid: TransferGrid) -> None:
    with pytest.raises(DesignError, match="no similarity 'svcca'; it has: covariance"):
        correlate_similarity(grid, "svcca")
    flat = replace(grid, similarities={"wiki": {"flat": np.ones((6, 6))}, "code": {"flat": np.ones((6, 6))}})
    with pytest.raises(DataError, match="constant"):
        correlate_similarity(flat, "flat")

"""Simulated grids: their truth is true, and their regimes are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from transferstats.errors import DesignError
from transferstats.simulation import (
    CURVES,
    PATTERNS,
    REGIMES,
    Regime,
    find_regime,
    random_fields,
    simulate_grid,
    simulate_penalties,
    true_penalty,
)
from transferstats.stats.statistics import named_statistic

OFF = ~np.eye(5, dtype=bool)


@pytest.mark.parametrize("shape", ["normal", "heavy", "skewed"])
def test_fields_have_mean_0_and_variance_1(shape: str) -> None:
    fields = random_fields((20_000,), 5, np.random.default_rng(0), shape=shape)[:, OFF]
    assert fields.mean() == pytest.approx(0, abs=0.02)
    assert fields.var() == pytest.approx(1, rel=0.1)
    assert sum(PATTERNS.values()) == pytest.approx(1)


def test_shapes_are_heavy_and_skewed() -> None:
    rng = np.random.default_rng(1)
    normal, heavy = (random_fields((40_000,), 3, rng, shape=name)[:, 0, 1] for name in ("normal", "heavy"))
    seed, unit = (
        random_fields((40_000,), 3, rng, shape="skewed", skew=name)[:, 0, 1] for name in ("seed", "unit")
    )
    assert abs(normal).max() < 6 < abs(heavy).max()
    assert abs((normal**3).mean()) < 0.1 < 0.3 < (seed**3).mean() < (unit**3).mean()


@pytest.mark.parametrize("name", REGIMES)
def test_regime_has_its_shares(name: str) -> None:
    """Variance of the mean over many data sets, and the part of it that seeds cause."""
    truth, regime = true_penalty(5), find_regime(name)
    penalty = simulate_penalties(truth, n_seeds=3, n_units=20, regime=name, n_sets=4000, rng=2)
    weights = named_statistic("mean").gradient(truth)[0]
    table = np.tensordot(penalty, weights, axes=2)
    means = table.mean(axis=(1, 2))
    mean = float((weights * truth).sum())
    assert means.mean() == pytest.approx(mean, abs=5 * regime.relative_error * mean / np.sqrt(4000))
    by_seed = table.mean(axis=2).var(axis=1, ddof=1).mean() / 3
    expected = regime.seed_share / (1 - regime.residual_share)
    assert by_seed / means.var() == pytest.approx(expected, abs=0.06)


def test_truths_follow_their_family() -> None:
    for family in CURVES:
        matrix = true_penalty(6, family=family, level=0.2, shape=1.5, asymmetry=2.0)
        assert (np.diagonal(matrix) == 0).all()
        assert matrix[0, 3] == pytest.approx(2 * matrix[3, 0])
    assert true_penalty(4, family="power", level=0.2, shape=0.5)[0, 1] == pytest.approx(0.2)
    assert true_penalty(4, family="saturating", level=0.2, shape=1.5)[2, 0] == pytest.approx(
        0.2 * (1 - np.exp(-2 / 1.5))
    )
    uneven = true_penalty(4, layer_effect=0.5, rng=1)
    assert len(np.unique(np.round(uneven[~np.eye(4, dtype=bool)], 9))) > 3


def test_grid_recovers_its_truth() -> None:
    made = simulate_grid(true_penalty(4), n_seeds=40, n_units=200, n_null=30, null_share=0.5, rng=5)
    data = made.grid.datasets[0]
    mean = data.penalty("kl").mean(axis=(0, 1))
    np.testing.assert_allclose(mean, made.penalty, rtol=0.25, atol=1e-12)
    np.testing.assert_allclose(data.null.penalty("kl").mean(axis=(0, 1)), made.null_penalty, rtol=0.25, atol=1e-12)
    own = np.diagonal(data.losses["kl"], axis1=2, axis2=3)
    shared = (data.readouts["shared"]["kl"] - own).mean(axis=(0, 1))
    np.testing.assert_allclose(shared, made.shared_excess, rtol=0.1)
    assert (own.mean(axis=(0, 1))[1:] < own.mean(axis=(0, 1))[:-1]).all()
    assert (data.penalty("ce") < 0).any()


def test_same_seed_same_grid() -> None:
    one, other, third = (simulate_grid(rng=seed).grid.datasets[0].losses["kl"] for seed in (1, 1, 2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, third)


def test_questions_that_cannot_be_simulated() -> None:
    with pytest.raises(DesignError, match="unknown regime 'wild'"):
        find_regime("wild")
    with pytest.raises(DesignError, match="shares must be"):
        Regime("much", 0.99)
    with pytest.raises(DesignError, match="unknown shape"):
        Regime("odd", 0.5, unit_shape="cauchy")
    with pytest.raises(DesignError, match="unknown family"):
        true_penalty(4, family="cubic")
    with pytest.raises(DesignError, match="0 everywhere"):
        simulate_penalties(np.zeros((3, 3)), n_seeds=2, n_units=2)
    with pytest.raises(DesignError, match="at least 1 seed"):
        simulate_grid(n_seeds=0)
    with pytest.raises(DesignError, match="truth must be"):
        simulate_grid(np.zeros(3))


def test_c8_can_be_asked_of_a_simulated_grid() -> None:
    """The similarity is the one that C8 is about, falls with distance, and is no function of it."""
    grid = simulate_grid(true_penalty(6), n_seeds=2, n_units=5, datasets=("one", "two"), rng=3).grid
    for data in grid.datasets:
        similarity = grid.similarities[data.name]["covariance"]
        assert np.array_equal(similarity, similarity.T)
        assert np.array_equal(np.diag(similarity), np.ones(6))
        assert (np.diff(similarity[0]) < 0).all()
        assert len({round(float(value), 12) for value in np.diag(similarity, 1)}) == 5
    assert not np.array_equal(*(grid.similarities[name]["covariance"] for name in ("one", "two")))


def test_losses_do_not_depend_on_the_similarity_of_layers() -> None:
    """The sum of all losses as it always was: the similarity is drawn from a stream of its own."""
    grid = simulate_grid(n_seeds=2, n_units=5, n_null=2, rng=3).grid
    data = grid.datasets[0]
    assert data.null is not None
    assert float(data.losses["kl"].sum() + data.null.losses["kl"].sum()) == pytest.approx(
        608.2991517518461, rel=1e-12
    )

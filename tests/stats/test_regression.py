"""Regression by formula: exact linear influence, propagated shared excess, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from transferstats.errors import DataError, DesignError
from transferstats.grid import DatasetLosses, TransferGrid
from transferstats.results import COLUMNS
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.crossed import crossed_estimate
from transferstats.stats.influence import mean_penalty, penalties
from transferstats.stats.regression import (
    SharedRegression,
    _with_shared,
    cell_columns,
    model_matrix,
    regress,
    solver,
)

# Least squares by two routes; statsmodels uses a pseudo-inverse.
SAME = 1e-9
# Central differences in the shared excess.
DIFFERENCES = 1e-6


@pytest.fixture(scope="module")
def grid() -> TransferGrid:
    return simulate_grid(
        true_penalty(6, asymmetry=1.3), n_seeds=4, n_units=25, rng=5, datasets=("wiki", "code")
    ).grid


@pytest.mark.parametrize(
    "formula",
    [
        "penalty ~ distance",
        "penalty ~ log(distance) * direction + C(target)",
        "penalty ~ distance + covariance",
        "penalty ~ 0 + direction + depth + depth:distance",
        "penalty ~ distance + I(distance ** 2) + source",
    ],
)
def test_coefficients_are_least_squares(grid: TransferGrid, formula: str) -> None:
    fit = regress(formula, grid, dataset="wiki")
    frame = cell_columns(grid, grid.datasets[0], loss="kl")
    reference = smf.ols(formula.replace("log(", "np.log("), frame).fit()
    np.testing.assert_allclose(np.sort(fit.headline.estimate), np.sort(reference.params), rtol=SAME, atol=1e-10)
    if "0 +" not in formula:
        assert fit.r_squared[0] == pytest.approx(reference.rsquared, rel=1e-8)
    assert fit.n_cells == 30
    assert fit.n_columns == len(reference.params)


def test_interval_is_exact_for_a_slope(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    slope = crossed_estimate(data.losses["kl"], "slope", weights=data.tokens)
    row = regress("penalty ~ distance", grid, dataset="wiki").tidy().set_index("term").loc["distance"]
    for name in ("estimate", "std_error", "conf_low", "conf_high", "p_value"):
        assert row[name] == pytest.approx(float(getattr(slope, name)), rel=1e-9)


def test_influence_is_linear(grid: TransferGrid) -> None:
    """Seed variance equals the delete-one jackknife of separately fitted regressions."""
    formula = "penalty ~ log(distance) * direction"
    data = grid.datasets[0]
    fit = regress(formula, grid, dataset="wiki").headline
    coefficients = []
    for index in range(4):
        keep = [k for k in range(4) if k != index]
        part = replace(
            data, seeds=tuple(data.seeds[k] for k in keep), losses={"kl": data.losses["kl"][keep]}, readouts={}
        )
        coefficients.append(regress(formula, replace(grid, datasets=(part,))).headline.estimate)
    values = np.stack(coefficients)
    jackknife = 3 / 4 * np.square(values - values.mean(axis=0)).sum(axis=0)
    np.testing.assert_allclose(fit.seed_variance, jackknife, rtol=1e-10)


def test_average_over_datasets(grid: TransferGrid) -> None:
    fit = regress("penalty ~ distance", grid)
    assert [one.dataset for one in fit.estimates] == ["wiki", "code", "average"]
    np.testing.assert_allclose(
        fit["average"].estimate, (fit["wiki"].estimate + fit["code"].estimate) / 2, rtol=1e-12
    )
    expected = (fit["wiki"].parts.sum(axis=0) + fit["code"].parts.sum(axis=0)) / 4
    np.testing.assert_allclose(fit["average"].parts.sum(axis=0), expected, rtol=1e-12)
    table = fit.tidy()
    assert list(table.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert len(fit.glance()) == 1
    with pytest.raises(KeyError, match="no dataset"):
        fit["books"]


def test_distance_beyond_similarity(grid: TransferGrid) -> None:
    """A penalty made of similarity alone leaves nothing for distance."""
    size = 6
    similarity = np.random.default_rng(0).uniform(0, 1, (size, size))
    rng = np.random.default_rng(1)
    penalty = (1 - similarity) * ~np.eye(size, dtype=bool) * (1 + 0.05 * rng.standard_normal((4, 25, 1, 1)))
    data = replace(grid.datasets[0], losses={"kl": 1 + penalty}, readouts={})
    made = replace(grid, datasets=(data,), similarities={data.name: {"mean cosine": similarity}})
    rows = regress("penalty ~ distance + `mean cosine`", made).tidy().set_index("term")
    assert abs(rows.loc["distance", "estimate"]) < 1e-12
    cosine = rows.loc[[name for name in rows.index if "cosine" in name]].iloc[0]
    assert cosine["estimate"] == pytest.approx(-1, rel=0.05)


def test_shared_excess_is_propagated(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    fit = regress("penalty ~ distance + log(shared_excess + 5)", grid, dataset="wiki").headline
    frame = cell_columns(grid, data, loss="kl")
    reference = smf.ols("penalty ~ distance + np.log(shared_excess + 5)", frame).fit()
    np.testing.assert_allclose(fit.estimate, reference.params, rtol=1e-6)
    assert fit.n_seeds == 4
    assert np.isfinite(fit.conf_low).all()


def test_shared_excess_gradient(grid: TransferGrid) -> None:
    from formulaic import Formula

    data = grid.datasets[0]
    frame = cell_columns(grid, data, loss="kl")
    formula, target = Formula("distance + shared_excess"), frame["target"].to_numpy()
    names = model_matrix(formula, frame)[1]
    statistic = SharedRegression(
        names, lambda excess: model_matrix(formula, frame.assign(shared_excess=excess[target]))[0]
    )
    wide = _with_shared(data, "kl").losses["kl"]
    matrix = mean_penalty(penalties(wide), None)
    gradient = statistic.gradient(matrix)
    assert (gradient[:, :, -1] == 0).all()
    rng = np.random.default_rng(0)
    for _ in range(3):
        move = rng.standard_normal(matrix.shape)
        move[:, -1] = 0
        move[np.eye(7, dtype=bool)] = 0
        step = 1e-6
        numeric = (statistic(matrix + step * move) - statistic(matrix - step * move)) / (2 * step)
        np.testing.assert_allclose((gradient * move).sum(axis=(1, 2)), numeric, rtol=DIFFERENCES, atol=1e-7)


def test_clusters_and_tokens_reach_the_regression(grid: TransferGrid) -> None:
    data = grid.datasets[0]
    clustered = replace(data, clusters=tuple(f"book {i // 5}" for i in range(25)))
    fit = regress("penalty ~ distance", replace(grid, datasets=(clustered,))).headline
    assert fit.n_units == 5
    assert fit.estimate == pytest.approx(regress("penalty ~ distance", grid, dataset="wiki").headline.estimate)


@pytest.mark.parametrize("scale", [1e-12, 1e6])
def test_scales(grid: TransferGrid, scale: float) -> None:
    rng = np.random.default_rng(0)
    penalty = (true_penalty(6) + 0.01 * rng.standard_normal((3, 12, 6, 6))) * ~np.eye(6, dtype=bool)
    units = tuple(map(str, range(12)))

    def fitted(factor: float) -> pd.DataFrame:
        data = DatasetLosses("d", ("0", "1", "2"), units, units, np.ones(12), {"kl": factor * penalty})
        return regress("penalty ~ distance * direction", replace(grid, datasets=(data,), similarities={})).tidy()

    np.testing.assert_allclose(fitted(scale)["conf_high"], scale * fitted(1.0)["conf_high"], rtol=1e-8)


def test_constant_data_is_nan_with_a_reason(grid: TransferGrid) -> None:
    data = replace(grid.datasets[0], losses={"kl": np.ones((4, 25, 6, 6))}, readouts={})
    fit = regress("penalty ~ distance", replace(grid, datasets=(data,)))
    assert np.isnan(fit.headline.conf_low).all()
    assert "no variation" in fit.headline.note
    assert np.isnan(fit.r_squared[0])


@pytest.mark.parametrize(
    ("formula", "match"),
    [
        ("penalty ~ width", "no column width; it has: distance, direction"),
        ("log(penalty) ~ distance", "left side must be 'penalty'"),
        ("distance", "left side must be 'penalty'"),
        ("penalty ~ penalty", "cannot explain itself"),
        ("penalty ~ distance | direction", "one formula"),
        ("penalty ~ distance +", "cannot read"),
        ("penalty ~ distance + I(2 * distance)", "linear combinations of the others"),
        ("penalty ~ C(source) * C(target)", "columns cannot be estimated from 30 cells|linear combinations"),
        ("penalty ~ poly(distance, 9)", "linear combinations|cannot be evaluated|NaN"),
        ("penalty ~ distance.__class__", "double underscores"),
        ("penalty ~ 0", "no columns"),
    ],
)
def test_formulas_refused(grid: TransferGrid, formula: str, match: str) -> None:
    with pytest.raises((DesignError, DataError), match=match):
        regress(formula, grid, dataset="wiki")


def test_values_refused(grid: TransferGrid) -> None:
    with pytest.raises(DataError, match="logarithm of 0"):
        regress("penalty ~ log(source)", grid)
    with pytest.raises(DataError, match="no dataset"):
        regress("penalty ~ distance", grid, dataset="books")
    with pytest.raises(DesignError, match="conf_level"):
        regress("penalty ~ distance", grid, conf_level=1.5)


def test_two_layers(grid: TransferGrid) -> None:
    losses = np.random.default_rng(0).standard_normal((3, 12, 2, 2))
    units = tuple(map(str, range(12)))
    data = DatasetLosses("d", ("0", "1", "2"), units, units, np.ones(12), {"kl": losses})
    small = TransferGrid("s", ("0", "1"), (data,))
    with pytest.raises(DesignError, match="linear combinations"):
        regress("penalty ~ distance", small)
    assert regress("penalty ~ direction", small).n_cells == 2


def test_solver_survives_unequal_columns() -> None:
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(20), 1e9 * rng.standard_normal(20), 1e-9 * rng.standard_normal(20)])
    truth = np.array([1.0, 2e-9, 3e9])
    np.testing.assert_allclose(solver(design) @ (design @ truth), truth, rtol=1e-9)

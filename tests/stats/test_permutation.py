"""QAP against brute force, its symmetries, its resolution floor, and what it refuses."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from transferstats.errors import DataError, DesignError
from transferstats.simulation import simulate_grid, true_penalty
from transferstats.stats.permutation import order_test, qap

# Two routes to one least-squares fit.
SAME = 1e-10
# Monte-Carlo error of a p-value from 20,000 relabellings, four standard errors at p = .5.
MONTE_CARLO = 4 * math.sqrt(0.25 / 20_000)


def distance(size: int) -> np.ndarray:
    return np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)


def forward(size: int) -> np.ndarray:
    return np.triu(np.ones((size, size)), 1)


def slow_t(y: np.ndarray, columns: list[np.ndarray], index: int) -> float:
    """t value of one column by textbook least squares on the off-diagonal cells."""
    off = ~np.eye(len(y), dtype=bool)
    design = np.column_stack([np.ones(off.sum()), *(column[off] for column in columns)])
    beta, *_ = np.linalg.lstsq(design, y[off], rcond=None)
    residual = y[off] - design @ beta
    covariance = np.linalg.inv(design.T @ design) * (residual @ residual) / (off.sum() - design.shape[1])
    return float(beta[index + 1] / math.sqrt(covariance[index + 1, index + 1]))


def slow_residual(matrices: list[np.ndarray], index: int) -> np.ndarray:
    off = ~np.eye(len(matrices[0]), dtype=bool)
    rest = [np.ones(off.sum())] + [matrix[off] for other, matrix in enumerate(matrices) if other != index]
    design = np.column_stack(rest)
    beta, *_ = np.linalg.lstsq(design, matrices[index][off], rcond=None)
    residual = np.zeros_like(matrices[index])
    residual[off] = matrices[index][off] - design @ beta
    return residual


def slow_p(y: np.ndarray, matrices: list[np.ndarray], index: int, method: str) -> float:
    """Exact p by recomputing everything for every relabelling, with loops."""
    observed = abs(slow_t(y, matrices, index))
    residual = slow_residual(matrices, index)
    count = 0
    orders = list(itertools.permutations(range(len(y))))
    for order in orders:
        relabel = np.ix_(order, order)
        if method == "y":
            value = slow_t(y[relabel], matrices, index)
        else:
            columns = list(matrices)
            columns[index] = residual[relabel]
            value = slow_t(y, columns, index)
        count += abs(value) >= observed * (1 - 1e-7)
    return count / len(orders)


@given(seed=st.integers(0, 10_000), method=st.sampled_from(["dsp", "y"]), two=st.booleans())
@settings(max_examples=25, deadline=None)
def test_brute_force_on_three_layers(seed: int, method: str, two: bool) -> None:
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((3, 3))
    matrices = [rng.standard_normal((3, 3)), rng.standard_normal((3, 3))][: 2 if two else 1]
    result = qap(y, matrices, method=method)
    for index in range(len(matrices)):
        assert result.statistic[index] == pytest.approx(slow_t(y, matrices, index), rel=1e-7)
        assert result.p_value[index] == pytest.approx(slow_p(y, matrices, index, method), abs=SAME)
    assert result.n_permutations == 6


@pytest.mark.parametrize("method", ["dsp", "y"])
def test_brute_force_with_layer_order(method: str) -> None:
    rng = np.random.default_rng(3)
    y = 0.1 * distance(4) + 0.1 * rng.standard_normal((4, 4))
    matrices = [distance(4), forward(4), rng.standard_normal((4, 4))]
    result = qap(y, matrices, method=method)
    for index in range(3):
        assert result.p_value[index] == pytest.approx(slow_p(y, matrices, index, method), abs=SAME)


def test_mantel_is_a_correlation() -> None:
    rng = np.random.default_rng(0)
    y, off = rng.standard_normal((5, 5)), ~np.eye(5, dtype=bool)
    pearson = qap(y, distance(5), method="mantel")
    assert pearson.estimate[0] == pytest.approx(pearsonr(y[off], distance(5)[off])[0], rel=SAME)
    assert pearson.p_value[0] == qap(y, distance(5)).p_value[0]
    rank = qap(y, distance(5), method="mantel_rank")
    assert rank.estimate[0] == pytest.approx(spearmanr(y[off], distance(5)[off])[0], rel=SAME)


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_floor_is_reversal_symmetry(size: int) -> None:
    """|s - t| looks the same in reversed order, so two relabellings always tie: the floor is 2 / L!."""
    rng = np.random.default_rng(size)
    y = distance(size) + 1e-3 * rng.standard_normal((size, size))
    result = qap(y, distance(size))
    assert result.floor[0] == pytest.approx(2 / math.factorial(size), rel=1e-12)
    assert result.p_value[0] == pytest.approx(result.floor[0], rel=1e-12)
    # Direction changes sign under reversal: two ties two-sided, one one-sided.
    assert qap(y, forward(size)).floor[0] == pytest.approx(2 / math.factorial(size), rel=1e-12)
    one_sided = qap(y, forward(size), alternative="greater")
    assert one_sided.floor[0] == pytest.approx(1 / math.factorial(size), rel=1e-12)
    irregular = rng.standard_normal((size, size))
    assert qap(irregular, irregular).floor[0] == pytest.approx(1 / math.factorial(size), rel=1e-12)


def test_floor_bounds_every_p_value() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        result = qap(rng.standard_normal((4, 4)), {"distance": distance(4), "forward": forward(4)})
        assert (result.p_value >= result.floor - 1e-12).all()


def test_refuses_not_significant_below_its_resolution() -> None:
    result = qap(distance(4) + 0.01 * np.arange(16).reshape(4, 4), distance(4))
    assert result.verdicts(alpha=0.05)[0].startswith(
        "cannot tell: the smallest p-value that 4 layers allow is 0.0833"
    )
    assert result.verdicts(alpha=0.1)[0] == "tied to layer order"
    noise = qap(np.random.default_rng(1).standard_normal((6, 6)), distance(6))
    assert noise.verdicts()[0] == "not shown"
    assert "p cannot fall below" in result.tidy()["note"][0]
    assert "layer order beyond layer idiosyncrasy" in result.glance()["question"][0]


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-12, 1e6]), shift=st.floats(-3, 3))
@settings(max_examples=15, deadline=None)
def test_invariances(seed: int, scale: float, shift: float) -> None:
    """Units, an added constant and a common relabelling of everything change no p-value."""
    rng = np.random.default_rng(seed)
    y, other = rng.standard_normal((5, 5)), rng.standard_normal((5, 5))
    plain = qap(y, {"distance": distance(5), "other": other})
    moved = qap(scale * (y + shift), {"distance": 7 * distance(5) - 2, "other": other})
    np.testing.assert_allclose(moved.p_value, plain.p_value)
    order = rng.permutation(5)
    relabel = np.ix_(order, order)
    again = qap(y[relabel], {"distance": distance(5)[relabel], "other": other[relabel]})
    np.testing.assert_allclose(again.p_value, plain.p_value)
    np.testing.assert_allclose(again.statistic, plain.statistic, rtol=1e-8)


def test_alternatives_share_the_distribution() -> None:
    y = distance(5) + np.random.default_rng(0).standard_normal((5, 5))
    greater, less = (qap(y, distance(5), alternative=side) for side in ("greater", "less"))
    ties = np.mean(np.abs(greater.null[0] - greater.partial_correlation[0]) < 1e-9)
    assert greater.p_value[0] + less.p_value[0] == pytest.approx(1 + ties)


def test_random_relabellings() -> None:
    rng = np.random.default_rng(5)
    y = 0.2 * distance(6) + rng.standard_normal((6, 6))
    exact = qap(y, {"distance": distance(6), "forward": forward(6)})
    drawn = qap(y, {"distance": distance(6), "forward": forward(6)}, permutations=20_000, rng=1)
    np.testing.assert_allclose(drawn.p_value, exact.p_value, atol=MONTE_CARLO)
    again = qap(y, {"distance": distance(6), "forward": forward(6)}, permutations=20_000, rng=1)
    np.testing.assert_array_equal(drawn.null, again.null)


def test_p_of_random_relabellings_counts_the_observed_one() -> None:
    size = 10
    result = qap(distance(size), {"distance": distance(size) ** 1.01}, permutations=99, rng=0)
    assert result.p_value[0] == pytest.approx(1 / 100)
    assert result.floor[0] == pytest.approx(1 / 100)
    few = qap(distance(4) + np.arange(16).reshape(4, 4) * 1e-3, distance(4), permutations=9999, rng=0)
    assert few.floor[0] == pytest.approx(2 / 24)


def test_size_under_exchangeable_layers() -> None:
    """Under its own null the exact test keeps its level: p is super-uniform."""
    rng = np.random.default_rng(2)
    values = np.array([qap(rng.standard_normal((5, 5)), distance(5)).p_value[0] for _ in range(400)])
    assert (values <= 0.1).mean() < 0.1 + 3 * math.sqrt(0.09 / 400)
    assert (values <= 0.5).mean() == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 400))


def test_perfect_fit_has_no_t() -> None:
    result = qap(3 * distance(5) + 1, distance(5))
    assert np.isnan(result.statistic[0])
    assert result.estimate[0] == pytest.approx(3)
    assert result.partial_correlation[0] == pytest.approx(1)


def test_order_test_on_a_grid() -> None:
    grid = simulate_grid(true_penalty(6, asymmetry=1.5), n_seeds=3, n_units=30, rng=1, datasets=("a", "b")).grid
    found = order_test(grid, "a")
    assert (found.dataset, order_test(grid, "b").dataset) == ("a", "b")
    assert found.terms == ("distance", "forward")
    assert (found.p_value < 0.05).all()


@pytest.mark.parametrize(
    ("y", "predictors", "options", "error", "match"),
    [
        (np.zeros((2, 2)), np.ones((2, 2)), {}, DesignError, "nothing to relabel"),
        (np.ones((4, 4)), distance(4), {}, DataError, "y is constant"),
        (distance(4), np.ones((4, 4)), {}, DataError, "x1 is constant"),
        (np.full((4, 4), np.nan), distance(4), {}, DataError, "NaN"),
        (distance(4), distance(5), {}, DataError, "square matrix like the others"),
        (distance(4)[:3], distance(4), {}, DataError, "square"),
        (forward(5) + distance(5), [distance(5), 2 * distance(5) + 1], {}, DesignError, "linear combination"),
        (forward(3) + distance(3), np.eye(9)[:6].reshape(6, 3, 3), {}, DataError, "constant"),
        (distance(9), distance(9), {}, DesignError, "too many to enumerate"),
        (distance(9), distance(9), {"permutations": 99}, DesignError, "explicit rng"),
        (distance(4), distance(4), {"permutations": 0, "rng": 1}, DesignError, "positive number"),
        (distance(4), distance(4), {"method": "cug"}, DesignError, "unknown method"),
        (distance(4), distance(4), {"alternative": "up"}, DesignError, "unknown alternative"),
        (forward(4), [distance(4), forward(4)], {"method": "mantel"}, DesignError, "one predictor"),
        (forward(4), {}, {}, DesignError, "at least one"),
    ],
)
def test_refusals(y: np.ndarray, predictors: object, options: dict, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        qap(y, predictors, **options)  # type: ignore[arg-type]


def test_more_predictors_than_cells() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DesignError, match="6 cells cannot carry 5 predictors"):
        qap(rng.standard_normal((3, 3)), list(rng.standard_normal((5, 3, 3))))

"""Named statistics against their definitions; gradients of the others against exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from transferstats.errors import DataError, DesignError
from transferstats.stats.statistics import NAMES, as_statistic, linear_statistic, named_statistic

L = 5
# Central differences with the cube root of epsilon lose a third of the digits twice.
DIFFERENCE_TOLERANCE = 1e-8


@pytest.fixture
def penalty() -> np.ndarray:
    matrix = np.random.default_rng(3).uniform(0.1, 1.0, size=(L, L))
    np.fill_diagonal(matrix, 0.0)
    return matrix


def definitions(matrix: np.ndarray) -> dict[str, np.ndarray]:
    rows, columns = np.indices(matrix.shape)
    off, distance = rows != columns, np.abs(rows - columns)
    forward, backward = matrix[columns > rows].mean(), matrix[columns < rows].mean()
    return {
        "mean": matrix[off].mean(),
        "forward": forward,
        "backward": backward,
        "asymmetry": forward - backward,
        "ratio": backward / forward,
        "slope": scipy_stats.linregress(distance[off], matrix[off]).slope,
        "distance": np.array([matrix[distance == d].mean() for d in range(1, L)]),
        "cells": matrix[off],
        "source": np.array([matrix[s][off[s]].mean() for s in range(L)]),
        "target": np.array([matrix[:, t][off[:, t]].mean() for t in range(L)]),
    }


@pytest.mark.parametrize("name", NAMES)
def test_named_statistic_is_its_definition(name: str, penalty: np.ndarray) -> None:
    expected = definitions(penalty)[name]
    statistic = named_statistic(name)
    values = statistic.batch(penalty[None])[0]
    np.testing.assert_allclose(values, np.atleast_1d(expected), rtol=1e-13)
    assert len(statistic.terms(L)) == len(values)
    assert bool(statistic.scalar) == (np.ndim(expected) == 0)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_the_derivative(name: str, penalty: np.ndarray) -> None:
    statistic = named_statistic(name)
    by_differences = as_statistic(lambda matrix: statistic.batch(matrix[None])[0]).gradient(penalty)
    np.testing.assert_allclose(statistic.gradient(penalty), by_differences, atol=DIFFERENCE_TOLERANCE)


def test_terms_name_layers_and_distances() -> None:
    assert named_statistic("cells").terms(3) == ("0->1", "0->2", "1->0", "1->2", "2->0", "2->1")
    assert named_statistic("distance").terms(4) == ("distance 1", "distance 2", "distance 3")
    assert named_statistic("source").terms(2) == ("source 0", "source 1")


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_central_differences_at_any_scale(scale: float, penalty: np.ndarray) -> None:
    gradient = as_statistic(lambda matrix: np.log(matrix[0, 1] / matrix[2, 0])).gradient(scale * penalty)[0]
    expected = np.zeros((L, L))
    expected[0, 1], expected[2, 0] = 1 / penalty[0, 1] / scale, -1 / penalty[2, 0] / scale
    np.testing.assert_allclose(gradient * scale, expected * scale, rtol=1e-7, atol=1e-9)


def test_own_distance_changes_slope_and_groups(penalty: np.ndarray) -> None:
    depth = named_statistic("slope", distance="depth").batch(penalty[None])
    np.testing.assert_allclose(depth, (L - 1) * named_statistic("slope").batch(penalty[None]), rtol=1e-12)
    grouped = 1.0 + (np.add.outer(np.arange(L), np.arange(L)) % 2)
    assert named_statistic("distance", distance=grouped).terms(L) == ("distance 1", "distance 2")
    assert named_statistic("slope").unit("nats/token") == "nats/token per layer"


def test_exact_gradient_of_an_object_is_used(penalty: np.ndarray) -> None:
    class Claimed:
        name = "claimed"

        def __call__(self, matrix: np.ndarray) -> float:
            return float(matrix[0, 1])

        def gradient(self, matrix: np.ndarray) -> np.ndarray:
            return np.full(matrix.shape, 7.0)

    gradient = as_statistic(Claimed()).gradient(penalty)
    assert (gradient[0][~np.eye(L, dtype=bool)] == 7.0).all()
    assert (np.diagonal(gradient[0]) == 0).all()


def test_own_weights_drop_the_diagonal(penalty: np.ndarray) -> None:
    statistic = linear_statistic(np.ones((L, L)), name="total")
    assert float(statistic(penalty)) == pytest.approx(penalty.sum())
    assert (np.diagonal(statistic.weights(L)[0]) == 0).all()


def test_statistics_that_cannot_work_say_so(penalty: np.ndarray) -> None:
    with pytest.raises(DesignError, match="unknown statistic 'median'"):
        named_statistic("median")
    with pytest.raises(DesignError, match="at least 2 different distances"):
        named_statistic("slope").gradient(np.zeros((2, 2)))
    with pytest.raises(DesignError, match="a name or a function"):
        as_statistic(3)  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="for 5 layers, the losses have 4"):
        linear_statistic(np.ones((5, 5))).terms(4)
    with pytest.raises(DataError, match="not numbers"):
        as_statistic(lambda matrix: "many").batch(penalty[None])
    sizes = iter([1, 2] * 100)
    with pytest.raises(DataError, match="same number of values"):
        as_statistic(lambda matrix: np.ones(next(sizes))).gradient(penalty)
    with pytest.raises(DataError, match="a number or a vector"):
        as_statistic(lambda matrix: matrix).batch(penalty[None])

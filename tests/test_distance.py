"""Distances and masks: rows are sources, columns are targets."""

from __future__ import annotations

import numpy as np
import pytest

from transferstats.distance import check_distance, forward_mask, layer_distance, off_diagonal
from transferstats.errors import DataError, DesignError


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

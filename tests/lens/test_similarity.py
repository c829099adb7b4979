"""Layer similarities against their definitions."""

from __future__ import annotations

import numpy as np
import torch

from transferstats.lens import similarity
from transferstats.lens.similarity import MEASURES, layer_similarities

TOLERANCE = 1e-9  # float64 sums of float32 states


def make_hidden(layers: int = 3, rows: int = 500, width: int = 7) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    first = torch.randn(1, rows, width, generator=draw)
    return first + torch.randn(layers, rows, width, generator=draw) * torch.arange(layers)[:, None, None] + 2.0


def test_similarities_follow_their_definitions() -> None:
    hidden = make_hidden()
    found = layer_similarities(hidden)
    assert tuple(found) == MEASURES
    one, two = hidden[0].double().numpy(), hidden[2].double().numpy()
    centred = [x - x.mean(0) for x in (one, two)]
    cov = [x.T @ x for x in centred]
    cross = centred[0].T @ centred[1]
    norm = np.linalg.norm
    wanted = {
        "covariance": (cov[0] * cov[1]).sum() / norm(cov[0]) / norm(cov[1]),
        "cka": norm(cross) ** 2 / norm(cov[0]) / norm(cov[1]),
        "cosine": ((one * two).sum(1) / norm(one, axis=1) / norm(two, axis=1)).mean(),
        "norm_ratio": norm(one, axis=1).mean() / norm(two, axis=1).mean(),
    }
    for measure, value in wanted.items():
        tolerance = 1e-6 if measure == "cosine" else TOLERANCE  # cosines are taken in float32
        assert abs(found[measure][0, 2] - value) < tolerance * 10, measure


def test_every_measure_is_symmetric_with_ones_on_the_diagonal_and_at_most_one() -> None:
    for matrix in layer_similarities(make_hidden()).values():
        assert np.array_equal(matrix, matrix.T)
        assert np.array_equal(np.diagonal(matrix), np.ones(3))
        assert matrix.max() <= 1 + TOLERANCE


def test_equal_layers_are_equally_similar_and_rotations_do_not_change_cka() -> None:
    hidden = make_hidden(2)
    same = layer_similarities(hidden[:1].repeat(2, 1, 1))
    assert all(abs(matrix[0, 1] - 1) < 1e-6 for matrix in same.values())
    turn = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1)))[0]
    turned = torch.stack([hidden[0], hidden[1] @ turn])
    assert abs(layer_similarities(turned)["cka"][0, 1] - layer_similarities(hidden)["cka"][0, 1]) < 1e-6


def test_long_tables_are_summed_in_pieces() -> None:
    """Above 4096 rows the products are taken piece by piece; nothing else changes."""
    hidden = make_hidden(rows=5000)
    whole = similarity._product(hidden[0], hidden[1], *(x.double().mean(0) for x in hidden[:2]))
    one, two = (x.double() - x.double().mean(0) for x in hidden[:2])
    assert torch.allclose(whole, one.T @ two, rtol=1e-9, atol=1e-6)

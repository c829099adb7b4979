"""Alignment: widths that differ are padded or turned, by maps that only training units decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.stats import ortho_group

from transferstats.errors import DesignError
from transferstats.lens.alignment import aligned_states, common_width, padded, procrustes_map
from transferstats.lens.states import States

EXACT = 1e-10  # float64 arithmetic on numbers of size 1
TIED = 1e-4  # the pull towards the identity where the data decide: TIE, times the condition of the problem


def states(n_rows: int = 60, width: int = 6, seed: int = 0) -> States:
    """Two layers; the first sees only half of the common width."""
    rng = torch.Generator().manual_seed(seed)
    final = torch.randn(n_rows, width, generator=rng)
    hidden = torch.stack([0.1 * torch.randn(n_rows, width, generator=rng) + final.roll(k, 1) for k in (1, 2)])
    hidden[0, :, width // 2 :] = 0
    rows = torch.arange(n_rows)
    return States(hidden, final, rows % 3, rows, tuple(map(str, range(n_rows))))


def test_the_map_is_orthogonal_and_that_of_scipy_where_the_data_decide() -> None:
    rng = np.random.default_rng(0)
    hidden, final = rng.normal(size=(80, 5)) + 3, rng.normal(size=(80, 5)) - 1
    turn, share = procrustes_map(hidden, final)
    reference, _ = orthogonal_procrustes(hidden - hidden.mean(0), final - final.mean(0))
    assert np.abs(turn.T @ turn - np.eye(5)).max() < EXACT
    assert np.abs(turn - reference).max() < TIED
    assert 0 <= share <= 1


def test_a_rotation_is_undone_whatever_its_offset_and_scale() -> None:
    rng = np.random.default_rng(1)
    final = rng.normal(size=(50, 4))
    rotation = ortho_group.rvs(4, random_state=2)
    turn, share = procrustes_map(3 * final @ rotation.T + 7, final)
    assert np.abs(turn - rotation).max() < TIED
    assert abs(share - 1) < TIED


def test_where_the_states_are_silent_the_map_is_the_nearest_to_the_identity() -> None:
    """Two of five dimensions on both sides: the other three stay where they are, not where LAPACK puts them."""
    rng = np.random.default_rng(3)
    hidden, final = np.zeros((2, 40, 5))
    hidden[:, :2], final[:, :2] = rng.normal(size=(2, 40, 2))
    turn, _ = procrustes_map(hidden, final)
    assert np.abs(turn[2:, 2:] - np.eye(3)).max() < TIED
    np.testing.assert_allclose(procrustes_map(np.ones((9, 3)), np.ones((9, 3)))[0], np.eye(3))


def test_only_training_units_decide() -> None:
    """Whatever is held out or scored: the same map; and it is applied to these as well."""
    train, held_out = states(seed=0), states(seed=1)
    shifted = replace(held_out, hidden=held_out.hidden * 5 + 1, final=-held_out.final)
    first, record = aligned_states("procrustes", [train, held_out])
    second, again = aligned_states("procrustes", [train, shifted])
    assert record == again
    assert record is not None
    assert record["rows"] == 60
    assert torch.equal(first[0].hidden, second[0].hidden)
    for layer in range(2):
        turn, _ = procrustes_map(train.hidden[layer].double().numpy(), train.final.double().numpy())
        expected = held_out.hidden[layer] @ torch.as_tensor(turn).float()
        torch.testing.assert_close(first[1].hidden[layer], expected)
    other, _ = aligned_states("procrustes", [held_out, train])
    assert not torch.allclose(other[1].hidden, first[0].hidden)


def test_turned_states_keep_their_geometry() -> None:
    before = states()
    (after,), _ = aligned_states("procrustes", [before])
    for old, new in zip(before.hidden, after.hidden, strict=True):
        torch.testing.assert_close(torch.pdist(old), torch.pdist(new), atol=1e-5, rtol=1e-5)
    assert torch.equal(after.final, before.final)


@pytest.mark.parametrize("alignment", [None, "none", "pad"])
def test_nothing_else_touches_states(alignment: str | None) -> None:
    before = states()
    (after,), record = aligned_states(alignment, [before])
    assert after is before
    assert (record is None) == (alignment is None)


def test_widths() -> None:
    assert common_width("none", [8, 8], 8) == 8
    assert common_width("pad", [8, 16], 12) == 16
    assert common_width("procrustes", [8, 8], 12) == 12
    with pytest.raises(DesignError, match=r"layers are 8, 16 wide and the final state 16.*alignment='pad'"):
        common_width("none", [8, 16], 16)
    with pytest.raises(DesignError, match="unknown alignment 'cca'"):
        common_width("cca", [8], 8)
    assert padded(torch.ones(2, 3), 5).tolist() == [[1, 1, 1, 0, 0]] * 2

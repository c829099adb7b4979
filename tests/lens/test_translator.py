"""Affine maps, their moments, and ridge against scikit-learn and the closed form."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from transferstats.lens import translator
from transferstats.lens.translator import Moments, Translators, effective_dimension, moments, ridge

RIDGE_TOLERANCE = 1e-5  # the solution is rounded to float32 once
MOMENT_TOLERANCE = 1e-10  # float64 sums of float32 numbers of size 1 to 100


def data(n_maps: int = 2, rows: int = 500, width: int = 6, rng: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs with correlations, offsets and one outlier dimension, and final states that follow them."""
    draw = torch.Generator().manual_seed(rng)
    mix = torch.randn(n_maps, width, width, generator=draw)
    hidden = torch.randn(n_maps, rows, width, generator=draw) @ mix + 3 * torch.randn(
        n_maps, 1, width, generator=draw
    )
    hidden[..., 2] = hidden[..., 2] * 40 + 100
    final = hidden[0] @ torch.randn(width, width, generator=draw) * 0.1 + torch.randn(rows, width, generator=draw)
    return hidden, final[None]


def random_prior(n_maps: int, width: int) -> Translators:
    draw = torch.Generator().manual_seed(8)
    return Translators(
        0.2 * torch.randn(n_maps, width, width, generator=draw), torch.randn(n_maps, width, generator=draw)
    )


def test_apply_is_h_plus_ah_plus_b() -> None:
    hidden, _ = data()
    lenses = random_prior(2, 6)
    for one in range(2):
        wanted = hidden[one] + hidden[one] @ lenses.weight[one].T + lenses.bias[one]
        assert torch.allclose(lenses.apply(hidden)[one], wanted, atol=1e-4, rtol=1e-6)
        assert torch.allclose(lenses.map(one).apply(hidden[one : one + 1])[0], wanted, atol=1e-4, rtol=1e-6)
    assert torch.allclose(lenses.apply_all(hidden[0])[1], lenses.map(1).apply(hidden[:1])[0], atol=1e-4, rtol=1e-6)
    assert torch.equal(Translators.identity(2, 6).apply(hidden), hidden)


def test_repeating_a_map_copies_it() -> None:
    one = random_prior(1, 4)
    many = one.repeat(3)
    many.weight[0] += 1
    assert torch.equal(many.weight[1], one.weight[0])
    assert torch.equal(many.bias[2], one.bias[0])


def test_moments_are_means_and_covariances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator, "ROWS", 64)  # chunks must not show
    hidden, final = data()
    stats = moments(hidden, final)
    for one in range(2):
        h = hidden[one].double()
        r = final[0].double()
        centred = h - h.mean(0)
        scale = float(h.abs().max()) ** 2
        assert (stats.mean[one] - h.mean(0)).abs().max() < MOMENT_TOLERANCE * scale
        assert (stats.covariance[one] - centred.T @ centred / len(h)).abs().max() < MOMENT_TOLERANCE * scale
        assert (stats.cross[one] - (r - r.mean(0)).T @ centred / len(h)).abs().max() < MOMENT_TOLERANCE * scale


def test_stacked_rows_meet_their_own_final_state() -> None:
    """The shared lens: the rows of all layers one after the other, over the same final states."""
    hidden, final = data(n_maps=3)
    stacked = moments(hidden.reshape(1, -1, 6), final)
    repeated = moments(hidden.reshape(1, -1, 6), final.repeat(1, 3, 1))
    for name in Moments.__slots__:
        assert torch.equal(getattr(stacked, name), getattr(repeated, name)), name
        pooled = getattr(moments(hidden, final).stacked(), name)
        assert torch.allclose(pooled, getattr(stacked, name), rtol=1e-9, atol=1e-6), name  # of values of 1e4


@pytest.mark.parametrize("strength", [1e-4, 1e-2, 1.0])
def test_ridge_equals_scikit_learn_on_standardised_inputs(strength: float) -> None:
    """sklearn penalises the sum over rows; ours the mean: alpha = rows x strength."""
    hidden, final = data()
    lens = ridge(moments(hidden, final), Translators.identity(2, 6), strength)
    for one in range(2):
        h = hidden[one].double()
        scale = h.std(0, correction=0)
        model = Ridge(alpha=strength * len(h)).fit(
            ((h - h.mean(0)) / scale).numpy(), (final[0] - hidden[one]).numpy()
        )
        wanted = torch.tensor(model.coef_) / scale
        assert (lens.weight[one] - wanted).abs().max() < RIDGE_TOLERANCE
        predicted = torch.tensor(model.predict(((h - h.mean(0)) / scale).numpy()))
        assert (
            lens.apply(hidden)[one] - hidden[one] - predicted
        ).abs().max() < 1e-3  # bias of size 100 in float32


def test_ridge_shrinks_to_the_prior() -> None:
    hidden, final = data()
    prior = random_prior(2, 6)
    strong = ridge(moments(hidden, final), prior, 1e9)
    assert (strong.weight - prior.weight).abs().max() < 1e-6


def test_ridge_does_not_depend_on_the_units_of_a_dimension() -> None:
    hidden, final = data()
    units = torch.tensor([1.0, 1e-3, 10.0, 1.0, 1e3, 1.0])
    zero = Translators(-torch.eye(6).repeat(2, 1, 1), torch.zeros(2, 6))  # predicts 0 in any units
    one = ridge(moments(hidden, final), zero, 0.1).apply(hidden)
    other = ridge(moments(hidden * units, final), zero, 0.1).apply(hidden * units)
    assert (one - other).abs().max() < 1e-3


@pytest.mark.parametrize("noise", [0.0, 1e-7], ids=["exactly", "up to rounding"])
@pytest.mark.parametrize("value", [0.0, 7.0, -1234.5])
def test_a_constant_dimension_is_left_alone(value: float, noise: float) -> None:
    """It is silent: a weight on it would ruin the lens on every layer where the dimension moves."""
    hidden, final = data()
    draw = torch.Generator().manual_seed(1)
    hidden[..., 4] = value * (1 + noise * torch.randn(hidden.shape[:2], generator=draw))
    lens = ridge(moments(hidden, final), Translators.identity(2, 6), 1e-3)
    assert bool(lens.weight.isfinite().all())
    largest = lens.weight[..., [0, 1, 3, 5]].abs().max()
    assert lens.weight[..., 4].abs().max() < (1e-6 if noise == 0 else 0.1 * largest)


def test_covariance_keeps_its_digits_far_from_zero() -> None:
    """Offsets of 1e4 spreads, as outlier dimensions have."""
    hidden, final = data()
    shifted = (hidden + 4096.0) - 4096.0  # what float32 keeps of the states after the shift
    one = moments(shifted, final).covariance
    other = moments(shifted + 4096.0, final).covariance
    assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def of_covariance(covariance: Tensor) -> Moments:
    """Moments of inputs (G, d, d) around a mean of one."""
    maps, width, _ = covariance.shape
    mean = torch.ones(maps, width, dtype=torch.float64)
    return Moments(mean, covariance.double(), mean, torch.zeros_like(covariance).double())


def test_independent_dimensions_all_count_whatever_their_size() -> None:
    sizes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1e-3, 1.0, 30.0, 400.0]])
    found = effective_dimension(of_covariance(torch.diag_embed(sizes**2)))
    assert torch.allclose(found, torch.tensor([4.0, 4.0], dtype=torch.float64))


def test_dimensions_that_move_together_count_as_one() -> None:
    direction = torch.tensor([[1.0, -2.0, 0.5, 40.0]])
    found = effective_dimension(of_covariance(direction[:, :, None] * direction[:, None, :]))
    assert torch.allclose(found, torch.ones(1, dtype=torch.float64))


def test_a_silent_dimension_does_not_count() -> None:
    """One that is constant, and one that moves by the rounding of its mean."""
    found = effective_dimension(of_covariance(torch.diag(torch.tensor([1.0, 4.0, 0.0, 1e-16]))[None]))
    assert torch.allclose(found, torch.full((1,), 2.0, dtype=torch.float64))
    assert torch.equal(effective_dimension(of_covariance(torch.zeros(1, 3, 3))), torch.zeros(1).double())

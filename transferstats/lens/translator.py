"""Translators: affine maps from the state of one layer to the final state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Translators:
    """G affine maps in residual form, ``z_hat = h + A h + b``.

    Attributes
    ----------
    weight: (G, d, d) float32, A of each map. bias: (G, d) float32, b of each map.
    """

    weight: Tensor
    bias: Tensor

    @staticmethod
    def identity(n_maps: int, width: int, device: torch.device | str = "cpu") -> Translators:
        """Maps that pass the state on unchanged: the logit lens."""
        return Translators(
            torch.zeros(n_maps, width, width, device=device), torch.zeros(n_maps, width, device=device)
        )

    def __len__(self) -> int:
        return self.weight.shape[0]

    def apply(self, hidden: Tensor) -> Tensor:
        """(G, n, d) states, one set a map -> (G, n, d) predicted final states."""
        return hidden + torch.baddbmm(self.bias[:, None], hidden, self.weight.mT)

    def apply_all(self, state: Tensor) -> Tensor:
        """(n, d) states of one layer -> (G, n, d), every map applied to the same states."""
        return self.apply(state[None].expand(len(self), -1, -1))

    def map(self, index: int) -> Translators:
        """One of the maps, still batched (G = 1)."""
        return Translators(self.weight[index : index + 1], self.bias[index : index + 1])

    def chosen(self, which: Tensor) -> Translators:
        """Some of the maps, by mask or index."""
        return Translators(self.weight[which], self.bias[which])

    def replaced(self, index: Tensor, others: Translators) -> Translators:
        """The same maps with those at ``index`` replaced by ``others``."""
        weight, bias = self.weight.clone(), self.bias.clone()
        weight[index], bias[index] = others.weight, others.bias
        return Translators(weight, bias)

    def repeat(self, n_maps: int) -> Translators:
        """A single map repeated, e.g. the shared lens as prior of every own lens."""
        return Translators(self.weight.expand(n_maps, -1, -1).clone(), self.bias.expand(n_maps, -1).clone())


@dataclass(frozen=True, slots=True)
class Moments:
    """Means and covariances of the inputs of G maps and of the final states z that they predict.

    All float64. mean: (G, d). covariance: (G, d, d). final_mean: (G, d).
    cross: (G, d, d), E[(z - zbar)(h - hbar)^T].
    """

    mean: Tensor
    covariance: Tensor
    final_mean: Tensor
    cross: Tensor

    def stacked(self) -> Moments:
        """Those of a single map whose inputs are the rows of all maps, equally many of each."""
        mean, final_mean = self.mean.mean(0, keepdim=True), self.final_mean.mean(0, keepdim=True)
        shift, final_shift = self.mean - mean, self.final_mean - final_mean
        between = shift[:, :, None] * shift[:, None, :]
        final_between = final_shift[:, :, None] * shift[:, None, :]
        return Moments(
            mean,
            (self.covariance + between).mean(0, keepdim=True),
            final_mean,
            (self.cross + final_between).mean(0, keepdim=True),
        )


ROWS = 8192  # rows promoted to float64 at a time


def moments(hidden: Tensor, final: Tensor) -> Moments:
    """Moments of (G, m, d) inputs; row j of ``hidden`` belongs to row ``j % n`` of ``final`` (1 or G, n, d)."""
    n_maps, n_rows, width = hidden.shape
    h_sum = torch.zeros(n_maps, width, dtype=torch.float64, device=hidden.device)
    hh = torch.zeros(n_maps, width, width, dtype=torch.float64, device=hidden.device)
    z_sum, zh = torch.zeros_like(h_sum), torch.zeros_like(hh)
    # Sums are taken about a point among the data: E[h h] - mean mean would leave the rounding of mean^2 as the
    # variance of a dimension that is constant, and ridge would then make a regressor of it.
    centre, final_centre = hidden[:, :ROWS].double().mean(1), final[:, :ROWS].double().mean(1)
    for start in range(0, n_rows, ROWS):
        h = hidden[:, start : start + ROWS].double() - centre[:, None]
        index = torch.arange(start, start + h.shape[1], device=hidden.device) % final.shape[1]
        z = final[:, index].double() - final_centre[:, None]
        h_sum += h.sum(1)
        z_sum += z.sum(1)
        hh += h.mT @ h
        zh += z.mT @ h
    shift, final_shift = h_sum / n_rows, z_sum / n_rows
    return Moments(
        centre + shift,
        hh / n_rows - shift[:, :, None] * shift[:, None, :],
        final_centre + final_shift,
        zh / n_rows - final_shift[:, :, None] * shift[:, None, :],
    )


def inverse_scale(stats: Moments) -> Tensor:
    """(G, d) one over the standard deviation of each input dimension; 0 for a silent one.

    A dimension that is constant up to the rounding of float32 is silent: scaled to unit variance it would become a
    regressor of pure noise, with weights that ruin the lens on every layer where the dimension moves.
    """
    deviation = stats.covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    return torch.where(deviation > RESOLUTION * stats.mean.abs(), 1 / deviation, 0.0)


def effective_dimension(stats: Moments) -> Tensor:
    """(G,) effective dimension of the inputs, (tr C)^2 / tr(C^2) with C the correlations of their dimensions.

    Between 1 (all dimensions move together) and d; the participation ratio of the eigenvalues, after scaling, so
    that an outlier dimension does not hide the others.
    """
    scaling = inverse_scale(stats)
    correlation = stats.covariance * scaling[:, :, None] * scaling[:, None, :]
    trace = correlation.diagonal(dim1=1, dim2=2).sum(-1)
    return trace**2 / correlation.square().sum((1, 2)).clamp_min(torch.finfo(torch.float64).tiny)


RESOLUTION = 1e-6  # of the mean; float32 states round at 6e-8 of theirs


def damped_factor(matrix: Tensor, damping: Tensor) -> Tensor:
    """(G, d, d) Cholesky factors of symmetric matrices (G, d, d) with ``damping`` (G,) added to their diagonals.

    Not by LU, which is twice the work, and which on one Intel processor never returned from torch 2.13 when two
    threads factorised three matrices of 576 rows.
    """
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    factor: Tensor = torch.linalg.cholesky(matrix + damping[:, None, None] * eye)
    return factor


def ridge(stats: Moments, prior: Translators, strength: float) -> Translators:
    """Ridge to the final state, shrunk towards ``prior`` where the data are silent.

    Inputs are standardised first, so that an outlier dimension does not set the scale of the penalty.
    ``strength``: lambda in units of the variance of a standardised input.
    """
    scaling = inverse_scale(stats)
    standard = stats.covariance * scaling[:, :, None] * scaling[:, None, :]
    eye = torch.eye(scaling.shape[1], dtype=torch.float64, device=scaling.device)
    factor = damped_factor(standard, torch.full_like(scaling[:, 0], strength))
    # The target is what the prior leaves of the final state: r = z - h - A h - b.
    carried = prior.weight.double() + eye
    cross = stats.cross - carried @ stats.covariance
    residual_mean = stats.final_mean - (carried @ stats.mean[:, :, None]).squeeze(-1) - prior.bias.double()
    solved = torch.cholesky_solve((cross * scaling[:, None, :]).mT, factor).mT
    extra = solved * scaling[:, None, :]
    bias = residual_mean - (extra @ stats.mean[:, :, None]).squeeze(-1)
    return Translators(prior.weight + extra.float(), prior.bias + bias.float())

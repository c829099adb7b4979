"""How large natural steps are: one rule, from what is measured at the start of a descent.

Natural steps are preconditioned on both sides: by the inverse (ridged) covariance of the inputs and by the inverse
Fisher information of the outputs (K-FAC, Martens & Grosse 2015, doi 10.48550/arXiv.1503.05671). Such steps are
invariant to rotations of the state, so directions in which the data are silent stay where the prior put them;
elementwise optimisers move them, and a lens that was moved there fails on every other layer.

A step of size eta along the natural gradient of B rows scatters the lens by eta^2 / (2 B) times the *noise* in kl:
the mean over rows of the squared length of the natural gradient of one row, in the metric of kl. It holds all that
decides what size is safe: rows a step, the effective dimensions of inputs and outputs, their kurtosis, and the
curvature. So the size is

    eta = min(MOST, share * B * kl / noise)

with one ``share``, and from some step on falls with the square root of their number: what a step scatters stays a
small part of what is still to be learnt. Rates that had been found by hand at widths of 128 and 576, where they
differed by a factor of ten and more, agree with shares between .08 and .28.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from transferstats.lens.head import Head, Targets, draw_outputs, kl_gradient
from transferstats.lens.translator import Moments, damped_factor, inverse_scale

FLOOR = 1e-150  # what is silent, or already right, divides nothing by 0
MOST = 1.0  # of a natural step, whatever its rows: to the minimum, were curvature what was measured
ROWS = 1024  # measured before the first step


@dataclass(frozen=True, slots=True)
class StepScale:
    """What natural steps of G lenses are made with.

    input_inverse, output_inverse: (G, d, d) float32 preconditioners. noise: (G,) float64, noise of one row as a
    multiple of the kl of the start.
    """

    input_inverse: Tensor
    output_inverse: Tensor
    noise: Tensor

    def size(self, rows: int, share: float) -> Tensor:
        """(G,) float32 size of steps of so many rows, without its upper end."""
        return (share * rows / self.noise).float()

    def chosen(self, which: Tensor) -> StepScale:
        """Of some of the lenses."""
        return StepScale(self.input_inverse[which], self.output_inverse[which], self.noise[which])


@dataclass(frozen=True, slots=True)
class Slopes:
    """Rows of G lenses at their start: centred inputs, and slopes in the predicted final state, each (G, n, d).

    kl: of each row's kl. drawn: of -log q(y) with y drawn from the prediction q.
    """

    inputs: Tensor
    kl: Tensor
    drawn: Tensor


def step_scale(slopes: Slopes, stats: Moments, kl: Tensor, *, damping: float, input_damping: float) -> StepScale:
    """Preconditioners and noise.

    Parameters
    ----------
    slopes: at the start. stats: moments of the inputs. kl: (G,) of the start. damping, input_damping: as in
        ``FitPlan``.
    """
    fisher = (slopes.drawn.mT @ slopes.drawn / slopes.drawn.shape[1]).double()
    level = damping * fisher.diagonal(dim1=1, dim2=2).mean(-1)
    outputs = torch.cholesky_inverse(damped_factor(fisher, level.clamp_min(FLOOR)))
    inputs = _input_inverse(stats, input_damping)
    noise = _lengths(slopes.kl, outputs, fisher) * (1 + _lengths(slopes.inputs, inputs, stats.covariance))
    return StepScale(inputs.float(), outputs.float(), (noise.mean(1) / kl.clamp_min(FLOOR)).clamp_min(FLOOR))


def pooled(scale: StepScale) -> StepScale:
    """One scale for lenses that move together."""
    return StepScale(
        *(
            one.mean(0, keepdim=True).expand_as(one)
            for one in (scale.input_inverse, scale.output_inverse, scale.noise)
        )
    )


def _lengths(values: Tensor, inverse: Tensor, metric: Tensor) -> Tensor:
    """(G, n) squared lengths, in a metric, of vectors (G, n, d) after a preconditioner."""
    moved = values.double() @ inverse
    return (moved @ metric * moved).sum(-1)


def _input_inverse(stats: Moments, damping: float) -> Tensor:
    """(G, d, d) float64 inverse of the ridged input covariance: silent directions stay put."""
    scaling = inverse_scale(stats)
    standard = stats.covariance * scaling[:, :, None] * scaling[:, None, :]
    inverse = torch.cholesky_inverse(damped_factor(standard, torch.full_like(scaling[:, 0], damping)))
    return inverse * scaling[:, :, None] * scaling[:, None, :]


def kl_slope(head: Head, z: Tensor, targets: Targets, precision: str = "float32") -> Tensor:
    """(n, d) gradient of each row's kl in its predicted final state z (n, d)."""
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        x = head.norm(z)
    (slope,) = torch.autograd.grad(x, z, kl_gradient(head, x.detach(), targets, precision=precision))
    return slope


def drawn_slope(head: Head, z: Tensor, rng: torch.Generator) -> Tensor:
    """(n, d) slope of -log q(y) in z with y drawn from the prediction q: its covariance is the Fisher information.

    Chunk by chunk, so that no graph over [tokens, vocab] is kept.
    """
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        x = head.norm(z)
    slope = torch.empty_like(x)
    uniform = torch.rand(len(x), generator=rng).to(x.device)

    def compute(rows: slice) -> None:
        part = x[rows].detach().requires_grad_(True)
        with torch.enable_grad():
            log_q = torch.log_softmax(head.logits(part), dim=-1)
        drawn = draw_outputs(log_q.detach().exp(), uniform[rows])
        (slope[rows],) = torch.autograd.grad(-log_q.gather(1, drawn[:, None]).sum(), part)

    head.by_chunks(len(x), compute)
    (back,) = torch.autograd.grad(x, z, slope)
    return back

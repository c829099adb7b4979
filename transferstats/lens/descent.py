"""Descents on the kl of lenses: natural gradient, and the stochastic gradient of the published recipe.

Natural steps are preconditioned on both sides: by the inverse (ridged) covariance of the inputs and by the inverse
Fisher information of the outputs (K-FAC, Martens & Grosse 2015, doi 10.48550/arXiv.1503.05671). Such steps are
invariant to rotations of the state, so directions in which the data are silent stay where the prior put them;
elementwise optimisers move them, and a lens that was moved there fails on every other layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens.head import Head, Targets, draw_outputs, kl_gradient
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample, mean_kl
from transferstats.lens.translator import Moments, Translators, damped_factor, inverse_scale

Progress = Callable[[str, int], None]
"""Called with (stage, token-layers processed since the last call)."""


MEASURED_ROWS = 4096
"""At most so many rows of a sample are measured for a certificate."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is minimised: the kl of G lenses on ``train``; ``held_out`` chooses lambda and the number of steps.

    stats: moments of ``train``, for the ridge start and the scale of the steps.
    prior: where the lenses stay in directions that the data do not determine.
    tied: the lenses have one linear map between them, and a bias each; they stand or fall together.
    """

    head: Head
    train: Sample
    held_out: Sample
    stats: Moments
    prior: Translators
    plan: FitPlan
    tied: bool = False

    def __post_init__(self) -> None:
        if self.head.softcap is not None and self.plan.precision != "float32":
            raise DesignError(
                f"{self.plan.precision} gradients are not available for a model that softcaps its logits: use "
                'precision="float32"'
            )

    def kl(
        self, lenses: Translators, sample: Sample, *, maps: Tensor | None = None, max_rows: int = MEASURED_ROWS
    ) -> Tensor:
        """(g,) mean kl of each lens, or of all tied lenses together."""
        values = mean_kl(self.head, lenses, sample, maps=maps, max_rows=max_rows)
        return self.pooled(values)

    def train_kl(self, lenses: Translators, *, maps: Tensor | None = None) -> Tensor:
        """(g,) mean kl on the training rows, on as many of them as there are held-out ones to compare with."""
        rows = self.held_out.hidden.shape[1]
        return self.kl(lenses, self.train, maps=maps, max_rows=min(rows, MEASURED_ROWS))

    def together(self, chosen: Tensor) -> Tensor:
        """(g,) booleans, the same for all tied lenses: true where it is true of each."""
        return chosen.all().expand_as(chosen) if self.tied else chosen

    def pooled(self, values: Tensor) -> Tensor:
        """Values (G, ...) of each lens, or their mean for every tied lens."""
        return values.mean(0, keepdim=True).expand_as(values) if self.tied else values


class Descent(Protocol):
    """G lenses on their way down, of which those in ``maps`` still move."""

    maps: Tensor

    def run_to(self, target: int, progress: Progress | None) -> Translators:
        """Descend to ``target`` steps; the lenses there."""

    def keep(self, running: Tensor) -> None:
        """Go on with some of the lenses (g,) only."""


class _Rows:
    """Rows of a training sample in random order, epoch after epoch: the same for every lens, so that lenses can be
    compared, but others for each of tied lenses, because rows that share a token would scatter together."""

    def __init__(self, problem: Problem, rng: torch.Generator) -> None:
        maps, self.count = problem.train.hidden.shape[:2]
        self.sets = maps if problem.tied else 1
        self.batch = min(problem.plan.batch, self.count // self.sets)
        self.device, self.rng = problem.train.hidden.device, rng
        self.order = torch.empty(0, dtype=torch.int64)

    def next(self, maps: Tensor) -> Tensor:
        """(g, r) the rows of the next step for each of some maps."""
        size = self.sets * self.batch
        if len(self.order) < size:
            self.order = torch.cat([self.order, torch.randperm(self.count, generator=self.rng)])
        rows, self.order = self.order[:size], self.order[size:]
        return rows.reshape(self.sets, self.batch).expand(len(maps), -1).to(self.device)


class NaturalDescent:
    """Preconditioned heavy-ball descent with iterate averaging since the last call."""

    def __init__(
        self, problem: Problem, start: Translators, stats: Moments, strength: Tensor, rng: torch.Generator
    ) -> None:
        self.problem, self.plan = problem, problem.plan
        self.maps = torch.arange(len(start), device=problem.train.hidden.device)
        self.mean = stats.mean.float()
        self.weight = start.weight.clone()
        # The map is carried in centred form, z = h + A (h - mean) + c, which decouples slope from offset.
        self.offset = start.bias + (start.weight @ self.mean[:, :, None]).squeeze(-1)
        damping = self.plan.input_damping
        self.input_inverse = _input_inverse(
            stats, strength if damping is None else torch.full_like(strength, damping)
        )
        self.output_inverse = _output_inverse(problem, start, rng)
        self.velocity = (torch.zeros_like(self.weight), torch.zeros_like(self.offset))
        self.rows = _Rows(problem, rng)
        self.step = 0

    def run_to(self, target: int, progress: Progress | None) -> Translators:
        """Descend to ``target`` steps; the average of the iterates since the previous call."""
        sums = (torch.zeros_like(self.weight), torch.zeros_like(self.offset))
        rate = self.plan.learning_rate * min(1.0, self.plan.constant / target) ** 0.5
        count = target - self.step
        while self.step < target:
            rows = self.rows.next(self.maps)
            self._advance(*self.problem.train.batch(self.maps, rows), rate)
            self.step += 1
            sums[0].add_(self.weight)
            sums[1].add_(self.offset)
            if progress is not None:
                progress("kl", rows.numel())
        weight, offset = sums[0] / count, sums[1] / count
        return Translators(weight, offset - (weight @ self.mean[:, :, None]).squeeze(-1))

    def keep(self, running: Tensor) -> None:
        """Go on with some of the lenses (g,) only; what remains is not touched by those that leave."""
        self.maps, self.mean = self.maps[running], self.mean[running]
        self.weight, self.offset = self.weight[running], self.offset[running]
        self.velocity = (self.velocity[0][running], self.velocity[1][running])
        self.input_inverse, self.output_inverse = self.input_inverse[running], self.output_inverse[running]

    def _advance(self, hidden: Tensor, targets: Targets, rate: float) -> None:
        centred = hidden - self.mean[:, None]
        z = hidden + torch.baddbmm(self.offset[:, None], centred, self.weight.mT)
        slope = kl_slope(self.problem.head, z.flatten(0, 1), targets, self.plan.precision).reshape(z.shape)
        gradient = self.problem.pooled(slope.mT @ centred / hidden.shape[1])
        natural = (
            self.output_inverse @ gradient @ self.input_inverse,
            (self.output_inverse @ slope.mean(1)[:, :, None]).squeeze(-1),
        )
        for value, velocity, step in zip((self.weight, self.offset), self.velocity, natural, strict=True):
            velocity.mul_(self.plan.momentum).add_(step)
            value.sub_(velocity, alpha=rate)


CLIP_NORM = 1.0  # of the gradients of all lenses together, in the published recipe


class StochasticDescent:
    """Nesterov momentum with weight decay and a rate that falls linearly to 0; its last iterate counts."""

    def __init__(self, problem: Problem, start: Translators, rng: torch.Generator) -> None:
        self.problem, self.plan = problem, problem.plan
        self.maps = torch.arange(len(start), device=problem.train.hidden.device)
        self.values = (start.weight.clone(), start.bias.clone())
        self.velocity = (torch.zeros_like(start.weight), torch.zeros_like(start.bias))
        self.rows = _Rows(problem, rng)
        self.step = 0

    def run_to(self, target: int, progress: Progress | None) -> Translators:
        """Descend to ``target`` steps; the lenses there."""
        while self.step < target:
            rows = self.rows.next(self.maps)
            rate = self.plan.learning_rate * (1 - self.step / self.plan.max_steps)
            self._advance(*self.problem.train.batch(self.maps, rows), rate)
            self.step += 1
            if progress is not None:
                progress("kl", rows.numel())
        return Translators(self.values[0].clone(), self.values[1].clone())

    def keep(self, running: Tensor) -> None:
        """All lenses go on to the end: the recipe stops none early."""

    def _advance(self, hidden: Tensor, targets: Targets, rate: float) -> None:
        z = Translators(*self.values).apply(hidden)
        slope = kl_slope(self.problem.head, z.flatten(0, 1), targets, self.plan.precision).reshape(z.shape)
        gradients = (self.problem.pooled(slope.mT @ hidden / hidden.shape[1]), slope.mean(1))
        norm = torch.sqrt(sum((one.square().sum() for one in gradients), torch.zeros(())))
        clipped = CLIP_NORM / norm.clamp_min(CLIP_NORM)
        for value, velocity, gradient in zip(self.values, self.velocity, gradients, strict=True):
            step = gradient * clipped + self.plan.weight_decay * value
            velocity.mul_(self.plan.momentum).add_(step)
            value.sub_(step + self.plan.momentum * velocity, alpha=rate)


def kl_slope(head: Head, z: Tensor, targets: Targets, precision: str = "float32") -> Tensor:
    """(n, d) gradient of each row's kl in its predicted final state z (n, d)."""
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        x = head.norm(z)
    (slope,) = torch.autograd.grad(x, z, kl_gradient(head, x.detach(), targets, precision=precision))
    return slope


def _input_inverse(stats: Moments, strength: Tensor) -> Tensor:
    """(G, d, d) inverse of the ridged input covariance: silent directions stay put."""
    scaling = inverse_scale(stats)
    standard = stats.covariance * scaling[:, :, None] * scaling[:, None, :]
    inverse = torch.cholesky_inverse(damped_factor(standard, strength))
    return (inverse * scaling[:, :, None] * scaling[:, None, :]).float()


def _output_inverse(problem: Problem, start: Translators, rng: torch.Generator) -> Tensor:
    """(G, d, d) inverse Fisher information of the predicted final state, from outputs drawn at the start."""
    head, states = problem.head, problem.train.hidden
    rows = torch.randperm(states.shape[1], generator=rng)[:4096].to(states.device)
    hidden = states.index_select(1, rows)
    z = start.apply(hidden).requires_grad_(True)
    with torch.enable_grad():
        x = head.norm(z)
    drawn = torch.stack([_drawn_slope(head, part.detach(), rng) for part in x])
    (slope,) = torch.autograd.grad(x, z, drawn)
    fisher = problem.pooled((slope.mT @ slope / hidden.shape[1]).double())
    damping = problem.plan.damping * fisher.diagonal(dim1=1, dim2=2).mean(-1)
    return torch.cholesky_inverse(damped_factor(fisher, damping)).float()


def _drawn_slope(head: Head, x: Tensor, rng: torch.Generator) -> Tensor:
    """(n, d) slope of -log q(y) in x with y drawn from q: its covariance is the Fisher information.

    Chunk by chunk, so that no graph over [tokens, vocab] is kept.
    """
    slope = torch.empty_like(x)
    uniform = torch.rand(len(x), generator=rng).to(x.device)

    def compute(rows: slice) -> None:
        part = x[rows].detach().requires_grad_(True)
        with torch.enable_grad():
            log_q = torch.log_softmax(head.logits(part), dim=-1)
        drawn = draw_outputs(log_q.detach().exp(), uniform[rows])
        (slope[rows],) = torch.autograd.grad(-log_q.gather(1, drawn[:, None]).sum(), part)

    head.by_chunks(len(x), compute)
    return slope

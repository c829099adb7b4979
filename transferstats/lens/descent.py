"""Descents on the kl of lenses: natural gradient, and the stochastic gradient of the published recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens.head import Head, Targets, concatenate
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample, mean_kl
from transferstats.lens.steps import MOST, ROWS, Slopes, StepScale, drawn_slope, kl_slope, pooled, step_scale
from transferstats.lens.stream import Batch
from transferstats.lens.translator import Moments, Translators

Progress = Callable[[str, int], None]
"""Called with (stage, token-layers processed since the last call)."""

MEASURED_ROWS = 4096
"""At most so many rows of a sample are measured for a certificate."""

LAYERS, ALL, TIED = "layers", "all", "tied"
"""What lenses of a problem are for: each for its layer, one for all, or each for its layer with one linear map."""

SHARED_ROWS = 2
"""Rows of a step of the shared lens, as multiples of those of an own lens: rows of several layers scatter more; as
many as all own lenses take together would cost their time for a single map."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is minimised: the kl of G lenses on training rows; ``held_out`` chooses lambda and the number of steps.

    train: training rows that are measured, each with its own targets; for one lens of all layers, stacked.
    stats: moments of the training rows, for the ridge start and the scale of the steps.
    prior: where the lenses stay in directions that the data do not determine.
    serves: one of LAYERS, ALL, TIED; tied lenses stand or fall together.
    """

    head: Head
    train: Sample
    held_out: Sample
    stats: Moments
    prior: Translators
    plan: FitPlan
    serves: str = LAYERS

    def __post_init__(self) -> None:
        if self.head.softcap is not None and self.plan.precision != "float32":
            raise DesignError(
                f"{self.plan.precision} gradients are not available for a model that softcaps its logits: use "
                'precision="float32"'
            )

    @property
    def tied(self) -> bool:
        """Whether lenses have one linear map between them, and a bias each."""
        return self.serves == TIED

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

    def rows_of(self, batch: Batch, maps: Tensor, rng: torch.Generator) -> tuple[Tensor, Targets]:
        """Inputs (g, r, d) of some lenses from the rows of a step, and the targets of each input in turn.

        An own lens takes all rows. A shared lens takes ``SHARED_ROWS`` times as many pairs of row and layer, by
        chance. Tied lenses share the rows between them: rows of one token would scatter together.
        """
        layers, count, width = batch.hidden.shape
        if self.serves == LAYERS:
            targets = [batch.targets[one % len(batch.targets)] for one in maps.tolist()]
            return batch.hidden[maps], concatenate(targets)
        if self.serves == TIED:
            each = max(1, count // layers)
            chosen = torch.randperm(count, generator=rng).repeat(-(-layers * each // count))[: layers * each]
            pairs = torch.arange(layers).repeat_interleave(each) * count + chosen
        else:
            pairs = torch.randperm(layers * count, generator=rng)[: SHARED_ROWS * count]
        pairs = pairs.to(batch.hidden.device)
        everything = concatenate(batch.targets)
        inputs = batch.hidden.reshape(-1, width).index_select(0, pairs)
        return inputs.reshape(len(maps), -1, width), everything.rows(pairs % len(everything.labels))


class Descent(Protocol):
    """G lenses on their way down, of which those in ``maps`` still move; ``step`` counts steps."""

    maps: Tensor
    step: int

    def take(self, batch: Batch) -> int:
        """One step; how many inputs it took."""

    def reached(self) -> Translators:
        """Where the lenses are, as this optimiser tells it since it was last asked."""

    def keep(self, running: Tensor) -> None:
        """Go on with some of the lenses (g,) only."""


def measured_scale(
    problem: Problem, start: Translators, kl: Tensor, stats: Moments, rng: torch.Generator
) -> StepScale:
    """The scale of natural steps from a start of some kl (G,), by some training rows."""
    states = problem.train.hidden
    rows = torch.randperm(states.shape[1], generator=rng)[:ROWS].to(states.device)
    maps = torch.arange(len(start), device=states.device)
    hidden, targets = problem.train.batch(maps, rows.expand(len(maps), -1))
    z = start.apply(hidden)
    slopes = Slopes(
        hidden - stats.mean.float()[:, None],
        kl_slope(problem.head, z.flatten(0, 1), targets, problem.plan.precision).reshape(z.shape),
        torch.stack([drawn_slope(problem.head, one, rng) for one in z]),
    )
    plan = problem.plan
    scale = step_scale(slopes, stats, kl, damping=plan.damping, input_damping=plan.input_damping)
    return pooled(scale) if problem.tied else scale


class NaturalDescent:
    """Preconditioned heavy-ball descent with iterate averaging.

    ``size``: (G,) of a step without momentum.
    """

    def __init__(
        self,
        problem: Problem,
        start: Translators,
        stats: Moments,
        scale: StepScale,
        size: Tensor,
        rng: torch.Generator,
    ) -> None:
        self.problem, self.plan, self.scale, self.rng = problem, problem.plan, scale, rng
        self.maps = torch.arange(len(start), device=start.weight.device)
        self.mean = stats.mean.float()
        self.weight = start.weight.clone()
        # The map is carried in centred form, z = h + A (h - mean) + c, which decouples slope from offset.
        self.offset = start.bias + (start.weight @ self.mean[:, :, None]).squeeze(-1)
        self.size = size
        self.velocity = (torch.zeros_like(self.weight), torch.zeros_like(self.offset))
        self._clear()
        self.step = 0

    def take(self, batch: Batch) -> int:
        """One step."""
        hidden, targets = self.problem.rows_of(batch, self.maps, self.rng)
        centred = hidden - self.mean[:, None]
        z = hidden + torch.baddbmm(self.offset[:, None], centred, self.weight.mT)
        slope = kl_slope(self.problem.head, z.flatten(0, 1), targets, self.plan.precision).reshape(z.shape)
        gradient = self.problem.pooled(slope.mT @ centred / hidden.shape[1])
        natural = (
            self.scale.output_inverse @ gradient @ self.scale.input_inverse,
            (self.scale.output_inverse @ slope.mean(1)[:, :, None]).squeeze(-1),
        )
        self.step += 1
        size = self.size * min(1.0, self.plan.constant / self.step) ** 0.5
        rate = (1 - self.plan.momentum) * size.clamp_max(MOST)
        for value, velocity, step, total in zip(
            (self.weight, self.offset), self.velocity, natural, self.sums, strict=True
        ):
            velocity.mul_(self.plan.momentum).add_(step)
            value.sub_(velocity * rate.view(-1, *[1] * (value.ndim - 1)))
            total.add_(value)
        self.summed += 1
        return hidden.shape[0] * hidden.shape[1]

    def reached(self) -> Translators:
        """The average of the iterates since the last call."""
        weight, offset = self.sums[0] / self.summed, self.sums[1] / self.summed
        self._clear()
        return Translators(weight, offset - (weight @ self.mean[:, :, None]).squeeze(-1))

    def keep(self, running: Tensor) -> None:
        """Go on with some of the lenses (g,) only; what remains is not touched by those that leave."""
        self.maps, self.mean, self.size = self.maps[running], self.mean[running], self.size[running]
        self.weight, self.offset = self.weight[running], self.offset[running]
        self.velocity = (self.velocity[0][running], self.velocity[1][running])
        self.scale = self.scale.chosen(running)
        self._clear()

    def _clear(self) -> None:
        self.sums, self.summed = (torch.zeros_like(self.weight), torch.zeros_like(self.offset)), 0


CLIP_NORM = 1.0  # of the gradients of all lenses together, in the published recipe


class StochasticDescent:
    """Nesterov momentum with weight decay and a rate that falls linearly to 0; its last iterate counts."""

    def __init__(self, problem: Problem, start: Translators, rng: torch.Generator) -> None:
        self.problem, self.plan, self.rng = problem, problem.plan, rng
        self.maps = torch.arange(len(start), device=start.weight.device)
        self.values = (start.weight.clone(), start.bias.clone())
        self.velocity = (torch.zeros_like(start.weight), torch.zeros_like(start.bias))
        self.step = 0

    def take(self, batch: Batch) -> int:
        """One step."""
        hidden, targets = self.problem.rows_of(batch, self.maps, self.rng)
        z = Translators(*self.values).apply(hidden)
        slope = kl_slope(self.problem.head, z.flatten(0, 1), targets, self.plan.precision).reshape(z.shape)
        gradients = (self.problem.pooled(slope.mT @ hidden / hidden.shape[1]), slope.mean(1))
        norm = torch.sqrt(sum((one.square().sum() for one in gradients), torch.zeros((), device=slope.device)))
        clipped = CLIP_NORM / norm.clamp_min(CLIP_NORM)
        rate = self.plan.learning_rate * (1 - self.step / self.plan.max_steps)
        for value, velocity, gradient in zip(self.values, self.velocity, gradients, strict=True):
            step = gradient * clipped + self.plan.weight_decay * value
            velocity.mul_(self.plan.momentum).add_(step)
            value.sub_(step + self.plan.momentum * velocity, alpha=rate)
        self.step += 1
        return hidden.shape[0] * hidden.shape[1]

    def reached(self) -> Translators:
        """The lenses after the last step."""
        return Translators(self.values[0].clone(), self.values[1].clone())

    def keep(self, running: Tensor) -> None:
        """All lenses go on to the end: the recipe stops none early."""

"""Fit lenses: ridge to the final state, then kl, with a certificate for each lens.

The kl of an affine lens is nearly convex, so a lens is defined by its minimum, not by a training recipe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from transferstats.lens.descent import (
    Descent,
    NaturalDescent,
    Problem,
    Progress,
    StochasticDescent,
    measured_scale,
)
from transferstats.lens.plan import FitPlan
from transferstats.lens.steps import StepScale
from transferstats.lens.stream import Batch, TrainingRows
from transferstats.lens.translator import Moments, Translators, effective_dimension, ridge

PATIENCE = 2  # doublings without improvement after which a lens has its minimum behind it
SMALLER = 0.5  # share of a step's size with which a lens is fitted again whose kl turned round
TURNED = 0.25  # of the plan's tolerance, by which kl is above its least where it turned round
AGAIN = 5  # at most so many times
OVERFIT = 3  # as many, before a descent may end otherwise, if held-out and training kl part
PARTED = 0.1  # by so much of each: held-out kl above its least, training kl below what it was there


@dataclass(frozen=True, slots=True)
class Certificate:
    """Evidence that G lenses have converged; arrays of shape (G,), kl in nats per token.

    start_kl, held_out_kl: held-out kl of the start and of the lens kept. train_kl: of the lens kept, on as many of
    its training rows.
    change: fall of held-out kl over the last doubling of steps (0 where it rose). steps: behind the lens kept; 0
    is the start. strength: ridge strength kept. converged: over the last doubling held-out kl fell or rose by less
    than the plan's tolerances, or it did not improve over two doublings while training kl went on falling.
    rows: training rows of each. dimension: effective dimension of their inputs (``effective_dimension``).
    width: d, of inputs and outputs.
    """

    start_kl: Tensor
    held_out_kl: Tensor
    train_kl: Tensor
    change: Tensor
    steps: Tensor
    strength: Tensor
    converged: Tensor
    rows: Tensor
    dimension: Tensor
    width: int


@dataclass(frozen=True, slots=True)
class Start:
    """Where a descent starts: lenses, their held-out kl (G,), ridge strengths (G,), moments of the inputs."""

    lenses: Translators
    kl: Tensor
    strength: Tensor
    stats: Moments


def ridge_start(problem: Problem) -> Start:
    """Ridge lenses with the strength of least held-out kl."""
    stats = problem.stats
    if problem.tied:
        covariance, cross = problem.pooled(stats.covariance), problem.pooled(stats.cross)
        stats = replace(stats, covariance=covariance, cross=cross)
    best, prior = problem.prior, problem.prior
    best_kl = torch.full((len(prior),), torch.inf, dtype=torch.float64, device=stats.mean.device)
    kept = torch.zeros_like(best_kl)
    for strength in problem.plan.strengths:
        lenses = ridge(stats, prior, strength)
        kl = problem.kl(lenses, problem.held_out, max_rows=2048)
        better = kl < best_kl
        best = _merge(better, lenses, best)
        kept = torch.where(better, strength, kept)
        best_kl = torch.where(better, kl, best_kl)
    return Start(best, problem.kl(best, problem.held_out), kept, stats)


def best_start(problem: Problem, candidates: Translators) -> Start:
    """The ridge start of a single lens, or whichever of some other lenses has a lower held-out kl."""
    start = ridge_start(problem)
    for index in range(len(candidates)):
        lens = candidates.map(index)
        kl = problem.kl(lens, problem.held_out)
        if bool(kl < start.kl):
            start = replace(start, lenses=lens, kl=kl)
    return start


def _merge(choose: Tensor, yes: Translators, no: Translators) -> Translators:
    return Translators(
        torch.where(choose[:, None, None], yes.weight, no.weight),
        torch.where(choose[:, None], yes.bias, no.bias),
    )


class Fit:
    """Lenses on their way from a start to their certificate, one batch of training rows after another.

    A lens whose held-out kl turns round, because steps scatter it or because it has learnt its rows by heart,
    is fitted again from its start with half the size of steps, until that gains nothing: so the size that is right
    for few rows need not be known beforehand. Of all these descents the lens of least held-out kl is kept.

    ``rng``: CPU generator of what chance decides here, apart from the order of the rows. ``start``: by default,
    ridge.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        rng: torch.Generator,
        progress: Progress | None = None,
        start: Start | None = None,
    ) -> None:
        self.problem, self.rng, self.progress = problem, rng, progress
        self.start = anchored(problem, ridge_start(problem) if start is None else start)
        self.kept: tuple[Translators, Certificate] | None = None
        self.share, self.rounds = problem.plan.share, 0
        self.scale: StepScale | None = None
        self.steps: int | None = None
        if problem.plan.method == "ridge":
            self.kept = self.start.lenses, _uncertified(problem, self.start)
            return
        if problem.plan.optimiser == "natural":
            self.scale = measured_scale(problem, self.start.lenses, self.start.kl, self.start.stats, rng)
        self._begin(torch.ones_like(self.start.kl).bool())

    @property
    def done(self) -> bool:
        """Whether no lens moves any more."""
        return self.steps is None

    def take(self, batch: Batch) -> None:
        """One step of the lenses that still move."""
        taken = self.descent.take(batch)
        if self.progress is not None:
            self.progress("", taken)
        if self.descent.step == self.steps:
            self._measure()

    def result(self) -> tuple[Translators, Certificate]:
        """The lenses and their certificate, once they are done."""
        assert self.kept is not None, "rows are missing: the fit is not done"
        return self.kept

    def _begin(self, again: Tensor) -> None:
        """A descent of some of the lenses (G,), from their start."""
        self.descent = begun(self.problem, self.start, self.rng, scale=self.scale, share=self.share)
        self.descent.keep(again)
        self.trace = _Trace(self.start)
        self.milestones = self.problem.plan.milestones()
        self.steps = next(self.milestones, None)
        if self.steps is None:
            self._end()

    def _measure(self) -> None:
        """Hold the lenses against the held-out rows; those that have settled do not wait for the others."""
        assert self.steps is not None
        problem, maps, lenses = self.problem, self.descent.maps, self.descent.reached()
        kl = problem.kl(lenses, problem.held_out, maps=maps)
        settled = self.trace.record(maps, lenses, kl, self.steps, problem.plan)
        may_end = problem.plan.may_end(self.steps)
        self.descent.keep(~(settled if may_end else _overfits(self.trace, problem, maps, lenses, kl)))
        self.steps = next(self.milestones, None) if len(self.descent.maps) else None
        if self.steps is None:
            self._end()

    def _end(self) -> None:
        """Keep the better lenses; begin again with those that turned round."""
        made = _certified(self.trace, self.problem, self.start)
        before = self.start.kl if self.kept is None else self.kept[1].held_out_kl
        plan = self.problem.plan
        gained = before - self.trace.best_kl > TURNED * _small(before, plan)
        self.kept = made if self.kept is None else _better(self.kept, made)
        turned = self.trace.turned(plan) & (gained | (self.rounds == 0))
        self.rounds += 1
        if plan.optimiser == "natural" and self.rounds <= AGAIN and bool(turned.any()):
            self.share *= SMALLER
            self._begin(self.problem.together(turned))


def fit_together(fits: Iterable[Fit], batches: Iterator[Batch]) -> None:
    """Take the rows of every step into all fits that are not done."""
    moving = [one for one in fits if not one.done]
    while moving:
        batch = next(batches)
        for one in moving:
            one.take(batch)
        moving = [one for one in moving if not one.done]


def fit_lenses(
    problem: Problem, rows: TrainingRows, *, rng: torch.Generator, progress: Progress | None = None
) -> tuple[Translators, Certificate]:
    """Fit the lenses of one problem and certify each; ``rng``: CPU generator of all that chance decides."""
    fit = Fit(problem, rng=rng, progress=progress)
    fit_together([fit], rows.batches(problem.plan.batch, rng))
    return fit.result()


def _uncertified(problem: Problem, start: Start) -> Certificate:
    """Of lenses that take no steps."""
    nothing = torch.zeros_like(start.kl)
    unknown = torch.full_like(start.kl, torch.nan)
    train_kl = problem.train_kl(start.lenses)
    rest = (unknown, nothing, start.strength, nothing.bool())
    return Certificate(start.kl, start.kl, train_kl, *rest, *_size(problem, start))


def anchored(problem: Problem, start: Start) -> Start:
    """The start itself, or that of lenses with another anchor than ridge.

    Anchored lenses start at the anchor itself: the ridge start is far from it where final states are more
    confident than any lens should be, and early stopping would leave the lens in between.
    """
    if problem.plan.anchor == "ridge":
        return start
    return replace(start, lenses=problem.prior, kl=problem.kl(problem.prior, problem.held_out))


def begun(
    problem: Problem,
    start: Start,
    rng: torch.Generator,
    *,
    scale: StepScale | None = None,
    share: float | None = None,
) -> Descent:
    """A descent by the plan's optimiser, before the first step; ``share`` instead of the plan's."""
    plan = problem.plan
    if plan.optimiser == "sgd":
        return StochasticDescent(problem, start.lenses, rng)
    if scale is None:
        scale = measured_scale(problem, start.lenses, start.kl, start.stats, rng)
    size = scale.size(plan.batch, plan.share if share is None else share)
    return NaturalDescent(problem, start.lenses, start.stats, scale, size, rng)


def _better(
    one: tuple[Translators, Certificate], other: tuple[Translators, Certificate]
) -> tuple[Translators, Certificate]:
    """For each lens, the fit of lower held-out kl, with its own certificate."""
    choose = other[1].held_out_kl < one[1].held_out_kl
    kept = {
        field.name: torch.where(choose, getattr(other[1], field.name), getattr(one[1], field.name))
        for field in fields(Certificate)
        if field.name != "width"
    }
    return _merge(choose, other[0], one[0]), Certificate(**kept, width=one[1].width)


def _overfits(trace: _Trace, problem: Problem, maps: Tensor, lenses: Translators, kl: Tensor) -> Tensor:
    """(g,) lenses whose held-out kl has long been rising, by a tenth, while their training kl fell by as much.

    The scatter of the first steps, which are the largest, raises both, and a lens comes back from it when steps
    grow smaller: from a good start held-out kl may rise by some percent first, and end far below.
    """
    above = kl > (1 + PARTED) * trace.best_kl[maps]
    late = (trace.rises[maps] >= OVERFIT) & above & ~trace.falling[maps]
    if not late.any():
        return late
    now, best = (problem.train_kl(one, maps=maps) for one in (lenses, trace.best.chosen(maps)))
    return problem.together(late & (now < (1 - PARTED) * best))


def _certified(trace: _Trace, problem: Problem, start: Start) -> tuple[Translators, Certificate]:
    """The lenses kept and their certificate; a descent that climbed on its own training rows is not kept."""
    tolerance = problem.plan.tolerance
    train_kl, before = problem.train_kl(trace.best), problem.train_kl(start.lenses)
    # Held-out kl may rise because the minimum lies behind, while training kl goes on falling; or because the
    # descent diverges, which is no evidence of a minimum.
    descended = (train_kl <= before + tolerance) & trace.best_kl.isfinite()
    kept = torch.equal(trace.last.weight, trace.best.weight) and torch.equal(trace.last.bias, trace.best.bias)
    last_kl = train_kl if kept else problem.train_kl(trace.last)
    trace.converged &= descended & (last_kl <= train_kl + tolerance)
    return _merge(descended, trace.best, start.lenses), Certificate(
        start.kl,
        torch.where(descended, trace.best_kl, start.kl),
        torch.where(descended, train_kl, before),
        trace.change,
        torch.where(descended, trace.steps, 0.0),
        start.strength,
        trace.converged,
        *_size(problem, start),
    )


def _size(problem: Problem, start: Start) -> tuple[Tensor, Tensor, int]:
    """Rows (G,), effective dimension (G,) and width."""
    n_rows, width = problem.train.hidden.shape[1:]
    return torch.full_like(start.kl, n_rows), effective_dimension(start.stats).expand_as(start.kl), width


class _Trace:
    """How the held-out kl of G lenses moves over doublings; the best lens so far of each, the start included."""

    def __init__(self, start: Start) -> None:
        self.best = self.last = start.lenses
        self.best_kl, self.last_kl = start.kl.clone(), start.kl.clone()
        self.steps, self.rises = torch.zeros_like(self.best_kl), torch.zeros_like(self.best_kl)
        self.change = torch.full_like(self.best_kl, torch.inf)
        self.converged, self.falling = (torch.zeros_like(self.best_kl).bool() for _ in range(2))

    def record(self, maps: Tensor, lenses: Translators, kl: Tensor, step: int, plan: FitPlan) -> Tensor:
        """Take in the kl (g,) that some lenses have after ``step`` steps; which of them have settled (g,)."""
        before = self.best_kl[maps]
        better = kl < before
        self.change[maps] = torch.where(better, before - kl, 0.0)
        if plan.optimiser == "sgd":
            better = kl.isfinite()  # its last iterate counts, whatever its kl
        self.rises[maps] = torch.where(better, 0.0, self.rises[maps] + 1)
        # A fall or a rise too small to matter is a plateau; after two larger rises the minimum lies behind, unless
        # the lens is on its way back from where the first steps threw it.
        small = _small(kl, plan)
        fall = self.last_kl[maps] - kl
        flat = ((before - kl).abs() < small) & (fall.abs() < small)
        self.falling[maps] = fall >= small
        settled = flat | ((self.rises[maps] >= PATIENCE) & ~self.falling[maps])
        self.last_kl[maps] = kl
        self.converged[maps] = settled & kl.isfinite()
        self.best_kl[maps] = torch.where(better, kl, before)
        self.steps[maps] = torch.where(better, float(step), self.steps[maps])
        self.best = self.best.replaced(maps[better], lenses.chosen(better))
        self.last = self.last.replaced(maps, lenses)
        return settled

    def turned(self, plan: FitPlan) -> Tensor:
        """(G,) lenses whose held-out kl was last above its least."""
        return ~(self.last_kl <= self.best_kl + TURNED * _small(self.best_kl, plan))


def _small(kl: Tensor, plan: FitPlan) -> Tensor:
    """What the plan holds for no difference to a kl (g,)."""
    return (plan.relative_tolerance * kl).clamp_min(plan.tolerance)

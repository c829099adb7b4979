"""Fit lenses: ridge to the final state, then kl, with a certificate for each lens.

The kl of an affine lens is nearly convex, so a lens is defined by its minimum, not by a training recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import reduce

import torch
from torch import Tensor

from transferstats.lens.descent import Descent, NaturalDescent, Problem, Progress, StochasticDescent
from transferstats.lens.plan import FitPlan
from transferstats.lens.translator import Moments, Translators, effective_dimension, ridge

PATIENCE = 2  # doublings without improvement after which a lens has its minimum behind it
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


def fit_lenses(
    problem: Problem, *, rng: torch.Generator, progress: Progress | None = None, start: Start | None = None
) -> tuple[Translators, Certificate]:
    """Fit G lenses at once and certify each.

    ``rng``: CPU generator; the order of the rows is the only randomness here. ``start``: by default, ridge.
    """
    start = anchored(problem, ridge_start(problem) if start is None else start)
    if problem.plan.method == "ridge":
        nothing = torch.zeros_like(start.kl)
        unknown = torch.full_like(start.kl, torch.nan)
        return start.lenses, Certificate(
            start.kl,
            start.kl,
            problem.train_kl(start.lenses),
            unknown,
            nothing,
            start.strength,
            nothing.bool(),
            *_size(problem, start),
        )
    rates = (problem.plan.learning_rate, *problem.plan.slower)
    fits = [
        _fit_at(replace(problem, plan=replace(problem.plan, learning_rate=r)), start, rng, progress) for r in rates
    ]
    return reduce(_better, fits)


def anchored(problem: Problem, start: Start) -> Start:
    """The start itself, or that of lenses with another anchor than ridge.

    Anchored lenses start at the anchor itself: the ridge start is far from it where final states are more
    confident than any lens should be, and early stopping would leave the lens in between.
    """
    if problem.plan.anchor == "ridge":
        return start
    return replace(start, lenses=problem.prior, kl=problem.kl(problem.prior, problem.held_out))


def _fit_at(
    problem: Problem, start: Start, rng: torch.Generator, progress: Progress | None
) -> tuple[Translators, Certificate]:
    """The lenses at the end of one descent, at the plan's first rate."""
    return _descend(begun(problem, start, rng), problem, start, progress)


def begun(problem: Problem, start: Start, rng: torch.Generator) -> Descent:
    """A descent by the plan's optimiser, at its first rate, before the first step."""
    if problem.plan.optimiser == "sgd":
        return StochasticDescent(problem, start.lenses, rng)
    return NaturalDescent(problem, start.lenses, start.stats, start.strength, rng)


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


def _descend(
    descent: Descent, problem: Problem, start: Start, progress: Progress | None
) -> tuple[Translators, Certificate]:
    """Descend until each lens has settled; a settled lens does not wait for the others."""
    trace = _Trace(start)
    for steps in problem.plan.milestones():
        if not len(descent.maps):
            break
        lenses = descent.run_to(steps, progress)
        maps = descent.maps
        kl = problem.kl(lenses, problem.held_out, maps=maps)
        settled = trace.record(maps, lenses, kl, steps, problem.plan)
        descent.keep(~(settled if problem.plan.may_end(steps) else _overfits(trace, problem, maps, lenses, kl)))
    return _certified(trace, problem, start)


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
        small = (plan.relative_tolerance * kl).clamp_min(plan.tolerance)
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

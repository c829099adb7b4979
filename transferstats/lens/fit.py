"""Fit lenses: ridge to the final state, then kl by natural gradient, with a certificate for each lens.

The kl of an affine lens is nearly convex, so a lens is defined by its minimum, not by a training recipe.
Steps are preconditioned on both sides: by the inverse (ridged) covariance of the inputs and by the inverse
Fisher information of the outputs (K-FAC, Martens & Grosse 2015, doi 10.48550/arXiv.1503.05671). Such steps are
invariant to rotations of the state, so directions in which the data are silent stay where the prior put them;
elementwise optimisers move them, and a lens that was moved there fails on every other layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from transferstats.errors import DesignError
from transferstats.lens.head import Head, Targets, concatenate, draw_outputs, kl_gradient, losses
from transferstats.lens.translator import Moments, Translators, inverse_scale, moments, ridge

METHODS: tuple[str, ...] = ("kl", "ridge")
ANCHORS: tuple[str, ...] = ("ridge", "shared")
PATIENCE = 2  # doublings without improvement after which a lens has its minimum behind it

Progress = Callable[[str, int], None]
"""Called with (stage, token-layers processed since the last call)."""


@dataclass(frozen=True, slots=True)
class FitPlan:
    """How lenses are fitted; part of a cell's identity.

    Attributes
    ----------
    method: "kl" (ridge start, then kl) or "ridge" (the start only).
    anchor: where own lenses start from and stay where the data are silent: "ridge" (the identity, shrunk to by
        ridge) or "shared" (the shared lens).
    strengths: ridge strengths tried; each lens keeps the one with the least held-out kl.
    batch: rows a step and lens. learning_rate: of the natural gradient, falling with the square root of the
        steps after the first ``constant``. momentum: heavy ball. damping: share of the mean output
        curvature added to its diagonal.
    first, max_steps: iterates are averaged since the last doubling of ``first``, up to ``max_steps``.
    settle: steps from which held-out kl is measured, at every doubling, and a lens may be kept. A lens that is
        nearer to its ridge start has another error than its minimum, and so has its penalty.
    tolerance, relative_tolerance: a lens has converged when its held-out kl fell over the last doubling by less
        than ``tolerance`` nats/token or ``relative_tolerance`` times its kl, whichever is more.
    """

    method: str = "kl"
    anchor: str = "ridge"
    strengths: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    batch: int = 512
    learning_rate: float = 0.03
    momentum: float = 0.9
    damping: float = 1e-2
    constant: int = 32
    settle: int = 128
    first: int = 16
    max_steps: int = 1024
    tolerance: float = 0.003
    relative_tolerance: float = 0.01

    def __post_init__(self) -> None:
        if self.method not in METHODS or self.anchor not in ANCHORS:
            raise DesignError(
                f"unknown method {self.method!r} or anchor {self.anchor!r}: use one of {', '.join(METHODS)} "
                f"and one of {', '.join(ANCHORS)}"
            )
        if self.method == "ridge" and self.anchor == "shared":
            raise DesignError(
                "ridge lenses anchored in the shared lens are that lens, and every penalty is 0: use kl"
            )
        if not self.strengths or min(self.strengths) <= 0 or min(self.batch, self.constant, self.first) < 1:
            raise DesignError("a fit needs ridge strengths above 0, and batch, constant and first of at least 1")


@dataclass(frozen=True, slots=True)
class Sample:
    """Inputs and targets of a fit: row j of ``hidden`` belongs to row ``j % n`` of the n final states or targets.

    m = n for own lenses. For the shared lens G = 1 and the layers are stacked along the rows, m = L n; its targets
    are stacked too where each layer has its own.

    Attributes
    ----------
    hidden: (G, m, d). final: (1, n, d). targets: one for all maps, or one a map.
    """

    hidden: Tensor
    final: Tensor
    targets: tuple[Targets, ...]

    def batch(self, maps: Tensor, rows: Tensor) -> tuple[Tensor, Targets]:
        """(g, r, d) some rows of the inputs of some maps, and the targets of these g r rows."""
        index = rows % len(self.targets[0].labels)
        if len(self.targets) == 1:
            taken = [self.targets[0].rows(index)] * len(maps)
        else:
            taken = [self.targets[int(one)].rows(index) for one in maps]
        return torch.stack([self.hidden[int(one)].index_select(0, rows) for one in maps]), concatenate(taken)

    def stacked(self) -> Sample:
        """All layers as the rows of one map: what a shared lens is fitted to."""
        _, _, width = self.hidden.shape
        return Sample(self.hidden.reshape(1, -1, width), self.final, (concatenate(self.targets),))


@dataclass(frozen=True, slots=True)
class Certificate:
    """Evidence that G lenses have converged; arrays of shape (G,), kl in nats per token.

    start_kl, held_out_kl: held-out kl of the ridge start and of the lens kept. train_kl: on as many
    training rows. change: fall of held-out kl over the last doubling of steps (0 where it rose). steps: behind the
    lens kept; 0 is the ridge start. strength: ridge strength kept. converged: ``change`` below the plan's
    tolerances, or no improvement over two doublings.
    """

    start_kl: Tensor
    held_out_kl: Tensor
    train_kl: Tensor
    change: Tensor
    steps: Tensor
    strength: Tensor
    converged: Tensor


def mean_kl(
    head: Head, lenses: Translators, sample: Sample, *, maps: Tensor | None = None, max_rows: int = 4096
) -> Tensor:
    """(g,) mean kl of each lens on its rows, at most ``max_rows`` evenly spaced ones; float64 sums.

    ``maps``: which maps of the sample the lenses are for; all of them unless given.
    """
    n_rows = sample.hidden.shape[1]
    step = max(1, -(-n_rows // max_rows))
    rows = torch.arange(0, n_rows, step, device=sample.hidden.device)
    if maps is None:
        maps = torch.arange(len(lenses), device=sample.hidden.device)
    hidden, targets = sample.batch(maps, rows)
    with torch.no_grad():
        normed = head.norm(lenses.apply(hidden)).flatten(0, 1)
        kl, _ = losses(head, normed, targets)
    return kl.reshape(len(maps), -1).double().mean(1)


def ridge_start(
    head: Head, train: Sample, held_out: Sample, prior: Translators, plan: FitPlan
) -> tuple[Translators, Tensor, Tensor, Moments]:
    """Ridge lenses with the strength of least held-out kl: lenses, kl (G,), strength (G,), moments."""
    stats = moments(train.hidden, train.final, prior)
    best = prior
    best_kl = torch.full((len(prior),), torch.inf, dtype=torch.float64, device=train.hidden.device)
    kept = torch.zeros_like(best_kl)
    for strength in plan.strengths:
        lenses = ridge(stats, prior, strength)
        kl = mean_kl(head, lenses, held_out, max_rows=2048)
        better = kl < best_kl
        best = _merge(better, lenses, best)
        kept = torch.where(better, strength, kept)
        best_kl = torch.where(better, kl, best_kl)
    return best, mean_kl(head, best, held_out), kept, stats


def _merge(choose: Tensor, yes: Translators, no: Translators) -> Translators:
    return Translators(
        torch.where(choose[:, None, None], yes.weight, no.weight),
        torch.where(choose[:, None], yes.bias, no.bias),
    )


def fit_lenses(
    head: Head,
    train: Sample,
    held_out: Sample,
    prior: Translators,
    plan: FitPlan,
    *,
    rng: torch.Generator,
    progress: Progress | None = None,
) -> tuple[Translators, Certificate]:
    """Fit G lenses at once and certify each.

    Parameters
    ----------
    train, held_out: inputs and targets; held-out rows choose lambda and the number of steps, nothing else.
    prior: where the lenses stay in directions that the data do not determine.
    rng: CPU generator; the order of the rows is the only randomness here.

    Returns
    -------
    Lenses and their certificate.
    """
    start, start_kl, strength, stats = ridge_start(head, train, held_out, prior, plan)
    if plan.anchor == "shared":
        # Anchored lenses start at the anchor itself: the ridge start is far from it where final states are
        # more confident than any lens should be, and early stopping would leave the lens in between.
        start, start_kl = prior, mean_kl(head, prior, held_out)
    if plan.method == "ridge":
        train_kl = mean_kl(head, start, train)
        nothing = torch.zeros_like(start_kl)
        unknown = torch.full_like(start_kl, torch.nan)
        return start, Certificate(start_kl, start_kl, train_kl, unknown, nothing, strength, nothing.bool())
    descent = _Descent(head, train, start, stats, strength, plan, rng)
    return _doubling(descent, head, train, held_out, (start, start_kl, strength), plan, progress)


def _doubling(
    descent: _Descent,
    head: Head,
    train: Sample,
    held_out: Sample,
    begin: tuple[Translators, Tensor, Tensor],
    plan: FitPlan,
    progress: Progress | None,
) -> tuple[Translators, Certificate]:
    """Descend in doublings until each lens has settled; a settled lens does not wait for the others."""
    trace = _Trace(begin[0])
    target = plan.first
    while target <= plan.max_steps and len(descent.maps):
        averaged = descent.run_to(target, progress)
        if target >= plan.settle or 2 * target > plan.max_steps:
            kl = mean_kl(head, averaged, held_out, maps=descent.maps)
            descent.keep(~trace.record(descent.maps, averaged, kl, target, plan))
        target *= 2
    return _certified(trace, head, train, begin, plan)


def _certified(
    trace: _Trace, head: Head, train: Sample, begin: tuple[Translators, Tensor, Tensor], plan: FitPlan
) -> tuple[Translators, Certificate]:
    """The lenses kept and their certificate; a descent that climbed on its own training rows is not kept."""
    start, start_kl, strength = begin
    train_kl, before = mean_kl(head, trace.best, train), mean_kl(head, start, train)
    # Held-out kl may rise because the minimum lies behind, while training kl goes on falling; or because the
    # descent diverges, which is no evidence of a minimum.
    descended = (train_kl <= before + plan.tolerance) & trace.best_kl.isfinite()
    trace.converged &= descended & (mean_kl(head, trace.last, train) <= train_kl + plan.tolerance)
    return _merge(descended, trace.best, start), Certificate(
        start_kl,
        torch.where(descended, trace.best_kl, start_kl),
        torch.where(descended, train_kl, before),
        trace.change,
        torch.where(descended, trace.steps, 0.0),
        strength,
        trace.converged,
    )


class _Trace:
    """How the held-out kl of G lenses moves over doublings, and the best lens so far of each."""

    def __init__(self, start: Translators) -> None:
        self.best = self.last = start
        self.best_kl = torch.full((len(start),), torch.inf, dtype=torch.float64, device=start.weight.device)
        self.steps, self.rises = torch.zeros_like(self.best_kl), torch.zeros_like(self.best_kl)
        self.change = torch.full_like(self.best_kl, torch.inf)
        self.converged = torch.zeros_like(self.best_kl).bool()

    def record(self, maps: Tensor, lenses: Translators, kl: Tensor, step: int, plan: FitPlan) -> Tensor:
        """Take in the kl (g,) that some lenses have after ``step`` steps; which of them have settled (g,)."""
        before = self.best_kl[maps]
        better = kl < before
        self.change[maps] = torch.where(better, before - kl, 0.0)
        # One rise may be noise; after two the minimum over the path lies behind.
        self.rises[maps] = torch.where(better, 0.0, self.rises[maps] + 1)
        small = self.change[maps] < (plan.relative_tolerance * kl).clamp_min(plan.tolerance)
        settled = torch.where(better, small, self.rises[maps] >= PATIENCE)
        self.converged[maps] = settled & kl.isfinite()
        self.best_kl[maps] = torch.where(better, kl, before)
        self.steps[maps] = torch.where(better, float(step), self.steps[maps])
        self.best = self.best.replaced(maps[better], lenses.chosen(better))
        self.last = self.last.replaced(maps, lenses)
        return settled


class _Descent:
    """Preconditioned heavy-ball descent with iterate averaging since the last doubling."""

    def __init__(
        self,
        head: Head,
        train: Sample,
        start: Translators,
        stats: Moments,
        strength: Tensor,
        plan: FitPlan,
        rng: torch.Generator,
    ) -> None:
        self.head, self.train, self.plan, self.rng = head, train, plan, rng
        self.maps = torch.arange(len(start), device=train.hidden.device)
        self.mean = stats.mean.float()
        self.weight = start.weight.clone()
        # The map is carried in centred form, z = h + A (h - mean) + c, which decouples slope from offset.
        self.offset = start.bias + (start.weight @ self.mean[:, :, None]).squeeze(-1)
        self.input_inverse = _input_inverse(stats, strength)
        self.output_inverse = _output_inverse(head, train, start, plan, rng)
        self.velocity = (torch.zeros_like(self.weight), torch.zeros_like(self.offset))
        self.order = torch.empty(0, dtype=torch.int64)
        self.step = 0
        self.sums = (torch.zeros_like(self.weight), torch.zeros_like(self.offset))
        self.count = 0

    def run_to(self, target: int, progress: Progress | None) -> Translators:
        """Descend to ``target`` steps; the average of the iterates since the previous call."""
        self.sums = (torch.zeros_like(self.weight), torch.zeros_like(self.offset))
        self.count = 0
        rate = self.plan.learning_rate * min(1.0, self.plan.constant / target) ** 0.5
        while self.step < target:
            rows = self._next_rows()
            self._advance(*self.train.batch(self.maps, rows), rate)
            self.step += 1
            self.count += 1
            self.sums[0].add_(self.weight)
            self.sums[1].add_(self.offset)
            if progress is not None:
                progress("kl", len(rows) * len(self.weight))
        weight, offset = self.sums[0] / self.count, self.sums[1] / self.count
        return Translators(weight, offset - (weight @ self.mean[:, :, None]).squeeze(-1))

    def keep(self, running: Tensor) -> None:
        """Go on with some of the lenses (g,) only; what remains is not touched by those that leave."""
        self.maps, self.mean = self.maps[running], self.mean[running]
        self.weight, self.offset = self.weight[running], self.offset[running]
        self.velocity = (self.velocity[0][running], self.velocity[1][running])
        self.input_inverse, self.output_inverse = self.input_inverse[running], self.output_inverse[running]

    def _next_rows(self) -> Tensor:
        if len(self.order) < self.plan.batch:
            fresh = torch.randperm(self.train.hidden.shape[1], generator=self.rng)
            self.order = torch.cat([self.order, fresh])
        rows, self.order = self.order[: self.plan.batch], self.order[self.plan.batch :]
        return rows.to(self.train.hidden.device)

    def _advance(self, hidden: Tensor, targets: Targets, rate: float) -> None:
        centred = hidden - self.mean[:, None]
        z = hidden + torch.baddbmm(self.offset[:, None], centred, self.weight.mT)
        slope = kl_slope(self.head, z.flatten(0, 1), targets).reshape(z.shape)
        n_rows = hidden.shape[1]
        natural = (
            self.output_inverse @ (slope.mT @ centred / n_rows) @ self.input_inverse,
            (self.output_inverse @ slope.mean(1)[:, :, None]).squeeze(-1),
        )
        for value, velocity, gradient in zip((self.weight, self.offset), self.velocity, natural, strict=True):
            velocity.mul_(self.plan.momentum).add_(gradient)
            value.sub_(velocity, alpha=rate)


def kl_slope(head: Head, z: Tensor, targets: Targets) -> Tensor:
    """(n, d) gradient of each row's kl in its predicted final state z (n, d)."""
    z = z.detach().requires_grad_(True)
    with torch.enable_grad():
        x = head.norm(z)
    (slope,) = torch.autograd.grad(x, z, kl_gradient(head, x.detach(), targets))
    return slope


def _input_inverse(stats: Moments, strength: Tensor) -> Tensor:
    """(G, d, d) inverse of the input covariance, ridged as the start was: silent directions stay put."""
    scaling = inverse_scale(stats)
    standard = stats.covariance * scaling[:, :, None] * scaling[:, None, :]
    eye = torch.eye(scaling.shape[1], dtype=torch.float64, device=scaling.device)
    inverse: Tensor = torch.linalg.inv(standard + strength[:, None, None] * eye)
    return (inverse * scaling[:, :, None] * scaling[:, None, :]).float()


def _output_inverse(head: Head, train: Sample, start: Translators, plan: FitPlan, rng: torch.Generator) -> Tensor:
    """(G, d, d) inverse Fisher information of the predicted final state, from outputs drawn at the start."""
    rows = torch.randperm(train.hidden.shape[1], generator=rng)[:4096].to(train.hidden.device)
    hidden = train.hidden.index_select(1, rows)
    z = start.apply(hidden).requires_grad_(True)
    with torch.enable_grad():
        x = head.norm(z)
    drawn = torch.stack([_drawn_slope(head, part.detach(), rng) for part in x])
    (slope,) = torch.autograd.grad(x, z, drawn)
    fisher = (slope.mT @ slope / hidden.shape[1]).double()
    damping = plan.damping * fisher.diagonal(dim1=1, dim2=2).mean(-1)
    eye = torch.eye(fisher.shape[-1], dtype=torch.float64, device=fisher.device)
    inverse: Tensor = torch.linalg.inv(fisher + damping[:, None, None] * eye)
    return inverse.float()


def _drawn_slope(head: Head, x: Tensor, rng: torch.Generator) -> Tensor:
    """(n, d) slope of -log q(y) in x with y drawn from q: its covariance is the Fisher information.

    Chunk by chunk, so that no graph over [tokens, vocab] is kept.
    """
    slope = torch.empty_like(x)
    for rows in head.chunks(len(x)):
        part = x[rows].requires_grad_(True)
        with torch.enable_grad():
            log_q = torch.log_softmax(head.logits(part), dim=-1)
        drawn = draw_outputs(log_q.detach().exp(), rng)
        (slope[rows],) = torch.autograd.grad(-log_q.gather(1, drawn[:, None]).sum(), part)
    return slope

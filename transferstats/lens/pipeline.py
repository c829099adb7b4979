"""One pass of the lens pipeline: shared lens, own lenses, certificates; the same code in every world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from transferstats.lens.descent import Problem, Progress
from transferstats.lens.fit import Certificate, Start, best_start, fit_lenses, ridge_start
from transferstats.lens.head import Head
from transferstats.lens.null import NullLenses
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.translator import Moments, Translators

SHARED_ROWS = 2  # times the rows a step of an own lens


@dataclass(frozen=True, slots=True)
class Fitted:
    """Lenses, one a layer or one for all, and the certificate of each."""

    lenses: Translators
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Fits the readouts of one world.

    Attributes
    ----------
    head: decoder. train, held_out: samples of a fold. stats: moments of ``train``, which depend on its states
        and final states only, so that pipelines with other targets share them. plan: how lenses are fitted.
    rng: CPU generator, consumed in the order of the calls. progress: told of every step.
    """

    head: Head
    train: Sample
    held_out: Sample
    stats: Moments
    plan: FitPlan
    rng: torch.Generator
    progress: Progress | None = None

    def starts(self) -> Start:
        """The ridge start of each layer's own lens."""
        return ridge_start(self._problem(self._identity(self._layers), self.plan))

    def shared(self, starts: Start) -> Fitted:
        """One lens for all layers by the same procedure, certified the same way.

        It starts from the ridge lens of all layers together or of one of them (``starts``), whichever does best on
        all held-out layers. Final states are a worse guide the earlier the layer, so ridge over all layers is far
        from the least kl, and with few rows early stopping leaves the lens there: where one lens was exactly right
        at every layer, the ridge lens of the last layer alone was better on every other one, with 480 rows as with
        12,000, than the lens that had started from all of them.

        Its steps take ``SHARED_ROWS`` times the rows of an own lens's, because rows of several layers scatter
        more; as many rows as all own lenses together would cost their time for a single map.
        """
        train, held_out = self.train.stacked(), self.held_out.stacked()
        plan = replace(self.plan, batch=SHARED_ROWS * self.plan.batch, anchor=self._anchor())
        problem = Problem(self.head, train, held_out, self.stats.stacked(), self._identity(1), plan)
        return self._fit(problem, "shared", best_start(problem, starts.lenses) if plan.anchor == "ridge" else None)

    def tied(self) -> Fitted:
        """One linear map for all layers and a bias for each, from as many rows a step as one own lens.

        No claim rests on them; what they cost is all that half the rows of a shared lens save.
        """
        plan = replace(self.plan, batch=max(1, self.plan.batch // self._layers), anchor=self._anchor())
        return self._fit(self._problem(self._identity(self._layers), plan, tied=True), "tied")

    def own(self, shared: Translators, starts: Start, *, anchor: str | None = None) -> Fitted:
        """A lens for each layer; ``shared`` is its anchor where the plan, or ``anchor``, says so."""
        return self._fit(self.own_problem(shared, anchor=anchor), "kl", starts)

    def own_problem(self, shared: Translators, *, anchor: str | None = None) -> Problem:
        """What own lenses minimise, from the anchor of the plan or another."""
        plan = self.plan if anchor is None else replace(self.plan, anchor=anchor)
        prior = shared.repeat(self._layers) if plan.anchor == "shared" else self._identity(self._layers)
        return self._problem(prior, plan)

    def null_lenses(self) -> tuple[NullLenses, Certificate]:
        """The lenses behind a null world, and the certificate of the shared one.

        The own lenses start from the shared lens and take half of ``settle`` steps: their residuals are wanted,
        which differ little from those at the minimum, not they themselves. What misfit is left makes the null
        scatter more, so it errs on the side of the null.
        """
        starts = self.starts()
        shared = self.shared(starts)
        steps = max(self.plan.first, min(self.plan.settle // 2, self.plan.max_steps))
        plan = replace(self.plan, anchor="shared", max_steps=steps)
        own = replace(self, plan=plan).own(shared.lenses, starts)
        return NullLenses(shared.lenses, own.lenses), shared.certificate

    def _problem(self, prior: Translators, plan: FitPlan, *, tied: bool = False) -> Problem:
        return Problem(self.head, self.train, self.held_out, self.stats, prior, plan, tied)

    def _anchor(self) -> str:
        """Where lenses of several layers start: a shared lens has no other shared lens to start from."""
        return "ridge" if self.plan.anchor == "shared" else self.plan.anchor

    def _identity(self, maps: int) -> Translators:
        return Translators.identity(maps, self.train.hidden.shape[2], self.train.hidden.device)

    @property
    def _layers(self) -> int:
        return self.train.hidden.shape[0]

    def _fit(self, problem: Problem, stage: str, start: Start | None = None) -> Fitted:
        progress = _staged(stage, self.progress)
        return Fitted(*fit_lenses(problem, rng=self.rng, progress=progress, start=start))


def _staged(stage: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda _stage, done: progress(stage, done)

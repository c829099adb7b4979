"""One pass of the lens pipeline: shared lens, own lenses, certificates; the same code in every world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from transferstats.lens.descent import Problem, Progress
from transferstats.lens.fit import Certificate, fit_lenses
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

    def shared(self) -> Fitted:
        """One lens for all layers by the same procedure, certified the same way.

        Its steps take ``SHARED_ROWS`` times the rows of an own lens's, because rows of several layers scatter
        more; as many rows as all own lenses together would cost their time for a single map.
        """
        train, held_out = self.train.stacked(), self.held_out.stacked()
        plan = replace(self.plan, batch=SHARED_ROWS * self.plan.batch, anchor=self._anchor())
        problem = Problem(self.head, train, held_out, self.stats.stacked(), self._identity(1), plan)
        return self._fit(problem, "shared")

    def tied(self) -> Fitted:
        """One linear map for all layers and a bias for each, from as many rows a step as one own lens.

        No claim rests on them; what they cost is all that half the rows of a shared lens save.
        """
        layers = self.train.hidden.shape[0]
        plan = replace(self.plan, batch=max(1, self.plan.batch // layers), anchor=self._anchor())
        return self._fit(self._problem(self._identity(layers), plan, tied=True), "tied")

    def own(self, shared: Translators) -> Fitted:
        """A lens for each layer; ``shared`` is its anchor where the plan says so."""
        layers = self.train.hidden.shape[0]
        prior = shared.repeat(layers) if self.plan.anchor == "shared" else self._identity(layers)
        return self._fit(self._problem(prior, self.plan), "kl")

    def null_lenses(self) -> tuple[NullLenses, Certificate]:
        """The lenses behind a null world, and the certificate of the shared one.

        The own lenses start from the shared lens and take half of ``settle`` steps: their residuals are wanted,
        which differ little from those at the minimum, not they themselves. What misfit is left makes the null
        scatter more, so it errs on the side of the null.
        """
        shared = self.shared()
        steps = max(self.plan.first, min(self.plan.settle // 2, self.plan.max_steps))
        plan = replace(self.plan, anchor="shared", max_steps=steps)
        own = replace(self, plan=plan).own(shared.lenses)
        return NullLenses(shared.lenses, own.lenses), shared.certificate

    def _problem(self, prior: Translators, plan: FitPlan, *, tied: bool = False) -> Problem:
        return Problem(self.head, self.train, self.held_out, self.stats, prior, plan, tied)

    def _anchor(self) -> str:
        """Where lenses of several layers start: a shared lens has no other shared lens to start from."""
        return "ridge" if self.plan.anchor == "shared" else self.plan.anchor

    def _identity(self, maps: int) -> Translators:
        return Translators.identity(maps, self.train.hidden.shape[2], self.train.hidden.device)

    def _fit(self, problem: Problem, stage: str) -> Fitted:
        return Fitted(*fit_lenses(problem, rng=self.rng, progress=_staged(stage, self.progress)))


def _staged(stage: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda _stage, done: progress(stage, done)

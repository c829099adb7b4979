"""One pass of the lens pipeline: shared lens, own lenses, certificates; the same code in every world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from transferstats.lens.descent import ALL, LAYERS, TIED, Problem, Progress
from transferstats.lens.fit import Certificate, Fit, Start, best_start, fit_together, ridge_start
from transferstats.lens.head import Head
from transferstats.lens.null import NullLenses
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.stream import TrainingRows
from transferstats.lens.translator import Moments, Translators
from transferstats.lens_sets import BESIDE, stored_name
from transferstats.provenance import content_key


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
    head: decoder. rows: training rows of a fold. train: those that are measured. held_out: rows of the fold that
        decide when to stop. stats: moments of the training rows, which depend on states and final states only, so
        that pipelines with other targets share them. plan: how lenses are fitted.
    seed: of the order of the rows, the same for all lenses, and of what else chance decides.
    progress: told of every step.
    """

    head: Head
    rows: TrainingRows
    train: Sample
    held_out: Sample
    stats: Moments
    plan: FitPlan
    seed: int
    progress: Progress | None = None

    def starts(self) -> Start:
        """The ridge start of each layer's own lens."""
        return ridge_start(self._problem(self._identity(self._layers), self.plan))

    def lenses(self, *, ladder: bool) -> dict[str, Fitted]:
        """Readout -> lenses: "own", "shared", with ``ladder`` the "tied" ones between them, and the second set.

        Lenses that wait for none share one pass over the rows.
        """
        starts = self.starts()
        first = {"shared": self.shared(starts)}
        if ladder:
            first["tied"] = self.tied()
        anchors = {"own": self.plan.anchor}
        if self.plan.second_anchor is not None:
            anchors[stored_name("own", BESIDE)] = self.plan.second_anchor
        first |= {name: self.own(name, starts, at) for name, at in anchors.items() if at != "shared"}
        made = self.fitted(first)
        shared = made["shared"].lenses
        waiting = [name for name, at in anchors.items() if at == "shared"]
        return made | self.fitted({name: self.own(name, starts, "shared", shared) for name in waiting})

    def fitted(self, fits: Mapping[str, Fit]) -> dict[str, Fitted]:
        """Fit lenses beside each other, on the same rows."""
        fit_together(fits.values(), self.rows.batches(self.plan.batch, self.stream("order")))
        return {name: Fitted(*one.result()) for name, one in fits.items()}

    def shared(self, starts: Start) -> Fit:
        """One lens for all layers by the same procedure, certified the same way.

        It starts from the ridge lens of all layers together or of one of them (``starts``), whichever does best on
        all held-out layers. Final states are a worse guide the earlier the layer, so ridge over all layers is far
        from the least kl, and with few rows early stopping leaves the lens there: where one lens was exactly right
        at every layer, the ridge lens of the last layer alone was better on every other one, with 480 rows as with
        12,000, than the lens that had started from all of them.
        """
        plan = replace(self.plan, anchor=self._anchor())
        train, held_out = self.train.stacked(), self.held_out.stacked()
        problem = Problem(self.head, train, held_out, self.stats.stacked(), self._identity(1), plan, ALL)
        return self._fit("shared", problem, best_start(problem, starts.lenses) if plan.anchor == "ridge" else None)

    def tied(self) -> Fit:
        """One linear map for all layers and a bias for each, from as many rows a step as one own lens.

        No claim rests on them; what they cost is all that half the rows of a shared lens save.
        """
        plan = replace(self.plan, anchor=self._anchor())
        return self._fit("tied", self._problem(self._identity(self._layers), plan, TIED))

    def own(self, name: str, starts: Start, anchor: str, shared: Translators | None = None) -> Fit:
        """A lens for each layer from an anchor, which ``shared`` is where it says so."""
        return self._fit(name, self.own_problem(anchor, shared), starts)

    def own_problem(self, anchor: str, shared: Translators | None = None) -> Problem:
        """What own lenses minimise, from an anchor."""
        plan = replace(self.plan, anchor=anchor)
        if anchor != "shared":
            return self._problem(self._identity(self._layers), plan)
        assert shared is not None, "lenses that start from the shared lens wait for it"
        return self._problem(shared.repeat(self._layers), plan)

    def null_lenses(self) -> tuple[NullLenses, Certificate]:
        """The lenses behind a null world, and the certificate of the shared one.

        The own lenses start from the shared lens and take half of ``settle`` steps: their residuals are wanted,
        which differ little from those at the minimum, not they themselves. What misfit is left makes the null
        scatter more, so it errs on the side of the null.
        """
        starts = self.starts()
        shared = self.fitted({"shared": self.shared(starts)})["shared"]
        steps = max(self.plan.first, min(self.plan.settle // 2, self.plan.max_steps))
        short = replace(self, plan=replace(self.plan, max_steps=steps))
        own = short.fitted({"own": short.own("own", starts, "shared", shared.lenses)})["own"]
        return NullLenses(shared.lenses, own.lenses), shared.certificate

    def stream(self, name: str) -> torch.Generator:
        """The CPU generator of one purpose: what others draw does not change it."""
        return torch.Generator().manual_seed(int(content_key([self.seed, name]), 16) % 2**62)

    def _problem(self, prior: Translators, plan: FitPlan, serves: str = LAYERS) -> Problem:
        return Problem(self.head, self.train, self.held_out, self.stats, prior, plan, serves)

    def _anchor(self) -> str:
        """Where lenses of several layers start: a shared lens has no other shared lens to start from."""
        return "ridge" if self.plan.anchor == "shared" else self.plan.anchor

    def _identity(self, maps: int) -> Translators:
        return Translators.identity(maps, self.train.hidden.shape[2], self.train.hidden.device)

    @property
    def _layers(self) -> int:
        return self.train.hidden.shape[0]

    def _fit(self, name: str, problem: Problem, start: Start | None = None) -> Fit:
        progress = _staged("kl" if problem.serves == LAYERS else name, self.progress)
        return Fit(problem, rng=self.stream(name), progress=progress, start=start)


def _staged(stage: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda _stage, done: progress(stage, done)

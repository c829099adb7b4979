"""One pass of the lens pipeline: shared lens, own lenses, certificates; the same code in every world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from transferstats.lens.fit import Certificate, FitPlan, Progress, Sample, fit_lenses
from transferstats.lens.head import Head
from transferstats.lens.translator import Translators

SHARED_ROWS = 2  # times the rows a step of an own lens


@dataclass(frozen=True, slots=True)
class Lenses:
    """Own lenses of L layers, the shared lens (one map), and the certificate of each."""

    own: Translators
    own_certificate: Certificate
    shared: Translators
    shared_certificate: Certificate


def fit_pipeline(
    head: Head,
    train: Sample,
    held_out: Sample,
    plan: FitPlan,
    *,
    rng: torch.Generator,
    progress: Progress | None = None,
) -> Lenses:
    """Fit the shared lens and the own lenses of one world."""
    n_layers, _, width = train.hidden.shape
    shared, certificate = fit_shared(head, train, held_out, plan, rng=rng, progress=progress)
    if plan.anchor == "shared":
        prior = shared.repeat(n_layers)
    else:
        prior = Translators.identity(n_layers, width, train.hidden.device)
    own, own_certificate = fit_lenses(
        head, train, held_out, prior, plan, rng=rng, progress=_staged("kl", progress)
    )
    return Lenses(own, own_certificate, shared, certificate)


def fit_shared(
    head: Head,
    train: Sample,
    held_out: Sample,
    plan: FitPlan,
    *,
    rng: torch.Generator,
    progress: Progress | None = None,
) -> tuple[Translators, Certificate]:
    """One lens for all layers by the same procedure, certified the same way.

    Its steps take ``SHARED_ROWS`` times the rows of an own lens's, because rows of several layers scatter more;
    as many rows as all own lenses together would cost their time for a single map.
    """
    width = train.hidden.shape[2]
    prior = Translators.identity(1, width, train.hidden.device)
    budget = replace(plan, batch=SHARED_ROWS * plan.batch, anchor="ridge")
    return fit_lenses(
        head, train.stacked(), held_out.stacked(), prior, budget, rng=rng, progress=_staged("shared", progress)
    )


def _staged(stage: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    return lambda _stage, done: progress(stage, done)

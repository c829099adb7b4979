"""Natural gradient, Adam and Muon on the same lenses: held-out kl by time, and what each does to the penalties.

python analyses/speed/optimisers.py             writes reports/speed/optimisers.md and optimisers.csv
python analyses/speed/optimisers.py --quick     few steps, to see that it works; writes into runs/speed_quick

Every contender starts from the same ridge lenses, sees the same rows in the same order, as many a step, and is
scored by the same function outside the clock. Adam and Muon are those of torch, each at several rates that fall
linearly to 0; biases, which Muon does not take, go to Adam. Every row is a fit of its own from the start.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pages import filled, machine_text, out_folder, table
from peer_contenders import QUICK, Clock, Setting, Work, load, penalty
from torch import Tensor

from transferstats.lens.descent import Problem
from transferstats.lens.fit import Start, begun, ridge_start
from transferstats.lens.head import Head
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.states import States
from transferstats.lens.steps import kl_slope
from transferstats.lens.stream import KeptRows
from transferstats.lens.study import sample_of
from transferstats.lens.transfer import transfer_losses
from transferstats.lens.translator import Translators, moments

RATES: dict[str, tuple[float, ...]] = {"adam": (3e-4, 1e-3, 3e-3), "muon": (1e-3, 3e-3, 1e-2)}
STEPS: tuple[int, ...] = (64, 256, 1024)
NATURAL: dict[str, str] = {"natural": "float32", "natural, bfloat16": "bfloat16"}
"""The descent of this package, and the precision of its gradients."""
Optimiser = Callable[[Sequence[Tensor], float], torch.optim.Optimizer]


class Contender(NamedTuple):
    """A way down, and its first rate; the natural gradient has the plan's."""

    name: str
    rate: float


def contenders() -> Iterator[Contender]:
    """All of them."""
    for name in NATURAL:
        yield Contender(name, FitPlan().share)
    yield from (Contender(name, rate) for name, rates in RATES.items() for rate in rates)


def muon(matrices: Sequence[Tensor], rate: float) -> torch.optim.Optimizer:
    """Muon, its rate matched to the size of Adam's steps."""
    return torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")


def adam(values: Sequence[Tensor], rate: float) -> torch.optim.Optimizer:
    """Adam."""
    return torch.optim.Adam(values, lr=rate)


OF_MATRICES: dict[str, Optimiser] = {"adam": adam, "muon": muon}


def descend(problem: Problem, start: Start, contender: Contender, steps: int) -> Translators:
    """The lenses after some steps from the ridge start."""
    rng = torch.Generator().manual_seed(0)
    if contender.name in NATURAL:
        plan = replace(problem.plan, max_steps=steps, precision=NATURAL[contender.name])
        problem = replace(problem, plan=plan)
        descent, batches = begun(problem, start, rng), KeptRows(problem.train).batches(plan.batch, rng)
        for milestone in plan.milestones():
            while descent.step < milestone:
                descent.take(next(batches))
            lenses = descent.reached()
        return lenses
    return elementwise(problem, start.lenses, contender, steps, rng)


def elementwise(
    problem: Problem, start: Translators, contender: Contender, steps: int, rng: torch.Generator
) -> Translators:
    """Adam or Muon, all lenses at once; gradients are those of the natural descent before its preconditioning."""
    weights = [one.clone() for one in start.weight]
    bias = start.bias.clone()
    for value in (*weights, bias):
        value.requires_grad_(True)
    optimisers = [OF_MATRICES[contender.name](weights, contender.rate), adam([bias], contender.rate)]
    falling = [torch.optim.lr_scheduler.LinearLR(one, 1.0, 0.0, steps) for one in optimisers]
    maps, count = torch.arange(len(weights)), problem.train.hidden.shape[1]
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < problem.plan.batch:
            order = torch.cat([order, torch.randperm(count, generator=rng)])
        rows, order = order[: problem.plan.batch], order[problem.plan.batch :]
        hidden, targets = problem.train.batch(maps, rows.expand(len(maps), -1))
        lenses = Translators(torch.stack([one.detach() for one in weights]), bias.detach())
        slope = kl_slope(problem.head, lenses.apply(hidden).flatten(0, 1), targets).reshape(hidden.shape)
        for weight, gradient in zip(weights, slope.mT @ hidden / hidden.shape[1], strict=True):
            weight.grad = gradient
        bias.grad = slope.mean(1)
        for one in (*optimisers, *falling):
            one.step()
    return Translators(torch.stack([one.detach() for one in weights]), bias.detach())


def measure(work: Work, problem: Problem, steps_tried: Sequence[int]) -> pd.DataFrame:
    """One row a fit: seconds of the descent, held-out kl, mean penalties."""
    start, states = ridge_start(problem), work.subject.states(work.scored)
    sample = sample_of(work.subject, states)

    def judged(lenses: Translators) -> dict[str, float]:
        return {"kl": work.kl(lenses, problem.held_out), **penalties(problem.head, lenses, states, sample)}

    rows: list[dict[str, object]] = [{"name": "ridge start", "steps": 0, **judged(start.lenses)}]
    for contender, steps in itertools.product(contenders(), steps_tried):
        clock = Clock()
        lenses = descend(problem, start, contender, steps)
        seconds = clock.seconds()
        rows.append({**contender._asdict(), "steps": steps, "seconds": seconds, **judged(lenses)})
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)[["name", "rate", "steps", "seconds", "kl", "penalty", "penalty_later"]]


def penalties(head: Head, lenses: Translators, states: States, sample: Sample) -> dict[str, float]:
    """Mean penalty in kl over all layers, and without the embeddings, nats/token."""
    kl = transfer_losses(head, lenses, states, sample.targets).kl.mean(0)
    gaps = penalty(kl)
    off = ~np.eye(len(gaps), dtype=bool)
    return {"penalty": float(gaps[off].mean()), "penalty_later": float(gaps[1:, 1:][off[1:, 1:]].mean())}


def page(found: pd.DataFrame, setting: Setting, quick: bool) -> str:
    """The report."""
    natural = found[found["name"] == "natural"]
    last = natural.iloc[-1]
    caveat = ["**Quick: few steps. These figures are no result.**"] if quick else []
    paragraphs = filled(
        machine_text(["torch"], setting.threads, setting.device),
        *caveat,
        f"""Subject {setting.subject!r}, domain {setting.domain!r}; all start from the same ridge lenses,
        {FitPlan().batch} rows a step and lens. Held-out kl is the mean over layers, nats/token; *penalty* is the
        mean penalty in kl over all pairs of layers, *penalty_later* the same without the embeddings.""",
        *(against(found, natural, name) for name in RATES),
        f"The natural gradient ends at {last['kl']:.4f} after {last['steps']:.0f} steps.",
    )
    return f"""# Natural gradient, Adam and Muon

Written by `analyses/speed/optimisers.py{" --quick" if quick else ""}`; nothing here is written by hand.

{paragraphs}

{table(found)}

Penalties of lenses that have not converged are not comparable: read them beside the kl.
"""


def against(found: pd.DataFrame, natural: pd.DataFrame, name: str) -> str:
    """One optimiser at its best beside the natural gradient."""
    tried = found[found["name"] == name]
    best = tried.loc[tried["kl"].idxmin()]
    said = "never gets there"
    there = natural[natural["kl"] <= best["kl"]]["seconds"]
    if len(there):
        said = f"is there after {there.min():.1f} s ({best['seconds'] / there.min():.1f} times sooner)"
    return f"""{name.capitalize()} at its best (rate {best["rate"]:g}, {best["steps"]:.0f} steps,
        {best["seconds"]:.1f} s) reaches a held-out kl of {best["kl"]:.4f}; the natural gradient {said}."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--subject", default="embedded", help="a directory, a .gguf file or a hub id")
    parser.add_argument("--device", default="cpu", help="torch device")
    arguments = parser.parse_args()
    base = QUICK if arguments.quick else Setting()
    setting = replace(base, subject=arguments.subject, device=arguments.device)
    work = load(setting, skip=1)
    train, held_out = work.sample(work.train), work.sample(work.held_out)
    stats = moments(train.hidden, train.final)
    problem = Problem(work.subject.head, train, held_out, stats, work.identity(), FitPlan())
    found = measure(work, problem, STEPS[:1] if arguments.quick else STEPS)
    text = page(found, setting, arguments.quick)
    out = out_folder(arguments.quick)
    found.to_csv(out / "optimisers.csv", index=False)
    (out / "optimisers.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""How transfer penalties move with the training of the lenses: published recipe at 1, 2 and 4 times its steps, and
natural-gradient lenses at 256 to 1024 steps, on the same folds and the same evaluation documents.

    python analyses/studies/convergence/convergence.py --jobs 2     # resumable
    python analyses/studies/convergence/convergence.py --quick      # two seeds, short budgets, report in runs/

The published recipe takes 262,144 tokens a step; a fold of the shipped documents has some 35,000, so every step
would see all of them at some twenty times the cost. It is run with ``--batch`` rows a step instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from convergence_report import write_report

import transferstats as ts
from transferstats.engine import local_pool
from transferstats.lens.plan import RECIPES

PUBLISHED_STEPS = 250
NEVER = {"tolerance": 0.0, "relative_tolerance": 0.0}  # no plateau ends a descent
ALONE = {"beside": None, "curve": ()}  # lenses of other anchors, or of fewer rows, are another question


class Budget(NamedTuple):
    """One way of training lenses: recipe, steps, and the plan that says so."""

    recipe: str
    steps: int
    plan: ts.FitPlan

    @property
    def name(self) -> str:
        """Name of its store."""
        return f"{self.recipe}-{self.steps}"


def budgets(batch: int, *, quick: bool) -> Iterator[Budget]:
    """All budgets, the longest of each recipe last."""
    published = replace(RECIPES["belrose2023"], batch=batch)
    for steps in (8,) if quick else (PUBLISHED_STEPS, 2 * PUBLISHED_STEPS, 4 * PUBLISHED_STEPS):
        yield Budget("published", steps, replace(published, max_steps=steps))
    for steps in (32,) if quick else (256, 512, 1024):
        settle = min(steps // 2, 256)
        yield Budget("natural", steps, replace(ts.FitPlan(), max_steps=steps, settle=settle, **NEVER, **ALONE))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", default="embedded")
    parser.add_argument("--dataset", default="kjv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=512, help="rows a step and lens of the published recipe")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--store", type=Path, default=Path("runs/convergence"), help="folder of one store a budget"
    )
    parser.add_argument("--out", type=Path, help="folder of the report")
    parser.add_argument("--quick", action="store_true", help="two seeds and short budgets")
    options = parser.parse_args()
    store = options.store / "quick" if options.quick else options.store
    out = options.out or (Path("runs/convergence_quick") if options.quick else Path("reports/convergence"))
    evaluation = ts.EvaluationPlan(units=16, tokens=48) if options.quick else ts.EvaluationPlan()
    seeds = 2 if options.quick else options.seeds
    grids = []
    for budget in budgets(options.batch, quick=options.quick):
        cells = ts.cells(options.subject, [options.dataset], seeds=seeds, fit=budget.plan, evaluation=evaluation)
        with local_pool(options.jobs) as pool:
            outcome = ts.sweep(cells, store / budget.name, executor=pool)
        if outcome.failures:
            raise SystemExit(f"{budget.name}: {outcome.failures[0].label}: {outcome.failures[0].reason}")
        print(f"{budget.name}: {len(outcome.computed)} cells computed, {len(outcome.reused)} reused", flush=True)
        grids.append((budget.recipe, budget.steps, ts.read_grid(store / budget.name)))
    print(write_report(grids, out, batch=options.batch).to_string())


if __name__ == "__main__":
    main()

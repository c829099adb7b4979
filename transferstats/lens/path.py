"""The path of own lenses along their training, from several starts, on the fold of one seed.

At the start and at every doubling of the steps, lenses are scored on every layer of the evaluation units. Lenses
that start from the identity, or from one shared lens, are one lens at first, whose penalty is 0 whatever the
network does; what they end at is what the layers' own data insist on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from transferstats.engine import Cell, CellOutput, Report
from transferstats.errors import DesignError
from transferstats.lens import study
from transferstats.lens.descent import Problem, Progress
from transferstats.lens.design import plan_of
from transferstats.lens.fit import Start, anchored, begun
from transferstats.lens.head import Head
from transferstats.lens.pipeline import Pipeline
from transferstats.lens.plan import FitPlan
from transferstats.lens.sample import Sample
from transferstats.lens.splits import Split
from transferstats.lens.states import States, Subject
from transferstats.lens.stream import KeptRows
from transferstats.lens.transfer import NAMES, UnitLosses, transfer_losses
from transferstats.lens.translator import Translators, moments
from transferstats.path_losses import PATH

STARTS: tuple[str, ...] = ("identity", "ridge", "shared")
"""Where the lenses of a path start, in this order."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Own lenses after some steps from a start: L maps, and the held-out kl (L,) of each."""

    anchor: str
    steps: int
    lenses: Translators
    held_out_kl: Tensor


def milestones(plan: FitPlan) -> list[int]:
    """Steps at which a path is scored: the doublings at which natural descents measure, and sgd's last step."""
    doublings = list(replace(plan, optimiser="natural").milestones())
    last = [plan.max_steps] if plan.optimiser == "sgd" and plan.max_steps not in doublings else []
    return doublings + last


def follow(pipeline: Pipeline) -> Iterator[Iterator[Moment]]:
    """The moments of each start of :data:`STARTS`, which all see the same rows in the same order.

    These are the rows that lenses of the seed see: from the plan's own anchor, the descent is the first one of the
    seed, except that no lens leaves it early.
    """
    starts = pipeline.starts()
    shared = pipeline.fitted({"shared": pipeline.shared(starts)})["shared"].lenses
    for anchor in STARTS:
        problem = pipeline.own_problem(anchor, shared)
        yield _moments(anchor, problem, anchored(problem, starts), pipeline)


def _moments(anchor: str, problem: Problem, start: Start, pipeline: Pipeline) -> Iterator[Moment]:
    """Start and doublings, up to the first at which a lens has no finite kl."""
    plan = problem.plan
    descent = begun(problem, start, pipeline.stream("own"))
    batches = pipeline.rows.batches(plan.batch, pipeline.stream("order"))
    yield Moment(anchor, 0, start.lenses, start.kl)
    for steps in milestones(plan):
        while descent.step < steps:
            taken = descent.take(next(batches))
            if pipeline.progress is not None:
                pipeline.progress("kl", taken)
        lenses = descent.reached()
        kl = problem.kl(lenses, problem.held_out)
        if not kl.isfinite().all():
            return
        yield Moment(anchor, steps, lenses, kl)


def with_path(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a study, and for each dataset one more that follows its lenses along their training.

    Parameters
    ----------
    cells: as ``cells``, ``vision_cells`` or ``known_truth_cells`` plan them; they stay what they are.

    Returns
    -------
    The cells of paths first, because they take longest, and then the cells given. A path follows lenses of the
    fold of seed 0 from the identity, from ridge and from the shared lens, to the last step of the plan.

    Raises
    ------
    DesignError: lenses that are not trained in steps: ready-made ones, or ridge.
    """
    firsts = [one for one in cells if (one.config["world"], one.config["seed"]) == ("observed", 0)]
    if not firsts or any(one.config.get("fit", {}).get("method") != "kl" for one in firsts):
        raise DesignError("only lenses that are trained in steps have a path: fit them with method kl")
    paths = [
        replace(one, config={**one.config, "world": PATH}, label=f"{one.config['dataset']['name']} path")
        for one in firsts
    ]
    return [*paths, *cells]


def compute_path(subject: Subject, split: Split, config: dict[str, Any], report: Report) -> CellOutput:
    """The cell of a path: one row a moment and unit, and the held-out kl of every moment and layer in the record.

    Random numbers are those of the observed cell of the same seed, so that its lenses lie on the path.
    """
    plan: FitPlan = plan_of(FitPlan, config["fit"])
    draw = study.torch_stream(Cell({**config, "world": "observed"}, "").rng())
    states, alignment = study.captured(subject, split, config, report)
    samples = [study.sample_of(subject, one) for one in states]
    stats = moments(samples[0].hidden, samples[0].final)
    progress = _progress(report, plan, len(subject.layers))
    seed = int(torch.randint(2**62, (1,), generator=draw))  # as the pipeline of the seed draws it
    pipeline = Pipeline(subject.head, KeptRows(samples[0]), samples[0], samples[1], stats, plan, seed, progress)
    tables, described = [], []
    for path in follow(pipeline):
        for moment, losses in _scored(subject.head, path, states[2], samples[2], report):
            tables.append(_rows(moment, losses))
            held_out = moment.held_out_kl.tolist()
            described.append({"anchor": moment.anchor, "steps": moment.steps, "held_out_kl": held_out})
    record: dict[str, Any] = {"layers": list(subject.layers), "unit": subject.unit, "certificates": []}
    record |= {} if alignment is None else {"alignment": alignment}
    record["rows"] = dict(zip(study.PARTS, (one.n_rows for one in states), strict=True))
    clusters = [subject.clusters[index] for index in split.evaluation]
    return CellOutput(_with_units(tables, states[2], clusters), {**record, "path": described})


def _progress(report: Report, plan: FitPlan, n_layers: int) -> Progress:
    total = len(STARTS) * plan.max_steps * plan.batch * n_layers
    return lambda stage, done: report(stage, done, total)


def _scored(
    head: Head, path: Iterator[Moment], states: States, sample: Sample, report: Report
) -> Iterator[tuple[Moment, UnitLosses]]:
    """Losses (N, L, L) of every moment, up to the first at which a lens has no finite loss somewhere."""
    for moment in path:
        # Not the stage "transfer", with which other cells end.
        losses = transfer_losses(
            head, moment.lenses, states, sample.targets, advance=lambda done: report("scoring", done, 0)
        )
        if not (np.isfinite(losses.kl).all() and np.isfinite(losses.ce).all()):
            return
        yield moment, losses


def _rows(moment: Moment, losses: UnitLosses) -> pd.DataFrame:
    """One row a unit: means over layers of own losses, and over pairs of layers of penalties."""
    columns: dict[str, Any] = {"anchor": moment.anchor, "steps": np.int32(moment.steps)}
    for name in NAMES:
        values = getattr(losses, name)
        own = np.diagonal(values, axis1=1, axis2=2)
        off = ~np.eye(values.shape[1], dtype=bool)
        columns[f"own_{name}"] = own.mean(1)
        columns[f"penalty_{name}"] = (values - own[:, None, :])[:, off].mean(1)
    return pd.DataFrame(columns)


def _with_units(rows: Sequence[pd.DataFrame], states: States, clusters: Sequence[str]) -> pd.DataFrame:
    counts = states.counts().cpu().numpy().astype(np.int32)
    table = pd.concat(rows, ignore_index=True)
    times = len(rows)
    table["unit"], table["cluster"] = list(states.units) * times, list(clusters) * times
    return table.assign(n=np.tile(counts, times))

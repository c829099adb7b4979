"""Lens studies as cells: what the cells of a study are, and what running one does.

One cell is one (subject, dataset, seed, world): capture states, fit lenses on the seed's fold, score every lens
on every layer of the evaluation units that all seeds share. In the world "observed" lenses are fitted to the
network's own final distributions; in the world "null" to targets for which one shared lens is exactly right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from transferstats.engine import Cell, CellOutput, Report
from transferstats.errors import DesignError
from transferstats.lens.alignment import aligned_states
from transferstats.lens.descent import Progress
from transferstats.lens.design import listed_worlds, place_of, plain, plan_cells, plan_of, split_of
from transferstats.lens.documents import Documents, read_documents
from transferstats.lens.head import final_targets
from transferstats.lens.language import (
    LEAST_SCORED,
    Encoding,
    LanguageModel,
    LanguageSource,
    LanguageSubject,
    load_language_model,
    model_fingerprint,
)
from transferstats.lens.null import null_samples
from transferstats.lens.pipeline import Fitted, Pipeline
from transferstats.lens.plan import FitPlan
from transferstats.lens.rows import certificate_rows, long_table
from transferstats.lens.sample import Sample
from transferstats.lens.similarity import layer_similarities
from transferstats.lens.splits import Split
from transferstats.lens.states import States, Subject
from transferstats.lens.stream import KeptRows
from transferstats.lens.transfer import UnitLosses, baseline_losses, layer_losses, transfer_losses
from transferstats.lens.translator import Moments, Translators, moments
from transferstats.lens_sets import share_name, split_name, stored_name
from transferstats.path_losses import PATH

ALGORITHM = 11  # raised whenever the same configuration would give other numbers
RUNNER = "transferstats.lens.study:run"
WORLDS = {"observed": 0, "null": 1, "null of null": 2}
"""How many times targets are replaced by those of a world in which one shared lens is right."""
PARTS = ("train", "held_out", "evaluation")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """Which units are scored: how many, how many scored tokens of each, and the held-out share of a fold."""

    units: int = 100
    tokens: int = 96
    held_out: float = 0.2

    def __post_init__(self) -> None:
        if self.units < 2 or self.tokens < LEAST_SCORED or not 0 < self.held_out < 1:
            raise DesignError(
                f"an evaluation needs at least 2 units and {LEAST_SCORED} tokens of each, and a held-out share "
                f"between 0 and 1; got {self.units}, {self.tokens} and {self.held_out:g}"
            )


@dataclass(frozen=True, slots=True)
class Machine:
    """Where cells are computed; not part of their identity.

    device: torch device, or "auto" for a language model that needs several accelerators. threads: CPU threads a
    cell; with 1 the numbers do not depend on the number of cores, and cells run side by side.
    """

    device: str = "cpu"
    threads: int = 1

    def place(self) -> dict[str, str]:
        """Its part of the location of a cell."""
        return {"device": self.device, "threads": str(self.threads)}


def cells(
    subject: str | LanguageSource,
    datasets: Sequence[str | Path],
    *,
    seeds: int = 5,
    null_replicates: int = 0,
    fit: FitPlan | None = None,
    encoding: Encoding | None = None,
    evaluation: EvaluationPlan | None = None,
    machine: Machine | None = None,
) -> list[Cell]:
    """Plan the cells of a study on a causal language model.

    Parameters
    ----------
    subject: "embedded", a Hugging Face directory, a ``.gguf`` file or a hub id; as ``LanguageSource`` where only
        some of its layers are used.
    datasets: as ``read_documents`` takes them: shipped domains, tables of documents, folders.
    seeds: K independent replicates, each trained on its own disjoint fold of documents.
    null_replicates: R runs of the whole pipeline in the world where one shared lens is exactly right; they use
        the folds of the seeds. 0 leaves claims about the null untested; otherwise 5 or more.
    fit: how lenses are trained.
    encoding, evaluation, machine: plans; their defaults suit small models on a CPU.

    Returns
    -------
    K + R cells a dataset, and one more for the null's own null, ready for ``sweep``; ``with_path`` adds one that
    follows lenses along their training.

    Raises
    ------
    DesignError: fewer than 2 seeds, no dataset, repeated names, or documents too few for this design.
    DataError, SubjectError: nothing readable at a path.
    """
    worlds = listed_worlds(seeds, null_replicates)
    source = subject if isinstance(subject, LanguageSource) else LanguageSource(subject)
    source.check()
    shared = {
        "algorithm": ALGORITHM,
        "subject": source.record(),
        "fit": plain(fit or FitPlan()),
        "encoding": plain(encoding or Encoding()),
        "evaluation": plain(evaluation or EvaluationPlan()),
        "folds": max(seeds, null_replicates),
    }
    documents = [read_documents(dataset) for dataset in datasets]
    place = {"subject": place_of(source.source), **(machine or Machine()).place()}
    return plan_cells(shared, documents, worlds, RUNNER, place)


@lru_cache(maxsize=1)
def _language_model(source: str, device: str, _fingerprint: str) -> LanguageModel:
    """One model stays loaded: the cells of a study share it, until its files change."""
    return load_language_model(source, device=device)


def run(cell: Cell, report: Report) -> CellOutput:
    """Compute one cell: the runner behind :data:`RUNNER`."""
    with threads(cell):
        subject, config = language_subject(cell), dict(cell.config)
        split = split_of(config, subject.documents.clusters)
        return compute_world(subject, split, config, cell.rng(), report)


@contextmanager
def threads(cell: Cell) -> Iterator[None]:
    """The number of torch threads that the cell asks for, for as long as it is computed."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(cell.location.get("threads", "1")))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def language_subject(cell: Cell) -> LanguageSubject:
    """The subject of a cell, once its files are known to be those that were planned with."""
    config = dict(cell.config)
    documents = read_documents(cell.location["dataset"])
    _check_fingerprints(config, cell, documents)
    fingerprint = config["subject"]["fingerprint"]
    model = _language_model(cell.location["subject"], cell.location.get("device", "cpu"), fingerprint)
    encoding = plan_of(Encoding, config["encoding"])
    return LanguageSubject(model, documents, encoding, config["subject"].get("every", 1))


def compute_world(
    subject: Subject, split: Split, config: dict[str, Any], rng: np.random.Generator, report: Report
) -> CellOutput:
    """The cell of any kind of subject, once its units are split; random numbers come from ``rng`` alone."""
    if config["world"] == PATH:
        from transferstats.lens.path import compute_path  # it needs this module

        return compute_path(subject, split, config, report)
    observed = config["world"] == "observed"
    made = fit_world(subject, split, config, rng, report)
    scored, sample = made.states[2], made.samples[2]
    record: dict[str, Any] = {"layers": list(subject.layers), "unit": subject.unit}
    record |= {} if made.alignment is None else {"alignment": made.alignment}
    record["rows"] = {name: one.n_rows for name, one in zip(PARTS, made.states, strict=True)} | made.part_rows
    if observed:
        similarities = layer_similarities(made.states[0].hidden)
        record["similarities"] = {name: matrix.tolist() for name, matrix in similarities.items()}
    record["certificates"] = made.certificates
    table = _score(subject, made.fitted, scored, sample, report)
    clusters = [subject.clusters[index] for index in split.evaluation]
    if observed:
        table += baselines(subject, scored, sample, split)
    counts = scored.counts().cpu().numpy()
    return CellOutput(
        pd.concat([long_table(name, part, scored.units, clusters, counts) for name, part in table]), record
    )


@dataclass(frozen=True, slots=True)
class FittedWorld:
    """Lenses of one cell and what they were fitted to: states and samples of train, held-out and scored units.

    certificates: one JSON row a lens. alignment: record of the alignment, where there is one. part_rows: training
    rows of each set of lenses that was fitted to a part of the fold.
    """

    states: Sequence[States]
    samples: Sequence[Sample]
    fitted: dict[str, Fitted]
    certificates: list[dict[str, Any]]
    alignment: dict[str, Any] | None
    part_rows: dict[str, int]


def fit_world(
    subject: Subject, split: Split, config: dict[str, Any], rng: np.random.Generator, report: Report
) -> FittedWorld:
    """The lenses of a cell, before any is scored."""
    draw = torch_stream(rng)
    plan: FitPlan = plan_of(FitPlan, config["fit"])
    states, alignment = captured(subject, split, config, report)
    samples = [sample_of(subject, one) for one in states]
    total = plan.max_steps * plan.batch * len(subject.layers)
    stats = moments(samples[0].hidden, samples[0].final)
    world = World(subject, plan, stats, draw, lambda stage, done: report(stage, done, total))
    generator: list[dict[str, Any]] = []
    for _ in range(WORLDS[config["world"]]):
        samples, generator = world.replace_targets(samples, states)
    observed = config["world"] == "observed"
    fitted = world.fit(samples, ladder=observed)
    part_rows: dict[str, int] = {}
    for share in plan.curve if observed else ():
        part = world.nested_rows(states[0], share)
        part_rows[share_name(share)] = len(part)
        fitted |= world.fit_part(samples, part, share)
    certificates = [
        row for name, one in fitted.items() for row in certificate_rows(one.certificate, name, subject.layers)
    ]
    return FittedWorld(states, samples, fitted, certificates + generator, alignment, part_rows)


def torch_stream(rng: np.random.Generator) -> torch.Generator:
    """The CPU generator of a cell's fits."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def captured(
    subject: Subject, split: Split, config: dict[str, Any], report: Report
) -> tuple[list[States], dict[str, Any] | None]:
    """Aligned states of train, held-out and scored units, and the record of the alignment, where there is one."""
    fold = split.folds[config["seed"]]
    report("states", 0, 0)
    states = [subject.capture(indices.tolist()) for indices in (fold.train, fold.held_out)]
    states.append(subject.capture(split.evaluation.tolist(), max_rows=config["evaluation"].get("tokens")))
    return aligned_states(config.get("alignment"), states)


@dataclass(frozen=True, slots=True)
class World:
    """What fitting in one cell shares: subject, plan, moments of the training states, random stream, progress."""

    subject: Subject
    plan: FitPlan
    stats: Moments
    draw: torch.Generator
    progress: Progress

    def fit(self, samples: Sequence[Sample], *, ladder: bool) -> dict[str, Fitted]:
        """Readout -> lenses fitted to the training sample; ``ladder`` adds the rung between shared and own."""
        return self._pipeline(samples).lenses(ladder=ladder)

    def fit_part(self, samples: Sequence[Sample], rows: Tensor, share: float) -> dict[str, Fitted]:
        """The same for some training rows (r,), stopped on the same held-out rows."""
        train = samples[0].part(rows)
        stats = moments(train.hidden, train.final)
        world = replace(self, plan=self.plan.on_part(share), stats=stats)
        fitted = world.fit([train, *samples[1:]], ladder=False)
        return {stored_name(name, share_name(share)): one for name, one in fitted.items()}

    def nested_rows(self, states: States, share: float) -> Tensor:
        """Rows of about a share of the training units: whole clusters, and those of a smaller share among them."""
        member = self._row_clusters(states)
        sizes = torch.bincount(member)
        # Not from ``draw``: the order must be the same for every share.
        order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(len(sizes)))
        reached = sizes[order].cumsum(0) / sizes.sum()
        kept = order[: max(1, int((reached <= share + 1e-9).sum()))]
        return torch.isin(member, kept).nonzero().squeeze(1).to(states.hidden.device)

    def _pipeline(self, samples: Sequence[Sample]) -> Pipeline:
        rows, seed = KeptRows(samples[0]), int(torch.randint(2**62, (1,), generator=self.draw))
        return Pipeline(
            self.subject.head, rows, samples[0], samples[1], self.stats, self.plan, seed, self.progress
        )

    def replace_targets(
        self, samples: Sequence[Sample], states: Sequence[States]
    ) -> tuple[list[Sample], list[dict[str, Any]]]:
        """Train, held-out and evaluation samples of the shared-lens null, and the certificate of its lens."""
        lenses, certificate = self._pipeline(samples).null_lenses()
        clusters = [self._row_clusters(captured) for captured in states]
        replaced = null_samples(
            self.subject.head, lenses, samples, clusters, rng=self.draw, precision=self.plan.precision
        )
        return replaced, certificate_rows(certificate, "generator", self.subject.layers)

    def _row_clusters(self, states: States) -> Tensor:
        """(n,) cluster of each row, as numbers."""
        cluster_of = dict(zip(self.subject.units, self.subject.clusters, strict=True))
        _, codes = np.unique([cluster_of[name] for name in states.units], return_inverse=True)
        return torch.as_tensor(codes)[states.unit.cpu()]


def _check_fingerprints(config: dict[str, Any], cell: Cell, documents: Documents) -> None:
    if documents.fingerprint != config["dataset"]["fingerprint"]:
        raise DesignError(
            f"{cell.label}: the documents at {cell.location['dataset']!r} changed since the study was planned; "
            "restore them, or plan a new study"
        )
    if model_fingerprint(cell.location["subject"]) != config["subject"]["fingerprint"]:
        raise DesignError(
            f"{cell.label}: the model at {cell.location['subject']!r} changed since the study was planned; "
            "restore it, or plan a new study"
        )


def sample_of(subject: Subject, states: States) -> Sample:
    """States with the targets of their own final states."""
    targets = final_targets(subject.head, states.final, states.labels)
    return Sample(states.hidden, states.final[None], (targets,))


def _score(
    subject: Subject, fitted: dict[str, Fitted], states: States, sample: Sample, report: Report
) -> list[tuple[str, UnitLosses]]:
    """Losses of own lenses on every layer, and of the other readouts, in the world of ``sample``."""
    head, targets = subject.head, sample.targets
    own = [name for name in fitted if split_name(name)[0] == "own"]
    total = states.n_rows * states.n_layers**2 * len(own)
    table = []
    for name, one in fitted.items():
        if name in own:
            scored = transfer_losses(
                head, one.lenses, states, targets, advance=lambda done: report("transfer", done, total)
            )
            table.append((name.replace("own", "lens", 1), scored))
        else:
            table.append((name, layer_losses(head, one.lenses, states, targets)))
    return table


def baselines(subject: Subject, states: States, sample: Sample, split: Split) -> list[tuple[str, UnitLosses]]:
    """What lenses are compared with: the logit lens, the final model, and the prior without any state."""
    head, width = subject.head, states.hidden.shape[2]
    identity = Translators.identity(1, width, states.hidden.device)
    # The prior is the same for every seed: it is estimated from all units that no seed is scored on.
    others = np.setdiff1d(np.arange(len(subject.units)), split.evaluation)
    base = baseline_losses(head, states, subject.log_prior(others.tolist()))
    zero = np.zeros(len(states.units))
    return [
        ("logit", layer_losses(head, identity, states, sample.targets)),
        ("final", UnitLosses(zero, base["final_ce"], zero)),
        ("prior", UnitLosses(base["prior_kl"], base["prior_ce"], base["prior_disagreement"])),
    ]

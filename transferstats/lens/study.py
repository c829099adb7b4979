"""Lens studies as cells: what the cells of a study are, and what running one does.

One cell is one (subject, dataset, seed): capture states, fit own lenses on the seed's fold, score every lens
on every layer of the evaluation units that all seeds share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from transferstats.engine import Cell, CellOutput, Report
from transferstats.errors import DesignError
from transferstats.lens.documents import Documents, read_documents
from transferstats.lens.fit import Certificate, FitPlan, Sample, fit_lenses
from transferstats.lens.head import final_targets
from transferstats.lens.language import (
    Encoding,
    LanguageModel,
    LanguageSubject,
    load_language_model,
    model_fingerprint,
)
from transferstats.lens.splits import Split, split_units
from transferstats.lens.states import States, Subject
from transferstats.lens.transfer import UnitLosses, baseline_losses, layer_losses, transfer_losses
from transferstats.lens.translator import Translators
from transferstats.provenance import content_key

ALGORITHM = 1  # raised whenever the same configuration would give other numbers
RUNNER = "transferstats.lens.study:run"
NO_LAYER = -1  # source or target of a readout that has none


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """Which units are scored: how many, how many scored tokens of each, and the held-out share of a fold."""

    units: int = 120
    tokens: int = 254
    held_out: float = 0.2


def cells(
    subject: str,
    datasets: Sequence[str | Path],
    *,
    seeds: int = 5,
    fit: FitPlan | None = None,
    encoding: Encoding | None = None,
    evaluation: EvaluationPlan | None = None,
    device: str = "cpu",
    threads: int = 1,
) -> list[Cell]:
    """Plan the cells of a study on a causal language model.

    Parameters
    ----------
    subject: "embedded", a Hugging Face directory, a ``.gguf`` file or a hub id.
    datasets: shipped domains, ``.jsonl(.gz)`` files or folders of ``.txt`` files.
    seeds: K independent replicates, each trained on its own disjoint fold of documents.
    fit, encoding, evaluation: plans; their defaults suit small models on a CPU.
    device: torch device that computes the cells. threads: CPU threads a cell; with 1 the numbers do not
        depend on the number of cores, and cells run side by side. Neither is part of a cell's identity.

    Returns
    -------
    K cells a dataset, ready for ``sweep``.

    Raises
    ------
    DesignError: fewer than 2 seeds, no dataset, repeated names, or documents too few for this design.
    DataError, SubjectError: nothing readable at a path.
    """
    if seeds < 2:
        raise DesignError(f"{seeds} seed(s): inference over lens training needs at least 2 seeds, better 5")
    documents = [read_documents(dataset) for dataset in datasets]
    names = [item.name for item in documents]
    if not names or len(set(names)) != len(names):
        raise DesignError(f"need at least one dataset, each with its own name; got {names}")
    shared = {
        "algorithm": ALGORITHM,
        "subject": {"name": Path(subject).name, "fingerprint": model_fingerprint(subject)},
        "fit": _plain(fit or FitPlan()),
        "encoding": _plain(encoding or Encoding()),
        "evaluation": _plain(evaluation or EvaluationPlan()),
        "folds": seeds,
    }
    planned = []
    for item in documents:
        config = {**shared, "dataset": {"name": item.name, "fingerprint": item.fingerprint}, "world": "observed"}
        split_of(config, item.clusters)  # a design that cannot be split is refused before anything is computed
        location = {"subject": subject, "dataset": _place(item), "device": device, "threads": str(threads)}
        for seed in range(seeds):
            label = f"{item.name} seed {seed}"
            planned.append(Cell({**config, "seed": seed}, RUNNER, location, label))
    return planned


def _place(documents: Documents) -> str:
    return documents.origin.removeprefix("embedded:")


def _plain(plan: FitPlan | Encoding | EvaluationPlan) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(plan).items()}


def _plan(kind: type[Any], config: dict[str, Any]) -> Any:
    names = {field.name for field in fields(kind)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in names})


def split_of(config: dict[str, Any], clusters: Sequence[str]) -> Split:
    """The split of a dataset; it depends on the dataset and the design, not on the seed."""
    evaluation = config["evaluation"]
    key = content_key([config["dataset"]["fingerprint"], config["folds"], evaluation["units"]])
    return split_units(
        clusters,
        n_folds=config["folds"],
        n_evaluation=evaluation["units"],
        held_out=evaluation["held_out"],
        rng=np.random.default_rng(np.random.SeedSequence(int(key, 16))),
    )


@lru_cache(maxsize=1)
def _language_model(source: str, device: str) -> LanguageModel:
    """One model stays loaded: the cells of a study share it."""
    return load_language_model(source, device=device)


def run(cell: Cell, report: Report) -> CellOutput:
    """Compute one cell: the runner behind :data:`RUNNER`."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(cell.location.get("threads", "1")))
    try:
        return _compute(cell, report)
    finally:
        torch.set_num_threads(before)


def _compute(cell: Cell, report: Report) -> CellOutput:
    config = dict(cell.config)
    model = _language_model(cell.location["subject"], cell.location.get("device", "cpu"))
    documents = read_documents(cell.location["dataset"])
    _check_fingerprints(config, cell, documents)
    subject = LanguageSubject(model, documents, _plan(Encoding, config["encoding"]))
    split = split_of(config, documents.clusters)
    rng = torch.Generator().manual_seed(int(cell.rng().integers(2**62)))
    lenses, certificate, rows = _fit_own(subject, split, config, rng, report)
    evaluation = config["evaluation"]
    states = subject.capture(split.evaluation.tolist(), max_rows=evaluation["tokens"])
    table = _score(subject, lenses, states, split, report)
    record = {
        "layers": list(subject.layers),
        "unit": "nats/token",
        "certificates": certificate_rows(certificate, "own", subject.layers),
        "rows": rows,
        "units": {"train": len(split.folds[config["seed"]].train), "evaluation": len(split.evaluation)},
    }
    return CellOutput(table, record)


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


def _fit_own(
    subject: Subject, split: Split, config: dict[str, Any], rng: torch.Generator, report: Report
) -> tuple[Translators, Certificate, dict[str, int]]:
    """Own lenses of every layer on the fold of this seed."""
    fold = split.folds[config["seed"]]
    report("states", 0, 0)
    train = sample_of(subject, subject.capture(fold.train.tolist()))
    held_out = sample_of(subject, subject.capture(fold.held_out.tolist()))
    plan: FitPlan = _plan(FitPlan, config["fit"])
    n_layers, _, width = train.hidden.shape
    prior = Translators.identity(n_layers, width, train.hidden.device)
    total = plan.max_steps * plan.batch * n_layers
    lenses, certificate = fit_lenses(
        subject.head,
        train,
        held_out,
        prior,
        plan,
        rng=rng,
        progress=lambda stage, done: report(stage, done, total),
    )
    rows = {"train": train.hidden.shape[1], "held_out": held_out.hidden.shape[1]}
    return lenses, certificate, rows


def sample_of(subject: Subject, states: States) -> Sample:
    """States with the targets of their own final states."""
    return Sample(states.hidden, states.final, final_targets(subject.head, states.final, states.labels))


def _score(subject: Subject, lenses: Translators, states: States, split: Split, report: Report) -> pd.DataFrame:
    head = subject.head
    targets = final_targets(head, states.final, states.labels)
    total = states.n_rows * states.n_layers**2
    transfer = transfer_losses(head, lenses, states, targets, advance=lambda done: report("transfer", done, total))
    logit = layer_losses(head, Translators.identity(len(lenses), states.hidden.shape[2]), states, targets)
    # The prior is the same for every seed: it is estimated from all documents that no seed is scored on.
    others = np.setdiff1d(np.arange(len(subject.units)), split.evaluation)
    base = baseline_losses(head, states, subject.log_prior(others.tolist()))
    zero = np.zeros(len(states.units))
    clusters = [subject.clusters[index] for index in split.evaluation]
    parts = [
        ("lens", transfer),
        ("logit", logit),
        ("final", UnitLosses(zero, base["final_ce"])),
        ("prior", UnitLosses(base["prior_kl"], base["prior_ce"])),
    ]
    counts = states.counts().cpu().numpy()
    return pd.concat([long_table(name, part, states.units, clusters, counts) for name, part in parts])


def long_table(
    readout: str, scored: UnitLosses, units: Sequence[str], clusters: Sequence[str], counts: Any
) -> pd.DataFrame:
    """One row a (unit, source, target) of one readout; absent sources and targets are :data:`NO_LAYER`."""
    index = np.indices(scored.kl.shape).reshape(scored.kl.ndim, -1)
    unit = index[0]
    absent = np.full(len(unit), NO_LAYER)
    source = index[1] if scored.kl.ndim == 3 else absent
    target = index[-1] if scored.kl.ndim >= 2 else absent
    return pd.DataFrame(
        {
            "readout": readout,
            "unit": np.asarray(units, dtype=object)[unit],
            "cluster": np.asarray(clusters, dtype=object)[unit],
            "n": counts[unit].astype(np.int32),
            "source": source.astype(np.int16),
            "target": target.astype(np.int16),
            "kl": scored.kl.ravel(),
            "ce": scored.ce.ravel(),
        }
    )


def certificate_rows(certificate: Certificate, readout: str, layers: Iterable[str]) -> list[dict[str, Any]]:
    """One JSON row a lens; a change that was never measured is None."""
    rows = []
    for index, layer in enumerate(layers):
        change = float(certificate.change[index])
        rows.append(
            {
                "readout": readout,
                "layer": layer,
                "start_kl": float(certificate.start_kl[index]),
                "held_out_kl": float(certificate.held_out_kl[index]),
                "train_kl": float(certificate.train_kl[index]),
                "change": change if np.isfinite(change) else None,
                "steps": int(certificate.steps[index]),
                "strength": float(certificate.strength[index]),
                "converged": bool(certificate.converged[index]),
            }
        )
    return rows

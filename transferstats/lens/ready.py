"""Cells of ready-made lenses: somebody else fitted them, here they are only scored, every lens on every layer.

One cell is one (subject, dataset, set of lenses); each set counts as a seed. There is no fitting, so there is no
certificate, no shared lens and no null: nobody can replay the pipeline that made a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from transferstats.engine import Cell, CellOutput, Report
from transferstats.errors import DesignError
from transferstats.lens import study
from transferstats.lens.artifacts import JACOBIAN, ReadyLenses, lens_fingerprint, read_lenses, unembedding_hash
from transferstats.lens.design import split_of
from transferstats.lens.language import Encoding, LanguageModel, LanguageSubject
from transferstats.lens.rows import long_table
from transferstats.lens.similarity import layer_similarities
from transferstats.lens.splits import Split
from transferstats.lens.transfer import transfer_losses
from transferstats.lens.translator import Translators

RUNNER = "transferstats.lens.ready:run"


def lens_cells(
    subject: str,
    datasets: Sequence[str | Path],
    lenses: Sequence[str | Path],
    *,
    encoding: Encoding | None = None,
    evaluation: study.EvaluationPlan | None = None,
    machine: study.Machine | None = None,
) -> list[Cell]:
    """Plan the cells that score ready-made lenses.

    Parameters
    ----------
    subject, datasets, encoding, evaluation, machine: as in ``cells``.
    lenses: one a seed: folders of tuned-lens, or ``.pt`` files of Jacobian lenses; all for the same layers.

    Returns
    -------
    One cell a dataset and set of lenses. The documents scored are those of ``cells`` with as many seeds, so that
    both studies can be compared document by document.

    Raises
    ------
    DesignError: no lenses, the same file twice, or lenses for different layers. DataError: files that are refused.
    """
    read = [read_lenses(source) for source in lenses]
    prints = [lens_fingerprint(source) for source in lenses]
    if not read or len(set(prints)) != len(prints):
        raise DesignError(
            "need at least one set of lenses, each another: the same file twice would count as two trainings"
        )
    if len({(one.kind, one.layers, one.width) for one in read}) > 1:
        kinds = ", ".join(f"{one.name}: {one.kind}, {len(one.layers)} layers of {one.width}" for one in read)
        raise DesignError(f"lenses of one study must be of one kind and serve the same layers; got {kinds}")
    # The same designs are refused, and the same documents scored, as where lenses are trained.
    base = study.cells(
        subject, datasets, seeds=max(2, len(read)), encoding=encoding, evaluation=evaluation, machine=machine
    )
    listed = [{"kind": one.kind, "fingerprint": digest} for one, digest in zip(read, prints, strict=True)]
    return [_cell(cell, listed, lenses[cell.config["seed"]]) for cell in base if cell.config["seed"] < len(read)]


def _cell(cell: Cell, lenses: list[dict[str, str]], source: str | Path) -> Cell:
    config = {name: value for name, value in cell.config.items() if name != "fit"}
    return replace(
        cell,
        config={**config, "lenses": lenses},
        runner=RUNNER,
        location={**cell.location, "lenses": str(Path(source).resolve())},
        label=f"{cell.label} ({Path(source).name})",
    )


def run(cell: Cell, report: Report) -> CellOutput:
    """Score one set of lenses: the runner behind :data:`RUNNER`."""
    with study.threads(cell):
        config = dict(cell.config)
        source = cell.location["lenses"]
        if lens_fingerprint(source) != config["lenses"][config["seed"]]["fingerprint"]:
            raise DesignError(
                f"{cell.label}: the lenses at {source!r} changed since the study was planned; restore them, or "
                "plan a new study"
            )
        subject = study.language_subject(cell)
        ready = fitting(read_lenses(source), subject.language_model)
        split = split_of(config, subject.documents.clusters)
        return _score(subject, ready, split, config, report)


def fitting(ready: ReadyLenses, model: LanguageModel) -> ReadyLenses:
    """The lenses that serve layers of this model, once they are known to be made for it.

    Raises
    ------
    DesignError: another width, other layers, another unembedding, another name or another target than the files
        say. What they do not say becomes a caveat.
    """
    depth, width = len(model.layers), model.anatomy.head.weight.shape[1]
    if ready.width != width or ready.about.get("layers", depth) != depth or max(ready.layers) > depth:
        raise DesignError(
            f"the lenses {ready.name!r} map states of width {ready.width} up to layer {max(ready.layers)}; "
            f"{model.name!r} has {depth} layers of width {width}: they belong to another model"
        )
    said = ready.about.get("unembedding")
    if said and said != unembedding_hash(model.model.get_output_embeddings().weight):
        raise DesignError(
            f"the lenses {ready.name!r} were trained for another unembedding than that of {model.name!r} (their "
            "config.json keeps its hash): use the model they were made for; if you know that it is this one, "
            "remove unembed_hash from config.json"
        )
    caveats = (*_of_model(ready, model), *_of_target(ready, depth))
    # A lens at the output of the last block maps the final state, which is what all lenses predict.
    kept = [index for index, layer in enumerate(ready.layers) if layer < depth]
    if len(kept) < 2:
        raise DesignError(
            f"the lenses {ready.name!r} serve {len(kept)} layer(s) of this model; transfer needs two"
        )
    lenses = Translators(ready.lenses.weight[kept].to(model.device), ready.lenses.bias[kept].to(model.device))
    layers = tuple(ready.layers[index] for index in kept)
    return replace(ready, lenses=lenses, layers=layers, caveats=caveats)


def _of_model(ready: ReadyLenses, model: LanguageModel) -> Iterator[str]:
    """Whether the lenses are said to be of this model: a refusal where not, a caveat where nothing is said."""
    said, hashed = ready.about.get("model"), bool(ready.about.get("unembedding"))
    known = {_last(str(name)) for name in (model.name, getattr(model.model.config, "_name_or_path", "")) if name}
    if said and _last(said) not in known and not hashed:
        raise DesignError(
            f"the lenses {ready.name!r} say that they were made for {said!r}, and this model is {model.name!r}: "
            "use the model they were made for; if you know that it is this one, remove its name from the file"
        )
    if said and _last(said) not in known:
        yield (
            f"the lenses {ready.name!r} say that they were made for {said!r}; scored was {model.name!r}, whose "
            "unembedding has the hash that they keep"
        )
    if not said and not hashed:
        yield (
            f"the lenses {ready.name!r} do not say which model they were made for: only the width of the states "
            "and the layers were checked"
        )


def _last(name: str) -> str:
    return Path(name).name.lower()


def _of_target(ready: ReadyLenses, depth: int) -> Iterator[str]:
    """Jacobians may lead to the output of any block; lenses that are scored here predict that of the last one."""
    if ready.kind != JACOBIAN:
        return
    said, last = ready.about.get("target"), depth - 1
    if said is None:
        told = (
            f"the lenses {ready.name!r} do not say to which block their Jacobians lead, taken for the "
            f"last ({last})"
        )
        blocks = [layer - 1 for layer in ready.layers]
        # The reference implementation fits all blocks before the target.
        if blocks == list(range(len(blocks))) and len(blocks) < last:
            told += f"; all blocks before {len(blocks)} have one, as if {len(blocks)} were that block"
        yield told
    elif said % depth != last or not -depth <= said < depth:
        raise DesignError(
            f"the lenses {ready.name!r} lead to the output of block {said}, and lenses are scored by how well "
            f"they predict from that of the last, block {last}: fit them for it"
        )


def _score(
    subject: LanguageSubject, ready: ReadyLenses, split: Split, config: dict[str, Any], report: Report
) -> CellOutput:
    report("states", 0, 0)
    captured = subject.capture(split.evaluation.tolist(), max_rows=config["evaluation"]["tokens"])
    states = replace(captured, hidden=captured.hidden[list(ready.layers)])
    sample = study.sample_of(subject, states)
    total = states.n_rows * states.n_layers**2
    transfer = transfer_losses(
        subject.head, ready.lenses, states, sample.targets, advance=lambda done: report("transfer", done, total)
    )
    tables = [("lens", transfer), *study.baselines(subject, states, sample, split)]
    clusters = [subject.clusters[index] for index in split.evaluation]
    counts = states.counts().cpu().numpy()
    record = {
        "layers": [subject.layers[layer] for layer in ready.layers],
        "unit": subject.unit,
        "rows": {"evaluation": states.n_rows},
        "similarities": {name: m.tolist() for name, m in layer_similarities(states.hidden).items()},
        "lenses": {"name": ready.name, "kind": ready.kind, **ready.about},
        "certificates": [],
        "caveats": list(ready.caveats),
    }
    return CellOutput(
        pd.concat([long_table(name, part, states.units, clusters, counts) for name, part in tables]), record
    )

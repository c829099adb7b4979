"""Lenses of a cell as files that other tools read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from transferstats.engine import Cell, Report
from transferstats.errors import DesignError
from transferstats.lens import study
from transferstats.lens.artifacts import write_tuned_lens
from transferstats.lens.design import split_of
from transferstats.lens.plan import READOUTS


def write_lenses(cell: Cell, folder: str | Path, *, readout: str = "own", report: Report | None = None) -> Path:
    """Fit the lenses of one cell again and write them as tuned-lens 0.2.0 saves its own.

    The lenses of a cell follow from its configuration, so that a store need not hold them: these are, to the bit,
    those that the cell scored.

    Parameters
    ----------
    cell: of a language model, one of ``cells``, with all its layers. folder: to write to: ``params.pt`` and
        ``config.json`` for tuned-lens, and ``certificates.csv``, one row a lens.
    readout: "own", "tied", or "shared", which is written once a layer, because the format knows no other way.

    Raises
    ------
    DesignError: another readout, a cell that uses only some layers, or one that is not about a language model.
    """
    if cell.runner != study.RUNNER or "every" in cell.config["subject"]:
        raise DesignError(
            f"{cell.label}: the format of tuned-lens is for language models, a lens for each of their layers"
        )
    if readout not in READOUTS:
        raise DesignError(f"unknown readout {readout!r}: use one of {', '.join(READOUTS)}")
    with study.threads(cell):
        subject, config = study.language_subject(cell), dict(cell.config)
        split = split_of(config, subject.documents.clusters)
        made = study.fit_world(subject, split, config, cell.rng(), report or (lambda stage, done, total: None))
    if readout not in made.fitted:
        raise DesignError(
            f"{cell.label}: lenses with a common map are fitted to the network itself, not to a null"
        )
    lenses = made.fitted[readout].lenses
    path = write_tuned_lens(
        folder,
        lenses if len(lenses) > 1 else lenses.repeat(len(subject.layers)),
        model=cell.location["subject"],
        unembedding=subject.language_model.model.get_output_embeddings().weight,
    )
    rows = pd.DataFrame(made.certificates)
    rows[rows["readout"] == readout].to_csv(path / "certificates.csv", index=False)
    return path

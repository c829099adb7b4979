"""A study on the embedded model that takes seconds: what it consists of, for tests and for their processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import transferstats as ts
from transferstats.engine import Cell
from transferstats.lens.documents import read_documents


@dataclass(frozen=True, slots=True)
class SmallStudy:
    """A finished small study: its cells, the files of its documents, and its store."""

    cells: Sequence[Cell]
    documents: Sequence[Path]
    store: Path


DOMAINS = ("python", "kjv")
DOCUMENTS = 40
"""Documents a dataset: 16 are scored, 12 go to each seed."""

CHARACTERS = 300
"""Read of each document, some 60 to 120 tokens."""

UNITS, TOKENS, SEEDS, NULLS = 16, 48, 2, 2

FIT = ts.FitPlan(strengths=(1e-2, 1.0), batch=64, first=8, max_steps=16, beside=None, curve=())
"""A few steps, and one set of lenses: others would double the time of every test that sweeps."""


def write_documents(folder: Path) -> list[Path]:
    """The first documents of two embedded domains as JSON lines, every second one its own cluster."""
    files = []
    for domain in DOMAINS:
        source = read_documents(domain)
        rows = [
            {
                "unit": source.units[index],
                "cluster": f"{domain} {index // 2}",
                "text": source.texts[index][:CHARACTERS],
            }
            for index in range(DOCUMENTS)
        ]
        path = folder / f"{domain}_small.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files.append(path)
    return files


def plan(
    files: Sequence[Path], *, anchor: str = "ridge", null_replicates: int = NULLS, every: int = 1
) -> list[Cell]:
    """The cells of the small study."""
    return ts.cells(
        ts.LanguageSource("embedded", every),
        files,
        seeds=SEEDS,
        null_replicates=null_replicates,
        fit=replace(FIT, anchor=anchor),
        encoding=ts.Encoding(window=64, max_tokens=64, min_tokens=32),
        evaluation=ts.EvaluationPlan(units=UNITS, tokens=TOKENS),
    )

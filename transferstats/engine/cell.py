"""A cell: one unit of work with an identity, and what running it brings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from transferstats.errors import StoreError
from transferstats.provenance import content_key

Report = Callable[[str, int, int], None]
"""Progress of a cell: (stage, units of work done since the last call, total work of the stage or 0)."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One (subject, dataset, seed, world) to compute.

    Attributes
    ----------
    config: everything that the numbers depend on, as JSON values; its hash is the key.
    runner: "package.module:function" with signature ``run(cell, report) -> CellOutput``. A name, not a
        function: cells travel to other processes and machines, and the engine knows no torch.
    location: where this machine finds the subject and the dataset; not part of the identity.
    label: short text for people.
    """

    config: Mapping[str, Any]
    runner: str
    location: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def key(self) -> str:
        """Content key: the same configuration gives the same key anywhere."""
        return content_key(self.config)

    def study(self) -> dict[str, Any]:
        """The part of the configuration that all cells of one study share."""
        return {name: value for name, value in self.config.items() if name not in AXES}

    def rng(self) -> np.random.Generator:
        """Random stream derived from the key, never from the order of execution."""
        return np.random.default_rng(np.random.SeedSequence(int(self.key, 16)))


AXES: tuple[str, ...] = ("dataset", "seed", "world", "split")
"""Configuration fields in which the cells of one study differ."""


@dataclass(frozen=True, slots=True)
class CellOutput:
    """What a finished cell holds: a long table of losses and a record of JSON values."""

    table: pd.DataFrame
    record: Mapping[str, Any]


def run_cell(cell: Cell, report: Report | None = None) -> CellOutput:
    """Import the cell's runner by name and run it."""
    module_name, _, function_name = cell.runner.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise StoreError(
            f"cell {cell.label or cell.key[:12]}: cannot import its runner {cell.runner!r}: {error}"
        ) from error
    output = function(cell, report or (lambda stage, done, total: None))
    if not isinstance(output, CellOutput):
        raise TypeError(f"{cell.runner} returned {type(output).__name__}, not CellOutput")
    return output

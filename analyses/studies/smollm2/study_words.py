"""What the pages about a real language model share: numbers in words, and the parts of a grid they speak of."""

from __future__ import annotations

import pandas as pd

from transferstats.grid import TransferGrid
from transferstats.results import Estimate

WORDS = {"mean": "mean penalty", "slope": "growth per layer", "asymmetry": "forward minus backward"}
"""Statistics in words."""


def spelled(one: Estimate, digits: int = 3) -> str:
    """Estimate [low, high]."""
    return f"{one.estimate:.{digits}f} [{one.conf_low:.{digits}f}, {one.conf_high:.{digits}f}]"


def layer_sets(grid: TransferGrid) -> tuple[tuple[str, TransferGrid], tuple[str, TransferGrid]]:
    """The grid with and without the embeddings, whose lens is known to be unlike the others."""
    return ("all layers", grid), ("without the embeddings", grid.with_layers(grid.layers[1:]))


def has_null(grid: TransferGrid) -> bool:
    """Whether the shared-lens null was run on every dataset."""
    return all(data.null is not None for data in grid.datasets)


def own_lenses(grid: TransferGrid) -> pd.DataFrame:
    """Certificates of the own lenses of the observed world, on which every penalty rests."""
    judged = grid.certificates
    return judged[(judged["readout"] == "own") & (judged["world"] == "observed")]

"""What R asks for, as CSV text in R's spelling: data frames and arrays do not cross every reticulate, text does.

``r/transferstats.R`` calls these functions; its users see data frames only.
"""

from __future__ import annotations

from functools import singledispatch

import pandas as pd

from transferstats.augmentation import augment
from transferstats.distance import Distance
from transferstats.grid import TransferGrid
from transferstats.reporting.figures_null import null_frame
from transferstats.reporting.pictures import pictures
from transferstats.results import DecayFit, DecayFits, Evidence, NullTest, Result, to_r_csv


def glance_csv(x: Result) -> str:
    """``x.glance()``."""
    return to_r_csv(x.glance())


def augment_csv(x: object, grid: TransferGrid, loss: str | None, distance: Distance | None) -> str:
    """``augment(x, grid)``."""
    return to_r_csv(augment(x, grid, loss=loss, distance=distance))


def plot_csv(x: Result) -> dict[str, str]:
    """The numbers behind every figure of a result, by the figure's name."""
    return {name: to_r_csv(frame) for name, frame in _plotted(x).items()}


@singledispatch
def _plotted(x: Result) -> dict[str, pd.DataFrame]:
    """Most figures show the tidy rows: estimates with their intervals."""
    return {"terms": x.tidy()}


@_plotted.register(DecayFit)
@_plotted.register(DecayFits)
def _decay(x: DecayFit | DecayFits) -> dict[str, pd.DataFrame]:
    return {"curves": x.frame()}


@_plotted.register
def _null_test(x: NullTest) -> dict[str, pd.DataFrame]:
    return {"replicates": null_frame(x)}


@_plotted.register
def _evidence(x: Evidence) -> dict[str, pd.DataFrame]:
    return {picture.name: picture.data for picture in pictures(x)}

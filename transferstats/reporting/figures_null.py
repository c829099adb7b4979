"""Figure of a test against the null: seeds beside null replicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from transferstats.arrays import FloatArray
from transferstats.reporting import formats
from transferstats.reporting.canvas import BLUE, INK, MUTED, ORANGE, light_grid, new_figure, style
from transferstats.results import NullTest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_null(x: NullTest, *, label: str) -> Figure:
    """The statistic under each seed and each null replicate, one row a dataset, and the two means."""
    names = [one.dataset for one in x.observed][: len(x.seed_values)]
    with style():
        figure = new_figure(height=max(2.2, 1.1 * len(names) + 1.3))
        axes = figure.add_subplot()
        for row, (seeds, null) in enumerate(zip(x.seed_values, x.null_values, strict=True)):
            _dots(axes, _scalar(seeds), row - 0.17, BLUE, "o", "one seed, observed" if row == 0 else "")
            _dots(axes, _scalar(null), row + 0.17, ORANGE, "^", "one null replicate" if row == 0 else "")
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set_yticks(range(len(names)), [formats.legible(name, 18) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=6)
        light_grid(axes, "x")
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _scalar(values: FloatArray) -> FloatArray:
    """One value a replicate: the statistic itself, or the mean over its terms."""
    return values if values.ndim == 1 else values.reshape(len(values), -1).mean(axis=1)


def _dots(axes: Axes, values: FloatArray, row: float, colour: str, marker: str, label: str) -> None:
    axes.plot(
        values,
        np.full(len(values), row),
        linestyle="none",
        marker=marker,
        markerfacecolor="none",
        markeredgecolor=colour,
        markersize=6,
        label=label or "_",
    )
    mean = float(np.mean(values))
    axes.plot([mean, mean], [row - 0.14, row + 0.14], color=INK, linewidth=2)


def null_frame(x: NullTest) -> pd.DataFrame:
    """One row a dot: dataset, world, replicate, estimate, unit."""
    names = [one.dataset for one in x.observed]
    rows = []
    for name, seeds, null in zip(names, x.seed_values, x.null_values, strict=False):
        rows += [(name, "observed", i, float(v)) for i, v in enumerate(_scalar(seeds))]
        rows += [(name, "null", i, float(v)) for i, v in enumerate(_scalar(null))]
    frame = pd.DataFrame(rows, columns=["dataset", "world", "replicate", "estimate"])
    return frame.assign(unit=x.observed.headline.unit)

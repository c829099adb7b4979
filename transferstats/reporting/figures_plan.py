"""Figures of plans: what a larger study would show, and how large it must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import BAND, BLUE, INK, MUTED, SERIES, light_grid, new_figure, style
from transferstats.results import StudyPlan, StudySize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LARGE_RATIO = 5
"""Half-widths that differ more than this are told apart on a logarithmic axis only."""


def draw_plan(x: StudyPlan, *, target: float | None = None) -> Figure:
    """Expected half-width against the number of units, one line a number of seeds.

    ``target`` is a wanted half-width, in the unit of the estimate, drawn as a line.
    """
    with style():
        figure = new_figure(height=3.9)
        axes = figure.add_subplot()
        nouns = wording.sampled_nouns(x.estimate.unit, x.estimate.note)
        for number, seeds in enumerate(sorted({int(k) for k in x.seeds})):
            chosen = x.seeds == seeds
            order = np.argsort(x.units[chosen])
            colour, dash, marker = SERIES[number % len(SERIES)]
            axes.plot(
                x.units[chosen][order],
                x.half_width[chosen][order],
                color=colour,
                linestyle=dash,
                marker=marker,
                label=formats.plural(seeds, "seed"),
            )
        _frame(axes, sorted({int(n) for n in x.units}))
        bound = max(map(abs, x.smallest))
        if math.isfinite(bound):
            label = f"below the smallest of interest, {formats.trimmed(bound)}"
            axes.axhspan(0, bound, color=BAND, linewidth=0, zorder=0, label=label)
        if target is not None:
            axes.axhline(target, color=INK, linewidth=1.2, label=f"wanted, {formats.trimmed(target)}")
        if float(x.half_width.max()) > LARGE_RATIO * float(x.half_width.min()):
            _logarithmic(axes, float(x.half_width.min()), float(x.half_width.max()))
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{nouns} a dataset")
        axes.set_ylabel(f"expected half-width, {formats.legible(x.estimate.unit, 40)}")
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_size(x: StudySize) -> Figure:
    """Fewest units for the wanted half-width against the number of seeds; crosses where no number suffices."""
    with style():
        figure = new_figure(height=3.6)
        axes = figure.add_subplot()
        nouns = wording.sampled_nouns(x.estimate.unit, x.estimate.note)
        enough = np.isfinite(x.units)
        if enough.any():
            axes.plot(x.seeds[enough], x.units[enough], color=BLUE, marker="o", label="fewest that suffice")
        top = float(np.nanmax(x.units)) if enough.any() else 1.0
        if not enough.all():
            short = x.seeds[~enough]
            axes.plot(
                short,
                np.full(len(short), top),
                color=MUTED,
                marker="x",
                linestyle="none",
                label="no number suffices",
            )
        for seeds, units in zip(x.seeds[enough], x.units[enough], strict=True):
            axes.annotate(
                formats.count(float(units)), (seeds, units), xytext=(0, 7), textcoords="offset points", ha="center"
            )
        axes.set_xticks([int(k) for k in x.seeds])
        axes.set_ylim(0, 1.2 * top)
        light_grid(axes)
        axes.set_xlabel("seeds a dataset")
        axes.set_ylabel(f"{nouns} a dataset")
        wanted = wording.in_unit(formats.trimmed(x.target), formats.legible(x.estimate.unit, 40))
        axes.set_title(f"for an expected half-width of {wanted}", fontsize=9)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis with ticks that are numbers: 1, 2 and 5 times powers of ten."""
    ticks = [m * 10.0**e for e in range(-9, 9) for m in (1, 2, 5) if low / 2 <= m * 10.0**e <= 2 * high]
    axes.set_yscale("log")
    axes.set_ylim(low / 1.4, high * 1.4)
    axes.set_yticks(ticks, [formats.number(tick, 1) for tick in ticks])
    axes.minorticks_off()


def _frame(axes: Axes, ticks: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    light_grid(axes)

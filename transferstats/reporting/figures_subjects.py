"""Figures of several subjects: their statistics side by side, and their lines over relative depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import BLUE, INK, MUTED, SERIES, light_grid, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from transferstats.results import SubjectComparison

ROW = 0.32
"""Inches a row."""


def draw_statistics(x: SubjectComparison) -> Figure:
    """One panel a statistic, one row a subject: estimate with its interval, averaged over datasets."""
    names = list(x.subjects[0].statistics)
    labels = [formats.legible(one.subject, 22) for one in x.subjects]
    with style():
        figure = new_figure(height=len(names) * (ROW * len(labels) + 0.85) + 0.1)
        panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
        for name, axes in zip(names, panels, strict=True):
            for row, one in enumerate(x.subjects):
                estimate = one.statistics[name].headline
                value, low, high = (float(v) for v in (estimate.estimate, estimate.conf_low, estimate.conf_high))
                if math.isfinite(low) and math.isfinite(high):
                    axes.plot([low, high], [row, row], color=INK, linewidth=1.8, solid_capstyle="butt")
                axes.plot([value], [row], marker="o", color=BLUE, markeredgecolor=INK, markersize=5.5)
            axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
            axes.set_yticks(range(len(labels)), labels)
            axes.set_ylim(len(labels) - 0.4, -0.6)
            axes.tick_params(axis="y", length=0)
            unit = formats.legible(x.subjects[0].statistics[name].headline.unit, 44)
            axes.set_title(wording.term_name(name))
            axes.set_xlabel(unit)
            light_grid(axes, "x")
    return figure


def draw_lines(x: SubjectComparison, name: str, *, label: str) -> Figure:
    """Mean penalty by relative distance ("distance") or own-lens loss by relative depth ("depth")."""
    with style():
        figure = new_figure(height=3.7)
        axes = figure.add_subplot()
        for number, one in enumerate(x.subjects):
            estimate = one.distances if name == "distance" else one.depth
            values = np.atleast_1d(estimate.estimate)
            depths = wording.relative_depths(one, name)
            low, high = values - np.atleast_1d(estimate.conf_low), np.atleast_1d(estimate.conf_high) - values
            colour, dash, marker = SERIES[number % len(SERIES)]
            axes.errorbar(
                # A small shift keeps intervals of the same depth apart.
                depths + 0.008 * number,
                values,
                yerr=(np.nan_to_num(low), np.nan_to_num(high)),
                color=colour,
                linestyle=dash,
                marker=marker,
                markersize=4.6,
                capsize=3,
                label=formats.legible(one.subject, 40),
            )
        axes.set_xlabel(
            "distance, share of the depth" if name == "distance" else "depth, 0 = first layer, 1 = last"
        )
        axes.set_ylabel(label)
        axes.set_xlim(-0.03, 1.06)
        if float(min(np.nanmin(one.distances.estimate) for one in x.subjects)) >= 0:
            axes.set_ylim(bottom=0)
        light_grid(axes)
        figure.legend(loc="outside lower center", ncols=2)
    return figure

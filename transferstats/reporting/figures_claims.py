"""Figures over claims and terms: the forest of intervals, and where the variance comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import (
    BAND,
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PURPLE,
    TEAL,
    light_grid,
    new_figure,
    style,
)
from transferstats.results import AVERAGE, Claim, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_ROWS = 40
"""A forest with more rows shows the averages over datasets only; the table has every row."""

ROW = 0.34
"""Inches a row of a forest."""


def draw_forest(claims: Sequence[Claim]) -> Figure:
    """Intervals of all tested claims, one panel a unit, the region too small to matter shaded."""
    groups: dict[str, list[Claim]] = {}
    for claim in rows_shown(claims):
        if claim.estimate is not None:
            groups.setdefault(claim.estimate.unit, []).append(claim)
    with style():
        rows = sum(map(len, groups.values()))
        figure = new_figure(height=max(1.6, ROW * rows + 0.75 * len(groups) + 0.2))
        if not groups:
            figure.text(0.5, 0.5, "no claim was tested", ha="center", color=MUTED)
            return figure
        ratios = [len(group) + 0.6 for group in groups.values()]
        panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=ratios)
        for (unit, group), axes in zip(groups.items(), panels[:, 0], strict=True):
            _forest_panel(axes, group, unit)
    return figure


def rows_shown(claims: Sequence[Claim]) -> Sequence[Claim]:
    """All rows, or only those of the averages where all would be too many for a page."""
    averages = [claim for claim in claims if claim.dataset == AVERAGE]
    return averages if averages and len(claims) > MOST_ROWS else claims


def _forest_panel(axes: Axes, claims: Sequence[Claim], unit: str) -> None:
    labels = []
    for row, claim in enumerate(claims):
        assert claim.estimate is not None
        labels.append(f"{formats.legible(claim.key, 8)}  {formats.legible(claim.dataset, 18)}")
        _forest_row(axes, row, claim.estimate, claim.smallest)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_ylim(len(claims) - 0.4, -0.6)
    axes.set_yticks(range(len(claims)), labels)
    axes.set_xlabel(formats.legible(unit, 40) or "no unit")
    axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    light_grid(axes, "x")
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    right.set_yticks(range(len(claims)), [claim.verdict for claim in claims])
    right.tick_params(axis="y", length=0)
    for spine in right.spines.values():
        spine.set_visible(False)


def _forest_row(axes: Axes, row: int, estimate: Estimate, smallest: tuple[float, float] | None) -> None:
    from matplotlib.patches import Rectangle

    value, low, high = (
        float(np.atleast_1d(v)[0]) for v in (estimate.estimate, estimate.conf_low, estimate.conf_high)
    )
    if smallest is not None and all(map(math.isfinite, smallest)):
        left, right = smallest
        axes.add_patch(
            Rectangle((left, row - 0.38), right - left, 0.76, facecolor=BAND, edgecolor="none", zorder=0)
        )
        axes.plot([left, right], [row, row], linestyle="none")
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [row, row], color=INK, linewidth=1.8, solid_capstyle="butt", zorder=3)
        axes.plot([value], [row], marker="o", color=BLUE, markeredgecolor=INK, markersize=5.5, zorder=4)
    elif math.isfinite(value):
        axes.plot(
            [value], [row], marker="o", markerfacecolor="none", markeredgecolor=INK, markersize=5.5, zorder=4
        )


def draw_shares(estimates: Sequence[Estimate]) -> Figure:
    """Share of each sampled factor in the variance of each term, stacked bars."""
    with style():
        figure = new_figure(height=max(1.6, 0.36 * len(estimates) + 1.0))
        axes = figure.add_subplot()
        sources = list(dict.fromkeys(name for one in estimates for name in one.share_by_source))
        left = np.zeros(len(estimates))
        looks = ((BLUE, ""), (ORANGE, "///"), (TEAL, "..."), (PURPLE, "xx"))
        for index, source in enumerate(sources):
            values = np.array(
                [float(np.atleast_1d(one.share_by_source.get(source, np.nan))[0]) for one in estimates]
            )
            widths = np.nan_to_num(values)
            colour, hatch = looks[index % len(looks)]
            axes.barh(
                range(len(estimates)),
                widths,
                left=left,
                color=colour,
                hatch=hatch,
                edgecolor=PAPER,
                linewidth=1,
                height=0.62,
                label=formats.legible(source, 20),
            )
            _share_labels(axes, widths, left)
            left = left + widths
        axes.set_yticks(range(len(estimates)), [wording.term_name(one.terms[0]) for one in estimates])
        axes.set_ylim(len(estimates) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.set_xlabel("share of the variance of the estimate")
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside lower center", ncols=3)
    return figure


def _share_labels(axes: Axes, widths: FloatArray, left: FloatArray) -> None:
    for row, (width, start) in enumerate(zip(widths, left, strict=True)):
        if width >= 0.12:
            text = axes.text(
                start + width / 2, row, formats.percent(float(width)), ha="center", va="center", color=INK
            )
            text.set_bbox({"facecolor": PAPER, "edgecolor": "none", "pad": 1.2, "alpha": 1.0})


def draw_terms(estimate: Estimate) -> Figure:
    """Forest of the terms of one estimate."""
    with style():
        shown = min(len(estimate.terms), 60)
        figure = new_figure(height=max(1.5, ROW * shown + 0.8))
        axes = figure.add_subplot()
        for row in range(shown):
            value, low, high = (
                float(np.atleast_1d(v)[row]) for v in (estimate.estimate, estimate.conf_low, estimate.conf_high)
            )
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [row, row], color=INK, linewidth=1.8)
            axes.plot([value], [row], marker="o", color=BLUE, markeredgecolor=INK, markersize=5.5)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        axes.set_yticks(range(shown), [formats.legible(wording.term_name(t), 34) for t in estimate.terms[:shown]])
        axes.set_ylim(shown - 0.4, -0.6)
        worse = wording.worse_than_prior(estimate.note)
        label = f"{formats.legible(estimate.unit, 40)}, {formats.level(estimate.conf_level)} CI"
        axes.set_xlabel(f"{label}\n{worse}" if worse else label)
        axes.tick_params(axis="y", length=0)
        light_grid(axes, "x")
    return figure


def draw_bars(names: Sequence[str], values: FloatArray, *, label: str) -> Figure:
    """Horizontal bars with their values written beside them."""
    with style():
        figure = new_figure(height=max(1.5, 0.34 * len(names) + 0.8))
        axes = figure.add_subplot()
        shown = np.nan_to_num(values)
        axes.barh(range(len(names)), shown, color=BLUE, height=0.6)
        for row, value in enumerate(values):
            axes.text(float(shown[row]), row, f" {formats.number(float(value))}", va="center")
        axes.set_yticks(range(len(names)), [formats.legible(name, 24) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.margins(x=0.15)
        axes.set_xlabel(label)
        axes.tick_params(axis="y", length=0)
    return figure

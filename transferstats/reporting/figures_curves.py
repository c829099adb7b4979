"""Curves: penalty against distance with its fitted families, and loss by depth with its references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.distance import layer_distance, layer_positions, off_diagonal
from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import (
    BAND,
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SERIES,
    TEAL,
    light_grid,
    new_figure,
    style,
)
from transferstats.results import Estimate
from transferstats.results.decay import DecayFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SPAN = 6.0
"""Ratio of the largest to the smallest loss above which losses by depth are drawn on a log scale."""

MOST_FAMILIES = 4
"""More curves than this cannot be told apart; the table has the rest."""


def draw_distance(
    cells: Estimate | None,
    distances: Estimate | None,
    fits: Mapping[str, DecayFit],
    *,
    layers: tuple[str, ...],
    label: str,
    banded: str = "",
) -> Figure:
    """Cell means, means at each distance with intervals, and fitted families, one of them with its band."""
    with style():
        figure = new_figure(height=4.1)
        axes = figure.add_subplot()
        scale = {fit.distance for fit in fits.values()} or {"index"}
        if cells is not None and scale <= {"index", "depth"}:
            _cell_points(axes, cells, layers, per_depth=scale == {"depth"})
        for number, (name, fit) in enumerate(list(fits.items())[:MOST_FAMILIES]):
            _family(axes, fit, number, band=name == banded)
        if distances is not None and scale == {"index"}:
            _means(axes, wording.distances_of(distances), distances)
        elif fits:
            curve = next(iter(fits.values())).curves[0]
            _means(axes, curve.observed_distance, curve.observed)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        names = {"index": "layer distance |target \u2212 source|", "depth": "distance as a share of the depth"}
        axes.set_xlabel(names.get(next(iter(scale)), "distance"))
        axes.set_ylabel(label)
        light_grid(axes)
        _legend(figure, axes)
    return figure


def _cell_points(axes: Axes, cells: Estimate, layers: tuple[str, ...], *, per_depth: bool) -> None:
    source, target = np.nonzero(off_diagonal(len(layers)))
    if len(source) != cells.estimate.size:
        return
    matrix = layer_distance(layer_positions(layers))
    steps, forward = matrix[source, target], target > source
    width = 1.0 / matrix.max() if per_depth else 1.0
    for chosen, shift, colour, marker, name in (
        (forward, -0.13, BLUE, "o", "cell, forward"),
        (~forward, 0.13, ORANGE, "^", "cell, backward"),
    ):
        axes.plot(
            (steps[chosen] + shift) * width,
            cells.estimate[chosen],
            linestyle="none",
            marker=marker,
            markersize=3.6,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=0.9,
            label=name,
        )


def _means(axes: Axes, x: Any, means: Estimate) -> None:
    low, high = _arms(means)
    axes.errorbar(
        x,
        np.atleast_1d(means.estimate),
        yerr=(low, high),
        fmt="D",
        color=INK,
        markersize=4.6,
        capsize=3,
        elinewidth=1.3,
        label=f"mean at a distance, {formats.level(means.conf_level)} CI",
        zorder=4,
    )


def _arms(estimate: Estimate) -> tuple[FloatArray, FloatArray]:
    """Lengths of the interval below and above the estimate; 0 where there is none (the marker stays open)."""
    value = np.atleast_1d(estimate.estimate)
    low = np.nan_to_num(value - np.atleast_1d(estimate.conf_low), posinf=0.0)
    high = np.nan_to_num(np.atleast_1d(estimate.conf_high) - value, posinf=0.0)
    return np.clip(low, 0, None), np.clip(high, 0, None)


def _family(axes: Axes, fit: DecayFit, number: int, *, band: bool) -> None:
    colour, dash, _ = (TEAL, "-", "") if band else (PURPLE, *SERIES[(number + 1) % len(SERIES)][1:])
    name = fit.family.replace("_", "\u2013")
    for curve in fit.curves:
        side = "" if curve.direction == "both" else f", {curve.direction}"
        if band:
            axes.fill_between(
                curve.distance,
                np.atleast_1d(curve.fitted.conf_low),
                np.atleast_1d(curve.fitted.conf_high),
                color=BAND,
                linewidth=0,
                label=f"{formats.level(fit.conf_level)} band, {name}{side}",
                zorder=0.5,
            )
        axes.plot(
            curve.distance,
            np.atleast_1d(curve.fitted.estimate),
            color=colour,
            linestyle=dash,
            label=f"{name}{side}",
        )


def draw_depth(
    own: Estimate,
    references: Mapping[str, FloatArray],
    layers: tuple[str, ...],
    *,
    label: str,
) -> Figure:
    """Own-lens loss by layer with its interval, beside the losses that it is to be compared with."""
    with style():
        figure = new_figure(height=4.0)
        axes = figure.add_subplot()
        x = np.arange(np.atleast_1d(own.estimate).size)
        low, high = _arms(own)
        axes.errorbar(
            x,
            np.atleast_1d(own.estimate),
            yerr=(low, high),
            color=BLUE,
            marker="o",
            markersize=4.6,
            capsize=3,
            label=f"own lens, {formats.level(own.conf_level)} CI",
            zorder=4,
        )
        for number, (name, values) in enumerate(references.items()):
            _reference(axes, wording.reference_name(name), np.asarray(values, dtype=float), number, len(x))
        layer_axis(axes, layers)
        if logarithmic(own, references):
            _log_axis(axes)
            label += ", log scale"
        axes.set_ylabel(label)
        light_grid(axes)
        _legend(figure, axes)
    return figure


def logarithmic(own: Estimate, references: Mapping[str, FloatArray]) -> bool:
    """Whether losses span so much (a logit lens on embeddings, say) that a linear axis would hide the lenses."""
    values = np.concatenate([np.atleast_1d(own.estimate), *(np.atleast_1d(one) for one in references.values())])
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() > SPAN * known.min())


def _log_axis(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: formats.number(value, 1)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """Legend below the plot, series with intervals first; one column where names are long."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda index: "CI" not in labels[index])
    if max(map(len, labels), default=0) > 30:
        columns = 1
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside lower center",
        ncols=columns,
        handlelength=2.6,
    )


def _reference(axes: Axes, name: str, values: FloatArray, number: int, n_layers: int) -> None:
    colour, dash, marker = SERIES[(number + 1) % len(SERIES)]
    if values.ndim == 0:
        axes.axhline(float(values), color=colour, linestyle=dash, label=f"{name}: {formats.number(float(values))}")
    elif values.size == n_layers:
        axes.plot(range(n_layers), values, color=colour, linestyle=dash, marker=marker, markersize=4, label=name)


def layer_axis(axes: Axes, layers: tuple[str, ...]) -> None:
    """Layers along x, thinned where there are many, slanted where their names are long."""
    names = wording.short_layers(layers)
    every = max(1, -(-len(names) // 16))
    ticks = list(range(0, len(names), every))
    crowded = max(map(len, names), default=0) * len(ticks) > 60
    axes.set_xticks(
        ticks, [names[i] for i in ticks], rotation=45 if crowded else 0, ha="right" if crowded else "center"
    )
    axes.set_xlabel("layer (input of the block)")


def draw_by_layer(
    series: Mapping[str, Estimate], layers: tuple[str, ...], *, label: str, reference: float | None = None
) -> Figure:
    """Estimates by layer, several series side by side, each with its intervals; ``reference`` is one more line."""
    with style():
        figure = new_figure(height=3.7)
        axes = figure.add_subplot()
        for number, (name, estimate) in enumerate(series.items()):
            colour, dash, marker = SERIES[number % len(SERIES)]
            values = np.atleast_1d(estimate.estimate)
            low, high = _arms(estimate)
            axes.errorbar(
                np.arange(values.size) + 0.12 * number,
                values,
                yerr=(low, high),
                color=colour,
                linestyle=dash,
                marker=marker,
                markersize=4.6,
                capsize=3,
                label=f"{name}, {formats.level(estimate.conf_level)} CI",
            )
        axes.axhline(0, color=MUTED, linewidth=0.8)
        if reference is not None:
            axes.axhline(reference, color=MUTED, linewidth=0.8, linestyle="--")
        layer_axis(axes, layers)
        axes.set_ylabel(label)
        light_grid(axes)
        _legend(figure, axes)
    return figure

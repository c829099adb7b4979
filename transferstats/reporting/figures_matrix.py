"""Heat maps of layer-by-layer matrices, with the cells marked whose interval includes 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from transferstats.arrays import FloatArray
from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import COOL, GRID, INK, MUTED, ON_COOL, WARM, new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from transferstats.results import Estimate

MOST_PRINTED = 16
"""With more layers than this the cells are too small for numbers; the table has them."""


def cells_matrix(cells: Estimate, fallback: FloatArray) -> FloatArray:
    """Cell estimates laid out as (L, L); the fallback where their number does not fit."""
    off = ~np.eye(len(fallback), dtype=bool)
    if np.atleast_1d(cells.estimate).size != off.sum():
        return fallback
    matrix = np.zeros(fallback.shape)
    matrix[off] = cells.estimate
    return matrix


def includes_zero(low: FloatArray, high: FloatArray, n_layers: int) -> npt.NDArray[np.bool_]:
    """(L, L) mask of off-diagonal cells whose interval includes 0 or is missing; limits in row order."""
    mask = np.zeros((n_layers, n_layers), dtype=bool)
    off = ~np.eye(n_layers, dtype=bool)
    if low.size == off.sum():
        mask[off] = ~((low > 0) | (high < 0))
    return mask


def step_of(value: float, largest: float) -> int:
    """Colour step of a size: the square root keeps small cells apart where a few are huge."""
    if not math.isfinite(value) or largest <= 0:
        return 0
    return min(len(COOL) - 1, int(len(COOL) * math.sqrt(min(abs(value) / largest, 1.0))))


def draw_matrix(
    matrix: FloatArray,
    unsure: npt.NDArray[np.bool_],
    layers: tuple[str, ...],
    *,
    label: str,
    largest: float | None = None,
) -> Figure:
    """Heat map of an (L, L) matrix, rows sources and columns targets, diagonal empty."""
    size = len(layers)
    off = ~np.eye(size, dtype=bool)
    top = largest if largest is not None else float(np.nanmax(np.abs(matrix[off]), initial=0.0))
    with style():
        figure = new_figure(height=5.5)
        axes, key = figure.subplots(2, 1, height_ratios=(30, 1))
        for source, target in zip(*np.nonzero(off), strict=True):
            _cell(
                axes, matrix[source, target], (int(source), int(target)), bool(unsure[source, target]), top, size
            )
        _frame(axes, layers)
        _key(key, bool((matrix[off] < 0).any()), top, label)
    return figure


def _cell(axes: Axes, value: float, place: tuple[int, int], unsure: bool, largest: float, size: int) -> None:
    from matplotlib.patches import Rectangle

    source, target = place
    step = step_of(value, largest)
    colour = (COOL if value >= 0 or math.isnan(value) else WARM)[step]
    corner = (target - 0.5, source - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, edgecolor="none"))
    if unsure and size > MOST_PRINTED:
        axes.plot([target], [source], marker="o", markersize=2, color=INK, linestyle="none")
    elif unsure:
        # Two patches: the line colour of a hatch is the edge colour, and the edge itself is not wanted.
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=MUTED, linewidth=0, alpha=0.45))
    if size <= MOST_PRINTED:
        decimals = 2 if largest >= 0.1 else 3
        axes.text(
            target,
            source,
            formats.fixed(value, decimals) if math.isfinite(value) else "?",
            ha="center",
            va="center",
            size=9.5 if size <= 9 else 8 if size <= 12 else 6.5,
            style="italic" if unsure else "normal",
            color=ON_COOL[step],
        )


def _frame(axes: Axes, layers: tuple[str, ...]) -> None:
    size = len(layers)
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_aspect("equal")
    every = max(1, math.ceil(size / 16))
    names = wording.short_layers(layers)
    ticks = list(range(0, size, every))
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=_slant(names))
    axes.set_yticks(ticks, [names[i] for i in ticks])
    axes.tick_params(length=0)
    axes.set_xlabel("target: layer on which the lens is used")
    axes.set_ylabel("source: layer on which it was trained")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.plot([-0.5, size - 0.5], [-0.5, size - 0.5], color=GRID, linewidth=1, zorder=0)
    axes.set_title("forward (target later) lies above the diagonal, backward below", fontsize=9, color=MUTED)


def _slant(names: list[str]) -> float:
    return 0 if max(map(len, names)) * len(names) <= 44 else 60 if max(map(len, names)) > 3 else 0


def _key(axes: Axes, negative: bool, largest: float, label: str) -> None:
    """Strip of colour steps, with the sizes at which every third one begins."""
    from matplotlib.patches import Rectangle

    steps = len(COOL)
    colours = [*(WARM[::-1] if negative else ()), *COOL]
    start = -steps if negative else 0
    for index, colour in enumerate(colours):
        axes.add_patch(Rectangle((start + index, 0), 1, 1, facecolor=colour, edgecolor="none"))
    ticks = list(range(start, steps + 1, 3))
    sizes = [math.copysign((tick / steps) ** 2 * largest, tick) for tick in ticks]
    axes.set_xlim(start, steps)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.set_xticks(ticks, [formats.number(value, 2) for value in sizes])
    axes.tick_params(length=2)
    axes.set_xlabel(label, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)

"""The path of lenses along their training: penalty against held-out kl, one line a start."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from transferstats.arrays import FloatArray
from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import INK, MUTED, SERIES, light_grid, new_figure, style
from transferstats.results import TrainingPath

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


SPAN = 2.0
"""Ratio of the largest to the smallest held-out kl above which they stand on a log axis."""

MOST_TICKS = 7
MANTISSAS = ((1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0))
"""Those of the ticks of a log axis, many to few."""


def draw_path(x: TrainingPath, *, smallest: float | None = None) -> Figure:
    """Mean penalty against held-out kl, which falls to the right; ``smallest``: penalty of interest, or None."""
    with style():
        figure = new_figure(height=4.3)
        axes = figure.add_subplot()
        for number, anchor in enumerate(x.starts):
            _line(axes, x, anchor, number)
        if x.kept is not None:
            _kept(axes, x)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        if smallest is not None:
            axes.axhline(smallest, color=MUTED, linewidth=0.8, linestyle="--")
        _training_axis(axes, np.append(x.held_out_kl, x.kept_kl))
        axes.set_ylabel(f"mean penalty, {formats.legible(x.penalty.unit, 40)}")
        light_grid(axes)
        figure.legend(loc="outside lower center", ncols=1, handlelength=2.6)
    return figure


def _arms(value: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """(2, m) lengths of intervals below and above; 0 where there is none."""
    return np.clip(np.nan_to_num(np.stack([value - low, high - value]), posinf=0.0), 0, None)


def _line(axes: Axes, x: TrainingPath, anchor: str, number: int) -> None:
    colour, dash, marker = SERIES[number % len(SERIES)]
    at = x.moments(anchor)
    kl = x.held_out_kl[at]
    value, low, high = (
        np.atleast_1d(one)[at] for one in (x.penalty.estimate, x.penalty.conf_low, x.penalty.conf_high)
    )
    axes.errorbar(
        kl,
        value,
        yerr=_arms(value, low, high),
        color=colour,
        linestyle=dash,
        marker=marker,
        markersize=3.8,
        elinewidth=0.8,
        linewidth=1.4,
        label=f"from {wording.start_name(anchor)}, 0 to {formats.plural(int(x.steps[at[-1]]), 'step')}",
    )
    axes.plot(kl[:1], value[:1], marker=marker, markersize=6.5, color=colour, markerfacecolor="white", zorder=4)
    axes.plot(kl[-1:], value[-1:], marker=marker, markersize=7.5, color=colour, zorder=4)


def _kept(axes: Axes, x: TrainingPath) -> None:
    if x.kept is None or not math.isfinite(x.kept_kl):
        return
    value, low, high = (np.atleast_1d(one) for one in (x.kept.estimate, x.kept.conf_low, x.kept.conf_high))
    axes.errorbar(
        [x.kept_kl],
        value,
        yerr=_arms(value, low, high),
        color=INK,
        linestyle="none",
        marker="D",
        markersize=6,
        capsize=3,
        elinewidth=1.3,
        label=f"lenses of the study, from {wording.start_name(x.anchor)}",
        zorder=5,
    )


def _training_axis(axes: Axes, kl: FloatArray) -> None:
    """Held-out kl falls to the right, as lenses are trained; on a log axis where it falls far."""
    label = "held-out kl of the layers' own lenses, nats"
    known = kl[np.isfinite(kl) & (kl > 0)]
    if known.size and known.max() > SPAN * known.min():
        room = float(known.max() / known.min()) ** 0.06
        low, high = float(known.min()) / room, float(known.max()) * room
        axes.set_xscale("log")
        axes.set_xlim(high, low)
        ticks = next((one for one in _ticks(low, high) if len(one) <= MOST_TICKS), [])
        axes.set_xticks(ticks, [formats.trimmed(tick) for tick in ticks])
        axes.minorticks_off()
        label += ", log scale"
    else:
        axes.invert_xaxis()
    axes.set_xlabel(label)


def _ticks(low: float, high: float) -> list[list[float]]:
    """Ticks between two values, from many to few."""
    return [
        [round(m * 10.0**e, 9) for e in range(-9, 10) for m in mantissas if low <= m * 10.0**e <= high]
        for mantissas in MANTISSAS
    ]

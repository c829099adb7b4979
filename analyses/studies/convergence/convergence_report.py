"""The report of the convergence study: every number in it comes from the stored losses, none is typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

import transferstats as ts
from transferstats.grid import TransferGrid
from transferstats.provenance import library_versions
from transferstats.reporting.canvas import SERIES, light_grid, new_figure, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = tuple[str, int, TransferGrid]
"""Recipe, steps, losses."""

STATISTICS: tuple[str, ...] = ("mean", "later", "forward", "backward", "asymmetry")
PANELS: tuple[tuple[str, str], ...] = (("mean", "all layers"), ("later", "without layer 0"))
LABELS = {"published": "published recipe (SGD from the identity)", "natural": "ridge start, natural gradient"}


INTRO = """# How penalties move with the training of the lenses

Made by `python analyses/studies/convergence/convergence.py` from {seeds} seeds on the model `{subject}`, documents
`{dataset}`: {units} documents in {clusters} clusters scored, the same folds for every budget. The published recipe
(SGD from the identity, Belrose et al. 2023, doi 10.48550/arXiv.2303.08112) runs with {batch} rows a step instead of
262,144. Penalties in kl, nats/token, with 95 % crossed intervals for new seeds and new clusters; *change* is the
difference from the reference ({reference} steps), paired by cluster.
*Fall*: how much held-out kl fell over the last doubling of steps, mean over own lenses. *Flips*: pairs of layers, of {pairs}, whose direction effect in ce
has another sign than in the reference. Rank correlation: of the kl cells with those of the reference.

| recipe | steps | held-out kl | fall | mean penalty | change | without layer 0 | change | forward - backward | rank | flips |
|---|---|---|---|---|---|---|---|---|---|---|"""  # noqa: E501


def without_first_layer(matrix: np.ndarray) -> float:
    """Mean penalty over pairs of layers other than the first, whose lens is arbitrary elsewhere."""
    inner = matrix[1:, 1:]
    return float(inner.sum() / (len(inner) * (len(inner) - 1)))


def write_report(runs: Sequence[Run], out: Path, *, batch: int) -> pd.DataFrame:
    """Write convergence.csv, convergence.svg and convergence.md; returns the table."""
    out.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame([row for run in runs for row in estimates(run, runs[-1])])
    rows.to_csv(out / "convergence.csv", index=False, float_format="%.6g", lineterminator="\n")
    rows = pd.read_csv(out / "convergence.csv")  # the page is made from what is published
    save(draw(rows), out / "convergence.svg")
    (out / "convergence.md").write_text(page(rows, runs, batch), encoding="utf-8")
    return rows


def estimates(run: Run, reference: Run) -> list[dict[str, object]]:
    """One row a loss and statistic of one budget, with its difference from the reference budget."""
    recipe, steps, grid = run
    own = grid.certificates[grid.certificates["readout"] == "own"]
    rows = []
    for loss in ("kl", "ce"):
        here, there = grid.with_loss(loss), reference[2].with_loss(loss)
        for name in STATISTICS:
            statistic = without_first_layer if name == "later" else name
            one = ts.estimate(here, statistic).headline
            row = {"recipe": recipe, "steps": steps, "loss": loss, "statistic": name}
            row |= limits("", one)
            if run is not reference:
                row |= limits("change_", ts.compare(here, there, statistic=statistic).difference.headline)
            rows.append(
                row
                | {
                    "held_out_kl": own["held_out_kl"].mean(),
                    "fall": own["change"].mean(),
                    "rank_correlation": float(spearmanr(matrix(grid, "kl"), matrix(reference[2], "kl"))[0]),
                    "asymmetry_flips": flips(grid.with_loss("ce"), reference[2].with_loss("ce")),
                }
            )
    return rows


def limits(prefix: str, one: ts.Estimate) -> dict[str, float]:
    """An estimate with its interval as columns."""
    values = {"estimate": one.estimate, "conf_low": one.conf_low, "conf_high": one.conf_high}
    return {prefix + name: float(value) for name, value in values.items()}


def matrix(grid: TransferGrid, loss: str) -> np.ndarray:
    """(L (L - 1),) mean penalties of all cells."""
    return np.asarray(ts.estimate(grid.with_loss(loss), "cells").headline.estimate)


def flips(grid: TransferGrid, reference: TransferGrid) -> int:
    """Pairs of layers whose forward minus backward penalty has another sign than in the reference."""
    signs = []
    for one in (grid, reference):
        square = np.zeros((one.n_layers, one.n_layers))
        square[~np.eye(one.n_layers, dtype=bool)] = matrix(one, one.loss)
        upper = np.triu_indices(one.n_layers, 1)
        signs.append(np.sign((square - square.T)[upper]))
    return int((signs[0] != signs[1]).sum())


def draw(rows: pd.DataFrame) -> Figure:
    """Mean penalty against steps, with and without the first layer."""
    with style():
        figure = new_figure(height=3.6)
        panels = figure.subplots(1, 2, sharex=True)
        for axes, (name, title) in zip(
            panels, (("mean", "all layers"), ("later", "without layer 0")), strict=True
        ):
            shown = rows[(rows["statistic"] == name) & (rows["loss"] == "kl")]
            for number, (recipe, part) in enumerate(shown.groupby("recipe", sort=False)):
                colour, dash, marker = SERIES[number]
                arms = (part["estimate"] - part["conf_low"], part["conf_high"] - part["estimate"])
                axes.errorbar(
                    part["steps"], part["estimate"], yerr=arms, color=colour, linestyle=dash, marker=marker,
                    capsize=3, label=LABELS[str(recipe)] if name == "mean" else "_",
                )  # fmt: skip
            ticks = sorted(set(shown["steps"]))[::2]
            axes.set_xscale("log")
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("steps")
            light_grid(axes)
        panels[0].set_ylabel("mean penalty, nats/token")
        figure.legend(loc="outside lower center", ncols=1)
    return figure


def page(rows: pd.DataFrame, runs: Sequence[Run], batch: int) -> str:
    """The Markdown page."""
    recipe, steps, grid = runs[-1]
    data = grid.datasets[0]
    text = INTRO.format(
        seeds=len(data.seeds),
        subject=grid.subject,
        dataset=data.name,
        units=len(data.units),
        clusters=len(set(data.clusters)),
        batch=batch,
        reference=f"{LABELS[recipe]}, {steps}",
        pairs=grid.n_layers * (grid.n_layers - 1) // 2,
    )
    lines = [text]
    for (recipe, steps), part in rows[rows["loss"] == "kl"].groupby(["recipe", "steps"], sort=False):
        by = part.set_index("statistic")
        one = part.iloc[0]
        cells = [
            LABELS[str(recipe)],
            str(steps),
            f"{one['held_out_kl']:.3f}",
            f"{one['fall']:.4f}",
            *(shown(by, name, prefix) for name in ("mean", "later") for prefix in ("", "change_")),
            shown(by, "asymmetry"),
            f"{one['rank_correlation']:.2f}",
            str(int(one["asymmetry_flips"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    picture = "![Mean penalty against training steps for both recipes](convergence.svg)"
    return "\n".join([*lines, "", picture, "", f"Versions: {versions}.", ""])


def shown(rows: pd.DataFrame, name: str, prefix: str = "") -> str:
    """An estimate with its interval, as text."""
    row = rows.loc[name]
    if np.isnan(row[f"{prefix}estimate"]):
        return "reference"
    return f"{row[prefix + 'estimate']:.3f} [{row[prefix + 'conf_low']:.3f}, {row[prefix + 'conf_high']:.3f}]"

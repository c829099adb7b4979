"""The report of the known-truth study: every number in it comes from the table of studies, none is typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import beta

from transferstats.provenance import library_versions
from transferstats.reporting.canvas import MUTED, SERIES, light_grid, new_figure, save, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEYS = ["anchor", "width", "kind", "dial", "ratio"]
ONE_LENS = ("iterative", "trap")
"""Subjects for which one lens is exactly right at every layer: every yes about them is an error."""

ANSWERS: dict[str, str] = {
    "refused": "C3, C4 not tested",
    "p_excess": "p < .05 over the null",
    "exceeds": "C4 exceeds",
    "refused_shared": "C7 not tested",
    "p_shared": "p < .05, S - S0",
    "shared_exceeds": "C7 contradicted",
}
BOUNDS: tuple[tuple[str, str, float], ...] = (
    ("exceeds", "C4 exceeds, where one lens is right", 0.05),
    ("p_excess", "p < .05 over the null, where one lens is right", 0.07),
    ("shared_exceeds", "C7 contradicted, where one lens is right", 0.05),
    ("p_shared", "p < .05 of S - S0, where one lens is right", 0.07),
)


def write_report(frame: pd.DataFrame, out: Path, *, table: str, smallest: float) -> pd.DataFrame:
    """Write the studies, one row a point with its rates, and the page; returns the rates."""
    out.mkdir(parents=True, exist_ok=True)
    order = ["width", "kind", "dial", "ratio", "index", "anchor"]
    frame = frame.assign(**{name: frame[name].astype(float) for name in ("width", "dial", "ratio", "index")})
    frame = frame.sort_values(order, ignore_index=True)
    frame.to_csv(out / table, index=False, float_format="%.5g", lineterminator="\n")
    frame = pd.read_csv(out / table)  # the page is made from what is published
    rates = pd.DataFrame([summary(dict(zip(KEYS, key, strict=True)), group) for key, group in frame.groupby(KEYS)])
    rates.to_csv(out / "known_truth.csv", index=False, float_format="%.4g", lineterminator="\n")
    save(draw(rates), out / "known_truth.svg")
    (out / "known_truth.md").write_text(page(frame, rates, table, smallest), encoding="utf-8")
    return rates


def answers(group: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """question -> (yes, studies asked): refused verdicts are counted, and then left out."""
    given, shared = group[group["c4"] != "not tested"], group[group["c7"] != "not tested"]
    tested = group[group["c3"] != "not tested"]
    return {
        "refused": (len(group) - len(given), len(group)),
        "p_excess": (int((tested["p_excess"] < 0.05).sum()), len(tested)),
        "exceeds": (int((given["c4"] == "exceeds").sum()), len(given)),
        "refused_shared": (len(group) - len(shared), len(group)),
        "p_shared": (int((shared["p_shared"] < 0.05).sum()), len(shared)),
        "shared_exceeds": (int((shared["c7"] == "contradicted").sum()), len(shared)),
    }


def covered(group: pd.DataFrame, name: str) -> tuple[int, int]:
    """(intervals that include 0, intervals)."""
    known = group[group[f"{name}_low"].notna() & group[f"{name}_high"].notna()]
    return int(((known[f"{name}_low"] <= 0) & (known[f"{name}_high"] >= 0)).sum()), len(known)


def summary(key: dict[str, Any], group: pd.DataFrame) -> dict[str, Any]:
    """Mean estimates of the studies of one point, and how often each question was answered yes."""
    held, trained = group["own_held_out"].mean(), group["own_train"].mean()
    row: dict[str, Any] = {
        **key,
        "studies": len(group),
        "gap": (held - trained) / held,
        "penalty": group["penalty"].mean(),
        "null_penalty": group["null_penalty"].mean(),
        "excess": group["excess"].mean(),
        "shared_largest": group["shared_largest"].mean(),
        "check": group["check"].mean(),
        "unlimited": group["unlimited"].mean() if group["unlimited"].notna().any() else float("nan"),
        "converged": group["converged"].mean(),
    }
    for name, (hits, count) in answers(group).items():
        row |= rate(name, hits, count)
    for name in ("unlimited", "shared_largest"):
        row |= rate(f"{name}_covers_0", *covered(group, name))
    return row


def rate(name: str, hits: int, count: int) -> dict[str, float]:
    """Rate with its exact (Clopper-Pearson) 95 % limits; NaN where nobody was asked."""
    if not count:
        return {name: float("nan"), f"{name}_low": float("nan"), f"{name}_high": float("nan")}
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, count - hits + 1))
    high = 1.0 if hits == count else float(beta.ppf(0.975, hits + 1, count - hits))
    return {name: hits / count, f"{name}_low": low, f"{name}_high": high}


def shown(row: dict[str, Any], name: str) -> str:
    """A rate with its limits."""
    if np.isnan(row[name]):
        return "-"
    return f"{row[name]:.2f} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def draw(rates: pd.DataFrame) -> Figure:
    """Rates of error where one lens is right, and of detection where none is, against rows, lenses from ridge."""
    ridge = rates[rates["anchor"] == "ridge"]
    with style():
        figure = new_figure(height=3.6)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name, title in zip(
            panels, ("p_excess", "p_shared"), ("penalty over the null", "S - S0"), strict=True
        ):
            _panel(axes, ridge, name)
            axes.set_title(title)
        panels[0].set_ylabel("share of studies with p < .05")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _panel(axes: Axes, ridge: pd.DataFrame, name: str) -> None:
    lines = ridge.groupby(["kind", "dial", "width"], sort=True)
    for number, ((kind, dial, width), group) in enumerate(lines):
        colour, dash, marker = SERIES[number % len(SERIES)]
        label = f"{kind}{'' if kind != 'pipeline' else f' {dial:g}'}, d {width:g}"
        axes.plot(group["ratio"], group[name], color=colour, linestyle=dash, marker=marker, label=label)
    axes.axhline(0.05, color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("training rows / width squared")
    light_grid(axes)


def page(frame: pd.DataFrame, rates: pd.DataFrame, table: str, smallest: float) -> str:
    """The Markdown page."""
    lines = [
        "# Subjects with known answers",
        "",
        "Made by `python analyses/validation/known_truth.py --report-only` from the studies in "
        f"[{table}]({table}); the tables say how many there are. 3 seeds, 3 null replicates and the null of one "
        f"of them, 60 documents scored, smallest penalty of interest {smallest:g} nats. Penalties are means over "
        "studies, in nats; rates have exact 95 % limits. On *iterative* and *trap* one lens is exactly right at "
        "every layer, so every yes is an error; *pipeline* rotates each layer by angles whose root mean square is "
        "the dial, in radians (inf: any rotation).",
        "",
        "## Bounds",
        "",
        "Over all points of the grid, among studies that give the verdict:",
        "",
        "| anchor | question | bound | found |",
        "|---|---|---|---|",
        *_bounds(frame),
        "",
        "![How often penalty and shared excess are found beyond the null, by rows](known_truth.svg)",
        "",
    ]
    for (anchor, width), part in rates.groupby(["anchor", "width"], sort=True):
        lines += [f"## Own lenses from the {anchor} anchor, width {width:g}", "", *_table(part), ""]
    by_version = ", ".join(
        f"{count} by version {int(name)}"
        for name, count in frame.groupby("algorithm")["study"].nunique().sort_index().items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return "\n".join([*lines, f"Studies: {by_version} of the lens room.", "", f"Versions: {versions}.", ""])


def _bounds(frame: pd.DataFrame) -> list[str]:
    rows = []
    for anchor, part in frame.groupby("anchor", sort=True):
        right = answers(part[part["kind"].isin(ONE_LENS)])
        for name, label, bound in BOUNDS:
            found = rate(name, *right[name])
            hits, count = right[name]
            rows.append(f"| {anchor} | {label} | at most {bound:g} | {hits} of {count}: {shown(found, name)} |")
        none = part[(part["kind"] == "pipeline") & np.isinf(part["dial"]) & (part["ratio"] >= 1)]
        hits, count = int((none["c4"] == "exceeds").sum()), len(none)
        label = "C4 exceeds, pipeline inf, rows / width squared of 1 and more (refusals count as misses)"
        rows.append(
            f"| {anchor} | {label} | at least 0.95 | {hits} of {count}: {shown(rate('x', hits, count), 'x')} |"
        )
        if part["unlimited"].notna().any():
            one = part[part["kind"] == "iterative"]
            hits, count = covered(one, "unlimited")
            found = shown(rate("x", hits, count), "x")
            label = "interval of the penalty at unlimited rows includes 0, iterative"
            rows.append(f"| {anchor} | {label} | none set | {hits} of {count}: {found} |")
        hits, count = covered(part[part["kind"].isin(ONE_LENS)], "shared_largest")
        label = "simultaneous interval of the largest S - S0 includes 0, where one lens is right"
        rows.append(
            f"| {anchor} | {label} | at least 0.95 | {hits} of {count}: {shown(rate('x', hits, count), 'x')} |"
        )
    return rows


def _table(part: pd.DataFrame) -> list[str]:
    columns = ("gap", "penalty", "null_penalty", "excess", "shared_largest", "check", "unlimited", "converged")
    heads = ("gap", "P", "P0", "P - P0", "largest S - S0", "P0 - P00", "unlimited P", "converged")
    lines = [
        "| subject | rows / d^2 | studies | " + " | ".join(heads) + " | " + " | ".join(ANSWERS.values()) + " |",
        "|" + "---|" * (3 + len(heads) + len(ANSWERS)),
    ]
    for row in part.to_dict("records"):
        name = row["kind"] + (f" {row['dial']:g}" if row["kind"] == "pipeline" else "")
        numbers = " | ".join("-" if np.isnan(row[key]) else f"{row[key]:.3f}" for key in columns)
        rest = " | ".join(shown(row, key) for key in ANSWERS)
        lines.append(f"| {name} | {row['ratio']:g} | {row['studies']} | {numbers} | {rest} |")
    return lines

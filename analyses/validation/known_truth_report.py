"""The report of the known-truth study: every number in it comes from the table of studies, none is typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import beta

from transferstats.provenance import library_versions
from transferstats.reporting.canvas import INK, MUTED, SERIES, light_grid, new_figure, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUESTIONS: tuple[tuple[str, str], ...] = (
    ("naive", "naive: raw interval above 0"),
    ("p_excess", "p < .05 over the null"),
    ("exceeds", "exceeds"),
    ("p_shared", "p < .05, S - S0"),
    ("shared_exceeds", "S - S0 exceeds"),
)


def write_report(frame: pd.DataFrame, out: Path, *, table: str, smallest: float) -> pd.DataFrame:
    """Write the studies, one row a point with its rates, and the page; returns the rates."""
    out.mkdir(parents=True, exist_ok=True)
    frame = frame.sort_values(["kind", "dial", "anchor", "index"], ignore_index=True)
    frame.to_csv(out / table, index=False, float_format="%.6g", lineterminator="\n")
    frame = pd.read_csv(out / table)  # the page is made from what is published
    versions_of = frame["algorithm"].value_counts().sort_index().to_dict()
    rates = pd.DataFrame([summary(group) for _, group in frame.groupby(["kind", "dial", "anchor"], sort=True)])
    rates.to_csv(out / "known_truth.csv", index=False, float_format="%.4g", lineterminator="\n")
    save(draw(rates), out / "known_truth.svg")
    (out / "known_truth.md").write_text(page(rates, versions_of, table, smallest), encoding="utf-8")
    return rates


DRAWN: tuple[tuple[str, str], ...] = (
    ("naive", "naive: raw interval above 0"),
    ("p_excess", "p < .05 over the null"),
    ("exceeds", "exceeds the smallest of interest"),
)


def draw(rates: pd.DataFrame) -> Figure:
    """How often each question is answered yes along the dial, own lenses anchored in ridge; the trap beside it."""
    ridge = rates[rates["anchor"] == "ridge"]
    points = [row for row in ridge.to_dict("records") if row["subject"] != "trap"]
    points.sort(key=lambda row: row["dial"])
    points = [*(row for row in ridge.to_dict("records") if row["subject"] == "trap"), *points]
    with style():
        figure = new_figure(height=3.6)
        axes = figure.add_subplot()
        for number, (key, label) in enumerate(DRAWN):
            colour, dash, marker = SERIES[number]
            y = np.array([row[key] for row in points])
            arms = [y - [row[f"{key}_low"] for row in points], [row[f"{key}_high"] for row in points] - y]
            x = np.arange(len(points)) + 0.08 * (number - 1)
            axes.errorbar(x, y, yerr=arms, color=colour, marker=marker, linestyle="none", capsize=3, label=label)
            axes.plot(x[1:], y[1:], color=colour, linestyle=dash)
        axes.axhline(0.05, color=MUTED, linewidth=0.8, linestyle="--")
        axes.axvline(1.5, color=INK, linewidth=0.8)
        axes.set_xticks(range(len(points)), [point_name(row) for row in points])
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("share of the studies")
        axes.set_xlabel("subject; left of the line one lens is right, right of it: dial, radians")
        light_grid(axes)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def point_name(row: dict[str, object]) -> str:
    """Tick label of a point."""
    return (
        str(row["subject"]) if row["subject"] != "pipeline" else f"{row['dial']:g}".replace("inf", "any rotation")
    )


def summary(group: pd.DataFrame) -> dict[str, object]:
    """Mean estimates of the studies of one point, and how often each question was answered yes."""
    first = group.iloc[0]
    layers = [name for name in group if name.startswith("shared_excess_")]
    row: dict[str, object] = {
        "subject": first["kind"],
        "dial": first["dial"],
        "anchor": first["anchor"],
        "studies": len(group),
        "penalty": group["penalty"].mean(),
        "null_penalty": group["null_penalty"].mean(),
        "shared_excess": group[layers].to_numpy().mean(),
        "converged": group["converged"].mean(),
    }
    answers = {
        "naive": group["penalty_low"] > 0,
        "p_excess": group["p_excess"] < 0.05,
        "exceeds": group["verdict"] == "exceeds",
        "p_shared": group["p_shared"] < 0.05,
        "shared_exceeds": group["shared_verdict"] == "exceeds",
    }
    for name, hits in answers.items():
        row |= rate(name, int(hits.sum()), len(group))
    return row


def rate(name: str, hits: int, count: int) -> dict[str, float]:
    """Rate with its exact (Clopper-Pearson) 95 % limits."""
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, count - hits + 1))
    high = 1.0 if hits == count else float(beta.ppf(0.975, hits + 1, count - hits))
    return {name: hits / count, f"{name}_low": low, f"{name}_high": high}


def page(rates: pd.DataFrame, versions_of: dict[float, int], table: str, smallest: float) -> str:
    """The Markdown page."""
    head = [
        "# Subjects with known answers",
        "",
        "Made by `python analyses/validation/known_truth.py --report-only` from the studies in "
        f"[{table}]({table}); the table says how many there are. Smallest penalty of interest {smallest:g} nats. "
        "Penalties are means over studies, in nats; rates have exact 95 % limits. On *iterative* and *trap* one "
        "lens is exactly right at every layer, so every yes is an error; *pipeline* rotates each layer by angles "
        "whose root mean square is the dial, in radians (inf: any rotation). S - S0 is judged with Holm over "
        "layers; *converged* is the share of lenses with a certificate.",
        "",
        "| subject | anchor | studies | penalty | null penalty | S - S0 | converged | "
        + " | ".join(label for _, label in QUESTIONS)
        + " |",
        "|" + "---|" * (7 + len(QUESTIONS)),
    ]
    for row in rates.to_dict("records"):
        name = row["subject"] + (f" {row['dial']:g}" if row["subject"] == "pipeline" else "")
        answers = " | ".join(
            f"{row[key]:.2f} [{row[f'{key}_low']:.2f}, {row[f'{key}_high']:.2f}]" for key, _ in QUESTIONS
        )
        head.append(
            f"| {name} | {row['anchor']} | {row['studies']} | {row['penalty']:.4f} | {row['null_penalty']:.4f} | "
            f"{row['shared_excess']:.4f} | {row['converged']:.2f} | {answers} |"
        )
    by_version = ", ".join(f"{count} by version {int(name)}" for name, count in versions_of.items())
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    picture = "![How often each question is answered yes, by subject](known_truth.svg)"
    made = f"Studies: {by_version} of the lens room; from 7 on the null's residuals take half as many steps."
    return "\n".join([*head, "", picture, "", made, "", f"Versions: {versions}.", ""])

"""The report of the coverage study: every number in it comes from the results, none is typed."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy
from checks import Check, all_checks
from settings import ALL_REGIMES
from tally import N_LAYERS

import transferstats
from transferstats.simulation import REGIMES

mpl.use("Agg")
mpl.rcParams.update({"svg.hashsalt": "transferstats", "svg.fonttype": "none", "font.size": 9})

from matplotlib import pyplot as plt  # noqa: E402

NOMINAL = 0.95
STYLES: dict[str, tuple[str, str, str, str]] = {
    "crossed": ("crossed two-term t (default)", "#0b4f8a", "-", "o"),
    "bootstrap two_term": ("two-term bootstrap (default)", "#3a9bdc", "--", "s"),
    "bootstrap studentized": ("studentized", "#b36b00", "-", "v"),
    "bootstrap expanded": ("expanded percentile", "#d98e04", "--", "^"),
    "bootstrap bca": ("BCa", "#e8b04a", ":", "D"),
    "bootstrap percentile": ("pigeonhole percentile", "#c2410c", "-", "P"),
    "bootstrap basic": ("basic", "#e2885f", ":", "X"),
    "seed percentile": ("seeds only, percentile", "#7a7a7a", "--", "<"),
    "units only": ("units only", "#4d4d4d", "-", ">"),
    "naive (pooled)": ("naive: all rows pooled", "#a8a8a8", "-", "x"),
}
"""Method -> label, colour, line, marker: ours in blue, other bootstraps in orange, controls in grey."""


def write_report(
    frame: pd.DataFrame, out: Path, published: Path | None = None, *, allowance: float = 0.0
) -> list[Check]:
    """Write coverage.csv, checks.csv, coverage.svg, README.md and manifest.json to ``out``.

    ``published``: where to put the coverage of the bootstrap kinds that the package quotes in its notes.
    ``allowance``: Monte-Carlo errors by which a bound may be missed. Returns the checks.
    """
    out.mkdir(parents=True, exist_ok=True)
    frame = frame.sort_values(["study", "regime", "n_seeds", "n_units", "n_null", "method", "target"])
    frame.drop(columns="seconds").to_csv(
        out / "coverage.csv", index=False, float_format="%.6g", lineterminator="\n"
    )
    checks = all_checks(frame, allowance)
    pd.DataFrame([asdict(check) for check in checks]).to_csv(
        out / "checks.csv", index=False, float_format="%.6g", lineterminator="\n"
    )
    if (frame["study"] == "bootstrap").any():
        draw(frame, out / "coverage.svg")
    (out / "README.md").write_text(text(frame, checks), encoding="utf-8")
    if published is not None:
        published_coverage(frame).to_csv(published, index=False, float_format="%.4g", lineterminator="\n")
    (out / "manifest.json").write_text(manifest(frame, out), encoding="utf-8")
    return checks


def published_coverage(frame: pd.DataFrame) -> pd.DataFrame:
    """Coverage of each bootstrap kind by number of seeds, target mean, where seeds dominate."""
    rows = frame[
        (frame["study"] == "bootstrap")
        & (frame["regime"] == "seed")
        & (frame["target"] == "mean")
        & frame["method"].str.startswith("bootstrap ")
    ]
    kinds = rows["method"].str.removeprefix("bootstrap ")
    table = rows.assign(kind=kinds)[["kind", "n_seeds", "coverage", "n_sets"]]
    return table.sort_values(["kind", "n_seeds"])


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Coverage of the mean by method, regime and number of seeds."""
    rows = frame[(frame["study"] == "bootstrap") & (frame["target"] == "mean")]
    regimes = [regime for regime in ALL_REGIMES if regime in set(rows["regime"])]
    seeds = sorted(rows["n_seeds"].unique())
    figure, axes = plt.subplots(1, len(regimes), figsize=(2.3 * len(regimes), 4.6), sharey=True, squeeze=False)
    error = float(np.sqrt(NOMINAL * (1 - NOMINAL) / rows["n_sets"].min()))
    for axis, regime in zip(axes[0], regimes, strict=True):
        axis.axhspan(NOMINAL - 2 * error, NOMINAL + 2 * error, color="#d9e8f5", zorder=0)
        axis.axhline(NOMINAL, color="#0b4f8a", linewidth=0.8, zorder=1)
        for method, (label, colour, line, marker) in STYLES.items():
            one = rows[(rows["regime"] == regime) & (rows["method"] == method)].sort_values("n_seeds")
            values = one["coverage"]
            positions = [seeds.index(count) for count in one["n_seeds"]]
            ours = method in ("crossed", "bootstrap two_term")
            axis.plot(
                positions,
                values,
                line,
                color=colour,
                marker=marker,
                markersize=4.5,
                linewidth=2 if ours else 1.1,
                label=label,
                zorder=3 if ours else 2,
            )
        axis.set_title(f"{regime} regime", fontsize=10)
        axis.set_xticks(range(len(seeds)), [str(count) for count in seeds])
        axis.set_xlabel("seeds K")
        axis.set_ylim(0, 1.01)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#ececec", linewidth=0.7)
    axes[0, 0].set_ylabel("share of 95 % intervals that contain the truth")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=5, frameon=False, fontsize=8.5)
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def text(frame: pd.DataFrame, checks: list[Check]) -> str:
    """README.md."""
    lines = [
        *introduction(frame, checks),
        "## Promises",
        "",
        "| promise | bound | worst | where | kept |",
        "|---|---|---|---|---|",
        *[
            f"| {check.name} | {check.bound} | {check.measured:.3f} | {check.where} | "
            f"{'yes' if check.holds else '**no**'} |"
            for check in checks
        ],
        "",
        *explanations(frame, checks),
        "## Crossed interval: coverage by regime and seeds",
        "",
        *coverage_table(frame),
        "",
        "## Every method on the mean penalty",
        "",
        *method_table(frame),
        "",
    ]
    return "\n".join(lines)


def introduction(frame: pd.DataFrame, checks: list[Check]) -> list[str]:
    """What was simulated, how often, and the picture."""
    sizes = frame["n_sets"]
    settings = frame.drop_duplicates(["study", "regime", "n_seeds", "n_units", "n_null"])
    errors = [100 * np.sqrt(0.95 * 0.05 / count) for count in (sizes.max(), sizes.min())]
    return [
        "# Coverage of transferstats intervals and tests",
        "",
        "Made by `python analyses/validation/coverage.py`; every number below is computed by it from "
        "`coverage.csv`. `checks.csv` holds the table of promises, `manifest.json` what made them.",
        "",
        f"**{sum(check.holds for check in checks)} of {len(checks)} promises kept.** {len(settings)} simulated "
        f"studies, each repeated {sizes.min()} to {sizes.max()} times (Monte-Carlo error of a 95 % coverage: "
        f"{errors[0]:.1f} to {errors[1]:.1f} points).",
        "",
        f"A study is K seeds x N units on {N_LAYERS} layers; its true penalty saturates with distance and is "
        f"asymmetric. Where the variance of a mean comes from: {regimes_in_words()}. Effects mix patterns over "
        "the matrix (common, growing with distance, by direction, by layer, by cell), so no target is spared.",
        "",
        "![Coverage of the mean penalty by method, regime and number of seeds](coverage.svg)",
        "",
        "Coverage of the mean penalty, nominal 95 % (line; band: two Monte-Carlo errors).",
        "",
    ]


def regimes_in_words() -> str:
    """The regimes as the simulation defines them."""
    words = []
    for name in ALL_REGIMES:
        regime = REGIMES[name]
        shapes = [
            f"{shape} {what}"
            for what, shape in (("seeds", regime.seed_shape), ("units", regime.unit_shape))
            if shape != "normal"
        ]
        extra = f", {' and '.join(shapes)}" if shapes else ""
        words.append(f"`{name}` {100 * regime.seed_share:.0f} % seeds{extra}")
    return "; ".join(words) + " (heavy: t with 3 df; skewed: log-normal units, gamma seeds)"


def explanations(frame: pd.DataFrame, checks: list[Check]) -> list[str]:
    """What a reader should know about the misses and the limits."""
    lines = []
    broken = [check.name for check in checks if not check.holds]
    lines.append(f"Not kept: {'; '.join(broken)}." if broken else "Every promise is kept.")
    skewed = frame[(frame["method"] == "crossed, one-sided 5 %") & (frame["regime"] == "skewed")]
    if len(skewed):
        tails = skewed[["miss_above", "miss_below"]].to_numpy()
        below = float((tails[:, 1] > tails[:, 0]).mean())
        lines.append(
            f"Skewed seeds and units make the tails unequal. The worst one-sided 5 % test there errs in "
            f"{100 * tails.max():.1f} % of studies, and in {100 * below:.0f} % of settings and targets the larger "
            "error is an upper limit below the truth: a long right tail is rarely seen in few seeds. The mean of "
            f"both one-sided errors is {100 * tails.mean():.1f} %. Read one-sided claims with that in mind where "
            "penalties are strongly skewed; the two-sided intervals are in the table."
        )
    two = frame[(frame["study"] == "targets") & (frame["method"] == "crossed") & (frame["n_seeds"] == 2)]
    if len(two):
        seeds = two[two["regime"] == "seed"]["width_ratio"]
        lines.append(
            f"With 2 seeds the interval is valid and {seeds.min():.1f} to {seeds.max():.1f} times as wide as one "
            "that knows the variance, where seeds dominate."
        )
    without = frame[frame["n_failed"] > 0].groupby(["method", "target"])[["n_failed", "n_sets"]].sum()
    for (method, target), row in without.iterrows():
        lines.append(
            f"{method}, {target}: {row['n_failed']} of {row['n_sets']} data sets had no interval (a fit on the "
            "bound of its parameter, or a share whose denominator is not clearly different from 0) and are left "
            "out."
        )
    return ["## Reading", "", *[f"- {line}" for line in lines], ""]


def coverage_table(frame: pd.DataFrame) -> list[str]:
    """Minimum and mean coverage over targets and numbers of units."""
    rows = frame[(frame["study"] == "targets") & (frame["method"] == "crossed")]
    grouped = rows.groupby(["regime", "n_seeds"])["coverage"].agg(["min", "mean", "max"])
    lines = ["| regime | K | lowest | mean | highest |", "|---|---|---|---|---|"]
    for regime in ALL_REGIMES:
        for seeds in sorted(rows["n_seeds"].unique()):
            if (regime, seeds) in grouped.index:
                low, mean, high = grouped.loc[(regime, seeds)]
                lines.append(f"| {regime} | {seeds} | {low:.3f} | {mean:.3f} | {high:.3f} |")
    return lines


def method_table(frame: pd.DataFrame) -> list[str]:
    """Coverage of the mean by method, regime and K."""
    rows = frame[(frame["study"] == "bootstrap") & (frame["target"] == "mean")]
    table = rows.pivot_table(index="method", columns=["regime", "n_seeds"], values="coverage")
    columns = [column for regime in ALL_REGIMES for column in table.columns if column[0] == regime]
    lines = [
        "| method | " + " | ".join(f"{regime} K={seeds}" for regime, seeds in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for method, (label, *_) in STYLES.items():
        if method in table.index:
            values = " | ".join(f"{table.loc[method, column]:.3f}" for column in columns)
            lines.append(f"| {label} | {values} |")
    return lines


def manifest(frame: pd.DataFrame, out: Path) -> str:
    """What made the report."""
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.iterdir())
        if path.name != "manifest.json" and path.is_file()
    }
    content = {
        "made_by": "analyses/validation/coverage.py",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "pandas": pd.__version__,
            "transferstats": getattr(transferstats, "__version__", "unreleased"),
        },
        "data_sets": {study: int(count) for study, count in frame.groupby("study")["n_sets"].max().items()},
        "random_streams": "SHA-256 of the name of each setting",
        "cpu_minutes": round(
            float(frame.drop_duplicates(["study", "regime", "n_seeds", "n_units", "n_null"])["seconds"].sum() / 60)
        ),
        "sha256": hashes,
    }
    return json.dumps(content, indent=2) + "\n"

"""The page about residual connections: every number in it comes from the stored losses, none is typed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

import transferstats as ts
from transferstats import embedded
from transferstats.grid import TransferGrid
from transferstats.provenance import library_versions
from transferstats.reporting.canvas import MUTED, SERIES, light_grid, new_figure, save, style
from transferstats.results import Claim, Estimate
from transferstats.stats.architectures import instance_shares
from transferstats.stats.depth import depth_profile, penalty_share
from transferstats.stats.reliability import correlate_similarity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST = 0.05  # nats, and share of gain: a twentieth of what lenses gain
CLAIMS: tuple[str, ...] = ("C1", "C3", "C4", "C5", "C7", "C8")


class Run(NamedTuple):
    """Losses of one network instance under one alignment and one anchor of its own lenses."""

    name: str
    instance: int
    alignment: str
    anchor: str
    grid: TransferGrid

    @property
    def title(self) -> str:
        """For people."""
        aligned = "" if self.alignment == "none" else f", {self.alignment}"
        return f"{self.name} {self.instance}{aligned}{'' if self.anchor == 'ridge' else ', from the shared lens'}"

    @property
    def main(self) -> bool:
        """Whether it is shown first: own lenses from their ridge start, layers aligned by rotation."""
        return self.anchor == "ridge" and self.alignment != "pad"


COMPARISONS: tuple[tuple[str, str, str, str], ...] = (
    ("isotropic-residual", "isotropic-plain", "none", "ridge"),
    ("isotropic-residual", "isotropic-half", "none", "ridge"),
    ("isotropic-half", "isotropic-plain", "none", "ridge"),
    ("isotropic-residual", "isotropic-plain", "none", "shared"),
    ("isotropic-residual", "isotropic-half", "none", "shared"),
    ("isotropic-half", "isotropic-plain", "none", "shared"),
    ("resnet", "plain", "procrustes", "ridge"),
    ("resnet", "plain", "pad", "ridge"),
    ("resnet", "plain", "procrustes", "shared"),
)
"""Kinds of network compared, under which alignment, and where their own lenses start."""


def write_report(runs: Sequence[Run], language: TransferGrid, out: Path) -> str:
    """Write the tables, the figure, the page and the manifest; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    later = language.with_layers(language.layers[1:])
    networks = pd.DataFrame([network_row(run) for run in runs] + [language_row(language), language_row(later)])
    kinds = pd.DataFrame([kind_row(runs, *names) for names in COMPARISONS])
    beside = pd.DataFrame([beside_row(run, later) for run in runs if run.instance == 0 and run.main])
    judged = [run for run in runs if run.grid.datasets[0].null is not None]
    claims = pd.DataFrame([row for run in judged for row in claim_rows(run)])
    tables = {"networks": networks, "kinds": kinds, "language": beside, "claims": claims}
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g", lineterminator="\n")
    save(draw(runs, later), out / "transfer.svg")
    text = page(tables, runs, language)
    (out / "README.md").write_text(text, encoding="utf-8")
    manifest = {
        "command": "python analyses/studies/vision/study.py",
        "networks": embedded.network_record(),
        "studies": {run.title: run.grid.provenance for run in runs},
        "versions": dict(library_versions()),
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, default=str) + "\n")
    return text


def limits(prefix: str, one: Estimate) -> dict[str, float]:
    """An estimate with its interval as columns."""
    values = {"": one.estimate, "_low": one.conf_low, "_high": one.conf_high}
    return {prefix + ending: float(value) for ending, value in values.items()}


def network_row(run: Run) -> dict[str, Any]:
    """One network: accuracy, own-lens loss at both ends, penalty, normalised penalty, similarity of neighbours."""
    grid, data = run.grid, run.grid.datasets[0]
    accuracy = embedded.network_record()["networks"][f"{run.name}-{run.instance}"]["test_accuracy"]
    return {"network": run.title, "accuracy": accuracy, **measures(grid, data.name)}


def language_row(grid: TransferGrid) -> dict[str, Any]:
    """The language model, average over its datasets."""
    what = "all layers" if grid.layers[0] == "0" else "without embeddings"
    return {"network": f"language model, {what}", "accuracy": np.nan, **measures(grid, grid.datasets[0].name)}


def measures(grid: TransferGrid, dataset: str) -> dict[str, Any]:
    """What every network is described by."""
    depth = np.atleast_1d(depth_profile(grid).headline.estimate)
    own = grid.certificates[grid.certificates["readout"] == "own"]
    cosine = np.asarray(grid.similarities[dataset]["cosine"])
    return {
        "layers": grid.n_layers,
        "first_loss": float(depth[0]),
        "last_loss": float(depth[-1]),
        **limits("penalty", ts.estimate(grid, "mean").headline),
        **limits("share", penalty_share(grid).headline),
        "cosine": float(np.diagonal(cosine, 1).mean()),
        **limits("spearman", correlate_similarity(grid, "covariance").headline),
        "converged": float(own["converged"].mean()),
    }


def chosen(runs: Sequence[Run], name: str, alignment: str, anchor: str) -> list[TransferGrid]:
    """All instances of a kind."""
    return [run.grid for run in runs if (run.name, run.alignment, run.anchor) == (name, alignment, anchor)]


def kind_row(runs: Sequence[Run], first: str, second: str, alignment: str, anchor: str) -> dict[str, Any]:
    """The difference between two kinds of network, for new networks of both."""
    sides = [chosen(runs, name, alignment, anchor) for name in (first, second)]
    one = ts.compare_instances(*sides)
    values = [instance_shares(grids) for grids in sides]
    return {
        "difference": f"{first} - {second}",
        "alignment": alignment,
        "start": anchor,
        "first": ", ".join(f"{value:.3f}" for value in values[0]),
        "second": ", ".join(f"{value:.3f}" for value in values[1]),
        **limits("share", one),
        "df": float(one.df),
        "p_value": float(one.p_value),
        "verdict": verdict(one),
    }


def beside_row(run: Run, language: TransferGrid) -> dict[str, Any]:
    """One image network minus the language model, for new seeds and units of both."""
    one = ts.compare_shares(run.grid, language)
    return {
        "difference": f"{run.title} - language model without embeddings",
        **limits("share", one),
        "p_value": float(one.p_value),
        "verdict": verdict(one),
    }


def verdict(one: Estimate) -> str:
    """Against a twentieth of the gain."""
    return str(ts.relevance_test(one, smallest=SMALLEST).verdict)


def claim_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The standard claims of one network."""
    for claim in ts.evaluate(run.grid, SMALLEST).claims:
        if claim.key in CLAIMS:
            yield claim_row(run.title, claim)


def claim_row(title: str, claim: Claim) -> dict[str, Any]:
    """One claim as columns."""
    interval = limits("estimate", claim.estimate) if claim.estimate is not None else {}
    return {
        "network": title,
        "claim": claim.key,
        "title": claim.title,
        "verdict": claim.verdict,
        **interval,
        "p_adjusted": claim.p_adjusted,
        "reason": claim.reason,
    }


def draw(runs: Sequence[Run], language: TransferGrid) -> Figure:
    """Normalised penalty of every instance, by kind of network."""
    shown = [run for run in runs if run.main]
    names = list(dict.fromkeys(run.name for run in shown))
    with style():
        figure = new_figure(height=3.8)
        axes = figure.add_subplot()
        for run in shown:
            place = names.index(run.name) + 0.22 * (run.instance - 1) * (run.name not in ("inception", "vit"))
            _point(axes, place, penalty_share(run.grid).headline, 0)
        _point(axes, len(names), penalty_share(language).headline, 1)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        labels = [*(name.replace("isotropic-", "isotropic\n") for name in names), "language\nmodel"]
        axes.set_xticks(range(len(labels)), labels, fontsize=7.5)
        axes.set_ylabel("mean penalty / gain over the prior")
        light_grid(axes)
    return figure


def _point(axes: Any, place: float, one: Estimate, number: int) -> None:
    colour, _, marker = SERIES[number]
    arms = [[float(one.estimate - one.conf_low)], [float(one.conf_high - one.estimate)]]
    axes.errorbar(
        [place], [float(one.estimate)], yerr=arms, color=colour, marker=marker, capsize=3, linestyle="none"
    )


def interval(row: dict[str, Any], name: str, digits: int = 3) -> str:
    """Estimate [low, high] as text."""
    low, middle, high = (row[f"{name}{end}"] for end in ("_low", "", "_high"))
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def page(tables: dict[str, pd.DataFrame], runs: Sequence[Run], language: TransferGrid) -> str:
    """The page, in Markdown."""
    networks = [
        [
            row["network"],
            "" if np.isnan(row["accuracy"]) else f"{row['accuracy']:.3f}",
            f"{row['first_loss']:.3f} to {row['last_loss']:.4f}",
            interval(row, "penalty"),
            interval(row, "share"),
            f"{row['cosine']:.2f}",
            interval(row, "spearman", 2),
            f"{row['converged']:.0%}",
        ]
        for row in tables["networks"].to_dict("records")
    ]
    kinds = [
        [
            *(row[name] for name in ("difference", "alignment", "start", "first", "second")),
            interval(row, "share"),
            f"{row['p_value']:.3g}",
            row["verdict"],
        ]
        for row in tables["kinds"].to_dict("records")
    ]
    beside = [
        [row["difference"], interval(row, "share"), f"{row['p_value']:.3g}", row["verdict"]]
        for row in tables["language"].to_dict("records")
    ]
    claims = [
        [row["network"], f"{row['claim']} {row['title']}", row["verdict"], interval(row, "estimate")]
        for row in tables["claims"].to_dict("records")
    ]
    data = runs[0].grid.datasets[0]
    return TEMPLATE.format(
        seeds=len(data.seeds),
        units=f"{len(data.units):,}",
        smallest=SMALLEST,
        language_seeds=min(len(one.seeds) for one in language.datasets),
        language_units=" and ".join(f"{len(one.units)} documents ({one.name})" for one in language.datasets),
        answers=answers(tables),
        networks=table(NETWORK_HEAD, networks),
        kinds=table(KIND_HEAD, kinds),
        beside=table(("difference", "difference [95 %]", "p", "verdict"), beside),
        claims=table(("network", "claim", "verdict", "estimate [95 %]"), claims),
        versions=", ".join(f"{name} {version}" for name, version in library_versions().items()),
    )


KIND_HEAD = ("difference", "alignment", "start", "first", "second", "difference [95 %]", "p", "verdict")
NETWORK_HEAD = (
    "network",
    "test accuracy",
    "own-lens kl, first to last layer",
    "mean penalty",
    "penalty / gain",
    "cosine of neighbours",
    "Spearman with covariance similarity",
    "converged",
)


def answers(tables: dict[str, pd.DataFrame]) -> str:
    """The questions of the discussion, each answered by a verdict and its number."""
    kinds = tables["kinds"].to_dict("records")
    claims = tables["claims"]
    falls = claims[claims["claim"] == "C1"].groupby("verdict")["network"].apply(" / ".join).to_dict()
    serves = claims[claims["claim"] == "C7"].groupby("verdict")["network"].apply(" / ".join).to_dict()
    equal = [row for row in kinds if row["alignment"] == "none"]
    widening = [row for row in kinds if row["alignment"] != "none"]
    lines = [
        f"- **Do lenses improve with depth?** {listed(falls)}.",
        "- **Is the residual connection the key?** Where all layers have one width, and lenses need no alignment: "
        + "; ".join(told(row) for row in equal)
        + ".",
        "- **And where layers widen?** " + "; ".join(told(row) for row in widening) + ".",
        f"- **Does one lens serve every layer anywhere?** {listed(serves)}.",
    ]
    return "\n".join(lines)


def listed(by_verdict: dict[str, str]) -> str:
    """Verdicts with the networks that have them."""
    return "; ".join(f"{verdict}: {names}" for verdict, names in by_verdict.items())


def told(row: dict[str, Any]) -> str:
    """A difference in words."""
    start = "own lenses from ridge" if row["start"] == "ridge" else "own lenses from the shared one"
    how = start if row["alignment"] == "none" else f"{row['alignment']}, {start}"
    return f"{row['difference']} = {interval(row, 'share')} of the gain ({how}: {row['verdict']})"


TEMPLATE = """# Do lenses transfer because of residual connections?

Made by `python analyses/studies/vision/study.py`; every number comes from the stored losses (CSV files beside
this page). Small networks trained on the first 20,000 images of Fashion-MNIST, lenses trained on other images:
{seeds} disjoint folds of the remaining 40,000, scored on {units} more. Losses are kl to the network's output,
nats an image; *gain* is what own lenses gain over the class frequencies, so that *penalty / gain* can be
compared with a language model. Intervals are 95 %, for new seeds and new images; of differences between kinds,
for **new networks** of both kinds, each trained independently (the network is the unit, three of each).
Verdicts against {smallest:g}.

Penalties of own lenses that start from *ridge* tell what a lens does that has seen one layer only; those that
start from the *shared* lens stay there where their layer is silent: what is left is what the layers insist on.

## Answers

{answers}

![Mean penalty as a share of the gain over the prior, every network instance with its interval](transfer.svg)

Bars: 95 % for new seeds and new images of that network; they say nothing about the next network.

## Kinds of network

{kinds}

## Beside the language model

Differences of single networks, for new seeds and units of both, these networks only. The shipped language model
has {language_seeds} seeds here, scored on {language_units}.

{beside}

## Every network

{networks}

## Standard claims

First instance of each network, against its shared-lens null.

{claims}

## What this cannot show

- Networks of some 100,000 parameters on 28 x 28 grey pictures are not ImageNet networks; nothing here is about
  those.
- A network without skip connections trains worse. Its accuracy is in the table; a difference between kinds may
  come from what they have learnt, not only from how their layers hand on their states.
- States are averages over the picture. What a lens could read from single positions is not measured.
- Where widths differ, penalties depend on the alignment; both are shown, neither is the truth.
- Three networks of a kind: intervals for new networks are valid, but wide. All networks were trained on the same
  20,000 images, so other training images are not in them.
- Lenses without a certificate (*converged* below 100 %) are not at their minimum, and their penalties not to be
  compared with those of others: most of all those of Inception.

Versions: {versions}.
"""

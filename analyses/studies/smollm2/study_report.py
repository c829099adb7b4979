"""The pages about a real language model: the standard report, and the answers to the discussion.

Every number comes from the stored losses; none is typed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from study_beside import longer_lines, published_lines
from study_words import WORDS, has_null, layer_sets, own_lenses, spelled

import transferstats as ts
from transferstats.claims import NO_CHECK
from transferstats.grid import TransferGrid
from transferstats.lens_sets import split_name
from transferstats.results import Claim, Evidence
from transferstats.stats.calibration import has_null_of_null
from transferstats.stats.ladder import gap_closed
from transferstats.stats.null import null_test, shared_lens_test
from transferstats.stats.reliability import correlate_similarity

SENTENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ('transfer penalties are "small but meaningfully non-zero"', ("C2", "C3", "C4")),
    ('they "tend to increase the further away the layers are"', ("C5", "C8")),
    ("one lens would serve every layer, because each layer updates one representation of the prediction", ("C7",)),
)
"""The discussion's sentences, and the claims that decide each."""
SOURCE = "Belrose et al. 2023, doi 10.48550/arXiv.2303.08112, on Pythia-12B"
PUBLISHED_SPEARMAN = f"-0.78 is published for the tuned lens ({SOURCE})"
PUBLISHED_DIRECTION = (
    "published: penalties are higher from late layers to early ones than the reverse, so forward minus backward "
    f"is negative there; no size is given ({SOURCE})"
)


def write_report(
    grid: TransferGrid,
    published: TransferGrid | None,
    longer: TransferGrid | None,
    *,
    smallest: float,
    out: Path,
) -> str:
    """Write report and answers, which set beside the study what was trained otherwise; returns the answers."""
    evidence = ts.evaluate(grid, smallest)
    ts.report(evidence, out)
    text = answers(grid, evidence, published, longer, smallest)
    (out / "answers.md").write_text(text, encoding="utf-8")
    return text


def answers(
    grid: TransferGrid,
    evidence: Evidence,
    published: TransferGrid | None,
    longer: TransferGrid | None,
    smallest: float,
) -> str:
    """The page."""
    sections = [
        ("The discussion's sentences, and their verdicts", sentences(evidence)),
        ("How small are the penalties?", sizes(grid, smallest)),
        ("How much does one right lens explain?", explained(grid)),
        (
            "Do they grow with distance, and in which direction?",
            [
                *claims(evidence, ("C5", "C6", "C8")),
                *unchecked(grid),
                *beyond(grid, "slope"),
                *beyond(grid, "asymmetry"),
                PUBLISHED_DIRECTION,
            ],
        ),
        ("Does one lens serve every layer?", shared(grid, smallest)),
        ("What the layer similarity predicts", similar(grid)),
        ("The published recipe", published_lines(grid, published)),
        ("What longer training does", longer_lines(grid, longer)),
        ("Between domains", between(grid)),
        ("What the embedding layer does", embeddings(grid)),
        ("What this cannot show", limits(grid, evidence)),
    ]
    body = "\n\n".join(f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) for title, lines in sections)
    return f"""# Lens transfer on {grid.subject}

Written by `analyses/studies/smollm2/study.py`; every number comes from the stored losses. The whole
report is [index.html](index.html) and [report.pdf](report.pdf). Losses are kl in {grid.unit}; layers
{", ".join(grid.layers)}; intervals are 95 % for new seeds and new documents; the smallest penalty of interest is
{smallest:g} nats.

{body}
"""


def sentences(evidence: Evidence) -> list[str]:
    """Each sentence with the verdicts of its claims in every domain and on their average."""
    lines = []
    for sentence, keys in SENTENCES:
        parts = []
        for key in keys:
            found = [claim for claim in evidence.claims if claim.key == key]
            verdicts = ", ".join(f"{claim.dataset} **{claim.verdict}**" for claim in found)
            parts.append(f"{key} {found[0].title.lower()}: {verdicts}")
        lines.append(f"{sentence}: " + "; ".join(parts))
    return lines


def claims(evidence: Evidence, keys: Sequence[str]) -> Iterator[str]:
    """Claims of every domain in words."""
    for claim in evidence.claims:
        if claim.key in keys:
            yield f"{claim.key} {claim.dataset}: {claim.title} **{claim.verdict}**{_value(claim)} ({claim.reason})"


def _value(claim: Claim) -> str:
    return "" if claim.estimate is None else f", {spelled(claim.estimate)}"


def sizes(grid: TransferGrid, smallest: float) -> list[str]:
    """Mean penalties with and without the embeddings, against the smallest penalty of interest."""
    lines = []
    for title, part in layer_sets(grid):
        raw = ts.estimate(part, "mean")
        verdicts = ts.relevance_test(raw, smallest=smallest).verdicts
        lines += [
            f"{title}, {one.dataset}: mean penalty {spelled(one)}: **{verdict.verdict}**"
            for one, verdict in zip(raw, verdicts, strict=True)
        ]
    return lines


def explained(grid: TransferGrid) -> list[str]:
    """What the shared-lens null leaves."""
    if not has_null(grid):
        return ["not tested: no null replicates were run"]
    lines = unchecked(grid)
    for title, part in layer_sets(grid):
        test = null_test(part, "mean")
        lines += [
            f"{title}, {one.dataset}: {spelled(one)} nats beyond the null, which explains {spelled(share)} of the "
            "mean penalty"
            for one, share in zip(test.excess, test.share, strict=True)
        ]
    return lines


def unchecked(grid: TransferGrid) -> list[str]:
    """What to say of everything over the null where nothing tells whether the null is right on this model."""
    if not has_null(grid) or has_null_of_null(grid):
        return []
    return [
        f"**no verdict**: {NO_CHECK}. Version {grid.provenance['study']['algorithm']} of the lens room trained "
        "these lenses; its null was found too small on known truth where lenses have few rows. Numbers over the "
        "null stand here for what they are, estimates without a verdict"
    ]


def beyond(grid: TransferGrid, statistic: str) -> Iterator[str]:
    """A statistic with and without the embeddings, and what of it the shared-lens null leaves."""
    for title, part in layer_sets(grid):
        found = ts.estimate(part, statistic)
        excess = null_test(part, statistic).excess if has_null(part) else [None] * len(found)
        for one, left in zip(found, excess, strict=True):
            rest = "" if left is None else f", of which {spelled(left)} beyond the null"
            yield f"{title}, {one.dataset}: {WORDS[statistic]} {spelled(one)}{rest}"


def shared(grid: TransferGrid, smallest: float) -> list[str]:
    """Shared-lens excess by layer, and how much of the gap from logit lens to own lens a shared lens closes."""
    lines = unchecked(grid)
    for data in grid.datasets:
        one = grid.with_datasets([data.name])
        test = shared_lens_test(one, smallest)
        excess, closed = test.test.estimates[-1], gap_closed(one, "shared").headline
        lines.append(f"{data.name}: **{'not tested' if unchecked(grid) else test.verdict}**")
        lines += [
            f"{data.name}, layer {layer}: {spelled(excess.pick(index))} nats; the shared lens closes "
            f"{spelled(closed.pick(index), 2)} of the gap from logit lens to own lens"
            for index, layer in enumerate(grid.layers)
        ]
    return lines


def similar(grid: TransferGrid) -> list[str]:
    """Spearman of penalty and covariance similarity."""
    found = correlate_similarity(grid, "covariance", method=ts.Bootstrap(replicates=2000, rng=20230314))
    lines = [f"{one.dataset}: Spearman {spelled(one, 2)} of penalty and covariance similarity" for one in found]
    return [*lines, PUBLISHED_SPEARMAN]


def between(grid: TransferGrid) -> list[str]:
    """Differences between domains, whose documents and lenses have nothing in common."""
    lines = []
    for one, other in combinations([data.name for data in grid.datasets], 2):
        for statistic in ("mean", "asymmetry"):
            pair = (grid.with_datasets([one]), grid.with_datasets([other]))
            found = ts.compare(*pair, statistic=statistic).difference.headline
            lines.append(f"{WORDS[statistic]}, {one} less {other}: {spelled(found)}")
    return lines or ["one domain only"]


def embeddings(grid: TransferGrid) -> list[str]:
    """Penalties of the embedding layer's lens elsewhere, of other lenses on it, and of all other pairs."""
    lines = []
    for data in grid.datasets:
        (_, part), (_, rest) = layer_sets(grid.with_datasets([data.name]))
        away, onto = (ts.estimate(part, name).headline.pick(0) for name in ("source", "target"))
        lines.append(
            f"{data.name}: its lens on other layers costs {spelled(away)}, their lenses on it {spelled(onto)}, "
            f"all other pairs {spelled(ts.estimate(rest, 'mean').headline)}"
        )
    return lines


def certified(converged: pd.Series, fit: dict[str, Any]) -> str:
    """How many lenses have converged, and by which rule."""
    rule = (
        f"{int(converged.sum())} of {len(converged)} lenses hold a certificate: their held-out kl moved by less "
        f"than {fit['tolerance']:g} nats or {100 * fit['relative_tolerance']:g} % over the last doubling of steps"
    )
    return rule + ("." if converged.all() else "; penalties of the others may be those of unfinished lenses.")


def finished(grid: TransferGrid) -> Iterator[str]:
    """Certificates of the own lenses of each domain in the observed world, on which every penalty rests."""
    for name, lenses in own_lenses(grid).groupby("dataset"):
        moved = (lenses["change"] / lenses["held_out_kl"]).median()
        doubled = (
            "the steps never doubled"
            if pd.isna(moved)
            else f"the last doubling lowered their held-out kl by {100 * moved:.1f} % (median)"
        )
        yield f"{name}: {int(lenses['converged'].sum())} of {len(lenses)} own lenses hold one; {doubled}."


def overfit(own: pd.DataFrame) -> Iterator[str]:
    """Kl of own lenses on their training tokens and on held-out ones, and what follows."""
    means = own.groupby("world")[["train_kl", "held_out_kl"]].mean()
    for world, row in means.iterrows():
        yield (
            f"Own lenses of the {world} world, mean over domains, seeds and layers: kl {row['train_kl']:.2f} on "
            f"their training tokens, {row['held_out_kl']:.2f} on held-out ones."
        )
    if (means["held_out_kl"] > means["train_kl"]).all():
        yield (
            "A lens is kept where its held-out kl is lowest, not at the minimum of its training kl. Folds with "
            "more tokens were not tried."
        )


def limits(grid: TransferGrid, evidence: Evidence) -> list[str]:
    """What was left out, from the study itself."""
    study: dict[str, Any] = grid.provenance["study"]
    readouts = grid.certificates["readout"]
    # Lenses of other anchors or of fewer rows answer other questions.
    judged = grid.certificates[(readouts != "tied") & readouts.map(lambda name: not split_name(name)[1])]
    documents = ", ".join(f"{data.name} {len(data.units)}" for data in grid.datasets)
    tokens = study["encoding"]["max_tokens"]
    seeds = min(len(data.seeds) for data in grid.datasets)
    lines = [
        *grid.provenance.get("caveats", ()),
        f"{seeds} seeds, each on its own fold of documents, of which {tokens} tokens at most were read; documents "
        f"scored: {documents}.",
        certified(judged["converged"], study["fit"]),
        *finished(grid),
        *overfit(judged[judged["readout"] == "own"]),
        f"Gradients were taken in {study['fit']['precision']}; everything that is measured is float32.",
        "One model; other models, other domains and longer contexts are not in these intervals.",
    ]
    return lines + sorted({caveat for claim in evidence.claims for caveat in claim.caveats})

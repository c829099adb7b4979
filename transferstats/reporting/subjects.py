"""The report of several subjects compared: its figures, tables, words and numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from transferstats.reporting import captions, formats, wording
from transferstats.reporting.citations import keys
from transferstats.reporting.content import (
    Chapter,
    Content,
    common_facts,
    content,
    from_to,
    settings,
    size_entry,
)
from transferstats.reporting.figures import figure
from transferstats.reporting.figures_claims import draw_forest, rows_shown
from transferstats.reporting.figures_matrix import draw_matrix
from transferstats.reporting.figures_subjects import draw_lines, draw_statistics
from transferstats.reporting.macros import Numbers, claim_numbers, estimate_numbers, numbers
from transferstats.reporting.pictures import Picture, slug
from transferstats.reporting.sentences import claim_sentence, ended, headline_of, sentence, shared_caveats
from transferstats.reporting.tables import Table, claims_table, ordered_claims, table, tidy_table
from transferstats.results import SubjectComparison, SubjectSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["content", "figure", "numbers", "sentence", "table"]

CHAPTERS: tuple[Chapter, ...] = (
    Chapter(
        anchor="statistics",
        heading="Every subject by itself",
        introduction="The statistics whose differences the verdicts are about.",
    ),
    Chapter(
        anchor="matrix",
        heading="Penalty matrices",
        introduction="Mean penalty of every subject, on one scale of colours.",
    ),
    Chapter(
        anchor="distance",
        heading="Penalty against relative distance",
        introduction="Whether penalties grow alike over the depth.",
    ),
    Chapter(
        anchor="depth",
        heading="Loss by relative depth",
        introduction="How well each layer's own lens predicts the output.",
    ),
)


@figure.register(SubjectComparison)
def _figure(x: SubjectComparison) -> Figure:
    return draw_forest(ordered_claims(x.claims))


@table.register
def _table(x: SubjectComparison) -> Table:
    return replace(
        claims_table(x.claims, x.tidy(), "Difference"),
        title="Verdicts on the differences",
        note="Estimates are first minus second. Intervals are for new seeds and new units of both, each "
        "difference on its own. p belongs to the test behind the verdict; adjusted p is Holm-adjusted over the "
        "differences of one dataset. A verdict of inconclusive leaves the question open.",
    )


@sentence.register
def _sentence(x: SubjectComparison) -> str:
    return " ".join([lead(x), *sentences(x)])


@numbers.register
def _numbers(x: SubjectComparison) -> Numbers:
    return Numbers.collected(
        pair
        for pairs in (
            *(claim_numbers(claim, "") for claim in headline_of(x.claims)),
            *(
                estimate_numbers(estimates.headline, one.subject, name)
                for one in x.subjects
                for name, estimates in one.statistics.items()
            ),
        )
        for pair in pairs
    )


@keys.register
def _keys(x: SubjectComparison) -> Iterable[str]:
    for claim in x.claims:
        yield from keys(claim)


def names(x: SubjectComparison) -> str:
    """The subjects in words."""
    return formats.joined([formats.legible(one.subject) for one in x.subjects])


def lead(x: SubjectComparison) -> str:
    """What was compared, on what."""
    datasets = [formats.legible(size[0]) for size in x.subjects[0].sizes]
    return (
        f"The transfer of lenses was compared between {formats.plural(len(x.subjects), 'subject')}, {names(x)}, "
        f"on {formats.plural(len(datasets), 'dataset')}: {formats.joined(datasets)}; penalties are differences of "
        f"{wording.loss_phrase(x.loss, x.unit)}; the smallest "
        f"difference of interest is {wording.in_unit(formats.trimmed(x.smallest), x.unit)}."
    )


def sentences(x: SubjectComparison) -> list[str]:
    """One sentence a headline difference; what weakens all of them is said once, at the end."""
    claims = headline_of(x.claims)
    common = shared_caveats(claims)
    told = [claim_sentence(claim, frozenset(common)) for claim in claims]
    return [*told, f"For all of these: {ended('; '.join(common))}"] if common else told


@content.register
def _content(x: SubjectComparison) -> Content:
    seeds = from_to(size[1] for one in x.subjects for size in one.sizes)
    facts = (
        ("subjects", str(len(x.subjects))),
        ("layers", from_to(len(one.layers) for one in x.subjects)),
        ("seeds", seeds),
        *common_facts(x.loss, x.unit, x.smallest, x.conf_level),
    )
    return Content(
        kicker="Comparison of lens transfer",
        subject=names(x),
        title=f"Lens transfer compared: {names(x)}",
        lead=lead(x),
        facts=facts,
        verdicts=frozenset(claim.verdict for claim in x.claims),
        sentences=tuple(sentences(x)),
        chapters=CHAPTERS,
        pictures=tuple(_pictures(x)),
        tables=tuple(_tables(x)),
        design=tuple(_design(x)),
        limits=tuple(_limits(x)),
        numbers=numbers(x),
        cited=frozenset(keys(x)),
        provenance=x.provenance,
        summary={
            **settings(x.loss, x.unit, x.smallest, x.conf_level),
            "subjects": [
                {"subject": formats.legible(one.subject), "datasets": [size_entry(size[:4]) for size in one.sizes]}
                for one in x.subjects
            ],
        },
    )


def _pictures(x: SubjectComparison) -> Iterator[Picture]:
    interval = f"{formats.level(x.conf_level)} interval"
    unit = formats.legible(x.unit, 40)
    yield Picture(
        name="claims",
        section="verdicts",
        group="",
        title="Forest of differences",
        caption=("" if len(rows_shown(x.claims)) == len(x.claims) else "Averages over datasets only. ")
        + f"First minus second with its {interval}, one panel a unit; rows are numbered as in the table. The "
        "shaded bar of a row is the region that was declared too small to matter; rows without one are judged "
        "against 0. Intervals are for new seeds and new units of both subjects, each difference on its own.",
        alt=captions.rows_alt(x.claims),
        draw=lambda: draw_forest(ordered_claims(x.claims)),
        data=x.tidy(),
    )
    yield Picture(
        name="statistics",
        section="statistics",
        group="",
        title="Statistics of every subject",
        caption=f"Estimate and {interval} of every subject, averaged over datasets. Whether two of them differ "
        "is not to be read off overlapping intervals: units that both share cancel in the difference above.",
        alt=_statistics_alt(x),
        draw=lambda: draw_statistics(x),
        data=x.statistics(),
    )
    yield from _matrices(x)
    for name, title, label in (
        ("distance", "Penalty against relative distance", f"mean penalty, {unit}"),
        ("depth", "Own-lens loss by relative depth", f"{x.loss}, {unit}"),
    ):
        yield Picture(
            name=name,
            section=name,
            group="",
            title=title,
            caption=f"One line a subject, averaged over datasets, with {interval}s for new seeds and new units, "
            "pointwise. The "
            "horizontal axis is a share of the network's depth, so that networks of different depth lie side by "
            "side.",
            alt=_lines_alt(x, name),
            draw=partial(draw_lines, x, name, label=label),
            data=_lines_frame(x, name),
        )


def _matrices(x: SubjectComparison) -> Iterator[Picture]:
    largest = max(float(np.abs(one.matrix).max()) for one in x.subjects)
    for position, one in enumerate(x.subjects):
        off = ~np.eye(len(one.layers), dtype=bool)
        source, target = np.nonzero(off)
        yield Picture(
            name=f"matrix-{slug(position, one.subject)}",
            section="matrix",
            group=formats.legible(one.subject),
            title=f"Mean transfer penalty, {formats.legible(one.subject)}",
            caption="Mean penalty averaged over datasets, without intervals: rows are sources, columns are "
            "targets. Colours have the same scale for every subject; the report of one subject marks the cells "
            "whose interval includes 0.",
            alt=captions.matrix_alt(one.matrix, ~off, one.layers, captions.MATRICES["penalty"], None),
            draw=partial(
                draw_matrix,
                one.matrix,
                np.zeros(off.shape, dtype=bool),
                one.layers,
                label=f"mean transfer penalty, {formats.legible(x.unit, 40)}",
                largest=largest,
            ),
            data=pd.DataFrame(
                {
                    "subject": one.subject,
                    "source": source,
                    "target": target,
                    "source_layer": [one.layers[i] for i in source],
                    "target_layer": [one.layers[i] for i in target],
                    "estimate": one.matrix[off],
                    "unit": x.unit,
                }
            ),
        )


def _lines_frame(x: SubjectComparison, name: str) -> pd.DataFrame:
    frames = []
    for one in x.subjects:
        estimate = one.distances if name == "distance" else one.depth
        depths = wording.relative_depths(one, name)
        frames.append(estimate.tidy().assign(subject=one.subject, relative_depth=depths))
    return pd.concat(frames, ignore_index=True)


def _statistics_alt(x: SubjectComparison) -> str:
    parts = []
    for one in x.subjects:
        mean = one.statistics["mean"].headline
        limits = formats.interval(float(mean.conf_low), float(mean.conf_high))
        parts.append(
            f"{formats.legible(one.subject, 60)}: mean penalty {formats.number(float(mean.estimate))} {limits}"
        )
    return formats.legible("; ".join(parts) + ".", 1200)


def _lines_alt(x: SubjectComparison, name: str) -> str:
    parts = []
    for one in x.subjects:
        values = np.atleast_1d((one.distances if name == "distance" else one.depth).estimate)
        first, last = (formats.number(float(values[index])) for index in (0, -1))
        parts.append(f"{formats.legible(one.subject, 60)}: from {first} to {last}")
    return formats.legible("; ".join(parts) + ".", 1200)


def _tables(x: SubjectComparison) -> Iterator[tuple[str, Table]]:
    yield "verdicts", table(x)
    yield (
        "statistics",
        tidy_table(x.statistics(), name="statistics", title="Statistics of every subject", extra=("subject",)),
    )
    for position, one in enumerate(x.subjects):
        tail, name = slug(position, one.subject), formats.legible(one.subject)
        title = f"Mean penalty by layer distance, {name}"
        yield "distance", tidy_table(one.distances.tidy(), name=f"distances-{tail}", title=title)
        yield "depth", tidy_table(one.depth.tidy(), name=f"depth-{tail}", title=f"Own-lens loss by layer, {name}")


def _sizes(x: SubjectComparison, one: SubjectSummary) -> str:
    parts = []
    for name, seeds, units, clusters, _ in one.sizes:
        within = f" in {formats.plural(clusters, 'cluster')}" if clusters < units else ""
        parts.append(f"{formats.legible(name)}: {wording.sample_size(seeds, units, x.unit)}{within}")
    return "; ".join(parts)


def _design(x: SubjectComparison) -> Iterator[tuple[str, str]]:
    for one in x.subjects:
        yield formats.legible(one.subject), f"layers {wording.layer_list(one.layers)}; {_sizes(x, one)}"
    yield "Loss", wording.loss_phrase(x.loss, x.unit)
    yield (
        "Penalty",
        "loss of the lens trained on layer s and used on layer t, minus the loss of layer t's own lens; the "
        "diagonal is left out of every statistic",
    )
    yield (
        "Sampled",
        "seeds of each subject, independent of those of the others, and units; units with the same name in the "
        "same dataset are paired, so that what a unit does to both subjects cancels",
    )
    yield (
        "Estimand",
        "the difference that the same procedures would give with new seeds and new units of the same datasets, "
        "for these networks and layers",
    )
    yield "Distance", "relative depth, |s - t| / (L - 1), so that slopes of networks of different depth compare"
    methods = dict.fromkeys(claim.estimate.method for claim in x.claims if claim.estimate is not None)
    yield "Interval", f"{formats.joined([formats.legible(one) for one in methods])}, {formats.level(x.conf_level)}"
    yield "Smallest difference of interest", wording.in_unit(formats.trimmed(x.smallest), x.unit)
    yield "Multiplicity", "Holm over the differences of one dataset, and over those of the average"


def _limits(x: SubjectComparison) -> Iterator[str]:
    yield "Other networks: each subject is one network, so nothing here is about a kind of network in general."
    yield (
        "Why two subjects differ. They differ in everything in which the networks differ, and a comparison of two "
        "networks cannot say which part of it matters."
    )
    yield (
        "Lenses of equal quality: a penalty is relative to each subject's own lenses. A subject whose lenses "
        "predict little can lose little."
    )
    open_ = sum(claim.verdict == "inconclusive" for claim in x.claims)
    if open_:
        yield (
            f"An answer to the {formats.plural(open_, 'row')} marked inconclusive: their intervals reach values "
            "that would matter and values that would not, which is not evidence that the subjects are alike."
        )
    for subject, provenance in x.provenance.items():
        for text in provenance.get("caveats", ()):
            yield f"{formats.legible(subject)}: {ended(formats.legible(text))}"

"""What a report says, whatever it is about: the part between results and the documents made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from transferstats.path_losses import PATH
from transferstats.reporting import formats, wording
from transferstats.reporting.citations import keys
from transferstats.reporting.inventory import design, limits, study_tables
from transferstats.reporting.macros import Numbers, numbers
from transferstats.reporting.pictures import Picture, pictures
from transferstats.reporting.sentences import claim_sentences, design_sentence
from transferstats.reporting.tables import Table
from transferstats.results import JUDGED, Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A section that holds figures and tables: its anchor, heading, introduction, and words where it is empty."""

    anchor: str
    heading: str
    introduction: str
    absent: str = "This study has nothing to show here."


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Everything that a report says.

    Attributes
    ----------
    kicker: kind of report. subject: what it is about (foreign text). title: of the document.
    lead: first sentence. facts: (name, value) that a reader looks for first. verdicts: the words used as verdicts.
    sentences: one a headline claim. chapters: sections in order. pictures, tables: (section of) everything shown.
    design: (term, description). limits: what the data cannot show. numbers: by macro name.
    cited: keys of the bibliography. provenance: of the losses. summary: head of the manifest.
    """

    kicker: str
    subject: str
    title: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    verdicts: frozenset[str]
    sentences: tuple[str, ...]
    chapters: tuple[Chapter, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[tuple[str, Table], ...]
    design: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]
    numbers: Numbers
    cited: frozenset[str]
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]


@singledispatch
def content(x: object) -> Content:
    """What the report of a result says; TypeError for results without a report."""
    raise TypeError(
        f"no report for {type(x).__name__}; pass the Evidence that evaluate(grid, smallest) returns, or what "
        "compare_subjects returns"
    )


CHAPTERS: tuple[Chapter, ...] = (
    Chapter(
        anchor="matrix",
        heading="Penalty matrices",
        introduction="How much worse a lens reads a layer on which it was not trained than the layer's own lens "
        "does.",
    ),
    Chapter(
        anchor="distance",
        heading="Penalty against distance",
        introduction="Whether penalties rise with the distance between layers, and in what shape.",
    ),
    Chapter(
        anchor="depth",
        heading="Loss by depth",
        introduction="How well each layer's own lens predicts the output, beside simpler readouts.",
    ),
    Chapter(
        anchor="shared",
        heading="One lens for every layer",
        introduction="How much one lens that serves all layers loses against the layers' own lenses.",
        absent="This study has no shared lens and no shared-lens null, so this question is not answered here.",
    ),
    Chapter(
        anchor="data",
        heading="How much data the lenses had",
        introduction="Whether penalties depend on the amount of training text, and whether the null finds nothing "
        "where there is nothing.",
        absent="No lenses of parts of the training data, and no null of a null replicate, came with these losses.",
    ),
    Chapter(
        anchor="shares",
        heading="Where the uncertainty comes from",
        introduction="What would narrow the intervals: more seeds, or more data.",
    ),
    Chapter(
        anchor=PATH,
        heading="Along the training",
        introduction="How the mean penalty changes while lenses are trained, from several starts.",
    ),
    Chapter(
        anchor="certificates",
        heading="Certificates",
        introduction="Whether the lenses had finished training when they were compared.",
        absent="These losses came without certificates. Nothing here says that the lenses had finished training.",
    ),
    Chapter(
        anchor="appendix",
        heading="Appendix: what other methods say",
        introduction="Checks that reviewers ask for, by other people's methods. No verdict rests on them.",
        absent="Two layers, or penalties that are the same everywhere, leave nothing to check.",
    ),
)


@content.register
def _evidence(x: Evidence) -> Content:
    return Content(
        kicker="Lens-transfer report",
        subject=formats.legible(x.subject),
        title=f"Lens transfer in {formats.legible(x.subject)}",
        lead=design_sentence(x),
        facts=_facts(x),
        verdicts=frozenset(claim.verdict for claim in x.claims),
        sentences=tuple(claim_sentences(x)),
        chapters=_chapters(x),
        pictures=tuple(pictures(x)),
        tables=tuple(study_tables(x)),
        design=tuple(design(x)),
        limits=tuple(limits(x)),
        numbers=numbers(x),
        cited=frozenset(keys(x)),
        provenance=x.provenance,
        summary={
            "subject": formats.legible(x.subject),
            **settings(x.loss, x.unit, x.smallest, x.conf_level),
            "datasets": [size_entry((d.dataset, d.n_seeds, d.n_units, d.n_clusters)) for d in x.datasets],
        },
    )


def _chapters(x: Evidence) -> tuple[Chapter, ...]:
    """All chapters; that of paths only where the study was asked for one."""
    followed = any(PATH in data.extras for data in x.datasets)
    return tuple(one for one in CHAPTERS if followed or one.anchor != PATH)


def settings(loss: str, unit: str, smallest: float, conf_level: float) -> dict[str, Any]:
    """What every manifest says about an analysis."""
    return {"loss": loss, "unit": unit, "smallest": smallest, "conf_level": conf_level}


def size_entry(size: tuple[str, int, int, int]) -> dict[str, Any]:
    """A dataset of a manifest from (name, seeds, units, clusters)."""
    name, seeds, units, clusters = size
    return {"name": formats.legible(name), "n_seeds": seeds, "n_units": units, "n_clusters": clusters}


def _facts(x: Evidence) -> tuple[tuple[str, str], ...]:
    units = [formats.count(data.n_units) for data in x.datasets]
    return (
        ("layers", str(len(x.layers))),
        ("seeds", from_to(data.n_seeds for data in x.datasets)),
        (f"{wording.units_noun(x.unit)}s", " + ".join(units)),
        *_adequacy(x),
        *common_facts(x.loss, x.unit, x.smallest, x.conf_level),
    )


def _adequacy(x: Evidence) -> Iterator[tuple[str, str]]:
    """How many of the lenses behind the claims have converged, and how many their data limit."""
    lenses = x.certificates
    if not len(lenses) or "readout" not in lenses:
        return
    lenses = lenses[lenses["readout"].isin(JUDGED)]
    for name, column in (("converged", "converged"), ("limited by data", "limited")):
        if column in lenses:
            yield name, f"{int(lenses[column].astype(bool).sum())} of {len(lenses)}"


def common_facts(loss: str, unit: str, smallest: float, conf_level: float) -> tuple[tuple[str, str], ...]:
    """Facts that every analysis has."""
    return (
        ("loss", f"{loss}, {formats.legible(unit)}"),
        ("smallest of interest", formats.trimmed(smallest)),
        ("confidence", formats.level(conf_level)),
    )


def from_to(values: Iterable[int]) -> str:
    """One number, or the smallest and the largest: "5", "3\u20135"."""
    ordered = sorted(values)
    return formats.EN_DASH.join(str(one) for one in dict.fromkeys((ordered[0], ordered[-1])))

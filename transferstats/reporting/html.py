"""The page of a report: one HTML file with everything in it, which reaches for nothing outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from transferstats.reporting import formats, wording
from transferstats.reporting.canvas import inline
from transferstats.reporting.citations import BIBLIOGRAPHY, keys
from transferstats.reporting.inventory import design, limits
from transferstats.reporting.renderers import html_table
from transferstats.reporting.sentences import claim_sentences, design_sentence

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from transferstats.reporting.documents import Study
    from transferstats.reporting.tables import Table

SECTIONS: tuple[tuple[str, str, str], ...] = (
    (
        "matrix",
        "Penalty matrices",
        "How much worse a lens reads a layer on which it was not trained than the layer's own lens does.",
    ),
    (
        "distance",
        "Penalty against distance",
        "Whether penalties rise with the distance between layers, and in what shape.",
    ),
    ("depth", "Loss by depth", "How well each layer's own lens predicts the output, beside simpler readouts."),
    (
        "shared",
        "One lens for every layer",
        "How much one lens that serves all layers loses against the layers' own lenses.",
    ),
    ("shares", "Where the uncertainty comes from", "What would narrow the intervals: more seeds, or more data."),
    ("certificates", "Certificates", "Whether the lenses had finished training when they were compared."),
)
"""Anchor, heading and introduction of the sections that hold figures and tables."""

ABSENT = {
    "shared": "This study has no shared lens and no shared-lens null, so this question is not answered here.",
    "certificates": "These losses came without certificates. Nothing here says that the lenses had finished "
    "training.",
}
"""What a section says when the study has nothing for it."""


@dataclass(frozen=True, slots=True)
class Plate:
    """A figure on the page."""

    svg: Markup
    title: str
    caption: str
    name: str
    group: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table on the page."""

    html: Markup
    name: str
    title: str
    rows: str


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page."""

    anchor: str
    heading: str
    introduction: str
    rows: tuple[tuple[Plate, ...], ...]
    sheets: tuple[Sheet, ...]
    absent: str


def environment() -> Environment:
    """jinja2 with autoescape on and templates from the package; undefined names are errors."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("transferstats.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page(study: Study) -> str:
    """The whole page as HTML text."""
    from markupsafe import Markup

    x = study.evidence
    script = _asset("report.js")
    claims = next(shown for section, shown in study.tables if section == "verdicts")
    forest = next(plate for plate in _plates(study, "verdicts"))
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            subject=formats.legible(x.subject),
            design_sentence=design_sentence(x),
            facts=_facts(study),
            claims=Markup(html_table(claims, sortable=True, caption=False)),
            forest=forest,
            verdicts=_verdict_key(study),
            sentences=[unbroken(text) for text in claim_sentences(x)],
            sections=[_section(study, *one) for one in SECTIONS],
            design=design(x),
            limits=limits(x),
            references=_references(study),
            manifest=_provenance(study),
            style=Markup(_asset("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _asset(name: str) -> str:
    return (resources.files("transferstats.reporting") / "templates" / name).read_text("utf-8")


def _facts(study: Study) -> list[tuple[str, str]]:
    """The few numbers that a reader looks for first."""
    x = study.evidence
    seeds = sorted({data.n_seeds for data in x.datasets})
    units = [formats.count(data.n_units) for data in x.datasets]
    return [
        ("layers", str(len(x.layers))),
        ("seeds", "\u2013".join(str(one) for one in dict.fromkeys((seeds[0], seeds[-1])))),
        (f"{wording.units_noun(x.unit)}s", " + ".join(units)),
        ("loss", f"{x.loss}, {formats.legible(x.unit)}"),
        ("smallest of interest", formats.trimmed(x.smallest)),
        ("confidence", formats.level(x.conf_level)),
    ]


def _verdict_key(study: Study) -> list[tuple[str, str, str]]:
    used = {claim.verdict for claim in study.evidence.claims}
    return [
        (word, wording.VERDICT_MARKS[word], meaning)
        for word, meaning in wording.VERDICT_MEANINGS.items()
        if word in used
    ]


def _plates(study: Study, section: str) -> tuple[Plate, ...]:
    from markupsafe import Markup

    return tuple(
        Plate(
            Markup(inline(one.svg, f"fig-{one.picture.name}", one.picture.title, one.picture.alt)),
            one.picture.title,
            one.picture.caption,
            one.picture.name,
            one.picture.group,
        )
        for one in study.drawn
        if one.picture.section == section
    )


def _section(study: Study, anchor: str, heading: str, introduction: str) -> Section:
    sheets = tuple(_sheet(shown) for belongs, shown in study.tables if belongs == anchor)
    plates = _plates(study, anchor)
    absent = "" if plates or sheets else ABSENT.get(anchor, "This study has nothing to show here.")
    return Section(anchor, heading, introduction, _rows(plates), sheets, absent)


def _sheet(shown: Table) -> Sheet:
    from markupsafe import Markup

    return Sheet(
        Markup(html_table(shown, caption=False)), shown.name, shown.title, formats.plural(len(shown.rows), "row")
    )


def _rows(plates: tuple[Plate, ...]) -> tuple[tuple[Plate, ...], ...]:
    """One grid for all datasets where each has one figure, else one grid a dataset."""
    groups: dict[str, list[Plate]] = {}
    for plate in plates:
        groups.setdefault(plate.group, []).append(plate)
    if all(len(group) == 1 for group in groups.values()):
        return (plates,) if plates else ()
    return tuple(tuple(group) for group in groups.values())


def unbroken(text: str) -> str:
    """Intervals and statistics that no line end tears apart."""
    text = re.sub(r"\[([^\[\], ]+), ([^\[\], ]+)\]", "[\\1,\u00a0\\2]", text)
    return re.sub(r" ([=<>]) ", "\u00a0\\1\u00a0", text).replace("% CI", "%\u00a0CI")


def _references(study: Study) -> list[str]:
    used = set(keys(study.evidence))
    return [entry for key, entry in BIBLIOGRAPHY.items() if key in used]


def _provenance(study: Study) -> str:
    from transferstats.reporting.documents import jsonable

    return json.dumps(jsonable(study.evidence.provenance), indent=1, sort_keys=True, ensure_ascii=True)

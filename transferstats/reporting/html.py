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
from transferstats.reporting.citations import BIBLIOGRAPHY
from transferstats.reporting.content import Chapter
from transferstats.reporting.renderers import html_table
from transferstats.reporting.study import Study, jsonable
from transferstats.reporting.tables import Table

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
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

    told = study.content
    script = _asset("report.js")
    claims = next(shown for section, shown in study.tables if section == "verdicts")
    forest, *others = _plates(study, "verdicts")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            kicker=told.kicker,
            title=told.title,
            subject=told.subject,
            design_sentence=told.lead,
            facts=told.facts,
            claims=Markup(html_table(claims, sortable=True, caption=False)),
            forest=forest,
            others=others,
            verdicts=_verdict_key(told.verdicts),
            sentences=[unbroken(text) for text in told.sentences],
            sections=[_section(study, chapter) for chapter in told.chapters],
            design=told.design,
            limits=told.limits,
            references=[entry for key, entry in BIBLIOGRAPHY.items() if key in told.cited],
            manifest=_provenance(study),
            style=Markup(_asset("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _asset(name: str) -> str:
    return (resources.files("transferstats.reporting") / "templates" / name).read_text("utf-8")


def _verdict_key(used: frozenset[str]) -> list[tuple[str, str, str]]:
    return [
        (word, wording.VERDICT_MARKS[word], meaning)
        for word, meaning in wording.VERDICT_MEANINGS.items()
        if word in used
    ]


def _plates(study: Study, section: str) -> tuple[Plate, ...]:
    from markupsafe import Markup

    return tuple(
        Plate(
            svg=Markup(inline(one.svg, f"fig-{one.picture.name}", one.picture.title, one.picture.alt)),
            title=one.picture.title,
            caption=one.picture.caption,
            name=one.picture.name,
            group=one.picture.group,
        )
        for one in study.drawn
        if one.picture.section == section
    )


def _section(study: Study, chapter: Chapter) -> Section:
    sheets = tuple(_sheet(shown) for belongs, shown in study.tables if belongs == chapter.anchor)
    plates = _plates(study, chapter.anchor)
    absent = "" if plates or sheets else chapter.absent
    return Section(chapter.anchor, chapter.heading, chapter.introduction, _rows(plates), sheets, absent)


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


def _provenance(study: Study) -> str:
    return json.dumps(jsonable(study.content.provenance), indent=1, sort_keys=True, ensure_ascii=True)

"""The report as Markdown: verdicts, sentences, tables and links to figures, for repositories and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transferstats.reporting.html import ABSENT, SECTIONS
from transferstats.reporting.inventory import design, limits
from transferstats.reporting.renderers import escape_markdown
from transferstats.reporting.sentences import claim_sentences, design_sentence
from transferstats.reporting.tables import Table

if TYPE_CHECKING:
    from transferstats.reporting.documents import Study

MOST_ROWS = 40
"""Longer tables are linked rather than printed."""


def document(study: Study) -> str:
    """The whole report as Markdown text."""
    x = study.evidence
    lines = [f"# Lens transfer in {escape_markdown(x.subject)}", "", escape_markdown(design_sentence(x)), ""]
    lines += ["## Verdicts", "", *_tables(study, "verdicts"), *_figures(study, "verdicts")]
    lines += ["## In sentences", ""]
    lines += [f"- {escape_markdown(text)}" for text in claim_sentences(x)]
    for anchor, heading, introduction in SECTIONS:
        body = [*_figures(study, anchor), *_tables(study, anchor)]
        lines += ["", f"## {heading}", "", introduction, "", *(body or [ABSENT.get(anchor, "Nothing to show.")])]
    lines += ["", "## Design and estimand", ""]
    lines += [f"- **{escape_markdown(term)}**: {escape_markdown(text)}" for term, text in design(x)]
    lines += ["", "## What these data cannot show", ""]
    lines += [f"- {escape_markdown(text)}" for text in limits(x)]
    lines += ["", "Provenance and the sha256 of every file: [manifest.json](manifest.json). Methods: "]
    lines += ["[references.bib](references.bib).", ""]
    return "\n".join(lines)


def _figures(study: Study, section: str) -> list[str]:
    lines = []
    for one in study.drawn:
        picture = one.picture
        if picture.section == section:
            lines += [f"![{escape_markdown(picture.alt)}](figures/{picture.name}.svg)", ""]
            data = f"[Data](tables/figure-{picture.name}.csv)"
            lines += [f"*{escape_markdown(picture.title)}.* {escape_markdown(picture.caption)} {data}", ""]
    return lines


def _tables(study: Study, section: str) -> list[str]:
    lines = []
    for belongs, shown in study.tables:
        if belongs == section:
            lines += [_table(shown), f"[CSV](tables/{shown.name}.csv)", ""]
    return lines


def _table(shown: Table) -> str:
    if len(shown.rows) <= MOST_ROWS:
        return shown.markdown()
    return f"**{escape_markdown(shown.title)}** ({len(shown.rows)} rows, in the CSV)\n"
